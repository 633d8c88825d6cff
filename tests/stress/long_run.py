"""Trains on the digits for long, evaluates the export repeatedly, and checks that memory and files stop growing.

    python tests/stress/long_run.py --steps=2000 --evaluations=50 --output=docs/results/long_run.json

Sampled once per epoch and once per evaluation: resident memory, open file handles, the number of checkpoint files, and
the bytes of logs. The first quarter of the samples is warm-up, in which graphs, allocators and thread
pools are made. Exits with 1 if a value grows by more than `BOUNDS` and `SLACK`. Linux only.
"""

import argparse
import gc
import json
import os
import pathlib
import sys
import tempfile
from unittest import mock

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))

import aigan_tf  # noqa: F401 isort: skip (before TensorFlow, which reads its settings on import)
import keras
import numpy as np
from tiny_runs import tiny

from aigan_tf.engine.distribution import Devices
from aigan_tf.evaluation.compare import evaluate_workdir
from aigan_tf.files import write_json
from aigan_tf.provenance import device_name, package_versions
from aigan_tf.training.run import train_and_export
from aigan_tf.workdir import Workdir

STEPS_PER_EPOCH = 20
# Allowed growth; that of memory and logs in MB. The graphs of one evaluation take about 20.
BOUNDS = {
    "1000 steps": {"resident_mb": 3.0, "log_mb": 0.3, "checkpoint_files": 0.0, "open_handles": 0.0},
    "evaluation": {"resident_mb": 0.5, "log_mb": 0.0, "checkpoint_files": 0.0, "open_handles": 0.0},
}
# MB of memory that allocators take and give back; in a short run they are still filling.
SLACK, SHORT_SLACK = 4.0, 20.0
SHORT = 30  # a run with fewer samples after its warm-up is short


def sample(folder: Workdir) -> dict[str, float]:
    """Returns what must not grow."""
    gc.collect()  # graphs are cycles of references, which Python frees later
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    return {
        "resident_mb": pages * os.sysconf("SC_PAGE_SIZE") / 1e6,
        "open_handles": len(os.listdir("/proc/self/fd")),
        "checkpoint_files": len([*folder.checkpoints.rglob("*")]),
        "log_mb": sum(file.stat().st_size for file in folder.logs.rglob("events.*")) / 1e6,
    }


def growth(samples: list[dict[str, float]], unit: str, samples_per_unit: float) -> dict:
    """Returns how each sampled value grew after the warm-up, and which values grew too much.

    Growth is the difference between the medians of the last and the first third, since memory fluctuates.
    """
    steady = samples[len(samples) // 4 :]
    third = -(-len(steady) // 3)
    result, too_much = {"resident_mb": [round(row["resident_mb"], 1) for row in samples]}, []
    for name, bound in BOUNDS[unit].items():
        values = [row[name] for row in steady]
        grown = float(np.median(values[-third:]) - np.median(values[:third]))
        per_unit = grown / (len(steady) - third) * samples_per_unit
        slack = 0.001 if name != "resident_mb" else SHORT_SLACK if len(steady) < SHORT else SLACK
        if per_unit > bound and grown > slack:
            too_much.append(name)
        result |= {f"{name}_per_{unit}": round(per_unit, 3), f"{name}_grown": round(grown, 3)}
    return result | {"too_much": too_much}


def train(folder: Workdir, steps: int) -> list[dict[str, float]]:
    """Trains a run and returns a sample per epoch."""
    epochs = steps // STEPS_PER_EPOCH
    stage1_epochs = epochs // 8  # the graphs of both stages belong to the warm-up
    config = tiny(
        classifier_epochs=3, stage1_epochs=stage1_epochs, stage2_epochs=epochs - stage1_epochs,
        steps_per_epoch=STEPS_PER_EPOCH,
    )  # fmt: skip
    samples, fit = [], Devices.fit
    sampler = keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: samples.append(sample(folder)))

    def sampled_fit(*arguments, callbacks, **others):
        return fit(*arguments, callbacks=[*callbacks, sampler], **others)

    with mock.patch.object(Devices, "fit", sampled_fit):
        train_and_export(config, folder.path)
    return samples


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--evaluations", type=int, default=50)
    parser.add_argument("--output", type=pathlib.Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Workdir(pathlib.Path(temporary) / "run")
        training = growth(train(folder, arguments.steps), "1000 steps", 1000 / STEPS_PER_EPOCH)
        samples = [(evaluate_workdir(folder.path), sample(folder))[1] for _ in range(arguments.evaluations)]
        evaluating = growth(samples, "evaluation", 1.0)
    result = {
        "steps": arguments.steps, "evaluations": arguments.evaluations, "bounds": BOUNDS,
        "slack_mb": [SLACK, SHORT_SLACK], "training": training, "evaluating": evaluating,
        "device": device_name(), "versions": package_versions(),
    }  # fmt: skip
    print(json.dumps(result, indent=2))
    if arguments.output:
        write_json(arguments.output, result)
    if grown := training["too_much"] + evaluating["too_much"]:
        sys.exit(f"more than the bounds allow: {', '.join(grown)}")


if __name__ == "__main__":
    main()
