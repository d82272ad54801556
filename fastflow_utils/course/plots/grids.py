"""Images, masks and heat maps, as pictures and in rows of pictures."""

from collections.abc import Sequence

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from fastflow_utils.course.plots.style import plain
from fastflow_utils.detector.heat_maps import Pixels

__all__ = [
    "colour_bar",
    "image_grid",
    "montage",
]


def image_grid(
    pictures: Sequence[Sequence[Pixels]],
    columns: Sequence[str],
    rows: Sequence[str],
    heading: str = "",
) -> Figure:
    """Return pictures in rows and columns, with a name above each column and beside each row.

    Rows and heading are shown as they are; the names of columns may hold formulas.
    """
    figure = Figure(figsize=(1.9 * len(columns), 1.95 * len(rows)), dpi=80, layout="constrained")
    axes = figure.subplots(len(rows), len(columns), squeeze=False)
    for row, name in enumerate(rows):
        for column, picture in enumerate(pictures[row]):
            _frame(axes[row, column]).imshow(picture)
        axes[row, 0].set_ylabel(plain(name), fontsize=10.5)
    for column, name in enumerate(columns):
        axes[0, column].set_title(name, fontsize=11)
    figure.suptitle(plain(heading))
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
        >>> from fastflow_utils.course.plots import panels
        >>> figure, _ = panels("before", "after")
        >>> len(colour_bar(figure, "mm", 0, 1).axes)
        3
    """
    scale = ScalarMappable(Normalize(low, high), colours)
    figure.colorbar(scale, ax=list(figure.axes), label=label)
    return figure
