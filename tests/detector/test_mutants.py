"""The proofs of the flow can fail: each planted mistake is caught by the checks that guard it.

A mutant replaces one method of a layer by a plausible mistake, most of them made in public code,
and names the check that must catch it, whatever else does.
"""

from collections.abc import Callable
from typing import Any

import flow_checks as checks
import pytest
import torch
from torch import Tensor

from fastflow_utils.detector.flows import (
    ActNorm,
    AffineCoupling,
    Flow,
    FlowLayer,
    FlowOptions,
    Permutation,
    PositionNorm,
    Whitening,
    _Chain,
)

Pair = tuple[Tensor, Tensor]
Check = Callable[[FlowLayer, Tensor], None]
MUTANTS: dict[str, tuple[type[FlowLayer], str, Callable[..., Any], Check]] = {}
# Their methods.
REAL = {layer: dict(vars(layer)) for layer in (ActNorm, AffineCoupling, PositionNorm)}


def mutant(layer: type[FlowLayer], method: str, caught_by: Check) -> Callable:
    def plant(mistake: Callable[..., Any]) -> Callable[..., Any]:
        name = f"{layer.__name__}: {mistake.__name__.replace('_', ' ')}"
        MUTANTS[name] = (layer, method, mistake, caught_by)
        return mistake

    return plant


# Log-determinants


@mutant(FlowLayer, "forward", caught_by=checks.log_det_is_that_of_the_jacobian)
def log_det_without_h_and_w(self: FlowLayer, x: Tensor) -> Pair:
    """The mean over positions instead of their sum."""
    z, shares = self.local(x)
    return z, shares.mean((1, 2, 3))


@mutant(FlowLayer, "forward", caught_by=checks.shares_sum_to_the_log_det)
def log_det_of_the_batch(self: FlowLayer, x: Tensor) -> Pair:
    z, shares = self.local(x)
    return z, shares.sum().expand(len(x))


@mutant(AffineCoupling, "local", caught_by=checks.log_det_is_that_of_the_jacobian)
def log_det_with_the_wrong_sign(self: AffineCoupling, x: Tensor) -> Pair:
    z, shares = REAL[AffineCoupling]["local"](self, x)
    return z, -shares


@mutant(AffineCoupling, "inverse", caught_by=checks.log_det_of_the_inverse_cancels)
def log_det_of_the_way_there(self: AffineCoupling, z: Tensor) -> Pair:
    x, log_det = REAL[AffineCoupling]["inverse"](self, z)
    return x, -log_det


@mutant(AffineCoupling, "local", caught_by=checks.shares_are_of_each_positions_own_block)
def log_det_spread_evenly(self: AffineCoupling, x: Tensor) -> Pair:
    """The total is right, but which position it comes from is lost."""
    z, shares = REAL[AffineCoupling]["local"](self, x)
    return z, shares.mean((2, 3), keepdim=True).expand_as(shares)


@mutant(AffineCoupling, "local", caught_by=checks.gradients_are_those_of_differences)
def log_det_cut_out_of_the_graph(self: AffineCoupling, x: Tensor) -> Pair:
    """The value is right and teaches nothing: training shrinks z without paying for it."""
    z, shares = REAL[AffineCoupling]["local"](self, x)
    return z, shares.detach()


@mutant(ActNorm, "_shares", caught_by=checks.log_det_is_that_of_the_jacobian)
@mutant(PositionNorm, "_shares", caught_by=checks.log_det_is_that_of_the_jacobian)
@mutant(Whitening, "_shares", caught_by=checks.log_det_is_that_of_the_jacobian)
def log_det_forgotten(self: FlowLayer, x: Tensor) -> Tensor:
    return x.new_zeros(len(x), 1, *x.shape[2:])


@mutant(PositionNorm, "_shares", caught_by=checks.shares_are_of_each_positions_own_block)
def log_det_the_same_everywhere(self: PositionNorm, x: Tensor) -> Tensor:
    """The total is right; where normal images vary less is forgotten."""
    shares = REAL[PositionNorm]["_shares"](self, x)
    return shares.mean((2, 3), keepdim=True).expand_as(shares)


@mutant(PositionNorm, "inverse", caught_by=checks.inverse_undoes_forward)
def mean_of_the_position_not_undone(self: PositionNorm, z: Tensor) -> Pair:
    x, log_det = REAL[PositionNorm]["inverse"](self, z)
    return x - self.mean, log_det


@mutant(_Chain, "local", caught_by=checks.log_det_is_that_of_the_jacobian)
def log_det_of_the_last_layer(self: Any, x: Tensor) -> Pair:
    """The total is overwritten where it should be added to."""
    for layer in self.layers:
        x, shares = layer.local(x)
    return x, shares


# Maps and their inverses


@mutant(AffineCoupling, "local", caught_by=checks.first_half_of_a_coupling_is_left_alone)
def wrong_half_transformed(self: AffineCoupling, x: Tensor) -> Pair:
    """The subnet reads one half, and the inverse expects it to be untouched; it is not."""
    x_a, x_b = x.split(self.sizes, dim=1)
    s, t = self.scale_and_shift(x_a)
    size = self.sizes[1]
    changed = torch.cat([x_a[:, :size] * s.exp() + t, x_a[:, size:], x_b], dim=1)
    return changed, s.sum(1, keepdim=True)


@mutant(AffineCoupling, "local", caught_by=checks.inverse_undoes_forward)
def half_transformed_by_itself(self: AffineCoupling, x: Tensor) -> Pair:
    x_a, x_b = x.split(self.sizes, dim=1)
    s, t = self.scale_and_shift(x[:, -self.sizes[0] :])
    return torch.cat([x_a, x_b * s.exp() + t], dim=1), s.sum(1, keepdim=True)


@mutant(AffineCoupling, "local", caught_by=checks.log_det_is_that_of_the_jacobian)
def exp_forgotten(self: AffineCoupling, x: Tensor) -> Pair:
    x_a, x_b = x.split(self.sizes, dim=1)
    s, t = self.scale_and_shift(x_a)
    return torch.cat([x_a, x_b * s + t], dim=1), s.sum(1, keepdim=True)


@mutant(AffineCoupling, "inverse", caught_by=checks.forward_undoes_inverse)
def shift_not_undone(self: AffineCoupling, z: Tensor) -> Pair:
    z_a, z_b = z.split(self.sizes, dim=1)
    s, _ = self.scale_and_shift(z_a)
    return torch.cat([z_a, z_b * (-s).exp()], dim=1), -s.sum(dim=(1, 2, 3))


@mutant(AffineCoupling, "scale_and_shift", caught_by=checks.clamp_bounds_the_log_scale)
def clamp_ignored(self: AffineCoupling, x_a: Tensor) -> Pair:
    s, t = self.subnet(x_a).chunk(2, dim=1)
    return s, t


@mutant(AffineCoupling, "scale_and_shift", caught_by=checks.every_parameter_gets_a_gradient)
@torch.no_grad()
def subnet_not_trained(self: AffineCoupling, x_a: Tensor) -> Pair:
    return REAL[AffineCoupling]["scale_and_shift"](self, x_a)


@mutant(Permutation, "inverse", caught_by=checks.inverse_undoes_forward)
def permutation_not_inverted(self: Permutation, z: Tensor) -> Pair:
    return z[:, self.order], z.new_zeros(len(z))


@mutant(_Chain, "inverse", caught_by=checks.forward_undoes_inverse)
def inverted_from_the_first_layer(self: Any, z: Tensor) -> Pair:
    total = z.new_zeros(len(z))
    for layer in self.layers:
        z, log_det = layer.inverse(z)
        total = total + log_det
    return z, total


@mutant(ActNorm, "local", caught_by=checks.images_do_not_mix)
def every_batch_is_the_first(self: ActNorm, x: Tensor) -> Pair:
    """Batch normalisation: what an image is worth depends on its neighbours."""
    self._initialise(x)
    return REAL[ActNorm]["local"](self, x)


@mutant(ActNorm, "_initialise", caught_by=checks.actnorm_starts_from_the_first_batch)
@torch.no_grad()
def mean_not_scaled(self: ActNorm, x: Tensor) -> None:
    std, mean = torch.std_mean(x, dim=(0, 2, 3), keepdim=True, correction=0)
    self.log_scale.copy_(-std[0].log())
    self.shift.copy_(-mean[0])


def is_broken(check: Check) -> bool:
    """Hold a flow with every kind of layer to a promise, and each layer of a step by itself."""
    torch.manual_seed(0)
    options = FlowOptions(steps=2, whiten=True, position=True)
    flow = checks.randomise(Flow(5, options, size=(3, 4)))
    for part in (flow, *flow.layers[2].layers):
        try:
            check(part, torch.randn(3, 5, 3, 4, dtype=torch.float64))
        except AssertionError:
            return True
    return False


@pytest.mark.parametrize("check", checks.CHECKS, ids=lambda check: check.__name__)
def test_the_real_layers_keep_every_promise(check):
    assert not is_broken(check)


@pytest.mark.parametrize("name", MUTANTS)
def test_a_planted_mistake_is_caught(name, monkeypatch):
    layer, method, mistake, caught_by = MUTANTS[name]
    monkeypatch.setattr(layer, method, mistake)
    assert is_broken(caught_by)


def test_no_check_is_there_for_show():
    """Each is the one that must catch some mutant."""
    assert {caught_by for *_, caught_by in MUTANTS.values()} == set(checks.CHECKS)
