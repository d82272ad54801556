"""The command line keeps its contract: files, keys, exit codes, one line for a mistake."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import torch
from PIL import Image
from scipy.ndimage import binary_dilation

from fastflow_utils import cli
from fastflow_utils.data.finding import TABLES
from fastflow_utils.data.mvtec import OFFICIAL_COUNTS, MVTecAD
from fastflow_utils.detector.choices import METHODS
from fastflow_utils.detector.detector import Detector
from fastflow_utils.detector.evaluation import evaluate
from fastflow_utils.detector.features import extract
from fastflow_utils.detector.model import FastFlow


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Keep the tests' features out of the person's cache."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fastflow_utils.detector.features.data_home", lambda: home)
        yield home


def fastflow(*arguments: object) -> int:
    """Run ``fastflow ARGUMENTS`` in this process; return the exit code."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["fastflow", *map(str, arguments)])
        try:
            cli.main()
        except SystemExit as end:
            return end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    return 0


def run(root: Path, output: Path, *more: object) -> int:
    small = ("--data", root, "--category", "disc", "--image-size", 64, "--device", "cpu")
    epochs = () if "--method" in more else ("--epochs", 3)
    return fastflow("run", *small, *epochs, "--output", output, *more)


@pytest.fixture(scope="module")
def finished(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("runs") / "deep" / "disc"
    assert run(tiny, output) == 0
    return output


def test_run_writes_what_the_contract_names(finished):
    metrics = json.loads((finished / "metrics.json").read_text())
    for level in ("image", "pixel"):
        assert all(0 <= metrics[f"{level}_{name}"] <= 1 for name in ("auroc", "ap", "f1"))
        assert all(0 <= metrics["label_free"][f"{level}_{name}"] <= 1 for name in ("fpr", "f1"))
        assert metrics["label_free"][f"{level}_f1"] <= metrics[f"{level}_f1"]
        assert 0 < metrics["label_free"][f"{level}_threshold"] < 1
    assert 0 <= metrics["aupro"] <= 1 and 0 <= metrics["aupimo"] <= 1
    assert list(metrics["seconds"]) == ["features", "train", "evaluate", "total"]
    assert (metrics["epochs"], metrics["seed"], metrics["protocol"]) == (3, 0, "last epoch")
    assert {"torch", "timm", "fastflow-utils", "python"} <= set(metrics["versions"])
    assert metrics["recipe"]["precision"] in ("float32", "bfloat16")
    assert (metrics["category"], metrics["sample_set"]) == ("disc", False)
    assert {path.suffix for path in (finished / "model").iterdir()} == {".json", ".safetensors"}
    figures = sorted(path.name for path in (finished / "figures").glob("*.png"))
    assert figures == ["gallery.png", "roc.png", "scores.png", "training.png"]
    assert len(pd.read_csv(finished / "history.csv")) == 3
    assert list(pd.read_csv(finished / "per_defect.csv")["defect"]) == ["blot", "spot"]


def test_run_finds_bright_squares(finished):
    metrics = json.loads((finished / "metrics.json").read_text())
    assert metrics["image_auroc"] == 1.0
    assert metrics["pixel_auroc"] > 0.9


def test_run_prints_the_table_and_where_things_are(tiny, tmp_path, capsys):
    assert run(tiny, tmp_path / "out", "--precision", "float32") == 0
    printed = capsys.readouterr().out
    for expected in ("image AUROC", "oracle", "spot", "cpu in float32", str(tmp_path / "out")):
        assert expected in printed


def test_run_without_the_extra_course_keeps_its_results(tiny, tmp_path, capsys, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("fastflow_utils.course")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr("fastflow_utils.course", raising=False)
    monkeypatch.setitem(sys.modules, "seaborn", None)  # as if it were not installed
    assert run(tiny, tmp_path / "out", "--epochs", 1) == 0
    out, err = capsys.readouterr()
    assert "no figures: seaborn is not installed" in err and "fastflow-utils[course]" in err
    assert "image AUROC" in out and "figures/" not in out
    assert (tmp_path / "out" / "metrics.json").is_file()


def test_same_seed_same_metrics_and_the_saved_recipe_repeats_them(finished, tiny, tmp_path):
    again = ("--config", finished / "recipe.yaml", "--device", "cpu", "--output", tmp_path)
    assert fastflow("run", "--data", tiny, "--category", "disc", *again) == 0
    first, second = (
        json.loads((folder / "metrics.json").read_text()) for folder in (finished, tmp_path)
    )
    for name in ("image_auroc", "pixel_auroc", "pixel_f1", "recipe"):
        assert first[name] == second[name]
    weights = [f / "model" / "model.safetensors" for f in (finished, tmp_path)]
    states = [safetensors.torch.load_file(file) for file in weights]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_saved_model_gives_the_metrics_again(finished, tiny):
    model = FastFlow.load(finished / "model")
    test = MVTecAD(tiny, "disc", "test", 64)
    again = evaluate(model, test, extract(model.backbone, test)).metrics()
    metrics = json.loads((finished / "metrics.json").read_text())
    assert again == {name: metrics[name] for name in again}


def test_predict_scores_images_of_any_size(finished, tiny, tmp_path, capsys):
    images = tmp_path / "images"
    (images / "line 2").mkdir(parents=True)
    source = Image.open(tiny / "disc" / "test" / "spot" / "000.png")
    good = Image.open(tiny / "disc" / "test" / "good" / "000.png")
    good.save(images / "a.png")
    source.resize((300, 200)).save(images / "line 2" / "a.JPG")
    source.convert("L").save(images / "b.png")
    output = tmp_path / "out"
    alone = tmp_path / "a.png"
    good.save(alone)
    (images / "notes.txt").write_text("nothing")
    assert fastflow("predict", finished / "model", images, alone, "--output", output) == 0
    printed = capsys.readouterr().out
    assert "4 images scored" in printed and "no pictures by their names: 1 (1 .txt)" in printed
    table = pd.read_csv(output / "scores.csv")
    assert list(table.columns) == ["path", "score", "decision", "heat_map", "threshold"]
    limit = float(FastFlow.load(finished / "model").image_threshold)
    assert set(table["threshold"]) == {limit}
    assert f"image threshold {limit:.6g}, the model's own: 2 anomalous, 2 good" in printed
    paths = [images / "a.png", images / "b.png", images / "line 2" / "a.JPG", alone]
    assert list(table["path"]) == list(map(str, paths))
    assert table["score"][0] == table["score"][3] < table["score"][1]
    sizes = {path.name: Image.open(path).size for path in (output / "heat_maps").iterdir()}
    assert sizes == {
        "a.png": (64, 64),
        "b.png": (64, 64),
        "line 2_a.png": (300, 200),
        "a-2.png": (64, 64),
    }


def test_predict_agrees_with_the_evaluation(finished, tiny, tmp_path):
    folder = tiny / "disc" / "test"
    assert fastflow("predict", finished / "model", folder, "--output", tmp_path) == 0
    model = FastFlow.load(finished / "model")
    test = MVTecAD(tiny, "disc", "test", 64)
    scores = evaluate(model, test, extract(model.backbone, test)).scores
    table = pd.read_csv(tmp_path / "scores.csv")
    assert list(table["path"]) == [str(path) for path in test.paths]
    np.testing.assert_allclose(table["score"], scores, 0.03, 0.05)  # the cache holds float16


def test_predict_decides_by_the_thresholds_of_the_model(finished, tiny, tmp_path):
    model = FastFlow.load(finished / "model")
    folder = tiny / "disc" / "test"
    assert fastflow("predict", finished / "model", folder, "--output", tmp_path) == 0
    table = pd.read_csv(tmp_path / "scores.csv")
    above = table["score"] >= float(model.image_threshold)
    assert set(table["decision"]) == {"good", "anomalous"}
    assert list(table["decision"] == "anomalous") == list(above)
    test = MVTecAD(tiny, "disc", "test", 64)
    for path, sample in zip(test.paths, test, strict=True):
        mask = (model.predict(sample.image[None])[0] >= model.pixel_threshold)[0, 0].numpy()
        picture = tmp_path / "heat_maps" / f"{path.parent.name}_{path.stem}.png"
        green = (np.asarray(Image.open(picture)) == (51, 255, 102)).all(axis=2)
        assert green.any() == (mask.any() and not mask.all())  # a border, if there is one
        assert not (green & mask).any()
        assert not (green & ~binary_dilation(mask, iterations=2)).any(), "far from the mask"


def test_heat_map_is_bright_where_the_defect_is(finished, tiny, tmp_path):
    image = tiny / "disc" / "test" / "spot" / "000.png"
    assert fastflow("predict", finished / "model", image, "--output", tmp_path) == 0
    heat = np.asarray(Image.open(tmp_path / "heat_maps" / "000.png").convert("L"), float)
    mask = np.asarray(Image.open(tiny / "disc/ground_truth/spot/000_mask.png"))
    assert heat[mask].mean() > heat[~mask].mean() + 20


def test_predict_does_what_it_can_and_names_what_it_cannot(finished, tiny, tmp_path, capsys):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG nothing")
    good = tiny / "disc" / "test" / "good" / "000.png"
    output = tmp_path / "out"
    assert fastflow("predict", finished / "model", broken, good, "--output", output) == 2
    assert list(pd.read_csv(output / "scores.csv")["decision"]) == ["not judged", "good"]
    assert (output / "heat_maps" / "000.png").exists()
    out, err = capsys.readouterr()
    assert "1 good, 1 not judged" in out and "broken.png" in err


def test_predict_goes_on_and_saves_and_takes_a_threshold(finished, tiny, tmp_path, capsys):
    pictures, output = tiny / "disc" / "test" / "spot", tmp_path / "out"
    ask = ("predict", finished / "model", pictures, "--output", output)
    assert fastflow(*ask, "--save", "npy,mask", "--save", "tiff") == 0
    kinds = {"maps": [".npy", ".tiff"], "masks": [".png"], "heat_maps": [".png"]}
    for folder, suffixes in kinds.items():
        found = sorted(file.name for file in (output / folder).iterdir())
        assert found == [f"{n:03}{suffix}" for n in range(3) for suffix in suffixes]
    capsys.readouterr()
    assert fastflow(*ask, "--threshold", 1e99) == 0
    printed = capsys.readouterr().out
    assert "3 images scored, 3 of them by an earlier call" in printed
    assert "image threshold 1e+99, as given: 0 anomalous, 3 good" in printed
    assert set(pd.read_csv(output / "scores.csv")["decision"]) == {"good"}


def test_predict_says_where_the_defect_is(finished, tiny, tmp_path):
    image = tiny / "disc" / "test" / "spot" / "000.png"
    assert fastflow("predict", finished / "model", image, "--output", tmp_path) == 0
    rows, columns = np.nonzero(
        np.asarray(Image.open(tiny / "disc/ground_truth/spot/000_mask.png"))
    )
    region = pd.read_csv(tmp_path / "regions.csv").iloc[0]
    assert abs(region["centroid_x"] - columns.mean()) < 8
    assert abs(region["centroid_y"] - rows.mean()) < 8
    coco = json.loads((tmp_path / "regions.json").read_text())
    assert coco["images"][0]["file_name"] == str(image)
    assert coco["annotations"][0]["bbox"] == list(region[["x", "y", "width", "height"]])


def test_recipes_lists_each(capsys):
    assert fastflow("recipes") == 0
    printed = capsys.readouterr().out
    assert "efficientnet_lite0" in printed and "resnet18" in printed and "installed" in printed


def test_data_sample_makes_what_check_accepts(tmp_path, capsys):
    few = ("--size", 64, "--train", 2, "--good", 1, "--per-defect", 1, "--categories", "bottle")
    assert fastflow("data", "sample", tmp_path / "sample", *few) == 0
    assert fastflow("data", "check", tmp_path / "sample") == 0
    printed = capsys.readouterr().out
    assert "bottle" in printed and "209" in printed  # MVTec AD's own count, beside ours


def test_data_sample_has_severity_and_mvtecs_counts(tmp_path):
    given = ("--size", 64, "--categories", "toothbrush", "--severity", 0.9, "--workers", 2)
    assert fastflow("data", "sample", tmp_path, "--like-mvtec", *given) == 0
    label = json.loads((tmp_path / "toothbrush" / "sample_set.json").read_text())
    assert label["severity"] == 0.9
    images = list((tmp_path / "toothbrush").glob("t*/*/*.png"))
    assert len(images) == sum(OFFICIAL_COUNTS["toothbrush"])


def test_data_check_names_problems(tiny, tmp_path, capsys):
    broken = tmp_path / "disc" / "train" / "good"
    broken.mkdir(parents=True)
    (broken / "000.png").write_bytes(b"no image")
    assert fastflow("data", "check", tmp_path) == 2
    printed = capsys.readouterr().out
    assert "000.png" in printed
    assert "None" not in printed  # MVTec AD has no such category, so no count


@pytest.mark.parametrize("method", [name for name in METHODS if name != "fastflow"])
def test_every_method_runs_and_predicts(method, tiny, tmp_path, capsys):
    assert run(tiny, tmp_path / "run", "--method", method) == 0
    printed = capsys.readouterr().out
    assert f"{method}, efficientnet_lite0, seed 0, no epochs, cpu in float32" in printed
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["image_auroc"] == 1 and metrics["pixel_auroc"] > 0.9
    assert (metrics["recipe"]["method"], metrics["epochs"]) == (method, 0)
    assert 0 < metrics["label_free"]["pixel_threshold"] < 1
    assert not (tmp_path / "run" / "history.csv").exists()
    figures = sorted(path.name for path in (tmp_path / "run" / "figures").iterdir())
    assert figures == ["gallery.png", "roc.png", "scores.png"]
    pictures, output = tiny / "disc" / "test", tmp_path / "out"
    assert fastflow("predict", tmp_path / "run" / "model", pictures, "--output", output) == 0
    table = pd.read_csv(output / "scores.csv")
    above = table["score"] >= metrics["label_free"]["image_threshold"]
    assert list(table["decision"] == "anomalous") == list(above) and above.any()
    assert all(above[["spot" in path or "blot" in path for path in table["path"]]])


MISTAKES = {
    "unknown category": (["run", "--data", "{tiny}", "--category", "dics"], "'disc'"),
    "no category": (["run", "--data", "{tiny}"], "disc"),
    "missing root": (["run", "--data", "nowhere", "--category", "disc"], "nowhere"),
    "unknown backbone": (
        ["run", "--data", "{tiny}", "--category", "disc", "--backbone", "resnt"],
        "no backbone",
    ),
    "unknown method": (
        ["run", "--data", "{tiny}", "--category", "disc", "--method", "padm"],
        "method: 'padm' in the recipe: expected one of fastflow, gaussian, padim, subspace",
    ),
    "epochs of what has none": (
        ["run", "--data", "{tiny}", "--category", "disc", "--method", "padim", "--epochs", "3"],
        "--epochs 3: padim has none",
    ),
    "epochs of many that have none": (
        ["reproduce", "--output", "{out}", "--methods", "padim,subspace", "--epochs", "3"],
        "--epochs 3: padim has none",
    ),
    "bad weights": (
        ["run", "--data", "{tiny}", "--category", "disc", "--weights", "none.pth"],
        "none.pth",
    ),
    "bad config": (["run", "--data", "{tiny}", "--category", "disc", "--config", "none"], "none"),
    "bad epochs": (["run", "--data", "{tiny}", "--category", "disc", "--epochs", "0"], "epochs"),
    "a seed of 67 bits": (
        ["run", "--data", "{tiny}", "--category", "disc", "--seed", "99999999999999999999"],
        "seed 99999999999999999999: expected a whole number from 0",
    ),
    "a negative seed": (
        ["run", "--data", "{tiny}", "--category", "disc", "--seed", "-1"],
        "seed -1: expected",
    ),
    "unknown precision": (["run", "--category", "disc", "--precision", "int8"], "int8"),
    "not a number": (["run", "--category", "disc", "--epochs", "many"], "--epochs"),
    "unknown option": (["run", "--categroy", "disc"], "categroy"),
    "unknown command": (["rum"], "rum"),
    "unknown device": (["run", "--category", "disc", "--device", "tpu"], "tpu"),
    "no model": (["predict", "{tiny}", "{tiny}"], "no model"),
    "threshold of nothing": (
        ["predict", "{model}", "{tiny}", "--threshold", "nan"],
        "threshold nan: expected a finite number",
    ),
    "maps of no kind": (
        ["predict", "{model}", "{tiny}", "--save", "npy,gif"],
        "save gif: expected any of npy, tiff, mask",
    ),
    "output of others": (
        ["predict", "{model}", "{tiny}", "--output", "{taken}"],
        "holds scores.csv, regions.csv, regions.json, not by this version",
    ),
    "missing archive": (["data", "import", "none.tar.xz", "{out}"], "none.tar.xz"),
    "sample of nothing": (["data", "sample", "{out}", "--categories", "botle"], "botle"),
    "sample of no severity": (["data", "sample", "{out}", "--severity", "2"], "[0, 1]"),
    "sample of a huge seed": (["data", "sample", "{out}", "--seed", 20 * "9"], "seed 9999"),
    "sample of a negative seed": (["data", "sample", "{out}", "--seed", "-1"], "seed -1"),
    "sixteenth category": (
        ["data", "sample", "{out}", "--like-mvtec", "--categories", "cushion"],
        "cushion",
    ),
    "check of nothing": (["data", "check", "nowhere"], "nowhere"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_end_in_one_line_and_exit_code_2(mistake, tiny, tmp_path, capsys):
    arguments, expected = MISTAKES[mistake]
    places = {name: tmp_path / name for name in ("out", "model", "taken")}
    for folder, files in {"model": ("config.json", "model.safetensors"), "taken": TABLES}.items():
        places[folder].mkdir()
        for name in files:
            (places[folder] / name).touch()
    arguments = [text.format(tiny=tiny, **places) for text in arguments]
    if arguments[0] in ("run", "predict") and "--output" not in arguments:
        arguments += ["--output", str(tmp_path / "results")]
    assert fastflow(*arguments) == 2
    message = capsys.readouterr().err
    assert expected in message
    assert message.startswith("error: ") and message.count("\n") == 1, message


@pytest.mark.parametrize(("there", "known"), [("good", True), ("spot", False)])
def test_a_test_split_of_one_kind_says_what_it_can(there, known, tiny, tmp_path, capsys):
    """Of good images alone the false-positive rate, of anomalous ones alone nothing."""
    data = tmp_path / "data"
    for folder in ("train", f"test/{there}", "ground_truth"):
        (data / "disc" / folder).parent.mkdir(parents=True, exist_ok=True)
        (data / "disc" / folder).symlink_to(tiny / "disc" / folder)
    assert run(data, tmp_path / "out", "--method", "gaussian") == 0
    printed = capsys.readouterr().out
    assert "image AUROC -" in printed and "note: the test split holds" in printed
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["image_auroc"] is None and metrics["intervals"]["image_auroc"] == [None, None]
    assert (metrics["label_free"]["image_fpr"] is not None) == known
    assert "false-positive rate" in printed


def test_a_region_is_for_categories_as_well(tiny, tmp_path, capsys):
    """Where nobody looks, nothing is found, and nothing is said to be missed."""
    assert run(tiny, tmp_path, "--method", "gaussian", "--region", "0,0,8,8") == 0
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["pixel_auroc"] is None and metrics["region"] == "0,0,8,8"
    assert "6 anomalous test images have their defects wholly outside" in str(metrics["notes"])
    assert "0,0,8,8" in (tmp_path / "card.md").read_text()
    picture = tiny / "disc" / "test" / "spot" / "000.png"
    maps = Detector.load(tmp_path / "model").predict(picture)[0]
    assert maps[..., 8:, :].max() == 0 and maps[..., :8, :8].max() > 0


def test_an_oblong_size_is_height_x_width(tiny, tmp_path, capsys):
    arguments = ("--data", tiny, "--category", "disc", "--method", "gaussian")
    size = ("--image-size", "64x96")
    assert fastflow("run", *arguments, *size, "--output", tmp_path) == 0
    assert json.loads((tmp_path / "metrics.json").read_text())["recipe"]["image_size"] == [64, 96]


def test_a_corrupt_mask_is_told_before_training(tiny, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(FastFlow, "fit", lambda *a, **k: pytest.fail("trained all the same"))
    shutil.copytree(tiny, tmp_path / "data")
    (tmp_path / "data/disc/ground_truth/spot/000_mask.png").write_bytes(b"no image")
    assert run(tmp_path / "data", tmp_path / "out") == 2
    assert "ground_truth/spot/000_mask.png" in capsys.readouterr().err


def test_masks_that_vanish_are_told_before_training(tiny, tmp_path, monkeypatch):
    def fit(*_: object, **__: object) -> None:
        raise InterruptedError("training begins")

    monkeypatch.setattr(FastFlow, "fit", fit)
    shutil.copytree(tiny, tmp_path / "data")
    for mask in (tmp_path / "data/disc/ground_truth/spot").iterdir():
        image = Image.new("L", (64, 64))
        image.putpixel((0, 0), 255)  # reading at half the size takes odd pixels
        image.save(mask)
    with pytest.warns(UserWarning, match="'spot': 3.*larger image size"):
        run(tmp_path / "data", tmp_path / "out", "--image-size", 32)


def test_output_that_cannot_be_written_is_told_before_training(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(FastFlow, "fit", lambda *a, **k: pytest.fail("trained all the same"))
    (tmp_path / "file").write_text("in the way")
    assert run(tiny, tmp_path / "file") == 2


def test_ctrl_c_keeps_the_model(tiny, tmp_path, monkeypatch, capsys):
    batches: list[int] = []

    def press(*_: object, **__: object) -> None:  # in the second batch
        batches.append(1)
        if len(batches) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", press)
    assert run(tiny, tmp_path) == 1
    assert capsys.readouterr().err == "interrupted: what was finished is kept\n"
    assert not (tmp_path / "metrics.json").exists()
    assert FastFlow.load(tmp_path / "model").backbone.image_size == 64


def test_ctrl_c_before_the_first_batch_leaves_no_model(tiny, tmp_path, monkeypatch):
    def press(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(FastFlow, "nll", press)
    assert run(tiny, tmp_path) == 1
    assert not (tmp_path / "model").exists()


def test_smoothing_beyond_the_image_is_told_before_training(tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(FastFlow, "fit", lambda *a, **k: pytest.fail("trained all the same"))
    (tmp_path / "wide.yaml").write_text("smoothing: 22")
    assert run(tiny, tmp_path / "out", "--config", tmp_path / "wide.yaml") == 2
    assert "smoothing: 22 in the recipe: expected a number from 0 to 21" in capsys.readouterr().err


def test_more_folds_than_images_are_told_before_anything_is_computed(tiny, tmp_path, capsys):
    (tmp_path / "folds.yaml").write_text("folds: 99")
    assert run(tiny, tmp_path / "out", "--config", tmp_path / "folds.yaml") == 2
    assert "folds: 99 in the recipe: expected at most" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_own_data_is_named_by_its_folder_whatever_its_category_is_called(tiny, tmp_path, capsys):
    """Twelve pictures in a folder called zipper are not MVTec AD's."""
    for root, data in {"factory": "factory", "MVTec AD": "folder MVTec AD"}.items():
        (tmp_path / root).mkdir()
        (tmp_path / root / "zipper").symlink_to(tiny / "disc")
        arguments = ("--data", tmp_path / root, "--category", "zipper", "--image-size", 64)
        output = tmp_path / "runs" / root
        assert fastflow("run", *arguments, "--epochs", 1, "--output", output) == 0
        assert json.loads((output / "metrics.json").read_text())["data"] == data
    capsys.readouterr()
    assert fastflow("report", tmp_path / "runs") == 0
    told = capsys.readouterr().out
    assert "image AUROC, factory" in told and "image AUROC, folder MVTec AD" in told
    assert "PatchCore" not in told and "paper" not in told


def test_a_failed_run_leaves_no_old_metrics(finished, tiny, tmp_path, monkeypatch):
    (tmp_path / "metrics.json").write_text("{}")

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(FastFlow, "fit", fail)
    with pytest.raises(RuntimeError, match="a bug"):
        run(tiny, tmp_path)
    assert not (tmp_path / "metrics.json").exists()


def test_help_is_plain_and_quick():
    script = Path(sys.executable).with_name("fastflow")
    done = subprocess.run([script, "--help"], capture_output=True, text=True)
    assert done.returncode == 0 and "predict" in done.stdout and done.stderr == ""


def test_real_images_the_whole_way(shared, tmp_path):
    """The default recipe as it comes, on a complete category, gives what is stored for its seed.

    `make results` has the other categories and backbones, and the bars. Processors round
    differently, hence the tolerances.
    """
    data = ("--data", shared / "data" / "mvtec", "--category", "bottle", "--device", "cpu")
    assert fastflow("run", *data, "--output", tmp_path) == 0
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    store = Path(__file__).with_name("benchmarks") / "results.json"
    runs = json.loads(store.read_text())["runs"]["efficientnet_lite0 bottle"]
    stored = next(run for run in runs if run["seed"] == 0)
    for name, tolerance in {
        "image_auroc": 0.02,
        "pixel_auroc": 0.003,
        "pixel_f1": 0.02,
        "aupro": 0.004,
    }.items():
        assert metrics[name] == pytest.approx(stored[name], abs=tolerance), name
