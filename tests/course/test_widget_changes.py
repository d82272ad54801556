"""Each change leaves an image alone at first and alters it more and more; the figure tells."""

import importlib
import itertools

import pytest
import torch
from matplotlib.figure import Figure

from fastflow_utils.course.widgets.changes import (
    CHANGES,
    Change,
    Changed,
    change_figure,
    explore_changes,
    posed,
    try_changes,
)
from fastflow_utils.data.sample_set import render, restage
from fastflow_utils.detector.backbones import Backbone
from fastflow_utils.detector.flows import FlowOptions
from fastflow_utils.detector.model import FastFlow
from fastflow_utils.errors import FastFlowError

live_module = importlib.import_module("fastflow_utils.course.widgets.explore")


def photograph(size: int = 64) -> torch.Tensor:
    return torch.from_numpy(render("cable", size=size)[0]).permute(2, 0, 1) / 255


@pytest.fixture(scope="module")
def tried():
    model = FastFlow(Backbone("efficientnet_lite0", image_size=64), FlowOptions(steps=1)).eval()
    return try_changes(model, photograph())


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_begins_with_nothing_and_grows(name: str):
    change, image = CHANGES[name], photograph(256)[None]
    images = [change.apply(image, amount) for amount in change.amounts]
    assert torch.allclose(images[0], image, atol=1e-5)
    distances = [(changed - image).abs().mean().item() for changed in images]
    assert all(a < b for a, b in itertools.pairwise(distances)), distances
    for changed in images:
        assert changed.shape == image.shape and changed.min() >= 0 and changed.max() <= 1 + 1e-6


@pytest.mark.parametrize("name", ["turned", "shifted"])
def test_a_posed_part_is_drawn_anew(name: str):
    change, anything = posed("cable", 5)[name], torch.zeros(1, 3, 256, 256)
    images = [change.apply(anything, amount) for amount in change.amounts]
    still = torch.from_numpy(render("cable", seed=5)[0]).permute(2, 0, 1)[None] / 255
    assert torch.equal(images[0], still)
    for image in images[1:]:
        change = (image - still).abs().mean(1)[0]
        assert change[100:156, 100:156].mean() > 0.01, "the part has moved"
        assert change[:8, :8].max() < 0.1, "the floor in the corner has not, nor is it smeared"


def test_a_part_turns_clockwise_and_moves_to_the_right_and_down():
    def middle_of_yellow(**pose: object) -> torch.Tensor:
        red, green, blue = (
            torch.from_numpy(restage("cable", seed=5, **pose)).permute(2, 0, 1).float()
        )
        yellow = (green > blue + 40) & (red > blue + 30)
        return yellow.nonzero().float().mean(0)  # row, column

    row, column = middle_of_yellow()
    turned = middle_of_yellow(turned=20) - torch.stack([row, column])
    assert turned[1] > 10 and turned[0] > 0, "it is at the top, and goes to the right"
    shifted = middle_of_yellow(moved=(8 / 256, 4 / 256)) - torch.stack([row, column])
    assert torch.allclose(shifted, torch.tensor([4.0, 8.0]), atol=1.0)


def test_a_part_that_cannot_be_moved_is_refused():
    with pytest.raises(FastFlowError, match="screw cannot be turned or moved"):
        posed("screw", 5, size=64)["turned"].apply(torch.zeros(1, 3, 64, 64), 4)


def test_a_spot_has_its_size_and_is_seen_on_black_and_on_white():
    for tone in (0.0, 1.0):
        changed = CHANGES["a small spot"].apply(torch.full((1, 3, 256, 256), tone), 16)
        area = (changed - tone).abs().mean(1).sum().item()
        assert area == pytest.approx(torch.pi * 8**2, rel=0.1)


def test_less_light_is_so_much_less_light():
    changed = CHANGES["less light"].apply(torch.full((1, 3, 8, 8), 0.5), 50)
    assert (changed.mean() ** 2.2 / 0.5**2.2).item() == pytest.approx(0.5, abs=1e-4)


def test_tried_is_what_the_model_says(tried):
    assert list(tried) == list(CHANGES)
    for one in tried.values():
        count = len(one.change.amounts)
        assert one.images.shape == (count, 3, 64, 64) and one.maps.shape == (count, 1, 64, 64)
        assert one.scores.shape == (count,)
    first = torch.stack([one.scores[0] for one in tried.values()])
    assert torch.allclose(first, first[0].expand_as(first), atol=1e-4)


def test_the_title_says_the_decision(tried):
    one = tried["out of focus"]
    assert "good" in change_figure(one, 2, threshold=torch.inf).get_suptitle()
    assert "anomalous" in change_figure(one, 2, threshold=-torch.inf).get_suptitle()
    assert isinstance(change_figure(tried["mirrored"], 99, 0.5), Figure)  # the last amount


def test_static_twin(tried):
    figure = explore_changes(tried, 0.5, "parts: ")
    assert figure.get_suptitle().startswith("parts: less light, score ")


def test_live_the_slider_redraws(tried, monkeypatch):
    shown = []
    monkeypatch.setattr(live_module, "is_live", lambda: True)
    monkeypatch.setattr(live_module, "display", shown.append)
    assert explore_changes(tried, 0.5) is None
    choice, slider, picture, trouble = shown[0].children
    before = picture.value
    slider.value = 0
    after = picture.value
    choice.value = "mirrored"
    assert before != after != picture.value and trouble.value == ""


@pytest.mark.parametrize(
    ("scores", "says"),
    [
        ([0.1, 0.2, 0.3], "none"),
        ([0.1, 0.6, 0.7], "2 pixels"),
        ([0.1, 0.6, 0.4], "none"),  # quiet again at the end
        ([0.6, 0.4, 0.5], "5 pixels"),
        ([0.6, 0.7, 0.8], "0 pixels"),
    ],
)
def test_first_alarm_is_where_it_is_loud_from_then_on(scores, says):
    change = Change(lambda image, amount: image, (0, 2, 5), "pixels")
    nothing = torch.zeros(3)
    assert Changed(change, nothing, nothing, torch.tensor(scores)).first_alarm(0.5) == says


def test_one_pixel_is_no_plural():
    change = CHANGES["out of focus"]
    assert change.text(1) == "1 pixel (sigma)" and change.text(1.5) == "1.5 pixels (sigma)"
