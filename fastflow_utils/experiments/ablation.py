r"""What a choice is worth: one thing changed at a time, repeated, with its spread.

A training takes long, and decides nothing but the likelihood of each position. What is made of it
(which levels, which map, which score) costs a moment and needs no training anew: :func:`train`
does the first, :func:`anomaly_maps` the second, with every choice an argument.

Results are a ``pandas.Series`` of one metric, with the index (variant, category, seed). Two
variants are compared on the same category and seed, so what is common to both cancels.

:func:`compare` asks what other seeds would say on the same test images. :func:`judge` asks what
other test images would say, too: with a few dozen of them that is most of the uncertainty.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from scipy.stats import t as student
from torch import Tensor

from fastflow_utils.compute import check_seed
from fastflow_utils.detector.backbones import Backbone
from fastflow_utils.detector.features import Features
from fastflow_utils.detector.flows import FlowLayer, standard_normal
from fastflow_utils.detector.maps import combine, level_map, level_scale
from fastflow_utils.detector.training import fit, hold_out
from fastflow_utils.experiments.recipes import Recipe

__all__ = [
    "Trained",
    "anomaly_maps",
    "compare",
    "holm",
    "image_errors",
    "judge",
    "layer_norm",
    "leave_one_out",
    "paired_differences",
    "train",
]


@dataclass(frozen=True)
class Trained:
    r"""What a training says about each position, before any choice of map and score.

    Attributes:
        recipe: What was trained.
        held_out: :math:`n_l(i)` of the held-out normal images, one (N, 1, H_l, W_l) for each
            level, in nats per dimension: with the log-determinant's share under True, without it
            under False.
        test: The same of the test images.
        parameters: How many the flows have.
        history: From :func:`~fastflow_utils.detector.training.fit`.
    """

    recipe: Recipe
    held_out: dict[bool, list[Tensor]]
    test: dict[bool, list[Tensor]]
    parameters: int
    history: pd.DataFrame

    @property
    def seconds(self) -> float:
        """Of the training alone."""
        return float(self.history["seconds"].iloc[-1])


def train(
    recipe: Recipe, backbone: Backbone, features: Features, test: Features, seed: int
) -> Trained:
    """Train one variant on normal features; return what it says of the held-out and test images.

    Args:
        recipe: Flow and training; how its map is made is left to :func:`anomaly_maps`.
        backbone: Where the features come from.
        features: Of normal images only; the same for every variant, computed once.
        test: Of the test images.
        seed: Fixes permutations, initial weights, the images held out and the order of the rest.

    Raises:
        KeyboardInterrupt: After Ctrl-C: half a training is no variant.
    """
    check_seed(seed)
    test.check_source(backbone)
    model = recipe.build_fastflow(backbone, seed)
    training = recipe.training(len(features)) | {"folds": None}  # its maps want images held out
    history = fit(model, features, seed=seed, **training)
    held_out = hold_out(len(features), torch.Generator().manual_seed(seed))[1]
    flows = [cast(FlowLayer, flow) for flow in model.for_inference().flows]

    def positions(batches: Iterable[list[Tensor]]) -> dict[bool, list[Tensor]]:
        counted: list[list[Tensor]] = [[] for _ in flows]
        alone: list[list[Tensor]] = [[] for _ in flows]
        for batch in batches:
            for level, (flow, h) in enumerate(zip(flows, batch, strict=True)):
                z, shares = flow.local(h)
                log_p_z = standard_normal(z)
                alone[level].append(-log_p_z / z.shape[1])
                counted[level].append(-(log_p_z + shares) / z.shape[1])
        return {True: list(map(torch.cat, counted)), False: list(map(torch.cat, alone))}

    return Trained(
        recipe,
        positions(features[index] for index in held_out.split(16)),
        positions(test.batches(16)),
        sum(p.numel() for p in model.flows.parameters()),
        history,
    )


def anomaly_maps(
    trained: Trained,
    levels: Sequence[int] | None = None,
    *,
    log_det: bool = True,
    bounded: bool = True,
    smoothing: float | None = None,
) -> Tensor:
    """Return the test images' maps (N, 1, H, W), higher is more anomalous, for any choice.

    All else is as in the model's own map: :func:`~fastflow_utils.detector.maps.level_map` of each
    level, :func:`~fastflow_utils.detector.maps.combine` of them all.

    Args:
        trained: From :func:`train`.
        levels: Which levels take part. Default: all.
        log_det: Whether n_l holds the log-determinant's share.
        bounded: False takes n_l in standard deviations of held-out positions from their mean
            instead of its rarity, which ends at 1.
        smoothing: Standard deviation of the Gaussian blur, in pixels of the map; 0 is none.
            Default: the recipe's.
    """
    maps = []
    for level in levels if levels is not None else range(len(trained.test[log_det])):
        normal, n = trained.held_out[log_det][level], trained.test[log_det][level]
        if bounded:
            maps.append(level_map(n, level_scale(normal)))
        else:
            maps.append((n - normal.mean()) / normal.std(correction=0).clamp_min(1e-6))
    recipe = trained.recipe
    return combine(maps, recipe.image_size, recipe.smoothing if smoothing is None else smoothing)


def layer_norm(features: Features) -> Features:
    """Return each image's feature maps with mean 0 and variance 1: LayerNorm without affine.

    It is not invertible, but nothing in it is trained, so no likelihood can be cheated with it.

    Example:
        >>> h = layer_norm(Features([3 + torch.randn(2, 4, 8, 8)])).levels[0]
        >>> bool(h.mean().abs() < 1e-5)
        True
    """
    return Features([F.layer_norm(h.float(), h.shape[1:]) for h in features.levels])


def paired_differences(values: pd.Series, start: str) -> pd.DataFrame:
    """Return each variant's differences to the start, on the same category with the same seed.

    Args:
        values: One metric, with the index (variant, category, seed).
        start: The variant that all others differ from in one thing.

    Returns:
        A row for each variant but the start, in order; a column for each (category, seed).
    """
    variants = [name for name in values.index.unique(0) if name != start]
    table = values.unstack(0).T
    return table.loc[variants] - table.loc[start]


def compare(
    differences: pd.DataFrame, spread: pd.Series | None = None, confidence: float = 0.95
) -> pd.DataFrame:
    r"""Say which differences are larger than the spread over seeds.

    With :math:`d_{cs}` for C categories and S seeds, and each category's mean :math:`\bar d_c`:

    .. math:: \bar d \pm t \frac{s}{\sqrt{CS}}, \qquad
        s^2 = \frac{1}{C(S - 1)} \sum_{c, s} (d_{cs} - \bar d_c)^2

    t is Student's quantile for C(S - 1) degrees of freedom. The categories count as fixed: the
    interval says what other seeds would give on the same categories, not what others would.

    Args:
        differences: From :func:`paired_differences`.
        spread: Where there is one seed only: the metric of one variant that was repeated, with the
            index (category, seed). Its s, times the square root of 2, stands in for that of the
            differences, as if the two trainings had nothing to do with each other.
        confidence: Of the interval.

    Returns:
        A row for each variant: ``mean``, ``low`` and ``high`` (NaN with one seed and no
        ``spread``), ``verdict`` ("better", "worse", "not seen"; "one seed" without an interval),
        ``agree`` (how many categories' means have the sign of the mean).

    Example:
        >>> columns = pd.MultiIndex.from_product([["a", "b"], [0, 1]])
        >>> compare(pd.DataFrame([[0.1, 0.3, 0.2, 0.4]], ["x"], columns)).round(3)
           mean    low   high   verdict  agree
        x  0.25 -0.054  0.554  not seen      2
    """
    means = differences.T.groupby(level=0, sort=False).mean().T
    table = pd.DataFrame({"mean": differences.mean(axis=1)})
    if spread is None:
        variance, free = _within(differences)
    else:
        one, free = _within(spread.to_frame().T)
        variance = pd.Series(2 * one.iloc[0], table.index)
    error = (variance / differences.shape[1]) ** 0.5
    half = error * float(student.ppf((1 + confidence) / 2, free))
    table["low"], table["high"] = table["mean"] - half, table["mean"] + half
    table["verdict"] = [
        _verdict(low, high) for low, high in zip(table["low"], table["high"], strict=True)
    ]
    table["agree"] = (means.mul(table["mean"], axis=0) > 0).sum(axis=1)
    return table


def image_errors(replicates: pd.DataFrame, start: str) -> pd.DataFrame:
    """Return the standard errors of the differences to the start, from the test images alone.

    Both variants are drawn on the same resamples, and averaged over the seeds, before the
    difference is taken: an image that is hard for both does not count.

    Args:
        replicates: One metric on each resample, with the index (variant, category, seed), a
            column for each resample (``detector.bootstrap``).
        start: As for :func:`paired_differences`.

    Returns:
        A row for each variant but the start, in order; a column for each category.
    """
    means = replicates.groupby(level=[0, 1], sort=False).mean()
    ours = means.drop(index=start, level=0)
    differences = ours - means.loc[start].reindex(ours.index.get_level_values(1)).to_numpy()
    return differences.std(axis=1).unstack(1, sort=False)


def judge(
    differences: pd.DataFrame, errors: pd.DataFrame, confidence: float = 0.95
) -> pd.DataFrame:
    r"""Say which variants are better or worse on other test images and seeds, of several at once.

    For each category c, with S seeds and the mean difference :math:`\bar d_c`:

    .. math:: \mathrm{var}(\bar d_c) = e_c^2 + \frac{s^2}{S}

    e is the error from the test images and s the standard deviation over seeds within categories,
    pooled (:func:`compare`). The images of two categories are independent, so the variance of the
    mean over C categories is the sum of theirs over :math:`C^2`. Its quantile is Student's t for
    Satterthwaite's degrees of freedom: those of s, as many more as e has the larger share; the
    normal one where there is one seed only, and then nothing is said of other seeds.

    Where seeds disagree on single images, rather than on all of them, both variances hold that:
    the interval is too wide then, never too narrow.

    Verdicts are by p-values after Holm's correction (:func:`holm`), so that among all of a table
    there is one wrong "better" or "worse" in twenty tables at most: the means among the variants,
    and the categories among all variants and categories. "Depends on the category" is a variant
    that is better on one category and worse on another.

    Args:
        differences: From :func:`paired_differences`.
        errors: :math:`e_c`, from :func:`image_errors`, of the same variants and categories.
        confidence: Of the intervals, each for itself, and of the verdicts, all together.

    Returns:
        A row for each variant: ``mean``, ``low`` and ``high`` of its interval, ``p`` (corrected,
        two-sided), ``better`` and ``worse`` (on which categories, by name), ``verdict`` ("better",
        "worse", "depends on the category", "cannot be told").

    Example:
        >>> columns = pd.MultiIndex.from_product([["a", "b"], [0]])
        >>> differences = pd.DataFrame([[0.1, 0.3], [0.1, -0.3]], ["x", "y"], columns)
        >>> errors = pd.DataFrame(0.05, ["x", "y"], ["a", "b"])
        >>> judge(differences, errors)["verdict"].to_dict()
        {'x': 'better', 'y': 'worse'}
        >>> judge(differences, errors / 2)["verdict"].to_dict()
        {'x': 'better', 'y': 'depends on the category'}
    """
    means = differences.T.groupby(level=0, sort=False).mean().T
    errors = errors.loc[means.index, means.columns]
    within, free = _within(differences)
    of_seeds = within.fillna(0) / (differences.shape[1] / means.shape[1])
    by_category = errors.pow(2).add(of_seeds, axis=0)
    together = by_category.mean(axis=1) / means.shape[1]
    of_each = pd.Series(_p_values(means, by_category, of_seeds, free).stack())
    each = holm(of_each).unstack()[means.columns]
    mean = means.mean(axis=1).to_frame("mean")
    share = of_seeds / means.shape[1]
    p = holm(_p_values(mean, together.to_frame("mean"), share, free)["mean"])
    reach = student.ppf((1 + confidence) / 2, _free(together, share, free)) * together**0.5
    table = mean.assign(low=mean["mean"] - reach, high=mean["mean"] + reach, p=p)
    for name, sign in {"better": 1, "worse": -1}.items():
        clear = (each < 1 - confidence) & (sign * means > 0)
        table[name] = [", ".join(map(str, row.index[row])) for _, row in clear.iterrows()]
    table["verdict"] = [
        "depends on the category"
        if row["better"] and row["worse"]
        else "cannot be told"
        if not row["p"] < 1 - confidence
        else "better"
        if row["mean"] > 0
        else "worse"
        for _, row in table.iterrows()
    ]
    return table


def holm(p: pd.Series) -> pd.Series:
    r"""Return p-values corrected for their number, by Holm's steps from the smallest up.

    .. math:: \tilde p_{(i)} = \max_{j \le i} \min(1, (m - j + 1) \, p_{(j)})

    With all corrected values below 0.05 called different, the probability of a single one that is
    not stays below 0.05, whatever the values have to do with each other.

    Source: Holm, Scandinavian Journal of Statistics 6, 1979.

    Example:
        >>> holm(pd.Series([0.01, 0.04, 0.03])).round(3).tolist()
        [0.03, 0.06, 0.06]
    """
    ordered = p.sort_values()
    steps = (ordered * np.arange(len(p), 0, -1)).clip(upper=1).cummax()
    return steps.reindex(p.index)


def _free(variance: pd.Series, of_seeds: pd.Series, free: int) -> pd.Series:
    """Satterthwaite's degrees of freedom of each sum; without an end if none is the seeds'."""
    return (free * (variance / of_seeds.where(of_seeds > 0)) ** 2).fillna(math.inf)


def _p_values(
    means: pd.DataFrame, variances: pd.DataFrame, of_seeds: pd.Series, free: int
) -> pd.DataFrame:
    """Two-sided, of each mean; 1 where it is exactly 0, however small its error."""
    ratio = (means.abs() / variances**0.5).where(means != 0, 0)
    freedom = variances.apply(lambda each: _free(each, of_seeds, free))
    return pd.DataFrame(2 * student.sf(ratio, freedom), means.index, means.columns)


def _within(values: pd.DataFrame) -> tuple[pd.Series, int]:
    """Each row's variance within categories, pooled, and its degrees of freedom; NaN if none."""
    groups = values.T.groupby(level=0, sort=False)
    free = values.shape[1] - groups.ngroups
    squares = (values.T - groups.transform("mean")).pow(2).sum()
    return squares / (free or float("nan")), free


def _verdict(low: float, high: float) -> Literal["better", "worse", "not seen", "one seed"]:
    if low != low:
        return "one seed"
    return "better" if low > 0 else "worse" if high < 0 else "not seen"


def leave_one_out(values: pd.Series, start: str) -> pd.DataFrame:
    """Choose a variant for each category by the others, and by the category's own test split.

    Args:
        values: One metric, higher is better, with the index (variant, category, seed).
        start: The variant to stand beside both.

    Returns:
        A row for each category: ``the others choose`` (the variant with the best mean on them),
        ``which gives`` on this category, ``start``, and ``tuned on its own test`` with ``oracle``,
        the best variant here, which nobody could know. Of equals, the first one is taken.
    """
    table = values.groupby(level=[0, 1], sort=False).mean().unstack(1, sort=False)
    rows = {}
    for category, here in table.items():
        others = str(table.drop(columns=category).mean(axis=1).idxmax())
        own = str(here.idxmax())
        rows[category] = {
            "the others choose": others,
            "which gives": here[others],
            "start": here[start],
            "tuned on its own test": own,
            "oracle": here[own],
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("category")
