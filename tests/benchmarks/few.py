"""Measure whether copies of few good pictures help.

    python tests/benchmarks/few.py              # measure what is missing, then write the table
    python tests/benchmarks/few.py --tables     # from few.json, nothing measured

Eight good pictures of a category of the sample set, drawn at random, seed 0; the default recipe,
calibrated in four folds; with three slightly different copies of each picture and without. Copies
are of the pictures that a fold learns from, never of those that it judges.
"""

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

import numpy as np
from results import written
from scipy.stats import t

from fastflow_utils.data.layout import data_home
from fastflow_utils.data.listing import Listing
from fastflow_utils.data.mvtec import Pictures
from fastflow_utils.data.readers import listing
from fastflow_utils.data.sample_set import make
from fastflow_utils.detector.evaluation import evaluate
from fastflow_utils.detector.features import CopiedPictures, extract
from fastflow_utils.experiments.recipes import recipe_for

HERE = Path(__file__).resolve().parent
STORE, PAGE = HERE / "few.json", HERE / "README.md"
CATEGORIES = ("bottle", "cable", "capsule", "leather", "metal_nut", "zipper")
PICTURES, COPIES, FOLDS, SEED = 8, 3, 4, 0
METRICS = ("image_auroc", "pixel_auroc", "false_alarms")


def measured(root: Path, category: str) -> dict[str, dict[str, float]]:
    """Return the metrics of a category, without copies and with them."""
    recipe = recipe_for().changed(upright=False, folds=FOLDS)
    backbone = recipe.build_backbone()
    found = listing(root, category)
    train = found.of("train")
    chosen = np.random.default_rng(SEED).choice(len(train), PICTURES, replace=False)
    few = Pictures(
        Listing(found.layout, found.root, category, tuple(train[i] for i in sorted(chosen))),
        "train",
    )
    test = Pictures(found, "test")
    features = extract(backbone, test)
    rows = {}
    for name, data in {
        "alone": extract(backbone, few),
        "with copies": CopiedPictures(backbone, few, COPIES, seed=SEED),
    }.items():
        model = recipe.build_fastflow(backbone, SEED)
        images = PICTURES * (1 + COPIES * (name != "alone"))
        model.fit(data, seed=SEED, **recipe.training(images))
        result = evaluate(model, test, features)
        metrics = result.metrics() | {"false_alarms": result.label_free()["image_fpr"]}
        rows[name] = {metric: round(metrics[metric], 4) for metric in METRICS}
    return rows


def table(store: dict[str, Any]) -> str:
    """Return the page's table."""
    head = "image AUROC | pixel AUROC | false alarms"
    lines = [f"| {PICTURES} pictures | {head} | {head}, with copies |", "|---|" + "---:|" * 6]
    for category, rows in store.items():
        cells = " | ".join(f"{row[metric]:.3f}" for row in rows.values() for metric in METRICS)
        lines.append(f"| {category} | {cells} |")
    lines.append("")
    for metric, name in {"image_auroc": "image AUROC", "pixel_auroc": "pixel AUROC"}.items():
        gains = [rows["with copies"][metric] - rows["alone"][metric] for rows in store.values()]
        mean, n = statistics.mean(gains), len(gains)
        half = float(t.ppf(0.975, n - 1)) * statistics.stdev(gains) / n**0.5
        lines.append(
            f"- {name} with copies: {mean:+.3f} ({mean - half:+.3f} to {mean + half:+.3f}, 95 % "
            f"over {n} categories)"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--tables", action="store_true", help="measure nothing")
    arguments = parser.parse_args()
    store: dict[str, Any] = json.loads(STORE.read_text()) if STORE.is_file() else {}
    root = make(data_home() / "sample")
    for category in CATEGORIES if not arguments.tables else ():
        if category not in store:
            store[category] = measured(root, category)
            print(category, store[category], flush=True)
            STORE.write_text(json.dumps(store, indent=1) + "\n")
    PAGE.write_text(written(PAGE.read_text(), table(store), "few"))


if __name__ == "__main__":
    main()
