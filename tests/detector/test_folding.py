"""The fast path says what the readable flow says, and is never older than the flow."""

import pytest
import torch
from torch import Tensor, nn

from fastflow_utils.compute import convolution_dtype
from fastflow_utils.detector.backbones import Backbone
from fastflow_utils.detector.features import Features
from fastflow_utils.detector.flows import Flow
from fastflow_utils.detector.folding import Fused
from fastflow_utils.detector.model import FastFlow
from fastflow_utils.detector.training import fit
from fastflow_utils.errors import FastFlowError

CPU = torch.device("cpu")


@torch.no_grad()
def randomised(flow: nn.Module, spread: float = 0.1) -> nn.Module:
    """As if trained: every layer does something, and the clamp is felt."""
    for parameter in flow.parameters():
        parameter += spread * torch.randn_like(parameter)
    for name, buffer in flow.named_buffers():
        if name.endswith(("mean", "matrix")):
            buffer += 0.05 * torch.randn_like(buffer)
    return flow.eval()


@pytest.mark.parametrize("kernels", ["3x3", "3-1", "1x1"])
@pytest.mark.parametrize("whiten", [True, False])
@pytest.mark.parametrize(
    ("channels", "shape"), [(7, (3, 9, 5)), (24, (5, 16, 16)), (2, (1, 1, 1))]
)
def test_equals_the_plain_flow(kernels, whiten, channels, shape):
    torch.manual_seed(0)
    flow = randomised(Flow(channels, 4, kernels, hidden_ratio=1.5, clamp=1.3, whiten=whiten))
    batch, height, width = shape
    x = 2 * torch.randn(batch, channels, height, width) + 1
    for dtype in (torch.float32, torch.float64):
        flow, x = flow.to(dtype), x.to(dtype)
        with torch.no_grad():
            expected = flow.local(x)
        accuracy = 5e-5 if dtype == torch.float32 else 1e-12
        for found, wanted in zip(Fused(flow, dtype).local(x), expected, strict=True):
            assert found.shape == wanted.shape and found.dtype == dtype
            largest = float(wanted.abs().max())
            torch.testing.assert_close(found, wanted, rtol=0, atol=accuracy * largest)


def test_extreme_log_scales_do_not_overflow():
    flow = randomised(Flow(6, steps=3))
    with torch.no_grad():
        for step in flow.layers:
            step.layers[2].subnet[2].weight.mul_(1e4)
        expected = flow.local(x := torch.randn(2, 6, 8, 8))
    for found, wanted in zip(Fused(flow).local(x), expected, strict=True):
        assert found.isfinite().all()
        torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-3)


@pytest.fixture
def trained() -> tuple[FastFlow, list[Tensor]]:
    """Trained on anything, and other features of the same kind to judge."""
    torch.manual_seed(0)
    backbone = Backbone("efficientnet_lite0", image_size=64)
    features = [h + h.roll(1, 1) for h in backbone(torch.rand(40, 3, 64, 64))]
    model = FastFlow(backbone, steps=4, kernels="3x3")
    fit(model, Features([h[:24] for h in features]), epochs=4)
    return model, [h[24:] for h in features]


def plain_maps(model: FastFlow, features: list[Tensor]) -> Tensor:
    with torch.enable_grad():  # the plain layers, by which the course teaches
        return model.anomaly_map(features).detach()


def test_maps_and_ranking_are_the_plain_flows(trained, monkeypatch):
    model, features = trained
    monkeypatch.setenv("FASTFLOW_PRECISION", "float32")
    with torch.no_grad():
        fast = model.anomaly_map(features)
    plain = plain_maps(model, features)
    assert ((fast - plain).abs() / plain).max() < 1e-4
    assert not torch.equal(fast, plain), "the fast path was not taken"
    assert torch.equal(model.score(fast).argsort(), model.score(plain).argsort())


def test_bfloat16_moves_maps_less_than_noise(trained, monkeypatch):
    model, features = trained
    monkeypatch.setenv("FASTFLOW_PRECISION", "bfloat16")
    with torch.no_grad():
        fast = model.anomaly_map(features)
    plain = plain_maps(model, features)
    assert (fast - plain).abs().max() < 0.05 * plain.std() + 0.01
    assert torch.corrcoef(torch.stack([model.score(fast), model.score(plain)]))[0, 1] > 0.99


@torch.no_grad()
def change_in_place(model: FastFlow) -> None:
    for parameter in model.flows.parameters():
        parameter.mul_(1.1)


def train_on(model: FastFlow) -> None:
    """With a fused optimizer, which changes parameters behind autograd's back."""
    model.train()
    optimizer = torch.optim.AdamW(model.flows.parameters(), lr=0.05, fused=True)
    model.nll([torch.randn(2, c, 4, 4) for c in model.backbone.channels]).mean().backward()
    optimizer.step()
    model.eval()


def load_another(model: FastFlow) -> None:
    other = FastFlow(model.backbone, **model.options)
    randomised(other.flows)
    model.flows.load_state_dict(other.flows.state_dict())


@pytest.mark.parametrize("change", [change_in_place, train_on, load_another])
def test_a_changed_flow_is_folded_anew(trained, change, monkeypatch):
    model, features = trained
    monkeypatch.setenv("FASTFLOW_PRECISION", "float32")
    with torch.no_grad():
        before = model.nll(features)
    change(model)
    with torch.no_grad():
        after = model.nll(features)
    assert not torch.allclose(before, after)
    torch.testing.assert_close(after, model.nll(features).detach(), rtol=1e-4, atol=1e-4)


def test_the_precision_can_be_chosen(monkeypatch):
    for name in ("float32", "bfloat16"):
        monkeypatch.setenv("FASTFLOW_PRECISION", name)
        assert convolution_dtype(CPU) == getattr(torch, name)
    monkeypatch.setenv("FASTFLOW_PRECISION", "int8")
    with pytest.raises(FastFlowError, match="expected auto, float32 or bfloat16"):
        convolution_dtype(CPU)


def test_levels_that_learn_side_by_side_learn_the_same(monkeypatch):
    """Threads change when a level learns, not what: the bits are those of one after the other."""
    states = []
    threads = torch.get_num_threads()
    for count in (1, 3):
        try:
            torch.set_num_threads(count)
            torch.manual_seed(0)
            model = FastFlow(Backbone("efficientnet_lite0", image_size=64), steps=2)
            features = Features([torch.randn(12, c, 8, 8) for c in model.backbone.channels])
            fit(model, features, epochs=2, seed=1)
            assert torch.get_num_threads() == count, "given back as it was"
        finally:
            torch.set_num_threads(threads)
        states.append(torch.cat([p.detach().flatten() for p in model.flows.parameters()]))
    assert torch.equal(*states)
