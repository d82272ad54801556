"""Exercises of notebook 08, your own images."""

import math
from collections.abc import Callable
from typing import Any

import torch
from scipy.stats import beta
from torch import Tensor

from fastflow_utils.course.exercises.checking import Exercise

__all__ = ["EXERCISES"]


# 8.1: (1 - rate)(n + 1) is far from a whole number, so that rounding decides nothing


def _interval(n: int, rate: float, rank: Callable[[float], int] = math.ceil) -> list[float]:
    k = min(n, rank((1 - rate) * (n + 1)))
    return [float(beta.ppf(q, n + 1 - k, k)) for q in (0.05, 0.95)]


def _rank_of_n(n: int, rate: float) -> list[float]:
    k = math.ceil((1 - rate) * n)
    return [float(beta.ppf(q, n - k, k)) for q in (0.05, 0.95)]


def _other_way_round(n: int, rate: float) -> list[float]:
    low, high = _interval(n, rate)
    return [1 - high, 1 - low]


# 8.2


def _needed(rate: float, confidence: float) -> int:
    return math.ceil(math.log(1 - confidence) / math.log(1 - rate))


# 8.4: a drift; none; one wild score at the very beginning, then a drift


def _streams() -> list[tuple[Tensor, float, float, int]]:
    generator = torch.Generator().manual_seed(84)
    cases = []
    for drift, k in [(0.004, 10), (0.0, 8), (0.01, 16)]:
        scores = 0.6 + 0.05 * torch.randn(80, generator=generator)
        cases.append((scores + drift * (torch.arange(80) - 40).clamp(min=0), 0.6, 0.05, k))
    cases[2][0][0] += 0.3
    return cases


def _first(scores: Tensor, limit: float, k: int, shortest: int, back: int = 0) -> int:
    scores = torch.as_tensor(scores, dtype=torch.float64)
    for i in range(shortest - 1, len(scores)):
        if scores[max(0, i - k + 1) : i + 1].mean() > limit:
            return i - back
    return -1


# 8.5: an answer is judged by what its threshold costs


def _production() -> list[tuple[Any, ...]]:
    generator = torch.Generator().manual_seed(85)
    cases: list[tuple[Any, ...]] = []
    for share, miss, alarm in [(0.02, 60.0, 1.0), (0.05, 4.0, 3.0), (0.001, 20.0, 2.0)]:
        good = 0.5 + 0.1 * torch.randn(70, generator=generator)
        anomalous = 0.7 + 0.12 * torch.randn(25, generator=generator)
        cases.append((good, anomalous, share, miss, alarm))
    cases[2][0][7] = 1.2  # a good one on top: to catch anything means to call it, too
    return cases


def _cost(
    t: float, good: Tensor, anomalous: Tensor, share: float, miss: float, alarm: float
) -> float:
    missed, alarmed = (anomalous < t).double().mean(), (good >= t).double().mean()
    return float(share * miss * missed + (1 - share) * alarm * alarmed)


def _cheapest(good: Tensor, anomalous: Tensor, share: float, miss: float, alarm: float) -> float:
    candidates: list[float] = [*torch.cat([good, anomalous]).tolist(), math.inf]
    return min(candidates, key=lambda t: _cost(t, good, anomalous, share, miss, alarm))


def _by_cost(answer: Any) -> list[float] | None:
    if not callable(answer):
        raise TypeError("expected a function")
    costs = []
    for case in _production():
        threshold = answer(*case)
        if threshold is None or threshold is ...:
            return None
        costs.append(_cost(float(threshold), *case))
    return costs


EXERCISES = {
    "8.1": Exercise(
        reference=_interval,
        inputs=lambda: [(25, 0.1), (48, 0.07), (130, 0.02), (6, 0.1)],
        hint="First the rank k of section 6, then the quantiles 0.05 and 0.95 of "
        "Beta(n + 1 - k, k).",
        mistakes={
            "Is that the rate above the threshold, or the rate below it?": _other_way_round,
            "Which way is the rank rounded, so that the rate is not exceeded?": (
                lambda n, rate: _interval(n, rate, math.floor)
            ),
            "The new picture takes part in the ranking: how many are there with it?": (
                lambda n, rate: _rank_of_n(n, rate) if (1 - rate) * n < n - 1 else [0.0, 0.0]
            ),
        },
    ),
    "8.2": Exercise(
        reference=_needed,
        inputs=lambda: [(0.03, 0.95), (0.1, 0.99), (0.002, 0.9), (0.2, 0.95)],
        hint="At the rate in question, how probable are n pictures without an alarm? That must "
        "be no more than 1 - confidence.",
        mistakes={
            "The rule of three is for 95 % and small rates: what does it approximate?": (
                lambda rate, confidence: math.ceil(3 / rate)
            ),
            "One alarm in 1 / rate pictures is what you expect, and no proof.": (
                lambda rate, confidence: math.ceil(1 / rate)
            ),
            "A confidence of 95 % leaves a chance of 5 %: which of the two belongs here?": (
                lambda rate, confidence: math.ceil(math.log(confidence) / math.log(1 - rate))
            ),
            "Is a number of pictures rounded down enough?": (
                lambda rate, confidence: _needed(rate, confidence) - 1
            ),
        },
    ),
    "8.3": Exercise(
        reference=lambda field, defect, stride: 32 * math.ceil(stride * field / defect / 32),
        inputs=lambda: [(100, 0.7, 4), (90, 1.1, 4), (60, 1.3, 8), (250, 5.2, 16)],
        hint="How many pixels does a millimetre get at an image size of s? And how many the "
        "defect?",
        mistakes={
            "Large enough, but is it a multiple of 32?": (
                lambda field, defect, stride: math.ceil(stride * field / defect)
            ),
            "Is the defect still a stride wide after your rounding?": (
                lambda field, defect, stride: 32 * math.floor(stride * field / defect / 32)
            ),
            "Must the defect cover a pixel, or a stride?": (
                lambda field, defect, stride: 32 * math.ceil(field / defect / 32)
            ),
        },
    ),
    "8.4": Exercise(
        reference=lambda scores, mean, std, k: _first(scores, mean + 3 * std / k**0.5, k, k),
        inputs=_streams,
        hint="For every picture from the k-th on: the mean of the k scores that end with it, "
        "against the limit of section 11.",
        mistakes={
            "How much steadier than one score is the mean of k?": (
                lambda scores, mean, std, k: _first(scores, mean + 3 * std, k, k)
            ),
            "What may be said before k scores are there?": (
                lambda scores, mean, std, k: _first(scores, mean + 3 * std / k**0.5, k, 1)
            ),
            "Where do the k scores end: at which picture does the alarm ring?": (
                lambda scores, mean, std, k: _first(scores, mean + 3 * std / k**0.5, k, k, k - 1)
            ),
            "Does the standard deviation fall with k, or more slowly?": (
                lambda scores, mean, std, k: _first(scores, mean + 3 * std / k, k, k)
            ),
        },
    ),
    "8.5": Exercise(
        reference=_cheapest,
        observe=_by_cost,
        hint="Yours is not the cheapest: it was judged by cost(t) of section 6. Between two "
        "neighbouring scores the cost does not change, so which thresholds are worth a try?",
        mistakes={
            "How rare are anomalous pictures in production? Your examples are not.": (
                lambda good, anomalous, share, miss, alarm: _cheapest(
                    good, anomalous, len(anomalous) / (len(good) + len(anomalous)), miss, alarm
                )
            ),
            "Which of the two costs goes with which of the two mistakes?": (
                lambda good, anomalous, share, miss, alarm: _cheapest(
                    good, anomalous, share, alarm, miss
                )
            ),
            "It may be cheapest to call nothing anomalous: is that among your thresholds?": (
                lambda good, anomalous, share, miss, alarm: min(
                    torch.cat([good, anomalous]).tolist(),
                    key=lambda t: _cost(t, good, anomalous, share, miss, alarm),
                )
            ),
            "Nothing is missed, but what do the false alarms cost?": (
                lambda good, anomalous, share, miss, alarm: anomalous.min().item()
            ),
        },
    ),
}
