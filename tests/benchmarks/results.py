"""Measure the README's results and write its tables; `make results` calls this.

    make results                                         # on the sample set
    make results DATA=MVTEC_ROOT WEIGHTS=resnet18.pth    # on real images as well
    python tests/benchmarks/results.py --tables          # from results.json, nothing measured

Every run is one of `fastflow reproduce`: by its backbone's recipe and nothing else, kept in
``build/results`` and not repeated. The metrics go to ``results.json`` beside this file. The peer's
come from ``peer.py``, whose output is looked for in ``build/results/peer/CATEGORY.jsonl``. The
command ends with exit code 1 where the results miss a bar: :func:`missed`.
"""

import argparse
import json
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
from fastflow_utils.errors import FastFlowError
from fastflow_utils.experiments import tables as layout
from fastflow_utils.experiments.ablation import compare, paired_differences
from fastflow_utils.experiments.animations import wall
from fastflow_utils.experiments.recipes import Recipe, recipe_for
from fastflow_utils.experiments.reproduce import plan, reproduce

HERE = Path(__file__).resolve().parent
STORE = HERE / "results.json"
README = HERE.parent.parent / "README.md"
WALL = README.parent / "notebooks" / "figures" / "wall.webp"

CATEGORIES = ("bottle", "metal_nut", "screw")
BACKBONES = {"efficientnet_lite0": "EfficientNet-Lite0 (default)", "resnet18": "ResNet18"}
SEEDS = (0, 1, 2)
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
}
NOTES = """\
Published metrics are of the original images (700 to 1024 px). [a] anomalib's README: seed 0, at
the epoch that the test split's pixel AUROC chose; ours are of the last epoch. Its pixel F1 of
Wide-ResNet50-2 on screw (.660) is left out: it repeats the next row's and contradicts the same
table's other metrics. [b] pixel AUROC: the paper's (CaiT), as quoted in U-Flow's table 1; AUPRO:
measured by U-Flow's authors. The paper's image AUROC by category could not be found."""

LABEL_FREE = """\
What thresholds set without labels give on the same test splits, mean of three seeds. They are to
call a tenth of the normal images anomalous and a thousandth of their pixels; the pixel FPR is over
the normal pixels around defects too:"""


def measure(
    root: Path, recipes: Sequence[Recipe], folder: Path, **more: Any
) -> list[dict[str, Any]]:
    """Return the metrics of all seeds, each run done once: `fastflow reproduce`.

    Seconds are left out: other processes may have been at work beside them.
    """
    outcomes = reproduce(plan(root, recipes, seeds=SEEDS, **more), folder, device="cpu")
    for outcome in outcomes:
        if outcome.metrics is None:
            raise FastFlowError(f"{outcome.job}: {outcome.error}")
    return [
        {name: value for name, value in outcome.metrics.items() if name != "seconds"}
        for outcome in outcomes
        if outcome.metrics is not None
    ]


def on_real_images(data: Path, weights: Path | None, folder: Path) -> dict[str, Any]:
    """Return the metrics of all runs, and what the images were."""
    own = {"resnet18": weights} if weights else {}
    names = ("efficientnet_lite0", "resnet18" if weights else "resnet18.tv_in1k")  # the hub's
    recipes = [recipe_for(name) for name in names]
    measured = measure(data, recipes, folder, names=CATEGORIES, weights=own)
    found: dict[str, Any] = {"images": {}, "runs": {}}
    for metrics in measured:
        backbone = metrics["recipe"]["backbone"].partition(".")[0]
        found["runs"].setdefault(f"{backbone} {metrics['category']}", []).append(metrics)
    for category in CATEGORIES:
        train, test = (MVTecAD(data, category, split) for split in ("train", "test"))
        with Image.open(train.paths[0]) as image:
            pixels = image.width
        found["images"][category] = {"train": len(train), "test": len(test), "pixels": pixels}
    return found


def in_both_formats(folder: Path) -> list[dict[str, Any]]:
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


def on_the_sample_set(folder: Path) -> list[dict[str, Any]]:
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


def spread(values: list[float]) -> str:
    """Return mean and standard deviation over the seeds.

    Example:
        >>> spread([0.90, 0.91, 0.92])
        '0.910 ± 0.010'
    """
    return f"{statistics.mean(values):.3f} ± {statistics.stdev(values):.3f}"


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


def sample_set_table(measured: Sequence[dict[str, Any]]) -> str:
    """Return the sample set's table as Markdown: a row for each category, and their average."""
    runs = layout.as_runs(measured)
    columns = {**layout.TABLES, "aupro": "AUPRO"}
    both = {metric: layout.mean_and_spread(runs, metric) for metric in columns}
    lines = [f"| **sample set** | {' | '.join(columns.values())} |"]
    lines.append("|---|" + "---:|" * len(columns))
    for name in next(iter(both.values()))[0].index:
        cells = [f"{mean[name]:.3f} ± {std[name]:.3f}" for mean, std in both.values()]
        bold = "**" if name == layout.AVERAGE else ""
        lines.append(f"| {bold}{name}{bold} | {' | '.join(cells)} |")
    lines += ["", precision(measured)]
    return "\n".join(lines) + "\n"


def formats_table(measured: Sequence[dict[str, Any]]) -> str:
    """Return what the number format changes as Markdown: a row for each metric."""
    short, plain = "bfloat16", "float32"
    lines = [
        f"| **sample set**: {', '.join(HARD)} | {plain} | {short} | {short} - {plain} |",
        "|---|---:|---:|---:|",
    ]
    for metric, name in METRICS.items():
        values = pd.Series(
            {
                (run["recipe"]["precision"], run["category"], run["seed"]): run[metric]
                for run in measured
            }
        )
        means = values.groupby(level=0).mean()
        row = compare(paired_differences(values, plain)).loc[short]
        lines.append(
            f"| {name} | {means[plain]:.4f} | {means[short]:.4f} | "
            f"{row['mean']:+.4f} ({row['low']:+.4f} to {row['high']:+.4f}) |"
        )
    return "\n".join(lines) + "\n"


def tables(store: dict[str, Any]) -> str:
    """Return the tables of real images as Markdown."""
    lines = []
    for category in CATEGORIES:
        images = store["images"][category]
        lines += [
            f"**{category}** ({images['train']} training and {images['test']} test images of "
            f"{images['pixels']} px, read at 256 px)",
            "",
            f"| | {' | '.join(METRICS.values())} |",
            f"|---|{'---:|' * len(METRICS)}",
        ]
        for backbone, name in BACKBONES.items():
            runs = store["runs"][f"{backbone} {category}"]
            cells = [spread([run[metric] for run in runs]) for metric in METRICS]
            lines.append(f"| **ours, {name}** | {' | '.join(cells)} |")
        if category in store["peer"]:
            peer = store["peer"][category]
            lines.append(line(f"anomalib 2.7, ResNet18, {peer['epoch']} epochs, run here", peer))
        for name, rows in PUBLISHED.items():
            lines.append(line(name, published(rows, category)))
        lines.append("")
    all_runs = [run for runs in store["runs"].values() for run in runs]
    lines += [
        precision(all_runs),
        "",
        NOTES,
        "",
        LABEL_FREE,
        "",
        "| | image FPR | image F1 | its oracle | pixel FPR | pixel F1 | its oracle |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for category in CATEGORIES:
        for backbone, name in BACKBONES.items():
            runs = store["runs"][f"{backbone} {category}"]
            cells = []
            for level in ("image", "pixel"):
                values = [
                    [run["label_free"][f"{level}_{kind}"] for run in runs]
                    for kind in ("fpr", "f1")
                ]
                values.append([run[f"{level}_f1"] for run in runs])
                cells += [f"{statistics.mean(v):.3f}" for v in values]
            lines.append(f"| {category}, {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


# The least that the recipes must reach, mean of three seeds, last epoch.
BARS = {
    "resnet18 bottle": (0.999, 0.982, 0.70, 0.94),
    "resnet18 metal_nut": (0.992, 0.975, 0.75, 0.90),
    "resnet18 screw": (0.90, 0.98, 0.25, 0.90),
    "efficientnet_lite0 bottle": (0.998, 0.980, 0.68, 0),
    "efficientnet_lite0 metal_nut": (0.985, 0.970, 0.72, 0),
    "efficientnet_lite0 screw": (0.80, 0.97, 0.15, 0),
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
    parser.add_argument("--data", type=Path, help="holds bottle, metal_nut and screw")
    parser.add_argument("--weights", type=Path, help="of ResNet18; default: the hub's")
    parser.add_argument("--folder", type=Path, default=Path("build/results"))
    parser.add_argument("--tables", action="store_true", help="measure nothing")
    arguments = parser.parse_args()
    try:
        store = json.loads(STORE.read_text())
        if not arguments.tables:
            store["sample_set"] = on_the_sample_set(arguments.folder / "sample_set")
            store["formats"] = in_both_formats(arguments.folder / "sample_set")
            if arguments.data:
                folder = arguments.folder / "mvtec_ad"
                store |= on_real_images(arguments.data, arguments.weights, folder)
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
        "results-sample-set": sample_set_table(store["sample_set"]),
        "results-formats": formats_table(store["formats"]),
        "results": tables(store),
    }


if __name__ == "__main__":
    main()
