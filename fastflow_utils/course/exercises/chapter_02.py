"""Exercises of notebook 02, what a frozen network sees."""

import math
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from einops import einsum, rearrange
from torch import Tensor

from fastflow_utils.course.exercises.checking import Exercise

__all__ = ["EXERCISES"]

Layers = list[tuple[int, int]]
_cholesky = torch.linalg.cholesky


def _random(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _receptive_field(layers: Layers) -> int:
    field, step = 1, 1
    for kernel, stride in layers:
        field += (kernel - 1) * step
        step *= stride
    return field


def _with_own_stride(layers: Layers) -> int:
    field, step = 1, 1
    for kernel, stride in layers:
        step *= stride
        field += (kernel - 1) * step
    return field


def _stacks() -> list[tuple[Any, ...]]:
    stacks = [
        [(3, 2), (3, 1)],
        [(5, 1), (3, 1)],
        [(7, 2), (3, 2), (1, 1), (3, 2), (5, 1)],
        [(3, 2)],
    ]
    return [(layers,) for layers in stacks]


def _tokens() -> list[tuple[Any, ...]]:
    return [(_random(21, 2, 1 + 12, 5), 3), (_random(22, 1, 1 + 10, 4), 5)]


def _cosines(h: Tensor, bank: Tensor) -> Tensor:
    cosines: Tensor = einsum(
        F.normalize(h, dim=0), F.normalize(bank, dim=1), "c h w, m c -> m h w"
    )
    return cosines


def _banks() -> list[tuple[Any, ...]]:
    scale = 0.5 + torch.arange(6)  # lengths and channels that differ, so that each step matters
    h = _random(23, 4, 3, 5) * (1 + torch.arange(5)) + 0.5
    return [
        (h, _random(24, 6, 4) * scale[:, None] + 0.5),
        (_random(25, 3, 2, 2), _random(26, 1, 3)),
    ]


def _nll(h: Tensor, mu: Tensor, factor: Tensor, times: int = 1) -> Tensor:
    """Count the log-determinant so many times; once is right."""
    z = torch.linalg.solve_triangular(factor, (h - mu).T, upper=False)
    log_det = -times * factor.diagonal().log().sum()
    nll: Tensor = 0.5 * z.square().sum(0) - log_det + 0.5 * len(mu) * math.log(2 * math.pi)
    return nll


def _whitened(h: Tensor, mu: Tensor, covariance: Tensor) -> Tensor:
    """Return the squared length of each whitened vector."""
    z = torch.linalg.solve_triangular(_cholesky(covariance), (h - mu).T, upper=False)
    squared: Tensor = z.square().sum(0)
    return squared


def _with_length(h: Tensor, mu: Tensor, covariance: Tensor, squared: Tensor) -> Tensor:
    right = _whitened(h, mu, covariance)
    return _nll(h, mu, _cholesky(covariance)) + 0.5 * (squared - right)


def _multiplied(h: Tensor, mu: Tensor, covariance: Tensor) -> Tensor:
    z = _cholesky(covariance) @ (h - mu).T
    return _with_length(h, mu, covariance, z.square().sum(0))


def _diagonal(h: Tensor, mu: Tensor, covariance: Tensor) -> Tensor:
    z = (h - mu) / _cholesky(covariance).diagonal()
    return _with_length(h, mu, covariance, z.square().sum(1))


def _upper(h: Tensor, mu: Tensor, covariance: Tensor) -> Tensor:
    z = torch.linalg.solve_triangular(_cholesky(covariance).T, (h - mu).T, upper=True)
    return _with_length(h, mu, covariance, z.square().sum(0))


def _clouds() -> list[tuple[Any, ...]]:
    clouds = []
    for seed, channels in ((27, 2), (28, 3)):
        stretch = _random(seed, channels, channels)
        covariance = stretch @ stretch.T + 0.3 * torch.eye(channels)
        mu = 1 + torch.arange(channels).float()
        clouds.append((mu + _random(seed + 10, 6, channels), mu, covariance))
    return clouds


GROUPS = {"large": 150, "small": 48, "rare": 2}
KEPT = 6


def _shuffled(bank: Tensor) -> Tensor:
    """So that rows at equal distances are no good choice."""
    return bank[torch.randperm(len(bank), generator=torch.Generator().manual_seed(33))]


def _bank_of_groups() -> Tensor:
    """Three directions, of which the last is rare, each with a little noise."""
    centres = torch.linalg.qr(_random(31, 8, 8)).Q[: len(GROUPS)]
    vectors = [centre.repeat(n, 1) for centre, n in zip(centres, GROUPS.values(), strict=True)]
    return _shuffled(torch.cat(vectors) + 0.03 * _random(32, sum(GROUPS.values()), 8))


def _bank_of_lengths() -> Tensor:
    """All directions of a half plane; a few of them are very long."""
    angle = torch.linspace(0, math.pi, 120)
    length = torch.where(torch.arange(120) < 12, 40.0, 1.0)
    return _shuffled(length[:, None] * torch.stack([angle.cos(), angle.sin()], 1))


def _radius(bank: Tensor, rows: Tensor) -> float:
    """How far, by 1 - cos, the farthest vector is from the nearest one kept."""
    unit = F.normalize(bank, dim=1)
    return float((1 - unit @ unit[rows].T).amin(1).amax())


def _chosen(answer: Any) -> list[tuple[Tensor, Tensor]] | None:
    """Return each bank with the rows that an answer keeps of it."""
    if not callable(answer):
        raise TypeError(f"expected a function, got {type(answer).__name__}")
    seen = []
    for bank in (_bank_of_groups(), _bank_of_lengths()):
        rows = answer(bank.clone(), KEPT)
        if rows is None or rows is ...:
            return None
        seen.append((bank, torch.as_tensor(rows)))
    return seen


def _are_rows(seen: list[tuple[Tensor, Tensor]]) -> bool:
    return all(
        rows.shape == (KEPT,)
        and not rows.is_floating_point()
        and rows.dtype != torch.bool
        and 0 <= int(rows.min()) <= int(rows.max()) < len(bank)
        for bank, rows in seen
    )


def _are_different(seen: list[tuple[Tensor, Tensor]]) -> bool:
    return all(len(rows.unique()) == KEPT for _, rows in seen)


def _covers_groups(seen: list[tuple[Tensor, Tensor]]) -> bool:
    return _radius(*seen[0]) < 0.5


def _covers_directions(seen: list[tuple[Tensor, Tensor]]) -> bool:
    return _radius(*seen[1]) <= 0.15  # the greedy way: at most 0.124, from any start


def _forgetful(bank: Tensor, count: int) -> list[int]:
    """Look at the distance to the last one kept only."""
    unit = F.normalize(bank, dim=1)
    kept = [0]
    for _ in range(count - 1):
        kept.append(int((1 - unit @ unit[kept[-1]]).argmax()))
    return kept


def _greedily(bank: Tensor, count: int, distances: Callable[[Tensor], Tensor]) -> list[int]:
    kept = [0]
    far = distances(bank[0])
    for _ in range(count - 1):
        kept.append(int(far.argmax()))
        far = torch.minimum(far, distances(bank[kept[-1]]))
    return kept


def _coreset(bank: Tensor, count: int) -> list[int]:
    unit = F.normalize(bank, dim=1)
    return _greedily(unit, count, lambda vector: 1 - unit @ vector)


def _euclidean(bank: Tensor, count: int) -> list[int]:
    return _greedily(bank, count, lambda vector: (bank - vector).norm(dim=1))


ROW_NUMBERS = "As many as asked for, and each a whole number: that of a row of the bank."
NOT_TWICE = (
    "No row is kept twice. (Divide by the lengths first: then 1 - cos is never negative. "
    "And each vector needs its distance to the nearest of all that are kept, a minimum.)"
)

MEMORY = {
    "metal_nut": {"gaussian": 0.900, "bank": 0.904, "low": -0.09, "high": 0.11},
    "screw": {"gaussian": 0.694, "bank": 0.875, "low": 0.03, "high": 0.34},
}
Table = Mapping[str, Mapping[str, float]]
NOT_BACKWARDS = "No AUROC is far below 0.5. (Are these the labels of this category?)"
IN_ORDER = "low is not above high, and both lie from -1 to 1."
AS_MEASURED = (
    "With the sample set and the default backbone, the AUROCs are those that we measured, "
    "give or take 0.02. (The last level, all its training positions, the mean of the top 1 %, "
    "and for each category its own features and labels? On metal_nut the Gaussian has the "
    "AUROC of section 10.)"
)
INTERVAL_AS_MEASURED = (
    "With the sample set and the default backbone, the ends of the interval are those that we "
    "measured, give or take 0.05. (95 %, of bank - Gaussian, with resamples(truth, name)?)"
)


def _near(result: Table, names: Sequence[str], tolerance: float) -> bool:
    """Whether these numbers are the measured ones; true where others are to be expected."""
    if any(os.environ.get(f"FASTFLOW_{name}") for name in ("DATA", "BACKBONE", "WEIGHTS")):
        return True
    return set(MEMORY) <= set(result) and all(
        abs(float(result[category][name]) - right[name]) <= tolerance
        for category, right in MEMORY.items()
        for name in names
    )


def _has_order(result: Table) -> bool:
    return all(-1 <= float(row["low"]) <= float(row["high"]) <= 1 for row in result.values())


def _are_metrics(result: Table) -> bool:
    return all(0 <= float(row[name]) <= 1 for row in result.values() for name in _AREAS)


def _holds_difference(result: Table) -> bool:
    return all(
        row["low"] <= row["bank"] - row["gaussian"] <= row["high"] for row in result.values()
    )


_AREAS = ("gaussian", "bank")

EXERCISES = {
    "2.1": Exercise(
        reference=_receptive_field,
        inputs=_stacks,
        hint="Walk from the first layer to the last with two numbers in hand: the field so far, "
        "and how many pixels apart neighbours are in what the next layer reads.",
        mistakes={
            "After a stride of 2, neighbours are no longer one pixel apart.": lambda layers: (
                1 + sum(kernel - 1 for kernel, _ in layers)
            ),
            "A layer's own stride spreads its outputs, not what it reads.": _with_own_stride,
            "Without any layer a position sees one pixel, not none.": lambda layers: (
                _receptive_field(layers) - 1
            ),
            "The first pair is the layer next to the image.": lambda layers: _receptive_field(
                layers[::-1]
            ),
        },
    ),
    "2.2": Exercise(
        reference=lambda h, bank: 1 - _cosines(h, bank).amax(0),
        inputs=_banks,
        hint="Divide each vector by its own length, take every product of a position with one of "
        "the bank, keep the best, and take it from 1.",
        mistakes={
            "Divide by both lengths: a cosine is never above 1.": lambda h, bank: (
                1 - einsum(h, bank, "c h w, m c -> m h w").amax(0)
            ),
            "One vector of the bank that resembles a position is enough.": lambda h, bank: (
                1 - _cosines(h, bank).mean(0)
            ),
            "That finds the least similar vector of the bank.": lambda h, bank: (
                1 - _cosines(h, bank).amin(0)
            ),
            "That is how normal a position is. How new?": lambda h, bank: _cosines(h, bank).amax(
                0
            ),
            "The channels are dim 0 of h; F.normalize takes dim 1 if it is not told.": (
                lambda h, bank: (
                    1 - einsum(F.normalize(h), F.normalize(bank), "c h w, m c -> m h w").amax(0)
                )
            ),
            "A reshape keeps the numbers' order: h.flatten(1).T has one position in a row.": (
                lambda h, bank: (
                    1 - _cosines(h.reshape(-1, len(h)).T[:, None], bank).amax(0).view(h.shape[1:])
                )
            ),
        },
    ),
    "2.3": Exercise(
        reference=lambda h, mu, covariance: _nll(h, mu, _cholesky(covariance)),
        inputs=_clouds,
        hint="Three terms: half the squared length of z for each position, the sum of log L_cc, "
        "and C/2 log(2 pi). solve_triangular takes the vectors as columns, (h - mu).T.",
        mistakes={
            "Does stretching h make its density higher or lower? Look at the sign of log L_cc.": (
                lambda h, mu, covariance: _nll(h, mu, _cholesky(covariance), times=-1)
            ),
            "That is the density of z. Whitening also stretches: which term counts that?": (
                lambda h, mu, covariance: _nll(h, mu, _cholesky(covariance), times=0)
            ),
            "L has half the log-determinant of the covariance L L^T.": (
                lambda h, mu, covariance: _nll(h, mu, _cholesky(covariance), times=2)
            ),
            "Whitening takes the correlations out: channels together, not each alone.": (
                lambda h, mu, covariance: _nll(h, mu, covariance.diagonal().sqrt().diag())
            ),
            "A density integrates to 1: a constant is missing.": lambda h, mu, covariance: (
                _nll(h, mu, _cholesky(covariance)) - 0.5 * len(mu) * math.log(2 * math.pi)
            ),
            "That is log p. Which sign has the negative log-likelihood?": (
                lambda h, mu, covariance: -_nll(h, mu, _cholesky(covariance))
            ),
            "Half the squared length of z, not all of it.": lambda h, mu, covariance: (
                _nll(h, mu, _cholesky(covariance)) + 0.5 * _whitened(h, mu, covariance)
            ),
            "z = L^-1 (h - mu): solve L z = h - mu, do not multiply with L.": _multiplied,
            "L is the lower factor: L z = h - mu, not L^T z.": _upper,
            "L is the lower factor: with upper=True only its diagonal is read.": _diagonal,
            "In nats for each vector, not for each dimension: no division by C.": (
                lambda h, mu, covariance: _nll(h, mu, _cholesky(covariance)) / len(mu)
            ),
            "One number for each position, not one for all.": lambda h, mu, covariance: _nll(
                h, mu, _cholesky(covariance)
            ).mean(),
        },
    ),
    "2.4": Exercise(
        reference=lambda tokens, height: rearrange(
            tokens[:, 1:], "b (h w) c -> b c h w", h=height
        ),
        inputs=_tokens,
        hint="Drop the one token without a patch, then undo 'b c h w -> b (h w) c'.",
        mistakes={
            "Which of the tokens has no patch?": lambda tokens, height: rearrange(
                tokens[:, :-1], "b (h w) c -> b c h w", h=height
            ),
            "The shape is right; is it row by row?": lambda tokens, height: rearrange(
                tokens[:, 1:], "b (w h) c -> b c h w", h=height
            ),
            "A reshape cannot bring the channels forward: it keeps the numbers' order.": (
                lambda tokens, height: tokens[:, 1:].reshape(
                    len(tokens), tokens.shape[2], height, -1
                )
            ),
        },
    ),
    "2.5": Exercise(
        reference=_coreset,
        observe=_chosen,
        hint="Keep, for each vector, its distance to the nearest one kept: a tensor (M,). Add "
        "where it is largest, and take the minimum with the distances to what was added.",
        properties={
            ROW_NUMBERS: _are_rows,
            NOT_TWICE: _are_different,
            "Every group of vectors is represented, also one of only two.": _covers_groups,
            "No direction is far from all that are kept, however long the vectors are.": (
                _covers_directions
            ),
        },
        mistakes={
            ROW_NUMBERS: lambda bank, count: bank[_coreset(bank, count)],
            NOT_TWICE: _forgetful,
            "Every group of vectors is represented, also one of only two.": (
                lambda bank, count: torch.arange(count) * len(bank) // (2 * count)
            ),
            "No direction is far from all that are kept, however long the vectors are.": (
                _euclidean
            ),
        },
    ),
    "2.6": Exercise(
        reference=MEMORY,
        hint="Two scores for each test image, one AUROC of each; the interval is of a difference.",
        properties={
            "There are two categories.": lambda result: len(result) >= 2,
            "The AUROCs are numbers from 0 to 1.": _are_metrics,
            NOT_BACKWARDS: lambda result: all(
                float(row[name]) >= 0.4 for row in result.values() for name in _AREAS
            ),
            "The memory is another detector than the Gaussian.": lambda result: all(
                row["bank"] != row["gaussian"] for row in result.values()
            ),
            IN_ORDER: _has_order,
            "The interval is that of bank - Gaussian, so this difference lies in it.": (
                _holds_difference
            ),
            AS_MEASURED: lambda result: _near(result, _AREAS, 0.02),
            INTERVAL_AS_MEASURED: lambda result: _near(result, ("low", "high"), 0.05),
        },
        mistakes={
            "There are two categories.": {"screw": MEMORY["screw"]},
            "The AUROCs are numbers from 0 to 1.": MEMORY
            | {"screw": MEMORY["screw"] | {"bank": 87.5}},
            "The interval is that of bank - Gaussian, so this difference lies in it.": MEMORY
            | {"screw": MEMORY["screw"] | {"low": 0.75, "high": 0.97}},
            NOT_BACKWARDS: MEMORY
            | {"screw": {"gaussian": 0.12, "bank": 0.22, "low": -0.1, "high": 0.3}},
            IN_ORDER: MEMORY | {"screw": MEMORY["screw"] | {"low": 0.34, "high": 0.03}},
            AS_MEASURED: dict(zip(MEMORY, reversed(MEMORY.values()), strict=True)),
            INTERVAL_AS_MEASURED: MEMORY | {"screw": MEMORY["screw"] | {"low": 0.1, "high": 0.25}},
        },
    ),
}
