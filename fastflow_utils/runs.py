"""A run: one category, one recipe, one seed, from image files to a folder of results."""

import ctypes
import json
import os
import platform
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import torch.nn.functional as F
from PIL import Image

from fastflow_utils import plots
from fastflow_utils.backbones import Backbone
from fastflow_utils.datasets import MVTecAD, image_files, load_image
from fastflow_utils.errors import FastFlowError
from fastflow_utils.evaluation import Evaluation, evaluate
from fastflow_utils.features import extract
from fastflow_utils.frontend import track
from fastflow_utils.model import FastFlow
from fastflow_utils.recipes import Recipe
from fastflow_utils.training import fit

__all__ = [
    *("Run", "finished", "predict", "read_json"),
    *("run", "select_device", "versions", "write_json"),
]


@dataclass(frozen=True)
class Run:
    """What :func:`run` leaves in memory; on disk it is in ``output``."""

    model: FastFlow
    history: pd.DataFrame
    evaluation: Evaluation
    metrics: dict[str, Any]


def select_device(name: str = "auto") -> torch.device:
    """Return the device to compute on: "cpu", "cuda", or "auto" for CUDA where there is one.

    Raises:
        FastFlowError: If the name is another, or CUDA is asked for and absent.

    Example:
        >>> select_device("cpu")
        device(type='cpu')
    """
    if name not in ("auto", "cpu", "cuda"):
        raise FastFlowError(f"device '{name}': expected auto, cpu or cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise FastFlowError("device 'cuda': torch sees no GPU here; use --device cpu or auto")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def versions() -> dict[str, str]:
    """Return the versions that a result depends on, to be kept beside it."""
    names = ("fastflow-utils", "torch", "timm", "kornia", "torchmetrics", "numpy", "pillow")
    return {"python": platform.python_version(), **{name: version(name) for name in names}}


def run(
    recipe: Recipe,
    root: Path | str,
    category: str,
    output: Path | str,
    *,
    seed: int = 0,
    weights: Path | str | None = None,
    device: torch.device | str = "cpu",
    cache: Path | str | None = None,
    backbone: Backbone | None = None,
    figures: bool = True,
) -> Run:
    """Train on a category's normal images, evaluate on its test split, write it all down.

    Writes ``metrics.json``, ``per_defect.csv``, ``history.csv``, ``recipe.yaml``, ``model/`` and
    ``figures/*.png`` into ``output``. The figures are of the last epoch of the recipe's budget;
    nothing was chosen on the test split. ``metrics.json`` is written last, and whole.

    Args:
        recipe: Backbone, flow and budget.
        root: Holds the categories, in MVTec layout.
        category: One of them.
        output: Made if it is missing; results of an earlier run in it are replaced.
        seed: Fixes permutations, initial weights and the order of the batches.
        weights: A local state dict for the backbone.
        device: Where to compute.
        cache: Where features are kept, as for :func:`~fastflow_utils.features.extract`.
        backbone: The recipe's, with these weights, where it is built already.
        figures: Whether to draw them.

    Raises:
        FastFlowError: For anything wrong with data, weights or recipe, before training starts
            where that is possible.
        KeyboardInterrupt: After Ctrl-C; from the first batch on, the model so far is in
            ``output/model`` by then.
    """
    start = time.perf_counter()
    train = MVTecAD(root, category, "train", recipe.image_size)
    test = MVTecAD(root, category, "test", recipe.image_size)
    if len(set(test.labels)) < 2:
        raise FastFlowError(
            f"the test split of '{category}' holds {test.counts()}: to evaluate, it needs both "
            "good and anomalous images"
        )
    output = Path(output)
    output.mkdir(parents=True, exist_ok=True)
    (output / "metrics.json").unlink(missing_ok=True)  # no old figures beside a new model
    backbone = (backbone or recipe.build_backbone(weights)).to(device)
    train_features = extract(backbone, train, cache=cache)
    test_features = extract(backbone, test, cache=cache)
    _give_back()
    featured = time.perf_counter()

    model = recipe.build_model(backbone, seed).to(device)
    history = fit(model, train_features, seed=seed, **recipe.training(len(train)))
    trained = time.perf_counter()
    _give_back()
    model.save(output / "model", category=category, seed=seed, versions=versions())
    recipe.save(output / "recipe.yaml")
    history.to_csv(output / "history.csv", index=False)
    if history.attrs["interrupted"]:
        raise KeyboardInterrupt

    evaluation = evaluate(model, test_features, test)
    _give_back()
    values = evaluation.metrics()
    per_defect = evaluation.per_defect()
    per_defect.to_csv(output / "per_defect.csv")
    if figures:
        _draw(evaluation, history, output / "figures")
    end = time.perf_counter()

    metrics = {
        **values,
        "label_free": evaluation.label_free(),
        "seconds": {
            "features": round(featured - start, 2),
            "train": round(trained - featured, 2),
            "evaluate": round(end - trained, 2),
            "total": round(end - start, 2),
        },
        "epochs": recipe.epochs_for(len(train)),
        "seed": seed,
        "protocol": "last epoch",
        "category": plots.title(test),
        "recipe": asdict(recipe),
        "device": str(device),
        "threads": torch.get_num_threads(),
        "versions": versions(),
    }
    write_json(output / "metrics.json", metrics)
    return Run(model, history, evaluation, metrics)


def _draw(evaluation: Evaluation, history: pd.DataFrame, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for name, figure in {
        "gallery": plots.gallery(evaluation),
        "scores": plots.score_histogram(evaluation),
        "roc": plots.roc(evaluation),
        "training": plots.training_curve(history),
    }.items():
        plots.save(figure, folder / f"{name}.png")


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Write a file that is whole or not there, whenever the process is killed."""
    part = path.with_suffix(".part")
    part.write_text(json.dumps(values, indent=2) + "\n")
    part.replace(path)


def read_json(path: Path) -> dict[str, Any] | None:
    """Return what :func:`write_json` has written, None if there is no such file.

    Raises:
        FastFlowError: If the file holds anything else.
    """
    if not path.is_file():
        return None
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise FastFlowError(f"{path} is not JSON: {error}") from error
    if not isinstance(values, dict):
        raise FastFlowError(f"{path} is no JSON object")
    return values


def finished(output: Path) -> dict[str, Any] | None:
    """Return the metrics that a finished run has left in its folder, None for any other."""
    with suppress(FastFlowError):
        return read_json(output / "metrics.json")
    return None


def _give_back() -> None:
    """Hand freed memory back to the system: glibc keeps it, in pieces for each thread."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None
    if trim is not None:
        trim(0)


def predict(
    model: FastFlow, inputs: list[Path], output: Path | str
) -> tuple[pd.DataFrame, list[str]]:
    """Score images of any size; write ``scores.csv`` and one heat map for each image.

    A heat map is a PNG of its image's size, in colours that mean the same for every image: black
    is a standard deviation above normal or less, yellow is as anomalous as can be. The model's
    pixel threshold is outlined in green, its image threshold makes the decision.

    Args:
        model: Trained.
        inputs: Image files, and folders that are searched for images, subfolders included.
        output: Made if it is missing.

    Returns:
        A table with the columns ``path``, ``score`` (higher is more anomalous) and ``decision``
        ("good" or "anomalous"), and a message for each file that could not be read: it is left
        out, the others are done all the same.

    Raises:
        FastFlowError: If an input does not exist, or there is no image at all.
    """
    files: list[tuple[Path, Path]] = []  # the image, and its name relative to what was given
    for given in inputs:
        if given.is_dir():
            folders = [given, *sorted(path for path in given.rglob("*") if path.is_dir())]
            found = [file for folder in folders for file in image_files(folder)]
            files += [(file, file.relative_to(given)) for file in found]
        elif given.is_file():
            files.append((given, Path(given.name)))
        else:
            raise FastFlowError(f"no file or folder '{given}': expected images or folders of them")
    if not files:
        raise FastFlowError(
            f"no images in {', '.join(map(str, inputs))}: expected PNG, JPEG, BMP, TIFF or WebP"
        )
    heat_maps = Path(output) / "heat_maps"
    heat_maps.mkdir(parents=True, exist_ok=True)
    rows, problems, taken = [], [], set[str]()
    for file, relative in track(files, "predicting"):
        try:
            image = load_image(file, model.backbone.image_size)
            height, width = load_image(file).shape[1:]
        except FastFlowError as error:
            problems.append(str(error))
            continue
        anomaly_map, score = model.predict(image[None].to(model.backbone.mean.device))
        anomaly_map = F.interpolate(anomaly_map.cpu(), (height, width), mode="bilinear")[0]
        decision = "anomalous" if score >= model.image_threshold else "good"
        rows.append({"path": str(file), "score": float(score), "decision": decision})
        name = _free_name("_".join(relative.with_suffix("").parts), taken)
        mask = anomaly_map >= model.pixel_threshold.cpu()
        picture = plots.outline(plots.colour(anomaly_map), mask)
        pixels = (picture * 255).round().astype("uint8")
        Image.fromarray(pixels).save(heat_maps / f"{name}.png")
    table = pd.DataFrame(rows, columns=["path", "score", "decision"])
    table.to_csv(Path(output) / "scores.csv", index=False)
    return table, problems


def _free_name(name: str, taken: set[str]) -> str:
    """Two inputs may have the same name: the second becomes name-2."""
    free, count = name, 1
    while free.lower() in taken:
        count += 1
        free = f"{name}-{count}"
    taken.add(free.lower())
    return free
