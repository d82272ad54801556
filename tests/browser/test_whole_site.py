"""The site as it is published: every page of it, its links, its search, its wall."""

import re
from html import unescape
from pathlib import Path
from urllib.parse import unquote

import pytest
import torch
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page
from wall import DETECTORS

from fastflow_utils.course.cases import measured
from fastflow_utils.course.widgets.threshold import confusion
from fastflow_utils.detector.metrics import auroc


def pages(site: Path) -> dict[Path, str]:
    """Return the HTML of all pages, without data and scripts."""
    found = {path: path.read_text(encoding="utf-8") for path in site.rglob("*.html")}
    inside = re.compile(r'(?<=")data:[^"]*|<script\b.*?</script>', re.DOTALL)
    return {path: inside.sub("", html) for path, html in found.items()}


def test_every_link_and_anchor_leads_somewhere(site: Path):
    texts = pages(site)
    anchors = {path: set(re.findall(r'\sid="([^"]*)"', html)) for path, html in texts.items()}
    followed = 0
    for path, html in texts.items():
        for link in re.findall(r'<a\b[^>]*\shref="([^"]*)"', html):
            name, _, anchor = unescape(link).partition("#")
            if re.match("https?:", name):
                continue
            target = (path.parent / unquote(name)).resolve() if name else path
            assert target.is_file() and target.is_relative_to(site), f"{path.name}: {link}"
            assert not anchor or unquote(anchor) in anchors[target], f"{path.name}: {link}"
            followed += 1
    assert followed > 3000 and len(texts) > 100


def test_no_page_is_larger_than_six_megabytes(site: Path):
    assert max(path.stat().st_size for path in site.rglob("*")) < 6e6


def test_no_page_asks_for_a_network_or_reports_an_error(site: Path, offline):
    page, wrong = offline(1280)
    reference = sorted(site.rglob("reference/**/*.html"))  # of many that are made alike, some
    for path in [*reference[::12], *site.glob("*.html")]:
        page.goto(path.as_uri())
        assert wrong == [], path
    asked = re.compile(r"<(?:img|link|iframe)\b[^>]*https?:|<script\b[^>]*\ssrc=[^>]*https?:")
    assert [path for path in site.rglob("*.html") if asked.search(path.read_text())] == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_picked_wall_is_accessible_and_fits_a_phone(scheme: str, site: Path, offline):
    page, _ = offline(390, color_scheme=scheme)
    page.goto((site / "index.html").as_uri())
    pick(page, "cable")
    found = Axe().run(page, {"include": [[".wall"]]})
    assert found.violations_count == 0, found.generate_report()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


# The search


def look_for(page: Page, words: str) -> list[str]:
    page.get_by_role("searchbox").fill(words)
    return page.locator("#found small").all_inner_texts()


def test_search_finds_terms_everywhere_by_keyboard(site: Path, offline):
    page, wrong = offline(1280, has_touch=True)
    page.goto((site / "search.html").as_uri())
    assert "Course: 03 Coupling flows" in look_for(page, "coupl layer hand")
    assert "Reference: fastflow_utils.detector.flows" in look_for(page, "ActNorm inverse")
    assert look_for(page, "permutation")[0] == "Course: 03 Coupling flows"  # not the reference
    assert look_for(page, "AUPRO")[0] == "Course: Glossary"
    assert "Benchmarks: Benchmarks" not in look_for(page, "spots")
    assert look_for(page, "spots windows squeezed")[0] == "Benchmarks"
    assert page.locator("#count").inner_text().startswith(f"{page.locator('#found li').count()} s")
    page.get_by_role("searchbox").fill("AUPRO")
    first = page.locator("#found a").first
    assert "aupro" in first.inner_text().lower()
    marks = {mark.lower() for mark in page.locator("#found mark").all_inner_texts()}
    assert marks == {"aupro"}
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    second = page.locator("#found a").nth(1).get_attribute("href")
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/{second}")
    page.go_back()
    assert page.get_by_role("searchbox").input_value() == "AUPRO"
    assert wrong == []


def test_search_wants_all_words_from_their_start_and_says_what_to_do(site: Path, offline):
    page, _ = offline(1280, has_touch=True)
    page.goto((site / "search.html").as_uri())
    look_for(page, "coupling zebra")
    assert page.locator("#found li").count() == 0
    assert "Try fewer words" in page.locator("#count").inner_text()
    look_for(page, "oupling")
    assert page.locator("#found li").count() == 0
    look_for(page, "(a.*")  # not a pattern
    assert page.locator("#found li").count() > 0


# The wall


def pick(page: Page, name: str) -> None:
    page.get_by_role("button", name=re.compile(f"^(?!Dark).*{name} AUROC")).click()
    page.wait_for_function(
        "(name) => document.querySelector('.wall-title')?.textContent === `${name}, sample set`"
        " && document.querySelector('.wall-counts table')",
        arg=name,
    )


def counts(page: Page) -> list[int]:
    """Return what the table says: passed, false alarms, missed, found."""
    return [
        int(re.match(r"\d+", cell)[0])
        for cell in page.locator(".wall-counts td + td, .wall-counts th + td").all_inner_texts()
    ]


@pytest.mark.parametrize(("category", "detector"), [("grid", "fastflow"), ("metal_nut", "padim")])
def test_the_wall_counts_as_python_does(category: str, detector: str, site: Path, offline):
    page, wrong = offline(1280, has_touch=True)
    page.goto((site / "index.html").as_uri())
    page.locator(".wall-tiles").wait_for()
    pick(page, category.replace("_", " "))
    page.get_by_label("Detector").select_option(DETECTORS[detector])
    rows = measured().query("category == @category")
    scores, labels = torch.tensor(rows[detector].values), torch.tensor(rows.label.values)
    ordered = scores.sort().values
    threshold = page.get_by_role("slider", name="Threshold")
    best = max(confusion(scores, labels, limit).f1 for limit in ordered.tolist())
    text = page.locator(".wall-counts p").inner_text()
    assert text.startswith(f"F1 {best:.3f}") and f"{auroc(scores, labels):.3f}" in text
    threshold.focus()
    page.keyboard.press("Home")
    for place in range(len(ordered) + 1):
        limit = ordered[place].item() if place < len(ordered) else float("inf")
        true = confusion(scores, labels, limit)
        assert counts(page) == [true.passed, true.false_alarms, true.missed, true.found]
        assert page.locator(".wall-images .called").count() == true.found + true.false_alarms
        assert page.locator(".wall-images .wrong").count() == true.missed + true.false_alarms
        page.keyboard.press("ArrowRight")
    frames = page.locator(".wall-images > div").evaluate_all("all => all.map(one => one.title)")
    shown = [float(title.rpartition(" ")[2]) for title in frames]
    assert shown == sorted(shown) and len(shown) == len(rows)
    assert wrong == []


def test_the_wall_answers_pointer_touch_and_keys(site: Path, offline):
    page, _ = offline(1280, has_touch=True)
    page.goto((site / "index.html").as_uri())
    page.locator(".wall-tiles").wait_for()
    page.get_by_role("button", name=re.compile("screw AUROC")).focus()
    page.keyboard.press("Enter")
    images = page.locator(".wall-images > div")
    images.first.wait_for()
    shown = page.locator(".wall-title, .wall-images").evaluate_all(
        "(all) => all.every((one) => one.getBoundingClientRect().bottom <= innerHeight)"
    )
    assert shown, "what was picked is out of sight"
    called = page.locator(".wall-images .called")
    images.nth(10).click()
    assert called.count() == images.count() - 10
    images.nth(20).tap()
    assert called.count() == images.count() - 20
    page.locator(".wall-images").focus()
    page.keyboard.press("ArrowLeft")
    assert called.count() == images.count() - 19
    box = page.get_by_role("slider", name="Threshold").bounding_box()
    page.mouse.click(box["x"] + box["width"] - 2, box["y"] + box["height"] / 2)
    assert called.count() == 0
    assert "0 are called anomalous" in page.locator(".wall-images").get_attribute("aria-label")


def test_the_wall_is_read_without_a_script(site: Path, browser: Browser):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((site / "index.html").as_uri())
    assert page.locator(".wall figure img:visible").count() == 15
    assert "Pick one" not in page.locator("main").inner_text()
    context.close()
