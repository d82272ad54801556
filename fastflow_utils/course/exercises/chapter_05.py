"""Exercises of notebook 05, evaluation."""

import math
from typing import Any

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from fastflow_utils.course.exercises.checking import Exercise
from fastflow_utils.detector.metrics import auroc

__all__ = ["EXERCISES"]


# 5.1: scores with ties, good and anomalous mixed


def _scored() -> list[tuple[Any, ...]]:
    generator = torch.Generator().manual_seed(51)
    cases: list[tuple[Any, ...]] = []
    for count in (9, 30):
        scores = torch.randint(0, 8, (count,), generator=generator) / 4
        labels = torch.randint(0, 2, (count,), generator=generator)
        labels[:2] = torch.tensor([0, 1])
        cases.append((scores + labels / 2, labels))
    return cases


def _pairs(scores: Tensor, labels: Tensor, tie: float) -> float:
    gap = scores[labels == 1][:, None] - scores[labels == 0][None]
    return ((gap > 0).float() + tie * (gap == 0)).mean().item()


# 5.3: thresholds from the scores of normal images


def _normal_scores() -> list[tuple[Any, ...]]:
    generator = torch.Generator().manual_seed(53)
    # (1 - fpr)(n + 1) is far from a whole number, so that rounding decides nothing.
    return [
        (torch.rand(n, generator=generator), fpr) for n, fpr in [(25, 0.1), (60, 0.22), (5, 0.1)]
    ]


def _kth(scores: Tensor, k: int) -> float:
    return float(torch.as_tensor(scores).sort().values[min(k, len(scores)) - 1])


# 5.4: a large region, a small one, and two that touch at a corner only


def _regions() -> list[tuple[Any, ...]]:
    generator = torch.Generator().manual_seed(54)
    mask = torch.zeros(24, 24, dtype=torch.bool)
    mask[2:12, 3:13] = True
    mask[15:17, 16:19] = True
    mask[18:22, 2:6] = True
    mask[22:24, 6:8] = True  # touches the one above at a corner: one region
    anomaly_map = torch.rand(24, 24, generator=generator)
    anomaly_map[2:12, 3:13] += 0.4
    anomaly_map[22:24, 6:8] += 0.7
    return [(anomaly_map.clone(), mask.clone(), threshold) for threshold in (0.5, 0.8)]


def _overlap(anomaly_map: Tensor, mask: Tensor, threshold: float, neighbours: int = 8) -> float:
    structure = None if neighbours == 4 else [[1, 1, 1]] * 3
    regions, count = ndimage.label(mask.numpy(), structure)
    called = anomaly_map.numpy() >= threshold
    return float(np.mean([called[regions == k].mean() for k in range(1, count + 1)]))


def _iou(anomaly_map: Tensor, mask: Tensor, threshold: float) -> float:
    called = anomaly_map >= threshold
    return float((called & mask).sum() / (called | mask).sum())


# 5.5: scores of each epoch


def _epochs() -> list[tuple[Any, ...]]:
    generator = torch.Generator().manual_seed(59)
    cases: list[tuple[Any, ...]] = []
    for _ in range(2):
        labels = torch.arange(40) % 2
        scores = torch.randn(8, 40, generator=generator) + labels
        half = torch.randperm(40, generator=generator) < 20
        cases.append((scores, labels, half))
    return cases


def _areas(scores: Tensor, labels: Tensor, images: Tensor) -> list[float]:
    return [auroc(one[images], labels[images]) for one in scores]


def _crossed(scores: Tensor, labels: Tensor, half: Tensor) -> float:
    first, second = _areas(scores, labels, half), _areas(scores, labels, ~half)
    return (second[first.index(max(first))] + first[second.index(max(second))]) / 2


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


def _letters(answer: Any) -> str | None:
    """Return "FH" for "FH", "f, h", ["F", "H"] and {"H", "F"} alike; None for a stub."""
    if answer is None or answer is ...:
        return None
    return "".join(
        sorted({letter.upper() for part in answer for letter in part if letter.isalpha()})
    )


EXERCISES = {
    "5.1": Exercise(
        reference=lambda scores, labels: _pairs(scores, labels, 0.5),
        inputs=_scored,
        hint="Compare every anomalous score with every good one: what is the mean over all pairs?",
        mistakes={
            "Two equal scores: what does such a pair count for?": lambda scores, labels: _pairs(
                scores, labels, 0.0
            ),
            "Is a pair of equal scores really in the right order?": lambda scores, labels: _pairs(
                scores, labels, 1.0
            ),
            "Which of the two should score higher?": lambda scores, labels: _pairs(
                -scores, labels, 0.5
            ),
        },
    ),
    "5.2": Exercise(
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
    "5.3": Exercise(
        reference=lambda scores, fpr: _kth(scores, math.ceil((1 - fpr) * (len(scores) + 1))),
        inputs=_normal_scores,
        hint="Sort the scores and take the k-th smallest, k as in section 7; k is at most n.",
        mistakes={
            "A new image makes it n + 1 images that must share the rate.": lambda scores, fpr: (
                _kth(scores, math.ceil((1 - fpr) * len(scores)))
            ),
            "No interpolation: the threshold is one of the scores.": lambda scores, fpr: (
                torch.quantile(scores, 1 - fpr).item()
            ),
            "Counted from the largest or from the smallest?": lambda scores, fpr: (
                _kth(-scores, math.ceil((1 - fpr) * (len(scores) + 1))) * -1
            ),
        },
    ),
    "5.4": Exercise(
        reference=_overlap,
        inputs=_regions,
        hint="Number the regions, take each one's share of pixels that are called anomalous, and "
        "average the shares over the regions.",
        mistakes={
            "That is the share of all defective pixels: a large region outvotes the small ones.": (
                lambda anomaly_map, mask, threshold: (
                    (anomaly_map[mask] >= threshold).float().mean().item()
                )
            ),
            "Two pixels that touch at a corner are neighbours here.": (
                lambda anomaly_map, mask, threshold: _overlap(anomaly_map, mask, threshold, 4)
            ),
            "That is an intersection over a union: false alarms do not belong in here.": _iou,
        },
    ),
    "5.5": Exercise(
        reference=_crossed,
        inputs=_epochs,
        hint="One half chooses the number of an epoch; the other half gives that epoch's metric.",
        mistakes={
            "These are the metrics of the very halves that chose.": _leaky,
            "That is one direction. The other half can choose, too.": _one_way,
            "The epoch is chosen by all images, and all of them judge it.": _best_of_all,
            "The last epoch would be honest, too, but here an epoch is to be chosen.": _last,
        },
    ),
}
