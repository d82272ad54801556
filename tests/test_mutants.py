"""The proofs of the flow can fail: each planted mistake is caught by the checks that guard it.

A mutant replaces one method of a layer by a plausible mistake, most of them made in public code.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from flow_checks import CHECKS, randomise
from torch import Tensor

from fastflow_utils.flows import ActNorm, AffineCoupling, Flow, FlowLayer, Permutation, Whitening

Pair = tuple[Tensor, Tensor]


def without_positions(self: FlowLayer, x: Tensor) -> Pair:
    """The mean over positions instead of their sum."""
    z, shares = self.local(x)
    return z, shares.mean((1, 2, 3))


def wrong_sign(self: AffineCoupling, x: Tensor) -> Pair:
    z, shares = LOCAL[AffineCoupling](self, x)
    return z, -shares


def wrong_half(self: AffineCoupling, x: Tensor) -> Pair:
    """The subnet reads one half, and the inverse expects it to be untouched; it is not."""
    x_a, x_b = x.split(self.sizes, dim=1)
    s, t = self.scale_and_shift(x_a)
    size = self.sizes[1]
    changed = torch.cat([x_a[:, :size] * s.exp() + t, x_a[:, size:], x_b], dim=1)
    return changed, s.sum(1, keepdim=True)


def not_inverted(self: Permutation, z: Tensor) -> Pair:
    return z[:, self.order], z.new_zeros(len(z))


def forgotten(self: FlowLayer, x: Tensor) -> Tensor:
    return x.new_zeros(len(x), 1, *x.shape[2:])


def unclamped(self: AffineCoupling, x_a: Tensor) -> Pair:
    s, t = self.subnet(x_a).chunk(2, dim=1)
    return s, t


def no_exponential(self: AffineCoupling, x: Tensor) -> Pair:
    x_a, x_b = x.split(self.sizes, dim=1)
    s, t = self.scale_and_shift(x_a)
    return torch.cat([x_a, x_b * s + t], dim=1), s.sum(1, keepdim=True)


def shift_kept(self: AffineCoupling, z: Tensor) -> Pair:
    z_a, z_b = z.split(self.sizes, dim=1)
    s, _ = self.scale_and_shift(z_a)
    return torch.cat([z_a, z_b * (-s).exp()], dim=1), -s.sum(dim=(1, 2, 3))


def each_batch_again(self: ActNorm, x: Tensor) -> Pair:
    """Batch normalisation: what an image is worth depends on its neighbours."""
    self._initialise(x)
    return LOCAL[ActNorm](self, x)


LOCAL = {kind: kind.local for kind in (ActNorm, AffineCoupling)}

MUTANTS: dict[str, tuple[type[FlowLayer], str, Callable[..., Any]]] = {
    "log-det without H and W": (FlowLayer, "forward", without_positions),
    "log-det with the wrong sign": (AffineCoupling, "local", wrong_sign),
    "wrong half transformed": (AffineCoupling, "local", wrong_half),
    "permutation not inverted": (Permutation, "inverse", not_inverted),
    "ActNorm's log-det forgotten": (ActNorm, "_shares", forgotten),
    "Whitening's log-det forgotten": (Whitening, "_shares", forgotten),
    "clamp ignored": (AffineCoupling, "scale_and_shift", unclamped),
    "exp forgotten": (AffineCoupling, "local", no_exponential),
    "shift not undone": (AffineCoupling, "inverse", shift_kept),
    "ActNorm follows every batch": (ActNorm, "local", each_batch_again),
}


def broken_promises() -> set[str]:
    """Return the names of the checks that fail for a flow with every kind of layer."""
    torch.manual_seed(0)
    flow = randomise(Flow(5, steps=2, whiten=True))
    broken = set()
    for part in (flow, *flow.layers[1].layers):  # the whole, and a coupling by itself
        for check in CHECKS:
            try:
                check(part, torch.randn(3, 5, 3, 4, dtype=torch.float64))
            except AssertionError:
                broken.add(check.__name__)
    return broken


def test_the_real_layers_keep_every_promise():
    assert broken_promises() == set()


@pytest.mark.parametrize("name", MUTANTS)
def test_a_planted_mistake_is_caught(name, monkeypatch):
    layer, method, mistake = MUTANTS[name]
    monkeypatch.setattr(layer, method, mistake)
    assert broken_promises(), f"nothing notices: {name}"
