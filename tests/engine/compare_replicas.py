"""Trains the same model on one device and on two halves of this CPU, and prints how far apart they end, as JSON.

    python tests/engine/compare_replicas.py

A process of its own, since a CPU is divided before TensorFlow computes anything.
"""

import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))

import aigan_tf  # noqa: F401 isort: skip (before TensorFlow: it sets oneDNN)
import keras
import numpy as np
import tensorflow as tf

from aigan_tf.classifiers import architectures
from aigan_tf.data import datasets
from aigan_tf.data.batches import evaluation_batches, training_batches
from aigan_tf.engine import keras_state
from aigan_tf.engine.distribution import Devices
from aigan_tf.engine.optimizers import ConvolutionMuon
from aigan_tf.engine.precision import LossScaling
from aigan_tf.method.aigan import AIGAN
from aigan_tf.method.networks import Discriminator, Generator

BATCH = 32
STEPS = 10  # an epoch, of two


def scaled(rate):
    """Gradient descent with a loss scale, as on a GPU."""
    return LossScaling(keras.optimizers.SGD(rate))


def trained(devices, digits, dtype, stage, steps, epochs, optimizer=keras.optimizers.SGD, nan=False):
    """Returns the weights of both networks before and after, and the last epoch's logs.

    With `nan` the last image of each batch, in the second half, is NaN.
    """
    keras_state.DTYPE = dtype  # the networks do not follow keras.config
    keras.utils.set_random_seed(3)
    classifier = architectures.frozen(architectures.build("small", (8, 8, 1), 10))

    def attacker(classifier, images, targets, epsilon, seed):
        return tf.clip_by_value(1.0 - images, images - epsilon[0], images + epsilon[0])  # the same on any device

    with devices.strategy.scope():
        keras.utils.set_random_seed(0)
        aigan = AIGAN(Generator(10, 1, 8, halvings=1, num_blocks=0), Discriminator(1, 8), classifier, 10)
        discriminator_optimizer = (scaled if optimizer is scaled else keras.optimizers.SGD)(0.05)
        aigan.compile(
            optimizer(0.05), discriminator_optimizer, 0.3, attacker, gan_weight=0.1, hinge_weight=0.1,
            hinge_threshold=0.5,
        )  # fmt: skip
        aigan.stage = stage

    def weights():
        return [*aigan.generator.get_weights(), *aigan.discriminator.get_weights()]

    def cast(images, labels):
        return tf.cast(images, dtype), labels

    def with_nan(images, labels):
        return tf.concat([images[:-1], images[-1:] * np.nan], axis=0) if nan else images, labels

    before, logs = weights(), {}
    watch = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, values: logs.update(values))
    devices.fit(
        aigan,
        lambda first: training_batches(digits.train, BATCH, seed=0, first_step=first).map(cast).map(with_nan),
        steps,
        0,
        epochs,
        # 149 images: the last batch cannot be halved.
        evaluation_batches(digits.validation, 50).map(cast),
        [watch],
    )
    return before, weights(), {name: float(value) for name, value in logs.items()}


def main():
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    digits = datasets.load("digits")
    one, two = Devices("none"), Devices("mirrored")
    result = {"replicas": two.replicas}
    optimizers = {"scaled": scaled, "muon": ConvolutionMuon, "sgd": keras.optimizers.SGD}
    for name, optimizer in optimizers.items():
        runs = [trained(devices, digits, "float64", 2, STEPS, 2, optimizer) for devices in (one, two)]
        (before, after, _), (_, other, _) = runs
        result[f"{name}_weights"] = max(float(np.abs(a - b).max()) for a, b in zip(after, other, strict=True))
        result[f"{name}_moved"] = max(float(np.abs(a - b).max()) for a, b in zip(before, after, strict=True))
    result["metrics"] = {name: [runs[0][2][name], runs[1][2][name]] for name in runs[0][2]}
    before, after, _ = trained(two, digits, "float32", 2, 2, 1, scaled, nan=True)
    result["overflow_weights"] = max(float(np.abs(a - b).max()) for a, b in zip(before, after, strict=True))
    steps = [trained(devices, digits, "float32", 1, 1, 1) for devices in (one, two)]
    # Of one step of gradient descent, so that the difference is the gradient; relative to each variable's largest.
    gradients = [[after - before for before, after in zip(*run[:2], strict=True)] for run in steps]
    result["float32_gradients"] = max(
        float(np.abs(a - b).max() / np.abs(a).max()) for a, b in zip(*gradients, strict=True) if np.abs(a).max() > 1e-4
    )
    print(json.dumps(result))


if __name__ == "__main__":
    main()
