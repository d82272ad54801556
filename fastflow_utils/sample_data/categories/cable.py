"""cable: the cut through a pale blue jacket with three insulated wires of copper strands."""

import numpy as np

from fastflow_utils.sample_data.camera import Camera, Light
from fastflow_utils.sample_data.damage import grow
from fastflow_utils.sample_data.materials import coats, noise
from fastflow_utils.sample_data.scene import Category, Scene
from fastflow_utils.sample_data.shapes import ellipse, inside, rods
from fastflow_utils.sample_data.surface import Field, Rng, Surface, pose, rgb

GROUND, JACKET, HOLLOW = rgb(0.03, 0.064, 0.1), (0.27, 0.56, 0.70), (0.13, 0.215, 0.235)
DARK, COPPER, SHINE = (0.012, 0.009, 0.008), (0.14, 0.065, 0.04), (0.95, 0.88, 0.82)
YELLOW_GREEN = ((0.22, 0.28, 0.075), (0.03, 0.13, 0.06))  # the second is that of the stripes
BLUE, GREY = ((0.045, 0.12, 0.34), (0.045, 0.11, 0.31)), ((0.1, 0.095, 0.08), (0.09, 0.084, 0.07))
LATTICE = [0.05 * complex(i + j % 2 / 2, 0.87 * j) for i in range(-5, 5) for j in range(-5, 6)]
STRANDS = np.array(sorted(LATTICE, key=abs)[:37])
Fault = tuple[int, complex]  # which wire, and how far (and in which direction)


def surface(
    x: Field, y: Field, rng: Rng, swap: Fault = (0, 0), bent: Fault = (0, 0), lost: Fault = (0, 0)
) -> Surface:
    """Return the cut; two wires' colours may be swapped, strands of one be bent or lost."""
    turn, at = rng.normal(0, 0.06), complex(*rng.normal(0, 0.02, 2))
    u, v = pose(x, y, turn, (at.real, at.imag))
    soft, grain, fine, saw = (noise(x, y, rng, count) for count in (6, 40, 100, (30, 3)))
    near, core = np.full((2, *soft.shape), 9, np.float32)  # to an insulation, to a middle squared
    paint, one, other = np.array([YELLOW_GREEN, BLUE, GREY]), swap[0], swap[0] - 1
    paint[[one, other]] += swap[1].real * (paint[[other, one]] - paint[[one, other]])
    insulation, strands, crowd = [], [], np.zeros_like(soft)
    for k in range(3):
        middle = at + complex(*rng.normal(0, 0.008, 2))
        middle += 0.34 * np.exp(1j * (turn - np.pi / 2 - k * np.pi / 1.5))
        along, aside = pose(x, y, rng.uniform(0, np.pi), (middle.real, middle.imag))
        distance = ellipse(along, aside, *(0.293 * rng.lognormal(0, 0.03, 2)).tolist())
        distance += 0.006 * soft
        near, core = np.minimum(near, distance), np.minimum(core, along**2 + aside**2)
        crowd += np.exp(np.minimum(-distance / 0.11, 3))
        face, stripe = inside(distance, 0.016), inside(0.2 - np.abs(along + 0.03 * soft), 0.04)
        insulation += [(paint[k, 0], face), (paint[k, 1], face * stripe)]
        strands += _bundle(rng, middle, *(fault[1] * (fault[0] == k) for fault in (bent, lost)))
    cover, back, end, light = rods(x, y, strands, 0.026)
    hollow = inside(-0.11 * np.log(crowd + 1e-9) - 0.1, 0.02)
    well, metal = inside(core - 0.165**2, 0.01), [(COPPER, cover), (SHINE, cover * end * light)]
    color = coats((JACKET, 1 + 0 * soft), (HOLLOW, hollow), *insulation, (DARK, well), *metal)
    # The dark gaps around the cable and its wires are widest on the side away from the lamp.
    du, dv = rng.normal(0, 0.03, 2).tolist()
    side = np.clip(0.03 + 1.2 * (u * du + v * dv), 0.015, 0.09)
    r = np.hypot(u, v) + 0.006 * soft
    color *= 1 - 0.95 * hollow * inside(-near, 0.016) * np.exp(-near / side)
    color *= (1 - 0.7 * cover * (1 - back)) * (1 - 0.4 * inside(0.86 - r, 0.12))
    color *= 1 + 0.04 * saw + 0.03 * grain + 0.05 * soft - 0.3 * np.maximum(fine - 1.5, 0)
    height = 0.05 * (inside(near + 0.05, 0.14) + inside(r - 0.84, 0.06))
    height += 0.03 * (cover * back - hollow)
    floor = GROUND * np.exp(0.4 * grain + 0.2 * soft + 0.2 * fine)
    floor *= 1 - 0.95 * inside(np.hypot(u - du, v - dv) - 0.94, 0.14)
    gloss = 0.02 + cover * (0.12 + 0.4 * light)
    return Surface(u, v, height, color, gloss, inside(r - 0.86, 0.02), floor)


def _bundle(
    rng: Rng, middle: complex, bent: complex, lost: complex
) -> list[tuple[complex, complex, float]]:
    """Return the strands of a wire, the lowest first: those on one side may be bent or lost."""
    spots = STRANDS * np.exp(1j * rng.uniform(0, 2 * np.pi))
    lean = complex(*rng.normal(0, 0.03, 2))
    wild, wilder, fan = (rng.normal(0, s, (37, 2)) @ (1, 1j) for s in (0.006, 0.012, 0.25))
    shine = rng.beta(0.4, 0.4) + rng.normal(0, 0.2, 37) + 2.5 * rng.normal() * spots.real
    loose = np.clip(10 * (spots * np.conj(bent)).real / (abs(bent) + 1e-9) - 0.3, 0, 1)
    roots, tones = middle + spots + wild, np.clip(shine, 0, 1)
    tips = roots + lean + wilder + bent * loose * (1 + fan)
    order = np.argsort(9 * loose * abs(bent) - (spots * np.conj(lean)).real)
    order = order[np.argsort(np.argsort(spots.imag))[order] >= 37 * lost.real]
    return [(complex(roots[i]), complex(tips[i]), float(tones[i])) for i in order]


def bent_wire(scene: Scene, rng: Rng, severity: float) -> Surface:
    way = np.exp(1j * rng.uniform(0, 2 * np.pi))
    return scene.again(bent=(rng.integers(3), grow(severity, 0.07, 0.45) * way))


def cable_swap(scene: Scene, rng: Rng, severity: float) -> Surface:
    return scene.again(swap=(rng.integers(3), grow(severity, 0.4, 1.0)))


def missing_wire(scene: Scene, rng: Rng, severity: float) -> Surface:
    return scene.again(lost=(rng.integers(3), grow(severity, 0.15, 1.0)))


CATEGORY = Category(
    "object",
    surface,
    Camera(
        (Light(230, 50, 0.7), Light(20, 60, 0.2)), ambient=0.4, noise=0.5, vignette=0.1, step=4
    ),
    {"bent_wire": bent_wire, "cable_swap": cable_swap, "missing_wire": missing_wire},
)
