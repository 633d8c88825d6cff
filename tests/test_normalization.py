"""The fused batch normalisation against Keras's own."""

import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from aigan_tf import classifiers
from aigan_tf.normalization import FusedBatchNormalization, with_fused_batch_norm


def maps(seed=0):
    return tf.constant(np.random.default_rng(seed).normal(3.0, 2.0, (16, 5, 7, 4)).astype("float32"))


@pytest.mark.parametrize("affine", [True, False])
def test_one_training_step_is_that_of_keras(affine):
    settings = dict(momentum=0.9, epsilon=1e-5, center=affine, scale=affine)
    pair = FusedBatchNormalization(**settings), layers.BatchNormalization(**settings)
    results = []
    for layer in pair:
        x = maps()
        layer.build(x.shape)
        if affine:
            layer.gamma.assign([0.5, 1.0, 1.5, 2.0])
            layer.beta.assign([-1.0, 0.0, 1.0, 2.0])
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, training=True)
            loss = tf.reduce_sum(y * maps(1))
        gradients = tape.gradient(loss, [x, *layer.trainable_variables])
        results.append([y, *gradients, layer.moving_mean, layer.moving_variance])
    count = 16 * 5 * 7
    results[1][-1] = (results[1][-1] - 0.9) * count / (count - 1) + 0.9  # the unbiased estimate
    for fused, composed in zip(*results, strict=True):
        np.testing.assert_allclose(fused, composed, rtol=1e-4, atol=1e-4)


def test_inference_is_that_of_keras_and_moves_nothing():
    layer = FusedBatchNormalization()
    layer.build((None, 5, 7, 4))
    layer.moving_mean.assign([1.0, 2.0, 3.0, 4.0])
    np.testing.assert_array_equal(layer(maps()), layers.BatchNormalization.call(layer, maps(), training=False))
    np.testing.assert_array_equal(layer.moving_mean, [1.0, 2.0, 3.0, 4.0])
    layer.trainable = False  # Keras: a frozen layer uses its own statistics even in training
    np.testing.assert_array_equal(layer(maps(), training=True), layer(maps()))


def test_mixed_precision_keeps_float32_statistics():
    layer = FusedBatchNormalization(momentum=0.9, dtype="mixed_bfloat16")
    x = tf.cast(maps(), tf.bfloat16)
    layer.build(x.shape)
    y = layer(x, training=True)
    assert y.dtype == tf.bfloat16
    assert layer.moving_mean.dtype == "float32"
    np.testing.assert_allclose(layer.moving_mean, 0.1 * tf.reduce_mean(maps(), [0, 1, 2]), rtol=1e-2)


def test_a_model_trained_with_the_fused_kernel_comes_back_in_keras_layers():
    model = classifiers.build("resnet20", (32, 32, 3), 10)
    trainee = with_fused_batch_norm(model)
    norms = [layer for layer in trainee.layers if isinstance(layer, layers.BatchNormalization)]
    assert len(norms) == 19
    assert all(type(layer) is FusedBatchNormalization for layer in norms)
    assert not any(isinstance(layer, FusedBatchNormalization) for layer in model.layers)
    images = tf.random.stateless_uniform((4, 32, 32, 3), (0, 0))
    np.testing.assert_array_equal(model(images), trainee(images))
    trainee(images, training=True)
    assert np.abs(trainee(images) - model(images)).max() > 0
    model.set_weights(trainee.get_weights())
    np.testing.assert_array_equal(model(images), trainee(images))
