"""From what a classifier puts out to logits: probabilities are taken back to what their last operation took.

Attacks need logits. Saturated probabilities leave them without gradients.
"""

import enum

import numpy as np
import tensorflow as tf

from aigan_tf.engine.traced_graph import ends_in, input_of_last

# The logarithm of the smallest normal float32 is finite, and so is its gradient.
LEAST_PROBABILITY = float(np.finfo(np.float32).tiny)
GREATEST_PROBABILITY = 1.0 - float(np.finfo(np.float32).epsneg)


class Outputs(enum.Enum):
    """What a classifier's outputs are; the value is what it is called in messages."""

    LOGITS = "logits"
    SOFTMAX = "probabilities that sum to one"
    SIGMOID = "independent probabilities"


LAST_OPERATION = {Outputs.SOFTMAX: "Softmax", Outputs.SIGMOID: "Sigmoid"}


def kind_of_outputs(outputs: np.ndarray) -> Outputs:
    """Returns what outputs `(n, num_classes)` or, of a binary classifier, `(n, 1)` are, told by their values."""
    if outputs.min() < 0 or outputs.max() > 1 + 1e-3:
        return Outputs.LOGITS
    if outputs.shape[-1] > 1 and np.allclose(outputs.sum(axis=-1), 1, atol=1e-3):
        return Outputs.SOFTMAX
    # ReLU and one-hot answers lie in [0, 1] too, if they are small; a sigmoid's are hardly ever 0 or 1 alone.
    return Outputs.SIGMOID if np.any((outputs > 0) & (outputs < 1)) else Outputs.LOGITS


def shows_logits(outputs: tf.Tensor, kind: Outputs) -> bool:
    """Whether the graph of symbolic outputs `(batch, n)` shows what probabilities were made of."""
    return kind in LAST_OPERATION and ends_in(LAST_OPERATION[kind], outputs)


def logits_of(outputs: tf.Tensor, kind: Outputs) -> tf.Tensor:
    """Returns logits, float32 `(batch, num_classes)`: in a graph what probabilities were made of, if it shows that."""
    if tf.inside_function() and shows_logits(outputs, kind):
        return _for_two_classes(tf.cast(input_of_last(outputs), tf.float32))
    return logits_by_arithmetic(outputs, kind)


def logits_by_arithmetic(outputs: tf.Tensor, kind: Outputs) -> tf.Tensor:
    """Returns logits computed from outputs; those of probabilities have a gradient as far as float32 tells them from 0 and 1."""
    outputs = tf.cast(outputs, tf.float32)
    if kind is Outputs.LOGITS:
        return _for_two_classes(outputs)
    outputs = tf.maximum(outputs, LEAST_PROBABILITY)
    if kind is Outputs.SOFTMAX:
        return tf.math.log(outputs)
    return _for_two_classes(tf.math.log(outputs) - tf.math.log1p(-tf.minimum(outputs, GREATEST_PROBABILITY)))


def _for_two_classes(logits: tf.Tensor) -> tf.Tensor:
    """Returns logits `(batch, num_classes)`; a single one z, of a binary classifier, becomes `(0, z)`."""
    return tf.concat([tf.zeros_like(logits), logits], axis=-1) if logits.shape[-1] == 1 else logits
