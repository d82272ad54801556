"""The index of a site's search: what every section of every page says.

No library: Pagefind fetches its index, which a page from the disk may not, and the others bring
more code than the task. `search.js` looks through all sections, in milliseconds.
"""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

from layout import Layout
from rjsmin import jsmin

__all__ = ["INDEX", "Section", "sections", "write"]

HERE = Path(__file__).resolve().parent
INDEX = "search-index.js"
KINDS = {
    "solutions": "Solutions",
    "about.html": "About",
    "reference": "Reference",
    "benchmarks.html": "Benchmarks",
}
PAGE = """# Search

<form id="search" role="search"><label for="query">All words must occur in a section; the start \
of a word is enough.</label>
<input id="query" type="search" autocomplete="off" spellcheck="false" autofocus></form>
<p id="count" role="status"></p>
<ol id="found"></ol>
<noscript>Search needs JavaScript. Without it: the pages above.</noscript>
<script src="{index}"></script>
<script>{script}</script>
"""
Section = tuple[str, str, str]
"""Anchor, heading, text."""


class _Reader(HTMLParser):
    """Collects the sections of a page's main part, without code and outputs."""

    EMPTY = frozenset({"br", "hr", "img", "input", "link", "meta", "source", "wbr"})
    LEFT_OUT = frozenset({"script", "style", "svg", "form", "noscript"})
    CLASSES = frozenset({"anchor-link", "code", "source", "output_wrapper", "signature"})

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, tuple[list[str], list[str]]]] = []  # anchor; heading, text
        self.skipped: list[str] = []
        self.inside = self.heading = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "main":
            self.inside = True
        if tag in self.EMPTY or not self.inside:
            return
        classes = set((given.get("class") or "").split())
        if self.skipped or tag in self.LEFT_OUT or classes & self.CLASSES:
            self.skipped.append(tag)
        elif re.fullmatch("h[1-4]", tag):
            self.found.append((given.get("id") or "", ([], [])))
            self.heading = True

    def handle_endtag(self, tag: str) -> None:
        if tag == "main":
            self.inside = False
        elif tag in self.skipped:
            while self.skipped.pop() != tag:
                pass
        elif re.fullmatch("h[1-4]", tag):
            self.heading = False
        elif tag in ("p", "li", "td", "th", "div") and self.found:
            self.handle_data(" ")

    def handle_data(self, data: str) -> None:
        if self.inside and not self.skipped and self.found:
            self.found[-1][1][0 if self.heading else 1].append(data)


def sections(html: str) -> list[Section]:
    """Return the sections of a page.

    Example:
        >>> sections('<main><h1 id="a">A</h1><p>One <b>two</b></p><h2 id="b">B</h2></main>')
        [('a', 'A', 'One two'), ('b', 'B', '')]
    """
    reader = _Reader()
    reader.feed(re.sub(r'(?<=")data:[^"]*|<script\b.*?</script>', "", html, flags=re.DOTALL))
    return [(anchor, _joined(heading), _joined(text)) for anchor, (heading, text) in reader.found]


def _joined(words: list[str]) -> str:
    return " ".join("".join(words).split())


def write(layout: Layout) -> int:
    """Write the page of the search and its index, over all pages of a site.

    Returns:
        The bytes of the index.
    """
    folder, page = layout.folder, layout.menu["Search"]
    pages, found = [], []
    for path in sorted(folder.rglob("*.html")):
        name = path.relative_to(folder).as_posix()
        if name == page or not (read := sections(path.read_text(encoding="utf-8"))):
            continue
        pages.append([name, read[0][1], KINDS.get(name.partition("/")[0], "Course")])
        found += [[len(pages) - 1, *section] for section in read]
    index = json.dumps([pages, found], ensure_ascii=False, separators=(",", ":"))
    (folder / INDEX).write_text(f"const SEARCH = {index};\n", encoding="utf-8")
    script = jsmin((HERE / "search.js").read_text(encoding="utf-8"))
    style = (HERE / "search.css").read_text(encoding="utf-8")
    text = PAGE.format(index=INDEX, script=script)
    layout.write(page, text, HERE / "search.py", live_style=style)
    return (folder / INDEX).stat().st_size
