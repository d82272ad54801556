"""Windows: nothing is lost between a picture, its windows and the one map of all of them."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.ndimage import gaussian_filter

from fastflow_utils.data.images import as_image
from fastflow_utils.data.mvtec import Pictures
from fastflow_utils.data.readers import from_folders
from fastflow_utils.data.sizes import height_width
from fastflow_utils.detector.backbones import Backbone
from fastflow_utils.detector.baselines.gaussian import Gaussian
from fastflow_utils.detector.detector import Detector
from fastflow_utils.detector.features import Features, WindowedPictures
from fastflow_utils.detector.flows import FlowOptions
from fastflow_utils.detector.model import FastFlow
from fastflow_utils.detector.windows import GRID, Windows
from fastflow_utils.errors import FastFlowError

SIZE = (128, 160)
WINDOWS = Windows(SIZE, side=64, overlap=32)


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FASTFLOW_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def texture(seed: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """Return grains without any place that is special."""
    noise = np.random.default_rng(seed).normal(size=size)
    grains = gaussian_filter(noise, 2, mode="wrap")
    return (128 + 40 * grains / grains.std()).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Pictures:
    folder = tmp_path_factory.mktemp("grains")
    for number in range(10):
        Image.fromarray(texture(number)).save(folder / f"{number}.png")
    return Pictures(from_folders(folder), "train", SIZE)


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return Backbone(image_size=64)


@pytest.fixture(scope="module")
def gaussian(backbone: Backbone, pictures: Pictures) -> Gaussian:
    model = Gaussian(backbone).read_as(windows=WINDOWS)
    model.fit(pictures, folds=3, pixel_fpr=0.1)
    return model


# Cutting and blending ---------------------------------------------------------------------------


@st.composite
def ways(draw: st.DrawFn) -> Windows:
    side = draw(st.integers(1, 4))
    height, width = draw(st.integers(side, 9)), draw(st.integers(side, 9))
    overlap = draw(st.integers(0, GRID * (side - 1)))
    return Windows((GRID * height, GRID * width), GRID * side, overlap)


@settings(max_examples=15, deadline=None, derandomize=True)
@given(ways(), st.sampled_from([4, 8, 16, 32]))
def test_what_was_cut_is_blended_to_the_same(windows: Windows, stride: int):
    height, width = (side // stride for side in height_width(windows.size))
    whole = torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(0))
    parts = torch.stack(windows.parts(whole), 1).flatten(0, 1)
    torch.testing.assert_close(windows.blend(parts), whole, rtol=0, atol=1e-5)
    pictures = torch.rand(
        2, 1, *height_width(windows.size), generator=torch.Generator().manual_seed(0)
    )
    assert torch.equal(
        windows.cut(pictures), torch.stack(windows.parts(pictures), 1).flatten(0, 1)
    )


@settings(max_examples=15, deadline=None, derandomize=True)
@given(ways())
def test_every_pixel_is_in_a_window_and_neighbours_share_the_overlap(windows: Windows):
    lengths = height_width(windows.size)
    for starts, length in zip((windows.rows, windows.columns), lengths, strict=True):
        assert starts[0] == 0 and starts[-1] + windows.side == length
        steps = np.diff(starts)
        assert (steps > 0).all() and (windows.side - steps >= windows.overlap).all()


def test_blending_has_no_seam_and_is_linear():
    one, other = torch.rand(2, len(WINDOWS.places), 1, 16, 16)
    constant = WINDOWS.blend(torch.full_like(one, 0.3))
    torch.testing.assert_close(constant, torch.full_like(constant, 0.3), rtol=1e-6, atol=0)
    both = WINDOWS.blend(2 * one - 3 * other)
    expected = 2 * WINDOWS.blend(one) - 3 * WINDOWS.blend(other)
    torch.testing.assert_close(both, expected, rtol=0, atol=1e-5)


def test_a_window_counts_least_where_it_ends():
    """The first window alone is 1: its weight falls over the overlap, without a step."""
    maps = torch.zeros(len(WINDOWS.places), 1, 16, 16)
    maps[0] = 1
    row = WINDOWS.blend(maps)[0, 0, 0]
    assert (row[:8] == 1).all() and (row[16:] == 0).all()
    assert (row[8:16].diff() < 0).all() and row[7:17].diff().abs().max() < 0.2


@pytest.mark.parametrize(
    ("size", "side", "overlap", "expected"),
    [
        (100, 64, 32, "multiples of 32"),
        (128, 48, 0, "multiples of 32"),
        ((64, 512), 128, 32, "window that fits"),
        (128, 64, 33, "expected 0 to 32"),
        (128, 64, -1, "expected 0 to 32"),
    ],
)
def test_windows_that_cannot_be_are_refused(size, side, overlap, expected):
    with pytest.raises(FastFlowError, match=expected):
        Windows(size, side, overlap)


def test_maps_that_do_not_meet_are_refused():
    with pytest.raises(FastFlowError, match="stride that divides 32"):
        WINDOWS.blend(torch.rand(len(WINDOWS.places), 1, 13, 13))


def test_a_model_takes_only_windows_that_its_backbone_takes(backbone, pictures):
    with pytest.raises(FastFlowError, match="give both the same size"):
        Gaussian(backbone).read_as(windows=Windows(SIZE, 96))
    with pytest.raises(FastFlowError, match="upright"):
        Gaussian(Backbone(image_size=64, upright=True)).read_as(windows=WINDOWS)
    model = Gaussian(backbone).read_as(windows=Windows(SIZE, 64, 0))
    with pytest.raises(FastFlowError, match="cut as"):
        model.fit(WindowedPictures(backbone, pictures, WINDOWS))


# Detectors --------------------------------------------------------------------------------------


def test_one_window_is_no_window(backbone, pictures):
    plain = Gaussian(backbone)
    plain.fit(Pictures(pictures.listing, "train", 64))
    path = pictures.paths[0]
    maps, score = plain.predict(path)
    windowed = plain.read_as(windows=Windows(64, 64, 32))
    assert torch.isinf(windowed.image_threshold), "thresholds are of another reading"
    again, same = windowed.predict(path)
    torch.testing.assert_close(again, maps, rtol=0, atol=1e-5)
    torch.testing.assert_close(same, score, rtol=1e-3, atol=1e-3)


def test_windows_to_learn_from_are_those_of_the_picture(backbone, pictures):
    """Read in strips by several threads, each window is what it is in the whole picture."""
    seen = WindowedPictures(backbone, pictures, WINDOWS, most=10**6)
    assert seen.each == len(WINDOWS.places) and len(seen) == len(pictures)
    index = torch.tensor([7, 2])
    whole = torch.stack([as_image(pictures.paths[i], SIZE) for i in index])
    expected = backbone(WINDOWS.cut(whole))
    for level, h in zip(seen.subset(index)[:], expected, strict=True):
        torch.testing.assert_close(level, h, rtol=2e-3, atol=2e-3)  # kept as float16
    assert seen.paths_of(index) == [pictures.paths[7], pictures.paths[2]]


def test_each_picture_gives_as_many_windows(backbone, pictures):
    few = WindowedPictures(backbone, pictures, WINDOWS, most=35)
    assert few.each == 3 and len(few.features) == 30
    assert WindowedPictures(backbone, pictures, WINDOWS, most=1).each == 1


def test_a_look_is_that_of_all_windows_put_together(gaussian, pictures):
    path = pictures.paths[0]
    maps, _ = gaussian.look(path)
    windows = WINDOWS.cut(as_image(path, SIZE)[None])
    expected = map(WINDOWS.blend, gaussian.maps(gaussian.backbone(windows)))
    for level, whole in zip(maps, expected, strict=True):
        torch.testing.assert_close(level, whole, rtol=1e-4, atol=1e-4)


def test_what_repeats_in_the_picture_repeats_in_its_map(gaussian):
    """Away from the border, where a pattern meets windows in the same way, at seams as well."""
    tile = texture(5, (32, 32))
    maps, _ = Gaussian.look(gaussian, np.tile(tile, (4, 5)))
    for level in maps:
        period = 32 * level.shape[-1] // SIZE[1]
        inside = level[..., period:-period, period:-period]
        torch.testing.assert_close(
            inside[..., : 2 * period], inside[..., period:], rtol=1e-3, atol=1e-4
        )


def test_good_pictures_are_no_more_conspicuous_at_seams(gaussian):
    """A position near the end of a window sees its edge instead of the picture.

    Where windows are put beside each other without weights, they are so 1.6 times as often.
    """
    maps = torch.cat([gaussian.predict(texture(seed))[0] for seed in range(100, 112)])
    above = (maps >= gaussian.pixel_threshold).float().mean((0, 1))
    inside = np.zeros(SIZE, bool)
    inside[32:-32, 32:-32] = True  # the picture's own border is another matter
    near = np.zeros(SIZE, bool)
    for start in WINDOWS.rows:
        near[max(start - 4, 0) : start + 4] = True
    for start in WINDOWS.columns:
        near[:, max(start - 4, 0) : start + 4] = True
    at_seams, elsewhere = (float(above[inside & where].mean()) for where in (near, ~near))
    assert 0 < at_seams < 1.25 * elsewhere


def spotted(seed: int, row: int, column: int) -> np.ndarray:
    """Return a picture with a red square of 12 pixels."""
    picture = np.dstack([texture(seed)] * 3)
    picture[row - 6 : row + 6, column - 6 : column + 6] = (255, 0, 0)
    return picture


@pytest.mark.parametrize("place", [(20, 30), (64, 96), (100, 140)])
def test_a_spot_is_found_where_it_is(place, gaussian):
    maps, score = gaussian.predict(spotted(51, *place))
    assert maps.shape == (1, 1, *SIZE)
    there = np.unravel_index(int(maps.argmax()), SIZE)
    assert np.hypot(*np.subtract(there, place)) < 5
    assert score > gaussian.image_threshold > gaussian.predict(texture(51))[1]


def test_a_picture_is_as_anomalous_as_its_worst_window(gaussian):
    """However much else of it is good."""
    picture = spotted(51, 32, 32)
    everywhere = gaussian.predict(picture)[1]
    only = Gaussian(gaussian.backbone)
    own = {name: value for name, value in gaussian.state_dict().items() if name != "region"}
    only.load_state_dict(own, strict=False)
    assert everywhere > 0.9 * only.predict(picture[:64, :64])[1]


# Files ------------------------------------------------------------------------------------------


def region() -> torch.Tensor:
    inside = torch.zeros(SIZE, dtype=torch.bool)
    inside[32:96, 40:128] = True
    return inside


def test_features_of_windows_are_no_pictures(gaussian):
    side = gaussian.windows.side
    features = gaussian.backbone(torch.rand(2, 3, side, side))
    for use in (gaussian.judge, gaussian.score, gaussian.anomaly_map):
        with pytest.raises(FastFlowError, match="cuts pictures into windows"):
            use(features)
    with pytest.raises(FastFlowError, match="cuts pictures into windows"):
        gaussian.calibrate([features])
    with pytest.raises(FastFlowError, match="cuts pictures into windows"):
        gaussian.fit(Features(features))
    model = FastFlow(gaussian.backbone, FlowOptions(steps=1)).read_as(windows=gaussian.windows)
    with pytest.raises(FastFlowError, match="cuts pictures into windows"):
        model.fit(Features(features), epochs=1)


@pytest.mark.parametrize("kind", ["gaussian", "fastflow"])
def test_a_loaded_model_gives_the_same_bits(kind, backbone, pictures, tmp_path):
    reading = {"windows": WINDOWS, "white": 4095, "region": region()}
    if kind == "gaussian":
        model: Detector = Gaussian(backbone).read_as(**reading)
        model.fit(pictures, folds=2)
    else:
        model = FastFlow(backbone, FlowOptions(steps=2, position=False)).read_as(**reading)
        model.fit(pictures, epochs=1)
    deep = texture(70).astype(np.uint16) * 16
    expected = model.predict([texture(70), deep])
    model.save(tmp_path)
    loaded = Detector.load(tmp_path)
    assert (loaded.windows, loaded.white) == (WINDOWS, 4095)
    assert torch.equal(loaded.region, region())
    for one, other in zip(expected, loaded.predict([texture(70), deep]), strict=True):
        assert torch.equal(one, other)
    folded = loaded.for_inference()
    for one, other in zip(expected, folded.predict([texture(70), deep]), strict=True):
        assert torch.equal(one, other)
    assert loaded.pixel_threshold == model.pixel_threshold < 1
    if kind == "gaussian":  # what is loaded learns from the same windows
        loaded.fit(WindowedPictures(loaded.backbone, pictures, WINDOWS), folds=2)
        assert torch.equal(loaded.predict(deep)[0], expected[0][1:])


def test_a_rectangular_model_is_loaded_whole(pictures, tmp_path):
    model = Gaussian(Backbone(image_size=(64, 96))).read_as(white=1023)
    oblong = Pictures(pictures.listing, "train", (64, 96), 1023)
    model.fit(oblong)
    model.save(tmp_path)
    loaded = Detector.load(tmp_path)
    assert loaded.image_size == loaded.map_size == (64, 96) and loaded.white == 1023
    for one, other in zip(model.predict(texture(1)), loaded.predict(texture(1)), strict=True):
        assert torch.equal(one, other)
    loaded.fit(oblong)
    assert torch.equal(model.predict(texture(1))[1], loaded.predict(texture(1))[1])


# Training ---------------------------------------------------------------------------------------


def test_folds_and_the_tenth_calibrate_on_whole_pictures(backbone, pictures):
    model = FastFlow(backbone, FlowOptions(steps=1, position=False)).read_as(windows=WINDOWS)
    model.fit(pictures, epochs=1)
    assert model.normal_scores is not None and len(model.normal_scores) == 1
    assert model.normal_images is not None
    [held_out] = model.normal_images.tolist()
    assert model.predict(pictures.paths[held_out])[1] < model.image_threshold
    cross = FastFlow(backbone, FlowOptions(steps=1, position=False)).read_as(windows=WINDOWS)
    cross.fit(pictures, epochs=1, folds=2)
    assert cross.normal_images is not None
    assert sorted(cross.normal_images.tolist()) == list(range(10))


def test_held_out_is_nothing_where_nothing_is_asked_to_be(backbone, pictures):
    model = FastFlow(backbone, FlowOptions(steps=1, position=False)).read_as(windows=WINDOWS)
    model.fit(pictures, epochs=1, held_out_share=0)
    assert torch.isinf(model.image_threshold), "it is left to the caller to calibrate on others"


def test_a_trained_split_is_never_the_test_split(backbone, pictures):
    model = Gaussian(backbone).read_as(windows=WINDOWS)
    empty = Pictures(pictures.listing, "test", SIZE, allow_empty=True)
    with pytest.raises(FastFlowError, match="expected the training images"):
        model.fit(empty)
    with pytest.raises(FastFlowError, match="give both the same image_size"):
        model.fit(Pictures(pictures.listing, "train", 64))


def test_ctrl_c_before_the_first_batch_calibrates_nothing(backbone, pictures, monkeypatch):
    model = FastFlow(backbone, FlowOptions(steps=1, position=False)).read_as(windows=WINDOWS)

    def press(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(FastFlow, "nll", press)
    with pytest.raises(KeyboardInterrupt):
        model.fit(pictures, epochs=1)
    assert torch.isinf(model.image_threshold)


def test_ctrl_c_later_keeps_what_there_is(backbone, pictures, monkeypatch):
    model = FastFlow(backbone, FlowOptions(steps=1, position=False)).read_as(windows=WINDOWS)
    batches: list[int] = []

    def press(*_: object, **__: object) -> None:  # in the second batch
        batches.append(1)
        if len(batches) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", press)
    with pytest.raises(KeyboardInterrupt):
        model.fit(pictures, epochs=1)
    assert model.image_threshold.isfinite()
