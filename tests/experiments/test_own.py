"""From a plain folder of somebody's pictures to a detector, and each mistake before the work."""

import csv
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fastflow_utils import cli
from fastflow_utils.data.listing import Item, Listing
from fastflow_utils.data.mvtec import Pictures
from fastflow_utils.data.readers import from_folders, listing
from fastflow_utils.detector.detector import Detector
from fastflow_utils.detector.evaluation import evaluate
from fastflow_utils.detector.features import CopiedPictures, WindowedPictures
from fastflow_utils.detector.prediction import predict
from fastflow_utils.errors import FastFlowError
from fastflow_utils.experiments.own import as_read, looked_at, own_run, reading_of, split_by
from fastflow_utils.experiments.recipes import Recipe
from fastflow_utils.experiments.run import run

SIZE = (300, 400)
FAST = {"precision": "float32", "steps": 1, "epochs": 1}


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FASTFLOW_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def picture(seed: int, size: tuple[int, int] = SIZE, spot: bool = False) -> Image.Image:
    """A disc before a grey ground, a little elsewhere in each picture."""
    random = np.random.default_rng(seed)
    height, width = size
    rows, columns = np.mgrid[:height, :width]
    y, x = (np.array(size) / 2 + random.uniform(-0.15, 0.15, 2) * height).round()
    pixels = np.full((height, width, 3), 90.0)
    pixels[np.hypot(rows - y, columns - x) < height / 4] = 170
    if spot:
        pixels[np.hypot(rows - y, columns - x) < height / 10] = (240, 20, 20)
    pixels += random.normal(0, 4, pixels.shape)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def folder_of(place: Path, count: int, size: tuple[int, int] = SIZE, start: int = 0) -> Path:
    place.mkdir(parents=True)
    for number in range(count):
        picture(start + number, size).save(place / f"{number:02}.png", compress_level=1)
    return place


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve pictures in subfolders, a broken file, a twin, and a text."""
    place = tmp_path_factory.mktemp("secret_place") / "discs"
    folder_of(place / "day1", 6)
    folder_of(place / "day2", 6, start=6)
    (place / "day1" / "broken.png").write_bytes(b"\x89PNG nothing")
    twin = np.asarray(Image.open(place / "day1" / "03.png")).copy()
    twin[:3, :3] = 0
    Image.fromarray(twin).save(place / "day2" / "twin.png")
    (place / "notes.txt").write_text("of Monday")
    return place


@pytest.fixture(scope="module")
def bad(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("other_place") / "spots"
    place.mkdir()
    for number in range(3):
        picture(50 + number, spot=True).save(place / f"{number}.png")
    return place


def fastflow(*arguments: object) -> int:
    """Run ``fastflow ARGUMENTS`` in this process; return the exit code."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["fastflow", *map(str, arguments)])
        try:
            cli.main()
        except SystemExit as end:
            return end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    return 0


def own(good: Path, output: Path, *more: object) -> int:
    quick = ("--method", "gaussian", "--device", "cpu", "--output", output)
    return fastflow("run", "--good", good, *quick, *more)


@pytest.fixture(scope="module")
def done(good: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("runs") / "discs"
    assert own(good, output) == 0
    return output


# One command ------------------------------------------------------------------------------------


def test_three_commands_from_a_folder_to_a_report(good, bad, done, tmp_path, capsys):
    for name in ("card.md", "survey.html", "survey.csv", "normal_scores.csv", "recipe.yaml"):
        assert (done / name).is_file(), name
    assert fastflow("predict", done / "model", bad, "--output", tmp_path) == 0
    assert set(pd.read_csv(tmp_path / "scores.csv")["decision"]) == {"anomalous"}
    capsys.readouterr()
    assert fastflow("report", done.parent) == 0
    assert "discs" in capsys.readouterr().out


def test_what_is_left_out_is_told(done):
    notes = " ".join(json.loads((done / "metrics.json").read_text())["notes"])
    assert "left out, unreadable: day1/broken.png" in notes
    assert "left out, near duplicate: day2/twin.png" in notes
    assert "read whole at 192 x 256 px" in notes and "squeezed" not in notes
    table = pd.read_csv(done / "survey.csv")
    assert len(table) == 14


def test_each_picture_is_scored_by_a_model_that_has_not_seen_it(good, done):
    rows = list(csv.DictReader((done / "normal_scores.csv").open()))
    expected = [f"day{day}/{number:02}.png" for day in (1, 2) for number in range(6)]
    assert sorted(row["path"] for row in rows) == expected
    scores = [float(row["score"]) for row in rows]
    assert scores == sorted(scores, reverse=True)
    model = Detector.load(done / "model")
    train = Pictures(listing_of(good), "train", model.image_size)
    again, copies = recipe_of(done).build_model(model.backbone), recipe_of(done).copies
    assert copies == 3, "these are few"
    again.fit(CopiedPictures(model.backbone, train, copies), folds=5)
    assert again.normal_scores is not None
    np.testing.assert_allclose(sorted(again.normal_scores), sorted(scores), rtol=1e-4, atol=1e-4)


def listing_of(good: Path) -> Listing:
    return looked_at(from_folders(good))[0]


def recipe_of(run: Path) -> Recipe:
    from fastflow_utils.experiments.recipes import recipe_for

    return recipe_for(config=run / "recipe.yaml")


def test_the_card_names_no_path_of_the_machine(good, bad, tmp_path):
    """Not even where pictures lie in several places, and the region is a file."""
    mask = tmp_path / "secret_mask_place" / "middle.png"
    mask.parent.mkdir()
    Image.new("L", SIZE[::-1], 255).save(mask)
    output = tmp_path / "run"
    assert own(good, output, "--bad", bad, "--region", mask) == 0
    card = (output / "card.md").read_text()
    assert "discs" in card and "middle.png" in card
    for place in (good, bad, mask):
        assert str(place.parent) not in card and place.parent.name not in card


def test_a_saved_recipe_reads_pictures_as_its_run_did(good, done, tmp_path):
    output = tmp_path / "again"
    config = ("--config", done / "recipe.yaml", "--device", "cpu")
    assert fastflow("run", "--good", good, *config, "--output", output) == 0
    assert recipe_of(output) == recipe_of(done)
    first, second = ((run / "normal_scores.csv").read_text() for run in (done, output))
    assert first == second
    cut = Recipe(image_size=(192, 256), window=96, overlap=32, method="gaussian", **FAST)
    assert as_read(from_folders(good), cut) == cut


def test_a_run_without_a_test_says_what_is_not_known(done):
    metrics = json.loads((done / "metrics.json").read_text())
    assert metrics["image_auroc"] is None and metrics["aupro"] is None
    assert "no test images" in " ".join(metrics["notes"])
    assert metrics["label_free"]["image_fpr"] is None
    assert metrics["calibration_images"] == 12


def test_bad_pictures_without_masks_give_metrics_of_images(good, bad, tmp_path, capsys):
    assert own(good, tmp_path, "--bad", bad) == 0
    printed = capsys.readouterr().out
    assert "image AUROC 1.0000" in printed
    assert "pixel AUROC -   AP -   F1 (oracle) -" in printed
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["image_auroc"] == 1 and metrics["pixel_auroc"] is None
    assert metrics["label_free"]["pixel_fpr"] is None
    assert "no mask" in " ".join(metrics["notes"])


# Splits -----------------------------------------------------------------------------------------


def items(names: list[str], defect: str = "good") -> tuple[Item, ...]:
    return tuple(Item(Path(name), "train", defect) for name in names)


def test_a_split_by_order_takes_the_last_and_by_key_whole_groups():
    names = [f"lot{lot}/{n}.png" for lot in range(5) for n in range(4)]
    bad = items(["bad.png"], "scratch")[0]._replace(split="test")
    found = Listing("folders", Path(), "nut", (*items(names), bad))
    by_order = split_by(found, "order")
    assert [i.path.as_posix() for i in by_order.of("test") if not i.label] == names[-4:]
    by_lot = split_by(found, r"lot(\d)")
    assert {i.path.parent.name for i in by_lot.of("test") if not i.label} == {"lot4"}
    assert {i.path.parent.name for i in by_lot.of("train")} == {"lot0", "lot1", "lot2", "lot3"}
    for split in (by_order, by_lot):
        assert [i for i in split.of("test") if i.label] == [bad]
        assert len(split.items) == 21 and "are the test" in split.notes[-1]


@pytest.mark.parametrize("rule", ["(", "lot", r"day(\d)", r"lot(\d)?x", r"(lot)", r"(p)ng"])
def test_a_rule_that_splits_nothing_is_refused(rule):
    names = [f"lot{lot}/{n}.png" for lot in range(2) for n in range(4)]
    with pytest.raises(FastFlowError, match="split by") as error:
        split_by(Listing("folders", Path(), "nut", items(names)), rule)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("rule", ["order", r"day(\d)"])
def test_a_run_with_a_split_knows_its_false_alarms(rule, good, tmp_path, capsys):
    assert own(good, tmp_path, "--split-by", rule) == 0
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert 0 <= metrics["label_free"]["image_fpr"] <= 1 and metrics["image_auroc"] is None
    rows = list(csv.DictReader((tmp_path / "normal_scores.csv").open()))
    if rule != "order":
        assert {row["path"].split("/")[0] for row in rows} == {"day1"}


# How pictures are read --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "size", [(300, 400), (400, 300), (1080, 1920), (64, 64), (500, 501), (480, 1500)]
)
def test_the_shape_is_kept_within_a_few_percent(size):
    reading = reading_of(size)
    height, width = np.broadcast_to(reading.image_size, 2)
    assert height % 32 == width % 32 == 0 and reading.window is None
    assert abs((height / width) / (size[0] / size[1]) - 1) < 0.05
    assert 0.6 < height * width / 256**2 < 1.6


@pytest.mark.parametrize("smallest", [6, 12, 40, 200])
@pytest.mark.parametrize("size", [(3000, 4000), (200, 5000), (600, 600)])
def test_the_smallest_defect_covers_three_positions(size, smallest):
    reading = reading_of(size, smallest=smallest)
    read = np.broadcast_to(reading.image_size, 2)
    if reading.window is None:
        return
    assert smallest * (read / size).min() > min(smallest, 12) * 0.85
    assert (read % 32 == 0).all() and reading.window <= read.min()
    Recipe(image_size=reading.image_size, window=reading.window, overlap=reading.overlap)


def test_pictures_of_another_shape_are_told(tmp_path):
    folder_of(tmp_path / "discs", 4)
    picture(9, (300, 300)).save(tmp_path / "discs" / "square.png")
    recipe = Recipe(method="gaussian", **FAST)
    found = from_folders(tmp_path / "discs")
    result = own_run(found, as_read(found, recipe), tmp_path / "out")
    [told] = [note for note in result.metrics["notes"] if note.startswith("squeezed")]
    assert "1 of 5 pictures" in told and "one of 300 px, by 25%" in told


@pytest.mark.parametrize("method", ["gaussian", "fastflow"])
@pytest.mark.parametrize("count", [2, 3, 5])
def test_few_pictures_are_enough_to_begin(count, method, tmp_path):
    found = from_folders(folder_of(tmp_path / "discs", count, (96, 128)))
    recipe = as_read(found, Recipe(method=method, **FAST), image_size=(64, 96))
    result = own_run(found, recipe, tmp_path / "out")
    assert result.recipe.folds == count and result.model.image_threshold.isfinite()
    assert len(list(csv.DictReader((tmp_path / "out" / "normal_scores.csv").open()))) == count
    _, problems = predict(result.model, [tmp_path / "discs"], tmp_path / "judged")
    assert not problems


def test_dark_pictures_of_12_bits_are_not_black_to_the_model(tmp_path):
    """And the model says which values it knows."""
    place = tmp_path / "discs"
    place.mkdir()
    for number in range(4):
        grey = np.asarray(picture(number, (96, 128)).convert("L")).astype(np.uint16)
        Image.fromarray(grey * 16).save(place / f"{number}.png")
    found = from_folders(place)
    recipe = as_read(found, Recipe(method="gaussian", **FAST), image_size=(64, 96))
    result = own_run(found, recipe, tmp_path / "out")
    assert result.model.white == 4095 and "4095" in (tmp_path / "out" / "card.md").read_text()
    assert Detector.load(tmp_path / "out" / "model").white == 4095


# Mistakes ---------------------------------------------------------------------------------------

MISTAKES = {
    "no folder": (["--good", "{root}/nowhere"], "there is no folder"),
    "no picture": (["--good", "{empty}"], "no good pictures"),
    "one picture": (["--good", "{one}"], "expected at least two"),
    "only broken ones": (["--good", "{broken}"], "none of 2 pictures can be read"),
    "one and its twins": (["--good", "{twins}"], "left out, near duplicate: 1.png, 2.png, 3.png"),
    "a window that is too large": (
        ["--good", "{good}", "--window", "512"],
        "larger than a window",
    ),
    "a window of nothing": (["--good", "{good}", "--window", "0"], "window: 0"),
    "a window off the grid": (["--good", "{good}", "--window", "100"], "multiple of 32"),
    "windows for a method of places": (
        ["--good", "{good}", "--window", "96", "--method", "padim"],
        "not padim",
    ),
    "an overlap of all": (
        ["--good", "{good}", "--window", "96", "--overlap", "96"],
        "overlap: 96",
    ),
    "a region outside": (["--good", "{good}", "--region", "900,900,10,10"], "nothing of it"),
    "a region of nonsense": (["--good", "{good}", "--region", "left"], "LEFT,TOP,WIDTH,HEIGHT"),
    "bad without good": (["--bad", "{good}"], "without --good"),
    "masks without bad": (["--good", "{good}", "--masks", "{good}"], "say where those are"),
    "no bad ones": (["--good", "{good}", "--bad", "{empty}"], "no pictures in"),
    "no mask that fits": (
        ["--good", "{good}", "--bad", "{bad}", "--masks", "{empty}"],
        "no mask in",
    ),
    "good and data": (["--good", "{good}", "--data", "{root}"], "give one"),
    "three sizes": (["--good", "{good}", "--image-size", "3x4x5"], "--image-size 3x4x5"),
    "no size": (["--good", "{good}", "--image-size", "0"], "image_size: 0"),
    "two ways to set a size": (
        ["--good", "{good}", "--image-size", "64", "--smallest-defect", "9"],
        "give one of them",
    ),
    "a defect of nothing": (
        ["--good", "{good}", "--smallest-defect", "0"],
        "smallest defect of 0",
    ),
    "no expression": (["--good", "{good}", "--split-by", "("], "no regular expression"),
    "a split for a category": (["--split-by", "order"], "are for pictures given by --good"),
    "one fold": (["--good", "{good}", "--folds", "1"], "folds: 1"),
    "more folds than pictures": (["--good", "{good}", "--folds", "99"], "folds: 99"),
    "no table": (["--table", "{root}/nowhere.csv"], "nowhere.csv"),
}


@pytest.fixture(scope="module")
def places(good: Path, bad: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("places")
    (root / "empty").mkdir()
    folder_of(root / "one", 1)
    (root / "broken").mkdir()
    for name in ("a.png", "b.png"):
        (root / "broken" / name).write_bytes(b"nothing")
    (root / "twins").mkdir()
    for number in range(4):
        picture(0).save(root / "twins" / f"{number}.png")
    names = ("empty", "one", "broken", "twins")
    return {"root": root, "good": good, "bad": bad, **{name: root / name for name in names}}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line_before_any_training(mistake, places, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(Detector, "fit", lambda *_, **__: pytest.fail("trained all the same"))
    arguments, expected = MISTAKES[mistake]
    given = [text.format(**places) for text in arguments]
    more = [] if "--method" in given else ["--method", "gaussian"]
    assert fastflow("run", *given, *more, "--output", tmp_path / "out") == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ") and message.count("\n") == 1, message
    assert expected in message
    assert not (tmp_path / "out").exists()


# A known layout in windows ----------------------------------------------------------------------


@pytest.mark.parametrize("folds", [None, 2])
@pytest.mark.parametrize("method", ["gaussian", "fastflow"])
def test_a_category_is_run_in_windows(method, folds, tiny, tmp_path):
    recipe = Recipe(
        method=method, image_size=128, window=64, overlap=32, folds=folds, smoothing=2.0, **FAST
    )
    result = run(recipe, tiny, "disc", tmp_path / "run", seed=1)
    assert result.metrics["image_auroc"] > 0.9 and result.metrics["pixel_auroc"] > 0.9
    assert result.metrics["calibration_images"] == (1 if folds is None else 6)
    model = Detector.load(tmp_path / "run" / "model")
    test = Pictures(listing(tiny, "disc"), "test", 128)
    evaluation = evaluate(model, test)
    assert evaluation.maps.equal(result.evaluation.maps)
    table, _ = predict(model, test.paths, tmp_path / "out", save=["npy"])
    scores = dict(zip(table["path"], table["score"], strict=True))
    for index, path in enumerate(test.paths):
        assert scores[str(path)] == pytest.approx(float(evaluation.scores[index]), rel=1e-6)
    saved = np.load(tmp_path / "out" / "maps" / f"{Path(table['heat_map'][0]).stem}.npy")
    np.testing.assert_array_equal(
        saved, evaluation.maps[test.paths.index(Path(table["path"][0])), 0]
    )


def test_a_run_in_windows_repeats_itself(tiny, tmp_path):
    recipe = Recipe(image_size=128, window=64, overlap=32, smoothing=2.0, **FAST)
    first, second = (run(recipe, tiny, "disc", tmp_path / name) for name in "ab")
    assert first.evaluation.maps.equal(second.evaluation.maps)
    seen = WindowedPictures(
        first.model.backbone, Pictures(listing(tiny, "disc"), "train", 128), recipe.windows
    )
    assert len(seen) == 6


# What a run leaves ------------------------------------------------------------------------------


def metrics_of(run: Path) -> dict[str, Any]:
    return json.loads((run / "metrics.json").read_text())


def test_a_region_is_in_the_metrics_and_what_is_outside_of_it_is_not(good, tmp_path):
    """One damage in the middle, one in a corner where nobody looks."""
    bad = tmp_path / "bad"
    (bad / "seen").mkdir(parents=True)
    (bad / "unseen").mkdir()
    picture(60, spot=True).save(bad / "seen" / "0.png")
    hidden = np.asarray(picture(61)).copy()
    hidden[:30, :30] = (240, 20, 20)
    Image.fromarray(hidden).save(bad / "unseen" / "1.png")
    masks = tmp_path / "masks"
    for kind, name in (("seen", "0"), ("unseen", "1")):
        pixels = np.asarray(Image.open(bad / kind / f"{name}.png")).astype(int)
        (masks / kind).mkdir(parents=True)
        mask = (pixels[..., 0] > 200) & (pixels[..., 1] < 80)
        Image.fromarray(mask).save(masks / kind / f"{name}.png")
    roi = tmp_path / "a place" / "middle.png"
    roi.parent.mkdir()
    where = np.zeros(SIZE, bool)
    where[50:250, 60:340] = True
    Image.fromarray(where).save(roi)
    digests = set()
    for name, region in {"file": roi, "box": "60,50,280,200", "all": None}.items():
        more = () if region is None else ("--region", region)
        assert own(good, tmp_path / name, "--bad", bad, "--masks", masks, *more) == 0
        metrics = metrics_of(tmp_path / name)
        digests.add(metrics["region_sha256"])
        told = [note for note in metrics["notes"] if "wholly outside" in note]
        assert len(told) == (region is not None)
        assert (tmp_path / name / "per_defect.csv").read_text().count("unseen") == (region is None)
    assert metrics["region"] is None and metrics["image_auroc"] is not None
    assert metrics_of(tmp_path / "file")["region"] == "middle.png"
    assert metrics_of(tmp_path / "box")["region"] == "60,50,280,200"
    assert len(digests) == 2, "one mask, however it was given, and none"
    assert "a place" not in (tmp_path / "file" / "metrics.json").read_text()


def test_test_pictures_of_another_shape_are_told(tmp_path):
    good = folder_of(tmp_path / "discs", 5, (64, 96))
    bad = folder_of(tmp_path / "bad", 2, (96, 64), start=50)
    assert own(good, tmp_path / "out", "--bad", bad) == 0
    notes = " ".join(metrics_of(tmp_path / "out")["notes"])
    assert "squeezed: 2 of 7 pictures change their shape" in notes


def test_names_that_are_no_formulas_end_no_run(tmp_path, capsys):
    good = folder_of(tmp_path / "a$b_{$", 5, (64, 96))
    bad = folder_of(tmp_path / "bad" / "$x_$", 2, (64, 96), start=50).parent
    assert own(good, tmp_path / "out", "--bad", bad) == 0
    out, err = capsys.readouterr()
    assert "image AUROC" in out and "figures/" in out and not err
    assert (tmp_path / "out" / "figures" / "gallery.png").is_file()


def test_results_are_told_where_a_figure_cannot_be_drawn(good, tmp_path, capsys, monkeypatch):
    def fail(*_: object) -> None:
        raise ValueError("no\nformula")

    monkeypatch.setattr("fastflow_utils.course.plots.draw_run", fail)
    assert own(good, tmp_path) == 0
    out, err = capsys.readouterr()
    assert "image threshold" in out and "figures/" not in out
    assert "no figures: no formula\n" in err


def test_nothing_of_an_earlier_run_passes_for_the_new_ones(tiny, done, tmp_path):
    output = tmp_path / "out"
    shutil.copytree(done, output)
    result = run(Recipe(method="gaussian", image_size=64), tiny, "disc", output)
    assert not list(output.glob("survey.*"))
    items = json.loads((output / "listing.json").read_text())["items"]
    assert len(items) == 6 + len(result.evaluation.dataset)


def test_what_is_probably_anomalous_is_in_the_metrics(good, tmp_path):
    shutil.copytree(good, tmp_path / "discs")
    picture(70, spot=True).save(tmp_path / "discs" / "day1" / "odd.png")
    assert own(tmp_path / "discs", tmp_path / "out") == 0
    [told] = [n for n in metrics_of(tmp_path / "out")["notes"] if "probably anomalous" in n]
    assert "day1/odd.png" in told


# What a breaker has found -----------------------------------------------------------------------


def test_groups_and_names_are_ordered_as_people_count():
    names = [f"day{day}/IMG_{n}.png" for day in range(1, 12) for n in (8, 9, 10)]
    note = "no split is given: every fifth good picture, 1 of 9, is for the test"
    found = Listing("folders", Path(), "nut", items(sorted(names)), (note, "another"))
    by_day = split_by(found, r"day(\d+)")
    assert {item.path.parent.name for item in by_day.of("test")} == {"day9", "day10", "day11"}
    last = {item.path.as_posix() for item in split_by(found, "order").of("test")}
    assert last == set(names[-7:])
    assert by_day.notes[0] == "another" and len(by_day.notes) == 2, "the old split is not told"


def test_no_picture_of_the_test_is_learnt_from(tmp_path):
    """Every fifth one was a copy, so all of the test was in training: no false alarms."""
    place = tmp_path / "discs"
    place.mkdir()
    for number in range(12):
        shown = picture(number, (96, 128))
        shown.save(place / f"{number:02}a.png")
        if number % 4 == 3:
            shown.save(place / f"{number:02}b.png")
    bad = tmp_path / "bad"
    bad.mkdir()
    picture(50, (96, 128), spot=True).save(bad / "0.png")
    given = from_folders(place, bad)
    found, table, files = looked_at(given)
    assert len(given.of("test")) == 4 and found.of("test") == given.of("test")
    learnt, tested = ({item.path.name[:2] for item in found.of(s)} for s in ("train", "test"))
    assert not learnt & tested - {"0."} and len(found.of("train")) == 9
    assert len(table) == len(files) == 12
    assert "left out, near duplicate: 03a.png, 07a.png, 11a.png" in found.notes


def test_a_picture_that_is_called_good_and_bad_is_refused(tmp_path):
    good = folder_of(tmp_path / "discs", 6, (96, 128))
    bad = tmp_path / "bad"
    bad.mkdir()
    Image.open(good / "02.png").save(bad / "x.bmp")
    with pytest.raises(FastFlowError, match=r"02.png is good and .*x.bmp is damaged"):
        looked_at(from_folders(good, bad))
    (bad / "x.bmp").unlink()
    Image.open(good / "02.png").save(bad / "x.jpg", quality=90)
    notes = looked_at(from_folders(good, bad))[0].notes
    assert "good pictures that nearly are damaged ones: 02.png (bad/x.jpg)" in notes


def test_deeper_pictures_in_the_test_of_8_bit_ones_are_left_out_and_told_why(tmp_path):
    good = folder_of(tmp_path / "discs", 6, (96, 128))
    bad = tmp_path / "bad"
    bad.mkdir()
    grey = np.asarray(picture(50, (96, 128)).convert("L")).astype(np.uint16)
    Image.fromarray(grey * 16).save(bad / "deep.png")
    picture(51, (96, 128), spot=True).save(bad / "usual.png")
    found = looked_at(from_folders(good, bad))[0]
    assert [item.path.name for item in found.of("test") if item.label] == ["usual.png"]
    told = " ".join(found.notes)
    assert "left out, unreadable: bad/deep.png" in told and "more than 8 bits" in told
    assert str(tmp_path) not in told


def test_integers_of_32_bits_are_read_as_their_training_pictures_say(tmp_path):
    """Training took them, and the test was thrown away."""
    for place, first in (("discs", 0), ("bad", 50)):
        (tmp_path / place).mkdir()
        for number in range(first, first + 5):
            grey = np.asarray(picture(number, (96, 96), spot=first > 0).convert("L"))
            Image.fromarray(grey.astype(np.int32)).save(tmp_path / place / f"{number}.tif")
    found = from_folders(tmp_path / "discs", tmp_path / "bad")
    recipe = as_read(found, Recipe(method="gaussian", upright="auto", **FAST), image_size=64)
    result = own_run(found, recipe, tmp_path / "out")
    assert len(result.evaluation.dataset) == 6 and result.model.white == 255


def test_prediction_tells_of_files_whose_further_frames_are_not_read(done, tmp_path, capsys):
    frames = [picture(number) for number in range(2)]
    frames[0].save(tmp_path / "many.tif", save_all=True, append_images=frames[1:])
    frames[0].save(tmp_path / "one.tif")
    code = fastflow("predict", done / "model", tmp_path, "--output", tmp_path / "out")
    told = capsys.readouterr()
    assert code == 0
    assert "of which the first is read: many.tif" in told.out + told.err
