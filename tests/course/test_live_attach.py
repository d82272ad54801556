"""From a figure to a live one: nothing more in a script, a widget with a live frontend."""

import importlib
import json

import pytest
from matplotlib.figure import Figure

from fastflow_utils.course.live import LiveFigure, attach, module, present, script
from fastflow_utils.course.live.script import COMPUTING, FILES
from fastflow_utils.errors import FastFlowError

attach_module = importlib.import_module("fastflow_utils.course.live.attach")


def test_data_are_made_once_they_are_asked_for():
    made = []
    figure = Figure()
    assert attach(figure, lambda: made.append(1) or {"kind": "frames"}) is figure
    assert made == []
    assert figure.live_data() == {"kind": "frames"} and made == [1]


def test_with_a_live_frontend_the_widget_is_shown_in_the_figures_place(monkeypatch):
    shown = []
    monkeypatch.setattr(attach_module, "display", shown.append)
    figure = Figure()
    assert present(figure, lambda: {"kind": "frames"}) is figure
    assert shown == []
    monkeypatch.setattr(attach_module, "is_live", lambda: True)
    assert present(figure, lambda: {"kind": "frames"}) is None
    [widget] = shown
    assert isinstance(widget, LiveFigure) and widget.data == {"kind": "frames"}


def test_jupyterlab_and_pages_run_the_same_script():
    assert module().startswith(script(COMPUTING))
    assert "http" not in script(FILES).replace("http://www.w3.org/2000/svg", "")


def refused() -> dict[str, object]:
    raise FastFlowError("too many of them")


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (refused, "stands still: too many of them"),
        (lambda: {"kind": 1 // 0}, "stands still: ZeroDivisionError: "),
        (lambda: {"kind": "frames", "low": float("nan")}, "stands still: ValueError: "),
        (lambda: {"kind": "frames", "low": float("inf")}, "stands still: ValueError: "),
    ],
)
def test_a_figure_without_data_stands_still_and_says_why(make, says, capsys):
    formatter = attach_module._Formatter()
    assert formatter(attach(Figure(), make)) is None
    said = capsys.readouterr()
    assert says in said.err and said.err.count("\n") == 1 and said.out == ""


def test_what_a_page_takes_is_what_the_figure_has(capsys):
    data = {"kind": "frames", "numbers": [1, 2.5]}
    formatter = attach_module._Formatter()
    assert json.loads(json.dumps(formatter(attach(Figure(), lambda: data)))) == data
    assert formatter(Figure()) is None and formatter("text") is None and formatter(Figure) is None
    assert capsys.readouterr().err == ""
