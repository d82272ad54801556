"""Frames drawn beforehand: what `explore` shows, in tiles that a page puts together again."""

import gc
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, cast

import ipywidgets
import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from fastflow_utils.course.live.packing import pack, webp
from fastflow_utils.course.plots.style import SHARP, seen
from fastflow_utils.errors import FastFlowError

__all__ = ["BUDGET", "MOST", "frames", "young_garbage"]

TILE = 64
"""Pixels along a side: 32 of the page's, and four blocks of WebP."""
GAP = 16
"""Pixels between the tiles of a sheet: WebP smooths over the borders of its blocks."""
ACROSS, DOWN = 16, 48
"""Tiles of a sheet, at most: 20 MB in the browser's memory."""
MOST = 260
"""Frames of one figure: drawing them takes about half a minute."""
BUDGET = 1_100_000
"""Characters of one figure in its page: a page with two of them, a feature explorer and pictures
stays below 6 MB."""
QUALITIES = (85, 75, 65, 50, 35, 20)
"""Of photographs and heat maps: the best one that fits the budget."""


class _Walk(NamedTuple):
    """The values of a control that a page walks through."""

    labels: list[str]
    values: list[Any]
    start: int
    is_order: bool
    """Epochs, layers and amounts have an order, which can be played."""
    is_free: bool
    """Nobody has said which values."""


class _Group(NamedTuple):
    """Tiles that depend on the same controls."""

    controls: list[int]
    places: np.ndarray
    """(P,), counted from left to right, row by row."""
    tiles: np.ndarray
    """(combinations of these controls, P), the numbers of the tiles that are there."""


def frames(
    render: Callable[..., Figure],
    controls: Mapping[str, ipywidgets.ValueWidget],
    walked: Mapping[str, Sequence[Any]] | None = None,
) -> dict[str, Any]:
    """Draw a figure at every combination of its controls' values, for a page without a kernel.

    The picture is cut into tiles. A tile depends on the controls that ever change it. Tiles that
    depend on the same controls form a group, which is kept for each combination of these alone,
    and equal tiles are kept once: bytes add up where combinations multiply. What nothing changes
    is left to the figure's still picture.

    Args:
        render: As :func:`~fastflow_utils.course.widgets.explore` takes it. It may change and
            return the same figure each time; in the end that one is as at the first values.
        controls: By the names of ``render``'s arguments.
        walked: By name, the values that the page walks through; the control's own is always
            among them. Default: all of a control with at most 12, else some 12 from end to end;
            fewer where that would be more than ``MOST`` combinations, and of an order also where
            the tiles would need more than ``BUDGET``.

    Returns:
        Data of the kind ``frames``, read by `frames.js`.

    Raises:
        FastFlowError: If there are more than ``MOST`` combinations, a value is none of its
            control's, a control has no list of values, the figure cannot be drawn at some values
            or changes its size, or the tiles need more than ``BUDGET``.

    Example:
        >>> def render(height):
        ...     figure = Figure((2, 1), dpi=80)
        ...     figure.add_axes((0, 0, 1, 1)).axhline(height)
        ...     return figure
        >>> data = frames(render, {"height": ipywidgets.FloatSlider(0, max=1, step=0.5)})
        >>> data["size"], data["controls"][0]["labels"]
        ([320, 160], ['0', '0.5', '1'])
    """
    asked = walked or {}
    if unknown := set(asked) - set(controls):
        raise FastFlowError(f"no control '{min(unknown)}'; there are: {', '.join(controls)}")
    for limit in range(12, 1, -1):
        walks = {name: _walk(name, one, asked.get(name), limit) for name, one in controls.items()}
        shape = [len(walk.values) for walk in walks.values()]
        if (count := math.prod(shape)) <= MOST:
            break
    else:
        longest = max(walks, key=lambda name: len(walks[name].values))
        raise FastFlowError(
            f"{' x '.join(map(str, shape))} = {count} frames for a page, at most {MOST}: walk "
            f"through fewer values, as in explore(..., walked={{'{longest}': [...]}})"
        )
    combinations = [
        dict(zip(walks, values, strict=True))
        for values in itertools.product(*(walk.values for walk in walks.values()))
    ]
    try:
        size, tiles, rows, texts = _draw(render, combinations)
    finally:
        with young_garbage():
            render(**{name: walk.values[walk.start] for name, walk in walks.items()})
    numbers, told = rows.reshape(*shape, -1), np.array(texts, object).reshape(shape)
    while True:
        groups = _groups(numbers)
        sheets, numbered = _sheets(tiles, groups)
        size_in_page = sum(len(address) for address, _ in sheets)
        if size_in_page <= BUDGET:
            break
        axis, name = _to_thin(groups, walks, size_in_page)
        walks[name], kept = _thinned(walks[name])
        numbers, told = numbers.take(kept, axis), told.take(kept, axis)
    return {
        "kind": "frames",
        "size": size,
        "tile": TILE,
        "pitch": TILE + GAP,
        "across": ACROSS,
        "controls": [
            {
                "label": controls[name].description or name.replace("_", " "),
                "labels": walk.labels,
                "value": walk.start,
                "order": walk.is_order,
            }
            for name, walk in walks.items()
        ],
        "seen": pack(torch.tensor(list("\n".join(told.flat).encode()), dtype=torch.uint8)),
        "sheets": sheets,
        "groups": [
            {
                "controls": group.controls,
                "places": group.places.tolist(),
                "tiles": pack(torch.from_numpy(numbered[group.tiles].astype("<i4"))),
            }
            for group in groups
        ],
    }


def _walk(
    name: str, control: ipywidgets.ValueWidget, asked: Sequence[Any] | None, limit: int
) -> _Walk:
    labels, values = _values(name, control, asked)
    start = getattr(control, "index", None)  # of a choice, whose values may be of any type
    if start is None:
        start = _place(name, cast(Any, control).value, values)
    if asked is not None:
        chosen = {_place(name, value, values) for value in asked}
    else:
        count = min(limit, len(values))
        chosen = set(np.linspace(0, len(values) - 1, count).round().astype(int).tolist())
    kept = sorted(chosen | {start})
    labels = [labels[i] for i in kept]
    return _Walk(
        labels, [values[i] for i in kept], kept.index(start), _is_order(labels), asked is None
    )


def _values(
    name: str, control: ipywidgets.ValueWidget, asked: Sequence[Any] | None
) -> tuple[list[str], list[Any]]:
    """Return the labels and the values of a choice, a box to tick, or a slider over numbers."""
    one = cast(Any, control)
    if isinstance(getattr(one, "index", None), int):
        labels, values = map(list, zip(*one._options_full, strict=True))
        return labels, values
    if isinstance(one.value, bool):
        return ["no", "yes"], [False, True]
    is_even = isinstance(one.value, int | float) and not hasattr(one, "base")  # no logarithms
    if is_even and getattr(one, "step", None) and hasattr(one, "max"):
        count = math.floor((one.max - one.min) / one.step + 1e-6) + 1
        values = [type(one.value)(float(f"{one.min + i * one.step:.10g}")) for i in range(count)]
        if not any(math.isclose(one.value, value, abs_tol=1e-9) for value in values):
            values = sorted([*values, one.value])
        return [f"{value:.10g}" for value in values], values
    if asked is None:
        raise FastFlowError(
            f"control '{name}' has no list of values: say which to walk through, as in "
            f"explore(..., walked={{'{name}': [...]}})"
        )
    values = list(dict.fromkeys([*asked, one.value]))
    return [str(value) for value in values], values


def _place(name: str, value: Any, values: list[Any]) -> int:
    for place, one in enumerate(values):
        if one == value or (isinstance(one, float) and math.isclose(one, value, abs_tol=1e-9)):
            return place
    raise FastFlowError(f"control '{name}' has no value {value!r}")


def _is_order(labels: list[str]) -> bool:
    try:
        return len([float(label) for label in labels]) > 2
    except ValueError:
        return False


def _draw(
    render: Callable[..., Figure], combinations: list[dict[str, Any]]
) -> tuple[list[int], list[np.ndarray], np.ndarray, list[str]]:
    """Return the size of all frames in pixels, their different tiles, and what is where.

    The last but one has a row for each frame: the number of the tile at each place. The last is
    the alternative text of each frame.
    """
    known: dict[bytes, int] = {}
    rows, sizes, told = [], {}, []
    for values in combinations:
        with young_garbage():
            try:
                figure = render(**values)
            except Exception as error:
                where = ", ".join(f"{name} = {value}" for name, value in values.items())
                kind = type(error).__name__
                raise FastFlowError(f"no frame at {where}: {kind}: {error}") from error
            picture = _pixels(figure)
            told.append(" ".join(seen(figure).split()))
            del figure
        sizes[picture.shape[1::-1]] = values
        if len(sizes) > 1:
            both = [f"{width} x {height} at {of}" for (width, height), of in sizes.items()]
            raise FastFlowError(
                f"a page needs pictures of one size, in pixels, not {' and '.join(both)}: let "
                "`render` always draw a figure of the same size"
            )
        rows.append([known.setdefault(tile, len(known)) for tile in _cut(picture)])
    tiles = [np.frombuffer(tile, np.uint8).reshape(TILE, TILE, 3) for tile in known]
    return list(*sizes), tiles, np.array(rows), told


def _pixels(figure: Figure) -> np.ndarray:
    """Return a figure as a notebook shows it, (height, width, 3)."""
    dpi = figure.dpi
    figure.dpi = SHARP * dpi
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    picture = np.asarray(canvas.buffer_rgba())[..., :3].copy()
    figure.dpi = dpi
    return picture


def _cut(picture: np.ndarray) -> Iterator[bytes]:
    height, width, _ = picture.shape
    filled = np.pad(picture, ((0, -height % TILE), (0, -width % TILE), (0, 0)), mode="edge")
    for top in range(0, height, TILE):
        for left in range(0, width, TILE):
            yield filled[top : top + TILE, left : left + TILE].tobytes()


def _groups(numbers: np.ndarray) -> list[_Group]:
    """Sort places by the controls that they depend on.

    Args:
        numbers: (values of the first control, of the second, ..., places).
    """
    axes = range(numbers.ndim - 1)
    changed = [(numbers != numbers.take([0], axis)).any(tuple(axes)) for axis in axes]
    depends = np.stack(changed)  # (controls, places)
    groups = []
    for together in np.unique(depends, axis=1).T:
        if not together.any():
            continue
        places = np.flatnonzero((depends == together[:, None]).all(0))
        alone = numbers[tuple(slice(None) if of else 0 for of in together)][..., places]
        groups.append(
            _Group(np.flatnonzero(together).tolist(), places, alone.reshape(-1, len(places)))
        )
    return groups


def _sheets(
    tiles: list[np.ndarray], groups: list[_Group]
) -> tuple[list[tuple[str, int]], np.ndarray]:
    """Return pictures of many tiles, each with their count, and each tile's number in them.

    The best quality that fits the budget, else the lowest.
    """
    used = list(dict.fromkeys(n for group in groups for n in group.tiles.flatten().tolist()))
    drawings = [n for n in used if _is_drawing(tiles[n])]
    photos = sorted(set(used) - set(drawings))
    numbered = np.zeros(len(tiles), int)
    numbered[drawings + photos] = range(len(used))
    exact = [_sheet(tiles, some, 100, lossless=True) for some in _portions(drawings)]
    sheets: list[tuple[str, int]] = []
    for quality in QUALITIES:
        sheets = exact + [_sheet(tiles, some, quality) for some in _portions(photos)]
        if sum(len(address) for address, _ in sheets) <= BUDGET:
            break
    return sheets, numbered


def _to_thin(groups: list[_Group], walks: Mapping[str, _Walk], size: int) -> tuple[int, str]:
    """Return the number and name of the control that most tiles depend on, if it can be thinned.

    Nobody misses a value of an order between two others; a choice would be missing.
    """
    names = list(walks)
    largest = max(groups, key=lambda group: len(np.unique(group.tiles))).controls
    able = [
        i
        for i in largest
        if (walk := walks[names[i]]).is_free and walk.is_order and len(walk.values) > 3
    ]
    if able:
        axis = max(able, key=lambda i: len(walks[names[i]].values))
        return axis, names[axis]
    raise FastFlowError(
        f"the frames need {size / 1e3:.0f} kB of a page, at most {BUDGET / 1e3:.0f}: walk through "
        f"fewer values of {' and '.join(names[i] for i in largest)}, as in "
        f"explore(..., walked={{'{names[largest[0]]}': [...]}})"
    )


def _thinned(walk: _Walk) -> tuple[_Walk, list[int]]:
    """Return half of a walk's values, with both ends and the start, and their places in it."""
    last = len(walk.values) - 1
    kept = set(np.linspace(0, last, (last + 1) // 2).round().astype(int).tolist())
    places = sorted(kept | {walk.start})
    labels, values = ([of[i] for i in places] for of in (walk.labels, walk.values))
    thinner = walk._replace(labels=labels, values=values, start=places.index(walk.start))
    return thinner, places


def _is_drawing(tile: np.ndarray) -> bool:
    """True for lines and letters on a plain ground: exact they are crisp, and as small."""
    _, counts = np.unique(tile.astype(np.int32) @ (65536, 256, 1), return_counts=True)
    return len(counts) <= 256 and counts.max() >= tile[..., 0].size / 2


def _portions(numbers: list[int]) -> Iterator[list[int]]:
    for first in range(0, len(numbers), ACROSS * DOWN):
        yield numbers[first : first + ACROSS * DOWN]


def _sheet(
    tiles: list[np.ndarray], numbers: list[int], quality: int, lossless: bool = False
) -> tuple[str, int]:
    pitch, half = TILE + GAP, GAP // 2
    sheet = np.zeros((-(-len(numbers) // ACROSS) * pitch, ACROSS * pitch, 3), np.uint8)
    for place, number in enumerate(numbers):
        top, left = place // ACROSS * pitch, place % ACROSS * pitch
        with_gap = np.pad(tiles[number], ((half, half), (half, half), (0, 0)), mode="edge")
        sheet[top : top + pitch, left : left + pitch] = with_gap
    picture = Image.fromarray(sheet[half:, half:])  # the first tile begins where a block does
    return webp(picture, quality, lossless), len(numbers)


@contextmanager
def young_garbage() -> Iterator[None]:
    """Collect the garbage that is made within the block, and nothing older.

    A figure is full of reference cycles. Left to itself Python soon looks through everything
    alive to find them: half a second of every few figures.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.collect(0)
        if enabled:
            gc.enable()
