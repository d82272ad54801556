"""What each level adds to the heat map: mix them by hand."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from fastflow_utils.course.live import present
from fastflow_utils.course.live.thumbnails import (
    COLOURS,
    as_many,
    pack_maps,
    pack_masks,
    reduced_size,
    thumbnail,
)
from fastflow_utils.course.plots import (
    ANOMALOUS_COLOUR,
    GOOD_COLOUR,
    colour,
    describe,
    montage,
    outline,
    plain,
    show,
)
from fastflow_utils.course.widgets.epochs import SCALE
from fastflow_utils.data.mvtec import MVTecAD
from fastflow_utils.detector.detector import Detector
from fastflow_utils.detector.features import Features
from fastflow_utils.detector.maps import combine, image_score
from fastflow_utils.detector.metrics import auroc
from fastflow_utils.frontend import is_live

__all__ = ["LevelMixer", "explore_mixture", "mixture_data", "mixture_figure"]

STRIDE = 4
"""Scores are of every fourth row and column of a map."""
BUDGET = 1_200_000
"""Bytes of a page for this figure."""
SIDE = 192
"""Pixels of a picture's longer side."""


class LevelMixer:
    """The level maps of a test split, ready to be mixed in other proportions than equal ones.

    The levels are brought to the size of the image and smoothed beforehand, which commutes with
    averaging. Scores take every fourth row and column of a map, a sixteenth of its pixels: it is
    smooth enough to lose next to nothing, and all images are scored in milliseconds.

    Args:
        model: Trained.
        features: Of ``dataset``.
        dataset: The test split.
        batch_size: Images at a time.

    Attributes:
        level_maps: For each level, the maps (N, 1, H_l, W_l) of all images.
        sparse: Every fourth row and column of the levels at image size, smoothed,
            (L, N, 1, H / 4, W / 4).
        labels: (N,), 0 good, 1 anomalous.
    """

    @torch.no_grad()
    def __init__(
        self, model: Detector, features: Features, dataset: MVTecAD, batch_size: int = 8
    ) -> None:
        model.backbone.require_as_given()
        detector = model.for_inference()
        self.model, self.dataset = detector, dataset
        self.labels = torch.tensor(dataset.labels)
        maps = [
            [level.cpu() for level in detector.level_maps([h.to(detector.device) for h in batch])]
            for batch in features.batches(batch_size)
        ]
        self.level_maps = [torch.cat(level) for level in zip(*maps, strict=True)]
        parts = [
            self.at_image_size(range(start, min(start + batch_size, len(dataset))))
            for start in range(0, len(dataset), batch_size)
        ]
        self.sparse = torch.cat([part[..., ::STRIDE, ::STRIDE] for part in parts], dim=1)

    @property
    def names(self) -> list[str]:
        """The levels by their strides."""
        return [f"stride {stride:.3g}" for stride in self.model.backbone.strides]

    def at_image_size(self, images: Sequence[int]) -> Tensor:
        """Return the levels' maps of some images as they enter the average, (L, B, 1, H, W)."""
        size, index = self.model.backbone.image_size, torch.tensor(images)
        return torch.stack(
            [combine([level[index]], size, self.model.smoothing) for level in self.level_maps]
        )

    def scores(self, weights: Sequence[float]) -> Tensor:
        """Return the mean of each mixture's highest values (N,), one of the score's two parts."""
        return image_score(mix(self.sparse, weights), self.model.top)

    def auroc(self, weights: Sequence[float]) -> float:
        """Return the image AUROC of these scores over the test split."""
        return auroc(self.scores(weights), self.labels)


def mix(levels: Tensor, weights: Sequence[float]) -> Tensor:
    """Return the weighted mean of the levels (L, ...); zeros where every weight is 0."""
    share = levels.new_tensor(weights)
    share = share / share.sum().clamp_min(1e-12)
    return torch.einsum("l,l...->...", share, levels)


def mixture_figure(mixer: LevelMixer, image: int, weights: Sequence[float]) -> Figure:
    """Show an image, its level maps, their mixture, and the scores of all mixtures.

    Args:
        mixer: Of a test split.
        image: Which one.
        weights: One for each level, not negative; only their proportions count.
    """
    sample, levels = mixer.dataset[image], mixer.at_image_size([image])[:, 0]
    maps = [*levels, mix(levels, weights)]
    shares = np.asarray(weights) / max(sum(weights), 1e-12)
    names = [f"{n}: {s:.0%}" for n, s in zip(mixer.names, shares, strict=True)]
    figure = Figure((7.2, 7.0), dpi=80)
    figure.set_layout_engine("none")  # an engine would take most of the time
    pictures = [
        outline(picture, sample.mask) for picture in [show(sample.image), *map(colour, maps)]
    ]
    upper = figure.add_axes((0.01, 0.61, 0.84, 0.3))
    montage(upper, [pictures[0], pictures[-1]], [plain(sample.defect), "mixture"])
    montage(figure.add_axes((0.01, 0.27, 0.84, 0.28)), pictures[1:-1], names)
    bar = figure.add_axes((0.88, 0.32, 0.02, 0.5))
    figure.colorbar(SCALE, bar, ticks=[0.5, 0.75, 1], label="map", extend="min")
    scores, top = (
        mixer.scores(weights),
        f"mean of the top {100 * mixer.model.top:.3g} % of the map",
    )
    rows = figure.add_axes((0.16, 0.085, 0.74, 0.13))
    for label, (name, hue, marker) in enumerate(
        [("good", GOOD_COLOUR, "o"), ("anomalous", ANOMALOUS_COLOUR, "x")]
    ):
        of = scores[mixer.labels == label]
        rows.plot(of, torch.full_like(of, label), marker, color=hue, alpha=0.7, label=name)
    rows.axvline(float(scores[image]), color="black", linewidth=1, linestyle=":")
    rows.set(xlim=(0, 1), ylim=(-0.6, 1.6), xlabel=f"{top} (dotted: this image)")
    rows.set_yticks([0, 1], ["good", "anomalous"])
    figure.suptitle(
        f"{plain(mixer.dataset.title)}: image AUROC {auroc(scores, mixer.labels):.3f} for this "
        "mixture",
        y=0.98,
    )
    weighed = ", ".join(names)
    return describe(
        figure,
        f"Image {image}, {sample.defect}, beside the mixture of its level maps ({weighed}), with "
        f"its mask's outline. Beneath, the scores of all images: this one has "
        f"{scores[image]:.2f}.",
    )


def mixture_data(mixer: LevelMixer, image: int = 0, budget: float = BUDGET) -> dict[str, Any]:
    """Return what a page needs to mix the levels of all images: kind ``mixer``.

    The levels' sparse maps travel with 8 bits, so a number of a mixture, and a score, is off by at
    most half a step, 1/510, whatever the weights are; the page scores as
    :meth:`LevelMixer.scores` does.

    Args:
        mixer: Of a test split.
        image: Which one comes first.
        budget: Bytes. The maps of all images travel, as their scores need them; pictures as many
            as fit, and a note says how many.
    """
    data, (height, width) = mixer.dataset, mixer.sparse.shape[-2:]
    order = [image, *(i for i in range(len(data)) if i != image)]
    steps = torch.arange(256)[None, None] / 255  # a map with each step once
    inferno = (255 * torch.from_numpy(colour(steps)[0])).round().int().tolist()
    levels = [pack_maps(level, max(height, width)) for level in mixer.sparse]

    def first(count: int) -> dict[str, Any]:
        some = sorted(order[:count])
        samples = [data[i] for i in some]
        left_out = f" Pictures of {count} of the {len(data)} images." if count < len(data) else ""
        return {
            "kind": "mixer",
            "labels": mixer.labels.tolist(),
            "top": max(1, int(mixer.model.top * height * width)),
            "levels": mixer.names,
            "maps": levels,
            "columns": width,
            "inferno": [[*rgb, 255] for rgb in inferno],
            "order": some,
            "names": [f"{data.defects[i]}, no. {i}" for i in some],
            "start": some.index(image),
            "size": reduced_size(samples[0].image.shape[-2:], SIDE),
            "pictures": [thumbnail(sample.image, SIDE) for sample in samples],
            "masks": pack_masks((sample.mask for sample in samples), SIDE),
            "axis": f"mean of the top {100 * mixer.model.top:.3g} % of the map",
            "note": f"{data.title}, test split. What is best here was chosen with the test "
            f"labels, which nobody has in use.{left_out}",
        } | COLOURS

    return as_many(first, len(data), budget)


def explore_mixture(mixer: LevelMixer, image: int = 0) -> Figure | None:
    """Weigh the levels by hand: one slider each. The static figure shows equal weights.

    The page weighs, scores and draws, with a kernel or without, from the levels' sparse maps.

    Args:
        mixer: Of a test split.
        image: Which one comes first.

    Returns:
        :func:`mixture_figure` of equal weights; None with a live frontend.
    """
    figure = mixture_figure(mixer, image, [1.0] * len(mixer.names))
    budget = math.inf if is_live() else BUDGET
    return present(figure, lambda: mixture_data(mixer, image, budget))
