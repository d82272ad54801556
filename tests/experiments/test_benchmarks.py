"""The published tables say what was measured, with the recipes that are in the package."""

import inspect
import json
import math
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import ablation
import bars
import candidates
import cost
import course
import numpy as np
import pytest
import results
import sample_set
import speed

from fastflow_utils.experiments.animations import LIMIT
from fastflow_utils.experiments.recipes import recipe_for, recipe_of
from fastflow_utils.experiments.tables import CATEGORIES

ROOT = Path(__file__).resolve().parents[2]
STORE = json.loads(results.STORE.read_text())


def between(text: str, name: str) -> str:
    found = re.search(rf"<!-- begin {name} -->\n(.*)<!-- end {name} -->", text, re.DOTALL)
    assert found, f"no block '{name}'"
    return found[1].strip()


def of_any_precision(recipe: dict[str, object]) -> dict[str, object]:
    """A recipe as JSON holds it, without what the machine has decided."""
    return {name: value for name, value in recipe.items() if name != "precision"}


def today(name: str | None = None) -> dict[str, object]:
    return of_any_precision(json.loads(json.dumps(asdict(recipe_for(name)))))


def as_read_today(recipe: dict[str, object]) -> dict[str, object]:
    """A stored recipe with the fields that there were not yet."""
    known = {"precision": "float32"} | recipe  # the first ones did not say
    values: dict[str, object] = json.loads(json.dumps(asdict(recipe_of(known))))
    return values


def test_the_readme_shows_the_stored_results():
    page = (ROOT / "README.md").read_text()
    for name, block in results.blocks(STORE).items():
        assert between(page, name) == block.strip()


def with_resamples(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Runs as `make results` measures them today: every metric on resamples, with its interval."""
    noise = np.random.default_rng(0).normal(0, 0.02, 500)
    names = {*results.METRICS, *results.DECISIONS}
    return [
        run
        | {"replicates": {name: results.value(run, name) + noise for name in names}}
        | {"intervals": {name: [None, None] for name in names}}
        for run in runs
    ]


def test_every_method_has_a_row_with_intervals_once_there_are_resamples():
    runs = with_resamples(STORE["runs"]["resnet18 screw"])
    name = results.row_name("padim", "resnet18", "screw")
    stored = results.to_store(runs)
    assert "replicates" not in stored[0]
    more = {"runs": STORE["runs"] | {name: stored}, "intervals": {name: results.ends(runs)}}
    page = results.tables(json.loads(json.dumps(STORE | more)))
    (row, decided) = re.findall(r"^\|.*PaDiM, run here, ResNet18\W.*$", page, re.MULTILINE)
    mean = sum(run["image_auroc"] for run in runs) / len(runs)
    assert f"| {mean:.3f} (" in row and row.count("–") == len(results.METRICS)
    assert decided.count("–") == len(results.DECISIONS)
    low, high = results.ends(runs)["image_auroc"]
    assert low < mean - 0.03 and mean + 0.03 < high
    assert "Ours: mean of 3 seeds (95 % interval" in page and "± is the" in page


def test_the_sample_sets_tables_have_intervals_once_there_are_resamples():
    drawn = with_resamples(STORE["sample_set"])
    table = results.sample_set_table(STORE["sample_set"], results.sample_set_ends(drawn))
    assert "±" not in table and table.count("–") == 16 * len(results.COLUMNS)
    formats = with_resamples(STORE["formats"])
    judged = results.judged_formats(formats)
    assert judged.keys() == results.METRICS.keys()
    assert "test images and seeds together" in results.formats_table(STORE["formats"], judged)


def test_the_pages_show_the_stored_cost():
    stored = json.loads(cost.STORE.read_text())
    assert between((ROOT / "README.md").read_text(), "cost") == cost.table(stored).strip()
    assert between(cost.PAGE.read_text(), "cost") == cost.details(stored).strip()


def test_the_sample_sets_results_are_of_todays_recipe_and_of_all_fifteen():
    assert {(run["category"], run["seed"]) for run in STORE["sample_set"]} == {
        (name, seed) for name in CATEGORIES for seed in results.SEEDS
    }
    for run in STORE["sample_set"]:
        assert of_any_precision(as_read_today(run["recipe"])) == today(), (
            "measure again: make results"
        )
    assert results.WALL.stat().st_size <= LIMIT


def test_the_readme_shows_the_stored_speed():
    stored = json.loads(speed.STORE.read_text())
    assert between((ROOT / "README.md").read_text(), "speed") == speed.table(stored).strip()


def test_the_page_shows_the_stored_arithmetic():
    stored = json.loads(speed.STORE.read_text())
    assert between(speed.PAGE.read_text(), "arithmetic") == speed.details(stored).strip()


def test_the_peer_was_measured_on_every_category_that_has_a_bar():
    compared = {name.split()[1] for name in results.BARS if name.startswith("resnet18")}
    assert compared <= set(STORE["peer"])
    assert set(STORE["peer"]) <= set(STORE["images"]) <= set(results.CATEGORIES)


def test_the_ablation_page_shows_the_stored_results():
    stored = json.loads(ablation.STORE.read_text())
    assert between(ablation.PAGE.read_text(), "ablation") == ablation.report(stored).strip()


def test_the_candidates_page_shows_the_stored_results():
    stored = json.loads(candidates.STORE.read_text())
    assert between(candidates.PAGE.read_text(), "candidates") == candidates.page(stored).strip()
    assert of_any_precision(as_read_today(stored["recipe"])) == today(), (
        "measure again: candidates.py"
    )


def test_every_interval_that_the_page_names_is_in_its_tables():
    page = ablation.PAGE.read_text().partition("<!-- end candidates -->")[2]
    text, _, rest = page.partition("<!-- begin ablation -->")
    named = re.findall(r"[+-]\d\.\d+ to [+-]\d\.\d+", text)
    assert len(named) > 10
    assert [interval for interval in named if f"| {interval} |" not in rest] == []


@pytest.mark.parametrize("name", results.BARS)
def test_the_stored_results_are_of_todays_recipe(name):
    runs = STORE["runs"][name]
    assert sorted(run["seed"] for run in runs) == list(results.SEEDS)
    for run in runs:
        expected = today(name.split()[0])
        assert of_any_precision(as_read_today(run["recipe"])) == expected, (
            "measure again: make results DATA=... WEIGHTS=..."
        )
        assert run["protocol"] == "last epoch"


def test_the_sample_set_page_shows_the_stored_results():
    stored = json.loads(sample_set.STORE.read_text())
    assert between(sample_set.PAGE.read_text(), "sample-set") == sample_set.tables(stored).strip()


def test_the_stored_results_are_of_todays_sample_set():
    stored = json.loads(sample_set.STORE.read_text())
    assert stored["version"] == sample_set.VERSION, "measure again: make sample-set"
    looks = sample_set.looks()
    assert stored["looks"].keys() == looks.keys()
    for name, values in looks.items():
        assert values == pytest.approx(stored["looks"][name], abs=0.3), name


def test_the_pages_show_the_stored_results_of_the_course():
    stored = json.loads(course.STORE.read_text())
    assert between((ROOT / "README.md").read_text(), "course") == course.series(stored).strip()
    assert between(course.PAGE.read_text(), "course") == course.tables(stored).strip()


def test_the_stored_sizes_are_of_todays_notebooks():
    stored = json.loads(course.STORE.read_text())["notebooks"]
    assert list(stored) == [path.stem for path in course.COURSE]
    for path in course.COURSE:
        assert course.size(path).items() <= stored[path.stem].items(), "run: make course"


# The bars: a benchmark holds what it measured to them


Place = tuple[str | int, ...]


def spoiled(value: Any, path: Place, bad: Any) -> Any:
    """Return a store's copy with another value at a path; "*" is every key or place."""
    if not path:
        return bad
    first, *rest = path
    places = list(value) if isinstance(value, dict) else range(len(value))
    copies = {
        place: spoiled(value[place], tuple(rest), bad) if first in ("*", place) else value[place]
        for place in places
    }
    return copies if isinstance(value, dict) else [*copies.values()]


MODE = ("modes", speed.PLAIN)

MISSED: list[tuple[Any, Place, Any, str]] = [
    (
        results,
        ("runs", "resnet18 bottle", "*", "pixel_auroc"),
        0.9,
        "resnet18 bottle, pixel_auroc",
    ),
    (results, ("runs", "resnet18 screw", 1, "aupro"), 0.0, "resnet18 screw, aupro"),
    (
        results,
        ("sample_set", "*", "image_auroc"),
        0.5,
        "sample set, image_auroc: 0.5, expected at",
    ),
    (results, ("sample_set", "*", "image_auroc"), 1.0, "expected at most 0.99"),
    (results, ("sample_set", 3, "image_auroc"), math.nan, "sample set, image_auroc: nan"),
    (speed, (*MODE, "quality", "bottle", "ours", "*", "seconds"), [1e9], "resnet18 on bottle"),
    (speed, (*MODE, "quality", "*", "ours", "*", "seconds"), [None], "lite0 on bottle"),
    (
        speed,
        (*MODE, "inference", "peer", "*", "batch of 16"),
        1.0,
        "milliseconds of a batch of 16",
    ),
    (speed, (*MODE, "inference", "resnet18", "*", "flow"), 1e6, "resnet18, flow over backbone"),
    (speed, (*MODE, "starts", "fastflow recipes"), [[99, 99]], "fastflow recipes / import numpy"),
    (speed, (*MODE, "starts", speed.IMPORT), [[99, 99]], f"{speed.IMPORT} / import torch"),
    (speed, (*MODE, "runs", speed.BOTTLE, "*", "command"), 900.0, "fastflow run on bottle"),
    (speed, (*MODE, "runs", speed.SCREW, "*", "peak_mb"), 2000, "2000, expected at most 1200"),
    (speed, ("growth", "images", "exponent of total"), 2.0, "exponent: 2, expected at most 1.05"),
    (
        speed,
        ("growth", "image_size", "exponent of total"),
        2.0,
        "exponent: 2, expected at most 1.5",
    ),
    (
        sample_set,
        ("runs", "*", "*", "pixel_gaussian"),
        0.9,
        "seed 2, mean image AUROC of the pixel",
    ),
    (sample_set, ("runs", "*", "*", "image_auroc"), 0.8, "seed 0, mean image AUROC: 0.8"),
    (sample_set, ("runs", "*", "*", "image_auroc"), 1.0, "seed 1, categories with an image AUROC"),
    (sample_set, ("runs", "pill", 2, "image_auroc"), 0.4, "seed 2, image AUROC of pill: 0.4"),
    (sample_set, ("cost", "seconds"), 60, "seconds to make it: 60"),
    (sample_set, ("cost", "megabytes"), 61, "megabytes: 61, expected at most 60"),
    (course, ("notebooks", "02_features", "seconds"), 61, "seconds of 02_features: 61"),
    (course, ("notebooks", "*", "seconds"), 80, "seconds of all notebooks: 640"),
    (course, ("notebooks", "*", "delays"), {"1 image": [900.0]}, "milliseconds of image in 08"),
    (course, ("notebooks", "*", "delays"), {}, "controls measured: 0"),
    (cost, ("checks", "resnet18", "total"), 1.0, "resnet18, worked out / measured"),
    (cost, ("checks", "resnet18", "total"), 1e6, "resnet18, worked out / measured: "),
    (cost, ("backbones", "resnet18", "runs", "*", "seconds", "train"), 1.0, "of training"),
]


@pytest.mark.parametrize(("benchmark", "path", "bad", "sentence"), MISSED)
def test_a_result_that_misses_a_bar_is_named(benchmark, path, bad, sentence):
    stored = json.loads(benchmark.STORE.read_text())
    found = set(benchmark.missed(spoiled(stored, path, bad))) - set(benchmark.missed(stored))
    assert any(sentence in one for one in found), found


def test_a_missed_bar_ends_the_command_with_exit_code_1():
    bars.stop_if_missed([])
    with pytest.raises(SystemExit) as end:
        bars.stop_if_missed([*bars.at_most("seconds", 41, 40), *bars.at_least("AUROC", 0.5, 0.9)])
    assert end.value.code == (  # a text: Python prints it and leaves with 1
        "missed: seconds: 41, expected at most 40\nmissed: AUROC: 0.5, expected at least 0.9"
    )


@pytest.mark.parametrize("benchmark", [results, speed, sample_set, course, cost])
def test_a_benchmark_writes_its_results_before_it_stops(benchmark):
    """Whatever it measured is kept, whether or not it reaches the bars."""
    lines = inspect.getsource(benchmark.main)
    assert lines.index("written(") < lines.index("stop_if_missed(missed(store))")
