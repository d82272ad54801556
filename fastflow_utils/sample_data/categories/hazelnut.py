"""hazelnut: a ripe hazelnut with its rough cap, turned and tilted at random, on black."""

import numpy as np

from fastflow_utils.sample_data import damage
from fastflow_utils.sample_data.camera import Camera, Light
from fastflow_utils.sample_data.materials import around, noise
from fastflow_utils.sample_data.scene import Category, Scene
from fastflow_utils.sample_data.shapes import blob, glyphs, inside
from fastflow_utils.sample_data.surface import Field, Point, Rng, Surface, mix, pose, rgb

SHELL, STRIPE = rgb(0.33, 0.092, 0.040), rgb(0.075, 0.023, 0.016)
FUZZ, CAP, PIT = rgb(0.38, 0.23, 0.15), rgb(0.25, 0.135, 0.080), rgb(0.055, 0.030, 0.024)
WOOD, KERNEL, INK = rgb(0.62, 0.42, 0.25), rgb(0.045, 0.017, 0.010), rgb(0.75, 0.72, 0.66)
TABLE = rgb(0.0119, 0.0119, 0.0152)
AROUND = 256 / np.pi  # bumps of a noise that closes seamlessly around the nut
MARKS = ("A", "27", "K5", "L1", "7A")


def surface(x: Field, y: Field, rng: Rng) -> Surface:
    """Return a nut; u runs from its cap to its tip, which leans towards or from the camera."""
    u, v = pose(x, y, rng.uniform(-np.pi, np.pi), rng.normal(0, 0.04, 2).tolist())
    size, slim = rng.lognormal([-0.48, 0], [0.05, 0.04]).tolist()
    tilt, tip, flat, big = rng.uniform([-0.75, 0.07, 0, 0.5], [0.75, 0.16, 0.08, 0.75]).tolist()
    sin, cos = float(np.sin(tilt)), float(np.cos(tilt))
    # A ball whose outline is drawn out to a tip, flattened at the cap and a little lumpy.
    off = np.arctan2(np.abs(v), u)
    outline = 1 + tip * cos * np.exp(-((off / 0.33) ** 2)) - flat * inside(2.6 - off, 0.5)
    outline = size * outline * (1 + 0.018 * noise(x, y, rng, 3))
    p, s = u / outline * slim, v / outline
    q = np.hypot(p, s)
    z = np.sqrt(np.maximum(1 - q * q, 0))
    north = cos * p + sin * z  # from -1 at the cap to 1 at the tip
    east = np.arctan2(s, cos * z - sin * p)
    turn = ((east / (2 * np.pi) + 0.5) * 1023.9).astype(np.int16)
    girth = np.sqrt(np.maximum(1 - north * north, 0))  # ribs and fibres fade where they meet
    fibre = noise(east, north, rng, (AROUND, 9)) * girth
    mottle, grain = noise(x, y, rng, 6, octaves=3), noise(x, y, rng, 70, octaves=2)

    dark, warm, worn, pale = rng.uniform([0.35, -0.1, 0.2, 0.8], [0.75, 0.1, 0.9, 1.15]).tolist()
    wave = np.linspace(0, 2 * np.pi * rng.integers(24, 36), 1024, dtype=np.float32)
    ribs = 0.5 - 0.5 * np.cos(wave + 9 * around(rng, 9))
    ribs = (ribs * (0.2 + 0.8 * around(rng, 24)) + 0.4 * around(rng, 14))[turn] * girth
    tone = dark * ribs + 0.12 * fibre + 0.18 * mottle + 0.06 * grain
    color = mix(SHELL * rgb(1, 1 + warm, 1 + warm), STRIPE, tone)
    scrapes = np.clip(np.maximum(fibre + mottle, grain) - 2.5, 0, 1)
    fuzz = np.clip(2.5 * north - 1.8 + 0.25 * fibre + 0.35 * mottle, 0, 1)
    color = mix(color, FUZZ, worn * np.maximum(0.55 * fuzz, 0.6 * scrapes))
    border = -big + 0.05 * around(rng, 60) + 0.1 * around(rng, 7)
    past = north - border[turn]
    cap, rim = inside(past, 0.03), np.exp(-(((past - 0.01) / 0.022) ** 2))
    rough = 0.45 + 0.22 * fibre + 0.16 * grain + 0.1 * mottle
    color = mix(color, mix(PIT, pale * CAP, rough), cap)
    color = mix(color, FUZZ, np.clip(rim * (1.5 * rough + 0.4 * mottle), 0, 0.85))
    height = size * z + cap * 0.015 * rough + 0.006 * ribs * (1 - cap)
    cover = inside((q - 1) * size, 0.012)
    return Surface(u, v, height, np.maximum(color, 0.01), 0.02 * (1 - cap), cover, TABLE)


def _middle(s: Surface, rng: Rng) -> Point:
    return damage.anywhere(s, rng, np.hypot(s.u, s.v) < 0.35)


def crack(scene: Scene, rng: Rng, severity: float) -> Surface:
    s, length = scene.surface, damage.grow(severity, 0.25, 1.0)
    width = damage.grow(severity, 0.004, 0.025)
    cracked = damage.crack(s, rng, _middle(s, rng), length, width, depth=0.03, wiggle=0.25)
    lip = np.clip((cracked.height - s.height) / 0.006, 0, 1) * s.cover
    bare = np.clip(0.4 + 0.5 * noise(s.u, s.v, rng, 14), 0, 0.9)  # here and there the pale wood
    return cracked.blend(lip * bare, color=WOOD)


def hole(scene: Scene, rng: Rng, severity: float) -> Surface:
    s, radius = scene.surface, damage.grow(severity, 0.05, 0.25)
    u, v = pose(s.u, s.v, rng.uniform(0, 2 * np.pi), _middle(s, rng))
    grain = noise(u, v, rng, 30, octaves=2)
    broken = blob(u, v * rng.uniform(1, 1.5), rng, radius, roughness=0.45) + 0.006 * grain
    wall = (0.015 + 0.12 * radius) * np.clip(
        0.55 + 0.5 * u / radius, 0.15, 1
    )  # we look in from one side
    s = s.blend(inside(broken, 0.012), color=WOOD * (1 + 0.15 * grain), gloss=0)
    deep = broken + wall
    kernel = KERNEL * (1 + 0.25 * grain) * (0.1 + inside(deep + 0.35 * radius, 0.4 * radius))
    return s.blend(inside(deep, 0.012), color=kernel, height=s.height - 0.04 + 0.003 * grain)


def print_(scene: Scene, rng: Rng, severity: float) -> Surface:
    s, size = scene.surface, damage.grow(severity, 0.1, 0.4)
    u, v = pose(s.u, s.v, rng.uniform(0, 2 * np.pi), _middle(s, rng))
    stroke = glyphs(u, v, str(rng.choice(MARKS)), size) - size * 0.07
    ink = np.clip(0.75 + 0.3 * noise(u, v, rng, 40, octaves=2), 0, 0.9)  # it takes unevenly
    return s.blend(ink * inside(stroke, 0.02) * s.cover, color=INK)


CATEGORY = Category(
    "object",
    surface,
    Camera(
        (Light(250, 50, 0.75), Light(20, 50, 0.3), Light(130, 50, 0.25)),
        ambient=0.2,
        shininess=9,
        blur=0.003,
        noise=0.6,
        vignette=0.05,
    ),
    {"crack": crack, "hole": hole, "print": print_},
)
