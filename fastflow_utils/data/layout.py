"""A data root: where it is, which data it holds, and what is wrong with them.

:mod:`~fastflow_utils.data.readers` finds the pictures, :mod:`~fastflow_utils.data.mvtec` makes
tensors of them. Here nothing needs torch, so that ``fastflow data check`` and a mistake in a name
answer at once.
"""

import os
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from fastflow_utils.data.listing import GOOD, MVTEC_AD, Listing, Split, first_few
from fastflow_utils.data.masks import Finding, look_at_all
from fastflow_utils.data.official import OFFICIAL_COUNTS
from fastflow_utils.data.readers import (
    below,
    categories,
    category_folder,
    listing,
    visible_folders,
)
from fastflow_utils.data.remarks import remarks
from fastflow_utils.errors import FastFlowError

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "GOOD",
    "MVTEC_AD",
    "SAMPLE_SET",
    "Split",
    "categories",
    "category_folder",
    "check",
    "data_home",
    "data_name",
    "data_root",
    "digest",
    "is_mvtec_ad",
    "is_sample_set",
    "name_of",
    "summary",
]

SAMPLE_SET = "sample set"
"""What ``metrics.json`` calls it, and MVTec AD; all other data have the name of their folder."""

# Where the data is ------------------------------------------------------------------------------


def data_home() -> Path:
    """The folder for whatever the package makes by itself: the sample set, cached features.

    Returns:
        ``data`` beside the package in a source checkout, otherwise under the working directory.

    Example:
        >>> data_home().name
        'data'
    """
    checkout = Path(__file__).resolve().parents[2]
    return (checkout if (checkout / "pyproject.toml").is_file() else Path.cwd()) / "data"


def data_root(root: Path | str | None = None) -> Path:
    """The folder that holds the categories.

    Args:
        root: A folder of categories, in any layout; a table; or a folder that is one category
            by itself. Without it, the environment variable ``FASTFLOW_DATA``
            names it; without that, it is the sample set, which is made on first use.

    Example:
        >>> data_root("datasets/mvtec").as_posix()
        'datasets/mvtec'
    """
    named = root or os.environ.get("FASTFLOW_DATA")
    if named:
        return Path(named).expanduser()
    from fastflow_utils.data.sample_set import make  # here, so that real data never waits for it

    return make(data_home() / "sample")


def is_sample_set(root: Path | str, category: str) -> bool:
    """Whether a category's images are our own renderings: plots and tables must say so."""
    return Path(root, category, "sample_set.json").expanduser().is_file()


def is_mvtec_ad(root: Path | str, category: str) -> bool:
    """Whether a category is MVTec AD's, as its name and its numbers of images say.

    Published results stand beside results on such data only: neither beside pictures of one's
    own in a folder called ``zipper``, nor beside the sample set.

    Example:
        >>> is_mvtec_ad("my pictures", "zipper")
        False
    """
    return data_name(root, category) == MVTEC_AD


def data_name(root: Path | str, category: str) -> str:
    """Return which data a result is of: tables never mix two.

    Returns:
        As :func:`name_of`; the name of the data root's folder, where the data are gone.
    """
    try:
        return name_of(listing(root, category))
    except FastFlowError:
        return _folder_name(Path(root))


def name_of(found: Listing) -> str:
    """Return which data a listing is of.

    Returns:
        "sample set"; "MVTec AD", where layout, name and numbers of images are its own; else the
        name of the data root's folder.
    """
    if found.is_sample_set:
        return SAMPLE_SET
    official = OFFICIAL_COUNTS.get(found.category)
    if found.layout == MVTEC_AD and tuple(_counts(found).values()) == official:
        return MVTEC_AD
    return _folder_name(found.root)


def _folder_name(root: Path) -> str:
    folder = root.expanduser().resolve()
    name = folder.name or str(folder)
    return f"folder {name}" if name in (SAMPLE_SET, MVTEC_AD) else name


def _counts(found: Listing) -> dict[str, int]:
    """A category's normal training images, normal test images and anomalous test images."""
    train, test = found.of("train"), found.of("test")
    return {
        "train": sum(not item.label for item in train),
        "test_good": sum(not item.label for item in test),
        "test_anomalous": sum(item.label for item in test),
    }


def digest(root: Path | str, category: str) -> str:
    """Return one sha256 for all of a category: where each file lies, and its bytes.

    In MVTec AD's layout, two folders have the same digest if and only if the same files lie at
    the same places below the category's folder; what begins with a dot does not count. In other
    layouts it is that of :meth:`~fastflow_utils.data.listing.Listing.digest`.

    Raises:
        FastFlowError: If there is no such category.
    """
    return listing(root, category).digest()


# All categories ---------------------------------------------------------------------------------


def check(root: Path | str) -> "pd.DataFrame":
    """Read every file under a data root and say what is there and what is wrong.

    Returns:
        A row per category, whatever its ``layout``: the images in ``train``, ``test_good`` and
        ``test_anomalous``, each with MVTec AD's own count in ``official_...`` (missing for other
        categories), the number of anomalous images with ``masks``, ``problems``, empty if there
        are none, and ``notes`` on what was decided. A folder of pictures that is no category has
        a row that says so.

    Raises:
        FastFlowError: The root is missing or holds no category.
    """
    import pandas as pd  # here: whoever lists folders only need not wait for it

    root = Path(root).expanduser()
    names = categories(root)
    if not names:
        raise FastFlowError(f"no category in {root}: expected {root}/<category>/train/good/")
    rows = {name: _inspect(root, name) for name in names} | _left_out(root, names)
    found = pd.DataFrame(rows.values(), index=pd.Index(rows, name="category"))
    counts = ["train", "test_good", "test_anomalous"]
    official = pd.DataFrame.from_dict(
        OFFICIAL_COUNTS, orient="index", columns=[f"official_{name}" for name in counts]
    )
    beside = [column for name in counts for column in (name, f"official_{name}")]
    table = found.join(official.astype("Int64"))
    return table[["layout", *beside, "masks", "problems", "notes"]]


def _row(
    layout: str = "-",
    train: int = 0,
    test_good: int = 0,
    test_anomalous: int = 0,
    masks: int = 0,
    problems: str = "",
    notes: str = "",
) -> dict[str, int | str]:
    return locals()


def _inspect(root: Path, category: str) -> dict[str, int | str]:
    """One category's row in the table of ``check``."""
    try:
        found = listing(root, category)
    except FastFlowError as error:
        return _row(problems=str(error))
    findings: list[Finding] = []
    counts = _counts(found)
    if not counts["train"]:
        findings.append(("no images", found.folder / "train" / GOOD))
    if not found.of("test"):
        findings.append(("no images", found.folder / "test"))
    strangers = {item.path.parent for item in found.of("train") if item.label}
    findings += [("unexpected", path) for path in (*sorted(strangers), *found.unread)]
    findings += [one for some in look_at_all(found.items, category) for one in some]
    return _row(
        found.layout,
        **counts,
        masks=sum(bool(i.label and i.masks and i.masks[0].is_file()) for i in found.items),
        problems=summary(findings, found),
        notes="; ".join((*found.notes, *remarks(found))),
    )


def _left_out(root: Path, names: list[str]) -> dict[str, dict[str, int | str]]:
    """A row for each folder of pictures that is no category."""
    inside = [root / name for name in names if (root / name).is_dir()]
    if not inside:
        return {}
    others = [path for path in visible_folders(root) if path not in inside]
    return {
        path.name: _row(problems=f"no category: {count} pictures in no layout that is known")
        for path in others
        if (count := len(below(path)))
    }


def summary(findings: Iterable[Finding], found: Listing) -> str:
    """Each kind of finding with the files that it is about, the first few of many."""
    problems: defaultdict[str, list[str]] = defaultdict(list)
    for what, path in findings:
        problems[what].append(found.name(path))
    return "; ".join(f"{what}: {first_few(paths)}" for what, paths in problems.items())
