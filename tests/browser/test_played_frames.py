"""A figure's frames in a page alone: from `explore` in a notebook, over what is committed of it.

The page is read from the disk with every request refused.
"""

import io
import statistics
from base64 import b64decode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import nbformat
import numpy as np
import pytest
import run
from matplotlib import rc_context
from PIL import Image
from playwright.sync_api import Browser, Locator, Page

from fastflow_utils.course.live.frames import _pixels
from fastflow_utils.course.plots.style import STYLE

CODE = """
import ipywidgets
import numpy as np
from matplotlib.figure import Figure
from fastflow_utils.course.widgets import explore

def render(height, noise):
    figure = Figure((6, 3), dpi=80, layout="none")
    photo = np.random.default_rng(0).random((9, 9)) * {"calm": 0.1, "rough": 1}[noise]
    figure.add_axes((0, 0.1, 0.4, 0.8)).imshow(photo, vmin=0, vmax=1)
    figure.add_axes((0.5, 0.2, 0.4, 0.6), ylim=(0, 6)).bar([0], [height])
    figure.suptitle(f"height {height}, {noise}")
    figure.set_label("A bar.")
    return figure
"""
SHOWN = """explore(
    render,
    height=ipywidgets.IntSlider(2, 0, 5),
    noise=ipywidgets.SelectionSlider(options=["calm", "rough"]),
)"""
DRAWN = """([place, drawn]) => +place.dataset.drawn > drawn"""
Opened = Callable[..., Page]


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A notebook as it would be committed."""
    path = tmp_path_factory.mktemp("frames") / "01.ipynb"
    cells = [nbformat.v4.new_markdown_cell("# Frames\n\nText.")]
    cells += [nbformat.v4.new_code_cell(code) for code in (CODE, SHOWN)]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    done = run.execute(path)
    assert done.failure is None
    run.save_in_place(done)
    return path


@pytest.fixture(scope="module")
def written(executed: Path) -> Path:
    path = executed.with_suffix(".html")
    path.write_text(run.render(run.committed(executed).notebook, index="index.html"), "utf-8")
    return path


@pytest.fixture
def opened(offline, written: Path) -> Iterator[Opened]:
    """Open the page; it may ask for nothing, and complain about nothing."""
    wrong: list[list[str]] = []

    def open_page(width: int = 1280, **options: Any) -> Page:
        page, found = offline(width, **options)
        wrong.append(found)
        page.goto(written.as_uri())
        return page

    yield open_page
    assert not any(wrong), "a request, an error or a warning"


def live(page: Page) -> tuple[Locator, Locator, Locator]:
    """The figure, its slider and its menu."""
    page.wait_for_selector(".live-place[data-drawn]")
    place = page.locator(".live-place")
    return place, place.locator("input[type=range]"), place.locator("select")


def picture(page: Page) -> np.ndarray:
    address = page.locator("canvas").evaluate("(canvas) => canvas.toDataURL()")
    with Image.open(io.BytesIO(b64decode(address.partition(",")[2]))) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def expected(height: int, noise: str) -> np.ndarray:
    names: dict[str, Any] = {}
    exec(CODE, names)
    with rc_context(cast(Any, STYLE)):  # as in a notebook
        return _pixels(names["render"](height, noise)).astype(int)


def redrawn(page: Page, act: Callable[[], object]) -> float:
    """Do something to a figure; return the milliseconds until its picture was painted."""
    place = page.locator(".live-place").element_handle()
    drawn = int(place.get_attribute("data-drawn") or 0)
    act()
    page.wait_for_function(DRAWN, arg=[place, drawn])
    return float(place.get_attribute("data-ms") or "nan")


def assert_shows(page: Page, height: int, noise: str) -> None:
    shown = picture(page)
    others = [(other, noise) for other in range(6)] + [(height, of) for of in ("calm", "rough")]
    off = {one: np.abs(shown - expected(*one)).mean() for one in others}
    assert min(off, key=lambda one: off[one]) == (height, noise)
    assert off[height, noise] < 1, "grey levels, in the mean"
    assert page.locator("canvas").get_attribute("aria-label") == (
        f"height {height}, {noise}. A bar.; height {height}; noise {noise}"
    )


def test_a_notebook_is_committed_with_its_picture_alone(executed: Path):
    notebook = nbformat.read(executed, as_version=4)
    assert set(notebook.cells[-1].outputs[0].data) == {"image/png", "text/plain"}
    assert run.moving.beside(executed).is_file()


def test_it_begins_as_the_still_picture_in_its_place(opened: Opened):
    page = opened(java_script_enabled=False)
    still = page.locator("main img")
    assert still.is_visible() and "height 2, calm" in (still.get_attribute("alt") or "")
    assert page.locator("input, select, canvas").count() == 0
    before = still.bounding_box()
    page = opened()
    live(page)
    assert page.locator("main img").count() == 0
    after = page.locator("canvas").bounding_box()
    assert before and after
    for side in ("x", "width", "height"):
        assert after[side] == pytest.approx(before[side], abs=1)
    assert_shows(page, 2, "calm")


@pytest.mark.parametrize("width", [1280, 390])
def test_the_keyboard_walks_through_every_frame(opened: Opened, width: int):
    page = opened(width, device_scale_factor=2)
    place, slider, menu = live(page)
    times = [redrawn(page, lambda: slider.press("ArrowRight")) for _ in range(3)]
    assert_shows(page, 5, "calm")
    assert place.locator("output").inner_text() == "5"
    assert slider.get_attribute("aria-valuetext") == "5"
    times += [redrawn(page, lambda: menu.select_option("rough"))]
    assert_shows(page, 5, "rough")
    times += [redrawn(page, lambda: slider.press("Home"))]
    assert_shows(page, 0, "rough")
    print(f"from the key to the painted frame: {times} ms")
    assert statistics.median(times) <= 50
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_the_mouse_drags_through_frames(opened: Opened):
    page = opened()
    _, slider, _ = live(page)
    box = slider.bounding_box()
    assert box
    y = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + 0.4 * box["width"], y)
    page.mouse.down()
    redrawn(page, lambda: page.mouse.move(box["x"] + 0.6 * box["width"], y))
    assert_shows(page, 3, "calm")
    redrawn(page, lambda: page.mouse.move(box["x"] + box["width"] - 1, y, steps=3))
    page.mouse.up()
    page.wait_for_timeout(50)
    assert_shows(page, 5, "calm")


def test_a_finger_taps_on_the_slider_of_a_phone(opened: Opened):
    page = opened(390, has_touch=True, is_mobile=True)
    _, slider, _ = live(page)
    box = slider.bounding_box()
    assert box
    redrawn(page, lambda: slider.tap(position={"x": box["width"] - 3, "y": box["height"] / 2}))
    assert_shows(page, 5, "calm")


def test_an_order_plays_until_it_is_paused_or_ends(opened: Opened):
    page = opened(reduced_motion="reduce")  # asked for by a click, it plays
    _, slider, _ = live(page)
    button = page.get_by_role("button", name="play height")
    assert page.get_by_role("button", name="play noise").count() == 0
    redrawn(page, button.click)
    page.get_by_role("button", name="pause height").click()
    height = int(slider.input_value())
    assert height > 2
    page.wait_for_timeout(1500)
    assert int(slider.input_value()) == height
    assert_shows(page, height, "calm")
    button.click()
    page.wait_for_function("document.querySelector('input[type=range]').value === '5'")
    page.get_by_role("button", name="play height").wait_for()
    assert_shows(page, 5, "calm")


def test_it_waits_while_nobody_sees_it(opened: Opened):
    page = opened()
    _, slider, _ = live(page)
    hide = "(is) => Object.defineProperty(document, 'hidden', { value: is, configurable: true })"
    page.evaluate(hide, True)
    page.get_by_role("button", name="play height").click()
    page.wait_for_timeout(1600)
    assert slider.input_value() == "2"
    page.evaluate(hide, False)
    page.wait_for_function("document.querySelector('input[type=range]').value === '3'")


def test_moving_shifts_nothing_in_the_page(opened: Opened):
    page = opened()
    _, slider, menu = live(page)
    page.evaluate(
        """() => { window.shifts = 0; new PerformanceObserver((list) => {
          for (const entry of list.getEntries()) shifts += entry.value;
        }).observe({ type: 'layout-shift' }); }"""
    )
    redrawn(page, lambda: slider.press("End"))
    redrawn(page, lambda: menu.select_option("rough"))
    page.wait_for_timeout(200)
    assert page.evaluate("shifts") == 0


def test_what_cannot_be_shown_says_so_where_no_picture_does(browser: Browser, written: Path):
    page = browser.new_page()
    page.goto(written.as_uri())
    live(page)
    page.evaluate(
        """() => {
          for (const inside of [[], [new Image(40, 30)]]) {
            const figure = document.createElement('div');
            document.querySelector('main').append(figure);
            figure.className = 'broken';
            figure.append(...inside);
            live.mount(figure, { kind: 'unknown' });
          }
        }"""
    )
    empty, with_picture = page.locator(".broken").all()
    assert "not a function" in empty.get_by_role("alert").inner_text()
    assert with_picture.locator("img").is_visible()
    assert with_picture.locator("[role=alert], .live-place").count() == 0
    page.close()
