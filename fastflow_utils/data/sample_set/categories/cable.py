"""cable: the cut through a pale blue jacket with three insulated wires of copper strands."""

import numpy as np

from fastflow_utils.data.sample_set.camera import Camera, Light
from fastflow_utils.data.sample_set.damage import grow
from fastflow_utils.data.sample_set.materials import coats, noise
from fastflow_utils.data.sample_set.scene import Category, Scene
from fastflow_utils.data.sample_set.shapes import Vectors, bundle, ellipse, inside, join, rods
from fastflow_utils.data.sample_set.surface import Field, Rng, Surface, mix, pose, rgb

GROUND = rgb(0.032, 0.062, 0.092)
JACKET, HOLLOW, DARK = (0.27, 0.56, 0.70), (0.13, 0.215, 0.235), (0.012, 0.009, 0.008)
GREY, COPPER, SHINE = (0.1, 0.095, 0.08), (0.15, 0.072, 0.046), (0.95, 0.88, 0.82)
YELLOW, GREEN, BLUE = (0.21, 0.26, 0.085), (0.045, 0.13, 0.065), (0.055, 0.125, 0.29)
PAINT = np.array([[YELLOW, GREEN], [BLUE, BLUE], [GREY, GREY]])  # of each wire and its stripes
NONE = np.zeros(3, complex)


def surface(
    x: Field,
    y: Field,
    rng: Rng,
    paint: Field = PAINT,
    bent: Vectors = NONE,
    lost: Vectors = NONE,
    turned: float = 0,
    moved: complex = 0,
) -> Surface:
    """Return the cut; its wires may have other paints, and strands of each be bent or lost.

    It may lie turned (radians) and moved from where it lies by chance; the floor stays.
    """
    turn, at = turned + rng.normal(0, 0.06), moved + complex(*rng.normal(0, 0.02, 2))
    u, v = pose(x, y, turn, (at.real, at.imag))
    counts = (6, 40, (60, 4), (100, 60), (60, 100))
    soft, grain, cuts, fine, brushed = (noise(x, y, rng, count) for count in counts)
    near, lobes = np.full((2, *soft.shape), 9, np.float32)  # distances to the wires: sharp, merged
    sleeves, strands, lean = [], [], rng.normal(0, 0.03, 2).tolist()
    for k, (base, band) in enumerate(paint):
        middle = at + rng.normal(0.34, 0.008) * np.exp(1j * (turn - np.pi / 2 - k * np.pi / 1.5))
        along, aside = pose(x, y, turned + rng.uniform(0, np.pi), (middle.real, middle.imag))
        wire = ellipse(along, aside, *(0.293 * rng.lognormal(0, 0.03, 2)).tolist()) + 0.006 * soft
        near, lobes = np.minimum(near, wire), join(lobes, wire, 0.35)
        face, stripe = inside(wire, 0.016), inside(0.2 - np.abs(along + 0.03 * soft), 0.04)
        side = inside(ellipse(along + lean[0], aside + lean[1], 0.29, 0.29), 0.03)
        sleeves += [(0.45 * base, side), (base, face), (band, 0.9 * face * stripe)]
        strands += bundle(rng, middle, 0.05, bent[k], lost[k])
    cover, back, end, light = rods(x, y, strands, 0.026)
    hollow, well = inside(lobes - 0.1, 0.02), inside(near + 0.135 + 0.006 * grain, 0.05)
    gap = hollow * np.clip(0.4 + 0.5 * soft, 0.1, 0.9) * np.exp(-np.abs(near) / 0.06)
    stubs = 0.5 * well * np.clip(grain + fine - 0.3, 0, 1)  # far below, where strands are lost
    jacket = ellipse(u, v, 0.86, 0.86) + 0.006 * soft
    layers = [(JACKET, 1 - 0.4 * inside(-jacket, 0.12)), (HOLLOW, hollow), (DARK, gap), *sleeves]
    layers += [(DARK, np.maximum(well, cover)), (COPPER, np.maximum(stubs, cover * back))]
    color = coats(*layers, (SHINE, cover * end * light * np.clip(0.8 + 0.3 * fine, 0.2, 1)))
    color *= 1 + 0.03 * grain + 0.05 * soft + 0.1 * hollow * cuts - 0.3 * np.maximum(fine - 1.5, 0)
    height = 0.05 * (inside(near + 0.05, 0.14) + inside(jacket + 0.02, 0.06))
    height += 0.03 * (cover * back - hollow) + 0.002 * cuts * hollow
    shade = ellipse(u - rng.normal(0, 0.03), v - rng.normal(0, 0.03), 0.94, 0.94)
    floor = GROUND * np.exp(0.4 * np.maximum(fine, brushed) + 0.2 * soft - 3 * inside(shade, 0.14))
    return Surface(u, v, height, color, cover * (0.1 + 0.4 * light), inside(jacket, 0.02), floor)


def _at_one_wire(rng: Rng, size: float) -> Vectors:
    """Return a vector of this size and any direction for one of the wires, 0 for the others."""
    vectors: Vectors = size * np.exp(1j * rng.uniform(0, 2 * np.pi)) * np.eye(3)[rng.integers(3)]
    return vectors


def bent_wire(scene: Scene, rng: Rng, severity: float) -> Surface:
    return scene.again(bent=_at_one_wire(rng, grow(severity, 0.07, 0.45)))


def cable_swap(scene: Scene, rng: Rng, severity: float) -> Surface:
    swapped = PAINT[np.roll([1, 0, 2], rng.integers(3))]
    return scene.again(paint=mix(PAINT, swapped, 1 - 0.6 * (1 - severity) ** 4))


def missing_wire(scene: Scene, rng: Rng, severity: float) -> Surface:
    return scene.again(lost=_at_one_wire(rng, grow(severity, 0.15, 1.0)))


CATEGORY = Category(
    "object",
    surface,
    Camera((Light(230, 50, 0.7), Light(20, 60, 0.2)), ambient=0.4, noise=0.5, step=4),
    {"bent_wire": bent_wire, "cable_swap": cable_swap, "missing_wire": missing_wire},
)
