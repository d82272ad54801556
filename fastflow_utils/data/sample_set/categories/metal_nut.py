"""metal_nut: a four-winged nut of stamped, greenish steel on black, turned at random."""

import numpy as np

from fastflow_utils.data.sample_set import damage
from fastflow_utils.data.sample_set.camera import Camera, Light
from fastflow_utils.data.sample_set.materials import around, coats, noise
from fastflow_utils.data.sample_set.scene import Category, Scene
from fastflow_utils.data.sample_set.shapes import bend, bore, box, inside, join, sector
from fastflow_utils.data.sample_set.surface import Field, Point, Rng, Surface, pose, rgb

STEEL, RIM, COLLAR = (0.130, 0.168, 0.130), (0.21, 0.22, 0.24), (0.10, 0.115, 0.14)
BARE, FLOOR, THREAD = rgb(0.40, 0.36, 0.30), rgb(0.0056, 0.0056, 0.0091), rgb(0.05, 0.06, 0.07)
DARK = (0.02, 0.025, 0.035)
PAINTS = (rgb(0.006, 0.006, 0.007), rgb(0.02, 0.03, 0.14), rgb(0.2, 0.02, 0.02))


def surface(x: Field, y: Field, rng: Rng, *, bent: float = 0, toward: float = 0) -> Surface:
    """Return the nut; the wing in the direction `toward` is bent by `bent` radians."""
    place = pose(x, y, rng.uniform(-np.pi, np.pi), rng.normal(0, 0.015, 2).tolist())
    out, aside = pose(*place, toward)
    out, below = bend(out, 0.55 + 0.2 * aside, bent)
    u, v = pose(out, aside + np.clip(below, -0.3, 0.3), -toward)
    patches, grain = noise(x, y, rng, 5, octaves=3), noise(x, y, rng, 200)

    r, turn = np.hypot(u, v), np.arctan2(v, u)
    number = np.floor(turn * (2 / np.pi)).astype(np.int8)  # of the wing
    s, t = pose(*sector(u, v, 4), 1.98)
    gap = s + 1.04 + 0.4 * (t + 0.55)
    notch, under = (box(gap + wall, t + 1.47, 0.93, 0.93, 0.09) for wall in (0, 0.05))
    body, side = (-join(0.795 - r - 0.003 * patches, cut, 0.02) for cut in (notch, under))
    shift = rng.normal(0, 0.03, (2, 4)).astype(np.float32)[:, number]
    away = np.hypot(u - shift[0], v - shift[1])  # stamping leaves arcs not quite around the hole
    wing = inside(0.57 - away, 0.08)
    arcs = around(rng, 140, 4 * away + 1.5 * number) ** 3 * np.clip(0.8 + 0.7 * patches, 0, 1.5)
    sheen = 0.4 * around(rng, 11, turn) + 0.12 * patches + 0.4 * wing * around(rng, 11, turn)
    sheen += 1.2 * wing * (np.clip(9 * np.abs(r - 0.69), 0, 1) - 0.5) * around(rng, 15, turn)

    height = 0.02 * np.clip(1 + body / 0.055, 0, 1) ** 2 - 0.085 * wing * (r - 0.55) - below
    height += 0.005 * arcs + 0.006 * patches - 0.1 * np.clip((0.305 - r) / 0.09, 0, 1) ** 2
    tone = 0.24 + 0.75 * sheen + (0.04 + 0.165 * sheen) * grain + (0.06 + 0.7 * wing) * arcs
    face = (DARK, inside(notch, 0.03)), (RIM, 0.9 * inside(np.abs(notch + 0.01) - 0.015, 0.03))
    bevel = (COLLAR, inside(r - 0.295, 0.015)), (DARK, inside(r - 0.255, 0.07))
    edge = np.minimum(np.abs(r - 0.3), np.abs(body + 0.004))
    bright = inside(edge - 0.005, 0.014) * np.clip(0.7 + 0.4 * patches, 0.2, 1)
    color = coats((STEEL, np.clip(tone, 0.08, 2)), *face, *bevel, (RIM, bright))
    color *= np.exp(-np.clip(15 * below, -1.1, 0.9))  # bent down it is dark, bent up it flashes
    gloss = 0.1 + 0.6 * wing * np.clip(patches + 0.3, 0, 1.2)
    cover = inside(np.maximum(side, 0.22 - r), 0.015)
    return Surface(*place, height, color, gloss, cover, FLOOR + THREAD * bore(u, v, 0.215, 0.026))


def bent(scene: Scene, rng: Rng, severity: float) -> Surface:
    toward = np.pi / 2 * rng.integers(4) + 1.15 + rng.normal(0, 0.1)
    angle = damage.grow(severity, 0.4, 1.3) * rng.choice([-1, 1])
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


LAMPS = (Light(230, 35, 0.8), Light(50, 35, 0.5), Light(140, 30, 0.3))
CATEGORY = Category(
    "object",
    surface,
    Camera(LAMPS, ambient=0.5, shininess=20, noise=0.59, vignette=0.05),
    {"bent": bent, "color": color, "scratch": scratch},
)
