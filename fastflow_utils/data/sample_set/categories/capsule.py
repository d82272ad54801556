"""capsule: a glossy two-part capsule, black and orange-red, that has rolled a little."""

import numpy as np

from fastflow_utils.data.sample_set import damage
from fastflow_utils.data.sample_set.camera import Camera, Light
from fastflow_utils.data.sample_set.materials import noise, specks
from fastflow_utils.data.sample_set.scene import Category, Scene
from fastflow_utils.data.sample_set.shapes import inside, lettering, segment, towards
from fastflow_utils.data.sample_set.surface import Field, Point, Rng, Surface, mix, pose, rgb

BLACK, RED = rgb(0.005, 0.005, 0.007), rgb(0.300, 0.065, 0.038)
PAPER, INK, POWDER = rgb(0.78, 0.76, 0.77), rgb(0.55, 0.40, 0.38), rgb(0.60, 0.55, 0.48)
LAMPS = (Light(265, 45, 0.75), Light(95, 60, 0.35))


def surface(
    x: Field, y: Field, rng: Rng, smear: Point = (0.0, 0.0), turn: float = 0.0, fat: float = 0.0
) -> Surface:
    """Return a capsule along u; its number is smeared by a vector, turned or fattened."""
    u, v = pose(x, y, rng.normal(0, 0.025), rng.normal(0, 0.02, 2).tolist())
    cap = inside(u - rng.normal(0.02, 0.012), 0.012)
    radius, away = 0.255 + 0.012 * cap, segment(u, v, 1.18)
    height = np.sqrt(np.maximum(radius**2 - away**2, 0))
    height += 0.002 * noise(x, y, rng, (14, 5), octaves=2)
    color = mix(RED * rng.lognormal(0, 0.06), BLACK * rng.lognormal(0, 0.1), cap)
    # The print goes around the shell; it stretches along it, and is a little worn.
    wide, arc = u / 1.25, 0.26 * np.arcsin(np.clip(v / 0.26, -1, 1))
    ink = np.clip(1 - 0.12 * noise(x, y, rng, 60), 0.5, 1)
    name = lettering(wide + 0.29, arc - rng.uniform(-0.65, 0.65), "FLOW", 0.09, 0.016)
    color = mix(color, INK, 0.2 * ink * name)
    at = (0.3, rng.uniform(-0.2, 0.2))
    for step in np.linspace(0, 1, 9 if any(smear) else 1).tolist():
        du, dv = pose(wide, arc, turn, (at[0] + step * smear[0], at[1] + step * smear[1]))
        number = lettering(du, dv, "500", 0.125, 0.03 + fat)
        color = mix(color, INK, 0.75 * ink * number * (1 - 0.85 * step))
    lit, beside = np.clip(v / 0.3, -1, 1), np.maximum(away - 0.26, 0)
    shade = (0.36 + 0.14 * lit) * np.exp(-beside / (0.13 + 0.05 * lit))  # a lamp stands above
    paper = 1 + 0.012 * noise(x, y, rng, 5) - 0.4 * specks(x, y, rng, 90, 3.3)
    floor = PAPER * paper * (1 - shade)
    return Surface(u, v, height, color, 0.09 + 0 * u, inside(away - radius, 0.012), floor)


def crack(scene: Scene, rng: Rng, severity: float) -> Surface:
    s = scene.surface
    at, angle = damage.anywhere(s, rng, s.height > 0.14), rng.normal(0, 0.5)  # along the axis
    length, width = damage.grow(severity, 0.12, 0.7), damage.grow(severity, 0.004, 0.013)
    chips = POWDER * np.clip(0.7 + 0.3 * noise(s.u, s.v, rng, 40), 0.2, 1)
    return damage.crack(s, rng, at, length, width, 0.03, angle=angle, wiggle=0.25, chips=chips)


def faulty_imprint(scene: Scene, rng: Rng, severity: float) -> Surface:
    faults = (
        {"smear": towards((0, 0), rng.uniform(0, 2 * np.pi), damage.grow(severity, 0.02, 0.16))},
        {"turn": rng.choice([-1, 1]) * damage.grow(severity, 0.1, 1.0)},
        {"fat": damage.grow(severity, 0.008, 0.05)},
    )
    return scene.again(**faults[rng.integers(3)])


def poke(scene: Scene, rng: Rng, severity: float) -> Surface:
    s, radius = scene.surface, damage.grow(severity, 0.03, 0.12)
    at = damage.anywhere(s, rng, s.height > 0.17)
    s = damage.dent(s, at, 1.4 * radius, 0.5 * radius)
    s = damage.hole(s, rng, at, 0.42 * radius, 0.7 * POWDER, roughness=0.8, hold=0)
    return damage.hole(s, rng, at, 0.3 * radius, BLACK, roughness=0.8, hold=0)


CATEGORY = Category(
    "object",
    surface,
    Camera(LAMPS, ambient=0.4, shininess=180, blur=0.003, noise=0.75, tint=0.012),
    {"crack": crack, "faulty_imprint": faulty_imprint, "poke": poke},
)
