"""An official archive of MVTec AD becomes a data root, safely and resumably."""

import gzip
import lzma
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, NamedTuple

from fastflow_utils.data.images import IMAGE_SUFFIXES
from fastflow_utils.errors import FastFlowError
from fastflow_utils.frontend import track

__all__ = ["import_archive"]

# What tarfile and zipfile raise on what they cannot read; RuntimeError is an encrypted zip.
UNREADABLE = (
    tarfile.TarError,
    zipfile.BadZipFile,
    gzip.BadGzipFile,
    lzma.LZMAError,
    zlib.error,
    EOFError,
    RuntimeError,
)


def import_archive(archive: Path | str, root: Path | str) -> Path:
    """Unpack an archive of MVTec AD, of all categories or of one, as ``root/<category>/``.

    A category appears in ``root`` only once it is complete. One that is there already is kept,
    so after an interruption the same call goes on with the missing ones. Nothing is written
    before every name in the archive has been found to be harmless.

    Args:
        archive: ``mvtec_anomaly_detection.tar.xz`` or any tar or zip file that holds category
            folders, at any depth.
        root: The data root to be; made if it does not exist.

    Returns:
        The data root. ``layout.check`` says whether everything is there.

    Raises:
        FastFlowError: The file is missing, no archive, damaged, holds no category or a member
            that points outside, or the disk does not take it.
    """
    archive, root = Path(archive).expanduser(), Path(root).expanduser()
    if not archive.is_file():
        raise FastFlowError(f"there is no file {archive}: data/README.md says where to get one")
    try:
        with _opened(archive) as members:
            _unpack(archive, members, root)
    except UNREADABLE as error:
        raise FastFlowError(f"cannot read {archive} ({error}): download it again") from error
    except OSError as error:
        raise FastFlowError(f"cannot unpack {archive} into {root}: {error}") from error
    return root


class _Member(NamedTuple):
    """What tar and zip archives say about one entry."""

    name: str
    size: int
    is_folder: bool
    is_file: bool
    open: Callable[[], IO[bytes] | None]

    @property
    def path(self) -> PurePosixPath:
        """The name as a path below the archive's top; one that leads elsewhere is refused."""
        path = PureWindowsPath(self.name)  # knows both kinds of slash, and drives
        if path.anchor or ".." in path.parts:
            raise FastFlowError(f"refused: the archive's member {self.name!r} points outside it")
        if not (self.is_file or self.is_folder):
            raise FastFlowError(f"refused: the archive's member {self.name!r} is a link or device")
        return PurePosixPath(*path.parts)


@contextmanager
def _opened(archive: Path) -> Iterator[list[_Member]]:
    """The members of a tar or zip archive, in its order."""
    if tarfile.is_tarfile(archive):
        with tarfile.open(archive) as tar:
            members = [
                _Member(e.name, e.size, e.isdir(), e.isreg(), partial(tar.extractfile, e))
                for e in track(tar, "reading the list")
            ]
            while tar.fileobj and tar.fileobj.read(2**20):
                pass  # on to the very end, where the checksum of a compressed file stands
            yield members
    elif zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as pack:
            yield [
                _Member(e.filename, e.file_size, e.is_dir(), _is_plain(e), partial(pack.open, e))
                for e in pack.infolist()
            ]
    else:
        raise FastFlowError(
            f"{archive} is no tar or zip archive, or its beginning or end is missing: "
            f"download it again (data/README.md)"
        )


def _is_plain(entry: zipfile.ZipInfo) -> bool:
    kind = stat.S_IFMT(entry.external_attr >> 16)  # 0: made on a system without file types
    return not entry.is_dir() and kind in (0, stat.S_IFREG)


def _unpack(archive: Path, members: list[_Member], root: Path) -> None:
    paths = [member.path for member in members]
    tops = _categories(archive, paths)
    todo = {top: name for top, name in tops.items() if not (root / name).exists()}
    chosen = [
        (member, todo[top], path.relative_to(top))
        for member, path in zip(members, paths, strict=True)
        if member.is_file
        for top in path.parents
        if top in todo
    ]
    root.mkdir(parents=True, exist_ok=True)
    _require_space(root, sum(member.size for member, _, _ in chosen))
    left = Counter(name for _, name, _ in chosen)
    staging = root / ".importing"  # beside the categories, so that a rename is all it takes
    shutil.rmtree(staging, ignore_errors=True)  # of an import that was killed
    try:
        for member, name, path in track(chosen, "unpacking"):
            _copy(member, staging / name / path)
            left[name] -= 1
            if not left[name]:
                (staging / name).rename(root / name)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _categories(archive: Path, paths: list[PurePosixPath]) -> dict[PurePosixPath, str]:
    """The folders in the archive that are categories, with their names.

    An archive that begins with ``train/`` itself names its category: ``bottle.tar.xz``.
    """
    tops = sorted(
        {
            path.parents[2]
            for path in paths
            if len(path.parts) > 2 and path.parts[-3] in ("train", "test")
            if path.suffix.lower() in IMAGE_SUFFIXES
            if path.parts[0] != "__MACOSX"  # macOS' notes on the files, in the same layout
        }
    )
    if not tops:
        raise FastFlowError(f"{archive} holds no category: expected <category>/train/good/ in it")
    names = {top: top.name or archive.name.split(".")[0] for top in tops}
    if twice := [name for name, count in Counter(names.values()).items() if count > 1]:
        raise FastFlowError(f"{archive} holds {', '.join(twice)} twice: unpack it by hand")
    return names


def _require_space(root: Path, size: int) -> None:
    free = shutil.disk_usage(root).free
    if size > free:
        raise FastFlowError(
            f"the archive needs {size / 1e9:.1f} GB and {root} has {free / 1e9:.1f} GB free: "
            f"make room or choose another root"
        )


def _copy(member: _Member, target: Path) -> None:
    """Copy the bytes alone: owners and (read-only) permissions stay in the archive."""
    target.parent.mkdir(parents=True, exist_ok=True)
    source = member.open()
    assert source is not None  # tarfile's answer for what is not a file
    with source, target.open("wb") as sink:
        shutil.copyfileobj(source, sink)
