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
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from pages import card, cover, render
from quiz import headings, problems, questions, section, unanswered, without_code

from fastflow_utils.course.exercises import chapter

COURSE = sorted(run.NOTEBOOKS.glob("[0-9]*.ipynb"))
SOLUTIONS = sorted((run.NOTEBOOKS / "solutions").glob("[0-9]*.ipynb"))
NOTATION, GLOSSARY = run.NOTEBOOKS / "notation.md", run.NOTEBOOKS / "glossary.md"
ENDS = ["## Quiz", "## What you learned", "## Where next"]
every_notebook = pytest.mark.parametrize("path", COURSE, ids=lambda path: path.stem)
every_solution = pytest.mark.parametrize("path", SOLUTIONS, ids=lambda path: path.stem)


def read(path: Path) -> NotebookNode:
    return run.nbformat.read(path, as_version=4)


def work_code(notebook: NotebookNode) -> str:
    """The code of the sections `## Piece of work`."""
    inside, code = False, ""
    for cell in notebook.cells:
        for title in re.findall(r"^## .*$", without_code(cell.source), re.MULTILINE):
            inside = cell.cell_type == "markdown" and title.startswith("## Piece of work: ")
        code += cell.source + "\n" if inside and cell.cell_type == "code" else ""
    return code


def verdicts(notebook: NotebookNode, tag: str) -> list[str]:
    """What the checkers said, in order."""
    outputs = [output for cell in run._code_cells(notebook, tag) for output in cell.outputs]
    return [output.get("data", {}).get("text/plain", "") for output in outputs]


def alternatives(notebook: NotebookNode) -> list[str]:
    """The alternative texts of all pictures, in order; "" where one has none."""
    return [
        output.metadata.get(kind, {}).get("alt", "")
        for cell in run._code_cells(notebook)
        for output in cell.outputs
        for kind in output.get("data", {})
        if kind.startswith("image/")
    ]


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
    titles = headings(notebook, 2)
    assert titles[-3:] == ENDS
    assert any(title.startswith("## Piece of work: ") for title in titles[:-3])
    assert titles[0].startswith("## 1. "), "the sections are numbered"
    assert opening.count("\n- ") >= 3, "what you will be able to do"
    assert "What you see" in run.sources(notebook)
    for index, cell in enumerate(notebook.cells):
        if "widget" in cell.metadata.get("tags", []):
            prose = [c.source for c in notebook.cells[index + 1 :] if c.cell_type == "markdown"]
            assert "**Questions" in prose[0], "questions under each widget"


@every_notebook
def test_every_question_has_an_answer_to_unfold(path: Path):
    notebook = read(path)
    assert "**Question" in run.sources(notebook)
    assert unanswered(notebook) == []


@every_notebook
def test_the_quiz_teaches(path: Path):
    assert problems(section(read(path), "## Quiz")) == []


@every_notebook
def test_terms_lead_to_the_glossary(path: Path):
    """The links' targets exist: `run.check`."""
    terms = re.findall(r"\(glossary\.md#([\w-]+)\)", run.sources(read(path)))
    assert len(set(terms)) >= 5


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
def test_every_picture_is_told_in_words(path: Path):
    """For those who cannot see it: what is to be seen, in one or two sentences."""
    told = alternatives(read(path)) + alternatives(read(run.NOTEBOOKS / "solutions" / path.name))
    assert told and len(set(told)) == len(told), "no two pictures are alike"
    for words in told:
        assert 20 <= len(words) <= 300 and words.endswith("."), words
        assert not re.search(r"[$\\\n]|\bnan\b", words), words


def test_a_picture_without_words_is_found():
    def shown(kind: str, **facts: str) -> NotebookNode:
        return new_output("display_data", {kind: "", "text/plain": ""}, metadata={kind: facts})

    outputs = [shown("image/png", alt="A line."), shown("image/jpeg"), new_output("stream")]
    notebook = new_notebook(cells=[new_code_cell("draw()", outputs=outputs)])
    assert alternatives(notebook) == ["A line.", ""]


@every_notebook
def test_exercises_stand_open(path: Path):
    notebook, names = read(path), list(chapter(int(path.name[:2])))
    cells = run._code_cells(notebook, "exercise")
    assert [re.search(r'^check\("(.*?)"', c.source, re.MULTILINE)[1] for c in cells] == names
    assert verdicts(notebook, "exercise") == [f"Exercise {n}: not attempted yet." for n in names]
    titles = re.findall(r"^### Exercise ([\d.]+): .+$", run.sources(notebook), re.MULTILINE)
    work = re.findall(r'check\("([\d.]+)"', work_code(notebook))
    assert work and names[-len(work) :] == work, "a piece of work, checked by the last numbers"
    assert titles == names[: len(titles)] and {*titles, *work} == {*names}
    assert run.sources(notebook).count(f"(solutions/{path.name})") == 1


@every_solution
def test_solutions_were_right_when_they_were_executed(path: Path):
    names = chapter(int(path.name[:2]))
    assert verdicts(read(path), "solution") == [f"Exercise {name}: right." for name in names]
    assert f"(../{path.name})" in run.sources(read(path))
    assert run.check(path) == []


@every_notebook
def test_page_fetches_nothing(path: Path):
    page = render(run.committed(path).notebook)
    assert not re.search(r"<script[^>]+src=|<link|<img[^>]+src=.(?!data:)", page)


def test_notation_names_what_the_package_has():
    code = "\n".join(
        path.read_text() for path in sorted(run.NOTEBOOKS.parent.glob("fastflow_utils/**/*.py"))
    )
    rows = re.findall(r"^\|[^|]*\|([^|]*)\|", NOTATION.read_text(), re.MULTILINE)[2:]
    names = [name for row in rows for name in re.findall(r"`(\w+)", row)]
    assert len(names) > 15
    for name in names:
        assert re.search(rf"\b{name}\b", code), name


CHOICES = """**{number}. Which?**

<details><summary>a) this one</summary>

{a}. The reason is long enough to teach something,
in two lines.

</details>
<details><summary>b) that one</summary>

{b}. The reason is long enough to teach something.

</details>
<details><summary>c) none of them</summary>

Wrong. The reason is long enough to teach something.

</details>

"""
QUIZ = "## Quiz\n\nThink first.\n\n" + "".join(
    CHOICES.format(number=i, a="Wrong" if i % 2 else "Right", b="Right" if i % 2 else "Wrong")
    for i in range(1, 6)
)


def test_a_quiz_is_read():
    assert problems(QUIZ) == []
    first, *others = questions(QUIZ)
    assert [question.number for question in others] == [2, 3, 4, 5]
    assert [(c.letter, c.text, c.right) for c in first.choices] == [
        ("a", "this one", False),
        ("b", "that one", True),
        ("c", "none of them", False),
    ]
    assert first.choices[0].reason.endswith("something, in two lines.")


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("Wrong. The reason is long enough to teach", "Wrong. No", "a reason of 13 signs"),
        ("b) that one", "b) $x$", "a formula"),
        ("Right. The", "Wrong. The", "0 right choices"),
        ("Wrong. The", "Right. The", "3 right choices"),
        ("Wrong. The", "No. The", "cannot be read"),
        ("<details><summary>c)", "<details><summary>d)", "choices abd"),
        ("**2. ", "**7. ", "not numbered"),
        ("**2. Which?**", "2. Which?", "4 questions"),
        ("c) none of them</summary>\n", "c) none of them</summary>", "cannot be read"),
    ],
)
def test_what_is_wrong_with_a_quiz_is_named(old: str, new: str, problem: str):
    changed = QUIZ.replace(old, new)
    assert changed != QUIZ and problem in " ".join(problems(changed))


def test_the_right_letter_varies():
    same = "".join(CHOICES.format(number=i, a="Right", b="Wrong") for i in range(1, 6))
    assert problems(same) == ["the right choice has the same letter everywhere"]


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("**Questions.** 1. Why?\n\n<details><summary>Answers</summary>\n\n1. So.", []),
        ("**Question.** Why?\n\n<details><summary>Answer</summary>\n\nSo.", []),
        ("**Questions.** 1. Why?\n\n2. How?", ["**Questions.** 1. Why?"]),
        ("<details><summary>Answer</summary>\n\n</details>\n\n**Question.** Why?", ["**Quest"]),
    ],
)
def test_a_question_without_an_answer_is_found(text: str, missing: list[str]):
    found = unanswered(new_notebook(cells=[new_markdown_cell(text)]))
    assert len(found) == len(missing)
    assert all(one.startswith(start) for one, start in zip(found, missing, strict=True))


def test_a_section_ends_at_the_next_of_its_level():
    text = "# A\n\n## One\n\n### Deeper\n\n```\n## code\n```\n\nText.\n\n## Two\n\nMore."
    notebook = new_notebook(cells=[new_markdown_cell(text)])
    assert section(notebook, "## One").split() == ["##", "One", "###", "Deeper", "Text."]
    assert section(notebook, "## Three") == ""
    assert headings(notebook, 2) == ["## One", "## Two"]


def test_glossary_is_in_order_and_each_term_is_short():
    text = GLOSSARY.read_text(encoding="utf-8")
    terms = re.findall(r"^### (.*)$", text, re.MULTILINE)
    assert len(terms) > 50 and terms == sorted(terms, key=str.casefold)
    for entry in text.split("\n### ")[1:]:
        assert 15 <= len(entry.split()) <= 110, entry[:40]
        assert re.search(r"\(0[1-8]_\w+\.ipynb\)", entry), f"{entry[:40]}: where is it used?"
