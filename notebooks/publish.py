"""Write everything as one folder of pages, which needs neither a server nor a network.

    python notebooks/publish.py        build/site: course, reference, benchmarks, search

The notebooks are shown as they were committed, so nothing is trained here. Publish the folder as
it is, or open its index.html.
"""

import argparse
import json
import os
import re
import shutil
from dataclasses import replace
from functools import cache
from pathlib import Path

import search
from layout import ROOT, Layout
from links import repository
from pages import text_page, with_contents
from reference import STYLE, Described, described
from run import NOTEBOOKS, committed, write_pages

__all__ = ["BENCHMARKS", "SITE", "publish"]

SITE = Path("build", "site")
BENCHMARKS = ROOT / "tests" / "benchmarks"
MEASURED = sorted(BENCHMARKS.glob("*.json"))
MENU = {
    "Course": "index.html",
    "About": "about.html",
    "Reference": "reference/index.html",
    "Benchmarks": "benchmarks.html",
    "Search": "search.html",
}
PAGES = {
    "README.md": "about.html",
    "data/README.md": "data.html",
    "tests/benchmarks/README.md": "benchmarks.html",
}
NOTE = (
    "Outputs of notebooks are those of the committed ones: executed on the sample set, in one "
    "thread, in float32. The seconds of the course's page are those of two idle cores. "
    f'<a href="{repository()}">The repository</a> has code, data and licence.'
)
WINGS = {
    "": "The package itself, its command line, and what all parts share",
    "data": "Images and masks, from any folder; the sample set",
    "detector": "Anomaly maps, scores, metrics, and how sure they are",
    "experiments": "Results on disk, and their tables",
    "course": "What the notebooks show",
}


def publish(folder: Path) -> int:
    """Write the site anew; return the bytes of the search's index."""
    shutil.rmtree(folder, ignore_errors=True)
    modules = described()
    layout = Layout(folder, MENU, _homes(modules), NOTE)
    seconds = json.loads((BENCHMARKS / "course.json").read_text(encoding="utf-8"))["notebooks"]
    runs = [
        replace(committed(path), seconds=seconds[path.stem]["seconds"])
        for path in sorted(NOTEBOOKS.glob("[0-9]*.ipynb"))
    ]
    write_pages(runs, folder, sorted((NOTEBOOKS / "solutions").glob("[0-9]*.ipynb")), layout)
    for name, page in PAGES.items():
        text = (ROOT / name).read_text(encoding="utf-8")
        if page == "benchmarks.html":
            text = _with_measurements(text, folder)
        layout.write(page, text, ROOT / name)
    _write_reference(layout, modules)
    return search.write(layout)


def _homes(modules: dict[str, Described]) -> dict[str, str]:
    """Return the page of each file and folder of the repository that has one."""
    homes = dict(PAGES)
    homes |= {f"tests/benchmarks/{path.name}": f"benchmarks/{path.name}" for path in MEASURED}
    for path in [*NOTEBOOKS.rglob("[0-9]*.ipynb"), *NOTEBOOKS.glob("*.md")]:
        name = path.relative_to(NOTEBOOKS)
        homes[f"notebooks/{name.as_posix()}"] = name.with_suffix(".html").as_posix()
    for module in modules:
        page, place = f"reference/{_page(module)}", module.replace(".", "/")
        homes |= {place: page, f"{place}.py": page, f"{place}/__init__.py": page}
    return homes


def _with_measurements(text: str, folder: Path) -> str:
    """Add where its tables come from to the page of the benchmarks, and copy those files."""
    (folder / "benchmarks").mkdir()
    links = []
    for path in MEASURED:
        shutil.copy(path, folder / "benchmarks")
        links.append(f"[{path.name}]({path.name})")
    title, _, rest = text.partition("\n")
    about = "Metrics: [Results](../../README.md#results). Seconds: [Speed](../../README.md#speed)."
    return f"{title}\n\n{about} All measurements as files: {', '.join(links)}.\n{rest}"


# The reference


def _page(module: str) -> str:
    return module.replace(".", "/") + ".html"


def _write_reference(layout: Layout, modules: dict[str, Described]) -> None:
    index = ["# Reference", "Every module of `fastflow_utils`, from its docstrings."]
    for wing, about in WINGS.items():
        index.append(f"## {wing or 'fastflow_utils'}\n\n{about}.")
        listed = [
            f"- [{name}]({name}): {modules[name].summary}"
            for name in modules
            if _wing(name) == wing
        ]
        index.append("\n".join(listed))
    text = re.sub(r"\]\(([\w.]+)\)", lambda found: f"]({_link(found[1])})", "\n\n".join(index))
    layout.write("reference/index.html", text, ROOT / "fastflow_utils" / "__init__.py")

    @cache
    def shell(depth: int) -> str:
        around = layout.around("reference/" + "/".join(["x"] * depth))
        return text_page("# @title@\n\n@text@", live_style=STYLE, **around)

    for name, module in modules.items():
        page = shell(name.count(".") + 1)
        page = page.replace(">@title@<", f">{name.replace('.', '.<wbr>')}<")
        page = page.replace("@title@", name)
        page = page.replace("<p>@text@</p>", module.html)
        page = with_contents(page, module.headings)
        path = layout.folder / "reference" / _page(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(page, encoding="utf-8")


def _wing(module: str) -> str:
    part = f"{module}.".split(".")[1]
    return part if part in WINGS else ""


def _link(module: str) -> str:
    """Return the path of a module's file from the package's folder."""
    return module.replace(".", "/").removeprefix("fastflow_utils").lstrip("/") or "__init__.py"


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=SITE, help="where the pages go")
    options = parser.parse_args()
    os.environ.pop("FASTFLOW_DATA", None)  # committed notebooks show the sample set
    index = publish(options.output)
    files = [path for path in options.output.rglob("*") if path.is_file()]
    total, largest = sum(map(_size, files)), max(files, key=_size)
    print(
        f"{options.output / 'index.html'}: {len(files)} files, {total / 1e6:.1f} MB; the largest, "
        f"{largest.name}, {_size(largest) / 1e6:.1f} MB; the search's index {index / 1e6:.1f} MB"
    )


def _size(path: Path) -> int:
    return path.stat().st_size


if __name__ == "__main__":
    main()
