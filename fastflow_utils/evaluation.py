"""A model and a test split become maps, scores and honest figures."""

from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor

from fastflow_utils.datasets import MVTecAD
from fastflow_utils.features import Features
from fastflow_utils.frontend import track
from fastflow_utils.metrics import auroc, oracle_f1
from fastflow_utils.model import FastFlow

__all__ = ["Evaluation", "evaluate"]


@dataclass(frozen=True)
class Evaluation:
    """What a model says about each image of a test split, beside what is true.

    Attributes:
        dataset: The test split, in whose order everything else is.
        maps: The anomaly maps (N, 1, H, W); higher is more anomalous.
        scores: The image scores (N,); higher is more anomalous.
        masks: The true masks (N, 1, H, W), True = anomalous.
        labels: (N,), 0 good, 1 anomalous.
    """

    dataset: MVTecAD
    maps: Tensor
    scores: Tensor
    masks: Tensor
    labels: Tensor

    def metrics(self) -> dict[str, float]:
        """Return the three figures of the tables, each in [0, 1], higher is better.

        ``image_auroc`` (over images), ``pixel_auroc`` and ``pixel_f1`` (over all pixels of all
        images at the maps' resolution). ``pixel_f1`` is an oracle: its threshold is the best one
        for this very split.
        """
        return {
            "image_auroc": auroc(self.scores, self.labels),
            "pixel_auroc": auroc(self.maps, self.masks),
            "pixel_f1": oracle_f1(self.maps, self.masks)[0],
        }

    def per_defect(self) -> pd.DataFrame:
        """Return one row for each defect: its images and their AUROCs against the good ones.

        Columns: ``images``, ``image_auroc``, ``pixel_auroc``; the index is the defect.
        """
        rows = {}
        defects = self.dataset.defects
        for defect in sorted(set(defects) - {"good"}):
            chosen = torch.tensor([name in (defect, "good") for name in defects])
            rows[defect] = {
                "images": defects.count(defect),
                "image_auroc": auroc(self.scores[chosen], self.labels[chosen]),
                "pixel_auroc": auroc(self.maps[chosen], self.masks[chosen]),
            }
        return pd.DataFrame.from_dict(rows, orient="index").rename_axis("defect")


@torch.no_grad()
def evaluate(
    model: FastFlow, features: Features, dataset: MVTecAD, batch_size: int = 16
) -> Evaluation:
    """Return the maps and scores of a test split, given its features.

    Args:
        model: Trained.
        features: Of ``dataset``, from :func:`~fastflow_utils.features.extract`.
        dataset: The test split; its masks are read at the size of the maps.
        batch_size: Images at a time.
    """
    model.eval()
    device = model.backbone.mean.device
    maps = []
    with track(range(len(features)), "evaluating") as bar:
        for batch in features.batches(batch_size):
            maps.append(model.anomaly_map([h.to(device) for h in batch]).cpu())
            bar.update(len(maps[-1]))
    anomaly_map = torch.cat(maps)
    return Evaluation(
        dataset=dataset,
        maps=anomaly_map,
        scores=model.score(anomaly_map),
        masks=dataset.masks(),
        labels=torch.tensor(dataset.labels),
    )
