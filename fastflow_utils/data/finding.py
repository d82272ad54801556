"""Which files below people's folders are pictures to be judged, and which are left alone."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias

from fastflow_utils.data.images import IMAGE_SUFFIXES, is_visible
from fastflow_utils.errors import FastFlowError

__all__ = [
    "FOLDERS",
    "MARK",
    "PROGRAM",
    "TABLES",
    "Found",
    "Inputs",
    "find_images",
    "is_output",
    "is_result",
]

PROGRAM = "fastflow predict"
MARK = "predict.json"
"""The file that says whose output folder it is: its "program" is :data:`PROGRAM`."""

FOLDERS = ("heat_maps", "maps", "masks", "records")
TABLES = ("scores.csv", "regions.csv", "regions.json")
"""What else may be in an output folder."""

RUN = ("figures", "model")
"""Folders in what ``fastflow run`` has written."""

LITTER = ("__macosx", "thumbs.db", "desktop.ini")  # no person made them

Inputs: TypeAlias = Path | str | Sequence[Path | str]
"""A picture, a folder, or several of them."""


class Found(NamedTuple):
    """What :func:`find_images` has found."""

    pictures: list[tuple[Path, Path]]
    """Each with its name relative to what was given, once, however often it was given."""
    passed_over: list[Path]
    """Files that are no pictures by their names."""


def find_images(inputs: Inputs) -> Found:
    """Return the pictures that were asked for; none is opened.

    A folder is searched, its own files first, then its subfolders, by their names. Hidden files
    and folders are left out, the litter of macOS and Windows, and what ``fastflow predict`` has
    made itself, wherever its output folder is. A file that is given by its name is a picture,
    whatever its suffix.

    Raises:
        FastFlowError: An input does not exist, or there is no picture at all.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for name in ("b.png", "a.JPG", "notes.txt", ".a.png"):
        ...         Path(folder, name).touch()
        ...     found = find_images(folder)
        >>> [str(name) for _, name in found.pictures], [file.name for file in found.passed_over]
        (['a.JPG', 'b.png'], ['notes.txt'])
    """
    if isinstance(inputs, Path | str):
        inputs = [inputs]
    pictures: dict[Path, tuple[Path, Path]] = {}
    passed_over: dict[Path, None] = {}
    for given in map(Path, inputs):
        if given.is_dir():
            for file in _files(given):
                if file.suffix.lower() in IMAGE_SUFFIXES:
                    pictures.setdefault(_place(file), (file, file.relative_to(given)))
                else:
                    passed_over[file] = None
        elif given.is_file():
            pictures.setdefault(_place(given), (given, Path(given.name)))
        else:
            raise FastFlowError(f"no file or folder '{given}': expected images or folders of them")
    if not pictures:
        raise FastFlowError(
            f"no images in {', '.join(map(str, inputs))}: expected PNG, JPEG, BMP, TIFF or WebP"
        )
    return Found(list(pictures.values()), list(passed_over))


def _place(file: Path) -> Path:
    """Return where a file lies, whatever way there was given; a link lies where it is itself."""
    return file.parent.resolve() / file.name


def is_output(folder: Path) -> bool:
    """Return whether ``fastflow predict`` has written its results into a folder."""
    try:
        return bool(json.loads((folder / MARK).read_bytes())["program"] == PROGRAM)
    except (OSError, ValueError, KeyError, TypeError):  # none, no JSON, another's
        return False


def is_result(path: Path) -> bool:
    """Return whether a file or folder was made by ``fastflow predict`` or ``fastflow run``.

    Heat maps and figures are no pictures of parts: neither to judge nor to learn from.
    """
    here = path.parent
    if path.name in (*FOLDERS, *TABLES, MARK):
        return is_output(here)
    is_run = path.name in RUN and (here / "model" / "config.json").is_file()
    return is_run and (here / "metrics.json").is_file()


def _files(folder: Path, above: tuple[Path, ...] = ()) -> Iterator[Path]:
    """Yield the files below a folder that a person put there."""
    here = folder.resolve()
    if here in above:  # a link to where it is: without an end
        return
    if is_result(here):
        return
    entries = sorted(
        entry
        for entry in folder.iterdir()
        if is_visible(entry)
        and entry.name.lower() not in LITTER
        and not is_result(here / entry.name)
    )
    # A link to nothing is neither file nor folder: reading it tells so.
    yield from (entry for entry in entries if entry.is_file() or _leads_nowhere(entry))
    for entry in entries:
        if entry.is_dir():
            yield from _files(entry, (*above, here))


def _leads_nowhere(entry: Path) -> bool:
    return entry.is_symlink() and not entry.exists()
