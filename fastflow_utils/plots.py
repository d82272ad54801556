"""The course's figures. Each function returns a matplotlib ``Figure`` and shows nothing itself.

Importing this module in a notebook sets the series' style for every figure made there: text that
can be read from the back of a room, colours that colour-blind readers can tell apart, and no line
in the colours of good and anomalous but what is good and anomalous.

A figure that a notebook cell returns is shown once, and ``figure.savefig(path)`` keeps it. Figures
of the sample set say so: their title comes from :func:`title`.
"""

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import pandas as pd
import seaborn as sns
import torch
from cycler import cycler
from IPython import get_ipython
from IPython.core.pylabtools import select_figure_formats
from matplotlib import colormaps, rcParams
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from skimage.segmentation import find_boundaries
from torch import Tensor

from fastflow_utils.datasets import MVTecAD
from fastflow_utils.evaluation import Evaluation
from fastflow_utils.metrics import roc_curve

__all__ = [
    "colour",
    "gallery",
    "heat",
    "image_grid",
    "outline",
    "overlay",
    "roc",
    "score_histogram",
    "show",
    "title",
    "training_curve",
]

GOOD_COLOUR, ANOMALOUS_COLOUR, *OTHER_COLOURS = sns.color_palette("colorblind")
STYLE = {
    "font.size": 12,
    "axes.titlesize": 12,
    "xtick.labelsize": 10.5,
    "ytick.labelsize": 10.5,
    "legend.fontsize": 10.5,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": cycler(color=OTHER_COLOURS),
    "figure.dpi": 80,
    "figure.constrained_layout.use": True,
}

if (shell := get_ipython()) is not None:  # a notebook: show a Figure as what it is, a picture
    select_figure_formats(shell, {"png"})
    rcParams.update(cast(Any, STYLE))

Pixels = np.ndarray[tuple[int, ...], np.dtype[np.float32]]


def title(dataset: MVTecAD) -> str:
    """Return the category's name for a figure's title; the sample set is named as such."""
    return f"{dataset.category} (sample set)" if dataset.is_sample_set else dataset.category


def show(image: Tensor) -> Pixels:
    """Return ``image`` (3, H, W) in [0, 1] as (H, W, 3), which matplotlib shows."""
    return np.asarray(image.permute(1, 2, 0))


def heat(anomaly_map: Tensor) -> Tensor:
    """Scale a map to what the colours show: 0 up to the middle of its range, 1 at the top.

    The middle, 0.5, is a standard deviation above normal images on every level. The scale is the
    same for every image, model and category, so colours can be compared.

    Args:
        anomaly_map: Any shape, in [0, 1].

    Returns:
        The same shape, in [0, 1].

    Example:
        >>> heat(torch.tensor([0.0, 0.5, 0.75, 1.0]))
        tensor([0.0000, 0.0000, 0.5000, 1.0000])
    """
    return (2 * anomaly_map - 1).clamp(0, 1)


def colour(anomaly_map: Tensor) -> Pixels:
    """Return a map (1, H, W) as colours (H, W, 3) in [0, 1], from black to yellow."""
    return np.asarray(colormaps["inferno"](heat(anomaly_map)[0].numpy())[..., :3], np.float32)


def overlay(image: Tensor, anomaly_map: Tensor) -> Pixels:
    """Return the image (3, H, W) with the heat of its map (1, H, W) on top, as (H, W, 3)."""
    alpha = 0.75 * heat(anomaly_map)[0].numpy()[..., None]
    grey = show(image).mean(-1, keepdims=True)
    return np.asarray((1 - alpha) * grey + alpha * colour(anomaly_map), np.float32)


def outline(picture: Pixels, mask: Tensor) -> Pixels:
    """Return ``picture`` (H, W, 3) with the outline of ``mask`` (1, H, W) in green."""
    drawn = picture.copy()
    drawn[find_boundaries(mask[0].numpy(), mode="outer")] = (0.2, 1.0, 0.4)
    return drawn


def image_grid(
    pictures: Sequence[Sequence[Pixels]],
    columns: Sequence[str],
    rows: Sequence[str],
    heading: str = "",
) -> Figure:
    """Return pictures in rows and columns, with a name above each column and beside each row."""
    figure = Figure(figsize=(1.9 * len(columns), 1.95 * len(rows)), dpi=80, layout="constrained")
    axes = figure.subplots(len(rows), len(columns), squeeze=False)
    for row, name in enumerate(rows):
        for column, picture in enumerate(pictures[row]):
            _frame(axes[row, column]).imshow(picture)
        axes[row, 0].set_ylabel(name, fontsize=10.5)
    for column, name in enumerate(columns):
        axes[0, column].set_title(name, fontsize=11)
    figure.suptitle(heading)
    return figure


def _frame(axes: Axes) -> Axes:
    """An axes without ticks; the label beside it stays."""
    axes.set(xticks=[], yticks=[])
    axes.grid(False)
    sns.despine(ax=axes, left=True, bottom=True)
    return axes


def gallery(evaluation: Evaluation, indices: Sequence[int] | None = None) -> Figure:
    """Show test images beside the truth, the heat map and both on top of each other.

    Args:
        evaluation: Of a test split.
        indices: Which images. Default: of each folder, the one whose score is the median of its
            folder: neither the best nor the worst.
    """
    data = evaluation.dataset
    if indices is None:
        scores = pd.Series(evaluation.scores.numpy())
        folders = scores.groupby(pd.Series(data.defects))
        indices = [int(group.sort_values().index[len(group) // 2]) for _, group in folders]
    pictures = []
    for index in indices:
        image, anomaly_map = data[index].image, evaluation.maps[index]
        mask = evaluation.masks[index]
        truth = mask[0].float()[..., None].expand(-1, -1, 3).numpy()
        mixed = outline(overlay(image, anomaly_map), mask)
        pictures.append([show(image), truth, colour(anomaly_map), mixed])
    rows = [f"{data.defects[i]}\nscore {evaluation.scores[i]:.2f}" for i in indices]
    return image_grid(pictures, ["image", "truth", "heat map", "overlay"], rows, title(data))


def score_histogram(evaluation: Evaluation) -> Figure:
    """Show how the scores of good and anomalous images are spread: do they overlap?"""
    figure, axes = _axes(title(evaluation.dataset))
    table = pd.DataFrame(
        {
            "score": evaluation.scores.numpy(),
            "image": np.where(evaluation.labels.numpy() == 1, "anomalous", "good"),
        }
    )
    palette = {"good": GOOD_COLOUR, "anomalous": ANOMALOUS_COLOUR}
    sns.histplot(table, x="score", hue="image", bins=30, palette=palette, ax=axes)
    axes.set(xlabel="image score (higher is more anomalous)", ylabel="images")
    return figure


def roc(evaluation: Evaluation) -> Figure:
    """Show the ROC curves of images and of pixels, with their areas."""
    figure, axes = _axes(title(evaluation.dataset))
    for name, scores, labels in [
        ("images", evaluation.scores, evaluation.labels),
        ("pixels", evaluation.maps, evaluation.masks),
    ]:
        fpr, tpr = roc_curve(scores, labels)
        grid = torch.linspace(0, len(fpr) - 1, min(len(fpr), 2000)).long()
        area = float(torch.trapezoid(tpr, fpr))
        axes.plot(fpr[grid], tpr[grid], label=f"{name}: AUROC {area:.3f}", drawstyle="steps-post")
    axes.plot([0, 1], [0, 1], "--", color="grey", linewidth=1, label="chance")
    axes.set(xlabel="false positive rate", ylabel="true positive rate", aspect="equal")
    axes.legend(loc="lower right")
    return figure


def training_curve(history: pd.DataFrame) -> Figure:
    """Show the negative log-likelihood of each level, and of held-out images, over the epochs."""
    figure, axes = _axes("training")
    levels = [name for name in history.columns if name.startswith("nll_")]
    for name in levels:
        axes.plot(
            history["epoch"], history[name], "o-", label=f"level {name.removeprefix('nll_')}"
        )
    axes.plot(history["epoch"], history["nll"], "k--", label="mean")
    axes.plot(history["epoch"], history["held_out_nll"], "k:", label="mean, held out")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="epoch", ylabel="negative log-likelihood\n(nats per dimension)")
    axes.legend()
    return figure


def _axes(heading: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(5, 3.4), dpi=80, layout="constrained")
    axes = figure.subplots()
    axes.set_title(heading)
    sns.despine(ax=axes)
    return figure, axes
