"""Every layout is found by looking, and nothing in it is dropped or taken in silence."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fastflow_utils.cli import app
from fastflow_utils.data.finding import find_images
from fastflow_utils.data.layout import check, data_name, digest, name_of
from fastflow_utils.data.listing import Listing
from fastflow_utils.data.mvtec import MVTecAD, Pictures
from fastflow_utils.data.pictures import survey
from fastflow_utils.data.readers import categories, from_folders, from_table, listing
from fastflow_utils.data.remarks import remarks
from fastflow_utils.data.sample_set import make
from fastflow_utils.errors import FastFlowError
from fastflow_utils.experiments.recipes import Recipe
from fastflow_utils.experiments.reproduce import plan
from fastflow_utils.experiments.run import run


def picture(path: Path, value: int = 128) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (8, 8), value).save(path)
    return path


def mask(path: Path, corner: int = 0, value: int = 255) -> Path:
    pixels = np.zeros((8, 8), np.uint8)
    pixels[corner, corner] = value
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def write(path: Path, *lines: str, encoding: str = "utf-8") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding=encoding)
    return path


# Small trees, each in one layout, with a category `cap` -----------------------------------------


def tree(root: Path, good: str = "good", bad: str = "bent", ending: str = "_mask.png") -> None:
    for i in range(5):
        picture(root / f"cap/train/{good}/{i:03}.png")
    for i in range(2):
        picture(root / f"cap/test/{good}/{i:03}.png")
        picture(root / f"cap/test/{bad}/{i:03}.png")
        mask(root / f"cap/ground_truth/{bad}/{i:03}{ending}")


def loco(root: Path) -> None:
    tree(root, bad="logical_anomalies", ending="/000.png")
    mask(root / "cap/ground_truth/logical_anomalies/001/001.png", corner=5, value=254)
    picture(root / "cap/validation/good/000.png")
    write(root / "cap/defects_config.json", "[]")


def mvtec_ad_2(root: Path) -> None:
    tree(root, bad="bad")
    (root / "cap/test").rename(root / "cap/test_public")
    (root / "cap/ground_truth").rename(root / "cap/test_public/ground_truth")
    picture(root / "cap/validation/good/000.png")
    picture(root / "cap/test_private/000.png")


def btad(root: Path) -> None:
    tree(root, "ok", "ko", ".bmp")


def visa_folders(root: Path) -> None:
    for i in range(7):
        picture(root / f"cap/Data/Images/Normal/{i:04}.JPG")
    for i in range(2):
        picture(root / f"cap/Data/Images/Anomaly/{i:03}.JPG")
        mask(root / f"cap/Data/Masks/Anomaly/{i:03}.png", value=i + 1)
    write(root / "cap/image_anno.csv", "image,label,mask")


def visa(root: Path) -> None:
    visa_folders(root)
    normal = [
        f"cap,{'test' if i > 4 else 'train'},normal,cap/Data/Images/Normal/{i:04}.JPG,"
        for i in range(7)
    ]
    anomalous = [
        f"cap,test,anomaly,cap/Data/Images/Anomaly/{i:03}.JPG,cap/Data/Masks/Anomaly/{i:03}.png"
        for i in range(2)
    ]
    head = "object,split,label,image,mask"
    write(root / "split_csv/1cls.csv", head, *normal, *anomalous, "nut,train,normal,none.JPG,")


def kolektor(root: Path) -> None:
    for folder in range(1, 6):
        for i in range(2):
            picture(root / f"cap/kos{folder:02}/Part{i}.jpg")
            value = 255 * (i == 0 and folder < 3)
            mask(root / f"cap/kos{folder:02}/Part{i}_label.bmp", value=value)


def side_by_side(root: Path) -> None:
    for i in range(7):
        picture(root / f"cap/Good/{i}.png")
    for i in range(2):
        picture(root / f"cap/bad/{i}.png")
        mask(root / f"cap/masks/{i}_gt.tif")


def table(root: Path) -> None:
    side_by_side(root)
    rows = [f"Good/{i}.png;good;{'test' if i > 4 else 'train'};" for i in range(7)]
    rows += [f"bad\\{i}.png;scratch;test;masks/{i}_gt.tif" for i in range(2)]
    write(root / "cap/list.csv", "Path;Label;Split;Mask", *rows, encoding="utf-8-sig")
    (root / "cap/Good").rename(root / "cap/g")
    text = (root / "cap/list.csv").read_text(encoding="utf-8-sig").replace("Good/", "g/")
    write(root / "cap/list.csv", text.rstrip(), encoding="utf-8-sig")


LAYOUTS = {
    "MVTec AD": (tree, "MVTec AD", (5, 2, 2)),
    "MVTec LOCO AD": (loco, "MVTec LOCO AD", (6, 2, 2)),
    "MVTec AD 2": (mvtec_ad_2, "MVTec AD 2", (6, 2, 2)),
    "BTAD": (btad, "BTAD", (5, 2, 2)),
    "VisA, folders": (visa_folders, "VisA", (6, 1, 2)),
    "VisA, table": (visa, "VisA", (5, 2, 2)),
    "KolektorSDD": (kolektor, "KolektorSDD", (6, 2, 2)),
    "folders": (side_by_side, "folders", (6, 1, 2)),
    "table": (table, "table", (5, 2, 2)),
}


@pytest.fixture(params=LAYOUTS)
def laid_out(request, tmp_path) -> tuple[Path, str, tuple[int, int, int]]:
    build, name, counts = LAYOUTS[request.param]
    build(tmp_path / "data")
    return tmp_path / "data", name, counts


def counts(found: Listing) -> tuple[int, int, int]:
    labels = [item.label for item in found.of("test")]
    return len(found.of("train")), labels.count(0), labels.count(1)


def told(found: Listing) -> str:
    return "; ".join(found.notes)


def test_the_layout_is_found_and_every_picture_with_its_mask(laid_out):
    root, name, expected = laid_out
    assert categories(root) == ["cap"]
    found = listing(root, "cap")
    assert (found.layout, counts(found)) == (name, expected)
    assert not found.unread
    files = [item.path for item in found.items]
    assert len(set(files)) == len(files)
    test = MVTecAD(root, "cap", "test", 8)
    assert test.has_masks and test.check_masks() == {}
    covered = test.masks().flatten(1).any(1).tolist()
    assert covered == [bool(label) for label in test.labels]
    assert MVTecAD(root, "cap", "train", (8, 16))[0].image.shape == (3, 8, 16)


def test_data_check_accepts_every_layout(laid_out, capsys):
    root, name, (train, good, anomalous) = laid_out
    row = check(root).loc["cap"]
    assert (row["layout"], row["problems"]) == (name, "")
    seen = row[["train", "test_good", "test_anomalous", "masks"]].tolist()
    assert seen == [train, good, anomalous, anomalous]
    app(["data", "check", str(root)], standalone_mode=False)
    printed = capsys.readouterr().out
    assert name in printed and all(note in printed for note in listing(root, "cap").notes)


def test_every_layout_can_be_planned_and_has_a_digest_of_its_own(laid_out, tmp_path):
    root, _, _ = laid_out
    [job] = plan(root, [Recipe()])
    assert job.data_sha256 == digest(root, "cap") == listing(root, "cap").digest()
    assert data_name(root, "cap") == "data"
    moved = Path(shutil.copytree(root, tmp_path / "elsewhere"))
    assert digest(moved, "cap") == job.data_sha256, "the bytes count, not where the root lies"
    picture(listing(moved, "cap").of("train")[0].path, 7)
    assert digest(moved, "cap") != job.data_sha256


def test_the_digest_knows_what_a_picture_is_said_to_be(tmp_path):
    table(tmp_path)
    before = digest(tmp_path, "cap")
    file = tmp_path / "cap/list.csv"
    write(
        file, file.read_text(encoding="utf-8-sig").replace("4.png;good;train", "4.png;good;test")
    )
    assert digest(tmp_path, "cap") != before


def test_a_union_of_masks_is_the_truth_of_loco(tmp_path):
    loco(tmp_path)
    test = MVTecAD(tmp_path, "cap", "test", 8)
    several = next(i for i, masks in enumerate(test.mask_paths) if len(masks) == 2)
    assert test[several].mask.nonzero().tolist() == [[0, 0, 0], [0, 5, 5]]


@pytest.mark.parametrize(
    ("build", "parts"),
    [
        (loco, ("1 pictures of validation", "sPRO")),
        (mvtec_ad_2, ("1 pictures of validation", "test_private: without labels")),
        (btad, ("ok count as good",)),
        (visa_folders, ("every fifth good picture, 1 of 7", "1cls.csv")),
        (visa, ("split as in split_csv/1cls.csv",)),
        (kolektor, ("every fifth folder, 1 of 5",)),
        (side_by_side, ("every fifth good picture, 1 of 7",)),
    ],
)
def test_what_a_reader_decides_is_told(tmp_path, build, parts):
    build(tmp_path)
    assert all(part in told(listing(tmp_path, "cap")) for part in parts)


@pytest.mark.parametrize("build", [kolektor, side_by_side, table])
def test_a_root_may_be_the_category_itself(tmp_path, build):
    build(tmp_path)
    root = tmp_path / "cap"
    assert categories(root) == ["cap"]
    assert counts(listing(root, "cap")) == counts(listing(tmp_path, "cap"))
    assert digest(root, "cap") == digest(tmp_path, "cap")
    assert check(root).loc["cap", "problems"] == ""


# Nothing is dropped in silence ------------------------------------------------------------------


def test_subfolders_are_read(tmp_path):
    """20 of 32 pictures lay there and were dropped."""
    tree(tmp_path)
    picture(tmp_path / "cap/train/good/monday/000.png")
    picture(tmp_path / "cap/test/bent/monday/000.png")
    mask(tmp_path / "cap/ground_truth/bent/monday/000_mask.png")
    picture(tmp_path / "cap/train/good/.ipynb_checkpoints/000.png")
    picture(tmp_path / "cap/train/good/__MACOSX/000.png")
    found = listing(tmp_path, "cap")
    assert counts(found) == (6, 2, 3) and found.has_masks
    assert check(tmp_path).loc["cap", "problems"] == ""


@pytest.mark.parametrize(
    "name",
    ["train/good/a.heic", "train/a.png", "test/a.png", "a.png", "test/bent/a.gif",
     "ground_truth/bent/007_mask.png", "old/a.png", "train/good/a", "pictures.zip"],
)  # fmt: skip
def test_what_is_not_read_is_named(tmp_path, name):
    tree(tmp_path)
    stray = tmp_path / "cap" / name
    stray.parent.mkdir(exist_ok=True)
    stray.touch()
    place = "old" if name.startswith("old") else name
    assert check(tmp_path).loc["cap", "problems"] == f"unexpected: {place}"
    assert f"not read: {place}" in told(listing(tmp_path, "cap"))


def test_a_folder_of_pictures_beside_the_categories_is_named(tmp_path):
    tree(tmp_path)
    picture(tmp_path / "more/a.png")
    table = check(tmp_path)
    assert table.loc["cap", "problems"] == ""
    assert "1 pictures in no layout" in table.loc["more", "problems"]


@pytest.mark.parametrize("suffix", ["ppm", "pgm", "pbm", "jp2"])
def test_more_formats_are_read(tmp_path, suffix):
    tree(tmp_path)
    Image.new("1" if suffix == "pbm" else "L", (8, 8)).save(
        tmp_path / f"cap/train/good/x.{suffix}"
    )
    train = MVTecAD(tmp_path, "cap", "train", 8)
    assert len(train) == 6 and all(sample.image.shape == (3, 8, 8) for sample in train)


@pytest.mark.parametrize("name", ["OK", "ok", "Good", "normal"])
def test_good_pictures_are_known_by_other_names(tmp_path, name):
    """They were asked for masks."""
    tree(tmp_path)
    (tmp_path / "cap/test/good").rename(tmp_path / "cap/test/x")
    (tmp_path / "cap/test/x").rename(tmp_path / f"cap/test/{name}")
    found = listing(tmp_path, "cap")
    assert counts(found) == (5, 2, 2)
    assert f"{name} count as good" in told(found)


def test_masks_beside_pictures_are_no_pictures(tmp_path):
    tree(tmp_path)
    for i in range(2):
        name = f"{i:03}_mask.png"
        (tmp_path / "cap/ground_truth/bent" / name).rename(tmp_path / "cap/test/bent" / name)
    shutil.rmtree(tmp_path / "cap/ground_truth")
    found = listing(tmp_path, "cap")
    assert counts(found) == (5, 2, 2) and found.has_masks


def test_some_without_a_mask_are_told_and_their_pixels_left_alone(tmp_path):
    visa_folders(tmp_path)
    (tmp_path / "cap/Data/Masks/Anomaly/001.png").unlink()
    assert "1 of the 2 anomalous pictures have no mask" in told(listing(tmp_path, "cap"))
    assert not MVTecAD(tmp_path, "cap", "test").has_masks


def test_without_a_test_there_is_still_a_training(tmp_path):
    for i in range(6):
        picture(tmp_path / f"photos/{i}.png")
    found = from_folders(tmp_path / "photos")
    assert counts(found) == (6, 0, 0)
    empty = Pictures(found, "test", 8, allow_empty=True)
    assert len(empty) == 0 and empty.masks().shape == (0, 1, 8, 8)
    assert empty.check_masks() == {}
    with pytest.raises(FastFlowError, match="the test split is empty"):
        Pictures(found, "test", 8)


def test_the_sample_set_is_known_however_it_is_given(tmp_path):
    make(tmp_path, ["screw"], size=64, train=2, good=0, per_defect=0)
    found = from_folders(tmp_path / "screw/train/good")
    assert Pictures(found, "train", 8).title == "screw (sample set)"
    assert name_of(found) == "sample set"
    own = from_folders(picture(tmp_path / "own/good/a.png").parent)
    assert (own.is_sample_set, own.category, name_of(own)) == (False, "own", "own")


# Plain folders ----------------------------------------------------------------------------------


def test_plain_folders_are_sorted_by_their_names(tmp_path):
    for i in range(5):
        picture(tmp_path / f"photos/fine/{i}.png")
    for name in ("a", "dent/a", "scratch/deep/b"):
        picture(tmp_path / f"photos/faulty/{name}.png")
    mask(tmp_path / "truth/dent/a_mask.png")
    mask(tmp_path / "truth/a.png")
    mask(tmp_path / "truth/b.png")
    (tmp_path / "photos/fine/clip.mp4").touch()
    photos = tmp_path / "photos"
    found = from_folders(photos / "fine", photos / "faulty", tmp_path / "truth")
    assert [item.defect for item in found.of("test")] == ["bad", "dent", "good", "scratch"]
    assert found.has_masks and found.category == "fine"
    assert "not read: clip.mp4" in told(found)


def test_bad_pictures_inside_the_good_folder_are_not_learnt_from(tmp_path):
    for i in range(5):
        picture(tmp_path / f"photos/{i}.png")
    picture(tmp_path / "photos/faulty/a.png")
    found = from_folders(tmp_path / "photos", tmp_path / "photos/faulty")
    assert counts(found) == (4, 1, 1) and not found.unread


def photos(root: Path) -> Path:
    for i in range(5):
        picture(root / f"photos/fine/{i}.png")
        picture(root / f"photos/bad/dent/{i}.png")
        mask(root / f"photos/truth/{i + 9}.png")
    tree(root)
    (root / "empty").mkdir()
    return root


@pytest.mark.parametrize(
    ("given", "parts"),
    [
        (("none",), ("there is no folder", "none")),
        (("empty",), ("no good pictures in", "empty")),
        (("photos",), ("has a folder bad",)),
        (("cap",), ("in the layout of MVTec AD", "--data")),
        (("photos/fine", "empty"), ("no pictures in", "empty")),
        (("photos/fine", None, "photos/truth"), ("without bad pictures",)),
        (("photos/fine", "photos/bad", "photos/truth"), ("no mask in", "0_mask.png")),
        (("photos/fine", "cap/test"), ("good lies among the bad",)),
    ],
)
def test_mistakes_with_plain_folders_end_in_one_sentence(tmp_path, given, parts):
    root = photos(tmp_path)
    with pytest.raises(FastFlowError) as error:
        from_folders(*(folder and root / folder for folder in given))
    one_line(error, *parts)


def one_line(error: pytest.ExceptionInfo, *parts: str) -> None:
    message = str(error.value)
    assert "\n" not in message
    for part in parts:
        assert part in message


def test_a_plain_folder_is_answered_by_what_it_is(tmp_path):
    for i in range(3):
        picture(tmp_path / f"2024/{i}.png")
    for call in (check, categories):
        with pytest.raises(FastFlowError) as error:
            call(tmp_path)
        one_line(error, "plain folder of 3 pictures", f"fastflow run --good {tmp_path}")


# Tables -----------------------------------------------------------------------------------------


HEAD = "path,label,split,mask"
GOOD_ROW = "a.png,good,train,"


@pytest.mark.parametrize(
    ("lines", "parts"),
    [
        (["path,split", "a.png,train"], ("no column label", "it has path, split")),
        ([HEAD], ("no rows",)),
        (["path,label,label", "a.png,good,good"], ("two columns 'label'",)),
        ([HEAD, GOOD_ROW, "none.png,good,train,"], ("line 3", "no picture 'none.png'")),
        ([HEAD, GOOD_ROW, ",good,train,"], ("line 3", "no picture ''")),
        ([HEAD, GOOD_ROW, "b.png,,train,"], ("line 3", "label ''")),
        ([HEAD, GOOD_ROW, "b.png,2,train,"], ("line 3", "label '2'")),
        ([HEAD, GOOD_ROW, "", "b.png,good,tset,"], ("line 4", "split 'tset'")),
        ([HEAD, GOOD_ROW, "b.png,good,,"], ("line 3", "split ''")),
        ([HEAD, GOOD_ROW, "b.png,bent,train,"], ("line 3", "good pictures only")),
        ([HEAD, GOOD_ROW, "b.png,bent,test,c.png"], ("line 3", "no mask 'c.png'")),
        ([HEAD, GOOD_ROW, GOOD_ROW], ("line 3", "stands in line 2")),
        ([HEAD, GOOD_ROW, "b.png,good"], ("line 3", "2 values under 4 names")),
        ([HEAD, GOOD_ROW, "note.txt,good,train,"], ("line 3", "no picture that can be read")),
        ([HEAD, "a.png,bent,test,", "b.png,pass,test,"], ("no good picture", "bent, pass")),
        (
            [HEAD, GOOD_ROW, *(f"{i}.png,good,train," for i in range(5))],
            ("line 3", "line 4", "line 5", "and 2 more"),
        ),
    ],
)
def test_each_mistake_in_a_table_is_named_by_its_line(tmp_path, lines, parts):
    for name in ("a.png", "b.png"):
        picture(tmp_path / name)
    (tmp_path / "note.txt").touch()
    with pytest.raises(FastFlowError) as error:
        from_table(write(tmp_path / "list.csv", *lines))
    one_line(error, "list.csv", *parts)


def test_a_table_in_another_encoding_is_told(tmp_path):
    file = tmp_path / "list.csv"
    picture(tmp_path / "a.png")
    file.write_bytes("path,label\na.png,gut\xfc\n".encode("latin-1"))
    with pytest.raises(FastFlowError) as error:
        from_table(file)
    one_line(error, "UTF-8")
    with pytest.raises(FastFlowError) as error:
        from_table(tmp_path / "none.csv")
    one_line(error, "cannot read", "none.csv")


@pytest.mark.parametrize(
    ("label", "defect"),
    [("good", "good"), ("OK", "good"), ("0", "good"), ("normal", "good"), ("1", "bad"),
     ("anomaly", "anomaly"), ("Bent pin", "Bent pin")],
)  # fmt: skip
def test_labels_of_a_table(tmp_path, label, defect):
    for name in ("a.png", "b.png"):
        picture(tmp_path / name)
    file = write(
        tmp_path / "list.csv", "path,label,split", "a.png,good,train", f"b.png,{label},test"
    )
    assert [item.defect for item in from_table(file).of("test")] == [defect]


def test_a_table_is_a_data_root_and_tells_what_it_leaves_out(tmp_path):
    for i in range(7):
        picture(tmp_path / f"{i}.png")
    rows = [f"{i}.png,good,x" for i in range(6)]
    file = write(tmp_path / "parts.csv", "path,label,operator", *rows)
    assert categories(file) == ["parts"]
    found = listing(file, "parts")
    assert counts(found) == (5, 1, 0)
    for part in ("every fifth good picture, 1 of 6", "not read: operator", "1 pictures in the"):
        assert part in told(found)
    assert check(file).loc["parts", "problems"] == ""


# Mistakes in layouts ----------------------------------------------------------------------------


def two_layouts(root: Path) -> None:
    tree(root)
    (root / "cap/Data/Images").mkdir(parents=True)


def two_masks(root: Path) -> None:
    tree(root)
    mask(root / "cap/ground_truth/bent/000.png")


def one_mask_for_two(root: Path) -> None:
    tree(root)
    picture(root / "cap/test/bent/000.jpg")


def no_label(root: Path) -> None:
    kolektor(root)
    (root / "cap/kos01/Part1_label.bmp").unlink()


def visa_lacks_a_file(root: Path) -> None:
    visa(root)
    (root / "cap/Data/Images/Normal/0003.JPG").unlink()


def two_tables(root: Path) -> None:
    table(root)
    shutil.copy(root / "cap/list.csv", root / "cap/more.csv")


@pytest.mark.parametrize(
    ("build", "parts"),
    [
        (two_layouts, ("fits two layouts", "MVTec AD", "VisA")),
        (two_masks, ("000.png and ", "000_mask.png may both be the mask")),
        (one_mask_for_two, ("may be the mask of", "000.jpg", "000.png")),
        (no_label, ("Part1.jpg has no label",)),
        (visa_lacks_a_file, ("1cls.csv", "line 5", "0003.JPG")),
        (two_tables, ("2 tables", "list.csv")),
    ],
)
def test_mistakes_in_a_layout_end_in_one_sentence(tmp_path, build, parts):
    build(tmp_path)
    with pytest.raises(FastFlowError) as error:
        listing(tmp_path, "cap")
    one_line(error, *parts)
    assert all(part in check(tmp_path).loc["cap", "problems"] for part in parts)


def test_a_folder_in_no_layout_is_told_which_ones_are_known(tmp_path):
    tree(tmp_path)
    picture(tmp_path / "nut/pictures/a.png")
    with pytest.raises(FastFlowError) as error:
        listing(tmp_path, "nut")
    one_line(error, "it has pictures", "MVTec AD", "VisA", "KolektorSDD", "table")


# What a breaker has found -----------------------------------------------------------------------


def test_what_our_own_commands_have_written_is_not_learnt_from(tmp_path):
    for i in range(3):
        picture(tmp_path / f"parts/{i}.png")
        picture(tmp_path / f"parts/seen/heat_maps/{i}.png")
        picture(tmp_path / f"parts/out/figures/{i}.png")
    picture(tmp_path / "parts/seen/of_a_person.png")
    write(tmp_path / "parts/seen/predict.json", '{"program": "fastflow predict"}')
    write(tmp_path / "parts/out/metrics.json", "{}")
    write(tmp_path / "parts/out/model/config.json", "{}")
    found = from_folders(tmp_path / "parts")
    names = [found.name(item.path) for item in found.items]
    assert names == ["0.png", "1.png", "2.png", "seen/of_a_person.png"]
    assert "not read: out, seen/heat_maps" in told(found)
    judged = find_images(tmp_path / "parts").pictures
    assert {name.as_posix() for _, name in judged} == set(names)


def elsewhere(root: Path) -> list[Listing]:
    """Listings of pictures outside the folder that is named."""
    for i in range(5):
        picture(root / f"secret/photos/{i}.png")
        picture(root / f"secret/photos/photos/{i}.png")
    picture(root / "hidden/spots/a.png")
    (root / "link").symlink_to(root / "secret/photos", target_is_directory=True)
    rows = [f"{root}/secret/photos/{i}.png,good" for i in range(5)]
    file = write(root / "tables/list.csv", "path,label", *rows)
    return [
        from_folders(root / "secret/photos", root / "hidden/spots"),
        from_folders(root / "link"),
        from_table(file),
    ]


def test_names_are_never_absolute_and_tell_no_folders_above(tmp_path):
    both, linked, listed = elsewhere(tmp_path)
    inside = [f"{i}.png" for i in range(5)] + [f"photos/{i}.png" for i in range(5)]
    assert sorted(both.name(item.path) for item in both.items) == [*inside, "spots/a.png"]
    assert sorted(linked.name(item.path) for item in linked.items) == inside
    assert sorted(listed.name(item.path) for item in listed.items) == inside[:5]
    assert (both.category, linked.category) == ("photos", "link")
    for found in (both, linked, listed):
        assert str(tmp_path) not in told(found) and "secret" not in told(found)


def test_names_do_not_depend_on_how_the_folder_is_called(tmp_path, monkeypatch):
    for i in range(2):
        picture(tmp_path / f"parts/day/{i}.png")
    monkeypatch.chdir(tmp_path / "parts")
    ways = [tmp_path / "parts", Path(), Path("../parts"), Path("day/..")]
    named = [(f.category, [f.name(i.path) for i in f.items]) for f in map(from_folders, ways)]
    assert named == [("parts", ["day/0.png", "day/1.png"])] * 4


@pytest.mark.parametrize(
    ("bad", "good"),
    [("parts", "parts/fine"), ("parts", "parts"), ("parts/fine/..", "parts/fine")],
)
def test_good_pictures_inside_the_folder_of_bad_ones_are_told_as_such(tmp_path, bad, good):
    picture(tmp_path / "parts/fine/a.png")
    with pytest.raises(FastFlowError) as error:
        from_folders(tmp_path / good, tmp_path / bad)
    one_line(error, "lie in the folder of bad ones")


@pytest.mark.parametrize(
    ("good", "bad", "part"),
    [
        (["a"], ["day1/good/a", "day1/scratch/b"], "good lies among the bad"),
        (["cap/train/good/a", "cap/test/cut/b"], None, "has a folder good and pictures elsewhere"),
        (["a", "cap/test/cut/b"], None, "has a folder test"),
        (["day1/ok/a", "day2/b"], None, "has a folder ok and pictures elsewhere"),
    ],
)
def test_names_of_folders_further_down_are_heeded(tmp_path, good, bad, part):
    for name in good:
        picture(tmp_path / f"fine/{name}.png")
    for name in bad or ():
        picture(tmp_path / f"faulty/{name}.png")
    with pytest.raises(FastFlowError) as error:
        from_folders(tmp_path / "fine", tmp_path / "faulty" if bad else None)
    one_line(error, part)


def test_all_good_in_folders_of_days_are_taken(tmp_path):
    for day in (1, 2):
        picture(tmp_path / f"all/day{day}/good/a.png")
    assert counts(from_folders(tmp_path / "all")) == (2, 0, 0)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ('path,label\na.png,"good\nb.png,good\n', ("line", "quote")),
        ('path,label\n"a.png"x,good\n', ("line 2", "quote")),
        ("path,label\na.png,good\x00\n", ("line 2",)),
        ("path,label\na.png,good\nb.png,goood\n", ("line 3", "is it 'good'?")),
        ("path,label\na.png,good\nb.png,False\n", ("line 3", "label 'False'")),
        ("path,label\na.png,good\n" + "b" * 140_000 + ",good\n", ("line 3", "field")),
        ("p" * 140_000 + ",label\na.png,good\n", ("line 1", "field")),
        ("path,label\na.png,good\nsub/../a.png,scratch\n", ("line 3", "line 2 already")),
        ("path,label\na.png,good\nlink.png,scratch\n", ("line 3", "line 2 already")),
    ],
)
def test_more_mistakes_in_tables_end_in_one_sentence(tmp_path, text, parts):
    for name in ("a.png", "b.png", "sub/c.png"):
        picture(tmp_path / name)
    (tmp_path / "link.png").symlink_to(tmp_path / "a.png")
    (tmp_path / "list.csv").write_text(text)
    with pytest.raises(FastFlowError) as error:
        from_table(tmp_path / "list.csv")
    one_line(error, *parts)


def test_a_word_that_is_like_good_and_means_another_is_a_kind(tmp_path):
    names = ("abnormal", "wood", "ko")
    rows = [f"{picture(tmp_path / name).name},{name[:-4]}" for name in map("{}.png".format, names)]
    picture(tmp_path / "a.png")
    found = from_table(
        write(tmp_path / "list.csv", "path,label,", "a.png,good,", *(r + "," for r in rows))
    )
    assert {item.defect for item in found.of("test")} == set(names)
    assert "damage: 1 abnormal, 1 ko, 1 wood" in told(found)
    assert "not read: one without a name" in told(found)


def test_what_is_noted_is_noted_once(tmp_path):
    side_by_side(tmp_path)
    shutil.rmtree(tmp_path / "cap/masks")
    notes = listing(tmp_path, "cap").notes
    assert len(notes) == len(set(notes)) and "no mask" in told(listing(tmp_path, "cap"))


def test_plain_folders_beside_another_layout_are_told_how_to_be_given(tmp_path):
    tree(tmp_path)
    picture(tmp_path / "nut/good/a.png")
    with pytest.raises(FastFlowError) as error:
        listing(tmp_path, "nut")
    one_line(error, f"--data {tmp_path / 'nut'}")
    assert listing(tmp_path / "nut", "nut").of("train")


def test_pictures_taken_for_masks_are_told_in_every_layout(tmp_path):
    tree(tmp_path)
    picture(tmp_path / "cap/train/good/000-seg.png")
    found = listing(tmp_path, "cap")
    assert counts(found) == (5, 2, 2)
    assert "1 files beside pictures are taken for their masks" in told(found)
    assert "000-seg.png" in told(found)
    with pytest.raises(FastFlowError, match="mask of a good picture is not black"):
        run(Recipe(method="gaussian"), tmp_path, "cap", tmp_path / "out")


def test_masks_of_one_kind_are_not_taken_for_another_in_silence(tmp_path):
    picture(tmp_path / "fine/a.png")
    picture(tmp_path / "fine/b.png")
    for kind in ("dent", "scratch"):
        picture(tmp_path / f"bad/{kind}/0.png")
    mask(tmp_path / "truth/0.png")
    mask(tmp_path / "truth/dent/0.png")
    found = from_folders(tmp_path / "fine", tmp_path / "bad", tmp_path / "truth")
    assert "masks of scratch are those directly in the folder of masks" in told(found)


def test_the_same_file_in_both_splits_or_with_both_labels_is_told(tmp_path):
    for number, name in enumerate(("train/good/0", "train/good/1", "test/good/0", "test/cut/0")):
        picture(tmp_path / f"cap/{name}.png", number)
    assert remarks(listing(tmp_path, "cap")) == []
    shutil.copy(tmp_path / "cap/train/good/1.png", tmp_path / "cap/test/good/9.png")
    shutil.copy(tmp_path / "cap/test/good/0.png", tmp_path / "cap/test/cut/0.png")
    [told_] = remarks(listing(tmp_path, "cap"))
    assert "test/good/9.png = train/good/1.png" in told_
    assert "test/good/0.png = test/cut/0.png" in told_
    assert told_ in check(tmp_path).loc["cap", "notes"]


@pytest.mark.parametrize("suffix", ["tif", "png", "webp"])
def test_files_of_several_frames_are_told(tmp_path, suffix):
    frames = [Image.new("L", (8, 8), value) for value in (10, 90, 200)]
    picture(tmp_path / "parts/one.png")
    file = tmp_path / f"parts/many.{suffix}"
    frames[0].save(file, save_all=True, append_images=frames[1:])
    [note] = remarks(from_folders(tmp_path / "parts"))
    assert f"several pages or frames, of which the first is read: many.{suffix}" == note
    assert survey(tmp_path / "parts").loc[file.name, "remark"].startswith("several frames")
