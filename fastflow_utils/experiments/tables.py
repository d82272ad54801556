"""The three tables of the field: image AUROC, pixel AUROC and pixel F1 of fifteen categories.

One row a method, in the layout Avg, Carpet, Grid, ..., Zipper. Our rows come from the
``metrics.json`` that :func:`fastflow_utils.experiments.run.run` leaves, published ones from
``published.yaml``, where each has its source. What is missing is a dash, and a row that lacks a
category has no average. Rows of the sample set never stand in a table with published ones.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any

import pandas as pd
import yaml

from fastflow_utils.errors import FastFlowError

__all__ = [
    "CATEGORIES",
    "FIGURES",
    "MEASURED",
    "TABLES",
    "as_runs",
    "cells",
    "markdown",
    "mean_and_spread",
    "published",
    "sources",
    "table",
    "text",
]

TEXTURES = ("carpet", "grid", "leather", "tile", "wood")
OBJECTS = (
    *("bottle", "cable", "capsule", "hazelnut", "metal_nut"),
    *("pill", "screw", "toothbrush", "transistor", "zipper"),
)
CATEGORIES = TEXTURES + OBJECTS
"""The fifteen categories, in the order of the tables."""

TABLES = {
    "image_auroc": "image AUROC",
    "pixel_auroc": "pixel AUROC",
    "pixel_f1": "pixel F1 (oracle)",
}
"""The figures of the three tables, with their names."""

FIGURES = {**TABLES, "aupro": "AUPRO"}
"""The figures that any published row has, with their names."""

MEASURED = {
    **FIGURES,
    "label_free_image_f1": "image F1 (label-free)",
    "label_free_pixel_f1": "pixel F1 (label-free)",
    "seconds_total": "seconds of a run",
}
"""The figures that a run of ours has, with their names."""

AVERAGE = "Avg"
LAYOUT = {name: name.replace("_", " ").title() for name in CATEGORIES}
COLUMNS = [AVERAGE, *LAYOUT.values()]
NARROW = (  # the columns' names in two lines of five characters each
    (
        *("", "Car-", "", "Lea-", "", "", "Bot-", "", "Cap-", "Hazel", "Metal", "", "", "Tooth"),
        *("Trans", "Zip-"),
    ),
    (
        *("Avg", "pet", "Grid", "ther", "Tile", "Wood", "tle", "Cable", "sule", "nut", "Nut"),
        *("Pill", "Screw", "brush", "istor", "per"),
    ),
)
SUFFIX = " (sample set)"  # fastflow_utils.course.plots.title puts it behind a category's name


# Our rows ---------------------------------------------------------------------------------------


def as_runs(metrics: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Return a table of runs, one row each, from what their ``metrics.json`` hold.

    Args:
        metrics: Each with at least ``category`` (sample-set ones named as such), ``seed`` and
            the figures.

    Returns:
        Columns ``category`` (bare), ``sample_set``, ``seed``, ``backbone``, ``image_size``,
        ``epochs``, ``recipe`` (as JSON), the figures, ``label_free_image_f1``, ``_pixel_f1``,
        and ``seconds_features``, ``_train``, ``_evaluate``, ``_total``; what a run does not tell
        is missing.

    Example:
        >>> runs = as_runs([{"category": "tile (sample set)", "seed": 0, "image_auroc": 0.9}])
        >>> runs[["category", "sample_set", "image_auroc"]].values.tolist()
        [['tile', True, 0.9]]
    """
    rows = [
        {
            "category": one["category"].removesuffix(SUFFIX),
            "sample_set": one["category"].endswith(SUFFIX),
            "seed": one["seed"],
            "epochs": one.get("epochs"),
            **{name: one.get("recipe", {}).get(name) for name in ("backbone", "image_size")},
            "recipe": json.dumps(one.get("recipe"), sort_keys=True),
            **{name: one.get(name) for name in FIGURES},
            **{f"label_free_{name}": one.get("label_free", {}).get(name) for name in LABEL_FREE},
            **{f"seconds_{part}": one.get("seconds", {}).get(part) for part in SECONDS},
        }
        for one in metrics
    ]
    return pd.DataFrame(rows, columns=RUN_COLUMNS)


LABEL_FREE = ("image_f1", "pixel_f1")
SECONDS = ("features", "train", "evaluate", "total")
RUN_COLUMNS = [
    *("category", "sample_set", "seed", "backbone", "image_size", "epochs", "recipe"),
    *FIGURES,
    *(f"label_free_{name}" for name in LABEL_FREE),
    *(f"seconds_{part}" for part in SECONDS),
]


def mean_and_spread(runs: pd.DataFrame, figure: str) -> tuple[pd.Series, pd.Series]:
    """Return one row of a table: a figure's mean over seeds, and its standard deviation.

    A category's cell is over the seeds that it has. The average is taken over the fifteen
    categories for each seed, and its mean and spread over these; it is missing unless every seed
    has every category. One seed has no spread. Other categories than the fifteen have no column.

    Args:
        runs: Of one recipe, as :func:`as_runs` gives them.
        figure: One of :data:`MEASURED`.

    Raises:
        FastFlowError: If the runs are of several recipes or data, or one was given twice.
    """
    for column, what in {"recipe": "recipes", "sample_set": "data sets"}.items():
        if runs[column].nunique() > 1:
            raise FastFlowError(f"runs of several {what}: a row is of one; select before")
    twice = runs[runs.duplicated(["category", "seed"])]
    if len(twice):
        one = twice.iloc[0]
        raise FastFlowError(f"two runs of {one['category']}, seed {one['seed']}: keep one")
    values = runs.astype({figure: float}).pivot(index="category", columns="seed", values=figure)
    values = values.reindex(list(CATEGORIES))
    average = values.mean(skipna=False)
    complete = average.notna().all()
    row = {AVERAGE: average.mean() if complete else math.nan}
    spread = {AVERAGE: average.std() if complete else math.nan}
    row |= dict(zip(LAYOUT.values(), values.mean(axis=1), strict=True))
    spread |= dict(zip(LAYOUT.values(), values.std(axis=1), strict=True))
    return pd.Series(row, dtype=float), pd.Series(spread, dtype=float)


# Published rows ---------------------------------------------------------------------------------


@cache
def _published() -> tuple[dict[str, Any], ...]:
    file = resources.files("fastflow_utils") / "published.yaml"
    return tuple(yaml.safe_load(file.read_text(encoding="utf-8")))


def sources() -> pd.DataFrame:
    """Return what is known of each published row: where it can be read, and what it measured.

    Columns ``method``, ``backbone``, ``image_size`` (pixels), ``protocol`` (which epoch, and what
    chose it), ``source``, ``note``; the index is the row's name.
    """
    columns = ["name", "method", "backbone", "image_size", "protocol", "source", "note"]
    found = pd.DataFrame(list(_published())).reindex(columns=columns).set_index("name")
    return found.astype({"image_size": "Int64"})


def published(figure: str) -> pd.DataFrame:
    """Return the published rows of a figure on MVTec AD, in the tables' layout.

    Rows that have nothing of the figure are left out. The average is recomputed from a full row;
    where a source gives nothing else, it is the source's own.

    Example:
        >>> published("pixel_auroc").loc["paper, CaiT", ["Avg", "Screw"]].round(4).tolist()
        [0.9845, 0.994]
    """
    rows = {}
    for one in _published():
        given = one.get("categories", {}).get(figure)
        average = one.get("average", {}).get(figure)
        if given is not None:
            row = dict(zip(LAYOUT.values(), given, strict=True))
            values = pd.Series(given, dtype=float)
            rows[one["name"]] = {AVERAGE: values.mean(skipna=False), **row}
        elif average is not None:
            rows[one["name"]] = {AVERAGE: average}
    return pd.DataFrame.from_dict(rows, orient="index", columns=COLUMNS).astype(float)


# Tables -----------------------------------------------------------------------------------------


def table(
    figure: str, ours: Mapping[str, pd.DataFrame], others: Sequence[str] = ()
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return a table and its spread over seeds: rows of ours, then published ones.

    Args:
        figure: One of :data:`MEASURED`.
        ours: Runs (:func:`as_runs`), by the name of their row.
        others: Names of published rows, from :func:`sources`.

    Returns:
        Two tables of one shape, Avg, Carpet, ..., Zipper; nan where there is nothing. Published
        rows have no spread.

    Raises:
        FastFlowError: If sample-set runs are to stand beside published rows, or their name does
            not say 'sample set'; if a published row does not exist.
    """
    for name, runs in ours.items():
        if runs["sample_set"].any():
            if "sample set" not in name:
                raise FastFlowError(f"'{name}' is measured on the sample set: let its name say so")
            if others:
                raise FastFlowError(
                    f"'{name}' beside published rows: figures on the sample set and on MVTec AD "
                    "do not compare; make two tables"
                )
    everything = published(figure)
    for name in others:
        if name not in sources().index:
            raise FastFlowError(f"no published row '{name}': expected one of tables.sources()")
    rows = {name: mean_and_spread(runs, figure) for name, runs in ours.items()}
    means = pd.DataFrame({name: mean for name, (mean, _) in rows.items()}, COLUMNS).T
    spreads = pd.DataFrame({name: spread for name, (_, spread) in rows.items()}, COLUMNS).T
    means = pd.concat([means, everything.reindex(list(others))]) if others else means
    return means, spreads.reindex(means.index)


def text(means: pd.DataFrame, spreads: pd.DataFrame | None = None, heading: str = "") -> str:
    """Return a table as plain text of at most 120 columns.

    Args:
        means: From :func:`table` or :func:`published`.
        spreads: Of the same shape; a row that has any gets a line of its own, below.
        heading: Stands above the names of the rows.

    Example:
        >>> print(text(published("image_auroc").loc[["paper, CaiT"]]).splitlines()[2][:32])
        paper, CaiT    0.994     –     –
    """
    width = max([len(heading), *(len(name) for name in means.index), len(BELOW)])
    above, below = ("".join(f"{part:>6}" for part in parts) for parts in NARROW)
    lines = [" " * width + above, f"{heading:{width}}" + below]
    beside = _shown(means * math.nan if spreads is None else spreads)
    for name, row, spread in zip(
        means.index, _shown(means).to_numpy(), beside.to_numpy(), strict=True
    ):
        lines.append(f"{name:{width}}" + "".join(f"{cell:>6}" for cell in row))
        if set(spread) != {DASH}:
            lines.append(f"{BELOW:{width}}" + "".join(f"{cell:>6}" for cell in spread))
    return "\n".join(line.rstrip() for line in lines)


def cells(
    means: pd.DataFrame, spreads: pd.DataFrame | None = None, decimals: int = 3
) -> pd.DataFrame:
    """Return a table's cells as text: ``mean ± spread`` where there is a spread, a dash for nan.

    Args:
        means: From :func:`table` or :func:`published`.
        spreads: Of the same shape.
        decimals: Of both.

    Example:
        >>> cells(published("pixel_f1")).loc["anomalib, WRN50", ["Pill", "Screw"]].tolist()
        ['0.611', '–']
    """
    shown = _shown(means, decimals)
    if spreads is None:
        return shown
    return shown.where(spreads.isna(), shown + " ± " + _shown(spreads, decimals))


def markdown(
    means: pd.DataFrame,
    spreads: pd.DataFrame | None = None,
    heading: str = "",
    decimals: int = 3,
) -> str:
    """Return a table as Markdown, the cells from :func:`cells`.

    Args:
        means: From :func:`table` or :func:`published`.
        spreads: Of the same shape.
        heading: Stands above the names of the rows.
        decimals: Of both.
    """
    lines = [f"| {heading} | {' | '.join(means.columns)} |", "|---|" + "---:|" * means.shape[1]]
    for name, row in cells(means, spreads, decimals).iterrows():
        lines.append(f"| {name} | {' | '.join(row)} |")
    return "\n".join(lines) + "\n"


DASH = "–"
BELOW = "  ± over seeds"


def _shown(values: pd.DataFrame, decimals: int = 3) -> pd.DataFrame:
    return values.map(lambda value: DASH if math.isnan(value) else f"{value:.{decimals}f}")
