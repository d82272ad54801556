"""A pose follows its object: turned images are alike, and maps come back to where they were."""

import math

import pytest
import torch
from torch import Tensor

from fastflow_utils.data.pose import AS_IT_IS, lies_anywhere, pose_of, turned, turned_back
from fastflow_utils.errors import FastFlowError

SIDE = 96


def club(angle: float, x: float = 0.0, y: float = 0.0, symmetric: bool = False) -> Tensor:
    """A dark bar with a thick end on a grey ground, (3, SIDE, SIDE); its thin end points ahead."""
    axis = (torch.arange(SIDE) + 0.5) * 2 / SIDE - 1
    v, u = torch.meshgrid(axis - y, axis - x, indexing="ij")
    along = u * math.cos(angle) + v * math.sin(angle)
    across = -u * math.sin(angle) + v * math.cos(angle)
    bar = (along.abs() < 0.5) & (across.abs() < 0.06)
    head = (along > -0.5) & (along < -0.3) & (across.abs() < 0.14)
    if symmetric:
        head |= (along < 0.5) & (along > 0.3) & (across.abs() < 0.14)
    return torch.where(bar | head, 0.2, 0.8).expand(3, -1, -1).clone()


def apart(first: float, second: float) -> float:
    return abs(math.remainder(first - second, 2 * math.pi))


@pytest.mark.parametrize("angle", [0.0, 0.7, 1.5, 2.4, -3.0, -1.0])
def test_the_angle_is_that_of_the_object(angle):
    pose = pose_of(club(angle, 0.1, -0.05))
    assert apart(pose.angle, angle) < 0.03
    assert pose.centre == pytest.approx((0.1, -0.05), abs=0.03)
    assert pose.is_clear


@pytest.mark.parametrize("angle", [0.4, 1.9, -2.7])
def test_turned_objects_lie_alike(angle):
    straight = club(0.0)
    image = club(angle, -0.1, 0.1)
    found = turned(image[None], [pose_of(image)])[0]
    assert (found - straight).abs().mean() < 0.3 * (image - straight).abs().mean()


def test_maps_come_back_to_where_they_were():
    image = club(0.9, 0.1, 0.0)
    pose = [pose_of(image)]
    spot = torch.zeros(1, 1, SIDE, SIDE)
    spot[..., 40:48, 50:58] = 1
    back = turned_back(turned(spot, pose), pose)
    assert (back - spot).abs().mean() < 0.005
    assert back[0, 0, 44, 54] > 0.9


def test_the_light_of_an_image_does_not_matter():
    image = club(1.1)
    assert pose_of(1 - image).angle == pytest.approx(pose_of(image).angle, abs=1e-6)
    assert pose_of(0.3 * image + 0.2).angle == pytest.approx(pose_of(image).angle, abs=1e-6)


def images(kind: str, count: int = 20) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    angles = (2 * math.pi * torch.rand(count, generator=generator)).tolist()
    noise = torch.rand(count, 3, SIDE, SIDE, generator=generator)
    if kind == "texture":
        return list(noise)
    if kind == "nothing":
        return [torch.full((3, SIDE, SIDE), 0.5)] * count
    if kind == "aligned":
        angles = [0.05 * angle for angle in angles]
    if kind == "discs":
        axis = (torch.arange(SIDE) + 0.5) * 2 / SIDE - 1
        inside = axis[:, None] ** 2 + axis**2 < 0.4
        return list(torch.where(inside, 0.2, 0.8) + 0.05 * noise)
    return [club(angle, symmetric=kind == "symmetric") for angle in angles]


@pytest.mark.parametrize("kind", ["texture", "nothing", "aligned", "discs", "symmetric"])
def test_what_has_no_direction_or_one_only_is_left_alone(kind):
    assert not lies_anywhere(images(kind))


def test_what_lies_anywhere_is_found_out():
    assert lies_anywhere(images("anywhere"))
    assert not lies_anywhere(images("anywhere")[:17] + images("discs")[:3])  # not nearly all


def test_an_image_without_anything_is_left_as_it_is():
    image = torch.full((3, SIDE, SIDE), 0.5)
    assert pose_of(image) == AS_IT_IS
    assert torch.allclose(turned(image[None], [AS_IT_IS])[0], image, atol=1e-6)


def test_other_shapes_are_refused():
    with pytest.raises(FastFlowError, match="square"):
        pose_of(torch.rand(3, 8, 9))


def test_what_lies_about_does_not_turn_the_object():
    alone, image = club(0.0), club(0.0)
    image[:, 4:14, 80:92] = 0.2
    assert pose_of(image).angle == pytest.approx(pose_of(alone).angle, abs=0.02)
    assert pose_of(image).centre == pytest.approx(pose_of(alone).centre, abs=0.02)


def test_an_object_that_does_not_fit_when_turned_is_not_clear():
    axis = (torch.arange(SIDE) + 0.5) * 2 / SIDE - 1
    across, along = axis[:, None] - axis, axis[:, None] + axis
    bar = (across.abs() < 0.1) & (along.abs() < 1.8)
    head = (across.abs() < 0.3) & (along > -1.8) & (along < -1.2)
    image = torch.where(bar | head, 0.2, 0.8).expand(3, -1, -1)
    assert pose_of(image).extent > 2
    assert not pose_of(image).is_clear


@pytest.mark.parametrize("half", [torch.ones(SIDE, dtype=torch.bool), torch.arange(SIDE) < 48])
def test_pictures_without_an_object_are_left_as_they_are(half):
    """Half black and half white, and a checkerboard: every pixel differs as much, or nothing."""
    halves = torch.where(half, 0.0, 1.0).expand(3, SIDE, SIDE)
    board = ((torch.arange(SIDE)[:, None] + torch.arange(SIDE)) % 2).float().expand(3, -1, -1)
    noise = torch.rand(3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    for image in (halves, board, noise):
        assert pose_of(image) == AS_IT_IS
