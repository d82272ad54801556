"""Height and width of pictures: one number for a square, or both."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

from PIL import ExifTags, Image

from fastflow_utils.errors import FastFlowError

__all__ = ["Size", "file_size", "height_width", "size_text", "sizes_of"]

Size: TypeAlias = int | tuple[int, int]
"""H = W, or (H, W), in pixels."""


def height_width(size: Size | Sequence[int]) -> tuple[int, int]:
    """Return (H, W) of a size.

    Raises:
        FastFlowError: If it is neither a positive int nor two of them.

    Example:
        >>> height_width(256), height_width((192, 256))
        ((256, 256), (192, 256))
    """
    both = (size, size) if isinstance(size, int) else tuple(size)
    if len(both) != 2 or not all(type(side) is int and side >= 1 for side in both):
        raise FastFlowError(f"size {size}: expected a whole number of pixels, or height and width")
    return both[0], both[1]


def size_text(size: Size | Sequence[int]) -> str:
    """Return a size for people: height x width where they differ.

    Example:
        >>> size_text(256), size_text((192, 256))
        ('256', '192 x 256')
    """
    height, width = height_width(size)
    return str(height) if height == width else f"{height} x {width}"


def file_size(path: Path) -> tuple[int, int] | None:
    """Return (H, W) of a picture the right way up, from its file's head; None if it has none."""
    try:
        with Image.open(path) as image:
            is_turned = image.getexif().get(ExifTags.Base.Orientation, 1) > 4
            return (image.width, image.height) if is_turned else (image.height, image.width)
    except (OSError, ValueError, SyntaxError):
        return None


def sizes_of(paths: Sequence[Path]) -> Counter[tuple[int, int]]:
    """Return how many pictures have each (H, W)."""
    return Counter(size for path in paths if (size := file_size(path)))
