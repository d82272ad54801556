"""Engines do every job, whatever dies."""

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import ray
from dying import die

from fastflow_utils.errors import FastFlowError
from fastflow_utils.experiments.engines import Lost, local, on_ray
from fastflow_utils.spinning import VARIABLES

JOBS = ["once", "once more", "always", "and once again"]


def check_survivors(done: dict[str, int | Lost]) -> None:
    assert sorted(done) == sorted(JOBS)
    for job, result in done.items():
        if job == "always":
            assert isinstance(result, Lost) and "died 3 times" in result.reason
        else:
            assert result == len(job)


def test_one_after_the_other_in_order():
    assert list(local()(len, ["abc", "", "a"])) == [("abc", 3), ("", 0), ("a", 1)]


def test_a_process_that_dies_costs_no_other_job(tmp_path):
    check_survivors(dict(local(2)(partial(die, marks=tmp_path), JOBS)))


def test_a_ray_worker_that_dies_costs_no_other_job(tmp_path, monkeypatch):
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)  # as a worker on another machine
    here = {"env_vars": {"PYTHONPATH": os.pathsep.join(sys.path)}}  # where the task is
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, runtime_env=here)
    try:
        check_survivors(dict(on_ray()(partial(die, marks=tmp_path), JOBS)))
        assert all(value for _, value in on_ray()(os.getenv, list(VARIABLES)))
        with pytest.raises(FastFlowError, match=r"3 processors and 0 GPUs.*have 2 and 0"):
            on_ray(cpus=3)
    finally:
        ray.shutdown()


def test_an_error_of_the_task_is_raised_here():
    for engine in (local(), local(2)):
        with pytest.raises(ValueError, match="invalid literal"):
            list(engine(int, ["1", "x"]))


def test_ray_where_there_is_none_is_told():
    with pytest.raises(FastFlowError, match="no Ray cluster"):
        on_ray("127.0.0.1:1")


@pytest.mark.parametrize("running", [False, True], ids=["while they start", "while they run"])
def test_ctrl_c_does_not_wait_for_the_workers(running, tmp_path):
    """As a terminal does it: to the parent and its workers at once."""
    script = tmp_path / "script.py"
    script.write_text(
        "import signal, sys\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # ignored in background jobs
        "from dying import linger\n"
        "from fastflow_utils.experiments.engines import local\n"
        "if __name__ == '__main__':\n"
        "    print('here', flush=True)\n"
        "    list(local(2)(linger, sys.argv[1:]))\n"
    )
    marks = [tmp_path / "a", tmp_path / "b"]
    process = subprocess.Popen(
        [sys.executable, script, *marks, tmp_path / "c"],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    process.stdout.readline()
    while running and process.poll() is None and not all(mark.exists() for mark in marks):
        time.sleep(0.05)
    assert process.poll() is None, process.stderr.read()
    time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)
    process.communicate()
    assert process.returncode != 0
    assert not any(Path(f"{mark}-stayed").exists() for mark in marks)
    assert not (tmp_path / "c").exists()
