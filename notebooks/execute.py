"""Runs the notebooks from a clean kernel, in the checkout's folder, and writes their outputs into them.

python notebooks/execute.py                # before a commit
python notebooks/execute.py advgan_colab   # only this one
python notebooks/execute.py --check        # only that every cell runs; writes nothing
"""

import argparse
import os
import pathlib
import shutil
import signal
import sys
import time

import nbformat
import tensorboard.manager
from nbclient import NotebookClient

ROOT = pathlib.Path(__file__).parents[1]
FOLDER = ROOT / "notebooks"


def execute(notebook: nbformat.NotebookNode) -> None:
    """Runs all cells of a notebook and leaves their outputs in it.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell raises.
        RuntimeError: a cell shows an error, as %tensorboard does.
    """
    # The kernel's own programs, tensorboard among them, before those of the machine.
    os.environ["PATH"] = os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])
    for left in (ROOT / "runs").glob("notebook*/"):  # an earlier run would be continued
        shutil.rmtree(left)
    try:
        NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(ROOT)}}).execute()
    finally:
        for server in tensorboard.manager.get_all():  # the server of %tensorboard outlives the kernel
            if "notebook_run" in server.logdir:
                os.kill(server.pid, signal.SIGTERM)
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # times of day
        if cell.cell_type == "code":  # TensorFlow's notes on its build and on missing GPUs
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
            if error := shown_error(cell):
                raise RuntimeError(f"the cell {cell.source!r} shows {error!r}")


def shown_error(cell: nbformat.NotebookNode) -> str | None:
    """Returns the error that a code cell's outputs show as text; None if there is none."""
    for output in cell.outputs:
        text = output.get("text", "") + output.get("data", {}).get("text/plain", "")
        if output.output_type == "error" or text.lstrip().startswith("ERROR"):
            return text
    return None


def main() -> None:
    names = sorted(path.stem for path in FOLDER.glob("*.ipynb"))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebooks", nargs="*", metavar="NAME", help=f"some of {', '.join(names)} (default: all)")
    parser.add_argument("--check", action="store_true", help="write nothing into the notebooks")
    arguments = parser.parse_args()
    if unknown := set(arguments.notebooks) - set(names):
        parser.error(f"there is no notebook {min(unknown)}: expected some of {', '.join(names)}")
    for name in arguments.notebooks or names:
        path = FOLDER / f"{name}.ipynb"
        notebook = nbformat.read(path, nbformat.NO_CONVERT)
        began = time.perf_counter()
        execute(notebook)
        cells = sum(cell.cell_type == "code" for cell in notebook.cells)
        print(f"{path.name}: {cells} cells ran, {time.perf_counter() - began:.0f} s.", flush=True)
        if not arguments.check:
            nbformat.write(notebook, path)


if __name__ == "__main__":
    main()
