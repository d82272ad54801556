"""Many runs: every category, recipe and seed once, resumable, on one machine or on many.

What a run starts from makes its **key**, which is part of its folder's name::

    RUNS/<backbone>/<category>/seed<k>-<key>/
        run.json         what it started from, and how it ended
        metrics.json     written last: it is there, or the run is to be done

Runs of another method than FastFlow are in ``<backbone>/<category>/<method>/seed<k>-<key>/``.

A run that is there is never repeated. Everything else is: what was killed, and what failed, for
its cause may be gone by now. Several processes, on several machines if they share the folder,
may work on the same RUNS: a lock in each folder sees to it that a run is one process's at a time,
and the system frees the lock of a process that dies.
"""

import contextlib
import hashlib
import json
import shutil
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from fastflow_utils.compute import check_seed, select_device
from fastflow_utils.data.images import sha256
from fastflow_utils.data.layout import categories, data_name, digest
from fastflow_utils.errors import FastFlowError
from fastflow_utils.experiments.engines import Engine, Lost, local
from fastflow_utils.experiments.recipes import Recipe, as_folder
from fastflow_utils.experiments.records import finished, write_json
from fastflow_utils.experiments.tables import DASH, TABLES
from fastflow_utils.provenance import result_digest, versions

if TYPE_CHECKING:
    from fastflow_utils.detector.backbones import Backbone

__all__ = ["Job", "Outcome", "perform", "plan", "reproduce"]


# What is to be done -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Job:
    """One run to be: a recipe, a category, a seed, and the bytes they work on.

    Example:
        >>> job = Job(Recipe(), Path("data"), "tile", 0, "aa")
        >>> job.place == Path("efficientnet_lite0", "tile", f"seed0-{job.key}")
        True
        >>> job.key == Job(Recipe(), Path("elsewhere"), "tile", 0, "aa").key  # the same bytes
        True
        >>> job.key == Job(Recipe(steps=4), Path("data"), "tile", 0, "aa").key
        False
    """

    recipe: Recipe
    root: Path
    category: str
    seed: int
    data_sha256: str
    weights: Path | None = None
    weights_sha256: str | None = None
    versions: dict[str, str] = field(default_factory=versions, hash=False)
    code_sha256: str = field(default_factory=result_digest)

    @property
    def facts(self) -> dict[str, Any]:
        """All that decides the metrics, but for rounding: device and threads are not in it.

        They change the order in which numbers are added, as the kind of processor does, and so
        the metrics as another seed would, or less. ``run.json`` keeps them beside the facts.
        Precision is the recipe's. Weights that timm downloads are told by their name and timm's
        version.
        """
        return {
            "category": self.category,
            "seed": self.seed,
            "recipe": asdict(self.recipe),
            "data_sha256": self.data_sha256,
            "weights_sha256": self.weights_sha256,
            "versions": self.versions,
            "code_sha256": self.code_sha256,
        }

    @cached_property
    def key(self) -> str:
        """Twelve hex digits of the facts' sha256."""
        text = json.dumps(self.facts, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def folder(self) -> Path:
        """Where all methods and seeds are, relative to RUNS: ``<backbone>/<category>``.

        They have the same features.
        """
        return Path(as_folder(self.recipe.backbone), self.category)

    @property
    def place(self) -> Path:
        """The run's own folder, relative to RUNS."""
        method = "" if self.recipe.method == "fastflow" else self.recipe.method
        return self.folder / method / f"seed{self.seed}-{self.key}"

    def __str__(self) -> str:
        return f"{self.category}, {self.recipe.short_name}, seed {self.seed}"


@dataclass(frozen=True)
class Outcome:
    """How a job ended: its metrics, or what went wrong; neither while it has not."""

    job: Job
    metrics: dict[str, Any] | None = None
    error: str | None = None

    @property
    def is_open(self) -> bool:
        """True while there is neither: not begun, or another process's."""
        return self.metrics is None and self.error is None


def plan(
    root: Path | str,
    recipes: Sequence[Recipe],
    *,
    names: Sequence[str] | None = None,
    seeds: Sequence[int] = (0,),
    weights: Mapping[str, Path] | None = None,
) -> list[Job]:
    """Return the jobs of all recipes, categories and seeds.

    Those of a backbone are in a row, and of these those of a category, which share features.

    Args:
        root: Holds the categories; every byte of those wanted is read, for the keys.
        recipes: One for each backbone and method.
        names: The categories. Default: all there are.
        seeds: One run for each.
        weights: Local state dicts, by the recipes' ``backbone``.

    Raises:
        FastFlowError: If a category or a file of weights does not exist, a seed is none, nothing
            is asked for, or something is asked for twice.
    """
    root = Path(root).expanduser().absolute()  # for workers that were started elsewhere
    weights = {name: file.expanduser().absolute() for name, file in (weights or {}).items()}
    names = check_plan(root, recipes, names=names, seeds=seeds, weights=weights)
    data = {name: digest(root, name) for name in names}
    own = {backbone: sha256(file) for backbone, file in weights.items()}
    return [
        Job(
            recipe,
            root,
            name,
            seed,
            data[name],
            weights.get(recipe.backbone),
            own.get(recipe.backbone),
        )
        for backbone in dict.fromkeys(recipe.backbone for recipe in recipes)
        for name in names
        for recipe in recipes
        if recipe.backbone == backbone
        for seed in seeds
    ]


def check_plan(
    root: Path,
    recipes: Sequence[Recipe],
    *,
    names: Sequence[str] | None,
    seeds: Sequence[int],
    weights: Mapping[str, Path],
) -> Sequence[str]:
    """Refuse what :func:`plan` refuses, before a byte is read; return the categories."""
    found = categories(root)
    names = found if names is None else names
    wanted = {
        "categories": names,
        "methods and backbones": [f"{recipe.method} {recipe.backbone}" for recipe in recipes],
        "seeds": seeds,
    }
    for what, values in wanted.items():
        if not values or len(set(values)) < len(values):
            listed = ", ".join(map(str, values)) or "none"
            raise FastFlowError(f"{what}: {listed}: expected one or more, each once")
    for seed in seeds:
        check_seed(seed)
    for name in names:
        if name not in found:
            listed = ", ".join(found) or "none"
            raise FastFlowError(f"no category '{name}' in {root}: expected some of: {listed}")
    for backbone, file in weights.items():
        if backbone not in {recipe.backbone for recipe in recipes}:
            raise FastFlowError(f"weights for '{backbone}', which is not among the backbones")
        if not file.is_file():
            raise FastFlowError(f"no weights at '{file}': expected a state dict for {backbone}")
    return names


# One job ----------------------------------------------------------------------------------------

FEATURES = ".features"


def perform(
    job: Job,
    *,
    output: Path,
    wait: bool = False,
    device: str = "auto",
    threads: int | None = None,
) -> Outcome:
    """Do one run in its folder below ``output``, unless it is there; never raise what went wrong.

    Args:
        job: From :func:`plan`.
        output: The folder RUNS. Features are kept in it while a category is worked on.
        wait: For another process that works on it, instead of leaving it open.
        device: As for :func:`~fastflow_utils.compute.select_device`.
        threads: Of torch. Default: as many as it has now.
    """
    import torch  # here, as below: who plans need not wait for it

    place = output / job.place
    usual = torch.get_num_threads()
    try:
        place.mkdir(parents=True, exist_ok=True)
        with FileLock(place / "lock", blocking=wait):
            torch.set_num_threads(threads or usual)
            if finished(place) is None:
                _run_locked(job, output, device)
            return Outcome(job, finished(place))
    except Timeout:
        return Outcome(job)
    except Exception as error:  # whatever it is, the other runs go on
        return Outcome(job, error=_one_line(error))
    finally:
        torch.set_num_threads(usual)


def _run_locked(job: Job, output: Path, device: str) -> None:
    """Do one run, its folder being locked, and write down how it ends."""
    from fastflow_utils.experiments.run import run

    # Else the key would tell of other software than was used. Precision is the job's, whatever
    # this machine would choose.
    here = versions() | {"code": result_digest()[:12]}
    planned = job.versions | {"code": job.code_sha256[:12]}
    if here != planned:
        raise FastFlowError(
            f"this machine has {here}: expected {planned}, as planned; install the same software"
        )
    _write_down(job, output, "started")
    try:
        if digest(job.root, job.category) != job.data_sha256:
            raise FastFlowError(f"the images of {job.category} have changed since the plan")
        run(
            job.recipe,
            job.root,
            job.category,
            output / job.place,
            seed=job.seed,
            weights=job.weights,
            device=select_device(device),
            cache=output / FEATURES / job.folder,
            # For a backbone, all methods are one.
            backbone=_backbone(
                job.recipe.changed(method="fastflow", precision="float32"),
                job.weights,
                job.weights_sha256,
            ),
        )
    except Exception as error:
        if not isinstance(error, FastFlowError):
            traceback.print_exc()
        _write_down(job, output, "failed", _one_line(error))
        raise
    _write_down(job, output, "finished")


@lru_cache(maxsize=1)
def _backbone(recipe: Recipe, weights: Path | None, weights_sha256: str | None) -> "Backbone":
    """Build it once for all runs in a row that have the same: it is frozen."""
    return recipe.build_backbone(weights)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _write_down(job: Job, output: Path, status: str, error: str | None = None) -> None:
    import torch

    about = job.facts | {
        "key": job.key,
        "root": str(job.root),
        "data": data_name(job.root, job.category),
        "weights": job.weights and str(job.weights),
        "threads": torch.get_num_threads(),
        "status": status,
        "error": error,
    }
    with contextlib.suppress(OSError):  # a full disk may be the very cause
        (output / job.place).mkdir(parents=True, exist_ok=True)
        write_json(output / job.place / "run.json", about)


# All jobs ---------------------------------------------------------------------------------------


def reproduce(
    jobs: Sequence[Job],
    output: Path | str,
    *,
    engine: Engine | None = None,
    device: str = "auto",
    threads: int | None = None,
    tell: Callable[[str], None] = print,
) -> list[Outcome]:
    """Do every job that is not done yet; return all outcomes, in the order of the jobs.

    Args:
        jobs: From :func:`plan`.
        output: The folder RUNS; made if it is missing.
        engine: From :mod:`fastflow_utils.experiments.engines`. Default: one run after the other.
        device: Where each run computes.
        threads: Of each run. Default: torch's own number.
        tell: Is given a line for each run that ends, with the time left.

    Raises:
        KeyboardInterrupt: After Ctrl-C; what was finished is kept.
    """
    output = Path(output).expanduser().absolute()
    output.mkdir(parents=True, exist_ok=True)
    task = partial(perform, output=output, device=device, threads=threads)
    engine = engine or local()
    outcomes = {job: Outcome(job, finished(output / job.place)) for job in jobs}
    total = sum(outcome.is_open for outcome in outcomes.values())
    tell(f"{len(jobs)} runs: {len(jobs) - total} are there, {total} to do")
    start, number = time.perf_counter(), 0
    for wait in (False, True):  # what another process works on comes last
        todo = [job for job, outcome in outcomes.items() if outcome.is_open]
        for job, result in engine(partial(task, wait=wait), todo):
            outcome = Outcome(job, error=result.reason) if isinstance(result, Lost) else result
            if outcome.is_open:
                continue
            outcomes[job] = outcome
            if isinstance(result, Lost):
                _write_down(job, output, "failed", result.reason)
            number += 1
            minutes = (time.perf_counter() - start) / number * (total - number) / 60
            tell(f"[{number}/{total}] {_summary(outcome)}; {minutes:.1f} min left")
            _remove_used_features(outcomes, output)
    _remove_used_features(outcomes, output)
    return list(outcomes.values())


def _summary(outcome: Outcome) -> str:
    if outcome.metrics is None:
        return f"{outcome.job}: failed: {outcome.error}"
    values = {name: outcome.metrics[key] for key, name in TABLES.items()}
    shown = [
        f"{name} {DASH if value is None else f'{value:.3f}'}" for name, value in values.items()
    ]
    return f"{outcome.job}: {', '.join(shown)}"


def _remove_used_features(outcomes: Mapping[Job, Outcome], output: Path) -> None:
    """Remove the features of each category that no process works on and no job waits for."""
    waiting = {job.folder for job, outcome in outcomes.items() if outcome.is_open}
    for folder in {job.folder for job in outcomes} - waiting:
        features = output / FEATURES / folder
        if all(map(_is_free, (output / folder).rglob("seed*/lock"))):
            shutil.rmtree(features, ignore_errors=True)
            with contextlib.suppress(OSError):  # not empty
                features.parent.rmdir()
                features.parent.parent.rmdir()


def _is_free(lock: Path) -> bool:
    try:
        with FileLock(lock, timeout=0):
            return True
    except Timeout:
        return False
