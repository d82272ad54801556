"""The three tables: sources, averages, dashes, and what never stands in one table."""

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from scipy import stats

from fastflow_utils.data.layout import MVTEC_AD, SAMPLE_SET
from fastflow_utils.data.official import OFFICIAL_COUNTS
from fastflow_utils.errors import FastFlowError
from fastflow_utils.experiments import tables
from fastflow_utils.experiments.recipes import recipe_for
from fastflow_utils.experiments.records import read_replicates
from fastflow_utils.experiments.run import run
from fastflow_utils.experiments.tables import (
    CATEGORIES,
    MEASURED,
    METRICS,
    TABLES,
)

PUBLISHED = yaml.safe_load((Path(tables.__file__).parent / "published.yaml").read_text())
each_row = pytest.mark.parametrize("row", PUBLISHED, ids=lambda row: row["name"])


def metrics(
    category: str, seed: int, value: float, data: str = MVTEC_AD, **more: object
) -> dict[str, object]:
    """Return what a run's metrics.json holds, as far as the tables read it."""
    about = {"category": category, "seed": seed, "data": data, "sample_set": data == SAMPLE_SET}
    return about | dict.fromkeys(TABLES, value) | more


def complete(seeds: int = 2, data: str = MVTEC_AD) -> list[dict[str, object]]:
    """Runs on all fifteen; a category's metric is 0.80, 0.81, ..., and 0.02 more for each seed."""
    return [
        metrics(name, seed, 0.8 + 0.01 * place + 0.02 * seed, data)
        for seed in range(seeds)
        for place, name in enumerate(CATEGORIES)
    ]


# Published rows


@each_row
def test_every_published_row_says_where_it_is_from_and_what_it_measured(row):
    assert len(row["source"]) > 10 and row["method"] and row["protocol"]
    assert "UNVERIFIED" not in str(row)
    assert len(row["name"]) <= 24, "it would not fit into 120 columns"
    assert row.get("average") or row.get("categories"), "a row without metrics"
    assert set(row.get("average", {})) | set(row.get("categories", {})) <= set(METRICS)


@each_row
def test_every_published_metric_is_a_share_and_every_category_has_a_place(row):
    for values in row.get("categories", {}).values():
        assert len(values) == len(CATEGORIES)
        assert all(value is None or 0 <= value <= 1 for value in values)
    assert all(0 <= value <= 1 for value in row.get("average", {}).values())


@each_row
def test_published_averages_are_those_of_their_rows(row):
    """Up to rounding: half a unit of the average, half a unit of each value."""
    for metric, values in row.get("categories", {}).items():
        average = row.get("average", {}).get(metric)
        if average is not None:
            assert None not in values, "an average over a partial row"
            unit = 10 ** -row["decimals"]
            assert sum(values) / len(values) == pytest.approx(average, abs=1.01 * unit)


def test_published_names_are_unique():
    assert tables.sources().index.is_unique
    assert list(tables.sources().index) == [row["name"] for row in PUBLISHED]


def test_the_published_means_that_we_know_from_elsewhere():
    """gathierry's means, recomputed from its README: last and best epoch."""
    average = tables.published("pixel_auroc")["Avg"].round(4)
    assert average["gathierry, WRN50, last"] == 0.9723
    assert average["gathierry, WRN50, best"] == 0.9834
    assert average["gathierry, R18, last"] == 0.9561
    assert average["gathierry, R18, best"] == 0.9723
    assert average["gathierry, DeiT, last"] == 0.9733
    assert average["gathierry, DeiT, best"] == 0.9808
    assert average["gathierry, CaiT, last"] == 0.9725
    assert average["gathierry, CaiT, best"] == 0.9827


def test_what_is_doubtful_is_missing_and_so_is_its_average():
    doubtful = tables.published("pixel_f1").loc["anomalib, WRN50"]
    assert math.isnan(doubtful["Screw"]) and math.isnan(doubtful["Avg"])
    assert doubtful.isna().sum() == 2


def test_the_layout_is_that_of_the_field():
    assert sorted(CATEGORIES) == sorted(OFFICIAL_COUNTS)
    expected = (
        "Avg, Carpet, Grid, Leather, Tile, Wood, Bottle, Cable, Capsule, Hazelnut, Metal Nut, "
        "Pill, Screw, Toothbrush, Transistor, Zipper"
    )
    assert ", ".join(tables.published("image_auroc").columns) == expected


# Our rows


def test_a_run_is_read_back(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FASTFLOW_CACHE", str(tmp_path / "cache"))
    recipe = recipe_for(epochs=1, image_size=64, steps=1)
    done = run(recipe, tiny, "disc", tmp_path / "runs" / "disc", seed=4)
    runs = tables.as_runs([json.loads((tmp_path / "runs" / "disc" / "metrics.json").read_text())])
    assert runs["category"].tolist() == ["disc"] and not runs["sample_set"].any()
    assert runs["seed"].tolist() == [4] and runs["image_size"].tolist() == [64]
    assert runs["pixel_f1"].tolist() == [done.metrics["pixel_f1"]]
    assert runs["seconds_total"].tolist() == [done.metrics["seconds"]["total"]]
    assert runs["label_free_pixel_f1"].tolist() == [done.metrics["label_free"]["pixel_f1"]]
    assert runs[list(MEASURED)].notna().all(axis=None)
    assert runs["data"].tolist() == [tiny.name] and runs["precision"].tolist() == [
        recipe.precision
    ]
    assert runs["intervals"][0].keys() == read_replicates(tmp_path / "runs" / "disc").keys()
    means, _ = tables.mean_and_spread(runs, "pixel_auroc")
    assert means.to_dict() == {name: done.metrics["pixel_auroc"] for name in ("Avg", "disc")}


def test_no_runs_make_a_row_of_dashes():
    runs = tables.as_runs([])
    assert runs.empty
    means, spreads = tables.mean_and_spread(runs, "image_auroc")
    assert means.isna().all() and spreads.isna().all()


def test_mean_and_spread_are_over_seeds():
    means, spreads = tables.mean_and_spread(tables.as_runs(complete()), "image_auroc")
    assert means["Carpet"] == pytest.approx(0.81)
    assert spreads["Carpet"] == pytest.approx(0.02 / math.sqrt(2))
    assert means["Avg"] == pytest.approx(0.88)
    assert spreads["Avg"] == pytest.approx(0.02 / math.sqrt(2))


def test_the_average_spreads_as_averages_do():
    """Categories that move in opposite directions: each spreads, their average does not."""
    runs = tables.as_runs(
        [
            metrics(name, seed, 0.9 + (0.02 if seed else -0.02) * (-1) ** place * (place > 0))
            for seed in (0, 1)
            for place, name in enumerate(CATEGORIES)
        ]
    )
    means, spreads = tables.mean_and_spread(runs, "pixel_auroc")
    assert means["Avg"] == pytest.approx(0.9)
    assert spreads["Avg"] == pytest.approx(0, abs=1e-12)
    assert spreads["Zipper"] > 0.02


def test_one_seed_has_no_spread():
    _, spreads = tables.mean_and_spread(tables.as_runs(complete(seeds=1)), "image_auroc")
    assert spreads.isna().all()


@pytest.mark.parametrize("left_out", [0, -1])
def test_there_is_no_average_over_a_partial_row(left_out: int):
    rows = complete()
    del rows[left_out]  # one category of one seed
    means, spreads = tables.mean_and_spread(tables.as_runs(rows), "image_auroc")
    assert math.isnan(means["Avg"]) and math.isnan(spreads["Avg"])
    assert means.drop("Avg").notna().all()


def test_runs_that_do_not_belong_together_are_refused():
    twice = tables.as_runs([metrics("tile", 0, 0.9)] * 2)
    with pytest.raises(FastFlowError, match="two runs of tile, seed 0"):
        tables.mean_and_spread(twice, "image_auroc")
    recipes = [metrics("tile", seed, 0.9, recipe={"epochs": seed}) for seed in (1, 2)]
    with pytest.raises(FastFlowError, match="several recipes"):
        tables.mean_and_spread(tables.as_runs(recipes), "image_auroc")
    both = [metrics("tile", 0, 0.9), metrics("wood", 0, 0.9, SAMPLE_SET)]
    with pytest.raises(FastFlowError, match="several data sets"):
        tables.mean_and_spread(tables.as_runs(both), "image_auroc")


# Intervals


def with_replicates(seeds: int, noise: float, own: float = 0.0) -> list[dict[str, object]]:
    """Runs on two categories of a factory: replicates with ``noise``, seeds ``own`` apart."""
    found = []
    for category in ("gear", "lid"):
        drawn = np.random.default_rng(len(category)).normal(0, noise, 20_000)
        for seed in range(seeds):
            value = 0.8 + own * seed
            replicates = {"pixel_auroc": value + drawn}
            found.append(metrics(category, seed, value, "factory", replicates=replicates))
    return found


def test_the_interval_of_one_seed_is_of_the_images_and_that_of_the_average_is_narrower():
    row = tables.estimates(tables.as_runs(with_replicates(1, 0.02)), "pixel_auroc")
    half = (row["high"] - row["low"]) / 2
    assert half["gear"] == pytest.approx(1.96 * 0.02, rel=0.03)
    assert half["Avg"] == pytest.approx(1.96 * 0.02 / math.sqrt(2), rel=0.03), "independent"
    assert row["images"]["gear"] == pytest.approx((row["low"]["gear"], row["high"]["gear"]))
    assert row["spread"].isna().all() and (row["seeds"] == 1).all()


def test_the_same_images_with_more_seeds_do_not_make_the_images_interval_narrower():
    one, three = (
        tables.estimates(tables.as_runs(with_replicates(seeds, 0.02)), "pixel_auroc")
        for seeds in (1, 3)
    )
    assert three["low"].tolist() == pytest.approx(one["low"].tolist())


def test_images_and_seeds_together_are_wider_than_each():
    row = tables.estimates(tables.as_runs(with_replicates(3, 0.02, own=0.01)), "pixel_auroc")
    low, high = row["images"]["gear"]
    of_seeds = stats.t.ppf(0.975, 2) * 0.01 / math.sqrt(3)
    below = math.hypot(0.81 - low, of_seeds)
    assert row["low"]["gear"] == pytest.approx(0.81 - below)
    assert row["high"]["gear"] == pytest.approx(0.81 + math.hypot(high - 0.81, of_seeds))
    assert row["seeds"].tolist() == [3, 3, 3] and row["spread"]["gear"] == pytest.approx(0.01)


def test_no_interval_without_replicates_of_all_runs_and_metrics():
    runs = with_replicates(2, 0.02)
    del runs[0]["replicates"]
    row = tables.estimates(tables.as_runs(runs), "pixel_auroc")
    assert row["low"][["Avg", "gear"]].isna().all() and row["low"]["lid"] < row["mean"]["lid"]
    other = tables.estimates(tables.as_runs(runs), "image_auroc")
    assert other["low"].isna().all() and other["mean"].notna().all()


def test_a_perfect_auroc_keeps_the_bound_of_its_runs():
    perfect = {"replicates": {"image_auroc": np.ones(9)}, "intervals": {"image_auroc": [0.86, 1]}}
    runs = [metrics("gear", seed, 1.0, "factory", **perfect) for seed in (0, 1)]
    runs += [metrics("lid", seed, 1.0, "factory") for seed in (0, 1)]
    row = tables.estimates(tables.as_runs(runs), "image_auroc")
    assert (row["low"]["gear"], row["high"]["gear"]) == (0.86, 1.0)
    ends = tables.bounds("image_auroc", {"ours": tables.as_runs(runs)})
    shown = tables.cells(*tables.table("image_auroc", {"ours": tables.as_runs(runs)}), 2, ends)
    assert shown.loc["ours"].tolist() == ["1.00 ± 0.00", "1.00 (0.86–1.00)", "1.00 ± 0.00"]


# Tables


def test_rows_of_ours_stand_above_published_ones():
    means, spreads = tables.table(
        "image_auroc",
        {"ours": tables.as_runs(complete())},
        ["anomalib, R18", "gathierry, R18, last"],
    )
    assert list(means.index) == ["ours", "anomalib, R18", "gathierry, R18, last"]
    assert means.loc["anomalib, R18", "Screw"] == 0.521
    assert means.loc["gathierry, R18, last"].isna().all(), "it has no image AUROC"
    assert spreads.loc["ours"].notna().all() and spreads.drop("ours").isna().all(axis=None)


def test_the_sample_set_says_so_and_never_stands_beside_published_rows():
    runs = tables.as_runs(complete(data=SAMPLE_SET))
    assert runs["sample_set"].all()
    tables.table("image_auroc", {"sample set, 2 seeds": runs})
    with pytest.raises(FastFlowError, match="let its name say so"):
        tables.table("image_auroc", {"ours": runs})
    with pytest.raises(FastFlowError, match="do not compare"):
        tables.table("image_auroc", {"sample set": runs}, ["paper, CaiT"])


def test_other_data_has_its_own_categories_and_stands_beside_nothing_else():
    """Twelve pictures in a folder called zipper are not MVTec AD's zipper."""
    own = [metrics(name, 0, 0.9, "factory") for name in ("zipper", "gear", "Avg")]
    runs = tables.as_runs(own)
    means, spreads = tables.table("image_auroc", {"ours": runs})
    assert list(means.columns) == list(spreads.columns) == ["Avg", "'Avg'", "gear", "zipper"]
    assert means.loc["ours"].tolist() == pytest.approx([0.9] * 4)
    with pytest.raises(FastFlowError, match="measured on factory, they on MVTec AD"):
        tables.table("image_auroc", {"ours": runs}, ["paper, CaiT"])
    with pytest.raises(FastFlowError, match=r"several data sets \(MVTec AD, factory\)"):
        tables.table("image_auroc", {"a": runs, "b": tables.as_runs([metrics("tile", 0, 0.9)])})


def test_other_data_is_average_over_its_own_categories_and_only_if_all_are_there():
    rows = [metrics(name, seed, 0.6 + seed / 10, "factory") for name in "ab" for seed in (0, 1)]
    means, spreads = tables.table("image_auroc", {"ours": tables.as_runs(rows)})
    assert means.loc["ours"].tolist() == pytest.approx([0.65] * 3)
    assert spreads.loc["ours", "Avg"] == pytest.approx(0.1 / math.sqrt(2))
    several = {"ours": tables.as_runs(rows), "less": tables.as_runs(rows[:2])}
    means, _ = tables.table("image_auroc", several)
    assert math.isnan(means.loc["less", "Avg"]) and means.loc["less", "a"] == pytest.approx(0.65)
    shown = tables.text(means, heading="image AUROC").splitlines()
    assert shown[1].split() == ["image", "AUROC", "Avg", "a", "b"]


def test_a_category_that_is_none_of_the_fifteen_is_not_dropped_in_silence():
    own = [metrics(name, 0, 0.5 + place / 10) for place, name in enumerate(("tile", "gear"))]
    means, _ = tables.table("image_auroc", {"ours": tables.as_runs(own)})
    assert list(means.columns[-2:]) == ["Zipper", "gear"]
    assert means.loc["ours", "gear"] == 0.6 and math.isnan(means.loc["ours", "Avg"])


def test_no_mean_is_over_what_a_category_cannot_have():
    """Of lids there are no masks: neither their NaN nor their resamples are in the average."""
    with_masks = with_replicates(2, 0.02)
    nothing = {"pixel_auroc": None, "replicates": {"pixel_auroc": np.full(20_000, math.nan)}}
    lids = [metrics("no masks", seed, 0.5, "factory", **nothing) for seed in (0, 1)]
    runs = tables.as_runs([*with_masks, *lids])
    assert tables.lacking(runs, "pixel_auroc") == ["no masks"]
    assert tables.lacking(runs, "image_auroc") == []
    row = tables.estimates(runs, "pixel_auroc")
    alone = tables.estimates(tables.as_runs(with_masks), "pixel_auroc")
    assert row.loc[["Avg", "gear", "lid"]].equals(alone.loc[["Avg", "gear", "lid"]])
    assert math.isnan(row["mean"]["no masks"])
    assert tables.estimates(runs, "image_auroc")["mean"]["Avg"] == pytest.approx(0.7)


def test_an_unknown_row_is_refused():
    with pytest.raises(FastFlowError, match="no published row 'paper'"):
        tables.table("image_auroc", {}, ["paper"])


def test_text_has_dashes_spreads_and_120_columns():
    partial = tables.as_runs([metrics("screw", seed, 0.9 + seed / 10) for seed in (0, 1)])
    means, spreads = tables.table("image_auroc", {"ours": partial}, ["anomalib, R18"])
    lines = tables.text(means, spreads, "image AUROC").splitlines()
    assert lines[1].split()[:7] == ["image", "AUROC", "Avg", "pet", "Grid", "ther", "Tile"]
    assert lines[2].split() == ["ours", *"–" * 12, "0.950", *"–" * 3]
    assert lines[3].split() == ["±", "over", "seeds", *"–" * 12, "0.071", *"–" * 3]
    assert lines[4].startswith("anomalib, R18") and len(lines) == 5
    for metric in METRICS:
        everything = tables.text(tables.published(metric), heading=METRICS[metric])
        assert max(map(len, everything.splitlines())) <= 120
        assert "nan" not in everything


def test_markdown_has_as_many_cells_in_every_row():
    partial = tables.as_runs([metrics("screw", seed, 0.9 + seed / 10) for seed in (0, 1)])
    means, spreads = tables.table("image_auroc", {"ours": partial}, ["anomalib, R18"])
    lines = tables.markdown(means, spreads, "image AUROC").splitlines()
    assert {line.count("|") for line in lines} == {18}
    assert lines[2].startswith("| ours | – | – |") and "| 0.950 ± 0.071 |" in lines[2]
    assert "±" not in lines[3] and "nan" not in "".join(lines)


def test_cells_have_the_decimals_asked_for():
    seconds = [metrics("screw", seed, 0, seconds={"total": 10 + seed}) for seed in (0, 1)]
    seconds += [metrics("pill", 0, 0, seconds={"total": 123.46})]
    means, spreads = tables.table("seconds_total", {"ours": tables.as_runs(seconds)})
    shown = tables.cells(means, spreads, decimals=1).loc["ours"]
    assert shown[["Screw", "Pill", "Tile"]].tolist() == ["10.5 ± 0.7", "123.5", "–"]
    assert "| 10.5 ± 0.7 |" in tables.markdown(means, spreads, decimals=1)


def test_stored_benchmarks_are_runs_too():
    """What notebook 07 reads: three seeds of the default recipe on three real categories."""
    import results

    store = json.loads(results.STORE.read_text())
    names = list(store["images"])
    runs = tables.as_runs(store["runs"][f"efficientnet_lite0 {name}"][0] for name in names)
    assert set(runs["category"]) == set(names) and not runs["sample_set"].any()
    assert isinstance(runs, pd.DataFrame) and (runs["image_size"] == 256).all()
