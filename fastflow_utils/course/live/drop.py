"""A place in JupyterLab where pictures are dropped, chosen or taken by the camera."""

from collections import Counter, deque
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import anywidget
import traitlets

from fastflow_utils.data.images import IMAGE_SUFFIXES, is_visible
from fastflow_utils.errors import FastFlowError

__all__ = ["MEGABYTES", "PICTURES", "Drop", "Offer", "choose"]

HERE = Path(__file__).parent
PICTURES = 64
"""How many are taken at a time: some ten seconds of a small network on two cores."""

MEGABYTES = 32
"""How large a file may be: what a camera of 50 megapixels writes."""


class Offer(NamedTuple):
    """A file that the browser holds."""

    number: int
    """In the browser's list."""
    name: str
    """With the folders that it lies in, from the one that was given; parted by ``/``."""
    size: int
    """In bytes."""


def choose(offers: Sequence[Offer]) -> tuple[list[Offer], list[str]]:
    """Return the files to take, in the order of their names, and sentences about the others.

    A file that was given by itself is taken whatever its name, one of a folder if its name is that
    of a picture and nothing beneath the folder is hidden, as
    :func:`~fastflow_utils.data.finding.find_images` does.

    Example:
        >>> names = ["mine/b.png", "mine/a.jpg", "mine/.c.png", "mine/notes.txt"]
        >>> taken, left_out = choose([Offer(i, name, 9) for i, name in enumerate(names)])
        >>> [offer.name for offer in taken], left_out
        (['mine/a.jpg', 'mine/b.png'], ['left out, no pictures by their names: 1 (1 .txt)'])
    """
    visible = [one for one in offers if all(map(_is_visible, PurePosixPath(one.name).parts[1:]))]
    others = [one for one in visible if "/" in one.name and _suffix(one) not in IMAGE_SUFFIXES]
    pictures = sorted(set(visible) - set(others), key=lambda one: one.name)
    large = [one for one in pictures if one.size > 1e6 * MEGABYTES]
    small = [one for one in pictures if one not in large]
    notes = []
    if others:
        counts = Counter(_suffix(one) or "no suffix" for one in others).most_common(5)
        suffixes = ", ".join(f"{count} {suffix}" for suffix, count in counts)
        notes.append(f"left out, no pictures by their names: {len(others)} ({suffixes})")
    notes += [
        f"left out: {one.name}, {one.size / 1e6:.0f} MB, at most {MEGABYTES} MB" for one in large
    ]
    if len(small) > PICTURES:
        notes.append(f"left out: {len(small) - PICTURES} pictures after the first {PICTURES}")
    return small[:PICTURES], notes


def _is_visible(part: str) -> bool:
    return is_visible(Path(part))


def _suffix(offer: Offer) -> str:
    return PurePosixPath(offer.name).suffix.lower()


class Drop(anywidget.AnyWidget):
    """Takes pictures from the browser into the kernel's memory, one after the other.

    The browser keeps the files. The kernel asks for one part after another, so only one file at a
    time is in its memory, and the next one waits until it is dealt with. What is dropped meanwhile
    takes the place of what still waits.

    Args:
        rules: What may be given, as a sentence.
        begin: Called before the first file; a ``FastFlowError`` is shown, and nothing is taken.
        take: Called with each file's name and bytes; it does not raise.
        refuse: Called with the name of a file that the browser cannot read, and why.
        end: Called at the end, with sentences about what was left out; returns what is to be said.

    Attributes:
        status: What is said about it, to readers and to screen readers.
        progress: The share of the files that are dealt with, 0 to 1.
    """

    _esm = (HERE / "drop.js").read_text(encoding="utf-8")
    _css = (HERE / "drop.css").read_text(encoding="utf-8")
    rules = traitlets.Unicode().tag(sync=True)
    accept = traitlets.Unicode(",".join(sorted(IMAGE_SUFFIXES))).tag(sync=True)
    status = traitlets.Unicode().tag(sync=True)
    progress = traitlets.Float(1.0).tag(sync=True)

    def __init__(
        self,
        rules: str,
        *,
        begin: Callable[[], None],
        take: Callable[[str, bytes], None],
        refuse: Callable[[str, str], None],
        end: Callable[[list[str]], str],
    ) -> None:
        super().__init__(rules=rules)
        self._begin, self._take, self._refuse, self._end = begin, take, refuse, end
        self._batch: str | None = None
        self._waiting: deque[Offer] = deque()
        self._count = 0
        self._left_out: list[str] = []
        self._content = bytearray()
        self.on_msg(self._answer)

    def _answer(self, _: Any, message: dict[str, Any], buffers: list[bytes]) -> None:
        """Take what the browser sends: a list of files, a part of one, or why there is none."""
        if "offer" in message:
            offers = [
                Offer(number, one["name"], one["size"])
                for number, one in enumerate(message["offer"])
            ]
            self._start(message["batch"], offers, message.get("full", False))
        elif message["batch"] == self._batch and self._waiting:
            offer = self._waiting[0]
            if "error" in message:
                self._refuse(offer.name, f"the browser cannot read it: {message['error']}")
                self._follow()
                return
            self._content += buffers[0]
            if buffers[0] and len(self._content) < offer.size:
                self._ask()
            else:
                self._take(offer.name, bytes(self._content))
                self._follow()

    def _start(self, batch: str, offers: list[Offer], is_full: bool) -> None:
        self._batch, self._content = batch, bytearray()
        self._waiting.clear()
        try:
            self._begin()
        except FastFlowError as error:
            self._say(str(error))
            return
        chosen, self._left_out = choose(offers)
        if is_full:
            self._left_out.append(f"looked at the first {len(offers)} files only")
        self._waiting.extend(chosen)
        self._count = len(chosen)
        self._ask()

    def _follow(self) -> None:
        """Leave the file that was dealt with, and ask for the next."""
        self._waiting.popleft()
        self._content = bytearray()
        self._ask()

    def _ask(self) -> None:
        if not self._waiting:
            self._say(self._end(self._left_out))
            return
        offer, done = self._waiting[0], self._count - len(self._waiting)
        self.progress = done / self._count
        self.status = f"judging {done + 1} of {self._count}: {offer.name}"
        self.send({"batch": self._batch, "ask": offer.number, "start": len(self._content)})

    def _say(self, text: str) -> None:
        self.status = ""  # said again, if it is the same
        self.status, self.progress = text, 1.0
