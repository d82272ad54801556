"""Each checker takes a right answer and no other, and its verdicts help without telling."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from fastflow_utils.course import exercises
from fastflow_utils.course.exercises import Exercise, chapter, check
from fastflow_utils.course.exercises.checking import difference
from fastflow_utils.errors import FastFlowError

FOLDER = Path(exercises.__file__).parent
CHAPTERS = [int(path.stem[-2:]) for path in sorted(FOLDER.glob("chapter_*.py"))]
EXERCISES = {name: exercise for number in CHAPTERS for name, exercise in chapter(number).items()}
each = pytest.mark.parametrize("name", EXERCISES)


@pytest.mark.parametrize("number", CHAPTERS)
def test_a_notebook_has_at_least_three_in_order(number: int):
    names = list(chapter(number))
    assert len(names) >= 3
    assert names == [f"{number}.{i}" for i in range(1, len(names) + 1)]


@each
def test_the_reference_is_right_every_time(name: str):
    assert check(name, EXERCISES[name].reference)
    assert check(name, EXERCISES[name].reference)


@each
def test_plausible_mistakes_are_rejected_each_with_its_hint(name: str):
    assert len(EXERCISES[name].mistakes) >= 2
    for hint, wrong in EXERCISES[name].mistakes.items():
        verdict = check(name, wrong)
        assert verdict.state == "not yet", hint
        assert verdict.message.endswith(hint), verdict


@each
def test_a_stub_is_not_an_attempt(name: str):
    for stub in (None, ..., lambda *arguments: None, lambda *arguments: ...):
        if callable(stub) and not callable(EXERCISES[name].reference):
            continue
        assert check(name, stub).state == "not attempted"


@each
def test_an_answer_that_fails_is_no_stack_trace(name: str):
    def fails(*arguments: object) -> object:
        raise ZeroDivisionError("oh")

    verdict = check(name, fails)
    assert verdict.state == "not yet" and len(str(verdict)) > 40


@each
def test_checking_leaves_the_random_numbers_alone(name: str):
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    check(name, EXERCISES[name].reference)
    assert torch.equal(torch.rand(1), expected)


def test_an_answer_may_spoil_its_arguments():
    exercise = Exercise(
        reference=lambda x: x + 1, hint="", mistakes={}, inputs=lambda: [(torch.zeros(2),)] * 1
    )
    assert exercise.verdict("", lambda x: x.add_(1))
    assert exercise.verdict("", lambda x: x + 1)


@pytest.mark.parametrize("name", ["9.1", "3", "3.99", "", "x"])
def test_an_unknown_exercise_is_refused(name: str):
    with pytest.raises(FastFlowError, match="expected the name in its heading"):
        check(name, 1)


@pytest.mark.parametrize(
    ("yours", "right", "says"),
    [
        ("a", "b", "'a' is not it"),
        (True, False, "True is not it"),
        (1, True, "expected True or False"),
        ("1", 1.0, "expected a number, yours is text"),
        (True, 1.0, "yours is True or False"),
        (2.0, 1.0, "2 is too large"),
        (float("nan"), 1.0, "nan"),
        ([1.0, 2.0], [1.0, float("nan")], "a number where there is none"),
        (torch.zeros(3), torch.zeros(3, 1), "shape (3, 1), yours has (3,)"),
        (torch.zeros(2, 2), torch.eye(2), "largest difference is 1, at index (0, 0)"),
        ([1, 2, 3], [1, 2], "shape (2,), yours has (3,)"),
        ((torch.zeros(2), 1.0), (torch.zeros(2), 2.0), "value 2: 1 is too small"),
        ((1.0, "a"), (1.0, "b"), "value 2"),
        (1.0, (torch.zeros(2), "b"), "expected 2 values"),
        ({"a": 1}, {"a": 2}, "a: 1 is too small"),
        ({"b": 1}, {"a": 2}, "keys a"),
        ({"x"}, {"x", "y"}, "is not it"),
        (torch.tensor([1.0, torch.inf]), torch.tensor([1.0, 2.0]), "difference is inf"),
        (torch.tensor([1.0, 2.0]), torch.tensor([1.0, torch.inf]), "difference is inf"),
        (1.0, float("inf"), "1 is too small"),
        (float("inf"), -float("inf"), "inf is too large"),
    ],
)
def test_a_difference_is_named(yours, right, says):
    assert says in difference(yours, right)


@pytest.mark.parametrize(
    ("yours", "right"),
    [
        (1, 1.0),
        (torch.tensor(1.0), 1.0),
        (np.float32(0.1), 0.1),
        (np.array([1, 2]), torch.tensor([1.0, 2.0])),
        (pd.Series([1, 2]), [1, 2]),
        (torch.tensor(True), True),
        (torch.tensor([True, False]), torch.tensor([1, 0])),
        ([torch.tensor(1.0), 2], (1.0, 2.0)),
        (torch.tensor([torch.inf]), torch.tensor([torch.inf])),
        (1.00001, 1.0),
        ([1.0, float("nan")], [1.0, float("nan")]),
    ],
)
def test_what_means_the_same_is_the_same(yours, right):
    assert difference(yours, right) is None
