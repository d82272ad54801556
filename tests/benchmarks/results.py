"""Measure the README's results on real images and write its tables; `make results` calls this.

    make results DATA=MVTEC_ROOT WEIGHTS=resnet18.pth    # measure what is missing, then write
    make results                                         # write the tables from results.json

Measures three categories with two backbones and three seeds, each by its backbone's recipe and
nothing else, as `fastflow run` does. What is in ``build/results`` already is not measured again,
and several of it share the work. The figures are kept in ``results.json`` beside this file. The
peer's come from ``peer.py``, whose output is looked for in ``build/results/peer/CATEGORY.jsonl``.
"""

import argparse
import contextlib
import json
import statistics
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from PIL import Image

from fastflow_utils.datasets import MVTecAD
from fastflow_utils.errors import FastFlowError
from fastflow_utils.recipes import recipe_for
from fastflow_utils.runs import run

HERE = Path(__file__).resolve().parent
STORE = HERE / "results.json"
README = HERE.parent.parent / "README.md"

CATEGORIES = ("bottle", "metal_nut", "screw")
BACKBONES = {"efficientnet_lite0": "EfficientNet-Lite0 (default)", "resnet18": "ResNet18"}
SEEDS = (0, 1, 2)
FIGURES = {
    "image_auroc": "image AUROC",
    "pixel_auroc": "pixel AUROC",
    "pixel_f1": "pixel F1 (oracle)",
    "aupro": "AUPRO",
    "aupimo": "AUPIMO",
}
PUBLISHED = {
    "anomalib, ResNet18, published [a]": {
        "bottle": {"image_auroc": 1.000, "pixel_auroc": 0.983, "pixel_f1": 0.670},
        "metal_nut": {"image_auroc": 0.963, "pixel_auroc": 0.972, "pixel_f1": 0.728},
        "screw": {"image_auroc": 0.521, "pixel_auroc": 0.926, "pixel_f1": 0.061},
    },
    "anomalib, Wide-ResNet50-2, published [a]": {
        "bottle": {"image_auroc": 1.000, "pixel_auroc": 0.986, "pixel_f1": 0.733},
        "metal_nut": {"image_auroc": 0.995, "pixel_auroc": 0.988, "pixel_f1": 0.754},
        "screw": {"image_auroc": 0.839, "pixel_auroc": 0.966},
    },
    "the paper's FastFlow [b]": {
        "bottle": {"pixel_auroc": 0.977, "aupro": 0.9155},
        "metal_nut": {"pixel_auroc": 0.985, "aupro": 0.9105},
        "screw": {"pixel_auroc": 0.994, "aupro": 0.6700},
    },
}
NOTES = """\
Published figures are of the original images (700 to 1024 px). [a] anomalib's README: seed 0, at
the epoch that the test split's pixel AUROC chose; ours are of the last epoch. Its pixel F1 of
Wide-ResNet50-2 on screw (.660) is left out: it repeats the next row's and contradicts the same
table's other figures. [b] pixel AUROC: the paper's (CaiT), as quoted in U-Flow's table 1; AUPRO:
measured by U-Flow's authors. The paper's image AUROC by category could not be found."""

LABEL_FREE = """\
What thresholds set without labels give on the same test splits, mean of three seeds. They are to
call a tenth of the normal images anomalous and a thousandth of their pixels; the pixel FPR is over
the normal pixels around defects too:"""


def measure(data: Path, weights: Path | None, folder: Path) -> None:
    """Do every run whose ``metrics.json`` is missing."""
    for backbone in BACKBONES:
        for category in CATEGORIES:
            for seed in SEEDS:
                output = folder / backbone / category / f"seed{seed}"
                output.mkdir(parents=True, exist_ok=True)
                with contextlib.suppress(Timeout), FileLock(output / "lock", timeout=0):
                    if (output / "metrics.json").exists():
                        continue
                    given = weights if backbone == "resnet18" else None
                    recipe = recipe_for(backbone)
                    if backbone == "resnet18" and not weights:
                        recipe = recipe_for("resnet18.tv_in1k")  # torchvision's, from the hub
                    metrics = run(recipe, data, category, output, seed=seed, weights=given).metrics
                    line = " ".join(f"{metrics[name]:.4f}" for name in FIGURES)
                    print(f"{backbone:20} {category:10} seed {seed}  {line}", flush=True)


def stop_unless_complete(files: Iterable[Path]) -> None:
    """Leave the tables to whichever process ends last."""
    missing = [str(file) for file in files if not file.exists()]
    if missing:
        sys.exit(f"{len(missing)} runs are another process's, or failed: {missing[0]}, ...")


def collect(data: Path, folder: Path) -> dict[str, Any]:
    """Return the figures of all runs, of the peer, and what the images were."""
    files = {
        (backbone, category): [
            folder / backbone / category / f"seed{seed}" / "metrics.json" for seed in SEEDS
        ]
        for backbone in BACKBONES
        for category in CATEGORIES
    }
    stop_unless_complete(file for seeds in files.values() for file in seeds)
    store: dict[str, Any] = {"images": {}, "runs": {}, "peer": {}}
    for category in CATEGORIES:
        train, test = (MVTecAD(data, category, split) for split in ("train", "test"))
        with Image.open(train.paths[0]) as image:
            pixels = image.width
        store["images"][category] = {"train": len(train), "test": len(test), "pixels": pixels}
        peer = folder / "peer" / f"{category}.jsonl"
        if peer.exists():
            last = json.loads(peer.read_text().splitlines()[-1])
            store["peer"][category] = {k: v for k, v in last.items() if k in ("epoch", *FIGURES)}
        for backbone in BACKBONES:
            measured = [json.loads(file.read_text()) for file in files[backbone, category]]
            for metrics in measured:
                del metrics["seconds"]  # several may have run at once
            store["runs"][f"{backbone} {category}"] = measured
    return store


def spread(values: list[float]) -> str:
    """Return mean and standard deviation over the seeds.

    Example:
        >>> spread([0.90, 0.91, 0.92])
        '0.910 ± 0.010'
    """
    return f"{statistics.mean(values):.3f} ± {statistics.stdev(values):.3f}"


def line(name: str, values: dict[str, float]) -> str:
    cells = [f"{values[figure]:.3f}" if figure in values else "" for figure in FIGURES]
    return f"| {name} | {' | '.join(cells)} |"


def tables(store: dict[str, Any]) -> str:
    """Return the README's tables as Markdown."""
    lines = []
    for category in CATEGORIES:
        images = store["images"][category]
        lines += [
            f"**{category}** ({images['train']} training and {images['test']} test images of "
            f"{images['pixels']} px, read at 256 px)",
            "",
            f"| | {' | '.join(FIGURES.values())} |",
            f"|---|{'---:|' * len(FIGURES)}",
        ]
        for backbone, name in BACKBONES.items():
            runs = store["runs"][f"{backbone} {category}"]
            cells = [spread([run[figure] for run in runs]) for figure in FIGURES]
            lines.append(f"| **ours, {name}** | {' | '.join(cells)} |")
        if category in store["peer"]:
            peer = store["peer"][category]
            lines.append(line(f"anomalib 2.7, ResNet18, {peer['epoch']} epochs, run here", peer))
        for name, values in PUBLISHED.items():
            lines.append(line(name, values[category]))
        lines.append("")
    lines += [
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
    arguments = parser.parse_args()
    try:
        if arguments.data:
            measure(arguments.data, arguments.weights, arguments.folder)
            store = collect(arguments.data, arguments.folder)
            STORE.write_text(json.dumps(store, indent=1) + "\n")
        block = tables(json.loads(STORE.read_text()))
        README.write_text(written(README.read_text(), block, "results"))
        print(block)
    except FastFlowError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
