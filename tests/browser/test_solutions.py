"""The solutions, executed anew: every checker still says that they are right."""

from pathlib import Path

import pytest
import run

from fastflow_utils.course.exercises import chapter

SOLUTIONS = sorted((run.NOTEBOOKS / "solutions").glob("[0-9]*.ipynb"))


@pytest.mark.parametrize("path", SOLUTIONS, ids=lambda path: path.stem)
def test_solutions_are_right(path: Path):
    executed = run.execute(path)
    assert executed.failure is None
    cells = run._code_cells(executed.notebook, "solution")
    said = [output["data"]["text/plain"] for cell in cells for output in cell.outputs]
    assert said == [f"Exercise {name}: right." for name in chapter(int(path.name[:2]))]
