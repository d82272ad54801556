"""The three tables of the field: image AUROC, pixel AUROC and pixel F1 of fifteen categories.

One row a method, in the layout Avg, Carpet, Grid, ..., Zipper. Our rows come from the
``metrics.json`` that :func:`fastflow_utils.experiments.run.run` leaves, published ones from
``published.yaml``, where each has its source. What is missing is a dash, and a row that lacks the
run of a category has no average. Where a category's data cannot give a metric (it has no masks, or
nothing anomalous in its test split), the average is over the others: :func:`lacking` names it. A
table is of one data set, and published rows stand in MVTec AD's alone. A data set of one's own has
a table with its own categories.
"""

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
import yaml

from fastflow_utils.data.layout import MVTEC_AD, SAMPLE_SET
from fastflow_utils.detector.intervals import Estimate, estimate
from fastflow_utils.errors import FastFlowError

__all__ = [
    "CATEGORIES",
    "MEASURED",
    "METRICS",
    "TABLES",
    "as_runs",
    "bounds",
    "categories_of",
    "cells",
    "estimates",
    "lacking",
    "markdown",
    "markdown_text",
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
"""The metrics of the three tables, with their names."""

METRICS = {**TABLES, "aupro": "AUPRO"}
"""The metrics that any published row has, with their names."""

MEASURED = {
    **METRICS,
    "label_free_image_f1": "image F1 (label-free)",
    "label_free_pixel_f1": "pixel F1 (label-free)",
    "seconds_total": "seconds of a run",
}
"""The metrics that a run of ours has, with their names."""

AVERAGE = "Avg"
LAYOUT = {name: name.replace("_", " ").title() for name in CATEGORIES}
COLUMNS = [AVERAGE, *LAYOUT.values()]
NARROW = dict(  # the columns' names in two lines of five characters each
    zip(
        COLUMNS,
        [
            *[("", "Avg"), ("Car-", "pet"), ("", "Grid"), ("Lea-", "ther"), ("", "Tile")],
            *[("", "Wood"), ("Bot-", "tle"), ("", "Cable"), ("Cap-", "sule"), ("Hazel", "nut")],
            *[("Metal", "Nut"), ("", "Pill"), ("", "Screw"), ("Tooth", "brush")],
            *[("Trans", "istor"), ("Zip-", "per")],
        ],
        strict=True,
    )
)


# Our rows ---------------------------------------------------------------------------------------


def as_runs(metrics: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Return a table of runs, one row each, from what their ``metrics.json`` hold.

    Args:
        metrics: Each with at least ``category``, ``sample_set``, ``data``, ``seed`` and the
            metrics; with ``replicates``, where the run has left any (``records``).

    Returns:
        Columns ``category``, ``sample_set``, ``data``, ``seed``, ``backbone``, ``image_size``,
        ``precision``, ``epochs``, ``recipe`` (as JSON), the metrics, ``label_free_image_f1``,
        ``_pixel_f1``, ``seconds_features``, ``_train``, ``_evaluate``, ``_total``, and
        ``intervals`` and ``replicates``, each by metric; what a run does not tell is missing.

    Example:
        >>> tile = {"category": "tile", "sample_set": True, "data": "sample set", "seed": 0}
        >>> as_runs([tile | {"image_auroc": 0.9}])[["category", "image_auroc"]].values.tolist()
        [['tile', 0.9]]
    """
    rows = [
        {
            **{name: one[name] for name in ("category", "sample_set", "data", "seed")},
            "epochs": one.get("epochs"),
            **{name: one.get("recipe", {}).get(name) for name in FROM_RECIPE},
            "recipe": json.dumps(one.get("recipe"), sort_keys=True),
            **{name: one.get(name) for name in METRICS},
            **{f"label_free_{name}": one.get("label_free", {}).get(name) for name in LABEL_FREE},
            **{f"seconds_{part}": one.get("seconds", {}).get(part) for part in SECONDS},
            "intervals": one.get("intervals"),
            "replicates": one.get("replicates"),
        }
        for one in metrics
    ]
    return pd.DataFrame(rows, columns=RUN_COLUMNS)


FROM_RECIPE = ("backbone", "image_size", "precision")
LABEL_FREE = ("image_f1", "pixel_f1")
SECONDS = ("features", "train", "evaluate", "total")
RUN_COLUMNS = [
    *("category", "sample_set", "data", "seed", *FROM_RECIPE, "epochs", "recipe"),
    *METRICS,
    *(f"label_free_{name}" for name in LABEL_FREE),
    *(f"seconds_{part}" for part in SECONDS),
    *("intervals", "replicates"),
]


def categories_of(runs: pd.DataFrame) -> dict[str, str]:
    """Return the columns that a table of these runs has beside the average, by category.

    The fifteen, in order, for MVTec AD and the sample set, then any others; for all other data the
    categories that the runs are of, under their own names.

    Raises:
        FastFlowError: If the runs are of several data sets.
    """
    data = set(runs["data"])
    if len(data) > 1:
        raise FastFlowError(
            f"runs of several data sets ({', '.join(sorted(data))}): a table is of one; select "
            "before"
        )
    known = LAYOUT if data <= {MVTEC_AD, SAMPLE_SET} else {}
    taken = {AVERAGE, *known.values()}
    others = sorted(set(runs["category"]) - set(known))
    return known | {name: f"'{name}'" if name in taken else name for name in others}


def mean_and_spread(
    runs: pd.DataFrame, metric: str, columns: Mapping[str, str] | None = None
) -> tuple[pd.Series, pd.Series]:
    """Return one row of a table: a metric's mean over seeds, and its standard deviation.

    A category's cell is over the seeds that it has. The average is taken over all categories of
    the table for each seed, but for those that are :func:`lacking`, and its mean and spread over
    these; it is missing unless every seed has every category. One seed has no spread.

    Args:
        runs: Of one recipe, as :func:`as_runs` gives them.
        metric: One of :data:`MEASURED`.
        columns: The names of the table's columns, by category. Default: :func:`categories_of`.

    Raises:
        FastFlowError: If the runs are of several recipes or data, or one was given twice.
    """
    found = estimates(runs, metric, columns)
    return found["mean"], found["spread"]


def lacking(runs: pd.DataFrame, metric: str) -> list[str]:
    """Return the categories that have runs, none of which has the metric: no average is over them.

    Their data cannot give it, without masks or without anomalous test images.

    Example:
        >>> tile = {"category": "tile", "sample_set": False, "data": "factory", "seed": 0}
        >>> lacking(as_runs([tile | {"image_auroc": 0.9, "aupro": None}]), "aupro")
        ['tile']
    """
    return [str(name) for name, own in runs.groupby("category") if own[metric].isna().all()]


def estimates(
    runs: pd.DataFrame, metric: str, columns: Mapping[str, str] | None = None
) -> pd.DataFrame:
    """Return one row of a table with its uncertainty, over test images and over seeds.

    The images of two categories are independent, and so are their resamples: those of the average
    are the averages of theirs. (A category on which no image makes a difference, a perfect one,
    adds nothing to the average's uncertainty.)

    Args:
        runs: As for :func:`mean_and_spread`, which has the means of these.
        metric: One of :data:`MEASURED`.
        columns: As there.

    Returns:
        Columns ``mean``, ``low``, ``high``, ``images``, ``spread`` and ``seeds``, as
        :func:`~fastflow_utils.detector.intervals.estimate` says; the index is the row's columns.
        NaN where any of the runs has left no replicates of the metric.

    Raises:
        FastFlowError: As there.
    """
    columns = categories_of(runs) if columns is None else columns
    if runs["recipe"].nunique() > 1:
        raise FastFlowError("runs of several recipes: a row is of one; select before")
    twice = runs[runs.duplicated(["category", "seed"])]
    if len(twice):
        one = twice.iloc[0]
        raise FastFlowError(f"two runs of {one['category']}, seed {one['seed']}: keep one")
    runs = runs.astype({metric: float}).sort_values("seed")
    cells = {name: runs[runs["category"] == name].dropna(subset=metric) for name in columns}
    without = lacking(runs, metric)
    averaged = [name for name in columns if name not in without]
    by_seed = runs.pivot(index="category", columns="seed", values=metric).reindex(averaged)
    row = {AVERAGE: UNKNOWN}
    if by_seed.size and by_seed.notna().all(axis=None):
        drawn = [_replicates(cells[name], metric) for name in averaged]
        known = [each for each in drawn if each is not None]
        both = sum(known) / len(known) if len(known) == len(drawn) else None
        row[AVERAGE] = estimate(by_seed.mean(), both)
    row |= {columns[name]: _cell(of_category, metric) for name, of_category in cells.items()}
    return pd.DataFrame.from_dict(row, orient="index", columns=list(Estimate._fields))


UNKNOWN = Estimate(math.nan, math.nan, math.nan, (math.nan, math.nan), math.nan, 0)


def _cell(runs: pd.DataFrame, metric: str) -> Estimate:
    """Of one category. Where no image makes a difference: the interval that the runs have alone.

    That is the bound of a perfect image AUROC, the same for all seeds.
    """
    if runs.empty:
        return UNKNOWN
    low, high = (runs["intervals"].iloc[0] or {}).get(metric) or (None, None)
    alone = (math.nan, math.nan) if low is None or high is None else (low, high)
    return estimate(runs[metric], _replicates(runs, metric), alone)


def _replicates(runs: pd.DataFrame, metric: str) -> np.ndarray | None:
    """The replicates of all seeds (S, R), None if not all have left any."""
    drawn = [each[metric] for each in runs["replicates"] if each and metric in each]
    return np.stack(drawn) if drawn and len(drawn) == len(runs) else None


# Published rows ---------------------------------------------------------------------------------


@cache
def _published() -> tuple[dict[str, Any], ...]:
    file = resources.files(__package__) / "published.yaml"
    return tuple(yaml.safe_load(file.read_text(encoding="utf-8")))


def sources() -> pd.DataFrame:
    """Return what is known of each published row: where it can be read, and what it measured.

    Columns ``method``, ``backbone``, ``image_size`` (pixels), ``protocol`` (which epoch, and what
    chose it), ``source``, ``note``; the index is the row's name.
    """
    columns = ["name", "method", "backbone", "image_size", "protocol", "source", "note"]
    found = pd.DataFrame(list(_published())).reindex(columns=columns).set_index("name")
    return found.astype({"image_size": "Int64"})


def published(metric: str) -> pd.DataFrame:
    """Return the published rows of a metric on MVTec AD, in the tables' layout.

    Rows that have nothing of the metric are left out. The average is recomputed from a full row;
    where a source gives nothing else, it is the source's own.

    Example:
        >>> published("pixel_auroc").loc["paper, CaiT", ["Avg", "Screw"]].round(4).tolist()
        [0.9845, 0.994]
    """
    rows = {}
    for one in _published():
        given = one.get("categories", {}).get(metric)
        average = one.get("average", {}).get(metric)
        if given is not None:
            row = dict(zip(LAYOUT.values(), given, strict=True))
            values = pd.Series(given, dtype=float)
            rows[one["name"]] = {AVERAGE: values.mean(skipna=False), **row}
        elif average is not None:
            rows[one["name"]] = {AVERAGE: average}
    return pd.DataFrame.from_dict(rows, orient="index", columns=COLUMNS).astype(float)


# Tables -----------------------------------------------------------------------------------------


def table(
    metric: str,
    ours: Mapping[str, pd.DataFrame],
    others: Sequence[str] = (),
    columns: Mapping[str, str] | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return a table and its spread over seeds: rows of ours, then published ones.

    Args:
        metric: One of :data:`MEASURED`.
        ours: Runs (:func:`as_runs`), by the name of their row; all on the same data.
        others: Names of published rows, from :func:`sources`.
        columns: As for :func:`mean_and_spread`; where the runs lack a category that belongs there.

    Returns:
        Two tables of one shape, Avg, Carpet, ..., Zipper, or the average and the categories of
        other data (:func:`categories_of`); nan where there is nothing. Published rows have no
        spread.

    Raises:
        FastFlowError: If the runs are of several data sets; if they are to stand beside published
            rows and are not of MVTec AD; if a row of the sample set does not say so in its name,
            or a published row does not exist.
    """
    for name, runs in ours.items():
        if runs["sample_set"].any() and SAMPLE_SET not in name:
            raise FastFlowError(f"'{name}' is measured on the sample set: let its name say so")
        if others and set(runs["data"]) - {MVTEC_AD}:
            raise FastFlowError(
                f"'{name}' beside published rows: it is measured on {runs['data'].iloc[0]}, they "
                "on MVTec AD, and these metrics do not compare; make two tables"
            )
    for name in others:
        if name not in sources().index:
            raise FastFlowError(f"no published row '{name}': expected one of tables.sources()")
    if columns is None:
        columns = categories_of(pd.concat([as_runs([]), *ours.values()]))
    rows = {name: mean_and_spread(runs, metric, columns) for name, runs in ours.items()}
    order = [AVERAGE, *columns.values()]
    means = pd.DataFrame({name: mean for name, (mean, _) in rows.items()}, order).T
    spreads = pd.DataFrame({name: spread for name, (_, spread) in rows.items()}, order).T
    means = pd.concat([means, published(metric).reindex(list(others))]) if others else means
    return means, spreads.reindex(means.index)


def bounds(
    metric: str, ours: Mapping[str, pd.DataFrame], columns: Mapping[str, str] | None = None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the ends of the 95 % intervals of our rows, where :func:`table` has their means.

    Args:
        metric: As for :func:`table`.
        ours: As there.
        columns: As there.

    Returns:
        The lower and the upper ends, over test images and seeds together (:func:`estimates`); nan
        where runs have left no replicates.
    """
    if columns is None:
        columns = categories_of(pd.concat([as_runs([]), *ours.values()]))
    rows = {name: estimates(runs, metric, columns) for name, runs in ours.items()}
    order = [AVERAGE, *columns.values()]
    lows, highs = (
        pd.DataFrame({name: row[end] for name, row in rows.items()}, order, dtype=float).T
        for end in ("low", "high")
    )
    return lows, highs


# By hand: pandas' to_string puts two spaces between columns, and sixteen of them would not fit.
def text(means: pd.DataFrame, spreads: pd.DataFrame | None = None, heading: str = "") -> str:
    """Return a table as plain text; that of the fifteen categories has at most 120 columns.

    Args:
        means: From :func:`table` or :func:`published`.
        spreads: Of the same shape; a row that has any gets a line of its own, below.
        heading: Stands above the names of the rows.

    Example:
        >>> print(text(published("image_auroc").loc[["paper, CaiT"]]).splitlines()[2][:32])
        paper, CaiT    0.994     –     –
    """
    width = max([len(heading), *(len(name) for name in means.index), len(BELOW)])
    headings = [NARROW.get(name, ("", name)) for name in means.columns]
    widths = [max(6, len(below) + 1) for _, below in headings]

    def line(name: str, parts: Iterable[str]) -> str:
        placed = (f"{part:>{room}}" for part, room in zip(parts, widths, strict=True))
        return f"{name:{width}}{''.join(placed)}".rstrip()

    above, below = zip(*headings, strict=True)
    lines = [line("", above), line(heading, below)]
    beside = _shown(means * math.nan if spreads is None else spreads)
    for name, row, spread in zip(
        means.index, _shown(means).to_numpy(), beside.to_numpy(), strict=True
    ):
        lines.append(line(name, row))
        if set(spread) != {DASH}:
            lines.append(line(BELOW, spread))
    return "\n".join(lines)


Bounds: TypeAlias = tuple[pd.DataFrame, pd.DataFrame]
"""Lower and upper ends, from :func:`bounds`."""


def cells(
    means: pd.DataFrame,
    spreads: pd.DataFrame | None = None,
    decimals: int = 3,
    ends: Bounds | None = None,
) -> pd.DataFrame:
    """Return a table's cells as text: ``mean (low–high)``, ``mean ± spread``, or the mean alone.

    The first of these for which there are numbers; a dash for nan.

    Args:
        means: From :func:`table` or :func:`published`.
        spreads: Of the same shape.
        decimals: Of all.
        ends: From :func:`bounds`, of the same columns; rows that are not there have none.

    Example:
        >>> cells(published("pixel_f1")).loc["anomalib, WRN50", ["Pill", "Screw"]].tolist()
        ['0.611', '–']
    """
    shown = _shown(means, decimals)
    if spreads is not None:
        shown = shown.where(spreads.isna(), shown + " ± " + _shown(spreads, decimals))
    if ends is not None:
        low, high = (end.reindex_like(means) for end in ends)
        both = " (" + _shown(low, decimals) + DASH + _shown(high, decimals) + ")"
        shown = shown.where(low.isna(), _shown(means, decimals) + both)
    return shown


def markdown(
    means: pd.DataFrame,
    spreads: pd.DataFrame | None = None,
    heading: str = "",
    decimals: int = 3,
    ends: Bounds | None = None,
) -> str:
    """Return a table as Markdown, the cells from :func:`cells`. (pandas' own needs tabulate.)

    Args:
        means: From :func:`table` or :func:`published`.
        spreads: Of the same shape.
        heading: Stands above the names of the rows.
        decimals: Of all numbers.
        ends: From :func:`bounds`.
    """
    names = map(markdown_text, means.columns)
    lines = [f"| {heading} | {' | '.join(names)} |", "|---|" + "---:|" * means.shape[1]]
    for name, row in cells(means, spreads, decimals, ends).iterrows():
        lines.append(f"| {markdown_text(str(name))} | {' | '.join(row)} |")
    return "\n".join(lines) + "\n"


def markdown_text(text: str) -> str:
    """Return a text that stays in its cell or line of Markdown and makes no HTML.

    Example:
        >>> markdown_text("a|b <i> &amp; c")
        'a&#124;b &lt;i> &amp;amp; c'
    """
    text = re.sub(r"&(?=#?\w+;)", "&amp;", " ".join(text.split()))
    return text.replace("<", "&lt;").replace("|", "&#124;")


DASH = "–"
BELOW = "  ± over seeds"


def _shown(values: pd.DataFrame, decimals: int = 3) -> pd.DataFrame:
    return values.map(lambda value: DASH if math.isnan(value) else f"{value:.{decimals}f}")
