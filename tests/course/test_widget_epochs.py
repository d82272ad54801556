"""The record of a training, and what the epoch slider and its strips show of it."""

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from fastflow_utils.course import plots
from fastflow_utils.course.widgets import (
    EpochRecord,
    epoch_figure,
    epoch_strip,
    explore_epochs,
    gain_figure,
    length_figure,
    quantile_figure,
)
from fastflow_utils.course.widgets.epochs import EDGES, _gaussian_density, _latents
from fastflow_utils.data.mvtec import MVTecAD
from fastflow_utils.detector.backbones import Backbone
from fastflow_utils.detector.features import Features, extract
from fastflow_utils.detector.flows import FlowOptions
from fastflow_utils.detector.model import FastFlow
from fastflow_utils.detector.training import fit, hold_out

EPOCHS = 3


@pytest.fixture(scope="module")
def setting(tiny, tmp_path_factory) -> tuple[FastFlow, MVTecAD, Features, Features]:
    backbone = Backbone("efficientnet_lite0", pretrained=False, image_size=64)
    train, test = (MVTecAD(tiny, "disc", name, 64) for name in ("train", "test"))
    cache = tmp_path_factory.mktemp("cache")
    features = [extract(backbone, data, cache=cache) for data in (train, test)]
    return FastFlow(backbone, FlowOptions(steps=2)), test, *features


@pytest.fixture(scope="module")
def record(setting) -> EpochRecord:
    model, test, features, test_features = setting
    images, held_out = hold_out(len(features), torch.Generator().manual_seed(0))
    model.train()
    with torch.no_grad():
        model(features[images])
    record = EpochRecord(
        model, test, test_features, training=features[images], held_out=features[held_out]
    )
    record(0)
    fit(model, features, epochs=EPOCHS, after_epoch=record)
    return record


def test_every_epoch_is_kept_and_the_first_is_untrained(record):
    assert len(record) == len(record.maps) == len(record.latents) == EPOCHS + 1
    assert list(record.nll.index) == list(range(EPOCHS + 1))
    assert record.nll["training"].iloc[-1] < record.nll["training"][0]
    assert record.spread().shape == (EPOCHS + 1, 2 * len(record.channels))
    assert set(record.spread().columns.get_level_values(1)) == {"training", "held out"}


def test_one_image_of_each_folder_is_shown(record):
    assert sorted(sample.defect for sample in record.images) == ["blot", "good", "spot"]


def test_the_last_maps_are_the_models(record):
    with torch.no_grad():
        expected = record.model.folded().anomaly_map(record.features)
    torch.testing.assert_close(record.maps[-1], expected, rtol=0, atol=1e-5)


def test_watching_changes_no_result(setting, record):
    model, _, features, _ = setting
    alone = FastFlow(model.backbone, FlowOptions(steps=2)).train()
    images, _ = hold_out(len(features), torch.Generator().manual_seed(0))
    with torch.no_grad():
        alone(features[images])
    fit(alone, features, epochs=EPOCHS)
    for name, value in alone.state_dict().items():
        torch.testing.assert_close(value, model.state_dict()[name], rtol=1e-4, atol=1e-5, msg=name)


def test_an_epoch_out_of_turn_is_refused(record):
    with pytest.raises(ValueError, match=f"epoch 1, expected {EPOCHS + 1}"):
        record(1)


def test_precision_counts_the_hottest_pixels(record, monkeypatch):
    image = next(i for i, sample in enumerate(record.images) if sample.mask.any())
    mask = record.images[image].mask
    maps = [torch.stack([torch.zeros_like(mask).float()] * len(record.shown)) for _ in range(2)]
    maps[0][image] = mask.float()
    maps[1][image] = (~mask).float()
    monkeypatch.setattr(record, "maps", maps)
    assert record.precision(image) == [1.0, 0.0]


def test_gaussian_latents_have_the_gaussians_lengths():
    one = _latents(torch.randn(4, 24, 64, 64))
    expected = _gaussian_density(24)
    assert abs(one.spread - (2 / 24) ** 0.5) < 0.01
    assert np.abs(one.density - expected).max() < 0.1 * expected.max()
    assert abs((one.density * np.diff(EDGES)).sum() - 1) < 1e-3
    assert abs(np.interp(0, one.quantiles, np.linspace(0.005, 0.995, 100)) - 0.5) < 0.02


def drawn(figure: Figure) -> bytes:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return bytes(canvas.buffer_rgba())


def test_each_epoch_image_and_level_draws_its_own_figure(record):
    choices = [(0, 0, 0), (EPOCHS, 0, 0), (0, 1, 0), (0, 0, 1)]
    pictures = {drawn(epoch_figure(record, *choice)) for choice in choices}
    assert len(pictures) == len(choices)


def test_figures_say_what_they_found(record):
    image = next(i for i, sample in enumerate(record.images) if sample.mask.any())
    assert "untrained" in epoch_figure(record, 0, image, 0).get_suptitle()
    good = next(i for i, sample in enumerate(record.images) if not sample.mask.any())
    strip = epoch_strip(record, [image, good])
    names = [axes.get_title() for axes in strip.axes if axes.get_title()]
    shares = record.precision(image)
    assert names == [
        f"{record.images[image].defect}, image {record.shown[image]}",
        *(f"untrained: {shares[0]:.0%}", f"epoch 1: {shares[1]:.0%}"),
        f"epoch {EPOCHS}: {shares[-1]:.0%}",
        *(f"good, image {record.shown[good]}", "untrained", "epoch 1", f"epoch {EPOCHS}"),
    ]
    assert len(length_figure(record, [0, EPOCHS]).axes) == 2 * len(record.channels)
    assert len(quantile_figure(record).axes) == len(record.channels)


def test_titles_have_the_held_out_value_beside_the_training_one(record):
    figures = quantile_figure(record), length_figure(record, [0, EPOCHS]), gain_figure(record)
    for figure in figures:
        assert all(group in figure.get_suptitle() for group in ("training", "held out"))
    spread = record.spread().iloc[-1].groupby(level=1).mean()
    for group in ("training", "held out"):
        assert f"{spread[group]:.2f}" in figures[1].get_suptitle()
        assert f"{record.gains(group).iloc[-1].mean():.2f} {group}" in figures[2].get_suptitle()


def test_gains_are_what_the_loss_has_fallen_by(record):
    for group in ("training", "held out"):
        gains = record.gains(group)
        assert gains.shape == (EPOCHS + 1, len(record.channels))
        assert (gains.iloc[0] == 0).all()
        fallen = record.nll[group][0] - record.nll[group]
        np.testing.assert_allclose(gains.mean(axis=1), fallen.astype(float), atol=1e-5)


def test_a_training_without_an_epoch_still_has_a_strip(record, monkeypatch):
    monkeypatch.setattr(record, "maps", record.maps[:1])
    titles = [axes.get_title() for axes in epoch_strip(record, [0]).axes if axes.get_title()]
    assert len(titles) == 2 and titles[1].startswith("untrained")


def test_the_static_twin_is_the_last_epoch(record):
    assert f"after epoch {EPOCHS}" in explore_epochs(record).get_suptitle()


def test_a_montage_holds_its_pictures():
    axes = Figure().add_axes((0, 0, 1, 1))
    plots.montage(axes, [np.zeros((48, 48, 3)), np.full((48, 48, 3), 0.5)], ["a", "b"])
    row = axes.images[0].get_array()
    assert row.shape == (48, 98, 3) and row[0, 0, 0] == 0 and row[0, -1, 0] == 0.5
    assert [text.get_text() for text in axes.texts] == ["a", "b"]
