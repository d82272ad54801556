"""carpet: a plain weave of grey-brown melange yarn."""

import numpy as np

from fastflow_utils.data.sample_set import damage
from fastflow_utils.data.sample_set.camera import Camera, Light
from fastflow_utils.data.sample_set.materials import noise, weave
from fastflow_utils.data.sample_set.scene import Category, Scene
from fastflow_utils.data.sample_set.surface import Field, Rng, Surface, mix, pose, rgb

BACKING = rgb(0.020, 0.017, 0.017)
DYES = (rgb(0.1, 0.1, 0.2), rgb(0.5, 0.15, 0.12), rgb(0.25, 0.3, 0.6), rgb(0.5, 0.35, 0.2))


def surface(x: Field, y: Field, rng: Rng) -> Surface:
    """Return a weave of about 44 yarns across."""
    u, v = pose(x, y, rng.normal(0, 0.015), (rng.uniform(-1, 1), rng.uniform(-1, 1)))
    yarns = 22 * rng.lognormal(0, 0.02)
    pull_u, pull_v = (0.35 * noise(x, y, rng, 4, octaves=2) for _ in range(2))
    height, tone = weave(u * yarns + pull_u, v * yarns + pull_v, rng)
    tone = tone + 0.04 * noise(x, y, rng, 5) + 0.08 * noise(x, y, rng, 110)
    light = rgb(0.60, 0.57, 0.50) * rng.lognormal(0, 0.008, (3, 1, 1)).astype(np.float32)
    color = mix(rgb(0.060, 0.043, 0.047), light, np.clip(tone, 0, 1))
    color *= 0.06 + 0.94 * np.clip(height, 0, 1)  # little light reaches the gaps
    height = 1 + 0.012 * height + 0.01 * noise(x, y, rng, 4) + 0.0015 * noise(x, y, rng, 100)
    full = np.ones_like(height)
    return Surface(u, v, height, color, 0 * full, full, rgb(0, 0, 0))


def color(scene: Scene, rng: Rng, severity: float) -> Surface:
    s, dye = scene.surface, DYES[rng.integers(len(DYES))]
    radius = damage.grow(severity, 0.05, 0.18) * rng.uniform(0.8, 1.25)
    return damage.stain(s, rng, damage.anywhere(s, rng), radius, dye, 0.5 + 0.45 * severity)


def cut(scene: Scene, rng: Rng, severity: float) -> Surface:
    s = scene.surface
    length, width = damage.grow(severity, 0.2, 0.7), damage.grow(severity, 0.012, 0.03)
    return damage.cut(s, rng, damage.anywhere(s, rng), length, width, BACKING)


def hole(scene: Scene, rng: Rng, severity: float) -> Surface:
    s, radius = scene.surface, damage.grow(severity, 0.04, 0.13)
    at = damage.anywhere(s, rng)
    torn = damage.hole(s, rng, at, radius, BACKING)
    return damage.fibres(torn, rng, at, radius, int(6 + 60 * radius), tone=0.13)


CATEGORY = Category(
    "texture",
    surface,
    Camera((Light(230, 50, 1.0), Light(20, 60, 0.4)), ambient=0.3, blur=0.004, step=4),
    {"color": color, "cut": cut, "hole": hole},
)
