"""Shapes as signed distance functions: negative inside, positive outside, 0 on the outline.

Shapes are joined by `np.minimum`, cut from each other by `np.maximum(one, -other)`.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation
from scipy.spatial import cKDTree

from fastflow_utils.data.sample_set.surface import Field, Point, Rng

__all__ = [
    "Rod",
    "Vectors",
    "bend",
    "blob",
    "bore",
    "box",
    "brush",
    "bundle",
    "ellipse",
    "globe",
    "glyphs",
    "hairs",
    "helix",
    "inside",
    "join",
    "lattice",
    "lettering",
    "path",
    "pattern",
    "profile",
    "rods",
    "sector",
    "segment",
    "star",
    "towards",
    "wander",
]

Vectors = NDArray[np.complexfloating[Any]]  # u + iv
Rod = tuple[complex, complex, float]  # from, to (both x + iy), tone


def ellipse(u: Field, v: Field, a: float, b: float) -> Field:
    """Return the distance to an ellipse with half axes a and b (first order, exact on circles).

    >>> ellipse(np.array([0.0, 3.0]), np.zeros(2), 2.0, 2.0).tolist()
    [-2.0, 1.0]
    """
    stretched: Field = np.sqrt((u / a) ** 2 + (v / b) ** 2)  # faster than hypot
    return (stretched - 1) * min(a, b)


def box(u: Field, v: Field, a: float, b: float, rounding: float = 0.0) -> Field:
    """Return the distance to a rectangle with half sides a and b and rounded corners.

    >>> box(np.array([0.0, 3.0]), np.zeros(2), 2.0, 1.0).tolist()
    [-1.0, 1.0]
    """
    du, dv = np.abs(u) - (a - rounding), np.abs(v) - (b - rounding)
    outside: Field = np.hypot(np.maximum(du, 0), np.maximum(dv, 0))
    return outside + np.minimum(np.maximum(du, dv), 0) - rounding


def segment(u: Field, v: Field, length: float) -> Field:
    """Return the distance to a segment of `length` along u, centred at the origin."""
    distance: Field = np.hypot(np.maximum(np.abs(u) - length / 2, 0), v)
    return distance


def lattice(u: Field, v: Field, pitch: float) -> Field:
    """Return the distance to the nearest point of a square lattice, one point at the origin.

    >>> lattice(np.array([0.0, 2.0, 3.0]), np.array([0.0, 1.0, 4.0]), pitch=2.0).tolist()
    [0.0, 1.0, 1.0]
    """
    column, row = u / pitch, v / pitch
    distance: Field = np.hypot(column - np.rint(column), row - np.rint(row))
    return pitch * distance


def path(u: Field, v: Field, points: Sequence[Point]) -> tuple[Field, Field]:
    """Return the distance to a chain of straight pieces, and where along it: 0 to 1.

    >>> distance, along = path(np.array([1.5]), np.array([1.0]), [(0, 0), (1, 0), (2, 0)])
    >>> distance.tolist(), along.tolist()
    ([1.0], [0.75])
    """
    nearest = np.full(np.broadcast(u, v).shape, np.inf, np.float32)
    along = np.zeros_like(nearest)
    for number, (start, end) in enumerate(pairwise(points)):
        du, dv = end[0] - start[0], end[1] - start[1]
        t = ((u - start[0]) * du + (v - start[1]) * dv) / (du * du + dv * dv)
        t = np.clip(t, 0, 1)
        distance = np.hypot(u - start[0] - t * du, v - start[1] - t * dv)
        closer = distance < nearest
        np.copyto(nearest, distance, where=closer)
        np.copyto(along, (number + t) / (len(points) - 1), where=closer)
    return nearest, along


def towards(at: Point, angle: float, length: float) -> Point:
    """Return the point at `length` from `at` in the direction of `angle` (radians).

    >>> towards((1.0, 2.0), 0.0, 3.0)
    (4.0, 2.0)
    """
    return at[0] + length * float(np.cos(angle)), at[1] + length * float(np.sin(angle))


def profile(u: Field, points: Sequence[Point]) -> Field:
    """Return a piecewise linear function of u given by points (u, value), constant beyond them.

    As a radius it is a body turned on a lathe: see `helix` for a thread on it.

    >>> profile(np.array([0.5, 9.0]), [(0.0, 1.0), (1.0, 3.0)]).tolist()
    [2.0, 3.0]
    """
    places, values = zip(*points, strict=True)
    value: Field = np.interp(u, places, values).astype(np.float32)
    return value


def helix(u: Field, v: Field, radius: float, pitch: float, start: float = 0.0) -> Field:
    """Return 1 on the crest of a screw thread around the axis u, falling to 0 at its foot.

    The side towards the camera is seen: there the crest crosses the axis at a slant, once every
    `pitch`. `radius` is the thread's, `start` a shift along u in units of the pitch.
    """
    turn = np.arcsin(np.clip(v / radius, -1, 1)) / (2 * np.pi)
    phase = (u / pitch + turn + start) % 1 - 0.5
    crest: Field = np.maximum(1 - np.abs(phase) / 0.26, 0)
    return crest


def bore(u: Field, v: Field, radius: float, pitch: float) -> Field:
    """Return 0 to 1 on the crests of a thread in a round hole around the origin, seen from above.

    Its turns wind inwards, `pitch` apart, and the side at -u faces the light.
    """
    r, turn = np.hypot(u, v), np.arctan2(v, u)
    wall = inside(np.abs(r - radius + 1.2 * pitch) - 1.2 * pitch, 0.8 * pitch)
    lit = np.clip(0.6 - 0.5 * u / radius, 0.1, 1)
    crest: Field = wall * lit * np.maximum(np.cos(2 * np.pi * r / pitch + turn), 0)
    return crest


def wander(
    rng: Rng, at: Point, angle: float, length: float, wiggle: float, pieces: int = 12
) -> list[Point]:
    """Return the points of a random walk of this length whose middle is `at`.

    It sets off at `angle` and turns by `wiggle` radians (a standard deviation) from each piece
    to the next: 0 is straight, 0.15 a hair, 0.5 a crack.
    """
    turns = angle + np.cumsum(rng.normal(0, wiggle, pieces))
    steps = np.exp(1j * turns) * length / pieces
    points = np.concatenate([[0], np.cumsum(steps)])
    points += complex(*at) - points[pieces // 2]
    return [(float(point.real), float(point.imag)) for point in points]


def bundle(
    rng: Rng, middle: complex, pitch: float, bent: complex = 0, lost: complex = 0
) -> list[Rod]:
    """Return the 37 strands of a wire, packed in a hexagon, for `rods`: the lowest first.

    Args:
        rng: Where the random numbers come from: as many whatever is bent or lost.
        middle: The middle of the wire, x + iy.
        pitch: From one strand to the next.
        bent: Which way, as x + iy, and how far the strands on that side are bent aside.
        lost: On which side strands are missing; its size is the share of them, up to 1.
    """
    sites = [complex(i + j / 2, 3**0.5 / 2 * j) for i in range(-3, 4) for j in range(-3, 4)]
    sites = sorted(sites, key=abs)[:37]
    place = np.array(sites) * np.exp(1j * rng.uniform(0, 2 * np.pi))  # in units of the pitch
    lean = complex(*rng.normal(0, 0.6, 2))
    stray, splay, fan = (rng.normal(0, s, (37, 2)) @ (1, 1j) for s in (0.12, 0.24, 0.25))
    tone = rng.beta(0.4, 0.4) + rng.normal(0, 0.2, 37) + rng.normal(0, 0.12) * place.real
    way = bent / (abs(bent) or 1)
    loose = np.clip((place * np.conj(way)).real / 2 - 0.3, 0, 1)
    start = middle + pitch * (place + stray)
    end = start + pitch * (lean + splay) + bent * loose * (1 + fan)
    height = 9 * loose * abs(bent) - pitch * (place * np.conj(lean)).real
    left = np.argsort(-(place * np.conj(lost)).real)[round(37 * abs(lost)) :]
    upwards = left[np.argsort(height[left])]
    return [(complex(start[i]), complex(end[i]), float(np.clip(tone[i], 0, 1))) for i in upwards]


def rods(
    x: Field, y: Field, pieces: Sequence[Rod], radius: float
) -> tuple[Field, Field, Field, Field]:
    """Lay round rods over each other, the last on top: the strands of a wire.

    Args:
        x: The image's axis (1, N).
        y: The image's axis (N, 1).
        pieces: For each rod where it comes out of the depth, where its end is, nearest to the
            camera with its round face, both as x + iy, and any number, its tone.
        radius: Half their thickness.

    Returns:
        Where rods cover the image (0 to 1), how high their round backs and flat faces are (0 to
        1), where a face shows (0 to 1), and the tone of the rod on top; each (N, N).
    """
    step = 2 / x.size
    soft, edge = max(step, radius / 4), 1.2 * radius + step
    layers = np.zeros((4, y.size, x.size), np.float32)
    for start, end, tone in pieces:
        lean = start - end
        left, top = min(start.real, end.real) - edge, min(start.imag, end.imag) - edge
        right, bottom = left + abs(lean.real) + 2 * edge, top + abs(lean.imag) + 2 * edge
        # Only a window of the image is touched, which is what makes a hundred rods cheap.
        columns = slice(max(int((left + 1) / step), 0), max(int((right + 1) / step) + 1, 0))
        rows = slice(max(int((top + 1) / step), 0), max(int((bottom + 1) / step) + 1, 0))
        u, v = x[:, columns] - end.real, y[rows] - end.imag
        t = (u * lean.real + v * lean.imag) / (abs(lean) ** 2 + 1e-9)
        t = np.minimum(np.maximum(t, 0), 1)
        away = ((u - t * lean.real) ** 2 + (v - t * lean.imag) ** 2) / radius**2
        face = np.minimum(np.maximum(2.9 - (3.2 / radius**2) * (u**2 + v**2), 0), 1)
        cover = np.minimum(np.maximum((1.3 - away) * (radius / soft / 2), 0), 1)
        back = np.sqrt(np.maximum(1 - away, 0)) * (1 - 0.5 * t)
        window = layers[:, rows, columns]
        new = np.empty_like(window)
        new[0], new[1], new[2], new[3] = 1, np.maximum(back, face), face, tone
        window += cover * (new - window)
    return layers[0], layers[1], layers[2], layers[3]


def star(u: Field, v: Field, radius: float, points: int, depth: float) -> Field:
    """Return the distance to a rounded star, the recess of a screw drive (first order)."""
    outline = radius * (1 + depth * np.cos(points * np.arctan2(v, u)))
    distance: Field = np.hypot(u, v) - outline
    return distance


def blob(u: Field, v: Field, rng: Rng, radius: float, roughness: float = 0.3) -> Field:
    """Return the distance to an irregular spot of about `radius` (first order).

    The outline is a circle plus eight random harmonics: `roughness` is the size of the first
    relative to the radius, the k-th is k times smaller.
    """
    r = np.hypot(u, v)
    direction = ((u + 1j * v) / np.maximum(r, 1e-6)).astype(np.complex64)
    harmonic, wave = direction, np.ones_like(r)
    for k in range(1, 9):
        size = complex(*rng.normal(0, 0.35, 2)) * roughness / k
        wave += (size * harmonic).real
        harmonic = harmonic * direction
    return r - radius * np.maximum(wave, np.float32(0.3))


# Strokes on a grid of 2 x 4, y downwards: (column, row) from 0 to 2 and from 0 to 4.
STROKES: dict[str, list[list[Point]]] = {
    "0": [[(0.5, 0), (1.5, 0), (2, 1), (2, 3), (1.5, 4), (0.5, 4), (0, 3), (0, 1), (0.5, 0)]],
    "1": [[(0.2, 1), (1, 0), (1, 4)]],
    "2": [[(0, 0.9), (0.5, 0), (1.5, 0), (2, 0.9), (1.9, 1.6), (0, 4), (2, 4)]],
    "5": [[(1.9, 0), (0.2, 0), (0, 1.8), (1.3, 1.6), (2, 2.4), (2, 3.2), (1.4, 4), (0, 3.8)]],
    "7": [[(0, 0), (2, 0), (0.8, 4)]],
    "A": [[(0, 4), (1, 0), (2, 4)], [(0.4, 2.6), (1.6, 2.6)]],
    "F": [[(2, 0), (0, 0), (0, 4)], [(0, 2), (1.6, 2)]],
    "K": [[(0, 0), (0, 4)], [(2, 0), (0, 2.2), (2, 4)]],
    "L": [[(0, 0), (0, 4), (2, 4)]],
    "O": [[(0.5, 0), (1.5, 0), (2, 1), (2, 3), (1.5, 4), (0.5, 4), (0, 3), (0, 1), (0.5, 0)]],
    "W": [[(0, 0), (0.5, 4), (1, 1.5), (1.5, 4), (2, 0)]],
}


def glyphs(u: Field, v: Field, text: str, height: float) -> Field:
    """Return the distance to the centre line of a text, centred at the origin.

    Raises:
        KeyError: If there are no strokes for a letter: see `STROKES`.
    """
    unit = height / 4
    width = unit * (3.2 * len(text) - 1.2)
    distance = np.full(np.broadcast(u, v).shape, np.inf, np.float32)
    for place, letter in enumerate(text):
        left = 3.2 * unit * place - width / 2
        for stroke in STROKES[letter]:
            points = [(left + unit * column, unit * (row - 2)) for column, row in stroke]
            distance = np.minimum(distance, path(u, v, points)[0])
    return distance


def lettering(
    u: Field, v: Field, text: str, height: float, weight: float, softness: float = 0.012
) -> Field:
    """Return 1 on the strokes of a text, `weight` wide, and 0 beside them; only (N, N) fields.

    It is `inside(glyphs(...))`, worked out near the text alone, which is many times faster.
    """
    ink = np.zeros_like(u)
    reach = height / 2 + weight + softness
    near = (np.abs(v) < reach) & (np.abs(u) < 0.4 * height * len(text) + reach)
    ink[near] = inside(glyphs(u[near], v[near], text, height) - weight / 2, softness)
    return ink


def pattern(rows: Sequence[str], v: Sequence[float], pitch: float) -> tuple[Vectors, list[str]]:
    """Return where the letters of a drawing made of characters are, u + iv, and the letters.

    The rows, equally long, lie at the heights `v`; the columns are `pitch` apart, the middle one
    at u = 0. Dots stay empty.

    >>> pattern([".a.", "b.c"], [0.0, 1.0], pitch=0.5)[0].tolist()
    [0j, (-0.5+1j), (0.5+1j)]
    """
    letters = np.array([list(row) for row in rows])
    row, column = np.nonzero(letters != ".")
    places = pitch * (column - (letters.shape[1] - 1) / 2) + 1j * np.array(v)[row]
    return places, letters[row, column].tolist()


def brush(
    rng: Rng, tufts: Vectors, radius: float, count: int, lean: complex = 0
) -> tuple[NDArray[np.intp], Vectors, Vectors]:
    """Return the bristles of a brush: `count` in each tuft, round and of this radius at its root.

    The tufts sit and lean a little at random, each of them as a whole; their bristles spread
    outwards to about twice the radius at the tips. All of them `lean`, as seen from aside.

    Args:
        rng: Where the random numbers come from.
        tufts: Where the tufts are, u + iv.
        radius: Half a tuft's thickness.
        count: Bristles per tuft.
        lean: How far the tips are from the roots on average, u + iv.

    Returns:
        For each bristle the number of its tuft, its root and how far its tip is from there: what
        `hairs` takes.
    """
    tuft = np.repeat(np.arange(len(tufts)), count)
    # Pairs of normal numbers, (..., 2) @ (1, i), are random vectors.
    move = rng.normal(0, 0.17 * radius, (len(tufts), 2)) @ [1, 1j]
    sway = rng.normal(0, 0.3 * radius, (len(tufts), 2)) @ [1, 1j]
    stray = rng.normal(0, 0.3 * radius, (len(tuft), 2)) @ [1, 1j]
    spread = radius * np.sqrt(rng.random(len(tuft))) * np.exp(2j * np.pi * rng.random(len(tuft)))
    return tuft, (tufts + move)[tuft] + spread, lean + sway[tuft] + stray + 0.9 * spread


def hairs(
    u: Field, v: Field, roots: Vectors, lean: Vectors, bend: Vectors, rise: float = 0.0
) -> tuple[Field, Field, NDArray[np.int16]]:
    """Return the nearest of thousands of thin hairs at every point.

    Hair k starts at roots[k], a complex number u + iv, heads for roots[k] + lean[k] and is bent
    aside by bend[k], most at its tip. The camera is nearer to the tips by `rise`: they hide what
    is below them.

    Returns:
        The distance to the hair's centre line (9 far from all hairs), where along it, from 0 to
        1, and the hair's number.
    """
    pieces = np.maximum((np.abs(lean) + np.abs(bend)) / 0.02, 3).astype(int)
    hair = np.repeat(np.arange(len(roots)), pieces)
    t = (np.arange(len(hair)) - (np.cumsum(pieces) - pieces)[hair] + 0.5) / pieces[hair]
    points = roots[hair] + t * (lean[hair] + t * bend[hair])
    slope = lean[hair] + 2 * t * bend[hair]

    # Only points of the image near a hair are looked up; a coarse map tells which.
    def cell(part: Field) -> NDArray[np.intp]:
        return np.clip(part * 90 + 128, 0, 255).astype(np.intp)

    coarse = np.zeros((256, 256), bool)
    coarse[cell(points.imag), cell(points.real)] = True
    coarse = binary_dilation(coarse, np.ones((3, 3)))
    u, v = np.broadcast_arrays(u, v)
    near = coarse[cell(v), cell(u)]
    place = u[near] + 1j * v[near]
    axes, ends = [points.real, points.imag], [place.real, place.imag]
    if rise:
        axes, ends = [*axes, rise * (1 - t)], [*ends, 0 * place.real]
    tree = cKDTree(np.stack(axes, axis=-1), balanced_tree=False)
    found = tree.query(np.stack(ends, axis=-1))[1]

    size = np.abs(slope)[found]
    away = (place - points[found]) * slope[found].conj() / size  # along the hair and aside
    along = t[found] + away.real / size
    distance = np.full(u.shape, 9.0, np.float32)
    reach, owner = np.zeros(u.shape, np.float32), np.zeros(u.shape, np.int16)
    distance[near] = np.hypot(away.imag, size * np.maximum(along - 1, 0))
    reach[near], owner[near] = np.clip(along, 0, 1), hair[found]
    return distance, reach, owner


def bend(u: Field, start: Field | float, angle: float) -> tuple[Field, Field]:
    """Bend a flat sheet away from the camera by `angle` (radians) along the line u = start.

    Returns:
        The coordinate on the flat sheet of what is seen at u, since a slope looks shorter, and
        how far it lies below the sheet.

    >>> flat, below = bend(np.array([0.0, 2.0]), start=1.0, angle=np.pi / 3)
    >>> flat.round(2).tolist(), below.round(2).tolist()
    ([0.0, 3.0], [0.0, 1.73])
    """
    beyond = np.maximum(u - start, 0)
    return u + beyond * (1 / float(np.cos(angle)) - 1), beyond * float(np.tan(angle))


def sector(u: Field, v: Field, count: int) -> tuple[Field, Field]:
    """Return coordinates that repeat `count` times around the origin: u runs outwards in each.

    What is drawn once, near the positive u axis, becomes the teeth of a gear, the wings of a nut.
    """
    r, wedge = np.hypot(u, v), 2 * np.pi / count
    angle = (np.arctan2(v, u) + wedge / 2) % wedge - wedge / 2
    return r * np.cos(angle), r * np.sin(angle)


def globe(u: Field, v: Field, tilt: float) -> tuple[Field, Field, Field]:
    """Return the ball of radius 1 around the origin, as seen from above.

    Its axis runs along u to the north pole, which is lifted towards the camera by `tilt` radians.

    Returns:
        Its height (0 beside it), how far north, from -1 to 1 (the sine of the latitude), and the
        longitude, from -pi to pi.
    """
    height = np.sqrt(np.maximum(1 - u * u - v * v, 0))
    cos, sin = float(np.cos(tilt)), float(np.sin(tilt))
    north = np.clip(cos * u + sin * height, -1, 1)
    return height, north, np.arctan2(v, cos * height - sin * u)


def join(one: Field, other: Field, fillet: float) -> Field:
    """Return the distance to two shapes joined with a rounded inner corner of about `fillet`.

    >>> join(np.array([0.0, -1.0]), np.array([2.0, 2.0]), fillet=0.5).tolist()
    [0.0, -1.0]
    """
    blend = np.maximum(fillet - np.abs(one - other), 0)
    distance: Field = np.minimum(one, other) - blend**2 / (4 * fillet)
    return distance


def inside(distance: Field, softness: float) -> Field:
    """Return 1 inside and 0 outside, with a smooth edge of width `softness` on the outline.

    >>> inside(np.array([-1, 0, 1]), softness=0.5).tolist()
    [1.0, 0.5, 0.0]
    """
    t: Field = np.clip(0.5 - distance / softness, 0, 1)
    return t * t * (3 - 2 * t)
