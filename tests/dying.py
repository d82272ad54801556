"""A task for tests of engines; a module without imports, for processes that die young."""

import os
import signal
from pathlib import Path


def die(job: str, marks: Path) -> int:
    """Take the process along: at the first try only, unless the job is to die each time."""
    tried = marks / job
    first = not tried.exists()
    tried.touch()
    if first or "always" in job:
        os.kill(os.getpid(), signal.SIGKILL)
    return len(job)
