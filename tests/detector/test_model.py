"""The model's likelihood is a likelihood, its map a map of the right place, its file all of it."""

import json
import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch import nn

from fastflow_utils.data.mvtec import MVTecAD
from fastflow_utils.detector.backbones import Backbone
from fastflow_utils.detector.detector import Detector, upper_quantile
from fastflow_utils.detector.evaluation import evaluate
from fastflow_utils.detector.features import Features, extract
from fastflow_utils.detector.flows import FlowOptions
from fastflow_utils.detector.maps import NORMAL_LEVEL, image_score
from fastflow_utils.detector.model import FastFlow
from fastflow_utils.detector.prediction import predict
from fastflow_utils.detector.training import fit, hold_out
from fastflow_utils.errors import FastFlowError


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    torch.manual_seed(0)
    return Backbone("efficientnet_lite0", image_size=64)


@pytest.fixture
def model(backbone: Backbone) -> FastFlow:
    """With random weights: an untrained coupling is the identity and would hide mistakes."""
    model = FastFlow(backbone, FlowOptions(steps=2))
    with torch.no_grad():
        for parameter in model.flows.parameters():
            parameter.normal_(std=0.05)
        for flow in model.flows:
            flow.layers[0].matrix += 0.02 * torch.randn_like(flow.layers[0].matrix)
    return model.eval()


def noise(backbone: Backbone, count: int = 2) -> list[torch.Tensor]:
    return [
        torch.randn(count, c, 64 // s, 64 // s)
        for c, s in zip(backbone.channels, backbone.strides, strict=True)
    ]


def test_nll_is_the_change_of_variables_formula(model, backbone):
    features = noise(backbone)
    nll = model.nll(features)
    assert nll.shape == (2, 3)
    for level, (z, log_det) in enumerate(model(features)):
        log_p_z = torch.distributions.Normal(0, 1).log_prob(z).sum((1, 2, 3))
        expected = -(log_p_z + log_det) / z[0].numel()
        torch.testing.assert_close(nll[:, level], expected, rtol=1e-4, atol=1e-4)


def test_identity_flow_of_gaussian_features_costs_the_entropy(backbone):
    nll = FastFlow(backbone, FlowOptions(steps=1)).eval().nll(noise(backbone, 8))
    entropy = torch.tensor(0.5 * math.log(2 * math.pi * math.e))
    torch.testing.assert_close(nll.mean(0), entropy.expand(3), atol=0.02, rtol=0)


def test_scaled_features_cost_the_log_of_the_scale(model, backbone):
    """Counting the log-determinant: z unchanged, nll up by log 10 per dimension.

    This is what a LayerNorm with a trainable scale and no log-determinant gets wrong.
    """
    features = noise(backbone)
    before = model.nll(features)
    with torch.no_grad():
        for flow in model.flows:
            flow.layers[0].matrix /= 10
    after = model.nll([10 * h for h in features])
    torch.testing.assert_close(after, before + math.log(10), rtol=1e-4, atol=1e-4)


def test_map_is_hot_where_the_features_are_odd(model, backbone):
    model.calibrate([noise(backbone, 8)])
    features = noise(backbone, 1)
    for h, stride in zip(features, backbone.strides, strict=True):
        h[..., 48 // stride :, : 16 // stride] += 8  # rows 48 to 63, columns 0 to 15 of the image
    anomaly_map = model.anomaly_map(features)
    assert anomaly_map.shape == (1, 1, 64, 64)
    assert anomaly_map.min() >= 0 and anomaly_map.max() <= 1
    row, column = divmod(int(anomaly_map.argmax()), 64)
    assert row >= 44 and column <= 20


def test_nll_of_an_image_is_the_mean_over_its_positions(model, backbone):
    features = noise(backbone)
    maps = model.nll_maps(features)
    assert [m.shape for m in maps] == [(2, 1, *h.shape[2:]) for h in features]
    means = torch.stack([m.mean((1, 2, 3)) for m in maps], dim=1)
    torch.testing.assert_close(means, model.nll(features))


def test_a_deviation_counts_more_where_normal_images_vary_less(backbone):
    """What the log-determinant of a position is for: z alone would call these two the same."""
    model = FastFlow(backbone, FlowOptions(steps=1, whiten=False)).eval()
    coupling = model.flows[0].layers[0].layers[2]
    with torch.no_grad():  # s = -1 where the first channel of x_a is 0, +1 where it is 1
        coupling.subnet[0].weight.zero_()
        coupling.subnet[0].weight[0, 0, 1, 1] = 1
        coupling.subnet[0].bias.zero_()
        coupling.subnet[2].weight[: coupling.sizes[1], 0, 1, 1] = 2
        coupling.subnet[2].bias[: coupling.sizes[1]] = -1
    x = torch.zeros(1, 24, 1, 2)
    x[:, model.flows[0].layers[0].layers[1].order[0], 0, 1] = 1
    z, _ = model.flows[0](x)
    nll = model.nll_maps([x, torch.zeros(1, 40, 1, 1), torch.zeros(1, 112, 1, 1)])[0]
    energy = 0.5 * z.square().mean(1, keepdim=True)
    certain, uncertain = (nll - energy)[0, 0, 0, [1, 0]]
    assert certain < uncertain, "the density is higher where the flow stretches more"
    s = 2 * math.tanh(1 / 2) / 2  # half of the channels, softly clamped
    torch.testing.assert_close(uncertain - certain, torch.tensor(2 * s))


def calibrated(backbone: Backbone, count: int = 32) -> tuple[FastFlow, list[torch.Tensor]]:
    model = FastFlow(backbone, FlowOptions(steps=1))
    features = noise(backbone, count)
    model.calibrate([[h[:count] for h in features]])
    return model, features


def test_levels_are_calibrated_to_one_scale(backbone):
    model, features = calibrated(backbone)
    for level in (one.detach() for one in model.level_maps(features)):
        assert float(level.median()) == pytest.approx(NORMAL_LEVEL, abs=5e-3)
        for a in (0.25, 0.5):  # a tenth of the positions, a hundredth
            share = float((level >= a).float().mean())
            assert share == pytest.approx(10 ** (-4 * a), abs=1.5 / level.numel())
    scaled = [h * 5 for h in features]  # other units, other flow, the same maps
    other = FastFlow(backbone, FlowOptions(steps=1, whiten=False))
    other.calibrate([scaled])
    for mine, theirs in zip(model.level_maps(features), other.level_maps(scaled), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-4)


def test_calibration_is_by_all_batches(backbone):
    model, other = (
        FastFlow(backbone, FlowOptions(steps=1)),
        FastFlow(backbone, FlowOptions(steps=1)),
    )
    features = noise(backbone, 32)
    for h in features:
        h[16:] *= 3
    model.calibrate([features])
    other.calibrate([[h[:16] for h in features], [h[16:] for h in features]])
    torch.testing.assert_close(other.level_scale, model.level_scale)
    torch.testing.assert_close(other.score_mean, model.score_mean)
    torch.testing.assert_close(other.score_std, model.score_std)
    torch.testing.assert_close(other.pixel_threshold, model.pixel_threshold)


@pytest.mark.parametrize("fpr", [0.05, 0.1, 0.5])
def test_thresholds_keep_to_the_false_positive_rate_that_was_asked_for(backbone, fpr):
    model, features = calibrated(backbone)
    model.calibrate([[h[:10] for h in features], [h[10:] for h in features]], fpr, fpr)
    maps, scores = model.judge(features)
    pixel_fpr = float((maps >= model.pixel_threshold).float().mean())
    image_fpr = float((scores >= model.image_threshold).float().mean())
    assert pixel_fpr <= fpr and pixel_fpr == pytest.approx(fpr, abs=1e-4)
    assert image_fpr <= fpr and image_fpr > fpr - 2 / 32


def test_new_normal_images_exceed_the_threshold_no_more_often_than_asked(backbone):
    """Over many draws of 20 held-out images and one new one: 2 of 21 of the new ones."""
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(4000, 21, generator=generator)
    alarms = [bool(row[20] >= upper_quantile(row[:20], 0.1)) for row in scores]
    assert sum(alarms) / len(alarms) == pytest.approx(2 / 21, abs=0.01)


def test_an_uncalibrated_model_calls_nothing_anomalous(backbone):
    model = FastFlow(backbone, FlowOptions(steps=1))
    assert model.image_threshold == model.pixel_threshold == math.inf
    with pytest.raises(FastFlowError, match="no images to calibrate on"):
        model.calibrate([])


def test_smoothing_keeps_the_mean_and_lowers_the_peak(backbone):
    model, features = calibrated(backbone)
    maps = []
    for model.smoothing in (0, 4):
        maps.append(model.anomaly_map(features).detach())
    rough, smooth = maps
    assert smooth.max() < rough.max() and smooth.std() < rough.std()
    assert float(smooth.mean()) == pytest.approx(float(rough.mean()), abs=0.02)


# The image score


class Given(Detector):
    """Its maps are the features' first channels, each in units of its own."""

    def __init__(self, backbone: Backbone, units: list[tuple[float, float]]) -> None:
        super().__init__(backbone, maps=3, smoothing=1.0, top=0.02)
        self.units = units

    def maps(self, features):
        return [b + a * h[:, :1] for h, (a, b) in zip(features, self.units, strict=True)]


ONE = (1.0, 0.0)


def test_the_score_is_what_all_levels_say_together_and_what_one_says_alone(backbone):
    """By a loop: in standard deviations of the held-out images, in which two count as prior."""
    normal, new = noise(backbone, 20), noise(backbone, 5)
    model = Given(backbone, [ONE] * 3)
    model.calibrate([normal])

    def highest(features: list[torch.Tensor]) -> list[torch.Tensor]:
        maps = [model.anomaly_map(features), *model.maps(features)]
        counts = [max(1, int(0.02 * one[0].numel())) for one in maps]
        pairs = zip(maps, counts, strict=True)
        return [one.flatten(1).topk(k).values.mean(1) for one, k in pairs]

    z = []
    maps = [model.anomaly_map(normal), *model.maps(normal)]
    for t, t_new, one in zip(highest(normal), highest(new), maps, strict=True):
        squares = (t - t.mean()).square().sum() + 2 * (one.std(correction=0) / 5) ** 2
        z.append((t_new - t.mean()) / (squares / (20 - 1 + 2)).sqrt())
    torch.testing.assert_close(model.score(new), z[0] + torch.stack(z[1:]).amax(0))


def test_held_out_images_are_0_on_average_and_differ_by_about_1(backbone):
    model, features = Given(backbone, [ONE] * 3), noise(backbone, 40)
    model.calibrate([features])
    t = model._highest(model.anomaly_map(features), model.maps(features))
    z = (t - model.score_mean) / model.score_std
    torch.testing.assert_close(z.mean(0), torch.zeros(4), atol=1e-4, rtol=0)
    assert (z.std(0) > 0.7).all() and (z.std(0) < 1.1).all()


@pytest.mark.parametrize("unit", [(3.0, -7.0), (1e-3, 5.0), (200.0, 0.0)])
def test_neither_map_nor_score_depends_on_a_levels_units(backbone, unit):
    normal, new, said = noise(backbone, 12), noise(backbone, 4), []
    for units in ([ONE] * 3, [ONE, unit, ONE]):
        model = Given(backbone, units)
        model.calibrate([normal])
        said.append(model.judge(new))
    for one, other in zip(*said, strict=True):
        torch.testing.assert_close(one, other, atol=2e-3, rtol=2e-3)


def test_what_one_level_alone_sees_has_no_bound(backbone):
    """Where the map of the level has been at its highest long since."""
    model, features = Given(backbone, [ONE] * 3), noise(backbone, 12)
    model.calibrate([features])
    scores = []
    for height in (100, 1000, 10_000):
        odd = [h.clone() for h in noise(backbone, 1)]
        odd[2][:, 0, 1, 1] = height
        scores.append(float(model.score(odd)))
    assert scores[0] > 20 and scores[1] > 5 * scores[0] and scores[2] > 5 * scores[1]


@pytest.mark.parametrize("count", [1, 2])
def test_few_held_out_images_give_finite_scores(backbone, count):
    model, new = FastFlow(backbone, FlowOptions(steps=1)), noise(backbone, 4)
    model.calibrate([noise(backbone, count)])
    assert model.score_std.min() > 1e-3
    assert model.score(new).isfinite().all() and model.score(new).abs().max() < 50


@pytest.mark.parametrize(("top", "expected"), [(1.0, 7.5), (0.25, 13.5), (1e-9, 15.0)])
def test_image_score_is_the_mean_of_the_top(top, expected):
    anomaly_map = torch.randperm(16).float().view(1, 1, 4, 4)
    assert image_score(anomaly_map, top).tolist() == [expected]


def test_flows_are_a_function_of_the_seed_alone(backbone):
    before = torch.random.get_rng_state()
    a, b, c = (FastFlow(backbone, FlowOptions(steps=2), seed=seed) for seed in (3, 3, 4))
    assert torch.equal(torch.random.get_rng_state(), before)
    states = [torch.cat([v.flatten().float() for v in m.state_dict().values()]) for m in (a, b, c)]
    assert torch.equal(states[0], states[1]) and not torch.equal(states[0], states[2])


def test_saved_model_is_the_same_bit_for_bit(model, tmp_path):
    image = torch.rand(2, 3, 64, 64)
    expected = model.predict(image)
    model.save(tmp_path / "model", category="disc")
    reloaded = FastFlow.load(tmp_path / "model")
    assert all(torch.equal(a, b) for a, b in zip(reloaded.predict(image), expected, strict=True))
    assert not reloaded.training
    names = sorted(path.name for path in (tmp_path / "model").iterdir())
    assert names == ["config.json", "model.safetensors"]


def test_model_of_a_transformer_reloads(tmp_path):
    vit = Backbone("deit_tiny_patch16_224", pretrained=False, image_size=64)
    model = FastFlow(vit, FlowOptions(steps=1)).eval()
    image = torch.rand(1, 3, 64, 64)
    expected = model.predict(image)
    reloaded = FastFlow.load(model.save(tmp_path))
    assert all(torch.equal(a, b) for a, b in zip(reloaded.predict(image), expected, strict=True))


def test_a_folder_without_a_sound_model_is_named(model, tmp_path):
    with pytest.raises(FastFlowError, match=r"no model in .*config\.json"):
        FastFlow.load(tmp_path)
    folder = model.save(tmp_path / "model")
    weights = (folder / "model.safetensors").read_bytes()
    for name, damage in {"model.safetensors": weights[:1000], "config.json": b"{"}.items():
        model.save(folder)
        (folder / name).write_bytes(damage)
        with pytest.raises(FastFlowError, match="cannot be read"):
            FastFlow.load(folder)
    model.save(folder)
    config = json.loads((folder / "config.json").read_text())
    config["options"]["flow"]["steps"] = 3
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(FastFlowError, match="cannot be read"):
        FastFlow.load(folder)


# Training


def dependent(count: int = 24) -> Features:
    """Features with something to learn: all channels vary strongly where one does."""
    generator = torch.Generator().manual_seed(0)
    levels = []
    size = 16  # fewer positions would say too little about 112 channels
    for channels in (24, 40, 112):
        shared = torch.randn(count, 1, size, size, generator=generator)
        own = torch.randn(count, channels, size, size, generator=generator)
        levels.append(own * (0.7 * shared).exp())
    return Features(levels)


def test_models_built_at_the_same_time_are_those_built_in_turn(backbone):
    """All threads share one generator of random numbers, which each model seeds."""
    seeds = list(range(8))

    def weights(seed: int) -> torch.Tensor:
        model = FastFlow(backbone, FlowOptions(steps=2), seed=seed)
        return torch.cat([parameter.flatten() for parameter in model.flows.parameters()])

    in_turn = list(map(weights, seeds))
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(weights, seeds))
    assert all(map(torch.equal, in_turn, together))


def test_training_raises_the_likelihood_and_touches_only_the_flows(backbone):
    model = FastFlow(backbone, FlowOptions(steps=2))
    features = dependent()
    frozen = {k: v.clone() for k, v in backbone.state_dict().items()}
    history = fit(model, features, epochs=3)
    assert history["nll"].is_monotonic_decreasing and list(history["epoch"]) == [1, 2, 3]
    assert history["held_out_nll"].iloc[-1] < history["held_out_nll"].iloc[0] - 0.02
    assert model.image_threshold.isfinite() and model.pixel_threshold.isfinite()
    assert not model.training
    assert all(torch.equal(v, frozen[k]) for k, v in backbone.state_dict().items())
    assert all(parameter.grad is None for parameter in backbone.parameters())


def test_training_twice_gives_the_same_bits(backbone):
    runs = []
    for _ in range(2):
        model = FastFlow(backbone, FlowOptions(steps=1))
        fit(model, dependent(), epochs=1, batch_size=7, seed=5)
        runs.append(torch.cat([p.flatten() for p in model.flows.parameters()]))
    assert torch.equal(*runs)


def test_another_seed_is_another_order(backbone):
    losses = [
        fit(
            FastFlow(backbone, FlowOptions(steps=1)),
            dependent(),
            epochs=1,
            batch_size=7,
            seed=seed,
        )["nll"][0]
        for seed in (0, 1)
    ]
    assert losses[0] != losses[1]


def test_a_loss_that_is_not_finite_stops_with_a_reason(backbone):
    with pytest.raises(FastFlowError, match="training diverged"):
        fit(FastFlow(backbone, FlowOptions(steps=1)), dependent(), learning_rate=1e30)


def test_held_out_images_have_no_part_in_training(backbone):
    """Make the held-out images absurd: the flows are the same, only the thresholds differ."""
    _, held_out = hold_out(24, torch.Generator().manual_seed(5))
    absurd = dependent()
    for level in absurd.levels:
        level[held_out] = 100 * torch.randn_like(level[held_out])
    states = []
    for features in (dependent(), absurd):
        model = FastFlow(backbone, FlowOptions(steps=1))
        fit(model, features, epochs=1, batch_size=7, seed=5)
        states.append((torch.cat([p.flatten() for p in model.flows.parameters()]), model))
    assert torch.equal(states[0][0], states[1][0])
    assert (states[0][1].level_scale < states[1][1].level_scale).all()


def test_one_image_is_too_few(backbone):
    with pytest.raises(FastFlowError, match="1 normal images: expected at least two"):
        fit(FastFlow(backbone, FlowOptions(steps=1)), dependent(1))


@pytest.mark.parametrize("options", [{"epochs": 0}, {"batch_size": 0}])
def test_an_empty_budget_is_named(backbone, options):
    with pytest.raises(FastFlowError, match="at least 1"):
        fit(FastFlow(backbone, FlowOptions(steps=1)), dependent(), **options)


@pytest.mark.parametrize("batches", range(1, 23))
def test_any_number_of_batches_has_a_schedule(backbone, batches):
    """torch's one-cycle schedule divides by zero where the warm-up is of a single batch."""
    features = Features([torch.randn(2, c, 2, 2) for c in backbone.channels])
    history = fit(FastFlow(backbone, FlowOptions(steps=1)), features, epochs=batches)
    rates = history["learning_rate"]
    assert (rates > 0).all() or batches < 3
    assert rates.max() <= 3e-3 and len(history) == batches


def test_it_can_be_watched_while_it_learns(backbone):
    model, seen = FastFlow(backbone, FlowOptions(steps=1)), []

    def look(epoch: int) -> None:
        assert not model.training
        with torch.no_grad():
            seen.append((epoch, model.nll(dependent()[:]).mean().item()))

    history = fit(model, dependent(), epochs=3, after_epoch=look)
    assert [epoch for epoch, _ in seen] == [1, 2, 3]
    assert seen[2][1] < seen[0][1], "it learns on after each look"
    unwatched = fit(FastFlow(backbone, FlowOptions(steps=1)), dependent(), epochs=3)
    assert history["nll"].equals(unwatched["nll"]), "and learns the same"


def press_at(call: int, monkeypatch) -> None:
    """Raise KeyboardInterrupt in the loop, before the weights change for the ``call``-th time."""
    clip, calls = torch.nn.utils.clip_grad_norm_, []

    def press(*arguments, **options):
        calls.append(1)
        if len(calls) == call:
            raise KeyboardInterrupt
        return clip(*arguments, **options)

    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", press)


@pytest.mark.parametrize("call", [1, 5])  # three batches make an epoch
def test_ctrl_c_is_raised_again_and_leaves_a_usable_model(backbone, monkeypatch, call):
    """It was swallowed: an ablation counted the half-trained model as trained, and went on."""
    model = FastFlow(backbone, FlowOptions(steps=1))
    press_at(call, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        fit(model, dependent(), epochs=9, batch_size=8)
    assert model.image_threshold.isfinite(), "calibrated with what it has"
    anomaly_map, score = model.predict(torch.rand(1, 3, 64, 64))
    assert not model.training and anomaly_map.isfinite().all() and score.isfinite().all()


def test_a_trained_model_is_trained_further(backbone):
    """It starts where it was: no second initialisation, and no step back."""
    model = FastFlow(backbone, FlowOptions(steps=2))
    first = fit(model, dependent(), epochs=3)
    whitening = model.flows[0].layers[0].matrix.clone()
    second = fit(model, dependent(), epochs=3)
    assert torch.equal(model.flows[0].layers[0].matrix, whitening)
    assert second["nll"][0] < first["nll"][0] - 0.05
    assert second["nll"].iloc[-1] < first["nll"].iloc[-1]


def test_only_the_training_split_is_trained_on(backbone, tiny):
    with pytest.raises(FastFlowError, match="test split"):
        fit(FastFlow(backbone), MVTecAD(tiny, "disc", "test", 64))


def test_a_data_set_is_as_good_as_its_features(backbone, tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("FASTFLOW_CACHE", str(tmp_path))
    train, test = (MVTecAD(tiny, "disc", split, 64) for split in ("train", "test"))
    results = []
    for given in ((train, None), (extract(backbone, train), extract(backbone, test))):
        model = FastFlow(backbone, FlowOptions(steps=1))
        fit(model, given[0], epochs=1)
        results.append(evaluate(model, test, given[1]).scores)
    assert torch.equal(*results)


def test_features_of_another_number_of_images_are_refused(backbone, tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("FASTFLOW_CACHE", str(tmp_path))
    test = MVTecAD(tiny, "disc", "test", 64)
    with pytest.raises(FastFlowError, match="features of 6 images for a data set of 10"):
        evaluate(FastFlow(backbone), test, extract(backbone, MVTecAD(tiny, "disc", "train", 64)))


# What a model is made with


@pytest.mark.parametrize("seed", [-1, 99999999999999999999, 1.5, True])
def test_a_seed_that_no_generator_takes_is_named(backbone, seed):
    with pytest.raises(FastFlowError, match="seed"):
        FastFlow(backbone, seed=seed)
    with pytest.raises(FastFlowError, match="seed"):
        fit(FastFlow(backbone), dependent(), seed=seed)


@pytest.mark.parametrize("smoothing", [21.5, -1, math.nan, math.inf])
def test_a_blur_wider_than_the_image_is_named_when_the_model_is_made(backbone, smoothing):
    """kornia mirrors the map at its border and cannot mirror more of it than there is."""
    with pytest.raises(FastFlowError, match=r"smoothing=.*expected 0 to 21"):
        FastFlow(backbone, smoothing=smoothing)
    widest = FastFlow(backbone, FlowOptions(steps=0), smoothing=21.0)
    assert widest.anomaly_map(noise(backbone)).isfinite().all()


def test_the_callers_random_numbers_are_left_alone_on_every_device(backbone, monkeypatch):
    """torch.manual_seed seeds the GPUs too, which fork_rng(devices=[]) does not give back."""
    monkeypatch.setattr(torch.cuda, "manual_seed_all", lambda seed: pytest.fail("GPUs reseeded"))
    before = torch.random.get_rng_state()
    FastFlow(backbone, FlowOptions(steps=1), seed=7)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_subnet_of_ones_own_learns_and_evaluates_but_cannot_be_saved(backbone, tmp_path):
    def subnet(inputs: int, hidden: int, outputs: int, kernel_size: int) -> nn.Module:
        return nn.Sequential(nn.Conv2d(inputs, outputs, 1), nn.Tanh())

    model = FastFlow(backbone, FlowOptions(steps=2), subnet=subnet)
    with pytest.warns(UserWarning, match="cannot fold the subnet"):
        history = fit(model, dependent(), epochs=2)
    assert history["nll"].is_monotonic_decreasing
    with pytest.raises(FastFlowError, match="subnet of its own"):
        model.save(tmp_path / "model")
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("format", [6, 9, "7", None])
def test_the_format_of_a_saved_model_is_checked(model, tmp_path, format):
    folder = model.save(tmp_path)
    config = json.loads((folder / "config.json").read_text()) | {"format": format}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(FastFlowError, match=r"has format .*: this version reads 8"):
        FastFlow.load(folder)


def test_calibration_refuses_what_is_not_finite(model, backbone):
    with pytest.raises(FastFlowError, match="not finite"):
        model.calibrate([[torch.full_like(h, math.nan) for h in noise(backbone)]])


# What a review found: each was accepted, or lost a training, without a word


@pytest.fixture
def of_another(tiny, tmp_path, monkeypatch) -> Features:
    """Features of the tiny training split by an untrained network of the same shape."""
    monkeypatch.setenv("FASTFLOW_CACHE", str(tmp_path / "cache"))
    untrained = Backbone("efficientnet_lite0", image_size=64, pretrained=False)
    return extract(untrained, MVTecAD(tiny, "disc", "train", 64))


def test_features_of_another_network_are_refused_wherever_they_enter(backbone, of_another, tiny):
    model = FastFlow(backbone, FlowOptions(steps=1))
    for use in (
        lambda: fit(model, of_another),
        lambda: evaluate(model, MVTecAD(tiny, "disc", "train", 64), of_another),
        lambda: model.calibrate(of_another),
    ):
        with pytest.raises(FastFlowError, match="these features are of the backbone"):
            use()


def test_features_of_other_images_are_refused(backbone, tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("FASTFLOW_CACHE", str(tmp_path))
    test = MVTecAD(tiny, "disc", "test", 64)
    features = extract(backbone, test)
    test.paths.reverse()  # the same number of images, in another order
    with pytest.raises(FastFlowError, match="of other images"):
        evaluate(FastFlow(backbone, FlowOptions(steps=1)), test, features)


def test_ctrl_c_while_the_thresholds_are_set_keeps_the_training(backbone, monkeypatch):
    model, calibrate, calls = FastFlow(backbone, FlowOptions(steps=1)), FastFlow.calibrate_by, []

    def press(self, *arguments):
        calls.append(1)
        if len(calls) == 1:
            raise KeyboardInterrupt
        calibrate(self, *arguments)

    monkeypatch.setattr(FastFlow, "calibrate_by", press)
    with pytest.raises(KeyboardInterrupt):
        fit(model, dependent(), epochs=1)
    assert model.image_threshold.isfinite()


def test_ctrl_c_is_raised_again_even_where_nothing_can_be_calibrated(backbone):
    model = FastFlow(backbone, FlowOptions(steps=1))

    def spoil(epoch: int) -> None:
        next(model.flows.parameters()).data.fill_(math.nan)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), pytest.warns(UserWarning, match="not calibrated"):
        fit(model, dependent(), epochs=2, after_epoch=spoil)


def test_thresholds_of_an_earlier_training_are_forgotten(backbone):
    model, seen = FastFlow(backbone, FlowOptions(steps=1)), []
    fit(model, dependent(), epochs=1)
    fit(model, dependent(), epochs=1, after_epoch=lambda _: seen.append(model.image_threshold + 0))
    assert seen == [math.inf] and model.image_threshold.isfinite()


@pytest.mark.parametrize(
    ("positions", "expected"),
    [(None, (4, 4, 4)), (256, (1, 4, 4)), (128, (1, 2, 4)), (1, (1, 1, 1))],
)
def test_a_level_learns_from_no_more_positions_than_asked(
    backbone, monkeypatch, positions, expected
):
    """Of a batch of 4: maps of 16, 8 and 4 rows and columns, and one image at the least."""
    model, seen = FastFlow(backbone, FlowOptions(steps=1)), [set[int]() for _ in expected]
    whole = model.nll_map

    def watched(level, h):
        if torch.is_grad_enabled():
            seen[level].add(len(h))
        return whole(level, h)

    monkeypatch.setattr(model, "nll_map", watched)
    sides = zip(dependent(5).levels, (16, 8, 4), strict=True)
    features = Features([h[..., :side, :side] for h, side in sides])
    fit(model, features, epochs=1, batch_size=4, positions=positions)
    assert seen == [{count} for count in expected]


@pytest.mark.parametrize(
    "options",
    [
        *({"image_fpr": 0}, {"pixel_fpr": 1}, {"weight_decay": -1}),
        *({"epochs": 1.5}, {"batch_size": 2.0}, {"learning_rate": math.nan}),
        *({"positions": 0}, {"positions": 1.5}),
    ],
)
def test_what_would_end_a_training_is_named_before_it(backbone, options):
    model = FastFlow(backbone, FlowOptions(steps=1))
    before = [parameter.clone() for parameter in model.flows.parameters()]
    with pytest.raises(FastFlowError, match=next(iter(options))):
        fit(model, dependent(), **options)
    assert all(map(torch.equal, before, model.flows.parameters()))


def test_data_that_cannot_be_trained_on_is_named(backbone):
    model = FastFlow(backbone, FlowOptions(steps=1))
    wrong = {
        "not finite": Features([torch.full((4, c, 2, 2), math.nan) for c in backbone.channels]),
        "channels": Features([torch.rand(4, 3, 2, 2)] * 3),
        "list": [torch.rand(4, 3, 2, 2)],
    }
    for named, data in wrong.items():
        with pytest.raises(FastFlowError, match=named):
            fit(model, data)
    with pytest.raises(FastFlowError, match="no steps"):
        fit(FastFlow(backbone, FlowOptions(steps=0)), dependent())
    with pytest.raises(FastFlowError, match=r"levels of \[2, 3\] images"):
        Features([torch.rand(2, 3, 2, 2), torch.rand(3, 3, 2, 2)])


def test_a_precision_is_resolved_or_refused_when_the_model_is_made(backbone):
    assert FastFlow(backbone, precision="auto").precision in ("float32", "bfloat16")
    with pytest.raises(FastFlowError, match="float16"):
        FastFlow(backbone, precision="float16")


def test_a_note_that_json_cannot_hold_leaves_an_older_model_whole(model, tmp_path):
    folder = model.save(tmp_path / "model")
    before = (folder / "model.safetensors").stat().st_mtime_ns
    with pytest.raises(FastFlowError, match="what JSON can hold"):
        model.save(folder, when=object())
    assert (folder / "model.safetensors").stat().st_mtime_ns == before


def test_an_uncalibrated_model_says_so(backbone, tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("FASTFLOW_CACHE", str(tmp_path / "cache"))
    model, test = FastFlow(backbone, FlowOptions(steps=1)), MVTecAD(tiny, "disc", "test", 64)
    assert "never calibrated" in evaluate(model, test).notes()[0]
    with pytest.raises(FastFlowError, match="never calibrated"):
        predict(model, [Path(test.paths[0])], tmp_path / "seen")
