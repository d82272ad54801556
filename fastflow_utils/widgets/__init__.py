"""Figures with controls, each with a static twin that needs none: one module for each widget."""

from fastflow_utils.widgets.explore import explore
from fastflow_utils.widgets.features import explore_features, feature_figure

__all__ = ["explore", "explore_features", "feature_figure"]
