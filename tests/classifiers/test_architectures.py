"""The classifiers trained here: their sizes against the papers', their recipes, and that attacks see them frozen."""

import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf

from aigan_tf import config
from aigan_tf.classifiers import architectures
from aigan_tf.classifiers.architectures import ARCHITECTURES, build, one_cycle
from aigan_tf.errors import InputError


def images_of(shape, count=3):
    return np.random.default_rng(0).uniform(size=(count, *shape)).astype(np.float32)


def count_trainable(model):
    return sum(int(np.prod(variable.shape)) for variable in model.trainable_variables)


# Of A, B and C: kernel sides * inputs * outputs + biases, layer by layer.
A = (25 + 1) * 64 + (25 * 64 + 1) * 64 + (20 * 20 * 64 + 1) * 128 + (128 + 1) * 10
B = (64 + 1) * 64 + (36 * 64 + 1) * 128 + (25 * 128 + 1) * 128 + (128 + 1) * 10
C = (9 + 1) * 32 + (9 * 32 + 1) * (32 + 64) + (9 * 64 + 1) * 64 + (16 * 64 + 1) * 200 + (200 + 1) * (200 + 10)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("A", A), ("B", B), ("C", C), ("resnet20", 269_722), ("resnet32", 464_154), ("wrn34_10", 46_160_474)],
)
def test_sizes_are_those_of_the_papers(name, parameters):
    model = build(name, (28, 28, 1) if len(name) == 1 else (32, 32, 3), 10)
    assert count_trainable(model) == parameters
    assert model.output_shape == (None, 10)


def test_settings_name_the_architectures_there_are():
    assert tuple(ARCHITECTURES) == config.ARCHITECTURES


@pytest.mark.parametrize("name", [name for name in ARCHITECTURES if name != "wrn34_10"])
def test_the_smallest_side_is_the_smallest_that_works(name):
    side = ARCHITECTURES[name].min_side
    assert build(name, (side, side, 1), 3).output_shape == (None, 3)
    for shape in ((side - 1, side, 1), (side, side - 1, 1)):
        with pytest.raises(InputError) as caught:
            architectures.fitting_architecture(name, shape, "black_box")
        assert (caught.value.setting, caught.value.received) == ("black_box", name)
        assert f"{side} x {side}" in caught.value.expected


def test_pixels_are_normalised_inside():
    model = build("small", (8, 8, 3), 10, mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 1.0))
    (layer,) = (layer for layer in model.layers if isinstance(layer, keras.layers.Normalization))
    expected = (images_of((8, 8, 3)) - [0.1, 0.2, 0.3]) / [0.5, 0.25, 1.0]
    np.testing.assert_allclose(layer(images_of((8, 8, 3))), expected, atol=1e-5)
    assert count_trainable(model) == count_trainable(build("small", (8, 8, 3), 10))


@pytest.mark.parametrize(
    ("name", "shape"),
    [("small", (8, 8, 1)), ("A", (12, 12, 1)), ("b", (27, 28, 1)), ("C", (16, 17, 3)), ("resnet20", (9, 13, 3))],
)
def test_a_model_gives_logits_and_needs_keras_alone_to_give_the_same_bits_again(name, shape, tmp_path):
    model, path = build(name, shape, 7, mean=(0.3,), std=(0.2,)), tmp_path / "model.keras"
    for variable in model.non_trainable_variables:
        if "moving" in variable.path:
            low = (
                0.5 if "variance" in variable.path else -0.5
            )  # means of 0.5 and more would leave zeros after the ReLUs
            variable.assign(np.random.default_rng(1).uniform(low, low + 1, variable.shape))
    model.save(path)
    with zipfile.ZipFile(path) as archive:
        assert b"aigan" not in archive.read("config.json")
    loaded = keras.models.load_model(path)
    logits = model(images_of(shape), training=False).numpy()
    np.testing.assert_array_equal(loaded(images_of(shape), training=False), logits)
    assert (logits.shape, logits.dtype) == ((3, 7), np.float32)
    assert logits.min() < 0
    assert np.abs(logits.sum(axis=-1) - 1).max() > 1e-2


@pytest.mark.parametrize(("name", "shape"), [("A", (12, 12, 1)), ("resnet20", (8, 8, 1))])
def test_a_frozen_classifier_has_neither_dropout_nor_batch_statistics(name, shape):
    model, images = build(name, shape, 10), images_of(shape)
    before = model.get_weights()
    classify = architectures.frozen(model)
    first, second = classify(images).numpy(), classify(images).numpy()
    np.testing.assert_array_equal(first, second)
    np.testing.assert_allclose(classify(images[:1]).numpy(), first[:1], atol=1e-5)  # whatever else is in the batch
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert np.abs(model(images, training=True).numpy() - first).max() > 1e-3


def test_one_cycle_rises_for_a_fifth_and_falls_to_zero():
    schedule = one_cycle(0.4, 100)
    rates = np.array([float(schedule(step)) for step in range(101)])
    # The rise at 10 is halfway on a straight line, the fall at 60 halfway on a cosine.
    np.testing.assert_allclose(rates[[0, 10, 20, 60, 100]], [0.04, 0.22, 0.4, 0.2, 0.0], rtol=1e-6, atol=1e-7)
    assert (np.diff(rates[:21]) > 0).all()
    assert (np.diff(rates[20:]) < 0).all()
    assert float(one_cycle(0.4, 1)(0)) == pytest.approx(0.04)


def test_weight_decay_shrinks_kernels_alone():
    model = build("resnet20", (8, 8, 1), 10)
    for variable in model.trainable_variables:
        variable.assign(np.ones(variable.shape))
    recipe = architectures.Recipe(epochs=1, learning_rate=0.5, weight_decay=1e-2)
    architectures.compile_for_training(model, recipe, 100)
    zeros = [tf.zeros(variable.shape) for variable in model.trainable_variables]
    model.optimizer.apply_gradients(zip(zeros, model.trainable_variables, strict=True))
    assert {variable.name for variable in model.trainable_variables} == {"kernel", "bias", "gamma", "beta"}
    for variable in model.trainable_variables:
        # The L2 term's gradient, 1e-2 * w, would be accumulated tenfold by a momentum of 0.9; the first rate is a tenth.
        expected = 1 - 0.05 * 1e-2 * 10 if variable.name == "kernel" else 1.0
        np.testing.assert_allclose(variable, expected, rtol=1e-6, err_msg=variable.path)
