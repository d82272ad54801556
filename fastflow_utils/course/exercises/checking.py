"""What an exercise is, and how an answer to it is judged."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from torch import Tensor

__all__ = ["Exercise", "Verdict", "difference"]


@dataclass(frozen=True, repr=False)
class Verdict:
    """What a learner is told; true if the answer is right."""

    name: str
    state: Literal["not attempted", "right", "not yet"]
    message: str

    def __bool__(self) -> bool:
        return self.state == "right"

    def __repr__(self) -> str:
        return f"Exercise {self.name}: {self.message}"


@dataclass(frozen=True)
class Exercise:
    """A question, known by a right answer and by plausible wrong ones.

    Attributes:
        reference: A right answer: a value, or a function.
        hint: What to think of, after any wrong answer that is not among ``mistakes``.
        mistakes: At least two plausible wrong answers, each under the hint that fits it.
        inputs: If the answer is a function: returns the arguments of each call to compare, the
            same ones every time and made afresh, so an answer may spoil them.
        observe: Turns an answer into what is compared, where calling a function or taking a value
            as it is will not do; it returns None for an answer that is only a stub.
        tolerance: The largest difference that is rounding, in units of ``1 + |right value|``.
        properties: For a piece of work, which has no single right answer: what must hold of an
            answer (or of what ``observe`` makes of it), as a sentence and its test, in the order
            in which they are tried. The reference is then one answer of many, and each mistake
            stands under the sentence that it breaks first.
    """

    reference: Any
    hint: str
    mistakes: Mapping[str, Any]
    inputs: Callable[[], list[tuple[Any, ...]]] | None = None
    observe: Callable[[Any], Any] | None = None
    tolerance: float = 1e-4
    properties: Mapping[str, Callable[[Any], bool]] | None = None

    def verdict(self, name: str, answer: object) -> Verdict:
        """Return what to tell a learner who gives this answer."""
        if _is_stub(answer):
            return Verdict(name, "not attempted", "not attempted yet.")
        torch_state = torch.get_rng_state()
        try:
            seen = self.seen(answer)
            broken = None if _is_stub(seen) else self.broken(seen)
        except Exception as error:  # the learner's code: anything may happen
            said = f"{type(error).__name__}: {error}".rstrip(": ")
            return Verdict(name, "not yet", f"not yet: your answer fails with {said}. {self.hint}")
        finally:
            torch.set_rng_state(torch_state)
        if _is_stub(seen):
            return Verdict(name, "not attempted", "not attempted yet.")
        if self.properties is not None:
            if broken is None:
                return Verdict(name, "right", "right.")
            return Verdict(name, "not yet", f"not yet. {self.hint} What does not hold: {broken}")
        problem = difference(seen, self.seen(self.reference), self.tolerance)
        if problem is None:
            return Verdict(name, "right", "right.")
        for hint, wrong in self.mistakes.items():
            if difference(seen, self.seen(wrong), self.tolerance) is None:
                return Verdict(name, "not yet", f"not yet: {problem}. {hint}")
        return Verdict(name, "not yet", f"not yet: {problem}. {self.hint}")

    def broken(self, seen: Any) -> str | None:
        """Return the first property that does not hold; None if all do, or none are asked."""
        tries = (self.properties or {}).items()
        return next((sentence for sentence, holds in tries if not holds(seen)), None)

    def seen(self, answer: Any) -> Any:
        """Return what of an answer is compared with what is seen of the reference."""
        if self.observe is not None:
            return self.observe(answer)
        if self.inputs is None:
            return answer
        if not callable(answer):
            raise TypeError(f"expected a function, got {_kind(answer)}")
        return Calls([(arguments, answer(*arguments)) for arguments in self.inputs()])


class Calls(list[tuple[tuple[Any, ...], Any]]):
    """What a function returned, with the arguments that it was given."""


def _is_stub(answer: object) -> bool:
    if isinstance(answer, Calls):
        return _is_stub(answer[0][1])
    if isinstance(answer, tuple | list):
        return any(map(_is_stub, answer))
    if isinstance(answer, dict):
        return any(map(_is_stub, answer.values()))
    return answer is None or answer is Ellipsis


def difference(yours: Any, right: Any, tolerance: float = 1e-4) -> str | None:
    """Say how a value differs from the right one, without telling what is right.

    Args:
        yours: Numbers, text, tensors, arrays, tables, and tuples, lists, sets and dicts of them.
        right: What it should be.
        tolerance: The largest difference that is rounding, in units of ``1 + |right value|``.

    Returns:
        What differs (kind, shape, largest difference and where); None if nothing does.

    Example:
        >>> difference(torch.tensor([1.0, 2.5]), torch.tensor([1.0, 2.0]))
        'the largest difference is 0.5, at index 1'
        >>> difference(torch.zeros(2, 3), torch.zeros(3))
        'expected the shape (3,), yours has (2, 3)'
        >>> difference(0.3, 0.7)
        '0.3 is too small'
        >>> difference(1, 1.0)
    """
    if isinstance(right, Calls):
        for (_, mine), (arguments, expected) in zip(yours, right, strict=True):
            if problem := difference(mine, expected, tolerance):
                return f"given ({', '.join(map(_describe, arguments))}), {problem}"
        return None
    if isinstance(right, Mapping):
        if not isinstance(yours, Mapping):
            return f"expected a dict, yours is {_kind(yours)}"
        if set(yours) != set(right):
            return f"expected the keys {', '.join(map(str, right))}"
        parts = {str(key): (yours[key], right[key]) for key in right}
        return _first_difference(parts, tolerance)
    if isinstance(right, tuple | list) and not _is_numeric(right):
        if not isinstance(yours, tuple | list):
            return f"expected {len(right)} values, yours is {_kind(yours)}"
        if len(yours) != len(right):
            return f"expected {len(right)} values, yours are {len(yours)}"
        pairs = zip(yours, right, strict=True)
        return _first_difference({f"value {i}": p for i, p in enumerate(pairs, 1)}, tolerance)
    if isinstance(right, str | bool | set | frozenset):
        if isinstance(yours, Tensor | np.generic) and yours.ndim == 0:
            yours = yours.item()
        if type(yours) is not type(right):
            return f"expected {_kind(right)}, yours is {_kind(yours)}"
        return None if yours == right else f"{yours!r} is not it"
    return _numeric_difference(yours, right, tolerance)


def _first_difference(parts: dict[str, tuple[Any, Any]], tolerance: float) -> str | None:
    for name, (yours, right) in parts.items():
        if problem := difference(yours, right, tolerance):
            return f"{name}: {problem}"
    return None


def _numeric_difference(yours: Any, right: Any, tolerance: float) -> str | None:
    if not _is_numeric(yours):
        return f"expected {_kind(right)}, yours is {_kind(yours)}"
    mine, expected = _array(yours), _array(right)
    if mine.shape != expected.shape:
        return f"expected the shape {expected.shape}, yours has {mine.shape}"
    if mine.size == 0:
        return None
    if (np.isnan(mine) & ~np.isnan(expected)).any():
        return "yours holds nan, which is no number"
    if (np.isnan(expected) & ~np.isnan(mine)).any():
        return "yours holds a number where there is none"
    with np.errstate(invalid="ignore"):
        distance = np.where(mine == expected, 0, np.abs(mine - expected))
    distance = np.nan_to_num(distance, nan=0, posinf=math.inf)  # nan by now: in both
    excess = distance / (1 + np.nan_to_num(np.abs(expected), posinf=0))
    if excess.max() <= tolerance:
        return None
    if mine.ndim == 0:
        return f"{float(mine):.4g} is too {'small' if mine < expected else 'large'}"
    where = tuple(int(i) for i in np.unravel_index(excess.argmax(), excess.shape))
    place = where[0] if len(where) == 1 else where
    return f"the largest difference is {float(distance[where]):.3g}, at index {place}"


def _array(value: Any) -> np.ndarray[Any, np.dtype[np.float64]]:
    if isinstance(value, Tensor):
        value = value.detach().cpu().double().numpy()
    elif isinstance(value, list | tuple):
        value = [_array(item) for item in value]
    return np.asarray(value, dtype=np.float64)


def _is_numeric(value: Any) -> bool:
    if isinstance(value, list | tuple):  # of numbers, which make an array
        return all(_is_numeric(item) and np.ndim(item) == 0 for item in value)
    if isinstance(value, bool):
        return False
    return isinstance(value, Tensor | np.ndarray | np.generic | pd.Series | int | float)


def _kind(value: Any) -> str:
    names = {bool: "True or False", str: "text", int: "a number", float: "a number"}
    if callable(value):
        return "a function"
    if isinstance(value, Tensor) and value.ndim:
        return f"a tensor of shape {tuple(value.shape)}"
    return names.get(type(value), f"of type {type(value).__name__}")


def _describe(argument: Any) -> str:
    if isinstance(argument, Tensor | np.ndarray) and argument.ndim:
        return f"{type(argument).__name__} {tuple(argument.shape)}"
    if isinstance(argument, Tensor):
        return f"{argument.item():.4g}"
    text = repr(argument)
    return text if len(text) <= 40 else f"{type(argument).__name__}"
