"""What was learnt, and whether it is any good: losses, scores, curves, galleries."""

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
import torch
import torch.nn.functional as F
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from scipy.stats import beta
from skimage import measure
from torch import Tensor

from fastflow_utils.course.plots.grids import heat_bar, image_grid
from fastflow_utils.course.plots.style import (
    HELD_OUT_COLOUR,
    OTHER_COLOURS,
    TRAIN_COLOUR,
    describe,
    one_panel,
    panels,
    plain,
    save,
    span,
)
from fastflow_utils.detector.evaluation import Evaluation
from fastflow_utils.detector.heat_maps import (
    ANOMALOUS_COLOUR,
    GOOD_COLOUR,
    colour,
    outline,
    overlay,
    show,
)
from fastflow_utils.detector.metrics import auroc, roc_curve

__all__ = [
    "differences",
    "false_positive_rates",
    "gallery",
    "overlaps",
    "pairs",
    "roc",
    "score_histogram",
    "strips",
    "training_curve",
]


def gallery(evaluation: Evaluation, indices: Sequence[int] | None = None) -> Figure:
    """Show test images beside the truth, the heat map and both on top of each other.

    The truth is left out where anomalous images have no masks.

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
    told: dict[str, list[str]] = {"hottest in the defect": [], "elsewhere": [], "no defect": []}
    for index in indices:
        image, anomaly_map = data[index].image, evaluation.maps[index]
        mask = evaluation.masks[index]
        found = "hottest in the defect" if mask.flatten()[anomaly_map.argmax()] else "elsewhere"
        words = f"{data.defects[index]} {evaluation.scores[index]:.2f}"
        told[found if mask.any() else "no defect"].append(words)
        truth = mask[0].float()[..., None].expand(-1, -1, 3).numpy()
        resized = F.interpolate(image[None], mask.shape[1:], mode="area")[0]
        mixed = outline(overlay(resized, anomaly_map), mask)
        row = {"image": show(image), "truth": truth}
        row |= {"heat map": colour(anomaly_map), "overlay": mixed}
        if not data.has_masks:
            del row["truth"]
        pictures.append(row)
    rows = [f"{data.defects[i]}\nscore {evaluation.scores[i]:.2f}" for i in indices]
    columns = list(pictures[0])
    grid = [list(row.values()) for row in pictures]
    what = "; ".join(f"{where}: {', '.join(names)}" for where, names in told.items() if names)
    return describe(
        heat_bar(image_grid(grid, columns, rows, data.title)),
        f"In rows, {', '.join(columns)} of {len(rows)} test images with their scores; {what}.",
    )


def score_histogram(evaluation: Evaluation) -> Figure:
    """Show how the scores of good and anomalous images are spread: do they overlap?"""
    figure, axes = one_panel(evaluation.dataset.title)
    table = pd.DataFrame(
        {
            "score": evaluation.scores.numpy(),
            "image": np.where(evaluation.labels.numpy() == 1, "anomalous", "good"),
        }
    )
    palette = {"good": GOOD_COLOUR, "anomalous": ANOMALOUS_COLOUR}
    sns.histplot(table, x="score", hue="image", bins=30, palette=palette, ax=axes)
    axes.set(xlabel="image score (higher is more anomalous)", ylabel="images")
    return describe(
        figure, f"Histogram of image scores: {_groups(table['score'], table['image'])}."
    )


def _groups(scores: Iterable[float], names: Iterable[str]) -> str:
    """Return in words how far each group's scores reach."""
    spread = pd.Series([*map(float, scores)]).groupby([*names], sort=False)
    return ", ".join(f"{name} images {span(values)}" for name, values in sorted(spread)[::-1])


def roc(evaluation: Evaluation) -> Figure:
    """Show the ROC curves of images and, where their truth is known, of pixels, with areas."""
    figure, axes = one_panel(evaluation.dataset.title)
    told = []
    curves = {"images": (evaluation.scores, evaluation.labels), "pixels": evaluation.pixels}
    for name, (scores, labels) in curves.items():
        if not labels.any() and name == "pixels":
            continue
        fpr, tpr = roc_curve(scores, labels)
        grid = torch.linspace(0, len(fpr) - 1, min(len(fpr), 2000)).long()
        area = float(torch.trapezoid(tpr, fpr))
        told.append(f"{name}, AUROC {area:.3f}")
        axes.plot(fpr[grid], tpr[grid], label=f"{name}: AUROC {area:.3f}", drawstyle="steps-post")
    axes.plot([0, 1], [0, 1], "--", color="grey", linewidth=1, label="chance")
    axes.set(xlabel="false positive rate", ylabel="true positive rate", aspect="equal")
    axes.legend(loc="lower right")
    return describe(figure, f"ROC curves beside the diagonal of chance: {'; '.join(told)}.")


def pairs(evaluation: Evaluation) -> Figure:
    """Show every pair of a good and an anomalous image: in the right order or not?

    Both are sorted, the most anomalous first; each cell is a pair, and the border between right
    and wrong is the ROC curve. Equal scores count as wrong here.
    """
    good = evaluation.scores[evaluation.labels == 0].sort(descending=True).values
    bad = evaluation.scores[evaluation.labels == 1].sort(descending=True).values
    right = bad[:, None] > good[None]
    shades = ListedColormap(["0.55", "white"])
    figure, axes = one_panel(
        f"{evaluation.dataset.title}: {int(right.sum())} of {right.numel()} pairs are right,\n"
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
    return describe(
        figure,
        f"A cell for each pair: {len(bad)} anomalous images, up, {len(good)} good ones, across. "
        "The ROC curve climbs from the lower left: white pairs, in the right order, lie below it, "
        f"{int((~right).sum())} grey ones above.",
    )


def overlaps(evaluation: Evaluation) -> Figure:
    """Show how much is found at each false-positive rate: of pixels, of regions, of images.

    Two panels, as there are two rates: left over all normal pixels, with the curves whose areas
    are pixel AUROC and, over the shaded range, AUPRO; right over the pixels of good images alone,
    on a logarithmic axis, with the curve of each anomalous image and the mean of all, whose height
    over the shaded range is AUPIMO.
    """
    maps, masks = (one[:, 0].numpy() for one in (evaluation.maps, evaluation.masks))
    everywhere = np.ones(maps.shape[1:], bool)
    inside = everywhere if evaluation.inside is None else evaluation.inside.numpy()
    bad = np.flatnonzero(masks.any((1, 2)))
    regions = [
        maps[i][numbers == k]
        for i in bad
        for numbers in [measure.label(masks[i], connectivity=2)]
        for k in range(1, numbers.max() + 1)
    ]
    metrics = evaluation.metrics()
    figure, (left, right) = panels(
        f"pixel AUROC {metrics['pixel_auroc']:.3f},\nAUPRO {metrics['aupro']:.3f}",
        f"AUPIMO {metrics['aupimo']:.3f}\n",
        width=3.7,
        height=3.9,
    )
    fpr = np.linspace(0, 1, 501)
    normal = maps[~masks & inside]
    curves = {"of all pixels (AUROC)": [maps[masks]], "of a region (AUPRO)": regions}
    at_tenth = []  # how much of the pixels, and of a region, is found at a rate of 0.1
    for (name, groups), style in zip(curves.items(), ("-", "--"), strict=True):
        found = _found(groups, normal, fpr).mean(0)
        at_tenth.append(f"{found[50]:.0%}")
        left.plot(fpr, found, style, linewidth=2.5, label=name)
    left.axvspan(0, 0.3, color="grey", alpha=0.15, linewidth=0, label="range of AUPRO")
    left.set(xlim=(0, 1), xlabel="FPR, of all normal pixels", ylabel="share found")
    left.legend(loc="lower right")
    fpr = np.geomspace(1e-6, 1e-2, 200)
    good = maps[evaluation.labels.numpy() == 0][:, inside]
    found = _found([maps[i][masks[i]] for i in bad], good, fpr)
    thin: dict[str, Any] = {"color": ANOMALOUS_COLOUR, "linewidth": 0.8, "alpha": 0.6}
    right.plot(fpr, found.T, **thin, label=["of one image's defect", *[""] * (len(found) - 1)])
    right.plot(fpr, found.mean(0), color="black", linewidth=2.5, label="mean of these")
    right.axvspan(1e-5, 1e-4, color="grey", alpha=0.15, linewidth=0, label="range of AUPIMO")
    right.set(xscale="log", xlim=(1e-6, 1e-2), xlabel="FPR, of good images' pixels")
    right.legend(loc="upper left", borderaxespad=0, fontsize=9.5)
    for axes in (left, right):
        axes.set_ylim(0, 1.02)
        sns.despine(ax=axes)
    figure.suptitle(plain(f"{evaluation.dataset.title}: the same maps, by three metrics"))
    return describe(
        figure,
        f"Left, at a false-positive rate of 0.1, {at_tenth[0]} of all anomalous pixels and "
        f"{at_tenth[1]} of a region are found. Right, a thin line for each image's defect, and "
        f"their mean, {found.mean(0)[100]:.0%} at a rate of 0.0001, "
        f"{found.mean(0)[-1]:.0%} at 0.01.",
    )


def _found(groups: Sequence[np.ndarray], normal: np.ndarray, fpr: np.ndarray) -> np.ndarray:
    """Return the share of each group that is found at each rate of the normal ones, (G, K)."""
    highest = np.sort(normal, axis=None)[::-1]
    threshold = highest[(fpr * (len(highest) - 1)).astype(int)]
    return np.array([[(group >= t).mean() for t in threshold] for group in groups])


def strips(scores: Mapping[str, Tensor], labels: Tensor, heading: str = "") -> Figure:
    """Show every score of good and anomalous images as a point, in a panel for each name."""
    figure, row = panels(*scores, width=4.2, height=2.6)
    height = np.random.default_rng(0).uniform(-0.25, 0.25, len(labels))
    for axes, values in zip(row, scores.values(), strict=True):
        for label, (shade, marker) in enumerate([(GOOD_COLOUR, "o"), (ANOMALOUS_COLOUR, "^")]):
            own = labels.numpy() == label
            axes.scatter(values[own], label + height[own], color=shade, marker=marker)
        axes.set(yticks=[0, 1], yticklabels=["good", "anomalous"], ylim=(-0.5, 1.5))
        low, high = values.aminmax()
        if low == high:
            axes.set_xlim(float(low) - 1, float(high) + 0.1)
    figure.suptitle(plain(heading))
    kinds = ["anomalous" if label else "good" for label in labels]
    told = [f"{name}: {_groups(values, kinds)}" for name, values in scores.items()]
    return describe(figure, f"A point for each image. {'; '.join(told)}.")


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
    figure, axes = one_panel(
        f"Asked for {alpha:.0%}: with {first} images, 1 in 20 draws exceeds {high:.0%}"
    )
    figure.set_size_inches(6.8, 3.6)
    # Of m images 0 to m are called: m + 1 bars of the same width.
    places = (np.asarray(rates) * judged + 0.5) / (judged + 1)
    bars = [i / (judged + 1) for i in range(judged + 2)]
    axes.hist(places, bars, density=True, color="0.8", label=f"{first} held out, measured")
    limit = max(0.5, float(places.max()) + 0.5 / (judged + 1))  # the last bar whole
    rate = np.linspace(0.001, limit, 400)
    for (n, law), style in zip(laws.items(), cycle(["-", "--", ":"])):
        axes.plot(rate, law.pdf(rate), style, linewidth=2.5, label=f"{n} held out, Beta")
    axes.axvline(alpha, color="black", linewidth=1, label="asked for")
    axes.set(xlabel="false-positive rate", ylabel="density", xlim=(0, limit))
    axes.legend()
    reach = [f"{n} images {law.ppf(0.05):.0%} to {law.ppf(0.95):.0%}" for n, law in laws.items()]
    return describe(
        figure,
        f"Densities of the rate, narrower with more held-out images. The middle nine tenths: "
        f"{', '.join(reach)}. Bars measured with {first} images, {span(rates)}, follow theirs.",
    )


def differences(
    pairs: pd.DataFrame, summary: pd.DataFrame, heading: str = "", xlabel: str = "difference"
) -> Figure:
    """Show what each change is worth: every pair of runs, their mean and its interval.

    Args:
        pairs: From :func:`fastflow_utils.experiments.ablation.paired_differences`.
        summary: Of the same rows, from :func:`fastflow_utils.experiments.ablation.compare`.
        heading: The figure's title.
        xlabel: Which figure the differences are of.
    """
    rows = np.arange(len(pairs))
    height = 1.85 + 0.46 * len(rows)
    figure = Figure(figsize=(5.5, height), dpi=80)  # narrow: it is read on phones, too
    figure.set_layout_engine("none")
    axes = figure.add_axes((0.36, 0.65 / height, 0.6, 1 - 1.65 / height))
    names = list(dict.fromkeys(pairs.columns.get_level_values(0)))
    for number, name in enumerate(names):
        values = pairs[name].to_numpy()
        own_rows = rows[:, None] + 0.22 * (number - (len(names) - 1) / 2)
        y = np.broadcast_to(own_rows, values.shape).ravel()
        style: Any = {"marker": "osD^vP"[number % 6], "color": OTHER_COLOURS[0]}
        style |= {"markerfacecolor": "white"} if number % 2 else {}
        axes.plot(values.ravel(), y, ls="", ms=5, label=name, **style)
    ends = [summary["mean"] - summary["low"], summary["high"] - summary["mean"]]
    reach = np.clip(np.nan_to_num(np.array(ends, dtype=float)), 0, None)
    axes.errorbar(summary["mean"], rows, xerr=reach, fmt="k|", ms=14, lw=2, capsize=4, zorder=3)
    axes.axvline(0, color="black", ls=":", lw=1)
    axes.set(yticks=rows - 0.17, yticklabels=pairs.index, ylim=(len(rows) - 0.5, -0.5))
    axes.set(xlabel=xlabel)
    axes.tick_params(axis="y", length=0)
    beneath: Any = {"transform": axes.get_yaxis_transform(), "ha": "right", "va": "center"}
    for row, verdict in enumerate(summary["verdict"]):
        axes.text(-0.02, row + 0.21, verdict, fontsize=9.5, style="italic", **beneath)
    axes.locator_params(axis="x", nbins=5)  # or their numbers run into each other
    axes.legend(ncols=len(names), loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0)
    figure.suptitle(plain(heading), y=1 - 0.08 / height, va="top")
    sns.despine(ax=axes)
    told = [
        f"{verdict}: " + ", ".join(f"{name} {mean:+z.2f}" for name, mean in own["mean"].items())
        for verdict, own in summary.groupby("verdict", sort=False)
    ]
    return describe(figure, f"Points, their mean and interval in rows. {'; '.join(told)}.")


def training_curve(history: pd.DataFrame) -> Figure:
    """Show the negative log-likelihood of each level, and of held-out images, over the epochs."""
    figure, axes = one_panel("training")
    levels = [name for name in history.columns if name.startswith("nll_")]
    for name, marker in zip(levels, cycle("os^Dv")):
        level = name.removeprefix("nll_")
        style: dict[str, Any] = {"color": TRAIN_COLOUR, "marker": marker, "markersize": 4}
        axes.plot(history["epoch"], history[name], ":", label=f"level {level}", **style)
    for name, label, shade in [
        ("nll", "mean, training", TRAIN_COLOUR),
        ("held_out_nll", "mean, held out", HELD_OUT_COLOUR),
    ]:
        axes.plot(history["epoch"], history[name], color=shade, linewidth=3, label=label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="epoch", ylabel="negative log-likelihood\n(nats per dimension)")
    axes.legend()
    first, last = history.iloc[0], history.iloc[-1]
    return describe(
        figure,
        f"Lines, epoch {first['epoch']:.0f} to {last['epoch']:.0f}. The mean of the levels goes "
        f"from {first['nll']:.2f} to {last['nll']:.2f} for training images, and from "
        f"{first['held_out_nll']:.2f} to {last['held_out_nll']:.2f} for held-out ones.",
    )


def draw_run(evaluation: Evaluation, history: pd.DataFrame | None, folder: Path) -> None:
    """Save a run's gallery, score histogram and ROC curve as PNG files; with a history of its
    epochs, the training curve, too. A figure for which there are no test images is left out."""
    folder.mkdir(exist_ok=True)
    figures: dict[str, Figure] = {}
    if len(evaluation.labels):
        figures |= {"gallery": gallery(evaluation), "scores": score_histogram(evaluation)}
    if len(evaluation.labels.unique()) == 2:
        figures["roc"] = roc(evaluation)
    if history is not None:
        figures["training"] = training_curve(history)
    for name in ("gallery", "scores", "roc", "training"):
        (folder / f"{name}.png").unlink(missing_ok=True)  # perhaps of another run
    for name, figure in figures.items():
        save(figure, folder / f"{name}.png")
