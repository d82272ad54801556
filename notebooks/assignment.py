"""Write each notebook's exercises as an assignment for nbgrader.

    python notebooks/assignment.py          all notebooks, in build/assignment
    python notebooks/assignment.py 03       one of them

Both versions come from the course: texts and stubs from the notebook, answers from its solutions.
The folder is a course of nbgrader: `source` holds the instructor's version, `release` the
students', which nbgrader makes of it. `nbgrader autograde 03_coupling_flows`, in the folder,
grades what lies in `submitted/NAME/03_coupling_flows`.
"""

import argparse
import ast
import builtins
import os
import re
import shutil
import subprocess
import symtable
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import nbformat
from IPython.core.inputtransformer2 import TransformerManager
from links import absolute, repository
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from quiz import without_code
from run import chosen

__all__ = ["Task", "assignment", "nbgrader", "tasks", "undefined", "write"]

NOTEBOOKS = Path(__file__).resolve().parent
FOLDER = Path("build", "assignment")
POINTS, POINTS_OF_WORK = 1, 4
CHECK = re.compile(r'^(?:verdict = )?check\("(\d\.\d+)", (.*)\)$', re.MULTILINE)
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
CONFIGURATION = """c = get_config()
c.CourseDirectory.course_id = "fastflow"
c.ClearSolutions.code_stub = {"python": ""}  # each answer's cell has a stub of its own
c.ExecutePreprocessor.timeout = 600  # seconds for a cell: pieces of work train models
"""


@dataclass(frozen=True)
class Task:
    """An exercise as the assignment asks for it."""

    name: str
    text: str
    given: list[str]  # code that the notebook has before the stub, and that the task needs
    stub: str
    answer: str
    checked: str  # what is handed to `check`
    points: int


def tasks(notebook: NotebookNode, solutions: NotebookNode) -> list[Task]:
    """Return the exercises of a notebook, in order, with the answers of its solutions."""
    found = []
    there: set[int] = set()  # statements that are given already
    checks = [(*one, _section(notebook, one[0])) for one in _checks(notebook, "exercise")]
    sections = [section for *_, section in checks]
    for index, name, checked, section in checks:
        text, between = _before(notebook, index)
        work = section.startswith("Piece of work")
        if not text.startswith("#"):
            text = f"## {section}, part {name}\n\n{text}"
        stub = _without_check(notebook.cells[index].source)
        needed = undefined("\n".join([*between, stub]))
        statements = _statements(notebook, index - len(between), besides="exercise")
        if work:  # an answer needs what the text names
            needed |= _tools(text, statements) - _names(stub)[0]
        tools = _needed(statements, needed)
        setup = _joined([statements[i] for i in sorted(tools - there)])
        there |= tools
        found.append(
            Task(
                name,
                absolute(text),
                [code for code in (setup, *between) if code],
                stub,
                _answer(solutions, name, checked),
                checked,
                POINTS_OF_WORK // sections.count(section) if work else POINTS,
            )
        )
    return found


def assignment(path: Path, names: list[str] | None = None) -> NotebookNode:
    """Return the instructor's version of a notebook's exercises.

    Args:
        path: Of the notebook; its solutions stand in the folder `solutions` beside it.
        names: The exercises to take, such as "3.1"; default: all.
    """
    notebook = nbformat.read(path, as_version=4)
    solutions = nbformat.read(path.parent / "solutions" / path.name, as_version=4)
    chosen = [task for task in tasks(notebook, solutions) if not names or task.name in names]
    title = notebook.cells[0].source.partition("\n")[0].lstrip("# ")
    address = f"{repository()}/blob/main/notebooks/{path.name}"
    intro = (
        f"# Exercises: {title}\n\nThe exercises of [{title}]({address}). Write each answer in the "
        "cell under its text; the cell below it checks the answer, and says what is missing. "
        f"In all {sum(task.points for task in chosen)} points."
    )
    codes = [code for task in chosen for code in (*task.given, task.stub, task.answer)]
    named = re.findall(r"\w+", " ".join(re.findall(r"`[^`]+`", str([t.text for t in chosen]))))
    imports = _imports([notebook, solutions], {"check", *named}.union(*map(undefined, codes)))
    cells = [
        _cell(new_markdown_cell(intro), "intro", locked=True),
        _cell(new_code_cell(imports), "imports", locked=True),
    ]
    for task in chosen:
        label = task.name.replace(".", "-")
        heading = "points" if task.points > 1 else "point"
        text = re.sub(r"^#+ (.*)", rf"## \1 ({task.points} {heading})", task.text, count=1)
        answer = f"{task.stub}\n\n### BEGIN SOLUTION\n{task.answer}\n### END SOLUTION"
        test = f'verdict = check("{task.name}", {task.checked})\nassert verdict, verdict'
        cells += [
            _cell(new_markdown_cell(text), f"text-{label}", locked=True),
            *(
                _cell(new_code_cell(code), f"given-{label}-{number}", locked=True)
                for number, code in enumerate(task.given, 1)
            ),
            _cell(new_code_cell(answer), f"answer-{label}", solution=True),
            _cell(new_code_cell(test), f"test-{label}", locked=True, points=task.points),
        ]
    made: NotebookNode = new_notebook(cells=cells)
    made.metadata.kernelspec = KERNEL
    return made


def write(paths: list[Path], folder: Path, names: list[str] | None = None) -> None:
    """Write the instructor's versions, and let nbgrader make the students' of them.

    Args:
        paths: Of the notebooks.
        folder: Made if it is missing; submissions and grades in it are kept.
        names: The exercises to take; default: all.

    Raises:
        RuntimeError: If nbgrader refuses; it holds what nbgrader said.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "nbgrader_config.py").write_text(CONFIGURATION, encoding="utf-8")
    for path in paths:
        source = folder / "source" / path.stem
        shutil.rmtree(source, ignore_errors=True)
        source.mkdir(parents=True)
        nbformat.write(assignment(path, names), source / path.name)
        nbgrader(folder, "generate_assignment", path.stem, "--force")


def nbgrader(folder: Path, *arguments: str) -> str:
    """Run a command of nbgrader in a course's folder; return what it said.

    Raises:
        RuntimeError: If the command fails.
    """
    here = str(Path(sys.executable).parent)  # nbgrader calls a program that stands there
    environment = os.environ | {
        "PATH": os.pathsep.join([here, os.environ.get("PATH", "")]),
        "JUPYTER_PATH": str(Path(sys.prefix, "share", "jupyter")),  # the kernel of this Python
    }
    command = [sys.executable, "-m", "nbgrader", *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"nbgrader {' '.join(arguments)} failed:\n{done.stderr}")
    return done.stdout + done.stderr


# Reading the notebooks


def _checks(notebook: NotebookNode, tag: str) -> Iterator[tuple[int, str, str]]:
    """Yield index, name and checked expression of each cell that has the tag."""
    for index, cell in enumerate(notebook.cells):
        if tag in cell.metadata.get("tags", []) and (call := CHECK.search(cell.source)):
            yield index, call[1], call[2]


def _section(notebook: NotebookNode, index: int) -> str:
    """Return the title of the section in which a cell stands."""
    cells = [cell for cell in notebook.cells[:index] if cell.cell_type == "markdown"]
    text = without_code("\n\n".join(cell.source for cell in cells))
    titles: list[str] = re.findall(r"^## (.*)$", text, re.MULTILINE)
    return titles[-1] if titles else ""


def _before(notebook: NotebookNode, index: int) -> tuple[str, list[str]]:
    """Return the text from an exercise's heading to its cell, and the code cells in between."""
    texts: list[str] = []
    between: list[str] = []
    for cell in reversed(notebook.cells[:index]):
        if "exercise" in cell.metadata.get("tags", []):
            break
        if cell.cell_type == "code":
            between.insert(0, cell.source)
            continue
        starts = [m.start() for m in re.finditer(r"^#{1,3} ", cell.source, re.MULTILINE)]
        texts.insert(0, cell.source[starts[-1] :] if starts else cell.source)
        if starts:
            break
    return "\n\n".join(texts), between


def _answer(solutions: NotebookNode, name: str, checked: str) -> str:
    """Return the code of a solution, which runs after the imports and needs nothing else."""
    places = {found: (index, value) for index, found, value in _checks(solutions, "solution")}
    if name not in places:
        raise KeyError(f"the solutions answer {', '.join(places)}, and not {name}")
    index, value = places[name]
    start = max(
        i
        for i, cell in enumerate(solutions.cells[:index])
        if cell.cell_type == "markdown" and re.search(r"^#+ ", without_code(cell.source), re.M)
    )
    own = [
        _without_imports(_without_check(cell.source))
        for cell in solutions.cells[start : index + 1]
        if cell.cell_type == "code"
    ]
    missing = undefined("\n".join([*own, value]))
    statements = _statements(solutions, start)
    parts = [_joined([statements[i] for i in sorted(_needed(statements, missing))]), *own]
    if value != checked:
        parts.append(f"{checked} = {value}")
    return "\n\n".join(part for part in parts if part)


# Reading code


@dataclass(frozen=True)
class _Statement:
    """A statement at the top of a cell."""

    code: str
    defined: set[str]
    used: set[str]
    changed: set[str]  # what it trains or loads weights into
    is_tool: bool  # a function or a class


def _statements(notebook: NotebookNode, end: int, besides: str = "") -> list[_Statement]:
    """Return the statements of the code cells before a place, less those with a tag."""
    found = []
    for cell in notebook.cells[:end]:
        if cell.cell_type == "code" and besides not in cell.metadata.get("tags", []):
            source = TransformerManager().transform_cell(_without_check(cell.source))
            lines = source.splitlines()
            for node in ast.parse(source).body:
                if isinstance(node, ast.Import | ast.ImportFrom):
                    continue
                first = min(
                    [node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))]
                )
                code = "\n".join(lines[first - 1 : node.end_lineno])
                tool = isinstance(node, ast.FunctionDef | ast.ClassDef)
                changed = set() if tool else _changed(node)
                found.append(_Statement(code, *_names(code), changed, tool))
    return found


def _changed(statement: ast.stmt) -> set[str]:
    """Return the variables that a statement trains: `fit(model, ...)`, `model.fit(...)`."""
    found = set()
    for node in ast.walk(statement):
        if isinstance(node, ast.Call):
            function = node.func
            name = getattr(function, "attr", getattr(function, "id", ""))
            if name in ("fit", "train", "load_state_dict", "step"):
                owner = getattr(function, "value", None)
                found |= {n.id for n in (owner, *node.args[:1]) if isinstance(n, ast.Name)}
    return found


def _needed(statements: list[_Statement], names: set[str]) -> set[int]:
    """Return the places of what defines the names, and of what that needs."""
    found: set[int] = set()
    wanted = [(name, len(statements)) for name in names]
    while wanted:
        name, before = wanted.pop()
        places = [i for i in range(before) if name in statements[i].defined]
        trained = [i for i in range(before) if places and name in statements[i].changed]
        for i in {*places[-1:], *(i for i in trained if i > places[-1])} - found:
            found.add(i)
            wanted += [(one, i) for one in statements[i].used]
    return found


def _joined(statements: list[_Statement]) -> str:
    """Return statements as code: functions and classes with space around them."""
    code = ""
    for before, one in pairwise([None, *statements]):
        assert one is not None
        space = before is not None and (before.is_tool or one.is_tool)
        code += ("\n\n\n" if space else "\n" if before else "") + one.code
    return code


def _tools(text: str, statements: list[_Statement]) -> set[str]:
    """Return the names in a text's code that the statements define and an answer may use."""
    blocks = " ".join(re.findall(r"```.*?```", text, re.DOTALL))
    spans = " ".join(re.findall(r"`[^`]+`", text))
    functions = {name for one in statements if one.is_tool for name in one.defined}
    return set(re.findall(r"\w+", blocks)) | (set(re.findall(r"\w+", spans)) & functions)


def undefined(code: str) -> set[str]:
    """Return the names that a piece of code uses and does not define.

    >>> sorted(undefined("def f(x):\\n    return torch.exp(x) + len(y)"))
    ['torch', 'y']
    """
    defined, used = _names(code)
    return used - defined - set(dir(builtins))


def _names(code: str) -> tuple[set[str], set[str]]:
    """Return the names that a piece of code defines, and the global ones that it uses."""
    table = symtable.symtable(TransformerManager().transform_cell(code), "code", "exec")
    defined = {s.get_name() for s in table.get_symbols() if s.is_assigned() or s.is_imported()}
    used = {s.get_name() for s in table.get_symbols() if s.is_referenced()}
    inner = list(table.get_children())
    while inner:
        one = inner.pop()
        used |= {s.get_name() for s in one.get_symbols() if s.is_global() and s.is_referenced()}
        inner += one.get_children()
    return defined, used


def _without_check(code: str) -> str:
    return re.sub(
        r"^((verdict = )?check\(.*\)|assert verdict, verdict|verdict)\n?", "", code, flags=re.M
    ).strip()


def _without_imports(code: str) -> str:
    lines = code.splitlines()
    for statement in reversed(ast.parse(TransformerManager().transform_cell(code)).body):
        if isinstance(statement, ast.Import | ast.ImportFrom):
            del lines[statement.lineno - 1 : statement.end_lineno]
    return "\n".join(lines).strip()


def _imports(notebooks: list[NotebookNode], names: set[str]) -> str:
    """Return the import statements of the notebooks that bring the names."""
    found: set[str] = set()
    for notebook in notebooks:
        for cell in notebook.cells:
            if cell.cell_type == "code":
                code = TransformerManager().transform_cell(cell.source)
                for statement in ast.walk(ast.parse(code)):
                    if isinstance(statement, ast.Import | ast.ImportFrom):
                        for alias in statement.names:
                            if (alias.asname or alias.name.partition(".")[0]) in names:
                                statement.names = [alias]
                                found.add(ast.unparse(statement))
    return "\n".join(sorted(found, key=lambda line: (line.startswith("from"), line)))


def _cell(
    cell: NotebookNode,
    name: str,
    locked: bool = False,
    solution: bool = False,
    points: int | None = None,
) -> NotebookNode:
    """Give a cell what nbgrader wants to know of it."""
    graded = {} if points is None else {"points": points}
    cell.metadata.nbgrader = {
        "grade": points is not None,
        "grade_id": name,
        "locked": locked,
        "schema_version": 3,
        "solution": solution,
        "task": False,
        **graded,
    }
    return cell


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="start of a notebook's name")
    parser.add_argument("--output", type=Path, default=FOLDER, help="the course's folder")
    options = parser.parse_args(arguments)
    write(chosen(parser, options.names), options.output)
    print(f"Instructor's versions: {options.output / 'source'}")
    print(f"Students' versions:    {options.output / 'release'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
