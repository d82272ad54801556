"""Numbers and pictures, small enough to travel in a page."""

import gzip
import io
from base64 import b64encode

import torch
from PIL import Image
from torch import Tensor

from fastflow_utils.errors import FastFlowError

__all__ = ["pack", "quantise", "webp"]


def quantise(values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    r"""Write each channel's numbers with 8 bits: :math:`x \approx \text{low}_c + \text{step}_c q`.

    The error of a number is at most half a step, 1/510 of its channel's range.

    Args:
        values: (C, ...).

    Returns:
        q (C, ...) uint8, low (C,) and step (C,).

    Raises:
        FastFlowError: If a number is not finite.

    Example:
        >>> q, low, step = quantise(torch.tensor([[0.0, 1.0, 2.55], [5.0, 5.0, 5.0]]))
        >>> q[0].tolist(), low.tolist(), round(step[0].item(), 4)
        ([0, 100, 255], [0.0, 5.0], 0.01)
    """
    rows = values.float().flatten(1)
    if not rows.isfinite().all():
        raise FastFlowError("numbers for a page have to be finite, and some are NaN or infinite")
    low, high = rows.aminmax(dim=1)
    step = (high - low) / 255
    q = ((rows - low[:, None]) / step.clamp_min(1e-30)[:, None]).round()
    return q.to(torch.uint8).reshape(values.shape), low, step


def pack(numbers: Tensor) -> str:
    """Return numbers as gzip of their bytes in base64; `unpack` in core.js is the way back.

    Args:
        numbers: Of any shape and type; mostly uint8.

    Example:
        >>> pack(torch.zeros(1000, dtype=torch.uint8))[:4]
        'H4sI'
    """
    raw = numbers.contiguous().cpu().numpy().tobytes()
    return b64encode(gzip.compress(raw, mtime=0)).decode()


def webp(picture: Image.Image, quality: int = 75, lossless: bool = False) -> str:
    """Return a picture as a data address, quantised WebP.

    Args:
        picture: In RGB or grey.
        quality: 0 (small) to 100.
        lossless: Keep every pixel: small for drawings alone.

    Example:
        >>> webp(Image.new("RGB", (8, 8)))[:23]
        'data:image/webp;base64,'
    """
    file = io.BytesIO()
    picture.save(file, "webp", quality=quality, lossless=lossless, method=4)
    return "data:image/webp;base64," + b64encode(file.getvalue()).decode()
