"""Damage: each tool takes a surface and returns the damaged one with the exact mask.

A defect changes the material before it is lit, so that light, blur and noise treat it like
everything else in the photograph. Positions and lengths are in the object's own coordinates, in
units of half the image.
"""

import numpy as np
from scipy.ndimage import grey_opening
from scipy.spatial import cKDTree

from fastflow_utils.sample_data.materials import noise
from fastflow_utils.sample_data.shapes import blob, inside, segment
from fastflow_utils.sample_data.surface import Field, Mask, Point, Surface, pose, rgb

__all__ = ["contamination", "cut", "fibres", "fracture", "grind", "hole", "scratch", "stain"]

Rng = np.random.Generator


def _hold(surface: Surface) -> Field:
    """Return how far the material holds out at a torn edge: its high points reach further."""
    hold: Field = 2 * (surface.height - surface.height.mean())
    return hold


def hole(
    surface: Surface, rng: Rng, at: Point, radius: float, backing: Field
) -> tuple[Surface, Mask]:
    """Tear a hole that shows the dark `backing`; its ragged edge stands up a little."""
    u, v = pose(surface.u, surface.v, at=at)
    distance = blob(u, v, rng, radius) + _hold(surface)
    rim = inside(np.abs(distance) - 0.012, 0.02)
    surface = surface.blend(rim, height=surface.height + 0.02, color=surface.color * 0.8)
    below = backing * (1 + 0.4 * noise(surface.x, surface.y, rng, 60))
    surface = surface.blend(
        inside(distance, 0.012), height=surface.height - 0.05, color=below, gloss=0.0
    )
    surface, loose = fibres(surface, rng, at, radius, int(6 + 60 * radius))
    return surface, (distance < 0.022) | loose


def fibres(
    surface: Surface, rng: Rng, at: Point, reach: float, count: int
) -> tuple[Surface, Mask]:
    """Lay `count` short loose fibres within `reach` of a point."""
    distance = np.full_like(surface.height, np.inf)
    for _ in range(count):
        du, dv = rng.normal(0, 0.55 * reach, 2)
        u, v = pose(surface.u, surface.v, rng.uniform(0, np.pi), (at[0] + du, at[1] + dv))
        bent = v + rng.normal(0, 4.0) * u**2
        distance = np.minimum(distance, segment(u, bent, reach * rng.uniform(0.4, 1.0)))
    tone = 0.13 + 0.05 * noise(surface.x, surface.y, rng, 12)
    surface = surface.blend(
        inside(distance - 0.003, 0.008), color=tone, height=surface.height + 0.006
    )
    return surface, distance < 0.009


def cut(
    surface: Surface, rng: Rng, at: Point, length: float, width: float, backing: Field
) -> tuple[Surface, Mask]:
    """Slit the material along a slightly bent line; the slit gapes and its lips stand up."""
    u, v = pose(surface.u, surface.v, rng.uniform(0, np.pi), at)
    v = v - rng.normal(0, 0.5) * u**2 + 0.008 * noise(surface.x, surface.y, rng, 20)
    gape = width * np.sqrt(np.maximum(1 - (2 * u / length) ** 2, 0))
    distance = segment(u, v, length) - gape + 0.5 * _hold(surface)
    lip = np.exp(-((distance / 0.025) ** 2))
    surface = surface.blend(lip, height=surface.height + 0.06, color=surface.color * 0.9)
    slit = inside(distance, 0.012)
    return surface.blend(slit, height=surface.height - 0.05, color=backing), distance < 0.045


def stain(
    surface: Surface, rng: Rng, at: Point, radius: float, tint: Field, strength: float
) -> tuple[Surface, Mask]:
    """Soak a spot with a dye: it multiplies the colour by `tint`, most at the dried rim."""
    u, v = pose(surface.u, surface.v, at=at)
    distance = blob(u, v, rng, radius) + 0.012 * noise(surface.x, surface.y, rng, 24)
    rim = np.exp(-(((distance + 0.02) / 0.02) ** 2))
    alpha = strength * inside(distance, 0.05) * (0.8 + 0.2 * rim)
    return surface.blend(alpha, color=surface.color * tint), distance < 0.015


def fracture(
    surface: Surface, rng: Rng, region: Field, at: Point, radius: float, facets: int
) -> tuple[Surface, Mask]:
    """Break glass where `region` (a signed distance) is negative, struck at the point `at`.

    Flat facets, the cells around random points, replace the old surface. They are large and dark
    far from the blow; near it they are small, tilt at random and flash where they face a lamp.
    """
    x, y, mask = surface.x, surface.y, region < 0.01
    u, v = (t[mask] for t in pose(surface.u, surface.v, at=at))
    reach, turn = rng.exponential(0.5 * radius, facets), rng.uniform(0, 2 * np.pi, facets)
    points = np.stack([reach * np.cos(turn), reach * np.sin(turn)], axis=-1)
    away, nearest = cKDTree(points).query(np.stack([u, v], axis=-1), k=2)
    facet = nearest[:, 0]
    shard = np.exp(-((reach / (0.4 * radius)) ** 2)) * rng.random(facets) ** 2
    tilt = rng.normal(0, 0.08, (2, facets)) + rng.normal(0, 0.5, (2, facets)) * shard
    crease = np.exp(-(((away[:, 1] - away[:, 0]) / 0.006) ** 2)) * rng.random(facets)[facet] ** 4

    height, gloss, clear = np.zeros((3, *mask.shape), np.float32)
    rise = tilt[0, facet] * (u - points[facet, 0]) + tilt[1, facet] * (v - points[facet, 1])
    height[mask] = surface.height[mask].mean() + rise
    gloss[mask] = 0.02 + 4.0 * shard[facet]
    clear[mask] = 0.005 + 0.010 * rng.random(facets)[facet] + 0.2 * crease
    height += 0.001 * noise(x, y, rng, 30)
    color = clear * np.maximum(1 + 0.3 * noise(x, y, rng, 6, octaves=4), 0) * rgb(0.92, 0.95, 1.1)
    broken = surface.blend(inside(region, 0.008), height=height, color=color, gloss=gloss)
    rim = inside(np.abs(region) - 0.002, 0.008) * np.clip(0.5 * noise(x, y, rng, 9), 0, 1)
    return broken.blend(rim, color=rgb(0.5, 0.35, 0.22)), mask


def contamination(
    surface: Surface, rng: Rng, at: Point, radius: float, color: Field, softness: float
) -> tuple[Surface, Mask]:
    """Drop a crumpled flake of something foreign; `softness` is how far it is out of focus."""
    u, v = pose(surface.u, surface.v, rng.uniform(0, np.pi), at)
    distance = blob(u, v * rng.uniform(1, 1.8), rng, radius, roughness=0.5)
    distance = distance + 0.01 * noise(surface.x, surface.y, rng, 30, octaves=2)
    crumple = 0.02 * np.abs(noise(surface.x, surface.y, rng, 14, octaves=3))
    mottled = color * np.maximum(1 + 0.35 * noise(surface.x, surface.y, rng, 20, octaves=3), 0)
    flake = inside(distance, softness)
    surface = surface.blend(flake, height=surface.height + crumple, color=mottled, gloss=0.02)
    return surface, distance < softness / 2


def scratch(
    surface: Surface, rng: Rng, at: Point, length: float, width: float, strength: float
) -> tuple[Surface, Mask]:
    """Scrape bright metal free: a worn patch crossed by fine parallel grooves."""
    u, v = pose(surface.u, surface.v, rng.uniform(0, np.pi), at)
    patch = blob(u * (2 * width / length), v, rng, width, roughness=0.6)
    patch = patch + 0.008 * noise(surface.x, surface.y, rng, 40, octaves=2)
    grooves = np.full_like(patch, np.inf)
    for _ in range(6):
        du, dv, turn = rng.normal(0, [0.15 * length, 0.5 * width, 0.1]).tolist()
        stroke = segment(u - du, v - dv + turn * u, length * rng.uniform(0.3, 0.9))
        grooves = np.minimum(grooves, stroke)
    worn, groove = inside(patch, 0.02), inside(grooves - 0.003, 0.008)
    shine = 0.45 + 0.1 * noise(surface.x, surface.y, rng, 50)
    surface = surface.blend(strength * worn, color=shine)
    surface = surface.blend(strength * groove, color=0.8)
    surface = surface.blend(strength * np.maximum(worn, groove), gloss=0.6)
    surface = surface.blend(groove, height=surface.height - 0.003)
    return surface, (np.minimum(patch - 0.01, grooves - 0.008) < 0) & (surface.height > 0)


def grind(
    surface: Surface, rng: Rng, at: Point, radius: float, ridge: float, strength: float
) -> tuple[Surface, Mask]:
    """Grind off whatever is narrower than `ridge` and stands up or out; the metal shines there."""
    u, v = pose(surface.u, surface.v, at=at)
    step = float(surface.y[1, 0] - surface.y[0, 0])
    points = int(ridge / step) | 1
    flat = grey_opening(surface.height, size=(points, points))
    worn = inside(blob(u, v, rng, radius), 0.02)
    ground = surface.blend(worn, height=flat)
    removed = inside(0.006 - (surface.height - ground.height), 0.006)
    shine = 0.45 + 0.1 * noise(surface.x, surface.y, rng, 50)
    return ground.blend(strength * removed, color=shine), removed > 0.01
