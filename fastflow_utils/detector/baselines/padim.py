"""PaDiM: a Gaussian of its own for each position."""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from fastflow_utils.data.sizes import height_width
from fastflow_utils.detector.backbones import Backbone
from fastflow_utils.detector.baselines.moments import moments
from fastflow_utils.detector.detector import Detector
from fastflow_utils.detector.features import Features
from fastflow_utils.errors import FastFlowError

__all__ = ["PaDiM"]

EPSILON = 0.01  # added to each variance, as published


class PaDiM(Detector):
    r"""The Mahalanobis distance of each position from what is normal in this very place.

    .. math:: M(i) = \sqrt{(x_i - \mu_i)^\top \Sigma_i^{-1} (x_i - \mu_i)}, \qquad
              \Sigma_i = \frac{1}{N - 1} \sum_n (x_{ni} - \mu_i)(x_{ni} - \mu_i)^\top + 0.01\, I

    :math:`x_i` are the features of all levels at position i of the finest one, coarser levels
    repeated; of their channels a random choice, for a matrix of its own for each position costs
    the square of their number. Images have to be aligned: the same place, the same thing.

    Source: Defard et al., PaDiM, 2020 (arXiv 2011.08785).

    Args:
        backbone: The frozen network.
        channels: How many are chosen, at most; the paper has 100 for ResNet18.
        smoothing: As for :class:`~fastflow_utils.detector.detector.Detector`.
        top: As there.

    Raises:
        FastFlowError: If there is no channel to choose.

    Example:
        >>> model = PaDiM(Backbone(image_size=64), channels=10)
        >>> shapes = [(6, 24, 16, 16), (6, 40, 8, 8), (6, 112, 4, 4)]
        >>> model.fit(Features([torch.randn(shape) for shape in shapes]))
        >>> [one.shape for one in model.maps([torch.randn(shape) for shape in shapes])]
        [torch.Size([6, 1, 16, 16])]
    """

    method = "padim"
    chosen: Tensor
    mean: Tensor
    whitening: Tensor

    def __init__(
        self,
        backbone: Backbone,
        *,
        channels: int = 100,
        smoothing: float = 4.0,
        top: float = 0.01,
    ) -> None:
        if not isinstance(channels, int) or channels < 1:
            raise FastFlowError(f"channels={channels}: expected a whole number, at least 1")
        super().__init__(backbone, maps=1, smoothing=smoothing, top=top)
        self.channels = channels
        self.size = max(map(height_width, backbone.sizes))
        d, positions = min(channels, sum(backbone.channels)), math.prod(self.size)
        self.register_buffer("chosen", torch.arange(d))
        self.register_buffer("mean", torch.zeros(positions, d))
        self.register_buffer("whitening", torch.eye(d).repeat(positions, 1, 1))

    def settings(self) -> dict[str, Any]:
        """Return how many channels are chosen."""
        return {"channels": self.channels}

    @torch.no_grad()
    def learn(self, features: Features, seed: int = 0) -> None:
        """Choose channels at random; measure each position's mean and covariance."""
        order = torch.randperm(
            sum(features.channels), generator=torch.Generator().manual_seed(seed)
        )
        self.chosen.copy_(order[: len(self.chosen)].sort().values)
        mean, covariance, n = moments(map(self.vectors, features.batches(16)))
        covariance *= n / max(1, n - 1)
        covariance.diagonal(dim1=1, dim2=2).add_(EPSILON)
        # With Sigma = L L^T, the distance is the length of L^-1 (x - mu).
        lower = torch.linalg.cholesky(covariance)
        identity = torch.eye(len(self.chosen), dtype=lower.dtype, device=lower.device)
        self.whitening.copy_(torch.linalg.solve_triangular(lower, identity, upper=False))
        self.mean.copy_(mean)

    def maps(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Return M as the one map (B, 1, H_0, W_0), at the size of the finest level."""
        self._check_levels(features)
        z = torch.bmm(self.vectors(features) - self.mean[:, None], self.whitening.mT)
        return [rearrange(z.norm(dim=2), "(h w) b -> b 1 h w", h=self.size[0])]

    def vectors(self, features: Sequence[Tensor]) -> Tensor:
        """Return the chosen channels of each position, (positions, B, channels)."""
        whole = torch.cat([F.interpolate(h, self.size, mode="nearest") for h in features], dim=1)
        return rearrange(whole[:, self.chosen], "b c h w -> (h w) b c")
