"""What each choice of the default recipe is worth, without looking at the category it is used on.

    python tests/benchmarks/ablation.py --data MVTEC_ROOT

It resumes where it was stopped, and several of it share the work. About two hours on one core.

Two questions, one seed, default backbone, last epoch, on three real categories and two of the
sample set:

- Training: change one thing, train anew, evaluate with the package's map, and the mean of its
  highest values as the score.
- Map and score: take one training, and every combination of how levels combine, whether
  the log-determinant's share is in the map, the smoothing and the image score.

A setting for category X must be chosen on the others, so each table says what the others would
have chosen for X (leave one category out) and what that gives on X. And each says which
differences can be told from chance: :func:`errors`. The metrics are stored in ``ablation.json``
and the tables written to ``README.md``, both beside this file.
"""

import argparse
import contextlib
import itertools
import json
import math
import re
import statistics
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd
import results
import torch
from filelock import FileLock, Timeout
from kornia.geometry.transform import rotate, translate
from torch import Tensor

from fastflow_utils.data.mvtec import MVTecAD, data_root
from fastflow_utils.data.official import OFFICIAL_COUNTS
from fastflow_utils.detector.backbones import Backbone
from fastflow_utils.detector.bootstrap import of_images, of_pixels, resamples
from fastflow_utils.detector.features import Features, extract
from fastflow_utils.detector.intervals import hanley_mcneil
from fastflow_utils.detector.maps import blur, combine, image_score, level_map, level_scale
from fastflow_utils.detector.metrics import aupimo, aupro, separation
from fastflow_utils.detector.training import hold_out
from fastflow_utils.experiments import ablation
from fastflow_utils.experiments.ablation import Trained, anomaly_maps, layer_norm
from fastflow_utils.experiments.recipes import Recipe, recipe_for
from fastflow_utils.provenance import versions

HERE = Path(__file__).resolve().parent
STORE, PAGE = HERE / "ablation.json", HERE / "README.md"
CATEGORIES = ("bottle", "metal_nut", "screw", "sample/carpet", "sample/screw")
SAMPLE_COUNTS = (20, 24)  # good and anomalous test images of a category of the sample set
METRICS = ("image_auroc", "pixel_auroc", "pixel_f1", "aupro")
MAP_METRICS = (*METRICS, "aupimo")  # too uneven from one training to the next to compare those by

# Where it started: the default recipe of then. This ablation changed its kernels; its budget and
# learning rate changed with the shorter warm-up, later, and positions came last.
START: dict[str, Any] = {
    **{"kernels": "3-1", "budget": 900, "learning_rate": 2e-3},
    "position": False,
}

# Each line changes the start in one thing.
TRAINING: dict[str, dict[str, Any]] = {
    "start": {},
    "whitening alone, no training": {"budget": 1, "learning_rate": 1e-12},
    "ActNorm only, no whitening": {"whiten": False},
    "LayerNorm without affine, no whitening": {"whiten": False, "layer_norm": True},
    "any rotation": {"degrees": 180.0, "pixels": 0.0},
    "batch of 16 (an eighth of the steps)": {"batch_size": 16},
    "1x1 kernels only": {"kernels": "1x1"},
    "3x3 kernels only": {"kernels": "3x3"},
    "4 steps": {"steps": 4},
    "constant learning rate": {"constant": True},
}

# With ResNet18, whose features are more correlated and whose flow is larger.
RESNET18 = {
    "ActNorm only, no whitening": {"backbone": "resnet18", "whiten": False},
    "budget of 900 images": {"backbone": "resnet18", "budget": 900},
}
RESNET18_CATEGORIES = ("metal_nut", "screw")

# The hard case: small defects, any orientation. More of what it might lack.
SCREW: dict[str, dict[str, Any]] = {
    "small rotations and shifts": {"degrees": 5.0, "pixels": 4.0},
    "budget of 1800 images": {"budget": 1800},
    "read at 384 px": {"image_size": 384},
    "read at 448 px, as stored": {"image_size": 448},
}

RUNS: dict[str, tuple[str, dict[str, Any]]] = {
    **{f"ResNet18: {v} | {c}": (c, RESNET18[v]) for v in RESNET18 for c in RESNET18_CATEGORIES},
    **{f"{v} | screw": ("screw", SCREW[v]) for v in SCREW},
    **{f"{v} | {c}": (c, TRAINING[v]) for v in TRAINING for c in CATEGORIES},
}

Table = dict[str, dict[str, dict[str, float]]]  # category, setting, metric

# What the map is the levels' mean of, given n and that of the positions of held-out images.
COMBINE: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "rarity": lambda n, normal: level_map(n, level_scale(normal)),
    "bounded at 1 std": lambda n, normal: torch.sigmoid(standardised(n, normal) - 1),
    "bounded at 2 std": lambda n, normal: torch.sigmoid(standardised(n, normal) - 2),
    "standardised": lambda n, normal: standardised(n, normal),
    "log of p-values": lambda n, normal: -p_values(n, normal).log(),
    "log-likelihoods": lambda n, normal: n,
    "probabilities": lambda n, normal: 1 - (normal.min() - n).clamp_max(0).exp(),
}
START_MAP = ("rarity", True, 4, 0.01)  # the package's own
MAPS = list(itertools.product(COMBINE, (True, False), (0, 2, 4, 6), (0.0, 0.001, 0.01, 0.03)))


class Moved(Features):
    """Features of which each reading in training returns one of several moved copies."""

    def __init__(
        self, copies: list[Features], held_out: set[int], generator: torch.Generator
    ) -> None:
        vars(self).update(vars(copies[0]))  # the first is not moved; it tells what they are of
        self.copies, self.held_out, self.generator = copies, held_out, generator

    def __getitem__(self, index: Any) -> list[Tensor]:
        if self.held_out & set(index.tolist()):
            return self.copies[0][index]
        choice = int(torch.randint(len(self.copies), (1,), generator=self.generator))
        return self.copies[choice][index]


def moved(
    features: Features, backbone: Backbone, dataset: MVTecAD, degrees: float, pixels: float
) -> Moved:
    """Return the images' features and those of three copies, turned and shifted at random."""
    generator = torch.Generator().manual_seed(0)
    copies = [features]
    for _ in range(3):
        levels: list[list[Tensor]] = []
        for start in range(0, len(dataset), 16):
            stop = min(start + 16, len(dataset))
            images = torch.stack([dataset[i].image for i in range(start, stop)])
            angle = degrees * (2 * torch.rand(len(images), generator=generator) - 1)
            shift = pixels * (2 * torch.rand(len(images), 2, generator=generator) - 1)
            images = rotate(images, angle, padding_mode="border")
            images = translate(images, shift, padding_mode="border")
            levels.append([h.half() for h in backbone(images)])
        copies.append(Features([torch.cat(level) for level in zip(*levels, strict=True)]))
    _, held_out = hold_out(len(features), torch.Generator().manual_seed(0))
    return Moved(copies, set(held_out.tolist()), generator)


@contextlib.contextmanager
def constant_learning_rate() -> Iterator[None]:
    def constant(optimizer: Any, **_: Any) -> Any:
        return torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1)

    with mock.patch("torch.optim.lr_scheduler.OneCycleLR", constant):
        yield


def load(data: Path, category: str, image_size: int) -> tuple[MVTecAD, MVTecAD]:
    sample, _, name = category.rpartition("/")
    root = data_root() if sample else data
    return MVTecAD(root, name, "train", image_size), MVTecAD(root, name, "test", image_size)


def train(
    data: Path, category: str, changes: dict[str, Any], weights: Path | None = None
) -> dict[str, Any]:
    """Train one variant on one category; return its metrics, and those of the start's maps."""
    special = {k: v for k, v in changes.items() if not hasattr(Recipe, k)}
    fields = {k: v for k, v in changes.items() if k not in special}
    recipe = recipe_for(**(fields if "backbone" in fields else START | fields))
    train_set, test_set = load(data, category, recipe.image_size)
    backbone = recipe.build_backbone(weights if recipe.backbone == "resnet18" else None)
    train_features = extract(backbone, train_set)
    test_features = extract(backbone, test_set)
    if "layer_norm" in special:
        train_features, test_features = layer_norm(train_features), layer_norm(test_features)
    if "degrees" in special:
        train_features = moved(
            train_features, backbone, train_set, special["degrees"], special["pixels"]
        )
    schedule = constant_learning_rate() if "constant" in special else contextlib.nullcontext()
    with schedule:
        trained = ablation.train(recipe, backbone, train_features, test_features, seed=0)
    maps, masks = anomaly_maps(trained), test_set.masks()
    labels = torch.tensor(test_set.labels)
    pixels, scores = separation(maps, masks), image_score(maps, recipe.top)
    weights = resamples(labels, category)
    of_maps = of_pixels(maps, masks, labels, weights)
    result: dict[str, Any] = {
        "replicates": {
            "image_auroc": of_images(scores, labels, weights)["auroc"],
            "pixel_auroc": of_maps["auroc"],
            "pixel_f1": of_maps["f1"],
            "aupro": of_maps["aupro"],
        },
        "image_auroc": separation(scores, labels).auroc,
        "pixel_auroc": pixels.auroc,
        "pixel_f1": pixels.f1,
        "aupro": aupro(maps, masks),
        "held_out_nll": trained.history["held_out_nll"].iloc[-1],
        "train_seconds": trained.seconds,
    }
    if not changes:
        result["maps"] = map_settings(trained, masks, labels)
    return result


def map_settings(trained: Trained, masks: Tensor, labels: Tensor) -> dict[str, dict[str, float]]:
    """Return the metrics of every map and score, pixels at every second row and column."""
    truth = masks[:, :, ::2, ::2]
    result = {}
    for log_det, (name, level) in itertools.product((True, False), COMBINE.items()):
        each = zip(trained.test[log_det], trained.held_out[log_det], strict=True)
        rough = combine(list(itertools.starmap(level, each)), trained.recipe.image_size, 0)
        for sigma in (0, 2, 4, 6):
            maps = blur(rough, sigma)
            pixels = separation(maps[:, :, ::2, ::2], truth)
            regions = {
                "aupro": aupro(maps[:, :, ::2, ::2], truth),
                "aupimo": aupimo(maps[:, :, ::2, ::2], truth, labels=labels),
            }
            for top in (0.0, 0.001, 0.01, 0.03):
                result[key((name, log_det, sigma, top))] = {
                    "image_auroc": separation(image_score(maps, top), labels).auroc,
                    "pixel_auroc": pixels.auroc,
                    "pixel_f1": pixels.f1,
                    **regions,
                }
    return result


def standardised(n: Tensor, normal: Tensor) -> Tensor:
    return (n - normal.mean()) / normal.std(correction=0)


def p_values(n: Tensor, normal: Tensor) -> Tensor:
    """Return which share of normal positions is at least as unlikely; never 0."""
    ordered = normal.flatten().sort().values
    less = torch.searchsorted(ordered, n)
    return (len(ordered) - less + 1) / (len(ordered) + 1)


def key(setting: tuple[str, bool, int, float]) -> str:
    combine, log_det, sigma, top = setting
    score = f"top {top:.1%}" if top else "max"
    return f"{combine}, {'with' if log_det else 'without'} log-det, sigma {sigma}, {score}"


Names = tuple[str, ...]  # of metrics


def quality(metrics: dict[str, float], names: Names = METRICS) -> float:
    """What a choice is made by: the mean of the metrics."""
    return statistics.mean(metrics[name] for name in names)


def cells(metrics: dict[str, float], names: Names = METRICS) -> str:
    return " / ".join(f"{metrics[name]:.3f}" for name in names)


def setting_table(table: Table, settings: list[str], names: Names = METRICS) -> list[str]:
    lines = [
        f"| | {' | '.join(table)} | mean |",
        f"|---|{'---:|' * (len(table) + 1)}",
    ]
    for setting in settings:
        rows = [table[category][setting] for category in table]
        mean = {name: statistics.mean(row[name] for row in rows) for name in names}
        lines.append(f"| {' | '.join([setting, *(cells(row, names) for row in [*rows, mean])])} |")
    return lines


def leave_one_out_table(table: Table, start: str, names: Names = METRICS) -> list[str]:
    lines = [
        "| category | the others choose | which gives here | start | best possible here |",
        "|---|---|---:|---:|---:|",
    ]
    values = {
        (setting, category, 0): quality(metrics, names)
        for category, settings in table.items()
        for setting, metrics in settings.items()
    }
    for category, row in ablation.leave_one_out(pd.Series(values), start).iterrows():
        chosen, best = row["the others choose"], row["tuned on its own test"]
        shown = [cells(table[str(category)][setting], names) for setting in (chosen, start, best)]
        lines.append(f"| {category} | {' | '.join([chosen, *shown])} |")
    return lines


def paired_errors(files: dict[str, Path]) -> dict[str, dict[str, dict[str, float]]]:
    """Return the standard errors of the training's differences from the resamples kept in files.

    Of each metric, by variant and category. Nothing if any were made before there were resamples.
    """
    names = {(v, c): files[f"{v} | {c}"].with_suffix(".npz") for v in TRAINING for c in CATEGORIES}
    if not all(file.exists() for file in names.values()):
        return {}
    drawn = {(v, c, 0): dict(np.load(file)) for (v, c), file in names.items()}
    found = {}
    for metric in METRICS:
        one = pd.DataFrame({place: each[metric] for place, each in drawn.items()}).T
        found[metric] = ablation.image_errors(one, "start").round(6).to_dict("index")
    return found


def errors(table: Table, start: str, differences: pd.DataFrame) -> pd.DataFrame:
    """Return standard errors of image AUROC's differences, where no resamples were kept.

    By Hanley and McNeil's formula, as if the two settings had been tested on different images.
    They were tested on the same, so the errors are too large: careful, not exact.
    """
    categories = list(differences.columns.unique(0))
    found = pd.DataFrame(0.0, differences.index, categories)
    for category, setting in itertools.product(categories, differences.index):
        normal, anomalous = OFFICIAL_COUNTS.get(category, (0, *SAMPLE_COUNTS))[1:]
        both = (table[category][one]["image_auroc"] for one in (setting, start))
        found.loc[setting, category] = math.hypot(
            *(hanley_mcneil(area, normal, anomalous) for area in both)
        )
    return found


def judged(
    table: Table, start: str, known: dict[str, dict[str, dict[str, float]]] | None = None
) -> list[str]:
    """Return which differences to the start can be told from chance, as a table."""
    lines = [
        "| | difference | 95 % interval | p | better on | worse on | verdict |",
        "|---|---:|---:|---:|---|---|---|",
    ]
    for metric in METRICS if known else ("image_auroc",):
        values = {
            (setting, category, 0): metrics[metric]
            for category, settings in table.items()
            for setting, metrics in settings.items()
        }
        differences = ablation.paired_differences(pd.Series(values), start)
        of_images = pd.DataFrame(known[metric]).T if known else errors(table, start, differences)
        for setting, row in ablation.judge(differences, of_images).iterrows():
            name = f"{setting}, {metric.replace('_', ' ')}" if known else setting
            lines.append(
                f"| {name} | {row['mean']:+.3f} | {row['low']:+.3f} to {row['high']:+.3f} | "
                f"{row['p']:.3f} | {row['better']} | {row['worse']} | {row['verdict']} |"
            )
    return lines


def how_judged(paired: bool) -> str:
    """Return what a table of :func:`judged` rests on."""
    if paired:
        return (
            "Which differences can be told from chance, on other test images: intervals of 95 % "
            "from paired resamples, one seed; p and verdict after Holm's correction for all rows "
            "of a metric."
        )
    return (
        "Which differences of image AUROC can be told from chance, on other test images: "
        "intervals of 95 % by Hanley and McNeil's formula, one seed; p and verdict after Holm's "
        "correction for all rows. The formula knows nothing of the pairs (the same images), so it "
        'is careful: some of what "cannot be told" could be told from paired resamples, which '
        "were not kept. An AUROC of 1 has no error by it."
    )


def report(store: dict[str, Any]) -> str:
    """Return the tables as Markdown."""
    runs = store["runs"]
    known = store.get("errors")
    training = {c: {v: runs[f"{v} | {c}"] for v in TRAINING} for c in CATEGORIES}
    measured = json.loads(results.STORE.read_text())["runs"]
    resnet18 = {
        c: {"as it comes": measured[f"resnet18 {c}"][0]}
        | {v: runs[f"ResNet18: {v} | {c}"] for v in RESNET18}
        for c in RESNET18_CATEGORIES
    }
    maps = {c: runs[f"start | {c}"]["maps"] for c in CATEGORIES}
    measured_maps = maps[CATEGORIES[0]]
    # Before there was rarity, the package's map was the bounded one.
    first = START_MAP if key(START_MAP) in measured_maps else ("bounded at 1 std", *START_MAP[1:])
    start = key(first)
    one_by_one = [start]
    for i, values in enumerate(zip(*MAPS, strict=True)):
        for value in dict.fromkeys(values):
            setting = key((*first[:i], value, *first[i + 1 :]))  # type: ignore[arg-type]
            if setting != start and setting in measured_maps:
                one_by_one.append(setting)
    screw = training["screw"] | {v: runs[f"{v} | screw"] for v in SCREW}
    screw |= {f"map: {v}": maps["screw"][v] for v in one_by_one if v != start}
    lines = [
        "### Training: one thing changed at a time",
        "",
        f"Image AUROC / pixel AUROC / pixel F1 (oracle) / AUPRO, seed 0, {CATEGORIES[0]}, "
        f"{CATEGORIES[1]} and {CATEGORIES[2]} real, the others sample set.",
        "",
        *setting_table(training, list(TRAINING)),
        "",
        how_judged(bool(known)),
        "",
        *judged(training, "start", known),
        "",
        "Chosen without the category, by the mean of the four metrics:",
        "",
        *leave_one_out_table(training, "start"),
        "",
        "### ResNet18",
        "",
        "Image AUROC / pixel AUROC / pixel F1 (oracle) / AUPRO, seed 0, the recipe otherwise.",
        "",
        *setting_table(resnet18, ["as it comes", *RESNET18]),
        "",
        "Judged by Hanley and McNeil's formula:",
        "",
        *judged(resnet18, "as it comes"),
        "",
        "### Map and score: one thing changed at a time",
        "",
        "The same metrics and AUPIMO, of pixels at every second row and column; one training.",
        "",
        *setting_table(maps, one_by_one, MAP_METRICS),
        "",
        "Judged by Hanley and McNeil's formula:",
        "",
        *judged({c: {v: maps[c][v] for v in one_by_one} for c in CATEGORIES}, start),
        "",
        f"Chosen without the category, from all {len(measured_maps)} combinations, by the five "
        "metrics:",
        "",
        *leave_one_out_table(maps, start, MAP_METRICS),
        "",
        "### The hard case: screw",
        "",
        "Everything above that was tried on it, and more, by image AUROC; seed 0.",
        "",
        "| | image AUROC / pixel AUROC / pixel F1 (oracle) / AUPRO |",
        "|---|---:|",
        *(
            f"| {name} | {cells(metrics)} |"
            for name, metrics in sorted(screw.items(), key=lambda row: -row[1]["image_auroc"])
        ),
        "",
        "Judged by Hanley and McNeil's formula:",
        "",
        *judged({"screw": screw}, "start"),
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, help="holds bottle, metal_nut and screw")
    parser.add_argument("--weights", type=Path, help="of ResNet18; default: the hub's")
    parser.add_argument("--folder", type=Path, default=Path("build/ablation"))
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    files = {
        name: arguments.folder / f"{re.sub(r'[^a-z0-9-]+', '_', name.lower())}.json"
        for name in RUNS
    }
    if arguments.data:
        for name, file in files.items():
            with contextlib.suppress(Timeout), FileLock(f"{file}.lock", timeout=0):
                if not file.exists():
                    result = train(arguments.data, *RUNS[name], arguments.weights)
                    np.savez(file.with_suffix(".npz"), **result.pop("replicates"))
                    file.write_text(json.dumps(result, indent=1))
                    print(f"{name:60} {cells(result)}", flush=True)
        results.stop_unless_complete(files.values())
        runs = {name: json.loads(file.read_text()) for name, file in files.items()}
        store = {"versions": versions(), "errors": paired_errors(files), "runs": runs}
        STORE.write_text(json.dumps(store, indent=1) + "\n")
    block = report(json.loads(STORE.read_text()))
    PAGE.write_text(results.written(PAGE.read_text(), block, "ablation"))
    print(block)


if __name__ == "__main__":
    main()
