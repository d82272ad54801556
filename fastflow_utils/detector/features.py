"""Features computed once, kept on disk, read back as tensors.

The backbone is frozen, so an image's features never change: after the first pass over the images
an epoch of training costs only the flow.
"""

import hashlib
import json
import mmap
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from filelock import FileLock
from torch import Tensor
from torch.utils.data import Dataset

from fastflow_utils.data.images import load_image, sha256
from fastflow_utils.data.mvtec import MVTecAD, data_home
from fastflow_utils.detector.backbones import Backbone
from fastflow_utils.errors import FastFlowError
from fastflow_utils.frontend import track

__all__ = ["Features", "cosine_similarity", "extract", "pca_colours"]


class Features(Dataset[list[Tensor]]):
    """The feature maps of N images, one tensor a level, as they lie in memory or on disk.

    Args:
        levels: One tensor (N, C_l, H_l, W_l) for each level, all with the same N.
        files: The memory maps that they lie in, if any. What was read of them is let go after
            each reading: it stays in the system's cache, and is no memory of this process.

    Example:
        >>> features = Features([torch.rand(5, 3, 8, 8), torch.rand(5, 6, 4, 4)])
        >>> len(features), features.channels
        (5, (3, 6))
        >>> [tuple(h.shape) for h in features[torch.tensor([0, 4])]]
        [(2, 3, 8, 8), (2, 6, 4, 4)]
    """

    def __init__(self, levels: Sequence[Tensor], files: Sequence[mmap.mmap] = ()) -> None:
        self.levels = list(levels)
        self.files = files

    def __len__(self) -> int:
        return len(self.levels[0])

    def __getitem__(self, index: Tensor | slice | list[int]) -> list[Tensor]:
        """Return the chosen images' maps ``[(B, C_l, H_l, W_l), ...]`` in float32."""
        chosen = [level[index].float() for level in self.levels]
        _let_go(self.files)
        return chosen

    def check_source(self, backbone: Backbone) -> None:
        """Refuse features of another network."""

    def to(self, device: torch.device) -> "Features":
        """Return the features on another device; on the same one, these."""
        return Features([level.to(device) for level in self.levels])

    def batches(self, batch_size: int) -> Iterator[list[Tensor]]:
        """Yield the features in order, ``batch_size`` images at a time."""
        for start in range(0, len(self), batch_size):
            yield self[start : start + batch_size]

    @property
    def channels(self) -> tuple[int, ...]:
        """C_l of each level."""
        return tuple(level.shape[1] for level in self.levels)


def extract(
    backbone: Backbone,
    dataset: MVTecAD,
    *,
    cache: Path | str | None = None,
    batch_size: int = 8,
) -> Features:
    """Return the features of every image of ``dataset``, from the cache where they are in it.

    The cache holds float16 (a relative error of at most 2^-11) in memory-mapped files. Its key is
    the content of the images in order, and the backbone's fingerprint (weights, layers, image
    size): change any of them and the key changes. Each file's sha256 is checked before it is
    used; a damaged entry is computed again. Of several processes that want one entry, one
    computes it.

    Args:
        backbone: The frozen network; its ``image_size`` is the size the images are read at.
        dataset: The images of one split.
        cache: The folder to keep features in. Default: ``$FASTFLOW_CACHE``, else
            ``data/cache/features``. It can be deleted at any time.
        batch_size: Images in one pass through the backbone.

    Returns:
        Features in the order of ``dataset``.

    Raises:
        FastFlowError: If an image cannot be read, the data set and the backbone differ in image
            size, or a feature is not finite in float16.
    """
    if dataset.image_size != backbone.image_size:
        raise FastFlowError(
            f"the data set reads images of {dataset.image_size} px, the backbone expects "
            f"{backbone.image_size} px: give both the same image_size"
        )
    folder = Path(cache or os.environ.get("FASTFLOW_CACHE") or data_home() / "cache" / "features")
    folder.mkdir(parents=True, exist_ok=True)
    entry = folder / _key(backbone, dataset)
    with FileLock(f"{entry}.lock"):
        if not _is_sound(entry):
            _compute(backbone, dataset, entry, batch_size)
    return _open(entry)


def _key(backbone: Backbone, dataset: MVTecAD) -> str:
    digest = hashlib.sha256(f"channels last {backbone.fingerprint()}".encode())
    for path in dataset.paths:
        digest.update(sha256(path).encode())
    return digest.hexdigest()[:32]


def _is_sound(entry: Path) -> bool:
    """True if the manifest is there and every file is the one it names, byte for byte."""
    try:
        manifest: dict[str, str] = json.loads((entry / "manifest.json").read_text())
        return bool(manifest) and all(sha256(entry / k) == v for k, v in manifest.items())
    except (OSError, ValueError, AttributeError):
        return False


def _open(entry: Path) -> Features:
    # Mode "c" (copy on write): torch wants writable memory, the file stays as it is.
    arrays = [np.load(file, mmap_mode="c") for file in sorted(entry.glob("level_*.npy"))]
    levels = [rearrange(torch.from_numpy(array), "n h w c -> n c h w") for array in arrays]
    return Features(levels, [cast(Any, array)._mmap for array in arrays])


def _let_go(files: Sequence[mmap.mmap]) -> None:
    """Leave what was read or written to the system's cache, which is not this process's memory."""
    if hasattr(mmap, "MADV_DONTNEED"):  # not on Windows
        for file in files:
            file.madvise(mmap.MADV_DONTNEED)


def _compute(backbone: Backbone, dataset: MVTecAD, entry: Path, batch_size: int) -> None:
    """Write the entry beside its place and rename it, so that it is complete or absent."""
    shutil.rmtree(entry, ignore_errors=True)
    device = backbone.mean.device
    with tempfile.TemporaryDirectory(dir=entry.parent, prefix=f"{entry.name}.") as scratch:
        folder = Path(scratch) / "entry"
        folder.mkdir()
        files: list[np.ndarray[tuple[int, ...], np.dtype[np.float16]]] = []
        with ThreadPoolExecutor(os.cpu_count()) as pool, track(dataset.paths, "features") as bar:
            for start in range(0, len(dataset), batch_size):
                paths = dataset.paths[start : start + batch_size]
                images = pool.map(lambda path: load_image(path, backbone.image_size), paths)
                for level, h in enumerate(backbone(torch.stack(list(images)).to(device))):
                    h = rearrange(h.half().cpu(), "n c h w -> n h w c")
                    if not h.isfinite().all():
                        raise FastFlowError(
                            f"'{backbone.name}' gives features that are not finite in float16 at "
                            f"level {level}: try other layers"
                        )
                    if start == 0:
                        files.append(
                            np.lib.format.open_memmap(
                                folder / f"level_{level}.npy",
                                mode="w+",
                                dtype=np.float16,
                                shape=(len(dataset), *h.shape[1:]),
                            )
                        )
                    files[level][start : start + len(paths)] = h.numpy()
                _let_go([cast(Any, file)._mmap for file in files])
                bar.update(len(paths))
        for file in files:
            file.flush()  # type: ignore[attr-defined]  # np.memmap, which numpy types as ndarray
        manifest = {file.name: sha256(file) for file in sorted(folder.glob("level_*.npy"))}
        (folder / "manifest.json").write_text(json.dumps(manifest, indent=1))
        folder.rename(entry)


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
