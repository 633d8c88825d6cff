"""The exported generator, as a server without this package sees it."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.framework.test_util import IsMklEnabled

from aigan_tf.method.networks import Generator
from aigan_tf.method.threat_model import apply_perturbation, bounded
from aigan_tf.serving.export import ServedGenerator, export_generator

SHAPE = (9, 13, 3)
NAMES = ("cat", "dog", "a ship", "tree", "bird")
CLASSES = len(NAMES)
EPSILON = 0.1
PRESET = {"dataset": "pets", "epsilon": EPSILON}

CLEAN_PROCESS = """
import sys
import numpy as np, tensorflow as tf
assert not any("aigan" in name for name in sys.modules)
sys.modules["aigan_tf"] = None  # importing it fails from here on, also where it is installed
loaded = tf.saved_model.load(sys.argv[1])
given = np.load(sys.argv[2])
outputs = loaded.signatures["serving_default"](**{name: tf.constant(given[name]) for name in given.files})
np.savez(sys.argv[3], **{name: value.numpy() for name, value in outputs.items()})
"""


@pytest.fixture(scope="module")
def generator():
    keras.utils.set_random_seed(1)  # else the weights are those of the tests that ran before
    made = Generator(CLASSES, SHAPE[-1], width=4, num_blocks=1)
    rng = np.random.default_rng(0)
    for variable in made.variables:  # neither fresh statistics nor a head near zero
        if "variance" in variable.path:
            variable.assign(rng.uniform(0.5, 2.0, variable.shape))
        elif variable.dtype == "float32":
            variable.assign(variable + rng.normal(0.0, 0.1, variable.shape))
    return made


@pytest.fixture(scope="module")
def served(generator):
    return ServedGenerator(generator, SHAPE, NAMES, EPSILON, targeted=True)


@pytest.fixture(scope="module")
def exported(served, tmp_path_factory):
    return export_generator(tmp_path_factory.mktemp("export") / "generator", served, PRESET)


@pytest.fixture(scope="module")
def serve(exported):
    loaded = tf.saved_model.load(str(exported))
    signature = loaded.signatures["serving_default"]
    signature.keep = loaded
    return signature


def batch(size=3):
    images = np.random.default_rng(1).uniform(size=(size, *SHAPE)).astype(np.float32)
    return images, (np.arange(size) % CLASSES).astype(np.int32)


def test_a_clean_process_gives_the_same_bits(exported, served, generator, tmp_path):
    images, classes = batch()
    np.savez(tmp_path / "in.npz", images=images, target_class=classes)
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
    here = served.signatures()["serving_default"](images=tf.constant(images), target_class=tf.constant(classes))
    for name in outputs.files:
        np.testing.assert_array_equal(outputs[name], here[name])
    eager = apply_perturbation(images, bounded(generator(images, classes, training=False), EPSILON), EPSILON)
    np.testing.assert_allclose(outputs["adversarial_images"], eager, atol=1e-6)


def test_no_gradient_function_is_saved_which_each_load_would_register_for_good(exported):
    saved = saved_model_pb2.SavedModel.FromString((exported / "saved_model.pb").read_bytes())
    assert saved.meta_graphs[0].graph_def.library.function
    assert not saved.meta_graphs[0].graph_def.library.registered_gradients


def test_names_dtypes_and_shapes(serve):
    _, inputs = serve.structured_input_signature
    assert {name: spec.dtype for name, spec in inputs.items()} == {"images": tf.float32, "target_class": tf.int32}
    assert {name: spec.dtype for name, spec in serve.structured_outputs.items()} == {
        "adversarial_images": tf.float32,
        "perturbation": tf.float32,
    }
    assert serve.structured_outputs["adversarial_images"].shape.as_list() == [None, *SHAPE]


def test_the_budget_and_the_range_are_kept(serve):
    images, classes = batch(4)
    images[0], images[1] = 0.0, 1.0
    outputs = serve(images=tf.constant(images), target_class=tf.constant(classes))
    adversarial = outputs["adversarial_images"].numpy()
    assert adversarial.min() >= 0.0
    assert adversarial.max() <= 1.0
    change = np.abs(adversarial - images)
    assert change.max() <= EPSILON + 1e-6
    assert change.max() > 0.5 * EPSILON
    np.testing.assert_array_equal(outputs["perturbation"], adversarial - images)


def test_the_class_is_heeded(serve):
    images, _ = batch(1)
    one, two = (
        serve(images=tf.constant(images), target_class=tf.constant([k]))["adversarial_images"].numpy() for k in (0, 4)
    )
    assert np.abs(one - two).max() > 1e-4


def test_an_image_is_answered_alike_in_any_batch(serve):
    images, classes = batch(3)
    together = serve(images=tf.constant(images), target_class=tf.constant(classes))["adversarial_images"].numpy()
    alone = serve(images=tf.constant(images[2:]), target_class=tf.constant(classes[2:]))["adversarial_images"].numpy()
    np.testing.assert_allclose(together[2:], alone, atol=1e-6)


def pixel(value):
    images, classes = batch()
    images[1, 2, 3, 0] = value
    return images, classes


@pytest.mark.parametrize(
    ("request_of", "words"),
    [
        (lambda: (batch()[0][0], [0]), ["images", "(batch, 9, 13, 3)", "[9 13 3]"]),  # rank 3
        (lambda: (np.float32(0.5), [0]), ["images", "(batch, 9, 13, 3)"]),
        (lambda: (batch()[0][:, :8], batch()[1]), ["images", "(batch, 9, 13, 3)", "[3 8 13 3]"]),
        (lambda: (batch()[0][:, :, :, :1], batch()[1]), ["images", "(batch, 9, 13, 3)", "[3 9 13 1]"]),
        (lambda: (batch()[0].reshape(3, 13, 9, 3), batch()[1]), ["images", "[3 13 9 3]"]),
        (lambda: (batch()[0], batch()[1][:, None]), ["target_class", "(batch,)", "[3 1]"]),
        (lambda: (batch()[0], np.int32(1)), ["target_class", "(batch,)"]),
        (lambda: (batch()[0], batch()[1][:2]), ["same batch size", "3", "2"]),
        (lambda: (batch()[0][:0], batch()[1]), ["same batch size"]),
        (lambda: (batch()[0][:0], batch()[1][:0]), ["at least one image", "0"]),
        (lambda: pixel(1.0001), ["images", "[0, 1]", "1.0001"]),
        (lambda: pixel(-0.25), ["images", "[0, 1]", "-0.25"]),
        (lambda: pixel(np.inf), ["images", "[0, 1]", "inf"]),
        (lambda: pixel(-np.inf), ["images", "[0, 1]", "-inf"]),
        (lambda: pixel(np.nan), ["images", "NaN"]),
        (lambda: (batch()[0], [0, CLASSES, 1]), ["target_class", "[0, 4]", "[0 5]"]),
        (lambda: (batch()[0], [0, -1, 1]), ["target_class", "[0, 4]", "[-1 1]"]),
    ],
)
def test_a_bad_request_is_refused_with_its_cause(request_of, words, serve):
    images, classes = request_of()
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        serve(images=tf.constant(images, tf.float32), target_class=tf.constant(classes, tf.int32))
    for word in words:
        assert word in caught.value.message


def test_an_untargeted_generator_takes_the_label(generator, tmp_path):
    untargeted = ServedGenerator(generator, SHAPE, NAMES, EPSILON, targeted=False)
    path = export_generator(tmp_path / "generator", untargeted, PRESET)
    loaded = tf.saved_model.load(str(path))
    signature = loaded.signatures["serving_default"]
    assert set(signature.structured_input_signature[1]) == {"images", "label"}
    images, classes = batch()
    np.testing.assert_array_equal(
        signature(images=tf.constant(images), label=tf.constant(classes))["adversarial_images"],
        untargeted.signatures()["serving_default"](images=tf.constant(images), label=tf.constant(classes))[
            "adversarial_images"
        ],
    )
    with pytest.raises(tf.errors.InvalidArgumentError, match="label must lie in"):
        signature(images=tf.constant(images), label=tf.constant([0, 1, 9]))


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


def test_a_failing_save_leaves_no_version(served, tmp_path, monkeypatch):
    def fail(module, path, signatures):
        fake_save(module, path, signatures)
        raise OSError("disk full")

    monkeypatch.setattr(tf.saved_model, "save", fail)
    folder = tmp_path / "generator"
    with pytest.raises(OSError, match="disk full"):
        export_generator(folder, served, PRESET)
    assert not list(folder.iterdir())


# --- a generator that takes budgets


@pytest.fixture(scope="module")
def budgeted(tmp_path_factory):
    made = Generator(CLASSES, SHAPE[-1], width=4, num_blocks=1, budget_input=True)
    made.head.kernel.assign(tf.random.stateless_normal(made.head.kernel.shape, (0, 0)))
    served = ServedGenerator(made, SHAPE, NAMES, EPSILON, targeted=True, variable_epsilon=True)
    return tf.saved_model.load(str(export_generator(tmp_path_factory.mktemp("budgeted"), served, PRESET)))


def answer(loaded, epsilon, size=3):
    images, classes = batch(size)
    inputs = {"images": tf.constant(images), "target_class": tf.constant(classes)}
    outputs = loaded.signatures["with_epsilon"](**inputs, epsilon=tf.constant(epsilon, tf.float32))
    return outputs["perturbation"].numpy()


def test_each_image_is_kept_within_its_epsilon(budgeted):
    epsilons = [0.25 * EPSILON, 0.5 * EPSILON, EPSILON]
    largest = np.abs(answer(budgeted, epsilons)).max(axis=(1, 2, 3))
    assert (largest <= np.array(epsilons) + 1e-6).all()
    assert (largest > 0.9 * np.array(epsilons)).all()


def test_the_default_signature_is_the_greatest_epsilon(budgeted):
    images, classes = batch()
    default = budgeted.signatures["serving_default"](images=tf.constant(images), target_class=tf.constant(classes))
    np.testing.assert_array_equal(default["perturbation"], answer(budgeted, [EPSILON] * 3))


@pytest.mark.parametrize(
    ("epsilon", "words"),
    [
        ([EPSILON, 0.1001, EPSILON], ["epsilon must lie above 0 and at most at 0.1", "0.1001"]),
        ([EPSILON, 0.0, EPSILON], ["above 0", "[0 0.1]"]),
        ([EPSILON, -0.01, EPSILON], ["above 0"]),
        ([EPSILON, np.nan, EPSILON], ["epsilon must lie"]),
        ([EPSILON, EPSILON], ["epsilon must have the shape (batch,)", "[2]"]),
        (EPSILON, ["epsilon must have the shape (batch,)"]),
        ([[EPSILON], [EPSILON], [EPSILON]], ["epsilon must have the shape (batch,)", "[3 1]"]),
    ],
)
def test_a_bad_epsilon_is_refused_with_its_cause(epsilon, words, budgeted):
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        answer(budgeted, epsilon)
    for word in words:
        assert word in caught.value.message


def test_a_generator_of_one_epsilon_has_no_signature_that_takes_one(exported):
    assert set(tf.saved_model.load(str(exported)).signatures) == {"serving_default", "encoded", "class_number"}
