"""Two thresholds, and all that hangs on them: overlay, decisions, the point on the ROC."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from fastflow_utils.course.live import present
from fastflow_utils.course.live.thumbnails import (
    COLOURS,
    as_many,
    pack_maps,
    pack_masks,
    reduced_size,
    thumbnail,
)
from fastflow_utils.course.plots import (
    ANOMALOUS_COLOUR,
    GOOD_COLOUR,
    Pixels,
    describe,
    outline,
    plain,
    show,
)
from fastflow_utils.detector.evaluation import Evaluation
from fastflow_utils.detector.metrics import roc_curve, separation
from fastflow_utils.frontend import is_live

__all__ = ["Confusion", "confusion", "explore_threshold", "threshold_data", "threshold_figure"]

BUDGET = 1_200_000
"""Bytes of a page for this figure: the test split of a category, and a fifth of the page."""
SIDE = 256
"""Pixels of a picture's longer side; of a map's half as many, which its smoothness allows."""


@dataclass(frozen=True)
class Confusion:
    """How many images are decided how; "called" means ``score >= threshold``."""

    found: int
    """Anomalous and called anomalous (true positives)."""
    missed: int
    """Anomalous and called good (false negatives)."""
    false_alarms: int
    """Good and called anomalous (false positives)."""
    passed: int
    """Good and called good (true negatives)."""

    @property
    def tpr(self) -> float:
        """The share of the anomalous images that is found (recall)."""
        return self.found / (self.found + self.missed)

    @property
    def fpr(self) -> float:
        """The share of the good images that is called anomalous."""
        return self.false_alarms / (self.false_alarms + self.passed)

    @property
    def precision(self) -> float:
        """The share of the called images that is anomalous; 1 where none is called."""
        called = self.found + self.false_alarms
        return self.found / called if called else 1.0

    @property
    def f1(self) -> float:
        """F1 of the anomalous images."""
        return 2 * self.found / (2 * self.found + self.missed + self.false_alarms)


def confusion(scores: Tensor, labels: Tensor, threshold: float) -> Confusion:
    """Count the decisions that ``scores >= threshold`` makes.

    Args:
        scores: (N,), higher is more anomalous.
        labels: (N,), 0 good, 1 anomalous; both must be there.
        threshold: From here on an image is called anomalous.

    Example:
        >>> import torch
        >>> scores, labels = torch.tensor([0.2, 0.6, 0.5, 0.9]), torch.tensor([0, 0, 1, 1])
        >>> confusion(scores, labels, 0.55)
        Confusion(found=1, missed=1, false_alarms=1, passed=1)
    """
    called, anomalous = scores >= threshold, labels == 1
    return Confusion(
        found=int((called & anomalous).sum()),
        missed=int((~called & anomalous).sum()),
        false_alarms=int((called & ~anomalous).sum()),
        passed=int((~called & ~anomalous).sum()),
    )


def threshold_figure(
    evaluation: Evaluation, threshold: float, pixel_threshold: float, image: int
) -> Figure:
    """Show what two thresholds do: of one image's pixels, and of all images' scores.

    Args:
        evaluation: Of a test split.
        threshold: Of the image scores.
        pixel_threshold: Of the anomaly maps.
        image: Whose pixels are shown.

    Returns:
        The image in grey with the called pixels and its mask's outline, the scores of all images,
        and the point on the ROC curve.
    """
    data, scores, labels = evaluation.dataset, evaluation.scores, evaluation.labels
    score, counts = float(scores[image]), confusion(scores, labels, threshold)
    # Beside instead of on top of each other: a fixed place for each image.
    places = labels.numpy() + np.random.default_rng(0).uniform(-0.25, 0.25, len(data))

    figure = Figure((9.4, 3.5), dpi=80)
    figure.set_layout_engine("none")
    picture = figure.add_axes((0.01, 0.09, 0.30, 0.73), xticks=[], yticks=[])
    picture.imshow(_overlay(evaluation, pixel_threshold, image))
    picture.set_xlabel(plain(data.defects[image]))
    says = "anomalous" if score >= threshold else "good"
    picture.set_title(f"{plain(data.title)}, no. {image}\nscore {score:.2f}: called {says}")
    spread = figure.add_axes((0.42, 0.18, 0.24, 0.63))
    for label, (colour, marker) in enumerate([(GOOD_COLOUR, "o"), (ANOMALOUS_COLOUR, "^")]):
        own = labels.numpy() == label
        spread.scatter(places[own], scores[own], 22, color=colour, marker=marker)
    spread.plot([places[image]], [score], "ks", markersize=9, fillstyle="none")
    spread.axhline(threshold, color="black")
    spread.set(xticks=[0, 1], xticklabels=["good", "anomalous"], xlim=(-0.5, 1.5))
    spread.set(ylim=limits(scores), ylabel="image score")
    spread.set_title(
        f"{counts.false_alarms} false alarms | {counts.found} found\n"
        f"{counts.passed} passed | {counts.missed} missed"
    )
    curve = figure.add_axes((0.755, 0.18, 0.235, 0.63))
    curve.plot(*roc_curve(scores, labels), color="black")
    curve.plot([0, 1], [0, 1], "--", color="grey", linewidth=1)
    curve.plot([counts.fpr], [counts.tpr], "ko", markersize=10)
    curve.set(xlabel="false-positive rate", ylabel="true-positive rate")
    curve.set_title(f"threshold {threshold:.2f}\nF1 = {counts.f1:.2f}")
    return describe(
        figure,
        f"Its defect, {data.defects[image]}, with the pixels called anomalous and the mask's "
        "outline; all image scores, cut by a line; and the dot of the line on the ROC curve.",
    )


def limits(scores: Tensor) -> tuple[float, float]:
    """Return from where to where thresholds go: a little further than the scores (N,)."""
    low, high = map(float, scores.aminmax())
    beyond = 0.03 * (high - low) or 0.03 * abs(high) or 1.0  # all may be equal
    return low - beyond, high + beyond


def _overlay(evaluation: Evaluation, pixel_threshold: float, image: int) -> Pixels:
    mixed = show(evaluation.dataset[image].image).mean(-1, keepdims=True).repeat(3, -1)
    called = evaluation.maps[image, 0].numpy() >= pixel_threshold
    mixed[called] = 0.45 * mixed[called] + 0.55 * np.array(ANOMALOUS_COLOUR)
    return outline(mixed, evaluation.masks[image])


def threshold_data(
    evaluation: Evaluation, images: list[int], threshold: float, budget: float = BUDGET
) -> dict[str, Any]:
    """Return what a page needs to move both thresholds: kind ``threshold``.

    Scores, labels and thresholds are exact, so the page counts as :func:`confusion` does. Pictures
    are grey, at most 256 pixels long. Maps are half as long, with 8 bits, and linear in between: a
    map that is smoothed by a Gaussian of 4 pixels is off by at most 0.01, and of any image at most
    one pixel in two hundred changes sides, at pixel thresholds from 0.1 on.

    Args:
        evaluation: Of a test split.
        images: The images to choose from, in this order.
        threshold: Where that of the images starts.
        budget: Bytes; images that find no room are left out from the end, and a note says so.
    """
    data, scores = evaluation.dataset, evaluation.scores
    low, high = limits(scores)
    rates = separation(scores, evaluation.labels)
    own = evaluation.image_threshold, evaluation.pixel_threshold

    def first(count: int) -> dict[str, Any]:
        some = images[:count]
        size = reduced_size(evaluation.maps.shape[-2:], SIDE)
        left_out = f" Pictures of {count} of the {len(images)} images." if some != images else ""
        return {
            "kind": "threshold",
            "scores": scores.tolist(),
            "labels": evaluation.labels.tolist(),
            "ends": [low, high],
            "axis": "image score",
            "start": min(max(threshold, low), high),
            "own": [min(max(own[0], low), high), min(own[1], 1)],
            "areas": [rates.auroc, rates.average_precision],
            "order": some,
            "names": [f"{data.defects[i]}, no. {i}" for i in some],
            "size": size,
            "pictures": [thumbnail(data[i].image, SIDE, grey=True) for i in some],
            "masks": pack_masks((evaluation.masks[i] for i in some), SIDE),
            "maps": pack_maps(evaluation.maps[some], SIDE // 2),
            "columns": reduced_size(size, SIDE // 2)[1],
            "note": f"{data.title}, test split. Dashed: the model's own threshold among the "
            f"scores, and chance beside the curves.{left_out}",
        } | COLOURS

    return as_many(first, len(images), budget)


def explore_threshold(
    evaluation: Evaluation, images: list[int] | None = None, *, threshold: float | None = None
) -> Figure | None:
    """Move two thresholds: of images, with the points on both curves, and of the map's pixels.

    Each has a scale of its own: scores count in standard deviations of normal images, maps are in
    [0, 1]. The page computes what they do, with a kernel or without.

    Args:
        evaluation: Of a test split.
        images: The images to choose from, the first one shown first. Default: all, the highest
            anomalous score first.
        threshold: Where the images' slider starts. Default, as for the pixels': the model's own.

    Returns:
        :func:`threshold_figure` there; None with a live frontend.
    """
    scores = evaluation.scores
    if images is None:
        order = (scores + evaluation.labels).argsort(descending=True)
        images = [int(i) for i in order]
    low, high = limits(scores)
    start = evaluation.image_threshold if threshold is None else threshold
    start = min(max(start, low), high)
    figure = threshold_figure(evaluation, start, min(evaluation.pixel_threshold, 1), images[0])
    budget = math.inf if is_live() else BUDGET
    return present(figure, lambda: threshold_data(evaluation, images, start, budget))
