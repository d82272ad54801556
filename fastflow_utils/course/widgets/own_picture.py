"""One's own pictures: what a trained detector sees in them, and says of them."""

import html
import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from textwrap import fill

import ipywidgets
import numpy as np
import torch
from IPython.display import display
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from fastflow_utils.course.live.drop import MEGABYTES, PICTURES, Drop
from fastflow_utils.course.plots import (
    ANOMALOUS_COLOUR,
    GOOD_COLOUR,
    Pixels,
    describe,
    plain,
    show,
)
from fastflow_utils.course.widgets.explore import explore
from fastflow_utils.data.images import Strips, as_image
from fastflow_utils.data.sizes import squeezed
from fastflow_utils.detector.detector import Detector
from fastflow_utils.detector.features import pca_colours
from fastflow_utils.detector.heat_maps import heat_picture
from fastflow_utils.detector.prediction import NOT_JUDGED
from fastflow_utils.detector.regions import Region, find_regions
from fastflow_utils.errors import FastFlowError
from fastflow_utils.frontend import is_live

__all__ = ["Judged", "explore_own", "judge", "judged_figure"]

MEGAPIXELS = 50
SIDE = 400  # pixels of the longer side of a picture as it is shown
RULES = (
    f"At most {PICTURES} pictures at a time, each of at most {MEGABYTES} MB and {MEGAPIXELS} "
    "megapixels."
)


@dataclass(frozen=True, eq=False)
class Judged:
    """A picture, and what a detector has made of it."""

    name: str
    size: tuple[int, int]
    """(H, W) of the file, the right way up."""
    picture: Pixels
    """As it is shown, in its own shape."""
    anomaly_map: Tensor
    """(1, h, w) in [0, 1], on the CPU; higher is more anomalous."""
    regions: list[Region]
    """Where the map is at or above the pixel threshold, in pixels of the file."""
    score: float
    """In standard deviations of normal images; higher is more anomalous."""
    threshold: float
    """Of the image score."""
    pixel_threshold: float
    """Of the map."""
    colours: list[Pixels]
    """Each level's features, their main components as colours; none of a model with windows."""
    notes: list[str]
    """What else one should know before one believes the decision."""

    @property
    def decision(self) -> str:
        """Either "good" or "anomalous"."""
        return "anomalous" if self.score >= self.threshold else "good"

    @property
    def share(self) -> float:
        """Of the picture, that is at or above the pixel threshold."""
        return (self.anomaly_map >= self.pixel_threshold).float().mean().item()

    @property
    def verdict(self) -> str:
        """The decision in words, in two lines: of the whole picture, and of its pixels."""
        side = "at or above" if self.score >= self.threshold else "below"
        count = len(self.regions)
        regions = f"{count or 'no'} anomalous region{'s' * (count != 1)}"
        share = f", {100 * self.share:.1f} % of its pixels" if count else ""
        return (
            f"image score {self.score:.2f}, {side} the threshold {self.threshold:.2f}: called "
            f"{self.decision}\n{regions}{share}"
        )


def judge(detector: Detector, name: str, content: bytes) -> Judged:
    """Return what a detector makes of a picture file, by the way that every picture goes.

    Args:
        detector: Trained and calibrated, in its form for inference.
        name: The file's, for people.
        content: The file's bytes: PNG, JPEG, TIFF and whatever else the package reads.

    Raises:
        FastFlowError: It is no picture, broken or too large, or the detector cannot take it.

    Example:
        >>> from fastflow_utils.detector.backbones import Backbone
        >>> from fastflow_utils.detector.model import FastFlow
        >>> model = FastFlow(Backbone("efficientnet_lite0", pretrained=False, image_size=64))
        >>> judge(model, "notes.png", b"some text")
        Traceback (most recent call last):
        fastflow_utils.errors.FastFlowError: no picture: expected PNG, JPEG, BMP, TIFF or WebP
    """
    image, notes = _opened(content)
    maps, score = detector.predict(image)
    strips = Strips(image, white=detector.white)  # no floats yet: all of a large one are too many
    height, width = size = (strips.height, strips.width)
    anomaly_map, limit = maps[0].cpu(), float(detector.pixel_threshold)
    scale = min(1, SIDE / max(size))
    shown = as_image(
        image, (max(1, round(scale * height)), max(1, round(scale * width))), detector.white
    )
    colours = []
    if detector.windows is None:
        read = as_image(image, detector.image_size, detector.white)[None].to(detector.device)
        with torch.no_grad():
            colours = [show(pca_colours(h[0].cpu())) for h in detector.backbone(read)]
    judged = Judged(
        name=name,
        size=size,
        picture=show(shown),
        anomaly_map=anomaly_map,
        regions=find_regions(anomaly_map, limit, width, height),
        score=float(score),
        threshold=float(detector.image_threshold),
        pixel_threshold=limit,
        colours=colours,
        notes=notes,
    )
    notes += _about(judged, detector)
    return judged


def _opened(content: bytes) -> tuple[Image.Image, list[str]]:
    """Return a file's picture, decoded, and what is to be said of the file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of damaged tags: what matters is refused
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            image = Image.open(io.BytesIO(content))
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise _too_large("far more pixels") from error
        except Exception as error:  # decoders raise OSError, SyntaxError, struct.error and more
            raise FastFlowError("no picture: expected PNG, JPEG, BMP, TIFF or WebP") from error
        if image.width * image.height > 1e6 * MEGAPIXELS:
            raise _too_large(f"{image.width} × {image.height} pixels")
        try:
            frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
            image.load()
        except Exception as error:
            raise FastFlowError(f"a broken picture: {error}") from error
    return image, [f"it has {frames} pages or frames: the first is read"] if frames > 1 else []


def _too_large(what: str) -> FastFlowError:
    return FastFlowError(
        f"too large: {what}, expected at most {MEGAPIXELS} megapixels; make it smaller first"
    )


def _about(judged: Judged, detector: Detector) -> list[str]:
    """Return what makes a decision doubtful."""
    (height, width), read = judged.size, detector.image_size
    notes = []
    if squeezed({judged.size: 1}, read):
        notes.append(f"squeezed: read as {_pixels(read)}, so objects in it change their shape")
    if max(read[0] / height, read[1] / width) > 1.5:
        notes.append(f"enlarged to {_pixels(read)}: perhaps less sharp than what was learnt from")
    if judged.share > 0.5:
        notes.append(
            "more than half of it is unlike what was learnt from: rather another object, light "
            "or camera than a defect"
        )
    if detector.windows is not None:
        notes.append("the detector cuts it into windows: no features of the whole to show")
    elif detector.backbone.upright:
        notes.append("features are of the picture turned upright, as the network sees it")
    return notes


def _pixels(size: tuple[int, int]) -> str:
    return f"{size[1]} × {size[0]} pixels"


# What is shown ----------------------------------------------------------------------------------


def judged_figure(judged: Judged, scores: Sequence[float] = (), heading: str = "") -> Figure:
    """Draw a picture, its heat map, its score among others, and each level's features.

    Args:
        judged: What :func:`judge` returned.
        scores: Of all pictures that it is shown among.
        heading: What it is a picture of.

    Returns:
        Always of the same size, with fixed places: a layout that fits itself takes longer.
    """
    figure = Figure((9.4, 5.4), dpi=80)
    figure.set_layout_engine("none")
    decision, regions = judged.verdict.splitlines()
    name = plain(", ".join(filter(None, (heading, judged.name))))
    figure.suptitle(f"{name[-100:]}\n{decision}", y=0.985)
    height, width = judged.picture.shape[:2]
    heat = heat_picture(judged.anomaly_map, judged.pixel_threshold, width, height)
    low, up = 0.02, 0.42  # of the two rows
    across, tall = 0.295, 0.395  # of a panel of the upper row
    _picture(figure, (0.01, up, across, tall), judged.picture, _pixels(judged.size))
    _picture(figure, (0.325, up, across, tall), np.asarray(heat), regions)
    bar = figure.add_axes((0.632, up + 0.02, 0.014, tall - 0.04))
    scale = ScalarMappable(Normalize(0.5, 1), "inferno")
    figure.colorbar(scale, cax=bar).set_label("anomaly map", fontsize=10)
    bar.tick_params(labelsize=9)
    _scores(figure.add_axes((0.785, up + 0.02, 0.205, tall - 0.04)), judged, scores)
    share = 0.61 / max(3, len(judged.colours))
    for level, colours in enumerate(judged.colours):
        place = (0.01 + level * share, low, share - 0.02, 0.27)
        rows, columns = colours.shape[:2]
        title = f"level {level + 1}: {rows} × {columns}"
        _picture(figure, place, colours, title, height / width * columns / rows)
    figure.text(0.655, low + 0.3, _remarks(judged), va="top", fontsize=10)
    return describe(figure, _told(judged, len(scores) or 1))


def _picture(
    figure: Figure,
    place: tuple[float, float, float, float],
    pixels: Pixels,
    title: str,
    aspect: float = 1,
) -> None:
    axes = figure.add_axes(place, xticks=[], yticks=[], frame_on=False)
    axes.imshow(pixels, aspect=aspect)
    # Above its place, however little of it the picture fills.
    x, y = place[0] + place[2] / 2, place[1] + place[3] + 0.008
    figure.text(x, y, title, ha="center", va="bottom", fontsize=10)


def _scores(axes: Axes, judged: Judged, scores: Sequence[float]) -> None:
    """Draw the scores of all pictures in their order, against the threshold."""
    threshold, others = judged.threshold, np.sort(list(scores) or [judged.score])
    low, high = min(*others, threshold, 0), max(*others, threshold)
    if high > 10 * abs(threshold):  # of another object: or the threshold would touch the floor
        axes.set_yscale("symlog", linthresh=10 ** np.ceil(np.log10(2 * abs(threshold) or 1)))
        high *= 2
    below, above = low - 0.1 * (threshold - low), high + 0.1 * (high - low) or 1
    axes.axhspan(below, threshold, color=GOOD_COLOUR, alpha=0.12, linewidth=0)
    axes.axhspan(threshold, above, color=ANOMALOUS_COLOUR, alpha=0.15, linewidth=0)
    axes.axhline(threshold, color="black", linestyle="--", linewidth=1)
    axes.plot(np.arange(len(others)), others, "o", color="0.45", markersize=4)
    axes.plot([np.abs(others - judged.score).argmin()], [judged.score], "ks", markersize=8)
    axes.set(xticks=[], xlim=(-0.7, len(others) - 0.3), ylim=(below, above))
    axes.set_xlabel(f"{len(others)} picture{'s' * (len(others) != 1)}, by score", fontsize=10)
    axes.set_title("image score (line: threshold)", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=9)


def _remarks(judged: Judged) -> str:
    """Return how to read the lower row, and what makes the decision doubtful."""
    about = ["Left: each level's features, their main components as colours."]
    notes = [f"• {note}" for note in judged.notes]
    return "\n".join(fill(text, 46) for text in [*about[: len(judged.colours)], *notes])


def _told(judged: Judged, count: int) -> str:
    """Return in words what the panels show, as one of so many pictures."""
    largest = max(judged.regions, key=lambda region: region.area, default=None)
    where = ""
    if largest is not None:
        x, y = largest.centroid_x / judged.size[1], largest.centroid_y / judged.size[0]
        places = [_third(y, "upper", "lower"), _third(x, "left", "right")]
        where = f"; the largest in the {' '.join(filter(None, places)) or 'middle'} part"
    regions = judged.verdict.splitlines()[1]
    levels = "; and each level's features as colours" if judged.colours else ""
    pictures = f"{count} picture{'s' * (count != 1)}"
    return (
        f"The picture beside its heat map: {regions}{where}. Its score against the threshold, "
        f"among {pictures}{levels}."
    )


def _third(place: float, first: str, last: str) -> str:
    return first if place < 1 / 3 else last if place > 2 / 3 else ""


def _table(judged: Sequence[Judged], refused: Sequence[tuple[str, str]], notes: list[str]) -> str:
    """Return a table as HTML, the highest score first, then what was not judged and why."""
    rows = [
        (_marked(one.decision), f"{one.score:.2f}", html.escape(one.name)) for one in judged
    ] + [(NOT_JUDGED, "", html.escape(f"{name}: {why}")) for name, why in refused]
    cells = "".join(
        f"<tr><td style='white-space: nowrap'>{decision}</td>"
        f"<td style='text-align: right'>{score}</td>"
        f"<td style='text-align: left; padding-left: 1.5em'>{name}</td></tr>"
        for decision, score, name in rows
    )
    head = (
        "<tr><th style='text-align: left'>decision</th><th style='padding-left: 1.5em'>image "
        "score</th><th style='text-align: left; padding-left: 1.5em'>file</th></tr>"
    )
    said = "".join(f"<p>{html.escape(note)}</p>" for note in notes)
    return (
        "<div role='region' aria-label='decisions' tabindex='0' "
        "style='max-height: 20em; overflow: auto; line-height: 1.6'>"
        f"<table><thead>{head}</thead><tbody>{cells}</tbody></table></div>{said}"
    )


def _marked(decision: str) -> str:
    colour, mark = (ANOMALOUS_COLOUR, "▲") if decision == "anomalous" else (GOOD_COLOUR, "●")
    rgb = ", ".join(str(round(255 * part)) for part in colour)
    return f"<span style='color: rgb({rgb})' aria-hidden='true'>{mark}</span> {decision}"


# What is done -----------------------------------------------------------------------------------


def explore_own(model: Detector, examples: Sequence[Path], heading: str = "") -> Figure | None:
    """Judge one's own pictures: dropped, chosen, or taken by the camera.

    Each goes the way that every picture goes, :meth:`Detector.predict
    <fastflow_utils.detector.detector.Detector.predict>`. It stays in the memory of the kernel:
    nothing is written to a disk. Of several pictures there is a table, the highest score first,
    and a slider that chooses. What is no picture is named in the table, with the reason.

    Args:
        model: Trained and calibrated; a FastFlow is folded first, anew for whatever is dropped.
        examples: Picture files that are shown until others are dropped; at least one.
        heading: What the examples show; with "sample set" in it, if they are from there.

    Returns:
        The figure of the example with the highest score; None with a live frontend (see
        :func:`~fastflow_utils.course.widgets.explore.explore`).

    Raises:
        FastFlowError: If the model was never calibrated, or an example is no picture.
    """
    detector = _ready(model)
    if not examples:
        raise FastFlowError("no examples: expected at least one picture file")
    shown = [judge(detector, path.name, path.read_bytes()) for path in examples]
    shown.sort(key=lambda one: -one.score)
    among = list(shown)  # what the slider chooses from
    picture = ipywidgets.SelectionSlider(options=_options(among))

    def draw(picture: Judged) -> Figure:
        scores = [one.score for one in among]
        return judged_figure(picture, scores, heading if picture in shown else "")

    if not is_live():
        return explore(draw, picture=picture)

    judged: list[Judged] = []
    refused: list[tuple[str, str]] = []
    table = ipywidgets.HTML(_table(shown, [], []))

    def begin() -> None:
        nonlocal detector
        detector = _ready(model)
        judged.clear()
        refused.clear()

    def take(name: str, content: bytes) -> None:
        try:
            judged.append(judge(detector, name, content))
        except FastFlowError as error:
            refused.append((name, str(error)))
        except Exception as error:  # shown: a callback's traceback would end in a hidden log
            refused.append((name, f"{type(error).__name__}: {error}"))

    def end(left_out: list[str]) -> str:
        judged.sort(key=lambda one: -one.score)
        if judged or refused:
            table.value = _table(judged, refused, left_out)
        if judged:
            among[:] = judged
            picture.options = _options(among)
        return _summary(judged, refused, left_out)

    display(Drop(RULES, begin=begin, take=take, refuse=lambda *one: refused.append(one), end=end))
    explore(draw, picture=picture)
    display(table)
    return None


def _ready(model: Detector) -> Detector:
    """Return the form that judges, of a model that can tell good from anomalous."""
    if not model.image_threshold.isfinite():
        raise FastFlowError(
            "the model was never calibrated, so it would call every picture good: fit it, or "
            "calibrate it on normal images"
        )
    return model.for_inference()


def _options(judged: Sequence[Judged]) -> list[tuple[str, Judged]]:
    """Return what the slider offers; its labels differ even where names do not."""
    return [
        (f"{number}. {PurePosixPath(one.name).name[-24:]}", one)
        for number, one in enumerate(judged, 1)
    ]


def _summary(
    judged: Sequence[Judged], refused: Sequence[tuple[str, str]], left_out: Sequence[str]
) -> str:
    if not judged and not refused:
        why = "; ".join(left_out) or "no file was given"
        return f"no picture: {why}; expected PNG, JPEG, BMP, TIFF or WebP, or a folder of them"
    if len(judged) + len(refused) == 1:
        return f"{judged[0].name}: {judged[0].verdict}" if judged else ": ".join(refused[0])
    anomalous = sum(one.decision == "anomalous" for one in judged)
    counts = {"anomalous": anomalous, "good": len(judged) - anomalous, NOT_JUDGED: len(refused)}
    said = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    return f"{len(judged) + len(refused)} files: {said}"
