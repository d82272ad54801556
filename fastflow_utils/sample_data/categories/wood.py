"""wood: oak veneer, its grain upright, with yearly rings and pores."""

import numpy as np

from fastflow_utils.sample_data import damage
from fastflow_utils.sample_data.camera import Camera, Light
from fastflow_utils.sample_data.materials import noise, rings
from fastflow_utils.sample_data.scene import Category, Scene
from fastflow_utils.sample_data.shapes import blob, inside
from fastflow_utils.sample_data.surface import Field, Rng, Surface, mix, pose, rgb

PALE, BROWN, PORE = rgb(0.47, 0.24, 0.115), rgb(0.25, 0.115, 0.058), rgb(0.10, 0.042, 0.024)
BARE = rgb(0.55, 0.40, 0.27)  # wood below the varnish
BORE = rgb(0.016, 0.010, 0.008)
INKS = (rgb(0.09, 0.11, 0.45), rgb(0.9, 0.12, 0.10), rgb(0.10, 0.12, 0.15), rgb(0.15, 0.4, 0.25))


def surface(x: Field, y: Field, rng: Rng) -> Surface:
    """Return a veneer cut somewhere between the edge of the trunk and its middle."""
    u, v = pose(x, y, rng.normal(0, 0.05))
    u = u + 0.02 * noise(x, y, rng, (4, 1.2), octaves=2)
    # Cut near the pith the rings are arches, away from it they are stripes.
    pith, slant = rng.normal(0, 2.0), rng.normal(0, 0.15)
    season, year = rings(np.hypot(u - pith, 0.5 + slant * v) + 0.5, rng, width=0.055)
    spring = np.minimum(season * 8, 1) * (1 - season) ** 2  # a year begins dark and full of pores
    grain = noise(u, v, rng, (70, 2)) + 0.7 * noise(x, y, rng, (160, 5))
    fibre = noise(x, y, rng, (250, 40))
    pores = 1.5 * noise(u, v, rng, (140, 10)) + 2.5 * spring - rng.uniform(2.2, 3.0)
    pores = np.clip(pores, 0, 1)
    dark = rng.uniform(0, 0.7) + rng.uniform(0.2, 0.7) * spring + 0.1 * year
    dark += 0.14 * grain + 0.14 * fibre + 0.12 * noise(x, y, rng, (3, 1.5))
    color = mix(PALE, BROWN, np.clip(dark, -0.3, 1.4))
    color = mix(color, PORE, pores * rng.uniform(0.5, 0.9))
    color *= rng.lognormal(rng.normal(0, 0.08), 0.035, (3, 1, 1)).astype(np.float32)
    height = 0.0012 * fibre + 0.0008 * grain - 0.006 * pores
    full = np.ones_like(height)
    return Surface(u, v, height, color, 0.03 * full, full, rgb(0, 0, 0))


def color(scene: Scene, rng: Rng, severity: float) -> Surface:
    s, radius = scene.surface, damage.grow(severity, 0.05, 0.2)
    u, v = pose(s.u, s.v, at=damage.anywhere(s, rng))
    ink = INKS[rng.integers(len(INKS))]
    vessels = noise(s.u, s.v, rng, (60, 4), octaves=2)  # some draw the ink along, others hold none
    spot = blob(u, v * rng.uniform(0.5, 1.2), rng, radius, 0.6)
    spot = spot + radius * np.clip(0.4 * vessels, -0.8, 0.8)
    soaked = inside(spot, 0.4 * radius) * np.clip(0.8 - 0.25 * vessels, 0, 1)
    return s.blend((0.5 + 0.5 * severity) * soaked, color=s.color * ink)


def hole(scene: Scene, rng: Rng, severity: float) -> Surface:
    s = scene.surface
    for _ in range(rng.integers(1, 4)):
        radius = damage.grow(severity, 0.018, 0.07) * rng.uniform(0.7, 1.2)
        at = damage.anywhere(s, rng)
        u, v = pose(s.u, s.v, at=at)
        splinters = blob(u, 0.5 * v, rng, 1.1 * radius) + 0.015 * noise(s.u, s.v, rng, (80, 8))
        s = s.blend(0.4 * inside(splinters, 0.01), color=BARE, height=s.height - 0.003)
        s = damage.hole(s, rng, at, radius, BORE, roughness=0.1)
    return s


def scratch(scene: Scene, rng: Rng, severity: float) -> Surface:
    s, length = scene.surface, damage.grow(severity, 0.2, 0.9)
    width, angle = damage.grow(severity, 0.005, 0.012), rng.normal(0, 0.6)
    at = damage.anywhere(s, rng)
    return damage.scratch(s, rng, at, length, width, tone=BARE, gloss=0.1, angle=angle)


CATEGORY = Category(
    "texture",
    surface,
    Camera((Light(200, 50, 0.9), Light(20, 60, 0.4)), ambient=0.3, blur=0.003, noise=1.3, step=4),
    {"color": color, "hole": hole, "scratch": scratch},
)
