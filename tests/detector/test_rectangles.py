"""Oblong pictures: their shape is kept from the file to the heat map, and rows stay rows."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fastflow_utils.data.mvtec import Pictures
from fastflow_utils.data.readers import from_folders
from fastflow_utils.detector.backbones import Backbone
from fastflow_utils.detector.choices import METHODS
from fastflow_utils.detector.detector import Detector, method_class
from fastflow_utils.detector.evaluation import evaluate
from fastflow_utils.detector.features import Features, extract
from fastflow_utils.detector.flows import FlowOptions
from fastflow_utils.detector.model import FastFlow
from fastflow_utils.detector.prediction import predict, predict_rows
from fastflow_utils.errors import FastFlowError

SIZE = (64, 96)
PLACE = (40, 70)  # of the defect, rows and columns


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return Backbone(image_size=SIZE)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of a part that is at one place, half of the bad ones with a mark at PLACE."""
    root = tmp_path_factory.mktemp("oblong")
    random = np.random.default_rng(0)
    for folder, count in {"ok": 10, "bad": 3, "masks": 3}.items():
        (root / folder).mkdir()
        for number in range(count):
            pixels = random.normal(90, 4, (*SIZE, 3))
            pixels[20:50, 10:60] += 70
            there = np.s_[PLACE[0] - 5 : PLACE[0] + 5, PLACE[1] - 5 : PLACE[1] + 5]
            if folder == "bad":
                pixels[there] = (230, 30, 30)
            picture = pixels.clip(0, 255).astype(np.uint8)
            if folder == "masks":
                picture = np.zeros(SIZE, np.uint8)
                picture[there] = 255
            # Twice as large as it is read.
            Image.fromarray(picture).resize((192, 128), 0).save(root / folder / f"{number}.png")
    return root


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FASTFLOW_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def model_of(method: str, backbone: Backbone) -> Detector:
    if method == "fastflow":
        return FastFlow(backbone, FlowOptions(steps=2, position=True))
    model: Detector = method_class(method)(backbone)
    return model


def test_a_backbone_knows_rows_from_columns(backbone):
    levels = backbone(torch.rand(1, 3, *SIZE))
    assert backbone.image_size == SIZE and backbone.strides == (4, 8, 16)
    assert (
        tuple(tuple(h.shape[-2:]) for h in levels) == backbone.sizes == ((16, 24), (8, 12), (4, 6))
    )
    assert Backbone(image_size=(64, 64)).image_size == 64
    with pytest.raises(FastFlowError, match="square"):
        Backbone(image_size=SIZE, upright=True)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_finds_the_defect_where_it_is(method, backbone, found, tmp_path):
    listing = from_folders(found / "ok", found / "bad", found / "masks")
    model = model_of(method, backbone)
    options = {"epochs": 2} if method == "fastflow" else {}
    model.fit(Pictures(listing, "train", SIZE), folds=2, **options)
    test = Pictures(listing, "test", SIZE)
    evaluation = evaluate(model, test)
    assert evaluation.maps.shape == evaluation.masks.shape == (5, 1, *SIZE)
    metrics = evaluation.metrics()
    assert metrics["image_auroc"] == 1 and metrics["pixel_auroc"] > 0.95
    picture = found / "bad" / "0.png"
    maps, score = model.predict(picture)
    assert maps.shape == (1, 1, *SIZE)
    torch.testing.assert_close(
        score[0], evaluation.scores[test.paths.index(picture)], rtol=0.05, atol=0.05
    )
    there = np.unravel_index(int(maps.argmax()), SIZE)
    assert np.hypot(*np.subtract(there, PLACE)) < 8
    table, problems = predict(model, [picture], tmp_path)
    assert not problems and table["decision"][0] == "anomalous"
    heat = Image.open(tmp_path / "heat_maps" / "0.png")
    assert heat.size == (192, 128)
    bright = np.asarray(heat.convert("L"), float)
    brightest = np.unravel_index(int(bright.argmax()), bright.shape)
    assert np.hypot(*(np.array(brightest) / 2 - PLACE)) < 12


def transposed(levels: list[torch.Tensor]) -> list[torch.Tensor]:
    return [h.mT.contiguous() for h in levels]


@pytest.mark.parametrize("method", [name for name in METHODS if name != "patchcore"])
def test_what_is_turned_on_its_side_has_its_map_on_its_side(method, backbone):
    """Of features: a backbone itself sees lying edges in another way than standing ones.

    (PatchCore chooses what it keeps by a start at random among the positions, in their order.)
    """
    random = torch.Generator().manual_seed(0)
    normal, new = (
        [
            torch.randn(count, c, *size, generator=random)
            for c, size in zip(backbone.channels, backbone.sizes, strict=True)
        ]
        for count in (8, 3)
    )
    lying, standing = (
        FastFlow(one, FlowOptions(steps=2, kernels="1x1"))
        if method == "fastflow"
        else model_of(method, one)
        for one in (backbone, Backbone(image_size=SIZE[::-1]))
    )
    options = {"epochs": 1} if method == "fastflow" else {}
    lying.fit(Features(normal), **options)
    standing.fit(Features(transposed(normal)), **options)
    maps, scores = lying.judge(new)
    turned, same = standing.judge(transposed(new))
    assert maps.shape == (3, 1, *SIZE)
    tolerance = 2e-2 if method == "fastflow" else 1e-4
    torch.testing.assert_close(turned.mT, maps, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(same, scores, rtol=tolerance, atol=tolerance)


def test_features_of_another_shape_are_refused(backbone, found):
    train = Pictures(from_folders(found / "ok"), "train", SIZE[::-1])
    with pytest.raises(FastFlowError, match="96 x 64 px, the backbone expects 64 x 96 px"):
        extract(backbone, train)


def test_a_new_picture_of_another_shape_is_squeezed_and_said_to_be(backbone, tmp_path):
    model = FastFlow(backbone, FlowOptions(steps=1))
    model.image_threshold.fill_(0.5)
    for name, size in {"lying": (192, 128), "upright": (128, 192)}.items():
        Image.new("RGB", size).save(tmp_path / f"{name}.png")
    for _ in range(2):  # what an earlier call has judged is told as well
        with pytest.warns(UserWarning, match=r"squeezed: 1 of 2 .* of 192 x 128 px, by 56%"):
            predict(model, [tmp_path / "lying.png", tmp_path / "upright.png"], tmp_path / "out")
    assert predict_rows(model, [tmp_path / "lying.png"], tmp_path / "out").notes[:-1] == []
