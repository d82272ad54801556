"""The package's reference: pdoc reads signatures and docstrings, the page around them is ours."""

import importlib
import inspect
import os
import pkgutil
import re
import warnings
from collections.abc import Sequence
from functools import reduce
from html import unescape
from operator import or_
from pathlib import Path
from typing import Any, NamedTuple, get_args

import pdoc
from numpy.typing import ArrayLike
from pages import LATEX
from pdoc import render_helpers

import fastflow_utils

__all__ = ["STYLE", "Described", "described", "formulas", "typeset"]

TEMPLATES = Path(__file__).resolve().parent / "api"
STYLE = (TEMPLATES / "reference.css").read_text(encoding="utf-8")
BLOCK = re.compile(r"^( *)\.\. math::(.*(?:\n\1 +\S.*|\n(?=\n\1 +\S))*)", re.MULTILINE)
INLINE = re.compile(r":math:`([^`]*)`")
ABOVE = re.compile(r"(<code>)~(<a [^>]*>)?(?:\w+\.)*")
"""Of a name in a docstring, what Sphinx leaves out where it is written with a `~`."""
HELD = re.compile("\ue000([0-9a-f]*)([id])\ue001")


class Described(NamedTuple):
    """A module's page, without what is around it."""

    summary: str
    """The first line of its docstring."""
    headings: list[tuple[int, str, str]]
    """As :func:`pages.with_contents` takes them."""
    html: str


def formulas(docstring: str) -> str:
    """Hide a docstring's formulas from Markdown, in letters that it leaves alone.

    Example:
        >>> typeset(formulas("that is :math:`x`"))
        'that is <math><mi>x</mi></math>'
    """

    def hidden(tex: str, kind: str) -> str:
        return f"\ue000{' '.join(tex.split()).encode().hex()}{kind}\ue001"

    docstring = BLOCK.sub(lambda found: found[1] + hidden(found[2], "d"), docstring)
    return INLINE.sub(lambda found: hidden(found[1], "i"), docstring)


def typeset(html: str) -> str:
    """Put formulas, as MathML, where :func:`formulas` has hidden them."""

    def shown(found: re.Match[str]) -> str:
        tex, alone = bytes.fromhex(found[1]).decode(), found[2] == "d"
        formula = LATEX.convert_with_local_state(tex, displaystyle=alone)
        box = f'<span class="wide formula" data-what="formula">{formula}</span>'
        return box if alone else formula

    return HELD.sub(shown, html)


def described(names: Sequence[str] = ()) -> dict[str, Described]:
    """Return the pages of some modules by their full names, or those of the whole package.

    A link leads only to what is among them.
    """
    if not names:
        found = pkgutil.walk_packages(fastflow_utils.__path__, "fastflow_utils.")
        names = ["fastflow_utils", *(module.name for module in found)]
    for name in fastflow_utils.__all__:  # they are loaded when asked for
        vars(fastflow_utils)[name] = getattr(fastflow_utils, name)
    pdoc.render.configure(
        docformat="google", search=False, show_source=True, template_directory=TEMPLATES
    )
    pdoc.render.env.filters["formulas"] = formulas
    pdoc.render.env.filters["format_signature"] = _signature
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Error parsing type annotation")  # it shows them as text
        modules = {name: pdoc.doc.Module(importlib.import_module(name)) for name in names}
        pages = {name: _described(module, modules) for name, module in modules.items()}
    anchors = {name: {anchor for _, anchor, _ in page.headings} for name, page in pages.items()}
    return {
        name: page._replace(html=_linked(name, page.html, modules, anchors))
        for name, page in pages.items()
    }


def _signature(signature: inspect.Signature, colon: bool) -> str:
    """Format a signature as pdoc does, but with `ArrayLike`, not all that it stands for."""
    given = [
        parameter.replace(annotation=_short(parameter.annotation))
        for parameter in signature.parameters.values()
    ]
    return render_helpers.format_signature(signature.replace(parameters=given), colon)


class _ArrayLike:
    __module__, __qualname__ = "numpy.typing", "ArrayLike"


def _short(annotation: Any) -> Any:
    like, kinds = get_args(ArrayLike), get_args(annotation)
    if not like or not all(kind in kinds for kind in like):
        return annotation
    return reduce(or_, [*(kind for kind in kinds if kind not in like), _ArrayLike])


def _described(module: pdoc.doc.Module, modules: dict[str, pdoc.doc.Module]) -> Described:
    html = typeset(pdoc.render.html_module(module, modules))
    html = html.replace("pdoc-code codehilite", "highlight")
    html = html.replace("<pre>", '<pre data-what="code">')
    html = re.sub(r'<h6 id="[^"]*">(.*?):?</h6>', r'<p class="section">\1</p>', html)
    html = re.sub(r"(?m)^[ \t]+(?=<(?!span))", "", html)
    html = ABOVE.sub(r"\1\2", html)
    found = re.findall(r'<h([23]) id="([^"]*)">(.*?)<a class="anchor-link"', html)
    headings = [(int(level), anchor, name) for level, anchor, name in found]
    summary = unescape(module.docstring.partition("\n")[0])
    return Described(summary, headings, html)


def _linked(
    name: str, html: str, modules: dict[str, pdoc.doc.Module], anchors: dict[str, set[str]]
) -> str:
    """Lead links to where a name is described: pdoc's lead to where it can be imported from."""

    def led(found: re.Match[str]) -> str:
        path, _, anchor = found[1].partition("#")
        if not anchor or ":" in path:
            return found[0]
        target = os.path.normpath(Path(name.replace(".", "/")).parent / path) if path else name
        target = target.removesuffix(".html").replace("/", ".")
        if anchor in anchors[target]:
            return found[0]
        home = getattr(modules[target].obj, anchor.partition(".")[0], None)
        home = getattr(home, "__module__", None)
        if home not in anchors or anchor not in anchors[home]:
            return found[2]  # not public: described nowhere
        page = f"{home.replace('.', '/')}.html"
        there = Path(os.path.relpath(page, Path(name.replace(".", "/")).parent)).as_posix()
        return f'<a href="{there}#{anchor}">{found[2]}</a>'

    return re.sub(r'<a href="([^"]*)">(.*?)</a>', led, html)
