"""tile: a flat stone tile, dark grey speckles on a greenish grey."""

import numpy as np

from fastflow_utils.data.sample_set import damage
from fastflow_utils.data.sample_set.camera import Camera, Light
from fastflow_utils.data.sample_set.materials import cells, noise
from fastflow_utils.data.sample_set.scene import Category, Scene
from fastflow_utils.data.sample_set.shapes import blob, box, inside, join
from fastflow_utils.data.sample_set.surface import Field, Rng, Surface, mix, pose, rgb

LIGHT, DARK = rgb(0.302, 0.330, 0.308), rgb(0.043, 0.044, 0.041)
BARE = rgb(0.32, 0.335, 0.31)  # the unglazed edge of a crack
OIL = rgb(0.48, 0.43, 0.31)


def surface(x: Field, y: Field, rng: Rng) -> Surface:
    """Return a stone full of ragged flecks that run together in clumps, with dots between them."""
    u, v = pose(x, y, rng.uniform(0, np.pi))
    wide, medium, small = (noise(x, y, rng, count) for count in (18, 54, 90))
    ragged, mottled = noise(x, y, rng, 140), noise(x, y, rng, 24, octaves=2)
    flecks = 0.35 * wide + medium + 0.8 * small + rng.normal(0, 0.1)
    bend_u, bend_v = 0.003 * (small + medium), 0.003 * (small - medium)
    away, border, _ = cells(u + bend_u, v + bend_v, rng, 38)
    away -= 1.5 * np.maximum(0.3 - border, 0) ** 2  # neighbours run together
    dots = away / 19 - 0.017 - 0.004 * wide - 0.009 * medium
    fleck = join(0.014 * (0.9 - flecks), dots, 0.02) + 0.005 * ragged
    speckle = np.clip(0.5 - fleck / 0.02, 0, 1) * np.clip(0.9 - 0.08 * mottled, 0, 1)
    tone = rng.lognormal(0, 0.015, (3, 1, 1)).astype(np.float32)
    ground = LIGHT * tone * (1 + 0.05 * mottled + 0.05 * ragged)
    full, height = np.ones_like(ragged), 0.002 * noise(x, y, rng, 3)
    color = mix(ground, DARK, speckle)
    return Surface(u, v, height, color, 0.02 * full, full, rgb(0, 0, 0))


def crack(scene: Scene, rng: Rng, severity: float) -> Surface:
    length, width = damage.grow(severity, 0.4, 2.5), damage.grow(severity, 0.007, 0.024)
    at = damage.anywhere(scene.surface, rng)
    return damage.fracture(scene.surface, rng, at, length, width, BARE)


def glue_strip(scene: Scene, rng: Rng, severity: float) -> Surface:
    s = scene.surface
    u, v = pose(s.u, s.v, rng.uniform(0, np.pi), damage.anywhere(s, rng))
    length, width = damage.grow(severity, 0.15, 0.8), damage.grow(severity, 0.03, 0.12)
    strip = box(u, v, length, width, width) + 0.012 * noise(s.u, s.v, rng, 8)
    round_top = 0.25 * np.sqrt(np.maximum(-strip * width, 0)) + 0.002 * noise(s.u, s.v, rng, 12)
    return s.blend(inside(strip, 0.02), height=round_top, color=0.65 * s.color + 0.1, gloss=0.8)


def oil(scene: Scene, rng: Rng, severity: float) -> Surface:
    s, radius = scene.surface, damage.grow(severity, 0.08, 0.4)
    u, v = pose(s.u, s.v, rng.uniform(0, np.pi), damage.anywhere(s, rng))
    spot = blob(u, v * rng.uniform(1, 1.6), rng, radius, 0.4)
    spot = spot + 0.12 * radius * noise(s.u, s.v, rng, 10, octaves=2)
    soaked = inside(spot, 0.35 * radius) * (0.85 + 0.1 * noise(s.u, s.v, rng, 10, octaves=2))
    parts = np.clip(0.7 * noise(s.u, s.v, rng, 1.2 / radius), 0, 1)
    dried = parts * np.exp(-(((spot + 0.1 * radius) / (0.015 + 0.04 * radius)) ** 2))
    s = s.blend(soaked, color=s.color * OIL, gloss=0.05)
    return s.blend(0.6 * dried, color=s.color * OIL)


CATEGORY = Category(
    "texture",
    surface,
    Camera(
        (Light(240, 55, 1.0), Light(30, 60, 0.3)),
        ambient=0.2,
        shininess=80,
        blur=0.003,
        noise=0.8,
        step=4,
    ),
    {"crack": crack, "glue_strip": glue_strip, "oil": oil},
)
