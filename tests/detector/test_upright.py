"""A detector that turns images: features of the turned, maps over the given, the same on all ways.

And how the normal images alone decide whether a run turns them.
"""

import json
import shutil

import pytest
import torch
from PIL import Image

from fastflow_utils.course.widgets import LevelMixer, explore_features
from fastflow_utils.data.mvtec import MVTecAD
from fastflow_utils.data.pose import pose_of, turned
from fastflow_utils.data.sample_set import make
from fastflow_utils.detector.backbones import Backbone
from fastflow_utils.detector.baselines.gaussian import Gaussian
from fastflow_utils.detector.detector import Detector
from fastflow_utils.detector.evaluation import evaluate
from fastflow_utils.detector.features import Source, extract
from fastflow_utils.errors import FastFlowError
from fastflow_utils.experiments.recipes import recipe_for
from fastflow_utils.experiments.run import run

SIZE = 64


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sample")
    return make(folder, ["screw", "bottle"], size=SIZE, train=12, good=3, per_defect=1)


@pytest.fixture(scope="module")
def backbone():
    return Backbone(image_size=SIZE, upright=True)


@pytest.fixture(scope="module")
def fitted(root, backbone, tmp_path_factory):
    train = MVTecAD(root, "screw", "train", SIZE)
    model = Gaussian(backbone, smoothing=1.0)
    model.fit(extract(backbone, train, cache=tmp_path_factory.mktemp("cache")))
    return model


def test_features_are_those_of_the_turned_image(root, backbone):
    image = MVTecAD(root, "screw", "train", SIZE)[0].image[None]
    plain = backbone.turning(False)
    expected = plain(turned(image, map(pose_of, image)))
    for mine, theirs in zip(backbone(image), expected, strict=True):
        torch.testing.assert_close(mine, theirs)
    assert Source.of(plain) != Source.of(backbone)
    assert plain.network is backbone.network


def test_evaluation_and_prediction_show_the_same_map(root, fitted, tmp_path):
    test = MVTecAD(root, "screw", "test", SIZE)
    evaluation = evaluate(fitted, test, extract(fitted.backbone, test, cache=tmp_path))
    anomaly_map, score = fitted.predict(list(test.paths))
    # The cache holds float16; a map is a rank among few positions here, which may jump.
    assert (anomaly_map - evaluation.maps).abs().mean() < 5e-3
    torch.testing.assert_close(score, evaluation.scores, rtol=0.02, atol=0.02)


def test_a_saved_detector_still_turns(root, fitted, tmp_path):
    path = MVTecAD(root, "screw", "test", SIZE).paths[0]
    loaded = Detector.load(fitted.save(tmp_path / "model"))
    assert loaded.backbone.upright
    for mine, theirs in zip(loaded.predict(path), fitted.predict(path), strict=True):
        assert torch.equal(mine, theirs)


@pytest.mark.parametrize(("category", "upright"), [("screw", True), ("bottle", False)])
def test_a_run_decides_by_the_normal_images(root, category, upright, tmp_path):
    recipe = recipe_for(method="gaussian", image_size=SIZE)
    assert recipe.upright == "auto"
    run(recipe, root, category, tmp_path, cache=tmp_path / "cache")
    assert json.loads((tmp_path / "metrics.json").read_text())["upright"] is upright
    assert Detector.load(tmp_path / "model").backbone.upright is upright


def test_pictures_that_are_not_square_are_not_turned(root, tmp_path):
    """Squeezed to a square, an object would change its shape with its direction."""
    wide = tmp_path / "data"
    shutil.copytree(root / "screw", wide / "screw", ignore=shutil.ignore_patterns("*.json"))
    for path in wide.rglob("*.png"):
        with Image.open(path) as image:
            image.resize((2 * SIZE, SIZE)).save(path)
    recipe = recipe_for(method="gaussian", image_size=SIZE)
    found = run(recipe, wide, "screw", tmp_path / "run", cache=tmp_path / "cache")
    assert not found.metrics["upright"]


def test_widgets_do_not_show_turned_maps_over_images_as_they_are(root, fitted):
    test = MVTecAD(root, "screw", "test", SIZE)
    with pytest.raises(FastFlowError, match="upright=False"):
        LevelMixer(fitted, extract(fitted.backbone, test), test)
    with pytest.raises(FastFlowError, match="upright=False"):
        explore_features(fitted.backbone, test)


def test_a_recipe_builds_the_backbone_that_it_says():
    assert recipe_for(image_size=SIZE).changed(upright=True).build_backbone().upright
    assert not recipe_for(image_size=SIZE).build_backbone().upright, "a run decides"
