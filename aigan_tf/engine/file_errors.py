"""TensorFlow's errors about files, as the errors of the system that they were."""

import contextlib
import errno
import os
from collections.abc import Iterator

import tensorflow as tf

_ERRNO = {
    tf.errors.ResourceExhaustedError: errno.ENOSPC,
    tf.errors.OutOfRangeError: errno.EFBIG,
    tf.errors.PermissionDeniedError: errno.EACCES,
}


@contextlib.contextmanager
def file_errors() -> Iterator[None]:
    """Raises an OSError for TensorFlow's error if a file cannot be written within the block.

    TensorFlow removes an unfinished file, so that the disk has room again before anybody can look. For blocks that only
    write: TensorFlow raises the same kinds for memory and for the end of a data set.
    """
    try:
        yield
    except tuple(_ERRNO) as error:
        number = _ERRNO[type(error)]
        raise OSError(number, os.strerror(number)) from error
