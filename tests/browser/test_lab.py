"""Every notebook in JupyterLab, as a learner has it: all cells run, and every control answers."""

import pytest
import run
from live import UNEXECUTED, errors, moves, widgets
from playwright.sync_api import Page

COURSE = sorted(path.name for path in run.NOTEBOOKS.glob("[0-9]*.ipynb"))


@pytest.mark.parametrize("name", COURSE)
def test_all_cells_run_and_every_control_changes_its_picture(name: str, lab, page: Page):
    notebook = run.nbformat.read(run.NOTEBOOKS / name, as_version=4)
    lab.open(page, name)
    lab.run_all(page)
    assert page.evaluate(UNEXECUTED) == []
    assert errors(page) == []
    found = widgets(page)
    assert len(found) == len(run._code_cells(notebook, "widget"))
    for number, widget in enumerate(found, 1):
        assert widget.controls, f"widget {number} has no control"
        for control in widget.controls:
            assert control.label, f"a control of widget {number} has no label"
            assert moves(page, widget, control), f"{control.label} (widget {number})"
    page.evaluate("jupyterapp.shell.currentWidget.sessionContext.shutdown()")
