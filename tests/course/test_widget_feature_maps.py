"""The per-layer explorer: all that takes time is done before a control is moved."""

import importlib

import ipywidgets
import pytest
import torch

from fastflow_utils.course.widgets import explore_features, feature_figure
from fastflow_utils.data.mvtec import MVTecAD
from fastflow_utils.detector.backbones import Backbone
from fastflow_utils.detector.features import pca_colours

module = importlib.import_module("fastflow_utils.course.widgets.feature_maps")


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return Backbone("efficientnet_lite0", pretrained=False, image_size=64)


@pytest.fixture
def explorer(backbone, tiny, monkeypatch):
    """The explorer's drawing and its controls, as they reach `explore`."""
    caught = {}

    def catch(render, **controls: ipywidgets.ValueWidget) -> None:
        caught.update(render=render, controls=controls)

    monkeypatch.setattr(module, "explore", catch)
    explore_features(backbone, MVTecAD(tiny, "disc", "test", 64))
    return caught["render"], caught["controls"]


def draw(render, controls: dict[str, ipywidgets.ValueWidget]):
    return render(**{name: control.value for name, control in controls.items()})


def test_the_ring_shows_on_any_colour():
    figure = feature_figure(torch.rand(3, 64, 64), torch.rand(8, 16, 16), 0.5, 0.5, channel=3)
    for axes in figure.axes:
        for ring in axes.patches:
            (rim,) = ring.get_path_effects()
            assert ring.get_edgecolor() == (1, 1, 1, 1) and rim._gc["foreground"] == "black"
            assert rim._gc["linewidth"] > ring.get_linewidth()


@pytest.mark.parametrize("side", [4, 16, 64])
def test_the_ring_lies_outside_of_its_position(side):
    figure = feature_figure(torch.rand(3, 64, 64), torch.rand(8, side, side), 0.5, 0.5, channel=3)
    figure.draw_without_rendering()
    for axes in figure.axes[:4]:
        (ring,) = axes.patches
        cells = axes.images[0].get_array().shape[1] / side  # pixels of the picture a position
        (left, _), (right, _) = axes.transData.transform([(0, 0), (1, 0)])
        point = figure.dpi / 72
        inner = ring.radius * (right - left) - 2.5 * point  # half of the rim's width
        assert inner > 0.5**0.5 * cells * (right - left), "its corners show"


def test_each_heat_map_has_a_colour_bar_with_its_own_range():
    h = torch.rand(8, 16, 16) * torch.arange(1, 9)[:, None, None]
    figure = feature_figure(torch.rand(3, 64, 64), h, 0.5, 0.5, channel=3)
    bars = {axes.get_xlabel(): axes.get_xlim() for axes in figure.axes if not axes.images}
    assert bars.pop("feature") == pytest.approx((h[3].min().item(), h[3].max().item()))
    assert list(bars.values()) == [(0, 1)]


def test_the_title_counts_what_resembles_the_ring():
    h = torch.zeros(3, 4, 4)
    h[0], h[1, :2] = 0.1, 1  # the upper half is unlike the lower
    figure = feature_figure(torch.rand(3, 16, 16), h, 1.0, 0.0, channel=0, heading="a disc")
    assert figure.get_suptitle().startswith("a disc\n8 of 16 positions resemble")


def test_colours_are_taken_as_given(monkeypatch):
    h = torch.rand(8, 16, 16)
    given = 1 - pca_colours(h)
    monkeypatch.setattr(module, "pca_colours", None)
    figure = feature_figure(torch.rand(3, 64, 64), h, 0.5, 0.5, channel=0, colours=given)
    shown = torch.as_tensor(figure.axes[2].images[0].get_array())
    assert torch.equal(shown, given.permute(1, 2, 0))


def test_no_control_waits_for_the_backbone_or_the_colours(explorer, monkeypatch):
    render, controls = explorer
    monkeypatch.setattr(Backbone, "forward", None)
    monkeypatch.setattr(module, "pca_colours", None)
    for image in controls["image"].options:
        for _, level in controls["level"].options:
            chosen = {"image": ipywidgets.Text(image), "level": ipywidgets.IntText(level)}
            draw(render, controls | chosen)


def test_choices_are_two_images_of_each_folder_and_the_levels(explorer, backbone):
    controls = explorer[1]
    expected = ["blot 000", "blot 001", "good 000", "good 001", "spot 000", "spot 001"]
    assert sorted(controls["image"].options) == expected
    names = [name for name, _ in controls["level"].options]
    assert names == ["stride 4, 16 × 16", "stride 8, 8 × 8", "stride 16, 4 × 4"]


def test_it_starts_on_a_defect(explorer, tiny):
    controls = explorer[1]
    dataset = MVTecAD(tiny, "disc", "test", 64)
    sample = dataset[dataset.labels.index(1)]
    assert controls["image"].value == f"{sample.defect} 000"
    row, column = (round(63 * controls[name].value) for name in ("row", "column"))
    assert sample.mask[0, row, column]


def test_channels_end_where_the_levels_do(explorer, backbone):
    render, controls = explorer
    level, channel = controls["level"], controls["channel"]
    assert channel.max == backbone.channels[level.value] - 1
    channel.value = channel.max
    for number in (0, 2, 1):
        level.value = number
        assert channel.max == backbone.channels[number] - 1 and channel.value <= channel.max
        assert f"channel {channel.value} of" in draw(render, controls).axes[1].get_title()
    assert channel.value == backbone.channels[0] - 1  # the least that it came down to


def test_a_split_without_defects_starts_in_the_middle(backbone, tiny):
    figure = explore_features(backbone, MVTecAD(tiny, "disc", "train", 64))
    (ring,) = figure.axes[0].patches
    assert "good 000" in figure.get_suptitle()
    assert torch.tensor(ring.center).sub(32).abs().max() < 64 / 4 / 2 + 1


def test_every_control_changes_the_picture(backbone, tiny, monkeypatch):
    explore_module = importlib.import_module("fastflow_utils.course.widgets.explore")
    shown = []
    monkeypatch.setattr(explore_module, "is_live", lambda: True)
    monkeypatch.setattr(explore_module, "display", shown.append)
    assert explore_features(backbone, MVTecAD(tiny, "disc", "test", 64)) is None
    image, level, channel, row, column, picture, trouble = shown[0].children
    changes = [(image, "good 001"), (level, 1), (channel, 5), (row, 0.1), (column, 0.9)]
    for control, value in changes:
        before, control.value = picture.value, value
        assert control.description and picture.value != before
        assert trouble.value == ""
