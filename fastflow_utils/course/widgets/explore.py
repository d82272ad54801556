"""The one way from a figure to a figure with controls."""

import html
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ipywidgets
from IPython.display import display
from matplotlib.figure import Figure

from fastflow_utils.course import plots
from fastflow_utils.course.live import attach
from fastflow_utils.course.live.frames import frames, young_garbage
from fastflow_utils.errors import FastFlowError
from fastflow_utils.frontend import is_live

__all__ = ["explore"]


def explore(
    render: Callable[..., Figure],
    *,
    walked: Mapping[str, Sequence[Any]] | None = None,
    **controls: ipywidgets.ValueWidget,
) -> Figure | None:
    """Draw ``render`` at the controls' first values and, where somebody can move them, add them.

    Without a live frontend (nbconvert, papermill, a script) there is no widget but the figure at
    the first values, so an executed notebook reads well everywhere; in a rendered page it has
    controls that walk through frames drawn beforehand (``fastflow_utils.course.live.frames``). An
    error in ``render`` is raised either way, before any control is shown; a later one is named
    beneath the controls, and the picture stays.

    A slider feels alive if its picture follows within 200 ms: compute beforehand what ``render``
    shows, and let it only draw. Every control can be reached and moved with the keyboard (Tab,
    then the left and right arrow keys). A menu cannot, as JupyterLab takes its keys for commands
    of its own: offer choices by an ``ipywidgets.SelectionSlider``.

    Args:
        render: Takes the controls' values by name, returns a figure; for a page, always of the
            same size.
        walked: By name, the values of a control that a page walks through. Default: all of a
            control with at most 12, else some 12 from end to end.
        **controls: One widget for each argument, such as ``ipywidgets.IntSlider(3, 0, 9)``. Its
            label is its ``description``, else its name.

    Returns:
        The figure; None with a live frontend, which shows it beneath the controls.

    Raises:
        FastFlowError: If a control is a menu.

    Example:
        >>> figure = explore(lambda width: Figure((width, 2)), width=ipywidgets.IntSlider(3, 1, 9))
        >>> float(figure.get_figwidth())
        3.0
    """

    if menus := [name for name, one in controls.items() if isinstance(one, ipywidgets.Dropdown)]:
        raise FastFlowError(
            f"control '{menus[0]}' is a Dropdown, whose keys JupyterLab takes for its own: use an "
            "ipywidgets.SelectionSlider, with the same arguments"
        )

    def values() -> dict[str, Any]:
        return {name: control.value for name, control in controls.items()}

    drawn = values()
    first = render(**drawn)
    if not controls:
        return first
    if not is_live():
        return attach(first, lambda: frames(render, controls, walked), over=True)
    picture = ipywidgets.Image(value=_png(first), format="png")
    picture.layout.max_width, picture.layout.align_self = "100%", "flex-start"
    trouble = ipywidgets.HTML()

    def redraw(_: Any) -> None:
        nonlocal drawn
        if values() == drawn:  # one control moved another, whose call came first
            return
        drawn = values()
        try:
            with young_garbage():
                picture.value, trouble.value = _png(render(**drawn)), ""
        except Exception as error:  # shown: a callback's traceback would end in a hidden log
            text = html.escape(f"{type(error).__name__}: {error}")
            trouble.value = f'<pre role="alert">{text}</pre>'

    for name, control in controls.items():
        control.description = control.description or name.replace("_", " ")
        control.style = {"description_width": "9em"}
        control.layout.width = "min(32em, 100%)"
        control.observe(redraw, "value")
    display(ipywidgets.VBox([*controls.values(), picture, trouble]))
    return None


def _png(figure: Figure) -> bytes:
    file = io.BytesIO()
    # Compressing harder takes longer than sending more bytes to the same machine.
    plots.save(figure, file, compress_level=1)
    return file.getvalue()
