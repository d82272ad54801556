"""One's own pictures in JupyterLab: dropped, chosen, taken; judged as `predict` judges them."""

import io
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
from live import Lab, errors
from matplotlib import rc_context
from nbformat.v4 import new_code_cell, new_notebook
from PIL import Image
from playwright.sync_api import Browser, BrowserContext, Page, expect

from fastflow_utils.course.plots import STYLE, save
from fastflow_utils.course.widgets.own_picture import judge, judged_figure
from fastflow_utils.detector.backbones import Backbone
from fastflow_utils.detector.detector import Detector
from fastflow_utils.detector.flows import FlowOptions
from fastflow_utils.detector.model import FastFlow

CELL = """from pathlib import Path
from fastflow_utils.course.widgets import explore_own
from fastflow_utils.detector.detector import Detector
model = Detector.load({model!r})
explore_own(model, [Path({example!r})], "noise")"""
EVIL = "<img src=x onerror='document.title = 1'> $_{ </script>.png".replace("/", "")
PNG = """async (picture) => {
  const bytes = new Uint8Array(await (await fetch(picture.src)).arrayBuffer());
  return btoa(Array.from(bytes, (one) => String.fromCharCode(one)).join(""));
}"""
TRACKS = """() => { window.tracks = [];
  const ask = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
  navigator.mediaDevices.getUserMedia = async (wanted) => {
    const stream = await ask(wanted);
    tracks.push(...stream.getTracks());
    return stream;
  }; }"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, pictures and what is none; `many` is a folder with a folder."""
    root = tmp_path_factory.mktemp("own")
    model = FastFlow(Backbone("efficientnet_lite0", image_size=64), FlowOptions(steps=1))
    noise = torch.rand(8, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    model.calibrate([model.backbone(noise)])
    model.pixel_threshold.fill_(0.6)
    model.save(root / "model")
    random = np.random.default_rng(0)
    for name, size in {"a.png": 64, "many/b.png": 96, "many/deep/c.jpg": 64}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = random.integers(0, 256, (size, size, 3), np.uint8)
        pixels[10:30, 10:30] = 255
        Image.fromarray(pixels).save(root / name)
    (root / "many" / "notes.txt").write_text("no picture")
    (root / "text.png").write_text("no picture, whatever its name says")
    Image.new("RGB", (1700, 1700), "gray").save(root / "large.bmp")  # 8.7 MB: several parts
    (root / "empty").mkdir()
    Image.new("RGB", (64, 64)).save(root / EVIL)
    return root


@pytest.fixture(scope="module")
def detector(made: Path) -> Detector:
    return Detector.load(made / "model").for_inference()


@pytest.fixture(scope="module")
def context(browser: Browser) -> Iterator[BrowserContext]:
    context = browser.new_context(viewport={"width": 1280, "height": 1000})
    yield context
    context.close()


@pytest.fixture(scope="module")
def page(context: BrowserContext, lab: Lab, made: Path) -> Iterator[Page]:
    """The widget, open for all tests: each drops other pictures."""
    page = context.new_page()
    source = CELL.format(model=str(made / "model"), example=str(made / "a.png"))
    notebook = new_notebook(cells=[new_code_cell(source)])
    notebook.metadata.kernelspec = {"display_name": "", "language": "python", "name": "python3"}
    nbformat.write(notebook, lab.folder / "root" / "notebooks" / "own.ipynb")
    lab.open(page, "own.ipynb")
    lab.run_all(page)
    page.locator(".own-drop").wait_for()
    yield page
    page.evaluate("jupyterapp.shell.currentWidget.sessionContext.shutdown()")


def status(page: Page, starts: str) -> str:
    """Wait until that is said; return all of it."""
    expect(page.locator(".own-status")).to_contain_text(starts, timeout=60_000)
    assert errors(page) == []
    return page.locator(".own-status").inner_text()


def rows(page: Page) -> list[list[str]]:
    """The table, without its head."""
    table = page.locator("[aria-label=decisions] tbody tr").all()
    return [[cell.inner_text().strip() for cell in row.locator("td").all()] for row in table]


def forget(page: Page) -> None:
    """Clear what is said, so that nobody takes it for what comes next."""
    page.evaluate("document.querySelector('.own-status').textContent = ''")


def choose(page: Page, path: Path) -> None:
    """Choose a file or a folder."""
    forget(page)
    page.locator(".own-drop input").nth(int(path.is_dir())).set_input_files(path)


def drop(page: Page, *paths: Path) -> None:
    """Drop files or folders as the desktop does."""
    forget(page)
    box = page.locator(".own-drop").bounding_box()
    assert box is not None
    data = {"items": [], "files": list(map(str, paths)), "dragOperationsMask": 1}
    session = page.context.new_cdp_session(page)
    for kind in ("dragEnter", "dragOver", "drop"):
        place = {"x": box["x"] + 30, "y": box["y"] + 30}
        session.send("Input.dispatchDragEvent", {"type": kind, "data": data, **place})


def expected(detector: Detector, path: Path, name: str) -> list[str]:
    _, score = detector.predict(path)
    called = "anomalous" if score >= detector.image_threshold else "good"
    return [called, f"{score.item():.2f}", name]


def cells(row: list[str]) -> list[str]:
    """A row without the mark before its decision."""
    return [row[0].split()[-1], *row[1:]]


def test_the_example_is_shown_before_anything_is_dropped(page, detector, made):
    assert [cells(row) for row in rows(page)] == [expected(detector, made / "a.png", "a.png")]
    assert "leaves this machine" in page.locator(".own-rules").inner_text()


def test_a_chosen_file_is_judged_as_predict_does(page, detector, made):
    choose(page, made / "large.bmp")
    said = status(page, "large.bmp: image score")
    [row] = rows(page)
    assert cells(row) == expected(detector, made / "large.bmp", "large.bmp")
    assert said.count(row[1]) and f"called {cells(row)[0]}" in said
    judged = judge(detector, "large.bmp", (made / "large.bmp").read_bytes())
    with rc_context(STYLE):
        png = io.BytesIO()
        save(judged_figure(judged), png)
    drawn = np.asarray(Image.open(png).convert("L"), int)
    page.wait_for_function("document.querySelector('.widget-image').complete")
    shown = Image.open(io.BytesIO(b64decode(page.locator(".widget-image").evaluate(PNG))))
    assert np.abs(np.asarray(shown.convert("L"), int) - drawn).mean() < 0.5


def test_a_dropped_folder_is_searched_and_sorted_by_score(page, detector, made):
    drop(page, made / "many")
    status(page, "2 files")
    names = ["many/b.png", "many/deep/c.jpg"]
    told = [expected(detector, made / name, name) for name in names]
    assert [cells(row) for row in rows(page)] == sorted(told, key=lambda row: -float(row[1]))
    assert "no pictures by their names: 1 (1 .txt)" in page.locator(".jp-OutputArea").inner_text()


def test_the_slider_chooses_among_them(page, made):
    drop(page, made / "many")
    status(page, "2 files")
    picture = page.locator(".widget-image")
    before = picture.get_attribute("src")
    page.locator("[role=slider]").press("ArrowRight")
    expect(picture).not_to_have_attribute("src", before)
    assert "2. " in page.locator(".widget-readout").inner_text()


def test_a_chosen_folder_is_the_same(page, made):
    drop(page, made / "a.png")
    status(page, "a.png: image score")
    choose(page, made / "many")
    status(page, "2 files")
    assert {row[2] for row in rows(page)} == {"many/b.png", "many/deep/c.jpg"}


def test_what_is_no_picture_is_named_beside_those_that_are(page, made):
    drop(page, made / "text.png", made / "a.png")
    assert status(page, "2 files").endswith("1 not judged")
    assert rows(page)[1] == [
        "not judged",
        "",
        "text.png: no picture: expected PNG, JPEG, BMP, TIFF or WebP",
    ]
    assert page.locator(".widget-image").is_visible()


def test_a_file_that_is_no_picture_alone_leaves_the_widget_alive(page, made):
    choose(page, made / "text.png")
    status(page, "text.png: no picture")
    choose(page, made / "a.png")
    status(page, "a.png: image score")


def test_an_empty_folder_is_told(page, made):
    drop(page, made / "empty")
    status(page, "no picture: no file was given")


def test_a_file_s_name_stays_text_wherever_it_is_shown(page, detector, made):
    drop(page, made / EVIL, made / "a.png")
    status(page, "2 files")
    assert expected(detector, made / EVIL, EVIL) in [cells(row) for row in rows(page)]
    drop(page, made / EVIL)
    assert EVIL in status(page, EVIL)
    expect(page.locator(".widget-readout")).to_contain_text(EVIL[-24:])
    assert page.locator("img[src=x]").count() == 0 and page.title() != "1"


def test_the_camera_is_asked_shown_taken_and_stopped(page, context):
    context.grant_permissions(["camera"])
    page.evaluate(TRACKS)
    forget(page)
    button = page.get_by_role("button", name="use the camera")
    button.focus()
    page.keyboard.press("Enter")  # JupyterLab would take it for its own
    take = page.get_by_role("button", name="take the picture")
    take.wait_for()
    expect(take).to_be_focused()
    page.keyboard.press("Enter")
    status(page, "camera.png: image score")
    assert page.evaluate("tracks.map((track) => track.readyState)") == ["ended"]
    assert not page.locator(".own-camera").is_visible()


def test_a_camera_that_may_not_be_used_is_told(page, context):
    context.clear_permissions()
    page.get_by_role("button", name="use the camera").click()
    status(page, "the browser may not use the camera")
    assert page.locator(".own-camera").is_hidden()
