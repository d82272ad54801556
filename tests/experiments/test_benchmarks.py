"""The published tables say what was measured, with the recipes that are in the package."""

import json
import re
from dataclasses import asdict
from pathlib import Path
from statistics import mean, median

import ablation
import cost
import course
import pytest
import results
import sample_set
import speed

from fastflow_utils.experiments.animations import LIMIT
from fastflow_utils.experiments.recipes import recipe_for
from fastflow_utils.experiments.tables import CATEGORIES

ROOT = Path(__file__).resolve().parents[2]
STORE = json.loads(results.STORE.read_text())

# The least that the recipes must reach, mean of three seeds, last epoch.
BARS = {
    "resnet18 bottle": (0.999, 0.982, 0.70, 0.94),
    "resnet18 metal_nut": (0.992, 0.975, 0.75, 0.90),
    "resnet18 screw": (0.90, 0.98, 0.25, 0.90),
    "efficientnet_lite0 bottle": (0.998, 0.980, 0.68, 0),
    "efficientnet_lite0 metal_nut": (0.985, 0.970, 0.72, 0),
    "efficientnet_lite0 screw": (0.80, 0.97, 0.15, 0),
}


def between(text: str, name: str) -> str:
    found = re.search(rf"<!-- begin {name} -->\n(.*)<!-- end {name} -->", text, re.DOTALL)
    assert found, f"no block '{name}'"
    return found[1].strip()


def of_any_precision(recipe: dict[str, object]) -> dict[str, object]:
    """A recipe as JSON holds it, without what the machine has decided."""
    return {name: value for name, value in recipe.items() if name != "precision"}


def today(name: str | None = None) -> dict[str, object]:
    return of_any_precision(json.loads(json.dumps(asdict(recipe_for(name)))))


def test_the_readme_shows_the_stored_results():
    page = (ROOT / "README.md").read_text()
    for name, block in results.blocks(STORE).items():
        assert between(page, name) == block.strip()


def test_the_pages_show_the_stored_cost():
    stored = json.loads(cost.STORE.read_text())
    assert between((ROOT / "README.md").read_text(), "cost") == cost.table(stored).strip()
    assert between(cost.PAGE.read_text(), "cost") == cost.details(stored).strip()


def test_the_sample_sets_results_are_of_todays_recipe_and_of_all_fifteen():
    """Stored measurements of one set of images; how hard it is, `make sample-set` says."""
    assert {(run["category"], run["seed"]) for run in STORE["sample_set"]} == {
        (name, seed) for name in CATEGORIES for seed in results.SEEDS
    }
    for run in STORE["sample_set"]:
        assert of_any_precision(run["recipe"]) == today(), "measure again: make results"
    assert 0.93 <= mean(run["image_auroc"] for run in STORE["sample_set"]) <= 0.99
    assert results.WALL.stat().st_size <= LIMIT


def test_the_readme_shows_the_stored_speed():
    stored = json.loads(speed.STORE.read_text())
    assert between((ROOT / "README.md").read_text(), "speed") == speed.table(stored).strip()


def test_the_stored_speed_reaches_the_bars():
    """Stored measurements: no clock runs here."""
    stored = json.loads(speed.STORE.read_text())
    for measured in stored["quality"].values():
        for backbone, share in {"efficientnet_lite0": 1 / 10, "resnet18": 1 / 4}.items():
            ours = median(measured["ours"][backbone]["seconds"])
            assert ours <= share * measured["peer"]["seconds"]
    ours, peer = (
        speed.median(stored["inference"][side], "batch of 16")
        for side in ("efficientnet_lite0", "peer")
    )
    assert ours <= peer / 3
    assert speed.median(stored["runs"]["bottle, default"], "total") <= 40
    assert stored["growth"]["images"]["exponent of total"] <= 1.05


def test_the_peer_was_measured_on_every_category():
    assert sorted(STORE["peer"]) == sorted(results.CATEGORIES)


def test_the_ablation_page_shows_the_stored_measurements():
    stored = json.loads(ablation.STORE.read_text())
    assert between(ablation.PAGE.read_text(), "ablation") == ablation.report(stored).strip()


@pytest.mark.parametrize("name", BARS)
def test_the_stored_results_are_of_todays_recipe_and_reach_the_bars(name):
    runs = STORE["runs"][name]
    assert sorted(run["seed"] for run in runs) == list(results.SEEDS)
    for run in runs:
        expected = today(name.split()[0])
        assert of_any_precision(run["recipe"]) == expected, (
            "measure again: make results DATA=... WEIGHTS=..."
        )
        assert run["protocol"] == "last epoch"
    metrics = ("image_auroc", "pixel_auroc", "pixel_f1", "aupro")
    for metric, bar in zip(metrics, BARS[name], strict=True):
        assert mean(run[metric] for run in runs) >= bar, metric


def test_the_sample_set_page_shows_the_stored_measurements():
    stored = json.loads(sample_set.STORE.read_text())
    assert between(sample_set.PAGE.read_text(), "sample-set") == sample_set.tables(stored).strip()


def test_the_stored_measurements_are_of_todays_sample_set():
    stored = json.loads(sample_set.STORE.read_text())
    assert stored["version"] == sample_set.VERSION, "measure again: make sample-set"
    looks = sample_set.looks()
    assert stored["looks"].keys() == looks.keys()
    for name, values in looks.items():
        assert values == pytest.approx(stored["looks"][name], abs=0.3), name


def test_the_sample_set_is_neither_hopeless_nor_trivial():
    """Stored measurements, three seeds; each seed another set and another training."""
    stored = json.loads(sample_set.STORE.read_text())
    assert max(sample_set.mean_by_seed(stored, "pixel_gaussian")) <= 0.80
    assert min(sample_set.mean_by_seed(stored, "image_auroc")) >= 0.93
    assert max(sample_set.mean_by_seed(stored, "image_auroc")) <= 0.99
    for place in range(len(sample_set.SEEDS)):
        areas = [runs[place]["image_auroc"] for runs in stored["runs"].values()]
        assert min(areas) >= 0.75
        assert sum(area < 0.97 for area in areas) >= 3
    assert stored["cost"]["seconds"] <= 40
    assert stored["cost"]["megabytes"] <= 60


def test_the_pages_show_the_stored_measurements_of_the_course():
    stored = json.loads(course.STORE.read_text())
    assert between((ROOT / "README.md").read_text(), "course") == course.series(stored).strip()
    assert between(course.PAGE.read_text(), "course") == course.tables(stored).strip()


def test_the_course_is_short_and_its_widgets_answer_at_once():
    """Stored seconds and milliseconds; the sizes are of today's notebooks."""
    stored = json.loads(course.STORE.read_text())["notebooks"]
    assert list(stored) == [path.stem for path in course.COURSE]
    assert max(one["seconds"] for one in stored.values()) <= 90
    assert sum(one["seconds"] for one in stored.values()) <= 8 * 60
    delays = {
        (name, control): median(times)
        for name, one in stored.items()
        for control, times in one["delays"].items()
    }
    assert len(delays) >= 12
    assert max(delays.values()) <= 200, max(delays, key=delays.__getitem__)
    for path in course.COURSE:
        assert course.size(path).items() <= stored[path.stem].items(), "run: make course"
