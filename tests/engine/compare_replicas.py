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
from aigan_tf.classifiers.features import features_of
from aigan_tf.data import datasets
from aigan_tf.data.batches import evaluation_batches, training_batches
from aigan_tf.engine import keras_state
from aigan_tf.engine.distribution import Devices
from aigan_tf.engine.optimizers import ConvolutionMuon
from aigan_tf.engine.precision import LossScaling
from aigan_tf.method.aigan import AIGAN
from aigan_tf.method.networks import Discriminator, Generator

BATCH = 32
STEPS = 4  # an epoch, of two


def attacker(classifier, images, targets, epsilon, seed):
    return tf.clip_by_value(1.0 - images, images - epsilon[0], images + epsilon[0])  # the same on any device


def trained(devices, digits, dtype, stage, steps, epochs, scaled=True, last=1.0):
    """Returns the weights and running statistics of both networks before and after, and the last epoch's logs.

    With Muon and loss scales as on a GPU, or by plain gradient descent. The last image of each batch, in the second half,
    is multiplied by `last`.
    """
    keras_state.DTYPE = dtype  # the networks do not follow keras.config
    keras.utils.set_random_seed(0)
    model = architectures.build("small", (8, 8, 1), 10)
    classifier, features = architectures.frozen(model), features_of(model, (8, 8, 1), [(8, 8), (4, 4)])
    with devices.strategy.scope():
        generator = Generator(10, 1, 8, halvings=1, num_blocks=0, features=features)
        aigan = AIGAN(generator, Discriminator(1, 8), classifier, 10)
        optimizers = keras.optimizers.SGD(0.05), keras.optimizers.SGD(0.05)
        if scaled:
            optimizers = LossScaling(ConvolutionMuon(0.05)), LossScaling(optimizers[1])
        weights = dict(
            gan_weight=0.1, hinge_weight=0.1, hinge_threshold=0.5, hard_targets=True, epsilon_factor=lambda step: 1.5
        )
        aigan.compile(*optimizers, 0.3, attacker, **weights)
        aigan.stage = stage

    def cast(images, labels):
        images = tf.cast(images, dtype)
        return tf.concat([images[:-1], images[-1:] * last], axis=0), labels

    variables = [*aigan.generator.trainable_variables, *aigan.discriminator.trainable_variables]
    if np.isfinite(last):  # else the running statistics of the batches, which hold what is not a number, are left out
        variables += [*aigan.generator.non_trainable_variables, aigan.failure_rates]
    before, logs = [variable.numpy() for variable in variables], {}
    watch = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, values: logs.update(values))

    def batches(first):
        return training_batches(digits.train, BATCH, seed=0, first_step=first).map(cast)

    # 149 images: the last batch cannot be halved.
    validation = evaluation_batches(digits.validation, 50).map(cast)
    devices.fit(aigan, batches, steps, 0, epochs, validation, [watch])
    return before, [variable.numpy() for variable in variables], {name: float(value) for name, value in logs.items()}


def distance(one, other):
    return float(np.max([np.abs(a - b).max() for a, b in zip(one, other, strict=True)]))  # NaN if one is


def main():
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    digits = datasets.load("digits")
    one, two = Devices("none"), Devices("mirrored")
    (before, after, logs), (_, other, other_logs) = (trained(on, digits, "float64", 2, STEPS, 2) for on in (one, two))
    result = {
        "replicas": two.replicas,
        "weights": distance(after, other),
        "moved": distance(before, after),
        "metrics": {name: [value, other_logs[name]] for name, value in logs.items()},
    }
    before, after, _ = trained(two, digits, "float32", 2, 1, 1, last=np.nan)
    result["overflow_weights"] = distance(before, after)
    steps = [trained(devices, digits, "float32", 1, 1, 1, scaled=False) for devices in (one, two)]
    # Of one step of gradient descent, so that the difference is the gradient; relative to each variable's largest. Smaller
    # differences are not compared: of weights near 0.5 float32 resolves them to 3e-8.
    gradients = [[after - before for before, after in zip(*run[:2], strict=True)] for run in steps]
    result["float32_gradients"] = max(
        float(np.abs(a - b).max() / np.abs(a).max()) for a, b in zip(*gradients, strict=True) if np.abs(a).max() > 3e-4
    )
    print(json.dumps(result))


if __name__ == "__main__":
    main()
