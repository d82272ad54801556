"""Height and width of pictures: one number for a square, or both."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from PIL import ExifTags, Image

from fastflow_utils.errors import FastFlowError

__all__ = [
    "SQUEEZED",
    "Size",
    "file_size",
    "height_width",
    "size_text",
    "sizes_of",
    "squeezed",
    "usual_size",
]

SQUEEZED = 0.02  # largest relative change of height / width that nobody sees

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


def usual_size(paths: Sequence[Path]) -> tuple[int, int]:
    """Return the (H, W) that most of these pictures have.

    Raises:
        FastFlowError: None of them can be read.
    """
    sizes = sizes_of(paths)
    if not sizes:
        raise FastFlowError(f"none of {len(paths)} pictures can be read: expected PNG, JPEG, ...")
    return sizes.most_common(1)[0][0]


def squeezed(sizes: Mapping[tuple[int, int], int], image_size: Size) -> list[str]:
    """Return a sentence if pictures of these sizes change their shape when they are read.

    Args:
        sizes: How many pictures have each (H, W).
        image_size: They are read at.

    Example:
        >>> squeezed({(300, 400): 2, (256, 256): 7}, 256)
        ['squeezed: 2 of 9 pictures change their shape, most one of 300 x 400 px, by 33%']
    """
    height, width = height_width(image_size)
    changes = {(h, w): abs((height / width) / (h / w) - 1) for h, w in sizes}
    odd = {size: change for size, change in changes.items() if change > SQUEEZED}
    if not odd:
        return []
    most = max(odd, key=lambda size: odd[size])
    return [
        f"squeezed: {sum(sizes[size] for size in odd)} of {sum(sizes.values())} pictures change "
        f"their shape, most one of {size_text(most)} px, by {odd[most]:.0%}"
    ]
