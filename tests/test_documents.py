"""What the documents promise: links lead somewhere, and the commands and names they show exist."""

import importlib
import pathlib
import re
import subprocess
import sys

import nbformat
import pytest

from notebooks import execute

ROOT = pathlib.Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_to_a_file_leads_to_one(path):
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", path.read_text()):
        assert target.startswith("https://") or (path.parent / target).exists(), target


def flags_of(script):
    """The names that `--help` lists."""
    run = subprocess.run([sys.executable, script, "--help"], capture_output=True, text=True, cwd=ROOT)
    return {name.removeprefix("[no]") for name in re.findall(r"^  --(\S+):", run.stdout, re.MULTILINE)}


@pytest.mark.parametrize("script", ["train.py", "evaluate.py"])
def test_every_flag_of_a_shown_command_exists(script):
    known = flags_of(script) | {"help"}
    assert "workdir" in known
    shown = []
    for path in DOCUMENTS:
        text = path.read_text().replace("\\\n", " ")
        shown += re.findall(rf"^python {re.escape(script)}[^\n#|]*", text, re.MULTILINE)
        shown += re.findall(rf"`python {re.escape(script)}[^`|]*`", text)  # in a sentence it may go on in the next line
    assert len(shown) > 3
    for command in shown:
        for name in re.findall(r"--(\w+)", command):
            assert name in known or name.removeprefix("no") in known, command


def test_every_function_the_method_names_exists():
    found = re.findall(r"`(\w+)\.(\w+(?:\.\w+)?)`", (ROOT / "docs" / "method.md").read_text())
    assert len(found) > 10
    for module, name in found:
        value = importlib.import_module(f"aigan_tf.{module}")
        for part in name.split("."):
            value = getattr(value, part)


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
