"""One split of a category becomes a sequence of images, masks and labels.

Which files these are says :mod:`~fastflow_utils.data.layout`; what the course needs of it can be
had here, too.
"""

import os
import warnings
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, get_args

import torch
from torch import Tensor
from torch.utils.data import Dataset

from fastflow_utils.data.images import load_image, load_mask
from fastflow_utils.data.layout import (
    GOOD,
    VANISHED,
    Split,
    categories,
    category_folder,
    data_root,
    is_sample_set,
    look_at,
    mask_path,
    split_files,
    summary,
)
from fastflow_utils.data.official import OFFICIAL_COUNTS
from fastflow_utils.errors import FastFlowError
from fastflow_utils.frontend import track

__all__ = ["OFFICIAL_COUNTS", "MVTecAD", "Sample", "categories", "data_root", "is_sample_set"]


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
        folder = category_folder(self.root, category) / split
        self.paths = split_files(folder)
        self.defects = [path.parent.name for path in self.paths]
        self.labels = [int(defect != GOOD) for defect in self.defects]
        self.mask_paths = [
            mask_path(path) if label else None
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
            looked = pool.map(lambda pair: look_at(pair[0], pair[1], self.image_size), pairs)
            findings = [one for found in track(looked, "masks", len(pairs)) for one in found]
        wrong = [(what, path) for what, path in findings if what != VANISHED]
        if wrong:
            folder = self.root / self.category
            raise FastFlowError(
                f"no truth to evaluate on in {folder}: {summary(wrong, folder)}; correct these "
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
