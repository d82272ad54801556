"""What all methods share: from an image's features to its map and score, calibrated and kept.

A method says how anomalous each position of the feature maps is (:meth:`Detector.maps`), on a
scale of its own. Everything after that is the same for all, so that tables compare methods and
nothing else: held-out normal images make the scale common and set the thresholds, levels are
averaged and smoothed at image size, and the highest positions are the image's score.
"""

import copy
import json
import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeAlias

import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastflow_utils.compute import check_seed
from fastflow_utils.data.images import Picture, Strips, as_images, each_picture
from fastflow_utils.data.mvtec import Pictures
from fastflow_utils.data.sizes import height_width
from fastflow_utils.detector.backbones import Backbone
from fastflow_utils.detector.choices import METHODS, require_model
from fastflow_utils.detector.features import Features, LearntPictures, WindowedPictures, extract
from fastflow_utils.detector.maps import (
    KNOTS,
    check_map_options,
    combine,
    image_score,
    level_map,
    level_scale,
)
from fastflow_utils.detector.windows import GRID, Windows
from fastflow_utils.errors import FastFlowError

if TYPE_CHECKING:
    import pandas as pd
    from typing_extensions import TypeIs

__all__ = ["Detector", "check_rates", "features_for", "hold_out", "method_class"]

Raw: TypeAlias = tuple[list[Tensor], Tensor | None]
"""A method's maps, and its own score where it has one."""

FORMAT = 8
"""Of a saved model; counted up whenever an older reader would misunderstand a newer file."""


def method_class(method: str) -> Any:
    """Return a method's class, a subclass of :class:`Detector`.

    Its module is imported by its name, for this one is below it.

    Example:
        >>> method_class("padim").__name__
        'PaDiM'
    """
    module, _, name = METHODS[method].rpartition(".")
    return getattr(import_module(f"fastflow_utils.detector.{module}"), name)


def hold_out(images: int, generator: torch.Generator, share: float = 0.1) -> tuple[Tensor, Tensor]:
    """Return the indices of the images to train on, and of those to hold out (at least one).

    Raises:
        FastFlowError: If there are fewer than two images.

    Example:
        >>> train, held_out = hold_out(60, torch.Generator().manual_seed(0))
        >>> len(train), len(held_out)
        (54, 6)
    """
    if images < 2:
        raise FastFlowError(
            f"{images} normal images: expected at least two, one to train on and one to hold out"
        )
    order = torch.randperm(images, generator=generator)
    count = max(1, round(share * images))
    return order[count:], order[:count]


def check_rates(image_fpr: float, pixel_fpr: float) -> None:
    """Refuse a false-positive rate that no threshold has.

    Example:
        >>> check_rates(0.1, 0)
        Traceback (most recent call last):
        fastflow_utils.errors.FastFlowError: pixel_fpr=0: expected a share between 0 and 1
    """
    for name, share in {"image_fpr": image_fpr, "pixel_fpr": pixel_fpr}.items():
        if not 0 < share < 1:
            raise FastFlowError(f"{name}={share}: expected a share between 0 and 1")


def upper_quantile(scores: Tensor, share: float) -> Tensor:
    """Return a value that at most ``share`` of scores like these exceed, and no new one reaches
    it more often; above the k-th smallest of n, k = ceil((1 - share)(n + 1))."""
    k = min(len(scores), math.ceil((1 - share) * (len(scores) + 1)))
    value = scores.kthvalue(k).values
    return torch.nextafter(value, value.new_tensor(math.inf))  # ">= threshold" is anomalous


def _expected_spread(highest: Tensor, spread: Tensor) -> Tensor:
    """Return the standard deviation (1 + L,) of t over normal images, of which few may be there.

    As if two more images had been seen that differ by a fifth of the ``spread`` (1 + L,) of the
    positions, about what levels of real images show: of one image alone nothing is known, of two
    little, and of twenty these two change a twentieth.
    """
    prior, more = 2, len(highest) - 1
    seen = highest.var(0, correction=0) * len(highest)
    return ((seen + prior * (spread / 5) ** 2) / (more + prior)).sqrt().clamp_min(1e-6)


def _resized(mask: Tensor, size: tuple[int, int]) -> Tensor:
    """Return a mask (H, W) at another size: True where any of it is, so that no part vanishes."""
    resized: Tensor = F.adaptive_max_pool2d(mask[None].float(), size)
    return resized[0].bool()


def _only(maps: Tensor, inside: Tensor) -> Tensor:
    """Return the values of maps (B, 1, h, w) where ``inside`` (h, w) is true, (B, 1, n)."""
    values = maps.flatten(2)
    return values if inside.all() else values[..., inside.flatten()]


def _finite(features: Features) -> Features:
    """Refuse features that nothing can be learnt from."""
    if not all(h.isfinite().all() for batch in features.batches(16) for h in batch):
        raise FastFlowError(
            "the features are not finite: compute them again, or take other layers"
        )
    return features


def _score(highest: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Return s (B,) of :meth:`Detector.judge` for its t (B, 1 + L)."""
    z = (highest - mean) / std
    return z[:, 0] + z[:, 1:].amax(1)


class Detector(nn.Module):
    r"""From an image's features to its anomaly map and score, whatever the method.

    A method is a subclass: it has :meth:`maps`, :meth:`learn` and :meth:`settings`. Its
    constructor takes the backbone, and its own options, ``smoothing`` and ``top`` by name.

    Args:
        backbone: The frozen network.
        maps: How many maps :meth:`maps` returns.
        smoothing: Standard deviation of the Gaussian blur of the anomaly map, in pixels.
        top: Share of the positions whose mean counts in the image score.

    Attributes:
        method: Its name among :data:`~fastflow_utils.detector.choices.METHODS`.
        level_scale: (L, 65), for each of :meth:`maps` what
            :func:`~fastflow_utils.detector.maps.level_scale` says of held-out normal images.
        score_mean: (1 + L,) mean over these images of what :meth:`judge` adds up.
        score_std: (1 + L,) its standard deviation. :meth:`calibrate` sets all three.
        image_threshold: A score from here on means "anomalous"; infinite before calibration.
        pixel_threshold: The same for a pixel of the anomaly map.
        normal_scores: (n,) of the images that it was calibrated on; not in its files.
        normal_images: (n,) which of the images that were learnt from these are.
        region: (H, W) bool, where of an anomaly map anything is looked for.
        windows: How pictures are cut, or None; :meth:`read_as` sets it, region and white.
        white: The value that means white in pictures of more than 8 bits, or None
            (:mod:`fastflow_utils.data.depth`).

    Raises:
        FastFlowError: If the blur is wider than the image, or a value is out of range.
    """

    method: ClassVar[str]
    level_scale: Tensor
    score_mean: Tensor
    score_std: Tensor
    image_threshold: Tensor
    pixel_threshold: Tensor
    region: Tensor

    def __init__(self, backbone: Backbone, *, maps: int, smoothing: float, top: float) -> None:
        super().__init__()
        check_map_options(backbone.image_size, smoothing, top)
        self.backbone = backbone
        self.smoothing = smoothing
        self.top = top
        self.register_buffer("level_scale", torch.linspace(0, 1, KNOTS).repeat(maps, 1))
        self.register_buffer("score_mean", torch.zeros(1 + maps))
        self.register_buffer("score_std", torch.ones(1 + maps))
        self.register_buffer("image_threshold", torch.tensor(math.inf))
        self.register_buffer("pixel_threshold", torch.tensor(math.inf))
        self.normal_scores: Tensor | None = None
        self.normal_images: Tensor | None = None
        self.read_as()

    def read_as(
        self,
        *,
        windows: Windows | None = None,
        white: int | None = None,
        region: Tensor | None = None,
    ) -> Self:
        """Set how pictures are read, and where in them anything is looked for; before training.

        Args:
            windows: Pictures are read at its size and cut; the backbone sees a window at a time.
            white: As for :func:`~fastflow_utils.data.images.as_image`.
            region: (H, W) bool of any size, True where to look; default: everywhere. Outside of
                it the map is 0, and no threshold knows of it.

        Raises:
            FastFlowError: The windows are not what the backbone takes, or turned, or the region
                is empty.
        """
        if windows is not None:
            if height_width(self.backbone.image_size) != (windows.side, windows.side):
                raise FastFlowError(
                    f"windows of {windows.side} px for a backbone that takes "
                    f"{self.backbone.image_size} px: give both the same size"
                )
            if any(stride not in (1, 2, 4, 8, 16, GRID) for stride in self.backbone.strides):
                raise FastFlowError(
                    f"windows for a backbone of strides {self.backbone.strides}: expected strides "
                    f"that divide {GRID}, so that windows meet on every position; take another "
                    "backbone or other layers"
                )
            if self.backbone.upright:
                raise FastFlowError(
                    "windows of pictures that are turned upright: a window shows a part of an "
                    "object, which has no pose; take upright=False"
                )
        self.windows, self.white = windows, white
        everywhere = torch.ones(self.map_size, dtype=torch.bool)
        if region is not None:
            everywhere = _resized(region.bool(), self.map_size)
            if not everywhere.any():
                raise FastFlowError("the region is empty: expected a part of the picture")
            if self.backbone.upright:
                raise FastFlowError(
                    "a region of pictures that are turned upright: it would turn with the object; "
                    "take upright=False"
                )
        self.register_buffer("region", everywhere.to(self.device))
        self.forget_thresholds()
        return self

    @property
    def map_size(self) -> tuple[int, int]:
        """(H, W) of anomaly maps."""
        return self.windows.map_size if self.windows else height_width(self.backbone.image_size)

    @property
    def image_size(self) -> tuple[int, int]:
        """(H, W) at which pictures are read."""
        return height_width(self.windows.size if self.windows else self.backbone.image_size)

    # What a method is ---------------------------------------------------------------------------

    def maps(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Return how anomalous each position is, on the method's own scale.

        Args:
            features: One (B, C_l, H_l, W_l) for each level of the backbone.

        Returns:
            One or several maps (B, 1, h, w), often one for each level; higher is more anomalous.
        """
        raise NotImplementedError

    def raw(self, features: Sequence[Tensor]) -> Raw:
        """Return :meth:`maps`, and the image score (B,) of a method that has one of its own."""
        return self.maps(features), None

    def learn(self, features: Features, seed: int = 0) -> "pd.DataFrame | None":
        """Learn what is normal from these images, all of them; calibration is another matter.

        Args:
            features: Of normal images only, on the model's device.
            seed: Fixes what is random, if anything is.

        Returns:
            As :meth:`fit`.
        """
        raise FastFlowError(f"a {type(self).__name__} cannot learn: fit what it was made from")

    def settings(self) -> dict[str, Any]:
        """Return the method's own options, as JSON holds them: what :meth:`restored` takes."""
        raise FastFlowError(f"a {type(self).__name__} has no file: save what it was made from")

    @classmethod
    def restored(cls, backbone: Backbone, settings: dict[str, Any], **shared: Any) -> Self:
        """Return a model with these settings and nothing learnt yet."""
        return cls(backbone, **settings, **shared)

    # How it comes to know normal images ---------------------------------------------------------

    def fit(
        self,
        data: Features | LearntPictures | Pictures,
        *,
        seed: int = 0,
        image_fpr: float = 0.1,
        pixel_fpr: float = 0.001,
        folds: int | None = None,
    ) -> "pd.DataFrame | None":
        """Learn what normal images look like, but for a tenth of them, and calibrate on those.

        A tenth is few images to set a threshold by. With ``folds`` it is set by all: as many
        twins of this model learn, each without another part of the images, and say how that part
        looks to a model that has not seen it (cross-fitting; with scores of its images a threshold
        is set as in cross-conformal prediction, Vovk 2015). The model itself then learns from all
        images, and its calibration is that of the twins. It takes ``folds`` times longer.

        Args:
            data: Features of normal images only, or the training split to extract them from.
            seed: Fixes which images are held out (the same for every method), and all else that
                is random.
            image_fpr: Share of normal images that the image threshold may call anomalous.
            pixel_fpr: Share of normal images' pixels that the pixel threshold may call anomalous.
            folds: How many twins, 2 to the number of images. Default: hold out a tenth.

        Returns:
            The course of the training, a row for each epoch, where there are epochs.

        Raises:
            FastFlowError: If there is nothing to learn from, or the data are not this model's.
        """
        check_rates(image_fpr, pixel_fpr)
        normal = features_for(self, data)
        if isinstance(normal, Features):
            self.require_whole()
        order = torch.Generator().manual_seed(check_seed(seed))
        images, held_out = hold_out(len(normal), order)
        if folds is not None:
            return self.fit_in_folds(normal, folds, seed, image_fpr, pixel_fpr)
        self.forget_thresholds()
        history = self.learn(_finite(normal.subset(images)), seed)
        self.calibrate_by(self.seen_of(normal, held_out), image_fpr, pixel_fpr, held_out)
        return history

    def fit_in_folds(
        self,
        normal: Features | LearntPictures,
        folds: int,
        seed: int,
        image_fpr: float,
        pixel_fpr: float,
        *,
        last: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> "pd.DataFrame | None":
        """Do what :meth:`fit` says of ``folds``.

        Args:
            normal, folds, seed, image_fpr, pixel_fpr: As there.
            last: Further options of :meth:`learn`, for the model itself and not for its twins.
            **options: Those of :meth:`learn`.
        """
        hold_out(len(normal), torch.Generator())  # refuses a single image
        if not isinstance(folds, int) or not 2 <= folds <= len(normal):
            raise FastFlowError(
                f"folds={folds}: expected 2 to {len(normal)}, the number of images"
            )
        self.forget_thresholds()
        order = torch.randperm(len(normal), generator=torch.Generator().manual_seed(seed))
        seen: list[Raw] = []
        for number in range(folds):
            part = order[number::folds]
            others = order[torch.arange(len(order)) % folds != number]
            twin = copy.deepcopy(self, {id(self.backbone): self.backbone})
            twin.learn(_finite(normal.subset(others)), seed, **options)
            seen += twin.seen_of(normal, part)
        everything = normal if isinstance(normal, Features) else normal.subset(order.sort().values)
        history = self.learn(everything, seed, **options, **(last or {}))
        parts = torch.cat([order[number::folds] for number in range(folds)])
        self.calibrate_by(seen, image_fpr, pixel_fpr, parts)
        return history

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
        more, since the scores' scales are of the same n images (on the sample set, .109 of n = 20
        where .095 is promised, and .21 of n = 5 instead of .17). With fewer than 1/fpr - 1 images
        it is their highest. All is computed in the inference form, as new images will be.

        A backbone that turns images gives maps of turned images, and so the pixels' threshold is
        of those.

        Args:
            data: Features of normal images that had no part in training, whole or in batches.
            image_fpr: Share of normal images to be called anomalous, in (0, 1).
            pixel_fpr: Share of normal images' pixels to be called anomalous, in (0, 1).

        Raises:
            FastFlowError: If there is no image, the model gives no finite maps, or the features
                are of another network.
        """
        check_rates(image_fpr, pixel_fpr)
        if isinstance(data, Features):
            data.check_source(self.backbone)
        batches = data.batches(16) if isinstance(data, Features) else data
        self.calibrate_by(self.seen(batches), image_fpr, pixel_fpr)

    @torch.no_grad()
    def seen(self, batches: Iterable[Sequence[Tensor]]) -> list[Raw]:
        """Return :meth:`raw` of each batch, in the inference form."""
        self.require_whole()
        self.eval()
        detector = self.for_inference()
        return [detector.raw([h.to(self.device) for h in batch]) for batch in batches]

    def seen_of(self, normal: Features | LearntPictures, index: Tensor) -> list[Raw]:
        """Return :meth:`seen` of some of the images that :meth:`fit` was given."""
        if isinstance(normal, Features):
            return self.seen(normal.subset(index).batches(16))
        self.eval()
        detector = self.for_inference()
        with torch.no_grad():
            return [detector.look(path) for path in normal.paths_of(index)]

    @torch.no_grad()
    def calibrate_by(
        self,
        seen: Sequence[Raw],
        image_fpr: float,
        pixel_fpr: float,
        images: Tensor | None = None,
    ) -> None:
        """Set scales and thresholds by what :meth:`seen` has returned, of any models like this.

        The scores of these images are left in ``normal_scores``, and which ``images`` these are,
        in ``normal_images``.
        """
        if not seen:
            raise FastFlowError("no images to calibrate on: expected at least one normal image")
        if sum(len(maps[0]) for maps, _ in seen) == 1:
            warnings.warn("calibrated on a single image: the threshold says little", stacklevel=3)
        levels = [torch.cat(level) for level in zip(*(maps for maps, _ in seen), strict=True)]
        if not all(level.isfinite().all() for level in levels):
            raise FastFlowError(
                "the model gives maps that are not finite: train it again; FastFlow, with a "
                "smaller learning rate or clamp"
            )
        inside = [_only(level, self._inside(level)) for level in levels]
        self.level_scale.copy_(torch.stack(list(map(level_scale, inside))))
        anomaly_maps = torch.cat([self._combined(maps) for maps, _ in seen])
        highest = self._highest(anomaly_maps, levels)
        pixels = _only(anomaly_maps, self._inside(anomaly_maps))
        spread = torch.stack([each.std(correction=0) for each in (pixels, *inside)])
        self.score_mean.copy_(highest.mean(0))
        self.score_std.copy_(_expected_spread(highest, spread))
        own = [score for _, score in seen if self._keeps(score)]
        scores = torch.cat(own) if own else _score(highest, self.score_mean, self.score_std)
        self.image_threshold.copy_(upper_quantile(scores, image_fpr))
        self.pixel_threshold.copy_(upper_quantile(pixels.flatten(), pixel_fpr))
        self.normal_scores, self.normal_images = scores, images

    def forget_thresholds(self) -> None:
        """Make them infinite again: what was learnt earlier says nothing of what comes."""
        for threshold in (self.image_threshold, self.pixel_threshold):
            threshold.fill_(math.inf)

    # What is made of it -------------------------------------------------------------------------

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.backbone.device

    def level_maps(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Return each of :meth:`maps` as :func:`~fastflow_utils.detector.maps.level_map` has it.

        Its scale is how rare a value is among the positions of held-out normal images, so levels
        of any size and depth compare.

        Args:
            features: One (B, C_l, H_l, W_l) for each level.

        Returns:
            Maps (B, 1, h, w) in [0, 1]; higher is more anomalous.
        """
        return self._level_maps(self.maps(features))

    def anomaly_map(self, features: Sequence[Tensor]) -> Tensor:
        """Return the heat map: the levels' maps at image size, averaged, smoothed.

        Args:
            features: One (B, C_l, H_l, W_l) for each level.

        Returns:
            (B, 1, H, W) in [0, 1] with H = W = the backbone's image size; higher is more
            anomalous.
        """
        self.require_whole()
        return self._combined(self.maps(features))

    def judge(self, features: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        r"""Return the anomaly map (B, 1, H, W) and the image score (B,); higher is more anomalous.

        .. math:: s = z_0 + \max_l z_l, \qquad z = \frac{t - \mathrm{mean}(t)}{\mathrm{std}(t)}

        :math:`t_0` is the mean of the anomaly map's highest values, :math:`t_l` that of level l's
        map of :meth:`maps` (:func:`~fastflow_utils.detector.maps.image_score`), mean and standard
        deviation are over held-out normal images. So the score counts in standard deviations of
        normal images, both where all levels agree and what one level alone sees: around 0 for
        normal images, and without a bound.

        Evaluation, prediction and calibration ask here. A method with a score of its own
        (:meth:`raw`) keeps that, unless a region says that a part of the picture alone counts.
        """
        self.require_whole()
        return self.judged(self.raw(features))

    def judged(self, raw: Raw) -> tuple[Tensor, Tensor]:
        """Return :meth:`judge` of what :meth:`raw` or :meth:`look` has returned."""
        maps, own = raw
        anomaly_map = self._combined(maps)
        if not self._keeps(own):
            own = _score(self._highest(anomaly_map, maps), self.score_mean, self.score_std)
        return anomaly_map, own

    @torch.no_grad()
    def look(self, picture: Picture) -> Raw:
        """Return :meth:`raw` of one picture, which is cut into windows where the model says so.

        Of a large picture one row of windows is in memory at a time, as floats and as features.
        """
        strips = Strips(picture, self.image_size, self.white)
        if self.windows is None:
            image = strips.rows()[None].to(self.device)
            return self.raw(self.backbone(image))
        rows: list[Raw] = []
        side, columns = self.windows.side, self.windows.columns
        for top in self.windows.rows:
            strip = strips.rows(top, top + side)
            row = torch.stack([strip[..., left : left + side] for left in columns])
            rows += [self.raw(self.backbone(some.to(self.device))) for some in row.split(8)]
        maps = [torch.cat(level) for level in zip(*(maps for maps, _ in rows), strict=True)]
        own = [score for _, score in rows if score is not None]
        highest = torch.cat(own).amax(0, keepdim=True) if own else None
        return [self.windows.blend(level) for level in maps], highest

    def require_whole(self) -> None:
        """Refuse to take the features of windows for those of pictures.

        Raises:
            FastFlowError: If this model cuts pictures into windows.
        """
        if self.windows is not None:
            raise FastFlowError(
                "this model cuts pictures into windows, and the features of windows are no whole "
                "picture's: give it pictures, by predict, look or fit"
            )

    def score(self, features: Sequence[Tensor]) -> Tensor:
        """Return the image score (B,) of :meth:`judge`."""
        return self.judge(features)[1]

    def for_inference(self) -> "Detector":
        """Return the form to evaluate and predict with."""
        return self.eval()

    @torch.no_grad()
    def predict(self, pictures: "Picture | Sequence[Picture]") -> tuple[Tensor, Tensor]:
        """Return :meth:`judge` of pictures of any size.

        A ``FastFlow`` makes its inference form for this, at every call, so that it is never an
        old one. For many calls, ask for that form once: ``model.folded().predict(...)``.

        Args:
            pictures: Paths, Pillow images, arrays or tensors, one or several, as
                :func:`~fastflow_utils.data.images.as_images` takes them.

        Raises:
            FastFlowError: A picture cannot be used as one, or its score is not finite.
        """
        detector = self.for_inference()
        if detector.windows is None:
            images = as_images(pictures, detector.image_size, detector.white).to(detector.device)
            anomaly_map, score = detector.judge(detector.backbone(images))
            anomaly_map = detector.backbone.turned_back(anomaly_map, images)
        else:
            judged = [detector.judged(detector.look(one)) for one in each_picture(pictures)]
            anomaly_map, score = (torch.cat(part) for part in zip(*judged, strict=True))
        if not score.isfinite().all():
            raise FastFlowError(
                f"scores of {score.tolist()}: expected finite ones; the model's weights or its "
                "calibration are broken, so train it again"
            )
        return anomaly_map, score

    def _check_levels(self, features: Sequence[Tensor]) -> None:
        expected = len(self.backbone.channels)
        if len(features) != expected:
            raise FastFlowError(
                f"{len(features)} feature maps: expected {expected}, one for each level"
            )

    def _keeps(self, own: Tensor | None) -> "TypeIs[Tensor]":
        """Return whether a method's own score counts: it is of whole pictures only."""
        return own is not None and bool(self.region.all())

    def _level_maps(self, maps: Sequence[Tensor]) -> list[Tensor]:
        return [
            self._shown(level_map(one, scale))
            for one, scale in zip(maps, self.level_scale, strict=True)
        ]

    def _inside(self, maps: Tensor) -> Tensor:
        """Return where the region is in maps (..., h, w), (h, w) bool."""
        size = (maps.shape[-2], maps.shape[-1])
        if self.region.all():
            return self.region.new_ones(size)
        return self.region if size == self.region.shape else _resized(self.region, size)

    def _shown(self, maps: Tensor) -> Tensor:
        """Return maps in [0, 1] with 0 outside the region."""
        return maps if self.region.all() else maps.where(self._inside(maps), 0)

    def _highest(self, anomaly_map: Tensor, maps: Sequence[Tensor]) -> Tensor:
        """Return t of :meth:`judge`, (B, 1 + L): of windows, that of the highest one."""
        return torch.stack([self._top_of(each) for each in (anomaly_map, *maps)], dim=1)

    def _top_of(self, maps: Tensor) -> Tensor:
        """Return the highest window's :func:`image_score` of maps (B, 1, h, w), (B,)."""
        inside = self._inside(maps)
        parts, regions = [maps], [inside]
        if self.windows is not None:
            parts, regions = self.windows.parts(maps), self.windows.parts(inside)
        scores = [
            image_score(_only(part, region), self.top)
            for part, region in zip(parts, regions, strict=True)
            if region.any()
        ]
        return torch.stack(scores).amax(0)

    def _combined(self, maps: Sequence[Tensor]) -> Tensor:
        shrunk = self.map_size[0] / self.image_size[0]
        combined = combine(self._level_maps(maps), self.map_size, self.smoothing * shrunk)
        return self._shown(combined)

    # Files --------------------------------------------------------------------------------------

    def save(self, folder: Path | str, **notes: object) -> Path:
        """Write the whole detector to a folder: safetensors and JSON, no pickles.

        The frozen backbone goes along, so that the folder works on a machine without the weights.

        Args:
            folder: Made if it is missing.
            **notes: Anything for people to read in ``config.json``, under "notes".

        Raises:
            FastFlowError: If the model is, or a note is of a kind, that a file cannot hold.
        """
        config = {
            "format": FORMAT,
            "method": self.method,
            "options": self.settings(),
            "backbone": {
                "name": self.backbone.name,
                "layers": list(map(int, self.backbone.layers)),
                "image_size": self.backbone.image_size,
                "fold": self.backbone.folded,
                "upright": self.backbone.upright,
            },
            "map": {"smoothing": self.smoothing, "top": self.top},
            "reading": {
                "windows": self.windows and asdict(self.windows),
                "white": self.white,
            },
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
    def load(cls, folder: Path | str) -> Self:
        """Read a detector that :meth:`save` wrote; its outputs are the same bit for bit.

        ``Detector.load`` reads one of any method, and returns it in its own class.

        Raises:
            FastFlowError: If the folder holds no model, one that cannot be read, or one of
                another class than this.
        """
        folder = Path(folder)
        require_model(folder)
        try:
            config: dict[str, Any] = json.loads((folder / "config.json").read_text())
            found = config.get("format")
            if found == FORMAT:
                state = safetensors.torch.load_file(folder / "model.safetensors")
                backbone = Backbone(**config["backbone"], pretrained=False)
                kind: type[Detector] = method_class(config["method"])
                model = kind.restored(backbone, config["options"], **config["map"])
                reading = config["reading"]
                windows = reading["windows"] and Windows(**reading["windows"])
                model.read_as(windows=windows, white=reading["white"])
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
        if not isinstance(model, cls):
            raise FastFlowError(
                f"the model in '{folder}' is a {kind.__name__}, no {cls.__name__}: load it with "
                "Detector.load"
            )
        return model.eval()


def features_for(
    model: Detector, data: Features | Pictures | LearntPictures
) -> Features | LearntPictures:
    """Return the features to learn from, on the model's device, after checking what they are of.

    Of a model that cuts pictures, those pictures.

    Raises:
        FastFlowError: If the data are a test split, no features at all, or of another network.
    """
    if isinstance(data, Pictures):
        if data.split != "train":
            raise FastFlowError(f"the {data.split} split: expected the training images")
        if model.windows is not None:
            return WindowedPictures(model.backbone, data, model.windows)
        data = extract(model.backbone, data)
    if isinstance(data, LearntPictures):
        data.check(model.backbone, model.windows)
        return data
    if not isinstance(data, Features):
        raise FastFlowError(
            f"cannot train on {type(data).__name__}: expected Features or a data set's training "
            "split"
        )
    data.check_source(model.backbone)
    if data.channels != model.backbone.channels:
        raise FastFlowError(
            f"features of {data.channels} channels for a model of {model.backbone.channels}: "
            "compute them with extract(model.backbone, dataset)"
        )
    if model.device.type == "cpu":
        return data  # where they lie: in memory, or in the files of the cache
    return data.to(model.device)  # once, instead of with every batch
