"""Classifiers that were trained elsewhere: their logits and gradients must come through unchanged."""

import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from aigan_tf.classifiers.loading import load_classifier, as_classifier, has_usable_gradient
from aigan_tf.errors import InputError

SHAPE = (8, 8, 1)
CLASSES = 4

CUSTOM = """
import keras

@keras.saving.register_keras_serializable("theirs")
class Doubling(keras.layers.Layer):
    def call(self, inputs):
        return 2.0 * inputs
"""


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).uniform(size=(5, *SHAPE)).astype(np.float32)


@pytest.fixture
def restored_registry():
    """Custom objects that a test registers are forgotten after it."""
    registry = keras.saving.get_custom_objects()
    before = dict(registry)
    yield registry
    registry.clear()
    registry.update(before)


def body(x):
    """A classifier up to its logits; dropout and batch statistics would show a wrong mode."""
    x = layers.Conv2D(6, 3, activation="relu", bias_initializer="random_normal")(x)
    x = layers.BatchNormalization(moving_mean_initializer="random_normal")(x)
    x = layers.Dropout(0.5)(x)
    return layers.Flatten()(x)


def logits_model(seed=0):
    keras.utils.set_random_seed(seed)
    inputs = keras.Input(SHAPE)
    return keras.Model(inputs, layers.Dense(CLASSES, bias_initializer="random_normal", name="top")(body(inputs)))


def with_softmax_layer():
    logits = logits_model()
    return keras.Model(logits.inputs, layers.Softmax()(logits.output)), logits


def with_softmax_activation_layer():
    logits = logits_model()
    return keras.Model(logits.inputs, layers.Activation("softmax")(logits.output)), logits


def with_dense_softmax():
    logits = logits_model()
    top = layers.Dense(CLASSES, activation="softmax", name="probabilities")
    model = keras.Model(logits.inputs, top(logits.layers[-2].output))
    top.set_weights(logits.layers[-1].get_weights())
    return model, logits


def sequential_with_dense_softmax():
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.Input(SHAPE),
            layers.Conv2D(4, 3, activation="relu"),
            layers.Dropout(0.5),
            layers.Flatten(),
            layers.Dense(CLASSES, activation="softmax"),
        ]
    )
    logits = keras.Sequential([keras.Input(SHAPE), *model.layers[:-1], layers.Dense(CLASSES)])
    logits.layers[-1].set_weights(model.layers[-1].get_weights())
    return model, logits


def sequential_with_softmax_layer():
    logits = keras.Sequential([keras.Input(SHAPE), layers.Flatten(), layers.Dense(CLASSES)])
    return keras.Sequential([keras.Input(SHAPE), *logits.layers, layers.Softmax()]), logits


def already_logits():
    model = logits_model()
    return model, model


def logits_and_gradients(classifier, images):
    """Log-probabilities, so that a constant per row makes no difference, and the gradient of one of them."""
    images = tf.constant(images)
    with tf.GradientTape() as tape:
        tape.watch(images)
        log_probabilities = tf.nn.log_softmax(classifier(images))
        loss = tf.reduce_sum(log_probabilities[:, 1])
    return log_probabilities.numpy(), tape.gradient(loss, images).numpy()


def assert_same_classifier(adopted, reference, images):
    actual, actual_gradients = logits_and_gradients(adopted, images)
    expected, expected_gradients = logits_and_gradients(lambda x: reference(x, training=False), images)
    np.testing.assert_allclose(actual, expected, atol=1e-5)
    np.testing.assert_allclose(actual_gradients, expected_gradients, atol=1e-5, rtol=1e-4)
    assert (np.abs(actual_gradients).max(axis=(1, 2, 3)) > 1e-4).all()


@pytest.mark.parametrize(
    "make",
    [
        with_softmax_layer,
        with_softmax_activation_layer,
        with_dense_softmax,
        sequential_with_dense_softmax,
        sequential_with_softmax_layer,
        already_logits,
    ],
)
def test_the_logits_before_a_softmax_are_attacked(make, images, tmp_path, caplog):
    model, logits = make()
    model.save(tmp_path / "model.keras")
    adopted = load_classifier(str(tmp_path / "model.keras"), images, CLASSES)
    np.testing.assert_allclose(adopted(tf.constant(images)), logits(images, training=False), atol=1e-6)
    assert_same_classifier(adopted, logits, images)
    assert not [record for record in caplog.records if record.name.startswith("aigan_tf")]


def test_a_saturated_softmax_still_has_gradients(images, tmp_path):
    model, logits = with_dense_softmax()
    for network in (model, logits):
        kernel, bias = network.layers[-1].get_weights()
        network.layers[-1].set_weights([500 * kernel, bias])
    assert np.asarray(model(images, training=False)).max(axis=-1).min() == 1.0  # no gradient is left in it
    model.save(tmp_path / "model.keras")
    adopted = load_classifier(str(tmp_path / "model.keras"), images, CLASSES)
    np.testing.assert_allclose(adopted(tf.constant(images)), logits(images, training=False), rtol=1e-4, atol=1e-2)


def test_pixels_are_scaled_to_the_input_range(images, tmp_path):
    logits = logits_model()
    inputs = keras.Input(SHAPE)
    keras.Model(inputs, logits(inputs / 255.0)).save(tmp_path / "bytes.keras")
    assert_same_classifier(
        load_classifier(str(tmp_path / "bytes.keras"), images, CLASSES, (0.0, 255.0)), logits, images
    )
    keras.Model(inputs, logits(inputs / 2.0 + 0.5)).save(tmp_path / "signed.keras")
    assert_same_classifier(
        load_classifier(str(tmp_path / "signed.keras"), images, CLASSES, (-1.0, 1.0)), logits, images
    )


def test_a_subclassed_model_is_attacked_through_log_probabilities(images, tmp_path, restored_registry, caplog):
    @keras.saving.register_keras_serializable("test_adoption")
    class Subclassed(keras.Model):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.flatten = layers.Flatten()
            self.dropout = layers.Dropout(0.5)
            self.top = layers.Dense(CLASSES)

        def call(self, inputs, training=None):
            return tf.nn.softmax(self.top(self.dropout(self.flatten(inputs), training=training)))

    model = Subclassed()
    model(images)
    model.save(tmp_path / "model.keras")
    adopted = load_classifier(str(tmp_path / "model.keras"), images, CLASSES)
    assert "logarithms" in caplog.text
    assert_same_classifier(adopted, lambda x, training: model.top(model.flatten(x)), images)


def test_the_reason_why_a_model_fails_is_said_not_where(images):
    class Reshaping(layers.Layer):
        def call(self, inputs):
            return tf.reshape(inputs, (-1, 7))

    model = keras.Sequential([layers.Lambda(lambda x: x), Reshaping()])
    with pytest.raises(InputError, match=r"fails on images of .* \(.*reshape.*\); expected a model"):
        as_classifier(model, images, None)


def test_a_model_that_was_never_called_is_attackable(images, caplog):
    model = keras.Sequential([layers.Flatten(), layers.Dense(CLASSES), layers.Softmax()])
    attacked = as_classifier(model, images, CLASSES)
    assert "logarithms" not in caplog.text
    np.testing.assert_allclose(tf.nn.softmax(attacked(tf.constant(images))), model(images), atol=1e-5)


def test_the_classifier_of_a_work_folder_is_pointed_at(images, tmp_path):
    (tmp_path / "classifier.keras").touch()
    with pytest.raises(InputError, match=r"is a work folder; .* give .*classifier\.keras"):
        load_classifier(str(tmp_path), images, CLASSES)


def test_a_custom_last_layer_with_a_softmax_is_attacked_through_log_probabilities(
    images, tmp_path, restored_registry, caplog
):
    @keras.saving.register_keras_serializable("test_adoption")
    class Head(layers.Layer):
        def __init__(self, units, **kwargs):
            super().__init__(**kwargs)
            self.units, self.activation = units, keras.activations.softmax
            self.dense = layers.Dense(units)

        def call(self, inputs):
            return self.activation(self.dense(inputs))

        def get_config(self):  # without the activation, which is no argument
            return {**super().get_config(), "units": self.units}

    model = keras.Sequential([keras.Input(images.shape[1:]), layers.Flatten(), Head(CLASSES)])
    model.save(tmp_path / "model.keras")
    adopted = load_classifier(str(tmp_path / "model.keras"), images, CLASSES)
    assert "logarithms" in caplog.text
    assert_same_classifier(adopted, lambda x, training: model.layers[-1].dense(model.layers[0](x)), images)


def test_a_saved_model_with_softmax_is_attacked_through_log_probabilities(images, tmp_path, caplog):
    model, logits = with_dense_softmax()
    model.export(tmp_path / "served", verbose=False)
    adopted = load_classifier(str(tmp_path / "served"), images, CLASSES)
    assert "logarithms" in caplog.text
    assert_same_classifier(adopted, logits, images)


def test_a_saved_model_of_logits_and_bytes(images, tmp_path, caplog):
    logits = logits_model()
    inputs = keras.Input(SHAPE)
    keras.Model(inputs, logits(inputs / 255.0)).export(tmp_path / "served", verbose=False)
    adopted = load_classifier(str(tmp_path / "served"), images, CLASSES, (0.0, 255.0))
    assert_same_classifier(tf.function(adopted), logits, images)
    assert not [record for record in caplog.records if record.name.startswith("aigan_tf")]


def test_a_model_without_a_gradient_is_refused(images, tmp_path):
    already_logits()[0].export(tmp_path / "floats", verbose=False)
    loaded = tf.saved_model.load(str(tmp_path / "floats"))
    as_bytes = tf.function(
        lambda images: {"logits": loaded.serve(tf.cast(images, tf.float32) / 255.0)},
        input_signature=[tf.TensorSpec((None, *SHAPE), tf.uint8, name="images")],
    )
    module = tf.Module()
    module.loaded = loaded
    tf.saved_model.save(module, str(tmp_path / "bytes"), signatures={"serving_default": as_bytes})
    inputs = keras.Input(SHAPE)
    flat = layers.Flatten()(keras.ops.round(inputs))
    keras.Model(inputs, layers.Dense(CLASSES)(flat)).save(tmp_path / "rounds.keras")
    for name, pixel_range in (("bytes", (0.0, 255.0)), ("rounds.keras", (0.0, 1.0))):
        with pytest.raises(InputError, match="no usable gradient") as caught:
            load_classifier(str(tmp_path / name), images, CLASSES, pixel_range)
        assert "\n" not in str(caught.value)
        # As a black box it is only asked.
        asked = load_classifier(str(tmp_path / name), images, CLASSES, pixel_range, needs_gradient=False)
        assert asked(tf.constant(images)).shape == (len(images), CLASSES)
        assert not has_usable_gradient(asked, images)


def test_a_mixed_precision_classifier_answers_in_float32(images, tmp_path):
    inputs = keras.Input(SHAPE)
    x = layers.Flatten()(inputs)
    logits = layers.Dense(CLASSES, dtype="mixed_float16")(x)
    keras.Model(inputs, layers.Activation("softmax", dtype="float32")(logits)).save(tmp_path / "model.keras")
    outputs = load_classifier(str(tmp_path / "model.keras"), images, CLASSES)(tf.constant(images))
    assert outputs.dtype == tf.float32  # the losses mix it with float32 terms


def test_a_custom_layer_needs_the_file_that_registers_it(images, tmp_path, restored_registry):
    source = tmp_path / "their_layers.py"
    source.write_text(CUSTOM)
    namespace = {"__name__": "their_layers"}
    exec(CUSTOM, namespace)
    inputs = keras.Input(SHAPE)
    model = keras.Model(inputs, layers.Dense(CLASSES)(layers.Flatten()(namespace["Doubling"]()(inputs))))
    model.save(tmp_path / "model.keras")
    restored_registry.clear()

    with pytest.raises(InputError) as caught:
        load_classifier(str(tmp_path / "model.keras"), images, CLASSES)
    message = str(caught.value)
    assert "\n" not in message
    assert "Doubling" in message
    assert "--custom_objects" in message

    adopted = load_classifier(str(tmp_path / "model.keras"), images, CLASSES, custom_objects=str(source))
    assert_same_classifier(adopted, model, images)


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("missing.py", None, "does not exist"),
        ("broken.py", "raise RuntimeError('first line\\nsecond line')", "first line"),
        ("syntax.py", "def (", "fails"),
        ("exits.py", "import sys; sys.exit(0)", "ends the program"),
        ("layers.txt", "x = 1", r"ends in \.py"),
    ],
)
def test_a_bad_custom_objects_file_is_named(name, text, expected, images, tmp_path):
    if text is not None:
        (tmp_path / name).write_text(text)
    already_logits()[0].save(tmp_path / "model.keras")
    with pytest.raises(InputError, match=expected) as caught:
        load_classifier(str(tmp_path / "model.keras"), images, CLASSES, custom_objects=str(tmp_path / name))
    assert "\n" not in str(caught.value)
    assert name in str(caught.value)


def test_a_lambda_layer_is_not_executed(images, tmp_path):
    inputs = keras.Input(SHAPE)
    x = layers.Lambda(lambda x: x * 3.0)(inputs)
    keras.Model(inputs, layers.Dense(CLASSES)(layers.Flatten()(x))).save(tmp_path / "model.keras")
    with pytest.raises(InputError, match="`Lambda`") as caught:
        load_classifier(str(tmp_path / "model.keras"), images, CLASSES)
    assert "\n" not in str(caught.value)


def test_a_model_for_other_images_is_refused(images, tmp_path):
    model, _ = already_logits()
    model.save(tmp_path / "model.keras")
    for shape in ((5, 9, 8, 1), (5, 8, 8, 3)):
        with pytest.raises(InputError, match=r"\(8, 8, 1\)") as caught:
            load_classifier(str(tmp_path / "model.keras"), np.zeros(shape, np.float32), CLASSES)
        assert str(shape[1:]) in str(caught.value)
        assert ("--image_size" in str(caught.value)) == (shape[-1] == 1)  # resizing makes no channels
    keras.Sequential([keras.Input((64,)), layers.Dense(CLASSES)]).save(tmp_path / "flat.keras")
    with pytest.raises(InputError, match="64"):
        load_classifier(str(tmp_path / "flat.keras"), images, CLASSES)


def test_a_saved_model_for_other_images_is_refused(tmp_path):
    already_logits()[0].export(tmp_path / "served", verbose=False)
    with pytest.raises(InputError, match="--image_size") as caught:
        load_classifier(str(tmp_path / "served"), np.zeros((5, 9, 8, 1), np.float32), CLASSES)
    assert "\n" not in str(caught.value)


def test_another_number_of_classes_is_refused(images, tmp_path):
    already_logits()[0].save(tmp_path / "model.keras")
    with pytest.raises(InputError, match=r"\(4,\) an image; expected \(10,\)"):
        load_classifier(str(tmp_path / "model.keras"), images, 10)


def test_an_output_that_is_not_one_vector_an_image_is_refused(images, tmp_path):
    inputs = keras.Input(SHAPE)
    keras.Model(inputs, layers.Conv2D(CLASSES, 3)(inputs)).save(tmp_path / "maps.keras")
    with pytest.raises(InputError, match=r"\(6, 6, 4\)"):
        load_classifier(str(tmp_path / "maps.keras"), images, CLASSES)


def test_nan_outputs_are_refused(images, tmp_path):
    model, _ = already_logits()
    kernel, bias = model.layers[-1].get_weights()
    model.layers[-1].set_weights([kernel, np.full_like(bias, np.nan)])
    model.save(tmp_path / "model.keras")
    with pytest.raises(InputError, match="NaN"):
        load_classifier(str(tmp_path / "model.keras"), images, CLASSES)


def test_files_that_are_no_model_are_refused(images, tmp_path):
    already_logits()[0].save(tmp_path / "model.keras")
    whole = (tmp_path / "model.keras").read_bytes()
    (tmp_path / "truncated.keras").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.keras").write_bytes(b"")
    (tmp_path / "text.h5").write_text("not a model")
    with zipfile.ZipFile(tmp_path / "other.keras", "w") as archive:
        archive.writestr("readme.txt", "another archive")
    (tmp_path / "folder").mkdir()
    for name in ("truncated.keras", "empty.keras", "text.h5", "other.keras", "folder", "missing.keras"):
        with pytest.raises(InputError) as caught:
            load_classifier(str(tmp_path / name), images, CLASSES)
        message = str(caught.value)
        assert name in message
        assert "expected" in message
        assert "\n" not in message


def test_a_damaged_weight_is_seen(images, tmp_path):
    already_logits()[0].save(tmp_path / "model.keras")
    data = bytearray((tmp_path / "model.keras").read_bytes())
    with zipfile.ZipFile(tmp_path / "model.keras") as archive:
        weights = archive.getinfo("model.weights.h5")
    data[weights.header_offset + weights.file_size // 2] ^= 1
    (tmp_path / "model.keras").write_bytes(data)
    with pytest.raises(InputError, match=r"model\.weights\.h5 in it is damaged.*expected"):
        load_classifier(str(tmp_path / "model.keras"), images, CLASSES)


def test_a_fingerprint_that_cannot_be_read_is_no_traceback(images, tmp_path, caplog):
    already_logits()[0].export(tmp_path / "model", verbose=False)
    (tmp_path / "model" / "fingerprint.pb").write_bytes(b"no")
    load_classifier(str(tmp_path / "model"), images, CLASSES)
    assert not [record for record in caplog.records if record.exc_info]


def test_a_signature_with_two_outputs_is_refused(images, tmp_path):
    module = tf.Module()

    @tf.function(input_signature=[tf.TensorSpec((None, *SHAPE))])
    def serve(x):
        return {"logits": x[:, 0, 0, :] * tf.ones(CLASSES), "features": x}

    tf.saved_model.save(module, str(tmp_path / "two"), signatures={"serving_default": serve})
    with pytest.raises(InputError, match="1 inputs and 2 outputs"):
        load_classifier(str(tmp_path / "two"), images, CLASSES)
