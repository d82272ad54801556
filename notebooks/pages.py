"""Notebooks as web pages that need no network: figures, formulas and styles are inside."""

import json
import re
from collections import Counter
from copy import deepcopy
from html import escape, unescape
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
from pygments.formatters import HtmlFormatter
from rjsmin import jsmin

from fastflow_utils.course import live

__all__ = [
    "HERE",
    "Typeset",
    "card",
    "cover",
    "formula_errors",
    "promise",
    "render",
    "text_page",
    "title",
]

HERE = Path(__file__).resolve().parent
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
    """Return a notebook's entry in the index: picture, title, promise and time, as HTML."""
    picture = f'<img src="{cover(notebook)}" alt="">' if cover(notebook) else ""
    return (
        f'<div><a class="card" href="{page}">{picture}<span>'
        f"<strong>{escape(title(notebook))}</strong>"
        f"<br>{escape(promise(notebook))}<br><small>{escape(took)}</small></span></a></div>"
    )


def text_page(text: str, **context: str | None) -> str:
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
    notebook, data = _moving(notebook)
    resources = {
        "metadata": {"name": title(notebook), "path": str(HERE)},
        "highlighting": HtmlFormatter(style="friendly").get_style_defs(".highlight"),
        "unfold": (HERE / "unfold.css").read_text(encoding="utf-8"),
        "live": data,
        "live_script": jsmin(live.script()) if data else "",
        "live_style": live.style() if data else "",
        **context,
    }
    return exporter.from_notebook_node(notebook, resources=resources)[0]


def _moving(notebook: NotebookNode) -> tuple[NotebookNode, dict[str, str]]:
    """Return a copy whose live figures have a number, and their data as JSON, by number."""
    copy, data = deepcopy(notebook), {}
    for cell in copy.cells:
        for output in cell.get("outputs", []):
            if found := output.get("data", {}).pop(live.MIME, None):
                output.metadata.live = f"live-{len(data) + 1}"
                # `</script>` in a label would end the data: JSON can write it in another way.
                data[output.metadata.live] = json.dumps(found).replace("</", "<\\/")
    return copy, data


def formula_errors(page: str) -> list[str]:
    """Return what is wrong with the formulas that a rendered page could not typeset."""
    found = re.findall(r"""math-core-error" title=(["'])\d+: (.*?)\1><code>(.*?)</code>""", page)
    return [unescape(f"{error} In the formula {formula}") for _, error, formula in found]


class Typeset(HTMLExporter):
    """An exporter whose Markdown needs neither script nor network, with GitHub's anchors."""

    anchors: Counter[str] | None = None  # of one page

    @pass_context
    def markdown2html(self, context: Context, source: str) -> str:
        """Return the HTML of a Markdown cell; a filter of nbconvert's templates."""
        if self.anchors is None:
            self.anchors = Counter()
        renderer = _Renderer(
            self.anchors,
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


class _Renderer(IPythonRenderer):
    """Markdown to HTML: formulas become MathML, links to notebooks become links to pages."""

    def __init__(self, anchors: Counter[str], **options: Any) -> None:
        super().__init__(**options)
        self.anchors = anchors

    def heading(self, text: str, level: int, **attributes: Any) -> str:
        words = unescape(re.sub(r"<[^>]*>", "", text))
        anchor = numbered(slug(words), self.anchors)
        link = f'<a class="anchor-link" href="#{anchor}" aria-label="link to this heading">¶</a>'
        return f'<h{level} id="{anchor}">{text}{link}</h{level}>\n'

    def _html_embed_images(self, html: str) -> str:
        """As nbconvert's, but it closes every element: a `<details>` goes on in the next block."""
        return super()._html_embed_images(html) if "<img" in html else html

    def inline_math(self, body: str) -> str:
        return LATEX.convert_with_local_state(body, displaystyle=False)

    def block_math(self, body: str) -> str:
        return LATEX.convert_with_local_state(body, displaystyle=True)

    def latex_environment(self, name: str, body: str) -> str:
        return self.block_math(rf"\begin{{{name}}}{body}\end{{{name}}}")

    def link(self, text: str, url: str, title: str | None = None) -> str:
        page = re.sub(r"^((?:\.\./|solutions/)?[\w-]+)\.(?:ipynb|md)(?=#|$)", r"\1.html", url)
        if page == url or Path(url.partition("#")[0]).name == "README.md":
            # Of the repository, seen from build/html.
            return super().link(text, re.sub(r"^\.\./", "../../", url), title)
        return super().link(text, page, title)
