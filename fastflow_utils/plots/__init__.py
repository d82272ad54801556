"""The course's figures. Each function returns a matplotlib ``Figure`` and shows nothing itself.

Importing this module in a notebook sets the series' style for every figure made there: text that
can be read from the back of a room, colours that colour-blind readers can tell apart, and no line
in the colours of good and anomalous but what is good and anomalous.

A figure that a notebook cell returns is shown once, and :func:`save` keeps it. Figures of the
sample set say so: their title comes from :func:`title`.
"""

from fastflow_utils.plots.geometry import (
    cell_areas,
    change_of_variables,
    jacobian,
    mesh,
    planes,
    square,
)
from fastflow_utils.plots.judging import (
    differences,
    false_positive_rates,
    gallery,
    overlaps,
    pairs,
    roc,
    score_histogram,
    strips,
    training_curve,
)
from fastflow_utils.plots.pictures import (
    Pixels,
    colour,
    colour_bar,
    heat,
    image_grid,
    montage,
    outline,
    overlay,
    show,
    title,
)
from fastflow_utils.plots.style import (
    ANOMALOUS_COLOUR,
    GOOD_COLOUR,
    OTHER_COLOURS,
    STYLE,
    panels,
    save,
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
    "planes",
    "roc",
    "save",
    "score_histogram",
    "show",
    "square",
    "strips",
    "title",
    "training_curve",
]
