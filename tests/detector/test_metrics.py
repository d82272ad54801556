"""The metrics agree with scikit-learn or with a plain loop over every threshold."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sklearn
from torch import Tensor
from torchmetrics.functional.classification import binary_auroc

from fastflow_utils.detector import metrics as ours
from fastflow_utils.detector.metrics import (
    aupimo,
    aupro,
    auroc,
    average_precision,
    f1_at,
    fpr_at,
    oracle_f1,
    roc_curve,
    separation,
)
from fastflow_utils.errors import FastFlowError


def sample(seed: int, count: int, scale: float, shift: float, ties: bool):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 3 == 0
    scores = torch.randn(count, generator=generator) + labels
    if ties:
        scores = scores.round()
    return scores * scale + shift, labels


cases = given(
    seed=st.integers(0, 2**31),
    count=st.integers(4, 300),
    scale=st.sampled_from([1e-6, 1.0, 1e3]),
    shift=st.sampled_from([-1e6, -20.0, 0.0, 20.0, 1e6]),
    ties=st.booleans(),
)


@cases
@settings(deadline=None, max_examples=60)
def test_agree_with_scikit_learn(seed, count, scale, shift, ties):
    scores, labels = sample(seed, count, scale, shift, ties)
    expected = sklearn.roc_auc_score(labels, scores.double())
    assert auroc(scores, labels) == pytest.approx(expected, abs=1e-6)
    expected = sklearn.average_precision_score(labels, scores.double())
    assert average_precision(scores, labels) == pytest.approx(expected, abs=1e-5)
    precision, recall, _ = sklearn.precision_recall_curve(labels, scores.double())
    best = (2 * precision * recall / (precision + recall).clip(1e-12)).max()
    f1, threshold = oracle_f1(scores, labels)
    assert f1 == pytest.approx(best, abs=1e-6)
    assert sklearn.f1_score(labels, scores >= threshold) == pytest.approx(f1, abs=1e-6)
    assert f1_at(scores, labels, threshold) == pytest.approx(f1, abs=1e-6)
    (true, false), _ = sklearn.confusion_matrix(labels, scores >= threshold)
    assert fpr_at(scores, labels, threshold) == pytest.approx(false / (true + false))


@pytest.mark.parametrize("shift", [0.0, 20.0, 50.0, 1e6])
def test_the_sigmoid_trap_is_real_and_avoided(shift):
    """What torchmetrics does to raw scores."""
    scores, labels = sample(0, 300, 1.0, shift, ties=False)
    honest = sklearn.roc_auc_score(labels, scores.double())
    assert auroc(scores, labels) == pytest.approx(honest, abs=1e-6)
    if shift >= 50:
        assert float(binary_auroc(scores, labels.long())) == 0.5


@cases
@settings(deadline=None, max_examples=30)
def test_only_the_order_matters(seed, count, scale, shift, ties):
    scores, labels = sample(seed, count, scale, shift, ties)
    ranks = scores.unique(return_inverse=True)[1]
    assert auroc(ranks, labels) == auroc(scores, labels)
    assert auroc(-scores, labels) == pytest.approx(1 - auroc(scores, labels), abs=1e-6)


def test_shape_and_batching_do_not_matter():
    scores, labels = sample(1, 240, 3.0, 20.0, ties=True)
    maps, masks = scores.view(10, 1, 4, 6), labels.view(10, 1, 4, 6)
    order = torch.randperm(10)
    assert auroc(maps, masks) == auroc(scores, labels) == auroc(maps[order], masks[order])
    assert oracle_f1(maps, masks) == oracle_f1(scores, labels)


@pytest.mark.parametrize("part", [1, 7, 300])
def test_counting_in_parts_is_counting_at_once(monkeypatch, part):
    generator = torch.Generator().manual_seed(0)
    scores = torch.randint(0, 40, (3, 1, 10, 10), generator=generator)  # with ties
    labels = torch.rand(scores.shape, generator=generator) < 0.2
    at_once = separation(scores, labels), aupro(scores, labels)
    monkeypatch.setattr(ours, "PART", part)
    assert (separation(scores, labels), aupro(scores, labels)) == at_once


def test_infinite_scores_are_just_the_largest():
    scores = torch.tensor([0.0, 1.0, float("inf"), -float("inf")])
    assert auroc(scores, torch.tensor([0, 0, 1, 0])) == 1.0


def test_roc_curve_bounds_the_area():
    scores, labels = sample(2, 200, 1.0, 0.0, ties=True)
    fpr, tpr = roc_curve(scores, labels)
    assert (fpr.diff() >= 0).all() and (tpr.diff() >= 0).all()
    assert (fpr[0], tpr[0], fpr[-1], tpr[-1]) == (0, 0, 1, 1)
    assert float(torch.trapezoid(tpr, fpr)) == pytest.approx(auroc(scores, labels), abs=1e-6)


def test_a_threshold_that_nothing_reaches_finds_nothing():
    scores, labels = torch.tensor([1.0, 2.0]), torch.tensor([0, 1])
    assert f1_at(scores, labels, math.inf) == fpr_at(scores, labels, math.inf) == 0


# Regions: AUPRO and AUPIMO


def regions(seed: int, ties: bool = False, images: int = 4):
    """Small maps and masks with several regions; at least one image is normal."""
    generator = torch.Generator().manual_seed(seed)
    masks = torch.rand(images, 1, 7, 9, generator=generator) > 0.75
    masks[0] = False
    maps = torch.randn(masks.shape, generator=generator) + masks
    return (maps * 2).round() if ties else maps, masks


def flood(mask: np.ndarray) -> list[list[tuple[int, int]]]:
    """Connected components with 8 neighbours, by hand."""
    left = {tuple(map(int, position)) for position in np.argwhere(mask)}
    found = []
    while left:
        grown, front = [], [left.pop()]
        while front:
            row, column = front.pop()
            grown.append((row, column))
            near = {(row + i, column + j) for i in (-1, 0, 1) for j in (-1, 0, 1)} & left
            left -= near
            front += near
        found.append(grown)
    return found


def brute_aupro(maps, masks, max_fpr):
    maps, masks = maps[:, 0].numpy(), masks[:, 0].numpy()
    points = [(0.0, 0.0)]
    for threshold in sorted(set(maps.ravel()), reverse=True):
        called = maps >= threshold
        overlaps = [
            np.mean([called[image][position] for position in region])
            for image in range(len(maps))
            for region in flood(masks[image])
        ]
        points.append((float(called[~masks].mean()), float(np.mean(overlaps))))
    area = 0.0
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        end = min(x1, max_fpr)
        if end > x0:
            y_end = y0 + (y1 - y0) * (end - x0) / (x1 - x0)
            area += (end - x0) * (y0 + y_end) / 2
    return area / max_fpr


def brute_aupimo(maps, masks, lower, upper, points=20001):
    """Of each FPR on a fine logarithmic grid, the lowest threshold that keeps to it."""
    maps, masks = maps[:, 0].numpy(), masks[:, 0].numpy()
    normal = [image for image in range(len(maps)) if not masks[image].any()]
    others = [image for image in range(len(maps)) if masks[image].any()]
    candidates = [*np.unique(maps), np.inf]
    fpr = np.array([np.mean([(maps[i] >= t).mean() for i in normal]) for t in candidates])
    tpr = np.array(
        [np.mean([(maps[i] >= t)[masks[i]].mean() for i in others]) for t in candidates]
    )
    centres = np.exp(np.linspace(np.log(lower), np.log(upper), 2 * points + 1)[1::2])
    return float(np.mean([tpr[np.flatnonzero(fpr <= rate)[0]] for rate in centres]))


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("max_fpr", [0.05, 0.3, 1.0])
def test_aupro_is_that_of_a_plain_loop(max_fpr, ties):
    for seed in range(4):
        maps, masks = regions(seed, ties)
        expected = brute_aupro(maps, masks, max_fpr)
        assert aupro(maps, masks, max_fpr) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("fpr_range", [(0.02, 0.3), (1e-3, 0.1), (0.1, 1.0)])
def test_aupimo_is_that_of_a_plain_loop(fpr_range, ties):
    for seed in range(4):
        maps, masks = regions(seed, ties, images=5)
        expected = brute_aupimo(maps, masks, *fpr_range)
        assert aupimo(maps, masks, fpr_range) == pytest.approx(expected, abs=1e-3)


def test_every_region_counts_the_same_whatever_its_size():
    masks = torch.zeros(1, 1, 20, 20, dtype=torch.bool)
    masks[..., :10, :10] = True  # large, and missed
    masks[..., 15, 15] = True  # one pixel, and found
    maps = torch.zeros(1, 1, 20, 20)
    maps[..., 15, 15] = 1
    # The curve jumps to 1/2 at FPR 0 and rises to 1 at FPR 1, where the zeros are.
    assert aupro(maps, masks, 1.0) == pytest.approx(0.75)
    assert aupro(maps, masks, 0.3) == pytest.approx(0.5 + 0.5 * 0.3 / 2)


def test_regions_join_across_corners_and_never_across_images():
    masks = torch.zeros(2, 1, 4, 4, dtype=torch.bool)
    masks[0, 0, 0, 0] = masks[0, 0, 1, 1] = masks[1, 0, 1, 1] = True  # two regions
    maps = torch.zeros(2, 1, 4, 4)
    maps[0] = masks[0].float()  # the first region is found
    assert aupro(maps, masks, 1.0) == pytest.approx(0.75)


@pytest.mark.parametrize("metric", [aupro, aupimo])
def test_extremes(metric):
    _, masks = regions(0)
    assert metric(masks.float(), masks) == pytest.approx(1)
    assert metric(-masks.float(), masks) == pytest.approx(0)
    maps, _ = regions(1)
    assert 0 <= metric(maps, masks) <= 1


def test_a_constant_map_is_chance():
    _, masks = regions(0)
    maps = torch.zeros(masks.shape)
    assert aupro(maps, masks, 0.3) == pytest.approx(0.15)
    assert auroc(maps, masks) == pytest.approx(0.5)
    assert aupimo(maps, masks) == 0


@pytest.mark.parametrize("metric", [aupro, aupimo, average_precision])
def test_only_the_order_of_pixels_matters(metric):
    maps, masks = regions(3, ties=True)
    assert metric(maps.exp() * 1e6 - 5, masks) == pytest.approx(metric(maps, masks))
    order = torch.tensor([2, 0, 3, 1])
    assert metric(maps[order], masks[order]) == pytest.approx(metric(maps, masks))


def test_aupimo_forgives_nothing_on_normal_images():
    """A single hot pixel on a normal image hides every defect that is less hot."""
    masks = torch.zeros(2, 1, 100, 100, dtype=torch.bool)
    masks[1, 0, :10, :10] = True
    maps = masks.float()
    assert aupimo(maps, masks, (1e-3, 1e-2)) == pytest.approx(1)
    maps[0, 0, :10, :10] = 2  # 1 % of the normal image
    assert aupimo(maps, masks, (1e-3, 1e-2)) == 0
    assert auroc(maps, masks) > 0.99


def test_aupimo_takes_the_normal_images_from_the_labels_if_given():
    """A defect so small that resizing emptied its mask is no normal image for all that."""
    masks = torch.zeros(3, 1, 10, 10, dtype=torch.bool)
    masks[2, 0, :2, :2] = True
    maps = masks.float()
    maps[1, 0, 5, 5] = 2  # found, but its mask is empty
    assert aupimo(maps, masks, labels=torch.tensor([0, 1, 1])) == 1
    assert aupimo(maps, masks) == 0


def test_aupimo_needs_a_normal_image():
    masks = torch.zeros(2, 1, 4, 4, dtype=torch.bool)
    masks[:, :, 0] = True
    with pytest.raises(FastFlowError, match="no image is normal"):
        aupimo(torch.rand(2, 1, 4, 4), masks)


RANKINGS = [auroc, oracle_f1, roc_curve, average_precision]


@pytest.mark.parametrize("metric", [*RANKINGS, aupro, aupimo])
@pytest.mark.parametrize(
    ("scores", "labels", "message"),
    [
        ([1.0, 2.0], [1, 1], "2 labels, 2 of them anomalous"),
        ([1.0, 2.0], [0, 0], "2 labels, 0 of them anomalous"),
        ([], [], "0 labels"),
        ([1.0, float("nan")], [0, 1], "1 of 2 scores are NaN"),
        ([1.0, 2.0, 3.0], [0, 1], "one label"),
        ([1.0, 2.0, 3.0], [0, 1, 2], "hold 0, 1, 2: expected .*0 and 255"),
        ([1.0, 2.0, 3.0], [0, 1, 255], "hold 0, 1, 255"),
        ([1.0, 2.0], [0, 0.5], "hold 0, 0.5"),
        ([1.0, 2.0], [0, math.nan], "hold 0, nan"),
        ([1.0, 2.0], [-1, 1], "hold -1, 1"),
        ([1.0, 2.0j], [0, 1], "complex"),
    ],
)
def test_mistakes_are_named(metric, scores, labels, message):
    shape = (-1,) if metric in RANKINGS else (1, 1, 1, -1)
    with pytest.raises(FastFlowError, match=message):
        metric(torch.tensor(scores).view(shape), torch.tensor(labels).view(shape))


# The door: one result, however the same data is given

FORMS = {
    "numpy": lambda x: x.numpy(),
    "numpy, read only": lambda x: np.broadcast_to(x.numpy(), x.shape),
    "numpy, reversed twice": lambda x: np.ascontiguousarray(x.numpy()[::-1])[::-1],
    "list": lambda x: x.tolist(),
    "float64": Tensor.double,
    "float16": Tensor.half,
    "bfloat16": Tensor.bfloat16,
    "int64": Tensor.long,
    "gradient": lambda x: x.clone().requires_grad_(),
    "strided": lambda x: torch.stack([x, -x], -1)[..., 0],
    "cuda": Tensor.cuda,
}
TRUTHS = {
    "0 and 1": lambda y: y.long(),
    "0 and 255": lambda y: y.to(torch.uint8) * 255,
    "0.0 and 255.0": lambda y: y.float() * 255,
    "bfloat16, 0 and 255": lambda y: y.bfloat16() * 255,
    "uint8, numpy": lambda y: y.numpy().astype(np.uint8),
    "bool, numpy": lambda y: y.numpy(),
    "uint16, numpy": lambda y: y.numpy().astype(np.uint16) * 255,
    "list": lambda y: y.tolist(),
    "cuda": Tensor.cuda,
}


def every_metric(maps, masks) -> dict[str, float]:
    return {
        "auroc": auroc(maps, masks),
        "average_precision": average_precision(maps, masks),
        "separation": separation(maps, masks),
        "oracle_f1": oracle_f1(maps, masks),
        "fpr_at": fpr_at(maps, masks, 2.0),
        "f1_at": f1_at(maps, masks, 2.0),
        "roc_curve": [rate.tolist() for rate in roc_curve(maps, masks)],
        "aupro": aupro(maps, masks),
        "aupimo": aupimo(maps, masks, (0.01, 0.3)),
    }


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("truth", TRUTHS)
def test_the_form_of_the_inputs_does_not_matter(form, truth):
    if "cuda" in (form, truth) and not torch.cuda.is_available():
        pytest.skip("no CUDA here")
    maps, masks = regions(3, ties=True)  # small integers: every format holds them exactly
    assert every_metric(FORMS[form](maps), TRUTHS[truth](masks)) == every_metric(maps, masks)


def test_maps_may_lack_the_channel():
    maps, masks = regions(3)
    for metric in (aupro, aupimo):
        for chosen in ((maps[:, 0], masks[:, 0]), (maps, masks[:, 0]), (maps[:, 0], masks)):
            assert metric(*chosen) == metric(maps, masks)


@pytest.mark.parametrize("metric", [aupro, aupimo])
@pytest.mark.parametrize("shape", [(4, 2, 7, 9), (7, 9), (4, 1, 1, 7, 9)])
def test_maps_of_another_shape_are_refused(metric, shape):
    maps = torch.rand(shape)
    with pytest.raises(FastFlowError, match=r"maps \(.*expected \(N, 1, H, W\)"):
        metric(maps, maps > 0.5)


@pytest.mark.parametrize("what", ["scores", "labels"])
@pytest.mark.parametrize("odd", [None, "high", [[1.0], [1.0, 2.0]], np.array([object()])])
def test_what_is_no_array_of_numbers_is_refused(what, odd):
    with pytest.raises(FastFlowError, match=f"{what} of type"):
        auroc(*((odd, [0, 1]) if what == "scores" else ([0, 1], odd)))


@pytest.mark.parametrize("max_fpr", [0, -0.1, 1.01, 2, math.nan])
def test_an_end_of_aupro_that_is_no_rate_is_refused(max_fpr):
    with pytest.raises(FastFlowError, match="max_fpr"):
        aupro(*regions(0), max_fpr)


@pytest.mark.parametrize("ends", [(0, 0.1), (-1, 0.1), (0.1, 0.1), (0.3, 0.1), (0.1, 2), (0.1,)])
def test_ends_of_aupimo_that_are_no_range_are_refused(ends):
    with pytest.raises(FastFlowError, match="fpr_range"):
        aupimo(*regions(0), ends)


def test_labels_that_contradict_the_masks_are_refused():
    maps, masks = regions(0)  # only the first mask is empty
    with pytest.raises(FastFlowError, match="1 images are labelled normal"):
        aupimo(maps, masks, labels=torch.tensor([0, 0, 1, 1]))
    with pytest.raises(FastFlowError, match="one for each image"):
        aupimo(maps, masks, labels=torch.tensor([0, 1]))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@given(seed=st.integers(0, 2**31))
@settings(deadline=None, max_examples=20)
def test_a_threshold_is_compared_in_the_precision_of_the_scores(dtype, seed):
    """A score of 0.7 is reached by a threshold of 0.7, though bfloat16 has neither."""
    numbers, labels = sample(seed, 30, 1.0, 0.0, ties=False)
    for threshold in numbers.double().tolist():
        called = numbers.to(dtype) >= torch.tensor(threshold, dtype=dtype)
        expected = 2 * int((called & labels).sum()) / int(called.sum() + labels.sum())
        assert f1_at(numbers.to(dtype), labels, threshold) == expected


def test_a_threshold_out_of_the_range_of_float16_finds_nothing():
    assert f1_at(torch.tensor([1.0, 2.0]).half(), torch.tensor([0, 1]), 1e6) == 0


def test_a_threshold_must_be_a_number():
    with pytest.raises(FastFlowError, match="threshold is NaN"):
        f1_at(torch.tensor([1.0, 2.0]), torch.tensor([0, 1]), math.nan)


def test_infinite_scores_are_ranks_in_maps_too():
    maps, masks = regions(3, ties=True)
    ends = maps.masked_fill(maps == maps.max(), math.inf).masked_fill(
        maps == maps.min(), -math.inf
    )
    for metric in (aupro, aupimo, average_precision):
        assert metric(ends, masks) == metric(maps, masks)


def test_inputs_are_left_as_they_are():
    maps, masks = regions(3)
    before = maps.clone(), masks.clone()
    every_metric(maps, masks)
    assert torch.equal(maps, before[0]) and torch.equal(masks, before[1])
