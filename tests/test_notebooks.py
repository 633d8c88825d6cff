"""The notebooks are committed as they ran, without an error."""

import pathlib

import nbformat
import pytest

from notebooks import execute

NOTEBOOKS = sorted((pathlib.Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_notebook_is_committed_as_it_ran(path):
    cells = [cell for cell in nbformat.read(path, nbformat.NO_CONVERT).cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1)), "run python notebooks/execute.py"
    for cell in cells:
        assert execute.shown_error(cell) is None
        assert cell.outputs or not any(word in cell.source for word in ("print(", "display(", "%tensorboard")), (
            cell.source
        )
