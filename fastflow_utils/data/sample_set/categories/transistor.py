"""transistor: a black plastic case on three leads, which stand in a perforated board."""

import numpy as np

from fastflow_utils.data.sample_set.camera import Camera, Light
from fastflow_utils.data.sample_set.damage import anywhere, break_off, crack, grow
from fastflow_utils.data.sample_set.materials import coats, noise
from fastflow_utils.data.sample_set.scene import Category, Scene
from fastflow_utils.data.sample_set.shapes import box, inside, lattice, lettering
from fastflow_utils.data.sample_set.surface import Field, Point, Rng, Surface, mix, pose, rgb

BOARD, RING, HOLE = (0.20, 0.085, 0.03), (0.42, 0.22, 0.10), (0.012, 0.008, 0.006)
METAL, PLASTIC, PRINT = (0.42, 0.42, 0.41), (0.020, 0.020, 0.022), (0.13, 0.13, 0.125)
BROKEN = rgb(0.085, 0.085, 0.09)
PITCH = 0.26  # from hole to hole and from lead to lead
CASE, FEET = (0.44, 0.29), 0.49  # half its sides; where the leads reach the board


def surface(
    x: Field, y: Field, rng: Rng, bent: Field | float = 0, turn: float = 0, shift: Point = (0, 0)
) -> Surface:
    """Return the transistor; its leads may be bent aside, or all of it turned and shifted."""
    tilt, slant, left, down = rng.normal(0, 0.02, 4).tolist()
    soft, grain, fine = (noise(x, y, rng, count) for count in (5, 50, 120))
    away = lattice(*pose(x, y, tilt, (left, down + FEET)), PITCH) + 0.004 * soft
    ring, hole = inside(away - 0.086, 0.03), inside(away - 0.052, 0.03)
    floor = coats((BOARD, 1 + 0 * soft), (RING, ring * (0.8 + 0.2 * soft)), (HOLE, hole))
    floor *= rng.lognormal(0, 0.08) * (1 + 0.1 * soft + 0.06 * grain)

    u, v = pose(x, y, tilt + slant + turn, (left + shift[0], down + shift[1]))
    bends = (rng.normal(0, 0.012, 3) + bent).tolist()
    leads, case = _leads(u, v, bends), box(u, v + 0.2, *CASE, 0.02) + 0.002 * soft
    floor *= 1 - 0.75 * inside(box(u - 0.05, v + 0.12, *CASE, 0.05), 0.14)  # the shadows
    floor *= 1 - 0.5 * inside(_leads(u - 0.03, v - 0.03, bends), 0.05)
    solid = inside(case - 0.02, 0.014)  # its steep side lies just outside what is seen
    text = lettering(u, v + 0.17, "W27A5", 0.11, 0.014) * np.clip(0.5 + 0.2 * grain, 0, 1)
    deep = np.clip((v - 0.2) / (FEET - 0.2), 0, 1)  # the leads vanish in the dark of their holes
    color = coats((METAL, 1 - 0.75 * deep**2), (PLASTIC, solid), (PRINT, text))
    top = 0.2 - 0.045 * inside(-case - 0.05, 0.1) + 0.0012 * fine + 0.003 * soft
    height = mix(0.05 * np.clip(-leads / 0.03, 0, 0.7), top, solid)
    gloss = mix(0.5 - 0.4 * deep, 0.1, solid)
    return Surface(u, v, height, color, gloss, inside(np.minimum(leads, case), 0.014), floor)


def _leads(u: Field, v: Field, bends: list[float]) -> Field:
    """Return the distance to three leads, broad at the case, whose feet are bent aside."""
    rise = np.maximum((v - 0.07) / (FEET - 0.07), 0) ** 1.5
    aside = [np.abs(u - (k - 1) * PITCH - bends[k] * rise) for k in range(3)]
    half = 0.034 + 0.02 * inside(v - 0.17, 0.03)
    distance: Field = np.maximum(np.minimum.reduce(aside) - half, np.abs(v) - FEET + 0.01)
    return distance


def bent_lead(scene: Scene, rng: Rng, severity: float) -> Surface:
    aside = rng.choice([-1, 1]) * grow(severity, 0.05, 0.3)
    return scene.again(bent=aside * np.eye(3)[rng.integers(3)])


def damaged_case(scene: Scene, rng: Rng, severity: float) -> Surface:
    s, radius = scene.surface, grow(severity, 0.06, 0.26)
    rim = np.abs(box(s.u, s.v + 0.2, *CASE)) < 0.02
    at = anywhere(s, rng, rim & (s.v < 0))
    cracked = crack(s, rng, at, 3 * radius, 0.004, 0.02, wiggle=0.25)
    return break_off(cracked, rng, at, np.arctan2(at[1] + 0.2, at[0]), 1.3 * radius, BROKEN)


def misplaced(scene: Scene, rng: Rng, severity: float) -> Surface:
    far, way = grow(severity, 0.04, 0.3), rng.uniform(0, 2 * np.pi)
    turn = rng.choice([-1, 1]) * grow(severity, 0.04, 0.6)
    return scene.again(turn=turn, shift=(far * np.cos(way), far * np.sin(way)))


CATEGORY = Category(
    "object",
    surface,
    Camera((Light(240, 50, 0.7), Light(20, 60, 0.3)), ambient=0.4, noise=0.6, step=3),
    {"bent_lead": bent_lead, "damaged_case": damaged_case, "misplaced": misplaced},
)
