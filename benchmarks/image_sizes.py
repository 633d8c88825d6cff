"""Times a pair of image and target in stage 2 at several image sizes, the classifier's own share, and measures the memory.

    python benchmarks/image_sizes.py --output=docs/results/performance/image_sizes.json

Run it while nothing else does. The settings are those that data of one's own gets at that size, the classifier is
MobileNetV2 (Keras, 3.5 million weights); weights and pixels are random, which does not change the time. Every number is the
median after a warm-up, blocked on the result, each size in two processes of its own, without and with
`--classifier_features`, computed as `--mixed_precision` does. The classifier's share is one pass through it and back to the
images, without which no gradient tells what to change.
"""

import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

import timing  # isort: skip (before TensorFlow: the package sets oneDNN)
import keras
import tensorflow as tf
from absl import app, flags
from peak_memory import tensors_mib
from random_data import random_aigan

from aigan_tf.config import make_config
from aigan_tf.engine.precision import MixedPrecision
from tools.performance import image_sizes_table

_OUTPUT = flags.DEFINE_string("output", "", "file for the JSON; empty: only print")
_STEPS = flags.DEFINE_integer("steps", 10, "timed repetitions of each", lower_bound=1)
_SIZES = flags.DEFINE_list("sizes", ["32", "64", "128", "160", "224"], "heights and widths in pixels, by comma")
_CLASSES = flags.DEFINE_integer("classes", 100, "number of classes", lower_bound=2)
_ONLY = flags.DEFINE_integer("only", 0, "measure this size in this process", lower_bound=0)
_FEATURES = flags.DEFINE_bool("features", False, "with `--only`: let the generator see the classifier's maps")


def measured(side: int) -> dict[str, float]:
    """Returns the seconds of a pair, of the classifier's part of it, and the peak memory of a step in MiB."""
    config = make_config(dataset="images", mixed_precision=True, classifier_features=_FEATURES.value)
    config = config.fitted((side, side, 3), 10**6)
    keras.utils.set_random_seed(0)
    model = keras.applications.MobileNetV2(
        (side, side, 3), weights=None, classes=_CLASSES.value, classifier_activation=None
    )
    aigan, split = random_aigan(config, model, (side, side, 3), _CLASSES.value)
    aigan.stage = 2
    batch = tf.constant(split.as_float()), tf.constant(split.labels)
    step = tf.function(aigan.train_step)

    @tf.function
    def classify(images):
        with tf.GradientTape() as tape:
            tape.watch(images)
            loss = tf.reduce_logsumexp(aigan.classifier(images))
        return tape.gradient(loss, images)

    with MixedPrecision(True, (aigan.generator, aigan.discriminator)):
        seconds = timing.median_seconds(lambda: step(batch)["generator_loss"].numpy(), _STEPS.value)
        peak = tensors_mib(lambda: step(batch)["generator_loss"].numpy())
        own = timing.median_seconds(lambda: classify(batch[0]).numpy(), _STEPS.value)
    return {
        "batch_size": config.batch_size,
        "patch": config.generator_patch,
        "seconds": seconds / config.batch_size,
        "classifier_seconds": own / config.batch_size,
        "peak_mib": peak / config.batch_size,
    }


def main(_):
    if _ONLY.value:
        print(json.dumps(measured(_ONLY.value)))
        return
    sizes = {}
    for side in _SIZES.value:
        sizes[side] = {}
        for name, features in (("plain", "--nofeatures"), ("with_features", "--features")):
            sizes[side][name] = timing.in_its_own_process(*sys.argv[1:], f"--only={side}", features)
    print(image_sizes_table(sizes))
    timing.save({"classes": _CLASSES.value, "sizes": sizes}, _OUTPUT.value)


if __name__ == "__main__":
    app.run(main)
