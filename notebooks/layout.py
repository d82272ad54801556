"""Where the pages of a site lie, and where their links lead."""

import os
import re
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from links import repository
from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell, new_notebook
from pages import render, title

__all__ = ["ROOT", "Layout"]

ROOT = Path(__file__).resolve().parents[1]
IMAGE = re.compile(r"(!\[[^\]]*\]\()(?![a-z]+:)([^)]*)")
MENU = {"Course": "index.html", "Search": "search.html"}


@dataclass(frozen=True)
class Layout:
    """A folder of pages that lead to each other."""

    folder: Path
    menu: dict[str, str] = field(default_factory=lambda: MENU)
    """The pages that every page leads to, by what they are called."""
    homes: dict[str, str] | None = None
    """The page of each file or folder of the repository that has one; what has none is linked to
    on the web. None: pages of the course stand alone, and link to the repository around them."""
    note: str = ""
    """Stands under every page, HTML."""

    def around(self, page: str) -> dict[str, Any]:
        """Return the variables of a page, named by its path in the folder, that lead to others."""
        up = "../" * page.count("/")
        site = [(name, up + target) for name, target in self.menu.items()]
        return {"site": site, "index": f"{up}index.html", "note": self.note}

    def write(self, page: str, source: NotebookNode | str, file: Path, **context: Any) -> None:
        """Write a page.

        Args:
            page: Its path in the folder.
            source: A notebook, or a Markdown text.
            file: Where that stands in the repository: relative links and pictures start there.
            context: Further variables of the template.
        """
        if isinstance(source, str):  # nbconvert embeds pictures of a folder and of those in it
            text = IMAGE.sub(lambda found: found[1] + _name(file.parent / found[2]), source)
            notebook, start = new_notebook(cells=[new_markdown_cell(text)]), ROOT
        else:
            notebook, start = source, file.parent
        place = self.homes is not None and partial(self.place, file=file, page=page)
        text = render(
            notebook,
            metadata={"name": title(notebook), "path": str(start)},
            place=place or None,
            **self.around(page) | context,
        )
        path = self.folder / page
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def place(self, url: str, file: Path, page: str) -> str:
        """Return where a link of a file leads from its page."""
        path, _, anchor = url.partition("#")
        if not path or re.match(r"[a-z]+:", url):
            return url
        name = _name(file.parent / unquote(path))
        home = (self.homes or {}).get(name)
        if home is None:
            return f"{repository()}/{'tree' if (ROOT / name).is_dir() else 'blob'}/main/{name}"
        there = Path(os.path.relpath(home, Path(page).parent)).as_posix()
        return f"{there}#{anchor}" if anchor else there


def _name(path: Path) -> str:
    """Return a path as seen from the repository's root."""
    return Path(os.path.normpath(path)).relative_to(ROOT).as_posix()
