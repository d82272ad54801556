"""Where in a picture anything is looked for: a rectangle, a polygon or a mask image."""

import os
import re
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from fastflow_utils.data.masks import read_mask
from fastflow_utils.errors import FastFlowError

__all__ = ["read_region", "region_text"]

ODD = 0.05  # largest relative difference of height / width
EXPECTED = (
    "expected LEFT,TOP,WIDTH,HEIGHT, or the corners of a polygon X1,Y1,X2,Y2,X3,Y3,..., in pixels "
    "of the pictures, or a mask image that is not black where to look"
)


def read_region(given: str, size: tuple[int, int]) -> np.ndarray:
    """Return a region of interest as a mask, True where to look.

    Args:
        given: ``LEFT,TOP,WIDTH,HEIGHT``; or ``X1,Y1,X2,Y2,X3,Y3,...``; or a mask image's path.
        size: (H, W) of the pictures that the numbers are pixels of.

    Returns:
        (H, W) bool; that of a mask image has the size of that image.

    Raises:
        FastFlowError: It is none of these, or nothing of it is inside the picture.

    Example:
        >>> read_region("1,0,2,3", size=(4, 5)).astype(int)
        array([[0, 1, 1, 0, 0],
               [0, 1, 1, 0, 0],
               [0, 1, 1, 0, 0],
               [0, 0, 0, 0, 0]])
    """
    # Path's own raises an error where a polygon is longer than any name may be.
    is_file = os.path.isfile(given)  # noqa: PTH113
    mask = read_mask(Path(given)) if is_file else _drawn(_corners(given), size)
    height, width = size
    if abs(mask.shape[0] / mask.shape[1] / (height / width) - 1) > ODD:
        raise FastFlowError(
            f"region {given}: a mask of {mask.shape[0]} x {mask.shape[1]} px for pictures of "
            f"{height} x {width} px: expected one of the same shape"
        )
    if not mask.any():
        raise FastFlowError(f"region {given}: nothing of it is inside the picture; {EXPECTED}")
    return mask


def region_text(given: str) -> str:
    """Return what was given of a region, for people: of a mask image only its name.

    Example:
        >>> region_text("1,0,2,3")
        '1,0,2,3'
    """
    return Path(given).name if os.path.isfile(given) else given  # noqa: PTH113  as above


def _corners(given: str) -> list[tuple[float, float]]:
    try:
        numbers = [float(text) for text in re.split(r"\s*[,;\s]\s*", given.strip())]
    except ValueError:
        numbers = []
    if not all(map(np.isfinite, numbers)) or len(numbers) % 2 or len(numbers) < 4:
        raise FastFlowError(f"region {given}: {EXPECTED}")
    if len(numbers) > 4:
        return list(zip(numbers[::2], numbers[1::2], strict=True))
    left, top, width, height = numbers
    if width <= 0 or height <= 0:
        raise FastFlowError(f"region {given}: a width or height below 1; {EXPECTED}")
    right, bottom = left + width - 1, top + height - 1
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


def _drawn(corners: list[tuple[float, float]], size: tuple[int, int]) -> np.ndarray:
    """Return the polygon's pixels, its outline among them."""
    height, width = size
    canvas = Image.new("1", (width, height))
    ImageDraw.Draw(canvas).polygon(corners, fill=1, outline=1)
    return np.array(canvas)
