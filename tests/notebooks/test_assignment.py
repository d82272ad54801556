"""The exercises as an assignment: no answer in the students' version, and the grader grades."""

import csv
import re
from pathlib import Path

import nbformat
import pytest
from assignment import assignment, nbgrader, tasks, undefined, write
from nbformat import NotebookNode
from run import NOTEBOOKS

from fastflow_utils.course.exercises import chapter

COURSE = sorted(NOTEBOOKS.glob("[0-9]*.ipynb"))
KINDS = ("source", "release")
GRADED = NOTEBOOKS / "03_coupling_flows.ipynb"
every_notebook = pytest.mark.parametrize("path", COURSE, ids=lambda path: path.stem)


def read(path: Path) -> NotebookNode:
    return nbformat.read(path, as_version=4)


def cell(notebook: NotebookNode, name: str) -> NotebookNode:
    (found,) = [c for c in notebook.cells if c.metadata.nbgrader.grade_id == name]
    return found


@every_notebook
def test_asks_for_every_exercise_with_its_points(path: Path):
    made = assignment(path)
    wanted = list(chapter(int(path.name[:2])))
    tests = [c for c in made.cells if c.metadata.nbgrader.grade]
    assert [re.search(r'check\("(.*?)"', c.source)[1] for c in tests] == wanted
    points = [c.metadata.nbgrader.points for c in tests]
    assert points[0] == 1 and points[-1] > 1, "a piece of work counts more"
    assert f"In all {sum(points)} points" in made.cells[0].source
    for name in wanted:
        text = cell(made, f"text-{name.replace('.', '-')}").source
        assert re.match(rf"## (Exercise {name}|Piece of work): ", text), "no heading of its own"
        assert len(text) > 100
        assert "solutions/" not in text, "no link to the answers"
        assert not re.search(r"\]\((?!https?:|#)", text), "a link that leads nowhere from there"


@every_notebook
def test_stubs_and_answers_run_alone(path: Path):
    """Each uses only what the imports and the code above its stub bring."""
    made = assignment(path)
    imports = cell(made, "imports").source
    solutions = path.parent / "solutions" / path.name
    for task in tasks(read(path), read(solutions)):
        given = "\n".join([imports, *task.given])
        assert undefined(f"{given}\n{task.stub}") == set(), f"the stub of {task.name}"
        assert undefined(f"{given}\n{task.stub}\n{task.answer}") == set(), task.name
        assert not re.search(r'\bcheck\("|assert verdict, verdict', task.answer)


def test_undefined_names_are_those_of_every_depth():
    code = "import a.b\nx = [y for y in z]\ndef f(p=q):\n    class G(H):\n        r = x + s\n"
    assert undefined(code) == {"z", "q", "H", "s"}


@pytest.fixture(scope="module")
def course(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A course of two exercises, as nbgrader makes it, with three submissions graded."""
    folder = tmp_path_factory.mktemp("assignment")
    names = list(chapter(3))[1:3]
    write([GRADED], folder, names)
    source, release = (folder / kind / GRADED.stem / GRADED.name for kind in KINDS)
    right, wrong, tampered = read(source), read(release), read(release)
    label = names[0].replace(".", "-")
    answer = cell(right, f"answer-{names[1].replace('.', '-')}").source
    cell(wrong, f"answer-{names[1].replace('.', '-')}").source = answer
    checked = re.search(r"check\(.*?, (.*)\)", cell(wrong, f"test-{label}").source)[1]
    cell(wrong, f"answer-{label}").source = (  # what its checker knows as a mistake
        "from fastflow_utils.course.exercises import chapter\n"
        f"{checked} = next(iter(chapter(3)['{names[0]}'].mistakes.values()))"
    )
    cell(tampered, f"test-{label}").source = "assert True"
    for name, notebook in {"right": right, "wrong": wrong, "tampered": tampered}.items():
        place = folder / "submitted" / name / GRADED.stem / GRADED.name
        place.parent.mkdir(parents=True)
        nbformat.write(notebook, place)
    nbgrader(folder, "autograde", GRADED.stem)
    nbgrader(folder, "export", "--to", "grades.csv")
    return folder


def test_the_students_version_holds_no_answer(course: Path):
    source, release = (read(course / kind / GRADED.stem / GRADED.name) for kind in KINDS)
    exercises = {c.source.partition("check(")[0].strip() for c in read(GRADED).cells}
    answers = [c for c in source.cells if c.metadata.nbgrader.solution]
    assert len(answers) == 2 and len(release.cells) == len(source.cells)
    for answer in answers:
        stub, _, solution = answer.source.partition("### BEGIN SOLUTION\n")
        asked = cell(release, answer.metadata.nbgrader.grade_id).source
        assert asked.strip() == stub.strip() and asked.strip() in exercises
        assert len(solution) > 20
    assert "SOLUTION" not in "".join(c.source for c in release.cells)


def test_the_grader_tells_right_from_wrong(course: Path):
    with (course / "grades.csv").open() as file:
        score = {row["student_id"]: float(row["score"]) for row in csv.DictReader(file)}
    assert score == {"right": 2, "wrong": 1, "tampered": 0}
