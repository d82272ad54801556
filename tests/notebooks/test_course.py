"""Every notebook of the course: fit to commit as it is, and its solutions are right.

`make test-browser` executes the notebooks, every cell, in JupyterLab, and the solutions; `make
tutorial` executes the notebooks as pages.
"""

import re
from pathlib import Path

import pytest
import run
from links import links_line
from nbformat import NotebookNode
from pages import card, cover, render

from fastflow_utils.course.exercises import chapter

COURSE = sorted(run.NOTEBOOKS.glob("[0-9]*.ipynb"))
SOLUTIONS = sorted((run.NOTEBOOKS / "solutions").glob("[0-9]*.ipynb"))
NOTATION = run.NOTEBOOKS / "notation.md"
every_notebook = pytest.mark.parametrize("path", COURSE, ids=lambda path: path.stem)
every_solution = pytest.mark.parametrize("path", SOLUTIONS, ids=lambda path: path.stem)


def read(path: Path) -> NotebookNode:
    return run.nbformat.read(path, as_version=4)


def headings(notebook: NotebookNode) -> list[str]:
    text = run.sources(notebook)
    return re.findall(r"^#+ .*$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE)


def verdicts(notebook: NotebookNode, tag: str) -> list[str]:
    """What the checkers said, in order."""
    outputs = [output for cell in run._code_cells(notebook, tag) for output in cell.outputs]
    return [output.get("data", {}).get("text/plain", "") for output in outputs]


def test_the_series_is_numbered_and_has_solutions():
    assert [path.name[:3] for path in COURSE] == [f"{i:02}_" for i in range(1, 9)]
    assert [path.name for path in SOLUTIONS] == [path.name for path in COURSE]


@every_notebook
def test_is_fit_to_commit(path: Path):
    assert run.check(path) == []


@every_notebook
def test_has_the_skeleton_of_the_series(path: Path):
    notebook = read(path)
    opening = notebook.cells[0].source
    parts = ["# ", "**You will be able to**", "**Before you start**", "**Time**", "[Notation]("]
    places = [opening.find(part) for part in parts]
    assert places[0] == 0 and places == sorted(places) and -1 not in places, parts
    assert opening.startswith(f"# {path.name[:2]} ")
    assert opening.endswith(links_line(path.name)), "run `python notebooks/run.py links`"
    tags = [cell.metadata.get("tags", []) for cell in notebook.cells]
    assert "parameters" in tags[1] and "versions()" in notebook.cells[2].source
    ends = [name for name in headings(notebook) if name.startswith("## ")][-3:]
    assert ends == ["## Exercises", "## What you learned", "## Where next"]
    assert opening.count("\n- ") >= 3, "what you will be able to do"
    assert "What you see" in run.sources(notebook)
    for index, cell in enumerate(notebook.cells):
        if "widget" in cell.metadata.get("tags", []):
            prose = [c.source for c in notebook.cells[index + 1 :] if c.cell_type == "markdown"]
            assert "**Questions" in prose[0], "questions under each widget"


@every_notebook
def test_every_claim_is_checked(path: Path):
    cells = run._code_cells(read(path))
    asserts = [line for cell in cells for line in cell.source.splitlines() if "assert " in line]
    assert len(asserts) >= 10
    code = "\n".join(cell.source for cell in cells)
    assert not re.search(r"assert (True|1)\s*(,|$)", code, re.MULTILINE)


@every_notebook
def test_is_in_the_index_with_a_picture(path: Path):
    notebook = read(path)
    assert len(run._code_cells(notebook, "cover")) == 1
    assert cover(notebook), "the cell with the tag 'cover' shows no picture"
    assert f'href="{path.stem}.html"' in card(notebook, f"{path.stem}.html", "")


@every_notebook
def test_exercises_stand_open(path: Path):
    notebook, names = read(path), list(chapter(int(path.name[:2])))
    cells = run._code_cells(notebook, "exercise")
    assert [re.search(r'^check\("(.*?)"', c.source, re.MULTILINE)[1] for c in cells] == names
    assert verdicts(notebook, "exercise") == [f"Exercise {n}: not attempted yet." for n in names]
    titles = [name for name in headings(notebook) if name.startswith("### Exercise ")]
    assert [title.split()[2].rstrip(":") for title in titles] == names
    assert f"(solutions/{path.name})" in run.sources(notebook)


@every_solution
def test_solutions_were_right_when_they_were_executed(path: Path):
    names = chapter(int(path.name[:2]))
    assert verdicts(read(path), "solution") == [f"Exercise {name}: right." for name in names]
    assert f"(../{path.name})" in run.sources(read(path))
    assert run.check(path) == []


@every_notebook
def test_page_fetches_nothing(path: Path):
    page = render(read(path))
    assert not re.search(r"<script|<link|<img[^>]+src=.(?!data:)", page)


def test_notation_names_what_the_package_has():
    code = "\n".join(
        path.read_text() for path in sorted(run.NOTEBOOKS.parent.glob("fastflow_utils/**/*.py"))
    )
    rows = re.findall(r"^\|[^|]*\|([^|]*)\|", NOTATION.read_text(), re.MULTILINE)[2:]
    names = [name for row in rows for name in re.findall(r"`(\w+)", row)]
    assert len(names) > 15
    for name in names:
        assert re.search(rf"\b{name}\b", code), name
