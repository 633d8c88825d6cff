"""Trains on the digits for long, evaluates the export repeatedly, and checks that memory and files stop growing.

    python tests/stress/long_run.py --steps=2000 --evaluations=50 --output=docs/results/long_run.json

Sampled once per epoch and once per evaluation: resident memory, open file handles, the number of checkpoint files, and
the bytes of logs and checkpoints. The first quarter of the samples is warm-up, in which graphs, allocators and thread
pools are made. Exits with 1 if a value grows by more than `BOUNDS` and `SLACK`. Linux only.
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
from aigan_tf.engine.distribution import Devices
from aigan_tf.evaluation.compare import evaluate_workdir
from aigan_tf.files import write_json
from aigan_tf.provenance import device_name, package_versions
from aigan_tf.training.run import train_and_export
from aigan_tf.workdir import Workdir

STEPS_PER_EPOCH = 20
# Allowed growth in MB. The graphs of one evaluation take about 20.
BOUNDS = {
    "1000 steps": {"resident_mb": 3.0, "log_mb": 0.3, "checkpoint_mb": 0.1},
    "evaluation": {"resident_mb": 0.5, "log_mb": 0.0, "checkpoint_mb": 0.0},
}
# MB of memory that allocators take and give back; in a short run they are still filling.
SLACK, SHORT_SLACK = 4.0, 20.0
SHORT = 30  # a run with fewer samples after its warm-up is short


def sample(folder: Workdir) -> dict[str, float]:
    """Returns what must not grow."""
    gc.collect()  # graphs are cycles of references, which Python frees later
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    checkpoints, logs = ([f for f in path.rglob("*") if f.is_file()] for path in (folder.checkpoints, folder.logs))
    return {
        "resident_mb": pages * os.sysconf("SC_PAGE_SIZE") / 1e6,
        "open_handles": len(os.listdir("/proc/self/fd")),
        "checkpoint_files": len(checkpoints),
        "checkpoint_mb": sum(file.stat().st_size for file in checkpoints) / 1e6,
        "log_mb": sum(file.stat().st_size for file in logs) / 1e6,
    }


class Sampler(keras.callbacks.Callback):
    """Samples at the end of each epoch, after all other callbacks."""

    def __init__(self, folder: Workdir):
        super().__init__()
        self.folder, self.samples = folder, []

    def on_epoch_begin(self, epoch, logs=None):
        if epoch:
            self.samples.append(sample(self.folder))

    def on_train_end(self, logs=None):
        self.samples.append(sample(self.folder))


def growth(samples: list[dict[str, float]], unit: str, samples_per_unit: float) -> dict:
    """Returns how each sampled value grew after the warm-up, and which values grew too much.

    Memory and bytes fluctuate: they must exceed the bounds both by the slope of a fitted line, and by the difference
    between the medians of the last and the first third.
    """
    steady = samples[len(samples) // 4 :]
    values = {name: np.array([row[name] for row in steady]) for name in steady[0]}
    third = -(-len(steady) // 3)
    slack = {"resident_mb": SHORT_SLACK if len(steady) < SHORT else SLACK}
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
    resident = [round(row["resident_mb"], 1) for row in samples]
    kept = {"first": samples[0], "after_warm_up": steady[0], "last": steady[-1], "resident_mb": resident}
    return result | {"too_much": too_much} | kept


def train(folder: Workdir, steps: int) -> list[dict[str, float]]:
    """Trains a run and returns its samples."""
    epochs = steps // STEPS_PER_EPOCH
    stage1_epochs = epochs // 8  # the graphs of both stages belong to the warm-up
    config = make_config(
        dataset="digits", classifier_epochs=3, stage1_epochs=stage1_epochs, stage2_epochs=epochs - stage1_epochs,
        switch_success=1, steps_per_epoch=STEPS_PER_EPOCH, batch_size=32, attack_steps=2, generator_width=4,
        generator_blocks=1,
    )  # fmt: skip
    sampler, fit = Sampler(folder), Devices.fit

    def sampled_fit(*arguments, callbacks, **others):
        return fit(*arguments, callbacks=[*callbacks, sampler], **others)

    with mock.patch.object(Devices, "fit", sampled_fit):
        train_and_export(config, folder.path)
    return sampler.samples


def evaluate(folder: Workdir, evaluations: int) -> list[dict[str, float]]:
    """Evaluates a run repeatedly and returns the samples."""
    return [(evaluate_workdir(folder.path), sample(folder))[1] for _ in range(evaluations)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--evaluations", type=int, default=50)
    parser.add_argument("--output", type=pathlib.Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Workdir(pathlib.Path(temporary) / "run")
        began = time.perf_counter()
        training = growth(train(folder, arguments.steps), "1000 steps", 1000 / STEPS_PER_EPOCH)
        trained = time.perf_counter()
        evaluating = growth(evaluate(folder, arguments.evaluations), "evaluation", 1.0)
        evaluated = time.perf_counter()
    result = {
        "steps": arguments.steps // STEPS_PER_EPOCH * STEPS_PER_EPOCH, "evaluations": arguments.evaluations,
        "bounds_mb": BOUNDS, "slack_mb": [SLACK, SHORT_SLACK], "training": training, "evaluating": evaluating,
        "training_seconds": round(trained - began, 1), "evaluating_seconds": round(evaluated - trained, 1),
        "device": device_name(), "versions": package_versions(),
    }  # fmt: skip
    if arguments.output:
        write_json(arguments.output, result)
    for name, measured in (("training", training), ("evaluating", evaluating)):
        print(name, {key: value for key, value in measured.items() if not isinstance(value, list)})
    if grown := training["too_much"] + evaluating["too_much"]:
        sys.exit(f"more than the bounds allow: {', '.join(grown)}")


if __name__ == "__main__":
    main()
