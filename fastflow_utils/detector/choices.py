"""What can be chosen of a detector; it is checked without torch, which takes seconds to import.

Where each of these is used, it can be imported from, too: ``backbones``, ``flows``, ``maps``.
"""

import math
from pathlib import Path
from typing import Literal

from fastflow_utils.errors import FastFlowError

__all__ = [
    "BUNDLED",
    "GRID",
    "METHODS",
    "Kernels",
    "blur_reach",
    "require_model",
    "require_weights",
]

BUNDLED = "efficientnet_lite0"
"""The backbone whose ImageNet weights come with the installation: nothing is downloaded."""

GRID = 32
"""Sides and places of windows are multiples of this, so that they meet on every level."""

METHODS = {
    "fastflow": "model.FastFlow",
    "gaussian": "baselines.gaussian.Gaussian",
    "padim": "baselines.padim.PaDiM",
    "subspace": "baselines.subspace.Subspace",
    "patchcore": "baselines.patchcore.PatchCore",
}
"""Each method's class in this wing, by the method's name: see ``detector.method_class``."""

Kernels = Literal["3-1", "3x3", "1x1"]
"""Kernel sizes of the subnets: 3x3 and 1x1 in turn, 3x3 only, 1x1 only."""


def blur_reach(sigma: float) -> int:
    """Return how many pixels on each side a Gaussian of ``sigma`` pixels takes part in a blur.

    Example:
        >>> blur_reach(4.0)
        12
    """
    return math.ceil(3 * sigma)


def require_weights(path: Path | str) -> None:
    """Refuse a file of a backbone's weights that is not there.

    Raises:
        FastFlowError: There is no such file.
    """
    if not Path(path).is_file():
        raise FastFlowError(f"no weights at '{path}': expected a .pth, .pt or .safetensors file")


def require_model(folder: Path | str) -> None:
    """Refuse a folder that holds no saved model.

    Raises:
        FastFlowError: Its config.json or its model.safetensors is missing.
    """
    if not all(Path(folder, name).is_file() for name in ("config.json", "model.safetensors")):
        raise FastFlowError(
            f"no model in '{folder}': expected config.json and model.safetensors, as "
            "'fastflow run --output DIR' writes them to DIR/model"
        )
