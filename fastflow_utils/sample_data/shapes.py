"""Shapes as signed distance functions: negative inside, positive outside, 0 on the outline."""

import numpy as np

from fastflow_utils.sample_data.surface import Field

__all__ = ["blob", "ellipse", "inside", "segment", "star"]


def ellipse(u: Field, v: Field, a: float, b: float) -> Field:
    """Return the distance to an ellipse with half axes a and b (first order, exact on circles).

    >>> ellipse(np.array([0.0, 3.0]), np.zeros(2), 2.0, 2.0).tolist()
    [-2.0, 1.0]
    """
    stretched: Field = np.hypot(u / a, v / b)
    return (stretched - 1) * min(a, b)


def segment(u: Field, v: Field, length: float) -> Field:
    """Return the distance to a segment of `length` along u, centred at the origin."""
    distance: Field = np.hypot(np.maximum(np.abs(u) - length / 2, 0), v)
    return distance


def star(u: Field, v: Field, radius: float, points: int, depth: float) -> Field:
    """Return the distance to a rounded star, the recess of a screw drive (first order)."""
    outline = radius * (1 + depth * np.cos(points * np.arctan2(v, u)))
    distance: Field = np.hypot(u, v) - outline
    return distance


def blob(
    u: Field, v: Field, rng: np.random.Generator, radius: float, roughness: float = 0.3
) -> Field:
    """Return the distance to an irregular spot of about `radius` (first order).

    The outline is a circle plus eight random harmonics: `roughness` is the size of the first
    relative to the radius, the k-th is k times smaller.
    """
    r = np.hypot(u, v)
    direction = ((u + 1j * v) / np.maximum(r, 1e-6)).astype(np.complex64)
    harmonic, wave = direction, np.ones_like(r)
    for k in range(1, 9):
        size = complex(*rng.normal(0, 0.35, 2)) * roughness / k
        wave += (size * harmonic).real
        harmonic = harmonic * direction
    return r - radius * np.maximum(wave, np.float32(0.3))


def inside(distance: Field, softness: float) -> Field:
    """Return 1 inside and 0 outside, with a smooth edge of width `softness` on the outline.

    >>> inside(np.array([-1, 0, 1]), softness=0.5).tolist()
    [1.0, 0.5, 0.0]
    """
    t: Field = np.clip(0.5 - distance / softness, 0, 1)
    return t * t * (3 - 2 * t)
