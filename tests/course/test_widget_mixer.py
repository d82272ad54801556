"""The level mixer: equal weights are the model's map, and its scores are fast and true."""

import pytest
import torch

from fastflow_utils.course.widgets import LevelMixer, explore_mixture, mixture_figure
from fastflow_utils.course.widgets.mixer import mix
from fastflow_utils.data.mvtec import MVTecAD
from fastflow_utils.detector.backbones import Backbone
from fastflow_utils.detector.evaluation import evaluate
from fastflow_utils.detector.features import Features, extract
from fastflow_utils.detector.flows import FlowOptions
from fastflow_utils.detector.maps import image_score
from fastflow_utils.detector.metrics import auroc
from fastflow_utils.detector.model import FastFlow
from fastflow_utils.detector.training import fit

Setting = tuple[FastFlow, MVTecAD, Features]


@pytest.fixture(scope="module")
def setting(tiny, tmp_path_factory) -> Setting:
    backbone = Backbone("efficientnet_lite0", pretrained=False, image_size=64)
    train, test = (MVTecAD(tiny, "disc", name, 64) for name in ("train", "test"))
    cache = tmp_path_factory.mktemp("cache")
    model = FastFlow(backbone, FlowOptions(steps=2))
    fit(model, extract(backbone, train, cache=cache), epochs=2)
    return model, test, extract(backbone, test, cache=cache)


@pytest.fixture(scope="module")
def mixer(setting: Setting) -> LevelMixer:
    model, test, features = setting
    return LevelMixer(model, features, test, batch_size=3)


EQUAL = [1.0, 1.0, 1.0]


@pytest.mark.parametrize("smoothing", [0.0, 4.0])
def test_equal_weights_give_the_models_map(setting, mixer, monkeypatch, smoothing):
    model, _, features = setting
    for detector in (model, mixer.model):
        monkeypatch.setattr(detector, "smoothing", smoothing)
    expected = model.folded().anomaly_map(features[[2, 7]])
    mixed = mix(mixer.at_image_size([2, 7]), [0.4, 0.4, 0.4])
    torch.testing.assert_close(mixed, expected, rtol=0, atol=1e-5)


def test_equal_weights_give_nearly_the_top_of_the_evaluations_maps(setting, mixer):
    model, test, features = setting
    evaluation = evaluate(model, test, features)
    top = image_score(evaluation.maps, model.top)
    assert (mixer.scores(EQUAL) - top).abs().max() < 0.02
    assert abs(mixer.auroc(EQUAL) - auroc(top, evaluation.labels)) < 0.05
    assert torch.equal(mixer.labels, evaluation.labels)


def test_only_proportions_count(mixer):
    torch.testing.assert_close(mixer.scores([0.2, 0.4, 0]), mixer.scores([0.5, 1, 0]))
    assert not torch.allclose(mixer.scores([1, 0, 0]), mixer.scores([0, 0, 1]))


def test_one_level_alone_is_its_own_map(mixer):
    levels = mixer.at_image_size([1])
    torch.testing.assert_close(mix(levels, [0, 0.3, 0]), levels[1])


def test_no_weight_at_all_ranks_nothing(mixer):
    assert mixer.scores([0, 0, 0]).abs().max() == 0 and mixer.auroc([0, 0, 0]) == 0.5
    assert "0.500" in mixture_figure(mixer, 0, [0, 0, 0]).get_suptitle()


def test_the_figure_names_shares_and_auroc(mixer):
    figure = mixture_figure(mixer, 0, [1, 1, 0])
    texts = [[text.get_text() for text in axes.texts] for axes in figure.axes[:2]]
    assert texts[0] == [mixer.dataset[0].defect, "mixture"]
    assert texts[1] == ["stride 4: 50%", "stride 8: 50%", "stride 16: 0%"]
    assert f"{mixer.auroc([1, 1, 0]):.3f}" in figure.get_suptitle()


def test_the_static_twin_has_equal_weights(mixer):
    figure = explore_mixture(mixer, image=3)
    assert f"{mixer.auroc(EQUAL):.3f}" in figure.get_suptitle()
    assert figure.axes[1].texts[0].get_text().endswith("33%")
