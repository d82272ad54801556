"""The site as a reader has it: from the disk, with every request refused, wide and on a phone."""

import re
from pathlib import Path
from urllib.parse import unquote

import pytest
import run
from playwright.sync_api import Browser, Page

COURSE = sorted(run.NOTEBOOKS.glob("[0-9]*.ipynb"))
SOLUTIONS = sorted((run.NOTEBOOKS / "solutions").glob("[0-9]*.ipynb"))
PAGES = [
    "index",
    "notation",
    "glossary",
    "teaching",
    *(path.stem for path in COURSE),
    *(f"solutions/{path.stem}" for path in SOLUTIONS),
]
HIDDEN = """(selector) => [...document.querySelectorAll(selector)].filter((element) => {
  const box = element.getBoundingClientRect();
  return box.width < 1 || box.height < 1 || (element.matches('img')
    && !(element.complete && element.naturalWidth > 1));
}).length"""
TOO_WIDE = """() => [...document.querySelectorAll('body *')].filter((element) => {
  for (let box = element.parentElement; box && box !== document.body; box = box.parentElement)
    if (['auto', 'scroll', 'hidden'].includes(getComputedStyle(box).overflowX)) return false;
  return element.getBoundingClientRect().right > innerWidth + 1;
}).map((element) => element.outerHTML.slice(0, 80))"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pages of the notebooks as they were committed; built like those of `make tutorial`."""
    runs = [run.Run(path, run.nbformat.read(path, as_version=4), 1.0, None) for path in COURSE]
    return run.write_pages(runs, tmp_path_factory.mktemp("site"), SOLUTIONS).parent


@pytest.fixture
def offline(browser: Browser):
    """Make a page of a width that can read files and nothing else; what else it wants is kept."""
    contexts = []

    def open_page(width: int) -> tuple[Page, list[str]]:
        context = browser.new_context(viewport={"width": width, "height": 844})
        contexts.append(context)
        refused: list[str] = []
        page = context.new_page()
        page.route(
            re.compile("^(?!file:|data:)"),
            lambda route: (refused.append(route.request.url), route.abort()),
        )
        return page, refused

    yield open_page
    for context in contexts:
        context.close()


@pytest.mark.parametrize("name", PAGES)
def test_figures_and_formulas_show_without_a_network(name: str, site: Path, offline):
    page, refused = offline(1280)
    page.goto((site / f"{name}.html").as_uri())
    assert refused == []
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    assert page.evaluate(HIDDEN, "img") == 0, "a picture does not show"
    assert page.evaluate(HIDDEN, "math") == 0, "a formula does not show"
    assert page.locator(".math-core-error").count() == 0
    prose = page.locator("main p, main li, main td, h1, h2, h3").all_inner_texts()
    assert not [text for text in prose if re.search(r"\\[a-z]{2,}|\$\$", text)], "raw LaTeX"
    if re.match(r"\d", name):
        assert page.locator("img").count() > 0 and page.locator("math").count() > 0


@pytest.mark.parametrize("name", PAGES)
def test_reads_on_a_phone(name: str, site: Path, offline):
    page, _ = offline(390)
    page.goto((site / f"{name}.html").as_uri())
    assert page.evaluate(TOO_WIDE) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    size = page.evaluate("parseFloat(getComputedStyle(document.querySelector('main p')).fontSize)")
    assert size >= 16


def test_index_leads_through_the_course_and_back(site: Path, offline):
    page, _ = offline(1280)
    page.goto((site / "index.html").as_uri())
    cards = page.locator("a.card")
    assert cards.count() == len(COURSE)
    for card in cards.all():
        assert card.locator("img").count() == 1
        assert re.search(r"\.\n?.*executed in \d+ s", card.inner_text(), re.DOTALL)
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


@pytest.mark.parametrize("name", PAGES)
def test_links_to_pages_lead_somewhere(name: str, site: Path, offline):
    page, _ = offline(1280)
    page.goto((site / f"{name}.html").as_uri())
    links = page.eval_on_selector_all("a[href]", "(all) => all.map((a) => a.href)")
    pages = [link.partition("#") for link in links if re.match(r"file:.*\.html(#|$)", link)]
    for target, _, anchor in pages:
        file = Path(target.removeprefix("file://"))
        assert file.is_file(), target
        if anchor:
            assert f'id="{unquote(anchor)}"' in file.read_text(), f"{target}#{anchor}"
