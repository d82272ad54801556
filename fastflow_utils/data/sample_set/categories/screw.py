"""screw: a countersunk wood screw on a light table, in any direction; a monochrome camera."""

import numpy as np

from fastflow_utils.data.sample_set import damage
from fastflow_utils.data.sample_set.camera import Camera, Light
from fastflow_utils.data.sample_set.materials import noise, specks
from fastflow_utils.data.sample_set.scene import Category, Scene
from fastflow_utils.data.sample_set.shapes import (
    ellipse,
    helix,
    inside,
    join,
    profile,
    segment,
    star,
)
from fastflow_utils.data.sample_set.surface import Field, Rng, Surface, mix, pose, rgb

GREY = rgb(1, 1, 1)
LAMPS = (Light(250, 55, 0.9), Light(60, 40, 0.4))
Spot = tuple[float, float, float]  # u, v, radius
UNWORN = (9.0, 9.0, 1.0)  # far away
# How thick the screw is along its axis, from the head to the tip, and how high its thread.
HEAD = ((-0.83, -0.02), (-0.82, 0.267), (-0.70, 0.16), (-0.58, 0.102), (-0.05, 0.102))
BODY = (*HEAD, (-0.03, 0.08), (0.54, 0.08), (0.72, 0.052), (0.82, 0.025), (0.90, -0.02))
THREAD = ((-0.05, 0.0), (-0.01, 0.047), (0.54, 0.047), (0.72, 0.03), (0.84, 0.0))


def surface(
    x: Field, y: Field, rng: Rng, bend: float = 0, blunt: float = 0, worn: Spot = UNWORN
) -> Surface:
    """Return a screw; u runs along its axis from the head (-0.82) to the tip (0.88).

    The tip may be bent aside and cut off; the thread may be worn: at (u, v), and how far around.
    """
    u, v = pose(x, y, rng.uniform(-np.pi, np.pi), rng.normal(0, 0.03, 2).tolist())
    metal = 1 + 0.1 * noise(x, y, rng, 70, octaves=2) + 0.15 * noise(u, v, rng, (4, 60))
    bare = np.exp(-((np.hypot(u - worn[0], v - worn[1]) / worn[2]) ** 4))
    aside = v + bend * np.maximum(u - 0.4, 0) ** 2
    # It is turned on a lathe: the height follows from the radius at this place.
    crest = profile(u, THREAD) * helix(u, aside, 0.13, pitch=0.125, start=rng.random())
    radius = profile(u, BODY) + crest * (1 - bare)
    radius = np.minimum(radius, 0.9 - blunt * (1 - aside) - u)
    height = np.sqrt(np.maximum(np.maximum(radius, 0) ** 2 - aside**2, 0))
    # The flat top of the head is seen at a slant, with the recess for the driver.
    slant = rng.uniform(0.1, 0.25)
    top = (u + 0.81) / slant
    face = inside(slant * ellipse(top, v, 0.267, 0.267), 0.012)
    recess = face * inside(star(*pose(top, v, rng.uniform(0, 1)), 0.1, 6, 0.25), 0.05)
    height = mix(height, 0.12 + 0.25 * (u + 0.81), face) - 0.04 * recess
    cover = np.maximum(inside(np.abs(aside) - radius, 0.012), face)
    tone = rng.lognormal(0, 0.12) * metal * (0.05 + crest * (1 + 3 * bare))
    tone *= 1 - 0.3 * face - 0.5 * recess
    # It keeps light from the table beside it; not at its tip, whatever happened there.
    beside = join(segment(u + 0.15, v, 1.3) - 0.1, ellipse(u + 0.75, v, 0.12, 0.25), 0.05)
    shade = np.exp(-np.maximum(beside, 0) / 0.18)
    table = 0.52 + 0.04 * noise(x, y, rng, 2) - 0.08 * specks(x, y, rng, 45, 3.0)
    table *= rng.lognormal(0, 0.05) * (1 - 0.35 * shade - 0.17 * shade**6)
    gloss = 0.18 * metal**2 * (1 - recess)
    return Surface(u, v, height, tone * GREY, gloss, cover, table * GREY)


def manipulated_front(scene: Scene, rng: Rng, severity: float) -> Surface:
    blunt, bend = damage.grow(severity, 0.06, 0.20), damage.grow(severity, 0.5, 4.5)
    return scene.again(blunt=blunt, bend=bend * float(rng.choice([-1, 1])))


def scratch_neck(scene: Scene, rng: Rng, severity: float) -> Surface:
    at = (rng.uniform(-0.55, -0.15), rng.uniform(-0.04, 0.04))
    length, width = damage.grow(severity, 0.09, 0.3), damage.grow(severity, 0.02, 0.06)
    return damage.scuff(scene.surface, rng, at, length, width, 0.3)


def thread_side(scene: Scene, rng: Rng, severity: float) -> Surface:
    at = (rng.uniform(0.1, 0.6), 0.09 * float(rng.choice([-1, 1])))
    return scene.again(worn=(*at, damage.grow(severity, 0.085, 0.25)))


CATEGORY = Category(
    "object",
    surface,
    Camera(LAMPS, ambient=0.7, shininess=12, noise=0.8, grey=True),
    {
        "manipulated_front": manipulated_front,
        "scratch_neck": scratch_neck,
        "thread_side": thread_side,
    },
)
