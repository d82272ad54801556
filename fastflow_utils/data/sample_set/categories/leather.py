"""leather: brown cowhide, embossed with a fine grain, in raking light."""

import numpy as np

from fastflow_utils.data.sample_set import damage
from fastflow_utils.data.sample_set.camera import Camera, Light
from fastflow_utils.data.sample_set.materials import cells, noise
from fastflow_utils.data.sample_set.scene import Category, Scene
from fastflow_utils.data.sample_set.surface import Field, Rng, Surface, pose, rgb

BROWN = rgb(0.092, 0.036, 0.022)
FLESH = rgb(0.040, 0.022, 0.015)  # the undyed side, deep in a cut
GLUE = rgb(1.2, 1.35, 1.5)  # dried glue is milky


def surface(x: Field, y: Field, rng: Rng) -> Surface:
    """Return a hide of small pebbles, parted by fine creases; some are long and deep."""
    u, v = pose(x, y, rng.uniform(0, np.pi))
    bent_u, bent_v = (t + 0.025 * noise(x, y, rng, 7) for t in (u, v))
    _, fine, pebble = cells(bent_u, bent_v * 1.2, rng, 26, jitter=0.8)
    _, long, _ = cells(bent_v * rng.uniform(1.2, 1.8), bent_u, rng, 12, jitter=0.8)
    depth = np.clip(0.65 + 0.2 * noise(x, y, rng, 10), 0.3, 1.2)
    crease = np.maximum(depth * np.exp(-((fine / 0.15) ** 2)), np.exp(-((long / 0.06) ** 2)))
    relief = 0.0015 * noise(x, y, rng, 6) + 0.0006 * noise(x, y, rng, 100) - 0.006 * crease
    tone = 1 + 0.04 * noise(x, y, rng, 2) + 0.1 * (pebble - 0.5) + 0.3 * crease
    fall_x, fall_y = rng.normal([0.02, -0.2], 0.1).tolist()  # the lamp is near on one side
    dye = BROWN * rng.lognormal(0, [[[0.02]], [[0.01]], [[0.02]]]) * rng.lognormal(0, 0.16)
    full = np.ones_like(relief)
    color = dye.astype(np.float32) * tone * (1 + fall_x * x + fall_y * y)
    return Surface(u, v, relief, color, 0.008 * full, full, rgb(0, 0, 0))


def cut(scene: Scene, rng: Rng, severity: float) -> Surface:
    s = scene.surface
    length, width = damage.grow(severity, 0.2, 0.7), damage.grow(severity, 0.01, 0.03)
    return damage.cut(s, rng, damage.anywhere(s, rng), length, width, FLESH, lips=0.02)


def fold(scene: Scene, rng: Rng, severity: float) -> Surface:
    s = scene.surface
    length, height = damage.grow(severity, 0.4, 1.6), damage.grow(severity, 0.01, 0.03)
    return damage.fold(s, rng, damage.anywhere(s, rng), length, 0.03, height)


def glue(scene: Scene, rng: Rng, severity: float) -> Surface:
    s, radius = scene.surface, damage.grow(severity, 0.05, 0.2)
    return damage.glue(
        s, rng, damage.anywhere(s, rng), radius, GLUE, rim=0.03, gloss=0.08, roughness=0.35
    )


CATEGORY = Category(
    "texture",
    surface,
    Camera((Light(285, 30, 1.8),), ambient=0.28, shininess=10, blur=0.003, noise=1.1, step=4),
    {"cut": cut, "fold": fold, "glue": glue},
)
