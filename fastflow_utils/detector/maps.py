"""From each level's negative log-likelihood to one anomaly map and one score: their only home."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from fastflow_utils.detector.choices import blur_reach
from fastflow_utils.errors import FastFlowError

__all__ = [
    "NORMAL_LEVEL",
    "blur",
    "blur_reach",
    "check_map_options",
    "combine",
    "image_score",
    "level_map",
]

NORMAL_LEVEL = 1 / (1 + math.exp(1))
"""The anomaly map where every level's likelihood is that of held-out normal images: 0.27."""


TAIL = 5.0
"""Standard deviations above normal from which a heavy tail begins."""


def level_map(
    nll: Tensor,
    mean: Tensor | float,
    std: Tensor | float,
    bounded: bool = True,
    heavy_tail: bool = False,
) -> Tensor:
    r"""Return how surprising each position of one level is, on a scale of its own.

    .. math:: a_l(i) = \sigma(u_l(i) - 1), \qquad u_l(i) = \frac{n_l(i) - \mu_l}{s_l}

    Levels of any size and depth compare. The logistic function bounds what a single level can
    say: one standard deviation above normal is 0.5, and nothing is more than 1.

    In float32 it is exactly 1 from u = 18 on, where distances that nobody has learnt to bound only
    begin to tell defects apart: all would be ties. With ``heavy_tail``, what is missing to 1
    shrinks as 1 / u above u = 5 instead of exponentially,

    .. math:: a = 1 - \frac{q}{1 + (1 - q)(u - 5)}, \qquad q = 1 - \sigma(4),

    which goes on with the same value and slope, and still tells u = 200 from u = 200.5. Either
    way the order of a level's positions is that of n_l: the function says nothing else.

    Args:
        nll: :math:`n_l(i)`, the negative log-likelihood (B, 1, H_l, W_l), nats per dimension; or
            any other map that is higher where it is more anomalous.
        mean: :math:`\mu_l`, its mean over the positions of held-out normal images.
        std: :math:`s_l`, its standard deviation over them, above 0.
        bounded: False returns u_l itself.
        heavy_tail: What bounds it above u_l = 5.

    Returns:
        (B, 1, H_l, W_l), in [0, 1] if bounded; higher is more anomalous.

    Example:
        >>> level_map(torch.tensor([2.0, 3.0]), mean=2.0, std=1.0)
        tensor([0.2689, 0.5000])
        >>> far = torch.tensor([30.0, 60.0])
        >>> level_map(far, 2.0, 1.0), level_map(far, 2.0, 1.0, heavy_tail=True)
        (tensor([1., 1.]), tensor([0.9992, 0.9997]))
    """
    u = (nll - mean) / std
    if not bounded:
        return u
    logistic = torch.sigmoid(u - 1)
    if not heavy_tail:
        return logistic
    q = 1 / (1 + math.exp(TAIL - 1))
    return torch.where(u > TAIL, 1 - q / (1 + (1 - q) * (u - TAIL)), logistic)


def combine(
    level_maps: Sequence[Tensor],
    image_size: int,
    smoothing: float,
    weights: Sequence[float] | None = None,
) -> Tensor:
    """Return the anomaly map: the levels' maps at image size, averaged, smoothed.

    Args:
        level_maps: One (B, 1, H_l, W_l) for each level, from :func:`level_map`.
        image_size: H = W of the anomaly map.
        smoothing: As for :func:`blur`.
        weights: One share for each level, with a sum above 0. Default: all the same.

    Returns:
        (B, 1, H, W), within the range of the levels' maps; higher is more anomalous.

    Example:
        >>> combine([torch.zeros(1, 1, 2, 2), torch.ones(1, 1, 1, 1)], 4, 0, [1, 3]).unique()
        tensor([0.7500])
    """
    size = (image_size, image_size)
    resized = [
        F.interpolate(one, size=size, mode="bilinear", align_corners=False) for one in level_maps
    ]
    if weights is None:
        return blur(torch.stack(resized).mean(0), smoothing)
    weighted = [weight * one for weight, one in zip(weights, resized, strict=True)]
    return blur(torch.stack(weighted).sum(0) / sum(weights), smoothing)


def blur(maps: Tensor, sigma: float) -> Tensor:
    """Smooth maps (B, C, H, W) by a Gaussian of ``sigma`` pixels; 0 leaves them as they are.

    Raises:
        FastFlowError: If it reaches further than the maps are wide: their edge is continued by
            reflection, which needs :func:`blur_reach` < H, W.
    """
    if sigma == 0:
        return maps
    reach, side = blur_reach(sigma), min(maps.shape[-2:])
    if reach >= side:
        raise FastFlowError(
            f"smoothing {sigma:g}: it reaches {reach} px, and the map is {side} px wide: "
            f"expected at most {(side - 1) // 3}"
        )
    # As kornia.filters.gaussian_blur2d does it, whose import takes a quarter of torch's time.
    steps = torch.arange(-reach, reach + 1, dtype=maps.dtype, device=maps.device)
    kernel = torch.exp(-(steps**2) / (2 * sigma**2))
    kernel = kernel / kernel.sum()
    # Each map as a channel of one image, with a kernel of its own: 20 times faster on CPUs.
    planes = F.pad(rearrange(maps, "b c h w -> 1 (b c) h w"), (reach,) * 4, mode="reflect")
    kernels = kernel.expand(planes.shape[1], 1, 1, -1)
    rows = F.conv2d(planes, kernels, groups=len(kernels))
    return F.conv2d(rows, kernels.mT, groups=len(kernels)).view_as(maps)


def check_map_options(image_size: int, smoothing: float, top: float) -> None:
    """Refuse a blur that an image is too small for, and a share that is none.

    The map's edge is continued by reflection: :func:`blur_reach` must be below ``image_size``.

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
