"""Every notebook in JupyterLab, as a learner has it: all cells run, and every control answers."""

import contextlib

import pytest
import run
from live import UNEXECUTED, Control, Widget, content, errors, press, widgets
from playwright.sync_api import Page, TimeoutError

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
            assert changes(page, widget, control), f"{control.label} (widget {number})"
    page.evaluate("jupyterapp.shell.currentWidget.sessionContext.shutdown()")


def changes(page: Page, widget: Widget, control: Control) -> bool:
    """Whether some key, forward or back, a few steps at most, gives another picture."""
    before = content(page, widget)
    for key in [*control.keys, *3 * control.keys[:1]]:
        with contextlib.suppress(TimeoutError):  # at the end of its range: nothing to redraw
            press(page, widget, control, key, limit=4)
        assert errors(page) == []
        if content(page, widget) != before:
            return True
    return False
