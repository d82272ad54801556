"""The slides: they show and move with every request refused, and nothing is cut off."""

import re
from pathlib import Path

import pytest
import slides
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from playwright.sync_api import Page
from run import NOTEBOOKS

DOT = (  # a picture of one pixel
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJg"
    "gg=="
)
QUIZ = """## Quiz

**1. Which?**

<details><summary>a) this</summary>

Wrong. Because.

</details>
<details><summary>b) that</summary>

Right. Because.

</details>
"""
SHOWN = "() => Reveal.getCurrentSlide().innerText.replace(/\\s+/g, ' ').trim()"
TOO_HIGH = "() => Reveal.getCurrentSlide().scrollHeight - 720"


@pytest.fixture
def refused(page: Page) -> list[str]:
    """What the page asked for, and did not get: anything that is not a file."""
    asked: list[str] = []
    page.route(
        re.compile("^(?!file:|data:)"),
        lambda route: (asked.append(route.request.url), route.abort()),
    )
    return asked


def test_rules_make_slides_of_text_figures_and_quiz(page: Page, refused, tmp_path: Path):
    figure = new_output("display_data", {"image/png": DOT, "text/plain": ""})
    text = new_output("stream", text="a line")
    chosen = {"slideshow": {"slide_type": "subslide"}}
    cells = [
        new_markdown_cell("# A title\n\nA promise.\n\n**Before you start** nothing."),
        new_code_cell("hidden = 1", outputs=[text]),
        new_markdown_cell("## 1. One\n\nFirst $x^2$.\n\nThe rest is for the speaker."),
        new_code_cell("plot()", outputs=[text, figure]),
        new_code_cell("shown = 2", metadata=chosen),
        new_code_cell("left = 3", metadata={"slideshow": {"slide_type": "skip"}}),
        new_markdown_cell("**What you see.** It.\n\n**Questions.** Why?"),
        new_markdown_cell(QUIZ),
        new_markdown_cell("## Where next\n\nNowhere."),
    ]
    path = tmp_path / "slides.html"
    path.write_text(slides.render(new_notebook(cells=cells)), encoding="utf-8")
    page.goto(path.as_uri())
    seen = []
    for _ in range(page.evaluate("Reveal.getTotalSlides()")):
        seen.append(page.evaluate(SHOWN))
        page.keyboard.press("ArrowRight")
    assert seen[0] == "A title A promise." and seen[1].startswith("1. One First")
    assert seen[2:] == [
        "shown = 2",
        "Questions. Why?",
        "Quiz",
        "1. Which? a) this b) that",
    ]
    page.locator("summary", has_text="b) that").click()
    reasons = {name: page.locator("details p", has_text=name) for name in ("Right.", "Wrong.")}
    assert reasons["Right."].is_visible() and not reasons["Wrong."].is_visible()
    notes = page.locator("aside.notes").all_text_contents()
    assert any("for the speaker" in one for one in notes)
    assert refused == []


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("[0-9]*.ipynb")), ids=lambda p: p.stem)
def test_a_notebooks_slides_show_and_move_offline(path: Path, page: Page, refused, tmp_path: Path):
    slides.write([path], tmp_path)
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.set_viewport_size({"width": 1280, "height": 720})
    page.goto((tmp_path / f"{path.stem}.html").as_uri())
    assert page.locator(".present h1").inner_text().startswith(path.name[:2])
    assert page.locator(".present h1").is_visible()
    before = page.evaluate(SHOWN)
    page.keyboard.press("ArrowRight")
    assert page.locator(".present h2").first.is_visible() and page.evaluate(SHOWN) != before
    count = page.evaluate("Reveal.getTotalSlides()")
    assert 15 <= count <= 90
    for number in range(2, count + 1):
        assert page.evaluate(TOO_HIGH) <= 0, f"slide {number}: {page.evaluate(SHOWN)[:60]}"
        page.keyboard.press("ArrowRight")
    assert page.evaluate("Reveal.isLastSlide()")
    assert refused == [] and problems == []
