"""One split of a category becomes a sequence of images, masks and labels.

Which files these are says :mod:`~fastflow_utils.data.readers`, in whatever layout they lie; what
the course needs of it can be had here, too.
"""

import warnings
from collections import Counter
from pathlib import Path
from typing import NamedTuple, get_args

import torch
from torch import Tensor
from torch.utils.data import Dataset

from fastflow_utils.data.images import load_image
from fastflow_utils.data.layout import (
    GOOD,
    MVTEC_AD,
    Split,
    categories,
    data_root,
    is_sample_set,
    summary,
)
from fastflow_utils.data.listing import Listing
from fastflow_utils.data.masks import VANISHED, load_mask, look_at_all
from fastflow_utils.data.official import OFFICIAL_COUNTS
from fastflow_utils.data.readers import listing
from fastflow_utils.data.sizes import Size, height_width, size_text
from fastflow_utils.errors import FastFlowError

__all__ = [
    "OFFICIAL_COUNTS",
    "MVTecAD",
    "Pictures",
    "Sample",
    "categories",
    "data_root",
    "is_sample_set",
]


class Sample(NamedTuple):
    """One image with all that is known about it; torch's default collate makes batches of it."""

    image: Tensor
    """(3, H, W) float32 in [0, 1]."""
    mask: Tensor
    """(1, H, W) bool, True = anomalous; all False for a good image."""
    label: int
    """0 good, 1 anomalous."""
    defect: str
    """``good``, or the kind of defect."""
    path: str
    """The image file."""


class Pictures(Dataset[Sample]):
    """One split of a listing: a sequence of ``Sample``.

    Files are decoded only when asked for.

    Args:
        listing: From :mod:`~fastflow_utils.data.readers`.
        split: ``train`` (good images only) or ``test`` (good and anomalous ones).
        image_size: Images and masks are resized to H = W or (H, W) pixels.
        white: The value that means white, of images of more than 8 bits; see
            :func:`~fastflow_utils.data.images.as_image`.
        allow_empty: Whether the split may have no image.

    Attributes:
        listing, split, image_size, white: As given.
        root, category: Of the listing.
        paths: The image files, sorted by defect, then by name.
        mask_paths: The mask files of each image, of which the union counts; none for most good
            ones.
        labels: 0 good, 1 anomalous.
        defects: ``good`` or the kind of defect, of each image.

    Raises:
        FastFlowError: The split is empty, there are images to train on that are not good, or a
            mask is missing.

    Example:
        >>> import tempfile
        >>> from fastflow_utils.data.readers import from_folders
        >>> from fastflow_utils.data.sample_set import make
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = make(folder, ["screw"], size=64, train=3, good=0, per_defect=0)
        ...     mine = from_folders(Path(folder, "screw/train/good"))
        ...     train = Pictures(mine, "train", image_size=(32, 48))
        ...     train[0].image.shape, train.counts(), train.title
        (torch.Size([3, 32, 48]), {'good': 3}, 'screw (sample set)')
    """

    def __init__(
        self,
        listing: Listing,
        split: Split,
        image_size: Size = 256,
        white: int | None = None,
        *,
        allow_empty: bool = False,
    ) -> None:
        if split not in get_args(Split):
            raise FastFlowError(f"split {split!r}: expected one of {', '.join(get_args(Split))}")
        self.listing, self.root, self.category = listing, listing.root, listing.category
        self.split, self.image_size, self.white = split, image_size, white
        items = listing.of(split)
        if split == "train" and (others := {item.defect for item in items} - {GOOD}):
            raise FastFlowError(
                f"{listing.folder / 'train'} holds {', '.join(sorted(others))} beside {GOOD}: "
                "training sees good images only, so move the others to test/ with their masks in "
                "ground_truth/"
            )
        if not items and not allow_empty:
            where = "train/good" if split == "train" else "test/<defect>"
            if listing.layout == MVTEC_AD:
                expected = f"{listing.folder}/{where}/"
            else:
                expected = f"{listing.folder}, read as {listing.layout}"
            raise FastFlowError(f"the {split} split is empty: no images in {expected}")
        missing = [mask for item in items for mask in item.masks if not mask.is_file()]
        if missing:
            raise FastFlowError(
                f"{len(missing)} masks of anomalous test images are missing, such as "
                f"{missing[0]}: add them; `fastflow data check` lists every problem"
            )
        self.paths = [item.path for item in items]
        self.defects = [item.defect for item in items]
        self.labels = [item.label for item in items]
        self.mask_paths = [item.masks for item in items]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Sample:
        return Sample(
            image=self.image(index),
            mask=self._mask(index, self.image_size),
            label=self.labels[index],
            defect=self.defects[index],
            path=str(self.paths[index]),
        )

    def image(self, index: int) -> Tensor:
        """Return a picture alone, as :class:`Sample` has it."""
        return load_image(self.paths[index], self.image_size, self.white)

    def __repr__(self) -> str:
        counts = ", ".join(f"{defect} {count}" for defect, count in self.counts().items())
        return (
            f"{type(self).__name__}({str(self.root)!r}, {self.category!r}, {self.split!r}, "
            f"{self.image_size}): {len(self)} images ({counts})"
        )

    @property
    def is_sample_set(self) -> bool:
        """Whether the images are our own renderings: plots and tables must say so."""
        return self.listing.is_sample_set

    @property
    def has_masks(self) -> bool:
        """Whether each anomalous image of the split has a mask; else no pixel metric is known."""
        return all(item.masks for item in self.listing.of(self.split) if item.label)

    @property
    def title(self) -> str:
        """The category's name for people; the sample set is named as such."""
        return f"{self.category} (sample set)" if self.is_sample_set else self.category

    def masks(self, size: Size | None = None) -> Tensor:
        """Every mask of the split: (N, 1, H, W) bool, in the order of ``paths``.

        Read at ``size``, by default at ``image_size``; all False for an image without one.
        """
        size = height_width(size or self.image_size)
        masks = torch.zeros(len(self), 1, *size, dtype=torch.bool)
        for index, mask in enumerate(masks):
            mask.copy_(self._mask(index, size))
        return masks

    def check_masks(self) -> dict[str, int]:
        """Read every mask of the split, and the image that it belongs to.

        An evaluation comes after training; what would end it is found here in seconds.

        Returns:
            Of each defect the number of masks that vanish: they have anomalous pixels, but none
            of these is left at ``image_size``. Only defects with such masks are listed. Their
            images are anomalous still, but hold nothing that a pixel metric can look for; a
            warning says so.

        Raises:
            FastFlowError: An image or a mask cannot be read, or a mask is all black, is inverted
                as most are, or has another shape than its image.
        """
        items = [item for item in self.listing.of(self.split) if item.masks]
        looked = look_at_all(items, "masks", self.image_size, self.white)
        wrong = [one for found in looked for one in found if one[0] != VANISHED]
        if wrong:
            raise FastFlowError(
                f"no truth to evaluate on in {self.listing.folder}: "
                f"{summary(wrong, self.listing)}; correct these files or take their images away "
                "(`fastflow data check` lists every problem)"
            )
        vanished = dict(Counter(i.defect for i, found in zip(items, looked, strict=True) if found))
        if vanished:
            warnings.warn(
                f"'{self.category}': at {size_text(self.image_size)} px nothing is left of so "
                f"many masks of these defects: {vanished}; pixel metrics cannot count them, a "
                "larger image size keeps them",
                stacklevel=2,
            )
        return vanished

    def counts(self) -> dict[str, int]:
        """How many images each defect has, ``good`` among them."""
        return dict(Counter(self.defects))

    def _mask(self, index: int, size: Size) -> Tensor:
        if not self.mask_paths[index]:
            return torch.zeros(1, *height_width(size), dtype=torch.bool)
        return load_mask(self.mask_paths[index], size)


class MVTecAD(Pictures):
    """One split of a category under a data root, in MVTec AD's layout or any other that is known.

    Args:
        root: The folder that holds the categories.
        category: One of ``categories(root)``.
        split: ``train`` (good images only) or ``test`` (good and anomalous ones).
        image_size: Images and masks are resized to H = W or (H, W) pixels.
        white: As for :class:`Pictures`.

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
        self,
        root: Path | str,
        category: str,
        split: Split,
        image_size: Size = 256,
        white: int | None = None,
    ) -> None:
        super().__init__(listing(root, category), split, image_size, white)
