"""toothbrush: the head of a toothbrush, seen from above on black ground."""

import numpy as np

from fastflow_utils.sample_data import damage
from fastflow_utils.sample_data.camera import Camera, Light
from fastflow_utils.sample_data.scene import Category, Scene
from fastflow_utils.sample_data.shapes import brush, ellipse, hairs, inside, join, pattern
from fastflow_utils.sample_data.surface import Field, Rng, Surface, mix, pose, rgb

WHITE, BLUE = (0.60, 0.64, 0.68), (0.020, 0.036, 0.150)
HOLE, BRASS = (0.045, 0.030, 0.025), (0.55, 0.30, 0.12)
PLASTIC, BLUISH, BLACK = rgb(0.40, 0.43, 0.40), rgb(0.17, 0.21, 0.31), rgb(0.0023, 0.0023, 0.004)
CRUMBS = (rgb(0.05, 0.03, 0.02), rgb(0.55, 0.52, 0.45), rgb(0.20, 0.11, 0.06))
# The white and blue tufts, row by row from the tip, and where the rows are.
TIP, FIELD = "...w... .w...w. ...b... .w...w. ...w...", "b.b.b.b w.w.w.w " * 3
ROWS = f"{TIP} {FIELD} .b.b.b. ..w.w..".split()
V = (-0.79, -0.71, -0.61, -0.54, -0.45, -0.31, -0.155, 0.0, 0.155, 0.31, 0.465, 0.62, 0.75)
TUFTS, LETTERS = pattern(ROWS, V, pitch=0.08)
COLORS = np.array([{"w": WHITE, "b": BLUE}[letter] for letter in LETTERS])


def surface(
    x: Field, y: Field, rng: Rng, at: complex = 9, within: float = 0.01, pull: complex = 0
) -> Surface:
    """Return a brush; its bristles `within` of a point are pulled aside or, without pull, gone."""
    u, v = pose(x, y, rng.normal(0, 0.02), (rng.normal(0, 0.018), rng.normal(0, 0.018)))
    oval = ellipse(u, v - 0.03, 0.37, 0.86)
    head = join(oval, ellipse(u, v + 0.57, 0.275, 0.31), 0.02)
    head = join(head, np.maximum(np.abs(u) - 0.15, 0.7 - v), 0.06)
    field = inside(oval + 0.07, 0.15)  # around the tufts, where the plastic takes on their blue

    tuft, roots, lean = brush(rng, TUFTS, 0.03, 42, lean=0.035j)
    paint = (COLORS[tuft] * rng.lognormal(0, 0.25, (len(tuft), 1))).astype(np.float32)
    away = np.abs(roots - at) / within
    splay = rng.uniform(0.2, 1, len(tuft)) * np.exp(1j * rng.normal(0, 0.45, len(tuft)))
    bend = pull * splay * np.maximum(1 - away**2, 0)
    gone = (away < rng.uniform(0.4, 2.2, len(tuft))) & (pull == 0)
    # Of what is gone its hole remains, with the brass pin that held the bristles.
    pin = np.abs((roots - TUFTS[tuft]).real) < 0.01
    paint[gone], paint[gone & pin] = HOLE, BRASS
    lean[gone] *= 0.01
    distance, along, hair = hairs(u, v, roots, lean, bend)
    along[gone[hair]] = 0
    bristle, tip = inside(distance - 0.008, 0.008), inside(0.85 - along, 0.02)
    shade = (0.14 + 0.26 * inside(distance - 0.002, 0.01)) * (1 + 1.2 * along**2) * (1 + 0.8 * tip)

    color = mix(mix(PLASTIC, BLUISH, field), paint.T[:, hair] * shade, bristle)
    height = 0.08 * np.sqrt(1 - np.clip(1 + head / 0.09, 0, 1) ** 2) + 0.012 * bristle * along
    gloss, cover = 0.3 * (1 - bristle) * (1 - field), np.maximum(inside(head, 0.012), bristle)
    floor = BLACK + 0.05 * np.exp(-np.maximum(head, 0) / 0.01)  # the edge glows
    return Surface(u, v, height, color, gloss, cover, floor)


def _tuft(rng: Rng) -> complex:
    return complex(TUFTS[rng.integers(len(TUFTS))]) + complex(*rng.uniform(-0.02, 0.02, 2))


def bent_bristles(scene: Scene, rng: Rng, severity: float) -> Surface:
    at = _tuft(rng)
    angle = np.arctan2(at.imag, 3 * at.real) + rng.normal(0, 0.5)  # outwards, mostly to the side
    pull = damage.grow(severity, 0.06, 0.3) * np.exp(1j * angle)
    return scene.again(at=at, within=damage.grow(severity, 0.06, 0.2), pull=pull)


def missing_tuft(scene: Scene, rng: Rng, severity: float) -> Surface:
    return scene.again(at=_tuft(rng), within=damage.grow(severity, 0.022, 0.15))


def contamination(scene: Scene, rng: Rng, severity: float) -> Surface:
    at, color = _tuft(rng), CRUMBS[rng.integers(len(CRUMBS))]
    radius = damage.grow(severity, 0.035, 0.12)
    return damage.contamination(scene.surface, rng, (at.real, at.imag), radius, color)


CATEGORY = Category(
    "object",
    surface,
    Camera((Light(250, 60, 0.8),), ambient=0.6, blur=0.005, vignette=0.05, noise=0.8, tint=0.01),
    {"bent_bristles": bent_bristles, "contamination": contamination, "missing_tuft": missing_tuft},
)
