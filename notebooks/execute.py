"""Runs the notebooks from a clean kernel, in the checkout's folder, and writes their outputs into them.

python notebooks/execute.py                # before a commit
python notebooks/execute.py advgan_colab   # only this one
python notebooks/execute.py --check        # only that every cell runs; writes nothing
"""

import argparse
import pathlib
import re
import shutil
import time

import nbformat
from nbclient import NotebookClient

ROOT = pathlib.Path(__file__).parents[1]
FOLDER = ROOT / "notebooks"


# Said while something is done; what was measured stays.
PROGRESS = re.compile(r"^(epoch \d+|About|Exporting|Loading|Measuring|Trained|Training|Working) .*\n", re.MULTILINE)


def execute(notebook: nbformat.NotebookNode) -> None:
    """Runs all cells of a notebook and leaves their outputs in it, without progress.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell raises.
    """
    for left in (ROOT / "runs").glob("notebook*/"):  # an earlier run would be continued
        shutil.rmtree(left)
    NotebookClient(notebook, timeout=600, coalesce_streams=True, resources={"metadata": {"path": str(ROOT)}}).execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # times of day
        if cell.cell_type == "code":
            # stderr: TensorFlow's notes on its build and on missing GPUs
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
            for output in cell.outputs:
                if output.output_type == "stream":
                    output.text = PROGRESS.sub("", output.text)


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
