"""Engines: where jobs are done. In this process, in several, or on many machines.

An engine calls a function for each job, in any order, and yields each job with what the function
returned, or with what became of it where its process died. Nothing here knows what a job is.
"""

import multiprocessing
import os
import signal
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

    def in_processes(task: Callable[[J], R], todo: Sequence[J]) -> Iterator[tuple[J, R | Lost]]:
        others = set(multiprocessing.active_children())
        idle: SimpleQueue[ProcessPoolExecutor] = SimpleQueue()
        for _ in range(jobs):
            idle.put(_process())
        starting, stopped = threading.Lock(), False

        def attempt(job: J) -> R | Lost:
            process = idle.get()
            try:
                for _ in range(1 + RETRIES):
                    try:
                        with starting:
                            if stopped:
                                return Lost("stopped")
                            future = process.submit(task, job)
                        return future.result()
                    except BrokenProcessPool:
                        process = _process()
                return Lost(f"its process died {1 + RETRIES} times: out of memory?")
            finally:
                idle.put(process)

        callers = ThreadPoolExecutor(jobs)
        try:
            futures = {callers.submit(attempt, job): job for job in todo}
            yield from ((futures[future], future.result()) for future in as_completed(futures))
        except BaseException:  # Ctrl-C above all: what is running need not be waited for
            with starting:
                stopped = True
                for child in set(multiprocessing.active_children()) - others:
                    child.terminate()
            raise
        finally:
            callers.shutdown(cancel_futures=True)
            for _ in range(jobs):
                idle.get().shutdown()

    return one_by_one if jobs == 1 else in_processes


def _process() -> ProcessPoolExecutor:
    context = multiprocessing.get_context("spawn")  # forked, torch's threads would hang
    return ProcessPoolExecutor(1, context, initializer=_depend_on_parent)


def _depend_on_parent() -> None:
    """End with the parent, however it ends: an orphan would go on with what nobody asks for.

    Ctrl-C in a terminal goes to all processes, and is for the parent to deal with.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def on_ray(address: str | None = None, *, jobs: int = 1, cpus: int = 1, gpus: float = 0) -> Engine:
    """Return an engine that lets Ray place each job where there is room for it.

    All machines need this package and the same paths. A job whose worker dies is tried twice more.
    Ray hides GPUs from a job that asks for none.

    Args:
        address: Of a running cluster, HOST:PORT; "auto" for the one this machine is part of.
            Default: a new cluster of this machine alone, with room for ``jobs``.
        jobs: At a time, on a cluster of this machine alone.
        cpus: Processors of each job.
        gpus: GPUs of each job; 0.5 lets two share one.

    Raises:
        FastFlowError: If Ray is not installed, there is no cluster at the address, or no machine
            of it has that many processors and GPUs.
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
            if address and ":" in address and "://" not in address:
                host, _, port = address.rpartition(":")  # Ray itself would try for minutes
                socket.create_connection((host, int(port)), timeout=5).close()
            ray.init(address or "local", log_to_driver=False, **({} if address else alone))
        except (OSError, ValueError) as error:
            raise FastFlowError(
                f"no Ray cluster at '{address}' ({error}): start one with `ray start --head`"
            ) from error

    room = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if not any(r.get("CPU", 0) >= cpus and r.get("GPU", 0) >= gpus for r in room):
        machines = "; ".join(f"{r.get('CPU', 0):g} and {r.get('GPU', 0):g}" for r in room)
        raise FastFlowError(
            f"a run is to have {cpus} processors and {gpus:g} GPUs, but the cluster's machines "
            f"have {machines}: it would wait for ever; ask for less"
        )

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
            except ray.exceptions.RayError as error:  # a machine lost, or without the package
                result = Lost(f"lost by Ray: {str(error).strip().splitlines()[-1]}")
            yield pending.pop(done), result

    return engine


def _call(task: Callable[[J], R], job: J) -> R:
    """Call a task: Ray takes plain functions only."""
    return task(job)
