"""wood: oak veneer, its grain upright, with yearly rings and pores."""

import numpy as np

from fastflow_utils.data.sample_set import damage
from fastflow_utils.data.sample_set.camera import Camera, Light
from fastflow_utils.data.sample_set.materials import noise, rings
from fastflow_utils.data.sample_set.scene import Category, Scene
from fastflow_utils.data.sample_set.shapes import blob, inside
from fastflow_utils.data.sample_set.surface import Field, Rng, Surface, mix, pose, rgb

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
    vessels = noise(s.u, s.v, rng, (70, 3), octaves=3)  # some draw the ink along, others hold none
    spot = blob(u, v * rng.uniform(0.6, 1.4), rng, radius, 0.7) / radius
    faint = np.clip(0.55 - 1.2 * spot - 0.2 * vessels, 0, 1.2)  # it fades outwards
    soaked = (0.5 + 0.5 * severity) * faint * np.clip(0.9 - 0.4 * vessels, 0, 1)
    return s.blend(np.minimum(soaked, 1), color=s.color * INKS[rng.integers(len(INKS))])


def hole(scene: Scene, rng: Rng, severity: float) -> Surface:
    s = scene.surface
    for _ in range(rng.integers(1, 4)):
        radius = damage.grow(severity, 0.018, 0.07) * rng.uniform(0.7, 1.2)
        at = damage.anywhere(s, rng)
        u, v = pose(s.u, s.v, at=at)
        torn = np.hypot(u, 0.5 * v) - radius + 0.03 * noise(s.u, s.v, rng, (90, 5))
        s = s.blend(0.6 * inside(torn, 0.05), color=1.25 * s.color, height=s.height - 0.004)
        deep = inside(np.hypot(u + 0.2 * radius, v + 0.1 * radius) - 0.8 * radius, 0.5 * radius)
        s = damage.hole(s, rng, at, radius, mix(0.2 * s.color, BORE, deep), roughness=0.25)
    return s


def scratch(scene: Scene, rng: Rng, severity: float) -> Surface:
    s, length = scene.surface, damage.grow(severity, 0.2, 0.9)
    width, angle = damage.grow(severity, 0.005, 0.012), rng.normal(0, 0.6)
    at = damage.anywhere(s, rng)
    cut = damage.scratch(s, rng, at, length, width, tone=BARE, gloss=0.05, angle=angle)
    pressed = np.clip(0.8 + 0.6 * noise(s.u, s.v, rng, (50, 8)), 0, 1)  # not everywhere alike
    return s.blend(pressed, color=cut.color, height=cut.height, gloss=cut.gloss)


CATEGORY = Category(
    "texture",
    surface,
    Camera((Light(200, 50, 0.9), Light(20, 60, 0.4)), ambient=0.3, blur=0.003, noise=1.3, step=4),
    {"color": color, "hole": hole, "scratch": scratch},
)
