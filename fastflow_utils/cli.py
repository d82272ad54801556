"""The command line: ``fastflow run``, ``predict``, ``reproduce``, ``report``, ``animate``, ....

Exit codes: 0; 2 for a mistake of the user's, told in one line; 1 for everything else.

The commands import what they need themselves, and torch last, so that help and mistakes answer at
once: torch, timm and matplotlib take seconds to import. tests/test_start.py holds them to it.
"""

import io
import math
import os
import sys
from collections.abc import Mapping, Sequence
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from fastflow_utils.errors import FastFlowError

if TYPE_CHECKING:
    from fastflow_utils.experiments.recipes import Recipe
    from fastflow_utils.experiments.run import Run

__all__ = ["app", "main"]

PLAIN: dict[str, Any] = {"rich_markup_mode": None}
app = typer.Typer(
    help="Anomaly detection with 2-D normalizing flows (FastFlow, arXiv 2111.07677).",
    add_completion=False,
    pretty_exceptions_enable=False,
    **PLAIN,
)
data_app = typer.Typer(help="Make, check and import data.", **PLAIN)
app.add_typer(data_app, name="data")


class Device(StrEnum):
    """Where to compute."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


class Format(StrEnum):
    """How tables are written."""

    markdown = "markdown"
    csv = "csv"
    html = "html"
    latex = "latex"


class Precision(StrEnum):
    """The number format of the flows' convolutions."""

    auto = "auto"
    float32 = "float32"
    bfloat16 = "bfloat16"


class Where(StrEnum):
    """Who places the runs."""

    local = "local"
    ray = "ray"


Data = Annotated[
    Path | None, typer.Option(help="Data root. Default: $FASTFLOW_DATA, else the sample set.")
]
ImageSize = Annotated[
    str | None, typer.Option(help="Pixels: 256, or height and width as 192x256.")
]
Epochs = Annotated[int | None, typer.Option(help="Passes over the training images.")]
AskedPrecision = Annotated[
    Precision | None,
    typer.Option(
        "--precision",
        help="Number format of convolutions. Default: the recipe's, else bfloat16 where the "
        "device is fast with it.",
    ),
]


@app.command()
def run(
    output: Annotated[Path, typer.Option(help="Folder for the results.")],
    category: Annotated[
        str | None, typer.Option(help="Category folder under the data root, e.g. bottle.")
    ] = None,
    data: Data = None,
    good: Annotated[
        Path | None, typer.Option(help="A plain folder of good pictures, instead of --data.")
    ] = None,
    bad: Annotated[
        Path | None, typer.Option(help="With --good: damaged ones, to evaluate on.")
    ] = None,
    masks: Annotated[
        Path | None, typer.Option(help="With --bad: masks with the pictures' names.")
    ] = None,
    table: Annotated[
        Path | None, typer.Option(help="CSV of path,label,split,mask, instead of --data.")
    ] = None,
    split_by: Annotated[
        str | None,
        typer.Option(help="Good test pictures: order (the last by name), or a key's expression."),
    ] = None,
    smallest_defect: Annotated[
        float | None,
        typer.Option(help="Pixels of the file; sets image size and windows of --good."),
    ] = None,
    window: Annotated[
        int | None, typer.Option(help="Cut pictures into windows of so many pixels.")
    ] = None,
    overlap: Annotated[int | None, typer.Option(help="Pixels that windows share.")] = None,
    region: Annotated[
        str | None,
        typer.Option(help="Where to look: LEFT,TOP,WIDTH,HEIGHT, corners X1,Y1,..., or a mask."),
    ] = None,
    folds: Annotated[
        int | None, typer.Option(help="Calibrate by so many twins; --good: 5, else a tenth.")
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(help="fastflow (default), gaussian, padim, subspace or patchcore."),
    ] = None,
    backbone: Annotated[
        str | None, typer.Option(help="efficientnet_lite0 (default) or any timm model.")
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(help="Local state dict of the backbone, .pth or .safetensors.")
    ] = None,
    image_size: ImageSize = None,
    epochs: Epochs = None,
    seed: Annotated[int, typer.Option(help="Same seed, same machine: same result.")] = 0,
    config: Annotated[
        Path | None, typer.Option(help="YAML file of recipe fields; see `fastflow recipes`.")
    ] = None,
    device: Annotated[Device, typer.Option(help="Where to compute.")] = Device.auto,
    precision: AskedPrecision = None,
) -> None:
    """Train on normal images, of a category or of your own, and evaluate where there is a test."""
    from fastflow_utils.compute import check_seed, select_device
    from fastflow_utils.data import layout, readers
    from fastflow_utils.detector.choices import require_weights
    from fastflow_utils.experiments.recipes import recipe_for

    check_seed(seed)
    is_own = good is not None or table is not None
    for name, given in {"--bad": bad, "--masks": masks}.items():
        if given is not None and good is None:
            raise FastFlowError(f"{name} {given} without --good: say where the good ones are")
    if is_own and (data or category or (good and table)):
        raise FastFlowError("--good and --table take the place of --data and --category: give one")
    if not is_own and (smallest_defect is not None or split_by is not None):
        raise FastFlowError("--smallest-defect and --split-by are for pictures given by --good")
    size = _size(image_size)
    cut: dict[str, Any] = {"folds": folds}
    if not is_own:
        cut |= {"image_size": size, "window": window, "overlap": overlap}
    ask = partial(recipe_for, backbone, config, method=method, epochs=epochs, **cut)
    tried = ask(precision="float32")  # "auto" asks torch: a mistake is told before
    _check_epochs(epochs, [tried])
    if weights is not None:
        require_weights(weights)
    if table is not None:
        found = readers.from_table(table)
    elif good is not None:
        found = readers.from_folders(good, bad, masks)
    else:
        root = layout.data_root(data)
        if category is None:
            names = ", ".join(readers.categories(root)) or "none"
            raise FastFlowError(f"no --category given: expected one of those in {root}: {names}")
        found = readers.listing(root, category)
    if split_by is not None:
        from fastflow_utils.experiments.own import split_by as split

        found = split(found, split_by)
    options = _region(region, [item.path for item in found.of("train")])
    if is_own:
        from fastflow_utils.experiments.own import as_read

        how: dict[str, Any] = {"window": window, "smallest": smallest_defect}
        how |= {"overlap": overlap, "image_size": size}
        tried = as_read(found, tried, **how)
    recipe = ask(precision=precision, device=device)
    options |= {"seed": seed, "weights": weights, "device": select_device(device)}
    if is_own:
        from fastflow_utils.experiments.own import own_run

        read = {name: getattr(tried, name) for name in ("image_size", "window", "overlap")}
        result = own_run(found, recipe.changed(**read), output, **options)
    else:
        from fastflow_utils.experiments.run import run_on

        result = run_on(recipe, found, output, **options)
    _tell(result, output)


def _size(text: str | None) -> "int | tuple[int, int] | None":
    """Return the size that was written as 256 or 192x256."""
    if text is None:
        return None
    sides = text.lower().split("x")
    if len(sides) > 2 or not all(side.isdecimal() and len(side) < 6 for side in sides):
        raise FastFlowError(f"--image-size {text}: expected pixels, such as 256 or 192x256")
    return int(sides[0]) if len(sides) == 1 else (int(sides[0]), int(sides[1]))


def _region(given: str | None, paths: "Sequence[Path]") -> dict[str, Any]:
    """Return what `run_on` is to know of a region."""
    from fastflow_utils.data.region import read_region, region_text
    from fastflow_utils.data.sizes import usual_size

    if given is None:
        return {}
    return {"region": read_region(given, usual_size(paths)), "region_text": region_text(given)}


def _tell(result: "Run", output: Path) -> None:
    """Print what a run has found, and what its threshold promises."""
    from fastflow_utils.detector.intervals import promised

    recipe = result.recipe
    drawn = _draw(result, output / "figures")
    metrics = result.metrics
    epochs_done = f"last of {metrics['epochs']} epochs" if metrics["epochs"] else "no epochs"
    typer.echo(
        f"{result.evaluation.dataset.title}, {recipe.short_name}, seed {metrics['seed']}, "
        f"{epochs_done}, {metrics['device']} in {recipe.precision}"
    )
    has_test = len(result.evaluation.dataset) > 0
    rows = [
        {"image_auroc": "image AUROC", "image_ap": "AP", "image_f1": "F1 (oracle)"},
        {"pixel_auroc": "pixel AUROC", "pixel_ap": "AP", "pixel_f1": "F1 (oracle)"},
        {"aupro": "AUPRO      ", "aupimo": "AUPIMO"},
    ]
    for row in rows if has_test else []:
        shown = (f"{text} {_number(metrics[key])}" for key, text in row.items())
        typer.echo("  " + "   ".join(shown))
    for level in ("image", "pixel") if has_test else ():
        threshold, fpr, f1 = (
            metrics["label_free"][f"{level}_{name}"] for name in ("threshold", "fpr", "f1")
        )
        typer.echo(
            f"  {level} threshold {threshold:.4f}, set without labels: false-positive rate "
            f"{_number(fpr)}, F1 {_number(f1)}"
        )
    if has_test:
        _tell_decisions(result)
    count, asked = metrics["calibration_images"], recipe.image_fpr
    expected, low, high = promised(count, asked)
    typer.echo(
        f"  image threshold {metrics['label_free']['image_threshold']:.4f}, of {count} good "
        f"pictures: {expected:.3f} of new good ones are expected above it, nine times in ten "
        f"between {low:.3f} and {high:.3f}; asked for {asked:g}"
    )
    typer.echo("  " + ", ".join(f"{k} {v:.1f} s" for k, v in metrics["seconds"].items()))
    if len(result.per_defect):
        typer.echo(_table(result.per_defect.reset_index().to_dict("records")))
    for note in metrics["notes"]:
        typer.echo(f"note: {note}")
    figures = "figures/, " if drawn else ""
    survey = "survey.html, " if (output / "survey.html").is_file() else ""
    typer.echo(
        f"results in {output}: card.md, {survey}metrics.json, normal_scores.csv, "
        f"test_scores.csv, per_defect.csv, {figures}model/"
    )
    typer.echo(f"next: fastflow predict {output / 'model'} PICTURES --output FOLDER")


def _tell_decisions(result: "Run") -> None:
    """Print how many test images each decision is right about, and what the AUROC may be."""
    low, high = result.metrics["intervals"]["image_auroc"]
    if not math.isnan(low):
        typer.echo(f"  image AUROC on other test images: {low:.3f} to {high:.3f} (95 %)")
    evaluation = result.evaluation
    called = evaluation.scores >= evaluation.image_threshold
    damaged = evaluation.labels == 1
    found, alarms = int((called & damaged).sum()), int((called & ~damaged).sum())
    typer.echo(
        f"  by this threshold, {found} of {int(damaged.sum())} damaged are found, and {alarms} of "
        f"{int((~damaged).sum())} good ones called anomalous: test_scores.csv"
    )


def _draw(result: "Run", folder: Path) -> bool:
    """Draw a run's figures, where the extra `course` is installed; return whether they are."""
    try:
        from fastflow_utils.course import plots
    except ModuleNotFoundError as error:
        typer.echo(
            f"no figures: {error.name} is not installed; pip install 'fastflow-utils[course]'",
            err=True,
        )
        return False
    try:
        plots.draw_run(result.evaluation, result.history, folder)
    except Exception as error:  # whatever it is: no results are lost for a figure
        typer.echo(f"no figures: {' '.join(str(error).split())}", err=True)
        return False
    return True


@app.command()
def predict(
    model: Annotated[Path, typer.Argument(help="DIR/model of a run.")],
    images: Annotated[list[Path], typer.Argument(help="Images, or folders of images.")],
    output: Annotated[
        Path, typer.Option(help="Folder for tables and heat maps; what is done there is kept.")
    ],
    threshold: Annotated[
        float | None,
        typer.Option(help="A score from here on is anomalous. Default: the model's own."),
    ] = None,
    save: Annotated[
        list[str] | None,
        typer.Option(help="npy, tiff (the maps) or mask; comma-separated, or several times."),
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Remove what is done there, and compute all of it.")
    ] = False,
    device: Annotated[Device, typer.Option(help="Where to compute.")] = Device.auto,
) -> None:
    """Score images of any size, draw their heat maps, list their anomalous regions."""
    from fastflow_utils.compute import select_device
    from fastflow_utils.detector.choices import require_model
    from fastflow_utils.detector.prediction import check_request, predict_rows

    saved = [name for text in save or [] for name in _names(text)]
    require_model(model)
    check_request(images, output, threshold, saved)

    from fastflow_utils.detector.detector import Detector

    detector = Detector.load(model).to(select_device(device))
    done = predict_rows(detector, images, output, threshold=threshold, save=saved, again=again)
    scored = [row for row in done.rows if row.score is not None]
    if scored:
        highest = sorted(scored, key=lambda row: row.score or 0, reverse=True)[:10]
        shown = ("path", "score", "decision")
        typer.echo(_table([{name: getattr(row, name) for name in shown} for row in highest]))
    earlier = f", {done.kept} of them by an earlier call" if done.kept else ""
    typer.echo(
        f"{len(scored)} images scored{earlier}, higher is more anomalous: {output}/scores.csv"
    )
    anomalous = sum(row.decision == "anomalous" for row in scored)
    whose = "the model's own" if threshold is None else "as given"
    typer.echo(
        f"image threshold {done.rows[0].threshold:.6g}, {whose}: {anomalous} anomalous, "
        f"{len(scored) - anomalous} good, {len(done.problems)} not judged"
    )
    typer.echo(f"anomalous regions: {output}/regions.csv, and with outlines regions.json (COCO)")
    for note in done.notes:
        typer.echo(f"note: {note}")
    if done.problems:
        for problem in done.problems[:-1]:
            typer.echo(f"error: {problem}", err=True)
        raise FastFlowError(done.problems[-1])


@app.command()
def reproduce(
    output: Annotated[Path, typer.Option(help="Folder of all runs; what is there is kept.")],
    data: Data = None,
    categories: Annotated[str, typer.Option(help="Comma-separated names, or all.")] = "all",
    backbones: Annotated[
        str | None,
        typer.Option(help="Comma-separated names; see `fastflow recipes`. Default: --config's."),
    ] = None,
    methods: Annotated[
        str | None,
        typer.Option(help="Comma-separated, as of `fastflow run`. Default: --config's."),
    ] = None,
    seeds: Annotated[str, typer.Option(help="Comma-separated: one run for each.")] = "0",
    weights: Annotated[
        list[str] | None,
        typer.Option(help="BACKBONE=FILE, a local state dict; may be given several times."),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="YAML file of recipe fields, for every backbone.")
    ] = None,
    image_size: ImageSize = None,
    epochs: Epochs = None,
    engine: Annotated[Where, typer.Option(help="This machine, or Ray.")] = Where.local,
    jobs: Annotated[int, typer.Option(min=1, help="Runs at a time on this machine.")] = 1,
    threads: Annotated[
        int | None, typer.Option(min=1, help="CPU threads of a run. Default: all, shared.")
    ] = None,
    gpus: Annotated[float, typer.Option(min=0, help="Ray: GPUs of a run; 0.5 is half.")] = 0,
    address: Annotated[
        str | None, typer.Option(help="Ray: a cluster's address, or auto. Default: a new one.")
    ] = None,
    device: Annotated[Device, typer.Option(help="Where each run computes.")] = Device.auto,
    precision: AskedPrecision = None,
) -> None:
    """Run every category, backbone, method and seed not run yet; tables: `fastflow report`."""
    from fastflow_utils.compute import select_device
    from fastflow_utils.data import layout
    from fastflow_utils.experiments import engines
    from fastflow_utils.experiments import reproduce as reproduction
    from fastflow_utils.experiments.recipes import recipe_for

    if gpus > 1 and gpus != int(gpus):
        raise FastFlowError(f"--gpus {gpus:g}: expected a whole number, or a part of one GPU")
    if engine == Where.ray and device == Device.cuda and not gpus:
        raise FastFlowError("--device cuda with --engine ray: say how many GPUs, --gpus 1 or 0.5")
    if engine == Where.local and (address is not None or gpus):
        raise FastFlowError("--address and --gpus are for --engine ray")

    def recipe(name: str | None, **more: Any) -> "Recipe":
        return recipe_for(name, config, image_size=_size(image_size), epochs=epochs, **more)

    asked = [
        {"name": name, "method": method}
        for name in (_names(backbones) if backbones is not None else [None])
        for method in (_names(methods) if methods is not None else [None])
    ]
    files = dict(_weights(text) for text in weights or [])
    quick = {"precision": "float32"}  # "auto" asks torch: a mistake is told before
    wanted: dict[str, Any] = {
        "names": None if categories == "all" else _names(categories),
        "seeds": [_seed(text) for text in _names(seeds)],
        "weights": {recipe(name, **quick).backbone: file for name, file in files.items()},
    }
    tried = [recipe(**each, **quick) for each in asked]
    _check_epochs(epochs, tried)
    root = layout.data_root(data)
    reproduction.check_plan(root, tried, **wanted)

    is_here = engine == Where.local or device == Device.cpu  # Ray's GPUs may be elsewhere
    place = select_device(device) if is_here else None
    recipes = [recipe(**each, precision=precision, device=place) for each in asked]
    plan = reproduction.plan(root, recipes, **wanted)
    threads = threads or max(1, (os.cpu_count() or 1) // jobs)
    if engine == Where.ray:
        where = engines.on_ray(address, jobs=jobs, cpus=threads, gpus=gpus)
    else:
        where = engines.local(jobs)
    outcomes = reproduction.reproduce(
        plan, output, engine=where, device=device, threads=threads, tell=typer.echo
    )
    failed = [outcome for outcome in outcomes if outcome.metrics is None]
    typer.echo(
        f"{len(outcomes) - len(failed)} of {len(outcomes)} runs are there; "
        f"tables: fastflow report {output}"
    )
    for outcome in failed:
        typer.echo(f"error: {outcome.job}: {outcome.error}", err=True)
    if failed:
        raise typer.Exit(1)


def _check_epochs(epochs: int | None, recipes: Sequence["Recipe"]) -> None:
    """Refuse a number of epochs where nothing learns in epochs."""
    if epochs is not None and all(recipe.method != "fastflow" for recipe in recipes):
        raise FastFlowError(
            f"--epochs {epochs}: {recipes[0].method} has none, only fastflow learns in epochs; "
            "leave it out"
        )


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _seed(text: str) -> int:
    if not text.isdecimal() or len(text) > 99:  # Python reads no number of thousands of digits
        raise FastFlowError(f"--seeds: '{text:.99}': expected whole numbers, such as 0,1,2")
    return int(text)


def _weights(text: str) -> tuple[str, Path]:
    backbone, equals, file = text.partition("=")
    if not equals:
        raise FastFlowError(f"--weights '{text}': expected BACKBONE=FILE, one for each backbone")
    return backbone, Path(file)


@app.command()
def report(
    runs: Annotated[Path, typer.Argument(help="The folder that `fastflow reproduce` filled.")],
    format: Annotated[Format, typer.Option(help="How it is written.")] = Format.markdown,
) -> None:
    """Print the tables of all runs in a folder: means and intervals, beside published rows."""
    from fastflow_utils.experiments.report import FORMATS, collect

    tables = collect(runs)
    typer.echo(FORMATS[format](tables), nl=False)
    if format == Format.csv:  # which has no room for them
        for note in tables.notes:
            typer.echo(note, err=True)


@app.command()
def animate(
    runs: Annotated[Path, typer.Argument(help="A run's folder, or one with many.")],
    output: Annotated[Path, typer.Option(help="Folder for the animations.")],
    data: Annotated[
        Path | None, typer.Option(help="Data root. Default: the one that the run was made on.")
    ] = None,
) -> None:
    """Make an animation of each category: image, truth, heat map, overlay with the decision."""
    from fastflow_utils.experiments.records import finished_below, require_finished

    is_one = (runs / "metrics.json").is_file()
    for run in [runs] if is_one else finished_below(runs):
        require_finished(run)

    from fastflow_utils.experiments import animations

    make = animations.animate if is_one else animations.animate_all
    for file in make(runs, output, data):
        typer.echo(f"{file} ({file.stat().st_size / 1e6:.1f} MB)")


@app.command()
def recipes() -> None:
    """List the recipes that come with the package."""
    from fastflow_utils.detector.choices import BUNDLED
    from fastflow_utils.experiments.recipes import packaged, sizes

    rows, notes, built = [], [], sizes()
    for name, recipe in packaged().items():
        size = built[name]
        rows.append(
            {
                "recipe": name,
                "image": f"{recipe['image_size']} px",
                "layers": "block " * size["tokens"] + " ".join(map(str, size["layers"])),
                "steps": recipe["steps"],
                "kernels": recipe["kernels"],
                "precision": recipe["precision"],
                "ratio": f"{recipe['hidden_ratio']:g}",
                "backbone": f"{size['backbone'] / 1e6:.1f} M",
                "flow": f"{size['flow'] / 1e6:.1f} M",
                "weights": "installed" if recipe["backbone"] == BUNDLED else "hub or FILE",
            }
        )
        if name != recipe["backbone"]:
            notes.append(f"{name}: timm's {recipe['backbone']}")
    typer.echo(_table(rows))
    typer.echo("layers: timm's indices; ratio: hidden channels; backbone, flow: parameters")
    typer.echo("precision: auto is bfloat16 where the device is fast with it, else float32")
    typer.echo("hub: downloaded by timm, once; FILE: --weights FILE, a local state dict")
    for note in notes:
        typer.echo(note)
    typer.echo("Any other timm model runs with the default recipe: --backbone NAME")


@data_app.command()
def sample(
    root: Annotated[Path, typer.Argument(help="Where to make it.")],
    categories: Annotated[
        str | None, typer.Option(help="Comma-separated names. Default: all.")
    ] = None,
    size: Annotated[int, typer.Option(help="Height and width, pixels.")] = 256,
    train: Annotated[int, typer.Option(help="Normal images to train on.")] = 60,
    good: Annotated[int, typer.Option(help="Normal test images.")] = 20,
    per_defect: Annotated[int, typer.Option(help="Test images of each defect.")] = 8,
    like_mvtec: Annotated[
        bool, typer.Option("--like-mvtec", help="MVTec AD's own numbers of images instead.")
    ] = False,
    severity: Annotated[
        float | None,
        typer.Option(help="Of every defect: 0 invisible to 1 gross. Default: it varies."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Fixes every pixel.")] = 0,
    workers: Annotated[
        int | None, typer.Option(help="Threads. Default: one per processor.")
    ] = None,
) -> None:
    """Make the procedural sample set."""
    from fastflow_utils.data import sample_set

    names = sample_set.CATEGORIES if categories is None else _names(categories)
    sample_set.make(
        root,
        names,
        size=size,
        train=train,
        good=good,
        per_defect=per_defect,
        like_mvtec=like_mvtec,
        severity=severity,
        seed=seed,
        workers=workers,
    )
    typer.echo(f"sample set in {root}: {', '.join(names)}")


@data_app.command()
def check(
    root: Annotated[Path, typer.Argument(help="A folder in any known layout, or a table.")],
) -> None:
    """Count images and masks, beside MVTec AD's official counts; name what is wrong."""
    _check(root)


@data_app.command("import")
def import_(
    archive: Annotated[Path, typer.Argument(help="MVTec AD's .tar.xz, or a .zip.")],
    root: Annotated[Path, typer.Argument(help="Where the categories go.")],
) -> None:
    """Unpack an official archive safely, and check it."""
    from fastflow_utils.data import archives

    archives.import_archive(archive, root)
    _check(root)


def _check(root: Path) -> None:
    from fastflow_utils.data import layout

    table = layout.check(root)
    typer.echo(_table(table.drop(columns="notes").reset_index().to_dict("records")))
    for category, note in table["notes"].items():
        if note:
            typer.echo(f"note: {category}: {note}")
    if table["problems"].astype(bool).any():
        raise FastFlowError(
            f"problems in {root}: correct what the last column names, then check again"
        )


def _table(rows: Sequence[Mapping[Any, object]]) -> str:
    """Return rows of the same keys as lines of a text, everything under its key."""

    def text(value: object) -> str:
        if value is None:
            return "-"
        return _number(value) if isinstance(value, float) else str(value)

    cells = [list(map(text, row.values())) for row in rows]
    columns = list(zip(rows[0], *cells, strict=True))
    widths = [max(map(len, column)) for column in columns]
    lines = zip(*columns, strict=True)
    return "\n".join(" ".join(map(str.rjust, line, widths)) for line in lines)


def _number(value: float) -> str:
    """Return a number as it is printed: a dash for one that is not there.

    Example:
        >>> _number(0.5), _number(math.nan)
        ('0.5000', '-')
    """
    return "-" if math.isnan(value) else f"{value:.4f}"


def main() -> None:
    """Run the command line; mistakes end in one line on stderr and exit code 2."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # no name is a reason to stop
            stream.reconfigure(errors="backslashreplace")
    try:
        code = app(standalone_mode=False)
    except (FastFlowError, OSError) as error:
        _fail(str(error))
    except typer.TyperException as error:  # a wrong option, a missing argument
        _fail(f"{error.format_message().rstrip('.')}; see fastflow --help")
    if code == 130:  # typer's word for Ctrl-C
        typer.echo("interrupted: what was finished is kept", err=True)
        sys.exit(1)
    sys.exit(code)


def _fail(message: str) -> NoReturn:
    typer.echo(f"error: {' '.join(message.split())}", err=True)
    sys.exit(2)
