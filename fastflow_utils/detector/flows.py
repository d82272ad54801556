r"""2-D normalizing flows: invertible layers for feature maps, with their log-determinants.

A flow is an invertible map :math:`z = f(x)`. If z has the density :math:`p_Z`, then x has

.. math:: \log p_X(x) = \log p_Z(f(x)) + \log\left|\det\frac{\partial z}{\partial x}\right|.

Every layer here keeps one contract. With x and z of shape (B, C, H, W) and ``log_det`` of shape
(B,), in nats, summed over C, H and W:

- ``forward(x)`` returns ``(z, log_det)`` with ``log_det`` = log|det dz/dx|;
- ``inverse(z)`` returns ``(x, log_det)`` with ``log_det`` = log|det dx/dz|, so the two cancel;
- ``local(x)`` returns ``(z, shares)``, where ``shares`` (B, 1, H, W) say how much each position
  contributes to ``log_det``: they sum to it exactly. A layer defines ``local`` and ``inverse``.

With a standard normal z, every layer is a density: ``log_prob(x)``, ``local_log_prob(x)`` and
``sample(shape)``, named as in torch.distributions and zuko, are written once, in
:class:`FlowLayer`.

The share of position i is log|det dz_i/dx_i|, the determinant of its own C x C block of the
Jacobian. That is a fact for every layer here, and for chains in which one layer at most looks at
neighbours. Longer chains add up the shares of their layers: the total is exact, but the split into
positions is then a convention, by which each layer counts where it acts.

Any H x W works, and may change from call to call: nothing in a layer depends on the position.
:class:`PositionNorm` alone does, and keeps to the H x W that it was made for.

References:
    - Yu et al., FastFlow: Unsupervised Anomaly Detection and Localization via 2D Normalizing
      Flows, 2021 (arXiv 2111.07677): 2-D coupling layers on feature maps.
    - Dinh et al., Density estimation using Real NVP, 2016 (arXiv 1605.08803): affine coupling.
    - Kingma & Dhariwal, Glow, 2018 (arXiv 1807.03039): ActNorm and its data initialisation.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import cast, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastflow_utils.detector.choices import Kernels
from fastflow_utils.errors import FastFlowError

__all__ = [
    "ActNorm",
    "AffineCoupling",
    "Flow",
    "FlowLayer",
    "FlowOptions",
    "FlowStep",
    "Kernels",
    "Permutation",
    "PositionNorm",
    "Subnet",
    "Whitening",
    "conv_subnet",
    "standard_normal",
]

Subnet = Callable[[int, int, int, int], nn.Module]
"""Builds a coupling's subnet from its input, hidden and output channels and its kernel size."""


@dataclass(frozen=True)
class FlowOptions:
    """What a flow is made of, whatever the number of its channels.

    Attributes:
        steps: How many flow steps.
        kernels: "3-1" (3x3 and 1x1 in turn, starting with 3x3), "3x3" or "1x1".
        hidden_ratio: Hidden channels of each subnet for each channel that it reads.
        clamp: Bound on each coupling's log-scale.
        whiten: Begin with :class:`Whitening`.
        position: Before that, standardise each position by itself: :class:`PositionNorm`.

    Raises:
        FastFlowError: If a value is out of range.

    Example:
        >>> FlowOptions(kernels="5x5")
        Traceback (most recent call last):
        fastflow_utils.errors.FastFlowError: kernels='5x5': expected one of 3-1, 3x3, 1x1
    """

    steps: int = 8
    kernels: Kernels = "3-1"
    hidden_ratio: float = 1.0
    clamp: float = 2.0
    whiten: bool = True
    position: bool = False

    def __post_init__(self) -> None:
        if self.kernels not in get_args(Kernels):
            raise FastFlowError(
                f"kernels='{self.kernels}': expected one of {', '.join(get_args(Kernels))}"
            )
        if self.steps < 0:
            raise FastFlowError(f"steps={self.steps}: expected 0 or more")
        for name, most in {"hidden_ratio": 100, "clamp": 100}.items():  # exp(clamp) is a number
            value = getattr(self, name)
            if not 0 < value <= most:
                raise FastFlowError(f"{name}={value}: expected a number above 0, at most {most}")

    def kernel_size(self, step: int) -> int:
        """Return the kernel size of a step's subnet; steps are counted from 0."""
        sizes = {"3-1": (3, 1), "3x3": (3,), "1x1": (1,)}[self.kernels]
        return sizes[step % len(sizes)]


def standard_normal(z: Tensor) -> Tensor:
    r"""Return the log-density of N(0, I) at each position, in nats, summed over its channels.

    .. math:: -\tfrac12 \lVert z_i \rVert^2 - \tfrac C2 \log 2\pi

    Args:
        z: (B, C, H, W).

    Returns:
        (B, 1, H, W).

    Example:
        >>> standard_normal(torch.zeros(1, 2, 1, 1)).item()  # -log(2 pi)
        -1.8378770351409912
    """
    energy = (0.5 * z**2).sum(dim=1, keepdim=True)
    return -energy - 0.5 * z.shape[1] * math.log(2 * math.pi)


class FlowLayer(nn.Module):
    """The contract of an invertible layer (see the module's docstring)."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return z = f(x) and log|det dz/dx| of shape (B,)."""
        z, shares = self.local(x)
        return z, shares.sum(dim=(1, 2, 3))

    def local(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return z = f(x) and each position's share of the log-determinant, (B, 1, H, W)."""
        raise NotImplementedError

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return x = f^-1(z) and log|det dx/dz| of shape (B,)."""
        raise NotImplementedError

    def local_log_prob(self, x: Tensor) -> Tensor:
        """Return each position's contribution to :meth:`log_prob`, (B, 1, H, W), in nats."""
        z, shares = self.local(x)
        return standard_normal(z) + shares

    def log_prob(self, x: Tensor) -> Tensor:
        r"""Return :math:`\log p_X(x)` for a standard normal z: (B,), in nats.

        Example:
            >>> identity = ActNorm(1).eval()
            >>> identity.log_prob(torch.zeros(1, 1, 1, 1)).item()  # -log(2 pi) / 2
            -0.9189385175704956
        """
        return self.local_log_prob(x).sum(dim=(1, 2, 3))

    @torch.no_grad()
    def sample(self, shape: Sequence[int], generator: torch.Generator | None = None) -> Tensor:
        """Draw x with the density of :meth:`log_prob`: a standard normal z, inverted.

        Args:
            shape: (B, C, H, W).
            generator: Where the randomness comes from. Default: torch's global generator.

        Example:
            >>> Flow(4, FlowOptions(steps=2)).sample((3, 4, 8, 8)).shape
            torch.Size([3, 4, 8, 8])
        """
        tensors = [t for t in (*self.parameters(), *self.buffers()) if t.is_floating_point()]
        like = tensors[0] if tensors else torch.empty(0)
        z = torch.randn(*shape, generator=generator, dtype=like.dtype, device=like.device)
        return self.inverse(z)[0]


class ActNorm(FlowLayer):
    r"""Scale and shift each channel: :math:`z_c = \exp(s_c)\, x_c + t_c`.

    log|det dz/dx| = H W sum_c s_c.

    The first batch seen in training mode sets s and t so that each channel of z has mean 0 and
    variance 1; from then on they are ordinary parameters.

    Args:
        channels: C.

    Example:
        >>> z, _ = ActNorm(4)(5 + 3 * torch.randn(8, 4, 16, 16))
        >>> bool(z.mean().abs() < 1e-5), round(z.std().item(), 3)
        (True, 1.0)
    """

    initialised: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.zeros(channels, 1, 1))
        self.shift = nn.Parameter(torch.zeros(channels, 1, 1))
        self.register_buffer("initialised", torch.tensor(False))

    def local(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return z and sum_c s_c everywhere; the first call in training mode initialises."""
        if self.training and not self.initialised:
            self._initialise(x)
        return x * self.log_scale.exp() + self.shift, self._shares(x)

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return x = (z - t) exp(-s) and its log-determinant."""
        return (z - self.shift) * (-self.log_scale).exp(), -self._shares(z).sum(dim=(1, 2, 3))

    def _shares(self, x: Tensor) -> Tensor:
        return self.log_scale.sum().expand(len(x), 1, *x.shape[2:])

    @torch.no_grad()
    def _initialise(self, x: Tensor) -> None:
        std, mean = torch.std_mean(x, dim=(0, 2, 3), keepdim=True, correction=0)
        scale = 1 / std[0].clamp_min(1e-6)  # a channel that never varies must not explode
        self.log_scale.copy_(scale.log())
        self.shift.copy_(-mean[0] * scale)
        self.initialised.fill_(True)


class Whitening(FlowLayer):
    r"""Remove the channels' means, scales and correlations: :math:`z_i = W (x_i - \mu)`.

    .. math:: W = (\Sigma + \epsilon\,\bar\lambda I)^{-1/2}

    with the channels' mean mu and covariance Sigma over all positions i, and their mean variance
    lambda. log|det dz/dx| = H W log|det W|. Of all linear maps that whiten, this symmetric one
    changes x least (ZCA). epsilon keeps directions in which nothing varies from exploding.

    The first batch seen in training mode sets mu and W, which are not trained. What is Gaussian
    about the features is known from then on, and the flow's steps learn the rest. Couplings learn
    correlations too, but take many steps of gradient descent for what one eigendecomposition says.

    Args:
        channels: C.
        epsilon: Share of the mean variance that is added to each.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> x = torch.einsum("dc,bchw->bdhw", torch.rand(3, 3), torch.randn(8, 3, 16, 16))
        >>> z, _ = Whitening(3, epsilon=0)(x)
        >>> torch.allclose(z.transpose(0, 1).flatten(1).cov(correction=0), torch.eye(3), atol=1e-4)
        True
    """

    mean: Tensor
    matrix: Tensor
    initialised: Tensor

    def __init__(self, channels: int, epsilon: float = 0.01) -> None:
        super().__init__()
        self.epsilon = epsilon
        self.register_buffer("mean", torch.zeros(channels, 1, 1))
        self.register_buffer("matrix", torch.eye(channels))
        self.register_buffer("initialised", torch.tensor(False))

    def local(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return z and log|det W| everywhere; the first call in training mode initialises."""
        if self.training and not self.initialised:
            self._initialise(x)
        z = F.conv2d(x - self.mean, self.matrix[..., None, None])
        return z, self._shares(x)

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return x = W^-1 z + mu and its log-determinant."""
        x = F.conv2d(z, self.matrix.inverse()[..., None, None]) + self.mean
        return x, -self._shares(z).sum(dim=(1, 2, 3))

    def _shares(self, x: Tensor) -> Tensor:
        return self.matrix.slogdet().logabsdet.expand(len(x), 1, *x.shape[2:])

    @torch.no_grad()
    def _initialise(self, x: Tensor) -> None:
        positions = x.transpose(0, 1).flatten(1).double()
        self.set_moments(positions.mean(1), positions.cov(correction=0))

    @torch.no_grad()
    def set_moments(self, mean: Tensor, covariance: Tensor) -> None:
        """Whiten what has this mean (C,) and covariance (C, C)."""
        variances, directions = torch.linalg.eigh(covariance)
        variances = (variances + self.epsilon * variances.mean()).clamp_min(1e-12)
        self.mean.copy_(mean[:, None, None])
        self.matrix.copy_(directions * variances.rsqrt() @ directions.T)
        self.initialised.fill_(True)


class PositionNorm(FlowLayer):
    r"""Standardise each channel c at each position i by itself.

    .. math:: z_{ci} = \frac{x_{ci} - \mu_{ci}}{\sigma_{ci}}

    log|det dz/dx| = -sum_ci log sigma_ci; the share of position i is its part of the sum. So the
    flow knows where it is: what is normal at one place of an aligned object may not be at
    another. No other layer can tell, for convolutions do the same everywhere.

    Mean and variance of few images at one position are uncertain, and an object is never twice
    at quite the same place. So both are of a neighbourhood: with :math:`\langle\cdot\rangle` the
    mean over the n images and a Gaussian window of one position's standard deviation,

    .. math:: \mu_{ci} = \langle x_{ci} \rangle, \qquad \sigma_{ci}^2 =
        \frac{n\,(\langle x_{ci}^2 \rangle - \mu_{ci}^2) + \nu\,s_c^2}{n + \nu}

    where s_c^2, the mean of that difference over all positions, counts as much as nu = 10 images.
    Fewer than 100 images say too little: what they have in common by chance would be taken for
    the place's own (on the sample set, with 54 images, it cost 0.01 of image AUROC), so mu and
    sigma are those of the channel then, everywhere.

    The first batch seen in training mode sets mu and sigma, or :meth:`measure` sets them from
    any number of batches. They are not trained.

    Args:
        channels: C.
        size: H and W, from then on those of every x.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> x = torch.randn(200, 2, 6, 6)
        >>> x[:, 0, :, 3:] += 10  # what is normal differs from place to place
        >>> z, _ = PositionNorm(2, (6, 6))(x)
        >>> bool(z[..., 0].mean().abs() < 0.1), bool(z[..., 5].mean().abs() < 0.1)
        (True, True)
    """

    PRIOR = 10
    LEAST = 100

    few: bool | None = None
    """Whether to tell no positions apart. Default: fewer images than LEAST decide it."""

    mean: Tensor
    log_std: Tensor
    initialised: Tensor

    def __init__(self, channels: int, size: tuple[int, int]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels, *size))
        self.register_buffer("log_std", torch.zeros(channels, *size))
        self.register_buffer("initialised", torch.tensor(False))

    def local(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return z and -sum_c log sigma_ci; the first call in training mode initialises."""
        self._check(x)
        if self.training and not self.initialised:
            self.measure([x])
        return (x - self.mean) * (-self.log_std).exp(), self._shares(x)

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return x = sigma z + mu and its log-determinant."""
        self._check(z)
        return z * self.log_std.exp() + self.mean, -self._shares(z).sum(dim=(1, 2, 3))

    @torch.no_grad()
    def measure(self, batches: Iterable[Tensor]) -> None:
        """Set mu and sigma from batches (B, C, H, W) of normal features, however they are cut."""
        count, first = 0, torch.zeros_like(self.mean, dtype=torch.float64)
        second = torch.zeros_like(first)
        for x in batches:
            self._check(x)
            count += len(x)
            first += x.double().sum(0)
            second += x.double().square().sum(0)
        if count == 0:
            raise FastFlowError("no images to measure positions on: expected at least one")
        few = count < self.LEAST if self.few is None else self.few
        around = _everywhere if few else _window
        mean = around(first / count)
        variance = (around(second / count) - mean**2).clamp_min(0)
        whole = variance.mean((1, 2), keepdim=True)
        variance = (count * variance + self.PRIOR * whole) / (count + self.PRIOR)
        self.mean.copy_(mean)
        least = (1e-6 * whole.mean()).clamp_min(1e-12)  # of a channel in which nothing happens
        self.log_std.copy_(0.5 * variance.clamp_min(least).log())
        self.initialised.fill_(True)

    def _shares(self, x: Tensor) -> Tensor:
        return -self.log_std.sum(0, keepdim=True).expand(len(x), 1, *self.mean.shape[1:])

    def _check(self, x: Tensor) -> None:
        if x.shape[1:] != self.mean.shape:
            expected = ", ".join(map(str, self.mean.shape))
            raise FastFlowError(
                f"features {tuple(x.shape)}: expected (B, {expected}), which this flow's "
                "PositionNorm was made for; use images of that size, or a flow with position=False"
            )


def _window(x: Tensor) -> Tensor:
    """Return the mean of x (C, H, W) over a Gaussian window of one position's deviation."""
    steps = torch.arange(-3, 4, dtype=x.dtype, device=x.device)
    kernel = torch.exp(-(steps**2) / 2)
    kernel = (kernel / kernel.sum()).view(1, 1, 1, -1)
    x = F.pad(x[:, None], (3, 3, 3, 3), mode="replicate")
    return F.conv2d(F.conv2d(x, kernel), kernel.mT)[:, 0]


def _everywhere(x: Tensor) -> Tensor:
    """Return the mean over all positions, at each (C, H, W)."""
    return x.mean((1, 2), keepdim=True).expand_as(x)


class Permutation(FlowLayer):
    r"""Shuffle the channels: :math:`z_c = x_{\pi(c)}`, with a fixed random permutation.

    log|det dz/dx| = 0. It makes the next coupling split the channels another way.

    Args:
        channels: C.
        generator: Where the randomness comes from. Default: torch's global generator.

    Example:
        >>> x = torch.rand(1, 6, 2, 2)
        >>> permutation = Permutation(6)
        >>> torch.equal(permutation.inverse(permutation(x)[0])[0], x)
        True
    """

    order: Tensor

    def __init__(self, channels: int, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.register_buffer("order", torch.randperm(channels, generator=generator))

    def local(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the permuted channels and zeros."""
        return x[:, self.order], x.new_zeros(len(x), 1, *x.shape[2:])

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return the channels in their old order and zeros."""
        return z[:, self.order.argsort()], z.new_zeros(len(z))


class AffineCoupling(FlowLayer):
    r"""Transform half of the channels by what the other half says.

    .. math:: z_a = x_a, \qquad z_b = x_b \odot \exp(s(x_a)) + t(x_a)

    s and t come from one subnet, which may be any network: it is never inverted. The Jacobian is
    triangular, so log|det dz/dx| = sum s(x_a), over channels and positions. A position's share is
    the sum over its channels: s may have looked at neighbours, but it scales this position's x_b,
    and given x_a the Jacobian is diagonal in x_b. The soft clamp
    :math:`s = \alpha \tanh(\tilde s / \alpha)` keeps |s| below alpha; near 0 it changes nothing.

    The last layer of :func:`conv_subnet` starts at zero: the coupling starts as the identity.

    Args:
        channels: C >= 2; x_a is the first half (the larger, if C is odd).
        kernel_size: Of the subnet's two convolutions, odd.
        hidden_ratio: Hidden channels of the subnet for each channel of x_a.
        clamp: alpha.
        subnet: Builds the subnet. Default: :func:`conv_subnet`.

    Raises:
        FastFlowError: If there are fewer than two channels to split.

    Example:
        >>> coupling = AffineCoupling(6, kernel_size=3)
        >>> z, log_det = coupling(torch.rand(2, 6, 5, 7))
        >>> z.shape, log_det  # the identity, until it is trained
        (torch.Size([2, 6, 5, 7]), tensor([0., 0.], grad_fn=<SumBackward1>))
    """

    def __init__(
        self,
        channels: int,
        kernel_size: int = 3,
        hidden_ratio: float = 1.0,
        clamp: float = 2.0,
        subnet: Subnet | None = None,
    ) -> None:
        super().__init__()
        if channels < 2:
            raise FastFlowError(
                f"a coupling splits the channels: channels={channels}, expected 2 or more"
            )
        self.sizes = (channels - channels // 2, channels // 2)  # of x_a and x_b
        self.clamp = clamp
        hidden = max(1, int(self.sizes[0] * hidden_ratio))
        build = subnet or conv_subnet
        self.subnet = build(self.sizes[0], hidden, 2 * self.sizes[1], kernel_size)

    def local(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return z and, for each position, the sum of s over the channels."""
        x_a, x_b = x.split(self.sizes, dim=1)
        s, t = self.scale_and_shift(x_a)
        return torch.cat([x_a, x_b * s.exp() + t], dim=1), s.sum(dim=1, keepdim=True)

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return x and log|det dx/dz| = -sum s; the subnet runs forward here too, on z_a = x_a."""
        z_a, z_b = z.split(self.sizes, dim=1)
        s, t = self.scale_and_shift(z_a)
        return torch.cat([z_a, (z_b - t) * (-s).exp()], dim=1), -s.sum(dim=(1, 2, 3))

    def scale_and_shift(self, x_a: Tensor) -> tuple[Tensor, Tensor]:
        """Return the clamped log-scale s and the shift t for x_b, each with the shape of x_b."""
        s, t = (part.to(x_a.dtype) for part in self.subnet(x_a).chunk(2, dim=1))  # from autocast's
        return self.clamp * torch.tanh(s / self.clamp), t


def conv_subnet(inputs: int, hidden: int, outputs: int, kernel_size: int) -> nn.Sequential:
    """Return Conv - ReLU - Conv that keeps H x W; its last layer is zero.

    Example:
        >>> conv_subnet(4, 8, 6, kernel_size=3)(torch.rand(1, 4, 5, 5)).abs().max().item()
        0.0
    """
    last = nn.Conv2d(hidden, outputs, kernel_size, padding="same")
    nn.init.zeros_(last.weight)
    if last.bias is not None:
        nn.init.zeros_(last.bias)
    return nn.Sequential(nn.Conv2d(inputs, hidden, kernel_size, padding="same"), nn.ReLU(), last)


class _Chain(FlowLayer):
    """Layers one after the other: log-determinants add up."""

    def __init__(self, layers: Iterable[FlowLayer]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def local(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Apply every layer from the first to the last."""
        total = x.new_zeros(len(x), 1, *x.shape[2:])
        for layer in self.layers:
            x, shares = cast(FlowLayer, layer).local(x)
            total = total + shares
        return x, total

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Undo every layer from the last to the first."""
        total = z.new_zeros(len(z))
        for layer in reversed(self.layers):
            z, log_det = cast(FlowLayer, layer).inverse(z)
            total = total + log_det
        return z, total


class FlowStep(_Chain):
    """One step of the flow: ActNorm, permutation, affine coupling.

    Args:
        channels: C >= 2.
        kernel_size: Of the coupling's subnet.
        options: The coupling's ``hidden_ratio`` and ``clamp``.
        subnet: Builds the coupling's subnet. Default: :func:`conv_subnet`.
        generator: For the permutation.

    Example:
        >>> step = FlowStep(4, kernel_size=1)
        >>> x = torch.randn(2, 4, 3, 3)
        >>> torch.allclose(step.inverse(step(x)[0])[0], x, atol=1e-5)
        True
    """

    def __init__(
        self,
        channels: int,
        kernel_size: int = 3,
        options: FlowOptions = FlowOptions(),
        *,
        subnet: Subnet | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(
            [
                ActNorm(channels),
                Permutation(channels, generator),
                AffineCoupling(channels, kernel_size, options.hidden_ratio, options.clamp, subnet),
            ]
        )


class Flow(_Chain):
    """A chain of flow steps, after what standardises if asked for: x <-> z for one feature map.

    Args:
        channels: C >= 2.
        options: Steps, kernels, hidden channels, clamp, whitening, position.
        size: H and W of the features, for a flow that knows positions.
        subnet: Builds each coupling's subnet. Default: :func:`conv_subnet`.
        generator: For the permutations.

    Example:
        >>> flow = Flow(8, FlowOptions(steps=4))
        >>> z, log_det = flow(torch.randn(2, 8, 16, 16))
        >>> z.shape, log_det.shape
        (torch.Size([2, 8, 16, 16]), torch.Size([2]))
    """

    def __init__(
        self,
        channels: int,
        options: FlowOptions = FlowOptions(),
        *,
        size: tuple[int, int] | None = None,
        subnet: Subnet | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        first: list[FlowLayer] = []
        if options.position:
            if size is None:
                raise FastFlowError("a flow that knows positions needs the features' size=(H, W)")
            first.append(PositionNorm(channels, size))
        if options.whiten:
            first.append(Whitening(channels))
        steps = (
            FlowStep(channels, options.kernel_size(i), options, subnet=subnet, generator=generator)
            for i in range(options.steps)
        )
        super().__init__([*first, *steps])

    def prepare(self, batches: Iterable[Tensor]) -> None:
        """Let :class:`PositionNorm`, if there is one, measure all training images.

        What it has measured before stays as it is, for the other layers have learnt to follow it.

        Args:
            batches: (B, C, H, W) each; read only if they are needed.
        """
        first = next(iter(self.layers), None)
        if isinstance(first, PositionNorm) and not first.initialised:
            first.measure(batches)
