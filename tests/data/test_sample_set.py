"""The sample set: what a rendering promises, and what `make` leaves on disk."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import combinations, pairwise
from unittest.mock import Mock

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import binary_dilation
from scipy.signal import convolve2d

from fastflow_utils.data.images import load_image
from fastflow_utils.data.mvtec import OFFICIAL_COUNTS, MVTecAD
from fastflow_utils.data.sample_set import (
    CATEGORIES,
    damage,
    defects,
    gallery,
    make,
    materials,
    render,
    restage,
    writing,
)
from fastflow_utils.data.sample_set.categories import CATALOGUE
from fastflow_utils.data.sample_set.scene import Scene
from fastflow_utils.data.sample_set.surface import grid
from fastflow_utils.errors import FastFlowError

KINDS = [(category, defect) for category in CATEGORIES for defect in defects(category)]
FEW_SHOT = (
    "cable", "capsule", "carpet", "hazelnut", "leather", "tile", "toothbrush", "wood", "zipper"
)  # fmt: skip
SMALL = {"size": 64, "train": 2, "good": 1, "per_defect": 1}


drawn = cache(render)  # several tests look at the same images


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


def test_all_fifteen_categories_are_there():
    assert set(CATEGORIES) == set(OFFICIAL_COUNTS)
    assert all(len(defects(category)) >= 3 for category in CATEGORIES)


@pytest.mark.parametrize(("category", "defect"), KINDS)
def test_the_mask_is_exactly_where_the_image_changed(category, defect):
    for seed in range(3):
        clean, _ = drawn(category, size=128, seed=seed)
        damaged, mask = drawn(category, defect, size=128, seed=seed, severity=0.6)
        change = np.abs(damaged.astype(int) - clean).max(axis=-1)
        assert 0.0002 < mask.mean() < 0.3
        assert change[mask].mean() > 5, "the defect must be seen"
        assert (change[mask] > 0).mean() > 0.7, "and little else is marked"
        # Blur carries a change over a few pixels, where it may tip the camera to its next reading.
        step = CATALOGUE[category].camera.step
        assert change[~binary_dilation(mask, iterations=4)].max() <= step, "nothing else changes"


@pytest.mark.parametrize(("category", "defect"), KINDS)
def test_severity_goes_from_invisible_to_gross(category, defect):
    change = np.zeros(4)
    for seed in range(3):
        clean, _ = drawn(category, size=64, seed=seed)
        unseen, mask = drawn(category, defect, size=64, seed=seed, severity=0)
        np.testing.assert_array_equal(unseen, clean)
        assert mask.any(), "where it would be is known all the same"
        for place, severity in enumerate((0.02, 0.2, 0.6, 1.0)):
            damaged, _ = drawn(category, defect, size=64, seed=seed, severity=severity)
            change[place] += distance(damaged, clean)
    assert (np.diff(change) > 0).all()
    assert change[-1] > 8 * change[0]


@pytest.mark.parametrize("category", CATEGORIES)
def test_the_scene_is_the_same_at_any_size(category):
    image, _ = drawn(category, size=128, seed=3)
    fine, _ = drawn(category, size=256, seed=3)
    other, _ = drawn(category, size=128, seed=4)
    halved = fine.reshape(128, 2, 128, 2, 3).mean(axis=(1, 3))
    assert distance(image, halved) < 0.45 * distance(image, other)
    for defect in defects(category):
        _, mask = drawn(category, defect, size=128, seed=3, severity=0.5)
        _, fine_mask = drawn(category, defect, size=256, seed=3, severity=0.5)
        halved_mask = fine_mask.reshape(128, 2, 128, 2).any(axis=(1, 3))
        assert (mask & halved_mask).sum() > 0.6 * (mask | halved_mask).sum()


@pytest.mark.parametrize("category", CATEGORIES)
def test_no_size_draws_other_random_numbers(category):
    recipe, left = CATALOGUE[category], set()
    for size in (64, 65, 101, 256):
        scene = np.random.default_rng(5)
        recipe.surface(*grid(size), scene)
        left.add(scene.random())
    assert len(left) == 1


@pytest.mark.parametrize(("category", "defect"), KINDS)
def test_every_field_has_single_precision_at_any_size(category, defect):
    recipe = CATALOGUE[category]
    scene = Scene(recipe, 65, np.random.SeedSequence(1))
    damaged = recipe.defects[defect](scene, np.random.default_rng(1), 0.5)
    for surface in (scene.surface, damaged):
        light = recipe.camera.shade(surface)
        assert light.dtype == np.float32
        assert light.shape == (3, 65, 65)
        assert np.isfinite(light).all()


@pytest.mark.parametrize(("category", "defect"), KINDS)
def test_no_mask_is_empty(category, defect):
    assert all(drawn(category, defect, size=64, seed=seed)[1].any() for seed in range(6))


def test_a_pixelwise_gaussian_does_not_solve_it():
    """Mean and variance per pixel: the mean over the categories of the image AUROC."""
    areas = []
    for category in CATEGORIES:
        train = np.stack([drawn(category, size=64, seed=seed)[0] for seed in range(30)])
        mean, std = train.mean(axis=0), train.std(axis=0) + 1
        tests = [drawn(category, size=64, seed=seed)[0] for seed in range(100, 109)]
        for defect in defects(category):
            tests += [drawn(category, defect, size=64, seed=seed)[0] for seed in range(200, 203)]
        maps = np.square((np.stack(tests) - mean) / std).mean(axis=-1).reshape(len(tests), -1)
        scores = np.sort(maps)[:, -len(maps[0]) // 100 :].mean(axis=1)
        areas.append((scores[9:, None] > scores[:9]).mean())
    assert np.mean(areas) < 0.8


# Beside real images ------------------------------------------------------------------------------


def spectral_slope(grey):
    """Slope of log power against log frequency, from four cycles an image to the highest."""
    side = len(grey)
    window = np.hanning(side)
    spectrum = np.fft.fft2((grey - grey.mean()) * window * window[:, None])
    cycles = np.fft.fftfreq(side, 1 / side)
    radius = np.hypot(cycles, cycles[:, None])
    edges = np.geomspace(4, side // 2, 13)
    power = [
        (np.abs(spectrum[(radius >= low) & (radius < high)]) ** 2).mean()
        for low, high in pairwise(edges)
    ]
    return np.polyfit(np.log(edges[1:] * edges[:-1]) / 2, np.log(power), 1)[0]


def noise_level(grey):
    """Standard deviation of the finest detail: the usual median of a second difference."""
    second = convolve2d(grey, [[1, -2, 1], [-2, 4, -2], [1, -2, 1]], "valid")  # noise times 6
    return np.median(np.abs(second)) / 0.6745 / 6


def statistics_of(images):
    """Mean slope and mean noise of some RGB images."""
    greys = [image @ np.array([0.299, 0.587, 0.114]) for image in images]
    return [
        np.mean([measure(grey) for grey in greys]) for measure in (spectral_slope, noise_level)
    ]


@pytest.fixture(scope="module")
def real(shared):
    """The range of slope and noise over the real categories, for each kind."""
    found = {"texture": [], "object": []}
    for category in ("bottle", "metal_nut", "screw", *FEW_SHOT):
        place = "mvtec_few_shot" if category in FEW_SHOT else "mvtec"
        files = sorted((shared / "data" / place / category / "train" / "good").iterdir())[:10]
        images = [load_image(file, 256).permute(1, 2, 0).numpy() * 255 for file in files]
        found[CATALOGUE[category].kind].append(statistics_of(images))
    return {kind: (np.min(rows, axis=0), np.max(rows, axis=0)) for kind, rows in found.items()}


@pytest.mark.parametrize("category", CATEGORIES)
def test_spectrum_and_noise_are_those_of_real_images_of_its_kind(category, real):
    low, high = real[CATALOGUE[category].kind]
    ours = statistics_of([render(category, seed=seed)[0] for seed in range(10)])
    assert (low <= ours).all(), f"{ours} is below {low}"
    assert (ours <= high).all(), f"{ours} is above {high}"


@pytest.mark.parametrize(
    ("call", "parts"),
    [
        (lambda: defects("cushion"), ["cushion", *CATEGORIES]),
        (lambda: render("cushion"), ["cushion", *CATEGORIES]),
        (lambda: render("screw", "moths"), ["screw", "moths", *defects("screw")]),
        (lambda: render("screw", "good"), ["good", *defects("screw")]),
        (lambda: render("screw", size=63), ["63", "64"]),
        (lambda: render("screw", seed=-1), ["-1"]),
        (lambda: render("screw", "thread_side", severity=1.5), ["1.5", "[0, 1]"]),
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


def test_images_are_grey_or_rgb_and_masks_are_black_and_white(small):
    for path in small.glob("*/t*/*/*.png"):
        mode = "L" if path.parts[-4] in ("grid", "screw", "zipper") else "RGB"
        with Image.open(path) as image:
            assert (image.mode, image.size) == (mode, (64, 64))
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


def test_the_number_of_workers_changes_nothing(small, tmp_path):
    for workers in (1, 3):
        again = make(tmp_path / str(workers), ["pill"], **SMALL, workers=workers)
        assert contents(again / "pill") == contents(small / "pill")


def test_like_mvtec_has_its_numbers_of_images(tmp_path):
    root = make(tmp_path, ["toothbrush"], size=64, like_mvtec=True)
    train, test = (MVTecAD(root, "toothbrush", split, 64) for split in ("train", "test"))
    bad = [count for defect, count in test.counts().items() if defect != "good"]
    assert (len(train), test.counts()["good"], sum(bad)) == OFFICIAL_COUNTS["toothbrush"]
    assert max(bad) - min(bad) <= 1


def test_severity_is_that_of_every_image(tmp_path):
    root = make(tmp_path, ["carpet"], **SMALL, severity=0)
    good = make(tmp_path / "drawn", ["carpet"], **SMALL)
    for path in (root / "carpet" / "test").rglob("*.png"):
        same = path.read_bytes() == (good / path.relative_to(root)).read_bytes()
        assert same == (path.parent.name == "good")


def outdated(root):
    """A category as an older version would have left it, with one image missing."""
    folder = make(root, ["screw"], **SMALL) / "screw"
    label = json.loads((folder / "sample_set.json").read_text()) | {"version": 1}
    del label["severity"], label["like_mvtec"]  # version 1 had neither
    (folder / "sample_set.json").write_text(json.dumps(label))
    (folder / "train" / "good" / "000.png").unlink()
    return folder


def test_an_older_version_of_ours_is_made_anew(small, tmp_path):
    folder = outdated(tmp_path)
    make(tmp_path, ["screw"], **SMALL)
    assert contents(folder) == contents(small / "screw")
    assert {path.name for path in tmp_path.iterdir()} == {"screw", ".sample_set.lock"}


@pytest.mark.parametrize("change", ["a person's file", "another number"])
def test_an_older_version_is_kept_where_it_may_be_wanted(change, tmp_path):
    folder = outdated(tmp_path)
    if change == "a person's file":
        (folder / "notes.txt").write_text("mine")
    before = contents(folder)
    with pytest.raises(FastFlowError) as error:
        make(tmp_path, ["screw"], **SMALL | {"train": 2 + (change == "another number")})
    one_line(error, folder)
    assert contents(folder) == before


def test_an_interrupted_renewal_leaves_old_or_new(small, tmp_path, monkeypatch):
    def stop_at_the_old_one(path, **_):
        if path.suffix == ".old" and path.exists():
            raise KeyboardInterrupt

    folder = outdated(tmp_path)
    old = contents(folder)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(writing, "_save_image", Mock(side_effect=KeyboardInterrupt))
        make(tmp_path, ["screw"], **SMALL)
    assert contents(folder) == old
    shutil.rmtree(tmp_path / ".screw.partial")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(writing.shutil, "rmtree", stop_at_the_old_one)
        make(tmp_path, ["screw"], **SMALL)
    assert contents(folder) == contents(small / "screw")
    make(tmp_path, ["screw", "pill"], **SMALL)
    assert contents(folder) == contents(small / "screw")


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
    monkeypatch.setattr(writing, "render", lambda *_, **__: pytest.fail("rendered again"))
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
        patch.setattr(writing, "render", stop_at_the_ninth)
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
    one_line(error, "train=2", "train=3", tmp_path / "screw")
    assert contents(tmp_path / "screw") == before


def test_equal_requests_are_equal(tmp_path):
    make(tmp_path, ["screw"], **SMALL, severity=1)
    make(tmp_path, ["screw"], **SMALL | {"seed": np.int64(0)}, severity=np.float32(1))


@pytest.mark.parametrize("label", ["{", "[]", "3", '{"version": "1"}', "\xff", '{"version": 1}'])
def test_a_label_that_is_not_ours_protects_the_folder(label, tmp_path):
    (tmp_path / "screw").mkdir()
    (tmp_path / "screw" / "sample_set.json").write_text(label, encoding="latin-1")
    with pytest.raises(FastFlowError) as error:
        make(tmp_path, ["screw"], **SMALL)
    one_line(error, tmp_path / "screw", "not a sample set")


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
        ({"seed": -1}, ["seed -1", "4294967295"]),
        ({"seed": 99999999999999999999}, ["seed 99999999999999999999"]),
        ({"severity": float("nan")}, ["severity=nan"]),
        ({"severity": -0.1}, ["severity=-0.1"]),
        ({"workers": 0}, ["workers=0"]),
    ],
)
def test_make_says_what_is_wrong_and_writes_nothing(arguments, parts, tmp_path):
    with pytest.raises(FastFlowError) as error:
        make(tmp_path / "root", **SMALL | arguments)
    one_line(error, *parts)
    assert not (tmp_path / "root").exists()


def test_a_sixteenth_category_has_no_official_counts(tmp_path, monkeypatch):
    monkeypatch.delitem(OFFICIAL_COUNTS, "screw")
    with pytest.raises(FastFlowError) as error:
        make(tmp_path / "root", ["pill", "screw"], like_mvtec=True, size=64)
    one_line(error, "no category screw", "like_mvtec")
    assert not (tmp_path / "root").exists()


def test_a_root_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "root").touch()
    with pytest.raises(FastFlowError) as error:
        make(tmp_path / "root", **SMALL)
    one_line(error, tmp_path / "root")


# The gallery -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "parts", [gallery.materials, gallery.shapes, gallery.lights, gallery.tools]
)
def test_every_part_can_be_seen_alone(parts):
    pictures = list(parts(size=64).values())
    assert {picture.shape for picture in pictures} == {(64, 64, 3)}
    assert min(distance(one, other) for one, other in combinations(pictures, 2)) > 0.5


def test_no_material_and_no_tool_is_left_out():
    assert set(gallery.materials(64)) == {*materials.__all__, "streaks"} - {"coats"}
    assert set(gallery.tools(64)) == {*damage.__all__} - {"anywhere", "grow"}


def test_the_contact_sheet_shows_what_render_gives():
    sheet = gallery.contact_sheet(["carpet", "screw"], size=64, columns=2, seed=5)
    assert sheet.shape == (64, 640, 3)
    np.testing.assert_array_equal(sheet[:, :64], render("carpet", size=64, seed=5)[0])
    image, mask = render("screw", defects("screw")[2], size=64, seed=8)
    np.testing.assert_array_equal(sheet[:, 512:576], image)
    np.testing.assert_array_equal(sheet[:, 576:, 0] == 255, mask)


def test_a_restaged_scene_changes_where_it_should():
    image, _ = render("cable", seed=5)
    same = restage("cable", seed=5)
    assert np.array_equal(same, image)
    brighter = restage("cable", seed=5, floor=3).astype(int) - same
    assert brighter[:8, :8].min() > 0 and np.abs(brighter[100:156, 100:156]).max() < 5
    assert np.abs(restage("cable", seed=5, lamps=90).astype(int) - same).mean() > 0.25
