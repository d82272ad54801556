"""What a detector says as a picture changes, little by little, from what it has learnt."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import ipywidgets
import torch
from kornia.geometry import hflip
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from torch import Tensor

from fastflow_utils.course.plots import GOOD_COLOUR, colour, describe, outline, plain, show, span
from fastflow_utils.course.widgets.explore import explore
from fastflow_utils.data.sample_set import restage
from fastflow_utils.detector.detector import Detector
from fastflow_utils.detector.maps import blur

__all__ = [
    "CHANGES",
    "Change",
    "Changed",
    "change_figure",
    "explore_changes",
    "posed",
    "try_changes",
]


@dataclass(frozen=True)
class Change:
    """One way in which pictures change.

    Attributes:
        apply: From images (B, 3, H, W) in [0, 1] and an amount to changed images.
        amounts: What to try; the first leaves an image as it is.
        unit: Of an amount, for people.
    """

    apply: Callable[[Tensor, float], Tensor]
    amounts: tuple[float, ...]
    unit: str

    def text(self, amount: float) -> str:
        """Return an amount with its unit: "1 pixel", "2 pixels"."""
        unit = self.unit
        if amount == 1:
            unit = unit.replace("pixels", "pixel").replace("times", "time")
        return f"{amount:g} {unit}"


class Changed(NamedTuple):
    """An image in every amount of one change, and what a detector says to it."""

    change: Change
    images: Tensor
    """(A, 3, H, W)."""
    maps: Tensor
    """(A, 1, H, W)."""
    scores: Tensor
    """(A,)."""

    def first_alarm(self, threshold: float) -> str:
        """Return the smallest amount from which on all are called anomalous, or "none"."""
        quiet = (self.scores < threshold).nonzero()[:, 0].tolist()
        later = self.change.amounts[max(quiet, default=-1) + 1 :]
        return self.change.text(later[0]) if later else "none"


def _darker(image: Tensor, percent: float) -> Tensor:
    gain: float = (1 - percent / 100) ** (1 / 2.2)  # grey levels are the root of the light
    return image * gain


def _warmer(image: Tensor, percent: float) -> Tensor:
    light = torch.tensor([1 + percent / 100, 1, 1 - percent / 100])[:, None, None]
    return (image * light ** (1 / 2.2)).clamp(0, 1)


def _spotted(image: Tensor, pixels: float) -> Tensor:
    """A round spot below the middle, black where the image is bright there, else white."""
    height, width = image.shape[-2:]
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    row, column = round(0.78 * height), width // 2
    away = ((y - row) ** 2 + (x - column) ** 2).sqrt()
    inside = (pixels / 2 + 0.5 - away).clamp(0, 1) * (pixels > 0)
    here = image[..., row - 2 : row + 3, column - 2 : column + 3].mean((1, 2, 3), keepdim=True)
    return image + inside * ((here < 0.5).float() - image)


def _mirrored(image: Tensor, times: float) -> Tensor:
    return hflip(image) if times else image


TURNS, SHIFTS = (0, 4, 8, 12, 16), (0, 4, 8, 12, 16)
CHANGES: dict[str, Change] = {
    "less light": Change(_darker, (0, 5, 10, 20, 30, 40, 50, 70), "% less"),
    "warmer light": Change(_warmer, (0, 2, 4, 7, 10, 15, 20, 30), "% more red, less blue"),
    "out of focus": Change(blur, (0, 0.3, 0.5, 0.7, 1, 1.5, 2, 3), "pixels (sigma)"),
    "a small spot": Change(_spotted, (0, 1, 2, 4, 8, 12, 16, 24), "pixels across"),
    "mirrored": Change(_mirrored, (0, 1), "times"),
}
"""Changes that can happen to any photograph, made in its pixels: the last two are defects, the
others are not. A mirrored part consists of good parts only, in another arrangement.

None turns or shifts the picture: what comes into view at its border would have to be made up, and
a detector finds that. :func:`posed` draws the scene anew instead."""


def posed(category: str, seed: int, *, size: int = 256) -> dict[str, Change]:
    """Return changes that turn and shift the part of one scene of the sample set.

    Floor, lamps and camera stay, and every picture is drawn anew: no border has to be filled in.

    Args:
        category: Whose part can be moved: "cable".
        seed: Of the scene. Whatever image they are applied to, what comes out is this scene.
        size: Height and width, pixels; the unit of a shift.

    Example:
        >>> turned = posed("cable", 7, size=64)["turned"]
        >>> turned.apply(torch.zeros(1, 3, 64, 64), 4).shape
        torch.Size([1, 3, 64, 64])
    """

    def drawn(turned: float = 0, right: float = 0) -> Tensor:
        moved = (right / size, 0.0)
        pixels = restage(category, size=size, seed=seed, turned=turned, moved=moved)
        return torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255

    return {
        "turned": Change(lambda _, amount: drawn(turned=amount), TURNS, "degrees"),
        "shifted": Change(lambda _, amount: drawn(right=amount), SHIFTS, "pixels"),
    }


@torch.no_grad()
def try_changes(
    model: Detector, image: Tensor, changes: Mapping[str, Change] = CHANGES
) -> dict[str, Changed]:
    """Return what a detector says to an image in every amount of every change.

    Args:
        model: Trained.
        image: (3, H, W) in [0, 1], at the size of the model's backbone.
        changes: By name.

    Example:
        >>> from fastflow_utils import Backbone, FastFlow
        >>> from fastflow_utils.detector.flows import FlowOptions
        >>> backbone = Backbone("efficientnet_lite0", image_size=64)
        >>> model = FastFlow(backbone, FlowOptions(steps=1))
        >>> tried = try_changes(model, torch.rand(3, 64, 64))
        >>> tried["out of focus"].scores.shape
        torch.Size([8])
    """
    detector, tried = model.for_inference(), {}
    for name, change in changes.items():
        images = torch.cat([change.apply(image[None], amount) for amount in change.amounts])
        maps, scores = detector.predict(images)
        tried[name] = Changed(change, images, maps.cpu(), scores.cpu())
    return tried


def change_figure(tried: Changed, step: int, threshold: float, heading: str = "") -> Figure:
    """Show the changed image, its heat map, and the score at every amount.

    The hottest 1 % of the heat map is outlined: most of the score comes from there.

    Args:
        tried: Of one change.
        step: Which amount is marked and shown; beyond the last one, that.
        threshold: Of the score; a dashed line.
        heading: In front of the title.
    """
    change, images, maps, scores = tried
    step = min(step, len(change.amounts) - 1)
    figure = Figure(figsize=(8.5, 3.1), dpi=80)
    figure.set_layout_engine("none")  # the axes have fixed places
    hottest = maps[step] >= maps[step].quantile(0.99)
    for left, picture, name in [
        (0.01, show(images[step]), change.text(change.amounts[step])),
        (0.27, outline(colour(maps[step]), hottest), "heat map"),
    ]:
        axes = figure.add_axes((left, 0.04, 0.25, 0.7))
        axes.imshow(picture)
        axes.set_axis_off()
        axes.set_title(name, fontsize=11)
    bar = ScalarMappable(Normalize(0.5, 1), "inferno")
    figure.colorbar(bar, figure.add_axes((0.53, 0.04, 0.012, 0.7)))
    axes = figure.add_axes((0.69, 0.2, 0.3, 0.54))
    axes.plot(change.amounts, scores, "o-", color="black")
    axes.plot(change.amounts[step], scores[step], "o", markersize=12, mfc="none", color="black")
    axes.axhline(threshold, linestyle="--", color="black", linewidth=1)
    axes.text(0, threshold, "threshold", va="bottom")
    axes.plot(0, scores[0], "s", color=GOOD_COLOUR, label="as it was")
    axes.set(xlabel=change.unit, ylabel="image score")
    axes.legend()
    said = "anomalous" if scores[step] >= threshold else "good"
    figure.suptitle(f"{plain(heading)}score {scores[step]:.2f}: '{said}'", y=0.97)
    return describe(
        figure,
        f"The picture at {change.text(change.amounts[step])}, its heat map with the hottest 1 % "
        f"outlined, and a line of the score at every amount, {span(scores)}; the threshold is "
        f"{threshold:.2f}.",
    )


def explore_changes(
    tried: Mapping[str, Changed], threshold: float, heading: str = "", step: int = 5
) -> Figure | None:
    """Choose a change and its amount, and follow the score.

    Everything is computed before, by :func:`try_changes`; a move of the slider only draws.

    Args:
        tried: By the names of the changes.
        threshold: Of the score.
        heading: In front of each title.
        step: Where the slider starts.
    """

    def render(change: str, step: int) -> Figure:
        return change_figure(tried[change], step, threshold, f"{heading}{change}, ")

    last = max(len(one.change.amounts) for one in tried.values()) - 1
    return explore(
        render,
        change=ipywidgets.SelectionSlider(options=list(tried)),
        step=ipywidgets.IntSlider(min(step, last), 0, last),
    )
