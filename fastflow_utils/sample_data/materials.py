"""Materials: random fields and the structures made from them."""

from collections.abc import Sequence

import numpy as np
from scipy.interpolate import BSpline
from scipy.ndimage import map_coordinates

from fastflow_utils.sample_data.surface import Field, Rng

__all__ = ["around", "cells", "coats", "noise", "spots", "weave"]


def noise(
    u: Field, v: Field, rng: Rng, count: float | tuple[float, float], octaves: int = 1
) -> Field:
    """Return a smooth random field of mean 0 and spread about 1.

    Random numbers on a lattice are joined by cubic B-splines, so that the field is the same at
    any resolution.

    Args:
        u: Coordinates: axes (1, N) and (N, 1), which is fastest, or fields (N, N), as turned or
            bent as you like.
        v: The other coordinate.
        rng: Where the random numbers come from.
        count: Bumps across the image; two numbers (along u, along v) make streaks.
        octaves: Each further octave has twice as many bumps of half the height.

    >>> from fastflow_utils.sample_data.surface import grid
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
    first, last = int(np.floor(t.min())), int(np.floor(t.max())) + 1
    knots = np.arange(first - 3, last + 4)
    basis: Field = BSpline.design_matrix(t.astype(float), knots, 3).astype(np.float32)
    return basis


def around(rng: Rng, count: int) -> Field:
    """Return a random function of the angle: 1024 samples of `count` values in [0, 1], joined."""
    turn = np.linspace(0, 1, 1024, endpoint=False)
    knots = np.linspace(0, 1, count, endpoint=False)
    return np.interp(turn, knots, rng.random(count), period=1).astype(np.float32)


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


def spots(u: Field, v: Field, rng: Rng, count: float, radius: float) -> Field:
    """Return the distance to round grains of at most `radius`, one per cell of the mosaic.

    The sizes are uniform from 0 to `radius`. Distances are in the image's unit.
    """
    away, _, size = cells(u, v, rng, count)
    return away * (2 / count) - radius * size


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
