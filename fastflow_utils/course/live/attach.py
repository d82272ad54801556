"""From a figure to a live one: data beside the picture in a page, a widget in JupyterLab."""

import os
from collections.abc import Callable
from typing import Any, cast

import anywidget
import traitlets
from IPython import get_ipython
from IPython.core.formatters import JSONFormatter
from IPython.display import display
from matplotlib.figure import Figure

from fastflow_utils.course.live.script import module, style
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


def attach(figure: Figure, make: Callable[[], Data]) -> Figure:
    """Let a figure's picture become a live one where it is shown in a page without a kernel.

    Args:
        figure: What is shown without a script: the static twin.
        make: Returns the data, which can be written as JSON; its ``kind`` says which of the
            scripts reads them. Called once the figure is shown, and only where a page is made.

    Returns:
        The same figure.
    """
    cast(Any, figure).live_data = make
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


def _data(figure: Figure) -> Data | None:
    make = getattr(figure, "live_data", None)
    return make() if make and os.environ.get("FASTFLOW_LIVE") else None


class _Formatter(JSONFormatter):
    format_type = traitlets.Unicode(MIME)


if (shell := get_ipython()) is not None:  # a notebook
    formatter = _Formatter(parent=shell.display_formatter)
    formatter.for_type(Figure, _data)
    cast(Any, shell.display_formatter).formatters[MIME] = formatter
