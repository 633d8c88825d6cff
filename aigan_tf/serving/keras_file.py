"""The generator as a Keras file, which `keras.saving.load_model` reads once `aigan_tf.method.networks` is imported."""

import pathlib

import tensorflow as tf

from aigan_tf.engine.keras_graph import all_layers
from aigan_tf.files import atomic_file
from aigan_tf.method.networks import ConditionalBlock, UpsampledConvolution
from aigan_tf.serving.export import ServedGenerator

NAME = "model.keras"


def write_keras(folder: pathlib.Path, served: ServedGenerator) -> pathlib.Path:
    """Writes the network, images and classes to directions in units of the budget, and returns the file's path.

    The network of a run that is shipped is only there as it is served, with its normalisation in its kernels, so it is taken
    from `served`, which cannot be used afterwards.

    Raises:
        InputError: the file cannot be written.
    """
    path = folder / NAME
    for layer in all_layers(served.network):
        if isinstance(layer, ConditionalBlock):
            _unfold(layer)
    with atomic_file(path) as temporary:
        served.network.save(temporary)
    return path


def _unfold(block):
    """Gives a block, whose normalisation `fold` has put into its kernels, weights that compute the same without that."""
    kernel, *kept, shift = block.folded
    if isinstance(block.conv, UpsampledConvolution):
        for axis in (0, 1):  # four taps of two pixels are k0, k0 + k1, k1 + k2, k2
            first, both, _, last = tf.unstack(kernel, axis=axis)
            kernel = tf.stack([first, both - first, last], axis=axis)
        kernel = tf.concat([tf.reverse(tf.transpose(kernel, [0, 1, 3, 2]), [0, 1]), *kept], axis=2)
    block.conv.kernel.assign(kernel)
    block.norm.moving_mean.assign(-shift)
    block.norm.moving_variance.assign(tf.fill(shift.shape, 1.0 - block.norm.epsilon))
    block.folded = None
