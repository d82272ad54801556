"""hazelnut: a ripe hazelnut with its rough cap, turned and tilted at random, on black."""

import numpy as np

from fastflow_utils.data.sample_set import damage
from fastflow_utils.data.sample_set.camera import Camera, Light
from fastflow_utils.data.sample_set.materials import around, coats, noise
from fastflow_utils.data.sample_set.scene import Category, Scene
from fastflow_utils.data.sample_set.shapes import globe, inside, lettering
from fastflow_utils.data.sample_set.surface import Field, Point, Rng, Surface, mix, pose, rgb

SHELL, STRIPE, FUZZ = (0.33, 0.092, 0.040), (0.075, 0.023, 0.016), (0.38, 0.23, 0.15)
CAP, PIT = (0.25, 0.135, 0.080), (0.055, 0.030, 0.024)
WOOD, KERNEL, TABLE = rgb(0.56, 0.36, 0.20), rgb(0.080, 0.030, 0.018), rgb(0.012, 0.012, 0.015)
INKS = (rgb(0.75, 0.72, 0.66), rgb(0.45, 0.38, 0.40), rgb(0.02, 0.02, 0.03), rgb(0.04, 0.06, 0.25))


def surface(x: Field, y: Field, rng: Rng) -> Surface:
    """Return a nut; u runs from its cap to its tip, which leans towards or from the camera."""
    u, v = pose(x, y, rng.uniform(-np.pi, np.pi), rng.normal(0, 0.04, 2).tolist())
    tilt, warm = rng.uniform(-0.75, 0.75), rng.uniform(0.9, 1.1)
    mottle, grain = noise(x, y, rng, 6, octaves=3), noise(x, y, rng, 70, octaves=2)
    # A ball, a little lumpy, whose outline is drawn out to a tip and flattened at the cap.
    off = np.arctan2(np.abs(v), u)
    tip = rng.uniform(0.07, 0.16) * float(np.cos(tilt)) * np.exp(-((off / 0.33) ** 2))
    flat = rng.uniform(0, 0.08) * inside(2.6 - off, 0.5)
    outline = rng.uniform(0.56, 0.68) * (1 + tip - flat + 0.018 * noise(x, y, rng, 3))
    cover = inside(np.hypot(u, v) - outline, 0.012)
    ball, north, east = globe(u / outline, v / outline, tilt)

    girth = np.sqrt(1 - north**2)  # ribs and fibres fade where they meet
    ribs = 0.5 - 0.5 * np.cos(int(rng.integers(24, 36)) * east + 9 * around(rng, 9, east))
    ribs = (ribs * (0.2 + 0.8 * around(rng, 24, east)) + 0.4 * around(rng, 14, east)) * girth
    fibre = noise(east, north, rng, (256 / np.pi, 9)) * girth  # closes around the nut
    dark = rng.uniform(0.35, 0.75) * ribs + 0.12 * fibre + 0.18 * mottle + 0.06 * grain
    scrapes = 0.6 * np.clip(np.maximum(fibre + mottle, grain) - 2.5, 0, 1)
    fuzz = 0.55 * np.clip(2.5 * north - 1.8 + 0.25 * fibre + 0.35 * mottle, 0, 1)
    worn = rng.uniform(0.2, 0.9) * np.maximum(fuzz, scrapes)
    past = north + rng.uniform(0.4, 0.65) + 0.07 * around(rng, 9, east) + 0.02 * (mottle + fibre)
    cap, frayed = inside(past, 0.05), np.clip(1.5 * around(rng, 19, east) - 0.4, 0, 1)
    rim = frayed * np.exp(-(((past - 0.005) / 0.022) ** 2))
    rough = 0.45 + 0.22 * fibre + 0.13 * grain + 0.1 * mottle
    dark += 0.5 * (1 - frayed) * np.exp(-(((past - 0.04) / 0.025) ** 2))
    shell = ((SHELL, cover), (STRIPE, dark), (FUZZ, worn))
    color = np.maximum(coats(*shell, (PIT, cap), (CAP, cap * rough), (FUZZ, rim * rough)), 0.01)
    height = 0.62 * ball + 0.015 * cap * rough + 0.006 * ribs * (1 - cap)
    return Surface(u, v, height, color * rgb(1, warm, warm), 0.02 * (1 - cap), cover, TABLE)


def _middle(s: Surface, rng: Rng) -> Point:
    return damage.anywhere(s, rng, np.hypot(s.u, s.v) < 0.35)


def crack(scene: Scene, rng: Rng, severity: float) -> Surface:
    s, length = scene.surface, damage.grow(severity, 0.15, 0.9)
    width = damage.grow(severity, 0.005, 0.022)
    lips = mix(0.8 * s.color, WOOD, np.clip(severity * (noise(s.u, s.v, rng, 20) - 0.4), 0, 0.5))
    return damage.crack(s, rng, _middle(s, rng), length, width, 0.03, wiggle=0.22, lips=lips)


def hole(scene: Scene, rng: Rng, severity: float) -> Surface:
    s, radius = scene.surface, damage.grow(severity, 0.015, 0.22)
    return damage.breach(s, rng, _middle(s, rng), radius, WOOD, KERNEL)


def print_(scene: Scene, rng: Rng, severity: float) -> Surface:
    s, size = scene.surface, damage.grow(severity, 0.06, 0.4)
    u, v = pose(s.u, s.v, rng.uniform(0, 2 * np.pi), _middle(s, rng))
    text = lettering(u, v, str(rng.choice(["A", "27", "K5", "L1", "7A"])), size, 0.14 * size, 0.02)
    wear = rng.uniform(0.65, 1) * np.clip(0.9 + 0.3 * noise(u, v, rng, 40, octaves=2), 0, 0.95)
    return s.blend(wear * text * s.cover, color=INKS[rng.integers(len(INKS))])


LAMPS = (Light(250, 50, 0.75), Light(20, 50, 0.3), Light(130, 50, 0.25))
CATEGORY = Category(
    "object",
    surface,
    Camera(LAMPS, ambient=0.2, shininess=9, blur=0.003, noise=0.6, vignette=0.05),
    {"crack": crack, "hole": hole, "print": print_},
)
