"""Runs the notebooks from a clean kernel, in the checkout's folder, and writes their outputs into them.

python notebooks/execute.py            # before a commit
python notebooks/execute.py --check    # only that every cell runs; writes nothing into them
"""

import argparse
import os
import pathlib
import shutil
import signal

import nbformat
import tensorboard.manager
from nbclient import NotebookClient

ROOT = pathlib.Path(__file__).parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing into the notebooks")
    arguments = parser.parse_args()
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        notebook = nbformat.read(path, nbformat.NO_CONVERT)
        for left in (ROOT / "runs").glob("notebook*"):  # of an earlier time: the run is to be a new one
            shutil.rmtree(left)
        client = NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(ROOT)}})
        try:
            client.execute()  # raises at the first cell that does
        finally:
            for server in tensorboard.manager.get_all():  # what %tensorboard starts outlives the kernel
                if "notebook_run" in server.logdir:
                    os.kill(server.pid, signal.SIGTERM)
        for cell in notebook.cells:
            cell.metadata.pop("execution", None)  # the times of day differ at every run
            if cell.cell_type == "code":  # TensorFlow's notes on its build and on missing GPUs
                cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
        if not arguments.check:
            nbformat.write(notebook, path)
        print(f"{path.name}: {sum(cell.cell_type == 'code' for cell in notebook.cells)} cells ran.", flush=True)


if __name__ == "__main__":
    main()
