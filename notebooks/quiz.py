"""The quizzes and exercises of the notebooks, read from their text."""

import re
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from links import sources
from nbformat import NotebookNode

__all__ = [
    "Choice",
    "Question",
    "headings",
    "problems",
    "questions",
    "section",
    "unanswered",
    "without_code",
]

CHOICE = re.compile(
    r"<details><summary>([a-d])\) (.*?)</summary>\n\n(Right|Wrong)\. (.*?)\n\n</details>",
    re.DOTALL,
)
QUESTION = re.compile(r"^\*\*(\d+)\. ", re.MULTILINE)


@dataclass(frozen=True)
class Choice:
    """One answer to a question."""

    letter: str
    text: str
    right: bool
    reason: str


@dataclass(frozen=True)
class Question:
    """A question of a quiz; ``markdown`` is all of it, as it stands in the notebook."""

    number: int
    choices: list[Choice]
    markdown: str


def without_code(text: str) -> str:
    """Return Markdown without its blocks of code, in which `#` starts no heading."""
    return re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)


def headings(notebook: NotebookNode, level: Literal[1, 2, 3] | None = None) -> list[str]:
    """Return the headings of a notebook in order, with their marks, as in `## Quiz`."""
    mark = "#+" if level is None else "#" * level
    return re.findall(rf"^{mark} .*$", without_code(sources(notebook)), re.MULTILINE)


def section(notebook: NotebookNode, title: str) -> str:
    """Return the text of the sections whose heading, with its mark, starts with ``title``.

    A section ends at the next heading of its level or above; it is empty if there is none.
    """
    level = len(title) - len(title.lstrip("#"))
    pattern = rf"^{re.escape(title)}.*?(?=^#{{1,{level}}} |\Z)"
    found = re.findall(pattern, without_code(sources(notebook)), re.DOTALL | re.MULTILINE)
    return "".join(found)


def questions(text: str) -> list[Question]:
    """Return the questions of a quiz.

    Args:
        text: A section `## Quiz`: each question is bold and numbered, `**1. Why?**`, each choice
            is a `<details>` whose text starts with "Right." or "Wrong." and gives the reason.
    """
    starts = [*(match.start() for match in QUESTION.finditer(text)), len(text)]
    found = []
    for start, end in pairwise(starts):
        block = text[start:end].strip()
        choices = [
            Choice(letter, words, verdict == "Right", " ".join(reason.split()))
            for letter, words, verdict, reason in CHOICE.findall(block)
        ]
        number = QUESTION.match(block)
        assert number is not None
        found.append(Question(int(number[1]), choices, block))
    return found


def problems(text: str) -> list[str]:
    """Return what is wrong with a quiz, question by question; see :func:`questions`."""
    quiz = questions(text)
    found = []
    if not 5 <= len(quiz) <= 8:
        found.append(f"{len(quiz)} questions; 5 to 8 expected")
    if [question.number for question in quiz] != list(range(1, len(quiz) + 1)):
        found.append("the questions are not numbered 1, 2, ...")
    if len({_right(question) for question in quiz}) < 2:
        found.append("the right choice has the same letter everywhere")
    for question in quiz:
        count, letters = len(question.choices), "".join(c.letter for c in question.choices)
        right = sum(choice.right for choice in question.choices)
        wrong = [
            (not 3 <= count <= 4, f"{count} choices that can be read; 3 or 4 expected"),
            (question.markdown.count("<summary>") != count, "a choice that cannot be read"),
            (letters != "abcd"[:count], f"choices {letters}"),
            (right != 1, f"{right} right choices"),
            ("$" in "".join(c.text for c in question.choices), "a formula in a choice"),
        ]
        found += [f"question {question.number}: {what}" for is_so, what in wrong if is_so]
        found += [
            f"question {question.number}, {choice.letter}): a reason of {len(choice.reason)} signs"
            for choice in question.choices
            if len(choice.reason) < 40
        ]
    return found


def unanswered(notebook: NotebookNode) -> list[str]:
    """Return the cells that ask **Questions** without an answer to unfold, by their first line."""
    cells = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    asking = [source for source in cells if "**Question" in source]
    return [
        source[source.index("**Question") :].partition("\n")[0]
        for source in asking
        if "<details><summary>Answer" not in source.partition("**Question")[2]
    ]


def _right(question: Question) -> str:
    return "".join(choice.letter for choice in question.choices if choice.right)
