"""Every control of every page, moved in every way, with every request refused."""

import json
from statistics import median

import moving
import pytest
import run
from live import Widget, errors, moves, press, widgets
from playwright.sync_api import Browser, Page
from rjsmin import jsmin

from fastflow_utils.course import live

COURSE = [
    path
    for path in sorted(run.NOTEBOOKS.glob("[0-9]*.ipynb"))
    if moving.read(moving.beside(path))[1]
]
LIVE = "[...document.querySelectorAll('[data-live]')]"
STANDS = f"{LIVE}.every((one) => one.querySelector('.live-place[data-drawn]'))"
BYTES = {
    "01_mvtec_ad": 8_950,
    "02_features": 11_000,
    "03_coupling_flows": 5_700,
    "04_fastflow": 18_200,
    "05_evaluation": 11_100,
    "06_what_matters": 5_700,
    "08_your_own_images": 5_700,
}
"""What the script of a page may take: as much as it took when it was last made smaller."""
LIMITS = {"features": 16, "frames": 50, "threshold": 50, "mixer": 50, "browse": 50}
BUSY = 4
"""How many times longer a move may take here, where other tests run beside it."""


@pytest.fixture
def opened(offline, tmp_path):
    """Open a page as committed, with all its live figures built."""
    wrong: list[list[str]] = []

    def open_page(path, touch: bool = False) -> tuple[Page, list[Widget]]:
        file = tmp_path / f"{path.stem}.html"
        file.write_text(run.render(run.committed(path).notebook), encoding="utf-8")
        page, found = offline(390 if touch else 1280, has_touch=touch)
        wrong.append(found)
        page.goto(file.as_uri())
        for box in page.query_selector_all("[data-live]"):
            box.scroll_into_view_if_needed()
        page.wait_for_function(STANDS)
        return page, widgets(page)

    yield open_page
    assert not any(wrong), "a request, an error or a warning"


def kinds(path) -> list[str]:
    """The kinds of a page's live figures, in its order."""
    found = moving.read(moving.beside(path))[1].values()
    return [data["kind"] for outputs in found for data in outputs if data]


@pytest.mark.parametrize("by", ["keyboard", "pointer", "touch"])
@pytest.mark.parametrize("path", COURSE, ids=lambda path: path.stem)
def test_every_control_of_every_page_changes_its_picture(path, by: str, opened):
    page, found = opened(path, touch=by == "touch")
    assert len(found) == len(kinds(path)) > 0
    for number, widget in enumerate(found, 1):
        assert widget.controls, f"figure {number} has no control"
        for control in widget.controls:
            assert control.label, f"a control of figure {number} has no label"
            assert moves(page, widget, control, by), f"{control.label} (figure {number})"
    assert errors(page) == []


@pytest.mark.parametrize("path", COURSE, ids=lambda path: path.stem)
def test_a_move_is_painted_soon(path, opened):
    page, found = opened(path)
    for kind, widget in zip(kinds(path), found, strict=True):
        control = next((one for one in widget.controls if "ArrowRight" in one.keys), None)
        if control is None:  # a menu alone, which a browser moves in its own time
            continue
        at_its_start = control.element.evaluate("(one) => one.value && one.value === one.min")
        keys = ["ArrowRight", "ArrowLeft"] if at_its_start else ["ArrowLeft", "ArrowRight"]
        took = [press(page, widget, control, key) for key in [*keys, *keys, keys[0]]]
        print(path.stem, kind, json.dumps(took))
        assert median(took) <= BUSY * LIMITS[kind], kind


@pytest.mark.parametrize("path", COURSE, ids=lambda path: path.stem)
def test_the_script_of_a_page_is_small(path):
    assert len(jsmin(live.script(kinds(path)))) <= BYTES[path.stem]


@pytest.mark.parametrize("path", COURSE, ids=lambda path: path.stem)
def test_a_browser_that_cannot_unpack_keeps_the_pictures(path, browser: Browser, tmp_path):
    file = tmp_path / "page.html"
    file.write_text(run.render(run.committed(path).notebook), encoding="utf-8")
    page = browser.new_page()
    page.add_init_script("delete window.DecompressionStream")
    failed: list[str] = []
    page.on("console", lambda said: failed.append(said.text))
    page.goto(file.as_uri())
    for number, box in enumerate(page.query_selector_all("[data-live]"), 1):
        box.scroll_into_view_if_needed()
        for _ in range(100):
            if len(failed) >= number:
                break
            page.wait_for_timeout(50)
        picture = box.query_selector("img")
        assert picture and picture.is_visible()
        assert box.query_selector_all("canvas, input, select, button, .live-place") == []
    assert len(failed) == len(kinds(path))
    page.close()
