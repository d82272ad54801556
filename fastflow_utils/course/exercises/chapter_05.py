"""Exercises of notebook 05, evaluation."""

import math
from collections.abc import Callable
from functools import cache
from typing import Any, TypeAlias

import numpy as np
import torch
from scipy import ndimage
from scipy.stats import beta
from torch import Tensor

from fastflow_utils.course.exercises.checking import Exercise
from fastflow_utils.detector.bootstrap import of_images, resamples
from fastflow_utils.detector.metrics import aupimo, aupro, auroc

__all__ = ["EXERCISES"]


# 5.1: a test split's scores, and how rare anomalies are elsewhere


def _in_use() -> list[tuple[Any, ...]]:
    generator = torch.Generator().manual_seed(51)
    cases: list[tuple[Any, ...]] = []
    for count, threshold, share in [(40, 0.75, 0.1), (60, 0.5, 0.01)]:
        labels = torch.arange(count) % 3 == 0
        scores = torch.rand(count, generator=generator) + 0.4 * labels
        scores[:2] = threshold  # an anomalous and a good image exactly at it
        cases.append((scores, labels.long(), threshold, share))
    return cases


def _rates(scores: Tensor, labels: Tensor, threshold: float) -> tuple[float, float]:
    called = (torch.as_tensor(scores).double() >= threshold).double()
    return called[labels == 1].mean().item(), called[labels == 0].mean().item()


def _precision_in_use(scores: Tensor, labels: Tensor, threshold: float, share: float) -> float:
    tpr, fpr = _rates(scores, labels, threshold)
    return share * tpr / (share * tpr + (1 - share) * fpr)


def _precision_here(scores: Tensor, labels: Tensor, threshold: float, share: float) -> float:
    return labels[scores >= threshold].double().mean().item()


def _precision_above(scores: Tensor, labels: Tensor, threshold: float, share: float) -> float:
    return _precision_in_use(scores, labels, math.nextafter(threshold, math.inf), share)


def _odds_in_use(scores: Tensor, labels: Tensor, threshold: float, share: float) -> float:
    tpr, fpr = _rates(scores, labels, threshold)
    return share * tpr / ((1 - share) * fpr)


# 5.2: maps for masks of a large and of a small defect each, and what three metrics say of them


def _two_defects() -> list[tuple[Any, ...]]:
    cases: list[tuple[Any, ...]] = []
    for good, bad, size in [(4, 4, 64), (3, 5, 72)]:
        masks = torch.zeros(good + bad, 1, size, size, dtype=torch.bool)
        for image in range(good, good + bad):
            masks[image, :, 8 : 28 + image, 10:34] = True
            masks[image, :, size - 12 : size - 9, size - 20 + image : size - 16 + image] = True
        cases.append((masks,))
    return cases


Measured: TypeAlias = list[tuple[dict[str, float], dict[str, float]]]


def _measured(answer: Any) -> Measured | None:
    """Return the metrics of both maps, for each case; None for a stub."""
    found: Measured = []
    for (masks,) in _two_defects():
        pair = answer(masks.clone())
        if pair is None or pair is ...:
            return None
        first, second = (torch.as_tensor(maps) for maps in pair)
        found.append((_three(first, masks), _three(second, masks)))
    return found


def _three(maps: Tensor, masks: Tensor) -> dict[str, float]:
    if maps.shape != masks.shape:
        raise ValueError(f"maps of the shape {tuple(maps.shape)}, expected {tuple(masks.shape)}")
    metrics: dict[str, Callable[[Tensor, Tensor], float]]
    metrics = {"pixel AUROC": auroc, "AUPRO": aupro, "AUPIMO": aupimo}
    return {name: metric(maps, masks) for name, metric in metrics.items()}


def _all(which: int, name: str, low: float, high: float) -> Callable[[Measured], bool]:
    return lambda found: all(low <= each[which][name] <= high for each in found)


def _large_only(masks: Tensor) -> Tensor:
    """Return maps that are 1 on each image's large defect, -1 on its small one, 0 elsewhere."""
    maps = torch.zeros(masks.shape)
    for image, mask in zip(maps, masks, strict=True):
        regions, count = ndimage.label(mask[0].numpy(), [[1, 1, 1]] * 3)
        areas = [(regions == k).sum() for k in range(1, count + 1)]
        for k in range(1, count + 1):
            image[0, regions == k] = 1.0 if areas[k - 1] == max(areas) else -1.0
    return maps


def _one_hot_spot(masks: Tensor) -> Tensor:
    """Return maps that find every defect, and are hotter still in a spot of each good image."""
    maps = masks.float()
    maps[~masks.flatten(1).any(1), :, :2, :2] = 2.0
    return maps


def _flatter(masks: Tensor) -> tuple[Tensor, Tensor]:
    return _large_only(masks), _one_hot_spot(masks)


# 5.3: how many images to hold out


def _needed(alpha: float, limit: float, confidence: float, more: int = 1) -> int:
    n = 1
    while True:
        k = min(n, math.ceil((1 - alpha) * (n + more)))
        if beta.cdf(limit, n + 1 - k, k) >= confidence:
            return n
        n += 1


def _by_the_maximum(alpha: float, limit: float, confidence: float) -> int:
    return math.ceil(math.log(1 - confidence) / math.log(1 - limit))


def _needed_on_average(alpha: float, limit: float, confidence: float) -> int:
    return next(
        n
        for n in range(1, 10_000)
        if (n + 1 - min(n, math.ceil((1 - alpha) * (n + 1)))) / (n + 1) <= alpha
    )


# 5.5: scores of each epoch


def _epochs() -> list[tuple[Any, ...]]:
    generator = torch.Generator().manual_seed(59)
    cases: list[tuple[Any, ...]] = []
    for size in (20, 14):
        labels = torch.arange(40) % 2
        scores = torch.randn(8, 40, generator=generator) + labels
        half = torch.randperm(40, generator=generator) < size
        cases.append((scores, labels, half))
    return cases


def _areas(scores: Tensor, labels: Tensor, images: Tensor) -> list[float]:
    return [auroc(one[images], labels[images]) for one in scores]


def _crossed(scores: Tensor, labels: Tensor, half: Tensor) -> float:
    first, second = _areas(scores, labels, half), _areas(scores, labels, ~half)
    return (second[first.index(max(first))] + first[second.index(max(second))]) / 2


def _by_size(scores: Tensor, labels: Tensor, half: Tensor) -> float:
    first, second = _one_way(scores, labels, half), _one_way(scores, labels, ~half)
    share = half.double().mean().item()
    return first * (1 - share) + second * share  # each counts as the images that judge


def _one_way(scores: Tensor, labels: Tensor, half: Tensor) -> float:
    first = _areas(scores, labels, half)
    return _areas(scores, labels, ~half)[first.index(max(first))]


def _leaky(scores: Tensor, labels: Tensor, half: Tensor) -> float:
    return (max(_areas(scores, labels, half)) + max(_areas(scores, labels, ~half))) / 2


def _last(scores: Tensor, labels: Tensor, half: Tensor) -> float:
    return (_areas(scores, labels, half)[-1] + _areas(scores, labels, ~half)[-1]) / 2


def _best_of_all(scores: Tensor, labels: Tensor, half: Tensor) -> float:
    whole = _areas(scores, labels, torch.ones_like(half))
    best = whole.index(max(whole))
    return (_areas(scores, labels, half)[best] + _areas(scores, labels, ~half)[best]) / 2


# 5.6: two detectors on the same images


def _detectors() -> list[tuple[Any, ...]]:
    """Scores of A and B.

    Hardly different and with ties, B much better, A a little better, the same order, and A much
    better.
    """
    generator = torch.Generator().manual_seed(56)
    cases: list[tuple[Any, ...]] = []
    for count, gain, own in [(44, 0.1, 0.3), (60, 2.0, 0.5), (30, -0.3, 0.3)]:
        labels = (torch.arange(count) % 3 == 0).long()
        common = torch.randn(count, generator=generator) + 1.2 * labels
        a = common + own * torch.randn(count, generator=generator)
        b = common + own * torch.randn(count, generator=generator) + gain * labels
        cases.append((a, b, labels))
    cases[0] = (cases[0][0].round(decimals=1), cases[0][1].round(decimals=1), cases[0][2])
    worse, better, own_labels = cases[1]
    return [*cases, (a, 2 * a, labels), (better, worse, own_labels)]


def _compare(
    a: Tensor,
    b: Tensor,
    labels: Tensor,
    paired: bool = True,
    seed: int = 0,
    level: float = 0.95,
) -> dict[str, Any]:
    weights = [resamples(labels, f"{seed}", 2000)]
    weights.append(weights[0] if paired else resamples(labels, f"{seed} again", 2000))
    of_a, of_b = (
        of_images(s, labels, drawn)["auroc"] for s, drawn in zip((a, b), weights, strict=True)
    )
    low, high = map(float, np.quantile(of_b - of_a, [(1 - level) / 2, (1 + level) / 2]))
    difference = auroc(b, labels) - auroc(a, labels)
    found = {"difference": difference, "low": low, "high": high, "says": _says(low, high)}
    return found | {"times": _times(difference, low, high)}


@cache
def _of_other_draws() -> list[dict[str, Any]]:
    """Return the right answer to each case, by draws that are not those of the reference."""
    return [_compare(a, b, labels, seed=1) for a, b, labels in _detectors()]


def _ends_fit(seen: Any) -> bool:
    return all(
        abs(found[end] - expected[end]) <= 0.25 * (expected["high"] - expected["low"]) + 1e-6
        for (_, found), expected in zip(seen, _of_other_draws(), strict=True)
        for end in ("low", "high")
    )


def _widths_fit(seen: Any) -> bool:
    """Whether the first three intervals are as wide as they should be, on average."""
    widths = [
        (found["high"] - found["low"]) / (expected["high"] - expected["low"])
        for (_, found), expected in zip(seen[:3], _of_other_draws(), strict=False)
    ]
    return bool(0.92 <= sum(widths) / 3 <= 1.1)


def _says(low: float, high: float) -> str:
    if low > 0:
        return "B is better"
    return "A is better" if high < 0 else "cannot tell"


def _times(difference: float, low: float, high: float) -> float:
    """How many times the images, by the half of the interval on the side of 0."""
    if difference == 0:
        return math.inf
    half = difference - low if difference > 0 else high - difference
    return (half / difference) ** 2


def _times_fit(found: dict[str, Any]) -> bool:
    """Whether the number is right by the half towards 0, or by half the interval."""
    difference, low, high = (found[name] for name in ("difference", "low", "high"))
    if difference == 0:
        return bool(found["times"] == math.inf)
    both = _times(difference, low, high), ((high - low) / 2 / difference) ** 2
    return bool(0.9 * min(both) <= found["times"] <= 1.1 * max(both))


def _comparisons(answer: Any) -> Any:
    """Return each case with what the answer says of it; None for a stub."""
    found = [(case, answer(*(part.clone() for part in case))) for case in _detectors()]
    return None if any(one is None or one is ... for _, one in found) else found


def _letters(answer: Any) -> str | None:
    """Return "FH" for "FH", "f, h", ["F", "H"] and {"H", "F"} alike; None for a stub."""
    if answer is None or answer is ...:
        return None
    return "".join(
        sorted({letter.upper() for part in answer for letter in part if letter.isalpha()})
    )


EXERCISES = {
    "5.1": Exercise(
        reference=_precision_in_use,
        inputs=_in_use,
        hint="Take the true-positive and the false-positive rate from the test split. Of many "
        "parts in use, which share is anomalous and found, which share is good and called?",
        mistakes={
            "That is the precision on the test split, with its own share of anomalous images.": (
                _precision_here
            ),
            "A score that equals the threshold is an alarm, too.": _precision_above,
            "Those are real alarms for each false one. Precision is the real ones among all.": (
                _odds_in_use
            ),
            "Good parts are not the share 1 of all parts, but 1 - share.": (
                lambda scores, labels, threshold, share: (
                    share
                    * _rates(scores, labels, threshold)[0]
                    / (
                        share * _rates(scores, labels, threshold)[0]
                        + _rates(scores, labels, threshold)[1]
                    )
                )
            ),
        },
    ),
    "5.2": Exercise(
        reference=_flatter,
        observe=_measured,
        hint="The first: find the large defects and miss the small ones. The second: which pixels "
        "set the thresholds of AUPIMO, and how many of them are enough?",
        properties={
            "the first maps have a pixel AUROC of at least 0.9.": _all(0, "pixel AUROC", 0.9, 1),
            "the first maps have an AUPRO of at most 0.6.": _all(0, "AUPRO", 0, 0.6),
            "the second maps have an AUPRO of at least 0.9.": _all(1, "AUPRO", 0.9, 1),
            "the second maps have an AUPIMO of at most 0.1.": _all(1, "AUPIMO", 0, 0.1),
        },
        mistakes={
            "the first maps have a pixel AUROC of at least 0.9.": lambda masks: (
                -_large_only(masks),
                _one_hot_spot(masks),
            ),
            "the first maps have an AUPRO of at most 0.6.": lambda masks: (
                masks.float(),
                _one_hot_spot(masks),
            ),
            "the second maps have an AUPRO of at least 0.9.": lambda masks: (
                _large_only(masks),
                torch.zeros(masks.shape),
            ),
            "the second maps have an AUPIMO of at most 0.1.": lambda masks: (
                _large_only(masks),
                masks.float(),
            ),
        },
    ),
    "5.3": Exercise(
        reference=_needed,
        inputs=lambda: [
            (0.1, 0.2, 0.95),
            (0.1, 0.15, 0.95),  # k < n
            (0.05, 0.08, 0.9),
            (0.1, 0.5, 0.9),  # fewer than 1 / alpha - 1, so k would be more than n
        ],
        hint="For one n: which k does section 8 take, and which law has the rate then? Begin with "
        "n = 1 and count up.",
        mistakes={
            "That many make the mean rate right. How often is a single draw within the limit?": (
                _needed_on_average
            ),
            "The threshold is the k-th lowest score, not always the highest.": _by_the_maximum,
            "k is of n + 1 images, as the new one counts, too, and is rounded up.": (
                lambda alpha, limit, confidence: _needed(alpha, limit, confidence, more=0)
            ),
            "Within the limit with the probability confidence, not above it.": (
                lambda alpha, limit, confidence: _needed(alpha, limit, 1 - confidence)
            ),
        },
    ),
    "5.4": Exercise(
        reference="FH",
        observe=_letters,
        hint="Ask of each line whether the detector would be another one if the test labels were "
        "others.",
        mistakes={
            "One of the two. Is there another line after which the detector depends on the test "
            "labels?": "F",
            "One of the two. Was the model itself chosen without the test labels?": "H",
            "E computes a metric and changes nothing. Which line lets it decide?": "EH",
            "Right ones are among them, but a line that only computes decides nothing.": "EFH",
            "The last line reports, which is what a test split is for.": "FHI",
            "G looks at held-out images of the training split: all of them are good.": "GH",
        },
    ),
    "5.5": Exercise(
        reference=_crossed,
        inputs=_epochs,
        hint="One half chooses the number of an epoch; the other half gives that epoch's metric.",
        mistakes={
            "These are the metrics of the very halves that chose.": _leaky,
            "Both directions count the same, however many images judge.": _by_size,
            "That is one direction. The other half can choose, too.": _one_way,
            "The epoch is chosen by all images, and all of them judge it.": _best_of_all,
            "The last epoch would be honest, too, but here an epoch is to be chosen.": _last,
        },
    ),
    "5.6": Exercise(
        reference=_compare,
        observe=_comparisons,
        hint="Draw good images from the good ones and anomalous ones from the anomalous ones, the "
        "same for A and B; the percentiles of the differences are the interval.",
        properties={
            "the difference is the AUROC of B minus that of A, on the images as they are.": (
                lambda seen: all(
                    math.isclose(found["difference"], auroc(b, y) - auroc(a, y), abs_tol=1e-6)
                    for (a, b, y), found in seen
                )
            ),
            "low, the difference and high stand in this order.": lambda seen: all(
                found["low"] - 1e-9 <= found["difference"] <= found["high"] + 1e-9
                for _, found in seen
            ),
            "the interval is that of paired draws, of whole images.": _ends_fit,
            "the interval holds the middle 95 % of the draws.": _widths_fit,
            '"says" follows from where 0 is.': lambda seen: all(
                found["says"] == _says(found["low"], found["high"]) for _, found in seen
            ),
            '"times" is how much the interval must shrink, squared.': lambda seen: all(
                _times_fit(found) for _, found in seen
            ),
        },
        mistakes={
            "the difference is the AUROC of B minus that of A, on the images as they are.": (
                lambda a, b, labels: _compare(b, a, labels)
            ),
            "low, the difference and high stand in this order.": lambda a, b, labels: {
                **_compare(a, b, labels),
                "low": _compare(a, b, labels)["high"],
                "high": _compare(a, b, labels)["low"],
            },
            "the interval is that of paired draws, of whole images.": (
                lambda a, b, labels: _compare(a, b, labels, paired=False)
            ),
            "the interval holds the middle 95 % of the draws.": (
                lambda a, b, labels: _compare(a, b, labels, level=0.9)
            ),
            '"says" follows from where 0 is.': lambda a, b, labels: {
                **_compare(a, b, labels),
                "says": "B is better" if auroc(b, labels) > auroc(a, labels) else "A is better",
            },
            '"times" is how much the interval must shrink, squared.': lambda a, b, labels: {
                **_compare(a, b, labels),
                "times": math.sqrt(_compare(a, b, labels)["times"]),
            },
        },
    ),
}
