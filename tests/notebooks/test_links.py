"""Links: their local part exists, and the repository's address stands in one place."""

import re
import subprocess
from pathlib import Path

import nbformat
import pytest
from links import broken, links_line, repository, with_links
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

ROOT = Path(__file__).resolve().parents[2]
TEXTS = [*ROOT.glob("*.md"), *ROOT.glob("data/*.md"), *ROOT.glob("notebooks/*.md")]
TEXTS += ROOT.glob("tests/benchmarks/*.md")


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_of_the_texts_lead_somewhere(path: Path):
    assert broken(path.read_text(encoding="utf-8"), path.parent) == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("[a](absent.md)", ["absent.md"]),
        ("![a](absent.png)", ["absent.png"]),
        ("[a](there.md)", []),
        ("[![a](absent.png)](there.md)", ["absent.png"]),
        ("[a](there.md#a-heading)", []),
        ("[a](there.md#no-heading)", ["there.md#no-heading"]),
        ("# Here\n[a](#here) [b](#no-heading)", ["#no-heading"]),
        ("[a](book.ipynb#a-section) [b](book.ipynb#code)", ["book.ipynb#code"]),
        ("[a](https://example.org/absent.md) [b](mailto:a@b.c) `[c](absent.md)`", []),
        ("```\n[a](absent.md)\n```", []),
    ],
)
def test_a_broken_link_is_found(tmp_path: Path, text: str, found: list[str]):
    (tmp_path / "there.md").write_text("# A heading")
    cells = [new_markdown_cell("## A section"), new_code_cell("# code")]
    nbformat.write(new_notebook(cells=cells), tmp_path / "book.ipynb")
    assert broken(text, tmp_path) == found


def test_the_line_of_links_is_replaced_not_repeated():
    once = with_links("# A\n\nText.", "01_a.ipynb")
    assert with_links(once, "01_a.ipynb") == once
    assert once.endswith(links_line("01_a.ipynb")) and once.startswith("# A\n\nText.\n\n[")


def test_badges_point_at_notebooks_of_this_repository():
    address = repository()
    assert re.fullmatch(r"https://github\.com/[\w.-]+/[\w.-]+", address)
    line = links_line("03_coupling_flows.ipynb")
    for path in re.findall(r"(?:blob/main|lab/tree)/([^)]+)", line):
        assert (ROOT / path).is_file(), path
    owner = address.removeprefix("https://github.com/")
    assert line.count(owner) == 3


def test_the_address_stands_in_one_place():
    listing = ["git", "grep", "-l", repository().removeprefix("https://github.com/")]
    found = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=False).stdout
    if not found:
        pytest.skip("not a git checkout")
    written = [name for name in found.split() if not name.endswith(".ipynb")]  # by `run.py links`
    assert written == ["pyproject.toml"]
