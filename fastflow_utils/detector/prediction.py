"""A trained model and people's own files become scores, decisions and heat maps."""

from pathlib import Path

import pandas as pd
import torch.nn.functional as F
from PIL import Image

from fastflow_utils.data.images import image_files, load_image
from fastflow_utils.detector.heat_maps import colour, outline
from fastflow_utils.detector.model import FastFlow
from fastflow_utils.errors import FastFlowError
from fastflow_utils.frontend import track

__all__ = ["predict"]


def predict(
    model: FastFlow, inputs: list[Path], output: Path | str
) -> tuple[pd.DataFrame, list[str]]:
    """Score images of any size; write ``scores.csv`` and one heat map for each image.

    A heat map is a PNG of its image's size, in colours that mean the same for every image: black
    is a standard deviation above normal or less, yellow is as anomalous as can be. The model's
    pixel threshold is outlined in green, its image threshold makes the decision.

    Args:
        model: Trained.
        inputs: Image files, and folders that are searched for images, subfolders included.
        output: Made if it is missing.

    Returns:
        A table with the columns ``path``, ``score`` (higher is more anomalous) and ``decision``
        ("good" or "anomalous"), and a message for each file that could not be read: it is left
        out, the others are done all the same.

    Raises:
        FastFlowError: If an input does not exist, or there is no image at all.
    """
    files: list[tuple[Path, Path]] = []  # the image, and its name relative to what was given
    for given in inputs:
        if given.is_dir():
            folders = [given, *sorted(path for path in given.rglob("*") if path.is_dir())]
            found = [file for folder in folders for file in image_files(folder)]
            files += [(file, file.relative_to(given)) for file in found]
        elif given.is_file():
            files.append((given, Path(given.name)))
        else:
            raise FastFlowError(f"no file or folder '{given}': expected images or folders of them")
    if not files:
        raise FastFlowError(
            f"no images in {', '.join(map(str, inputs))}: expected PNG, JPEG, BMP, TIFF or WebP"
        )
    heat_maps = Path(output) / "heat_maps"
    heat_maps.mkdir(parents=True, exist_ok=True)
    rows, problems, taken = [], [], set[str]()
    for file, relative in track(files, "predicting"):
        try:
            image = load_image(file, model.backbone.image_size)
            height, width = load_image(file).shape[1:]
        except FastFlowError as error:
            problems.append(str(error))
            continue
        anomaly_map, score = model.predict(image[None].to(model.backbone.mean.device))
        anomaly_map = F.interpolate(anomaly_map.cpu(), (height, width), mode="bilinear")[0]
        decision = "anomalous" if score >= model.image_threshold else "good"
        rows.append({"path": str(file), "score": float(score), "decision": decision})
        name = _free_name("_".join(relative.with_suffix("").parts), taken)
        mask = anomaly_map >= model.pixel_threshold.cpu()
        picture = outline(colour(anomaly_map), mask)
        pixels = (picture * 255).round().astype("uint8")
        Image.fromarray(pixels).save(heat_maps / f"{name}.png")
    table = pd.DataFrame(rows, columns=["path", "score", "decision"])
    table.to_csv(Path(output) / "scores.csv", index=False)
    return table, problems


def _free_name(name: str, taken: set[str]) -> str:
    """Two inputs may have the same name: the second becomes name-2."""
    free, count = name, 1
    while free.lower() in taken:
        count += 1
        free = f"{name}-{count}"
    taken.add(free.lower())
    return free
