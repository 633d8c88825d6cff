"""Keras's global state, which must not reach the package's own networks."""

import contextlib
from collections.abc import Iterator

import keras

DTYPE = "float32"  # of the package's networks


@contextlib.contextmanager
def own_keras_state() -> Iterator[None]:
    """Sets Keras's defaults (float32, channels last) inside the block and restores the caller's state afterwards.

    The package's networks, optimizers and metrics are made in such blocks, so that neither a notebook's `keras.config`
    nor keras.json changes them. A user's own classifier is loaded and called outside: it keeps its policy.
    Also a decorator: `@own_keras_state()`.
    """
    floatx, data_format = keras.config.floatx(), keras.config.image_data_format()
    policy = keras.config.dtype_policy()
    _set(DTYPE, "channels_last", DTYPE)
    try:
        yield
    finally:
        _set(floatx, data_format, policy)


def _set(floatx, data_format, policy):
    keras.config.set_floatx(floatx)
    keras.config.set_image_data_format(data_format)
    keras.config.set_dtype_policy(policy)
