"""Evaluation and figures say what the maps say, and the sample set is always named."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure
from sklearn.metrics import (
    average_precision_score,
    f1_score,
    precision_recall_curve,
    roc_auc_score,
)

from fastflow_utils.course import plots
from fastflow_utils.data.mvtec import MVTecAD
from fastflow_utils.data.sample_set import make
from fastflow_utils.detector import intervals
from fastflow_utils.detector.backbones import Backbone
from fastflow_utils.detector.evaluation import Evaluation, evaluate
from fastflow_utils.detector.features import extract
from fastflow_utils.detector.flows import FlowOptions
from fastflow_utils.detector.maps import NORMAL_LEVEL
from fastflow_utils.detector.metrics import aupimo, aupro
from fastflow_utils.detector.model import FastFlow


@pytest.fixture(scope="module")
def evaluation(tiny, tmp_path_factory) -> Evaluation:
    """A model that was never trained: any honest metric will do."""
    torch.manual_seed(0)
    test = MVTecAD(tiny, "disc", "test", 64)
    backbone = Backbone("efficientnet_lite0", image_size=64)
    features = extract(backbone, test, cache=tmp_path_factory.mktemp("cache"))
    return evaluate(FastFlow(backbone, FlowOptions(steps=1)), test, features, batch_size=4)


def test_everything_is_in_the_order_of_the_data_set(evaluation):
    data = evaluation.dataset
    assert evaluation.maps.shape == evaluation.masks.shape == (len(data), 1, 64, 64)
    for i, sample in enumerate(data):
        assert torch.equal(evaluation.masks[i], sample.mask)
        assert evaluation.labels[i] == sample.label == int(sample.mask.any())


@pytest.fixture
def doubtful(evaluation) -> Evaluation:
    """A detector that is right more often than not: no two of its metrics are the same."""
    torch.manual_seed(0)
    return replace(
        evaluation,
        maps=torch.rand(evaluation.maps.shape) + 0.3 * evaluation.masks,
        scores=torch.rand(evaluation.scores.shape) + 0.3 * evaluation.labels,
        image_threshold=0.6,
        pixel_threshold=0.8,
    )


def best_f1(truth, scores) -> float:
    precision, recall, _ = precision_recall_curve(truth, scores)
    return (2 * precision * recall / np.maximum(precision + recall, 1e-12)).max()


def test_every_metric_is_what_its_name_says(doubtful):
    evaluation, found = doubtful, doubtful.metrics()
    levels = {
        "image": (evaluation.labels, evaluation.scores),
        "pixel": (evaluation.masks.flatten(), evaluation.maps.flatten()),
    }
    expected = {
        "aupro": aupro(evaluation.maps, evaluation.masks),
        "aupimo": aupimo(evaluation.maps, evaluation.masks),
    }
    for level, (truth, scores) in levels.items():
        expected[f"{level}_auroc"] = roc_auc_score(truth, scores)
        expected[f"{level}_ap"] = average_precision_score(truth, scores)
        expected[f"{level}_f1"] = best_f1(truth, scores)
    assert found == pytest.approx(expected, abs=1e-6)
    assert len(set(found.values())) == len(found), "metrics that cannot be mixed up"


def test_label_free_metrics_are_of_the_models_thresholds(doubtful):
    found = doubtful.label_free()
    for level, truth, scores in [
        ("image", doubtful.labels == 1, doubtful.scores),
        ("pixel", doubtful.masks.flatten(), doubtful.maps.flatten()),
    ]:
        called = scores >= found[f"{level}_threshold"]
        assert found[f"{level}_f1"] == pytest.approx(f1_score(truth, called))
        rate = (called & ~truth).sum() / (~truth).sum()
        assert found[f"{level}_fpr"] == pytest.approx(float(rate)) and 0 < rate < 1
    assert (found["image_threshold"], found["pixel_threshold"]) == (0.6, 0.8)


def test_every_metric_has_replicates_around_it_and_an_interval(doubtful):
    replicates = doubtful.replicates(200)
    free = doubtful.label_free()
    found = doubtful.metrics()
    found |= {f"label_free_{name}": free[name] for name in free if "threshold" not in name}
    assert replicates.keys() == found.keys()
    for name, (low, high) in doubtful.intervals(replicates).items():
        assert replicates[name].shape == (200,), name
        assert low <= found[name] <= high and low < high, name
    again = doubtful.replicates(200)
    assert all((again[name] == values).all() for name, values in replicates.items())


def test_a_perfect_ranking_has_a_bound_and_a_split_of_one_kind_has_nothing(doubtful):
    perfect = replace(doubtful, scores=doubtful.labels.float())
    found = perfect.intervals(perfect.replicates(50))
    normal, anomalous = (doubtful.labels == 0).sum(), (doubtful.labels == 1).sum()
    assert found["image_auroc"] == (intervals.perfect_bound(int(normal), int(anomalous)), 1)
    assert all(map(math.isnan, found["image_ap"]))
    alone = replace(doubtful, labels=torch.ones_like(doubtful.labels))
    missing = alone.replicates(50)
    assert missing.keys() == perfect.replicates(2).keys()
    assert all(np.isnan(values).all() for values in missing.values())
    assert all(map(math.isnan, alone.intervals(missing)["image_auroc"]))


def test_per_defect_compares_each_defect_with_the_good_ones(evaluation):
    table = evaluation.per_defect()
    assert list(table.index) == ["blot", "spot"] and list(table["images"]) == [3, 3]
    defects = np.array(evaluation.dataset.defects)
    chosen = np.isin(defects, ["good", "spot"])
    expected = roc_auc_score(evaluation.labels[chosen], evaluation.scores[chosen])
    assert table.loc["spot", "image_auroc"] == pytest.approx(expected, abs=1e-6)


def without_masks(evaluation: Evaluation, *defects: str) -> Evaluation:
    """The same, with defects so small that reading their masks made them empty."""
    masks = evaluation.masks.clone()
    masks[torch.tensor([defect in defects for defect in evaluation.dataset.defects])] = False
    return replace(evaluation, masks=masks)


def test_a_defect_whose_masks_are_empty_keeps_its_image_metrics(doubtful):
    lost = without_masks(doubtful, "spot")
    before, table = doubtful.per_defect(), lost.per_defect()
    assert table["image_auroc"].equals(before["image_auroc"])
    assert np.isnan(table.loc["spot", "pixel_auroc"])
    assert table.loc["blot", "pixel_auroc"] == before.loc["blot", "pixel_auroc"]
    assert not any(np.isnan(value) for value in lost.metrics().values())
    (note,) = lost.notes()
    assert "3 of 3 masks of 'spot' are empty at 64 px" in note and "no pixel AUROC" in note


def test_a_split_whose_masks_are_all_empty_keeps_its_image_metrics(doubtful):
    lost = without_masks(doubtful, "spot", "blot")
    for found, before in [
        (lost.metrics(), doubtful.metrics()),
        (lost.label_free(), doubtful.label_free()),
    ]:
        for name, value in found.items():
            of_pixels = name.startswith(("pixel", "aup")) and not name.endswith("threshold")
            assert np.isnan(value) if of_pixels else value == before[name], name
    assert lost.per_defect()["pixel_auroc"].isna().all()
    assert len(lost.notes()) == 3 and "all masks are empty at 64 px" in lost.notes()[-1]


def test_one_empty_mask_is_told_and_is_no_normal_image(doubtful):
    masks = doubtful.masks.clone()
    first = doubtful.dataset.defects.index("spot")
    masks[first] = False
    lost = replace(doubtful, masks=masks)
    (note,) = lost.notes()
    assert note.startswith("1 of 3 masks of 'spot'") and "no pixel AUROC" not in note
    rest = torch.arange(len(masks)) != first
    expected = aupimo(doubtful.maps[rest], masks[rest], labels=doubtful.labels[rest])
    assert lost.metrics()["aupimo"] == expected


def test_there_is_nothing_to_note_where_all_is_well(evaluation):
    assert replace(evaluation, image_threshold=0.5).notes() == []


def test_a_split_of_one_kind_has_no_metrics_and_says_so(doubtful):
    nothing = torch.zeros_like(doubtful.masks)
    good = replace(doubtful, labels=torch.zeros_like(doubtful.labels), masks=nothing)
    assert np.isnan(good.metrics()["image_auroc"]) and np.isnan(good.label_free()["image_fpr"])
    (note,) = good.notes()
    assert "metrics need good and anomalous images" in note
    bad = replace(doubtful, labels=torch.ones_like(doubtful.labels))
    undefined = {name for name, value in bad.metrics().items() if np.isnan(value)}
    assert undefined == {"image_auroc", "image_ap", "image_f1", "aupimo"}


def test_batch_size_does_not_matter(evaluation, tmp_path):
    data = evaluation.dataset
    backbone = Backbone("efficientnet_lite0", image_size=64)
    features = extract(backbone, data, cache=tmp_path)
    again = evaluate(FastFlow(backbone, FlowOptions(steps=1)), data, features, batch_size=1)
    torch.testing.assert_close(again.maps, evaluation.maps, rtol=1e-4, atol=1e-5)


def test_evaluating_changes_nothing(evaluation, tmp_path):
    backbone = Backbone("efficientnet_lite0", image_size=64)
    model = FastFlow(backbone, FlowOptions(steps=1)).train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    evaluate(model, evaluation.dataset, extract(backbone, evaluation.dataset, cache=tmp_path))
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


HISTORY = pd.DataFrame(
    {
        "epoch": [1, 2],
        "nll": [2.0, 1.0],
        "nll_0": [3.0, 1.5],
        "nll_1": [1, 0.5],
        "held_out_nll": [2.5, 1.5],
    }
)


@pytest.mark.parametrize("draw", [plots.gallery, plots.score_histogram, plots.roc])
def test_figures_of_an_evaluation_name_the_data(draw, evaluation, tmp_path):
    figure = draw(evaluation)
    assert isinstance(figure, Figure) and figure.dpi <= 100
    texts = [text.get_text() for text in figure.findobj(lambda a: hasattr(a, "get_text"))]
    assert "disc" in texts
    figure.savefig(tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 5000


def test_figures_of_the_sample_set_say_so(tmp_path):
    root = make(tmp_path, ["carpet"], size=64, train=1, good=1, per_defect=1)
    assert MVTecAD(root, "carpet", "test", 64).title == "carpet (sample set)"


def test_gallery_shows_each_folder_once_unless_told(evaluation):
    rows = len({*evaluation.dataset.defects})
    assert len(plots.gallery(evaluation).axes) == 4 * rows
    assert len(plots.gallery(evaluation, [0]).axes) == 4


def test_training_curve_has_a_line_for_each_level_and_the_means():
    (axes,) = plots.training_curve(HISTORY).axes
    lines = {line.get_label(): line.get_ydata().tolist() for line in axes.lines}
    assert lines == {
        "level 0": [3.0, 1.5],
        "level 1": [1.0, 0.5],
        "mean": [2.0, 1.0],
        "mean, held out": [2.5, 1.5],
    }


def test_heat_has_one_scale_for_all():
    assert plots.heat(torch.tensor([0.0, NORMAL_LEVEL, 0.5])).tolist() == [0, 0, 0]
    assert plots.heat(torch.tensor([1.0])).tolist() == [1]
    rising = plots.heat(torch.linspace(0.5, 1, 20))
    assert (rising.diff() > 0).all()


def test_overlay_leaves_normal_places_as_they_are_in_grey():
    image = torch.rand(3, 8, 8)
    drawn = plots.overlay(image, torch.zeros(1, 8, 8))
    np.testing.assert_allclose(drawn, np.repeat(plots.show(image).mean(-1)[..., None], 3, -1))


def test_outline_surrounds_the_mask_and_touches_nothing_else():
    mask = torch.zeros(1, 9, 9, dtype=torch.bool)
    mask[0, 3:6, 3:6] = True
    changed = (plots.outline(np.zeros((9, 9, 3), np.float32), mask) > 0).any(-1)
    assert changed.any() and not changed[mask[0].numpy()].any()
    assert not changed[0].any() and not changed[:, 8].any()
