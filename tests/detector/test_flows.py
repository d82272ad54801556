"""Every layer is invertible and tells the truth about its log-determinant.

The promises themselves are in flow_checks.py, where planted mutants meet them too.
"""

import itertools
import math
import warnings

import flow_checks
import numpy as np
import pytest
import torch
from flow_checks import CHECKS, randomise
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from fastflow_utils.detector.flows import (
    ActNorm,
    AffineCoupling,
    Flow,
    FlowLayer,
    FlowOptions,
    FlowStep,
    Permutation,
    PositionNorm,
    Whitening,
)
from fastflow_utils.errors import FastFlowError
from fastflow_utils.experiments.recipes import Recipe, recipes

LAYERS = {
    "actnorm": lambda: ActNorm(5),
    "whitening": lambda: Whitening(5),
    "positions": lambda: PositionNorm(5, (3, 4)),
    "permutation": lambda: Permutation(5),
    "coupling 3x3": lambda: AffineCoupling(5, kernel_size=3),
    "coupling 1x1, few hidden": lambda: AffineCoupling(6, kernel_size=1, hidden_ratio=0.16),
    "coupling 2 channels": lambda: AffineCoupling(2, kernel_size=1, hidden_ratio=8, clamp=0.5),
    "step": lambda: FlowStep(4),
    "flow 3-1": lambda: Flow(4, FlowOptions(steps=3, whiten=False)),
    "flow 3x3": lambda: Flow(3, FlowOptions(steps=2, kernels="3x3", whiten=False)),
    "flow 1x1": lambda: Flow(5, FlowOptions(steps=4, kernels="1x1", hidden_ratio=2, whiten=False)),
    "flow, whitened": lambda: Flow(4, FlowOptions(steps=2, whiten=True)),
    "flow, positions": lambda: Flow(4, FlowOptions(steps=2, position=True), size=(3, 4)),
}


BY_JACOBIAN = {  # which is large
    flow_checks.log_det_is_that_of_the_jacobian,
    flow_checks.shares_are_of_each_positions_own_block,
}


def channels(layer: FlowLayer) -> int:
    for module in layer.modules():
        if isinstance(module, AffineCoupling):
            return sum(module.sizes)
    return 5


def inputs(layer: FlowLayer, batch: int = 2, size: tuple[int, int] = (3, 4)) -> Tensor:
    generator = torch.Generator().manual_seed(batch)
    shape = (batch, channels(layer), *size)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", LAYERS)
def test_every_layer_keeps_every_promise(name, check):
    layer = randomise(LAYERS[name]())
    check(layer, inputs(layer, batch=3))


@given(
    channels=st.integers(2, 9),
    size=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    steps=st.integers(1, 4),
    kernels=st.sampled_from(["3-1", "3x3", "1x1"]),
    hidden_ratio=st.sampled_from([0.5, 1, 3]),
    clamp=st.sampled_from([0.5, 2.0, 3.0]),
    whiten=st.booleans(),
    position=st.booleans(),
    seed=st.integers(0, 2**16),
)
@settings(deadline=None, max_examples=40, derandomize=True)
def test_every_flow_keeps_its_promises(
    channels, size, steps, kernels, hidden_ratio, clamp, whiten, position, seed
):
    torch.manual_seed(seed)
    options = FlowOptions(steps, kernels, hidden_ratio, clamp, whiten, position)
    flow = Flow(channels, options, size=size)
    # Four wild steps in a row would leave nothing of float64's digits.
    flow = randomise(flow, seed, spread=0.2)
    for coupling in (m for m in flow.modules() if isinstance(m, AffineCoupling)):
        with torch.no_grad():
            coupling.subnet[0].bias[0] = 2  # one of the few hidden channels is awake for sure
    x = torch.randn(2, channels, *size, dtype=torch.float64)
    for check in CHECKS:
        if x[0].numel() <= 60 or check not in BY_JACOBIAN:
            check(flow, x)


def log_density(flow: FlowLayer, x: Tensor) -> Tensor:
    z, log_det = flow(x)
    return log_det - 0.5 * z.square().sum((1, 2, 3)) - math.log(2 * math.pi)


@torch.no_grad()
def mass(flow: FlowLayer, reach: float, points: int = 401) -> float:
    """Integrate the density of a flow in the plane over a square, by a sum over a grid."""
    axis = torch.linspace(-reach, reach, points, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)[..., None, None]
    return float(log_density(flow, grid).exp().sum() * (axis[1] - axis[0]) ** 2)


@pytest.mark.parametrize("seed", range(4))
def test_a_random_density_integrates_to_one(seed):
    flow = randomise(
        Flow(2, FlowOptions(steps=4, kernels="1x1", hidden_ratio=16, whiten=False)),
        seed,
        spread=0.2,
    )
    assert mass(flow, reach=12) == pytest.approx(1, abs=1e-4)


def test_a_trained_density_integrates_to_one():
    """Two moons become more likely, and everything else less: there is one unit to share."""
    angle = math.pi * torch.rand(512)
    upper = torch.stack([angle.cos() - 0.5, angle.sin() - 0.25], dim=1)
    points = torch.cat([upper, -upper])[..., None, None].double()
    points += 0.1 * torch.randn_like(points)
    flow = Flow(2, FlowOptions(steps=4, kernels="1x1", hidden_ratio=16, whiten=True)).double()
    optimizer = torch.optim.Adam(flow.parameters(), lr=0.01)
    likelihoods, masses = [], []
    for step in range(61):
        likelihood = log_density(flow, points).mean()  # the first one initialises
        if step % 30 == 0:
            likelihoods.append(likelihood.item())
            masses.append(mass(flow, reach=5))
        optimizer.zero_grad()
        (-likelihood).backward()
        optimizer.step()
    assert likelihoods[0] + 0.2 < likelihoods[1] < likelihoods[2] - 0.05
    assert masses == pytest.approx([1, 1, 1], abs=1e-3)


@pytest.mark.parametrize("name", LAYERS)
def test_state_dict_holds_all_that_matters(name):
    torch.manual_seed(0)
    layer, other = randomise(LAYERS[name](), seed=0), randomise(LAYERS[name](), seed=1)
    x = inputs(layer)
    assert not torch.equal(other(x)[0], layer(x)[0])
    other.load_state_dict(layer.state_dict())
    assert torch.equal(other(x)[0], layer(x)[0])


@pytest.mark.parametrize("kernel_size", [1, 3])
def test_coupling_starts_as_the_identity(kernel_size):
    x = torch.randn(2, 6, 4, 4)
    z, log_det = AffineCoupling(6, kernel_size)(x)
    assert torch.equal(z, x) and torch.equal(log_det, torch.zeros(2))


@pytest.mark.parametrize("clamp", [0.1, 2.0])
def test_clamp_bounds_the_log_scale(clamp):
    coupling = randomise(AffineCoupling(4, clamp=clamp))
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

    assert sizes(Flow(4, FlowOptions(steps=4, whiten=False))) == [3, 1, 3, 1]
    assert sizes(Flow(4, FlowOptions(steps=2, kernels="3x3", whiten=False))) == [3, 3]


def test_generator_fixes_the_permutations():
    orders = [
        [m.order.tolist() for m in flow.modules() if isinstance(m, Permutation)]
        for flow in (
            Flow(16, FlowOptions(whiten=False), generator=torch.Generator().manual_seed(s))
            for s in (0, 0, 1)
        )
    ]
    assert orders[0] == orders[1] != orders[2]


def test_shifted_input_gives_shifted_latent_away_from_the_border():
    """One flow serves every position: without PositionNorm, nothing in it knows where it is."""
    flow = randomise(Flow(4, FlowOptions(steps=3, whiten=False)))
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
        Flow(4, FlowOptions(kernels="5x5", whiten=False))  # type: ignore[arg-type]


# PositionNorm: what is normal at one place


def aligned(count: int, spread: float = 3.0, size: tuple[int, int] = (6, 5)) -> Tensor:
    """Images whose positions differ in mean and scale, each by itself."""
    generator = torch.Generator().manual_seed(0)
    mean, log_std, noise = (
        torch.randn(*shape, *size, generator=generator, dtype=torch.float64)
        for shape in ((2,), (2,), (count, 2))
    )
    return spread * mean + (spread / 6 * log_std).exp() * noise


def measured(x: Tensor) -> PositionNorm:
    layer = PositionNorm(*x.shape[1:2], x.shape[2:]).double()
    layer.measure([x])
    return layer


def test_a_positions_moments_are_of_its_neighbourhood():
    """By a loop over positions and the window's places, beyond the edge those on it."""
    count, height, width = 120, 6, 5
    x = aligned(count, spread=0.5)
    layer = measured(x)
    first, second = x.mean(0), x.square().mean(0)
    mean, variance = torch.zeros_like(first), torch.zeros_like(first)
    steps = range(-3, 4)
    whole = sum(math.exp(-(step**2) / 2) for step in steps) ** 2
    for i, j in itertools.product(range(height), range(width)):
        of_square = torch.zeros(2, dtype=torch.float64)
        for down, right in itertools.product(steps, steps):
            weight = math.exp(-(down**2 + right**2) / 2) / whole
            place = min(max(i + down, 0), height - 1), min(max(j + right, 0), width - 1)
            mean[:, i, j] += weight * first[:, *place]
            of_square += weight * second[:, *place]
        variance[:, i, j] = of_square - mean[:, i, j] ** 2
    shrunk = (count * variance + 10 * variance.mean((1, 2), keepdim=True)) / (count + 10)
    torch.testing.assert_close(layer.mean, mean)
    torch.testing.assert_close(layer.log_std, shrunk.log() / 2)


@pytest.mark.parametrize("count", [1, 2, 99])
def test_of_few_images_all_positions_get_the_channels_moments(count):
    x = aligned(count)
    layer = measured(x)
    mean, std = x.mean((0, 2, 3)), x.transpose(0, 1).flatten(1).std(1, correction=0)
    torch.testing.assert_close(layer.mean, mean[:, None, None].expand(2, 6, 5))
    torch.testing.assert_close(layer.log_std, std.log()[:, None, None].expand(2, 6, 5))


def test_of_many_images_each_place_has_its_own_mean():
    x = torch.randn(400, 1, 8, 16, generator=torch.Generator().manual_seed(0)).double()
    x[..., 8:] += 10
    z, _ = measured(x).eval()(x)
    assert z[..., :4].mean().abs() < 0.1 and z[..., 12:].mean().abs() < 0.1
    assert (z[..., :4].std() - 1).abs() < 0.2
    assert z[..., 7:9].std() < 1, "where it changes it varies more, whichever image"


def test_positions_measured_in_batches_are_those_measured_at_once():
    x = aligned(23)
    parts = PositionNorm(2, (6, 5)).double()
    parts.measure(x.split(5))
    whole = measured(x)
    torch.testing.assert_close(parts.mean, whole.mean)
    torch.testing.assert_close(parts.log_std, whole.log_std)
    first = PositionNorm(2, (6, 5)).double()
    first(x)
    first(x + 1)  # the first batch in training mode, and only that
    assert torch.equal(first.mean, whole.mean) and torch.equal(first.log_std, whole.log_std)


def test_positions_in_which_nothing_happens_do_no_harm():
    x = aligned(9)
    x[:, 1] = 4
    for case in (x, torch.ones_like(x)):
        z, log_det = measured(case)(case)
        assert z.isfinite().all() and log_det.isfinite().all() and z.abs().max() < 20


def test_positions_of_another_size_are_refused():
    layer = PositionNorm(2, (6, 5))
    for use in (layer, layer.inverse, lambda x: layer.measure([x])):
        with pytest.raises(FastFlowError, match=r"\(3, 2, 5, 6\): expected \(B, 2, 6, 5\)"):
            use(torch.zeros(3, 2, 5, 6))
    with pytest.raises(FastFlowError, match="at least one"):
        layer.measure([])
    with pytest.raises(FastFlowError, match=r"size=\(H, W\)"):
        Flow(4, FlowOptions(position=True))


def test_a_flow_is_prepared_once_and_only_if_it_knows_positions():
    x = aligned(12).float()
    flow = Flow(2, FlowOptions(steps=1, position=True), size=(6, 5))
    flow.prepare(x.split(5))
    before = flow.layers[0].mean.clone()
    flow.prepare([x + 1])
    assert torch.equal(flow.layers[0].mean, before)
    Flow(2, FlowOptions(steps=1)).prepare(iter(()))


def test_whitening_leaves_nothing_for_a_gaussian_to_say():
    """Of the first batch in training mode, and only of that."""
    torch.manual_seed(0)
    mix = torch.randn(4, 4).double()
    first = 5 + torch.einsum("dc,bchw->bdhw", mix, torch.randn(8, 4, 9, 9).double())
    whitening = Whitening(4, epsilon=0).double()
    z, _ = whitening(first)
    positions = z.transpose(0, 1).flatten(1)
    torch.testing.assert_close(positions.mean(1), torch.zeros(4).double(), atol=1e-9, rtol=0)
    torch.testing.assert_close(positions.cov(correction=0), torch.eye(4).double())
    before = whitening.matrix.clone()
    whitening(torch.randn(8, 4, 9, 9).double())
    assert torch.equal(before, whitening.matrix)


def test_whitening_survives_directions_in_which_nothing_varies():
    x = torch.randn(8, 1, 5, 5).expand(-1, 4, -1, -1)  # one direction varies, three do not
    for case in (x, torch.ones(8, 4, 5, 5)):
        z, log_det = Whitening(4)(case)
        assert z.isfinite().all() and log_det.isfinite().all() and z.abs().max() < 10


def freia_flow(channels: int, size: tuple[int, int], recipe: Recipe) -> nn.Module:
    """Return FrEIA 0.2's flow as published code builds it, with random weights."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from FrEIA.framework import SequenceINN
        from FrEIA.modules import AllInOneBlock

    def subnet(kernel_size: int):
        def build(c_in: int, c_out: int) -> nn.Module:
            hidden = int(c_in * recipe.hidden_ratio)
            return nn.Sequential(
                nn.Conv2d(c_in, hidden, kernel_size, padding="same"),
                nn.ReLU(),
                nn.Conv2d(hidden, c_out, kernel_size, padding="same"),
            )

        return build

    flow = SequenceINN(channels, *size)
    for step in range(recipe.steps):
        kernel_size = 3 if recipe.kernels == "3x3" or step % 2 == 0 else 1
        flow.append(
            AllInOneBlock, subnet_constructor=subnet(kernel_size), affine_clamping=recipe.clamp
        )
    with torch.no_grad():
        for block in flow.module_list:
            for convolution in (block.subnet[0], block.subnet[2]):
                nn.init.kaiming_normal_(convolution.weight)
                convolution.bias.normal_()
            block.global_scale.normal_(7, 1)  # scales of about 0.7, so that nothing explodes
            block.global_offset.normal_()
    return flow.double()


@pytest.mark.parametrize("channels", [26, 27])
@pytest.mark.parametrize("name", recipes())
def test_agrees_with_freia(name, channels):
    """Each recipe's flow, weights copied from FrEIA 0.2: the same z, x and log-dets, exactly.

    FrEIA's step is coupling, affine, permutation, and ours affine, permutation, coupling: theirs
    is a flow of ours with one step more, whose first two layers and last one are the identity.
    FrEIA clamps with c tanh(0.1 a) and scales the shift by 0.1 too, ours is c tanh(a / c): the
    subnet's last layer carries the factors. Exactly: to 1e-12 in float64, which is rounding, and
    to 1e-9 on the way back, which blows up whatever 20 steps have shrunk, rounding included.
    """
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002, FrEIA draws its permutations from it
    recipe, size = recipes()[name], (5, 6)
    theirs = freia_flow(channels, size, recipe)
    ours = Flow(
        channels,
        FlowOptions(
            steps=recipe.steps + 1,
            kernels=recipe.kernels,
            hidden_ratio=recipe.hidden_ratio,
            clamp=recipe.clamp,
            whiten=False,
        ),
    )
    steps = [list(step.layers) for step in ours.double().eval().layers]
    steps[0][1].order.copy_(torch.arange(channels))
    factor = 0.1 * torch.tensor([recipe.clamp, 1]).double().repeat_interleave(channels // 2)
    with torch.no_grad():
        for i, block in enumerate(theirs.module_list):
            coupling, actnorm, permutation = steps[i][2], *steps[i + 1][:2]
            coupling.subnet.load_state_dict(block.subnet.state_dict())
            coupling.subnet[2].weight *= factor[:, None, None, None]
            coupling.subnet[2].bias *= factor
            scale = 0.1 * nn.functional.softplus(block.global_scale[0], beta=0.5)
            actnorm.log_scale.copy_(scale.log())
            actnorm.shift.copy_(block.global_offset[0])
            permutation.order.copy_(block.w_perm[:, :, 0, 0].argmax(1))
    x = torch.randn(3, channels, *size, dtype=torch.float64)
    z, log_det = ours(x)
    torch.testing.assert_close((z, log_det), theirs(x), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(ours.inverse(z), theirs(z, rev=True), rtol=1e-9, atol=1e-9)


# As a density, named as in torch.distributions and zuko ------------------------------------------


@pytest.mark.parametrize("name", LAYERS)
def test_log_prob_is_that_of_torchs_normal_moved_by_the_flow(name):
    layer = randomise(LAYERS[name]())
    x = inputs(layer)
    z, log_det = layer(x)
    expected = torch.distributions.Normal(0, 1).log_prob(z).sum((1, 2, 3)) + log_det
    torch.testing.assert_close(layer.log_prob(x), expected)
    torch.testing.assert_close(layer.local_log_prob(x).sum((1, 2, 3)), expected)


def test_samples_have_the_density_of_the_flow():
    """The mean of log p over samples is minus the entropy: that of z, less log|det dz/dx|."""
    flow = randomise(Flow(2, FlowOptions(steps=2, kernels="1x1", hidden_ratio=8)), spread=0.2)
    samples = flow.sample((20_000, 2, 1, 1), torch.Generator().manual_seed(1))
    assert samples.dtype == torch.float64
    z, log_det = flow(samples)
    assert z.mean().abs() < 0.02 and (z.std() - 1).abs() < 0.02
    entropy = 1 + math.log(2 * math.pi)
    found = flow.log_prob(samples).mean() + entropy
    torch.testing.assert_close(found, log_det.mean(), atol=0.03, rtol=0)
    again = flow.sample((20_000, 2, 1, 1), torch.Generator().manual_seed(1))
    assert torch.equal(samples, again)


def test_a_subnet_can_be_given():
    built = []

    def subnet(inputs: int, hidden: int, outputs: int, kernel_size: int) -> nn.Module:
        built.append((inputs, hidden, outputs, kernel_size))
        return nn.Conv2d(inputs, outputs, 1)

    flow = Flow(5, FlowOptions(steps=2, hidden_ratio=2), subnet=subnet)
    assert built == [(3, 6, 4, 3), (3, 6, 4, 1)]
    flow = randomise(flow)
    x = inputs(flow)
    torch.testing.assert_close(flow.inverse(flow(x)[0])[0], x)


@pytest.mark.parametrize(
    "options", [{"steps": -1}, {"clamp": 0}, {"clamp": math.inf}, {"hidden_ratio": math.nan}]
)
def test_options_out_of_range_are_named(options):
    with pytest.raises(FastFlowError, match=next(iter(options))):
        FlowOptions(**options)
