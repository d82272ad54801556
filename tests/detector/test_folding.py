"""The inference form says what the readable flow says, or is refused, and is its own."""

import math

import pytest
import torch
from torch import Tensor, nn

from fastflow_utils.compute import dtype_of, resolve_precision
from fastflow_utils.detector import folding
from fastflow_utils.detector.backbones import Backbone
from fastflow_utils.detector.features import Features
from fastflow_utils.detector.flows import (
    ActNorm,
    AffineCoupling,
    Flow,
    FlowOptions,
    PositionNorm,
    conv_subnet,
)
from fastflow_utils.detector.folding import FoldedFlow, NotFoldableError
from fastflow_utils.detector.model import FastFlow
from fastflow_utils.detector.training import fit
from fastflow_utils.errors import FastFlowError


@torch.no_grad()
def randomised(flow: nn.Module, spread: float = 0.1) -> nn.Module:
    """As if trained: every layer does something, and the clamp is felt."""
    for parameter in flow.parameters():
        parameter += spread * torch.randn_like(parameter)
    for name, buffer in flow.named_buffers():
        if name.endswith(("mean", "matrix")):
            buffer += 0.05 * torch.randn_like(buffer)
    return flow.eval()


def assert_same(flow: Flow, x: Tensor, accuracy: float = 5e-5) -> None:
    with torch.no_grad():
        expected = flow.local(x)
    for found, wanted in zip(FoldedFlow(flow).local(x), expected, strict=True):
        assert found.shape == wanted.shape and found.dtype == x.dtype
        largest = max(1.0, float(wanted.abs().max()))
        torch.testing.assert_close(found, wanted, rtol=0, atol=accuracy * largest)


@pytest.mark.parametrize("kernels", ["3x3", "3-1", "1x1"])
@pytest.mark.parametrize("whiten", [True, False])
@pytest.mark.parametrize(
    ("channels", "shape"), [(7, (3, 9, 5)), (24, (5, 16, 16)), (2, (1, 1, 1))]
)
def test_equals_the_plain_flow(kernels, whiten, channels, shape):
    options = FlowOptions(4, kernels, hidden_ratio=1.5, clamp=1.3, whiten=whiten)
    flow = randomised(Flow(channels, options))
    batch, height, width = shape
    x = 2 * torch.randn(batch, channels, height, width) + 1
    assert_same(flow, x)
    assert_same(flow.double(), x.double(), accuracy=1e-12)


@pytest.mark.parametrize("whiten", [True, False])
@pytest.mark.parametrize("steps", [0, 3])
def test_equals_the_plain_flow_that_knows_positions(whiten, steps):
    options, size = FlowOptions(steps, whiten=whiten, position=True), (5, 4)
    flow = Flow(6, options, size=size)
    flow(3 * torch.randn(9, 6, *size) + torch.randn(6, *size))
    x = torch.randn(3, 6, *size)
    assert_same(randomised(flow), x)
    assert_same(flow.double(), x.double(), accuracy=1e-12)


def test_positions_after_another_layer_are_refused_by_name():
    flow = Flow(6, FlowOptions(steps=1))
    flow.layers.insert(1, PositionNorm(6, (4, 4)))
    with pytest.raises(NotFoldableError, match="PositionNorm at the start"):
        FoldedFlow(flow.eval())


@pytest.mark.parametrize("whiten", [True, False])
def test_a_flow_without_steps_is_folded(whiten):
    """An AssertionError before: the last linear layers had no coupling to go into."""
    assert_same(randomised(Flow(5, FlowOptions(steps=0, whiten=whiten))), torch.randn(2, 5, 3, 4))


def test_linear_layers_after_the_last_coupling_are_folded():
    flow = Flow(6, FlowOptions(steps=2))
    flow.layers.append(ActNorm(6))
    assert_same(randomised(flow), torch.randn(2, 6, 5, 5))


@pytest.mark.parametrize("clamp", [0.1, 2.0, 50.0, 90.0, 100.0])
def test_any_clamp_is_finite(clamp):
    """exp(-clamp) is 0 in float32 from 104 on, and exp(2 clamp) infinite from 45 on."""
    flow = randomised(Flow(6, FlowOptions(steps=3, clamp=clamp)))
    # The sigmoid's last digit is multiplied by the clamp.
    assert_same(flow, torch.randn(2, 6, 8, 8), accuracy=5e-5 + 1e-6 * clamp)


def test_extreme_log_scales_do_not_overflow():
    flow = randomised(Flow(6, FlowOptions(steps=3)))
    with torch.no_grad():
        for step in flow.layers[1:]:
            step.layers[2].subnet[2].weight.mul_(1e2)
    assert_same(flow, torch.randn(2, 6, 8, 8), accuracy=1e-3)


# What cannot be folded ---------------------------------------------------------------------------


def gelu_subnet(inputs: int, hidden: int, outputs: int, kernel_size: int) -> nn.Module:
    first, _, last = conv_subnet(inputs, hidden, outputs, kernel_size)
    return nn.Sequential(first, nn.GELU(), last)


def reflecting_subnet(inputs: int, hidden: int, outputs: int, kernel_size: int) -> nn.Module:
    subnet = conv_subnet(inputs, hidden, outputs, kernel_size)
    subnet[0].padding_mode = "reflect"
    return subnet


@pytest.mark.parametrize(
    ("subnet", "named"), [(gelu_subnet, "GELU"), (reflecting_subnet, "conv_subnet")]
)
def test_a_subnet_of_another_kind_is_refused_by_name(subnet, named):
    """Layers 0 and 2 were read and a ReLU taken for granted: wrong without a word."""
    flow = randomised(Flow(6, FlowOptions(steps=2), subnet=subnet))
    with pytest.raises(NotFoldableError, match=named):
        FoldedFlow(flow)


def test_a_layer_of_another_kind_is_refused_by_name():
    class Doubled(AffineCoupling):
        def local(self, x: Tensor) -> tuple[Tensor, Tensor]:
            z, shares = super().local(x)
            return 2 * z, shares + x.shape[1] * math.log(2)

    flow = Flow(6, FlowOptions(steps=1))
    flow.layers[1].layers[2] = Doubled(6)
    with pytest.raises(NotFoldableError, match="Doubled"):
        FoldedFlow(flow.eval())


def test_a_folded_flow_that_differs_is_refused(monkeypatch):
    """A mistake in the folding itself: the permutation forgotten."""
    then = folding._then

    def forgetful(layer, matrix, offset):
        if type(layer).__name__ == "Permutation":
            return matrix.clone(), offset, matrix.new_zeros(())
        return then(layer, matrix, offset)

    monkeypatch.setattr(folding, "_then", forgetful)
    with pytest.raises(NotFoldableError, match="differs by"):
        FoldedFlow(randomised(Flow(8, FlowOptions(steps=2))))


def test_a_flow_that_gives_nan_is_refused():
    flow = randomised(Flow(4, FlowOptions(steps=2)))
    with torch.no_grad():
        flow.layers[1].layers[2].subnet[2].bias.fill_(math.nan)
    with pytest.raises(NotFoldableError, match="differs by nan"):
        FoldedFlow(flow)


def test_folding_changes_nothing_of_a_fresh_flow():
    """In training mode, a fresh flow would take the comparison's noise for its first batch."""
    flow = Flow(4, FlowOptions(steps=2)).train()
    before = {name: value.clone() for name, value in flow.state_dict().items()}
    FoldedFlow(flow)
    assert flow.training
    assert all(torch.equal(value, before[name]) for name, value in flow.state_dict().items())


def test_the_inference_form_has_no_inverse():
    folded = FoldedFlow(Flow(4, FlowOptions(steps=1)))
    with pytest.raises(FastFlowError, match="use the flow itself"):
        folded.sample((1, 4, 2, 2))


# In a model --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return Backbone("efficientnet_lite0", image_size=64)


@pytest.fixture(params=["float32", "bfloat16"])
def trained(request, backbone) -> tuple[FastFlow, list[Tensor]]:
    """Trained on anything, and other features of the same kind to judge."""
    torch.manual_seed(0)
    features = [h + h.roll(1, 1) for h in backbone(torch.rand(40, 3, 64, 64))]
    model = FastFlow(backbone, FlowOptions(steps=4, kernels="3x3"), precision=request.param)
    fit(model, Features([h[:24] for h in features]), epochs=2)
    return model, [h[24:] for h in features]


@torch.no_grad()
def test_maps_and_ranking_are_the_plain_flows(trained):
    model, features = trained
    detector = model.folded()
    folded, plain = detector.anomaly_map(features), model.anomaly_map(features)
    scores = torch.stack([detector.score(features), model.score(features)])
    if model.precision == "float32":
        assert ((folded - plain).abs() / plain).max() < 1e-4
        assert torch.equal(*scores.argsort())
    else:
        assert (folded - plain).abs().max() < 0.05 * plain.std() + 0.01
        assert torch.corrcoef(scores)[0, 1] > 0.99


def scale_data(model: FastFlow) -> None:
    """Through ``.data``, which autograd does not count."""
    for parameter in model.flows.parameters():
        parameter.data *= 1.1


def train_on(model: FastFlow) -> None:
    """With a fused optimizer, which changes parameters behind autograd's back."""
    optimizer = torch.optim.AdamW(model.flows.parameters(), lr=0.05, fused=True)
    model.nll([torch.randn(2, c, 4, 4) for c in model.backbone.channels]).mean().backward()
    optimizer.step()


def load_another(model: FastFlow) -> None:
    other = FastFlow(model.backbone, model.options)
    randomised(other.flows)
    model.flows.load_state_dict(other.flows.state_dict())


@pytest.mark.parametrize("change", [scale_data, train_on, load_another])
def test_an_inference_form_is_its_own_and_the_next_one_is_new(trained, change):
    """Whether autograd was on, and what it counts, decided before which flow was computed."""
    model, features = trained
    detector = model.folded()
    with torch.no_grad():
        before, plain_before = detector.nll(features), model.nll(features)
    change(model)
    with torch.no_grad():
        plain = model.nll(features)
        assert torch.equal(detector.nll(features), before), "a change of the model reached it"
        assert not torch.allclose(plain, plain_before, rtol=1e-3)
        if model.precision == "float32":
            torch.testing.assert_close(model.folded().nll(features), plain, rtol=1e-4, atol=1e-4)
    assert torch.equal(model.nll(features).detach(), plain), "one path, with gradients or without"


def test_a_model_that_cannot_be_folded_says_so_and_computes_all_the_same(backbone):
    model = FastFlow(backbone, FlowOptions(steps=1), subnet=gelu_subnet)
    with pytest.raises(NotFoldableError, match="GELU"):
        model.folded()
    with pytest.warns(UserWarning, match="unfolded flow.*GELU"):
        anomaly_map, _ = model.predict(torch.rand(1, 3, 64, 64))
    assert anomaly_map.isfinite().all()


def test_the_inference_form_can_be_exported(backbone):
    """The hidden fast path could be exported with gradients switched on only."""
    detector = FastFlow(backbone, FlowOptions(steps=2), precision="float32").folded()
    features = tuple(torch.randn(1, c, 8, 8) for c in backbone.channels)
    with torch.no_grad():
        exported = torch.export.export(detector.flows[0], (features[0],))
        for found, wanted in zip(
            exported.module()(features[0]), detector.flows[0](features[0]), strict=True
        ):
            torch.testing.assert_close(found, wanted)


# Precision ---------------------------------------------------------------------------------------


def test_the_precision_can_be_chosen(monkeypatch):
    for name in ("float32", "bfloat16"):
        monkeypatch.setenv("FASTFLOW_PRECISION", name)
        assert resolve_precision() == name and dtype_of(name) == getattr(torch, name)
    assert resolve_precision("float32") == "float32", "what is asked for goes before the variable"
    monkeypatch.setenv("FASTFLOW_PRECISION", "int8")
    with pytest.raises(FastFlowError, match="expected auto, float32 or bfloat16"):
        resolve_precision()


def test_the_precision_is_kept_with_the_model(backbone, tmp_path, monkeypatch):
    """Thresholds hold for the number format that they were set in."""
    model = FastFlow(backbone, FlowOptions(steps=1), precision="bfloat16")
    monkeypatch.setenv("FASTFLOW_PRECISION", "float32")
    assert FastFlow.load(model.save(tmp_path)).folded().precision == "bfloat16"
    assert model.folded().flows[0].steps[0].subnet["s"].weight.dtype == torch.bfloat16


def test_levels_that_learn_in_threads_learn_the_same(backbone):
    """Threads change when a level learns, not what: the bits are those of one after the other."""
    states = []
    threads = torch.get_num_threads()
    for count in (1, 3):
        try:
            torch.set_num_threads(count)
            torch.manual_seed(0)
            model = FastFlow(backbone, FlowOptions(steps=2))
            features = Features([torch.randn(12, c, 8, 8) for c in model.backbone.channels])
            fit(model, features, epochs=2, seed=1)
            assert torch.get_num_threads() == count, "given back as it was"
        finally:
            torch.set_num_threads(threads)
        states.append(torch.cat([p.detach().flatten() for p in model.flows.parameters()]))
    assert torch.equal(*states)
