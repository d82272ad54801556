"""Level maps, the anomaly map, the blur: the formula, and where it ends."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kornia.filters import gaussian_blur2d
from skimage.segmentation import find_boundaries

from fastflow_utils.detector.heat_maps import outline
from fastflow_utils.detector.maps import (
    KNOTS,
    NORMAL_LEVEL,
    blur,
    combine,
    level_map,
    level_scale,
)
from fastflow_utils.errors import FastFlowError

WITHIN = 1 / (KNOTS - 1) + 1e-3  # between two knots the scale is linear


def drawn(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, generator=torch.Generator().manual_seed(seed))


def test_a_level_map_is_the_empirical_tail_probability():
    normal, values = drawn(200_000), 2 * drawn(60, seed=1)
    found = level_map(values, level_scale(normal))
    for value, a in zip(values.tolist(), found.tolist(), strict=True):
        share = (normal >= value).double().mean().item()
        expected = min(1.0, -math.log10(share) / 4) if share else 1.0
        assert a == pytest.approx(expected, abs=WITHIN)


def test_the_median_is_the_normal_level_and_the_shares_are_powers_of_ten():
    normal = drawn(100_001)
    level = level_map(normal, level_scale(normal))
    assert float(level.median()) == pytest.approx(NORMAL_LEVEL, abs=1e-3)
    for a in (0.25, 0.5, 0.75):
        share = (level >= a).double().mean().item()
        assert share == pytest.approx(10 ** (-4 * a), rel=0.02)


@pytest.mark.parametrize("increasing", [torch.exp, lambda v: v**3, lambda v: 5 * v - 2])
def test_any_increasing_transformation_of_the_raw_map_has_the_same_level_map(increasing):
    """So levels compare whatever their units are, and so do methods."""
    normal, values = drawn(100_000), drawn(1000, seed=1)
    expected = level_map(values, level_scale(normal))
    found = level_map(increasing(values), level_scale(increasing(normal)))
    assert (found - expected).abs().max() <= WITHIN
    assert (found - expected).abs().mean() < 3e-3


@given(
    normal=st.lists(st.integers(-50, 50), min_size=1, max_size=60),
    values=st.lists(st.integers(-200, 200), min_size=1, max_size=20),
    unit=st.sampled_from([1e-6, 1.0, 1e4]),
)
@settings(deadline=None, max_examples=60, derandomize=True)
def test_of_any_positions_a_level_map_rises_from_0_to_1(normal, values, unit):
    """Of few, and of many equal ones, too."""
    scale = level_scale(unit * torch.tensor(normal).float())
    level = level_map(unit * torch.tensor(sorted(values)).float(), scale)
    assert scale.shape == (KNOTS,) and (scale.diff() >= 0).all()
    assert (level.diff() >= 0).all() and level.min() >= 0 and level.max() <= 1
    for value, a in zip(sorted(values), level.tolist(), strict=True):
        assert a == 1 or value <= max(normal), "higher than any"
        assert a == 0 or value > min(normal), "all reach it"


def test_nan_stays_nan():
    assert level_map(torch.tensor(math.nan), level_scale(drawn(50))).isnan()


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
