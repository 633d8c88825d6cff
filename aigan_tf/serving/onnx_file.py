"""The generator as an ONNX file, for runtimes other than TensorFlow."""

import json
import logging
import pathlib
from collections.abc import Mapping

import tensorflow as tf

from aigan_tf.files import write_bytes
from aigan_tf.serving.export import ServedGenerator

NAME = "generator.onnx"
OPSET = 17  # the newest that both tf2onnx and the runtimes of the last years know


def write_onnx(folder: pathlib.Path, served: ServedGenerator, preset: Mapping) -> pathlib.Path:
    """Writes images and classes to adversarial images, and returns the file's path.

    Inputs have the names and shapes of the signature serving_default, or of with_epsilon if the generator takes budgets.
    ONNX has no assertions, so nothing is checked. The model's metadata hold `preset`, the class names and the
    classes that are served.

    Raises:
        InputError: the file cannot be written.
    """
    import onnx
    import tf2onnx

    def attack(*inputs):
        return {"adversarial_images": served.attack(*inputs)}

    specs = served.input_specs()
    logging.getLogger("tf2onnx").setLevel(logging.WARNING)
    model, _ = tf2onnx.convert.from_function(tf.function(attack), specs, opset=OPSET)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    properties = {
        "preset": json.dumps({**preset, "classes": served.classes}),
        "class_names": json.dumps(served.class_names),
    }
    onnx.helper.set_model_props(model, properties)
    write_bytes(folder / NAME, model.SerializeToString())
    return folder / NAME
