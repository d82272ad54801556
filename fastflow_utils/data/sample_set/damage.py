"""Damage: each tool takes a surface and returns the damaged one.

A defect changes the material before it is lit, so that light, blur and noise treat it like
everything else in the photograph; the mask follows from the light that changed. Positions and
lengths are in the object's own coordinates (u, v), in units of half the image. Parts that are
missing, misplaced or wrongly printed are no damage to a surface: a category draws them by
:meth:`~fastflow_utils.data.sample_set.scene.Scene.again`.
"""

import numpy as np

from fastflow_utils.data.sample_set.materials import cells, noise
from fastflow_utils.data.sample_set.shapes import blob, inside, path, segment, wander
from fastflow_utils.data.sample_set.surface import Field, Mask, Point, Rng, Surface, mix, pose, rgb

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
    "fracture",
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
    fits = where[tries[:, 0], tries[:, 1]]
    if not fits.any():  # a narrow place: take the point of it that is nearest to the first try
        tries = np.argwhere(where)
        fits = -np.hypot(*(tries - len(where) * rng.uniform(0.12, 0.88, 2)).T)
    row, column = tries[np.argmax(fits)]
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
    wiggle: float = 0.35,
    chips: Field | None = None,
    lips: Field | None = None,
) -> Surface:
    """Crack the material: a jagged, dark groove that tapers, with a branch and a bright lip.

    Along the groove the outer layer may have chipped off and bare what has the colour `chips`.
    The edges of the groove have the colour `lips`; by default a little more than the surface's.
    """
    angle = rng.uniform(0, 2 * np.pi) if angle is None else angle
    trunk = wander(rng, at, angle, length, wiggle, 16)
    distance, along = path(surface.u, surface.v, trunk)
    distance = distance - width * (1 - np.abs(2 * along - 1)) ** 0.5
    root = trunk[int(rng.integers(4, 12))]
    turn = rng.choice([-1, 1]) * rng.uniform(0.5, 1.2)
    branch = wander(rng, root, angle + turn, length, wiggle)[6:]
    away, along = path(surface.u, surface.v, branch)
    distance = np.minimum(distance, away - 0.6 * width * (1 - along))
    distance = distance + 0.3 * width * noise(surface.u, surface.v, rng, 60)
    reach = 0.024 if lips is None else 0.012
    lip = inside(distance - reach / 2, reach)
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


def fracture(
    surface: Surface, rng: Rng, at: Point, length: float, width: float, inner: Field
) -> Surface:
    """Break a plate by a blow: three cracks, each of about `length`, run out from there.

    Their edges are chipped; the lip that faces the first quadrant bares the bright `inner`.
    """
    distance = np.full_like(surface.height, np.inf)
    for turn in rng.uniform(0, 2 * np.pi) + np.array([0.0, 2.2, 4.2]) + rng.normal(0, 0.3, 3):
        arm = wander(rng, at, float(turn), 2 * length, 0.07, 32)[16:]  # half of it, from `at` on
        away, along = path(surface.u, surface.v, arm)
        gape = rng.uniform(0.6, 1.2) * width * np.sqrt(1 - along)
        distance = np.minimum(distance, away - gape)
    rough = noise(surface.u, surface.v, rng, 50, octaves=2)
    distance = distance + 0.25 * width * rough
    down, right = np.gradient(distance, surface.step)
    lit = np.clip(0.35 + 0.5 * right + 0.8 * down + 0.3 * rough, 0, 1)
    chipped = np.maximum(noise(surface.u, surface.v, rng, 30, octaves=2) - 0.6, 0)
    lip = lit * inside(distance - 0.012 - 1.2 * width * chipped, 0.012)
    surface = surface.blend(lip, color=inner)
    return surface.blend(inside(distance, 0.012), color=0.12 * surface.color, gloss=0.0)


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
    """Break into a hollow shell: its ragged `wall` shows at one side, and `inner` deep below."""
    u, v = pose(surface.u, surface.v, rng.uniform(0, 2 * np.pi), at)
    rough, ragged = noise(u, v, rng, 50, octaves=2), noise(u, v, rng, 1.6 / radius, octaves=3)
    shard = u + rng.uniform(1.5, 2.2) * np.abs(v + rng.normal(0, 0.3) * u) - 1.4 * radius
    broken = np.maximum(blob(u, v, rng, 1.3 * radius, roughness=0.5), 0.5 * shard)
    broken = broken + 0.09 * radius * ragged
    side = 0.35 - 0.6 * u / radius + 0.25 * noise(u, v, rng, 3 / radius)
    thickness = (0.008 + 0.2 * radius) * np.clip(side, 0, 1.3)
    deep = broken + thickness
    shade = np.clip(0.6 + 0.12 * ragged + 0.2 * rough - 2 * broken, 0.15, 1)
    surface = surface.blend(inside(broken, 0.012), color=wall * shade, gloss=0.0)
    lit = 0.1 + inside(deep + 0.4 * radius + 0.2 * u, 0.5 * radius)  # under the rim it is dark
    below = inner * np.maximum(1 + 0.3 * rough + 0.3 * ragged, 0.2) * lit
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

    The break is shell-like: a few large, smooth facets, each of them lighter towards one side
    and rippled around the blow, edges that catch the light here and there, crushed glass where
    it was struck, and a bright line all along the border.
    """
    where = region < 0.3 * radius
    u, v = (t[where] / radius for t in pose(surface.u, surface.v, at=at))
    bend = 0.25 * noise(u, v, rng, 3, octaves=2)
    away = np.hypot(u, v)
    _, border, plate = cells(u + bend, v - bend, rng, 2.2)
    turn = 40 * plate  # any angle, another one for each facet
    slope = np.tanh(1.5 * (u * np.cos(turn) + v * np.sin(turn)) + noise(u, v, rng, 2))
    ripple = np.sin(22 * (away + 0.4 * bend)) * np.exp(-2 * away)
    sway = np.maximum(noise(u, v, rng, 2.5, octaves=2), 0)
    outside = region[where] / radius + 0.2 * np.abs(plate - 0.2)
    rim = np.exp(-((outside * radius / 0.007) ** 2)) * (0.04 + 0.16 * sway)
    edge = np.exp(-((border / 0.035) ** 2)) * 0.12 * sway
    _, _, crumb = cells(u + 0.5 * bend, v - 0.5 * bend, rng, 100 * radius)
    crushed = crumb**12 * np.exp(-((2 * away) ** 2))
    tone = 0.010 + 0.035 * (1 + slope) * (0.4 + 1.6 * plate**2) * (1 + 0.3 * ripple)
    tone = tone + rim + edge + 1.1 * crushed
    broken, outline = np.zeros_like(surface.color), np.full_like(surface.height, 1.0)
    broken[:, where] = tone * mix(rgb(0.92, 0.95, 1.25), rgb(1.1, 0.85, 0.6), plate**6)[:, 0]
    outline[where] = outside * radius
    gone = inside(outline - 0.004, 0.012)
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
    """Dab on paint: a film with the strokes of a brush; what shines below shines through."""
    u, v = pose(surface.u, surface.v, rng.uniform(0, np.pi), at)
    spot = blob(u, v * rng.uniform(1.2, 2.4), rng, radius, roughness=0.45)
    smear = noise(u, v, rng, (2 / radius, 12 / radius), octaves=2)  # the strokes of a brush
    spot = spot + 0.1 * radius * smear + 0.006 * noise(surface.u, surface.v, rng, 60)
    thick = np.clip(0.8 - 0.25 * smear - 0.3 * spot / radius, 0.4, 0.97)
    light = surface.color.mean(axis=0) / surface.color.mean(where=surface.cover > 0.5)
    tone = color * (0.5 + 0.6 * light) + 0.02 * np.clip(smear - 0.8, 0, 1)
    film = surface.height + 0.004 * thick
    return surface.blend(thick * inside(spot, 0.014), height=film, color=tone)


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
    """Drop a crumpled flake of something foreign; `softness` is how far it is out of focus.

    It is thicker, and less translucent, in the middle than at its frayed edge, has a relief of
    folds, and throws a soft shadow on what lies close to it.
    """
    u, v = pose(surface.u, surface.v, rng.uniform(0, np.pi), at)
    distance = blob(u, v * rng.uniform(1, 1.8), rng, radius, roughness=0.5)
    distance = distance + 0.13 * radius * noise(u, v, rng, 4 / radius, octaves=3)
    folds = np.abs(noise(u, v, rng, 2 / radius, octaves=2))
    thick = inside(distance + 0.25 * radius, 0.5 * radius)
    relief = radius * (0.25 * np.sqrt(np.maximum(-distance / radius, 0)) + 0.12 * folds)
    shade = 1 + 0.5 * np.clip(u / radius, -1, 1) + 0.35 * noise(u, v, rng, 2.5 / radius, octaves=3)
    mottled = color * (np.maximum(shade, 0.15) + np.exp(-((folds / 0.15) ** 2)))  # bright creases
    shadow = 0.6 * np.exp(-((np.maximum(distance, 0) / (0.2 * radius)) ** 2))
    surface = surface.blend(shadow * surface.cover, color=surface.color * 0.15)
    flake = inside(distance, softness) * (0.45 + 0.55 * thick)
    return surface.blend(
        flake, height=surface.height + relief, color=mottled, gloss=0.02, cover=1.0
    )


def glue(
    surface: Surface,
    rng: Rng,
    at: Point,
    radius: float,
    tint: Field,
    *,
    rim: float,
    gloss: float = 0.35,
    roughness: float = 0.5,
) -> Surface:
    """Spill clear glue: a smooth, glossy film that fills the relief and tints what is below.

    Its edge is round over the width `rim`.
    """
    u, v = pose(surface.u, surface.v, rng.uniform(0, np.pi), at)
    distance = blob(u, v * rng.uniform(1, 1.6), rng, radius, roughness)
    drop = inside(distance, 0.03)
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
