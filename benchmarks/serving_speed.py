"""Times a served generator: the engines that run its formats, TensorFlow's C++ runtime, and requests over REST and gRPC.

    python benchmarks/serving_speed.py --workdir=pretrained/cifar10 --output=docs/results/performance/serving.json

Run it while nothing else does, after `python -m aigan_tf export WORKDIR --format=onnx`. The C++ runtime is that of
tests/serving/run_signatures.cc, which needs g++; REST and gRPC are the stand-in server of the tests, on loopback. Needs
requirements-dev.txt.
"""

import os
import pathlib
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "tests" / "serving"))

import timing  # isort: skip (before TensorFlow: the package sets oneDNN)
import cpp_loader
import numpy as np
import onnxruntime
import openvino
import serving_double
import tensorflow as tf
from absl import app, flags

from aigan_tf.exported import read_export_info
from aigan_tf.serving.connections import GrpcServer, RestServer
from aigan_tf.serving.onnx_file import NAME
from tools.markdown import table

_WORKDIR = flags.DEFINE_string("workdir", "pretrained/cifar10", "folder of a finished run")
_OUTPUT = flags.DEFINE_string("output", "", "file for the JSON; empty: only print")

BATCHES = (1, 8, 64)
REPETITIONS = 40


def network_inputs(info, count):
    images = np.random.default_rng(0).uniform(0.0, 1.0, (count, *info.image_shape)).astype(np.float32)
    return {"images": images, "target_class": np.arange(count, dtype=np.int32) % len(info.class_names)}


def file_inputs(info, count):
    pictures = (255 * network_inputs(info, count)["images"]).astype(np.uint8)
    files = [tf.io.encode_png(picture).numpy() for picture in pictures]
    return {"image_bytes": files, "target_class": [number % len(info.class_names) for number in range(count)]}


def engines(info):
    """Returns by name what computes adversarial images of `network_inputs`."""
    signature = tf.saved_model.load(str(info.version)).signatures["serving_default"]
    path = str(info.path / NAME)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    compiled = openvino.compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return {
        "TensorFlow, Python": lambda inputs: signature(**{name: tf.constant(inputs[name]) for name in inputs}),
        "onnxruntime": lambda inputs: session.run(["adversarial_images"], inputs),
        "OpenVINO": lambda inputs: compiled(inputs)[0],
    }


def in_cpp(info, signature, inputs_of, program, folder):
    """Returns the median seconds of each batch size in TensorFlow's C++ runtime."""
    found = {}
    for count in BATCHES:
        requests = [(signature, inputs_of(info, count))] * (REPETITIONS + 5)
        found[count] = float(np.median(cpp_loader.ask(program, info.version, requests, folder)[1][5:]))
    return found


def timed(run, inputs_of, info):
    """Returns the median seconds of `run` for each batch size."""
    found = {}
    for count in BATCHES:
        inputs = inputs_of(info, count)
        found[count] = timing.median_seconds(lambda inputs=inputs: run(inputs), REPETITIONS, warm_up=5)
    return found


def main(_):
    info = read_export_info(_WORKDIR.value, "workdir")
    rows = {name: timed(run, network_inputs, info) for name, run in engines(info).items()}
    with tempfile.TemporaryDirectory() as folder:
        program = cpp_loader.compile_program(pathlib.Path(folder))
        rows["TensorFlow, C++"] = in_cpp(info, "serving_default", network_inputs, program, pathlib.Path(folder))
        rows["PNG files, C++"] = in_cpp(info, "encoded", file_inputs, program, pathlib.Path(folder))
    model = serving_double.Model(info.version)
    protocols = {"gRPC": (serving_double.grpc_server, GrpcServer), "REST": (serving_double.rest_server, RestServer)}
    for name, (serve, connection) in protocols.items():
        with serve(model) as address:
            server = connection(address)
            rows[f"PNG files, {name}"] = timed(lambda inputs, s=server: s.predict("encoded", inputs), file_inputs, info)
    shown = [
        (name, *(f"{1000 * seconds:.1f} ms, {count / seconds:,.0f}" for count, seconds in row.items()))
        for name, row in rows.items()
    ]
    print(table(("", *(f"batch {count}: latency, images per second" for count in BATCHES)), shown))
    result = {
        "cores": len(os.sched_getaffinity(0)),
        "image_shape": info.image_shape,
        "versions": {"onnxruntime": onnxruntime.__version__, "openvino": openvino.__version__},
        "seconds": rows,
    }
    timing.save(result, _OUTPUT.value)


if __name__ == "__main__":
    app.run(main)
