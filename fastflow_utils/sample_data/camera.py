"""Light and camera: from a surface to the 8-bit photograph of it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from fastflow_utils.sample_data.surface import Field, Surface, grid

__all__ = ["Camera", "Light", "halve", "shade"]


@dataclass(frozen=True)
class Light:
    """A distant lamp: where it stands (degrees) and how strong it is."""

    azimuth: float  # 0 = to the right, 90 = below, as angles run in images
    elevation: float  # 90 = at the camera
    strength: float

    @property
    def direction(self) -> tuple[float, float, float]:
        """Return the unit vector (x, y, z) towards the lamp."""
        azimuth, elevation = np.radians([self.azimuth, self.elevation])
        return (
            float(np.cos(elevation) * np.cos(azimuth)),
            float(np.cos(elevation) * np.sin(azimuth)),
            float(np.sin(elevation)),
        )


def shade(surface: Surface, lights: tuple[Light, ...], ambient: float, shininess: float) -> Field:
    """Return the linear light (3, N, N) that the surface sends to the camera (Blinn-Phong).

    Normals come from the slope of the height field. The floor is not lit: it is as bright as
    its colour says.
    """
    pixel = float(surface.y[1, 0] - surface.y[0, 0])
    slope_y, slope_x = np.gradient(surface.height, pixel)
    nz = 1 / np.sqrt(1 + slope_x**2 + slope_y**2)
    diffuse, mirror = ambient * (0.4 + 0.6 * nz), np.zeros_like(nz)
    for light in lights:
        lx, ly, lz = light.direction
        toward = np.maximum((lz - lx * slope_x - ly * slope_y) * nz, 0)
        # The half-way vector between lamp and camera is (lx, ly, lz + 1), normalised.
        half = np.maximum((lz + 1 - lx * slope_x - ly * slope_y) * nz, 0) / (2 + 2 * lz) ** 0.5
        diffuse += light.strength * toward
        mirror += light.strength * half**shininess
    lit = surface.color * diffuse + surface.gloss * mirror
    return np.where(surface.height > 0, lit, surface.floor)


def halve(field: Field) -> Field:
    """Return the means of 2 x 2 neighbours, (..., N, N) -> (..., N/2, N/2)."""
    rows = field[..., ::2, :] + field[..., 1::2, :]
    return (rows[..., ::2] + rows[..., 1::2]) / 4


@dataclass(frozen=True)
class Camera:
    """Lamps and a camera. Lengths are in units of half the image.

    From one photograph to the next the exposure varies by about 3 %, as on a production line, and
    that of each colour by about `tint`.
    """

    lights: tuple[Light, ...]
    ambient: float = 0.3
    shininess: float = 30.0
    blur: float = 0.005
    vignette: float = 0.15
    noise: float = 1.0  # standard deviation in grey levels, at mid-grey
    tint: float = 0.004  # 0 for a monochrome camera

    def photograph(self, surface: Surface, rng: np.random.Generator) -> NDArray[np.uint8]:
        """Return the photograph (N/2, N/2, 3) of a surface given at N x N points."""
        light = halve(shade(surface, self.lights, self.ambient, self.shininess))
        size = light.shape[-1]
        light = gaussian_filter(light, self.blur * size / 2, axes=(1, 2))
        x, y = grid(size)
        gain = rng.lognormal(0, 0.03) * rng.lognormal(0, self.tint, (3, 1, 1)).astype(np.float32)
        light *= gain * (1 - self.vignette / 2 * (x**2 + y**2))
        levels = 255 * np.clip(light, 0, 1) ** (1 / 2.2)
        grain = rng.standard_normal((size, size), dtype=np.float32)
        levels += self.noise * (0.6 + levels / 320) * grain
        image: NDArray[np.uint8] = np.clip(np.rint(levels), 0, 255).astype(np.uint8)
        return image.transpose(1, 2, 0)
