"""The sample set: procedural inspection images in MVTec AD's layout, with exact masks.

All fifteen names of MVTec AD, five textures and ten objects, in our own renderings. A category is
a recipe in :mod:`~fastflow_utils.sample_data.categories` made of parts that each have a module:
:mod:`~fastflow_utils.sample_data.materials`, :mod:`~fastflow_utils.sample_data.shapes`, light and
:mod:`~fastflow_utils.sample_data.camera`, and :mod:`~fastflow_utils.sample_data.damage`;
:mod:`~fastflow_utils.sample_data.gallery` shows each alone.

>>> len(CATEGORIES)
15
>>> image, mask = render("bottle", "broken_small", size=128, seed=1)
>>> gross, _ = render("bottle", "broken_small", size=128, seed=1, severity=1.0)
"""

from fastflow_utils.sample_data.folders import make
from fastflow_utils.sample_data.rendering import CATEGORIES, defects, render, restage

__all__ = ["CATEGORIES", "defects", "make", "render", "restage"]
