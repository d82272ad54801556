"""What every figure of the series shares: text sizes, colours, panels, and how it is shown."""

import io
import re
from base64 import b64encode
from collections.abc import Iterable
from pathlib import Path
from textwrap import shorten
from typing import Any, BinaryIO, cast

import numpy as np
import seaborn as sns
from cycler import cycler
from IPython import get_ipython
from IPython.core.interactiveshell import InteractiveShell
from IPython.core.pylabtools import retina_figure, select_figure_formats
from matplotlib import rcParams
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image, ImageChops, ImageFilter

__all__ = [
    *("COUNTED_COLOUR", "HELD_OUT_COLOUR", "OTHER_COLOURS", "STYLE", "TRAIN_COLOUR"),
    *("UNCOUNTED_COLOUR", "describe", "one_panel", "panels", "plain", "save", "seen", "smallest"),
    "span",
]

_PALETTE = sns.color_palette("colorblind")
OTHER_COLOURS = [(0.42, 0.16, 0.6), (0.5, 0.5, 0.0), (0.5, 0.25, 0.12), (0.6, 0.52, 0.78)]
"""Purple, olive, brown, lilac: none of them stands for anything else in the course. A dash or a
marker tells lines apart, too."""

COUNTED_COLOUR, UNCOUNTED_COLOUR = _PALETTE[2], _PALETTE[7]
"""A log-determinant that the loss counts (green), and one that it leaves out (grey)."""

TRAIN_COLOUR, HELD_OUT_COLOUR = (0.15, 0.15, 0.15), _PALETTE[4]
"""What is measured on the images learnt from (black), and on held-out ones (pink)."""

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

SHARP = 2  # how many pixels of a shown figure lie side by side in one of the page


def smallest(picture: Image.Image) -> tuple[str, bytes]:
    """Return a figure's pixels as a file that looks the same and is small, and its MIME type.

    Lines and flat colours become a PNG with a palette, as long as no spot of it changes its
    colour; what has too many colours stays an exact PNG; photographs become a JPEG where that is
    less than half as large.

    Args:
        picture: In RGB.

    Example:
        >>> smallest(Image.new("RGB", (40, 30), "white"))[0]
        'image/png'
    """
    photo = _file(picture, "jpeg", quality=88, subsampling=0)
    palette = picture.quantize(256, dither=Image.Dither.NONE)
    # A lone pixel at a line's edge may be off by more: an area of 3 by 3 may not.
    off = ImageChops.difference(picture, palette.convert("RGB")).filter(ImageFilter.BoxBlur(1))
    same = max(high for _, high in cast(list[tuple[int, int]], off.getextrema())) <= 10
    drawing = _file(palette, "png", optimize=True) if same else _file(picture, "png")
    if 2 * len(photo) < len(drawing):
        return "image/jpeg", photo
    return "image/png", drawing


def _file(picture: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def _show_figures(shell: InteractiveShell) -> None:
    """Let a notebook show each Figure sharp, in the size of the figure, as a PNG or a JPEG.

    The alternative text of its picture is what :func:`seen` returns.
    """
    import matplotlib_inline.backend_inline  # noqa: F401 - or pyplot would choose formats later

    photos: dict[Figure, Any] = {}  # from the one formatter to the other, which comes next

    def png(figure: Figure) -> Any:
        # A page draws over some live figures: they keep their margins.
        edges = {"bbox_inches": None} if getattr(figure, "is_whole", False) else {}
        if (drawn := retina_figure(figure, pil_kwargs={"compress_level": 1}, **edges)) is None:
            return None  # it is empty
        picture = Image.open(io.BytesIO(drawn[0])).convert("RGB")
        kind, data = smallest(picture)
        width, height = (pixels // SHARP for pixels in picture.size)
        facts = {"width": width, "height": height, "alt": seen(figure)}
        shown = b64encode(data).decode(), facts
        if kind == "image/png":
            return shown
        photos[figure] = shown
        return None

    select_figure_formats(shell, {"png"})
    formatters = cast(Any, shell.display_formatter).formatters
    formatters["image/png"].for_type(Figure, png)
    formatters["image/jpeg"].for_type(Figure, lambda figure: photos.pop(figure, None))


if (shell := get_ipython()) is not None:  # a notebook: show a Figure as what it is, a picture
    _show_figures(shell)
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


def describe(figure: Figure, words: str) -> Figure:
    """Say in words what a figure shows, for those who cannot see it, and return the figure.

    The words follow the figure's title in the alternative text of its picture (see :func:`seen`):
    what the title says is not said again. They name what is drawn, and what a reader takes from
    it: where a curve begins and ends, what lies apart, what overlaps.

    Args:
        figure: Any.
        words: One or two sentences without formulas; with the title at most 300 characters.

    Example:
        >>> figure, [axes] = panels("Loss (sample set)")
        >>> line = axes.plot([3, 2, 1.5])
        >>> seen(describe(figure, "A line that falls from 3 to 1.5 and flattens."))
        'Loss (sample set). A line that falls from 3 to 1.5 and flattens.'
    """
    figure.set_label(" ".join(words.split()))
    return figure


def seen(figure: Figure) -> str:
    """Return a figure's alternative text: its title, and what is to be seen beneath it.

    That is what :func:`describe` was told. Of a figure that nobody described, the titles of its
    panels and the labels of its axes say what there is to see, if not what it looks like.

    Args:
        figure: Any; its title may be that of its only panel.

    Example:
        >>> figure, [axes] = panels("Loss")
        >>> text = axes.set_xlabel("epoch"), axes.set_ylabel(r"nll of $z_b$")
        >>> seen(figure)
        'Loss. Axes: epoch; nll of z_b.'
    """
    inner = [cast(Axes, bar) for axes in figure.axes for bar in axes.child_axes]
    panels = [*figure.axes, *inner]
    names = _named(axes.get_title() for axes in panels)
    title = _words(figure.get_suptitle()) or names
    if written := str(figure.get_label()):
        return _sentences(title, written)
    labels = _named(text for axes in panels for text in (axes.get_xlabel(), axes.get_ylabel()))
    inside = f"Panels: {names}" if names not in ("", title) else ""
    composed = _sentences(title, inside, f"Axes: {labels}" if labels else "")
    return shorten(composed, 300, placeholder=" ...")


def span(values: Iterable[float]) -> str:
    """Return the lowest and the highest of some values in words, for :func:`describe`.

    Example:
        >>> span([3.14159, -2, 40])
        '-2 to 40'
        >>> span([0.25])
        '0.25'
    """
    numbers = [f"{value:.3g}" for value in map(float, values)]
    ends = dict.fromkeys((min(numbers, key=float), max(numbers, key=float)))
    return " to ".join(ends)


def _named(texts: Iterable[str]) -> str:
    return "; ".join(dict.fromkeys(filter(None, map(_words, texts))))


def _sentences(*parts: str) -> str:
    return " ".join(
        part if part.endswith((".", "?", "!")) else f"{part}." for part in parts if part
    )


def _words(text: str) -> str:
    r"""Return a text of a figure as it is read, in one line: formulas without their signs.

    >>> print(_words(r"change of volume:" + "\n" + r"$\log\,|\det J_{ab}|$" + "\n" + r"a\$b"))
    change of volume: log |det J_ab|; a$b
    """
    text = re.sub(r"(?<![.,;:!?])\n(?!\()", "; ", text)  # a title's second line is read as one
    pieces = re.split(r"(?<!\\)\$", text)
    for i in range(1, len(pieces), 2):  # between two of them stands a formula
        formula = pieces[i].replace(r"\Vert", "|").replace(r"\,", " ")
        pieces[i] = re.sub(r"[{}]|\\(?:tilde)?", "", formula)
    return " ".join("".join(pieces).replace(r"\$", "$").split())


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
