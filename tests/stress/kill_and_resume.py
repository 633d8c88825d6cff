"""Kills train.py with SIGKILL, continues the run, and compares its end with that of an uninterrupted run.

    python tests/stress/kill_and_resume.py --kills=20 --moments --output=docs/results/kill_and_resume.json

`--kills` runs are killed at random times, drawn with `--seed`. `--moments` are one run each, killed right before or after
a file of the run is named or removed, a checkpoint is merged, or the stage changes (`train_killed_at.py`): all moments, or
those that contain one of the given texts. Exits with 1 if an end differs.
"""

import argparse
import collections
import csv
import json
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import h5py
import numpy as np

ROOT = pathlib.Path(__file__).parents[2]
SETTINGS = (
    "--classifier_epochs=2", "--stage1_epochs=3", "--stage2_epochs=1", "--steps_per_epoch=6", "--batch_size=32",
    "--attack_steps=2", "--generator_width=4", "--generator_blocks=1", "--switch_success=0.01", "--export_classifier",
)  # fmt: skip


def weights(path: pathlib.Path) -> dict[str, np.ndarray]:
    """Returns the arrays of a weights file by their path in it."""
    arrays = {}
    with h5py.File(path) as file:
        file.visititems(lambda name, item: arrays.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
    return arrays


def checkpoint(path: pathlib.Path) -> dict[str, np.ndarray]:
    """Returns the variables of a TensorFlow checkpoint by name, without its own bookkeeping."""
    import tensorflow as tf

    reader = tf.train.load_checkpoint(str(path))
    names = reader.get_variable_to_shape_map()
    return {name: reader.get_tensor(name) for name in names if not name.startswith(("save_counter", "_CHECKPOINTABLE"))}


def events(folder: pathlib.Path) -> dict[str, list]:
    """Returns what TensorBoard shows, tags and values by subfolder and step; duplicates are kept."""
    import tensorflow as tf

    found = collections.defaultdict(list)
    for path in folder.rglob("events.out.tfevents.*"):
        for record in tf.data.TFRecordDataset(str(path)):
            event = tf.compat.v1.Event.FromString(record.numpy())
            for value in event.summary.value:
                if value.tag != "epoch_seconds":
                    found[f"{path.parent.relative_to(folder)} step {event.step}"] += [value.tag, str(value.tensor)]
    return found


def state(folder: pathlib.Path) -> dict[str, np.ndarray]:
    """Returns all that must not depend on an interruption: both networks, both optimizers, stage, classifier, histories,
    samples, the export, and the names of all files."""
    import keras

    saved = max((folder / "checkpoints" / "aigan").glob("*.index"), key=lambda path: int(path.stem.split("-")[1]))
    model = keras.models.load_model(folder / "classifier.keras", compile=False)
    parts = {name: weights(folder / name) for name in ("generator.weights.h5", "generator_stage1.weights.h5")} | {
        f"checkpoints/aigan/{saved.stem}": checkpoint(saved.with_suffix("")),
        "generator/1": checkpoint(folder / "generator" / "1" / "variables" / "variables"),
        "classifier.keras": dict(enumerate(model.get_weights())),
    }
    for name in ("metrics.csv", "classifier_metrics.csv"):
        with open(folder / name, newline="") as file:
            rows = [[item for item in row.items() if item[0] != "seconds"] for row in csv.DictReader(file)]
        parts[name] = dict(enumerate(map(np.array, rows)))  # by number: an epoch written twice is a row too many
    found = {f"{name} {place}": array for name, arrays in parts.items() for place, array in arrays.items()}
    found |= {f"logs/{name}": np.array(values) for name, values in events(folder / "logs").items()}
    found |= {f"samples/{path.name}": np.array(path.read_bytes()) for path in (folder / "samples").iterdir()}
    report = json.loads((folder / "report.json").read_text())
    for name in ("milliseconds_per_image", "id"):
        report.pop(name, None)  # runs whose export is not measured have no id
    found["report.json"] = np.array(json.dumps(report))
    found["config.json"] = np.array((folder / "config.json").read_text())
    # Only the names: digests are of bytes that hold the time of writing, as the names of TensorBoard's files do.
    found["digests.json"] = np.array(sorted(json.loads((folder / "digests.json").read_text())))
    files = (path.relative_to(folder) for path in folder.rglob("*") if "tfevents" not in path.name)
    found["files"] = np.array(sorted(map(str, files)))
    return found


def differences(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> list[str]:
    """Returns the names of what is not equal bit for bit in both states."""
    shared = one.keys() & other.keys()
    return sorted(one.keys() ^ other.keys() | {name for name in shared if not np.array_equal(one[name], other[name])})


class Runs:
    """Runs of train.py in one empty folder, the first of them uninterrupted."""

    def __init__(self, folder: pathlib.Path):
        self.folder, self.log, self.reached = folder, folder / "log.txt", folder / "reached.txt"
        began = time.perf_counter()
        self.finish(self.start("whole", "none"), "the uninterrupted run")
        self.seconds = time.perf_counter() - began
        self.moments = self.reached.read_text().splitlines()
        self.expected = state(folder / "whole")

    def start(self, name: str, moment: str | None = None) -> subprocess.Popen:
        """Starts train.py on a run, or `train_killed_at.py` with a moment; its output goes into the log."""
        script = ["train.py"] if moment is None else ["tests/stress/train_killed_at.py", moment, str(self.reached)]
        with open(self.log, "w") as log:
            command = [sys.executable, *script, f"--workdir={self.folder / name}", *SETTINGS]
            return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, cwd=ROOT)

    def finish(self, process: subprocess.Popen, what: str) -> None:
        """Waits for a command and exits if it failed."""
        if process.wait():
            sys.exit(f"{what} failed:\n{self.log.read_text()[-2000:]}")

    def differences_after(self, kill: str, moment: str | None = None, seconds: float | None = None) -> list[str]:
        """Kills a run at a moment or after some seconds, continues it, and returns how its end differs.

        A run that ends before its time is compared as it is.
        """
        process = self.start("run", moment)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
        status = process.wait()
        if status != -signal.SIGKILL and (moment or status):
            sys.exit(f"{kill}: the command was not killed:\n{self.log.read_text()[-2000:]}")
        self.finish(self.start("run"), f"{kill}: the continued run")
        different = differences(state(self.folder / "run"), self.expected)
        shutil.rmtree(self.folder / "run")
        print(f"killed {kill}: {len(different)} differences", flush=True)
        return different


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--moments", nargs="*", metavar="TEXT")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=pathlib.Path)
    arguments = parser.parse_args()
    texts = [] if arguments.moments is None else arguments.moments or [""]
    random_numbers = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as folder:
        runs = Runs(pathlib.Path(folder))
        ends = {}
        for _ in range(arguments.kills):
            seconds = random_numbers.uniform(runs.seconds / 3, runs.seconds)  # imports take a third of a run
            kill = f"after {seconds:.2f} s"
            ends[kill] = runs.differences_after(kill, seconds=seconds)
        for moment in (moment for moment in runs.moments if any(text in moment for text in texts)):
            ends[moment] = runs.differences_after(moment, moment)
    result = {
        "differences": ends, "compared": len(runs.expected), "seed": arguments.seed,
        "uninterrupted_seconds": round(runs.seconds, 1),
    }  # fmt: skip
    if arguments.output:
        arguments.output.write_text(json.dumps(result, indent=2) + "\n")
    if any(ends.values()):
        sys.exit(f"an interrupted run ended differently: {ends}")


if __name__ == "__main__":
    main()
