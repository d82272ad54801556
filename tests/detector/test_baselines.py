"""Each baseline is what its paper says, by a plain loop; all keep one contract."""

import json
import math
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.decomposition import PCA
from torch import Tensor

from fastflow_utils.data.mvtec import MVTecAD
from fastflow_utils.detector.backbones import Backbone
from fastflow_utils.detector.baselines.gaussian import Gaussian
from fastflow_utils.detector.baselines.padim import PaDiM
from fastflow_utils.detector.baselines.patchcore import PatchCore, coreset
from fastflow_utils.detector.baselines.subspace import Subspace
from fastflow_utils.detector.choices import METHODS
from fastflow_utils.detector.detector import Detector, hold_out, method_class
from fastflow_utils.detector.evaluation import evaluate
from fastflow_utils.detector.features import Features, extract
from fastflow_utils.detector.flows import FlowOptions
from fastflow_utils.detector.model import FastFlow
from fastflow_utils.errors import FastFlowError

BASELINES = [name for name in METHODS if name != "fastflow"]


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return Backbone("efficientnet_lite0", image_size=64)


def normal(backbone: Backbone, count: int = 12, seed: int = 0) -> Features:
    """Features whose channels depend on each other, and vary in few directions only."""
    generator = torch.Generator().manual_seed(seed)
    levels = []
    for channels, side in zip(backbone.channels, backbone.sizes, strict=True):
        mix = torch.randn(channels, channels, generator=torch.Generator().manual_seed(channels))
        mix = mix * torch.linspace(1, 0, channels)[None] ** 3
        noise = torch.randn(count, channels, side, side, generator=generator)
        levels.append(torch.einsum("dc,bchw->bdhw", mix, noise) + mix[:, :1, None])
    return Features(levels)


@pytest.fixture(params=BASELINES)
def make(request: pytest.FixtureRequest, backbone: Backbone) -> Callable[[], Detector]:
    return lambda: method_class(request.param)(backbone)


# Each is what its source says


def test_gaussian_is_the_normal_density_of_each_position(backbone):
    features, model = normal(backbone), Gaussian(backbone)
    model.learn(features)
    new = normal(backbone, 2, seed=1)[:]
    for h, learnt, found in zip(new, features.levels, model.maps(new), strict=True):
        x = learnt.transpose(0, 1).flatten(1).double()
        covariance = x.cov(correction=0)
        covariance += 0.01 * covariance.diagonal().mean() * torch.eye(len(x))
        density = torch.distributions.MultivariateNormal(x.mean(1), covariance)
        expected = -density.log_prob(h.double().movedim(1, -1)) / len(x)
        torch.testing.assert_close(found[:, 0], expected.float(), rtol=1e-4, atol=1e-4)


def test_gaussian_is_a_flow_without_steps(backbone):
    features = normal(backbone)
    gaussian, flow = Gaussian(backbone), FastFlow(backbone, FlowOptions(steps=0))
    gaussian.learn(features)
    flow.train()(features[:])  # whitening takes its moments from what it sees
    new = normal(backbone, 2, seed=1)[:]
    for ours, theirs in zip(gaussian.maps(new), flow.eval().maps(new), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_padim_is_the_distance_of_the_paper_position_by_position(backbone):
    features, model = normal(backbone), PaDiM(backbone, channels=20)
    model.learn(features, seed=3)
    new = normal(backbone, 2, seed=1)
    (found,) = model.maps(new[:])
    chosen = model.chosen.numpy()
    assert len(set(chosen)) == 20 and chosen.max() > 64, "of all levels"

    def at(levels: list[Tensor], row: int, column: int) -> np.ndarray:
        parts = []
        for h in levels:
            step = 16 // h.shape[2]
            parts.append(h[:, :, row // step, column // step].double().numpy())
        return np.concatenate(parts, axis=1)[:, chosen]

    for row in range(16):
        for column in range(16):
            x = at(features[:], row, column)
            mean = x.mean(axis=0)
            covariance = sum(np.outer(v - mean, v - mean) for v in x) / (len(x) - 1)
            inverse = np.linalg.inv(covariance + 0.01 * np.eye(20))
            for image, v in enumerate(at(new[:], row, column)):
                expected = math.sqrt((v - mean) @ inverse @ (v - mean))
                assert float(found[image, 0, row, column]) == pytest.approx(expected, rel=1e-4)


def test_subspace_is_the_error_of_sklearns_reconstruction(backbone):
    features, model = normal(backbone), Subspace(backbone)
    model.learn(features)
    new = normal(backbone, 2, seed=1)[:]
    for h, learnt, found in zip(new, features.levels, model.maps(new), strict=True):
        pca = PCA(0.99, svd_solver="full").fit(learnt.movedim(1, -1).flatten(0, 2).double())
        assert 1 < pca.n_components_ < learnt.shape[1]
        x = h.movedim(1, -1).flatten(0, 2).double().numpy()
        error = np.square(x - pca.inverse_transform(pca.transform(x))).sum(axis=1)
        np.testing.assert_allclose(found.flatten(), error, rtol=1e-3, atol=1e-5)


def test_subspace_leaves_a_direction_even_where_all_vary_alike(backbone):
    model = Subspace(backbone)
    model.learn(Features([torch.randn(4, c, 8, 8) for c in backbone.channels]))
    assert all(torch.linalg.matrix_rank(level.residual) > 0 for level in model.levels)


@pytest.mark.parametrize("first", [0, 7])
def test_a_coreset_is_the_greedy_one(first):
    x = torch.randn(60, 5)
    picks = [first]
    while len(picks) < 20:
        apart = [min(float((v - x[pick]).norm()) for pick in picks) for v in x]
        picks.append(int(np.argmax(apart)))
    assert coreset(x, 20, first).tolist() == picks


def test_a_coreset_of_equal_rows_takes_each_once():
    assert sorted(coreset(torch.ones(6, 3), 6, 2).tolist()) == list(range(6))


def patches_of(levels: list[Tensor]) -> Tensor:
    """3x3 means, the zeros beyond the border among them; the coarser level interpolated."""
    means = []
    for h in levels[-2:]:
        padded = F.pad(h, (1, 1, 1, 1))
        height, width = h.shape[2:]
        shifts = [padded[:, :, i : i + height, j : j + width] for i in range(3) for j in range(3)]
        means.append(torch.stack(shifts).mean(0))
    coarse = F.interpolate(means[1], means[0].shape[2:], mode="bilinear", align_corners=False)
    return torch.cat([means[0], coarse], dim=1)


def test_patchcore_remembers_patches_and_scores_by_equation_7(backbone):
    features, model = normal(backbone), PatchCore(backbone, share=0.05)
    model.learn(features, seed=3)
    remembered = {tuple(row) for row in model.bank.round(decimals=3).tolist()}
    seen = patches_of(features[:]).movedim(1, -1).flatten(0, 2)
    assert remembered <= {tuple(row) for row in seen.round(decimals=3).tolist()}
    assert len(remembered) == round(0.05 * 12 * 64)

    new = normal(backbone, 3, seed=1)
    (found,), (_, scores) = model.maps(new[:]), model.judge(new[:])
    bank = model.bank.double()
    for image, x in enumerate(patches_of(new[:]).double().flatten(2).mT):
        distances = [[float((v - m).norm()) for m in bank] for v in x]
        d = [min(row) for row in distances]
        np.testing.assert_allclose(found[image].flatten(), d, rtol=1e-3, atol=1e-3)
        farthest = int(np.argmax(d))
        nearest = int(np.argmin(distances[farthest]))
        around = np.argsort([float((bank[nearest] - m).norm()) for m in bank])[:9]
        total = sum(math.exp(distances[farthest][place]) for place in around)
        expected = (1 - math.exp(d[farthest]) / total) * d[farthest]
        assert float(scores[image]) == pytest.approx(expected, rel=1e-3)


def test_the_coreset_is_of_projected_patches_and_the_bank_of_whole_ones(backbone):
    model = PatchCore(backbone, share=0.01)
    model.learn(normal(backbone), seed=0)
    assert model.bank.shape == (8, 152)


def test_the_distances_are_the_same_in_pieces(backbone, monkeypatch):
    model, new = PatchCore(backbone, share=0.05), normal(backbone, 3, seed=1)[:]
    model.learn(normal(backbone))
    whole = model.judge(new)
    monkeypatch.setattr("fastflow_utils.detector.baselines.patchcore.AT_ONCE", 100)
    for ours, theirs in zip(model.judge(new), whole, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)


def test_a_bank_of_one_patch_still_tells_near_from_far(backbone):
    model = PatchCore(backbone, share=1e-9)
    model.learn(normal(backbone))
    near, far = normal(backbone, 1, seed=1), [h + 9 for h in normal(backbone, 1, seed=1)[:]]
    assert len(model.bank) == 1 and 0 < model.judge(near[:])[1] < model.judge(far)[1]


# The contract of all


def test_higher_is_more_anomalous(make, backbone):
    model = make()
    model.fit(normal(backbone))
    usual, odd = normal(backbone, 2, seed=1)[:], normal(backbone, 2, seed=1)[:]
    for h, stride in zip(odd, backbone.strides, strict=True):
        h[..., 48 // stride :, : 16 // stride] += 8 * torch.randn(h.shape[1], 1, 1)
    (_, low), (maps, high) = model.judge(usual), model.judge(odd)
    assert (high > low).all() and (high >= model.image_threshold).all()
    assert maps.shape == (2, 1, 64, 64) and maps.min() >= 0 and maps.max() <= 1
    for image in maps[:, 0]:
        row, column = divmod(int(image.argmax()), 64)
        assert row >= 40 and column <= 24


def test_the_same_seed_is_the_same_model(make, backbone):
    new = normal(backbone, 2, seed=1)[:]
    models = [make() for _ in range(2)]
    before = torch.random.get_rng_state()
    for model in models:
        model.fit(normal(backbone), seed=5)
    assert torch.equal(torch.random.get_rng_state(), before), "the caller's is left alone"
    for ours, theirs in zip(*(model.judge(new) for model in models), strict=True):
        assert torch.equal(ours, theirs)


def test_maps_of_a_batch_are_those_of_its_images(make, backbone):
    model, new = make(), normal(backbone, 5, seed=1)
    model.fit(normal(backbone))
    maps, scores = model.judge(new[:])
    for image in range(5):
        one, score = model.judge(new[[image]])
        torch.testing.assert_close(one[0], maps[image], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(score[0], scores[image], rtol=1e-4, atol=1e-4)


def test_a_saved_model_is_the_same_bit_for_bit(make, backbone, tmp_path):
    model, pictures = make(), torch.rand(2, 3, 64, 64)
    model.fit(normal(backbone))
    loaded = Detector.load(model.save(tmp_path / "model", note="x"))
    assert type(loaded) is type(model) and not loaded.training
    assert all(map(torch.equal, model.predict(pictures), loaded.predict(pictures)))
    assert loaded.image_threshold == model.image_threshold
    assert type(model).load(tmp_path / "model").settings() == model.settings()
    with pytest.raises(FastFlowError, match=f"is a {type(model).__name__}, no FastFlow"):
        FastFlow.load(tmp_path / "model")


def test_options_are_kept(backbone, tmp_path):
    for model in (
        PaDiM(backbone, channels=7, smoothing=2.0),
        PatchCore(backbone, share=0.5, neighbours=3),
        Subspace(backbone, share=0.5, top=0.2),
    ):
        loaded = Detector.load(model.save(tmp_path / model.method))
        assert loaded.settings() == model.settings()
        assert (loaded.smoothing, loaded.top) == (model.smoothing, model.top)


def test_a_damaged_file_is_told_in_one_line(make, backbone, tmp_path):
    model = make()
    model.fit(normal(backbone))
    folder = model.save(tmp_path)
    config, weights = (folder / name for name in ("config.json", "model.safetensors"))
    kept, whole = config.read_text(), weights.read_bytes()
    changes = {"method": "padm", "options": {"colour": 1}, "backbone": {"name": "resnt"}}
    for name, value in changes.items():
        config.write_text(json.dumps(json.loads(kept) | {name: value}))
        with pytest.raises(FastFlowError, match="cannot be read"):
            Detector.load(folder)
    config.write_text(json.dumps(json.loads(kept) | {"format": 5}))
    with pytest.raises(FastFlowError, match="format 5: this version reads 8"):
        Detector.load(folder)
    config.write_text(kept)
    weights.write_bytes(whole[:1000])
    with pytest.raises(FastFlowError, match="cannot be read"):
        Detector.load(folder)
    FastFlow(backbone, FlowOptions(steps=1)).save(tmp_path / "other")
    weights.write_bytes((tmp_path / "other" / "model.safetensors").read_bytes())
    with pytest.raises(FastFlowError, match="cannot be read"):
        Detector.load(folder)


def test_nan_in_a_model_is_told(make, backbone):
    model = make()
    model.fit(normal(backbone))
    for name, tensor in model.named_buffers():
        if not name.startswith("backbone") and tensor.is_floating_point():
            tensor.fill_(math.nan)
    with pytest.raises(FastFlowError, match="expected finite"):
        model.predict(torch.rand(1, 3, 64, 64))


def test_held_out_images_have_no_part_in_what_is_learnt(make, backbone):
    """They are those that FastFlow holds out with this seed."""
    _, held_out = hold_out(12, torch.Generator().manual_seed(5))
    absurd = normal(backbone)
    for level in absurd.levels:
        level[held_out] = 100 * torch.randn_like(level[held_out])
    models = [make() for _ in range(2)]
    for model, features in zip(models, (normal(backbone), absurd), strict=True):
        model.fit(features, seed=5)
    assert (models[0].level_scale < models[1].level_scale).all()
    new = normal(backbone, 1, seed=1)[:]
    assert all(map(torch.equal, models[0].maps(new), models[1].maps(new)))


def test_what_cannot_be_learnt_from_is_named(make, backbone, tiny):
    model = make()
    nan = Features([torch.full((4, c, 2, 2), math.nan) for c in backbone.channels])
    wrong = {
        "not finite": nan,
        "channels": Features([torch.rand(4, 3, 2, 2)] * 3),
        "test split": MVTecAD(tiny, "disc", "test", 64),
        "at least two": normal(backbone, 1),
        "list": [torch.rand(4, 3, 2, 2)],
    }
    for named, data in wrong.items():
        with pytest.raises(FastFlowError, match=named):
            model.fit(data)
    with pytest.raises(FastFlowError, match="image_fpr=0"):
        model.fit(normal(backbone), image_fpr=0)
    with pytest.raises(FastFlowError, match="seed -1"):
        model.fit(normal(backbone), seed=-1)
    with pytest.raises(FastFlowError, match="2 feature maps: expected 3"):
        model.maps(normal(backbone)[:][1:])


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        *((PaDiM, {"channels": 0}), (PaDiM, {"channels": 1.5}), (Subspace, {"share": 1})),
        *((PatchCore, {"share": 0}), (PatchCore, {"neighbours": 1}), (Gaussian, {"top": 0})),
    ],
)
def test_an_option_out_of_range_is_named(backbone, kind, options):
    with pytest.raises(FastFlowError, match=next(iter(options))):
        kind(backbone, **options)


def test_patchcore_without_patches_says_so(backbone, tmp_path):
    for model in (PatchCore(backbone), Detector.load(PatchCore(backbone).save(tmp_path))):
        with pytest.raises(FastFlowError, match="fit it to normal images"):
            model.predict(torch.rand(1, 3, 64, 64))


@pytest.mark.parametrize("count", [2, 3])
def test_two_images_are_enough(make, backbone, count):
    model = make()
    model.fit(normal(backbone, count))
    assert model.image_threshold.isfinite()
    maps, scores = model.judge(normal(backbone, 2, seed=1)[:])
    assert maps.isfinite().all() and scores.isfinite().all()


def test_constant_features_are_no_reason_to_stop(make, backbone):
    """A black border is the same in every image."""
    features = normal(backbone)
    for level in features.levels:
        level[..., 0] = 1
        level[:, 0] = 0
    model = make()
    model.fit(features)
    maps, scores = model.judge(normal(backbone, 2, seed=1)[:])
    assert maps.isfinite().all() and scores.isfinite().all()


def test_a_level_alone_is_enough(make):
    """A transformer has one map."""
    model = method_class(make().method)(Backbone(image_size=64, layers=[2]))
    model.fit(normal(model.backbone))
    assert model.predict(torch.rand(1, 3, 64, 64))[1].isfinite().all()


@pytest.mark.parametrize("method", METHODS)
def test_fit_is_one_interface(method, backbone):
    model = method_class(method)(backbone)
    history = model.fit(normal(backbone), seed=1, image_fpr=0.2, pixel_fpr=0.01)
    assert (history is not None) == (method == "fastflow")
    assert model.image_threshold.isfinite() and not model.training
    assert model.method == method


@pytest.mark.parametrize("method", METHODS)
def test_learning_is_one_thing_and_calibration_another(method, backbone):
    """For cross-fitting: learn from some images, calibrate on whichever others."""
    model = method_class(method)(backbone)
    model.fit(normal(backbone), seed=1)
    model.learn(normal(backbone), seed=1)
    fresh = method_class(method)(backbone)
    fresh.learn(normal(backbone), seed=1)
    assert fresh.image_threshold == fresh.pixel_threshold == math.inf
    new = normal(backbone, 4, seed=1)
    if method != "fastflow":  # which would be trained further
        assert all(map(torch.equal, model.maps(new[:]), fresh.maps(new[:])))
    fresh.calibrate(new, 0.2, 0.01)
    assert fresh.image_threshold.isfinite()
    maps, scores = fresh.for_inference().judge(new[:])
    assert float((scores >= fresh.image_threshold).float().mean()) <= 0.2
    assert float((maps >= fresh.pixel_threshold).float().mean()) <= 0.01


# Far from normal


def test_defects_make_no_ties_of_scores(make, tiny: Path, tmp_path, monkeypatch):
    """A bright square is hundreds of standard deviations from normal."""
    monkeypatch.setenv("FASTFLOW_CACHE", str(tmp_path))
    model = make()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "calibrated on a single image")
        model.fit(MVTecAD(tiny, "disc", "train", 64))
    test = MVTecAD(tiny, "disc", "test", 64)
    features = extract(model.backbone, test)
    found = evaluate(model, test, features)
    assert max(one.max() for one in model.level_maps(features[:])) == 1, "as far as a map tells"
    assert len(found.scores.unique()) == len(test), "and the scores go on"
    assert found.metrics()["image_auroc"] == 1
