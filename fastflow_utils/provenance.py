"""What a result depends on beside data, recipe and seed: software, to be kept beside it."""

import platform
from importlib.metadata import version

__all__ = ["versions"]


def versions() -> dict[str, str]:
    """Return the versions that a result depends on, to be kept beside it."""
    names = ("fastflow-utils", "torch", "timm", "kornia", "torchmetrics", "numpy", "pillow")
    return {"python": platform.python_version(), **{name: version(name) for name in names}}
