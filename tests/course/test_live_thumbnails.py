"""What is made small for a page: its size, and that it is still what it was."""

import base64
import gzip
import io

import numpy as np
import pytest
import torch
from PIL import Image

from fastflow_utils.course.live.thumbnails import (
    as_many,
    pack_maps,
    pack_masks,
    reduced_size,
    thumbnail,
)
from fastflow_utils.errors import FastFlowError


def numbers(text: str) -> np.ndarray:
    return np.frombuffer(gzip.decompress(base64.b64decode(text)), np.uint8)


def opened(address: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2])))


@pytest.mark.parametrize("size", [(600, 800), (800, 600), (100, 120), (1, 900)])
def test_the_longer_side_fits_and_the_shape_stays(size):
    height, width = reduced_size(size, 200)
    assert min(height, width) >= 1 and max(height, width) == min(200, max(size))
    assert height == pytest.approx(size[0] * width / size[1], abs=1)


@pytest.mark.parametrize("grey", [False, True])
def test_a_thumbnail_is_the_picture(grey):
    rows = torch.linspace(0, 1, 300)
    image = torch.stack([rows.expand(400, 300), rows.expand(400, 300) / 2, torch.zeros(400, 300)])
    small = opened(thumbnail(image, 100, grey=grey))
    assert small.size == (75, 100)
    pixels = np.asarray(small.convert("RGB")) / 255
    assert np.abs(np.diff(pixels[:, :, 0].mean(0))).max() < 0.05, "a smooth ramp"
    assert (np.ptp(pixels, axis=-1).max() < 0.02) == grey
    if not grey:
        assert pixels[50, -1] == pytest.approx([1, 0.5, 0], abs=0.06)


def test_masks_keep_their_shape_and_stand_one_after_the_other():
    mask = torch.zeros(2, 1, 64, 64, dtype=torch.bool)
    mask[1, :, 16:32, 8:40] = True
    small = numbers(pack_masks(mask, 32)).reshape(2, 32, 32)
    assert not small[0].any() and small[1, 8:16, 4:20].all() and small.sum() == 8 * 16
    assert numbers(pack_masks(mask, 64)).sum() == 16 * 32, "no smaller: as it was"


def test_maps_are_means_with_eight_bits():
    maps = torch.rand(2, 1, 64, 64)
    maps[0] = 1.0
    small = numbers(pack_maps(maps, 32)).reshape(2, 32, 32)
    assert (small[0] == 255).all()
    exact = maps[1, 0].reshape(32, 2, 32, 2).mean((1, 3)).numpy()
    assert np.abs(small[1] / 255 - exact).max() <= 1 / 510 + 1e-6


@pytest.mark.parametrize("budget", [0, 250, 1000, 10**6])
def test_as_many_as_fit_travel_and_always_one(budget):
    def make(count: int) -> dict[str, list[str]]:
        return {"pictures": ["x" * 100] * count}

    count = len(as_many(make, 20, budget)["pictures"])
    assert count == max(1, min(20, (budget - 16) // 104))


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -0.1, 1.1])
def test_maps_that_are_none_are_refused(wrong):
    maps = torch.rand(2, 1, 64, 64)
    maps[1, 0, :2, :2] = wrong
    with pytest.raises(FastFlowError, match=r"have to be in \[0, 1\]"):
        pack_maps(maps, 32)
    pack_maps(maps[:1], 32)
