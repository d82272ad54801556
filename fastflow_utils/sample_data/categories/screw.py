"""screw: a countersunk wood screw on a light table, in any direction; a monochrome camera."""

import numpy as np

from fastflow_utils.sample_data import damage
from fastflow_utils.sample_data.camera import Camera, Light
from fastflow_utils.sample_data.materials import noise
from fastflow_utils.sample_data.scene import Category, Scene
from fastflow_utils.sample_data.shapes import ellipse, inside, segment, star
from fastflow_utils.sample_data.surface import Field, Rng, Surface, mix, pose, rgb

GREY = rgb(1, 1, 1)
Worn = tuple[float, float, float]


def surface(
    x: Field, y: Field, rng: Rng, *, bend: float = 0, blunt: float = 0, worn: Worn = (9, 9, 1)
) -> Surface:
    """Return a screw; u runs along its axis from the head (-0.82) to the tip (0.88).

    The tip may be bent aside and cut off; the thread may be worn: at (u, v), and how far around.
    """
    place_u, place_v = pose(x, y, rng.uniform(-np.pi, np.pi), rng.normal(0, 0.03, 2).tolist())
    size = float(rng.lognormal(0, 0.015))
    u, v = place_u * size, place_v * size
    grime, streaks = noise(x, y, rng, 70, octaves=2), noise(u, v, rng, (4, 60))
    worn_off = np.exp(-((((u - worn[0]) ** 2 + (v - worn[1]) ** 2) / worn[2] ** 2) ** 2))
    v = v + bend * np.maximum(u - 0.55, 0) ** 2
    # Everything is turned on a lathe: the height follows from the radius at this place.
    taper = np.clip((0.88 - u) / 0.34, 0, 1) ** 0.7
    cone = np.clip((-0.58 - u) / 0.23, 0, 1)
    turn = np.arcsin(np.clip(v / 0.13, -1, 1)) / (2 * np.pi)
    phase = (u / 0.125 + turn + rng.random()) % 1 - 0.5
    crest = np.maximum(1 - np.abs(phase) / 0.26, 0)
    ends = np.clip((u + 0.05) / 0.04, 0, 1) * np.clip((0.84 - u) / 0.2, 0, 1) ** 0.5
    thread = crest * ends * (0.5 + 0.5 * taper)
    radius = np.where(u < -0.04, 0.102 + 0.165 * cone**1.3, 0.08 * taper)
    radius = radius + 0.047 * thread * (1 - 0.8 * worn_off)
    end = 0.88 - blunt + 0.4 * blunt * (v / 0.1) + 0.008 * grime * (blunt > 0)
    radius = radius * inside(np.maximum(-0.81 - u, u - end), 0.012)
    height = np.sqrt(np.maximum(radius**2 - v**2, 0))
    # The flat top of the head is seen at a slant, with the recess for the driver.
    squash = float(rng.uniform(0.1, 0.25))
    top = (u + 0.81) / squash
    face = inside(ellipse(top, v, 0.267, 0.267) * squash, 0.012)
    recess = face * inside(star(*pose(top, v, rng.uniform(0, 1)), 0.1, 6, 0.25), 0.05)
    height = mix(height, 0.12 + 0.25 * (u + 0.81), face) - 0.04 * recess
    cover = np.maximum(inside(np.abs(v) - radius, 0.012) * (radius > 0.01), face)
    tone = (1 + 0.1 * grime + 0.15 * streaks) * (1 - 0.3 * face - 0.5 * recess)
    tone = 0.068 * rng.lognormal(0, 0.12) * tone * (0.75 + (0.7 + 3 * worn_off) * thread)
    gloss = 0.18 * (1 - recess) * np.clip(1 + 0.3 * streaks + 0.15 * grime, 0, 2)
    # It keeps light from the table beside it; not at its tip, whatever happened there.
    shank, head = segment(u + 0.15, place_v, 1.3) - 0.1, ellipse(u + 0.75, place_v, 0.12, 0.25)
    beside = np.maximum(np.minimum(shank, head), 0)
    table = 0.52 * rng.lognormal(0, 0.05) * (1 + 0.07 * noise(x, y, rng, 2))
    table = table * (1 - 0.35 * np.exp(-beside / 0.18) - 0.17 * np.exp(-beside / 0.03))
    table *= 1 - 0.15 * inside(3.0 - noise(x, y, rng, 45), 0.8)
    return Surface(place_u, place_v, height, tone * GREY, gloss, cover, table * GREY)


def manipulated_front(scene: Scene, rng: Rng, severity: float) -> Surface:
    blunt, bend = damage.grow(severity, 0.03, 0.24), damage.grow(severity, 0.4, 3.0)
    return scene.again(blunt=blunt, bend=bend * rng.choice([-1, 1]))


def scratch_neck(scene: Scene, rng: Rng, severity: float) -> Surface:
    at = (rng.uniform(-0.55, -0.15), rng.uniform(-0.04, 0.04))
    length, width = damage.grow(severity, 0.09, 0.3), damage.grow(severity, 0.02, 0.06)
    return damage.scuff(scene.surface, rng, at, length, width, 0.3)


def thread_side(scene: Scene, rng: Rng, severity: float) -> Surface:
    at = (rng.uniform(0.1, 0.6), 0.12 * rng.choice([-1, 1]))
    return scene.again(worn=(*at, damage.grow(severity, 0.07, 0.25)))


CATEGORY = Category(
    "object",
    surface,
    Camera(
        (Light(250, 55, 0.9), Light(60, 40, 0.4)), ambient=0.7, shininess=12, noise=0.8, grey=True
    ),
    {
        "manipulated_front": manipulated_front,
        "scratch_neck": scratch_neck,
        "thread_side": thread_side,
    },
)
