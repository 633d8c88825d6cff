"""Requests that TensorFlow Serving replays when it loads a model, so that no client waits for the first run."""

import pathlib
from collections.abc import Mapping

import tensorflow as tf

from aigan_tf.serving.connections import MODEL
from aigan_tf.serving.messages import PredictionLog


def write_requests(version: pathlib.Path, requests: Mapping[str, Mapping[str, tf.Tensor]]) -> None:
    """Writes assets.extra/tf_serving_warmup_requests into an exported version.

    Args:
        version: folder of the SavedModel.
        requests: signature to inputs by name.
    """
    folder = version / "assets.extra"
    folder.mkdir()
    with tf.io.TFRecordWriter(str(folder / "tf_serving_warmup_requests")) as writer:
        for signature, inputs in requests.items():
            log = PredictionLog()
            request = log.predict_log.request
            request.model_spec.name = MODEL
            request.model_spec.signature_name = signature
            for name, value in inputs.items():
                request.inputs.add(key=name).value.MergeFromString(tf.make_tensor_proto(value).SerializeToString())
            writer.write(log.SerializeToString())
