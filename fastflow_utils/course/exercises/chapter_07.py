"""Exercises of notebook 07, reproducing a table."""

import copy
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import t as student

from fastflow_utils.course.exercises.checking import Exercise
from fastflow_utils.experiments.tables import CATEGORIES, TABLES

__all__ = ["EXERCISES"]


def _letters(answer: Any) -> set[str] | None:
    if answer is None or answer is Ellipsis:
        return None
    return {letter.strip().lower() for letter in answer}


# 7.1: may a finished run stand in for another? --------------------------------------------------


def _pairs() -> list[tuple[dict[str, Any], dict[str, Any]]]:
    finished: dict[str, Any] = {
        "image_auroc": 0.981,
        "pixel_auroc": 0.992,
        "seconds": {"features": 2.1, "train": 9.7, "total": 13.4},
        "epochs": 10,
        "seed": 1,
        "category": "tile",
        "recipe": {"backbone": "resnet18", "image_size": 256, "epochs": None, "steps": 8},
        "device": "cpu",
        "versions": {"python": "3.11.7", "torch": "2.15.0"},
    }
    not_run = {"image_auroc": None, "pixel_auroc": None, "seconds": None}
    changes: list[dict[str, Any]] = [
        {},
        {"seed": 0},
        {"versions": {"python": "3.12.1", "torch": "2.15.0"}},
        {"recipe": {**finished["recipe"], "clamp": 2.0}},
        {"seed": 2},
        {"recipe": {**finished["recipe"], "steps": 4}},
        {"category": "wood"},
        {"versions": {"python": "3.11.7", "torch": "2.14.1"}},
        {"device": "cuda"},
        {"recipe": dict(reversed(finished["recipe"].items()))},
    ]
    pairs = [(finished, finished | change | not_run) for change in changes]
    pairs.append((finished | {"device": "cuda"}, finished | {"device": "cuda"} | not_run))
    return copy.deepcopy(pairs)


FACTS = ("recipe", "category", "seed", "versions", "device")


def _same_run(a: dict[str, Any], b: dict[str, Any], facts: tuple[str, ...] = FACTS) -> bool:
    return all(a[fact] == b[fact] for fact in facts)


# 7.4: how far a mean may fall by chance ---------------------------------------------------------


def _references() -> list[tuple[Any, ...]]:
    random = np.random.default_rng(74)
    return [(96 + 0.8 * random.standard_normal(n), m) for n, m in ((3, 1), (5, 3), (10, 3))]


def _tolerance(values: Any, m: int, **change: Any) -> float:
    n, s = len(values), float(np.std(values, ddof=change.get("ddof", 1)))
    factor = student.ppf(change.get("q", 0.95), change.get("df", n - 1))
    return float(
        factor * s * np.sqrt(change.get("of_reference", 1 / n) + change.get("of_new", 1 / m))
    )


# 7.6: a gate ------------------------------------------------------------------------------------

Gate = Callable[[pd.DataFrame, pd.DataFrame], tuple[int, list[str]]]
METRICS = tuple(TABLES)
NOISE = (0.01, 0.002, 0.015)  # over seeds, of each metric
HONEST, TRIES = 60, 20  # tables to try a gate on
DULL = "screw"
PAIR = 1 / 480  # of images: the smallest step of an image AUROC


@cache
def _toy(number: int, lost: float = 0.0, category: str | None = None) -> pd.DataFrame:
    """Runs of fifteen categories: number 0 is the reference, of ten seeds, others are of three.

    ``lost`` is taken from the image AUROC of a category, or of all of them.
    """
    levels = np.random.default_rng(76)
    random = np.random.default_rng([76, number])
    seeds = range(10) if number == 0 else range(10, 13)
    shape = (len(seeds), len(CATEGORIES), len(METRICS))
    mean = levels.uniform(0.8, 0.95, shape[1:])
    noise = levels.uniform(0.8, 1.2, (len(CATEGORIES), 1)) * NOISE
    values = mean + noise * random.standard_normal(shape)
    where = slice(None) if category is None else CATEGORIES.index(category)
    values[:, where, 0] -= lost
    runs = pd.DataFrame(values.reshape(-1, len(METRICS)), columns=list(METRICS))
    runs.insert(0, "seed", np.repeat(list(seeds), len(CATEGORIES)))
    runs.insert(0, "category", list(CATEGORIES) * len(seeds))
    return runs


def _perfect(pairs: int) -> list[pd.DataFrame]:
    """A reference with a category that is perfect for all seeds, and runs that lose some pairs."""
    reference, new = _toy(0).copy(), _toy(1).copy()
    for runs in (reference, new):
        runs.loc[runs["category"] == DULL, "image_auroc"] = 1.0
    new.loc[(new["category"] == DULL) & (new["seed"] == 10), "image_auroc"] -= pairs * PAIR
    return [reference, new]


def _holes() -> list[tuple[str, pd.DataFrame]]:
    """Tables that lack a category, one that lacks it for one seed, one with a NaN; which it is."""
    whole = _toy(1)
    with_nan, one = whole.copy(), (whole["category"] == DULL) & (whole["seed"] == 11)
    with_nan.loc[one, "pixel_f1"] = np.nan
    lacking = [(name, whole[whole["category"] != name]) for name in CATEGORIES]
    return [*lacking, (DULL, whole[~one]), (DULL, with_nan)]


def _edges() -> list[tuple[pd.DataFrame, pd.DataFrame, float, str, str]]:
    """Reference and new runs, the share of its tolerance that one value has lost, and which it is.

    The other values are the reference's means.
    """
    found = []
    for n, m in ((10, 3), (5, 1)):
        reference = _toy(0).query("seed < @n")
        means = reference.groupby("category", as_index=False)[list(METRICS)].mean()
        factor = student.ppf(1 - 0.01 / 48, n - 1) * np.sqrt(1 / n + 1 / m)
        spread = reference.groupby("category")[list(METRICS)].std()
        spread.loc["average"] = reference.groupby("seed")[list(METRICS)].mean().std()
        wanted = [(name, metric) for name in (DULL, "bottle") for metric in METRICS]
        for name, metric in [*wanted, ("average", METRICS[0])]:
            falls = means["category"].eq(name).to_numpy() | (name == "average")
            tolerance = factor * spread[metric].to_numpy()[spread.index == name]
            for share in (0.97, 1.03):
                new = means.copy()
                new[metric] -= falls * share * tolerance
                new = pd.concat([new.assign(seed=10 + seed) for seed in range(m)])
                found.append((reference, new.reset_index(drop=True), share, name, metric))
    return found


class _Tried:
    """A gate, called with copies, as it may spoil its arguments."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate

    def __call__(self, new: pd.DataFrame) -> tuple[int, list[str]]:
        code, messages = self.gate(_toy(0).copy(), new.copy())
        return code, messages

    def fails(self, new: pd.DataFrame) -> bool:
        return self(new)[0] != 0

    def share(self, tries: int, lost: float = 0.0, category: str | None = None) -> float:
        """Return in which share of reruns the gate fails."""
        return sum(self.fails(_toy(1 + i, lost, category)) for i in range(tries)) / tries

    def answers(self) -> bool:
        for new in (_toy(0), _toy(1, 0.5)):
            code, messages = self(new)
            texts = isinstance(messages, list) and all(isinstance(one, str) for one in messages)
            if type(code) is not int or code not in (0, 1) or not texts or code != bool(messages):
                return False
        return self.fails(_toy(1, 0.5))

    def keeps_its_tolerance(self) -> bool:
        for reference, new, share, name, metric in _edges():
            code, messages = self.gate(reference.copy(), new.copy())
            if code != (share > 1) or (code and not _named(messages, name, metric)):
                return False
        return True

    def finds_holes(self) -> bool:
        return all(code and _named(told, name) for name, (code, told) in self._holed())

    def _holed(self) -> list[tuple[str, tuple[int, list[str]]]]:
        return [(name, self(new)) for name, new in _holes()]

    def forgives_one_pair(self) -> bool:
        """Of a perfect category: one pair in one seed may be lost, but not one in five."""
        one, many = (self.gate(*_perfect(pairs))[0] for pairs in (1, 96))
        return one == 0 and many != 0

    def names_what_fell(self) -> bool:
        _, messages = self(_toy(1, 0.5, DULL))
        return _named(messages, DULL, "image_auroc")


def _named(messages: list[str], *names: str) -> bool:
    return any(all(name in one for name in names) for one in messages)


def _tried(answer: Any) -> _Tried | None:
    if not callable(answer):
        raise TypeError("expected a function of two tables")
    if answer(_toy(0).copy(), _toy(1).copy()) in (None, Ellipsis):
        return None
    return _Tried(answer)


def _gate(
    reference: pd.DataFrame,
    new: pd.DataFrame,
    *,
    risk: float = 0.01 / 48,
    cells: bool = True,
    average: bool = True,
    both_sides: bool = False,
    skips_holes: bool = False,
    floor: float = PAIR,
) -> tuple[int, list[str]]:
    """A right answer; with options, wrong ones."""
    messages = []
    for metric in METRICS:
        old, now = (
            runs.pivot(index="seed", columns="category", values=metric)
            for runs in (reference, new)
        )
        now = now.reindex(columns=old.columns)
        n, m = len(old), len(now)
        a, b = (
            np.column_stack([by.to_numpy(), by.mean(axis=1, skipna=skips_holes).to_numpy()])
            for by in (old, now)
        )
        factor = student.ppf(1 - risk, n - 1) * np.sqrt(1 / n + 1 / m)
        drop = a.mean(0) - b.mean(0)
        bad = ~(
            (abs(drop) if both_sides else drop) <= np.maximum(factor * a.std(0, ddof=1), floor)
        )
        bad &= ~np.isnan(drop) if skips_holes else True
        bad[:-1] &= cells
        bad[-1] &= average
        names = [*old.columns, "average"]
        messages += [f"{names[i]}, {metric}: {drop[i]:.4f} lower" for i in np.flatnonzero(bad)]
    return int(bool(messages)), messages


KIND = (
    "It returns 0 and an empty list for the reference itself, and 1 and a list of texts when 0.5 "
    "is lost everywhere; both are of type int."
)
PASSES = "At least 95 of 100 honest reruns pass."
RISES = "A rerun in which every category has risen passes."
ONE = "A loss of 0.07 in the image AUROC of one category is caught, 95 times in 100."
ALL = "A loss of 0.012 in the image AUROC of every category is caught, 95 times in 100."
PERFECT = (
    "Where all seeds of the reference have an AUROC of 1, a new seed may lose one pair of images "
    "(1 / 480), but not a fifth of them."
)
EDGE = (
    "With its share of the risk, 0.01 / 48, a category or the average may fall by its tolerance: "
    "0.97 of that passes, 1.03 of it fails with a message that names category and metric. So it "
    "is for 10 and 3 seeds, and for 5 and 1."
)
HOLES = (
    "A table that lacks a category fails, also if it does for one seed only, and so does one with "
    "a NaN; a message names the category."
)
NAMES = "A message names the category and the metric that have fallen."


EXERCISES = {
    "7.1": Exercise(
        reference=_same_run,
        inputs=_pairs,
        hint="Compare what a run starts from, all of it, and nothing of what it ends with.",
        mistakes={
            "Two runs never take exactly the same time: is that a fact that a run starts from?": (
                lambda a, b: a == b
            ),
            "With another seed it is another run.": lambda a, b: _same_run(
                a, b, ("recipe", "category", "versions", "device")
            ),
            "The same recipe on another category is another run.": lambda a, b: _same_run(
                a, b, ("recipe", "seed", "versions", "device")
            ),
            "Something in the installation changed: would the bits be the same?": lambda a, b: (
                _same_run(a, b, ("recipe", "category", "seed", "device"))
            ),
            "A GPU adds in another order than a CPU.": lambda a, b: _same_run(
                a, b, ("recipe", "category", "seed", "versions")
            ),
            "Is the recipe the same because the number of epochs is?": lambda a, b: _same_run(
                a, b, ("epochs", "category", "seed", "versions", "device")
            ),
        },
    ),
    "7.2": Exercise(
        reference={"a", "c", "e"},
        observe=_letters,
        hint="Stop each of the five after every single operation, the writing in its middle, and "
        "look at what is called metrics.json then.",
        mistakes={
            "A lock keeps other processes out while it is held. It does not finish what its "
            "holder was writing when it was killed.": {"a", "c"},
            "Who finishes a file that is half written? And what does shutil.move do between two "
            "disks?": {"a"},
            "Between two disks there is no rename: shutil.move copies, and a copy takes time.": {
                *("a", "e")
            },
            "In d there is no metrics.json for a moment. Is a file that is missing torn?": {
                *("a", "c", "d", "e")
            },
            "In b the name appears in one step, when all is written.": {"a", "b", "c", "e"},
        },
    ),
    "7.3": Exercise(
        reference={"a", "c", "f"},
        observe=_letters,
        hint="Ask of each question what would be drawn anew: the seed, the images, or both?",
        mistakes={
            "In c, the images are the same before and after the change: what is drawn anew?": {
                *("a", "f")
            },
            "In e, both models are trained already: no seed is drawn anew. Other images are.": {
                *("a", "c", "e", "f")
            },
            "d asks about other images as well.": {"a", "c", "d", "f"},
            "In b, the model stays the same, and the images are new.": {"a", "b", "c", "f"},
            "f fixes the test images. What is left that varies?": {"a", "c"},
        },
    ),
    "7.4": Exercise(
        reference=_tolerance,
        inputs=_references,
        tolerance=1e-6,
        hint="It is the standard deviation of a difference of two means, times a quantile: see "
        "section 7.",
        mistakes={
            "The reference's mean is uncertain, too: it is of n seeds only.": lambda v, m: (
                _tolerance(v, m, of_reference=0)
            ),
            "The new mean is uncertain, too: it is of m seeds only.": lambda v, m: _tolerance(
                v, m, of_new=0
            ),
            "A tolerance is positive.": lambda v, m: -_tolerance(v, m),
            "The spread is estimated from a few seeds, so the quantile is Student's and not the "
            "Gaussian's.": lambda v, m: _tolerance(v, m, df=10**9),
            "Only a drop is a failure: the quantile is one-sided.": lambda v, m: _tolerance(
                v, m, q=0.975
            ),
            "A few seeds are a sample: divide by n - 1.": lambda v, m: _tolerance(v, m, ddof=0),
            "n seeds leave n - 1 degrees of freedom.": lambda v, m: _tolerance(v, m, df=len(v)),
        },
    ),
    "7.5": Exercise(
        reference={"a", "d"},
        observe=_letters,
        hint="Two rows compare if they differ in the method alone, not in what is measured, on "
        "which images, at which size, and who chose the epoch.",
        mistakes={
            "Who chose the epoch of each?": {"a", "b"},
            "On which images was each measured?": {"a", "c"},
            "At which size are the images read?": {"a", "e"},
            "Do both rows hold the same metric?": {"a", "f"},
        },
    ),
    "7.6": Exercise(
        reference=_gate,
        observe=_tried,
        hint="Compare means over seeds, category by category and for the average, each with a "
        "tolerance of its own.",
        properties={
            KIND: lambda gate: gate.answers(),
            PASSES: lambda gate: gate.share(HONEST) <= 0.05,
            RISES: lambda gate: not gate.fails(_toy(1, -0.04)),
            ONE: lambda gate: gate.share(TRIES, 0.07, DULL) >= 0.95,
            ALL: lambda gate: gate.share(TRIES, 0.012) >= 0.95,
            PERFECT: lambda gate: gate.forgives_one_pair(),
            NAMES: lambda gate: gate.names_what_fell(),
            HOLES: lambda gate: gate.finds_holes(),
            EDGE: lambda gate: gate.keeps_its_tolerance(),
        },
        mistakes={
            KIND: lambda reference, new: (bool(_gate(reference, new)[0]), ["dropped"]),
            PASSES: lambda reference, new: _gate(reference, new, risk=0.05),
            RISES: lambda reference, new: _gate(reference, new, both_sides=True),
            ONE: lambda reference, new: _gate(reference, new, cells=False),
            ALL: lambda reference, new: _gate(reference, new, average=False),
            PERFECT: lambda reference, new: _gate(reference, new, floor=0),
            EDGE: lambda reference, new: _gate(reference, new, risk=0.005 / 48),
            HOLES: lambda reference, new: _gate(reference, new, skips_holes=True),
            NAMES: lambda reference, new: (
                code := _gate(reference, new)[0],
                ["a metric has dropped"] * code,
            ),
        },
    ),
}
