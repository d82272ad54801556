"""papermill's way in: parameters by name, no cell changed."""

from pathlib import Path

import papermill
import pytest
import run


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
