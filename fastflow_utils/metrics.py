"""How well scores separate anomalous from normal: torchmetrics behind one safe door.

torchmetrics takes any score outside [0, 1] for a logit and applies a sigmoid to it, batch by
batch. Scores around 20 all become 1.0 in float32, and a perfect detector gets an AUROC of 0.5. So
scores are replaced by their ranks over the whole set first: AUROC and F1 depend on the order only.
"""

import torch
from torch import Tensor
from torchmetrics.functional.classification import (
    binary_auroc,
    binary_precision_recall_curve,
    binary_roc,
)

from fastflow_utils.errors import FastFlowError

__all__ = ["auroc", "oracle_f1", "rank", "roc_curve"]


def rank(scores: Tensor) -> Tensor:
    """Replace scores by their ranks, scaled to [0, 1]: the same order, the same ties.

    Args:
        scores: Any shape, any range, infinities included, no NaN.

    Returns:
        The same shape, float64; equal scores have equal ranks. Memory: O(number of scores).

    Raises:
        FastFlowError: If a score is NaN.

    Example:
        >>> rank(torch.tensor([3.0, -1e6, 20.0, 3.0]))
        tensor([0.5000, 0.0000, 1.0000, 0.5000], dtype=torch.float64)
    """
    if scores.isnan().any():
        raise FastFlowError(
            f"{int(scores.isnan().sum())} of {scores.numel()} scores are NaN: expected numbers"
        )
    values, ranks = torch.unique(scores, return_inverse=True)
    scaled: Tensor = ranks.double() / max(1, len(values) - 1)
    return scaled


def _prepare(scores: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    if scores.shape != labels.shape:
        raise FastFlowError(
            f"scores {tuple(scores.shape)} and labels {tuple(labels.shape)}: expected one label "
            "for each score"
        )
    labels = labels.flatten().long()
    if labels.numel() == 0 or labels.min() == labels.max():
        raise FastFlowError(
            f"{len(labels)} labels, {int(labels.sum())} of them anomalous: a metric of separation "
            "needs both normal and anomalous ones"
        )
    return rank(scores.flatten()), labels


def auroc(scores: Tensor, labels: Tensor) -> float:
    """Return the area under the ROC curve: how often an anomalous one scores above a normal one.

    Of images: give ``score`` (N,) and the labels. Of pixels: give the maps (N, 1, H, W) and the
    masks. Ties count one half.

    Args:
        scores: Any shape; higher is more anomalous.
        labels: The same shape; 1 or True is anomalous.

    Returns:
        In [0, 1]: 0.5 is chance, 1 is perfect.

    Raises:
        FastFlowError: If the shapes differ, a score is NaN, or only one class is there.

    Example:
        >>> auroc(torch.tensor([21.0, 23.0, 22.0, 24.0]), torch.tensor([0, 0, 1, 1]))
        0.75
    """
    return float(binary_auroc(*_prepare(scores, labels)))


def roc_curve(scores: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the false and true positive rates over all thresholds, from (0, 0) to (1, 1).

    Args and errors as for :func:`auroc`.

    Example:
        >>> fpr, tpr = roc_curve(torch.tensor([1.0, 9.0]), torch.tensor([0, 1]))
        >>> fpr.tolist(), tpr.tolist()
        ([0.0, 0.0, 1.0], [0.0, 1.0, 1.0])
    """
    fpr, tpr, _ = binary_roc(*_prepare(scores, labels))
    return fpr, tpr


def oracle_f1(scores: Tensor, labels: Tensor) -> tuple[float, float]:
    r"""Return the best F1 over all thresholds, and the threshold that reaches it.

    .. math:: F_1 = \frac{2PR}{P + R}

    An oracle: it looks at the labels of the very images that it judges, so no detector in use
    reaches it except by luck. Say so wherever it is printed.

    Args:
        scores: Any shape; higher is more anomalous.
        labels: The same shape; 1 or True is anomalous.

    Returns:
        F1 in [0, 1], higher is better, and the threshold: ``scores >= threshold`` gives this F1.

    Raises:
        FastFlowError: As for :func:`auroc`.

    Example:
        >>> oracle_f1(torch.tensor([1.0, 5.0, 4.0, 9.0]), torch.tensor([0, 0, 1, 1]))
        (0.800000011920929, 4.0)
    """
    ranks, truth = _prepare(scores, labels)
    precision, recall, thresholds = binary_precision_recall_curve(ranks, truth)
    f1 = 2 * precision * recall / (precision + recall).clamp_min(1e-12)
    best = int(f1[:-1].argmax())  # the curve's last point has no threshold
    values = scores.unique()
    index = round(float(thresholds[best]) * max(1, len(values) - 1))
    return float(f1[best]), float(values[index])
