"""Trains on the digits for long, then evaluates the export again and again, and sees that nothing grows. Linux only.

    python tests/long_run.py --steps=2000 --evaluations=50 --output=docs/results/long_run.json

Both are what train.py and evaluate.py do. Sampled are resident memory, open file handles, checkpoint files, and the
bytes of logs and checkpoints, once an epoch and once an evaluation; the first quarter of each is warm-up (graphs,
allocators and thread pools are made then). Exits with 1 if any of them grows by more than `BOUNDS` and `SLACK`.
"""

import argparse
import gc
import os
import pathlib
import sys
import tempfile
import time
from unittest import mock

sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))

import aigan_tf  # noqa: F401 isort: skip (before TensorFlow, which reads its settings on import)
import keras
import numpy as np

from aigan_tf.config import make_config
from aigan_tf.engine import distribution
from aigan_tf.evaluation.compare import evaluate_workdir
from aigan_tf.files import write_json
from aigan_tf.provenance import device_name, package_versions
from aigan_tf.training import run as training
from aigan_tf.workdir import Workdir

STEPS_PER_EPOCH = 20
# By how much each may grow, in MB. A leak of one evaluation's graphs would be about 20.
BOUNDS = {
    "1000 steps": {"resident_mb": 3.0, "log_mb": 0.3, "checkpoint_mb": 0.1},
    "evaluation": {"resident_mb": 0.5, "log_mb": 0.0, "checkpoint_mb": 0.0},
}
# MB of memory that allocators take and give back: in a short run they are still filling.
SLACK, SHORT_SLACK = 4.0, 20.0
MANY = 30  # samples, from which on a run is no short one


def sample(folder: Workdir) -> dict[str, float]:
    """Returns what must not grow, and the bytes of the work folder."""
    gc.collect()  # graphs hold themselves in cycles: what Python would free soon anyway is no growth
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    checkpoints, logs = (
        [file for file in path.rglob("*") if file.is_file()] for path in (folder.checkpoints, folder.logs)
    )
    return {
        "resident_mb": pages * os.sysconf("SC_PAGE_SIZE") / 1e6,
        "open_handles": len(os.listdir("/proc/self/fd")),
        "checkpoint_files": len(checkpoints),
        "checkpoint_mb": sum(file.stat().st_size for file in checkpoints) / 1e6,
        "log_mb": sum(file.stat().st_size for file in logs) / 1e6,
    }


class Sampler(keras.callbacks.Callback):
    """Samples at each epoch's end, when all other callbacks have written."""

    def __init__(self, folder: Workdir):
        super().__init__()
        self.folder = folder
        self.samples = []

    def on_epoch_begin(self, epoch, logs=None):
        if epoch:
            self.samples.append(sample(self.folder))

    def on_train_end(self, logs=None):
        self.samples.append(sample(self.folder))


def growth(samples: list[dict[str, float]], unit: str, samples_per_unit: float) -> dict:
    """Returns how each sampled value grew after the warm-up, and which grew too much.

    Memory and bytes by a fitted line and from the middle of the first third to that of the last, since allocators give
    back from time to time.
    """
    steady = samples[len(samples) // 4 :]
    values = {name: np.array([row[name] for row in steady]) for name in steady[0]}
    third = -(-len(steady) // 3)
    slack = {"resident_mb": SLACK if len(steady) >= MANY else SHORT_SLACK}
    result, too_much = {}, []
    for name, bound in BOUNDS[unit].items():
        slope = float(np.polyfit(np.arange(len(steady)), values[name], 1)[0] * samples_per_unit)
        grown = float(np.median(values[name][-third:]) - np.median(values[name][:third]))
        result |= {f"{name}_per_{unit}": round(slope, 3), f"{name}_grown": round(grown, 3)}
        if slope > bound and grown > slack.get(name, 1e-3):
            too_much.append(name)
    for name in ("open_handles", "checkpoint_files"):
        result[f"{name}_more"] = int(values[name][-1] - values[name][:third].max())
        if result[f"{name}_more"] > 0:
            too_much.append(name)
    return result | {
        "too_much": too_much,
        "first": samples[0],
        "after_warm_up": steady[0],
        "last": steady[-1],
        "resident_mb": [round(row["resident_mb"], 1) for row in samples],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--evaluations", type=int, default=50)
    parser.add_argument("--output", type=pathlib.Path)
    arguments = parser.parse_args()
    epochs = arguments.steps // STEPS_PER_EPOCH
    stage1_epochs = epochs // 8  # both stages' graphs belong to the warm-up
    config = make_config(
        dataset="digits", classifier_epochs=3, stage1_epochs=stage1_epochs, stage2_epochs=epochs - stage1_epochs,
        switch="fixed", steps_per_epoch=STEPS_PER_EPOCH, batch_size=32, attack_steps=2, generator_width=4, generator_blocks=1,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as temporary:
        folder = Workdir(pathlib.Path(temporary) / "run")
        sampler, fit = Sampler(folder), distribution.Devices.fit

        def sampled_fit(*given, callbacks, **others):
            return fit(*given, callbacks=[*callbacks, sampler], **others)

        began = time.perf_counter()
        with mock.patch.object(distribution.Devices, "fit", sampled_fit):
            training.train_and_export(config, folder.path)
        trained = time.perf_counter() - began
        began, samples = time.perf_counter(), []
        for _ in range(arguments.evaluations):
            evaluate_workdir(folder.path)
            samples.append(sample(folder))
        evaluated = time.perf_counter() - began
    result = {
        "steps": epochs * STEPS_PER_EPOCH,
        "evaluations": arguments.evaluations,
        "bounds_mb": BOUNDS,
        "slack_mb": [SLACK, SHORT_SLACK],
        "training": growth(sampler.samples, "1000 steps", 1000 / STEPS_PER_EPOCH),
        "evaluating": growth(samples, "evaluation", 1.0),
        "training_seconds": round(trained, 1),
        "evaluating_seconds": round(evaluated, 1),
        "device": device_name(),
        "versions": package_versions(),
    }
    if arguments.output:
        write_json(arguments.output, result)
    for doing in ("training", "evaluating"):
        print(doing, {name: value for name, value in result[doing].items() if not isinstance(value, list)})
    grown = result["training"]["too_much"] + result["evaluating"]["too_much"]
    if grown:
        sys.exit(f"more than the bounds allow: {', '.join(grown)}")


if __name__ == "__main__":
    main()
