"""Level maps, the anomaly map, the blur: the formula, and where it ends."""

import pytest
import torch

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
