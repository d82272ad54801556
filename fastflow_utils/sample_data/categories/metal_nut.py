"""metal_nut: a four-winged nut of stamped, greenish steel on black, turned at random."""

import numpy as np

from fastflow_utils.sample_data import damage
from fastflow_utils.sample_data.camera import Camera, Light
from fastflow_utils.sample_data.materials import around, coats, noise
from fastflow_utils.sample_data.scene import Category, Scene
from fastflow_utils.sample_data.shapes import bend, box, inside, join, sector
from fastflow_utils.sample_data.surface import Field, Point, Rng, Surface, pose, rgb

STEEL, RIM, COLLAR = (0.125, 0.18, 0.145), (0.20, 0.22, 0.22), (0.055, 0.07, 0.085)
BARE, FLOOR, THREAD = rgb(0.40, 0.36, 0.30), rgb(0.0056, 0.0056, 0.0091), rgb(0.03, 0.04, 0.05)
PAINTS = (rgb(0.006, 0.006, 0.007), rgb(0.02, 0.03, 0.14), rgb(0.2, 0.02, 0.02))


def surface(x: Field, y: Field, rng: Rng, *, bent: float = 0, toward: float = 0) -> Surface:
    """Return the nut; the wing in the direction `toward` is bent by `bent` radians."""
    place = pose(x, y, rng.uniform(-np.pi, np.pi), rng.normal(0, 0.015, 2).tolist())
    out, aside = pose(*place, toward)
    out, below = bend(out, 0.51, bent)
    u, v = pose(out, aside, -toward)
    patches, grain = noise(x, y, rng, 5, octaves=3), noise(x, y, rng, 180)

    r = np.hypot(u, v)
    s, t = pose(*sector(u, v, 4), 1.98)
    notch = box(s + 1.04 + 0.4 * (t + 0.55), t + 1.47, 0.93, 0.93, 0.06)
    body = 0.003 * patches - join(0.795 - r, notch, 0.06)
    shift_u, shift_v = rng.normal(0, 0.03, 2).tolist()
    away = np.hypot(u - shift_u, v - shift_v)  # stamping leaves arcs not quite around the hole
    wing = inside(0.57 - away, 0.08)
    arcs = around(rng, 140, 4 * away) ** 3 * (0.1 + 0.9 * wing) * np.clip(1 + patches, 0, 2)

    height = 0.04 * np.sqrt(np.clip(1 + body / 0.055, 0, 1)) - 0.085 * wing * (r - 0.55)
    height -= 0.03 * np.exp(-((notch / 0.065) ** 2)) * wing
    height -= 0.1 * np.clip((0.305 - r) / 0.09, 0, 1) ** 2
    height += 0.005 * arcs + 0.006 * patches - below
    tone = (0.32 + 0.45 * wing + 0.6 * arcs) * (1 + (0.19 - 0.1 * wing) * grain + 0.15 * patches)
    edge = inside(np.abs(body + 0.014) - 0.01, 0.02) * np.clip(0.7 + 0.5 * patches, 0.2, 1)
    step = inside(np.abs(away - 0.555) - 0.003, 0.012) * np.clip(0.25 + 0.5 * patches, 0, 0.5)
    lip = inside(np.abs(r - 0.296) - 0.004, 0.012)
    bright = np.maximum(np.maximum(edge, step), lip)
    color = coats((STEEL, np.maximum(tone, 0.1)), (COLLAR, inside(r - 0.29, 0.015)), (RIM, bright))
    floor = FLOOR + THREAD * inside(np.abs(r - 0.2) - 0.004, 0.012)
    gloss = 0.1 + 0.6 * wing * np.clip(patches + 0.2, 0, 1)
    cover = inside(np.maximum(body, 0.22 - r), 0.015)
    return Surface(*place, height, color, gloss, cover, floor)


def bent(scene: Scene, rng: Rng, severity: float) -> Surface:
    toward = np.pi / 2 * rng.integers(4) + 1.15 + rng.normal(0, 0.1)
    angle = damage.grow(severity, 0.35, 1.35) * rng.choice([-1, 1])
    return scene.again(bent=angle, toward=float(toward))


def _face(s: Surface, rng: Rng) -> Point:
    """Return a random point between the collar and the ends of the wings."""
    return damage.anywhere(s, rng, (np.abs(np.hypot(s.u, s.v) - 0.5) < 0.15) & (s.cover > 0.9))


def color(scene: Scene, rng: Rng, severity: float) -> Surface:
    s, radius = scene.surface, damage.grow(severity, 0.03, 0.2)
    return damage.paint(s, rng, _face(s, rng), radius, PAINTS[rng.integers(len(PAINTS))])


def scratch(scene: Scene, rng: Rng, severity: float) -> Surface:
    s, length = scene.surface, damage.grow(severity, 0.15, 0.6)
    width = damage.grow(severity, 0.005, 0.012)
    return damage.scratch(s, rng, _face(s, rng), length, width, tone=BARE, gloss=0.6, strokes=7)


LAMPS = (Light(230, 35, 0.7), Light(50, 35, 0.6), Light(140, 30, 0.3))
CATEGORY = Category(
    "object",
    surface,
    Camera(LAMPS, ambient=0.5, shininess=20, noise=0.62, vignette=0.05),
    {"bent": bent, "color": color, "scratch": scratch},
)
