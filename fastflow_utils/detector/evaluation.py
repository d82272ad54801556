"""A model and a test split become maps, scores and honest metrics."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from fastflow_utils.data.images import as_images
from fastflow_utils.data.mvtec import MVTecAD
from fastflow_utils.detector.bootstrap import (
    RESAMPLES,
    Replicates,
    of_decisions,
    of_images,
    of_pixels,
    resamples,
)
from fastflow_utils.detector.detector import Detector
from fastflow_utils.detector.features import Features, extract
from fastflow_utils.detector.intervals import interval, perfect_bound
from fastflow_utils.detector.metrics import (
    Separation,
    aupimo,
    aupro,
    auroc,
    f1_at,
    fpr_at,
    separation,
)
from fastflow_utils.errors import FastFlowError
from fastflow_utils.frontend import track

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Evaluation", "evaluate"]

LEVELS = ("image", "pixel")
UNDEFINED = Separation(math.nan, math.nan, math.nan, math.nan)


@dataclass(frozen=True)
class Evaluation:
    """What a model says about each image of a test split, beside what is true.

    Attributes:
        dataset: The test split, in whose order everything else is.
        maps: The anomaly maps (N, 1, H, W); higher is more anomalous.
        scores: The image scores (N,); higher is more anomalous.
        masks: The true masks (N, 1, H, W), True = anomalous.
        labels: (N,), 0 good, 1 anomalous.
        image_threshold: The model's: ``scores >= image_threshold`` calls an image anomalous.
        pixel_threshold: The same for a pixel of a map.
    """

    dataset: MVTecAD
    maps: Tensor
    scores: Tensor
    masks: Tensor
    labels: Tensor
    image_threshold: float
    pixel_threshold: float

    def metrics(self) -> dict[str, float]:
        """Return the metrics of the tables, each in [0, 1], higher is better.

        ``image_auroc``, ``image_ap`` and ``image_f1`` are over images; ``pixel_auroc``,
        ``pixel_ap`` and ``pixel_f1`` over all pixels of all images, at the maps' resolution;
        ``aupro`` and ``aupimo`` over the pixels of defects (``detector.metrics``).
        Both F1 are oracles: their thresholds are the best ones for this very split. A metric is
        NaN where nothing is normal or nothing is anomalous; :meth:`notes` says why.
        """
        of_images, of_pixels = (
            separation(*pair) if _both_kinds(pair[1]) else UNDEFINED
            for pair in ((self.scores, self.labels), (self.maps, self.masks))
        )
        pixels, labels = (self.maps, self.masks), self.labels
        return {
            "image_auroc": of_images.auroc,
            "image_ap": of_images.average_precision,
            "image_f1": of_images.f1,
            "pixel_auroc": of_pixels.auroc,
            "pixel_ap": of_pixels.average_precision,
            "pixel_f1": of_pixels.f1,
            "aupro": _if_defined(aupro, *pixels),
            "aupimo": (
                _if_defined(partial(aupimo, labels=labels), *pixels)
                if _both_kinds(labels)
                else math.nan
            ),
        }

    def label_free(self) -> dict[str, float]:
        """Return what the model's own thresholds give: they have seen normal images only.

        For images and for pixels: the threshold, the false-positive rate (lower is better) and
        F1, to be compared with the oracle of :meth:`metrics` and with the rate asked for in
        training. Rate and F1 are NaN where those of :meth:`metrics` are.
        """
        images = (self.scores, self.labels, self.image_threshold)
        pixels = (self.maps, self.masks, self.pixel_threshold)
        return {
            "image_threshold": self.image_threshold,
            "image_fpr": _if_defined(fpr_at, *images),
            "image_f1": _if_defined(f1_at, *images),
            "pixel_threshold": self.pixel_threshold,
            "pixel_fpr": _if_defined(fpr_at, *pixels),
            "pixel_f1": _if_defined(f1_at, *pixels),
        }

    def replicates(self, count: int = RESAMPLES) -> Replicates:
        """Return every metric on each of so many resamples of the test images, (count,).

        The names are those of :meth:`metrics`, and ``label_free_image_fpr``, ``_image_f1``,
        ``_pixel_fpr`` and ``_pixel_f1`` for :meth:`label_free`. The resamples are those of the
        category (``detector.bootstrap``): the same for every model. NaN where a metric is.
        """
        if not _both_kinds(self.labels):
            rates = (f"label_free_{level}_{name}" for level in LEVELS for name in ("fpr", "f1"))
            return {name: np.full(count, math.nan) for name in (*self.metrics(), *rates)}
        weights = resamples(self.labels, self.dataset.category, count)
        images, pixels = (self.scores, self.labels), (self.maps, self.masks)
        found = {
            "image": of_images(*images, weights),
            "pixel": of_pixels(*pixels, self.labels, weights),
            "label_free_image": of_decisions(*images, self.image_threshold, weights),
            "label_free_pixel": of_decisions(*pixels, self.pixel_threshold, weights),
        }
        return {
            name if name.startswith("aup") else f"{level}_{name}": values
            for level, metrics in found.items()
            for name, values in metrics.items()
        }

    def intervals(self, replicates: Replicates) -> dict[str, tuple[float, float]]:
        """Return the 95 % interval over test images of every metric, from :meth:`replicates`.

        Percentiles. A metric that is the same on all resamples has none (NaN, NaN), but for a
        perfect ``image_auroc``: from a one-sided bound to 1
        (:func:`~fastflow_utils.detector.intervals.perfect_bound`).
        """
        found = {name: interval(values) for name, values in replicates.items()}
        if (replicates["image_auroc"] == 1).all():
            anomalous = int(self.labels.count_nonzero())
            found["image_auroc"] = (perfect_bound(len(self.labels) - anomalous, anomalous), 1.0)
        return found

    def per_defect(self) -> "pd.DataFrame":
        """Return one row for each defect: its images and their AUROCs against the good ones.

        Columns: ``images``, ``image_auroc``, ``pixel_auroc``; the index is the defect. An AUROC is
        NaN where that of :meth:`metrics` would be, with the images of this defect alone.
        """
        rows = {}
        defects = self.dataset.defects
        for defect in sorted(set(defects) - {"good"}):
            chosen = torch.tensor([name in (defect, "good") for name in defects])
            rows[defect] = {
                "images": defects.count(defect),
                "image_auroc": _if_defined(auroc, self.scores[chosen], self.labels[chosen]),
                "pixel_auroc": _if_defined(auroc, self.maps[chosen], self.masks[chosen]),
            }
        import pandas as pd  # here, as in training: only tables need it

        return pd.DataFrame.from_dict(rows, orient="index").rename_axis("defect")

    def notes(self) -> list[str]:
        """Return what a reader of the metrics must know: a sentence for each reason of a NaN.

        And for masks that became empty when they were resized, where images that are anomalous
        have no anomalous pixel. An empty list means that there is nothing to say.
        """
        if not _both_kinds(self.labels):
            counts = self.dataset.counts()
            return [f"the test split holds {counts}: metrics need good and anomalous images"]
        size, empty, notes = self.maps.shape[-1], ~self.masks.flatten(1).any(1), []
        if math.isinf(self.image_threshold):
            notes.append(
                "the model was never calibrated: its thresholds are infinite and call nothing "
                "anomalous; fit or calibrate it"
            )
        for defect in sorted(set(self.dataset.defects) - {"good"}):
            lost = empty[torch.tensor([name == defect for name in self.dataset.defects])]
            if lost.any():
                without = ", and there is no pixel AUROC of this defect" if lost.all() else ""
                notes.append(
                    f"{int(lost.sum())} of {len(lost)} masks of '{defect}' are empty at {size} "
                    "px: in pixel metrics, the pixels of these images count as normal, except in "
                    f"AUPIMO, which leaves the images out{without}; read the images larger, or "
                    "look at the mask files"
                )
        if empty.all():
            notes.append(f"all masks are empty at {size} px: there are no pixel metrics")
        return notes


def _both_kinds(labels: Tensor) -> bool:
    return bool(labels.any()) and not bool(labels.all())


def _if_defined(
    metric: Callable[..., float], scores: Tensor, labels: Tensor, *more: float
) -> float:
    """The metric, or NaN where nothing is normal or nothing is anomalous."""
    return metric(scores, labels, *more) if _both_kinds(labels) else math.nan


@torch.no_grad()
def evaluate(
    model: Detector, dataset: MVTecAD, features: Features | None = None, batch_size: int = 8
) -> Evaluation:
    """Return the maps and scores of a test split, computed in the model's inference form.

    Args:
        model: Trained.
        dataset: The test split; its masks are read at the size of the maps.
        features: Of ``dataset``. Default: they are extracted, from the cache where they are in it.
        batch_size: Images at a time.

    Raises:
        FastFlowError: If the features are of another network or of other images.
    """
    detector = model.for_inference()
    if features is None:
        features = extract(detector.backbone, dataset)
    features.check_source(detector.backbone)
    features.check_images(dataset)
    if batch_size < 1:
        raise FastFlowError(f"batch_size={batch_size}: expected at least 1")
    size = detector.backbone.image_size
    maps, scores = torch.empty(len(features), 1, size, size), torch.empty(len(features))
    with track(range(len(features)), "evaluating") as bar:
        for start in range(0, len(features), batch_size):
            batch = [h.to(detector.device) for h in features[start : start + batch_size]]
            there = slice(start, start + batch_size)
            anomaly_map, score = detector.judge(batch)
            if detector.backbone.upright:  # the masks are of the images as they are
                images = as_images(dataset.paths[there], size).to(detector.device)
                anomaly_map = detector.backbone.turned_back(anomaly_map, images)
            maps[there], scores[there] = anomaly_map.cpu(), score.cpu()
            bar.update(len(batch[0]))
    return Evaluation(
        dataset=dataset,
        maps=maps,
        scores=scores,
        masks=dataset.masks(),
        labels=torch.tensor(dataset.labels),
        image_threshold=float(detector.image_threshold),
        pixel_threshold=float(detector.pixel_threshold),
    )
