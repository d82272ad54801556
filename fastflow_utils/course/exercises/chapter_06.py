"""Exercises of notebook 06, what matters."""

import math
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from fastflow_utils.course.exercises.checking import Exercise
from fastflow_utils.detector.bootstrap import resamples
from fastflow_utils.experiments.ablation import judge

__all__ = ["EXERCISES"]


def _letters(answer: Any) -> set[str] | None:
    """Return {"A", "C"} for {"A", "C"}, ["c", "a"] and "AC" alike; None for a stub."""
    if answer is None or answer is Ellipsis:
        return None
    return {letter.strip().upper() for letter in answer}


# 6.1: (e, n, s, delta); in the third case the seeds alone hide the difference


def _plans() -> list[tuple[Any, ...]]:
    return [
        (0.017, 220, 0.008, 0.04),
        (0.02, 44, 0.004, 0.01),
        (0.02, 44, 0.006, 0.01),
        (0.03, 100, 0.0, 0.02),
    ]


def _images(e: float, n: int, s: float, delta: float) -> int:
    room = (delta / 1.96) ** 2 - s**2
    return math.ceil(n * e**2 / room) if room > 0 else -1


def _by_number(e: float, n: int, s: float, delta: float) -> int:
    room = (delta / 1.96) ** 2 - s**2
    return math.ceil(n * e / math.sqrt(room)) if room > 0 else -1


def _by_sum(e: float, n: int, s: float, delta: float) -> int:
    room = delta / 1.96 - s
    return math.ceil(n * (e / room) ** 2) if room > 0 else -1


# 6.3: (channels, hidden), even and odd, wide and narrow; in the last case the sizes are equal, and
# each way to treat an odd number of channels gives another number


def _subnets() -> list[tuple[Any, ...]]:
    return [(24, 12), (113, 57), (41, 10), (112, 18), (5, 50)]


def _hidden(channels: int, hidden: int, **kind: Any) -> int:
    b = (channels + 1) // 2 if kind.get("small") else channels // 2
    a = channels if kind.get("whole") else channels - b
    ends = a + (b if kind.get("only_s") else 2 * b)
    area = 3 if kind.get("line") else 9
    bias = 0 if kind.get("no_bias") else 1
    parameters = hidden * (area * ends + bias)
    if kind.get("once"):
        parameters += 2 * b
    if kind.get("fewer"):
        parameters -= 1
    return -(-parameters // (ends + bias)) if kind.get("up") else parameters // (ends + bias)


# 6.5: a row for each variant, a column for each category; what the others choose is not the best,
# and no two variants are equally good on the others


def _tables() -> list[tuple[Any, ...]]:
    made = torch.tensor(
        [
            [0.97, 0.84, 0.90],
            [0.91, 0.89, 0.93],
            [0.99, 0.70, 0.92],
            [0.88, 0.85, 0.96],
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


# 6.6: the result of an ablation: scores by (category, seed) of both sides, interval and verdict

Result = dict[str, Any]
SIDES = ("start", "variant")
SURE = 0.035, 0.065  # p-values between them may lie on either side of 0.05, by the draws
WORDS = {"cannot be told": "not seen"}  # as the package calls it


def _areas(scores: Any, truth: Any, weights: np.ndarray) -> np.ndarray:
    """Return the AUROC under each row of weights (R, N): the share of pairs in the right order."""
    values, bad = np.asarray(scores, dtype=np.float64), np.asarray(truth) == 1
    wins = np.heaviside(values[bad][:, None] - values[~bad], 0.5)
    w_bad, w_good = weights[:, bad], weights[:, ~bad]
    areas: np.ndarray = ((w_bad @ wins) * w_good).sum(1) / (w_bad.sum(1) * w_good.sum(1))
    return areas


class _Ablation:
    """An answer, with what can be computed from its scores."""

    def __init__(self, result: Result) -> None:
        self.result, self.labels = result, result["labels"]
        self.start, self.variant = (dict(result[side]) for side in SIDES)
        self.low, self.high = (float(result[end]) for end in ("low", "high"))

    def differences(self, category: str, start: np.ndarray, variant: np.ndarray) -> np.ndarray:
        """Return a category's differences (S, R), each side under its own weights."""
        truth = self.labels[category]
        places = [place for place in self.start if place[0] == category]
        return np.stack(
            [
                _areas(self.variant[place], truth, variant)
                - _areas(self.start[place], truth, start)
                for place in places
            ]
        )

    @cached_property
    def categories(self) -> list[str]:
        return list(dict.fromkeys(place[0] for place in self.start))

    @cached_property
    def mean(self) -> float:
        """Of the paired differences, on the test images as they are."""
        ones = {name: np.ones((1, len(self.labels[name]))) for name in self.categories}
        return float(np.mean([self.differences(n, one, one).mean() for n, one in ones.items()]))

    @cached_property
    def drawn(self) -> dict[str, np.ndarray]:
        """Of each category, the differences on other test images and with other seeds, (R,)."""
        return self.two_way("")

    def two_way(self, key: str) -> dict[str, np.ndarray]:
        """Return such differences; with a key, the sides have resamples of their own."""
        generator, found = np.random.default_rng(66), {}
        for name in self.categories:
            start, variant = (
                resamples(np.asarray(self.labels[name]), f"{name}{more}", 4000)
                for more in ("", key)
            )
            d = self.differences(name, start, variant)
            picked = generator.integers(len(d), size=d.shape)
            other = np.take_along_axis(d, picked, axis=0).mean(0)
            stretch = math.sqrt(len(d) / max(1, len(d) - 1))
            found[name] = d.mean(0) + stretch * (other - d.mean(0))
        return found

    @cached_property
    def ends(self) -> tuple[float, float]:
        low, high = np.quantile(np.mean(list(self.drawn.values()), axis=0), [0.025, 0.975])
        return float(low), float(high)

    @cached_property
    def formula(self) -> tuple[float, float]:
        """The ends by the package's formula, which section 2 shows as well."""
        differences, errors = {}, {}
        for name in self.categories:
            weights = resamples(np.asarray(self.labels[name]), name, 4000)
            one = np.ones((1, weights.shape[1]))
            errors[name] = self.differences(name, weights, weights).mean(0).std()
            for seed, (d,) in enumerate(self.differences(name, one, one)):
                differences[name, seed] = d
        row = judge(pd.DataFrame(differences, ["mine"]), pd.DataFrame(errors, ["mine"])).iloc[0]
        return float(row["low"]), float(row["high"])

    # What must hold of it

    def has_pairs(self) -> bool:
        seeds = {place[1] for place in self.start}
        whole = len(self.start) == len(self.categories) * len(seeds)
        enough = len(self.categories) >= 2 and len(seeds) >= 3
        return set(self.start) == set(self.variant) and whole and enough

    def has_scores(self) -> bool:
        return all(
            np.shape(scores) == np.shape(self.labels[place[0]])
            and np.isfinite(np.asarray(scores)).all()
            for side in (self.start, self.variant)
            for place, scores in side.items()
        )

    def has_trainings(self) -> bool:
        for name in self.categories:
            runs = [
                tuple(np.asarray(scores).tolist())
                for side in (self.start, self.variant)
                for place, scores in side.items()
                if place[0] == name
            ]
            if len(set(runs)) < len(runs):
                return False
        return True

    def has_mean(self) -> bool:
        return abs(float(self.result["mean"]) - self.mean) <= 0.001

    def has_interval(self) -> bool:
        """Whether it is that of the draws, which scatter, or that of the formula."""
        for (low, high), slack in ((self.ends, 0.1), (self.formula, 0.05)):
            width, middle = high - low, (low + high) / 2
            fits = abs(self.high - self.low - width) <= slack * width
            if fits and abs((self.low + self.high) / 2 - middle) <= 0.1 * width:
                return True
        return False

    def has_verdict(self) -> bool:
        word = "better" if self.low > 0 else "worse" if self.high < 0 else "not seen"
        fit = {"depends on the category" if self.depends(sure) else word for sure in SURE}
        said = self.result["verdict"]
        return WORDS.get(said, said) in fit

    def depends(self, sure: float) -> bool:
        """Whether one category is better and another one worse, by Holm's steps."""
        found = []
        for d in self.drawn.values():
            share = min((d <= 0).mean(), (d >= 0).mean())
            found.append((2 * max(float(share), 1 / len(d)), bool(d.mean() > 0)))
        signs = set()
        for number, (p, better) in enumerate(sorted(found)):
            if p * (len(found) - number) >= sure:
                break
            signs.add(better)
        return len(signs) == 2


def _made() -> Result:
    """An ablation with invented scores; its interval holds 0."""
    generator = torch.Generator().manual_seed(66)
    labels = {name: torch.tensor([0] * 40 + [1] * 40) for name in ("a", "b")}
    result: Result = {"start": {}, "variant": {}, "labels": labels}
    for name, truth in labels.items():
        image = torch.randn(80, generator=generator)
        for seed in range(3):
            for side, gain in (("start", 1.2), ("variant", 1.15)):
                own = gain + 0.15 * torch.randn((), generator=generator)
                noise = 0.5 * torch.randn(80, generator=generator)
                result[side][name, seed] = image + own * truth + noise
    return result | {"mean": -0.033, "low": -0.098, "high": 0.027, "verdict": "not seen"}


_RESULT = _made()
_ONE_SEED = {s: {k: v for k, v in _RESULT[s].items() if k[1] == 0} for s in SIDES}
_CUT = {"variant": {k: v[:-1] for k, v in _RESULT["variant"].items()}}
_REPEATED = {s: {k: _RESULT[s][k[0], 0] for k in _RESULT[s]} for s in SIDES}
_UNPAIRED = {"low": -0.134, "high": 0.069}


MEAN = (
    "`mean` is variant minus start in image AUROC, over all pairs, on all test images as they are."
)
INTERVAL = (
    "The interval is of 95 %, draws test images and seeds, both sides on the same draws, and "
    "stretches the deviations of the seeds (its width is checked to 10 %)."
)
VERDICT = (
    "The verdict follows from the interval, by the rule: 'better', 'worse', 'not seen' or "
    "'depends on the category'."
)


EXERCISES = {
    "6.1": Exercise(
        reference=_images,
        inputs=_plans,
        tolerance=0,
        hint="Ask first what e may be: solve the inequality for its square.",
        mistakes={
            "It is the square of e that shrinks as 1 over the number of images.": _by_number,
            "The seeds add to the interval, however many images there are.": lambda e, n, s, d: (
                _images(e, n, 0, d)
            ),
            "The interval reaches 1.96 standard errors to each side.": lambda e, n, s, d: _images(
                e, n, s, 1.96 * d
            ),
            "Variances add up, not standard errors.": _by_sum,
        },
    ),
    "6.2": Exercise(
        reference={"A", "C", "D"},
        observe=_letters,
        hint="Sort the six, multiply by 6, 5, 4, ..., and keep each at least at the one before.",
        mistakes={
            "These are the p-values below 0.05 without any correction.": {"A", "C", "D", "E", "F"},
            "Holm multiplies only the smallest by 6; the next one by 5.": {"A"},
            "A corrected value is never below the one before: after the first that fails, all "
            "fail.": {"A", "C", "D", "E"},
        },
    ),
    "6.3": Exercise(
        reference=_hidden,
        inputs=_subnets,
        tolerance=0,
        hint="Write down the parameters of both subnets, weights and biases, and set them equal.",
        mistakes={
            "The biases of s and t are in both subnets: they cancel.": lambda c, h: _hidden(
                c, h, once=True
            ),
            "If C is odd, x_a is the larger half.": lambda c, h: _hidden(c, h, small=True),
            "It may have exactly as many parameters.": lambda c, h: _hidden(c, h, fewer=True),
            "A convolution has a bias for each output channel.": lambda c, h: _hidden(
                c, h, no_bias=True
            ),
            "The subnet answers with s and with t.": lambda c, h: _hidden(c, h, only_s=True),
            "A kernel has a height and a width.": lambda c, h: _hidden(c, h, line=True),
            "Which of the channels does the subnet read?": lambda c, h: _hidden(c, h, whole=True),
            "Not more parameters than the 3 x 3 subnet: round down.": lambda c, h: _hidden(
                c, h, up=True
            ),
        },
    ),
    "6.4": Exercise(
        reference={"c", "e"},
        observe=_letters,
        hint="For each sentence: which number of the table would have to be another one, if the "
        "sentence were false?",
        mistakes={
            "a: nobody has compared these two; their intervals overlap widely.": {"a", "c", "e"},
            "b: 'not seen' allows every difference within the interval.": {"b", "c", "e"},
            "d: look at column B.": {"c", "d", "e"},
            "f: the interval speaks of these two categories.": {"c", "e", "f"},
            "One is missing: what can a change add to an AUROC of 1.00?": {"c"},
            "One is missing: an interval bounds a difference, also one that is not seen.": {"e"},
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
    "6.6": Exercise(
        reference=_RESULT,
        hint="A dict with start, variant, labels, mean, low, high and verdict.",
        observe=_Ablation,
        properties={
            "Start and variant need the same places: at least two categories, three seeds each.": (
                _Ablation.has_pairs
            ),
            "Each training needs one finite score for each test image.": _Ablation.has_scores,
            "No two trainings of a category may have the same scores.": _Ablation.has_trainings,
            MEAN: _Ablation.has_mean,
            INTERVAL: (_Ablation.has_interval),
            VERDICT: _Ablation.has_verdict,
        },
        mistakes={
            "Start and variant need the same places: at least two categories, three seeds each.": (
                _RESULT | _ONE_SEED
            ),
            "Each training needs one finite score for each test image.": _RESULT | _CUT,
            "No two trainings of a category may have the same scores.": _RESULT | _REPEATED,
            MEAN: (_RESULT | {"mean": 0.033}),
            INTERVAL: (_RESULT | _UNPAIRED),
            VERDICT: _RESULT | {"verdict": "worse"},
        },
    ),
}
