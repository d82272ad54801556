"""EfficientNet-Lite0, the network of the default backbone, in torch alone.

timm has it, too, as ``tf_efficientnet_lite0``, with the same names of the weights, and a test
holds the two against each other. But to import timm takes twice as long as to import torch, and
timm's own computes every stage, whichever level is the last that anybody asks for.

References:
    - Tan & Le, EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks, 2019
      (arXiv 1905.11946); Lite0 has neither squeeze-and-excitation nor swish.
"""

import math
from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["STRIDES", "EfficientNetLite0"]

STAGES = (  # blocks, kernel size, stride of the first block, expansion, channels
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
STRIDES = (2, 4, 8, 16, 32)
"""Of each level, which is the output of the last stage at this stride."""

LEVELS = (0, 1, 2, 4, 6)  # the stage of each level


class EfficientNetLite0(nn.Module):
    """Feature maps of an image at several levels; nothing after the last of them is built.

    Args:
        levels: Indices into ``STRIDES``, in ascending order.

    Example:
        >>> import torch
        >>> [tuple(h.shape) for h in EfficientNetLite0([1, 3])(torch.rand(1, 3, 64, 64))]
        [(1, 24, 16, 16), (1, 112, 4, 4)]
    """

    def __init__(self, levels: Sequence[int]) -> None:
        super().__init__()
        self.returned = {LEVELS[level] for level in levels}
        channels = 32
        self.conv_stem = _Convolution(3, channels, 3, stride=2)
        self.bn1 = _norm(channels)
        self.act1 = nn.ReLU6(inplace=True)
        self.blocks = nn.Sequential()
        for count, kernel_size, stride, expansion, outputs in STAGES[: max(self.returned) + 1]:
            stage = nn.Sequential()
            for number in range(count):
                first = stride if number == 0 else 1
                stage.append(_Block(channels, outputs, kernel_size, first, expansion))
                channels = outputs
            self.blocks.append(stage)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return ``[(B, C_l, H_l, W_l), ...]`` for the normalised image x (B, 3, H, W)."""
        x = self.act1(self.bn1(self.conv_stem(x)))
        maps = []
        for number, stage in enumerate(self.blocks):
            x = stage(x)
            if number in self.returned:
                maps.append(x)
        return maps


class _Block(nn.Sequential):
    """Widen, look at neighbours in each channel alone, narrow; add the input where it fits."""

    def __init__(
        self, inputs: int, outputs: int, kernel_size: int, stride: int, expansion: int
    ) -> None:
        super().__init__()
        self.is_residual = stride == 1 and inputs == outputs
        hidden = inputs * expansion
        convolutions = {
            "conv_pw": _Convolution(inputs, hidden, 1),
            "conv_dw": _Convolution(hidden, hidden, kernel_size, stride, groups=hidden),
            "conv_pwl": _Convolution(hidden, outputs, 1),
        }
        if expansion == 1:  # nothing to widen
            convolutions = {
                "conv_dw": convolutions["conv_dw"],
                "conv_pw": convolutions["conv_pwl"],
            }
        for number, (name, convolution) in enumerate(convolutions.items(), start=1):
            self.add_module(name, convolution)
            self.add_module(f"bn{number}", _norm(convolution.out_channels))
            if number < len(convolutions):
                self.add_module(f"act{number}", nn.ReLU6(inplace=True))

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output."""
        out: Tensor = super().forward(x)
        return out + x if self.is_residual else out


class _Convolution(nn.Conv2d):
    """Padded as TensorFlow does it: what cannot be shared evenly is more at right and bottom."""

    def __init__(
        self, inputs: int, outputs: int, kernel_size: int, stride: int = 1, groups: int = 1
    ) -> None:
        padding = kernel_size // 2 if stride == 1 else 0
        super().__init__(inputs, outputs, kernel_size, stride, padding, groups=groups, bias=False)
        # So that each layer's outputs vary as much as its inputs do.
        nn.init.normal_(self.weight, std=math.sqrt(2 * groups / (kernel_size**2 * outputs)))

    def forward(self, x: Tensor) -> Tensor:
        """Return the convolved x."""
        step, kernel_size = self.stride[0], self.kernel_size[0]
        if step > 1:
            height, width = (
                max((math.ceil(n / step) - 1) * step + kernel_size - n, 0) for n in x.shape[-2:]
            )
            x = F.pad(x, (width // 2, width - width // 2, height // 2, height - height // 2))
        return super().forward(x)


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3)
