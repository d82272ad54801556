"""The drawings: the notation's symbols, nothing on top of anything, legible on a phone."""

from collections.abc import Callable
from itertools import combinations

import pytest
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from matplotlib.text import Text

from fastflow_utils.course import plots

DRAWINGS: dict[str, Callable[[], Figure]] = {
    "protocol": plots.protocol,
    "pyramid": lambda: plots.pyramid([24, 40, 112], [4, 8, 16], 256),
    "five levels": lambda: plots.pyramid([16, 24, 40, 112, 320], [2, 4, 8, 16, 32], 256),
    "oblong": lambda: plots.pyramid([768], [14], (224, 448)),
    "coupling_step": plots.coupling_step,
    "architecture": plots.architecture,
    "calibration": plots.calibration,
}
SYMBOLS = {
    "protocol": ["training", "held out", "test images", "thresholds", "metrics"],
    "pyramid": ["$x$", "$h_{0}$", "$h_{1}$", "$h_{2}$", "112 channels", "16 × 16 positions"],
    "five levels": ["$h_{4}$", "one every 32 pixels"],
    "oblong": ["16 × 32 positions", "224 × 448 pixels"],
    "coupling_step": [
        "$x_a$",
        "$x_b$",
        "$s$",
        "$t$",
        "$z_a$",
        "$z_b$",
        "$z$",
        "subnet",
        "ActNorm",
    ],
    "architecture": ["$h_0$", "$z_1$", "$n_2$", "$a_0$", "anomaly map $a$", "score", "whitening"],
    "calibration": ["$n_l$", "$a_l$", "map $a$", "score", "pixel threshold", "image threshold"],
}


@pytest.fixture(params=DRAWINGS)
def drawing(request: pytest.FixtureRequest) -> tuple[str, Figure]:
    figure = DRAWINGS[request.param]()
    figure.draw_without_rendering()
    return request.param, figure


def words(figure: Figure) -> list[Text]:
    return [text for text in figure.findobj(Text) if text.get_text() and text.get_visible()]


def test_it_holds_the_symbols_of_the_notation(drawing):
    name, figure = drawing
    written = "\n".join(text.get_text() for text in words(figure))
    assert [one for one in SYMBOLS[name] if one not in written] == []


def test_no_words_stand_on_others_or_leave_the_figure(drawing):
    _, figure = drawing
    places = {text: text.get_window_extent() for text in words(figure)}
    for (one, here), (other, there) in combinations(places.items(), 2):
        assert not here.overlaps(there), (one.get_text(), other.get_text())
    for text, place in places.items():
        assert figure.bbox.x0 <= place.x0 and place.x1 <= figure.bbox.x1, text.get_text()
        assert figure.bbox.y0 <= place.y0 and place.y1 <= figure.bbox.y1, text.get_text()


def test_words_stay_within_their_boxes_and_no_box_covers_another(drawing):
    _, figure = drawing
    boxes = [box for box in figure.findobj(FancyBboxPatch) if box.get_facecolor()[3]]
    places = {box: box.get_window_extent() for box in boxes}
    for box, place in places.items():
        named = [text for text in words(figure) if text.get_text() == box.get_label()]
        within = [
            place.x0 < own.x0 and own.x1 < place.x1 and place.y0 < own.y0 and own.y1 < place.y1
            for own in (text.get_window_extent() for text in named)
        ]
        assert not named or sum(within) == 1, box.get_label()
    for here, there in combinations(places.values(), 2):
        inside = here.containsx(there.x0) and here.containsx(there.x1)
        assert inside or not here.overlaps(there)


def test_it_is_legible_on_a_phone(drawing):
    _, figure = drawing
    assert figure.get_figwidth() <= 7
    assert min(text.get_fontsize() for text in words(figure)) >= 9


def test_it_says_in_words_what_is_to_be_seen(drawing):
    label = drawing[1].get_label()
    assert len(label) > 60 and label.endswith(".")


def test_the_curve_is_the_one_that_the_detector_uses():
    curve = next(axes for axes in plots.calibration().axes if axes.get_ylabel() == "$a_l$")
    values = curve.lines[0].get_ydata()
    assert values.min() == 0 and values.max() == 1 and (values[1:] >= values[:-1]).all()


def test_the_arrow_from_the_test_images_to_the_choices_is_crossed_out():
    (axes,) = plots.protocol().axes
    strokes = [line for line in axes.lines if line.get_linewidth() > 3]
    assert len(strokes) == 2 and "never" in [text.get_text() for text in axes.texts]
