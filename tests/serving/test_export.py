"""The exported generator, as a server without this package sees it: signatures, refusals, files."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from served_example import (
    BAD_REQUESTS,
    EPSILON,
    NAMES,
    PRESET,
    SHAPE,
    bad_request,
    classifier,
    files,
    floats,
    make_generator,
    pictures,
)
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.framework.test_util import IsMklEnabled
from tensorflow_serving.apis import prediction_log_pb2

from aigan_tf.data.classes import class_number
from aigan_tf.exported import read_export_info
from aigan_tf.method.threat_model import apply_perturbation, bounded, quantize
from aigan_tf.serving.export import ServedGenerator, export_generator

CLEAN_PROCESS = """
import sys
import numpy as np, tensorflow as tf
assert not any("aigan" in name for name in sys.modules)
sys.modules["aigan_tf"] = None  # importing it fails from here on, even if it is installed
loaded = tf.saved_model.load(sys.argv[1])
given = np.load(sys.argv[2])
outputs = loaded.signatures["serving_default"](**{name: tf.constant(given[name]) for name in given.files})
np.savez(sys.argv[3], **{name: value.numpy() for name, value in outputs.items()})
"""


def test_a_clean_process_gives_the_same_bits(exported, served, model, tmp_path):
    images, targets = floats(), np.array([0, 1, 2], np.int32)
    np.savez(tmp_path / "in.npz", images=images, target_class=targets)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment["TF_ENABLE_ONEDNN_OPTS"] = str(int(IsMklEnabled()))  # bits are compared on the same kernels
    run = subprocess.run(
        [sys.executable, "-P", "-c", CLEAN_PROCESS, str(exported), str(tmp_path / "in.npz"), str(tmp_path / "out.npz")],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    outputs = np.load(tmp_path / "out.npz")
    assert set(outputs.files) == {"adversarial_images", "perturbation"}
    here = model.run("serving_default", {"images": images, "target_class": targets})
    for name in outputs.files:
        np.testing.assert_array_equal(outputs[name], here[name])
    directions = served.generator(images, targets, np.ones(3, np.float32), training=False)
    eager = apply_perturbation(images, bounded(directions, EPSILON), EPSILON)
    np.testing.assert_allclose(outputs["adversarial_images"], eager, atol=1e-6)


DTYPES = "float32", "bfloat16"
IMAGES, CLASS = {"images": tf.float32}, {"target_class": tf.int32}
PERTURBED = {"adversarial_images": tf.float32, "perturbation": tf.float32}
SIGNATURES = {
    "serving_default": (IMAGES | CLASS, PERTURBED),
    "encoded": ({"image_bytes": tf.string} | CLASS, {"adversarial_image_bytes": tf.string}),
    "class_number": ({"class_name": tf.string}, CLASS),
    "with_epsilon": (IMAGES | CLASS | {"epsilon": tf.float32}, PERTURBED),
    "classify": (IMAGES | CLASS, PERTURBED | {"logits": tf.float32, "success": tf.bool}),
}


def test_each_signature_has_its_names_dtypes_and_shapes(model):
    found = {}
    for name, signature in model.loaded.signatures.items():
        inputs, outputs = signature.structured_input_signature[1], signature.structured_outputs
        found[name] = tuple({key: spec.dtype for key, spec in side.items()} for side in (inputs, outputs))
        for key, spec in [*inputs.items(), *outputs.items()]:
            rest = {"images": SHAPE, "adversarial_images": SHAPE, "perturbation": SHAPE, "logits": (len(NAMES),)}
            assert spec.shape.as_list() == [None, *rest.get(key, ())], key
    assert found == SIGNATURES


DIGITS = ("0", "1", "10", "3")  # names, which come before numbers


@pytest.fixture(scope="module")
def untargeted(tmp_path_factory):
    """A generator of one epsilon with a classifier, and its export."""
    served = ServedGenerator(make_generator(4), SHAPE, DIGITS, EPSILON, targeted=False, classifier=classifier)
    return served, export_generator(tmp_path_factory.mktemp("untargeted"), served, PRESET)


@pytest.fixture(scope="module")
def signatures(untargeted):
    return tf.saved_model.load(str(untargeted[1])).signatures


def test_an_untargeted_generator_takes_the_label(untargeted, signatures):
    assert set(signatures) == {"serving_default", "encoded", "class_number", "classify"}
    signature = signatures["serving_default"]
    assert set(signature.structured_input_signature[1]) == {"images", "label"}
    inputs = {"images": tf.constant(floats()), "label": tf.constant([0, 1, 2])}
    expected = untargeted[0].attack(inputs["images"], inputs["label"])
    np.testing.assert_allclose(signature(**inputs)["adversarial_images"], expected, atol=1e-6)
    with pytest.raises(tf.errors.InvalidArgumentError, match="label must lie in"):
        signature(**(inputs | {"label": tf.constant([0, 1, 9])}))


def test_an_export_computes_its_kernels_once_and_registers_no_gradients(untargeted):
    (graph,) = saved_model_pb2.SavedModel.FromString((untargeted[1] / "saved_model.pb").read_bytes()).meta_graphs
    library = graph.graph_def.library
    operations = {node.op for function in library.function for node in function.node_def}
    assert "Conv2DBackpropInput" in operations  # the decoder
    assert not operations & {"AddN", "Pad"}  # what makes its kernels
    assert not library.registered_gradients  # each load would register them again, for good


def test_range_and_epsilon_are_kept_in_any_batch_and_the_class_matters(model):
    images = floats(4)
    images[0], images[1] = 0.0, 1.0

    def attack(signature="serving_default", images=images, targets=(0, 1, 2, 3), **epsilon):
        return model.run(signature, {"images": images, "target_class": targets, **epsilon})

    outputs = attack()
    adversarial = outputs["adversarial_images"]
    assert adversarial.min() >= 0.0
    assert adversarial.max() <= 1.0
    assert 0.5 * EPSILON < np.abs(adversarial - images).max() <= EPSILON + 1e-6
    np.testing.assert_array_equal(outputs["perturbation"], adversarial - images)
    np.testing.assert_array_equal(attack("with_epsilon", epsilon=[EPSILON] * 4)["adversarial_images"], adversarial)
    alone = attack(images=images[3:], targets=[3])["adversarial_images"]
    np.testing.assert_allclose(adversarial[3:], alone, atol=1e-6)
    other = attack(targets=(4, 4, 4, 4))["adversarial_images"]
    assert np.abs(other - adversarial).max(axis=(1, 2, 3)).min() > 1e-4

    epsilons = np.array([0.125, 0.25, 0.5, 1.0]) * EPSILON
    largest = np.abs(attack("with_epsilon", epsilon=epsilons.tolist())["perturbation"]).max(axis=(1, 2, 3))
    assert (largest <= epsilons + 1e-6).all()
    assert (largest > 0.8 * epsilons).all()


def test_a_bfloat16_export_takes_and_gives_float32_within_the_budget(tmp_path):
    served = {dtype: ServedGenerator(make_generator(), SHAPE, NAMES, EPSILON, True, dtype=dtype) for dtype in DTYPES}
    path = export_generator(tmp_path / "generator", served["bfloat16"], PRESET)
    rounded = tf.saved_model.load(str(path)).signatures["serving_default"]
    assert {spec.dtype for spec in rounded.structured_outputs.values()} == {tf.float32}
    rng = np.random.default_rng(0)
    images = rng.uniform(0.0, 1.0, (60, *SHAPE)).astype(np.float32)
    images[:20] = images[:20].round()
    inputs = {"images": tf.constant(images), "target_class": tf.constant(np.arange(60) % 5, tf.int32)}
    adversarial = rounded(**inputs)["adversarial_images"].numpy()
    assert adversarial.min() >= 0.0
    assert adversarial.max() <= 1.0
    assert 0.9 * EPSILON < np.abs(adversarial - images).max() <= EPSILON + 1e-7
    exact = served["float32"].attack(*inputs.values())
    assert 0.0 < np.abs(adversarial - exact).mean() < 0.01 * EPSILON


def test_encoded_images_are_those_of_the_default_signature_in_8_bits(model):
    outputs = model.run("encoded", {"image_bytes": files(), "target_class": [0, 3, 4]})
    adversarial = np.stack([tf.io.decode_png(file).numpy() for file in outputs["adversarial_image_bytes"]])
    assert 4 < np.abs(adversarial.astype(int) - pictures()).max() <= 8
    default = model.run("serving_default", {"images": floats(), "target_class": [0, 3, 4]})
    np.testing.assert_array_equal(adversarial, quantize(floats(), default["adversarial_images"], EPSILON)[1])


def test_class_names_become_the_numbers_of_the_other_signatures(model, signatures):
    numbers = model.run("class_number", {"class_name": ["bird", "a ship", "cat", "3"]})["target_class"]
    np.testing.assert_array_equal(numbers, [4, 2, 0, 3])
    asked = ["10", "3", "2", "0"]
    labels = signatures["class_number"](class_name=tf.constant(asked))["label"].numpy().tolist()
    assert labels == [2, 3, 2, 0]
    assert labels == [class_number(name, DIGITS, None) for name in asked]  # as in training


def test_classify_gives_the_classifiers_logits_and_the_success(model, signatures):
    colours = np.array([0, 1, 0, 2])  # so clear that no perturbation within epsilon changes the answer
    images = np.full((4, *SHAPE), 0.1, np.float32)
    images[np.arange(4), ..., colours] = 0.9
    inputs = {"images": images, "target_class": [0, 1, 2, 1]}
    outputs, default = model.run("classify", inputs), model.run("serving_default", inputs)
    np.testing.assert_array_equal(outputs["adversarial_images"], default["adversarial_images"])
    np.testing.assert_allclose(outputs["logits"], classifier(default["adversarial_images"]), atol=1e-6)
    assert outputs["success"].tolist() == [True, True, False, False]
    outputs = signatures["classify"](images=tf.constant(images[[0, 2]]), label=tf.constant([0, 1]))
    assert outputs["success"].numpy().tolist() == [False, True]  # success is to leave the label


@pytest.mark.parametrize(("name", "value", "words"), BAD_REQUESTS)
def test_a_bad_request_is_refused_with_its_cause(name, value, words, model):
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        model.run(*bad_request(name, value))
    assert all(word in caught.value.message for word in words), caught.value.message


def test_a_message_repeats_no_text_of_a_request(model):
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        model.run("class_number", {"class_name": ["cat", "drop table"]})
    assert "drop" not in caught.value.message


def test_names_preset_and_warm_up_requests_travel_with_the_model(exported, model):
    assert (exported / "assets" / "class_names.txt").read_text().splitlines() == list(NAMES)
    assert json.loads((exported / "assets" / "preset.json").read_text()) == PRESET
    records = tf.data.TFRecordDataset(str(exported / "assets.extra" / "tf_serving_warmup_requests"))
    logs = [prediction_log_pb2.PredictionLog.FromString(record.numpy()) for record in records]
    requests = [log.predict_log.request for log in logs]
    assert {request.model_spec.signature_name for request in requests} == set(SIGNATURES)
    for request in requests:
        inputs = {name: tf.make_ndarray(proto) for name, proto in request.inputs.items()}
        assert all(len(value) == 1 for value in model.run(request.model_spec.signature_name, inputs).values())


def test_versions_are_numbered_from_one(served, tmp_path, monkeypatch):
    monkeypatch.setattr(
        tf.saved_model,
        "save",
        lambda module, path, signatures: pathlib.Path(path, "saved_model.pb").write_text("saved"),
    )
    monkeypatch.setattr(served, "signatures", dict)
    folder = tmp_path / "generator"
    assert [export_generator(folder, served, PRESET).name for _ in range(2)] == ["1", "2"]
    (folder / "10").mkdir()
    (folder / "notes.txt").write_text("not a version")
    assert export_generator(folder, served, PRESET) == folder / "11"
    assert oct((folder / "11").stat().st_mode & 0o777) == "0o755"  # a server of another user reads it
    assert sorted(entry.name for entry in folder.iterdir()) == ["1", "10", "11", "2", "notes.txt"]


def test_a_generator_of_some_classes_refuses_the_others(tmp_path):
    served = ServedGenerator(make_generator(2, classes=(4, 1)), SHAPE, NAMES, EPSILON, targeted=True)
    path = export_generator(
        tmp_path, served, PRESET | {"image_shape": SHAPE, "attack": "targeted", "variable_epsilon": False}
    )
    assert read_export_info(path, "generator").classes == (4, 1)
    signatures = tf.saved_model.load(str(path)).signatures
    assert set(signatures) == {"serving_default", "encoded", "class_number"}  # one epsilon, no classifier
    signature = signatures["serving_default"]
    images = tf.constant(floats(2))
    assert signature(images=images, target_class=tf.constant([1, 4]))["perturbation"].shape == images.shape
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"target_class must be one of 1, 4; received\] \[2\]"):
        signature(images=images, target_class=tf.constant([1, 2]))
