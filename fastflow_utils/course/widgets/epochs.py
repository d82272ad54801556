"""How a model learns, epoch by epoch: its heat maps, its latents and its loss."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ipywidgets
import numpy as np
import pandas as pd
import seaborn as sns
import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor
from torch.distributions import Gamma, Normal

from fastflow_utils.course.plots import (
    HELD_OUT_COLOUR,
    OTHER_COLOURS,
    TRAIN_COLOUR,
    colour,
    describe,
    montage,
    outline,
    plain,
    show,
)
from fastflow_utils.course.widgets.explore import explore
from fastflow_utils.data.mvtec import MVTecAD
from fastflow_utils.detector.features import Features
from fastflow_utils.detector.model import FastFlow

__all__ = [
    "EpochRecord",
    "epoch_figure",
    "epoch_strip",
    "explore_epochs",
    "gain_figure",
    "length_figure",
    "quantile_figure",
]

EDGES = np.linspace(0, 3, 61)
QUANTILES = np.linspace(0.005, 0.995, 100)
SCALE = ScalarMappable(Normalize(0.5, 1), colormaps["inferno"])  # that of plots.colour
STYLES: dict[str, dict[str, Any]] = {
    "training": {"color": TRAIN_COLOUR, "linestyle": "-"},
    "held out": {"color": HELD_OUT_COLOUR, "linestyle": "--"},
}


@dataclass(frozen=True)
class Latents:
    """What is kept of one level's latents of a group of normal images.

    Attributes:
        spread: Standard deviation, over positions, of the squared length |z_i|^2 / C.
        density: Its histogram over ``EDGES``, as a density.
        quantiles: The ``QUANTILES`` of all numbers in z.
    """

    spread: float
    density: np.ndarray
    quantiles: np.ndarray


class EpochRecord:
    r"""Keeps what a model says after each epoch; the ``after_epoch`` of ``fit``.

    Call it once before the training, with 0, and give it to ``fit``. Each call takes the scales
    of the maps from the held-out images, as if training ended there
    (``FastFlow.calibrate``; ``fit`` does it once more at its end), and changes
    nothing else of the model.

    Args:
        model: The model that learns.
        dataset: The test split.
        features: Of ``dataset``.
        training: Features of some images of the training.
        held_out: Features of normal images that are held out.
        shown: The test images whose maps are kept. Default: the one in the middle of each folder.

    Attributes:
        maps: For each epoch, the anomaly maps (S, 1, H, W) of the images in ``shown``.
        nll: One row an epoch (the index), a column for each group of normal images.
        level_nll: The same for each level: by group, a list with one (L,) an epoch.
        latents: For each epoch and group of normal images, one ``Latents`` a level.
    """

    def __init__(
        self,
        model: FastFlow,
        dataset: MVTecAD,
        features: Features,
        *,
        training: Sequence[Tensor],
        held_out: Sequence[Tensor],
        shown: Sequence[int] | None = None,
    ) -> None:
        model.backbone.require_as_given()
        if shown is None:
            folders = pd.Series(dataset.defects).groupby(dataset.defects).groups.values()
            shown = [int(folder[len(folder) // 2]) for folder in folders]
        self.model, self.dataset, self.shown = model, dataset, list(shown)
        self.images = [dataset[index] for index in self.shown]
        self.features = features[torch.tensor(self.shown)]
        self.normal = {"training": list(training), "held out": list(held_out)}
        self.channels = model.backbone.channels
        self.maps: list[Tensor] = []
        self.nll = pd.DataFrame(columns=[*self.normal], dtype=float).rename_axis("epoch")
        self.level_nll: dict[str, list[Tensor]] = {name: [] for name in self.normal}
        self.latents: list[dict[str, list[Latents]]] = []

    @torch.no_grad()
    def __call__(self, epoch: int) -> None:
        """Add an epoch, the next one."""
        if epoch != len(self.maps):
            raise ValueError(f"epoch {epoch}, expected {len(self.maps)}")
        device = self.model.device
        normal = {name: [h.to(device) for h in some] for name, some in self.normal.items()}
        self.model.calibrate([normal["held out"]])
        detector = self.model.for_inference()
        self.maps.append(detector.anomaly_map([h.to(device) for h in self.features]).cpu())
        for name, h in normal.items():
            self.level_nll[name].append(detector.nll(h).mean(0).cpu())
        self.nll.loc[epoch] = {n: float(found[-1].mean()) for n, found in self.level_nll.items()}
        self.latents.append(
            {name: [_latents(z.cpu()) for z, _ in detector(h)] for name, h in normal.items()}
        )

    def __len__(self) -> int:
        return len(self.maps)

    def spread(self) -> pd.DataFrame:
        r"""Return how far the squared lengths spread, by epoch: standard deviation of |z_i|^2 / C.

        A Gaussian's is :math:`\sqrt{2 / C}`. One column for each level and group.
        """
        rows = [
            {
                (f"level {level}", name): one.spread
                for level in range(len(self.channels))
                for name, levels in groups.items()
                for one in [levels[level]]
            }
            for groups in self.latents
        ]
        columns = pd.MultiIndex.from_tuples(rows[0])
        return pd.DataFrame([row.values() for row in rows], columns=columns).rename_axis("epoch")

    def gains(self, group: str) -> pd.DataFrame:
        """Return how far each level's nll has fallen since epoch 0, in nats per dimension.

        Epoch 0 is the Gaussian that the measured layers make, so this is what training adds to it.
        Differences do not depend on the unit of the features: unlike the values themselves, they
        compare between levels.

        Args:
            group: "training" or "held out".

        Returns:
            One row an epoch, one column a level.
        """
        found = torch.stack(self.level_nll[group])
        names = [f"level {level}" for level in range(found.shape[1])]
        return pd.DataFrame((found[0] - found).numpy(), columns=names).rename_axis("epoch")

    def precision(self, image: int) -> list[float]:
        """Return, by epoch, which share of an image's hottest pixels lies in its defect.

        As many pixels as the defect has: 1 is a map that marks it and nothing else. Nan without a
        defect.

        Args:
            image: Which of ``shown``.
        """
        return [_precision(one[image], self.images[image].mask) for one in self.maps]


def _precision(anomaly_map: Tensor, mask: Tensor) -> float:
    hottest = anomaly_map.flatten().topk(int(mask.sum())).indices
    return float(mask.flatten()[hottest].float().mean())


def _latents(z: Tensor) -> Latents:
    lengths = z.square().mean(1).flatten()
    counts, _ = np.histogram(lengths, EDGES)
    values = z.flatten().sort().values
    return Latents(
        spread=float(lengths.std(correction=0)),
        density=counts / (len(lengths) * np.diff(EDGES)),
        quantiles=values[torch.from_numpy(QUANTILES * (len(values) - 1)).round().long()].numpy(),
    )


def _gaussian_density(channels: int) -> np.ndarray:
    """The density of |z_i|^2 / C over the middles of the bins where z ~ N(0, I)."""
    middles = torch.from_numpy((EDGES[1:] + EDGES[:-1]) / 2)
    return np.asarray(Gamma(channels / 2, channels / 2).log_prob(middles).exp())


def _draw_lengths(axes: Axes, record: EpochRecord, epoch: int, level: int) -> None:
    for name, levels in record.latents[epoch].items():
        axes.stairs(levels[level].density, EDGES, label=name, linewidth=1.6, **STYLES[name])
    expected = _gaussian_density(record.channels[level])
    middles = (EDGES[1:] + EDGES[:-1]) / 2
    axes.plot(middles, expected, ":", color="0.5", linewidth=1.6, label="N(0, I)")
    axes.set(xlim=(EDGES[0], EDGES[-1]), ylim=(0, 1.15 * expected.max()))


def quantile_figure(record: EpochRecord) -> Figure:
    """Show the quantiles of z against a Gaussian's, one panel a level, before and after."""
    count = len(record.channels)
    figure = Figure((max(3 * count, 5), 3.9), dpi=80, layout="constrained")
    panels = figure.subplots(1, count, sharey=True, squeeze=False)[0]
    gaussian = Normal(0, 1).icdf(torch.from_numpy(QUANTILES))
    first: dict[str, Any] = {"color": OTHER_COLOURS[1], "linestyle": "-."}
    for level, panel in enumerate(panels):
        for name, group, epoch, style in [
            ("untrained", "training", 0, first),
            ("training", "training", -1, STYLES["training"]),
            ("held out", "held out", -1, STYLES["held out"]),
        ]:
            quantiles = record.latents[epoch][group][level].quantiles
            panel.plot(gaussian, quantiles, label=name, linewidth=1.8, **style)
        panel.axline((0, 0), slope=1, color="0.5", linestyle=":", label="N(0, 1)")
        panel.set(title=f"level {level}", xlabel="quantile of N(0, 1)", ylim=(-4, 4))
        sns.despine(ax=panel)
    panels[0].set_ylabel("quantile of z")
    panels[0].legend()
    off = {
        (group, epoch): np.mean(
            [
                np.abs(one.quantiles - gaussian.numpy()).mean()
                for one in record.latents[epoch][group]
            ]
        )
        for group in STYLES
        for epoch in (0, -1)
    }
    told = [f"{group} {off[group, 0]:.2f} to {off[group, -1]:.2f}" for group in STYLES]
    name = plain(record.dataset.title)
    figure.suptitle(f"{name}: mean distance from the diagonal\n{', '.join(told)}")
    return describe(
        figure,
        f"A panel for each of {count} levels: lines of the untrained model and, after training, "
        "of training and of held-out images. On the diagonal z would be Gaussian.",
    )


def gain_figure(record: EpochRecord) -> Figure:
    """Show what training adds to the Gaussian, a panel a level: gains, by epoch.

    Of the images learnt from and of held-out ones, each measured after the epoch.
    """
    count = len(record.channels)
    figure = Figure((max(2.7 * count, 5), 3.5), dpi=80, layout="constrained")
    panels = figure.subplots(1, count, sharey=True, squeeze=False)[0]
    for group, style in STYLES.items():
        gains = record.gains(group)
        for name, panel in zip(gains.columns, panels, strict=True):
            panel.plot(gains.index, gains[name], marker=".", label=group, **style)
            panel.set(title=name, xlabel="epoch")
            panel.xaxis.set_major_locator(MaxNLocator(5, integer=True))
            panel.axhline(0, color="black", linewidth=0.8)
            sns.despine(ax=panel)
    panels[0].set_ylabel("gain over the Gaussian\n(nats per dimension)")
    panels[0].legend()
    last = [f"{record.gains(group).iloc[-1].mean():.2f} {group}" for group in STYLES]
    figure.suptitle(f"{plain(record.dataset.title)}: gain, mean of levels: {', '.join(last)}")
    ends = zip(*(record.gains(group).iloc[-1] for group in STYLES), strict=True)
    levels = [f"level {i} {one:.2f} and {other:.2f}" for i, (one, other) in enumerate(ends)]
    return describe(
        figure,
        f"Two lines for each level, from 0 at epoch 0. At the end: {', '.join(levels)}.",
    )


def length_figure(record: EpochRecord, epochs: Sequence[int]) -> Figure:
    r"""Show the distribution of |z_i|^2 / C: a row for each level, a column for each epoch."""
    levels = len(record.channels)
    figure = Figure((2.5 * len(epochs), 2 * levels + 0.7), dpi=80, layout="constrained")
    axes = figure.subplots(levels, len(epochs), sharex=True, sharey="row", squeeze=False)
    for level in range(levels):
        for panel, epoch in zip(axes[level], epochs, strict=True):
            _draw_lengths(panel, record, epoch, level)
            if level == 0:
                panel.set_title("untrained" if epoch == 0 else f"epoch {epoch}")
        axes[level, 0].set_ylabel(f"level {level}\ndensity")
    for panel in axes[-1]:
        panel.set_xlabel(r"$\|z_i\|^2 / C$")
    axes[0, -1].legend()
    spread = record.spread().T.groupby(level=1).mean().T
    told = [
        f"{group} {spread[group][epochs[0]]:.2f} to {spread[group][epochs[-1]]:.2f}"
        for group in STYLES
    ]
    figure.suptitle(
        f"{plain(record.dataset.title)}: spread of lengths, mean of levels:\n{', '.join(told)}"
    )
    ends = [
        f"level {level} {record.latents[epochs[-1]]['training'][level].spread:.2f} and "
        f"{record.latents[epochs[-1]]['held out'][level].spread:.2f}"
        for level in range(levels)
    ]
    return describe(
        figure,
        f"Histograms by level, at epochs {', '.join(map(str, epochs))}, beside a Gaussian's hump "
        f"at 1. Spreads at the end: {', '.join(ends)}.",
    )


def epoch_strip(record: EpochRecord, images: Sequence[int]) -> Figure:
    """Show images in rows, each with its heat maps: untrained, after epoch 1, and at the end.

    Args:
        record: Of the training.
        images: Which of ``record.shown``.
    """
    last = len(record) - 1
    epochs = sorted({0, min(1, last), last})
    width = 1.95 * (len(epochs) + 1) + 0.8
    figure = Figure((width, 2.05 * len(images) + 0.7), dpi=80, layout="constrained")
    axes = figure.subplots(len(images), len(epochs) + 1, squeeze=False)
    for row, image in zip(axes, images, strict=True):
        sample = record.images[image]
        pictures = [show(sample.image), *(colour(record.maps[e][image]) for e in epochs)]
        for panel, picture in zip(row, pictures, strict=True):
            panel.imshow(outline(picture, sample.mask))
            panel.axis("off")
        row[0].set_title(f"{plain(sample.defect)}, image {record.shown[image]}")
        shares = record.precision(image)
        for panel, epoch in zip(row[1:], epochs, strict=True):
            name = "untrained" if epoch == 0 else f"epoch {epoch}"
            inside = f": {shares[epoch]:.0%}" if sample.mask.any() else ""
            panel.set_title(name + inside)
    figure.colorbar(
        SCALE, ax=list(axes.flat), label="anomaly map", ticks=[0.5, 0.75, 1], extend="min"
    )
    figure.suptitle(f"{plain(record.dataset.title)}: share of the hottest pixels in the defect")
    told = []
    for image in images:
        shares = record.precision(image)
        rise = ", ".join(f"{shares[epoch]:.0%}" for epoch in epochs)
        told.append(f"{record.images[image].defect} {rise}")
    return describe(
        figure,
        f"Images with their defects' outlines, each beside its heat maps at epochs "
        f"{', '.join(map(str, epochs))}: {'; '.join(told)}.",
    )


def epoch_figure(record: EpochRecord, epoch: int, image: int, level: int) -> Figure:
    """Show what the model says after one epoch.

    Args:
        record: Of the training.
        epoch: 0 is untrained.
        image: Which of ``record.shown``.
        level: Whose latents.

    Returns:
        The image with its defect's outline; its heat map; the lengths of the latents of normal
        images, beside a Gaussian's; the loss so far and to come, with the epoch marked.
    """
    sample = record.images[image]
    figure = Figure((8.6, 6.2), dpi=80)
    figure.set_layout_engine("none")  # an engine would take most of the time
    drawn = outline(colour(record.maps[epoch][image]), sample.mask)
    found = f": {_precision(record.maps[epoch][image], sample.mask):.0%} of the hottest inside"
    montage(
        figure.add_axes((0.06, 0.5, 0.8, 0.4)),
        [outline(show(sample.image), sample.mask), drawn],
        [plain(sample.defect), f"heat map{found if sample.mask.any() else ''}"],
    )
    bar = figure.add_axes((0.775, 0.51, 0.018, 0.37))
    figure.colorbar(SCALE, bar, label="anomaly map", ticks=[0.5, 0.75, 1], extend="min")
    lengths = figure.add_axes((0.09, 0.1, 0.37, 0.32))
    _draw_lengths(lengths, record, epoch, level)
    spread = record.latents[epoch]["training"][level].spread
    expected = (2 / record.channels[level]) ** 0.5
    lengths.set_title(f"level {level}: spread {spread:.2f}, Gaussian {expected:.2f}")
    lengths.set(xlabel=r"$\|z_i\|^2 / C$", ylabel="density")
    lengths.legend()
    loss = figure.add_axes((0.6, 0.1, 0.37, 0.32))
    for name, style in STYLES.items():
        loss.plot(record.nll.index, record.nll[name], marker=".", label=name, **style)
    loss.axvline(epoch, color="black", linewidth=1)
    now = [f"{record.nll[name][epoch]:.2f} {name}" for name in STYLES]
    loss.set_title("loss: " + ", ".join(now))
    loss.set(xlabel="epoch", ylabel="nll (nats per dimension)")
    last = len(record) - 1
    loss.set_xticks(range(0, last + 1, max(1, last // 5)))
    sns.despine(ax=lengths)
    sns.despine(ax=loss)
    name = "untrained" if epoch == 0 else f"after epoch {epoch}"
    figure.suptitle(f"{plain(record.dataset.title)}, {name}", y=0.985)
    share = found if sample.mask.any() else ""
    return describe(
        figure,
        f"{sample.defect} and its heat map{share}. Beneath, the histogram of lengths at level "
        f"{level}, spread {spread:.2f}, a Gaussian's {expected:.2f}, and the loss over epochs: "
        f"{', '.join(now)}.",
    )


def explore_epochs(record: EpochRecord, image: int = 0) -> Figure | None:
    """Walk through the epochs of a training. The static figure shows the last one.

    Everything is computed when the record is made, during the training; a redraw only draws.

    Args:
        record: Of a training.
        image: Which of ``record.shown`` comes first.
    """
    numbers = range(len(record.shown))
    options = [(f"{record.images[i].defect}, image {record.shown[i]}", i) for i in numbers]
    levels = [(f"{i} ({channels} channels)", i) for i, channels in enumerate(record.channels)]
    last = len(record) - 1
    return explore(
        lambda epoch, image, level: epoch_figure(record, epoch, image, level),
        epoch=ipywidgets.IntSlider(last, 0, last),
        image=ipywidgets.SelectionSlider(options=options, value=image),
        level=ipywidgets.SelectionSlider(options=levels, value=len(levels) - 1),
    )
