"""What a data set is, whatever layout it lies in: pictures, each with split, defect and masks.

:mod:`~fastflow_utils.data.readers` finds them, :mod:`~fastflow_utils.data.mvtec` makes tensors.
"""

import hashlib
import os
import random
import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple

from fastflow_utils.compute import check_seed
from fastflow_utils.data.images import sha256
from fastflow_utils.errors import FastFlowError

__all__ = [
    "GOOD",
    "MVTEC_AD",
    "NO_SPLIT",
    "Item",
    "Listing",
    "Split",
    "first_few",
    "in_order",
    "plain_path",
]

Split = Literal["train", "test"]
GOOD = "good"
MVTEC_AD = "MVTec AD"
NO_SPLIT = "no split is given"  # how a note begins that says which pictures are the test


class Item(NamedTuple):
    """One picture of a data set."""

    path: Path
    split: Split
    defect: str
    """``good``, or the kind of damage."""
    masks: tuple[Path, ...] = ()
    """Files whose union says where it is anomalous; none where nobody says."""

    @property
    def label(self) -> int:
        """0 good, 1 anomalous."""
        return int(self.defect != GOOD)


@dataclass(frozen=True)
class Listing:
    """Every picture of one category.

    Attributes:
        layout: How it lies there: "MVTec AD", "VisA", "folders", "table", ...
        root: The data root, as given.
        category: Its name.
        items: Sorted by split, defect and file.
        notes: What was decided while reading it, for people.
        unread: Files and folders among the pictures that are none of the items.
        home: The folder that the pictures lie in, where it is not the root itself.

    Example:
        >>> bent = Item(Path("a.png"), "test", "bent")
        >>> found = Listing("folders", Path("parts"), "nut", (bent,))
        >>> [item.label for item in found.of("test")], found.of("train"), found.has_masks
        ([1], [], False)
    """

    layout: str
    root: Path
    category: str
    items: tuple[Item, ...]
    notes: tuple[str, ...] = ()
    unread: tuple[Path, ...] = ()
    home: Path | None = None

    def of(self, split: str) -> list[Item]:
        """The pictures of one split."""
        return [item for item in self.items if item.split == split]

    @property
    def folder(self) -> Path:
        """The folder that the pictures lie in."""
        return self.home or self.root

    @property
    def has_masks(self) -> bool:
        """Whether every anomalous picture has a mask: else nothing can be said of pixels."""
        return all(item.masks for item in self.items if item.label)

    @property
    def is_sample_set(self) -> bool:
        """Whether the pictures are our own renderings, however they were given."""
        folders = {item.path.parent.resolve() for item in self.items} | {self.folder}
        places = {place for folder in folders for place in (folder, *folder.parents)}
        return any((place / "sample_set.json").is_file() for place in places)

    def name(self, path: Path) -> str:
        """A file's name for people: below the category's folder, or with its own folder's name.

        It is never absolute: cards and tables, which are passed on, hold it.
        """
        path, folder = plain_path(path), plain_path(self.folder)
        inside = path.is_relative_to(folder)
        return (path.relative_to(folder) if inside else Path(*path.parts[1:][-2:])).as_posix()

    def without(self, names: Iterable[str]) -> "Listing":
        """Return this listing without the pictures of these names, as :meth:`name` has them.

        Raises:
            FastFlowError: There is no picture of such a name.
        """
        left_out = set(names)
        known = {self.name(item.path) for item in self.items}
        if unknown := left_out - known:
            raise FastFlowError(f"no picture '{min(unknown)}' in {self.folder} to leave out")
        kept = tuple(item for item in self.items if self.name(item.path) not in left_out)
        return replace(self, items=kept)

    def holding_out(self, share: float, seed: int = 0) -> "Listing":
        """Return this listing with some of the good pictures to learn from in the test split.

        Args:
            share: How many of them, in (0, 1); at least one is held out and two are learnt from.
            seed: Fixes which; they are drawn at random.

        Raises:
            FastFlowError: There are fewer than three, or share or seed is out of range.

        Example:
            >>> items = [Item(Path(f"{n}.png"), "train", "good") for n in range(10)]
            >>> found = Listing("folders", Path("."), "nut", tuple(items)).holding_out(0.4)
            >>> len(found.of("train")), len(found.of("test"))
            (6, 4)
        """
        train = self.of("train")
        if len(train) < 3:
            raise FastFlowError(
                f"{len(train)} good pictures in {self.folder}: expected at least three, two to "
                "learn from and one to hold out"
            )
        if not 0 < share < 1:
            raise FastFlowError(f"share={share}: expected a share between 0 and 1")
        count = min(max(1, round(share * len(train))), len(train) - 2)
        chosen = random.Random(check_seed(seed)).sample(train, count)
        held_out = {item.path for item in chosen}
        items = [i._replace(split="test") if i.path in held_out else i for i in self.items]
        items.sort(key=lambda item: item.split == "test")  # stable: the order within stays
        return replace(self, items=tuple(items))

    def digest(self) -> str:
        """Return one sha256 for all: where each file lies, its bytes, and what it is said to be.

        In MVTec AD's layout the place says what a file is, so it is that of the whole folder.

        Raises:
            FastFlowError: If there is no file.
        """
        if self.layout == MVTEC_AD:
            return _digest_of_folder(self.folder)
        files = list(dict.fromkeys(p for item in self.items for p in (item.path, *item.masks)))
        bytes_of = dict(zip(files, _digests(files), strict=True))
        lines = [
            " ".join((item.split, item.defect, *(f"{self._place(p)} {bytes_of[p]}" for p in both)))
            for item in self.items
            for both in [(item.path, *item.masks)]
        ]
        return _digest_of_lines(lines)

    def _place(self, path: Path) -> str:
        return Path(os.path.relpath(path, self.folder)).as_posix()


def _digest_of_folder(folder: Path) -> str:
    """Two have the same if and only if the same visible files lie at the same places below."""
    walked = os.walk(folder, followlinks=True)
    files = [Path(place, name).relative_to(folder) for place, _, names in walked for name in names]
    places = sorted(file for file in files if not any(p.startswith(".") for p in file.parts))
    if not places:
        raise FastFlowError(f"there is no file in {folder}: expected a category's folder")
    found = _digests([folder / place for place in places])
    return _digest_of_lines(
        f"{place.as_posix()} {own}" for place, own in zip(places, found, strict=True)
    )


def _digests(files: list[Path]) -> list[str]:
    with ThreadPoolExecutor() as pool:
        return list(pool.map(lambda file: sha256(file) if file.is_file() else "missing", files))


def _digest_of_lines(lines: Iterable[str]) -> str:
    # On Linux a name may be any bytes: those that are no UTF-8 count as they are.
    text = "".join(f"{line}\n" for line in lines)
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()


def plain_path(path: Path) -> Path:
    """Return an absolute path without ``..``; links stay what they are called."""
    return Path(os.path.abspath(path))  # noqa: PTH100  resolve() follows links


def in_order(name: str) -> tuple[list[str | int], str]:
    """Return a key that sorts names as people count.

    Example:
        >>> sorted(["IMG_10", "IMG_9", "IMG_8"], key=in_order)
        ['IMG_8', 'IMG_9', 'IMG_10']
    """
    parts = re.split(r"(\d+)", name)  # text and digits in turn, so that like meets like
    return [int(part) if at % 2 else part for at, part in enumerate(parts)], name


def first_few(names: Iterable[object], most: int = 3) -> str:
    """The first of many names, and how many more there are.

    Example:
        >>> first_few("abcde")
        'a, b, c and 2 more'
    """
    listed = [str(name) for name in names]
    more = f" and {len(listed) - most} more" if len(listed) > most else ""
    return ", ".join(listed[:most]) + more
