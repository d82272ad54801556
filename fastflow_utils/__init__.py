"""FastFlow, anomaly detection with 2-D normalizing flows: the package that the notebooks import.

Four wings, each of which imports from the ones before it only::

    data          folders, archives, own pictures, the sample set  -> images and masks
    detector      backbones, features, flows, folding, maps,
                  detector, model, training, baselines, metrics,
                  metric_classes, evaluation, prediction           -> maps, scores, metrics
    experiments   recipes, run, reproduce, ablation, tables, ...   -> results on disk, tables
    course        plots, widgets, exercises                        -> what the notebooks show

The names below are what most people need. They are loaded when they are first used, so that
importing the package takes no time.

Example:
    >>> import fastflow_utils
    >>> fastflow_utils.FastFlow.__module__
    'fastflow_utils.detector.model'
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fastflow_utils.spinning import spin_briefly

if TYPE_CHECKING:
    from fastflow_utils.data.mvtec import MVTecAD
    from fastflow_utils.detector.backbones import Backbone
    from fastflow_utils.detector.detector import Detector
    from fastflow_utils.detector.evaluation import evaluate
    from fastflow_utils.detector.features import extract
    from fastflow_utils.detector.model import FastFlow
    from fastflow_utils.detector.training import fit
    from fastflow_utils.provenance import versions

__all__ = ["Backbone", "Detector", "FastFlow", "MVTecAD", "evaluate", "extract", "fit", "versions"]

__version__ = "0.1.0"

spin_briefly()  # before anything below loads torch

_HOMES = {
    "Backbone": "detector.backbones",
    "Detector": "detector.detector",
    "FastFlow": "detector.model",
    "MVTecAD": "data.mvtec",
    "evaluate": "detector.evaluation",
    "extract": "detector.features",
    "fit": "detector.training",
    "versions": "provenance",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return [*globals(), *_HOMES]
