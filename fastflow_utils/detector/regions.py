"""Where a picture is anomalous, as data: connected regions of its map, their boxes and outlines.

Places are in pixels of the picture, whatever the map's resolution: x to the right, y down, and
(0, 0) is the upper left corner of the first pixel.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Record", "Region", "find_regions", "write_coco"]


class Region(NamedTuple):
    """One connected region, in pixels of the picture."""

    area: float
    """How many pixels it covers."""
    mean: float
    """Of the map in it."""
    score: float
    """The map's highest value in it."""
    x: float
    """The left edge of its box."""
    y: float
    """The upper edge of its box."""
    width: float
    height: float
    centroid_x: float
    centroid_y: float
    polygon: list[float]
    """Its outer outline, x and y in turn, through the middles between pixels inside and outside;
    holes are filled in it (COCO's polygons have none), and do not count in the area."""


@dataclass(frozen=True)
class Record:
    """What is kept of a picture that was judged."""

    path: str
    sha256: str
    """Of the picture's file."""
    score: float
    width: int
    height: int
    """Of the picture the right way up, pixels."""
    regions: list[Region]


def find_regions(anomaly_map: Tensor, threshold: float, width: int, height: int) -> list[Region]:
    """Return the 8-connected regions of a map (1, h, w) where it is at or above a threshold.

    They are found at the map's resolution and scaled to the picture: their edges are as coarse as
    the map is.

    Args:
        anomaly_map: On the CPU; higher is more anomalous.
        threshold: Of the same scale.
        width: Of the picture that the map covers, pixels.
        height: Of the picture, pixels.

    Returns:
        The one with the highest score first.

    Example:
        >>> import torch
        >>> anomaly_map = torch.zeros(1, 6, 8)
        >>> anomaly_map[0, 1:3, 4:7] = 0.9
        >>> [region] = find_regions(anomaly_map, 0.5, width=80, height=60)
        >>> region.area, region[3:9]
        (600.0, (40.0, 10.0, 30.0, 20.0, 55.0, 20.0))
    """
    values = anomaly_map[0].numpy()
    mask = values >= threshold
    if not mask.any():
        return []
    from scipy.ndimage import find_objects, label  # here: a good picture needs none of it

    scale = across, down = np.array([width / mask.shape[1], height / mask.shape[0]])
    labels, _ = label(mask, np.ones((3, 3)))
    regions = []
    for number, box in enumerate(find_objects(labels), 1):
        inside = labels[box] == number
        top, left = box[0].start, box[1].start
        rows, columns = np.nonzero(inside)
        outline = (np.array([left, top]) + _outline(inside)) * scale
        regions.append(
            Region(
                area=_pixels(len(rows) * across * down),
                mean=float(values[box][inside].mean(dtype=np.float64)),
                score=float(values[box][inside].max()),
                x=_pixels(left * across),
                y=_pixels(top * down),
                width=_pixels(inside.shape[1] * across),
                height=_pixels(inside.shape[0] * down),
                centroid_x=_pixels((left + columns.mean() + 0.5) * across),
                centroid_y=_pixels((top + rows.mean() + 0.5) * down),
                polygon=[_pixels(value) for value in outline.ravel()],
            )
        )
    return sorted(regions, key=lambda region: -region.score)


def _pixels(value: float) -> float:
    return round(float(value), 3)  # a thousandth of a pixel is enough


def _outline(inside: np.ndarray) -> np.ndarray:
    """Return the outer outline (n, 2) of a region (h, w), x and y from its box's corner."""
    from scipy.ndimage import binary_fill_holes
    from skimage.measure import find_contours

    # What is 8-connected has holes that are 4-connected: without them it has one outline.
    filled = np.pad(binary_fill_holes(inside), 1).astype(float)
    [closed] = find_contours(filled, 0.5, fully_connected="high")
    steps = np.diff(closed, axis=0)
    corners = closed[:-1][(steps != np.roll(steps, 1, axis=0)).any(axis=1)]
    return np.asarray(corners[:, ::-1] - 0.5)  # middles of the padded array's pixels to edges


def write_coco(file: TextIO, records: Callable[[], Iterable[Record]]) -> None:
    """Write pictures and their regions as a data set in COCO's format for objects.

    Args:
        file: Where to.
        records: Gives the same records each time it is called: there are two passes, so that one
            record at a time is in memory.

    Example:
        >>> import io
        >>> region = Region(1, 0.8, 0.9, 2, 3, 1, 1, 2.5, 3.5, [2, 3.5, 2.5, 3, 3, 3.5])
        >>> record = Record("a.png", "", 3.0, 8, 6, [region])
        >>> write_coco(file := io.StringIO(), lambda: [record])
        >>> json.loads(file.getvalue())["annotations"][0]["bbox"]
        [2, 3, 1, 1]
    """
    file.write('{"categories": [{"id": 1, "name": "anomaly"}],\n"images": [')
    _write_items(file, _images(records()))
    file.write('],\n"annotations": [')
    _write_items(file, _annotations(records()))
    file.write("]}\n")


def _images(records: Iterable[Record]) -> Iterator[dict[str, Any]]:
    for number, one in enumerate(records, 1):
        yield {"id": number, "file_name": one.path, "width": one.width, "height": one.height}


def _annotations(records: Iterable[Record]) -> Iterator[dict[str, Any]]:
    regions = ((image, region) for image, one in enumerate(records, 1) for region in one.regions)
    for number, (image, region) in enumerate(regions, 1):
        yield {
            "id": number,
            "image_id": image,
            "category_id": 1,
            "bbox": [region.x, region.y, region.width, region.height],
            "area": region.area,
            "segmentation": [region.polygon],
            "iscrowd": 0,
            "score": region.score,
        }


def _write_items(file: TextIO, items: Iterable[dict[str, Any]]) -> None:
    for number, item in enumerate(items):
        file.write(",\n" if number else "\n")
        json.dump(item, file)
