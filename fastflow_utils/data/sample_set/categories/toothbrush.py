"""toothbrush: the head of a toothbrush, seen from above on black ground."""

import numpy as np
from scipy.ndimage import gaussian_filter

from fastflow_utils.data.sample_set import damage
from fastflow_utils.data.sample_set.camera import Camera, Light
from fastflow_utils.data.sample_set.scene import Category, Scene
from fastflow_utils.data.sample_set.shapes import brush, ellipse, hairs, inside, join, pattern
from fastflow_utils.data.sample_set.surface import Field, Rng, Surface, mix, pose, rgb

WHITE, BLUE, GLINT = (0.48, 0.52, 0.56), (0.022, 0.034, 0.130), (0.12, 0.15, 0.20)
HOLE, BRASS, RUST = (0.014, 0.009, 0.007), (0.40, 0.22, 0.09), rgb(0.10, 0.04, 0.02)
PLASTIC, BLUISH, BLACK = rgb(0.40, 0.43, 0.40), rgb(0.17, 0.21, 0.31), rgb(0.0023, 0.0023, 0.004)
CRUMBS = (rgb(0.05, 0.03, 0.02), rgb(0.55, 0.52, 0.45), rgb(0.20, 0.11, 0.06))
# The white and blue tufts, row by row from the tip, and where the rows are.
TIP, FIELD = "...w... .w...w. ...b... .w...w. ...w...", "b.b.b.b w.w.w.w " * 3
V = (-0.79, -0.71, -0.61, -0.54, -0.45, -0.31, -0.155, 0.0, 0.155, 0.31, 0.465, 0.62, 0.75)
TUFTS, LETTERS = pattern(f"{TIP} {FIELD} .b.b.b. ..w.w..".split(), V, pitch=0.08)
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

    tuft, roots, lean = brush(rng, TUFTS, 0.029, 44, lean=0.036j)
    paint = (COLORS[tuft] * rng.lognormal(0, 0.3, (len(tuft), 1))).astype(np.float32)
    away = np.abs(roots - at) / within
    splay = rng.uniform(0.2, 1, len(tuft)) * np.exp(1j * rng.normal(0, 0.3, len(tuft)))
    bend = pull * splay * np.maximum(1 - away**2, 0)
    aside = np.minimum(np.abs(bend) / 0.08, 1).astype(np.float32)  # seen from its side
    paint += 0.7 * aside[:, None] * (np.asarray(GLINT, np.float32) - paint)
    gone = (away < rng.uniform(0.4, 2.2, len(tuft))) & (pull == 0)
    # Of what is gone its hole remains, with the brass pin that held the bristles.
    paint[gone], paint[gone & (np.abs((roots - TUFTS[tuft]).real) < 0.01)] = HOLE, BRASS
    lean[gone], aside[gone] = 0.01 * lean[gone], 1
    distance, along, hair = hairs(u, v, roots, lean, bend, rise=0.03)
    along = np.maximum(along, aside[hair])  # tips are bright, and so is what lies on its side
    bristle, gap = inside(distance - 0.005, 0.008), 0.85 * inside(distance - 0.01, 0.016)
    shade = 0.11 + bristle * (0.2 * along + 1.1 * inside(0.8 - along, 0.2))

    color = mix(PLASTIC, BLUISH, field) * (1 - 0.95 * gaussian_filter(gap, 0.011 * x.size))
    color = mix(color, paint.T[:, hair] * shade + RUST * inside(along - 0.2, 0.2), gap)
    height = 0.08 * np.sqrt(1 - np.clip(1 + head / 0.09, 0, 1) ** 2) + 0.008 * bristle * along
    gloss, cover = 0.3 * (1 - gap) * (1 - field), np.maximum(inside(head, 0.012), gap)
    # The edge glows.
    return Surface(u, v, height, color, gloss, cover, BLACK + 0.1 * inside(head, 0.04))


def _tuft(rng: Rng) -> complex:
    return complex(TUFTS[rng.integers(len(TUFTS))]) + complex(*rng.uniform(-0.02, 0.02, 2))


def bent_bristles(scene: Scene, rng: Rng, severity: float) -> Surface:
    at = _tuft(rng)
    angle = rng.normal(np.angle(at + 2 * at.real), 0.5)  # outwards, mostly to the side
    pull = damage.grow(severity, 0.06, 0.3) * np.exp(1j * angle)
    return scene.again(at=at, within=damage.grow(severity, 0.06, 0.2), pull=pull)


def missing_tuft(scene: Scene, rng: Rng, severity: float) -> Surface:
    return scene.again(at=_tuft(rng), within=damage.grow(severity, 0.02, 0.125))


def contamination(scene: Scene, rng: Rng, severity: float) -> Surface:
    at, color = _tuft(rng), CRUMBS[rng.integers(len(CRUMBS))]
    radius = damage.grow(severity, 0.032, 0.108)
    return damage.contamination(scene.surface, rng, (at.real, at.imag), radius, color)


CATEGORY = Category(
    "object",
    surface,
    Camera((Light(250, 60, 0.8),), ambient=0.6, blur=0.005, vignette=0.05, noise=0.8, tint=0.01),
    {"bent_bristles": bent_bristles, "contamination": contamination, "missing_tuft": missing_tuft},
)
