"""The feature explorer computes what torch computes: in a page that reads files alone, and in
JupyterLab, by pointer, touch and keyboard, within a frame."""

import random
import re
import statistics
from base64 import b64encode
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any, cast

import nbformat
import pages
import pytest
import torch
from live import Lab, Widget, errors, moves, until_drawn, widgets
from matplotlib.figure import Figure
from playwright.sync_api import Page
from torch import Tensor

from fastflow_utils.course import plots
from fastflow_utils.course.live import MIME
from fastflow_utils.course.widgets import explore_features, explore_latents
from fastflow_utils.data.mvtec import MVTecAD
from fastflow_utils.detector.backbones import Backbone
from fastflow_utils.detector.features import cosine_similarity, extract, pca_colours
from fastflow_utils.detector.flows import FlowOptions
from fastflow_utils.detector.model import FastFlow
from fastflow_utils.detector.training import fit

SIZE = 256  # pixels: levels of 64, 32 and 16 positions in a row, as in the course
LEVELS = "(place) => place.levels.map(({ cosines }) => cosines)"
COLOURS = "(place) => place.levels.map(({ colours }) => [...colours])"
FRAME = 1000 / 60


@pytest.fixture(scope="module")
def backbones() -> dict[str, Backbone]:
    torch.manual_seed(0)
    names = {"ImageNet weights": True, "random weights": False}
    return {n: Backbone(pretrained=given, image_size=SIZE) for n, given in names.items()}


@pytest.fixture(scope="module")
def test_split(tiny) -> MVTecAD:
    return MVTecAD(tiny, "disc", "test", SIZE)


@pytest.fixture(scope="module")
def features_page(backbones, test_split, tmp_path_factory) -> Path:
    return written(explore_features(backbones, test_split), tmp_path_factory.mktemp("features"))


@pytest.fixture(scope="module")
def latents_page(backbones, tiny, test_split, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("latents")
    model = FastFlow(backbones["ImageNet weights"], FlowOptions(steps=1))
    train = extract(model.backbone, MVTecAD(tiny, "disc", "train", SIZE), cache=folder / "cache")
    fit(model, train, epochs=1)
    return written(explore_latents(model, test_split), folder)


def written(figure: Figure | None, folder: Path) -> Path:
    """A page with a figure and its data, as the course's pages are made."""
    assert figure is not None
    file = BytesIO()
    plots.save(figure, file)
    data = {"image/png": b64encode(file.getvalue()).decode(), MIME: cast(Any, figure).live_data()}
    output = nbformat.v4.new_output("display_data", data, metadata={"image/png": {"alt": "x"}})
    cells = [
        nbformat.v4.new_markdown_cell("# Title"),
        nbformat.v4.new_code_cell("explore()", outputs=[output]),
    ]
    path = folder / "page.html"
    path.write_text(pages.render(nbformat.v4.new_notebook(cells=cells)), encoding="utf-8")
    return path


@pytest.fixture
def opened(offline) -> Iterator[Any]:
    """Open a page that can read its file and nothing else."""
    wrong: list[list[str]] = []

    def open_page(path: Path, width: int = 1280, **options: Any) -> Page:
        page, found = offline(width, **options)
        wrong.append(found)
        page.goto(path.as_uri())
        return page

    yield open_page
    assert not any(wrong), "a request, an error or a warning"


def explorer(page: Page) -> Widget:
    page.wait_for_selector(".moves .live-place")
    (widget,) = widgets(page)
    return widget


def shown(page: Page, widget: Widget, script: str) -> list[Tensor]:
    return [torch.tensor(level) for level in page.evaluate(script, widget.picture)]


def click(page: Page, widget: Widget, row: float, column: float, panel: int = 0) -> None:
    """Click on a panel, at fractions of its height and width, and wait for the frame."""
    canvas = widget.picture.query_selector_all("canvas")[panel]
    size = cast(Any, canvas.bounding_box())
    place = {"x": column * size["width"], "y": row * size["height"]}
    until_drawn(page, widget, lambda: canvas.click(position=cast(Any, place)), limit=10)


def check_similarity(page: Page, widget: Widget, maps: list[Tensor], count: int) -> list[float]:
    """Compare with torch at random positions; return the milliseconds of each redraw."""
    times, draw = [], random.Random(0)
    for _ in range(count):
        # In the middle of a position of the finest level: the pointer keeps to whole pixels.
        row, column = ((draw.randrange(maps[0].shape[1]) + 0.5) / maps[0].shape[1] for _ in "yx")
        click(page, widget, row, column)
        times.append(float(widget.picture.evaluate("(place) => place.dataset.ms")))
        for h, cosines in zip(maps, shown(page, widget, LEVELS), strict=True):
            at = (int(row * h.shape[1]), int(column * h.shape[2]))
            truth = cosine_similarity(h, *at).flatten()
            assert (cosines - truth).abs().max() < 0.01
    return times


def test_similarity_and_colours_are_those_of_torch(features_page, backbones, test_split, opened):
    page = opened(features_page)
    widget = explorer(page)
    image = test_split[test_split.labels.index(1)].image[None]
    for number, backbone in enumerate(backbones.values()):
        before = widget.picture.evaluate("(place) => place.levels[0].lengths[0]")
        page.locator("select").nth(1).select_option(index=number)
        if number:
            page.wait_for_function(
                "([place, before]) => place.levels[0].lengths[0] !== before",
                arg=[widget.picture, before],
            )
        maps = [h[0] for h in backbone(image)]
        times = check_similarity(page, widget, maps, 50 if number == 0 else 5)
        for h, colours in zip(maps, shown(page, widget, COLOURS), strict=True):
            truth = 255 * pca_colours(h)
            rgb = colours.reshape(*h.shape[1:], 4)[..., :3].permute(2, 0, 1)
            assert (rgb - truth).abs().max() < 8 and (rgb - truth).abs().mean() < 2
        if number == 0:
            print(f"event to painted frame: median {statistics.median(times):.1f} ms")
            assert statistics.median(times) < 4 * FRAME  # on a busy machine


def test_computing_takes_less_than_a_frame(features_page, opened):
    page = opened(features_page)
    widget = explorer(page)
    times = page.evaluate(
        """async (place) => {
          const times = [], frame = window.requestAnimationFrame;
          window.requestAnimationFrame = (draw) => frame((now) => {
            const start = performance.now();
            draw(now);
            times.push(performance.now() - start);
          });
          const canvas = place.querySelector('canvas');
          for (let n = 0; n < 40; n++) {
            const key = n % 2 ? 'ArrowDown' : 'ArrowRight';
            canvas.dispatchEvent(new KeyboardEvent('keydown', { key }));
            await new Promise((done) => setTimeout(done, 20));
          }
          return times;
        }""",
        widget.picture,
    )
    print(f"computing and drawing: median {statistics.median(times):.1f} ms")
    assert len(times) >= 20 and statistics.median(times) < FRAME


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("by", ["keyboard", "pointer", "touch"])
def test_every_control_changes_the_picture(by, width, latents_page, opened):
    page = opened(latents_page, width, has_touch=by == "touch")
    widget = explorer(page)
    assert len(widget.controls) > 20
    for control in widget.controls:
        assert control.label
        assert moves(page, widget, control, by), f"{control.label} by {by}"
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_keys_move_by_a_position_of_their_level(features_page, opened):
    page = opened(features_page)
    widget = explorer(page)
    ring = ".live-panels .live-ring"
    places = "(all) => all.map(({ style }) => [style.left, style.top])"
    click(page, widget, 0.51, 0.51)
    before = page.eval_on_selector_all(ring, places)
    coarse = page.locator(".live-panels").nth(2).locator("canvas").first
    coarse.press("ArrowRight")
    page.wait_for_function(
        "([ring, before]) => document.querySelector(ring).style.left !== before",
        arg=[ring, before[0][0]],
    )
    after = page.eval_on_selector_all(ring, places)
    for level, side in enumerate((64, 32, 16)):
        (x, y), (new_x, new_y) = (all_rings[6 * level] for all_rings in (before, after))
        moved = float(new_x.rstrip("%")) - float(x.rstrip("%"))
        assert moved == pytest.approx(100 / 16, abs=0.01) and new_y == y, side


def test_b_is_compared_with_a(features_page, backbones, test_split, opened):
    page = opened(features_page)
    widget = explorer(page)
    h = backbones["ImageNet weights"](test_split[test_split.labels.index(1)].image[None])
    click(page, widget, 0.52, 0.52)
    until_drawn(page, widget, page.locator("input[type=radio]").nth(1).check, limit=10)
    click(page, widget, 0.15, 0.2)
    said = page.locator(".live-plots figcaption").all_inner_texts()
    for level, text in zip(h, said, strict=True):
        side = level.shape[-1]
        truth = cosine_similarity(level[0], int(0.52 * side), int(0.52 * side))
        cosine = truth[int(0.15 * side), int(0.2 * side)].item()
        found = re.search(r"cosine (-?[\d.]+)", text)
        assert found and float(found[1]) == pytest.approx(cosine, abs=0.016)


def rings(page: Page) -> list[str]:
    places: list[str] = page.eval_on_selector_all(
        ".live-ring", "(all) => all.map(({ style }) => style.left + style.top)"
    )
    return places


def swipe(page: Page, start: tuple[float, float], end: tuple[float, float]) -> None:
    """Move a finger over the screen, as fast as a hand does."""
    finger = page.context.new_cdp_session(page)
    for step in range(11):
        x, y = (a + step / 10 * (b - a) for a, b in zip(start, end, strict=True))
        kind = "touchMove" if step else "touchStart"
        finger.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y}]})
        page.wait_for_timeout(20)
    finger.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    page.wait_for_timeout(300)


def test_a_finger_scrolls_the_page_over_levels_and_moves_the_ring_aside(latents_page, opened):
    page = opened(latents_page, 390, has_touch=True, is_mobile=True)
    explorer(page)
    panel = page.locator(".live-panels canvas").first
    panel.scroll_into_view_if_needed()
    box, before, top = panel.bounding_box(), rings(page), page.evaluate("scrollY")
    x, y = box["x"] + 20, box["y"] + 20
    swipe(page, (x, y), (x + 4, y - 200))
    assert page.evaluate("scrollY") > top and rings(page) == before
    top = page.evaluate("scrollY")
    box = panel.bounding_box()
    swipe(page, (box["x"] + 20, box["y"] + 60), (box["x"] + 100, box["y"] + 62))
    assert page.evaluate("scrollY") == top and rings(page) != before
    before = rings(page)
    box = page.locator(".live-image canvas").bounding_box()
    swipe(page, (box["x"] + 150, box["y"] + 200), (box["x"] + 140, box["y"] + 30))
    assert page.evaluate("scrollY") == top and rings(page) != before


def test_a_and_b_start_apart_on_every_image(features_page, opened):
    page = opened(features_page)
    explorer(page)
    menu = page.get_by_label("image", exact=True)
    for name in menu.locator("option").all_inner_texts():
        menu.select_option(name)
        page.locator(".live-image figcaption", has_text=name).wait_for()
        page.wait_for_timeout(100)
        assert rings(page)[0] != rings(page)[1], name


def test_what_was_pressed_elsewhere_moves_no_ring(features_page, opened):
    page = opened(features_page)
    explorer(page)
    heading, canvas = page.locator(".live-levels h4").first, page.locator("canvas").nth(1)
    from_box, to_box, before = heading.bounding_box(), canvas.bounding_box(), rings(page)
    page.mouse.move(from_box["x"] + 5, from_box["y"] + 5)
    page.mouse.down()
    page.mouse.move(to_box["x"] + 9, to_box["y"] + 9, steps=5)
    page.mouse.up()
    canvas.click(button="right", position={"x": 30, "y": 30})
    page.wait_for_timeout(100)
    assert rings(page) == before


def test_a_drag_out_of_a_panel_ends_at_its_edge(features_page, opened):
    page = opened(features_page)
    explorer(page)
    box = page.locator("canvas").nth(1).bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] - 300, box["y"] - 40)
    page.mouse.up()
    page.wait_for_timeout(100)
    assert rings(page)[0] == "0.78125%0.78125%"  # of 64 positions


@pytest.mark.parametrize("width", [1280, 390])
def test_image_and_sliders_can_be_reached_and_nothing_jumps(width, latents_page, opened):
    page = opened(latents_page, width)
    widget = explorer(page)
    for slider in page.locator("input[type=range]").all():
        assert slider.bounding_box()["width"] > 120, "hundred channels"
    sizes = {page.locator(".live-features").bounding_box()["height"]}
    for row, column in [(0.01, 0.01), (0.5, 0.5), (0.52, 0.4), (0.3, 0.9)]:
        click(page, widget, row, column)
        sizes.add(page.locator(".live-features").bounding_box()["height"])
    assert len(sizes) == 1
    page.locator(".live-levels h4").last.scroll_into_view_if_needed()
    page.locator(".live-levels h4").last.evaluate("(one) => one.scrollIntoView({block: 'end'})")
    image = page.locator(".live-image canvas").bounding_box()
    assert image["y"] >= 0 or width > 640, "it stays in view beside the levels that it moves"


def test_without_javascript_the_picture_stays(features_page, opened):
    page = opened(features_page, java_script_enabled=False)
    assert page.locator("main img").is_visible()
    assert page.locator("canvas, select, input[type=range]").count() == 0


def test_the_same_module_runs_in_jupyterlab(lab: Lab, backbones, tiny, test_split, page: Page):
    code = f"""
from fastflow_utils.course.widgets import explore_features
from fastflow_utils.data.mvtec import MVTecAD
from fastflow_utils.detector.backbones import Backbone
explore_features(Backbone(image_size={SIZE}), MVTecAD({str(tiny)!r}, "disc", "test", {SIZE}))"""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    notebook.metadata.kernelspec = {"display_name": "", "language": "python", "name": "python3"}
    nbformat.write(notebook, Path(lab.folder, "root", "notebooks", "explorer.ipynb"))
    lab.open(page, "explorer.ipynb")
    lab.run_all(page)
    widget = explorer(page)
    assert errors(page) == []
    image = test_split[test_split.labels.index(1)].image[None]
    maps = [h[0] for h in backbones["ImageNet weights"](image)]
    check_similarity(page, widget, maps, 5)
    for control in widget.controls:
        assert moves(page, widget, control), control.label
    page.evaluate("jupyterapp.shell.currentWidget.sessionContext.shutdown()")
