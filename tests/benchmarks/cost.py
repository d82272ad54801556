"""Work out what a full reproduction of the paper's table costs, from times measured here.

    make cost                                       # measure, about ten minutes; write the tables
    python tests/benchmarks/cost.py cait_m48_448    # one backbone anew
    python tests/benchmarks/cost.py --device cuda   # in GPU-hours: cost_cuda.json, no page
    python tests/benchmarks/cost.py --tables        # write the tables from cost.json

A category of n training and m test images takes these seconds, where the recipe gives it e epochs
of b batches (a tenth of the n held out, two images in a batch):

    features    F = f0 + f1 (n + m)    once, from image files into the cache
    start       S = s0                 each seed: build the backbone, check and open the cache
    training    T = t0 + t1 e b        each seed
    evaluation  E = e0 + e1 m          each seed: save the model, maps, metrics, figures (which
                                       `reproduce` leaves out: half a second too much a run)

k seeds take F + k (S + T + E), summed over MVTec AD's fifteen categories and their own numbers of
images. The lines go through the medians of a small and a large run of `experiments.run.run`,
all of it, on images of the sample set drawn at `PIXELS`, as large as most of MVTec AD's. Each is
done twice: the second finds the features in the cache, which leaves S and no F. The large one's
second has more epochs, which gives t1. (The check of the cache takes milliseconds for each image,
which go under in the noise of S.)

The weights are random where they would have to be downloaded; others cost the same. A whole
category by `fastflow run`, timed apart, is held against what the lines say of it. The results are
kept in ``cost.json`` beside this file. The command ends with exit code 1 where they do not fit
together: :func:`missed`.
"""

import argparse
import heapq
import json
import math
import os
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from statistics import linear_regression, median
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import timm
import torch
from bars import at_least, at_most, stop_if_missed
from results import README, written
from speed import fastflow_run, machine

from fastflow_utils.compute import resolve_precision, select_device
from fastflow_utils.data.official import OFFICIAL_COUNTS
from fastflow_utils.data.sample_set import make
from fastflow_utils.detector.backbones import BUNDLED
from fastflow_utils.detector.training import hold_out
from fastflow_utils.errors import FastFlowError
from fastflow_utils.experiments.recipes import Recipe, recipe_for
from fastflow_utils.experiments.run import run

HERE = Path(__file__).resolve().parent
STORE = HERE / "cost.json"
PAGE = HERE / "README.md"

PAPER = {
    "resnet18": "ResNet18",
    "wide_resnet50_2": "Wide-ResNet50-2",
    "deit_base_distilled_384": "DeiT-B distilled, 384 px",
    "cait_m48_448": "CaiT-M48, 448 px",
}
BACKBONES = {BUNDLED: "EfficientNet-Lite0 (default)", **PAPER}
CHECKED = (BUNDLED, "resnet18")
SEEDS = 3
CATEGORY, PIXELS = "toothbrush", 1024
ROUNDS, SMALL, LARGE = 3, (6, 4), (10, 12)  # training and test images; on a GPU eight times them
SLOW = {"cait_m48_448": (1, (2, 4), LARGE)}  # seven seconds an image
MACHINES = (1, 2, 4, 8, 16)


# Measuring --------------------------------------------------------------------------------------


@contextmanager
def weights_of(recipe: Recipe) -> Iterator[Path | None]:
    """Yield a file of random weights, or None for the backbone that comes with its own."""
    if recipe.backbone == BUNDLED:
        yield None
        return
    with TemporaryDirectory() as folder:
        file = Path(folder) / "random.pth"
        torch.save(timm.create_model(recipe.backbone, pretrained=False).state_dict(), file)
        yield file


def measure(
    name: str, device: torch.device, folder: Path, rounds: int | None = None
) -> list[dict[str, Any]]:
    """Return what each run took: of two sizes, with and without the features in the cache."""
    found = []
    usual, small, large = SLOW.get(name, (ROUNDS, SMALL, LARGE))
    factor = 8 if device.type == "cuda" else 1
    with weights_of(recipe_for(name)) as weights:
        for (train, test), again in (rounds or usual) * ((small, 1), (large, 3)):
            train, test = factor * train, factor * test
            counts = {"train": train, "good": test // 4, "per_defect": test // 4}
            root = make(folder / f"{train}", [CATEGORY], size=PIXELS, **counts)
            with TemporaryDirectory() as scratch:
                os.environ["FASTFLOW_CACHE"] = f"{scratch}/cache"
                for cached, epochs in ((False, 1), (True, again)):
                    recipe, output = (
                        recipe_for(name, epochs=epochs, device=device),
                        Path(scratch, f"{cached}"),
                    )
                    done = run(recipe, root, CATEGORY, output, weights=weights, device=device)
                    files = [path for path in output.rglob("*") if path.is_file()]
                    row = {"train": train, "test": test, "epochs": epochs, "cached": cached}
                    row["seconds"] = done.metrics["seconds"]
                    row["megabytes"] = round(sum(file.stat().st_size for file in files) / 1e6, 1)
                    found.append(row)
                    print(name, row, flush=True)
            del os.environ["FASTFLOW_CACHE"]
    return found


def check(name: str, device: torch.device, folder: Path) -> dict[str, Any]:
    """Return the seconds of a whole category: a command of its own, the recipe's full budget."""
    root = make(folder / "whole", [CATEGORY], size=PIXELS, like_mvtec=True)
    with weights_of(recipe_for(name)) as weights:
        options = ["--backbone", name, "--device", device.type]
        options += ["--weights", str(weights)] if weights else []
        return fastflow_run(root, CATEGORY, *options)


def here(device: torch.device) -> dict[str, Any]:
    """Return what the seconds depend on."""
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    return {**machine(), "convolutions": resolve_precision("auto", device), "gpu": gpu}


# Working out ------------------------------------------------------------------------------------


class Line(NamedTuple):
    """Seconds: a constant, and so many for each image or batch."""

    constant: float
    each: float


def amounts(recipe: Recipe, train: int, test: int) -> dict[str, int]:
    """Return what each part of a run grows with: images, or batches of training."""
    learnt, _ = hold_out(train, torch.Generator())
    batches = recipe.epochs_for(train) * math.ceil(len(learnt) / recipe.batch_size)
    return {"features": train + test, "start": 0, "training": batches, "evaluation": test}


def line(points: Iterable[tuple[int, float]]) -> Line:
    """Return the line through the medians of the seconds at each amount, which are two."""
    by_amount = defaultdict[int, list[float]](list)
    for amount, took in points:
        by_amount[amount].append(took)
    each, constant = linear_regression(list(by_amount), [*map(median, by_amount.values())])
    return Line(constant, each)


def rates(recipe: Recipe, runs: Sequence[Mapping[str, Any]]) -> dict[str, Line]:
    """Return each part's line."""

    def line_of(part: str, stage: str, chosen: Iterable[Mapping[str, Any]]) -> Line:
        points = []
        for one in chosen:
            short = recipe.changed(epochs=one["epochs"])
            points.append((amounts(short, one["train"], one["test"])[part], one["seconds"][stage]))
        return line(points)

    large = max(one["train"] for one in runs)
    features = line_of("features", "features", (one for one in runs if not one["cached"]))
    start = median(one["seconds"]["features"] for one in runs if one["cached"])
    return {
        "features": Line(features.constant - start, features.each),
        "start": Line(start, 0),
        "training": line_of("training", "train", (one for one in runs if one["train"] == large)),
        "evaluation": line_of("evaluation", "evaluate", runs),
    }


def seconds(lines: Mapping[str, Line], recipe: Recipe, train: int, test: int) -> dict[str, float]:
    """Return the seconds of each part, for a category of so many images."""
    amount = amounts(recipe, train, test)
    return {part: rate.constant + rate.each * amount[part] for part, rate in lines.items()}


def cost(took: Mapping[str, float], seeds: int) -> float:
    """Return the seconds of so many seeds, which share the features."""
    return took["features"] + seeds * (sum(took.values()) - took["features"])


def by_category(store: Mapping[str, Any], name: str) -> dict[str, dict[str, float]]:
    """Return the seconds of each part, for each category of MVTec AD."""
    recipe = recipe_for(name)
    lines = rates(recipe, store["backbones"][name]["runs"])
    return {
        category: seconds(lines, recipe, train, good + anomalous)
        for category, (train, good, anomalous) in OFFICIAL_COUNTS.items()
    }


def spread_over(jobs: Iterable[float], machines: int) -> float:
    """Return when the last machine is done, if each takes the longest job left.

    Example:
        >>> spread_over([3, 3, 2, 2, 2], machines=2)
        7.0
    """
    busy = [0.0] * machines
    for job in sorted(jobs, reverse=True):
        heapq.heapreplace(busy, busy[0] + job)
    return max(busy)


def missed(store: Mapping[str, Any]) -> list[str]:
    """Return a sentence for each bar missed: every part takes time, the sum is a whole run's."""
    found = []
    for name, measured in store["backbones"].items():
        for part, rate in rates(recipe_for(name), measured["runs"]).items():
            if part != "start":
                found += at_least(f"{name}, seconds of {part} for each", rate.each, 1e-6)
        for category, took in by_category(store, name).items():
            for part, expected in took.items():
                found += at_least(f"{name} on {category}, seconds of {part}", expected, 1e-6)
    for name, measured in store["checks"].items():
        ratio = cost(by_category(store, name)[CATEGORY], seeds=1) / measured["total"]
        found += at_least(f"{name}, worked out / measured", ratio, 0.7)
        found += at_most(f"{name}, worked out / measured", ratio, 1.4)
    return found


# Tables -----------------------------------------------------------------------------------------


def where(store: Mapping[str, Any]) -> str:
    """Return in words what the seconds were measured on."""
    computer = store["machine"]
    return (
        f"{computer['cores']} cores ({computer['cpu']}), {computer['threads']} threads, torch "
        f"{computer['versions']['torch']}, the flow's convolutions in {computer['convolutions']}, "
        f"{computer['gpu'] or 'no GPU'}"
    )


def table(store: Mapping[str, Any]) -> str:
    """Return the README's table: hours for MVTec AD's fifteen categories."""
    gpu, cores = store["machine"]["gpu"], store["machine"]["cores"]
    unit, units = ("GPU-hours", 1) if gpu else ("core-hours", cores)
    rows, jobs = [], []
    for name in BACKBONES:
        took = by_category(store, name).values()
        total = {part: sum(one[part] for one in took) / 3600 for part in next(iter(took))}
        disk = median(one["megabytes"] for one in store["backbones"][name]["runs"]) / 1000
        hours = [*total.values(), cost(total, 1), cost(total, SEEDS)]
        rows.append([*hours, units * hours[-1], SEEDS * len(OFFICIAL_COUNTS) * disk])
        if name in PAPER:
            jobs += [cost(one, SEEDS) / 3600 for one in took]
    paper = [sum(column) for column in zip(*rows[-len(PAPER) :], strict=True)]
    runs = SEEDS * len(jobs)
    lines = [
        "Hours for the fifteen categories with MVTec AD's own numbers of images, worked out from "
        f"seconds measured on {where(store)}. Features are computed once for all seeds; start "
        "(building the backbone), training and evaluation come with each. "
        + ("GPU-hours are these hours." if gpu else f"Core-hours are these hours times {cores}."),
        "",
        "| | features | start | training | evaluation | **one seed** | **three seeds** "
        f"| **{unit}, three seeds** | models on disk |",
        "|---|" + "---:|" * 8,
    ]
    titles = [*BACKBONES.values(), "**the paper's four**"]
    for title, row in zip(titles, [*rows, paper], strict=True):
        cells = [f"{hours:.2f} h" for hours in row[:6]]
        lines.append(f"| {title} | {' | '.join(cells)} | {row[6]:.1f} | {row[7]:.1f} GB |")
    lines += [
        "",
        f"The paper's four are {runs} runs, and {len(jobs)} jobs that need nothing of each other: "
        "a category by a backbone, with its three seeds. Shared out among machines like this one:",
        "",
        f"| machines | {' | '.join(map(str, MACHINES))} |",
        "|---|" + "---:|" * len(MACHINES),
        "| hours until the last is done | "
        + " | ".join(f"{spread_over(jobs, machines):.1f} h" for machines in MACHINES)
        + " |",
    ]
    return "\n".join(lines) + "\n"


def details(store: Mapping[str, Any]) -> str:
    """Return the tables of this folder's page: the lines, and a run held against them."""
    lines = [
        f"Measured by `make cost` on {where(store)}. Medians of three rounds (CaiT: "
        "one), random weights. Seconds of each part of a run: a constant, and so many for each "
        "image; of training, for each batch of two.",
        "",
        "| | features | start | training | evaluation |",
        "|---|" + "---:|" * 4,
    ]
    for name, title in BACKBONES.items():
        found = rates(recipe_for(name), store["backbones"][name]["runs"]).values()
        cells = [
            f"{round(one.constant, 2) + 0:.2f}" + (f" + {one.each:.4f}" if one.each else "")
            for one in found
        ]
        lines.append(f"| {title} | {' | '.join(cells)} |")
    train, good, anomalous = OFFICIAL_COUNTS[CATEGORY]
    lines += [
        "",
        f"Whole runs, timed apart: {train} training and {good + anomalous} test images of "
        f"{PIXELS} px, cold cache, the recipe's full budget. Seconds from the first image to the "
        "last metric; the command's also have the interpreter's start, which `fastflow "
        "reproduce` has once.",
        "",
        "| | worked out | measured | worked out / measured | the command | peak memory |",
        "|---|" + "---:|" * 5,
    ]
    for name, took in store["checks"].items():
        expected = cost(by_category(store, name)[CATEGORY], 1)
        lines.append(
            f"| {BACKBONES[name]} | {expected:.1f} s | {took['total']:.1f} s "
            f"| {expected / took['total']:.2f} | {took['command']:.1f} s "
            f"| {took['peak_mb']} MB |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--folder", type=Path, default=Path("build/cost"), help="for images")
    parser.add_argument("--tables", action="store_true", help="measure nothing")
    parser.add_argument("names", nargs="*", help=f"of {', '.join(BACKBONES)}; default: all")
    arguments = parser.parse_args()
    try:
        device = select_device(arguments.device)
        file = STORE if device.type == "cpu" else STORE.with_name("cost_cuda.json")
        store = json.loads(file.read_text()) if file.exists() else {}
        if not arguments.tables:
            if store.get("machine") != here(device):  # seconds of two machines never mix
                store = {"machine": here(device), "backbones": {}, "checks": {}}
            measure(BUNDLED, device, arguments.folder, rounds=1)  # warms up
            for name in arguments.names or BACKBONES:
                runs = measure(name, device, arguments.folder)
                store["backbones"][name] = {
                    "recipe": asdict(recipe_for(name, device=device)),
                    "runs": runs,
                }
                if name in CHECKED:
                    store["checks"][name] = check(name, device, arguments.folder)
                file.write_text(json.dumps(store, indent=1) + "\n")
        missing = [name for name in BACKBONES if name not in store.get("backbones", {})]
        if missing:
            sys.exit(f"still to be measured: {', '.join(missing)}")
        print(table(store), details(store), sep="\n")
        if file == STORE:
            README.write_text(written(README.read_text(), table(store), "cost"))
            PAGE.write_text(written(PAGE.read_text(), details(store), "cost"))
        stop_if_missed(missed(store))
    except FastFlowError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
