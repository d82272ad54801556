"""What every invertible layer promises, as functions: tests call them, and planted mutants too.

Each check raises AssertionError where the promise is broken. In float64 and with random, non-zero
weights: couplings start as the identity, which would hide a wrong log-determinant, and float32
would hide a small error in a large tolerance.
"""

import copy
from typing import cast

import torch
from torch import Tensor, nn

from fastflow_utils.detector.flows import (
    ActNorm,
    AffineCoupling,
    FlowLayer,
    PositionNorm,
    Whitening,
)

EXACT = {"rtol": 1e-9, "atol": 1e-9}


def randomise(layer: FlowLayer, seed: int = 0, spread: float = 0.4) -> FlowLayer:
    """Give everything a random, non-zero value, so that no data initialisation takes place."""
    generator = torch.Generator().manual_seed(seed)
    layer = layer.double().eval()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(spread * torch.randn(parameter.shape, generator=generator))
        for module in layer.modules():
            if isinstance(module, PositionNorm):
                module.mean.copy_(torch.randn(module.mean.shape, generator=generator))
                module.log_std.copy_(spread * torch.randn(module.mean.shape, generator=generator))
            if isinstance(module, Whitening):
                module.mean.copy_(torch.randn(module.mean.shape, generator=generator))
                noise = torch.randn(module.matrix.shape, generator=generator)
                module.matrix.copy_(torch.eye(len(noise)) + 0.2 * noise)
    return layer


def inverse_undoes_forward(layer: FlowLayer, x: Tensor) -> None:
    torch.testing.assert_close(layer.inverse(layer(x)[0])[0], x, **EXACT)


def forward_undoes_inverse(layer: FlowLayer, x: Tensor) -> None:
    """A sample, x = f^-1(z), has the latent that it was drawn from."""
    torch.testing.assert_close(layer(layer.inverse(x)[0])[0], x, **EXACT)


def log_det_is_that_of_the_jacobian(layer: FlowLayer, x: Tensor) -> None:
    _, log_det = layer(x)
    assert log_det.shape == (len(x),)
    for i in range(len(x)):
        jacobian = torch.autograd.functional.jacobian(lambda v: layer(v)[0], x[i : i + 1])
        expected = torch.linalg.slogdet(jacobian.reshape(x[i].numel(), -1)).logabsdet
        torch.testing.assert_close(log_det[i], expected, **EXACT)


def log_det_of_the_inverse_cancels(layer: FlowLayer, x: Tensor) -> None:
    z, log_det = layer(x)
    torch.testing.assert_close(layer.inverse(z)[1], -log_det, **EXACT)


def shares_sum_to_the_log_det(layer: FlowLayer, x: Tensor) -> None:
    z, shares = layer.local(x)
    assert shares.shape == (len(x), 1, *x.shape[2:])
    expected_z, log_det = layer(x)
    torch.testing.assert_close(z, expected_z, **EXACT)
    torch.testing.assert_close(shares.sum((1, 2, 3)), log_det, **EXACT)


def shares_are_of_each_positions_own_block(layer: FlowLayer, x: Tensor) -> None:
    """A position's share is log|det dz_i/dx_i|, where one layer at most looks at neighbours."""
    for part in layer.modules():
        if isinstance(part, FlowLayer) and sum(map(looks_at_neighbours, part.modules())) <= 1:
            jacobian = torch.autograd.functional.jacobian(lambda v: part(v)[0], x[:1])  # noqa: B023
            blocks = torch.einsum("chwdhw->hwcd", jacobian[0, :, :, :, 0])
            _, shares = part.local(x[:1])
            torch.testing.assert_close(shares[0, 0], blocks.slogdet().logabsdet, **EXACT)


def looks_at_neighbours(module: nn.Module) -> bool:
    return isinstance(module, AffineCoupling) and module.subnet[0].kernel_size != (1, 1)


def images_do_not_mix(layer: FlowLayer, x: Tensor) -> None:
    z, log_det = layer(x)
    for i in range(len(x)):
        alone, log_det_alone = layer(x[i : i + 1])
        torch.testing.assert_close(z[i : i + 1], alone, **EXACT)
        torch.testing.assert_close(log_det[i : i + 1], log_det_alone, **EXACT)


def every_parameter_gets_a_gradient(layer: FlowLayer, x: Tensor) -> None:
    layer.zero_grad()
    z, log_det = layer(x.clone().requires_grad_())
    (0.5 * z.square().sum() - log_det.sum()).backward()
    for name, parameter in layer.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name


def gradients_are_those_of_differences(layer: FlowLayer, x: Tensor) -> None:
    """Nothing on the way from x and the parameters to z and log_det is cut out of the graph.

    With a smooth function for each ReLU: across its kink, a difference is no gradient.
    """
    layer = copy.deepcopy(layer)
    for coupling in [part for part in layer.modules() if isinstance(part, AffineCoupling)]:
        cast(nn.Sequential, coupling.subnet)[1] = nn.Softplus()
    names = [name for name, _ in layer.named_parameters()]

    def outputs(x: Tensor, *parameters: Tensor) -> tuple[Tensor, Tensor]:
        return torch.func.functional_call(layer, dict(zip(names, parameters, strict=True)), x)

    inputs = [value.detach().clone().requires_grad_() for value in (x, *layer.parameters())]
    assert torch.autograd.gradcheck(outputs, inputs, fast_mode=True, raise_exception=False)


def first_half_of_a_coupling_is_left_alone(layer: FlowLayer, x: Tensor) -> None:
    for module in layer.modules():
        if isinstance(module, AffineCoupling):
            half = module.sizes[0]
            z, _ = module(x)
            assert torch.equal(z[:, :half], x[:, :half])
            assert not torch.isclose(z[:, half:], x[:, half:]).all()


def clamp_bounds_the_log_scale(layer: FlowLayer, x: Tensor) -> None:
    for module in layer.modules():
        if isinstance(module, AffineCoupling):
            s, _ = module.scale_and_shift(1e6 * x[:, : module.sizes[0]])
            assert s.abs().max() <= module.clamp


def actnorm_starts_from_the_first_batch(layer: FlowLayer, x: Tensor) -> None:
    for module in layer.modules():
        if isinstance(module, ActNorm):
            fresh = type(module)(x.shape[1]).double().train()
            batch = 3 + 2 * torch.randn(16, *x.shape[1:], dtype=x.dtype)
            z, _ = fresh(batch)
            torch.testing.assert_close(z.mean((0, 2, 3)), torch.zeros_like(z[0, :, 0, 0]), **EXACT)
            torch.testing.assert_close(
                z.var((0, 2, 3), correction=0), torch.ones_like(z[0, :, 0, 0]), **EXACT
            )


CHECKS = [
    inverse_undoes_forward,
    forward_undoes_inverse,
    log_det_is_that_of_the_jacobian,
    log_det_of_the_inverse_cancels,
    shares_sum_to_the_log_det,
    shares_are_of_each_positions_own_block,
    images_do_not_mix,
    every_parameter_gets_a_gradient,
    gradients_are_those_of_differences,
    first_half_of_a_coupling_is_left_alone,
    clamp_bounds_the_log_scale,
    actnorm_starts_from_the_first_batch,
]
