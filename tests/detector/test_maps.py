"""Level maps, the anomaly map, the blur: the formula, and where it ends."""

import math

import numpy as np
import pytest
import torch
from kornia.filters import gaussian_blur2d
from skimage.segmentation import find_boundaries

from fastflow_utils.detector.heat_maps import outline
from fastflow_utils.detector.maps import blur, combine, level_map
from fastflow_utils.errors import FastFlowError


def test_a_level_map_is_the_logistic_of_the_standardised_likelihood():
    nll = torch.randn(2, 1, 4, 4)
    u = level_map(nll, 0.3, 2.0, bounded=False)
    torch.testing.assert_close(2 * u + 0.3, nll)
    torch.testing.assert_close(level_map(nll, 0.3, 2.0), 1 / (1 + torch.exp(1 - u)))


def test_levels_of_any_size_are_averaged_with_their_weights():
    levels = [torch.full((2, 1, size, size), value) for size, value in ((16, 0.2), (3, 0.8))]
    for weights, expected in ((None, 0.5), ([3, 1], 0.35), ([0, 2], 0.8)):
        combined = combine(levels, 24, 2.0, weights)
        torch.testing.assert_close(combined, torch.full((2, 1, 24, 24), expected))


@pytest.mark.parametrize("side", [32, 64])
def test_a_blur_that_reaches_beyond_the_map_is_refused_and_no_other(side):
    maps = torch.rand(1, 1, side, side)
    widest = (side - 1) / 3
    assert blur(maps, widest).shape == maps.shape
    with pytest.raises(FastFlowError, match=f"expected at most {(side - 1) // 3}$"):
        blur(maps, widest + 0.01)


@pytest.mark.parametrize("sigma", [0.5, 4.0])
def test_the_blur_is_kornias(sigma):
    maps, side = torch.rand(2, 3, 40, 30), 2 * math.ceil(3 * sigma) + 1
    expected = gaussian_blur2d(maps, (side, side), (sigma, sigma))
    torch.testing.assert_close(blur(maps, sigma), expected)


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 1.0])
def test_the_outline_is_where_scikit_image_finds_the_outer_boundary(share):
    mask = torch.rand(1, 30, 20) < share
    drawn = outline(np.full((30, 20, 3), 0.5, np.float32), mask)
    line = find_boundaries(mask[0].numpy(), mode="outer")
    rim = find_boundaries(mask[0].numpy() | line, mode="outer")
    green, black = (drawn == np.float32([0.2, 1, 0.4])).all(-1), (drawn == 0).all(-1)
    assert np.array_equal(green, line) and np.array_equal(black, rim & ~line)
