"""Images, masks and heat maps, as pictures and in rows of pictures."""

from collections.abc import Sequence
from textwrap import fill
from typing import Any, cast

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from fastflow_utils.course.plots.style import plain
from fastflow_utils.detector.heat_maps import Pixels

SIDE = 1.75  # of a square picture in a grid, in inches
WIDER = 0.95  # by how much a colour bar makes a figure wider, in inches

__all__ = [
    "colour_bar",
    "heat_bar",
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

    All are equally high; a wide picture has a wide column, and a row may end early. Rows and
    heading are shown as they are; the names of columns may hold formulas.

    Say what the pictures show: :func:`~fastflow_utils.course.plots.describe`.
    """
    shapes = [[picture.shape[1] / picture.shape[0] for picture in row] for row in pictures]
    widths = [
        max(row[column] for row in shapes if column < len(row)) for column in range(len(columns))
    ]
    names = [_wrapped(name, int(22 * width)) for name, width in zip(columns, widths, strict=True)]
    above, beside = (max(map(_lines, texts), default=0) for texts in (names, rows))
    size = (
        (SIDE + 0.12) * sum(widths) + 0.2 * beside + 0.1,
        (SIDE + 0.1) * len(rows) + 0.22 * above + 0.26 * _lines(heading) + 0.1,
    )
    figure = Figure(figsize=size, dpi=80, layout="constrained")
    cast(ConstrainedLayoutEngine, figure.get_layout_engine()).set(w_pad=0.05, h_pad=0.04)
    axes = figure.subplots(len(rows), len(columns), squeeze=False, width_ratios=widths)
    for row, name in enumerate(rows):
        for column, cell in enumerate(axes[row]):
            _frame(cell)
            if column < len(pictures[row]):
                cell.imshow(pictures[row][column])
        axes[row, 0].set_ylabel(plain(name), fontsize=10.5)
    for column, name in enumerate(names):
        axes[0, column].set_title(name, fontsize=11)
    figure.suptitle(plain(heading))
    return figure


def _lines(text: str) -> int:
    return len(text.splitlines())


def _wrapped(name: str, width: int) -> str:
    """Break a long name, so that it stays above its own picture; formulas stay whole."""
    return name if "$" in name or "\n" in name else fill(name, width)


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
    figure: Figure,
    label: str,
    low: float,
    high: float,
    colours: str = "viridis",
    row: int | None = None,
    **options: Any,
) -> Figure:
    """Put one colour bar beside pictures that share its scale, and return their figure.

    The figure becomes wider, so that the pictures keep their size. A bar with this label that is
    there already is not drawn a second time.

    Args:
        figure: Pictures that were coloured before matplotlib saw them, as in :func:`image_grid`.
        label: What the colours show, with its unit.
        low: What the lowest colour means.
        high: What the highest colour means.
        colours: The colour map's name.
        row: Beside which row of the grid, from 0 or, negative, from below. Default: all of them.
        **options: Of matplotlib's ``Figure.colorbar``, such as ``extend="both"``.

    Example:
        >>> from fastflow_utils.course.plots import panels
        >>> figure, _ = panels("before", "after")
        >>> colour_bar(figure, "mm", 0, 1).axes[1].child_axes[0].get_ylabel()
        'mm'
    """
    grid = [axes for axes in figure.axes if axes.get_subplotspec() is not None]
    tops = sorted({_row(axes) for axes in grid})
    if row is not None:
        grid = [axes for axes in grid if _row(axes) == tops[row]]
    bars = [bar for axes in grid for bar in axes.child_axes]
    bars += [axes for axes in figure.axes if axes.get_subplotspec() is None]
    if label in [bar.get_ylabel() for bar in bars]:
        return figure
    width, height = figure.get_size_inches()
    figure.set_size_inches(width + WIDER, height)
    scale = ScalarMappable(Normalize(low, high), colours)
    if row is not None or len(tops) == 1:  # as high as its pictures
        bar = grid[-1].inset_axes((1.04, 0, 0.06, 1))
        figure.colorbar(scale, cax=bar, label=label, **options)
    else:
        style: dict[str, Any] = {"fraction": 0.12 / width, "aspect": 12 * len(tops), "pad": 0.01}
        figure.colorbar(scale, ax=grid, label=label, **style | options)
    return figure


def heat_bar(figure: Figure, row: int | None = None) -> Figure:
    """Put the colour bar of the course's heat maps beside pictures, and return their figure.

    It goes from 0.5, black, to 1, yellow: see :func:`~fastflow_utils.detector.heat_maps.heat`.

    Args:
        figure: With heat maps among its pictures.
        row: As for :func:`colour_bar`.

    Example:
        >>> import numpy as np
        >>> figure = image_grid([[np.zeros((8, 8, 3))]], ["heat map"], [""])
        >>> heat_bar(figure).axes[0].child_axes[0].get_ylabel()
        'anomaly map'
    """
    return colour_bar(figure, "anomaly map", 0.5, 1, "inferno", row)


def _row(axes: Axes) -> int:
    place = axes.get_subplotspec()
    return place.rowspan.start if place else 0
