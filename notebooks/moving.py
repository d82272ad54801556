"""What live figures need beside their pictures: taken out of a notebook, and put back for a page.

A notebook is committed with pictures alone, so that it stays small; the data of its live figures
stand in `live/`, under the ids of their cells, with the digest of the code that made them.
"""

import json
from itertools import compress
from pathlib import Path
from typing import Any

from nbformat import NotebookNode

from fastflow_utils.course.live import MIME
from fastflow_utils.errors import FastFlowError

__all__ = ["Found", "beside", "give", "read", "take", "write"]

Found = dict[str, list[dict[str, Any] | None]]
"""For the id of a cell, the data of each of its outputs; None for a picture that is only that."""


def take(notebook: NotebookNode) -> Found:
    """Remove the data of the live figures from a notebook, and return them."""
    found: Found = {}
    for cell in notebook.cells:
        data = [output.get("data", {}).pop(MIME, None) for output in cell.get("outputs", [])]
        if any(data):
            found[cell.id] = data
    return found


def give(notebook: NotebookNode, found: Found) -> None:
    """Put back what :func:`take` has taken.

    Raises:
        FastFlowError: It is of other cells, or of other outputs.
    """
    cells = {cell.id: cell.get("outputs", []) for cell in notebook.cells}
    for name, live in found.items():
        outputs = cells.get(name, [])
        pictures = ["data" in output for output in outputs]
        if len(outputs) != len(live) or not all(compress(pictures, live)):
            raise FastFlowError(
                f"the live figures of cell {name} are of other outputs: execute the notebook again"
            )
        for output, data in zip(outputs, live, strict=True):
            if data:
                output.data[MIME] = data


def beside(notebook: Path) -> Path:
    """Return where the data of a committed notebook's live figures stand."""
    return notebook.parent / "live" / f"{notebook.stem}.json"


def write(path: Path, digest: str, found: Found) -> None:
    """Write the data of a notebook's live figures, or remove the file if it has none."""
    if not found:
        path.unlink(missing_ok=True)
        return
    path.parent.mkdir(exist_ok=True)
    text = json.dumps({"executed": digest, "cells": found}, separators=(",", ":"))
    path.write_text(text + "\n", encoding="utf-8")


def read(path: Path) -> tuple[str, Found]:
    """Return the digest and the data that :func:`write` has written; nothing without a file.

    Raises:
        FastFlowError: It is not what `write` writes.
    """
    if not path.is_file():
        return "", {}
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
        return held["executed"], held["cells"]
    except (ValueError, KeyError, TypeError) as error:
        raise FastFlowError(f"{path} is broken: execute its notebook again ({error!r})") from error
