"""Times a training step of each stage and the input pipeline: CIFAR-10's shapes, ResNet-20, batch 128.

    python benchmarks/step_time.py --output=docs/results/step_time.json

Run it while nothing else does. Weights and pixels are random: they do not change the time. Every
number is the median after a warm-up, blocked on the result, in float32 and as `--mixed_precision`
trains. Beside the steps stands the time of the classifier's forward and backward pass alone (what
one attack step cannot do without).
"""

import dataclasses
import json
import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

import aigan_tf  # noqa: F401 isort: skip (before TensorFlow: it sets oneDNN)
import keras
import numpy as np
import tensorflow as tf
from absl import app, flags

from aigan_tf import classifiers
from aigan_tf.batches import training_batches
from aigan_tf.building import build_aigan
from aigan_tf.callbacks import MixedPrecision
from aigan_tf.config import make_config
from aigan_tf.data import ImageDataset, Split
from aigan_tf.preparation import device_name

_OUTPUT = flags.DEFINE_string("output", "", "where to write the JSON; empty: only print")
_STEPS = flags.DEFINE_integer("steps", 10, "timed repetitions of each", lower_bound=1)

CLASSIFIER, STAGE_2, STAGE_1 = "classifier, forward and backward", "stage 2 step", "stage 1 step, 10 attack steps"
GOALS = {STAGE_2: 0.2, STAGE_1: 0.9}  # seconds, on two cores


def median_seconds(run, repetitions: int) -> float:
    """Returns the median time of `run()`, which must block on its result, after two warm-up calls."""
    times = []
    for _ in range(repetitions + 2):
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    return float(np.median(times[2:]))


def random_split(count: int) -> Split:
    """Returns `count` random CIFAR-sized images."""
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    return Split(images, generator.integers(0, 10, count, dtype=np.int32))


def step_seconds(config, dataset, classifier, batch) -> dict[str, float]:
    """Returns the median times of the classifier's pass and of a training step of each stage."""
    aigan = build_aigan(config, dataset, classifier, 10_000)

    @tf.function
    def classifier_pass(images):
        with tf.GradientTape() as tape:
            tape.watch(images)
            loss = tf.reduce_logsumexp(classifier(images))
        return tape.gradient(loss, images)

    step = tf.function(aigan.train_step)
    seconds = {}
    with MixedPrecision(config.mixed_precision):
        seconds[CLASSIFIER] = median_seconds(lambda: classifier_pass(batch[0]).numpy(), _STEPS.value)
        for stage, name in ((2, STAGE_2), (1, STAGE_1)):
            aigan.stage = stage
            seconds[name] = median_seconds(lambda: step(batch)["generator_loss"].numpy(), _STEPS.value)
    return seconds


def main(_):
    # The generator that the goals are about, of about 0.4 million parameters.
    config = make_config(dataset="cifar10", classifier="resnet20", attack_steps=10, generator_width=16)
    train = random_split(48_000)
    dataset = ImageDataset("random", tuple("0123456789"), train, random_split(10), random_split(10))
    keras.utils.set_random_seed(0)
    classifier = classifiers.frozen(classifiers.build("resnet20", dataset.image_shape, 10))
    batches = iter(training_batches(train, config.batch_size, 0, flip=config.flip))
    batch = next(batches)
    seconds = {
        name: step_seconds(dataclasses.replace(config, mixed_precision=mixed), dataset, classifier, batch)
        for name, mixed in (("float32", False), ("mixed precision", True))
    }
    input_seconds = median_seconds(lambda: next(batches)[0].numpy(), 50)
    result = {
        "device": device_name(),
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "batch_size": config.batch_size,
        "generator_parameters": build_aigan(config, dataset, classifier, 1).generator.count_params(),
        "seconds": seconds,
        "goals": GOALS,
        "input_seconds": input_seconds,
        "input_share_of_stage_2_step": {name: input_seconds / times[STAGE_2] for name, times in seconds.items()},
    }
    for name, goal in ((CLASSIFIER, None), *GOALS.items()):
        times = "  ".join(
            f"{times[name] * 1000:8.1f} ms{'' if goal is None else ' (met)' if times[name] <= goal else ' (missed)'}"
            for times in seconds.values()
        )
        print(f"{name:34s} {times}{'' if goal is None else f'  goal {goal} s'}")
    shares = ", ".join(f"{share:.1%} ({name})" for name, share in result["input_share_of_stage_2_step"].items())
    print(f"input, one batch: {input_seconds * 1000:.1f} ms, {shares} of a stage 2 step; {result['device']}")
    if _OUTPUT.value:
        pathlib.Path(_OUTPUT.value).write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    app.run(main)
