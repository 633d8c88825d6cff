"""Requests that TensorFlow Serving replays when it loads a model, so that no client waits for the first run."""

import pathlib
from collections.abc import Mapping

import tensorflow as tf


def write_requests(version: pathlib.Path, requests: Mapping[str, Mapping[str, tf.Tensor]]) -> None:
    """Writes assets.extra/tf_serving_warmup_requests into an exported version.

    Needs the package tensorflow-serving-api, whose messages they are; without it nothing is written, and a
    line says so: the model serves all the same, its first request takes longer.

    Args:
        version: folder of the SavedModel.
        requests: signature to inputs by name.
    """
    try:
        from tensorflow_serving.apis import predict_pb2, prediction_log_pb2
    except ImportError:
        print(
            "No warm-up requests for TensorFlow Serving in the export; they need pip install tensorflow-serving-api.",
            flush=True,
        )
        return
    folder = version / "assets.extra"
    folder.mkdir()
    with tf.io.TFRecordWriter(str(folder / "tf_serving_warmup_requests")) as writer:
        for signature, inputs in requests.items():
            request = predict_pb2.PredictRequest()
            request.model_spec.name = "aigan"
            request.model_spec.signature_name = signature
            for name, value in inputs.items():
                request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
            log = prediction_log_pb2.PredictionLog(predict_log=prediction_log_pb2.PredictLog(request=request))
            writer.write(log.SerializeToString())
