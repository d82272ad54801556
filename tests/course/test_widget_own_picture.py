"""One's own pictures: judged as any other, whatever they are; what is none never ends it."""

import importlib
import io
import struct
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import ipywidgets
import numpy as np
import pytest
import torch
from PIL import Image

from fastflow_utils.course import plots
from fastflow_utils.course.live.drop import MEGABYTES, PICTURES, Drop, Offer, choose
from fastflow_utils.course.widgets import explore_own
from fastflow_utils.course.widgets.own_picture import MEGAPIXELS, judge, judged_figure
from fastflow_utils.detector.backbones import Backbone
from fastflow_utils.detector.flows import FlowOptions
from fastflow_utils.detector.model import FastFlow
from fastflow_utils.detector.windows import Windows
from fastflow_utils.errors import FastFlowError

module = importlib.import_module("fastflow_utils.course.widgets.own_picture")
explore_module = importlib.import_module("fastflow_utils.course.widgets.explore")
PART = 1000  # bytes of a message of the browser's stand-in


@pytest.fixture(scope="module")
def model() -> FastFlow:
    torch.manual_seed(0)
    backbone = Backbone("efficientnet_lite0", pretrained=False, image_size=64)
    model = FastFlow(backbone, FlowOptions(steps=1))
    model.calibrate([model.backbone(torch.rand(8, 3, 64, 64))])
    model.pixel_threshold.fill_(0.6)
    return model


def noise(height: int, width: int, seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(pixels)


def content(image: Image.Image, kind: str = "png", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def claiming(width: int, height: int) -> bytes:
    """A small PNG that says it is that large."""
    png = b"\x89PNG\r\n\x1a\n"
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    for kind, data in {b"IHDR": head, b"IDAT": zlib.compress(b""), b"IEND": b""}.items():
        check = struct.pack(">I", zlib.crc32(kind + data))
        png += struct.pack(">I", len(data)) + kind + data + check
    return png


def turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6  # taken with the camera upright
    return content(noise(48, 96), "jpeg", exif=exif)


def deep() -> bytes:
    rows = np.random.default_rng(0).integers(0, 65536, (64, 64)).astype(np.uint16)
    return content(Image.fromarray(rows))


FILES = {
    "png": content(noise(64, 64)),
    "turned.jpg": turned(),
    "deep.png": deep(),
    "glass.png": content(Image.merge("RGBA", [*noise(80, 60).split(), Image.new("L", (60, 80))])),
    "grey.tiff": content(noise(64, 64).convert("L"), "tiff"),
}
PAGES = content(noise(64, 64), "tiff", save_all=True, append_images=[noise(64, 64, 1)])
JPEG = content(noise(64, 64), "jpeg")
SCRATCHED = JPEG.replace(b"\xff\xdb", b"\xff\xfe")  # its table of steps is a comment now


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_judged_as_predict_judges_it(name, model, tmp_path):
    path = tmp_path / name
    path.write_bytes(FILES[name])
    maps, score = model.predict(path)
    judged = judge(model.for_inference(), name, FILES[name])
    assert torch.equal(judged.anomaly_map, maps[0]) and judged.score == score.item()
    called = "anomalous" if score >= model.image_threshold else "good"
    assert judged.decision == called and f"called {called}" in judged.verdict
    assert judged.share == pytest.approx((maps >= 0.6).float().mean().item())


def test_a_picture_is_shown_the_right_way_up(model):
    judged = judge(model, "turned.jpg", turned())
    assert judged.size == (96, 48) and judged.picture.shape == (96, 48, 3)


def test_a_score_at_the_threshold_is_anomalous(model):
    judged = judge(model, "a.png", FILES["png"])
    at = replace(judged, threshold=judged.score)
    above = replace(judged, threshold=judged.score + 0.01)
    assert (at.decision, above.decision) == ("anomalous", "good")
    assert "at or above" in at.verdict and "below" in above.verdict


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "no picture"),
        (b"some text", "no picture"),
        (FILES["png"][:2000], "truncated"),
        (PAGES[: len(PAGES) // 2], "a broken picture"),
        (SCRATCHED, "a broken picture: broken data stream"),
        (claiming(9000, 8000), f"at most {MEGAPIXELS} megapixels"),
        (claiming(11000, 9000), f"at most {MEGAPIXELS} megapixels"),  # Pillow warns
        (claiming(20000, 10000), f"at most {MEGAPIXELS} megapixels"),  # Pillow refuses
    ],
    ids=[
        "nothing",
        "text",
        "truncated",
        "half its pages",
        "scratched",
        "large",
        "larger",
        "a bomb",
    ],
)
def test_what_cannot_be_judged_is_refused_in_plain_words(data, says, model, recwarn):
    with pytest.raises(FastFlowError, match=says):
        judge(model, "a.png", data)
    assert not recwarn.list


def test_doubts_are_told(model):
    def notes(data: bytes) -> str:
        return " ".join(judge(model, "a", data).notes)

    plain = notes(content(noise(64, 64)))
    assert "squeezed" not in plain and "enlarged" not in plain and "frames" not in plain
    assert "squeezed" in notes(content(noise(64, 80)))
    assert "enlarged to 64 × 64" in notes(content(noise(32, 32)))
    many = content(noise(64, 64), "tiff", save_all=True, append_images=[noise(64, 64, 1)])
    assert "2 pages or frames" in notes(many)


def test_another_kind_of_picture_is_told_from_a_defect(model):
    detector = model.for_inference()
    seen = {}
    for limit in (0.0, 2.0):
        detector.pixel_threshold.fill_(limit)
        seen[limit] = "more than half" in " ".join(judge(detector, "a", FILES["png"]).notes)
    assert seen == {0.0: True, 2.0: False}


def test_a_model_with_windows_shows_no_features_of_the_whole(model):
    windows = Windows((96, 96), side=64, overlap=32)
    cut = FastFlow(model.backbone, FlowOptions(steps=1)).read_as(windows=windows)
    cut.image_threshold.fill_(1.0)
    judged = judge(cut, "a.png", FILES["png"])
    assert judged.colours == [] and "windows" in " ".join(judged.notes)
    judged_figure(judged)


@pytest.fixture
def examples(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"a${number}_{{.png" for number in range(3)]  # no formula of matplotlib
    for number, path in enumerate(paths):
        noise(64, 64 + 20 * number, number).save(path)
    return paths


def test_the_static_twin_is_the_example_with_the_highest_score(model, examples):
    figure = explore_own(model, examples, "noise (sample set)")
    scores = [model.predict(path)[1].item() for path in examples]
    highest = examples[int(np.argmax(scores))].name.replace("$", r"\$")
    assert figure.get_suptitle().startswith(f"noise (sample set), {highest}\n")
    assert f"image score {max(scores):.2f}" in figure.get_suptitle()
    assert plots.seen(figure).count(f"image score {max(scores):.2f}") == 1
    assert plots.seen(figure).count(examples[int(np.argmax(scores))].name) == 1
    figure.draw_without_rendering()


def test_all_figures_have_one_size_and_the_heat_map_a_colour_bar(model, examples):
    drawn = [judged_figure(judge(model, "a", path.read_bytes())) for path in examples]
    assert len({tuple(figure.get_size_inches()) for figure in drawn}) == 1
    assert all("anomaly map" in [a.get_ylabel() for a in figure.axes] for figure in drawn)


def test_a_model_without_a_threshold_is_refused(model, examples):
    untrained = FastFlow(model.backbone, FlowOptions(steps=1))
    with pytest.raises(FastFlowError, match="never calibrated"):
        explore_own(untrained, examples)
    with pytest.raises(FastFlowError, match="at least one"):
        explore_own(model, [])


# Live -------------------------------------------------------------------------------------------


class Stand:
    """Stands in for the browser, which holds the files and answers what the kernel asks."""

    def __init__(self, drop: Drop, monkeypatch: pytest.MonkeyPatch) -> None:
        self.drop, self.asked, self.said = drop, list[dict[str, Any]](), list[str]()
        monkeypatch.setattr(drop, "send", self.asked.append)
        drop.observe(lambda change: self.said.append(change["new"]), "status")

    def give(self, files: dict[str, bytes | None], batch: str = "1") -> str:
        """Offer files, of which None is one that cannot be read; return what is said at last."""
        names = list(files)
        sizes = [{"name": name, "size": len(data or b"")} for name, data in files.items()]
        self.tell({"batch": batch, "offer": sizes})
        while self.asked:
            asked = self.asked.pop(0)
            data = files[names[asked["ask"]]]
            if data is None:
                self.tell({"batch": batch, "error": "it is gone"})
            else:
                part = data[asked["start"] : asked["start"] + PART]
                self.tell({"batch": batch}, [part])
        return self.drop.status

    def tell(self, message: dict[str, Any], buffers: list[bytes] | None = None) -> None:
        self.drop._handle_custom_msg(message, buffers or [])


@pytest.fixture
def live(model, examples, monkeypatch):
    """The browser's stand-in, the slider, the picture and the table."""
    shown: list[Any] = []
    for one in (module, explore_module):
        monkeypatch.setattr(one, "is_live", lambda: True)
        monkeypatch.setattr(one, "display", shown.append)
    assert explore_own(model, examples) is None
    drop, box, table = shown
    slider = next(one for one in box.children if isinstance(one, ipywidgets.SelectionSlider))
    picture = next(one for one in box.children if isinstance(one, ipywidgets.Image))
    return Stand(drop, monkeypatch), slider, picture, table


def test_dropped_pictures_take_the_examples_places_sorted_by_score(live, model):
    stand, slider, picture, table = live
    before = picture.value
    files = {f"mine/{name}": data for name, data in FILES.items() if "." in name}
    said = stand.give(files)
    scores = {name: judge(model, name, data).score for name, data in files.items()}
    order = sorted(scores, key=lambda name: -scores[name])
    assert [one.name for _, one in slider.options] == order
    assert picture.value != before and said.startswith("4 files: ")
    assert [table.value.index(name) for name in order] == sorted(map(table.value.index, order))
    assert all(f"{score:.2f}" in table.value for score in scores.values())
    assert any(text.startswith("judging 3 of 4") for text in stand.said)


def test_a_large_file_arrives_whole_from_its_parts(live, model):
    stand, slider, *_ = live
    data = content(noise(300, 300))
    assert len(data) > 100 * PART
    stand.give({"a.png": data})
    [(_, judged)] = slider.options
    assert judged.score == judge(model, "a.png", data).score


def test_what_is_no_picture_stands_in_the_table_and_the_rest_is_judged(live):
    stand, slider, _, table = live
    said = stand.give({"<b>.png": b"text", "gone.png": None, "a.png": FILES["png"], "0.png": b""})
    assert said.startswith("4 files: ") and said.endswith("3 not judged")
    assert [one.name for _, one in slider.options] == ["a.png"]
    assert "&lt;b&gt;.png: no picture" in table.value and "<b>" not in table.value
    assert "gone.png: the browser cannot read it: it is gone" in table.value


def test_without_a_picture_what_was_shown_stays(live):
    stand, slider, picture, _ = live
    before = slider.options, picture.value
    assert stand.give({"a.png": b"text"}).startswith("a.png: no picture")
    assert stand.give({}).startswith("no picture: no file was given")
    assert "1 (1 .txt)" in stand.give({"mine/notes.txt": b"text"})
    assert (slider.options, picture.value) == before


def test_what_comes_too_late_is_ignored(live, model):
    stand, slider, *_ = live
    stand.tell({"batch": "old", "offer": [{"name": "old.png", "size": 5000}]})
    stand.asked.clear()
    stand.tell({"batch": "1", "offer": [{"name": "a.png", "size": len(FILES["png"])}]})
    stand.tell({"batch": "old"}, [b"old"])
    stand.asked.clear()
    stand.tell({"batch": "1"}, [FILES["png"]])
    assert [one.score for _, one in slider.options] == [judge(model, "a", FILES["png"]).score]


def test_a_model_that_lost_its_threshold_is_told_in_the_widget(live, model):
    stand, slider, *_ = live
    before, threshold = slider.options, model.image_threshold.clone()
    model.image_threshold.fill_(torch.inf)
    try:
        assert "never calibrated" in stand.give({"a.png": FILES["png"]})
    finally:
        model.image_threshold.copy_(threshold)
    assert slider.options == before


def test_a_fault_of_ours_is_named_and_the_next_picture_is_judged(live, monkeypatch):
    stand, slider, *_ = live
    with monkeypatch.context() as broken:
        broken.setattr(module, "find_regions", None)
        assert "TypeError" in stand.give({"a.png": FILES["png"]})
    stand.give({"b.png": FILES["png"]})
    assert [one.name for _, one in slider.options] == ["b.png"]


def test_limits_are_kept_and_said(live):
    many = [Offer(number, f"mine/{number:03}.png", 9) for number in range(PICTURES + 5)]
    taken, notes = choose(many)
    assert taken == many[:PICTURES] and f"5 pictures after the first {PICTURES}" in notes[0]
    large = Offer(0, "large.png", 1_000_001 * MEGABYTES)
    assert choose([large])[0] == [] and f"at most {MEGABYTES} MB" in choose([large])[1][0]
    rules = live[0].drop.rules
    assert all(str(limit) in rules for limit in (PICTURES, MEGABYTES, MEGAPIXELS))


def test_a_file_given_by_itself_is_tried_whatever_its_name():
    taken, notes = choose([Offer(0, "picture", 9), Offer(1, "mine/picture", 9)])
    assert [one.number for one in taken] == [0] and "1 no suffix" in notes[0]


@pytest.mark.parametrize(
    ("name", "is_taken"),
    [
        (".a.png", True),  # given by itself, whatever its name
        (".mine/a.png", True),
        ("mine/.a.png", False),
        ("mine/.hidden/a.png", False),
    ],
)
def test_what_is_hidden_in_a_folder_is_left_out_and_nothing_that_was_given(name, is_taken):
    taken, _ = choose([Offer(0, name, 9)])
    assert len(taken) == is_taken
