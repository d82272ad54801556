"""The site as a reader has it: from the disk, with every request refused, wide and on a phone."""

import re
from pathlib import Path

import pytest
import run
from axe_playwright_python.sync_playwright import Axe
from nbformat.v4 import new_markdown_cell, new_notebook, new_output
from pages import render
from playwright.sync_api import Page

from fastflow_utils.course import live

COURSE = sorted(run.NOTEBOOKS.glob("[0-9]*.ipynb"))
SOLUTIONS = sorted((run.NOTEBOOKS / "solutions").glob("[0-9]*.ipynb"))
PAGES = [
    "index",
    "notation",
    "glossary",
    "teaching",
    *(path.stem for path in COURSE),
    *(f"solutions/{path.stem}" for path in SOLUTIONS),
    "about",
    "benchmarks",
    "search",
    "reference/index",
    "reference/fastflow_utils/detector/flows",
]
USED = [name for name in PAGES if name not in [f"solutions/{path.stem}" for path in SOLUTIONS[1:]]]
"""Of the solutions, which are made alike, one."""
HIDDEN = """(selector) => [...document.querySelectorAll(selector)].filter((element) => {
  const box = element.getBoundingClientRect();
  return box.width < 1 || box.height < 1 || (element.matches('img')
    && !(element.complete && element.naturalWidth > 1));
}).length"""
# Of the guidelines' levels A and AA, and what is good practice beside them.
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
NARROW = "target-size", "scrollable-region-focusable", "landmark-unique"
"""Rules whose answer may be another one where the window is narrow."""
TOO_WIDE = """() => [...document.querySelectorAll('body *')].filter((element) => {
  for (let box = element.parentElement; box && box !== document.body; box = box.parentElement)
    if (['auto', 'scroll', 'hidden'].includes(getComputedStyle(box).overflowX)) return false;
  return element.getBoundingClientRect().right > innerWidth + 1;
}).map((element) => element.outerHTML.slice(0, 80))"""
# What is wider than its box, and can be scrolled neither by touch nor by keyboard.
CUT = """() => [...document.querySelectorAll('main *')].filter((element) => {
  const way = getComputedStyle(element).overflowX;
  return element.clientWidth && element.scrollWidth > element.clientWidth + 1
    && way !== 'visible' && !(['auto', 'scroll'].includes(way) && element.tabIndex === 0);
}).map((element) => element.outerHTML.slice(0, 80))"""
SMALL = """() => [...document.querySelectorAll('.figure img')].filter((image) =>
  image.width && image.width < 0.74 * image.getAttribute('width')).length"""
SHIFTS = """() => {
  window.shifted = 0;
  new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) window.shifted += entry.value;
  }).observe({ type: 'layout-shift', buffered: true });
}"""
SCROLL = """async () => {
  for (let y = 0; y < document.documentElement.scrollHeight; y += innerHeight) {
    scrollTo(0, y);
    await new Promise(requestAnimationFrame);
  }
  await new Promise((done) => setTimeout(done, 100));
  return shifted;
}"""
FOCUSED = """() => {
  const one = document.activeElement;
  const style = getComputedStyle(one), box = one.getBoundingClientRect();
  return {
    place: [...document.querySelectorAll('*')].indexOf(one), name: one.outerHTML.slice(0, 80),
    ring: style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2,
    seen: box.width > 0 && box.height > 0 && box.bottom > 0 && box.top < innerHeight
      && style.opacity !== '0',
  };
}"""
FIRST_PAINT = """() => performance.getEntriesByName('first-contentful-paint')[0].startTime"""


UNFOLD = """async () => {
  document.querySelectorAll('details').forEach((one) => { one.open = true; });
  await new Promise((done) => setTimeout(done, 100));  // boxes are measured
}"""


def read(page: Page, site: Path, name: str) -> None:
    """Open a page and scroll through it: nothing may move, no picture may come late."""
    page.add_init_script(f"({SHIFTS})()")
    page.goto((site / f"{name}.html").as_uri())
    assert page.evaluate(SCROLL) < 0.1
    missing = "img:not([width]), img:not([height]), main img:not([alt])"
    assert page.locator(missing).count() == 0


@pytest.mark.parametrize("name", PAGES)
def test_figures_and_formulas_show_without_a_network(name: str, site: Path, offline):
    page, bad = offline(1280)
    read(page, site, name)
    page.evaluate(UNFOLD)
    # A live figure has taken its picture's place.
    assert page.evaluate(HIDDEN, "img:not(.moves img)") == 0, "a picture does not show"
    assert page.evaluate(HIDDEN, "math") == 0, "a formula does not show"
    assert page.locator(".math-core-error").count() == 0
    prose = page.locator("main p, main li, main td, h1, h2, h3").all_inner_texts()
    assert not [text for text in prose if re.search(r"\\[a-z]{2,}|\$\$", text)], "raw LaTeX"
    if re.match(r"\d", name):
        assert page.locator("img").count() > 0 and page.locator("math").count() > 0
    assert bad == []


@pytest.mark.parametrize("name", PAGES)
def test_reads_on_a_phone(name: str, site: Path, offline):
    page, _ = offline(390)
    read(page, site, name)
    for width in (390, 320):
        page.set_viewport_size({"width": width, "height": 844})
        page.evaluate(UNFOLD)
        assert page.evaluate(TOO_WIDE) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate(CUT) == []
        assert page.evaluate(SMALL) == 0, "a figure is too small to read"
    size = page.evaluate("parseFloat(getComputedStyle(document.querySelector('main p')).fontSize)")
    assert size >= 16


def test_index_leads_through_the_course_and_back(site: Path, offline):
    page, _ = offline(1280)
    page.goto((site / "index.html").as_uri())
    cards = page.locator("a.card")
    assert cards.count() == len(COURSE)
    for card in cards.all():
        assert card.locator("img").count() == 1
        assert re.search(r"\.\n?.*runs in \d+ s", card.inner_text(), re.DOTALL)
    page.get_by_text("Begin with").get_by_role("link").first.click()
    assert page.url.endswith(f"{COURSE[0].stem}.html")
    page.go_back()
    cards.first.click()
    for path in COURSE[1:]:
        page.locator("a[rel=next]").first.click()
        assert page.url.endswith(f"{path.stem}.html")
    assert page.locator("a[rel=next]").count() == 0
    page.locator("a[rel=prev]").first.click()
    assert page.url.endswith(f"{COURSE[-2].stem}.html")
    page.get_by_role("link", name="All notebooks").first.click()
    assert page.url.endswith("index.html")


@pytest.mark.parametrize("name", [path.stem for path in COURSE])
def test_quiz_works_by_keyboard_and_without_a_kernel(name: str, site: Path, offline):
    page, _ = offline(390)
    page.goto((site / f"{name}.html").as_uri())
    right, wrong = page.locator("details.right"), page.locator("details.wrong")
    assert 5 <= right.count() <= 8 and wrong.count() >= 2 * right.count()
    for choice in (right.first, wrong.first):
        reason = choice.locator("p").first
        assert not reason.is_visible()
        choice.locator("summary").focus()
        page.keyboard.press("Enter")
        assert reason.is_visible() and re.match(r"(Right|Wrong)\. ", reason.inner_text())


def wrong(page: Page, *rules: str) -> list[str]:
    """What axe finds wrong in a page, by all rules or by some; code apart: see `test_run.py`."""
    options = {"runOnly": list(rules or RULES), "resultTypes": ["violations"]}
    found = Axe().run(page, {"exclude": [[".highlight pre"]]}, options).response["violations"]
    return [f"{one['id']}: {node['html'][:90]}" for one in found for node in one["nodes"]]


@pytest.mark.parametrize("name", USED)
def test_everybody_can_use_a_page(name: str, site: Path, offline):
    """By keyboard in reading order; contrast, labels, landmarks, headings, targets of a finger."""
    page, _ = offline(1280)
    page.goto((site / f"{name}.html").as_uri())
    page.locator("#text").evaluate("() => document.activeElement.blur()")  # the search has it
    stops = []
    for _ in range(60):
        page.keyboard.press("Tab")
        stop = page.evaluate(FOCUSED)
        if stops and stop["place"] <= stops[-1]["place"]:
            break  # at the end: the browser itself, or the first again
        stops.append(stop)
    assert len(stops) >= 4
    assert name == "search" or "Skip to the text" in stops[0]["name"]
    assert [stop["name"] for stop in stops if not (stop["ring"] and stop["seen"])] == []
    page.evaluate(UNFOLD)
    assert wrong(page) == []
    page.emulate_media(color_scheme="dark")
    assert wrong(page, "color-contrast") == [], "in the dark"
    page.set_viewport_size({"width": 390, "height": 844})
    page.evaluate(UNFOLD)
    assert wrong(page, *NARROW) == [], "on a phone"


def test_what_is_wrong_is_found(offline):
    page, _ = offline(390)
    page.set_content(
        "<html lang=en><title>t</title><main><h1>A</h1><h3>B</h3><p style='color: #aaa'>Pale</p>"
        "<img src='data:,' tabindex=3></main>"
    )
    found = {line.partition(":")[0] for line in wrong(page)}
    assert found >= {"color-contrast", "heading-order", "image-alt", "tabindex"}


def test_contents_follow_the_scroll(site: Path, offline):
    page, _ = offline(1280)
    page.goto((site / f"{COURSE[3].stem}.html").as_uri())
    listed = page.locator("nav.beside a")
    targets = listed.evaluate_all("(all) => all.map((link) => decodeURIComponent(link.hash))")
    headings = page.locator("main :is(h2, h3)").evaluate_all("(all) => all.map((one) => one.id)")
    assert targets == [f"#{heading}" for heading in headings]
    for number in (5, 20, 2):
        listed.nth(number).click()
        page.locator(f"nav.beside li:nth-child({number + 1}) a[aria-current]").wait_for()
        assert page.locator("nav.beside a[aria-current]").count() == 1
        assert listed.nth(number).evaluate("(link) => link.getBoundingClientRect().top >= 0")
    page.set_viewport_size({"width": 390, "height": 844})
    assert not listed.first.is_visible()
    page.locator("details.above summary").click()
    page.locator("details.above a").nth(5).click()
    assert page.url.endswith(targets[5])


def test_colours_and_folded_code_are_remembered(site: Path, offline):
    page, _ = offline(1280, color_scheme="light")
    address, next_one = ((site / f"{path.stem}.html").as_uri() for path in COURSE[3:5])
    page.goto(address)
    paper = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(paper)
    button = page.get_by_role("button", name="Dark")
    assert button.get_attribute("aria-pressed") == "false"
    button.click()
    fold = page.get_by_role("button", name="Fold code")
    code = page.locator(".code pre")
    assert code.first.is_visible()
    fold.click()
    assert page.locator(".code pre:visible").count() == 0
    page.goto(next_one)
    assert page.evaluate(paper) != light
    assert button.get_attribute("aria-pressed") == fold.get_attribute("aria-pressed") == "true"
    assert page.locator(".code pre:visible").count() == 0
    page.locator(".code summary").first.click()
    assert code.first.is_visible() and page.locator(".code pre:visible").count() == 1
    fold.click()
    button.click()
    assert page.locator(".code pre:visible").count() == code.count()
    assert page.evaluate(paper) == light


@pytest.mark.parametrize("refuse", [False, True])
def test_code_is_copied_as_it_was_written(refuse: bool, site: Path, offline):
    page, _ = offline(1280)
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    if refuse:  # as a browser that gives a page from the disk no clipboard
        page.add_init_script(
            "navigator.clipboard.writeText = () => Promise.reject(new DOMException('no'))"
        )
    page.goto((site / f"{COURSE[0].stem}.html").as_uri())
    cells = run._code_cells(run.nbformat.read(COURSE[0], as_version=4))
    page.get_by_role("button", name="Copy code").nth(2).click()
    page.get_by_text("Copied", exact=True).wait_for()
    assert page.get_by_role("status").inner_text() == "Code copied"
    assert page.evaluate("navigator.clipboard.readText()").rstrip() == cells[2].source.rstrip()


@pytest.mark.parametrize("name", PAGES)
def test_reads_without_a_script(name: str, site: Path, offline):
    page, refused = offline(390, java_script_enabled=False)
    page.goto((site / f"{name}.html").as_uri())
    assert refused == []
    assert page.locator("button:visible").count() == 0
    pictures = page.locator("main img")
    assert all(picture.is_visible() for picture in pictures.all() if _unfolded(picture))
    assert page.locator(".code pre").count() == page.locator(".code pre:visible").count()
    for contents in page.locator("details.above").all():
        contents.locator("summary").click()
        assert contents.locator("a").first.is_visible()


def _unfolded(element) -> bool:
    return element.locator("xpath=ancestor::details[not(@open)]").count() == 0


def test_prints_its_text_alone(site: Path, offline):
    page, _ = offline(800, color_scheme="dark")
    page.goto((site / f"{COURSE[3].stem}.html").as_uri())
    page.emulate_media(media="print", color_scheme="dark")
    assert page.locator("button:visible, header:visible, .contents:visible").count() == 0
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.locator("main h1").is_visible()


def test_the_first_paint_does_not_wait_for_data(tmp_path: Path, offline):
    """Two megabytes of a live figure's data, on a processor slowed down to a quarter."""
    dot = (
        "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5E"
        "rkJggg=="
    )
    times = []
    for size in (1, 2_000_000):
        data = {"image/png": dot, live.MIME: {"kind": "frames", "data": "A" * size}}
        cells = [new_markdown_cell("# A\n\n" + "Much text. " * 6000)]
        cells.append(run.nbformat.v4.new_code_cell(outputs=[new_output("display_data", data)]))
        path = tmp_path / f"{size}.html"
        path.write_text(render(new_notebook(cells=cells)), encoding="utf-8")
        page, _ = offline(390)
        session = page.context.new_cdp_session(page)
        session.send("Emulation.setCPUThrottlingRate", {"rate": 4})
        shown = []
        for _ in range(5):
            page.goto(path.as_uri())
            page.wait_for_function(f"{FIRST_PAINT.removeprefix('() => ').split('[')[0]}.length")
            shown.append(page.evaluate(FIRST_PAINT))
        times.append(min(shown))
    assert times[1] < 2 * times[0] + 200, times  # twice: other tests keep the machine busy
