"""Where and how numbers are computed: device, number format, threads, pieces of a batch.

torch is imported by the functions that need it: it takes seconds, and whoever mistypes a seed or a
precision is told at once.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

from fastflow_utils.errors import FastFlowError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

__all__ = [
    "Precision",
    "check_seed",
    "dtype_of",
    "in_chunks",
    "in_threads",
    "one_thread",
    "resolve_precision",
    "select_device",
]

Precision = Literal["float32", "bfloat16"]
Map = Callable[..., Iterator[Any]]
_ALONE = threading.RLock()


def resolve_precision(asked: str = "auto", device: torch.device | str | None = None) -> Precision:
    """Return the number format of the subnets' convolutions; everything else is float32.

    Asked for "auto", the environment variable ``FASTFLOW_PRECISION`` decides; without it,
    bfloat16 where the device multiplies it natively, else float32. So "auto" means one thing on
    one machine and another on the next: whoever computes keeps the answer, and hands it on.

    Args:
        asked: "auto", "float32" or "bfloat16". The latter two work on every device, slowly where
            the hardware has no bfloat16.
        device: Where to compute. Default, and "auto": as :func:`select_device`.

    Raises:
        FastFlowError: If the argument or the variable has another value.

    Example:
        >>> resolve_precision("float32")
        'float32'
    """
    source = "precision"
    if asked == "auto" and (named := os.environ.get("FASTFLOW_PRECISION")):
        source, asked = "FASTFLOW_PRECISION", named
    for known in get_args(Precision):
        if asked == known:
            return cast(Precision, known)
    if asked != "auto":
        raise FastFlowError(f"{source}: {asked!r}: expected auto, float32 or bfloat16")
    import torch

    device = select_device() if device in (None, "auto") else torch.device(device)
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(False) else "float32"
    able: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()  # newer torch has it
    native = any(able.get(name) for name in ("avx512_bf16", "amx_bf16", "arm_bf16"))
    return "bfloat16" if native else "float32"


def dtype_of(precision: Precision) -> torch.dtype:
    """Return torch's type for a precision.

    Example:
        >>> dtype_of("bfloat16")
        torch.bfloat16
    """
    import torch

    return {"float32": torch.float32, "bfloat16": torch.bfloat16}[precision]


def check_seed(seed: int) -> int:
    """Return a seed that every random generator takes as it is: 0 to 2**32 - 1.

    torch takes negative seeds, numpy does not, and some generators take 32 bits only.

    Raises:
        FastFlowError: If it is anything else.

    Example:
        >>> check_seed(3)
        3
    """
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 2**32:
        raise FastFlowError(f"seed {seed!r}: expected a whole number from 0 to {2**32 - 1}")
    return seed


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute in one thread, for work so little that to share it takes longer.

    Beside a busy process, threads wait for each other: a hundred small layers then take ten times
    as long in two threads as in one. One caller at a time: a thread that is new to torch takes
    over the number last set anywhere, and would find 1, keep it, and leave it to those after it.
    """
    import torch

    with _ALONE:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)


@contextmanager
def in_threads(tasks: int, device: torch.device) -> Iterator[Map]:
    """Yield a ``map`` that does this many independent tasks in threads, sharing torch's threads.

    What a few images ask of one layer is too little work to share: two threads on it take two
    thirds of one thread's time, but two tasks on one thread each take half. On other devices, or
    with one thread only, it is the ordinary ``map``.
    """
    import torch

    threads = torch.get_num_threads()
    workers = min(tasks, threads)
    if workers == 1 or device.type != "cpu":
        yield map
        return
    each = threads // workers
    torch.set_num_threads(each)
    try:  # each thread sets its own number, whatever others do in the meantime
        with ThreadPoolExecutor(
            workers, initializer=torch.set_num_threads, initargs=(each,)
        ) as pool:
            yield pool.map
    finally:
        torch.set_num_threads(threads)


def in_chunks(
    function: Callable[[Tensor], Sequence[Tensor]], batch: Tensor, images: int
) -> list[Tensor]:
    """Apply a function to a batch, on a CPU to a few images at a time.

    What passes between two layers then stays in the processor's cache.

    Args:
        function: Of a batch; it returns tensors with one row for each image.
        batch: (B, ...).
        images: At a time.

    Returns:
        The tensors for the whole batch.
    """
    import torch

    if batch.device.type != "cpu" or torch.compiler.is_compiling():  # one graph for any batch
        return list(function(batch))
    parts = batch.split(images)
    return [torch.cat(of_parts) for of_parts in zip(*map(function, parts), strict=True)]


def select_device(name: str = "auto") -> torch.device:
    """Return the device to compute on: "cpu", "cuda", or "auto" for CUDA where there is one.

    Raises:
        FastFlowError: If the name is another, or CUDA is asked for and absent.

    Example:
        >>> select_device("cpu")
        device(type='cpu')
    """
    if name not in ("auto", "cpu", "cuda"):
        raise FastFlowError(f"device '{name}': expected auto, cpu or cuda")
    import torch

    if name == "cuda" and not torch.cuda.is_available():
        raise FastFlowError("device 'cuda': torch sees no GPU here; use --device cpu or auto")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")
