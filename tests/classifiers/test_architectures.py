"""The classifiers trained here: their sizes against the papers', and that attacks see them frozen."""

import zipfile

import keras
import numpy as np
import pytest

from aigan_tf.classifiers import architectures
from aigan_tf.classifiers.architectures import build


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
