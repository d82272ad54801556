"""A plain folder of pictures, as people have them, becomes data that the package reads."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fastflow_utils.data.mvtec import MVTecAD
from fastflow_utils.data.pictures import arrange, example, survey
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
    with pytest.raises(FastFlowError, match="no folder"):
        survey(tmp_path / "missing")
    (tmp_path / "broken.png").write_bytes(b"no")
    with pytest.raises(FastFlowError, match="can be read"):
        survey(tmp_path)


def test_arranged_pictures_are_the_same_bytes_and_in_one_split(folder: Path, tmp_path: Path):
    root = arrange(folder, tmp_path / "data", "cables", hold_out=0.25, leave_out={"03.jpg"})
    train, test = (MVTecAD(root, "cables", split, 64) for split in ("train", "test"))
    names = [path.name for path in [*train.paths, *test.paths]]
    assert (len(train), len(test)) == (8, 3)
    assert sorted(names) == sorted({path.name for path in folder.iterdir()} - {"03.jpg"})
    for path in [*train.paths, *test.paths]:
        assert path.read_bytes() == (folder / path.name).read_bytes()
    assert set(test.labels) == {0} and torch.isfinite(train[0].image).all()


def test_the_seed_decides_which_are_held_out(folder: Path, tmp_path: Path):
    def held_out(name: str, seed: int) -> list[str]:
        root = arrange(folder, tmp_path, name, seed=seed)
        return [path.name for path in MVTecAD(root, name, "test").paths]

    assert held_out("a", 0) == held_out("b", 0) != held_out("c", 1)


@pytest.mark.parametrize(("share", "expected"), [(0.01, 1), (0.99, 10)])
def test_both_splits_get_something(folder: Path, tmp_path: Path, share: float, expected: int):
    root = arrange(folder, tmp_path, hold_out=share)
    assert len(MVTecAD(root, "mine", "test")) == expected


def test_arranging_refuses(folder: Path, tmp_path: Path):
    with pytest.raises(FastFlowError, match="at least three"):
        arrange(folder, tmp_path, leave_out=[path.name for path in folder.iterdir()][:10])
    with pytest.raises(FastFlowError, match=r"no picture 'x.png'"):
        arrange(folder, tmp_path, leave_out=["x.png"])
    for share in (0.0, 1.0):
        with pytest.raises(FastFlowError, match="hold_out"):
            arrange(folder, tmp_path, hold_out=share)
    with pytest.raises(FastFlowError, match="seed -1"):
        arrange(folder, tmp_path, seed=-1)
    arrange(folder, tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(FastFlowError, match="exists already"):
        arrange(folder, tmp_path)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("category", ["cable", "grid"])  # grid: a monochrome camera
def test_the_example_holds_what_the_survey_is_to_find(tmp_path: Path, category: str):
    pictures, new = example(tmp_path, category, count=24)
    table = survey(pictures)
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
        pictures, _ = example(tmp_path / name, count=3, seed=seed)
        return (pictures / "IMG_0000.png").read_bytes()

    assert first("a", 1) == first("b", 1) != first("c", 2)
