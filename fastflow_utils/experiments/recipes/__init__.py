"""A recipe: every choice that decides a result, but for the data and the seed.

A recipe's values are read and checked without torch, which takes seconds to import: it is
imported where "auto" asks what this machine computes well with, and where something is built.
"""

import dataclasses
import difflib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, get_args

import yaml

from fastflow_utils.compute import Precision, resolve_precision
from fastflow_utils.data.sizes import Size, height_width, size_text
from fastflow_utils.detector.choices import BUNDLED, GRID, METHODS, Kernels, blur_reach
from fastflow_utils.errors import FastFlowError

if TYPE_CHECKING:
    import torch

    from fastflow_utils.detector.backbones import Backbone
    from fastflow_utils.detector.detector import Detector
    from fastflow_utils.detector.flows import FlowOptions
    from fastflow_utils.detector.model import FastFlow
    from fastflow_utils.detector.windows import Windows

__all__ = [
    "Recipe",
    "as_folder",
    "describe",
    "packaged",
    "recipe_for",
    "recipe_of",
    "recipes",
    "sizes",
]


@dataclass(frozen=True)
class Recipe:
    """Method, backbone, flow, map and training. The fields mean what they mean where they are
    used: ``Backbone``, ``FastFlow`` and ``fit``.

    ``method`` is one of ``METHODS``. All but "fastflow" have neither flow nor training, and
    compute in float32: whatever the fields of :data:`FLOW_ALONE` hold says nothing of them.

    The training budget is fixed before any image is seen. ``budget`` counts images, the tenth that
    is held out among them, once for each epoch: every category costs the same time and gets about
    the same number of gradient steps, whether it has 60 images or 391. ``epochs``, where given,
    overrides it.

    ``image_size`` is H = W, or (H, W). With ``window``, pictures of that size are cut into windows
    of so many pixels, which share ``overlap`` (:class:`~fastflow_utils.detector.windows.Windows`);
    ``budget`` then counts windows, and no flow knows positions.

    ``copies`` of each image, slightly turned, shifted, brighter or darker, are learnt from, too
    (:class:`~fastflow_utils.detector.features.CopiedPictures`); of windows there are none.

    ``upright`` may be "auto": then the run decides it by the normal images, before training
    (:func:`~fastflow_utils.data.pose.lies_anywhere`).

    ``precision`` may be given as "auto"; the recipe then keeps what that means here and now
    (:func:`~fastflow_utils.compute.resolve_precision`), so that a recipe that goes to another
    machine, or into a file, means the same there.

    Raises:
        FastFlowError: If a value has the wrong type or range.

    Example:
        >>> Recipe(backbone="resnet18", epochs=2).image_size
        256
    """

    method: str = "fastflow"
    backbone: str = BUNDLED
    layers: tuple[int, ...] | None = None
    image_size: Size = 256
    window: int | None = None
    overlap: int = 64
    copies: int = 0
    upright: bool | str = False
    steps: int = 8
    kernels: Kernels = "3-1"
    hidden_ratio: float = 1.0
    clamp: float = 2.0
    whiten: bool = True
    position: bool = False
    smoothing: float = 4.0
    top: float = 0.01
    budget: int = 900
    epochs: int | None = None
    batch_size: int = 2
    positions: int | None = None
    learning_rate: float = 3e-3
    weight_decay: float = 1e-5
    folds: int | None = None
    image_fpr: float = 0.1
    pixel_fpr: float = 0.001
    precision: Precision = "auto"  # type: ignore[assignment]  # resolved below

    def __post_init__(self) -> None:
        for name in ("layers", "image_size"):
            if isinstance(value := getattr(self, name), list):
                object.__setattr__(self, name, tuple(value))
        for name, (holds, expected) in self._requirements().items():
            if not holds:
                given = getattr(self, name)
                raise FastFlowError(f"{name}: {given!r} in the recipe: expected {expected}")
        precision = self.precision if self.method == "fastflow" else "float32"
        object.__setattr__(self, "precision", resolve_precision(precision))
        if self.method != "fastflow":  # one recipe, whatever is said of flows
            for name in set(FLOW_ALONE) - {"precision"}:
                object.__setattr__(self, name, type(self).__dataclass_fields__[name].default)
        if not isinstance(self.image_size, int) and len(set(self.image_size)) == 1:
            object.__setattr__(self, "image_size", self.image_size[0])
        if self.window is not None:  # it lies anywhere in its picture, and shows a part
            object.__setattr__(self, "position", False)
            object.__setattr__(self, "copies", 0)
        if self.upright == "auto" and (self.window or not isinstance(self.image_size, int)):
            object.__setattr__(self, "upright", False)

    # No library: attrs checks no ranges in one readable line, and pydantic, which has messages of
    # several, would be one more dependency for these lines.
    def _requirements(self) -> dict[str, tuple[bool, str]]:
        """Return for each field whether its value fits, and what does."""
        found = {
            "method": (self.method in list(METHODS), f"one of {', '.join(METHODS)}"),
            "backbone": (isinstance(self.backbone, str) and bool(self.backbone), "a name"),
            "layers": (
                self.layers is None
                or (isinstance(self.layers, tuple) and all(_is_whole(i, 0) for i in self.layers)),
                "a list of indices",
            ),
            "kernels": (self.kernels in get_args(Kernels), f"one of {get_args(Kernels)}"),
            "whiten": (isinstance(self.whiten, bool), "true or false"),
            "position": (isinstance(self.position, bool), "true or false"),
            "positions": (self.positions is None or _is_whole(self.positions, 1), "an int >= 1"),
            "folds": (self.folds is None or _is_whole(self.folds, 2, 100), "an int from 2 to 100"),
            "epochs": (self.epochs is None or _is_whole(self.epochs, 1), "an int >= 1"),
            "upright": (
                isinstance(self.upright, bool) or self.upright == "auto",
                "true, false or auto",
            ),
            "image_size": (
                _is_size(self.image_size),
                "an int from 32 to 16384, or height and width in brackets, such as [192, 256]",
            ),
            "steps": (_is_whole(self.steps, 1, 256), "an int from 1 to 256"),
            "budget": (_is_whole(self.budget, 1), "an int >= 1"),
            "batch_size": (_is_whole(self.batch_size, 1), "an int >= 1"),
            "hidden_ratio": (0 < _number(self.hidden_ratio) <= 16, "a number > 0, at most 16"),
            # A coupling multiplies by up to exp(clamp), and float32 ends at exp(88).
            "clamp": (0 < _number(self.clamp) <= 10, "a number > 0, at most 10"),
            "top": (0 < _number(self.top) <= 1, "a number > 0, at most 1"),
            "learning_rate": (0 < _number(self.learning_rate) <= 1, "a number > 0, at most 1"),
            "weight_decay": (0 <= _number(self.weight_decay) <= 1, "a number from 0 to 1"),
            "overlap": (_is_whole(self.overlap, 0, 16384), "an int, at least 0"),
            "copies": (_is_whole(self.copies, 0, 100), "an int from 0 to 100"),
            "image_fpr": (0 < _number(self.image_fpr) < 1, "a number between 0 and 1"),
            "pixel_fpr": (0 < _number(self.pixel_fpr) < 1, "a number between 0 and 1"),
        }
        if found["image_size"][0]:
            height, width = height_width(self.image_size)
            side = min(height, width)
            is_small = 0 <= _number(self.smoothing) < side
            found["smoothing"] = (
                is_small and blur_reach(self.smoothing) < side,
                f"a number from 0 to {(side - 1) // 3}, a third of the image",
            )
            if self.upright is True and (self.window or height != width):
                found["upright"] = (False, "false or auto: windows and oblongs cannot be turned")
            if self.window is not None:
                found |= self._window_requirements(height, width)
        return found

    def _window_requirements(self, height: int, width: int) -> dict[str, tuple[bool, str]]:
        sides = [height, width, self.window]
        fits = all(_is_whole(n, GRID) and cast(int, n) % GRID == 0 for n in sides)
        window, side = cast(int, self.window), min(height, width)
        return {
            "window": (
                fits and window <= side,
                f"a multiple of 32, at most {side}, in images whose sides are multiples of 32; "
                f"these are of {size_text((height, width))} px",
            ),
            "overlap": (
                not fits or _is_whole(self.overlap, 0, window - GRID),
                f"an int from 0 to the window less {GRID}, {self.window} - {GRID}",
            ),
            "method": (
                self.method in set(METHODS) - {"padim"},
                f"one of {', '.join(METHODS)}, and with windows not padim, which knows places",
            ),
        }

    def changed(self, **values: Any) -> "Recipe":
        """Return a copy with other values.

        Raises:
            FastFlowError: If there is no such field.
        """
        return dataclasses.replace(self, **_known(values))

    @property
    def short_name(self) -> str:
        """The backbone, after the method where that is another than FastFlow.

        Example:
            >>> Recipe(method="padim", backbone="resnet18").short_name
            'padim, resnet18'
        """
        methods = [] if self.method == "fastflow" else [self.method]
        return ", ".join([*methods, self.backbone])

    def build_backbone(
        self, weights: Path | str | None = None, *, pretrained: bool = True
    ) -> "Backbone":
        """Return the frozen backbone, with local weights if given, random if not pretrained."""
        from fastflow_utils.detector.backbones import Backbone

        return Backbone(
            self.backbone,
            layers=self.layers,
            weights=weights,
            pretrained=pretrained,
            image_size=self.window or self.image_size,
            upright=self.upright is True,  # "auto" is for a run, which has images to look at
        )

    @property
    def flow(self) -> "FlowOptions":
        """What each level's flow is made of."""
        from fastflow_utils.detector.flows import FlowOptions

        names = ("steps", "kernels", "hidden_ratio", "clamp", "whiten", "position")
        return FlowOptions(**{name: getattr(self, name) for name in names})

    @property
    def windows(self) -> "Windows | None":
        """How pictures are cut, if they are."""
        from fastflow_utils.detector.windows import Windows

        if self.window is None:
            return None
        return Windows(self.image_size, self.window, self.overlap)

    def build_model(self, backbone: "Backbone", seed: int = 0) -> "Detector":
        """Return the method's model on top of ``backbone``, which has learnt nothing yet."""
        if self.method == "fastflow":
            return self.build_fastflow(backbone, seed)
        from fastflow_utils.detector.detector import Detector, method_class

        model: Detector = method_class(self.method)(
            backbone, smoothing=self.smoothing, top=self.top
        )
        return model.read_as(windows=self.windows)

    def build_fastflow(self, backbone: "Backbone", seed: int = 0) -> "FastFlow":
        """Return the untrained flows on top of ``backbone``, whatever the method."""
        from fastflow_utils.detector.model import FastFlow

        return FastFlow(
            backbone,
            self.flow,
            smoothing=self.smoothing,
            top=self.top,
            precision=self.precision,
            seed=seed,
        ).read_as(windows=self.windows)

    def epochs_for(self, images: int) -> int:
        """Return how many epochs a training set of so many images gets: none, without a flow.

        Example:
            >>> Recipe(budget=900).epochs_for(60), Recipe(epochs=2).epochs_for(60)
            (15, 2)
        """
        if self.method != "fastflow":
            return 0
        return self.epochs or math.ceil(self.budget / images)

    def training(self, images: int) -> dict[str, Any]:
        """Return the arguments of the model's ``fit`` for so many images, but for the seed."""
        rates = {name: getattr(self, name) for name in ("image_fpr", "pixel_fpr", "folds")}
        if self.method != "fastflow":
            return rates
        steps = ("batch_size", "positions", "learning_rate", "weight_decay")
        names = {name: getattr(self, name) for name in steps}
        return {"epochs": self.epochs_for(images), **names, **rates}

    def save(self, path: Path | str) -> None:
        """Write the recipe as YAML, which ``--config`` reads."""
        values = dataclasses.asdict(self)
        for name, value in values.items():
            values[name] = list(value) if isinstance(value, tuple) else value
        Path(path).write_text(yaml.safe_dump(values, sort_keys=False))


FLOW_ALONE = (
    *("steps", "kernels", "hidden_ratio", "clamp", "whiten", "position", "precision"),
    *("budget", "epochs", "batch_size", "positions", "learning_rate", "weight_decay"),
)
"""The fields that say something of FastFlow only."""


def recipe_of(values: Mapping[str, Any]) -> Recipe:
    """Return the recipe that ``asdict`` made the values of, by way of JSON.

    Raises:
        FastFlowError: If a field is missing, unknown or does not fit.
    """
    # Before there were these fields, a step took all positions, no flow knew them, no image was
    # turned, and FastFlow was the only method.
    before = {"method": "fastflow", "positions": None, "position": False, "upright": False}
    values = before | {"folds": None, "window": None, "overlap": 64, "copies": 0} | dict(values)
    if missing := set(_DEFAULTS) - set(values):
        raise FastFlowError(f"its recipe lacks {', '.join(sorted(missing))}")
    return Recipe(**_known(values))


_DEFAULTS = {field.name: field.default for field in dataclasses.fields(Recipe)}


def _known(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the values, if each of them is a recipe's."""
    for key in values:
        if key not in _DEFAULTS:
            near = difflib.get_close_matches(key, _DEFAULTS, n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"expected {', '.join(_DEFAULTS)}"
            raise FastFlowError(f"a recipe has no '{key}': {hint}")
    return values


@cache
def describe(recipe: Recipe) -> str:
    """Return a recipe's name: the package's, and the fields that differ from it.

    Precision is left out: the package's recipes leave it to the machine. Tables name it beside.
    A method other than FastFlow is named first, and what is a flow's alone left out.

    Example:
        >>> describe(recipe_for("resnet18", epochs=1))
        'resnet18, epochs 1'
        >>> describe(recipe_for("resnet18", method="padim", top=0.1, epochs=1))
        'padim, resnet18, top 0.1'
    """
    names = {values["backbone"]: name for name, values in packaged().items()}
    start = _packaged(recipe.backbone)
    is_flow = recipe.method == "fastflow"
    unsaid = {"method", "precision"} if is_flow else {"method", *FLOW_ALONE}
    changes = [
        f"{field} {value}"
        for field, value in dataclasses.asdict(recipe).items()
        if value != start[field] and field not in unsaid
    ]
    method = [] if is_flow else [recipe.method]
    return ", ".join([*method, names.get(recipe.backbone, recipe.backbone), *changes])


def as_folder(backbone: str) -> str:
    """Return a backbone's name as that of a folder: timm's may hold ``:`` and ``/``.

    Example:
        >>> as_folder("hf-hub:timm/resnet18.a1_in1k")
        'hf-hub_timm_resnet18.a1_in1k'
    """
    return re.sub(r"[^\w.-]", "_", backbone)


def _is_whole(value: object, least: int, most: int = 10**9) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _is_size(value: object) -> bool:
    sides = value if isinstance(value, tuple) and len(value) == 2 else (value,)
    return all(_is_whole(side, 32, 16384) for side in sides)


def _number(value: object) -> float:
    """Return the number that a field holds; NaN, which is in no range, for anything else."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return cast(float, value) if is_number else math.nan


def _read(text: str, source: str) -> dict[str, Any]:
    try:
        values = yaml.safe_load(text) or {}
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # a number of 5,000 digits, say
        detail = " ".join(str(error).split())
        raise FastFlowError(f"{source} is not YAML: {detail}") from error
    if not isinstance(values, dict):
        raise FastFlowError(f"{source}: expected lines like 'epochs: 4', found {values!r:.60}")
    if odd := [key for key in values if not isinstance(key, str)]:
        raise FastFlowError(f"{source}: {odd[0]!r} names no field of a recipe")
    return cast(dict[str, Any], values)


def recipes() -> dict[str, Recipe]:
    """Return the recipes that come with the package, by name.

    Example:
        >>> recipes()["deit_base_distilled_384"].backbone
        'deit_base_distilled_patch16_384'
    """
    return {name: Recipe(**values) for name, values in packaged().items()}


def packaged() -> dict[str, dict[str, Any]]:
    """Return the values of these recipes as they are written, so precision as "auto".

    Example:
        >>> packaged()["resnet18"]["precision"]
        'auto'
    """
    found: dict[str, dict[str, Any]] = {}
    folder = resources.files(__name__)
    for file in sorted(folder.iterdir(), key=lambda file: file.name):
        if file.name.endswith(".yaml"):
            values = {**_DEFAULTS, **_known(_read(file.read_text(), file.name))}
            if isinstance(values["layers"], list):
                values["layers"] = tuple(values["layers"])
            found[file.name.removesuffix(".yaml")] = values
    return found


def sizes() -> dict[str, dict[str, Any]]:
    """Return what becomes of each of these recipes when it is built, by name.

    They are written down in ``experiments/sizes.yaml``, because building takes torch and seconds;
    a test compares them with what is built.

    Returns:
        Of each its ``layers``, whether they are blocks of a transformer (``tokens``), and the
        numbers of parameters of ``backbone`` and ``flow``.

    Example:
        >>> sizes()["resnet18"]["layers"]
        [1, 2, 3]
    """
    text = resources.files("fastflow_utils.experiments").joinpath("sizes.yaml").read_text()
    return _read(text, "sizes.yaml")


def _packaged(name: str) -> dict[str, Any]:
    """Find a recipe by its own name or its backbone's, whose tag may name other weights."""
    for own_name, values in packaged().items():
        if name == own_name:
            return values
        if str(name).partition(".")[0] == values["backbone"]:
            return values | {"backbone": name}
    return _DEFAULTS | {"backbone": name}


def recipe_for(
    backbone: str | None = None,
    config: Path | str | None = None,
    *,
    device: "torch.device | str | None" = None,
    **values: Any,
) -> Recipe:
    """Return the recipe for a backbone: the package's, then the file's values, then ``values``.

    Args:
        backbone: The name of a packaged recipe or of any timm model, which may name its weights
            (``"resnet18.tv_in1k"``). Default: the file's, else ``"efficientnet_lite0"``.
        config: A YAML file of recipe fields; those it leaves out come from the backbone's recipe.
        device: Where to compute, which decides what precision "auto" means. Default: as
            :func:`~fastflow_utils.compute.select_device`'s "auto".
        **values: Single fields; None leaves a field as it is.

    Raises:
        FastFlowError: If the file is missing or not YAML, or a field does not exist or fit.

    Example:
        >>> recipe_for("resnet18", epochs=1).epochs
        1
    """
    given: dict[str, Any] = {}
    if config is not None:
        path = Path(config)
        if not path.is_file():
            raise FastFlowError(f"no recipe at '{path}': expected a YAML file with recipe fields")
        try:
            given = _read(path.read_text(encoding="utf-8"), str(path))
        except UnicodeDecodeError as error:
            raise FastFlowError(f"{path} is not UTF-8: expected a YAML file") from error
    start = _packaged(backbone or given.get("backbone", BUNDLED))
    options = {key: value for key, value in values.items() if value is not None}
    wanted = {**start, **_known(given), **_known(options), "backbone": start["backbone"]}
    # A mistake in a value is told before torch is asked what "auto" means here.
    asked, checked = wanted["precision"], Recipe(**wanted | {"precision": "float32"})
    return checked.changed(precision=resolve_precision(asked, device))
