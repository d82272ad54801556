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
from tqdm import tqdm

from fastflow_utils import frontend
from fastflow_utils.course import plots
from fastflow_utils.data.mvtec import MVTecAD
from fastflow_utils.data.sample_set import make
from fastflow_utils.detector import intervals
from fastflow_utils.detector.backbones import Backbone
from fastflow_utils.detector.baselines.gaussian import Gaussian
from fastflow_utils.detector.evaluation import Evaluation, evaluate
from fastflow_utils.detector.features import extract
from fastflow_utils.detector.flows import FlowOptions
from fastflow_utils.detector.maps import NORMAL_LEVEL
from fastflow_utils.detector.metrics import aupimo, aupro
from fastflow_utils.detector.model import FastFlow
from fastflow_utils.detector.windows import Windows


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
    assert all(map(math.isnan, good.metrics().values()))
    found = good.label_free()
    assert found["image_fpr"] == (doubtful.scores >= 0.6).float().mean()
    assert found["pixel_fpr"] == pytest.approx(float((doubtful.maps >= 0.8).float().mean()))
    assert math.isnan(found["image_f1"]) and math.isnan(found["pixel_f1"])
    (note,) = good.notes()
    assert "metrics need good and anomalous images" in note and "false-positive rates" in note
    bad = replace(doubtful, labels=torch.ones_like(doubtful.labels))
    undefined = {name for name, value in bad.metrics().items() if np.isnan(value)}
    assert undefined == {"image_auroc", "image_ap", "image_f1", "aupimo"}


class Unmasked:
    """The same split, of whose anomalous images some have no mask."""

    has_masks = False

    def __init__(self, dataset: MVTecAD) -> None:
        self.dataset = dataset
        self.mask_paths = [None, *dataset.mask_paths[1:]]

    def __getattr__(self, name: str) -> object:
        return getattr(self.dataset, name)

    def __getitem__(self, index: int) -> object:
        return self.dataset[index]


@pytest.fixture
def unmasked(doubtful) -> Evaluation:
    masks = doubtful.masks.clone()
    masks[0] = False
    return replace(doubtful, dataset=Unmasked(doubtful.dataset), masks=masks)


def is_of_pixels(name: str) -> bool:
    return "pixel" in name or name.startswith("aup")


def test_without_masks_there_are_metrics_of_images_alone(unmasked, doubtful):
    """A missing mask would count as normal pixels: every metric of pixels would be wrong."""
    pairs = [(unmasked.metrics(), doubtful.metrics())]
    pairs += [(unmasked.label_free(), doubtful.label_free())]
    for found, before in pairs:
        for name, value in found.items():
            is_missing = is_of_pixels(name) and not name.endswith("threshold")
            assert math.isnan(value) if is_missing else value == before[name], name
    assert unmasked.per_defect()["pixel_auroc"].isna().all()
    assert unmasked.per_defect()["image_auroc"].equals(doubtful.per_defect()["image_auroc"])
    (note,) = unmasked.notes()
    assert note.startswith("1 of 6 anomalous test images have no mask: there are no pixel metrics")


def test_without_masks_images_have_the_same_intervals(unmasked, doubtful):
    found, before = unmasked.replicates(50), doubtful.replicates(50)
    assert found.keys() == before.keys()
    for name, values in found.items():
        if is_of_pixels(name):
            assert np.isnan(values).all(), name
        else:
            assert (values == before[name]).all(), name
    intervals = unmasked.intervals(found)
    assert all(map(math.isnan, intervals["aupro"])) and intervals["image_ap"][0] < 1


def some(evaluation: Evaluation, chosen: torch.Tensor) -> Evaluation:
    """A part of the split as if it were all."""
    data = Unmasked(evaluation.dataset)
    places = chosen.nonzero().flatten().tolist()
    data.has_masks = True
    for name in ("paths", "defects", "labels", "mask_paths"):
        setattr(data, name, [getattr(evaluation.dataset, name)[place] for place in places])
    data.counts = lambda: {kind: data.defects.count(kind) for kind in dict.fromkeys(data.defects)}
    parts = {n: getattr(evaluation, n)[chosen] for n in ("maps", "scores", "masks", "labels")}
    return replace(evaluation, dataset=data, **parts)


def test_good_images_alone_give_the_rate_of_false_alarms_and_its_interval(doubtful):
    good = some(doubtful, doubtful.labels == 0)
    found = good.replicates(200)
    known = {name for name, values in found.items() if not np.isnan(values).any()}
    assert known == {"label_free_image_fpr", "label_free_pixel_fpr"}
    low, high = good.intervals(found)["label_free_pixel_fpr"]
    assert low < good.label_free()["pixel_fpr"] < high
    assert good.label_free()["image_fpr"] == doubtful.label_free()["image_fpr"]
    assert list(good.per_defect().columns) == list(doubtful.per_defect().columns)
    assert good.per_defect().empty


def test_no_test_images_at_all_are_said_to_be_none(doubtful, tmp_path):
    nothing = some(doubtful, torch.zeros(len(doubtful.labels), dtype=torch.bool))
    assert all(map(math.isnan, nothing.metrics().values()))
    free = nothing.label_free()
    assert all(math.isnan(free[name]) for name in free if "threshold" not in name)
    assert free["image_threshold"] == doubtful.image_threshold
    assert all(np.isnan(values).all() for values in nothing.replicates(3).values())
    assert nothing.per_defect().empty
    (note,) = nothing.notes()
    assert "no test images" in note
    plots.draw_run(nothing, HISTORY, tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["training.png"]


def pictures(figure: Figure) -> int:
    return sum(bool(axes.images) for axes in figure.axes)


def test_figures_are_of_what_is_known(unmasked, doubtful, tmp_path):
    assert pictures(plots.gallery(unmasked)) == 9, "image, heat map, overlay of three kinds"
    (axes,) = plots.roc(unmasked).axes
    assert [line.get_label() for line in axes.lines][1:] == ["chance"]
    plots.draw_run(unmasked, None, tmp_path)
    assert sorted(file.stem for file in tmp_path.iterdir()) == ["gallery", "roc", "scores"]
    plots.draw_run(some(doubtful, doubtful.labels == 0), None, tmp_path)
    assert sorted(file.stem for file in tmp_path.iterdir()) == ["gallery", "scores"]


def test_maps_need_not_be_square(doubtful, tmp_path):
    """The left half of every map alone: the same pixels as in the square, the others outside."""
    wide = replace(doubtful, maps=doubtful.maps[..., :32], masks=doubtful.masks[..., :32])
    assert not any(map(math.isnan, wide.metrics().values()))
    turned = replace(wide, maps=wide.maps.mT, masks=wide.masks.mT)
    assert turned.metrics() == pytest.approx(wide.metrics())
    assert turned.label_free() == pytest.approx(wide.label_free())
    one, other = wide.replicates(20), turned.replicates(20)
    assert all(one[name] == pytest.approx(other[name]) for name in one)
    lost = replace(wide, masks=wide.masks & False)
    assert "empty at 64 x 32 px" in lost.notes()[0]


def test_batch_size_does_not_matter(evaluation, tmp_path):
    data = evaluation.dataset
    backbone = Backbone("efficientnet_lite0", image_size=64)
    features = extract(backbone, data, cache=tmp_path)
    again = evaluate(FastFlow(backbone, FlowOptions(steps=1)), data, features, batch_size=1)
    torch.testing.assert_close(again.maps, evaluation.maps, rtol=1e-4, atol=1e-5)


def test_a_bar_is_gone_before_the_next_one_is_drawn(evaluation, tmp_path, monkeypatch):
    """Of two at a time a notebook shows control characters, which look like an error."""
    drawn: list[tuple[str, int]] = []

    class Bar(tqdm):
        open = 0

        def __init__(self, *given, **options):
            Bar.open += 1
            drawn.append((options["desc"], Bar.open))
            super().__init__(*given, **options)

        def close(self):
            Bar.open -= not getattr(self, "is_closed", False)
            self.is_closed = True
            super().close()

    monkeypatch.setattr(frontend, "tqdm", Bar)
    monkeypatch.setenv("FASTFLOW_CACHE", str(tmp_path))
    model = Gaussian(Backbone("efficientnet_lite0", image_size=64))
    model.fit(MVTecAD(evaluation.dataset.root, "disc", "train", 64))
    evaluate(model, evaluation.dataset)
    assert ("features", 1) in drawn and ("evaluating", 1) in drawn
    assert max(number for _, number in drawn) == 1


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
    assert pictures(plots.gallery(evaluation)) == 4 * rows
    assert pictures(plots.gallery(evaluation, [0])) == 4


def test_training_curve_has_a_line_for_each_level_and_the_means():
    (axes,) = plots.training_curve(HISTORY).axes
    lines = {line.get_label(): line.get_ydata().tolist() for line in axes.lines}
    assert lines == {
        "level 0": [3.0, 1.5],
        "level 1": [1.0, 0.5],
        "mean, training": [2.0, 1.0],
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


@pytest.mark.parametrize("windows", [None, Windows((64, 96), side=64, overlap=32)])
def test_pictures_that_are_not_square_are_evaluated_at_the_size_of_their_maps(
    tiny, tmp_path, windows
):
    test = MVTecAD(tiny, "disc", "test", (64, 96))
    backbone = Backbone("efficientnet_lite0", image_size=64 if windows else (64, 96))
    model = FastFlow(backbone, FlowOptions(steps=1)).read_as(windows=windows)
    features = None if windows else extract(backbone, test, cache=tmp_path)
    found = evaluate(model, test, features, batch_size=3)
    assert found.maps.shape == found.masks.shape == (len(test), 1, 64, 96)
    for place in (0, len(test) - 1):
        anomaly_map, score = model.predict(test.paths[place])
        torch.testing.assert_close(found.maps[place], anomaly_map[0], rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(found.scores[place], score[0], rtol=1e-3, atol=1e-4)
    assert not any(map(math.isnan, found.metrics().values()))
    plots.draw_run(found, None, tmp_path / "figures")


# A region ---------------------------------------------------------------------------------------


def inside_of(*corners: slice) -> torch.Tensor:
    inside = torch.zeros(64, 64, dtype=torch.bool)
    inside[corners] = True
    return inside


def test_metrics_of_pixels_are_of_those_in_the_region(doubtful):
    """As if the pictures ended there; AUPRO's regions are cut at its edge, too."""
    part = (slice(8, 40), slice(20, 60))
    inside = inside_of(*part)
    region = replace(doubtful, inside=inside, masks=doubtful.masks & inside)
    cut = {name: getattr(region, name)[(..., *part)] for name in ("maps", "masks")}
    alone = replace(doubtful, **cut)
    assert region.metrics() == pytest.approx(alone.metrics())
    assert region.label_free() == pytest.approx(alone.label_free())
    pd.testing.assert_frame_equal(region.per_defect(), alone.per_defect())
    one, other = region.replicates(50), alone.replicates(50)
    assert all(one[name] == pytest.approx(other[name], nan_ok=True) for name in one)
    changed = replace(region, maps=torch.where(inside, region.maps, torch.rand(64, 64)))
    assert changed.metrics() == region.metrics(), "what is outside is not looked at"
    assert "metrics of pixels are of those in the region" in region.notes()


def test_an_image_whose_defect_is_wholly_outside_is_left_out_and_told(tiny, tmp_path):
    test = MVTecAD(tiny, "disc", "test", 64)
    masks = test.masks()
    first = test.labels.index(1)
    inside = ~masks[first, 0]  # everything but one image's defect
    backbone = Backbone("efficientnet_lite0", image_size=64)
    model = FastFlow(backbone, FlowOptions(steps=1)).read_as(region=inside)
    found = evaluate(model, test, extract(backbone, test, cache=tmp_path))
    lost = [
        n
        for n, (mask, label) in enumerate(zip(masks, test.labels, strict=True))
        if label and not (mask & inside).any()
    ]
    kept = [path for n, path in enumerate(test.paths) if n not in lost]
    assert first in lost and found.outside == len(lost) < 6 and found.dataset.paths == kept
    assert len(found.scores) == len(found.maps) == len(found.masks) == len(found.labels)
    assert found.labels.tolist() == found.dataset.labels
    assert not (found.masks & ~inside).any() and found.masks.any()
    notes = " ".join(found.notes())
    assert f"{len(lost)} anomalous test images have their defects wholly outside" in notes
    whole = evaluate(model.read_as(), test, extract(backbone, test, cache=tmp_path))
    assert whole.inside is None and whole.outside == 0 and len(whole.labels) == len(test)


def test_where_every_defect_is_outside_there_are_no_metrics_but_of_false_alarms(tiny, tmp_path):
    test = MVTecAD(tiny, "disc", "test", 64)
    backbone = Backbone("efficientnet_lite0", image_size=64)
    corner = inside_of(slice(0, 8), slice(0, 8))
    model = FastFlow(backbone, FlowOptions(steps=1)).read_as(region=corner)
    found = evaluate(model, test, extract(backbone, test, cache=tmp_path))
    assert found.outside == 6 and set(found.dataset.defects) == {"good"}
    assert all(map(math.isnan, found.metrics().values()))
    assert found.label_free()["image_fpr"] == 0, "never calibrated"
    plots.draw_run(found, None, tmp_path / "figures")


def test_without_masks_nobody_knows_what_is_outside(unmasked):
    notes = replace(unmasked, inside=inside_of(slice(0, 8), slice(0, 8))).notes()
    assert "nobody knows whether their defects are in the region" in notes[0]
    assert not any("metrics of pixels are of" in note for note in notes)
