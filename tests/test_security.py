"""Attacks on the program and odd worlds around it, as a list: model files, classifiers, files and answers of others.

Each is refused in one line before it costs anything, or is reported; no number is silently wrong and nothing measured is lost.
"""

import contextlib
import dataclasses
import functools
import importlib
import json
import os
import pkgutil
import types
import zipfile

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import aigan_tf
from aigan_tf import files
from aigan_tf.classifiers import allow_list, limits
from aigan_tf.classifiers.loading import as_classifier, load_classifier
from aigan_tf.classifiers.model_files import load_keras
from aigan_tf.data.splits import Split
from aigan_tf.errors import DivergedError, InputError
from aigan_tf.evaluation.caveats import nan_warnings
from aigan_tf.evaluation.evaluation_set import EvaluationSet
from aigan_tf.evaluation.image_folder import ImageFolder
from aigan_tf.evaluation.report_files import write_report
from aigan_tf.training.generator import _why_not_finite
from aigan_tf.workdir import Workdir

SHAPE, CLASSES = (8, 8, 1), 3


def function(module, name):
    return {"module": module, "class_name": "function", "config": name, "registered_name": name}


def instance(module, name, /, **config):
    return {"module": module, "class_name": name, "config": config, "registered_name": None}


LAYERS = {  # in place of a layer
    "code": instance(
        "keras.layers", "Lambda", name="l", function={"class_name": "__lambda__", "config": {"value": ""}}
    ),
    "a SavedModel": instance("keras.layers", "TFSMLayer", name="l", filepath="{folder}/saved"),
    "pickled code of torch": instance("keras.layers", "TorchModuleWrapper", name="l", module=""),
    "a file that is read": instance("keras.layers", "StringLookup", name="l", vocabulary="/etc/passwd"),
    "a layer of this package": {**instance("x", "Y"), "registered_name": "aigan_tf>Discriminator"},
    "a program's loop": instance("keras.src.ops.core", "WhileLoop", cond=function("keras.ops", "any"), body="relu"),
    "a module of Keras that is imported": instance("keras.src.export.export_lib", "ExportArchive"),
    "a layer by the name of an operation": instance("keras.src.ops.numpy", "TFSMLayer", filepath="{folder}/saved"),
    "a class that is not a name": {**instance("keras.layers", "Dense"), "class_name": ["Dense"]},
}
FUNCTIONS = {  # in place of a layer's activation
    "training is cut short": function("keras.config", "set_max_epochs"),
    "numbers change": function("keras.config", "set_floatx"),
    "random numbers change": function("keras.utils", "set_random_seed"),
    "code is allowed": function("keras.config", "enable_unsafe_deserialization"),
    "a picture is written": function("keras.utils", "plot_model"),
    "an array is written as a picture": function("keras.utils", "save_img"),
    "the network is asked": function("keras.utils", "get_file"),
    "a model of the network": function("keras.applications", "VGG16"),
    "a function of a module that is not named": function("builtins", "deserialize"),
    "a registered name that is none": {**function("keras.config", "disable_traceback_filtering"), "registered_name": "relu"},
    "a SavedModel as a function": instance("keras.layers", "TFSMLayer", filepath="{folder}/saved"),
    "a type of TensorFlow": {"class_name": "__typespec__", "spec_name": "x", "module": "keras", "registered_name": None, "config": []},
}  # fmt: skip


def of_deeper(attack):
    """The same inside an initializer, in an inner model."""
    inner = instance("keras", "Sequential", name="inner", layers=[instance("keras.layers", "Dense", name="d", units=3)])
    inner["config"]["layers"][0]["config"]["kernel_initializer"] = {"module": "keras", "x": [attack]}
    return inner


def in_place_of_activation(config, attack):
    config["config"]["layers"][1]["config"]["activation"] = attack


def in_place_of_layer(config, attack):
    config["config"]["layers"][1] = attack


ATTACKS = [(name, in_place_of_layer, attack) for name, attack in LAYERS.items()]
ATTACKS += [(name, in_place_of_activation, attack) for name, attack in FUNCTIONS.items()]
ATTACKS += [("deep inside", in_place_of_layer, of_deeper(FUNCTIONS["numbers change"]))]


@pytest.fixture(scope="module")
def honest(tmp_path_factory):
    """A folder with a classifier as .keras and .h5."""
    folder = tmp_path_factory.mktemp("honest")
    body = keras.Sequential([keras.Input(SHAPE), layers.Flatten()])
    body.compile("sgd", "mse")
    model = keras.Sequential([keras.Input(SHAPE), layers.Activation("relu"), body, layers.Dense(CLASSES)])
    model.compile("adam", "mse")
    model.save(folder / "model.keras")
    model.save(folder / "model.h5")
    return folder


def rewritten(source, target, change, **archive):
    """Writes a .keras or .h5 file with another configuration; `archive` holds how zip members are written."""
    if target.suffix == ".h5":
        target.write_bytes(source.with_suffix(".h5").read_bytes())
        with h5py.File(target, "r+") as file:
            config = json.loads(file.attrs["model_config"])
            change(config)
            file.attrs["model_config"] = json.dumps(config)
        return
    with zipfile.ZipFile(source.with_suffix(".keras")) as old, zipfile.ZipFile(target, "w", **archive) as new:
        for name in old.namelist():
            data = old.read(name)
            if name == "config.json":
                config = json.loads(data)
                change(config)
                data = json.dumps(config)
            new.writestr(name, data)


def seen(*_, **__):
    pytest.fail("Keras has seen what it should not")  # no Exception, which would be refused in one line too


def refused(path):
    with pytest.raises(InputError) as error:
        load_classifier(str(path), np.zeros((2, *SHAPE), np.float32), CLASSES)
    assert error.value.setting == "classifier"
    return error.value.problem


@pytest.mark.parametrize("ending", ["keras", "h5"])
@pytest.mark.parametrize(("place", "attack"), [each[1:] for each in ATTACKS], ids=[each[0] for each in ATTACKS])
def test_a_model_names_only_what_is_allowed(place, attack, ending, honest, tmp_path, monkeypatch):
    attack = json.loads(json.dumps(attack).replace("{folder}", str(tmp_path)))
    rewritten(honest / "model", tmp_path / f"model.{ending}", lambda config: place(config, attack))
    monkeypatch.setattr(keras.models, "load_model", seen)
    refused(tmp_path / f"model.{ending}")
    assert [path.name for path in tmp_path.iterdir()] == [f"model.{ending}"]


@pytest.mark.parametrize("ending", ["keras", "h5"])
def test_what_honest_models_hold_is_taken(ending, tmp_path):
    inputs = keras.Input((8, 8, 2))
    # Keras loads no operations from HDF5.
    x = inputs if ending == "h5" else keras.ops.relu(inputs[:, :, :, 0:2]) * np.ones(1, np.float32)
    x = layers.Conv2D(
        2, 1, activation=keras.ops.silu, kernel_regularizer="l2", kernel_constraint="max_norm", dtype="mixed_bfloat16"
    )(x)
    x = layers.Dropout(0.1, seed=1)(layers.Activation("gelu")(layers.Reshape((8, 16))(x)))
    x = layers.Bidirectional(layers.GRU(2, return_sequences=True))(layers.TimeDistributed(layers.Dense(3))(x))
    x = layers.MultiHeadAttention(1, 2, kernel_initializer=keras.initializers.HeNormal(3))(x, x)
    model = keras.Model(inputs, layers.Dense(CLASSES, activation=keras.activations.softmax)(layers.Flatten()(x)))
    model.save(tmp_path / f"model.{ending}")
    images = np.random.default_rng(0).uniform(size=(2, 8, 8, 2)).astype(np.float32)
    loaded = load_keras(tmp_path / f"model.{ending}")
    np.testing.assert_allclose(loaded(images), model(images), atol=1e-2)


def test_the_layers_of_keras_applications_are_taken():
    for module in pkgutil.iter_modules(keras.src.applications.__path__, "keras.src.applications."):
        if not module.name.endswith("_test"):
            for name, kind in vars(importlib.import_module(module.name)).items():
                if isinstance(kind, type) and issubclass(kind, layers.Layer) and kind.__module__ == module.name:
                    allow_list.checked(instance(module.name, name))


@pytest.mark.parametrize("ending", ["keras", "h5"])
@pytest.mark.parametrize("inner", [False, True])
def test_what_a_model_was_compiled_with_is_never_read(inner, ending, honest, tmp_path, monkeypatch):
    def compiled_with_more(config):
        place = config["config"]["layers"][2] if inner else config
        place["compile_config"] = {"optimizer": function("keras.config", "clear_session")}

    rewritten(honest / "model", tmp_path / f"model.{ending}", compiled_with_more)
    monkeypatch.setattr(keras.Model, "compile_from_config", seen)
    assert load_classifier(str(tmp_path / f"model.{ending}"), np.ones((2, *SHAPE), np.float32), CLASSES)


def test_a_small_file_cannot_ask_for_much_memory(honest, tmp_path, monkeypatch):
    monkeypatch.setattr("aigan_tf.classifiers.limits.UNSUSPICIOUS", 2**20)
    monkeypatch.setattr(keras.models, "load_model", seen)

    def with_weights(data, **archive):
        with zipfile.ZipFile(tmp_path / "bomb.keras", "w", **archive) as new:
            new.write(honest / "model.h5", "config.json")
            new.writestr("model.weights.h5", data)
        return refused(tmp_path / "bomb.keras")

    assert "deflate" in with_weights(bytes(2**22), compression=zipfile.ZIP_BZIP2)
    assert "memory" in with_weights(bytes(2**24), compression=zipfile.ZIP_DEFLATED)
    with h5py.File(tmp_path / "shape.h5", "w") as file:  # nothing of it is stored
        file.create_dataset("layer/kernel", (2**20, 2**20), chunks=(2**10, 2**10))
        file.attrs["model_config"] = "{}"
    assert "memory" in refused(tmp_path / "shape.h5")
    assert "memory" in with_weights((tmp_path / "shape.h5").read_bytes())


def layer(kind, name=None, /, **config):
    return instance("keras.layers", kind, name=name or kind, **config)


HUGE = {  # in place of a layer, each a few bytes long
    "weights": [layer("Dense", units=10**9)],
    "weights of several layers": [layer("Dense", units=2**12), layer("Dense", "d", units=2**13)],
    "weights of an inner layer": [layer("TimeDistributed", layer=instance("keras.layers", "Dense", name="d", units=10**9))],
    "weights of an inner model": [instance("keras", "Sequential", name="m", layers=[layer("Dense", units=10**9)])],
    "a large image": [layer("UpSampling2D", size=[10**4, 10**4]), layer("GlobalMaxPooling2D", keepdims=True),
                      layer("UpSampling2D", "u", size=[8, 8])],
    "a long sequence": [layer("Flatten"), layer("RepeatVector", n=10**9)],
    "many parts": [layer("Activation", f"a{number}", activation="relu") for number in range(100)],
    "a constant that is computed at once": [
        {**instance("keras.src.ops.numpy", "Tile", repeats=[10**9]),
         "inbound_nodes": [{"args": [{"class_name": "__numpy__", "config": {"value": [0], "dtype": "int8"}}], "kwargs": {}}]}
    ],
}  # fmt: skip


@pytest.mark.parametrize("attack", HUGE.values(), ids=HUGE.keys())
def test_a_configuration_cannot_ask_for_much_memory(attack, honest, tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "MAX_PARTS", 100)

    def with_more(config):
        config["config"]["layers"][1:1] = json.loads(json.dumps(attack))

    rewritten(honest / "model", tmp_path / "model.keras", with_more)
    problem = refused(tmp_path / "model.keras")
    assert "asks for" in problem or "values" in problem, problem


@pytest.mark.parametrize(
    "config",
    ["", "[", "null", "[]", "{}", '"Sequential"', "\ud800".encode("utf-8", "surrogatepass"), b"\xff" * 9, 10**5 * "[",
     '{"class_name": null}', '{"class_name": "Sequential"}', '{"class_name": "Sequential", "config": 1, "module": "keras"}'],
)  # fmt: skip
@pytest.mark.parametrize("ending", ["keras", "h5"])
def test_a_crafted_configuration_ends_in_one_line(config, ending, honest, tmp_path):
    path = tmp_path / f"model.{ending}"
    if ending == "h5":
        path.write_bytes((honest / "model.h5").read_bytes())
        with h5py.File(path, "r+") as file:
            file.attrs["model_config"] = np.bytes_(config) if isinstance(config, bytes) else config
    else:
        with zipfile.ZipFile(honest / "model.keras") as old, zipfile.ZipFile(path, "w") as new:
            new.writestr("config.json", config)
            new.writestr("model.weights.h5", old.read("model.weights.h5"))
    assert "\n" not in refused(path)


@pytest.fixture(scope="module")
def weights():
    return np.random.default_rng(0).normal(size=(64, CLASSES)).astype(np.float32)


def logits(images, weights):
    return tf.reshape(images, (-1, 64)) @ weights


CLASSIFIERS = {  # name to logits of (images, weights)
    "NaN on some images": lambda x, w: tf.where(x[:, :1, 0, 0] > 0.9, np.nan, logits(x, w)),
    "noisy": lambda x, w: logits(x, w) + tf.random.normal((1, CLASSES)),
    "with dropout": lambda x, w: logits(tf.nn.dropout(x, 0.5), w),
    "dependent on the batch": lambda x, w: logits(x - tf.reduce_mean(x, 0), w),
    "dependent on what it was asked before": None,
}


@pytest.mark.parametrize("kind", CLASSIFIERS)
def test_a_classifier_that_cannot_be_measured_is_named(kind, weights, digits):
    images, calls = digits.test.as_float()[:60], tf.Variable(0.0)
    images[0, 0, 0] = 1.0
    classify = CLASSIFIERS[kind] or (lambda x, w: logits(x, w) + calls.assign_add(1.0) * weights[0])
    with pytest.raises(InputError, match=r"\d+ of \d+") as error:
        as_classifier(lambda x: classify(x, weights), images[:16], CLASSES)
    assert error.value.setting == "classifier"


def test_nan_is_never_right_and_the_report_says_so(weights):
    images = np.zeros((4, *SHAPE), np.float32)
    images[:2] = 1.0
    labels = np.zeros(4, np.int32)
    examples = EvaluationSet(
        lambda x: tf.where(x[:, :1, 0, 0] > 0.9, np.nan, logits(x, weights)), images, labels, "abc"
    )
    assert examples.correct.tolist() == [False, False, True, True]
    assert "2 of 4" in nan_warnings(examples)[0]


def breaks_beyond_half(images, weights):
    """Adversarial images alone: the clean ones of the tests below are darker."""
    return logits(images, weights) + tf.where(tf.reduce_max(images, (1, 2, 3)) > 0.52, np.nan, 0.0)[:, None]


@pytest.mark.parametrize(
    ("classifier", "word"),
    [
        (breaks_beyond_half, "classifier"),
        (lambda x, w: logits(x, w) + w[0] * tf.sqrt(tf.nn.relu(x[:, :1, 0, 0] - 1)), "classifier"),  # its gradient
        (logits, "learning_rate"),
    ],
)
@pytest.mark.parametrize("loss", ["gan_loss", "val_gan_loss"])
def test_nan_in_training_says_what_broke_it(classifier, word, loss, weights, digits):
    images = np.random.default_rng(0).uniform(0, 0.5, (4, *SHAPE)).astype(np.float32)
    split = Split((images * 255).astype(np.uint8), np.zeros(4, np.int32))
    aigan = types.SimpleNamespace(classifier=lambda x: classifier(x, weights), epsilon=0.3)
    dataset = dataclasses.replace(digits, train=split, validation=split)
    _, fix = _why_not_finite(aigan, None, dataset, lambda step: iter([(images, None)] * 2), 1, [loss])
    assert word in fix


@pytest.mark.long
def test_a_training_that_a_classifier_broke_names_it(weights):
    images = np.random.default_rng(0).uniform(0, 0.5, (60, *SHAPE)).astype(np.float32)
    small = dict(
        generator_width=4, generator_blocks=0, batch_size=20, stage1_epochs=0, stage2_epochs=1, steps_per_epoch=3
    )
    for classifier, rate, word in ((breaks_beyond_half, 1e-3, "classifier"), (logits, 1e30, "learning_rate")):
        with pytest.raises(DivergedError) as error:
            aigan_tf.fit_generator(
                functools.partial(classifier, weights=weights),
                images,
                epsilon=0.3,
                learning_rate=rate,
                verbose=False,
                **small,
            )
        assert word in error.value.fix


@pytest.fixture
def victim(tmp_path):
    """A file that a planted link leads to; it must stay as it is."""
    path = tmp_path / "victim"
    path.write_text("precious")
    yield path
    assert path.read_text() == "precious"


REPORT = {"report.json": b"{}", "report.html": b""}
WRITES = {  # the name of a planted link, and what is written where it lies
    ".lock": lambda folder: Workdir(folder).locked().__enter__(),
    ".lock ": lambda folder: write_report(folder, None, REPORT),
    "latest": lambda folder: write_report(folder, None, REPORT),
    "metrics.csv": lambda folder: files.write_csv(folder / "metrics.csv", [{"a": 1}]),
    "images": lambda folder: ImageFolder(folder / "images", "ab", True).__enter__(),
}


@pytest.mark.parametrize("name", WRITES)
@pytest.mark.parametrize("plant", [os.symlink, lambda _, path: os.mkfifo(path)], ids=["link", "fifo"])
def test_what_is_planted_is_not_followed(plant, name, victim, tmp_path):
    (tmp_path / "run").mkdir()
    plant(victim, tmp_path / "run" / name.strip())
    with contextlib.suppress(InputError):  # or it is replaced
        WRITES[name](tmp_path / "run")


def test_what_killed_reports_left_is_removed_by_the_next(tmp_path):
    for name in ("2026-01-01T00-00-00", "latest"):
        (tmp_path / f".{name}.abcd1234" / name).mkdir(parents=True)
    write_report(tmp_path, None, REPORT)
    assert not [*tmp_path.glob(".*.*")]
