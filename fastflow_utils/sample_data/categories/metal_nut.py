"""metal_nut: a four-winged nut of stamped, greenish steel on black, turned at random."""

import numpy as np

from fastflow_utils.sample_data import damage
from fastflow_utils.sample_data.camera import Camera, Light
from fastflow_utils.sample_data.materials import around, noise
from fastflow_utils.sample_data.scene import Category, Scene
from fastflow_utils.sample_data.shapes import blob, box, inside
from fastflow_utils.sample_data.surface import Field, Point, Rng, Surface, mix, pose, rgb

STEEL, RIM, COLLAR = rgb(0.125, 0.18, 0.145), rgb(0.20, 0.22, 0.22), rgb(0.055, 0.07, 0.085)
BARE, FLOOR = rgb(0.40, 0.36, 0.30), rgb(0.0056, 0.0056, 0.0091)
PAINTS = (rgb(0.006, 0.006, 0.007), rgb(0.02, 0.03, 0.14), rgb(0.2, 0.02, 0.02))


def surface(x: Field, y: Field, rng: Rng, *, bent: float = 0, toward: float = 0) -> Surface:
    """Return the nut; the wing in the direction `toward` is bent by `bent` radians."""
    place = pose(x, y, rng.uniform(-np.pi, np.pi), rng.normal(0, 0.015, 2).tolist())
    size = float(rng.lognormal(0.08, 0.015))
    out, along = pose(place[0] * size, place[1] * size, toward)
    beyond = np.maximum(out - 0.55, 0)
    # What stands at a slope looks shorter: the camera finds points farther out there.
    u, v = pose(out + beyond * (1 / float(np.cos(bent)) - 1), along, -toward)
    r = np.hypot(u, v)
    notch = np.full_like(r, np.inf)
    for number in range(4):
        s, t = pose(u, v, number * np.pi / 2 + rng.normal(0, 0.02))
        notch = np.minimum(notch, box(s + 1.11 + 0.4 * (t + 0.6), t + 1.595, 1, 1, 0.06))
    grain, patches = noise(x, y, rng, 180), noise(x, y, rng, 5, octaves=3)
    body = np.logaddexp(70 * (r - 0.86), -70 * notch) / 70 + 0.003 * patches  # rounds corners
    # Stamping leaves arcs that are not quite round the hole.
    du, dv = rng.normal(0, 0.03, 2).tolist()
    away = np.hypot(u - du, v - dv)
    arcs = around(rng, 140)[(away * 600).astype(np.int32) % 1024] ** 3
    wing = inside(0.62 - away, 0.08)
    arcs = arcs * (0.1 + 0.9 * wing) * np.clip(1 + patches, 0, 2)
    height = 0.04 * np.sqrt(np.clip(1 + body / 0.06, 0, 1)) - 0.08 * wing * (r - 0.6)
    height = height - 0.03 * np.exp(-((notch / 0.07) ** 2)) * wing
    height -= 0.1 * np.clip((0.33 - r) / 0.1, 0, 1) ** 2 - float(np.tan(bent)) * beyond
    height += 0.005 * arcs + 0.006 * patches
    tone = (1 + (0.19 - 0.1 * wing) * grain + 0.15 * patches) * (0.32 + 0.45 * wing + 0.6 * arcs)
    color = mix(STEEL * np.maximum(tone, 0.1), COLLAR, inside(r - 0.315, 0.015))
    step = inside(np.abs(away - 0.6) - 0.003, 0.012) * np.clip(0.5 + patches, 0, 1)
    edge = inside(np.abs(body + 0.015) - 0.01, 0.02) * np.clip(0.7 + 0.5 * patches, 0.2, 1)
    lip = inside(np.abs(r - 0.32) - 0.004, 0.012)
    color = mix(color, RIM, np.maximum(np.maximum(edge, 0.5 * step), lip))
    floor = FLOOR + 0.6 * COLLAR * inside(np.abs(r - 0.218) - 0.004, 0.012)  # a turn of thread
    gloss = 0.1 + 0.6 * wing * np.clip(patches + 0.2, 0, 1)
    cover = inside(np.maximum(body, 0.238 - r), 0.015)
    return Surface(*place, height, color, gloss, cover, floor)


def bent(scene: Scene, rng: Rng, severity: float) -> Surface:
    toward = np.pi / 2 * rng.integers(4) - 0.83 + rng.normal(0, 0.1)
    angle = damage.grow(severity, 0.35, 1.35) * rng.choice([-1, 1])
    return scene.again(bent=angle, toward=float(toward))


def _face(s: Surface, rng: Rng) -> Point:
    """Return a random point between the collar and the ends of the wings."""
    return damage.anywhere(s, rng, (np.abs(np.hypot(s.u, s.v) - 0.52) < 0.15) & (s.cover > 0.9))


def color(scene: Scene, rng: Rng, severity: float) -> Surface:
    s, paint = scene.surface, PAINTS[rng.integers(len(PAINTS))]
    u, v = pose(s.u, s.v, rng.uniform(0, np.pi), _face(s, rng))
    patch = blob(u, v * 1.5, rng, damage.grow(severity, 0.03, 0.2), roughness=0.35)
    patch = patch + 0.008 * noise(s.u, s.v, rng, 30)
    thin = np.clip(1.2 + 0.5 * noise(s.u, s.v, rng, 12, octaves=2), 0.4, 1.6)
    film = s.height + 0.004 * thin + 0.03 * np.sqrt(np.clip(-patch, 0, 0.03))
    return s.blend(0.93 * inside(patch, 0.03), height=film, color=paint * thin, gloss=0.12)


def scratch(scene: Scene, rng: Rng, severity: float) -> Surface:
    s, at = scene.surface, _face(scene.surface, rng)
    length, width = damage.grow(severity, 0.15, 0.6), damage.grow(severity, 0.005, 0.012)
    return damage.scratch(s, rng, at, length, width, tone=BARE, gloss=0.6, strokes=7)


CATEGORY = Category(
    "object",
    surface,
    Camera(
        (Light(230, 35, 0.7), Light(50, 35, 0.6), Light(140, 30, 0.3)),
        ambient=0.5,
        shininess=20,
        noise=0.62,
        vignette=0.05,
    ),
    {"bent": bent, "color": color, "scratch": scratch},
)
