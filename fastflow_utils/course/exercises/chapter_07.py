"""Exercises of notebook 07, reproducing a table."""

import copy
from typing import Any

import numpy as np
import pandas as pd

from fastflow_utils.course.exercises.checking import Exercise
from fastflow_utils.experiments.tables import CATEGORIES

__all__ = ["EXERCISES"]


# 7.1: which rows compare ------------------------------------------------------------------------


def _letters(answer: Any) -> set[str]:
    return {letter.strip().lower() for letter in answer}


# 7.2: the average's cell ------------------------------------------------------------------------


def _rows() -> list[tuple[dict[str, float | None]]]:
    values = np.random.default_rng(72).uniform(0.6, 1, len(CATEGORIES))
    full = dict(zip(CATEGORIES, values.tolist(), strict=True))
    some = ("screw", "bottle", "metal_nut")
    partial = {name: value if name in some else None for name, value in full.items()}
    return [(full,), (partial,), (dict.fromkeys(CATEGORIES),)]


def _average(row: dict[str, float | None]) -> str:
    values = [value for value in row.values() if value is not None]
    if not values:
        return "-"
    mean = sum(values) / len(values)
    return f"{mean:.3f}" if len(values) == len(row) else f"{mean:.3f} ({len(values)}/{len(row)})"


def _average_of_what_is_there(row: dict[str, float | None]) -> str:
    values = [value for value in row.values() if value is not None]
    return f"{sum(values) / len(values):.3f}" if values else "-"


def _average_with_zeros(row: dict[str, float | None]) -> str:
    return f"{sum(value or 0 for value in row.values()) / len(row):.3f}"


# 7.3: mean and spread over seeds ----------------------------------------------------------------


def _tables_of_runs() -> list[tuple[pd.DataFrame]]:
    random = np.random.default_rng(73)
    tables = []
    for seeds in (3, 5):
        difficulty = random.uniform(0.6, 0.95, 6)
        rows = [
            {"category": name, "seed": seed, "image_auroc": level + random.normal(0, 0.02)}
            for seed in range(seeds)
            for name, level in zip(CATEGORIES[:6], difficulty, strict=True)
        ]
        tables.append((pd.DataFrame(rows).sample(frac=1, random_state=seeds, ignore_index=True),))
    return tables


def _by_seed(runs: pd.DataFrame) -> "pd.Series[float]":
    return runs.groupby("seed")["image_auroc"].mean()


def _mean_and_spread(runs: pd.DataFrame) -> tuple[float, float]:
    averages = _by_seed(runs)
    return averages.mean(), averages.std()


def _spread_of_all_runs(runs: pd.DataFrame) -> tuple[float, float]:
    return runs["image_auroc"].mean(), runs["image_auroc"].std()


def _mean_of_spreads(runs: pd.DataFrame) -> tuple[float, float]:
    spreads = runs.groupby("category")["image_auroc"].std()
    return runs["image_auroc"].mean(), spreads.mean()


def _divided_by_n(runs: pd.DataFrame) -> tuple[float, float]:
    averages = _by_seed(runs)
    return averages.mean(), averages.std(ddof=0)


def _over_categories(runs: pd.DataFrame) -> tuple[float, float]:
    averages = runs.groupby("category")["image_auroc"].mean()
    return averages.mean(), averages.std()


# 7.4: may a finished run stand in for another? --------------------------------------------------


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
    changes: list[dict[str, Any]] = [
        {"seconds": {"features": 0.3, "train": 8.8, "total": 10.2}},
        {"seed": 2},
        {"recipe": {**finished["recipe"], "steps": 4}},
        {"category": "wood"},
        {"versions": {"python": "3.11.7", "torch": "2.14.1"}},
        {"device": "cuda"},
        {"recipe": dict(reversed(finished["recipe"].items()))},
    ]
    return [(copy.deepcopy(finished), copy.deepcopy(finished | change)) for change in changes]


FACTS = ("recipe", "category", "seed", "versions", "device")


def _same_run(a: dict[str, Any], b: dict[str, Any], facts: tuple[str, ...] = FACTS) -> bool:
    return all(a[fact] == b[fact] for fact in facts)


EXERCISES = {
    "7.1": Exercise(
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
    "7.2": Exercise(
        reference=_average,
        inputs=_rows,
        hint="Three kinds of rows: all categories, some, none. Count what is there first.",
        mistakes={
            "A reader takes this for an average over all categories. What tells them otherwise?": (
                _average_of_what_is_there
            ),
            "A category that nobody measured is not a category with 0.": _average_with_zeros,
        },
    ),
    "7.3": Exercise(
        reference=_mean_and_spread,
        inputs=_tables_of_runs,
        tolerance=1e-6,
        hint="What would vary if somebody ran the whole table again with another seed? First one "
        "average for each seed, then what they do.",
        mistakes={
            "That is how much the categories differ too, and they always do.": _spread_of_all_runs,
            "That is the spread of a single category. An average of many spreads less.": (
                _mean_of_spreads
            ),
            "A few seeds are a sample: divide by n - 1.": _divided_by_n,
            "Grouped by the wrong column: that is the spread over categories.": _over_categories,
        },
    ),
    "7.4": Exercise(
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
}
