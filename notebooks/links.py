"""Where a notebook's links lead: to the repository, to other pages, and whether they exist."""

import json
import re
import tomllib
from collections import Counter
from pathlib import Path
from urllib.parse import unquote

from nbformat import NotebookNode

__all__ = [
    "absolute",
    "broken",
    "links_line",
    "numbered",
    "repository",
    "slug",
    "slugs",
    "sources",
    "with_links",
]

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
        f"{MARK}notation.md) · [Glossary](glossary.md) · [Open in Colab]({colab}) "
        "(there, first run "
        f'`%pip install "fastflow-utils[course] @ git+{address}"`) · '
        f"[Open in Binder]({binder})"
    )


def with_links(source: str, name: str) -> str:
    """Return the source of a notebook's first cell with its line of links brought up to date."""
    lines = [line for line in source.rstrip().splitlines() if not line.startswith(MARK)]
    return "\n".join(lines).rstrip() + f"\n\n{links_line(name)}"


def absolute(text: str) -> str:
    """Return the Markdown text of a notebook with links that lead to the repository's files.

    >>> absolute("[a](#b) [c](https://d.e)")
    '[a](#b) [c](https://d.e)'
    """

    def moved(link: re.Match[str]) -> str:
        target = link[1] or link[2]
        if re.match(r"[a-z]+:|#", target):
            return link[0]
        return link[0].replace(f"({target})", f"({repository()}/blob/main/notebooks/{target})")

    return LINK.sub(moved, text)


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
        file = folder / path
        here = text if not path else _markdown(file)
        if not file.exists() or (anchor and here and anchor not in slugs(here)):
            found.append(target)
    return found


def slug(heading: str) -> str:
    """Return the anchor that GitHub gives a heading.

    >>> slug("Precision and recall, at 5 %")
    'precision-and-recall-at-5-'
    """
    return re.sub(r"[^\w\- ]", "", heading.lower().strip()).replace(" ", "-")


def slugs(text: str) -> list[str]:
    """Return the anchors of a Markdown text's headings; of two that are equal, the second is -1.

    >>> slugs("# A\\n## B\\n## B")
    ['a', 'b', 'b-1']
    """
    counts: Counter[str] = Counter()
    prose = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    return [numbered(slug(name), counts) for name in re.findall(r"^#+ (.*)$", prose, re.MULTILINE)]


def numbered(anchor: str, counts: Counter[str]) -> str:
    """Return an anchor that is new: the second gets -1, the third -2, ...; ``counts`` counts."""
    counts[anchor] += 1
    return f"{anchor}-{counts[anchor] - 1}" if counts[anchor] > 1 else anchor


def _markdown(file: Path) -> str:
    """The text of a Markdown file or of a notebook's Markdown cells; empty for other files."""
    if not file.exists() or file.suffix not in (".md", ".ipynb"):
        return ""
    text = file.read_text(encoding="utf-8")
    if file.suffix == ".md":
        return text
    cells = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "markdown"]
    return "\n\n".join("".join(cell["source"]) for cell in cells)


def sources(notebook: NotebookNode) -> str:
    """Return the text of all Markdown cells."""
    return "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
