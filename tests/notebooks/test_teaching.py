"""The page for teachers: its tables are those of the stored measurements, its commands exist."""

import json
import re
from pathlib import Path

import course

ROOT = Path(__file__).resolve().parents[2]
TEXT = course.TEACHING.read_text(encoding="utf-8")


def between(name: str) -> str:
    return TEXT.partition(f"<!-- begin {name} -->\n")[2].partition(f"\n<!-- end {name} -->")[0]


def test_tables_are_those_of_the_stored_results():
    """If not: `python tests/benchmarks/course.py --tables`."""
    stored = json.loads(course.STORE.read_text())
    assert between("times") == course.times(stored)
    assert between("sessions") == course.sessions(stored)


def test_minutes_follow_from_counts():
    counts = {"words": 3000, "figures": 10, "exercises": 6, "works": 1, "questions": 7}
    assert course.minutes(counts) == {"reading": 30, "exercises": 40, "work": 45, "quiz": 7}


def test_what_is_in_class_fits_into_a_session():
    counts = {"words": 3000, "figures": 10, "exercises": 9, "works": 1, "questions": 8}
    stored = {"notebooks": {path.stem: counts for path in course.COURSE}}
    rows = course.sessions(stored).splitlines()[2:]
    assert len(rows) == 8
    for row in rows:
        here = sum(int(number) for number in re.findall(r"(\d+) min \|", row)[:3])
        assert here <= course.SESSION
        assert "5 of 8: 40 min" in row and "reading, 3 exercises, piece of work: 99 min" in row


def test_rule_and_commands_are_those_of_the_code():
    for number in (course.WORDS_PER_MINUTE, course.PER_EXERCISE, course.PER_WORK, course.SESSION):
        assert str(number) in TEXT
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(re.findall(r"\bmake ([a-z-]+)", TEXT)) <= set(targets)
