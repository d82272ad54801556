"""The course's figures. Each function returns a matplotlib ``Figure`` and shows nothing itself.

Importing this module in a notebook sets the series' style for every figure made there: text that
can be read from the back of a room, colours that colour-blind readers can tell apart, and no line
in the colours of good and anomalous but what is good and anomalous.

A figure that a notebook cell returns is shown once, and ``figure.savefig(path)`` keeps it. Figures
of the sample set say so: their title comes from :func:`title`.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import cycle
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
from matplotlib.cm import ScalarMappable
from matplotlib.collections import QuadMesh
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from scipy.stats import beta
from skimage import measure
from skimage.segmentation import find_boundaries
from torch import Tensor

from fastflow_utils.datasets import MVTecAD
from fastflow_utils.evaluation import Evaluation
from fastflow_utils.metrics import aupimo, aupro, auroc, roc_curve

__all__ = [
    "cell_areas",
    "change_of_variables",
    "colour",
    "colour_bar",
    "differences",
    "false_positive_rates",
    "gallery",
    "heat",
    "image_grid",
    "jacobian",
    "mesh",
    "montage",
    "outline",
    "overlaps",
    "overlay",
    "pairs",
    "panels",
    "planes",
    "roc",
    "score_histogram",
    "show",
    "square",
    "strips",
    "title",
    "training_curve",
]

_PALETTE = sns.color_palette("colorblind")
GOOD_COLOUR, ANOMALOUS_COLOUR = _PALETTE[:2]
OTHER_COLOURS = [_PALETTE[i] for i in (2, 4, 7, 5, 6, 8)]  # none that is blue or orange, too
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
    """Return ``picture`` (H, W, 3) with the outline of ``mask`` (1, H, W) in green.

    The line is light and its rim black, so it shows on any picture, whoever looks.
    """
    drawn, inside = picture.copy(), mask[0].numpy()
    line = find_boundaries(inside, mode="outer")
    drawn[find_boundaries(inside | line, mode="outer")] = 0
    drawn[line] = (0.2, 1.0, 0.4)
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


def panels(
    *titles: str, width: float = 3.1, height: float = 3.1, **options: Any
) -> tuple[Figure, list[Axes]]:
    """Return a figure of panels side by side, one under each title, and the panels.

    Args:
        *titles: Of the panels.
        width: Of one panel, in inches.
        height: Of the figure, in inches.
        **options: Of matplotlib's ``Figure.subplots``, such as ``sharey=True``.

    Example:
        >>> figure, [left, right] = panels("before", "after")
        >>> right.get_title()
        'after'
    """
    figure = Figure((width * len(titles), height), dpi=80, layout="constrained")
    axes = list(figure.subplots(1, len(titles), squeeze=False, **options)[0])
    for panel, name in zip(axes, titles, strict=True):
        panel.set_title(name)
    return figure, axes


def square(low: float, high: float, count: int) -> Tensor:
    """Return a square grid of points in the plane, (count, count, 2).

    >>> square(0, 1, 2)[:, :, 0]
    tensor([[0., 1.],
            [0., 1.]])
    """
    line = torch.linspace(low, high, count)
    return torch.stack(torch.meshgrid(line, line, indexing="xy"), dim=-1)


def cell_areas(corners: Tensor) -> Tensor:
    """Return the area of every cell of a grid: half the cross product of its diagonals.

    Args:
        corners: Points in the plane, (R + 1, C + 1, 2).

    Returns:
        Areas, (R, C).

    Example:
        >>> cell_areas(3 * square(0, 1, 2))
        tensor([[9.]])
    """
    one, other = corners[1:, 1:] - corners[:-1, :-1], corners[1:, :-1] - corners[:-1, 1:]
    return (one[..., 0] * other[..., 1] - one[..., 1] * other[..., 0]).abs() / 2


def mesh(axes: Axes, corners: Tensor, values: Tensor, **options: Any) -> QuadMesh:
    """Draw a grid of cells, wherever their corners have come to, and return what was drawn.

    Args:
        axes: Where to draw.
        corners: Points in the plane, (R + 1, C + 1, 2).
        values: What the cells' colours show, (R, C).
        **options: Of matplotlib's ``Axes.pcolormesh``, such as ``vmin`` and ``vmax``.
    """
    lines: dict[str, Any] = {"edgecolors": (1, 1, 1, 0.6), "linewidth": 0.3}
    axes.set_aspect("equal")
    return axes.pcolormesh(*corners.unbind(-1), values, **lines | options)


def planes(
    heading: str,
    pictures: Mapping[str, Tensor | tuple[Tensor, Tensor, str]],
    x: tuple[float, float] = (-3, 3),
    y: tuple[float, float] = (-3, 3),
    columns: int = 4,
) -> Figure:
    """Show clouds of points and coloured grids of the plane side by side.

    Args:
        heading: What the pictures say together.
        pictures: By title: points (N, 2), or corners, values (see :func:`mesh`) and what the
            values are.
        x: Between which values of the first coordinate.
        y: The same for the second coordinate.
        columns: How many stand in one row.
    """
    width, rows = min(10.4 / columns, 4.2), -(-len(pictures) // columns)
    height = 1.3 + (width - 0.4) * (y[1] - y[0]) / (x[1] - x[0])
    figure = Figure((columns * width, rows * height), dpi=80, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    for panel, (name, picture) in zip(axes.flat, pictures.items(), strict=False):
        panel.set_title(name)
        if isinstance(picture, Tensor):
            panel.scatter(picture[:, 0], picture[:, 1], s=2, linewidths=0)
        else:
            corners, values, label = picture
            fine = len(values) > 100  # lines would hide cells as small as these
            cells = mesh(panel, corners, values, **{"edgecolors": "none"} if fine else {})
            figure.colorbar(cells, ax=panel, label=label, orientation="horizontal")
        panel.set(aspect="equal", xlim=x, ylim=y)
    for panel in axes[-1]:
        panel.set_xlabel("first coordinate")
    for panel in axes[:, 0]:
        panel.set_ylabel("second coordinate")
    figure.suptitle(heading)
    return figure


def jacobian(J: Tensor, split: int) -> Figure:
    """Show the Jacobian (N, N) of a coupling whose first ``split`` dimensions are x_a."""
    figure, [axes] = panels("A coupling's Jacobian is triangular", width=5, height=4)
    picture = axes.imshow(J, cmap="vlag", vmin=-2, vmax=2)
    axes.axhline(split - 0.5, color="black", linewidth=0.8)
    axes.axvline(split - 0.5, color="black", linewidth=0.8)
    middles = [split / 2, (split + len(J)) / 2]
    axes.set_xticks(middles, ["$x_a$", "$x_b$"])
    axes.set_yticks(middles, ["$z_a$", "$z_b$"])
    axes.set(xlabel="dimension of x", ylabel="dimension of z")
    figure.colorbar(picture, label=r"$\partial z / \partial x$")
    return figure


def change_of_variables(
    x: Tensor, z: Tensor, p_x: Tensor, p_z: Tensor, samples: Pixels, parts: int = 8
) -> Figure:
    """Show a map between two axes, and how it carries one density to the other.

    Args:
        x: Increasing, (N,).
        z: The map's values there, increasing, (N,).
        p_x: Density of x, (N,).
        p_z: Density of z at those values, (N,).
        samples: Draws of x.
        parts: Into how many parts of equal probability the densities are cut, a colour each.
    """
    figure = Figure((7, 5.2), dpi=80, layout="constrained")
    (left, curve), (corner, below) = figure.subplots(
        2, 2, sharex="col", sharey="row", width_ratios=[1, 3], height_ratios=[3, 1.3]
    )
    probability = torch.cumulative_trapezoid(p_x, x)
    for i, shade in enumerate(sns.color_palette("viridis", parts)):
        inside = (probability >= i / parts) & (probability <= (i + 1) / parts)
        part = torch.cat([inside, inside[-1:]])
        left.fill_betweenx(z[part], p_z[part], color=shade)
        below.fill_between(x[part], p_x[part], color=shade)
        curve.plot(x[part], z[part], color=shade, linewidth=4)
    below.hist(samples, 150, density=True, histtype="step", color="black", label="samples")
    below.legend()
    left.set(xlabel="density $p_Z$", ylabel="$z$", ylim=(-3, 3))
    left.invert_xaxis()
    left.tick_params(labelbottom=True)
    below.tick_params(labelleft=True)
    shown = x[z.abs() <= 3]
    below.set(xlabel="$x$", ylabel="density $p_X$", xlim=(shown[0], shown[-1]))
    curve.set_title("Steep map, dense x: equal colours, equal probability")
    corner.axis("off")
    return figure


def colour_bar(
    figure: Figure, label: str, low: float, high: float, colours: str = "viridis"
) -> Figure:
    """Put one colour bar beside pictures that share its scale, and return their figure.

    Args:
        figure: Pictures that were coloured before matplotlib saw them, as in :func:`image_grid`.
        label: What the colours show, with its unit.
        low: What the lowest colour means.
        high: What the highest colour means.
        colours: The colour map's name.

    Example:
        >>> figure, _ = panels("before", "after")
        >>> len(colour_bar(figure, "mm", 0, 1).axes)
        3
    """
    scale = ScalarMappable(Normalize(low, high), colours)
    figure.colorbar(scale, ax=list(figure.axes), label=label)
    return figure


def montage(axes: Axes, pictures: Sequence[Pixels], names: Sequence[str]) -> None:
    """Show pictures of one size in a row, as one: a widget draws it faster than a grid of axes.

    Args:
        axes: Where; loses its ticks.
        pictures: (H, W, 3) each, in [0, 1].
        names: What stands above each.
    """
    height, width = pictures[0].shape[:2]
    gap = width // 24
    row = np.ones((height, len(pictures) * (width + gap) - gap, 3), np.float32)
    for number, (picture, name) in enumerate(zip(pictures, names, strict=True)):
        left = number * (width + gap)
        row[:, left : left + width] = picture
        axes.text(left + width / 2, -0.04 * height, name, ha="center", va="bottom")
    axes.imshow(row)
    axes.axis("off")


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


def pairs(evaluation: Evaluation) -> Figure:
    """Show every pair of a good and an anomalous image: in the right order or not?

    Both are sorted, the most anomalous first; each cell is a pair, and the border between right
    and wrong is the ROC curve. Equal scores count as wrong here.
    """
    good = evaluation.scores[evaluation.labels == 0].sort(descending=True).values
    bad = evaluation.scores[evaluation.labels == 1].sort(descending=True).values
    right = bad[:, None] > good[None]
    shades = ListedColormap(["0.55", "white"])
    figure, axes = _axes(
        f"{title(evaluation.dataset)}: {int(right.sum())} of {right.numel()} pairs are right,\n"
        f"AUROC {auroc(evaluation.scores, evaluation.labels):.3f} is their share"
    )
    figure.set_size_inches(6.4, 4.6)
    grid = "0.85" if right.numel() < 2000 else "face"  # more lines would hide the cells
    axes.pcolormesh(right.numpy(), cmap=shades, vmin=0, vmax=1, edgecolor=grid, linewidth=0.3)
    fpr, tpr = roc_curve(evaluation.scores, evaluation.labels)
    axes.plot(fpr * len(good), tpr * len(bad), color="black", linewidth=3, label="ROC curve")
    axes.set(xlabel="good images, highest score first", xlim=(0, len(good)))
    axes.set(ylabel="anomalous images,\nhighest score first", ylim=(0, len(bad)))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(integer=True))
    keys = [Patch(facecolor=shades(i), edgecolor="0.6") for i in (1, 0)]
    handles = [*axes.get_legend_handles_labels()[0], *keys]
    figure.legend(handles, ["ROC curve", "right", "wrong"], loc="outside right center")
    return figure


def overlaps(evaluation: Evaluation) -> Figure:
    """Show how much is found at each false-positive rate: of pixels, of regions, of images.

    The areas over the two shaded ranges are what AUPRO and AUPIMO measure, except that AUPRO's is
    over a linear axis.
    """
    pixels = evaluation.maps, evaluation.masks
    maps, masks = (one[:, 0].numpy() for one in pixels)
    good = evaluation.labels.numpy() == 0
    bad = np.flatnonzero(masks.any((1, 2)))
    defects = [maps[i][masks[i]] for i in bad]
    regions = [
        maps[i][numbers == k]
        for i in bad
        for numbers in [measure.label(masks[i], connectivity=2)]
        for k in range(1, numbers.max() + 1)
    ]
    fpr = np.geomspace(1e-5, 1, 200)
    areas = auroc(*pixels), aupro(*pixels), aupimo(*pixels, labels=evaluation.labels)
    figure, axes = _axes(
        f"{title(evaluation.dataset)}: the same maps, by three standards\n"
        "pixel AUROC {:.3f}, AUPRO {:.3f}, AUPIMO {:.3f}\n".format(*areas)
    )
    figure.set_size_inches(7, 4.4)
    for name, groups, normal, style in [
        ("of all defective pixels (pixel AUROC)", [maps[masks]], maps[~masks], "-"),
        ("of a region, on average (AUPRO)", regions, maps[~masks], "--"),
        ("of an image's defect, on average (AUPIMO)", defects, maps[good], ":"),
    ]:
        normal = np.sort(normal, axis=None)[::-1]
        threshold = normal[(fpr * (len(normal) - 1)).astype(int)]
        found = np.mean([[(group >= t).mean() for t in threshold] for group in groups], axis=0)
        axes.plot(fpr, found, style, linewidth=2.5, label=name)
    for (low, high), name in [((1e-5, 1e-4), "AUPIMO"), ((1e-5, 0.3), "AUPRO")]:
        axes.axvspan(low, high, color="grey", alpha=0.12)
        axes.text((low * high) ** 0.5 if name == "AUPIMO" else 0.3, 1.02, name, ha="center")
    axes.set(xscale="log", xlim=(1e-5, 1), ylim=(0, 1.0))
    axes.set(xlabel="false-positive rate (share of normal pixels)", ylabel="share found")
    axes.legend(loc="upper left")
    return figure


def differences(
    pairs: pd.DataFrame, summary: pd.DataFrame, heading: str = "", xlabel: str = "difference"
) -> Figure:
    """Show what each change is worth: every pair of runs, their mean and its interval.

    Args:
        pairs: From :func:`fastflow_utils.ablation.pairs`.
        summary: Of the same rows, from :func:`fastflow_utils.ablation.compare`.
        heading: The figure's title.
        xlabel: Which figure the differences are of.
    """
    rows = np.arange(len(pairs))
    height = 1.85 + 0.36 * len(rows)
    figure = Figure(figsize=(8.5, height), dpi=80)
    figure.set_layout_engine("none")
    axes = figure.add_axes((0.3, 0.65 / height, 0.58, 1 - 1.65 / height))
    names = list(dict.fromkeys(pairs.columns.get_level_values(0)))
    for number, name in enumerate(names):
        values = pairs[name].to_numpy()
        own_rows = rows[:, None] + 0.22 * (number - (len(names) - 1) / 2)
        y = np.broadcast_to(own_rows, values.shape).ravel()
        style: Any = {"marker": "osD^vP"[number % 6], "color": OTHER_COLOURS[number % 6]}
        axes.plot(values.ravel(), y, ls="", ms=5, alpha=0.8, label=name, **style)
    reach = (summary["high"] - summary["mean"]).fillna(0)
    axes.errorbar(summary["mean"], rows, xerr=reach, fmt="k|", ms=14, lw=2, capsize=4, zorder=3)
    axes.axvline(0, color="black", ls=":", lw=1)
    axes.set(yticks=rows, yticklabels=pairs.index, ylim=(len(rows) - 0.5, -0.5), xlabel=xlabel)
    for row, verdict in enumerate(summary["verdict"]):
        axes.text(1.02, row, verdict, transform=axes.get_yaxis_transform(), va="center")
    axes.legend(ncols=len(names), loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0)
    figure.suptitle(heading, y=1 - 0.08 / height, va="top")
    sns.despine(ax=axes)
    return figure


def strips(scores: Mapping[str, Tensor], labels: Tensor, heading: str = "") -> Figure:
    """Show every score of good and anomalous images as a point, in a panel for each name."""
    figure, row = panels(*scores, width=4.2, height=2.6)
    height = np.random.default_rng(0).uniform(-0.25, 0.25, len(labels))
    for axes, values in zip(row, scores.values(), strict=True):
        for label, (colour, marker) in enumerate([(GOOD_COLOUR, "o"), (ANOMALOUS_COLOUR, "^")]):
            own = labels.numpy() == label
            axes.scatter(values[own], label + height[own], color=colour, marker=marker)
        axes.set(yticks=[0, 1], yticklabels=["good", "anomalous"], ylim=(-0.5, 1.5))
        low, high = values.aminmax()
        if low == high:
            axes.set_xlim(float(low) - 1, float(high) + 0.1)
    figure.suptitle(heading)
    return figure


def false_positive_rates(
    rates: Sequence[float], *, judged: int, alpha: float, held_out: Sequence[int]
) -> Figure:
    """Show how far the rate of a threshold from n held-out images may be from the one asked for.

    Args:
        rates: Measured with as many held-out images as ``held_out`` begins with.
        judged: How many images each of them was measured on.
        alpha: The rate asked for.
        held_out: Each n, whose rate has the law Beta(n + 1 - k, k).
    """
    first = held_out[0]
    laws = {}
    for n in held_out:
        k = min(n, math.ceil((1 - alpha) * (n + 1)))
        laws[n] = beta(n + 1 - k, k)
    high = laws[first].ppf(0.95)
    figure, axes = _axes(
        f"Asked for {alpha:.0%}: with {first} images, 1 in 20 draws exceeds {high:.0%}"
    )
    figure.set_size_inches(6.8, 3.6)
    # Of m images 0 to m are called: m + 1 bars of the same width.
    places = (np.asarray(rates) * judged + 0.5) / (judged + 1)
    bars = [i / (judged + 1) for i in range(judged + 2)]
    axes.hist(places, bars, density=True, color="0.8", label=f"{first} held out, measured")
    rate = np.linspace(0.001, 0.5, 400)
    for (n, law), style in zip(laws.items(), cycle(["-", "--", ":"])):
        axes.plot(rate, law.pdf(rate), style, linewidth=2.5, label=f"{n} held out, Beta")
    axes.axvline(alpha, color="black", linewidth=1, label="asked for")
    axes.set(xlabel="false-positive rate", ylabel="density", xlim=(0, 0.5))
    axes.legend()
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
