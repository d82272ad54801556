"""Exercises of notebook 08, your own images."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.stats import betabinom, binom, binomtest
from torch import Tensor

from fastflow_utils.course.exercises.checking import Exercise

__all__ = ["EXERCISES"]


# 8.1


def _needed(rate: float, confidence: float) -> int:
    return math.ceil(math.log(1 - confidence) / math.log(1 - rate))


# 8.2


def _surprise(alarms: int, new: int, n: int, k: int) -> float:
    return float(betabinom.sf(alarms - 1, new, n + 1 - k, k))


# 8.3: an answer is judged by what its threshold costs


def _production() -> list[tuple[Any, ...]]:
    generator = torch.Generator().manual_seed(85)
    cases: list[tuple[Any, ...]] = []
    for share, miss, alarm in [
        (0.02, 60.0, 1.0),
        (0.05, 4.0, 3.0),
        (0.001, 20.0, 2.0),
        (0.4, 8.0, 1.0),
        (0.4, 5.0, 2.0),
    ]:
        good = 0.5 + 0.1 * torch.randn(70, generator=generator)
        anomalous = 0.7 + 0.12 * torch.randn(25, generator=generator)
        cases.append((good, anomalous, share, miss, alarm))
    cases[2][0][7] = 1.2  # a good one on top: to catch anything means to call it, too
    good, anomalous = cases[3][:2]
    cases[3] = (30 * good - 10, 30 * anomalous - 10, *cases[3][2:])
    cases[3][0][7] = 900.0  # far away: an even grid from the lowest to the highest is too coarse
    return cases


def _cost(
    t: float, good: Tensor, anomalous: Tensor, share: float, miss: float, alarm: float
) -> float:
    missed, alarmed = (anomalous < t).double().mean(), (good >= t).double().mean()
    return float(share * miss * missed + (1 - share) * alarm * alarmed)


def _cheapest(good: Tensor, anomalous: Tensor, share: float, miss: float, alarm: float) -> float:
    candidates: list[float] = [*torch.cat([good, anomalous]).tolist(), math.inf]
    return min(candidates, key=lambda t: _cost(t, good, anomalous, share, miss, alarm))


def _by_cost(answer: Any) -> dict[str, float] | None:
    if not callable(answer):
        raise TypeError("expected a function")
    costs = {}
    for case in _production():
        good, anomalous, share, miss, alarm = case
        threshold = answer(good.clone(), anomalous.clone(), share, miss, alarm)
        if threshold is None or threshold is ...:
            return None
        name = f"given share {share:g}, miss {miss:g}, alarm {alarm:g}, the cost at your threshold"
        costs[name] = _cost(float(threshold), *case)
    return costs


# 8.4: no side is half-way between two multiples of 32


def _nearest(number: float) -> float:
    return 32 * round(number / 32)


def _windows(
    height: int,
    width: int,
    defect: float,
    *,
    shared: int = 64,
    most: float = 1.0,
    covered: int = 12,
    rounded: Callable[[float], float] = _nearest,
    least: int = 1,
) -> int:
    scale = min(most, covered / defect)
    sides = [rounded(scale * length) for length in (height, width)]
    rows, columns = (max(least, 1 + math.ceil((side - 256) / (256 - shared))) for side in sides)
    return rows * columns


# 8.5: a drift up; none; one down after a wild score at the very beginning. Then, with four scores
# and limits of 1.5: an alarm as early as can be; means of 1.4, later 1.55; first below, later
# above; first above, later below.


def _streams() -> list[tuple[Tensor, float, float, int]]:
    generator = torch.Generator().manual_seed(84)
    cases = []
    for drift, k in [(0.004, 10), (0.0, 8), (-0.01, 16)]:
        scores = 0.6 + 0.05 * torch.randn(80, generator=generator)
        cases.append((scores + drift * (torch.arange(80) - 40).clamp(min=0), 0.6, 0.05, k))
    cases[2][0][0] += 0.3
    below, above, quiet = [-2.8] * 4, [2.8] * 4, [0.0] * 6
    for made in ([2.0] * 4 + quiet, [1.4] * 6 + [1.7] * 4, quiet + below + quiet + above):
        cases.append((torch.tensor(made), 0.0, 1.0, 4))
    cases.append((-cases[-1][0], 0.0, 1.0, 4))
    return cases


def _first(
    scores: Tensor, mean: float, margin: float, k: int, shortest: int = 0, back: int = 0
) -> int:
    scores = torch.as_tensor(scores, dtype=torch.float64)
    for i in range((shortest or k) - 1, len(scores)):
        if abs(scores[max(0, i - k + 1) : i + 1].mean().item() - mean) > margin:
            return i - back
    return -1


def _upwards(scores: Tensor, mean: float, std: float, k: int) -> int:
    highest = torch.as_tensor(scores, dtype=torch.float64).unfold(0, k, 1).mean(1)
    above = (highest > mean + 3 * std / k**0.5).nonzero()[:, 0]
    return int(above[0]) + k - 1 if len(above) else -1


# 8.6: a split of parts that each have several pictures, and a table of results


def _whole_parts(parts: Any, seed: int, share: float = 0.4) -> tuple[Any, Any]:
    parts = np.asarray(parts)
    every = np.random.default_rng(seed).permutation(np.unique(parts))
    is_out = np.isin(parts, every[: round(share * len(every))])
    return np.flatnonzero(~is_out), np.flatnonzero(is_out)


def _pictures(parts: Any, seed: int) -> tuple[Any, Any]:
    order = np.random.default_rng(seed).permutation(len(parts))
    held_out = round(0.4 * len(parts))
    return order[held_out:], order[:held_out]


def _unseeded(parts: Any, seed: int) -> tuple[Any, Any]:
    return _whole_parts(parts, int(np.random.default_rng().integers(2**31)))


def _counted(*alarms: int, new: int = 40, level: float = 0.95) -> pd.DataFrame:
    ends = [binomtest(count, new).proportion_ci(level, "wilson") for count in alarms]
    rows = [(c, new, end.low, end.high) for c, end in zip(alarms, ends, strict=True)]
    return pd.DataFrame(rows, ROWS, COLUMNS)


ROWS, COLUMNS = ["by picture", "by part"], ["alarms", "new", "low", "high"]
GROUPS = [  # the numbers of the parts may have gaps
    np.repeat(np.arange(20), 3),
    np.tile([70, 3, 151, 12, 90, 28, 8, 400], 4),
    7 * (np.arange(30) // 2),
]
SEEDS = (0, 1, 2, 4, 0)


def _worked(answer: Any) -> dict[str, Any] | None:
    """Return what the learner's split does to some pictures, and the learner's table."""
    if not isinstance(answer, Mapping) or set(answer) != {"split", "result"}:
        raise TypeError("expected a dict with the keys split and result")
    split, result = answer["split"], answer["result"]
    if split is None or result is None:
        return None
    if not callable(split):
        raise TypeError("split is to be a function of parts and seed")
    if not isinstance(result, pd.DataFrame):
        raise TypeError("result is to be a pandas table")
    if missing := [name for name in ROWS if name not in result.index]:
        raise KeyError(f"result has no row {missing[0]!r}")
    if missing := [name for name in COLUMNS if name not in result.columns]:
        raise KeyError(f"result has no column {missing[0]!r}")
    table = result.loc[ROWS, COLUMNS].astype(float)
    splits = []
    for parts in GROUPS:
        for seed in SEEDS:
            both = split(parts.copy(), seed)
            if both is None or both is ...:
                return None
            learn, out = (np.asarray(half).astype(int).ravel() for half in both)
            splits.append((parts, learn, out))
    return {"splits": splits, "table": table}


def _is_complete(seen: dict[str, Any]) -> bool:
    return all(
        sorted([*learn, *out]) == list(range(len(parts))) for parts, learn, out in seen["splits"]
    )


def _is_by_part(seen: dict[str, Any]) -> bool:
    return not any({*parts[learn]} & {*parts[out]} for parts, learn, out in seen["splits"])


def _is_two_in_five(seen: dict[str, Any]) -> bool:
    return all(0.3 <= len(out) / len(parts) <= 0.5 for parts, _, out in seen["splits"])


def _held_out_sets(seen: dict[str, Any]) -> list[set[Any]]:
    """Return, for each of SEEDS, what the split of the first group holds out."""
    return [set(out) for _, _, out in seen["splits"][: len(SEEDS)]]


def _is_repeatable(seen: dict[str, Any]) -> bool:
    first, *_, again = _held_out_sets(seen)
    return first == again


def _follows_the_seed(seen: dict[str, Any]) -> bool:
    *different, _ = map(frozenset, _held_out_sets(seen))
    return len({*different}) == len(different)


def _is_counted(seen: dict[str, Any]) -> bool:
    table = seen["table"]
    fits = (table["alarms"] >= 0) & (table["alarms"] <= table["new"]) & (table["new"] == 40)
    return bool(fits.all() and (table["alarms"] % 1 == 0).all())


def _has_intervals(seen: dict[str, Any]) -> bool:
    """Whether the ends are those of Wilson's interval, perhaps rounded to two digits."""
    for row in seen["table"].itertuples():
        test = binomtest(int(row.alarms), int(row.new)).proportion_ci(method="wilson")
        if not (abs(row.low - test.low) < 0.0051 and abs(row.high - test.high) < 0.0051):
            return False
    return True


SPLIT_OF_PARTS = {"split": _whole_parts, "result": _counted(9, 3)}

EXERCISES = {
    "8.1": Exercise(
        reference=_needed,
        inputs=lambda: [
            (0.03, 0.95),
            (0.1, 0.99),
            (0.002, 0.9),
            (0.5, 0.95),
            (0.5, 0.75),  # a whole number, exact in binary
        ],
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
                lambda rate, confidence: math.floor(math.log(1 - confidence) / math.log(1 - rate))
            ),
            "If that is just 1 - confidence, is one more picture needed?": (
                lambda rate, confidence: (
                    math.floor(math.log(1 - confidence) / math.log(1 - rate)) + 1
                )
            ),
        },
    ),
    "8.2": Exercise(
        reference=_surprise,
        inputs=lambda: [
            (3, 12, 40, 37),
            (0, 30, 40, 37),
            (9, 25, 19, 18),
            (5, 200, 99, 90),
            (4, 20, 40, 35),  # the rank is not that of 10 %
        ],
        hint="At least `alarms` is more than `alarms` - 1. Which are the two parameters of the "
        "Beta distribution of section 5, and in which order?",
        mistakes={
            "At least so many, or more than so many?": (
                lambda alarms, new, n, k: betabinom.sf(alarms, new, n + 1 - k, k)
            ),
            "Is that the rate above the threshold, or the rate below it?": (
                lambda alarms, new, n, k: betabinom.sf(alarms - 1, new, k, n + 1 - k)
            ),
            "The threshold comes from n pictures, so its rate is not known: is it fixed here?": (
                lambda alarms, new, n, k: binom.sf(alarms - 1, new, (n + 1 - k) / (n + 1))
            ),
            "So many alarms or more: is that the probability, or the probability of fewer?": (
                lambda alarms, new, n, k: betabinom.cdf(alarms - 1, new, n + 1 - k, k)
            ),
            "Just so many alarms, or at least so many?": (
                lambda alarms, new, n, k: betabinom.pmf(alarms, new, n + 1 - k, k)
            ),
            "The rate is not alpha: which law does it follow?": (
                lambda alarms, new, n, k: binom.sf(alarms - 1, new, 0.1)
            ),
            "Is k that of 10 %, or the one that is given?": (
                lambda alarms, new, n, k: _surprise(alarms, new, n, math.ceil(0.9 * (n + 1)))
            ),
            "Which pictures have set the threshold, and which are judged: n or `new`?": (
                lambda alarms, new, n, k: betabinom.sf(alarms - 1, n, new + 1 - k, k)
            ),
            "A probability lies between 0 and 1; is yours in percent?": (
                lambda alarms, new, n, k: 100 * _surprise(alarms, new, n, k)
            ),
        },
    ),
    "8.3": Exercise(
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
            "A miss and a false alarm do not cost the same.": (
                lambda good, anomalous, share, miss, alarm: _cheapest(good, anomalous, share, 1, 1)
            ),
            "Which share belongs to the good pictures?": (
                lambda good, anomalous, share, miss, alarm: _cheapest(
                    good, anomalous, 1 - share, miss, alarm
                )
            ),
            "Not all pictures of production are good: by what is the false-alarm rate weighted?": (
                lambda good, anomalous, share, miss, alarm: _cheapest(
                    good, anomalous, share, miss, alarm / (1 - share)
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
    "8.4": Exercise(
        reference=_windows,
        inputs=lambda: [
            (3000, 4000, 40),
            (1080, 1920, 24),
            (600, 800, 10),
            (480, 6000, 15),
            (1080, 1920, 20),
            (1120, 1120, 48),
            (200, 4100, 40),  # one side is smaller than a window
        ],
        hint="First the factor, then both sides as read, then how many windows each side takes: "
        "the first covers 256 pixels, and each further one at most 192 new ones.",
        mistakes={
            "Windows share 64 pixels: how far is one from the next?": (
                lambda height, width, defect: _windows(height, width, defect, shared=0)
            ),
            "A small defect is no reason to enlarge a picture.": (
                lambda height, width, defect: _windows(height, width, defect, most=math.inf)
            ),
            "How many pixels is the defect to cover as read?": (
                lambda height, width, defect: _windows(height, width, defect, covered=4)
            ),
            "Are the pictures shrunk before they are cut?": (
                lambda height, width, defect: _windows(height, width, 12)
            ),
            "Is each side rounded down? The nearest multiple of 32 may be the next one up.": (
                lambda height, width, defect: _windows(
                    height, width, defect, rounded=lambda side: 32 * math.floor(side / 32)
                )
            ),
            "Is each side rounded? The nearest multiple of 32 may be the next one down.": (
                lambda height, width, defect: _windows(
                    height, width, defect, rounded=lambda side: 32 * math.ceil(side / 32)
                )
            ),
            "A side that is smaller than a window takes one window, too.": (
                lambda height, width, defect: _windows(height, width, defect, least=0)
            ),
        },
    ),
    "8.5": Exercise(
        reference=lambda scores, mean, std, w: _first(scores, mean, 3 * std / w**0.5, w),
        inputs=_streams,
        hint="For every picture from the w-th on: the mean of the w scores that end with it, "
        "against both limits of section 11.",
        mistakes={
            "How much less than one score does the mean of w vary?": (
                lambda scores, mean, std, w: _first(scores, mean, 3 * std, w)
            ),
            "What may be said before w scores are there?": (
                lambda scores, mean, std, w: _first(scores, mean, 3 * std / w**0.5, w, 1)
            ),
            "Where do the w scores end: at which picture does the alarm ring?": (
                lambda scores, mean, std, w: _first(scores, mean, 3 * std / w**0.5, w, w, w - 1)
            ),
            "Does the standard deviation fall with w, or more slowly?": (
                lambda scores, mean, std, w: _first(scores, mean, 3 * std / w, w)
            ),
            "Scores may drift downwards, too.": _upwards,
            "The mean of the last w scores has the picture's own score among them.": (
                lambda scores, mean, std, w: _first(scores, mean, 3 * std / w**0.5, w, w, -1)
            ),
            "Return -1 if there is none: 0 is the first picture.": (
                lambda scores, mean, std, w: max(0, _first(scores, mean, 3 * std / w**0.5, w))
            ),
            "The mean of w scores, so the root of w, and not that of w - 1.": (
                lambda scores, mean, std, w: _first(scores, mean, 3 * std / (w - 1) ** 0.5, w)
            ),
            "With the w-th picture the first w scores are there.": (
                lambda scores, mean, std, w: _first(scores, mean, 3 * std / w**0.5, w, w + 1)
            ),
            "Whichever limit is passed first rings.": (
                lambda scores, mean, std, w: max(
                    _upwards(scores, mean, std, w), _upwards(-scores, -mean, std, w)
                )
            ),
        },
    ),
    "8.6": Exercise(
        reference=SPLIT_OF_PARTS,
        observe=_worked,
        hint="Choose parts, then take all pictures of each; count alarms among the new parts, and "
        "give each rate its interval, as `shares` does.",
        properties={
            "every picture is in one of the two groups, once": _is_complete,
            "no part has pictures in both groups": _is_by_part,
            "about two in five pictures are held out": _is_two_in_five,
            "the same seed holds out the same parts": _is_repeatable,
            "another seed holds out other parts": _follows_the_seed,
            "result counts alarms among the 40 new parts, for both splits": _is_counted,
            "low and high are the ends of Wilson's 95 % interval of the rate": _has_intervals,
        },
        mistakes={
            "every picture is in one of the two groups, once": SPLIT_OF_PARTS
            | {"split": lambda parts, seed: (np.arange(len(parts)), _whole_parts(parts, seed)[1])},
            "no part has pictures in both groups": SPLIT_OF_PARTS | {"split": _pictures},
            "about two in five pictures are held out": SPLIT_OF_PARTS
            | {"split": lambda parts, seed: _whole_parts(parts, seed, 0.1)},
            "the same seed holds out the same parts": SPLIT_OF_PARTS | {"split": _unseeded},
            "another seed holds out other parts": SPLIT_OF_PARTS
            | {"split": lambda parts, seed: _whole_parts(parts, seed % 2)},
            "result counts alarms among the 40 new parts, for both splits": SPLIT_OF_PARTS
            | {"result": _counted(9, 3, new=24)},
            "low and high are the ends of Wilson's 95 % interval of the rate": SPLIT_OF_PARTS
            | {"result": _counted(9, 3, level=0.9)},
        },
    ),
}
