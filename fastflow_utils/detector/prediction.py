"""A trained model and people's own files become scores, decisions and heat maps."""

import csv
import hashlib
import os
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from torch import Tensor

from fastflow_utils.data.images import find_images, open_image
from fastflow_utils.detector.detector import Detector
from fastflow_utils.detector.heat_maps import heat_picture
from fastflow_utils.errors import FastFlowError
from fastflow_utils.frontend import track

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Prediction", "predict", "predict_rows"]

NAME_BYTES = 200  # file systems allow 255, some less


class Prediction(NamedTuple):
    """One picture's row of ``scores.csv``."""

    path: str
    score: float
    decision: str
    heat_map: str


def predict(
    model: Detector, inputs: list[Path], output: Path | str
) -> tuple["pd.DataFrame", list[str]]:
    """Score images of any size; write ``scores.csv`` and one heat map for each image.

    A heat map is a PNG of its image's size, in colours that mean the same for every image: black
    is what one normal position in a hundred reaches, or less, yellow what at most one in ten
    thousand does, on every level. The model's pixel threshold is outlined in green, its image
    threshold makes the decision.

    ``scores.csv`` is UTF-8, and each row is written as soon as its heat map is: an interruption
    keeps what was done. A path that is not one line of UTF-8 (on Linux a name may be any bytes)
    is written as its URI, ``file:///...`` with ``%`` and two hex digits for each such byte:
    ``os.fsdecode(urllib.parse.unquote_to_bytes(uri.removeprefix("file://")))`` is the path.

    Args:
        model: Trained; a FastFlow is folded first.
        inputs: Image files, and folders that are searched for images, subfolders included.
        output: Made if it is missing; an earlier ``scores.csv`` in it is replaced.

    Returns:
        A table with the columns ``path``, ``score`` (in standard deviations of normal
        images, higher is more anomalous; PatchCore has its own), ``decision`` ("good" or
        "anomalous") and ``heat_map`` (the file's name in ``output/heat_maps``), and a
        message for each image that could not be read or has no finite score: it is left out, the
        others are done all the same.

    Raises:
        FastFlowError: If an input does not exist, there is no image at all, or the model was never
            calibrated.
    """
    import pandas as pd  # here: whoever wants the files only need not wait for it

    rows, problems = predict_rows(model, inputs, output)
    return pd.DataFrame(rows, columns=Prediction._fields), problems


def predict_rows(
    model: Detector, inputs: list[Path], output: Path | str
) -> tuple[list[Prediction], list[str]]:
    """Do what :func:`predict` does, and return the rows of its table."""
    heat_maps = Path(output) / "heat_maps"
    files = find_images(inputs, heat_maps)
    heat_maps.mkdir(parents=True, exist_ok=True)
    detector = model.for_inference()
    if not detector.image_threshold.isfinite():
        raise FastFlowError(
            "the model was never calibrated, so it would call every picture good: fit it, or "
            "calibrate it on normal images"
        )
    threshold = detector.pixel_threshold.cpu()
    rows, problems, taken = [], [], set[str]()
    with (Path(output) / "scores.csv").open("w", encoding="utf-8", newline="") as scores:
        table = csv.writer(scores, lineterminator="\n")
        table.writerow(Prediction._fields)
        for file, relative in track(files, "predicting"):
            try:
                anomaly_map, score, size = _judge(detector, file)
            except FastFlowError as error:
                problems.append(str(error))
                continue
            name = _free_name(relative, taken)
            heat_picture(anomaly_map, threshold, *size).save(heat_maps / name)
            decision = "anomalous" if score >= detector.image_threshold else "good"
            rows.append(Prediction(_text(file), score, decision, name))
            table.writerow(rows[-1])
            scores.flush()
    return rows, problems


def _judge(detector: Detector, file: Path) -> tuple[Tensor, float, tuple[int, int]]:
    """Return an image's anomaly map (1, h, w), its score, and the file's width and height."""
    image = open_image(file)
    try:
        anomaly_map, score = detector.predict(image)
    except FastFlowError as error:
        raise FastFlowError(f"{file}: {error}") from error
    return anomaly_map[0].cpu(), float(score), image.size


def _text(path: Path) -> str:
    """A path as one line that UTF-8 can hold, from which the path can be had again."""
    text = str(path)  # it never begins with file:///, so a URI is told from a path
    return text if _as_line(text) == text else path.absolute().as_uri()


def _as_line(text: str) -> str:
    """Leave out what one line of UTF-8 cannot hold: bytes that are no text, line ends."""
    return "".join(text.encode(errors="ignore").decode().splitlines())


def _free_name(relative: Path, taken: set[str]) -> str:
    """The name of a heat map: a/b.jpg becomes a_b.png, the next one of that name a_b-2.png.

    Where something must be left out, a digest tells it from others.
    """
    whole = "_".join([*relative.parts[:-1], relative.stem])
    kept = _as_line(whole).encode()[:NAME_BYTES].decode(errors="ignore")
    digest = hashlib.sha256(os.fsencode(relative)).hexdigest()[:12]
    name = kept if kept == whole else f"{kept}-{digest}"
    free, count = name, 1
    # Some file systems take names as equal that differ in case or in how accents are spelled.
    while (key := unicodedata.normalize("NFC", free).casefold()) in taken:
        count += 1
        free = f"{name}-{count}"
    taken.add(key)
    return f"{free}.png"
