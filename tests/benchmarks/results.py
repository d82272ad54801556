"""Measure the README's results and write its tables; `make results` calls this.

    make results                                         # on the sample set
    make results DATA=MVTEC_ROOT WEIGHTS=resnet18.pth    # on real images as well
    python tests/benchmarks/results.py --tables          # from results.json, nothing measured

Every run is one of `fastflow reproduce`: by its backbone's recipe and nothing else, kept in
``build/results`` and not repeated. The metrics go to ``results.json`` beside this file. The peer's
come from ``peer.py``, whose output is looked for in ``build/results/peer/CATEGORY.jsonl``. Of the
resamples that each run leaves, the intervals of each row are stored and not they themselves. The
command ends with exit code 1 where the results miss a bar: :func:`missed`.
"""

import argparse
import json
import math
import shutil
import statistics
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, get_args

import pandas as pd
from bars import at_least, at_most, stop_if_missed
from PIL import Image

from fastflow_utils.compute import Precision
from fastflow_utils.data.mvtec import MVTecAD, categories, data_root, is_sample_set
from fastflow_utils.data.official import OFFICIAL_COUNTS
from fastflow_utils.detector.intervals import estimate, hanley_mcneil
from fastflow_utils.errors import FastFlowError
from fastflow_utils.experiments import tables as layout
from fastflow_utils.experiments.ablation import compare, image_errors, judge, paired_differences
from fastflow_utils.experiments.animations import wall
from fastflow_utils.experiments.recipes import Recipe, recipe_for
from fastflow_utils.experiments.records import read_replicates
from fastflow_utils.experiments.reproduce import Outcome, plan, reproduce

HERE = Path(__file__).resolve().parent
STORE = HERE / "results.json"
README = HERE.parent.parent / "README.md"
WALL = README.parent / "notebooks" / "figures" / "wall.webp"

CATEGORIES = ("bottle", "metal_nut", "screw", "grid", "transistor")
METHODS = {
    "fastflow": "ours",
    "gaussian": "Gaussian, run here",
    "padim": "PaDiM, run here",
    "subspace": "subspace, run here",
    "patchcore": "PatchCore, run here",
}
BACKBONES = {"efficientnet_lite0": "EfficientNet-Lite0 (default)", "resnet18": "ResNet18"}
SEEDS = (0, 1, 2)
FEWER = {"patchcore": (0,)}  # a minute a run; its coreset is all that a seed changes
HARD = ("cable", "metal_nut", "screw")
METRICS = {
    "image_auroc": "image AUROC",
    "pixel_auroc": "pixel AUROC",
    "pixel_f1": "pixel F1 (oracle)",
    "aupro": "AUPRO",
    "aupimo": "AUPIMO",
}
# Rows of published.yaml that stand beside ours; a later one fills what the first does not have.
PUBLISHED = {
    "anomalib, ResNet18, published [a]": ["anomalib, R18"],
    "anomalib, Wide-ResNet50-2, published [a]": ["anomalib, WRN50"],
    "the paper's FastFlow [b]": ["paper, CaiT", "FastFlow, by U-Flow"],
    "anomalib's PatchCore, ResNet18 [c]": ["anomalib PatchCore R18"],
    "anomalib's PatchCore, Wide-ResNet50-2 [c]": ["anomalib PatchCore WRN50"],
    "anomalib's EfficientAD-S [c]": ["anomalib EfficientAD-S"],
    "MSFlow, Wide-ResNet50-2, last epoch [d]": ["MSFlow, WRN50, last"],
}
NOTES = """\
Published metrics are of the original images (700 to 1024 px). [a] anomalib's README: seed 0, at
the epoch that the test split's pixel AUROC chose; ours are of the last epoch. Its pixel F1 of
Wide-ResNet50-2 on screw (.660) is left out: it repeats the next row's and contradicts the same
table's other metrics. [b] pixel AUROC: the paper's (CaiT), as quoted in U-Flow's table 1; AUPRO:
measured by U-Flow's authors. The paper's image AUROC by category could not be found. [c]
anomalib's README: seed 42, the epoch is not stated. [d] its authors' log, read at 512 px. None of
them gives an interval, though all are of the same few test images."""

LABEL_FREE = """\
What thresholds set without labels give on the same test splits, mean over seeds. They are to
call a tenth of the normal images anomalous and a thousandth of their pixels; the pixel FPR is over
the normal pixels around defects too:"""


Runs = Sequence[dict[str, Any]]  # of one row: the metrics of each seed


def measure(root: Path, recipes: Sequence[Recipe], folder: Path, **more: Any) -> Runs:
    """Return the metrics of all seeds and their resamples: `fastflow reproduce`, each run once.

    Seconds are left out: other processes may have been at work beside them.
    """
    seeds = FEWER.get(recipes[0].method, SEEDS)
    outcomes = reproduce(plan(root, recipes, seeds=seeds, **more), folder, device="cpu")
    return finished_runs(outcomes, folder)


def finished_runs(outcomes: Sequence[Outcome], folder: Path) -> Runs:
    """Return the metrics of runs that are all there, with their resamples."""
    for outcome in outcomes:
        if outcome.metrics is None:
            raise FastFlowError(f"{outcome.job}: {outcome.error}")
    return [
        {name: value for name, value in outcome.metrics.items() if name != "seconds"}
        | {"replicates": read_replicates(folder / outcome.job.place)}
        for outcome in outcomes
        if outcome.metrics is not None
    ]


def to_store(runs: Runs) -> list[dict[str, Any]]:
    """Return the metrics without the resamples, which are large; intervals are rounded."""
    return [
        {name: value for name, value in run.items() if name not in ("replicates", "intervals")}
        | {
            "intervals": {
                metric: [end if end is None else round(end, 5) for end in interval]
                for metric, interval in (run.get("intervals") or {}).items()
            }
        }
        for run in runs
    ]


Ends = list[float] | None  # of an interval, if it is known


def ends(runs: Runs) -> dict[str, Ends]:
    """Return each metric's 95 % interval of a row, over images and seeds; None for none."""
    found: dict[str, Ends] = {}
    for metric, alone in (runs[0].get("intervals") or {}).items():
        if all(run["replicates"] for run in runs):
            whole = estimate(
                [value(run, metric) for run in runs],
                [run["replicates"][metric] for run in runs],
                tuple(math.nan if end is None else end for end in alone),
            )
            known = not math.isnan(whole.low)
            found[metric] = [round(whole.low, 5), round(whole.high, 5)] if known else None
    return found


def value(run: dict[str, Any], metric: str) -> float:
    """Return a metric of a run, by the name that it has in the intervals."""
    label_free = metric.removeprefix("label_free_")
    return float(run[metric] if label_free == metric else run["label_free"][label_free])


def on_real_images(
    data: Path, weights: Path | None, folder: Path, *, default_alone: bool = False
) -> dict[str, Any]:
    """Return the metrics of all runs, and what the images were."""
    own = {"resnet18": weights} if weights else {}
    names = ("efficientnet_lite0", "resnet18" if weights else "resnet18.tv_in1k")  # the hub's
    measured: list[dict[str, Any]] = []
    for name, of in zip(names, (CATEGORIES, CATEGORIES[:3]), strict=True):  # a large flow is slow
        if default_alone and name != names[0]:
            continue
        weighed = own if name in own else {}
        measured += measure(data, [recipe_for(name)], folder, names=of, weights=weighed)
    for method in METHODS:
        if method != "fastflow":
            measured += measure(data, [recipe_for(method=method)], folder, names=CATEGORIES)
    rows: dict[str, list[dict[str, Any]]] = {}
    for run in measured:
        backbone = run["recipe"]["backbone"].partition(".")[0]
        method = run["recipe"].get("method", "fastflow")
        rows.setdefault(row_name(method, backbone, run["category"]), []).append(run)
    found: dict[str, Any] = {
        "images": {},
        "runs": {name: to_store(runs) for name, runs in rows.items()},
        "intervals": {name: ends(runs) for name, runs in rows.items()},
    }
    for category in CATEGORIES:
        train, test = (MVTecAD(data, category, split) for split in ("train", "test"))
        with Image.open(train.paths[0]) as image:
            pixels = image.width
        found["images"][category] = {"train": len(train), "test": len(test), "pixels": pixels}
    return found


def row_name(method: str, backbone: str, category: str) -> str:
    """Return the name that a row has in the store.

    Example:
        >>> row_name("fastflow", "resnet18", "screw"), row_name("padim", "resnet18", "screw")
        ('resnet18 screw', 'padim resnet18 screw')
    """
    return f"{backbone} {category}" if method == "fastflow" else f"{method} {backbone} {category}"


def in_both_formats(folder: Path) -> Runs:
    """Return the metrics of the hard categories of the sample set in float32 and in bfloat16."""
    recipes = [recipe_for(precision=name) for name in get_args(Precision)]
    return [
        metrics
        for recipe in recipes
        for metrics in measure(data_root(), [recipe], folder, names=HARD)
    ]


def of_the_peer(folder: Path) -> dict[str, Any]:
    """Return its last epoch's metrics, of the categories that it was run on here."""
    found = {}
    for file in sorted(folder.glob("*.jsonl")):
        last = json.loads(file.read_text().splitlines()[-1])
        found[file.stem] = {k: v for k, v in last.items() if k in ("epoch", *METRICS)}
    return found


def on_the_sample_set(folder: Path) -> Runs:
    """Return the metrics of the default recipe on all fifteen categories; draw their wall."""
    root = data_root()
    if not is_sample_set(root, categories(root)[0]):
        raise FastFlowError("$FASTFLOW_DATA names other images: unset it for the sample set")
    measured = measure(root, [recipe_for()], folder)
    first = [folder / job.place for job in plan(root, [recipe_for()], seeds=SEEDS[:1])]
    _, picture = wall(first, folder, root)
    shutil.copy(picture, WALL)
    return measured


def stop_unless_complete(files: Iterable[Path]) -> None:
    """Leave the tables of other benchmarks to whichever of several processes ends last."""
    missing = [str(file) for file in files if not file.exists()]
    if missing:
        sys.exit(f"{len(missing)} runs are another process's, or failed: {missing[0]}, ...")


def methods_on_the_sample_set(flow: Runs, folder: Path) -> dict[str, dict[str, Any]]:
    """Return each other method's means over the fifteen categories, and how it compares.

    Each is of seed 0, and compared with FastFlow's seed 0 on the same resamples of the images.
    """
    runs = [run for run in flow if run["seed"] == 0]
    found: dict[str, dict[str, Any]] = {"fastflow": {"means": means_of(runs)}}
    of_others = {}
    for method in METHODS:
        if method != "fastflow":
            recipe = recipe_for(method=method)
            outcomes = reproduce(plan(data_root(), [recipe], seeds=(0,)), folder, device="cpu")
            of_others[method] = finished_runs(outcomes, folder)
            found[method] = {"means": means_of(of_others[method])}
    everybody = {"fastflow": runs, **of_others}
    for metric in COLUMNS:
        values = {
            (method, run["category"], 0): run[metric]
            for method, own in everybody.items()
            for run in own
        }
        drawn = pd.DataFrame(
            {
                (method, run["category"], 0): run["replicates"][metric]
                for method, own in everybody.items()
                for run in own
            }
        ).T
        judged = judge(
            paired_differences(pd.Series(values), "fastflow"), image_errors(drawn, "fastflow")
        )
        for method, row in judged.iterrows():
            ends_of = [round(float(row[end]), 5) for end in ("mean", "low", "high")]
            kept = {"difference": ends_of, "p": round(float(row["p"]), 5)}
            kept |= {name: row[name] for name in ("better", "worse", "verdict")}
            found[str(method)][metric] = kept
    return found


def means_of(runs: Runs) -> dict[str, float]:
    return {metric: round(statistics.mean(run[metric] for run in runs), 5) for metric in COLUMNS}


def methods_table(found: dict[str, dict[str, Any]]) -> str:
    """Return as Markdown what the flow is worth: a row for each method, beside FastFlow."""
    lines = [
        f"| **sample set**, mean of 15 categories | {' | '.join(COLUMNS.values())} | "
        "image AUROC better on | worse on |",
        "|---|" + "---:|" * len(COLUMNS) + "---|---|",
    ]
    for method, row in found.items():
        cells = []
        for metric in COLUMNS:
            mean = f"{row['means'][metric]:.3f}"
            if metric in row:
                difference, low, high = row[metric]["difference"]
                mean += f" ({difference:+.3f}: {low:+.3f} to {high:+.3f})"
            cells.append(mean)
        where = [
            (row["image_auroc"][name] or "none") if "image_auroc" in row else ""
            for name in ("better", "worse")
        ]
        who = "**FastFlow**" if method == "fastflow" else METHODS[method].partition(",")[0]
        lines.append(f"| {who} | {' | '.join([*cells, *where])} |")
    lines += [
        "",
        "Seed 0, default backbone. In brackets, the difference to FastFlow with its 95 % interval "
        "over test images, paired. The last columns name the categories whose difference is "
        "clear after Holm's correction for all methods and categories.",
    ]
    return "\n".join(lines) + "\n"


def spread(values: list[float]) -> str:
    """Return mean and standard deviation over the seeds.

    Example:
        >>> spread([0.90, 0.91, 0.92])
        '0.910 ± 0.010'
    """
    mean = f"{statistics.mean(values):.3f}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.3f}"


def cell(values: list[float], interval: Ends = None) -> str:
    """Return mean and interval, or mean and standard deviation where there is none.

    Example:
        >>> cell([0.90, 0.92], [0.853, 0.961])
        '0.910 (0.853–0.961)'
        >>> cell([0.90, 0.92])
        '0.910 ± 0.014'
    """
    if interval is None:
        return spread(values)
    low, high = interval
    return f"{statistics.mean(values):.3f} ({low:.3f}–{high:.3f})"


def legend(every: Iterable[Any], seeds: int) -> str:
    """Return a sentence on the cells of a table, some of which may be of before the intervals."""
    known = [interval is not None for interval in every]
    sentences = []
    if any(known):
        sentences.append(
            f"Ours: mean of {seeds} seeds (95 % interval over test images and seeds together)."
        )
    if not all(known):
        sentences.append(
            f"± is the standard deviation over {seeds} seeds alone, on the same test images: "
            "other images would add more."
        )
    return " ".join(sentences)


def line(name: str, values: dict[str, float]) -> str:
    cells = [f"{values[metric]:.3f}" if metric in values else "" for metric in METRICS]
    return f"| {name} | {' | '.join(cells)} |"


def published(names: Sequence[str], category: str) -> dict[str, float]:
    """Return what is published of a category, by metric."""
    found = {}
    for metric in METRICS:
        rows = layout.published(metric).reindex(names)[layout.LAYOUT[category]].dropna()
        if len(rows):
            found[metric] = float(rows.iloc[0])
    return found


def precision(runs: Iterable[dict[str, Any]]) -> str:
    """Return a sentence that says what the runs were computed in."""
    named = {run["recipe"].get("precision", "not recorded") for run in runs}
    return f"Precision of the convolutions: {', '.join(sorted(named))}."


COLUMNS = {**layout.TABLES, "aupro": "AUPRO"}  # of the sample set's table


def sample_set_ends(measured: Runs) -> dict[str, dict[str, Ends]]:
    """Return each metric's intervals, by the column of the category."""
    runs = layout.as_runs(measured)
    found = {metric: layout.estimates(runs, metric)[["low", "high"]] for metric in COLUMNS}
    return {
        metric: {
            str(name): None if row.isna().any() else row.astype(float).round(5).tolist()
            for name, row in table.iterrows()
        }
        for metric, table in found.items()
    }


def sample_set_table(measured: Runs, intervals: dict[str, dict[str, Ends]]) -> str:
    """Return the sample set's table as Markdown: a row for each category, and their average."""
    runs = layout.as_runs(measured)
    both = {metric: layout.mean_and_spread(runs, metric) for metric in COLUMNS}
    lines = [f"| **sample set** | {' | '.join(COLUMNS.values())} |"]
    lines.append("|---|" + "---:|" * len(COLUMNS))
    every = []
    for name in next(iter(both.values()))[0].index:
        cells = []
        for metric, (mean, std) in both.items():
            every.append(intervals.get(metric, {}).get(name))
            known = every[-1]
            more = f"± {std[name]:.3f}" if known is None else f"({known[0]:.3f}–{known[1]:.3f})"
            cells.append(f"{mean[name]:.3f} {more}")
        bold = "**" if name == layout.AVERAGE else ""
        lines.append(f"| {bold}{name}{bold} | {' | '.join(cells)} |")
    lines += ["", f"{legend(every, len(SEEDS))} {precision(measured)}"]
    return "\n".join(lines) + "\n"


SHORT, PLAIN = "bfloat16", "float32"


def by_format(measured: Runs, metric: str) -> "pd.Series[float]":
    """Return a metric with the index (format, category, seed)."""
    return pd.Series({place(run): run[metric] for run in measured})


def place(run: dict[str, Any]) -> tuple[str, str, int]:
    return run["recipe"]["precision"], run["category"], run["seed"]


def judged_formats(measured: Runs) -> dict[str, list[float]]:
    """Return mean and interval of the difference between formats, over images and seeds."""
    found = {}
    for metric in METRICS:
        if all(run["replicates"] for run in measured):
            drawn = pd.DataFrame({place(run): run["replicates"][metric] for run in measured}).T
            differences = paired_differences(by_format(measured, metric), PLAIN)
            row = judge(differences, image_errors(drawn, PLAIN)).loc[SHORT]
            found[metric] = [round(float(row[end]), 6) for end in ("mean", "low", "high")]
    return found


def formats_table(measured: Runs, judged: dict[str, list[float]]) -> str:
    """Return what the number format changes as Markdown: a row for each metric."""
    lines = [
        f"| **sample set**: {', '.join(HARD)} | {PLAIN} | {SHORT} | {SHORT} - {PLAIN} |",
        "|---|---:|---:|---:|",
    ]
    for metric, name in METRICS.items():
        values = by_format(measured, metric)
        means = values.groupby(level=0).mean()
        of_seeds = compare(paired_differences(values, PLAIN)).loc[SHORT]
        mean, low, high = judged.get(metric) or of_seeds[["mean", "low", "high"]]
        lines.append(
            f"| {name} | {means[PLAIN]:.4f} | {means[SHORT]:.4f} | "
            f"{mean:+.4f} ({low:+.4f} to {high:+.4f}) |"
        )
    over = "test images and seeds together" if judged else "seeds alone, on the same test images"
    lines += ["", f"In brackets, the 95 % interval of the paired difference, over {over}."]
    return "\n".join(lines) + "\n"


def rows_of(store: dict[str, Any], category: str) -> dict[str, str]:
    """Return our rows of a category: their names in the store, and what a reader is shown."""
    return {
        name: f"{who}, {network}{_fewer(store['runs'][name])}"
        for method, who in METHODS.items()
        for backbone, network in BACKBONES.items()
        if (name := row_name(method, backbone, category)) in store["runs"]
    }


def _fewer(runs: Runs) -> str:
    """Return what a reader must know of a row that is not like the others."""
    old = "" if "upright" in runs[0] else " (older map and score)"
    return old if len(runs) == len(SEEDS) else f" ({len(runs)} seed{'s' * (len(runs) > 1)}){old}"


def from_images(store: dict[str, Any]) -> str:
    """Return a sentence on what the test images alone make uncertain, where nothing else tells."""
    area = statistics.mean(run["image_auroc"] for run in store["runs"]["resnet18 screw"])
    _, normal, anomalous = OFFICIAL_COUNTS["screw"]
    error = 1.96 * hanley_mcneil(area, normal, anomalous)
    return (
        f"Of screw's {normal} good and {anomalous} anomalous images, ResNet18's image AUROC is "
        f"{area:.3f} ± {error:.3f} (95 %, by Hanley and McNeil's formula)."
    )


def tables(store: dict[str, Any]) -> str:
    """Return the tables of real images as Markdown."""
    lines = []
    intervals = store.get("intervals", {})
    shown = [category for category in CATEGORIES if category in store["images"]]
    every = []
    for category in shown:
        images = store["images"][category]
        lines += [
            f"**{category}** ({images['train']} training and {images['test']} test images of "
            f"{images['pixels']} px, read at 256 px)",
            "",
            f"| | {' | '.join(METRICS.values())} |",
            f"|---|{'---:|' * len(METRICS)}",
        ]
        for row, name in rows_of(store, category).items():
            known = [intervals.get(row, {}).get(metric) for metric in METRICS]
            every += known
            cells = [
                cell([run[metric] for run in store["runs"][row]], interval)
                for metric, interval in zip(METRICS, known, strict=True)
            ]
            shown_name = f"**{name}**" if name.startswith("ours") else name
            lines.append(f"| {shown_name} | {' | '.join(cells)} |")
        if category in store["peer"]:
            peer = store["peer"][category]
            lines.append(line(f"anomalib 2.7, ResNet18, {peer['epoch']} epochs, run here", peer))
        for name, rows in PUBLISHED.items():
            if found := published(rows, category):
                lines.append(line(name, found))
        lines.append("")
    all_runs = [run for runs in store["runs"].values() for run in runs]
    about = [legend(every, len(SEEDS)), *([from_images(store)] if None in every else [])]
    lines += [
        f"{' '.join(about)} {precision(all_runs)}",
        "",
        NOTES,
        "",
        LABEL_FREE,
        "",
        "| | image FPR | image F1 | its oracle | pixel FPR | pixel F1 | its oracle |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for category in shown:
        for row, name in rows_of(store, category).items():
            cells = []
            for metric in DECISIONS:
                mean = statistics.mean(value(run, metric) for run in store["runs"][row])
                interval = intervals.get(row, {}).get(metric)
                more = f" ({interval[0]:.3f}–{interval[1]:.3f})" if interval else ""
                cells.append(f"{mean:.3f}{more}")
            lines.append(f"| {category}, {name.removeprefix('ours, ')} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


DECISIONS = (
    *("label_free_image_fpr", "label_free_image_f1", "image_f1"),
    *("label_free_pixel_fpr", "label_free_pixel_f1", "pixel_f1"),
)


# The least that the recipes must reach, mean of three seeds, last epoch.
BARS = {
    "resnet18 bottle": (0.999, 0.982, 0.70, 0.94),
    "resnet18 metal_nut": (0.992, 0.975, 0.75, 0.90),
    "resnet18 screw": (0.90, 0.98, 0.25, 0.90),
    "efficientnet_lite0 bottle": (0.999, 0.988, 0.75, 0.95),
    "efficientnet_lite0 metal_nut": (0.994, 0.99, 0.85, 0.94),
    "efficientnet_lite0 screw": (0.95, 0.99, 0.5, 0.95),
    "efficientnet_lite0 grid": (0.97, 0.975, 0.4, 0.93),
    "efficientnet_lite0 transistor": (0.97, 0.965, 0.6, 0.90),
}


def missed(store: dict[str, Any]) -> list[str]:
    """Return a sentence for each bar that the results miss."""
    found = []
    for name, bars in BARS.items():
        runs = store["runs"][name]
        for metric, bar in zip(
            ("image_auroc", "pixel_auroc", "pixel_f1", "aupro"), bars, strict=True
        ):
            found += at_least(
                f"{name}, {metric}", statistics.mean(one[metric] for one in runs), bar
            )
    sample_set = statistics.mean(one["image_auroc"] for one in store["sample_set"])
    found += at_least("sample set, image_auroc", sample_set, 0.93)
    return found + at_most("sample set, image_auroc", sample_set, 0.99)


def written(text: str, block: str, name: str) -> str:
    """Return a page's text with ``block`` between its markers.

    Example:
        >>> page = "# Page\\n<!-- begin x -->\\nold\\n<!-- end x -->\\n"
        >>> print(written(page, "new", "x"), end="")
        # Page
        <!-- begin x -->
        new
        <!-- end x -->
    """
    begin, end = f"<!-- begin {name} -->\n", f"<!-- end {name} -->"
    before, found, rest = text.partition(begin)
    _, found_end, after = rest.partition(end)
    if not (found and found_end):
        raise FastFlowError(f"the page lacks the lines '{begin.strip()}' and '{end}'")
    return before + begin + block.strip() + "\n" + end + after


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--data", type=Path, help="holds bottle, metal_nut, screw, grid, transistor"
    )
    parser.add_argument("--weights", type=Path, help="of ResNet18; default: the hub's")
    parser.add_argument("--folder", type=Path, default=Path("build/results"))
    parser.add_argument(
        "--default",
        action="store_true",
        help="leave what is stored of ResNet18 and of number formats as it is",
    )
    parser.add_argument("--tables", action="store_true", help="measure nothing")
    arguments = parser.parse_args()
    try:
        store = json.loads(STORE.read_text())
        if not arguments.tables:
            drawn = on_the_sample_set(arguments.folder / "sample_set")
            store["sample_set"] = to_store(drawn)
            store["sample_set_intervals"] = sample_set_ends(drawn)
            folder = arguments.folder / "sample_set"
            store["methods"] = methods_on_the_sample_set(drawn, folder)
            if not arguments.default:
                formats = in_both_formats(folder)
                store["formats"] = to_store(formats)
                store["formats_judged"] = judged_formats(formats)
            if arguments.data:
                folder = arguments.folder / "mvtec_ad"
                found = on_real_images(
                    arguments.data, arguments.weights, folder, default_alone=arguments.default
                )
                kept = {name: store.get(name, {}) | found[name] for name in ("runs", "intervals")}
                store |= {"images": found["images"], **kept}
                store["peer"] |= of_the_peer(arguments.folder / "peer")
            STORE.write_text(json.dumps(store, indent=1) + "\n")
        page = README.read_text()
        for name, block in blocks(store).items():
            print(block)
            page = written(page, block, name)
        README.write_text(page)
        stop_if_missed(missed(store))
    except FastFlowError as error:
        sys.exit(f"error: {error}")


def blocks(store: dict[str, Any]) -> dict[str, str]:
    """Return what stands between the README's markers."""
    return {
        "results-sample-set": sample_set_table(
            store["sample_set"], store.get("sample_set_intervals", {})
        ),
        **({"results-methods": methods_table(store["methods"])} if "methods" in store else {}),
        "results-formats": formats_table(store["formats"], store.get("formats_judged", {})),
        "results": tables(store),
    }


if __name__ == "__main__":
    main()
