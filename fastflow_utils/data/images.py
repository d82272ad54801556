"""Pictures to tensors: which files are images, and one door for whatever holds a picture.

torch is imported by the functions that return tensors: to look at files, nobody waits for it.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from PIL import ExifTags, Image, ImageOps
from PIL.TiffImagePlugin import TiffImageFile

from fastflow_utils.data.sizes import Size, height_width
from fastflow_utils.errors import FastFlowError

if TYPE_CHECKING:
    from torch import Tensor
    from typing_extensions import TypeIs

__all__ = [
    "EIGHT_BITS",
    "IMAGE_SUFFIXES",
    "Picture",
    "Strips",
    "as_image",
    "as_images",
    "checked_size",
    "each_picture",
    "extremes",
    "frames_of",
    "has_deep_colour",
    "image_files",
    "is_visible",
    "load_image",
    "open_image",
    "read_pixels",
    "sha256",
]

IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"}
IMAGE_SUFFIXES |= {".ppm", ".pgm", ".pbm", ".pnm", ".jp2"}
Picture: TypeAlias = "Path | str | Image.Image | np.ndarray | Tensor"
EIGHT_BITS = 0
"""The ``white`` of pictures of 8 bits alone: with it, any that has more is refused."""
ROUNDING = 1e-3  # a float so little outside [0, 1] is a rounding error
BAND = 256  # rows of a large picture that are in work at a time


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


def _is_tensor(value: object) -> TypeIs[Tensor]:
    torch = sys.modules.get("torch")  # before it is imported, nothing is a tensor
    return torch is not None and isinstance(value, torch.Tensor)


@contextmanager
def _reading(picture: object) -> Iterator[None]:
    """Whatever goes wrong becomes an error that names the picture."""
    advice = ""
    if isinstance(picture, Path | str):
        name, advice = str(picture), ": replace the file or remove it"
    elif isinstance(picture, Image.Image):
        name = f"a Pillow image of {picture.width} x {picture.height} pixels, mode {picture.mode},"
    elif isinstance(picture, np.ndarray) or _is_tensor(picture):
        kind = "a tensor" if _is_tensor(picture) else "an array"
        name = f"{kind} of shape {tuple(picture.shape)} and type {picture.dtype}"
    else:
        name = f"an object of type {type(picture).__name__}"
    try:
        yield
    except FastFlowError:
        raise
    except Exception as error:  # decoders raise OSError, SyntaxError, struct.error and more
        raise FastFlowError(f"cannot read {name} as an image ({error}){advice}") from error


def open_image(path: Path | str) -> Image.Image:
    """Return an image file as Pillow decodes it, the right way up; :func:`as_image` takes it.

    Raises:
        FastFlowError: The file is missing, damaged or no image.
    """
    # Given a path, Pillow maps uncompressed TIFFs to memory and mixes up those that are turned.
    with _reading(path), Path(path).open("rb") as file, Image.open(file) as image:
        image.load()  # all of it, so the file may be closed
        return _upright(image)


def frames_of(path: Path | str) -> int:
    """Return how many pages or frames a file has, of which the first is read.

    The previews that a telephone puts into its JPEG files (MPO) are none.
    """
    with _reading(path), Image.open(path) as image:
        return 1 if image.format == "MPO" else getattr(image, "n_frames", 1)


def has_deep_colour(path: Path | str) -> bool:
    """Return whether a file is of 16-bit colour, or grey with transparency.

    Pillow keeps the upper 8 of its bits.
    """
    with _reading(path), Image.open(path) as image:
        colour = not image.mode.startswith(("I", "F"))
        return colour and any(";16" in str(tile.args) for tile in image.tile)


def _upright(image: Image.Image) -> Image.Image:
    """The image as its EXIF says that it is to be seen; no copy where nothing is to be turned."""
    if image.getexif().get(ExifTags.Base.Orientation, 1) == 1:
        return image
    return ImageOps.exif_transpose(image)


def _flat(image: Image.Image, background: str) -> Image.Image:
    """Grey as it is, any other as RGB, transparency over ``background``."""
    if image.mode.startswith(("I", "F")):  # 16 bits, or floats
        return image
    if image.has_transparency_data:
        flat = Image.new("RGB", image.size)
        for top, band in _bands(image):
            behind = Image.new("RGBA", band.size, background)
            flat.paste(Image.alpha_composite(behind, band.convert("RGBA")), (0, top))
        return flat
    mode = "L" if image.mode in ("1", "L") else "RGB"
    return image if image.mode == mode else image.convert(mode)


def _bands(image: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    """Yield an image in bands of rows, each with its first row: a copy of all would be large."""
    for top in range(0, image.height, BAND):
        yield top, image.crop((0, top, image.width, min(top + BAND, image.height)))


def extremes(image: Image.Image) -> tuple[float, float]:
    """Return the least and the largest value of a picture of one channel, a band at a time.

    Raises:
        ValueError: They are not finite, or not from 0 to 65535.
    """
    bands = (np.asarray(band) for _, band in _bands(image))
    found = np.array([(band.min(), band.max()) for band in bands], np.float32)
    low, high = float(found.min()), float(found.max())
    if not (low >= -ROUNDING and high <= 65535):  # true for NaN, too
        raise ValueError(f"values from {low:g} to {high:g}, expected finite ones from 0 to 65535")
    return low, high


def _full_scale(image: Image.Image, white: int | None) -> int:
    """The value that means white. A float file does not say, so its largest value decides."""
    _, high = extremes(image)
    if white == EIGHT_BITS:
        _refuse_depth()
    if white is not None:
        if image.mode == "F" and high <= 1 < white:
            raise ValueError(f"floats up to {high:g}, and {white} is white in the others")
        _require_below(high, white)
        return white
    if image.mode == "I" and high <= 255:
        raise ValueError(
            f"integers up to {high:g}, which may be of 8 or of 16 bits: convert the picture to "
            "the mode 'L' or 'I;16'"
        )
    if image.mode.startswith("I"):
        return 65535
    return next(scale for scale in (1, 255, 65535) if high <= scale)


def _refuse_depth() -> None:
    raise ValueError(
        "more than 8 bits, and the pictures that were learnt from have 8: nothing says which "
        "value is white; convert it to 8 bits as they were, or learn from such pictures"
    )


def _require_below(high: float, white: int) -> None:
    if high > white * (1 + ROUNDING):
        raise ValueError(
            f"values up to {high:g}, expected at most {white}, the white of the pictures that "
            "were learnt from: another camera, another depth or another exposure; take pictures "
            "of the same kind, or train on both"
        )


def _require_unit_range(low: float, high: float) -> None:
    if not (low >= -ROUNDING and high <= 1 + ROUNDING):  # true for NaN, too
        raise ValueError(
            f"values from {low:g} to {high:g}, expected floats in [0, 1]: divide values up to 255 "
            "by 255, or give uint8; do not normalise, the backbone does"
        )


def _pixels(values: np.ndarray | Tensor) -> np.ndarray:
    """The pixels (H, W, C) of an array, which has its channels last, or a tensor, first."""
    if _is_tensor(values):
        values = values.detach().cpu()
        values = (values.float() if values.is_floating_point() else values).numpy()
        last = np.moveaxis(values, 0, -1) if values.ndim == 3 else values
        expected, advice = "(C, H, W)", "tensor.permute(2, 0, 1)"
    else:
        last, expected, advice = values, "(H, W, C)", "array.transpose(1, 2, 0)"
    if last.ndim not in (2, 3) or last.shape[2:] not in ((), (1,), (3,), (4,)) or not last.size:
        raise ValueError(
            f"expected one picture, (H, W) or {expected} with 1, 3 or 4 channels: if they are on "
            f"the other side, give {advice}"
        )
    if last.dtype.kind == "f":
        _require_unit_range(last.min(), last.max())
    elif last.dtype.type not in (np.bool_, np.uint8, np.uint16):
        raise ValueError(
            "expected bool, uint8, uint16 or floats in [0, 1]: convert it, for example 0 to 255 "
            "by array.astype(np.uint8)"
        )
    return np.atleast_3d(last)


def _layers(picture: Picture, white: int | None = None) -> tuple[list[Image.Image], int]:
    """What is to be resized, one image of bytes or one of floats for each channel, its white."""
    if isinstance(picture, Path | str):
        if white == EIGHT_BITS and has_deep_colour(picture):
            _refuse_depth()
        picture = open_image(picture)
    if isinstance(picture, TiffImageFile) and picture.filename and picture.tag_v2.get(274, 1) > 4:
        raise ValueError("Pillow itself may read a turned TIFF wrongly: give its path")
    if isinstance(picture, Image.Image):
        image = _flat(_upright(picture), background="white")
        if image.mode in ("L", "RGB"):
            return [image], 255
        return [image.convert("F")], _full_scale(image, white)
    if not (isinstance(picture, np.ndarray) or _is_tensor(picture)):
        raise TypeError("expected a path, a Pillow image, a NumPy array or a tensor")
    pixels = _pixels(picture)
    if pixels.dtype == np.bool_:
        pixels = pixels * np.uint8(255)
    if pixels.dtype == np.uint8:  # as a file of these pixels is read
        return _layers(Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels))
    if pixels.dtype.type == np.uint16:  # in either byte order
        if white == EIGHT_BITS:
            _refuse_depth()
        white = white or 65535
        _require_below(float(pixels[..., :3].max()), white)
    else:
        white = 1
    colour = pixels[..., :3].astype(np.float32)
    if pixels.shape[2] == 4:
        alpha = pixels[..., 3:].astype(np.float32) / (65535 if white > 1 else 1)
        colour = (colour * alpha + white * (1 - alpha)).astype(np.float32)
    return [Image.fromarray(channel) for channel in np.moveaxis(colour, -1, 0)], white


def as_image(picture: Picture, size: Size | None = None, white: int | None = None) -> Tensor:
    """Any picture as RGB, the way a person sees it: a file, a Pillow image, an array, a tensor.

    Grey becomes RGB, transparency lies on white, EXIF rotation is applied. The same 8-bit pixels
    give the same bits, whether they come as a file, an image, an array or a tensor. 16-bit grey
    is divided by 65535 and keeps its precision (Pillow reads 16-bit *colour* at 8 bits); float
    grey of a file or a Pillow image is divided by 1, 255 or 65535, the first that its largest
    value does not exceed. Such a rule for each file by itself is a guess: for the files of a data
    set :func:`~fastflow_utils.data.depth.depth_of` finds one ``white`` for all.

    Args:
        picture: A path; a Pillow image of any mode; an array (H, W) or (H, W, C), or a tensor
            (H, W) or (C, H, W), with C = 1, 3 (RGB) or 4 (RGBA), of bool, uint8, uint16 or of
            floats in [0, 1]. (OpenCV's arrays are BGR: give ``array[..., ::-1]``.)
        size: Resize to these pixels, H = W or (H, W), by Pillow's antialiased bicubic filter: the
            default backbone was evaluated with it, and thin scratches stay sharper than under
            a bilinear one. ``None`` keeps the picture's size.
        white: The value that becomes 1, of what has more than 8 bits; ``EIGHT_BITS`` refuses
            such pictures. Default: as said above.
            8-bit pictures and float arrays are what they are.

    Returns:
        (3, H, W) float32 in [0, 1], on the CPU.

    Raises:
        FastFlowError: The picture is none of these, or a file that cannot be read; an array has
            another shape or type, or floats that are not finite or not in [0, 1]; a value is
            above ``white``.

    Example:
        >>> frame = np.full((480, 640, 3), 255, np.uint8)  # of a camera
        >>> as_image(frame).shape, as_image(frame, size=2)[:, 0, 0]
        (torch.Size([3, 480, 640]), tensor([1., 1., 1.]))
    """
    return Strips(picture, size, white).rows()


def read_pixels(
    picture: Picture, size: Size | None = None, white: int | None = None
) -> np.ndarray:
    """Return what :func:`as_image` makes a tensor of: (H, W, 1 or 3) float32, about [0, 1]."""
    return Strips(picture, size, white).pixels()


class Strips:
    """A picture of which a few rows at a time become floats: all of a large one are too many.

    Args:
        picture, size, white: As for :func:`as_image`.

    Attributes:
        height, width: Of the picture, resized.

    Raises:
        FastFlowError: As for :func:`as_image`.

    Example:
        >>> strips = Strips(np.zeros((48, 64), np.uint8), size=(32, 40))
        >>> strips.rows(8, 16).shape
        torch.Size([3, 8, 40])
    """

    def __init__(
        self, picture: Picture, size: Size | None = None, white: int | None = None
    ) -> None:
        with _reading(picture):
            self._layers, self._white = _layers(picture, white)
            first = self._layers[0]
            if size is not None and height_width(size) != (first.height, first.width):
                height, width = height_width(size)
                self._layers = [
                    layer.resize((width, height), Image.Resampling.BICUBIC)
                    for layer in self._layers
                ]
        self.width, self.height = self._layers[0].size

    def rows(self, top: int = 0, bottom: int | None = None) -> Tensor:
        """Return rows ``top`` to below ``bottom``, (3, rows, W) float32 in [0, 1]."""
        import torch

        # Bicubic weights are partly negative: a float image can leave [0, 1] a little at edges.
        channels = torch.from_numpy(self.pixels(top, bottom)).permute(2, 0, 1).clamp(0, 1)
        return channels.expand(3, -1, -1).contiguous()

    def pixels(self, top: int = 0, bottom: int | None = None) -> np.ndarray:
        """Return the same rows as (rows, W, 1 or 3), about in [0, 1]."""
        layers = self._layers
        if (top, bottom) != (0, None):
            box = (0, top, self.width, self.height if bottom is None else bottom)
            layers = [layer.crop(box) for layer in layers]
        return np.dstack([np.asarray(layer, dtype=np.float32) for layer in layers]) / self._white


def as_images(
    pictures: Picture | Sequence[Picture], size: Size, white: int | None = None
) -> Tensor:
    """One picture or several as a batch, each as :func:`as_image` reads it.

    Args:
        pictures: A picture, a list or tuple of them, or a batch: an array (B, H, W, C) or a
            tensor (B, C, H, W).
        size: H = W or (H, W), pixels.
        white: As for :func:`as_image`.

    Returns:
        (B, 3, H, W) float32 in [0, 1]. A batch of floats that has this shape
        already stays on its device, any other picture comes to the CPU.

    Raises:
        FastFlowError: As for :func:`as_image`, or there is no picture.

    Example:
        >>> import torch
        >>> as_images([np.zeros((48, 64), np.uint8), torch.rand(3, 32, 32)], size=16).shape
        torch.Size([2, 3, 16, 16])
    """
    import torch

    if (
        _is_tensor(pictures)
        and pictures.is_floating_point()
        and pictures.shape[1:] == (3, *height_width(size))
        and len(pictures)
    ):  # nothing to do but to check it
        with _reading(pictures):
            _require_unit_range(*map(float, pictures.detach().aminmax()))
        return pictures.detach().float().clamp(0, 1)
    return torch.stack([as_image(picture, size, white) for picture in each_picture(pictures)])


def each_picture(pictures: Picture | Sequence[Picture]) -> Sequence[Picture]:
    """Return a picture, a sequence of them or a batch, as for :func:`as_images`, as a sequence.

    Raises:
        FastFlowError: There is no picture.
    """
    many: Sequence[Picture]
    if (isinstance(pictures, np.ndarray) or _is_tensor(pictures)) and pictures.ndim == 4:
        many = list(pictures)
    elif isinstance(pictures, Sequence) and not isinstance(pictures, str):
        many = pictures
    else:
        many = [pictures]
    if not many:
        raise FastFlowError("no pictures: expected at least one")
    return many


def load_image(path: Path | str, size: Size | None = None, white: int | None = None) -> Tensor:
    """An image file as RGB: :func:`as_image` of its path.

    Args:
        path: The image file.
        size: Resize to H = W or (H, W) pixels; ``None`` keeps the file's size.
        white: As for :func:`as_image`.

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
    return as_image(Path(path), size, white)


def checked_size(path: Path | str, white: int | None = None) -> tuple[int, int]:
    """Return the height and width of an image file that :func:`load_image` can read.

    All of it is decoded and checked, but not made a tensor: that of a large file is larger still.

    Raises:
        FastFlowError: As for :func:`load_image`.
    """
    with _reading(path):
        [first, *_], _ = _layers(path, white)
    return first.height, first.width
