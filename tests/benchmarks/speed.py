"""Measure speed and memory beside the peer and write the README's tables: `make bench`.

    make bench DATA=MVTEC_ROOT WEIGHTS=resnet18.pth    # measure all of it, then write
    make bench                                         # write the tables from speed.json
    make gpu DATA=MVTEC_ROOT WEIGHTS=resnet18.pth      # both on a GPU, into speed_cuda.json

Everything is measured in two modes, each in a process of its own, and the peer in the same mode:
as on a plain laptop (float32, AVX2, whatever else the processor could do), and with all that the
processor has. Six parts, on the same images, weights, threads and machine:

quality     Seconds from image files (decoding, features and all) to the first evaluation at which
            the pixel AUROC reaches what the peer has after ten epochs; the peer's seconds are
            those of its training alone. Ours is evaluated after each epoch of its recipe. The peer
            does an epoch, one of ours learns, the peer does the next: what else the machine does
            meets both.
inference   From tensors to maps and scores, batches of 16 and of 1; the backbone alone, the flow
            alone. Ours and the peer in turn.
arithmetic  Floating-point operations of each stage, counted by torch, over its time: how far it
            is from a product of two large matrices on the same cores.
starts      Processor seconds of commands and imports, in turn with those of `import torch`.
runs        `fastflow run` in a process of its own with a cold feature cache: the command's
            duration, its stages, its peak of resident memory (files mapped into it included).
growth      One epoch against the number of images, the image size and the flow steps; in one mode.

Everything is kept in ``speed.json`` beside this file, with versions and the CPU. The peer is
anomalib in its own virtual environment, which `make bench` sets up: ``peer.py``. The command ends
with exit code 1 where the results miss a bar: :func:`missed`.
"""

import argparse
import json
import math
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bars import at_most, stop_if_missed
from results import METRICS, README, written
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from fastflow_utils.compute import resolve_precision, select_device
from fastflow_utils.data.mvtec import MVTecAD
from fastflow_utils.data.sample_set import make
from fastflow_utils.detector.evaluation import evaluate
from fastflow_utils.detector.features import Features, extract
from fastflow_utils.detector.metrics import auroc
from fastflow_utils.detector.model import FastFlow
from fastflow_utils.detector.training import fit, hold_out
from fastflow_utils.experiments.recipes import recipe_for
from fastflow_utils.provenance import versions

HERE = Path(__file__).resolve().parent
STORE = HERE / "speed.json"
PAGE = HERE / "README.md"
PLAIN, FULL, GPU = "float32, AVX2", "all the processor has", "GPU"
MODES = {  # what each needs in the environment before torch is loaded
    PLAIN: {
        "ATEN_CPU_CAPABILITY": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
        "FASTFLOW_PRECISION": "float32",
    },
    FULL: {},
    GPU: {},
}
CATEGORIES = ("bottle", "metal_nut")
DEFAULT = "efficientnet_lite0"
BACKBONES = {DEFAULT: "EfficientNet-Lite0 (default)", "resnet18": "ResNet18"}
EPOCHS = 10  # of the peer
TURNS = {2: "efficientnet_lite0", 5: "resnet18", 8: "efficientnet_lite0"}
ROUNDS = 3  # of inference and starts
GROWTH = {
    "images": (100, 200, 400, 800),
    "image_size": (128, 256, 512),
    "steps": (4, 8, 16),
}


BOTTLE, SCREW = "bottle, default", "screw at 448 px, default, one epoch"
IMPORT = "from fastflow_utils import FastFlow, Backbone"
PREDICT = "fastflow predict, one picture"
NUMPY, TORCH = "import numpy, pandas", "import torch"  # what the starts are held against

WATCH = """
import json, resource, subprocess, sys, time
start = time.perf_counter()
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
print(json.dumps([time.perf_counter() - start, peak]))
"""


DEVICE = select_device("cpu")  # --device changes it


class Peer:
    """The peer in its own process, which answers each line with a line."""

    def __init__(self, python: Path, category: Path, weights: Path, *options: str) -> None:
        self.process = subprocess.Popen(
            [
                *(str(python), "-W", "ignore", str(HERE / "peer.py"), "--on-demand"),
                *("--device", DEVICE.type),
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
        test_features = extract(recipe.build_backbone(given).to(DEVICE), test, cache=folder)
        start = time.perf_counter()
        backbone = recipe.build_backbone(given).to(DEVICE)
        features = extract(backbone, train, cache=folder)
        model = recipe.build_model(backbone, seed).to(DEVICE)
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

    def wait() -> None:
        if DEVICE.type == "cuda":
            torch.cuda.synchronize()

    function()
    durations = []
    for _ in range(repeats):
        wait()
        start = time.perf_counter()
        function()
        wait()
        durations.append(time.perf_counter() - start)
    return 1000 * statistics.median(durations)


def started(name: str, weights: Path, batch: Tensor) -> FastFlow:
    """Return a model after an epoch on one batch: enough for speed, as no layer is idle."""
    recipe = recipe_for(name)
    backbone = recipe.build_backbone(weights if name == "resnet18" else None).to(DEVICE)
    model = recipe.build_model(backbone).to(DEVICE)
    fit(model, Features(backbone(batch)), epochs=1)
    return model


def inference(data: Path, weights: Path, python: Path) -> dict[str, Any]:
    """Return milliseconds of each round: a batch of 16, its parts, a single image."""
    test = MVTecAD(data, "bottle", "test")
    batch = torch.stack([test[i].image for i in range(16)]).to(DEVICE)
    peer = Peer(python, data / "bottle", weights, "--inference")
    models = {name: started(name, weights, batch).for_inference() for name in BACKBONES}
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


def operations(function: Callable[[], object]) -> int:
    """Return the operations of convolutions and matrix products, as torch counts them."""
    with FlopCounterMode(display=False) as counter:
        function()
    return counter.get_total_flops()


def arithmetic(data: Path, weights: Path) -> dict[str, Any]:
    """Return operations (GFLOP) and milliseconds of each stage, an image.

    A training step is two images', forward and backward, of all levels; its optimiser included.
    """
    test = MVTecAD(data, "bottle", "test")
    batch = torch.stack([test[i].image for i in range(16)]).to(DEVICE)
    square = torch.rand(1024, 1024, device=DEVICE)
    product = milliseconds(lambda: square @ square, 50)
    found: dict[str, Any] = {"matrix product": round(2 * 1024**3 / product / 1e6, 1)}  # GFLOP/s
    for name in BACKBONES:
        model = started(name, weights, batch)
        detector, maps = model.for_inference(), model.backbone(batch)
        pair = Features(model.backbone(batch[:2]))
        stages = {
            "backbone": (lambda m=detector: m.backbone(batch), 16),
            "flow": (lambda m=detector, h=maps: m.nll_maps(h), 16),
        }
        with torch.no_grad():
            found[name] = {
                stage: {
                    "gflop": operations(run_it) / images / 1e9,
                    "ms": milliseconds(run_it) / images,
                }
                for stage, (run_it, images) in stages.items()
            }
        found[name]["training"] = training_step(model, pair, recipe_for(name).positions)
        print(name, found[name], flush=True)
    return found


def training_step(model: FastFlow, pair: Features, positions: int | None) -> dict[str, float]:
    """Return an image's share of a training step of two: the slope between two lengths of ``fit``.

    The operations are those of the loop of :func:`~fastflow_utils.detector.training.fit`, one
    step of it done here by hand.
    """
    two = pair[:]

    def by_hand() -> None:
        model.train()
        for level, h in enumerate(two):
            count = 2 if positions is None else max(1, positions // h[0, 0].numel())
            model.nll_map(level, h[:count]).mean().backward()

    gflop = operations(by_hand) / 2 / 1e9
    many = Features([h.repeat(40, 1, 1, 1) for h in two])  # 72 learn, 8 are held out
    seconds = []
    for _ in range(3):
        history = fit(model, many, epochs=3, positions=positions)["seconds"]
        seconds.append(history.diff().iloc[1:].min())
    # An epoch also has the held-out images' likelihoods, forward only: a third of theirs.
    return {"gflop": gflop, "ms": 1000 * min(seconds) / (72 + 8 / 3)}


def processor_seconds(command: Sequence[str]) -> tuple[float, float]:
    """Return a command's processor seconds, its children's among them, and its duration."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    subprocess.run(command, check=False, capture_output=True)
    duration = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return round(spent, 3), round(duration, 3)


def starts(data: Path) -> dict[str, Any]:
    """Return for each command [processor seconds, duration] of every round, in turn."""
    fastflow = str(Path(sys.executable).with_name("fastflow"))
    picture = MVTecAD(data, "bottle", "test").paths[0]
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder, "run", "model")
        few = make(Path(folder, "few"), ["bottle"], size=64, train=1, good=1, per_defect=1)
        options = ("--category", "bottle", "--epochs", "1", "--output", str(model.parent))
        done = subprocess.run(
            [fastflow, "run", "--data", str(data), *options], capture_output=True
        )
        if done.returncode:
            sys.exit(f"error: fastflow run failed: {done.stderr.decode()}")
        commands = {
            NUMPY: [sys.executable, "-c", "import numpy, pandas"],
            TORCH: [sys.executable, "-c", "import torch"],
            "fastflow --help": [fastflow, "--help"],
            "fastflow recipes": [fastflow, "recipes"],
            "fastflow report": [fastflow, "report", folder],
            "fastflow data check": [fastflow, "data", "check", str(few)],
            "a mistake": [fastflow, "run", "--category", "bottle"],
            IMPORT: [*(sys.executable, "-c", "from fastflow_utils import FastFlow, Backbone")],
            PREDICT: [
                *(fastflow, "predict", str(model), str(picture), "--output", f"{folder}/seen")
            ],
        }
        measured: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
        for _ in range(ROUNDS):
            for name, command in commands.items():
                measured[name].append(processor_seconds(command))
    print({name: rows[-1] for name, rows in measured.items()}, flush=True)
    return measured


def fastflow_run(data: Path, category: str, *options: str) -> dict[str, Any]:
    """Return what one cold `fastflow run` took: seconds, by stage, and its peak memory."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            *(str(Path(sys.executable).with_name("fastflow")), "run", "--data", str(data)),
            *("--category", category, "--output", f"{folder}/run"),
            *("--device", DEVICE.type, *options),
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
        metrics = json.loads(Path(folder, "run", "metrics.json").read_text())
    result = {
        "command": round(seconds, 1),
        **metrics["seconds"],
        **{name: round(metrics[name], 4) for name in METRICS if metrics[name] is not None},
        "peak_mb": round(peak * 1024 / 1e6),  # Linux counts in KiB
    }
    print(category, options, result, flush=True)
    return result


def runs(data: Path) -> dict[str, Any]:
    return {
        BOTTLE: [fastflow_run(data, "bottle") for _ in range(2)],
        SCREW: [fastflow_run(data, "screw", "--image-size", "448", "--epochs", "1")],
    }


def repeated(data: Path, root: Path, images: int) -> None:
    """Fill a category with so many training images and half as many test images, as links."""
    counts = {"train": images, "test": images // 2}
    for name, count in counts.items():
        split_ = MVTecAD(data, "bottle", name)
        files = [*zip(split_.paths, split_.mask_paths, strict=True)]
        order = sorted(range(len(files)), key=lambda i: i % 7)  # any number has good and anomalous
        for i, (path, masks) in enumerate(islice(cycle(files[i] for i in order), count)):
            link = root / "bottle" / name / path.parent.name / f"{i:04}{path.suffix}"
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(path.resolve())
            truth = root / "bottle/ground_truth" / path.parent.name
            for mask in masks:
                truth.mkdir(parents=True, exist_ok=True)
                (truth / f"{i:04}_mask{mask.suffix}").symlink_to(mask.resolve())


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
    gpu = torch.cuda.get_device_name() if DEVICE.type == "cuda" else None
    return {
        "cpu": cpu(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "convolutions": resolve_precision("auto", DEVICE),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        **({"gpu": gpu} if gpu else {}),
        "versions": versions(),
    }


def median(rounds: list[dict[str, float]], name: str) -> float:
    return statistics.median(row[name] for row in rounds)


def over(rounds: list[dict[str, float]], name: str, other: str) -> float:
    """Return the median over the rounds of one duration over another."""
    return statistics.median(row[name] / row[other] for row in rounds)


def spent(starts: dict[str, Any], name: str, unit: str, column: int = 0) -> float:
    """Return a command's seconds over another's: of the processor (0) or on the clock (1)."""
    of, per = ([row[column] for row in starts[one]] for one in (name, unit))
    return statistics.median(of) / statistics.median(per)


SHARES = {DEFAULT: 1 / 15, "resnet18": 1 / 6}  # of the peer's seconds, at most
INSTANT = 1.5  # times `import numpy, pandas`: commands that compute nothing
STARTS = {IMPORT: 1.4, PREDICT: 1.6}  # times `import torch`
RUN = 6  # times `import torch`: `fastflow run` on bottle


def missed(store: dict[str, Any]) -> list[str]:
    """Return a sentence for each bar that the results miss."""
    found = []
    for mode, of in store["modes"].items():
        for category, measured in of.get("quality", {}).items():
            peer = measured["peer"]["seconds"]
            for name, share in SHARES.items():
                took = measured["ours"][name]["seconds"]
                seconds = statistics.median(math.inf if one is None else one for one in took)
                what = f"{mode}: {name} on {category}, seconds to the peer's pixel AUROC"
                found += at_most(what, seconds, share * peer)
        rounds = of["inference"]
        ours, peer = (median(rounds[side], "batch of 16") for side in (DEFAULT, "peer"))
        found += at_most(f"{mode}: milliseconds of a batch of 16", ours, peer / 4)
        if mode == PLAIN:
            ratio = over(rounds["resnet18"], "flow", "backbone")
            found += at_most(f"{mode}: resnet18, flow over backbone", ratio, 1.0)
        starts = of["starts"]
        for name in starts:
            unit, bar = (TORCH, STARTS[name]) if name in STARTS else (NUMPY, INSTANT)
            if name not in (NUMPY, TORCH):
                found += at_most(f"{mode}: {name} / {unit}", spent(starts, name, unit), bar)
        command = median(of["runs"][BOTTLE], "command")
        unit = statistics.median(row[1] for row in starts[TORCH])
        found += at_most(f"{mode}: fastflow run on bottle / {TORCH}", command / unit, RUN)
        peak = median(of["runs"][SCREW], "peak_mb")
        found += at_most(f"{mode}: peak memory (MB), {SCREW}", peak, 1200)
    for what, bar in {"images": 1.05, "image_size": 1.5}.items():
        exponent = store["growth"][what]["exponent of total"]
        found += at_most(f"growth with {what}, exponent", exponent, bar)
    return found


def table(store: dict[str, Any]) -> str:
    """Return the README's tables as Markdown."""
    where = next(iter(store["modes"].values()))["machine"]
    lines = [
        f"Measured by `make bench`: {where['cores']} cores ({where['cpu']}), {where['threads']} "
        f"threads, torch {where['versions']['torch']}, no GPU. Medians (least to most). Two "
        "modes: as on a plain laptop, in float32 with AVX2 only, and with all that this "
        "processor has (AVX512, the flow's convolutions in bfloat16). The peer is in the same "
        "mode, and always in float32.",
    ]
    for mode, of in store["modes"].items():
        lines += ["", f"**{mode[0].upper()}{mode[1:]}**", "", *_beside_the_peer(of)]
        missing = [name for name in CATEGORIES if name not in of.get("quality", {})]
        if missing:
            what = (
                f"Not measured in this mode: seconds to the peer's quality, {', '.join(missing)}."
            )
            lines += ["", what]
    lines += ["", *_runs(store["modes"]), "", *_starts(store["modes"])]
    lines += ["", *_growth(store["growth"])]
    return "\n".join(lines) + "\n"


def _beside_the_peer(of: dict[str, Any]) -> list[str]:
    lines = [
        "| | ours, EfficientNet-Lite0 (default) | ours, ResNet18 | anomalib 2.7, ResNet18 |",
        "|---|---:|---:|---:|",
    ]
    cell = "{:.1f} s ({:.1f} to {:.1f})"
    for category, measured in of.get("quality", {}).items():
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
    rounds = of["inference"]
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
    shares = [f"{over(rounds[side], 'flow', 'backbone'):.2f}" for side in (*BACKBONES, "peer")]
    return [*lines, f"| flow over backbone | {' | '.join(shares)} |"]


def _runs(modes: dict[str, Any]) -> list[str]:
    lines = [
        "| `fastflow run`, cold cache | command | / `import torch` | features | train | evaluate "
        "| peak memory |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for mode, of in modes.items():
        unit = statistics.median(row[1] for row in of["starts"][TORCH])
        for name, rows in of["runs"].items():
            command, *stages = (
                median(rows, stage) for stage in ("command", "features", "train", "evaluate")
            )
            cells = [f"{command:.1f} s", f"{command / unit:.1f}x", *(f"{s:.1f} s" for s in stages)]
            peak = median(rows, "peak_mb")
            lines.append(f"| {name}; {mode} | {' | '.join(cells)} | {peak:.0f} MB |")
    return lines


def _starts(modes: dict[str, Any]) -> list[str]:
    starts = modes.get(PLAIN, next(iter(modes.values())))["starts"]
    lines = [
        "| the start, processor seconds | s | / `import numpy, pandas` | / `import torch` |",
        "|---|---:|---:|---:|",
    ]
    for name, rows in starts.items():
        cells = [f"{statistics.median(row[0] for row in rows):.2f}"]
        cells += [f"{spent(starts, name, unit):.2f}x" for unit in (NUMPY, TORCH)]
        lines.append(f"| `{name}` | {' | '.join(cells)} |".replace("`a mistake`", "a mistake"))
    return lines


def _growth(growth: dict[str, Any]) -> list[str]:
    lines = [
        "| growth of one epoch, as a power of | features | train | all stages | peak memory |",
        "|---|---:|---:|---:|---:|",
    ]
    for what, measured in growth.items():
        cells = [
            f"{measured[f'exponent of {part}']:.2f}"
            for part in ("features", "train", "total", "peak_mb")
        ]
        first, last = measured["values"][0], measured["values"][-1]
        name = what.replace("_", " ")
        lines.append(f"| {name}, {first} to {last} | {' | '.join(cells)} |")
    return lines


def details(store: dict[str, Any]) -> str:
    """Return the table of this folder's page: how far each stage is from the arithmetic."""
    lines = [
        "Measured by `make bench`. GFLOP an image of convolutions and matrix products (a product "
        "and a sum are two), as torch counts them; of training: forward and backward, a step of "
        "two images. The last column is the speed over that of a product of two 1024 x 1024 "
        "matrices on the same cores in float32.",
        "",
        "| | GFLOP | ms | GFLOP/s | share of the matrix product's |",
        "|---|---:|---:|---:|---:|",
    ]
    for mode, of in store["modes"].items():
        peak = of["arithmetic"]["matrix product"]
        lines.append(f"| **{mode}**: a matrix product | 2.15 | | {peak:.0f} | 100 % |")
        for name, text in BACKBONES.items():
            for stage, row in of["arithmetic"][name].items():
                speed = row["gflop"] / row["ms"] * 1000
                cells = f"{row['gflop']:.2f} | {row['ms']:.1f} | {speed:.0f}"
                lines.append(f"| {text}, {stage} | {cells} | {100 * speed / peak:.0f} % |")
    return "\n".join(lines) + "\n"


def main() -> None:
    global DEVICE
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, help="holds bottle, metal_nut and screw")
    parser.add_argument("--weights", type=Path, help="of ResNet18, for both sides")
    parser.add_argument("--peer", type=Path, default=Path("build/peer/bin/python"))
    parser.add_argument("--parts", default="inference,arithmetic,starts,runs,quality,growth")
    parser.add_argument("--modes", help="semicolons between them; default: both")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--mode", choices=MODES, help="measure this one, in this process")
    arguments = parser.parse_args()
    DEVICE = select_device(arguments.device)
    on_gpu = DEVICE.type == "cuda"
    file = HERE / "speed_cuda.json" if on_gpu else STORE
    store = json.loads(file.read_text()) if file.exists() else {}
    if arguments.data and not arguments.weights:
        parser.error("--weights is missing: both sides take ResNet18's from one file")
    if arguments.mode:
        measure(arguments, store, file)
        return
    if arguments.data:
        asked = arguments.modes.split(";") if arguments.modes else [PLAIN, FULL]
        for mode in [GPU] if on_gpu else asked:
            print(f"-- {mode}", flush=True)
            done = subprocess.run(
                [sys.executable, __file__, *sys.argv[1:], "--mode", mode],
                env={**os.environ, **MODES[mode]},
            )
            if done.returncode:
                sys.exit(f"error: the mode '{mode}' failed; what was measured before is in {file}")
    store = json.loads(file.read_text())
    if on_gpu:
        print(*_beside_the_peer(store["modes"][GPU]), same_accuracy(store), sep="\n")
        return
    block = table(store)
    README.write_text(written(README.read_text(), block, "speed"))
    PAGE.write_text(written(PAGE.read_text(), details(store), "arithmetic"))
    print(block, details(store), sep="\n")
    stop_if_missed(missed(store))


def measure(arguments: argparse.Namespace, store: dict[str, Any], file: Path) -> None:
    """Measure one mode in this process, whose environment decides it; keep each part at once."""
    both = (arguments.data, arguments.weights, arguments.peer)
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "inference": lambda: inference(*both),
        "arithmetic": lambda: arithmetic(arguments.data, arguments.weights),
        "starts": lambda: starts(arguments.data),
        "runs": lambda: runs(arguments.data),
        "quality": lambda: quality(*both),
        "growth": lambda: growth(arguments.data),
    }
    of = store.setdefault("modes", {}).setdefault(arguments.mode, {})
    of["machine"] = machine()
    for name in arguments.parts.split(","):
        if name == "growth":
            if arguments.mode != PLAIN:  # one mode is enough: it is the same code
                store[name] = parts[name]()
        else:
            of[name] = parts[name]()
        file.write_text(json.dumps(store, indent=1) + "\n")


def same_accuracy(store: dict[str, Any]) -> str:
    """Return bottle's metrics of the runs here beside those of the stored results."""
    stored = json.loads((HERE / "results.json").read_text())["runs"][f"{DEFAULT} bottle"]
    lines = ["bottle, default: | here | stored, least to most of its seeds"]
    for metric in ("image_auroc", "pixel_auroc", "pixel_f1", "aupro"):
        here = median(store["modes"][GPU]["runs"][BOTTLE], metric)
        there = [run[metric] for run in stored]
        lines.append(f"{metric} | {here:.4f} | {min(there):.4f} to {max(there):.4f}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
