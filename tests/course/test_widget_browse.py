"""The browser's choices follow the category, and its picture is the image that was chosen."""

import gzip
import importlib
import json
import shutil
from base64 import b64decode
from pathlib import Path

import ipywidgets
import numpy as np
import pytest
from matplotlib.figure import Figure

from fastflow_utils.course.plots import outline, show
from fastflow_utils.course.widgets import browse
from fastflow_utils.course.widgets.browse import browse_data
from fastflow_utils.data.mvtec import MVTecAD
from fastflow_utils.errors import FastFlowError

live_module = importlib.import_module("fastflow_utils.course.widgets.explore")


@pytest.fixture
def root(tiny: Path, tmp_path: Path) -> Path:
    """Two categories: 'disc' with the defects blot and spot; 'ring' with one image of spot."""
    shutil.copytree(tiny / "disc", tmp_path / "disc")
    shutil.copytree(tiny / "disc", tmp_path / "ring")
    shutil.rmtree(tmp_path / "ring" / "test" / "blot")
    for path in sorted((tmp_path / "ring" / "test" / "spot").iterdir())[1:]:
        path.unlink()
    return tmp_path


@pytest.fixture
def live(monkeypatch: pytest.MonkeyPatch, root: Path):
    """The browser with its controls: category, defect, image; picture and trouble beneath."""
    shown = []
    monkeypatch.setattr(live_module, "is_live", lambda: True)
    monkeypatch.setattr(live_module, "display", shown.append)
    assert browse(root, image_size=64) is None
    return shown[0].children


def pixels(figure: Figure) -> list[np.ndarray]:
    return [axes.images[0].get_array().data for axes in figure.axes]


def test_static_twin_is_an_image_beside_its_outline(root: Path):
    figure = browse(root, "ring", image_size=64)
    test = MVTecAD(root, "ring", "test", 64)
    sample = test[test.labels.index(1)]
    left, right = pixels(figure)
    np.testing.assert_array_equal(left, show(sample.image))
    np.testing.assert_array_equal(right, outline(show(sample.image), sample.mask))
    said = figure.get_suptitle()
    assert (
        "ring" in said and "spot" in said and f"{100 * sample.mask.float().mean():.1f} %" in said
    )


def test_defects_and_numbers_follow_the_category(live):
    category, defect, image, picture, trouble = live
    assert category.options == ("disc", "ring") and category.value == "disc"
    assert defect.options == ("blot", "spot", "good"), "a defect first, not 'good'"
    assert (image.min, image.max) == (0, 2)
    image.value = 2
    category.value = "ring"
    assert defect.options == ("spot", "good") and defect.value == "spot"
    assert (image.max, image.value) == (0, 0)
    defect.value = "good"
    assert image.max == 3
    category.value = "disc"
    assert defect.value == "good", "a defect that the next category has too stays chosen"
    assert trouble.value == "" and isinstance(picture, ipywidgets.Image)


def test_no_way_through_the_choices_is_an_error_and_each_is_its_own_picture(live):
    category, defect, image, picture, trouble = live
    seen = set()
    for name in category.options:
        category.value = name
        for kind in defect.options:
            defect.value = kind
            for number in range(image.max, -1, -1):
                image.value = number
                assert trouble.value == ""
                seen.add(picture.value)
    assert len(seen) == 10 + 5, "of disc 3 + 3 + 4 images, of ring 1 + 4"


def test_every_control_has_a_label(live):
    assert [control.description for control in live[:3]] == ["category", "defect", "image"]


def test_a_category_that_cannot_be_shown_is_refused_before_any_control(root: Path):
    with pytest.raises(FastFlowError, match="no category 'cube'"):
        browse(root, "cube")
    shutil.rmtree(root / "ring" / "test")
    with pytest.raises(FastFlowError, match=r"no images in .*ring"):
        browse(root)


def test_a_page_gets_some_of_each_defect_of_every_category(root: Path):
    data = json.loads(json.dumps(browse(root, "ring", image_size=64).live_data()))
    assert list(data["groups"]) == ["disc", "ring"] and data["start"] == 1
    names = {name: [data["names"][i] for i in at] for name, at in data["groups"].items()}
    spots = ["spot 000", "spot 001", "good 000", "good 001"]
    assert names["disc"] == ["blot 000", "blot 001", *spots]
    assert names["ring"] == ["spot 000", "good 000", "good 001"], "it has one spot"
    masks = np.frombuffer(gzip.decompress(b64decode(data["masks"])), np.uint8)
    shares = masks.reshape(len(data["pictures"]), -1).mean(1)
    assert data["shares"] == [f"{100 * share:.1f} % anomalous" for share in shares]
    assert "up to 2" in data["note"]


def test_a_small_budget_leaves_one_of_each(root: Path):
    splits = {"disc": MVTecAD(root, "disc", "test", 64)}
    budget = len(json.dumps(browse_data(splits, "disc"))) - 1
    data = browse_data(splits, "disc", budget)
    assert [name.split()[0] for name in data["names"]] == ["blot", "spot", "good"]
