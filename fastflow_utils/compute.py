"""Where and how numbers are computed: device, number format, threads, pieces of a batch."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import torch
from torch import Tensor

from fastflow_utils.errors import FastFlowError

__all__ = ["convolution_dtype", "in_chunks", "precision", "select_device", "side_by_side"]

Map = Callable[..., Iterator[Tensor]]


def precision() -> str:
    """Return what the environment variable ``FASTFLOW_PRECISION`` asks for, by default "auto"."""
    return os.environ.get("FASTFLOW_PRECISION", "auto")


def convolution_dtype(device: torch.device) -> torch.dtype:
    """Return bfloat16 where the hardware multiplies it natively, else float32.

    The environment variable ``FASTFLOW_PRECISION`` (``auto``, ``float32``, ``bfloat16``) decides
    otherwise.

    Raises:
        FastFlowError: If the variable has another value.
    """
    wanted = precision()
    known = {"float32": torch.float32, "bfloat16": torch.bfloat16}
    if wanted in known:
        return known[wanted]
    if wanted != "auto":
        raise FastFlowError(f"FASTFLOW_PRECISION='{wanted}': expected auto, {' or '.join(known)}")
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(False) else torch.float32
    able: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()  # newer torch has it
    native = any(able.get(name) for name in ("avx512_bf16", "amx_bf16", "arm_bf16"))
    return torch.bfloat16 if native else torch.float32


@contextmanager
def side_by_side(tasks: int, device: torch.device) -> Iterator[Map]:
    """Yield a ``map`` that does this many independent tasks in threads, sharing torch's threads.

    What a few images ask of one layer is too little work to share: two threads on it take two
    thirds of one thread's time, but two tasks on one thread each take half. On other devices, or
    with one thread only, it is the ordinary ``map``.
    """
    threads = torch.get_num_threads()
    workers = min(tasks, threads)
    if workers == 1 or device.type != "cpu":
        yield map
        return
    torch.set_num_threads(threads // workers)
    try:
        with ThreadPoolExecutor(workers) as pool:
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
    parts = batch.split(images) if batch.device.type == "cpu" else (batch,)
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
    if name == "cuda" and not torch.cuda.is_available():
        raise FastFlowError("device 'cuda': torch sees no GPU here; use --device cpu or auto")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")
