"""Runs the notebooks from a clean kernel, in the checkout's folder, and writes their outputs into them.

python notebooks/execute.py            # before a commit
python notebooks/execute.py --check    # only that every cell runs; writes nothing into them
"""

import pathlib
import sys

import nbformat
from nbclient import NotebookClient

ROOT = pathlib.Path(__file__).parents[1]


def main(arguments: list[str]) -> None:
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        notebook = nbformat.read(path, nbformat.NO_CONVERT)
        client = NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(ROOT)}})
        client.execute()  # raises at the first cell that does
        for cell in notebook.cells:
            cell.metadata.pop("execution", None)  # the times of day differ at every run
            if cell.cell_type == "code":  # TensorFlow's notes on its build and on missing GPUs
                cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
        if arguments != ["--check"]:
            nbformat.write(notebook, path)
        print(f"{path.name}: {sum(cell.cell_type == 'code' for cell in notebook.cells)} cells ran.", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
