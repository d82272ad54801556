"""zipper: a closed coil zipper between two dark woven tapes, on a light table."""

import numpy as np

from fastflow_utils.data.sample_set import damage
from fastflow_utils.data.sample_set.camera import Camera, Light
from fastflow_utils.data.sample_set.materials import coil, noise, specks, weave
from fastflow_utils.data.sample_set.scene import Category, Scene
from fastflow_utils.data.sample_set.shapes import inside
from fastflow_utils.data.sample_set.surface import Field, Point, Rng, Surface, mix, pose, rgb

TABLE = rgb(1.25, 1.25, 1.25)
PITCH = 0.066  # from tooth to tooth
REACH = 0.125  # half the width of the closed coil


def surface(
    x: Field, y: Field, rng: Rng, at: float = 0.0, broken: Point = (0, 0), gape: Point = (1, 0)
) -> Surface:
    """Return a zipper that runs down the image; a place v = `at` along it may be at fault.

    `broken`: how many teeth up and down from there, on the left and on the right; `gape`: over
    what half length it has burst open, and how far to either side.
    """
    u, v = pose(x, y, rng.normal(0, 0.012), rng.normal(0, [0.03, 0.6]).tolist())
    u = u + 0.012 * noise(x, y, rng, (0, 2))
    length, width = gape
    spread = width * np.maximum(1 - ((v - at) / length) ** 2, 0)
    spread = spread * np.maximum(1 - (u / 0.25) ** 2, 0)  # the tapes' outer edges stay in place
    off = np.abs(u) - spread

    # The tape dips towards the coil; at its edges the loops of the weft stand out.
    shade, wide = rng.lognormal([-3.15, -0.25], [0.14, 0.025]).tolist()
    pull = 0.2 * noise(x, y, rng, 5)
    yarn, tone = weave(np.sign(u) * off * 30 + pull, v * 24 + pull, rng)
    dip = np.exp(-(((off - 0.09) / 0.08) ** 2))
    lint = 0.2 * specks(x, y, rng, 80, 3.15)
    fabric = shade * (0.05 + 0.9 * yarn + 0.6 * tone) + lint
    edge = wide + 0.01 * noise(x, y, rng, 3) + 0.004 * yarn
    tape = inside(np.maximum(off - edge, -0.015 - off), 0.015)

    arch, wire, outline = coil(u, v, rng, PITCH, REACH, spread, (at, *broken))
    stitch = 0.03 * np.exp(-(((off - 0.07) / 0.014) ** 2))
    inner = inside(off - REACH, 0.015)
    height = mix(0.006 * yarn - 0.05 * dip, arch, inner)
    color = mix(fabric * (1 - 0.7 * dip), 0.008 + np.maximum(0.1 * wire, stitch), inner)
    cover = np.maximum(tape, inside(outline, 0.012))
    return Surface(u, v, height, color * rgb(1, 1, 1), 0.015 * cover, cover, TABLE)


def broken_teeth(scene: Scene, rng: Rng, severity: float) -> Surface:
    _, at = damage.anywhere(scene.surface, rng, np.abs(scene.surface.u) < REACH)
    left, right = ((1, 0), (0, 1), (1, 1))[rng.integers(3)]
    teeth = damage.grow(severity, 1.0, 6)
    return scene.again(at=at, broken=(left * teeth, right * teeth))


def split_teeth(scene: Scene, rng: Rng, severity: float) -> Surface:
    _, at = damage.anywhere(scene.surface, rng, np.abs(scene.surface.u) < REACH)
    length, width = damage.grow(severity, 0.12, 0.5), damage.grow(severity, 0.015, 0.1)
    return scene.again(at=at, gape=(length, width))


def fabric_interior(scene: Scene, rng: Rng, severity: float) -> Surface:
    s, radius = scene.surface, damage.grow(severity, 0.03, 0.16)
    at = damage.anywhere(s, rng, np.abs(np.abs(s.u) - 0.45) < 0.15)
    if rng.random() < 0.5:
        torn = damage.hole(s, rng, at, 0.6 * radius, TABLE, roughness=0.4)
    else:
        torn = damage.cut(s, rng, at, 2.5 * radius, 0.2 * radius, TABLE)
    torn = torn.blend(np.clip((s.height - torn.height) / 0.04, 0, 1), cover=0.0)  # to the table
    torn = damage.fibres(torn, rng, at, 1.2 * radius, int(10 + 250 * radius), tone=0.065)
    return damage.thread(torn, rng, at, 4 * radius, rgb(0.08, 0.08, 0.08))


CATEGORY = Category(
    "object",
    surface,
    Camera((Light(250, 50, 0.8), Light(60, 55, 0.3)), ambient=0.35, grey=True, noise=0.9),
    {"broken_teeth": broken_teeth, "fabric_interior": fabric_interior, "split_teeth": split_teeth},
)
