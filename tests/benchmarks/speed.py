"""Measure speed and memory beside the peer, and write the README's table; `make bench` calls this.

    make bench DATA=MVTEC_ROOT WEIGHTS=resnet18.pth    # measure all of it, then write
    make bench                                         # write the table from speed.json

Four parts, on the same images, weights, threads and machine:

quality    Seconds from image files (decoding, features and all) to the first evaluation at which
           the pixel AUROC reaches what the peer has after ten epochs; the peer's seconds are those
           of its training alone. Ours is evaluated after each epoch of its recipe. The peer does
           an epoch, one of ours learns, the peer does the next: what else the machine does meets
           both.
inference  From tensors to maps and scores, batches of 16 and of 1; the backbone alone, the flow
           alone. Ours and the peer in turn.
runs       `fastflow run` in a process of its own with a cold feature cache: the command's
           duration, its stages, its peak of resident memory (files mapped into it included).
growth     One epoch against the number of images, the image size and the flow steps.

Everything is kept in ``speed.json`` beside this file, with versions and the CPU. The peer is
anomalib in its own virtual environment, which `make bench` sets up: ``peer.py``. The command ends
with exit code 1 where the results miss a bar: :func:`missed`.
"""

import argparse
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bars import at_most, stop_if_missed
from results import README, written

from fastflow_utils.compute import resolve_precision
from fastflow_utils.data.mvtec import MVTecAD
from fastflow_utils.detector.evaluation import evaluate
from fastflow_utils.detector.features import Features, extract
from fastflow_utils.detector.metrics import auroc
from fastflow_utils.detector.training import fit, hold_out
from fastflow_utils.experiments.recipes import recipe_for
from fastflow_utils.provenance import versions

HERE = Path(__file__).resolve().parent
STORE = HERE / "speed.json"
CATEGORIES = ("bottle", "metal_nut")
DEFAULT = "efficientnet_lite0"
BACKBONES = {DEFAULT: "EfficientNet-Lite0 (default)", "resnet18": "ResNet18"}
EPOCHS = 10  # of the peer
TURNS = {2: "efficientnet_lite0", 5: "resnet18", 8: "efficientnet_lite0"}
ROUNDS = 5  # of inference
GROWTH = {
    "images": (100, 200, 400, 800),
    "image_size": (128, 256, 512),
    "steps": (4, 8, 16),
}


WATCH = """
import json, resource, subprocess, sys, time
start = time.perf_counter()
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
print(json.dumps([time.perf_counter() - start, peak]))
"""


class Peer:
    """The peer in its own process, which answers each line with a line."""

    def __init__(self, python: Path, category: Path, weights: Path, *options: str) -> None:
        self.process = subprocess.Popen(
            [
                *(str(python), "-W", "ignore", str(HERE / "peer.py"), "--on-demand"),
                *("--category", str(category), "--weights", str(weights)),
                *("--threads", str(torch.get_num_threads()), *options),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self) -> dict[str, Any]:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write("next\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            sys.exit("error: the peer stopped; its own words are above")
        return dict(json.loads(answer))

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


def learn(data: Path, category: str, backbone_name: str, weights: Path, seed: int) -> list[Any]:
    """Return [seconds so far, pixel AUROC] after each epoch, starting from files."""
    recipe = recipe_for(backbone_name)
    given = weights if backbone_name == "resnet18" else None
    rows: list[Any] = []
    with tempfile.TemporaryDirectory() as folder:
        train, test = (MVTecAD(data, category, name) for name in ("train", "test"))
        test_features = extract(recipe.build_backbone(given), test, cache=folder)
        start = time.perf_counter()
        backbone = recipe.build_backbone(given)
        features = extract(backbone, train, cache=folder)
        model = recipe.build_model(backbone, seed)
        _, held_out = hold_out(len(train), torch.Generator().manual_seed(seed))
        away = 0.0

        def look(epoch: int) -> None:
            nonlocal away
            model.calibrate(features[index] for index in held_out.split(16))
            done = time.perf_counter()
            result = evaluate(model, test, test_features)
            value = auroc(result.maps[..., ::2, ::2], result.masks[..., ::2, ::2])
            rows.append([round(done - start - away, 2), round(value, 4)])
            away += time.perf_counter() - done

        fit(model, features, seed=seed, after_epoch=look, **recipe.training(len(train)))
    return rows


def quality(data: Path, weights: Path, python: Path) -> dict[str, Any]:
    """Alternate the peer's epochs with trainings of ours."""
    measured: dict[str, Any] = {}
    for category in CATEGORIES:
        peer = Peer(python, data / category, weights, "--epochs", str(EPOCHS))
        epochs, ours = [], {name: [] for name in BACKBONES}
        for epoch in range(1, EPOCHS + 1):
            epochs.append(peer.ask())
            print(category, epochs[-1], flush=True)
            if name := TURNS.get(epoch):
                ours[name].append(learn(data, category, name, weights, seed=len(ours[name])))
                print(category, name, ours[name][-1], flush=True)
        peer.close()
        target, seconds = epochs[-1]["pixel_auroc"], epochs[-1]["train_s"]
        measured[category] = {
            "peer": {"pixel_auroc": target, "seconds": seconds, "epochs": epochs},
            "ours": {
                name: {
                    "seconds": [next((s for s, a in run if a >= target), None) for run in runs],
                    "evaluations": runs,
                }
                for name, runs in ours.items()
            },
        }
    return measured


def milliseconds(function: Callable[[], object], repeats: int = 5) -> float:
    """Return the median duration."""
    function()
    durations = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        durations.append(time.perf_counter() - start)
    return 1000 * statistics.median(durations)


def inference(data: Path, weights: Path, python: Path) -> dict[str, Any]:
    """Return milliseconds of each round: a batch of 16, its parts, a single image."""
    test = MVTecAD(data, "bottle", "test")
    batch = torch.stack([test[i].image for i in range(16)])
    peer = Peer(python, data / "bottle", weights, "--inference")
    models = {}
    for name in BACKBONES:
        recipe = recipe_for(name)
        backbone = recipe.build_backbone(weights if name == "resnet18" else None)
        model = recipe.build_model(backbone)
        fit(model, Features(backbone(batch)), epochs=1)  # enough for speed: no layer is idle
        models[name] = model.for_inference()
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in (*BACKBONES, "peer")}
    with torch.no_grad():
        for _ in range(ROUNDS):
            for name, model in models.items():
                maps = model.backbone(batch)
                rounds[name].append(
                    {
                        "batch of 16": milliseconds(lambda m=model: m.predict(batch)),
                        "backbone": milliseconds(lambda m=model: m.backbone(batch)),
                        "flow": milliseconds(lambda m=model, h=maps: m.nll_maps(h)),
                        "single": milliseconds(lambda m=model: m.predict(batch[:1])),
                    }
                )
            rounds["peer"].append(peer.ask())
            print({name: values[-1] for name, values in rounds.items()}, flush=True)
    peer.close()
    return rounds


def fastflow_run(data: Path, category: str, *options: str) -> dict[str, Any]:
    """Return what one cold `fastflow run` took: seconds, by stage, and its peak memory."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            *(str(Path(sys.executable).with_name("fastflow")), "run", "--data", str(data)),
            *("--category", category, "--output", f"{folder}/run", *options),
        ]
        # Through a small process: a peak starts with the memory of the process that it came from.
        done = subprocess.run(
            [sys.executable, "-c", WATCH, *command],
            env={**os.environ, "FASTFLOW_CACHE": f"{folder}/cache"},
            stdout=subprocess.PIPE,
            text=True,
        )
        if done.returncode:
            sys.exit(f"error: {' '.join(command)} failed")
        seconds, peak = json.loads(done.stdout)
        stages = json.loads(Path(folder, "run", "metrics.json").read_text())["seconds"]
    result = {
        "command": round(seconds, 1),
        **stages,
        "peak_mb": round(peak * 1024 / 1e6),  # Linux counts in KiB
    }
    print(category, options, result, flush=True)
    return result


def runs(data: Path) -> dict[str, Any]:
    return {
        "bottle, default": [fastflow_run(data, "bottle") for _ in range(2)],
        "screw at 448 px, default, one epoch": [
            fastflow_run(data, "screw", "--image-size", "448", "--epochs", "1")
        ],
    }


def repeated(data: Path, root: Path, images: int) -> None:
    """Fill a category with so many training images and half as many test images, as links."""
    counts = {"train": images, "test": images // 2}
    for name, count in counts.items():
        split_ = MVTecAD(data, "bottle", name)
        files = [*zip(split_.paths, split_.mask_paths, strict=True)]
        order = sorted(range(len(files)), key=lambda i: i % 7)  # any number has good and anomalous
        for i, (path, mask) in enumerate(islice(cycle(files[i] for i in order), count)):
            link = root / "bottle" / name / path.parent.name / f"{i:04}{path.suffix}"
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(path.resolve())
            if mask:
                link = (
                    root / "bottle/ground_truth" / path.parent.name / f"{i:04}_mask{mask.suffix}"
                )
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(mask.resolve())


def growth(data: Path) -> dict[str, Any]:
    """Vary one thing at a time, from 50 images of 256 px and 8 steps; one epoch."""
    measured: dict[str, Any] = {}
    for what, values in GROWTH.items():
        rows = []
        for value in values:
            with tempfile.TemporaryDirectory() as folder:
                repeated(data, Path(folder), value if what == "images" else 50)
                recipe = recipe_for(epochs=1, **({} if what == "images" else {what: value}))
                recipe.save(f"{folder}/recipe.yaml")
                rows.append(
                    fastflow_run(Path(folder), "bottle", "--config", f"{folder}/recipe.yaml")
                )
        measured[what] = {"values": values, "runs": rows}
        for part in ("features", "train", "total", "peak_mb"):
            logs = np.log([[value, row[part]] for value, row in zip(values, rows, strict=True)])
            slope = float(np.polyfit(logs[:, 0], logs[:, 1], 1)[0])
            measured[what][f"exponent of {part}"] = round(slope, 2)
        print(what, {k: v for k, v in measured[what].items() if "exponent" in k}, flush=True)
    return measured


def cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def machine() -> dict[str, Any]:
    return {
        "cpu": cpu(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "convolutions": resolve_precision("auto", "cpu"),
        "versions": versions(),
    }


def median(rounds: list[dict[str, float]], name: str) -> float:
    return statistics.median(row[name] for row in rounds)


SHARES = {DEFAULT: 1 / 10, "resnet18": 1 / 4}  # of the peer's seconds, at most


def missed(store: dict[str, Any]) -> list[str]:
    """Return a sentence for each bar that the results miss."""
    found = []
    for category, measured in store["quality"].items():
        peer = measured["peer"]["seconds"]
        for name, share in SHARES.items():
            took = measured["ours"][name]["seconds"]
            seconds = statistics.median(math.inf if one is None else one for one in took)
            what = f"{name} on {category}, seconds to the peer's pixel AUROC"
            found += at_most(what, seconds, share * peer)
    ours, peer = (median(store["inference"][side], "batch of 16") for side in (DEFAULT, "peer"))
    found += at_most("milliseconds of a batch of 16", ours, peer / 3)
    total = median(store["runs"]["bottle, default"], "total")
    found += at_most("seconds of a run on bottle", total, 40)
    exponent = store["growth"]["images"]["exponent of total"]
    return found + at_most("growth with the number of images, exponent", exponent, 1.05)


def table(store: dict[str, Any]) -> str:
    """Return the README's table as Markdown."""
    where = store["machine"]
    cell = "{:.1f} s ({:.1f} to {:.1f})"
    lines = [
        f"Measured by `make bench`: {where['cores']} cores ({where['cpu']}), {where['threads']} "
        f"threads, torch {where['versions']['torch']}, the flow's convolutions in "
        f"{where['convolutions']}, no GPU. Medians (least to most).",
        "",
        "| | ours, EfficientNet-Lite0 (default) | ours, ResNet18 | anomalib 2.7, ResNet18 |",
        "|---|---:|---:|---:|",
    ]
    for category, measured in store["quality"].items():
        peer = measured["peer"]
        cells = []
        for name in BACKBONES:
            seconds = measured["ours"][name]["seconds"]
            if None in seconds:
                cells.append("not reached")
                continue
            middle = statistics.median(seconds)
            text = cell.format(middle, min(seconds), max(seconds))
            cells.append(f"{text}: **1/{peer['seconds'] / middle:.1f}**")
        lines.append(
            f"| {category}: from files to pixel AUROC {peer['pixel_auroc']:.3f} | "
            f"{' | '.join(cells)} | {peer['seconds']:.0f} s of training |"
        )
    rounds = store["inference"]
    peer_ms = median(rounds["peer"], "batch of 16") / 16
    for name, text, images in (
        ("batch of 16", "an image in a batch of 16, tensor to map and score", 16),
        ("single", "a single image", 1),
        ("backbone", "its backbone (batch of 16)", 16),
        ("flow", "its flow (batch of 16)", 16),
    ):
        cells = []
        for side in (*BACKBONES, "peer"):
            values = [row[name] / images for row in rounds[side]]
            middle = statistics.median(values)
            ratio = f": **{peer_ms / middle:.1f}x**" if name == "batch of 16" else ""
            ratio = "" if side == "peer" else ratio
            cells.append(f"{middle:.1f} ms ({min(values):.1f} to {max(values):.1f}){ratio}")
        lines.append(f"| {text} | {' | '.join(cells)} |")
    shares = [
        f"{statistics.median(row['flow'] / row['backbone'] for row in rounds[side]):.2f}"
        for side in (*BACKBONES, "peer")
    ]
    lines.append(f"| flow over backbone | {' | '.join(shares)} |")
    lines += [
        "",
        "| `fastflow run`, cold cache | command | features | train | evaluate | peak memory |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name, rows in store["runs"].items():
        cells = [
            f"{median(rows, stage):.1f} s"
            for stage in ("command", "features", "train", "evaluate")
        ]
        lines.append(f"| {name} | {' | '.join(cells)} | {median(rows, 'peak_mb'):.0f} MB |")
    lines += [
        "",
        "| growth of one epoch, as a power of | features | train | all stages | peak memory |",
        "|---|---:|---:|---:|---:|",
    ]
    for what, measured in store["growth"].items():
        cells = [
            f"{measured[f'exponent of {part}']:.2f}"
            for part in ("features", "train", "total", "peak_mb")
        ]
        first, last = measured["values"][0], measured["values"][-1]
        name = what.replace("_", " ")
        lines.append(f"| {name}, {first} to {last} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, help="holds bottle, metal_nut and screw")
    parser.add_argument("--weights", type=Path, help="of ResNet18, for both sides")
    parser.add_argument("--peer", type=Path, default=Path("build/peer/bin/python"))
    parser.add_argument("--parts", default="quality,inference,runs,growth")
    arguments = parser.parse_args()
    if arguments.data:
        if not arguments.weights:
            parser.error("--weights is missing: both sides take ResNet18's from one file")
        store = json.loads(STORE.read_text()) if STORE.exists() else {}
        store["machine"] = machine()
        both = (arguments.data, arguments.weights, arguments.peer)
        parts: dict[str, Callable[[], dict[str, Any]]] = {
            "inference": lambda: inference(*both),
            "quality": lambda: quality(*both),
            "runs": lambda: runs(arguments.data),
            "growth": lambda: growth(arguments.data),
        }
        for name in arguments.parts.split(","):
            store[name] = parts[name]()
            STORE.write_text(json.dumps(store, indent=1) + "\n")
    store = json.loads(STORE.read_text())
    block = table(store)
    README.write_text(written(README.read_text(), block, "speed"))
    print(block)
    stop_if_missed(missed(store))


if __name__ == "__main__":
    main()
