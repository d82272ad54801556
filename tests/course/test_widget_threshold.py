"""The threshold slider: what it counts, what it draws, and that all of it moves."""

import importlib

import ipywidgets
import numpy as np
import pytest
import torch

from fastflow_utils.course.widgets import explore_threshold
from fastflow_utils.course.widgets.threshold import ThresholdFigure, confusion
from fastflow_utils.data.mvtec import MVTecAD
from fastflow_utils.detector.evaluation import Evaluation
from fastflow_utils.detector.metrics import f1_at, fpr_at, roc_curve

live_module = importlib.import_module("fastflow_utils.course.widgets.explore")


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


def test_a_score_at_the_threshold_is_called_anomalous():
    counts = confusion(torch.tensor([0.5, 0.5]), torch.tensor([0, 1]), 0.5)
    assert (counts.found, counts.missed, counts.false_alarms, counts.passed) == (1, 0, 1, 0)


def point(draw: ThresholdFigure) -> tuple[float, float]:
    x, y = draw.point.get_data()
    return float(x[0]), float(y[0])


def test_the_point_walks_on_the_curve_from_one_corner_to_the_other(evaluation):
    draw = ThresholdFigure(evaluation)
    fpr, tpr = roc_curve(evaluation.scores, evaluation.labels)
    walked = []
    for threshold in [2.0, *sorted(evaluation.scores.tolist(), reverse=True), -1.0]:
        draw(threshold, 0.5, 0)
        walked.append(point(draw))
        x, y = walked[-1]
        on_segment = (fpr[:-1] <= x) & (x <= fpr[1:]) & (tpr[:-1] <= y) & (y <= tpr[1:])
        assert on_segment.any()  # every step is level or upright: no two scores are the same
    assert walked[0] == (0, 0) and walked[-1] == (1, 1)
    assert walked == sorted(walked)


def test_the_overlay_marks_the_pixels_from_the_threshold_on(evaluation):
    draw = ThresholdFigure(evaluation)
    good = evaluation.labels.tolist().index(0)
    draw(0.3, 2.0, good)
    nothing = np.asarray(draw.pixels.get_array())
    draw(0.3, 0.75, good)
    some = np.asarray(draw.pixels.get_array())
    changed = (some != nothing).any(-1)
    assert np.array_equal(changed, evaluation.maps[good, 0].numpy() >= 0.75)


def test_the_truth_is_outlined(evaluation):
    bad = evaluation.labels.tolist().index(1)
    draw = ThresholdFigure(evaluation)
    draw(0.3, 2.0, bad)
    green = np.isclose(np.asarray(draw.pixels.get_array()), [0.2, 1.0, 0.4]).all(-1)
    rows, columns = np.nonzero(evaluation.masks[bad, 0].numpy())
    assert green.any() and not green[rows, columns].any()
    near = np.nonzero(green)
    assert near[0].min() == rows.min() - 1 and near[1].max() == columns.max() + 1


def test_titles_say_what_was_decided(evaluation):
    draw = ThresholdFigure(evaluation)
    bad = evaluation.labels.tolist().index(1)
    draw(-1.0, 0.5, bad)
    assert "called anomalous" in draw.picture.get_title()
    assert draw.spread.get_title() == "4 false alarms | 6 found\n0 passed | 0 missed"
    draw(2.0, 0.5, bad)
    assert "called good" in draw.picture.get_title()
    assert draw.spread.get_title() == "0 false alarms | 0 found\n4 passed | 6 missed"
    assert "threshold 2.00" in draw.curve.get_title()


def test_static_twin_starts_at_the_models_own_thresholds(evaluation):
    figure = explore_threshold(evaluation, [0])
    assert "threshold 0.60" in figure.axes[2].get_title()
    expected = np.asarray(ThresholdFigure(evaluation)(0.6, 0.9, 0).axes[0].images[0].get_array())
    assert np.array_equal(figure.axes[0].images[0].get_array(), expected)


def test_a_threshold_out_of_range_starts_at_its_end(evaluation):
    figure = explore_threshold(evaluation, threshold=torch.inf)
    assert "F1 = 0.00" in figure.axes[2].get_title()


def test_live_every_control_redraws(monkeypatch, evaluation):
    shown = []
    monkeypatch.setattr(live_module, "is_live", lambda: True)
    monkeypatch.setattr(live_module, "display", shown.append)
    assert explore_threshold(evaluation, [7, 0]) is None
    slider, pixels, menu, picture, trouble = shown[0].children
    assert isinstance(slider, ipywidgets.FloatSlider) and slider.continuous_update
    assert [value for _, value in menu.options] == [7, 0]
    seen = {bytes(picture.value)}
    changes = [(slider, slider.min), (pixels, 0.3), (menu, 0), (slider, slider.max)]
    for control, value in changes:
        control.value = value
        assert bytes(picture.value) not in seen and not trouble.value
        seen.add(bytes(picture.value))
