"""A heat map made in bands is the one that would be made at once."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from matplotlib import colormaps
from skimage.segmentation import find_boundaries

from fastflow_utils.detector import heat_maps
from fastflow_utils.detector.heat_maps import colour, heat, heat_picture, outline


def smooth_map(height: int, width: int) -> torch.Tensor:
    noise = torch.rand(1, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    return F.interpolate(noise, (height, width), mode="bicubic").clamp(0, 1)[0]


def test_colours_are_matplotlibs():
    anomaly_map = torch.linspace(0, 1, 5001)[None, None]
    expected = colormaps["inferno"](heat(anomaly_map)[0].numpy())[..., :3]
    np.testing.assert_array_equal(colour(anomaly_map), np.float32(expected))


@pytest.mark.parametrize("share", [0.0, 0.05, 0.5, 1.0])
def test_the_outline_is_just_outside_and_its_rim_outside_that(share):
    inside = np.random.default_rng(0).random((30, 40)) < share
    line = find_boundaries(inside, mode="outer")
    expected = np.full((30, 40, 3), 0.5, np.float32)
    expected[find_boundaries(inside | line, mode="outer")] = 0
    expected[line] = (0.2, 1.0, 0.4)
    drawn = outline(np.full_like(expected, 0.5), torch.from_numpy(inside)[None])
    np.testing.assert_array_equal(drawn, expected)


@pytest.mark.parametrize("height", [1, 7, 8, 9, 31, 64])
def test_bands_have_no_seams(monkeypatch, height):
    """Pixel for pixel, since nothing is enlarged here: an outline that crosses a band goes on."""
    monkeypatch.setattr(heat_maps, "BAND", 8)
    anomaly_map = smooth_map(height, 50)
    at_once = outline(colour(anomaly_map), anomaly_map >= 0.6)
    drawn = np.asarray(heat_picture(anomaly_map, 0.6, 50, height))
    np.testing.assert_array_equal(drawn, (at_once * 255).round())


@pytest.mark.parametrize("size", [(1, 1), (20, 30), (64, 64), (300, 500)])
def test_bands_are_enlarged_as_the_whole_is(monkeypatch, size):
    """Up to rounding: torch multiplies and adds in another order."""
    monkeypatch.setattr(heat_maps, "BAND", 16)
    drawn = []
    monkeypatch.setattr(heat_maps, "colour", lambda rows: drawn.append(rows) or colour(rows))
    anomaly_map = smooth_map(64, 64)
    height, width = size
    assert heat_picture(anomaly_map, 2.0, width, height).size == (width, height)
    expected = F.interpolate(anomaly_map[None], size, mode="bilinear")[0]
    for top, rows in zip(range(0, height, 16), drawn, strict=True):
        first = max(top - heat_maps.LINE, 0)
        torch.testing.assert_close(
            rows, expected[:, first : first + rows.shape[1]], rtol=0, atol=1e-6
        )
