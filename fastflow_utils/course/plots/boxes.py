"""Boxes, arrows and words: what the course's drawings are made of.

A drawing is one axes that fills its figure, in inches from the lower left corner. So it is as wide
as it says, and its text, in points, keeps its size: legible where the page is a phone's.
"""

from dataclasses import dataclass
from typing import Any, Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch
from matplotlib.text import Text

from fastflow_utils.course.plots.style import HELD_OUT_COLOUR
from fastflow_utils.detector.heat_maps import ANOMALOUS_COLOUR, GOOD_COLOUR

__all__ = ["Box", "Drawing", "Kind"]

INK = "0.2"
FONT = 12
Kind = Literal["plain", "frozen", "learned", "measured", "held out", "good", "anomalous", "bare"]


def _tint(colour: tuple[float, ...], share: float = 0.22) -> tuple[float, ...]:
    return tuple(1 - share * (1 - part) for part in colour)


YELLOW, OLIVE = (0.98, 0.93, 0.55), (0.55, 0.47, 0.0)
STYLES: dict[Kind, dict[str, Any]] = {
    "plain": {"facecolor": "white", "edgecolor": "0.35"},
    "frozen": {"facecolor": "0.86", "edgecolor": "0.45"},
    "learned": {"facecolor": YELLOW, "edgecolor": OLIVE},
    "measured": {"facecolor": "white", "edgecolor": OLIVE, "linestyle": (0, (3, 2))},
    "held out": {"facecolor": _tint(HELD_OUT_COLOUR, 0.35), "edgecolor": HELD_OUT_COLOUR},
    "good": {"facecolor": _tint(GOOD_COLOUR), "edgecolor": GOOD_COLOUR},
    "anomalous": {"facecolor": _tint(ANOMALOUS_COLOUR, 0.3), "edgecolor": ANOMALOUS_COLOUR},
    "bare": {"facecolor": "none", "edgecolor": "none"},
}
"""One look for one thing, in every drawing: what is frozen is grey, what is trained is yellow."""


@dataclass(frozen=True)
class Box:
    """A box of a drawing, in inches: its lower left corner and its size."""

    x: float
    y: float
    width: float
    height: float

    def at(self, across: float, up: float) -> tuple[float, float]:
        """Return a place in it, in shares of its width and height.

        Example:
            >>> Box(0, 1, 2, 4).at(0.5, 1)
            (1.0, 5)
        """
        return self.x + across * self.width, self.y + up * self.height

    @property
    def top(self) -> tuple[float, float]:
        """The middle of its upper edge."""
        return self.at(0.5, 1)

    @property
    def bottom(self) -> tuple[float, float]:
        """The middle of its lower edge."""
        return self.at(0.5, 0)

    @property
    def left(self) -> tuple[float, float]:
        """The middle of its left edge."""
        return self.at(0, 0.5)

    @property
    def right(self) -> tuple[float, float]:
        """The middle of its right edge."""
        return self.at(1, 0.5)


class Drawing:
    """A figure to draw into with boxes, arrows and words.

    Args:
        width: Of the figure, inches.
        height: Of the figure, inches.
        label: What is to be seen: the alternative text of the figure.
    """

    def __init__(self, width: float, height: float, label: str) -> None:
        self.figure = Figure((width, height), dpi=80, label=label)
        self.figure.set_layout_engine("none")
        self.axes: Axes = self.figure.add_axes((0, 0, 1, 1))
        self.axes.set(xlim=(0, width), ylim=(0, height))
        self.axes.axis("off")

    def box(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        words: str = "",
        kind: Kind = "plain",
        size: float = FONT,
        **options: Any,
    ) -> Box:
        """Draw a box from its lower left corner, with words in its middle."""
        shape = FancyBboxPatch(
            (x, y),
            width,
            height,
            boxstyle="round,pad=0,rounding_size=0.07",
            linewidth=1.4,
            **STYLES[kind] | options,
        )
        shape.set_label(words)
        self.axes.add_patch(shape)
        if words:
            self.words(x + width / 2, y + height / 2, words, size=size)
        return Box(x, y, width, height)

    def sign(self, x: float, y: float, sign: str, radius: float = 0.2) -> Box:
        """Draw an operation: its sign in a circle, whose middle is given."""
        self.axes.add_patch(Circle((x, y), radius, linewidth=1.4, **STYLES["plain"]))
        self.words(x, y, sign, size=15)
        return Box(x - radius, y - radius, 2 * radius, 2 * radius)

    def words(self, x: float, y: float, words: str, size: float = FONT, **options: Any) -> Text:
        """Write, centred unless told otherwise."""
        place: dict[str, Any] = {
            "ha": "center",
            "va": "center",
            "color": "black",
            "linespacing": 1.25,
        }
        return self.axes.text(x, y, words, fontsize=size, **place | options)

    def arrow(
        self, start: tuple[float, float], *stops: tuple[float, float], **options: Any
    ) -> None:
        """Draw an arrow from one place over others to the last."""
        style: dict[str, Any] = {"color": INK, "linewidth": 1.5} | options
        *corners, end = (start, *stops)
        if len(corners) > 1:
            self.axes.plot(*zip(*corners, strict=True), solid_capstyle="round", **style)
        head: dict[str, Any] = {
            "arrowstyle": "-|>",
            "mutation_scale": 13,
            "shrinkA": 0,
            "shrinkB": 0,
        }
        self.axes.add_patch(FancyArrowPatch(corners[-1], end, **head | style))

    def cross(self, x: float, y: float, size: float = 0.13) -> None:
        """Cross something out."""
        for tilt in (1, -1):
            self.axes.plot(
                (x - size, x + size), (y - tilt * size, y + tilt * size), color="black", lw=3.5
            )
