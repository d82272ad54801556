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
from torch import Tensor
from torch.distributions import Gamma, Normal

from fastflow_utils.course.plots import OTHER_COLOURS, colour, montage, outline, plain, show
from fastflow_utils.course.widgets.explore import explore
from fastflow_utils.data.mvtec import MVTecAD
from fastflow_utils.detector.features import Features
from fastflow_utils.detector.model import FastFlow

__all__ = [
    "EpochRecord",
    "epoch_figure",
    "epoch_strip",
    "explore_epochs",
    "length_figure",
    "quantile_figure",
]

EDGES = np.linspace(0, 3, 61)
QUANTILES = np.linspace(0.005, 0.995, 100)
SCALE = ScalarMappable(Normalize(0.5, 1), colormaps["inferno"])  # that of plots.colour
STYLES: dict[str, dict[str, Any]] = {
    "training": {"color": OTHER_COLOURS[0], "linestyle": "-"},
    "held out": {"color": OTHER_COLOURS[2], "linestyle": "--"},
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
        self.nll.loc[epoch] = {name: float(detector.nll(h).mean()) for name, h in normal.items()}
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
    axes.plot(middles, expected, "k:", linewidth=1.6, label="N(0, I)")
    axes.set(xlim=(EDGES[0], EDGES[-1]), ylim=(0, 1.15 * expected.max()))


def quantile_figure(record: EpochRecord) -> Figure:
    """Show the quantiles of z against a Gaussian's, one panel a level, before and after."""
    count = len(record.channels)
    figure = Figure((max(3 * count, 5), 3.7), dpi=80, layout="constrained")
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
        panel.axline((0, 0), slope=1, color="black", linestyle=":", label="N(0, 1)")
        panel.set(title=f"level {level}", xlabel="quantile of N(0, 1)", ylim=(-4, 4))
        sns.despine(ax=panel)
    panels[0].set_ylabel("quantile of z")
    panels[0].legend()
    off = [
        np.mean([np.abs(one.quantiles - gaussian.numpy()).mean() for one in groups["training"]])
        for groups in (record.latents[0], record.latents[-1])
    ]
    figure.suptitle(
        f"{plain(record.dataset.title)}: z is {off[0]:.2f} off the diagonal untrained, "
        f"{off[1]:.2f} trained"
    )
    return figure


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
    spread = np.asarray(record.spread().xs("training", axis=1, level=1)).mean(axis=1)
    figure.suptitle(
        f"{plain(record.dataset.title)}: lengths spread by {spread[epochs[0]]:.2f} at first, "
        f"{spread[epochs[-1]]:.2f} at last (training, mean of levels)"
    )
    return figure


def epoch_strip(record: EpochRecord, image: int, columns: int = 6) -> Figure:
    """Show an image, and its heat map after each epoch; at most eleven of them, evenly spaced.

    Args:
        record: Of the training.
        image: Which of ``record.shown``.
        columns: Panels in a row.
    """
    sample = record.images[image]
    count = min(len(record), 11)
    epochs = np.linspace(0, len(record) - 1, count).round().astype(int)
    columns = min(columns, count + 1)
    rows = -(-(count + 1) // columns)
    figure = Figure((1.7 * columns + 0.8, 1.95 * rows + 0.7), dpi=80, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for panel in axes.flat:
        panel.axis("off")
    axes.flat[0].imshow(outline(show(sample.image), sample.mask))
    title, defect = plain(record.dataset.title), plain(sample.defect)
    axes.flat[0].set_title(defect)
    for panel, epoch in zip(axes.flat[1:], epochs, strict=False):
        panel.imshow(outline(colour(record.maps[epoch][image]), sample.mask))
        panel.set_title("untrained" if epoch == 0 else f"epoch {epoch}")
    figure.colorbar(
        SCALE, ax=list(axes.flat), label="anomaly map", ticks=[0.5, 0.75, 1], extend="min"
    )
    heading = f"{title}: how the heat map of a {defect} image emerges"
    if sample.mask.any():
        shares = record.precision(image)
        heading = (
            f"{title}: of the hottest pixels, as many as the defect has,\n"
            f"{shares[0]:.0%} lie in it before the training and {shares[-1]:.0%} after it"
        )
    figure.suptitle(heading)
    return figure


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
        figure.add_axes((0.02, 0.5, 0.8, 0.4)),
        [outline(show(sample.image), sample.mask), drawn],
        [plain(sample.defect), f"heat map{found if sample.mask.any() else ''}"],
    )
    bar = figure.add_axes((0.86, 0.51, 0.018, 0.37))
    figure.colorbar(SCALE, bar, label="anomaly map", ticks=[0.5, 0.75, 1])
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
    loss.set_title(f"loss {record.nll['training'][epoch]:.2f}")
    loss.set(xlabel="epoch", ylabel="nll (nats per dimension)")
    last = len(record) - 1
    loss.set_xticks(range(0, last + 1, max(1, last // 5)))
    sns.despine(ax=lengths)
    sns.despine(ax=loss)
    name = "untrained" if epoch == 0 else f"after epoch {epoch}"
    figure.suptitle(f"{plain(record.dataset.title)}, {name}", y=0.985)
    return figure


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
