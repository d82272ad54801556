"""FastFlow: one flow for each feature map of a frozen backbone; likelihoods, maps, scores."""

import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, cast

import safetensors.torch
import torch
import torch.nn.functional as F
from einops import reduce
from torch import Tensor, nn

from fastflow_utils.compute import convolution_dtype
from fastflow_utils.detector.backbones import Backbone
from fastflow_utils.detector.flows import Flow, Kernels
from fastflow_utils.detector.folding import Fused
from fastflow_utils.detector.maps import blur, image_score
from fastflow_utils.errors import FastFlowError

__all__ = ["FastFlow"]


def _upper_quantile(scores: Tensor, share: float) -> Tensor:
    """Return a value that at most ``share`` of scores like these exceed, and no new one reaches
    it more often; above the k-th smallest of n, k = ceil((1 - share)(n + 1))."""
    k = min(len(scores), math.ceil((1 - share) * (len(scores) + 1)))
    value = scores.kthvalue(k).values
    return torch.nextafter(value, value.new_tensor(math.inf))  # ">= threshold" is anomalous


class FastFlow(nn.Module):
    r"""The density of normal images' features, and how far an image is from it.

    For each level l of the backbone's pyramid, a flow :math:`f_l` maps the features to a latent
    :math:`z_l = f_l(h_l)` of the same shape, with :math:`z_l \sim N(0, I)` for normal images.
    Where the image is anomalous, z is far from 0.

    Whitening, the flow's first layer, makes the features standard and uncorrelated, and accounts
    for it. Published code has a LayerNorm with a trainable scale there and leaves its
    log-determinant out of the loss, which then falls without bound as the scale shrinks.

    Args:
        backbone: The frozen network.
        steps: Flow steps of each level.
        kernels: Kernel sizes of the subnets: "3-1", "3x3" or "1x1".
        hidden_ratio: Hidden channels of each subnet for each channel that it reads.
        clamp: Bound on each coupling's log-scale.
        whiten: Whether each flow begins with :class:`~fastflow_utils.detector.flows.Whitening`.
        smoothing: Standard deviation of the Gaussian blur of the anomaly map, in pixels.
        top: Share of the pixels whose mean is the image score.
        seed: Fixes the permutations and the initial weights.

    Attributes:
        level_mean: (L,) mean of :meth:`nll_maps` over held-out normal images, by level.
        level_std: (L,) its standard deviation. Both are set by :meth:`calibrate`.
        image_threshold: A score from here on means "anomalous"; infinite before calibration.
        pixel_threshold: The same for a pixel of the anomaly map.

    Example:
        >>> model = FastFlow(Backbone("efficientnet_lite0", image_size=64), steps=2).eval()
        >>> anomaly_map, score = model.predict(torch.rand(2, 3, 64, 64))
        >>> anomaly_map.shape, score.shape
        (torch.Size([2, 1, 64, 64]), torch.Size([2]))
    """

    level_mean: Tensor
    level_std: Tensor
    image_threshold: Tensor
    pixel_threshold: Tensor

    def __init__(
        self,
        backbone: Backbone,
        *,
        steps: int = 8,
        kernels: Kernels = "3-1",
        hidden_ratio: float = 1.0,
        clamp: float = 2.0,
        whiten: bool = True,
        smoothing: float = 4.0,
        top: float = 0.01,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.options: dict[str, Any] = {
            "steps": steps,
            "kernels": kernels,
            "hidden_ratio": hidden_ratio,
            "clamp": clamp,
            "whiten": whiten,
            "smoothing": smoothing,
            "top": top,
        }
        self.backbone = backbone
        self.smoothing = smoothing
        self.top = top
        with torch.random.fork_rng(devices=[]):  # leave the caller's randomness alone
            torch.manual_seed(seed)
            self.flows = nn.ModuleList(
                Flow(channels, steps, kernels, hidden_ratio, clamp, whiten)
                for channels in backbone.channels
            ).to(memory_format=torch.channels_last)
        self._fused: dict[int, tuple[object, Fused]] = {}
        levels = len(backbone.channels)
        self.register_buffer("level_mean", torch.zeros(levels))
        self.register_buffer("level_std", torch.ones(levels))
        self.register_buffer("image_threshold", torch.tensor(math.inf))
        self.register_buffer("pixel_threshold", torch.tensor(math.inf))

    def train(self, mode: bool = True) -> "FastFlow":
        """Set training mode, or eval mode; forget what was folded before."""
        self._fused.clear()  # torch's fused optimizers do not count up a tensor's version
        return super().train(mode)

    def forward(self, features: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
        """Return ``(z, log_det)`` for each level's features (B, C_l, H_l, W_l)."""
        return [flow(h) for flow, h in zip(self.flows, features, strict=True)]

    def nll_maps(self, features: Sequence[Tensor]) -> list[Tensor]:
        r"""Return the negative log-likelihood of each position, in nats per dimension.

        .. math:: n_l(i) = \frac{1}{C_l} \left( \tfrac12 \lVert z_i \rVert^2
                  + \tfrac{C_l}{2} \log 2\pi - d_i \right)

        :math:`d_i` is position i's share of log|det dz/dh|. Published code leaves it out of the
        map, which then forgets how precisely the flow knows this position: an error of the same z
        is worse where normal images hardly vary.

        In eval mode and without gradients, the flows take the fast path
        (:class:`~fastflow_utils.detector.folding.Fused`).

        Args:
            features: One (B, C_l, H_l, W_l) for each level.

        Returns:
            One (B, 1, H_l, W_l) for each level; higher is more anomalous.
        """
        if len(features) != len(self.flows):
            raise ValueError(f"{len(features)} feature maps, expected {len(self.flows)}")
        return [self.nll_map(level, h) for level, h in enumerate(features)]

    def nll_map(self, level: int, h: Tensor) -> Tensor:
        """Return one level's map (B, 1, H_l, W_l) of :meth:`nll_maps`."""
        flow = cast(Flow, self.flows[level])
        if self.training or torch.is_grad_enabled():
            z, shares = flow.local(h)
        else:
            z, shares = self._fast(level, convolution_dtype(h.device)).local(h)
        energy = reduce(0.5 * z**2, "b c h w -> b 1 h w", "sum")
        return (energy - shares) / z.shape[1] + 0.5 * math.log(2 * math.pi)

    def _fast(self, level: int, dtype: torch.dtype) -> Fused:
        """Fold a level's flow, once for as long as none of its tensors changes."""
        flow = cast(Flow, self.flows[level])
        tensors = (*flow.parameters(), *flow.buffers())
        state = dtype, [(t.data_ptr(), t.is_inference() or t._version) for t in tensors]
        if level not in self._fused or self._fused[level][0] != state:
            self._fused[level] = state, Fused(flow, dtype)
        return self._fused[level][1]

    def nll(self, features: Sequence[Tensor]) -> Tensor:
        r"""Return the negative log-likelihood of each level, in nats per dimension.

        .. math:: -\frac{1}{D} \log p(h) = \frac{1}{D} \left( \tfrac12 \lVert z \rVert^2
                  + \tfrac D2 \log 2\pi - \log|\det \partial z / \partial h| \right)

        with D = C_l H_l W_l, so that levels, backbones and image sizes compare: the mean of
        :meth:`nll_maps` over positions. It is a density's, so it depends on the scale of the
        features and may well be negative.

        Args:
            features: One (B, C_l, H_l, W_l) for each level.

        Returns:
            (B, L).
        """
        maps = self.nll_maps(features)
        return torch.stack([reduce(m, "b 1 h w -> b", "mean") for m in maps], dim=1)

    def level_maps(self, features: Sequence[Tensor]) -> list[Tensor]:
        r"""Return the map of each level: how surprising a position is, on a scale of its own.

        .. math:: \sigma\left( \frac{n_l(i) - \mu_l}{s_l} - 1 \right)

        :math:`\mu_l` and :math:`s_l` are the mean and standard deviation of :math:`n_l` over the
        positions of held-out normal images, so levels of any size and depth compare. The logistic
        function bounds what a single level can say: one standard deviation above normal is 0.5,
        and nothing is more than 1.

        Args:
            features: One (B, C_l, H_l, W_l) for each level.

        Returns:
            One (B, 1, H_l, W_l) for each level, in [0, 1]; higher is more anomalous.
        """
        return [
            torch.sigmoid((nll - mean) / std - 1)
            for nll, mean, std in zip(
                self.nll_maps(features), self.level_mean, self.level_std, strict=True
            )
        ]

    def anomaly_map(self, features: Sequence[Tensor]) -> Tensor:
        """Return the heat map: the levels' maps at image size, averaged, smoothed.

        Args:
            features: One (B, C_l, H_l, W_l) for each level.

        Returns:
            (B, 1, H, W) in [0, 1] with H = W = the backbone's image size; higher is more
            anomalous.
        """
        size = self.backbone.image_size
        levels = [
            F.interpolate(level, size=(size, size), mode="bilinear", align_corners=False)
            for level in self.level_maps(features)
        ]
        return blur(torch.stack(levels).mean(0), self.smoothing)

    def score(self, anomaly_map: Tensor) -> Tensor:
        """Return the score (B,) of each map: :func:`image_score` with this model's share."""
        return image_score(anomaly_map, self.top)

    @torch.no_grad()
    def calibrate(
        self,
        batches: Iterable[Sequence[Tensor]],
        image_fpr: float = 0.1,
        pixel_fpr: float = 0.001,
    ) -> None:
        """Set the levels' scales and both thresholds from normal images that were held out.

        A threshold is the quantile of normal scores that a share of ``fpr`` exceeds; that of n
        images is their ceil((1 - fpr)(n + 1))-th smallest score, as in split conformal prediction
        (Vovk et al.). A new normal image exceeds it with a probability of about fpr: slightly
        more, since the levels' scales are of the same n images. With fewer than 1/fpr - 1 images
        it is their highest.

        Args:
            batches: Features of normal images that had no part in training.
            image_fpr: Share of normal images to be called anomalous, in (0, 1).
            pixel_fpr: Share of normal images' pixels to be called anomalous, in (0, 1).

        Raises:
            FastFlowError: If there is no image.
        """
        held_out = [list(batch) for batch in batches]
        if not held_out:
            raise FastFlowError("no images to calibrate on: expected at least one normal image")
        self.eval()
        nll = [torch.cat(level) for level in zip(*map(self.nll_maps, held_out), strict=True)]
        self.level_mean.copy_(torch.stack([level.mean() for level in nll]))
        self.level_std.copy_(
            torch.stack([level.std(correction=0).clamp_min(1e-6) for level in nll])
        )
        maps = torch.cat([self.anomaly_map(batch) for batch in held_out])
        self.image_threshold.copy_(_upper_quantile(self.score(maps), image_fpr))
        self.pixel_threshold.copy_(_upper_quantile(maps.flatten(), pixel_fpr))

    @torch.no_grad()
    def predict(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``anomaly_map`` (B, 1, H, W) and ``score`` (B,) of ``image`` (B, 3, H, W)."""
        anomaly_map = self.anomaly_map(self.backbone(image))
        return anomaly_map, self.score(anomaly_map)

    def save(self, folder: Path | str, **notes: object) -> Path:
        """Write the whole detector to a folder: safetensors and JSON, no pickles.

        The frozen backbone goes along, so that the folder works on a machine without the weights.

        Args:
            folder: Made if it is missing.
            **notes: Anything for people to read in ``config.json``, under "notes".
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        config = {
            "format": 3,
            "backbone": {
                "name": self.backbone.name,
                "layers": self.backbone.layers,
                "image_size": self.backbone.image_size,
                "fold": self.backbone.folded,
            },
            "flow": self.options,
            "notes": notes,
        }
        state = {key: value.cpu().contiguous() for key, value in self.state_dict().items()}
        safetensors.torch.save_file(state, folder / "model.safetensors")
        (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
        return folder

    @classmethod
    def load(cls, folder: Path | str) -> "FastFlow":
        """Read a detector that :meth:`save` wrote; its outputs are the same bit for bit.

        Raises:
            FastFlowError: If the folder holds no model, or one that cannot be read.
        """
        folder = Path(folder)
        try:
            config = json.loads((folder / "config.json").read_text())
            state = safetensors.torch.load_file(folder / "model.safetensors")
            backbone = Backbone(**config["backbone"], pretrained=False)
            model = cls(backbone, **config["flow"])
            model.load_state_dict(state)
        except FileNotFoundError as error:
            raise FastFlowError(
                f"no model in '{folder}': expected config.json and model.safetensors, as "
                "'fastflow run --output DIR' writes them to DIR/model"
            ) from error
        except Exception as error:  # JSON, safetensors and torch each have their own
            raise FastFlowError(
                f"the model in '{folder}' cannot be read ({type(error).__name__}): its files are "
                "damaged or of another version; train it again"
            ) from error
        return model.eval()
