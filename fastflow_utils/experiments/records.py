"""The files that a run leaves: whole or not there, and read back with care."""

import json
import math
import os
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastflow_utils.errors import FastFlowError

if TYPE_CHECKING:
    from fastflow_utils.data.listing import Listing
    from fastflow_utils.detector.bootstrap import Replicates

__all__ = [
    "LISTING",
    "finished",
    "finished_below",
    "read_json",
    "read_listing",
    "read_replicates",
    "require_finished",
    "write_json",
    "write_listing",
    "write_replicates",
]

REPLICATES = "bootstrap.npz"
LISTING = "listing.json"


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Write a file that is whole or not there, whenever the process is killed.

    NaN is written as null: JSON has no other word for a number that is not there.
    """
    part = path.with_suffix(".part")
    part.write_text(json.dumps(_nan_as_null(values), indent=2, allow_nan=False) + "\n")
    part.replace(path)


def _nan_as_null(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _nan_as_null(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_nan_as_null(one) for one in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def read_json(path: Path) -> dict[str, Any] | None:
    """Return what :func:`write_json` has written, None if there is no such file.

    Raises:
        FastFlowError: If the file holds anything else.
    """
    if not path.is_file():
        return None
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise FastFlowError(f"{path} is not JSON: {error}") from error
    if not isinstance(values, dict):
        raise FastFlowError(f"{path} is no JSON object")
    return values


def write_replicates(output: Path, replicates: "Replicates") -> None:
    """Write every metric's values on the resamples of the test images into a run's folder."""
    import numpy as np  # here, as below: who reads metrics only does not wait for it

    arrays: dict[str, Any] = {name: each.astype("float32") for name, each in replicates.items()}
    np.savez_compressed(output / REPLICATES, **arrays)


def read_replicates(output: Path) -> "Replicates | None":
    """Return what :func:`write_replicates` has written, None for a run of before there were any.

    Raises:
        FastFlowError: If the file holds anything else.
    """
    import numpy as np

    file = output / REPLICATES
    if not file.is_file():
        return None
    try:
        with np.load(file) as arrays:
            return {name: arrays[name].astype(float) for name in arrays.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise FastFlowError(f"{file} holds no replicates: {error}; do the run again") from error


def write_listing(output: Path, found: "Listing") -> None:
    """Write which pictures a run is of, as paths relative to its folder.

    Where there are no such paths, from one drive of Windows to another, nothing is written.
    """

    def place(path: Path) -> str:
        return Path(os.path.relpath(path, output)).as_posix()

    with suppress(ValueError):
        items = [[place(i.path), i.split, i.defect, *map(place, i.masks)] for i in found.items]
        about = {"layout": found.layout, "category": found.category}
        places = {"root": place(found.root), "folder": place(found.folder)}
        write_json(output / LISTING, {**about, **places, "items": items})


def read_listing(output: Path) -> "Listing | None":
    """Return what :func:`write_listing` has written, None if there is none.

    Raises:
        FastFlowError: If the file holds anything else.
    """
    from fastflow_utils.data.listing import Item, Listing

    values = read_json(output / LISTING)
    if values is None:
        return None

    def path(place: str) -> Path:
        return Path(os.path.normpath(output / place))

    try:
        items = tuple(
            Item(path(place), split, defect, tuple(map(path, masks)))
            for place, split, defect, *masks in values["items"]
        )
        root, folder = path(values["root"]), path(values["folder"])
        return Listing(values["layout"], root, values["category"], items, home=folder)
    except (KeyError, TypeError, ValueError) as error:
        raise FastFlowError(f"{output / LISTING} is no listing: do the run again") from error


def finished(output: Path) -> dict[str, Any] | None:
    """Return the metrics that a finished run has left in its folder, None for any other."""
    with suppress(FastFlowError):
        return read_json(output / "metrics.json")
    return None


def require_finished(output: Path) -> dict[str, Any]:
    """Return the metrics of a finished run.

    Raises:
        FastFlowError: If there is none in this folder.
    """
    found = finished(output)
    if found is None:
        raise FastFlowError(
            f"no finished run in '{output}': expected metrics.json and model/, as "
            "'fastflow run --output DIR' leaves them in DIR"
        )
    return found


def finished_below(folder: Path) -> list[Path]:
    """Return the folders of all runs in a folder and below it.

    Raises:
        FastFlowError: If there is none.
    """
    found = sorted(file.parent for file in folder.rglob("metrics.json"))
    if not found:
        raise FastFlowError(
            f"no finished run in '{folder}' or below it: expected folders that 'fastflow run' or "
            "'fastflow reproduce' has made"
        )
    return found
