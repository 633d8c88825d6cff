"""The exported generator behind TensorFlow Serving's protocols, and the client that talks to it."""

import base64
import io
import json
import pathlib
import subprocess
import sys
import urllib.error
import urllib.request

import keras
import numpy as np
import pytest
import serving_double
import tensorflow as tf
from google.protobuf import text_format
from grpc import RpcError, StatusCode
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2
from tensorflow_serving.config import model_server_config_pb2

from aigan_tf.errors import InputError
from aigan_tf.method.networks import Generator
from aigan_tf.method.threat_model import quantize
from aigan_tf.serving import client
from aigan_tf.serving.export import ServedGenerator, export_generator
from aigan_tf.training.advgan import classes_named

ROOT = pathlib.Path(__file__).parents[2]
SHAPE = (9, 13, 3)
NAMES = ("cat", "dog", "a ship", "tree", "bird")
EPSILON = 8 / 255
PRESET = {"dataset": "pets", "epsilon": EPSILON}


def classifier(images):
    """Answers by the mean colour; the last two logits are fixed."""
    return tf.concat([tf.reduce_mean(images, axis=[1, 2]), tf.ones((tf.shape(images)[0], 2)) * 0.4], axis=-1)


@pytest.fixture(scope="module")
def served():
    keras.utils.set_random_seed(0)
    made = Generator(len(NAMES), SHAPE[-1], width=4, num_blocks=1, budget_input=True)
    made.head.kernel.assign(tf.random.stateless_normal(made.head.kernel.shape, (0, 0)))
    return ServedGenerator(made, SHAPE, NAMES, EPSILON, targeted=True, variable_epsilon=True, classifier=classifier)


@pytest.fixture(scope="module")
def exported(served, tmp_path_factory):
    return export_generator(tmp_path_factory.mktemp("export") / "generator", served, PRESET)


@pytest.fixture(scope="module")
def model(exported):
    return serving_double.Model(exported)


@pytest.fixture(scope="module")
def rest(model):
    with serving_double.rest_server(model) as address:
        yield address


@pytest.fixture(scope="module")
def grpc(model):
    with serving_double.grpc_server(model) as address:
        yield address


def pictures(size=3):
    return np.random.default_rng(0).integers(0, 256, (size, *SHAPE), np.uint8)


def files(size=3):
    return [tf.io.encode_png(picture).numpy() for picture in pictures(size)]


def answer(model, signature, **inputs):
    return model.run(signature, inputs)


# --- the signatures


def test_encoded_pictures_stay_within_epsilon_and_are_those_of_the_default_signature(model):
    clean, classes = pictures(), [0, 3, 4]
    outputs = answer(model, "encoded", image_bytes=files(), target_class=classes)
    adversarial = np.stack([tf.io.decode_png(file).numpy() for file in outputs["adversarial_image_bytes"]])
    change = np.abs(adversarial.astype(int) - clean)
    assert 4 < change.max() <= 8
    images = clean.astype(np.float32) / 255
    made = answer(model, "serving_default", images=images, target_class=classes)["adversarial_images"]
    np.testing.assert_array_equal(adversarial, quantize(images, made, EPSILON)[1])


def test_a_jpeg_is_taken_as_its_decoder_gives_it(model):
    file = tf.io.encode_jpeg(pictures(1)[0], quality=90).numpy()
    (adversarial,) = answer(model, "encoded", image_bytes=[file], target_class=[1])["adversarial_image_bytes"]
    change = tf.io.decode_png(adversarial).numpy().astype(int) - tf.io.decode_image(file).numpy()
    assert 4 < np.abs(change).max() <= 8


def test_class_names_are_numbers_to_the_other_signatures(model):
    asked = ["bird", "a ship", "cat", "3"]
    np.testing.assert_array_equal(answer(model, "class_number", class_name=asked)["target_class"], [4, 2, 0, 3])
    words = r"one of cat, dog, a ship, tree, bird or a number from 0 to 4; received.*"
    for unknown in ("wolf", "5", "-1", "1.0", "", "4294967297"):
        with pytest.raises(tf.errors.InvalidArgumentError, match=words + unknown):
            answer(model, "class_number", class_name=["cat", unknown])


def test_a_class_named_by_digits_goes_by_its_name_as_in_training():
    generator = Generator(4, SHAPE[-1], width=4, num_blocks=1)
    names = ("0", "1", "10", "3")
    number = ServedGenerator(generator, SHAPE, names, EPSILON, targeted=False).signatures()["class_number"]
    asked = ["10", "3", "2", "0"]
    labels = number(class_name=tf.constant(asked))["label"].numpy().tolist()
    assert labels == [2, 3, 2, 0]
    assert labels == [classes_named(name, names)[0] for name in asked]


def test_classify_answers_with_the_classifiers_logits_and_the_success(model):
    colours = np.array([0, 1, 0, 2])  # so clear that no perturbation within epsilon changes the answer
    images = np.full((4, *SHAPE), 0.1, np.float32)
    images[np.arange(4), ..., colours] = 0.9
    classes = np.array([0, 1, 2, 1], np.int32)
    outputs = answer(model, "classify", images=images, target_class=classes)
    made = answer(model, "serving_default", images=images, target_class=classes)
    np.testing.assert_array_equal(outputs["adversarial_images"], made["adversarial_images"])
    np.testing.assert_allclose(outputs["logits"], classifier(made["adversarial_images"]), atol=1e-6)
    assert outputs["success"].tolist() == [True, True, False, False]


def test_success_without_a_target_is_to_leave_the_label():
    made = Generator(len(NAMES), SHAPE[-1], width=4, num_blocks=1)
    classify = ServedGenerator(made, SHAPE, NAMES, EPSILON, targeted=False, classifier=classifier).signatures()[
        "classify"
    ]
    red = np.full((2, *SHAPE), 0.1, np.float32)
    red[..., 0] = 0.9
    outputs = classify(images=tf.constant(red), label=tf.constant([0, 1]))
    assert outputs["success"].numpy().tolist() == [False, True]


def test_names_and_preset_travel_with_the_model(exported):
    assert (exported / "assets" / "class_names.txt").read_text().splitlines() == list(NAMES)
    assert json.loads((exported / "assets" / "preset.json").read_text()) == PRESET


def test_the_warm_up_requests_are_official_records_that_the_model_answers(exported, model):
    records = tf.data.TFRecordDataset(str(exported / "assets.extra" / "tf_serving_warmup_requests"))
    logs = [prediction_log_pb2.PredictionLog.FromString(record.numpy()) for record in records]
    requests = [log.predict_log.request for log in logs]
    assert {request.model_spec.signature_name for request in requests} == set(model.loaded.signatures)
    for request in requests:
        inputs = {name: tf.make_ndarray(proto) for name, proto in request.inputs.items()}
        assert all(len(value) == 1 for value in model.run(request.model_spec.signature_name, inputs).values())


def test_without_the_messages_the_export_has_no_warm_up_and_says_so(served, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "tensorflow_serving.apis", None)
    path = export_generator(tmp_path / "generator", served, PRESET)
    assert not (path / "assets.extra").exists()
    assert "pip install tensorflow-serving-api" in capsys.readouterr().out


SAVED_MODEL_CLI = """
import sys
from tensorflow.python.tools import saved_model_cli as cli
parser = cli.create_parser()
export, *signatures = sys.argv[1:]
for signature in signatures:
    name, inputs = signature.split(":")
    common = ["--dir", export, "--tag_set", "serve", "--signature_def", name]
    for arguments in (["show", *common], ["run", *common, "--inputs", inputs]):
        parser.parse_args(arguments).func()
"""


def test_tensorflows_own_tool_shows_and_runs_each_signature(exported, model, tmp_path):
    values = {
        "images": np.full((1, *SHAPE), 0.5, np.float32),
        "image_bytes": np.array(files(1)),
        "target_class": np.array([1], np.int32),
        "class_name": np.array([b"dog"]),
        "epsilon": np.array([EPSILON], np.float32),
    }
    for name, value in values.items():
        np.save(tmp_path / f"{name}.npy", value)
    signatures = [
        f"{name}:{';'.join(f'{key}={key}.npy' for key in model.specs(name))}" for name in model.loaded.signatures
    ]
    assert len(signatures) == 5
    command = [sys.executable, "-c", SAVED_MODEL_CLI, str(exported), *signatures]
    run = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert run.returncode == 0, run.stderr[-2000:]
    for line in ("inputs['target_class']", "output key adversarial_images:", "output key success:\n[", "\\x89PNG"):
        assert line in run.stdout


# --- requests of any kind


def png(shape):
    return tf.io.encode_png(np.zeros(shape, np.uint8)).numpy()


@pytest.mark.parametrize(
    ("image_bytes", "classes", "words"),
    [
        ([b""], [0], "PNG or JPEG file"),
        ([b"no picture"], [0], "PNG or JPEG file.*sizes.*10"),
        ([b"GIF89a" + 40 * b"\0"], [0], "PNG or JPEG file"),
        ([files(1)[0][:50]], [0], "PNG"),
        ([files(1)[0][:20]], [0], "PNG or JPEG file.*sizes.*20"),
        ([tf.io.encode_jpeg(np.zeros((8, 13, 3), np.uint8)).numpy()], [0], "pictures of 9 x 13; received.*8 13"),
        ([png((9, 12, 3))], [0], "pictures of 9 x 13; received height.*9 12"),
        ([png((13, 9, 3))], [0], "pictures of 9 x 13; received.*13 9"),
        ([], [], "at least one image"),
        (files(2), [0], "same batch size"),
        (files(2), [0, 5], "target_class must lie in"),
        ([files(2)], [[0, 1]], "image_bytes must have the shape"),
    ],
)
def test_a_bad_file_is_refused_with_its_cause(image_bytes, classes, words, model):
    with pytest.raises(tf.errors.InvalidArgumentError, match=f"(?s){words}"):
        answer(model, "encoded", image_bytes=image_bytes, target_class=classes)


def test_a_picture_of_another_size_is_refused_before_it_is_decoded(model):
    """By a header that promises 4.8 GB, over data that no decoder takes."""
    file = files(1)[0]
    huge = file[:16] + (40_000).to_bytes(4, "big") + (30_000).to_bytes(4, "big") + file[24:]
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"pictures of 9 x 13; received.*30000 40000"):
        answer(model, "encoded", image_bytes=[huge], target_class=[0])


SPECIAL = st.sampled_from([0.0, 1.0, -0.0, 1e-45, 0.5, 1.0001, -1e-6, float("nan"), float("inf"), -float("inf")])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_request_is_refused_by_name_or_answered_within_epsilon(data, model):
    shape = data.draw(
        st.one_of(
            st.tuples(st.sampled_from([0, 1, 2, 3]), *(st.just(side) for side in SHAPE)),
            st.lists(st.integers(0, 14), max_size=5).map(tuple),
        )
    )
    images = np.random.default_rng(0).uniform(size=shape).astype(np.float32)
    if images.size and data.draw(st.booleans()):
        images.flat[data.draw(st.integers(0, images.size - 1))] = data.draw(SPECIAL)
    count = data.draw(st.sampled_from([len(images) if images.ndim else 1, 0, 1, 2]))
    classes = np.array(data.draw(st.lists(st.integers(-2, 6), min_size=count, max_size=count)), np.int32)
    epsilons = np.array(
        data.draw(st.lists(st.sampled_from([EPSILON, 0.01, 0.0, 0.04, np.nan]), min_size=count, max_size=count)),
        np.float32,
    )
    good = (
        images.shape[1:] == SHAPE
        and len(images) == count > 0
        and (images >= 0).all()
        and (images <= 1).all()
        and (classes >= 0).all()
        and (classes < len(NAMES)).all()
    )
    for signature, extra in (("serving_default", {}), ("with_epsilon", {"epsilon": epsilons}), ("classify", {})):
        limit = epsilons[:, None, None, None] if extra else EPSILON
        taken = good and (not extra or ((epsilons > 0) & (epsilons <= np.float32(EPSILON))).all())
        inputs = {"images": images, "target_class": classes, **extra}
        if not taken:
            with pytest.raises(tf.errors.InvalidArgumentError, match=r"images|target_class|epsilon|batch"):
                answer(model, signature, **inputs)
            continue
        outputs = answer(model, signature, **inputs)
        if signature == "classify":
            assert outputs["logits"].shape == (count, len(NAMES))
            np.testing.assert_array_equal(outputs["success"], outputs["logits"].argmax(axis=1) == classes)
            continue
        made = outputs["adversarial_images"]
        assert ((made >= 0) & (made <= 1)).all()
        assert (np.abs(made - images) <= limit + 1e-6).all()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_bytes_are_refused_or_give_a_picture_within_epsilon(data, model):
    whole = data.draw(st.sampled_from([*files(1), tf.io.encode_jpeg(pictures(1)[0]).numpy(), png((9, 13, 1))]))
    mutation = data.draw(st.sampled_from(["none", "truncated", "flipped", "random"]))
    place = data.draw(st.integers(0, len(whole) - 1))
    file = {
        "none": whole,
        "truncated": whole[:place],
        "flipped": whole[:place] + bytes([whole[place] ^ 255]) + whole[place + 1 :],
        "random": data.draw(st.binary(max_size=60)),
    }[mutation]
    try:
        clean = tf.io.decode_image(file, SHAPE[-1]).numpy().astype(int)
    except tf.errors.InvalidArgumentError:
        clean = None
    if clean is None or clean.shape != SHAPE:
        assert mutation != "none"
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"PNG|JPEG|pictures of 9 x 13"):
            answer(model, "encoded", image_bytes=[file], target_class=[1])
        return
    (made,) = answer(model, "encoded", image_bytes=[file], target_class=[1])["adversarial_image_bytes"]
    assert np.abs(tf.io.decode_png(made).numpy() - clean).max() <= 8


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(names=st.lists(st.one_of(st.text(max_size=8), st.sampled_from([*NAMES, "0", "3", "99", "-1"])), max_size=4))
def test_any_name_is_refused_or_answered_with_its_number(names, model):
    known = [name in NAMES or (name.isascii() and name.isdecimal() and int(name) < len(NAMES)) for name in names]
    if not names or not all(known):
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"class_name|batch"):
            answer(model, "class_number", class_name=[name.encode() for name in names])
        return
    (numbers,) = answer(model, "class_number", class_name=[name.encode() for name in names]).values()
    assert numbers.tolist() == [NAMES.index(name) if name in NAMES else int(name) for name in names]


@pytest.mark.parametrize("signature", ["serving_default", "with_epsilon", "classify", "encoded"])
@pytest.mark.parametrize("size", [1, 1000])
def test_a_batch_of_any_size_is_answered(size, signature, model):
    extra = {"epsilon": np.full(size, EPSILON, np.float32)} if signature == "with_epsilon" else {}
    images = np.tile(pictures(1).astype(np.float32) / 255, (size, 1, 1, 1))
    given = {"image_bytes": files(1) * size} if signature == "encoded" else {"images": images}
    for output in answer(model, signature, **given, **extra, target_class=np.ones(size, np.int32)).values():
        assert len(output) == size
        if output.dtype == np.float32:
            np.testing.assert_allclose(output[-1], output[0], atol=1e-5)
        else:
            assert output[-1] == output[0]


def test_a_refusal_fails_all_requests_that_were_merged_into_a_batch(model):
    """What server-side batching does: why it is off in serving/docker-compose.yml."""
    good, bad = pictures(1).astype(np.float32) / 255, np.full((1, *SHAPE), 2.0, np.float32)
    assert answer(model, "serving_default", images=good, target_class=[1])["perturbation"].any()
    merged = np.concatenate([good, bad])
    with pytest.raises(tf.errors.InvalidArgumentError, match="images must lie in"):
        answer(model, "serving_default", images=merged, target_class=[1, 1])


# --- the protocols


def post(address, body, name="aigan"):
    request = urllib.request.Request(f"http://{address}/v1/models/{name}:predict", json.dumps(body).encode())
    with urllib.request.urlopen(request, timeout=30) as response:
        return json.load(response)


def test_rows_and_columns_of_json_give_the_same_pictures(rest, model):
    images, classes = (pictures(2).astype(np.float32) / 255).tolist(), [1, 2]
    expected = answer(model, "serving_default", images=images, target_class=classes)
    rows = [{"images": image, "target_class": k} for image, k in zip(images, classes, strict=True)]
    predictions = post(rest, {"instances": rows})["predictions"]
    columns = post(rest, {"inputs": {"images": images, "target_class": classes}})["outputs"]
    for name, value in expected.items():
        np.testing.assert_allclose([row[name] for row in predictions], value, atol=1e-6)
        np.testing.assert_allclose(columns[name], value, atol=1e-6)


def test_files_travel_in_base64(rest):
    rows = [
        {"image_bytes": {"b64": base64.b64encode(file).decode()}, "target_class": k} for k, file in enumerate(files(2))
    ]
    (first, second) = post(rest, {"signature_name": "encoded", "instances": rows})["predictions"]
    assert base64.b64decode(first["b64"]).startswith(b"\x89PNG")
    assert first != second


def test_a_refusal_reaches_a_rest_client_with_its_cause(rest):
    with pytest.raises(urllib.error.HTTPError) as caught:
        post(rest, {"inputs": {"images": [[[[2.0]]]], "target_class": [0]}})
    assert caught.value.code == 400
    assert "images must have the shape (batch, 9, 13, 3)" in json.load(caught.value)["error"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"images": tf.fill((1, *SHAPE), tf.constant(0.5, tf.float64))},
        {"images": tf.fill((1, *SHAPE), tf.constant(128, tf.uint8))},
        {"images": tf.constant(["picture"])},
        {"target_class": tf.constant([1], tf.int64)},
        {"target_class": tf.constant([1.0])},
    ],
    ids=str,
)
def test_another_dtype_is_refused_over_grpc(wrong, grpc):
    request = predict_pb2.PredictRequest()
    request.model_spec.name = client.MODEL
    good = {"images": tf.fill((1, *SHAPE), 0.5), "target_class": tf.constant([1])}
    for name, value in (good | wrong).items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    with pytest.raises(RpcError, match=r"expected to be a (float|int32) tensor but is a") as caught:
        client.GrpcServer(grpc).stub.Predict(request, timeout=30)
    assert caught.value.code() == StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    "wrong", [{"target_class": [1.5]}, {"target_class": ["dog"]}, {"images": [["a"]]}, {"images": 3}]
)
def test_another_type_of_json_is_refused_over_rest(wrong, rest):
    good = {"images": np.full((1, *SHAPE), 0.5).tolist(), "target_class": [1]}
    assert "outputs" in post(rest, {"inputs": good})
    with pytest.raises(urllib.error.HTTPError) as caught:
        post(rest, {"inputs": good | wrong})
    assert caught.value.code == 400
    assert json.load(caught.value)["error"]


@pytest.fixture(params=["rest", "grpc"])
def flag(request):
    return f"--{request.param}={request.getfixturevalue(request.param)}"


def run_client(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "aigan_tf.serving.client", *arguments], capture_output=True, text=True, cwd=ROOT
    )


def test_the_client_writes_the_picture_that_the_model_makes(flag, model, tmp_path):
    (tmp_path / "cat.png").write_bytes(files(1)[0])
    run = run_client(flag, f"--image={tmp_path}/cat.png", "--target=a ship", f"--out={tmp_path}/adv.png")
    assert run.returncode == 0, run.stderr
    assert "adv.png" in run.stdout
    expected = answer(model, "encoded", image_bytes=files(1), target_class=[2])["adversarial_image_bytes"][0]
    assert (tmp_path / "adv.png").read_bytes() == expected


@pytest.mark.parametrize(
    ("picture", "target", "words"),
    [
        (files(1)[0], "wolf", ["class_name must be one of cat, dog", "wolf"]),
        (files(1)[0], "17", ["a number from 0 to 4", "17"]),
        (files(1)[0], "4294967297", ["a number from 0 to 4", "4294967297"]),  # 1 in 32 bits
        (png((8, 8, 3)), "dog", ["pictures of 9 x 13", "8 8"]),
        (files(1)[0][:50], "dog", ["Invalid PNG"]),
        (tf.io.encode_jpeg(pictures(1)[0]).numpy()[:-40], "dog", ["Invalid JPEG"]),
    ],
)
def test_the_client_passes_a_refusal_on_in_one_line(picture, target, words, rest, grpc):
    for server in (client.RestServer(rest), client.GrpcServer(grpc)):
        with pytest.raises(InputError) as caught:
            client.attack_image(server, picture, target)
        assert "\n" not in str(caught.value)
        assert all(word in str(caught.value) for word in words), caught.value


@pytest.mark.parametrize(
    "body",
    [
        "<html>",
        "[1]",
        '{"outputs": []}',
        '{"outputs": 3}',
        '{"outputs": ["abc"]}',
        '{"outputs": [{"b64": "a"}]}',
        '{"outputs": [{"x": 1}]}',
    ],
)
def test_the_client_names_a_server_that_answers_something_else(body):
    with (
        serving_double.answering(body.encode()) as address,
        pytest.raises(InputError, match=f"--rest={address} does not answer as TensorFlow Serving does"),
    ):
        client.attack_image(client.RestServer(address), files(1)[0], "dog")


def test_the_client_names_a_port_of_the_other_protocol(rest, grpc):
    for server in (client.RestServer(grpc, timeout=5), client.GrpcServer(rest, timeout=2)):
        with pytest.raises(InputError, match="does not answer") as caught:
            client.attack_image(server, files(1)[0], "dog")
        assert str(caught.value).isprintable()


@pytest.mark.parametrize("body", [b'{"error": {"code": 404}}', b'{"error": null}', b"[]", b"no JSON"])
def test_another_servers_refusal_is_said_by_its_status(body, monkeypatch):
    def refuse(request, timeout):
        raise urllib.error.HTTPError(request.full_url, 404, "Not Found", {}, io.BytesIO(body))

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    with pytest.raises(InputError, match="refuses the request: status 404"):
        client.attack_image(client.RestServer("127.0.0.1:9"), files(1)[0], "1")


def test_the_client_says_what_grpc_needs(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_serving.apis", None)
    with pytest.raises(InputError, match=r"needs tensorflow-serving-api.*pip install"):
        client.GrpcServer("127.0.0.1:9")


def test_the_client_names_a_server_that_does_not_answer(rest, grpc):
    for server in (client.RestServer("127.0.0.1:9", timeout=5), client.GrpcServer("127.0.0.1:9", timeout=2)):
        with pytest.raises(InputError, match=r"does not answer.*expected HOST:PORT"):
            client.attack_image(server, files(1)[0], "dog")
    for server in (client.RestServer(rest, "other"), client.GrpcServer(grpc, "other")):
        with pytest.raises(InputError, match="refuses the request: Servable not found"):
            client.attack_image(server, files(1)[0], "1")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["neither of --rest and --grpc", "expected one"]),
        (["--rest=a:1", "--grpc=b:2"], ["both of --rest and --grpc"]),
        (["--rest=a:1", "--target=dog"], ["--image is not given"]),
        (["--rest=a:1", "--target=dog", "--image=no.png", "--out=x.png"], ["--image=no.png cannot be read"]),
    ],
)
def test_the_client_says_in_one_line_what_is_missing(arguments, words):
    run = run_client(*arguments)
    assert run.returncode == 2
    assert run.stderr.count("\n") == 1
    assert all(word in run.stderr for word in words), run.stderr


# --- the files under serving/


def test_the_model_config_is_one_that_the_server_parses():
    text = (ROOT / "serving" / "models.config").read_text()
    config = text_format.Parse(text, model_server_config_pb2.ModelServerConfig())
    (model,) = config.model_config_list.config
    assert model.name == client.MODEL
    compose = (ROOT / "serving" / "docker-compose.yml").read_text()
    assert f":{model.base_path}:ro" in compose
    active = [line for line in compose.splitlines() if not line.strip().startswith("#")]
    assert not any("batching" in line for line in active)
