"""The package keeps the plan of its house: what imports what, and what the core does without."""

import ast
import subprocess
import sys
import tomllib
from collections import Counter
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "fastflow_utils"
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in PACKAGE.rglob("*.py")
}
# From the bottom to the top: a module imports from its own floor and from those below.
FLOORS = [
    {"spinning", "errors", "frontend", "compute", "provenance"},
    {"data"},
    {"detector"},
    {"experiments"},
    {"course"},
    {"cli"},
]
# Inside the detector, the chapters of the course: a module imports from those before it.
CHAPTERS = [
    {"choices"},
    {"efficientnet"},
    {"backbones"},
    {"windows"},
    {"features"},
    {"flows"},
    {"folding"},
    {"maps", "heat_maps"},
    {"detector"},
    {"model", "training"},  # FastFlow.fit is training.fit
    {"baselines"},
    {"metrics"},
    {"metric_classes", "bootstrap", "intervals"},
    {"evaluation"},
    {"regions"},
    {"prediction"},
]
# Of the house; beside these torch, and Python's own.
FLOWS_MAY_IMPORT = {"fastflow_utils.errors", "fastflow_utils.detector.choices"}


def imports(path: Path, module: str, everywhere: bool = True) -> set[str]:
    """Return the full names that a file imports, in functions too unless told otherwise.

    ``from a import b`` counts as ``a.b`` where that is a module, else as ``a``.
    """
    found: set[str] = set()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree) if everywhere else at_import(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module}: a relative import hides where a name comes from"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            found |= {name if name in MODULES else str(node.module) for name in names}
    return found


def at_import(tree: ast.AST) -> list[ast.AST]:
    """Return what is executed when the module is imported: no functions, nothing for types."""
    found: list[ast.AST] = []
    for node in ast.iter_child_nodes(tree):
        for_types = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        if not for_types and not isinstance(node, ast.FunctionDef):
            found += [node, *at_import(node)]
    return found


def place(module: str, plan: list[set[str]], level: int) -> int:
    """Return on which floor of the plan a module is, by the part of its name at that level."""
    part = module.split(".")[level]
    numbers = [number for number, names in enumerate(plan) if part in names]
    assert numbers, f"{module} has no place in the house yet: give it one in this file"
    return numbers[0]


def house_imports(module: str) -> set[str]:
    """Return the modules of the house that a module imports."""
    found = imports(MODULES[module], module)
    return {name for name in found if name.split(".")[0] == "fastflow_utils"}


@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_go_downwards(module: str):
    parts = module.split(".")
    if parts == ["fastflow_utils"]:
        return  # the door: it loads names lazily, see below
    upwards = {
        name
        for name in house_imports(module)
        if name == "fastflow_utils" or place(name, FLOORS, 1) > place(module, FLOORS, 1)
    }
    if parts[1] == "detector" and len(parts) > 2:
        upwards |= {
            name
            for name in house_imports(module)
            if name.startswith("fastflow_utils.detector.")
            and place(name, CHAPTERS, 2) > place(module, CHAPTERS, 2)
        }
    assert not upwards


def test_the_flows_import_torch_alone():
    flows = imports(MODULES["fastflow_utils.detector.flows"], "flows")
    outside = {name.split(".")[0] for name in flows} - {"torch", "fastflow_utils"}
    assert outside <= sys.stdlib_module_names
    assert house_imports("fastflow_utils.detector.flows") <= FLOWS_MAY_IMPORT


@pytest.mark.parametrize("line", ["import fastflow_utils", "from fastflow_utils import versions"])
def test_importing_the_package_loads_nothing_slow(line: str):
    slow = "{'torch', 'timm', 'pandas', 'numpy', 'matplotlib', 'scipy'}"
    code = f"import sys; {line}; print(sorted({slow} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_no_two_files_have_one_name():
    """Who is told "see features.py" must find one."""
    names = Counter(path.name for path in MODULES.values() if path.name != "__init__.py")
    assert [name for name, count in names.items() if count > 1] == []


installed = cache(packages_distributions)  # slow: it reads what every package installed


CORE = sorted(name for name in MODULES if not name.startswith("fastflow_utils.course"))


@pytest.mark.parametrize("module", CORE)
def test_the_core_needs_its_own_dependencies_alone(module: str):
    """Who trains and predicts needs no notebooks: those come with the extra `course`."""
    lines = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    declared = {canonicalize_name(Requirement(line).name) for line in lines}
    roots = {name.split(".")[0] for name in imports(MODULES[module], module, everywhere=False)}
    for name in roots - sys.stdlib_module_names - {"fastflow_utils"}:
        found = set(map(canonicalize_name, installed().get(name, [])))
        assert found & declared, f"{name} comes with no dependency of the core"
