"""The sample set on disk, in MVTec AD's layout."""

import json
import os
import re
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from operator import index
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from PIL import Image

from fastflow_utils.compute import check_seed
from fastflow_utils.data.official import OFFICIAL_COUNTS
from fastflow_utils.data.sample_set.categories import CATALOGUE
from fastflow_utils.data.sample_set.rendering import CATEGORIES, defects, render
from fastflow_utils.errors import FastFlowError
from fastflow_utils.frontend import track

__all__ = ["make"]

VERSION = 2  # raise it whenever a pixel changes, so that old and new images never mix
LABEL = "sample_set.json"
Label = dict[str, Any]  # what that file says: version and arguments


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
    kept. What an older version of this package made with the same arguments is made anew. Two
    processes may call this at once: the second waits for the first.

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
        seed: Fixes every pixel. An image depends on it, on size and severity, on the folder and
            on the number in its name, and on nothing else: more images leave the first ones as
            they were.
        workers: Threads that draw at the same time; None for one per processor, at most eight.

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
    _require_known(names, like_mvtec)
    numbers = {"size": size, "train": train, "good": good, "per_defect": per_defect, "seed": seed}
    numbers = {name: index(number) for name, number in numbers.items()}
    severity = None if severity is None else float(severity)
    workers = _processors() if workers is None else workers
    _require_in_range({**numbers, "severity": severity, "workers": workers})
    if root.exists() and not root.is_dir():
        raise FastFlowError(f"{root} is a file: name a folder to make the sample set in")
    label = {"name": "sample set", "version": VERSION, **numbers}
    label |= {"like_mvtec": like_mvtec, "severity": severity}
    if all(_is_made(root / name, label) for name in names):
        return root  # it may well be read-only
    root.mkdir(parents=True, exist_ok=True)
    with FileLock(root / ".sample_set.lock"):
        for name in [name for name in names if not _is_made(root / name, label)]:
            _make_category(root / name, label, workers)
    return root


def _require_known(names: Sequence[str], like_mvtec: bool) -> None:
    for name in names:
        defects(name)  # complains of an unknown one
    if like_mvtec and (others := sorted(set(names) - set(OFFICIAL_COUNTS))):
        raise FastFlowError(
            f"MVTec AD has no category {', '.join(others)}, so there are no numbers of images to "
            "take: leave like_mvtec away and give train, good and per_defect"
        )


def _require_in_range(given: Label) -> None:
    severity = given["severity"] or 0
    counts = [given[name] for name in ("train", "good", "per_defect")]
    fits = given["size"] >= 64 and min(counts) >= 0 and given["workers"] >= 1
    if not (fits and 0 <= severity <= 1):
        raise FastFlowError(
            f"cannot make a sample set with {_listed(given)}: the size must be at least 64, "
            "workers at least 1, the severity in [0, 1] and the others at least 0"
        )
    check_seed(given["seed"])


def _processors() -> int:
    """Return how many processors this process may use; more than eight threads gain nothing."""
    mine = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min(mine or 1, 8)


def _listed(values: Label) -> str:
    return ", ".join(f"{name}={value}" for name, value in values.items())


def _is_made(folder: Path, wanted: Label) -> bool:
    """Return whether the category is there as wanted, or raise if something else is."""
    if not os.path.lexists(folder):
        return False
    found = _read_label(folder)
    if found is None or folder.is_symlink():
        raise FastFlowError(
            f"{folder} exists and is not a sample set of ours: choose another folder than "
            f"{folder.parent}, or move that category out of it"
        )
    differ = [name for name in wanted if name != "version" and found.get(name) != wanted[name]]
    if differ or found["version"] > VERSION:
        differ = differ or ["version"]
        there = _listed({name: found.get(name) for name in differ})
        asked = _listed({name: wanted[name] for name in differ})
        raise FastFlowError(
            f"{folder} is a sample set made with {there} instead of {asked}: ask for the same, "
            f"choose another folder than {folder.parent}, or delete that category"
        )
    if found["version"] == VERSION:
        return True
    if strange := [path for path in folder.rglob("*") if path.is_file() and not _is_ours(path)]:
        raise FastFlowError(
            f"{folder} is a sample set of an older version, but {strange[0]} is not part of it: "
            "move that elsewhere, then it is made anew"
        )
    return False


def _read_label(folder: Path) -> Label | None:
    """Return what the folder says of itself, or None if it is none of ours."""
    try:
        label = json.loads((folder / LABEL).read_bytes())
        if label["name"] == "sample set" and isinstance(label["version"], int):
            return {"like_mvtec": False, "severity": None, **label}  # version 1 had neither
    except (OSError, ValueError, TypeError, KeyError):
        pass
    return None


def _is_ours(path: Path) -> bool:
    return path.name == LABEL or re.fullmatch(r"\d{3,}(_mask)?\.png", path.name) is not None


def _make_category(folder: Path, label: Label, workers: int) -> None:
    partial, old = (folder.with_name(f".{folder.name}.{state}") for state in ("partial", "old"))
    for leftover in (partial, old):  # of an interrupted call
        shutil.rmtree(leftover, ignore_errors=True)
    partial.mkdir()
    images = [(place, i) for place, count in _counts(folder.name, label) for i in range(count)]
    with ThreadPoolExecutor(workers) as pool:
        try:
            jobs = [pool.submit(_save_image, partial, folder.name, *one, label) for one in images]
            for job in track(as_completed(jobs), folder.name, total=len(jobs)):
                job.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    (partial / LABEL).write_text(json.dumps(label) + "\n")
    if folder.exists():  # of an older version
        folder.rename(old)
    partial.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def _counts(category: str, label: Label) -> list[tuple[str, int]]:
    """Return how many images each folder of a category is to hold."""
    names, train, good = defects(category), label["train"], label["good"]
    bad = [label["per_defect"]] * len(names)
    if label["like_mvtec"]:
        train, good, anomalous = OFFICIAL_COUNTS[category]
        bad = [(anomalous + i) // len(names) for i in range(len(names))]
    folders = [f"test/{name}" for name in names]
    return [("train/good", train), ("test/good", good), *zip(folders, bad, strict=True)]


def _save_image(folder: Path, category: str, place: str, number: int, label: Label) -> None:
    entropy = [label["seed"], number, *f"{category}/{place}".encode()]
    seed = int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0])
    defect = None if place.endswith("/good") else Path(place).name
    image, mask = render(
        category, defect, size=label["size"], seed=seed, severity=label["severity"]
    )
    grey = CATALOGUE[category].camera.grey
    _save(image[..., 0] if grey else image, folder / place / f"{number:03}.png")
    if defect:
        _save(np.uint8(255) * mask, folder / "ground_truth" / defect / f"{number:03}_mask.png")


def _save(pixels: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, compress_level=6)
