"""What each layer of a backbone sees, and what a flow makes of it, at a place of one's choice."""

from collections.abc import Iterator, Mapping
from typing import cast

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Circle
from matplotlib.patheffects import withStroke
from torch import Tensor

from fastflow_utils.course.live import present
from fastflow_utils.course.live.explorer import Explored, HeatMap, explorer
from fastflow_utils.course.plots import describe, plain, show, span
from fastflow_utils.data.mvtec import MVTecAD, Sample
from fastflow_utils.detector.backbones import Backbone
from fastflow_utils.detector.features import cosine_similarity, pca_colours
from fastflow_utils.detector.flows import Flow, PositionNorm, Whitening
from fastflow_utils.detector.model import FastFlow, FlowDetector
from fastflow_utils.frontend import is_live

__all__ = ["explore_features", "explore_latents", "feature_figure", "latent_figure"]

PAGE_BYTES = 1_800_000
"""Of the features in a page: four images of two networks. With its pictures and what else moves,
a page stays under 6 MB."""

LATENT_BYTES = 2_200_000
"""Of features, whitened features and latents in a page: three images."""


def feature_figure(
    image: Tensor,
    h: Tensor,
    row: float,
    column: float,
    channel: int,
    heading: str = "",
    *,
    colours: Tensor | None = None,
) -> Figure:
    """Show one level of an image's features in four ways.

    Args:
        image: (3, H, W) in [0, 1].
        h: The image's feature map of one level, (C, H_l, W_l).
        row: The chosen position, from 0 (top) to 1 (bottom).
        column: The same, from 0 (left) to 1 (right).
        channel: Which channel to show alone.
        heading: The figure's title.
        colours: ``pca_colours(h)``, if it is there already: it takes longer than all the drawing.

    Returns:
        The image; the channel; the principal components as colours; the cosine similarity of every
        position to the chosen one. A ring marks the chosen position in each, and the title says
        how many resemble it.
    """
    height, width = h.shape[1:]
    i, j = min(int(row * height), height - 1), min(int(column * width), width - 1)
    colours = pca_colours(h) if colours is None else colours
    cosine = cosine_similarity(h, i, j)
    alike = f"{(cosine > 0.5).sum()} of {cosine.numel()} positions resemble it"

    figure = Figure((5.6, 7.3), dpi=80)
    figure.set_layout_engine("none")  # to lay it out would take as long as to draw it
    places = [(left, up) for up in (0.555, 0.095) for left in (0.03, 0.54)]
    panels = [figure.add_axes((left, up, 0.43, 0.43 * 5.6 / 7.3)) for left, up in places]
    panels[0].imshow(show(image))
    alone = panels[1].imshow(h[channel].float().numpy())
    panels[2].imshow(show(colours))
    similarity = panels[3].imshow(cosine.numpy(), vmin=0, vmax=1)
    _colour_bar(figure, alone, "feature")
    _colour_bar(figure, similarity, "cosine (dark: 0 or less)")
    panels[2].set_xlabel(f"{height} × {width} positions")
    names = [
        f"image, {image.shape[1]} × {image.shape[2]} pixels",
        f"channel {channel} of {len(h)}",
        "main components as colours",
        "similarity to the ringed place",
    ]
    sizes = [image.shape[1:], *3 * [(height, width)]]
    for axes, name, size in zip(panels, names, sizes, strict=True):
        # Outside of its position, however coarse the map: 1.25 of them, to the middle of the line.
        radius = size[1] * max(1 / 24, 1.25 / width)
        _ring(axes, (i + 0.5) * size[0] / height - 0.5, (j + 0.5) * size[1] / width - 0.5, radius)
        axes.set(xticks=[], yticks=[])
        axes.set_title(name, fontsize=11)
        axes.spines[:].set_visible(False)
    figure.suptitle(f"{heading}\n{alike} (cosine > 0.5)".lstrip(), y=0.98)
    return describe(
        figure,
        f"The image with a ring; channel {channel}, {span(h[channel].flatten())}, a heat map of "
        f"{height} by {width} squares; main components as colours; and the cosine to the ringed "
        "place as a heat map.",
    )


def _ring(axes: Axes, y: float, x: float, radius: float) -> None:
    """Draw a ring that shows on any colour."""
    ring = Circle((x, y), radius, fill=False, color="white", linewidth=2)
    ring.set_path_effects([withStroke(linewidth=5, foreground="black")])
    axes.add_patch(ring)


def _colour_bar(figure: Figure, picture: AxesImage, label: str) -> None:
    """Put a colour bar beneath a picture."""
    place = picture.axes.get_position()
    bar = figure.add_axes((place.x0 + 0.02, place.y0 - 0.027, place.width - 0.04, 0.016))
    figure.colorbar(picture, cax=bar, orientation="horizontal", label=label)


def explore_features(
    backbones: Backbone | Mapping[str, Backbone], dataset: MVTecAD
) -> Figure | None:
    """Explore what each layer sees: touch a position, and see all levels at once.

    A similarity, a channel and the PCA colours are computed where they are shown, in the page or
    in JupyterLab, from 8-bit features (:func:`~fastflow_utils.course.live.explorer.pack_level`
    states the error). The images to choose from are the first two of each folder, in a page as
    many of them as :data:`PAGE_BYTES` allow, the first of each folder first.

    Args:
        backbones: One, or several to choose from by their names.
        dataset: The split whose images are the choices.

    Returns:
        The figure of the first anomalous image, with the ring on its defect; None with a live
        frontend, which shows the explorer in its place.

    Raises:
        FastFlowError: If a backbone turns images first.
    """
    if isinstance(backbones, Backbone):
        backbones = {backbones.name: backbones}
    for backbone in backbones.values():
        backbone.require_as_given()
    order = _in_turn(dataset)
    backbone, sample = next(iter(backbones.values())), dataset[order[0]]
    row, column = _middle(sample.mask)
    stride = f"stride {backbone.strides[-1]:.3g}"
    figure = feature_figure(
        sample.image,
        _features(backbone, sample.image)[-1],
        row,
        column,
        channel=0,
        heading=f"{plain(dataset.title)}, {plain(_name(dataset, order[0]))}, {stride}",
    )

    def images() -> Iterator[Explored]:
        for index in order:
            sample = dataset[index]
            views = [_features(one, sample.image) for one in backbones.values()]
            yield Explored(_name(dataset, index), sample, views, _middle(sample.mask))

    budget = None if is_live() else PAGE_BYTES
    views = {"network": list(backbones)}
    return present(figure, lambda: explorer(dataset.title, views, images(), len(order), budget))


def _features(backbone: Backbone, image: Tensor) -> list[Tensor]:
    """Return an image's levels (C_l, H_l, W_l), wherever the backbone computes."""
    return [h[0].cpu() for h in backbone(image[None].to(backbone.device))]


def explore_latents(model: FastFlow, dataset: MVTecAD, first: int | None = None) -> Figure | None:
    """Explore where an image becomes improbable: from features to latents, level by level.

    As :func:`explore_features`, for the model's backbone, with a choice of three spaces: the
    features h, what the flows' first layers (positions, whitening) make of them, and the latents
    z. Beside them stand each level's negative log-likelihood and its map in [0, 1], of which the
    anomaly map is the smoothed mean. All numbers are the model's own, the maps those of its
    inference form.

    Args:
        model: Trained and calibrated.
        dataset: The test split whose images are the choices: the first two of each folder, in a
            page as many as :data:`LATENT_BYTES` allow.
        first: The image to begin with. Default: the first anomalous one.

    Returns:
        :func:`latent_figure` of the first image, with the ring on its defect; None with a live
        frontend.

    Raises:
        FastFlowError: If the backbone turns images first, or the model reads windows of them.
    """
    model.backbone.require_as_given()
    model.require_whole()
    flows, detector = model.eval().flows, model.for_inference()
    order = list(dict.fromkeys([*([] if first is None else [first]), *_in_turn(dataset)]))

    @torch.no_grad()
    def explored(index: int) -> Explored:
        sample = dataset[index]
        features = model.backbone(sample.image[None].to(model.device))
        whitened, latents = [], []
        for flow, h in zip(flows, features, strict=True):
            first = h
            for layer in cast(Flow, flow).layers:
                if isinstance(layer, PositionNorm | Whitening):
                    first, _ = layer.local(first)
            whitened.append(first)
            latents.append(cast(Flow, flow).local(h)[0])
        maps = [detector.nll_maps(features), detector.level_maps(features)]
        spaces, kinds = (
            [[level[0].cpu() for level in levels] for levels in some]
            for some in ([features, whitened, latents], maps)
        )
        return Explored(_name(dataset, index), sample, spaces, _middle(sample.mask), kinds)

    budget = None if is_live() else LATENT_BYTES
    views = {"space": ["features h", "whitened features", "latents z"]}
    kinds = [
        HeatMap("nll (nats/dim.)", "at A: nll"),
        HeatMap("level map", "level map", (0.5, 1), "inferno"),
    ]
    sample = dataset[order[0]]
    heading = f"{dataset.title}, {_name(dataset, order[0])}"
    return present(
        latent_figure(detector, sample, *_middle(sample.mask), heading),
        lambda: explorer(
            dataset.title, views, map(explored, order), len(order), budget, maps=kinds
        ),
    )


@torch.no_grad()
def latent_figure(
    detector: FlowDetector, sample: Sample, row: float, column: float, heading: str = ""
) -> Figure:
    """Show where an image is improbable, level by level, and what each level adds to its map.

    Args:
        detector: Trained and calibrated.
        sample: An image with its mask.
        row: The chosen position, from 0 (top) to 1 (bottom).
        column: The same, from 0 (left) to 1 (right).
        heading: The figure's title.

    Returns:
        Above, the image and each level's negative log-likelihood, with colours of its own range;
        beneath, the anomaly map and the levels' maps that it is the smoothed mean of. A ring marks
        the chosen position; the panels' titles say what the levels have there.
    """
    size = sample.image.shape[1:]
    features = detector.backbone(sample.image[None].to(detector.device))
    nll, maps = detector.nll_maps(features), detector.level_maps(features)
    here = [[_at(one[0, 0], row, column) for one in levels] for levels in (nll, maps)]
    total = max(sum(here[1]), 1e-12)
    strides = [f"stride {stride:.3g}" for stride in detector.backbone.strides]
    upper = [f"{name}: {n:.2f}" for name, n in zip(strides, here[0], strict=True)]
    lower = [
        f"{name}: {a:.2f}, {a / total:.0%} of the map"
        for name, a in zip(strides, here[1], strict=True)
    ]
    anomaly_map = detector.anomaly_map(features)
    whole = f"anomaly map: {_at(anomaly_map[0, 0], row, column):.2f}"

    figure = Figure((2.9 * (1 + len(nll)), 6.9), dpi=80, layout="constrained")
    panels = figure.subplots(2, 1 + len(nll))
    extent = (-0.5, size[1] - 0.5, size[0] - 0.5, -0.5)
    radius = max(detector.backbone.strides[-1], size[1] / 24)
    panels[0, 0].imshow(show(sample.image))
    for axes, level in zip(panels[0, 1:], nll, strict=True):
        drawn = axes.imshow(level[0, 0].cpu().numpy(), extent=extent)
        figure.colorbar(drawn, ax=axes, orientation="horizontal", label="nll, nats per dimension")
    for axes, level in zip(panels[1], [anomaly_map, *maps], strict=True):
        drawn = axes.imshow(level[0, 0].cpu().numpy(), "inferno", vmin=0.5, vmax=1, extent=extent)
        label = "map (black: 0.5 or less)"
        figure.colorbar(drawn, ax=axes, orientation="horizontal", label=label, extend="min")
    for axes, name in zip(panels.flat, ["image", *upper, whole, *lower], strict=True):
        if sample.mask.any():
            edge = axes.contour(
                sample.mask[0].numpy(), [0.5], colors=[(0.2, 1, 0.4)], linewidths=1.5
            )
            edge.set_path_effects([withStroke(linewidth=3, foreground="black")])
        _ring(axes, row * (size[0] - 1), column * (size[1] - 1), radius)
        axes.set(xticks=[], yticks=[])
        axes.set_title(name, fontsize=11)
        axes.spines[:].set_visible(False)
    figure.suptitle(plain(heading))
    return describe(
        figure,
        "Above, the image and each level's nll; beneath, the anomaly map and each level's map. At "
        f"the ring the levels have nll {', '.join(f'{n:.2f}' for n in here[0])} nats per "
        f"dimension and maps of {', '.join(f'{a:.2f}' for a in here[1])}.",
    )


def _at(values: Tensor, row: float, column: float) -> float:
    """Return a map's value (H, W) at a place that is given from 0 to 1."""
    height, width = values.shape
    return values[int(row * (height - 1e-6)), int(column * (width - 1e-6))].item()


def _in_turn(dataset: MVTecAD) -> list[int]:
    """Return the first two images of each folder: the first ones first, and a defect before all.

    A good image comes second, to compare with.
    """
    folders = [
        [i for i, name in enumerate(dataset.defects) if name == defect][:2]
        for defect in dict.fromkeys(dataset.defects)
    ]
    folders.sort(key=lambda folder: dataset.labels[folder[0]] == 0)  # defects first
    if len(folders) > 1:
        folders.insert(1, folders.pop())
    return [folder[turn] for turn in range(2) for folder in folders if turn < len(folder)]


def _name(dataset: MVTecAD, index: int) -> str:
    return f"{dataset.defects[index]} {dataset.paths[index].stem}"


def _middle(mask: Tensor) -> tuple[float, float]:
    """Return the row and column, from 0 to 1, of the innermost place of a mask (1, H, W)."""
    inside = mask[0].nonzero().float()
    if not len(inside):
        return 0.5, 0.5
    nearest = (inside - inside.mean(0)).norm(dim=1).argmin()
    row, column = (inside[nearest] + 0.5) / torch.tensor(mask.shape[1:])
    return round(row.item(), 3), round(column.item(), 3)
