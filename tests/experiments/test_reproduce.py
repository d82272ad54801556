"""A reproduction does each run once, whatever is killed, broken or going on beside it."""

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import ray
from filelock import FileLock
from PIL import Image
from test_cli import fastflow

from fastflow_utils.compute import Precision
from fastflow_utils.data.layout import digest
from fastflow_utils.detector import features
from fastflow_utils.detector.backbones import Backbone
from fastflow_utils.detector.choices import METHODS
from fastflow_utils.detector.model import FastFlow
from fastflow_utils.errors import FastFlowError
from fastflow_utils.experiments.engines import Lost, local, on_ray
from fastflow_utils.experiments.recipes import recipe_for
from fastflow_utils.experiments.report import FORMATS
from fastflow_utils.experiments.reproduce import Job, Outcome, plan, reproduce
from fastflow_utils.experiments.run import run

RECIPE = recipe_for(image_size=64, epochs=1)
BOTH = get_args(Precision)
START = "from fastflow_utils.cli import main; main()"
ONE_THREAD = {"device": "cpu", "threads": 1}


@pytest.fixture(scope="module")
def pair(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root with two categories: 'disc', and 'plate', which lacks one kind of defect."""
    root = tmp_path_factory.mktemp("pair")
    for name in ("disc", "plate"):
        shutil.copytree(tiny / "disc", root / name)
    shutil.rmtree(root / "plate" / "test" / "blot")
    return root


@pytest.fixture(scope="module")
def jobs(pair: Path) -> list[Job]:
    return plan(pair, [RECIPE], seeds=(0, 1))


@pytest.fixture(scope="module")
def runs(jobs: list[Job], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All four, one after the other, never interrupted."""
    output = tmp_path_factory.mktemp("runs")
    outcomes = reproduce(jobs, output, **ONE_THREAD)
    assert [outcome.error for outcome in outcomes] == [None] * 4
    return output


def metrics_of(output: Path) -> dict[str, dict[str, object]]:
    """Everything measured below a folder but for seconds, by the place of the run."""
    return {
        str(file.parent.relative_to(output)): {
            name: value
            for name, value in json.loads(file.read_text()).items()
            if name != "seconds"
        }
        for file in sorted(output.rglob("metrics.json"))
    }


def stamps(output: Path) -> dict[Path, int]:
    return {file: file.stat().st_mtime_ns for file in output.rglob("metrics.json")}


# Identity


def test_every_fact_has_a_key_of_its_own(pair):
    usual = plan(pair, [RECIPE], names=["disc"])[0]
    others = [
        replace(usual, seed=1),
        replace(usual, category="plate"),
        replace(usual, recipe=RECIPE.changed(steps=4)),
        replace(usual, data_sha256="other"),
        replace(usual, weights_sha256="other"),
        replace(usual, versions=usual.versions | {"torch": "other"}),
        replace(usual, code_sha256="other"),
        *(replace(usual, recipe=RECIPE.changed(precision=precision)) for precision in BOTH),
    ]
    assert len({job.key for job in [usual, *others]}) == 9, "one of both is the usual one"


def test_a_machine_with_other_versions_is_refused(jobs, tmp_path):
    other = replace(jobs[0], versions={"torch": "0.0"})
    assert other.key != jobs[0].key
    (outcome,) = reproduce([other], tmp_path, **ONE_THREAD)
    assert "'torch': '0.0'" in outcome.error and not stamps(tmp_path)


def test_a_machine_with_other_code_is_refused(jobs, tmp_path):
    (outcome,) = reproduce([replace(jobs[0], code_sha256="f" * 64)], tmp_path, **ONE_THREAD)
    assert "'code': 'ffffffffffff'" in outcome.error and not stamps(tmp_path)


def test_a_machine_computes_in_the_planned_precision(pair, tmp_path, monkeypatch):
    """Whatever it would choose by itself: two machines of one table do not differ in it."""
    planned, other = BOTH
    monkeypatch.setenv("FASTFLOW_PRECISION", planned)
    jobs = plan(pair, [recipe_for(image_size=64, epochs=1)], names=["disc"])
    monkeypatch.setenv("FASTFLOW_PRECISION", other)
    (outcome,) = reproduce(jobs, tmp_path, **ONE_THREAD)
    assert outcome.metrics["recipe"]["precision"] == planned
    assert FastFlow.load(tmp_path / jobs[0].place / "model").precision == planned
    again = plan(pair, [recipe_for(image_size=64, epochs=1)], names=["disc"])
    assert again[0].key != jobs[0].key, "asked anew, it is another run"


def test_data_is_its_bytes_and_their_places(tiny, tmp_path):
    shutil.copytree(tiny / "disc", tmp_path / "disc")
    assert digest(tmp_path, "disc") == digest(tiny, "disc")
    (tmp_path / "disc" / "train" / "good" / ".DS_Store").touch()
    assert digest(tmp_path, "disc") == digest(tiny, "disc"), "what is hidden does not count"
    first = tmp_path / "disc" / "train" / "good" / "000.png"
    first.rename(first.with_name("999.png"))
    moved = digest(tmp_path, "disc")
    first.with_name("999.png").write_bytes(first.with_name("001.png").read_bytes())
    assert len({digest(tiny, "disc"), moved, digest(tmp_path, "disc")}) == 3


def test_images_behind_a_link_count(tiny, tmp_path):
    shutil.copytree(tiny / "disc", tmp_path / "root" / "disc")
    shutil.move(tmp_path / "root" / "disc" / "train", tmp_path / "train")
    (tmp_path / "root" / "disc" / "train").symlink_to(tmp_path / "train")
    before = digest(tmp_path / "root", "disc")
    assert before == digest(tiny, "disc")
    first, second = sorted((tmp_path / "train" / "good").iterdir())[:2]
    first.write_bytes(second.read_bytes())
    assert digest(tmp_path / "root", "disc") != before


def test_plan_takes_the_seeds_of_a_category_in_a_row(pair):
    both = [RECIPE, RECIPE.changed(backbone="resnet18")]
    order = [(j.recipe.backbone, j.category, j.seed) for j in plan(pair, both, seeds=(3, 1))]
    expected = [
        (backbone, name, seed)
        for backbone in ("efficientnet_lite0", "resnet18")
        for name in ("disc", "plate")
        for seed in (3, 1)
    ]
    assert order == expected


@pytest.mark.parametrize(
    ("wrong", "told"),
    {
        "unknown category": ({"names": ["dics"]}, "dics"),
        "no category": ({"names": []}, "categories: none"),
        "a seed twice": ({"seeds": (0, 0)}, "seeds: 0, 0"),
        "a seed too large": ({"seeds": (0, 2**64)}, "seed 18446744073709551616"),
        "a negative seed": ({"seeds": (-1,)}, "seed -1"),
        "no seed": ({"seeds": (True,)}, "seed True"),
        "weights that are not there": (
            {"weights": {"efficientnet_lite0": Path("nowhere.pth")}},
            "nowhere.pth",
        ),
        "weights of nobody": ({"weights": {"resnet18": Path(__file__)}}, "resnet18"),
    }.values(),
)
def test_a_plan_that_cannot_be_is_refused(pair, wrong, told):
    with pytest.raises(FastFlowError, match=told):
        plan(pair, [RECIPE], **wrong)


# Once, and once only


def test_each_run_has_its_own_folder_and_says_what_it_started_from(runs, jobs, pair):
    assert {runs / job.place for job in jobs} == {file.parent for file in stamps(runs)}
    for job in jobs:
        about = json.loads((runs / job.place / "run.json").read_text())
        assert (about["status"], about["error"], about["threads"]) == ("finished", None, 1)
        assert (about["data"], about["root"]) == (pair.name, str(pair))
        assert about["key"] == job.key and about["data_sha256"] == job.data_sha256
        assert about.items() >= json.loads(json.dumps(job.facts)).items()


def test_features_are_shared_by_seeds_and_gone_at_the_end(pair, tmp_path, monkeypatch):
    computed = []
    compute = features._compute

    def count(*arguments: object) -> None:
        computed.append(arguments[2])
        compute(*arguments)

    monkeypatch.setattr("fastflow_utils.detector.features._compute", count)
    reproduce(plan(pair, [RECIPE], names=["disc"], seeds=(0, 1)), tmp_path, **ONE_THREAD)
    assert len(computed) == 2, "train and test, once for both seeds"
    assert not (tmp_path / ".features").exists()


def test_what_is_there_is_not_repeated(runs, jobs):
    before, lines = stamps(runs), []
    again = reproduce(jobs, runs, tell=lines.append, **ONE_THREAD)
    assert stamps(runs) == before and lines == ["4 runs: 4 are there, 0 to do"]
    assert [outcome.metrics["seed"] for outcome in again] == [0, 1, 0, 1]


def test_another_recipe_is_run_beside_the_old_one(runs, pair, jobs, tmp_path):
    shutil.copytree(runs, tmp_path, dirs_exist_ok=True)
    before = stamps(tmp_path)
    changed = plan(pair, [RECIPE.changed(steps=2)], names=["disc"])
    reproduce(changed, tmp_path, **ONE_THREAD)
    assert len(stamps(tmp_path)) == 5 and stamps(tmp_path).items() > before.items()


def test_half_a_file_is_no_finished_run(runs, jobs, tmp_path):
    shutil.copytree(runs, tmp_path, dirs_exist_ok=True)
    file = tmp_path / jobs[0].place / "metrics.json"
    file.write_text(file.read_text()[:100])
    reproduce(jobs, tmp_path, **ONE_THREAD)
    assert metrics_of(tmp_path) == metrics_of(runs)


# What goes wrong


def test_a_broken_image_costs_its_own_runs_only(runs, pair, tmp_path, capsys):
    root, output = tmp_path / pair.name, tmp_path / "runs"
    shutil.copytree(pair, root)
    broken = root / "disc" / "test" / "good" / "002.png"
    whole = broken.read_bytes()
    broken.write_bytes(whole[:200])
    quick = ("--image-size", 64, "--epochs", 1, "--device", "cpu", "--seeds", "0,1")
    command = ("reproduce", "--data", root, "--output", output, "--threads", 1, *quick)
    assert fastflow(*command) == 1
    told = capsys.readouterr()
    assert told.err.count("error: disc") == 2 and "test/good/002.png" in told.err
    assert "Traceback" not in told.err
    plates = {place: one for place, one in metrics_of(runs).items() if "plate" in place}
    assert metrics_of(output) == plates
    (about,) = {f.read_text() for f in output.rglob("disc/seed0-*/run.json")}
    assert json.loads(about)["status"] == "failed" and "002.png" in json.loads(about)["error"]
    before = stamps(output)
    broken.write_bytes(whole)
    assert fastflow(*command) == 0
    assert metrics_of(output) == metrics_of(runs) and stamps(output).items() > before.items()


def test_processes_give_the_same_metrics_as_one_after_the_other(runs, jobs, tmp_path):
    reproduce(jobs, tmp_path, engine=local(2), **ONE_THREAD)
    assert metrics_of(tmp_path) == metrics_of(runs)


def test_ray_gives_the_same_metrics(runs, jobs, tmp_path):
    reproduce(jobs, tmp_path, engine=on_ray(jobs=2), **ONE_THREAD)
    ray.shutdown()
    assert metrics_of(tmp_path) == metrics_of(runs)


def test_features_that_another_process_works_on_are_left(jobs, tmp_path):
    """It works on another seed of the category; the command here has nothing to do with that."""
    theirs = replace(jobs[0], seed=7)
    (tmp_path / theirs.place).mkdir(parents=True)
    with FileLock(tmp_path / theirs.place / "lock"):
        reproduce(jobs[:1], tmp_path, **ONE_THREAD)
        assert list((tmp_path / ".features").rglob("manifest.json"))
    reproduce(jobs[:1], tmp_path, **ONE_THREAD)
    assert not (tmp_path / ".features").exists()


def test_config_names_the_backbone(runs, jobs, pair, tmp_path, capsys):
    """A saved recipe is all that the command needs."""
    recipe = tmp_path / "recipe.yaml"
    jobs[0].recipe.changed(steps=2).save(recipe)
    command = ("reproduce", "--data", pair, "--categories", "disc", "--config", recipe)
    assert fastflow(*command, "--output", tmp_path / "runs", "--device", "cpu") == 0
    (saved,) = (tmp_path / "runs").rglob("recipe.yaml")
    assert saved.read_text() == recipe.read_text()


def test_a_run_that_another_process_works_on_is_left_until_the_end(runs, jobs, tmp_path):
    shutil.copytree(runs, tmp_path, dirs_exist_ok=True)
    places = [tmp_path / job.place for job in jobs[:2]]
    for place in places:
        (place / "metrics.json").unlink()
    lines: list[str] = []
    lock = FileLock(places[0] / "lock")
    lock.acquire()

    def tell(line: str) -> None:
        lines.append(line)
        if "seed 1" in line:  # the other run is done: now the other process is, too
            lock.release()

    reproduce(jobs, tmp_path, tell=tell, **ONE_THREAD)
    assert ["seed 1" in lines[1], "seed 0" in lines[2]] == [True, True]
    assert metrics_of(tmp_path) == metrics_of(runs)


def test_a_run_whose_process_died_is_written_down_and_told(jobs, tmp_path):
    def engine(task: object, todo: list[Job]) -> Iterator[tuple[Job, Lost]]:
        yield from ((job, Lost("its process died")) for job in todo)

    lines: list[str] = []
    outcomes = reproduce(jobs[:1], tmp_path, engine=engine, tell=lines.append)
    assert outcomes == [Outcome(jobs[0], error="its process died")]
    assert "its process died" in lines[1]
    about = json.loads((tmp_path / jobs[0].place / "run.json").read_text())
    assert (about["status"], about["error"]) == ("failed", "its process died")


def test_killed_and_started_again_it_ends_the_same(runs, pair, tmp_path):
    command = [sys.executable, "-c", START, "reproduce", "--data", pair, "--output", tmp_path]
    command += ["--seeds", "0,1", "--image-size", 64, "--epochs", 1, "--device", "cpu"]
    command = [*map(str, command), "--jobs", "2", "--threads", "1"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    while process.poll() is None and not list(tmp_path.rglob("run.json")):
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert len(stamps(tmp_path)) < 4, "killed too late to test anything"
    reproduce(plan(pair, [RECIPE], seeds=(0, 1)), tmp_path, **ONE_THREAD)
    assert metrics_of(tmp_path) == metrics_of(runs)


# The command line


@pytest.mark.parametrize(
    "mistake",
    [
        ("--seeds", "0,x"),
        ("--seeds", ","),
        ("--seeds", "0,99999999999999999999"),
        ("--seeds", "9" * 5000),
        ("--precision", "int8"),
        ("--categories", "disc,dics"),
        ("--weights", "resnet18.pth"),
        ("--weights", "resnet18=resnet18.pth"),
        ("--address", "auto"),
        ("--engine", "ray", "--device", "cuda"),
        ("--engine", "ray", "--gpus", "1.5"),
        ("--backbones", ""),
        ("--backbones", "resnet18,resnet18"),
        ("--methods", ""),
        ("--methods", "padim,padm"),
        ("--methods", "padim,padim"),
        ("--jobs", "0"),
        ("--engine", "cloud"),
        ("--epochs", "0"),
    ],
    ids=lambda mistake: " ".join(mistake)[:40],
)
def test_mistakes_end_in_one_line_before_anything_runs(mistake, pair, tmp_path, capsys):
    output = tmp_path / "runs"
    assert fastflow("reproduce", "--data", pair, "--output", output, *mistake) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: ") and told.count("\n") == 1
    assert not output.exists()


def test_report_and_animate_take_what_reproduce_leaves(runs, pair, tmp_path, capsys):
    """Other categories than the fifteen have tables of their own, beside no published row."""
    assert fastflow("report", runs) == 0
    told = capsys.readouterr().out
    assert f"### image AUROC, {pair.name}" in told and "Avg | disc | plate |" in told
    assert "PatchCore" not in told
    assert fastflow("animate", runs, "--output", tmp_path) == 0
    shown = capsys.readouterr().out.splitlines()
    files = [Path(line.partition(" (")[0]) for line in shown]
    assert {file.name for file in files} >= {"disc.gif", "disc.webp", "plate.gif", "wall.webp"}
    assert all(0 < file.stat().st_size <= 3_000_000 for file in files)


def test_all_methods_share_folders_features_and_tables(tiny, tmp_path, capsys, monkeypatch):
    passes, extract = [], features._compute
    monkeypatch.setattr(features, "_compute", lambda *a: (passes.append(1), extract(*a)))
    output = tmp_path / "runs"
    few = ("--data", tiny, "--image-size", 64, "--epochs", 1, "--device", "cpu")
    given = ("--output", output, "--methods", ",".join(METHODS))
    assert fastflow("reproduce", *few, *given) == 0
    assert len(passes) == 2, "training and test images, once for all methods"
    assert not (output / ".features").exists()
    kept = stamps(output)
    places = sorted(file.relative_to(output).parent.parent.as_posix() for file in kept)
    own = [f"efficientnet_lite0/disc/{name}" for name in METHODS if name != "fastflow"]
    assert places == sorted(["efficientnet_lite0/disc", *own])
    assert fastflow("reproduce", *few, *given) == 0
    assert stamps(output) == kept and "5 are there, 0 to do" in capsys.readouterr().out
    assert fastflow("report", output) == 0
    told = capsys.readouterr().out
    names = ["efficientnet_lite0, image_size 64, epochs 1"]
    names += [f"{place.split('/')[2]}, efficientnet_lite0, image_size 64" for place in own]
    assert all(f"| ours, {name} |" in told for name in names)
    assert fastflow("animate", output, "--output", tmp_path / "shown") == 0
    folders = {file.parent.parent.name for file in (tmp_path / "shown").rglob("wall.gif")}
    others = {f"efficientnet_lite0-{name}" for name in METHODS if name != "fastflow"}
    assert folders == {"efficientnet_lite0", *others}


def test_a_methods_jobs_have_places_of_their_own(pair):
    recipes = [RECIPE.changed(method=method) for method in METHODS]
    planned = plan(pair, recipes, seeds=(0, 1))
    assert len({job.place for job in planned}) == len(planned) == 20
    assert [job.category for job in planned] == ["disc"] * 10 + ["plate"] * 10, "features once"
    assert str(planned[2]) == "disc, gaussian, efficientnet_lite0, seed 0"
    assert planned[0].place.parent == Path("efficientnet_lite0", "disc")


@pytest.mark.parametrize("command", ["report", "animate"])
def test_an_empty_folder_is_told(command, tmp_path, capsys):
    output = ("--output", tmp_path / "out") if command == "animate" else ()
    assert fastflow(command, tmp_path, *output) == 2
    assert "no finished run" in capsys.readouterr().err


@pytest.mark.parametrize("format", FORMATS)
def test_report_writes_each_format(format, tmp_path, capsys):
    metrics = dict.fromkeys(["image_auroc", "pixel_auroc", "pixel_f1", "aupro"], 0.5)
    metrics |= {"category": "tile", "seed": 0, "recipe": asdict(RECIPE), "device": "cpu"}
    metrics |= {"data": "MVTec AD", "sample_set": False}
    (tmp_path / "metrics.json").write_text(json.dumps(metrics))
    assert fastflow("report", tmp_path, "--format", format) == 0
    assert "0.5" in (told := capsys.readouterr()).out
    assert "last epoch" in told.out and ("dash" in told.err) == (format == "csv")


def test_masks_that_vanish_cost_no_run(tiny, tmp_path, capsys):
    """It ended after the training, with the model saved and no metrics."""
    root = tmp_path / "data"
    shutil.copytree(tiny / "disc", root / "disc")
    for file in (root / "disc" / "ground_truth").rglob("*.png"):
        pixels = np.zeros((256, 256), np.uint8)
        pixels[1, 1] = 255  # gone at 64 px
        Image.fromarray(pixels).save(file)
        image = root / "disc" / "test" / file.parent.name / file.name.replace("_mask", "")
        Image.open(image).resize((256, 256)).save(image)
    with pytest.warns(UserWarning, match="nothing is left"):
        [outcome] = reproduce(plan(root, [RECIPE]), tmp_path / "runs", **ONE_THREAD)
    assert outcome.error is None and outcome.metrics is not None
    assert outcome.metrics["image_auroc"] is not None and outcome.metrics["pixel_auroc"] is None
    assert any("empty at 64 px" in note for note in outcome.metrics["notes"])
    text = (tmp_path / "runs" / outcome.job.place / "metrics.json").read_text()
    assert "NaN" not in text, "JSON has no such word"
    assert fastflow("report", tmp_path / "runs") == 0
    printed = capsys.readouterr().out
    assert "empty at 64 px" in printed and "–" in printed


def test_images_that_changed_since_the_plan_are_not_run_under_its_key(pair, tmp_path):
    root = tmp_path / "data"
    shutil.copytree(pair / "disc", root / "disc")
    [job] = plan(root, [RECIPE])
    (root / "disc" / "train" / "good" / "000.png").unlink()
    [outcome] = reproduce([job], tmp_path / "runs", **ONE_THREAD)
    assert "have changed since the plan" in outcome.error


def test_a_backbone_that_is_not_the_recipes_is_refused(pair, tmp_path):
    other = Backbone("efficientnet_lite0", image_size=96)
    with pytest.raises(FastFlowError, match="at 96 px is not the recipe's"):
        run(RECIPE, pair, "disc", tmp_path, backbone=other)
