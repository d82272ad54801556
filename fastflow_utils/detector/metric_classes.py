"""The exact metrics as torchmetrics classes: fed batch by batch, on any device or process.

Each class keeps what it is given. ``compute`` applies the function of ``detector.metrics`` to all
of it, so the result is the function's, however the data is cut into batches or spread over
processes. Scores keep their precision; results are float64 scalars on the metric's device.

    metrics = MetricCollection({"auroc": ExactAUROC(), "aupro": AUPRO(), "aupimo": AUPIMO()})
    for maps, masks, labels in batches:
        metrics.update(maps, masks, labels=labels)
    metrics.compute()

The classes have a module of their own, since torchmetrics takes seconds to import: who wants a
function only does not wait for it.
"""

import math
from typing import Any

import torch
import torch.distributed
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from fastflow_utils.detector.metrics import (
    Values,
    aupimo,
    aupro,
    auroc,
    average_precision,
    check_fpr_range,
    check_max_fpr,
    image_labels,
    oracle_f1,
    paired,
    paired_maps,
    separation,
)
from fastflow_utils.errors import FastFlowError

__all__ = [
    "AUPIMO",
    "AUPRO",
    "ExactAUROC",
    "ExactAveragePrecision",
    "ExactMetric",
    "ExactSeparation",
    "OracleF1",
]


def _gather(part: Tensor, group: Any = None) -> list[Tensor]:
    """Return the part of every process, of any shape and type.

    torchmetrics' own way wants one type and number of dimensions, which a process that has seen
    no image cannot know.
    """
    parts: list[Any] = [None] * torch.distributed.get_world_size(group)
    torch.distributed.all_gather_object(parts, part.cpu(), group)
    return [one.to(part.device) for one in parts]


class ExactMetric(Metric):
    """What the classes share: they keep all batches, and evaluate them together.

    ``update`` takes any batch; ``compute`` must have seen normal and anomalous data. A call, as in
    ``metric(maps, masks)``, keeps the batch and returns the metric of this batch alone, NaN where
    it alone does not have both.

    Args:
        settings: torchmetrics' own, such as ``process_group``.

    Raises:
        FastFlowError: In ``update``, for a batch that the function refuses; it is not kept. In
            ``compute``, without data or without both kinds.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    plot_lower_bound = 0.0
    plot_upper_bound = 1.0
    undefined: float | dict[str, float] = math.nan
    scores: list[Tensor]
    truth: list[Tensor]

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{"dist_sync_fn": _gather} | settings)
        self.add_state("scores", [], dist_reduce_fx="cat")
        self.add_state("truth", [], dist_reduce_fx="cat")

    def update(self, scores: Values, truth: Values) -> None:
        """Keep a batch of scores and their labels, both of one shape: any shape."""
        numbers, labels = paired(scores, truth)
        self._keep(scores=numbers.flatten(), truth=labels.flatten())

    def compute(self) -> Any:
        """Return the metric of all that was kept."""
        if len(self.scores) == 0:
            raise FastFlowError(f"{type(self).__name__} has no data: call update() first")
        return self._tensors(self._evaluate(*map(dim_zero_cat, self.metric_state.values())))

    def forward(self, *batch: Any, **more: Any) -> Any:
        """Keep a batch, and return the metric of it alone, NaN where that is undefined."""
        self.update(*batch, **more)
        alone = [kept[-1] for kept in self.metric_state.values()]
        try:
            self._forward_cache = self._tensors(self._evaluate(*alone))
        except FastFlowError:  # update has checked all but that both kinds are there
            self._forward_cache = self._tensors(self.undefined)
        return self._forward_cache

    def _evaluate(self, *kept: Tensor) -> float | dict[str, float]:
        """Apply the exact function to the states, in the order in which they were added."""
        raise NotImplementedError

    def _tensors(self, result: float | dict[str, float]) -> Any:
        if isinstance(result, dict):
            return {name: self._tensors(value) for name, value in result.items()}
        return torch.tensor(result, dtype=torch.float64, device=self.device)

    def _keep(self, **batch: Tensor) -> None:
        for state, values in batch.items():
            kept = getattr(self, state)
            if kept and kept[-1].shape[1:] != values.shape[1:]:
                raise FastFlowError(
                    f"{type(self).__name__} has maps of {tuple(kept[-1].shape[2:])} and now of "
                    f"{tuple(values.shape[2:])}: expected one size"
                )
            # A copy, as the caller may use the memory for the next batch; a new list, as in a
            # collection several metrics share the old one.
            setattr(self, state, [*kept, values.to(self.device, copy=True)])


class ExactAUROC(ExactMetric):
    """Area under the ROC curve, as :func:`~fastflow_utils.detector.metrics.auroc`.

    Example:
        >>> metric = ExactAUROC()
        >>> metric.update(torch.tensor([21.0, 23.0]), torch.tensor([0, 0]))
        >>> metric.update(torch.tensor([22.0, 24.0]), torch.tensor([1, 1]))
        >>> metric.compute()
        tensor(0.7500, dtype=torch.float64)
    """

    def _evaluate(self, *kept: Tensor) -> float:
        return auroc(*kept)


class ExactAveragePrecision(ExactMetric):
    """Sum of precision steps, as :func:`~fastflow_utils.detector.metrics.average_precision`.

    Example:
        >>> scores, labels = torch.tensor([1.0, 5.0, 4.0, 9.0]), torch.tensor([0, 0, 1, 1])
        >>> ExactAveragePrecision()(scores, labels)
        tensor(0.8333, dtype=torch.float64)
    """

    def _evaluate(self, *kept: Tensor) -> float:
        return average_precision(*kept)


class OracleF1(ExactMetric):
    """Best F1 over all thresholds, as :func:`~fastflow_utils.detector.metrics.oracle_f1`.

    An oracle: its threshold, which the function returns, has seen the labels.

    Example:
        >>> OracleF1()(torch.tensor([1.0, 5.0, 4.0, 9.0]), torch.tensor([0, 0, 1, 1]))
        tensor(0.8000, dtype=torch.float64)
    """

    def _evaluate(self, *kept: Tensor) -> float:
        return oracle_f1(*kept)[0]


class ExactSeparation(ExactMetric):
    """The three metrics above, from one sort: ``compute`` returns a dict.

    Example:
        >>> metric = ExactSeparation()
        >>> metric.update(torch.tensor([1.0, 5.0, 4.0, 9.0]), torch.tensor([0, 0, 1, 1]))
        >>> {name: round(float(value), 3) for name, value in metric.compute().items()}
        {'auroc': 0.75, 'ap': 0.833, 'f1': 0.8}
    """

    undefined = dict.fromkeys(("auroc", "ap", "f1"), math.nan)

    def _evaluate(self, *kept: Tensor) -> dict[str, float]:
        found = separation(*kept)
        return {"auroc": found.auroc, "ap": found.average_precision, "f1": found.f1}


class AUPRO(ExactMetric):
    """Area under the per-region overlap, as :func:`~fastflow_utils.detector.metrics.aupro`.

    Args:
        max_fpr: Upper end of the integral, in (0, 1].
        settings: As for :class:`ExactMetric`.

    Example:
        >>> maps = torch.tensor([[[[9.0, 8.0, 1.0, 7.0, 0.0, 0.0]]]])
        >>> AUPRO()(maps, torch.tensor([[[[1, 1, 0, 1, 0, 0]]]]))
        tensor(1., dtype=torch.float64)
    """

    def __init__(self, max_fpr: float = 0.3, **settings: Any) -> None:
        super().__init__(**settings)
        check_max_fpr(max_fpr)
        self.max_fpr = max_fpr

    def update(self, maps: Values, masks: Values) -> None:
        """Keep a batch of maps and masks, (N, 1, H, W) or (N, H, W)."""
        scores, truth = paired_maps(maps, masks)
        self._keep(scores=scores, truth=truth)

    def _evaluate(self, *kept: Tensor) -> float:
        maps, masks = kept
        return aupro(maps, masks, self.max_fpr)


class AUPIMO(ExactMetric):
    """Area under the per-image overlap, as :func:`~fastflow_utils.detector.metrics.aupimo`.

    Args:
        fpr_range: Ends of the integral, 0 < lower < upper <= 1.
        settings: As for :class:`ExactMetric`.

    Example:
        >>> metric = AUPIMO()
        >>> metric.update(torch.tensor([[[[1.0, 2.0]]]]), torch.tensor([[[[0, 0]]]]))
        >>> metric.update(torch.tensor([[[[1.5, 3.0]]]]), torch.tensor([[[[1, 1]]]]))
        >>> metric.compute()
        tensor(0.5000, dtype=torch.float64)
    """

    labels: list[Tensor]

    def __init__(self, fpr_range: tuple[float, float] = (1e-5, 1e-4), **settings: Any) -> None:
        super().__init__(**settings)
        check_fpr_range(fpr_range)
        self.fpr_range = fpr_range
        self.add_state("labels", [], dist_reduce_fx="cat")

    def update(self, maps: Values, masks: Values, labels: Values | None = None) -> None:
        """Keep a batch of maps and masks, (N, 1, H, W) or (N, H, W), and the images' labels (N,).

        Without labels, an image is normal if its mask is empty.
        """
        scores, truth = paired_maps(maps, masks)
        self._keep(scores=scores, truth=truth, labels=image_labels(truth, labels))

    def _evaluate(self, *kept: Tensor) -> float:
        maps, masks, labels = kept
        return aupimo(maps, masks, self.fpr_range, labels=labels)
