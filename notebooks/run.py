"""Execute the course's notebooks in the order of their names, each in a process of its own.

    python notebooks/run.py html       executed copies as pages, in build/html
    python notebooks/run.py inplace    executed and saved, ready to commit: in one thread, AVX2
    python notebooks/run.py check      not executed: fit to commit as they are?
    python notebooks/run.py links      not executed: the line of links written anew in each

The start of a name chooses: `python notebooks/run.py html 03`. Parameters are environment
variables (FASTFLOW_DATA, FASTFLOW_CATEGORY, ...), which are passed on to the notebooks.
"""

import argparse
import hashlib
import multiprocessing
import os
import re
import shutil
import signal
import statistics
import sys
import time
from ctypes import c_ulonglong
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import moving
import nbformat
import search
import wall
from layout import Layout
from links import broken, sources, with_links
from nbclient.exceptions import CellExecutionError, DeadKernelError
from nbconvert.filters.ansi import strip_ansi
from nbconvert.preprocessors import ExecutePreprocessor
from nbformat import NotebookNode
from pages import SITE, card, formula_errors, render, title
from watchdog import REST, WORK, Watchdog, end_children, processor_seconds, yardstick

from fastflow_utils.errors import FastFlowError

__all__ = [
    "MACHINE",
    "Run",
    "check",
    "chosen",
    "committed",
    "execute",
    "results",
    "save_in_place",
    "write_pages",
]

NOTEBOOKS = Path(__file__).resolve().parent
PAGES = Path("build", "html")
COMMITTED = {
    "OMP_NUM_THREADS": "1",
    "FASTFLOW_PRECISION": "float32",
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
}
"""How committed notebooks are executed. The texts quote numbers of their outputs, and training
amplifies what another number of threads or another processor rounds differently."""
MACHINE = re.compile(
    r"(?<![\w.])(?:/(?:home|Users|root|private|opt|work)/|[A-Z]:\\Users\\)[\w.-]+"
)
PASSING = re.compile(r"/tmp/[\w.-]+|\bsite-packages\b|\bat 0x[0-9a-f]{6,}")


@dataclass
class Run:
    """A notebook as executed: its outputs, the time it took, and what went wrong, if anything."""

    path: Path
    notebook: NotebookNode
    seconds: float
    failure: str | None


# Executing


def execute(path: Path, work: float | None = None, rest: float = REST) -> Run:
    """Execute a notebook in a process of its own, with its folder as the working directory.

    Neither an error nor a cell that hangs raises: the notebook is stopped, with every process that
    it started, and `Run.failure` names the cell and the error. How slow or busy the machine is
    makes no difference to what counts as hanging: see `watchdog.py`.

    Args:
        path: Of the notebook, which is not changed.
        work: Processor seconds that it may use without an output. Default: some 50 minutes of one
            core, more on a slower machine.
        rest: Seconds that it may do nothing.
    """
    start = time.perf_counter()
    watchdog = Watchdog(WORK * yardstick() if work is None else work, rest)
    with TemporaryDirectory() as folder:
        copy = Path(folder, path.name)
        shutil.copy(path, copy)
        context = multiprocessing.get_context("spawn")
        signs = context.RawValue("Q", 0)
        process = context.Process(target=_execute_copy, args=(copy, path.parent, signs))
        process.start()
        assert process.pid is not None
        hanging = None
        try:
            while process.is_alive() and not hanging:
                process.join(1)
                hanging = watchdog.look(processor_seconds(process.pid), signs.value)
            if hanging:
                end_children(process.pid)
                process.join(60)  # it notices that the kernel is gone, and keeps the outputs
        finally:
            if process.is_alive():
                process.terminate()  # it answers by killing the kernel's process group
                process.join(60)
                process.kill()
                process.join()
        notebook = nbformat.read(copy, as_version=4)
    failure = _failure(notebook)
    if hanging:
        failure = f"stopped: {hanging} (--patience 5 waits longer)" + (
            f", in {failure}" if failure else ""
        )
    elif process.exitcode and not failure:
        failure = f"the process that executed it ended with exit code {process.exitcode}"
    return Run(path, notebook, time.perf_counter() - start, failure)


class _Executor(ExecutePreprocessor):
    """One that counts what the kernel says, and waits for it as long as it takes."""

    def __init__(self, signs: c_ulonglong, **options: Any) -> None:
        for_ever = 10**9
        super().__init__(timeout=None, startup_timeout=for_ever, iopub_timeout=for_ever, **options)
        self.signs = signs

    def process_message(self, *message: Any) -> NotebookNode | None:
        self.signs.value += 1
        return super().process_message(*message)


def _execute_copy(copy: Path, cwd: Path, signs: c_ulonglong) -> None:
    """Execute the notebook `copy` and write it back with whatever outputs it got to."""
    # Asked to stop, leave by the way that shuts the kernel down, with all that it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    os.environ |= {
        "FASTFLOW_STATIC": "1",  # course.widgets then draws figures, builds no widget
        "FASTFLOW_LIVE": "1",  # and adds what a page needs to move them
        "JUPYTER_PATH": str(Path(sys.prefix, "share", "jupyter")),  # the kernel of this Python
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
    }
    if data := os.environ.get("FASTFLOW_DATA"):
        os.environ["FASTFLOW_DATA"] = str(Path(data).resolve())  # the kernel works elsewhere
    notebook = nbformat.read(copy, as_version=4)
    for cell in _code_cells(notebook):
        cell.outputs, cell.execution_count = [], None
    started: list[NotebookNode] = []
    executor = _Executor(
        signs,
        kernel_name="python3",
        record_timing=False,
        shutdown_kernel="immediate",
        extra_arguments=["--log-level=ERROR"],  # or ipykernel warns of an unencrypted loopback
        on_cell_start=lambda cell, cell_index: started.append(cell),
    )
    try:
        executor.preprocess(notebook, {"metadata": {"path": str(cwd)}})
    except CellExecutionError:
        pass  # the outputs of the cell tell
    except (DeadKernelError, AssertionError):  # nbclient's answers to a kernel that is gone
        _add_error(started[-1], "DeadKernelError", "the kernel is gone: stopped, or out of memory")
    nbformat.write(notebook, copy)


def _add_error(cell: NotebookNode, name: str, message: str) -> None:
    error = nbformat.v4.new_output("error", ename=name, evalue=message, traceback=[message])
    cell.outputs.append(error)


def _failure(notebook: NotebookNode) -> str | None:
    """Name the first cell with an error, as Jupyter numbers it, its first lines and the error."""
    for number, cell in enumerate(_code_cells(notebook), 1):
        for output in cell.outputs:
            if output.output_type == "error":
                error = strip_ansi(f"{output.ename}: {output.evalue}")
                lines = [*_head(cell.source, 3), "", *_head(error, 5)]
                return f"cell [{number}]:\n" + "\n".join(f"    {line}".rstrip() for line in lines)
    return None


def _head(text: str, count: int) -> list[str]:
    lines = text.splitlines()
    return lines if len(lines) <= count else [*lines[:count], "..."]


def _code_cells(notebook: NotebookNode, tag: str | None = None) -> list[NotebookNode]:
    """Return the code cells, of all or only those with a tag."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return [cell for cell in cells if tag is None or tag in cell.metadata.get("tags", [])]


# Committing


def save_in_place(run: Run) -> None:
    """Save a notebook as executed, less what would differ between runs and machines."""
    metadata = run.notebook.metadata
    metadata.pop("widgets", None)
    metadata.kernelspec = {"display_name": "Python 3", "language": "python", "name": "python3"}
    metadata.language_info.pop("version", None)
    metadata.fastflow = {"executed": _digest(run.notebook)}
    for cell in _code_cells(run.notebook):
        cell.metadata.pop("execution", None)  # JupyterLab's timestamps
    moving.write(moving.beside(run.path), _digest(run.notebook), moving.take(run.notebook))
    nbformat.write(run.notebook, run.path)


def committed(path: Path) -> Run:
    """Return a notebook as it was committed, with the data of its live figures.

    Raises:
        FastFlowError: The data are broken, or of another notebook or execution.
    """
    notebook = nbformat.read(path, as_version=4)
    executed, found = moving.read(moving.beside(path))
    if found and executed != notebook.metadata.get("fastflow", {}).get("executed"):
        raise FastFlowError(f"{moving.beside(path)} is of other code than {path.name}")
    moving.give(notebook, found)
    return Run(path, notebook, 0.0, None)


def check(path: Path) -> list[str]:
    """Name everything that keeps a notebook from being committed."""
    notebook = nbformat.read(path, as_version=4)
    cells = _code_cells(notebook)
    lines = [len(cell.source.splitlines()) for cell in cells] or [0]
    outputs = [output for cell in cells for output in cell.outputs]
    kinds = {kind for output in outputs for kind in output.get("data", {})}
    moves = moving.beside(path)
    digest, live = moving.read(moves)
    machine = sorted({found for output in outputs for found in _machine_traces(output)})
    findings = [
        (
            notebook.metadata.get("fastflow", {}).get("executed") != _digest(notebook),
            "its code is not what was executed: run `make notebooks`",
        ),
        (
            moves.is_file() and digest != _digest(notebook),
            f"{moves.name} in {moves.parent.name} is of other code: run `make notebooks`",
        ),
        (
            any(cell.id not in live for cell in _code_cells(notebook, "widget")),
            f"a widget has no data in {moves.parent.name}/{moves.name}: run `make notebooks`",
        ),
        (
            [cell.execution_count for cell in cells] != list(range(1, len(cells) + 1)),
            "its cells were not executed once each, from top to bottom",
        ),
        (any(output.output_type == "error" for output in outputs), "an output is an error"),
        (any(output.get("name") == "stderr" for output in outputs), "an output is on stderr"),
        ("widgets" in notebook.metadata, "it holds widget state"),
        (any("widget" in kind for kind in kinds), "an output is a live widget"),
        (bool(machine), f"outputs name this machine: {', '.join(machine)}"),
        (path.stat().st_size > 3e6, "it is larger than 3 MB"),
        (len(cells) > 60, f"{len(cells)} code cells; at most 60"),
        (max(lines) > 25, f"a code cell of {max(lines)} lines; at most 25"),
        (
            statistics.median(lines) > 8 and path.parent.name != "solutions",
            "the median code cell has more than 8 lines",
        ),
        (
            not _code_cells(notebook, "parameters") and path.parent.name != "solutions",
            "no cell has the tag 'parameters'",
        ),
    ]
    problems = [problem for found, problem in findings if found]
    problems += [
        f"a link to {link}, which is not there" for link in broken(sources(notebook), path.parent)
    ]
    return problems + formula_errors(render(notebook))


def write_links(path: Path) -> list[str]:
    """Bring the line of links in a notebook's first cell up to date; nothing else changes."""
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[0].source = with_links(notebook.cells[0].source, path.name)
    nbformat.write(notebook, path)
    return []


def _digest(notebook: NotebookNode) -> str:
    code = "\n".join(cell.source for cell in _code_cells(notebook))
    return hashlib.sha256(code.encode()).hexdigest()


def _machine_traces(output: NotebookNode) -> list[str]:
    """Return the parts of an output's text that another machine or run would not repeat."""
    data = output.get("data", {})
    texts = [output.get("text", ""), *(data[kind] for kind in data if kind.startswith("text/"))]
    here = re.compile("|".join(re.escape(str(path)) for path in (NOTEBOOKS.parent, Path.home())))
    patterns = (MACHINE, PASSING, here)
    return [match[0] for text in texts for pattern in patterns for match in pattern.finditer(text)]


# Showing


def write_pages(
    runs: list[Run], folder: Path, solutions: list[Path], layout: Layout | None = None
) -> Path:
    """Write a site that needs no network; return the path of its `index.html`.

    Args:
        runs: The executed notebooks, each of which becomes a page.
        folder: Made if it is missing; pages of an earlier site in it are removed.
        solutions: Notebooks with worked solutions, shown as they were committed.
        layout: Of a larger site, whose part this is. Default: the course alone, with its search.
    """
    (folder / "solutions").mkdir(parents=True, exist_ok=True)
    for old in [*folder.glob("*.html"), *folder.glob("solutions/*.html")]:
        old.unlink()
    alone = layout is None
    layout = layout or Layout(folder)
    names = [run.path.stem for run in runs]
    data = f"data in `{data}`" if (data := os.environ.get("FASTFLOW_DATA")) else "the sample set"
    index = [
        f"# {SITE}",
        "Learn to find defects in images from good images alone: anomaly detection with "
        f"normalizing flows, in {len(runs)} notebooks, executed from top to bottom on {data}. You "
        "need Python, PyTorch and a little probability; what moves in these pages needs neither "
        "an installation nor a network.",
        f"**Begin with [{title(runs[0].notebook)}]({runs[0].path.name})**: each notebook builds "
        "on those before it. [The notation](notation.md) is one for all, [the glossary]"
        "(glossary.md) explains the terms, [a lesson plan](teaching.md) is for teachers.",
        wall.picture(),
        "## The notebooks",
    ]
    for run, previous, following in zip(runs, [None, *names], [*names[1:], None], strict=False):
        page = f"{run.path.stem}.html"
        layout.write(page, run.notebook, run.path, previous=previous, next=following)
        took = f"{'failed after' if run.failure else 'runs in'} {run.seconds:.0f} s"
        index.append(card(run.notebook, page, took if run.seconds else ""))
    for path in solutions:
        layout.write(f"solutions/{path.stem}.html", nbformat.read(path, as_version=4), path)
    if solutions:
        links = [f"[{path.stem[:2]}](solutions/{path.name})" for path in solutions]
        index.append(f"Worked solutions of the exercises: {' · '.join(links)}.")
    for path in sorted(NOTEBOOKS.glob("*.md")):
        layout.write(f"{path.stem}.html", path.read_text(encoding="utf-8"), path)
    here = NOTEBOOKS / "index.md"
    layout.write("index.html", "\n\n".join(index), here, index="", **wall.context())
    if alone:
        search.write(layout)
    return folder / "index.html"


def results(runs: list[Run]) -> str:
    """Return what the last cell with the tag `results` shows, as text."""
    cells = [cell for run in runs for cell in _code_cells(run.notebook, "results")]
    outputs = [output for cell in cells[-1:] for output in cell.outputs]
    shown = [{"text/plain": output.get("text", "")} | output.get("data", {}) for output in outputs]
    return "".join(data.get("text/markdown", data["text/plain"]).rstrip() + "\n" for data in shown)


def chosen(
    parser: argparse.ArgumentParser, names: list[str], folder: Path = NOTEBOOKS
) -> list[Path]:
    """Return a folder's notebooks whose names start with one of these, or all; end without one."""
    everything = sorted(folder.glob("[0-9]*.ipynb"))
    for name in names:
        if not any(path.name.startswith(name) for path in everything):
            parser.error(f"no notebook {name}*.ipynb in {folder}")
    return [path for path in everything if path.name.startswith(tuple(names) or "")]


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("mode", choices=["html", "inplace", "check", "links"])
    parser.add_argument("names", nargs="*", metavar="NAME", help="start of a notebook's name")
    parser.add_argument("--folder", type=Path, default=NOTEBOOKS, help="where the notebooks are")
    parser.add_argument("--output", type=Path, default=PAGES, help="where the pages go")
    parser.add_argument(
        "--patience", type=float, default=1, help="wait this many times longer for a silent cell"
    )
    options = parser.parse_args(arguments)
    paths = chosen(parser, options.names, options.folder)
    if options.mode == "inplace" and "FASTFLOW_DATA" in os.environ:
        parser.error("unset FASTFLOW_DATA: committed notebooks show the sample set and no other")
    if options.mode == "inplace":
        os.environ |= COMMITTED

    runs, failed = [], False
    for path in paths:
        if options.mode == "check":
            problems = check(path)
        elif options.mode == "links":
            problems = write_links(path)
        else:
            print(f"{path.name} ...", end=" ", flush=True)
            run = execute(path, options.patience * WORK * yardstick(), options.patience * REST)
            print(f"{run.seconds:.1f} s", flush=True)
            runs.append(run)
            problems = [run.failure] if run.failure else []
            if options.mode == "inplace" and not problems:
                save_in_place(run)
                problems = check(path)
        for problem in problems:
            print(f"{path.name}: {problem}", file=sys.stderr, flush=True)
            failed = True
    if options.mode == "html":
        solutions = sorted((options.folder / "solutions").glob("[0-9]*.ipynb"))
        index = write_pages(runs, options.output, solutions)
        print(f"\n{results(runs)}\nThe notebooks as pages: {index}")
    return int(failed)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("\nstopped")
