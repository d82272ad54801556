"""The walk through a flow: what it keeps is what the layers do, and the figures show it."""

import importlib

import ipywidgets
import pytest
import torch
from torch.distributions import Normal

from fastflow_utils.course import plots
from fastflow_utils.course.widgets import (
    explore_flow,
    flow_figure,
    flow_strip,
    flow_walk,
    walk_through,
)
from fastflow_utils.course.widgets.flow_walk import FlowWalk
from fastflow_utils.detector.flows import Flow, FlowOptions

live_module = importlib.import_module("fastflow_utils.course.widgets.explore")


@pytest.fixture(scope="module")
def flow() -> Flow:
    """A flow that bends, and has not seen a first batch that it would normalise."""
    torch.manual_seed(3)
    flow = Flow(2, FlowOptions(steps=3, kernels="1x1", hidden_ratio=8, whiten=True)).eval()
    for parameter in flow.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return flow


@pytest.fixture(scope="module")
def points() -> torch.Tensor:
    return torch.randn(300, 2, 1, 1, generator=torch.Generator().manual_seed(4))


@pytest.fixture(scope="module")
def walk(flow: Flow, points: torch.Tensor) -> FlowWalk:
    return walk_through(flow, points, limit=8.0, cells=40, pixels=161)


def test_every_layer_has_its_name(walk):
    steps = [f"{k} of step {i}" for i in (1, 2, 3) for k in ("ActNorm", "permutation", "coupling")]
    assert walk.names == ["x", "whitening", *steps]


def test_it_begins_at_x_and_ends_at_z(walk, flow, points):
    with torch.no_grad():
        z, log_det = flow(points)
    assert torch.equal(walk.points[0], points.flatten(1)) and not walk.log_det[0].any()
    torch.testing.assert_close(walk.points[-1], z.flatten(1))
    torch.testing.assert_close(walk.log_det[-1], log_det)
    nll = -(Normal(0.0, 1.0).log_prob(z).sum((1, 2, 3)) + log_det).mean() / 2
    torch.testing.assert_close(walk.nll[-1], nll)


def test_the_density_is_one_at_every_layer(walk):
    pixel = (2 * walk.limit / (walk.density.shape[-1] - 1)) ** 2
    torch.testing.assert_close(
        walk.density.sum((1, 2)) * pixel, torch.ones(len(walk.names)), atol=0.03, rtol=0
    )
    line = Normal(0.0, 1.0).log_prob(torch.linspace(-8, 8, 161)).exp()
    torch.testing.assert_close(walk.density[-1], line[:, None] * line)


def test_the_density_is_where_its_samples_are(walk, flow):
    """Going back from z, samples of every layer have the mean that the density says."""
    torch.manual_seed(5)
    with torch.no_grad():
        x = flow.inverse(torch.randn(4000, 2, 1, 1))[0]
        samples = walk_through(flow, x, pixels=2).points
    line = torch.linspace(-8, 8, 161)
    weights = walk.density / walk.density.sum((1, 2), keepdim=True)
    means = torch.stack([(weights.sum(1) * line).sum(1), (weights.sum(2) * line).sum(1)], dim=1)
    torch.testing.assert_close(samples.mean(1), means, atol=0.12, rtol=0)


def test_the_cells_change_their_areas_by_the_determinant(walk):
    corners = walk.corners
    across = corners[:, 1:, 1:] - corners[:, :-1, :-1], corners[:, 1:, :-1] - corners[:, :-1, 1:]
    areas = torch.linalg.det(torch.stack(across, dim=-1)).abs() / 2
    ratio = (areas / areas[0]).log()
    assert (ratio - walk.cells).abs().quantile(0.9) < 0.1
    assert walk.cells[-1].std() > 0.1, "a flow that does not bend proves nothing"


def test_the_grid_holds_the_points(walk):
    low, high = walk.corners[0].amin((0, 1)), walk.corners[0].amax((0, 1))
    assert (walk.points[0] > low).all() and (walk.points[0] < high).all()


@pytest.mark.parametrize("layer", [0, 4, 10])
def test_the_figure_shows_one_layer(walk, layer):
    figure = flow_figure(walk, layer)
    grid, data, density, *bars = figure.axes
    assert f"nll {walk.nll[layer]:.2f}" in figure.get_suptitle()
    assert layer == 0 or walk.names[layer] in figure.get_suptitle()
    assert (data.collections[0].get_offsets() == walk.points[layer].numpy()).all()
    assert (density.images[0].get_array() == walk.density[layer].numpy()).all()
    assert grid.collections and len(bars) == 2
    assert all(axes.get_xlabel() for axes in figure.axes)


def test_the_colours_of_the_grid_mean_the_same_at_every_layer(walk):
    scales = {flow_figure(walk, k).axes[0].collections[0].get_clim() for k in (0, 5, 10)}
    assert len(scales) == 1


def test_a_bright_cell_is_inflated():
    shades = torch.as_tensor(flow_walk.PALE([0.0, 0.5, 1.0]))[:, :3].mean(dim=1)
    assert (shades.diff() > 0).all()


def test_the_strip_has_a_row_for_each_layer(walk):
    figure = flow_strip(walk, [0, 4, 10])
    rows = [axes.get_ylabel() for axes in figure.axes[:9:3]]
    assert rows == ["x\nchannel 2", "after layer 4\nchannel 2", "after layer 10\nchannel 2"]
    assert [axes.get_title() for axes in figure.axes[:3]] == ["grid", "data", "density"]


def test_points_keep_the_colour_of_their_group(flow, points):
    groups = (points[:, 0, 0, 0] > 0).long()
    walk = walk_through(flow, points, groups=groups, pixels=2)
    for layer in (0, 10):
        shades = torch.as_tensor(flow_figure(walk, layer).axes[1].collections[0].get_facecolor())
        first, second = shades[groups == 0], shades[groups == 1]
        assert (first == first[0]).all() and (second == second[0]).all()
        taken = [plots.GOOD_COLOUR, plots.ANOMALOUS_COLOUR]
        assert len({tuple(first[0][:3].tolist()), tuple(second[0][:3].tolist()), *taken}) == 4
    assert not walk_through(flow, points, pixels=2).groups.any()


def test_the_static_twin_is_the_first_layer_asked_for(walk):
    figure = explore_flow(walk, layer=4)
    assert figure.get_suptitle() == flow_figure(walk, 4).get_suptitle()


def test_a_page_walks_through_every_layer(walk):
    figure = explore_flow(walk, layer=4)
    [control] = figure.live_data()["controls"]
    assert control["labels"] == [str(layer) for layer in range(len(walk.names))]
    assert control["value"] == 4 and control["order"]
    assert figure.get_suptitle() == flow_figure(walk, 4).get_suptitle()


def test_what_is_moved_looks_like_what_is_drawn_anew(walk):
    figure = flow_figure(walk, 2)
    for layer in (7, 0, 4):
        moved = live_module._png(flow_walk._move(figure, walk, layer))
        assert moved == live_module._png(flow_figure(walk, layer)), layer


def test_a_live_slider_changes_the_picture(walk, monkeypatch):
    shown = []
    monkeypatch.setattr(live_module, "is_live", lambda: True)
    monkeypatch.setattr(live_module, "display", shown.append)
    assert explore_flow(walk) is None
    (box,) = shown
    slider, picture = box.children[:2]
    assert isinstance(slider, ipywidgets.IntSlider) and slider.description == "after layer"
    assert (slider.min, slider.max) == (0, len(walk.names) - 1)
    before = picture.value
    slider.value = 3
    assert picture.value != before
