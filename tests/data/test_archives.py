import io
import random
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest

from fastflow_utils.data import archives
from fastflow_utils.data.archives import import_archive
from fastflow_utils.errors import FastFlowError

BOTTLE = {
    "bottle/license.txt": b"CC BY-NC-SA 4.0",
    "bottle/train/good/000.png": b"a",
    "bottle/test/bent/000.png": b"b",
    "bottle/ground_truth/bent/000_mask.png": b"c",
}
BOTH = BOTTLE | {"cable/train/good/000.png": b"d" * 5000, "cable/test/good/000.png": b"e"}


def tar(path: Path, files: dict[str, bytes], *extra: tarfile.TarInfo) -> Path:
    """A tar file like the official one: folders and files are read-only."""
    mode = f"w:{path.suffix[1:]}" if path.suffix != ".tar" else "w"
    with tarfile.open(path, mode) as archive:
        folders = {str(parent) for name in files for parent in Path(name).parents}
        for folder in sorted(folders - {".", "/"}):
            info = tarfile.TarInfo(folder)
            info.type, info.mode = tarfile.DIRTYPE, 0o555
            archive.addfile(info)
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(content), 0o444
            archive.addfile(info, io.BytesIO(content))
        for info in extra:
            archive.addfile(info)
    return path


def pack(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def noise(seed: int) -> bytes:
    """Bytes that do not compress."""
    return random.Random(seed).randbytes(20000)


def contents(root: Path) -> dict[str, bytes]:
    """Every file below ``root``, hidden ones too."""
    files = (path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}


def refused(archive: Path, root: Path, *parts: object) -> None:
    """The import fails on one line that says `parts`, and leaves nothing behind."""
    before = contents(root.parent)
    with pytest.raises(FastFlowError) as error:
        import_archive(archive, root)
    message = str(error.value)
    assert "\n" not in message
    for part in parts:
        assert str(part) in message
    assert contents(root.parent) == before
    assert not (root / ".importing").exists()


# What is unpacked -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.tar.xz", "a.tar.gz", "a.tar.bz2", "a.tar", "a.zip"])
@pytest.mark.parametrize("top", ["", "./", "mvtec_anomaly_detection/", "test/good/"])
def test_categories_are_found_at_any_depth(tmp_path, name, top):
    make = pack if name.endswith("zip") else tar
    files = {top + path: content for path, content in BOTH.items()}
    archive = make(tmp_path / name, files | {top + "readme.txt": b"about the whole"})
    root = import_archive(archive, tmp_path / "new" / "root")
    assert root == tmp_path / "new" / "root"
    assert contents(root) == BOTH
    assert not (root / ".importing").exists()


def test_an_archive_that_begins_with_train_is_named_after_its_file(tmp_path):
    files = {path.removeprefix("bottle/"): content for path, content in BOTTLE.items()}
    import_archive(tar(tmp_path / "bottle.tar.xz", files), tmp_path / "root")
    assert contents(tmp_path / "root") == BOTTLE


def test_a_zip_made_on_windows_or_macos(tmp_path):
    windows = {path.replace("/", "\\"): content for path, content in BOTTLE.items()}
    import_archive(pack(tmp_path / "w.zip", windows), tmp_path / "windows")
    assert contents(tmp_path / "windows") == BOTTLE
    notes = {"__MACOSX/bottle/train/good/._000.png": b"notes"}
    import_archive(pack(tmp_path / "m.zip", BOTTLE | notes), tmp_path / "macos")
    assert contents(tmp_path / "macos") == BOTTLE


def test_read_only_permissions_stay_in_the_archive(tmp_path):
    root = import_archive(tar(tmp_path / "a.tar.xz", BOTTLE), tmp_path / "root")
    modes = [stat.S_IMODE(path.stat().st_mode) for path in root.rglob("*")]
    assert modes
    assert all(mode & stat.S_IWUSR for mode in modes)


# Interruptions ----------------------------------------------------------------------------------


def test_a_category_that_is_there_is_kept(tmp_path):
    root = tmp_path / "root"
    mine = root / "bottle" / "train" / "good" / "mine.png"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"mine")
    import_archive(tar(tmp_path / "a.tar.xz", BOTH), root)
    cable = {path: content for path, content in BOTH.items() if path.startswith("cable")}
    assert contents(root) == {"bottle/train/good/mine.png": b"mine"} | cable


@pytest.mark.parametrize("name", ["a.tar.xz", "a.zip"])
@pytest.mark.parametrize("killed", [False, True])
def test_an_interrupted_import_goes_on(tmp_path, monkeypatch, name, killed):
    archive = (pack if name.endswith("zip") else tar)(tmp_path / name, BOTH)
    root = tmp_path / "root"
    copy = archives._copy

    def interrupted(member, target):
        if target.match("cable/test/good/000.png"):
            raise KeyboardInterrupt
        copy(member, target)

    with monkeypatch.context() as patch:
        patch.setattr(archives, "_copy", interrupted)
        with pytest.raises(KeyboardInterrupt):
            import_archive(archive, root)
    assert contents(root) == BOTTLE  # complete; nothing of cable, which is not
    if killed:  # then nobody could clean up
        left = root / ".importing" / "cable" / "train" / "good" / "half.png"
        left.parent.mkdir(parents=True)
        left.write_bytes(b"half")
    import_archive(archive, root)
    assert contents(root) == BOTH
    stamps = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    import_archive(archive, root)  # and a third time, with nothing to do
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == stamps


def test_the_order_in_the_archive_does_not_matter(tmp_path):
    shuffled = dict(sorted(BOTH.items(), key=lambda item: item[0][::-1]))
    root = import_archive(tar(tmp_path / "a.tar.xz", shuffled), tmp_path / "root")
    assert contents(root) == BOTH


# Attacks ----------------------------------------------------------------------------------------

OUTSIDE = ["../evil.png", "bottle/train/good/../../../../evil.png", "/tmp/evil.png",
           "C:/evil.png", "..\\evil.png", "\\\\server\\share\\evil.png"]  # fmt: skip


@pytest.mark.parametrize("name", OUTSIDE)
@pytest.mark.parametrize("make", [tar, pack])
def test_names_that_point_outside_are_refused(tmp_path, make, name):
    if make is pack:
        archive = pack(tmp_path / "a.zip", BOTTLE | {name: b"evil"})
    else:
        archive = tar(tmp_path / "a.tar.xz", BOTTLE, tarfile.TarInfo(name))
    refused(archive, tmp_path / "root", repr(name), "outside")


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE]
)
@pytest.mark.parametrize("target", ["/etc/passwd", "../../..", "bottle/license.txt"])
def test_links_and_devices_are_refused(tmp_path, kind, target):
    link = tarfile.TarInfo("bottle/train/good/link")
    link.type, link.linkname = kind, target
    archive = tar(tmp_path / "a.tar.xz", BOTTLE, link)
    refused(archive, tmp_path / "root", "'bottle/train/good/link'", "link or device")


def test_links_in_a_zip_are_refused(tmp_path):
    archive = pack(tmp_path / "a.zip", BOTTLE)
    with zipfile.ZipFile(archive, "a") as zipped:
        link = zipfile.ZipInfo("bottle/train/good/link")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        zipped.writestr(link, "/etc/passwd")
    refused(archive, tmp_path / "root", "'bottle/train/good/link'", "link or device")


# Mistakes ---------------------------------------------------------------------------------------


def test_a_missing_archive(tmp_path):
    refused(
        tmp_path / "gone.tar.xz", tmp_path / "root", tmp_path / "gone.tar.xz", "data/README.md"
    )
    refused(tmp_path, tmp_path / "root", tmp_path)


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", b"\x00" * 2000])
def test_what_is_no_archive(tmp_path, content):
    path = tmp_path / "mvtec_anomaly_detection.tar.xz"
    path.write_bytes(content)
    refused(path, tmp_path / "root", path)


@pytest.mark.parametrize("name", ["a.tar.xz", "a.tar.gz", "a.tar.bz2", "a.zip"])
@pytest.mark.parametrize("kept", [0.02, 0.3, 0.6, 0.9])
def test_a_truncated_archive(tmp_path, name, kept):
    images = {f"bottle/train/good/{i:03}.png": noise(i) for i in range(4)}
    whole = (pack if name.endswith("zip") else tar)(tmp_path / name, BOTTLE | images)
    whole.write_bytes(whole.read_bytes()[: int(kept * whole.stat().st_size)])
    refused(whole, tmp_path / "root", whole, "download it again")


@pytest.mark.parametrize("name", ["a.tar.xz", "a.tar.gz", "a.zip"])
def test_a_corrupt_archive(tmp_path, name):
    archive = (pack if name.endswith("zip") else tar)(
        tmp_path / name, BOTTLE | {"bottle/train/good/001.png": noise(0)}
    )
    content = bytearray(archive.read_bytes())
    content[10000] ^= 255
    archive.write_bytes(content)
    refused(archive, tmp_path / "root", archive, "download it again")


def test_an_archive_without_a_category(tmp_path):
    archive = pack(tmp_path / "photos.zip", {"photos/000.png": b"a", "train/000.png": b"b"})
    refused(archive, tmp_path / "root", archive, "no category", "<category>/train/good/")


def test_two_categories_of_one_name(tmp_path):
    twice = {"copy/" + path: content for path, content in BOTTLE.items()}
    refused(tar(tmp_path / "a.tar", BOTTLE | twice), tmp_path / "root", "bottle twice")


def test_a_full_disk(tmp_path, monkeypatch):
    archive = tar(tmp_path / "a.tar.xz", BOTTLE)
    usage = archives.shutil.disk_usage(tmp_path)._replace(free=2)
    with monkeypatch.context() as patch:
        patch.setattr(archives.shutil, "disk_usage", lambda path: usage)
        refused(archive, tmp_path / "root", "GB free")

    def full(source, sink):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(archives.shutil, "copyfileobj", full)
    refused(archive, tmp_path / "root", archive, "No space left on device")


def test_a_root_that_is_a_file(tmp_path):
    (tmp_path / "root").write_text("a file")
    refused(tar(tmp_path / "a.tar.xz", BOTTLE), tmp_path / "root", tmp_path / "root")
