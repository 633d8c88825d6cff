"""Classifiers that take and give something else than one batch of images and one of logits."""

import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from aigan_tf.classifiers.calling import PAGE
from aigan_tf.classifiers.loading import as_classifier, load_classifier
from aigan_tf.classifiers.preprocessing import Preprocessing
from aigan_tf.config import Config
from aigan_tf.errors import InputError

SHAPE = (8, 9, 3)
CLASSES = 4


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).uniform(size=(5, *SHAPE)).astype(np.float32)


def dense(name=None):
    return layers.Dense(CLASSES, name=name, kernel_initializer=keras.initializers.GlorotUniform(seed=1))


@pytest.fixture(scope="module")
def logits_of():
    return keras.Sequential([keras.Input(SHAPE), layers.Flatten(), dense()])


def serve(path, function, *specs):
    """Writes a SavedModel with one signature."""
    module = tf.Module()
    signature = tf.function(function, input_signature=specs)
    tf.saved_model.save(module, str(path), signatures=signature.get_concrete_function())
    return str(path)


def with_two_outputs(logits_of, as_dict):
    inputs = keras.Input(SHAPE)
    flat = layers.Flatten()(inputs)
    logits = layers.Dense(CLASSES, name="label")
    outputs = {"label": logits(flat), "box": layers.Dense(2, name="box")(flat)}
    model = keras.Model(inputs, outputs if as_dict else list(outputs.values()))
    logits.set_weights(logits_of.layers[-1].get_weights())
    return model


@pytest.mark.parametrize("form", ["list", "dict", "SavedModel"])
def test_one_of_several_outputs_is_chosen_by_its_name(form, images, logits_of, tmp_path):
    model = with_two_outputs(logits_of, form != "list")
    if form == "SavedModel":
        model.export(tmp_path / "served", verbose=False)
    else:
        model.save(tmp_path / "model.keras")
    path = str(tmp_path / ("served" if form == "SavedModel" else "model.keras"))
    for wrong in (None, "other"):
        with pytest.raises(InputError) as caught:
            load_classifier(path, images, CLASSES, output=wrong)
        assert "label" in caught.value.problem
        assert "box" in caught.value.problem
        assert "`classifier_output`" in caught.value.fix
    attacked = load_classifier(path, images, CLASSES, output="label")
    np.testing.assert_allclose(attacked(tf.constant(images)), logits_of(images), atol=1e-5)


def test_a_fixed_batch_size_is_served_in_batches(images, logits_of, tmp_path):
    inputs = keras.Input(batch_shape=(2, *SHAPE))
    keras.Model(inputs, logits_of(inputs)).save(tmp_path / "model.keras")
    kernel, bias = (tf.constant(weight) for weight in logits_of.get_weights())
    path = serve(
        tmp_path / "served",
        lambda images: {"label": tf.reshape(images, (2, -1)) @ kernel + bias},
        tf.TensorSpec((2, *SHAPE), tf.float32, name="images"),
    )
    for model in (path, str(tmp_path / "model.keras")):
        attacked = load_classifier(model, images, CLASSES)
        with tf.GradientTape() as tape:
            batch = tf.constant(images)
            tape.watch(batch)
            logits = attacked(batch)
        np.testing.assert_allclose(logits, logits_of(images), atol=1e-5)
        assert np.abs(tape.gradient(logits, batch)).max(axis=(1, 2, 3)).min() > 0


def test_channels_first_are_told_by_the_shape(images, logits_of, tmp_path):
    kernel, bias = (tf.constant(weight) for weight in logits_of.get_weights())
    path = serve(
        tmp_path / "served",
        lambda images: {"label": tf.reshape(tf.transpose(images, (0, 2, 3, 1)), (-1, 216)) @ kernel + bias},
        tf.TensorSpec((None, 3, 8, 9), tf.float32, name="images"),
    )
    np.testing.assert_allclose(
        load_classifier(path, images, CLASSES)(tf.constant(images)), logits_of(images), atol=1e-5
    )


MISFITS = {
    "Several inputs": [
        tf.TensorSpec((None, *SHAPE), tf.float32, name="a"),
        tf.TensorSpec((), tf.bool, name="training"),
    ],
    "Encoded pictures": [tf.TensorSpec((None,), tf.string, name="a")],
    "Another shape": [tf.TensorSpec((None, 216), tf.float32, name="a")],
}
THEIRS = {
    "Several inputs": lambda inputs, training: inputs[0][:, 0, 0] * inputs[1],
    "Encoded pictures": lambda files: tf.map_fn(
        lambda file: tf.cast(tf.io.decode_png(file)[0, 0], tf.float32), files, fn_output_signature=tf.float32
    ),
    "Another shape": lambda flat, training: flat[:, :3],
}


@pytest.mark.parametrize("heading", MISFITS)
def test_what_only_a_wrapper_can_bridge_names_its_heading_and_the_wrapper_there_works(
    heading, images, tmp_path, monkeypatch
):
    page = (pathlib.Path(__file__).parents[2] / PAGE).read_text(encoding="utf-8")
    path = serve(tmp_path / "served", lambda *inputs: {"label": tf.zeros((1, CLASSES))}, *MISFITS[heading])
    with pytest.raises(InputError) as caught:
        load_classifier(path, images, CLASSES)
    assert heading in caught.value.fix
    code = page.partition(f"### {heading}\n")[2].partition("```python\n")[2].partition("```")[0]
    monkeypatch.chdir(tmp_path)
    exec(code, {"model": THEIRS[heading]})
    shape = (28, 28, 1) if heading == "Another shape" else (32, 32, 3)
    pixels = np.random.default_rng(0).integers(256, size=(5, *shape)).astype(np.float32)
    attacked = load_classifier("wrapped", pixels, 3, needs_gradient=heading != "Encoded pictures")
    assert attacked(tf.constant(pixels)).shape == (5, 3)


def test_images_are_normalised_as_the_classifier_expects(images, logits_of):
    mean, std = (103.939, 116.779, 123.68), (1.0, 2.0, 4.0)
    config = Config(
        classifier="x.keras", input_range=(0, 255), input_mean=mean, input_std=list(std), input_channels="bgr"
    )
    attacked = as_classifier(logits_of, images, CLASSES, Preprocessing.of(config))
    expected = logits_of((255.0 * images[..., ::-1] - np.array(mean)) / np.array(std))
    np.testing.assert_allclose(attacked(tf.constant(images)), expected, rtol=1e-4, atol=1e-4)
    with pytest.raises(InputError) as caught:
        as_classifier(logits_of, images, CLASSES, Preprocessing(input_std=(1.0, 2.0)))
    assert caught.value.setting == "input_std"
