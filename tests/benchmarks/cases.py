"""Record what five detectors say of every test image of the sample set, for notebook 04.

    python tests/benchmarks/cases.py --device cuda     # six minutes on a GPU with --jobs 8

A Gaussian for each pixel (notebook 01), the package's other methods, and the flow with three
seeds, each with its default recipe. Only scores are kept, in ``fastflow_utils/course/cases.csv``:
the notebook computes the metrics and their intervals from them, so that nothing in its table is
typed in.
"""

import argparse
from pathlib import Path, PurePath
from tempfile import TemporaryDirectory

import pandas as pd
import torch
from torch import Tensor

from fastflow_utils import versions
from fastflow_utils.compute import resolve_precision, select_device
from fastflow_utils.course.cases import FILE
from fastflow_utils.data.mvtec import MVTecAD, categories, data_root
from fastflow_utils.experiments.engines import local
from fastflow_utils.experiments.recipes import recipe_for
from fastflow_utils.experiments.reproduce import plan, reproduce

METHODS = {"gaussian": (0,), "padim": (0,), "patchcore": (0,), "fastflow": (0, 1, 2)}
FLOOR = 4 / 255  # of the pixel Gaussian's standard deviation, as in notebook 01


def pixel_gaussian(root: Path, category: str) -> Tensor:
    """Return the score of each test image, (N,), as notebook 01 computes it."""
    train, test = (
        torch.stack([sample.image for sample in MVTecAD(root, category, split)])
        for split in ("train", "test")
    )
    z = (test - train.mean(0)) / train.std(0).clamp_min(FLOOR)
    pixels = z.square().mean(1).flatten(1)
    return pixels.topk(pixels.shape[1] // 100).values.mean(1)


def by_image(file: Path) -> dict[str, float]:
    """Return a run's score of each test image, named like "bent/003"."""
    scores = pd.read_csv(file)
    names = [f"{path.parent.name}/{path.stem}" for path in map(PurePath, scores["path"])]
    return dict(zip(names, scores["score"], strict=True))


def scores_of_runs(
    root: Path, runs: Path, device: str, processes: int
) -> dict[str, dict[str, dict[str, float]]]:
    """Return by column, category and image what every method and seed says."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for method, seeds in METHODS.items():
        jobs = plan(root, [recipe_for(method=method)], seeds=seeds)
        for done in reproduce(jobs, runs, engine=local(processes), device=device):
            if done.metrics is None:
                raise SystemExit(f"{done.job}: {done.error}")
            seed, category = done.metrics["seed"], done.metrics["category"]
            column = found.setdefault(f"{method}_{seed}" if seed else method, {})
            column[category] = by_image(runs / done.job.place / "test_scores.csv")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--runs", type=Path, help="keep the runs here; what is there is reused")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    options = parser.parse_args()
    root = data_root()
    with TemporaryDirectory() as folder:
        columns = scores_of_runs(root, options.runs or Path(folder), options.device, options.jobs)
    tables = []
    for category in categories(root):
        test = MVTecAD(root, category, "test")
        images = [f"{path.parent.name}/{path.stem}" for path in test.paths]
        table = pd.DataFrame({"category": category, "image": images, "label": test.labels})
        table["pixels"] = pixel_gaussian(root, category).tolist()
        for name, of in columns.items():
            table[name] = [of[category][image] for image in images]
        tables.append(table)
    device = select_device(options.device)
    about = versions() | {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "convolutions": resolve_precision(device=device),
        "command": "python tests/benchmarks/cases.py",
    }
    lines = [f"# {name}: {value}\n" for name, value in about.items()]
    text = pd.concat(tables).to_csv(index=False, float_format="%.6g", lineterminator="\n")
    FILE.write_text("".join(lines) + text, encoding="utf-8")
    print(f"{FILE.name}: {sum(map(len, tables))} images")


if __name__ == "__main__":
    main()
