"""pill: a white, red-speckled, oblong tablet with two letters pressed in, on a black ground."""

import numpy as np

from fastflow_utils.data.sample_set import damage
from fastflow_utils.data.sample_set.camera import Camera, Light
from fastflow_utils.data.sample_set.materials import noise, specks
from fastflow_utils.data.sample_set.scene import Category, Scene
from fastflow_utils.data.sample_set.shapes import box, inside, lettering, towards
from fastflow_utils.data.sample_set.surface import Field, Point, Rng, Surface, mix, pose, rgb

WHITE, SPECK, GROUND = rgb(0.60, 0.58, 0.55), rgb(0.34, 0.06, 0.05), rgb(0.004, 0.004, 0.005)
TINTS = (rgb(0.9, 0.55, 0.2), rgb(0.75, 0.3, 0.35), rgb(0.4, 0.55, 0.8), rgb(0.45, 0.4, 0.3))
LAMPS = (Light(240, 38, 0.85), Light(60, 55, 0.2))


def surface(
    x: Field, y: Field, rng: Rng, twice: Point = (0.0, 0.0), turn: float = 0.0, filled: float = -1
) -> Surface:
    """Return a tablet along u; its letters are pressed twice, turned or filled."""
    u, v = pose(x, y, rng.normal(0, 0.03), rng.normal(0, 0.02, 2).tolist())
    away = box(u, v * (1 + 0.10 * u**2), 0.80, 0.38, 0.37)
    grain = noise(x, y, rng, 60, octaves=2)
    height = 0.20 * np.sqrt(1 - np.clip(1 + away / 0.30, 0, 1) ** 2.5) + 0.0012 * grain
    powder = pose(u, v, at=rng.uniform(-0.16, 0.16, 2).tolist())  # where the letters would fill
    du, dv = pose(u, v, turn + rng.normal(0, 0.02), rng.normal(0, 0.012, 2).tolist())
    pressed = np.zeros_like(u)
    for at in (0.0, 0.0), twice:
        pressed = np.maximum(pressed, lettering(*pose(du, dv, at=at), "FF", 0.36, 0.07, 0.05))
    pressed *= inside(filled - np.hypot(*powder), 0.1)
    height = height - 0.035 * pressed * (0.9 + 0.05 * grain)
    tone = 1 + 0.03 * noise(x, y, rng, 5, octaves=2) + 0.02 * grain
    color = WHITE * rng.lognormal(0, 0.01, (3, 1, 1)).astype(np.float32) * tone
    for count, above in ((110, 2.25), (50, 2.45)):
        color = mix(color, SPECK, 0.75 * specks(x, y, rng, count, above))
    floor = GROUND * (1 + 0.15 * noise(x, y, rng, 3))
    return Surface(u, v, height, color, 0.03 + 0 * u, inside(away, 0.012), floor)


def color(scene: Scene, rng: Rng, severity: float) -> Surface:
    s, tint = scene.surface, TINTS[rng.integers(len(TINTS))]
    radius = damage.grow(severity, 0.04, 0.12) * rng.uniform(0.8, 1.2)
    at = damage.anywhere(s, rng, s.height > 0.12)
    return damage.stain(s, rng, at, radius, tint, 0.5 + 0.4 * severity)


def crack(scene: Scene, rng: Rng, severity: float) -> Surface:
    s, radius = scene.surface, damage.grow(severity, 0.03, 0.13)
    length, width = damage.grow(severity, 0.12, 0.7), damage.grow(severity, 0.003, 0.009)
    u = rng.uniform(-0.75, 0.75)
    v = rng.choice([-1, 1]) * (0.365**2 - max(abs(u) - 0.43, 0) ** 2) ** 0.5  # on the rim
    inwards = float(np.arctan2(-v, -0.4 * u)) + rng.normal(0, 0.3)
    s = damage.break_off(s, rng, (u, v), inwards + np.pi, radius, 0.85 * WHITE)
    middle = towards((u, v), inwards, 0.45 * length)
    return damage.crack(s, rng, middle, length, width, 0.03, angle=inwards, wiggle=0.2)


def faulty_imprint(scene: Scene, rng: Rng, severity: float) -> Surface:
    faults = (
        {"twice": towards((0, 0), rng.uniform(0, 2 * np.pi), damage.grow(severity, 0.02, 0.11))},
        {"turn": rng.choice([-1, 1]) * damage.grow(severity, 0.06, 0.8)},
        {"filled": damage.grow(severity, 0.05, 0.30)},
    )
    return scene.again(**faults[rng.integers(3)])


CATEGORY = Category(
    "object",
    surface,
    Camera(LAMPS, ambient=0.4, shininess=12, occlusion=0.4, blur=0.003, noise=0.7),
    {"color": color, "crack": crack, "faulty_imprint": faulty_imprint},
)
