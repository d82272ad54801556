"""What every figure of the series shares: text sizes, colours, panels."""

from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import seaborn as sns
from cycler import cycler
from IPython import get_ipython
from IPython.core.pylabtools import select_figure_formats
from matplotlib import rcParams
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

__all__ = [
    *("OTHER_COLOURS", "STYLE", "one_panel", "panels", "plain", "save"),
]

_PALETTE = sns.color_palette("colorblind")
OTHER_COLOURS = [_PALETTE[i] for i in (2, 4, 7, 5, 6, 8)]  # none that is blue or orange, too
STYLE = {
    "font.size": 12,
    "axes.titlesize": 12,
    "xtick.labelsize": 10.5,
    "ytick.labelsize": 10.5,
    "legend.fontsize": 10.5,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": cycler(color=OTHER_COLOURS),
    "figure.dpi": 80,
    "figure.constrained_layout.use": True,
}

if (shell := get_ipython()) is not None:  # a notebook: show a Figure as what it is, a picture
    select_figure_formats(shell, {"png"})
    rcParams.update(cast(Any, STYLE))


def plain(name: str) -> str:
    """Return a file's, a folder's or a defect's name so that matplotlib shows it as it is.

    Between two ``$`` it reads a formula, and a name that is none would end the drawing, as would
    bytes that are no text.

    Example:
        >>> print(plain("a$b_{$.png"))
        a\\$b_{\\$.png
    """
    return name.encode(errors="backslashreplace").decode().replace("$", r"\$")


def panels(
    *titles: str, width: float = 3.1, height: float = 3.1, **options: Any
) -> tuple[Figure, list[Axes]]:
    """Return a figure of panels side by side, one under each title, and the panels.

    Args:
        *titles: Of the panels.
        width: Of one panel, in inches.
        height: Of the figure, in inches.
        **options: Of matplotlib's ``Figure.subplots``, such as ``sharey=True``.

    Example:
        >>> figure, [left, right] = panels("before", "after")
        >>> right.get_title()
        'after'
    """
    figure = Figure((width * len(titles), height), dpi=80, layout="constrained")
    axes = list(figure.subplots(1, len(titles), squeeze=False, **options)[0])
    for panel, name in zip(axes, titles, strict=True):
        panel.set_title(name)
    return figure, axes


def save(figure: Figure, file: Path | str | BinaryIO, compress_level: int = 6) -> None:
    """Write a figure as PNG. It is drawn once, where ``Figure.savefig`` draws it twice.

    Args:
        figure: What to write.
        file: Where to.
        compress_level: Of the file, 0 (fast) to 9 (small).
    """
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    picture = Image.fromarray(np.asarray(canvas.buffer_rgba()))
    picture.save(file, "png", compress_level=compress_level)


def one_panel(heading: str) -> tuple[Figure, Axes]:
    """Return a small figure of one panel under a title, which may hold names, and the panel."""
    figure = Figure(figsize=(5, 3.4), dpi=80, layout="constrained")
    axes = figure.subplots()
    axes.set_title(plain(heading))
    sns.despine(ax=axes)
    return figure, axes
