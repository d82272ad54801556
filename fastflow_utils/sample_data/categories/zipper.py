"""zipper: a closed coil zipper between two dark woven tapes, on a light table."""

import numpy as np

from fastflow_utils.sample_data import damage
from fastflow_utils.sample_data.camera import Camera, Light
from fastflow_utils.sample_data.materials import noise, weave
from fastflow_utils.sample_data.scene import Category, Scene
from fastflow_utils.sample_data.shapes import inside
from fastflow_utils.sample_data.surface import Field, Rng, Surface, mix, pose, rgb

TABLE = rgb(1.25, 1.25, 1.25)
PITCH, REACH, TEETH = 0.066, 0.125, 64  # from tooth to tooth; half the width of the closed coil
SOUND, CLOSED = np.zeros((2, TEETH), np.float32), (0.0, 1.0, 0.0)


def surface(
    x: Field, y: Field, rng: Rng, harm: Field = SOUND, gape: tuple[float, ...] = CLOSED
) -> Surface:
    """Return a zipper that runs down the image.

    `harm` is how badly each tooth on the left and on the right is broken, 0 to 1; `gape` where
    along v the zipper has burst open, over what half length and how far to either side.
    """
    u, v = pose(x, y, rng.normal(0, 0.012), rng.normal(0, [0.03, 0.6]).tolist())
    bend, left, right, fray = (noise(0 * x[:, :1], y, rng, count) for count in (2, 3, 3, 20))
    u = u + 0.012 * bend
    where, length, width = gape
    spread = width * np.maximum(1 - ((v - where) / length) ** 2, 0)
    spread = spread * np.maximum(1 - (u / 0.25) ** 2, 0)
    shade, wide = rng.lognormal([-3.15, -0.25], [0.14, 0.025]).tolist()
    pull = 0.2 * noise(x, y, rng, 5)
    yarn, tone = weave((u - np.sign(u) * spread) * 30 + pull, v * 24 + pull, rng)
    fabric = shade * (0.05 + 0.9 * yarn + 0.6 * tone) * (1 + 0.03 * noise(x, y, rng, 4))
    fabric = fabric + 0.4 * np.clip(noise(x, y, rng, 80) - 2.9, 0, 0.5)  # lint
    # The tape dips towards the coil; at its edges the loops of the weft stand out.
    off = np.abs(u) - spread
    loops = 0.002 * np.sin(v * (2 * np.pi * 24)) * (1 + 0.7 * fray)
    edge = wide + 0.01 * np.where(u < 0, left, right) + loops
    tape = inside(np.maximum(off - edge, -0.015 - off), 0.015)
    dip = np.exp(-(((off - 0.09) / 0.08) ** 2))
    inner = inside(off - REACH, 0.015)
    stitch = np.exp(-(((off - 0.07) / 0.014) ** 2)) * (0.6 + 0.4 * yarn)
    arch = 0.03 * np.sqrt(np.maximum(1 - (off / REACH) ** 2, 0))
    height = mix(0.006 * yarn - 0.05 * dip, arch, inner)
    color = mix(fabric * (1 - 0.7 * dip), 0.008 + 0.03 * stitch, inner)
    # Each tooth is a wire that comes up at the side of the coil, curls, and ends past the seam.
    for side, hurt in zip((-1, 1), harm, strict=True):
        out = side * u - spread
        tilt, short = rng.normal(0, 1, (2, TEETH)).astype(np.float32)
        curl = np.maximum(out / REACH, 0) ** 2
        place = v / PITCH + 0.25 * side - 0.15 * out / REACH + 0.5 * curl**2
        tooth = np.floor(place).astype(np.int16) % TEETH
        away = (place - np.floor(place) - 0.5 + 0.03 * tilt[tooth]) * PITCH
        away = away + (0.6 * hurt * tilt)[tooth] * np.maximum(0.1 - out, 0)
        tip = (0.003 * short + REACH * hurt * (0.45 + 0.35 * short) - 0.014)[tooth]
        far = np.hypot(away, np.minimum(out - tip, 0))
        wire = np.sqrt(np.maximum(1 - (far / 0.013) ** 2, 0))
        solid = inside(np.maximum(far - 0.011, out - REACH), 0.012)
        height = mix(height, arch + 0.014 * wire, solid)
        color = mix(color, 0.008 + (0.1 + 0.2 * hurt)[tooth] * wire, solid)
        tape = np.maximum(tape, solid)
    return Surface(u, v, height, color * rgb(1, 1, 1), 0.015 * tape, tape, TABLE)


def _along(s: Surface, rng: Rng) -> float:
    return float(s.v[int(rng.uniform(0.12, 0.88) * len(s.v)), 0])


def broken_teeth(scene: Scene, rng: Rng, severity: float) -> Surface:
    v = _along(scene.surface, rng)
    far = np.abs((np.arange(TEETH) + 0.5 - v / PITCH + TEETH / 2) % TEETH - TEETH / 2)
    harm = np.clip(damage.grow(severity, 1.0, 6) - far, 0, 1).astype(np.float32)
    rows = ((1, 0), (0, 1), (1, 1))[rng.integers(3)]
    return scene.again(harm=np.outer(np.array(rows, np.float32), harm))


def split_teeth(scene: Scene, rng: Rng, severity: float) -> Surface:
    v = _along(scene.surface, rng)
    length, width = damage.grow(severity, 0.12, 0.5), damage.grow(severity, 0.015, 0.1)
    return scene.again(gape=(v, length, width))


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
    {
        "broken_teeth": broken_teeth,
        "fabric_interior": fabric_interior,
        "split_teeth": split_teeth,
    },
)
