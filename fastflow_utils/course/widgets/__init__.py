"""Figures with controls, each with a static twin that needs none: one module for each widget."""

from fastflow_utils.course.widgets.browse import browse
from fastflow_utils.course.widgets.changes import (
    CHANGES,
    change_figure,
    explore_changes,
    posed,
    try_changes,
)
from fastflow_utils.course.widgets.epochs import (
    EpochRecord,
    epoch_figure,
    epoch_strip,
    explore_epochs,
    gain_figure,
    length_figure,
    quantile_figure,
)
from fastflow_utils.course.widgets.explore import explore
from fastflow_utils.course.widgets.feature_maps import (
    explore_features,
    explore_latents,
    feature_figure,
    latent_figure,
)
from fastflow_utils.course.widgets.flow_walk import (
    explore_flow,
    flow_figure,
    flow_strip,
    walk_through,
)
from fastflow_utils.course.widgets.mixer import LevelMixer, explore_mixture, mixture_figure
from fastflow_utils.course.widgets.own_picture import explore_own
from fastflow_utils.course.widgets.threshold import explore_threshold

__all__ = [
    "CHANGES",
    "EpochRecord",
    "LevelMixer",
    "browse",
    "change_figure",
    "epoch_figure",
    "epoch_strip",
    "explore",
    "explore_changes",
    "explore_epochs",
    "explore_features",
    "explore_flow",
    "explore_latents",
    "explore_mixture",
    "explore_own",
    "explore_threshold",
    "feature_figure",
    "flow_figure",
    "flow_strip",
    "gain_figure",
    "latent_figure",
    "length_figure",
    "mixture_figure",
    "posed",
    "quantile_figure",
    "try_changes",
    "walk_through",
]
