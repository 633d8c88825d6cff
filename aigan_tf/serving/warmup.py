"""Requests that TensorFlow Serving replays when it loads a model, so that no client waits for the first run."""

import pathlib
from collections.abc import Mapping

import tensorflow as tf

from aigan_tf.errors import say
from aigan_tf.serving.client import MODEL


def write_requests(version: pathlib.Path, requests: Mapping[str, Mapping[str, tf.Tensor]]) -> None:
    """Writes assets.extra/tf_serving_warmup_requests into an exported version.

    Needs the package tensorflow-serving-api. Without it nothing is written but a printed line: the model is served all the
    same, and its first request takes longer.

    Args:
        version: folder of the SavedModel.
        requests: signature to inputs by name.
    """
    try:
        from tensorflow_serving.apis import predict_pb2, prediction_log_pb2
    except ImportError:
        say("The export has no warm-up requests for TensorFlow Serving, which need pip install tensorflow-serving-api.")
        return
    folder = version / "assets.extra"
    folder.mkdir()
    with tf.io.TFRecordWriter(str(folder / "tf_serving_warmup_requests")) as writer:
        for signature, inputs in requests.items():
            request = predict_pb2.PredictRequest()
            request.model_spec.name = MODEL
            request.model_spec.signature_name = signature
            for name, value in inputs.items():
                request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
            log = prediction_log_pb2.PredictionLog(predict_log=prediction_log_pb2.PredictLog(request=request))
            writer.write(log.SerializeToString())
