"""The bootstrap against a plain loop over repeated images, and intervals that keep their word."""

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from fastflow_utils.detector import bootstrap
from fastflow_utils.detector.bootstrap import of_decisions, of_images, of_pixels, resamples
from fastflow_utils.detector.detector import upper_quantile
from fastflow_utils.detector.intervals import (
    estimate,
    hanley_mcneil,
    interval,
    perfect_bound,
    promised,
)
from fastflow_utils.detector.metrics import (
    aupimo,
    aupro,
    f1_at,
    fpr_at,
    separation,
)
from fastflow_utils.errors import FastFlowError


@dataclass
class Split:
    """Maps with ties and defects of several regions, good and anomalous images mixed."""

    maps: Tensor
    masks: Tensor
    labels: Tensor
    scores: Tensor


def split(normal: int, anomalous: int, size: int, ties: float | None = None) -> Split:
    generator = torch.Generator().manual_seed(size)
    count = normal + anomalous
    labels = torch.randperm(count, generator=generator) < anomalous
    masks = torch.zeros(count, 1, size, size, dtype=torch.bool)
    for i in labels.nonzero().flatten().tolist():
        masks[i, 0, : size // 4, : 1 + i % 5] = masks[i, 0, -2:, size // 2 :] = True
    maps = torch.randn(masks.shape, generator=generator)
    maps += 1.5 * masks + 0.5 * torch.randn(count, 1, 1, 1, generator=generator)
    if ties:
        maps = (maps / ties).round() * ties
    return Split(maps, masks, labels, maps.flatten(1).amax(1) + labels)


def looped(one: Split, weights: np.ndarray, threshold: float, **ranges: object) -> dict[str, list]:
    """Repeat the images of each resample, and call the exact metrics."""
    found: dict[str, list[float]] = {}
    for row in weights.astype(int):
        drawn = np.repeat(np.arange(len(row)), row)
        maps, masks, labels = one.maps[drawn], one.masks[drawn], one.labels[drawn]
        values = {"aupro": aupro(maps, masks, ranges.get("max_fpr", 0.3))}
        fpr_range = ranges.get("fpr_range", (1e-5, 1e-4))
        values["aupimo"] = aupimo(maps, masks, fpr_range, labels=labels)
        for level, pair in {"image": (one.scores[drawn], labels), "pixel": (maps, masks)}.items():
            area, precision, f1, _ = separation(*pair)
            values |= {f"{level}_auroc": area, f"{level}_ap": precision, f"{level}_f1": f1}
            values[f"{level}_fpr"] = fpr_at(*pair, threshold)
            values[f"{level}_decided"] = f1_at(*pair, threshold)
        for name, value in values.items():
            found.setdefault(name, []).append(value)
    return found


def at_once(one: Split, weights: np.ndarray, threshold: float, **ranges: object) -> dict:
    pixels = of_pixels(one.maps, one.masks, one.labels, weights, **ranges)
    found = {name: pixels.pop(name) for name in ("aupro", "aupimo")}
    found |= {f"pixel_{name}": values for name, values in pixels.items()}
    images = of_images(one.scores, one.labels, weights)
    found |= {f"image_{name}": values for name, values in images.items()}
    for level, pair in {"image": (one.scores, one.labels), "pixel": (one.maps, one.masks)}.items():
        decided = of_decisions(*pair, threshold, weights)
        found |= {f"{level}_fpr": decided["fpr"], f"{level}_decided": decided["f1"]}
    return found


# The same as the slow way


@pytest.mark.parametrize("ties", [None, 0.5])
@pytest.mark.parametrize("fpr_range", [(1e-5, 1e-4), (1e-3, 0.1), (0.2, 1.0)])
def test_where_every_score_is_a_threshold_the_bootstrap_is_the_loop(ties, fpr_range):
    one = split(5, 7, 8, ties)
    weights = np.vstack([np.ones(12), resamples(one.labels, count=12)])
    ranges = {"max_fpr": 0.25, "fpr_range": fpr_range}
    expected = looped(one, weights, 1.5, **ranges)
    found = at_once(one, weights, 1.5, **ranges)
    assert found.keys() == expected.keys()
    for name, values in found.items():
        assert values.tolist() == pytest.approx(expected[name], abs=1e-12), name


def test_of_many_pixels_the_error_is_below_a_ten_thousandth():
    """More scores than thresholds. The weights of 1 give the metrics of the split itself."""
    one = split(12, 16, 128)
    weights = np.vstack([np.ones(28), resamples(one.labels, count=4)])
    expected = looped(one, weights, 2.5)
    for name, (first, *others) in at_once(one, weights, 2.5).items():
        assert first == pytest.approx(expected[name][0], abs=1e-4), name
        assert others == pytest.approx(expected[name][1:], abs=5e-4), name


def test_the_highest_pixels_may_be_more_than_the_thresholds(monkeypatch):
    one = split(6, 6, 64)
    exact = of_pixels(one.maps, one.masks, one.labels, np.ones((1, 12)), fpr_range=(1e-3, 0.05))
    monkeypatch.setattr(bootstrap, "THRESHOLDS", 400)
    some = of_pixels(one.maps, one.masks, one.labels, np.ones((1, 12)), fpr_range=(1e-3, 0.05))
    assert some["aupimo"] != exact["aupimo"]
    assert some["aupimo"] == pytest.approx(exact["aupimo"], abs=3e-3)


def test_the_size_of_the_parts_does_not_matter(monkeypatch):
    one = split(5, 7, 8)
    weights = resamples(one.labels, count=20)
    whole = at_once(one, weights, 1.5)
    monkeypatch.setattr(bootstrap, "PART", 1)
    for name, values in at_once(one, weights, 1.5).items():
        assert values.tolist() == pytest.approx(whole[name].tolist(), abs=1e-14), name


def test_empty_masks_are_no_normal_images_and_alone_make_no_metric_of_pixels():
    one = split(5, 4, 8)
    first, *_ = one.labels.nonzero().flatten().tolist()
    one.masks[first] = False
    weights = np.ones((2, 9))
    weights[1, one.labels] = 0
    weights[1, first] = 4
    found = of_pixels(one.maps, one.masks, one.labels, weights)
    assert found["aupimo"][0] == pytest.approx(aupimo(one.maps, one.masks, labels=one.labels))
    assert all(math.isnan(values[1]) for values in found.values())
    decided = of_decisions(one.maps, one.masks, 1.5, weights)
    assert math.isnan(decided["fpr"][1]) and math.isnan(decided["f1"][1])


# Resamples


def test_resamples_are_of_both_kinds_apart_and_each_image_comes_once_on_average():
    labels = torch.tensor([0, 1, 1, 0, 1, 0, 0, 1, 1])
    weights = resamples(labels, "screw")
    assert weights.shape == (2000, 9)
    assert (weights[:, labels == 1].sum(1) == 5).all() and (
        weights[:, labels == 0].sum(1) == 4
    ).all()
    assert weights.mean(0) == pytest.approx(np.ones(9), abs=0.08)
    share = (weights[:, labels == 1] == 0).mean()
    assert share == pytest.approx((4 / 5) ** 5, abs=0.01), "with replacement"


def test_the_same_images_have_the_same_resamples_and_others_have_not():
    labels = torch.tensor([0, 0, 0, 1, 1, 1])
    first = resamples(labels, "screw")
    assert (first == resamples(labels.numpy(), "screw")).all()
    other = resamples(labels, "bottle")
    correlation = np.corrcoef(first[:, 0], other[:, 0])[0, 1]
    assert abs(correlation) < 0.1 and (first[:, :3] != first[:, 3:]).any()


def test_images_of_one_kind_are_drawn_among_themselves_and_no_images_are_refused():
    good = resamples([0, 0, 0], "screw")
    assert (good.sum(1) == 3).all() and (good == resamples([0, 0, 0, 1], "screw")[:, :3]).all()
    with pytest.raises(FastFlowError, match="no images"):
        resamples([])


def test_where_nothing_is_anomalous_the_rate_is_of_what_is_there():
    weights = np.array([[1, 1, 1], [0, 2, 1]])
    found = of_decisions(np.array([1.0, 5.0, 4.0]), [0, 0, 0], 4.5, weights)
    assert found["fpr"].tolist() == pytest.approx([1 / 3, 2 / 3])
    assert np.isnan(found["f1"]).all()


# Intervals


def test_where_nothing_varies_there_is_no_interval():
    assert all(map(math.isnan, interval(np.ones(2000))))
    assert all(map(math.isnan, interval(np.full(2000, math.nan))))
    low, high = interval(np.append(np.arange(100.0), math.nan))
    assert (low, high) == pytest.approx((2.475, 96.525))


@pytest.mark.parametrize(("shift", "least"), [(1.2, 0.92), (2.0, 0.91), (3.0, 0.90)])
def test_the_interval_covers_the_truth_as_often_as_it_says(shift: float, least: float):
    """Two normals with a known AUROC, 20 good and 20 anomalous images, 300 splits.

    Percentiles are a little too narrow for so few images, the more so the closer to 1.
    """
    generator = np.random.default_rng(0)
    truth, labels = stats.norm.cdf(shift / math.sqrt(2)), np.repeat([0, 1], 20)
    weights = resamples(labels, count=1000)
    covered = 0
    for _ in range(300):
        scores = generator.normal(size=40) + shift * labels
        found = of_images(scores, labels, weights)["auroc"]
        low, high = interval(found) if found.min() < 1 else (perfect_bound(20, 20), 1.0)
        covered += low <= truth <= high
    print(f"AUROC {truth:.3f}: {covered / 300:.3f} covered")
    assert least <= covered / 300 <= 0.98


@pytest.mark.parametrize("ratio", [0.0, 0.3, 1.0, 3.0])
def test_images_and_seeds_together_cover_the_truth(ratio: float):
    """Three seeds on the same images; ``ratio``: the seeds' spread to the images' error."""
    generator, covered = np.random.default_rng(0), 0
    noise = 0.02 * stats.norm.ppf((np.arange(400) + 0.5) / 400)
    for _ in range(1000):
        values = 0.5 + 0.02 * (generator.normal() + ratio * generator.normal(size=3))
        found = estimate(values, values[:, None] + noise)
        covered += found.low <= 0.5 <= found.high
    print(f"ratio {ratio}: {covered / 1000:.3f} covered")
    assert 0.93 <= covered / 1000 <= 0.985


def test_a_perfect_split_is_as_likely_as_the_bound_says():
    """The worst detector at the bound: some normal images above every anomalous one."""
    normal, bad = 20, 1 - perfect_bound(20, 63)
    assert (1 - bad) ** normal == pytest.approx(0.05)
    assert perfect_bound(100, 300) == pytest.approx(1 - 3 / 100, abs=1e-3), "the rule of three"


@pytest.mark.parametrize("area", [0.6, 0.8, 0.95])
def test_hanley_and_mcneils_error_is_what_exponential_scores_have(area: float):
    """Their formula is exact for exponential scores, whose rates have the ratio A / (1 - A)."""
    generator = np.random.default_rng(0)
    labels, areas = np.repeat([0, 1], [41, 119]), []
    for _ in range(1000):
        scores = generator.exponential(np.where(labels, area / (1 - area), 1))
        areas.append(separation(scores, labels).auroc)
    assert np.mean(areas) == pytest.approx(area, abs=0.005)
    assert np.std(areas) == pytest.approx(hanley_mcneil(area, 41, 119), rel=0.08)
    assert hanley_mcneil(1.0, 41, 119) == 0


@pytest.mark.parametrize(("n", "alpha"), [(5, 0.1), (20, 0.1), (59, 0.05), (200, 0.1)])
def test_thresholds_of_n_images_keep_what_they_promise(n: int, alpha: float):
    """The rule of a detector's threshold on scores of a known law, 4,000 times."""
    scores = torch.from_numpy(np.random.default_rng(n).exponential(size=(4000, n)))
    rates = np.exp([-float(upper_quantile(own, alpha)) for own in scores])
    expected, low, high = promised(n, alpha)
    assert rates.mean() == pytest.approx(expected, rel=0.04)
    assert ((low <= rates) & (rates <= high)).mean() == pytest.approx(0.9, abs=0.015)
    assert (rates > high).mean() == pytest.approx(0.05, abs=0.011)


def test_too_few_images_promise_less_than_was_asked_for():
    assert promised(9, 0.1)[0] == pytest.approx(0.1) and promised(5, 0.01)[0] == 1 / 6
    for n, alpha in ((0, 0.1), (5, 0.0), (5, 1.0)):
        with pytest.raises(FastFlowError, match="expected at least one"):
            promised(n, alpha)
