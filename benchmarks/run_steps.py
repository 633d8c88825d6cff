"""Times a training step of each stage with the settings of runs, so that runs of different machines can be compared.

    python benchmarks/run_steps.py docs/results/archive/cifar10_{0_1,one_block} docs/results/cifar10 \\
      --output=docs/results/performance/run_steps.json

Run it while nothing else does. Pixels and weights are random, which does not change the time. Every number is the median
after a warm-up, blocked on the result, each run in a process of its own.
"""

import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

import timing  # isort: skip (before TensorFlow: the package sets oneDNN)
import tensorflow as tf
from absl import app, flags
from random_data import random_aigan

from aigan_tf.classifiers import architectures
from aigan_tf.config import make_config
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
    model = architectures.build(config.classifier, IMAGE_SHAPE, num_classes)
    aigan, batch = random_aigan(config, model, IMAGE_SHAPE, num_classes)
    batches = iter(tf.data.Dataset.from_tensors((batch.as_float(), batch.labels)).repeat())
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
    steps = f"--steps={_STEPS.value}"
    runs = {pathlib.Path(folder).name: timing.in_its_own_process(folder, "--only", steps) for folder in arguments[1:]}
    print(run_steps_table(runs))
    timing.save({"runs": runs}, _OUTPUT.value)


if __name__ == "__main__":
    app.run(main)
