"""Saving and loading SavedModels without TensorFlow's log messages, and its errors in one line."""

import contextlib
import logging
import pathlib
import re
from collections.abc import Iterator, Mapping

import tensorflow as tf

from aigan_tf.engine.file_errors import file_errors, plain_path
from aigan_tf.errors import graph_refusal


def save(module: tf.Module, path: pathlib.Path, signatures: Mapping) -> None:
    """`tf.saved_model.save` without its note on the folder, whose name is a temporary one."""
    with _logging_from(logging.WARNING, tf.get_logger()), file_errors():
        tf.saved_model.save(module, str(path), signatures=signatures)


def load(path: pathlib.Path):
    """`tf.saved_model.load` without the traceback it logs if a fingerprint cannot be read."""
    with _logging_from(logging.CRITICAL, logging.getLogger("absl")), plain_path(path) as plain:
        return tf.saved_model.load(str(plain))


@contextlib.contextmanager
def _logging_from(level: int, logger: logging.Logger) -> Iterator[None]:
    before = logger.level
    logger.setLevel(level)
    try:
        yield
    finally:
        logger.setLevel(before)


def first_line(error: Exception) -> str:
    """Returns the first line of an error's message, without what Keras and TensorFlow add; at most 200 characters."""
    text = error.message if isinstance(error, tf.errors.OpError) else str(error)
    if of_keras := re.search(r"\x1b\[1m(.*?)\x1b\[0m", text, re.DOTALL):  # the call's arguments follow
        text = of_keras[1]
    elif isinstance(error, tf.errors.OpError):
        text = graph_refusal(text)
    text = re.sub(r"\{\{.*?\}\}", "", text.rsplit("Exception encountered: ", 1)[-1]).strip()
    return (text or type(error).__name__).splitlines()[0][:200]
