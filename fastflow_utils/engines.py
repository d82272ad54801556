"""Engines: where jobs are done. In this process, in several, or on many machines.

An engine calls a function for each job, in any order, and yields each job with what the function
returned, or with what became of it where its process died. Nothing here knows what a job is.
"""

import multiprocessing
import os
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, Protocol, TypeVar

from fastflow_utils.errors import FastFlowError

__all__ = ["Engine", "Lost", "local", "on_ray"]

J = TypeVar("J")
R = TypeVar("R")

RETRIES = 2  # for a job whose process dies: out of memory, or a machine that was switched off


@dataclass(frozen=True)
class Lost:
    """What becomes of a job whose process died, each time that it was tried."""

    reason: str


class Engine(Protocol):
    """What :func:`local` and :func:`on_ray` return."""

    def __call__(self, task: Callable[[J], R], todo: Sequence[J]) -> Iterator[tuple[J, R | Lost]]:
        """Yield each job with what ``task`` returns for it, as they come."""


def local(jobs: int = 1) -> Engine:
    """Return an engine for this machine: one after the other, or ``jobs`` processes at a time.

    A process that dies takes its job along, which is tried twice more, and no other.

    Example:
        >>> list(local()(len, ["ab", "c"]))
        [('ab', 2), ('c', 1)]
    """

    def one_by_one(task: Callable[[J], R], todo: Sequence[J]) -> Iterator[tuple[J, R | Lost]]:
        yield from ((job, task(job)) for job in todo)

    def side_by_side(task: Callable[[J], R], todo: Sequence[J]) -> Iterator[tuple[J, R | Lost]]:
        idle: SimpleQueue[ProcessPoolExecutor] = SimpleQueue()
        for _ in range(jobs):
            idle.put(_process())

        def attempt(job: J) -> R | Lost:
            process = idle.get()
            try:
                for _ in range(1 + RETRIES):
                    try:
                        return process.submit(task, job).result()
                    except BrokenProcessPool:
                        process = _process()
                return Lost(f"its process died {1 + RETRIES} times: out of memory?")
            finally:
                idle.put(process)

        callers = ThreadPoolExecutor(jobs)
        try:
            futures = {callers.submit(attempt, job): job for job in todo}
            yield from ((futures[future], future.result()) for future in as_completed(futures))
        finally:
            callers.shutdown(cancel_futures=True)
            for _ in range(jobs):
                idle.get().shutdown()

    return one_by_one if jobs == 1 else side_by_side


def _process() -> ProcessPoolExecutor:
    context = multiprocessing.get_context("spawn")  # forked, torch's threads would hang
    return ProcessPoolExecutor(1, context, initializer=_die_with_parent)


def _die_with_parent() -> None:
    """End with the parent, however it ends: an orphan would go on with what nobody asks for."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def on_ray(address: str | None = None, *, jobs: int = 1, cpus: int = 1, gpus: float = 0) -> Engine:
    """Return an engine that lets Ray place each job where there is room for it.

    All machines need this package and the same paths. A job whose worker dies is tried twice more.

    Args:
        address: Of a running cluster; "auto" for the one this machine is part of. Default: a
            cluster of this machine alone, with room for ``jobs``.
        jobs: At a time, on a cluster of this machine alone.
        cpus: Processors of each job.
        gpus: GPUs of each job; 0.5 lets two share one.

    Raises:
        FastFlowError: If Ray is not installed, or there is no cluster at the address.
    """
    try:
        import ray
    except ImportError as error:
        raise FastFlowError(
            "engine 'ray': Ray is not installed here: pip install 'fastflow-utils[ray]'"
        ) from error
    if not ray.is_initialized():
        alone: dict[str, Any] = {"num_cpus": jobs * cpus, "include_dashboard": False}
        try:
            if address and ":" in address:  # Ray itself would try for minutes
                host, _, port = address.rpartition(":")
                socket.create_connection((host, int(port)), timeout=5).close()
            ray.init(address=address, log_to_driver=False, **({} if address else alone))
        except (OSError, ValueError) as error:
            raise FastFlowError(
                f"no Ray cluster at '{address}' ({error}): start one with `ray start --head`"
            ) from error

    def engine(task: Callable[[J], R], todo: Sequence[J]) -> Iterator[tuple[J, R | Lost]]:
        needs: dict[str, Any] = {"num_cpus": cpus, "num_gpus": gpus, "max_retries": RETRIES}
        remote: Any = ray.remote(**needs)(_call)
        pending = {remote.remote(task, job): job for job in todo}
        while pending:
            (done,), _ = ray.wait(list(pending))
            try:
                result: R | Lost = ray.get(done)
            except ray.exceptions.WorkerCrashedError:
                result = Lost(f"its worker died {1 + RETRIES} times")
            yield pending.pop(done), result

    return engine


def _call(task: Callable[[J], R], job: J) -> R:
    """Call a task: Ray takes plain functions only."""
    return task(job)
