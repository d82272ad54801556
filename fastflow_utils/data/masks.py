"""Masks: which file is whose, where a file says that something is anomalous, and what is wrong.

A run and ``fastflow data check`` look at masks by the same function, :func:`look_at_all`.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import ExifTags, Image

from fastflow_utils.data.images import checked_size, image_files, is_visible, open_image
from fastflow_utils.data.listing import Item
from fastflow_utils.data.sizes import Size, height_width
from fastflow_utils.errors import FastFlowError
from fastflow_utils.frontend import track

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "ENDING",
    "VANISHED",
    "Finding",
    "find_masks",
    "load_mask",
    "look_at_all",
    "orientation",
    "read_mask",
    "the_one",
]

Finding = tuple[str, Path]  # what is wrong, and with which file

VANISHED = "vanished mask"
INVERTED = "inverted mask (white is what is good: swap black and white)"
NO_BLACK = "mask of several values without black (what is good is to be black)"
FLAT_GREY = "mask with dark grey areas, which count as good (make what is anomalous white)"
TURNED = (
    "mask of the picture before its EXIF turns it (turn the mask too, or store the picture turned)"
)

ENDING = re.compile(r"[ _-](mask|label|gt|ground[ _-]?truth|seg|segmentation)s?$", re.IGNORECASE)
FEW = 8  # values in a mask of class numbers, at most; what JPEG blurs has dozens
LOSSY = {".jpg", ".jpeg", ".jp2", ".webp"}


# Which mask is whose ----------------------------------------------------------------------------


def find_masks(images: Iterable[Path], folder: Path) -> dict[Path, tuple[Path, ...]]:
    """The masks that a folder holds for images, by the usual names.

    The mask of ``000.png`` may be ``000.png``, ``000_mask.png``, ``000_label.bmp``,
    ``000_gt.tif``, ``000-segmentation.PNG``, ..., or a folder ``000`` with several masks in it.

    Returns:
        The mask files of each image that has any.

    Raises:
        FastFlowError: An image has two files that may be its mask.
    """
    if not folder.is_dir():
        return {}
    images = list(images)
    stems = {image.stem for image in images}
    named: dict[str, list[tuple[Path, ...]]] = defaultdict(list)
    for path in sorted(folder.iterdir()):
        if path.is_dir() and is_visible(path) and (several := image_files(path)):
            named[path.name].append(tuple(several))
    for path in image_files(folder):
        # 000_gt.png belongs to 000.png, unless there is an image 000_gt.
        named[path.stem if path.stem in stems else ENDING.sub("", path.stem)].append((path,))
    found = {image: named[image.stem] for image in images if image.stem in named}
    return {image: the_one(image, groups) for image, groups in found.items()}


def the_one(image: Path, groups: Sequence[tuple[Path, ...]]) -> tuple[Path, ...]:
    """Return the one group of masks that was found for an image, or none.

    Raises:
        FastFlowError: There are two.
    """
    if len(groups) > 1:
        both = " and ".join(str(group[0]) for group in groups[:2])
        raise FastFlowError(f"{both} may both be the mask of {image}: leave one of them")
    return groups[0] if groups else ()


# What a mask says -------------------------------------------------------------------------------


def load_mask(path: Path | str | Sequence[Path | str], size: Size | None = None) -> Tensor:
    """A mask file, or the union of several, as booleans.

    MVTec AD's masks hold 0 and 255. Other masks hold class numbers, grey rims or the noise of
    JPEG, so one rule reads them all:

    - a file of at most eight values says what it means by each: every
      pixel that is not black is anomalous ({0, 1}, class numbers, {0, 255}, 1-bit, colours);
    - in any other file, and in a JPEG that is brighter than half of white anywhere, a pixel is
      anomalous from half of white on: this is where the edge was before it was smoothed.

    Of colours the brightest channel counts; what is transparent is black.

    Args:
        path: The mask file, or several.
        size: Resize to H = W or (H, W) pixels by the nearest one, so that an edge stays an
            edge; a defect thinner than the step between pixels may break up. ``None`` keeps the
            file's size.

    Returns:
        (1, H, W) bool, True = anomalous.

    Raises:
        FastFlowError: A file is missing, damaged or no image, or the files differ in size.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "mask.png"
        ...     Image.fromarray(np.array([[0, 0, 1, 1]], np.uint8)).save(path)
        ...     load_mask(path)
        tensor([[[False, False,  True,  True]]])
    """
    import torch

    return torch.from_numpy(read_mask(path, size))[None]


def read_mask(path: Path | str | Sequence[Path | str], size: Size | None = None) -> np.ndarray:
    """Return what :func:`load_mask` makes a tensor of: (H, W) bool."""
    paths = [path] if isinstance(path, Path | str) else list(path)
    masks = [_anomalous(Path(one)) for one in paths]
    for other, mask in zip(paths, masks, strict=True):
        if mask.shape != masks[0].shape:
            raise FastFlowError(f"{paths[0]} and {other}, of one picture, differ in size")
    mask = np.array(np.logical_or.reduce(masks))
    if size is None:
        return mask
    height, width = height_width(size)
    return np.array(Image.fromarray(mask).resize((width, height), Image.Resampling.NEAREST))


def _anomalous(path: Path) -> np.ndarray:
    """Where one file says that something is anomalous."""
    values, white = _values(path)
    levels = _levels(values)
    noisy = path.suffix.lower() in LOSSY and levels[-1] > white / 2
    return values > 0 if len(levels) <= FEW and not noisy else values >= white / 2


def _values(path: Path) -> tuple[np.ndarray, int]:
    """A mask's values (H, W), and the one that means white."""
    image = open_image(path)
    white = 255
    if image.mode.startswith(("I", "F")):  # 16 bits, or floats
        values = np.asarray(image)
        white = next((w for w in (1, 255) if image.mode == "F" and values.max() <= w), 65535)
    elif image.has_transparency_data:
        *colour, alpha = (np.asarray(band) for band in image.convert("RGBA").split())
        values = (np.maximum.reduce(colour).astype(np.uint16) * alpha + 254) // 255
    else:
        bands = image.convert("L" if image.mode in ("1", "L") else "RGB").split()
        values = np.maximum.reduce([np.asarray(band) for band in bands])
    return values, white


def _levels(values: np.ndarray) -> np.ndarray:
    if values.dtype in (np.uint8, np.uint16):
        return np.flatnonzero(np.bincount(values.ravel()))
    return np.unique(values)


# What is wrong ----------------------------------------------------------------------------------


def look_at_all(
    items: Sequence[Item], label: str, size: Size | None = None, white: int | None = None
) -> list[list[Finding]]:
    """Read pictures and their masks, and say of each what is wrong with it.

    Args:
        items: All of a split or of a category.
        label: Of the progress bar.
        size: Masks that have nothing anomalous left at this size are found, too.
        white: As for :func:`~fastflow_utils.data.images.as_image`, of the pictures.

    Returns:
        The findings of each item: "unreadable", "no mask", "empty mask", "mask of another size",
        :data:`VANISHED`, ..., with the file. That masks are inverted is found only where most of
        them look so: a single one may be of a picture that is damaged all over.
    """
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # each holds a picture of full size
        looked = pool.map(lambda item: _look_at(item, size, white), items)
        found = list(track(looked, label, len(items)))
    inverted = sum(what == INVERTED for seen in found for what, _ in seen)
    masked = sum(bool(item.label and item.masks) for item in items)
    if inverted > masked / 2:
        return found
    return [[one for one in seen if one[0] != INVERTED] for seen in found]


def _look_at(item: Item, size: Size | None, white: int | None) -> list[Finding]:
    findings: list[Finding] = []
    shape = None
    try:
        shape = checked_size(item.path, white)
    except FastFlowError:
        findings.append(("unreadable", item.path))
    if not item.masks:
        return findings
    if missing := [mask for mask in item.masks if not mask.is_file()]:
        return [*findings, ("no mask", missing[0])]
    mask, truths = item.masks[0], []
    for path in item.masks:
        try:
            truths.append(read_mask(path))
        except FastFlowError:
            return [*findings, ("unreadable", path)]
        if truths[-1].shape != truths[0].shape:
            return [*findings, ("mask of another size", path)]
    truth = np.logical_or.reduce(truths)
    if shape is not None and truth.shape != shape:
        turned = truth.shape == shape[::-1] and _is_turned(item.path)
        findings.append((TURNED if turned else "mask of another size", mask))
    if not item.label:
        return [*findings, *[("mask of a good picture is not black", mask)] * bool(truth.any())]
    if strange := [(what, path) for path in item.masks for what in _strange(path)]:
        findings.append(strange[0])
    elif not truth.any():
        findings.append(("empty mask", mask))
    elif _looks_inverted(truth):
        findings.append((INVERTED, mask))
    elif size is not None and not read_mask(item.masks, size).any():
        findings.append((VANISHED, mask))
    return findings


def _strange(path: Path) -> list[str]:
    """What makes the values of one mask file doubtful."""
    if path.suffix.lower() in LOSSY:  # whose values are noisy
        return []
    values, white = _values(path)
    levels = _levels(values)
    if len(levels) <= FEW:
        return [NO_BLACK] * bool(len(levels) > 1 and levels[0] > 0)
    # Of a smoothed edge, the greys are steps; numbers of objects fill areas.
    middle = values[1:-1, 1:-1]
    flat = np.logical_and.reduce(
        [
            middle == s
            for s in (values[2:, 1:-1], values[:-2, 1:-1], values[1:-1, 2:], values[1:-1, :-2])
        ]
    )
    grey = flat & (middle > 0) & (middle < white / 2)
    return [FLAT_GREY] * bool(grey.sum() > 0.1 * (values > 0).sum())


def _looks_inverted(truth: np.ndarray) -> bool:
    """Whether more than half of a mask and of its edges is white, and something is black."""
    edges = np.concatenate([truth[0], truth[-1], truth[:, 0], truth[:, -1]])
    return bool(truth.mean() > 0.5 and not truth.all() and edges.mean() > 0.5)


def _is_turned(path: Path) -> bool:
    """Whether a viewer shows the file with its sides swapped."""
    return orientation(path) > 4


def orientation(path: Path) -> int:
    """How the EXIF of a file says that it is to be turned; 1 for not at all, or no picture."""
    try:
        with Image.open(path) as image:
            return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except (OSError, ValueError, SyntaxError):
        return 1
