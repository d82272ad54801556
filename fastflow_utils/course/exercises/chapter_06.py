"""Exercises of notebook 06, what matters."""

import math
from typing import Any

import torch
from torch import Tensor

from fastflow_utils.course.exercises.checking import Exercise

__all__ = ["EXERCISES"]


# 6.2: (channels, kernel_size, hidden_ratio), even and odd, wide and narrow


def _subnets() -> list[tuple[Any, ...]]:
    return [(24, 3, 1.0), (113, 1, 1.0), (41, 3, 0.5), (112, 5, 0.16)]


def _parameters(channels: int, kernel_size: int, hidden_ratio: float, **kind: Any) -> int:
    b = channels // 2
    a = channels if kind.get("whole") else channels - b
    outputs = b if kind.get("only_s") else 2 * b
    hidden = int(hidden_ratio * a)
    area = kernel_size if kind.get("line") else kernel_size**2
    biases = 0 if kind.get("no_bias") else hidden + outputs
    return area * (a * hidden + hidden * outputs) + biases


# 6.3: the kernel sizes of the steps' subnets


def _steps() -> list[tuple[Any, ...]]:
    return [([3, 1, 3, 1],), ([3] * 8,), ([1] * 4,), ([5, 3, 1],)]


# 6.4: metrics of one category by seed, of which both variants follow the same ups and downs


def _seeds() -> list[tuple[Any, ...]]:
    generator = torch.Generator().manual_seed(64)
    cases: list[tuple[Any, ...]] = []
    for count in (3, 5):
        common = 0.9 + 0.05 * torch.randn(count, generator=generator, dtype=torch.float64)
        own = 0.01 * torch.randn(2, count, generator=generator, dtype=torch.float64)
        cases.append(((common + 0.02 + own[0]).tolist(), (common + own[1]).tolist()))
    return cases


def _paired(variant: Any, start: Any) -> tuple[float, float]:
    difference = _vector(variant) - _vector(start)
    return difference.mean().item(), difference.std().item() / math.sqrt(len(difference))


def _unpaired(variant: Any, start: Any) -> tuple[float, float]:
    one, other = _vector(variant), _vector(start)
    error = ((one.var() + other.var()) / len(one)).sqrt().item()
    return (one.mean() - other.mean()).item(), error


def _without_root(variant: Any, start: Any) -> tuple[float, float]:
    difference = _vector(variant) - _vector(start)
    return difference.mean().item(), difference.std().item()


def _by_n(variant: Any, start: Any) -> tuple[float, float]:
    difference = _vector(variant) - _vector(start)
    spread = difference.std(correction=0).item()
    return difference.mean().item(), spread / math.sqrt(len(difference))


def _vector(values: Any) -> Tensor:
    return torch.as_tensor(values, dtype=torch.float64)


# 6.5: a row for each variant, a column for each category; what the others choose is not the best


def _tables() -> list[tuple[Any, ...]]:
    made = torch.tensor(
        [
            [0.97, 0.84, 0.90],
            [0.91, 0.89, 0.93],
            [0.99, 0.70, 0.92],
            [0.88, 0.86, 0.96],
        ]
    )
    generator = torch.Generator().manual_seed(65)
    drawn = 0.7 + 0.3 * torch.rand(6, 5, generator=generator)
    return [(made.clone(),), (drawn,)]


def _others(table: Tensor, category: int) -> Tensor:
    return torch.cat([table[:, :category], table[:, category + 1 :]], dim=1).mean(1)


def _left_out(table: Tensor) -> Tensor:
    chosen = [int(_others(table, category).argmax()) for category in range(table.shape[1])]
    return table[chosen, torch.arange(table.shape[1])]


def _by_all(table: Tensor) -> Tensor:
    return table[table.mean(1).argmax()]


def _of_the_others(table: Tensor) -> Tensor:
    return torch.stack([_others(table, c).max() for c in range(table.shape[1])])


EXERCISES = {
    "6.1": Exercise(
        reference="c",
        hint="Count what differs between the two sides, besides the choice in question.",
        mistakes={
            "Two programs differ in far more than the one choice, and one run has no spread.": "a",
            "Who chose the epoch, and on which images?": "b",
            "Two things changed together: which of them is the difference due to?": "d",
        },
    ),
    "6.2": Exercise(
        reference=_parameters,
        inputs=_subnets,
        tolerance=0,
        hint="Write down, for each of the two convolutions, how many channels go in and out.",
        mistakes={
            "A convolution has a bias for each output channel.": lambda c, k, r: _parameters(
                c, k, r, no_bias=True
            ),
            "The subnet answers with s and with t.": lambda c, k, r: _parameters(
                c, k, r, only_s=True
            ),
            "A kernel has a height and a width.": lambda c, k, r: _parameters(c, k, r, line=True),
            "Which of the channels does the subnet read?": lambda c, k, r: _parameters(
                c, k, r, whole=True
            ),
        },
    ),
    "6.3": Exercise(
        reference=lambda kernel_sizes: 1 + sum(2 * (size - 1) for size in kernel_sizes),
        inputs=_steps,
        tolerance=0,
        hint="By how much does one convolution widen what a position depends on?",
        mistakes={
            "A subnet has two convolutions.": lambda sizes: 1 + sum(size - 1 for size in sizes),
            "With 1x1 kernels alone, how wide must it be?": lambda sizes: sum(
                2 * size - 1 for size in sizes
            ),
            "Each step starts where the one before it stopped: widths add up.": lambda sizes: (
                2 * max(sizes) - 1
            ),
        },
    ),
    "6.4": Exercise(
        reference=_paired,
        inputs=_seeds,
        tolerance=1e-6,
        hint="Subtract seed by seed first; then mean and standard error of what is left.",
        mistakes={
            "What both variants share should cancel: subtract before anything else.": _unpaired,
            "That is the spread of one difference; the mean of n of them varies less.": (
                _without_root
            ),
            "The mean was estimated from the same numbers: divide by n - 1.": _by_n,
        },
    ),
    "6.5": Exercise(
        reference=_left_out,
        inputs=_tables,
        tolerance=1e-6,
        hint="Two steps for each column: choose a row without it, then read that row in it.",
        mistakes={
            "That chooses by the very column it judges: the oracle.": lambda table: (
                table.max(0).values
            ),
            "The mean that chooses must leave the judged column out.": _by_all,
            "Choose on the others, but report what it gives on the one left out.": _of_the_others,
        },
    ),
}
