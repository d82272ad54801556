"""Any timm network goes by its name: its features are timm's own, or it is refused with a reason.

One small member of almost every family of timm 1.0, at a small image size, with BatchNorms as if
they were trained (those of a new network do nothing, and hide every mistake), at every level.
"""

import copy
import warnings

import pytest
import timm
import torch
from torch import nn
from used_norms import with_used_norms

from fastflow_utils.detector import backbones
from fastflow_utils.detector.backbones import Backbone
from fastflow_utils.errors import FastFlowError

NETWORKS = {  # name -> image size
    "beit_base_patch16_224": 32,
    "botnet26t_256": 64,
    "cait_xxs24_224": 32,
    "coat_lite_tiny": 64,
    "coatnet_nano_rw_224": 64,  # skip connections from what a BatchNorm reads
    "convit_tiny": 32,
    "convmixer_768_32": 14,
    "convnext_atto": 64,
    "cpubone_nano": 64,
    "crossvit_tiny_240": 240,  # two grids of patches, of 12 and of 17.14 pixels
    "cs3darknet_focus_s": 64,
    "csatv2": 64,
    "cspnext_tiny": 64,
    "davit_tiny": 64,
    "deit_tiny_distilled_patch16_224": 32,
    "densenet121": 64,
    "dla46x_c": 64,
    "dpn48b": 64,
    "edgenext_xx_small": 64,
    "efficientformer_l1": 224,
    "efficientformerv2_s0": 64,
    "efficientnet_b0": 64,
    "efficientvim_m1": 64,
    "efficientvit_b0": 64,
    "efficientvit_m0": 64,
    "ese_vovnet19b_slim_dw": 64,
    "eva02_tiny_patch14_224": 28,
    "fasternet_t0": 64,
    "fastvit_t8": 64,
    "fbnetc_100": 64,
    "gcvit_xxtiny": 64,
    "ghostnet_100": 64,  # level 0 is a convolution's output
    "gmlp_ti16_224": 32,
    "hardcorenas_b": 64,
    "hgnetv2_b0": 64,
    "hiera_tiny_224": 64,
    "hieradet_small": 64,
    "hrnet_w18_small": 64,
    "iformer_t": 64,
    "inception_next_atto": 64,
    "inception_v3": 128,  # convolutions without padding: no level has a whole stride
    "inception_v4": 80,
    "lambda_resnet26t": 256,
    "lcnet_050": 64,
    "lcnetv2_small": 64,
    "legacy_seresnet18": 64,
    "legacy_xception": 64,
    "levit_128s": 64,
    "lowformer_b0": 64,
    "maxvit_nano_rw_256": 64,
    "mixer_s32_224": 64,
    "mixnet_s": 64,
    "mnasnet_small": 64,
    "mobilenetv3_small_050": 64,
    "mobileone_s1": 64,
    "mobilevit_xxs": 64,
    "mvitv2_tiny": 64,
    "nest_tiny": 64,
    "nextvit_small": 64,
    "nf_regnet_b0": 64,
    "pit_ti_224": 64,
    "poolformerv2_s12": 64,
    "pvt_v2_b0": 64,
    "rdnet_tiny": 64,
    "regnetx_002": 64,
    "repghostnet_100": 64,
    "repvgg_a0": 64,
    "repvit_m1": 64,
    "res2next50": 64,
    "resmlp_12_224": 32,
    "resnest14d": 64,
    "resnet18": 64,
    "resnetv2_18": 64,
    "resnetv2_50x1_bit": 64,
    "rexnet_100": 64,
    "samvit_base_patch16": 32,  # its neck gives fewer channels than timm announces
    "selecsls42": 64,
    "sequencer2d_s": 64,
    "shvit_s1": 64,
    "skresnet18": 64,
    "starnet_s050": 64,
    "swiftformer_xs": 64,
    "swin_tiny_patch4_window7_224": 64,
    "swinv2_cr_tiny_224": 64,
    "swinv2_tiny_window8_256": 64,
    "test_mambaout": 64,
    "tiny_vit_5m_224": 64,
    "tinynet_e": 64,
    "tnt_s_legacy_patch16_224": 32,
    "tresnet_m": 64,  # has no level 0
    "twins_svt_small": 64,
    "vgg11_bn": 32,
    "visformer_tiny": 64,
    "vit_relpos_small_patch16_rpn_224": 32,
    "vit_small_patch14_reg4_dinov2": 28,
    "vit_tiny_r_s16_p8_224": 64,
    "vitamin_small_224": 64,
    "volo_d1_224": 64,
    "xception41p": 64,  # skip connections from what a BatchNorm reads
    "xcit_nano_12_p8_224": 32,
}

NOT_EVERY_LEVEL = {"tresnet_m"}

REFUSED = {  # name -> image size, reason
    "halonet_h1": (64, "'halonet_h1' does not take images of 64 px.*image_size=256"),
    "maxvit_nano_rw_256": (100, "'maxvit_nano_rw_256' does not take images of 100 px"),
    "convmixer_768_32": (64, "image_size=64: 'convmixer_768_32'.*multiple of 7"),
}


def plain_levels(network: nn.Module, x: torch.Tensor, blocks: list[int]) -> list[torch.Tensor]:
    """timm's own features; ``blocks`` for a plain transformer only."""
    if blocks:
        return network.forward_intermediates(x, indices=blocks, norm=True, intermediates_only=True)
    maps = network(x)
    if str(getattr(network, "output_fmt", "")).endswith("NHWC"):
        maps = [h.permute(0, 3, 1, 2) for h in maps]
    return maps


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> list[nn.Module]:
    """Holds each network as timm made it, its BatchNorms in use."""
    made: list[nn.Module] = []
    create = backbones._create

    def creating(name: str, pretrained: bool, **options: object) -> nn.Module:
        network = create(name, pretrained, **options)
        with_used_norms(network)
        made.append(copy.deepcopy(network).eval())
        return network

    monkeypatch.setattr(backbones, "_create", creating)
    return made


@torch.no_grad()
@pytest.mark.parametrize("name", NETWORKS)
def test_levels_are_timms_own(name, plain):
    size = NETWORKS[name]
    announced = backbones._announced_strides(name)
    tokens = len(set(announced)) == 1
    every = None if tokens or name in NOT_EVERY_LEVEL else range(len(announced))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # every one of them can be folded, as far as it can
        backbone = Backbone(name, layers=every, pretrained=False, image_size=size)
    image = torch.rand(2, 3, size, size)
    x = (image - backbone.mean) / backbone.std
    expected = plain_levels(plain[-1], x, list(backbone.layers) if backbone.tokens else [])
    found = backbone(image)
    assert len(found) == len(expected) == len(backbone.layers)
    for h, reference in zip(found, expected, strict=True):
        assert h.shape == reference.shape
        assert (h - reference).norm() < 1e-4 * reference.norm()
    assert backbone.channels == tuple(h.shape[1] for h in expected)
    assert backbone.strides == tuple(size / h.shape[2] for h in expected)


@pytest.mark.parametrize("name", REFUSED)
def test_a_refusal_names_the_reason(name):
    size, reason = REFUSED[name]
    with pytest.raises(FastFlowError, match=reason):
        Backbone(name, pretrained=False, image_size=size)


def test_so_many_families():
    families = {timm.models._registry._model_to_module[name] for name in NETWORKS}
    assert len(NETWORKS) >= 60 and len(families) >= 40
