"""A page of pictures to look at: who is on it, what it says, and that it needs nothing else."""

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fastflow_utils.data.pictures import survey
from fastflow_utils.errors import FastFlowError
from fastflow_utils.experiments.survey_page import strict_limit, suspects, write_survey


@pytest.mark.parametrize("count", [10, 20, 60, 400])
def test_of_clean_scores_hardly_any_is_suspected(count: int):
    random = np.random.default_rng(count)
    flagged = [suspects(random.normal(1, 2, count)).mean() for _ in range(300)]
    assert np.mean(flagged) <= 0.01


@pytest.mark.parametrize("bad", [1, 3, 12])
def test_gross_outliers_are_found_even_if_they_are_a_fifth(bad: int):
    random = np.random.default_rng(bad)
    for _ in range(100):
        scores = random.normal(size=60)
        scores[-bad:] += 15
        assert suspects(scores)[-bad:].all()


def test_the_limit_moves_and_stretches_with_the_scores():
    scores = np.random.default_rng(0).normal(size=30)
    assert strict_limit(3 * scores + 7) == pytest.approx(3 * strict_limit(scores) + 7)


def test_where_nothing_can_be_said_nobody_is_suspected():
    few = [*np.arange(8.0), 1e6]
    same = [*[1.0] * 20, 2.0]
    for scores in (few, same, [], [np.nan] * 20):
        assert not suspects(scores).any()
    assert suspects([*np.arange(20.0), np.nan, 1e6]).nonzero()[0].tolist() == [21]


class Reader(HTMLParser):
    """Collects what a browser would fetch or run, and checks that tags are closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.fetched: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.fetched += [str(value) for name, value in attrs if name in ("src", "href", "srcset")]
        if tag not in ("meta", "img", "br", "p"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag != "p":
            assert self.open.pop() == tag


def read(page: Path) -> Reader:
    reader = Reader()
    reader.feed(page.read_text())
    assert not reader.open and "script" not in reader.tags
    return reader


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Fourteen pictures: one broken, one of 16 bits, one with a name for HTML, one twice."""
    random = np.random.default_rng(0)
    (tmp_path / "in").mkdir()
    names = [*(f"{number:02}.png" for number in range(11)), "<b> & 'c'.png", "twin.png", "z.png"]
    made = [tmp_path / "in" / name for name in names]
    for file in made:
        Image.fromarray(random.integers(0, 255, (48, 64, 3), np.uint8)).save(file)
    made[-2].write_bytes(made[0].read_bytes())
    made[-1].write_bytes(b"no")
    grey = random.integers(0, 4095, (480, 640)).astype(np.uint16)
    Image.fromarray(grey).save(made[5])
    return made


def test_the_page_needs_nothing_else_and_says_what_is_known(files: list[Path], tmp_path: Path):
    table = survey(files, white=4095)
    scores = np.linspace(-1, 1, len(files))
    scores[-1], scores[3] = np.nan, 40.0
    page = write_survey(table, files, tmp_path / "out" / "deep", scores, white=4095)
    reader = read(page)
    assert len(reader.fetched) == 13, "no thumbnail of the broken one"
    assert all(url.startswith("data:image/jpeg;base64,") for url in reader.fetched)
    text = page.read_text()
    assert "prefers-color-scheme" in text and "&lt;b&gt; &amp; &#x27;c&#x27;.png" in text
    assert str(tmp_path) not in text
    for word in ("unreadable", "near duplicate of 00.png", "64 x 48 px", "score 40.00"):
        assert word in text
    assert text.count("<strong>probably anomalous</strong>") == 1
    order = re.findall(r"<b>(.*?)</b>", text)
    assert order[0] == "03.png" and len(order) == len(files)
    flagged = set(table.index[table["remark"] != ""]) | {"03.png"}
    assert set(order[: len(flagged)]) == flagged
    others = [
        scores[table.index.get_loc(name)] for name in order[len(flagged) :] if "&" not in name
    ]
    assert others == sorted(others, reverse=True)
    kept = pd.read_csv(page.parent / "survey.csv", index_col="file")
    assert list(kept.index) == list(table.index)
    assert kept["probably_anomalous"].sum() == 1 and kept["score"].isna().sum() == 1


def test_thumbnails_are_small_and_keep_their_shape(files: list[Path], tmp_path: Path):
    text = write_survey(survey(files), files, tmp_path).read_text()
    sizes = {tuple(map(int, found)) for found in re.findall(r'width="(\d+)" height="(\d+)"', text)}
    assert sizes == {(64, 48), (160, 120)}


def test_without_scores_nothing_is_said_of_them(files: list[Path], tmp_path: Path):
    table = survey(files)
    page = write_survey(table, files, tmp_path)
    assert "No model has scored them" in page.read_text()
    assert "probably anomalous</strong>" not in page.read_text()
    assert list(pd.read_csv(tmp_path / "survey.csv", index_col="file")) == list(table)


def test_of_many_pictures_without_a_remark_sixty_are_shown_and_all_are_counted(tmp_path: Path):
    file = tmp_path / "one.png"
    Image.new("L", (8, 8)).save(file)
    facts = {
        "width": 8,
        "height": 8,
        "brightness": 0.0,
        "sharpness": 0.0,
        "twin": "",
        "remark": "",
    }
    table = pd.DataFrame([facts] * 100, [f"{n}.png" for n in range(100)]).rename_axis("file")
    table.loc[table.index[::2], "remark"] = "dark"
    page = write_survey(table, [file] * 100, tmp_path, np.arange(100.0), threshold=99.0)
    assert page.read_text().count("<figure>") == 100
    table["remark"] = ""
    text = write_survey(
        table, [file] * 100, tmp_path, np.arange(100.0), threshold=99.0
    ).read_text()
    assert text.count("<figure>") == 61 and "39 pictures without a remark are not shown" in text
    assert text.index("<b>99.png") < text.index("<b>98.png") and "<b>10.png" not in text
    assert len(pd.read_csv(tmp_path / "survey.csv")) == 100


def test_rows_files_and_scores_must_belong_together(files: list[Path], tmp_path: Path):
    table = survey(files)
    with pytest.raises(FastFlowError, match="13 files and 14 scores for 14 rows"):
        write_survey(table, files[1:], tmp_path)
    with pytest.raises(FastFlowError, match="14 files and 2 scores for 14 rows"):
        write_survey(table, files, tmp_path, [1.0, 2.0])
