"""What every invertible layer promises, as functions: tests call them, and planted mutants too.

Each check raises AssertionError where the promise is broken. In float64 and with random, non-zero
weights: couplings start as the identity, which would hide a wrong log-determinant, and float32
would hide a small error in a large tolerance.
"""

import torch
from torch import Tensor

from fastflow_utils.flows import ActNorm, AffineCoupling, FlowLayer, Whitening

EXACT = {"rtol": 1e-9, "atol": 1e-9}


def randomise(layer: FlowLayer, seed: int = 0) -> FlowLayer:
    """Give everything a random, non-zero value, so that no data initialisation takes place."""
    generator = torch.Generator().manual_seed(seed)
    layer = layer.double().eval()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(0.4 * torch.randn(parameter.shape, generator=generator))
        for module in layer.modules():
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


def images_do_not_mix(layer: FlowLayer, x: Tensor) -> None:
    z, log_det = layer(x)
    alone, log_det_alone = layer(x[-1:])
    torch.testing.assert_close(z[-1:], alone, **EXACT)
    torch.testing.assert_close(log_det[-1:], log_det_alone, **EXACT)


def every_parameter_gets_a_gradient(layer: FlowLayer, x: Tensor) -> None:
    if not list(layer.parameters()):
        return
    z, log_det = layer(x)
    layer.zero_grad()
    (0.5 * z.square().sum() - log_det.sum()).backward()
    for name, parameter in layer.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name


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
    images_do_not_mix,
    every_parameter_gets_a_gradient,
    first_half_of_a_coupling_is_left_alone,
    clamp_bounds_the_log_scale,
    actnorm_starts_from_the_first_batch,
]
