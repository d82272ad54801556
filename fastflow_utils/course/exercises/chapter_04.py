"""Exercises of notebook 04, FastFlow."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.functional import jacobian

from fastflow_utils.course.exercises.checking import Exercise
from fastflow_utils.detector.bootstrap import resamples
from fastflow_utils.detector.flows import Flow, FlowOptions, Kernels

__all__ = ["EXERCISES"]


def _random(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# 4.1


def _undisturbed(size: int, kernels: Sequence[int]) -> float:
    reach = sum(2 * (kernel // 2) for kernel in kernels)
    return (max(0, size - 2 * reach) / size) ** 2


def _by_reach(reach: Callable[[int], int]) -> Callable[[int, Sequence[int]], float]:
    def answer(size: int, kernels: Sequence[int]) -> float:
        return (max(0, size - 2 * sum(map(reach, kernels))) / size) ** 2

    return answer


# 4.2


def _features() -> list[tuple[Tensor]]:
    mix = _random(41, 5, 5)
    h = torch.einsum("dc,bchw->bdhw", mix, _random(42, 3, 5, 6, 7)) + 2
    h[1] += 1  # images differ from each other
    return [(h,), (0.1 * _random(43, 4, 3, 5, 5) - 1,)]


def _vectors(h: Tensor) -> Tensor:
    return h.double().transpose(0, 1).flatten(1)  # (C, positions)


def _entropy(covariance: Tensor, constant: float = 1.0, sign: float = 1.0) -> float:
    log_det = covariance.slogdet().logabsdet / len(covariance)
    return float(0.5 * (np.log(2 * np.pi) + constant + sign * log_det))


def _gaussian_nll(h: Tensor) -> float:
    return _entropy(_vectors(h).cov(correction=0))


# 4.3


def _flow(seed: int, kernels: Kernels) -> Flow:
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        flow = Flow(4, FlowOptions(steps=3, kernels=kernels, whiten=False), generator=generator)
    for parameter in flow.requires_grad_(False).parameters():
        parameter.data = 0.4 * torch.randn(parameter.shape, generator=generator)
    return flow.double().eval()


def _flows() -> list[tuple[Flow, Tensor, int, int]]:
    h = _random(44, 1, 4, 5, 6).double()
    return [(_flow(45, "3x3"), h, 1, 4), (_flow(46, "1x1"), h, 3, 0)]


def _own_block(flow: Flow, h: Tensor, i: int, j: int) -> float:
    return float(_block(flow, h, (i, j), (i, j)).slogdet().logabsdet)


def _block(flow: Flow, h: Tensor, of: tuple[int, int], by: tuple[int, int]) -> Tensor:
    """Return d z_of / d h_by, (C, C)."""

    def z(own: Tensor) -> Tensor:
        there = torch.zeros_like(h)
        there[0, :, by[0], by[1]] = 1
        latent = flow(torch.where(there.bool(), own[None, :, None, None], h))[0]
        return cast(Tensor, latent[0, :, of[0], of[1]])

    return cast(Tensor, jacobian(z, h[0, :, by[0], by[1]]))


# 4.4


def _levels() -> list[tuple[list[Tensor], list[float]]]:
    def level(seed: int, batch: int, side: int) -> Tensor:
        return _random(seed, batch, 1, side, side).sigmoid()

    return [
        ([level(49, 2, 20), level(50, 2, 10), level(51, 2, 5)], [1.0, 2.0, 0.5]),
        ([level(52, 3, 10), level(53, 3, 20)], [0.2, 0.1]),
    ]


def _score(
    reduce: Callable[[Tensor], Tensor] = lambda m: m.flatten(1).topk(16).values.mean(1),
    shares: Callable[[Tensor], Tensor] = lambda weights: weights / weights.sum(),
    mode: str = "bilinear",
) -> Callable[[Sequence[Tensor], Sequence[float]], Tensor]:
    def answer(level_maps: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
        resized = [F.interpolate(level, size=(40, 40), mode=mode) for level in level_maps]
        share = shares(torch.tensor(weights))
        mixed = torch.stack([w * m for w, m in zip(share, resized, strict=True)]).sum(0)
        return reduce(mixed)

    return answer


# 4.5, the piece of work

COLUMNS = ["category", "seed", "label", "default", "changed"]
Answer = tuple[pd.DataFrame, pd.DataFrame]


def _verdict(low: float, high: float) -> str:
    return "better" if low > 0 else "worse" if high < 0 else "not distinguishable"


def _areas(scores: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the AUROC on each resample (R,): the share of pairs in the right order."""
    good, bad = scores[labels == 0], scores[labels == 1]
    order = 0.5 * (np.sign(bad - good[:, None]) + 1)
    normal, anomalous = weights[:, labels == 0], weights[:, labels == 1]
    areas: np.ndarray = ((normal @ order) * anomalous).sum(1) / order.size
    return areas


def _differences(rows: pd.DataFrame, category: str, *, paired: bool = True) -> np.ndarray:
    """Return AUROC of changed minus default, mean over seeds: as it is, then resampled."""
    found = []
    for _, one in rows.groupby("seed"):
        labels = one["label"].to_numpy()
        whole, weights = np.ones((1, len(labels))), resamples(labels, category)
        others = weights if paired else resamples(labels, category + " again")
        drawn = [np.vstack([whole, weights]), np.vstack([whole, others])]
        pairs = zip(("changed", "default"), drawn, strict=True)
        areas = [_areas(one[name].to_numpy(float), labels, w) for name, w in pairs]
        found.append(areas[0] - areas[1])
    mean: np.ndarray = np.mean(found, axis=0)
    return mean


def _summary(scores: pd.DataFrame, *, paired: bool = True) -> pd.DataFrame:
    rows = {}
    for category, some in scores.groupby("category"):
        values = _differences(some, str(category), paired=paired)
        low, high = np.quantile(values[1:], [0.025, 0.975])
        rows[category] = {"difference": values[0], "low": low, "high": high}
    table = pd.DataFrame(rows).T
    pairs = zip(table["low"], table["high"], strict=True)
    return table.assign(verdict=[_verdict(low, high) for low, high in pairs])


def _made_up() -> pd.DataFrame:
    """Scores of two models, the changed one worse on "a" and much the same on "b"."""
    generator, tables = np.random.default_rng(4), []
    for category, loss in {"a": 1.2, "b": 0.0}.items():
        labels = np.repeat([0, 1], 20)
        for seed in (0, 1):
            default = 1.6 * labels + generator.normal(size=40)
            changed = default - loss * labels + 0.3 * generator.normal(size=40)
            table = {"category": category, "seed": seed, "label": labels}
            tables.append(pd.DataFrame({**table, "default": default, "changed": changed}))
    return pd.concat(tables, ignore_index=True)


def _answer(scores: pd.DataFrame) -> Answer:
    return scores, _summary(scores)


def _holds_images(answer: Any) -> bool:
    scores, _ = answer
    if not set(COLUMNS) <= set(scores.columns):
        return False
    values = scores[["default", "changed"]].to_numpy(float)
    if not np.isfinite(values).all() or not set(scores["label"]) <= {0, 1}:
        return False
    return all(set(one["label"]) == {0, 1} for _, one in _groups(scores))


def _groups(scores: pd.DataFrame) -> list[tuple[Any, pd.DataFrame]]:
    return list(scores.groupby(["category", "seed"]))


def _holds_seeds(answer: Any) -> bool:
    scores, _ = answer
    seeds = scores.groupby("category")["seed"].nunique()
    return len(seeds) >= 2 and bool((seeds >= 2).all())


def _same_images(answer: Any) -> bool:
    scores, _ = answer
    for _, rows in scores.groupby("category"):
        labels = [one["label"].to_list() for _, one in rows.groupby("seed")]
        if any(one != labels[0] for one in labels):
            return False
    return True


def _models_differ(answer: Any) -> bool:
    scores, _ = answer
    if any(np.allclose(one["default"], one["changed"]) for _, one in _groups(scores)):
        return False
    for _, rows in scores.groupby("category"):
        first, second, *_ = [one["default"].to_numpy() for _, one in rows.groupby("seed")]
        if np.allclose(first, second):
            return False
    return True


def _has_rows(answer: Any) -> bool:
    scores, summary = answer
    return sorted(map(str, summary.index)) == sorted(map(str, scores["category"].unique()))


def _summary_fits(answer: Any, name: str) -> bool:
    scores, summary = answer
    right = _summary(scores)
    if name not in summary.columns:
        return False
    yours, mine = summary.loc[right.index, name].to_numpy(float), right[name].to_numpy(float)
    width = (right["high"] - right["low"]).to_numpy(float)
    # Other draws move an end by about 3 % of the width, a 90 % interval by 8 %.
    room = 1e-3 if name == "difference" else 0.001 + 0.06 * width
    return bool((np.abs(yours - mine) <= room).all())


def _verdicts_fit(answer: Any) -> bool:
    _, summary = answer
    rows = zip(summary["low"], summary["high"], summary["verdict"], strict=True)
    return all(verdict == _verdict(low, high) for low, high, verdict in rows)


PROPERTIES: Mapping[str, Callable[[Any], bool]] = {
    "`scores` has the five columns; of each model and seed there are good and anomalous images, "
    "with finite scores.": _holds_images,
    "There are at least two categories and, in each, two seeds.": _holds_seeds,
    "Of a category, each seed judges the same test images, in the same order.": _same_images,
    "The changed model is another one than the default, and one seed another than the "
    "other.": _models_differ,
    "`summary` has one row for each category, and its index is the category.": _has_rows,
    "`difference` is the AUROC of changed minus that of default, the mean over "
    "seeds.": lambda answer: _summary_fits(answer, "difference"),
    "`low` and `high` are the middle 95 % of the difference over resamples of the test images, "
    "each resample the same for both models and all seeds.": lambda answer: (
        _summary_fits(answer, "low") and _summary_fits(answer, "high")
    ),
    '`verdict` follows from the interval: "better" if it lies above 0, "worse" if below, else '
    '"not distinguishable".': _verdicts_fit,
}


def _shuffled(scores: pd.DataFrame) -> pd.DataFrame:
    second = scores["seed"] == 1
    return pd.concat([scores[~second], scores[second].sample(frac=1, random_state=0)])


def _other_way_round(summary: pd.DataFrame) -> pd.DataFrame:
    changed = {"difference": -summary["difference"], "low": -summary["high"]}
    return summary.assign(**changed, high=-summary["low"])


def _by_sign(summary: pd.DataFrame) -> pd.DataFrame:
    return summary.assign(verdict=["better" if d > 0 else "worse" for d in summary["difference"]])


def _mistakes(scores: pd.DataFrame, summary: pd.DataFrame) -> dict[str, Answer]:
    """One answer for each of the properties, which breaks that one first."""
    wrong = [
        (scores.drop(columns="label"), summary),
        _answer(scores[scores["seed"] == 0]),
        (_shuffled(scores), summary),
        (scores.assign(changed=scores["default"]), summary),
        (scores, summary.reset_index(drop=True)),
        (scores, _other_way_round(summary)),
        (scores, _summary(scores, paired=False)),
        (scores, _by_sign(summary)),
    ]
    return dict(zip(PROPERTIES, wrong, strict=True))


COMPARED = _answer(_made_up())

EXERCISES = {
    "4.1": Exercise(
        reference=_undisturbed,
        inputs=lambda: [
            (64, [3] * 8),
            (64, [3, 1] * 4),
            (16, [3] * 8),
            (20, [1] * 6),
            (30, [5, 3, 1]),
        ],
        hint="How far does a position look to one side, in one step and in all of them?",
        mistakes={
            "A step's subnet has two convolutions, and a map two borders in each direction: has "
            "one of them been forgotten?": _by_reach(lambda kernel: kernel // 2),
            "A kernel of size k looks (k - 1) / 2 positions to each side.": _by_reach(
                lambda kernel: 2 * kernel
            ),
            "No share is negative, and the square of a negative number hides it.": (
                lambda size, kernels: (
                    ((size - 2 * sum(2 * (kernel // 2) for kernel in kernels)) / size) ** 2
                )
            ),
            "Rows and columns: a map has two dimensions.": lambda size, kernels: (
                _undisturbed(size, kernels) ** 0.5
            ),
            "A 1x1 kernel looks at no neighbour.": _by_reach(lambda kernel: kernel - kernel // 2),
            "Kernels differ: a 1x1 kernel looks at no neighbour, a 5x5 kernel at two to each "
            "side.": _by_reach(lambda kernel: 2),
        },
    ),
    "4.2": Exercise(
        reference=_gaussian_nll,
        inputs=_features,
        hint="Three terms: log 2 pi, the mean squared Mahalanobis distance, log det of Sigma.",
        mistakes={
            "The mean squared Mahalanobis distance is C: it does not vanish.": lambda h: _entropy(
                _vectors(h).cov(correction=0), constant=0.0
            ),
            "Channels are correlated: their variances alone are not enough.": lambda h: _entropy(
                _vectors(h).var(1, correction=0).diag()
            ),
            "Nats per dimension: divide log det by C.": lambda h: (
                _gaussian_nll(h)
                + 0.5
                * (1 - 1 / h.shape[1])
                * float(_vectors(h).cov(correction=0).slogdet().logabsdet)
            ),
            "Subtract the mean.": lambda h: _entropy(
                _vectors(h) @ _vectors(h).T / _vectors(h).shape[1]
            ),
            "One Gaussian for the positions of all images, not one for each image.": lambda h: (
                float(np.mean([_gaussian_nll(one[None]) for one in h]))
            ),
            "Move the channels to the front before you flatten.": lambda h: _entropy(
                h.double().reshape(h.shape[1], -1).cov(correction=0)
            ),
            "Per dimension: divide the whole sum by C.": lambda h: h.shape[1] * _gaussian_nll(h),
            "Divide by the number of positions in the covariance: correction=0.": lambda h: (
                _entropy(_vectors(h).cov())
            ),
            "A narrow Gaussian has a low loss: mind the sign of log det.": lambda h: _entropy(
                _vectors(h).cov(correction=0), sign=-1.0
            ),
            "It is half of log det: the density has a square root of it.": lambda h: (
                _gaussian_nll(h)
                + 0.5 * float(_vectors(h).cov(correction=0).slogdet().logabsdet) / h.shape[1]
            ),
        },
    ),
    "4.3": Exercise(
        reference=_own_block,
        inputs=_flows,
        hint="Vary the C numbers of one position only, and look at the same position of z.",
        mistakes={
            "That is the contribution that the flow counts: with 3x3 kernels it is another "
            "number.": lambda flow, h, i, j: float(flow.local(h)[1][0, 0, i, j]),
            "That is the whole map's log-determinant.": lambda flow, h, i, j: float(
                flow(h)[1].sum()
            ),
            "Row first, then column.": lambda flow, h, i, j: _own_block(flow, h, j % 5, i),
            "The absolute value of the determinant, and its logarithm.": lambda flow, h, i, j: (
                float(_block(flow, h, (i, j), (i, j)).det())
            ),
            "dz/dh, not dh/dz: mind the sign.": lambda flow, h, i, j: -_own_block(flow, h, i, j),
        },
    ),
    "4.4": Exercise(
        reference=_score(),
        inputs=_levels,
        hint="Resize, average with weights, take the highest values: in this order.",
        mistakes={
            "Divide by their sum: weights twice as large must give the same score.": _score(
                shares=lambda weights: weights
            ),
            "Divide by the sum of the weights, not by their number.": _score(
                shares=lambda weights: weights / len(weights)
            ),
            "The weights do nothing.": _score(
                shares=lambda weights: torch.ones_like(weights) / len(weights)
            ),
            "The highest pixel alone is not the score.": _score(lambda m: m.flatten(1).amax(1)),
            "A mean over all pixels drowns a small defect.": _score(lambda m: m.mean((1, 2, 3))),
            "One score for each image: the highest 1 % of each map by itself.": _score(
                lambda m: m.flatten().topk(m.numel() // 100).values.mean()
            ),
            "How do the levels get their size? Not by copying the nearest position.": _score(
                mode="nearest"
            ),
        },
    ),
    "4.5": Exercise(
        reference=COMPARED,
        properties=PROPERTIES,
        hint="Two tables, `scores` and `summary`, as in the steps above.",
        mistakes=_mistakes(*COMPARED),
    ),
}
