"""The training loop over cached features: a fixed budget, and the last epoch is the result."""

import math
import time
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from fastflow_utils.compute import check_seed, dtype_of, in_threads
from fastflow_utils.data.mvtec import Pictures
from fastflow_utils.detector.detector import check_rates, features_for, hold_out
from fastflow_utils.detector.features import Features, LearntPictures
from fastflow_utils.detector.flows import Flow, PositionNorm
from fastflow_utils.detector.model import FastFlow
from fastflow_utils.errors import FastFlowError
from fastflow_utils.frontend import track

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["fit", "hold_out"]

FAR = 10  # nats per dimension; what is learnt well differs by hundredths
WARM_UP = 0.1  # share of the batches over which the learning rate rises
MAX_NORM = 1.0  # of the gradient of all flows together


def fit(
    model: FastFlow,
    data: Features | LearntPictures | Pictures,
    *,
    epochs: int = 5,
    batch_size: int = 2,
    positions: int | None = None,
    learning_rate: float = 3e-3,
    weight_decay: float = 1e-5,
    image_fpr: float = 0.1,
    pixel_fpr: float = 0.001,
    held_out_share: float = 0.1,
    folds: int | None = None,
    seed: int = 0,
    after_epoch: Callable[[int], None] | None = None,
) -> "pd.DataFrame":
    """Maximise the likelihood of normal features, then set the thresholds; change ``model``.

    AdamW with a one-cycle learning rate (warm-up over the first 10 % of the batches, then cosine
    decay to nothing) and the gradient's norm clipped to 1. The loss is the negative
    log-likelihood in nats per dimension, averaged over the levels. Nothing of a test split has
    any part in it, and there is nothing to select: what the last batch leaves is the model.

    The levels share no parameter, so on a CPU they learn at the same time, each on its share of
    the threads. Convolutions run in the model's ``precision``; parameters, sums and the loss are
    float32.

    A tenth of the images is held out of the training. Their likelihood says how well the model
    generalises, and ``FastFlow.calibrate`` takes the maps' scales and the thresholds from them.

    What standardises the features is measured first and stays: positions
    (:class:`~fastflow_utils.detector.flows.PositionNorm`) on all images that are trained on,
    whitening on 32 of them, as ActNorm, which learns from there.

    A model that is trained already is trained further: its weights and what it has measured are
    where it starts, optimiser and schedule begin anew, the thresholds are set again. With another
    ``seed``, images are held out that the first training has seen.

    Args:
        model: Its flows are trained; its backbone is frozen.
        data: Features of normal images only, or the training split to extract them from; for a
            model that cuts pictures into windows, those pictures.
        epochs: Passes over the features.
        batch_size: Images in a batch; the last batch of an epoch may be smaller. Each image holds
            hundreds of positions, and small batches give more steps for the same time.
        positions: A fine level has so many that few images say it all: each level takes the
            batch's first images only, as many as have no more positions than this, but at least
            one. Default: all images.
        learning_rate: The peak of the one-cycle schedule.
        weight_decay: Of AdamW.
        image_fpr: Share of normal images that the image threshold may call anomalous.
        pixel_fpr: Share of normal images' pixels that the pixel threshold may call anomalous.
        held_out_share: Of the images; of no meaning with ``folds``. With 0, all are learnt from,
            and it is left to the caller to calibrate on others.
        folds: As for :meth:`Detector.fit <fastflow_utils.detector.detector.Detector.fit>`: train
            as many twins for the calibration, and hold nothing out. Default: none.
        seed: Fixes which images are held out, and the order of the others.
        after_epoch: Called with the number of each epoch done, the model in eval mode, to watch
            it learn. Its time does not count in ``seconds``.

    Returns:
        One row an epoch: ``epoch``, ``nll`` (mean over what was learnt from, and over levels, nats
        per dimension), ``nll_0`` ... for each level, ``held_out_nll`` (after the epoch, mean over
        held-out images and levels, NaN without any), ``learning_rate``, ``seconds`` so far.

    Raises:
        FastFlowError: If there is nothing to train on, the data are not this model's, or the loss
            stops being finite.
        KeyboardInterrupt: After Ctrl-C. The model is calibrated by then, as usable as the batches
            done so far have made it, for whoever catches this.
    """
    _check(epochs, batch_size, positions, learning_rate, weight_decay, image_fpr, pixel_fpr)
    given = features_for(model, data)
    if isinstance(given, Features) and (held_out_share or folds is not None):
        model.require_whole()
    rates = (image_fpr, pixel_fpr)
    options: dict[str, Any] = {"epochs": epochs, "batch_size": batch_size}
    options |= {"positions": positions, "weight_decay": weight_decay}
    options |= {"learning_rate": learning_rate}
    if folds is not None:
        _prepare_for_twins(model, len(given))
        last = {"after_epoch": after_epoch}
        course = model.fit_in_folds(given, folds, seed, *rates, last=last, **options)
        return cast("pd.DataFrame", course)
    order = torch.Generator().manual_seed(check_seed(seed))
    if not 0 <= held_out_share < 1:
        raise FastFlowError(f"held_out_share={held_out_share}: expected a share from 0 to below 1")
    if held_out_share:
        images, held_out = hold_out(len(given), order, held_out_share)
    else:
        images, held_out = torch.arange(len(given)), torch.arange(0)
    watched = held_out
    if isinstance(given, Features):
        features = given
    else:  # learn from windows; what is held out is calibrated on whole, and has no features
        features = given.subset(images)
        images, watched = torch.arange(len(features)), torch.arange(0)
    batches = math.ceil(len(images) / batch_size)
    parameters = list(model.flows.parameters())
    if not parameters:
        raise FastFlowError("the model's flows have no steps, so nothing to learn: give them some")
    optimizer, schedule = _optimizer(parameters, learning_rate, weight_decay, epochs * batches)
    levels, dtype = len(model.flows), dtype_of(model.precision)

    def loss(level: int, h: Tensor) -> Tensor:
        """Return a level's mean negative log-likelihood (B,), convolved in the model's format."""
        with torch.autocast(model.device.type, dtype, enabled=dtype != torch.float32):
            return model.nll_map(level, h).mean(dim=(1, 2, 3))

    def learn(level: int, h: Tensor) -> Tensor:
        """Return the mean loss of what the level has learnt from."""
        found = loss(level, h[: images_of(h)]).mean()
        (found / levels).backward()
        return found.detach()

    def images_of(h: Tensor) -> int:
        """Return how many images of a batch a level learns from."""
        here = h.shape[2] * h.shape[3]
        return len(h) if positions is None else max(1, positions // here)

    def learn_epoch() -> list[float]:
        """Return each level's mean loss over the epoch's batches."""
        total = torch.zeros(levels, device=model.device)
        shuffled = images[torch.randperm(len(images), generator=order)]
        with in_threads(levels, model.device) as each:
            for index in shuffled.split(batch_size):
                optimizer.zero_grad()
                losses = each(learn, range(levels), features[index])
                total += len(index) * torch.stack(list(losses))
                torch.nn.utils.clip_grad_norm_(parameters, MAX_NORM)
                optimizer.step()
                schedule.step()
                bar.update()
        means: list[float] = (total / len(images)).tolist()
        return means

    def held_out_loss() -> float:
        """Return the mean over held-out images and levels."""
        if not len(watched):
            return math.nan
        watch = torch.no_grad()(loss)  # inside, for each thread has a switch of its own
        with in_threads(levels, model.device) as each:
            seen = [
                torch.stack(list(each(watch, range(levels), features[index])), dim=1)
                for index in watched.split(batch_size)
            ]
        return torch.cat(seen).mean().item()

    def calibrate() -> None:
        model.eval()
        if len(held_out):
            model.calibrate_by(model.seen_of(given, held_out), *rates, held_out)

    first = features[images[:32]]  # ActNorm measures mean and variance on many images
    if not all(h.isfinite().all() for h in first):
        raise FastFlowError(
            "the features are not finite: compute them again, or take other layers"
        )
    history: list[dict[str, float]] = []
    start = time.perf_counter()
    model.forget_thresholds()
    for level, flow in enumerate(model.flows):
        cast(Flow, flow).prepare(features[part][level] for part in images.split(16))
    model.train()
    with torch.no_grad():
        model.nll(first)
    try:
        with track(range(epochs * batches), "training") as bar:
            for epoch in range(1, epochs + 1):
                nll = learn_epoch()
                mean = sum(nll) / levels
                bar.set_postfix(epoch=epoch, nll=f"{mean:.3f}")
                if not math.isfinite(mean):
                    raise FastFlowError(
                        f"the loss is {mean} in epoch {epoch}: training diverged; try a smaller "
                        f"learning rate than {learning_rate}"
                    )
                model.eval()
                history.append(
                    {
                        "epoch": epoch,
                        "nll": mean,
                        **{f"nll_{level}": value for level, value in enumerate(nll)},
                        "held_out_nll": held_out_loss(),
                        "learning_rate": float(schedule.get_last_lr()[0]),
                        "seconds": time.perf_counter() - start,
                    }
                )
                if after_epoch is not None:
                    paused = time.perf_counter()
                    after_epoch(epoch)
                    start += time.perf_counter() - paused
                model.train()
        gap = history[-1]["held_out_nll"] - history[-1]["nll"]
        if gap > FAR:
            warnings.warn(
                f"held-out images are {gap:.3g} nats per dimension less likely than those learnt "
                "from: the flow is of no use for new images; try a smaller learning rate, or look "
                "at the images",
                stacklevel=2,
            )
        calibrate()
    except KeyboardInterrupt:
        try:
            calibrate()
        except FastFlowError as error:
            warnings.warn(f"interrupted, and not calibrated: {error}", stacklevel=2)
        raise
    import pandas as pd  # here: a second of what nothing before needs

    return pd.DataFrame(history)


def _prepare_for_twins(model: FastFlow, images: int) -> None:
    """Refuse a model that has seen images; let all twins know positions, or none."""
    if any(done for name, done in model.flows.named_buffers() if name.endswith("initialised")):
        raise FastFlowError(
            "folds: this model has learnt from images already, which its twins are to be new to: "
            "make a new model"
        )
    for layer in model.flows.modules():
        if isinstance(layer, PositionNorm):
            layer.few = images < PositionNorm.LEAST


def _check(
    epochs: int,
    batch_size: int,
    positions: int | None,
    learning_rate: float,
    weight_decay: float,
    image_fpr: float,
    pixel_fpr: float,
) -> None:
    """Refuse before the first second of training what would end it, or its calibration."""
    whole = {"epochs": epochs, "batch_size": batch_size}
    whole |= {} if positions is None else {"positions": positions}
    for name, number in whole.items():
        if not isinstance(number, int) or number < 1:
            raise FastFlowError(f"{name}={number}: expected a whole number, at least 1")
    if not 0 < learning_rate < math.inf:
        raise FastFlowError(f"learning_rate={learning_rate}: expected a finite number above 0")
    if not 0 <= weight_decay < math.inf:
        raise FastFlowError(f"weight_decay={weight_decay}: expected a finite number, 0 or more")
    check_rates(image_fpr, pixel_fpr)


def _optimizer(
    parameters: list[torch.nn.Parameter], learning_rate: float, weight_decay: float, steps: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """Return AdamW and its one-cycle schedule for so many steps."""
    optimizer = torch.optim.AdamW(
        parameters, lr=learning_rate, weight_decay=weight_decay, fused=True
    )
    total = steps + 1
    # At least two batches of warm-up: torch divides by their number minus one.
    warm_up = min(1.0, max(WARM_UP, 2 / total))
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=learning_rate, total_steps=total, pct_start=warm_up
    )
    return optimizer, schedule
