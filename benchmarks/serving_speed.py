"""Times a generator as it is served: by the engines that run its formats, in TensorFlow's C++ runtime, over REST and gRPC.

    taskset -c 0,1 python benchmarks/serving_speed.py --output=docs/results/performance/serving.json
    python benchmarks/serving_speed.py --seconds=0 --batches 1 8  # tries everything, for numbers that mean nothing
    python benchmarks/serving_speed.py --page  # writes the tables of docs/serving.md from that file

Run it while nothing else does; it takes a few minutes and uses the cores that it is given. It exports `--workdir` itself. The
C++ runtime is that of tests/serving/run_signatures.cc, which needs g++; REST and gRPC are the stand-in server of the
tests, on loopback, asked by one client, one request after the other. Needs requirements-dev.txt.
"""

import argparse
import json
import os
import pathlib
import sys
import tempfile
import time
import types
from collections.abc import Callable

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "tests" / "serving"))

import numpy as np

from tools.markdown import replace_section, table
from tools.runs import ROOT

RESULT, PAGE, SECTION = ROOT / "docs/results/performance/serving.json", ROOT / "docs/serving.md", "speed"
SCRIPT = "benchmarks/serving_speed.py"
LARGEST_REQUEST = 64
Timing = dict[int, float]  # median seconds by batch size


def measure(run: Callable[[int], object], batches: list[int], seconds: float) -> Timing:
    """Returns the median time of `run(batch size)`, which must block on its result."""
    import timing

    found = {}
    for count in batches:
        run(count)  # traces, compiles
        began = time.perf_counter()
        run(count)
        repetitions = _repetitions(time.perf_counter() - began, seconds)
        found[count] = timing.median_seconds(lambda count=count: run(count), repetitions)
    return found


def _repetitions(once: float, seconds: float) -> int:
    return int(np.clip(seconds / once, 5, 1000))


def export(workdir: str, folder: pathlib.Path) -> types.SimpleNamespace:
    """Exports a run's generator once more, in each format; the weights are those of its newest SavedModel."""
    from aigan_tf.build import build_generator
    from aigan_tf.exported import read_export_info
    from aigan_tf.serving.export import ServedGenerator, export_generator
    from aigan_tf.serving.keras_file import write_keras
    from aigan_tf.serving.onnx_file import write_onnx
    from aigan_tf.workdir import Workdir, config_of

    info, config = read_export_info(workdir, "workdir"), config_of(Workdir(workdir))
    names, shape = info.class_names, info.image_shape
    network = build_generator(config, types.SimpleNamespace(num_classes=len(names), image_shape=shape))
    served = ServedGenerator(network, shape, names, info.epsilon, info.targeted)
    served.restore(info.version)
    version, onnx_file = export_generator(folder / "generator", served, {}), write_onnx(folder, served, {})
    made = dict(version=version, onnx=onnx_file, keras=write_keras(folder, served))  # last: it uses `served` up
    return types.SimpleNamespace(
        **made, shape=shape, classes=info.classes, class_input=served.class_input, epsilon=info.epsilon
    )


def images_and_classes(exported: types.SimpleNamespace, count: int) -> dict[str, np.ndarray]:
    """Returns the inputs of the signature serving_default."""
    images = np.random.default_rng(0).uniform(0.0, 1.0, (count, *exported.shape)).astype(np.float32)
    return {"images": images, exported.class_input: np.resize(exported.classes, count).astype(np.int32)}


def files_and_classes(exported: types.SimpleNamespace, count: int) -> dict[str, list]:
    """Returns the inputs of the signature encoded."""
    import tensorflow as tf

    images, classes = images_and_classes(exported, count).values()
    files = [tf.io.encode_png((255 * image).astype(np.uint8)).numpy() for image in images]
    return {"image_bytes": files, exported.class_input: classes.tolist()}


def engines(exported: types.SimpleNamespace) -> dict[str, Callable[[dict], object]]:
    """Returns by name what computes adversarial images from `images_and_classes`."""
    import aigan_tf.method.networks  # noqa: F401 isort: skip (registers the classes of the Keras file)
    import keras
    import onnxruntime
    import openvino
    import tensorflow as tf

    from aigan_tf.method.threat_model import perturb

    cores = len(os.sched_getaffinity(0))
    signature = tf.saved_model.load(str(exported.version)).signatures["serving_default"]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = cores  # of its own accord it counts the cores of the machine
    session = onnxruntime.InferenceSession(str(exported.onnx), options, providers=["CPUExecutionProvider"])
    compiled = openvino.compile_model(
        exported.onnx, "CPU", {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": cores}
    )
    network = keras.saving.load_model(exported.keras)

    @tf.function(reduce_retracing=True)
    def attack(images, targets):
        return perturb(network, images, targets, tf.fill(tf.shape(targets), exported.epsilon), exported.epsilon)[1]

    return {
        "TensorFlow, SavedModel": lambda inputs: signature(**{name: tf.constant(inputs[name]) for name in inputs}),
        "TensorFlow, .keras": lambda inputs: attack(*map(tf.constant, inputs.values())),
        "onnxruntime": lambda inputs: session.run(["adversarial_images"], inputs),
        "OpenVINO": lambda inputs: compiled(inputs)[0],
    }


def measure_cpp(program, exported, signature, inputs_of, batches, seconds) -> Timing:
    """Returns the median time of a signature in TensorFlow's C++ runtime, without reading and writing tensors."""
    import cpp_loader

    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for count in batches:
            request = cpp_loader.write_request(pathlib.Path(folder, str(count)), signature, inputs_of(exported, count))
            first = cpp_loader.run(program, exported.version, [request] * 3)
            times = cpp_loader.run(program, exported.version, [request] * (2 + _repetitions(first[-1], seconds)))
            found[count] = float(np.median(times[2:]))
    return found


def measure_servers(exported, batches, seconds) -> dict[str, Timing]:
    """Returns the median times of requests to the stand-in server, by protocol."""
    import serving_double

    from aigan_tf.serving.connections import GrpcServer, RestServer

    model, found = serving_double.Model(exported.version), {}
    protocols = {"gRPC": (serving_double.grpc_server, GrpcServer), "REST": (serving_double.rest_server, RestServer)}
    requests = {count: files_and_classes(exported, count) for count in batches}
    for name, (serve, connection) in protocols.items():
        with serve(model) as address:
            server = connection(address)
            found[name] = measure(lambda count, s=server: s.predict("encoded", requests[count]), batches, seconds)
    return found


def measure_all(workdir: str, batches: list[int], seconds: float) -> dict:
    """Returns the times of all engines and servers, with what they depend on."""
    import timing  # isort: skip (before TensorFlow: the package sets oneDNN)
    import cpp_loader
    import onnxruntime
    import openvino

    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        exported, program = export(workdir, folder), cpp_loader.compile_program(folder)
        inputs = {count: images_and_classes(exported, count) for count in batches}
        times = {
            name: measure(lambda count, run=run: run(inputs[count]), batches, seconds)
            for name, run in engines(exported).items()
        }
        cpp = lambda *given: measure_cpp(program, exported, *given, seconds)  # noqa: E731
        times["TensorFlow, C++"] = cpp("serving_default", images_and_classes, batches)
        small = [count for count in batches if count <= LARGEST_REQUEST]
        servers = {"C++ runtime, no network": cpp("encoded", files_and_classes, small)}
        servers |= measure_servers(exported, small, seconds)
    return {
        "workdir": workdir,
        "image_shape": exported.shape,
        "machine": timing.machine()
        | {"onnxruntime": onnxruntime.__version__, "openvino": openvino.__version__.split("-")[0]},
        "engines": times,
        "servers": servers,
    }


def tables(result: dict) -> str:
    """Returns a result as the section of docs/serving.md."""
    machine, (height, width, channels) = result["machine"], result["image_shape"]
    versions = ", ".join(f"{name} {machine[name]}" for name in ("tensorflow", "onnxruntime", "openvino"))
    return (
        f"`{result['workdir']}`, images of {height} x {width} x {channels}, float32; {machine['device']} "
        f"({machine['processor']}), {versions}. {_fastest(result['engines'])} Milliseconds per call (median), and images "
        f"per second:\n\n{_table('engine', result['engines'], _images_per_second)}\n"
        "The signature `encoded`, PNG files in and out, one client, one request after the other. Milliseconds per request "
        f"(median), and requests per second:\n\n{_table('server', result['servers'], _requests_per_second)}"
    )


def _fastest(times: dict[str, Timing]) -> str:
    """Returns a sentence with the fastest engine at each batch size."""
    winners = {}
    for count in next(iter(times.values())):
        winners.setdefault(min(times, key=lambda name, count=count: times[name][count]), []).append(str(count))
    return f"Fastest: {'; '.join(f'{name} at batch {_listed(counts)}' for name, counts in winners.items())}."


def _listed(counts: list[str]) -> str:
    return " and ".join(filter(None, (", ".join(counts[:-1]), counts[-1])))


def _images_per_second(count: int, seconds: float) -> str:
    return f"{1000 * seconds:.1f}, {count / seconds:,.0f}"


def _requests_per_second(count: int, seconds: float) -> str:
    return f"{1000 * seconds:.1f}, {1 / seconds:,.0f}"


def _table(first_column: str, times: dict[str, Timing], cell: Callable[[int, float], str]) -> str:
    rows = [(name, *(cell(int(count), seconds) for count, seconds in row.items())) for name, row in times.items()]
    return table((first_column, *(f"batch {count}" for count in next(iter(times.values())))), rows)


def section() -> str:
    """Returns what docs/serving.md has between its markers."""
    return tables(json.loads(RESULT.read_text())) if RESULT.exists() else "It has not been measured yet.\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", default="pretrained/cifar10", help="folder of a finished run")
    parser.add_argument("--output", default="", help="file for the JSON; left out: only print")
    sizes = "batch sizes; servers are asked for those up to 64"
    parser.add_argument("--batches", type=int, nargs="*", default=[1, 8, 64, 256], help=sizes)
    parser.add_argument("--seconds", type=float, default=3.0, help="how long each of about thirty measurements lasts")
    parser.add_argument("--page", action="store_true", help="only write the section of docs/serving.md")
    given = parser.parse_args()
    if not given.page:
        result = measure_all(given.workdir, given.batches, given.seconds)
        print(tables(result))
        if not given.output:
            return
        import timing

        timing.save(result, given.output)
    replace_section(PAGE, SECTION, section(), SCRIPT)


if __name__ == "__main__":
    main()
