"""Figures show the numbers that they were given, in the course's colours."""

import io
from base64 import b64decode
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from IPython.core.formatters import DisplayFormatter
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import ConnectionPatch
from matplotlib.text import Text
from PIL import Image

from fastflow_utils.course import plots
from fastflow_utils.course.plots import style
from fastflow_utils.detector.evaluation import Evaluation
from fastflow_utils.detector.metrics import auroc


@pytest.fixture
def evaluation() -> Evaluation:
    """Of random maps."""
    masks = torch.zeros(12, 1, 32, 32, dtype=torch.bool)
    masks[6:, :, 8:16, 8:16] = True
    maps = 0.5 * torch.rand(12, 1, 32, 32) + 0.4 * masks
    labels = masks.flatten(1).any(1).long()
    scores = maps.flatten(1).mean(1) + 0.1 * torch.rand(12)
    dataset = SimpleNamespace(title="tile (sample set)", has_masks=True)
    return Evaluation(dataset, maps, scores, masks, labels, 0.3, 0.6)


@pytest.fixture
def show() -> Callable[[Figure], tuple[dict[str, str], dict[str, dict[str, object]]]]:
    """What a notebook's page gets of a figure: the data and what is said about them, by type."""
    shell = SimpleNamespace(display_formatter=DisplayFormatter())
    style._show_figures(shell)
    return shell.display_formatter.format


def pixels(data: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(b64decode(data))).convert("RGB"), int)


def test_a_notebook_shows_figures_at_their_size_with_twice_the_pixels(show):
    figure, [panel] = plots.panels("a title")
    panel.plot([1, 3, 2])
    plots.describe(figure, "A line that rises and falls.")
    data, facts = show(figure)
    assert set(data) == {"text/plain", "image/png"}
    height, width = pixels(data["image/png"]).shape[:2]
    said = "a title. A line that rises and falls."
    assert facts == {"image/png": {"width": width // 2, "height": height // 2, "alt": said}}
    assert width > 1.8 * figure.get_dpi() * figure.get_figwidth()


def test_a_figure_says_its_title_and_what_it_was_told_to():
    figure, _ = plots.panels("before", r"after $x_{a}$")
    assert plots.seen(plots.describe(figure, "A\n    dot")) == "before; after x_a. A dot."
    figure.suptitle("Two dots\n(sample set)?")
    assert plots.seen(figure) == "Two dots (sample set)? A dot."
    assert plots.seen(plots.describe(Figure(), "A dot.")) == "A dot."


def test_a_figure_that_nobody_described_names_its_panels_and_axes():
    figure, [left, right] = plots.panels("before", "after")
    left.set(xlabel="x", ylabel=r"$\log\,|\det J|$")
    right.set_xlabel("x")
    plots.colour_bar(figure, "nats", 0, 1)
    figure.suptitle("Two maps")
    words = plots.seen(figure)
    assert words == "Two maps. Panels: before; after. Axes: x; log |det J|; nats."
    figure.suptitle("long " * 90)
    assert len(plots.seen(figure)) <= 300


def test_what_is_said_of_scores_is_what_they_are(evaluation):
    """The numbers in the words are those of the data, not only those of the title."""
    good, bad = (plots.span(evaluation.scores[evaluation.labels == k]) for k in (0, 1))
    told = f"good images {good}, anomalous images {bad}"
    assert told in plots.seen(plots.score_histogram(evaluation))
    assert told in plots.seen(plots.strips({"s": evaluation.scores}, evaluation.labels))
    area = auroc(evaluation.scores, evaluation.labels)
    assert f"images, AUROC {area:.3f}" in plots.seen(plots.roc(evaluation))
    wrong = round((1 - area) * 36)
    assert f"{wrong} grey ones" in plots.seen(plots.pairs(evaluation))


def test_a_photograph_is_shown_as_one_and_a_drawing_exactly(show):
    dice = np.random.default_rng(0)
    blurred = Image.fromarray(dice.integers(0, 255, (16, 16, 3), np.uint8)).resize((256, 256))
    grainy = np.asarray(blurred, np.float32) / 255 + dice.normal(0, 0.03, (256, 256, 3))
    photo = plots.image_grid([[grainy.clip(0, 1).astype(np.float32)]], ["a"], ["b"])
    for _ in range(2):  # nothing is kept from the first time
        assert set(show(photo)[0]) == {"text/plain", "image/jpeg"}
    figure, [panel] = plots.panels("")
    panel.plot([0, 1], color=plots.ANOMALOUS_COLOUR, linewidth=1)  # few pixels of its colour
    panel.imshow(np.linspace(0, 1, 256 * 256).reshape(256, 256), extent=(0, 1, 0, 1))
    shown = pixels(show(figure)[0]["image/png"])
    off = np.abs(shown - np.round(255 * np.array(plots.ANOMALOUS_COLOUR))).max(-1)
    assert (off < 6).sum() > 100


def test_a_palette_may_not_change_a_small_spot():
    """The rarest colours are the first to go, and they are what is pointed at."""
    many = np.zeros((256, 256, 3), np.uint8)
    many[..., 0], many[..., 1] = np.mgrid[:256, :256]
    many[100:104, 100:104] = (0, 40, 255)
    kind, data = style.smallest(Image.fromarray(many))
    if kind == "image/png":
        assert (np.asarray(Image.open(io.BytesIO(data)).convert("RGB")) == many).all()


def test_save_writes_what_savefig_does(tmp_path):
    def drawn() -> Figure:
        figure, [panel] = plots.panels("a title")
        panel.plot([1, 3, 2])
        return figure

    plots.save(drawn(), tmp_path / "ours.png")
    drawn().savefig(tmp_path / "theirs.png")
    ours, theirs = (np.asarray(Image.open(tmp_path / f"{n}.png")) for n in ("ours", "theirs"))
    assert ours.shape == theirs.shape and (ours == theirs).all()


def test_no_line_but_good_and_anomalous_has_their_colours():
    taken = {to_rgb(plots.GOOD_COLOUR), to_rgb(plots.ANOMALOUS_COLOUR)}
    assert len(taken) == 2
    assert not taken & set(map(to_rgb, plots.OTHER_COLOURS))
    assert len(set(map(to_rgb, plots.OTHER_COLOURS))) == len(plots.OTHER_COLOURS)
    named = [plots.TRAIN_COLOUR, plots.HELD_OUT_COLOUR]
    named += [plots.COUNTED_COLOUR, plots.UNCOUNTED_COLOUR]
    assert not taken & set(map(to_rgb, named)) and len(set(map(to_rgb, named))) == 4
    assert not set(map(to_rgb, named)) & set(map(to_rgb, plots.OTHER_COLOURS))


def test_an_outline_is_light_with_a_dark_rim_on_any_ground():
    mask = torch.zeros(1, 16, 16, dtype=torch.bool)
    mask[:, 5:11, 5:11] = True
    for ground in (0.0, 1.0):
        picture = np.full((16, 16, 3), ground, np.float32)
        drawn = plots.outline(picture, mask)
        assert (picture == ground).all(), "the picture given is left as it is"
        assert (drawn == np.float32([0.2, 1.0, 0.4])).all(-1).any()
        assert (drawn == 0).all(-1).any()
        assert (drawn[0, 0] == ground).all(), "far away nothing changes"


def test_pairs_shows_every_pair_once_and_their_share(evaluation):
    figure = plots.pairs(evaluation)
    (axes,) = figure.axes
    (cells,) = axes.collections
    assert cells.get_array().shape == (6, 6)
    share = auroc(evaluation.scores, evaluation.labels)
    assert cells.get_array().mean() == pytest.approx(share)
    assert f"{share:.3f}" in axes.get_title() and "sample set" in axes.get_title()


def test_overlaps_rise_with_the_false_positive_rate(evaluation):
    left, right = plots.overlaps(evaluation).axes
    assert len(left.lines) == 2 and len(right.lines) > 2
    for line in (*left.lines, *right.lines):
        assert (np.diff(line.get_ydata()) >= 0).all()
    assert all(line.get_ydata()[-1] == 1 for line in left.lines)


def test_overlaps_areas_are_the_metrics(evaluation):
    left, right = plots.overlaps(evaluation).axes
    metrics = evaluation.metrics()
    rate, found = left.lines[0].get_data()
    assert np.trapezoid(found, rate) == pytest.approx(metrics["pixel_auroc"], abs=0.01)
    rate, found = left.lines[1].get_data()
    low = rate <= 0.3
    assert np.trapezoid(found[low], rate[low]) / 0.3 == pytest.approx(metrics["aupro"], abs=0.02)
    assert f"{metrics['aupimo']:.3f}" in right.get_title()


def test_overlaps_in_a_region_are_those_of_what_lies_in_it(evaluation):
    inside = torch.zeros(32, 32, dtype=torch.bool)
    inside[4:20, 2:12] = True
    region = replace(evaluation, inside=inside, masks=evaluation.masks & inside)
    cut = {n: getattr(region, n)[..., 4:20, 2:12] for n in ("maps", "masks")}
    panels = (plots.overlaps(each).axes for each in (region, replace(evaluation, **cut)))
    for one, other in zip(*panels, strict=True):
        assert one.get_title() == other.get_title()
        for line, expected in zip(one.lines, other.lines, strict=True):
            assert np.allclose(line.get_ydata(), expected.get_ydata())


@pytest.mark.parametrize("name", ["$x_$", r"\frac", "a$b_{$.png", "one$", "caf\udce9"])
def test_a_name_is_drawn_as_it_is(name, evaluation, tmp_path):
    """Matplotlib reads a formula between two ``$``, and fails on one that is none."""
    named = replace(evaluation, dataset=SimpleNamespace(title=name, has_masks=True))
    pixels = np.zeros((8, 8, 3), np.float32)
    figures = [
        *(draw(named) for draw in (plots.score_histogram, plots.roc, plots.pairs, plots.overlaps)),
        plots.image_grid([[pixels]], ["$z^2$"], [f"{name}\nscore 1"], name),
        plots.strips({"scores": evaluation.scores}, evaluation.labels, name),
    ]
    for figure in figures:
        plots.save(figure, tmp_path / "figure.png")
        texts = [text.get_text() for text in figure.findobj(Text)]
        assert any(plots.plain(name) in text for text in texts)
    shown = Text(0, 0, plots.plain(name))
    assert shown._preprocess_math(shown.get_text())[0] == name.replace("\udce9", r"\udce9")


def test_strips_show_every_score_in_its_group(evaluation):
    figure = plots.strips({"scores": evaluation.scores}, evaluation.labels)
    good, anomalous = figure.axes[0].collections
    for group, label in ((good, 0), (anomalous, 1)):
        own = evaluation.scores[evaluation.labels == label]
        assert np.allclose(np.sort(group.get_offsets()[:, 0]), own.sort().values)
        assert (np.round(group.get_offsets()[:, 1]) == label).all()


def test_the_bands_of_a_change_of_variables_have_equal_probability():
    x = torch.linspace(-4, 4, 4001)
    p = torch.distributions.Normal(0, 1).log_prob(x).exp()
    figure = plots.change_of_variables(x, x, p, p, np.zeros(10), parts=4)
    curve = figure.axes[1]
    ends = [line.get_xdata()[-1] for line in curve.lines]
    assert torch.allclose(
        torch.distributions.Normal(0, 1).cdf(torch.tensor(ends[:3])),
        torch.tensor([0.25, 0.5, 0.75]),
        atol=0.01,
    )


def test_the_colours_of_a_jacobian_leave_nothing_out():
    J = torch.tensor([[1.0, 0.0], [-3.5, 0.5]])
    figure = plots.jacobian(J, 1)
    assert figure.axes[0].images[0].get_clim() == (-3.5, 3.5)


def test_guide_lines_lead_from_the_curve_to_both_axes():
    x = torch.linspace(-4, 4, 4001)
    p = torch.distributions.Normal(0, 1).log_prob(x).exp()
    figure = plots.change_of_variables(x, x, p, p, np.zeros(10), parts=4)
    lines = [one for one in figure.get_children() if isinstance(one, ConnectionPatch)]
    assert len(lines) == 2 * 3
    for line in lines:
        (x_a, z_a), (x_b, z_b) = line.xy1, line.xy2
        assert (x_b, z_b) in [(0, z_a), (x_a, 0)], "level or upright"


def test_a_grid_has_few_lines_however_fine_it_is():
    for count in (8, 24, 64):
        _, [axes] = plots.panels("")
        cells = plots.mesh(axes, plots.square(0, 1, count + 1), torch.rand(count, count))
        lines = axes.collections[1].get_segments()
        assert cells.get_array().shape == (count, count)
        assert len(lines) <= 2 * 17 and {len(line) for line in lines} == {count + 1}


def test_planes_are_equally_large_and_their_bars_as_high():
    corners, values = plots.square(-3, 3, 9), torch.rand(8, 8)
    pictures = {"a": torch.randn(50, 2), "b": (corners, values, "v"), "c": (corners, values, "w")}
    figure = plots.planes("heading", pictures)
    figure.draw_without_rendering()
    panels = [axes.get_window_extent() for axes in figure.axes if axes.get_title()]
    assert len({(round(p.width), round(p.height)) for p in panels}) == 1
    bars = [bar for axes in figure.axes for bar in axes.child_axes]
    assert [bar.get_ylabel() for bar in bars] == ["v", "w"]
    assert all(abs(bar.get_window_extent().height - panels[0].height) < 1 for bar in bars)


@pytest.mark.parametrize("rows", [1, 2])
def test_a_colour_bar_takes_nothing_from_the_pictures(rows):
    def sides(figure: Figure) -> list[float]:
        figure.draw_without_rendering()
        return [axes.get_window_extent().height for axes in figure.axes if axes.images]

    picture = np.zeros((8, 8, 3), np.float32)
    names = ["train", "test"][:rows]
    figure = plots.image_grid([[picture] * 3] * rows, list("abc"), names, "heading")
    before, width = sides(figure), figure.get_figwidth()
    assert plots.heat_bar(figure) is figure
    assert np.allclose(sides(figure)[: len(before)], before, rtol=0.06)
    wider = figure.get_figwidth()
    plots.heat_bar(figure)
    assert width < wider == figure.get_figwidth(), "a second bar says nothing new"


def test_pictures_in_a_row_are_equally_high_with_gaps_between_them():
    wide, square = np.zeros((8, 16, 3), np.float32), np.zeros((8, 8, 3), np.float32)
    figure = plots.image_grid([[wide, square], [wide]], ["a name " * 9, "b"], ["x", "y"])
    figure.draw_without_rendering()
    boxes = [axes.get_window_extent() for axes in figure.axes if axes.images]
    assert len(boxes) == 3 and np.ptp([box.height for box in boxes]) < 3
    assert boxes[1].x0 - boxes[0].x1 > 4 and boxes[0].y0 - boxes[2].y1 > 4
    titles = [axes.title.get_window_extent() for axes in figure.axes[:2]]
    assert titles[0].x1 < titles[1].x0, "a long name stays above its own picture"


def test_every_heat_map_of_a_gallery_has_its_colours_explained(evaluation):
    data = [SimpleNamespace(image=torch.rand(3, 32, 32)) for _ in range(12)]

    class Data(list):
        title, has_masks, defects = "tile (sample set)", True, ["good"] * 6 + ["hole"] * 6

    figure = plots.gallery(replace(evaluation, dataset=Data(data)))
    labels = [bar.get_ylabel() for axes in figure.axes for bar in (axes, *axes.child_axes)]
    assert labels.count("anomaly map") == 1


def test_a_gallery_says_where_its_maps_are_hottest(evaluation):
    class Data(list):
        title, has_masks, defects = "tile (sample set)", True, ["good"] * 6 + ["hole"] * 6

    data = Data(SimpleNamespace(image=torch.rand(3, 32, 32)) for _ in range(12))
    evaluation = replace(evaluation, dataset=data)
    good, hole = (f"{name} {evaluation.scores[i]:.2f}" for i, name in ((0, "good"), (6, "hole")))
    words = plots.seen(plots.gallery(evaluation, [0, 6]))
    assert f"hottest in the defect: {hole}; no defect: {good}" in words
    evaluation.maps[6, 0, 20, 20] = 2
    assert f"elsewhere: {hole}" in plots.seen(plots.gallery(evaluation, [0, 6]))


def test_a_training_curve_tells_training_from_held_out():
    history = pd.DataFrame({"epoch": [1, 2], "nll": [2.0, 1.0], "held_out_nll": [1.8, 1.2]})
    (axes,) = plots.training_curve(history.assign(nll_0=history["nll"])).axes
    shades = {line.get_label(): to_rgb(line.get_color()) for line in axes.lines}
    assert shades["level 0"] == shades["mean, training"] == to_rgb(plots.TRAIN_COLOUR)
    assert shades["mean, held out"] == to_rgb(plots.HELD_OUT_COLOUR)


def test_areas_of_cells_are_those_of_the_map():
    corners = plots.square(0, 1, 5)
    A = torch.tensor([[2.0, 1.0], [0.5, 3.0]])
    assert torch.allclose(
        plots.cell_areas(corners @ A.T), torch.det(A) * plots.cell_areas(corners)
    )


def test_a_montage_holds_its_pictures_in_threads():
    _, [axes] = plots.panels("")
    left, right = np.zeros((24, 24, 3), np.float32), np.full((24, 24, 3), 0.5, np.float32)
    plots.montage(axes, [left, right], ["a", "b"])
    row = np.asarray(axes.images[0].get_array())
    assert (row[:, :24] == 0).all() and (row[:, -24:] == 0.5).all()
    assert [text.get_text() for text in axes.texts] == ["a", "b"]
