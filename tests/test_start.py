"""What each command loads before it answers: not seconds, which depend on the machine.

torch takes three times as long to import as numpy and pandas, timm three times as long as torch:
it brings torchvision, and that torch's compiler.
"""

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = (
    *("numpy", "pandas", "scipy", "skimage", "matplotlib", "seaborn", "IPython"),
    *("torch", "torch._dynamo", "torchvision", "timm", "kornia", "torchmetrics"),
    *("huggingface_hub", "einops", "safetensors", "ray"),
)
DETECTOR = {"numpy", "torch", "einops", "safetensors"}

ANSWER = f"""
import sys
from importlib import import_module

def loaded():
    print("loaded", *sorted(set(sys.modules) & set({HEAVY})))

def fastflow(*arguments):
    sys.argv = ["fastflow", *arguments]
    try:
        import_module("fastflow_utils.cli").main()
    except SystemExit as end:
        loaded()
        return end.code or 0
"""


def loads(code: str) -> list[set[str]]:
    """Return which heavy modules a fresh interpreter has loaded at each ``loaded()`` of a code."""
    done = subprocess.run(
        [sys.executable, "-c", ANSWER + code], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    lines = [line.split()[1:] for line in done.stdout.splitlines() if line.startswith("loaded")]
    return [set(words) for words in lines]


COMMANDS = ("run", "predict", "reproduce", "report", "animate", "recipes", "data")
ASKS_FOR_HELP = "\n".join(f"fastflow('{name}', '--help')" for name in COMMANDS)


def test_help_and_what_is_mistyped_load_nothing():
    """A missing option, an unknown one, no number, no such choice: typer alone answers."""
    code = f"""
fastflow("--help")
{ASKS_FOR_HELP}
fastflow("data", "check", "--help")
fastflow("data", "sample", "--help")
fastflow("data", "import", "--help")
fastflow("run", "--categroy", "disc")
fastflow("run", "--output", "out", "--epochs", "many")
fastflow("run", "--output", "out", "--device", "tpu")
fastflow("predict", "model")
fastflow("rum")
fastflow("recipes")
"""
    assert loads(code) == [set()] * 17


MISTAKES = {
    "seed": "fastflow('run', *category, '--seed', '-1')",
    "category": "fastflow('run', *data, '--category', 'dics')",
    "no category": "fastflow('run', *data)",
    "root": "fastflow('run', '--data', 'nowhere', *output, '--category', 'disc')",
    "range": "fastflow('run', *category, '--epochs', '0')",
    "method": "fastflow('run', *category, '--method', 'padm')",
    "weights": "fastflow('run', *category, '--weights', 'none.pth')",
    "no YAML": "fastflow('run', *category, '--config', place + '/tab.yaml')",
    "field": "fastflow('run', *category, '--config', place + '/field.yaml')",
    "no model": "fastflow('predict', 'nowhere', place, *output)",
    "no picture": "fastflow('predict', place + '/model', 'nowhere', *output)",
    "plan's seed": "fastflow('reproduce', *data, '--seeds', str(2**32))",
    "plan's category": "fastflow('reproduce', *data, '--categories', 'dics')",
    "plan's weights": "fastflow('reproduce', *data, '--weights', 'efficientnet_lite0=none')",
    "plan's method": "fastflow('reproduce', *data, '--methods', 'padim,padm')",
    "no run": "fastflow('animate', place, *output)",
    "own: no good": "fastflow('run', '--bad', place, *output)",
    "own: no folder": "fastflow('run', '--good', 'nowhere', *output)",
    "own: no rule": "fastflow('run', *own, '--split-by', '(')",
    "own: no size": "fastflow('run', *own, '--image-size', '3x4x5')",
    "own: window": "fastflow('run', *own, '--window', '512')",
    "own: region": "fastflow('run', *own, '--region', '900,900,9,9')",
    "region": "fastflow('run', *category, '--region', '900,900,9,9')",
    "no table": "fastflow('run', '--table', 'none.csv', *output)",
    "archive": "fastflow('data', 'import', 'none.tar.xz', place)",
    "no archive": "fastflow('data', 'import', place + '/tab.yaml', place)",
}


def test_mistakes_are_told_without_torch(tiny: Path, tmp_path: Path):
    (tmp_path / "tab.yaml").write_text("a: [")
    (tmp_path / "field.yaml").write_text("epoch: 4")
    (tmp_path / "model").mkdir()
    for name in ("config.json", "model.safetensors"):
        (tmp_path / "model" / name).touch()
    code = f"""
place, output = {str(tmp_path)!r}, ["--output", {str(tmp_path / "out")!r}]
data = ["--data", {str(tiny)!r}, *output]
category = [*data, "--category", "disc"]
own = ["--good", {str(tiny / "disc" / "train" / "good")!r}, *output]
"""
    found = loads(code + "\n".join(f"assert {line} == 2" for line in MISTAKES.values()))
    slow = {
        name: modules - {"numpy", "pandas"}
        for name, modules in zip(MISTAKES, found, strict=True)
        if not modules <= {"numpy", "pandas"}
    }
    assert not slow


@pytest.mark.parametrize(
    ("command", "modules"),
    [
        ("'data', 'check', {tiny!r}", {"numpy", "pandas"}),
        ("'report', {tiny!r}", {"numpy", "pandas"}),
        (
            "'data', 'sample', {out!r}, '--size', '32', '--train', '1', '--good', '1', "
            "'--per-defect', '1', '--categories', 'carpet'",
            {"numpy", "scipy", "skimage"},
        ),
    ],
)
def test_tables_and_samples_are_made_without_torch(command, modules, tiny, tmp_path):
    arguments = command.format(tiny=str(tiny), out=str(tmp_path / "sample"))
    (found,) = loads(f"fastflow({arguments})")
    assert found == modules


def test_prediction_loads_torch_and_colours_alone(tiny: Path, tmp_path: Path):
    """No timm for the default backbone, no compiler; outlines where there is something."""
    picture = tiny / "disc" / "test" / "good" / "000.png"
    code = f"""
from fastflow_utils import Backbone, FastFlow
loaded()
model = FastFlow(Backbone("efficientnet_lite0", image_size=64))
model.image_threshold.fill_(0.5)
for name, threshold in {{"good": 2, "bad": 0}}.items():
    model.pixel_threshold.fill_(threshold)
    folder = {str(tmp_path)!r} + "/" + name
    model.save(folder + "/model")
    fastflow("predict", folder + "/model", {str(picture)!r}, "--output", folder)
"""
    imports, good, bad = loads(code)
    assert imports == DETECTOR
    assert good == DETECTOR | {"matplotlib"}
    assert bad == DETECTOR | {"matplotlib", "scipy", "skimage"}


def test_a_run_loads_no_tables_or_figures_before_it_has_results():
    code = "import fastflow_utils.experiments.run, fastflow_utils.experiments.recipes; loaded()"
    assert loads(code) == [DETECTOR | {"scipy"}]
