"""A region of interest, said in any of three ways; what is outside of it decides nothing."""

import numpy as np
import pytest
import torch
from PIL import Image

from fastflow_utils.data.mvtec import Pictures
from fastflow_utils.data.readers import from_folders
from fastflow_utils.data.region import read_region
from fastflow_utils.detector.backbones import Backbone
from fastflow_utils.detector.baselines.gaussian import Gaussian
from fastflow_utils.detector.baselines.patchcore import PatchCore
from fastflow_utils.detector.detector import Detector
from fastflow_utils.detector.windows import Windows
from fastflow_utils.errors import FastFlowError

SIZE = (96, 256)  # of the files, which are read as they are
LEFT = np.s_[:, :96]
FAR = np.s_[:, 224:]  # further from it than any receptive field reaches


# Reading it -------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [SIZE, (10, 7)])
def test_a_rectangle_is_its_polygon_and_its_mask(size, tmp_path):
    left, top, width, height = 2, 1, 4, 6
    expected = np.zeros(size, bool)
    expected[top : top + height, left : left + width] = True
    right, bottom = left + width - 1, top + height - 1
    polygon = f"{left},{top},{right},{top},{right},{bottom},{left},{bottom}"
    mask = tmp_path / "mask.png"
    Image.fromarray(expected).save(mask)
    for given in (f"{left},{top},{width},{height}", polygon, f"{left}, {top} {width};{height}"):
        assert (read_region(given, size) == expected).all()
    assert (read_region(str(mask), size) == expected).all()


def test_a_polygon_has_as_many_corners_as_it_takes():
    """A circle of 200 corners is longer than the name of a file may be."""
    angles = np.linspace(0, 2 * np.pi, 200, endpoint=False)
    corners = np.column_stack([128 + 40 * np.cos(angles), 48 + 40 * np.sin(angles)])
    inside = read_region(",".join(f"{x:.2f}" for x in corners.ravel()), SIZE)
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    away = np.hypot(rows - 48, columns - 128)
    assert inside[away < 38].all() and not inside[away > 42].any()


def test_what_sticks_out_of_the_picture_is_cut_off():
    assert read_region("-50,-50,1000,1000", SIZE).all()
    assert read_region("250,90,50,50", SIZE).sum() == 6 * 6
    assert read_region("1e9,0,-1e9,0,-1e9,1e9,1e9,1e9", SIZE).all()


@pytest.mark.parametrize(
    "given",
    [
        *("", "somewhere", "nowhere.png", "1,2,3", "1,2,3,4,5", "1,2,nan,4", "1,2,inf,4"),
        *("1,2,0,4", "1,2,3,-4", "300,10,20,20", "300,10,400,10,400,20", "1,2,3,4px", ","),
        *("1,2,0x3,4", "9" * 400 + ",0,1,1", "."),
    ],
)
def test_nonsense_is_one_sentence_that_says_what_is_expected(given):
    with pytest.raises(FastFlowError) as error:
        read_region(given, SIZE)
    message = str(error.value)
    assert "LEFT,TOP,WIDTH,HEIGHT" in message and "\n" not in message
    assert message.startswith(f"region {given[:50]}")


def test_a_black_mask_and_a_broken_one_are_refused(tmp_path):
    Image.new("L", SIZE[::-1]).save(tmp_path / "black.png")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    for name in ("black.png", "broken.png"):
        with pytest.raises(FastFlowError, match=name):
            read_region(str(tmp_path / name), SIZE)


# What it decides --------------------------------------------------------------------------------


def picture(seed: int) -> np.ndarray:
    """Return noise; on the right it is always another."""
    random = np.random.default_rng(seed)
    values = random.normal(100, 10, (*SIZE, 3))
    values[:, 128:] += random.normal(0, 40, (*SIZE, 3))[:, 128:]
    return values.clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("data")
    for number in range(8):
        Image.fromarray(picture(number)).save(folder / f"{number}.png")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FASTFLOW_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield Pictures(from_folders(folder), "train", SIZE)


def fitted(
    pictures: Pictures,
    windows: Windows | None,
    region: np.ndarray | None,
    method: type[Detector] = Gaussian,
) -> Detector:
    backbone = Backbone(image_size=SIZE if windows is None else windows.side, layers=(1, 2))
    given = None if region is None else torch.from_numpy(region)
    options = {"smoothing": 4.0, "top": 0.01}
    model: Detector = method(backbone, **options).read_as(windows=windows, region=given)
    model.fit(pictures, folds=4, pixel_fpr=0.05)
    return model


READINGS = {"whole": None, "windows": Windows(SIZE, 96, 32)}


@pytest.mark.parametrize("method", [Gaussian, PatchCore])  # which has a score of its own
@pytest.mark.parametrize("reading", READINGS)
def test_what_is_outside_decides_nothing(reading, method, pictures):
    region = np.zeros(SIZE, bool)
    region[LEFT] = True
    model = fitted(pictures, READINGS[reading], region, method)
    before = picture(50)
    maps, score = model.predict(before)
    assert (maps[0, 0][~torch.from_numpy(region)] == 0).all() and maps.any()
    for value in (0, 255):
        after = before.copy()
        after[FAR] = value
        changed, same = model.predict(after)
        torch.testing.assert_close(changed, maps, rtol=0, atol=1e-5)
        torch.testing.assert_close(same, score, rtol=0, atol=1e-3)
    everywhere = fitted(pictures, READINGS[reading], None, method)
    after = before.copy()
    after[FAR] = (255, 0, 0)
    assert everywhere.predict(after)[1] > everywhere.predict(before)[1] + 1, "else it sees nothing"


@pytest.mark.parametrize("reading", READINGS)
def test_what_is_inside_is_still_seen(reading, pictures):
    region = np.zeros(SIZE, bool)
    region[LEFT] = True
    model = fitted(pictures, READINGS[reading], region)
    after = picture(50)
    after[30:50, 30:50] = (255, 0, 0)
    maps, score = model.predict(after)
    assert score > model.predict(picture(50))[1] + 1
    assert maps[0, 0, 30:50, 30:50].max() >= model.pixel_threshold


@pytest.mark.parametrize("reading", READINGS)
def test_thresholds_are_of_the_inside(reading, pictures):
    """Black everywhere else, it would count as so many normal pixels with nothing in them."""
    region = np.zeros(SIZE, bool)
    region[20:40, 20:60] = True  # 3 % of the picture
    model = fitted(pictures, READINGS[reading], region)
    maps, _ = model.predict([picture(seed) for seed in range(100, 130)])
    inside = maps[:, 0][:, torch.from_numpy(region)]
    above = float((inside >= model.pixel_threshold).float().mean())
    assert 0.01 < above < 0.15  # asked for 0.05


@pytest.mark.parametrize("reading", READINGS)
def test_a_region_smaller_than_a_position_is_none_too_few(reading, pictures):
    """Of coarse features no position has its middle in it."""
    region = np.zeros(SIZE, bool)
    region[40:43, 33:36] = True
    model = fitted(pictures, READINGS[reading], region)
    maps, score = model.predict(picture(50))
    assert score.isfinite() and maps.count_nonzero() <= region.sum()
    assert model.image_threshold.isfinite() and model.pixel_threshold > 0


def test_a_mask_of_another_resolution_is_the_same_region(pictures):
    small, large = np.zeros((24, 64), bool), np.zeros((384, 1024), bool)
    small[2:10, 8:24], large[32:160, 128:384] = True, True
    model = Gaussian(Backbone(image_size=SIZE))
    regions = [model.read_as(region=torch.from_numpy(one)).region for one in (small, large)]
    assert torch.equal(*regions) and regions[0].sum() == 32 * 64
    thin = np.zeros((960, 2560), bool)
    thin[481, 1000:1500] = True
    assert model.read_as(region=torch.from_numpy(thin)).region.sum() == 50


def test_a_region_does_not_turn_with_the_object():
    region = torch.zeros(64, 64, dtype=torch.bool)
    region[:, :32] = True
    with pytest.raises(FastFlowError, match="upright=False"):
        Gaussian(Backbone(image_size=64, upright=True)).read_as(region=region)


def test_a_mask_of_another_shape_is_no_region(tmp_path):
    Image.new("L", (SIZE[0], SIZE[1]), 255).save(tmp_path / "turned.png")
    with pytest.raises(FastFlowError, match="of the same shape"):
        read_region(str(tmp_path / "turned.png"), SIZE)


def test_no_region_at_all_is_refused():
    with pytest.raises(FastFlowError, match="the region is empty"):
        Gaussian(Backbone(image_size=64)).read_as(region=torch.zeros(64, 64, dtype=torch.bool))
