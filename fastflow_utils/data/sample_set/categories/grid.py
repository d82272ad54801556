"""grid: a woven wire mesh over a plain ground, seen by a monochrome camera."""

import numpy as np

from fastflow_utils.data.sample_set import damage
from fastflow_utils.data.sample_set.camera import Camera, Light
from fastflow_utils.data.sample_set.materials import mesh, noise
from fastflow_utils.data.sample_set.scene import Category, Scene
from fastflow_utils.data.sample_set.shapes import inside
from fastflow_utils.data.sample_set.surface import Field, Point, Rng, Surface, pose, rgb

WHITE = rgb(1, 1, 1)
RADIUS = 0.02  # of a wire
LIGHTS = (Light(200, 45, 0.9), Light(340, 50, 0.5))


def surface(
    x: Field, y: Field, rng: Rng, at: Point = (0, 0), push: float = 0.0, gap: float = 0.0
) -> Surface:
    """Return the mesh; around a point, wires are pushed aside or one of them has a gap."""
    right, down = pose(x, y, rng.uniform(-0.05, 0.05), rng.uniform(-1, 1, 2).tolist())
    slant, pitch = rng.normal(0.62, 0.02), rng.lognormal(-1.4, 0.04)
    cos, sin = float(np.cos(slant) / pitch), float(np.sin(slant) / pitch)
    u = cos * right + sin * down + 0.06 * noise(x, y, rng, 4)
    v = cos * right - sin * down + 0.06 * noise(x, y, rng, 4)
    near = np.maximum(1 - ((right - at[0]) ** 2 + (down - at[1]) ** 2) / 0.13, 0)
    u = u + push * near * np.sqrt(near)
    torn = (cos * at[0] + sin * at[1], cos * at[0] - sin * at[1], gap)
    height, tone, outline = mesh(u, v, rng, RADIUS, torn)
    ground, metal, gloss = rng.uniform([0.15, 0.1, 0.15], [0.4, 0.3, 0.5]).tolist()
    shade = tone * np.clip(1 + 0.15 * noise(x, y, rng, 20), 0.4, 1.2)
    color = WHITE * (metal * shade * (0.5 + 0.3 * height))
    cover = inside(outline, 0.009)
    return Surface(right, down, RADIUS * height, color, gloss * shade, cover, WHITE * ground)


# Damage is put anywhere, on wires or between: which points are on one depends on the size.


def bent(scene: Scene, rng: Rng, severity: float) -> Surface:
    at = damage.anywhere(scene.surface, rng, scene.surface.cover >= 0)
    return scene.again(at=at, push=damage.grow(severity, 0.1, 0.75) * float(rng.choice([-1, 1])))


def broken(scene: Scene, rng: Rng, severity: float) -> Surface:
    at = damage.anywhere(scene.surface, rng, scene.surface.cover >= 0)
    return scene.again(at=at, gap=damage.grow(severity, 0.12, 1.8))


def thread(scene: Scene, rng: Rng, severity: float) -> Surface:
    at = damage.anywhere(scene.surface, rng, scene.surface.cover >= 0)
    length, tone = damage.grow(severity, 0.25, 1.3), WHITE * float(rng.choice([0.03, 0.7]))
    return damage.thread(scene.surface, rng, at, length, tone)


CATEGORY = Category(
    "texture",
    surface,
    Camera(
        LIGHTS,
        ambient=0.4,
        shininess=20,
        shadow=0.4,
        reach=0.015,
        blur=0.003,
        noise=0.6,
        grey=True,
    ),
    {"bent": bent, "broken": broken, "thread": thread},
)
