"""Intervals: what a metric may be, given the images that it was measured on and the seeds.

Numbers only, without torch: tables are made from them. The replicates come from
``detector.bootstrap``.
"""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fastflow_utils.errors import FastFlowError

__all__ = ["Estimate", "estimate", "hanley_mcneil", "interval", "perfect_bound", "promised"]


def interval(replicates: np.ndarray, confidence: float = 0.95) -> tuple[float, float]:
    """Return the percentile interval of a metric: what is between the tails of its replicates.

    With few images it covers the truth a little less often than it says, for it does not know what
    no image shows: an AUROC of 20 good and 20 anomalous ones 93 to 95 times in 100 (the tests
    count).

    NaN, NaN where all replicates are the same: the images say nothing about the uncertainty then,
    least of all that there is none. For a perfect AUROC of images, :func:`perfect_bound` says what
    can be said.

    Example:
        >>> low, high = interval(np.arange(1001) / 1000)
        >>> round(low, 3), round(high, 3)
        (0.025, 0.975)
    """
    values = replicates[~np.isnan(replicates)]
    if len(values) == 0 or values.min() == values.max():
        return math.nan, math.nan
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def perfect_bound(normal: int, anomalous: int, confidence: float = 0.95) -> float:
    r"""Return how low the AUROC may be of a detector that has just made no mistake at all.

    .. math:: \alpha^{1 / n}, \qquad n = \min(\text{normal}, \text{anomalous}), \qquad
        \alpha = 1 - \text{confidence}

    Every resample of such a split is perfect, too, and a percentile interval has no width. But a
    detector that ranks the share :math:`\epsilon` of all normal images above every anomalous one,
    an AUROC of :math:`1 - \epsilon`, meets none of them in n images with the probability
    :math:`(1 - \epsilon)^n`. The bound is where that is :math:`\alpha`; for 95 %, it is about
    1 - 3 / n, the "rule of three". It holds whatever the scores are like: n pairs without a common
    image are n independent trials, and this is Clopper and Pearson's bound for n successes.

    Args:
        normal: Images.
        anomalous: Images.
        confidence: One-sided, as the upper end is 1.

    Example:
        >>> round(perfect_bound(20, 63), 3)
        0.861
    """
    return float((1 - confidence) ** (1 / min(normal, anomalous)))


def hanley_mcneil(auroc: float, normal: int, anomalous: int) -> float:
    r"""Return the standard error of an AUROC from itself and the numbers of images alone.

    .. math:: \sqrt{\frac{A (1 - A) + (m - 1)(Q_1 - A^2) + (n - 1)(Q_2 - A^2)}{mn}}, \qquad
        Q_1 = \frac{A}{2 - A}, \quad Q_2 = \frac{2 A^2}{1 + A}

    with m anomalous and n normal images. For results of which no scores were kept; 0 for a perfect
    AUROC.

    Source: Hanley and McNeil, Radiology 143, 1982.

    Example:
        >>> round(hanley_mcneil(0.918, 41, 119), 3)
        0.021
    """
    square = auroc**2
    ones, twos = auroc / (2 - auroc), 2 * square / (1 + auroc)
    variance = (
        auroc * (1 - auroc) + (anomalous - 1) * (ones - square) + (normal - 1) * (twos - square)
    )
    return math.sqrt(max(0.0, variance) / (normal * anomalous))


def promised(n: int, alpha: float) -> tuple[float, float, float]:
    r"""Return what a threshold set by n normal images promises: how often new ones exceed it.

    The threshold is the k-th smallest score of n images, k = min(n, ceil((1 - alpha)(n + 1))). The
    share of all normal images above it depends on which n these happened to be: its law is
    Beta(n + 1 - k, k), whatever the scores are like, as long as new images are like these and no
    two scores are equal.

    Args:
        n: Normal images that the threshold was set by, and that nothing was learnt from.
        alpha: The false-alarm rate asked for, in (0, 1). With fewer than 1 / alpha - 1 images, n
            are too few to promise it.

    Returns:
        The expected rate, and the ends of what it is nine times in ten.

    Raises:
        FastFlowError: If there is no image, or alpha is no such rate.

    Source: Vovk, Conditional validity of inductive conformal predictors, 2012.

    Example:
        >>> [round(rate, 3) for rate in promised(20, 0.1)]
        [0.095, 0.018, 0.216]
    """
    if n < 1 or not 0 < alpha < 1:
        raise FastFlowError(f"{n} images, alpha {alpha}: expected at least one, a rate in (0, 1)")
    from scipy.special import betaincinv  # here, as below

    k = min(n, math.ceil((1 - alpha) * (n + 1)))
    low, high = (float(betaincinv(n + 1 - k, k, share)) for share in (0.05, 0.95))
    return (n + 1 - k) / (n + 1), low, high


class Estimate(NamedTuple):
    """A metric over seeds: its mean, and what is uncertain about it.

    ``images`` is the 95 % interval from the test images alone, ``spread`` the standard deviation
    over seeds alone; ``low`` and ``high`` are the ends of both together. NaN is not known.
    """

    mean: float
    low: float
    high: float
    images: tuple[float, float]
    spread: float
    seeds: int


def estimate(
    values: npt.ArrayLike,
    replicates: npt.ArrayLike | None = None,
    otherwise: tuple[float, float] = (math.nan, math.nan),
) -> Estimate:
    r"""Return a metric's mean over S seeds, with the interval over images and seeds together.

    .. math:: \mathrm{low} = m - \sqrt{(m - l)^2 + \left(t \frac{s}{\sqrt S}\right)^2}

    and likewise above: m is the mean, l the lower end from the images alone (the percentile of the
    replicates, averaged over the seeds, as all saw the same images), s the standard deviation over
    seeds and t Student's quantile for S - 1 degrees of freedom, since s is from S trainings only.
    Squares of half widths are variances, up to their quantiles: so the two variances add, and the
    percentiles keep their asymmetry near 1. Where seeds disagree on single images, both hold that,
    and the interval is a little too wide. One seed counts as if s were 0: its interval is of the
    images alone.

    Source: Zou and Donner, Statistics in Medicine 27, 2008 (variances recovered from limits).

    Args:
        values: (S,), in [0, 1], one for each seed.
        replicates: (S, R), from ``detector.bootstrap``, with the same resamples for all seeds.
            None: nothing is known of the images, and there is no interval.
        otherwise: From the images alone, where all replicates are the same.

    Example:
        >>> found = estimate([0.90, 0.92], [[0.8, 0.9, 1.0], [0.82, 0.92, 1.02]])
        >>> round(found.mean, 2), found.seeds, round(found.low, 2), round(found.high, 2)
        (0.91, 2, 0.75, 1.0)
    """
    each = np.asarray(values, float)
    seeds, mean = len(each), float(each.mean())
    spread = float(each.std(ddof=1)) if seeds > 1 else math.nan
    images = (math.nan, math.nan)
    if replicates is not None:
        images = interval(np.asarray(replicates).mean(0))
        images = otherwise if math.isnan(images[0]) else images
    half = 0.0
    if seeds > 1:
        from scipy.special import (
            stdtrit,
        )  # here: a table without seeds or intervals needs no scipy

        half = float(stdtrit(seeds - 1, 0.975)) * spread / math.sqrt(seeds)
    low = mean - math.hypot(max(0.0, mean - images[0]), half)
    high = mean + math.hypot(max(0.0, images[1] - mean), half)
    if math.isnan(images[0]):
        low = high = math.nan
    return Estimate(mean, max(low, 0.0), min(high, 1.0), images, spread, seeds)
