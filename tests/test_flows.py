"""Every layer is invertible and tells the truth about its log-determinant.

In float64 and with random, non-zero weights: couplings start as the identity, which would hide a
wrong log-determinant, and float32 would hide a small error in a large tolerance.
"""

import warnings

import pytest
import torch
from torch import Tensor, nn

from fastflow_utils.flows import (
    ActNorm,
    AffineCoupling,
    Flow,
    FlowLayer,
    FlowStep,
    Permutation,
)

LAYERS = {
    "actnorm": lambda: ActNorm(5),
    "permutation": lambda: Permutation(5),
    "coupling 3x3": lambda: AffineCoupling(5, kernel_size=3),
    "coupling 1x1, few hidden": lambda: AffineCoupling(6, kernel_size=1, hidden_ratio=0.16),
    "coupling 2 channels": lambda: AffineCoupling(2, kernel_size=1, hidden_ratio=8, clamp=0.5),
    "step": lambda: FlowStep(4),
    "flow 3-1": lambda: Flow(4, steps=3),
    "flow 3x3": lambda: Flow(3, steps=2, kernels="3x3"),
    "flow 1x1": lambda: Flow(5, steps=4, kernels="1x1", hidden_ratio=2),
}


def randomised(layer: FlowLayer) -> FlowLayer:
    """Give every parameter a random, non-zero value and skip the data initialisation."""
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_(std=0.4)
    return layer.double().eval()


def channels(layer: FlowLayer) -> int:
    for module in layer.modules():
        if isinstance(module, AffineCoupling):
            return sum(module.sizes)
    return 5


@pytest.fixture(params=LAYERS, ids=str)
def layer(request: pytest.FixtureRequest) -> FlowLayer:
    return randomised(LAYERS[request.param]())


def inputs(layer: FlowLayer, batch: int = 2, size: tuple[int, int] = (3, 4)) -> Tensor:
    return torch.randn(batch, channels(layer), *size, dtype=torch.float64)


def test_inverse_undoes_forward_and_forward_undoes_inverse(layer):
    x = inputs(layer)
    torch.testing.assert_close(layer.inverse(layer(x)[0])[0], x, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(layer(layer.inverse(x)[0])[0], x, rtol=1e-9, atol=1e-9)


def test_log_det_is_that_of_the_jacobian(layer):
    x = inputs(layer, batch=3)
    _, log_det = layer(x)
    assert log_det.shape == (3,)
    for i in range(len(x)):
        jacobian = torch.autograd.functional.jacobian(lambda v: layer(v)[0], x[i : i + 1])
        expected = torch.linalg.slogdet(jacobian.reshape(x[i].numel(), -1)).logabsdet
        torch.testing.assert_close(log_det[i], expected, rtol=1e-9, atol=1e-9)


def test_log_det_of_the_inverse_cancels(layer):
    z, log_det = layer(inputs(layer))
    torch.testing.assert_close(layer.inverse(z)[1], -log_det, rtol=1e-9, atol=1e-9)


def test_images_of_a_batch_do_not_mix(layer):
    x = inputs(layer, batch=3)
    z, log_det = layer(x)
    alone, log_det_alone = layer(x[1:2])
    torch.testing.assert_close(z[1:2], alone)
    torch.testing.assert_close(log_det[1:2], log_det_alone)


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (5, 3), (8, 8)], ids=str)
def test_any_size_works(layer, size):
    x = inputs(layer, size=size)
    torch.testing.assert_close(layer.inverse(layer(x)[0])[0], x, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", [name for name in LAYERS if name != "permutation"])
def test_every_parameter_gets_a_gradient(name):
    layer = randomised(LAYERS[name]())
    z, log_det = layer(inputs(layer, size=(8, 8)))
    (0.5 * z.square().sum() - log_det.sum()).backward()
    for parameter, value in layer.named_parameters():
        assert value.grad is not None and value.grad.abs().sum() > 0, parameter


@pytest.mark.parametrize("name", LAYERS)
def test_state_dict_holds_all_that_matters(name):
    layer, other = randomised(LAYERS[name]()), randomised(LAYERS[name]())
    x = inputs(layer)
    assert not torch.equal(other(x)[0], layer(x)[0])
    other.load_state_dict(layer.state_dict())
    assert torch.equal(other(x)[0], layer(x)[0])


@pytest.mark.parametrize("kernel_size", [1, 3])
def test_coupling_starts_as_the_identity(kernel_size):
    x = torch.randn(2, 6, 4, 4)
    z, log_det = AffineCoupling(6, kernel_size)(x)
    assert torch.equal(z, x) and torch.equal(log_det, torch.zeros(2))


def test_coupling_leaves_the_first_half_and_changes_the_second():
    coupling = randomised(AffineCoupling(5))
    x = inputs(coupling)
    z, _ = coupling(x)
    assert torch.equal(z[:, :3], x[:, :3])
    assert not torch.isclose(z[:, 3:], x[:, 3:]).any()


@pytest.mark.parametrize("clamp", [0.1, 2.0])
def test_clamp_bounds_the_log_scale(clamp):
    coupling = randomised(AffineCoupling(4, clamp=clamp))
    s, _ = coupling.scale_and_shift(1e6 * torch.randn(2, 2, 4, 4, dtype=torch.float64))
    assert s.abs().max() <= clamp
    assert s.abs().max() > 0.99 * clamp


def test_actnorm_starts_from_the_statistics_of_the_first_batch_and_only_of_that():
    actnorm = ActNorm(3)
    first = torch.tensor([1.0, -20.0, 300.0]).view(3, 1, 1) * (2 + torch.randn(8, 3, 9, 9))
    z, _ = actnorm(first)
    torch.testing.assert_close(z.mean((0, 2, 3)), torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(z.std((0, 2, 3), correction=0), torch.ones(3))
    before = [parameter.clone() for parameter in actnorm.parameters()]
    actnorm(torch.randn(8, 3, 9, 9))
    assert all(torch.equal(a, b) for a, b in zip(before, actnorm.parameters(), strict=True))


def test_actnorm_does_not_initialise_in_eval_mode_and_survives_a_constant_channel():
    assert not ActNorm(2).eval().initialised
    actnorm = ActNorm(2).eval()
    x = torch.randn(4, 2, 3, 3)
    assert torch.equal(actnorm(x)[0], x)
    z, log_det = ActNorm(2)(torch.ones(4, 2, 3, 3))
    assert z.isfinite().all() and log_det.isfinite().all()


def test_permutation_moves_every_channel_to_one_place():
    permutation = Permutation(64, torch.Generator().manual_seed(1))
    x = torch.arange(64.0).view(1, 64, 1, 1)
    z, log_det = permutation(x)
    assert sorted(z.flatten().tolist()) == x.flatten().tolist()
    assert not torch.equal(z, x)
    assert torch.equal(log_det, torch.zeros(1))


def test_kernels_alternate_from_3x3():
    def sizes(flow: Flow) -> list[int]:
        return [m.kernel_size[0] for m in flow.modules() if isinstance(m, nn.Conv2d)][::2]

    assert sizes(Flow(4, steps=4)) == [3, 1, 3, 1]
    assert sizes(Flow(4, steps=2, kernels="3x3")) == [3, 3]


def test_generator_fixes_the_permutations():
    orders = [
        [m.order.tolist() for m in flow.modules() if isinstance(m, Permutation)]
        for flow in (Flow(16, generator=torch.Generator().manual_seed(s)) for s in (0, 0, 1))
    ]
    assert orders[0] == orders[1] != orders[2]


def test_shifted_input_gives_shifted_latent_away_from_the_border():
    """One flow serves every position: nothing in it knows where it is."""
    flow = randomised(Flow(4, steps=3))
    x = inputs(flow, size=(24, 24))
    z, _ = flow(x)
    shifted, _ = flow(x.roll((2, 3), dims=(2, 3)))
    reach = 10  # two 3x3 convolutions in two of the three steps, and the roll
    inner = (..., slice(reach, -reach), slice(reach, -reach))
    torch.testing.assert_close(shifted[inner], z.roll((2, 3), dims=(2, 3))[inner])


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="channels=1"):
        AffineCoupling(1)
    with pytest.raises(ValueError, match=r"kernels='5x5'.*3-1"):
        Flow(4, kernels="5x5")  # type: ignore[arg-type]


def test_agrees_with_freia():
    """The same step as FrEIA 0.2's AllInOneBlock, weights copied: the same z and log-det.

    FrEIA's order is coupling, affine, permutation; it clamps with c tanh(0.1 a), and scales the
    shift by 0.1 too; ours is c tanh(a / c), so the last layer's weights carry the factors.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from FrEIA.modules import AllInOneBlock

    def subnet(c_in: int, c_out: int) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(c_in, c_in, 3, padding=1), nn.ReLU(), nn.Conv2d(c_in, c_out, 3, padding=1)
        )

    clamp, c = 2.0, 7
    block = AllInOneBlock([(c, 5, 6)], subnet_constructor=subnet, affine_clamping=clamp).double()
    layers = AffineCoupling(c, 3, 1.0, clamp), ActNorm(c), Permutation(c)
    coupling, actnorm, permutation = (layer.double().eval() for layer in layers)
    with torch.no_grad():
        for parameter in block.subnet.parameters():
            parameter.normal_(std=0.5)
        block.global_scale.normal_()
        block.global_offset.normal_()
        coupling.subnet.load_state_dict(block.subnet.state_dict())
        factor = torch.full((2 * (c // 2), 1, 1, 1), 0.1, dtype=torch.float64)
        factor[: c // 2] *= clamp
        coupling.subnet[2].weight *= factor
        coupling.subnet[2].bias *= factor.flatten()
        scale = 0.1 * nn.functional.softplus(block.global_scale, beta=0.5)
        actnorm.log_scale.copy_(scale[0].log())
        actnorm.shift.copy_(block.global_offset[0])
        permutation.order.copy_(block.w_perm[:, :, 0, 0].argmax(1))
    x = torch.randn(3, c, 5, 6, dtype=torch.float64)
    (expected,), expected_log_det = block([x])
    z, log_det = x, torch.zeros(3, dtype=torch.float64)
    for layer in (coupling, actnorm, permutation):
        z, part = layer(z)
        log_det = log_det + part
    torch.testing.assert_close(z, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(log_det, expected_log_det, rtol=1e-12, atol=1e-12)
