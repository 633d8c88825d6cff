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
    """A filter of log records: raises where TensorFlow says that this package uses something deprecated."""
    if "is deprecated" in record.getMessage():
        modules = (frame.f_globals["__name__"] for frame, _ in traceback.walk_stack(sys._getframe(1)))
        user = next(module for module in modules if module.split(".")[0] not in ("logging", "tensorflow"))
        if user.split(".")[0] == "aigan_tf":
            raise DeprecationWarning(f"{user}: {record.getMessage()}")
    return True


pytest.register_assert_rewrite("runs")

# TensorFlow logs such notes where others warn, so that filterwarnings in pyproject.toml does not see them.
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
    """A factory of tiny functional classifiers with random weights, with batch normalisation and dropout."""

    def make(image_shape=(8, 8, 1), num_classes=10, seed=0):
        keras.utils.set_random_seed(seed)
        images = keras.Input(image_shape)
        x = keras.layers.Conv2D(4, 3, 2, padding="same")(images)
        norm = keras.layers.BatchNormalization()
        x = keras.layers.ReLU()(norm(x))
        x = keras.layers.Flatten()(x)
        x = keras.layers.Dropout(0.5)(x)
        model = keras.Model(images, keras.layers.Dense(num_classes)(x))
        norm.moving_mean.assign(np.linspace(-0.2, 0.2, 4))  # so that use of the batch's statistics would show
        norm.moving_variance.assign(np.linspace(0.5, 2.0, 4))
        return model

    return make


@pytest.fixture(scope="session")
def digit_classifier(digits) -> keras.Model:
    """A linear classifier that knows the digits without training: the nearest class mean, about 90 % right."""
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

    Whatever is not given is made anew: networks with weights from `weights_seed`, a classifier with
    dropout and batch normalisation, an attacker of two steps. Other arguments go to `compile`.
    """

    def make(
        classifier=None,
        generator=None,
        discriminator=None,
        num_classes=10,
        channels=1,
        attack="targeted",
        seed=0,
        weights_seed=0,
        **compile_arguments,
    ):
        classifier = classifier or make_classifier((8, 8, channels), num_classes)
        keras.utils.set_random_seed(weights_seed)
        generator = generator or Generator(num_classes, channels, width=4, num_blocks=1, embedding_dim=8)
        discriminator = discriminator or Discriminator(channels, width=4)
        aigan = AIGAN(generator, discriminator, classifier, num_classes, attack, seed)
        defaults = {
            "generator_optimizer": keras.optimizers.Adam(1e-2, beta_1=0.5),
            "discriminator_optimizer": keras.optimizers.Adam(1e-2, beta_1=0.5),
            "epsilon": 0.3,
            "attacker": functools.partial(
                pgd_attack, epsilon=0.3, step_size=0.2, num_steps=2, targeted=attack == "targeted"
            ),
        }
        aigan.compile(**{**defaults, **compile_arguments})
        return aigan

    return make


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """An uninterrupted tiny run: its folder and its report; beside it what a kill at some moments would have left."""
    from runs import finish  # here, since it imports the whole package, which most tests do without

    folder = tmp_path_factory.mktemp("finished") / "run"
    return folder, finish(folder)


@pytest.fixture
def run_folder(finished, tmp_path):
    """A copy of the finished run's folder, to be changed."""
    return shutil.copytree(finished[0], tmp_path / "run")
