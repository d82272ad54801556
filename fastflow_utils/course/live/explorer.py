"""The data of the feature explorer: feature maps with 8 bits a number."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib import colormaps
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from torch import Tensor

from fastflow_utils.course.live.packing import pack, quantise
from fastflow_utils.course.live.thumbnails import thumbnail
from fastflow_utils.data.mvtec import Sample
from fastflow_utils.detector.features import pca_colours

__all__ = ["Explored", "HeatMap", "explorer", "outline_path", "pack_level"]

PICTURE = 256  # pixels of an image's longer side, at most
TABLES = ("viridis", "inferno")
Data = dict[str, Any]


@dataclass(frozen=True)
class HeatMap:
    """A map that does not depend on the view, such as a level's negative log-likelihood.

    Attributes:
        text: What stands beneath it, with its unit.
        short: What stands before its value at A.
        bounds: What its lowest and highest colours mean; None for the range of each map.
        table: Its colours, one of :data:`TABLES`.
    """

    text: str
    short: str
    bounds: tuple[float, float] | None = None
    table: str = "viridis"

    def as_data(self) -> Data:
        """Return it as the script takes it."""
        bounds = self.bounds and dict(zip(("low", "high"), self.bounds, strict=True))
        open_below = {"sign": "≤ "} if bounds else {}
        data = {"text": self.text, "short": self.short, "table": TABLES.index(self.table)}
        return data | (bounds or {}) | open_below


@dataclass(frozen=True)
class Explored:
    """One image as the explorer shows it.

    Attributes:
        name: For people.
        sample: Image and mask.
        views: For each view (a network, a space), the levels (C_l, H_l, W_l).
        maps: For each :class:`HeatMap`, the levels (1, H_l, W_l).
        start: Row and column of A, from 0 to 1.
    """

    name: str
    sample: Sample
    views: Sequence[Sequence[Tensor]]
    start: tuple[float, float]
    maps: Sequence[Sequence[Tensor]] = ()


def explorer(
    title: str,
    views: Mapping[str, Sequence[str]],
    images: Iterable[Explored],
    count: int,
    budget: int | None = None,
    maps: Sequence[HeatMap] = (),
) -> Data:
    """Return the data of kind "features", of as many images as the budget allows.

    Args:
        title: Of the data set.
        views: What they are called together, and their names: ``{"network": ["A", "B"]}``.
        images: Taken in this order, and made only as far as they are taken.
        count: How many images there are.
        budget: Bytes that the images may take, as JSON. Default: all of them. One always travels.
        maps: What each image's ``maps`` are.
    """
    ((label, names),) = views.items()
    packed: list[Data] = []
    size = 0
    for one in images:
        packed.append(_packed(one))
        size += len(json.dumps(packed[-1]))
        if budget is not None and size + size // len(packed) > budget:
            break
    left_out = f"{len(packed)} of {count} images: JupyterLab has all of them."
    return {
        "kind": "features",
        "title": title,
        "views": {"label": label, "labels": list(names)},
        "images": packed,
        "maps": [one.as_data() for one in maps],
        "tables": [_table(name) for name in TABLES],
        "note": left_out if len(packed) < count else "",
    }


def _packed(one: Explored) -> Data:
    return {
        "name": one.name,
        "picture": thumbnail(one.sample.image, PICTURE, quality=75),
        "outline": outline_path(one.sample.mask),
        "start": one.start,
        "views": [
            [pack_level(h, one.sample.image.shape[1] / h.shape[1]) for h in levels]
            for levels in one.views
        ],
        "maps": [[_pack_map(level) for level in levels] for levels in one.maps],
    }


def pack_level(h: Tensor, stride: float) -> Data:
    r"""Return one level's features with 8 bits a number, as directions and lengths.

    What is written for position i is :math:`h_i / \lVert h_i \rVert` and the logarithm of
    :math:`\lVert h_i \rVert`, each channel with a low and a step of its own
    (:func:`~fastflow_utils.course.live.packing.quantise`). Short vectors are then as exact as long
    ones: a cosine of two positions is off by less than 0.01 for EfficientNet-Lite0 and ResNet18,
    where 8 bits for the features themselves would leave 0.03. A length is off by 1/510 of the
    range of their logarithms.

    Args:
        h: (C, H_l, W_l) with C >= 3.
        stride: Pixels of the image for each step.

    Returns:
        ``name``, ``size``, ``q`` (packed, (C + 1, H_l, W_l)), ``low``, ``step``, and ``axes``
        (3, C) and ``offset`` (3,), with which a position's colours, red, green and blue, are
        those of :func:`~fastflow_utils.detector.features.pca_colours`.

    Example:
        >>> sorted(pack_level(torch.rand(8, 4, 4), 16))
        ['axes', 'low', 'name', 'offset', 'q', 'size', 'step']
    """
    h = h.float()
    height, width = h.shape[1:]
    length = h.norm(dim=0, keepdim=True)
    length = length.clamp_min(1e-4 * length.max().item() or 1e-4)
    q, low, step = quantise(torch.cat([h / length, length.log()]))
    # The colours are linear in h, so three axes are found in them, without a second analysis.
    positions = torch.cat([h.flatten(1), torch.ones(1, height * width)]).double().T
    axes = torch.linalg.pinv(positions) @ pca_colours(h).flatten(1).double().T
    return {
        "name": f"stride {stride:.3g}",
        "size": [height, width],
        "q": pack(q),
        "low": _short(low),
        "step": _short(step),
        "axes": [_short(axis) for axis in axes[:-1].T],
        "offset": _short(axes[-1]),
    }


def _pack_map(values: Tensor) -> Data:
    q, low, step = quantise(values)
    return {"q": pack(q), "low": low.item(), "step": step.item()}


def _short(numbers: Tensor) -> list[float]:
    """Return numbers with the six digits that count of a float32."""
    return [float(f"{number:.6g}") for number in numbers.tolist()]


def outline_path(mask: Tensor) -> str:
    """Return the outline of a mask (1, H, W) as an SVG to be laid over its picture; "" if empty.

    Example:
        >>> mask = torch.zeros(1, 10, 10, dtype=torch.bool)
        >>> outline_path(mask)
        ''
        >>> mask[0, 2:4, 5:8] = True
        >>> outline_path(mask)[:5]
        '<svg '
    """
    if not mask.any():
        return ""
    height, width = mask.shape[1:]
    wide = F.pad(mask[0].float(), (1, 1, 1, 1))  # a mask may touch the border
    (lines,) = Figure().subplots().contour(wide.numpy(), [0.5]).get_paths()
    steps = []
    for polygon in lines.to_polygons(closed_only=False):
        places = 100 * (np.asarray(polygon) - 0.5) / (width, height)
        steps.append("M" + "L".join(f"{x:.4g} {y:.4g}" for x, y in places))
    line = f'<path d="{"".join(steps)}Z"/>'
    return f'<svg viewBox="0 0 100 100" preserveAspectRatio="none">{2 * line}</svg>'


def _table(name: str) -> Data:
    """Return a table of 256 colours, red, green, blue and alpha, and its bar for CSS."""
    colours = colormaps[name]
    rgba = torch.tensor([colours(i, bytes=True) for i in range(256)], dtype=torch.uint8)
    stops = ", ".join(to_hex(colours(i / 8)) for i in range(9))
    return {"colours": pack(rgba), "bar": f"linear-gradient(90deg, {stops})"}
