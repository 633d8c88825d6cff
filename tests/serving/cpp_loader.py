"""Compiles and runs run_signatures.cc: an export in TensorFlow's C++ runtime, which its pip package carries."""

import os
import pathlib
import shutil
import subprocess
from collections.abc import Mapping, Sequence

import tensorflow as tf
from tensorflow.core.framework.attr_value_pb2 import NameAttrList
from tensorflow.python.framework.test_util import IsMklEnabled

WHEEL = pathlib.Path(tf.__file__).parent


def what_is_missing() -> str | None:
    """Why the program cannot be compiled here; None if it can."""
    if not shutil.which("g++"):
        return "there is no C++ compiler, g++"
    return None if (WHEEL / "libtensorflow_cc.so.2").exists() else "this TensorFlow has no C++ library for Linux"


def compile_program(folder: pathlib.Path) -> pathlib.Path:
    """Returns the program; it takes 20 seconds of processor time."""
    path, source = folder / "run_signatures", pathlib.Path(__file__).with_name("run_signatures.cc")
    command = [
        "g++", "-std=c++17", "-w", "-D_GLIBCXX_USE_CXX11_ABI=1", "-DEIGEN_MAX_ALIGN_BYTES=64", f"-I{WHEEL}/include",
        source, "-o", path, f"-L{WHEEL}", "-Wl,--no-as-needed", "-l:libtensorflow_cc.so.2",
        "-l:libtensorflow_framework.so.2", f"-Wl,-rpath,{WHEEL}",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return path


def write_request(path: pathlib.Path, signature: str, inputs: Mapping) -> pathlib.Path:
    """Writes a request into a file, and returns its path."""
    request = NameAttrList(name=signature)
    for name, value in inputs.items():
        request.attr[name].tensor.CopyFrom(tf.make_tensor_proto(value, _DTYPES.get(name, tf.string)))
    path.write_bytes(request.SerializeToString())
    return path


def run(program: pathlib.Path, export: pathlib.Path, requests: Sequence[pathlib.Path]) -> list[float]:
    """Runs requests in one process, and returns the seconds of each; the answers lie beside the requests."""
    environment = os.environ | {"TF_ENABLE_ONEDNN_OPTS": str(int(IsMklEnabled()))}  # Python's kernels
    done = subprocess.run([program, export, *requests], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return [float(line) for line in done.stdout.split()]


def ask(
    program: pathlib.Path, export: pathlib.Path, requests: Sequence[tuple[str, Mapping]], folder: pathlib.Path
) -> list[dict | str]:
    """Returns for each request, a signature and its inputs, the outputs or the message of the refusal."""
    paths = [write_request(folder / str(number), *request) for number, request in enumerate(requests)]
    run(program, export, paths)
    answers = [NameAttrList.FromString(path.with_suffix(".answer").read_bytes()) for path in paths]
    return [
        answer.name or {name: tf.make_ndarray(value.tensor) for name, value in answer.attr.items()}
        for answer in answers
    ]


_DTYPES = {"images": tf.float32, "epsilon": tf.float32, "target_class": tf.int32, "label": tf.int32}
