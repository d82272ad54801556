"""The level mixer: equal weights are the model's map, and its scores are fast and true."""

import gzip
import importlib
import json
from base64 import b64decode

import numpy as np
import pytest
import torch

from fastflow_utils.course.widgets import LevelMixer, explore_mixture, mixture_figure
from fastflow_utils.course.widgets.mixer import mix, mixture_data
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


attach_module = importlib.import_module("fastflow_utils.course.live.attach")
mixer_module = importlib.import_module("fastflow_utils.course.widgets.mixer")
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


@pytest.mark.parametrize("weights", [EQUAL, [1.0, 0, 0], [0.2, 0.75, 0.05], [0, 0, 0.4]])
def test_the_page_s_scores_are_off_by_at_most_half_a_step_of_eight_bits(mixer, weights):
    data = explore_mixture(mixer).live_data()
    raw = [gzip.decompress(b64decode(level)) for level in data["maps"]]
    levels = np.stack([np.frombuffer(level, np.uint8) for level in raw]) / 255
    levels = levels.reshape(3, len(mixer.labels), -1)
    assert data["columns"] ** 2 == levels.shape[-1], "the disc's maps are square"
    mixed = np.einsum("l,lni->ni", np.array(weights) / sum(weights), levels)
    scores = np.sort(mixed)[:, -data["top"] :].mean(1)
    assert np.abs(scores - mixer.scores(weights).numpy()).max() <= 1 / 510 + 1e-6


def test_the_page_gets_every_image_and_the_colours_of_the_figures(mixer):
    data = json.loads(json.dumps(explore_mixture(mixer, image=3).live_data()))
    assert data["order"] == list(range(10)) and data["start"] == 3
    assert data["names"][3] == f"{mixer.dataset.defects[3]}, no. 3"
    assert data["inferno"][0] == data["inferno"][127] == [0, 0, 4, 255], "black below the middle"
    assert data["inferno"][255][:3] == pytest.approx([252, 255, 164], abs=1)
    assert "test labels" in data["note"]


def test_a_small_budget_leaves_pictures_out_and_says_so_but_no_map(mixer):
    whole = mixture_data(mixer, image=7)
    less = mixture_data(mixer, 7, budget=len(json.dumps(whole)) - 1)
    assert 7 in less["order"] and less["order"][less["start"]] == 7
    assert len(less["pictures"]) == len(less["order"]) < 10
    assert less["maps"] == whole["maps"] and less["labels"] == whole["labels"]
    assert f"Pictures of {len(less['order'])} of the 10 images" in less["note"]


def test_in_jupyterlab_the_page_s_script_gets_the_same_data(monkeypatch, mixer):
    shown = []
    monkeypatch.setattr(attach_module, "is_live", lambda: True)
    monkeypatch.setattr(attach_module, "display", shown.append)
    assert explore_mixture(mixer, 2) is None
    assert shown[0].data == mixture_data(mixer, 2)


def test_jupyterlab_has_all_pictures_and_a_page_those_that_fit(monkeypatch, mixer):
    monkeypatch.setattr(mixer_module, "BUDGET", 1)
    data = explore_mixture(mixer).live_data()
    assert len(data["pictures"]) == 1 and "Pictures of 1 of the" in data["note"]
    shown = []
    for module in (attach_module, mixer_module):
        monkeypatch.setattr(module, "is_live", lambda: True)
    monkeypatch.setattr(attach_module, "display", shown.append)
    explore_mixture(mixer)
    assert len(shown[0].data["pictures"]) == len(mixer.dataset)


def test_a_defect_s_name_is_no_formula(mixer, monkeypatch):
    sample = mixer.dataset[0]._replace(defect="a$b_{$")
    monkeypatch.setattr(type(mixer.dataset), "__getitem__", lambda *_: sample)
    mixture_figure(mixer, 0, EQUAL).draw_without_rendering()
