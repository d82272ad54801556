"""FastFlow: one flow for each feature map of a frozen backbone; likelihoods, maps, scores."""

import json
import math
import threading
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import safetensors.torch
import torch
from einops import reduce
from torch import Tensor, nn

from fastflow_utils.compute import Precision, check_seed, resolve_precision
from fastflow_utils.data.images import Picture, as_images
from fastflow_utils.detector.backbones import Backbone
from fastflow_utils.detector.choices import require_model
from fastflow_utils.detector.features import Features
from fastflow_utils.detector.flows import Flow, FlowLayer, FlowOptions, Subnet
from fastflow_utils.detector.folding import FoldedFlow, NotFoldableError
from fastflow_utils.detector.maps import check_map_options, combine, image_score, level_map
from fastflow_utils.errors import FastFlowError

__all__ = ["Detector", "FastFlow"]

_SEEDED = threading.Lock()

FORMAT = 5
"""Of a saved model; counted up whenever an older reader would misunderstand a newer file."""


def _upper_quantile(scores: Tensor, share: float) -> Tensor:
    """Return a value that at most ``share`` of scores like these exceed, and no new one reaches
    it more often; above the k-th smallest of n, k = ceil((1 - share)(n + 1))."""
    k = min(len(scores), math.ceil((1 - share) * (len(scores) + 1)))
    value = scores.kthvalue(k).values
    return torch.nextafter(value, value.new_tensor(math.inf))  # ">= threshold" is anomalous


class Detector(nn.Module):
    r"""From an image's features to its anomaly map and score, whatever form the flows have.

    :class:`FastFlow` is the detector that can be trained; :meth:`FastFlow.folded` makes the one
    for inference of it.

    Args:
        backbone: The frozen network.
        flows: One for each level of the backbone.
        smoothing: Standard deviation of the Gaussian blur of the anomaly map, in pixels.
        top: Share of the pixels whose mean is the image score.
        precision: Number format of the subnets' convolutions in training and in inference.

    Attributes:
        level_mean: (L,) mean of :meth:`nll_maps` over held-out normal images, by level.
        level_std: (L,) its standard deviation. Both are set by :meth:`FastFlow.calibrate`.
        image_threshold: A score from here on means "anomalous"; infinite before calibration.
        pixel_threshold: The same for a pixel of the anomaly map.

    Raises:
        FastFlowError: If the blur is wider than the image, or a value is out of range.
    """

    level_mean: Tensor
    level_std: Tensor
    image_threshold: Tensor
    pixel_threshold: Tensor

    def __init__(
        self,
        backbone: Backbone,
        flows: Iterable[FlowLayer],
        *,
        smoothing: float,
        top: float,
        precision: Precision,
    ) -> None:
        super().__init__()
        check_map_options(backbone.image_size, smoothing, top)
        self.backbone = backbone
        self.flows = nn.ModuleList(flows)
        self.smoothing = smoothing
        self.top = top
        self.precision: Precision = precision
        levels = len(self.flows)
        self.register_buffer("level_mean", torch.zeros(levels))
        self.register_buffer("level_std", torch.ones(levels))
        self.register_buffer("image_threshold", torch.tensor(math.inf))
        self.register_buffer("pixel_threshold", torch.tensor(math.inf))

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.backbone.device

    def forward(self, features: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
        """Return ``(z, log_det)`` for each level's features (B, C_l, H_l, W_l)."""
        self._check_levels(features)
        return [flow(h) for flow, h in zip(self.flows, features, strict=True)]

    def nll_maps(self, features: Sequence[Tensor]) -> list[Tensor]:
        r"""Return the negative log-likelihood of each position, in nats per dimension.

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

    def level_maps(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Return the map of each level, :func:`~fastflow_utils.detector.maps.level_map`.

        Its scale is the mean and standard deviation over the positions of held-out normal images,
        so levels of any size and depth compare.

        Args:
            features: One (B, C_l, H_l, W_l) for each level.

        Returns:
            One (B, 1, H_l, W_l) for each level, in [0, 1]; higher is more anomalous.
        """
        return self._level_maps(self.nll_maps(features))

    def anomaly_map(self, features: Sequence[Tensor]) -> Tensor:
        """Return the heat map: the levels' maps at image size, averaged, smoothed.

        Args:
            features: One (B, C_l, H_l, W_l) for each level.

        Returns:
            (B, 1, H, W) in [0, 1] with H = W = the backbone's image size; higher is more
            anomalous.
        """
        return self._combined(self.nll_maps(features))

    def score(self, anomaly_map: Tensor) -> Tensor:
        """Return the score (B,) of each map: :func:`image_score` with this model's share."""
        return image_score(anomaly_map, self.top)

    def for_inference(self) -> "Detector":
        """Return the form to evaluate and predict with."""
        return self

    @torch.no_grad()
    def predict(self, pictures: "Picture | Sequence[Picture]") -> tuple[Tensor, Tensor]:
        """Return ``anomaly_map`` (B, 1, H, W) and ``score`` (B,) of pictures of any size.

        A :class:`FastFlow` makes its inference form for this, at every call, so that it is never
        an old one. For many calls, ask for that form once: ``model.folded().predict(...)``.

        Args:
            pictures: Paths, Pillow images, arrays or tensors, one or several, as
                :func:`~fastflow_utils.data.images.as_images` takes them.

        Raises:
            FastFlowError: A picture cannot be used as one, or its score is not finite.
        """
        detector = self.for_inference()
        images = as_images(pictures, detector.backbone.image_size)
        anomaly_map = detector.anomaly_map(detector.backbone(images.to(detector.device)))
        score = detector.score(anomaly_map)
        if not score.isfinite().all():
            raise FastFlowError(
                f"scores of {score.tolist()}: expected finite ones; the model's weights or its "
                "calibration are broken, so train it again"
            )
        return anomaly_map, score

    def _check_levels(self, features: Sequence[Tensor]) -> None:
        if len(features) != len(self.flows):
            raise FastFlowError(
                f"{len(features)} feature maps: expected {len(self.flows)}, one for each level"
            )

    def _level_maps(self, nll_maps: Sequence[Tensor]) -> list[Tensor]:
        scales = zip(nll_maps, self.level_mean, self.level_std, strict=True)
        return [level_map(nll, mean, std) for nll, mean, std in scales]

    def _combined(self, nll_maps: Sequence[Tensor]) -> Tensor:
        return combine(self._level_maps(nll_maps), self.backbone.image_size, self.smoothing)


class FastFlow(Detector):
    r"""The density of normal images' features, and how far an image is from it.

    For each level l of the backbone's pyramid, a flow :math:`f_l` maps the features to a latent
    :math:`z_l = f_l(h_l)` of the same shape, with :math:`z_l \sim N(0, I)` for normal images.
    Where the image is anomalous, z is far from 0.

    Whitening, the flow's first layer, makes the features standard and uncorrelated, and accounts
    for it. Published code has a LayerNorm with a trainable scale there and leaves its
    log-determinant out of the loss, which then falls without bound as the scale shrinks.

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
            flows = [Flow(channels, flow, subnet=subnet) for channels in backbone.channels]
        super().__init__(
            backbone,
            flows,
            smoothing=smoothing,
            top=top,
            precision=resolve_precision(precision or "auto"),
        )
        self.flows.to(memory_format=torch.channels_last)

    @torch.no_grad()
    def folded(self) -> Detector:
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
        detector = Detector(
            self.backbone,
            [FoldedFlow(cast(Flow, flow), self.precision) for flow in self.flows],
            smoothing=self.smoothing,
            top=self.top,
            precision=self.precision,
        ).to(self.device)
        for name in ("level_mean", "level_std", "image_threshold", "pixel_threshold"):
            getattr(detector, name).copy_(getattr(self, name))
        return detector.eval()

    def for_inference(self) -> Detector:
        """Return :meth:`folded`, or this model, with a warning, where it cannot be folded.

        The unfolded flows compute in float32, whatever ``precision`` says.
        """
        try:
            return self.folded()
        except NotFoldableError as error:
            warnings.warn(f"computing with the unfolded flow: {error}", stacklevel=2)
            return self.eval()

    @torch.no_grad()
    def calibrate(
        self,
        data: Features | Iterable[Sequence[Tensor]],
        image_fpr: float = 0.1,
        pixel_fpr: float = 0.001,
    ) -> None:
        """Set the levels' scales and both thresholds from normal images that were held out.

        A threshold is the quantile of normal scores that a share of ``fpr`` exceeds; that of n
        images is their ceil((1 - fpr)(n + 1))-th smallest score, as in split conformal prediction
        (Vovk et al.). A new normal image exceeds it with a probability of about fpr: slightly
        more, since the levels' scales are of the same n images. With fewer than 1/fpr - 1 images
        it is their highest. All is computed in the inference form, as new images will be.

        Args:
            data: Features of normal images that had no part in training, whole or in batches.
            image_fpr: Share of normal images to be called anomalous, in (0, 1).
            pixel_fpr: Share of normal images' pixels to be called anomalous, in (0, 1).

        Raises:
            FastFlowError: If there is no image, the model gives no finite likelihoods, or the
                features are of another network.
        """
        for name, share in {"image_fpr": image_fpr, "pixel_fpr": pixel_fpr}.items():
            if not 0 < share < 1:
                raise FastFlowError(f"{name}={share}: expected a share between 0 and 1")
        if isinstance(data, Features):
            data.check_source(self.backbone)
        batches = data.batches(16) if isinstance(data, Features) else data
        self.eval()
        detector = self.for_inference()
        by_batch = [detector.nll_maps(list(batch)) for batch in batches]
        if not by_batch:
            raise FastFlowError("no images to calibrate on: expected at least one normal image")
        nll = [torch.cat(level) for level in zip(*by_batch, strict=True)]
        if not all(level.isfinite().all() for level in nll):
            raise FastFlowError(
                "the model gives likelihoods that are not finite: train it again, with a smaller "
                "learning rate or clamp"
            )
        self.level_mean.copy_(torch.stack([level.mean() for level in nll]))
        self.level_std.copy_(
            torch.stack([level.std(correction=0).clamp_min(1e-6) for level in nll])
        )
        maps = torch.cat([self._combined(batch) for batch in by_batch])
        self.image_threshold.copy_(_upper_quantile(self.score(maps), image_fpr))
        self.pixel_threshold.copy_(_upper_quantile(maps.flatten(), pixel_fpr))

    def save(self, folder: Path | str, **notes: object) -> Path:
        """Write the whole detector to a folder: safetensors and JSON, no pickles.

        The frozen backbone goes along, so that the folder works on a machine without the weights.
        The readable flows are saved, which define the detector; whoever loads it asks for the
        inference form, which is then made and compared anew.

        Args:
            folder: Made if it is missing.
            **notes: Anything for people to read in ``config.json``, under "notes".

        Raises:
            FastFlowError: If the flows have a subnet of one's own, or a note is of a kind, that a
                file cannot hold.
        """
        if self.has_own_subnet:
            raise FastFlowError(
                "a model with a subnet of its own cannot be saved whole: keep its state_dict()"
            )
        config = {
            "format": FORMAT,
            "backbone": {
                "name": self.backbone.name,
                "layers": list(map(int, self.backbone.layers)),
                "image_size": self.backbone.image_size,
                "fold": self.backbone.folded,
            },
            "flow": asdict(self.options),
            "map": {"smoothing": self.smoothing, "top": self.top},
            "precision": self.precision,
            "notes": notes,
        }
        try:
            text = json.dumps(config, indent=2) + "\n"
        except TypeError as error:  # before anything is written
            raise FastFlowError(f"notes {notes!r:.200}: expected what JSON can hold") from error
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        state = {key: value.cpu().contiguous() for key, value in self.state_dict().items()}
        safetensors.torch.save_file(state, folder / "model.safetensors")
        (folder / "config.json").write_text(text)
        return folder

    @classmethod
    def load(cls, folder: Path | str) -> "FastFlow":
        """Read a detector that :meth:`save` wrote; its outputs are the same bit for bit.

        Raises:
            FastFlowError: If the folder holds no model, or one that cannot be read.
        """
        folder = Path(folder)
        require_model(folder)
        try:
            config: dict[str, Any] = json.loads((folder / "config.json").read_text())
            found = config.get("format")
            if found == FORMAT:
                state = safetensors.torch.load_file(folder / "model.safetensors")
                backbone = Backbone(**config["backbone"], pretrained=False)
                flow, precision = FlowOptions(**config["flow"]), config["precision"]
                model = cls(
                    backbone, flow, precision=resolve_precision(precision), **config["map"]
                )
                model.load_state_dict(state)
        except Exception as error:  # JSON, safetensors and torch each have their own
            raise FastFlowError(
                f"the model in '{folder}' cannot be read ({type(error).__name__}): its files are "
                "damaged or of another version; train it again"
            ) from error
        if found != FORMAT:
            raise FastFlowError(
                f"the model in '{folder}' has format {found!r}: this version reads {FORMAT}; "
                "train it again, or use the version that wrote it"
            )
        return model.eval()
