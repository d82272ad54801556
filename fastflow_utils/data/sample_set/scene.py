"""A category, and one scene of it: the flawless surface, or the same one with a fault."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np

from fastflow_utils.data.sample_set.camera import Camera
from fastflow_utils.data.sample_set.surface import Rng, Surface, grid

__all__ = ["Category", "Defect", "Scene"]

Defect = Callable[["Scene", Rng, float], Surface]


@dataclass(frozen=True)
class Category:
    """How to make the images of one category.

    Attributes:
        kind: A texture fills the image, an object lies on a floor.
        surface: Called with the grid x, y and a generator; returns a flawless surface, or, with
            keywords of its own, one with a fault. It must draw the same random numbers whatever
            the fault, so that nothing else changes.
        camera: The lamps and the camera that photograph it.
        defects: By name, functions of a scene, a generator and a severity in [0, 1], from the
            smallest to the largest.
    """

    kind: Literal["texture", "object"]
    surface: Callable[..., Surface]
    camera: Camera
    defects: Mapping[str, Defect]


class Scene:
    """One scene: everything about it is fixed by the category, the number of points and the seed.

    Attributes:
        surface: The flawless surface.
    """

    def __init__(self, category: Category, points: int, seed: np.random.SeedSequence) -> None:
        self.category, self.points, self.seed = category, points, seed

    @cached_property
    def surface(self) -> Surface:
        """Return the flawless surface, drawn once."""
        return self.again()

    def again(self, **fault: Any) -> Surface:
        """Return the surface drawn anew from the same random numbers, with a fault.

        This is how parts go missing, lie in the wrong place or carry the wrong print.
        """
        x, y = grid(self.points)
        return self.category.surface(x, y, np.random.default_rng(self.seed), **fault)
