"""Small models and data that the tests share."""

import functools
import shutil
import sys
import traceback

import aigan_tf  # noqa: F401 isort: skip (before TensorFlow, which reads its settings on import)
import keras
import numpy as np
import pytest
import tensorflow as tf

from aigan_tf.data import datasets
from aigan_tf.method.aigan import AIGAN
from aigan_tf.method.networks import Discriminator, Generator
from aigan_tf.method.pgd import pgd_attack


def refuse_deprecated(record) -> bool:
    """A log filter: raises if TensorFlow reports that this package uses something deprecated."""
    if "is deprecated" in record.getMessage():
        modules = (frame.f_globals["__name__"] for frame, _ in traceback.walk_stack(sys._getframe(1)))
        user = next(module for module in modules if module.split(".")[0] not in ("logging", "tensorflow"))
        if user.split(".")[0] == "aigan_tf":
            raise DeprecationWarning(f"{user}: {record.getMessage()}")
    return True


pytest.register_assert_rewrite("tiny_runs")

# TensorFlow logs deprecations in place of warnings, which filterwarnings in pyproject.toml would see.
tf.get_logger().addFilter(refuse_deprecated)


@pytest.fixture(scope="session")
def digits() -> datasets.ImageDataset:
    """The embedded data set: 8 x 8 x 1 images, ten classes."""
    return datasets.load("digits")


@pytest.fixture(scope="session")
def batch(digits):
    """Sixteen training digits: images float32 `(16, 8, 8, 1)` in `[0, 1]`, many pixels at 0 and at 1; their labels."""
    split = digits.train.take(slice(0, 16))
    return split.as_float(), split.labels


@pytest.fixture(scope="session")
def make_classifier():
    """A factory of tiny functional classifiers with random weights, batch normalisation and dropout."""

    def make(seed=0):
        keras.utils.set_random_seed(seed)
        images = keras.Input((8, 8, 1))
        x = keras.layers.Conv2D(4, 3, 2, padding="same")(images)
        norm = keras.layers.BatchNormalization()
        x = keras.layers.ReLU()(norm(x))
        x = keras.layers.Flatten()(x)
        x = keras.layers.Dropout(0.5)(x)
        model = keras.Model(images, keras.layers.Dense(10)(x))
        norm.moving_mean.assign(np.linspace(-0.2, 0.2, 4))  # would reveal the use of the batch's statistics
        norm.moving_variance.assign(np.linspace(0.5, 2.0, 4))
        return model

    return make


@pytest.fixture(scope="session")
def digit_classifier(digits) -> keras.Model:
    """A linear classifier of digits without training: the nearest class mean, about 90 % accurate."""
    images = digits.train.as_float().reshape(len(digits.train), -1)
    means = np.stack([images[digits.train.labels == k].mean(axis=0) for k in range(10)])
    inputs = keras.Input((8, 8, 1))
    dense = keras.layers.Dense(10)
    model = keras.Model(inputs, dense(keras.layers.Flatten()(inputs)))
    dense.set_weights([means.T, -0.5 * (means**2).sum(axis=1)])
    return model


@pytest.fixture(scope="session")
def make_aigan(make_classifier):
    """A factory of compiled AIGAN models on tiny networks.

    Missing parts are created: networks with weights from `weights_seed`, a classifier with dropout and batch
    normalisation, an attacker of two steps. Other arguments go to `compile`.
    """

    def make(classifier=None, generator=None, attack="targeted", seed=0, weights_seed=0, **compile_arguments):
        classifier = classifier or make_classifier()
        keras.utils.set_random_seed(weights_seed)
        generator = generator or Generator(10, 1, width=4, num_blocks=1, embedding_dim=8)
        aigan = AIGAN(generator, Discriminator(1, width=4), classifier, 10, attack, seed)
        attacker_settings = dict(epsilon=0.3, step_size=0.2, num_steps=2, targeted=attack == "targeted")
        defaults = {
            "generator_optimizer": keras.optimizers.Adam(1e-2, beta_1=0.5),
            "discriminator_optimizer": keras.optimizers.Adam(1e-2, beta_1=0.5),
            "epsilon": 0.3,
            "attacker": functools.partial(pgd_attack, **attacker_settings),
        }
        aigan.compile(**{**defaults, **compile_arguments})
        return aigan

    return make


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """An uninterrupted tiny run: its folder and its report; beside it what a kill at some moments would have left."""
    from tiny_runs import finish  # here, since it imports the whole package, which most tests do without

    folder = tmp_path_factory.mktemp("finished") / "run"
    return folder, finish(folder)


@pytest.fixture
def run_folder(finished, tmp_path):
    """A copy of the finished run's folder, to be changed."""
    return shutil.copytree(finished[0], tmp_path / "run")
