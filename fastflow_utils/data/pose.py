r"""Objects that lie in any direction, turned into one, by their principal axis in the image.

A flow learns what is normal at each place of an object. Where each image shows the object in
another direction, it must learn all of them; turned to one direction first, one is enough. Only
an object on a plain background that is long and has two different ends has a direction to be
measured: :func:`lies_anywhere` says whether the normal images of a category are of this kind.

The foreground is what differs from the median of the border, by Otsu's threshold. The pose is the
axis along which its pixels vary most, through the middle between its ends; the axis points to the
end where the third moment of the pixels is positive, which is the thin one.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fastflow_utils.errors import FastFlowError

__all__ = ["Pose", "lies_anywhere", "pose_of", "turned", "turned_back"]

LONG = 4.0  # variances: twice as long as wide, or more
FITTING = 1.95  # half sides: the turned image has two
UNEVEN = 0.05  # third moment, in standard deviations to the power of three
PLAIN = 0.05  # share of the border that may be foreground
ROUND = 1.5  # variances: hardly longer than wide
CROWDED = 0.25  # share of the border that is foreground: no plain background
ALIGNED = 0.95  # mean of the unit vectors along the axes: 1 if all are the same
MOST = 0.95  # share of the images that must be so


class Pose(NamedTuple):
    """Where an object lies in its image, and how sure that is.

    Attributes:
        angle: Direction of the axis, radians, from the x axis towards the y axis (downwards).
        centre: (x, y), in [-1, 1] from edge to edge.
        length: Variance along the axis over that across it.
        extent: From end to end, in half sides of the image.
        skewness: Third standardised moment along the axis, 0 or more.
        border: Share of the image's border that is foreground.
    """

    angle: float
    centre: tuple[float, float]
    length: float
    extent: float
    skewness: float
    border: float

    @property
    def is_clear(self) -> bool:
        """Whether the object is long, uneven, on a plain background, and fits when turned."""
        is_long = self.length >= LONG and self.extent <= FITTING
        return is_long and self.skewness >= UNEVEN and self.border <= PLAIN


AS_IT_IS = Pose(0.0, (0.0, 0.0), 1.0, 0.0, 0.0, 0.0)
"""The pose of an image without an object that has a direction: turning leaves it as it is."""


def pose_of(image: Tensor) -> Pose:
    """Return the pose of the largest object in an image (3, S, S) in [0, 1].

    Where nothing has a direction (hardly longer than wide, or everywhere up to the border), it is
    the one that leaves the image as it is.

    Example:
        >>> image = torch.ones(3, 64, 64)
        >>> image[:, 30:34, 10:50] = 0  # a bar along x ...
        >>> image[:, 26:38, 10:20] = 0  # ... whose left end is thick
        >>> pose = pose_of(image)
        >>> round(pose.angle, 2), pose.is_clear  # it points to the thin end
        (0.0, True)
    """
    from scipy import ndimage  # here, as below: most detectors never turn anything
    from skimage.filters import threshold_otsu

    differs = _differences(image)
    foreground = differs > threshold_otsu(differs)
    regions, count = ndimage.label(foreground, np.ones((3, 3)))
    border = float(_border(foreground).mean())
    if count == 0 or border > CROWDED:
        return AS_IT_IS
    largest = 1 + np.bincount(regions[regions > 0] - 1).argmax()
    rows, columns = np.nonzero(regions == largest)  # what lies about is no part of the object
    places = 2 * (np.stack([columns, rows]) + 0.5) / len(differs) - 1  # x and y of pixel centres
    variances, axes = np.linalg.eigh(np.cov(places, ddof=0))
    own = axes.T @ places  # across the axis, and along it
    third = np.mean((own[1] - own[1].mean()) ** 3) / max(variances[1], 1e-12) ** 1.5
    if variances[1] < ROUND * variances[0] or len(rows) < 2:
        return AS_IT_IS
    ends = np.quantile(own, [0.005, 0.995], axis=1)  # a speck is no end
    centre = axes @ ends.mean(0)
    x, y = axes[:, 1] * (1 if third >= 0 else -1)
    return Pose(
        angle=float(np.arctan2(y, x)),
        centre=(float(centre[0]), float(centre[1])),
        length=float(variances[1] / max(variances[0], 1e-12)),
        extent=float(ends[1, 1] - ends[0, 1]),
        skewness=abs(float(third)),
        border=border,
    )


def _differences(image: Tensor) -> np.ndarray:
    """Return how far each pixel's grey is from the median of the border, (S, S)."""
    if image.ndim != 3 or image.shape[1] != image.shape[2]:
        raise FastFlowError(f"image {tuple(image.shape)}: expected a square one, (3, S, S)")
    grey = image.mean(0).double().cpu().numpy()
    differs: np.ndarray = np.abs(grey - np.median(_border(grey)))
    return differs


def _border(pixels: np.ndarray) -> np.ndarray:
    """Return the outermost pixels, a fortieth of the side wide."""
    wide = max(1, len(pixels) // 40)
    inner = np.zeros(pixels.shape, bool)
    inner[wide:-wide, wide:-wide] = True
    return pixels[~inner]


def lies_anywhere(images: Iterable[Tensor]) -> bool:
    """Return whether objects lie in any direction that can be measured; no labels are needed.

    Nearly all of the images must have a clear pose (:attr:`Pose.is_clear`), and these must not
    be one and the same already.

    Args:
        images: Normal ones, (3, S, S) each, such as the training split's.
    """
    poses = [pose_of(image) for image in images]
    angles = np.array([pose.angle for pose in poses])
    is_clear = np.mean([pose.is_clear for pose in poses]) >= MOST
    return bool(is_clear and abs(np.exp(1j * angles).mean()) < ALIGNED)


def turned(images: Tensor, poses: Iterable[Pose]) -> Tensor:
    """Return images (B, C, S, S) with each object in the middle, its axis along x.

    What comes in from beyond the border has the border's median.
    """
    images = images.contiguous()
    fill = torch.stack([_medians(image) for image in images])
    grid = F.affine_grid(_matrices(poses, images), list(images.shape), align_corners=False)
    moved = F.grid_sample(images - fill, grid, mode="bicubic", align_corners=False)
    return (moved + fill).clamp(0, 1)


def _medians(image: Tensor) -> Tensor:
    """Return the median of each channel's border, (C, 1, 1)."""
    borders = [float(np.median(_border(channel.cpu().numpy()))) for channel in image]
    return image.new_tensor(borders)[:, None, None]


def turned_back(maps: Tensor, poses: Iterable[Pose]) -> Tensor:
    """Return maps (B, 1, S, S) of turned images as they lie over the images that were turned.

    What the turned image does not show, at the corners, has 0: nothing is known of it. It is seen
    by no network, so a defect there, apart from the object, is not found.
    """
    matrices = _matrices(poses, maps)
    inverse = torch.linalg.inv(matrices[:, :, :2])
    back = torch.cat([inverse, -inverse @ matrices[:, :, 2:]], dim=2)
    grid = F.affine_grid(back, list(maps.shape), align_corners=False)
    return F.grid_sample(maps, grid, mode="bilinear", align_corners=False)


def _matrices(poses: Iterable[Pose], like: Tensor) -> Tensor:
    """Return for each pose where a turned pixel comes from, (B, 2, 3)."""
    rows = [
        [
            [np.cos(pose.angle), -np.sin(pose.angle), pose.centre[0]],
            [np.sin(pose.angle), np.cos(pose.angle), pose.centre[1]],
        ]
        for pose in poses
    ]
    return torch.tensor(rows, dtype=like.dtype, device=like.device)
