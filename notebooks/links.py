"""Where a notebook's links lead: to the repository, to other pages, and whether they exist."""

import re
import tomllib
from pathlib import Path
from urllib.parse import unquote

from nbformat import NotebookNode

__all__ = ["broken", "links_line", "repository", "sources", "with_links"]

ROOT = Path(__file__).resolve().parents[1]
MARK = "[Notation]("
LINK = re.compile(r"(?<!\!)\[[^\]]*\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)")


def repository() -> str:
    """Return the repository's web address: the only place that holds it is pyproject.toml."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return str(project["urls"]["Repository"]).rstrip("/")


def links_line(name: str) -> str:
    """Return the line of links under a notebook's introduction."""
    address = repository()
    where = address.removeprefix("https://github.com/")
    colab = f"https://colab.research.google.com/github/{where}/blob/main/notebooks/{name}"
    binder = f"https://mybinder.org/v2/gh/{where}/main?urlpath=lab/tree/notebooks/{name}"
    return (
        f"{MARK}notation.md) · [Open in Colab]({colab}) (there, first run "
        f'`%pip install "fastflow-utils[course] @ git+{address}"`) · '
        f"[Open in Binder]({binder})"
    )


def with_links(source: str, name: str) -> str:
    """Return the source of a notebook's first cell with its line of links brought up to date."""
    lines = [line for line in source.rstrip().splitlines() if not line.startswith(MARK)]
    return "\n".join(lines).rstrip() + f"\n\n{links_line(name)}"


def broken(text: str, folder: Path) -> list[str]:
    """Return the links of a Markdown text whose local target does not exist.

    Args:
        text: Markdown.
        folder: Where relative links start.
    """
    prose = re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.DOTALL)
    targets = [unquote(first or second) for first, second in LINK.findall(prose)]
    found = []
    for target in targets:
        path, _, anchor = target.partition("#")
        if re.match(r"[a-z]+:", target):
            continue
        file = folder / path if path else None
        if file and not file.exists():
            found.append(target)
        elif anchor and file and file.suffix == ".md":
            headings = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            if anchor not in map(_slug, headings):
                found.append(target)
    return found


def _slug(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def sources(notebook: NotebookNode) -> str:
    """Return the text of all Markdown cells."""
    return "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
