"""Animations of what a trained model sees: one of each category, and a wall of all of them.

Everything is drawn from a finished run's own ``model/``, on test images that are taken by their
names alone (:func:`choose`). Colours mean the same in every frame
(``detector.heat_maps``), words say what was decided and whether it is right, and the
sample set is named as such. A file has 3 MB at most, and the same run gives the same bytes.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from io import BytesIO
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from fastflow_utils.data.layout import GOOD
from fastflow_utils.data.listing import Listing
from fastflow_utils.data.mvtec import Pictures, Sample
from fastflow_utils.data.readers import listing
from fastflow_utils.detector.choices import METHODS
from fastflow_utils.detector.detector import Detector
from fastflow_utils.detector.heat_maps import (
    ANOMALOUS_COLOUR,
    GOOD_COLOUR,
    Pixels,
    colour,
    outline,
    overlay,
    show,
)
from fastflow_utils.errors import FastFlowError
from fastflow_utils.experiments.recipes import as_folder
from fastflow_utils.experiments.records import (
    finished_below,
    read_json,
    read_listing,
    require_finished,
)
from fastflow_utils.experiments.tables import CATEGORIES, LAYOUT
from fastflow_utils.frontend import track

__all__ = ["LIMIT", "Verdict", "animate", "animate_all", "choose", "frame", "verdicts", "wall"]

LIMIT = 3_000_000
"""No file is larger, in bytes."""

# What is tried until a file keeps within it: the side of a picture, and how many images are shown.
STEPS = [(256, 16), (224, 16), (192, 16), (192, 8), (128, 8), (64, 4)]
WALL_STEPS = [(200, 8), (200, 6), (176, 6), (176, 4), (144, 4), (112, 4), (80, 2), (40, 2)]

Frame = tuple[Image.Image, int]  # what is shown, and for how many milliseconds


# What is shown ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Verdict:
    """A test image, and what a model says about it.

    Attributes:
        category: The bare name.
        title: Its name for people; the sample set is named as such.
        sample: Image, mask and kind of defect, of at most 512 pixels in height and width.
        anomaly_map: (1, H, W), higher is more anomalous.
        score: Of the image, higher is more anomalous.
        image_threshold: A score from here on is called anomalous.
        pixel_threshold: The same for a pixel of the map.
        has_truth: Whether the mask is known: a good image needs none.
    """

    category: str
    title: str
    sample: Sample
    anomaly_map: Tensor
    score: float
    image_threshold: float
    pixel_threshold: float
    has_truth: bool = True

    @property
    def decision(self) -> str:
        """What the model calls the image: "anomalous" or "good"."""
        return "anomalous" if self.score >= self.image_threshold else "good"

    @property
    def is_right(self) -> bool:
        """Whether that is true."""
        return (self.decision == "anomalous") == (self.sample.label == 1)


def choose(defects: Sequence[str], count: int = 16) -> list[int]:
    """Choose images to show by their kind and place alone, never by what a model says.

    One of every kind in turn, good first, as long as there are any and room is left; those of one
    kind lie evenly in their order.

    Args:
        defects: The kind of each image, as :attr:`Pictures.defects` has them: sorted.
        count: How many images, if there are as many.

    Returns:
        Their places in ``defects``.

    Example:
        >>> choose(["cut", "cut", "cut", "cut", "good", "good"], count=4)
        [4, 0, 5, 2]
    """
    places: dict[str, list[int]] = defaultdict(list)
    for place, defect in enumerate(defects):
        places[defect].append(place)
    kinds = sorted(places, key=lambda kind: (kind != GOOD, kind))
    turns = [(n, kind) for n in range(count) for kind in kinds if n < len(places[kind])][:count]
    taken = Counter(kind for _, kind in turns)
    return [places[kind][n * len(places[kind]) // taken[kind]] for n, kind in turns]


def _choose_again(shown: list[Verdict], count: int) -> list[Verdict]:
    """The same choice once more, among what was chosen."""
    return [shown[place] for place in choose([one.sample.defect for one in shown], count)]


def verdicts(run: Path | str, data: Path | str | None = None, count: int = 16) -> list[Verdict]:
    """Return what a run's saved model says about test images, chosen by :func:`choose`.

    Args:
        run: Folder of a finished run.
        data: The data root. Default: the one that ``run.json`` names, else the images that
            ``listing.json`` does.
        count: How many images at most.

    Raises:
        FastFlowError: If this is no finished run, its category is not under the data root or has
            no test images, or these are not the images that the run was made with.
    """
    run = Path(run)
    metrics = require_finished(run)
    found = _pictures_of(run, metrics, data)
    model = Detector.load(run / "model")
    test = Pictures(found, "test", _shown_size(*model.image_size), model.white)
    shown = []
    for place in choose(test.defects, count):
        [anomaly_map], [score] = model.predict(test.paths[place])
        judged = Verdict(
            category=test.category,
            title=test.title,
            sample=test[place],
            anomaly_map=anomaly_map.cpu(),
            score=float(score),
            image_threshold=float(model.image_threshold),
            pixel_threshold=float(model.pixel_threshold),
            has_truth=not test.labels[place] or bool(test.mask_paths[place]),
        )
        shown.append(judged)
    return shown


def _pictures_of(run: Path, metrics: dict[str, Any], data: Path | str | None) -> Listing:
    """Return the images that a finished run was made with, and no others."""
    root, read = data or (read_json(run / "run.json") or {}).get("root"), read_listing(run)
    found = read if root is None else listing(root, metrics["category"])
    if found is None:
        raise FastFlowError(
            f"the run in '{run}' does not say where its images are: name the data root that it "
            "was made with (--data)"
        )
    is_same = read is None or _places(read) == _places(found)
    if not is_same or found.digest() != metrics.get("data_sha256"):
        raise FastFlowError(
            f"the run in '{run}' is of {metrics['category']}, {metrics['data']}, but in "
            f"{found.folder} are other images, or they are split in another way: name the data "
            "root that it was made with (--data), or do the run again"
        )
    return found


def _places(found: Listing) -> list[tuple[str, str, str]]:
    """Which image is for what; the digest of a whole folder does not say it."""
    return [(found.name(item.path), item.split, item.defect) for item in found.items]


def _shown_size(height: int, width: int) -> tuple[int, int]:
    """Return a size that needs little memory: no picture is drawn larger.

    Example:
        >>> _shown_size(256, 256), _shown_size(3072, 4096)
        ((256, 256), (384, 512))
    """
    less = math.ceil(max(height, width) / 512)
    return max(1, height // less), max(1, width // less)


# Drawing ----------------------------------------------------------------------------------------

GROUND, INK, FAINT = (24, 26, 31), (240, 240, 240), (168, 172, 180)
EDGE = (70, 74, 82)  # around pictures: a dark map must not run into the dark ground
COLUMNS = ("image", "truth", "heat map", "overlay")


def _pixels(picture: Pixels) -> Image.Image:
    return Image.fromarray((picture * 255).round().astype(np.uint8))


def _pictures(verdict: Verdict, side: int) -> tuple[Image.Image, ...]:
    """Image, truth, heat map and overlay, whose longer side has ``side`` pixels."""
    sample = verdict.sample
    height, width = sample.image.shape[1:]
    longer = max(height, width)
    size = (max(1, round(side * height / longer)), max(1, round(side * width / longer)))
    image = F.interpolate(sample.image[None], size, mode="bicubic", antialias=True)[0].clamp(0, 1)
    truth = F.interpolate(sample.mask[None].float(), size)[0].expand(3, -1, -1)
    (heat,) = F.interpolate(verdict.anomaly_map[None], size, mode="bilinear", antialias=True)
    mixed = outline(overlay(image, heat), heat >= verdict.pixel_threshold)
    drawn = (show(image), show(truth), colour(heat), mixed)
    return tuple(_pixels(picture) for picture in drawn)


class _Sheet:
    """A dark sheet to put pictures and words on; lengths are in pixels.

    Pillow's own layout, ``ImageText.wrap``, breaks a line before it shrinks it, and needs a newer
    Pillow than the package does.
    """

    def __init__(self, width: int, height: int) -> None:
        self.image = Image.new("RGB", (width, height), GROUND)
        self.pen = ImageDraw.Draw(self.image)

    def place(self, picture: Image.Image, left: int, top: int, side: int) -> None:
        """Put a picture in the middle of a square."""
        self.paste(picture, left + (side - picture.width) // 2, top + (side - picture.height) // 2)

    def paste(self, picture: Image.Image, left: int, top: int) -> None:
        """Put a picture there, with a thin edge around it."""
        right, bottom = left + picture.width, top + picture.height
        self.pen.rectangle((left - 1, top - 1, right, bottom), outline=EDGE)
        self.image.paste(picture, (left, top))

    def write(
        self,
        text: str,
        x: float,
        y: float,
        size: float,
        room: float,
        anchor: str = "lm",
        ink: tuple[int, int, int] = INK,
        ground: tuple[int, int, int] | None = None,
    ) -> float:
        """Write a line of text, in smaller letters if it is wider than ``room``.

        Args:
            text: What to write.
            x: Where, as Pillow's ``anchor`` says.
            y: Where, too.
            size: Of the letters.
            room: The width that there is.
            anchor: "lm" from x to the right, "rm" to the left; y is its middle.
            ink: Colour of the letters.
            ground: Colour of a label behind them, if there is to be one.

        Returns:
            The width that it takes.
        """
        margin = size / 3 if ground else 0
        font = ImageFont.load_default(size)
        while (width := font.getlength(text) + 2 * margin) > room and size > 6:
            size -= 1
            font = ImageFont.load_default(size)
        left = x if anchor.startswith("l") else x - width
        if ground:
            box = (left, y - 0.68 * size, left + width, y + 0.68 * size)
            self.pen.rounded_rectangle(box, radius=size / 3, fill=ground)
        self.pen.text((left + margin, y), text, ink, font, "lm")
        return width

    def judge(self, verdict: Verdict, x: float, y: float, size: float, anchor: str) -> float:
        """Write the decision, on the course's colour of what it says; return its width."""
        anomalous = verdict.decision == "anomalous"
        red, green, blue = ANOMALOUS_COLOUR if anomalous else GOOD_COLOUR
        ground = (round(255 * red), round(255 * green), round(255 * blue))
        ink = (0, 0, 0) if anomalous else (255, 255, 255)
        return self.write(verdict.decision, x, y, size, math.inf, anchor, ink, ground)

    def mark(self, verdict: Verdict, x: float, y: float, size: float, anchor: str) -> float:
        """Write whether the decision is right: what is wrong stands out; return its width."""
        if verdict.is_right:
            return self.write("right", x, y, size, math.inf, anchor)
        return self.write("wrong", x, y, size, math.inf, anchor, GROUND, (255, 255, 255))


def _in_words(name: str) -> str:
    return name.replace("_", " ")


def frame(verdict: Verdict, position: str, side: int = 256) -> Image.Image:
    """Draw image, truth, heat map and overlay, under words that say what was decided.

    Of an anomalous image without a mask the truth is a black panel that says so. Green in the
    overlay is the outline of what exceeds the model's pixel threshold; below the
    heat map is the scale of its colours, which is the same for all.

    Args:
        verdict: What to show.
        position: Of the frame, such as "3/16".
        side: Of one picture, in pixels; everything else follows.
    """
    gap, line, size = side // 16, side // 8, side / 12
    left = [gap + column * (side + gap) for column in range(len(COLUMNS))]
    top = gap // 2 + 3 * line
    sheet = _Sheet(left[-1] + side + gap, top + side + line + gap // 4)
    right = sheet.image.width - gap

    y = gap / 2 + line / 2
    sheet.write(verdict.title, gap, y, 1.3 * size, 3 * side)
    sheet.write(position, right, y, 1.3 * size, side, "rm", FAINT)
    y += line
    truth = "no defect" if verdict.sample.label == 0 else _in_words(verdict.sample.defect)
    sheet.write(f"truth: {truth}", gap, y, size, 1.4 * side)
    x = right - sheet.mark(verdict, right, y, size, "rm") - gap / 2
    x -= sheet.judge(verdict, x, y, size, "rm") + gap / 2
    words = f"score {verdict.score:.2f}, threshold {verdict.image_threshold:.2f}: called"
    sheet.write(words, x, y, size, 2 * side, "rm")

    for x, name, picture in zip(left, COLUMNS, _pictures(verdict, side), strict=True):
        sheet.write(name, x, top - line / 2, size, side, ink=FAINT)
        sheet.place(picture, x, top, side)
    if not verdict.has_truth:
        sheet.write("no mask", left[1] + side / 3, top + side / 2, size, side)

    y, small = top + side + line / 2 + gap / 8, 0.8 * size
    path = Path(verdict.sample.path)
    sheet.write(f"{path.parent.name}/{path.name}", left[0], y, small, side, ink=FAINT)
    if verdict.has_truth:
        sheet.write("white: anomalous", left[1], y, small, side, ink=FAINT)
    before = sheet.write("to 0.5", left[2], y, small, side, ink=FAINT) + gap / 2
    after = sheet.write("1", left[2] + side, y, small, side, "rm", FAINT) + gap / 2
    scale = torch.linspace(0.5, 1, round(side - before - after)).expand(1, line // 3, -1)
    sheet.paste(_pixels(colour(scale)), round(left[2] + before), round(y - line / 6))
    words = f"green: threshold {verdict.pixel_threshold:.3f}"
    sheet.write(words, left[3], y, small, side, ink=FAINT)
    return sheet.image


# Files ------------------------------------------------------------------------------------------


def _encoded(frames: list[Frame], kind: str) -> bytes:
    images, milliseconds = zip(*frames, strict=True)
    options: dict[str, Any] = {"quality": 80, "method": 4}
    if kind == "gif":  # a palette for each frame, and one colour left for what did not change
        # Median cut, the default, has no colours left for a small bright spot of a heat map.
        images = tuple(image.quantize(255, Image.Quantize.MAXCOVERAGE) for image in images)
        options = {}
    first, *rest = images
    file = BytesIO()
    first.save(
        file, kind, save_all=True, append_images=rest, duration=milliseconds, loop=0, **options
    )
    return file.getvalue()


def _save(
    stem: Path, draw: Callable[[int, int], list[Frame]], steps: Iterable[tuple[int, int]]
) -> list[Path]:
    """Write a GIF and a WebP, each by the first of ``steps`` that keeps within the limit.

    Args:
        stem: The files' path, without the suffix.
        draw: Makes the frames, given the side of a picture and the number of images.
        steps: Pairs of these, the best first.
    """
    stem.parent.mkdir(parents=True, exist_ok=True)
    files = [stem.parent / f"{stem.name}.{kind}" for kind in ("gif", "webp")]
    for file in files:
        for side, count in steps:
            content = _encoded(draw(side, count), file.suffix[1:])
            if len(content) <= LIMIT:
                break
        else:
            raise FastFlowError(f"{file}: {len(content)} bytes at its smallest, at most {LIMIT}")
        file.write_bytes(content)
    return files


def animate(run: Path | str, output: Path | str, data: Path | str | None = None) -> list[Path]:
    """Write a GIF and a WebP that cycle through test images of a run's category.

    The images are chosen by their names alone (:func:`choose`): up to sixteen, evenly over good
    ones and every kind of defect. Each frame (:func:`frame`) stands for two seconds. Where a file
    would exceed 3 MB, its pictures become smaller, then fewer.

    Args:
        run: Folder of a finished run.
        output: Made if it is missing.
        data: The data root. Default: as :func:`verdicts` finds it.

    Returns:
        ``output/<category>.gif`` and ``.webp``.

    Raises:
        FastFlowError: As :func:`verdicts` does.
    """
    shown = verdicts(run, data)

    def draw(side: int, count: int) -> list[Frame]:
        few = _choose_again(shown, count)
        positions = (f"{number}/{len(few)}" for number in range(1, len(few) + 1))
        return [
            (frame(verdict, position, side), 2000)
            for verdict, position in zip(few, positions, strict=True)
        ]

    return _save(Path(output) / shown[0].category, draw, STEPS)


# The wall ---------------------------------------------------------------------------------------


def wall(
    runs: Sequence[Path | str], output: Path | str, data: Path | str | None = None
) -> list[Path]:
    """Write a GIF and a WebP that show all categories at once, in the order of the tables.

    Each cell cycles through eight test images of its category (:func:`choose`), all cells
    together: first the image, then what the model makes of it, with the decision. Each cell starts
    one image further than the one before, so that each frame has good and anomalous ones.

    Args:
        runs: Folders of finished runs, one of each category.
        output: Made if it is missing.
        data: The data root of all. Default: as :func:`verdicts` finds it for each.

    Returns:
        ``output/wall.gif`` and ``output/wall.webp``.

    Raises:
        FastFlowError: As :func:`verdicts` does; if there is no run, the runs are of several data
            sets, or two are of one category.
    """
    kept = {run: require_finished(Path(run)) for run in runs}
    names = {run: metrics["category"] for run, metrics in kept.items()}
    data_names = sorted({metrics["data"] for metrics in kept.values()})
    if len(data_names) != 1:
        listed = ", ".join(data_names) or "nothing"
        raise FastFlowError(f"runs on {listed}: a wall is of one data set")
    if len(set(names.values())) < len(runs):
        raise FastFlowError(f"runs of {', '.join(names.values())}: expected each category once")
    cells = [
        verdicts(run, data, count=8)
        for run in track(sorted(runs, key=lambda run: _order(names[run])), "looking")
    ]
    recipes = [metrics["recipe"] for metrics in kept.values()]
    methods = sorted({_method(recipe) for recipe in recipes})
    backbones = sorted({recipe["backbone"] for recipe in recipes})
    heading = f"{', '.join([*methods, *backbones])} ({data_names[0]})"

    def draw(side: int, count: int) -> list[Frame]:
        few = [_choose_again(cell, count) for cell in cells]
        frames = []
        for turn in range(count):
            # Where nothing moves, the first frame is all that is seen: it has the heat maps.
            for step, judged, milliseconds in ((turn, True, 2200), (turn + 1, False, 1000)):
                row = [cell[(step + place) % len(cell)] for place, cell in enumerate(few)]
                position = f"{step % count + 1}/{count}"
                frames.append((_wall(row, heading, position, side, judged), milliseconds))
        return frames

    return _save(Path(output) / "wall", draw, WALL_STEPS)


def _method(recipe: dict[str, Any]) -> str:
    """A method's name for people, that of its class; the first recipes named none."""
    return METHODS[recipe.get("method", "fastflow")].rpartition(".")[2]


def _shown_as_one(metrics: dict[str, Any]) -> list[Any]:
    """What the runs share of which one is shown, that of the lowest seed."""
    return [metrics["recipe"], metrics.get("region_sha256"), metrics.get("data_sha256")]


def _order(category: str) -> tuple[int, str]:
    """The tables' order, then other categories by name."""
    return (CATEGORIES.index(category) if category in CATEGORIES else len(CATEGORIES), category)


def _wall(row: list[Verdict], heading: str, position: str, side: int, judged: bool) -> Image.Image:
    """One frame: a cell for each verdict, five in a row."""
    columns = min(len(row), 5)
    gap, line, size = side // 12, side // 8, side / 12
    pitch = side + 2 * line + gap
    top = 2 * line + gap
    width = max(columns, 3) * (side + gap) + gap  # the heading has to be read
    sheet = _Sheet(width, top + -(-len(row) // columns) * pitch)
    right = sheet.image.width - gap
    y = (top + gap / 2) / 2
    x = right - sheet.write(position, right, y, 1.3 * size, side, "rm", FAINT) - gap
    x -= sheet.write("left the truth, right the decision", x, y, size, x / 2, "rm", FAINT) + gap
    sheet.write(heading, gap, y, 1.3 * size, x - gap)
    for number, verdict in enumerate(row):
        x, y = gap + number % columns * (side + gap), top + number // columns * pitch
        image, _, _, overlay = _pictures(verdict, side)
        sheet.place(overlay if judged else image, x, y, side)
        upper, lower = y + side + 0.6 * line, y + side + 1.6 * line
        taken = [0.0, 0.0]
        if judged:
            taken[0] = sheet.mark(verdict, x + side, upper, 0.9 * size, "rm")
            taken[1] = sheet.judge(verdict, x + side, lower, 0.9 * size, "rm")
        name = LAYOUT.get(verdict.category, verdict.category)
        sheet.write(name, x, upper, 1.1 * size, side - taken[0] - gap / 2)
        truth = _in_words(verdict.sample.defect)
        sheet.write(truth, x, lower, size, side - taken[1] - gap / 2, ink=FAINT)
    return sheet.image


# Many runs --------------------------------------------------------------------------------------


def animate_all(
    folder: Path | str, output: Path | str, data: Path | str | None = None
) -> list[Path]:
    """Write an animation of each category, and a wall of all, for each model and data set.

    A model is a backbone and a method. Of several recipes, regions or data of one model and
    category, that of the run which was finished last is shown, by its run of the lowest seed.

    Args:
        folder: All finished runs in it and below it are looked at.
        output: The files go to ``output/<backbone>/<data>/``, of another method than FastFlow to
            ``output/<backbone>-<method>/<data>/``.
        data: The data root of all. Default: as :func:`verdicts` finds it for each.

    Raises:
        FastFlowError: As :func:`verdicts` does for any run, when all others are done; as
            :func:`wall` does; if there is no finished run.
    """
    found: dict[tuple[str, str, str], list[tuple[int, Path, dict[str, Any]]]] = defaultdict(list)
    for run in finished_below(Path(folder)):
        metrics = require_finished(run)
        method = metrics["recipe"].get("method", "fastflow")
        model = metrics["recipe"]["backbone"] + (f"-{method}" if method != "fastflow" else "")
        kind = model, metrics["data"], metrics["category"]
        found[kind].append(((run / "metrics.json").stat().st_mtime_ns, run, metrics))
    chosen: dict[tuple[str, str], list[Path]] = defaultdict(list)
    for (model, data_name, _), runs_of in sorted(found.items()):
        _, _, last = max(runs_of, key=itemgetter(0))
        same = [run for run in runs_of if _shown_as_one(run[2]) == _shown_as_one(last)]
        chosen[model, data_name].append(min(same, key=lambda run: (run[2]["seed"], -run[0]))[1])
    written, problems = [], []
    for names, runs in chosen.items():
        place, done = Path(output, *map(as_folder, names)), []
        for run in track(runs, "animating"):
            try:
                written += animate(run, place, data)
                done.append(run)
            except FastFlowError as error:
                problems.append(f"{run}: {error}")
        if done:
            written += wall(done, place, data)
    if problems:
        raise FastFlowError(
            f"{len(written)} files are in {output}; not animated: {'; '.join(problems)}"
        )
    return written
