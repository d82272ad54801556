"""What a reproduction costs: the arithmetic, on made-up seconds."""

import json
from dataclasses import asdict
from itertools import pairwise

import cost
import pytest
from cost import BACKBONES, PAPER, Line
from hypothesis import given
from hypothesis import strategies as st

from fastflow_utils.experiments.recipes import Recipe, recipe_for, recipe_of

STORE = json.loads(cost.STORE.read_text())
LINES = {
    "features": Line(1.0, 0.5),
    "start": Line(2.0, 0.0),
    "training": Line(3.0, 0.2),
    "evaluation": Line(4.0, 0.1),
}
each_backbone = pytest.mark.parametrize("name", BACKBONES)
jobs = st.lists(st.integers(1, 1000), min_size=1, max_size=60)


def runs_of(train: int, test: int, again: int, late: float = 0.0) -> list[dict[str, object]]:
    """Return two runs that took what `LINES` say, and ``late`` seconds more in each stage."""
    found = []
    for cached, epochs in ((False, 1), (True, again)):
        amount = cost.amounts(Recipe(epochs=epochs), train, test)
        took = {
            part: rate.constant + rate.each * amount[part] + late for part, rate in LINES.items()
        }
        stages = {
            "features": took["start"] + (0 if cached else took["features"]),
            "train": took["training"],
            "evaluate": took["evaluation"],
        }
        sizes = {"train": train, "test": test, "epochs": epochs, "cached": cached}
        found.append({**sizes, "seconds": stages})
    return found


def test_two_sizes_give_the_constants_and_the_seconds_of_an_image():
    """One round of three that something else disturbed moves no median."""
    runs = 2 * [*runs_of(2, 4, 1), *runs_of(10, 12, 3)]
    runs += [*runs_of(2, 4, 1, late=9.0), *runs_of(10, 12, 3, late=7.0)]
    for part, rate in cost.rates(Recipe(), runs).items():
        assert rate == pytest.approx(LINES[part]), part


def test_each_part_grows_with_its_own_images():
    recipe = Recipe(epochs=3)
    one, more_train, more_test = (
        cost.seconds(LINES, recipe, *counts) for counts in ((100, 50), (200, 50), (100, 100))
    )
    assert more_train["features"] - one["features"] == pytest.approx(0.5 * 100)
    batches = 90 // 2  # of the 100 more images, those that are not held out
    assert more_train["training"] - one["training"] == pytest.approx(0.2 * batches * 3)
    assert more_train["evaluation"] == one["evaluation"]
    assert more_test["features"] - one["features"] == pytest.approx(0.5 * 50)
    assert more_test["training"] == one["training"]
    assert more_test["evaluation"] - one["evaluation"] == pytest.approx(0.1 * 50)


@pytest.mark.parametrize("images", [20, 60, 180, 300])
def test_training_costs_the_budget_whatever_the_number_of_images(images):
    """900 images for each, a tenth of them held out, two in a batch: 405 batches."""
    took = cost.seconds(LINES, Recipe(budget=900), images, 1)["training"]
    assert took == pytest.approx(3.0 + 0.2 * 405)


def test_seeds_share_the_features_and_nothing_else():
    took = cost.seconds(LINES, Recipe(), 100, 50)
    costs = [cost.cost(took, seeds) for seeds in range(1, 5)]
    a_seed = took["start"] + took["training"] + took["evaluation"]
    assert costs[0] == pytest.approx(sum(took.values()))
    assert [b - a for a, b in pairwise(costs)] == pytest.approx([a_seed] * 3)


@given(jobs, st.integers(1, 70))
def test_machines_share_the_work_but_not_a_job(seconds, machines):
    """Graham's bound: whoever is free takes the next job."""
    done = cost.spread_over(seconds, machines)
    assert cost.spread_over(seconds, 1) == sum(seconds)
    assert max(sum(seconds) / machines, max(seconds)) <= done
    assert done <= sum(seconds) / machines + max(seconds)


def test_the_paper_s_four_are_all_but_the_default():
    assert set(BACKBONES) - set(PAPER) == {recipe_for().backbone}
    dearer = json.loads(json.dumps(STORE))
    for one in dearer["backbones"][recipe_for().backbone]["runs"]:
        one["seconds"]["features"] += 3600

    def total(store):
        return next(line for line in cost.table(store).splitlines() if "the paper's four" in line)

    assert total(dearer) == total(STORE)


def test_a_processor_is_paid_for_each_core_and_a_gpu_once():
    machine = STORE["machine"]
    of_gpu = cost.table({**STORE, "machine": {**machine, "gpu": "a GPU"}})
    for text, units in ((cost.table(STORE), machine["cores"]), (of_gpu, 1)):
        row = next(line for line in text.splitlines() if "the paper's four" in line)
        hours, paid = row.split("|")[7:9]
        assert float(paid) == pytest.approx(units * float(hours.removesuffix("h ")), abs=0.06)


# What is stored


@each_backbone
def test_the_stored_seconds_are_of_todays_recipe(name):
    today = json.loads(json.dumps(asdict(recipe_for(name))))
    stored = json.loads(json.dumps(asdict(recipe_of(STORE["backbones"][name]["recipe"]))))
    decided_by_the_machine = {"precision": today["precision"]}
    assert stored | decided_by_the_machine == today, "measure again: make cost"


def test_the_tables_say_what_was_measured_and_on_what():
    for text in (cost.table(STORE), cost.details(STORE)):
        assert cost.where(STORE) in text
        assert all(title in text for title in BACKBONES.values())
