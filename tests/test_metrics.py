"""The metrics agree with scikit-learn, whatever the range of the scores."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sklearn
from torchmetrics.functional.classification import binary_auroc

from fastflow_utils.errors import FastFlowError
from fastflow_utils.metrics import auroc, oracle_f1, rank, roc_curve


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
    precision, recall, _ = sklearn.precision_recall_curve(labels, scores.double())
    best = (2 * precision * recall / (precision + recall).clip(1e-12)).max()
    f1, threshold = oracle_f1(scores, labels)
    assert f1 == pytest.approx(best, abs=1e-6)
    assert sklearn.f1_score(labels, scores >= threshold) == pytest.approx(f1, abs=1e-6)


@pytest.mark.parametrize("shift", [0.0, 20.0, 50.0, 1e6])
def test_the_sigmoid_trap_is_real_and_avoided(shift):
    """What torchmetrics does to raw scores: here its door is opened by hand."""
    scores, labels = sample(0, 300, 1.0, shift, ties=False)
    honest = sklearn.roc_auc_score(labels, scores.double())
    assert auroc(scores, labels) == pytest.approx(honest, abs=1e-6)
    if shift >= 50:
        assert float(binary_auroc(scores, labels.long())) == 0.5


@cases
@settings(deadline=None, max_examples=30)
def test_only_the_order_matters(seed, count, scale, shift, ties):
    scores, labels = sample(seed, count, scale, shift, ties)
    assert auroc(rank(scores), labels) == auroc(scores, labels)
    assert auroc(-scores, labels) == pytest.approx(1 - auroc(scores, labels), abs=1e-6)


def test_shape_and_batching_do_not_matter():
    scores, labels = sample(1, 240, 3.0, 20.0, ties=True)
    maps, masks = scores.view(10, 1, 4, 6), labels.view(10, 1, 4, 6)
    order = torch.randperm(10)
    assert auroc(maps, masks) == auroc(scores, labels) == auroc(maps[order], masks[order])
    assert oracle_f1(maps, masks) == oracle_f1(scores, labels)


def test_infinite_scores_are_just_the_largest():
    scores = torch.tensor([0.0, 1.0, float("inf"), -float("inf")])
    assert auroc(scores, torch.tensor([0, 0, 1, 0])) == 1.0


def test_roc_curve_bounds_the_area():
    scores, labels = sample(2, 200, 1.0, 0.0, ties=True)
    fpr, tpr = roc_curve(scores, labels)
    assert (fpr.diff() >= 0).all() and (tpr.diff() >= 0).all()
    assert (fpr[0], tpr[0], fpr[-1], tpr[-1]) == (0, 0, 1, 1)
    assert float(torch.trapezoid(tpr, fpr)) == pytest.approx(auroc(scores, labels), abs=1e-6)


@pytest.mark.parametrize("metric", [auroc, oracle_f1, roc_curve])
@pytest.mark.parametrize(
    ("scores", "labels", "message"),
    [
        ([1.0, 2.0], [1, 1], "2 labels, 2 of them anomalous"),
        ([1.0, 2.0], [0, 0], "2 labels, 0 of them anomalous"),
        ([], [], "0 labels"),
        ([1.0, float("nan")], [0, 1], "1 of 2 scores are NaN"),
        ([1.0, 2.0, 3.0], [0, 1], "one label"),
    ],
)
def test_mistakes_are_named(metric, scores, labels, message):
    with pytest.raises(FastFlowError, match=message):
        metric(torch.tensor(scores), torch.tensor(labels))
