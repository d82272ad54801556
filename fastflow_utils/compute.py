"""Where and how numbers are computed: device, number format, threads, pieces of a batch."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Literal, cast, get_args

import torch
from torch import Tensor

from fastflow_utils.errors import FastFlowError

__all__ = [
    "Precision",
    "check_seed",
    "dtype_of",
    "in_chunks",
    "in_threads",
    "resolve_precision",
    "select_device",
]

Map = Callable[..., Iterator[Tensor]]


Precision = Literal["float32", "bfloat16"]
"""The number format of the subnets' convolutions; everything that is added up is float32."""


def resolve_precision(asked: str = "auto", device: torch.device | str = "cpu") -> Precision:
    """Return the number format to compute in: what is asked for, or what suits the hardware.

    Args:
        asked: "float32", "bfloat16", or "auto": what the environment variable
            ``FASTFLOW_PRECISION`` says, else bfloat16 where ``device`` multiplies it natively,
            else float32.
        device: Where it will be computed.

    Raises:
        FastFlowError: If it is none of these.

    Example:
        >>> resolve_precision("float32")
        'float32'
    """
    if asked == "auto":
        asked = os.environ.get("FASTFLOW_PRECISION", "auto")
    if asked == "auto":
        return "bfloat16" if _multiplies_bfloat16(torch.device(device)) else "float32"
    if asked not in get_args(Precision):
        expected = " or ".join(get_args(Precision))
        raise FastFlowError(f"precision '{asked}': expected auto, {expected}")
    return cast(Precision, asked)


def _multiplies_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(False))
    able: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()  # newer torch has it
    return any(able.get(name) for name in ("avx512_bf16", "amx_bf16", "arm_bf16"))


def dtype_of(precision: Precision) -> torch.dtype:
    """Return torch's name of a number format."""
    return {"float32": torch.float32, "bfloat16": torch.bfloat16}[precision]


@contextmanager
def in_threads(tasks: int, device: torch.device) -> Iterator[Map]:
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
    if name == "cuda" and not torch.cuda.is_available():
        raise FastFlowError("device 'cuda': torch sees no GPU here; use --device cpu or auto")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def check_seed(seed: int) -> int:
    """Return a seed that every generator takes.

    Raises:
        FastFlowError: If it is no whole number from 0 to 2**32 - 1.

    Example:
        >>> check_seed(-1)
        Traceback (most recent call last):
        fastflow_utils.errors.FastFlowError: seed -1: expected a whole number from 0 to 4294967295
    """
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**32:
        raise FastFlowError(f"seed {seed}: expected a whole number from 0 to {2**32 - 1}")
    return seed
