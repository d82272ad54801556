"""The sample set: procedural inspection images in MVTec AD's layout, with exact masks.

Three categories so far: carpet (a texture), bottle (an object in a fixed pose) and screw (an
object in any direction). A category is a recipe in :mod:`~fastflow_utils.sample_data.categories`
made of parts that each have a module: materials, shapes, light and camera, defects.

>>> CATEGORIES
('bottle', 'carpet', 'screw')
>>> image, mask = render("bottle", "broken_small", size=128, seed=1)
"""

from fastflow_utils.sample_data.folders import make
from fastflow_utils.sample_data.rendering import CATEGORIES, defects, render

__all__ = ["CATEGORIES", "defects", "make", "render"]
