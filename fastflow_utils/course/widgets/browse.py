"""Every test image under a data root, with its mask's outline."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ipywidgets
from matplotlib.figure import Figure

from fastflow_utils.course.live import attach
from fastflow_utils.course.live.thumbnails import (
    COLOURS,
    as_many,
    pack_masks,
    reduced_size,
    thumbnail,
)
from fastflow_utils.course.plots import describe, outline, plain, show
from fastflow_utils.course.widgets.explore import explore
from fastflow_utils.data.layout import categories
from fastflow_utils.data.mvtec import MVTecAD, Sample

__all__ = ["browse", "browse_data"]

BUDGET = 1_000_000
"""Bytes of a page for this figure."""
SIDE = 256
"""Pixels of a picture's longer side in a page, at most."""


def browse(root: Path | str, category: str | None = None, image_size: int = 256) -> Figure | None:
    """Look at the test images: choose a category, one of its defects, and an image.

    The picture stands beside itself with its mask's outline. Only the lists of files are made
    beforehand: an image is decoded when it is chosen. In a page without a kernel there are one or
    two of each defect.

    Args:
        root: The folder that holds the categories.
        category: The first one shown. Default: the first in order.
        image_size: Images and masks are resized to this many pixels, in height and width.

    Returns:
        The figure of the category's first defect; None with a live frontend.

    Raises:
        FastFlowError: As :class:`~fastflow_utils.data.mvtec.MVTecAD` raises it, for any category.
    """
    names = categories(root)
    chosen = category or next(iter(names), "")
    splits = {name: MVTecAD(root, name, "test", image_size) for name in (chosen, *names)}
    kinds = {name: _defects_first(split) for name, split in splits.items()}
    controls = {
        "category": ipywidgets.SelectionSlider(options=names, value=chosen),
        "defect": ipywidgets.SelectionSlider(options=kinds[chosen]),
        "image": ipywidgets.IntSlider(0, 0, 0),
    }

    def follow(_: Any = None) -> None:
        """Offer what there is: the category's defects, and as many images as the defect has."""
        category, defect, image = controls.values()
        if defect.options != kinds[category.value]:
            kept = defect.value
            defect.options = kinds[category.value]  # which chooses the first
            if kept in defect.options:
                defect.value = kept
        image.max = splits[category.value].counts()[defect.value] - 1

    def render(category: str, defect: str, image: int) -> Figure:
        split = splits[category]
        here = [i for i, kind in enumerate(split.defects) if kind == defect]
        # Until the slider has followed, its number may be that of a folder with more images.
        index = here[min(image, len(here) - 1)]
        return _beside(split[index], f"{split.title}, {defect} {split.paths[index].stem}")

    follow()
    for name in ("category", "defect"):
        controls[name].observe(follow, "value")  # before `explore` does, to be called first
    figure = explore(render, **controls)
    ordered = {name: splits[name] for name in names}
    return figure and attach(figure, lambda: browse_data(ordered, chosen))


def browse_data(
    splits: Mapping[str, MVTecAD], category: str, budget: int = BUDGET
) -> dict[str, Any]:
    """Return what a page needs to browse without a kernel: kind ``browse``.

    Args:
        splits: Of each category, its test split.
        category: The one shown first.
        budget: Bytes; they decide how many images of each defect travel.
    """

    def each(count: int) -> dict[str, Any]:
        groups: dict[str, list[int]] = {}
        names: list[str] = []
        samples: list[Sample] = []
        for category_name, split in splits.items():
            groups[category_name] = []
            for defect in _defects_first(split):
                here = [i for i, kind in enumerate(split.defects) if kind == defect]
                for i in here[:count]:
                    groups[category_name].append(len(samples))
                    names.append(f"{defect} {split.paths[i].stem}")
                    samples.append(split[i])
        shares = [100 * sample.mask.float().mean().item() for sample in samples]
        return {
            "kind": "browse",
            "groups": groups,
            "names": names,
            "shares": [f"{share:.1f} % anomalous" for share in shares],
            "start": list(groups).index(category),
            "size": reduced_size(samples[0].image.shape[-2:], SIDE),
            "pictures": [thumbnail(sample.image, SIDE) for sample in samples],
            "masks": pack_masks((sample.mask for sample in samples), SIDE),
            "note": f"{splits[category].title}, and the other categories: up to {count} test "
            "images of each defect, at the right with the mask's outline; JupyterLab has all.",
        } | COLOURS

    return as_many(each, 2, budget)


def _defects_first(split: MVTecAD) -> tuple[str, ...]:
    return tuple(sorted(split.counts(), key=lambda kind: (kind == "good", kind)))


def _beside(sample: Sample, name: str) -> Figure:
    """Draw a sample without and with its outline; places are fixed, as a layout takes longer."""
    side, above = 3.6, 0.7  # inches
    figure = Figure((2 * side, side + above), dpi=80)
    figure.set_layout_engine("none")
    top = side / (side + above)
    picture = show(sample.image)
    pictures = {"image": picture, "with its mask's outline": outline(picture, sample.mask)}
    for column, (what, pixels) in enumerate(pictures.items()):
        place = (0.5 * column + 0.005, 0, 0.49, top)
        figure.add_axes(place, xticks=[], yticks=[], frame_on=False).imshow(pixels)
        figure.text(0.5 * column + 0.25, top + 0.01, what, ha="center")
    share = 100 * sample.mask.float().mean().item()
    figure.suptitle(f"{plain(name)}: {share:.1f} % anomalous pixels")
    words = "a line around the defect" if share else "no line, as it is good"
    return describe(figure, f"The image, and beside it the same with its mask's outline: {words}.")
