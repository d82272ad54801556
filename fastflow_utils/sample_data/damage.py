"""Damage: each tool takes a surface and returns the damaged one.

A defect changes the material before it is lit, so that light, blur and noise treat it like
everything else in the photograph; the mask follows from the light that changed. Positions and
lengths are in the object's own coordinates (u, v), in units of half the image. Parts that are
missing, misplaced or wrongly printed are no damage to a surface: a category draws them by
:meth:`~fastflow_utils.sample_data.scene.Scene.again`.
"""

import numpy as np

from fastflow_utils.sample_data.materials import cells, noise
from fastflow_utils.sample_data.shapes import blob, inside, path, segment, wander
from fastflow_utils.sample_data.surface import Field, Mask, Point, Rng, Surface, mix, pose, rgb

__all__ = [
    "anywhere",
    "breach",
    "break_off",
    "chip",
    "contamination",
    "crack",
    "cut",
    "dent",
    "fibres",
    "fold",
    "glue",
    "grow",
    "hole",
    "paint",
    "scratch",
    "scuff",
    "stain",
    "thread",
]


def grow(severity: float, least: float, most: float) -> float:
    """Return a length or strength that grows evenly in ratio, from least to most.

    >>> grow(0.5, 1.0, 4.0)
    2.0
    """
    return float(least * (most / least) ** severity)


def anywhere(surface: Surface, rng: Rng, where: Mask | None = None) -> Point:
    """Return (u, v) of a random point of the object, or of `where`, not near the border."""
    where = surface.cover > 0.9 if where is None else where
    # Points of the image, not of `where`: so the place is the same at any size.
    tries = (rng.uniform(0.12, 0.88, (1000, 2)) * len(where)).astype(int)
    row, column = tries[np.argmax(where[tries[:, 0], tries[:, 1]])]
    return float(surface.u[row, column]), float(surface.v[row, column])


def _hold(surface: Surface) -> Field:
    """Return how far the material holds out at a torn edge: its high points reach further."""
    hold: Field = 2 * (surface.height - surface.height.mean())
    return hold


# Material that is gone or pushed aside -----------------------------------------------------------


def hole(
    surface: Surface,
    rng: Rng,
    at: Point,
    radius: float,
    backing: Field,
    roughness: float = 0.3,
    hold: float = 1.0,
) -> Surface:
    """Tear a hole that shows the dark `backing`; its ragged edge stands up a little.

    The material's high points `hold` out at the edge; 0 suits what has no texture.
    """
    u, v = pose(surface.u, surface.v, at=at)
    distance = blob(u, v, rng, radius, roughness) + hold * _hold(surface)
    rim = inside(np.abs(distance) - 0.012, 0.02)
    surface = surface.blend(rim, height=surface.height + 0.02, color=surface.color * 0.8)
    below = backing * (1 + 0.4 * noise(surface.u, surface.v, rng, 60))
    return surface.blend(
        inside(distance, 0.015), height=surface.height - 0.05, color=below, gloss=0.0
    )


def cut(
    surface: Surface,
    rng: Rng,
    at: Point,
    length: float,
    width: float,
    backing: Field,
    *,
    lips: float = 0.06,
) -> Surface:
    """Slit the material along a slightly bent line; it gapes, and its lips stand up by `lips`."""
    u, v = pose(surface.u, surface.v, rng.uniform(0, np.pi), at)
    v = v - rng.normal(0, 0.5) * u**2 + 0.008 * noise(surface.u, surface.v, rng, 20)
    gape = width * np.sqrt(np.maximum(1 - (2 * u / length) ** 2, 0))
    distance = segment(u, v, length) - gape + 0.5 * _hold(surface)
    lip = np.exp(-((distance / 0.025) ** 2))
    surface = surface.blend(lip, height=surface.height + lips, color=surface.color * 0.9)
    return surface.blend(inside(distance, 0.012), height=surface.height - 0.05, color=backing)


def crack(
    surface: Surface,
    rng: Rng,
    at: Point,
    length: float,
    width: float,
    depth: float,
    *,
    angle: float | None = None,
    branches: int = 1,
    wiggle: float = 0.35,
    chips: Field | None = None,
    lips: Field | None = None,
) -> Surface:
    """Crack the material: a jagged, dark groove that tapers, with branches and one bright lip.

    Along the groove the outer layer may have chipped off and bare what has the colour `chips`.
    The edges of the groove have the colour `lips`; by default a little more than the surface's.
    """
    angle = rng.uniform(0, 2 * np.pi) if angle is None else angle
    trunk = wander(rng, at, angle, length, wiggle, 16)
    distance, along = path(surface.u, surface.v, trunk)
    distance = distance - width * (1 - np.abs(2 * along - 1)) ** 0.5
    for _ in range(branches):
        root = trunk[int(rng.integers(4, 12))]
        fork = wander(
            rng, root, angle + rng.choice([-1, 1]) * rng.uniform(0.5, 1.2), length, wiggle
        )
        away, along = path(surface.u, surface.v, fork[6:])
        distance = np.minimum(distance, away - 0.6 * width * (1 - along))
    distance = distance + 0.3 * width * noise(surface.u, surface.v, rng, 60)
    lip = inside(distance - 0.012, 0.024)
    edge = surface.color * 1.05 if lips is None else lips
    surface = surface.blend(lip, height=surface.height + 0.2 * depth, color=edge)
    if chips is not None:
        ragged = 1.8 * width * np.maximum(noise(surface.u, surface.v, rng, 22, octaves=2), 0)
        surface = surface.blend(
            inside(distance - ragged + width / 2, 0.014), color=chips, gloss=0.0
        )
    groove = inside(distance, 0.014)
    return surface.blend(
        groove, height=surface.height - depth, color=surface.color * 0.12, gloss=0.0
    )


def break_off(
    surface: Surface, rng: Rng, at: Point, outwards: float, radius: float, inner: Field
) -> Surface:
    """Break a piece off the rim at a point: the rough material `inner`, then the floor, show.

    The angle `outwards` (radians in u, v) points away from the object.
    """
    u, v = pose(surface.u, surface.v, outwards, at)
    rough = noise(surface.u, surface.v, rng, 18, octaves=2)
    distance = blob(u - 0.4 * radius, v, rng, radius, roughness=0.6) + 0.15 * radius * rough
    broken = 0.8 * surface.height - 0.02 + 0.008 * rough
    surface = surface.blend(inside(distance, 0.02), height=broken, color=inner, gloss=0.0)
    return surface.blend(inside(distance + 0.3 * radius, 0.015), cover=0.0)


def breach(
    surface: Surface, rng: Rng, at: Point, radius: float, wall: Field, inner: Field
) -> Surface:
    """Break into a hollow shell: its `wall` shows most at one side, and `inner` deep below."""
    u, v = pose(surface.u, surface.v, rng.uniform(0, 2 * np.pi), at)
    rough = noise(u, v, rng, 30, octaves=2)
    broken = blob(u, v * rng.uniform(1, 1.5), rng, radius, roughness=0.45) + 0.006 * rough
    thickness = (0.007 + 0.16 * radius) * np.clip(0.55 + 0.5 * u / radius, 0.15, 1)
    deep = broken + thickness
    surface = surface.blend(inside(broken, 0.012), color=wall * (1 + 0.15 * rough), gloss=0.0)
    lit = 0.1 + inside(deep + 0.35 * radius, 0.4 * radius)  # under the rim it is dark
    below = inner * (1 + 0.25 * rough) * lit
    sunk = surface.height - 0.04 + 0.003 * rough
    return surface.blend(inside(deep, 0.012), height=sunk, color=below)


def dent(surface: Surface, at: Point, radius: float, depth: float) -> Surface:
    """Press a round dent in (or, with a negative depth, a bump out); the colour stays."""
    u, v = pose(surface.u, surface.v, at=at)
    bowl = np.exp(-(u**2 + v**2) / radius**2 * 2)
    return surface.blend(bowl, height=surface.height - depth)


def fold(
    surface: Surface, rng: Rng, at: Point, length: float, width: float, height: float
) -> Surface:
    """Press a fold into a soft material: a ridge beside a furrow, along a bent line."""
    line = wander(rng, at, rng.uniform(0, np.pi), length, 0.12)
    distance, along = path(surface.u, surface.v, line)
    distance = distance + 0.2 * width * noise(surface.u, surface.v, rng, 12)
    taper = np.sqrt(np.maximum(1 - (2 * along - 1) ** 2, 0))
    ridge = taper * np.exp(-((distance / width) ** 2))
    furrow = taper * np.exp(-(((distance - 1.6 * width) / width) ** 2))
    shape = surface.height + height * (ridge - 0.5 * furrow)
    worn = surface.color * (1 + 0.25 * ridge - 0.35 * furrow)
    return surface.blend(taper, height=shape, color=worn)


def chip(surface: Surface, rng: Rng, region: Field, at: Point, radius: float) -> Surface:
    """Chip glass where `region` (a signed distance) is negative, struck at the point `at`.

    The break is dark and shell-like: plates that differ in tone and stick out of the outline,
    wisps of light that run around the blow, and crushed glass that flashes near it.
    """
    where = region < 0.3 * radius
    u, v = (t[where] for t in pose(surface.u, surface.v, at=at))
    bend = 0.15 * radius * noise(u, v, rng, 2 / radius, octaves=3)
    away, turn = np.hypot(u, v), np.arctan2(v, u)
    _, border, plate = cells(u + bend, v - bend, rng, 3 / radius)
    sway = noise(u, v, rng, 2.5 / radius, octaves=2)
    wisp = noise(away + bend, 0.5 * radius * turn, rng, (10 / radius, 3 / radius), octaves=2)
    wisp = np.exp(-((wisp / 0.25) ** 2)) * np.maximum(sway, 0)
    edge = np.exp(-((border / 0.05) ** 2)) * np.maximum(-sway, 0)
    crushed = noise(u, v, rng, 90, octaves=2) - 2.8 + 3.2 * np.exp(-((2.2 * away / radius) ** 2))
    tone = (0.005 + 0.12 * plate**4) * (1 + 0.6 * np.tanh(sway)) + 0.10 * wisp + 0.10 * edge
    tone = tone + 0.9 * np.clip(0.7 * crushed, 0, 1)
    broken, outline = np.zeros_like(surface.color), np.full_like(surface.height, 1.0)
    broken[:, where] = tone * mix(rgb(0.95, 0.97, 1.1), rgb(1.1, 0.85, 0.6), plate**2)[:, 0]
    outline[where] = region[where] + 0.3 * radius * np.abs(plate - 0.2)
    gone = inside(outline, 0.012)
    return surface.blend(gone, height=float(surface.height[where].mean()), color=broken, gloss=0.0)


# Marks on the surface ----------------------------------------------------------------------------


def scratch(
    surface: Surface,
    rng: Rng,
    at: Point,
    length: float,
    width: float,
    *,
    tone: Field | float,
    gloss: float = 0.3,
    strokes: int = 3,
    angle: float | None = None,
) -> Surface:
    """Drag something sharp along: fine, nearly parallel grooves that bare a layer of this tone."""
    angle = rng.uniform(0, np.pi) if angle is None else angle
    distance = np.full(surface.height.shape, np.inf, np.float32)
    for _ in range(strokes):
        along_by, aside_by = rng.normal(0, [0.15 * length, 3 * width * (strokes > 1)]).tolist()
        cos, sin = float(np.cos(angle)), float(np.sin(angle))
        start = (at[0] + along_by * cos - aside_by * sin, at[1] + along_by * sin + aside_by * cos)
        stroke = wander(rng, start, angle, length * rng.uniform(0.6, 1.0), 0.05, 6)
        away, along = path(surface.u, surface.v, stroke)
        distance = np.minimum(distance, away - width * (4 * along * (1 - along)) ** 0.5)
    broken = np.clip(1.1 + 0.35 * noise(surface.u, surface.v, rng, 30), 0, 1)
    groove = inside(distance + width / 2, max(width, surface.step)) * broken * surface.cover
    return surface.blend(groove, color=tone, gloss=gloss, height=surface.height - width / 2)


def scuff(
    surface: Surface, rng: Rng, at: Point, length: float, width: float, strength: float
) -> Surface:
    """Scrape bright metal free: a worn patch crossed by fine parallel grooves."""
    u, v = pose(surface.u, surface.v, rng.uniform(0, np.pi), at)
    patch = blob(u * (2 * width / length), v, rng, width, roughness=0.6)
    patch = patch + 0.008 * noise(surface.u, surface.v, rng, 40, octaves=2)
    grooves = np.full_like(patch, np.inf)
    for _ in range(6):
        du, dv, turn = rng.normal(0, [0.15 * length, 0.5 * width, 0.1]).tolist()
        stroke = segment(u - du, v - dv + turn * u, length * rng.uniform(0.3, 0.9))
        grooves = np.minimum(grooves, stroke)
    worn, groove = inside(patch, 0.02), inside(grooves - 0.003, 0.008)
    shine = 0.45 + 0.1 * noise(surface.u, surface.v, rng, 50)
    surface = surface.blend(strength * worn, color=shine)
    surface = surface.blend(strength * groove, color=0.8)
    surface = surface.blend(strength * np.maximum(worn, groove), gloss=0.6)
    return surface.blend(groove, height=surface.height - 0.003)


def paint(surface: Surface, rng: Rng, at: Point, radius: float, color: Field) -> Surface:
    """Drop a spot of opaque paint: a glossy film of uneven thickness with a round edge."""
    u, v = pose(surface.u, surface.v, rng.uniform(0, np.pi), at)
    spot = blob(u, v * 1.5, rng, radius, roughness=0.35)
    spot = spot + 0.008 * noise(surface.u, surface.v, rng, 30)
    thick = np.clip(1.2 + 0.5 * noise(surface.u, surface.v, rng, 12, octaves=2), 0.4, 1.6)
    film = surface.height + 0.004 * thick + 0.03 * np.sqrt(np.clip(-spot, 0, 0.03))
    return surface.blend(0.93 * inside(spot, 0.03), height=film, color=color * thick, gloss=0.12)


def stain(
    surface: Surface, rng: Rng, at: Point, radius: float, tint: Field, strength: float
) -> Surface:
    """Soak a spot with a dye: it multiplies the colour by `tint`, most at the dried rim."""
    u, v = pose(surface.u, surface.v, at=at)
    distance = blob(u, v, rng, radius) + 0.012 * noise(surface.u, surface.v, rng, 24)
    rim = np.exp(-(((distance + 0.02) / 0.02) ** 2))
    alpha = strength * inside(distance, 0.05) * (0.8 + 0.2 * rim)
    return surface.blend(alpha, color=surface.color * tint)


# Foreign matter ----------------------------------------------------------------------------------


def contamination(
    surface: Surface, rng: Rng, at: Point, radius: float, color: Field, softness: float = 0.015
) -> Surface:
    """Drop a crumpled flake of something foreign; `softness` is how far it is out of focus."""
    u, v = pose(surface.u, surface.v, rng.uniform(0, np.pi), at)
    distance = blob(u, v * rng.uniform(1, 1.8), rng, radius, roughness=0.5)
    distance = distance + 0.15 * radius * noise(surface.u, surface.v, rng, 30, octaves=2)
    crumple = 0.1 * radius * np.abs(noise(surface.u, surface.v, rng, 14, octaves=3))
    mottled = color * np.maximum(1 + 0.35 * noise(surface.u, surface.v, rng, 20, octaves=3), 0)
    flake = inside(distance, softness)
    return surface.blend(
        flake, height=surface.height + crumple, color=mottled, gloss=0.02, cover=1.0
    )


def glue(
    surface: Surface,
    rng: Rng,
    at: Point,
    radius: float,
    tint: Field,
    *,
    rim: float = 0.0,
    gloss: float = 0.35,
    roughness: float = 0.5,
) -> Surface:
    """Spill clear glue: a smooth, glossy drop that fills the relief and tints what is below.

    With a `rim` it is a puddle: a flat film with a round edge of this width.
    """
    u, v = pose(surface.u, surface.v, rng.uniform(0, np.pi), at)
    distance = blob(u, v * rng.uniform(1, 1.6), rng, radius, roughness)
    drop = inside(distance, 0.03)
    dome = 0.35 * np.sqrt(np.maximum(-distance * radius, 0))
    if rim:
        dome = 0.3 * rim * np.sqrt(1 - np.clip(1 + distance / rim, 0, 1) ** 2)
    dome = dome + 0.004 * noise(surface.u, surface.v, rng, 12)
    level = float(np.mean(surface.height, where=drop > 0.5) if (drop > 0.5).any() else 0)
    return surface.blend(
        drop, height=level + dome, color=surface.color * tint, gloss=gloss, cover=1.0
    )


def thread(surface: Surface, rng: Rng, at: Point, length: float, color: Field) -> Surface:
    """Drop a loose thread: one long, curled fibre that lies on top."""
    line = wander(rng, at, rng.uniform(0, 2 * np.pi), length, 0.35, 20)
    distance, along = path(surface.u, surface.v, line)
    fibre = inside(distance - 0.007, 0.008)
    twist = 0.8 + 0.2 * np.sin(along * length * 120)
    round_top = 0.02 * np.sqrt(np.maximum(1 - (distance / 0.011) ** 2, 0))
    shade = 0.35 * inside(distance - 0.02, 0.04)
    surface = surface.blend(shade, color=surface.color * 0.3)
    return surface.blend(
        fibre, color=color * twist, height=surface.height + round_top, gloss=0.02, cover=1.0
    )


def fibres(
    surface: Surface, rng: Rng, at: Point, reach: float, count: int, tone: float
) -> Surface:
    """Lay `count` short loose fibres within `reach` of a point."""
    distance = np.full_like(surface.height, np.inf)
    for _ in range(count):
        du, dv = rng.normal(0, 0.55 * reach, 2).tolist()
        u, v = pose(surface.u, surface.v, rng.uniform(0, np.pi), (at[0] + du, at[1] + dv))
        bent = v + rng.normal(0, 4.0) * u**2
        distance = np.minimum(distance, segment(u, bent, reach * rng.uniform(0.4, 1.0)))
    return surface.blend(
        inside(distance - 0.003, 0.008),
        color=tone * (1 + 0.4 * noise(surface.u, surface.v, rng, 12)),
        height=surface.height + 0.006,
    )
