"""Exercises of notebook 03, coupling flows."""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Normal

from fastflow_utils.course.exercises.checking import Exercise

__all__ = ["EXERCISES"]

NORMAL = Normal(0.0, 1.0)


# 3.2: the density of exp(mu + sigma z)


def _positive() -> list[tuple[Any, ...]]:
    generator = torch.Generator().manual_seed(32)
    x = [0.1 + 3 * torch.rand(7, generator=generator) for _ in range(2)]
    return [(x[0], 0.3, 1.7), (x[1], -1.2, 0.4)]


def _log_normal(x: Tensor, mu: float, sigma: float) -> Tensor:
    log_p: Tensor = NORMAL.log_prob((torch.log(x) - mu) / sigma)
    return log_p - torch.log(x) - math.log(sigma)


# 3.3: bits per dimension


def _latents() -> list[tuple[Any, ...]]:
    generator = torch.Generator().manual_seed(33)
    shapes = [(3, 4, 2, 5), (2, 3, 1, 1)]
    return [
        (torch.randn(shape, generator=generator), 9 * torch.randn(shape[0], generator=generator))
        for shape in shapes
    ]


def _nll(z: Tensor, log_det: Tensor, per: Callable[[Tensor], float]) -> Tensor:
    log_p: Tensor = NORMAL.log_prob(z).sum((1, 2, 3)) + log_det
    return -log_p / per(z[0])


# 3.4: one matrix at every position


def _maps_and_matrices() -> list[tuple[Any, ...]]:
    generator = torch.Generator().manual_seed(34)
    maps = [torch.randn(shape, generator=generator) for shape in [(2, 3, 4, 5), (3, 4, 1, 2)]]
    matrices = [torch.randn(len(x[0]), len(x[0]), generator=generator) for x in maps]
    # One with a negative determinant, one with a positive one: the absolute value counts.
    for matrix, sign in zip(matrices, (-1, 1), strict=True):
        matrix[0] *= sign * matrix.det().sign()
    return list(zip(maps, matrices, strict=True))


def _mix(
    log_det: Callable[[Tensor, int], Tensor], transposed: bool = False
) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
    def mix(x: Tensor, A: Tensor) -> tuple[Tensor, Tensor]:
        z = torch.einsum("dc,bchw->bdhw", A.T if transposed else A, x)
        return z, log_det(A, x[0, 0].numel()).expand(len(x))

    return mix


# 3.5: Glow's coupling


class _Glow(nn.Module):
    def __init__(self, subnet: nn.Module) -> None:
        super().__init__()
        self.subnet = subnet

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x_a, x_b = x.chunk(2, dim=1)
        s, t = self.subnet(x_a).chunk(2, dim=1)
        return torch.cat([x_a, torch.sigmoid(s) * (x_b + t)], dim=1), self.log_det(s)

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        z_a, z_b = z.chunk(2, dim=1)
        s, t = self.subnet(z_a).chunk(2, dim=1)
        return torch.cat([z_a, z_b / torch.sigmoid(s) - t], dim=1), -self.log_det(s)

    def log_det(self, s: Tensor) -> Tensor:
        return F.logsigmoid(s).sum((1, 2, 3))


class _UncountedSigmoid(_Glow):
    def log_det(self, s: Tensor) -> Tensor:
        return s.sum((1, 2, 3))


class _NoLogarithm(_Glow):
    def log_det(self, s: Tensor) -> Tensor:
        return torch.sigmoid(s).sum((1, 2, 3))


class _Averaged(_Glow):
    def log_det(self, s: Tensor) -> Tensor:
        return F.logsigmoid(s).sum(1).mean((1, 2))


class _ScaledFirst(_Glow):
    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        z_a, z_b = z.chunk(2, dim=1)
        s, t = self.subnet(z_a).chunk(2, dim=1)
        return torch.cat([z_a, (z_b - t) / torch.sigmoid(s)], dim=1), -self.log_det(s)


class _SameSign(_Glow):
    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        x, log_det = super().inverse(z)
        return x, -log_det


def _kept(make: Callable[[nn.Module], Any]) -> dict[str, Any] | None:
    """What a layer does with a subnet of random weights, and what the truth is, in float64."""
    generator = torch.Generator().manual_seed(35)
    with torch.random.fork_rng(devices=[]):
        subnet = nn.Conv2d(2, 4, 3, padding="same", dtype=torch.float64)
    for parameter in subnet.parameters():
        nn.init.normal_(parameter, std=0.4, generator=generator)
    layer = make(subnet)
    if layer is None or layer is Ellipsis:
        return None
    x = torch.randn(2, 4, 2, 3, generator=generator, dtype=torch.float64)
    results = {"forward": layer.forward(x), "inverse": layer.inverse(x)}
    if all(result is None or result is Ellipsis for result in results.values()):
        return None
    for name, result in results.items():
        if not isinstance(result, tuple | list) or len(result) != 2:
            raise TypeError(f"{name} should return two values, a map and its log_det")
    (z, log_det), (back, log_det_back) = results.values()
    jacobian = torch.autograd.functional.jacobian(lambda x: layer.forward(x)[0], x[:1])
    truth = torch.linalg.slogdet(jacobian.reshape(x[0].numel(), -1)).logabsdet
    return {
        "z of forward": z,
        "log_det of forward, less the Jacobian's": torch.as_tensor(log_det).flatten()[0] - truth,
        "log_det of forward": log_det,
        "x of inverse": back,
        "log_det of inverse": log_det_back,
    }


EXERCISES = {
    "3.1": Exercise(
        reference="e",
        observe=lambda answer: answer.strip(" .").lower() if isinstance(answer, str) else answer,
        hint="Answer with one letter, from a to e, as text.",
        mistakes={
            "Scales are undone, whatever the layer says about them.": "a",
            "What is wrong in one direction is wrong in the other too, and cancels.": "b",
            "What is left of any log-determinant if every s is zero?": "c",
            "How many positions has that map?": "d",
        },
    ),
    "3.2": Exercise(
        reference=_log_normal,
        inputs=_positive,
        hint="Three steps: solve for z, find the slope dz/dx, put both into the formula.",
        mistakes={
            "Does this density integrate to 1? The slope is missing.": lambda x, mu, sigma: (
                NORMAL.log_prob((torch.log(x) - mu) / sigma)
            ),
            "Look at dz/dx again: sigma counts too.": lambda x, mu, sigma: (
                NORMAL.log_prob((torch.log(x) - mu) / sigma) - torch.log(x)
            ),
            "Is your slope dz/dx, or is it dx/dz?": lambda x, mu, sigma: (
                NORMAL.log_prob((torch.log(x) - mu) / sigma) + torch.log(x) + math.log(sigma)
            ),
            "Which way does the map run? p_Z wants z, so solve for z.": lambda x, mu, sigma: (
                NORMAL.log_prob(torch.exp(mu + sigma * x)) + mu + sigma * x + math.log(sigma)
            ),
            "This is a density; its logarithm is asked for.": (
                lambda x, mu, sigma: _log_normal(x, mu, sigma).exp()
            ),
        },
    ),
    "3.3": Exercise(
        reference=lambda z, log_det: _nll(z, log_det, torch.numel) / math.log(2),
        inputs=_latents,
        hint="Take the formula of section 5 term by term, then change the unit.",
        mistakes={
            "These are nats.": lambda z, log_det: _nll(z, log_det, torch.numel),
            "A bit is less than a nat: does it take more of them?": lambda z, log_det: (
                _nll(z, log_det, torch.numel) * math.log(2)
            ),
            "A flow that stretches makes data denser: mind the sign of log_det.": (
                lambda z, log_det: _nll(z, -log_det, torch.numel) / math.log(2)
            ),
            "How many dimensions has an image? Positions count as well as channels.": (
                lambda z, log_det: _nll(z, log_det, len) / math.log(2)
            ),
            "This is for a whole image, not per dimension.": lambda z, log_det: (
                _nll(z, log_det, lambda _: 1) / math.log(2)
            ),
            "A constant is missing: the Gaussian's own.": lambda z, log_det: (
                (_nll(z, log_det, torch.numel) - math.log(2 * math.pi) / 2) / math.log(2)
            ),
        },
    ),
    "3.4": Exercise(
        reference=_mix(lambda A, positions: positions * A.slogdet().logabsdet),
        inputs=_maps_and_matrices,
        hint="Write the Jacobian for two positions: it has blocks. How many, in general?",
        mistakes={
            "How many times does A act on one image?": _mix(
                lambda A, positions: A.slogdet().logabsdet
            ),
            "A determinant may be negative; what counts is the change of volume.": _mix(
                lambda A, positions: positions * A.logdet()
            ),
            "A logarithm is missing.": (_mix(lambda A, positions: A.det().abs() * positions)),
            "Only a triangular matrix has its determinant on the diagonal.": _mix(
                lambda A, positions: positions * A.diag().abs().log().sum()
            ),
            "The log-determinant is right, but z is not: row d of A makes channel d of z.": _mix(
                lambda A, positions: positions * A.slogdet().logabsdet, transposed=True
            ),
        },
    ),
    "3.5": Exercise(
        reference=_Glow,
        observe=_kept,
        hint="Go through the derivation of section 3 with sigmoid(s) in the place of exp(s).",
        mistakes={
            "What multiplies x_b here? Its logarithm counts, and that is no longer s.": (
                _UncountedSigmoid
            ),
            "The log-determinant sums logarithms of scales.": _NoLogarithm,
            "Every position is a dimension.": _Averaged,
            "Undo the last operation first.": _ScaledFirst,
            "The way back shrinks what the way there stretched.": _SameSign,
        },
        tolerance=1e-8,
    ),
}
