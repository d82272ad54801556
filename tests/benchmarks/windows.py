"""Measure what windows find that squeezing loses, and what they cost.

    python tests/benchmarks/windows.py [--data MVTEC_ROOT]   # measure, then write the tables
    python tests/benchmarks/windows.py --tables              # from windows.json

On the sample set, rendered at 1024 px: round spots of known size, each on a picture of its own,
somewhere in the middle half. Squeezed, a picture is read at 256 px; with windows at 1024 px, in
windows of 256 px that share 64. Both detectors are the default recipe, and both thresholds are
exceeded by 5 % of the same good test pictures: the threshold is a matter of notebook 05, not of
this comparison.

On real screw, read at 448 px, with windows and without. The metrics are compared on the same
resamples of the test images.

The results are kept in ``windows.json`` beside this file. The command ends with exit code 1 where
windows find less than twice as many small spots as squeezing does.
"""

import argparse
import json
import shutil
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bars import at_least, stop_if_missed
from PIL import Image
from results import written
from scipy.stats import binomtest
from speed import cpu

from fastflow_utils.compute import resolve_precision
from fastflow_utils.data.sample_set import render
from fastflow_utils.detector.detector import Detector
from fastflow_utils.experiments.recipes import Recipe, recipe_for
from fastflow_utils.experiments.records import finished, read_replicates
from fastflow_utils.experiments.run import run

HERE = Path(__file__).resolve().parent
STORE = HERE / "windows.json"
PAGE = HERE / "README.md"
README = HERE.parent.parent / "README.md"
CATEGORIES = ("leather", "metal_nut", "pill")
SIDE, SIZES, SMALL = 1024, (3, 4, 6, 8, 10, 16, 24, 48), 12
CONTRAST = 0.3
TRAIN, GOOD, EACH, ALARMS = 60, 60, 20, 0.05
METRICS = ("image_auroc", "pixel_auroc", "pixel_f1", "aupro")
SPOTS: dict[str, Recipe] = {
    "squeezed": recipe_for(),
    "windows": recipe_for().changed(image_size=SIDE, window=256, overlap=64),
}
SCREW: dict[str, Recipe] = {
    "squeezed to 256, as it lies": recipe_for().changed(upright=False),
    "squeezed to 256, upright (the default)": recipe_for(),
    "whole at 448, upright": recipe_for().changed(image_size=448, smoothing=7.0),
    "windows of 256 in 448, as it lies": recipe_for().changed(
        image_size=448, window=256, overlap=64, upright=False
    ),
}


def spotted(pixels: np.ndarray, diameter: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a picture (H, W, 3) uint8 with a round spot in its middle half, and the spot's mask.

    Where the picture is bright it is darker by 30 %, else brighter by 30 % of the way to white.
    """
    random = np.random.default_rng(seed)
    height, width = pixels.shape[:2]
    row, column = random.uniform(0.25, 0.75, 2) * (height, width)
    y, x = np.mgrid[:height, :width] + 0.5
    away = np.hypot(y - row, x - column)
    inside = (diameter / 2 + 0.5 - away).clip(0, 1)[..., None]
    here = pixels[away < 8].mean()
    end = 0.0 if here > 127 else 255.0
    value = pixels + CONTRAST * (end - pixels)
    drawn = pixels + inside * (value - pixels)
    return drawn.round().astype(np.uint8), inside[..., 0] >= 0.5


def make_spots(root: Path, category: str) -> None:
    """Render a category's pictures, in MVTec AD's layout, if they are not there."""
    home = root / category
    if (home / "complete").is_file():
        return
    shutil.rmtree(home, ignore_errors=True)
    folders = ["train/good"] * TRAIN + ["test/good"] * GOOD
    folders += [f"test/spot_{size:02}" for size in SIZES for _ in range(EACH)]
    for number, folder in enumerate(folders):
        pixels, _ = render(category, None, size=SIDE, seed=9000 + number)
        (home / folder).mkdir(parents=True, exist_ok=True)
        name = f"{number:04}"
        if "spot" in folder:
            pixels, mask = spotted(pixels, int(folder[-2:]), seed=number)
            truth = home / folder.replace("test", "ground_truth")
            truth.mkdir(parents=True, exist_ok=True)
            Image.fromarray(mask).save(truth / f"{name}_mask.png")
        Image.fromarray(pixels).save(home / folder / f"{name}.png")
    (home / "sample_set.json").write_text("{}")
    (home / "complete").touch()


def found_spots(root: Path, category: str, recipe: Recipe, output: Path) -> dict[str, Any]:
    """Return which spots a detector finds at 5 % false alarms, and what a picture costs."""
    result = run(recipe, root, category, output)
    test = result.evaluation.dataset
    scores, defects = result.evaluation.scores, np.array(test.defects)
    good = scores[torch.from_numpy(defects == "good")].sort(descending=True).values
    threshold = good[round(ALARMS * len(good))]  # the first that is no alarm
    found = {
        str(size): int((scores[torch.from_numpy(defects == f"spot_{size:02}")] > threshold).sum())
        for size in SIZES
    }
    metrics = {name: round(result.metrics[name], 4) for name in METRICS}
    return {"found": found, "metrics": metrics}


def milliseconds(folder: Path) -> dict[str, float]:
    """Return what a picture of the first category costs each way, read from its file; in turn."""
    paths = sorted((folder / "data" / CATEGORIES[0] / "test" / "good").iterdir())[:12]
    models = {
        name: Detector.load(folder / CATEGORIES[0] / name / "model").for_inference()
        for name in SPOTS
    }
    spent: dict[str, list[float]] = {name: [] for name in SPOTS}
    for path in paths:
        for name, detector in models.items():
            start = time.perf_counter()
            detector.predict(path)
            spent[name].append(time.perf_counter() - start)
    return {name: round(1000 * statistics.median(own[2:]), 1) for name, own in spent.items()}


def on_screw(data: Path, folder: Path) -> dict[str, Any]:
    """Return the metrics of each way to read screw, and its differences to the first's."""
    rows: dict[str, Any] = {}
    first = None
    for number, (name, recipe) in enumerate(SCREW.items()):
        output = folder / f"screw_{number}"
        metrics = finished(output)
        if metrics is None:
            run(recipe, data, "screw", output)
            metrics = finished(output)
        replicates = read_replicates(output)
        assert metrics is not None and replicates is not None
        first = first or replicates
        rows[name] = {
            metric: {
                "value": round(metrics[metric], 4),
                "interval": [round(end, 4) for end in metrics["intervals"][metric]],
                "difference": [
                    round(float(end), 4)
                    for end in np.percentile(replicates[metric] - first[metric], [2.5, 97.5])
                ],
            }
            for metric in METRICS
        }
    return rows


def small(spots: dict[str, Any], reading: str) -> tuple[int, int]:
    """Return how many spots below 12 px were found, of how many, over all categories."""
    sizes = [str(size) for size in SIZES if size < SMALL]
    counts = [one[reading]["found"][size] for one in spots.values() for size in sizes]
    return sum(counts), len(counts) * EACH


def tables(store: dict[str, Any]) -> str:
    """Return the page's tables."""
    spots = store["spots"]
    head = "".join(f" {size} px |" for size in SIZES)
    lines = [
        f"Spots found of {EACH} of each size, at {100 * ALARMS:g} % false alarms (sample set, "
        f"{SIDE} px, seed 0), {100 * CONTRAST:g} % darker or brighter than their surroundings:",
        "",
        f"| category | reading |{head}",
        "|---|---|" + "---:|" * len(SIZES),
    ]
    for category, readings in spots.items():
        for reading, one in readings.items():
            counts = "".join(f" {one['found'][str(size)]} |" for size in SIZES)
            lines.append(f"| {category} | {reading} |{counts}")
    lines.append("")
    for reading in SPOTS:
        count, total = small(spots, reading)
        low, high = binomtest(count, total).proportion_ci()
        lines.append(
            f"- {reading}: {count} of {total} spots below {SMALL} px found, a recall of "
            f"{count / total:.2f} ({low:.2f} to {high:.2f}); a picture takes "
            f"{store['milliseconds'][reading]:.0f} ms, read from its file"
        )
    lines.append(f"- on {store['machine']}")
    if "screw" in store:
        lines += ["", "Real screw (MVTec AD), seed 0; in brackets, the 95 % interval of the "]
        lines[-1] += "difference to the first row, on the same resamples of the test images:"
        lines += ["", "| reading | image AUROC | pixel AUROC | pixel F1 | AUPRO |"]
        lines += ["|---|---:|---:|---:|---:|"]
        for name, row in store["screw"].items():
            cells = [
                f"{row[m]['value']:.3f} ({row[m]['difference'][0]:+.3f} to "
                f"{row[m]['difference'][1]:+.3f})"
                for m in METRICS
            ]
            lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def summary(store: dict[str, Any]) -> str:
    """Return the README's sentences."""
    rows = []
    for reading, words in {"squeezed": "read at 256 px", "windows": "with windows"}.items():
        count, total = small(store["spots"], reading)
        low, high = binomtest(count, total).proportion_ci()
        took = store["milliseconds"][reading]
        rows.append(
            f"{words} {count} of {total} ({count / total:.2f}, {low:.2f} to {high:.2f}; "
            f"{took:.0f} ms a picture)"
        )
    return (
        f"What windows are for: of spots below {SMALL} pixels on pictures of {SIDE} px (sample "
        f"set, three categories), at {100 * ALARMS:g} % false alarms, {rows[0]} are found, and "
        f"{rows[1]}. [The benchmark page](tests/benchmarks/README.md#windows) has every size, and "
        "real screws."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, help="holds screw, as MVTec AD has it")
    parser.add_argument("--folder", type=Path, default=Path("build/windows"))
    parser.add_argument("--cost", action="store_true", help="measure the milliseconds alone")
    parser.add_argument("--tables", action="store_true", help="measure nothing")
    arguments = parser.parse_args()
    store: dict[str, Any] = json.loads(STORE.read_text()) if STORE.is_file() else {"spots": {}}
    if not (arguments.tables or arguments.cost):
        for category in CATEGORIES:
            make_spots(arguments.folder / "data", category)
            store["spots"][category] = {
                name: found_spots(
                    arguments.folder / "data", category, recipe, arguments.folder / category / name
                )
                for name, recipe in SPOTS.items()
            }
        if arguments.data:
            store["screw"] = on_screw(arguments.data, arguments.folder)
    if not arguments.tables:
        store["milliseconds"] = milliseconds(arguments.folder)
        machine = f"{torch.get_num_threads()} cores of an {cpu()}"
        store["each"] = EACH
        store["machine"] = f"{machine}, convolutions in {resolve_precision()}"
        STORE.write_text(json.dumps(store, indent=1) + "\n")
    PAGE.write_text(written(PAGE.read_text(), tables(store), "windows"))
    README.write_text(written(README.read_text(), summary(store), "small"))
    print(tables(store))
    (squeezed, _), (windows, _) = (small(store["spots"], name) for name in SPOTS)
    stop_if_missed(at_least("small spots found with windows", windows, 2 * max(1, squeezed)))


if __name__ == "__main__":
    main()
