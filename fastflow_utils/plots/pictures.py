"""Images, masks and heat maps, as pictures and in rows of pictures."""

from collections.abc import Sequence

import numpy as np
import seaborn as sns
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from skimage.segmentation import find_boundaries
from torch import Tensor

from fastflow_utils.datasets import MVTecAD

__all__ = [
    "Pixels",
    "colour",
    "colour_bar",
    "heat",
    "image_grid",
    "montage",
    "outline",
    "overlay",
    "show",
    "title",
]

Pixels = np.ndarray[tuple[int, ...], np.dtype[np.float32]]
"""A picture, (H, W, 3) in [0, 1]."""


def title(dataset: MVTecAD) -> str:
    """Return the category's name for a figure's title; the sample set is named as such."""
    return f"{dataset.category} (sample set)" if dataset.is_sample_set else dataset.category


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
    line = find_boundaries(inside, mode="outer")
    drawn[find_boundaries(inside | line, mode="outer")] = 0
    drawn[line] = (0.2, 1.0, 0.4)
    return drawn


def image_grid(
    pictures: Sequence[Sequence[Pixels]],
    columns: Sequence[str],
    rows: Sequence[str],
    heading: str = "",
) -> Figure:
    """Return pictures in rows and columns, with a name above each column and beside each row."""
    figure = Figure(figsize=(1.9 * len(columns), 1.95 * len(rows)), dpi=80, layout="constrained")
    axes = figure.subplots(len(rows), len(columns), squeeze=False)
    for row, name in enumerate(rows):
        for column, picture in enumerate(pictures[row]):
            _frame(axes[row, column]).imshow(picture)
        axes[row, 0].set_ylabel(name, fontsize=10.5)
    for column, name in enumerate(columns):
        axes[0, column].set_title(name, fontsize=11)
    figure.suptitle(heading)
    return figure


def _frame(axes: Axes) -> Axes:
    """An axes without ticks; the label beside it stays."""
    axes.set(xticks=[], yticks=[])
    axes.grid(False)
    sns.despine(ax=axes, left=True, bottom=True)
    return axes


def montage(axes: Axes, pictures: Sequence[Pixels], names: Sequence[str]) -> None:
    """Show pictures of one size in a row, as one: a widget draws it faster than a grid of axes.

    Args:
        axes: Where; loses its ticks.
        pictures: (H, W, 3) each, in [0, 1].
        names: What stands above each.
    """
    height, width = pictures[0].shape[:2]
    gap = width // 24
    row = np.ones((height, len(pictures) * (width + gap) - gap, 3), np.float32)
    for number, (picture, name) in enumerate(zip(pictures, names, strict=True)):
        left = number * (width + gap)
        row[:, left : left + width] = picture
        axes.text(left + width / 2, -0.04 * height, name, ha="center", va="bottom")
    axes.imshow(row)
    axes.axis("off")


def colour_bar(
    figure: Figure, label: str, low: float, high: float, colours: str = "viridis"
) -> Figure:
    """Put one colour bar beside pictures that share its scale, and return their figure.

    Args:
        figure: Pictures that were coloured before matplotlib saw them, as in :func:`image_grid`.
        label: What the colours show, with its unit.
        low: What the lowest colour means.
        high: What the highest colour means.
        colours: The colour map's name.

    Example:
        >>> from fastflow_utils.plots import panels
        >>> figure, _ = panels("before", "after")
        >>> len(colour_bar(figure, "mm", 0, 1).axes)
        3
    """
    scale = ScalarMappable(Normalize(low, high), colours)
    figure.colorbar(scale, ax=list(figure.axes), label=label)
    return figure
