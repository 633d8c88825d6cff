"""Kills train.py at random moments, starts it again, and compares what it ends with to an uninterrupted run's.

    python tests/kill_and_resume.py --kills=20 --output=docs/results/kill_and_resume.json

A run that ends between two kills is compared and begun anew. Exits with 1 if anything differs. The moments come
from `--seed`; where they fall in a run depends on the machine, so the JSON says after which line each kill came.
"""

import argparse
import csv
import json
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import time

import h5py
import numpy as np

ROOT = pathlib.Path(__file__).parents[1]
SETTINGS = (
    "--classifier_epochs=4", "--stage1_epochs=2", "--stage2_epochs=3", "--steps_per_epoch=6", "--batch_size=32",
    "--attack_steps=2", "--generator_width=4", "--generator_blocks=1", "--switch=fixed",
)  # fmt: skip


def start(folder: pathlib.Path, log: pathlib.Path) -> subprocess.Popen:
    """Starts the command on a work folder, its output into a file."""
    with open(log, "w") as file:
        command = [sys.executable, str(ROOT / "train.py"), f"--workdir={folder}", *SETTINGS]
        return subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, cwd=ROOT)


def weights(path: pathlib.Path) -> dict[str, np.ndarray]:
    """Returns the arrays of a weights file by their place in it."""
    arrays = {}
    with h5py.File(path) as file:
        file.visititems(lambda name, item: arrays.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
    return arrays


def state(folder: pathlib.Path) -> dict[str, np.ndarray]:
    """Returns all that must not depend on an interruption: both networks, both optimizers, stage, classifier, history."""
    import tensorflow as tf

    found = {}
    for name in ("generator.weights.h5", "generator_stage1.weights.h5"):
        found |= {f"{name} {place}": array for place, array in weights(folder / name).items()}
    saved = max((folder / "checkpoints" / "aigan").glob("*.index"), key=lambda path: int(path.stem.split("-")[1]))
    reader = tf.train.load_checkpoint(str(saved.with_suffix("")))
    for name in reader.get_variable_to_shape_map():
        if not name.startswith(("save_counter", "_CHECKPOINTABLE")):
            found[f"checkpoint {name}"] = reader.get_tensor(name)
    import keras

    model = keras.models.load_model(folder / "classifier.keras", compile=False)
    found |= {f"classifier {i}": array for i, array in enumerate(model.get_weights())}
    for name in ("metrics.csv", "classifier_metrics.csv"):
        with open(folder / name, newline="") as file:
            for number, row in enumerate(csv.DictReader(file)):  # an epoch written twice is a row too many
                row.pop("seconds", None)
                found[f"{name} row {number}"] = np.array(list(row.items()))
    report = json.loads((folder / "report.json").read_text())
    report.pop("milliseconds_per_image")
    found["report.json"] = np.array(json.dumps(report))
    return found


def differences(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> list[str]:
    """Returns the names of what is not bit for bit the same in both."""
    return sorted(
        name
        for name in one.keys() | other.keys()
        if name not in one or name not in other or not np.array_equal(one[name], other[name])
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=pathlib.Path)
    arguments = parser.parse_args()
    moments = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as temporary:
        temporary = pathlib.Path(temporary)
        log = temporary / "log.txt"
        began = time.perf_counter()
        if start(temporary / "whole", log).wait():
            sys.exit(f"the uninterrupted run failed:\n{log.read_text()[-2000:]}")
        length = time.perf_counter() - began
        expected = state(temporary / "whole")
        kills, runs = [], []
        folder = temporary / "run0"
        while True:
            process = start(folder, log)
            try:
                process.wait(None if len(kills) == arguments.kills else moments.uniform(0.1, 1.0) * length)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.wait()
                lines = log.read_text().replace(f"{temporary}/", "").splitlines()
                said = [line for line in lines if line[:1].isupper() and "0000" not in line and "absl" not in line]
                kills.append(said[-1][:60] if said else "before its first line")
                print(f"kill {len(kills)}: {kills[-1]}", flush=True)
                continue
            if process.returncode:
                sys.exit(f"after {len(kills)} kills the command failed:\n{log.read_text()[-2000:]}")
            runs.append({"kills_so_far": len(kills), "differences": differences(state(folder), expected)})
            print(f"run {len(runs)} ended: {len(runs[-1]['differences'])} differences", flush=True)
            if len(kills) == arguments.kills:
                break
            folder = temporary / f"run{len(runs)}"
    result = {
        "kills": kills,
        "runs": runs,
        "compared": len(expected),
        "seed": arguments.seed,
        "uninterrupted_seconds": round(length, 1),
    }
    if arguments.output:
        arguments.output.write_text(json.dumps(result, indent=2) + "\n")
    if any(run["differences"] for run in runs):
        sys.exit(f"an interrupted run ended differently: {runs}")


if __name__ == "__main__":
    main()
