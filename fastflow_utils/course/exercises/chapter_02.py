"""Exercises of notebook 02, what a frozen network sees."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from einops import einsum, rearrange
from torch import Tensor

from fastflow_utils.course.exercises.checking import Exercise

__all__ = ["EXERCISES"]

Layers = list[tuple[int, int]]


def _random(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _sizes() -> list[tuple[Any, ...]]:
    return [(256, 256, [24, 40, 112], [4, 8, 16]), (96, 160, [5, 7], [2, 32])]


def _numbers(height: int, width: int, channels: list[int], strides: list[float]) -> float:
    return sum(c * height * width / s**2 for c, s in zip(channels, strides, strict=True))


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


def _clouds() -> list[tuple[Any, ...]]:
    clouds = []
    for seed, channels in ((27, 2), (28, 3)):
        stretch = _random(seed, channels, channels)
        covariance = stretch @ stretch.T + 0.3 * torch.eye(channels)
        mu = 1 + torch.arange(channels).float()
        clouds.append((mu + _random(seed + 10, 6, channels), mu, covariance))
    return clouds


_cholesky = torch.linalg.cholesky

EXERCISES = {
    "2.1": Exercise(
        reference=_numbers,
        inputs=_sizes,
        hint="A level has C numbers for each position, and H / s rows of W / s positions.",
        mistakes={
            "A stride holds for rows and for columns.": lambda height, width, channels, strides: (
                _numbers(height * width, 1, channels, [s**0.5 for s in strides])
            ),
            "What does each position hold?": lambda height, width, channels, strides: _numbers(
                height, width, [1] * len(channels), strides
            ),
            "An image need not be square.": lambda height, width, channels, strides: _numbers(
                height, height, channels, strides
            ),
        },
    ),
    "2.2": Exercise(
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
    "2.3": Exercise(
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
    "2.4": Exercise(
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
        },
    ),
    "2.5": Exercise(
        reference=lambda h, mu, covariance: _nll(h, mu, _cholesky(covariance)),
        inputs=_clouds,
        hint="Three terms: half the squared length of z for each position, the sum of log L_cc, "
        "and C/2 log(2 pi).",
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
            "One number for each position, not one for all.": lambda h, mu, covariance: _nll(
                h, mu, _cholesky(covariance)
            ).mean(),
        },
    ),
}
