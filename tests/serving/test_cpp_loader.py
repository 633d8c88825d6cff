"""The export in TensorFlow's C++ runtime, by the loader that TensorFlow Serving uses."""

import os
import pathlib
import shutil
import subprocess
import sysconfig

import numpy as np
import pytest
import tensorflow as tf
from served_example import BAD_REQUESTS, EPSILON, bad_request, files, floats
from tensorflow.core.framework.attr_value_pb2 import NameAttrList
from tensorflow.python.framework.test_util import IsMklEnabled
from tensorflow_serving.apis import prediction_log_pb2

from aigan_tf.errors import graph_refusal

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """The compiled program."""
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("there is no C++ compiler, g++")
    wheel = pathlib.Path(tf.__file__).parent
    if not [*wheel.glob("libtensorflow_cc.so.2")]:
        pytest.skip(f"TensorFlow for {sysconfig.get_platform()} has no libtensorflow_cc.so.2")
    path = tmp_path_factory.mktemp("program") / "run_signatures"
    command = [
        compiler, "-std=c++17", "-w", "-D_GLIBCXX_USE_CXX11_ABI=1", "-DEIGEN_MAX_ALIGN_BYTES=64", f"-I{wheel}/include",
        str(pathlib.Path(__file__).with_name("run_signatures.cc")), "-o", str(path), f"-L{wheel}", "-Wl,--no-as-needed",
        "-l:libtensorflow_cc.so.2", "-l:libtensorflow_framework.so.2", f"-Wl,-rpath,{wheel}",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return path


@pytest.fixture
def ask(program, exported, tmp_path):
    """Returns for each request, a signature and its inputs, the outputs or the message of the refusal."""

    def ask(requests):
        paths = [tmp_path / str(number) for number in range(len(requests))]
        for path, (signature, inputs) in zip(paths, requests, strict=True):
            request = NameAttrList(name=signature)
            for name, value in inputs.items():
                request.attr[name].tensor.CopyFrom(tf.make_tensor_proto(value, as_dtype(name)))
            path.write_bytes(request.SerializeToString())
        environment = os.environ | {"TF_ENABLE_ONEDNN_OPTS": str(int(IsMklEnabled()))}  # Python's kernels
        done = subprocess.run([program, exported, *paths], env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-2000:]
        answers = [NameAttrList.FromString(path.with_suffix(".answer").read_bytes()) for path in paths]
        return [one.name or {key: tf.make_ndarray(value.tensor) for key, value in one.attr.items()} for one in answers]

    return ask


def as_dtype(name):
    return {"images": tf.float32, "epsilon": tf.float32, "target_class": tf.int32}.get(name, tf.string)


def test_every_signature_and_warm_up_request_gives_what_python_gives(ask, exported, model):
    images = {"images": floats(), "target_class": [4, 0, 2]}
    requests = [
        ("serving_default", images), ("classify", images), ("with_epsilon", images | {"epsilon": [EPSILON / 2] * 3}),
        ("encoded", {"image_bytes": files(), "target_class": [4, 0, 2]}), ("class_number", {"class_name": ["dog", "4"]}),
    ]  # fmt: skip
    for record in tf.data.TFRecordDataset(str(exported / "assets.extra" / "tf_serving_warmup_requests")):
        request = prediction_log_pb2.PredictionLog.FromString(record.numpy()).predict_log.request
        inputs = {name: tf.make_ndarray(proto) for name, proto in request.inputs.items()}
        requests.append((request.model_spec.signature_name, inputs))
    assert {name for name, _ in requests[:5]} == {name for name, _ in requests[5:]} == set(model.loaded.signatures)
    for request, answer in zip(requests, ask(requests), strict=True):
        expected = model.run(*request)
        assert expected.keys() == answer.keys(), answer
        for name, value in expected.items():
            np.testing.assert_array_equal(answer[name], value)


def test_each_bad_request_is_refused_with_its_cause(ask):
    # Then a good one: a refusal does not end the server.
    requests = [bad_request(name, value) for name, value, _ in BAD_REQUESTS] + [bad_request("target_class", [0, 1, 2])]
    *refusals, answer = ask(requests)
    for (name, _, words), refusal in zip(BAD_REQUESTS, refusals, strict=True):
        assert isinstance(refusal, str), name
        assert all(word in graph_refusal(refusal) for word in words), refusal
    assert answer["adversarial_images"].shape == floats().shape
