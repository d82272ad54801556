import itertools
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from fastflow_utils.data import layout, mvtec
from fastflow_utils.data.images import image_files, load_image
from fastflow_utils.data.layout import (
    categories,
    check,
    data_home,
    data_root,
    digest,
    is_mvtec_ad,
)
from fastflow_utils.data.masks import load_mask
from fastflow_utils.data.mvtec import OFFICIAL_COUNTS, MVTecAD
from fastflow_utils.data.sample_set import make
from fastflow_utils.errors import FastFlowError

REAL = Path(__file__).parents[3] / "shared" / "data" / "mvtec"


def save(path: Path, value=128, size=(8, 8), mode="L", **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value).save(path, **options)
    return path


@pytest.fixture
def root(tmp_path) -> Path:
    """Two categories; `cap` has the defects `bent` (2 images) and `scratch` (1), 2 good ones."""
    root = tmp_path / "mvtec"
    for stem in ("001", "000"):
        save(root / f"cap/train/good/{stem}.png")
        save(root / f"cap/test/good/{stem}.png")
        save(root / f"cap/test/bent/{stem}.png", 200)
        save(root / f"cap/ground_truth/bent/{stem}_mask.png", 255)
    save(root / "cap/test/scratch/000.png", 200)
    save(root / "cap/ground_truth/scratch/000_mask.png", 255)
    save(root / "nut/train/good/000.png")
    save(root / "nut/test/good/000.png")
    return root


def one_line(error: pytest.ExceptionInfo, *parts: object) -> None:
    message = str(error.value)
    assert "\n" not in message
    for part in parts:
        assert str(part) in message


# Images -----------------------------------------------------------------------------------------


def grey_file(folder: Path, mode: str, kind: str) -> tuple[Path, float]:
    """A file of one flat grey, and the grey that a person sees in it."""
    path = folder / f"image.{kind}"
    match mode:
        case "1":
            return save(path, 1, mode="1"), 1.0
        case "L":
            return save(path, 51, mode="L"), 51 / 255
        case "LA":
            return save(path, (0, 51), mode="LA"), 204 / 255  # 20 % black over white
        case "RGB":
            return save(path, (51, 51, 51), mode="RGB"), 51 / 255
        case "RGBA":
            return save(path, (0, 0, 0, 51), mode="RGBA"), 204 / 255
        case "P" | "P transparent":
            image = Image.new("P", (8, 8), 1)
            image.putpalette([255, 0, 0, 51, 51, 51])
            image.save(path, **({"transparency": 1} if "transparent" in mode else {}))
            return path, 1.0 if "transparent" in mode else 51 / 255
        case "CMYK":
            return save(path, (0, 0, 0, 204), mode="CMYK"), 51 / 255
        case "16-bit":
            Image.fromarray(np.full((8, 8), 12345, np.uint16)).save(path)
            return path, 12345 / 65535
        case "32-bit":
            Image.fromarray(np.full((8, 8), 12345, np.int32)).save(path)
            return path, 12345 / 65535
        case "float":
            Image.fromarray(np.full((8, 8), 0.3, np.float32)).save(path)
            return path, 0.3
        case "float 255":
            Image.fromarray(np.full((8, 8), 51, np.float32)).save(path)
            return path, 51 / 255
    raise AssertionError(mode)


@pytest.mark.parametrize("size", [None, 5])
@pytest.mark.parametrize(
    ("mode", "kind"),
    [
        *itertools.product(["1", "L", "LA", "RGB", "RGBA", "P", "P transparent"], ["png"]),
        *itertools.product(["L", "RGB", "CMYK"], ["jpg"]),
        *itertools.product(["L", "CMYK", "16-bit", "32-bit", "float", "float 255"], ["tif"]),
        ("16-bit", "png"),
        ("RGB", "bmp"),
        ("RGBA", "webp"),
    ],
)
def test_every_mode_becomes_the_rgb_that_a_person_sees(tmp_path, mode, kind, size):
    path, grey = grey_file(tmp_path, mode, kind)
    image = load_image(path, size)
    side = size or 8
    assert image.shape == (3, side, side)
    assert image.dtype == torch.float32
    assert image.is_contiguous()
    exact = mode in ("16-bit", "32-bit", "float")
    torch.testing.assert_close(
        image, torch.full_like(image, grey), rtol=0, atol=1e-6 if exact else 1.5 / 255
    )


@pytest.mark.parametrize("size", [None, 32])
def test_16_bit_keeps_its_precision(tmp_path, size):
    # A ramp of 32 steps within a 64th of the range: 8 bits would leave 5 of them.
    ramp = np.tile(np.linspace(20000, 21000, 32, dtype=np.uint16), (32, 1))
    Image.fromarray(ramp).save(tmp_path / "ramp.png")
    image = load_image(tmp_path / "ramp.png", size)
    assert len(image[0, 0].unique()) == 32
    assert (image[0] == image[2]).all()


def test_16_bit_colour_is_scaled_not_clipped(tmp_path):
    tifffile = pytest.importorskip("tifffile", reason="writes 16-bit colour; Pillow cannot")
    colour = np.full((4, 4, 3), [65535, 32768, 0], np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", colour, photometric="rgb")
    expected = torch.tensor([1, 0.5, 0])
    torch.testing.assert_close(
        load_image(tmp_path / "a.tif")[:, 0, 0], expected, rtol=0, atol=0.01
    )


def test_colours_and_axes_keep_their_order(tmp_path):
    image = Image.new("RGB", (4, 2), "black")
    image.putpixel((3, 0), (255, 0, 0))
    image.putpixel((0, 1), (0, 0, 255))
    image.save(tmp_path / "a.png")
    pixels = load_image(tmp_path / "a.png")
    assert pixels.shape == (3, 2, 4)
    assert pixels[:, 0, 3].tolist() == [1, 0, 0]
    assert pixels[:, 1, 0].tolist() == [0, 0, 1]


@pytest.mark.parametrize("kind", ["jpg", "png", "tif"])
def test_exif_rotation_is_applied(tmp_path, kind):
    image = Image.new("L", (16, 8), 0)
    image.paste(255, (0, 0, 8, 8))  # white on the left
    exif = Image.Exif()
    exif[274] = 6  # the camera was turned: a viewer shows it rotated by 90 degrees clockwise
    image.save(tmp_path / f"a.{kind}", exif=exif)
    pixels = load_image(tmp_path / f"a.{kind}")
    assert pixels.shape == (3, 16, 8)
    assert pixels[:, :7].min() > 0.9  # white on top
    assert pixels[:, 9:].max() < 0.1


def test_a_hard_edge_stays_in_range_when_resized(tmp_path):
    # Bicubic overshoots; a float image has no 8-bit limits that would cut it off.
    edge = np.zeros((9, 9), np.float32)
    edge[:, 4:] = 1
    Image.fromarray(edge).save(tmp_path / "edge.tif")
    image = load_image(tmp_path / "edge.tif", 32)
    assert image.min() == 0
    assert image.max() == 1


def test_shrinking_averages_instead_of_picking(tmp_path):
    stripes = np.tile(np.array([0, 255], np.uint8), (64, 32))
    Image.fromarray(stripes).save(tmp_path / "a.png")
    image = load_image(tmp_path / "a.png", 8)
    torch.testing.assert_close(image, torch.full_like(image, 0.5), rtol=0, atol=0.02)


@pytest.mark.parametrize("worst", [70000, np.nan, np.inf])
def test_float_images_without_a_known_range_are_refused(tmp_path, worst):
    Image.fromarray(np.array([[0, worst]], np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(FastFlowError) as error:
        load_image(tmp_path / "a.tif")
    one_line(error, "a.tif", "expected")


@pytest.mark.parametrize("load", [load_image, load_mask])
@pytest.mark.parametrize("damage", ["missing", "empty", "text", "truncated", "folder"])
@pytest.mark.parametrize("kind", ["png", "jpg", "tif"])
def test_unreadable_files_are_named(tmp_path, load, damage, kind):
    path = tmp_path / f"broken.{kind}"
    match damage:
        case "empty":
            path.touch()
        case "text":
            path.write_text("not an image")
        case "truncated":
            noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
            Image.fromarray(noise).save(path)
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        case "folder":
            path.mkdir()
    with pytest.raises(FastFlowError) as error:
        load(path)
    one_line(error, path)


# Files and folders ------------------------------------------------------------------------------


def test_only_visible_images_are_listed_in_order(tmp_path):
    wanted = ["10.png", "2.JPG", "B.webp", "a.tiff", "b.TIF", "c.bmp", "d.jpeg"]
    for name in [*wanted, "Thumbs.db", ".DS_Store", "._10.png", ".hidden.png", "notes.txt", "png"]:
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    assert [path.name for path in image_files(tmp_path)] == wanted
    with pytest.raises(FastFlowError) as error:
        image_files(tmp_path / "gone")
    one_line(error, tmp_path / "gone")


def test_root_is_the_given_one_then_the_environment_then_the_sample_set(tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(layout, "data_home", lambda: tmp_path)
    maker = SimpleNamespace(make=lambda root: made.append(root) or Path(root))
    monkeypatch.setitem(sys.modules, "fastflow_utils.data.sample_set", maker)
    monkeypatch.setenv("FASTFLOW_DATA", str(tmp_path / "named"))
    assert data_root(tmp_path / "given") == tmp_path / "given"
    assert data_root() == tmp_path / "named"
    assert not made
    monkeypatch.setenv("FASTFLOW_DATA", "")
    assert data_root() == tmp_path / "sample"
    assert made == [tmp_path / "sample"]
    monkeypatch.setenv("HOME", str(tmp_path))
    assert data_root("~/mvtec") == tmp_path / "mvtec"


def test_data_home_is_beside_the_package_or_in_the_working_directory(tmp_path, monkeypatch):
    package = Path(layout.__file__).parents[2]
    assert data_home() == package / "data"
    installed = tmp_path / "site-packages" / "fastflow_utils" / "data" / "layout.py"
    monkeypatch.setattr(layout, "__file__", str(installed))
    monkeypatch.chdir(tmp_path)
    assert data_home() == tmp_path / "data"


def test_categories_are_folders_with_a_split(root):
    (root / "notes").mkdir()
    (root / ".importing/cap/train").mkdir(parents=True)
    (root / "readme.txt").touch()
    assert categories(root) == ["cap", "nut"]


# Splits -----------------------------------------------------------------------------------------


def test_test_split_is_sorted_and_complete(root):
    test = MVTecAD(root, "cap", "test", image_size=4)
    assert len(test) == 5
    names = [path.relative_to(root / "cap/test").as_posix() for path in test.paths]
    assert names == ["bent/000.png", "bent/001.png", "good/000.png", "good/001.png",
                     "scratch/000.png"]  # fmt: skip
    assert test.defects == ["bent", "bent", "good", "good", "scratch"]
    assert test.labels == [1, 1, 0, 0, 1]
    assert test.counts() == {"bent": 2, "good": 2, "scratch": 1}
    assert test.mask_paths[1] == (root / "cap/ground_truth/bent/001_mask.png",)
    assert test.mask_paths[2] == ()
    assert (test.root, test.category, test.split, test.image_size) == (root, "cap", "test", 4)
    for word in ("cap", "test", "5 images", "bent 2", "scratch 1"):
        assert word in repr(test)


def test_samples_hold_image_mask_label_defect_and_path(root):
    test = MVTecAD(str(root), "cap", "test", image_size=4)
    bad, good = test[0], test[2]
    assert (bad.label, bad.defect, bad.path) == (1, "bent", str(test.paths[0]))
    assert bad.mask.all()
    assert (good.label, good.defect) == (0, "good")
    assert not good.mask.any()
    for sample in (bad, good):
        assert sample.image.shape == (3, 4, 4)
        assert sample.image.dtype == torch.float32
        assert sample.mask.shape == (1, 4, 4)
        assert sample.mask.dtype == torch.bool
    masks = test.masks()
    assert masks.dtype == torch.bool
    assert torch.equal(masks, torch.stack([sample.mask for sample in test]))


def test_train_split_is_good_only(root):
    train = MVTecAD(root, "cap", "train", image_size=4)
    assert [path.name for path in train.paths] == ["000.png", "001.png"]
    assert set(train.labels) == {0}
    assert set(train.defects) == {"good"}
    assert train.masks().shape == (2, 1, 4, 4)
    assert not train.masks().any()


def test_the_default_collate_makes_batches(root):
    loader = DataLoader(MVTecAD(root, "cap", "test", image_size=4), batch_size=3)
    first, last = loader
    assert type(first) is mvtec.Sample
    assert first.image.shape == (3, 3, 4, 4)
    assert first.mask.shape == (3, 1, 4, 4)
    assert first.mask.dtype == torch.bool
    assert first.label.tolist() == [1, 1, 0]
    assert list(last.defect) == ["good", "scratch"]


def test_files_are_decoded_only_when_asked_for(root):
    (root / "cap/test/bent/001.png").write_text("not an image")
    test = MVTecAD(root, "cap", "test", image_size=4)
    assert test[0].defect == "bent"
    with pytest.raises(FastFlowError) as error:
        test[1]
    one_line(error, root / "cap/test/bent/001.png")


def test_folder_names_above_the_category_do_not_matter(tmp_path):
    # 'good' in the path, or replacing 'test' in all of it, would get these wrong.
    root = tmp_path / "goods" / "test" / "good"
    save(root / "testbed/test/not good/000.png")
    save(root / "testbed/ground_truth/not good/000_mask.png", 255)
    test = MVTecAD(root, "testbed", "test", image_size=4)
    assert test.labels == [1]
    assert test[0].mask.all()


def test_stray_files_and_hidden_folders_are_ignored(root):
    for name in ("Thumbs.db", ".DS_Store", "._000.png"):
        (root / "cap/test/bent" / name).touch()
    (root / "cap/train/readme.txt").touch()
    save(root / "cap/train/.ipynb_checkpoints/000.png")
    assert len(MVTecAD(root, "cap", "test")) == 5
    assert len(MVTecAD(root, "cap", "train")) == 2


def test_listing_does_not_depend_on_the_order_of_the_disk(root, monkeypatch):
    before = MVTecAD(root, "cap", "test").paths
    iterdir = Path.iterdir
    monkeypatch.setattr(Path, "iterdir", lambda path: reversed(sorted(iterdir(path))))
    assert MVTecAD(root, "cap", "test").paths == before


def test_a_category_may_have_only_one_split(root):
    save(root / "new/train/good/000.png")
    assert len(MVTecAD(root, "new", "train")) == 1
    with pytest.raises(FastFlowError) as error:
        MVTecAD(root, "new", "test")
    one_line(error, "test split is empty", root / "new/test")


# Mistakes ---------------------------------------------------------------------------------------


def test_missing_root_says_what_to_do(tmp_path):
    with pytest.raises(FastFlowError) as error:
        MVTecAD(tmp_path / "gone", "cap", "train")
    one_line(error, tmp_path / "gone", "fastflow data sample", "FASTFLOW_DATA", "data/README.md")


@pytest.mark.parametrize(
    ("category", "hint"),
    [("cpa", "did you mean 'cap'?"), ("Cap", "did you mean 'cap'?"), ("zebra", "it has cap, nut"),
     ("", "it has cap, nut"), ("../mvtec/cap", "it has cap, nut")],
)  # fmt: skip
def test_missing_category_says_what_is_there(root, category, hint):
    with pytest.raises(FastFlowError) as error:
        MVTecAD(root, category, "train")
    one_line(error, repr(category), root, hint, "cap, nut")


def test_a_root_without_categories_says_so(tmp_path):
    with pytest.raises(FastFlowError) as error:
        MVTecAD(tmp_path, "cap", "train")
    one_line(error, "it has none at all")
    with pytest.raises(FastFlowError) as error:
        check(tmp_path)
    one_line(error, "no category", tmp_path)


def test_a_category_given_as_root_is_recognised(root, monkeypatch):
    for call in (categories, check, lambda given: MVTecAD(given, "cap", "train")):
        with pytest.raises(FastFlowError) as error:
            call(root / "cap")
        one_line(error, "itself a category", f"parent {root}", "cap as the category")
    monkeypatch.chdir(root / "cap")
    with pytest.raises(FastFlowError) as error:
        categories(".")
    one_line(error, f"parent {root}", "cap as the category")


def test_unknown_split(root):
    with pytest.raises(FastFlowError) as error:
        MVTecAD(root, "cap", "validation")
    one_line(error, "validation", "train, test")


def test_training_needs_good_images(root):
    for path in (root / "nut/train/good").iterdir():
        path.unlink()
    with pytest.raises(FastFlowError) as error:
        MVTecAD(root, "nut", "train")
    one_line(error, "train split is empty", root / "nut/train")
    (root / "nut/train/good").rmdir()
    with pytest.raises(FastFlowError) as error:
        MVTecAD(root, "nut", "train")
    one_line(error, root / "nut/train/good")


def test_training_on_defects_is_refused(root):
    save(root / "cap/train/bent/000.png")
    with pytest.raises(FastFlowError) as error:
        MVTecAD(root, "cap", "train")
    one_line(error, "bent", "good images only")


def test_a_missing_mask_is_named(root):
    mask = root / "cap/ground_truth/bent/001_mask.png"
    mask.unlink()
    with pytest.raises(FastFlowError) as error:
        MVTecAD(root, "cap", "test")
    one_line(error, mask, "1 masks")
    assert len(MVTecAD(root, "cap", "train")) == 2


def test_no_mask_at_all_is_no_mistake_but_told(root):
    (root / "cap/ground_truth").rename(root / "cap/masks")
    test = MVTecAD(root, "cap", "test", image_size=4)
    assert not test.has_masks and not test.masks().any()
    assert test.check_masks() == {}
    told = " ".join(test.listing.notes)
    assert "the 3 anomalous pictures have no mask" in told and "not read: masks" in told


def mask(path: Path, *, dots: int = 0, size=(64, 64)) -> Path:
    """A black mask with single anomalous pixels, which reading it at half the size passes by."""
    image = Image.new("L", size, 0)
    for dot in range(dots):
        image.putpixel((2 * dot, 0), 255)
    image.save(path)
    return path


def test_masks_that_can_be_read_are_no_problem(root):
    assert MVTecAD(root, "cap", "test").check_masks() == {}
    assert MVTecAD(root, "cap", "train").check_masks() == {}


def test_masks_that_vanish_at_reading_size_are_counted(root):
    for stem in ("000", "001"):
        save(root / f"cap/test/bent/{stem}.png", 200, size=(64, 64))
        mask(root / f"cap/ground_truth/bent/{stem}_mask.png", dots=int(stem) + 1)
    test = MVTecAD(root, "cap", "test", 32)
    with pytest.warns(UserWarning, match=r"'cap': at 32 px .*'bent': 2.*larger image size"):
        assert test.check_masks() == {"bent": 2}
    assert not test.masks()[:2].any(), "this is what the evaluation gets"
    assert MVTecAD(root, "cap", "test", 64).check_masks() == {}


@pytest.mark.parametrize(
    "problem",
    [
        "unreadable: ground_truth/bent/001_mask.png",
        "mask of another size: ground_truth/bent/000_mask.png",
        "empty mask: ground_truth/scratch/000_mask.png",
        "unreadable: test/bent/000.png",
    ],
)
def test_masks_that_are_no_truth_are_named(root, problem):
    break_cap(root / "cap", problem)
    with pytest.raises(FastFlowError) as error:
        MVTecAD(root, "cap", "test", 32).check_masks()
    one_line(error, problem, root / "cap", "correct")


def test_every_wrong_mask_is_named_at_once(root):
    break_cap(root / "cap", "unreadable: ground_truth/bent/001_mask.png")
    break_cap(root / "cap", "empty mask: ground_truth/scratch/000_mask.png")
    with pytest.raises(FastFlowError) as error:
        MVTecAD(root, "cap", "test").check_masks()
    one_line(error, "unreadable: ground_truth/bent", "; empty mask: ground_truth/scratch")


# Checking a data root ---------------------------------------------------------------------------


def test_official_counts_sum_to_the_paper_s():
    assert len(OFFICIAL_COUNTS) == 15
    assert [sum(column) for column in zip(*OFFICIAL_COUNTS.values(), strict=True)] == [
        3629,
        467,
        1258,
    ]


def test_check_counts_and_finds_nothing_wrong(root):
    (root / "nut").rename(root / "bottle")
    table = check(root)
    assert list(table.index) == ["bottle", "cap"]
    cap = table.loc["cap"]
    assert cap[["train", "test_good", "test_anomalous", "masks"]].tolist() == [2, 2, 3, 3]
    assert table["official_train"].isna().tolist() == [False, True]
    official = ["official_train", "official_test_good", "official_test_anomalous"]
    assert table.loc["bottle", official].tolist() == [209, 20, 63]
    assert (table["problems"] == "").all()


def break_cap(cap: Path, what: str) -> None:
    match what:
        case "no mask: ground_truth/bent/000_mask.png":
            (cap / "ground_truth/bent/000_mask.png").unlink()
        case "unreadable: train/good/001.png":
            (cap / "train/good/001.png").write_text("not an image")
        case "unreadable: test/bent/000.png":
            (cap / "test/bent/000.png").write_text("not an image")
        case "unreadable: ground_truth/bent/001_mask.png":
            (cap / "ground_truth/bent/001_mask.png").write_text("not an image")
        case "mask of another size: ground_truth/bent/000_mask.png":
            save(cap / "ground_truth/bent/000_mask.png", 255, size=(8, 9))
        case "empty mask: ground_truth/scratch/000_mask.png":
            save(cap / "ground_truth/scratch/000_mask.png", 0)
        case "unexpected: masks":
            (cap / "masks").mkdir()
        case "unexpected: train/bent":
            save(cap / "train/bent/000.png")
        case "unexpected: ground_truth/dent":
            save(cap / "ground_truth/dent/000_mask.png")
        case "unexpected: test/dent":
            (cap / "test/dent").mkdir()
        case "no images: train/good":
            (cap / "train").rename(cap.parent / "train")
        case "no images: test":
            (cap / "test").rename(cap.parent / "elsewhere")
            (cap / "ground_truth").rename(cap.parent / "masks")
        case _:
            raise AssertionError(what)


@pytest.mark.parametrize(
    "problem",
    [
        "no mask: ground_truth/bent/000_mask.png",
        "unreadable: train/good/001.png",
        "unreadable: ground_truth/bent/001_mask.png",
        "mask of another size: ground_truth/bent/000_mask.png",
        "empty mask: ground_truth/scratch/000_mask.png",
        "unexpected: masks",
        "unexpected: train/bent",
        "unexpected: ground_truth/dent",
        "unexpected: test/dent",
        "no images: train/good",
        "no images: test",
    ],
)
def test_check_reports_each_problem_and_goes_on(root, problem):
    break_cap(root / "cap", problem)
    table = check(root)
    assert table.loc["cap", "problems"] == problem
    assert table.loc["nut", "problems"] == ""


def test_check_names_a_few_of_many(root):
    for index in range(5):
        save(root / f"cap/test/dent/{index}.png")
    problems = check(root).loc["cap", "problems"]
    assert problems.count("dent/") == 3
    assert problems.endswith("and 2 more")


def category(folder: Path, train: int, good: int, anomalous: int) -> None:
    """A category of so many images, which nothing opens."""
    for place, count in {"train/good": train, "test/good": good, "test/cut": anomalous}.items():
        (folder / place).mkdir(parents=True)
        for number in range(count):
            (folder / place / f"{number:03}.png").touch()


def test_mvtec_ad_is_told_from_own_pictures_by_its_counts(tmp_path):
    category(tmp_path / "toothbrush", *OFFICIAL_COUNTS["toothbrush"])
    category(tmp_path / "carpet", *OFFICIAL_COUNTS["toothbrush"])
    category(tmp_path / "zipper", 12, 3, 4)
    category(tmp_path / "brush", *OFFICIAL_COUNTS["toothbrush"])
    found = [name for name in categories(tmp_path) if is_mvtec_ad(tmp_path, name)]
    assert found == ["toothbrush"]
    (tmp_path / "toothbrush/test/cut/000.png").unlink()
    assert not is_mvtec_ad(tmp_path, "toothbrush")


def test_the_sample_set_is_never_mvtec_ad(tmp_path):
    category(tmp_path / "toothbrush", *OFFICIAL_COUNTS["toothbrush"])
    (tmp_path / "toothbrush/sample_set.json").write_text("{}")
    assert not is_mvtec_ad(tmp_path, "toothbrush")


def test_the_digest_takes_any_file_name(root):
    before = digest(root, "cap")
    try:
        (root / "cap" / os.fsdecode(b"caf\xe9.png")).touch()
    except OSError:
        pytest.skip("the file system takes text as names only")
    assert digest(root, "cap") != before


# Real images ------------------------------------------------------------------------------------


@pytest.mark.skipif(not REAL.is_dir(), reason="the real MVTec AD excerpts are not there")
@pytest.mark.parametrize("category", ["bottle", "metal_nut", "screw"])
def test_real_categories_have_the_official_counts(category):
    train, test = MVTecAD(REAL, category, "train"), MVTecAD(REAL, category, "test", 64)
    assert is_mvtec_ad(REAL, category) and test.check_masks() == {}
    good = test.counts()["good"]
    assert (len(train), good, len(test) - good) == OFFICIAL_COUNTS[category]
    sample = test[test.labels.index(1)]
    assert sample.image.shape == (3, 64, 64)
    assert sample.mask.any()
    assert 0.2 < sample.image.mean() < 0.9


def test_a_root_in_the_home_folder_is_the_same_data(tmp_path, monkeypatch):
    """The sample set was 'MVTec AD' there, and every digest that of nothing."""
    monkeypatch.setenv("HOME", str(tmp_path))
    make(tmp_path / "own", ["bottle"], size=64, train=2, good=1, per_defect=1)
    assert layout.is_sample_set("~/own", "bottle")
    assert layout.digest("~/own", "bottle") == layout.digest(tmp_path / "own", "bottle")
    with pytest.raises(FastFlowError, match="no category 'nothing'"):
        layout.digest(tmp_path / "own", "nothing")
