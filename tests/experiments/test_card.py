"""A model's card says what is true of the model, in numbers and in words, and no path."""

from dataclasses import replace
from pathlib import Path

import pytest

from fastflow_utils.detector.intervals import promised
from fastflow_utils.experiments.card import CardFacts, card, weights_text, write_card

FACTS = CardFacts(
    category="gear",
    folder="/srv/anna/pictures of gears",
    layout="folders",
    pictures=60,
    sizes={(3000, 4000): 50, (1500, 2000): 10},
    depth="pictures of 8 bits, divided by 255",
    digest="0123abcd",
    image_size=(768, 1024),
    window=256,
    region="",
    method="fastflow",
    backbone="efficientnet_lite0",
    weights=weights_text("efficientnet_lite0"),
    stride=4,
    image_threshold=3.21,
    pixel_threshold=0.98,
    image_fpr=0.1,
    pixel_fpr=0.001,
    calibration=60,
    cross_fitted=True,
    versions={"torch": "2.15.0"},
)


def said(**changes: object) -> str:
    """The card without its line breaks."""
    return " ".join(card(replace(FACTS, **changes)).split())


def test_a_card_says_what_was_seen_and_names_no_path(tmp_path: Path):
    write_card(FACTS, tmp_path / "card.md")
    text = (tmp_path / "card.md").read_text()
    for fact in (
        *("60 good pictures of gear", "the folder pictures of gears", "0123abcd", "8 bits"),
        *("50 of 3000 x 4000 px", "10 of 1500 x 2000 px", "768 x 1024 px", "windows of 256 px"),
        *("fastflow", "efficientnet_lite0", "Apache-2.0", "torch 2.15.0", "3.21", "0.98"),
    ):
        assert fact in text, fact
    assert "anna" not in text and "anna" not in said(folder="C:\\users\\anna\\gears")
    assert text.count("\n    fastflow ") == 3


@pytest.mark.parametrize("n", [1, 5, 20, 60])
def test_the_promise_is_that_of_so_many_pictures(n: int):
    text = said(calibration=n)
    for rate in promised(n, 0.1):
        assert f"{rate:.1%}" in text
    assert ("little to set a threshold by" in text) == (n < 30)
    assert ("their highest score" in text) == (n < 9)


def test_a_model_that_was_never_calibrated_promises_nothing():
    text = said(calibration=0, image_threshold=float("inf"))
    assert "never calibrated" in text and "Expected" not in text


def test_the_smallest_defect_is_in_pixels_of_the_largest_file():
    assert "smaller than about 15.6 pixels of the file" in said()  # 4 * 4000 / 1024
    assert "smaller than about 4 pixels of the file" in said(sizes={(768, 1024): 60})
    assert "smaller than about 2 pixels of the file" in said(sizes={(384, 512): 60})


def test_squeezing_is_said_and_counted():
    assert "nothing is squeezed" in said()
    assert "60 of 60 are squeezed" in said(image_size=256, window=None)
    assert "10 of 60 are squeezed" in said(sizes={(3000, 4000): 50, (2000, 2000): 10})
    assert "nothing is squeezed" in said(sizes={(3000, 4002): 60})  # rounding


def test_what_is_outside_of_the_region_is_missed():
    text = said(region="the rectangle 10,20,300,200")
    assert "looked for: the rectangle 10,20,300,200" in text
    assert "What lies outside of: the rectangle" in text and "lies outside" not in said()


def test_many_sizes_are_counted_and_names_break_no_markdown():
    text = said(sizes={(100, 100 + n): 1 for n in range(60)}, category="a|b <i>")
    assert "57 of 57 other sizes" in text and "a&#124;b &lt;i>" in text


def test_a_licence_is_said_only_where_it_is_known(tmp_path: Path):
    assert "not known" in weights_text("efficientnet_lite0", tmp_path / "own.pth")
    assert str(tmp_path) not in weights_text("resnet18", tmp_path / "own.pth")
    assert "look up their licence" in weights_text("resnet18")
