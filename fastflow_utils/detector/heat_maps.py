"""Images and anomaly maps as pictures, in colours that mean the same for every image."""

from collections.abc import Iterator
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

__all__ = [
    "ANOMALOUS_COLOUR",
    "GOOD_COLOUR",
    "Pixels",
    "colour",
    "heat",
    "heat_picture",
    "map_picture",
    "mask_picture",
    "outline",
    "overlay",
    "show",
]

GOOD_COLOUR = (0x01 / 255, 0x73 / 255, 0xB2 / 255)
ANOMALOUS_COLOUR = (0xDE / 255, 0x8F / 255, 0x05 / 255)
"""Blue and orange of seaborn's palette "colorblind", as (red, green, blue) in [0, 1]."""

Pixels = np.ndarray[tuple[int, ...], np.dtype[np.float32]]
"""A picture, (H, W, 3) in [0, 1]."""

LINE = 2  # how many pixels an outline and its rim reach beyond the mask
BAND = 128  # rows of a large picture that are in work at a time


def show(image: Tensor) -> Pixels:
    """Return ``image`` (3, H, W) in [0, 1] as (H, W, 3), which matplotlib shows."""
    return np.asarray(image.permute(1, 2, 0))


def heat(anomaly_map: Tensor) -> Tensor:
    """Scale a map to what the colours show: 0 up to the middle of its range, 1 at the top.

    The middle, 0.5, is what one normal position in a hundred reaches on every level. The scale is
    the same for every image, model and category, so colours can be compared.

    Args:
        anomaly_map: Any shape, in [0, 1].

    Returns:
        The same shape, in [0, 1].

    Example:
        >>> import torch
        >>> heat(torch.tensor([0.0, 0.5, 0.75, 1.0]))
        tensor([0.0000, 0.0000, 0.5000, 1.0000])
    """
    return (2 * anomaly_map - 1).clamp(0, 1)


def colour(anomaly_map: Tensor) -> Pixels:
    """Return a map (1, H, W) as colours (H, W, 3) in [0, 1], from black to yellow."""
    steps = np.minimum(256 * heat(anomaly_map)[0].numpy(), 255).astype(np.uint8)
    return np.asarray(_inferno()[steps])


@cache
def _inferno() -> Pixels:
    """The 256 colours (256, 3) from black to yellow."""
    from matplotlib import colormaps  # here: only who draws waits for it

    return np.asarray(colormaps["inferno"](np.arange(256))[:, :3], np.float32)


def overlay(image: Tensor, anomaly_map: Tensor) -> Pixels:
    """Return the image (3, H, W) with the heat of its map (1, H, W) on top, as (H, W, 3)."""
    alpha = 0.75 * heat(anomaly_map)[0].numpy()[..., None]
    grey = show(image).mean(-1, keepdims=True)
    return np.asarray((1 - alpha) * grey + alpha * colour(anomaly_map), np.float32)


def outline(picture: Pixels, mask: Tensor) -> Pixels:
    """Return ``picture`` (H, W, 3) with the outline of ``mask`` (1, H, W) in green.

    The line is light and its rim black, so it shows on any picture, whoever looks.
    """
    drawn, inside = picture.copy(), mask[0].numpy()
    line = _grown(inside)
    drawn[_grown(line) & ~inside] = 0
    drawn[line & ~inside] = (0.2, 1.0, 0.4)
    return drawn


def _grown(mask: np.ndarray) -> np.ndarray:
    """Return a mask (H, W) with the neighbours above, below, left and right of what is in it."""
    grown = mask.copy()
    grown[1:] |= mask[:-1]
    grown[:-1] |= mask[1:]
    grown[:, 1:] |= mask[:, :-1]
    grown[:, :-1] |= mask[:, 1:]
    return grown


def heat_picture(
    anomaly_map: Tensor, threshold: Tensor | float, width: int, height: int
) -> Image.Image:
    """Return a map (1, h, w) in colours, at any size, with what is anomalous outlined.

    The map is enlarged (bilinear), coloured and outlined a band of rows at a time: a picture of
    30 megapixels would take more than a gigabyte as floats.

    Args:
        anomaly_map: In [0, 1], on the CPU.
        threshold: What is at or above it is outlined.
        width: Of the picture, pixels.
        height: Of the picture, pixels.

    Example:
        >>> heat_picture(torch.rand(1, 8, 8), 0.9, width=40, height=30).size
        (40, 30)
    """
    picture = Image.new("RGB", (width, height))
    for top, first, rows in _bands(anomaly_map, width, height, margin=LINE):
        drawn = outline(colour(rows), rows >= threshold)[top - first :][:BAND]
        picture.paste(Image.fromarray((drawn * 255).round().astype(np.uint8)), (0, top))
    return picture


def map_picture(anomaly_map: Tensor, width: int, height: int) -> Image.Image:
    """Return a map (1, h, w) at any size, as :func:`heat_picture` enlarges it: mode F, floats.

    Example:
        >>> map_picture(torch.full((1, 8, 8), 0.5), width=40, height=30).getpixel((7, 7))
        0.5
    """
    picture = Image.new("F", (width, height))
    for top, _, rows in _bands(anomaly_map, width, height):
        picture.paste(Image.fromarray(rows[0].numpy()), (0, top))
    return picture


def mask_picture(
    anomaly_map: Tensor, threshold: Tensor | float, width: int, height: int
) -> Image.Image:
    """Return what :func:`heat_picture` outlines: mode L, 255 at or above the threshold, else 0.

    Example:
        >>> mask_picture(torch.full((1, 8, 8), 0.5), 0.4, width=40, height=30).getextrema()
        (255, 255)
    """
    picture = Image.new("L", (width, height))
    for top, _, rows in _bands(anomaly_map, width, height):
        mask = (rows >= threshold)[0].numpy()
        picture.paste(Image.fromarray(mask * np.uint8(255)), (0, top))
    return picture


def _bands(
    anomaly_map: Tensor, width: int, height: int, margin: int = 0
) -> Iterator[tuple[int, int, Tensor]]:
    """Yield a map (1, h, w), enlarged, in bands of rows.

    Each with the band's first row, that of what is yielded, and (1, rows, width): the band and,
    as far as there are any, ``margin`` rows above and below it.
    """
    wide = F.interpolate(anomaly_map[None], (anomaly_map.shape[1], width), mode="bilinear")[0]
    for top in range(0, height, BAND):
        first, last = max(top - margin, 0), min(top + BAND + margin, height)
        yield top, first, _rows(wide, first, last, height)


def _rows(maps: Tensor, first: int, last: int, height: int) -> Tensor:
    """Return rows of maps (C, h, W), bilinearly enlarged to ``height``: (C, last - first, W)."""
    rows = maps.shape[1]
    place = ((torch.arange(first, last) + 0.5) * (rows / height) - 0.5).clamp(min=0)
    above = place.long()
    below = (above + 1).clamp(max=rows - 1)
    return torch.lerp(maps[:, above], maps[:, below], (place - above)[:, None])
