"""bottle: the mouth of a dark glass bottle, seen from above on a light table."""

import numpy as np

from fastflow_utils.data.sample_set import damage
from fastflow_utils.data.sample_set.camera import Camera, Light
from fastflow_utils.data.sample_set.materials import around, noise, strands
from fastflow_utils.data.sample_set.scene import Category, Scene
from fastflow_utils.data.sample_set.shapes import blob, inside, towards
from fastflow_utils.data.sample_set.surface import Field, Rng, Surface, mix, pose, rgb

# At these radii of the glass, so much light (in thousandths) comes through.
RADII = (0.44, 0.46, 0.53, 0.56, 0.59, 0.60, 0.65, 0.69, 0.73, 0.76, 0.79, 0.81, 0.84, 0.86, 0.89)
TONES = (7, 45, 17, 75, 50, 65, 38, 30, 55, 30, 135, 165, 45, 20, 40)
PURPLE, GREEN = rgb(1.04, 1.0, 1.08), rgb(0.9, 1.0, 1.0)
AMBER, WHITE = rgb(0.75, 0.30, 0.11), rgb(0.27, 0.26, 0.23)


def surface(x: Field, y: Field, rng: Rng) -> Surface:
    """Return a bottle's mouth: opening, lip with amber glints, and the shoulder out of focus."""
    at, lean, glow = rng.normal(0, [[0.012], [0.04], [0.08]], (3, 2)).tolist()
    u, v = pose(x, y, rng.uniform(-np.pi, np.pi), (at[0], at[1]))
    angle, size = np.arctan2(v, u), float(rng.lognormal(0, 0.012))
    r = size * np.hypot(u, v) * (1 + 0.006 * around(rng, 7, angle))
    # Bottles stand askew: the opening and the shoulder, at other depths, shift against the lip,
    # and between them the glass is thicker here than there.
    r = r + (1.2 * r - 0.7) * (lean[0] * u + lean[1] * v)
    r = r + 0.014 * (around(rng, 5, angle) - 0.5) * np.sin(np.pi * np.clip(r / 0.3 - 1.8, 0, 1))

    lip = np.exp(-(((r - 0.53) / 0.055) ** 2))
    grain = noise(x, y, rng, 90, octaves=2)
    tones = np.array(TONES) / 1000 * rng.lognormal(0, 0.12, len(TONES))
    tone = np.interp(r, RADII, tones).astype(np.float32)
    uneven = around(rng, 9, angle) + 0.4 * around(rng, 31, angle) - 0.7
    tone *= 1 + np.clip(4 * r - 1.6, 0, 0.7) * uneven + 0.3 * lip * grain
    color = tone * mix(PURPLE, GREEN, inside(np.abs(r - 0.53) - 0.07, 0.08))
    color += np.exp(-((u - glow[0]) ** 2 + (v - glow[1]) ** 2) / 0.02) * rgb(0.006, 0.007, 0.008)
    color += rgb(0.002, 0.001, 0.008)  # a bluish haze over all
    color += np.exp(-(((r - 0.438) / 0.004) ** 2)) * rgb(0.035, 0.007, 0.002)
    color += AMBER * strands(r, angle, rng, (0.690, 0.696, 0.702, 0.708, 0.714), 0.0055)
    color += WHITE * strands(r, angle, rng, (0.600, 0.635, 0.672), 0.004)
    height = 1 + 0.1 * lip - 0.1 * r**4 + 0.0015 * lip * grain
    return Surface(u, v, height, color, 0.1 * lip, inside(r - 0.9, 0.06), rgb(1.2, 1.2, 1.2))


def _broken(scene: Scene, rng: Rng, radius: float) -> Surface:
    s, theta = scene.surface, rng.uniform(-np.pi, np.pi)
    at = towards((0, 0), theta, rng.uniform(0.5, 0.62))
    u, v = pose(s.u, s.v, theta, at)  # u runs outwards, v along the mouth
    mouth = np.abs(np.hypot(s.u, s.v) - 0.58) - 0.165 + 0.02 * noise(s.u, s.v, rng, 12)
    region = np.maximum(blob(u, v / rng.uniform(1.1, 1.9), rng, radius, 0.4), mouth)
    return damage.chip(s, rng, region, at, radius)


def broken_large(scene: Scene, rng: Rng, severity: float) -> Surface:
    return _broken(scene, rng, damage.grow(severity, 0.112, 0.29))


def broken_small(scene: Scene, rng: Rng, severity: float) -> Surface:
    return _broken(scene, rng, damage.grow(severity, 0.034, 0.105))


def contamination(scene: Scene, rng: Rng, severity: float) -> Surface:
    s, radius = scene.surface, damage.grow(severity, 0.056, 0.26)
    at = (rng.uniform(-0.2, 0.2), rng.uniform(-0.2, 0.2))
    color = rng.uniform(0.03, 0.10) * rgb(1, rng.uniform(0.75, 1), rng.uniform(0.5, 1))
    dirty = damage.contamination(s, rng, at, radius, color, softness=0.035)
    seen = inside(np.hypot(s.u, s.v) - 0.42, 0.02)  # it lies deep in the bottle, behind the lip
    return s.blend(seen, height=dirty.height, color=dirty.color, gloss=dirty.gloss)


LAMPS = (Light(230, 40, 0.5), Light(60, 40, 0.3))
CATEGORY = Category(
    "object",
    surface,
    Camera(LAMPS, ambient=0.5, blur=0.0045, vignette=0.0, tint=0.02, step=3),
    {"broken_large": broken_large, "broken_small": broken_small, "contamination": contamination},
)
