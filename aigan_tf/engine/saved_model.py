"""SavedModels, written and read without what TensorFlow logs on the way."""

import contextlib
import logging
import pathlib
import re
from collections.abc import Iterator, Mapping

import tensorflow as tf

from aigan_tf.engine.file_errors import file_errors
from aigan_tf.errors import graph_refusal
from aigan_tf.files import require_regular_file


def save(module: tf.Module, path: pathlib.Path, signatures: Mapping) -> None:
    """`tf.saved_model.save`, without a note on the folder, which is a temporary one."""
    with _logging_from(logging.WARNING, tf.get_logger()), file_errors():
        tf.saved_model.save(module, str(path), signatures=signatures)


def load(path: pathlib.Path):
    """`tf.saved_model.load`, without the traceback of a fingerprint that cannot be read."""
    for file in path.rglob("*"):
        if not file.is_dir():
            require_regular_file(file)
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


def first_line(error: Exception) -> str:
    """Returns what an error says, short enough for a message."""
    text = error.message if isinstance(error, tf.errors.OpError) else str(error)
    if of_keras := re.search(r"\x1b\[1m(.*?)\x1b\[0m", text, re.DOTALL):  # which goes on with the call's arguments
        text = of_keras[1]
    elif isinstance(error, tf.errors.OpError):
        text = graph_refusal(text)
    text = re.sub(r"\{\{.*?\}\}", "", text.rsplit("Exception encountered: ", 1)[-1]).strip()
    return (text or type(error).__name__).splitlines()[0][:200]
