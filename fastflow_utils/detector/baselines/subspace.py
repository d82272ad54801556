"""PCA: what the directions in which normal features vary leave unexplained."""

from collections.abc import Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from fastflow_utils.detector.backbones import Backbone
from fastflow_utils.detector.baselines.moments import moments
from fastflow_utils.detector.detector import Detector
from fastflow_utils.detector.features import Features
from fastflow_utils.errors import FastFlowError

__all__ = ["Subspace"]


class Subspace(Detector):
    r"""The squared distance of each position from the subspace of normal features.

    .. math:: r_l(i) = \lVert (I - V_l V_l^\top)(h_l(i) - \mu_l) \rVert^2

    The columns of :math:`V_l` are the principal axes of all positions of a level: as few as
    explain a ``share`` of the variance, and always fewer than there are channels. An anomaly may
    well be usual along the axes; it is what leaves the subspace that counts.

    Source: SubspaceAD does so with DINOv2's tokens (Lendering et al., 2026, arXiv 2602.23013).

    Args:
        backbone: The frozen network.
        share: Of the variance, in (0, 1).
        smoothing: As for :class:`~fastflow_utils.detector.detector.Detector`.
        top: As there.

    Raises:
        FastFlowError: If the share is none.

    Example:
        >>> model = Subspace(Backbone(image_size=64))
        >>> shapes = [(6, 24, 16, 16), (6, 40, 8, 8), (6, 112, 4, 4)]
        >>> model.fit(Features([torch.randn(shape) for shape in shapes]))
        >>> model.levels[0].residual.shape
        torch.Size([24, 24])
    """

    method = "subspace"

    def __init__(
        self,
        backbone: Backbone,
        *,
        share: float = 0.99,
        smoothing: float = 4.0,
        top: float = 0.01,
    ) -> None:
        if not 0 < share < 1:
            raise FastFlowError(f"share={share}: expected a share of the variance in (0, 1)")
        super().__init__(backbone, maps=len(backbone.channels), smoothing=smoothing, top=top)
        self.share = share
        self.levels = nn.ModuleList(map(_Residual, backbone.channels))

    def settings(self) -> dict[str, Any]:
        """Return the share of the variance."""
        return {"share": self.share}

    @torch.no_grad()
    def learn(self, features: Features, seed: int = 0) -> None:
        """Find each level's principal axes; nothing is random."""
        for number, level in enumerate(self.levels):
            positions = (
                rearrange(batch[number], "b c h w -> 1 (b h w) c")
                for batch in features.batches(16)
            )
            (mean,), (covariance,), _ = moments(positions)
            cast(_Residual, level).set_moments(mean, covariance, self.share)

    def maps(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Return :math:`r_l`, one (B, 1, H_l, W_l) for each level."""
        self._check_levels(features)
        return [level(h) for level, h in zip(self.levels, features, strict=True)]


class _Residual(nn.Module):
    """One level's mean and I - V V^T."""

    mean: Tensor
    residual: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels, 1, 1))
        self.register_buffer("residual", torch.eye(channels))

    def set_moments(self, mean: Tensor, covariance: Tensor, share: float) -> None:
        """Leave out the axes that explain a share of the variance."""
        variances, axes = torch.linalg.eigh(covariance)  # ascending
        explained = variances.flip(0).cumsum(0) / variances.sum()
        kept = min(len(mean) - 1, int((explained <= share).sum()) + 1)
        others = axes[:, : len(mean) - kept]
        self.mean.copy_(mean[:, None, None])
        self.residual.copy_(others @ others.T)  # I - V V^T, for all axes together are I

    def forward(self, h: Tensor) -> Tensor:
        """Return (B, 1, H, W)."""
        rest = F.conv2d(h - self.mean, self.residual[..., None, None])
        return rest.square().sum(1, keepdim=True)
