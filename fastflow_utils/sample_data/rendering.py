"""One image and its mask: a category's surface, perhaps damaged, in front of its camera."""

import numpy as np
from numpy.typing import NDArray

from fastflow_utils.errors import FastFlowError
from fastflow_utils.sample_data.camera import halve
from fastflow_utils.sample_data.categories import CATALOGUE, Category
from fastflow_utils.sample_data.surface import Mask, grid

__all__ = ["CATEGORIES", "defects", "render"]

CATEGORIES: tuple[str, ...] = tuple(sorted(CATALOGUE))


def defects(category: str) -> tuple[str, ...]:
    """Return the names of a category's defects, sorted.

    Raises:
        FastFlowError: If there is no such category.

    >>> defects("carpet")
    ('color', 'cut', 'hole')
    """
    return tuple(sorted(_find(category).defects))


def render(
    category: str, defect: str | None = None, *, size: int = 256, seed: int = 0
) -> tuple[NDArray[np.uint8], Mask]:
    """Return one image of the sample set and its mask.

    The same seed gives the same scene, pose, light and noise whatever the defect, so that the
    images with and without it differ by the defect alone; and the same scene at any size.

    Args:
        category: One of `CATEGORIES`.
        defect: One of `defects(category)`, or None for a good image.
        size: Height and width in pixels, at least 64.
        seed: Fixes every pixel.

    Returns:
        The image (H, W, 3) uint8, and the mask (H, W) bool: True where any part of the pixel is
        damaged, nowhere in a good image.

    Raises:
        FastFlowError: If the category or the defect is unknown, the size too small or the seed
            negative.

    >>> image, mask = render("screw", "scratch_neck", size=64, seed=3)
    >>> image.shape, mask.shape, bool(mask.any())
    ((64, 64, 3), (64, 64), True)
    """
    recipe = _find(category)
    if defect is not None and defect not in recipe.defects:
        raise FastFlowError(
            f"{category} has no defect '{defect}': choose one of {', '.join(defects(category))}"
        )
    if size < 64 or seed < 0:
        raise FastFlowError(
            f"cannot render with size={size}, seed={seed}: the size must be at least 64 and the "
            "seed at least 0"
        )
    scene, damage, camera = (
        np.random.default_rng(stream) for stream in np.random.SeedSequence(seed).spawn(3)
    )
    # Two points to a pixel each way: the camera averages them, which smooths all edges.
    surface = recipe.surface(*grid(2 * size), scene)
    mask = np.zeros(surface.height.shape, dtype=bool)
    if defect is not None:
        surface, mask = recipe.defects[defect](surface, damage, damage.random())
    return recipe.camera.photograph(surface, camera), halve(mask) > 0


def _find(category: str) -> Category:
    if category not in CATALOGUE:
        raise FastFlowError(
            f"the sample set has no category '{category}': choose one of {', '.join(CATEGORIES)}"
        )
    return CATALOGUE[category]
