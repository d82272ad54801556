"""Materials: random fields and the structures made from them."""

from collections.abc import Sequence

import numpy as np
from scipy.interpolate import BSpline
from scipy.ndimage import map_coordinates

from fastflow_utils.data.sample_set.surface import Field, Rng

__all__ = [
    "around",
    "cells",
    "coats",
    "coil",
    "mesh",
    "noise",
    "rings",
    "specks",
    "strands",
    "weave",
]


def noise(
    u: Field, v: Field, rng: Rng, count: float | tuple[float, float], octaves: int = 1
) -> Field:
    """Return a smooth random field of mean 0 and spread about 1.

    Random numbers on a lattice are joined smoothly, so that the field is the same at any
    resolution: by cubic B-splines on axes, linearly on other fields.

    Args:
        u: Coordinates: axes (1, N) and (N, 1), which is fastest, or fields (N, N), as turned or
            bent as you like.
        v: The other coordinate.
        rng: Where the random numbers come from.
        count: Bumps across the image; two numbers (along u, along v) make streaks.
        octaves: Each further octave has twice as many bumps of half the height.

    >>> from fastflow_utils.data.sample_set.surface import grid
    >>> noise(*grid(64), np.random.default_rng(0), count=4).shape
    (64, 64)
    """
    counts = np.broadcast_to(count, 2).tolist()
    axes = u.shape[0] == 1 and v.shape[-1] == 1
    total = np.zeros(np.broadcast(u, v).shape, np.float32)
    for octave in range(octaves):
        cu, cv = (c / 2 * 2**octave for c in counts)  # per unit: the image spans two
        if axes:
            across, down = _splines(u.ravel() * cu), _splines(v.ravel() * cv)
            lattice = rng.standard_normal((down.shape[1], across.shape[1]), dtype=np.float32)
            total += down @ (across @ lattice.T).T * (2 / 2**octave)
        else:
            lattice = rng.standard_normal((256, 256), dtype=np.float32)
            where = np.stack([v * cv + 128, u * cu + 128])
            wave = map_coordinates(lattice, where, order=1, mode="grid-wrap")
            total += wave * (1.5 / 2**octave)
    return total


def _splines(t: Field) -> Field:
    """Return the cubic B-splines with knots at the integers, at the points t, (N, splines)."""
    half = (t[-1] - t[0]) / (len(t) - 1) / 2  # to the image's edges, which no size moves
    first, last = (int(np.floor(end)) for end in (t[0] - half + 1e-3, t[-1] + half - 1e-3))
    knots = np.arange(first - 3, max(first, last) + 5)
    basis: Field = BSpline.design_matrix(t.astype(float), knots, 3).astype(np.float32)
    return basis


def around(rng: Rng, count: int, angle: Field | None = None) -> Field:
    """Return a random function of the angle: 1024 samples of `count` values in [0, 1], joined.

    Given an `angle` (radians) at every point, return the function's value there.
    """
    turn = np.linspace(0, 1, 1024, endpoint=False)
    knots = np.linspace(0, 1, count, endpoint=False)
    samples: Field = np.interp(turn, knots, rng.random(count), period=1).astype(np.float32)
    if angle is None:
        return samples
    there: Field = samples.take(np.floor(angle * (512 / np.pi)).astype(np.int32), mode="wrap")
    return there


def strands(r: Field, angle: Field, rng: Rng, radii: Sequence[float], width: float) -> Field:
    """Return the light, about 0 to 1, of thin, wavy, glittering strands around the centre.

    Args:
        r: The distance from the centre, (N, N).
        angle: The direction seen from the centre, in radians, (N, N).
        rng: Where the random numbers come from.
        radii: Where the strands run, each to within 0.013.
        width: Half their width. Coarse points see the same light in wider strands.
    """
    thin, light = max(width, 1 / len(r)), np.zeros_like(r)
    near = (r > min(radii) - 0.04) & (r < max(radii) + 0.04)
    away, turn = r[near], np.floor(angle[near] * (512 / np.pi)).astype(np.int16) % 1024
    for radius in radii:
        course = radius + 0.02 * (around(rng, 5) - 0.5) + 0.006 * (around(rng, 60) - 0.5)
        bright = around(rng, 5) ** 2 * around(rng, 23) * (0.4 + 2 * around(rng, 110) ** 2)
        bright = width / thin * (bright + 4 * around(rng, 40) ** 30)  # with a few sparks
        light[near] += np.exp(-(((away - course[turn]) / thin) ** 2)) * bright[turn]
    return light


def coats(*layers: tuple[Sequence[float], Field]) -> Field:
    """Return the colour (3, N, N) of layers laid over each other: each a colour and its cover.

    This is `mix` again and again, but faster, since it goes channel by channel.
    """
    color = np.zeros((3, *layers[0][1].shape), np.float32)
    for paint, cover in layers:
        for channel, value in zip(color, paint, strict=True):
            channel += cover * (float(value) - channel)
    return color


def cells(
    u: Field, v: Field, rng: Rng, count: float, jitter: float = 1.0
) -> tuple[Field, Field, Field]:
    """Return a mosaic of random cells, about `count` across the image (Worley noise).

    The less `jitter`, down to 0, the more alike they are in size.

    Returns:
        The distance to the nearest of the random points, the distance from there to the border
        of its cell (roughly), both in units of a cell's size, and a number in [0, 1) per cell.
    """
    u, v = np.broadcast_arrays(u * (count / 2), v * (count / 2))
    column, row = np.floor(u).astype(np.int16), np.floor(v).astype(np.int16)
    shift_u, shift_v, name = rng.random((3, 64 * 64), dtype=np.float32)
    shift_u, shift_v = (0.5 + jitter * (shift - 0.5) for shift in (shift_u, shift_v))
    u, v = u - column, v - row
    first = np.full(u.shape, np.inf, np.float32)
    second, owner = first.copy(), np.zeros(u.shape, np.int16)
    for di in (-1, 0, 1):
        line = (row + np.int16(di)) % 64 * np.int16(64)
        for dj in (-1, 0, 1):
            slot = line + (column + np.int16(dj)) % 64
            away = ((shift_u + dj).take(slot) - u) ** 2  # the square, while comparing
            away += ((shift_v + di).take(slot) - v) ** 2
            np.copyto(owner, slot, where=away < first)
            np.minimum(second, np.maximum(first, away), out=second)
            np.minimum(first, away, out=first)
    first, second = np.sqrt(first), np.sqrt(second)
    return first, (second - first) / 2, name.take(owner)


def specks(
    u: Field, v: Field, rng: Rng, count: float | tuple[float, float], above: float
) -> Field:
    """Return 1 on the small irregular grains where noise rises `above` so much, elsewhere 0.

    `above` is in units of the noise's spread: 2.3 strews many grains, 3.3 a few.
    """
    grains: Field = np.clip(2 * (noise(u, v, rng, count) - above) + 0.5, 0, 1)
    return grains


def rings(radius: Field, rng: Rng, width: float, spread: float = 0.4) -> tuple[Field, Field]:
    """Return the yearly rings of a trunk: the season, from 0 to 1, and a normal number per year.

    The rings are about `width` wide, and vary by the factor exp(`spread`). There are 128: beyond
    them it is always the last year.
    """
    ends = width * rng.lognormal(0, spread, 128).cumsum()
    age = np.interp(radius, ends, np.arange(128))
    year = age.astype(np.int16)
    return (age - year).astype(np.float32), rng.standard_normal(128, np.float32)[year]


def weave(u: Field, v: Field, rng: Rng) -> tuple[Field, Field]:
    """Return height and tone, each about 0 to 1, of a plain weave with one yarn per unit.

    Yarns along v (warp) and along u (weft) pass over and under each other in turn; whichever is
    higher shows. The tone is constant on the stretch of yarn between two dives.
    """
    layers = []
    for across, along, parity in ((u, v, 0), (v, u, 1)):
        yarn = np.floor(across).astype(np.int16)  # with 16 bits, floats stay at 32
        side = (yarn + parity) % 2
        stretch = np.floor((along + 0.5 - side) / 2).astype(np.int16)
        width = rng.normal(0.34, 0.03, 64).astype(np.float32)[yarn % 64]
        section = np.sqrt(np.maximum(1 - ((across - yarn - 0.5) / width) ** 2, 0))
        wave = 0.25 * np.sin(np.pi * along) * (1 - 2 * side)
        fleck, yarns = rng.beta(1.2, 2.2, (64, 64)), rng.normal(0, 0.09, (64, 1))
        tones = (0.18 + 0.65 * fleck + yarns).astype(np.float32)
        layers.append((0.7 * section + wave * (section > 0), tones[yarn % 64, stretch % 64]))
    (warp, warp_tone), (weft, weft_tone) = layers
    return np.maximum(warp, weft), np.where(warp > weft, warp_tone, weft_tone)


def mesh(
    u: Field,
    v: Field,
    rng: Rng,
    radius: float,
    torn: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> tuple[Field, Field, Field]:
    """Return height, tone and outline of a mesh of round wires, one per unit of u and of v.

    Wires along v and wires along u pass over and under each other in turn. However u and v are
    turned, scaled or bent, a wire keeps its thickness: its distance is measured in the image.

    Args:
        u: Fields (N, N) that span the image.
        v: The other coordinate.
        rng: Where the random numbers come from.
        radius: Half a wire's thickness, in units of half the image.
        torn: The wire along v nearest to (u, v) has a gap, there, of this half length; its ends
            stand aside.

    Returns:
        The height above the ground in radii, 0 between the wires and about 1 to 3 on them; the
        tone, about 1, of each wire; and the distance to the wires' outline.
    """
    height, tone = np.zeros((2, *u.shape), np.float32)
    outline = np.full_like(height, np.inf)
    torn_u, torn_v, gap = torn
    for across, along, side in ((u, v, 1), (v, u, -1)):
        aside, shade = rng.normal(0, [[0.03], [0.1]], (2, 64)).astype(np.float32)
        wire = np.floor(across).astype(np.int16)
        offset = across - wire - 0.5 - aside[wire % 64]
        if gap > 0 and side == 1:
            inner = gap - np.abs(along - torn_v)  # how deep in the gap
            bend = 0.2 * np.sign(along - torn_v) * np.clip(1 + inner / 0.8, 0, 1) ** 2
            hurt = np.hypot(offset + bend, np.maximum(inner, 0))
            offset = np.where(wire == np.floor(torn_u), hurt, offset)
        distance = np.abs(offset) / np.hypot(*np.gradient(across, 2 / len(across)))
        over = side * np.sin(np.pi * (along + wire))
        back = 1 + 0.7 * over + np.sqrt(np.maximum(1 - (distance / radius) ** 2, 0))
        higher = (distance < radius) & (back > height)
        np.copyto(height, back, where=higher)
        np.copyto(tone, 1 + shade[wire % 64], where=higher)
        outline = np.minimum(outline, distance - radius)
    return height, tone, outline


def coil(
    u: Field,
    v: Field,
    rng: Rng,
    pitch: float,
    reach: float,
    spread: Field,
    broken: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> tuple[Field, Field, Field]:
    """Return height, tone and outline of a closed zipper: two rows of interlocking teeth.

    Each tooth is a wire that comes up at the side of the coil, curls, and ends past the seam.

    Args:
        u: Across the zipper, whose seam is at 0; (N, N), like all fields here.
        v: Along it.
        rng: Where the random numbers come from.
        pitch: From one tooth of a row to the next; the wires are 0.4 of it thick.
        reach: How far the coil extends to either side of the seam.
        spread: How far either row has moved off the seam, 0 where the zipper is closed.
        broken: Around this v, that many teeth up and down are broken in the left and in the right
            row: they are short, bright and stand askew.

    Returns:
        The height of the wires and of the arch that they lie on; the tone, 1 on the back of a
        wire, up to 3 where it is broken, 0 between wires; and the distance to the wires'
        outline (9 far from the coil).
    """
    near = np.abs(u) - spread < reach + pitch
    layers = np.zeros((3, *near.shape), np.float32)
    layers[2] = 9
    u, v, spread = u[near], v[near], spread[near]
    arch = 0.24 * reach * np.sqrt(np.maximum(1 - ((np.abs(u) - spread) / reach) ** 2, 0))
    height, tone, outline = arch, np.zeros_like(arch), np.full_like(arch, 9)
    middle, *counts = broken
    for side, count in zip((-1, 1), counts, strict=True):
        out = side * u - spread
        curl = 0.5 * np.maximum(out / reach, 0) ** 4 - 0.15 * out / reach
        place = v / pitch + 0.25 * side + curl
        tooth = np.floor(place).astype(np.int16)
        tilt, short = rng.normal(0, 1, (2, 64)).astype(np.float32)[:, tooth % 64]
        harm = np.clip(count - np.abs(tooth + np.float32(0.5 - middle / pitch)), 0, 1)
        aside = pitch * (place - tooth - 0.5 + 0.03 * tilt)
        aside = aside + 0.6 * harm * tilt * np.maximum(0.8 * reach - out, 0)
        stump = harm * (0.45 + 0.35 * short) + 0.02 * short
        away = np.hypot(aside, np.minimum(out - reach * (stump - 0.11), 0))
        back = np.sqrt(np.maximum(1 - (away / (0.2 * pitch)) ** 2, 0))
        rim = np.maximum(away - 0.17 * pitch, out - reach)
        solid = np.clip(0.5 - rim / (0.18 * pitch), 0, 1)
        height = height + solid * (arch + 0.2 * pitch * back - height)
        tone = tone + solid * ((1 + 2 * harm) * back - tone)
        outline = np.minimum(outline, rim)
    layers[0, near], layers[1, near], layers[2, near] = height, tone, outline
    return layers[0], layers[1], layers[2]
