"""PatchCore: how far each patch is from the most similar one of a memory of normal patches."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from fastflow_utils.data.sizes import height_width
from fastflow_utils.detector.backbones import Backbone
from fastflow_utils.detector.detector import Detector, Raw
from fastflow_utils.detector.features import Features
from fastflow_utils.errors import FastFlowError

__all__ = ["PatchCore", "coreset"]

PROJECTED = 128  # dimensions in which the coreset is chosen, as published
AT_ONCE = 2**24  # distances in memory


class PatchCore(Detector):
    r"""The distance of each patch from the nearest patch in a memory of normal ones.

    .. math:: d(i) = \min_{m \in M} \lVert x_i - m \rVert

    :math:`x_i` are the features around position i: 3x3 means of the last two levels of the
    backbone (strides 8 and 16 of three), the coarser one interpolated. M holds few of the
    training images' patches, chosen so that none of the others is far from it (:func:`coreset`).

    The image score is the largest distance d* = ||x* - m*||, weighted (the paper's equation 7):

    .. math:: s = \left( 1 - \frac{\exp d^*}
              {\sum_{m \in N(m^*)} \exp \lVert x^* - m \rVert} \right) d^*

    with N(m*) the b patches in M nearest to m*, itself among them: where normal patches are rare,
    a distance means more. It is of the distances themselves, so it may be above 1.

    Source: Roth et al., Towards Total Recall in Industrial Anomaly Detection, 2022 (arXiv
    2106.08265). 3x3 means count the zeros beyond the border, as in the published code.

    Args:
        backbone: The frozen network.
        share: Of the patches to remember. A hundredth is the paper's PatchCore-1%: its accuracy
            is within 0.1 points of 25 %, at a small part of memory and time.
        neighbours: b.
        smoothing: As for :class:`~fastflow_utils.detector.detector.Detector`.
        top: As there, of no use here.

    Raises:
        FastFlowError: If an option is out of range.

    Example:
        >>> model = PatchCore(Backbone(image_size=64), share=0.1)
        >>> shapes = [(6, 24, 16, 16), (6, 40, 8, 8), (6, 112, 4, 4)]
        >>> model.fit(Features([torch.randn(shape) for shape in shapes]))
        >>> model.bank.shape  # a tenth of 5 images' 64 positions
        torch.Size([32, 152])
    """

    method = "patchcore"
    bank: Tensor

    def __init__(
        self,
        backbone: Backbone,
        *,
        share: float = 0.01,
        neighbours: int = 9,
        smoothing: float = 4.0,
        top: float = 0.01,
    ) -> None:
        if not 0 < share <= 1:
            raise FastFlowError(f"share={share}: expected a share of the patches in (0, 1]")
        if not isinstance(neighbours, int) or neighbours < 2:
            raise FastFlowError(f"neighbours={neighbours}: expected a whole number, at least 2")
        super().__init__(backbone, maps=1, smoothing=smoothing, top=top)
        self.share = share
        self.neighbours = neighbours
        self.size = max(map(height_width, backbone.sizes[-2:]))
        self.register_buffer("bank", torch.empty(0, sum(backbone.channels[-2:])))

    def settings(self) -> dict[str, Any]:
        """Return share and neighbours."""
        return {"share": self.share, "neighbours": self.neighbours}

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        """Make room for the bank, whose size is known by then only; load as ever."""
        self.bank = self.bank.new_empty(len(state_dict["bank"]), self.bank.shape[1])
        return super().load_state_dict(state_dict, strict, assign)

    @torch.no_grad()
    def learn(self, features: Features, seed: int = 0) -> None:
        """Remember a coreset of the patches, in two passes: one to choose, one to keep."""
        generator = torch.Generator().manual_seed(seed)
        channels = self.bank.shape[1]
        projection = torch.eye(channels)
        if channels > PROJECTED:  # distances stay about the same (Johnson and Lindenstrauss)
            projection = torch.randn(channels, PROJECTED, generator=generator) / PROJECTED**0.5
        projection = projection.to(self.device)
        seen = [self.patches(batch) @ projection for batch in features.batches(16)]
        flat = torch.cat([rearrange(each, "b p c -> (b p) c") for each in seen])
        del seen
        first = int(torch.randint(len(flat), (), generator=generator))
        chosen = coreset(flat, max(1, round(self.share * len(flat))), first).sort().values
        del flat
        kept, start = [], 0
        for batch in features.batches(16):
            patches = rearrange(self.patches(batch), "b p c -> (b p) c")
            here = chosen[(chosen >= start) & (chosen < start + len(patches))] - start
            kept.append(patches[here])
            start += len(patches)
        self.bank = torch.cat(kept)

    def maps(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Return d as the one map (B, 1, H, W), at the size of the finer level used."""
        return [self._map(self.nearest(self.patches(features))[0])]

    def raw(self, features: Sequence[Tensor]) -> Raw:
        """Return d as the one map (B, 1, H, W), and s (B,)."""
        patches = self.patches(features)
        distance, nearest = self.nearest(patches)
        return [self._map(distance)], self._weighted(patches, distance, nearest)

    def patches(self, features: Sequence[Tensor]) -> Tensor:
        """Return x of each position, (B, positions, C)."""
        self._check_levels(features)
        levels = [
            F.interpolate(
                F.avg_pool2d(h, 3, 1, 1), self.size, mode="bilinear", align_corners=False
            )
            for h in features[-2:]
        ]
        return rearrange(torch.cat(levels, dim=1), "b c h w -> b (h w) c")

    def nearest(self, patches: Tensor) -> tuple[Tensor, Tensor]:
        """Return each patch's distance from the bank, and the place of its nearest in there.

        Args:
            patches: (B, P, C).

        Returns:
            Two of (B, P).
        """
        if not len(self.bank):
            raise FastFlowError("PatchCore remembers no patch yet: fit it to normal images")
        flat = rearrange(patches, "b p c -> (b p) c")
        found = [
            torch.cdist(some, self.bank).min(dim=1)
            for some in flat.split(max(1, AT_ONCE // len(self.bank)))
        ]
        distance = torch.cat([each.values for each in found])
        place = torch.cat([each.indices for each in found])
        return distance.view(patches.shape[:2]), place.view(patches.shape[:2])

    def _map(self, distance: Tensor) -> Tensor:
        return rearrange(distance, "b (h w) -> b 1 h w", h=self.size[0])

    def _weighted(self, patches: Tensor, distance: Tensor, nearest: Tensor) -> Tensor:
        """Return s (B,) by equation 7."""
        images = torch.arange(len(patches), device=patches.device)
        farthest, where = distance.max(dim=1)
        if len(self.bank) == 1:  # no neighbour to compare with
            return farthest
        place = nearest[images, where]
        b = min(self.neighbours, len(self.bank))
        around = torch.cdist(self.bank[place], self.bank).topk(b, largest=False).indices
        others = self.bank[around]  # (B, b, C)
        apart = torch.cdist(patches[images, where][:, None], others)[:, 0]
        # exp d* / sum = exp(d* - log sum exp): no overflow, and m* counts by its own place.
        return -torch.expm1(farthest - apart.logsumexp(dim=1)) * farthest


def coreset(x: Tensor, count: int, first: int = 0) -> Tensor:
    """Return the places of rows that none of the others is far from: greedy k-centre.

    Each pick is the row that is farthest from all picks so far. Only the distance from the
    nearest pick is kept, so a pick costs one product of the matrix and a vector.

    Args:
        x: (N, C).
        count: How many, at most N.
        first: The row to begin with.

    Returns:
        (count,), in the order of the picks, each once.

    Example:
        >>> coreset(torch.tensor([[0.0], [1.0], [10.0], [6.0]]), 3).tolist()
        [0, 2, 3]
    """
    squares = x.square().sum(1)
    nearest = torch.full_like(squares, math.inf)
    picks = torch.empty(count, dtype=torch.long, device=x.device)
    pick = torch.tensor(first, device=x.device)
    for number in range(count):
        picks[number] = pick
        apart = squares + squares[pick] - 2 * (x @ x[pick])  # squared, from the newest pick
        nearest = torch.minimum(nearest, apart)
        nearest[pick] = -math.inf  # once is enough, even among equals
        pick = nearest.argmax()
    return picks
