"""What large pictures and many pixels take beside their own memory: little.

Each measures in a process of its own, whose peak nothing else has raised, and does it all once
with something small, which loads what is needed.
"""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("resource")

PEAK = """
import re, resource, sys
from pathlib import Path

def peak():
    if sys.platform == "linux":  # of this process alone: a new one inherits its parent's maxrss
        return 1024 * int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # macOS counts in bytes
"""

PREDICT = """
from pathlib import Path
from fastflow_utils.detector.backbones import Backbone
from fastflow_utils.detector.flows import FlowOptions
from fastflow_utils.detector.model import FastFlow
from fastflow_utils.detector.prediction import predict

folder = Path(sys.argv[1])
model = FastFlow(Backbone("efficientnet_lite0", image_size=64), FlowOptions(steps=1)).eval()
model.image_threshold.fill_(0.5)
for name in ("small", "large"):
    before = peak()
    _, problems = predict(model, [folder / name], folder / "out")
    assert not problems, problems
print(peak() - before)
"""

WINDOWS = """
from PIL import Image
from fastflow_utils.detector.backbones import Backbone
from fastflow_utils.detector.flows import FlowOptions
from fastflow_utils.detector.model import FastFlow
from fastflow_utils.detector.windows import Windows

model = FastFlow(Backbone("efficientnet_lite0", image_size=128), FlowOptions(steps=1)).eval()
for size in (128, 1024), (2400, 3200):
    before = peak()
    model.read_as(windows=Windows(size, 128, 32)).predict(sys.argv[1])
print(peak() - before)
"""

METRICS = """
import torch
from types import SimpleNamespace
from fastflow_utils.detector.evaluation import Evaluation

for side in (20, int(sys.argv[1])):
    masks = torch.zeros(10, 1, side, side, dtype=torch.bool)
    masks[5:, :, :10, :10] = True
    maps = torch.rand(masks.shape)
    of = dict(dataset=SimpleNamespace(has_masks=True), image_threshold=0.5, pixel_threshold=0.5)
    labels = torch.arange(10) // 5
    evaluation = Evaluation(maps=maps, masks=masks, labels=labels, scores=torch.rand(10), **of)
    before = peak()
    evaluation.metrics(), evaluation.label_free()
print(peak() - before)
"""


def growth(script: str, argument: object) -> int:
    """Return what a script prints: by how many bytes its peak of memory has grown."""
    command = [sys.executable, "-c", PEAK + script, str(argument)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def test_large_pictures_take_little_more_than_their_own_pixels(tmp_path):
    """At most 16 bytes a pixel: Pillow's four, four of a copy, and as much to spare.

    With maps and colours as floats of the picture's size it is more than 45.
    """
    side = 3000
    for name, size in {"small": 64, "large": side}.items():
        (tmp_path / name).mkdir()
        grey = Image.new("L", (size, size), 77)
        pictures = {mode: grey.convert(mode) for mode in ("L", "RGB", "RGBA")}
        pictures["I;16"] = Image.fromarray(np.full((size, size), 999, np.uint16))
        for mode, picture in pictures.items():
            picture.save(tmp_path / name / f"{mode[0] + mode[-1]}.png", compress_level=1)
    assert growth(PREDICT, tmp_path) / side**2 < 16


def test_windows_of_a_large_picture_are_never_all_in_memory(tmp_path):
    """At most 16 bytes a pixel: Pillow's four, four of the resized picture, and maps.

    As floats alone the windows of this picture are 12 bytes a pixel and more, for they overlap;
    the features of all of them are 20. So 30 megapixels take less than half a gigabyte.
    """
    Image.new("RGB", (3000, 2200), "grey").save(tmp_path / "large.png", compress_level=1)
    assert growth(WINDOWS, tmp_path / "large.png") / (2400 * 3200) < 16


def test_metrics_need_no_copy_of_all_pixels_and_keep_none():
    """At most 10 bytes a pixel, half of them for the two of normal images that AUPIMO copies.

    Metric objects that keep what they are given, until the garbage is collected, make it 20.
    """
    side = 1100
    assert growth(METRICS, side) / (10 * side**2) < 10
