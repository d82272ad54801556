"""The per-layer explorers: their static twins, and what goes along to the page."""

import importlib
from copy import deepcopy
from typing import Any, cast

import pytest
import torch
from matplotlib.figure import Figure

from fastflow_utils.course.live import LiveFigure
from fastflow_utils.course.plots import seen
from fastflow_utils.course.widgets import (
    explore_features,
    explore_latents,
    feature_figure,
    latent_figure,
)
from fastflow_utils.data.mvtec import MVTecAD
from fastflow_utils.detector.backbones import Backbone
from fastflow_utils.detector.features import cosine_similarity, extract, pca_colours
from fastflow_utils.detector.flows import FlowOptions
from fastflow_utils.detector.model import FastFlow
from fastflow_utils.detector.training import fit
from fastflow_utils.errors import FastFlowError

module = importlib.import_module("fastflow_utils.course.widgets.feature_maps")


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return Backbone("efficientnet_lite0", pretrained=False, image_size=64)


@pytest.fixture(scope="module")
def test_split(tiny) -> MVTecAD:
    return MVTecAD(tiny, "disc", "test", 64)


@pytest.fixture(scope="module")
def model(tiny, tmp_path_factory) -> FastFlow:
    backbone = Backbone("efficientnet_lite0", pretrained=False, image_size=64)
    model = FastFlow(backbone, FlowOptions(steps=2, position=True))
    cache = tmp_path_factory.mktemp("cache")
    train = extract(backbone, MVTecAD(tiny, "disc", "train", 64), cache=cache)
    fit(model, train, epochs=1)
    return model


def data_of(figure: Figure | None) -> dict[str, Any]:
    data: dict[str, Any] = cast(Any, figure).live_data()
    return data


def test_the_ring_shows_on_any_colour():
    figure = feature_figure(torch.rand(3, 64, 64), torch.rand(8, 16, 16), 0.5, 0.5, channel=3)
    for axes in figure.axes:
        for ring in axes.patches:
            (rim,) = ring.get_path_effects()
            assert ring.get_edgecolor() == (1, 1, 1, 1) and rim._gc["foreground"] == "black"
            assert rim._gc["linewidth"] > ring.get_linewidth()


@pytest.mark.parametrize("side", [4, 16, 64])
def test_the_ring_lies_outside_of_its_position(side):
    figure = feature_figure(torch.rand(3, 64, 64), torch.rand(8, side, side), 0.5, 0.5, channel=3)
    figure.draw_without_rendering()
    for axes in figure.axes[:4]:
        (ring,) = axes.patches
        cells = axes.images[0].get_array().shape[1] / side  # pixels of the picture a position
        (left, _), (right, _) = axes.transData.transform([(0, 0), (1, 0)])
        point = figure.dpi / 72
        inner = ring.radius * (right - left) - 2.5 * point  # half of the rim's width
        assert inner > 0.5**0.5 * cells * (right - left), "its corners show"


def test_each_heat_map_has_a_colour_bar_with_its_own_range():
    h = torch.rand(8, 16, 16) * torch.arange(1, 9)[:, None, None]
    figure = feature_figure(torch.rand(3, 64, 64), h, 0.5, 0.5, channel=3)
    bars = {axes.get_xlabel(): axes.get_xlim() for axes in figure.axes if not axes.images}
    assert bars.pop("feature") == pytest.approx((h[3].min().item(), h[3].max().item()))
    assert list(bars.values()) == [(0, 1)]


def test_the_title_counts_what_resembles_the_ring():
    h = torch.zeros(3, 4, 4)
    h[0], h[1, :2] = 0.1, 1  # the upper half is unlike the lower
    figure = feature_figure(torch.rand(3, 16, 16), h, 1.0, 0.0, channel=0, heading="a disc")
    assert figure.get_suptitle().startswith("a disc\n8 of 16 positions resemble")


def test_colours_are_taken_as_given(monkeypatch):
    h = torch.rand(8, 16, 16)
    given = 1 - pca_colours(h)
    monkeypatch.setattr(module, "pca_colours", None)
    figure = feature_figure(torch.rand(3, 64, 64), h, 0.5, 0.5, channel=0, colours=given)
    shown = torch.as_tensor(figure.axes[2].images[0].get_array())
    assert torch.equal(shown, given.permute(1, 2, 0))


def test_choices_are_two_images_of_each_folder_a_defect_first_and_a_good_one_second(
    backbone, test_split
):
    images = data_of(explore_features(backbone, test_split))["images"]
    expected = ["blot 000", "good 000", "spot 000", "blot 001", "good 001", "spot 001"]
    assert [one["name"] for one in images] == expected


def test_each_backbone_is_a_choice_with_its_levels(backbone, test_split):
    other = Backbone("efficientnet_lite0", pretrained=False, image_size=64, layers=[1, 3])
    data = data_of(explore_features({"three levels": backbone, "two": other}, test_split))
    assert data["views"]["labels"] == ["three levels", "two"]
    names = [[level["name"] for level in view] for view in data["images"][0]["views"]]
    assert names[0] == ["stride 4", "stride 8", "stride 16"]
    assert names[1] == [f"stride {stride}" for stride in other.strides]


def test_it_starts_on_a_defect(backbone, test_split):
    first, good, *_ = data_of(explore_features(backbone, test_split))["images"]
    sample = test_split[test_split.labels.index(1)]
    row, column = (int(64 * place) for place in first["start"])
    assert sample.mask[0, row, column]
    assert good["start"] == (0.5, 0.5)


def test_a_page_takes_as_many_images_as_it_may_and_jupyterlab_all(
    backbone, test_split, monkeypatch
):
    monkeypatch.setattr(module, "PAGE_BYTES", 25_000)
    in_page = data_of(explore_features(backbone, test_split))
    assert 1 <= len(in_page["images"]) < 6 and "JupyterLab has all" in in_page["note"]
    attach = importlib.import_module("fastflow_utils.course.live.attach")
    shown: list[LiveFigure] = []
    for where in (module, attach):
        monkeypatch.setattr(where, "is_live", lambda: True)
    monkeypatch.setattr(attach, "display", shown.append)
    assert explore_features(backbone, test_split) is None
    assert len(shown[0].data["images"]) == 6 and shown[0].data["note"] == ""


def test_a_split_without_defects_starts_in_the_middle(backbone, tiny):
    figure = explore_features(backbone, MVTecAD(tiny, "disc", "train", 64))
    assert figure is not None
    (ring,) = figure.axes[0].patches
    assert "good 000" in figure.get_suptitle()
    assert torch.tensor(ring.center).sub(32).abs().max() < 64 / 4 / 2 + 1


@pytest.mark.parametrize("explore", [explore_features, explore_latents])
def test_pictures_that_are_turned_first_are_refused(explore, model, test_split):
    turning = FastFlow(model.backbone.turning(True), FlowOptions(steps=1))
    given = turning if explore is explore_latents else turning.backbone
    with pytest.raises(FastFlowError, match="upright"):
        explore(given, test_split)


def test_latents_maps_and_shares_are_the_models(model, test_split):
    index = test_split.labels.index(0)
    data = data_of(explore_latents(model, test_split, first=index))
    one = data["images"][0]
    assert one["name"] == "good 000" and len({image["name"] for image in data["images"]}) == 6
    features = model.backbone(test_split[index].image[None])
    with torch.no_grad():
        truth = [model.folded().nll_maps(features), model.folded().level_maps(features)]
        latents = [flow(h)[0] for flow, h in zip(model.flows, features, strict=True)]
    for kind, maps in zip(one["maps"], truth, strict=True):
        for packed, level in zip(kind, maps, strict=True):
            assert packed["low"] == pytest.approx(level.min().item(), abs=1e-4)
            high = packed["low"] + 255 * packed["step"]
            assert high == pytest.approx(level.max().item(), abs=1e-4)
    lengths = [z.norm(dim=1).max().log().item() for z in latents]
    for level, length in zip(one["views"][2], lengths, strict=True):
        assert level["low"][-1] + 255 * level["step"][-1] == pytest.approx(length, abs=1e-3)
    sizes = [[level["size"] for level in view] for view in one["views"]]
    assert sizes == 3 * [[[16, 16], [8, 8], [4, 4]]]


def test_the_latent_figure_says_what_each_level_adds_at_the_ring(model, test_split):
    sample = test_split[test_split.labels.index(1)]
    figure = latent_figure(model.folded(), sample, 0.5, 0.5, "disc, spot")
    titles = [axes.get_title() for axes in figure.axes if axes.images]
    assert len(titles) == 8 and titles[0] == "image"
    shares = [int(title.split(", ")[1].split("%")[0]) for title in titles[5:]]
    assert 98 <= sum(shares) <= 102
    labels = [axes.get_xlabel() for axes in figure.axes if not axes.images]
    assert labels == 3 * ["nll, nats per dimension"] + 4 * ["map (black: 0.5 or less)"]
    assert 100 < len(seen(figure)) <= 300


def test_the_still_figure_counts_at_the_place_where_the_page_begins(backbone, test_split):
    figure = cast(Figure, explore_features(backbone, test_split))
    first = data_of(figure)["images"][0]
    h = backbone(test_split[test_split.labels.index(1)].image[None])[-1][0]
    row, column = (int(place * len(h[0])) for place in first["start"])
    count = (cosine_similarity(h, row, column) > 0.5).sum()
    assert f"{count} of {h[0].numel()} positions" in figure.get_suptitle()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA here")
def test_a_backbone_may_compute_on_a_gpu(backbone, test_split):
    here = data_of(explore_features(backbone, test_split))
    there = data_of(explore_features(deepcopy(backbone).to("cuda"), test_split))
    assert [one["name"] for one in there["images"]] == [one["name"] for one in here["images"]]
