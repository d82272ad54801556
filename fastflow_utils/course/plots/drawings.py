"""Drawings of the method and of its protocol, by code: one style, legible on a phone."""

from collections.abc import Sequence

import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from fastflow_utils.course.plots.boxes import INK, STYLES, Box, Drawing, Kind
from fastflow_utils.course.plots.style import HELD_OUT_COLOUR, TRAIN_COLOUR
from fastflow_utils.data.sizes import Size, height_width
from fastflow_utils.detector.maps import level_map, level_scale

__all__ = ["architecture", "calibration", "coupling_step", "protocol", "pyramid"]

SMALL = 10.5


def protocol() -> Figure:
    """The training images are split: nine tenths train, one tenth calibrates; the test is judged.

    A crossed arrow says that no choice may come from the test images.

    Example:
        >>> protocol().get_label()[:13]
        'The protocol.'
    """
    page = Drawing(
        5.6,
        6.5,
        "The protocol. Training images are all good. Nine in ten of them train the detector; one "
        "in ten is held out and sets its thresholds. Test images, good and anomalous, "
        "lead to the metrics only: the arrow from them to the choices is crossed out.",
    )
    train = page.box(0.1, 5.62, 3.0, 0.76, "training images\ngood only", "good")
    test = page.box(3.45, 5.62, 2.05, 0.76)
    page.words(test.x + 1.02, 6.2, "test images")
    page.box(3.52, 5.69, 0.9, 0.32, "good", "good", size=SMALL)
    page.box(4.47, 5.69, 0.96, 0.32, "anomalous", "anomalous", size=SMALL)

    learnt_from = page.box(0.1, 4.3, 1.4, 0.72, "9 in 10:\ntraining", edgecolor=TRAIN_COLOUR)
    held_out = page.box(1.7, 4.3, 1.4, 0.72, "1 in 10:\nheld out", "held out")
    page.arrow((0.8, train.y), learnt_from.top)
    page.arrow((2.4, train.y), held_out.top)

    learn = page.box(0.1, 2.85, 1.4, 0.9, "the model\nlearns", "learned")
    calibrate = page.box(1.7, 2.85, 1.4, 0.9, "thresholds\nare set", "held out")
    page.arrow(learnt_from.bottom, learn.top)
    page.arrow(held_out.bottom, calibrate.top)

    both = page.box(0.02, 2.75, 3.16, 1.1, kind="bare", edgecolor="0.6", linestyle=":")
    choices = page.box(3.62, 2.85, 1.45, 0.9, "choices:\nimage size,\nepochs, ...", size=11)
    page.arrow(choices.left, both.right)
    page.arrow((4.1, test.y), (4.1, choices.top[1]))
    page.cross(4.1, 4.66)
    page.words(4.3, 4.66, "never", ha="left", fontstyle="italic")

    detector = page.box(0.1, 1.5, 3.0, 0.72, "the detector, from now on fixed")
    page.arrow(learn.bottom, (learn.bottom[0], detector.top[1]))
    page.arrow(calibrate.bottom, (calibrate.bottom[0], detector.top[1]))
    metrics = page.box(
        0.1, 0.15, 5.4, 0.72, "maps and scores of the test images, and their metrics"
    )
    page.arrow(detector.bottom, (detector.bottom[0], metrics.top[1]))
    page.arrow((5.3, test.y), (5.3, metrics.top[1]))
    return page.figure


def pyramid(channels: Sequence[int], strides: Sequence[float], size: Size) -> Figure:
    """A frozen backbone turns one image into feature maps: each coarser, with more channels.

    Args:
        channels: C_l of each level, from fine to coarse.
        strides: Pixels between neighbouring positions of each level.
        size: H = W of the image, or (H, W), in pixels.

    Example:
        >>> figure = pyramid([24, 40, 112], [4, 8, 16], 256)
        >>> len(figure.axes)
        1
    """
    height, width = height_width(size)
    shapes = [(round(height / stride), round(width / stride)) for stride in strides]
    widest = max(max(shape) for shape in shapes)
    sides = [tuple(max(1.25 * side / widest, 0.16) for side in shape) for shape in shapes]
    depths = [0.16 + 0.5 * count / max(channels) for count in channels]
    rows = [up + depth / 2 for (up, _), depth in zip(sides, depths, strict=True)]
    gap, above = 0.72, 1.25 * height / max(height, width)
    total = 0.15 + above + sum(rows) + gap * len(rows) + 0.25
    many = ", ".join(
        f"level {level}: {count} channels, {up} × {across} positions"
        for level, (count, (up, across)) in enumerate(zip(channels, shapes, strict=True))
    )
    page = Drawing(
        5.6,
        total,
        f"The feature pyramid. A frozen backbone turns an image of {height} × {width} pixels "
        f"into feature maps, one after the other: {many}.",
    )
    middle, y = 1.3, total - 0.15 - above
    across = 1.25 * width / max(height, width)
    image = page.box(middle - across / 2, y, across, above, "image $x$", "plain")
    page.words(2.35, y + above / 2, f"3 channels\n{height} × {width} pixels", ha="left")
    bottom = image.bottom
    parts = zip(channels, strides, shapes, sides, depths, rows, strict=True)
    for level, (count, stride, shape, (up, wide), depth, row) in enumerate(parts):
        y -= gap + row
        lift = depth / 2
        stage = page.box(middle - 1.05, y + row + 0.22, 2.1, 0.36, kind="frozen")
        stages = "backbone, frozen" if level == 0 else "more layers, frozen"
        page.words(*stage.at(0.5, 0.5), stages, size=SMALL)
        page.arrow(bottom, stage.top)
        page.arrow(stage.bottom, (middle, y + row + 0.02))
        left = middle - (wide + lift) / 2
        _stack(page, left, y, wide, up, lift, sheets=2 + round(6 * count / max(channels)))
        page.words(left + wide / 2, y + up / 2, f"$h_{{{level}}}$", size=13)
        many = f"level {level}: {count} channels\n{shape[0]} × {shape[1]} positions\n"
        page.words(2.35, y + row / 2, f"{many}one every {stride:.3g} pixels", ha="left")
        bottom = (middle, y - 0.02)
    return page.figure


def _stack(
    page: Drawing, x: float, y: float, width: float, height: float, lift: float, sheets: int
) -> None:
    """Draw sheets behind each other: a feature map, a sheet for some of its channels."""
    for number in range(sheets - 1, -1, -1):
        shift = lift * number / (sheets - 1)
        page.axes.add_patch(
            Rectangle((x + shift, y + shift), width, height, linewidth=1, **STYLES["frozen"])
        )


def coupling_step() -> Figure:
    """One step of the flow: ActNorm, a permutation, and a coupling of two halves x_a and x_b.

    Example:
        >>> len(coupling_step().axes)
        1
    """
    page = Drawing(
        5.6,
        7.3,
        "One step of the flow. ActNorm scales and shifts each channel, a permutation reorders "
        "the channels, which are then split. The half x_a passes unchanged and enters a subnet, "
        "whose outputs s and t scale and shift the other half x_b. Each part's log-determinant "
        "stands beside it.",
    )
    left, right = 0.85, 3.3
    middle = (left + right) / 2
    page.words(middle, 7.1, "$x$", size=15)
    page.words(4.85, 7.1, r"log$\,|\det|$")
    norm = page.box(0.45, 6.2, 3.25, 0.5, r"ActNorm: $e^{s_c}\, x_c + t_c$", "learned")
    page.words(4.85, 6.45, r"$HW\, \sum_c s_c$")
    order = page.box(0.45, 5.35, 3.25, 0.5, "fixed permutation of channels", "frozen")
    page.words(4.85, 5.6, "0")
    split = page.box(0.45, 4.5, 3.25, 0.5, "split the channels")
    page.arrow((middle, 6.95), norm.top)
    page.arrow(norm.bottom, order.top)
    page.arrow(order.bottom, split.top)

    page.words(left - 0.24, 4.22, "$x_a$", size=14)
    page.words(right + 0.26, 4.22, "$x_b$", size=14)
    subnet = page.box(
        1.15, 2.4, 1.3, 1.25, "subnet:\nConv, ReLU,\nConv,\nclamp of $s$", "learned", size=11
    )
    join = page.box(0.45, 0.75, 3.25, 0.5, "put the halves together")
    page.arrow((left, split.y), (left, join.top[1]))
    page.arrow((left, subnet.left[1]), subnet.left)
    page.axes.plot(left, subnet.left[1], "o", color=INK, markersize=5)

    times = page.box(right - 0.38, 3.2, 0.76, 0.42, r"$\odot\; e^{s}$", size=14)
    plus = page.box(right - 0.38, 2.45, 0.76, 0.42, "$+\\; t$", size=14)
    page.arrow((right, split.y), times.top)
    page.arrow(times.bottom, plus.top)
    page.arrow(plus.bottom, (right, join.top[1]))
    for operation, name in {times: "$s$", plus: "$t$"}.items():
        page.arrow((subnet.right[0], operation.left[1]), operation.left)
        page.words(2.7, operation.left[1] + 0.15, name, size=14)
    page.words(4.85, times.left[1], "$\\sum s$, over\nchannels and\npositions")

    page.words(left - 0.24, 1.55, "$z_a$", size=14)
    page.words(right + 0.26, 1.55, "$z_b$", size=14)
    page.words(middle, 1.86, "$z_a = x_a$", size=13)
    page.words(middle, 1.55, r"$z_b = x_b \odot e^{s} + t$", size=13)
    page.arrow(join.bottom, (middle, 0.42))
    page.words(middle, 0.22, "$z$", size=15)
    return page.figure


def architecture() -> Figure:
    """FastFlow: image, frozen backbone, a flow for each level, their maps, one map and a score.

    Example:
        >>> "frozen" in architecture().get_label()
        True
    """
    page = Drawing(
        5.6,
        9.9,
        "The architecture of FastFlow. A frozen backbone turns an image into feature maps of "
        "three levels. Each passes a flow, two measured layers and eight trained steps, "
        "to the negative log-likelihood of each position and to its rarity. The levels' mean, "
        "smoothed, is the anomaly map; both enter the score.",
    )
    image = page.box(1.7, 9.3, 2.2, 0.5, r"image $x$, $3 \times 256 \times 256$", size=11)
    backbone = page.box(0.1, 8.5, 5.4, 0.5, "backbone, frozen", "frozen")
    page.arrow(image.bottom, backbone.top)
    mean = page.box(0.1, 2.35, 5.4, 0.5, "at image size: mean of the levels, then blur")
    for level, (channels, side) in enumerate([(24, 64), (40, 32), (112, 16)]):
        x = 0.1 + 1.9 * level
        shape = rf"$h_{level}$: ${channels} \times {side} \times {side}$"
        h = page.box(x, 7.75, 1.6, 0.45, shape, "frozen", size=11)
        page.arrow((h.top[0], backbone.y), h.top)
        flow = _flow(page, x, 5.35)
        page.arrow(h.bottom, flow.top)
        nll = page.box(x, 4.35, 1.6, 0.6, f"$n_{level}$: nll of\neach position", size=11)
        page.arrow(flow.bottom, nll.top)
        page.words(x + 1.0, 5.16, f"$z_{level}$", size=13)
        rare = page.box(
            x, 3.2, 1.6, 0.6, f"$a_{level}$: how rare,\nin [0, 1]", "held out", size=11
        )
        page.arrow(nll.bottom, rare.top)
        page.axes.plot(x + 0.8, 4.1, "o", color=INK, markersize=5)
        page.arrow(rare.bottom, (x + 0.8, mean.top[1]))
    anomaly_map = page.box(0.1, 1.45, 2.6, 0.55, "anomaly map $a$")
    page.arrow((1.4, mean.y), anomaly_map.top)
    score = page.box(3.3, 1.45, 2.0, 0.55, "image score", "held out")
    page.arrow(anomaly_map.right, score.left)
    page.arrow((0.9, 4.1), (5.55, 4.1), (5.55, score.right[1]), score.right)
    keys: list[tuple[float, float, Kind, str]] = [
        (0.1, 0.75, "frozen", "frozen, from ImageNet"),
        (2.9, 0.75, "measured", "measured, training images"),
        (0.1, 0.25, "learned", "trained"),
        (2.9, 0.25, "held out", "uses held-out images"),
    ]
    for x, y, kind, words in keys:
        key = page.box(x, y, 0.34, 0.24, kind=kind)
        page.words(key.right[0] + 0.1, key.right[1], words, size=SMALL, ha="left")
    return page.figure


def _flow(page: Drawing, x: float, y: float) -> Box:
    """Draw a level's flow: what standardises, and eight steps."""
    page.box(x, y + 1.7, 1.6, 0.37, "PositionNorm", "measured", size=SMALL)
    page.box(x, y + 1.28, 1.6, 0.37, "whitening", "measured", size=SMALL)
    steps = "8 steps of\nActNorm,\npermutation,\ncoupling"
    page.box(x, y, 1.6, 1.23, steps, "learned", size=11)
    return Box(x, y, 1.6, 2.07)


def calibration() -> Figure:
    """From one position's negative log-likelihood to its rarity, the map, score and thresholds.

    The curve is that of :func:`~fastflow_utils.detector.maps.level_map` for made-up values.

    Example:
        >>> calibration().axes[2].get_ylabel()
        '$a_l$'
    """
    page = Drawing(
        5.6,
        9.6,
        "The calibration. A histogram of n_l over made-up normal positions; below it the curve "
        "from n_l to a_l: one position in ten reaches 0.25, one in ten thousand 1. Boxes lead "
        "from these to the map, to the score in standard deviations of held-out images, and to "
        "the two thresholds.",
    )
    figure = page.figure
    generator = torch.Generator().manual_seed(0)
    normal = 1.05 + 0.1 * torch.randn(40_000, 6, generator=generator).square().sum(1)
    scale = level_scale(normal)
    values = torch.linspace(float(normal.min()) - 0.2, float(scale[-1]) + 0.5, 400)
    above = figure.add_axes((0.3, 0.84, 0.66, 0.13))
    below = figure.add_axes((0.3, 0.63, 0.66, 0.19), sharex=above)
    above.hist(normal.numpy(), bins=80, color=HELD_OUT_COLOUR)
    above.set(
        ylabel="positions", yticks=[], xticks=[1, 2, 3], xlim=(float(values[0]), float(values[-1]))
    )
    above.tick_params(labelbottom=False)
    heading = "held-out normal positions (made-up values)"
    figure.text(0.63, 0.978, heading, fontsize=SMALL, ha="center")
    below.plot(values.numpy(), level_map(values, scale).numpy(), color="black", linewidth=2)
    for part, knot in zip((0.25, 0.5, 0.75, 1), (16, 32, 48, 64), strict=True):
        value = float(scale[knot])
        below.plot(
            (value, value, float(values[0])), (0, part, part), ":", color="0.5", linewidth=1
        )
        below.plot(value, part, "o", color="black", markersize=4)
        above.axvline(value, color="0.5", linestyle=":", linewidth=1)
    names = ["0", "1 in 10: 0.25", "1 in 100: 0.5", "1 in 1000: 0.75", r"1 in 10$^4$: 1"]
    below.set_yticks([0, 0.25, 0.5, 0.75, 1], names)
    below.set(xlabel="$n_l$ of a position, nats per dimension", ylabel="$a_l$", ylim=(0, 1.04))
    for axes in (above, below):
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=SMALL)

    maps = page.box(0.1, 4.75, 2.5, 0.5, "$a_0,\\ a_1,\\ a_2$ by the curve", "held out", size=11)
    nlls = page.box(3.0, 4.75, 2.5, 0.5, "$n_0,\\ n_1,\\ n_2$", size=11)
    page.arrow(nlls.left, maps.right)
    anomaly_map = page.box(
        0.1, 3.75, 2.5, 0.65, "map $a$: mean of levels\nat image size, blur", size=11
    )
    page.arrow(maps.bottom, anomaly_map.top)
    highest = "mean of the\nhighest 1 % of"
    of_map = page.box(0.6, 2.75, 2.0, 0.65, f"{highest} $a$", size=11)
    of_levels = page.box(3.0, 2.75, 2.5, 0.65, f"{highest} each $n_l$", size=11)
    page.arrow((of_map.top[0], anomaly_map.y), of_map.top)
    page.arrow(nlls.bottom, of_levels.top)
    words = "each minus its mean, over its standard deviation\n(both of held-out images)"
    standard = page.box(0.6, 1.85, 4.9, 0.55, words, "held out", size=11)
    for box in (of_map, of_levels):
        page.arrow(box.bottom, (box.bottom[0], standard.top[1]))
    score = page.box(
        0.6, 1.08, 4.9, 0.42, "score: that of $a$ + the largest of the $n_l$", size=11
    )
    page.arrow(standard.bottom, score.top)
    pixel = page.box(
        0.1,
        0.1,
        2.5,
        0.65,
        "pixel threshold: 1 in 1000\nheld-out pixels reaches it",
        "held out",
        11,
    )
    image = page.box(
        3.0, 0.1, 2.5, 0.65, "image threshold,\nfor 1 in 10 good images", "held out", 11
    )
    page.arrow((0.35, anomaly_map.y), (0.35, pixel.top[1]))
    page.arrow((image.top[0], score.y), image.top)
    return figure
