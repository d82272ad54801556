"""The training loop over cached features: a fixed budget, and the last epoch is the result."""

import math
import time

import pandas as pd
import torch
from torch import Tensor

from fastflow_utils.errors import FastFlowError
from fastflow_utils.features import Features
from fastflow_utils.frontend import track
from fastflow_utils.model import FastFlow

__all__ = ["fit"]


def fit(
    model: FastFlow,
    features: Features,
    *,
    epochs: int = 4,
    batch_size: int = 16,
    learning_rate: float = 2e-3,
    weight_decay: float = 1e-5,
    seed: int = 0,
) -> pd.DataFrame:
    """Maximise the likelihood of normal features; change ``model`` in place.

    AdamW with a one-cycle learning rate (warm-up over the first 30 % of the batches, then cosine
    decay to nothing) and the gradient's norm clipped to 1. The loss is the negative
    log-likelihood in nats per dimension, averaged over the levels. Nothing of a test split has
    any part in it, and there is nothing to select: what the last batch leaves is the model.

    Ctrl-C stops early and leaves the model as usable as the batches done so far have made it; the
    history then ends there and says so in ``history.attrs["interrupted"]``.

    Args:
        model: Its flows are trained; its backbone is frozen.
        features: Of normal images only.
        epochs: Passes over the features.
        batch_size: Images in a batch; the last batch of an epoch may be smaller.
        learning_rate: The peak of the one-cycle schedule.
        weight_decay: Of AdamW.
        seed: Fixes the order of the batches.

    Returns:
        One row an epoch: ``epoch``, ``nll`` (mean over the epoch's images and over levels, nats
        per dimension), ``nll_0`` ... for each level, ``learning_rate``, ``seconds`` so far.

    Raises:
        FastFlowError: If there is nothing to train on, or the loss stops being finite.
    """
    if epochs < 1 or batch_size < 1 or len(features) == 0:
        raise FastFlowError(
            f"cannot train with epochs={epochs}, batch_size={batch_size} on {len(features)} "
            "images: each must be at least 1"
        )
    device = model.backbone.mean.device
    order = torch.Generator().manual_seed(seed)
    batches = math.ceil(len(features) / batch_size)
    parameters = list(model.flows.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=learning_rate, total_steps=epochs * batches + 1
    )
    history: list[dict[str, float]] = []
    interrupted = False
    start = time.perf_counter()
    model.train()
    try:
        with track(range(epochs * batches), "training") as bar:
            for epoch in range(1, epochs + 1):
                seen: list[Tensor] = []
                for index in torch.randperm(len(features), generator=order).split(batch_size):
                    nll = model.nll([h.to(device) for h in features[index]])
                    loss = nll.mean()
                    if not loss.isfinite():
                        raise FastFlowError(
                            f"the loss is {loss.item()} in epoch {epoch}: training diverged; try "
                            f"a smaller learning rate than {learning_rate}"
                        )
                    optimizer.zero_grad()
                    loss.backward()
                    torch.nn.utils.clip_grad_norm_(parameters, max_norm=1.0)
                    optimizer.step()
                    schedule.step()
                    seen.append(nll.detach())
                    bar.set_postfix(epoch=epoch, nll=f"{loss.item():.3f}")
                    bar.update()
                levels: list[float] = torch.cat(seen).mean(0).tolist()
                history.append(
                    {
                        "epoch": epoch,
                        "nll": sum(levels) / len(levels),
                        **{f"nll_{level}": value for level, value in enumerate(levels)},
                        "learning_rate": float(schedule.get_last_lr()[0]),
                        "seconds": time.perf_counter() - start,
                    }
                )
    except KeyboardInterrupt:
        interrupted = True
    model.eval()
    table = pd.DataFrame(history)
    table.attrs["interrupted"] = interrupted
    return table
