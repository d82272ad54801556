"""Animations show what the saved model says, in words too, and never exceed 3 MB."""

import json
import os
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fastflow_utils.course import plots
from fastflow_utils.data.mvtec import Sample
from fastflow_utils.data.readers import from_folders, listing
from fastflow_utils.data.sample_set import make
from fastflow_utils.detector.backbones import Backbone
from fastflow_utils.detector.model import FastFlow
from fastflow_utils.detector.prediction import predict
from fastflow_utils.errors import FastFlowError
from fastflow_utils.experiments import animations
from fastflow_utils.experiments.animations import (
    Verdict,
    animate,
    animate_all,
    choose,
    frame,
    verdicts,
    wall,
)
from fastflow_utils.experiments.own import split_by
from fastflow_utils.experiments.recipes import Recipe
from fastflow_utils.experiments.records import write_listing
from fastflow_utils.experiments.run import run, run_on


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    names = ["tile", "screw"]
    return make(tmp_path_factory.mktemp("data"), names, size=64, train=12, good=3, per_defect=2)


@pytest.fixture(scope="module")
def finished(root, tmp_path_factory) -> Path:
    """A run on the sample set's tile, at 64 px and one epoch, with the root in ``run.json``."""
    output = tmp_path_factory.mktemp("runs") / "tile"
    with pytest.MonkeyPatch.context() as patch:
        cache = tmp_path_factory.mktemp("cache")
        patch.setattr("fastflow_utils.detector.features.data_home", lambda: cache)
        run(Recipe(image_size=64, steps=1, epochs=1), root, "tile", output)
    (output / "run.json").write_text(json.dumps({"root": str(root)}))
    return output


def another(run: Path, place: Path, **changes: object) -> Path:
    """A copy of a run, elsewhere and of other data, as its ``metrics.json`` says."""
    shutil.copytree(run, place)
    (place / "listing.json").unlink()
    metrics = json.loads((place / "metrics.json").read_text()) | changes
    (place / "metrics.json").write_text(json.dumps(metrics))
    return place


def noise(category: str = "tile", count: int = 16) -> list[Verdict]:
    """Verdicts that no encoder can make small."""
    return [
        Verdict(
            category,
            f"{category} (sample set)",
            Sample(
                torch.rand(3, 256, 256), torch.rand(1, 256, 256) < 0.5, 1, "cut", "cut/000.png"
            ),
            torch.rand(1, 256, 256),
            0.7,
            0.6,
            0.9,
        )
        for _ in range(count)
    ]


@pytest.fixture
def words(monkeypatch) -> list[str]:
    """Every text that is drawn."""
    drawn: list[str] = []
    write = animations._Sheet.write

    def recorded(sheet, text, *where, **how) -> float:
        drawn.append(text)
        return write(sheet, text, *where, **how)

    monkeypatch.setattr(animations._Sheet, "write", recorded)
    return drawn


@given(
    st.lists(st.sampled_from(["cut", "good", "hole", "rust"]), max_size=40).map(sorted),
    st.integers(0, 20),
)
def test_images_are_chosen_evenly_and_each_once(defects, count):
    places = choose(defects, count)
    assert len(places) == len(set(places)) == min(count, len(defects))
    taken, there = Counter(defects[place] for place in places), Counter(defects)
    for kind in there:
        assert all(
            taken[kind] >= taken[other] - 1 or taken[kind] == there[kind] for other in taken
        )
    for kind, number in taken.items():
        own = [place - defects.index(kind) for place in places if defects[place] == kind]
        steps = np.diff([*own, there[kind]])
        assert own[0] == 0 and steps.max() - steps.min() <= 1, f"{number} of {kind}: {own}"


def test_verdicts_are_the_saved_models_own(finished, root, tmp_path):
    shown = verdicts(finished)
    assert [one.sample.defect for one in shown[:5]] == [
        "good",
        "crack",
        "glue_strip",
        "oil",
        "good",
    ]
    model = FastFlow.load(finished / "model")
    files = [Path(one.sample.path) for one in shown]
    table, _ = predict(model, files, tmp_path)
    assert table["score"].tolist() == [one.score for one in shown]
    assert table["decision"].tolist() == [one.decision for one in shown]
    metrics = json.loads((finished / "metrics.json").read_text())
    for one in shown:
        assert one.image_threshold == metrics["label_free"]["image_threshold"]
        assert one.pixel_threshold == metrics["label_free"]["pixel_threshold"]
        assert one.is_right == ((one.decision == "good") == (one.sample.defect == "good"))
    assert verdicts(finished, root, count=3)[2].score == shown[2].score


def test_a_frame_says_in_words_what_it_shows(finished, words):
    for one in verdicts(finished, count=2):
        words.clear()
        frame(one, "2/9")
        text = " ".join(words)
        for expected in ("tile (sample set)", "2/9", one.decision, *animations.COLUMNS):
            assert expected in text
        assert ("no defect" if one.sample.defect == "good" else one.sample.defect) in text
        assert f"score {one.score:.2f}" in text
        assert f"threshold {one.image_threshold:.2f}" in text
        assert ("right" in words, "wrong" in words) == (one.is_right, not one.is_right)


def test_right_and_wrong_are_told_apart_by_more_than_colour(words):
    (one,) = noise(count=1)
    for threshold, decision, mark in ((0.7, "anomalous", "right"), (0.71, "good", "wrong")):
        words.clear()
        frame(replace(one, image_threshold=threshold), "1/1")
        assert decision in words and mark in words


def test_a_colour_means_the_same_in_every_frame():
    (one,) = noise(count=1)
    for level in (0.55, 0.9):
        constant = torch.full((1, 256, 256), level)
        shown = np.asarray(frame(replace(one, anomaly_map=constant, pixel_threshold=2), "1/1"))
        expected = (plots.colour(constant)[0, 0] * 255).round()
        assert (shown == expected).all(-1).sum() >= 256 * 256


def test_where_there_is_no_mask_a_frame_says_so_instead_of_showing_nothing_anomalous(words):
    (one,) = noise(count=1)
    mask = torch.zeros(1, 256, 256, dtype=torch.bool)
    shown = replace(one, sample=one.sample._replace(mask=mask))
    unknown = np.asarray(frame(replace(shown, has_truth=False), "1/1"))
    assert "no mask" in words and "white: anomalous" not in words
    words.clear()
    known = np.asarray(frame(shown, "1/1"))
    assert "no mask" not in words and "white: anomalous" in words
    assert (known != unknown).any()


def test_a_picture_that_is_not_square_keeps_its_shape():
    (one,) = noise(count=1)
    sample = one.sample._replace(
        image=torch.ones(3, 64, 128), mask=torch.zeros(1, 64, 128, dtype=torch.bool)
    )
    wide = replace(one, sample=sample, anomaly_map=torch.zeros(1, 32, 64), pixel_threshold=2)
    assert {picture.size for picture in animations._pictures(wide, 128)} == {(128, 64)}
    drawn = np.asarray(frame(wide, "1/1", 128))
    assert (drawn == 255).all(-1).sum() >= 128 * 64
    animations._wall([wide] * 2, "heading", "1/1", 128, judged=True)


def test_a_run_without_masks_is_animated_and_one_without_test_images_costs_no_other(
    finished, root, tmp_path, words
):
    """The same pictures as files of one's own, without a mask, then without a test split."""
    data = tmp_path / "data"
    for name in ("tile", "bare"):
        shutil.copytree(root / "tile" / "train", data / name / "train")
    shutil.copytree(root / "tile" / "test", data / "tile" / "test")
    own = {"sample_set": False, "data": "mine"}
    digests = {name: listing(data, name).digest() for name in ("tile", "bare")}
    tile = another(finished, tmp_path / "runs" / "tile", **own, data_sha256=digests["tile"])
    bad = [one for one in verdicts(tile, data) if one.sample.label]
    assert bad and not any(one.has_truth for one in bad)
    bare = {"category": "bare", "data_sha256": digests["bare"]}
    another(finished, tmp_path / "runs" / "bare", **bare, **own)
    with pytest.raises(FastFlowError, match=r"4 files are in .*not animated: .*bare.* empty"):
        animate_all(tmp_path / "runs", tmp_path / "out", data)
    assert len(list((tmp_path / "out").rglob("*.gif"))) == 2 and "no mask" in words


def test_long_names_stay_on_the_sheet():
    (one,) = noise("a_category_with_a_name_that_goes_on_" * 4, count=1)
    sample = one.sample._replace(defect="a_defect_with_a_name_that_goes_on_" * 4)
    drawn = np.asarray(frame(replace(one, sample=sample), "1/1", 128))
    assert (drawn[:, -4:] == animations.GROUND).all()


def test_animate_writes_both_files_with_the_same_bytes_each_time(finished, tmp_path):
    files = animate(finished, tmp_path / "a" / "b")
    assert [file.name for file in files] == ["tile.gif", "tile.webp"]
    again = animate(finished, tmp_path / "again")
    for file, other in zip(files, again, strict=True):
        assert file.read_bytes() == other.read_bytes()
        with Image.open(file) as picture:
            assert picture.n_frames == 9 and picture.info["loop"] == 0
            assert 700 <= picture.width <= 1200


def test_the_best_that_keeps_within_the_limit_is_written(tmp_path, monkeypatch):
    def draw(side: int, count: int) -> list[animations.Frame]:
        random = np.random.default_rng(0)
        pixels = random.integers(0, 256, (count, side, side, 3), np.uint8)
        return [(Image.fromarray(one), 100) for one in pixels]

    steps = [(128, 4), (64, 4), (64, 2), (16, 2)]
    monkeypatch.setattr(animations, "LIMIT", 20_000)
    for file in animations._save(tmp_path / "noise", draw, steps):
        assert file.stat().st_size <= 20_000
        with Image.open(file) as picture:
            written = picture.width, picture.n_frames
        for better in steps[: steps.index(written)]:
            assert len(animations._encoded(draw(*better), file.suffix[1:])) > 20_000
    monkeypatch.setattr(animations, "LIMIT", 100)
    with pytest.raises(FastFlowError, match=r"other\.gif: .* at most 100"):
        animations._save(tmp_path / "other", draw, steps)
    assert not list(tmp_path.glob("other*"))


def test_whatever_the_images_are_the_last_step_keeps_the_promise(finished, tmp_path, monkeypatch):
    """Pictures of noise are the worst that there can be."""
    assert animations.LIMIT == 3_000_000
    for steps in ("STEPS", "WALL_STEPS"):
        monkeypatch.setattr(animations, steps, getattr(animations, steps)[-1:])
    cell = noise(count=4)
    monkeypatch.setattr(animations, "verdicts", lambda *_, **__: cell)
    names = animations.CATEGORIES
    folders = [another(finished, tmp_path / name, category=name) for name in names]
    for file in (*animate(finished, tmp_path), *wall(folders, tmp_path)):
        assert file.stat().st_size < 3_000_000


def test_a_wall_is_in_the_tables_order_and_says_sample_set(finished, root, tmp_path, words):
    digest = listing(root, "screw").digest()
    screw = another(finished, tmp_path / "screw", category="screw", data_sha256=digest)
    gif, webp = wall([screw, finished], tmp_path)
    assert (gif.name, webp.name) == ("wall.gif", "wall.webp")
    assert any("efficientnet_lite0 (sample set)" in text for text in words)
    names = [text for text in words if text in ("Tile", "Screw")]
    assert names == ["Tile", "Screw"] * (len(names) // 2)
    assert {"right", "wrong", "anomalous", "good", "1/8", "8/8"} <= set(words)
    with Image.open(webp) as picture:
        assert picture.n_frames == 16 and picture.info["loop"] == 0


def test_walls_of_two_kinds_of_data_or_of_nothing_are_refused(finished, tmp_path):
    real = another(finished, tmp_path / "real", sample_set=False, data="MVTec AD")
    with pytest.raises(FastFlowError, match="MVTec AD, sample set: a wall is of one data set"):
        wall([finished, real], tmp_path)
    with pytest.raises(FastFlowError, match="nothing"):
        wall([], tmp_path)
    twin = another(finished, tmp_path / "twin")
    with pytest.raises(FastFlowError, match="each category once"):
        wall([finished, twin], tmp_path)


def test_animate_all_takes_the_lowest_seed_and_of_these_the_newest(
    finished, tmp_path, monkeypatch
):
    folder = tmp_path / "runs"
    ages = {"seed0-a": (0, 300), "seed0-b": (0, 400), "seed1-c": (1, 500), "seed10-d": (10, 600)}
    for name, (seed, finish) in ages.items():
        place = another(finished, folder / "net" / "tile" / name, seed=seed)
        os.utime(place / "metrics.json", (finish, finish))
    (folder / "net" / "tile" / "seed0-killed").mkdir()
    seen: list[Path] = []

    def noted(run: Path, *_: object, **__: object) -> list[Verdict]:
        seen.append(run)
        return noise(count=2)

    monkeypatch.setattr(animations, "verdicts", noted)
    files = animate_all(folder, tmp_path / "out")
    assert {run.name for run in seen} == {"seed0-b"}
    expected = {"wall.gif", "wall.webp", "tile.gif", "tile.webp"}
    assert {file.name for file in files} == expected
    place = tmp_path / "out" / "efficientnet_lite0" / "sample_set"
    assert {file.parent for file in files} == {place}
    assert all(file.is_file() for file in files)


def test_animate_all_keeps_data_sets_apart(finished, tmp_path, monkeypatch):
    """Of the sample set's tile and a real one neither replaces the other."""
    folder = tmp_path / "runs"
    another(finished, folder / "drawn")
    another(finished, folder / "own", sample_set=False, data="factory")
    monkeypatch.setattr(animations, "verdicts", lambda *_, **__: noise(count=2))
    written = {file.relative_to(tmp_path) for file in animate_all(folder, tmp_path)}
    expected = {Path("efficientnet_lite0", data, "tile.gif") for data in ("sample_set", "factory")}
    assert expected < written and len(written) == 8


def test_what_is_no_finished_run_is_named(finished, root, tmp_path):
    killed = tmp_path / "killed"
    shutil.copytree(finished, killed)
    (killed / "metrics.json").unlink()
    for act in (animate, animate_all):
        with pytest.raises(FastFlowError, match=r"no finished run in '.*killed'"):
            act(killed, tmp_path)
    (killed / "metrics.json").write_text('{"category": ')
    with pytest.raises(FastFlowError, match=r"no finished run in '.*killed'"):
        animate(killed, tmp_path)


def test_other_data_than_the_runs_is_refused(finished, tiny, tmp_path):
    with pytest.raises(FastFlowError, match=r"no category 'tile' in .*: it has disc"):
        animate(finished, tmp_path, tiny)
    other = make(tmp_path / "other", ["tile"], size=64, train=12, good=3, per_defect=2, seed=1)
    told = r"is of tile, sample set, but in .* are other images"
    with pytest.raises(FastFlowError, match=told):
        animate(finished, tmp_path, other)
    assert not list(tmp_path.glob("*.gif"))


@pytest.fixture(scope="module")
def own(root, tmp_path_factory) -> Path:
    """A run on plain folders, of the same pictures, with a split of its own."""
    place = tmp_path_factory.mktemp("own")
    folders = [place / "mine" / kind for kind in ("good", "bad")]
    for folder, source in zip(folders, ("train/good", "test/crack"), strict=True):
        shutil.copytree(root / "tile" / source, folder)
    found = split_by(from_folders(*folders), "order")
    recipe = Recipe(image_size=64, method="gaussian")
    run_on(recipe, found, place / "run", backbone=Backbone("efficientnet_lite0", image_size=64))
    return place / "run"


def test_a_run_on_plain_folders_shows_its_own_test_split(own, monkeypatch):
    """From where its pictures are, without a data root; nothing is drawn for it."""
    monkeypatch.setattr("fastflow_utils.data.layout.data_root", None)
    shown = verdicts(own)
    assert {one.sample.defect for one in shown} == {"good", "bad"}
    split = {Path(path).name for path, kind, *_ in items_of(own) if kind == "test"}
    assert {Path(one.sample.path).name for one in shown} == split
    assert not any(Path(place).is_absolute() for place, *_ in items_of(own))


def items_of(run: Path) -> list[list[str]]:
    return json.loads((run / "listing.json").read_text())["items"]


def test_a_run_moves_with_its_pictures(own, tmp_path):
    shutil.copytree(own.parent, tmp_path / "moved")
    shown = verdicts(tmp_path / "moved" / "run")
    assert all(Path(one.sample.path).is_relative_to(tmp_path) for one in shown)


def test_a_changed_picture_is_not_shown_as_the_runs(own, tmp_path):
    shutil.copytree(own.parent, tmp_path / "moved")
    changed = next((tmp_path / "moved" / "mine" / "good").iterdir())
    Image.new("RGB", (64, 64)).save(changed)
    with pytest.raises(FastFlowError, match="other images"):
        verdicts(tmp_path / "moved" / "run")


def test_pictures_learnt_from_are_not_shown_as_test(root, finished, tmp_path):
    """The whole folder has one digest, however it was split."""
    found = listing(root, "tile").holding_out(0.5)
    place = another(finished, tmp_path / "run")
    write_listing(place, found)
    with pytest.raises(FastFlowError, match="split in another way"):
        verdicts(place, root)
    (place / "run.json").unlink()
    assert "train" in {Path(one.sample.path).parts[-3] for one in verdicts(place)}


def test_without_a_trace_of_the_pictures_no_data_are_made(finished, tmp_path, monkeypatch):
    monkeypatch.setenv("FASTFLOW_DATA", str(tmp_path / "none"))
    lost = another(finished, tmp_path / "lost")
    (lost / "run.json").unlink()
    with pytest.raises(FastFlowError, match=r"does not say where its images are.*--data"):
        verdicts(lost)
    assert not (tmp_path / "none").exists()
