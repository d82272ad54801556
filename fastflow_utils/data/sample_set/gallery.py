"""What the sample set is made of, each part alone, and all of it on one sheet.

>>> len(materials(size=64)), len(shapes(size=64)), len(tools(size=64))
(10, 14, 17)
>>> sheet = contact_sheet(["screw"], size=64)  # good, three defects, the last one's mask
>>> sheet.shape
(64, 320, 3)
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from fastflow_utils.data.sample_set import damage
from fastflow_utils.data.sample_set.camera import Camera, Light
from fastflow_utils.data.sample_set.materials import (
    around,
    cells,
    coil,
    mesh,
    noise,
    rings,
    specks,
    strands,
    weave,
)
from fastflow_utils.data.sample_set.rendering import CATEGORIES, defects, render
from fastflow_utils.data.sample_set.shapes import (
    bend,
    blob,
    box,
    brush,
    bundle,
    ellipse,
    globe,
    glyphs,
    hairs,
    helix,
    inside,
    join,
    lattice,
    path,
    profile,
    rods,
    sector,
    star,
)
from fastflow_utils.data.sample_set.surface import Field, Surface, grid, pose, rgb

__all__ = ["contact_sheet", "lights", "materials", "shapes", "tools"]

Picture = NDArray[np.uint8]
CAMERA = Camera((Light(225, 45, 0.8),), ambient=0.4, occlusion=0.3, shadow=0.4)


def _photograph(surface: Surface, camera: Camera = CAMERA) -> Picture:
    return camera.photograph(camera.shade(surface), np.random.default_rng(0))


def _plate(size: int, height: Field | float = 0.0) -> Surface:
    """Return a plain plate with this relief."""
    u, v = (np.broadcast_to(axis, (size, size)) for axis in grid(size))
    full = np.ones((size, size), np.float32)
    return Surface(
        u, v, height * full, rgb(0.35, 0.33, 0.3) * full, 0.15 * full, full, rgb(0, 0, 0)
    )


def materials(size: int = 128) -> dict[str, Picture]:
    """Return random fields and structures, as relief on a plain plate."""
    u, v = grid(size)
    across, down = (6 * axis for axis in np.broadcast_arrays(u, v))
    r, angle = np.hypot(u, v), np.arctan2(v, u)
    rng = np.random.default_rng(0)
    season, _ = rings(np.hypot(u + 1.2, 0.4 * v), rng, 0.12)
    relief = {
        "noise": 0.02 * noise(u, v, rng, 6, octaves=4),
        "streaks": 0.01 * noise(u, v, rng, (60, 3), octaves=2),
        "around": 0.1 * around(rng, 24, angle) * inside(0.3 - r, 0.5),
        "strands": 0.02 * strands(r, angle, rng, (0.5, 0.6, 0.7), 0.015),
        "rings": 0.03 * season,
        "cells": 0.2 * np.minimum(cells(u, v, rng, 8)[1], 0.15),
        "specks": 0.02 * specks(u, v, rng, 20, 1.5),
        "weave": 0.05 * weave(across, down, rng)[0],
        "mesh": 0.05 * mesh((across - down) / 3, (across + down) / 3, rng, 0.06)[0],
        "coil": coil(across / 6, down / 6, rng, 0.2, 0.4, 0 * across)[0],
    }
    return {name: _photograph(_plate(size, height)) for name, height in relief.items()}


def shapes(size: int = 128) -> dict[str, Picture]:
    """Return outlines, given as signed distances, and bodies, given as heights, on a plate."""
    u, v = grid(size)
    full_u, full_v = np.broadcast_arrays(u, v)
    rng = np.random.default_rng(2)
    line = [(-0.7, 0.4), (-0.2, -0.5), (0.2, 0.4), (0.7, -0.4)]
    distances = {
        "ellipse": ellipse(u, v, 0.7, 0.45),
        "box": box(u, v, 0.65, 0.4, 0.15),
        "star": star(u, v, 0.5, 6, 0.25),
        "blob": blob(full_u, full_v, rng, 0.55),
        "path": path(u, v, line)[0] - 0.1,
        "join": join(ellipse(u + 0.3, v, 0.4, 0.4), ellipse(u - 0.4, v, 0.3, 0.3), 0.3),
        "sector": box(*pose(*sector(u, v, 5), at=(0.5, 0)), 0.3, 0.12, 0.05),
        "lattice": lattice(u, v, 0.4) - 0.12,
        "glyphs": glyphs(u, v, "FF", 0.9) - 0.08,
    }
    heights = {name: 0.15 * np.sqrt(np.clip(-field, 0, 0.15)) for name, field in distances.items()}
    turned = profile(u, [(-0.8, 0.4), (-0.5, 0.15), (0.5, 0.15), (0.8, 0.0)])
    thread = 0.12 * helix(u, v, 0.3, 0.25) * (np.abs(u) < 0.5)
    ball, north, _ = globe(1.4 * u, 1.4 * v, 0.5)
    cover, back, _, _ = rods(u, v, bundle(rng, 0j, 0.17, bent=0.4 + 0.2j), 0.09)
    _, roots, lean = brush(rng, np.array([-0.3j, 0.4 + 0.3j, -0.4 + 0.3j]), 0.15, 40)
    distance, along, _ = hairs(u, v, roots, lean, 0 * lean)
    bodies: dict[str, Field] = {
        "lathe": np.sqrt(np.maximum((turned + thread) ** 2 - v**2, 0)),
        "globe": 0.4 * ball + 0.02 * (ball > 0) * (np.abs(north * 4 % 1 - 0.5) < 0.1),
        "bend": 0.5 - bend(full_u, 0.1, 0.9)[1],
        "bundle": 0.15 * cover * back,
        "brush": 0.1 * along * inside(distance - 0.012, 0.01),
    }
    every = heights | bodies
    return {name: _photograph(_plate(size, height)) for name, height in every.items()}


def lights(size: int = 128) -> dict[str, Picture]:
    """Return one bowl under other lamps and before other cameras."""
    u, v = grid(size)
    bump = _plate(size, 0.4 * np.sqrt(np.maximum(0.5 - u**2 - v**2, 0)))
    low, high = Light(200, 20, 1.0), Light(200, 70, 1.0)
    cameras = {
        "low lamp": Camera((low,), ambient=0.1),
        "high lamp": Camera((high,), ambient=0.1),
        "polished": Camera((high,), ambient=0.2, shininess=200),
        "occlusion": Camera((high,), ambient=0.1, occlusion=1.0),
        "blur": Camera((low,), ambient=0.1, blur=0.03),
        "noise": Camera((low,), ambient=0.1, noise=12),
    }
    return {name: _photograph(bump, camera) for name, camera in cameras.items()}


def tools(size: int = 128) -> dict[str, Picture]:
    """Return every damage tool on a plain plate."""
    here, dark = (0.0, 0.0), rgb(0.02, 0.02, 0.02)
    plate = _plate(size, 0.01 * noise(*grid(size), np.random.default_rng(1), 40))
    rng = np.random.default_rng(5)
    uses: dict[str, Callable[[], Surface]] = {
        "scratch": lambda: damage.scratch(plate, rng, here, 1.0, 0.02, tone=0.8, angle=0.5),
        "scuff": lambda: damage.scuff(plate, rng, here, 1.0, 0.2, 0.8),
        "crack": lambda: damage.crack(plate, rng, here, 1.4, 0.02, 0.05, angle=0.4),
        "fracture": lambda: damage.fracture(plate, rng, here, 0.9, 0.02, rgb(0.6, 0.6, 0.6)),
        "cut": lambda: damage.cut(plate, rng, here, 1.2, 0.06, dark),
        "hole": lambda: damage.hole(plate, rng, here, 0.35, dark),
        "breach": lambda: damage.breach(plate, rng, here, 0.35, rgb(0.6, 0.45, 0.3), dark),
        "paint": lambda: damage.paint(plate, rng, here, 0.3, rgb(0.03, 0.05, 0.2)),
        "break_off": lambda: damage.break_off(plate, rng, here, 0.0, 0.4, rgb(0.5, 0.45, 0.4)),
        "dent": lambda: damage.dent(plate, here, 0.5, 0.3),
        "fold": lambda: damage.fold(plate, rng, here, 1.4, 0.1, 0.06),
        "chip": lambda: damage.chip(plate, rng, ellipse(plate.u, plate.v, 0.5, 0.4), here, 0.4),
        "stain": lambda: damage.stain(plate, rng, here, 0.4, rgb(0.6, 0.2, 0.15), 0.9),
        "contamination": lambda: damage.contamination(plate, rng, here, 0.35, rgb(0.1, 0.12, 0.1)),
        "glue": lambda: damage.glue(plate, rng, here, 0.4, rgb(0.9, 0.9, 0.8), rim=0.1),
        "thread": lambda: damage.thread(plate, rng, here, 1.6, rgb(0.6, 0.55, 0.5)),
        "fibres": lambda: damage.fibres(plate, rng, here, 0.4, 12, tone=0.05),
    }
    return {name: _photograph(use()) for name, use in uses.items()}


def contact_sheet(
    categories: Sequence[str] = CATEGORIES, size: int = 128, columns: int = 1, seed: int = 0
) -> Picture:
    """Return one strip per category: a good image, three defects, and the last one's mask.

    The strips stand in `columns`; the severity is that of the set, drawn for each image.
    """
    strips = []
    for category in categories:
        kinds = defects(category)[:3]
        pairs = [
            render(category, kind, size=size, seed=seed + 1 + i) for i, kind in enumerate(kinds)
        ]
        mask = np.repeat(np.uint8(255) * pairs[-1][1][..., None], 3, axis=2)
        good = render(category, size=size, seed=seed)[0]
        strips.append(np.hstack([good, *(image for image, _ in pairs), mask]))
    rows = [np.hstack(strips[start : start + columns]) for start in range(0, len(strips), columns)]
    return np.vstack(rows)
