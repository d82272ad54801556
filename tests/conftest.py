"""What every test starts from: fixed seeds, one thread, no screen."""

import os
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported
os.environ["MPLBACKEND"] = "Agg"

import numpy as np
import pytest
import torch
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
# The notebooks' runner and the benchmarks are not installed.
sys.path[:0] = [str(ROOT / "notebooks"), str(ROOT / "tests" / "benchmarks")]
collect_ignore = ["benchmarks/peer.py"]  # it runs where the peer is installed


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of real images and weights beside the repository, present only where it was made."""
    folder = ROOT.parent / "shared"
    if not folder.is_dir():
        pytest.skip("no folder ../shared with real images and weights")
    return folder


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root in MVTec layout with one category, 'disc': 64 px, bright squares as defects."""
    root = tmp_path_factory.mktemp("tiny")
    random = np.random.default_rng(0)
    rows, columns = np.mgrid[:64, :64]
    counts = {"train/good": 6, "test/good": 4, "test/spot": 3, "test/blot": 3}
    for folder, count in counts.items():
        split, defect = folder.split("/")
        for index in range(count):
            pixels = random.normal(80, 4, (64, 64, 3))
            pixels[(rows - 32) ** 2 + (columns - 32) ** 2 < 400] += 60
            mask = np.zeros((64, 64), bool)
            if defect != "good":
                top, left = random.integers(16, 40, 2)
                mask[top : top + 8, left : left + 8] = True
                pixels[mask] = (230, 40, 40)
                place = root / "disc" / "ground_truth" / defect / f"{index:03}_mask.png"
                place.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(mask).save(place)
            place = root / "disc" / split / defect / f"{index:03}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(place)
    return root
