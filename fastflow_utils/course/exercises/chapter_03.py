"""Exercises of notebook 03, coupling flows."""

import math
from collections.abc import Callable
from typing import Any

import pandas as pd
import torch
import torch.nn.functional as F
from scipy import stats
from torch import Tensor, nn
from torch.distributions import Normal

from fastflow_utils.course.exercises.checking import Exercise, difference

__all__ = ["EXERCISES"]

NORMAL = Normal(0.0, 1.0)


# 3.1: the density of exp(mu + sigma z)


def _positive() -> list[tuple[Any, ...]]:
    generator = torch.Generator().manual_seed(32)
    x = [0.1 + 3 * torch.rand(7, generator=generator) for _ in range(2)]
    return [(x[0], 0.3, 1.7), (x[1], -1.2, 0.4)]


def _log_normal(x: Tensor, mu: float, sigma: float) -> Tensor:
    log_p: Tensor = NORMAL.log_prob((torch.log(x) - mu) / sigma)
    return log_p - torch.log(x) - math.log(sigma)


# 3.3: one matrix at every position


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


# 3.4: Glow's coupling


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


class _ForwardUncounted(_Glow):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        z, _ = super().forward(x)
        return z, self.subnet(x.chunk(2, dim=1)[0]).chunk(2, dim=1)[0].sum((1, 2, 3))


class _Negative(_Glow):
    def log_det(self, s: Tensor) -> Tensor:
        return -super().log_det(s)


class _Averaged(_Glow):
    def log_det(self, s: Tensor) -> Tensor:
        return F.logsigmoid(s).sum(1).mean((1, 2))


class _ScaledFirst(_Glow):
    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        z_a, z_b = z.chunk(2, dim=1)
        s, t = self.subnet(z_a).chunk(2, dim=1)
        return torch.cat([z_a, (z_b - t) / torch.sigmoid(s)], dim=1), -self.log_det(s)


class _ShiftedLast(_ScaledFirst):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x_a, x_b = x.chunk(2, dim=1)
        s, t = self.subnet(x_a).chunk(2, dim=1)
        return torch.cat([x_a, torch.sigmoid(s) * x_b + t], dim=1), self.log_det(s)


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
        if torch.as_tensor(result[1]).shape != (len(x),):
            raise TypeError(
                f"log_det of {name} should have the shape (B,): "
                "sum over channels and positions, not over images"
            )
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


# 3.5: bits per dimension, of the data in other units


def _latents() -> list[tuple[Any, ...]]:
    generator = torch.Generator().manual_seed(33)
    shapes = [((3, 4, 2, 5), 255), ((2, 3, 1, 1), 0.1)]
    return [
        (
            torch.randn(shape, generator=generator),
            9 * torch.randn(shape[0], generator=generator),
            factor,
        )
        for shape, factor in shapes
    ]


def _nats(
    z: Tensor,
    log_det: Tensor,
    factor: float,
    per: Callable[[Tensor], float] = torch.numel,
) -> Tensor:
    log_p: Tensor = NORMAL.log_prob(z).sum((1, 2, 3)) + log_det
    nll: Tensor = -log_p / per(z[0])
    return nll + math.log(factor)


def _bits(
    z: Tensor,
    log_det: Tensor,
    factor: float,
    per: Callable[[Tensor], float] = torch.numel,
) -> Tensor:
    return _nats(z, log_det, factor, per) / math.log(2)


# 3.6: a piece of work, additive against affine

COUPLINGS = ("affine", "additive", "sigmoid", "no permutation")
ENTROPY = 0.504
"""Of the two moons, in nats per dimension: from 10^6 points and the known density."""


class _Additive(nn.Module):
    def __init__(self, subnet: nn.Module) -> None:
        super().__init__()
        self.subnet = subnet

    def shift(self, x_a: Tensor) -> Tensor:
        _, t = self.subnet(x_a).chunk(2, dim=1)
        return torch.as_tensor(t)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x_a, x_b = x.chunk(2, dim=1)
        return torch.cat([x_a, x_b + self.shift(x_a)], dim=1), x.new_zeros(len(x))

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        z_a, z_b = z.chunk(2, dim=1)
        return torch.cat([z_a, z_b - self.shift(z_a)], dim=1), z.new_zeros(len(z))


class _AddsAgain(_Additive):
    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        return self.forward(z)


class _ShiftCounted(_Additive):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        z, _ = super().forward(x)
        return z, self.shift(x.chunk(2, dim=1)[0]).sum((1, 2, 3))


class _Doubled(_Additive):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        z, log_det = super().forward(x)
        return 2 * z, log_det + z[0].numel() * math.log(2)

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        x, log_det = super().inverse(z / 2)
        return x, log_det - z[0].numel() * math.log(2)


class _Nothing(_Additive):
    def shift(self, x_a: Tensor) -> Tensor:
        return torch.zeros_like(x_a)


def _table(seeds: int = 4, repeated: bool = False, less: float = 0.0) -> pd.DataFrame:
    """Values as training gives them."""
    nll = {
        "affine": (0.68, 0.85, 0.63, 0.66),
        "additive": (0.77, 0.95, 0.72, 0.74),
        "sigmoid": (0.71, 0.86, 0.64, 0.69),
        "no permutation": (0.78, 0.77, 0.775, 0.772),
    }
    rows = [
        {"coupling": name, "seed": seed, "nll": values[0 if repeated else seed] - less}
        for name, values in nll.items()
        for seed in range(seeds)
    ]
    return pd.DataFrame(rows)


def _paired(results: pd.DataFrame) -> tuple[float, float]:
    wide = results.pivot(index="seed", columns="coupling", values="nll")
    gap = wide["additive"] - wide["affine"]
    half = float(stats.t.ppf(0.975, len(gap) - 1)) * gap.std() / math.sqrt(len(gap))
    return float(gap.mean() - half), float(gap.mean() + half)


def _reversed(results: pd.DataFrame) -> tuple[float, float]:
    low, high = _paired(results)
    return -high, -low


def _unpaired(results: pd.DataFrame) -> tuple[float, float]:
    groups = results.groupby("coupling").nll
    gap = groups.mean()["additive"] - groups.mean()["affine"]
    variance = groups.var()["additive"] + groups.var()["affine"]
    count = len(results) // len(COUPLINGS)
    half = float(stats.t.ppf(0.975, count - 1)) * math.sqrt(variance / count)
    return float(gap - half), float(gap + half)


def _work(
    layer: type[nn.Module] = _Additive,
    results: pd.DataFrame | None = None,
    interval: Callable[[pd.DataFrame], tuple[float, float]] = _paired,
) -> dict[str, Any]:
    results = _table() if results is None else results
    return {"layer": layer, "results": results, "interval": interval(results)}


def _observed(answer: Any) -> dict[str, Any]:
    """What the additive layer does with a subnet of random weights, and what was measured."""
    if not isinstance(answer, dict) or set(answer) != {"layer", "results", "interval"}:
        raise TypeError("the answer should be a dict of layer, results and interval")
    generator = torch.Generator().manual_seed(36)
    with torch.random.fork_rng(devices=[]):
        subnet = nn.Conv2d(2, 4, 3, padding="same", dtype=torch.float64)
    for parameter in subnet.parameters():
        nn.init.normal_(parameter, std=0.4, generator=generator)
    layer = answer["layer"](subnet)
    x = torch.randn(2, 4, 2, 3, generator=generator, dtype=torch.float64)
    (z, log_det), (back, log_det_back) = layer.forward(x), layer.inverse(layer.forward(x)[0])
    jacobian = torch.autograd.functional.jacobian(lambda x: layer.forward(x)[0], x[:1])
    truth = torch.linalg.slogdet(jacobian.reshape(x[0].numel(), -1)).logabsdet
    return answer | {
        "x": x,
        "t": subnet(x[:, :2]).chunk(2, dim=1)[1],
        "z": z,
        "back": back,
        "log_det": torch.as_tensor(log_det),
        "log_det_back": torch.as_tensor(log_det_back),
        "truth": truth,
    }


def _close(one: Tensor, other: Tensor | float) -> bool:
    return bool((one - other).abs().max() < 1e-8)


def _complete(seen: dict[str, Any]) -> bool:
    groups = seen["results"].groupby("coupling").seed
    seeds = {name: sorted(group) for name, group in groups if name in COUPLINGS}
    first = next(iter(seeds.values()), [])
    return (
        set(seeds) == set(COUPLINGS)
        and len(first) >= 3
        and len(set(first)) == len(first)
        and all(others == first for others in seeds.values())
    )


def _shifts(seen: dict[str, Any]) -> bool:
    shift = seen["z"] - seen["x"]
    return _close(shift[:, :2], 0) and _close(shift[:, 2:], seen["t"])


def _middle(seen: dict[str, Any]) -> bool:
    paired = _paired(seen["results"])
    return difference(sum(seen["interval"]) / 2, sum(paired) / 2, 1e-3) is None


WORK: dict[str, Callable[[dict[str, Any]], bool]] = {
    "x comes back from z.": lambda seen: _close(seen["back"], seen["x"]),
    "Shifting changes no volume: log|det| of the layer's true Jacobian is 0.": lambda seen: _close(
        seen["truth"], 0
    ),
    "log_det is that of the true Jacobian, (B,), in both directions.": lambda seen: (
        seen["log_det"].shape == seen["log_det_back"].shape == (2,)
        and _close(seen["log_det"], seen["truth"])
        and _close(seen["log_det_back"], -seen["truth"])
    ),
    "x_a stays, x_b is shifted by t, the second half of the subnet's output.": _shifts,
    "results is a DataFrame with the columns coupling, seed and nll.": lambda seen: (
        isinstance(seen["results"], pd.DataFrame)
        and {"coupling", "seed", "nll"} <= set(seen["results"].columns)
    ),
    "Each of the four couplings has one row for each of the same seeds, three or more.": _complete,
    f"No nll is below the entropy of the moons, {ENTROPY} nats per dimension.": lambda seen: bool(
        seen["results"].nll.min() > ENTROPY - 0.01
    ),  # of 20 000 points: +- 0.005
    "Every nll is below 1.1 (divide by 2): training has done something.": lambda seen: bool(
        seen["results"].nll.max() < 1.1
    ),
    "Different seeds give different values.": lambda seen: bool(
        seen["results"].groupby("coupling").nll.nunique().min() > 1
    ),
    "The middle of interval is the mean of additive less affine, not the reverse.": _middle,
    "interval is (low, high), paired by seed; t and std with n - 1, and sqrt(n).": lambda seen: (
        difference(list(seen["interval"]), list(_paired(seen["results"])), 1e-3) is None
    ),
}


EXERCISES = {
    "3.1": Exercise(
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
            "sigma is there; dz/dx also holds 1/x.": lambda x, mu, sigma: (
                NORMAL.log_prob((torch.log(x) - mu) / sigma) - math.log(sigma)
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
    "3.2": Exercise(
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
    "3.3": Exercise(
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
    "3.4": Exercise(
        reference=_Glow,
        observe=_kept,
        hint="Go through section 3 again: what is undone last, what stands on the diagonal now?",
        mistakes={
            "What multiplies x_b here? Its logarithm counts, and that is no longer s.": (
                _UncountedSigmoid
            ),
            "The diagonal now holds sigmoid(s), not exp(s).": _ForwardUncounted,
            "The log-determinant sums logarithms of scales.": _NoLogarithm,
            "Every position is a dimension: sum, do not average.": _Averaged,
            "A sigmoid is below 1, so forward shrinks. Which sign has its log_det?": _Negative,
            "Shift first, then scale.": _ShiftedLast,
            "Undo the last operation first.": _ScaledFirst,
            "The way back shrinks what the way there stretched.": _SameSign,
        },
        tolerance=1e-8,
    ),
    "3.5": Exercise(
        reference=_bits,
        inputs=_latents,
        hint="Start with the nll of section 5. Which slope has v = factor * x? Units come last.",
        mistakes={
            "These are nats.": _nats,
            "A bit is less than a nat: does it take more of them?": lambda z, log_det, factor: (
                _nats(z, log_det, factor) * math.log(2)
            ),
            "A flow that stretches makes data denser: mind the sign of log_det.": (
                lambda z, log_det, factor: _bits(z, -log_det, factor)
            ),
            "This is the density of x. In v it is spread over other lengths.": (
                lambda z, log_det, factor: _bits(z, log_det, 1)
            ),
            "Does the density get higher or lower where lengths are stretched?": (
                lambda z, log_det, factor: _bits(z, log_det, 1 / factor)
            ),
            "Every dimension is stretched, not only one of them.": lambda z, log_det, factor: (
                _bits(z, log_det, factor ** (1 / z[0].numel()))
            ),
            "How many dimensions has an image? Positions count as well as channels.": (
                lambda z, log_det, factor: _bits(z, log_det, factor, len)
            ),
            "A constant is missing: the Gaussian's own.": lambda z, log_det, factor: (
                _bits(z, log_det, factor) - math.log(2 * math.pi) / 2 / math.log(2)
            ),
        },
    ),
    "3.6": Exercise(
        reference=_work(),
        observe=_observed,
        properties=WORK,
        hint="Go through the steps of the text one by one.",
        mistakes=dict(
            zip(
                WORK,
                [
                    _work(_AddsAgain),
                    _work(_Doubled),
                    _work(_ShiftCounted),
                    _work(_Nothing),
                    _work() | {"results": [0.68, 0.77]},
                    _work(results=_table(seeds=2)),
                    _work(results=_table(less=0.2)),
                    _work(results=_table(less=-0.3)),
                    _work(results=_table(repeated=True)),
                    _work(interval=_reversed),
                    _work(interval=_unpaired),
                ],
                strict=True,
            )
        ),
    ),
}
