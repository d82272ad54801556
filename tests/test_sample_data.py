"""The sample set: what a rendering promises, and what `make` leaves on disk."""

import json
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations, product

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import binary_dilation

from fastflow_utils.errors import FastFlowError
from fastflow_utils.sample_data import CATEGORIES, defects, folders, make, render

KINDS = [(category, defect) for category in CATEGORIES for defect in defects(category)]
SMALL = {"size": 64, "train": 2, "good": 1, "per_defect": 1}


def distance(one, other):
    """Mean absolute difference in grey levels."""
    return np.abs(one.astype(float) - other).mean()


def contents(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def one_line(error, *parts):
    message = str(error.value)
    assert "\n" not in message
    for part in parts:
        assert str(part) in message


# One image ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("category", CATEGORIES)
def test_a_seed_fixes_every_pixel(category):
    for defect in (None, *defects(category)):
        image, mask = render(category, defect, size=64, seed=7)
        again, mask_again = render(category, defect, size=64, seed=7)
        other, _ = render(category, defect, size=64, seed=8)
        assert image.shape == (64, 64, 3)
        assert image.dtype == np.uint8
        assert mask.shape == (64, 64)
        assert mask.dtype == np.bool_
        assert mask.any() == (defect is not None)
        np.testing.assert_array_equal(image, again)
        np.testing.assert_array_equal(mask, mask_again)
        assert distance(image, other) > 1


@pytest.mark.parametrize(("category", "defect"), KINDS)
@pytest.mark.parametrize("seed", range(4))
def test_the_mask_is_exactly_where_the_image_changed(category, defect, seed):
    clean, _ = render(category, size=128, seed=seed)
    damaged, mask = render(category, defect, size=128, seed=seed)
    change = np.abs(damaged.astype(int) - clean).max(axis=-1)
    assert 0.001 < mask.mean() < 0.15
    assert change[mask].mean() > 5, "the defect must be seen"
    assert change[~binary_dilation(mask, iterations=3)].max() <= 1, "and nothing else changes"


@pytest.mark.parametrize("category", CATEGORIES)
def test_the_scene_is_the_same_at_any_size(category):
    defect = defects(category)[0]
    image, mask = render(category, defect, size=128, seed=3)
    fine, fine_mask = render(category, defect, size=256, seed=3)
    other, _ = render(category, defect, size=128, seed=4)
    halved = fine.reshape(128, 2, 128, 2, 3).mean(axis=(1, 3))
    assert distance(image, halved) < 0.3 * distance(image, other)
    halved_mask = fine_mask.reshape(128, 2, 128, 2).any(axis=(1, 3))
    assert (mask & halved_mask).sum() > 0.8 * (mask | halved_mask).sum()


@pytest.mark.parametrize("category", CATEGORIES)
def test_defects_range_from_subtle_to_clear(category):
    for defect in defects(category):
        sums = []
        for seed in range(8):
            clean, _ = render(category, size=64, seed=seed)
            damaged, _ = render(category, defect, size=64, seed=seed)
            sums.append(distance(damaged, clean))
        assert max(sums) > 2 * min(sums)


@pytest.mark.parametrize("category", CATEGORIES)
def test_size_need_not_be_a_power_of_two(category):
    assert render(category, defects(category)[0], size=101)[0].shape == (101, 101, 3)


def test_a_pixelwise_gaussian_does_not_solve_it():
    """The mean over categories of the image AUROC of mean and variance per pixel."""
    aurocs = []
    for category in CATEGORIES:
        train = np.stack([render(category, size=64, seed=i)[0] for i in range(30)]).astype(float)
        mean, std = train.mean(axis=0), train.std(axis=0) + 2

        def score(image, mean=mean, std=std):
            deviation = np.abs((image - mean) / std).mean(axis=-1).ravel()
            return np.sort(deviation)[-len(deviation) // 100 :].mean()

        good = [score(render(category, size=64, seed=100 + i)[0]) for i in range(10)]
        bad = [
            score(render(category, defect, size=64, seed=200 + i)[0])
            for defect, i in product(defects(category), range(4))
        ]
        aurocs.append(np.mean([b > g for b, g in product(bad, good)]))
    assert np.mean(aurocs) < 0.85


@pytest.mark.parametrize(
    ("call", "parts"),
    [
        (lambda: defects("cushion"), ["cushion", *CATEGORIES]),
        (lambda: render("cushion"), ["cushion", *CATEGORIES]),
        (lambda: render("screw", "moths"), ["screw", "moths", *defects("screw")]),
        (lambda: render("screw", "good"), ["good", *defects("screw")]),
        (lambda: render("screw", size=63), ["63", "64"]),
        (lambda: render("screw", seed=-1), ["-1"]),
    ],
)
def test_rendering_says_what_is_wrong(call, parts):
    with pytest.raises(FastFlowError) as error:
        call()
    one_line(error, *parts)


# The set on disk ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return make(tmp_path_factory.mktemp("set") / "new" / "root", **SMALL)


def test_layout(small):
    for category in CATEGORIES:
        names = {
            str(path.relative_to(small / category)) for path in (small / category).rglob("*.*")
        }
        wanted = {"sample_set.json", "train/good/000.png", "train/good/001.png"}
        wanted |= {f"test/{defect}/000.png" for defect in ("good", *defects(category))}
        wanted |= {f"ground_truth/{defect}/000_mask.png" for defect in defects(category)}
        assert names == wanted
        assert (
            json.loads((small / category / "sample_set.json").read_text())["name"] == "sample set"
        )
    assert {path.name for path in small.iterdir() if not path.name.startswith(".")} == set(
        CATEGORIES
    )


def test_images_are_rgb_and_masks_are_black_and_white(small):
    for path in small.glob("*/t*/*/*.png"):
        with Image.open(path) as image:
            assert (image.mode, image.size) == ("RGB", (64, 64))
    masks = list(small.glob("*/ground_truth/*/*_mask.png"))
    assert len(masks) == len(KINDS)
    for path in masks:
        with Image.open(path) as image:
            assert (image.mode, image.size) == ("L", (64, 64))
            assert set(np.unique(np.asarray(image))) == {0, 255}


def test_the_same_call_gives_the_same_bytes_and_another_seed_does_not(small, tmp_path):
    again = make(tmp_path / "again", ["screw", "screw"], **SMALL)
    other = make(tmp_path / "other", ["screw"], **SMALL | {"seed": 1})
    assert contents(again / "screw") == contents(small / "screw")
    assert not set(contents(again / "screw").values()) & set(contents(other / "screw").values())


def test_more_images_leave_the_first_ones_as_they_were(small, tmp_path):
    counts = {"train": 3, "good": 2, "per_defect": 2}
    more = contents(make(tmp_path, ["bottle"], **SMALL | counts) / "bottle")
    for name, content in contents(small / "bottle").items():
        assert name == "sample_set.json" or more[name] == content


@pytest.mark.parametrize("category", CATEGORIES)
def test_no_two_images_are_near_duplicates(category, tmp_path):
    root = make(tmp_path, [category], **SMALL | {"train": 20, "good": 5, "per_defect": 0})
    images = [np.asarray(Image.open(path)) for path in sorted(root.glob("*/*/good/*.png"))]
    assert len(images) == 25
    assert min(distance(one, other) for one, other in combinations(images, 2)) > 2


def test_what_is_complete_is_kept(tmp_path, monkeypatch):
    make(tmp_path, ["screw"], **SMALL)
    monkeypatch.setattr(folders, "render", lambda *_, **__: pytest.fail("rendered again"))
    assert make(tmp_path, ["screw"], **SMALL) == tmp_path


def test_an_interrupted_category_is_absent_and_the_next_call_completes_it(
    small, tmp_path, monkeypatch
):
    calls = []

    def stop_at_the_ninth(*args, **kwargs):
        calls.append(args)
        if len(calls) == 9:
            raise KeyboardInterrupt
        return render(*args, **kwargs)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(folders, "render", stop_at_the_ninth)
        make(tmp_path, **SMALL)
    done, cut_short = CATEGORIES[0], CATEGORIES[1]
    assert contents(tmp_path / done) == contents(small / done)
    assert not (tmp_path / cut_short).exists()
    make(tmp_path, **SMALL)
    for category in CATEGORIES:
        assert contents(tmp_path / category) == contents(small / category)
    assert not list(tmp_path.glob("*.partial"))


def test_nothing_of_a_persons_is_overwritten(tmp_path):
    theirs = tmp_path / "screw" / "train" / "good" / "photo.png"
    theirs.parent.mkdir(parents=True)
    theirs.write_text("mine")
    with pytest.raises(FastFlowError) as error:
        make(tmp_path, **SMALL)
    one_line(error, tmp_path / "screw", "not a sample set")
    assert contents(tmp_path / "screw") == {"train/good/photo.png": b"mine"}
    assert not (tmp_path / "bottle").exists(), "it complains before the work starts"


def test_a_set_made_otherwise_is_refused_and_kept(tmp_path):
    make(tmp_path, ["screw"], **SMALL)
    before = contents(tmp_path / "screw")
    with pytest.raises(FastFlowError) as error:
        make(tmp_path, ["screw"], **SMALL | {"train": 3})
    one_line(error, '"train": 2', '"train": 3', tmp_path / "screw")
    assert contents(tmp_path / "screw") == before
    (tmp_path / "screw" / "sample_set.json").write_text("{")
    with pytest.raises(FastFlowError):
        make(tmp_path, ["screw"], **SMALL)


def test_calls_at_the_same_time_do_not_tread_on_each_other(small, tmp_path):
    with ThreadPoolExecutor(3) as pool:
        for call in [pool.submit(make, tmp_path, ["screw"], **SMALL) for _ in range(3)]:
            assert call.result() == tmp_path
    assert contents(tmp_path / "screw") == contents(small / "screw")


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ({"categories": ["screw", "cushion"]}, ["cushion", *CATEGORIES]),
        ({"size": 32}, ["size=32", "64"]),
        ({"train": -1}, ["train=-1"]),
        ({"seed": -1}, ["seed=-1"]),
    ],
)
def test_make_says_what_is_wrong_and_writes_nothing(arguments, parts, tmp_path):
    with pytest.raises(FastFlowError) as error:
        make(tmp_path / "root", **SMALL | arguments)
    one_line(error, *parts)
    assert not (tmp_path / "root").exists()


def test_a_root_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "root").touch()
    with pytest.raises(FastFlowError) as error:
        make(tmp_path / "root", **SMALL)
    one_line(error, tmp_path / "root")
