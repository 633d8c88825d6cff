"""What is drawn for each image: its target class and its budget."""

import tensorflow as tf

from aigan_tf.engine.replicas import own_rows


def draw_target_classes(labels: tf.Tensor, num_classes: int, seed: tf.Tensor) -> tf.Tensor:
    """Draws a target for each image, uniformly from the classes other than its label.

    Args:
        labels: int32 `(batch,)`.
        num_classes: at least 2.
        seed: two integers that decide the draw.

    Returns:
        int32 `(batch,)`.
    """
    steps = own_rows(lambda n: tf.random.stateless_uniform((n,), seed, 1, num_classes, tf.int32), tf.size(labels))
    return (labels + steps) % num_classes


def spread_target_classes(labels: tf.Tensor, num_classes: int) -> tf.Tensor:
    """Gives the images of a batch the other classes in turn: the same targets at every evaluation.

    Args:
        labels: int32 `(batch,)`.
        num_classes: at least 2.

    Returns:
        int32 `(batch,)`, never the label.
    """
    rows = own_rows(tf.range, tf.size(labels))
    return (labels + 1 + rows % (num_classes - 1)) % num_classes


def draw_epsilons(count: tf.Tensor, greatest: float, seed: tf.Tensor) -> tf.Tensor:
    """Draws a budget for each image: half of them the greatest, the others uniform below it.

    Half, since the greatest budget is where the generator is measured first, and small ones teach it least.

    Args:
        count: int scalar, how many.
        greatest: the largest epsilon.
        seed: two integers that decide the draw.

    Returns:
        float32 `(count,)` in `(0, greatest]`.
    """
    # 1 - u lies in (0, 1]: a budget of zero would have no attack.
    drawn = own_rows(lambda n: tf.random.stateless_uniform((n,), seed), count)
    return greatest * tf.minimum(2.0 * (1.0 - drawn), 1.0)
