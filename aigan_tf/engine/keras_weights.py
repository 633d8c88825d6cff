"""Bounds the weights that a model may have before they are made."""

import contextlib
import math
import threading
from collections.abc import Iterable, Iterator

import keras

_one_at_a_time = threading.RLock()


@contextlib.contextmanager
def at_most_weights(limit: int) -> Iterator[None]:
    """Within its block Keras's layers make at most `limit` numbers.

    `Layer.add_weight` is replaced: a layer makes its weights once it knows their shapes, long before Keras compares them
    with those of a file, and Keras tells nobody in between.

    Raises:
        ValueError: from the layer that asks for more.
    """
    with _one_at_a_time:
        add_weight, left = keras.Layer.add_weight, limit

        def counted(self, shape=None, *args, **kwargs):
            nonlocal left
            left -= math.prod(side or 0 for side in shape) if isinstance(shape, Iterable) else 1
            if left < 0:
                raise ValueError(f"it asks for more than {limit:,} weights, which the file does not store")
            return add_weight(self, shape, *args, **kwargs)

        keras.Layer.add_weight = counted
        try:
            yield
        finally:
            keras.Layer.add_weight = add_weight
