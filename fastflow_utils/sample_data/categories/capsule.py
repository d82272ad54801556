"""capsule: a glossy two-part capsule, black and orange-red, that has rolled a little."""

import numpy as np

from fastflow_utils.sample_data import damage
from fastflow_utils.sample_data.camera import Camera, Light
from fastflow_utils.sample_data.materials import noise
from fastflow_utils.sample_data.scene import Category, Scene
from fastflow_utils.sample_data.shapes import inside, lettering, segment
from fastflow_utils.sample_data.surface import Field, Point, Rng, Surface, mix, pose, rgb

BLACK, RED = rgb(0.005, 0.005, 0.007), rgb(0.300, 0.065, 0.038)
PAPER, INK, POWDER = rgb(0.78, 0.76, 0.77), rgb(0.55, 0.40, 0.38), rgb(0.60, 0.55, 0.48)


def surface(
    x: Field, y: Field, rng: Rng, smear: Point = (0.0, 0.0), turn: float = 0.0, fat: float = 0.0
) -> Surface:
    """Return a capsule along u; its print is smeared by a vector, turned or fattened."""
    u, v = pose(x, y, rng.normal(0, 0.025), rng.normal(0, 0.02, 2).tolist())
    cap = inside(u - rng.normal(0.02, 0.012), 0.012)
    radius = 0.255 + 0.012 * cap
    away = segment(u, v, 1.18)
    dimples = 0.0020 * noise(x, y, rng, (14, 5), octaves=2)
    height = np.sqrt(np.maximum(radius**2 - away**2, 0)) + dimples
    color = mix(RED * rng.lognormal(0, 0.06), BLACK * rng.lognormal(0, 0.1), cap)
    wear = np.clip(1 - 0.12 * noise(x, y, rng, 60), 0.5, 1)
    arc = 0.26 * np.arcsin(np.clip(v / 0.26, -1, 1))  # the print goes around the shell
    for text, at, tall, weight, strength in (
        ("500", (0.38, 0.26 * rng.uniform(-0.8, 0.8)), 0.125, 0.03, 0.75),
        ("FL0W", (-0.36, 0.26 * rng.uniform(-2.5, 2.5)), 0.09, 0.016, 0.2),
    ):
        for step in np.linspace(0, 1, 9 if any(smear) else 1).tolist():
            du, dv = pose(u, arc, turn, (at[0] + step * smear[0], at[1] + step * smear[1]))
            ink = lettering(du / 1.25, dv, text, tall, weight + fat)
            color = mix(color, INK, ink * wear * strength * (1 - 0.85 * step))
    paper = PAPER * (1 + 0.012 * noise(x, y, rng, 5))
    speck = inside(3.3 - noise(x, y, rng, 90), 0.5)
    beside, below = np.maximum(away - 0.26, 0), np.clip(v / 0.3, -1, 1)
    shade = (0.36 + 0.14 * below) * np.exp(-beside / (0.13 + 0.05 * below))
    floor = paper * (1 - 0.4 * speck) * (1 - shade * (1 - 0.25 * RED * inside(-u, 0.8)))
    return Surface(u, v, height, color, 0.09 + 0 * u, inside(away - radius, 0.012), floor)


def crack(scene: Scene, rng: Rng, severity: float) -> Surface:
    s = scene.surface
    at, angle = damage.anywhere(s, rng, s.height > 0.14), rng.normal(0, 0.5)  # along the axis
    length, width = damage.grow(severity, 0.12, 0.7), damage.grow(severity, 0.004, 0.013)
    chips = POWDER * np.clip(0.7 + 0.3 * noise(s.u, s.v, rng, 40), 0.2, 1)
    return damage.crack(s, rng, at, length, width, 0.03, angle=angle, wiggle=0.25, chips=chips)


def faulty_imprint(scene: Scene, rng: Rng, severity: float) -> Surface:
    length, way = damage.grow(severity, 0.02, 0.16), rng.uniform(0, 2 * np.pi)
    faults = (
        {"smear": (length * np.cos(way), length * np.sin(way))},
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
    Camera(
        (Light(265, 45, 0.75), Light(95, 60, 0.35)),
        ambient=0.4,
        shininess=180,
        blur=0.003,
        noise=0.75,
        tint=0.012,
    ),
    {"crack": crack, "faulty_imprint": faulty_imprint, "poke": poke},
)
