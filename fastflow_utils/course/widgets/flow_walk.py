"""A walk through the layers of a flow in the plane: grid, points and density after each."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import ipywidgets
import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import QuadMesh
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from torch import Tensor

from fastflow_utils.course.plots import OTHER_COLOURS, describe, mesh, span, square
from fastflow_utils.course.widgets.explore import explore
from fastflow_utils.detector.flows import Flow, FlowLayer, standard_normal

__all__ = ["FlowWalk", "explore_flow", "flow_figure", "flow_strip", "walk_through"]

# Bright is inflated, as in the other figures of the plane; never so dark that it hides the lines.
PALE = ListedColormap(colormaps["YlGn_r"](np.linspace(0.25, 0.95, 256)), "pale")
GROUP_COLOURS = OTHER_COLOURS  # they stand for nothing else in the course
NAMES = ("grid", "data", "density")
WORDS = {"Permutation": "permutation", "AffineCoupling": "coupling", "Whitening": "whitening"}


@dataclass(frozen=True)
class FlowWalk:
    """What a flow of L layers makes of the plane, layer by layer; index 0 is x, index L is z.

    Attributes:
        names: What was applied last, L + 1 names.
        points: Where the N points have come to, (L + 1, N, 2).
        groups: Which group each point belongs to, (N,), 0 to 3; one colour each.
        log_det: log|det| of the layers so far at each point, (L + 1, N).
        corners: Where a square grid has come to, (L + 1, G, G, 2).
        cells: log|det| of the layers so far at the centre of each cell, (L + 1, G - 1, G - 1).
        density: What the layers still to come say that the density is here, on a regular grid of
            the shown square, (L + 1, P, P).
        limit: Half the side of the shown square, whose centre is 0.
    """

    names: list[str]
    points: Tensor
    groups: Tensor
    log_det: Tensor
    corners: Tensor
    cells: Tensor
    density: Tensor
    limit: float

    @property
    def nll(self) -> Tensor:
        """Mean nll of the points if the flow ended here, (L + 1,), in nats per dimension."""
        log_p = standard_normal(self.points.flatten(0, 1)[..., None, None])
        return -(log_p.reshape(self.log_det.shape) + self.log_det).mean(1) / 2


@torch.no_grad()
def walk_through(
    flow: Flow,
    points: Tensor,
    limit: float = 4.0,
    cells: int = 24,
    pixels: int = 120,
    groups: Tensor | None = None,
) -> FlowWalk:
    """Keep what every layer of a flow in the plane does. All that the figures show is made here.

    The points go forward, through the layers before. The density comes from the layers after: the
    change of variables from here to z. If the flow fits its data, the two agree at every layer.

    Args:
        flow: A trained flow of two channels.
        points: Data, (N, 2, 1, 1).
        limit: Half the side of the square to show.
        cells: How many cells the grid has along each side; it begins as a square around the data.
        pixels: How many points the density is computed at, along each side.
        groups: Which group each point belongs to, (N,), whole numbers from 0 to 4: each has a
            colour of its own, so that one sees which points part. Default: all are one group.

    Example:
        >>> from fastflow_utils.detector.flows import FlowOptions
        >>> flow = Flow(2, FlowOptions(steps=2, whiten=False)).eval()
        >>> walk = walk_through(flow, torch.randn(50, 2, 1, 1))
        >>> walk.names[:4]
        ['x', 'ActNorm of step 1', 'permutation of step 1', 'coupling of step 1']
        >>> walk.points.shape, walk.density.shape
        (torch.Size([7, 50, 2]), torch.Size([7, 120, 120]))
    """
    low, high = points.amin(0).flatten(), points.amax(0).flatten()
    side, middle = 1.15 * (high - low).max(), (low + high) / 2
    corners = middle + side * square(-0.5, 0.5, cells + 1)
    centres = (corners[1:, 1:] + corners[:-1, :-1]) / 2
    parts = [len(points), corners[..., 0].numel(), centres[..., 0].numel()]
    here = torch.cat([points.flatten(1), corners.flatten(0, 1), centres.flatten(0, 1)])
    plane = square(-limit, limit, pixels).flatten(0, 1)

    named = list(_layers(flow))
    states, log_det = [(here, here.new_zeros(len(here)))], here.new_zeros(len(here))
    for _, layer in named:
        z, more = layer(states[-1][0][..., None, None])
        log_det = log_det + more
        states.append((z.flatten(1), log_det))
    split = [torch.stack(kind).split(parts, dim=1) for kind in zip(*states, strict=True)]
    (moved, grid, _), (point_log_det, _, cell_log_det) = split
    return FlowWalk(
        ["x", *(name for name, _ in named)],
        moved,
        torch.zeros(len(points), dtype=torch.long) if groups is None else groups.long(),
        point_log_det,
        grid.unflatten(1, corners.shape[:2]),
        cell_log_det.unflatten(1, centres.shape[:2]),
        torch.stack(
            [
                _density([layer for _, layer in named[k:]], plane).reshape(pixels, pixels)
                for k in range(len(named) + 1)
            ]
        ),
        limit,
    )


def flow_figure(walk: FlowWalk, layer: int) -> Figure:
    """Show the grid, the points and the density after one layer; all is drawn, nothing computed.

    Args:
        walk: What :func:`walk_through` has kept.
        layer: 0 for x, before the first layer.
    """
    figure = Figure((7.6, 3.85), dpi=80)
    figure.set_layout_engine("none")  # arranging the panels anew would double the time
    lefts, width, height = (0.085, 0.4, 0.715), 0.27, 0.27 * 7.6 / 3.85
    panels = [figure.add_axes((left, 0.285, width, height)) for left in lefts]
    bars = [figure.add_axes((left, 0.13, width, 0.03)) for left in lefts[::2]]
    labels = [r"$\log\,|\det J|$ so far", "from the layers to come"]
    for drawn, bar, label in zip(_draw(panels, walk, layer), bars, labels, strict=True):
        figure.colorbar(drawn, cax=bar, orientation="horizontal", label=label)
    for panel, name in zip(panels, NAMES, strict=True):
        panel.set(title=name, xlabel="channel 1")
        panel.tick_params(labelleft=panel is panels[0])
    panels[0].set_ylabel("channel 2")
    figure.suptitle(_heading(walk, layer), y=0.98)
    return describe(figure, _told(walk, layer))


def flow_strip(walk: FlowWalk, layers: Sequence[int]) -> Figure:
    """Show the grid, the points and the density after some layers, one row for each."""
    figure = Figure((6.2, 1.72 * len(layers) + 1.5), dpi=80, layout="constrained")
    rows = figure.subplots(len(layers), 3, squeeze=False, sharex=True, sharey=True)
    for row, layer in zip(rows, layers, strict=True):
        grid, density = _draw(row, walk, layer)
        row[0].set_ylabel(f"{'x' if layer == 0 else f'after layer {layer}'}\nchannel 2")
    for axes, name in zip(rows[0], NAMES, strict=True):
        axes.set_title(name)
    for axes in rows[-1]:
        axes.set_xlabel("channel 1")
    style: dict[str, Any] = {
        "orientation": "horizontal",
        "fraction": 0.04,
        "pad": 0.01,
        "aspect": 14,
    }
    figure.colorbar(grid, ax=rows[:, 0], label=r"$\log\,|\det J|$ so far", **style)
    # Each density has its own scale: the highest of a sharp one is far above that of a round one.
    figure.colorbar(density, ax=rows[:, 2], label="0 to highest", ticks=[], **style)
    last = len(walk.names) - 1
    figure.suptitle(f"After all {last} layers the data are nearly standard normal")
    return describe(
        figure,
        f"In rows, after {', '.join(map(str, layers))} layers: the square grid bends, the data "
        "spread to a round cloud, and the density turns from the data's shape to a round spot.",
    )


def explore_flow(walk: FlowWalk, layer: int = 0) -> Figure | None:
    """Walk through the layers of a flow with a slider.

    Everything is precomputed by :func:`walk_through`: the points, the grid with its
    log-determinants and the density after each layer. The slider moves what was drawn once.

    Args:
        walk: What :func:`walk_through` has kept.
        layer: Where to begin; the static twin shows this layer.
    """
    slider = ipywidgets.IntSlider(layer, 0, len(walk.names) - 1, description="after layer")
    figure = flow_figure(walk, layer)
    every = {"layer": range(len(walk.names))}
    return explore(lambda layer: _move(figure, walk, layer), walked=every, layer=slider)


def _move(figure: Figure, walk: FlowWalk, layer: int) -> Figure:
    """Make a figure of one layer one of another: faster than new axes, ticks and colour bars."""
    grid, data, density = figure.axes[:3]
    old, image = list(grid.collections), density.images[0]
    low, high = cast(QuadMesh, old[0]).get_clim()
    for drawn in old:
        drawn.remove()
    mesh(grid, walk.corners[layer], walk.cells[layer], vmin=low, vmax=high, cmap=PALE)
    data.collections[0].set_offsets(walk.points[layer].numpy())
    image.set_data(walk.density[layer].numpy())
    image.set_clim(0, float(walk.density[layer].max()))
    figure.suptitle(_heading(walk, layer), y=0.98)
    return describe(figure, _told(walk, layer))


def _heading(walk: FlowWalk, layer: int) -> str:
    where = f"After {layer} of {len(walk.names) - 1} layers ({walk.names[layer]})"
    if layer == 0:
        where = "Before the first layer"
    return f"{where}: nll {walk.nll[layer]:.2f} if the flow ended here"


def _told(walk: FlowWalk, layer: int) -> str:
    """What the panels of one layer show, in words."""
    across, up = walk.points[layer].std(0).tolist()
    return (
        f"A {'bent' if layer else 'square'} grid with log |det J| "
        f"{span(walk.cells[layer].flatten())}; the data with standard deviations {across:.2f} "
        f"across and {up:.2f} up; and a heat map of their density by the layers to come."
    )


def _draw(panels: Sequence[Axes], walk: FlowWalk, layer: int) -> tuple[ScalarMappable, AxesImage]:
    """Draw into three axes; return what a colour bar explains: the grid and the density."""
    low, high = walk.cells.flatten().quantile(torch.tensor([0.01, 0.99])).tolist()
    grid = mesh(panels[0], walk.corners[layer], walk.cells[layer], vmin=low, vmax=high, cmap=PALE)
    x, y = walk.points[layer].T.numpy()
    shades = np.array(GROUP_COLOURS)[walk.groups.numpy()]
    panels[1].scatter(x, y, s=4, c=shades, linewidths=0)
    extent = (-walk.limit, walk.limit) * 2
    density = panels[2].imshow(walk.density[layer].numpy(), extent=extent, origin="lower", vmin=0)
    ticks = [-walk.limit, 0, walk.limit]  # drawing ticks takes the most time
    for panel in panels:
        panel.set(aspect="equal", xlim=extent[:2], ylim=extent[:2], xticks=ticks, yticks=ticks)
    return grid, density


def _density(layers: Sequence[FlowLayer], points: Tensor) -> Tensor:
    """Return the density (N,) at points (N, 2) from which these layers lead to a Gaussian z."""
    z, log_det = points[..., None, None], points.new_zeros(len(points))
    for layer in layers:
        z, more = layer(z)
        log_det = log_det + more
    return (standard_normal(z).flatten() + log_det).exp()


def _layers(flow: Flow) -> Iterator[tuple[str, FlowLayer]]:
    """Yield every layer with its name, the steps taken apart."""
    step = 0
    for part in flow.layers:
        inside = getattr(part, "layers", None)
        step += inside is not None
        for layer in [part] if inside is None else inside:
            name = WORDS.get(type(layer).__name__, type(layer).__name__)
            yield f"{name} of step {step}" if inside is not None else name, cast(FlowLayer, layer)
