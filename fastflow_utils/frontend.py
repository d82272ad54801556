"""What is on the other side: a person at a live frontend, or a run that nobody watches."""

import os
import sys
import threading
from collections.abc import Iterable
from typing import TypeVar

from tqdm import tqdm

__all__ = ["is_live", "track"]

T = TypeVar("T")


def is_live() -> bool:
    """True where a person can answer: a notebook in JupyterLab, VS Code or the like.

    nbclient (so nbconvert and papermill too) runs cells with ``allow_stdin=False``, because nobody
    is there to type; live frontends allow it. ``FASTFLOW_STATIC=1`` says no in any case.

    >>> is_live()  # a doctest is no notebook
    False
    """
    if os.environ.get("FASTFLOW_STATIC") or "IPython" not in sys.modules:
        return False
    shell = sys.modules["IPython"].get_ipython()
    return bool(getattr(getattr(shell, "kernel", None), "_allow_stdin", False))


def track(items: Iterable[T], label: str, total: int | None = None) -> "tqdm[T]":
    """Iterate with a progress bar on stderr, drawn only where somebody watches it.

    Of what several threads do at the same time there is none: the bars would overwrite each other.
    """
    alone = threading.current_thread() is threading.main_thread()
    watched = alone and (is_live() or sys.stderr.isatty())
    return tqdm(items, desc=label, total=total, leave=False, disable=not watched)
