"""The generator and the discriminator."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from served_example import shake

from aigan_tf.method.networks import ConditionalBlock, Discriminator, Generator, UpsampledConvolution

SETTINGS = {
    "num_classes": 5,
    "width": 4,
    "num_blocks": 1,
    "embedding_dim": 8,
    "class_maps": 2,
    "gain_maps": True,
    "map_size": 10,
}


def make_generator(channels=1, patch=1):
    keras.utils.set_random_seed(0)
    return Generator(channels=channels, patch=patch, **SETTINGS)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).uniform(0, 1, (5, 9, 8, 1)).astype(np.float32)


TARGETS = np.arange(5, dtype=np.int32)


@pytest.mark.parametrize(("channels", "patch"), [(1, 1), (3, 1), (3, 4)])
def test_every_pixel_of_any_size_from_8_is_perturbed_and_seen_in_a_graph_too(channels, patch):
    generator, discriminator = make_generator(channels, patch), Discriminator(channels, width=4)
    unknown = tf.TensorSpec((None, None, None, channels)), tf.TensorSpec((None,), tf.int32)
    in_graph = tf.function(generator, input_signature=unknown)
    targets = tf.constant([0, 4])
    for height, width in ((8, 8), (9, 14), (10, 11), (15, 8), (33, 12)):
        images = tf.random.stateless_uniform((2, height, width, channels), (0, 0))
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(images)
            directions = generator(images, targets)
            logits = discriminator(images)

        assert directions.shape == images.shape
        assert logits.shape == (2,)
        assert (np.abs(directions) > 0).all()
        assert (np.abs(tape.gradient(directions, images)) > 0).all()
        assert (np.abs(tape.gradient(logits, images)) > 0).all()
        np.testing.assert_allclose(in_graph(images, targets), directions, atol=1e-5)


@pytest.mark.parametrize("name", ["maps", "gains"])
def test_a_map_is_cut_or_enlarged_and_reaches_the_images_of_its_class_alone(name):
    generator = make_generator()
    table = getattr(generator, name)
    learned = table.embeddings.numpy().reshape(5, 10, 10, -1)
    cut, large = (generator.class_map(table, np.array([4]), np.zeros((1, *size, 1)))[0] for size in ((8, 9), (20, 13)))
    np.testing.assert_array_equal(cut, learned[4, :8, :9])
    np.testing.assert_array_equal(large, learned[4].repeat(2, axis=0).repeat(2, axis=1)[:, :13])

    generator.head.kernel.assign(tf.random.stateless_normal(generator.head.kernel.shape, (0, 0)))
    images, targets = tf.random.stateless_uniform((2, 12, 9, 1), (1, 1)), np.array([1, 3])
    before = generator(images, targets)
    maps = table.embeddings.numpy()
    maps[3] = np.random.default_rng(0).normal(size=maps[3].shape)
    table.embeddings.assign(maps)
    after = generator(images, targets)
    np.testing.assert_array_equal(after[0], before[0])
    assert (np.abs(after[1] - before[1]) > 0).mean() > 0.9


def test_inference_treats_each_image_alone_and_training_doubled_batches_alike(images):
    for network, inputs in ((make_generator(), (images, TARGETS)), (Discriminator(1, width=4), (images,))):
        alone = np.concatenate([network(*(x[i : i + 1] for x in inputs)) for i in range(5)])
        np.testing.assert_allclose(network(*inputs), alone, atol=1e-6)
        once = network(*inputs, training=True)
        doubled = network(*(np.concatenate([x, x]) for x in inputs), training=True)
        np.testing.assert_allclose(doubled, np.concatenate([once, once]), atol=1e-6)


@pytest.mark.parametrize("size", [(6, 8), (5, 8), (6, 7), (5, 7)])
def test_an_upsampled_convolution_is_that_of_the_large_map(size):
    random = np.random.default_rng(0)
    features, skip = (tf.constant(random.normal(size=(2, *shape)), tf.float32) for shape in ((3, 4, 5), (*size, 2)))
    layer = UpsampledConvolution(6, 3, padding="same", use_bias=False)
    layer(features, skip)

    def upsampled_first():
        large = tf.pad(tf.repeat(tf.repeat(features, 2, 1), 2, 2), [[0, 0], [1, 1], [1, 1], [0, 0]])
        upsampled, kept = layer.kernel[:, :, :5], layer.kernel[:, :, 5:]
        convolved = tf.nn.conv2d(large, upsampled, 1, "VALID")[:, : size[0], : size[1]]
        return convolved + tf.nn.conv2d(skip, kept, 1, "SAME")

    results = []
    for run in (lambda: layer(features, skip), upsampled_first):
        with tf.GradientTape() as tape:
            tape.watch([features, skip])
            outputs = run()
            loss = tf.reduce_sum(tf.sin(outputs))
        gradients = tape.gradient(loss, [features, skip, layer.kernel])
        results.append([outputs, *map(tf.convert_to_tensor, gradients)])
    assert results[0][0].shape == (2, *size, 6)
    for found, expected in zip(*results, strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_in_inference_a_block_normalises_by_the_running_statistics_then_scales_and_shifts_by_the_class():
    keras.utils.set_random_seed(0)
    block = ConditionalBlock(6)
    features, condition = tf.random.normal((4, 8, 8, 3)), tf.random.normal((4, 5))
    block(features, condition)
    block.norm.moving_mean.assign(tf.random.normal((6,)))
    block.norm.moving_variance.assign(tf.random.uniform((6,), 0.1, 3.0))
    block.film.bias.assign(tf.random.normal((12,)))
    normalised = block.norm(block.conv(features), training=False)  # Keras's own
    scale, shift = (part[:, None, None, :] for part in np.split(block.film(condition).numpy(), 2, axis=-1))
    expected = np.maximum(normalised * (1.0 + scale) + shift, 0.0)
    np.testing.assert_allclose(block(features, condition, training=False), expected, rtol=1e-4, atol=1e-5)
    gains = tf.random.normal(expected.shape)  # another scale for each pixel
    expected = np.maximum(normalised * (1.0 + scale + gains) + shift, 0.0)
    np.testing.assert_allclose(block(features, condition, gains=gains, training=False), expected, rtol=1e-4, atol=1e-5)


def test_a_copy_for_inference_computes_the_same_and_holds_no_weight_twice(images):
    generator = make_generator()
    shake(generator, variances=(0.1, 3.0))
    copy = generator.for_inference()
    directions = generator(images, TARGETS)
    np.testing.assert_allclose(copy(images, TARGETS), directions, rtol=1e-5, atol=1e-6)
    variables = {id(variable) for variable in copy.inference_variables}
    graph = tf.function(copy).get_concrete_function(images, TARGETS).graph
    assert {id(variable) for variable in graph.variables} == variables  # all are read, and nothing else is
    for variable in generator.variables:
        if variable.dtype == "float32":
            variable.assign(variable + 1.0)
    np.testing.assert_allclose(copy(images, TARGETS), directions, rtol=1e-5, atol=1e-6)


def test_bfloat16_changes_the_directions_by_its_rounding_alone(images):
    generator = make_generator()
    generator.head.kernel.assign(tf.random.stateless_normal(generator.head.kernel.shape, (0, 0)))
    exact, rounded = generator(images, TARGETS), generator.for_inference("bfloat16")(images, TARGETS)
    assert rounded.dtype == tf.float32
    assert 1e-4 < tf.norm(rounded - exact) / tf.norm(exact) < 0.03
