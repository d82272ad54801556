"""transistor: a black plastic case on three leads, which stand in a perforated board."""

import numpy as np

from fastflow_utils.sample_data.camera import Camera, Light
from fastflow_utils.sample_data.damage import crack, grow
from fastflow_utils.sample_data.materials import coats, noise
from fastflow_utils.sample_data.scene import Category, Scene
from fastflow_utils.sample_data.shapes import blob, box, inside, lettering
from fastflow_utils.sample_data.surface import Field, Point, Rng, Surface, mix, pose, rgb

BOARD, RING, HOLE = (0.20, 0.085, 0.03), (0.42, 0.22, 0.10), (0.012, 0.008, 0.006)
METAL, PLASTIC, PRINT = (0.42, 0.42, 0.41), (0.020, 0.020, 0.022), (0.13, 0.13, 0.125)
BROKEN = rgb(0.085, 0.085, 0.09)
PITCH = 0.26  # from hole to hole and from lead to lead
CASE, FEET = (0.44, 0.29), 0.49  # half its sides; where the leads reach the board


def surface(
    x: Field,
    y: Field,
    rng: Rng,
    bent: tuple[int, float] = (0, 0.0),
    turn: float = 0.0,
    shift: Point = (0.0, 0.0),
) -> Surface:
    """Return the transistor; a lead may be bent aside, or all of it turned and shifted."""
    tilt, slant, left, down = rng.normal(0, 0.02, 4).tolist()
    soft, grain, fine = (noise(x, y, rng, count) for count in (5, 50, 120))
    column, row = pose(x / PITCH, y / PITCH, tilt, (left / PITCH, (down + FEET) / PITCH))
    away = PITCH * np.hypot(column - np.rint(column), row - np.rint(row)) + 0.004 * soft
    u, v = pose(x, y, tilt + slant + turn, (left + shift[0], down + shift[1]))
    bends = rng.normal(0, 0.012, 3).tolist()
    bends[bent[0]] += bent[1]
    full, under = np.ones_like(soft), inside(box(u - 0.05, v + 0.12, *CASE, 0.05), 0.14)
    under = np.maximum(under, 0.7 * inside(_leads(u - 0.03, v - 0.03, bends), 0.05))
    ring, hole = inside(np.abs(away - 0.068) - 0.018, 0.03), inside(away - 0.052, 0.03)
    floor = coats((BOARD, full), (RING, ring * (0.8 + 0.2 * soft)), (HOLE, hole))
    floor *= rng.lognormal(0, 0.08) * (1 + 0.1 * soft + 0.06 * grain) * (1 - 0.75 * under)

    leads, case = _leads(u, v, bends), box(u, v + 0.2, *CASE, 0.02) + 0.002 * soft
    metal, body = inside(leads, 0.014), inside(case, 0.014)
    solid = inside(case - 0.02, 0.014)  # its steep side lies just outside what is seen
    du, dv, worn = rng.normal(0, [0.02, 0.012, 0.1]).tolist()
    text = lettering(u - du, v + 0.17 - dv, "W27A5", 0.11, 0.014)
    text *= np.clip(0.5 + worn + 0.15 * grain + 0.1 * soft, 0, 1)
    color = coats((METAL, full), (PLASTIC, solid), (PRINT, text))
    deep = np.clip((v - 0.2) / (FEET - 0.2), 0, 1)  # the leads vanish in the dark of their holes
    color *= (1 + 0.06 * grain) * (1 - 0.75 * deep**2)
    color += 0.02 * np.maximum(fine - 2.2, 0)  # dust
    mould = 0.006 * inside(np.hypot(u - 0.3, v + 0.38) - 0.05, 0.012)
    top = 0.2 - 0.045 * inside(-case - 0.05, 0.1) - mould + 0.0012 * fine + 0.003 * soft
    height = mix(0.05 * np.clip(-leads / 0.03, 0, 0.7), top + 0.04 * (u + v) ** 2, solid)
    gloss = mix(0.5 - 0.4 * deep, 0.1, solid)
    return Surface(u, v, height, color, gloss, np.maximum(metal, body), floor)


def _leads(u: Field, v: Field, bends: list[float]) -> Field:
    """Return the distance to three leads, broad at the case, whose feet are bent aside."""
    rise = np.maximum((v - 0.07) / (FEET - 0.07), 0) ** 1.5
    aside = [np.abs(u - (k - 1) * PITCH - bend * rise) for k, bend in enumerate(bends)]
    half = 0.034 + 0.02 * inside(v - 0.17, 0.03)
    distance: Field = np.maximum(np.minimum.reduce(aside) - half, np.abs(v) - FEET + 0.01)
    return distance


def bent_lead(scene: Scene, rng: Rng, severity: float) -> Surface:
    aside = rng.choice([-1, 1]) * grow(severity, 0.05, 0.3)
    return scene.again(bent=(rng.integers(3), aside))


def damaged_case(scene: Scene, rng: Rng, severity: float) -> Surface:
    s, radius = scene.surface, grow(severity, 0.06, 0.26)
    side, along = rng.choice([-1, 0, 1]), rng.uniform(-0.9, 0.9)
    at = (CASE[0] * (side or along), -0.2 - CASE[1] * (1 if side == 0 else along))
    u, v = pose(s.u, s.v, at=at)
    bite = blob(u, v, rng, radius, 0.45) + 0.006 * noise(s.u, s.v, rng, 50)
    rough = noise(s.u, s.v, rng, 16, octaves=4)
    cracked = crack(s, rng, at, 3 * radius, 0.004, 0.02, wiggle=0.25)
    slope, grey = s.height + 0.7 * bite + 0.02 * rough, BROKEN * (1 + 0.3 * rough)
    broken = cracked.blend(inside(bite, 0.012), height=slope, color=grey, gloss=0.03)
    return broken.blend(inside(bite + 0.5 * radius, 0.014), cover=0.0)


def misplaced(scene: Scene, rng: Rng, severity: float) -> Surface:
    far, way = grow(severity, 0.04, 0.3), rng.uniform(0, 2 * np.pi)
    turn = rng.choice([-1, 1]) * grow(severity, 0.04, 0.6)
    return scene.again(turn=turn, shift=(far * np.cos(way), far * np.sin(way)))


CATEGORY = Category(
    "object",
    surface,
    Camera(
        (Light(240, 50, 0.7), Light(20, 60, 0.3)), ambient=0.4, noise=0.6, vignette=0.3, step=3
    ),
    {"bent_lead": bent_lead, "damaged_case": damaged_case, "misplaced": misplaced},
)
