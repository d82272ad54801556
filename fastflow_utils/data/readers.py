"""Data in the layouts that people have them in, found by looking: see :data:`LAYOUTS`.

A reader turns a category's folder, or a table, into a
:class:`~fastflow_utils.data.listing.Listing` of all its pictures. What it decides on the way
stands in the listing's notes, what it leaves out in ``unread``: nothing is dropped in silence.
"""

import difflib
import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from fastflow_utils.data.finding import is_result
from fastflow_utils.data.images import image_files, is_visible
from fastflow_utils.data.listing import (
    GOOD,
    MVTEC_AD,
    NO_SPLIT,
    Item,
    Listing,
    Split,
    first_few,
    plain_path,
)
from fastflow_utils.data.masks import ENDING, find_masks, read_mask, the_one
from fastflow_utils.data.rows import header, items_of_table, items_of_visa
from fastflow_utils.errors import FastFlowError

__all__ = [
    "LAYOUTS",
    "Layout",
    "below",
    "categories",
    "category_folder",
    "from_folders",
    "from_table",
    "listing",
    "visible_folders",
]

FOLDERS, TABLE, KOLEKTOR = "folders", "table", "KolektorSDD"
GOOD_NAMES = {GOOD, "ok", "normal"}
BAD_NAMES = {"bad", "ko", "ng", "nok", "defect", "defects", "defective", "anomaly", "anomalies"}
MASK_NAMES = {"masks", "mask", "ground_truth", "gt", "labels"}
NOT_GOOD = BAD_NAMES | MASK_NAMES | {"test", "test_public"}
VALIDATION = ("validation", "val")
EVERY = 5  # without a split, this share of the good pictures is kept for the test
NO_PICTURE = {".txt", ".md", ".csv", ".json", ".yaml", ".yml", ".xml", ".html", ".pdf", ".log"}
NO_PICTURE |= {".db", ".ini", ".url", ".sha256", ".md5"}


# Files and folders ------------------------------------------------------------------------------


def visible_folders(parent: Path) -> list[Path]:
    """Return the visible folders in a folder, sorted by name; none where there is none."""
    if not parent.is_dir():
        return []
    folders = (path for path in parent.iterdir() if path.is_dir() and _is_own(path))
    return sorted(folders, key=lambda path: path.name)


def _is_own(path: Path) -> bool:
    return is_visible(path) and path.name != "__MACOSX"  # macOS' notes on files in an archive


def below(folder: Path) -> list[Path]:
    """Every picture in a folder and its subfolders, sorted.

    Hidden ones are left out, and what our own commands have written there.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for name in ("b.png", "2024/a.png", ".trash/c.png"):
        ...         file = Path(folder, name)
        ...         file.parent.mkdir(exist_ok=True)
        ...         file.touch()
        ...     [path.name for path in below(Path(folder))]
        ['a.png', 'b.png']
    """
    found: list[Path] = []
    seen: set[str] = set()  # a link may lead back
    for place, names, _ in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in seen or is_result(Path(real)):
            names[:] = []
            continue
        names[:] = [name for name in names if _is_own(Path(name))]
        found += image_files(place)
        seen.add(real)
    return sorted(found)


def _unread(folder: Path, used: Collection[Path], expected: Collection[Path] = ()) -> list[Path]:
    """What lies below a folder and is not used: whole folders, and files but for texts.

    Args:
        folder: Where to look.
        used: Pictures and masks.
        expected: Folders that may be empty.
    """
    alive = {parent for path in used for parent in path.parents} | set(expected)
    found: list[Path] = []
    for path in sorted(path for path in folder.iterdir() if _is_own(path)):
        if path.is_dir():
            found += _unread(path, used, expected) if path in alive else [path]
        elif path not in used and path.suffix.lower() not in NO_PICTURE:
            found += [path] * (path.stem.lower() not in ("license", "readme"))
    return found


def _is_good(name: str) -> bool:
    return name.lower() in GOOD_NAMES


def _with_masks(
    folder: Path,
    split: Split,
    defect: str,
    truth: Path | None = None,
    without: Sequence[Path | None] = (),
) -> list[Item]:
    """Every picture below a folder, with the masks that lie beside it or in ``truth``.

    There they lie in the same subfolders, or in none. What lies below ``without`` is left out.
    """
    others = {place.resolve() for place in without if place is not None}
    files = [file for file in below(folder) if not others & set(file.resolve().parents)]
    by_stem = {(file.parent, file.stem): file for file in files}
    masks: dict[Path, list[tuple[Path, ...]]] = defaultdict(list)
    for file in files:
        picture = by_stem.get((file.parent, ENDING.sub("", file.stem)), file)
        if picture != file and ENDING.search(file.stem):
            masks[picture].append((file,))
    beside = {mask for groups in masks.values() for group in groups for mask in group}
    pictures = [file for file in files if file not in beside]
    for parent, group in groupby(pictures, key=lambda path: path.parent):
        if truth is not None:
            place = truth / parent.relative_to(folder)
            for picture, some in find_masks(group, place if place.is_dir() else truth).items():
                masks[picture].append(some)
    return [Item(path, split, defect, the_one(path, masks[path])) for path in pictures]


def _listing(
    layout: str,
    root: Path,
    category: str,
    folder: Path,
    items: Iterable[Item],
    notes: Sequence[str] = (),
    unread: Sequence[Path] = (),
) -> Listing:
    """Sort the items, and say what is true of any layout."""
    found = Listing(
        layout,
        root,
        category,
        tuple(sorted(items, key=lambda item: (item.split != "train", item.defect, item.path))),
        unread=tuple(unread),
        home=folder,
    )
    owners: dict[Path, Path] = {}
    for item in found.items:
        for mask in item.masks:
            if (other := owners.setdefault(mask, item.path)) != item.path:
                raise FastFlowError(
                    f"{mask} may be the mask of {other} and of {item.path}: give each its own"
                )
    told = list(notes)
    beside = [
        mask
        for item in found.items
        for mask in item.masks[:1]
        if mask.parent == item.path.parent and ENDING.search(mask.stem)
    ]
    if beside and layout not in (TABLE, KOLEKTOR):
        told.append(
            f"{len(beside)} files beside pictures are taken for their masks, by their names, "
            f"such as {found.name(beside[0])}"
        )
    kinds = Counter(item.defect for item in found.items if item.label)
    if kinds and layout in (TABLE, FOLDERS):
        told.append(f"damage: {first_few((f'{kinds[kind]} {kind}' for kind in sorted(kinds)), 9)}")
    lacking = [item.path for item in found.items if item.label and not item.masks]
    if lacking:
        count = sum(item.label for item in found.items)
        some = "the" if len(lacking) == count else f"{len(lacking)} of the"
        told.append(
            f"{some} {count} anomalous pictures have no mask, such as {found.name(lacking[0])}: "
            "images are judged, pixels are not"
        )
    if unread:
        told.append(f"not read: {first_few(map(found.name, unread))}")
    return replace(found, notes=tuple(told))


def _kept_for_test(items: Sequence[Item]) -> tuple[list[Item], str]:
    """Split what has no split: every fifth good picture, and every other one, is for the test."""
    good = sorted((item for item in items if not item.label), key=lambda item: item.path)
    kept = good[EVERY - 1 :: EVERY]
    chosen = {item.path for item in kept} | {item.path for item in items if item.label}
    split = [item._replace(split="test" if item.path in chosen else "train") for item in items]
    note = f"{NO_SPLIT}: every fifth good picture, {len(kept)} of {len(good)}, is for the"
    return split, f"{note} test"


# MVTec AD and what is like it -------------------------------------------------------------------


def _kind_of_tree(folder: Path) -> str | None:
    """Which of the layouts with the folders ``train`` and ``test`` this is."""
    test = {path.name for path in visible_folders(folder / "test")}
    if (folder / "test_public").is_dir():
        return "MVTec AD 2"
    if test & {"logical_anomalies", "structural_anomalies"}:
        return "MVTec LOCO AD"
    if "ko" in test and (folder / "train" / "ok").is_dir():
        return "BTAD"
    if (folder / "train").is_dir() or (folder / "test").is_dir():
        return MVTEC_AD
    return None


def _tree(layout: str, root: Path, category: str, folder: Path) -> Listing:
    public = layout == "MVTec AD 2"
    test = folder / ("test_public" if public else "test")
    truth = (test if public else folder) / "ground_truth"
    notes: list[str] = []
    items: list[Item] = []
    for kind in visible_folders(folder / "train"):
        items += _with_masks(kind, "train", GOOD if _is_good(kind.name) else kind.name)
    for kind in [kind for name in VALIDATION for kind in visible_folders(folder / name)]:
        if _is_good(kind.name):
            more = _with_masks(kind, "train", GOOD)
            items += more
            notes.append(f"{len(more)} pictures of {kind.parent.name} are learnt from, too")
    for kind in visible_folders(test):
        if kind != truth:
            defect = GOOD if _is_good(kind.name) else kind.name
            items += _with_masks(kind, "test", defect, truth / kind.name)
    if any(item.label and item.masks for item in items):  # then each is to have one
        items = [
            item._replace(masks=(_expected_mask(item.path, test, truth),))
            if item.split == "test" and item.label and not item.masks
            else item
            for item in items
        ]
    kinds = [*visible_folders(folder / "train"), *visible_folders(test)]
    for name in sorted({kind.name for kind in kinds if _is_good(kind.name)} - {GOOD}):
        notes.append(f"pictures in {name} count as good")
    expected = [folder / "train", folder / "train" / GOOD, test]
    unread = _unread(folder, _used(items), expected)
    private = [folder / name for name in ("test_private", "test_private_mixed")]
    if public and (left := [path for path in private if path in unread]):
        unread = [path for path in unread if path not in left]
        notes.append(f"{first_few(path.name for path in left)}: without labels, not read")
    if layout == "MVTec LOCO AD":
        notes.append("the saturation of LOCO's own metric, sPRO, is not used: a mask counts whole")
    return _listing(layout, root, category, folder, items, notes, unread)


def _expected_mask(image: Path, test: Path, truth: Path) -> Path:
    place = truth / image.relative_to(test)
    return place.with_name(f"{image.stem}_mask.png")


def _used(items: Iterable[Item]) -> set[Path]:
    return {path for item in items for path in (item.path, *item.masks)}


# Other layouts ----------------------------------------------------------------------------------


def _visa(root: Path, category: str, folder: Path) -> Listing:
    table = folder.parent / "split_csv" / "1cls.csv"
    if table.is_file() and (items := items_of_visa(table, category)):
        notes = [f"split as in {table.relative_to(folder.parent).as_posix()}"]
    else:
        data = folder / "Data"
        normal = _with_masks(data / "Images" / "Normal", "train", GOOD)
        anomalous = _with_masks(
            data / "Images" / "Anomaly", "test", "anomaly", data / "Masks" / "Anomaly"
        )
        items, note = _kept_for_test([*normal, *anomalous])
        notes = [f"{note} (the official split is split_csv/1cls.csv beside the folder)"]
    return _listing("VisA", root, category, folder, items, notes, _unread(folder, _used(items)))


def _is_kolektor(folder: Path) -> bool:
    return any(
        re.fullmatch(r"kos\d+", part.name) and any(part.glob("*_label.*"))
        for part in visible_folders(folder)
    )


def _kolektor(root: Path, category: str, folder: Path) -> Listing:
    parts = [part for part in visible_folders(folder) if re.fullmatch(r"kos\d+", part.name)]
    kept = set(parts[EVERY - 1 :: EVERY])
    items = [
        item
        for part in parts
        for item in _with_masks(part, "test" if part in kept else "train", GOOD)
    ]
    if lacking := [item.path for item in items if not item.masks]:
        raise FastFlowError(
            f"{lacking[0]} has no label beside it: expected {lacking[0].stem}_label.bmp"
        )
    with ThreadPoolExecutor() as pool:  # black labels are of good pictures
        damaged = pool.map(lambda item: bool(read_mask(item.masks).any()), items)
        items = [
            item._replace(split="test", defect="bad") if is_bad else item
            for item, is_bad in zip(items, damaged, strict=True)
        ]
    note = f"{NO_SPLIT}: every fifth folder, {len(kept)} of {len(parts)}, and all damage "
    return _listing(
        KOLEKTOR, root, category, folder, items, [note + "are for the test"],
        _unread(folder, _used(items)),
    )  # fmt: skip


def from_table(file: Path | str) -> Listing:
    """Read a table of pictures: CSV with the columns path, label and, if you like, split and mask.

    Paths are relative to the table's folder; commas or semicolons separate, the text is UTF-8.
    A label is good (ok, normal, 0), or the kind of damage (1 is "bad"). A split is train, test or
    validation, whose good pictures are learnt from; without the column, every fifth good picture
    and all damage are for the test.

    Raises:
        FastFlowError: The table cannot be read, or rows of it are wrong: each with its line.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for name in ("a.png", "b.png"):
        ...         Path(folder, name).touch()
        ...     table = Path(folder, "nuts.csv")
        ...     _ = table.write_text("path;label\\na.png;good\\nb.png;scratch\\n")
        ...     found = from_table(table)
        >>> found.category, [(item.path.name, item.split, item.defect) for item in found.items]
        ('nuts', [('a.png', 'train', 'good'), ('b.png', 'test', 'scratch')])
    """
    file = Path(file).expanduser()
    return _table(file, file.stem, file)


def _table(root: Path, category: str, file: Path) -> Listing:
    items, notes, has_split = items_of_table(file)
    if not has_split:
        items, note = _kept_for_test(items)
        notes.append(note)
    # A table chooses: what it leaves out is told, but no mistake.
    left = len(set(below(file.parent)) - _used(items))
    if left:
        notes.append(f"{left} pictures in the table's folder are not in it")
    folder = file.parent
    if any(not plain_path(item.path).is_relative_to(plain_path(folder)) for item in items):
        folder = Path(os.path.commonpath([plain_path(item.path).parent for item in items]))
    return _listing(TABLE, root, category, folder, items, notes)


def _tables_in(folder: Path) -> list[Path]:
    """The tables of pictures in a folder."""
    if not folder.is_dir():
        return []
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() == ".csv")
    return [file for file in files if {"path", "label"} <= set(header(file))]


def _table_in(root: Path, category: str, folder: Path) -> Listing:
    file, *more = _tables_in(folder)
    if more:
        raise FastFlowError(f"{folder} has {len(more) + 1} tables of pictures: give one, {file}")
    return _table(root, category, file)


def from_folders(
    good: Path | str, bad: Path | str | None = None, masks: Path | str | None = None
) -> Listing:
    """List pictures that lie in plain folders, subfolders included.

    Without bad pictures, all good ones are to learn from. With them, every fifth good one is
    kept for the test.

    Args:
        good: The folder of good pictures.
        bad: A folder of damaged ones; a subfolder's name is the kind of damage, else "bad".
        masks: A folder of masks, by the usual names, in the same subfolders or in none.

    Raises:
        FastFlowError: A folder is missing or holds no picture, the good ones hold a folder whose
            name says otherwise, or no mask fits.

    Example:
        >>> import tempfile
        >>> from fastflow_utils.data.sample_set import make
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = make(folder, ["screw"], size=64, train=5, good=0, per_defect=1)
        ...     screw = Path(folder, "screw")
        ...     found = from_folders(
        ...         screw / "train/good", screw / "test", screw / "ground_truth"
        ...     )
        >>> found.category, len(found.of("train")), len(found.of("test")), found.has_masks
        ('screw', 4, 4, True)
    """
    good = Path(good).expanduser()
    bad = None if bad is None else Path(bad).expanduser()
    masks = None if masks is None else Path(masks).expanduser()
    for folder in (good, bad, masks):
        if folder is not None and not folder.is_dir():
            raise FastFlowError(f"there is no folder {folder}: name one that holds pictures")
    if masks is not None and bad is None:
        raise FastFlowError(f"masks in {masks} without bad pictures: say where those are")
    if bad is not None and bad.resolve() in (good.resolve(), *good.resolve().parents):
        raise FastFlowError(
            f"the good pictures in {good} lie in the folder of bad ones, {bad}: give each its own"
        )
    root = plain_path(good)
    while _is_good(root.name) or root.name == "train":  # which say nothing of what it shows
        root = root.parent
    items, notes = _plain(good, bad, masks)
    unread = [
        path for folder in (good, bad, masks) if folder for path in _unread(folder, _used(items))
    ]
    return _listing(FOLDERS, root, root.name, root, items, notes, list(dict.fromkeys(unread)))


def _plain(good: Path, bad: Path | None, masks: Path | None) -> tuple[list[Item], list[str]]:
    """The pictures of plain folders, and notes on what was decided."""
    own = _with_masks(good, "train", GOOD, without=[bad, masks])
    if not own:
        raise FastFlowError(f"no good pictures in {good}: expected PNG, JPEG, TIFF or the like")
    _require_good_names(good, own)
    if bad is None:
        return own, []
    damaged = _damaged(bad, masks)
    if not damaged:
        raise FastFlowError(f"no pictures in {bad}: expected PNG, JPEG, TIFF or the like")
    if masks is not None and not any(item.masks for item in damaged):
        raise FastFlowError(
            f"no mask in {masks} fits a picture in {bad}: the mask of {damaged[0].path.name} "
            f"is to be called {damaged[0].path.stem}_mask.png, or have the same name"
        )
    items, note = _kept_for_test([*own, *damaged])
    flat = {i.defect for i in damaged if masks in {m.parent for m in i.masks}} - {"bad"}
    sorted_in = any(masks in mask.parent.parents for i in damaged for mask in i.masks)
    if not (flat and sorted_in):
        return items, [note]
    mixed = f"masks of {first_few(sorted(flat))} are those directly in the folder of masks"
    return items, [note, f"{mixed}, while others have subfolders there"]


def _damaged(bad: Path, masks: Path | None) -> list[Item]:
    """The pictures of a folder of bad ones; a subfolder's name is the kind of damage."""
    items = []
    for item in _with_masks(bad, "test", "bad", masks, without=[masks]):
        above = item.path.parent.relative_to(bad).parts
        if good := [part for part in above if _is_good(part)]:
            raise FastFlowError(
                f"{item.path.parent}: {good[0]} lies among the bad pictures: move it away"
            )
        items.append(item._replace(defect=above[0] if above else "bad"))
    return items


def _require_good_names(good: Path, items: Sequence[Item]) -> None:
    """Refuse to learn from folders whose names say that they hold something else."""
    kind = _fitting(good)
    if kind and kind[0].name not in (FOLDERS, TABLE):
        raise FastFlowError(
            f"{good} is a category in the layout of {kind[0].name}: give its parent as the data "
            f"root (--data) and {good.resolve().name} as the category"
        )
    above = {item.path.relative_to(good).parent.parts for item in items}
    parents = {part for parts in above for part in parts}
    named = sorted(part for part in parents if _is_good(part))
    if named and not all(any(map(_is_good, parts)) for parts in above):
        raise FastFlowError(
            f"{good} has a folder {named[0]} and pictures elsewhere, which may be bad: give "
            "the folder of the good ones alone"
        )
    wrong = sorted(part for part in parents if part.lower() in NOT_GOOD)
    if wrong:
        raise FastFlowError(
            f"{good} is to hold good pictures and has a folder {wrong[0]}: give the folder of the "
            "good ones alone, and that of the bad ones as such"
        )


def _good_folders(folder: Path) -> list[Path]:
    return [path for path in visible_folders(folder) if _is_good(path.name)]


def _two_folders(root: Path, category: str, folder: Path) -> Listing:
    """``good``, ``bad`` and ``masks`` side by side, each by one of its usual names."""

    def one(names: Collection[str]) -> Path | None:
        found = [path for path in visible_folders(folder) if path.name.lower() in names]
        if len(found) > 1:
            raise FastFlowError(f"{found[0]} and {found[1]} may both be meant: leave one of them")
        return found[0] if found else None

    good = one(GOOD_NAMES)
    assert good is not None  # so it was found
    chosen = (good, one(BAD_NAMES), one(MASK_NAMES))
    items, notes = _plain(*chosen)
    unread = [path for path in _unread(folder, _used(items)) if path not in chosen]
    return _listing(FOLDERS, root, category, folder, items, notes, unread)


# Which layout it is -----------------------------------------------------------------------------


class Layout(NamedTuple):
    """One way to lay out a category."""

    name: str
    looks: str
    """What is to be found in the category's folder."""
    fits: Callable[[Path], bool]
    read: Callable[[Path, str, Path], Listing]
    """Of the data root, the category's name and its folder."""
    is_whole: bool = False
    """Whether a data root may be the one category itself."""


def _as_tree(name: str, looks: str) -> Layout:
    return Layout(
        name,
        looks,
        lambda folder: _kind_of_tree(folder) == name,
        lambda root, category, folder: _tree(name, root, category, folder),
    )


LAYOUTS = (
    _as_tree("MVTec AD 2", "train/good/, test_public/bad/, test_public/ground_truth/bad/"),
    _as_tree("MVTec LOCO AD", "train/good/, test/logical_anomalies/, ground_truth/..."),
    _as_tree("BTAD", "train/ok/, test/ok/, test/ko/, ground_truth/ko/"),
    _as_tree(MVTEC_AD, "train/good/, test/<defect>/, ground_truth/<defect>/"),
    Layout(
        "VisA",
        "Data/Images/Normal/, Data/Images/Anomaly/, Data/Masks/Anomaly/",
        lambda folder: (folder / "Data" / "Images").is_dir(),
        _visa,
    ),
    Layout(KOLEKTOR, "kos01/Part0.jpg, kos01/Part0_label.bmp", _is_kolektor, _kolektor, True),
    Layout(
        TABLE,
        "a CSV file with the columns path, label and, if you like, split and mask",
        lambda folder: bool(_tables_in(folder)),
        _table_in,
        True,
    ),
    Layout(
        FOLDERS,
        "good/, bad/, masks/",
        lambda folder: bool(_good_folders(folder)) and _kind_of_tree(folder) is None,
        _two_folders,
        True,
    ),
)
"""Every layout that is known; MPDD's is MVTec AD's."""


def _fitting(folder: Path) -> list[Layout]:
    return [layout for layout in LAYOUTS if layout.fits(folder)]


def categories(root: Path | str) -> list[str]:
    """The categories under a data root, sorted: the folders in a layout that is known.

    A table, and a folder that is one category by itself (good and bad pictures side by side, or
    KolektorSDD), has one, of its own name.

    Raises:
        FastFlowError: The root is missing, is a category's folder, or holds pictures in no
            layout.
    """
    root = Path(root).expanduser()
    if root.is_file() and root.suffix.lower() == ".csv":
        return [root.stem]
    if not root.is_dir():
        raise FastFlowError(
            f"there is no folder {root}: name one that holds your data (--data or FASTFLOW_DATA; "
            f"see data/README.md), or make the sample set there with `fastflow data sample {root}`"
        )
    kinds = {folder.name: _fitting(folder) for folder in visible_folders(root)}
    # A folder "good" is in many a place: it makes a category only where nothing else is one.
    if sure := [name for name, fit in kinds.items() if any(k.name != FOLDERS for k in fit)]:
        return sure
    here = root.resolve()
    if own := _fitting(root):
        if all(layout.is_whole for layout in own):
            return [here.name]
        raise FastFlowError(
            f"{root} is itself a category: give its parent {here.parent} as the data root "
            f"and {here.name} as the category"
        )
    names = [name for name, fit in kinds.items() if fit]
    if not names and (count := len(below(root))):
        raise FastFlowError(
            f"{root} is a plain folder of {count} pictures: if they are good ones, learn from "
            f"them by `fastflow run --good {root}`; the layouts that are known: {_known()}"
        )
    return names


def _known() -> str:
    return "; ".join(f"{layout.name} ({layout.looks})" for layout in LAYOUTS)


def category_folder(root: Path | str, category: str) -> Path:
    """The folder of a category; of a table, its file.

    Raises:
        FastFlowError: As for :func:`categories`, or the root has no such category.
    """
    root = Path(root).expanduser()
    names = categories(root)
    if category in names:
        inside = root / category
        return inside if inside.is_dir() and _fitting(inside) else root
    if category and (root / category).is_dir() and category == Path(category).name:
        if _fitting(root / category):
            raise FastFlowError(
                f"{root / category} holds plain folders, and other categories in {root} are in a "
                f"layout of their own: give it by itself, --data {root / category}"
            )
        held = first_few(sorted(path.name for path in (root / category).iterdir()), 5)
        raise FastFlowError(
            f"{root / category} is in no layout that is known: it has {held or 'nothing in it'}; "
            f"expected one of these: {_known()}"
        )
    near = difflib.get_close_matches(category.lower(), names, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise FastFlowError(
        f"no category {category!r} in {root}: {hint}it has {', '.join(names) or 'none at all'}"
    )


def listing(root: Path | str, category: str) -> Listing:
    """Every picture of a category, in whatever layout it lies there.

    Args:
        root: The data root: a folder of categories, a table, or a folder that is one category.
        category: One of ``categories(root)``.

    Raises:
        FastFlowError: As for :func:`category_folder`; two layouts fit; or the files do not say
            which mask is whose.

    Example:
        >>> import tempfile
        >>> from fastflow_utils.data.sample_set import make
        >>> with tempfile.TemporaryDirectory() as root:
        ...     _ = make(root, ["screw"], size=64, train=5, good=2, per_defect=1)
        ...     found = listing(root, "screw")
        >>> found.layout, len(found.of("train")), len(found.of("test")), found.unread
        ('MVTec AD', 5, 5, ())
    """
    root = Path(root).expanduser()
    folder = category_folder(root, category)
    if folder.is_file():
        return _table(root, category, folder)
    layout, *more = _fitting(folder)
    if more:
        raise FastFlowError(
            f"{folder} fits two layouts, {layout.name} ({layout.looks}) and {more[0].name} "
            f"({more[0].looks}): take away what belongs to one of them"
        )
    return layout.read(root, category, folder)
