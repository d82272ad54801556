"""Write each notebook as slides that need no network, from the notebook as it was committed.

    python notebooks/slides.py          all notebooks, in build/slides
    python notebooks/slides.py 03       one of them

The arrow keys lead through the slides, S opens the speaker's view with the rest of the text.
What goes where is said in teaching.md; a cell's slide type, which JupyterLab sets, goes first.
"""

import argparse
import re
import sys
from html import escape
from importlib.util import find_spec
from pathlib import Path

import nbformat
from links import absolute
from nbconvert.exporters import SlidesExporter
from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell, new_notebook
from pages import HERE, Typeset, title
from pygments.formatters import HtmlFormatter
from quiz import questions
from run import chosen

__all__ = ["deck", "render", "write"]

FOLDER = Path("build", "slides")
SKIPPED = ("## Where next",)
ROWS = 12  # of a table, with its head: nobody reads a longer one on a wall


def deck(notebook: NotebookNode) -> NotebookNode:
    """Return the slides of a notebook, as a notebook whose cells have slide types."""
    cells: list[NotebookNode] = []
    heading, fresh = "", False  # the section's; is the last slide with a heading without figure?
    for cell in notebook.cells:
        kind = cell.metadata.get("slideshow", {}).get("slide_type", "")
        if kind:
            cells.append(cell)
        elif cell.cell_type == "markdown":
            for part in re.split(r"(?m)^(?=#{1,3} )", absolute(cell.source)):
                more = _of_text(part.strip())
                kinds = [one.metadata.slideshow.slide_type for one in more]
                if "slide" in kinds:
                    heading = part.partition("\n")[0].lstrip("# ")
                if part.startswith("#"):
                    fresh = kinds[1:] in ([], ["notes"]) and not part.startswith("### Exercise")
                elif set(kinds) - {"notes"}:
                    fresh = False
                cells += more
        elif shown := [output for output in cell.get("outputs", []) if _is_figure(output)]:
            if not fresh:
                crumb = f'<p class="crumb">{escape(heading)}</p>'
                cells.append(_slide(new_markdown_cell(crumb), "subslide"))
            cells.append(_slide(cell | {"outputs": shown}, "-", hide_code=True))
            fresh = False
    slides: NotebookNode = new_notebook(cells=cells)
    return slides


def render(notebook: NotebookNode) -> str:
    """Return the slides of a notebook as one HTML page, with reveal.js in it.

    Raises:
        ModuleNotFoundError: Without the package that brings reveal.js, of the extra `teach`.
    """
    found = find_spec("sphinx_revealjs")
    if found is None or found.origin is None:
        raise ModuleNotFoundError("slides need reveal.js: pip install 'fastflow-utils[teach]'")
    reveal = Path(found.origin).parent / "_static" / "revealjs"
    files = {
        "script": reveal / "dist" / "reveal.js",
        "notes": reveal / "plugin" / "notes" / "notes.js",
        "base": reveal / "dist" / "reveal.css",
        "unfold": HERE / "unfold.css",
    }
    resources = {name: path.read_text(encoding="utf-8") for name, path in files.items()} | {
        "metadata": {"name": title(notebook), "path": str(HERE)},
        "highlighting": HtmlFormatter(style="friendly").get_style_defs(".highlight"),
    }
    exporter = _Exporter(
        template_file=str(HERE / "slides.html.j2"),
        exclude_input_prompt=True,
        exclude_output_prompt=True,
    )
    page: str = exporter.from_notebook_node(deck(notebook), resources=resources)[0]
    return page


def write(paths: list[Path], folder: Path) -> None:
    """Write the slides of notebooks into a folder, which is made if it is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in paths:
        page = render(nbformat.read(path, as_version=4))
        (folder / f"{path.stem}.html").write_text(page, encoding="utf-8")


class _Exporter(Typeset, SlidesExporter):
    """nbconvert's slides, in our style."""


def _of_text(part: str) -> list[NotebookNode]:
    """Return the cells of a part of a text, which starts with a heading or has none."""
    if not part or part.startswith(SKIPPED):
        return []
    if "<summary>a)" in part:  # a quiz, with or without its heading
        head = part[: part.index("**1. ")] if "**1. " in part else ""
        quiz = [_slide(new_markdown_cell(one.markdown), "subslide") for one in questions(part)]
        return _shown(head, "slide", "") + quiz
    kind = "slide" if re.match(r"##? ", part) else "subslide"
    if part.startswith(("### Exercise", "## Piece of work", "## What you learned")):
        return [_slide(new_markdown_cell(part), kind)]
    if part.startswith("# "):  # the opening: not the links, nor what else stands there
        opening, _, rest = part.partition("**Before you start**")
        return _shown(opening, kind, rest)
    asked = re.search(r"\*\*Questions?\b.*", part, re.DOTALL)
    question = [_slide(new_markdown_cell(asked[0]), "subslide")] if asked else []
    text = part[: asked.start()] if asked else part
    blocks: list[str] = re.split(r"\n{2,}", text.strip())
    formula = next((i for i, block in enumerate(blocks) if block.startswith("$$")), None)
    if part.startswith("#"):
        end = 3 if formula == 2 else 2
        return _shown("\n\n".join(blocks[:end]), kind, "\n\n".join(blocks[end:])) + question
    if formula:
        said = "\n\n".join(blocks[formula - 1 : formula + 1])
        rest = "\n\n".join(blocks[: formula - 1] + blocks[formula + 1 :])
        return _shown(said, "subslide", rest) + question
    return _shown("", "", text) + question


def _shown(text: str, kind: str, rest: str) -> list[NotebookNode]:
    """Return a slide, and the rest of the text as the speaker's notes."""
    slide = [_slide(new_markdown_cell(text.strip()), kind)] if text.strip() else []
    notes = [_slide(new_markdown_cell(rest.strip()), "notes")] if rest.strip() else []
    return slide + notes


def _slide(cell: NotebookNode, kind: str, hide_code: bool = False) -> NotebookNode:
    copy: NotebookNode = nbformat.from_dict(cell)
    copy.metadata = nbformat.from_dict({"slideshow": {"slide_type": kind}})
    copy.metadata.hide_code = hide_code
    return copy


def _is_figure(output: NotebookNode) -> bool:
    data = output.get("data", {})
    rows = data.get("text/html", "").count("<tr")
    return any(kind.startswith("image/") for kind in data) or 0 < rows <= ROWS


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="start of a notebook's name")
    parser.add_argument("--output", type=Path, default=FOLDER, help="where the slides go")
    options = parser.parse_args(arguments)
    write(chosen(parser, options.names), options.output)
    print(f"Slides: {options.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
