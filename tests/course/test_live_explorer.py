"""The explorer's data: what a page computes from 8 bits is what torch computes from floats."""

import gzip
import json
import re
from base64 import b64decode
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fastflow_utils.course.live.explorer import (
    Explored,
    HeatMap,
    explorer,
    outline_path,
    pack_level,
)
from fastflow_utils.data.mvtec import MVTecAD, Sample
from fastflow_utils.detector.backbones import Backbone
from fastflow_utils.detector.features import pca_colours


def numbers(text: str, *shape: int) -> Tensor:
    raw = np.frombuffer(gzip.decompress(b64decode(text)), np.uint8)
    return torch.from_numpy(raw.copy()).reshape(*shape)


def read(level: dict[str, Any]) -> Tensor:
    """The features (C, H, W) that the script has of a level."""
    q = numbers(level["q"], -1, *level["size"])
    low, step = (torch.tensor(level[name])[:, None, None] for name in ("low", "step"))
    values = low + step * q
    unit: Tensor = F.normalize(values[:-1], dim=0)
    return unit * values[-1].exp()


def cosines(h: Tensor) -> Tensor:
    units = F.normalize(h.flatten(1), dim=0)
    return units.T @ units


@pytest.fixture(scope="module")
def images(tiny) -> list[Tensor]:
    dataset = MVTecAD(tiny, "disc", "test", 256)
    return [dataset[index].image for index in (0, len(dataset) - 1)]


def check_all_positions(backbone: Backbone, images: list[Tensor]) -> None:
    for h in backbone(torch.stack(images)):
        for one in h:
            assert (cosines(read(pack_level(one, 4))) - cosines(one)).abs().max() < 0.01


def test_cosines_of_the_default_backbone_are_within_a_hundredth(images):
    check_all_positions(Backbone("efficientnet_lite0"), images)


def test_cosines_of_resnet18_are_within_a_hundredth(images, shared):
    path = shared / "weights" / "resnet18_trunk.pth"
    if not path.is_file():
        pytest.skip(f"no {path.name} among the shared weights")
    check_all_positions(Backbone("resnet18", weights=path), images)


def test_short_vectors_are_as_exact_as_long_ones():
    h = torch.randn(24, 16, 16) * torch.logspace(-1.5, 1.5, 16)
    back = read(pack_level(h, 4))
    assert (cosines(back) - cosines(h)).abs().max() < 0.01
    length = back.norm(dim=0) / h.norm(dim=0)
    assert (length - 1).abs().max() < 0.05  # half a step of the logarithm, over three decades


def test_a_position_without_features_stays_short():
    h = torch.randn(8, 4, 4)
    h[:, 1, 2] = 0
    back = read(pack_level(h, 16))
    assert back.isfinite().all() and back[:, 1, 2].norm() < 0.01 * back.norm(dim=0).max()
    assert read(pack_level(torch.zeros(8, 4, 4), 16)).isfinite().all()


@pytest.mark.parametrize("shape", [(24, 16, 16), (112, 4, 4), (3, 5, 7)])
def test_colours_are_those_of_pca(shape):
    h = torch.randn(*shape) * torch.arange(1, shape[0] + 1)[:, None, None]
    level = pack_level(h, 8)
    axes, offset = torch.tensor(level["axes"]), torch.tensor(level["offset"])
    shown = torch.einsum("kc,chw->khw", axes, read(level)) + offset[:, None, None]
    assert (shown - pca_colours(h)).abs().max() < 4 / 255 + 0.01


def sample(mask: Tensor | None = None) -> Sample:
    mask = torch.zeros(1, 32, 32, dtype=torch.bool) if mask is None else mask
    return Sample(torch.rand(3, 32, 32), mask, int(mask.any()), "spot", "")


def explored(name: str, *, views: int = 1) -> Explored:
    levels = [torch.randn(8, 16, 16), torch.randn(12, 8, 8)]
    return Explored(name, sample(), views * [levels], (0.5, 0.5), [[h[:1] for h in levels]])


def test_images_are_made_as_far_as_the_budget_goes():
    made = []

    def images():
        for name in "abcdef":
            made.append(name)
            yield explored(name)

    whole = explorer("set", {"network": ["x"]}, images(), 6)
    assert [one["name"] for one in whole["images"]] == list("abcdef") and whole["note"] == ""
    size = len(json.dumps(whole["images"][0]))
    made.clear()
    some = explorer("set", {"network": ["x"]}, images(), 6, budget=int(3.5 * size))
    assert [one["name"] for one in some["images"]] == made == ["a", "b", "c"]
    assert some["note"].startswith("3 of 6 images")
    assert len(json.dumps(some["images"])) <= 3.5 * size
    assert len(explorer("set", {"network": ["x"]}, images(), 6, budget=1)["images"]) == 1


def test_data_are_json_and_name_the_views_and_the_maps():
    kinds = [HeatMap("map", "at A:", (0.5, 1), "inferno"), HeatMap("nll", "nll")]
    data = explorer("set", {"space": ["h", "z"]}, [explored("a", views=2)], 1, maps=kinds)
    data = json.loads(json.dumps(data))
    assert data["kind"] == "features" and data["views"] == {"label": "space", "labels": ["h", "z"]}
    (one,) = data["images"]
    assert [[level["size"] for level in view] for view in one["views"]] == 2 * [[[16, 16], [8, 8]]]
    bounded, free = data["maps"]
    assert (bounded["low"], bounded["high"], bounded["table"]) == (0.5, 1, 1)
    assert "low" not in free and free["table"] == 0
    for table in data["tables"]:
        assert numbers(table["colours"], 256, 4)[:, 3].eq(255).all()


def test_maps_are_within_half_a_step():
    one = explored("a")
    data = explorer("set", {"space": ["h"]}, [one], 1, maps=[HeatMap("nll", "nll")])
    for packed, level in zip(data["images"][0]["maps"][0], one.maps[0], strict=True):
        back = packed["low"] + packed["step"] * numbers(packed["q"], *level.shape)
        assert (back - level).abs().max() <= 0.51 * packed["step"]


def test_the_outline_runs_around_the_mask():
    mask = torch.zeros(1, 20, 40, dtype=torch.bool)
    mask[0, 5:10, 20:30] = True
    mask[0, 16:, :4] = True  # at the border
    drawn = outline_path(mask)
    points = np.array(re.findall(r"([\d.-]+) ([\d.-]+)(?=[LMZ])", drawn), float)
    inside = points[points[:, 1] < 60]
    assert inside.min(0) == pytest.approx([50, 25], abs=2.5)
    assert inside.max(0) == pytest.approx([75, 50], abs=2.5)
    assert points[:, 0].min() >= -2.5 and points[:, 1].max() <= 102.5
    assert len(re.findall("M", drawn)) == 4  # two lines, each with its rim
