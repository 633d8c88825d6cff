"""SavedModels, written and read without what TensorFlow logs on the way."""

import contextlib
import logging
import pathlib
from collections.abc import Iterator, Mapping

import tensorflow as tf

from aigan_tf.errors import refuse_pipe


def save(module: tf.Module, path: pathlib.Path, signatures: Mapping) -> None:
    """`tf.saved_model.save`, without a note on the folder, which is a temporary one."""
    with _logging_from(logging.WARNING, tf.get_logger()):
        tf.saved_model.save(module, str(path), signatures=signatures)


def load(path: pathlib.Path):
    """`tf.saved_model.load`, without the traceback of a fingerprint that cannot be read."""
    for file in path.rglob("*"):
        if not file.is_dir():
            refuse_pipe(file)
    with _logging_from(logging.CRITICAL, logging.getLogger("absl")):
        return tf.saved_model.load(str(path))


@contextlib.contextmanager
def _logging_from(level: int, logger: logging.Logger) -> Iterator[None]:
    before = logger.level
    logger.setLevel(level)
    try:
        yield
    finally:
        logger.setLevel(before)
