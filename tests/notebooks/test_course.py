"""Every notebook of the course: fit to commit as it is, and it executes on the sample set."""

import re
from pathlib import Path

import pytest
import run
from pages import render

COURSE = sorted(run.NOTEBOOKS.glob("[0-9]*.ipynb"))
every_notebook = pytest.mark.parametrize("path", COURSE, ids=lambda path: path.stem)


@every_notebook
def test_is_fit_to_commit(path: Path):
    assert run.check(path) == []


@every_notebook
def test_page_fetches_nothing(path: Path):
    page = render(run.nbformat.read(path, as_version=4))
    assert not re.search(r"<script|<link|<img[^>]+src=.(?!data:)", page)


@every_notebook
def test_executes_on_the_sample_set(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    # The tests run on one thread, which rounds features otherwise: keep those out of the cache.
    monkeypatch.setenv("FASTFLOW_CACHE", str(tmp_path))
    for name in ("DATA", "CATEGORY", "BACKBONE"):
        monkeypatch.delenv(f"FASTFLOW_{name}", raising=False)
    monkeypatch.setenv("FASTFLOW_EPOCHS", "1")
    assert run.execute(path).failure is None
