"""Checkers for the course's exercises: not attempted, right, or what differs and a hint.

An exercise's cell holds a stub that runs, and ends with ``check("3.1", answer)``. The exercises
of notebook 03 are in ``chapter_03.py``; worked solutions are in ``notebooks/solutions``.
"""

import re
from importlib import import_module

from fastflow_utils.course.exercises.checking import Exercise, Verdict
from fastflow_utils.errors import FastFlowError

__all__ = ["Exercise", "Verdict", "chapter", "check"]


def chapter(number: int) -> dict[str, Exercise]:
    """Return the exercises of a notebook by name, in its order.

    >>> list(chapter(3))[0]
    '3.1'
    """
    module = import_module(f"fastflow_utils.course.exercises.chapter_{number:02}")
    exercises: dict[str, Exercise] = module.EXERCISES
    return exercises


def check(name: str, answer: object) -> Verdict:
    """Check an answer; the last line of an exercise's cell shows the verdict.

    Nothing is raised for a wrong answer, one that fails or one that is not there yet, so a
    notebook with open exercises runs from top to bottom.

    Args:
        name: The exercise: its notebook's number and its own, such as "3.1".
        answer: What the exercise asks for: a function or a value.

    Returns:
        The verdict, true if the answer is right.

    Raises:
        FastFlowError: If there is no such exercise.

    Example:
        >>> check("3.1", None)
        Exercise 3.1: not attempted yet.
    """
    number = re.match(r"[1-8](?=\.)", name)
    exercises = chapter(int(number[0])) if number else {}
    if name not in exercises:
        raise FastFlowError(
            f"exercise '{name}': expected the name in its heading, such as '3.1'"
            + (f"; this notebook has {', '.join(exercises)}" if exercises else "")
        )
    return exercises[name].verdict(name, answer)
