"""The wall of the course's first page: fifteen categories, one picked, its threshold moved.

The scores are those of :mod:`fastflow_utils.course.cases`; the images are drawn here, once.
"""

import json
from pathlib import Path
from typing import Any

from PIL import Image
from rjsmin import jsmin

from fastflow_utils.course import live
from fastflow_utils.course.cases import measured
from fastflow_utils.data.sample_set import defects, make
from fastflow_utils.detector.metrics import auroc

__all__ = ["DETECTORS", "context", "data", "picture"]

HERE = Path(__file__).resolve().parent
DRAWN = HERE.parent / "build" / "wall"
SIDE, COLUMNS = 96, 8  # pixels of a thumbnail; thumbnails in a row of a category's picture
DETECTORS = {
    "fastflow": "FastFlow, seed 0",
    "fastflow_1": "FastFlow, seed 1",
    "fastflow_2": "FastFlow, seed 2",
    "patchcore": "PatchCore",
    "padim": "PaDiM",
    "gaussian": "a Gaussian of the features",
    "pixels": "a Gaussian for each pixel",
}
ABOUT = (
    "Fifteen categories of the sample set, our own procedural renderings: one defect of each, and "
    "how well FastFlow (seed 0) ranks its test images. "
)


def picture() -> str:
    """Return the wall as HTML: what is to be seen without the script, which takes it over."""
    root = make(DRAWN / "tiles", train=0, good=0, per_defect=1)
    tiles = []
    for category, table in measured().groupby("category"):
        defect = defects(str(category))[0]
        with Image.open(root / str(category) / "test" / defect / "000.png") as image:
            address = live.webp(image.convert("RGB"), 60)
        name = str(category).replace("_", " ")
        ranked = auroc(table.fastflow.to_numpy(), table.label.to_numpy())
        tiles.append(
            f'<figure><img src="{address}" width="256" height="256" '
            f'alt="{name} with the defect {defect.replace("_", " ")}, sample set">'
            f"<figcaption><b>{name}</b> <span>AUROC {ranked:.3f}</span></figcaption></figure>"
        )
    hint = '<span class="wall-hint" hidden>Pick one, and move its threshold.</span>'
    return (
        f'<p class="wall-about">{ABOUT}{hint}</p>\n\n'
        f'<div class="live wall" data-live="wall">{"".join(tiles)}</div>'
    )


def data() -> dict[str, Any]:
    """Return what the script needs: of each category its images, labels and scores."""
    root = make(DRAWN / "thumbnails", size=128, train=0)
    categories = []
    for category, table in measured().groupby("category"):
        rows = -(-len(table) // COLUMNS)
        sheet = Image.new("RGB", (COLUMNS * SIDE, rows * SIDE))
        for number, name in enumerate(table.image):
            with Image.open(root / str(category) / "test" / f"{name}.png") as image:
                small = image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.LANCZOS)
            sheet.paste(small, (number % COLUMNS * SIDE, number // COLUMNS * SIDE))
        categories.append(
            {
                "name": str(category).replace("_", " "),
                "images": [name.replace("_", " ") for name in table.image],
                "labels": table.label.tolist(),
                "scores": [table[column].tolist() for column in DETECTORS],
                "sheet": live.webp(sheet, 50),
            }
        )
    return {
        "kind": "wall",
        "detectors": list(DETECTORS.values()),
        "side": SIDE,
        "columns": COLUMNS,
        "categories": categories,
    }


def context() -> dict[str, Any]:
    """Return the variables of the page that holds the wall."""
    return {
        "live": {"wall": json.dumps(data(), separators=(",", ":"))},
        "live_script": jsmin(live.script(["wall"])),
        "live_style": live.style("wall"),
    }
