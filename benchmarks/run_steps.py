"""Times a training step of each stage with the settings of runs, so that runs of different machines can be compared.

    python benchmarks/run_steps.py docs/results/cifar10 docs/results/archive/cifar10_0_1 \\
      --output=docs/results/performance/run_steps.json

Run it while nothing else does. Pixels and weights are random, which does not change the time. Every number is the median
after a warm-up, blocked on the result, each run in a process of its own.
"""

import json
import pathlib
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

import timing  # isort: skip (before TensorFlow: the package sets oneDNN)
import numpy as np
import tensorflow as tf
from absl import app, flags

from aigan_tf.build import build_aigan, map_sizes
from aigan_tf.classifiers import architectures
from aigan_tf.classifiers.features import features_of
from aigan_tf.config import make_config
from aigan_tf.data.datasets import ImageDataset
from aigan_tf.data.splits import Split
from aigan_tf.engine.precision import MixedPrecision
from tools.performance import run_steps_table
from tools.runs import BEFORE, Run, changed_settings, read_run

_OUTPUT = flags.DEFINE_string("output", "", "file for the JSON; empty: only print")
_STEPS = flags.DEFINE_integer("steps", 20, "timed repetitions of each", lower_bound=1)
_ONLY = flags.DEFINE_bool("only", False, "measure the one run in this process")

IMAGE_SHAPE = (32, 32, 3)  # of CIFAR


def measured(run: Run) -> dict[str, float]:
    """Returns the seconds of a step of each stage of a run on CIFAR."""
    num_classes = len(run.report["success_by_class"])
    settings = {name: (BEFORE | run.config)[name] for name in changed_settings(run.config) if name != "classifier"}
    config = make_config(dataset=run.data_set, **settings)
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (config.batch_size, *IMAGE_SHAPE), dtype=np.uint8)
    split = Split(pixels, generator.integers(0, num_classes, config.batch_size, dtype=np.int32))
    dataset = ImageDataset("random", tuple(map(str, range(num_classes))), split, split, split)
    model = architectures.build(config.classifier, IMAGE_SHAPE, num_classes)
    features = features_of(model, IMAGE_SHAPE, map_sizes(config, IMAGE_SHAPE)) if config.classifier_features else None
    aigan = build_aigan(config, dataset, architectures.frozen(model), 10_000, features=features)
    batches = iter(tf.data.Dataset.from_tensors((split.as_float(), split.labels)).repeat())
    seconds = {}
    with MixedPrecision(config.mixed_precision, (aigan.generator, aigan.discriminator)):
        aigan.make_train_function()
        for stage in (1, 2):
            aigan.stage = stage
            step = lambda: float(aigan.train_function(batches)["generator_loss"])  # noqa: E731
            seconds[str(stage)] = timing.median_seconds(step, _STEPS.value)
    return seconds


def main(arguments):
    if _ONLY.value:
        print(json.dumps(measured(read_run(pathlib.Path(arguments[1])))))
        return
    runs = {}
    for folder in arguments[1:]:
        own_process = subprocess.run(
            [sys.executable, __file__, folder, "--only", f"--steps={_STEPS.value}"], capture_output=True, text=True
        )
        if own_process.returncode:
            sys.exit(own_process.stderr)
        runs[pathlib.Path(folder).name] = json.loads(own_process.stdout.splitlines()[-1])
    print(run_steps_table(runs))
    timing.save({"runs": runs}, _OUTPUT.value)


if __name__ == "__main__":
    app.run(main)
