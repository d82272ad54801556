"""Figures with controls, each with a static twin that needs none."""

from collections.abc import Callable
from typing import Any

import ipywidgets
import seaborn as sns
import torch
from IPython.display import display
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from torch import Tensor

from fastflow_utils.backbones import Backbone
from fastflow_utils.datasets import MVTecAD
from fastflow_utils.features import cosine_similarity, pca_colours
from fastflow_utils.frontend import is_live
from fastflow_utils.plots import image_grid, show, title

__all__ = ["explore", "explore_features", "feature_figure"]


def explore(render: Callable[..., Figure], **controls: ipywidgets.ValueWidget) -> Figure | None:
    """Draw ``render`` at the controls' first values and, where somebody can move them, add them.

    Without a live frontend (nbconvert, papermill, a script) no widget reaches the page: the figure
    at the first values is all there is, so an executed notebook reads well everywhere. An error in
    ``render`` is raised either way, before any control is shown.

    Args:
        render: Takes the controls' values by name, returns a figure.
        **controls: One widget for each argument, such as ``ipywidgets.IntSlider(3, 0, 9)``.

    Returns:
        The figure; None with a live frontend, which shows it beneath the controls.

    Example:
        >>> figure = explore(lambda width: Figure((width, 2)), width=ipywidgets.IntSlider(3, 1, 9))
        >>> float(figure.get_figwidth())
        3.0
    """
    figure = render(**{name: control.value for name, control in controls.items()})
    if not is_live():
        return figure
    output = ipywidgets.interactive_output(lambda **values: display(render(**values)), controls)
    for name, control in controls.items():
        control.description = control.description or name.replace("_", " ")
    display(ipywidgets.VBox([*controls.values(), output]))
    return None


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
