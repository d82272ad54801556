"""bottle: the mouth of a dark glass bottle, seen from above on a light table."""

import numpy as np

from fastflow_utils.sample_data import damage
from fastflow_utils.sample_data.camera import Camera, Light
from fastflow_utils.sample_data.materials import around, noise
from fastflow_utils.sample_data.scene import Category, Scene
from fastflow_utils.sample_data.shapes import blob, inside
from fastflow_utils.sample_data.surface import Field, Rng, Surface, pose, rgb

# How much light (in thousandths) comes through the glass at which radius, and its tint there.
RADII: tuple[float, ...] = (0, 0.44, 0.455, 0.47, 0.53, 0.555, 0.57, 0.59, 0.60, 0.615, 0.65)
RADII += (0.685, 0.73, 0.755, 0.785, 0.80, 0.812, 0.84, 0.86, 0.89)
TONES = (8, 7, 31, 15, 14, 39, 43, 26, 53, 37, 32, 25, 51, 28, 58, 165, 160, 26, 14, 32)
TINTS = (
    (0.44, 1.13, 1, 1.56),
    (0.46, 0.82, 1, 1.02),
    (0.56, 0.86, 1, 1.06),
    (0.65, 1.06, 1, 1.28),
)
AMBER, WHITE = rgb(1.0, 0.36, 0.13), rgb(1.0, 0.95, 0.85)
# Strands of light in the lip: their radius, strength and colour.
STRANDS = (
    *((0.690 + 0.006 * k, 0.75, AMBER) for k in range(5)),
    *((radius, 0.27, WHITE) for radius in (0.600, 0.635, 0.672)),
)


def surface(x: Field, y: Field, rng: Rng) -> Surface:
    """Return a bottle's mouth: opening, lip with amber glints, and the shoulder out of focus."""
    at, lean, glow = rng.normal(0, [[0.012], [0.015], [0.08]], (3, 2)).tolist()
    u, v = pose(x, y, rng.uniform(-np.pi, np.pi), (at[0], at[1]))
    r = np.hypot(u, v)
    turn = ((np.arctan2(v, u) / (2 * np.pi) + 0.5) * 1023.9).astype(np.int16)
    size = (rng.lognormal(0, 0.012) * (1 + 0.006 * around(rng, 7))).astype(np.float32)
    # The shoulder lies deeper than the lip, so that it shifts against it.
    r = r * size[turn] + np.clip((r - 0.62) / 0.3, 0, 1) * (lean[0] * u + lean[1] * v)

    radii = np.linspace(0, 1.5, 1024)
    knots = RADII * rng.normal(1, 0.005, len(RADII))
    tones = np.array(TONES) / 1000 * rng.lognormal(0, 0.12, len(TONES))
    tints = [np.interp(radii, *np.array(TINTS).T[[0, k]]) for k in (1, 2, 3)]
    tints = tints * rng.lognormal(0, 0.04, (3, 1))
    palette = (np.interp(radii, knots, tones) * tints).astype(np.float32)
    color = palette[:, (np.minimum(r / 1.5, 1) * 1023).astype(np.int16)]
    lip, grain = np.exp(-(((r - 0.53) / 0.055) ** 2)), noise(x, y, rng, 90, octaves=2)
    uneven = (around(rng, 9) + 0.4 * around(rng, 31) - 0.7)[turn] * np.clip(4 * r - 1.6, 0, 0.7)
    color *= 1 + uneven + 0.3 * lip * grain
    color += np.exp(-((u - glow[0]) ** 2 + (v - glow[1]) ** 2) / 0.02) * rgb(0.006, 0.007, 0.008)
    color += np.exp(-(((r - 0.438) / 0.004) ** 2)) * rgb(0.035, 0.007, 0.002)

    thin = max(0.004, 1 / x.size)  # coarse points see the same light in wider strands
    ring = (r > 0.57) & (r < 0.75)
    near, place, light = r[ring], turn[ring], np.zeros((3, ring.sum()), np.float32)
    for radius, strength, tint in STRANDS:
        wobble = radius + 0.02 * (around(rng, 5) - 0.5) + 0.006 * (around(rng, 60) - 0.5)
        bright = around(rng, 5) ** 2 * around(rng, 23) * (0.4 + 2 * around(rng, 110) ** 2)
        bright = strength * 0.004 / thin * (bright + 4 * around(rng, 40) ** 30)
        light += np.exp(-(((near - wobble[place]) / thin) ** 2)) * bright[place] * tint[:, 0]
    color[:, ring] += light
    height = 1 + 0.1 * lip - 0.1 * r**4 + 0.0015 * lip * grain
    return Surface(u, v, height, color, 0.1 * lip, inside(r - 0.89, 0.045), rgb(1.2, 1.2, 1.2))


def _broken(scene: Scene, rng: Rng, radius: float) -> Surface:
    s, theta, reach = scene.surface, rng.uniform(-np.pi, np.pi), rng.uniform(0.5, 0.62)
    at = (reach * float(np.cos(theta)), reach * float(np.sin(theta)))
    u, v = pose(s.u, s.v, theta, at)  # u runs outwards, v along the mouth
    mouth = np.abs(np.hypot(s.u, s.v) - 0.58) - 0.14
    region = np.maximum(blob(u, v / rng.uniform(1, 1.7), rng, radius, 0.5), mouth)
    return damage.chip(s, rng, region, at, radius)


def broken_large(scene: Scene, rng: Rng, severity: float) -> Surface:
    return _broken(scene, rng, damage.grow(severity, 0.15, 0.38))


def broken_small(scene: Scene, rng: Rng, severity: float) -> Surface:
    return _broken(scene, rng, damage.grow(severity, 0.038, 0.12))


def contamination(scene: Scene, rng: Rng, severity: float) -> Surface:
    s, radius = scene.surface, damage.grow(severity, 0.06, 0.28)
    at = (rng.uniform(-0.2, 0.2), rng.uniform(-0.2, 0.2))
    color = rng.uniform(0.02, 0.06) * rgb(1, rng.uniform(0.75, 1), rng.uniform(0.5, 1))
    dirty = damage.contamination(s, rng, at, radius, color, softness=0.035)
    seen = inside(np.hypot(s.u, s.v) - 0.42, 0.02)  # it lies deep in the bottle, behind the lip
    return s.blend(seen, height=dirty.height, color=dirty.color, gloss=dirty.gloss)


LAMPS = (Light(230, 40, 0.5), Light(60, 40, 0.3))
CATEGORY = Category(
    "object",
    surface,
    Camera(LAMPS, ambient=0.5, blur=0.0045, vignette=0.0, noise=0.5),
    {"broken_large": broken_large, "broken_small": broken_small, "contamination": contamination},
)
