"""Two thresholds, and all that hangs on them: overlay, decisions, the point on the ROC."""

from dataclasses import dataclass

import ipywidgets
import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from fastflow_utils.course.plots import ANOMALOUS_COLOUR, GOOD_COLOUR, outline, plain, show
from fastflow_utils.course.widgets.explore import explore
from fastflow_utils.detector.evaluation import Evaluation
from fastflow_utils.detector.metrics import roc_curve

__all__ = ["Confusion", "ThresholdFigure", "confusion", "explore_threshold"]


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


class ThresholdFigure:
    """Draws what thresholds do; ``ThresholdFigure(evaluation)(0.6, 0.5, 0)`` is a figure.

    Computed beforehand, once: the ROC curve, the place of every score, the test images in grey,
    and the figure itself. Each call compares one map with its threshold, counts, and moves what
    moves; it returns the same figure every time.

    Args:
        evaluation: Of a test split.
        images: The images that may be asked for; the default is all.
    """

    def __init__(self, evaluation: Evaluation, images: list[int] | None = None) -> None:
        self.evaluation = evaluation
        data, scores, labels = evaluation.dataset, evaluation.scores, evaluation.labels
        chosen = range(len(data)) if images is None else images
        self.grey = {i: show(data[i].image).mean(-1, keepdims=True).repeat(3, -1) for i in chosen}
        # Beside instead of on top of each other: a fixed place for each image.
        self.places = labels.numpy() + np.random.default_rng(0).uniform(-0.25, 0.25, len(data))
        low, high = map(float, scores.aminmax())
        self.limits = low - 0.03 * (high - low), high + 0.03 * (high - low)

        # Places are fixed: a layout that fits itself takes longer to draw.
        self.figure = Figure((9.4, 3.5), dpi=80)
        self.figure.set_layout_engine("none")
        self.picture = self.figure.add_axes((0.01, 0.09, 0.30, 0.73))
        self.picture.set(xticks=[], yticks=[])
        self.pixels = self.picture.imshow(np.zeros((*evaluation.maps.shape[2:], 3)))
        self.spread = self.figure.add_axes((0.42, 0.18, 0.24, 0.63))
        for label, (colour, marker) in enumerate([(GOOD_COLOUR, "o"), (ANOMALOUS_COLOUR, "^")]):
            own = labels.numpy() == label
            self.spread.scatter(self.places[own], scores[own], 22, color=colour, marker=marker)
        (self.chosen,) = self.spread.plot([], [], "ks", markersize=9, fillstyle="none")
        self.line = self.spread.axhline(0, color="black")
        self.spread.set(xticks=[0, 1], xticklabels=["good", "anomalous"], xlim=(-0.5, 1.5))
        self.spread.set(ylim=self.limits, ylabel="image score")
        self.curve = self.figure.add_axes((0.755, 0.18, 0.235, 0.63))
        self.curve.plot(*roc_curve(scores, labels), color="black")
        self.curve.plot([0, 1], [0, 1], "--", color="grey", linewidth=1)
        (self.point,) = self.curve.plot([], [], "ko", markersize=10)
        self.curve.set(xlabel="false-positive rate", ylabel="true-positive rate")

    def __call__(self, threshold: float, pixel_threshold: float, image: int) -> Figure:
        """Return the figure: scores and ROC at one threshold, the image's pixels at the other."""
        data, score = self.evaluation.dataset, float(self.evaluation.scores[image])
        counts = confusion(self.evaluation.scores, self.evaluation.labels, threshold)
        self.pixels.set_data(self._overlay(pixel_threshold, image))
        self.picture.set_xlabel(plain(data.defects[image]))
        says = "anomalous" if score >= threshold else "good"
        self.picture.set_title(
            f"{plain(data.title)}, no. {image}\nscore {score:.2f}: called {says}"
        )
        self.chosen.set_data([self.places[image]], [score])
        self.line.set_ydata([threshold, threshold])
        self.spread.set_title(
            f"{counts.false_alarms} false alarms | {counts.found} found\n"
            f"{counts.passed} passed | {counts.missed} missed"
        )
        self.point.set_data([counts.fpr], [counts.tpr])
        self.curve.set_title(f"threshold {threshold:.2f}\nF1 = {counts.f1:.2f}")
        return self.figure

    def _overlay(
        self, pixel_threshold: float, image: int
    ) -> np.ndarray[tuple[int, ...], np.dtype]:
        called = self.evaluation.maps[image, 0].numpy() >= pixel_threshold
        mixed = self.grey[image].copy()
        mixed[called] = 0.45 * mixed[called] + 0.55 * np.array(ANOMALOUS_COLOUR)
        return outline(mixed, self.evaluation.masks[image])


def explore_threshold(
    evaluation: Evaluation, images: list[int] | None = None, *, threshold: float | None = None
) -> Figure | None:
    """Move two thresholds: of images, with the point on the ROC, and of the map's pixels.

    Each has a scale of its own: scores count in standard deviations of normal images, maps are in
    [0, 1].

    Args:
        evaluation: Of a test split.
        images: The images to choose from, the first one shown first. Default: all, the highest
            anomalous score first.
        threshold: Where the images' slider starts. Default, as for the pixels': the model's own.
    """
    data, scores = evaluation.dataset, evaluation.scores
    if images is None:
        order = (scores + evaluation.labels).argsort(descending=True)
        images = [int(i) for i in order]
    draw = ThresholdFigure(evaluation, images)
    low, high = draw.limits
    start = evaluation.image_threshold if threshold is None else threshold
    names = [(f"{data.defects[i]}, score {scores[i]:.2f}, no. {i}", i) for i in images]
    return explore(
        draw,
        threshold=ipywidgets.FloatSlider(
            min(max(start, low), high), min=low, max=high, step=(high - low) / 500
        ),
        pixel_threshold=ipywidgets.FloatSlider(
            min(evaluation.pixel_threshold, 1), min=0, max=1, step=0.005, readout_format=".3f"
        ),
        image=ipywidgets.SelectionSlider(options=names, value=images[0]),
    )
