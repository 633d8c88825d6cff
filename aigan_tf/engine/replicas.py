"""The part of a batch that a device trains on if several train together."""

from collections.abc import Callable

import tensorflow as tf


def replica() -> tuple[int, int | tf.Tensor]:
    """Returns the number of replicas (devices) that train together, and this one's index; `(1, 0)` outside `strategy.run`."""
    context = tf.distribute.get_replica_context()
    return (1, 0) if context is None else (context.num_replicas_in_sync, context.replica_id_in_sync_group)


def sum_over_replicas(value: tf.Tensor) -> tf.Tensor:
    """Returns the sum of a tensor that each replica has one of; `value` if there is only one."""
    if replica()[0] == 1:
        return value
    return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, value)


def replica_rows(draw: Callable[[tf.Tensor], tf.Tensor], count: tf.Tensor) -> tf.Tensor:
    """Returns this replica's `count` rows of what `draw` returns for the whole batch: the rows one device would have."""
    number, own = replica()
    if number == 1:
        return draw(count)
    counts = tf.distribute.get_replica_context().all_gather(tf.reshape(count, (1,)), axis=0)  # the last has fewer
    first = tf.reduce_sum(counts[:own])
    return draw(tf.reduce_sum(counts))[first : first + count]


def replica_seed(seed: tf.Tensor) -> tf.Tensor:
    """Returns the seed (two integers) of what this replica draws by itself; `seed` if there is only one."""
    number, own = replica()
    return seed if number == 1 else tf.random.split(seed, number)[own]
