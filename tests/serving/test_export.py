"""The exported generator, as a server without this package sees it: signatures, refusals, files."""

import contextlib
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from served_example import EPSILON, NAMES, PRESET, SHAPE, classifier, files, floats, make_generator, pictures
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.framework.test_util import IsMklEnabled
from tensorflow_serving.apis import prediction_log_pb2

from aigan_tf.method.threat_model import apply_perturbation, bounded, quantize
from aigan_tf.serving.export import ServedGenerator, export_generator
from aigan_tf.training.advgan import classes_named

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


def test_a_clean_process_gives_the_same_bits(exported, served, tmp_path):
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
    here = served.signatures()["serving_default"](images=tf.constant(images), target_class=tf.constant(targets))
    for name in outputs.files:
        np.testing.assert_array_equal(outputs[name], here[name])
    directions = served.generator(images, targets, np.ones(3, np.float32), training=False)
    eager = apply_perturbation(images, bounded(directions, EPSILON), EPSILON)
    np.testing.assert_allclose(outputs["adversarial_images"], eager, atol=1e-6)


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
        if "adversarial_images" in outputs:
            assert outputs["adversarial_images"].shape.as_list() == [None, *SHAPE]
    assert found == SIGNATURES


def test_an_untargeted_generator_of_one_epsilon_takes_the_label_alone(tmp_path):
    untargeted = ServedGenerator(make_generator(), SHAPE, NAMES, EPSILON, targeted=False)
    path = export_generator(tmp_path / "generator", untargeted, PRESET)
    (graph,) = saved_model_pb2.SavedModel.FromString((path / "saved_model.pb").read_bytes()).meta_graphs
    library = graph.graph_def.library
    assert library.function
    assert not library.registered_gradients  # each load would register them anew, for good
    loaded = tf.saved_model.load(str(path))
    assert set(loaded.signatures) == {"serving_default", "encoded", "class_number"}
    signature = loaded.signatures["serving_default"]
    assert set(signature.structured_input_signature[1]) == {"images", "label"}
    inputs = {"images": tf.constant(floats()), "label": tf.constant([0, 1, 2])}
    expected = untargeted.signatures()["serving_default"](**inputs)
    np.testing.assert_array_equal(signature(**inputs)["adversarial_images"], expected["adversarial_images"])
    with pytest.raises(tf.errors.InvalidArgumentError, match="label must lie in"):
        signature(**(inputs | {"label": tf.constant([0, 1, 9])}))


def test_budget_and_range_are_kept_in_any_batch_and_the_class_matters(model):
    images = floats(4)
    images[0], images[1] = 0.0, 1.0
    outputs = model.run("serving_default", {"images": images, "target_class": [0, 1, 2, 3]})
    adversarial = outputs["adversarial_images"]
    assert adversarial.min() >= 0.0
    assert adversarial.max() <= 1.0
    change = np.abs(adversarial - images)
    assert change.max() <= EPSILON + 1e-6
    assert change.max() > 0.5 * EPSILON
    np.testing.assert_array_equal(outputs["perturbation"], adversarial - images)
    alone = model.run("serving_default", {"images": images[3:], "target_class": [3]})["adversarial_images"]
    np.testing.assert_allclose(adversarial[3:], alone, atol=1e-6)
    other = model.run("serving_default", {"images": images, "target_class": [4, 4, 4, 4]})["adversarial_images"]
    assert np.abs(other - adversarial).max(axis=(1, 2, 3)).min() > 1e-4


def test_each_image_is_kept_within_its_epsilon(model):
    def perturbation(signature="with_epsilon", **epsilon):
        return model.run(signature, {"images": floats(), "target_class": [0, 1, 2], **epsilon})["perturbation"]

    epsilons = np.array([0.25, 0.5, 1.0]) * EPSILON
    largest = np.abs(perturbation(epsilon=epsilons.tolist())).max(axis=(1, 2, 3))
    assert (largest <= epsilons + 1e-6).all()
    assert (largest > 0.9 * epsilons).all()
    np.testing.assert_array_equal(perturbation("serving_default"), perturbation(epsilon=[EPSILON] * 3))


def test_encoded_images_are_those_of_the_default_signature_in_8_bits(model):
    outputs = model.run("encoded", {"image_bytes": files(), "target_class": [0, 3, 4]})
    adversarial = np.stack([tf.io.decode_png(file).numpy() for file in outputs["adversarial_image_bytes"]])
    assert 4 < np.abs(adversarial.astype(int) - pictures()).max() <= 8
    default = model.run("serving_default", {"images": floats(), "target_class": [0, 3, 4]})
    np.testing.assert_array_equal(adversarial, quantize(floats(), default["adversarial_images"], EPSILON)[1])


def test_class_names_become_the_numbers_of_the_other_signatures(model):
    numbers = model.run("class_number", {"class_name": ["bird", "a ship", "cat", "3"]})["target_class"]
    np.testing.assert_array_equal(numbers, [4, 2, 0, 3])
    names, asked = ("0", "1", "10", "3"), ["10", "3", "2", "0"]  # digits are a name first, as in training
    served = ServedGenerator(make_generator(4), SHAPE, names, EPSILON, targeted=False)
    labels = served.signatures()["class_number"](class_name=tf.constant(asked))["label"].numpy().tolist()
    assert labels == [2, 3, 2, 0]
    assert labels == [classes_named([name], names)[0] for name in asked]


def test_classify_gives_the_classifiers_logits_and_the_success(model):
    colours = np.array([0, 1, 0, 2])  # so clear that no perturbation within epsilon changes the answer
    images = np.full((4, *SHAPE), 0.1, np.float32)
    images[np.arange(4), ..., colours] = 0.9
    inputs = {"images": images, "target_class": [0, 1, 2, 1]}
    outputs, default = model.run("classify", inputs), model.run("serving_default", inputs)
    np.testing.assert_array_equal(outputs["adversarial_images"], default["adversarial_images"])
    np.testing.assert_allclose(outputs["logits"], classifier(default["adversarial_images"]), atol=1e-6)
    assert outputs["success"].tolist() == [True, True, False, False]
    untargeted = ServedGenerator(make_generator(), SHAPE, NAMES, EPSILON, targeted=False, classifier=classifier)
    outputs = untargeted.signatures()["classify"](images=tf.constant(images[[0, 2]]), label=tf.constant([0, 1]))
    assert outputs["success"].numpy().tolist() == [False, True]  # success is to leave the label


def png(shape):
    return tf.io.encode_png(np.zeros(shape, np.uint8)).numpy()


def pixel(value):
    images = floats()
    images[1, 2, 3, 0] = value
    return images


# A header that promises 4.8 GB, over data that no decoder takes: refused before it is decoded.
HUGE = files(1)[0][:16] + (40_000).to_bytes(4, "big") + (30_000).to_bytes(4, "big") + files(1)[0][24:]
REFUSED = [
    ("images", floats()[0], ["images", "(batch, 9, 13, 3)", "[9 13 3]"]),
    ("images", floats()[..., :1], ["images", "[3 9 13 1]"]),
    ("images", floats()[:2], ["same batch size", "2", "3"]),
    ("images", pixel(1.0001), ["images", "[0, 1]", "1.0001"]),
    ("images", pixel(-0.25), ["images", "[0, 1]", "-0.25"]),
    ("images", pixel(np.nan), ["images", "NaN"]),
    ("target_class", np.int32([[0], [1], [2]]), ["target_class", "(batch,)", "[3 1]"]),
    ("target_class", np.int32([0, 5, 1]), ["target_class", "[0, 4]", "[0 5]"]),
    ("target_class", np.int32([0, -1, 1]), ["target_class", "[0, 4]", "[-1 1]"]),
    ("epsilon", [EPSILON, 0.0315, EPSILON], ["epsilon must lie above 0", "0.0315"]),
    ("epsilon", [EPSILON, 0.0, EPSILON], ["epsilon", "above 0", "[0 0.03"]),
    ("epsilon", [EPSILON, np.nan, EPSILON], ["epsilon must lie"]),
    ("epsilon", [EPSILON, EPSILON], ["epsilon", "(batch,)", "[2]"]),
    ("image_bytes", [b"", *files(2)], ["PNG or JPEG file", "[0 "]),
    ("image_bytes", [b"GIF89a" + 40 * b"\0", *files(2)], ["PNG or JPEG file", "[46 "]),
    ("image_bytes", [files(1)[0][:20], *files(2)], ["PNG or JPEG file", "[20 "]),
    ("image_bytes", [files(1)[0][:50], *files(2)], ["PNG"]),
    ("image_bytes", [png((13, 9, 3)), *files(2)], ["9 x 13", "[13 9]"]),
    ("image_bytes", [tf.io.encode_jpeg(np.zeros((8, 13, 3), np.uint8)).numpy(), *files(2)], ["9 x 13", "[8 13]"]),
    ("image_bytes", [HUGE, *files(2)], ["9 x 13", "[30000 40000]"]),
    ("image_bytes", [files(3)], ["image_bytes", "(batch,)"]),
    ("image_bytes", files(2), ["same batch size"]),
    ("class_name", ["cat", "wolf"], ["cat, dog, a ship, tree, bird", "0 to 4", "wolf"]),
    ("class_name", ["cat", "5"], ["class_name", "5"]),
    ("class_name", [["cat"]], ["class_name", "(batch,)"]),
    ("class_name", ["4294967297"], ["class_name", "4294967297"]),  # 1 in 32 bits
]
SIGNATURE_OF = {"epsilon": "with_epsilon", "image_bytes": "encoded", "class_name": "class_number"}


def refused(model, signature, inputs, words):
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        model.run(signature, inputs)
    assert all(word in caught.value.message for word in words), caught.value.message


@pytest.mark.parametrize(("name", "value", "words"), REFUSED)
def test_a_bad_request_is_refused_with_its_cause(name, value, words, model):
    signature = SIGNATURE_OF.get(name, "serving_default")
    good = {"images": floats(), "image_bytes": files(), "target_class": [0, 1, 2], "epsilon": [EPSILON] * 3}
    refused(model, signature, {key: good.get(key) for key in model.specs(signature)} | {name: value}, words)


@pytest.mark.parametrize("name", ["images", "image_bytes", "class_name"])
def test_an_empty_batch_is_refused(name, model):
    signature = SIGNATURE_OF.get(name, "serving_default")
    empty = {"images": floats()[:0]}
    refused(model, signature, {key: empty.get(key, []) for key in model.specs(signature)}, ["at least one image"])


SPECIAL = st.sampled_from([0.0, 1.0, -0.0, 1e-45, 0.5, 1.0001, -1e-6, float("nan"), float("inf"), -float("inf")])
ANY = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@settings(ANY, max_examples=60)
@given(data=st.data())
def test_any_request_is_refused_by_name_or_answered_within_epsilon(data, model):
    right_size = st.sampled_from([(count, *SHAPE) for count in range(4)])
    shape = data.draw(right_size | st.lists(st.integers(0, 14), max_size=5).map(tuple))
    images = np.random.default_rng(0).uniform(size=shape).astype(np.float32)
    if images.size and data.draw(st.booleans()):
        images.flat[data.draw(st.integers(0, images.size - 1))] = data.draw(SPECIAL)
    count = data.draw(st.sampled_from([len(images) if images.ndim else 1, 0, 1, 2]))
    targets = np.array(data.draw(st.lists(st.integers(-2, 6), min_size=count, max_size=count)), np.int32)
    budgets = st.sampled_from([EPSILON, 0.01, 0.0, 0.04, np.nan])
    epsilons = np.array(data.draw(st.lists(budgets, min_size=count, max_size=count)), np.float32)
    good = images.shape[1:] == SHAPE and len(images) == count > 0
    good = good and ((images >= 0) & (images <= 1)).all() and ((targets >= 0) & (targets < len(NAMES))).all()
    for signature, extra in (("serving_default", {}), ("with_epsilon", {"epsilon": epsilons}), ("classify", {})):
        inputs = {"images": images, "target_class": targets, **extra}
        if not (good and (not extra or ((epsilons > 0) & (epsilons <= np.float32(EPSILON))).all())):
            with pytest.raises(tf.errors.InvalidArgumentError, match=r"images|target_class|epsilon|batch"):
                model.run(signature, inputs)
            continue
        outputs = model.run(signature, inputs)
        if signature == "classify":
            assert outputs["logits"].shape == (count, len(NAMES))
            np.testing.assert_array_equal(outputs["success"], outputs["logits"].argmax(axis=1) == targets)
            continue
        adversarial = outputs["adversarial_images"]
        assert ((adversarial >= 0) & (adversarial <= 1)).all()
        limit = epsilons[:, None, None, None] if extra else EPSILON
        assert (np.abs(adversarial - images) <= limit + 1e-6).all()


@settings(ANY, max_examples=40)
@given(data=st.data())
def test_any_bytes_are_refused_or_give_an_image_within_epsilon(data, model):
    whole = data.draw(st.sampled_from([*files(1), tf.io.encode_jpeg(pictures(1)[0]).numpy(), png((9, 13, 1))]))
    mutation = data.draw(st.sampled_from(["none", "truncated", "flipped", "random"]))
    place = data.draw(st.integers(0, len(whole) - 1))
    file = {
        "none": whole,
        "truncated": whole[:place],
        "flipped": whole[:place] + bytes([whole[place] ^ 255]) + whole[place + 1 :],
        "random": data.draw(st.binary(max_size=60)),
    }[mutation]
    inputs, clean = {"image_bytes": [file], "target_class": [1]}, np.zeros(0)
    with contextlib.suppress(tf.errors.InvalidArgumentError):
        clean = tf.io.decode_image(file, SHAPE[-1]).numpy().astype(int)
    if clean.shape != SHAPE:
        assert mutation != "none"
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"PNG|JPEG|pictures of 9 x 13"):
            model.run("encoded", inputs)
        return
    (adversarial,) = model.run("encoded", inputs)["adversarial_image_bytes"]
    assert np.abs(tf.io.decode_png(adversarial).numpy() - clean).max() <= 8


def fake_save(module, path, signatures):
    with open(os.path.join(path, "saved_model.pb"), "w") as file:
        file.write("saved")


def test_versions_are_numbered_from_one(served, tmp_path, monkeypatch):
    monkeypatch.setattr(tf.saved_model, "save", fake_save)
    folder = tmp_path / "generator"
    assert [export_generator(folder, served, PRESET).name for _ in range(2)] == ["1", "2"]
    (folder / "10").mkdir()
    (folder / "notes.txt").write_text("not a version")
    assert export_generator(folder, served, PRESET) == folder / "11"
    assert oct((folder / "11").stat().st_mode & 0o777) == "0o755"  # a server of another user reads it
    assert sorted(entry.name for entry in folder.iterdir()) == ["1", "10", "11", "2", "notes.txt"]


def test_names_and_preset_travel_with_the_model(exported):
    assert (exported / "assets" / "class_names.txt").read_text().splitlines() == list(NAMES)
    assert json.loads((exported / "assets" / "preset.json").read_text()) == PRESET


def test_the_warm_up_requests_are_official_records_that_the_model_answers(exported, model):
    records = tf.data.TFRecordDataset(str(exported / "assets.extra" / "tf_serving_warmup_requests"))
    logs = [prediction_log_pb2.PredictionLog.FromString(record.numpy()) for record in records]
    requests = [log.predict_log.request for log in logs]
    assert {request.model_spec.signature_name for request in requests} == set(SIGNATURES)
    for request in requests:
        inputs = {name: tf.make_ndarray(proto) for name, proto in request.inputs.items()}
        assert all(len(value) == 1 for value in model.run(request.model_spec.signature_name, inputs).values())


def test_without_the_serving_package_the_export_prints_that_it_has_no_warm_up(served, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tf.saved_model, "save", fake_save)
    monkeypatch.setitem(sys.modules, "tensorflow_serving.apis", None)
    path = export_generator(tmp_path / "generator", served, PRESET)
    assert not (path / "assets.extra").exists()
    assert "pip install tensorflow-serving-api" in capsys.readouterr().out
