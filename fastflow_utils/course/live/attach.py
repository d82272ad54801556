"""From a figure to a live one: data beside the picture in a page, a widget in JupyterLab."""

import json
import os
import sys
from collections.abc import Callable
from typing import Any, cast

import anywidget
import traitlets
from IPython import get_ipython
from IPython.core.formatters import JSONFormatter
from IPython.display import display
from IPython.utils.dir2 import get_real_method
from matplotlib.figure import Figure

from fastflow_utils.course.live.script import module, style
from fastflow_utils.errors import FastFlowError
from fastflow_utils.frontend import is_live

__all__ = ["MIME", "LiveFigure", "attach", "present"]

MIME = "application/vnd.fastflow.live+json"
"""Of the data in a notebook's outputs; `notebooks/pages.py` takes them from there."""

Data = dict[str, Any]


class LiveFigure(anywidget.AnyWidget):
    """A live figure in JupyterLab: the page's script, on ipywidgets.

    Args:
        data: As :func:`attach` takes it.
    """

    _esm = module()
    _css = style()
    data = traitlets.Dict().tag(sync=True)


def attach(figure: Figure, make: Callable[[], Data], *, over: bool = False) -> Figure:
    """Let a figure's picture become a live one where it is shown in a page without a kernel.

    Args:
        figure: What is shown without a script: the static twin.
        make: Returns the data, which can be written as JSON; its ``kind`` says which of the
            scripts reads them. Called once the figure is shown, and only where a page is made.
        over: Whether the page draws over the figure's picture, which then keeps its margins;
            others are cut to what is drawn.

    Returns:
        The same figure.
    """
    cast(Any, figure).live_data, cast(Any, figure).is_whole = make, over
    return figure


def present(figure: Figure, make: Callable[[], Data]) -> Figure | None:
    """Show live what a script computes from data: here as a widget, in a page by :func:`attach`.

    Args:
        figure: The static twin.
        make: As for :func:`attach`.

    Returns:
        The figure; None with a live frontend, where the widget is shown in its place.
    """
    if not is_live():
        return attach(figure, make)
    display(LiveFigure(data=make()))
    return None


class _Formatter(JSONFormatter):
    """Adds the data to what a figure is shown as, by the method that :func:`attach` gives it.

    By a method, not by the figure's type: what matplotlib sets up in a notebook removes all that
    was registered for that type. Where there can be no data, the picture stays still and stderr
    says why: a run goes on, and a notebook that is to be committed is refused.
    """

    format_type = traitlets.Unicode(MIME)

    def __call__(self, shown: Any) -> Data | None:
        make = get_real_method(shown, "live_data")
        if make is None:
            return None
        try:
            data: Data = make()
            json.dumps(data, allow_nan=False)  # or the page's script could not read them
        except Exception as error:
            kind = "" if isinstance(error, FastFlowError) else f"{type(error).__name__}: "
            print(f"In a page this figure stands still: {kind}{error}", file=sys.stderr)
            return None
        return data


if os.environ.get("FASTFLOW_LIVE") and (shell := get_ipython()):  # a notebook, for a page
    formatters = cast(Any, shell.display_formatter).formatters
    formatters[MIME] = _Formatter(parent=shell.display_formatter)
