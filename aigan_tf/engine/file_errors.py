"""TensorFlow's errors about files, as the errors of the system that they were, and paths it takes for patterns."""

import contextlib
import errno
import os
import pathlib
import tempfile
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


@contextlib.contextmanager
def plain_path(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yields a path of a folder from which TensorFlow can read a checkpoint or a SavedModel.

    Its readers look for files that match the path, in which `[`, `]` and a backslash are special. A temporary link without
    them leads to the same folder.
    """
    if not {"[", "]", "\\"} & {*str(folder)} - {os.sep}:
        yield folder
        return
    with tempfile.TemporaryDirectory() as temporary:
        link = pathlib.Path(temporary) / "link"
        link.symlink_to(folder.absolute(), target_is_directory=True)
        yield link
