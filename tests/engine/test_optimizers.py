"""Muon for convolutions: the direction of a step is checked by a singular value decomposition, the rest against Adam."""

import keras
import numpy as np
import tensorflow as tf

from aigan_tf.engine.optimizers import ConvolutionMuon, CosineDecay, WarmRestarts
from aigan_tf.engine.precision import MixedPrecision


def gradients_of(shape, number):
    return [np.random.default_rng(seed).normal(size=shape).astype(np.float32) for seed in range(number)]


def test_a_kernel_moves_along_the_singular_vectors_of_its_momentum_all_as_far():
    for shape in ((3, 3, 4, 16), (3, 3, 16, 3), (1, 1, 4, 16)):  # more rows than columns, few columns, more columns
        optimizer = ConvolutionMuon(0.1)
        kernel = keras.Variable(np.zeros(shape, np.float32))
        momentum, before = 0.0, 0.0
        for gradient in gradients_of(shape, 3):
            gradient *= np.linspace(0.5, 3.0, shape[-1], dtype=np.float32)
            optimizer.apply([gradient], [kernel])
            momentum = 0.95 * momentum + gradient
            expected = (gradient + 0.95 * momentum).reshape(-1, shape[-1])
            moved = (kernel.numpy() - before).reshape(-1, shape[-1])
            before = kernel.numpy()
            left, values, right = np.linalg.svd(expected, full_matrices=False)
            assert values[0] / values[-1] > 2.0  # else there would be little to make equal
            lengths = left.T @ -moved @ right.T / (0.1 * 0.2 * np.sqrt(max(moved.shape)))
            np.testing.assert_allclose(lengths, np.diag(np.diag(lengths)), atol=2e-3)
            assert 0.65 < np.diag(lengths).min() <= np.diag(lengths).max() < 1.25  # what five iterations come to


def test_mixed_precision_leaves_a_step_its_length():
    # Its products are bfloat16 where the processor has it, and the singular values here span three decades.
    random = np.random.default_rng(0)
    gradient = random.normal(size=(288, 64)) * 10.0 ** -np.linspace(0, 3, 64) @ random.normal(size=(64, 64))
    kernel = keras.Variable(np.zeros((3, 3, 32, 64), np.float32))
    optimizer = ConvolutionMuon(0.1)
    optimizer.build([kernel])
    step = tf.function(lambda gradient: optimizer.apply([gradient], [kernel]))
    with MixedPrecision(True):
        step(tf.constant(gradient.reshape(kernel.shape), tf.float32))
    moved = np.linalg.svd(kernel.numpy().reshape(288, 64), compute_uv=False) / (0.1 * 0.2 * np.sqrt(288))
    assert 1.0 < moved.max() < 1.3


def test_everything_but_kernels_moves_as_by_adam():
    shapes = ((10, 8), (8,), (), (2, 3, 4))
    ours, adam = ConvolutionMuon(0.01, adam_beta_1=0.5), keras.optimizers.Adam(0.01, beta_1=0.5)
    moved = {optimizer: [keras.Variable(np.ones(shape, np.float32)) for shape in shapes] for optimizer in (ours, adam)}
    for step in range(4):
        gradients = [np.float32(step + 1) * gradients_of(shape, 4)[step] for shape in shapes]
        for optimizer, variables in moved.items():
            optimizer.apply([tf.constant(gradient) for gradient in gradients], variables)
    for our, theirs in zip(moved[ours], moved[adam], strict=True):
        np.testing.assert_allclose(our.numpy(), theirs.numpy(), rtol=1e-6)
        assert np.all(our.numpy() != 1.0)


def test_rows_of_an_embedding_that_are_used_twice_move_as_by_the_whole_gradient():
    rows = tf.IndexedSlices(tf.constant([[1.0], [-3.0], [2.0]]), tf.constant([1, 1, 0]), tf.constant([3, 1]))
    whole = tf.constant([[2.0], [-2.0], [0.0]])
    moved = []
    for gradient in (rows, whole):
        optimizer, table = ConvolutionMuon(0.1), keras.Variable(np.ones((3, 1), np.float32))
        for _ in range(3):
            optimizer.apply([gradient], [table])
        moved.append(table.numpy())
    np.testing.assert_array_equal(*moved)
    assert moved[0][0] < 1.0 < moved[0][1]


def test_warm_restarts_are_cosines_one_after_the_other():
    schedule, first = WarmRestarts(0.01, (4, 10, 15)), CosineDecay(0.01, 4)
    rates = [float(schedule(tf.constant(step, tf.int64))) for step in range(16)]
    assert rates[:4] == [float(first(step)) for step in range(4)]  # as before there were more epochs, in every bit
    for start, end, rate in ((4, 10, 0.01), (10, 15, 0.005)):
        expected = rate * (1 + np.cos(np.pi * np.arange(end - start) / (end - start))) / 2
        np.testing.assert_allclose(rates[start:end], expected, atol=1e-8)
    assert rates[15] == 0
