"""A generator and a classifier of 9 x 13 images: what the tests of serving export and ask."""

import keras
import numpy as np
import tensorflow as tf

from aigan_tf.method.networks import Generator

SHAPE = (9, 13, 3)
NAMES = ("cat", "dog", "a ship", "tree", "bird")
EPSILON = 8 / 255
PRESET = {"dataset": "pets", "epsilon": EPSILON}


def make_generator(num_classes=5, **arguments):
    """A generator whose weights are neither fresh statistics nor a head near zero."""
    keras.utils.set_random_seed(1)
    generator = Generator(num_classes, SHAPE[-1], width=4, num_blocks=1, **arguments)
    shake(generator, variances=(0.5, 2.0))
    return generator


def shake(generator, variances):
    """Moves all weights by noise; running variances are drawn between two values."""
    rng = np.random.default_rng(0)
    for variable in generator.variables:
        if "variance" in variable.path:
            variable.assign(rng.uniform(*variances, variable.shape))
        elif variable.dtype == "float32":
            variable.assign(variable + rng.normal(0.0, 0.1, variable.shape))


def classifier(images):
    """Logits of the mean colour; the last two are fixed."""
    return tf.concat([tf.reduce_mean(images, axis=[1, 2]), tf.ones((tf.shape(images)[0], 2)) * 0.4], axis=-1)


def pictures(count=3):
    """uint8 images."""
    return np.random.default_rng(0).integers(0, 256, (count, *SHAPE), np.uint8)


def floats(count=3):
    """The same images in [0, 1]."""
    return pictures(count).astype(np.float32) / 255


def files(count=3):
    """The same images as PNG files."""
    return [tf.io.encode_png(picture).numpy() for picture in pictures(count)]
