r"""The fast path: the same flow with its constants folded, and cheap numbers where they suffice.

:class:`Fused` computes what ``Flow.local`` computes, without gradients. It is derived from the
flow's layers, which stay the definition:

- whitening, ActNorm and permutation are linear maps of the channels, one after the other, so each
  step begins with one 1x1 convolution in place of them all;
- with the division by the clamp and the factor :math:`e^{-\alpha}` folded into weights, the soft
  clamp :math:`s = \alpha\tanh(\tilde s/\alpha)` is :math:`2\alpha\,\sigma(2\tilde s/\alpha) -
  \alpha`, whose sigmoid takes a fifth of tanh's time;
- what does not depend on the image is added to the log-determinant once;
- tensors lie channels last, as convolutions on CPUs like them, and few images are in work at a
  time, so that they stay in the processor's cache.

bfloat16 (8 bits of precision) is for the subnets' convolutions only. Everything that is added up,
likelihood and log-determinant, stays in float32.
"""

import math
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from fastflow_utils.compute import in_chunks
from fastflow_utils.detector.flows import (
    ActNorm,
    AffineCoupling,
    Flow,
    FlowStep,
    Permutation,
    Whitening,
)

__all__ = ["Fused"]


class Fused:
    """A flow's forward direction, folded; it keeps no tie to the flow it was made from.

    Args:
        flow: Trained, or at least initialised.
        dtype: Of the subnets' convolutions.

    Example:
        >>> flow, x = Flow(8, steps=2).eval(), torch.randn(2, 8, 16, 16)
        >>> z, shares = Fused(flow).local(x)
        >>> torch.allclose(z, flow.local(x)[0], atol=1e-5), shares.shape
        (True, torch.Size([2, 1, 16, 16]))
    """

    @torch.no_grad()
    def __init__(self, flow: Flow, dtype: torch.dtype = torch.float32) -> None:
        self.steps: list[_FusedStep] = []
        self.log_det = 0.0  # each position's share of what does not depend on the image
        matrix: Tensor | None = None  # what is still to be done before the next coupling
        shift: Tensor | None = None
        for layer in flow.layers:
            if isinstance(layer, Whitening):
                matrix = layer.matrix.double()
                shift = -matrix @ layer.mean.double().flatten()
                self.log_det += float(matrix.slogdet().logabsdet)
                continue
            actnorm, permutation, coupling = cast(
                tuple[ActNorm, Permutation, AffineCoupling], tuple(cast(FlowStep, layer).layers)
            )
            scale = actnorm.log_scale.double().exp().flatten()
            offset = actnorm.shift.double().flatten()
            linear = scale.diag() if matrix is None else scale[:, None] * matrix
            offset = offset if shift is None else scale * shift + offset
            order = permutation.order
            self.log_det += float(actnorm.log_scale.sum() - coupling.clamp * coupling.sizes[1])
            self.steps.append(_FusedStep(linear[order], offset[order], coupling, dtype))
            matrix = shift = None

    @torch.no_grad()
    def local(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return z (B, C, H, W) and each position's share of log|det dz/dx|, (B, 1, H, W)."""
        z, shares = in_chunks(self._local, x, 8)
        return z, shares

    def _local(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = x.contiguous(memory_format=torch.channels_last)
        log_scale: Tensor | None = None
        for step in self.steps:
            x, log_scale = step(x, log_scale)
        assert log_scale is not None, "a flow has at least one step"
        return x, log_scale.sum(dim=1, keepdim=True) + self.log_det


class _FusedStep:
    """1x1 convolutions for all that is linear, then the coupling."""

    def __init__(
        self, linear: Tensor, offset: Tensor, coupling: AffineCoupling, dtype: torch.dtype
    ) -> None:
        first, last = (cast(nn.Conv2d, coupling.subnet[i]) for i in (0, 2))
        size_a, size_b = coupling.sizes
        self.span = 2 * coupling.clamp  # s lies between -span / 2 and span / 2
        shrink = math.exp(-coupling.clamp)  # exp(s) = exp(-clamp) exp(span * sigmoid)
        kept = first.weight.dtype

        def convolution(weight: Tensor, bias: Tensor, dtype: torch.dtype) -> _Convolution:
            weight = weight.to(dtype).contiguous(memory_format=torch.channels_last)
            return _Convolution(weight, bias.to(dtype))

        linear = linear[..., None, None]
        self.a = convolution(linear[:size_a], offset[:size_a], kept)
        self.b = convolution(shrink * linear[size_a:], shrink * offset[size_a:], kept)
        self.hidden = convolution(first.weight, cast(Tensor, first.bias), dtype)
        weight, bias = last.weight, cast(Tensor, last.bias)
        steep = 2 / coupling.clamp  # clamp * tanh(s / clamp) = span * sigmoid(steep * s) - clamp
        self.s = convolution(steep * weight[:size_b], steep * bias[:size_b], dtype)
        self.t = convolution(weight[size_b:], bias[size_b:], dtype)
        self.dtype, self.kept = dtype, kept

    def __call__(self, x: Tensor, log_scale: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return z, and the sum of s + clamp over the steps so far."""
        x_a, x_b = self.a(x), self.b(x)
        hidden = self.hidden(x_a.to(self.dtype)).relu_()
        s = self.s(hidden).to(self.kept).sigmoid_().mul_(self.span)
        log_scale = s.clone() if log_scale is None else log_scale.add_(s)
        z_b = torch.addcmul(self.t(hidden).to(self.kept), x_b, s.exp_())
        rows = [rearrange(part, "b c h w -> b h w c") for part in (x_a, z_b)]  # as they lie
        return rearrange(torch.cat(rows, dim=-1), "b h w c -> b c h w"), log_scale


class _Convolution(NamedTuple):
    weight: Tensor
    bias: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight, self.bias, padding="same")
