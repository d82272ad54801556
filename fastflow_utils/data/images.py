"""Files to tensors: which files of a folder are images, and one image or mask of any kind."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from fastflow_utils.errors import FastFlowError

__all__ = ["IMAGE_SUFFIXES", "image_files", "is_visible", "load_image", "load_mask", "sha256"]

IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"}


def image_files(folder: Path | str) -> list[Path]:
    """The images directly in a folder, sorted by name; hidden files and others are left out.

    Raises:
        FastFlowError: There is no such folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FastFlowError(f"there is no folder {folder}: name one that holds images")
    return sorted(
        (
            path
            for path in folder.iterdir()
            if path.suffix.lower() in IMAGE_SUFFIXES and is_visible(path) and path.is_file()
        ),
        key=lambda path: path.name,
    )


def is_visible(path: Path) -> bool:
    """Return whether a file or folder is one that a person put there."""
    return not path.name.startswith(".")  # .DS_Store, ._000.png, .ipynb_checkpoints


def sha256(file: Path | str) -> str:
    """Return the sha256 of a file's bytes, in hex."""
    with Path(file).open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


@contextmanager
def _opened(path: Path | str) -> Iterator[Image.Image]:
    """The image, the right way up; an error while it is open names the file."""
    try:
        # Given a path, Pillow maps uncompressed TIFFs to memory and ignores that they are turned.
        with Path(path).open("rb") as file, Image.open(file) as image:
            yield ImageOps.exif_transpose(image)
    except Exception as error:  # decoders raise OSError, SyntaxError, struct.error and more
        raise FastFlowError(
            f"cannot read {path} as an image ({error}): replace the file or remove it"
        ) from error


def _flat(image: Image.Image, background: str) -> Image.Image:
    """16-bit and float images as they are, any other as RGB, transparency over ``background``."""
    if image.mode.startswith(("I", "F")):
        return image
    if not image.has_transparency_data:
        return image.convert("RGB")
    behind = Image.new("RGBA", image.size, background)
    return Image.alpha_composite(behind, image.convert("RGBA")).convert("RGB")


def _full_scale(image: Image.Image, values: np.ndarray) -> int:
    """The value that means white. A float file does not say, so its largest value decides."""
    if not (np.isfinite(values).all() and values.max() <= 65535):
        raise ValueError(f"values up to {values.max():g}, expected finite ones up to 65535")
    if image.mode.startswith("I"):
        return 65535
    return next(scale for scale in (1, 255, 65535) if values.max() <= scale)


def load_image(path: Path | str, size: int | None = None) -> Tensor:
    """Any image file as RGB, the way a person sees it.

    Grey becomes RGB, transparency lies on white, EXIF rotation is applied. 16-bit grey is divided
    by 65535 and keeps its precision (Pillow reads 16-bit *colour* at 8 bits); float grey is
    divided by 1, 255 or 65535, the first that its largest value does not exceed.

    Args:
        path: The image file.
        size: Resize to ``size`` x ``size`` pixels, by Pillow's antialiased bicubic filter: the
            default backbone was evaluated with it, and thin scratches stay sharper than under
            a bilinear one. ``None`` keeps the file's size.

    Returns:
        (3, H, W) float32 in [0, 1].

    Raises:
        FastFlowError: The file is missing, damaged or no image.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "red.png"
        ...     Image.new("RGB", (6, 4), "red").save(path)
        ...     load_image(path).shape, load_image(path, size=2)[:, 0, 0]
        (torch.Size([3, 4, 6]), tensor([1., 0., 0.]))
    """
    with _opened(path) as image:
        image = _flat(image, background="white")
        full_scale = 255
        if image.mode != "RGB":
            values = np.asarray(image, dtype=np.float32)
            full_scale = _full_scale(image, values)
            image = Image.fromarray(values)
        if size is not None:
            image = image.resize((size, size), Image.Resampling.BICUBIC)
        pixels = np.atleast_3d(np.array(image, dtype=np.float32)) / full_scale
    # Bicubic weights are partly negative, so a float image can leave [0, 1] a little at edges.
    channels = torch.from_numpy(pixels).permute(2, 0, 1).clamp(0, 1)
    return channels.expand(3, -1, -1).contiguous()


def load_mask(path: Path | str, size: int | None = None) -> Tensor:
    """A mask file as booleans: every pixel that is not black is anomalous.

    MVTec AD's masks hold 0 and 255 only. Of other files, any value above 0 counts (masks of 0
    and 1, 1-bit, 16-bit, coloured, the grey rim of smoothed ones); what is transparent does not.

    Args:
        path: The mask file.
        size: Resize to ``size`` x ``size`` pixels by the nearest one, so that an edge stays an
            edge; a defect thinner than the step between pixels may break up. ``None`` keeps the
            file's size.

    Returns:
        (1, H, W) bool, True = anomalous.

    Raises:
        FastFlowError: The file is missing, damaged or no image.
    """
    with _opened(path) as image:
        values = np.atleast_3d(np.asarray(_flat(image, background="black")))
        mask = Image.fromarray((values != 0).any(axis=-1))
        if size is not None:
            mask = mask.resize((size, size), Image.Resampling.NEAREST)
    return torch.from_numpy(np.array(mask))[None]
