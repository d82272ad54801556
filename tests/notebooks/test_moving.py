"""A committed notebook holds pictures alone; its page gets back what makes them move."""

import json
import re
from copy import deepcopy

import moving
import nbformat
import pages
import pytest
import run
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from fastflow_utils.course.live import MIME
from fastflow_utils.errors import FastFlowError

DOT = (  # a picture of one pixel
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJg"
    "gg=="
)
CODE = """from ipywidgets import IntSlider
from matplotlib.figure import Figure
from fastflow_utils.course.widgets import explore
def draw(n):
    figure = Figure((2, 1))
    figure.subplots().plot([0, n])
    return figure
explore(draw, n=IntSlider(1, 0, 3))"""


def picture(**data):
    return new_output("display_data", {"image/png": DOT, "text/plain": "<Figure>"} | data)


@pytest.fixture
def moved():
    """A notebook of which one picture of two is live, and says things that could break a page."""
    live = {MIME: {"kind": "frames", "label": "</script><!--<script>&amp;"}}
    cells = [
        new_markdown_cell("# A title\n\nA promise."),
        new_code_cell("1", outputs=[picture()]),
        new_code_cell("2", outputs=[picture(), picture(**live)]),
    ]
    return new_notebook(cells=cells)


def test_what_is_taken_out_comes_back(moved, tmp_path):
    before = deepcopy(moved)
    found = moving.take(moved)
    assert list(found) == [moved.cells[2].id] and MIME not in json.dumps(moved)
    path = moving.beside(tmp_path / "01_one.ipynb")
    moving.write(path, "digest", found)
    digest, read = moving.read(path)
    moving.give(moved, read)
    assert digest == "digest" and moved == before


def test_a_notebook_without_live_figures_leaves_no_file(tmp_path):
    path = moving.beside(tmp_path / "01_one.ipynb")
    moving.write(path, "digest", {"id": [{}]})
    moving.write(path, "digest", {})
    assert not path.exists() and moving.read(path) == ("", {})


def test_a_page_holds_each_live_figures_data_once_and_nothing_breaks_out(moved):
    page = pages.render(moved)
    (data,) = re.findall(r"<script [^>]*application/json[^>]*>(.*?)</script>", page)
    assert json.loads(data)["label"] == "</script><!--<script>&amp;"
    assert page.count('id="live-1"') == 1
    assert page.count('data-live="live-1"') == 1 and page.count(DOT) == 3
    moving.take(moved)
    assert "data-live" not in pages.render(moved)


def test_an_executed_notebook_is_committed_without_its_data_and_its_page_has_them(tmp_path):
    path = tmp_path / "01_one.ipynb"
    cells = [
        new_markdown_cell("# A title\n\nA promise."),
        new_code_cell("pass", metadata={"tags": ["parameters"]}),
        new_code_cell(CODE),
    ]
    nbformat.write(new_notebook(cells=cells), path)
    executed = run.execute(path)
    assert executed.failure is None
    run.save_in_place(executed)
    assert run.check(path) == [] and MIME not in path.read_text()
    assert 'data-live="live-1"' in pages.render(run.committed(path).notebook)

    edited = nbformat.read(path, as_version=4)
    edited.cells[2].source += "  # edited"
    edited.metadata.fastflow.executed = run._digest(edited)
    nbformat.write(edited, path)
    (problem,) = run.check(path)
    assert "01_one.json in live is of other code" in problem


def test_data_of_other_outputs_are_refused(moved):
    found = moving.take(moved)
    ((cell, data),) = found.items()
    for wrong in ({"other": data}, {cell: data[::-1][:1]}, {cell: [*data, None]}):
        with pytest.raises(FastFlowError, match="execute the notebook again"):
            moving.give(moved, wrong)
    moved.cells[2].outputs[1] = new_output("stream", text="no picture")
    with pytest.raises(FastFlowError, match=f"cell {cell} are of other outputs"):
        moving.give(moved, found)


@pytest.mark.parametrize("text", ["", '{"executed": "digest", "cel', "[]", '{"cells": {}}'])
def test_a_broken_file_is_named(tmp_path, text):
    path = tmp_path / "01_one.json"
    path.write_text(text)
    with pytest.raises(FastFlowError, match=r"01_one\.json is broken: execute its"):
        moving.read(path)


def test_a_page_is_made_of_the_data_of_its_own_execution_alone(moved, tmp_path):
    path = tmp_path / "01_one.ipynb"
    moved.metadata.fastflow = {"executed": "digest"}
    moved.cells[2].metadata.tags = ["widget"]
    moving.write(moving.beside(path), "digest", moving.take(moved))
    nbformat.write(moved, path)
    assert 'data-live="live-1"' in pages.render(run.committed(path).notebook)
    assert not any("widget has no data" in problem for problem in run.check(path))

    moved.metadata.fastflow = {"executed": "another digest"}
    nbformat.write(moved, path)
    with pytest.raises(FastFlowError, match=r"is of other code than 01_one\.ipynb"):
        run.committed(path)

    moving.beside(path).unlink()
    assert "data-live" not in pages.render(run.committed(path).notebook)
    assert any(
        "a widget has no data in live/01_one.json" in problem for problem in run.check(path)
    )
