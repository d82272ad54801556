"""grid: a woven wire mesh over a plain ground, seen by a monochrome camera."""

import numpy as np

from fastflow_utils.sample_data import damage
from fastflow_utils.sample_data.camera import Camera, Light
from fastflow_utils.sample_data.materials import noise
from fastflow_utils.sample_data.scene import Category, Scene
from fastflow_utils.sample_data.shapes import inside
from fastflow_utils.sample_data.surface import Field, Point, Rng, Surface, pose, rgb

WHITE = rgb(1, 1, 1)
RADIUS = 0.02  # of a wire


def surface(
    x: Field, y: Field, rng: Rng, at: Point = (0, 0), push: float = 0.0, gap: float = 0.0
) -> Surface:
    """Return the mesh; at a place (x, y), wires are pushed aside or one of them has a gap."""
    turn, *shift = rng.uniform(-1, 1, 3).tolist()
    pitch, cross = float(rng.lognormal(-1.4, 0.04)), float(rng.normal(0.62, 0.02))
    scale_x, scale_y = float(np.cos(cross)) / pitch, float(np.sin(cross)) / pitch

    def wires(x: Field, y: Field) -> tuple[Field, Field]:
        right, down = pose(x, y, 0.05 * turn, shift)
        right, down = scale_x * right, scale_y * down
        return right + down, right - down

    u, v = wires(x, y)
    at_u, at_v = (t.item() for t in wires(*np.array(at, np.float32).reshape(2, 1, 1)))
    away_u, away_v = u - at_u, v - at_v
    u, v = (t + 0.06 * noise(x, y, rng, 4) for t in (u, v))
    thin: Field | float = 1.0
    if push:
        near = np.maximum(1 - (away_u / 1.2) ** 2 - (away_v / 1.8) ** 2, 0)
        bowed = u + push * near * np.sqrt(near)
        # Where the mesh is stretched the wires are not: they keep their thickness.
        thin = np.hypot(*np.gradient(u)) / np.hypot(*np.gradient(bowed))
        u = bowed
    height, tone = np.zeros((2, *u.shape), np.float32)
    nearest: Field = np.ones_like(height)
    for across, along, side, scale in ((u, v, 1, pitch * thin), (v, u, -1, pitch)):
        aside, shade = rng.normal(0, [[0.03], [0.1]], (2, 64)).astype(np.float32)
        wire = np.floor(across).astype(np.int16)
        offset = across - wire - 0.5 - aside[wire % 64]
        torn = (wire == np.floor(at_u)) & (gap * side > 0)
        if torn.any():  # the two ends stand aside, one to the left and one to the right
            end = np.clip(1 - (np.abs(away_v) - gap) / 0.8, 0, 1)
            offset += 0.2 * torn * np.sign(away_v) * end**2
        distance = np.where(torn & (np.abs(away_v) < gap), 1, scale * np.abs(offset))
        over = side * np.sin(np.pi * (along + wire))
        top = 1 + 0.7 * over + np.sqrt(np.maximum(1 - (distance / RADIUS) ** 2, 0))
        higher = (distance < RADIUS) & (top > height)
        np.copyto(height, top, where=higher)
        np.copyto(tone, 1 + shade[wire % 64], where=higher)
        nearest = np.minimum(nearest, distance)
    ground, metal, gloss = rng.uniform([0.15, 0.1, 0.15], [0.4, 0.3, 0.5]).tolist()
    dirt = np.clip(1 + 0.15 * noise(x, y, rng, 20), 0.4, 1.2)
    color = WHITE * (metal * dirt * tone * (0.5 + 0.3 * height))
    cover, (x, y) = inside(nearest - RADIUS, 0.009), np.broadcast_arrays(x, y)
    return Surface(x, y, RADIUS * height, color, gloss * dirt * tone, cover, WHITE * ground)


def bent(scene: Scene, rng: Rng, severity: float) -> Surface:
    at = damage.anywhere(scene.surface, rng)
    return scene.again(at=at, push=damage.grow(severity, 0.1, 0.75) * float(rng.choice([-1, 1])))


def broken(scene: Scene, rng: Rng, severity: float) -> Surface:
    at = damage.anywhere(scene.surface, rng)
    return scene.again(at=at, gap=damage.grow(severity, 0.12, 1.8))


def thread(scene: Scene, rng: Rng, severity: float) -> Surface:
    s, length = scene.surface, damage.grow(severity, 0.25, 1.3)
    tone = WHITE * float(rng.choice([0.03, 0.7]))
    return damage.thread(s, rng, damage.anywhere(s, rng), length, tone)


CATEGORY = Category(
    "texture",
    surface,
    Camera(
        (Light(200, 45, 0.9), Light(340, 50, 0.5)),
        ambient=0.4,
        shininess=20,
        shadow=0.4,
        reach=0.015,
        blur=0.003,
        vignette=0.2,
        noise=0.6,
        grey=True,
    ),
    {"bent": bent, "broken": broken, "thread": thread},
)
