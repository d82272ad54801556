"""Measure the course: seconds of each notebook, size of its cells, delay of its widgets.

    make course                                      # everything, about a quarter of an hour
    python tests/benchmarks/course.py --seconds      # of the notebooks alone, in six minutes
    python tests/benchmarks/course.py --tables       # write the tables from course.json

A notebook is executed as `make tutorial` does, with nothing else on the machine, without features
in the cache, in float32 with AVX2 only: as on a plain laptop (``speed.py``). For the widgets it is
run once more, in JupyterLab in headless Chromium: each control is moved by the keyboard, forward
and back, and the time is taken in the page, from the key to the redrawn picture.

The results are kept in ``course.json`` beside this file; the README's, this folder's and the
teachers' tables and the lines **Time** of the notebooks are written from them. The command ends
with exit code 1 where they miss a bar: :func:`missed`.
"""

import argparse
import json
import math
import os
import re
import statistics
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bars import at_least, at_most, stop_if_missed
from playwright.sync_api import TimeoutError
from results import written
from speed import MODES, PLAIN

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path[:0] = [str(ROOT / "notebooks"), str(ROOT / "tests" / "browser")]

import run  # noqa: E402
from live import open_browser, open_lab, press, widgets  # noqa: E402
from pages import promise, title  # noqa: E402
from quiz import headings, questions, section  # noqa: E402

from fastflow_utils.course.exercises import chapter  # noqa: E402

STORE = HERE / "course.json"
PAGE, README = HERE / "README.md", ROOT / "README.md"
TEACHING = run.NOTEBOOKS / "teaching.md"
COURSE = sorted(run.NOTEBOOKS.glob("[0-9]*.ipynb"))
PRESSES = 20  # of each control
# Minutes by rule, for teachers: nobody has measured learners.
WORDS_PER_MINUTE, PER_FIGURE, PER_EXERCISE, PER_WORK, PER_QUESTION = 150, 1, 8, 45, 1
SESSION, SLIDES = 90, 40  # minutes of a session, and of its slides with what is shown live


def seconds(path: Path) -> float:
    """Return how long a notebook takes, with an empty cache of features."""
    before = dict(os.environ)
    with TemporaryDirectory() as cache:
        os.environ |= MODES[PLAIN] | {"FASTFLOW_CACHE": cache}
        done = run.execute(path)
    os.environ.clear()
    os.environ |= before
    if done.failure:
        sys.exit(f"{path.name}: {done.failure}")
    return round(done.seconds, 1)


def size(path: Path) -> dict[str, Any]:
    """Return a notebook's numbers of cells, lines, words, figures, checks and exercises."""
    notebook = run.nbformat.read(path, as_version=4)
    cells = run._code_cells(notebook)
    lines = [len(cell.source.splitlines()) for cell in cells]
    exercises = chapter(int(path.name[:2]))
    outputs = [output.get("data", {}) for cell in cells for output in cell.outputs]
    works = [name for name in headings(notebook, 2) if name.startswith("## Piece of work")]
    return {
        "cells": len(cells),
        "median": statistics.median(lines),
        "longest": max(lines),
        "words": len(run.sources(notebook).split()),
        "asserts": sum(cell.source.count("assert ") for cell in cells),
        "figures": sum("image/png" in kinds or "image/jpeg" in kinds for kinds in outputs),
        "exercises": len(exercises),
        "works": len(works),
        "questions": len(questions(section(notebook, "## Quiz"))),
        "mistakes": sum(len(exercise.mistakes) for exercise in exercises.values()),
        "megabytes": round(path.stat().st_size / 1e6, 2),
    }


def delays(path: Path) -> dict[str, list[float]]:
    """Return the milliseconds from a key to the redrawn picture, for each control."""
    found: dict[str, list[float]] = {}
    with (
        TemporaryDirectory() as folder,
        open_browser() as browser,
        open_lab(Path(folder), FASTFLOW_EPOCHS="2") as lab,
    ):
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        lab.open(page, path.name)
        lab.run_all(page)
        for number, widget in enumerate(widgets(page), 1):
            for control in widget.controls:
                times = found.setdefault(f"{number} {control.label}", [])
                for key in [*PRESSES // 2 * control.keys[:1], *PRESSES // 2 * control.keys[1:]]:
                    try:
                        times.append(round(press(page, widget, control, key, limit=2), 1))
                    except TimeoutError:  # the end of the range: nothing to redraw
                        continue
        page.evaluate("jupyterapp.shell.currentWidget.sessionContext.shutdown()")
    return found


def series(store: dict[str, Any]) -> str:
    """Return the README's table."""
    lines = ["| | the promise | runs in |", "|---|---|---:|"]
    for path in COURSE:
        notebook = run.nbformat.read(path, as_version=4)
        link = f"[{title(notebook)}](notebooks/{path.name})"
        took = store["notebooks"][path.stem]["seconds"]
        lines.append(f"| {link} | {promise(notebook)} | {took:.0f} s |")
    total = sum(one["seconds"] for one in store["notebooks"].values())
    lines.append(f"| | **all {len(COURSE)}** | **{total / 60:.1f} min** |")
    return "\n".join(lines)


def tables(store: dict[str, Any]) -> str:
    """Return the tables of this folder's page."""
    names = ("seconds", "cells", "median", "longest", "words", "asserts", "exercises", "mistakes")
    heads = ("seconds", "code cells", "median lines", "longest", "words", "asserts", "exercises")
    lines = [
        f"Measured by `make course` on {store['cores']} cores; seconds in float32 with AVX2 only, "
        "as on a plain laptop; empty cache of features, sample set. The last column counts "
        "plausible wrong answers, each of which its checker rejects "
        "with a hint (`tests/course/test_exercises.py`).",
        "",
        f"| notebook | {' | '.join(heads)} | wrong answers rejected |",
        "|---|" + "---:|" * len(names),
    ]
    for name, one in store["notebooks"].items():
        lines.append(f"| {name} | {' | '.join(f'{one[key]:g}' for key in names)} |")
    lines += [
        "",
        "Milliseconds from a key to the redrawn picture in JupyterLab, headless Chromium on the "
        "same two cores:",
        "",
        "| notebook | control | presses | median | 95 % | most |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for name, one in store["notebooks"].items():
        for control, times in one["delays"].items():
            ordered = sorted(times)
            high = ordered[math.ceil(0.95 * len(ordered)) - 1]
            cells = (len(times), statistics.median(times), high, ordered[-1])
            lines.append(
                f"| {name} | {control.partition(' ')[2]} | {cells[0]} | "
                + " | ".join(f"{value:.0f}" for value in cells[1:])
                + " |"
            )
    return "\n".join(lines)


def minutes(one: dict[str, Any]) -> dict[str, int]:
    """Return a learner's minutes for the parts of a notebook, by rule."""
    return {
        "reading": round(one["words"] / WORDS_PER_MINUTE + PER_FIGURE * one["figures"]),
        "exercises": PER_EXERCISE * (one["exercises"] - one["works"]),
        "work": PER_WORK * one["works"],
        "quiz": PER_QUESTION * one["questions"],
    }


def times(store: dict[str, Any]) -> str:
    """Return the teachers' table of the notebooks' parts."""
    heads = ("runs in", "words", "figures", "reading", "exercises", "piece of work", "quiz", "all")
    lines = [f"| notebook | {' | '.join(heads)} |", "|---|" + "---:|" * len(heads)]
    for path in COURSE:
        one = store["notebooks"][path.stem]
        by_rule = minutes(one)
        cells = [f"{one['seconds']:.0f} s", str(one["words"]), str(one["figures"])]
        cells += [f"{value} min" for value in (*by_rule.values(), sum(by_rule.values()))]
        cells[4] = f"{one['exercises'] - one['works']}: {cells[4]}"
        cells[6] = f"{one['questions']}: {cells[6]}"
        name = title(run.nbformat.read(path, as_version=4))
        lines.append(f"| [{name}]({path.name}) | {' | '.join(cells)} |")
    return "\n".join(lines)


def sessions(store: dict[str, Any]) -> str:
    """Return the teachers' table of eight sessions, one for each notebook."""
    lines = [
        f"| session | slides, live | exercises in class | quiz | at home, after {SESSION} min |",
        "|---|---:|---:|---:|---|",
    ]
    for number, path in enumerate(COURSE, 1):
        one = store["notebooks"][path.stem]
        by_rule, count = minutes(one), one["exercises"] - one["works"]
        here = min(count, (SESSION - SLIDES - by_rule["quiz"]) // PER_EXERCISE)
        rest = PER_EXERCISE * (count - here) + by_rule["work"] + by_rule["reading"]
        left = f"{count - here} exercises, " if count > here else ""
        lines.append(
            f"| {number}: {path.name[:2]} | {SLIDES} min | {here} of {count}: "
            f"{PER_EXERCISE * here} min | {by_rule['quiz']} min | "
            f"reading, {left}piece of work: {rest} min |"
        )
    return "\n".join(lines)


def missed(store: dict[str, Any]) -> list[str]:
    """Return a sentence for each bar missed: the course is short, its widgets answer at once."""
    found, number = [], 0
    for name, one in store["notebooks"].items():
        found += at_most(f"seconds of {name}", one["seconds"], 60)
        for control, times in one["delays"].items():
            number += 1
            what = f"milliseconds of {control.partition(' ')[2]} in {name}, median"
            found += at_most(what, statistics.median(times or [math.inf]), 200)
    total = sum(one["seconds"] for one in store["notebooks"].values())
    found += at_most("seconds of all notebooks", total, 6 * 60)
    return found + at_least("controls measured", number, 12)


def write_time(path: Path, took: float) -> None:
    """Bring the line **Time** of a notebook up to date: seconds, rounded up to five."""
    notebook = run.nbformat.read(path, as_version=4)
    about = f"about {5 * math.ceil(took / 5)} s to run"
    source, count = re.subn(r"about \d+ s to run", about, notebook.cells[0].source)
    if count != 1:
        sys.exit(f"{path.name}: no 'about N s to run' in its first cell")
    notebook.cells[0].source = source
    run.nbformat.write(notebook, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--tables", action="store_true", help="measure nothing")
    parser.add_argument("--seconds", action="store_true", help="measure no delays")
    parser.add_argument("names", nargs="*", help="start of the names of notebooks; default: all")
    arguments = parser.parse_args()
    store = json.loads(STORE.read_text()) if STORE.exists() else {"notebooks": {}}
    for path in COURSE:
        if arguments.tables or not path.name.startswith(tuple(arguments.names) or ("",)):
            continue
        print(path.stem, "...", end=" ", flush=True)
        kept = store["notebooks"].get(path.stem, {}).get("delays", {})
        one = {"seconds": seconds(path), **size(path)}
        one["delays"] = kept if arguments.seconds else delays(path)
        print(one["seconds"], "s", flush=True)
        store["notebooks"][path.stem] = one
        store["notebooks"] = dict(sorted(store["notebooks"].items()))
        store["cores"] = os.cpu_count()
        STORE.write_text(json.dumps(store, indent=1) + "\n")
    for path in COURSE:
        write_time(path, store["notebooks"][path.stem]["seconds"])
        store["notebooks"][path.stem] |= size(path)  # no measurement: as the notebook is now
    STORE.write_text(json.dumps(store, indent=1) + "\n")
    README.write_text(written(README.read_text(), series(store), "course"))
    PAGE.write_text(written(PAGE.read_text(), tables(store), "course"))
    teaching = written(TEACHING.read_text(), times(store), "times")
    TEACHING.write_text(written(teaching, sessions(store), "sessions"))
    print(tables(store))
    stop_if_missed(missed(store))


if __name__ == "__main__":
    main()
