"""From each level's negative log-likelihood to one anomaly map and one score: their only home."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from fastflow_utils.data.sizes import Size, height_width, size_text
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
    "level_scale",
]

DECADES = 4
"""How many powers of ten of rarity a map can tell: one in 10^4 is a map's 1."""

KNOTS = 65
"""How many values a scale keeps, 16 for each power of ten and the lowest."""

NORMAL_LEVEL = math.log10(2) / DECADES
"""The anomaly map where every level is at its median over held-out normal images: 0.075."""


def level_scale(normal: Tensor) -> Tensor:
    r"""Return the values that a share 1, ..., 10^-4 of normal positions reach.

    .. math:: q_k: \; P(n_l \ge q_k) = 10^{-4k/64}, \qquad k = 0, \dots, 64

    Args:
        normal: A level's map over held-out normal images, of any shape. With fewer than 10^4
            positions the rarest value stands for all that are rarer.

    Returns:
        (65,), in ascending order.

    Example:
        >>> level_scale(torch.arange(1001.0))[[0, 16, 32, 48]]  # all, a tenth, a hundredth, ...
        tensor([  0., 900., 990., 999.])
    """
    values = normal.flatten().double().sort().values
    exponents = torch.linspace(0, DECADES, KNOTS, dtype=torch.float64, device=values.device)
    place = (1 - 10**-exponents) * (len(values) - 1)
    below = place.long().clamp_max(len(values) - 1)
    above = (below + 1).clamp_max(len(values) - 1)
    return torch.lerp(values[below], values[above], place - below).to(normal.dtype)


def level_map(values: Tensor, scale: Tensor) -> Tensor:
    r"""Return how rare each position of one level is among normal ones, in powers of ten.

    .. math:: a_l(i) = \min\left( 1, \; -\tfrac14 \log_{10} P(n_l \ge n_l(i)) \right)

    P is of held-out normal images, whatever scale n_l has: levels of any size and depth compare,
    and so do methods. One normal position in ten reaches 0.25, one in a hundred 0.5, one in a
    thousand 0.75, one in ten thousand 1, which bounds what a single level can say. Below that the
    order of a level's positions is that of n_l, for between its knots the scale is linear.

    Args:
        values: :math:`n_l(i)`, (B, 1, H_l, W_l): the negative log-likelihood, or any other map
            that is higher where it is more anomalous.
        scale: What :func:`level_scale` returns for held-out normal images.

    Returns:
        (B, 1, H_l, W_l), in [0, 1]; higher is more anomalous.

    Example:
        >>> scale = level_scale(torch.arange(10001.0))
        >>> level_map(torch.tensor([-5.0, 9000.0, 9990.0, 20000.0]), scale)
        tensor([0.0000, 0.2500, 0.7500, 1.0000])
    """
    knot = torch.searchsorted(scale, values.detach().contiguous()).clamp(1, len(scale) - 1)
    low, high = scale[knot - 1], scale[knot]
    part = (values - low) / (high - low).clamp_min(torch.finfo(scale.dtype).tiny)
    return (knot - 1 + part.clamp(0, 1)) / (len(scale) - 1)


def combine(
    level_maps: Sequence[Tensor],
    image_size: Size,
    smoothing: float,
    weights: Sequence[float] | None = None,
) -> Tensor:
    """Return the anomaly map: the levels' maps at image size, averaged, smoothed.

    Args:
        level_maps: One (B, 1, H_l, W_l) for each level, from :func:`level_map`.
        image_size: Of the anomaly map, H = W or (H, W).
        smoothing: As for :func:`blur`.
        weights: One share for each level, with a sum above 0. Default: all the same.

    Returns:
        (B, 1, H, W), within the range of the levels' maps; higher is more anomalous.

    Example:
        >>> combine([torch.zeros(1, 1, 2, 2), torch.ones(1, 1, 1, 1)], 4, 0, [1, 3]).unique()
        tensor([0.7500])
    """
    size = height_width(image_size)
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


def check_map_options(image_size: Size, smoothing: float, top: float) -> None:
    """Refuse a blur that an image is too small for, and a share that is none.

    The map's edge is continued by reflection: :func:`blur_reach` must be below its shorter side.

    Raises:
        FastFlowError: If ``smoothing`` or ``top`` is out of range.

    Example:
        >>> check_map_options(64, smoothing=30.0, top=0.01)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        fastflow_utils.errors.FastFlowError: smoothing=30.0 ...
    """
    widest = (min(height_width(image_size)) - 1) / 3
    if not 0 <= smoothing <= widest:
        raise FastFlowError(
            f"smoothing={smoothing} pixels for images of {size_text(image_size)}: expected 0 to "
            f"{widest:g}"
        )
    if not 0 < top <= 1:
        raise FastFlowError(f"top={top}: expected a share of the pixels in (0, 1]")


def image_score(anomaly_map: Tensor, top: float = 0.01) -> Tensor:
    """Return the mean of the highest values of each map.

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
