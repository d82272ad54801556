"""One image and its mask: a category's surface, perhaps damaged, in front of its camera."""

from dataclasses import replace
from inspect import signature

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_closing
from skimage.morphology import disk, remove_small_holes

from fastflow_utils.data.sample_set.camera import levels
from fastflow_utils.data.sample_set.categories import CATALOGUE
from fastflow_utils.data.sample_set.scene import Category, Scene
from fastflow_utils.data.sample_set.surface import Field, Mask, mix
from fastflow_utils.errors import FastFlowError

__all__ = ["CATEGORIES", "SEVERITY", "defects", "render", "restage"]

CATEGORIES: tuple[str, ...] = tuple(sorted(CATALOGUE))
SEVERITY = (0.2, 0.7)  # where an image's severity is drawn from, unless it is given


def defects(category: str) -> tuple[str, ...]:
    """Return the names of a category's defects, sorted.

    Raises:
        FastFlowError: If there is no such category.

    >>> defects("carpet")
    ('color', 'cut', 'hole')
    """
    return tuple(sorted(_find(category).defects))


def render(
    category: str,
    defect: str | None = None,
    *,
    size: int = 256,
    seed: int = 0,
    severity: float | None = None,
) -> tuple[NDArray[np.uint8], Mask]:
    """Return one image of the sample set and its mask.

    The same seed gives the same scene, pose, light and noise whatever the defect, so that the
    images with and without it differ by the defect alone; and the same scene at any size.

    Args:
        category: One of `CATEGORIES`.
        defect: One of `defects(category)`, or None for a good image.
        size: Height and width in pixels, at least 64.
        seed: Fixes every pixel.
        severity: From 0, invisible, to 1, gross: the size of the defect, and below 0.2 also its
            contrast. None draws it from `SEVERITY`.

    Returns:
        The image (H, W, 3) uint8, and the mask (H, W) bool: True where the defect, at full
        contrast, changes the light that reaches the camera by more than three grey levels;
        nowhere in a good image.

    Raises:
        FastFlowError: If the category or the defect is unknown, the size too small, the seed
            negative or the severity not in [0, 1].

    >>> image, mask = render("screw", "scratch_neck", size=64, seed=3)
    >>> image.shape, mask.shape, bool(mask.any())
    ((64, 64, 3), (64, 64), True)
    """
    recipe = _find(category)
    if defect is not None and defect not in recipe.defects:
        raise FastFlowError(
            f"{category} has no defect '{defect}': choose one of {', '.join(defects(category))}"
        )
    if size < 64 or seed < 0 or not 0 <= (0 if severity is None else severity) <= 1:
        raise FastFlowError(
            f"cannot render with size={size}, seed={seed}, severity={severity}: the size must be "
            "at least 64, the seed at least 0 and the severity in [0, 1]"
        )
    streams = np.random.SeedSequence(seed).spawn(3)
    camera = recipe.camera
    scene = Scene(recipe, size, streams[0])
    light = camera.shade(scene.surface)
    mask = np.zeros((size, size), dtype=bool)
    if defect is not None:
        rng = np.random.default_rng(streams[1])
        drawn = rng.uniform(*SEVERITY)
        severity = drawn if severity is None else severity
        damaged = camera.shade(recipe.defects[defect](scene, rng, severity))
        mask = _changed(light, damaged)
        light = mix(light, damaged, min(1.0, 5 * severity))
    return camera.photograph(light, np.random.default_rng(streams[2])), mask


def restage(
    category: str,
    *,
    size: int = 256,
    seed: int = 0,
    floor: float = 1,
    lamps: float = 0,
    turned: float = 0,
    moved: tuple[float, float] = (0, 0),
) -> NDArray[np.uint8]:
    """Return a good image with another floor, lamps or pose: nothing is wrong with the part.

    Floor, lamps and camera stay where they are when the part is turned or moved, and the whole
    image is drawn anew: no border has to be filled in.

    Args:
        category: One of `CATEGORIES`.
        size: Height and width in pixels.
        seed: Fixes part, pose and noise, as in :func:`render`.
        floor: How many times as bright the background is.
        lamps: How far every lamp goes round the part, degrees.
        turned: How far the part is turned from where it lies, degrees, clockwise.
        moved: How far it is moved to the right and down, in widths of the image.

    Raises:
        FastFlowError: If there is no such category, or its part cannot be turned and moved.

    >>> image, _ = render("screw", size=64, seed=3)
    >>> bool((restage("screw", size=64, seed=3) == image).all())
    True
    """
    recipe = _find(category)
    streams = np.random.SeedSequence(seed).spawn(3)
    posed: dict[str, float | complex] = {}
    if turned or any(moved):
        if "turned" not in signature(recipe.surface).parameters:
            raise FastFlowError(f"{category} cannot be turned or moved here: choose cable")
        posed = {"turned": float(np.radians(turned)), "moved": 2 * complex(*moved)}
    surface = Scene(recipe, size, streams[0]).again(**posed)
    surface = replace(surface, floor=surface.floor * np.float32(floor))
    lights = tuple(replace(lamp, azimuth=lamp.azimuth + lamps) for lamp in recipe.camera.lights)
    camera = replace(recipe.camera, lights=lights)
    return camera.photograph(camera.shade(surface), np.random.default_rng(streams[2]))


def _changed(light: Field, damaged: Field) -> Mask:
    """Return where the light changed by more than three grey levels, small gaps closed."""
    change = np.abs(levels(light) - levels(damaged)).max(axis=0)
    size = len(change)
    radius = max(1, size // 128)
    # What is fainter than that everywhere has a place all the same: where it is strongest.
    mask = np.pad(change > min(3.0, float(change.max()) / 2), radius)
    mask = binary_closing(mask, disk(radius))[radius:-radius, radius:-radius]
    filled: Mask = remove_small_holes(mask, max_size=size * size // 2500)
    return filled


def _find(category: str) -> Category:
    if category not in CATALOGUE:
        raise FastFlowError(
            f"the sample set has no category '{category}': choose one of {', '.join(CATEGORIES)}"
        )
    return CATALOGUE[category]
