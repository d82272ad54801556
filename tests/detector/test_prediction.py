"""From files to scores: every picture gets its row, whatever its name, or is told."""

import csv
import io
import os
import sys
import unicodedata
from pathlib import Path
from urllib.parse import unquote_to_bytes

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from fastflow_utils import cli
from fastflow_utils.detector.backbones import Backbone
from fastflow_utils.detector.detector import Detector
from fastflow_utils.detector.flows import FlowOptions
from fastflow_utils.detector.model import FastFlow
from fastflow_utils.detector.prediction import predict
from fastflow_utils.errors import FastFlowError


@pytest.fixture(scope="module")
def model() -> FastFlow:
    model = FastFlow(Backbone("efficientnet_lite0", image_size=64), FlowOptions(steps=1))
    model.image_threshold.fill_(0.99)
    return model.eval()


def picture(path: Path, seed: int = 0) -> Path:
    """Save a picture, or skip where the file system has no such names."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (40, 48, 3), np.uint8)
    try:
        with path.open("wb") as file:
            Image.fromarray(pixels).save(file, "png")
    except (OSError, UnicodeError) as error:
        pytest.skip(f"the file system refuses such names: {error}")
    return path


def rows_of(output: Path) -> list[dict[str, str]]:
    """Read ``scores.csv`` as anybody would: strict UTF-8. Each row has its heat map."""
    with (output / "scores.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    heat_maps = [row["heat_map"] for row in rows]
    assert sorted(heat_maps) == sorted(path.name for path in (output / "heat_maps").iterdir())
    same = {unicodedata.normalize("NFC", name).casefold() for name in heat_maps}
    assert len(same) == len(rows), "macOS and Windows take some names as equal"
    return rows


def path_of(text: str) -> Path:
    """The path that a row is of, as the docstring of ``predict`` says."""
    if not text.startswith("file:///"):
        return Path(text)
    return Path(os.fsdecode(unquote_to_bytes(text.removeprefix("file://"))))


# The model's own door ---------------------------------------------------------------------------


def test_a_picture_has_one_score_however_it_is_given(model, tmp_path):
    path = picture(tmp_path / "a.png")
    pixels = np.asarray(Image.open(path))
    anomaly_map, expected = model.predict(path)
    assert anomaly_map.shape == (1, 1, 64, 64)
    tensor = torch.from_numpy(pixels.copy()).permute(2, 0, 1)
    for given in (str(path), [path], Image.open(path), pixels, pixels[None], tensor, tensor[None]):
        assert torch.equal(model.predict(given)[1], expected)
    _, close = model.predict(tensor / 255)  # floats are not rounded when resized
    torch.testing.assert_close(close, expected, rtol=5e-3, atol=0)


def test_another_size_is_resized_not_taken_as_it_is(model):
    batch = torch.rand(2, 3, 80, 96)
    anomaly_map, score = model.predict(batch)
    assert anomaly_map.shape == (2, 1, 64, 64) and score.shape == (2,)


@pytest.mark.parametrize("wrong", [torch.nan, 255.0, -1.0])
def test_wrong_values_have_no_score(model, wrong):
    with pytest.raises(FastFlowError, match=r"\[0, 1\]"):
        model.predict(torch.full((1, 3, 64, 64), wrong))


def broken(model: FastFlow) -> FastFlow:
    copy = FastFlow(model.backbone, FlowOptions(steps=1)).eval()
    copy.level_scale.fill_(torch.nan)
    copy.image_threshold.fill_(0.5)
    return copy


def test_a_score_that_is_not_finite_is_not_good(model):
    with pytest.raises(FastFlowError, match=r"nan.*train it again"):
        broken(model).predict(torch.rand(2, 3, 64, 64))


# Files ------------------------------------------------------------------------------------------


def test_each_row_says_path_score_decision_and_heat_map(model, tmp_path):
    files = [picture(tmp_path / "in" / name, seed) for seed, name in enumerate(["a.png", "b.png"])]
    picture(tmp_path / "in/deep er/a.png", 3)
    table, problems = predict(model, [tmp_path / "in", files[0]], tmp_path / "out")
    assert problems == []
    assert list(table["heat_map"]) == ["a.png", "b.png", "deep er_a.png", "a-2.png"]
    pd.testing.assert_frame_equal(table, pd.read_csv(tmp_path / "out/scores.csv"))
    assert [row["path"] for row in rows_of(tmp_path / "out")] == list(table["path"])
    assert set(table["decision"]) <= {"good", "anomalous"}
    assert float(model.predict(tmp_path / "in/a.png")[1]) == table["score"][0]


def test_what_has_no_score_is_told_and_the_others_are_done(model, tmp_path):
    first, last = picture(tmp_path / "a.png"), picture(tmp_path / "c.png")
    (tmp_path / "b.png").write_bytes(b"\x89PNG nothing")
    table, problems = predict(model, [tmp_path], tmp_path / "out")
    assert list(table["path"]) == [str(first), str(last)]
    assert len(problems) == 1 and "b.png" in problems[0]
    table, problems = predict(broken(model), [first, last], tmp_path / "out")
    assert len(table) == 0 and len(pd.read_csv(tmp_path / "out/scores.csv")) == 0
    told = zip((first, last), problems, strict=True)
    assert all(str(file) in problem and "nan" in problem for file, problem in told)


def test_ctrl_c_keeps_the_rows_so_far(model, tmp_path, monkeypatch):
    for number in range(4):
        picture(tmp_path / "in" / f"{number}.png", number)
    judge, seen = Detector.predict, []

    def press(self: Detector, given: object) -> object:
        seen.append(len((tmp_path / "out/scores.csv").read_text().splitlines()))
        if len(seen) == 4:
            raise KeyboardInterrupt
        return judge(self, given)

    monkeypatch.setattr(Detector, "predict", press)
    with pytest.raises(KeyboardInterrupt):
        predict(model, [tmp_path / "in"], tmp_path / "out")
    assert seen[1:] == [2, 3, 4], "each row is in the file before the next picture is read"
    assert len(rows_of(tmp_path / "out")) == 3


NAMES = {
    "not UTF-8": os.fsdecode(b"caf\xe9.png"),
    "not UTF-8, another": os.fsdecode(b"caf\xe8.png"),
    "other letters": "größe 検査 образец.png",
    "an emoji": "\N{TELESCOPE}.png",
    "a line end": "two\nlines.png",
    "a carriage return": "two\rlines.png",
    "a comma and a quote": 'a,"b".png',
    "a per cent sign": "100%E9.png",
    "a long name": "x" * 251 + ".png",
    "a long name of long letters": "検" * 83 + ".png",
}


@pytest.mark.parametrize("kind", NAMES)
def test_every_name_survives(model, tmp_path, kind):
    file = picture(tmp_path / "in" / NAMES[kind])
    table, problems = predict(model, [tmp_path / "in"], tmp_path / "out")
    [row] = rows_of(tmp_path / "out")
    assert problems == []
    assert path_of(row["path"]) == file
    assert table["path"][0] == row["path"]
    if kind in ("other letters", "an emoji", "a comma and a quote", "a per cent sign"):
        assert row["path"] == str(file), "a name that is a line of text stays as it is"
    assert list(pd.read_csv(tmp_path / "out/scores.csv")["path"]) == [row["path"]]


def test_names_that_are_odd_in_the_same_way_stay_apart(model, tmp_path):
    odd = [os.fsdecode(b"caf\xe9.png"), os.fsdecode(b"caf\xe8.png"), "caf.png"]
    files = [picture(tmp_path / "in" / name, seed) for seed, name in enumerate(odd)]
    predict(model, [tmp_path / "in"], tmp_path / "out")
    found = {path_of(row["path"]): row["heat_map"] for row in rows_of(tmp_path / "out")}
    assert found.keys() == set(files)
    assert found[files[2]] == "caf.png"


def test_joined_names_may_be_longer_than_a_file_name(model, tmp_path):
    folder = tmp_path / "in" / ("a" * 120) / ("b" * 120)
    files = [picture(folder / f"{'c' * 60}{number}.png", number) for number in range(2)]
    predict(model, [tmp_path / "in"], tmp_path / "out")
    rows = rows_of(tmp_path / "out")
    assert [Path(row["path"]) for row in rows] == files
    assert all(len(os.fsencode(row["heat_map"])) <= 255 for row in rows)


def test_names_that_some_systems_take_as_one_have_a_heat_map_each(model, tmp_path):
    names = ["\u00e9.png", "e\u0301.png", "\u00c9.png"]  # é in two spellings, and É
    files = [picture(tmp_path / str(n) / name, n) for n, name in enumerate(names)]
    predict(model, files, tmp_path / "out")
    assert [Path(row["path"]) for row in rows_of(tmp_path / "out")] == files


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "utf-8"])
def test_no_terminal_is_too_old_for_a_name(model, tmp_path, monkeypatch, encoding):
    names = ["検査.png", os.fsdecode(b"caf\xe9.png"), "größe.png"]
    files = [picture(tmp_path / "in" / name) for name in names]
    broken = tmp_path / "in" / os.fsdecode("検".encode() + b"\xe9.png")
    broken.write_bytes(b"nothing")
    model.save(tmp_path / "model")
    command = ["fastflow", "predict", tmp_path / "model", *files, broken, "--device", "cpu"]
    monkeypatch.setattr(sys, "argv", [*map(str, command), "--output", str(tmp_path / "out")])
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding) for _ in range(2))
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 2
    assert b"3 images scored" in out.buffer.getvalue()
    assert b"error: cannot read" in err.buffer.getvalue()
    assert {path_of(row["path"]) for row in rows_of(tmp_path / "out")} == set(files)


def test_neither_its_own_heat_maps_nor_hidden_folders_are_pictures(model, tmp_path):
    Image.new("RGB", (64, 64), "red").save(tmp_path / "a.png")
    (tmp_path / ".ipynb_checkpoints").mkdir()
    Image.new("RGB", (64, 64)).save(tmp_path / ".ipynb_checkpoints" / "a-checkpoint.png")
    for _ in range(2):
        table, _ = predict(model, [tmp_path], tmp_path)
        assert [Path(path).name for path in table["path"]] == ["a.png"]
    with pytest.raises(FastFlowError, match="no images"):
        predict(model, [tmp_path / "heat_maps"], tmp_path)
