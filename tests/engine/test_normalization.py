"""Fused and folded batch normalisation against Keras's own."""

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from aigan_tf.classifiers import architectures
from aigan_tf.engine.normalization import FusedBatchNormalization, with_folded_batch_norm, with_fused_batch_norm


def maps(seed=0):
    return tf.constant(np.random.default_rng(seed).normal(3.0, 2.0, (16, 5, 7, 4)).astype("float32"))


def norms_of(model):
    return [layer for layer in model.layers if isinstance(layer, layers.BatchNormalization)]


def test_one_training_step_is_that_of_keras():
    settings = dict(momentum=0.9, epsilon=1e-5)
    pair = FusedBatchNormalization(**settings), layers.BatchNormalization(**settings)
    results = []
    for layer in pair:
        x = maps()
        layer.build(x.shape)
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


def test_float16_keeps_float32_statistics():
    x = tf.random.stateless_normal((70, 32, 32, 2), (0, 1)) + 1.0  # more values than float16 can count
    layer = FusedBatchNormalization(momentum=0.9)
    layer.build(x.shape)
    y = layer._over_all_replicas(tf.cast(x, tf.float16))
    assert y.dtype == tf.float16
    mean, variance = tf.nn.moments(x, [0, 1, 2])
    np.testing.assert_allclose(layer.moving_mean, 0.1 * mean, rtol=1e-3)
    np.testing.assert_allclose(layer.moving_variance, 0.9 + 0.1 * variance, rtol=1e-3)
    np.testing.assert_allclose(y, (x - mean) / tf.sqrt(variance + layer.epsilon), atol=5e-3)


def test_weights_trained_with_the_fused_kernel_return_to_keras_layers():
    model = architectures.build("resnet20", (32, 32, 3), 10)
    trainee = with_fused_batch_norm(model)
    assert len(norms_of(trainee)) == 19
    assert all(type(layer) is FusedBatchNormalization for layer in norms_of(trainee))
    assert not any(isinstance(layer, FusedBatchNormalization) for layer in model.layers)
    images = tf.random.stateless_uniform((4, 32, 32, 3), (0, 0))
    np.testing.assert_array_equal(model(images), trainee(images))
    trainee(images, training=True)
    assert np.abs(trainee(images) - model(images)).max() > 0
    model.set_weights(trainee.get_weights())
    np.testing.assert_array_equal(model(images), trainee(images))


def trained_looking(model):
    """Gives every weight a value as after training: positive statistics, no defaults."""
    rng, weights = np.random.default_rng(0), model.get_weights()
    model.set_weights([rng.uniform(0.5, 1.5, value.shape) * np.where(value == 0, 0.3, value) for value in weights])
    return model


def test_a_folded_model_computes_the_same_and_the_original_is_unchanged():
    model = trained_looking(architectures.build("resnet20", (32, 32, 3), 10))
    images = tf.random.stateless_uniform((8, 32, 32, 3), (0, 0))
    before, weights = model(images, training=False).numpy(), [np.array(value) for value in model.get_weights()]
    folded = with_folded_batch_norm(model)
    assert not norms_of(folded)
    np.testing.assert_allclose(folded(images, training=False), before, rtol=1e-4, atol=1e-4 * np.abs(before).max())
    np.testing.assert_array_equal(model(images, training=False), before)
    for a, b in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_only_a_normalisation_that_alone_follows_a_convolution_is_folded():
    inputs = keras.Input((8, 8, 3))
    seen_twice = layers.Conv2D(4, 3, padding="same")(inputs)
    bent = layers.Conv2D(4, 3, padding="same", activation="relu")(inputs)
    alone = layers.Conv2D(4, 3, padding="same")(inputs)
    maps = [layers.BatchNormalization()(x) for x in (seen_twice, bent)] + [
        seen_twice,
        layers.BatchNormalization(scale=False)(alone),
        layers.BatchNormalization(center=False)(inputs[..., :3]),
    ]
    model = trained_looking(keras.Model(inputs, layers.Concatenate()(maps)))
    folded = with_folded_batch_norm(model)
    assert len(norms_of(folded)) == 3
    images = tf.random.stateless_uniform((2, 8, 8, 3), (0, 0))
    np.testing.assert_allclose(folded(images, training=False), model(images, training=False), rtol=1e-4, atol=1e-5)


def small(norm=layers.BatchNormalization, kind=keras.Sequential):
    return kind([keras.Input((8, 8, 1)), layers.Conv2D(4, 3), norm(), layers.Flatten()])


def test_models_without_or_with_a_custom_normalisation_or_call_are_returned_themselves():
    class Halved(layers.BatchNormalization):
        def call(self, inputs, training=None, mask=None):
            return 0.5 * super().call(inputs, training=training)

    class Doubled(keras.Sequential):
        def call(self, inputs, training=None, mask=None):
            return 2.0 * super().call(inputs, training=training)

    assert not norms_of(with_folded_batch_norm(small()))
    for model in (small(norm=layers.ReLU), small(norm=Halved), small(kind=Doubled)):
        assert with_folded_batch_norm(model) is model


def test_a_convolution_with_more_weights_than_kernel_and_bias_is_not_folded():
    model = small()
    model.layers[0].enable_lora(2)
    assert with_folded_batch_norm(model) is model
