"""The tables of a folder of runs: one row a recipe, beside published rows, in four formats.

Each data set has tables of its own, and published rows stand in MVTec AD's alone. Runs make one
row if they share recipe, precision, region, weights, versions and code and, within a category, the
bytes of the images and the pixels of the region. Of two with the same category and seed the newer
one counts, a failed one as a dash. Whatever is left out, has failed or was never finished is said
in a note; nothing is left out in silence.
"""

import html
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from fastflow_utils.data.layout import MVTEC_AD, SAMPLE_SET
from fastflow_utils.data.sizes import size_text
from fastflow_utils.errors import FastFlowError
from fastflow_utils.experiments import tables
from fastflow_utils.experiments.recipes import describe, recipe_of
from fastflow_utils.experiments.records import read_json, read_replicates
from fastflow_utils.experiments.tables import MEASURED

__all__ = ["FORMATS", "Report", "Section", "collect", "report"]

FIRST = (SAMPLE_SET, MVTEC_AD)  # all other data come behind, by name
# What the runs of a row have in common.
ROW = ["data", "recipe", "precision", "region", "weights", "versions", "code"]
LEGEND = (
    "Cells: mean over seeds (95 % interval over test images and seeds together: percentiles of "
    "2,000 resamples of the images, Student's t over seeds, squares of half widths added). One "
    "seed: over images alone. A perfect image AUROC: a one-sided bound, about 1 - 3 / images.",
    "± instead: the standard deviation over seeds alone, of runs that left no resamples, or where "
    "all resamples are the same. It is no interval: the test images add more.",
    "A dash is a metric that is not there. A row that lacks a category's run has no average, "
    "unless its source gives nothing but the average. Where data cannot give a metric (without "
    "masks, or without anomalous test images), the average is over the other categories, and the "
    "note on its row names these.",
    "Label-free: with thresholds that were set on held-out normal images alone; oracle: with the "
    "threshold that the test split's labels choose.",
    "Seconds: from image files to metrics; the first run of a category computes its features, "
    "others may find them there.",
)


@dataclass(frozen=True)
class Section:
    """One table.

    Attributes:
        title: The metric's name, and the data it is measured on.
        metric: One of :data:`~fastflow_utils.experiments.tables.MEASURED`.
        means: Rows of ours, then published ones; Avg, Carpet, ..., Zipper, or the categories of
            other data; nan for a dash.
        spreads: Standard deviations over seeds, of the same shape.
        ends: Of the 95 % intervals over images and seeds, lower and upper, of the same shape.
        seeds: Over how many seeds each cell is, of the same shape; missing for published rows.
        sources: Where each row is from and how it was measured, by the row's name.
    """

    title: str
    metric: str
    means: pd.DataFrame
    spreads: pd.DataFrame
    ends: tables.Bounds
    seeds: pd.DataFrame
    sources: "pd.Series[str]"

    @property
    def decimals(self) -> int:
        """How many a reader is shown."""
        return 1 if self.metric.startswith("seconds") else 3

    def cells(self) -> pd.DataFrame:
        """Return the table as a reader is shown it."""
        return tables.cells(self.means, self.spreads, self.decimals, self.ends)

    def footnotes(self) -> list[str]:
        """Return the sources, one line for all rows that share one."""
        return [
            f"{'; '.join(rows.index)}: {source}"
            for source, rows in self.sources.groupby(self.sources, sort=False)
        ]


@dataclass(frozen=True)
class Report:
    """The tables of a folder, and what a reader must know of all of them."""

    sections: list[Section]
    notes: list[str]


def collect(folder: Path | str) -> Report:
    """Read every run in a folder and the folders below it, and make the tables.

    Each data set has sections of its own, the sample set and MVTec AD first.

    Raises:
        FastFlowError: If no run has been finished there.
    """
    folder = Path(folder)
    finished, failed, notes = _read(folder)
    if finished.empty:
        raise FastFlowError(
            f"no finished run in '{folder}': looked for metrics.json there and in all folders "
            "below; make some with `fastflow reproduce` or `fastflow run`. "
            + " ".join((_failures(failed) + notes)[:3])
        )
    runs, left_out = _newest(finished)
    runs, failed = _latest_outcome(runs, failed)
    sections = []
    for data in [*FIRST, *sorted(set(runs["data"]) - set(FIRST))]:
        if data in set(runs["data"]):
            of_data = (each[each["data"] == data] for each in (runs, failed))
            sections += _sections(data, *of_data)
    return Report(sections, [*LEGEND, *_failures(failed), *left_out, *notes])


def report(folder: Path | str, format: str = "markdown") -> str:
    """Return the tables of a folder of runs as text.

    Args:
        folder: Holds runs, in any folders below it.
        format: ``"markdown"`` (pipes); ``"csv"`` (one line for each cell, not rounded, without
            notes); ``"html"`` (a page by itself); ``"latex"`` (tables that need the packages
            booktabs and graphicx; the notes are comments).

    Raises:
        FastFlowError: If there is no such format, or nothing to report.

    Example:
        >>> report("runs", "pdf")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        fastflow_utils.errors.FastFlowError: format 'pdf': expected one of markdown, ...
    """
    if format not in FORMATS:
        raise FastFlowError(f"format '{format}': expected one of {', '.join(FORMATS)}")
    return FORMATS[format](collect(folder))


# Reading ----------------------------------------------------------------------------------------


def _read(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame, list[str]]:
    """Return the finished runs, the failed ones, and notes on everything else that was begun."""
    begun = {file.parent for name in ("metrics.json", "run.json") for file in folder.rglob(name)}
    begun |= {place for place in folder.rglob("seed*-*") if place.is_dir()}
    finished, described, failed, unfinished, notes = [], [], [], [], []
    for place in sorted(begun):
        name = place.relative_to(folder).as_posix()
        try:
            metrics, about = read_json(place / "metrics.json"), read_json(place / "run.json")
            if metrics is not None:
                tables.as_runs([metrics]).astype(dict.fromkeys(MEASURED, float))  # are they?
                described.append(_description(metrics, about) | {"place": name})
                described[-1]["modified"] = (place / "metrics.json").stat().st_mtime
                finished.append(metrics | {"replicates": read_replicates(place)})
                notes += [f"{name}: {note}." for note in metrics.get("notes", [])]
            elif about and about.get("status") == "failed":
                failed.append(_failure(about) | {"place": name})
                failed[-1]["modified"] = (place / "run.json").stat().st_mtime
            else:
                unfinished.append(name)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            notes.append(
                f"Left out, for it cannot be read: {name} ({error}); delete it and do it again."
            )
    if unfinished:
        notes.append(f"Unfinished, killed or still running: {', '.join(unfinished)}.")
    runs = tables.as_runs(finished).assign(**pd.DataFrame(described, columns=DESCRIBED))
    return runs, pd.DataFrame(failed, columns=FAILED), notes


DESCRIBED = [
    *("recipe", "region", "weights", "weights_name", "versions", "code", "data_sha256"),
    *("device", "place", "modified"),
]
FAILED = ["data", "recipe", "precision", "category", "seed", "error", "place", "modified"]


def _description(metrics: dict[str, Any], about: dict[str, Any] | None) -> dict[str, Any]:
    """Return what a run started from."""
    about = about or metrics
    return {
        "recipe": describe(recipe_of(metrics["recipe"])),
        "region": metrics.get("region") or "",
        "weights": about.get("weights_sha256", "not recorded") or "",
        "weights_name": Path(about.get("weights") or "").name,
        "versions": json.dumps(dict(metrics.get("versions", {})), sort_keys=True),
        "code": metrics.get("code_sha256", "not recorded"),
        "data_sha256": (about.get("data_sha256") or "") + (metrics.get("region_sha256") or ""),
        "device": metrics.get("device", "device not recorded"),
    }


def _failure(about: dict[str, Any]) -> dict[str, Any]:
    recipe = recipe_of(about["recipe"])
    return {
        "recipe": describe(recipe),
        "precision": recipe.precision,
        **{name: about[name] for name in ("data", "category", "seed", "error")},
    }


def _failures(failed: pd.DataFrame) -> list[str]:
    return [
        f"Failed: {run.category}, {run.recipe}, seed {run.seed} ({run.place}): {run.error}"
        for run in failed.itertuples()
    ]


# Rows -------------------------------------------------------------------------------------------


def _newest(runs: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Keep one run of each category and seed, all of a category on the same images."""
    runs = runs.sort_values(["modified", "place"])
    newest = runs.groupby([*ROW, "category"])["data_sha256"].transform("last")
    same = runs[runs["data_sha256"] == newest]
    kept = same.drop_duplicates([*ROW, "category", "seed"], keep="last")
    notes = []
    for run in runs.drop(kept.index).itertuples():
        newer = (
            "there is a newer one"
            if run.Index in same.index
            else "newer runs are on other images, or look elsewhere in them"
        )
        notes.append(
            f"Left out: {run.category}, {run.recipe}, seed {run.seed} ({run.place}); {newer}."
        )
    return kept, notes


def _latest_outcome(runs: pd.DataFrame, failed: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Keep of each run what happened last: that it was finished, or that it failed."""
    ours = ["data", "recipe", "precision", "category", "seed"]
    failed = failed.sort_values("modified").drop_duplicates(ours, keep="last").set_index(ours)
    ended = runs.groupby(ours)["modified"].max().reindex(failed.index).fillna(0)
    failed = failed[failed["modified"] > ended]
    return runs[~runs.set_index(ours).index.isin(failed.index)], failed.reset_index()


def _sections(data: str, runs: pd.DataFrame, failed: pd.DataFrame) -> list[Section]:
    """Return the tables of one data set."""
    whose = data if data == SAMPLE_SET else "ours"
    rows = _rows(runs, whose)
    for recipe in failed["recipe"]:
        if not any(recipe in set(row["recipe"]) for row in rows.values()):
            rows[f"{whose}, {recipe}"] = runs[:0]
    where = ["data", "category"]  # what failed has a column, too
    columns = tables.categories_of(pd.concat([runs[where], failed[where]]))
    return [_section(metric, rows, data, columns) for metric in MEASURED]


def _rows(runs: pd.DataFrame, whose: str) -> dict[str, pd.DataFrame]:
    """Return the runs of each row by its name, which tells it from all others."""
    rows = {}
    for recipe, of_recipe in runs.groupby("recipe"):
        groups = [group for _, group in of_recipe.groupby(ROW)]
        parts = [_parts(group.iloc[0]) for group in groups]
        for group, own in zip(groups, parts, strict=True):
            distinct = [part for part in own if not all(part in other for other in parts)]
            where = [f"region {group['region'].iloc[0]}"] if group["region"].iloc[0] else []
            rows[", ".join([whose, str(recipe), *where, *distinct])] = group
    return rows


def _parts(run: "pd.Series[Any]") -> list[str]:
    """Return what may tell a row from another of the same recipe."""
    weights = " ".join([run["weights_name"], run["weights"][:12]]).strip() or "as downloaded"
    versions = [f"{name} {version}" for name, version in json.loads(run["versions"]).items()]
    return [run["precision"], f"weights {weights}", *versions, f"code {run['code'][:12]}"]


def _section(
    metric: str, rows: dict[str, pd.DataFrame], data: str, columns: Mapping[str, str]
) -> Section:
    others = list(tables.published(metric).index) if data == MVTEC_AD else []
    means, spreads = tables.table(metric, rows, others, columns)
    low, high = (end.reindex_like(means) for end in tables.bounds(metric, rows, columns))
    seeds = pd.DataFrame(index=means.index, columns=means.columns, dtype="Int64")
    for name, runs in rows.items():
        counts = runs.dropna(subset=metric).groupby("category")["seed"].nunique()
        seeds.loc[name] = [
            runs["seed"].nunique() if means.notna().loc[name, tables.AVERAGE] else 0,
            *counts.reindex(list(columns), fill_value=0),
        ]
    sources = {
        name: _measured(runs) + _average_of(runs, metric, columns) for name, runs in rows.items()
    }
    sources |= {name: _published(tables.sources().loc[name]) for name in others}
    title = f"{MEASURED[metric]}, {data}"
    return Section(
        title, metric, means, spreads, (low, high), seeds, pd.Series(sources, dtype=str)
    )


def _measured(runs: pd.DataFrame) -> str:
    """Return how a row of ours was measured.

    Example:
        >>> runs = {"category": ["tile", "tile", "wood"], "seed": [0, 1, 1]}
        >>> runs |= {"image_size": 256, "device": "cpu", "precision": "float32"}
        >>> print(_measured(pd.DataFrame(runs)).replace("; last", ";\\nlast"))
        measured on cpu in float32; 2 seeds (0, 1; of wood 1 only);
        last epoch; images read at 256 px
    """
    if runs.empty:
        return "no run was finished"
    seeds = _listed(runs["seed"])
    fewer = [
        f"; of {category} {_listed(own)} only"
        for category, own in runs.groupby("category")["seed"]
        if _listed(own) != seeds
    ]
    number = runs["seed"].nunique()
    return (
        f"measured on {_listed(runs['device'])} in {_listed(runs['precision'])}; "
        f"{number} seed{'s' * (number > 1)} ({seeds}{''.join(fewer)}); "
        f"last epoch; images read at {_listed(runs['image_size'].map(_size))} px"
    )


def _average_of(runs: pd.DataFrame, metric: str, columns: Mapping[str, str]) -> str:
    """Return over which categories a row's average is, where these are not all.

    Example:
        >>> runs = pd.DataFrame({"category": ["nut", "lid"], "aupro": [0.9, None]})
        >>> _average_of(runs, "aupro", {"nut": "nut", "lid": "lid"})
        '; average over 1 of 2 categories, without lid, whose data cannot give it'
    """
    without = tables.lacking(runs, metric)
    if not 0 < len(without) < len(columns):
        return ""
    return (
        f"; average over {len(columns) - len(without)} of {len(columns)} categories, without "
        f"{', '.join(without)}, whose data cannot give it"
    )


def _listed(values: "pd.Series[Any]") -> str:
    return ", ".join(map(str, sorted(values.unique())))


def _size(size: object) -> str:
    return size_text(size) if isinstance(size, int | list) else str(size)


def _published(row: "pd.Series[Any]") -> str:
    size = "size not stated" if pd.isna(row["image_size"]) else f"read at {row['image_size']} px"
    note = "" if pd.isna(row["note"]) else f"; {row['note']}"
    return f"{row['source']}; protocol: {row['protocol']}; images: {size}{note}"


# Formats ----------------------------------------------------------------------------------------


def _markdown(report: Report) -> str:
    parts = []
    for section in report.sections:
        table = tables.markdown(
            section.means, section.spreads, decimals=section.decimals, ends=section.ends
        )
        title = tables.markdown_text(section.title)
        parts.append(f"### {title}\n\n{table}\n{_bullets(section.footnotes())}")
    return "\n".join([*parts, f"### Notes\n\n{_bullets(report.notes)}"])


def _bullets(lines: list[str]) -> str:
    return "".join(f"- {tables.markdown_text(line)}\n" for line in lines)


def _csv(report: Report) -> str:
    parts = []
    for section in report.sections:
        low, high = section.ends
        long = {"mean": section.means, "low": low, "high": high}
        long |= {"std": section.spreads, "seeds": section.seeds}
        part = pd.DataFrame({name: table.T.unstack() for name, table in long.items()})
        part = part.rename_axis(["row", "category"]).reset_index()
        part.insert(0, "table", section.title)
        parts.append(part.assign(source=part["row"].map(section.sources)))
    return pd.concat(parts).to_csv(index=False)


def _html(report: Report) -> str:
    parts = []
    for section in report.sections:
        cells = section.cells()
        parts += [f"<h2>{html.escape(section.title)}</h2>", cells.to_html(border=0)]
        parts.append(_list(section.footnotes()))
    return PAGE + "\n".join([*parts, "<h2>Notes</h2>", _list(report.notes)]) + "\n"


def _list(lines: list[str]) -> str:
    return "<ul>\n" + "".join(f"<li>{html.escape(line)}</li>\n" for line in lines) + "</ul>"


PAGE = """\
<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<title>FastFlow: tables</title>
<style>
body { font: 14px/1.4 sans-serif; margin: 2em; }
table { border-collapse: collapse; font-size: 12px; }
th, td { padding: 0.2em 0.5em; text-align: right; white-space: nowrap; }
tbody th { text-align: left; }
thead th { border-bottom: 1px solid; }
tbody tr:nth-child(even) { background: #f2f2f2; }
ul { color: #444; font-size: 12px; max-width: 100em; }
</style>
"""


def _latex(report: Report) -> str:
    comments = [r"\usepackage{booktabs, graphicx}", *report.notes]
    parts = ["".join(f"% {' '.join(line.split())}\n" for line in comments)]
    for section in report.sections:
        cells = section.cells()
        cells = cells.map(_tex).rename(index=_tex, columns=_tex)
        table = cells.to_latex(column_format="l" + "r" * cells.shape[1])
        parts.append(
            f"\\begin{{table}}\n\\caption{{{_tex(section.title)}}}\n"
            f"\\resizebox{{\\textwidth}}{{!}}{{%\n{table}}}\n"
            "\\par\\medskip\\raggedright\\scriptsize\n"
            + "".join(f"{_tex(line)}\\par\n" for line in section.footnotes())
            + "\\end{table}\n"
        )
    return "\n".join(parts)


TEX = str.maketrans(
    {sign: f"\\{sign}" for sign in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    | {"±": r"$\pm$", "–": "--"}
    | {"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}"}
)


def _tex(text: str) -> str:
    return " ".join(text.split()).translate(TEX)


FORMATS: dict[str, Callable[[Report], str]] = {
    "markdown": _markdown,
    "csv": _csv,
    "html": _html,
    "latex": _latex,
}
"""What writes a report, by the name of the format."""
