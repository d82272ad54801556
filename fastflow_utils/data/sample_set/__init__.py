"""The sample set: procedural inspection images in MVTec AD's layout, with exact masks.

All fifteen names of MVTec AD, five textures and ten objects, in our own renderings. A category is
a recipe in ``categories`` made of parts that each have a module:
``materials``, ``shapes``, light and ``camera``, and ``damage``;
:mod:`~fastflow_utils.data.sample_set.gallery` shows each alone.

>>> len(CATEGORIES)
15
>>> image, mask = render("bottle", "broken_small", size=128, seed=1)
>>> gross, _ = render("bottle", "broken_small", size=128, seed=1, severity=1.0)
"""

from fastflow_utils.data.sample_set.rendering import CATEGORIES, defects, render, restage
from fastflow_utils.data.sample_set.writing import make

__all__ = ["CATEGORIES", "defects", "make", "render", "restage"]
