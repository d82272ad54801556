"""Measure how hard the sample set is, how fast it is made and how large it is.

    make sample-set                      # measure what is missing, then write the page's tables
    python tests/benchmarks/sample_set.py --tables    # write the tables from sample_set.json

Three sets, each of another seed, and a detector of that seed on each of the fifteen categories:

- a Gaussian for every pixel (mean and variance per position and channel), notebook 01's baseline;
- FastFlow by the default recipe, last epoch, as `fastflow run` does;
- for the first seed, the same model on test images of one severity each.

What is in ``build/sample_set`` already is not measured again, and several processes share the
work. The results are kept in ``sample_set.json`` beside this file. The command ends with exit code
1 where they miss a bar: :func:`missed`.
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from bars import at_least, at_most, stop_if_missed
from filelock import FileLock, Timeout
from PIL import Image
from results import spread, stop_unless_complete, written

from fastflow_utils.data.mvtec import MVTecAD
from fastflow_utils.data.sample_set import CATEGORIES, defects, make, render
from fastflow_utils.data.sample_set.gallery import contact_sheet
from fastflow_utils.data.sample_set.writing import VERSION
from fastflow_utils.detector.evaluation import evaluate
from fastflow_utils.detector.features import extract
from fastflow_utils.detector.maps import image_score
from fastflow_utils.detector.metrics import auroc
from fastflow_utils.experiments.recipes import recipe_for
from fastflow_utils.experiments.run import run

HERE = Path(__file__).resolve().parent
STORE = HERE / "sample_set.json"
PAGE = HERE / "README.md"
SHEET = HERE.parent.parent / "notebooks" / "figures" / "sample_set.jpg"
SEEDS = (0, 1, 2)
SEVERITIES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
METRICS = ("image_auroc", "pixel_auroc", "pixel_f1", "aupro", "aupimo")


def pixel_gaussian(root: Path, category: str) -> float:
    """Return the image AUROC of mean and variance per pixel, as notebook 01 has it."""
    train, test = MVTecAD(root, category, "train"), MVTecAD(root, category, "test")
    normal = torch.stack([sample.image for sample in train])
    mean, std = normal.mean(0), normal.std(0).clamp_min(1 / 255)
    images = torch.stack([sample.image for sample in test])
    maps = ((images - mean) / std).square().mean(1, keepdim=True)
    return auroc(image_score(maps), torch.tensor(test.labels))


def by_severity(model: Any, category: str) -> list[float]:
    """Return the image AUROC of a trained model for each of `SEVERITIES`."""
    areas = []
    for severity in SEVERITIES:
        with TemporaryDirectory() as folder:
            root = make(folder, [category], train=0, seed=3, severity=severity)
            test = MVTecAD(root, category, "test", model.backbone.image_size)
            features = extract(model.backbone, test, cache=Path(folder) / "features")
            evaluation = evaluate(model, test, features)
            areas.append(auroc(evaluation.scores, evaluation.labels))
    return areas


def is_measured(file: Path) -> bool:
    """Return whether the metrics are there, and of images as they are drawn today."""
    return file.exists() and json.loads(file.read_text())["version"] == VERSION


def measure(folder: Path) -> None:
    """Do every run whose file is missing."""
    for seed in SEEDS:
        root = make(folder / f"seed{seed}" / "data", seed=seed)
        for category in CATEGORIES:
            output = folder / f"seed{seed}" / category
            output.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(Timeout), FileLock(output / "lock", timeout=0):
                if is_measured(output / "measured.json"):
                    continue
                with TemporaryDirectory() as cache:
                    os.environ["FASTFLOW_CACHE"] = cache
                    done = run(recipe_for(), root, category, output, seed=seed)
                measured: dict[str, Any] = {name: done.metrics[name] for name in METRICS}
                measured |= {"pixel_gaussian": pixel_gaussian(root, category), "version": VERSION}
                if seed == SEEDS[0]:
                    measured["by_severity"] = by_severity(done.model, category)
                (output / "measured.json").write_text(json.dumps(measured))
                print(f"seed {seed} {category:11} {json.dumps(measured)}", flush=True)


def cost() -> dict[str, float]:
    """Return seconds and megabytes of `fastflow data sample`, from nothing, in another process."""
    with TemporaryDirectory() as folder:
        root = Path(folder) / "sample"
        start = time.perf_counter()
        command = [str(Path(sys.executable).with_name("fastflow")), "data", "sample", str(root)]
        subprocess.run(command, check=True, capture_output=True)
        seconds = time.perf_counter() - start
        files = list(root.rglob("*.png"))
        size = sum(path.stat().st_size for path in files)
    return {"seconds": round(seconds, 1), "megabytes": round(size / 1e6, 1), "files": len(files)}


def looks() -> dict[str, list[float]]:
    """Return mean and spread of an image of each kind: a change shows, a rounding does not."""
    found = {}
    for category in CATEGORIES:
        for kind in (None, *defects(category)):
            image, _ = render(category, kind, size=128, seed=0, severity=1.0 if kind else None)
            name = f"{category}/{kind or 'good'}"
            found[name] = [round(float(image.mean()), 2), round(float(image.std()), 2)]
    return found


def collect(folder: Path) -> dict[str, Any]:
    """Return the metrics of all runs."""
    files = {
        category: [folder / f"seed{seed}" / category / "measured.json" for seed in SEEDS]
        for category in CATEGORIES
    }
    stop_unless_complete(file for seeds in files.values() for file in seeds)
    assert all(is_measured(file) for seeds in files.values() for file in seeds)
    runs = {
        category: [json.loads(file.read_text()) for file in seeds]
        for category, seeds in files.items()
    }
    return {
        "version": VERSION,
        "cores": os.cpu_count(),
        "cost": cost(),
        "looks": looks(),
        "runs": runs,
    }


def tables(store: dict[str, Any]) -> str:
    """Return the page's tables as Markdown."""
    made = store["cost"]
    lines = [
        f"All fifteen categories, {made['files']} images and masks, were made in "
        f"{made['seconds']:.0f} s on {store['cores']} cores (the whole command) and take "
        f"{made['megabytes']:.0f} MB. Below: "
        "three sets of different seeds, mean ± standard deviation; last epoch; the pixel Gaussian "
        "is notebook 01's baseline.",
        "",
        "| sample set | pixel Gaussian, image AUROC | FastFlow, image AUROC | pixel AUROC "
        "| pixel F1 (oracle) | AUPRO | AUPIMO |",
        "|---|" + "---:|" * 6,
    ]
    names = ("pixel_gaussian", *METRICS)
    for category, runs in store["runs"].items():
        cells = [spread([one[name] for one in runs]) for name in names]
        lines.append(f"| {category} | {' | '.join(cells)} |")
    means = [spread(mean_by_seed(store, name)) for name in names]
    lines += [f"| **mean** | {' | '.join(f'**{cell}**' for cell in means)} |", ""]
    lines += [
        "Image AUROC against the severity of every defect, seed 0, other test images:",
        "",
        f"| sample set | {' | '.join(f'{severity:.1f}' for severity in SEVERITIES)} |",
        "|---|" + "---:|" * len(SEVERITIES),
    ]
    for category, runs in store["runs"].items():
        cells = [f"{area:.3f}" for area in runs[0]["by_severity"]]
        lines.append(f"| {category} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def mean_by_seed(store: dict[str, Any], name: str) -> list[float]:
    """Return a metric's mean over the categories, for each seed."""
    return [
        statistics.mean(runs[place][name] for runs in store["runs"].values())
        for place in range(len(SEEDS))
    ]


def missed(store: dict[str, Any]) -> list[str]:
    """Return a sentence for each bar missed: neither hopeless nor trivial, quick and small."""
    found = []
    for place, seed in enumerate(SEEDS):
        gaussian = mean_by_seed(store, "pixel_gaussian")[place]
        flow = mean_by_seed(store, "image_auroc")[place]
        areas = {name: runs[place]["image_auroc"] for name, runs in store["runs"].items()}
        worst = min(areas, key=areas.__getitem__)
        hard = sum(area < 0.97 for area in areas.values())
        found += at_most(f"seed {seed}, mean image AUROC of the pixel Gaussian", gaussian, 0.80)
        found += at_least(f"seed {seed}, mean image AUROC", flow, 0.93)
        found += at_most(f"seed {seed}, mean image AUROC", flow, 0.99)
        found += at_least(f"seed {seed}, image AUROC of {worst}", areas[worst], 0.75)
        found += at_least(f"seed {seed}, categories with an image AUROC below .97", hard, 3)
    found += at_most("seconds to make it", store["cost"]["seconds"], 40)
    return found + at_most("megabytes", store["cost"]["megabytes"], 60)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", type=Path, default=Path("build/sample_set"))
    parser.add_argument("--tables", action="store_true", help="measure nothing")
    arguments = parser.parse_args()
    if not arguments.tables:
        measure(arguments.folder)
        Image.fromarray(contact_sheet(columns=3, size=112)).save(SHEET, quality=85)
        STORE.write_text(json.dumps(collect(arguments.folder), indent=1) + "\n")
    store = json.loads(STORE.read_text())
    block = tables(store)
    PAGE.write_text(written(PAGE.read_text(), block, "sample-set"))
    print(block)
    stop_if_missed(missed(store))


if __name__ == "__main__":
    main()
