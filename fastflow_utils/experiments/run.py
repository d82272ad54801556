"""A run: one category, one recipe, one seed, from image files to a folder of results."""

import csv
import ctypes
import hashlib
import math
import os
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from fastflow_utils.compute import check_seed
from fastflow_utils.data.depth import depth_of
from fastflow_utils.data.images import Strips, load_image, sha256
from fastflow_utils.data.layout import name_of
from fastflow_utils.data.listing import Listing
from fastflow_utils.data.mvtec import Pictures
from fastflow_utils.data.pose import lies_anywhere
from fastflow_utils.data.readers import listing
from fastflow_utils.data.remarks import remarks
from fastflow_utils.data.sizes import sizes_of, squeezed
from fastflow_utils.detector.backbones import Backbone
from fastflow_utils.detector.detector import Detector
from fastflow_utils.detector.evaluation import Evaluation, evaluate
from fastflow_utils.detector.features import (
    CopiedPictures,
    Features,
    LearntPictures,
    WindowedPictures,
    extract,
)
from fastflow_utils.errors import FastFlowError
from fastflow_utils.experiments.card import CardFacts, weights_text, write_card
from fastflow_utils.experiments.recipes import Recipe
from fastflow_utils.experiments.records import LISTING, write_json, write_listing, write_replicates
from fastflow_utils.provenance import result_digest, versions

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Run", "run", "run_on"]


M_ARENA_MAX = -8  # of glibc's malloc.h

CODE = result_digest()
"""Of the code as it was imported: a later edit of the files is not what computes."""


@dataclass(frozen=True)
class Run:
    """What :func:`run` leaves in memory; on disk it is in ``output``.

    ``history`` is None where the method has no epochs.
    """

    recipe: Recipe
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
    **options: Any,
) -> Run:
    """Do :func:`run_on` with a category of a data root, in any layout that has a reader.

    Args:
        recipe, output, options: As there.
        root: Holds the categories.
        category: One of them.

    Raises:
        FastFlowError: As there, or if there is no such category.
    """
    return run_on(recipe, listing(root, category), output, **options)


def run_on(
    recipe: Recipe,
    found: Listing,
    output: Path | str,
    *,
    seed: int = 0,
    weights: Path | str | None = None,
    device: torch.device | str = "cpu",
    cache: Path | str | None = None,
    backbone: Backbone | None = None,
    region: np.ndarray | None = None,
    region_text: str = "",
) -> Run:
    """Train on normal images, evaluate on the test split, write it all down.

    Writes ``metrics.json``, ``bootstrap.npz``, ``per_defect.csv``, ``recipe.yaml`` and ``model/``
    into ``output``, and ``history.csv`` where there are epochs to tell of; the scores of the
    normal images that the model was calibrated on, ``normal_scores.csv``, and of each test image,
    with the decision, ``test_scores.csv``; for people ``card.md``, what the model has seen,
    promises and will miss; and ``listing.json``, which images were read.

    The metrics are of the last epoch of the recipe's budget; nothing was chosen on the test split.
    Each has a 95 % interval over test images in ``intervals``, from its values on resamples of
    them, which are in ``bootstrap.npz`` to be compared with other runs'. ``metrics.json`` is
    written last, and whole.

    Args:
        recipe: Method, backbone, flow and budget.
        found: The images. Without masks there are no metrics of pixels, without a test split
            none at all.
        output: Made if it is missing; results of an earlier run in it are replaced.
        seed: Fixes permutations, initial weights and the order of the batches.
        weights: A local state dict for the backbone.
        device: Where to compute.
        cache: Where features are kept, as for :func:`~fastflow_utils.detector.features.extract`.
        backbone: The recipe's, with these weights, where it is built already.
        region: Where to look, (H, W) bool of any size; default: everywhere.
        region_text: The same in words, for the model's card and ``metrics.json``.

    Raises:
        FastFlowError: For anything wrong with data, weights or recipe, before training starts
            where that is possible.
        KeyboardInterrupt: After Ctrl-C; from the first batch on, the model so far is in
            ``output/model`` by then.
    """
    check_seed(seed)
    _share_freed_memory()
    seconds = _Stopwatch()
    found = replace(found, notes=(*found.notes, *remarks(found)))
    depth = depth_of([item.path for item in found.of("train")])
    train = Pictures(found, "train", recipe.image_size, depth.white)
    test = Pictures(found, "test", recipe.image_size, depth.white, allow_empty=True)
    if recipe.folds is not None and recipe.folds > len(train):
        raise FastFlowError(
            f"folds: {recipe.folds} in the recipe: expected at most {len(train)}, the number of "
            "normal images"
        )
    data_sha256, weights_sha256 = found.digest(), weights and sha256(weights)
    train.check_masks()
    vanished = test.check_masks()
    if recipe.window is not None:  # their features are not kept: they would fail after training
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(lambda path: Strips(path, None, depth.white).height, test.paths))
    output = _prepared(Path(output))
    backbone = (backbone or recipe.build_backbone(weights)).to(device)
    taken = recipe.window or recipe.image_size
    if (backbone.name, backbone.image_size) != (recipe.backbone, taken):
        raise FastFlowError(
            f"the backbone {backbone.name} at {backbone.image_size} px is not the recipe's, "
            f"{recipe.backbone} at {taken} px"
        )
    if region is not None and recipe.upright == "auto":
        recipe = recipe.changed(upright=False)  # it would turn with the object
    backbone = backbone.turning(_is_upright(recipe, train))
    model = recipe.build_model(backbone, seed).to(device)
    shown = None if region is None else torch.from_numpy(region)
    model.read_as(windows=model.windows, white=depth.white, region=shown)
    normal: Features | LearntPictures
    test_features = None
    if model.windows is not None:
        normal = WindowedPictures(backbone, train, model.windows, seed=seed, cache=cache)
    elif recipe.copies:
        normal = CopiedPictures(backbone, train, recipe.copies, seed=seed, cache=cache)
    else:
        normal = extract(backbone, train, cache=cache)
    if model.windows is None and len(test):
        test_features = extract(backbone, test, cache=cache)
    seconds.lap("features")

    category = found.category
    history = _train(model, normal, recipe, seed, output, category=category)
    assert model.normal_scores is not None, "fit has set them"
    _write_scores(model, train, output / "normal_scores.csv")
    write_card(
        _facts(model, recipe, train, depth.text, data_sha256, weights, region_text),
        output / "card.md",
    )
    recipe.save(output / "recipe.yaml")
    write_listing(output, found)
    if history is not None:
        history.to_csv(output / "history.csv", index=False)
    seconds.lap("train")

    evaluation = evaluate(model, test, test_features)
    _return_freed_memory()  # before the metrics, which sort a copy of all pixels
    _write_decisions(evaluation, output / "test_scores.csv")
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
    sizes = sizes_of([*train.paths, *test.paths])
    metrics |= {
        "seconds": seconds.all(),
        "epochs": recipe.epochs_for(_learnt(normal)),
        "seed": seed,
        "protocol": "last epoch",
        "category": category,
        "sample_set": test.is_sample_set,
        "data": name_of(found),
        "layout": found.layout,
        "calibration_images": len(model.normal_scores),
        "depth": depth.text,
        "data_sha256": data_sha256,
        **_about_region(region, region_text),
        "weights_sha256": weights_sha256,
        "vanished_masks": vanished,
        "upright": backbone.upright,
        "notes": [*found.notes, *squeezed(sizes, recipe.image_size), *evaluation.notes()],
        "recipe": asdict(recipe),
        "device": str(device),
        "threads": torch.get_num_threads(),
        "versions": versions(),
        "code_sha256": CODE,
    }
    write_json(output / "metrics.json", metrics)
    return Run(recipe, model, history, evaluation, per_defect, metrics)


LOOKED_AT = 64  # images, spread over the split, at 128 px: a second


def _is_upright(recipe: Recipe, train: Pictures) -> bool:
    """Return whether images are to be turned first: as the recipe says, or the normal images."""
    if recipe.upright != "auto":
        return bool(recipe.upright)
    some = train.paths[:: math.ceil(len(train) / LOOKED_AT)]
    for path in some:
        with Image.open(path) as image:
            if not 0.95 < image.width / image.height < 1 / 0.95:
                return False  # read as a square, an object would change with its direction
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return lies_anywhere(pool.map(lambda path: load_image(path, 128, train.white), some))


def _prepared(output: Path) -> Path:
    """Make the folder; no old metrics may lie beside a new model, nor another's history."""
    output.mkdir(parents=True, exist_ok=True)
    written = ("metrics.json", "history.csv", "bootstrap.npz", "per_defect.csv", LISTING)
    for name in (
        *written,
        "normal_scores.csv",
        "test_scores.csv",
        "card.md",
        "survey.html",
        "survey.csv",
    ):
        (output / name).unlink(missing_ok=True)
    return output


def _about_region(region: np.ndarray | None, text: str) -> dict[str, str | None]:
    """Return what ``metrics.json`` says of a region: metrics of another one do not compare."""
    if region is None:
        return {"region": None, "region_sha256": None}
    content = str(region.shape).encode() + np.packbits(region).tobytes()
    return {"region": text or "given", "region_sha256": hashlib.sha256(content).hexdigest()}


def _learnt(normal: Features | LearntPictures) -> int:
    """Return how many images, or windows of them, there are to learn from."""
    return len(normal if isinstance(normal, Features) else normal.features)


def _write_scores(model: Detector, train: Pictures, file: Path) -> None:
    """Write the scores of the normal images that the model was calibrated on, highest first.

    No model has seen the image that it scored: the threshold is set by these.
    """
    images, scores = model.normal_images, model.normal_scores
    assert images is not None and scores is not None, "fit has set them"
    names = [train.listing.name(train.paths[image]) for image in images.tolist()]
    rows = sorted(zip(scores.tolist(), names, strict=True), reverse=True)
    _write_rows(file, ("score", "path"), rows)


def _write_decisions(evaluation: Evaluation, file: Path) -> None:
    """Write what the model says to each test image, highest score first."""
    test, threshold = evaluation.dataset, evaluation.image_threshold
    rows = [
        (score, "anomalous" if score >= threshold else "good", defect, test.listing.name(path))
        for score, defect, path in zip(
            evaluation.scores.tolist(), test.defects, test.paths, strict=True
        )
    ]
    _write_rows(file, ("score", "decision", "truth", "path"), sorted(rows, reverse=True))


def _write_rows(file: Path, head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with file.open("w", encoding="utf-8", errors="backslashreplace", newline="") as opened:
        table = csv.writer(opened, lineterminator="\n")
        table.writerow(head)
        table.writerows(rows)


def _facts(
    model: Detector,
    recipe: Recipe,
    train: Pictures,
    depth: str,
    digest: str,
    weights: Path | str | None,
    region: str,
) -> CardFacts:
    """Return what a card tells of a model that has just been trained."""
    found = train.listing
    assert model.normal_scores is not None, "fit has set them"
    return CardFacts(
        category=train.title,
        folder=str(found.folder.resolve()),
        layout=found.layout,
        pictures=len(train),
        sizes=sizes_of(train.paths),
        depth=depth,
        digest=digest,
        image_size=recipe.image_size,
        window=recipe.window,
        region=region,
        method=recipe.method,
        backbone=recipe.backbone,
        weights=weights_text(recipe.backbone, weights),
        stride=int(min(model.backbone.strides)),
        image_threshold=float(model.image_threshold),
        pixel_threshold=float(model.pixel_threshold),
        image_fpr=recipe.image_fpr,
        pixel_fpr=recipe.pixel_fpr,
        calibration=len(model.normal_scores),
        cross_fitted=recipe.folds is not None,
        versions=versions(),
        notes=found.notes,
    )


def _train(
    model: Detector,
    features: Features | LearntPictures,
    recipe: Recipe,
    seed: int,
    output: Path,
    **notes: object,
) -> "pd.DataFrame | None":
    """Train the model and save it; after Ctrl-C, save what there is of it."""

    def save() -> None:
        model.save(output / "model", seed=seed, versions=versions(), **notes)

    options = recipe.training(_learnt(features))
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
