"""From files to scores: every picture gets its row, whatever its name, or is told."""

import csv
import io
import json
import os
import sys
import unicodedata
import warnings
from contextlib import suppress
from pathlib import Path
from urllib.parse import unquote_to_bytes

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from fastflow_utils import cli
from fastflow_utils.data.finding import find_images
from fastflow_utils.detector import prediction
from fastflow_utils.detector.backbones import Backbone
from fastflow_utils.detector.detector import Detector
from fastflow_utils.detector.flows import FlowOptions
from fastflow_utils.detector.model import FastFlow
from fastflow_utils.detector.prediction import predict
from fastflow_utils.errors import FastFlowError


@pytest.fixture(scope="module")
def model() -> FastFlow:
    model = FastFlow(Backbone("efficientnet_lite0", image_size=64), FlowOptions(steps=1))
    noise = torch.rand(8, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    model.calibrate([model.backbone(noise)])
    model.pixel_threshold.fill_(0.25)
    return model


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
    heat_maps = [row["heat_map"] for row in rows if row["decision"] != "not judged"]
    assert sorted(heat_maps) == sorted(path.name for path in (output / "heat_maps").iterdir())
    same = {unicodedata.normalize("NFC", name).casefold() for name in heat_maps}
    assert len(same) == len(heat_maps), "macOS and Windows take some names as equal"
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
    assert list(table["heat_map"]) == ["a.png", "b.png", "deep er_a.png"], "each picture once"
    pd.testing.assert_frame_equal(table, pd.read_csv(tmp_path / "out/scores.csv"))
    assert [row["path"] for row in rows_of(tmp_path / "out")] == list(table["path"])
    assert set(table["decision"]) <= {"good", "anomalous"}
    assert set(table["threshold"]) == {float(model.image_threshold)}
    assert float(model.predict(tmp_path / "in/a.png")[1]) == table["score"][0]


def test_what_has_no_score_is_told_and_never_good(model, tmp_path):
    first, last = picture(tmp_path / "a.png"), picture(tmp_path / "c.png")
    (tmp_path / "b.png").write_bytes(b"\x89PNG nothing")
    (tmp_path / "d.png").symlink_to(tmp_path / "nowhere.png")
    table, problems = predict(model, [tmp_path], tmp_path / "out")
    assert [Path(path).name for path in table["path"]] == ["a.png", "b.png", "c.png", "d.png"]
    assert list(table["decision"] == "not judged") == [False, True, False, True]
    assert list(table["score"].isna()) == list(table["heat_map"].isna())
    assert list(table["score"].isna()) == [False, True, False, True]
    pd.testing.assert_frame_equal(table, pd.read_csv(tmp_path / "out/scores.csv"))
    assert [name in problem for name, problem in zip("bd", problems, strict=True)] == [True] * 2
    coco = json.loads((tmp_path / "out/regions.json").read_text())
    assert [image["file_name"] for image in coco["images"]] == [str(first), str(last)]
    table, problems = predict(broken(model), [first, last], tmp_path / "broken")
    assert list(pd.read_csv(tmp_path / "broken/scores.csv")["decision"]) == ["not judged"] * 2
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


# What is done is not done again -----------------------------------------------------------------


def contents(folder: Path) -> dict[Path, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder): path.read_bytes() for path in files}


@pytest.fixture
def judged(monkeypatch) -> list[object]:
    """What the detector is asked for from here on."""
    ask, asked = Detector.predict, []

    def predict(self: Detector, given: object) -> object:
        asked.append(given)
        return ask(self, given)

    monkeypatch.setattr(Detector, "predict", predict)
    return asked


def test_an_interrupted_call_is_finished_as_if_it_had_been_one(model, tmp_path, monkeypatch):
    for number in range(4):
        picture(tmp_path / "in" / f"{number}.png", number)
    picture(tmp_path / "in/1/0.png")
    (tmp_path / "in/2.png").write_bytes(b"nothing")
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    predict(model, [tmp_path / "in"], whole, save=["npy", "mask"])
    judge, left = Detector.predict, [0, 2, 1, 99]

    def press(self: Detector, given: object) -> object:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return judge(self, given)

    monkeypatch.setattr(Detector, "predict", press)
    while len(left) > 1:
        left.pop(0)
        with suppress(KeyboardInterrupt):
            predict(model, [tmp_path / "in"], parts, save=["npy", "mask"])
    assert left == [99 - 1], "four pictures in all: two, one, and one more"
    assert contents(parts) == contents(whole)
    assert len(pd.read_csv(parts / "regions.csv")) > 0


def test_a_kill_in_the_middle_of_a_file_costs_that_picture(model, tmp_path, judged):
    for number in range(3):
        picture(tmp_path / "in" / f"{number}.png", number)
    output = tmp_path / "out"
    predict(model, [tmp_path / "in"], output)
    before = contents(output)
    for name, size in {"scores.csv": 99, "regions.csv": 77, "records/1.json": 44}.items():
        with (output / name).open("r+b") as file:
            file.truncate(size)
    (output / "records/2.part").write_text("{")
    (output / "regions.json").unlink()
    judged.clear()
    predict(model, [tmp_path / "in"], output)
    assert len(judged) == 1
    (output / "records/2.part").unlink()
    assert contents(output) == before


def test_a_picture_that_changed_is_judged_anew(model, tmp_path, judged):
    files = [picture(tmp_path / "in" / f"{number}.png", number) for number in range(3)]
    predict(model, [tmp_path / "in"], tmp_path / "out", save=["npy"])
    before, time = files[1].stat().st_size, files[1].stat().st_mtime_ns
    picture(files[1], 9)
    os.utime(files[1], ns=(time, time))
    assert files[1].stat().st_size == pytest.approx(before, rel=0.01)
    judged.clear()
    table, _ = predict(model, [tmp_path / "in"], tmp_path / "out")
    assert len(judged) == 1
    assert table["score"][1] == float(model.predict(files[1])[1])
    maps = sorted(path.name for path in (tmp_path / "out/maps").iterdir())
    assert maps == ["0.npy", "2.npy"], "a map of what the picture was before would be wrong"


def test_pictures_may_come_and_go(model, tmp_path, judged):
    first = [picture(tmp_path / "a" / name, 1) for name in ("x.png", "y.png")]
    other = picture(tmp_path / "b/x.png", 2)
    output = tmp_path / "out"
    predict(model, [tmp_path / "a"], output)
    with pytest.warns(UserWarning, match="not asked for now: 2;"):
        table, _ = predict(model, [tmp_path / "b"], output)
    assert (list(table["path"]), list(table["heat_map"])) == ([str(other)], ["x-2.png"])
    picture(tmp_path / "a/w.png", 3)
    judged.clear()
    table, _ = predict(model, [tmp_path / "b", tmp_path / "a"], output)
    assert [Path(path).name for path in table["path"]] == ["x.png", "w.png", "x.png", "y.png"]
    assert len(judged) == 1 and str(first[0]) == table["path"][2]
    assert {row["heat_map"] for row in rows_of(output)} == {"x-2.png", "w.png", "x.png", "y.png"}


def test_another_model_leaves_all_as_it_is_until_told_to_start_anew(model, tmp_path):
    for name in "abc":
        picture(tmp_path / "in" / f"{name}.png")
    output = tmp_path / "out"
    predict(model, [tmp_path / "in"], output, save=["npy"])
    other = FastFlow(model.backbone, FlowOptions(steps=1), seed=1).eval()
    other.load_state_dict(model.state_dict())
    predict(other, [tmp_path / "in"], output)
    other.pixel_threshold.fill_(0.7)
    before = contents(output)
    (tmp_path / "in/c.png").unlink()
    with pytest.raises(FastFlowError, match=r"another model has judged.*--again"):
        predict(other, [tmp_path / "in"], output)
    assert contents(output) == before
    predict(other, [tmp_path / "in"], output, again=True)
    predict(other, [tmp_path / "in"], tmp_path / "fresh")
    assert contents(output) == contents(tmp_path / "fresh")


def test_another_version_of_the_code_goes_on_with_nothing(model, tmp_path, monkeypatch):
    file = picture(tmp_path / "a.png")
    predict(model, file, tmp_path / "out")
    monkeypatch.setattr(prediction, "code_digest", lambda *_: "another")
    with pytest.raises(FastFlowError, match="another version has judged"):
        predict(model, file, tmp_path / "out")


def test_a_threshold_moves_decisions_and_only_decisions(model, tmp_path, judged):
    for number in range(5):
        picture(tmp_path / "in" / f"{number}.png", number)
    output = tmp_path / "out"
    before, _ = predict(model, [tmp_path / "in"], output)
    others = {name: data for name, data in contents(output).items() if name.name != "scores.csv"}
    judged.clear()
    limit = before["score"].median()
    after, _ = predict(model, [tmp_path / "in"], output, threshold=limit)
    assert not judged
    assert list(after["decision"] == "anomalous") == list(before["score"] >= limit)
    assert 0 < (after["decision"] == "anomalous").sum() < 5
    assert set(after["threshold"]) == {limit}
    same = ["path", "score", "heat_map"]
    pd.testing.assert_frame_equal(after[same], before[same])
    assert {n: data for n, data in contents(output).items() if n.name != "scores.csv"} == others


@pytest.mark.parametrize("wrong", [{"threshold": float("nan")}, {"save": ["png"]}])
def test_wrong_options_are_told_before_anything_is_written(model, tmp_path, wrong):
    picture(tmp_path / "in/a.png")
    with pytest.raises(FastFlowError, match="expected"):
        predict(model, [tmp_path / "in"], tmp_path / "out", **wrong)
    assert not (tmp_path / "out").exists()


# Maps, masks, regions ---------------------------------------------------------------------------


def test_what_is_saved_is_the_map(model, tmp_path, judged):
    file = picture(tmp_path / "in/a.b.png")
    output = tmp_path / "out"
    predict(model, [file], output)
    judged.clear()
    for save in (["npy"], ["tiff", "mask"], ["npy", "mask"]):
        predict(model, file, output, save=save)
    assert len(judged) == 2, "what is there already is kept, and not saved again"
    anomaly_map, _ = model.predict(file)
    own = np.load(output / "maps/a.b.npy")
    assert own.dtype == np.float32
    np.testing.assert_array_equal(own, anomaly_map[0, 0])
    with Image.open(output / "maps/a.b.tiff") as opened:
        large = np.array(opened)
    assert large.dtype == np.float32
    enlarged = F.interpolate(anomaly_map, large.shape, mode="bilinear")[0, 0]
    assert large.shape == (40, 48)
    np.testing.assert_allclose(large, enlarged, rtol=0, atol=1e-6)
    with Image.open(output / "masks/a.b.png") as opened:
        mask = np.array(opened)
    assert mask.dtype == np.uint8
    np.testing.assert_array_equal(mask, np.uint8(255) * (large >= 0.25))
    regions = pd.read_csv(output / "regions.csv")
    share = (anomaly_map >= 0.25).float().mean()
    assert regions["area"].sum() == pytest.approx(float(share) * 40 * 48, rel=1e-4)
    assert 0 < share < 1 and regions["score"].max() == float(anomaly_map.max())
    assert list(regions["region"]) == list(range(1, len(regions) + 1))
    assert set(regions["path"]) == {str(file)}


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
    found = {path_of(row["path"]): row["decision"] for row in rows_of(tmp_path / "out")}
    assert found.keys() == {*files, broken} and found[broken] == "not judged"


# Which files are pictures -----------------------------------------------------------------------


def names_of(*inputs: Path) -> list[str]:
    return [str(relative) for _, relative in find_images(inputs).pictures]


def test_what_it_has_made_is_no_picture_wherever_it_lies(model, tmp_path):
    picture(tmp_path / "a.png")
    picture(tmp_path / "masks/b.png")
    for output in (tmp_path / "runs/1", tmp_path / "runs/2", tmp_path / "runs/1"):
        table, _ = predict(model, [tmp_path], output, save=["mask", "tiff"])
        assert [Path(path).name for path in table["path"]] == ["a.png", "b.png"]
    assert names_of(tmp_path) == ["a.png", str(Path("masks/b.png"))]
    assert not find_images(str(tmp_path)).passed_over, "nor are its tables strange files"
    with pytest.raises(FastFlowError, match="no images"):
        find_images([tmp_path / "runs/2/heat_maps"])


def test_the_output_may_be_the_folder_of_the_pictures(model, tmp_path):
    picture(tmp_path / "a.png")
    for _ in range(2):
        table, _ = predict(model, [tmp_path], tmp_path)
        assert [Path(path).name for path in table["path"]] == ["a.png"]


@pytest.mark.parametrize("name", ["masks/a.png", "scores.csv", "predict.json", "heat_maps/x"])
def test_what_others_have_made_is_never_overwritten(model, tmp_path, name):
    picture(tmp_path / "in/a.png")
    (tmp_path / "out" / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "out" / name).write_text("work of years")
    for again in (False, True):
        with pytest.raises(FastFlowError, match="another output folder"):
            predict(model, [tmp_path / "in"], tmp_path / "out", again=again)
    assert contents(tmp_path / "out") == {Path(name): b"work of years"}


def test_litter_is_left_out_and_other_files_are_told(model, tmp_path):
    litter = (".ipynb_checkpoints/a.png", "__MACOSX/a.png", ".a.png", "Thumbs.db", ".DS_Store")
    for name in ("a.png", *litter, "b.gif", "x/c.GIF", "x/notes"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_bytes(picture(tmp_path / "a.png").read_bytes())
    assert names_of(tmp_path / "in") == ["a.png"]
    with pytest.warns(UserWarning, match=r"passed over.*: 3 .*2 \.gif, 1 no suffix.*x/notes"):
        table, problems = predict(model, [tmp_path / "in"], tmp_path / "out")
    assert len(table) == 1 and not problems


def test_links_are_followed_and_not_for_ever(tmp_path):
    picture(tmp_path / "far/deep/a.png")
    picture(tmp_path / "in/b.png")
    (tmp_path / "in/far").symlink_to(tmp_path / "far")
    (tmp_path / "in/round").symlink_to(tmp_path / "in")
    assert names_of(tmp_path / "in") == ["b.png", str(Path("far/deep/a.png"))]


def test_a_picture_is_judged_once_whatever_way_to_it_is_given(model, tmp_path, monkeypatch):
    picture(tmp_path / "new" / "a.png")
    (tmp_path / "other").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "new", target_is_directory=True)
    monkeypatch.chdir(tmp_path)
    ways = ["new", "other/../new", tmp_path / "new", "link", "other/../new/a.png"]
    table, _ = predict(model, ways, tmp_path / "out")
    assert list(table["path"]) == [str(Path("new", "a.png"))]


def test_an_empty_file_is_written_again(model, tmp_path):
    given, output = picture(tmp_path / "a.png"), tmp_path / "out"
    predict(model, given, output, save=["mask"])
    files = [output / "heat_maps" / "a.png", output / "masks" / "a.png"]
    whole = [file.read_bytes() for file in files]
    for file in files:
        file.write_bytes(b"")
        predict(model, given, output, save=["mask"])
        assert [file.read_bytes() for file in files] == whole


def test_of_a_picture_that_became_broken_nothing_is_left(model, tmp_path):
    given, output = picture(tmp_path / "a.png"), tmp_path / "out"
    before = given.read_bytes()
    predict(model, given, output, save=["npy"])
    given.write_bytes(before[:60])
    table, problems = predict(model, given, output, save=["npy"])
    assert list(table["decision"]) == ["not judged"] and len(problems) == 1
    assert not [file for file in output.rglob("*") if file.stem == "a"]
    given.write_bytes(before)
    again, problems = predict(model, given, output, save=["npy"])
    assert not problems and list(again["heat_map"]) == ["a.png"]


def test_pictures_of_another_shape_than_the_model_reads_are_told(model, tmp_path):
    Image.new("RGB", (80, 80)).save(tmp_path / "square.png")
    Image.new("RGB", (81, 80)).save(tmp_path / "nearly.png")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        predict(model, tmp_path, tmp_path / "out")
    Image.new("RGB", (80, 40)).save(tmp_path / "wide.png")
    Image.new("RGB", (40, 80)).save(tmp_path / "high.png")
    for _ in range(2):  # what is kept from an earlier call is told as well
        with pytest.warns(UserWarning, match="squeezed: 2 of 4 pictures change their shape"):
            table, _ = predict(model, tmp_path, tmp_path / "out")
        assert len(table) == 4
