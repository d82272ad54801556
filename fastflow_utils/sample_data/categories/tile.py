"""tile: a flat stone tile, dark grey speckles on a greenish grey."""

import numpy as np

from fastflow_utils.sample_data import damage
from fastflow_utils.sample_data.camera import Camera, Light
from fastflow_utils.sample_data.materials import noise, spots
from fastflow_utils.sample_data.scene import Category, Scene
from fastflow_utils.sample_data.shapes import box, inside
from fastflow_utils.sample_data.surface import Field, Rng, Surface, mix, pose, rgb

LIGHT, DARK = rgb(0.302, 0.330, 0.308), rgb(0.043, 0.044, 0.041)
BARE = rgb(0.32, 0.335, 0.31)  # the unglazed edge of a crack
OIL = rgb(0.48, 0.43, 0.31)


def surface(x: Field, y: Field, rng: Rng) -> Surface:
    """Return a stone full of grains, in clumps, with small dots between them."""
    u, v = pose(x, y, rng.uniform(0, np.pi))
    crowd = 0.005 * noise(x, y, rng, 16) + rng.normal(0.001, 0.002)
    ragged = noise(x, y, rng, 50, octaves=2)
    grains = spots(u, v, rng, 26, 0.052) + crowd + 0.003 * ragged
    dots = spots(u, v, rng, 44, 0.022) + 0.5 * crowd + 0.003 * ragged
    speckle = np.clip(0.5 - np.minimum(grains, dots) / 0.022, 0, 1)
    speckle *= np.clip(0.94 - 0.06 * ragged, 0, 1)
    tone = rng.lognormal(0, 0.015, (3, 1, 1)).astype(np.float32)
    color = mix(LIGHT * tone, DARK, speckle) * (1 + 0.03 * noise(x, y, rng, 4))
    height = 0.002 * noise(x, y, rng, 3)
    full = np.ones_like(height)
    return Surface(u, v, height, color, 0.02 * full, full, rgb(0, 0, 0))


def crack(scene: Scene, rng: Rng, severity: float) -> Surface:
    s = scene.surface
    length, width = damage.grow(severity, 0.8, 5.0), damage.grow(severity, 0.007, 0.024)
    at = damage.anywhere(s, rng)
    return damage.crack(s, rng, at, length, width, 0.04, wiggle=0.12, chips=BARE)


def glue_strip(scene: Scene, rng: Rng, severity: float) -> Surface:
    s = scene.surface
    u, v = pose(s.u, s.v, rng.uniform(0, np.pi), damage.anywhere(s, rng))
    length, width = damage.grow(severity, 0.15, 0.8), damage.grow(severity, 0.03, 0.12)
    strip = box(u, v, length, width, width) + 0.012 * noise(s.u, s.v, rng, 8)
    round_top = 0.25 * np.sqrt(np.maximum(-strip * width, 0)) + 0.002 * noise(s.u, s.v, rng, 12)
    return s.blend(inside(strip, 0.02), height=round_top, color=0.65 * s.color + 0.1, gloss=0.8)


def oil(scene: Scene, rng: Rng, severity: float) -> Surface:
    s, radius = scene.surface, damage.grow(severity, 0.08, 0.4)
    return damage.glue(
        s, rng, damage.anywhere(s, rng), radius, OIL, rim=0.05, gloss=0.3, roughness=0.3
    )


CATEGORY = Category(
    "texture",
    surface,
    Camera(
        (Light(240, 55, 1.0), Light(30, 60, 0.3)),
        ambient=0.2,
        shininess=80,
        blur=0.004,
        noise=0.8,
        step=4,
    ),
    {"crack": crack, "glue_strip": glue_strip, "oil": oil},
)
