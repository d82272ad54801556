"""What each layer of a backbone sees, at a place of one's choice."""

import ipywidgets
import torch
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Circle
from matplotlib.patheffects import withStroke
from torch import Tensor

from fastflow_utils.course.plots import plain, show
from fastflow_utils.course.widgets.explore import explore
from fastflow_utils.data.mvtec import MVTecAD
from fastflow_utils.detector.backbones import Backbone
from fastflow_utils.detector.features import cosine_similarity, pca_colours

__all__ = ["explore_features", "feature_figure"]


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
    i, j = round(row * (height - 1)), round(column * (width - 1))
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
        y, x = (i + 0.5) * size[0] / height - 0.5, (j + 0.5) * size[1] / width - 0.5
        rim = withStroke(linewidth=5, foreground="black")
        # Outside of its position, however coarse the map: 1.25 of them, to the middle of the line.
        radius = size[1] * max(1 / 24, 1.25 / width)
        ring = Circle((x, y), radius, fill=False, color="white", linewidth=2)
        ring.set_path_effects([rim])
        axes.add_patch(ring)
        axes.set(xticks=[], yticks=[])
        axes.set_title(name, fontsize=11)
        axes.spines[:].set_visible(False)
    figure.suptitle(f"{heading}\n{alike} (cosine > 0.5)".lstrip(), y=0.98)
    return figure


def _colour_bar(figure: Figure, picture: AxesImage, label: str) -> None:
    """Put a colour bar beneath a picture."""
    place = picture.axes.get_position()
    bar = figure.add_axes((place.x0 + 0.02, place.y0 - 0.027, place.width - 0.04, 0.016))
    figure.colorbar(picture, cax=bar, orientation="horizontal", label=label)


def explore_features(backbone: Backbone, dataset: MVTecAD) -> Figure | None:
    """Explore what each layer sees: choose image, level, channel and position.

    The images to choose from are the first two of each folder, and before anything is shown each
    has passed through the backbone and each of its maps got its PCA colours. What is left for a
    slider to do is one cosine similarity and the drawing.

    Args:
        backbone: Its levels are the choices.
        dataset: The split whose images are the choices.

    Returns:
        The figure of the first anomalous image, with the ring on its defect; None with a live
        frontend (see :func:`explore`).
    """
    backbone.require_as_given()
    samples = {}
    for defect in dict.fromkeys(dataset.defects):
        for index in [i for i, name in enumerate(dataset.defects) if name == defect][:2]:
            samples[f"{defect} {dataset.paths[index].stem}"] = dataset[index]
    maps = {name: [h[0] for h in backbone(s.image[None])] for name, s in samples.items()}
    colours = {name: [pca_colours(h) for h in levels] for name, levels in maps.items()}

    def render(image: str, level: int, channel: int, row: float, column: float) -> Figure:
        heading = f"{plain(dataset.title)}, {plain(image)}, stride {backbone.strides[level]:.3g}"
        picture, h, seen = samples[image].image, maps[image][level], colours[image][level]
        return feature_figure(picture, h, row, column, channel, heading, colours=seen)

    first = next((name for name, sample in samples.items() if sample.label), next(iter(samples)))
    row, column = _middle(samples[first].mask)
    last = len(backbone.channels) - 1
    names = [
        (f"stride {stride:.3g}, {h.shape[1]} × {h.shape[2]}", number)
        for number, (stride, h) in enumerate(zip(backbone.strides, maps[first], strict=True))
    ]
    level = ipywidgets.SelectionSlider(options=names, value=last)
    channel = ipywidgets.IntSlider(0, 0, backbone.channels[last] - 1)

    def fit_channels(change: dict[str, int]) -> None:
        channel.max = backbone.channels[change["new"]] - 1  # a channel above comes down to it

    level.observe(fit_channels, "value")
    return explore(
        render,
        image=ipywidgets.SelectionSlider(options=list(samples), value=first),
        level=level,
        channel=channel,
        row=ipywidgets.FloatSlider(row, min=0, max=1, step=0.02),
        column=ipywidgets.FloatSlider(column, min=0, max=1, step=0.02),
    )


def _middle(mask: Tensor) -> tuple[float, float]:
    """Return the row and column, from 0 to 1, of the innermost place of a mask (1, H, W)."""
    inside = mask[0].nonzero().float()
    if not len(inside):
        return 0.5, 0.5
    nearest = (inside - inside.mean(0)).norm(dim=1).argmin()
    row, column = inside[nearest] / (torch.tensor(mask.shape[1:]) - 1)
    return round(row.item(), 2), round(column.item(), 2)
