"""A model and a test split become maps, scores and honest metrics."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from fastflow_utils.data.images import as_images
from fastflow_utils.data.mvtec import Pictures
from fastflow_utils.data.sizes import size_text
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
    regions_of,
    separation,
)
from fastflow_utils.errors import FastFlowError
from fastflow_utils.frontend import track

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Evaluation", "evaluate"]

LEVELS = ("image", "pixel")
METRICS = (
    *(f"{level}_{name}" for level in LEVELS for name in ("auroc", "ap", "f1")),
    *("aupro", "aupimo"),
)
UNDEFINED = Separation(math.nan, math.nan, math.nan, math.nan)


@dataclass(frozen=True)
class Evaluation:
    """What a model says about each image of a test split, beside what is true.

    Attributes:
        dataset: The test split, in whose order everything else is.
        maps: The anomaly maps (N, 1, H, W); higher is more anomalous.
        scores: The image scores (N,); higher is more anomalous.
        masks: The true masks (N, 1, H, W), True = anomalous; all False of an image without one,
            and outside of the model's region.
        labels: (N,), 0 good, 1 anomalous.
        image_threshold: The model's: ``scores >= image_threshold`` calls an image anomalous.
        pixel_threshold: The same for a pixel of a map.
        inside: The model's region, (H, W) bool, True where it looks; None: everywhere.
        outside: How many anomalous images were left out, as their defects are wholly outside.
    """

    dataset: Pictures
    maps: Tensor
    scores: Tensor
    masks: Tensor
    labels: Tensor
    image_threshold: float
    pixel_threshold: float
    inside: Tensor | None = None
    outside: int = 0

    @property
    def pixels(self) -> tuple[Tensor, Tensor]:
        """The maps and the masks, with a region (N, 1, P), its P pixels in a row.

        Of both nothing where the truth of pixels is not known: where an anomalous image has no
        mask, or no mask has a pixel left.
        """
        if not self.dataset.has_masks or (self.labels.any() and not self.masks.any()):
            return self.maps[:0], self.masks[:0]
        if self.inside is None:
            return self.maps, self.masks
        return self.maps[..., self.inside], self.masks[..., self.inside]

    def metrics(self) -> dict[str, float]:
        """Return the metrics of the tables, each in [0, 1], higher is better.

        ``image_auroc``, ``image_ap`` and ``image_f1`` are over images; ``pixel_auroc``,
        ``pixel_ap`` and ``pixel_f1`` over all pixels of all images, or those of the model's
        region, at the maps' resolution;
        ``aupro`` and ``aupimo`` over the pixels of defects (``detector.metrics``).
        Both F1 are oracles: their thresholds are the best ones for this very split. A metric is
        NaN where nothing is normal, nothing is anomalous, or it is of :attr:`pixels` and they are
        not known; :meth:`notes` says why.
        """
        pixels, labels = self.pixels, self.labels
        of_images, of_pixels = (
            separation(*pair) if _both_kinds(pair[1]) else UNDEFINED
            for pair in ((self.scores, labels), pixels)
        )
        both = _both_kinds(labels)
        found = (
            *(of_images.auroc, of_images.average_precision, of_images.f1),
            *(of_pixels.auroc, of_pixels.average_precision, of_pixels.f1),
            _if_defined(partial(aupro, regions=regions_of(self.masks)), *pixels),
            _if_defined(partial(aupimo, labels=labels), *pixels) if both else math.nan,
        )
        return dict(zip(METRICS, found, strict=True))

    def label_free(self) -> dict[str, float]:
        """Return what the model's own thresholds give: they have seen normal images only.

        For images and for pixels: the threshold, the false-positive rate (lower is better) and
        F1, to be compared with the oracle of :meth:`metrics` and with the rate asked for in
        training. F1 is NaN where those of :meth:`metrics` are; the rate needs normal ones alone.
        """
        found = {}
        for level, pair, threshold in self._levels():
            found[f"{level}_threshold"] = threshold
            found[f"{level}_fpr"] = _fpr(*pair, threshold)
            found[f"{level}_f1"] = _if_defined(f1_at, *pair, threshold)
        return found

    def _levels(self) -> list[tuple[str, tuple[Tensor, Tensor], float]]:
        """Of images and of pixels: name, scores and truth, the model's threshold."""
        pairs = (self.scores, self.labels), self.pixels
        thresholds = self.image_threshold, self.pixel_threshold
        return list(zip(LEVELS, pairs, thresholds, strict=True))

    def replicates(self, count: int = RESAMPLES) -> Replicates:
        """Return every metric on each of so many resamples of the test images, (count,).

        The names are those of :meth:`metrics`, and ``label_free_image_fpr``, ``_image_f1``,
        ``_pixel_fpr`` and ``_pixel_f1`` for :meth:`label_free`. The resamples are those of the
        category (``detector.bootstrap``): the same for every model. NaN where a metric is, and
        of a split without good images.
        """
        rates = (f"label_free_{level}_{name}" for level in LEVELS for name in ("fpr", "f1"))
        found = dict.fromkeys([*METRICS, *rates], np.full(count, math.nan))
        if not (self.labels == 0).any():
            return found
        weights = resamples(self.labels, self.dataset.category, count)
        for level, pair, threshold in self._levels():
            if not len(pair[0]):
                continue
            decided = of_decisions(*pair, threshold, weights)
            found |= {f"label_free_{level}_{name}": each for name, each in decided.items()}
            if not self.labels.any():
                continue
            is_images = level == "image"
            ranked = (
                of_images(*pair, weights)
                if is_images
                else of_pixels(*pair, self.labels, weights, regions=regions_of(self.masks))
            )
            found |= {
                name if name.startswith("aup") else f"{level}_{name}": each
                for name, each in ranked.items()
            }
        return found

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
            maps, masks = (each[chosen] if len(each) else each for each in self.pixels)
            rows[defect] = {
                "images": defects.count(defect),
                "image_auroc": _if_defined(auroc, self.scores[chosen], self.labels[chosen]),
                "pixel_auroc": _if_defined(auroc, maps, masks),
            }
        import pandas as pd  # here, as in training: only tables need it

        columns = ["images", "image_auroc", "pixel_auroc"]
        table = pd.DataFrame.from_dict(rows, orient="index", columns=columns)
        return table.rename_axis("defect")

    def notes(self) -> list[str]:
        """Return what a reader of the metrics must know: a sentence for each reason of a NaN.

        And for masks that became empty when they were resized, where images that are anomalous
        have no anomalous pixel; and what a region leaves out. An empty list means that there is
        nothing to say.
        """
        notes = []
        if self.inside is not None and len(self.labels):
            notes.append(
                "metrics of pixels are of those in the region"
                if self.dataset.has_masks
                else "of anomalous images without a mask nobody knows whether their defects are "
                "in the region: they count in metrics of images wherever these are"
            )
        if self.outside:
            notes.append(
                f"{self.outside} anomalous test images have their defects wholly outside of the "
                "region: nobody looks there, and no metric counts them"
            )
        if math.isinf(self.image_threshold):
            notes.append(
                "the model was never calibrated: its thresholds are infinite and call nothing "
                "anomalous; fit or calibrate it"
            )
        if not len(self.labels):
            return [*notes, "there are no test images: nothing was evaluated"]
        if not _both_kinds(self.labels):
            only = "" if self.labels.any() else "; the false-positive rates are all that is known"
            counts = self.dataset.counts()
            notes.append(
                f"the test split holds {counts}: metrics need good and anomalous images{only}"
            )
            return notes
        if not self.dataset.has_masks:
            pairs = zip(self.dataset.mask_paths, self.dataset.labels, strict=True)
            anomalous = [bool(masks) for masks, label in pairs if label]
            notes.append(
                f"{anomalous.count(False)} of {len(anomalous)} anomalous test images have no "
                "mask: there are no pixel metrics, no AUPRO and no AUPIMO"
            )
            return notes
        size, empty = size_text(self.maps.shape[-2:]), ~self.masks.flatten(1).any(1)
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


def _fpr(scores: Tensor, labels: Tensor, threshold: float) -> float:
    """The share of the normal ones that it calls anomalous, NaN where there are none."""
    normal = labels == 0  # no copy of their scores: pixels are many
    called = (scores >= scores.new_tensor(threshold)).logical_and_(normal)  # rounded as they are
    count = int(normal.count_nonzero())
    return int(called.count_nonzero()) / count if count else math.nan


@torch.no_grad()
def evaluate(
    model: Detector, dataset: Pictures, features: Features | None = None, batch_size: int = 8
) -> Evaluation:
    """Return the maps and scores of a test split, computed in the model's inference form.

    A split without images gives an evaluation of nothing.

    Args:
        model: Trained.
        dataset: The test split; its masks are read at the size of the maps.
        features: Of ``dataset``. Default: they are extracted, from the cache where they are in it.
            A model that cuts pictures into windows needs none.
        batch_size: Images at a time.

    Where the model has a region, an anomalous image whose mask is wholly outside of it is left
    out: it cannot be found.

    Raises:
        FastFlowError: If the features are of another network or of other images.
    """
    if batch_size < 1:
        raise FastFlowError(f"batch_size={batch_size}: expected at least 1")
    detector = model.for_inference()
    if detector.windows is None and len(dataset):  # before the bar below: extracting has its own
        features = extract(detector.backbone, dataset) if features is None else features
        features.check_source(detector.backbone)
        features.check_images(dataset)
    size = detector.map_size
    maps, scores = torch.empty(len(dataset), 1, *size), torch.empty(len(dataset))
    with track(range(len(dataset)), "evaluating") as bar:
        start = 0
        for anomaly_map, score in _judged(detector, dataset, features, batch_size):
            there = slice(start, start + len(score))
            maps[there], scores[there] = anomaly_map.cpu(), score.cpu()
            start += len(score)
            bar.update(len(score))
    masks, inside = dataset.masks(size), detector.region.cpu()
    outside = masks.flatten(1).any(1) & ~masks[..., inside].flatten(1).any(1)
    if outside.any():
        dataset = _without(dataset, outside)
        maps, scores, masks = maps[~outside], scores[~outside], masks[~outside]
    return Evaluation(
        dataset=dataset,
        maps=maps,
        scores=scores,
        masks=masks.logical_and_(inside),
        labels=torch.tensor(dataset.labels, dtype=torch.long),
        image_threshold=float(detector.image_threshold),
        pixel_threshold=float(detector.pixel_threshold),
        inside=None if inside.all() else inside,
        outside=int(outside.sum()),
    )


def _without(dataset: Pictures, out: Tensor) -> Pictures:
    """Return the same split without some of its images, (N,) bool."""
    left_out = {path for path, is_out in zip(dataset.paths, out.tolist(), strict=True) if is_out}
    kept = tuple(item for item in dataset.listing.items if item.path not in left_out)
    listing, size = replace(dataset.listing, items=kept), dataset.image_size
    return Pictures(listing, dataset.split, size, dataset.white, allow_empty=True)


def _judged(
    detector: Detector, dataset: Pictures, features: Features | None, batch_size: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield maps and scores of the images as they are, in order, some at a time."""
    if detector.windows is not None:  # of large pictures there are too many features to be kept
        yield from (detector.predict(path) for path in dataset.paths)
    elif features is not None:
        for start in range(0, len(features), batch_size):
            there = slice(start, start + batch_size)
            anomaly_map, score = detector.judge([h.to(detector.device) for h in features[there]])
            if detector.backbone.upright:  # the masks are of the images as they are
                some = as_images(dataset.paths[there], detector.image_size, detector.white)
                anomaly_map = detector.backbone.turned_back(anomaly_map, some.to(detector.device))
            yield anomaly_map, score
