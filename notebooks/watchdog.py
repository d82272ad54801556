"""When is a notebook to be ended? When it hangs, and not because its machine is slow or busy.

A limit in seconds says little: beside two busy programs a cell takes three times as long, on an
old laptop ten times. So two other things are counted from each sign of progress to the next, and
a sign is anything that the kernel says: a cell begins or ends, or has an output.

- **work**: the processor seconds that its processes have used. Beside busy programs they get
  fewer of them a minute, so this limit stretches by itself; a slower processor is allowed more,
  in proportion to what :func:`yardstick` measures. On many cores, threads use most of them up in
  waiting for each other, so no more than those of two cores count. This ends the loop without
  an end.
- **rest**: how many times, looking once a second, they were found to use next to no processor
  time. Who waits for a processor still gets a share of one. This ends the wait for what never
  comes.

So a silent training may be long. A loop without an end that prints is not recognised.
"""

import time
from contextlib import suppress

import psutil  # ipykernel brings it

__all__ = ["REST", "WORK", "Watchdog", "end_children", "processor_seconds", "yardstick"]

WORK = 40_000  # yardsticks: some 50 minutes of one core, where the longest cell takes 3
CORES = 2  # whose processor seconds count in a look
REST = 600  # looks, so ten minutes at least
IDLE = 0.05  # of a core: a kernel and its client that do nothing use less than 0.02


def yardstick() -> float:
    """Return the processor seconds that this machine needs to add up a million squares."""

    def once() -> float:
        start = time.process_time()
        sum(number * number for number in range(1_000_000))
        return time.process_time() - start

    return min(once() for _ in range(3))


def processor_seconds(pid: int) -> float:
    """Return what a process and all that it started have used, those that ended included."""
    total = 0.0
    with suppress(psutil.NoSuchProcess):
        root = psutil.Process(pid)
        for process in [root, *root.children(recursive=True)]:
            with suppress(psutil.Error):  # it has just ended
                total += sum(process.cpu_times()[:4])  # user, system, and both of its children
    return total


def end_children(pid: int) -> None:
    """End all that a process started, and not the process itself."""
    with suppress(psutil.NoSuchProcess):
        for started in psutil.Process(pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                started.kill()


class Watchdog:
    """Says when a process makes no progress any more; it is to look once a second.

    Args:
        work: Processor seconds that may be used between two signs of progress.
        rest: Looks in a row that may find no use of the processor and no sign.

    Example:
        >>> watchdog = Watchdog(work=3, rest=2)
        >>> watchdog.look(worked=10, signs=1)  # a cell began
        >>> watchdog.look(worked=42, signs=1)  # 32 cores: two of these seconds count
        >>> watchdog.look(worked=44, signs=2)  # it said something: work is counted from here
        >>> watchdog.look(worked=46, signs=2)
        >>> watchdog.look(worked=48, signs=2)
        'it computed for 4 s of processor time and said nothing'
    """

    def __init__(self, work: float, rest: float) -> None:
        self.work, self.rest = work, rest
        self.signs = self.looks = 0
        self.worked = self.spent = self.last = 0.0

    def look(self, worked: float, signs: int) -> str | None:
        """Return why the process is to be ended, if it is.

        Args:
            worked: Processor seconds that it has used so far.
            signs: How many signs of progress there have been so far.
        """
        self.looks += 1
        self.spent += min(max(worked - self.worked, 0), CORES)
        self.worked = worked
        if signs != self.signs or abs(worked - self.last) > IDLE * self.rest:
            self.last, self.looks = worked, 0
        if signs != self.signs or not signs:  # before the first sign it starts, at any length
            self.signs, self.spent = signs, 0.0
        if self.spent > self.work:
            return f"it computed for {self.spent:.0f} s of processor time and said nothing"
        if self.looks > self.rest:
            return f"it did nothing and said nothing for {self.rest:g} s"
        return None
