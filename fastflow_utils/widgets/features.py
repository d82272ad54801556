"""What each layer of a backbone sees, at a place of one's choice."""

from typing import Any

import ipywidgets
import seaborn as sns
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from torch import Tensor

from fastflow_utils.backbones import Backbone
from fastflow_utils.datasets import MVTecAD
from fastflow_utils.features import cosine_similarity, pca_colours
from fastflow_utils.plots import image_grid, show, title
from fastflow_utils.widgets.explore import explore

__all__ = ["explore_features", "feature_figure"]


def feature_figure(
    image: Tensor, h: Tensor, row: float, column: float, channel: int, heading: str = ""
) -> Figure:
    """Show one level of an image's features in four ways.

    Args:
        image: (3, H, W) in [0, 1].
        h: The image's feature map of one level, (C, H_l, W_l).
        row: The chosen position, from 0 (top) to 1 (bottom).
        column: The same, from 0 (left) to 1 (right).
        channel: Which channel to show alone.
        heading: The figure's title.

    Returns:
        The image with the chosen position marked; the channel; the principal components as
        colours; the cosine similarity of every position to the chosen one.
    """
    height, width = h.shape[1:]
    i, j = round(row * (height - 1)), round(column * (width - 1))
    palette = sns.color_palette("viridis", as_cmap=True)
    one = h[channel].float()
    scaled = (one - one.min()) / (one.max() - one.min()).clamp_min(1e-12)
    similarity = cosine_similarity(h, i, j)
    pictures = [
        show(image),
        palette(scaled.numpy())[..., :3],
        show(pca_colours(h)),
        palette(similarity.clamp(0, 1).numpy())[..., :3],
    ]
    names = ["image", f"channel {channel}", "PCA colours", "cosine similarity"]
    figure = image_grid([pictures], names, [f"{h.shape[0]} x {height} x {width}"], heading)
    for axes, size in zip(figure.axes, [image.shape[1:], *3 * [(height, width)]], strict=True):
        y, x = (i + 0.5) * size[0] / height - 0.5, (j + 0.5) * size[1] / width - 0.5
        axes.add_patch(Circle((x, y), size[1] / 32, fill=False, color="red", linewidth=1.5))
    return figure


def explore_features(backbone: Backbone, dataset: MVTecAD) -> Figure | None:
    """Explore what each layer sees: choose image, level, channel and position.

    Args:
        backbone: Its levels are the choices.
        dataset: Its images are the choices.
    """

    @torch.no_grad()
    def render(image: int, level: int, channel: int, row: float, column: float) -> Figure:
        sample = dataset[image]
        h = backbone(sample.image[None])[level][0]
        heading = f"{title(dataset)}, {sample.defect}, stride {backbone.strides[level]}"
        return feature_figure(sample.image, h, row, column, channel % len(h), heading)

    def slider(value: float, high: float, step: float) -> dict[str, Any]:
        # Drawing takes a backbone pass: wait until the slider is let go.
        return {"value": value, "min": 0, "max": high, "step": step, "continuous_update": False}

    return explore(
        render,
        image=ipywidgets.IntSlider(**slider(0, len(dataset) - 1, 1)),
        level=ipywidgets.IntSlider(
            **slider(len(backbone.channels) - 1, len(backbone.channels) - 1, 1)
        ),
        channel=ipywidgets.IntSlider(**slider(0, max(backbone.channels) - 1, 1)),
        row=ipywidgets.FloatSlider(**slider(0.5, 1, 0.05)),
        column=ipywidgets.FloatSlider(**slider(0.5, 1, 0.05)),
    )
