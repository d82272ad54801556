"""The thresholds: what they count, what is drawn, and what a page gets to move them."""

import gzip
import importlib
import json
from base64 import b64decode
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor

from fastflow_utils.course.live.thumbnails import pack_maps
from fastflow_utils.course.widgets import explore_threshold
from fastflow_utils.course.widgets.threshold import confusion, threshold_data, threshold_figure
from fastflow_utils.data.mvtec import MVTecAD
from fastflow_utils.detector.evaluation import Evaluation
from fastflow_utils.detector.maps import combine
from fastflow_utils.detector.metrics import auroc, f1_at, fpr_at, roc_curve
from fastflow_utils.errors import FastFlowError

attach_module = importlib.import_module("fastflow_utils.course.live.attach")
threshold_module = importlib.import_module("fastflow_utils.course.widgets.threshold")


def unpacked(text: str) -> Tensor:
    return torch.frombuffer(bytearray(gzip.decompress(b64decode(text))), dtype=torch.uint8)


@pytest.fixture
def evaluation(tiny) -> Evaluation:
    data = MVTecAD(tiny, "disc", "test", image_size=64)
    labels = torch.tensor(data.labels)
    generator = torch.Generator().manual_seed(5)
    maps = torch.rand(len(data), 1, 64, 64, generator=generator)
    scores = (torch.rand(len(data), generator=generator) + 0.5 * labels) / 1.5
    return Evaluation(data, maps, scores, data.masks(), labels, 0.6, 0.9)


@pytest.mark.parametrize("threshold", [-1.0, 0.2, 0.5, 0.9, 2.0])
def test_confusion_agrees_with_the_metrics(evaluation, threshold):
    scores, labels = evaluation.scores, evaluation.labels
    counts = confusion(scores, labels, threshold)
    assert counts.found + counts.missed == (labels == 1).sum()
    assert counts.false_alarms + counts.passed == (labels == 0).sum()
    assert counts.fpr == pytest.approx(fpr_at(scores, labels, threshold))
    assert counts.f1 == pytest.approx(f1_at(scores, labels, threshold))
    called = int((scores >= threshold).sum())
    assert counts.precision == (counts.found / called if called else 1)


def test_a_score_at_the_threshold_is_called_anomalous():
    counts = confusion(torch.tensor([0.5, 0.5]), torch.tensor([0, 1]), 0.5)
    assert (counts.found, counts.missed, counts.false_alarms, counts.passed) == (1, 0, 1, 0)


def point(figure: Figure) -> tuple[float, float]:
    x, y = figure.axes[2].lines[-1].get_data()
    return float(x[0]), float(y[0])


def pixels(figure: Figure) -> np.ndarray:
    return np.asarray(figure.axes[0].images[0].get_array())


def test_the_point_walks_on_the_curve_from_one_corner_to_the_other(evaluation):
    fpr, tpr = roc_curve(evaluation.scores, evaluation.labels)
    walked = []
    for threshold in [2.0, *sorted(evaluation.scores.tolist(), reverse=True), -1.0]:
        walked.append(point(threshold_figure(evaluation, threshold, 0.5, 0)))
        x, y = walked[-1]
        on_segment = (fpr[:-1] <= x) & (x <= fpr[1:]) & (tpr[:-1] <= y) & (y <= tpr[1:])
        assert on_segment.any()  # every step is level or upright: no two scores are the same
    assert walked[0] == (0, 0) and walked[-1] == (1, 1)
    assert walked == sorted(walked)


def test_the_overlay_marks_the_pixels_from_the_threshold_on(evaluation):
    good = evaluation.labels.tolist().index(0)
    nothing = pixels(threshold_figure(evaluation, 0.3, 2.0, good))
    some = pixels(threshold_figure(evaluation, 0.3, 0.75, good))
    changed = (some != nothing).any(-1)
    assert np.array_equal(changed, evaluation.maps[good, 0].numpy() >= 0.75)


def test_the_truth_is_outlined(evaluation):
    bad = evaluation.labels.tolist().index(1)
    drawn = pixels(threshold_figure(evaluation, 0.3, 2.0, bad))
    green = np.isclose(drawn, [0.2, 1.0, 0.4]).all(-1)
    rows, columns = np.nonzero(evaluation.masks[bad, 0].numpy())
    assert green.any() and not green[rows, columns].any()
    near = np.nonzero(green)
    assert near[0].min() == rows.min() - 1 and near[1].max() == columns.max() + 1


def test_titles_say_what_was_decided(evaluation):
    bad = evaluation.labels.tolist().index(1)
    picture, spread, _ = threshold_figure(evaluation, -1.0, 0.5, bad).axes
    assert "called anomalous" in picture.get_title()
    assert spread.get_title() == "4 false alarms | 6 found\n0 passed | 0 missed"
    picture, spread, curve = threshold_figure(evaluation, 2.0, 0.5, bad).axes
    assert "called good" in picture.get_title()
    assert spread.get_title() == "0 false alarms | 0 found\n4 passed | 6 missed"
    assert "threshold 2.00" in curve.get_title()


def test_static_twin_starts_at_the_models_own_thresholds(evaluation):
    figure = explore_threshold(evaluation, [0])
    assert "threshold 0.60" in figure.axes[2].get_title()
    np.testing.assert_array_equal(
        pixels(figure), pixels(threshold_figure(evaluation, 0.6, 0.9, 0))
    )


def test_a_threshold_out_of_range_starts_at_its_end(evaluation):
    figure = explore_threshold(evaluation, threshold=torch.inf)
    assert "F1 = 0.00" in figure.axes[2].get_title()
    data = figure.live_data()
    assert data["start"] == data["ends"][1] > max(data["scores"])


def test_a_model_that_was_never_calibrated_has_thresholds_that_json_can_write(evaluation):
    unknown = replace(evaluation, image_threshold=torch.inf, pixel_threshold=torch.inf)
    data = json.loads(json.dumps(explore_threshold(unknown).live_data(), allow_nan=False))
    assert data["own"] == [data["ends"][1], 1]


def test_the_page_gets_exact_scores_and_the_highest_anomalous_image_first(evaluation):
    data = json.loads(json.dumps(explore_threshold(evaluation).live_data()))
    assert torch.equal(torch.tensor(data["scores"]), evaluation.scores)
    assert data["labels"] == evaluation.labels.tolist()
    own = [evaluation.labels[i] for i in data["order"]]
    assert own == sorted(own, reverse=True) and sorted(data["order"]) == list(range(10))
    assert data["areas"][0] == auroc(evaluation.scores, evaluation.labels)
    assert "sample set" in data["note"] or not evaluation.dataset.is_sample_set


def test_a_small_budget_leaves_pictures_out_and_says_so_but_no_score(evaluation):
    whole = threshold_data(evaluation, list(range(10)), 0.5)
    budget = len(json.dumps(whole)) - 1
    less = threshold_data(evaluation, list(range(10)), 0.5, budget)
    count = len(less["pictures"])
    assert len(json.dumps(less)) <= budget and 1 <= count < 10
    assert less["order"] == list(range(count)) and len(less["scores"]) == 10
    assert f"Pictures of {count} of the 10 images" in less["note"]
    assert "Pictures of" not in whole["note"]


@pytest.mark.parametrize("threshold", [0.1, 0.3, 0.5, 0.7, 0.9])
def test_regions_of_the_pages_map_are_the_maps_but_for_one_pixel_in_two_hundred(threshold):
    level = torch.rand(6, 1, 16, 16)  # as rough as a level's map can be
    maps = combine([level, level.round()[..., ::2, ::2]], 256, smoothing=4.0)
    small = unpacked(pack_maps(maps, 128)).reshape(6, 1, 128, 128) / 255
    shown = F.interpolate(small, 256, mode="bilinear")
    assert (shown - maps).abs().max() < 0.01
    changed = (shown >= threshold) != (maps >= threshold)
    assert changed.flatten(1).float().mean(1).max() < 1 / 200


def test_in_jupyterlab_the_page_s_script_gets_the_same_data(monkeypatch, evaluation):
    shown = []
    monkeypatch.setattr(attach_module, "is_live", lambda: True)
    monkeypatch.setattr(attach_module, "display", shown.append)
    assert explore_threshold(evaluation, [7, 0], threshold=0.4) is None
    assert shown[0].data == threshold_data(evaluation, [7, 0], 0.4)


def test_jupyterlab_has_all_pictures_and_a_page_those_that_fit(monkeypatch, evaluation):
    monkeypatch.setattr(threshold_module, "BUDGET", 1)
    data = explore_threshold(evaluation).live_data()
    assert len(data["pictures"]) == 1 and "Pictures of 1 of the" in data["note"]
    shown = []
    for module in (attach_module, threshold_module):
        monkeypatch.setattr(module, "is_live", lambda: True)
    monkeypatch.setattr(attach_module, "display", shown.append)
    explore_threshold(evaluation)
    assert len(shown[0].data["pictures"]) == len(evaluation.dataset)


@pytest.mark.parametrize("score", [0.0, 2.5])
def test_scores_that_are_all_equal_have_a_place_between_the_ends(evaluation, score, recwarn):
    same = replace(evaluation, scores=torch.full_like(evaluation.scores, score))
    figure = explore_threshold(same)
    low, high = figure.live_data()["ends"]
    assert low < score < high
    figure.draw_without_rendering()
    assert not recwarn.list


@pytest.mark.parametrize("wrong", [float("nan"), 1.5])
def test_a_map_that_is_none_is_refused(evaluation, wrong):
    evaluation.maps[0, 0, 3, 3:7] = wrong
    with pytest.raises(FastFlowError, match=r"\[0, 1\]"):
        explore_threshold(evaluation).live_data()
