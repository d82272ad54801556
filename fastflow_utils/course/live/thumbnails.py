"""Pictures, masks and maps of a split, small enough to travel in a page."""

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from fastflow_utils.course.live.packing import pack, webp
from fastflow_utils.data.sizes import height_width
from fastflow_utils.detector.heat_maps import ANOMALOUS_COLOUR, GOOD_COLOUR
from fastflow_utils.errors import FastFlowError

__all__ = ["COLOURS", "as_many", "pack_maps", "pack_masks", "reduced_size", "thumbnail"]

UNIT = 255  # what stands for 1
COLOURS = {
    "colours": [
        [round(UNIT * part) for part in colour] for colour in (GOOD_COLOUR, ANOMALOUS_COLOUR)
    ],
    "green": [51, 255, 102],
}
"""Of good, of anomalous, and of a mask's outline, as the figures have them: 8-bit RGB."""


def reduced_size(size: int | Sequence[int], longest: int) -> tuple[int, int]:
    """Return (H, W) with the longer side at most ``longest`` pixels.

    Example:
        >>> reduced_size((600, 800), 200), reduced_size(64, 200)
        ((150, 200), (64, 64))
    """
    height, width = height_width(size)
    share = min(1, longest / max(height, width))
    return max(1, round(share * height)), max(1, round(share * width))


def thumbnail(image: Tensor, longest: int, *, grey: bool = False, quality: int = 60) -> str:
    """Return an image (3, H, W) in [0, 1] as the data address of a small WebP.

    Args:
        image: RGB.
        longest: Pixels of the longer side, at most.
        grey: Leave the colours out.
        quality: 0 (small) to 100.
    """
    size = reduced_size(image.shape[-2:], longest)
    small = F.interpolate(image[None], size, mode="bilinear", antialias=True)[0]
    pixels = (UNIT * small.clamp(0, 1)).round().byte().permute(1, 2, 0)
    picture = Image.fromarray(pixels.numpy())
    return webp(picture.convert("L") if grey else picture, quality)


def pack_masks(masks: Iterable[Tensor], longest: int) -> str:
    """Return masks (1, H, W) as 8-bit numbers, 1 is anomalous, one after the other.

    A mask that is reduced keeps a pixel where half of what it stands for is anomalous.
    """
    small = [_reduced(mask.float(), longest) >= 0.5 for mask in masks]
    return pack(torch.stack(small).to(torch.uint8))


def pack_maps(maps: Tensor, longest: int) -> str:
    """Return maps (N, 1, H, W) in [0, 1] with 8 bits, smaller: 255 stands for 1.

    Args:
        maps: Smooth ones: each number of a smaller map is the mean of those that it stands for.
        longest: Pixels of the longer side, at most.

    Raises:
        FastFlowError: If a number is NaN or outside of [0, 1].
    """
    rounded = (UNIT * torch.stack([_reduced(one, longest) for one in maps])).round()
    if not ((rounded >= 0) & (rounded <= UNIT)).all():
        raise FastFlowError("maps for a page have to be in [0, 1], and some numbers are not")
    return pack(rounded.byte())


def _reduced(one: Tensor, longest: int) -> Tensor:
    return F.adaptive_avg_pool2d(one, reduced_size(one.shape[-2:], longest))


def as_many(make: Callable[[int], dict[str, Any]], count: int, budget: float) -> dict[str, Any]:
    """Return data with as many pictures as may travel: ``make(count)``, or of fewer.

    Args:
        make: Returns the data of the first so many.
        count: How many there are, at least 1.
        budget: Bytes that the data may take as JSON. One picture always travels.

    Example:
        >>> as_many(lambda count: {"pictures": ["." * 100] * count}, 9, 500)["pictures"] == 4 * [
        ...     "." * 100
        ... ]
        True
    """
    while True:
        data = make(count)
        size = len(json.dumps(data))
        if size <= budget or count == 1:
            return data
        count = max(1, min(count - 1, int(count * budget / size)))
