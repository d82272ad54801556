"""Materials: random fields and the structures made from them."""

import numpy as np
from scipy.interpolate import BSpline

from fastflow_utils.sample_data.surface import Field

__all__ = ["around", "noise", "weave"]


def noise(x: Field, y: Field, rng: np.random.Generator, cells: int, octaves: int = 1) -> Field:
    """Return a smooth random field (N, N) of mean 0 and spread about 1.

    Random numbers on a lattice are joined by cubic B-splines, so that the field is the same at
    any resolution. `cells` is the number of bumps across the image; each further octave has
    twice as many of half the height.

    >>> from fastflow_utils.sample_data.surface import grid
    >>> noise(*grid(64), np.random.default_rng(0), cells=4).shape
    (64, 64)
    """
    total = np.zeros((y.size, x.size), np.float32)
    for octave in range(octaves):
        count = cells * 2**octave
        across, down = (
            BSpline.design_matrix((axis.ravel() + 1) / 2 * count, np.arange(-3, count + 4), 3)
            for axis in (x, y)
        )
        lattice = rng.standard_normal((count + 3, count + 3), dtype=np.float32)
        total += down.astype("f4") @ (across.astype("f4") @ lattice).T * (2 / 2**octave)
    return total


def around(rng: np.random.Generator, count: int) -> Field:
    """Return a random function of the angle: 1024 samples of `count` values in [0, 1], joined."""
    turn = np.linspace(0, 1, 1024, endpoint=False)
    knots = np.linspace(0, 1, count, endpoint=False)
    return np.interp(turn, knots, rng.random(count), period=1).astype(np.float32)


def weave(u: Field, v: Field, rng: np.random.Generator) -> tuple[Field, Field]:
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
