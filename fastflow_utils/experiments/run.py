"""A run: one category, one recipe, one seed, from image files to a folder of results."""

import ctypes
import math
import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image

from fastflow_utils.compute import check_seed
from fastflow_utils.data.images import load_image, sha256
from fastflow_utils.data.layout import data_name, digest
from fastflow_utils.data.mvtec import MVTecAD
from fastflow_utils.data.pose import lies_anywhere
from fastflow_utils.detector.backbones import Backbone
from fastflow_utils.detector.detector import Detector
from fastflow_utils.detector.evaluation import Evaluation, evaluate
from fastflow_utils.detector.features import Features, extract
from fastflow_utils.errors import FastFlowError
from fastflow_utils.experiments.recipes import Recipe
from fastflow_utils.experiments.records import write_json, write_replicates
from fastflow_utils.provenance import result_digest, versions

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Run", "run"]


M_ARENA_MAX = -8  # of glibc's malloc.h

CODE = result_digest()
"""Of the code as it was imported: a later edit of the files is not what computes."""


@dataclass(frozen=True)
class Run:
    """What :func:`run` leaves in memory; on disk it is in ``output``.

    ``history`` is None where the method has no epochs.
    """

    model: Detector
    history: "pd.DataFrame | None"
    evaluation: Evaluation
    per_defect: "pd.DataFrame"
    metrics: dict[str, Any]


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
) -> Run:
    """Train on a category's normal images, evaluate on its test split, write it all down.

    Writes ``metrics.json``, ``bootstrap.npz``, ``per_defect.csv``, ``recipe.yaml`` and ``model/``
    into ``output``, and ``history.csv`` where there are epochs to tell of. The metrics are of the
    last epoch of the recipe's budget; nothing was chosen on the test split. Each has a 95 %
    interval over test images in ``intervals``, from its values on resamples of them, which are in
    ``bootstrap.npz`` to be compared with other runs'. ``metrics.json`` is written last, and whole.

    Args:
        recipe: Method, backbone, flow and budget.
        root: Holds the categories, in MVTec layout.
        category: One of them.
        output: Made if it is missing; results of an earlier run in it are replaced.
        seed: Fixes permutations, initial weights and the order of the batches.
        weights: A local state dict for the backbone.
        device: Where to compute.
        cache: Where features are kept, as for :func:`~fastflow_utils.detector.features.extract`.
        backbone: The recipe's, with these weights, where it is built already.

    Raises:
        FastFlowError: For anything wrong with data, weights or recipe, before training starts
            where that is possible.
        KeyboardInterrupt: After Ctrl-C; from the first batch on, the model so far is in
            ``output/model`` by then.
    """
    check_seed(seed)
    _share_freed_memory()
    seconds = _Stopwatch()
    train, test = _splits(root, category, recipe.image_size)
    if recipe.folds is not None and recipe.folds > len(train):
        raise FastFlowError(
            f"folds: {recipe.folds} in the recipe: expected at most {len(train)}, the number of "
            "normal images"
        )
    data_sha256, weights_sha256 = digest(root, category), weights and sha256(weights)
    vanished = test.check_masks()
    output = _prepared(Path(output))
    backbone = (backbone or recipe.build_backbone(weights)).to(device)
    if (backbone.name, backbone.image_size) != (recipe.backbone, recipe.image_size):
        raise FastFlowError(
            f"the backbone {backbone.name} at {backbone.image_size} px is not the recipe's, "
            f"{recipe.backbone} at {recipe.image_size} px"
        )
    backbone = backbone.turning(_is_upright(recipe, train))
    train_features, test_features = (
        extract(backbone, each, cache=cache) for each in (train, test)
    )
    seconds.lap("features")

    model = recipe.build_model(backbone, seed).to(device)
    history = _train(model, train_features, recipe, seed, output, category=category)
    recipe.save(output / "recipe.yaml")
    if history is not None:
        history.to_csv(output / "history.csv", index=False)
    seconds.lap("train")

    evaluation = evaluate(model, test, test_features)
    _return_freed_memory()  # before the metrics, which sort a copy of all pixels
    per_defect = evaluation.per_defect()
    per_defect.to_csv(output / "per_defect.csv")
    replicates = evaluation.replicates()
    write_replicates(output, replicates)
    metrics = {
        **evaluation.metrics(),
        "label_free": evaluation.label_free(),
        "intervals": evaluation.intervals(replicates),
    }
    seconds.lap("evaluate")
    metrics |= {
        "seconds": seconds.all(),
        "epochs": recipe.epochs_for(len(train)),
        "seed": seed,
        "protocol": "last epoch",
        "category": category,
        "sample_set": test.is_sample_set,
        "data": data_name(root, category),
        "data_sha256": data_sha256,
        "weights_sha256": weights_sha256,
        "vanished_masks": vanished,
        "upright": backbone.upright,
        "notes": evaluation.notes(),
        "recipe": asdict(recipe),
        "device": str(device),
        "threads": torch.get_num_threads(),
        "versions": versions(),
        "code_sha256": CODE,
    }
    write_json(output / "metrics.json", metrics)
    return Run(model, history, evaluation, per_defect, metrics)


def _splits(root: Path | str, category: str, image_size: int) -> tuple[MVTecAD, MVTecAD]:
    """Return the images to train on, and those to evaluate on, which must be of both labels."""
    train = MVTecAD(root, category, "train", image_size)
    test = MVTecAD(root, category, "test", image_size)
    if len(set(test.labels)) < 2:
        raise FastFlowError(
            f"the test split of '{category}' holds {test.counts()}: to evaluate, it needs both "
            "good and anomalous images"
        )
    return train, test


LOOKED_AT = 64  # images, spread over the split, at 128 px: a second


def _is_upright(recipe: Recipe, train: MVTecAD) -> bool:
    """Return whether images are to be turned first: as the recipe says, or the normal images."""
    if recipe.upright != "auto":
        return bool(recipe.upright)
    some = train.paths[:: math.ceil(len(train) / LOOKED_AT)]
    for path in some:
        with Image.open(path) as image:
            if not 0.95 < image.width / image.height < 1 / 0.95:
                return False  # read as a square, an object would change with its direction
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return lies_anywhere(pool.map(lambda path: load_image(path, 128), some))


def _prepared(output: Path) -> Path:
    """Make the folder; no old metrics may lie beside a new model, nor another's history."""
    output.mkdir(parents=True, exist_ok=True)
    for name in ("metrics.json", "history.csv", "bootstrap.npz", "per_defect.csv"):
        (output / name).unlink(missing_ok=True)
    return output


def _train(
    model: Detector, features: Features, recipe: Recipe, seed: int, output: Path, **notes: object
) -> "pd.DataFrame | None":
    """Train the model and save it; after Ctrl-C, save what there is of it."""

    def save() -> None:
        model.save(output / "model", seed=seed, versions=versions(), **notes)

    options = recipe.training(len(features))
    if "epochs" in options:
        options["after_epoch"] = lambda _: _return_freed_memory()
    try:
        history = model.fit(features, seed=seed, **options)
    except KeyboardInterrupt:
        if model.image_threshold.isfinite():  # else not even the first batch was done
            save()
        raise
    save()
    return history


class _Stopwatch:
    """Seconds of each part of a run, and of all; freed memory goes back after each."""

    def __init__(self) -> None:
        self.start = self.last = time.perf_counter()
        self.laps: dict[str, float] = {}

    def all(self) -> dict[str, float]:
        return {**self.laps, "total": round(self.last - self.start, 2)}

    def lap(self, part: str) -> None:
        _return_freed_memory()
        now = time.perf_counter()
        self.laps[part] = round(now - self.last, 2)
        self.last = now


def _return_freed_memory() -> None:
    """Hand freed memory back to the system: glibc keeps it for what comes next."""
    _allocator("malloc_trim", 0)


def _share_freed_memory() -> None:
    """Let threads use what other threads have freed: glibc keeps a store for each of them."""
    _allocator("mallopt", M_ARENA_MAX, 1)


def _allocator(name: str, *arguments: int) -> None:
    """Call a function of glibc's allocator, where there is one."""
    function = getattr(ctypes.CDLL(None), name, None) if os.name == "posix" else None
    if function is not None:
        function(*arguments)
