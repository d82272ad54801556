"""Engines do every job, whatever dies."""

from functools import partial
from pathlib import Path

import pytest
from dying import die

from fastflow_utils.engines import Lost, local, on_ray
from fastflow_utils.errors import FastFlowError

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


def test_a_ray_worker_that_dies_costs_no_other_job(tmp_path):
    ray = pytest.importorskip("ray", reason="the extra 'ray' is not installed")
    here = {"env_vars": {"PYTHONPATH": str(Path(__file__).parent)}}  # where the task is
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, runtime_env=here)
    try:
        check_survivors(dict(on_ray()(partial(die, marks=tmp_path), JOBS)))
    finally:
        ray.shutdown()


def test_an_error_of_the_task_is_raised_here():
    for engine in (local(), local(2)):
        with pytest.raises(ValueError, match="invalid literal"):
            list(engine(int, ["1", "x"]))


def test_ray_where_there_is_none_is_told():
    pytest.importorskip("ray", reason="the extra 'ray' is not installed")
    with pytest.raises(FastFlowError, match="no Ray cluster"):
        on_ray("127.0.0.1:1")
