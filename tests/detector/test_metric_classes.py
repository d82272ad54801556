"""The classes give what the functions give, however the data is cut, spread or carried about."""

import multiprocessing
import pickle
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, distributed
from torchmetrics import Metric, MetricCollection
from torchmetrics.classification import BinaryAUROC, BinaryAveragePrecision

from fastflow_utils.detector.metric_classes import (
    AUPIMO,
    AUPRO,
    ExactAUROC,
    ExactAveragePrecision,
    ExactSeparation,
    OracleF1,
)
from fastflow_utils.detector.metrics import (
    aupimo,
    aupro,
    auroc,
    average_precision,
    oracle_f1,
)
from fastflow_utils.errors import FastFlowError

RANGE = (0.01, 0.3)
CLASSES = {
    "auroc": ExactAUROC,
    "ap": ExactAveragePrecision,
    "f1": OracleF1,
    "aupro": lambda **more: AUPRO(0.4, **more),
    "aupimo": lambda **more: AUPIMO(RANGE, **more),
}
each_class = pytest.mark.parametrize("name", CLASSES)


def data(seed: int = 0, images: int = 6) -> tuple[Tensor, Tensor, Tensor]:
    """Maps with ties, masks and labels; one image is normal, one anomalous without a mask."""
    generator = torch.Generator().manual_seed(seed)
    masks = torch.rand(images, 1, 7, 9, generator=generator) > 0.75
    masks[:2] = False
    maps = ((torch.randn(masks.shape, generator=generator) + masks) * 3).round()
    return maps, masks, torch.arange(images) > 0


def expected(name: str, maps: Tensor, masks: Tensor, labels: Tensor) -> float:
    return {
        "auroc": lambda: auroc(maps, masks),
        "ap": lambda: average_precision(maps, masks),
        "f1": lambda: oracle_f1(maps, masks)[0],
        "aupro": lambda: aupro(maps, masks, 0.4),
        "aupimo": lambda: aupimo(maps, masks, RANGE, labels=labels),
    }[name]()


def update(metric: Metric, maps: Tensor, masks: Tensor, labels: Tensor) -> None:
    metric.update(maps, masks, **({"labels": labels} if isinstance(metric, AUPIMO) else {}))


def filled(name: str, sizes: tuple[int, ...] = (2, 3, 1), **more: object) -> Metric:
    metric = CLASSES[name](**more)
    for batch in zip(*(one.split(sizes) for one in data()), strict=True):
        update(metric, *batch)
    return metric


@each_class
@given(seed=st.integers(0, 2**31), cuts=st.lists(st.integers(1, 4), min_size=1, max_size=6))
@settings(deadline=None, max_examples=25)
def test_any_batches_give_what_the_function_gives(name, seed, cuts):
    maps, masks, labels = data(seed, sum(cuts) + 2)
    metric = CLASSES[name]()
    for batch in zip(*(one.split([2, *cuts]) for one in (maps, masks, labels)), strict=True):
        update(metric, *batch)
    assert metric.compute().item() == expected(name, maps, masks, labels)


@given(seed=st.integers(0, 2**31))
@settings(deadline=None, max_examples=20)
def test_torchmetrics_agrees_where_scores_are_probabilities(seed):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(40) % 3 == 0
    scores = (torch.rand(40, generator=generator) * 20).round() / 20
    for ours, theirs in [
        (ExactAUROC(), BinaryAUROC()),
        (ExactAveragePrecision(), BinaryAveragePrecision()),
    ]:
        for metric in (ours, theirs):
            for batch in zip(scores.split(7), labels.split(7), strict=True):
                metric.update(batch[0], batch[1].long())
        assert ours.compute().item() == pytest.approx(theirs.compute().item(), abs=1e-6)


def test_the_separation_is_all_three_from_one_sort():
    maps, masks, labels = data()
    metric = ExactSeparation()
    metric.update(maps, masks)
    found = {name: value.item() for name, value in metric.compute().items()}
    assert found == {name: expected(name, maps, masks, labels) for name in ("auroc", "ap", "f1")}


def test_aupimo_takes_empty_masks_for_normal_images_without_labels():
    maps, masks, _ = data()
    metric = AUPIMO(RANGE)
    for batch in zip(maps, masks, strict=True):  # (1, H, W) each: one image without a channel
        metric.update(*batch)
    assert metric.compute().item() == aupimo(maps, masks, RANGE)


# A collection


def collection() -> MetricCollection:
    return MetricCollection({name: build() for name, build in CLASSES.items()})


@pytest.mark.parametrize("called", [(), (0,), (1,), (1, 2), (0, 1, 2)])
def test_a_collection_counts_each_batch_once(called):
    """Its metrics share their states; batches come by update and by call."""
    maps, masks, labels = data()
    metrics = collection()
    for index, batch in enumerate(
        zip(maps.split(2), masks.split(2), labels.split(2), strict=True)
    ):
        feed = metrics if index in called else metrics.update
        feed(*batch[:2], labels=batch[2])
    found = {name: value.item() for name, value in metrics.compute().items()}
    assert found == {name: expected(name, maps, masks, labels) for name in CLASSES}


def test_a_collection_starts_anew_after_reset():
    maps, masks, labels = data(1)
    metrics = collection()
    for seed in (0, 1):
        metrics.reset()
        metrics.update(*data(seed)[:2], labels=labels)
    found = {name: value.item() for name, value in metrics.compute().items()}
    assert found == {name: expected(name, maps, masks, labels) for name in CLASSES}


# One call, one batch


@each_class
def test_a_call_gives_the_metric_of_the_batch_alone_and_keeps_it(name):
    first, second = data(0), data(1)
    metric = CLASSES[name]()
    for batch in (first, second):
        more = {"labels": batch[2]} if name == "aupimo" else {}
        assert metric(*batch[:2], **more).item() == expected(name, *batch)
    both = [torch.cat(pair) for pair in zip(first, second, strict=True)]
    assert metric.compute().item() == expected(name, *both)


def test_a_batch_of_one_kind_is_nan_alone_and_kept():
    metric, both = ExactAUROC(), ExactSeparation()
    for one in (metric, both):
        alone = one(torch.tensor([1.0, 3.0]), torch.tensor([0, 0]))
        values = alone.values() if isinstance(alone, dict) else [alone]
        assert all(value.isnan() for value in values)
        one.update(torch.tensor([2.0]), torch.tensor([1]))
    assert metric.compute() == both.compute()["auroc"] == 0.5


# Mistakes


@each_class
def test_a_refused_batch_leaves_the_metric_as_it_was(name):
    metric, (maps, masks, labels) = filled(name), data()
    wrong = maps.clone()
    wrong[0, 0, 0, 0] = torch.nan
    with pytest.raises(FastFlowError, match="NaN"):
        update(metric, wrong, masks, labels)
    with pytest.raises(FastFlowError, match="expected one label"):
        update(metric, maps, masks[..., 1:], labels)
    assert metric.compute().item() == expected(name, maps, masks, labels)


@each_class
def test_nothing_or_one_kind_only_is_refused_at_the_end(name):
    metric = CLASSES[name]()
    with pytest.warns(UserWarning, match="before"), pytest.raises(FastFlowError, match="no data"):
        metric.compute()
    metric.update(torch.rand(2, 1, 4, 4), torch.zeros(2, 1, 4, 4))
    with pytest.raises(FastFlowError, match="needs both"):
        metric.compute()


@pytest.mark.parametrize("build", [AUPRO, AUPIMO])
def test_maps_of_two_sizes_are_refused(build):
    metric = build()
    metric.update(torch.rand(2, 1, 8, 8), torch.zeros(2, 1, 8, 8))
    with pytest.raises(FastFlowError, match=r"maps of \(8, 8\) and now of \(4, 4\)"):
        metric.update(torch.rand(2, 1, 4, 4), torch.zeros(2, 1, 4, 4))


def test_wrong_settings_are_refused_at_once():
    with pytest.raises(FastFlowError, match="max_fpr"):
        AUPRO(2)
    with pytest.raises(FastFlowError, match="fpr_range"):
        AUPIMO((0.3, 0.1))


# States


@each_class
def test_the_caller_may_reuse_the_memory_of_a_batch(name):
    maps, masks, labels = data()
    metric, memory = CLASSES[name](), (maps.clone(), masks.clone(), labels.clone())
    update(metric, *memory)
    for one in memory:
        one.zero_()
    assert metric.compute().item() == expected(name, maps, masks, labels)


@each_class
def test_pickles_and_copies_go_on_where_they_were(name):
    maps, masks, labels = data()
    for again in (pickle.loads(pickle.dumps(filled(name))), filled(name).clone()):
        assert again.compute().item() == expected(name, maps, masks, labels)
        update(again, *data(1))
        again.reset()
        update(again, *data(1))
        assert again.compute().item() == expected(name, *data(1))


@each_class
def test_a_saved_state_holds_the_data_only_if_asked_for(name):
    metric = filled(name)
    assert not metric.state_dict()
    metric.persistent(True)
    again = CLASSES[name]()
    again.load_state_dict(metric.state_dict(), strict=False)
    with pytest.warns(UserWarning, match="before"):  # torchmetrics' own: no update was called
        assert again.compute().item() == metric.compute().item()


@each_class
def test_precision_and_gradients_are_those_of_the_scores(name):
    maps, masks, labels = data()
    maps = (maps.double() + torch.arange(maps.numel()).view(maps.shape) * 1e-12).requires_grad_()
    metric = CLASSES[name]()
    update(metric, maps, masks, labels)
    metric.float()  # torchmetrics keeps states as they are
    assert metric.scores[0].dtype == torch.float64 and not metric.scores[0].requires_grad
    assert metric.compute().item() == expected(name, maps, masks, labels)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA here")
@each_class
def test_states_follow_the_metric_to_another_device(name):
    metric = filled(name).to("cuda")
    update(metric, *data(1))  # a batch on the CPU
    update(metric, *(one.cuda() for one in data(2)))
    assert metric.scores[0].is_cuda and metric.scores[-1].is_cuda
    both = [torch.cat(parts) for parts in zip(data(), data(1), data(2), strict=True)]
    assert metric.compute().is_cuda and metric.compute().item() == expected(name, *both)


# Processes


@each_class
def test_merged_states_are_one(name):
    metric, other = filled(name), CLASSES[name]()
    update(other, *data(1))
    metric.merge_state(other)
    both = [torch.cat(pair) for pair in zip(data(1), data(), strict=True)]
    assert metric.compute().item() == pytest.approx(expected(name, *both), abs=1e-12)


def _process(rank: int, file: str, send) -> None:
    """The first has half precision, the second single, the third has seen no image."""
    distributed.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=3)
    metrics = {name: build() for name, build in CLASSES.items()}
    if rank < 2:
        maps, masks, labels = data(rank, images=3 + rank)
        for metric in metrics.values():
            update(metric, maps.half() if rank == 0 else maps, masks, labels)
    found = {name: metric.compute().item() for name, metric in metrics.items()}
    local = {name: len(metric.scores) for name, metric in metrics.items()}
    distributed.destroy_process_group()
    send.put((rank, found, local))


@pytest.mark.skipif(sys.platform != "linux", reason="forks processes that have loaded torch")
def test_processes_gather_what_each_has_seen(tmp_path):
    context = multiprocessing.get_context("fork")  # a new one would import for many seconds
    queue = context.SimpleQueue()
    processes = [
        context.Process(target=_process, args=(rank, str(tmp_path / "store"), queue), daemon=True)
        for rank in range(3)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    both = [torch.cat(pair) for pair in zip(data(0, 3), data(1, 4), strict=True)]
    for _ in processes:
        rank, found, local = queue.get()
        assert found == pytest.approx({name: expected(name, *both) for name in CLASSES}, abs=1e-12)
        assert set(local.values()) == {1 if rank < 2 else 0}, "each goes on with its own"


@each_class
def test_what_torchmetrics_asks_of_a_class(name):
    metric = CLASSES[name]()
    assert metric.higher_is_better is True
    assert metric.is_differentiable is metric.full_state_update is False
    assert set(metric._reductions) == set(metric.metric_state)
    value = filled(name).compute()
    assert value.dtype == torch.float64 and value.shape == ()
