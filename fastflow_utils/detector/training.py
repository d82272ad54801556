"""The training loop over cached features: a fixed budget, and the last epoch is the result."""

import math
import time
from collections.abc import Callable, Iterator

import pandas as pd
import torch
from torch import Tensor

from fastflow_utils.compute import convolution_dtype, side_by_side
from fastflow_utils.detector.features import Features
from fastflow_utils.detector.model import FastFlow
from fastflow_utils.errors import FastFlowError
from fastflow_utils.frontend import track

__all__ = ["fit", "split"]


def split(images: int, generator: torch.Generator, share: float = 0.1) -> tuple[Tensor, Tensor]:
    """Return the indices of the images to train on, and of those to hold out (at least one).

    Raises:
        FastFlowError: If there are fewer than two images.

    Example:
        >>> train, held_out = split(60, torch.Generator().manual_seed(0))
        >>> len(train), len(held_out)
        (54, 6)
    """
    if images < 2:
        raise FastFlowError(
            f"{images} normal images: expected at least two, one to train on and one to hold out"
        )
    order = torch.randperm(images, generator=generator)
    count = max(1, round(share * images))
    return order[count:], order[:count]


def fit(
    model: FastFlow,
    features: Features,
    *,
    epochs: int = 5,
    batch_size: int = 2,
    learning_rate: float = 3e-3,
    weight_decay: float = 1e-5,
    image_fpr: float = 0.1,
    pixel_fpr: float = 0.001,
    seed: int = 0,
    after_epoch: Callable[[int], None] | None = None,
) -> pd.DataFrame:
    """Maximise the likelihood of normal features, then set the thresholds; change ``model``.

    AdamW with a one-cycle learning rate (warm-up over the first 10 % of the batches, then cosine
    decay to nothing) and the gradient's norm clipped to 1. The loss is the negative
    log-likelihood in nats per dimension, averaged over the levels. Nothing of a test split has
    any part in it, and there is nothing to select: what the last batch leaves is the model.

    The levels share no parameter, so on a CPU they learn side by side, each on its share of the
    threads. Convolutions run in bfloat16 where the hardware has it
    (:func:`~fastflow_utils.compute.convolution_dtype`); parameters, sums and the loss are float32.

    A tenth of the images is held out of the training. Their likelihood says how well the model
    generalises, and ``FastFlow.calibrate`` takes the maps' scales and the thresholds from them.

    Ctrl-C stops early: the model is calibrated as the batches done so far have made it, and
    KeyboardInterrupt is raised again. Who wants that model catches it.

    Args:
        model: Its flows are trained; its backbone is frozen.
        features: Of normal images only.
        epochs: Passes over the features.
        batch_size: Images in a batch; the last batch of an epoch may be smaller. Each image holds
            hundreds of positions, and small batches give more steps for the same time.
        learning_rate: The peak of the one-cycle schedule.
        weight_decay: Of AdamW.
        image_fpr: Share of normal images that the image threshold may call anomalous.
        pixel_fpr: Share of normal images' pixels that the pixel threshold may call anomalous.
        seed: Fixes which images are held out, and the order of the others.
        after_epoch: Called with the number of each epoch done, the model in eval mode, to watch
            it learn. Its time does not count in ``seconds``.

    Returns:
        One row an epoch: ``epoch``, ``nll`` (mean over the epoch's images and over levels, nats
        per dimension), ``nll_0`` ... for each level, ``held_out_nll`` (after the epoch, mean over
        held-out images and levels), ``learning_rate``, ``seconds`` so far.

    Raises:
        FastFlowError: If there is nothing to train on, or the loss stops being finite.
        KeyboardInterrupt: After Ctrl-C, the model being calibrated.
    """
    if epochs < 1 or batch_size < 1:
        raise FastFlowError(
            f"cannot train with epochs={epochs}, batch_size={batch_size}: each must be at least 1"
        )
    device = model.backbone.mean.device
    order = torch.Generator().manual_seed(seed)
    images, held_out = split(len(features), order)
    batches = math.ceil(len(images) / batch_size)
    parameters = list(model.flows.parameters())
    optimizer = torch.optim.AdamW(
        parameters, lr=learning_rate, weight_decay=weight_decay, fused=True
    )
    total = epochs * batches + 1
    # At least two batches of warm-up: torch divides by their number minus one.
    warm_up = min(1.0, max(0.1, 2 / total))
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=learning_rate, total_steps=total, pct_start=warm_up
    )
    history: list[dict[str, float]] = []
    interrupted = False
    start = time.perf_counter()

    if device.type != "cpu":
        features = features.to(device)  # once, instead of with every batch
    dtype, levels = convolution_dtype(device), len(model.flows)

    def learn(level: int, h: Tensor) -> Tensor:
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            loss = model.nll_map(level, h).mean(dim=(1, 2, 3))
        (loss.mean() / levels).backward()
        return loss.detach()

    def held_out_batches() -> Iterator[list[Tensor]]:
        return (features[index] for index in held_out.split(16))

    model.train()
    with torch.no_grad():
        model.nll(features[images[:32]])  # ActNorm measures mean and variance on many images
    try:
        with track(range(epochs * batches), "training") as bar:
            for epoch in range(1, epochs + 1):
                seen: list[Tensor] = []
                shuffled = images[torch.randperm(len(images), generator=order)]
                with side_by_side(levels, device) as each:
                    for index in shuffled.split(batch_size):
                        optimizer.zero_grad()
                        losses = each(learn, range(levels), features[index])
                        seen.append(torch.stack(list(losses), dim=1))
                        torch.nn.utils.clip_grad_norm_(parameters, max_norm=1.0)
                        optimizer.step()
                        schedule.step()
                        bar.update()
                nll: list[float] = torch.cat(seen).mean(0).tolist()
                bar.set_postfix(epoch=epoch, nll=f"{sum(nll) / levels:.3f}")
                if not math.isfinite(sum(nll)):
                    raise FastFlowError(
                        f"the loss is {sum(nll)} in epoch {epoch}: training diverged; try a "
                        f"smaller learning rate than {learning_rate}"
                    )
                model.eval()
                with torch.no_grad():
                    held_out_nll = torch.cat([model.nll(batch) for batch in held_out_batches()])
                history.append(
                    {
                        "epoch": epoch,
                        "nll": sum(nll) / levels,
                        **{f"nll_{level}": value for level, value in enumerate(nll)},
                        "held_out_nll": held_out_nll.mean().item(),
                        "learning_rate": float(schedule.get_last_lr()[0]),
                        "seconds": time.perf_counter() - start,
                    }
                )
                if after_epoch is not None:
                    paused = time.perf_counter()
                    after_epoch(epoch)
                    start += time.perf_counter() - paused
                model.train()
    except KeyboardInterrupt:
        interrupted = True
    model.calibrate(held_out_batches(), image_fpr, pixel_fpr)
    if interrupted:
        raise KeyboardInterrupt
    return pd.DataFrame(history)
