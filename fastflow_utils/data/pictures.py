"""From a plain folder of somebody's own pictures to MVTec AD's layout.

:func:`survey` says which pictures of a folder are not like the others before a detector learns
from them; :func:`arrange` copies the rest into the layout that the package reads.
"""

import shutil
from collections.abc import Collection
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from PIL import Image, ImageFilter
from scipy.ndimage import laplace
from torch import Tensor

from fastflow_utils.compute import check_seed
from fastflow_utils.data.images import image_files, load_image
from fastflow_utils.data.sample_set import defects, render
from fastflow_utils.errors import FastFlowError
from fastflow_utils.frontend import track

__all__ = ["arrange", "example", "survey"]

DARK, BRIGHT, BLURRED = 0.7, 1.4, 0.5  # of the folder's median
SHAPE = 0.05  # largest relative difference of width / height
TWIN = 0.45  # of the median distance to the nearest other picture


def survey(folder: Path | str) -> pd.DataFrame:
    """Look at every picture of a folder and say which are not like the others.

    All limits are relative to the folder itself, since "dark" means nothing for pictures of
    coal. They are meant to make somebody look, not to decide.

    Two pictures are near duplicates if their thumbnails of 32 x 32 pixels are much closer than a
    picture and its nearest other usually are here. (Hashes with a fixed limit, made to find
    copies among holiday pictures, cannot tell two good parts in front of a fixed camera apart.)

    Args:
        folder: Its pictures, not those of folders in it.

    Returns:
        One row for each file, with its name as the index: ``width``, ``height`` in pixels,
        ``brightness`` (mean grey value in [0, 1]), ``sharpness`` (standard deviation of the
        Laplacian over that of the grey values, at 256 x 256 pixels), ``twin`` (the first file
        that it nearly duplicates, else empty) and ``remark``: empty, or why to look at it.

    Raises:
        FastFlowError: There is no such folder, or no picture in it can be read.

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
    thumbnails: dict[str, Tensor] = {}
    for path in track(image_files(folder), "looking"):
        try:
            row, thumbnails[path.name] = _measure(load_image(path))
        except FastFlowError:
            row = {"remark": "unreadable"}
        rows.append({"file": path.name, **row})
    if not thumbnails:
        raise FastFlowError(f"no picture in {folder} can be read: expected PNG, JPEG, TIFF, ...")
    table = pd.DataFrame(rows).set_index("file")
    table[["width", "height"]] = table[["width", "height"]].astype("Int64")
    twins = _twins(thumbnails)
    table.insert(4, "twin", [twins.get(str(name), "") for name in table.index])
    _remark(table)
    return table


def _measure(picture: Tensor) -> tuple[dict[str, object], Tensor]:
    """Return one picture's row and its thumbnail."""
    # From the pixels rather than the file, so that it is decoded once.
    image = F.interpolate(picture[None], (256, 256), mode="bilinear", antialias=True)
    grey = image.mean((0, 1)).numpy()
    row: dict[str, object] = {
        "width": picture.shape[2],
        "height": picture.shape[1],
        "brightness": float(grey.mean()),
        "sharpness": float(np.std(laplace(grey)) / max(np.std(grey), 1e-6)),
        "remark": "",
    }
    return row, F.adaptive_avg_pool2d(image, 32).flatten()


def _remark(table: pd.DataFrame) -> None:
    """Fill in why a picture is not like the others."""
    brightness, sharpness = (table[name] / table[name].median() for name in table.columns[2:4])
    shape = table["width"].astype(float) / table["height"].astype(float)
    remarks = {
        "dark": brightness < DARK,
        "bright": brightness > BRIGHT,
        "blurred": sharpness < BLURRED,
        "another shape": (shape / shape.median() - 1).abs() > SHAPE,
        "near duplicate": table["twin"] != "",
    }
    for remark, holds in remarks.items():
        said = table.loc[holds, "remark"]
        table.loc[holds, "remark"] = (said + ", " + remark).str.removeprefix(", ")


def _twins(thumbnails: dict[str, Tensor]) -> dict[str, str]:
    """Return of each near duplicate the first picture that it is close to."""
    names = list(thumbnails)
    if len(names) < 3:  # nothing to say what is usual
        return {}
    pictures = torch.stack(list(thumbnails.values())).double()
    distance = torch.cdist(pictures, pictures, compute_mode="donot_use_mm_for_euclid_dist")
    nearest = distance.clone().fill_diagonal_(torch.inf).min(1).values
    close = (distance <= TWIN * nearest.median()).tril(-1)  # to earlier ones
    return {
        name: names[int(earlier.nonzero()[0])]
        for name, earlier in zip(names, close, strict=True)
        if earlier.any()
    }


def arrange(
    pictures: Path | str,
    root: Path | str,
    category: str = "mine",
    *,
    hold_out: float = 0.3,
    leave_out: Collection[str] = (),
    seed: int = 0,
) -> Path:
    """Copy a folder of good pictures into MVTec AD's layout, some of them held out.

    They become ``ROOT/<category>/train/good`` and, those held out at random,
    ``ROOT/<category>/test/good``, each under its own name and byte for byte. Pictures of damage,
    if there are any, belong into ``ROOT/<category>/test/<defect>``, with a mask each in
    ``ROOT/<category>/ground_truth/<defect>``.

    Args:
        pictures: A folder of good pictures.
        root: Made if it is missing.
        category: The name of the new category's folder; it must not exist yet.
        hold_out: The share of pictures that training does not see, in (0, 1).
        leave_out: Names of files to copy nowhere, such as near duplicates: a picture in
            training and its twin among those held out make a detector look better than it is.
        seed: Fixes which are held out.

    Returns:
        The root, for :class:`~fastflow_utils.data.mvtec.MVTecAD`.

    Raises:
        FastFlowError: There are fewer than three pictures, a name in ``leave_out`` is not there,
            the share or the seed is out of range, or the category's folder exists.

    Example:
        >>> import tempfile
        >>> from fastflow_utils.data.mvtec import MVTecAD
        >>> from fastflow_utils.data.sample_set import make
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = make(folder, ["screw"], size=64, train=10, good=0, per_defect=0)
        ...     root = arrange(Path(folder) / "screw" / "train" / "good", folder)
        ...     len(MVTecAD(root, "mine", "train")), len(MVTecAD(root, "mine", "test"))
        (7, 3)
    """
    files, home = image_files(pictures), Path(root).expanduser() / category
    if unknown := set(leave_out) - {file.name for file in files}:
        raise FastFlowError(f"no picture {min(unknown)!r} in {pictures} to leave out")
    files = [file for file in files if file.name not in leave_out]
    if len(files) < 3:
        raise FastFlowError(
            f"{len(files)} pictures of {pictures} to arrange: expected at least three, two to "
            "learn from and one to hold out"
        )
    if not 0 < hold_out < 1:
        raise FastFlowError(f"hold_out={hold_out}: expected a share between 0 and 1")
    check_seed(seed)
    if home.exists():
        raise FastFlowError(f"{home} exists already: delete it or choose another category's name")
    count = min(max(1, round(hold_out * len(files))), len(files) - 2)
    held_out = set(np.random.default_rng(seed).permutation(len(files))[:count].tolist())
    for number, file in enumerate(files):
        folder = home / ("test" if number in held_out else "train") / "good"
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, folder / file.name)
    return home.parent


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
        ...     print(len(image_files(good)), *sorted(path.name for path in new.iterdir()))
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
