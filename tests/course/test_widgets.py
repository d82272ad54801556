"""Controls only where somebody can move them; the figure always."""

import gc
import importlib
from concurrent.futures import ThreadPoolExecutor

import ipywidgets
import pytest
import torch
from matplotlib.figure import Figure

from fastflow_utils import frontend
from fastflow_utils.course.widgets import explore, explore_features, feature_figure
from fastflow_utils.data.mvtec import MVTecAD
from fastflow_utils.detector.backbones import Backbone
from fastflow_utils.errors import FastFlowError

live_module = importlib.import_module("fastflow_utils.course.widgets.explore")


def render(width: float, name: str) -> Figure:
    figure = Figure((width, 1))
    figure.suptitle(name)
    return figure


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What reaches the page."""
    things: list[object] = []
    monkeypatch.setattr(live_module, "display", things.append)
    return things


def controls() -> dict[str, ipywidgets.ValueWidget]:
    return {
        "width": ipywidgets.IntSlider(2, 1, 5),
        "name": ipywidgets.SelectionSlider(options=["a", "b"], value="b"),
    }


def test_static_twin_is_the_figure_at_the_first_values(shown):
    figure = explore(render, **controls())
    assert figure.get_figwidth() == 2 and figure.get_suptitle() == "b"
    assert shown == []


def test_live_controls_redraw(monkeypatch, shown):
    monkeypatch.setattr(live_module, "is_live", lambda: True)
    drawn = []

    def remember(width: float, name: str) -> Figure:
        drawn.append((width, name))
        return render(width, name)

    sliders = controls()
    assert explore(remember, **sliders) is None
    assert any(isinstance(thing, ipywidgets.VBox) for thing in shown)
    sliders["width"].value = 4
    assert drawn[-1] == (4, "b")


def live_picture(monkeypatch, shown, draw, **sliders):
    """The picture and the trouble of a widget that somebody watches."""
    monkeypatch.setattr(live_module, "is_live", lambda: True)
    explore(draw, **sliders)
    _, picture, trouble = shown[0].children[-3:]
    return picture, trouble


def test_a_menu_is_refused_as_the_keyboard_cannot_move_it_in_jupyterlab():
    with pytest.raises(FastFlowError, match="control 'name' is a Dropdown"):
        explore(render, name=ipywidgets.Dropdown(options=["a"]))


def test_what_is_drawn_already_is_not_drawn_again(monkeypatch, shown):
    drawn = []

    def remember(a: int, b: int) -> Figure:
        drawn.append((a, b))
        return Figure((a + 1, b + 1))

    a, b = ipywidgets.IntSlider(0, 0, 5), ipywidgets.IntSlider(0, 0, 5)
    a.observe(lambda change: setattr(b, "value", change["new"]), "value")
    live_picture(monkeypatch, shown, remember, a=a, b=b)
    a.value = 3
    assert drawn == [(0, 0), (3, 3)]


def test_a_later_error_is_shown_and_the_picture_stays(monkeypatch, shown):
    slider = ipywidgets.IntSlider(1, 0, 5)
    picture, trouble = live_picture(
        monkeypatch, shown, lambda n: Figure((1 / (2 - n), 1)), n=slider
    )
    before = picture.value
    slider.value = 2
    assert "ZeroDivisionError" in trouble.value and picture.value == before
    slider.value = 0
    assert trouble.value == "" and picture.value != before
    assert gc.isenabled()


@pytest.mark.parametrize("live", [False, True])
def test_an_error_in_render_is_raised_before_any_control(monkeypatch, shown, live):
    monkeypatch.setattr(live_module, "is_live", lambda: live)
    with pytest.raises(ZeroDivisionError):
        explore(lambda width: 1 / 0, width=ipywidgets.IntSlider(2, 1, 5))
    assert shown == []


def test_static_is_forced_by_the_environment(monkeypatch):
    class Shell:
        class kernel:
            _allow_stdin = True

    monkeypatch.setattr("IPython.get_ipython", lambda: Shell)
    monkeypatch.delenv("FASTFLOW_STATIC", raising=False)
    assert frontend.is_live()
    monkeypatch.setenv("FASTFLOW_STATIC", "1")
    assert not frontend.is_live()


def test_feature_figure_marks_the_same_place_in_every_panel():
    figure = feature_figure(torch.rand(3, 64, 64), torch.rand(8, 16, 16), 1.0, 0.0, channel=3)
    panels = [axes for axes in figure.axes if axes.images]
    assert len(panels) == 4
    for axes in panels:
        height, width = axes.images[0].get_array().shape[:2]
        (circle,) = axes.patches
        x, y = circle.center
        assert x < width / 8 and y > height * 7 / 8


def test_threads_draw_no_progress_bars_over_each_other(monkeypatch):
    monkeypatch.setattr(frontend, "is_live", lambda: True)
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(lambda: frontend.track([1], "elsewhere").disable).result()
    with frontend.track([], "here") as bar:
        assert not bar.disable


def test_feature_explorer_draws_without_a_frontend(tiny):
    backbone = Backbone("efficientnet_lite0", pretrained=False, image_size=64)
    figure = explore_features(backbone, MVTecAD(tiny, "disc", "test", 64))
    assert "disc" in figure.get_suptitle() and "stride 16" in figure.get_suptitle()
