"""From each level's negative log-likelihood to one anomaly map and one score: their only home."""

import math

from kornia.filters import gaussian_blur2d
from torch import Tensor

__all__ = ["NORMAL_LEVEL", "blur", "image_score"]

NORMAL_LEVEL = 1 / (1 + math.exp(1))
"""The anomaly map where every level's likelihood is that of held-out normal images: 0.27."""


def blur(maps: Tensor, sigma: float) -> Tensor:
    """Smooth maps (B, C, H, W) by a Gaussian of ``sigma`` pixels; 0 leaves them as they are."""
    if sigma == 0:
        return maps
    kernel = 2 * math.ceil(3 * sigma) + 1
    return gaussian_blur2d(maps, (kernel, kernel), (sigma, sigma))


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
