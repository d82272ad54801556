"""MVTec AD's layout: which folders and files there are, and what is wrong with them.

The layout, for each category::

    ROOT/<category>/train/good/000.png                  normal images, the only ones to learn from
    ROOT/<category>/test/good/000.png                   normal images
    ROOT/<category>/test/<defect>/000.png               anomalous images, a folder per defect
    ROOT/<category>/ground_truth/<defect>/000_mask.png  where each of them is anomalous

:mod:`~fastflow_utils.data.mvtec` makes tensors of it. Here nothing needs torch, so that
``fastflow data check`` and a mistake in a name answer at once.
"""

import difflib
import hashlib
import os
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from fastflow_utils.data.images import checked_size, image_files, is_visible, read_mask, sha256
from fastflow_utils.data.official import OFFICIAL_COUNTS
from fastflow_utils.errors import FastFlowError
from fastflow_utils.frontend import track

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "GOOD",
    "MVTEC_AD",
    "SAMPLE_SET",
    "VANISHED",
    "Split",
    "categories",
    "category_folder",
    "check",
    "data_home",
    "data_name",
    "data_root",
    "digest",
    "is_mvtec_ad",
    "is_sample_set",
    "look_at",
    "mask_path",
    "split_files",
    "summary",
]

Split = Literal["train", "test"]

SAMPLE_SET, MVTEC_AD = "sample set", "MVTec AD"
"""What ``metrics.json`` calls these data; all other data have the name of their folder."""

GOOD = "good"
VANISHED = "vanished mask"
Finding = tuple[str, Path]  # what is wrong, and with which file

# Where the data is ------------------------------------------------------------------------------


def data_home() -> Path:
    """The folder for whatever the package makes by itself: the sample set, cached features.

    Returns:
        ``data`` beside the package in a source checkout, otherwise under the working directory.

    Example:
        >>> data_home().name
        'data'
    """
    checkout = Path(__file__).resolve().parents[2]
    return (checkout if (checkout / "pyproject.toml").is_file() else Path.cwd()) / "data"


def data_root(root: Path | str | None = None) -> Path:
    """The folder that holds the categories.

    Args:
        root: A folder in MVTec layout. Without one, the environment variable ``FASTFLOW_DATA``
            names it; without that, it is the sample set, which is made on first use.

    Example:
        >>> data_root("datasets/mvtec").as_posix()
        'datasets/mvtec'
    """
    named = root or os.environ.get("FASTFLOW_DATA")
    if named:
        return Path(named).expanduser()
    from fastflow_utils.data.sample_set import make  # here, so that real data never waits for it

    return make(data_home() / "sample")


def categories(root: Path | str) -> list[str]:
    """The categories under a data root, sorted: the folders that have a ``train`` or a ``test``.

    Raises:
        FastFlowError: The root is missing, or is itself a category's folder.
    """
    root = Path(root).expanduser()
    if not root.is_dir():
        raise FastFlowError(
            f"there is no folder {root}: name one in MVTec layout (--data or FASTFLOW_DATA; see "
            f"data/README.md), or make the sample set there with `fastflow data sample {root}`"
        )
    names = [folder.name for folder in _folders(root) if _is_category(folder)]
    if not names and _is_category(root):
        here = root.resolve()
        raise FastFlowError(
            f"{root} is itself a category: give its parent {here.parent} as the data root "
            f"and {here.name} as the category"
        )
    return names


def is_sample_set(root: Path | str, category: str) -> bool:
    """Whether a category's images are our own renderings: plots and tables must say so."""
    return Path(root, category, "sample_set.json").expanduser().is_file()


def is_mvtec_ad(root: Path | str, category: str) -> bool:
    """Whether a category is MVTec AD's, as its name and its numbers of images say.

    Published results stand beside results on such data only: neither beside pictures of one's
    own in a folder called ``zipper``, nor beside the sample set.

    Example:
        >>> is_mvtec_ad("my pictures", "zipper")
        False
    """
    if is_sample_set(root, category):
        return False
    counts = tuple(len(files) for files in _images(Path(root).expanduser() / category))
    return counts == OFFICIAL_COUNTS.get(category)


def data_name(root: Path | str, category: str) -> str:
    """Return which data a result is of: tables never mix two.

    Returns:
        "sample set"; "MVTec AD", where name and numbers of images are its own; else the name of
        the data root's folder.
    """
    if is_sample_set(root, category):
        return SAMPLE_SET
    if is_mvtec_ad(root, category):
        return MVTEC_AD
    folder = Path(root).expanduser().resolve()
    name = folder.name or str(folder)
    return f"folder {name}" if name in (SAMPLE_SET, MVTEC_AD) else name


def digest(root: Path | str, category: str) -> str:
    """Return one sha256 for all of a category: where each file lies, and its bytes.

    Two folders have the same digest if and only if the same files lie at the same places below
    the category's folder. What begins with a dot does not count.

    Raises:
        FastFlowError: If there is no file.
    """
    folder = Path(root).expanduser() / category
    walked = os.walk(folder, followlinks=True)
    files = [Path(place, name).relative_to(folder) for place, _, names in walked for name in names]
    places = sorted(file for file in files if not any(p.startswith(".") for p in file.parts))
    if not places:
        raise FastFlowError(f"there is no file in {folder}: expected a category's folder")
    with ThreadPoolExecutor() as pool:
        found = pool.map(sha256, [folder / place for place in places])
    lines = [f"{place.as_posix()} {own}\n" for place, own in zip(places, found, strict=True)]
    # On Linux a name may be any bytes: those that are no UTF-8 count as they are.
    return hashlib.sha256("".join(lines).encode(errors="surrogateescape")).hexdigest()


def _folders(parent: Path) -> list[Path]:
    """The visible folders in ``parent``, sorted by name; none where there is no ``parent``."""
    if not parent.is_dir():
        return []
    folders = (path for path in parent.iterdir() if path.is_dir() and is_visible(path))
    return sorted(folders, key=lambda path: path.name)


def _is_category(folder: Path) -> bool:
    return any((folder / split).is_dir() for split in get_args(Split))


def split_files(split: Path) -> list[Path]:
    """Every image of a split, by defect, then by name."""
    return [path for defect in _folders(split) for path in image_files(defect)]


def _images(category: Path) -> tuple[list[Path], list[Path], list[Path]]:
    """A category's normal training images, normal test images and anomalous test images."""
    train, test = split_files(category / "train"), split_files(category / "test")
    return (
        [path for path in train if path.parent.name == GOOD],
        [path for path in test if path.parent.name == GOOD],
        [path for path in test if path.parent.name != GOOD],
    )


def mask_path(image: Path) -> Path:
    """``test/<defect>/000.png`` -> ``ground_truth/<defect>/000_mask.png``, beside it."""
    category = image.parents[2]
    return category / "ground_truth" / image.parent.name / f"{image.stem}_mask.png"


def category_folder(root: Path, category: str) -> Path:
    """The folder of a category.

    Raises:
        FastFlowError: The root is missing, or has no such category.
    """
    names = categories(root)
    if category in names:
        return root / category
    near = difflib.get_close_matches(category.lower(), names, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise FastFlowError(
        f"no category {category!r} in {root}: {hint}it has {', '.join(names) or 'none at all'}"
    )


# All categories ---------------------------------------------------------------------------------


def check(root: Path | str) -> "pd.DataFrame":
    """Read every file under a data root and say what is there and what is wrong.

    Returns:
        A row per category: the images in ``train``, ``test_good`` and ``test_anomalous``, each
        with MVTec AD's own count in ``official_...`` (missing for other categories), the number
        of ``masks``, and ``problems``, empty if there are none.

    Raises:
        FastFlowError: The root is missing or holds no category.
    """
    import pandas as pd  # here: whoever lists folders only need not wait for it

    root = Path(root).expanduser()
    names = categories(root)
    if not names:
        raise FastFlowError(f"no category in {root}: expected {root}/<category>/train/good/")
    counts = ["train", "test_good", "test_anomalous"]
    found = pd.DataFrame([_inspect(root / name) for name in names], index=names)
    official = pd.DataFrame.from_dict(
        OFFICIAL_COUNTS, orient="index", columns=[f"official_{name}" for name in counts]
    )
    beside = [column for name in counts for column in (name, f"official_{name}")]
    table = found.join(official.astype("Int64"))[[*beside, "masks", "problems"]]
    return table.rename_axis(index="category")


def _inspect(folder: Path) -> dict[str, int | str]:
    """One category's row in the table of ``check``."""
    train, good, anomalous = _images(folder)
    masks = {path: mask_path(path) for path in anomalous}
    findings = []
    if not train:
        findings.append(("no images", folder / "train" / GOOD))
    if not good and not anomalous:
        findings.append(("no images", folder / "test"))
    findings += [("unexpected", odd) for odd in _odd_folders(folder)]
    for path in track([*train, *good, *anomalous], folder.name):
        findings += look_at(path, masks.get(path))
    return {
        "train": len(train),
        "test_good": len(good),
        "test_anomalous": len(anomalous),
        "masks": sum(mask.is_file() for mask in masks.values()),
        "problems": summary(findings, folder),
    }


def look_at(image: Path, mask: Path | None, size: int | None = None) -> list[Finding]:
    """What is wrong with an image and with its mask, the latter also when read at a size."""
    findings: list[Finding] = []
    shape = None
    try:
        shape = checked_size(image)
    except FastFlowError:
        findings.append(("unreadable", image))
    if mask is None:
        return findings
    if not mask.is_file():
        return [*findings, ("no mask", mask)]
    try:
        truth = read_mask(mask)
    except FastFlowError:
        return [*findings, ("unreadable", mask)]
    if not truth.any():
        findings.append(("empty mask", mask))
    elif size is not None and not read_mask(mask, size).any():
        findings.append((VANISHED, mask))
    if shape is not None and truth.shape != shape:
        findings.append(("mask of another size", mask))
    return findings


def summary(findings: list[Finding], folder: Path) -> str:
    """Each kind of finding with the files that it is about, the first few of many."""
    problems: defaultdict[str, list[str]] = defaultdict(list)
    for what, path in findings:
        problems[what].append(path.relative_to(folder).as_posix())
    return "; ".join(f"{what}: {_first(paths)}" for what, paths in problems.items())


def _odd_folders(category: Path) -> list[Path]:
    """Folders that the layout has no place for, and defect folders without images."""
    defects = [folder.name for folder in _folders(category / "test")]
    known = {"": [*get_args(Split), "ground_truth"], "train": [GOOD], "ground_truth": defects}
    strangers = [
        folder
        for parent, names in known.items()
        for folder in _folders(category / parent)
        if folder.name not in names
    ]
    return strangers + [path for path in _folders(category / "test") if not image_files(path)]


def _first(paths: list[str], most: int = 3) -> str:
    more = f" and {len(paths) - most} more" if len(paths) > most else ""
    return ", ".join(paths[:most]) + more
