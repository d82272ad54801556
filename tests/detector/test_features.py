"""Features are computed once, and a cache entry is either right or made anew."""

import json
import multiprocessing
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fastflow_utils.data.mvtec import MVTecAD
from fastflow_utils.detector import features as module
from fastflow_utils.detector.backbones import Backbone
from fastflow_utils.detector.features import (
    CopiedPictures,
    Features,
    cosine_similarity,
    extract,
    pca_colours,
)
from fastflow_utils.errors import FastFlowError


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return Backbone("efficientnet_lite0", image_size=64)


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Grows by one each time an entry is computed."""
    computed: list[str] = []
    compute = module._compute

    def counting(backbone, dataset, entry, batch_size):
        computed.append(entry.name)
        compute(backbone, dataset, entry, batch_size)

    monkeypatch.setattr(module, "_compute", counting)
    return computed


def test_features_are_the_backbones_in_float16(backbone, tiny, tmp_path):
    dataset = MVTecAD(tiny, "disc", "test", 64)
    features = extract(backbone, dataset, cache=tmp_path, batch_size=4)
    direct = backbone(torch.stack([sample.image for sample in dataset]))
    assert len(features) == len(dataset) and features.channels == backbone.channels
    for cached, exact in zip(features[:], direct, strict=True):
        assert cached.dtype == torch.float32
        torch.testing.assert_close(cached, exact, rtol=2**-10, atol=1e-3)
    assert all(level.dtype == torch.float16 for level in features.levels)


def test_second_call_reads_what_the_first_wrote(backbone, tiny, tmp_path, passes):
    dataset = MVTecAD(tiny, "disc", "train", 64)
    first, second = (extract(backbone, dataset, cache=tmp_path) for _ in range(2))
    assert len(passes) == 1
    assert all(torch.equal(a, b) for a, b in zip(first.levels, second.levels, strict=True))


def test_the_cache_may_lie_elsewhere(backbone, tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("FASTFLOW_CACHE", str(tmp_path / "elsewhere"))
    features = extract(backbone, MVTecAD(tiny, "disc", "train", 64))
    assert len(list((tmp_path / "elsewhere").glob("*/level_0.npy"))) == 1
    first, again = features[:], features[:]  # what was read is released, and read again
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


def test_any_change_of_what_matters_makes_a_new_entry(backbone, tiny, tmp_path, passes):
    root = tmp_path / "data"
    shutil.copytree(tiny, root)

    def run(net: Backbone = backbone, size: int = 64) -> None:
        extract(net, MVTecAD(root, "disc", "train", size), cache=tmp_path / "cache")

    run()
    run(Backbone("efficientnet_lite0", image_size=96), 96)
    run(Backbone("efficientnet_lite0", image_size=64, layers=(1, 2)))
    run(Backbone("efficientnet_lite0", image_size=64, pretrained=False))
    image = root / "disc" / "train" / "good" / "000.png"
    Image.fromarray(255 - np.array(Image.open(image))).save(image)
    run()
    image.unlink()
    run()
    assert len(passes) == len(set(passes)) == 6
    run()
    assert len(passes) == 6


def test_same_images_elsewhere_share_the_entry(backbone, tiny, tmp_path, passes):
    shutil.copytree(tiny, tmp_path / "moved")
    for root in (tiny, tmp_path / "moved"):
        extract(backbone, MVTecAD(root, "disc", "train", 64), cache=tmp_path / "cache")
    assert len(passes) == 1


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


DAMAGE = {
    "a flipped bit": lambda entry: flip(entry / "level_1.npy"),
    "a truncated file": lambda entry: (entry / "level_0.npy").write_bytes(b"\x93NUMPY"),
    "a missing file": lambda entry: (entry / "level_2.npy").unlink(),
    "no manifest": lambda entry: (entry / "manifest.json").unlink(),
    "an empty manifest": lambda entry: (entry / "manifest.json").write_text("{}"),
    "no JSON": lambda entry: (entry / "manifest.json").write_text("{"),
    "another JSON": lambda entry: (entry / "manifest.json").write_text(json.dumps([1])),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_entry_is_computed_again(damage, backbone, tiny, tmp_path, passes):
    dataset = MVTecAD(tiny, "disc", "train", 64)
    before = [h.clone() for h in extract(backbone, dataset, cache=tmp_path)[:]]
    DAMAGE[damage](tmp_path / passes[0])
    after = extract(backbone, dataset, cache=tmp_path)[:]
    assert len(passes) == 2
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_an_interrupted_entry_leaves_nothing_behind(backbone, tiny, tmp_path, monkeypatch):
    def fail(self: MVTecAD, index: int) -> torch.Tensor:
        raise FastFlowError(f"cannot read {self.paths[index]}")

    monkeypatch.setattr(MVTecAD, "image", fail)
    with pytest.raises(FastFlowError, match=r"000\.png"):
        extract(backbone, MVTecAD(tiny, "disc", "train", 64), cache=tmp_path)
    assert [path for path in tmp_path.iterdir() if path.suffix != ".lock"] == []


def extract_in_a_process(root: Path, cache: Path, queue: "multiprocessing.Queue[float]") -> None:
    torch.set_num_threads(1)
    backbone = Backbone("efficientnet_lite0", image_size=64)
    features = extract(backbone, MVTecAD(root, "disc", "test", 64), cache=cache)
    queue.put(sum(h.double().sum().item() for h in features[:]))


def test_two_processes_do_not_tread_on_each_other(backbone, tiny, tmp_path):
    context = multiprocessing.get_context("spawn")
    queue: multiprocessing.Queue[float] = context.Queue()
    workers = [
        context.Process(target=extract_in_a_process, args=(tiny, tmp_path, queue)) for _ in "ab"
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert queue.get() == queue.get()
    assert len([path for path in tmp_path.iterdir() if path.is_dir()]) == 1


def test_sizes_must_agree(backbone, tiny, tmp_path):
    with pytest.raises(FastFlowError, match=r"128 px.*64 px"):
        extract(backbone, MVTecAD(tiny, "disc", "train", 128), cache=tmp_path)


def test_features_too_large_for_float16_are_refused(tiny, tmp_path):
    backbone = Backbone("resnet18", pretrained=False, image_size=64)  # ReLU has no upper bound
    backbone.std.fill_(1e-9)
    with pytest.raises(FastFlowError, match=r"not finite in float16"):
        extract(backbone, MVTecAD(tiny, "disc", "train", 64), cache=tmp_path)


def test_cached_features_cannot_be_changed(backbone, tiny, tmp_path):
    """What they give is a copy, and no reading of theirs ever gives anything else."""
    dataset = MVTecAD(tiny, "disc", "train", 64)
    features = extract(backbone, dataset, cache=tmp_path)
    before = [h.clone() for h in features.levels]
    givers = [
        lambda: features.levels[0],
        lambda: features.levels[-3:][0],
        lambda: next(iter(features.levels)),
        lambda: features[:][0],
        lambda: features[[0, 1]][0],
        lambda: features.subset(slice(None)).levels[0],
        lambda: features.to(torch.device("cpu")).levels[0],
    ]
    for give in givers:
        give().fill_(7)
        for reread in (features, extract(backbone, dataset, cache=tmp_path)):
            assert all(torch.equal(a, b) for a, b in zip(reread.levels, before, strict=True))


def test_more_than_ten_levels_keep_their_order(tiny, tmp_path):
    """In the order of file names, level_10 comes before level_2."""
    backbone = Backbone("deit_tiny_patch16_224", layers=range(12), pretrained=False, image_size=64)
    dataset = MVTecAD(tiny, "disc", "train", 64)
    direct = backbone(torch.stack([sample.image for sample in dataset]))
    cached = extract(backbone, dataset, cache=tmp_path)[:]
    for found, expected in zip(cached, direct, strict=True):
        torch.testing.assert_close(found, expected, rtol=2**-10, atol=1e-2)
    assert (direct[2] - direct[10]).abs().max() > 0.1


@pytest.mark.parametrize("change", ["code", "torch", "timm", "pillow"])
def test_what_other_code_or_versions_made_is_made_anew(
    change, backbone, tiny, tmp_path, passes, monkeypatch
):
    dataset = MVTecAD(tiny, "disc", "train", 64)
    extract(backbone, dataset, cache=tmp_path)
    if change == "code":
        monkeypatch.setattr(module, "code_digest", lambda *_: "of other code")
    else:
        kept = module.versions
        monkeypatch.setattr(module, "versions", lambda *names: kept(*names) | {change: "0.1"})
    extract(backbone, dataset, cache=tmp_path)
    extract(backbone, dataset, cache=tmp_path)
    assert len(set(passes)) == len(passes) == 2


def test_features_are_refused_by_any_backbone_but_their_own(backbone, tiny, tmp_path):
    features = extract(backbone, MVTecAD(tiny, "disc", "train", 64), cache=tmp_path)
    cpu = torch.device("cpu")
    for same in (
        features,
        features.subset([0, 1]),
        features.to(cpu),
        features.subset([0]).to(cpu),
    ):
        same.check_source(backbone)
        same.check_source(Backbone("efficientnet_lite0", image_size=64))
        for other in (
            Backbone("efficientnet_lite0", image_size=64, pretrained=False),
            Backbone("efficientnet_lite0", image_size=96),
            Backbone("efficientnet_lite0", image_size=64, layers=(1, 2)),
            Backbone("resnet18", image_size=64, pretrained=False),
        ):
            with pytest.raises(FastFlowError, match=r"these features.*extract\(model.backbone"):
                same.check_source(other)


def test_features_of_unknown_source_are_accepted(backbone):
    Features([torch.rand(2, c, 4, 4) for c in backbone.channels]).check_source(backbone)


def test_batches_cover_every_image_in_order():
    features = Features([torch.arange(10.0).view(10, 1, 1, 1)])
    batches = [levels[0].flatten().tolist() for levels in features.batches(4)]
    assert batches == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_pca_colours_follow_the_features():
    """Four kinds of position in random directions: equal features, equal colours."""
    kinds = torch.randint(0, 4, (8, 8))
    h = torch.randn(4, 16)[kinds].permute(2, 0, 1)
    colours = pca_colours(h)
    assert colours.shape == (3, 8, 8) and colours.min() >= 0 and colours.max() <= 1
    for kind in range(4):
        same = colours[:, kinds == kind]
        assert (same - same[:, :1]).abs().max() < 1e-4
    torch.testing.assert_close(pca_colours(h + 5), colours, atol=1e-3, rtol=0)


def test_cosine_similarity_is_one_where_asked_and_ignores_length():
    h = torch.randn(8, 4, 5)
    similarity = cosine_similarity(h, 2, 3)
    assert similarity.shape == (4, 5) and similarity.abs().max() <= 1 + 1e-6
    assert similarity[2, 3] == pytest.approx(1)
    torch.testing.assert_close(cosine_similarity(7 * h, 2, 3), similarity)


def test_copies_are_of_their_picture_and_the_first_is_the_picture(backbone, tiny, tmp_path):
    dataset = MVTecAD(tiny, "disc", "train", 64)
    plain = extract(backbone, dataset, cache=tmp_path)
    learnt = CopiedPictures(backbone, dataset, 2, seed=3, cache=tmp_path)
    assert len(learnt) == len(dataset) and len(learnt.features) == 3 * len(dataset)
    for picture in range(len(dataset)):
        for own, h in zip(learnt.subset(torch.tensor([picture])).levels, plain[:], strict=True):
            assert torch.equal(own[0].float(), h[picture])
            far = (own[1:, None].float() - h[None]).flatten(2).norm(dim=2)  # (copies, pictures)
            assert (far > 0).all() and far.argmin(1).tolist() == [picture] * 2
    again = CopiedPictures(backbone, dataset, 2, seed=3, cache=tmp_path / "another")
    other = CopiedPictures(backbone, dataset, 2, seed=4, cache=tmp_path)
    assert torch.equal(again.features[:][0], learnt.features[:][0])
    assert not torch.equal(other.features[:][0], learnt.features[:][0])
