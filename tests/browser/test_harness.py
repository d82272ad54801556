"""The browser tests would notice: an error, a warning, a control that moves nothing."""

from pathlib import Path

import nbformat
import pytest
from live import UNEXECUTED, errors, moves, widgets
from nbformat.v4 import new_code_cell, new_notebook
from playwright.sync_api import Page

FROZEN = """from ipywidgets import IntSlider
from matplotlib.figure import Figure
from fastflow_utils.course.widgets import explore
def draw(n):
    figure = Figure((2, 1))
    figure.suptitle({title})
    return figure
explore(draw, n=IntSlider(1, 0, 3))"""


@pytest.fixture
def opened(lab, page: Page):
    """Open a notebook of the given cells and run it."""

    def open_and_run(*cells: str) -> Page:
        notebook = new_notebook(cells=[new_code_cell(cell) for cell in cells])
        notebook.metadata.kernelspec = {
            "display_name": "",
            "language": "python",
            "name": "python3",
        }
        nbformat.write(notebook, Path(lab.folder, "root", "notebooks", "probe.ipynb"))
        lab.open(page, "probe.ipynb")
        lab.run_all(page)
        return page

    yield open_and_run
    page.evaluate("jupyterapp.shell.currentWidget.sessionContext.shutdown()")


def test_an_error_is_seen_and_so_is_what_did_not_run(opened):
    page = opened("1 / 0", "2")
    assert ["ZeroDivisionError" in text for text in errors(page)] == [True]
    assert page.evaluate(UNEXECUTED) == ["2"]


def test_a_warning_is_seen(opened):
    page = opened("import warnings\nwarnings.warn('careful')")
    assert ["careful" in text for text in errors(page)] == [True]


@pytest.mark.parametrize(("title", "expected"), [("str(n)", True), ("'x'", False)])
def test_a_control_that_moves_nothing_is_seen(opened, title, expected):
    page = opened(FROZEN.format(title=title))
    (widget,) = widgets(page)
    (control,) = widget.controls
    assert control.label == "n"
    assert moves(page, widget, control) == expected


def test_an_error_while_a_control_moves_is_seen(opened):
    page = opened(FROZEN.format(title="str(1 / (2 - n))"))
    (widget,) = widgets(page)
    with pytest.raises(AssertionError, match="ZeroDivisionError"):
        moves(page, widget, widget.controls[0])
