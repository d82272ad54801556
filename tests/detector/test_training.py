"""What training promises: its optimizer, its schedule, its thresholds; planted mistakes show.

A check trains a small model with `fit`, and records what the optimizer gets at each step. A
mistake replaces one thing that `fit` uses, and the check that it names must fail.
"""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from fastflow_utils.detector.backbones import Backbone
from fastflow_utils.detector.features import Features
from fastflow_utils.detector.flows import Flow, FlowOptions, PositionNorm
from fastflow_utils.detector.model import FastFlow
from fastflow_utils.detector.training import fit, hold_out

IMAGES, BATCHES = 40, 18  # of the 36 images that are not held out, two at a time


def detector(position: bool = False) -> FastFlow:
    backbone = Backbone("efficientnet_lite0", image_size=32, pretrained=False)
    options = FlowOptions(steps=1, position=position)
    model = FastFlow(backbone, FlowOptions(steps=1))
    if position:  # at the features' size
        model.flows = nn.ModuleList(Flow(c, options, size=(2, 2)) for c in backbone.channels)
    return model


def features(positions: int = 2) -> Features:
    """Random features, a few images of which are so unusual that their gradients are long."""
    generator = torch.Generator().manual_seed(0)
    size = torch.ones(IMAGES, 1, 1, 1)
    size[::5] = 30
    shapes = [(IMAGES, channels, positions, positions) for channels in (24, 40, 112)]
    return Features([size * torch.randn(shape, generator=generator) for shape in shapes])


@dataclass
class Steps:
    """What the optimizer got, step by step."""

    rates: list[float] = field(default_factory=list)
    gradients: list[float] = field(default_factory=list)  # their norm, of all parameters together


@contextmanager
def recorded() -> Iterator[Steps]:
    steps = Steps()

    def record(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        (group,) = optimizer.param_groups
        steps.rates.append(float(group["lr"]))
        norms = [p.grad.norm() for p in group["params"] if p.grad is not None]
        steps.gradients.append(torch.stack(norms).norm().item())

    handle = register_optimizer_step_pre_hook(record)
    try:
        yield steps
    finally:
        handle.remove()


def share_above_the_thresholds_is_what_was_asked() -> None:
    model, given = detector(), features()
    fit(model, given, epochs=1, image_fpr=0.5, pixel_fpr=0.01)
    _, held_out = hold_out(IMAGES, torch.Generator().manual_seed(0))
    with torch.no_grad():
        maps, scores = model.judge(given[held_out])
    images = (scores >= model.image_threshold).float().mean()
    pixels = (maps >= model.pixel_threshold).float().mean()
    assert 0.2 < images < 0.6
    assert 0.005 < pixels < 0.02


def weights_shrink_as_they_are_told() -> None:
    lengths = []
    for weight_decay in (0.0, 20.0):
        model = detector()
        fit(model, features(), epochs=1, weight_decay=weight_decay)
        lengths.append(sum(p.norm().item() for p in model.flows.parameters()))
    assert lengths[1] < 0.8 * lengths[0]


def no_step_follows_a_gradient_longer_than_one() -> None:
    with recorded() as steps:
        fit(detector(), features(), epochs=1)
    assert max(steps.gradients) == pytest.approx(1, rel=1e-3), "clipped, and not to less"


def learning_rate_rises_for_a_tenth_and_falls_to_nothing() -> None:
    with recorded() as steps:
        fit(detector(), features(), epochs=5, learning_rate=1e-3)
    assert len(steps.rates) == 5 * BATCHES
    peak = max(range(len(steps.rates)), key=steps.rates.__getitem__)
    assert peak == pytest.approx(0.1 * len(steps.rates), abs=1.5)
    assert steps.rates[:peak] == sorted(steps.rates[:peak])
    assert steps.rates[peak:] == sorted(steps.rates[peak:], reverse=True)
    assert max(steps.rates) == pytest.approx(1e-3, rel=0.02)
    assert steps.rates[-1] < 1e-5 and steps.rates[0] < 2e-4


def positions_are_measured_on_all_that_is_trained_on() -> None:
    given, (images, _) = features(), hold_out(IMAGES, torch.Generator().manual_seed(0))
    model = detector(position=True)
    fit(model, given, epochs=1)
    for flow, level in zip(model.flows, given.levels, strict=True):
        layer, expected = flow.layers[0], PositionNorm(level.shape[1], (2, 2))
        expected.measure([level[images]])
        torch.testing.assert_close(layer.mean, expected.mean)
        torch.testing.assert_close(layer.log_std, expected.log_std)


Check = Callable[[], None]
Replace = Callable[..., Any]
CHECKS: list[Check] = [
    share_above_the_thresholds_is_what_was_asked,
    weights_shrink_as_they_are_told,
    no_step_follows_a_gradient_longer_than_one,
    learning_rate_rises_for_a_tenth_and_falls_to_nothing,
    positions_are_measured_on_all_that_is_trained_on,
]


def changed(**options: Any) -> Callable[[Replace], Replace]:
    """Return what makes a function ignore its own options and take these."""

    def plant(real: Replace) -> Replace:
        def mistaken(*given: Any, **own: Any) -> Any:
            arguments = inspect.signature(real).bind(*given, **own).arguments
            return real(**(arguments | options))

        return mistaken

    return plant


def swapped(real: Replace) -> Replace:
    def calibrate(self: FastFlow, seen: Any, image_fpr: float, pixel_fpr: float, *more: Any):
        real(self, seen, pixel_fpr, image_fpr, *more)

    return calibrate


def first_batch_alone(real: Replace) -> Replace:
    return lambda self, batches: real(self, [next(iter(batches))])


# What `fit` uses, what stands in its place, and the check that must fail.
MISTAKES: dict[str, tuple[Any, str, Callable[[Replace], Replace], Check]] = {
    "thresholds swapped": (FastFlow, "calibrate_by", swapped, CHECKS[0]),
    "weight decay ignored": (torch.optim, "AdamW", changed(weight_decay=0.0), CHECKS[1]),
    "decay always the default": (torch.optim, "AdamW", changed(weight_decay=1e-5), CHECKS[1]),
    "gradients not clipped": (
        torch.nn.utils,
        "clip_grad_norm_",
        changed(max_norm=float("inf")),
        CHECKS[2],
    ),
    "clipped to a tenth": (torch.nn.utils, "clip_grad_norm_", changed(max_norm=0.1), CHECKS[2]),
    "positions of the first images": (Flow, "prepare", first_batch_alone, CHECKS[4]),
    "positions of the batch that starts": (
        Flow,
        "prepare",
        lambda real: lambda self, batches: None,
        CHECKS[4],
    ),
    "warm-up of a half": (
        torch.optim.lr_scheduler,
        "OneCycleLR",
        changed(pct_start=0.5),
        CHECKS[3],
    ),
    "linear decay to much": (
        torch.optim.lr_scheduler,
        "OneCycleLR",
        changed(final_div_factor=1.0),
        CHECKS[3],
    ),
}


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_training_keeps_its_promises(check: Check):
    check()


@pytest.mark.parametrize("name", MISTAKES)
def test_a_planted_mistake_is_caught(name: str, monkeypatch: pytest.MonkeyPatch):
    owner, attribute, mistake, caught_by = MISTAKES[name]
    monkeypatch.setattr(owner, attribute, mistake(getattr(owner, attribute)))
    with pytest.raises(AssertionError):
        caught_by()


def test_folds_are_those_of_the_models_own_fit():
    by_function, by_method = detector(), detector()
    options: dict[str, Any] = {"epochs": 1, "batch_size": 8, "seed": 3, "folds": 2}
    fit(by_function, features(), **options)
    by_method.fit(features(), **options)
    assert by_function.image_threshold.isfinite()
    for name, value in by_method.state_dict().items():
        if not name.startswith("backbone."):  # random, and of no part in this
            torch.testing.assert_close(by_function.state_dict()[name], value)


def test_images_that_a_flow_cannot_know_are_told():
    """A flow that explodes on new images has finite likelihoods all the same, so no error."""
    odd = features()
    held_out = hold_out(IMAGES, torch.Generator().manual_seed(0))[1]
    for level in odd.levels:
        level[held_out] *= 1e4
    with pytest.warns(UserWarning, match="less likely than those learnt"):
        fit(detector(), odd, epochs=1)
