"""Exercises of notebook 03, coupling flows."""

import torch
from torch import Tensor

from fastflow_utils.exercises.checking import Exercise

__all__ = ["EXERCISES"]


def _coupled() -> list[tuple[Tensor, ...]]:
    generator = torch.Generator().manual_seed(31)
    return [tuple(torch.randn(3, 2, 4, 4, generator=generator) for _ in "zst") for _ in range(2)]


EXERCISES = {
    "3.1": Exercise(
        reference=lambda z_b, s, t: (z_b - t) * torch.exp(-s),
        inputs=_coupled,
        hint="Solve z_b = x_b * exp(s) + t for x_b, one operation after the other.",
        mistakes={
            "Undo the last operation first.": lambda z_b, s, t: z_b * torch.exp(-s) - t,
            "Which way does the inverse scale?": lambda z_b, s, t: (z_b - t) * torch.exp(s),
        },
    ),
}
