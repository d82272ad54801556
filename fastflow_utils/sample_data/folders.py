"""The sample set on disk, in MVTec AD's layout."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from filelock import FileLock
from PIL import Image

from fastflow_utils.errors import FastFlowError
from fastflow_utils.frontend import track
from fastflow_utils.sample_data.rendering import CATEGORIES, defects, render

__all__ = ["make"]

VERSION = 1  # raise it whenever a pixel changes, so that old and new images never mix
LABEL = "sample_set.json"


def make(
    root: Path | str,
    categories: Sequence[str] | None = None,
    *,
    size: int = 256,
    train: int = 60,
    good: int = 20,
    per_defect: int = 8,
    seed: int = 0,
) -> Path:
    """Make the sample set under `root` and return that folder.

    It writes `<category>/train/good`, `<category>/test/{good,<defect>}/000.png` and
    `<category>/ground_truth/<defect>/000_mask.png` (0 and 255). A category is there complete or
    not at all, so that a call which was interrupted can be repeated; what is there already is
    kept. Two processes may call this at once: the second waits for the first.

    Args:
        root: Made if it does not exist.
        categories: Some of `CATEGORIES`; None for all.
        size: Height and width in pixels, at least 64.
        train: Number of images in `train/good`.
        good: Number of images in `test/good`.
        per_defect: Number of images in each other folder of `test`.
        seed: Fixes every pixel. An image depends on it, on the folder and on the number in its
            name, and on nothing else: more images leave the first ones as they were.

    Raises:
        FastFlowError: If a name is unknown, a number too small, or a category's folder exists
            that was not made by this function with these arguments; nothing is overwritten.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     root = make(folder, ["screw"], size=64, train=1, good=1, per_defect=1)
    ...     print(*sorted(path.name for path in (root / "screw" / "test").iterdir()))
    good scratch_head scratch_neck thread_side
    """
    root = Path(root).expanduser()
    names = CATEGORIES if categories is None else tuple(dict.fromkeys(categories))
    numbers = {"size": size, "train": train, "good": good, "per_defect": per_defect, "seed": seed}
    for name in names:
        defects(name)  # complain of an unknown one before the work starts
    if size < 64 or min(numbers.values()) < 0:
        raise FastFlowError(
            f"cannot make a sample set with {_listed(numbers)}: the size must be at least 64 and "
            "the others at least 0"
        )
    if root.exists() and not root.is_dir():
        raise FastFlowError(f"{root} is a file: name a folder to make the sample set in")
    root.mkdir(parents=True, exist_ok=True)
    with FileLock(root / ".sample_set.lock"):
        missing = [name for name in names if not _is_made(root / name, numbers)]
        for name in missing:
            _make_category(root / name, numbers)
    return root


def _listed(numbers: dict[str, int]) -> str:
    return ", ".join(f"{name}={number}" for name, number in numbers.items())


def _is_made(folder: Path, numbers: dict[str, int]) -> bool:
    """Return whether the category is there as wanted, or raise if something else is."""
    if not folder.exists():
        return False
    if not (folder / LABEL).is_file():
        raise FastFlowError(
            f"{folder} exists and is not a sample set of ours: choose another folder than "
            f"{folder.parent}, or move that category out of it"
        )
    found, wanted = (folder / LABEL).read_text().strip(), _label(numbers)
    if found != wanted:
        raise FastFlowError(
            f"{folder} is a sample set made otherwise, with {found} instead of {wanted}: ask for "
            f"the same, choose another folder than {folder.parent}, or delete that category"
        )
    return True


def _label(numbers: dict[str, int]) -> str:
    return json.dumps({"name": "sample set", "version": VERSION, **numbers})


def _make_category(folder: Path, numbers: dict[str, int]) -> None:
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # what an interrupted call left behind
    partial.mkdir()
    wanted = {"train/good": numbers["train"], "test/good": numbers["good"]}
    wanted |= {f"test/{defect}": numbers["per_defect"] for defect in defects(folder.name)}
    images = [(place, index) for place, count in wanted.items() for index in range(count)]
    for place, index in track(images, folder.name):
        _save_image(partial, folder.name, place, index, numbers)
    (partial / LABEL).write_text(_label(numbers) + "\n")
    partial.rename(folder)


def _save_image(
    folder: Path, category: str, place: str, index: int, numbers: dict[str, int]
) -> None:
    entropy = [numbers["seed"], index, *f"{category}/{place}".encode()]
    seed = int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0])
    defect = None if place.endswith("/good") else Path(place).name
    image, mask = render(category, defect, size=numbers["size"], seed=seed)
    _save(image, folder / place / f"{index:03}.png")
    if defect:
        _save(np.uint8(255) * mask, folder / "ground_truth" / defect / f"{index:03}_mask.png")


def _save(pixels: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, compress_level=3)
