"""Which file is whose mask, what a mask says, and what is wrong with it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter

from fastflow_utils.data.layout import check
from fastflow_utils.data.listing import Item
from fastflow_utils.data.masks import find_masks, load_mask, look_at_all
from fastflow_utils.data.mvtec import MVTecAD
from fastflow_utils.errors import FastFlowError

# What a file says -------------------------------------------------------------------------------


def drawn_mask(path: Path, kind: str) -> Path:
    """A mask of 6 x 4 pixels, anomalous in its right third, stored in one of many ways."""
    where = np.zeros((4, 6), np.uint8)
    where[:, 4:] = 1
    match kind:
        case "0/255":
            image = Image.fromarray(where * 255)
        case "0/1":
            image = Image.fromarray(where)
        case "class numbers":
            image = Image.fromarray(where * np.arange(1, 5, dtype=np.uint8)[:, None])
        case "far class numbers":
            image = Image.fromarray(where * np.array([20, 255, 90, 7], np.uint8)[:, None])
        case "1-bit":
            image = Image.fromarray(where.astype(bool))
        case "16-bit":
            image = Image.fromarray(where.astype(np.uint16) * 256)
        case "RGB":
            image = Image.fromarray(np.stack([where * 255, where * 0, where * 0], axis=-1))
        case "dark red":
            image = Image.fromarray(np.stack([where * 100, where * 0, where * 0], axis=-1))
        case "RGBA opaque":
            image = Image.fromarray(where * 255).convert("RGBA")
        case "RGBA transparent":
            alpha = Image.fromarray(where * 255)
            image = Image.new("RGBA", (6, 4), "white")
            image.putalpha(alpha)
        case "palette":  # 1 is black: the colours count, not the indices
            image = Image.fromarray(1 - where, mode=None).convert("P")
            image.putpalette([255, 255, 255, 0, 0, 0])
        case _:
            raise AssertionError(kind)
    image.save(path)
    return path


@pytest.mark.parametrize(
    "kind",
    ["0/255", "0/1", "class numbers", "far class numbers", "1-bit", "16-bit", "RGB", "dark red",
     "RGBA opaque", "RGBA transparent", "palette"],
)  # fmt: skip
def test_whatever_is_not_black_is_anomalous_where_a_file_holds_few_values(tmp_path, kind):
    expected = torch.zeros(1, 4, 6, dtype=torch.bool)
    expected[..., 4:] = True
    path = drawn_mask(tmp_path / "mask.png", kind)
    assert torch.equal(load_mask(path), expected)
    assert torch.equal(load_mask(path, (2, 3)), torch.tensor([[[False, False, True]] * 2]))


def test_masks_are_resized_by_the_nearest_pixel(tmp_path):
    mask = np.random.default_rng(0).random((50, 50)) < 0.3
    Image.fromarray(mask).save(tmp_path / "mask.png")
    resized = load_mask(tmp_path / "mask.png", (16, 24))
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(mask)[None, None].float(), (16, 24), mode="nearest-exact"
    )[0].bool()
    assert torch.equal(resized, expected)


def disc(radius: float = 14, size: int = 64) -> np.ndarray:
    rows, columns = np.mgrid[:size, :size]
    return (rows - size / 2) ** 2 + (columns - size / 2) ** 2 < radius**2


@pytest.mark.parametrize("quality", [40, 75, 90, 95, 100])
@pytest.mark.parametrize("kept", ["jpg", "png"])
def test_jpeg_does_not_change_the_area(tmp_path, quality, kept):
    """Every trace of JPEG counted, a third more than the mask."""
    Image.fromarray(disc()).convert("L").save(tmp_path / "a.jpg", quality=quality)
    Image.open(tmp_path / "a.jpg").save(tmp_path / f"b.{kept}", quality=100)  # some convert it
    area = load_mask(tmp_path / f"b.{kept}").sum().item()
    assert area == pytest.approx(disc().sum(), rel=0.02)


def test_a_smoothed_edge_lies_where_it_was(tmp_path):
    sharp = Image.fromarray(disc(56, 256)).convert("L")
    sharp.resize((64, 64), Image.Resampling.BICUBIC).save(tmp_path / "a.png")
    area = load_mask(tmp_path / "a.png").sum().item()
    assert area == pytest.approx(disc(14).sum(), rel=0.02)


def test_several_masks_are_one_union(tmp_path):
    left, right = np.zeros((2, 4, 6), bool)
    left[:, 0], right[:, -1] = True, True
    paths = [tmp_path / "000.png", tmp_path / "001.png"]
    for path, part in zip(paths, (left, right), strict=True):
        Image.fromarray(part).save(path)
    assert torch.equal(load_mask(paths)[0], torch.from_numpy(left | right))
    Image.fromarray(right[:2]).save(paths[1])
    with pytest.raises(FastFlowError, match=r"000\.png and .*001\.png.* differ in size"):
        load_mask(paths)


# Which file is whose ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["000.png", "000_mask.png", "000_label.bmp", "000_gt.tif", "000-mask.PNG", "000_GT.Jpg",
     "000_masks.png", "000_ground_truth.png", "000/anything.png"],
)  # fmt: skip
def test_masks_are_found_by_their_usual_names(tmp_path, name):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).touch()
    (tmp_path / "0001_mask.png").touch()
    images = [Path("test/000.JPG"), Path("test/002.JPG")]
    assert find_masks(images, tmp_path) == {images[0]: (tmp_path / name,)}


def test_a_mask_that_is_named_as_another_image_is_that_image_s(tmp_path):
    for name in ("000.png", "000_gt.png"):
        (tmp_path / name).touch()
    images = [Path("000.png"), Path("000_gt.png")]
    assert find_masks(images, tmp_path) == {
        images[0]: (tmp_path / "000.png",),
        images[1]: (tmp_path / "000_gt.png",),
    }


def test_two_masks_of_one_image_are_named(tmp_path):
    for name in ("000.png", "000_mask.png"):
        (tmp_path / name).touch()
    with pytest.raises(FastFlowError, match=r"000\.png and .*000_mask\.png may both"):
        find_masks([Path("000.png")], tmp_path)


# What is wrong ----------------------------------------------------------------------------------


@pytest.fixture
def root(tmp_path) -> Path:
    """A category of pictures of 64 x 48 pixels, four of them with a mask."""
    noise = np.random.default_rng(0)
    for place in ("train/good/0", "test/good/0", *(f"test/bent/{i}" for i in range(4))):
        path = tmp_path / f"cap/{place}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise.integers(0, 256, (48, 64, 3), np.uint8)).save(path)
    for i in range(4):
        write_mask(tmp_path, i, disc(5 + i)[8:56])
    return tmp_path


def write_mask(root: Path, index: int, where: np.ndarray) -> None:
    path = root / f"cap/ground_truth/bent/{index}_mask.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(where).save(path)


def both_say(root: Path, what: str) -> bool:
    """Whether ``data check`` and a run say it; they never disagree."""
    problems = check(root).loc["cap", "problems"]
    try:
        MVTecAD(root, "cap", "test", 32).check_masks()
        told = ""
    except FastFlowError as error:
        told = str(error)
    assert (what in problems) == (what in told), (problems, told)
    return what in problems


def test_nothing_is_wrong_with_what_is_right(root):
    assert check(root).loc["cap", "problems"] == ""
    assert MVTecAD(root, "cap", "test", 32).check_masks() == {}


def test_inverted_masks_are_told_where_most_are(root):
    for i in range(2):
        write_mask(root, i, ~disc(5 + i)[8:56])
    assert not both_say(root, "inverted"), "two of four may be of damage all over"
    write_mask(root, 2, ~disc(7)[8:56])
    assert both_say(root, "inverted mask")


def test_a_picture_that_is_anomalous_all_over_is_not_inverted(root):
    for i in range(4):
        write_mask(root, i, np.ones((48, 64), bool))
    assert not both_say(root, "inverted")


def test_masks_of_the_stored_pixels_of_a_turned_picture_are_told(root):
    """The photograph is turned by its EXIF, the mask was drawn on what is stored."""
    exif = Image.Exif()
    exif[274] = 6
    path = root / "cap/test/bent/0.png"
    Image.open(path).save(path, exif=exif)
    assert both_say(root, "before its EXIF turns it")
    write_mask(root, 0, disc(5)[8:56].T)
    assert check(root).loc["cap", "problems"] == ""


def test_a_mask_on_its_side_without_exif_is_of_another_size(root):
    write_mask(root, 0, disc(5)[8:56].T)
    assert both_say(root, "mask of another size") and not both_say(root, "EXIF")


def test_a_good_picture_may_have_a_black_mask_alone(tmp_path):
    picture, mask = tmp_path / "a.png", tmp_path / "a_mask.png"
    Image.new("L", (8, 8), 99).save(picture)
    for value, found in {0: [], 255: [("mask of a good picture is not black", mask)]}.items():
        Image.new("L", (8, 8), value).save(mask)
        assert look_at_all([Item(picture, "test", "good", (mask,))], "") == [found]


def test_masks_without_black_are_told(root):
    """1 for good and 2 for damage: all of the picture was anomalous."""
    for i in range(4):
        write_mask(root, i, (1 + disc(5 + i)[8:56]).astype(np.uint8))
    assert both_say(root, "without black")


def test_inverted_masks_whose_damage_touches_an_edge_are_told(root):
    for i in range(4):
        write_mask(root, i, ~np.roll(disc(9 + i), 32, axis=0)[:48])
    assert both_say(root, "inverted mask")


def test_numbers_of_objects_are_not_taken_for_grey_edges(root):
    """Of twenty objects, numbered up to 250, only those from 128 on counted."""
    numbers = np.kron(np.arange(10, 210, 10).reshape(4, 5), np.ones((6, 6), int))
    canvas = np.zeros((48, 64), np.uint8)
    canvas[2:26, 2:32] = numbers
    write_mask(root, 0, canvas)
    assert both_say(root, "dark grey areas")


@pytest.mark.parametrize("radius", [1.5, 4, 14])
@pytest.mark.parametrize("way", ["smoothed", "jpeg"])
def test_soft_edges_are_no_grey_areas(root, radius, way, tmp_path):
    soft = Image.fromarray(disc(radius)[8:56]).convert("L")
    soft = soft.filter(ImageFilter.GaussianBlur(1))
    if way == "jpeg":
        soft.save(tmp_path / "a.jpg", quality=75)
        soft = Image.open(tmp_path / "a.jpg")
    write_mask(root, 0, np.asarray(soft))
    assert not both_say(root, "grey")


@pytest.mark.parametrize(("how", "size"), [(3, (48, 64)), (6, (64, 64)), (1, (64, 64))])
def test_masks_that_may_lie_otherwise_than_a_turned_picture_are_told(root, how, size):
    """Their shape does not tell it."""
    exif = Image.Exif()
    exif[274] = how
    path = root / "cap/test/bent/0.png"
    Image.fromarray(np.zeros(size, np.uint8)).save(path, exif=exif)
    write_mask(root, 0, disc(5)[: size[0]])
    assert check(root).loc["cap", "problems"] == ""
    notes = check(root).loc["cap", "notes"]
    assert ("turned by EXIF" in notes and "test/bent/0.png" in notes) == (how != 1)
