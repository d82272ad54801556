"""The categories: each a short recipe of a surface, a camera and a few defects."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from fastflow_utils.sample_data import defects as damage
from fastflow_utils.sample_data.camera import Camera, Light
from fastflow_utils.sample_data.materials import around, noise, weave
from fastflow_utils.sample_data.shapes import blob, ellipse, inside, segment, star
from fastflow_utils.sample_data.surface import Field, Mask, Point, Surface, mix, pose, rgb

__all__ = ["CATALOGUE", "Category"]

Rng = np.random.Generator
Defect = Callable[[Surface, Rng, float], tuple[Surface, Mask]]


@dataclass(frozen=True)
class Category:
    """How to make the images of one category.

    Attributes:
        surface: Called with the grid x, y and a generator; returns a flawless surface.
        camera: The lamps and the camera that photograph it.
        defects: By name, functions of a surface, a generator and a severity in [0, 1], from
            subtle to clear.
    """

    surface: Callable[[Field, Field, Rng], Surface]
    camera: Camera
    defects: Mapping[str, Defect]


# ---------------------------------------------------------------------------------------------
# carpet: a plain weave of melange yarn

BACKING = rgb(0.020, 0.017, 0.017)
DYES = (rgb(0.1, 0.1, 0.2), rgb(0.5, 0.15, 0.12), rgb(0.25, 0.3, 0.6), rgb(0.5, 0.35, 0.2))


def carpet(x: Field, y: Field, rng: Rng) -> Surface:
    """Return a plain weave of grey-brown melange yarn, about 44 yarns across."""
    u, v = pose(x, y, rng.normal(0, 0.015), (rng.uniform(-1, 1), rng.uniform(-1, 1)))
    yarns = 22 * rng.lognormal(0, 0.02)
    pull_u, pull_v = (0.35 * noise(x, y, rng, 4, octaves=2) for _ in range(2))
    height, tone = weave(u * yarns + pull_u, v * yarns + pull_v, rng)
    tone = tone + 0.04 * noise(x, y, rng, 5) + 0.08 * noise(x, y, rng, 110)
    light = rgb(0.60, 0.57, 0.50) * rng.lognormal(0, 0.008, (3, 1, 1)).astype(np.float32)
    color = mix(rgb(0.060, 0.043, 0.047), light, np.clip(tone, 0, 1))
    color *= 0.06 + 0.94 * np.clip(height, 0, 1)  # little light reaches the gaps
    height = 1 + 0.012 * height + 0.01 * noise(x, y, rng, 4) + 0.0015 * noise(x, y, rng, 100)
    return Surface(x, y, u, v, height, color, np.zeros_like(height), color)


def _anywhere(s: Surface, rng: Rng) -> Point:
    """Return a point of the image, not too near its border, in the object's coordinates."""
    row, column = (rng.uniform(0.15, 0.85, 2) * len(s.u)).astype(int)
    return float(s.u[row, column]), float(s.v[row, column])


def _carpet_hole(s: Surface, rng: Rng, severity: float) -> tuple[Surface, Mask]:
    return damage.hole(s, rng, _anywhere(s, rng), 0.045 + 0.08 * severity, BACKING)


def _carpet_cut(s: Surface, rng: Rng, severity: float) -> tuple[Surface, Mask]:
    length, width = 0.25 + 0.5 * severity, 0.012 + 0.018 * severity
    return damage.cut(s, rng, _anywhere(s, rng), length, width, BACKING)


def _carpet_color(s: Surface, rng: Rng, severity: float) -> tuple[Surface, Mask]:
    dye, radius, strength = DYES[rng.integers(4)], rng.uniform(0.07, 0.18), 0.5 + 0.45 * severity
    return damage.stain(s, rng, _anywhere(s, rng), radius, dye, strength)


# ---------------------------------------------------------------------------------------------
# bottle: the mouth of a dark glass bottle, seen from above on a light table

GLASS = np.array(
    [  # radius, and the colour of the light that comes through there
        (0.00, 0.0060, 0.0055, 0.0095),
        (0.36, 0.0030, 0.0025, 0.0050),
        (0.40, 0.0040, 0.0020, 0.0020),
        (0.41, 0.0400, 0.0140, 0.0080),
        (0.43, 0.0060, 0.0070, 0.0070),
        (0.45, 0.0060, 0.0070, 0.0070),
        (0.455, 0.050, 0.0550, 0.0520),
        (0.46, 0.0140, 0.0170, 0.0160),
        (0.51, 0.0110, 0.0140, 0.0130),
        (0.54, 0.0070, 0.0085, 0.0100),
        (0.57, 0.0280, 0.0320, 0.0340),
        (0.58, 0.0040, 0.0042, 0.0056),
        (0.62, 0.0040, 0.0042, 0.0060),
        (0.67, 0.0120, 0.0120, 0.0165),
        (0.73, 0.0055, 0.0055, 0.0080),
        (0.79, 0.0340, 0.0320, 0.0360),
        (0.83, 0.0060, 0.0055, 0.0070),
        (0.88, 0.0280, 0.0270, 0.0290),
    ],
    np.float32,
)
# radius, width and strength of the rings of amber light
GLINTS = ((0.605, 0.004, 0.40), (0.650, 0.006, 0.90), (0.415, 0.004, 0.10))


def bottle(x: Field, y: Field, rng: Rng) -> Surface:
    """Return a bottle's mouth: opening, lip with amber glints, and the shoulder out of focus."""
    u, v = pose(x, y, rng.uniform(-np.pi, np.pi), (rng.normal(0, 0.012), rng.normal(0, 0.012)))
    r = np.hypot(u, v) * rng.lognormal(0, 0.01)
    turn = ((np.arctan2(v, u) / (2 * np.pi) + 0.5) * 1023.9).astype(np.int32)
    radii = np.linspace(0, 1.5, 1024, dtype=np.float32)
    palette = np.stack([np.interp(radii, GLASS[:, 0], c) for c in GLASS[:, 1:].T])
    color = palette.astype(np.float32)[:, (np.minimum(r / 1.5, 1) * 1023).astype(np.int32)]
    color *= (0.8 + 0.4 * around(rng, 12))[turn]
    glint = np.zeros_like(r)
    for radius, width, strength in GLINTS:
        wobble = (radius + 0.012 * (around(rng, 9) - 0.5))[turn]
        bright = strength * (0.15 + around(rng, 90) ** 4) * (0.2 + around(rng, 8))
        glint += np.exp(-(((r - wobble) / width) ** 2)) * bright[turn]
    color += glint * rgb(1, 0.45, 0.2)
    lip = np.exp(-(((r - 0.53) / 0.09) ** 2))
    band = np.exp(-(((r - 0.78) / 0.04) ** 2))
    grain = noise(x, y, rng, 70, octaves=2)
    color *= 1 + 0.25 * lip * grain
    height = 1 + 0.1 * lip + 0.02 * band - 0.1 * r**4 + 0.0015 * lip * grain
    table = np.full_like(color, 1.1)
    color = mix(table / 1.3, color, inside(r - 0.87, 0.05))
    return Surface(x, y, u, v, height, color, 0.12 * lip + 0.06 * band, table)


def _bottle_broken(s: Surface, rng: Rng, radius: float) -> tuple[Surface, Mask]:
    theta = rng.uniform(-np.pi, np.pi)
    at = (0.53 * np.cos(theta), 0.53 * np.sin(theta))
    u, v = pose(s.u, s.v, theta, at)  # u runs outwards, v along the ring
    ring = np.abs(np.hypot(s.u, s.v) - 0.54) - 0.16
    region = np.maximum(blob(u * 1.2, v / 1.5, rng, radius, roughness=0.4), ring)
    return damage.fracture(s, rng, region, at, radius, int(8 + 80 * radius))


def _bottle_contamination(s: Surface, rng: Rng, severity: float) -> tuple[Surface, Mask]:
    at = (rng.uniform(-0.2, 0.2), rng.uniform(-0.2, 0.2))
    color = (0.009 + 0.08 * severity) * rgb(1, rng.uniform(0.6, 1), rng.uniform(0.4, 1))
    return damage.contamination(s, rng, at, rng.uniform(0.05, 0.2), color, softness=0.03)


# ---------------------------------------------------------------------------------------------
# screw: a wood screw on a light table, in any direction


def screw(x: Field, y: Field, rng: Rng) -> Surface:
    """Return a countersunk wood screw; u runs from its head (-0.75) to its tip (0.8)."""
    at = (rng.normal(0, 0.04), rng.normal(0, 0.04))
    u, v = pose(x, y, rng.uniform(-np.pi, np.pi), at)
    grime = noise(x, y, rng, 40, octaves=2)
    # The shank, cone and thread are turned around the axis: their height follows from a radius.
    tip = np.clip((0.82 - u) / 0.25, 0, 1)
    shank = 0.075 + 0.16 * np.clip((-0.5 - u) / 0.22, 0, 1) ** 1.4
    twist = np.arcsin(np.clip(v / 0.1, -1, 1)) / (2 * np.pi) + rng.random()
    ridge = np.exp(-(((u / 0.115 + twist) % 1 - 0.5) ** 2) / 0.02)
    threaded = np.clip((u + 0.07) / 0.06, 0, 1) * np.clip((0.8 - u) / 0.1, 0, 1)
    radius = np.where(u < -0.05, shank, 0.065 * tip**0.7)
    radius += 0.045 * threaded * ridge * (0.4 + 0.6 * tip)
    radius *= (u > -0.73) & (u < 0.82)
    height = np.sqrt(np.maximum(radius**2 - v**2, 0))
    # The flat top of the head, foreshortened, with the recess for the driver.
    top, squash = u + 0.73, 0.22
    face = inside(ellipse(top, v, 0.235 * squash, 0.235), 0.01)
    recess = inside(star(top / squash, v, 0.09, 6, 0.2), 0.02) * face
    height = mix(height, 0.1 + 0.3 * top, face) - 0.03 * recess
    tone = np.clip(0.10 + 0.010 * grime, 0.02, 1) * (1 - 0.7 * recess)
    gloss = 0.22 * (1 - recess) * np.clip(1 + 0.1 * grime, 0, 2)
    beside = np.minimum(segment(u, v, 1.5), ellipse(top, v, 0.1, 0.2))
    shadow = 1 - 0.3 * inside(beside - 0.05, 0.3)
    table = 0.62 * shadow * (1 + 0.01 * noise(x, y, rng, 3))
    gray = rgb(1, 1, 1)
    return Surface(x, y, u, v, height, tone * gray, gloss, table * gray)


def _screw_scratch_head(s: Surface, rng: Rng, severity: float) -> tuple[Surface, Mask]:
    return _scraped(s, rng, (rng.uniform(-0.68, -0.6), rng.uniform(-0.08, 0.08)), severity)


def _screw_scratch_neck(s: Surface, rng: Rng, severity: float) -> tuple[Surface, Mask]:
    return _scraped(s, rng, (rng.uniform(-0.4, -0.12), rng.uniform(-0.03, 0.03)), severity)


def _scraped(s: Surface, rng: Rng, at: Point, severity: float) -> tuple[Surface, Mask]:
    length, width, strength = 0.12 + 0.12 * severity, 0.035 + 0.03 * severity, 0.4 + 0.4 * severity
    return damage.scratch(s, rng, at, length, width, strength)


def _screw_thread_side(s: Surface, rng: Rng, severity: float) -> tuple[Surface, Mask]:
    at, radius = (rng.uniform(0.05, 0.65), rng.choice([-0.13, 0.13])), 0.13 + 0.08 * severity
    return damage.grind(s, rng, at, radius, ridge=0.07, strength=0.4 + 0.4 * severity)


CATALOGUE: Mapping[str, Category] = {
    "bottle": Category(
        bottle,
        Camera(
            (Light(200, 40, 0.8), Light(330, 40, 0.6), Light(75, 45, 0.5)), ambient=1.3, blur=0.003
        ),
        {
            "broken_large": lambda s, rng, k: _bottle_broken(s, rng, 0.2 + 0.12 * k),
            "broken_small": lambda s, rng, k: _bottle_broken(s, rng, 0.04 + 0.08 * k),
            "contamination": _bottle_contamination,
        },
    ),
    "carpet": Category(
        carpet,
        Camera((Light(230, 50, 1.0), Light(20, 60, 0.4)), ambient=0.3, noise=1.5, blur=0.003),
        {"color": _carpet_color, "cut": _carpet_cut, "hole": _carpet_hole},
    ),
    "screw": Category(
        screw,
        Camera((Light(250, 60, 0.6), Light(60, 40, 0.3)), ambient=0.6, shininess=12, tint=0),
        {
            "scratch_head": _screw_scratch_head,
            "scratch_neck": _screw_scratch_neck,
            "thread_side": _screw_thread_side,
        },
    ),
}
