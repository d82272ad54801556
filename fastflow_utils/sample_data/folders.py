"""The sample set on disk, in MVTec AD's layout."""

import contextlib
import json
import os
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from filelock import FileLock
from PIL import Image

from fastflow_utils.errors import FastFlowError
from fastflow_utils.frontend import track
from fastflow_utils.sample_data.categories import CATALOGUE
from fastflow_utils.sample_data.rendering import CATEGORIES, defects, render

__all__ = ["make"]

VERSION = 2  # raise it whenever a pixel changes, so that old and new images never mix
LABEL = "sample_set.json"


def make(
    root: Path | str,
    categories: Sequence[str] | None = None,
    *,
    size: int = 256,
    train: int = 60,
    good: int = 20,
    per_defect: int = 8,
    like_mvtec: bool = False,
    severity: float | None = None,
    seed: int = 0,
    workers: int | None = None,
) -> Path:
    """Make the sample set under `root` and return that folder.

    It writes `<category>/train/good`, `<category>/test/{good,<defect>}/000.png` and
    `<category>/ground_truth/<defect>/000_mask.png` (0 and 255). A category is there complete or
    not at all, so that a call which was interrupted can be repeated; what is there already is
    kept, unless an older version of this package made it: then it is made anew. Two processes may
    call this at once: the second waits for the first.

    Args:
        root: Made if it does not exist.
        categories: Some of `CATEGORIES`; None for all.
        size: Height and width in pixels, at least 64.
        train: Number of images in `train/good`.
        good: Number of images in `test/good`.
        per_defect: Number of images in each other folder of `test`.
        like_mvtec: Take MVTec AD's own numbers of images instead of these three; its anomalous
            images are shared out evenly among our defects.
        severity: From 0, invisible, to 1, gross; None draws it for each image.
        seed: Fixes every pixel. An image depends on it, on the folder and on the number in its
            name, and on nothing else: more images leave the first ones as they were.
        workers: Threads that draw at the same time; None for one per processor.

    Raises:
        FastFlowError: If a name is unknown, a number out of range, or a category's folder exists
            that was not made by this function with these arguments; nothing is overwritten.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     root = make(folder, ["screw"], size=64, train=1, good=1, per_defect=1)
    ...     print(*sorted(path.name for path in (root / "screw" / "test").iterdir()))
    good manipulated_front scratch_neck thread_side
    """
    root = Path(root).expanduser()
    names = CATEGORIES if categories is None else tuple(dict.fromkeys(categories))
    for name in names:
        defects(name)  # complain of an unknown one before the work starts
    numbers = {"size": size, "train": train, "good": good, "per_defect": per_defect, "seed": seed}
    workers = (os.cpu_count() or 1) if workers is None else workers
    if size < 64 or min(numbers.values()) < 0 or workers < 1 or not 0 <= (severity or 0) <= 1:
        given = {**numbers, "severity": severity, "workers": workers}
        raise FastFlowError(
            f"cannot make a sample set with {', '.join(f'{k}={v}' for k, v in given.items())}: "
            "the size must be at least 64, workers at least 1, the severity in [0, 1] and the "
            "others at least 0"
        )
    if root.exists() and not root.is_dir():
        raise FastFlowError(f"{root} is a file: name a folder to make the sample set in")
    plans = [_plan(name, numbers, like_mvtec, severity) for name in names]
    root.mkdir(parents=True, exist_ok=True)
    with FileLock(root / ".sample_set.lock"):
        missing = [plan for plan in plans if not _is_made(root / plan.category, plan.label)]
        for plan in missing:
            _make_category(root / plan.category, plan, workers)
    return root


@dataclass(frozen=True)
class _Plan:
    """What a category's folder is to hold: how many images in which place, and its label."""

    category: str
    counts: dict[str, int]
    numbers: dict[str, int]
    severity: float | None
    label: str


def _plan(
    category: str, numbers: dict[str, int], like_mvtec: bool, severity: float | None
) -> _Plan:
    names, train, good = defects(category), numbers["train"], numbers["good"]
    bad = [numbers["per_defect"]] * len(names)
    if like_mvtec:
        from fastflow_utils.datasets import OFFICIAL_COUNTS  # here: it waits for torch

        train, good, anomalous = OFFICIAL_COUNTS[category]
        bad = [(anomalous + i) // len(names) for i in range(len(names))]
    counts = {"train/good": train, "test/good": good}
    counts |= {f"test/{name}": count for name, count in zip(names, bad, strict=True)}
    label = {"name": "sample set", "version": VERSION, "severity": severity, "images": counts}
    label |= {"size": numbers["size"], "seed": numbers["seed"]}
    return _Plan(category, counts, numbers, severity, json.dumps(label))


def _is_made(folder: Path, wanted: str) -> bool:
    """Return whether the category is there as wanted, or raise if something else is."""
    if not folder.exists():
        return False
    if not (folder / LABEL).is_file():
        raise FastFlowError(
            f"{folder} exists and is not a sample set of ours: choose another folder than "
            f"{folder.parent}, or move that category out of it"
        )
    found = (folder / LABEL).read_text().strip()
    if found == wanted:
        return True
    with contextlib.suppress(ValueError):
        if json.loads(found).get("version", VERSION) < VERSION:
            return False
    raise FastFlowError(
        f"{folder} is a sample set made otherwise, with {found} instead of {wanted}: ask for "
        f"the same, choose another folder than {folder.parent}, or delete that category"
    )


def _make_category(folder: Path, plan: _Plan, workers: int) -> None:
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # what an interrupted call left behind
    partial.mkdir()
    images = [(place, index) for place, count in plan.counts.items() for index in range(count)]
    with ThreadPoolExecutor(workers) as pool:
        jobs = [pool.submit(_save_image, partial, plan, *image) for image in images]
        try:
            for job in track(as_completed(jobs), folder.name, total=len(jobs)):
                job.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    (partial / LABEL).write_text(plan.label + "\n")
    shutil.rmtree(folder, ignore_errors=True)  # of an older version
    partial.rename(folder)


def _save_image(folder: Path, plan: _Plan, place: str, index: int) -> None:
    entropy = [plan.numbers["seed"], index, *f"{plan.category}/{place}".encode()]
    seed = int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0])
    defect = None if place.endswith("/good") else Path(place).name
    image, mask = render(
        plan.category, defect, size=plan.numbers["size"], seed=seed, severity=plan.severity
    )
    grey = CATALOGUE[plan.category].camera.grey
    _save(image[..., 0] if grey else image, folder / place / f"{index:03}.png")
    if defect:
        _save(np.uint8(255) * mask, folder / "ground_truth" / defect / f"{index:03}_mask.png")


def _save(pixels: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, compress_level=6)
