"""Features computed once, kept on disk, read back as tensors.

The backbone is frozen, so an image's features never change: after the first pass over the images
an epoch of training costs only the flow.
"""

import hashlib
import json
import math
import mmap
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias, cast

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from filelock import FileLock
from torch import Tensor
from torch.utils.data import Dataset

from fastflow_utils.data.images import Strips, sha256
from fastflow_utils.data.layout import data_home
from fastflow_utils.data.mvtec import Pictures
from fastflow_utils.data.sizes import Size, height_width, size_text
from fastflow_utils.detector.backbones import Backbone
from fastflow_utils.detector.windows import Windows
from fastflow_utils.errors import FastFlowError
from fastflow_utils.frontend import track
from fastflow_utils.provenance import code_digest, versions

__all__ = [
    "CopiedPictures",
    "Features",
    "LearntPictures",
    "Source",
    "WindowedPictures",
    "cosine_similarity",
    "extract",
    "pca_colours",
]

_Images: TypeAlias = "Pictures | _Chosen | _Jittered"

Index = Tensor | slice | list[int]
"""Of images, in the order of the data set."""

_CODE = (
    *("data/images.py", "data/sizes.py", "data/pose.py", "compute.py"),
    *("detector/backbones.py", "detector/efficientnet.py"),
    *("detector/features.py", "detector/windows.py"),
)
_PACKAGES = ("torch", "timm", "pillow", "numpy", "scikit-image")
_Half = np.ndarray[tuple[int, ...], np.dtype[np.float16]]


@dataclass(frozen=True)
class Source:
    """Which backbone made features: two of equal fingerprint give equal ones.

    Attributes:
        fingerprint: Of the backbone with its weights, layers and image size, as
            :meth:`~fastflow_utils.detector.backbones.Backbone.fingerprint` returns it.
        backbone, layers, image_size: For people.

    Example:
        >>> print(Source("0123456789abcdef", "resnet18", (1, 2, 3), 256))
        resnet18, layers (1, 2, 3), 256 px, fingerprint 01234567
    """

    fingerprint: str
    backbone: str
    layers: tuple[int, ...]
    image_size: Size

    @classmethod
    def of(cls, backbone: Backbone) -> "Source":
        """Return the source of the features that ``backbone`` gives as it is now."""
        return cls(backbone.fingerprint(), backbone.name, backbone.layers, backbone.image_size)

    def __str__(self) -> str:
        return (
            f"{self.backbone}, layers {self.layers}, {size_text(self.image_size)} px, "
            f"fingerprint {self.fingerprint[:8]}"
        )


class Features(Dataset[list[Tensor]]):
    """The feature maps of N images, one tensor for each level, in memory or in mapped files.

    Files cannot be changed: each tensor that comes out of them, by an index or by ``levels``, is
    a copy.

    Args:
        levels: One tensor (N, C_l, H_l, W_l) for each level, all with the same N.
        source: The backbone that made them; None where that is not known, or where they are no
            longer what it gave.
        images: A digest of the image files, in order; None where that is not known.
        mapped: The memory maps that the levels lie in, if any. What was read is released after
            each reading: it stays in the system's cache, and is no memory of this process.

    Raises:
        FastFlowError: If there is no level, or they are of different numbers of images.

    Example:
        >>> features = Features([torch.rand(5, 3, 8, 8), torch.rand(5, 6, 4, 4)])
        >>> len(features), features.channels
        (5, (3, 6))
        >>> [tuple(h.shape) for h in features[torch.tensor([0, 4])]]
        [(2, 3, 8, 8), (2, 6, 4, 4)]
        >>> features.subset(slice(2)).shapes
        [(2, 3, 8, 8), (2, 6, 4, 4)]
    """

    def __init__(
        self,
        levels: Sequence[Tensor],
        source: Source | None = None,
        images: str | None = None,
        mapped: Sequence[mmap.mmap] = (),
    ) -> None:
        counts = [len(level) for level in levels]
        if not counts or len(set(counts)) > 1:
            raise FastFlowError(
                f"levels of {counts} images: expected at least one level, all of the same images"
            )
        self.source, self.images = source, images
        self._levels = list(levels)
        self._mapped = mapped

    def __len__(self) -> int:
        return len(self._levels[0])

    def __getitem__(self, index: Index) -> list[Tensor]:
        """Return the chosen images' maps ``[(B, C_l, H_l, W_l), ...]`` in float32."""
        chosen = [level[index].float() for level in self._levels]  # float16 of a file: a copy
        _release(self._mapped)
        return chosen

    @property
    def levels(self) -> Sequence[Tensor]:
        """Each level (N, C_l, H_l, W_l) in the number format it is kept in; a file's as a copy."""
        return _Copies(self._levels, self._mapped) if self._mapped else self._levels

    def subset(self, index: Index) -> "Features":
        """Return the features of the chosen images, copied into memory."""
        is_slice = isinstance(index, slice)  # else it is a copy already
        chosen = [level[index].clone() if is_slice else level[index] for level in self._levels]
        _release(self._mapped)
        return Features(chosen, self.source)

    def to(self, device: torch.device) -> "Features":
        """Return the features in the memory of a device."""
        return Features([level.to(device) for level in self.levels], self.source, self.images)

    def batches(self, batch_size: int) -> Iterator[list[Tensor]]:
        """Yield the features in order, ``batch_size`` images at a time."""
        for start in range(0, len(self), batch_size):
            yield self[start : start + batch_size]

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """(N, C_l, H_l, W_l) of each level."""
        return [tuple(level.shape) for level in self._levels]

    @property
    def channels(self) -> tuple[int, ...]:
        """C_l of each level."""
        return tuple(shape[1] for shape in self.shapes)

    def check_source(self, backbone: Backbone) -> None:
        """Refuse features of another backbone; those of unknown source pass.

        Raises:
            FastFlowError: If they were made by another network, or by other weights, layers or
                image size.

        Example:
            >>> Features([torch.rand(5, 24, 8, 8)]).check_source(Backbone(image_size=64))
        """
        if self.source is not None and self.source != (expected := Source.of(backbone)):
            raise FastFlowError(
                f"these features are of the backbone {self.source}, the model's backbone is "
                f"{expected}: compute them with extract(model.backbone, dataset)"
            )

    def check_images(self, dataset: Pictures) -> None:
        """Refuse features of other images than a data set's; those of unknown images pass.

        Raises:
            FastFlowError: If their number, their files or the order of these is another.

        Example:
            >>> features = Features([torch.rand(5, 24, 8, 8)])
            >>> features.images is None  # as for everything that is made by hand
            True
        """
        if len(self) != len(dataset):
            raise FastFlowError(
                f"features of {len(self)} images for a data set of {len(dataset)}: give those of "
                "this split"
            )
        if self.images is not None and self.images != _digest_of(dataset):
            raise FastFlowError(
                f"these features are of other images than those of {dataset!r}, or of these in "
                "another order: compute them with extract(model.backbone, dataset)"
            )


class _Copies(Sequence[Tensor]):
    """Mapped levels, each copied into memory when it is asked for.

    A change of the mapped memory itself would be lost at the next release, without a word.
    """

    def __init__(self, levels: Sequence[Tensor], mapped: Sequence[mmap.mmap]) -> None:
        self._levels, self._mapped = levels, mapped

    def __len__(self) -> int:
        return len(self._levels)

    def __getitem__(self, level: Any) -> Any:  # an index or a slice, as for every sequence
        if isinstance(level, slice):
            return [self[number] for number in range(len(self))[level]]
        copied = self._levels[level].clone()
        _release(self._mapped)
        return copied


def extract(
    backbone: Backbone,
    dataset: _Images,
    *,
    cache: Path | str | None = None,
    batch_size: int = 8,
) -> Features:
    """Return the features of every image of ``dataset``, from the cache where they are in it.

    The cache holds float16 (a relative error of at most 2^-11) in memory-mapped files. Its key is
    the content of the images in order, the backbone's fingerprint (weights, layers, image size),
    the code that reads images and computes features, and the versions of torch, timm and Pillow:
    change any of them and the key changes. Each file's sha256 is checked before it is used; a
    damaged entry is computed again. Of several processes that want one entry, one computes it.

    Args:
        backbone: The frozen network; its ``image_size`` is the size the images are read at.
        dataset: The images of one split.
        cache: The folder to keep features in. Default: ``$FASTFLOW_CACHE``, else
            ``data/cache/features``. It can be deleted at any time.
        batch_size: Images in one pass through the backbone.

    Returns:
        Features in the order of ``dataset``; they know their source.

    Raises:
        FastFlowError: If an image cannot be read, the data set and the backbone differ in image
            size, or a feature is not finite in float16.
    """
    if batch_size < 1:
        raise FastFlowError(f"batch_size={batch_size}: expected at least 1")
    if dataset.image_size != backbone.image_size:
        raise FastFlowError(
            f"the data set reads images of {size_text(dataset.image_size)} px, the backbone "
            f"expects {size_text(backbone.image_size)} px: give both the same image_size"
        )
    folder = Path(cache or os.environ.get("FASTFLOW_CACHE") or data_home() / "cache" / "features")
    folder.mkdir(parents=True, exist_ok=True)
    source, images = Source.of(backbone), _digest_of(dataset)
    entry = folder / _key(source, images)
    with FileLock(f"{entry}.lock"):
        if not _is_sound(entry):
            _compute(backbone, dataset, entry, batch_size)
    return _open(entry, source, images)


def _digest_of(dataset: _Images) -> str:
    """Return a sha256 of the image files' bytes, in order, and of what else decides the images."""
    if isinstance(dataset, _Chosen | _Jittered):
        return dataset.digest()
    files = "".join(map(sha256, dataset.paths))
    white = f" white {dataset.white}" if dataset.white else ""
    return hashlib.sha256((files + white).encode()).hexdigest()


def _key(source: Source, images: str) -> str:
    made_by = (source.fingerprint, images, code_digest(*_CODE), versions(*_PACKAGES))
    return hashlib.sha256(repr(made_by).encode()).hexdigest()[:32]


def _is_sound(entry: Path) -> bool:
    """True if the manifest is there and every file is the one it names, byte for byte."""
    try:
        manifest: dict[str, str] = json.loads((entry / "manifest.json").read_text())
        return bool(manifest) and all(sha256(entry / k) == v for k, v in manifest.items())
    except (OSError, ValueError, AttributeError):
        return False


def _open(entry: Path, source: Source, images: str) -> Features:
    count = len(json.loads((entry / "manifest.json").read_text()))
    # Mode "c", copy on write: torch warns of memory that it cannot write, and nobody writes it.
    arrays = [np.load(entry / _file_name(level), mmap_mode="c") for level in range(count)]
    levels = [rearrange(torch.from_numpy(array), "n h w c -> n c h w") for array in arrays]
    return Features(levels, source, images, [cast(Any, array)._mmap for array in arrays])


def _file_name(level: int) -> str:
    return f"level_{level}.npy"


def _release(mapped: Sequence[mmap.mmap]) -> None:
    """Leave what was read or written to the system's cache, which is not this process's memory."""
    if hasattr(mmap, "MADV_DONTNEED"):  # not on Windows
        for file in mapped:
            file.madvise(mmap.MADV_DONTNEED)


def _compute(backbone: Backbone, dataset: _Images, entry: Path, batch_size: int) -> None:
    """Write the entry beside its place and rename it, so that it is complete or absent."""
    shutil.rmtree(entry, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=entry.parent, prefix=f"{entry.name}.") as scratch:
        folder = Path(scratch) / "entry"
        folder.mkdir()
        files: list[_Half] = []
        written = 0
        for levels in _passes(backbone, dataset, batch_size):
            files = files or _new_files(folder, len(dataset), levels)
            for file, h in zip(files, levels, strict=True):
                file[written : written + len(h)] = h
            _release([cast(Any, file)._mmap for file in files])
            written += len(levels[0])
        for file in files:
            file.flush()  # type: ignore[attr-defined]  # np.memmap, which numpy types as ndarray
        names = [_file_name(level) for level in range(len(files))]
        manifest = {name: sha256(folder / name) for name in names}
        (folder / "manifest.json").write_text(json.dumps(manifest, indent=1))
        folder.rename(entry)


def _passes(backbone: Backbone, dataset: _Images, batch_size: int) -> Iterator[list[_Half]]:
    """Yield each batch's features, channels last: ``[(B, H_l, W_l, C_l), ...]``."""
    device = backbone.device
    places = range(len(dataset))
    with ThreadPoolExecutor(os.cpu_count()) as pool, track(places, "features") as bar:
        for start in places[::batch_size]:
            images = list(pool.map(dataset.image, places[start : start + batch_size]))
            levels = [h.half().cpu() for h in backbone(torch.stack(images).to(device))]
            for level, h in zip(backbone.layers, levels, strict=True):
                if not h.isfinite().all():
                    raise FastFlowError(
                        f"'{backbone.name}' gives features that are not finite in float16 at "
                        f"layer {level}: try other layers"
                    )
            yield [rearrange(h, "n c h w -> n h w c").numpy() for h in levels]
            bar.update(len(images))


def _new_files(folder: Path, images: int, levels: Sequence[_Half]) -> list[_Half]:
    """An empty file for each level, mapped into memory."""
    return [
        np.lib.format.open_memmap(
            folder / _file_name(level),
            mode="w+",
            dtype=np.float16,
            shape=(images, *h.shape[1:]),
        )
        for level, h in enumerate(levels)
    ]


class _Chosen:
    """Some windows of pictures, each an image of its own, as :func:`extract` reads them."""

    def __init__(
        self, dataset: Pictures, windows: Windows, chosen: Sequence[tuple[int, int]]
    ) -> None:
        self.dataset, self.windows, self.chosen = dataset, windows, chosen
        self.image_size = windows.side
        # Windows of one picture follow each other, and threads read several pictures at a time.
        self._strips = lru_cache(maxsize=os.cpu_count())(self._open)

    def __len__(self) -> int:
        return len(self.chosen)

    def _open(self, picture: int) -> Strips:
        return Strips(self.dataset.paths[picture], self.windows.size, self.dataset.white)

    def image(self, index: int) -> Tensor:
        """Return a window, (3, side, side)."""
        picture, window = self.chosen[index]
        top, left = self.windows.places[window]
        strip = self._strips(picture).rows(top, top + self.windows.side)
        return strip[..., left : left + self.windows.side].clone()

    def digest(self) -> str:
        """Return a sha256 of all that decides these images."""
        text = f"{_digest_of(self.dataset)} {self.windows} {self.chosen}"
        return hashlib.sha256(text.encode()).hexdigest()


class _Jittered:
    """Pictures, each followed by copies of it, as :func:`extract` reads them.

    A copy is turned by at most 2 degrees, shifted by at most 1.5 % of the sides, and brighter or
    darker by at most 3 %: as much as a part moves in its holder, and the lamp flickers.
    """

    def __init__(self, dataset: Pictures, copies: int, seed: int) -> None:
        self.dataset, self.copies, self.seed = dataset, copies, seed
        self.image_size = dataset.image_size

    def __len__(self) -> int:
        return len(self.dataset) * (1 + self.copies)

    def image(self, index: int) -> Tensor:
        """Return a picture or a copy of one, (3, H, W)."""
        picture, copy = divmod(index, 1 + self.copies)
        image = self.dataset.image(picture)
        if copy == 0:
            return image
        random = np.random.default_rng((self.seed, index)).uniform(-1, 1, 4)
        angle, (right, down) = math.radians(2 * random[0]), 0.03 * random[1:3]
        wide = image.shape[2] / image.shape[1]
        c, s = math.cos(angle), math.sin(angle)
        matrix = image.new_tensor([[[c, -s / wide, right], [s * wide, c, down]]])
        grid = F.affine_grid(matrix, [1, *image.shape], align_corners=False)
        moved = F.grid_sample(image[None], grid, padding_mode="border", align_corners=False)
        jittered: Tensor = (moved[0] * (1 + 0.03 * random[3])).clamp(0, 1)
        return jittered

    def digest(self) -> str:
        """Return a sha256 of all that decides these images."""
        text = f"{_digest_of(self.dataset)} {self.copies} copies, seed {self.seed}"
        return hashlib.sha256(text.encode()).hexdigest()


class LearntPictures:
    """Normal pictures, of each several images to learn from, and the whole one to calibrate on.

    Args:
        paths: Of the pictures.
        features: Of the images, as many of each picture, in order.
        windows: How the pictures are cut, if they are.
    """

    def __init__(self, paths: list[Path], features: Features, windows: Windows | None) -> None:
        self.paths, self.features, self.windows = paths, features, windows
        self.each = len(features) // len(paths)

    def __len__(self) -> int:
        """Return the number of pictures."""
        return len(self.paths)

    def subset(self, index: Tensor) -> Features:
        """Return the features of these pictures' images."""
        rows = index[:, None] * self.each + torch.arange(self.each)
        return self.features.subset(rows.flatten())

    def paths_of(self, index: Tensor) -> list[Path]:
        """Return these pictures' files."""
        return [self.paths[picture] for picture in index.tolist()]

    def check(self, backbone: Backbone, windows: Windows | None) -> None:
        """Refuse windows or features that are not a model's.

        Raises:
            FastFlowError: The model cuts in another way, or has another backbone.
        """
        if windows != self.windows:
            raise FastFlowError(f"pictures cut as {self.windows} for a model that cuts {windows}")
        self.features.check_source(backbone)


class CopiedPictures(LearntPictures):
    """Few pictures, each learnt from with some slightly different copies of it.

    Args:
        backbone: The frozen network.
        dataset: The training split.
        copies: Of each picture.
        seed: Fixes how each copy differs.
        cache: As for :func:`extract`.
    """

    def __init__(
        self,
        backbone: Backbone,
        dataset: Pictures,
        copies: int,
        *,
        seed: int = 0,
        cache: Path | str | None = None,
    ) -> None:
        features = extract(backbone, _Jittered(dataset, copies, seed), cache=cache)
        super().__init__(dataset.paths, features, None)


class WindowedPictures(LearntPictures):
    """Normal pictures that are cut: windows to learn from, whole pictures to calibrate on.

    Of many large pictures there would be terabytes of features, and far more windows than a flow
    needs: it learns from some, the same number of each picture, chosen at random.

    Args:
        backbone: The frozen network, which takes a window.
        dataset: The training split, read at the windows' picture size.
        windows: How to cut.
        most: Windows to learn from, of all pictures together; at least one of each.
        seed: Fixes the choice.
        cache: As for :func:`extract`.

    Raises:
        FastFlowError: The data set reads pictures of another size.
    """

    def __init__(
        self,
        backbone: Backbone,
        dataset: Pictures,
        windows: Windows,
        *,
        most: int = 1200,
        seed: int = 0,
        cache: Path | str | None = None,
    ) -> None:
        if height_width(dataset.image_size) != height_width(windows.size):
            raise FastFlowError(
                f"the data set reads images of {size_text(dataset.image_size)} px, the windows "
                f"are of pictures of {size_text(windows.size)} px: give both the same image_size"
            )
        total = len(windows.places)
        each = max(1, min(total, most // max(1, len(dataset))))
        random = np.random.default_rng(seed)
        chosen = [
            (picture, int(window))
            for picture in range(len(dataset))
            for window in sorted(random.choice(total, each, replace=False))
        ]
        features = extract(backbone, _Chosen(dataset, windows, chosen), cache=cache)
        super().__init__(dataset.paths, features, windows)


def pca_colours(h: Tensor) -> Tensor:
    """Show C channels as three: the projection of each position on the first principal axes.

    Args:
        h: One feature map (C, H, W) with C >= 3.

    Returns:
        (3, H, W) in [0, 1], one principal component for each of red, green and blue. Positions
        with similar features get similar colours; the colours themselves mean nothing.

    Example:
        >>> pca_colours(torch.rand(16, 4, 4)).shape
        torch.Size([3, 4, 4])
    """
    positions = rearrange(h.float(), "c h w -> (h w) c")
    centred = positions - positions.mean(0)
    _, _, axes = torch.linalg.svd(centred, full_matrices=False)
    axes = axes[:3] * axes[:3].sum(1, keepdim=True).sign()  # an axis has no sign: fix one
    low, high = (centred @ axes.T).aminmax(dim=0, keepdim=True)
    colours: Tensor = (centred @ axes.T - low) / (high - low).clamp_min(1e-12)
    return rearrange(colours, "(h w) c -> c h w", h=h.shape[-2])


def cosine_similarity(h: Tensor, row: int, column: int) -> Tensor:
    r"""Compare every position with one: :math:`\cos(h_{:,i,j}, h_{:,\text{row},\text{column}})`.

    Args:
        h: One feature map (C, H, W).
        row: The chosen position's row in the map, not in the image.
        column: Its column.

    Returns:
        (H, W) in [-1, 1], 1 at the chosen position.

    Example:
        >>> similarity = cosine_similarity(torch.rand(16, 4, 4), row=1, column=2)
        >>> round(similarity[1, 2].item(), 4)
        1.0
    """
    chosen = h[:, row, column, None, None].float()
    similarity: Tensor = F.cosine_similarity(h.float(), chosen, dim=0)
    return similarity
