"""Threads spin briefly, however the package is started."""

import os
import subprocess
import sys

import pytest

from fastflow_utils.experiments.engines import local
from fastflow_utils.spinning import VARIABLES

OURS = {*VARIABLES, "OMP_WAIT_POLICY", "OMP_NUM_THREADS"}


def started(code: str, **variables: str) -> str:
    """Return what a new Python prints, with no variables for OpenMP but the given ones."""
    kept = {name: value for name, value in os.environ.items() if name not in OURS}
    command = [sys.executable, "-c", code]
    environment = kept | variables
    return subprocess.check_output(command, env=environment, text=True).strip()


@pytest.mark.parametrize("module", ["fastflow_utils", "fastflow_utils.cli"])
def test_the_variables_are_set_before_torch_is_loaded(module: str):
    names = list(VARIABLES)
    code = f"import os, sys, {module}; print('torch' in sys.modules, *map(os.getenv, {names}))"
    assert started(code) == " ".join(["False", *VARIABLES.values()])


def test_what_the_user_has_set_stays():
    code = "import os, fastflow_utils; print(os.getenv('GOMP_SPINCOUNT'))"
    assert started(code, GOMP_SPINCOUNT="7") == "7"
    assert started(code, OMP_WAIT_POLICY="active") == "None"


@pytest.mark.skipif(sys.platform != "linux", reason="GNU's OpenMP")
@pytest.mark.parametrize(("variables", "held"), [({}, True), ({"GOMP_SPINCOUNT": "7"}, False)])
def test_where_torch_came_first_a_second_team_is_held(variables: dict[str, str], held: bool):
    """More threads than processors: then GNU's OpenMP spins briefly by itself."""
    code = (
        "import os, threading, torch\n"
        "torch.set_num_threads(os.cpu_count() + 1)\n"  # else one processor has no teams
        "before = len(os.listdir('/proc/self/task'))\n"
        "import fastflow_utils\n"
        "more = len(os.listdir('/proc/self/task')) - before\n"
        "names = [thread.name for thread in threading.enumerate()]\n"
        "print(*names[1:], more > os.cpu_count())"
    )
    assert started(code, **variables) == ("spin briefly True" if held else "False")


@pytest.mark.parametrize("torch", ["None", "types.ModuleType('torch')"])
def test_a_torch_that_is_not_there_yet_is_not_asked_to_compute(torch: str):
    code = f"import sys, types; sys.modules['torch'] = {torch}; import fastflow_utils"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={name: value for name, value in os.environ.items() if name not in OURS},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_worker_processes_inherit_the_variables():
    assert dict(local(2)(os.getenv, list(VARIABLES))) == {
        name: os.environ[name] for name in VARIABLES
    }
