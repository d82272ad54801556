"""What lies in front of the camera: height, colour and gloss at every point, not yet lit."""

from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

__all__ = ["Field", "Mask", "Point", "Rng", "Surface", "grid", "mix", "pose", "rgb"]

Field = NDArray[np.floating[Any]]
Mask = NDArray[np.bool_]
Point = tuple[float, float]
Rng = np.random.Generator


def grid(size: int) -> tuple[Field, Field]:
    """Return the pixel centres x (1, N), to the right, and y (N, 1), downwards, in [-1, 1].

    They broadcast against each other, so that `x**2 + y**2` has shape (N, N).

    >>> x, y = grid(4)
    >>> x.tolist(), y.shape
    ([[-0.75, -0.25, 0.25, 0.75]], (4, 1))
    """
    axis = ((np.arange(size) + 0.5) * 2 / size - 1).astype(np.float32)
    return axis[None, :], axis[:, None]


def pose(x: Field, y: Field, angle: float = 0.0, at: Point = (0.0, 0.0)) -> tuple[Field, Field]:
    """Return the coordinates (u, v) of an object turned by `angle` (radians) and put `at` (x, y).

    >>> u, v = pose(*grid(2), angle=np.pi / 2)  # now u points down the image
    >>> u.round(1).tolist()
    [[-0.5, -0.5], [0.5, 0.5]]
    """
    cos, sin = float(np.cos(angle)), float(np.sin(angle))
    x, y = x - float(at[0]), y - float(at[1])
    return cos * x + sin * y, cos * y - sin * x


def rgb(red: float, green: float, blue: float) -> Field:
    """Return a colour as an array (3, 1, 1), ready to be multiplied by a field (N, N)."""
    return np.array([red, green, blue], np.float32).reshape(3, 1, 1)


def mix(old: Field, new: Field | float, alpha: Field | float) -> Field:
    """Return `old` where alpha is 0, `new` where it is 1, and a blend in between."""
    return old + alpha * (new - old)


@dataclass(frozen=True)
class Surface:
    """A scene before it is lit. The image spans [-1, 1]; heights are in the same unit.

    Attributes:
        u: The object's own first coordinate, (N, N); defects are placed in (u, v).
        v: The object's own second coordinate, (N, N).
        height: Towards the camera, (N, N).
        color: Linear reflectance, (3, N, N).
        gloss: Strength of the mirror-like reflection, (N, N).
        cover: 1 on the object, 0 where the floor shows, (N, N). A texture covers everything.
        floor: Linear brightness of what lies behind the object, (3, N, N) or (3, 1, 1).
    """

    u: Field
    v: Field
    height: Field
    color: Field
    gloss: Field
    cover: Field
    floor: Field

    @property
    def step(self) -> float:
        """Return the distance between two neighbouring points."""
        return 2 / len(self.height)

    def blend(self, alpha: Field, **layers: Field | float) -> Self:
        """Return a copy whose `layers` (height, color, gloss, cover) turn into these by alpha."""
        return replace(
            self, **{name: mix(getattr(self, name), new, alpha) for name, new in layers.items()}
        )
