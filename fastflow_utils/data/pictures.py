"""Somebody's own pictures, looked at before a detector learns from them.

:func:`survey` says which of them are not like the others; :func:`example` makes a folder of them.
"""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageFilter
from scipy.ndimage import laplace

from fastflow_utils.data.finding import find_images
from fastflow_utils.data.images import Strips, frames_of, open_image
from fastflow_utils.data.sample_set import defects, render
from fastflow_utils.errors import FastFlowError
from fastflow_utils.frontend import track

__all__ = ["example", "survey", "twins"]

COLUMNS = ["width", "height", "brightness", "sharpness", "twin", "remark"]
DARK, BRIGHT, BLURRED = 0.7, 1.4, 0.5  # of the median
SHAPE = 0.05  # largest relative difference of width / height
SIZE = 1.5  # largest ratio of the sides of squares with as many pixels
ALIKE = 1.25  # the same, of pictures whose sharpness can be compared
TWIN = 0.45  # of the median distance to the nearest other picture
COPY = 2 / 255 * (32 * 32 * 3) ** 0.5  # distance of thumbnails that JPEG, or another size, makes
COPIES = 5  # of one picture, at most, that do not change what is usual
TOLD = 100  # near duplicates of one picture: of thousands that are the same, the first ones do
ROWS = 256  # of a picture that are in work at a time, and pictures that are compared with all


def survey(pictures: Path | str | Sequence[Path | str], white: int | None = None) -> pd.DataFrame:
    """Look at every picture of a folder and say which are not like the others.

    All limits are relative to the pictures themselves, since "dark" means nothing for pictures of
    coal. They are meant to make somebody look, not to decide.

    Sharpness depends on the resolution: the edges of a smaller copy are steeper, its noise is
    less. So at its own resolution, where a blur of two pixels shows, a picture is compared with
    those of about its size alone (sides within a quarter of its own, three pictures at least), and
    with all the others only when both are reduced to 128 x 128 pixels, where a strong blur is
    left.

    Two pictures are near duplicates if their thumbnails of 32 x 32 pixels are much closer than a
    picture and its nearest other usually are here, where copies of it that JPEG or another size
    has changed do not count as others: so they are found even if every picture has some. The same
    pixels are near duplicates always. (Hashes with a fixed limit, made to find
    copies among holiday pictures, cannot tell two good parts in front of a fixed camera apart.)

    Memory: a picture of 30 megapixels takes 200 MB, of 16 bits 300 MB; 5,000 pictures of any size
    take 300 MB.

    Args:
        pictures: A folder, whose pictures are found in the folders below it, too, but not in
            hidden ones (:func:`~fastflow_utils.data.finding.find_images`); or the files.
        white: The value that is white in files of more than 8 bits, as for
            :func:`~fastflow_utils.data.images.as_image`.

    Returns:
        One row for each file. The index is its path below the folder (below the one that all the
        files share), with "/" between names. Columns: ``width``, ``height`` in pixels,
        ``brightness`` (mean grey value in [0, 1]), ``sharpness`` (standard deviation of the
        Laplacian, at the picture's own resolution, over that of the grey values), ``twin`` (the
        first file that it nearly duplicates, else empty) and ``remark``: empty, or why to look at
        it: "unreadable", or some of "dark", "bright", "blurred", "another shape" (width over
        height), "another size" (a square with as many pixels has a side of 1.5 times the usual
        one, or less than two thirds of it), "near duplicate", "several frames" (of which the
        first is read).

    Raises:
        FastFlowError: There is no such folder, no picture in it, or none that can be read.

    Example:
        >>> import tempfile
        >>> from fastflow_utils.data.sample_set import make
        >>> with tempfile.TemporaryDirectory() as root:
        ...     _ = make(root, ["cable"], size=64, train=3, good=0, per_defect=0)
        ...     table = survey(Path(root) / "cable" / "train" / "good")
        >>> len(table), set(table["remark"])
        (3, {''})
    """
    rows: list[dict[str, object]] = []
    thumbnails: dict[str, np.ndarray] = {}
    reasons: list[str] = []
    for name, path in track(_files(pictures).items(), "looking"):
        try:
            row, thumbnails[name] = _measure(path, white)
        except FastFlowError as error:
            row = {"remark": "unreadable"}
            reasons.append(f"{name}: {error}")
        rows.append({"file": name, **row})
    if not thumbnails:
        where = pictures if isinstance(pictures, Path | str) else f"{len(rows)} files"
        raise FastFlowError(f"no picture in {where} can be read; the first, {reasons[0]}")
    table = pd.DataFrame(rows, columns=["file", *COLUMNS, "coarse"]).set_index("file")
    table[["width", "height"]] = table[["width", "height"]].astype("Int64")
    names, near = list(thumbnails), _twins(list(thumbnails.values()))
    first = {names[one]: names[earlier[0][0]] for one, earlier in near.items()}
    table["twin"] = [first.get(str(name), "") for name in table.index]
    _remark(table)
    return table[COLUMNS]


def _files(pictures: Path | str | Sequence[Path | str]) -> dict[str, Path]:
    """Return each picture by its path below the folder, or below the one that all share."""
    if isinstance(pictures, Path | str):
        return {name.as_posix(): file for file, name in find_images([pictures]).pictures}
    if not pictures:
        raise FastFlowError("no pictures: expected a folder or at least one file")
    files = [Path(file).absolute() for file in pictures]
    home = Path(os.path.commonpath([file.parent for file in files]))
    return {file.relative_to(home).as_posix(): file for file in files}


def _measure(path: Path, white: int | None) -> tuple[dict[str, object], np.ndarray]:
    """Return one picture's row and its thumbnail."""
    picture = open_image(path)  # decoded once, for both sizes
    whole, small = Strips(picture, None, white), Strips(picture, 256, white).pixels()
    grey = small.mean(-1)
    contrast = max(float(np.std(grey)), 1e-6)
    coarse = _reduced(grey[..., None], 2)[..., 0]
    row: dict[str, object] = {
        "width": whole.width,
        "height": whole.height,
        "brightness": float(grey.mean()),
        "sharpness": _detail(whole) / contrast,
        "remark": "several frames" if frames_of(path) > 1 else "",
        "coarse": float(np.std(laplace(coarse))) / contrast,
    }
    return row, _thumbnail(small)


def _thumbnail(small: np.ndarray) -> np.ndarray:
    """Return 32 x 32 pixels in a row, of a picture's 256 x 256."""
    return np.broadcast_to(_reduced(small, 8), (32, 32, 3)).astype(np.float32).ravel()


def _reduced(pixels: np.ndarray, factor: int) -> np.ndarray:
    """Return the means of squares of pixels (H, W, C)."""
    height, width, channels = pixels.shape
    parts = pixels.reshape(height // factor, factor, width // factor, factor, channels)
    return np.asarray(parts.mean((1, 3)))


def _detail(picture: Strips) -> float:
    """Return the standard deviation of the Laplacian, from a few rows at a time."""
    sums = np.zeros(2)
    for top in range(0, picture.height, ROWS):
        first = max(top - 1, 0)  # a row more on either side, for the neighbours
        bottom = min(top + ROWS, picture.height)
        rows = picture.pixels(first, min(bottom + 1, picture.height)).mean(-1)
        inside = laplace(rows)[top - first :][: bottom - top].astype(float)
        sums += inside.sum(), (inside**2).sum()
    mean, square = sums / (picture.height * picture.width)
    return float(np.sqrt(max(square - mean**2, 0)))


def _remark(table: pd.DataFrame) -> None:
    """Fill in why a picture is not like the others."""
    width, height = (table[name].astype(float) for name in ("width", "height"))
    shape, side = width / height, (width * height) ** 0.5
    brightness, coarse = (table[name] / table[name].median() for name in ("brightness", "coarse"))
    usual = {own: _usual(table["sharpness"], side, own) for own in side.dropna().unique()}
    remarks = {
        "dark": brightness < DARK,
        "bright": brightness > BRIGHT,
        "blurred": (coarse < BLURRED) | (table["sharpness"] < BLURRED * side.map(usual)),
        "another shape": (shape / shape.median() - 1).abs() > SHAPE,
        "another size": ~side.between(side.median() / SIZE, side.median() * SIZE) & side.notna(),
        "near duplicate": table["twin"] != "",
    }
    for remark, holds in remarks.items():
        said = table.loc[holds, "remark"]
        table.loc[holds, "remark"] = (said + ", " + remark).str.removeprefix(", ")


def _usual(sharpness: "pd.Series[float]", side: "pd.Series[float]", own: float) -> float:
    """Return the median sharpness of pictures of about this size; NaN if there are too few."""
    alike = sharpness[side.between(own / ALIKE, own * ALIKE)]
    return float(alike.median()) if len(alike) >= 3 else np.nan


def twins(paths: Sequence[Path], white: int | None = None) -> dict[Path, list[tuple[Path, bool]]]:
    """Return the near duplicates of each picture among those before it, as :func:`survey` finds.

    Args:
        paths: The pictures; one that cannot be read has no twin.
        white: As for :func:`survey`.

    Returns:
        For each picture that has any: the others, and whether their pixels are the same.
    """

    def look(path: Path) -> np.ndarray | None:
        try:
            return _thumbnail(Strips(path, 256, white).pixels())
        except FastFlowError:
            return None

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        seen = [(path, small) for path, small in zip(paths, pool.map(look, paths), strict=True)]
    read = [(path, small) for path, small in seen if small is not None]
    near = _twins([small for _, small in read])
    return {read[n][0]: [(read[other][0], same) for other, same in e] for n, e in near.items()}


def _twins(thumbnails: Sequence[np.ndarray]) -> dict[int, list[tuple[int, bool]]]:
    """Return of each near duplicate the earlier pictures close to it, and if they are the same."""
    if not thumbnails:
        return {}
    pictures = np.stack(thumbnails).astype(float)
    pictures -= pictures.mean(0)  # distances from products: the smaller the numbers, the finer
    usual = np.concatenate([_to_another(distance) for _, distance in _distances(pictures)])
    known = usual[np.isfinite(usual)]
    limit = TWIN * np.median(known) if len(known) else 0
    near = {}
    for at, distance in _distances(pictures):
        for number, row in enumerate(distance, at):
            earlier = np.flatnonzero(row[:number] <= limit)[:TOLD]
            if len(earlier):
                near[number] = [(int(other), bool(row[other] == 0)) for other in earlier]
    return near


def _to_another(distance: np.ndarray) -> np.ndarray:
    """Return how far pictures are from the nearest that is no copy, from distances to all (B, N).

    A copy is close as JPEG leaves it, and all that are no copies are much farther away.
    """
    others = np.where(distance == 0, np.inf, distance)  # itself, and the same pixels
    near = np.sort(others, axis=1)[:, : COPIES + 1]
    closest, next_ = near[:, :-1], near[:, 1:]
    is_copy = (closest < TWIN * next_) & np.isfinite(next_) & (closest < COPY)
    copies = np.where(is_copy, 1 + np.arange(is_copy.shape[1]), 0).max(1, initial=0)
    return np.asarray(near[np.arange(len(near)), copies])


def _distances(pictures: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the distances of some pictures to all, with the place of the first of these."""
    squares = (pictures**2).sum(1)
    for at in range(0, len(pictures), ROWS):
        some = slice(at, at + ROWS)
        found = squares[some, None] + squares - 2 * pictures[some] @ pictures.T
        found[found < 1e-9] = 0  # of the same pictures a rounding error is left
        yield at, np.sqrt(found)


def example(
    root: Path | str, category: str = "cable", *, count: int = 80, seed: int = 0
) -> tuple[Path, Path]:
    """Make two folders of pictures as people have them, from the sample set's renderer.

    The good pictures have four sizes and two formats. Among them are what real folders hold as
    well: a smaller copy of the first one, a dark picture, a blurred one and a broken file. The new
    pictures lie in folders that say what they are.

    Args:
        root: Where to make them.
        category: One of the sample set's.
        count: Good pictures, besides those four.
        seed: Fixes every pixel.

    Returns:
        ``ROOT/pictures``, good ones only, and ``ROOT/new`` with twelve good ones in ``good`` and
        four of each defect in a folder of its name.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     good, new = example(folder, count=2)
        ...     print(len(list(good.iterdir())), *sorted(path.name for path in new.iterdir()))
        6 bent_wire cable_swap good missing_wire
    """
    pictures, new = Path(root) / "pictures", Path(root) / "new"

    def photograph(number: int, folder: Path, defect: str | None = None) -> Path:
        size, kind = (256, 300, 320, 384)[number % 4], ("png", "jpg")[number % 3 > 0]
        pixels, _ = render(category, defect, size=size, seed=1000 * seed + number)
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / f"IMG_{number:04}.{kind}"
        Image.fromarray(pixels).save(file, quality=92)
        return file

    first, *_ = [photograph(number, pictures) for number in range(count)]
    for number, name in enumerate([*12 * ["good"], *4 * defects(category)], 500):
        photograph(number, new / name, None if name == "good" else name)
    Image.open(first).resize((240, 240)).save(pictures / "IMG_0900.jpg")
    dark, blurred = (photograph(number, pictures) for number in (901, 902))
    Image.open(dark).point(lambda level: level // 2).save(dark)
    Image.open(blurred).filter(ImageFilter.GaussianBlur(4)).save(blurred)
    (pictures / "IMG_0903.jpg").write_bytes(first.read_bytes()[:3000])
    return pictures, new
