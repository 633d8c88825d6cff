"""Trains on the digits for long, then evaluates the export again and again, and sees that nothing grows. Linux only.

    python tests/long_run.py --steps=2000 --evaluations=50 --output=docs/results/long_run.json

Sampled are resident memory, open file handles, checkpoint files, and the bytes of logs and checkpoints, once an epoch
and once an evaluation; the first quarter of each is warm-up (graphs, allocators and thread pools are made then). Exits
with 1 if memory grows by more than `BOUNDS` and `SLACK`, or handles or checkpoints become more.
"""

import argparse
import gc
import os
import pathlib
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

import aigan_tf  # noqa: F401 isort: skip (before TensorFlow, which reads its settings on import)
import keras
import numpy as np

from aigan_tf import training
from aigan_tf.building import build_aigan
from aigan_tf.callbacks import StageSwitch
from aigan_tf.comparison import measure_export
from aigan_tf.config import make_config
from aigan_tf.preparation import device_name
from aigan_tf.workdir import Workdir, package_versions, write_json

STEPS_PER_EPOCH = 20
# MB. A leak of one evaluation's graphs would be about 20.
BOUNDS = {"1000 steps": 3.0, "evaluation": 0.5}
SLACK = 20.0  # MB that allocators take and give back, more than a short run's line could be fitted through


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
        "checkpoint_bytes": sum(file.stat().st_size for file in checkpoints),
        "log_bytes": sum(file.stat().st_size for file in logs),
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
    """Returns how each sampled value grew after the warm-up, memory and bytes by a fitted line, and whether that is too much."""
    steady = samples[len(samples) // 4 :]
    values = {name: np.array([row[name] for row in steady]) for name in steady[0]}
    slopes = {
        name: float(np.polyfit(np.arange(len(steady)), values[name], 1)[0] * samples_per_unit)
        for name in ("resident_mb", "log_bytes")
    }
    grown = values["resident_mb"][-1] - values["resident_mb"][0]
    more = {name: int(values[name][-1] - values[name][0]) for name in ("open_handles", "checkpoint_files")}
    return {
        f"resident_mb_per_{unit}": round(slopes["resident_mb"], 3),
        f"log_bytes_per_{unit}": round(slopes["log_bytes"]),
        **{f"{name}_more": count for name, count in more.items()},
        "too_much": bool(slopes["resident_mb"] > BOUNDS[unit] and grown > SLACK)
        or any(count > 0 for count in more.values()),
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
    with (
        tempfile.TemporaryDirectory() as temporary,
        training.open_run(config, pathlib.Path(temporary) / "run", None) as (folder, dataset, classifier, devices),
    ):
        began, sampler = time.perf_counter(), Sampler(folder)
        aigan = build_aigan(config, dataset, classifier, epochs * STEPS_PER_EPOCH)
        switch = StageSwitch(stage1_epochs, epochs, None, lambda: training.save_generator(aigan, folder.stage1_weights))
        training.fit(aigan, config, dataset, folder, epochs, devices, [switch, sampler])
        trained = time.perf_counter() - began
        training.export(aigan.generator, config, dataset, folder, None)
        began, samples = time.perf_counter(), []
        for _ in range(arguments.evaluations):
            measure_export(folder, config, dataset, classifier)
            samples.append(sample(folder))
        evaluated = time.perf_counter() - began
    result = {
        "steps": epochs * STEPS_PER_EPOCH,
        "evaluations": arguments.evaluations,
        "bounds_mb": BOUNDS,
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
    if result["training"]["too_much"] or result["evaluating"]["too_much"]:
        sys.exit("memory, handles or checkpoints grow by more than the bounds")


if __name__ == "__main__":
    main()
