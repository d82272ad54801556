"""The categories, one module each: a surface, a camera and a few kinds of damage."""

import pkgutil
from collections.abc import Mapping
from importlib import import_module

from fastflow_utils.data.sample_set.scene import Category

__all__ = ["CATALOGUE"]

CATALOGUE: Mapping[str, Category] = {
    module.name: import_module(f"{__name__}.{module.name}").CATEGORY
    for module in pkgutil.iter_modules(__path__)
}
