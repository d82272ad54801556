"""Which value means white in pictures of more than 8 bits: one for a whole data set.

A camera of 10 or 12 bits fills a part of a 16-bit file, and no file says which part. Divided by
65535, such pictures are nearly black; scaled by its own largest value, each has another scale.
So the pictures to learn from say it together, the model keeps it, and new pictures are held
against it.
"""

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from fastflow_utils.data.images import (
    EIGHT_BITS,
    ROUNDING,
    extremes,
    has_deep_colour,
    open_image,
)
from fastflow_utils.errors import FastFlowError

__all__ = ["Depth", "depth_of"]

WHITES = (255, 1023, 4095, 16383, 65535)
"""Of cameras with 8, 10, 12, 14 and 16 bits."""


class Depth(NamedTuple):
    """How the values of a data set's pictures become [0, 1].

    Attributes:
        white: What becomes 1; ``EIGHT_BITS`` where all pictures have 8 bits, so that deeper ones
            are refused later; None where nobody knows, of colour of 16 bits, which Pillow cuts.
        text: How that was found, in one sentence.
    """

    white: int | None
    text: str


class _Range(NamedTuple):
    """One file's kind, "8 bits", "colour" of 16, "integers" or "floats", and its largest value."""

    kind: str
    high: float


def depth_of(paths: Sequence[Path]) -> Depth:
    """Return how the values of these pictures become [0, 1], all of them alike.

    The white of integers is the first of 255, 1023, 4095, 16383 and 65535 that no value of any
    picture exceeds; that of floats may be 1, too. 8-bit pictures are divided by 255 always.

    Raises:
        FastFlowError: There is integers' and floats' depth in one data set, or the pictures of
            16-bit colour all have empty upper bits: Pillow keeps only these.

    Example:
        >>> depth_of([]).text
        'pictures of 8 bits, divided by 255'
    """
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = dict(zip(paths, pool.map(_range, paths), strict=True))
    _require_upper_bits([(one.high, path) for path, one in found.items() if one.kind == "colour"])
    deep = {path: one for path, one in found.items() if one.kind in ("integers", "floats")}
    if not deep:
        if any(one.kind == "colour" for one in found.values()):
            return Depth(None, "pictures of 16-bit colour, of which the upper 8 bits are read")
        return Depth(EIGHT_BITS, "pictures of 8 bits, divided by 255")
    kinds = {one.kind: path for path, one in deep.items()}
    if len(kinds) > 1:
        raise FastFlowError(
            f"pictures of integers and of floats, such as {kinds['integers']} and "
            f"{kinds['floats']}: expected one kind, with one scale; convert them alike"
        )
    highest = max(deep.values(), key=lambda one: one.high)
    whites: Iterable[int] = WHITES if highest.kind == "integers" else (1, *WHITES)
    rounding = 0 if highest.kind == "integers" else ROUNDING
    white = next(white for white in whites if highest.high <= white * (1 + rounding))
    others = len(found) - len(deep)
    text = f"{len(deep)} pictures of {highest.kind} up to {highest.high:g}, divided by {white}"
    if others:
        text += f"; {others} pictures of 8 bits beside them, divided by 255"
    return Depth(white, text)


def _range(path: Path) -> _Range:
    """Return a file's range; what cannot be read is found elsewhere, with a better message."""
    eight_bits = _Range("8 bits", 255)
    try:
        colour = has_deep_colour(path)
        with Image.open(path) as image:
            if not (colour or image.mode.startswith(("I", "F"))):
                return eight_bits
        picture = open_image(path)
        if not colour:
            return _Range("floats" if picture.mode == "F" else "integers", extremes(picture)[1])
    except (OSError, ValueError, SyntaxError, FastFlowError):
        return eight_bits
    bands = [np.asarray(band) for band in picture.split()]
    seen = bands[:-1] if picture.has_transparency_data else bands  # the last one is alpha
    return _Range("colour", 256 * max(int(band.max()) for band in seen) + 255)


def _require_upper_bits(colours: Sequence[tuple[float, Path]]) -> None:
    """Refuse 16-bit colour, each file with its largest value, of a camera with fewer bits."""
    high, path = max(colours, default=(65535, None))
    if high < 2**14:
        raise FastFlowError(
            f"{path} is 16-bit colour with values up to {high} only, as all others have, and "
            "Pillow keeps the upper 8 of 16 bits: convert such pictures to 8-bit colour or to "
            "16-bit grey"
        )
