"""The classifiers that are trained here: functional Keras models from images in `[0, 1]` to logits.

They consist of Keras's own layers, so that `keras.models.load_model` loads a saved one without this package.
"""

import dataclasses
import functools
from collections.abc import Callable

import keras
import tensorflow as tf
from keras import layers

from aigan_tf.engine.keras_state import own_keras_state
from aigan_tf.engine.normalization import with_folded_batch_norm
from aigan_tf.engine.optimizers import CosineDecay
from aigan_tf.errors import InputError


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a classifier is trained, in batches of 128.

    Args:
        epochs: passes over the training data.
        learning_rate: peak of a one-cycle schedule.
        weight_decay: L2 coefficient of kernels (as in `loss + weight_decay / 2 * ||w||^2`).
        max_shift: images are shifted by up to this many pixels.
    """

    epochs: int
    learning_rate: float
    weight_decay: float = 5e-4
    max_shift: int = 0


@dataclasses.dataclass(frozen=True)
class Architecture:
    """A network: its layers, the smallest image side in pixels that it takes, and its recipe."""

    layers: Callable
    min_side: int
    recipe: Recipe


def _conv(filters, kernel_size, strides=1, padding="same"):
    return layers.Conv2D(
        filters, kernel_size, strides, padding=padding, activation="relu", kernel_initializer="he_normal"
    )


def _small(x, num_classes):
    """For 8 x 8 digits: three convolutions and a dense layer."""
    x = _conv(32, 3)(x)
    x = _conv(64, 3)(x)
    x = layers.MaxPooling2D()(x)
    x = _conv(64, 3)(x)
    x = layers.Flatten()(x)
    x = layers.Dense(128, activation="relu")(x)
    return layers.Dense(num_classes)(x)


def _model_a(x, num_classes):
    """Model A of the AdvGAN paper (arXiv 1801.02610, table 7)."""
    x = _conv(64, 5, padding="valid")(x)
    x = _conv(64, 5, padding="valid")(x)
    x = layers.Dropout(0.25)(x)
    x = layers.Flatten()(x)
    x = layers.Dense(128, activation="relu")(x)
    x = layers.Dropout(0.5)(x)
    return layers.Dense(num_classes)(x)


def _model_b(x, num_classes):
    """Model B of the AdvGAN paper."""
    x = _conv(64, 8, strides=2)(x)
    x = layers.Dropout(0.2)(x)
    x = _conv(128, 6, strides=2, padding="valid")(x)
    x = _conv(128, 5, padding="valid")(x)
    x = layers.Dropout(0.5)(x)
    x = layers.Flatten()(x)
    return layers.Dense(num_classes)(x)


def _model_c(x, num_classes):
    """Model C of the AdvGAN paper."""
    for filters in (32, 64):
        x = _conv(filters, 3, padding="valid")(x)
        x = _conv(filters, 3, padding="valid")(x)
        x = layers.MaxPooling2D()(x)
    x = layers.Flatten()(x)
    x = layers.Dense(200, activation="relu")(x)
    x = layers.Dense(200, activation="relu")(x)
    return layers.Dense(num_classes)(x)


def _batch_norm(x):
    # Momentum 0.9: with a few thousand steps in all, Keras's 0.99 lags behind the weights.
    return layers.BatchNormalization(momentum=0.9, epsilon=1e-5)(x)


def _plain_conv(x, filters, kernel_size=3, strides=1):
    """A convolution without bias or activation; a strided one pads symmetrically, as in the papers' code."""
    if strides > 1 and kernel_size > 1:
        x = layers.ZeroPadding2D(kernel_size // 2)(x)
    padding = "valid" if strides > 1 else "same"
    return layers.Conv2D(
        filters, kernel_size, strides, padding=padding, use_bias=False, kernel_initializer="he_normal"
    )(x)


def _resnet(blocks):
    """The CIFAR ResNet of He et al. (arXiv 1512.03385, section 4.2) with 6 * blocks + 2 layers."""

    def build(x, num_classes):
        x = layers.ReLU()(_batch_norm(_plain_conv(x, 16)))
        for filters in (16, 32, 64):
            for block in range(blocks):
                strides = 2 if filters > 16 and block == 0 else 1
                y = layers.ReLU()(_batch_norm(_plain_conv(x, filters, strides=strides)))
                y = _batch_norm(_plain_conv(y, filters))
                if strides == 2:  # option A: subsample, fill new channels with zeros; no parameters
                    x = layers.MaxPooling2D(1, strides=2, padding="same")(x)
                    x = keras.ops.pad(x, [[0, 0], [0, 0], [0, 0], [filters // 4, filters // 4]])
                x = layers.ReLU()(layers.Add()([x, y]))
        x = layers.GlobalAveragePooling2D()(x)
        return layers.Dense(num_classes)(x)

    return build


def _wide_resnet(blocks, width):
    """Wide-ResNet of Zagoruyko and Komodakis (arXiv 1605.07146) with 6 * blocks + 4 layers, pre-activation."""

    def build(x, num_classes):
        x = _plain_conv(x, 16)
        for filters in (16 * width, 32 * width, 64 * width):
            for block in range(blocks):
                strides = 2 if filters > 16 * width and block == 0 else 1
                y = layers.ReLU()(_batch_norm(x))
                if block == 0:
                    x = _plain_conv(y, filters, 1, strides)
                y = layers.ReLU()(_batch_norm(_plain_conv(y, filters, strides=strides)))
                x = layers.Add()([x, _plain_conv(y, filters)])
        x = layers.ReLU()(_batch_norm(x))
        x = layers.GlobalAveragePooling2D()(x)
        return layers.Dense(num_classes)(x)

    return build


# By the names of `config.ARCHITECTURES`.
ARCHITECTURES = {
    "small": Architecture(_small, 8, Recipe(epochs=40, learning_rate=0.05, weight_decay=5e-3, max_shift=1)),
    "a": Architecture(_model_a, 12, Recipe(epochs=3, learning_rate=0.05, max_shift=2)),
    "b": Architecture(_model_b, 27, Recipe(epochs=4, learning_rate=0.05, max_shift=2)),
    "c": Architecture(_model_c, 16, Recipe(epochs=4, learning_rate=0.05, max_shift=2)),
    "resnet20": Architecture(_resnet(3), 8, Recipe(epochs=30, learning_rate=0.1, max_shift=4)),
    "resnet32": Architecture(_resnet(5), 8, Recipe(epochs=30, learning_rate=0.1, max_shift=4)),
    "wrn34_10": Architecture(_wide_resnet(5, 10), 8, Recipe(epochs=100, learning_rate=0.1, max_shift=4)),
}


def fitting_architecture(name: str, image_shape: tuple[int, int, int], setting: str = "classifier") -> Architecture:
    """Returns the architecture of a name of `ARCHITECTURES`, in any case.

    Args:
        name: a key of `ARCHITECTURES`.
        image_shape: `(height, width, channels)`.
        setting: the setting that gave the name.

    Raises:
        InputError: the images are too small for it.
    """
    architecture = ARCHITECTURES[name.lower()]
    if min(image_shape[:2]) < architecture.min_side:
        raise InputError(
            name,
            f"images of at least {architecture.min_side} x {architecture.min_side} pixels",
            "choose small or resnet20",
            setting=setting,
            problem=f"got images of {image_shape[0]} x {image_shape[1]}",
        )
    return architecture


@own_keras_state()
def build(
    name: str,
    image_shape: tuple[int, int, int],
    num_classes: int,
    mean: tuple[float, ...] = (0.5,),
    std: tuple[float, ...] = (0.5,),
) -> keras.Model:
    """Builds an untrained classifier.

    Args:
        name: a key of `ARCHITECTURES`, in any case.
        image_shape: `(height, width, channels)`.
        num_classes: number of logits.
        mean, std: channel statistics of the training images in `[0, 1]`, by which the model normalises.

    Returns:
        A functional model from float32 `(batch, height, width, channels)` in `[0, 1]` to logits
        float32 `(batch, num_classes)`.

    Raises:
        InputError: the images are too small for the network.
    """
    architecture = fitting_architecture(name, image_shape)
    images = keras.Input(image_shape, name="images")
    x = layers.Normalization(mean=mean, variance=[value**2 for value in std])(images)
    return keras.Model(images, architecture.layers(x, num_classes), name=f"classifier_{name.lower()}")


def one_cycle(peak: float, total_steps: int) -> keras.optimizers.schedules.LearningRateSchedule:
    """Returns a schedule that rises linearly over the first fifth of the steps, then falls to zero as a cosine."""
    warmup = max(total_steps // 5, 1)
    return CosineDecay(
        initial_learning_rate=peak / 10,
        decay_steps=max(total_steps - warmup, 1),
        alpha=0.0,
        warmup_target=peak,
        warmup_steps=warmup,
    )


@own_keras_state()
def compile_for_training(model: keras.Model, recipe: Recipe, total_steps: int, soft: bool = False) -> None:
    """Compiles a classifier by its recipe: cross-entropy on logits, SGD with Nesterov momentum.

    Args:
        model: from images to logits.
        recipe: how it is trained.
        total_steps: length of the learning rate's schedule.
        soft: whether the labels are probabilities rather than classes.
    """
    loss = keras.losses.CategoricalCrossentropy if soft else keras.losses.SparseCategoricalCrossentropy
    accuracy = keras.metrics.CategoricalAccuracy if soft else keras.metrics.SparseCategoricalAccuracy
    momentum = 0.9
    optimizer = keras.optimizers.SGD(
        one_cycle(recipe.learning_rate, total_steps),
        momentum=momentum,
        nesterov=True,
        # Keras's decay is decoupled: unlike an L2 term, it is not accumulated by the momentum.
        weight_decay=recipe.weight_decay / (1 - momentum),
    )
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    model.compile(
        optimizer,
        loss(from_logits=True),
        metrics=[accuracy("accuracy")],  # made here: Keras would make it of the name during `fit`
        auto_scale_loss=False,  # adversarial training has steps of its own, which scale no loss
        jit_compile=False,  # XLA halves the speed of convolutions on a CPU
    )


def frozen(model: keras.Model) -> Callable[[tf.Tensor], tf.Tensor]:
    """Returns a model as attacks call it: images to logits, in inference mode (no dropout, fixed statistics).

    Batch normalisation is folded into convolutions where possible, with the weights of this moment.
    """
    return functools.partial(with_folded_batch_norm(model), training=False)
