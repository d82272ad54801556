"""Tables of pictures: CSV files whose rows name a picture, its label, its split and its mask."""

import csv
import difflib
import io
from collections.abc import Iterator, Mapping
from pathlib import Path

from fastflow_utils.data.images import IMAGE_SUFFIXES
from fastflow_utils.data.listing import GOOD, Item, Split, first_few
from fastflow_utils.errors import FastFlowError

__all__ = ["header", "items_of_table", "items_of_visa"]

LONGEST = 100_000  # letters in a line of names; csv refuses a little more in one field
Row = tuple[int, dict[str, str]]  # the line's number, and what stands in it

LABELS = {"good": GOOD, "ok": GOOD, "normal": GOOD, "0": GOOD, "1": "bad"}
UNCLEAR = {"true", "false", "yes", "no", "none", "null", "nan"}
SPLITS: dict[str, Split] = {
    "train": "train",
    "validation": "train",
    "val": "train",
    "test": "test",
}


def header(file: Path) -> list[str]:
    """The names in a table's first line; none if there is no such file."""
    if not file.is_file():
        return []
    with file.open(encoding="utf-8-sig", errors="replace") as lines:
        first = lines.readline(LONGEST)
    return [
        name.strip().lower() for name in next(csv.reader([first], delimiter=_comma(first)), [])
    ]


def _comma(first: str) -> str:
    return ";" if first.count(";") > first.count(",") else ","


def _rows(file: Path) -> Iterator[Row]:
    """The rows of a table as people's programs write it."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise FastFlowError(f"cannot read the table {file}: {error}") from error
    except UnicodeDecodeError as error:
        raise FastFlowError(f"{file} is not UTF-8: save the table as CSV UTF-8") from error
    names = header(file)
    comma = _comma(text.partition("\n")[0])
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=comma, strict=True)
    try:
        next(lines, None)
        for values in lines:
            if not any(value.strip() for value in values):
                continue
            if len(values) != len(names):
                raise FastFlowError(
                    f"{file}, line {lines.line_num}: {len(values)} values under {len(names)} "
                    "names: give each row as many, and put one with commas in it between quotes"
                )
            yield lines.line_num, dict(zip(names, (v.strip() for v in values), strict=True))
    except csv.Error as error:
        raise FastFlowError(
            f"{file}, line {lines.line_num}: {error}; is a quote left open, here or above?"
        ) from error


def items_of_table(file: Path) -> tuple[list[Item], list[str], bool]:
    """Read a table with the columns path, label and, if there are, split and mask.

    Returns:
        The pictures; notes on what was decided; whether there is a split.

    Raises:
        FastFlowError: The table or rows of it are wrong; the first ones are named by their lines.
    """
    names, rows = header(file), list(_rows(file))
    if missing := [name for name in ("path", "label") if name not in names]:
        raise FastFlowError(
            f"{file} has no column {missing[0]}: expected path, label and, if you like, split and "
            f"mask, and it has {', '.join(names) or 'none'}"
        )
    if twice := [name for name in names if names.count(name) > 1]:
        raise FastFlowError(f"{file} has two columns {twice[0]!r}: leave one of them")
    has_split = any(row.get("split") for _, row in rows)
    items = _items(file, rows, has_split)
    notes = []
    if others := [name for name in names if name not in ("path", "label", "split", "mask")]:
        shown = first_few(name or "one without a name" for name in others)
        notes.append(f"columns of the table that are not read: {shown}")
    if count := sum(row.get("split", "").lower() in ("validation", "val") for _, row in rows):
        notes.append(f"{count} pictures of validation are learnt from, too")
    return items, notes, has_split


def items_of_visa(file: Path, category: str) -> list[Item]:
    """Read VisA's table of the splits, with the columns object, split, label, image, mask.

    Raises:
        FastFlowError: As for :func:`items_of_table`.
    """
    expected = {"object", "split", "label", "image", "mask"}
    if lacking := expected - set(header(file)):
        raise FastFlowError(f"{file} has no column {min(lacking)}: expected VisA's own table")
    rows = [
        (line, row | {"path": row["image"]})
        for line, row in _rows(file)
        if row["object"] == category
    ]
    return _items(file, rows, True, file.parent.parent)


def _items(file: Path, rows: list[Row], has_split: bool, folder: Path | None = None) -> list[Item]:
    """The pictures of all rows, or every row that is wrong."""
    items: list[Item] = []
    wrong: list[str] = []
    lines: dict[Path, int] = {}
    for line, row in rows:
        try:
            item = _item(row, folder or file.parent, has_split)
            first = lines.setdefault(item.path.resolve(), line)
            if first != line:
                raise ValueError(f"{row['path']} stands in line {first} already")
            items.append(item)
        except ValueError as error:
            wrong.append(f"line {line}: {error}")
    if not rows or wrong:
        told = "; ".join(wrong[:3]) or "it has no rows"
        more = f"; and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise FastFlowError(f"{file}: {told}{more}; correct the table")
    if all(item.label for item in items):
        labels = first_few(sorted({item.defect for item in items}))
        raise FastFlowError(
            f"{file} has no good picture, its labels are {labels}: call what is good 'good'"
        )
    return items


def _item(row: Mapping[str, str], folder: Path, has_split: bool) -> Item:
    """One row's picture; a ValueError says what is wrong."""
    path = _file(folder, row["path"], "picture")
    if path.suffix.lower() not in IMAGE_SUFFIXES:
        raise ValueError(f"{row['path']} is no picture that can be read")
    label = row["label"]
    defect = LABELS.get(label.lower(), label)
    if not defect or _is_number(defect) or not defect.isprintable() or defect.lower() in UNCLEAR:
        raise ValueError(f"label {label!r}: expected good, 0, 1 or the kind of damage")
    if defect != GOOD and difflib.get_close_matches(defect.lower(), [GOOD], cutoff=0.85):
        raise ValueError(f"label {label!r}: is it 'good'? It would be a kind of damage")
    split = row.get("split", "") if has_split else "train"
    if split.lower() not in SPLITS:
        raise ValueError(f"split {split!r}: expected train, validation or test")
    if has_split and SPLITS[split.lower()] == "train" and defect != GOOD:
        raise ValueError(f"label {label!r} in {split}: training sees good pictures only")
    masks = (_file(folder, row["mask"], "mask"),) if row.get("mask") else ()
    return Item(path, SPLITS[split.lower()], defect, masks)


def _file(folder: Path, text: str, what: str) -> Path:
    path = folder / text.replace("\\", "/")
    if not text or not path.is_file():
        raise ValueError(f"there is no {what} {text!r}")
    return path


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
