"""Users' classifiers: logits and gradients pass unchanged, weights come back after training, misfits are refused."""

import pathlib
import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from tensorflow.core.protobuf import saved_model_pb2

from aigan_tf.classifiers.loading import as_classifier, load_classifier, load_for_training, usable_gradients
from aigan_tf.classifiers.preprocessing import Preprocessing
from aigan_tf.errors import InputError

SHAPE = (8, 8, 1)
CLASSES = 4
TOPS = {"logits": [], "dense with softmax": [], "softmax layer": [layers.Softmax]}
TOPS["softmax activation"] = [lambda: layers.Activation("softmax")]
CUSTOM_LAYER = """
import keras

@keras.saving.register_keras_serializable("theirs")
class Doubling(keras.layers.Layer):
    def call(self, inputs):
        return 2.0 * inputs
"""


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).uniform(size=(5, *SHAPE)).astype(np.float32)


def make_model(top="logits", kind="functional"):
    """Returns a classifier with random weights, and a function of images to its logits in inference mode.

    Dropout and batch statistics would show a wrong mode.
    """
    keras.utils.set_random_seed(0)
    body = keras.Sequential([
        keras.Input(SHAPE),
        layers.Conv2D(6, 3, activation="relu", bias_initializer="random_normal"),
        layers.BatchNormalization(moving_mean_initializer="random_normal"),
        layers.Dropout(0.5),
        layers.Flatten(),
    ])  # fmt: skip
    activation = "softmax" if top == "dense with softmax" else None
    dense = layers.Dense(CLASSES, activation=activation, bias_initializer="random_normal")
    model = keras.Sequential([keras.Input(SHAPE), *body.layers, dense, *(layer() for layer in TOPS[top])])
    if kind == "functional":
        model = keras.Model(model.inputs[0], model.outputs[0])
    return model, lambda images: tf.matmul(body(images, training=False), dense.kernel) + dense.bias


def save(model, path):
    """Saves a .keras file, or else a SavedModel; returns its path as a user gives it."""
    if path.suffix == ".keras":
        model.save(path)
    else:
        model.export(path, verbose=False)
    return str(path)


def logits_and_gradients(classifier, images):
    """Log-probabilities, so that a constant per row makes no difference, and the gradient of one of them."""
    images = tf.constant(images)
    with tf.GradientTape() as tape:
        tape.watch(images)
        log_probabilities = tf.nn.log_softmax(classifier(images))
        loss = tf.reduce_sum(log_probabilities[:, 1])
    return log_probabilities.numpy(), tape.gradient(loss, images).numpy()


def assert_same_classifier(loaded, logits, images):
    actual, actual_gradients = logits_and_gradients(loaded, images)
    expected, expected_gradients = logits_and_gradients(logits, images)
    np.testing.assert_allclose(actual, expected, atol=1e-5)
    np.testing.assert_allclose(actual_gradients, expected_gradients, atol=1e-5, rtol=1e-4)
    assert (np.abs(actual_gradients).max(axis=(1, 2, 3)) > 1e-4).all()


@pytest.fixture
def silent(caplog):
    """The package logs nothing in the test."""
    yield
    assert not [record for record in caplog.get_records("call") if record.name.startswith("aigan_tf")]


@pytest.mark.parametrize("kind", ["functional", "sequential"])
@pytest.mark.parametrize("top", TOPS)
def test_logits_before_a_softmax_are_attacked(top, kind, images, tmp_path, silent):
    model, logits = make_model(top, kind)
    loaded = load_classifier(save(model, tmp_path / "model.keras"), images, CLASSES)
    np.testing.assert_allclose(loaded(tf.constant(images)), logits(images), atol=1e-6)
    assert_same_classifier(loaded, logits, images)


@pytest.mark.parametrize(("name", "low", "high"), [("a.keras", 0, 255), ("b.keras", -1, 1), ("served", 0, 255)])
def test_pixels_are_scaled_to_the_input_range(name, low, high, images, tmp_path, silent):
    inner, logits = make_model()
    inputs = keras.Input(SHAPE)
    path = save(keras.Model(inputs, inner((inputs - low) / (high - low))), tmp_path / name)
    loaded = load_classifier(path, images, CLASSES, Preprocessing((low, high)))
    assert_same_classifier(tf.function(loaded), logits, images)


class Subclassed(keras.Model):
    """Calls a model of logits in its own way."""

    def __init__(self, inner):
        super().__init__()
        self.inner, self.dropout = inner, layers.Dropout(0.5)

    def call(self, inputs, training=None):
        return tf.nn.softmax(self.inner(self.dropout(inputs, training=training), training=training))


HEADS = {
    "keras.ops.softmax": keras.ops.softmax,
    "before reshape": lambda x: layers.Reshape((CLASSES,))(layers.Softmax()(layers.Reshape((1, 1, CLASSES))(x))),
    "float16": lambda x: layers.Activation("linear", dtype="float32")(layers.Softmax(dtype="float16")(x)),
}


def wrapped(kind, folder):
    """Returns a model with a softmax that no list of layers shows, or its path, and a function of images to its logits."""
    model, logits = make_model()
    inputs = keras.Input(SHAPE)
    if kind in HEADS:
        return keras.Model(inputs, HEADS[kind](model(inputs))), logits
    if kind == "subclassed":
        return Subclassed(model), logits
    model, logits = make_model("softmax layer")
    if kind == "nested":
        return keras.Model(inputs, model(inputs)), logits
    path = save(model, folder / "served")
    if kind == "nested SavedModel":
        module = tf.Module()
        module.loaded = tf.saved_model.load(path)
        signature = tf.function(
            lambda images: {"label": module.loaded.serve(images)},
            input_signature=[tf.TensorSpec((None, *SHAPE), tf.float32)],
        )
        path = str(folder / "outer")
        tf.saved_model.save(module, path, signatures={"classify": signature})  # the only signature
    return path, logits


@pytest.mark.parametrize("kind", [*HEADS, "nested", "subclassed", "SavedModel", "nested SavedModel"])
def test_a_softmax_is_removed_wherever_it_stands(kind, images, tmp_path, silent):
    model, logits = wrapped(kind, tmp_path)
    attacked = (load_classifier if isinstance(model, str) else as_classifier)(model, images, CLASSES)
    outputs = attacked(tf.constant(images))
    assert outputs.dtype == tf.float32
    np.testing.assert_allclose(outputs, logits(images), atol=1e-2 if kind == "float16" else 1e-5)
    if kind != "float16":
        assert_same_classifier(attacked, logits, images)


def test_a_softmax_that_cannot_be_removed_is_attacked_through_log_probabilities(images, caplog):
    model, logits = make_model()

    def by_hand(images):
        powers = tf.exp(model(images, training=False))
        return powers / tf.reduce_sum(powers, axis=-1, keepdims=True)

    attacked = as_classifier(by_hand, images, CLASSES)
    assert "logarithms" in caplog.text
    assert_same_classifier(attacked, logits, images)


@pytest.mark.parametrize("removable", [True, False])
@pytest.mark.parametrize("count", [1, CLASSES])
def test_sigmoids_become_logits(count, removable, images, caplog):
    keras.utils.set_random_seed(0)
    inputs = keras.Input(SHAPE)
    model = keras.Model(inputs, layers.Dense(count, bias_initializer="random_normal")(layers.Flatten()(inputs)))

    def sigmoid(images):
        outputs = model(images)
        outputs = tf.sigmoid(outputs) if removable else 1.0 / (1.0 + tf.exp(-outputs))
        return outputs[:, 0] if count == 1 and not removable else outputs  # (batch,) is a binary answer too

    attacked = as_classifier(sigmoid, images, max(count, 2))
    expected = model(images) if count > 1 else tf.concat([tf.zeros((5, 1)), model(images)], axis=-1)
    np.testing.assert_allclose(attacked(tf.constant(images)), expected, atol=1e-4)
    assert bool(caplog.text) == (count > 1 or not removable)


def test_a_saved_model_of_keras_2_with_its_optimizer_is_loaded(images, tmp_path, silent):
    model, logits = make_model("softmax layer")
    path = pathlib.Path(save(model, tmp_path / "served")) / "saved_model.pb"
    saved = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    nodes = saved.meta_graphs[0].object_graph_def.nodes
    variable, other, *_ = (number for number, node in enumerate(nodes) if node.HasField("variable"))
    nodes[0].children.add(node_id=len(nodes), local_name="optimizer")
    optimizer = nodes.add()
    optimizer.user_object.identifier = "optimizer"
    optimizer.slot_variables.add(original_variable_node_id=variable, slot_variable_node_id=other, slot_name="momentum")
    path.write_bytes(saved.SerializeToString())
    with pytest.raises(AttributeError, match="add_slot"):
        tf.saved_model.load(str(path.parent))
    assert_same_classifier(load_classifier(str(path.parent), images, CLASSES), logits, images)


def test_images_without_a_gradient_are_counted(images, caplog):
    model = make_model()[0]
    bright = images.copy()
    bright[:2] += 1000.0

    def saturated(images):
        return model(images) * tf.cast(tf.reduce_mean(images, [1, 2, 3])[:, None] < 500.0, tf.float32)

    as_classifier(saturated, bright, CLASSES)
    assert "2 of 5" in caplog.text


def test_a_gradient_outside_graphs_asks_for_no_weights(images):
    # TensorFlow 2.21's gradient of this kernel corrupts memory on a CPU, with a segmentation fault for every user.
    inputs = keras.Input((60, 60, 8))
    model = keras.Model(
        inputs, layers.GlobalAveragePooling2D()(layers.Conv2D(16, 1, strides=2, padding="same")(inputs))
    )
    batch = tf.random.stateless_uniform((10, 60, 60, 8), (0, 1))
    attacked = as_classifier(model, batch.numpy(), 16)
    with tf.GradientTape() as tape:
        tape.watch(batch)
        logits = attacked(batch)
    assert np.abs(tape.gradient(logits, batch)).max() > 0


@pytest.mark.parametrize(
    ("factor_of", "count"),
    [
        (lambda images: tf.random.normal((tf.shape(images)[0], 1)), "5 of 5"),
        (lambda images: tf.shape(images)[0], "5 of 5"),  # the answer depends on what else is in the batch
        (lambda images: tf.where(tf.range(tf.shape(images)[0]) > 2, np.nan, 1.0)[:, None], "2 of 5"),
    ],
)
def test_an_answer_that_is_not_always_the_same_is_counted(factor_of, count, images):
    model = make_model()[0]
    with pytest.raises(InputError) as caught:
        as_classifier(lambda images: model(images) * tf.cast(factor_of(images), tf.float32), images, CLASSES)
    assert count in caught.value.problem


def test_a_model_that_trains_by_default_is_called_in_inference_mode(images):
    model, logits = make_model()

    def learning(images, training=True):
        return model(images, training=training)

    assert_same_classifier(as_classifier(learning, images, CLASSES), logits, images)


def test_a_model_that_was_never_called_is_attackable(images, silent):
    model = keras.Sequential([layers.Flatten(), layers.Dense(CLASSES), layers.Softmax()])
    attacked = as_classifier(model, images, CLASSES)
    np.testing.assert_allclose(tf.nn.softmax(attacked(tf.constant(images))), model(images), atol=1e-5)


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("top", TOPS)
def test_the_model_of_the_file_is_trained_through_its_logits(top, nested, images, tmp_path):
    model, logits = make_model(top)
    if nested:
        inputs = keras.Input(SHAPE)
        model = keras.Model(inputs, model(inputs))
    trainable = load_for_training(save(model, tmp_path / "model.keras"), images, Preprocessing((-1.0, 1.0)))
    np.testing.assert_allclose(
        tf.nn.log_softmax(tf.function(trainable)(images)), tf.nn.log_softmax(logits(2 * images - 1)), atol=1e-5
    )
    before = trainable.model(2 * images - 1).numpy()
    trainable.compile(keras.optimizers.SGD(0.1), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    trainable.fit(images, np.arange(5) % CLASSES, epochs=3, verbose=0)
    assert np.abs(trainable.model(2 * images - 1).numpy() - before).max() > 1e-3


def refusal(attempt, setting, received):
    """Returns the error with which an attempt is refused; it has one line and names the setting and its value."""
    with pytest.raises(InputError) as caught:
        attempt()
    assert "\n" not in str(caught.value)
    assert (caught.value.setting, caught.value.received) == (setting, received)
    return caught.value


def refusal_of(path, images, *arguments, setting="classifier"):
    arguments = arguments or (CLASSES,)
    return refusal(lambda: load_classifier(str(path), images, *arguments, setting=setting), setting, str(path))


def test_a_model_without_a_gradient_is_attacked_as_a_black_box_alone(images, tmp_path):
    module = tf.Module()
    module.loaded = tf.saved_model.load(save(make_model()[0], tmp_path / "floats"))
    serve = tf.function(
        lambda images: {"logits": module.loaded.serve(tf.cast(images, tf.float32) / 255.0)},
        input_signature=[tf.TensorSpec((None, *SHAPE), tf.uint8, name="images")],
    )
    tf.saved_model.save(module, str(tmp_path / "bytes"), signatures={"serving_default": serve})
    inputs = keras.Input(SHAPE)
    flat = layers.Flatten()(keras.ops.round(inputs))
    save(keras.Model(inputs, layers.Dense(CLASSES)(flat)), tmp_path / "rounds.keras")
    for name, pixel_range in (("bytes", (0.0, 255.0)), ("rounds.keras", (0.0, 1.0))):
        pixels = Preprocessing(pixel_range)
        assert "gradient" in refusal_of(tmp_path / name, images, CLASSES, pixels).problem
        queried = load_classifier(str(tmp_path / name), images, CLASSES, pixels, needs_gradient=False)
        assert queried(tf.constant(images)).shape == (len(images), CLASSES)
        assert not usable_gradients(queried, images).any()


@pytest.mark.parametrize(
    ("name", "shape", "classes", "problem", "fix"),
    [
        ("model.keras", (9, 8, 1), 4, "(8, 8, 1)", "`image_size`"),
        ("model.keras", (8, 8, 3), 4, "(8, 8, 1)", "`dataset`"),  # resizing makes no channels
        ("flat.keras", SHAPE, 4, "(64,)", "Another shape"),
        ("served", (9, 8, 1), 4, "(8, 8, 1)", "`image_size`"),
        ("model.keras", SHAPE, 10, "(4,)", ""),
        ("maps.keras", SHAPE, 4, "(6, 6, 4)", ""),
        ("nan.keras", SHAPE, 4, "NaN", "`input_range`"),
        ("lambda.keras", SHAPE, 4, "Lambda", ""),  # not executed
        ("two_outputs", SHAPE, 4, "features", "`classifier_output`"),
    ],
)
def test_a_model_that_does_not_fit_is_refused(name, shape, classes, problem, fix, tmp_path):
    inputs, model = keras.Input(SHAPE), make_model()[0]
    outputs = {
        "maps.keras": lambda: layers.Conv2D(CLASSES, 3)(inputs),
        "nan.keras": lambda: model(inputs) + np.nan,
        "lambda.keras": lambda: model(layers.Lambda(lambda x: x * 3.0)(inputs)),
        "two_outputs": lambda: {"logits": model(inputs), "features": inputs},
    }
    if name == "flat.keras":
        model = keras.Sequential([keras.Input((64,)), layers.Dense(CLASSES)])
    elif name in outputs:
        model = keras.Model(inputs, outputs[name]())
    path = save(model, tmp_path / name)
    error = refusal_of(path, np.zeros((5, *shape), np.float32), classes, setting="transfer_to")
    assert problem in error.problem
    assert fix in error.fix


def test_files_that_are_not_models_are_refused(images, tmp_path):
    path = save(make_model()[0], tmp_path / "model.keras")
    whole = (tmp_path / "model.keras").read_bytes()
    with zipfile.ZipFile(path) as archive:
        weights = archive.getinfo("model.weights.h5")
    damaged = bytearray(whole)
    damaged[weights.header_offset + weights.file_size // 2] ^= 1
    (tmp_path / "damaged.keras").write_bytes(damaged)
    (tmp_path / "truncated.keras").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.h5").write_text("not a model")
    with zipfile.ZipFile(tmp_path / "other.keras", "w") as archive:
        archive.writestr("readme.txt", "another archive")
    (tmp_path / "folder").mkdir()
    tf.saved_model.save(tf.Module(), str(tmp_path / "without signature"))
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "classifier.keras").touch()
    for name in ("truncated.keras", "text.h5", "other.keras", "folder", "without signature", "missing.keras"):
        refusal_of(tmp_path / name, images)
    assert "model.weights.h5" in refusal_of(tmp_path / "damaged.keras", images).problem
    assert str(tmp_path / "run" / "classifier.keras") in refusal_of(tmp_path / "run", images).fix


def test_a_custom_layer_needs_the_file_that_registers_it(images, tmp_path):
    registry = keras.saving.get_custom_objects()
    before = dict(registry)
    source, namespace = tmp_path / "their_layers.py", {"__name__": "their_layers"}
    source.write_text(CUSTOM_LAYER)
    exec(CUSTOM_LAYER, namespace)
    inputs = keras.Input(SHAPE)
    model = keras.Model(inputs, layers.Dense(CLASSES)(layers.Flatten()(namespace["Doubling"]()(inputs))))
    path = save(model, tmp_path / "model.keras")
    try:
        registry.clear()
        error = refusal_of(path, images)
        assert "Doubling" in error.problem
        assert "`custom_objects`" in error.fix
        loaded = load_classifier(path, images, CLASSES, custom_objects=str(source))
        assert_same_classifier(loaded, model, images)
    finally:
        registry.clear()
        registry.update(before)
