"""What a result depends on beside data, recipe and seed: software, to be kept beside it."""

import hashlib
import platform
from functools import cache
from importlib.metadata import version
from pathlib import Path

__all__ = ["result_digest", "versions"]


@cache
def result_digest() -> str:
    """Return one sha256 over the package's source files that decide a result."""
    package = Path(__file__).parent
    digest = hashlib.sha256()
    for file in sorted([*package.glob("d*/**/*.py"), package / "compute.py"]):
        digest.update(file.relative_to(package).as_posix().encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


def versions() -> dict[str, str]:
    """Return the versions that a result depends on, to be kept beside it."""
    names = ("fastflow-utils", "torch", "timm", "kornia", "torchmetrics", "numpy", "pillow")
    return {"python": platform.python_version(), **{name: version(name) for name in names}}
