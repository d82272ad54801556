"""Mean and covariance: what three of the baselines know of normal features."""

from collections.abc import Iterable

import torch
from torch import Tensor

__all__ = ["moments"]


def moments(batches: Iterable[Tensor]) -> tuple[Tensor, Tensor, int]:
    r"""Return mean and covariance of many vectors, read once; in float64, as sums of squares ask.

    .. math:: \mu = \tfrac1n \sum_i x_i, \qquad
              \Sigma = \tfrac1n \sum_i x_i x_i^\top - \mu \mu^\top

    Args:
        batches: (G, N, C) each: N vectors of C numbers for each of G groups.

    Returns:
        (G, C), (G, C, C), and n, how many vectors each group had.

    Example:
        >>> batches = torch.tensor([[[1.0], [2.0]]]), torch.tensor([[[6.0]]])
        >>> mean, covariance, n = moments(batches)
        >>> mean.item(), round(covariance.item(), 3), n
        (3.0, 4.667, 3)
    """
    count, total, squares = 0, torch.zeros(()), torch.zeros(())
    for x in batches:
        x = x.double()
        if count == 0:
            groups, _, channels = x.shape
            total, squares = x.new_zeros(groups, channels), x.new_zeros(groups, channels, channels)
        count += x.shape[1]
        total += x.sum(1)
        squares.baddbmm_(x.mT, x)
    mean = total / count
    return mean, (squares / count).baddbmm_(mean[:, :, None], mean[:, None], alpha=-1), count
