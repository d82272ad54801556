"""One door for pictures: what gives the same pixels gives the same tensor, or is refused."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fastflow_utils.data import images
from fastflow_utils.data.images import (
    Strips,
    as_image,
    as_images,
    checked_size,
    load_image,
    open_image,
)
from fastflow_utils.errors import FastFlowError

SIZES = [None, 5, 24, 37, 64]


def noise(*shape: int, dtype: type = np.uint8) -> np.ndarray:
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def tensor_of(pixels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.moveaxis(np.atleast_3d(pixels), -1, 0).copy())


def refused(call: Callable[[], object], *parts: str) -> None:
    with pytest.raises(FastFlowError) as error:
        call()
    message = str(error.value)
    assert "\n" not in message
    assert [part for part in parts if part not in message] == []


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("shape", [(24, 37), (24, 37, 3), (37, 24, 4), (24, 24, 3)])
def test_the_same_pixels_are_the_same_bits_from_anywhere(tmp_path, shape, size):
    pixels = noise(*shape)
    path = tmp_path / "a.png"
    Image.fromarray(pixels).save(path)
    expected = load_image(path, size)
    side = shape[:2] if size is None else (size, size)
    assert expected.shape == (3, *side) and expected.dtype == torch.float32
    with Image.open(path) as opened:
        others = [str(path), opened, open_image(path), pixels, pixels[::-1][::-1]]
        others += [tensor_of(pixels)]
        for other in others:
            assert torch.equal(as_image(other, size), expected), type(other)


@pytest.mark.parametrize("size", SIZES)
def test_16_bits_are_the_same_from_anywhere(tmp_path, size):
    pixels = noise(24, 37, dtype=np.uint16)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    expected = load_image(tmp_path / "a.png", size)
    for other in (pixels, pixels[..., None], pixels.astype(">u2"), tensor_of(pixels)):
        assert torch.equal(as_image(other, size), expected)
    assert torch.equal(as_image(np.dstack([pixels] * 3), size), expected)


@pytest.mark.parametrize("kind", ["jpg", "png", "tif"])
@pytest.mark.parametrize("shape", [(16, 8), (16, 8, 3)])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_image_is_turned_once(tmp_path, kind, shape, orientation):
    exif = Image.Exif()
    exif[274] = orientation
    path = tmp_path / f"a.{kind}"
    Image.fromarray(noise(*shape)).save(path, exif=exif)
    expected = load_image(path, 12)
    assert torch.equal(as_image(open_image(path), 12), expected)
    with Image.open(path) as opened:
        if kind == "tif" and orientation > 4:  # Pillow gives wrong pixels, of grey at least
            refused(lambda: as_image(opened, 12), "give its path")
        else:
            assert torch.equal(as_image(opened, 12), expected)
            assert torch.equal(as_image(opened, 12), expected), "the caller's is as it was"


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "bfloat16"])
@pytest.mark.parametrize("size", SIZES)
def test_floats_agree_with_bytes(dtype, size):
    pixels = 64 + noise(24, 24, 3) // 2  # away from black and white, where bytes are cut off
    tensor = (tensor_of(pixels) / 255).to(getattr(torch, dtype))
    close = {"rtol": 0, "atol": (2 if dtype == "bfloat16" else 1.5) / 255}
    torch.testing.assert_close(as_image(tensor, size), as_image(pixels, size), **close)
    [alone], expected = as_images(tensor[None], size or 24), as_image(pixels, size or 24)
    torch.testing.assert_close(alone, expected, **close)
    if dtype != "bfloat16":
        array = np.moveaxis(tensor.numpy(), 0, -1)
        assert torch.equal(as_image(array, size), as_image(tensor, size))


def test_floats_of_the_right_size_are_kept_bit_for_bit():
    batch = torch.rand(2, 3, 16, 16)
    for given in (batch, list(batch), batch.permute(0, 2, 3, 1).numpy(), batch.requires_grad_()):
        assert torch.equal(as_images(given, 16), batch)
    assert not as_image(batch[0]).requires_grad


def test_rounding_errors_are_no_reason_to_refuse():
    image = as_image(torch.tensor([[-1e-6, 1 + 1e-6]]))
    assert image.min() == 0 and image.max() == 1
    batch = as_images(torch.full((1, 3, 4, 4), 1 + 1e-6), 4)
    assert batch.max() == 1


def test_black_and_white():
    mask = noise(9, 7) > 127
    expected = torch.from_numpy(mask).float().expand(3, -1, -1)
    for given in (mask, mask[..., None], torch.from_numpy(mask), Image.fromarray(mask)):
        assert torch.equal(as_image(given), expected)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_what_is_transparent_is_white(dtype):
    white = 1 if dtype == np.float32 else np.iinfo(dtype).max
    pixels = np.zeros((6, 6, 4), dtype)  # black, without any opacity
    pixels[:3, :, 3] = white
    image = as_image(pixels)
    assert (image[:, :3] == 0).all() and (image[:, 3:] == 1).all()


@pytest.mark.parametrize(
    ("given", "parts"),
    [
        (255 * np.random.default_rng(0).random((8, 8, 3)), ["float64", "[0, 1]", "by 255"]),
        (255 * torch.rand(3, 8, 8), ["torch.float32", "[0, 1]", "by 255"]),
        (torch.randn(3, 8, 8), ["[0, 1]", "do not normalise"]),
        (torch.full((3, 8, 8), torch.nan), ["nan", "[0, 1]"]),
        (torch.full((3, 8, 8), torch.inf), ["inf", "[0, 1]"]),
        (np.zeros((3, 8, 8), np.uint8), ["(3, 8, 8)", "(H, W, C)", "array.transpose(1, 2, 0)"]),
        (torch.zeros(8, 8, 3), ["(8, 8, 3)", "(C, H, W)", "tensor.permute(2, 0, 1)"]),
        (np.zeros((8, 8, 2), np.uint8), ["1, 3 or 4 channels"]),
        (np.zeros((1, 8, 8, 3), np.uint8), ["one picture"]),
        (np.zeros(8, np.uint8), ["(8,)", "one picture"]),
        (np.zeros((0, 8, 3), np.uint8), ["(0, 8, 3)"]),
        (np.zeros((8, 8), np.int64), ["int64", "astype(np.uint8)"]),
        (np.zeros((8, 8), complex), ["complex128"]),
        (Image.new("F", (4, 6), -1.0), ["4 x 6 pixels", "mode F", "-1"]),
        ([[0.0, 1.0]], ["list", "a tensor"]),
        (None, ["NoneType", "a path"]),
    ],
)
def test_what_cannot_be_a_picture_is_refused(given, parts):
    refused(lambda: as_image(given), *parts)


@pytest.mark.parametrize(
    "batch",
    [255 * torch.rand(2, 3, 8, 8), torch.full((2, 3, 8, 8), torch.nan), torch.zeros(2, 8, 8, 3)],
)
def test_a_batch_is_refused_like_a_picture(batch):
    refused(lambda: as_images(batch, 8), "tensor", "expected")


def test_a_broken_pillow_image_is_named(tmp_path):
    Image.fromarray(noise(64, 64, 3)).save(tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()
    opened = Image.open(io.BytesIO(data[: len(data) // 2]))  # decoded later, by us
    refused(lambda: as_image(opened), "64 x 64")


def test_one_several_or_a_batch(tmp_path):
    pixels = noise(3, 20, 30, 3)
    for number, picture in enumerate(pixels):
        Image.fromarray(picture).save(tmp_path / f"{number}.png")
    files = sorted(tmp_path.iterdir())
    expected = torch.stack([load_image(file, 16) for file in files])
    tensor = torch.from_numpy(pixels).permute(0, 3, 1, 2)
    mixed = (files[0], Image.open(files[1]), tensor[2])
    for batch in (files, list(pixels), pixels, tensor, mixed):
        assert torch.equal(as_images(batch, 16), expected)
    for one in (files[0], str(files[0]), Image.open(files[0]), pixels[0], tensor[0], tensor[:1]):
        assert torch.equal(as_images(one, 16), expected[:1])


@pytest.mark.parametrize("nothing", [[], (), torch.zeros(0, 3, 8, 8), np.zeros((0, 8, 8, 3))])
def test_no_picture_at_all(nothing):
    refused(lambda: as_images(nothing, 8), "at least one")


def test_a_folder_is_no_picture(tmp_path: Path):
    refused(lambda: as_images(tmp_path, 8), str(tmp_path))


def test_integers_that_may_be_of_8_or_16_bits_are_refused():
    """A 32-bit picture of grey values up to 255 was read as black."""
    grey = Image.new("L", (4, 4), 200).convert("I")
    with pytest.raises(FastFlowError, match="'L' or 'I;16'"):
        as_image(grey)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "F"])
def test_the_size_is_that_of_the_image(tmp_path, mode):
    path = tmp_path / (
        "a.png" if mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16") else "a.tif"
    )
    Image.new(mode, (30, 20)).save(path)
    assert checked_size(path) == load_image(path).shape[1:] == (20, 30)


def test_what_cannot_be_read_has_no_size(tmp_path):
    Image.new("F", (4, 4), -1.0).save(tmp_path / "a.tif")
    (tmp_path / "b.png").write_bytes(b"\x89PNG nothing")
    for name in ("a.tif", "b.png", "c.png"):
        refused(lambda name=name: checked_size(tmp_path / name), name)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_grey_is_resized_as_each_channel_of_the_same_rgb(size, dtype):
    """Grey pictures are kept in one channel, a quarter of the memory of Pillow's RGB."""
    pixels = noise(40, 50, dtype=dtype)
    assert torch.equal(as_image(pixels, size), as_image(np.dstack([pixels] * 3), size))


@pytest.mark.parametrize("mode", ["LA", "RGBA", "P"])
def test_transparency_is_laid_on_white_band_by_band(monkeypatch, mode):
    image = Image.fromarray(noise(40, 50, 4)).convert(mode)
    if mode == "P":
        image.info["transparency"] = bytes(range(256))
    at_once = as_image(image)
    monkeypatch.setattr(images, "BAND", 7)
    assert torch.equal(as_image(image), at_once)
    white = Image.new("RGBA", image.size, "white")
    whole = Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
    assert torch.equal(at_once, as_image(whole))


def test_no_value_of_a_16_bit_or_float_image_is_overlooked(monkeypatch):
    monkeypatch.setattr(images, "BAND", 7)
    pixels = np.full((20, 5), 0.5, np.float32)
    for row in (0, 7, 19):
        for wrong in (np.nan, np.inf, -1.0, 65536.0):
            broken = pixels.copy()
            broken[row, 3] = wrong
            refused(lambda broken=broken: as_image(Image.fromarray(broken)), "from 0 to 65535")


@pytest.mark.parametrize("size", [None, (20, 30), 24])
@pytest.mark.parametrize(
    "pixels", [noise(40, 37, 3), noise(40, 37), noise(40, 37, dtype=np.uint16), noise(40, 37, 4)]
)
def test_strips_are_the_rows_of_the_picture(pixels, size):
    whole, strips = as_image(pixels, size), Strips(pixels, size)
    assert (strips.height, strips.width) == whole.shape[1:]
    for top, bottom in [(0, 1), (3, 19), (0, strips.height), (strips.height - 1, strips.height)]:
        assert torch.equal(strips.rows(top, bottom), whole[:, top:bottom])


def test_a_size_may_be_height_and_width():
    pixels = noise(50, 70, 3)
    assert as_image(pixels, (20, 30)).shape == (3, 20, 30)
    assert as_images([pixels, pixels[:9]], (20, 30)).shape == (2, 3, 20, 30)
    assert torch.equal(as_image(pixels, (50, 70)), as_image(pixels))
    batch = torch.rand(2, 3, 20, 30)
    assert torch.equal(as_images(batch, (20, 30)), batch), "of this shape already"
    assert as_images(batch, (30, 20)).shape == (2, 3, 30, 20)


def test_a_white_is_for_what_has_more_than_8_bits(tmp_path):
    deep = noise(24, 37, dtype=np.uint16) // 16
    Image.fromarray(deep).save(tmp_path / "a.png")
    expected = torch.from_numpy(deep / np.float32(4095)).expand(3, -1, -1)
    for picture in (deep, tensor_of(deep), tmp_path / "a.png", open_image(tmp_path / "a.png")):
        torch.testing.assert_close(as_image(picture, white=4095), expected, rtol=0, atol=1e-6)
    floats = np.random.default_rng(0).random((24, 37), np.float32)
    for same in (noise(24, 37), noise(24, 37, 3), floats, noise(24, 37) > 99):
        assert torch.equal(as_image(same, white=4095), as_image(same))


@pytest.mark.parametrize("kind", [np.uint16, np.int32, np.float32])
def test_what_is_above_the_white_is_refused(kind, tmp_path):
    pixels = np.full((9, 9), 5000, kind)
    file = tmp_path / "a.tif"
    Image.fromarray(pixels).save(file)
    refused(lambda: as_image(file, white=4095), "a.tif", "up to 5000, expected at most 4095")
    if kind is np.uint16:
        refused(lambda: as_image(pixels, white=4095), "up to 5000, expected at most 4095")
