"""The course's figures. Each function returns a matplotlib ``Figure`` and shows nothing itself.

Importing this module in a notebook sets the series' style for every figure made there: text that
can be read from the back of a room, colours that colour-blind readers can tell apart, and no line
in the colours of good and anomalous but what is good and anomalous.

A figure that a notebook cell returns is shown once, and :func:`save` keeps it. Figures of the
sample set say so: their title comes from the data set.
"""

from fastflow_utils.course.plots.geometry import (
    cell_areas,
    change_of_variables,
    jacobian,
    mesh,
    planes,
    square,
)
from fastflow_utils.course.plots.grids import colour_bar, image_grid, montage
from fastflow_utils.course.plots.judging import (
    differences,
    draw_run,
    false_positive_rates,
    gallery,
    overlaps,
    pairs,
    roc,
    score_histogram,
    strips,
    training_curve,
)
from fastflow_utils.course.plots.style import (
    OTHER_COLOURS,
    STYLE,
    panels,
    plain,
    save,
)
from fastflow_utils.detector.heat_maps import (
    ANOMALOUS_COLOUR,
    GOOD_COLOUR,
    Pixels,
    colour,
    heat,
    outline,
    overlay,
    show,
)

__all__ = [
    "ANOMALOUS_COLOUR",
    "GOOD_COLOUR",
    "OTHER_COLOURS",
    "STYLE",
    "Pixels",
    "cell_areas",
    "change_of_variables",
    "colour",
    "colour_bar",
    "differences",
    "draw_run",
    "false_positive_rates",
    "gallery",
    "heat",
    "image_grid",
    "jacobian",
    "mesh",
    "montage",
    "outline",
    "overlaps",
    "overlay",
    "pairs",
    "panels",
    "plain",
    "planes",
    "roc",
    "save",
    "score_histogram",
    "show",
    "square",
    "strips",
    "training_curve",
]
