"""Runs the notebooks from a clean kernel, in the checkout's folder, and writes their outputs into them.

python notebooks/execute.py                # before a commit
python notebooks/execute.py advgan_colab   # only this one
python notebooks/execute.py --check        # only that every cell runs; writes nothing into them
python notebooks/execute.py --badges       # runs nothing: only sets or removes "Open in Colab"
"""

import argparse
import os
import pathlib
import re
import shutil
import signal
import sys
import time
import tomllib

import nbformat
import tensorboard.manager
from nbclient import NotebookClient

ROOT = pathlib.Path(__file__).parents[1]
FOLDER = ROOT / "notebooks"


def repository(pyproject: str) -> str | None:
    """Returns OWNER/NAME of the project's Repository or Homepage on GitHub; None where pyproject.toml names none.

    Args:
        pyproject: text of pyproject.toml.
    """
    urls = tomllib.loads(pyproject).get("project", {}).get("urls", {})
    urls = {label.lower(): url for label, url in urls.items()}
    for label in ("repository", "homepage"):
        if found := re.fullmatch(r"https?://(?:www\.)?github\.com/([^/]+/[^/]+?)(?:\.git)?/?", urls.get(label, "")):
            return found[1]
    return None


def colab_cells(name: str, project: str | None) -> list[nbformat.NotebookNode]:
    """Returns the cells that open a notebook in Colab and bring its checkout there; none without a project.

    Args:
        name: file of the notebook.
        project: OWNER/NAME on GitHub, or None.
    """
    if project is None:
        return []
    address = f"https://colab.research.google.com/github/{project}/blob/main/notebooks/{name}"
    badge = f"[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]({address})"
    clone = (
        "import pathlib\n\n"
        'if not any(pathlib.Path(folder, "train.py").exists() for folder in (".", "..")):  # Colab opens the notebook alone\n'
        f"    !git clone -q https://github.com/{project}\n"
        f"    %cd {project.split('/')[1]}"
    )
    return [
        nbformat.v4.new_markdown_cell(badge, id="colab-badge"),
        nbformat.v4.new_code_cell(clone, id="colab-clone"),
    ]


def set_badge(notebook: nbformat.NotebookNode, name: str, project: str | None) -> None:
    """Puts the cells of `colab_cells` at the notebook's top in place of earlier ones; the arguments are the same."""
    kept = [cell for cell in notebook.cells if cell.id not in ("colab-badge", "colab-clone")]
    notebook.cells = colab_cells(name, project) + kept


def execute(notebook: nbformat.NotebookNode) -> None:
    """Runs all cells of a notebook and leaves their outputs in it.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell raises.
        RuntimeError: a cell shows an error, as %tensorboard does.
    """
    # The kernel's own programs, tensorboard among them, before those of the machine.
    os.environ["PATH"] = os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])
    for left in (ROOT / "runs").glob("notebook*/"):  # of an earlier time: the run is to be a new one
        shutil.rmtree(left)
    try:
        NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(ROOT)}}).execute()
    finally:
        for server in tensorboard.manager.get_all():  # what %tensorboard starts outlives the kernel
            if "notebook_run" in server.logdir:
                os.kill(server.pid, signal.SIGTERM)
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # the times of day differ at every run
        if cell.cell_type == "code":  # TensorFlow's notes on its build and on missing GPUs
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
            if error := shown_error(cell):
                raise RuntimeError(f"the cell {cell.source!r} shows {error!r}")


def shown_error(cell: nbformat.NotebookNode) -> str | None:
    """Returns the error that a code cell's outputs show as text; None where there is none."""
    for output in cell.outputs:
        text = output.get("text", "") + output.get("data", {}).get("text/plain", "")
        if output.output_type == "error" or text.lstrip().startswith("ERROR"):
            return text
    return None


def main() -> None:
    names = sorted(path.stem for path in FOLDER.glob("*.ipynb"))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebooks", nargs="*", metavar="NAME", help=f"some of {', '.join(names)}; all unless given")
    parser.add_argument("--check", action="store_true", help="write nothing into the notebooks")
    parser.add_argument("--badges", action="store_true", help='run nothing, only set or remove "Open in Colab"')
    arguments = parser.parse_args()
    if unknown := set(arguments.notebooks) - set(names):
        parser.error(f"there is no notebook {min(unknown)}; expected some of {', '.join(names)}")
    if arguments.check and arguments.badges:
        parser.error("--check with --badges leaves nothing to do; expected one of them")
    project = repository((ROOT / "pyproject.toml").read_text())
    for name in arguments.notebooks or names:
        path = FOLDER / f"{name}.ipynb"
        notebook = nbformat.read(path, nbformat.NO_CONVERT)
        set_badge(notebook, path.name, project)
        if not arguments.badges:
            began = time.perf_counter()
            execute(notebook)
            cells = sum(cell.cell_type == "code" for cell in notebook.cells)
            print(f"{path.name}: {cells} cells ran, {time.perf_counter() - began:.0f} s.", flush=True)
        if not arguments.check:
            nbformat.write(notebook, path)


if __name__ == "__main__":
    main()
