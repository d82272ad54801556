"""A run: one category, one recipe, one seed, from image files to a folder of results."""

import ctypes
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from fastflow_utils.data.mvtec import MVTecAD
from fastflow_utils.detector.backbones import Backbone
from fastflow_utils.detector.evaluation import Evaluation, evaluate
from fastflow_utils.detector.features import extract
from fastflow_utils.detector.model import FastFlow
from fastflow_utils.detector.training import fit
from fastflow_utils.errors import FastFlowError
from fastflow_utils.experiments.recipes import Recipe
from fastflow_utils.experiments.records import write_json
from fastflow_utils.provenance import versions

__all__ = ["Run", "run"]


@dataclass(frozen=True)
class Run:
    """What :func:`run` leaves in memory; on disk it is in ``output``."""

    model: FastFlow
    history: pd.DataFrame
    evaluation: Evaluation
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

    Writes ``metrics.json``, ``per_defect.csv``, ``history.csv``, ``recipe.yaml`` and ``model/``
    into ``output``. The metrics are of the last epoch of the recipe's budget; nothing was
    chosen on the test split. ``metrics.json`` is written last, and whole.

    Args:
        recipe: Backbone, flow and budget.
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
    start = time.perf_counter()
    train = MVTecAD(root, category, "train", recipe.image_size)
    test = MVTecAD(root, category, "test", recipe.image_size)
    if len(set(test.labels)) < 2:
        raise FastFlowError(
            f"the test split of '{category}' holds {test.counts()}: to evaluate, it needs both "
            "good and anomalous images"
        )
    vanished = test.check_masks()
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
        "category": test.title,
        "vanished_masks": vanished,
        "recipe": asdict(recipe),
        "device": str(device),
        "threads": torch.get_num_threads(),
        "versions": versions(),
    }
    write_json(output / "metrics.json", metrics)
    return Run(model, history, evaluation, metrics)


def _give_back() -> None:
    """Hand freed memory back to the system: glibc keeps it, in pieces for each thread."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None
    if trim is not None:
        trim(0)
