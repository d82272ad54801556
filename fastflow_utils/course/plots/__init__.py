"""The course's figures. Each function returns a matplotlib ``Figure`` and shows nothing itself.

Importing this module in a notebook sets the series' style for every figure made there: text that
can be read from the back of a room, colours that colour-blind readers can tell apart, and no line
in the colours of good and anomalous but what is good and anomalous. What several notebooks draw
has one colour in all of them: ``TRAIN_COLOUR`` and ``HELD_OUT_COLOUR`` for what is measured on
the images learnt from and on held-out ones, ``COUNTED_COLOUR`` and ``UNCOUNTED_COLOUR`` for a
log-determinant in the loss and one left out of it. Anything else takes ``OTHER_COLOURS``.

A figure that a notebook cell returns is shown once, with two pixels for each of the page's, and
:func:`save` keeps it. Its alternative text, for those who cannot see it, is :func:`seen`: the
title, and what :func:`describe` was told. Figures of the sample set say so: their title comes
from the data set.
"""

from fastflow_utils.course.plots.drawings import (
    architecture,
    calibration,
    coupling_step,
    protocol,
    pyramid,
)
from fastflow_utils.course.plots.geometry import (
    cell_areas,
    change_of_variables,
    jacobian,
    mesh,
    planes,
    square,
)
from fastflow_utils.course.plots.grids import colour_bar, heat_bar, image_grid, montage
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
    COUNTED_COLOUR,
    HELD_OUT_COLOUR,
    OTHER_COLOURS,
    STYLE,
    TRAIN_COLOUR,
    UNCOUNTED_COLOUR,
    describe,
    panels,
    plain,
    save,
    seen,
    span,
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
    "COUNTED_COLOUR",
    "GOOD_COLOUR",
    "HELD_OUT_COLOUR",
    "OTHER_COLOURS",
    "STYLE",
    "TRAIN_COLOUR",
    "UNCOUNTED_COLOUR",
    "Pixels",
    "architecture",
    "calibration",
    "cell_areas",
    "change_of_variables",
    "colour",
    "colour_bar",
    "coupling_step",
    "describe",
    "differences",
    "draw_run",
    "false_positive_rates",
    "gallery",
    "heat",
    "heat_bar",
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
    "protocol",
    "pyramid",
    "roc",
    "save",
    "score_histogram",
    "seen",
    "show",
    "span",
    "square",
    "strips",
    "training_curve",
]
