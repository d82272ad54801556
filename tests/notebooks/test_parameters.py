"""papermill's way in: parameters by name, no cell changed."""

from pathlib import Path

import papermill
import pytest
import run

from fastflow_utils.data.mvtec import data_root
from fastflow_utils.experiments.recipes import recipe_for
from fastflow_utils.experiments.reproduce import plan, reproduce


def test_papermill_sets_the_category(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("FASTFLOW_DATA", raising=False)
    executed = papermill.execute_notebook(
        run.NOTEBOOKS / "01_mvtec_ad.ipynb",
        tmp_path / "carpet.ipynb",
        parameters={"category": "carpet"},
        cwd=run.NOTEBOOKS,
        kernel_name="python3",
        progress_bar=False,
        execution_timeout=120,
    )
    text = "".join(str(cell.get("outputs")) for cell in executed.cells)
    assert "hole" in text and "broken_large" not in text  # defects of carpet, not of bottle


def test_papermills_runs_are_those_of_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Notebook 07 leaves what `fastflow reproduce` finds, and does not repeat."""
    for name in ("DATA", "RUNS"):
        monkeypatch.delenv(f"FASTFLOW_{name}", raising=False)
    papermill.execute_notebook(
        run.NOTEBOOKS / "07_reproduce.ipynb",
        tmp_path / "tile.ipynb",
        parameters={"category": "tile", "epochs": "1", "folder": str(tmp_path / "runs")},
        cwd=run.NOTEBOOKS,
        kernel_name="python3",
        progress_bar=False,
        execution_timeout=240,
    )
    lines: list[str] = []
    jobs = plan(data_root(), [recipe_for(epochs=1)], names=["tile"])
    (outcome,) = reproduce(jobs, tmp_path / "runs", tell=lines.append)
    assert lines == ["1 runs: 1 are there, 0 to do"] and outcome.metrics["epochs"] == 1
