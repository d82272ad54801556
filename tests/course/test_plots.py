"""Figures show the numbers that they were given, in the course's colours."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from fastflow_utils.course import plots
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
    (axes,) = plots.overlaps(evaluation).axes
    assert len(axes.lines) == 3
    for line in axes.lines:
        found = line.get_ydata()
        assert (np.diff(found) >= 0).all() and found[-1] == 1


def test_overlaps_in_a_region_are_those_of_what_lies_in_it(evaluation):
    inside = torch.zeros(32, 32, dtype=torch.bool)
    inside[4:20, 2:12] = True
    region = replace(evaluation, inside=inside, masks=evaluation.masks & inside)
    cut = {n: getattr(region, n)[..., 4:20, 2:12] for n in ("maps", "masks")}
    (one,), (other,) = (plots.overlaps(each).axes for each in (region, replace(evaluation, **cut)))
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
