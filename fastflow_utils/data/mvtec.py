"""A category folder in MVTec AD's layout becomes images, masks and labels.

The layout, for each category::

    ROOT/<category>/train/good/000.png                  normal images, the only ones to learn from
    ROOT/<category>/test/good/000.png                   normal images
    ROOT/<category>/test/<defect>/000.png               anomalous images, a folder per defect
    ROOT/<category>/ground_truth/<defect>/000_mask.png  where each of them is anomalous
"""

import difflib
import hashlib
import os
import warnings
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import Dataset

from fastflow_utils.data.images import (
    checked_size,
    image_files,
    is_visible,
    load_image,
    load_mask,
    sha256,
)
from fastflow_utils.data.official import OFFICIAL_COUNTS
from fastflow_utils.errors import FastFlowError
from fastflow_utils.frontend import track

__all__ = [
    "OFFICIAL_COUNTS",
    "MVTecAD",
    "Sample",
    "categories",
    "check",
    "data_home",
    "data_root",
    "digest",
    "is_mvtec_ad",
    "is_sample_set",
]

Split = Literal["train", "test"]

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


def _split_files(split: Path) -> list[Path]:
    """Every image of a split, by defect, then by name."""
    return [path for defect in _folders(split) for path in image_files(defect)]


def _images(category: Path) -> tuple[list[Path], list[Path], list[Path]]:
    """A category's normal training images, normal test images and anomalous test images."""
    train, test = _split_files(category / "train"), _split_files(category / "test")
    return (
        [path for path in train if path.parent.name == GOOD],
        [path for path in test if path.parent.name == GOOD],
        [path for path in test if path.parent.name != GOOD],
    )


def _mask_path(image: Path) -> Path:
    """``test/<defect>/000.png`` -> ``ground_truth/<defect>/000_mask.png``, beside it."""
    category = image.parents[2]
    return category / "ground_truth" / image.parent.name / f"{image.stem}_mask.png"


# One split of one category ----------------------------------------------------------------------


class Sample(NamedTuple):
    """One image with all that is known about it; torch's default collate makes batches of it."""

    image: Tensor
    """(3, H, W) float32 in [0, 1]."""
    mask: Tensor
    """(1, H, W) bool, True = anomalous; all False for a good image."""
    label: int
    """0 good, 1 anomalous."""
    defect: str
    """The folder's name: ``good`` or the kind of defect."""
    path: str
    """The image file."""


class MVTecAD(Dataset[Sample]):
    """One split of one category, in MVTec AD's layout: a sequence of ``Sample``.

    Files are listed at once and decoded only when asked for.

    Args:
        root: The folder that holds the categories.
        category: One of ``categories(root)``.
        split: ``train`` (good images only) or ``test`` (good and anomalous ones).
        image_size: Images and masks are resized to this many pixels, in height and width.

    Attributes:
        root, category, split, image_size: As given.
        paths: The image files, sorted by defect, then by name.
        mask_paths: The mask file of each image; None for a good one.
        labels: 0 good, 1 anomalous.
        defects: The folder's name of each image.

    Raises:
        FastFlowError: The root, the category or an image's mask is missing, the split is empty,
            or there are images to train on that are not good.

    Example:
        >>> import tempfile
        >>> from fastflow_utils.data.sample_set import make
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     root = make(
        ...         folder, ["bottle"], size=64, train=2, good=3, per_defect=1
        ...     )
        ...     test = MVTecAD(root, "bottle", "test", image_size=32)
        ...     sample = test[0]
        >>> sample.image.shape, sample.mask.shape
        (torch.Size([3, 32, 32]), torch.Size([1, 32, 32]))
        >>> test.counts()["good"]
        3
    """

    def __init__(
        self, root: Path | str, category: str, split: Split, image_size: int = 256
    ) -> None:
        if split not in get_args(Split):
            raise FastFlowError(f"split {split!r}: expected one of {', '.join(get_args(Split))}")
        self.root = Path(root).expanduser()
        self.category, self.split, self.image_size = category, split, image_size
        folder = _category_folder(self.root, category) / split
        self.paths = _split_files(folder)
        self.defects = [path.parent.name for path in self.paths]
        self.labels = [int(defect != GOOD) for defect in self.defects]
        self.mask_paths = [
            _mask_path(path) if label else None
            for path, label in zip(self.paths, self.labels, strict=True)
        ]
        if split == "train":
            _require_good(folder, self.defects)
        if not self.paths:
            raise FastFlowError(f"the {split} split is empty: no images in {folder}/<defect>/")
        _require_masks(self.mask_paths)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Sample:
        return Sample(
            image=load_image(self.paths[index], self.image_size),
            mask=self._mask(self.mask_paths[index]),
            label=self.labels[index],
            defect=self.defects[index],
            path=str(self.paths[index]),
        )

    def __repr__(self) -> str:
        counts = ", ".join(f"{defect} {count}" for defect, count in self.counts().items())
        return (
            f"MVTecAD({str(self.root)!r}, {self.category!r}, {self.split!r}, {self.image_size}): "
            f"{len(self)} images ({counts})"
        )

    @property
    def is_sample_set(self) -> bool:
        """Whether the images are our own renderings: plots and tables must say so."""
        return is_sample_set(self.root, self.category)

    @property
    def title(self) -> str:
        """The category's name for people; the sample set is named as such."""
        return f"{self.category} (sample set)" if self.is_sample_set else self.category

    def masks(self) -> Tensor:
        """Every mask of the split: (N, 1, H, W) bool, in the order of ``paths``."""
        return torch.stack([self._mask(path) for path in self.mask_paths])

    def check_masks(self) -> dict[str, int]:
        """Read every mask of the split, and the image that it belongs to.

        An evaluation comes after training; what would end it is found here in seconds.

        Returns:
            Of each defect the number of masks that vanish: they have anomalous pixels, but none
            of these is left at ``image_size``. Only defects with such masks are listed. Their
            images are anomalous still, but hold nothing that a pixel metric can look for; a
            warning says so.

        Raises:
            FastFlowError: An image or a mask cannot be read, or a mask is all black or has
                another shape than its image.
        """
        pairs = [pair for pair in zip(self.paths, self.mask_paths, strict=True) if pair[1]]
        with ThreadPoolExecutor(os.cpu_count()) as pool:  # each holds a picture of full size
            looked = pool.map(lambda pair: _look_at(pair[0], pair[1], self.image_size), pairs)
            findings = [one for found in track(looked, "masks", len(pairs)) for one in found]
        wrong = [(what, path) for what, path in findings if what != VANISHED]
        if wrong:
            folder = self.root / self.category
            raise FastFlowError(
                f"no truth to evaluate on in {folder}: {_summary(wrong, folder)}; correct these "
                "files or take their images away (`fastflow data check` lists every problem)"
            )
        vanished = dict(Counter(path.parent.name for _, path in findings))
        if vanished:
            warnings.warn(
                f"'{self.category}': at {self.image_size} px nothing is left of so many masks of "
                f"these defects: {vanished}; pixel metrics cannot count them, a larger image size "
                "keeps them",
                stacklevel=2,
            )
        return vanished

    def counts(self) -> dict[str, int]:
        """How many images each defect's folder holds, ``good`` among them."""
        return dict(Counter(self.defects))

    def _mask(self, path: Path | None) -> Tensor:
        if path is None:
            return torch.zeros(1, self.image_size, self.image_size, dtype=torch.bool)
        return load_mask(path, self.image_size)


def _category_folder(root: Path, category: str) -> Path:
    names = categories(root)
    if category in names:
        return root / category
    near = difflib.get_close_matches(category.lower(), names, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise FastFlowError(
        f"no category {category!r} in {root}: {hint}it has {', '.join(names) or 'none at all'}"
    )


def _require_good(train: Path, defects: list[str]) -> None:
    if not (train / GOOD).is_dir():
        raise FastFlowError(f"there is no folder {train / GOOD}: put the normal images there")
    if others := sorted(set(defects) - {GOOD}):
        raise FastFlowError(
            f"{train} holds {', '.join(others)} beside {GOOD}: training sees good images only, "
            f"so move the others to test/ with their masks in ground_truth/"
        )


def _require_masks(paths: list[Path | None]) -> None:
    missing = [path for path in paths if path and not path.is_file()]
    if missing:
        raise FastFlowError(
            f"{len(missing)} masks of anomalous test images are missing, such as {missing[0]}: "
            f"add them; `fastflow data check` lists every problem"
        )


# All categories ---------------------------------------------------------------------------------


def check(root: Path | str) -> pd.DataFrame:
    """Read every file under a data root and say what is there and what is wrong.

    Returns:
        A row per category: the images in ``train``, ``test_good`` and ``test_anomalous``, each
        with MVTec AD's own count in ``official_...`` (missing for other categories), the number
        of ``masks``, and ``problems``, empty if there are none.

    Raises:
        FastFlowError: The root is missing or holds no category.
    """
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
    masks = {path: _mask_path(path) for path in anomalous}
    findings = []
    if not train:
        findings.append(("no images", folder / "train" / GOOD))
    if not good and not anomalous:
        findings.append(("no images", folder / "test"))
    findings += [("unexpected", odd) for odd in _odd_folders(folder)]
    for path in track([*train, *good, *anomalous], folder.name):
        findings += _look_at(path, masks.get(path))
    return {
        "train": len(train),
        "test_good": len(good),
        "test_anomalous": len(anomalous),
        "masks": sum(mask.is_file() for mask in masks.values()),
        "problems": _summary(findings, folder),
    }


def _look_at(image: Path, mask: Path | None, size: int | None = None) -> list[Finding]:
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
        truth = load_mask(mask)
    except FastFlowError:
        return [*findings, ("unreadable", mask)]
    if not truth.any():
        findings.append(("empty mask", mask))
    elif size is not None and not load_mask(mask, size).any():
        findings.append((VANISHED, mask))
    if shape is not None and truth.shape[1:] != shape:
        findings.append(("mask of another size", mask))
    return findings


def _summary(findings: list[Finding], folder: Path) -> str:
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
