"""Saving and loading SavedModels without TensorFlow's log messages, and its errors in one line."""

import contextlib
import logging
import pathlib
import re
import tempfile
from collections.abc import Iterator, Mapping

import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2  # no public name; if it moves, importing this module fails

from aigan_tf.engine.file_errors import file_errors, plain_path
from aigan_tf.errors import graph_refusal


def save(module: tf.Module, path: pathlib.Path, signatures: Mapping) -> None:
    """`tf.saved_model.save` without its note on the folder, whose name is a temporary one."""
    with _logging_from(logging.WARNING, tf.get_logger()), file_errors():
        tf.saved_model.save(module, str(path), signatures=signatures)


def load(path: pathlib.Path):
    """`tf.saved_model.load` without the traceback it logs if a fingerprint cannot be read; also what Keras 2 saved."""
    with _logging_from(logging.CRITICAL, logging.getLogger("absl")), plain_path(path) as plain:
        try:
            return tf.saved_model.load(str(plain))
        except AttributeError as error:
            if "add_slot" not in str(error):
                raise
        with tempfile.TemporaryDirectory() as folder:
            _link_without_slots(path, pathlib.Path(folder))
            # Its checkpoint holds the slots still; TensorFlow would warn of each.
            return tf.saved_model.load(folder, options=tf.saved_model.LoadOptions(allow_partial_checkpoint=True))


def restore(path: pathlib.Path, **variables: list[tf.Variable]) -> None:
    """Sets variables to the values that a SavedModel has for them.

    Args:
        path: the SavedModel.
        **variables: by the attribute of the saved module that tracked them.
    """
    with plain_path(path) as plain:
        status = tf.train.Checkpoint(**variables).read(str(plain / "variables" / "variables"))
        status.assert_existing_objects_matched().expect_partial()


def _link_without_slots(source: pathlib.Path, folder: pathlib.Path) -> None:
    """Makes a folder that stands for a SavedModel of Keras 2 without the slots of its optimizer.

    Only an optimizer of Keras 2, which is not installed, could take them.
    """
    for entry in source.iterdir():
        if entry.name not in ("saved_model.pb", "fingerprint.pb"):
            (folder / entry.name).symlink_to(entry.absolute())
    saved = saved_model_pb2.SavedModel.FromString((source / "saved_model.pb").read_bytes())
    for graph in saved.meta_graphs:
        for node in graph.object_graph_def.nodes:
            node.ClearField("slot_variables")
    (folder / "saved_model.pb").write_bytes(saved.SerializeToString())


@contextlib.contextmanager
def _logging_from(level: int, logger: logging.Logger) -> Iterator[None]:
    before = logger.level
    logger.setLevel(level)
    try:
        yield
    finally:
        logger.setLevel(before)


def first_line(error: Exception) -> str:
    """Returns the first line of an error's message, without what Keras and TensorFlow add; at most 200 characters.

    Of a longer line, the whole sentences.
    """
    text = error.message if isinstance(error, tf.errors.OpError) else str(error)
    if of_keras := re.search(r"\x1b\[1m(.*?)\x1b\[0m", text, re.DOTALL):  # the call's arguments follow
        text = of_keras[1]
    elif isinstance(error, tf.errors.OpError):
        text = graph_refusal(text)
    text = re.sub(r"\{\{.*?\}\}", "", text.rsplit("Exception encountered: ", 1)[-1]).strip()
    lines = (text or type(error).__name__).replace("`", "'").splitlines()  # not the name of a setting
    line = lines[-1].strip() if lines[0] == "in user code:" else lines[0]  # AutoGraph's traceback
    return line if len(line) <= 200 else line[:200].rpartition(". ")[0] or line[:200]
