"""How long a thread spins while it waits for others: briefly, or a busy machine nearly stops."""

import os
import sys
import threading

__all__ = ["spin_briefly"]

VARIABLES = {
    "GOMP_SPINCOUNT": "1000",  # GNU's OpenMP, in torch for Linux; what it has for a crowd itself
    "KMP_BLOCKTIME": "1",  # LLVM's and Intel's, in torch for macOS and Windows: milliseconds
}


def spin_briefly() -> None:
    """Let OpenMP's threads sleep soon after they have nothing to do; called by ``__init__.py``.

    torch divides a layer's work among threads, and who is done first spins until the others are,
    for many milliseconds. Beside a busy program the others have to wait for a processor, which
    the spinning ones keep: torch becomes twenty times slower. Spinning not at all costs time
    where nothing else runs.

    OpenMP reads these variables when torch is loaded. A value that is set already stays.

    Where torch came first it is too late for them. But GNU's OpenMP spins 1000 times only where a
    process has more of its threads than there are processors, so a thread that sleeps holds a
    second team of them.

    Example:
        >>> spin_briefly()
        >>> "GOMP_SPINCOUNT" in os.environ or "OMP_WAIT_POLICY" in os.environ
        True
    """
    if "OMP_WAIT_POLICY" in os.environ:  # the same question, answered by the user
        return
    is_loaded = hasattr(sys.modules.get("torch"), "ones")  # whole, not on its way, nor blocked
    late = is_loaded and "GOMP_SPINCOUNT" not in os.environ
    for name, value in VARIABLES.items():
        os.environ.setdefault(name, value)
    if late and sys.platform == "linux":
        ready = threading.Event()
        threading.Thread(
            target=_hold_a_team, args=(ready,), name="spin briefly", daemon=True
        ).start()
        ready.wait()  # a program that ended while torch computes would be aborted


def _hold_a_team(ready: threading.Event) -> None:
    try:
        sys.modules["torch"].ones(1 << 20, device="cpu").add_(1)  # large enough to be divided
    finally:
        ready.set()
    threading.Event().wait()
