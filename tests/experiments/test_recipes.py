"""A recipe is read, checked and written without loss; every mistake in it is named."""

import dataclasses
import json
import warnings

import pytest
import torch
from torch import nn

from fastflow_utils import cli
from fastflow_utils.compute import resolve_precision
from fastflow_utils.detector.choices import METHODS
from fastflow_utils.detector.flows import AffineCoupling
from fastflow_utils.detector.maps import blur
from fastflow_utils.detector.model import FastFlow
from fastflow_utils.errors import FastFlowError
from fastflow_utils.experiments.recipes import (
    Recipe,
    describe,
    recipe_for,
    recipe_of,
    recipes,
    sizes,
)

# The flow's parameters in millions, with FrEIA's blocks; the feature maps at the recipe's size.
PAPER = {
    "resnet18": (4.657, [(64, 64, 64), (128, 32, 32), (256, 16, 16)]),
    "wide_resnet50_2": (41.338, [(256, 64, 64), (512, 32, 32), (1024, 16, 16)]),
    "deit_base_distilled_384": (7.074, [(768, 24, 24)]),
    "cait_m48_448": (7.074, [(768, 28, 28)]),
}
REDUCED = {  # image sizes; the paper's four, and one of each family that must work unprepared
    **dict.fromkeys(PAPER, 64),
    "convnext_atto": 64,
    "efficientnet_b0": 64,
    "vit_small_patch14_reg4_dinov2": 56,
    "swin_tiny_patch4_window7_224": 64,
}


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)


@pytest.mark.parametrize("name", PAPER)
def test_the_papers_recipes_have_its_flows_and_maps(name):
    millions, shapes = PAPER[name]
    recipe = recipes()[name]
    with torch.device("meta"):  # shapes at full size, without the numbers
        backbone = recipe.build_backbone(pretrained=False)
        model = recipe.build_model(backbone)
        maps = backbone(torch.empty(1, 3, recipe.image_size, recipe.image_size))
    assert count(model) == count(model.flows)
    assert count(model.flows) / 1e6 == pytest.approx(millions, abs=5.01e-4)
    assert [tuple(h.shape[1:]) for h in maps] == shapes
    assert backbone.channels == tuple(channels for channels, _, _ in shapes)
    assert backbone.strides == tuple(recipe.image_size // height for _, height, _ in shapes)


@pytest.mark.parametrize("name", PAPER)
def test_a_flow_has_as_many_parameters_as_freias(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from FrEIA.modules import AllInOneBlock

    recipe = recipes()[name]
    _, shapes = PAPER[name]
    sizes = {"3x3": [3], "3-1": [3, 1]}[recipe.kernels]
    theirs = 0
    for channels, _, _ in shapes:
        for size in sizes:

            def subnet(c_in: int, c_out: int, size: int = size) -> nn.Module:
                hidden = int(c_in * recipe.hidden_ratio)
                return nn.Sequential(
                    nn.Conv2d(c_in, hidden, size), nn.ReLU(), nn.Conv2d(hidden, c_out, size)
                )

            block = AllInOneBlock([(channels, 8, 8)], subnet_constructor=subnet)
            theirs += count(block) * recipe.steps // len(sizes)
    with torch.device("meta"):
        assert count(recipe.build_model(recipe.build_backbone(pretrained=False))) == theirs


@pytest.mark.parametrize("name", ["deit_base_distilled_384", "cait_m48_448"])
def test_only_blocks_up_to_the_asked_one_are_kept(name):
    recipe = recipes()[name]
    with torch.device("meta"):
        network = recipe.build_backbone(pretrained=False).network
    assert recipe.layers == (len(network.blocks) - 1,)
    assert not network.get_submodule("head").state_dict()
    assert getattr(network, "blocks_token_only", None) is None


@pytest.mark.parametrize("name", REDUCED)
def test_every_flow_parameter_learns_at_a_reduced_input(name):
    recipe = recipe_for(name, image_size=REDUCED[name])
    backbone = recipe.build_backbone(pretrained=False)
    model = recipe.build_model(backbone).train()
    features = backbone(torch.rand(2, 3, recipe.image_size, recipe.image_size))
    for h, channels, stride in zip(features, backbone.channels, backbone.strides, strict=True):
        side = recipe.image_size // stride
        assert h.shape == (2, channels, side, side) and h.isfinite().all()
    loss = model.nll(features).mean()
    loss.backward()
    assert loss.isfinite()
    assert not any(parameter.requires_grad for parameter in backbone.parameters())
    for parameter in model.flows.parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all()
    couplings = [module for module in model.modules() if isinstance(module, AffineCoupling)]
    assert len(couplings) == recipe.steps * len(features)
    assert all(coupling.subnet[-1].weight.grad.abs().max() > 0 for coupling in couplings)


def test_every_field_arrives_where_it_is_used():
    recipe = Recipe(
        image_size=64,
        steps=3,
        kernels="1x1",
        hidden_ratio=0.5,
        clamp=1.5,
        whiten=False,
        position=True,
        upright=True,
        folds=3,
        smoothing=2.5,
        top=0.2,
        budget=30,
        batch_size=3,
        positions=100,
        learning_rate=0.01,
        weight_decay=0.1,
        image_fpr=0.3,
        pixel_fpr=0.02,
        precision="float32" if Recipe().precision == "bfloat16" else "bfloat16",
    )
    changed = {name for name, value in vars(recipe).items() if value != getattr(Recipe(), name)}
    same = {"method", "backbone", "layers", "epochs", "window", "overlap", "copies"}
    assert changed == set(vars(recipe)) - same
    model = recipe.build_model(recipe.build_backbone(pretrained=False))
    kept = {name: getattr(model, name) for name in ("smoothing", "top", "precision")}
    used = {**dataclasses.asdict(recipe.flow), **recipe.training(10), **kept, "epochs": None}
    assert model.options == recipe.flow
    assert used == {name: getattr(recipe, name) for name in used}
    elsewhere = {"method", "backbone", "layers", "image_size", "budget", "upright"}
    elsewhere |= {"window", "overlap", "copies"}
    assert set(used) == set(vars(recipe)) - elsewhere
    coupling = model.flows[0].layers[1].layers[2]  # positions before it, no whitening
    assert coupling.clamp == 1.5 and coupling.subnet[0].weight.shape == (6, 12, 1, 1)


def test_a_recipe_is_found_by_its_name_and_by_its_backbone():
    deit = recipes()["deit_base_distilled_384"]
    assert recipe_for("deit_base_distilled_384") == deit
    assert recipe_for("deit_base_distilled_patch16_384") == deit
    assert recipe_for() == recipes()["efficientnet_lite0"]
    assert recipe_for("resnet34") == Recipe(backbone="resnet34")


def test_a_recipe_is_found_whatever_weights_the_tag_names():
    tagged = recipe_for("resnet18.tv_in1k")
    assert tagged.backbone == "resnet18.tv_in1k"
    assert dataclasses.replace(tagged, backbone="resnet18") == recipes()["resnet18"]


def test_a_file_may_name_a_recipe(tmp_path):
    file = tmp_path / "recipe.yaml"
    file.write_text("backbone: deit_base_distilled_384\nsteps: 4\n")
    assert recipe_for(config=file) == recipes()["deit_base_distilled_384"].changed(steps=4)


def test_the_list_names_every_recipe_and_its_sizes(capsys):
    cli.recipes()
    printed = capsys.readouterr().out.splitlines()
    assert max(map(len, printed)) <= 100
    for name, (millions, _) in PAPER.items():
        (row,) = (line for line in printed if line.split()[0] == name)
        assert f"{recipes()[name].image_size} px" in row
        assert f"{millions:.1f} M" in row and "hub or FILE" in row and "auto" in row
    assert any(line.split()[0] == "efficientnet_lite0" and "installed" in line for line in printed)


@pytest.mark.parametrize("name", recipes())
def test_the_sizes_written_down_are_those_of_what_is_built(name):
    with torch.device("meta"):  # shapes alone: nothing is loaded or computed
        backbone = recipes()[name].build_backbone(pretrained=False)
        flows = recipes()[name].build_model(backbone).flows
    assert sizes()[name] == {
        "layers": list(backbone.layers),
        "tokens": backbone.tokens,
        **{
            part: sum(parameter.numel() for parameter in module.parameters())
            for part, module in {"backbone": backbone, "flow": flows}.items()
        },
    }


def test_every_packaged_recipe_has_its_sizes_written_down():
    assert list(sizes()) == list(recipes())


def test_options_win_over_the_file_and_the_file_over_the_package(tmp_path):
    file = tmp_path / "recipe.yaml"
    file.write_text("backbone: resnet18\nsteps: 5\nepochs: 7\n")
    recipe = recipe_for(config=file, epochs=9, image_size=None)
    assert (recipe.backbone, recipe.steps, recipe.epochs) == ("resnet18", 5, 9)
    assert recipe.kernels == recipes()["resnet18"].kernels != Recipe().kernels
    assert recipe_for("mobilenetv3_small_100", file).backbone == "mobilenetv3_small_100"


def test_a_saved_recipe_reads_back_the_same(tmp_path):
    for recipe in (Recipe(), Recipe(layers=(1, 2), kernels="3x3", top=0.5, learning_rate=1e-3)):
        recipe.save(tmp_path / "recipe.yaml")
        assert recipe_for(config=tmp_path / "recipe.yaml") == recipe


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epoch: 3", "no 'epoch': did you mean 'epochs'"),
        ("colour: red", "no 'colour': expected method, backbone, layers"),
        ("epochs: many", "epochs: 'many'.*int >= 1"),
        ("epochs: 0", "epochs: 0"),
        ("steps: true", "steps: True"),
        ("kernels: 5x5", "kernels: '5x5'"),
        ("top: 0", "top: 0"),
        ("layers: 3", "layers: 3.*list"),
        ("layers: [one]", "layers"),
        ("image_size: 8", "image_size: 8"),
        ("learning_rate: -1", "learning_rate: -1"),
        ("learning_rate: true", "learning_rate: True"),
        ("learning_rate: .nan", "learning_rate: nan"),
        ("learning_rate: .inf", "learning_rate: inf"),
        ("weight_decay: .inf", "weight_decay: inf"),
        ("hidden_ratio: .nan", "hidden_ratio: nan"),
        ("top: true", "top: True"),
        ("clamp: 90", "clamp: 90.*at most 10"),
        ("clamp: .inf", "clamp: inf"),
        ("steps: 100000", "steps: 100000.*256"),
        ("smoothing: true", "smoothing: True"),
        ("smoothing: .inf", "smoothing: inf"),
        ("smoothing: .nan", "smoothing: nan"),
        ("smoothing: 86", "smoothing: 86.*from 0 to 85"),
        ("image_size: 64\nsmoothing: 22", "smoothing: 22.*from 0 to 21"),
        ("precision: int8", "precision: 'int8': expected auto, float32 or bfloat16"),
        ("backbone: ''", "backbone: ''"),
        ("just words", "just words"),
        ("a: [", "not YAML"),
    ],
)
def test_mistakes_in_a_file_are_named_in_one_line(tmp_path, text, message):
    file = tmp_path / "recipe.yaml"
    file.write_text(text)
    with pytest.raises(FastFlowError, match=message) as error:
        recipe_for(config=file)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("side", [32, 64, 255, 256])
def test_the_widest_smoothing_works_and_a_wider_one_is_told_before_training(side):
    """It used to fail at the first map, after training."""
    widest = (side - 1) / 3
    recipe = Recipe(image_size=side, smoothing=widest)
    maps = torch.rand(1, 1, side, side)
    assert blur(maps, recipe.smoothing).shape == maps.shape
    with pytest.raises(FastFlowError, match="smoothing"):
        Recipe(image_size=side, smoothing=widest + 0.01)


def test_precision_is_resolved_when_a_recipe_is_made_and_kept(tmp_path, monkeypatch):
    for here, elsewhere in (("float32", "bfloat16"), ("bfloat16", "float32")):
        monkeypatch.setenv("FASTFLOW_PRECISION", here)
        recipe = recipe_for("resnet18")
        assert recipe.precision == here == Recipe(precision="auto").precision
        assert recipe_for(precision=elsewhere).precision == elsewhere
        recipe.save(tmp_path / "recipe.yaml")
        monkeypatch.setenv("FASTFLOW_PRECISION", elsewhere)  # as another machine would choose
        assert recipe_for(config=tmp_path / "recipe.yaml") == recipe
        assert recipe.changed(steps=2).precision == here
        assert recipe_of(json.loads(json.dumps(dataclasses.asdict(recipe)))) == recipe
        assert describe(recipe) == "resnet18", "tables name it beside"


def test_a_run_from_before_there_were_positions_can_be_read():
    values = dataclasses.asdict(recipe_for())
    del values["positions"]
    assert describe(recipe_of(values)) == "efficientnet_lite0, positions None"


def test_auto_is_one_of_the_two_without_the_variable(monkeypatch):
    monkeypatch.delenv("FASTFLOW_PRECISION", raising=False)
    for device in (None, "cpu", torch.device("cpu")):
        assert resolve_precision("auto", device) in ("float32", "bfloat16")
    assert recipe_for(device="cpu").precision == resolve_precision("auto", "cpu")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FastFlowError, match="no recipe at"):
        recipe_for(config=tmp_path / "none.yaml")


NO_RECIPES = {
    "not UTF-8": b"epochs: \xff",
    "names no field": b"1: 2",
    "smoothing": b"smoothing: 1.0e+308",
    "not YAML": b"epochs: " + b"9" * 5000,
}


@pytest.mark.parametrize(("named", "content"), NO_RECIPES.items())
def test_a_file_that_is_no_recipe_is_named(tmp_path, named, content):
    (tmp_path / "recipe.yaml").write_bytes(content)
    with pytest.raises(FastFlowError, match=named):
        recipe_for(config=tmp_path / "recipe.yaml")


# Methods


def test_a_stored_recipe_without_a_method_is_fastflows():
    values = dataclasses.asdict(Recipe(steps=3))
    del values["method"], values["positions"]
    assert recipe_of(values) == Recipe(steps=3)


@pytest.mark.parametrize("method", METHODS)
def test_a_recipe_builds_its_method(method, tmp_path):
    recipe = Recipe(method=method, image_size=64, smoothing=2.0, top=0.5)
    backbone = recipe.build_backbone(pretrained=False)
    model = recipe.build_model(backbone)
    assert (model.method, model.smoothing, model.top) == (method, 2.0, 0.5)
    assert type(recipe.build_fastflow(backbone)) is FastFlow
    assert ("epochs" in recipe.training(10)) == (method == "fastflow")
    recipe.save(tmp_path / "recipe.yaml")
    assert recipe_for(config=tmp_path / "recipe.yaml", precision=recipe.precision) == recipe


@pytest.mark.parametrize("method", ["padm", "", None, 3, ["padim"]])
def test_an_unknown_method_is_named(method):
    with pytest.raises(FastFlowError, match=r"method: .*expected one of fastflow, gaussian"):
        Recipe(method=method)


def test_methods_without_a_flow_compute_in_float32_whatever_is_asked():
    assert Recipe(method="padim", precision="bfloat16").precision == "float32"
    assert Recipe(precision="bfloat16").precision == "bfloat16"


def test_a_method_is_named_and_what_says_nothing_of_it_is_not():
    recipe = recipe_for(method="padim", image_size=128, steps=3, epochs=2)
    assert describe(recipe) == "padim, efficientnet_lite0, image_size 128"
    assert describe(recipe.changed(method="fastflow")).startswith("efficientnet_lite0, image_size")
