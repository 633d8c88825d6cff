"""Kills train.py, starts it again, and compares what it ends with to an uninterrupted run's.

    python tests/kill_and_resume.py --kills=20 --moments --output=docs/results/kill_and_resume.json

`--kills` come at random moments; a run that ends between two of them is compared and begun anew. They are drawn by
`--seed`; where they fall in a run depends on the machine, so the JSON says after which line each came. `--moments` come
before and after each file of a run gets its name or is removed, within the saving of each checkpoint, and at the switch
of the stage, one a run (`killed_double.py`): all of them, or those that contain one of the given texts. Exits with 1 if
anything differs.
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
    "--attack_steps=2", "--generator_width=4", "--generator_blocks=1", "--switch=auto", "--switch_success=0.01",
    "--export_classifier",
)  # fmt: skip


def start(folder: pathlib.Path, log: pathlib.Path, *double: str) -> subprocess.Popen:
    """Starts the command on a work folder, its output into a file; in its place the double, given its arguments."""
    with open(log, "w") as file:
        script = ("tests/killed_double.py", *double) if double else ("train.py",)
        command = [sys.executable, *script, f"--workdir={folder}", *SETTINGS]
        return subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, cwd=ROOT)


def weights(path: pathlib.Path) -> dict[str, np.ndarray]:
    """Returns the arrays of a weights file by their place in it."""
    arrays = {}
    with h5py.File(path) as file:
        file.visititems(lambda name, item: arrays.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
    return arrays


def events(folder: pathlib.Path) -> dict[str, list]:
    """Returns what TensorBoard is shown, by its place and step; what is there twice is twice in the list."""
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
    samples, the export, and which files there are."""
    import keras
    import tensorflow as tf

    found = {}
    for name in ("generator.weights.h5", "generator_stage1.weights.h5"):
        found |= {f"{name} {place}": array for place, array in weights(folder / name).items()}
    saved = max((folder / "checkpoints" / "aigan").glob("*.index"), key=lambda path: int(path.stem.split("-")[1]))
    for part in (saved.with_suffix("").relative_to(folder), "generator/1/variables/variables"):
        reader = tf.train.load_checkpoint(str(folder / part))
        for name in reader.get_variable_to_shape_map():
            if not name.startswith(("save_counter", "_CHECKPOINTABLE")):
                found[f"{part} {name}"] = reader.get_tensor(name)
    model = keras.models.load_model(folder / "classifier.keras", compile=False)
    found |= {f"classifier {i}": array for i, array in enumerate(model.get_weights())}
    for name in ("metrics.csv", "classifier_metrics.csv"):
        with open(folder / name, newline="") as file:
            for number, row in enumerate(csv.DictReader(file)):  # an epoch written twice is a row too many
                row.pop("seconds", None)
                found[f"{name} row {number}"] = np.array(list(row.items()))
    found |= {f"logs/{name}": np.array(values) for name, values in events(folder / "logs").items()}
    found |= {path.name: np.array(path.read_bytes()) for path in (folder / "samples").iterdir()}
    report = json.loads((folder / "report.json").read_text())
    report.pop("milliseconds_per_image")
    found["report.json"] = np.array(json.dumps(report))
    found["config.json"] = np.array((folder / "config.json").read_text())
    # A digest is of bytes that hold the time of writing; TensorBoard's files have it in their names.
    found["sealed"] = np.array(sorted(json.loads((folder / "digests.json").read_text())))
    files = (path.relative_to(folder) for path in folder.rglob("*") if "tfevents" not in path.name)
    found["files"] = np.array(sorted(map(str, files)))
    return found


def differences(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> list[str]:
    """Returns the names of what is not bit for bit the same in both."""
    return sorted(
        name
        for name in one.keys() | other.keys()
        if name not in one or name not in other or not np.array_equal(one[name], other[name])
    )


def finish(process: subprocess.Popen, log: pathlib.Path, what: str) -> None:
    """Waits for the command, which must not fail."""
    if process.wait():
        sys.exit(f"{what} failed:\n{log.read_text()[-2000:]}")


def kill_at(moment: str, expected: dict, folder: pathlib.Path) -> list[str]:
    """Kills a run at a moment, continues it, and returns what differs."""
    run, log = folder / "killed", folder / "log.txt"
    if start(run, log, moment, str(folder / "reached.txt")).wait() != -signal.SIGKILL:
        sys.exit(f"{moment}: the command was not killed:\n{log.read_text()[-2000:]}")
    finish(start(run, log), log, f"{moment}: the continued run")
    different = differences(state(run), expected)
    shutil.rmtree(run)
    return different


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--moments", nargs="*", metavar="TEXT")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=pathlib.Path)
    arguments = parser.parse_args()
    drawn = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as temporary:
        temporary = pathlib.Path(temporary)
        log, reached = temporary / "log.txt", temporary / "moments.txt"
        began = time.perf_counter()
        whole = start(temporary / "whole", log, "none", str(reached))
        while not reached.exists() and whole.poll() is None:  # the first is that of config.json
            time.sleep(0.05)
        started = time.perf_counter() - began
        finish(whole, log, "the uninterrupted run")
        length = time.perf_counter() - began
        expected = state(temporary / "whole")
        kills, runs, folder = [], [], temporary / "run0"
        while arguments.kills:
            process = start(folder, log)
            try:
                process.wait(None if len(kills) == arguments.kills else drawn.uniform(started, length))
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.wait()
                lines = log.read_text().replace(f"{temporary}/", "").splitlines()
                said = [line for line in lines if line[:1].isupper() and "0000" not in line and "absl" not in line]
                kills.append(said[-1][:60] if said else "before its first line")
                print(f"kill {len(kills)}: {kills[-1]}", flush=True)
                continue
            finish(process, log, f"after {len(kills)} kills the command")
            runs.append({"kills_so_far": len(kills), "differences": differences(state(folder), expected)})
            print(f"run {len(runs)} ended: {len(runs[-1]['differences'])} differences", flush=True)
            if len(kills) == arguments.kills:
                break
            folder = temporary / f"run{len(runs)}"
        moments = {}
        for moment in reached.read_text().splitlines() if arguments.moments is not None else ():
            if not arguments.moments or any(text in moment for text in arguments.moments):
                moments[moment] = kill_at(moment, expected, temporary)
                print(f"killed {moment}: {len(moments[moment])} differences", flush=True)
    result = {
        "kills": kills,
        "runs": runs,
        "moments": moments,
        "compared": len(expected),
        "seed": arguments.seed,
        "uninterrupted_seconds": round(length, 1),
    }
    if arguments.output:
        arguments.output.write_text(json.dumps(result, indent=2) + "\n")
    different = [run for run in runs if run["differences"]] + [moment for moment in moments.items() if moment[1]]
    if different:
        sys.exit(f"an interrupted run ended differently: {different}")


if __name__ == "__main__":
    main()
