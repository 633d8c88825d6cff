"""What the generator sees of a classifier."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from aigan_tf.build import build_generator
from aigan_tf.classifiers.features import features_for, features_of, save_features
from aigan_tf.classifiers.preprocessing import Preprocessing
from aigan_tf.config import make_config
from aigan_tf.data.datasets import ImageDataset
from aigan_tf.data.splits import Split
from aigan_tf.errors import InputError
from aigan_tf.workdir import Workdir

SHAPE = (20, 24, 3)
SIZES = [(20, 24), (10, 12), (5, 6)]
IMAGES = np.random.default_rng(0).random((4, *SHAPE)).astype(np.float32)


def block(x, filters, strides=1, padding="same"):
    x = keras.layers.Conv2D(filters, 3, strides, padding=padding)(x)
    return keras.layers.ReLU()(keras.layers.BatchNormalization()(x))


def backbone(padding="same"):
    inputs = keras.Input(SHAPE)
    x = block(inputs, 4, padding=padding)
    x = block(block(x, 5, 2, padding), 6, padding="same")
    return keras.Model(inputs, block(x, 7, 2, padding), name="backbone")


def shaken(model):
    """Weights and statistics that no layer begins with."""
    random = np.random.default_rng(1)
    model.set_weights(
        [random.uniform(0.1, 1.0, weight.shape) / max(weight.size, 9) ** 0.4 for weight in model.get_weights()]
    )
    return model


def nested(padding="same"):
    """A backbone in a head, as those who fine-tune build it; both call a layer by the same name."""
    inputs = keras.Input(SHAPE)
    x = backbone(padding)(inputs)
    outputs = keras.layers.Dense(10, name="conv2d")(keras.layers.GlobalAveragePooling2D()(x))
    return shaken(keras.Model(inputs, outputs))


def maps(model, pixels):
    """The backbone's last map of each size, by Keras alone."""
    inner = model.get_layer("backbone")
    relus = [layer.output for layer in inner.layers if isinstance(layer, keras.layers.ReLU)]
    return keras.Model(inner.inputs[0], [relus[0], relus[2], relus[3]])(pixels, training=False)


def test_they_are_the_last_maps_of_each_size_of_a_backbone_within_too():
    model = nested()
    features = features_of(model, SHAPE, SIZES)
    found = features(IMAGES)
    assert [tuple(each.shape) for each in found] == [(4, 20, 24, 4), (4, 10, 12, 6), (4, 5, 6, 7)]
    for each, expected in zip(found, maps(model, IMAGES), strict=True):
        np.testing.assert_allclose(each, expected, rtol=1e-4, atol=1e-5)
    assert not features.trainable_variables
    assert not any(isinstance(layer, keras.layers.BatchNormalization) for layer in features._flatten_layers())
    before = [tensor.numpy() for tensor in found]
    shaken(model).set_weights([2.0 * weight for weight in model.get_weights()])
    for each, expected in zip(features(IMAGES), before, strict=True):
        np.testing.assert_array_equal(each, expected)  # nor does training the classifier on change what is seen of it
    assert all(layer.trainable for layer in model._flatten_layers())


def test_maps_without_padding_are_resized():
    found = features_of(nested("valid"), SHAPE, SIZES)(IMAGES)
    assert [tuple(each.shape) for each in found] == [(4, 20, 24, 4), (4, 10, 12, 6), (4, 5, 6, 7)]


@pytest.mark.parametrize(
    "preprocessing",
    [
        Preprocessing(input_range=(-1.0, 1.0)),
        Preprocessing((0.0, 255.0), input_mean=(1.0, 2.0, 3.0), input_std=(2.0,), input_channels="bgr"),
    ],
)
def test_the_classifier_gets_its_pixels_from_a_file_too(preprocessing, tmp_path):
    model, folder = nested(), Workdir(tmp_path)
    save_features(features_of(model, SHAPE, SIZES, preprocessing), folder)
    config = make_config(classifier_features=True)
    loaded = features_for(config, None, folder)
    for found, expected in zip(loaded(IMAGES), maps(model, preprocessing(IMAGES)), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    folder.features.write_bytes(b"")
    with pytest.raises(InputError, match="is not what"):
        features_for(config, None, folder)
    assert features_for(make_config(), None, folder) is None


class Subclassed(keras.Model):
    def call(self, images):
        return images[:, 0, 0]


def test_a_classifier_whose_layers_cannot_be_seen_is_refused(tmp_path):
    flat = keras.Sequential([keras.Input(SHAPE), keras.layers.Flatten(), keras.layers.Dense(10)])
    for model, problem in [
        (Subclassed(), "is not a graph of layers"),
        (lambda images: images, "is not a graph of layers"),
        (flat, "puts out no maps before its answer"),
    ]:
        with pytest.raises(InputError, match=problem) as caught:
            features_of(model, SHAPE, SIZES)
        assert caught.value.setting == "classifier_features"
    tf.saved_model.save(tf.Module(), tmp_path / "saved")
    config = make_config(classifier=str(tmp_path / "saved"), classifier_features=True)
    with pytest.raises(InputError, match="SavedModel"):
        features_for(config, make_dataset())  # before there is a folder


def make_dataset():
    split = Split(np.zeros((4, *SHAPE), np.uint8), np.arange(4, dtype=np.int32))
    return ImageDataset("random", tuple("0123456789"), split, split, split)


def test_the_generator_adds_them_to_its_encoder_and_serves_them():
    model = nested()
    config = make_config(generator_width=4, generator_blocks=1, classifier_features=True)
    generator = build_generator(config, make_dataset(), features=features_of(model, SHAPE, SIZES))
    targets = tf.constant([1, 2, 3, 4])
    generator.head.kernel.assign(tf.random.stateless_normal(generator.head.kernel.shape, (0, 1)))
    directions = generator(IMAGES, targets)
    frozen = {id(variable) for variable in generator.features.variables}
    assert frozen
    assert not frozen & {id(variable) for variable in generator.trainable_variables}
    copy = generator.for_inference()
    np.testing.assert_allclose(copy(IMAGES, targets), directions, rtol=1e-3, atol=1e-4)
    graph = tf.function(copy).get_concrete_function(IMAGES, targets).graph
    assert {id(variable) for variable in graph.variables} == {id(variable) for variable in copy.inference_variables}
    again = type(generator).from_config(generator.get_config())
    again.set_weights(generator.get_weights())
    np.testing.assert_allclose(again(IMAGES, targets), directions, rtol=1e-4, atol=1e-5)
    for projection in generator.projections:
        before = generator(IMAGES, targets)
        projection.conv.kernel.assign(projection.conv.kernel * 0.0)
        assert np.abs(generator(IMAGES, targets) - before).max() > 1e-3
