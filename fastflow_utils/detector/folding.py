r"""The inference form of a flow: the same map, with what is constant after training folded.

:class:`FoldedFlow` is a module of its own, with tensors of its own: what happens to the flow later
does not change it. It is made from the flow's layers, which stay the definition, and is compared
with them when it is made:

- whitening, ActNorm and permutation are linear maps of the channels, so all of them in a row
  become one 1x1 convolution;
- with the division by the clamp folded into the weights, the soft clamp
  :math:`s = \alpha\tanh(\tilde s/\alpha)` is :math:`2\alpha\,\sigma(2\tilde s/\alpha) - \alpha`,
  whose sigmoid takes a fifth of tanh's time;
- what does not depend on the image is added to the log-determinant once, at each position its own
  where the flow knows positions;
- tensors lie channels last, as convolutions on CPUs like them, and few images are in work at a
  time, so that they stay in the processor's cache.

bfloat16 (8 bits of precision) is for the subnets' convolutions only. Everything that is added up,
likelihood and log-determinant, stays in float32.
"""

import copy
from collections.abc import Iterator
from typing import cast

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from fastflow_utils.compute import Precision, dtype_of, in_chunks, one_thread
from fastflow_utils.detector.flows import (
    ActNorm,
    AffineCoupling,
    Flow,
    FlowLayer,
    FlowStep,
    Permutation,
    PositionNorm,
    Whitening,
)
from fastflow_utils.errors import FastFlowError

__all__ = ["FoldedFlow", "NotFoldableError"]

TOLERANCE = 1e-6  # of the largest value, in float64


class NotFoldableError(FastFlowError):
    """A flow has no inference form; the message names the layer and the reason."""


class FoldedFlow(FlowLayer):
    """A flow's forward direction, for inference: without gradients, without an inverse.

    Args:
        flow: Trained, or at least initialised. It is not changed.
        precision: Of the subnets' convolutions.

    Raises:
        NotFoldableError: If a layer is none of this package's, a subnet is not like
            :func:`~fastflow_utils.detector.flows.conv_subnet`'s, or the folded flow gives
            other results than the flow.

    Example:
        >>> from fastflow_utils.detector.flows import FlowOptions
        >>> flow, x = Flow(8, FlowOptions(steps=2)).eval(), torch.randn(2, 8, 16, 16)
        >>> z, shares = FoldedFlow(flow).local(x)
        >>> torch.allclose(z, flow.local(x)[0], atol=1e-5), shares.shape
        (True, torch.Size([2, 1, 16, 16]))
    """

    constant: Tensor

    @torch.no_grad()
    @one_thread()
    def __init__(self, flow: Flow, precision: Precision = "float32") -> None:
        super().__init__()
        dtype = next((t.dtype for t in flow.state_dict().values() if t.ndim), torch.float32)
        # In float64, so that a difference from the flow is a mistake and not rounding; in eval
        # mode, so that a fresh flow does not take the comparison's noise for its first batch.
        exact = copy.deepcopy(flow).double().eval()
        self._fold(exact)
        self.requires_grad_(False)
        _compare(exact, self)
        self.to(dtype).to(memory_format=torch.channels_last)
        for step in self.steps:
            if isinstance(step, _FoldedStep) and precision != "float32":
                step.subnet.to(dtype_of(precision))

    def _fold(self, flow: Flow) -> None:
        """Make steps and constant of a flow in float64."""
        start = torch.eye(_channels(flow), dtype=torch.float64, device=_device(flow))
        matrix, offset = start, start.new_zeros(len(start))  # of what is linear since a coupling
        constant = start.new_zeros(())
        steps: list[nn.Module] = []
        for layer in _layers(flow):
            if type(layer) is PositionNorm and not steps and matrix is start:
                steps.append(_Scaling(layer))
                constant = constant - layer.log_std.sum(0, keepdim=True)
            elif type(layer) is AffineCoupling:
                steps.append(_FoldedStep(matrix, offset, layer))
                matrix, offset = start, torch.zeros_like(offset)
            else:
                matrix, offset, log_det = _then(layer, matrix, offset)
                constant = constant + log_det
        if matrix is not start:  # what comes after the last coupling
            steps.append(_Convolution(matrix[..., None, None], offset))
        self.steps = nn.ModuleList(steps)
        self.register_buffer("constant", constant)

    @torch.no_grad()
    def local(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return z (B, C, H, W) and each position's share of log|det dz/dx|, (B, 1, H, W)."""
        z, shares = in_chunks(self._local, x, 8)
        return z, shares

    def _local(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = x.contiguous(memory_format=torch.channels_last)
        log_scale: Tensor | None = None
        for step in self.steps:
            if isinstance(step, _FoldedStep):
                x, s = step(x)
                log_scale = s if log_scale is None else log_scale.add_(s)
            else:
                x = step(x)
        constant = self.constant.expand(len(x), 1, *x.shape[2:])
        return x, constant if log_scale is None else log_scale.sum(1, keepdim=True) + constant

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Refuse: this form goes forward only."""
        raise FastFlowError("the inference form of a flow has no inverse: use the flow itself")


class _Convolution(nn.Module):
    """A convolution that keeps H x W, with tensors of its own: nothing to learn or initialise."""

    weight: Tensor
    bias: Tensor

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", weight.clone())
        self.register_buffer("bias", bias.clone())

    def forward(self, x: Tensor) -> Tensor:
        """Return the convolved x."""
        return F.conv2d(x, self.weight, self.bias, padding="same")


class _Scaling(nn.Module):
    """A scale and an offset for each channel and position."""

    scale: Tensor
    offset: Tensor

    def __init__(self, layer: PositionNorm) -> None:
        super().__init__()
        scale = (-layer.log_std).exp()
        self.register_buffer("scale", scale[None])
        self.register_buffer("offset", (-layer.mean * scale)[None])

    def forward(self, x: Tensor) -> Tensor:
        """Return the scaled x."""
        return torch.addcmul(self.offset, x, self.scale)


class _FoldedStep(nn.Module):
    """1x1 convolutions for all that is linear, then the coupling."""

    def __init__(self, matrix: Tensor, offset: Tensor, coupling: AffineCoupling) -> None:
        super().__init__()
        first, last = _subnet_convolutions(coupling.subnet)
        size_a, size_b = coupling.sizes
        self.clamp = coupling.clamp
        matrix = matrix[..., None, None]
        self.a = _Convolution(matrix[:size_a], offset[:size_a])
        self.b = _Convolution(matrix[size_a:], offset[size_a:])
        weight, bias = last.weight, cast(Tensor, last.bias)
        steep = 2 / self.clamp  # clamp * tanh(s / clamp) = 2 clamp * sigmoid(steep * s) - clamp
        self.subnet = nn.ModuleDict(
            {
                "hidden": _Convolution(first.weight, cast(Tensor, first.bias)),
                "s": _Convolution(steep * weight[:size_b], steep * bias[:size_b]),
                "t": _Convolution(weight[size_b:], bias[size_b:]),
            }
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return z and s."""
        x_a, x_b = self.a(x), self.b(x)
        low = cast(_Convolution, self.subnet["hidden"]).weight.dtype
        hidden = self.subnet["hidden"](x_a.to(low)).relu_()
        s = self.subnet["s"](hidden).to(x.dtype).sigmoid_().mul_(2 * self.clamp).sub_(self.clamp)
        z_b = torch.addcmul(self.subnet["t"](hidden).to(x.dtype), x_b, s.exp())
        rows = [rearrange(part, "b c h w -> b h w c") for part in (x_a, z_b)]  # as they lie
        return rearrange(torch.cat(rows, dim=-1), "b h w c -> b c h w"), s


def _layers(chain: nn.Module) -> Iterator[FlowLayer]:
    """Yield the layers of a flow, those of its steps one by one."""
    for layer in cast(nn.ModuleList, chain.layers):
        if type(layer) is FlowStep:
            yield from _layers(layer)
        else:
            yield cast(FlowLayer, layer)


def _then(layer: FlowLayer, matrix: Tensor, offset: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Apply a linear layer after x -> matrix x + offset; return also its log-determinant."""
    if type(layer) is Whitening:
        own = layer.matrix.double()
        shifted = own @ (offset - layer.mean.double().flatten())
        return own @ matrix, shifted, own.slogdet().logabsdet
    if type(layer) is ActNorm:
        log_scale = layer.log_scale.double().flatten()
        scale = log_scale.exp()
        shifted = scale * offset + layer.shift.double().flatten()
        return scale[:, None] * matrix, shifted, log_scale.sum()
    if type(layer) is Permutation:
        return matrix[layer.order], offset[layer.order], matrix.new_zeros(())
    raise NotFoldableError(
        f"cannot fold the layer {type(layer).__name__}: expected Whitening, ActNorm, Permutation "
        "or AffineCoupling, not a subclass of them, and PositionNorm at the start only; use the "
        "flow itself"
    )


def _subnet_convolutions(subnet: nn.Module) -> tuple[nn.Conv2d, nn.Conv2d]:
    """Return the two convolutions of a subnet as conv_subnet builds it; refuse any other."""
    layers = list(subnet.children()) if type(subnet) is nn.Sequential else [subnet]
    plain = [type(layer) for layer in layers] == [nn.Conv2d, nn.ReLU, nn.Conv2d] and all(
        (c.stride, c.dilation, c.groups, c.padding, c.padding_mode)
        == ((1, 1), (1, 1), 1, "same", "zeros")
        and c.bias is not None
        for c in cast(list[nn.Conv2d], layers[::2])
    )
    if not plain:
        names = ", ".join(type(layer).__name__ for layer in layers)
        raise NotFoldableError(
            f"cannot fold the subnet {type(subnet).__name__}({names}): expected Conv2d, ReLU, "
            "Conv2d as conv_subnet builds them; use the flow itself"
        )
    return cast(nn.Conv2d, layers[0]), cast(nn.Conv2d, layers[2])


def _compare(flow: Flow, folded: FoldedFlow) -> None:
    """Compare both on noise, coloured as whitening expects its input."""
    first = next(_layers(flow), None)
    places = tuple(first.mean.shape[1:]) if isinstance(first, PositionNorm) else (4, 4)
    shape = (1, _channels(flow), *places)
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    x = noise.to(_device(flow), torch.float64)
    for layer in reversed(list(_layers(flow))):
        x = layer.inverse(x)[0] if isinstance(layer, Whitening | PositionNorm) else x
    for name, ours, theirs in zip(("z", "log-det"), folded.local(x), flow.local(x), strict=True):
        difference, size = (ours - theirs).abs().max(), theirs.abs().max().clamp_min(1)
        if not difference <= TOLERANCE * size:  # NaN fails, too
            raise NotFoldableError(
                f"the folded flow's {name} differs by {difference:.2g} from the flow's, whose "
                f"largest is {size:.2g}: expected at most {TOLERANCE:g} of it; use the flow itself"
            )


def _channels(flow: Flow) -> int:
    """Return C of the first layer; 1 where there is none, for the identity has any number."""
    for layer in _layers(flow):
        if isinstance(layer, AffineCoupling):
            return sum(layer.sizes)
        return len(next(iter(layer.state_dict().values())))
    return 1


def _device(flow: Flow) -> torch.device:
    return next((tensor.device for tensor in flow.state_dict().values()), torch.device("cpu"))
