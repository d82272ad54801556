r"""What other test images would have given: the bootstrap over the images of a test split.

A test split is a sample. Another one, of other images of the same kinds, gives other metrics, and
with a few dozen images that is most of what is uncertain about them. The bootstrap draws such
splits from the images that there are: as many good ones from the good ones and as many anomalous
ones from the anomalous ones, each with replacement. An image that is drawn twice counts twice, so
a resample r is a weight :math:`w_{ri}` for each image i, 0, 1, 2, ...

Every metric is made of counts, and the counts of a resample are the sums of its images' counts:

.. math:: F_r(t) = \sum_i w_{ri} F_i(t)

with F the normal pixels at or above a threshold t, or the anomalous ones, or the overlap with
regions. So the images are counted once, and one product of matrices gives all resamples. Metrics
of images are the case of one pixel for each image, where every score is a threshold: they are
exact. Those of pixels are counted at some 4,000 thresholds, which moves that of the split itself
by less than 1e-4 and one of a resample by less than 5e-4. (The tests hold both against the exact
metrics, on images that are repeated in a loop.)

The resamples hang on a key (the category) and the numbers of good and anomalous images alone. Two
runs on the same images have the same resamples: the differences between theirs are **paired**, and
what is common to both cancels. Resamples of two categories have nothing to do with each other.

Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapters 8 and 13.
"""

import math
import zlib
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import numpy as np

from fastflow_utils.detector.metrics import (
    Values,
    as_numpy,
    image_labels,
    paired,
    paired_maps,
    regions_of,
)
from fastflow_utils.errors import FastFlowError

__all__ = [
    "RESAMPLES",
    "Replicates",
    "of_decisions",
    "of_images",
    "of_pixels",
    "resamples",
]

Replicates: TypeAlias = dict[str, np.ndarray]
"""Of each metric, its value on every resample (R,); NaN where a resample does not define it."""

RESAMPLES = 2000
"""How many are drawn. Drawn anew, an interval's ends would move by about 3 % of its width."""

THRESHOLDS = 2000
"""At how many scores of each kind pixels are counted."""

PART = 2**19
"""Numbers of a matrix that is worked on at a time: 4 MB."""


def resamples(labels: Values, key: str = "", count: int = RESAMPLES) -> np.ndarray:
    """Return how often each image is in each resample: the weights (count, N).

    Args:
        labels: (N,), 0 for the good images.
        key: What the images are of; another key draws other resamples. The same key and numbers
            of good and anomalous images always draw the same.
        count: How many.

    Raises:
        FastFlowError: If there is no image.

    Example:
        >>> weights = resamples([0, 0, 0, 1, 1], "screw")
        >>> weights.shape, set(weights[:, :3].sum(1)), set(weights[:, 3:].sum(1))
        ((2000, 5), {np.float64(3.0)}, {np.float64(2.0)})
    """
    truth = as_numpy(paired(labels, labels)[1])
    if not len(truth):
        raise FastFlowError("no images: resamples are drawn from at least one")
    weights = np.empty((count, len(truth)))
    for kind in np.unique(truth).tolist():
        number = int((truth == kind).sum())
        generator = np.random.default_rng([zlib.crc32(key.encode()), kind])
        weights[:, truth == kind] = generator.multinomial(
            number, np.full(number, 1 / number), size=count
        )
    return weights


# The metrics of all resamples --------------------------------------------------------------------


def of_images(scores: Values, labels: Values, weights: np.ndarray) -> Replicates:
    """Return ``auroc``, ``ap`` and ``f1`` of images on every resample, exactly.

    Args:
        scores: (N,), higher is more anomalous.
        labels: (N,), 0 for the good images.
        weights: (R, N), from :func:`resamples`.

    Example:
        >>> scores, labels = np.array([1.0, 5.0, 4.0, 9.0]), [0, 0, 1, 1]
        >>> found = of_images(scores, labels, np.array([[1, 1, 1, 1], [2, 0, 1, 1]]))
        >>> found["auroc"].tolist()
        [0.75, 1.0]
    """
    values, truth = map(as_numpy, paired(scores, labels))
    counts = _counts(values[:, None], truth[:, None], _grid(values[:, None], truth[:, None]))
    return _by_parts(weights, counts.fp.shape[1], lambda part: _separation(counts, part))


def of_pixels(
    maps: Values,
    masks: Values,
    labels: Values,
    weights: np.ndarray,
    max_fpr: float = 0.3,
    fpr_range: tuple[float, float] = (1e-5, 1e-4),
    regions: np.ndarray | None = None,
) -> Replicates:
    """Return ``auroc``, ``ap``, ``f1``, ``aupro`` and ``aupimo`` of pixels on every resample.

    Args:
        maps: (N, 1, H, W) or (N, H, W), higher is more anomalous.
        masks: The same; True, 1 or 255 is anomalous.
        labels: (N,), 0 for the good images.
        weights: (R, N), from :func:`resamples`.
        max_fpr: As for :func:`~fastflow_utils.detector.metrics.aupro`.
        fpr_range: As for :func:`~fastflow_utils.detector.metrics.aupimo`.
        regions: As for ``aupro``.

    Memory: beside the maps, some 100 MB; half a gigabyte for 1,000 images of 448 x 448 pixels.
    """
    scores, marked = paired_maps(maps, masks)
    good = ~as_numpy(image_labels(marked, labels))
    pixels, truth = (as_numpy(each.flatten(1)) for each in (scores, marked))
    numbers = regions_of(marked) if regions is None else regions
    by_image = np.split(numbers, truth.sum(1).cumsum()[:-1])
    counts = _counts(pixels, truth, _grid(pixels, truth), by_image)
    found = _by_parts(
        weights,
        counts.fp.shape[1],
        lambda part: _separation(counts, part) | _overlap(counts, part, max_fpr),
    )
    rates, shares = _rare(pixels, truth, good, fpr_range[1])
    judged = np.asarray(truth.any(1))
    return found | _by_parts(
        weights,
        rates.shape[1],
        lambda part: {"aupimo": _per_image(part, rates, shares, judged, fpr_range)},
    )


def of_decisions(
    scores: Values, labels: Values, threshold: float, weights: np.ndarray
) -> Replicates:
    """Return ``fpr`` and ``f1`` of a fixed threshold on every resample, exactly.

    Where nothing at all is anomalous there is no F1, and the rate is of what is there.

    Args:
        scores: (N,) of images, or maps (N, 1, H, W).
        labels: The same shape.
        threshold: What is at or above it is called anomalous; rounded as the scores are.
        weights: (R, N), from :func:`resamples`.

    Example:
        >>> scores, labels = np.array([1.0, 5.0, 4.0, 9.0]), [0, 0, 1, 1]
        >>> found = of_decisions(scores, labels, 4.5, np.array([[1, 1, 1, 1], [2, 0, 1, 1]]))
        >>> found["fpr"].tolist(), found["f1"].round(3).tolist()
        ([0.5, 0.0], [0.5, 0.667])
    """
    values, truth = map(as_numpy, paired(scores, labels))
    counts = []
    for image, marked in zip(values >= values.dtype.type(threshold), truth, strict=True):
        called, true = np.sum(image), np.sum(image & marked)
        counts.append([called - true, true, np.sum(~marked), np.sum(marked)])
    false, true, normal, anomalous = (weights @ np.array(counts)).T
    with np.errstate(invalid="ignore"):
        f1 = _if_any(anomalous, 2 * true / (true + false + anomalous))
        fpr = false / normal
        return {"fpr": _if_any(anomalous, fpr) if truth.any() else fpr, "f1": f1}


# Counts of each image ----------------------------------------------------------------------------


class _Counts(NamedTuple):
    """Of each image, what is at or above each threshold, from the highest down, and in all."""

    fp: np.ndarray  # (N, K) normal pixels
    tp: np.ndarray  # (N, K) anomalous pixels
    overlap: np.ndarray  # (N, K) shares of regions
    scores: np.ndarray  # (K,) different anomalous scores since the threshold before


def _grid(pixels: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Choose thresholds, from the highest down: evenly by rank, of both kinds.

    And count the different anomalous scores from each one up to the one before. Of many normal
    pixels only every n-th is looked at.
    """
    step = max(1, pixels.size // 2**18)
    some, of_them = pixels.ravel()[::step], truth.ravel()[::step]
    anomalous, normal = np.unique(pixels[truth]), np.unique(some[~of_them])
    lowest = [some.dtype.type(-np.inf)]
    grid = np.unique(np.concatenate([_thinned(anomalous), _thinned(normal), lowest]))[::-1]
    above = len(anomalous) - np.searchsorted(anomalous, grid)
    return grid, np.diff(above, prepend=0)


def _thinned(values: np.ndarray) -> np.ndarray:
    places = np.linspace(0, len(values) - 1, min(len(values), THRESHOLDS))
    return np.asarray(values[places.astype(int)])


def _counts(
    pixels: np.ndarray,
    truth: np.ndarray,
    grid: tuple[np.ndarray, np.ndarray],
    regions: list[np.ndarray] | None = None,
) -> _Counts:
    """Count each image's pixels (P,) at the thresholds: sort them, then look each one up."""
    thresholds, scores = grid
    fp, tp, overlap = np.zeros((3, len(pixels), len(thresholds)))
    for i, (values, marked) in enumerate(zip(pixels, truth, strict=True)):
        normal = np.sort(values[~marked])
        fp[i] = len(normal) - np.searchsorted(normal, thresholds)
        order = np.argsort(values[marked])
        place = np.searchsorted(values[marked][order], thresholds)
        tp[i] = len(order) - place
        if regions is not None and len(order):
            shares = 1 / np.bincount(regions[i])[regions[i]][order]
            overlap[i] = np.append(np.cumsum(shares[::-1])[::-1], 0)[place]
    return _Counts(fp, tp, overlap, scores)


def _rare(
    pixels: np.ndarray, truth: np.ndarray, good: np.ndarray, upper: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return what AUPIMO needs at the highest pixels of the good images, each (N, K).

    Each good image's part in the false-positive rate at or above such a pixel, and of each
    anomalous image the share of the defect above it. A resample may hold but one image of the good
    ones: so of each as many pixels as the rate ``upper`` lets be wrong on all together. If that is
    many, all the highest and then ever fewer, as the metric is even in the logarithm of the rate.
    """
    image_size, count = pixels.shape[1], int(good.sum())
    kept = min(math.ceil(upper * image_size * count) + 1, image_size)
    places = np.flatnonzero(good)
    candidates = [np.partition(pixels[i], image_size - kept)[-kept:] for i in places]
    thresholds = np.unique(np.concatenate(candidates))[::-1]
    if len(thresholds) > THRESHOLDS:
        ranks = np.rint(np.geomspace(1, len(thresholds), THRESHOLDS)).astype(int)
        thresholds = thresholds[np.unique(ranks) - 1]
    rates, shares = np.zeros((2, len(pixels), len(thresholds)))
    for i in places:
        below = np.searchsorted(np.sort(pixels[i]), thresholds)
        rates[i] = (image_size - below) / (image_size * count)
    for i in np.flatnonzero(truth.any(1)):
        defect = np.sort(pixels[i][truth[i]])
        shares[i] = 1 - np.searchsorted(defect, thresholds, side="right") / len(defect)
    return rates, shares


# Metrics of a part of the resamples, from their counts -------------------------------------------


def _by_parts(
    weights: np.ndarray, width: int, metrics: Callable[[np.ndarray], Replicates]
) -> Replicates:
    """Apply ``metrics`` to some resamples at a time: memory stays bounded."""
    rows = max(1, PART // width)
    with np.errstate(invalid="ignore", divide="ignore"):
        parts = [metrics(weights[at : at + rows]) for at in range(0, len(weights), rows)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _separation(counts: _Counts, weights: np.ndarray) -> Replicates:
    """AUROC, average precision and the best F1, each (R,)."""
    fp, tp = weights @ counts.fp, weights @ counts.tp
    steps = np.diff(tp, prepend=0)
    # Between two thresholds, precision goes evenly from the one's to the other's. Of n scores on
    # the way, the mean is at (n + 1) / (2n): in the middle of many, at the end for a single one.
    end = tp / (tp + fp)
    start = np.where(_before(tp) > 0, _before(end), end)
    precision = start + (end - start) * (1 + 1 / np.maximum(counts.scores, 1)) / 2
    all_anomalous, all_normal = tp[:, -1], fp[:, -1]
    area = (np.diff(fp, prepend=0) * (tp + _before(tp))).sum(1) / 2
    return {
        "auroc": area / (all_anomalous * all_normal),
        "ap": np.where(steps > 0, steps * precision, 0).sum(1) / all_anomalous,
        "f1": _if_any(all_anomalous, (2 * tp / (tp + fp + all_anomalous[:, None])).max(1)),
    }


def _overlap(counts: _Counts, weights: np.ndarray, max_fpr: float) -> Replicates:
    """AUPRO (R,): the curve's segments, cut off at ``max_fpr``."""
    fp, overlap = weights @ counts.fp, weights @ counts.overlap
    x, y = fp / fp[:, -1:], overlap / overlap[:, -1:]
    start = _before(x)
    room = np.clip(max_fpr - start, 0, x - start)  # what of the segment is below max_fpr
    slope = np.nan_to_num((y - _before(y)) / (x - start), posinf=0)
    area = (room * (_before(y) + slope * room / 2)).sum(1)
    return {"aupro": _if_any(overlap[:, -1], area / max_fpr)}


def _per_image(
    weights: np.ndarray,
    rates: np.ndarray,
    shares: np.ndarray,
    judged: np.ndarray,
    fpr_range: tuple[float, float],
) -> np.ndarray:
    """AUPIMO (R,): the mean curve of the anomalous images drawn, a staircase, integrated."""
    edges = np.log(np.clip(weights @ rates, *fpr_range))
    widths = np.diff(edges, prepend=math.log(fpr_range[0]))
    tpr = weights @ shares / (weights @ judged)[:, None]
    return np.asarray((widths * tpr).sum(1) / math.log(fpr_range[1] / fpr_range[0]))


def _if_any(anomalous: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The values, NaN where a resample has nothing anomalous: all its masks are empty."""
    return np.where(anomalous > 0, values, math.nan)


def _before(values: np.ndarray) -> np.ndarray:
    """Each row's values one place to the right: what was at the threshold before; 0 at first."""
    return np.concatenate([np.zeros((len(values), 1)), values[:, :-1]], axis=1)
