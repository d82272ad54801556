"""What a large picture takes: little more than its own pixels, one picture at a time."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("resource")

PREDICT = """
import resource, sys
from pathlib import Path
from fastflow_utils.detector.backbones import Backbone
from fastflow_utils.detector.flows import FlowOptions
from fastflow_utils.detector.model import FastFlow
from fastflow_utils.detector.prediction import predict

def peak(pictures):
    _, problems = predict(model, [pictures], folder / "out")
    assert not problems, problems
    kilo = 1024 if sys.platform == "linux" else 1  # macOS counts in bytes
    return kilo * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

folder = Path(sys.argv[1])
model = FastFlow(Backbone("efficientnet_lite0", image_size=64), FlowOptions(steps=1)).eval()
model.image_threshold.fill_(0.5)
small = peak(folder / "small")
print(peak(folder / "large") - small)
"""


def test_large_pictures_take_little_more_than_their_own_pixels(tmp_path):
    """At most 16 bytes a pixel: Pillow's four, four of a copy, and as much to spare.

    With maps and colours as floats of the picture's size it is more than 45. In a process of its
    own, whose peak nothing else has raised; before, a small picture has loaded what is needed.
    """
    side = 3000
    for name, size in {"small": 64, "large": side}.items():
        (tmp_path / name).mkdir()
        grey = Image.new("L", (size, size), 77)
        pictures = {mode: grey.convert(mode) for mode in ("L", "RGB", "RGBA")}
        pictures["I;16"] = Image.fromarray(np.full((size, size), 999, np.uint16))
        for mode, picture in pictures.items():
            picture.save(tmp_path / name / f"{mode[0] + mode[-1]}.png", compress_level=1)
    command = [sys.executable, "-c", PREDICT, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) / side**2 < 16
