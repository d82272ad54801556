"""How well scores separate anomalous from normal: exact metrics, from the order of scores only.

Every metric depends on the order only, whatever the scores' range. (torchmetrics takes any score
outside [0, 1] for a logit and applies a sigmoid to it: scores around 20 all become 1.0 in float32,
and a perfect detector gets an AUROC of 0.5.)

They need no curve over all scores. Between two anomalous scores only false positives are added, so
the points at the anomalous scores say everything, and there are few of them. The normal ones are
sorted and counted a part at a time: millions of pixels need little more memory than they have
already, where torchmetrics and scikit-learn take some 80 bytes each. The tests hold every metric
against theirs or against a plain loop.

Metrics of images take ``score`` (N,) and the labels. Metrics of pixels take the maps (N, 1, H, W)
and the masks, at the resolution of the maps; AUPRO and AUPIMO look at regions of pixels.
Everywhere, higher scores are more anomalous, and higher metrics are better unless said otherwise.

All inputs pass one door, :func:`paired`: tensors on any device or NumPy arrays, of any number
format. ``detector.metric_classes`` holds the same metrics as torchmetrics classes.
"""

import math
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from torch import Tensor

from fastflow_utils.errors import FastFlowError

__all__ = [
    "Separation",
    "as_numpy",
    "aupimo",
    "aupro",
    "auroc",
    "average_precision",
    "f1_at",
    "fpr_at",
    "oracle_f1",
    "paired",
    "paired_maps",
    "regions_of",
    "roc_curve",
    "separation",
]

Values: TypeAlias = Tensor | npt.ArrayLike

PART = 2**22
"""Scores that are sorted at a time."""

# The door: what people have becomes scores and truth ---------------------------------------------


def paired(scores: Values, labels: Values) -> tuple[Tensor, Tensor]:
    """Return scores and labels as every metric wants them.

    Args:
        scores: Tensor or array of any shape; infinities are the first and the last rank.
        labels: The same shape: bool, 0 and 1, or 0 and 255, in any number format.

    Returns:
        The scores without gradient, in their own precision (integers become float64), and the
        labels as bool, on the scores' device.

    Raises:
        FastFlowError: If the shapes differ, a score is NaN, or a label is neither normal nor
            anomalous.

    Example:
        >>> paired(np.array([0.5, 2.0], np.float16), [0, 255])
        (tensor([0.5000, 2.0000], dtype=torch.float16), tensor([False,  True]))
    """
    numbers, truth = _scores(scores), _truth(labels)
    if numbers.shape != truth.shape:
        raise FastFlowError(
            f"scores {tuple(numbers.shape)} and labels {tuple(truth.shape)}: expected one label "
            "for each score"
        )
    return numbers, truth.to(numbers.device)


def paired_maps(maps: Values, masks: Values) -> tuple[Tensor, Tensor]:
    """Return maps and masks as :func:`paired` does, both (N, 1, H, W).

    Args:
        maps: (N, 1, H, W) or (N, H, W).
        masks: The same; one of the two may lack the channel.

    Raises:
        FastFlowError: As for :func:`paired`, or for another shape.

    Example:
        >>> maps, masks = paired_maps(torch.rand(2, 8, 8), torch.zeros(2, 1, 8, 8))
        >>> maps.shape, masks.shape
        (torch.Size([2, 1, 8, 8]), torch.Size([2, 1, 8, 8]))
    """
    return paired(_with_channel(maps, "maps"), _with_channel(masks, "masks"))


def _scores(values: Values) -> Tensor:
    scores = _tensor(values, "scores")
    if not scores.is_floating_point():
        scores = scores.double()
    if scores.numel() and scores.max().isnan():  # a NaN is always the maximum
        raise FastFlowError(
            f"{int(scores.isnan().sum())} of {scores.numel()} scores are NaN: expected numbers"
        )
    return scores


def _truth(values: Values) -> Tensor:
    labels = _tensor(values, "labels")
    if labels.dtype == torch.bool:
        return labels
    normal = labels == 0
    if not any((normal | (labels == anomalous)).all() for anomalous in (1, 255)):
        held = labels.unique().tolist()
        found = ", ".join(f"{value:g}" for value in held[:5]) + ", ..." * (len(held) > 5)
        raise FastFlowError(
            f"labels or masks hold {found}: expected False and True, 0 and 1, or 0 and 255; "
            "for other values give a comparison, such as mask > 0"
        )
    return ~normal


def _with_channel(values: Values, name: str) -> Tensor:
    images = _tensor(values, name)
    if images.ndim == 3:
        images = images[:, None]
    if images.ndim != 4 or images.shape[1] != 1:
        raise FastFlowError(
            f"{name} {tuple(images.shape)}: expected (N, 1, H, W) or (N, H, W), one channel for "
            "each image"
        )
    return images


def _tensor(values: Values, name: str) -> Tensor:
    if not isinstance(values, Tensor):
        try:  # torch wants memory that is contiguous and writable
            values = torch.from_numpy(np.require(values, requirements=["C", "W"]))
        except (TypeError, ValueError) as error:
            raise FastFlowError(
                f"{name} of type {type(values).__name__}: expected a tensor or an array of numbers"
            ) from error
    if values.is_complex():
        raise FastFlowError(f"{name} are complex numbers, which have no order: expected real ones")
    return values.detach()


def _comparable(scores: Values, labels: Values) -> tuple[Tensor, Tensor]:
    """:func:`paired`, for a metric that compares normal and anomalous ones."""
    numbers, truth = paired(scores, labels)
    anomalous = int(truth.count_nonzero())
    if anomalous in (0, truth.numel()):
        raise FastFlowError(
            f"{truth.numel()} labels, {anomalous} of them anomalous: a metric of separation "
            "needs both normal and anomalous ones"
        )
    return numbers, truth


def as_numpy(values: Tensor) -> np.ndarray:
    """Return the same numbers for NumPy, which has no bfloat16 and sorts no float16 fast."""
    small = values.is_floating_point() and values.itemsize < 4
    return (values.float() if small else values).cpu().numpy()


# Rankings of images or of pixels -----------------------------------------------------------------


class Separation(NamedTuple):
    """The metrics of one ranking: :func:`auroc`, :func:`average_precision`, :func:`oracle_f1`."""

    auroc: float
    average_precision: float
    f1: float
    threshold: float


def separation(scores: Values, labels: Values) -> Separation:
    """Return AUROC, average precision, the best F1 and its threshold, counted once.

    Args and errors as for :func:`auroc`. Memory: about 100 bytes for each
    anomalous score, little for the normal ones.

    Example:
        >>> separation(torch.tensor([1.0, 9.0]), torch.tensor([0, 1]))
        Separation(auroc=1.0, average_precision=1.0, f1=1.0, threshold=9.0)
    """
    steps = _staircase(*_comparable(scores, labels))
    precision = steps.tp / (steps.tp + steps.fp)
    f1 = 2 * steps.tp / (steps.tp + steps.fp + steps.tp[-1])
    best = int(f1.argmax())
    return Separation(
        auroc=_area(*steps.curve(), end=1),
        average_precision=float(np.average(precision, weights=np.diff(steps.tp, prepend=0))),
        f1=float(f1[best]),
        threshold=float(steps.threshold[best]),
    )


class _Staircase(NamedTuple):
    """What "score >= threshold" calls anomalous, at every distinct anomalous score.

    From the highest threshold down. Lower thresholds up to the next add false positives only.
    """

    threshold: np.ndarray
    fp_above: np.ndarray  # normal ones above the threshold, without those at it
    fp: np.ndarray  # normal ones at or above it
    tp: np.ndarray  # weight of the anomalous ones at or above it
    normal: int  # all the normal ones

    def curve(self) -> tuple[np.ndarray, np.ndarray]:
        """The ROC polyline: FPR and TPR, from (0, 0) to (1, 1); ties are its slopes."""
        fpr = np.column_stack([self.fp_above, self.fp]).ravel() / self.normal
        tpr = np.column_stack([np.append(0, self.tp[:-1]), self.tp]).ravel() / self.tp[-1]
        return np.concatenate([[0], fpr, [1]]), np.concatenate([[0], tpr, [1]])


def _staircase(scores: Tensor, labels: Tensor, weights: np.ndarray | None = None) -> _Staircase:
    """Count for :class:`_Staircase`; ``weights`` are of the anomalous ones, 1 by default."""
    truth, flat = as_numpy(labels.flatten()), as_numpy(scores.flatten())
    values, which = np.unique(flat[truth], return_inverse=True)
    below = np.zeros((2, len(values)), np.int64)  # normal ones: below each value, and up to it
    normal = 0
    for start in range(0, len(flat), PART):
        part = slice(start, start + PART)
        ordered = np.sort(flat[part][~truth[part]])
        below += [np.searchsorted(ordered, values, side=side) for side in ("left", "right")]
        normal += len(ordered)
    fp, fp_above = normal - below[:, ::-1]
    return _Staircase(
        threshold=values[::-1],
        fp_above=fp_above,
        fp=fp,
        tp=np.bincount(which, weights)[::-1].cumsum(),
        normal=normal,
    )


def auroc(scores: Values, labels: Values) -> float:
    """Return the area under the ROC curve: how often an anomalous one scores above a normal one.

    Of images: give ``score`` (N,) and the labels. Of pixels: give the maps (N, 1, H, W) and the
    masks. Ties count one half.

    Args:
        scores: Any shape; higher is more anomalous.
        labels: The same shape; True, 1 or 255 is anomalous.

    Returns:
        In [0, 1]: 0.5 is chance, 1 is perfect.

    Raises:
        FastFlowError: As for :func:`paired`, or if only one class is there.

    Example:
        >>> auroc(torch.tensor([21.0, 23.0, 22.0, 24.0]), torch.tensor([0, 0, 1, 1]))
        0.75
    """
    return separation(scores, labels).auroc


def roc_curve(scores: Values, labels: Values) -> tuple[Tensor, Tensor]:
    """Return the false and true positive rates over all thresholds, from (0, 0) to (1, 1).

    Args and errors as for :func:`auroc`.

    Example:
        >>> fpr, tpr = roc_curve(torch.tensor([1.0, 9.0]), torch.tensor([0, 1]))
        >>> fpr.tolist(), tpr.tolist()
        ([0.0, 0.0, 0.0, 1.0], [0.0, 0.0, 1.0, 1.0])
    """
    fpr, tpr = _staircase(*_comparable(scores, labels)).curve()
    return torch.from_numpy(fpr), torch.from_numpy(tpr)


def oracle_f1(scores: Values, labels: Values) -> tuple[float, float]:
    r"""Return the best F1 over all thresholds, and the threshold that reaches it.

    .. math:: F_1 = \frac{2PR}{P + R}

    An oracle: it looks at the labels of the very images that it judges, so no detector in use
    reaches it except by luck. Say so wherever it is printed.

    Args:
        scores: Any shape; higher is more anomalous.
        labels: The same shape; True, 1 or 255 is anomalous.

    Returns:
        F1 in [0, 1], higher is better, and the threshold: ``scores >= threshold`` gives this F1.

    Raises:
        FastFlowError: As for :func:`auroc`.

    Example:
        >>> oracle_f1(torch.tensor([1.0, 5.0, 4.0, 9.0]), torch.tensor([0, 0, 1, 1]))
        (0.8, 4.0)
    """
    _, _, f1, threshold = separation(scores, labels)
    return f1, threshold


def average_precision(scores: Values, labels: Values) -> float:
    r"""Return the area under the precision-recall curve, as the sum of steps.

    .. math:: AP = \sum_k (R_k - R_{k-1}) P_k

    Unlike AUROC it falls when anomalies are rare, as defective pixels are: chance is their share.

    Args and errors as for :func:`auroc`.

    Returns:
        In [0, 1]: 1 is perfect.

    Example:
        >>> scores, labels = torch.tensor([1.0, 5.0, 4.0, 9.0]), torch.tensor([0, 0, 1, 1])
        >>> round(average_precision(scores, labels), 4)  # (1 + 2/3) / 2
        0.8333
    """
    return separation(scores, labels).average_precision


def fpr_at(scores: Values, labels: Values, threshold: float) -> float:
    """Return the false-positive rate: the share of the normal ones with ``scores >= threshold``.

    Args and errors as for :func:`auroc`; the threshold is rounded to the scores' precision. Lower
    is better.

    Example:
        >>> fpr_at(torch.tensor([1.0, 5.0, 4.0, 9.0]), torch.tensor([0, 0, 1, 1]), 4.5)
        0.5
    """
    called, truth = _called(scores, labels, threshold)
    return int((called & ~truth).count_nonzero()) / int((~truth).count_nonzero())


def f1_at(scores: Values, labels: Values, threshold: float) -> float:
    """Return F1 of calling anomalous what has ``scores >= threshold``; 0 if nothing has.

    Args and errors as for :func:`fpr_at`; higher is better.

    Example:
        >>> f1_at(torch.tensor([1.0, 5.0, 4.0, 9.0]), torch.tensor([0, 0, 1, 1]), 4.5)
        0.5
    """
    called, truth = _called(scores, labels, threshold)
    both, *each = (int(one.count_nonzero()) for one in (called & truth, called, truth))
    return 2 * both / sum(each)


def _called(scores: Values, labels: Values, threshold: float) -> tuple[Tensor, Tensor]:
    """What the threshold calls anomalous, and what is."""
    if math.isnan(threshold := float(threshold)):
        raise FastFlowError("the threshold is NaN: expected a number")
    numbers, truth = _comparable(scores, labels)
    # Rounded as the scores are: a threshold that was one of them finds it again.
    return numbers >= torch.tensor(threshold, dtype=numbers.dtype), truth


# Regions -----------------------------------------------------------------------------------------


def aupro(
    maps: Values, masks: Values, max_fpr: float = 0.3, regions: np.ndarray | None = None
) -> float:
    r"""Return the area under the per-region overlap curve, up to a false-positive rate.

    .. math:: \frac{1}{m} \int_0^{m} \mathrm{PRO} \; d\mathrm{FPR}, \qquad
        \mathrm{PRO}(t) = \frac{1}{K} \sum_{k=1}^{K} \frac{|R_k \cap \{s \ge t\}|}{|R_k|}

    The regions :math:`R_k` are the connected components (8 neighbours) of all masks, so a small
    defect counts as much as a large one. FPR is over all normal pixels of all images, those of
    anomalous images included; m = ``max_fpr``. Every distinct score is a threshold, and the curve
    is linear between them, and to the point at m.

    Source: Bergmann et al., IJCV 2021 (The MVTec Anomaly Detection Dataset).

    Args:
        maps: (N, 1, H, W) or (N, H, W); higher is more anomalous.
        masks: The same; True, 1 or 255 is anomalous.
        max_fpr: m, in (0, 1].
        regions: Which one each anomalous pixel is in, as :func:`regions_of` numbers them, where
            the masks cannot say it: of pixels that were selected. Default: of the masks.

    Returns:
        In [0, 1]: 1 is perfect, m / 2 is chance.

    Raises:
        FastFlowError: As for :func:`auroc`, or if ``max_fpr`` or a shape is another.

    Example:
        >>> maps = torch.tensor([[[[9.0, 8.0, 1.0, 7.0, 0.0, 0.0]]]])
        >>> aupro(maps, torch.tensor([[[[1, 1, 0, 1, 0, 0]]]]))
        1.0
    """
    check_max_fpr(max_fpr)
    scores, truth = _comparable(*paired_maps(maps, masks))
    if regions is None:
        regions = regions_of(truth)
    weights = 1 / np.bincount(regions)[regions]  # each region's pixels sum to 1
    return _area(*_staircase(scores, truth, weights).curve(), end=max_fpr) / max_fpr


def check_max_fpr(max_fpr: float) -> None:
    """Refuse an upper end of :func:`aupro`'s integral that is not in (0, 1]."""
    if not 0 < max_fpr <= 1:
        raise FastFlowError(f"max_fpr {max_fpr}: expected a rate above 0 and up to 1, such as 0.3")


def aupimo(
    maps: Values,
    masks: Values,
    fpr_range: tuple[float, float] = (1e-5, 1e-4),
    *,
    labels: Values | None = None,
) -> float:
    r"""Return the area under the per-image overlap curve, averaged over the anomalous images.

    .. math:: \frac{1}{\log(U / L)} \int_{\log L}^{\log U} \mathrm{TPR}_i \; d\log \mathrm{FPR}

    FPR at a threshold is the share of pixels at or above it in the normal *images*, with equal
    weight for each; TPR of an anomalous image i is the share of its anomalous pixels. L and U are
    so low that almost nothing may be wrong on a normal image: the metric says which share of each
    defect is found by a detector that people would leave switched on.

    The curve has a step at every distinct score of the normal images, and TPR at a given FPR is
    that of the lowest threshold which stays at or below it. With so few normal pixels that L is
    less than one of them, the part of the integral below one pixel counts the TPR at no false
    positive at all.

    Source: Bertoldo et al., BMVC 2024 (AUPIMO, arXiv 2401.01984).

    Args:
        maps: (N, 1, H, W) or (N, H, W); higher is more anomalous.
        masks: The same; True, 1 or 255 is anomalous.
        fpr_range: L and U, 0 < L < U <= 1.
        labels: (N,), 0 for the normal images, from which FPR is taken. Default: those whose mask
            is empty. Resizing can empty the mask of an anomalous image: given labels, it is
            neither normal nor judged.

    Returns:
        In [0, 1]: 1 is perfect. Memory: 4 bytes for each pixel of a normal image.

    Raises:
        FastFlowError: As for :func:`auroc`, or if a shape or ``fpr_range`` is another, no image
            is normal throughout, or a normal image has anomalous pixels.

    Example:
        >>> maps = torch.tensor([[[[1.0, 2.0]]], [[[1.5, 3.0]]]])
        >>> round(aupimo(maps, torch.tensor([[[[0, 0]]], [[[1, 1]]]])), 6)
        0.5
    """
    check_fpr_range(fpr_range)
    lower, upper = fpr_range
    both = _comparable(*paired_maps(maps, masks))
    good = ~as_numpy(image_labels(both[1], labels))
    pixels, truth = (as_numpy(one.flatten(1)) for one in both)
    anomalous = truth.any(1)
    if not good.any():
        raise FastFlowError(
            "no image is normal throughout: AUPIMO takes its thresholds from those"
        )
    # FPR is a staircase: with k normal pixels at or above the threshold it is k / n. On the step
    # between k / n and (k + 1) / n, the threshold lies just above the (k + 1)-th highest score.
    normal = pixels[good].ravel()
    steps = np.arange(int(np.ceil(upper * len(normal))) + 1)
    edges = np.clip(np.append(steps, steps[-1] + 1) / len(normal), lower, upper)
    widths = np.diff(np.log(edges))
    highest = min(len(steps), len(normal))
    normal.partition(len(normal) - highest)  # the highest come last: only they need an order
    thresholds = np.sort(normal[-highest:])[::-1][np.minimum(steps, highest - 1)]
    tpr = []
    for image in np.flatnonzero(anomalous):
        defect = np.sort(pixels[image][truth[image]])
        above = len(defect) - np.searchsorted(defect, thresholds, side="right")
        tpr.append(np.average(above / len(defect), weights=widths))
    return float(np.mean(tpr))


def check_fpr_range(fpr_range: tuple[float, float]) -> None:
    """Refuse ends of :func:`aupimo`'s integral that are not 0 < L < U <= 1."""
    if len(fpr_range) != 2 or not 0 < fpr_range[0] < fpr_range[1] <= 1:
        raise FastFlowError(
            f"fpr_range {fpr_range}: expected two rates, 0 < lower < upper <= 1, such as "
            "(1e-5, 1e-4)"
        )


def image_labels(masks: Tensor, labels: Values | None) -> Tensor:
    """Return the images' labels (N,) as bool: those given, else whether a mask is not empty.

    Raises:
        FastFlowError: If there is not one label for each mask, or they contradict each other.
    """
    marked = masks.flatten(1).any(1)
    if labels is None:
        return marked
    truth = _truth(labels).to(masks.device)
    if truth.shape != marked.shape:
        raise FastFlowError(
            f"labels {tuple(truth.shape)} for {len(masks)} masks: expected one for each image"
        )
    if wrong := int((marked & ~truth).count_nonzero()):
        raise FastFlowError(
            f"{wrong} images are labelled normal but have anomalous pixels: labels and masks must "
            "be of the same images, in the same order"
        )
    return truth


def regions_of(masks: Tensor) -> np.ndarray:
    """Number the connected components (8 neighbours) of all masks (N, 1, H, W), from 0.

    Returns:
        One number for each True pixel, in order.

    Example:
        >>> regions_of(torch.tensor([[[[True, True, False, True]]]])).tolist()
        [0, 0, 1]
    """
    numbers, count = [np.array([], int)], 0
    for mask in as_numpy(masks[:, 0]):
        regions, found = ndimage.label(mask, np.ones((3, 3)))
        numbers.append(regions[mask] + (count - 1))
        count += found
    return np.concatenate(numbers)


def _area(x: np.ndarray, y: np.ndarray, end: float) -> float:
    """Integrate y over x, linear in between, from 0 to ``end``."""
    stop = int(np.searchsorted(x, end))  # the first point at or beyond: y may jump at ``end``
    share = (end - x[stop - 1]) / (x[stop] - x[stop - 1])
    y_end = y[stop - 1] + share * (y[stop] - y[stop - 1])
    return float(np.trapezoid(np.append(y[:stop], y_end), np.append(x[:stop], end)))
