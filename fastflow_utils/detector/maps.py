"""From each level's negative log-likelihood to one anomaly map and one score: their only home."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from kornia.filters import gaussian_blur2d
from torch import Tensor

from fastflow_utils.errors import FastFlowError

__all__ = ["NORMAL_LEVEL", "blur", "check_map_options", "combine", "image_score", "level_map"]

NORMAL_LEVEL = 1 / (1 + math.exp(1))
"""The anomaly map where every level's likelihood is that of held-out normal images: 0.27."""


def blur(maps: Tensor, sigma: float) -> Tensor:
    """Smooth maps (B, C, H, W) by a Gaussian of ``sigma`` pixels; 0 leaves them as they are."""
    if sigma == 0:
        return maps
    kernel = 2 * math.ceil(3 * sigma) + 1
    return gaussian_blur2d(maps, (kernel, kernel), (sigma, sigma))


def check_map_options(image_size: int, smoothing: float, top: float) -> None:
    """Refuse a blur that an image is too small for, and a share that is none.

    The blur's kernel reaches ceil(3 sigma) pixels to each side, and mirrors the map there.

    Raises:
        FastFlowError: If ``smoothing`` or ``top`` is out of range.

    Example:
        >>> check_map_options(64, smoothing=30.0, top=0.01)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        fastflow_utils.errors.FastFlowError: smoothing=30.0 ...
    """
    widest = (image_size - 1) / 3
    if not 0 <= smoothing <= widest:
        raise FastFlowError(
            f"smoothing={smoothing} pixels for images of {image_size}: expected 0 to {widest:g}"
        )
    if not 0 < top <= 1:
        raise FastFlowError(f"top={top}: expected a share of the pixels in (0, 1]")


def level_map(nll: Tensor, mean: Tensor, std: Tensor, bounded: bool = True) -> Tensor:
    r"""Return how surprising each position of a level is, on a scale of its own.

    .. math:: \sigma(u - 1), \qquad u = \frac{n(i) - \mu}{s}

    The logistic function bounds what a single level can say: one standard deviation above normal
    is 0.5, and nothing is more than 1.

    Args:
        nll: Negative log-likelihoods n(i) of a level (B, 1, H_l, W_l), nats per dimension.
        mean: Of the same over held-out normal images.
        std: Its standard deviation.
        bounded: False returns u itself.

    Returns:
        (B, 1, H_l, W_l); higher is more anomalous.

    Example:
        >>> level_map(torch.tensor([[[[3.0]]]]), torch.tensor(1.0), torch.tensor(2.0)).item()
        0.5
    """
    u = (nll - mean) / std
    return torch.sigmoid(u - 1) if bounded else u


def combine(
    level_maps: Sequence[Tensor],
    image_size: int,
    smoothing: float,
    weights: Sequence[float] | None = None,
) -> Tensor:
    """Return the anomaly map: the levels' maps at image size, averaged, smoothed.

    Args:
        level_maps: One (B, 1, H_l, W_l) for each level.
        image_size: H = W of the result, pixels.
        smoothing: Standard deviation of the Gaussian blur, pixels.
        weights: One for each level; only their proportions count. Default: equal ones.

    Returns:
        (B, 1, H, W); higher is more anomalous.

    Example:
        >>> combine([torch.ones(2, 1, 8, 8), torch.zeros(2, 1, 4, 4)], 32, 2.0)[0, 0, 0, 0].item()
        0.5
    """
    size = (image_size, image_size)
    levels = torch.stack(
        [F.interpolate(m, size=size, mode="bilinear", align_corners=False) for m in level_maps]
    )
    if weights is None:
        return blur(levels.mean(0), smoothing)
    share = levels.new_tensor(weights) / max(sum(weights), 1e-12)
    return blur(torch.einsum("l,l...->...", share, levels), smoothing)


def image_score(anomaly_map: Tensor, top: float = 0.01) -> Tensor:
    """Return the mean of the highest values of each map: one score for each image.

    The maximum alone hangs on a single pixel; the mean over all would drown a small defect.

    Args:
        anomaly_map: (B, 1, H, W), higher is more anomalous.
        top: Which share of the pixels to average, in (0, 1]; always at least one pixel.

    Returns:
        (B,), higher is more anomalous.

    Example:
        >>> image_score(torch.tensor([[[[0.0, 1.0], [2.0, 3.0]]]]), top=0.5)
        tensor([2.5000])
    """
    pixels = anomaly_map.flatten(1)
    return pixels.topk(max(1, int(top * pixels.shape[1])), dim=1).values.mean(1)
