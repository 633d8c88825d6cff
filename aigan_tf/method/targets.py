"""What is drawn for each image of a step: its target class and its budget."""

from collections.abc import Sequence

import tensorflow as tf

from aigan_tf.engine.replicas import replica_rows


def draw_targets(labels: tf.Tensor, num_classes: int, seed: tf.Tensor, weights: tf.Tensor | None = None) -> tf.Tensor:
    """Draws a target class for each image from the classes other than its label.

    Args:
        labels: int32 `(batch,)`.
        num_classes: at least 2.
        seed: two integers that decide the draw.
        weights: float32 `(batch, num_classes)`, not negative: how much more often one class is drawn than another; None
            for all as often.

    Returns:
        int32 `(batch,)`, the label only where no other class has a weight.
    """
    count = tf.size(labels)
    if weights is None:
        steps = replica_rows(lambda n: tf.random.stateless_uniform((n,), seed, 1, num_classes, tf.int32), count)
        return (labels + steps) % num_classes
    # The first of random times, exponentially distributed with the weights as rates.
    draws = replica_rows(lambda n: tf.random.stateless_uniform((n, num_classes), seed, dtype=weights.dtype), count)
    times = -tf.math.log(draws) / weights
    is_label = tf.one_hot(labels, num_classes, on_value=True, off_value=False, dtype=tf.bool)
    return tf.argmin(tf.where(is_label, times.dtype.max, times), axis=-1, output_type=tf.int32)


def spread_targets(labels: tf.Tensor, classes: Sequence[int]) -> tf.Tensor:
    """Assigns other classes in turn to the images of a batch, so that every evaluation has the same targets.

    Args:
        labels: int32 `(batch,)`.
        classes: the numbers of those that are assigned, each once.

    Returns:
        int32 `(batch,)`, the label only where it is the only class.
    """
    is_label = labels[:, tf.newaxis] == tf.constant(classes)
    others = len(classes) - tf.reduce_sum(tf.cast(is_label, tf.int32), axis=-1)
    after_label = tf.argmax(is_label, axis=-1, output_type=tf.int32) + 1
    turn = after_label + replica_rows(tf.range, tf.size(labels)) % tf.maximum(others, 1)
    return tf.gather(classes, turn % len(classes))


def draw_epsilons(count: tf.Tensor, max_epsilon: float, seed: tf.Tensor) -> tf.Tensor:
    """Draws a budget for each image: the largest for about half of them, uniform below it for the others.

    Half, since the generator is measured at the largest budget first, and small budgets teach it least.

    Args:
        count: int scalar, number of images.
        max_epsilon: the largest budget, a fraction of the pixel range.
        seed: two integers that decide the draw.

    Returns:
        float32 `(count,)` in `(0, max_epsilon]`.
    """
    # 1 - u lies in (0, 1]: a budget of zero would have no attack.
    drawn = replica_rows(lambda n: tf.random.stateless_uniform((n,), seed), count)
    return max_epsilon * tf.minimum(2.0 * (1.0 - drawn), 1.0)
