"""The export in TensorFlow's C++ runtime, by the loader that TensorFlow Serving uses."""

import cpp_loader
import numpy as np
import pytest
import tensorflow as tf
from served_example import BAD_REQUESTS, EPSILON, bad_request, files, floats
from tensorflow_serving.apis import prediction_log_pb2

from aigan_tf.errors import graph_refusal

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    if missing := cpp_loader.what_is_missing():
        pytest.skip(missing)
    return cpp_loader.compile_program(tmp_path_factory.mktemp("program"))


@pytest.fixture
def ask(program, exported, tmp_path):
    return lambda requests: cpp_loader.ask(program, exported, requests, tmp_path)


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
            if value.dtype == np.float32:  # the whole graph is optimised at once, which rounds otherwise
                np.testing.assert_allclose(answer[name], value, rtol=0.0, atol=1e-6)
            else:
                np.testing.assert_array_equal(answer[name], value)


def test_each_bad_request_is_refused_with_its_cause(ask):
    # Then a good one: a refusal does not end the server.
    requests = [bad_request(name, value) for name, value, _ in BAD_REQUESTS] + [bad_request("target_class", [0, 1, 2])]
    *refusals, answer = ask(requests)
    for (name, _, words), refusal in zip(BAD_REQUESTS, refusals, strict=True):
        assert isinstance(refusal, str), name
        assert all(word in refusal for word in words), refusal
        assert "{{" not in graph_refusal(refusal)  # what the client shows
    assert answer["adversarial_images"].shape == floats().shape
