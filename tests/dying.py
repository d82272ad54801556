"""Tasks for tests of engines; a module that imports nothing slow, for processes that die young."""

import os
import signal
import time
from pathlib import Path


def die(job: str, marks: Path) -> int:
    """Take the process along: at the first try only, unless the job is to die each time."""
    tried = marks / job
    first = not tried.exists()
    tried.touch()
    if first or "always" in job:
        os.kill(os.getpid(), signal.SIGKILL)
    return len(job)


def linger(mark: str) -> None:
    """Say that the process is here, and stay for ten minutes."""
    Path(mark).touch()
    time.sleep(600)
    Path(f"{mark}-stayed").touch()
