"""toothbrush: the head of a toothbrush, seen from above on black ground."""

import numpy as np

from fastflow_utils.sample_data import damage
from fastflow_utils.sample_data.camera import Camera, Light
from fastflow_utils.sample_data.materials import noise
from fastflow_utils.sample_data.scene import Category, Scene
from fastflow_utils.sample_data.shapes import ellipse, hairs, inside, join
from fastflow_utils.sample_data.surface import Field, Rng, Surface, mix, pose, rgb

WHITE, BLUE = (0.60, 0.64, 0.68), (0.020, 0.036, 0.150)
HOLE, BRASS = (0.018, 0.012, 0.010), (0.22, 0.12, 0.05)
PLASTIC, BLUISH, BLACK = rgb(0.40, 0.43, 0.40), rgb(0.17, 0.21, 0.31), rgb(0.0023, 0.0023, 0.004)
CRUMBS = (rgb(0.05, 0.03, 0.02), rgb(0.55, 0.52, 0.45), rgb(0.20, 0.11, 0.06))
ROWS = (  # v, the u of its tufts, their colour
    *((-0.79, (0,), WHITE), (-0.71, (-0.13, 0.13), WHITE), (-0.61, (0,), BLUE)),
    *((-0.54, (-0.14, 0.14), WHITE), (-0.45, (0,), WHITE)),
    *((-0.31 + 0.31 * k, (-0.24, -0.08, 0.08, 0.24), BLUE) for k in range(3)),
    *((-0.155 + 0.31 * k, (-0.235, -0.08, 0.08, 0.235), WHITE) for k in range(3)),
    *((0.62, (-0.155, 0, 0.155), BLUE), (0.75, (-0.08, 0.08), WHITE)),
)
TUFTS = np.array([complex(u, v) for v, row, _ in ROWS for u in row])
TUFT = np.repeat(np.arange(len(TUFTS)), 42)  # of each bristle
COLORS = np.array([color for _, row, color in ROWS for _ in row])[TUFT]


def surface(
    x: Field, y: Field, rng: Rng, at: complex = 9, within: float = 0.01, pull: complex = 0
) -> Surface:
    """Return a brush; its bristles `within` of a point are pulled aside or, without pull, gone."""
    shift, size = rng.normal(0, 0.015, 2).tolist(), 1 / rng.lognormal(0, 0.012)
    u, v = pose(size * x, size * y, rng.normal(0, 0.02), (shift[0], shift[1]))
    oval = ellipse(u, v - 0.03, 0.37, 0.86)
    head = join(oval, ellipse(u, v + 0.57, 0.275, 0.31), 0.02)
    head = join(head, np.maximum(np.abs(u) - 0.15, 0.7 - v), 0.06)

    tufts, bristles = (len(TUFTS), 2), (len(TUFT), 2)
    move, sway = rng.normal(0, 0.005, tufts), rng.normal(0, 0.009, tufts)
    sway = sway + rng.normal((0, 0.035), 0.012)  # the camera sees them a little from below
    offset = np.sqrt(rng.random(len(TUFT))) * np.exp(2j * np.pi * rng.random(len(TUFT)))
    roots = (TUFTS + move @ [1, 1j])[TUFT] + 0.03 * offset
    lean = (sway[TUFT] + rng.normal(0, 0.009, bristles)) @ [1, 1j] + 0.027 * offset
    splay = rng.uniform(0.2, 1, len(TUFT)) * np.exp(1j * rng.normal(0, 0.45, len(TUFT)))
    away, hold = np.abs(roots - at) / within, rng.uniform(0.4, 2.2, len(TUFT))
    tones = COLORS * rng.lognormal(0, 0.25, (len(TUFT), 1)) * rng.lognormal(0, 0.03, 3)
    # Of what is gone its hole remains, with the brass pin that held the bristles.
    gone = (away < hold) & (pull == 0)
    tones[gone] = np.where(np.abs(offset.real[gone, None]) < 0.25, BRASS, HOLE)
    lean = lean * np.where(gone, 0.01, 1)
    distance, along, hair = hairs(u, v, roots, lean, pull * np.maximum(1 - away**2, 0) * splay)
    bristle, standing = inside(distance - 0.008, 0.008), ~gone[hair]
    shade = (0.35 + 0.65 * inside(distance - 0.002, 0.010)) * (0.4 + 0.5 * along**2)
    shade = np.where(standing, shade * np.where(along > 0.85, np.float32(1.8), 1), np.float32(1))

    field = inside(oval + 0.07, 0.15)  # the plastic around the tufts takes on their blue
    plastic = mix(PLASTIC, BLUISH, field) * (1 + 0.03 * noise(x, y, rng, 8))
    color = mix(plastic, tones.astype(np.float32).T[:, hair] * shade, bristle)
    dome = np.sqrt(1 - (1 + np.clip(head / 0.09, -1, 0)) ** 2)
    height = 0.08 * dome + 0.012 * bristle * along * standing
    gloss, cover = 0.3 * (1 - bristle) * (1 - field), np.maximum(inside(head, 0.012), bristle)
    floor = BLACK + 0.05 * np.exp(-np.maximum(head, 0) / 0.01)  # the edge glows
    return Surface(u, v, height, color, gloss, cover, floor)


def _tuft(rng: Rng) -> complex:
    return complex(TUFTS[rng.integers(len(TUFTS))]) + complex(*rng.uniform(-0.02, 0.02, 2))


def bent_bristles(scene: Scene, rng: Rng, severity: float) -> Surface:
    at, length = _tuft(rng), damage.grow(severity, 0.06, 0.3)
    angle = np.arctan2(at.imag, 3 * at.real) + rng.normal(0, 0.5)  # outwards, mostly to the side
    within = damage.grow(severity, 0.06, 0.2)
    return scene.again(at=at, within=within, pull=complex(length * np.exp(1j * angle)))


def missing_tuft(scene: Scene, rng: Rng, severity: float) -> Surface:
    return scene.again(at=_tuft(rng), within=damage.grow(severity, 0.022, 0.15))


def contamination(scene: Scene, rng: Rng, severity: float) -> Surface:
    at, radius = _tuft(rng), damage.grow(severity, 0.035, 0.12)
    color = CRUMBS[rng.integers(len(CRUMBS))]
    return damage.contamination(scene.surface, rng, (at.real, at.imag), radius, color)


CATEGORY = Category(
    "object",
    surface,
    Camera((Light(250, 60, 0.8),), ambient=0.6, blur=0.005, vignette=0.05, noise=0.72),
    {
        "bent_bristles": bent_bristles,
        "contamination": contamination,
        "missing_tuft": missing_tuft,
    },
)
