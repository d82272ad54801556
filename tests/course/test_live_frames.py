"""Frames drawn beforehand: put together again, they are the pictures that `render` draws."""

import gzip
import io
import math
from base64 import b64decode

import ipywidgets
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from fastflow_utils.course.live import frames as module
from fastflow_utils.course.live.frames import _pixels, frames
from fastflow_utils.course.widgets import explore
from fastflow_utils.errors import FastFlowError

SLIDERS = {
    "height": ipywidgets.IntSlider(2, 0, 4),
    "noise": ipywidgets.SelectionSlider(options=["calm", "rough"], value="rough"),
    "width": ipywidgets.FloatSlider(0.6, min=0.2, max=1, step=0.4, description="line width"),
}


def render(height: int, noise: str, width: float) -> Figure:
    """Panels of `noise` alone, of `height` alone, of `height` and `width`, and of nothing."""
    figure = Figure((5, 3), dpi=80)
    photo = figure.add_axes((0, 0, 0.3, 0.5))
    spread = {"calm": 0.1, "rough": 1}[noise]
    photo.imshow(np.random.default_rng(0).random((12, 12, 3)) * spread)
    figure.add_axes((0.1, 0.65, 0.2, 0.3)).set_title("same")
    figure.add_axes((0.45, 0.6, 0.2, 0.3), ylim=(0, 5)).bar([0], [height])
    last = figure.add_axes((0.75, 0.1, 0.2, 0.3), ylim=(0, 5))
    last.axhline(height, linewidth=4 * width)
    last.set_title(f"{height}, {width}")
    figure.set_label(f"{height}, {noise}, {width}")
    return figure


def unpacked(text: str) -> bytes:
    return gzip.decompress(b64decode(text))


def sheets(data: dict) -> list[np.ndarray]:
    """The tiles by their numbers."""
    tiles = []
    for address, count in data["sheets"]:
        picture = np.asarray(Image.open(io.BytesIO(b64decode(address.partition(",")[2]))))
        for i in range(count):
            left, top = data["pitch"] * (i % data["across"]), data["pitch"] * (i // data["across"])
            tiles.append(picture[top : top + data["tile"], left : left + data["tile"]])
    return tiles


def played(data: dict, still: np.ndarray, chosen: list[int]) -> np.ndarray:
    """What the page shows at these numbers of the controls' labels."""
    tile, columns = data["tile"], -(-data["size"][0] // data["tile"])
    tiles = sheets(data)
    shown = np.pad(still, ((0, tile), (0, tile), (0, 0)))
    for group in data["groups"]:
        numbers = np.frombuffer(unpacked(group["tiles"]), "<i4").reshape(-1, len(group["places"]))
        index = 0
        for one in group["controls"]:
            index = index * len(data["controls"][one]["labels"]) + chosen[one]
        for place, number in zip(group["places"], numbers[index], strict=True):
            top, left = tile * (place // columns), tile * (place % columns)
            shown[top : top + tile, left : left + tile] = tiles[number]
    return shown[: still.shape[0], : still.shape[1]]


@pytest.fixture(scope="module")
def data() -> dict:
    return frames(render, SLIDERS)


@pytest.mark.parametrize("chosen", [(0, 0, 0), (4, 1, 2), (2, 1, 1), (3, 0, 1)])
def test_the_tiles_of_a_combination_make_the_figure_that_render_draws(data, chosen):
    values = {
        name: (range(5), ["calm", "rough"], [0.2, 0.6, 1.0])[i][chosen[i]]
        for i, name in enumerate(SLIDERS)
    }
    expected = _pixels(render(**values)).astype(int)
    shown = played(data, _pixels(render(2, "rough", 0.6)), chosen)
    off = np.abs(shown - expected)
    assert off.mean() < 1
    assert off[:, 256:].max() == 0, "a drawing stays exact"
    texts = unpacked(data["seen"]).decode().split("\n")
    assert str(render(**values).get_label()) in texts[np.ravel_multi_index(chosen, (5, 2, 3))]


def test_a_tile_depends_on_the_controls_that_change_it_alone(data):
    groups = {tuple(group["controls"]): group["places"] for group in data["groups"]}
    assert {(0,), (1,), (0, 2)} <= set(groups) <= {(0,), (1,), (2,), (0, 2)}
    assert data["size"] == [800, 480]
    everything = [place for places in groups.values() for place in places]
    assert len(everything) == len(set(everything)) < math.ceil(800 / 64) * math.ceil(480 / 64)


def test_bytes_add_up_and_equal_tiles_are_kept_once():
    def beside(height: int, noise: str) -> Figure:
        return render(height, noise, 0.6)

    one = {"height": SLIDERS["height"]}
    both = frames(beside, one | {"noise": SLIDERS["noise"]})
    rough, calm = (
        frames(lambda height, of=of: beside(height, of), one) for of in ("rough", "calm")
    )
    photo = frames(lambda noise: beside(2, noise), {"noise": SLIDERS["noise"]})
    counts = [sum(count for _, count in found["sheets"]) for found in (both, rough, calm, photo)]
    assert counts[0] <= counts[1] + counts[3]
    assert counts[1] == counts[2]
    again = frames(lambda same, height: beside(height, "calm"), {"same": SLIDERS["noise"]} | one)
    assert again["sheets"] == calm["sheets"]


def test_controls_say_what_they_walk_through(data):
    height, noise, width = data["controls"]
    assert height["labels"] == list("01234") and height["value"] == 2 and height["order"]
    assert noise == {"label": "noise", "labels": ["calm", "rough"], "value": 1, "order": False}
    assert width["label"] == "line width" and width["labels"] == ["0.2", "0.6", "1"]


def drawn(n: int = 0, m: int = 0) -> Figure:
    figure = Figure((2, 1), dpi=80)
    figure.add_axes((0, 0, 1, 1), ylim=(0, 1000)).axhline(n + m)
    return figure


@pytest.mark.parametrize(
    ("walked", "expected"),
    [
        (None, {0, 7, 100}),
        ({"n": [3, 50]}, {3, 7, 50}),
        ({"n": range(0, 101, 50)}, {0, 7, 50, 100}),
    ],
)
def test_the_values_walked_include_the_first_one(walked, expected):
    found = frames(drawn, {"n": ipywidgets.IntSlider(7, 0, 100)}, walked)["controls"][0]
    labels = [int(label) for label in found["labels"]]
    assert expected <= set(labels) and labels == sorted(labels) and len(labels) <= 13
    assert labels[found["value"]] == 7
    if walked:
        assert set(labels) == expected


def test_default_walks_are_shortened_until_their_product_is_drawn_in_time(monkeypatch):
    sliders = {name: ipywidgets.IntSlider(0, 0, 400) for name in "nm"}
    monkeypatch.setattr(module, "MOST", 30)
    lengths = [len(one["labels"]) for one in frames(drawn, sliders)["controls"]]
    assert lengths == [5, 5]


def test_a_figure_that_render_changes_is_as_at_first_in_the_end():
    figure = Figure((2, 1), dpi=80)
    axes = figure.add_axes((0, 0, 1, 1))

    def move(n: int) -> Figure:
        axes.set_title(f"{n}", y=0.3)
        return figure

    before = _pixels(move(2))
    found = frames(move, {"n": ipywidgets.IntSlider(2, 0, 5)})
    assert (_pixels(figure) == before).all() and figure.dpi == 80
    five = _pixels(move(5))
    assert (five != before).any() and (played(found, before, [5]) == five).all()


def noisy(n: int) -> Figure:
    figure = Figure((2, 2), dpi=80)
    figure.figimage(np.random.default_rng(n).integers(0, 256, (320, 320, 3), np.uint8))
    return figure


@pytest.fixture
def small_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BUDGET", 180_000)


@pytest.mark.parametrize(
    ("render", "slider", "walked", "message"),
    [
        (drawn, ipywidgets.IntSlider(0, 0, 400), {"n": range(300)}, "300 frames .* at most 260"),
        (drawn, ipywidgets.IntSlider(0, 0, 4), {"n": [9]}, "control 'n' has no value 9"),
        (drawn, ipywidgets.IntSlider(0, 0, 4), {"k": [1]}, "no control 'k'; there are: n"),
        (lambda n: Figure((n, 1)), ipywidgets.IntSlider(1, 1, 2), None, "one size, in pixels"),
        (
            noisy,
            ipywidgets.IntSlider(0, 0, 7),
            {"n": range(8)},
            "walk through fewer values of n, as in",
        ),
        (
            noisy,
            ipywidgets.SelectionSlider(options=[(name, ord(name)) for name in "abcdefgh"]),
            None,
            "walk through fewer values of n, as in",
        ),
        (lambda n: drawn(12 // n), ipywidgets.IntSlider(1, 0, 3), None, "no frame at n = 0: Zero"),
        (drawn, ipywidgets.IntRangeSlider(value=(1, 2), max=3), None, "'n' has no list of values"),
        (drawn, ipywidgets.IntText(1), None, "'n' has no list of values"),
    ],
)
def test_errors_say_what_to_do(small_budget, render, slider, walked, message):
    with pytest.raises(FastFlowError, match=message):
        frames(render, {"n": slider}, walked)


def test_what_does_not_fit_loses_quality_before_it_is_refused(small_budget):
    few = frames(noisy, {"n": ipywidgets.IntSlider(0, 0, 1)})
    more = frames(noisy, {"n": ipywidgets.IntSlider(0, 0, 2)})
    per_tile = [
        sum(len(address) for address, _ in found["sheets"]) / sum(n for _, n in found["sheets"])
        for found in (few, more)
    ]
    assert per_tile[1] < 0.8 * per_tile[0]


def test_explore_draws_frames_only_where_a_page_is_made():
    calls = []

    def counted(n: int) -> Figure:
        calls.append(n)
        return drawn(n)

    figure = explore(counted, walked={"n": [0, 4]}, n=ipywidgets.IntSlider(2, 0, 9))
    assert calls == [2]
    assert figure.live_data()["controls"][0]["labels"] == ["0", "2", "4"]
    assert calls[1:] == [0, 2, 4, 2]


def titled(n: int) -> Figure:
    figure = Figure((2, 1), dpi=80)
    figure.suptitle(f"frame {n}", fontsize=20)
    return figure


def test_an_order_that_would_not_fit_is_walked_in_larger_steps(monkeypatch):
    slider = {"n": ipywidgets.IntSlider(3, 0, 7)}

    def size(data: dict) -> int:
        return sum(len(address) for address, _ in data["sheets"])

    whole = frames(titled, slider)
    monkeypatch.setattr(module, "BUDGET", size(whole) - 1)
    thin = frames(titled, slider)
    (control,) = thin["controls"]
    assert control["labels"] == ["0", "2", "3", "5", "7"] and control["value"] == 2
    assert size(thin) < size(whole)
    assert len(unpacked(thin["seen"]).decode().split("\n")) == 5
    still = _pixels(titled(3))
    for place, label in enumerate(control["labels"]):
        assert (played(thin, still, [place]) == _pixels(titled(int(label)))).all()


@pytest.mark.parametrize(
    ("control", "walked", "labels", "value"),
    [
        (ipywidgets.FloatSlider(0.3, min=0, max=0.5, step=0.1), None, "0 0.1 0.2 0.3 0.4 0.5", 3),
        (ipywidgets.FloatSlider(0.25, min=0, max=0.5, step=0.25), None, "0 0.25 0.5", 1),
        (ipywidgets.FloatSlider(0.3, min=0, max=1, step=0.5), None, "0 0.3 0.5 1", 1),
        (
            ipywidgets.IntSlider(1_000_001, 1_000_000, 1_000_002),
            None,
            "1000000 1000001 1000002",
            1,
        ),
        (ipywidgets.FloatLogSlider(1, min=-2, max=2), [1, 10, 100], "1 10 100", 0),
        (ipywidgets.Checkbox(True), None, "no yes", 1),
        (
            ipywidgets.RadioButtons(options=[("same", 0), ("same", 9)], value=9),
            None,
            "same same",
            1,
        ),
        (ipywidgets.IntSlider(0, 0, 0), None, "0", 0),
    ],
)
def test_every_control_is_walked_by_its_own_values(control, walked, labels, value):
    seen = []

    def render(n: float) -> Figure:
        seen.append(n)
        return drawn(n)

    data = frames(render, {"n": control}, walked and {"n": walked})["controls"][0]
    assert data["labels"] == labels.split() and data["value"] == value
    assert seen[-1] == seen[value] == pytest.approx(control.value)


def test_a_figure_is_as_at_first_even_if_a_frame_cannot_be_drawn():
    figure = Figure((2, 1), dpi=80)

    def move(n: int) -> Figure:
        if n == 3:
            raise ValueError
        figure.suptitle(str(n))
        return figure

    with pytest.raises(FastFlowError, match="no frame at n = 3: ValueError"):
        frames(move, {"n": ipywidgets.IntSlider(1, 0, 4)})
    assert figure.get_suptitle() == "1"
