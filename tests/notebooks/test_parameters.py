"""papermill's way in: parameters by name, no cell changed."""

from pathlib import Path
from typing import Any

import nbformat
import papermill
import pytest
import run

from fastflow_utils.data.mvtec import data_root
from fastflow_utils.experiments.recipes import recipe_for
from fastflow_utils.experiments.reproduce import plan, reproduce

LONG = 10**6  # seconds: papermill would not wait for a busy machine


def execute(
    folder: Path, name: str, last: str, parameters: dict[str, str]
) -> nbformat.NotebookNode:
    """Execute a notebook by papermill, up to the cell that holds the text ``last``.

    The cells after it take a minute, and need no parameter that those before it did not need.
    """
    notebook: Any = nbformat.read(run.NOTEBOOKS / name, as_version=4)
    (number,) = [i for i, cell in enumerate(notebook.cells) if last in cell.source]
    notebook.cells = notebook.cells[: number + 1]
    nbformat.write(notebook, folder / name)
    return papermill.execute_notebook(
        folder / name,
        folder / "executed.ipynb",
        parameters=parameters,
        cwd=run.NOTEBOOKS,
        kernel_name="python3",
        progress_bar=False,
        start_timeout=LONG,
        iopub_timeout=LONG,
    )


@pytest.fixture(autouse=True)
def default_data(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATA", "RUNS"):
        monkeypatch.delenv(f"FASTFLOW_{name}", raising=False)


def test_papermill_sets_the_category(tmp_path: Path):
    executed = execute(
        tmp_path, "01_mvtec_ad.ipynb", "counts = pd.DataFrame", {"category": "carpet"}
    )
    text = "".join(str(cell.get("outputs")) for cell in executed.cells)
    assert "hole" in text and "scratch" not in text  # defects of carpet, not of metal_nut


def test_papermills_runs_are_those_of_the_command(tmp_path: Path):
    """Notebook 07 leaves what `fastflow reproduce` finds of its recipe, and does not repeat."""
    parameters = {"category": "tile", "epochs": "1", "folder": str(tmp_path / "runs")}
    execute(tmp_path, "07_reproduce.ipynb", "outcomes = reproduce(", parameters)
    lines: list[str] = []
    rehearsal = recipe_for(epochs=1, image_size=128, smoothing=2.0)
    jobs = plan(data_root(), [rehearsal], names=["tile"])
    (outcome,) = reproduce(jobs, tmp_path / "runs", tell=lines.append)
    assert lines == ["1 runs: 1 are there, 0 to do"] and outcome.metrics["epochs"] == 1
