"""Notebooks as web pages that need no network: figures, formulas and styles are inside."""

import re
from html import unescape
from pathlib import Path

from jinja2 import pass_context
from jinja2.runtime import Context
from math_core import LatexToMathML
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from nbformat import NotebookNode
from pygments.formatters import HtmlFormatter

__all__ = ["formula_errors", "promise", "render", "title"]

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


def render(notebook: NotebookNode, **context: str | None) -> str:
    """Return a notebook, as it is, as one HTML page.

    Args:
        notebook: The notebook; its first cell starts with its title.
        context: Further variables of the template `page.html.j2`.
    """
    exporter = _Exporter(
        template_file=str(HERE / "page.html.j2"),
        exclude_input_prompt=True,
        exclude_output_prompt=True,
    )
    resources = {
        "metadata": {"name": title(notebook), "path": str(HERE)},
        "highlighting": HtmlFormatter(style="friendly").get_style_defs(".highlight"),
        **context,
    }
    return exporter.from_notebook_node(notebook, resources=resources)[0]


def formula_errors(page: str) -> list[str]:
    """Return what is wrong with the formulas that a rendered page could not typeset."""
    found = re.findall(r"""math-core-error" title=(["'])\d+: (.*?)\1><code>(.*?)</code>""", page)
    return [unescape(f"{error} In the formula {formula}") for _, error, formula in found]


class _Exporter(HTMLExporter):
    @pass_context
    def markdown2html(self, context: Context, source: str) -> str:
        renderer = _Renderer(
            escape=False,
            embed_images=True,
            path=context["resources"]["metadata"]["path"],
            attachments=context.get("cell", {}).get("attachments", {}),
        )
        return MarkdownWithMath(renderer=renderer).render(source)


class _Renderer(IPythonRenderer):
    """Markdown to HTML: formulas become MathML, links to notebooks become links to pages."""

    def inline_math(self, body: str) -> str:
        return LATEX.convert_with_local_state(body, displaystyle=False)

    def block_math(self, body: str) -> str:
        return LATEX.convert_with_local_state(body, displaystyle=True)

    def latex_environment(self, name: str, body: str) -> str:
        return self.block_math(rf"\begin{{{name}}}{body}\end{{{name}}}")

    def link(self, text: str, url: str, title: str | None = None) -> str:
        url = re.sub(r"^(\d[\w-]*)\.ipynb\b", r"\1.html", url)  # a page beside this one
        url = re.sub(r"^\.\./", "../../", url)  # a file of the repository, seen from build/html
        return super().link(text, url, title)
