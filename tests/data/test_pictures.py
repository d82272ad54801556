"""A plain folder of pictures, as people have them, becomes data that the package reads."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter

from fastflow_utils.data import pictures
from fastflow_utils.data.mvtec import Pictures
from fastflow_utils.data.pictures import example, survey
from fastflow_utils.data.readers import from_folders
from fastflow_utils.data.sample_set import CATEGORIES, render
from fastflow_utils.errors import FastFlowError


def picture(category: str, seed: int) -> Image.Image:
    return Image.fromarray(render(category, seed=seed)[0])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve good cables, of several sizes and formats."""
    place = tmp_path / "pictures"
    place.mkdir()
    for seed in range(12):
        size, kind = (256, 300, 200)[seed % 3], ("png", "jpg")[seed % 2]
        picture("cable", seed).resize((size, size)).save(place / f"{seed:02}.{kind}")
    return place


def test_a_sound_folder_gets_no_remark(folder: Path):
    table = survey(folder)
    assert list(table.columns) == [
        "width",
        "height",
        "brightness",
        "sharpness",
        "twin",
        "remark",
    ]
    assert len(table) == 12 and (table["remark"] == "").all() and (table["twin"] == "").all()
    assert table.loc["01.jpg", "width"] == table.loc["01.jpg", "height"] == 300
    assert table["brightness"].between(0, 1).all() and (table["sharpness"] > 0).all()


def test_what_is_not_like_the_others_is_named(folder: Path):
    dark = Image.fromarray((np.asarray(picture("cable", 20)) * 0.4).astype(np.uint8))
    dark.save(folder / "20.png")
    bright = Image.fromarray(
        (255 * (np.asarray(picture("cable", 24)) / 255) ** 0.5).astype(np.uint8)
    )
    bright.save(folder / "24.png")
    picture("cable", 21).resize((40, 40)).resize((256, 256)).save(folder / "21.png")
    picture("cable", 3).resize((180, 180)).save(folder / "22.jpg", quality=70)
    picture("cable", 23).crop((0, 30, 256, 226)).save(folder / "23.png")
    (folder / "25.jpg").write_bytes((folder / "01.jpg").read_bytes()[:2000])
    (folder / "notes.txt").write_text("not a picture")
    table = survey(folder)
    found = table[table["remark"] != ""]["remark"].to_dict()
    assert found == {
        "20.png": "dark",
        "21.png": "blurred",
        "22.jpg": "near duplicate",
        "23.png": "another shape",
        "24.png": "bright",
        "25.jpg": "unreadable",
    }
    assert table.loc["22.jpg", "twin"] == "03.jpg"
    assert len(table) == 18


def test_pictures_in_folders_below_are_looked_at_and_hidden_ones_are_not(folder: Path):
    below = folder / "tuesday" / "late"
    below.mkdir(parents=True)
    (folder / ".trash").mkdir()
    for seed, place in {30: below / "03.jpg", 31: folder / ".trash" / "31.png"}.items():
        picture("cable", seed).save(place)
    table = survey(folder)
    assert len(table) == 13 and table.index[-1] == "tuesday/late/03.jpg"
    files = [folder / "01.jpg", below / "03.jpg", folder / "02.png"]
    assert list(survey(files).index) == ["01.jpg", "tuesday/late/03.jpg", "02.png"]
    assert survey(files).loc["01.jpg", "sharpness"] == table.loc["01.jpg", "sharpness"]


def test_a_file_that_cannot_be_read_changes_no_other_row(folder: Path):
    before = survey(folder)
    (folder / "00-.png").write_bytes(b"no")  # the first one
    after = survey(folder)
    assert list(after.columns) == list(before.columns) and after.index[0] == "00-.png"
    assert after.loc["00-.png", "remark"] == "unreadable"
    assert after.drop(index="00-.png").equals(before)


def noisy(random: np.random.Generator, side: int, cell: int = 6) -> Image.Image:
    """Cells of random grey, with a camera's noise: sharp to the pixel."""
    cells = random.integers(40, 200, (side // cell, side // cell))
    pixels = np.kron(cells, np.ones((cell, cell))) + random.normal(0, 3, (side, side))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def test_a_blur_of_two_pixels_is_found_at_full_resolution(tmp_path: Path):
    """At 256 px nothing is left of it: there the cells are smaller than a pixel."""
    random = np.random.default_rng(0)
    for number in range(6):
        shown = noisy(random, 1800)
        if number == 4:
            shown = shown.filter(ImageFilter.GaussianBlur(2))
        shown.save(tmp_path / f"{number}.png", compress_level=1)
    remarks = survey(tmp_path)["remark"]
    assert remarks[remarks != ""].to_dict() == {"4.png": "blurred"}


@pytest.mark.parametrize("side", [(600, 150), (600, 480)])
def test_no_picture_is_blurred_only_because_of_its_size(tmp_path: Path, side: tuple[int, int]):
    """The same scenes, reduced: noise is averaged away, and edges are steeper."""
    random = np.random.default_rng(0)
    for number in range(12):
        large, small = (side[0], side[1])
        shown = noisy(random, large, cell=30)
        if number % 3 == 0:
            shown = shown.resize((small, small), Image.Resampling.LANCZOS)
        shown.save(tmp_path / f"{number:02}.png")
    assert not survey(tmp_path)["remark"].str.contains("blurred").any()


def test_another_size_is_a_remark_of_its_own(folder: Path):
    for seed, side in {40: 500, 41: 130, 42: 370, 43: 180}.items():  # the others have 200 to 300
        picture("cable", seed).resize((side, side)).save(folder / f"{seed}.png")
    remarks = survey(folder)["remark"]
    sizes = remarks[remarks.str.contains("another size")]
    assert list(sizes.index) == ["40.png", "41.png"] and not remarks.str.contains("shape").any()


def test_sharpness_does_not_depend_on_how_many_rows_are_in_work(tmp_path: Path, monkeypatch):
    noisy(np.random.default_rng(0), 90).save(tmp_path / "one.png")
    whole = survey(tmp_path)["sharpness"].item()
    for rows in (1, 7, 45, 89):
        monkeypatch.setattr(pictures, "ROWS", rows)
        assert survey(tmp_path)["sharpness"].item() == pytest.approx(whole, rel=1e-5)


def test_twins_are_found_a_part_at_a_time(folder: Path, monkeypatch):
    picture("cable", 3).resize((180, 180)).save(folder / "22.jpg", quality=70)
    whole = survey(folder)["twin"]
    assert whole["22.jpg"] == "03.jpg"
    monkeypatch.setattr(pictures, "ROWS", 5)
    assert survey(folder)["twin"].equals(whole)


def test_sixteen_bits_are_read_as_the_white_says(tmp_path: Path):
    grey = np.asarray(picture("grid", 0).convert("L")).astype(np.uint16)
    Image.fromarray(grey).save(tmp_path / "8bit.png")
    Image.fromarray((grey * 16).astype(np.uint16)).save(tmp_path / "12bit.png")
    dim, right = (survey([tmp_path / "12bit.png"], white) for white in (None, 4095))
    assert right["brightness"].item() == pytest.approx(grey.mean() / 255, rel=0.01)
    assert dim["brightness"].item() < 0.1 * right["brightness"].item()
    assert dim["sharpness"].item() == pytest.approx(right["sharpness"].item(), rel=0.01)


MEMORY = """
import re, sys
from pathlib import Path
from fastflow_utils.data.pictures import survey

def peak():  # of this process alone, which ru_maxrss is not
    return 1024 * int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

survey([sys.argv[1]])
before = peak()
survey([sys.argv[2]])
print(peak() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells")
def test_a_large_picture_takes_little_more_than_its_own_bytes(tmp_path: Path):
    Image.new("RGB", (64, 64), "grey").save(tmp_path / "small.png")
    Image.new("RGB", (6000, 5000), "grey").save(tmp_path / "large.jpg")
    files = [str(tmp_path / name) for name in ("small.png", "large.jpg")]
    found = subprocess.run(
        [sys.executable, "-c", MEMORY, *files], capture_output=True, text=True, check=True
    )
    assert 60e6 < int(found.stdout) < 300e6, "90 MB as bytes, 360 MB as floats"


@pytest.mark.parametrize("category", CATEGORIES)
def test_twins_are_told_from_parts_that_look_alike(category: str, tmp_path: Path):
    for seed in range(12):
        picture(category, seed).save(tmp_path / f"{seed:02}.png")
    picture(category, 3).resize((200, 200)).save(tmp_path / "again.jpg", quality=80)
    twins = survey(tmp_path)["twin"]
    assert twins[twins != ""].to_dict() == {"again.jpg": "03.png"}


def test_pictures_that_are_all_the_same_are_all_twins(tmp_path: Path):
    for number in range(4):
        picture("cable", 0).save(tmp_path / f"{number}.png")
    assert list(survey(tmp_path)["twin"]) == ["", "0.png", "0.png", "0.png"]


def test_two_pictures_say_nothing_of_each_other(tmp_path: Path):
    for number in range(2):
        picture("cable", number).save(tmp_path / f"{number}.png")
    assert (survey(tmp_path)["remark"] == "").all()


def test_nothing_to_look_at(tmp_path: Path):
    with pytest.raises(FastFlowError, match=r"no file or folder '.*missing'"):
        survey(tmp_path / "missing")
    with pytest.raises(FastFlowError, match="no images in"):
        survey(tmp_path)
    with pytest.raises(FastFlowError, match="at least one file"):
        survey([])
    (tmp_path / "broken.png").write_bytes(b"no")
    with pytest.raises(FastFlowError, match="can be read"):
        survey(tmp_path)


def test_held_out_pictures_are_in_one_split_and_none_is_lost(folder: Path):
    listed = from_folders(folder).without(["03.jpg"]).holding_out(0.25)
    train, test = (Pictures(listed, split, 64) for split in ("train", "test"))
    names = [path.name for path in [*train.paths, *test.paths]]
    assert (len(train), len(test)) == (8, 3)
    assert sorted(names) == sorted({path.name for path in folder.iterdir()} - {"03.jpg"})
    assert set(test.labels) == {0} and torch.isfinite(train[0].image).all()


def test_the_survey_and_the_listing_name_pictures_alike(folder: Path):
    (folder / "late").mkdir()
    picture("cable", 30).save(folder / "late" / "03.jpg")
    listed = from_folders(folder)
    assert {listed.name(item.path) for item in listed.items} == set(survey(folder).index)
    kept = listed.without(["03.jpg"])
    assert [i.path.parent.name for i in kept.items if i.path.name == "03.jpg"] == ["late"]


def test_the_seed_decides_which_are_held_out(folder: Path):
    def held_out(seed: int) -> list[str]:
        return [item.path.name for item in from_folders(folder).holding_out(0.3, seed).of("test")]

    assert held_out(0) == held_out(0) != held_out(1)


@pytest.mark.parametrize(("share", "expected"), [(0.01, 1), (0.99, 10)])
def test_both_splits_get_something(folder: Path, share: float, expected: int):
    assert len(from_folders(folder).holding_out(share).of("test")) == expected


def test_holding_out_refuses(folder: Path):
    listed = from_folders(folder)
    names = [path.name for path in folder.iterdir()]
    with pytest.raises(FastFlowError, match="at least three"):
        listed.without(names[:10]).holding_out(0.5)
    with pytest.raises(FastFlowError, match=r"no picture 'x.png'"):
        listed.without(["x.png"])
    for share in (0.0, 1.0):
        with pytest.raises(FastFlowError, match="share"):
            listed.holding_out(share)
    with pytest.raises(FastFlowError, match="seed -1"):
        listed.holding_out(0.5, -1)


@pytest.mark.parametrize("category", ["cable", "grid"])  # grid: a monochrome camera
def test_the_example_holds_what_the_survey_is_to_find(tmp_path: Path, category: str):
    good, new = example(tmp_path, category, count=24)
    table = survey(good)
    assert table.loc[table["remark"] != "", "remark"].to_dict() == {
        "IMG_0900.jpg": "near duplicate",
        "IMG_0901.jpg": "dark",
        "IMG_0902.jpg": "blurred",
        "IMG_0903.jpg": "unreadable",
    }
    assert table["width"].nunique() == 5
    counts = {folder.name: len(list(folder.iterdir())) for folder in new.iterdir()}
    assert counts.pop("good") == 12 and set(counts.values()) == {4} and len(counts) == 3


def test_the_seed_fixes_the_example(tmp_path: Path):
    def first(name: str, seed: int) -> bytes:
        good, _ = example(tmp_path / name, count=3, seed=seed)
        return (good / "IMG_0000.png").read_bytes()

    assert first("a", 1) == first("b", 1) != first("c", 2)


@pytest.mark.parametrize("share", [0.5, 1])
def test_twins_are_found_where_most_pictures_have_one(folder: Path, share: float):
    """The limit was the distance of the twins themselves."""
    copied = sorted(folder.iterdir())[: round(12 * share)]
    for file in copied:
        Image.open(file).save(folder / f"{file.stem}-again.jpg", quality=85)
    twins = survey(folder)["twin"]
    # "00-again.jpg" comes before "00.png": either may be the first of a pair.
    pairs = {frozenset((str(name)[:2], twin[:2])) for name, twin in twins.items() if twin}
    assert pairs == {frozenset([file.stem]) for file in copied}
    assert (twins != "").sum() == len(copied)


@pytest.mark.parametrize("copies", [2, 3, 5])
def test_several_copies_of_every_picture_are_found(folder: Path, copies: int):
    for file in sorted(folder.iterdir()):
        for quality in range(copies):
            Image.open(file).save(folder / f"{file.stem}-{quality}.jpg", quality=70 + quality)
    assert (survey(folder)["twin"] == "").sum() == 12


def test_two_pictures_that_are_the_same_are_twins(tmp_path: Path):
    for name in ("a.png", "b.bmp"):
        picture("cable", 0).save(tmp_path / name)
    assert survey(tmp_path)["twin"].to_dict() == {"a.png": "", "b.bmp": "a.png"}


@pytest.mark.parametrize("drift", [0, 0.03])
def test_pictures_of_a_fixed_camera_that_differ_by_noise_are_no_twins(tmp_path: Path, drift):
    """All are as close as JPEG leaves a copy, and none is much closer than the others."""
    random = np.random.default_rng(0)
    scene = np.asarray(picture("cable", 0)).astype(float)
    for number in range(12):
        seen = scene * (0.6 + drift * number) + random.normal(0, 6, scene.shape)
        Image.fromarray(seen.clip(0, 255).astype(np.uint8)).save(tmp_path / f"{number:02}.png")
    assert (survey(tmp_path)["twin"] == "").all()


def test_why_nothing_can_be_read_is_told(tmp_path: Path):
    Image.fromarray(np.full((64, 64), -3, np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(FastFlowError, match=r"can be read; the first, a.tif: .*values from -3"):
        survey(tmp_path)
