"""Notebooks as web pages that need no network: figures, formulas and styles are inside."""

import json
import re
from base64 import b64decode
from collections import Counter
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from html import escape, unescape
from io import BytesIO
from pathlib import Path
from typing import Any

from jinja2 import pass_context
from jinja2.runtime import Context
from links import numbered, slug
from math_core import LatexToMathML
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell, new_notebook
from PIL import Image
from pygments.styles import get_style_by_name
from pygments.token import STANDARD_TYPES
from rjsmin import jsmin

from fastflow_utils.course import live

__all__ = [
    "HERE",
    "Typeset",
    "card",
    "cover",
    "formula_errors",
    "highlighting",
    "promise",
    "render",
    "text_page",
    "title",
    "with_contents",
]

HERE = Path(__file__).resolve().parent
SITE = "FastFlow notebooks"
CODE_STYLES = "default", "github-dark"
"""Pygments' styles for code, light and dark: every colour stands out from the background."""
LATEX = LatexToMathML(continue_on_error=True, fancy_error=False)


def title(notebook: NotebookNode) -> str:
    """Return the heading of a notebook's first cell."""
    return str(notebook.cells[0].source.partition("\n")[0].lstrip("# "))


def promise(notebook: NotebookNode) -> str:
    """Return the first sentence under that heading."""
    text = notebook.cells[0].source.partition("\n")[2].strip()
    paragraph = " ".join(text.split("\n\n")[0].split())
    return re.split(r"(?<=[.!?]) (?=[A-Z])", paragraph, maxsplit=1)[0]


def cover(notebook: NotebookNode) -> str | None:
    """Return the picture of the cell with the tag `cover`, as the address of an image."""
    for cell in notebook.cells:
        if "cover" in cell.metadata.get("tags", []):
            for output in cell.get("outputs", []):
                for kind in ("image/png", "image/jpeg"):
                    if picture := output.get("data", {}).get(kind):
                        return f"data:{kind};base64,{picture.strip()}"
    return None


def card(notebook: NotebookNode, page: str, took: str) -> str:
    """Return a notebook's entry in the index: picture, title, promise, time if any, as HTML."""
    picture, time = "", f"<br><small>{escape(took)}</small>" if took else ""
    if address := cover(notebook):
        picture = _sized(f'<img src="{address}" alt="">')
    return (
        f'<div><a class="card" href="{page}">{picture}<span>'
        f"<strong>{escape(title(notebook))}</strong>"
        f"<br>{escape(_plain(promise(notebook)))}{time}</span></a></div>"
    )


def text_page(text: str, **context: Any) -> str:
    """Return a Markdown text as a page in the notebooks' style."""
    return render(new_notebook(cells=[new_markdown_cell(text)]), **context)


def render(notebook: NotebookNode, **context: Any) -> str:
    """Return a notebook, as it is, as one HTML page.

    Args:
        notebook: The notebook; its first cell starts with its title.
        context: Further variables of the template `page.html.j2`.
    """
    exporter = Typeset(
        template_file=str(HERE / "page.html.j2"),
        exclude_input_prompt=True,
        exclude_output_prompt=True,
    )
    notebook, data, kinds = _moving(notebook)
    name = title(notebook)
    styles = [(HERE / f"{file}.css").read_text(encoding="utf-8") for file in ("unfold", "page")]
    resources = {
        "metadata": {"name": name, "path": str(HERE)},
        "page_title": escape(_plain(name if name == SITE else f"{name} - {SITE}")),
        "description": _plain(promise(notebook)),
        "style": "\n".join([*styles, highlighting()]),
        "script": jsmin((HERE / "page.js").read_text(encoding="utf-8")),
        "code": any(cell.cell_type == "code" for cell in notebook.cells),
        "live": data,
        "live_script": jsmin(live.script(kinds)) if data else "",
        "live_style": live.style() if data else "",
        **context,
    }
    page: str = exporter.from_notebook_node(notebook, resources=resources)[0]
    return with_contents(page, exporter.outline.headings)


def with_contents(page: str, headings: list[tuple[int, str, str]]) -> str:
    """Return a page with its contents, beside the text and above it; as it is if they are few.

    Args:
        page: As :func:`render` makes it.
        headings: Of each the level, the anchor, and what it says, as HTML.

    Example:
        >>> with_contents("<body>...", [(1, "a", "A"), (2, "b", "B")])
        '<body>...'
    """
    items = [
        f'<li class="level-{level}"><a href="#{anchor}">{re.sub("</?a.*?>", "", text)}</a></li>'
        for level, anchor, text in headings
        if level in (2, 3)
    ]
    if len(items) < 3:
        return page
    listed = f"<ol>{''.join(items)}</ol>"
    contents = (
        f'<nav class="contents beside" aria-label="Contents">{listed}</nav>'
        '<details class="contents above"><summary>Contents</summary>'
        f'<nav aria-label="Contents">{listed}</nav></details>'
    )
    # A class of the body: known when the first part is drawn, so that nothing moves after it.
    page = page.replace("<body>", '<body class="listed">', 1)
    return page.replace('<main id="text"', f'{contents}<main id="text"', 1)


def highlighting() -> str:
    """Return the style of code: each kind of token in its light colour and its dark one."""
    light, dark = (get_style_by_name(name) for name in CODE_STYLES)
    rules = []
    for token, name in STANDARD_TYPES.items():
        shown = light.style_for_token(token)
        bold = "font-weight: bold; " if shown["bold"] else ""
        colours = [f"#{style.style_for_token(token)['color']}" for style in (light, dark)]
        if name and "#None" not in colours:
            rules.append(f".{name} {{ {bold}color: light-dark({', '.join(colours)}) }}")
    return "\n".join(f".highlight {rule}" for rule in rules)


def _sized(html: str) -> str:
    """Give pictures that are embedded their size: a page leaves the room free at once."""

    def sized(found: re.Match[str]) -> str:
        with Image.open(BytesIO(b64decode(found[1]))) as image:
            return f'<img width="{image.width}" height="{image.height}"{found[0][4:]}'

    return re.sub(r'<img src="data:image/(?:png|jpeg|webp);base64,([^"]*)"', sized, html)


def _plain(markdown: str) -> str:
    """Return a line of Markdown as the text that is read."""
    return re.sub(r"\[([^\]]*)\]\([^)]*\)|[*`$]", r"\1", markdown)


def _moving(notebook: NotebookNode) -> tuple[NotebookNode, dict[str, str], set[str]]:
    """Return a copy whose live figures have a number, their data as JSON, and their kinds."""
    copy, data, kinds = deepcopy(notebook), dict[str, str](), set[str]()
    for cell in copy.cells:
        for output in cell.get("outputs", []):
            if found := output.get("data", {}).pop(live.MIME, None):
                output.metadata.live = f"live-{len(data) + 1}"
                # `</script>` or `<!--` in a name would end the data: JSON has another way.
                data[output.metadata.live] = json.dumps(found).replace("<", r"\u003c")
                kinds.add(found["kind"])
    return copy, data, kinds


def formula_errors(page: str) -> list[str]:
    """Return what is wrong with the formulas that a rendered page could not typeset."""
    found = re.findall(r"""math-core-error" title=(["'])\d+: (.*?)\1><code>(.*?)</code>""", page)
    return [unescape(f"{error} In the formula {formula}") for _, error, formula in found]


class Typeset(HTMLExporter):
    """An exporter whose Markdown needs neither script nor network, with GitHub's anchors."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.outline = _Outline()  # of one page

    @pass_context
    def markdown2html(self, context: Context, source: str) -> str:
        """Return the HTML of a Markdown cell; a filter of nbconvert's templates."""
        renderer = _Renderer(
            self.outline,
            context["resources"].get("place"),
            escape=False,
            embed_images=True,
            path=context["resources"]["metadata"]["path"],
            attachments=context.get("cell", {}).get("attachments", {}),
        )
        return _with_verdicts(MarkdownWithMath(renderer=renderer).render(source))


def _with_verdicts(html: str) -> str:
    """Mark the choices of a quiz as right or wrong, for the page's style."""
    return re.sub(
        r"<details>(\s*<summary>[a-d]\) .*?</summary>\s*<p>)(Right|Wrong)\.",
        lambda found: f'<details class="{found[2].lower()}">{found[1]}<b>{found[2]}.</b>',
        html,
    )


@dataclass
class _Outline:
    """The headings of a page, with GitHub's anchors; no level is left out between two."""

    headings: list[tuple[int, str, str]] = field(default_factory=list)
    """Of each the level, the anchor, and what it says, as HTML."""
    anchors: Counter[str] = field(default_factory=Counter)
    above: list[int] = field(default_factory=list)
    """The levels, as written, of the headings that the last one stands under, and its own."""

    def add(self, level: int, text: str) -> tuple[int, str]:
        """Return the level and the anchor of the next heading."""
        self.above = [*(one for one in self.above if one < level), level]
        anchor = numbered(slug(unescape(re.sub(r"<[^>]*>", "", text))), self.anchors)
        self.headings.append((len(self.above), anchor, text))
        return len(self.above), anchor


class _Renderer(IPythonRenderer):
    """Markdown to HTML: formulas become MathML, links to notebooks become links to pages."""

    def __init__(
        self,
        outline: "_Outline",
        place: Callable[[str], str] | None,  # where a link leads; None: see below
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.outline = outline
        self.place = place

    def heading(self, text: str, level: int, **attributes: Any) -> str:
        level, anchor = self.outline.add(level, text)
        link = f'<a class="anchor-link" href="#{anchor}" aria-label="link to this heading">¶</a>'
        return f'<h{level} id="{anchor}">{text}{link}</h{level}>\n'

    def _html_embed_images(self, html: str) -> str:
        """As nbconvert's, but it closes every element: a `<details>` goes on in the next block."""
        return super()._html_embed_images(html) if "<img" in html else html

    def image(self, text: str, url: str, title: str | None = None) -> str:
        return _sized(super().image(text, url, title))

    def inline_math(self, body: str) -> str:
        return LATEX.convert_with_local_state(body, displaystyle=False)

    def block_math(self, body: str) -> str:
        formula = LATEX.convert_with_local_state(body, displaystyle=True)
        return f'<span class="wide formula" data-what="formula">{formula}</span>'

    def block_code(self, code: str, info: str | None = None) -> str:
        return super().block_code(code, info).replace("<pre>", '<pre data-what="code">', 1)

    def table(self, text: str) -> str:
        text = re.sub(r"<th([^>]*)></th>", r"<td\1></td>", text)  # an empty heading is none
        return f'<div class="wide" data-what="table"><table>{text}</table></div>\n'

    def latex_environment(self, name: str, body: str) -> str:
        return self.block_math(rf"\begin{{{name}}}{body}\end{{{name}}}")

    def link(self, text: str, url: str, title: str | None = None) -> str:
        if self.place:
            return super().link(text, self.place(url), title)
        page = re.sub(r"^((?:\.\./|solutions/)?[\w-]+)\.(?:ipynb|md)(?=#|$)", r"\1.html", url)
        if page == url or Path(url.partition("#")[0]).name == "README.md":
            # Of the repository, seen from build/html.
            return super().link(text, re.sub(r"^\.\./", "../../", url), title)
        return super().link(text, page, title)
