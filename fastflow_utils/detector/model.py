"""FastFlow: one flow for each feature map of a frozen backbone, and its likelihoods."""

import threading
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Self, cast

import torch
from einops import reduce
from torch import Tensor, nn

from fastflow_utils.compute import Precision, check_seed, resolve_precision
from fastflow_utils.data.mvtec import Pictures
from fastflow_utils.data.sizes import height_width
from fastflow_utils.detector.backbones import Backbone
from fastflow_utils.detector.detector import Detector
from fastflow_utils.detector.features import Features, LearntPictures
from fastflow_utils.detector.flows import Flow, FlowLayer, FlowOptions, Subnet
from fastflow_utils.detector.folding import FoldedFlow, NotFoldableError
from fastflow_utils.errors import FastFlowError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["FastFlow", "FlowDetector"]

_SEEDED = threading.Lock()


class FlowDetector(Detector):
    r"""A detector by likelihoods, whatever form its flows have.

    :class:`FastFlow` is the one that can be trained; :meth:`FastFlow.folded` makes the one for
    inference of it.

    Args:
        backbone: The frozen network.
        flows: One for each level of the backbone.
        smoothing: Standard deviation of the Gaussian blur of the anomaly map, in pixels.
        top: Share of the pixels whose mean is the image score.
        precision: Number format of the subnets' convolutions in training and in inference.
    """

    method = "fastflow"

    def __init__(
        self,
        backbone: Backbone,
        flows: Iterable[FlowLayer],
        *,
        smoothing: float,
        top: float,
        precision: Precision,
    ) -> None:
        super().__init__(backbone, maps=len(backbone.channels), smoothing=smoothing, top=top)
        self.flows = nn.ModuleList(flows)
        self.precision: Precision = precision

    def maps(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Return :meth:`nll_maps`."""
        return self.nll_maps(features)

    def forward(self, features: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
        """Return ``(z, log_det)`` for each level's features (B, C_l, H_l, W_l)."""
        self._check_levels(features)
        return [flow(h) for flow, h in zip(self.flows, features, strict=True)]

    def nll_maps(self, features: Sequence[Tensor]) -> list[Tensor]:
        r"""Return each position's contribution to the nll, in nats per dimension of the position.

        .. math:: n_l(i) = \frac{1}{C_l} \left( \tfrac12 \lVert z_i \rVert^2
                  + \tfrac{C_l}{2} \log 2\pi - d_i \right)

        :math:`d_i` is position i's share of log|det dz/dh|. Published code leaves it out of the
        map, which then forgets how precisely the flow knows this position: an error of the same z
        is worse where normal images hardly vary.

        Args:
            features: One (B, C_l, H_l, W_l) for each level.

        Returns:
            One (B, 1, H_l, W_l) for each level; higher is more anomalous.
        """
        self._check_levels(features)
        return [self.nll_map(level, h) for level, h in enumerate(features)]

    def nll_map(self, level: int, h: Tensor) -> Tensor:
        """Return one level's map (B, 1, H_l, W_l) of :meth:`nll_maps`."""
        return -cast(FlowLayer, self.flows[level]).local_log_prob(h) / h.shape[1]

    def nll(self, features: Sequence[Tensor]) -> Tensor:
        r"""Return the negative log-likelihood of each level, in nats per dimension.

        .. math:: -\frac{1}{D} \log p(h) = \frac{1}{D} \left( \tfrac12 \lVert z \rVert^2
                  + \tfrac D2 \log 2\pi - \log|\det \partial z / \partial h| \right)

        with D = C_l H_l W_l: the mean of :meth:`nll_maps` over positions. It is a density's, so it
        depends on the scale of the features and may well be negative: it compares for the same
        features only.

        Args:
            features: One (B, C_l, H_l, W_l) for each level.

        Returns:
            (B, L).
        """
        maps = self.nll_maps(features)
        return torch.stack([reduce(m, "b 1 h w -> b", "mean") for m in maps], dim=1)


class FastFlow(FlowDetector):
    r"""The density of normal images' features, and how far an image is from it.

    For each level l of the backbone's pyramid, a flow :math:`f_l` maps the features to a latent
    :math:`z_l = f_l(h_l)` of the same shape, with :math:`z_l \sim N(0, I)` for normal images.
    Where the image is anomalous, z is far from 0.

    What comes before the flow's steps makes the features standard: :class:`PositionNorm`, where
    asked for, each position by itself, and whitening all together, so that channels are
    uncorrelated, too. Both account for it. Published code has a LayerNorm with a trainable scale
    there and leaves its log-determinant out of the loss, which then falls without bound as the
    scale shrinks.

    Its flows are the readable layers, which learn, with or without gradients. To evaluate and to
    predict there is the inference form, :meth:`folded`.

    Args:
        backbone: The frozen network.
        flow: What each level's flow is made of.
        smoothing: Standard deviation of the Gaussian blur of the anomaly map, in pixels.
        top: Share of the pixels whose mean is the image score.
        precision: Number format of the subnets' convolutions. Default: what
            :func:`~fastflow_utils.compute.resolve_precision` says of this machine.
        seed: Fixes the permutations and the initial weights.
        subnet: Builds each coupling's subnet. Default:
            :func:`~fastflow_utils.detector.flows.conv_subnet`.

    Raises:
        FastFlowError: If the blur is wider than the image, or a value is out of range.

    Example:
        >>> backbone = Backbone("efficientnet_lite0", image_size=64)
        >>> model = FastFlow(backbone, FlowOptions(steps=2))
        >>> anomaly_map, score = model.predict(torch.rand(2, 3, 64, 64))
        >>> anomaly_map.shape, score.shape
        (torch.Size([2, 1, 64, 64]), torch.Size([2]))
    """

    def __init__(
        self,
        backbone: Backbone,
        flow: FlowOptions = FlowOptions(),
        *,
        smoothing: float = 4.0,
        top: float = 0.01,
        precision: str | None = None,
        seed: int = 0,
        subnet: Subnet | None = None,
    ) -> None:
        check_seed(seed)
        self.options = flow
        self.has_own_subnet = subnet is not None
        # Leave the caller's randomness alone; one at a time, for all threads share a generator.
        with _SEEDED, torch.random.fork_rng(devices=[]):
            # Not torch.manual_seed, which would seed the caller's GPUs, too.
            torch.default_generator.manual_seed(seed)
            flows = [
                Flow(channels, flow, size=height_width(size), subnet=subnet)
                for channels, size in zip(backbone.channels, backbone.sizes, strict=True)
            ]
        super().__init__(
            backbone,
            flows,
            smoothing=smoothing,
            top=top,
            precision=resolve_precision(precision or "auto"),
        )
        self.flows.to(memory_format=torch.channels_last)

    @torch.no_grad()
    def folded(self) -> FlowDetector:
        """Return the inference form: the same detector with its flows folded.

        Its flows are modules of their own, compared with the ones they were made from; nothing
        that happens to this model later changes them. The frozen backbone is shared.

        Raises:
            NotFoldableError: If a flow has no such form; the message names what cannot be folded.

        Example:
            >>> model = FastFlow(Backbone("efficientnet_lite0", image_size=64))
            >>> type(model.folded().flows[0]).__name__
            'FoldedFlow'
        """
        detector = FlowDetector(
            self.backbone,
            [FoldedFlow(cast(Flow, flow), self.precision) for flow in self.flows],
            smoothing=self.smoothing,
            top=self.top,
            precision=self.precision,
        ).to(self.device)
        detector.read_as(windows=self.windows, white=self.white)
        for name, value in self.named_buffers(recurse=False):  # scales, thresholds, region
            getattr(detector, name).copy_(value)
        return detector.eval()

    def for_inference(self) -> FlowDetector:
        """Return :meth:`folded`, or this model, with a warning, where it cannot be folded.

        The unfolded flows compute in float32, whatever ``precision`` says.
        """
        try:
            return self.folded()
        except NotFoldableError as error:
            warnings.warn(f"computing with the unfolded flow: {error}", stacklevel=2)
            return self.eval()

    def fit(
        self,
        data: Features | LearntPictures | Pictures,
        *,
        seed: int = 0,
        image_fpr: float = 0.1,
        pixel_fpr: float = 0.001,
        folds: int | None = None,
        **options: Any,
    ) -> "pd.DataFrame":
        """Train, and calibrate: :func:`fastflow_utils.detector.training.fit` with its options."""
        from fastflow_utils.detector.training import fit  # here: it imports this module

        options["folds"] = folds
        return fit(self, data, seed=seed, image_fpr=image_fpr, pixel_fpr=pixel_fpr, **options)

    def learn(self, features: Features, seed: int = 0, **options: Any) -> "pd.DataFrame":
        """Train on all of these images, without a calibration, by the same function."""
        from fastflow_utils.detector.training import fit

        return fit(self, features, seed=seed, held_out_share=0, **options)

    def settings(self) -> dict[str, Any]:
        """Return what the flows are made of, and the precision.

        The readable flows are saved, which define the detector; whoever loads it asks for the
        inference form, which is then made and compared anew.

        Raises:
            FastFlowError: If the flows have a subnet of one's own, that a file cannot hold.
        """
        if self.has_own_subnet:
            raise FastFlowError(
                "a model with a subnet of its own cannot be saved whole: keep its state_dict()"
            )
        return {"flow": asdict(self.options), "precision": self.precision}

    @classmethod
    def restored(cls, backbone: Backbone, settings: dict[str, Any], **shared: Any) -> Self:
        """Return an untrained model with these settings."""
        flow, precision = FlowOptions(**settings["flow"]), resolve_precision(settings["precision"])
        return cls(backbone, flow, precision=precision, **shared)
