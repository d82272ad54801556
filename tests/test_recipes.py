"""A recipe is read, checked and written without loss; every mistake in it is named."""

import pytest

from fastflow_utils.errors import FastFlowError
from fastflow_utils.recipes import Recipe, recipe_for, recipes


def test_packaged_recipes_build_what_they_say():
    for name, recipe in recipes().items():
        assert recipe.backbone == name
        assert recipe.layers == (1, 2, 3)


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
        ("colour: red", "no 'colour': expected backbone, layers"),
        ("epochs: many", "epochs: 'many'.*int >= 1"),
        ("epochs: 0", "epochs: 0"),
        ("steps: true", "steps: True"),
        ("kernels: 5x5", "kernels: '5x5'"),
        ("top: 0", "top: 0"),
        ("layers: 3", "layers: 3.*list"),
        ("layers: [one]", "layers"),
        ("image_size: 8", "image_size: 8"),
        ("learning_rate: -1", "learning_rate: -1"),
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


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FastFlowError, match="no recipe at"):
        recipe_for(config=tmp_path / "none.yaml")
