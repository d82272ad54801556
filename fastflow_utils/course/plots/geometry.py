"""Maps of the line and of the plane, and what they do to densities."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import seaborn as sns
import torch
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, QuadMesh
from matplotlib.figure import Figure
from matplotlib.patches import ConnectionPatch
from torch import Tensor

from fastflow_utils.course.plots.boxes import INK
from fastflow_utils.course.plots.style import describe, panels, span

LINES = 16  # at most so many cells are drawn with lines, across and up

__all__ = ["cell_areas", "change_of_variables", "jacobian", "mesh", "planes", "square"]


def square(low: float, high: float, count: int) -> Tensor:
    """Return a square grid of points in the plane, (count, count, 2).

    >>> square(0, 1, 2)[:, :, 0]
    tensor([[0., 1.],
            [0., 1.]])
    """
    line = torch.linspace(low, high, count)
    return torch.stack(torch.meshgrid(line, line, indexing="xy"), dim=-1)


def cell_areas(corners: Tensor) -> Tensor:
    """Return the area of every cell of a grid: half the cross product of its diagonals.

    Args:
        corners: Points in the plane, (R + 1, C + 1, 2).

    Returns:
        Areas, (R, C).

    Example:
        >>> cell_areas(3 * square(0, 1, 2))
        tensor([[9.]])
    """
    one, other = corners[1:, 1:] - corners[:-1, :-1], corners[1:, :-1] - corners[:-1, 1:]
    return (one[..., 0] * other[..., 1] - one[..., 1] * other[..., 0]).abs() / 2


def mesh(axes: Axes, corners: Tensor, values: Tensor, **options: Any) -> QuadMesh:
    """Draw a grid of cells, wherever their corners have come to, and return the coloured cells.

    Lines are drawn around every cell, but never more than 16 cells across: more would hide the
    colours.

    Args:
        axes: Where to draw.
        corners: Points in the plane, (R + 1, C + 1, 2).
        values: What the cells' colours show, (R, C).
        **options: Of matplotlib's ``Axes.pcolormesh``, such as ``vmin`` and ``vmax``.
    """
    axes.set_aspect("equal")
    x, y = np.moveaxis(corners.numpy(), -1, 0)
    cells = axes.pcolormesh(x, y, values.numpy(), edgecolors="none", **options)
    step = -(-(max(corners.shape[:2]) - 1) // LINES)
    lines = [*corners[::step], *corners[:, ::step].unbind(1)]
    axes.add_collection(
        LineCollection([line.numpy() for line in lines], colors=(0, 0, 0, 0.45), linewidths=0.5),
        autolim=False,
    )
    return cells


def planes(
    heading: str,
    pictures: Mapping[str, Tensor | tuple[Tensor, Tensor, str]],
    x: tuple[float, float] = (-3, 3),
    y: tuple[float, float] = (-3, 3),
    columns: int = 2,
) -> Figure:
    """Show clouds of points and coloured grids of the plane side by side.

    Args:
        heading: What the pictures say together.
        pictures: By title: points (N, 2), or corners, values (see :func:`mesh`) and what the
            values are.
        x: Between which values of the first coordinate.
        y: The same for the second coordinate.
        columns: How many stand in one row.
    """
    rows = -(-len(pictures) // columns)
    width, bars = 2.5, [isinstance(picture, tuple) for picture in pictures.values()]
    height = 0.62 + (width - 0.35) * (y[1] - y[0]) / (x[1] - x[0])
    beside = sum(0.9 * any(bars[column::columns]) for column in range(columns))
    size = (columns * width + beside + 0.3, rows * height + 0.5)
    figure = Figure(size, dpi=80, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    for panel, (name, picture) in zip(axes.flat, pictures.items(), strict=False):
        panel.set_title(name)
        if isinstance(picture, Tensor):
            panel.scatter(picture[:, 0], picture[:, 1], s=3, linewidths=0, color=INK)
        else:
            corners, values, label = picture
            if len(values) > 100:  # the values are the picture, the grid is not
                panel.set_aspect("equal")
                cells = panel.pcolormesh(*corners.unbind(-1), values, edgecolors="none")
            else:
                cells = mesh(panel, corners, values)
            place = panel.inset_axes((1.05, 0, 0.06, 1))  # as high as its picture
            figure.colorbar(cells, cax=place, label=label)
        panel.set(aspect="equal", xlim=x, ylim=y)
    for panel in axes.flat[len(pictures) :]:
        panel.axis("off")
    for panel in axes[-1]:
        panel.set_xlabel("first coordinate")
    for panel in axes[:, 0]:
        panel.set_ylabel("second\ncoordinate")
    figure.suptitle(heading)
    return figure


def jacobian(J: Tensor, split: int) -> Figure:
    """Show the Jacobian (N, N) of a coupling whose first ``split`` dimensions are x_a."""
    figure, [axes] = panels("A coupling's Jacobian is triangular", width=5.4, height=4.4)
    limit = float(J.abs().max())
    picture = axes.imshow(J, cmap="PRGn", vmin=-limit, vmax=limit)
    axes.axhline(split - 0.5, color="black", linewidth=0.8)
    axes.axvline(split - 0.5, color="black", linewidth=0.8)
    middles = [split / 2, (split + len(J)) / 2]
    axes.set_xticks(middles, ["$x_a$", "$x_b$"])
    axes.set_yticks(middles, ["$z_a$", "$z_b$"])
    axes.set(xlabel="dimension of x", ylabel="dimension of z")
    n = len(J)
    for x, y, words in [  # where the block has room
        (0.05 * split, 0.93 * split, "identity"),
        ((split + n) / 2, split / 2, "0"),
        (n - 0.03 * (n - split) - 0.5, split + 0.1 * (n - split), "$e^{s}$"),
    ]:
        aside = {"identity": "left", "0": "center"}.get(words, "right")
        axes.text(x, y, words, ha=aside, va="center", fontsize=13)
    figure.colorbar(picture, label=r"$\partial z / \partial x$")
    return describe(
        figure,
        f"Heat map of {n} by {n} derivatives in four blocks: of z_a the identity and zeros; of "
        f"z_b a block full of values, {span(J[split:, :split].flatten())}, and a diagonal, "
        f"{span(J[split:, split:].diagonal())}.",
    )


def change_of_variables(
    x: Tensor,
    z: Tensor,
    p_x: Tensor,
    p_z: Tensor,
    samples: np.ndarray[tuple[int, ...], np.dtype[np.float32]],
    parts: int = 8,
) -> Figure:
    """Show a map between two axes, and how it carries one density to the other.

    Guide lines lead from the borders of the coloured parts on the z axis to the curve and down.

    Args:
        x: Increasing, (N,).
        z: The map's values there, increasing, (N,).
        p_x: Density of x, (N,).
        p_z: Density of z at those values, (N,).
        samples: Draws of x.
        parts: Into how many parts of equal probability the densities are cut, a colour each.
    """
    figure = Figure((7, 5.2), dpi=80, layout="constrained")
    (left, curve), (corner, below) = figure.subplots(
        2, 2, sharex="col", sharey="row", width_ratios=[1, 3], height_ratios=[3, 1.3]
    )
    probability = torch.cumulative_trapezoid(p_x, x)
    for i, shade in enumerate(sns.color_palette("viridis", parts)):
        inside = (probability >= i / parts) & (probability <= (i + 1) / parts)
        part = torch.cat([inside, inside[-1:]])
        left.fill_betweenx(z[part], p_z[part], color=shade)
        below.fill_between(x[part], p_x[part], color=shade)
        curve.plot(x[part], z[part], color=shade, linewidth=4)
        if i:
            first = int(part.nonzero()[0])
            here = float(x[first]), float(z[first])
            _guide(figure, curve, here, left, (0, here[1]))
            _guide(figure, curve, here, below, (here[0], 0))
    below.hist(samples, 150, density=True, histtype="step", color="black", label="samples")
    below.legend()
    left.set(xlabel="density $p_Z$", ylabel="$z$", ylim=(-3, 3))
    left.invert_xaxis()
    left.tick_params(labelbottom=True)
    below.tick_params(labelleft=True)
    shown = x[z.abs() <= 3]
    below.set(xlabel="$x$", ylabel="density $p_X$", xlim=(float(shown[0]), float(shown[-1])))
    curve.set_title("A steep map makes x denser:\nequal colours, equal probability")
    corner.axis("off")
    rises = p_x.diff() > 0
    peaks = x[1:-1][rises[:-1] & ~rises[1:]].tolist()
    return describe(
        figure,
        "An increasing curve of z over x, the Gaussian density of z on its left, and beneath it "
        f"that of x, which a histogram of samples follows. It is highest at x = "
        f"{' and '.join(f'{peak:.1f}' for peak in peaks)}. Thin lines join equal colours.",
    )


def _guide(
    figure: Figure, one: Axes, start: tuple[float, float], other: Axes, end: tuple[float, float]
) -> None:
    """Draw a thin line from a point of one panel to a point of another."""
    line = ConnectionPatch(start, end, "data", axesA=one, axesB=other, color="0.55", linewidth=0.8)
    line.set_in_layout(False)
    figure.add_artist(line)
