"""Light and camera: from a surface to the 8-bit photograph of it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, shift

from fastflow_utils.data.sample_set.surface import Field, Rng, Surface, grid, mix

__all__ = ["Camera", "Light", "levels"]


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


def levels(light: Field, most: float = 1.0) -> Field:
    """Return linear light as grey levels (gamma 2.2): 1 is level 255, and `most` is the limit.

    >>> levels(np.array([0.0, 0.5, 1.0, 3.0])).round().tolist()
    [0.0, 186.0, 255.0, 255.0]
    """
    return 255 * np.clip(light, 0, most) ** np.float32(1 / 2.2)


@dataclass(frozen=True)
class Camera:
    """Lamps and a camera. Lengths are in units of half the image.

    From one photograph to the next the exposure varies by `exposure`, as on a production line,
    and that of each colour by about `tint`. Like a sensor behind a colour mosaic it resolves
    brightness better than colour; that, and steps of more than one grey level, make files small.
    """

    lights: tuple[Light, ...]
    ambient: float = 0.3
    shininess: float = 30.0  # exponent: 5 is satin, 30 plastic, 100 and more wet or polished
    occlusion: float = 0.0  # how dark hollows of a depth of 0.05 are
    shadow: float = 0.0  # how dark the object's shadow on the floor is, 0 to 1
    reach: float = 0.05  # how far it falls, away from the first lamp, and how soft it is
    blur: float = 0.004  # standard deviation
    vignette: float = 0.15
    exposure: float = 0.03
    noise: float = 1.0  # standard deviation in grey levels, at mid-grey
    tint: float = 0.004
    step: int = 2  # grey levels between two readings; a rough texture hides larger steps
    grey: bool = False  # a monochrome camera

    def shade(self, surface: Surface) -> Field:
        """Return the linear light (3, N, N) that the surface sends to the camera (Blinn-Phong).

        Normals come from the slope of the height field. The floor is not lit: it is as bright
        as its colour says, less the object's shadow.
        """
        slope_y, slope_x = np.gradient(surface.height, surface.step)
        nz = 1 / np.sqrt(1 + slope_x**2 + slope_y**2)
        diffuse, mirror = self.ambient * (0.4 + 0.6 * nz), np.zeros_like(nz)
        for lamp in self.lights:
            lx, ly, lz = lamp.direction
            diffuse += lamp.strength * np.maximum((lz - lx * slope_x - ly * slope_y) * nz, 0)
            # The half-way vector between lamp and camera is (lx, ly, lz + 1), normalised.
            half = (lz + 1 - lx * slope_x - ly * slope_y) * nz / (2 + 2 * lz) ** 0.5
            mirror += lamp.strength * np.maximum(half, 0) ** self.shininess
        if self.occlusion:
            hollow = gaussian_filter(surface.height, 0.04 / surface.step) - surface.height
            diffuse *= np.clip(1 - self.occlusion * hollow / 0.05, 0.2, 1.2)
        floor = surface.floor
        if self.shadow:
            soft = self.reach / surface.step
            lx, ly, _ = self.lights[0].direction
            thrown = shift(surface.cover, (-ly * soft, -lx * soft), order=1)
            floor = floor * (1 - self.shadow * gaussian_filter(thrown, soft))
        return mix(floor, surface.color * diffuse + surface.gloss * mirror, surface.cover)

    def photograph(self, light: Field, rng: Rng) -> NDArray[np.uint8]:
        """Return the photograph (H, W, 3) of the light (3, N, N) at every point."""
        size = light.shape[-1]
        light = gaussian_filter(light, self.blur * size / 2, axes=(1, 2))
        x, y = grid(size)
        gain = rng.lognormal(0, self.exposure)
        gains = rng.lognormal(0, self.tint, (3, 1, 1)).astype(np.float32) * np.float32(gain)
        light *= gains * (1 - self.vignette / 2 * (x**2 + y**2))
        seen = levels(light, most=1.2)  # beyond 1, so that noise does not darken white
        grey = seen[1]
        grain = self.noise * (0.6 + grey / 320) * rng.standard_normal(grey.shape, np.float32)
        color = 0 * seen if self.grey else gaussian_filter(seen - grey, 1.5, axes=(1, 2))
        steps = np.rint((grey + grain) / self.step) + np.rint(color / self.step)
        image: NDArray[np.uint8] = np.clip(self.step * steps, 0, 255).astype(np.uint8)
        return image.transpose(1, 2, 0)
