"""Why nothing that learns may stand before the flow uncounted: the loss would have no floor.

Published code has a LayerNorm there and trains its scale gamma, but leaves log|gamma| out of the
loss. Shrinking gamma then costs nothing, and stretching what it shrank is rewarded, for ever.
Shown on real features: the default backbone's ImageNet weights look at the sample set.
"""

import math

import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from fastflow_utils.data.sample_set import render
from fastflow_utils.detector.backbones import Backbone
from fastflow_utils.detector.flows import ActNorm, Flow, FlowOptions
from fastflow_utils.detector.model import FastFlow


@pytest.fixture(scope="module")
def features() -> Tensor:
    """Return the stride-16 features of 32 good carpets, (32, 112, 8, 8)."""
    images = [torch.from_numpy(render("carpet", size=128, seed=seed)[0]) for seed in range(32)]
    return Backbone(layers=(3,), image_size=128)(torch.stack(images).movedim(3, 1) / 255)[0]


class TrainedLayerNorm(nn.Module):
    """LayerNorm with a trained affine map, as published code has it; or with its log-det."""

    def __init__(self, h: Tensor, counted: bool) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(h.shape[1:])
        self.counted = counted

    def scale(self) -> Tensor:
        return self.norm.weight.abs()

    def forward(self, h: Tensor) -> tuple[Tensor, Tensor]:
        log_det = self.scale().log().sum() if self.counted else torch.zeros(())
        return self.norm(h), log_det.expand(len(h))


class TrainedActNorm(ActNorm):
    """Ours: a trained scale too, for each channel, and counted."""

    def scale(self) -> Tensor:
        return self.log_scale.exp()


def energy_and_loss(front: nn.Module, flow: Flow, h: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean z^2, and the mean of what is called nll, in nats per dimension."""
    y, front_log_det = front(h)
    z, log_det = flow(y)
    energy = z.square().mean()
    log_dets = (front_log_det + log_det).mean() / h[0].numel()
    return energy, 0.5 * energy + 0.5 * math.log(2 * math.pi) - log_dets


def train(
    front: TrainedLayerNorm | TrainedActNorm, features: Tensor, steps: int = 350
) -> pd.DataFrame:
    """Train the front and a small flow together; return the figures of each step.

    ``gamma`` is the front's mean scale, as a multiple of what it was in the first step. ``nll`` is
    the loss with log|gamma| counted, whether training counted it or not: what the learnt density
    says of the features (of LayerNorm's output before its affine map, where that is the front).
    """
    torch.manual_seed(0)
    flow = Flow(features.shape[1], FlowOptions(steps=2, kernels="1x1", whiten=False))
    optimizer = torch.optim.Adam([*front.parameters(), *flow.parameters()], lr=0.005)
    history = []
    for step in range(steps):
        batch = features[torch.randperm(len(features))[:8]] if step else features
        energy, loss = energy_and_loss(front, flow, batch)
        forgotten = isinstance(front, TrainedLayerNorm) and not front.counted
        history.append(
            {
                "gamma": front.scale().mean().item(),
                "energy": energy.item(),
                "loss": loss.item(),
                "nll": loss.item() - forgotten * front.scale().log().mean().item(),
            }
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    table = pd.DataFrame(history)
    return table.assign(gamma=table.gamma / table.gamma[0])


@pytest.mark.parametrize("scale", [0.1, 1e-3, 1e-6])
def test_the_loss_that_forgets_gamma_has_no_floor(features, scale):
    """Gamma shrinks, the flow's first layer stretches as much: the same z, at any loss."""
    flow = Flow(112, FlowOptions(steps=2, kernels="1x1", whiten=False)).double()
    h = features[:8].double()
    forgotten, counted = (TrainedLayerNorm(h, counted).double() for counted in (False, True))
    before = [torch.stack(energy_and_loss(front, flow, h)) for front in (forgotten, counted)]
    with torch.no_grad():
        forgotten.norm.weight *= scale
        counted.norm.weight *= scale
        flow.layers[0].layers[0].log_scale -= math.log(scale)
    after = [torch.stack(energy_and_loss(front, flow, h)) for front in (forgotten, counted)]
    fallen = torch.tensor([0, math.log(scale)], dtype=torch.float64)  # the energy, the loss
    torch.testing.assert_close(after[0], before[0] + fallen)
    torch.testing.assert_close(after[1], before[1])


def test_gamma_collapses_unless_it_is_counted(features):
    fronts = {
        "forgotten": TrainedLayerNorm(features, counted=False),
        "counted": TrainedLayerNorm(features, counted=True),
        "ours": TrainedActNorm(features.shape[1]),
    }
    tables = {name: train(front, features) for name, front in fronts.items()}
    print(pd.concat({name: table.iloc[[0, -1]] for name, table in tables.items()}).round(3))
    late = {
        name: table.loss[-50:].mean() - table.loss[-100:-50].mean()
        for name, table in tables.items()
    }
    forgotten, counted, ours = tables.values()
    assert forgotten.gamma.iloc[-1] < 0.1
    assert forgotten.energy[-50:].mean() < 0.8, "z is drawn towards 0"
    assert forgotten.loss.iloc[-1] < counted.loss.min() - 2
    assert late["forgotten"] < -0.2, "it falls and falls"
    assert forgotten.nll.iloc[-1] > forgotten.nll.iloc[0] + 0.5, "but what it learnt is worse"
    for name, table in (("counted", counted), ("ours", ours)):
        assert table.gamma.between(0.7, 1.4).all()
        assert table.energy[-50:].mean() == pytest.approx(1, abs=0.05)
        assert table.loss[-50:].mean() < table.loss[0] - 0.3
        assert abs(late[name]) < 0.05, "it has settled"


def test_the_models_loss_is_a_density():
    """From the features to z, and nothing on the way is uncounted: autograd's Jacobian says so."""
    torch.manual_seed(0)
    model = (
        FastFlow(Backbone(pretrained=False, image_size=64), FlowOptions(steps=2)).double().eval()
    )
    for flow in model.flows:
        for parameter in flow.parameters():
            nn.init.normal_(parameter, std=0.1)
        flow.layers[0].matrix += 0.1 * torch.randn_like(flow.layers[0].matrix)
    features = [torch.randn(1, channels, 1, 2).double() for channels in model.backbone.channels]
    for level, h in enumerate(features):

        def latent(h: Tensor, level: int = level) -> Tensor:
            return model([*features[:level], h, *features[level + 1 :]])[level][0]

        jacobian = torch.autograd.functional.jacobian(latent, h).reshape(h.numel(), h.numel())
        log_p_z = torch.distributions.Normal(0, 1).log_prob(latent(h)).sum()
        expected = -(log_p_z + jacobian.slogdet().logabsdet) / h.numel()
        torch.testing.assert_close(model.nll(features)[0, level], expected)
