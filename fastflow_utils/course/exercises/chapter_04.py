"""Exercises of notebook 04, FastFlow."""

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from fastflow_utils.course.exercises.checking import Exercise

__all__ = ["EXERCISES"]


def _random(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# 4.1


def _letter(answer: object) -> object:
    return answer.strip(" .)").lower() if isinstance(answer, str) else answer


# 4.2


def _steps(images: int, budget: int, batch_size: int) -> int:
    return math.ceil(budget / images) * math.ceil(_kept(images) / batch_size)


def _kept(images: int) -> int:
    return images - round(images / 10)


# 4.3


def _latents() -> list[tuple[Tensor, Tensor]]:
    return [
        (1.5 * _random(41, 3, 6, 4, 5) + 0.2, _random(42, 3, 1, 4, 5) - 2),
        (_random(43, 1, 9, 3, 3), 3 * _random(44, 1, 1, 3, 3)),
    ]


def _nll_map(z: Tensor, shares: Tensor) -> Tensor:
    channels = z.shape[1]
    energy = 0.5 * z.square().sum(1, keepdim=True)
    return (energy + 0.5 * channels * math.log(2 * math.pi) - shares) / channels


# 4.4


def _nll() -> list[tuple[Tensor, Tensor]]:
    return [
        (0.4 * _random(45, 6, 1, 20, 20) + 1.5, 0.9 * _random(46, 2, 1, 20, 20) + 2),
        (_random(47, 8, 1, 16, 16).mul(4).round(), _random(48, 3, 1, 16, 16).mul(6).round()),
    ]


def _share(held_out: Tensor, nll: Tensor) -> Tensor:
    """Return which share of the held-out positions reaches each value."""
    ordered = held_out.flatten().sort().values
    return (len(ordered) - torch.searchsorted(ordered, nll)) / len(ordered)


def _rarity(
    share: Callable[[Tensor, Tensor], Tensor] = _share,
    scale: Callable[[Tensor], Tensor] = lambda share: (-share.log10() / 4).clamp(max=1),
) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda nll_held_out, nll: scale(share(nll_held_out, nll))


# 4.5


def _levels() -> list[tuple[list[Tensor], list[float]]]:
    def level(seed: int, batch: int, side: int) -> Tensor:
        return _random(seed, batch, 1, side, side).sigmoid()

    return [
        ([level(49, 2, 20), level(50, 2, 10), level(51, 2, 5)], [1.0, 2.0, 0.5]),
        ([level(52, 3, 10), level(53, 3, 20)], [0.2, 0.1]),
    ]


def _score(
    reduce: Callable[[Tensor], Tensor] = lambda m: m.flatten(1).topk(16).values.mean(1),
    shares: Callable[[Tensor], Tensor] = lambda weights: weights / weights.sum(),
    mode: str = "bilinear",
) -> Callable[[Sequence[Tensor], Sequence[float]], Tensor]:
    def answer(level_maps: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
        resized = [F.interpolate(level, size=(40, 40), mode=mode) for level in level_maps]
        share = shares(torch.tensor(weights))
        mixed = torch.stack([w * m for w, m in zip(share, resized, strict=True)]).sum(0)
        return reduce(mixed)

    return answer


EXERCISES = {
    "4.1": Exercise(
        reference="b",
        observe=_letter,
        hint="Read section 3 again, 'A loss without a floor': answer with a single letter.",
        mistakes={
            "A scale that nobody counts costs no time. What does the loss say of it?": "a",
            "It stays invertible as long as it is not 0; the loss is the trouble.": "c",
            "It would find defects still. Can the loss be compared with anything?": "d",
        },
    ),
    "4.2": Exercise(
        reference=_steps,
        inputs=lambda: [(60, 600, 2), (209, 600, 2), (391, 600, 4), (74, 900, 16)],
        hint="Three roundings: the images held out, the batches of an epoch, the epochs.",
        mistakes={
            "Is every image of the split trained on?": lambda images, budget, batch_size: (
                math.ceil(budget / images) * math.ceil(images / batch_size)
            ),
            "A budget not used up begins another epoch.": lambda images, budget, batch_size: (
                budget // images * math.ceil(_kept(images) / batch_size)
            ),
            "The budget counts held-out images too.": lambda images, budget, batch_size: (
                math.ceil(budget / _kept(images)) * math.ceil(_kept(images) / batch_size)
            ),
            "A last, smaller batch is a step too.": lambda images, budget, batch_size: (
                math.ceil(budget / images) * (_kept(images) // batch_size)
            ),
        },
    ),
    "4.3": Exercise(
        reference=_nll_map,
        inputs=_latents,
        hint="Three terms at each position, then one division by the number of channels.",
        mistakes={
            "Which argument says how much a position is stretched?": lambda z, shares: _nll_map(
                z, torch.zeros_like(shares)
            ),
            "Stretching raises the density of h. Which way goes the nll?": lambda z, shares: (
                _nll_map(z, -shares)
            ),
            "A position has C dimensions, not C H W of them.": lambda z, shares: (
                _nll_map(z, shares) / z[0, 0].numel()
            ),
            "Keep the dimension of the channels, as size 1.": lambda z, shares: _nll_map(
                z, shares
            ).squeeze(1),
            "N(0, 1) has a constant for each dimension.": lambda z, shares: (
                _nll_map(z, shares) - 0.5 * math.log(2 * math.pi)
            ),
        },
    ),
    "4.4": Exercise(
        reference=_rarity(),
        inputs=_nll,
        hint="Count, take the logarithm, divide by 4, bound. Which images are counted?",
        mistakes={
            "Ranked among its own positions, every image looks normal.": _rarity(
                lambda held_out, nll: _share(nll, nll)
            ),
            "Rare is what few reach: count those above, not those below.": _rarity(
                lambda held_out, nll: _share(-held_out, -nll)
            ),
            "An equal value reaches it, too.": _rarity(
                lambda held_out, nll: 1 - _share(-held_out, -nll)
            ),
            "All held-out positions together, not each place by itself.": _rarity(
                lambda held_out, nll: (held_out >= nll[:, None]).float().mean(1)
            ),
            "What does one position in ten get? It should be 0.25.": _rarity(
                scale=lambda share: (-share.log10()).clamp(max=1)
            ),
            "Powers of ten: which logarithm?": _rarity(
                scale=lambda share: (-share.log() / 4).clamp(max=1)
            ),
            "Where no held-out position comes so high, the map is 1.": _rarity(
                scale=lambda share: -share.log10() / 4
            ),
        },
    ),
    "4.5": Exercise(
        reference=_score(),
        inputs=_levels,
        hint="Resize, average with weights, take the highest values: in this order.",
        mistakes={
            "Twice the weights must give the same score.": _score(shares=lambda weights: weights),
            "The highest pixel alone is not the score.": _score(lambda m: m.flatten(1).amax(1)),
            "A mean over all pixels drowns a small defect.": _score(lambda m: m.mean((1, 2, 3))),
            "One score for each image: the highest 1 % of each map by itself.": _score(
                lambda m: m.flatten().topk(m.numel() // 100).values.mean()
            ),
            "How do the levels get their size? Not by copying the nearest position.": _score(
                mode="nearest"
            ),
        },
    ),
}
