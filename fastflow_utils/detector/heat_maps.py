"""Images and anomaly maps as pictures, in colours that mean the same for every image."""

import numpy as np
from torch import Tensor

__all__ = [
    "ANOMALOUS_COLOUR",
    "GOOD_COLOUR",
    "Pixels",
    "colour",
    "heat",
    "outline",
    "overlay",
    "show",
]

GOOD_COLOUR = (0x01 / 255, 0x73 / 255, 0xB2 / 255)
ANOMALOUS_COLOUR = (0xDE / 255, 0x8F / 255, 0x05 / 255)
"""Blue and orange of seaborn's palette "colorblind", as (red, green, blue) in [0, 1]."""

Pixels = np.ndarray[tuple[int, ...], np.dtype[np.float32]]
"""A picture, (H, W, 3) in [0, 1]."""

Inside = np.ndarray[tuple[int, ...], np.dtype[np.bool_]]


def show(image: Tensor) -> Pixels:
    """Return ``image`` (3, H, W) in [0, 1] as (H, W, 3), which matplotlib shows."""
    return np.asarray(image.permute(1, 2, 0))


def heat(anomaly_map: Tensor) -> Tensor:
    """Scale a map to what the colours show: 0 up to the middle of its range, 1 at the top.

    The middle, 0.5, is a standard deviation above normal images on every level. The scale is the
    same for every image, model and category, so colours can be compared.

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
    from matplotlib import colormaps  # here: only who draws waits for it

    return np.asarray(colormaps["inferno"](heat(anomaly_map)[0].numpy())[..., :3], np.float32)


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
    line = _around(inside)
    drawn[_around(inside | line)] = 0
    drawn[line] = (0.2, 1.0, 0.4)
    return drawn


def _around(inside: Inside) -> Inside:
    """The pixels that touch ``inside`` (H, W), above, below, left or right of it."""
    grown = inside.copy()
    grown[1:] |= inside[:-1]
    grown[:-1] |= inside[1:]
    grown[:, 1:] |= inside[:, :-1]
    grown[:, :-1] |= inside[:, 1:]
    return np.asarray(grown & ~inside)
