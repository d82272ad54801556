"""One Gaussian for all positions of a level: a flow of whitening alone, without training."""

from collections.abc import Sequence
from typing import Any, cast

import torch
from einops import rearrange
from torch import Tensor, nn

from fastflow_utils.detector.backbones import Backbone
from fastflow_utils.detector.baselines.moments import moments
from fastflow_utils.detector.detector import Detector
from fastflow_utils.detector.features import Features
from fastflow_utils.detector.flows import Whitening

__all__ = ["Gaussian"]


class Gaussian(Detector):
    r"""The negative log-likelihood of each position under one Gaussian for its level.

    .. math:: n_l(i) = -\tfrac{1}{C_l} \log N(h_l(i);\, \mu_l, \Sigma_l)

    with mean and covariance over all positions of all images, whose small variances
    :class:`~fastflow_utils.detector.flows.Whitening` keeps from zero. It is what FastFlow knows
    before its first step of gradient descent; the steps are worth what they add to it.

    Args:
        backbone: The frozen network.
        smoothing: As for :class:`~fastflow_utils.detector.detector.Detector`.
        top: As there.

    Example:
        >>> model = Gaussian(Backbone(image_size=64))
        >>> shapes = [(6, 24, 16, 16), (6, 40, 8, 8), (6, 112, 4, 4)]
        >>> model.fit(Features([torch.randn(shape) for shape in shapes]))
        >>> model.image_threshold < 1
        tensor(True)
    """

    method = "gaussian"

    def __init__(self, backbone: Backbone, *, smoothing: float = 4.0, top: float = 0.01) -> None:
        super().__init__(backbone, maps=len(backbone.channels), smoothing=smoothing, top=top)
        self.flows = nn.ModuleList(map(Whitening, backbone.channels))
        self.eval()  # whitening that trains would take its moments from the first batch it sees

    def settings(self) -> dict[str, Any]:
        """Return nothing: there is nothing to choose."""
        return {}

    @torch.no_grad()
    def learn(self, features: Features, seed: int = 0) -> None:
        """Measure each level's mean and covariance; nothing is random."""
        for level, flow in enumerate(self.flows):
            positions = (
                rearrange(batch[level], "b c h w -> 1 (b h w) c") for batch in features.batches(16)
            )
            (mean,), (covariance,), _ = moments(positions)
            cast(Whitening, flow).set_moments(mean, covariance)

    def maps(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Return :math:`n_l`, one (B, 1, H_l, W_l) for each level, in nats per dimension."""
        self._check_levels(features)
        return [
            -cast(Whitening, flow).local_log_prob(h) / h.shape[1]
            for flow, h in zip(self.flows, features, strict=True)
        ]
