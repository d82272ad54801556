"""What an ablation rests on: the model's own maps, differences, intervals, choices."""

import math

import ablation as benchmark
import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from fastflow_utils.course import plots
from fastflow_utils.detector.backbones import Backbone
from fastflow_utils.detector.bootstrap import of_images, resamples
from fastflow_utils.detector.features import Features
from fastflow_utils.detector.maps import image_score
from fastflow_utils.detector.metrics import auroc
from fastflow_utils.detector.training import fit
from fastflow_utils.errors import FastFlowError
from fastflow_utils.experiments import ablation
from fastflow_utils.experiments.ablation import (
    anomaly_maps,
    compare,
    holm,
    image_errors,
    judge,
    layer_norm,
    leave_one_out,
    paired_differences,
    train,
)
from fastflow_utils.experiments.recipes import Recipe

RECIPE = Recipe(image_size=64, steps=2, epochs=1, smoothing=3.0)


@pytest.fixture(scope="module")
def trained_and_model():
    backbone = Backbone(image_size=64, pretrained=False)
    generator = torch.Generator().manual_seed(0)
    sets = []
    for count in (12, 5):
        shapes = [(count, *h.shape[1:]) for h in backbone(torch.rand(1, 3, 64, 64))]
        sets.append(Features([torch.randn(shape, generator=generator) for shape in shapes]))
    trained = train(RECIPE, backbone, *sets, seed=3)
    model = RECIPE.build_model(backbone, seed=3)
    fit(model, sets[0], seed=3, **RECIPE.training(12))
    return trained, model.eval(), sets[1]


def test_the_default_reading_is_the_models_own_map(trained_and_model):
    trained, model, test = trained_and_model
    with torch.no_grad():
        expected = model.anomaly_map(test[:])
    maps = anomaly_maps(trained)
    assert torch.allclose(maps, expected, atol=2e-3)
    assert trained.parameters == sum(p.numel() for p in model.flows.parameters())
    assert trained.seconds > 0


def test_the_benchmarks_start_is_the_packages_own_map(trained_and_model):
    trained, _, _ = trained_and_model
    labels = torch.tensor([0, 0, 1, 1, 1])
    masks = (torch.rand(5, 1, 64, 64) < 0.1) & labels.bool()[:, None, None, None]
    settings = benchmark.map_settings(trained, masks, labels)
    assert set(settings) == set(map(benchmark.key, benchmark.MAPS))
    _, log_det, sigma, top = benchmark.START_MAP
    maps = anomaly_maps(trained, log_det=log_det, smoothing=sigma)
    metrics = settings[benchmark.key(benchmark.START_MAP)]
    assert metrics["image_auroc"] == auroc(image_score(maps, top), labels)
    assert metrics["pixel_auroc"] == auroc(maps[..., ::2, ::2], masks[..., ::2, ::2])


def test_ctrl_c_ends_an_ablation(trained_and_model, monkeypatch):
    """A half-trained variant must not be counted as a trained one."""
    _, model, test = trained_and_model
    calls: list[int] = []

    def press(step: int) -> None:
        calls.append(step)
        raise KeyboardInterrupt

    train_loop = ablation.fit
    monkeypatch.setattr(
        ablation, "fit", lambda *given, **options: train_loop(*given, **options, after_epoch=press)
    )
    with pytest.raises(KeyboardInterrupt):
        train(RECIPE.changed(epochs=3), model.backbone, test, test, seed=0)
    assert calls == [1], "it went on"


def test_a_seed_that_is_none_is_refused(trained_and_model):
    _, model, test = trained_and_model
    with pytest.raises(FastFlowError, match="seed -1"):
        train(RECIPE, model.backbone, test, test, seed=-1)


def test_each_choice_of_a_reading_does_what_it_says(trained_and_model):
    trained, model, test = trained_and_model
    rough, smooth = anomaly_maps(trained, smoothing=0), anomaly_maps(trained, smoothing=4)
    assert smooth.std() < rough.std()
    alone = torch.stack([anomaly_maps(trained, [level], smoothing=0) for level in range(3)])
    assert torch.allclose(alone.mean(0), rough, atol=1e-6)
    unbounded = anomaly_maps(trained, [0], bounded=False, smoothing=0)
    assert unbounded.max() > 1 and unbounded.min() < 0
    assert alone.min() >= 0 and alone.max() <= 1
    with torch.no_grad():
        z, shares = model.flows[0].local(test[:][0])
    energy = 0.5 * z.pow(2).mean(1, keepdim=True) + 0.5 * math.log(2 * math.pi)
    assert torch.allclose(trained.test[False][0], energy, atol=0.05)
    counted = energy - shares / z.shape[1]
    assert torch.allclose(trained.test[True][0], counted, atol=0.05)


def test_layer_norm_keeps_what_it_was_given():
    given = Features([4 + 3 * torch.randn(2, 5, 6, 6)])
    kept = given.levels[0].clone()
    normed = layer_norm(given).levels[0]
    assert torch.equal(given.levels[0], kept)
    for h in normed:
        assert abs(h.mean()) < 1e-5 and abs(h.std(correction=0) - 1) < 1e-3


def results(metrics: dict[str, dict[str, list[float]]]) -> pd.Series:
    return pd.Series(
        {
            (variant, category, seed): value
            for variant, of_variant in metrics.items()
            for category, values in of_variant.items()
            for seed, value in enumerate(values)
        }
    )


def test_differences_are_of_the_same_category_and_seed_in_order():
    values = results({"b": {"y": [5, 7], "x": [1, 2]}, "start": {"y": [1, 1], "x": [0.5, 0]}})
    values["a", "y", 0], values["a", "y", 1], values["a", "x", 0], values["a", "x", 1] = range(4)
    table = paired_differences(
        values.sample(frac=1, random_state=0).loc[["start", "b", "a"]], "start"
    )
    assert list(table.index) == ["b", "a"]
    assert table.loc["b", ("y", 1)] == 6 and table.loc["b", ("x", 0)] == 0.5
    assert table.loc["a", ("x", 1)] == 3


def test_of_one_category_the_interval_is_the_textbooks():
    d = [0.01, 0.03, 0.02, 0.05]
    columns = pd.MultiIndex.from_product([["only"], range(4)])
    row = compare(pd.DataFrame([d], ["v"], columns)).loc["v"]
    low, high = stats.t.interval(0.95, 3, sum(d) / 4, stats.sem(d))
    assert (row["low"], row["high"]) == pytest.approx((low, high))


def test_differences_between_categories_do_not_widen_the_interval():
    columns = pd.MultiIndex.from_product([["a", "b", "c"], range(3)])
    noise = [0.01, 0, -0.01]
    rows = [[m + e for m in means for e in noise] for means in ([1, 1, 1], [0, 1, 2])]
    table = compare(pd.DataFrame(rows, ["same", "apart"], columns))
    width = table["high"] - table["low"]
    assert width["same"] == pytest.approx(width["apart"])
    assert width["same"] / 2 == pytest.approx(2.4469 * 0.01 / 3, rel=1e-3)
    assert table["agree"].tolist() == [3, 2]


@pytest.mark.parametrize(
    ("mean", "verdict"), [(0.1, "better"), (-0.1, "worse"), (0.0, "not seen"), (0.004, "not seen")]
)
def test_the_verdict_is_the_intervals(mean, verdict):
    columns = pd.MultiIndex.from_product([["a"], range(3)])
    table = compare(pd.DataFrame([[mean + e for e in (0.01, 0, -0.01)]], ["v"], columns))
    assert table.loc["v", "verdict"] == verdict


def test_one_seed_has_an_interval_only_if_it_is_borrowed():
    columns = pd.MultiIndex.from_product([["a", "b"], [0]])
    differences = pd.DataFrame([[0.1, 0.2], [0.0, 0.01]], ["v", "w"], columns)
    alone = compare(differences)
    assert alone["low"].isna().all() and set(alone["verdict"]) == {"one seed"}
    spread = pd.Series(
        [0.5, 0.51, 0.49, 0.9, 0.91, 0.89], pd.MultiIndex.from_product([["a", "b"], range(3)])
    )
    borrowed = compare(differences, spread)
    half = stats.t.ppf(0.975, 4) * 0.01 * math.sqrt(2 / 2)
    assert (borrowed["high"] - borrowed["mean"]).tolist() == pytest.approx([half] * 2)
    assert borrowed["verdict"].tolist() == ["better", "not seen"]


# Test images and seeds, several variants


def table(rows: dict[str, list[list[float]]], categories: str = "ab") -> pd.DataFrame:
    """Differences of each variant: on each category, with each seed."""
    seeds = len(next(iter(rows.values()))[0])
    columns = pd.MultiIndex.from_product([list(categories), range(seeds)])
    return pd.DataFrame({v: np.ravel(own) for v, own in rows.items()}, columns).T


def test_holms_steps_are_those_of_his_own_example_and_of_scipys_cousin():
    """By hand: 4 x 0.01, 3 x 0.02, 2 x 0.03 and 1 x 0.04, none below the one before."""
    assert holm(pd.Series([0.03, 0.01, 0.04, 0.02])).tolist() == pytest.approx(
        [0.06, 0.04, 0.06, 0.06]
    )
    p = np.random.default_rng(0).uniform(size=20) ** 3
    corrected = holm(pd.Series(p)).to_numpy()
    assert (corrected >= stats.false_discovery_control(p, method="bh") - 1e-12).all()
    assert (corrected >= p).all() and (corrected <= np.minimum(1, 20 * p) + 1e-12).all()
    assert corrected[p.argmin()] == pytest.approx(20 * p.min())


def test_the_errors_are_of_pairs_and_averaged_over_seeds():
    """What is common to both variants cancels, and seeds share the images."""
    generator = np.random.default_rng(0)
    common, own = generator.normal(0, 1, (2, 4000))
    drawn = {("start", "a", 0): common, ("start", "a", 1): common}
    drawn |= {("v", "a", 0): common + 0.2 * own, ("v", "a", 1): common + 0.4 * own}
    errors = image_errors(pd.DataFrame(drawn).T, "start")
    assert errors.index.tolist() == ["v"] and errors.columns.tolist() == ["a"]
    assert errors.loc["v", "a"] == pytest.approx(0.3 * own.std(ddof=1))


def test_judged_by_images_alone_the_interval_is_the_normal_one():
    errors = pd.DataFrame([[0.03, 0.04]], ["v"], list("ab"))
    row = judge(table({"v": [[0.05], [0.15]]}), errors).loc["v"]
    half = stats.norm.ppf(0.975) * 0.05 / 2
    assert (row["low"], row["high"]) == pytest.approx((0.1 - half, 0.1 + half))
    assert row["p"] == pytest.approx(2 * stats.norm.sf(0.1 / 0.025))
    assert row["better"] == "b" and row["verdict"] == "better"


def test_judged_by_seeds_alone_it_is_that_of_compare():
    differences = table({"v": [[0.01, 0.03, 0.02], [0.02, 0.05, 0.04]]})
    row = judge(differences, pd.DataFrame(0.0, ["v"], list("ab"))).loc["v"]
    expected = compare(differences).loc["v"]
    assert (row["low"], row["high"]) == pytest.approx((expected["low"], expected["high"]))


def test_verdicts_are_of_all_variants_together_and_of_categories():
    errors = pd.DataFrame(0.02, list("uvwxyz"), list("ab"))
    same = [[0.0], [0.0]]
    rows = {"u": [[0.1], [0.1]], "v": [[-0.1], [-0.1]], "w": [[0.1], [-0.1]], "x": same}
    rows |= {"y": [[0.03], [0.03]], "z": same}
    found = judge(table(rows), errors)
    assert found["verdict"].to_dict() == {
        "u": "better",
        "v": "worse",
        "w": "depends on the category",
        "x": "cannot be told",
        "y": "cannot be told",  # alone it would be: p is 0.03
        "z": "cannot be told",
    }
    assert (found.loc["w", "better"], found.loc["w", "worse"]) == ("a", "b")
    alone = judge(table({"y": rows["y"]}), errors.loc[["y"]])
    assert alone.loc["y", "verdict"] == "better" and found.loc["y", "low"] > 0
    assert found.loc[["x", "z"], "p"].tolist() == [1, 1]


def test_where_nothing_differs_every_p_value_is_as_likely_as_any_other():
    """Two categories, three seeds; images and seeds make about as much difference."""
    generator, found = np.random.default_rng(0), []
    errors = pd.DataFrame(0.02, ["v"], list("ab"))
    for _ in range(150):
        of_images, of_seeds = generator.normal(0, 0.02, 2), generator.normal(0, 0.03, (2, 3))
        rows = (of_images[:, None] + of_seeds).tolist()
        found.append(judge(table({"v": rows}), errors).loc["v", "p"])
    assert stats.kstest(found, "uniform").pvalue > 0.05


def test_so_it_is_with_the_errors_of_the_bootstrap():
    """Two detectors alike, on the same 40 images."""
    generator, labels = np.random.default_rng(1), np.repeat([0, 1], 20)
    weights, found = resamples(labels, count=300), []
    for _ in range(100):
        images = generator.normal(size=40) + 1.5 * labels
        scores = {v: images + 0.7 * generator.normal(size=40) for v in ("start", "v")}
        values = pd.Series({(v, "a", 0): auroc(each, labels) for v, each in scores.items()})
        drawn = {
            (v, "a", 0): of_images(each, labels, weights)["auroc"] for v, each in scores.items()
        }
        errors = image_errors(pd.DataFrame(drawn).T, "start")
        found.append(judge(paired_differences(values, "start"), errors).loc["v", "p"])
    assert stats.kstest(found, "uniform").pvalue > 0.05


def test_a_category_has_no_part_in_what_the_others_choose():
    values = results(
        {
            "start": {"a": [0.5, 0.5], "b": [0.5, 0.5], "c": [0.5, 0.5]},
            "good on a": {"a": [1.0, 1.0], "b": [0.4, 0.4], "c": [0.4, 0.4]},
            "good on all": {"a": [0.6, 0.7], "b": [0.7, 0.6], "c": [0.6, 0.6]},
        }
    )
    table = leave_one_out(values, "start")
    assert table["the others choose"].tolist() == ["good on all", "good on a", "good on a"]
    assert table["which gives"].tolist() == pytest.approx([0.65, 0.4, 0.4])
    assert table["tuned on its own test"].tolist() == ["good on a", "good on all", "good on all"]
    assert (table["oracle"] >= table["which gives"]).all()
    values["good on a", "a", 0] = values["good on a", "a", 1] = 0.0
    assert leave_one_out(values, "start").loc["a", "the others choose"] == "good on all"


@pytest.mark.parametrize("seeds", [1, 3])
def test_the_figure_names_every_variant_category_and_verdict(seeds):
    metrics = {"start": 0.5, "worse one": 0.4, "same": 0.5}
    spread = [0.01, -0.01, 0.0][:seeds]
    values = results(
        {
            v: {c: [m + e * i for e in spread] for i, c in enumerate("ab")}
            for v, m in metrics.items()
        }
    )
    differences = paired_differences(values, "start")
    summary = compare(differences)
    axes = plots.differences(differences, summary, "finding", "AUROC, difference").axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["worse one", "same"]
    assert [text.get_text() for text in axes.texts] == summary["verdict"].tolist()
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["a", "b"]
    assert axes.get_xlabel() == "AUROC, difference"
