"""More than 8 bits: one scale for a data set, so that the same scene is the same to a model."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fastflow_utils.data.depth import depth_of
from fastflow_utils.data.images import EIGHT_BITS, as_image, load_image
from fastflow_utils.data.masks import look_at_all
from fastflow_utils.data.mvtec import Pictures
from fastflow_utils.data.pictures import survey
from fastflow_utils.data.readers import from_folders
from fastflow_utils.detector.backbones import Backbone
from fastflow_utils.detector.baselines.gaussian import Gaussian
from fastflow_utils.detector.detector import Detector
from fastflow_utils.detector.features import _digest_of, extract
from fastflow_utils.detector.prediction import predict
from fastflow_utils.errors import FastFlowError

COUNT = 6
EIGHT = 255  # of the scenes, which are what 8-bit pictures hold


def scene(number: int, size: tuple[int, int] = (64, 64)) -> np.ndarray:
    """Return a picture (64, 64) in [0, 1]; the first has white in it, the last is dark."""
    random = np.random.default_rng(number)
    rows, columns = np.mgrid[: size[0], : size[1]] / 64
    values = 0.5 + 0.3 * np.sin(9 * rows + number) * np.cos(7 * columns)
    values = (values + random.normal(0, 0.02, size)).clip(0, 1)
    if number == 0:
        values[:2, :2] = 1
    if number == COUNT - 1:
        values *= 0.2
    return np.round(values * EIGHT) / EIGHT


def written(folder: Path, kind: str, white: float, count: int = COUNT) -> list[Path]:
    """Write the scenes with a white of their own, as files of one kind."""
    folder.mkdir()
    files = []
    for number in range(count):
        values = scene(number) * white
        if kind == "floats":
            image = Image.fromarray(values.astype(np.float32))
        elif kind == "long integers":
            image = Image.fromarray(values.round().astype(np.int32))
        elif white == EIGHT:
            image = Image.fromarray(values.round().astype(np.uint8))
        else:
            image = Image.fromarray(values.round().astype(np.uint16))
        files.append(folder / f"{number}.{'png' if kind == 'integers' else 'tif'}")
        image.save(files[-1])
    return files


KINDS = {
    "10 bits": ("integers", 1023, 1023),
    "12 bits": ("integers", 4095, 4095),
    "14 bits": ("integers", 16383, 16383),
    "16 bits": ("integers", 65535, 65535),
    "12 bits in 32": ("long integers", 4095, 4095),
    "8 bits in 32": ("long integers", 255, 255),
    "8 bits in 16": ("integers in 16", 255, 255),
    "floats to 255": ("floats", 255.0, 255),
    "floats to 1": ("floats", 1.0, 1),
    "floats to 4095": ("floats", 4095.0, 4095),
}


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return Backbone(image_size=64)


@pytest.mark.parametrize("name", KINDS)
def test_the_same_scenes_have_the_same_features(name, backbone, tmp_path, monkeypatch):
    """12 bits in a 16-bit file were nearly black, floats were scaled file by file."""
    monkeypatch.setenv("FASTFLOW_CACHE", str(tmp_path / "cache"))
    kind, white, found = KINDS[name]
    files = written(tmp_path / "deep", kind, white)
    if name == "8 bits in 16":
        for file in files:
            Image.fromarray(np.asarray(Image.open(file)).astype(np.uint16)).save(file)
    usual = written(tmp_path / "usual", "integers", EIGHT)
    assert depth_of(usual).white == EIGHT_BITS
    depth = depth_of(files)
    assert depth.white == found and str(found) in depth.text
    for one, other in zip(files, usual, strict=True):
        difference = (load_image(one, 64, depth.white) - load_image(other, 64)).abs().max()
        assert difference < 0.6 / min(white, 1023) if white > 1 else difference < 1e-3
    deep, plain = (
        extract(backbone, Pictures(from_folders(folder), "train", 64, found_white))
        for folder, found_white in (
            (tmp_path / "deep", depth.white),
            (tmp_path / "usual", None),
        )
    )
    for one, other in zip(deep[:], plain[:], strict=True):
        assert (one - other).norm() < 0.02 * other.norm()


def test_one_dark_picture_is_not_scaled_by_itself(tmp_path):
    """The last scene has values to a fifth of white: by its own maximum it would be bright."""
    for kind in ("floats", "long integers"):
        files = written(tmp_path / kind, kind, 1023)
        dark = load_image(files[-1], white=depth_of(files).white)
        np.testing.assert_allclose(dark[0], scene(COUNT - 1), atol=1e-3)
        assert survey(files, depth_of(files).white)["remark"].iloc[-1].startswith("dark")


def test_what_is_read_with_a_white_is_found_readable_with_it(tmp_path):
    """A dark picture of 32 bits says nothing of its depth by itself: others say it."""
    files = written(tmp_path / "deep", "long integers", 1023)
    items, depth = from_folders(tmp_path / "deep").items, depth_of(files)
    assert [len(found) for found in look_at_all(items, "", white=depth.white)] == [0] * COUNT


def write_deep_colour(file: Path, values: np.ndarray) -> None:
    """Write values (H, W, 2 to 4) as a PNG of 16-bit colour, or alpha, which Pillow cannot."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        body = kind + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    height, width, bands = values.shape
    kind = {2: 4, 3: 2, 4: 6}[bands]
    head = struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values.round())
    parts = (chunk(b"IHDR", head), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b""))
    file.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))


def test_colour_of_16_bits_that_pillow_would_cut_is_refused(tmp_path):
    """Pillow keeps the upper 8 of its bits: of 12-bit colour, 4 are left."""
    for bits in (12, 16):
        write_deep_colour(tmp_path / f"{bits}.png", np.dstack([scene(1)] * 3) * (2**bits - 1))
    write_deep_colour(tmp_path / "dark.png", np.dstack([scene(1)] * 3) * 4095)
    assert depth_of([tmp_path / "16.png", tmp_path / "dark.png"]).white is None
    with pytest.raises(FastFlowError, match=r"12.png is 16-bit colour with values up to 3.* only"):
        depth_of([tmp_path / "12.png"])


def test_integers_and_floats_have_no_scale_in_common(tmp_path):
    files = written(tmp_path / "a", "integers", 4095) + written(tmp_path / "b", "floats", 1.0)
    with pytest.raises(FastFlowError, match="expected one kind, with one scale"):
        depth_of(files)


def test_8_bits_beside_deeper_ones_are_divided_by_255(tmp_path):
    files = written(tmp_path / "a", "integers", 4095) + written(tmp_path / "b", "integers", EIGHT)
    depth = depth_of(files)
    assert depth.white == 4095 and f"{COUNT} pictures of 8 bits beside them" in depth.text
    assert torch.equal(load_image(files[-1], white=4095), load_image(files[-1]))


def test_a_broken_file_says_nothing_of_the_depth(tmp_path):
    files = written(tmp_path / "a", "integers", 4095)
    files[3].write_bytes(b"no picture")
    assert depth_of(files).white == 4095


def test_the_white_is_the_first_that_no_value_exceeds(tmp_path):
    for high, white in {255: 255, 256: 1023, 1023: 1023, 1024: 4095, 16384: 65535}.items():
        Image.fromarray(np.full((8, 8), high, np.uint16)).save(tmp_path / "a.png")
        assert depth_of([tmp_path / "a.png"]).white == white
        assert as_image(np.full((8, 8), high, np.uint16), white=white).max() == high / white


def test_a_model_keeps_its_white_and_refuses_what_is_above(backbone, tmp_path, monkeypatch):
    monkeypatch.setenv("FASTFLOW_CACHE", str(tmp_path / "cache"))
    written(tmp_path / "deep", "integers", 4095)
    model = Gaussian(backbone).read_as(white=4095)
    model.fit(Pictures(from_folders(tmp_path / "deep"), "train", 64, 4095), folds=2)
    model.save(tmp_path / "model")
    loaded = Detector.load(tmp_path / "model")
    assert loaded.white == 4095
    new = written(tmp_path / "new", "integers", 4095, count=2)
    other = tmp_path / "new" / "other.png"
    Image.fromarray((scene(2) * 65535).astype(np.uint16)).save(other)
    table, problems = predict(loaded, [tmp_path / "new"], tmp_path / "out")
    assert list(table["decision"][:2]) != ["not judged"] * 2
    assert table["decision"].iloc[2] == "not judged" and len(table) == 3
    [problem] = problems
    assert "other.png" in problem and "expected at most 4095" in problem and "\n" not in problem
    as_learnt = model.predict(tmp_path / "deep" / "0.png")[1]
    np.testing.assert_allclose(table["score"][0], as_learnt, rtol=1e-5, atol=1e-5)
    assert new[0].read_bytes() == (tmp_path / "deep" / "0.png").read_bytes()


def test_features_with_and_without_a_white_are_not_confused(backbone, tmp_path, monkeypatch):
    """The cache knows by which white a file was read."""
    monkeypatch.setenv("FASTFLOW_CACHE", str(tmp_path / "cache"))
    written(tmp_path / "deep", "integers", 4095)
    found = from_folders(tmp_path / "deep")
    right, wrong = (
        extract(backbone, Pictures(found, "train", 64, white)) for white in (4095, None)
    )
    assert not torch.allclose(right[:][0], wrong[:][0], atol=0.1)


@pytest.mark.parametrize("kind", ["integers", "long integers", "floats", "colour", "array"])
def test_a_model_of_8_bits_refuses_what_has_more(kind, tmp_path):
    """12-bit pictures were divided by 65535, and nothing was said."""
    white = depth_of(written(tmp_path / "usual", "integers", EIGHT)).white
    picture: Path | np.ndarray = tmp_path / "deep.png"
    if kind == "colour":
        write_deep_colour(tmp_path / "deep.png", np.dstack([scene(1)] * 3) * 4095)
    elif kind == "array":
        picture = (scene(1) * 4095).astype(np.uint16)
    else:
        [picture] = written(tmp_path / "deep", kind, 1.0 if kind == "floats" else 4095, count=1)
    with pytest.raises(FastFlowError, match="more than 8 bits"):
        as_image(picture, white=white)
    as_image(picture)  # whoever asks for no white is not refused
    usual = tmp_path / "usual" / "1.png"
    assert torch.equal(load_image(usual, white=white), load_image(usual))
    assert torch.equal(
        as_image(scene(1).astype(np.float32), white=white)[0].double().round(decimals=3),
        torch.from_numpy(scene(1)).round(decimals=3),
    )


def test_the_features_of_8_bits_have_the_key_they_had(tmp_path):
    written(tmp_path / "usual", "integers", EIGHT)
    found = from_folders(tmp_path / "usual")
    keys = {_digest_of(Pictures(found, "train", 64, white)) for white in (None, EIGHT_BITS)}
    assert len(keys) == 1


def test_floats_of_another_white_are_not_black_in_silence(tmp_path):
    [file] = written(tmp_path / "floats", "floats", 1.0, count=1)
    with pytest.raises(FastFlowError, match="floats up to 1, and 4095 is white"):
        load_image(file, white=4095)
    assert load_image(file, white=1).max() > 0.9


@pytest.mark.parametrize("bands", [2, 4])
def test_colour_with_transparency_that_pillow_would_cut_is_refused(bands, tmp_path):
    """Its alpha is full, so that nothing looked dark."""
    seen = np.dstack([scene(1) * 4095] * (bands - 1) + [np.full((64, 64), 65535)])
    write_deep_colour(tmp_path / "a.png", seen)
    with pytest.raises(FastFlowError, match=r"a.png is 16-bit colour with values up to 3"):
        depth_of([tmp_path / "a.png"])
    seen[..., :-1] *= 16
    write_deep_colour(tmp_path / "a.png", seen)
    assert depth_of([tmp_path / "a.png"]).white is None
