"""What the files of a data set tell at a glance, and nobody would see in its results."""

from collections import defaultdict
from pathlib import Path

from fastflow_utils.data.images import frames_of, sha256
from fastflow_utils.data.listing import Item, Listing, first_few
from fastflow_utils.data.masks import orientation
from fastflow_utils.data.sizes import file_size
from fastflow_utils.errors import FastFlowError

__all__ = ["remarks"]


def remarks(found: Listing) -> list[str]:
    """Return sentences on files that may make results wrong, each kind with its first files.

    These are: the same file in training and test, or as good and as damaged; files with several
    pages or frames; masks of pictures that their EXIF turns, where the shape does not tell
    whether the mask is turned, too.

    Example:
        >>> import tempfile
        >>> from fastflow_utils.data.readers import from_folders
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for name in ("good/a.png", "good/b.png", "bad/c.png"):
        ...         file = Path(folder, name)
        ...         file.parent.mkdir(exist_ok=True)
        ...         _ = file.write_bytes(b"a" if "a" in name or "c" in name else b"b")
        ...     remarks(from_folders(Path(folder, "good"), Path(folder, "bad")))
        ['the same file in training and test, or as good and damaged: bad/c.png = good/a.png']
    """
    several = [item.path for item in found.items if _frames(item.path) > 1]
    turned = [item.path for item in found.items if item.masks and _is_uncertain(item)]
    told = {
        "the same file in training and test, or as good and damaged": _copies(found),
        "several pages or frames, of which the first is read": map(found.name, several),
        "turned by EXIF, whether the mask is, too, cannot be checked": map(found.name, turned),
    }
    return [f"{what}: {text}" for what, names in told.items() if (text := first_few(names))]


def _copies(found: Listing) -> list[str]:
    """Pairs of files of the same bytes that are said to be different things."""
    by_size: defaultdict[int, list[Item]] = defaultdict(list)
    for item in found.items:
        if item.path.is_file():
            by_size[item.path.stat().st_size].append(item)
    by_bytes: defaultdict[str, list[Item]] = defaultdict(list)
    for group in by_size.values():
        if len({(item.split, item.label) for item in group}) > 1:
            for item in group:
                by_bytes[sha256(item.path)].append(item)
    return [
        f"{found.name(item.path)} = {found.name(group[0].path)}"
        for group in by_bytes.values()
        for item in group[1:]
        if (item.split, item.label) != (group[0].split, group[0].label)
    ]


def _frames(path: Path) -> int:
    try:
        return frames_of(path)
    except FastFlowError:
        return 1


def _is_uncertain(item: Item) -> bool:
    """Whether a picture is turned, and its mask would have the same shape if it were not."""
    how = orientation(item.path)
    size = file_size(item.path)
    return how != 1 and (how < 5 or (size is not None and size[0] == size[1]))
