"""From a folder of somebody's own pictures to a detector: looked at, read as they are, trained.

Nothing here is needed for a data set in a known layout: :func:`fastflow_utils.experiments.run.run`
takes those. Plain pictures have no split, no masks, any shape and any flaw, so they are surveyed
first, their shape is kept, and every one of them is scored by a model that has not seen it.
"""

import dataclasses
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fastflow_utils.data.depth import depth_of
from fastflow_utils.data.images import checked_size
from fastflow_utils.data.listing import GOOD, NO_SPLIT, Item, Listing, first_few, in_order
from fastflow_utils.data.sizes import Size, size_text, usual_size
from fastflow_utils.detector.choices import GRID
from fastflow_utils.errors import FastFlowError
from fastflow_utils.experiments.records import write_json

if TYPE_CHECKING:
    import pandas as pd

    from fastflow_utils.experiments.recipes import Recipe
    from fastflow_utils.experiments.run import Run

__all__ = ["Reading", "as_read", "looked_at", "own_run", "reading_of", "split_by"]

DEFAULT = 256  # image size of a recipe that says nothing of it
TARGET = DEFAULT**2  # pixels of a picture that is read whole
SIZES = range(3 * GRID, 20 * GRID, GRID)
SMALLEST = 12  # pixels, as read, of the smallest defect that matters: three strides of 4
OVERLAP = 64  # pixels, as read
FOLDS = 5
FEW, COPIES = 30, 3  # below so many pictures, so many copies of each: benchmarks/few.py
TEST_SHARE = 0.2


# How pictures are read --------------------------------------------------------------------------


@dataclass(frozen=True)
class Reading:
    """How pictures are read, as fields of a recipe, and in words."""

    image_size: Size
    window: int | None
    overlap: int

    @property
    def text(self) -> str:
        """The same for people."""
        size = size_text(self.image_size)
        if self.window is None:
            return f"read whole at {size} px"
        return (
            f"read at {size} px, in windows of {self.window} px that share {self.overlap} px or "
            "more"
        )


def reading_of(
    size: tuple[int, int],
    *,
    window: int | None = None,
    overlap: int | None = None,
    smallest: float | None = None,
) -> Reading:
    """Return how pictures of a size are to be read, with their shape kept.

    Read whole, they have about as many pixels as 256 x 256. With windows they keep the size of
    their files, up to a multiple of 32; with ``smallest`` they are shrunk so far that a defect of
    so many pixels of the file still covers 12, three positions of the finest features, and are
    cut into windows where they are larger than one.

    Args:
        size: (H, W) of the files.
        window: Side of a window, pixels as read.
        overlap: What two windows share, at least. Default: 64, or a quarter of a smaller window.
        smallest: Pixels of the file that the smallest defect that matters is across.

    Raises:
        FastFlowError: The smallest defect has no size, or a window is larger than the pictures.

    Example:
        >>> reading_of((3000, 4000)).image_size
        (192, 256)
        >>> reading_of((3000, 4000), smallest=48).image_size
        (736, 992)
    """
    height, width = size
    if smallest is not None and not 1 <= smallest <= max(size):
        raise FastFlowError(
            f"a smallest defect of {smallest:g} px in pictures of {size_text(size)} px: expected "
            "its width in pixels of the file"
        )
    if window is None and smallest is None and overlap is not None:
        raise FastFlowError(f"an overlap of {overlap} px without windows: say how large those are")
    scale = min(1.0, SMALLEST / smallest) if smallest else 1.0
    if window is None and (smallest is None or scale * scale * height * width <= TARGET):
        return Reading(_whole(height, width), None, OVERLAP)
    rows, columns = (max(GRID, GRID * round(scale * n / GRID)) for n in size)
    # Of long and narrow pictures a window is as wide as they are.
    side = min(DEFAULT, rows, columns) if window is None else window
    shared = _usual_overlap(side) if overlap is None else overlap
    if min(rows, columns) < side:
        raise FastFlowError(
            f"windows of {side} px in pictures of {size_text(size)} px, read at "
            f"{rows} x {columns} px: expected pictures that are larger than a window; take a "
            f"smaller one (a multiple of {GRID}), or none"
        )
    return Reading((rows, columns) if rows != columns else rows, side, shared)


def _usual_overlap(side: int) -> int:
    return max(0, min(OVERLAP, side // 4, side - GRID))


def _whole(height: int, width: int) -> Size:
    """Return the multiples of 32 of nearly this shape, and nearly the usual number of pixels."""

    def unlike(h: int, w: int) -> float:
        shape = abs(math.log((h / w) / (height / width)))
        return shape + 0.1 * abs(math.log(h * w / TARGET))

    rows, columns = min(((h, w) for h in SIZES for w in SIZES), key=lambda hw: unlike(*hw))
    return rows if rows == columns else (rows, columns)


# Which pictures ---------------------------------------------------------------------------------


def split_by(found: Listing, rule: str) -> Listing:
    """Return a listing whose good test pictures are the last ones, or whole groups of them.

    Pictures of one batch, day or part are alike: with some of it in training, those in the test
    look easier than tomorrow's will be.

    Args:
        found: With good pictures in any split.
        rule: "order", for the last fifth by name, where 10 comes after 9; or a regular
            expression with one group, such as
            ``(\\d{4}-\\d\\d-\\d\\d)`` or ``batch(\\d+)``, which is searched in each picture's
            path: the last groups, with a fifth of the pictures or more, are the test.

    Raises:
        FastFlowError: The expression is none, fits no picture or some only, or leaves nothing to
            learn from.

    Example:
        >>> items = [Item(Path(f"day{d}/{n}.png"), "train", "good") for d in (1, 2) for n in "ab"]
        >>> found = split_by(Listing("folders", Path("."), "nut", tuple(items)), r"day(\\d)")
        >>> [item.path.as_posix() for item in found.of("test")]
        ['day2/a.png', 'day2/b.png']
    """
    good = [item for item in found.items if not item.label]
    good.sort(key=lambda item: in_order(found.name(item.path)))
    keys = {item.path: _key(found, item, rule) for item in good}
    groups = sorted(set(keys.values()), key=in_order) if rule != "order" else []
    if rule == "order":
        count = max(1, round(TEST_SHARE * len(good)))
        test = {item.path for item in good[-count:]}
        note = f"the last {count} good pictures by name are the test"
    else:
        chosen: list[str] = []
        while groups and sum(keys[i.path] in chosen for i in good) < TEST_SHARE * len(good):
            chosen.insert(0, groups.pop())
        test = {path for path, key in keys.items() if key in chosen}
        note = f"the good pictures of {first_few(chosen)} are the test, by {rule}"
    if len(test) >= len(good) - 1:
        raise FastFlowError(
            f"split by {rule}: {len(good) - len(test)} of {len(good)} good pictures are left to "
            "learn from, expected at least two; take a rule with more groups"
        )
    items = [
        item if item.label else item._replace(split="test" if item.path in test else "train")
        for item in found.items
    ]
    items.sort(key=lambda item: (item.split, item.defect, item.path))
    others = (other for other in found.notes if not other.startswith(NO_SPLIT))
    return dataclasses.replace(found, items=tuple(items), notes=(*others, note))


def _key(found: Listing, item: Item, rule: str) -> str:
    if rule == "order":
        return ""
    name = found.name(item.path)
    try:
        fits = re.search(rule, name)
    except re.error as error:
        raise FastFlowError(
            f"split by {rule}: no regular expression ({error}); expected one with a group, or the "
            "word order"
        ) from error
    if fits is None or not fits.groups() or fits.group(1) is None:
        raise FastFlowError(
            f"split by {rule}: nothing in {name}; expected an expression whose first group is "
            "found in the path of every good picture"
        )
    return fits.group(1)


def looked_at(found: Listing) -> "tuple[Listing, pd.DataFrame, list[Path]]":
    """Return the listing without what cannot be learnt from, the survey, and the files of it.

    Left out are pictures that cannot be read, and near duplicates of others that are learnt from
    or tested: a twin in another fold, or in the test, would score its like as one that was
    learnt from.

    Raises:
        FastFlowError: Fewer than two pictures are left to learn from, or the same picture is
            called good and damaged.
    """
    from fastflow_utils.data.pictures import survey, twins  # here: it brings pandas

    files = _learnt_from(found)
    white = depth_of(files).white
    table = survey(files, white)
    out = {
        path: "unreadable" if "unreadable" in remark else "near duplicate"
        for path, remark in zip(files, table["remark"], strict=True)
        if "unreadable" in remark or "near duplicate" in remark
    }
    tested = found.of("test")
    bad = {item.path for item in tested if item.label}
    reasons = {item.path: _why_unreadable(item.path, white) for item in tested}
    out |= {path: "unreadable" for path, reason in reasons.items() if reason is not None}
    notes, alike = list(found.notes), []
    # The damaged ones first: so each pair is met from the good picture, or the one learnt from.
    first = [item.path for item in sorted(tested, key=lambda item: -item.label)]
    for path, near in twins([*first, *files], white).items() if tested else ():
        for other, is_same in near:
            if is_same and other in bad and path not in bad:
                raise FastFlowError(
                    f"{path} is good and {other} is damaged, and they are the same picture: "
                    "take one of them away"
                )
            if other in bad and path not in bad:
                alike.append(f"{found.name(path)} ({found.name(other)})")
            elif path not in reasons and other in reasons:
                out.setdefault(path, "near duplicate")
    kept = tuple(item for item in found.items if item.path not in out)
    for reason in ("unreadable", "near duplicate"):
        names = [found.name(path) for path, why in out.items() if why == reason]
        if names:
            notes.append(f"left out, {reason}: {first_few(names)}")
    if known := [f"{found.name(path)}: {why}" for path, why in reasons.items() if why]:
        notes.append(f"why pictures of the test cannot be read: {known[0]}")
    if alike:
        notes.append(f"good pictures that nearly are damaged ones: {first_few(alike)}")
    found = dataclasses.replace(found, items=kept, notes=tuple(notes))
    _learnt_from(found)
    return found, table, files


def _learnt_from(found: Listing) -> list[Path]:
    """Return the good pictures to learn from, if there are enough."""
    files = [item.path for item in found.of("train") if item.defect == GOOD]
    if len(files) < 2:
        told = "".join(f"; {note}" for note in found.notes)
        raise FastFlowError(
            f"{len(files)} good pictures of {found.category} to learn from: expected at least "
            f"two, better 30 or more{told}"
        )
    return files


def _why_unreadable(path: Path, white: int | None) -> str | None:
    """Return why a picture cannot be read, empty where only its decoder knows; None if it can."""
    try:
        checked_size(path, white)
    except FastFlowError as error:
        cause = error.__cause__
        return str(cause) if type(cause) is ValueError and path.name not in str(cause) else ""
    return None


# All of it --------------------------------------------------------------------------------------


def as_read(
    found: Listing,
    recipe: "Recipe",
    *,
    window: int | None = None,
    overlap: int | None = None,
    smallest: float | None = None,
    image_size: Size | None = None,
) -> "Recipe":
    """Return a recipe with which these pictures are read as they are.

    Where nothing is asked for, and the recipe itself says another size than the default, or
    windows, it stays as it is: so a saved one repeats its run.

    Args:
        found: The pictures, from plain folders or a table.
        recipe: All else.
        window, overlap, smallest: As for :func:`reading_of`.
        image_size: H = W or (H, W), where it is not to be chosen.

    Raises:
        FastFlowError: As for :func:`reading_of`, or the recipe cannot be so, or there are fewer
            than two good pictures to learn from, or none that can be read.
    """
    usual = usual_size(_learnt_from(found))
    if smallest is not None and image_size is not None:
        raise FastFlowError(
            f"an image size of {size_text(image_size)} px and a smallest defect of {smallest:g} "
            "px, which sets the image size: give one of them"
        )
    if image_size is not None:
        shared = _usual_overlap(window or DEFAULT) if overlap is None else overlap
        reading = Reading(image_size, window, shared)
    elif (window, smallest) == (None, None) and (recipe.window or recipe.image_size != DEFAULT):
        return recipe
    else:
        reading = reading_of(usual, window=window, overlap=overlap, smallest=smallest)
    return recipe.changed(**dataclasses.asdict(reading))


def own_run(found: Listing, recipe: "Recipe", output: Path | str, **options: Any) -> "Run":
    """Survey pictures, train on them, and score each by a model new to it.

    Writes what :func:`~fastflow_utils.experiments.run.run_on` writes, with the survey's page and
    table, in which probable anomalies among the good pictures are marked.

    Args:
        found: The pictures, from plain folders or a table.
        recipe: From :func:`as_read`. Its folds are set here, unless it has some, and for fewer
            than 30 pictures its copies.
        output: Made if it is missing.
        **options: Further ones of ``run_on``.

    Raises:
        FastFlowError: As there, or for fewer than two good pictures; before training where that
            is possible.
    """
    found, table, files = looked_at(found)
    train = _learnt_from(found)
    few = len(train) < FEW and recipe.window is None
    copies = recipe.copies or (COPIES if few else 0)
    recipe = recipe.changed(folds=recipe.folds or min(FOLDS, len(train)), copies=copies)
    reading = Reading(recipe.image_size, recipe.window, recipe.overlap)
    notes = [*found.notes, reading.text]
    if few:
        notes.append(
            f"few pictures: each is learnt from with {copies} copies, turned, shifted and lit a "
            "little differently"
        )
    found = dataclasses.replace(found, notes=tuple(notes))

    from fastflow_utils.experiments.run import run_on  # here: mistakes are told before torch
    from fastflow_utils.experiments.survey_page import suspects, write_survey

    result = run_on(recipe, found, output, **options)
    scores = dict(zip(files, [math.nan] * len(files), strict=True))
    images, own = result.model.normal_images, result.model.normal_scores
    assert images is not None and own is not None, "fit has set them"
    scores |= {train[i]: s for i, s in zip(images.tolist(), own.tolist(), strict=True)}
    values = np.array(list(scores.values()))
    write_survey(table, files, output, values, white=result.model.white)
    marked = [found.name(path) for path, odd in zip(files, suspects(values), strict=True) if odd]
    if marked:
        result.metrics["notes"].append(
            f"probably anomalous among the good pictures: {first_few(marked)}; look at them in "
            "survey.html, take away what is not good, and run again"
        )
        write_json(Path(output) / "metrics.json", result.metrics)
    return result
