"""Maps of the line and of the plane, and what they do to densities."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import seaborn as sns
import torch
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure
from torch import Tensor

from fastflow_utils.course.plots.style import panels

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
    """Draw a grid of cells, wherever their corners have come to, and return what was drawn.

    Args:
        axes: Where to draw.
        corners: Points in the plane, (R + 1, C + 1, 2).
        values: What the cells' colours show, (R, C).
        **options: Of matplotlib's ``Axes.pcolormesh``, such as ``vmin`` and ``vmax``.
    """
    lines: dict[str, Any] = {"edgecolors": (1, 1, 1, 0.6), "linewidth": 0.3}
    axes.set_aspect("equal")
    return axes.pcolormesh(*corners.unbind(-1), values, **lines | options)


def planes(
    heading: str,
    pictures: Mapping[str, Tensor | tuple[Tensor, Tensor, str]],
    x: tuple[float, float] = (-3, 3),
    y: tuple[float, float] = (-3, 3),
    columns: int = 4,
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
    width, rows = min(10.4 / columns, 4.2), -(-len(pictures) // columns)
    height = 1.3 + (width - 0.4) * (y[1] - y[0]) / (x[1] - x[0])
    figure = Figure((columns * width, rows * height), dpi=80, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    for panel, (name, picture) in zip(axes.flat, pictures.items(), strict=False):
        panel.set_title(name)
        if isinstance(picture, Tensor):
            panel.scatter(picture[:, 0], picture[:, 1], s=2, linewidths=0)
        else:
            corners, values, label = picture
            fine = len(values) > 100  # lines would hide cells as small as these
            cells = mesh(panel, corners, values, **{"edgecolors": "none"} if fine else {})
            figure.colorbar(cells, ax=panel, label=label, orientation="horizontal")
        panel.set(aspect="equal", xlim=x, ylim=y)
    for panel in axes[-1]:
        panel.set_xlabel("first coordinate")
    for panel in axes[:, 0]:
        panel.set_ylabel("second coordinate")
    figure.suptitle(heading)
    return figure


def jacobian(J: Tensor, split: int) -> Figure:
    """Show the Jacobian (N, N) of a coupling whose first ``split`` dimensions are x_a."""
    figure, [axes] = panels("A coupling's Jacobian is triangular", width=5, height=4)
    picture = axes.imshow(J, cmap="vlag", vmin=-2, vmax=2)
    axes.axhline(split - 0.5, color="black", linewidth=0.8)
    axes.axvline(split - 0.5, color="black", linewidth=0.8)
    middles = [split / 2, (split + len(J)) / 2]
    axes.set_xticks(middles, ["$x_a$", "$x_b$"])
    axes.set_yticks(middles, ["$z_a$", "$z_b$"])
    axes.set(xlabel="dimension of x", ylabel="dimension of z")
    figure.colorbar(picture, label=r"$\partial z / \partial x$")
    return figure


def change_of_variables(
    x: Tensor,
    z: Tensor,
    p_x: Tensor,
    p_z: Tensor,
    samples: np.ndarray[tuple[int, ...], np.dtype[np.float32]],
    parts: int = 8,
) -> Figure:
    """Show a map between two axes, and how it carries one density to the other.

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
    below.hist(samples, 150, density=True, histtype="step", color="black", label="samples")
    below.legend()
    left.set(xlabel="density $p_Z$", ylabel="$z$", ylim=(-3, 3))
    left.invert_xaxis()
    left.tick_params(labelbottom=True)
    below.tick_params(labelleft=True)
    shown = x[z.abs() <= 3]
    below.set(xlabel="$x$", ylabel="density $p_X$", xlim=(shown[0], shown[-1]))
    curve.set_title("Steep map, dense x: equal colours, equal probability")
    corner.axis("off")
    return figure
