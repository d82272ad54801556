r"""Overlapping windows: a large picture as many small ones, and their maps as one again.

A picture of 4000 x 3000 pixels that is squeezed to 256 x 256 keeps nothing of a defect of 12
pixels. Cut into windows it keeps all. The network and the flow see one window at a time; only the
maps of all windows are ever put together, at the resolution of the features, so that what comes
after (rarity, blur, score, thresholds) is of whole pictures and the same for every place in them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor

from fastflow_utils.data.sizes import Size, height_width, size_text
from fastflow_utils.detector.choices import GRID
from fastflow_utils.errors import FastFlowError

__all__ = ["GRID", "Windows"]

LARGE = 1_200_000
"""Pixels of a picture from which on its map has a quarter of its rows and columns."""


@dataclass(frozen=True)
class Windows:
    """How pictures are cut.

    Args:
        size: Of a picture as it is read, H = W or (H, W), pixels.
        side: H = W of a window, pixels.
        overlap: How many pixels two neighbours share, at least.

    Raises:
        FastFlowError: A size is no multiple of 32, the window does not fit into the picture, or
            the overlap leaves no step.

    Example:
        >>> windows = Windows((512, 768), side=256, overlap=64)
        >>> windows.rows, windows.columns
        ((0, 192, 256), (0, 192, 384, 512))
        >>> pictures = torch.rand(2, 3, 512, 768)
        >>> windows.cut(pictures).shape  # in the order of rows, then columns
        torch.Size([24, 3, 256, 256])
        >>> same = windows.blend(windows.cut(pictures))
        >>> torch.allclose(same, pictures, atol=1e-6)
        True
    """

    size: Size
    side: int = 256
    overlap: int = 64

    def __post_init__(self) -> None:
        height, width = height_width(self.size)
        # One way to say it, from JSON as well: windows are compared.
        object.__setattr__(self, "size", height if height == width else (height, width))
        if any(value % GRID or value < GRID for value in (height, width, self.side)):
            raise FastFlowError(
                f"windows of {self.side} px in pictures of {size_text(self.size)} px: expected "
                f"multiples of {GRID}"
            )
        if self.side > min(height, width):
            raise FastFlowError(
                f"windows of {self.side} px in pictures of {size_text(self.size)} px: expected a "
                "window that fits; read the pictures larger (image_size), or take smaller windows"
            )
        if not 0 <= self.overlap <= self.side - GRID:
            raise FastFlowError(
                f"an overlap of {self.overlap} px of windows of {self.side} px: expected 0 to "
                f"{self.side - GRID}"
            )

    @property
    def rows(self) -> tuple[int, ...]:
        """The first row of each row of windows."""
        return self._starts(height_width(self.size)[0])

    @property
    def columns(self) -> tuple[int, ...]:
        """The first column of each column of windows."""
        return self._starts(height_width(self.size)[1])

    @property
    def places(self) -> list[tuple[int, int]]:
        """The first row and column of every window."""
        return [(row, column) for row in self.rows for column in self.columns]

    @property
    def map_size(self) -> tuple[int, int]:
        """(H, W) of anomaly maps: the picture's, or a quarter where it is large.

        The finest level has a stride of 4 pixels: it knows no finer place.
        """
        height, width = height_width(self.size)
        return (height, width) if height * width <= LARGE else (height // 4, width // 4)

    def _starts(self, length: int) -> tuple[int, ...]:
        step = (self.side - self.overlap) // GRID * GRID
        last = length - self.side
        return (*range(0, last, step), last)

    def cut(self, pictures: Tensor) -> Tensor:
        """Return all windows (B K, C, side, side) of pictures (B, C, H, W)."""
        side = self.side
        windows = [pictures[..., r : r + side, c : c + side] for r, c in self.places]
        return rearrange(torch.stack(windows, 1), "b k c h w -> (b k) c h w")

    def blend(self, maps: Tensor) -> Tensor:
        r"""Return the windows' maps (B K, C, h, w) as one map of each picture, (B, C, H, W).

        .. math:: m(i) = \frac{\sum_k w_k(i) \, m_k(i)}{\sum_k w_k(i)}

        :math:`w_k` falls linearly over the overlap, to almost nothing at the window's edge, where
        the network has seen least of the surroundings: so there is no seam.
        """
        height, width = height_width(self.size)
        stride = self.side / maps.shape[-1]
        if maps.shape[-2] != maps.shape[-1] or stride != int(stride) or GRID % int(stride):
            raise FastFlowError(
                f"maps of {tuple(maps.shape[-2:])} positions for windows of {self.side} px: "
                f"expected a stride that divides {GRID}; take another backbone or other layers"
            )
        stride = int(stride)
        maps = rearrange(maps, "(b k) c h w -> k b c h w", k=len(self.places))
        weight = self._weight(maps.shape[-1]).to(maps)
        total = maps.new_zeros(*maps.shape[1:3], height // stride, width // stride)
        weights = maps.new_zeros(height // stride, width // stride)
        for one, (row, column) in zip(maps, self.places, strict=True):
            there = self._part(row, column, stride)
            total[..., *there] += weight * one
            weights[there] += weight
        return total / weights

    def parts(self, maps: Tensor, places: Sequence[tuple[int, int]] | None = None) -> list[Tensor]:
        """Return the windows' parts of a map (..., H, W) of whole pictures, at any stride."""
        stride = height_width(self.size)[0] // maps.shape[-2]
        chosen = self.places if places is None else places
        return [maps[..., *self._part(row, column, stride)] for row, column in chosen]

    def _part(self, row: int, column: int, stride: int) -> tuple[slice, slice]:
        side = self.side // stride
        top, left = row // stride, column // stride
        return slice(top, top + side), slice(left, left + side)

    def _weight(self, side: int) -> Tensor:
        """Return w of :meth:`blend`, (side, side)."""
        reach = max(1, math.ceil(self.overlap * side / self.side))
        steps = torch.arange(side) + 0.5
        ramp = (torch.minimum(steps, side - steps) / reach).clamp(max=1)
        return ramp[:, None] * ramp
