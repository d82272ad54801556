"""A trained model and people's own files become scores, decisions, heat maps and regions.

torch comes with the model: to look at what is asked for, nobody waits for it.
"""

from __future__ import annotations

import csv
import hashlib
import json
import math
import os
import unicodedata
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastflow_utils.data.finding import (
    FOLDERS,
    MARK,
    PROGRAM,
    TABLES,
    Found,
    Inputs,
    find_images,
    is_output,
)
from fastflow_utils.data.images import frames_of, open_image, sha256
from fastflow_utils.data.listing import first_few
from fastflow_utils.data.sizes import squeezed
from fastflow_utils.detector.regions import Record, Region, find_regions, write_coco
from fastflow_utils.errors import FastFlowError
from fastflow_utils.frontend import track
from fastflow_utils.provenance import code_digest

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

    from fastflow_utils.detector.detector import Detector

__all__ = [
    "NOT_JUDGED",
    "SAVES",
    "Prediction",
    "Predictions",
    "check_request",
    "predict",
    "predict_rows",
]

NOT_JUDGED = "not judged"
"""The decision about a file that cannot be read, or whose score is not finite."""

SAVES = {"npy": "maps/{}.npy", "tiff": "maps/{}.tiff", "mask": "masks/{}.png"}
"""What can be saved beside the heat maps, and where."""

FILES = {"heat map": "heat_maps/{}.png", **SAVES, "record": "records/{}.json"}
CODE = ("data/*.py", "detector/*.py", "detector/baselines/*.py", "compute.py")
REGION_COLUMNS = ("path", "region", *Region._fields[:-1])  # polygons are for regions.json
NAME_BYTES = 200  # file systems allow 255, some less


class Prediction(NamedTuple):
    """One picture's row of ``scores.csv``."""

    path: str
    score: float | None
    decision: str
    heat_map: str | None
    threshold: float


class Predictions(NamedTuple):
    """What :func:`predict_rows` has done."""

    rows: list[Prediction]
    """Of every picture that was asked for."""
    problems: list[str]
    """Why a picture was not judged, one each."""
    kept: int
    """How many pictures an earlier call has judged."""
    notes: list[str]
    """What else there is to know."""


def predict(
    model: Detector,
    inputs: Inputs,
    output: Path | str,
    *,
    threshold: float | None = None,
    save: Collection[str] = (),
    again: bool = False,
) -> tuple[pd.DataFrame, list[str]]:
    """Score images of any size; write tables, and one heat map for each image.

    A heat map is a PNG of its image's size, in colours that mean the same for every image: black
    is what one normal position in a hundred reaches, or less, yellow what at most one in ten
    thousand does, on every level. The model's pixel threshold is outlined in green, its image
    threshold makes the decision.

    In ``output`` there are then

    - ``scores.csv``, the table that is returned;
    - ``heat_maps/``, ``maps/`` and ``masks/``, a picture's files of the same name in each;
    - ``regions.csv``, each connected region at or above the pixel threshold: the picture's path,
      the region's number from 1, and all of :class:`~fastflow_utils.detector.regions.Region` but
      its polygon, in pixels of the picture;
    - ``regions.json``, the same with polygons, in COCO's format;
    - ``records/`` and ``predict.json``, by which a later call knows what is done.

    The tables are UTF-8, and each picture's rows are written as soon as its files are. **A call
    with the same output goes on where an earlier one ended**: what the same model has judged is
    not computed again, unless the picture's file has changed, or its heat map or a file that
    ``save`` asks for is missing or empty. Another threshold needs no computation at all. Of a
    picture that can no longer be judged, nothing is left.

    A path that is not one line of UTF-8 (on Linux a name may be any bytes) is written as its URI,
    ``file:///...`` with ``%`` and two hex digits for each such byte:
    ``os.fsdecode(urllib.parse.unquote_to_bytes(uri.removeprefix("file://")))`` is the path.

    Args:
        model: Trained; a FastFlow is folded first.
        inputs: Image files, and folders that are searched for images, as
            :func:`~fastflow_utils.data.finding.find_images` does.
        output: Made if it is missing.
        threshold: A score from here on means "anomalous". Default: the model's own.
        save: Any of "npy", the map (H, W) as float32, at its own resolution; "tiff", the same at
            the picture's size; "mask", 0 and 255, what is outlined in the heat map.
        again: Remove what an earlier call has written into ``output``, and compute all of it.

    Returns:
        A table with the columns ``path``, ``score`` (in standard deviations of normal
        images, higher is more anomalous; PatchCore has its own), ``decision`` ("good",
        "anomalous", or "not judged" where the image could not be read or has no finite score),
        ``heat_map`` (the file's name in ``output/heat_maps``) and ``threshold``; and a message
        for each image that was not judged: the others are done all the same. What else is to be
        known, such as files that are no images, is a warning.

    Raises:
        FastFlowError: If an input does not exist, there is no image at all, an option is none of
            these, the model was never calibrated, or the output is another model's or another
            program's.
    """
    import pandas as pd  # here: whoever wants the files only need not wait for it

    done = predict_rows(model, inputs, output, threshold=threshold, save=save, again=again)
    for note in done.notes:
        warnings.warn(note, stacklevel=2)
    return pd.DataFrame(done.rows, columns=Prediction._fields), done.problems


def predict_rows(
    model: Detector,
    inputs: Inputs,
    output: Path | str,
    *,
    threshold: float | None = None,
    save: Collection[str] = (),
    again: bool = False,
) -> Predictions:
    """Do what :func:`predict` does, and return the rows of its table."""
    output = Path(output)
    pictures, passed_over = check_request(inputs, output, threshold, save)
    detector = model.for_inference()
    if not detector.image_threshold.isfinite():
        raise FastFlowError(
            "the model was never calibrated, so it would call every picture good: fit it, or "
            "calibrate it on normal images"
        )
    limit = float(detector.image_threshold) if threshold is None else threshold
    _begin(
        output, {"program": PROGRAM, "model": _digest(model), "code": code_digest(*CODE)}, again
    )

    stems = sorted(file.stem for file in (output / "records").glob("*.json"))
    names = {record.path: name for name in stems if (record := _record(output, name))}
    taken = set(map(_key, names.values()))
    rows, problems, judged, kept = list[Prediction](), list[str](), list[str](), 0
    sizes = Counter[tuple[int, int]]()
    several: list[str] = []
    with (
        _table(output / "scores.csv", Prediction._fields) as write_scores,
        _table(output / "regions.csv", REGION_COLUMNS) as write_regions,
    ):
        for file, relative in track(pictures, "predicting"):
            path = _text(file)
            name = names.get(path)
            try:
                content = _content(file)
                record = _kept(output, name, content, save) if name else None
                kept += record is not None
                if name is None or record is None:
                    anomaly_map, record = _judge(detector, file, content)
                    name = name or _free_name(relative, taken)
                    _write(output, name, record, anomaly_map, detector.pixel_threshold, save)
            except FastFlowError as error:
                if name is not None:
                    _remove(output, name)  # of what the picture was before
                problems.append(str(error))
                rows.append(Prediction(path, None, NOT_JUDGED, None, limit))
            else:
                judged.append(name)
                sizes[record.height, record.width] += 1
                several += [file.name] * (frames_of(file) > 1)
                decision = "anomalous" if record.score >= limit else "good"
                rows.append(Prediction(path, record.score, decision, f"{name}.png", limit))
                write_regions(
                    (path, number, *region[:-1]) for number, region in enumerate(record.regions, 1)
                )
            write_scores(rows[-1:])
    with _replacing(output / "regions.json") as part, part.open("w", encoding="utf-8") as opened:
        write_coco(opened, lambda: filter(None, (_record(output, name) for name in judged)))
    others = len(names.keys() - {row.path for row in rows})
    changed = squeezed(sizes, detector.image_size)
    notes = [*_about(passed_over), *changed, *_about_others(others)]
    if several:
        notes.append(f"several pages or frames, of which the first is read: {first_few(several)}")
    return Predictions(rows, problems, kept, notes)


def check_request(
    inputs: Inputs,
    output: Path | str,
    threshold: float | None = None,
    save: Collection[str] = (),
) -> Found:
    """Return the pictures that :func:`predict` would judge; refuse what it would.

    Raises:
        FastFlowError: As there, of all that can be told without the model.
    """
    if threshold is not None and not math.isfinite(threshold):
        raise FastFlowError(f"threshold {threshold}: expected a finite number, of a score's scale")
    if unknown := [one for one in save if one not in SAVES]:
        raise FastFlowError(f"save {', '.join(unknown)}: expected any of {', '.join(SAVES)}")
    if not is_output(Path(output)):
        there = [Path(output, name) for name in (MARK, *FOLDERS, *TABLES)]
        foreign = [place.name for place in there if place.is_file() or _holds_something(place)]
        if foreign:
            raise FastFlowError(
                f"'{output}' holds {', '.join(foreign)}, not by this version of {PROGRAM}: it "
                "would be overwritten; name another output folder"
            )
    return find_images(inputs)


def _holds_something(place: Path) -> bool:
    return place.is_dir() and any(place.iterdir())


# The output folder ------------------------------------------------------------------------------


def _begin(output: Path, ours: dict[str, str], again: bool) -> None:
    """Make the folder what ``ours`` says, or go on with it; refuse what is of another model."""
    if is_output(output):
        theirs = json.loads((output / MARK).read_bytes())
        if not again and theirs != ours:
            whose = "another model" if theirs.get("model") != ours["model"] else "another version"
            raise FastFlowError(
                f"'{output}' holds what {whose} has judged: name another output folder, or "
                "start anew with --again (in Python, again=True), which removes it"
            )
        if again:
            for file in sorted((output / "records").glob("*.json")):
                _remove(output, file.stem)
    for folder in FOLDERS:
        (output / folder).mkdir(parents=True, exist_ok=True)
    _write_json(output / MARK, ours)
    (output / "regions.json").unlink(missing_ok=True)  # until it is of all pictures again


def _digest(model: Detector) -> str:
    """Return a sha256 of all that decides what a model says of a picture."""
    import torch

    try:
        own = model.settings()
    except FastFlowError:  # a folded flow has none: its weights say all
        own = {"precision": getattr(model, "precision", None)}
    backbone = model.backbone
    options = [
        *(type(model).__name__, own),
        *(model.smoothing, model.top, model.windows, model.white),
        *(backbone.name, backbone.layers, backbone.image_size, backbone.upright),
    ]
    digest = hashlib.sha256(json.dumps(options, default=asdict).encode())
    for name, value in sorted(model.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def _record(output: Path, name: str) -> Record | None:
    """Return the record of that name; what is damaged is not there."""
    try:
        values = json.loads((output / FILES["record"].format(name)).read_bytes())
        regions = [Region(*region) for region in values.pop("regions")]
        return Record(**values, regions=regions)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _remove(output: Path, name: str) -> None:
    """Remove all files of a picture."""
    for place in FILES.values():
        (output / place.format(name)).unlink(missing_ok=True)


def _kept(output: Path, name: str, content: str, save: Collection[str]) -> Record | None:
    """Return the record of a picture that need not be judged again."""
    wanted = [output / FILES[kind].format(name) for kind in ("heat map", *save)]
    record = _record(output, name)
    same = record is not None and record.sha256 == content
    return record if same and all(map(_is_written, wanted)) else None


def _is_written(file: Path) -> bool:
    return file.is_file() and file.stat().st_size > 0


def _write(
    output: Path,
    name: str,
    record: Record,
    anomaly_map: Tensor,
    threshold: Tensor,
    save: Collection[str],
) -> None:
    """Write a picture's files; the record comes last and so says that all of them are there."""
    from fastflow_utils.detector.heat_maps import heat_picture, map_picture, mask_picture

    size, limit = (record.width, record.height), threshold.cpu()
    files = {kind: output / place.format(name) for kind, place in FILES.items()}
    before = _record(output, name)
    files["record"].unlink(missing_ok=True)
    if before is None or before.sha256 != record.sha256:
        for kind in SAVES:  # of what the picture was before
            files[kind].unlink(missing_ok=True)
    heat_picture(anomaly_map, limit, *size).save(files["heat map"])
    if "npy" in save:
        np.save(files["npy"], anomaly_map[0].numpy())
    if "tiff" in save:
        map_picture(anomaly_map, *size).save(files["tiff"])
    if "mask" in save:
        mask_picture(anomaly_map, limit, *size).save(files["mask"])
    _write_json(files["record"], asdict(record))


def _write_json(file: Path, values: dict[str, Any]) -> None:
    with _replacing(file) as part:
        part.write_text(json.dumps(values) + "\n", encoding="utf-8")


@contextmanager
def _replacing(file: Path) -> Iterator[Path]:
    """Give a file to write that takes the place of another when it is whole."""
    part = file.with_suffix(".part")
    yield part
    part.replace(file)


@contextmanager
def _table(file: Path, columns: Sequence[str]) -> Iterator[Callable[[Iterable[Any]], None]]:
    """Begin a CSV file, and give a function that writes rows into it at once."""
    with file.open("w", encoding="utf-8", newline="") as opened:
        table = csv.writer(opened, lineterminator="\n")

        def write(rows: Iterable[Any]) -> None:
            table.writerows(rows)
            opened.flush()

        write([columns])
        yield write


# One picture ------------------------------------------------------------------------------------


def _content(file: Path) -> str:
    """Return the sha256 of a file."""
    try:
        return sha256(file)
    except OSError as error:
        raise FastFlowError(
            f"cannot read {file} ({error}): replace the file or remove it"
        ) from error


def _judge(detector: Detector, file: Path, content: str) -> tuple[Tensor, Record]:
    """Return an image's anomaly map (1, h, w), on the CPU, and what there is to be kept of it."""
    image = open_image(file)
    try:
        maps, score = detector.predict(image)
    except FastFlowError as error:
        raise FastFlowError(f"{file}: {error}") from error
    anomaly_map, size = maps[0].cpu(), image.size
    regions = find_regions(anomaly_map, float(detector.pixel_threshold), *size)
    return anomaly_map, Record(_text(file), content, float(score), *size, regions)


def _about(passed_over: Sequence[Path]) -> list[str]:
    if not passed_over:
        return []
    counts = Counter(file.suffix.lower() or "no suffix" for file in passed_over)
    suffixes = ", ".join(f"{count} {suffix}" for suffix, count in counts.most_common())
    more = f" and {len(passed_over) - 5} more" if len(passed_over) > 5 else ""
    return [
        f"passed over, no pictures by their names: {len(passed_over)} ({suffixes}): "
        f"{', '.join(map(str, passed_over[:5]))}{more}"
    ]


def _about_others(count: int) -> list[str]:
    if not count:
        return []
    return [
        f"judged by earlier calls and not asked for now: {count}; they are in no table until they "
        "are, and nothing of them is lost"
    ]


def _text(path: Path) -> str:
    """A path as one line that UTF-8 can hold, from which the path can be had again."""
    text = str(path)  # it never begins with file:///, so a URI is told from a path
    return text if _as_line(text) == text else path.absolute().as_uri()


def _as_line(text: str) -> str:
    """Leave out what one line of UTF-8 cannot hold: bytes that are no text, line ends."""
    return "".join(text.encode(errors="ignore").decode().splitlines())


def _free_name(relative: Path, taken: set[str]) -> str:
    """The name of a picture's files: a/b.jpg becomes a_b, the next one of that name a_b-2.

    Where something must be left out, a digest tells it from others.
    """
    whole = "_".join([*relative.parts[:-1], relative.stem])
    kept = _as_line(whole).encode()[:NAME_BYTES].decode(errors="ignore")
    digest = hashlib.sha256(os.fsencode(relative)).hexdigest()[:12]
    name = kept if kept == whole else f"{kept}-{digest}"
    free, count = name, 1
    # Some file systems take names as equal that differ in case or in how accents are spelled.
    while (key := _key(free)) in taken:
        count += 1
        free = f"{name}-{count}"
    taken.add(key)
    return free


def _key(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()
