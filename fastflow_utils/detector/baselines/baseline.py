"""What the baselines share: learning from most normal images, calibration on the others."""

from collections.abc import Iterable

import torch
from torch import Tensor

from fastflow_utils.compute import check_seed
from fastflow_utils.data.mvtec import MVTecAD
from fastflow_utils.detector.detector import Detector, check_rates, features_for, hold_out
from fastflow_utils.detector.features import Features
from fastflow_utils.errors import FastFlowError

__all__ = ["Baseline", "moments"]


class Baseline(Detector):
    """A method that looks at the normal features once: :meth:`learn`, then :meth:`calibrate`.

    Nothing bounds how far a position may be from normal, so their maps have a heavy tail
    (:func:`~fastflow_utils.detector.maps.level_map`).
    """

    heavy_tail = True

    def learn(self, features: Features, seed: int = 0) -> None:
        """Learn what is normal from these images, all of them; calibration is another matter.

        Args:
            features: Of normal images only, on the model's device.
            seed: Fixes what is random, if anything is.
        """
        raise NotImplementedError

    @torch.no_grad()
    def fit(
        self,
        data: Features | MVTecAD,
        *,
        seed: int = 0,
        image_fpr: float = 0.1,
        pixel_fpr: float = 0.001,
    ) -> None:
        """Hold out a tenth of the images as FastFlow does; learn from the others; calibrate."""
        check_rates(image_fpr, pixel_fpr)
        features = features_for(self, data)
        order = torch.Generator().manual_seed(check_seed(seed))
        images, held_out = hold_out(len(features), order)
        if not all(h.isfinite().all() for batch in features.batches(16) for h in batch):
            raise FastFlowError(
                "the features are not finite: compute them again, or take other layers"
            )
        self.learn(features.subset(images), seed)
        self.calibrate(features.subset(held_out), image_fpr, pixel_fpr)


def moments(batches: Iterable[Tensor]) -> tuple[Tensor, Tensor, int]:
    r"""Return mean and covariance of many vectors, read once; in float64, as sums of squares ask.

    .. math:: \mu = \tfrac1n \sum_i x_i, \qquad
              \Sigma = \tfrac1n \sum_i x_i x_i^\top - \mu \mu^\top

    Args:
        batches: (G, N, C) each: N vectors of C numbers for each of G groups.

    Returns:
        (G, C), (G, C, C), and n, how many vectors each group had.

    Example:
        >>> batches = torch.tensor([[[1.0], [2.0]]]), torch.tensor([[[6.0]]])
        >>> mean, covariance, n = moments(batches)
        >>> mean.item(), round(covariance.item(), 3), n
        (3.0, 4.667, 3)
    """
    count, total, squares = 0, torch.zeros(()), torch.zeros(())
    for x in batches:
        x = x.double()
        if count == 0:
            groups, _, channels = x.shape
            total, squares = x.new_zeros(groups, channels), x.new_zeros(groups, channels, channels)
        count += x.shape[1]
        total += x.sum(1)
        squares.baddbmm_(x.mT, x)
    mean = total / count
    return mean, (squares / count).baddbmm_(mean[:, :, None], mean[:, None], alpha=-1), count
