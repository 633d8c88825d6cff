"""The notebooks as they are committed, and the badge that opens one in Colab."""

import pathlib

import nbformat
import pytest

from notebooks import execute

ROOT = pathlib.Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def test_a_project_on_github_gives_each_notebook_a_badge_and_none_takes_it_away():
    urls = "[project]\nname = 'aigan_tf'\n[project.urls]\n"
    for line in (
        "Repository = 'https://github.com/owner/name'",
        "repository = 'https://github.com/owner/name.git'",
        "Homepage = 'https://github.com/owner/name/'",
        "Homepage = 'https://example.org'\nRepository = 'https://github.com/owner/name'",
    ):
        assert execute.repository(urls + line) == "owner/name", line
    for line in ("", "Homepage = 'https://example.org'", "Homepage = 'https://github.com/owner'"):
        assert execute.repository(urls + line) is None, line

    notebook = nbformat.read(ROOT / "notebooks" / "aigan_colab.ipynb", nbformat.NO_CONVERT)
    cells = list(notebook.cells)
    for project in ("owner/old", "owner/name"):
        execute.set_badge(notebook, "aigan_colab.ipynb", project)
    nbformat.validate(notebook)
    badge, clone = notebook.cells[:2]
    assert "(https://colab.research.google.com/github/owner/name/blob/main/notebooks/aigan_colab.ipynb)" in badge.source
    assert "git clone -q https://github.com/owner/name\n" in clone.source  # a notebook that Colab opens is alone
    assert notebook.cells[2:] == cells
    execute.set_badge(notebook, "aigan_colab.ipynb", None)
    assert notebook.cells == cells


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_the_badge_of_a_notebook_is_that_of_pyproject(path):
    notebook = nbformat.read(path, nbformat.NO_CONVERT)
    cells = list(notebook.cells)
    execute.set_badge(notebook, path.name, execute.repository((ROOT / "pyproject.toml").read_text()))
    assert [cell.source for cell in notebook.cells] == [cell.source for cell in cells], (
        "run python notebooks/execute.py --badges"
    )


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_is_committed_as_it_ran(path):
    cells = [cell for cell in nbformat.read(path, nbformat.NO_CONVERT).cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1)), "run python notebooks/execute.py"
    for cell in cells:
        assert execute.shown_error(cell) is None
        assert cell.outputs or not any(word in cell.source for word in ("print(", "display(", "%tensorboard")), (
            cell.source
        )


def test_an_error_that_a_cell_shows_is_seen():
    text = nbformat.v4.new_output("display_data", {"text/plain": "ERROR: Could not find 'tensorboard'."})
    shown = [[text], [nbformat.v4.new_output("error")], [nbformat.v4.new_output("stream", text="error rate 3%\n")]]
    found = [execute.shown_error(nbformat.v4.new_code_cell("", outputs=outputs)) for outputs in shown]
    assert found == ["ERROR: Could not find 'tensorboard'.", "", None]
