"""The threat model: bounds, norms, 8-bit pictures."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from aigan_tf.method.threat_model import apply_perturbation, bounded, l2_norms, linf_norms, quantize

EPSILONS = (8 / 255, 0.3, 1.0, 1 / 255, 0.001)
SHAPE = (2, 3, 3, 1)
SMALLEST = float(np.finfo(np.float32).smallest_subnormal)

pixels = st.one_of(
    st.sampled_from([0.0, SMALLEST, 1e-38, 0.5 / 255, 1.5 / 255, 0.5, 127.5 / 255, 1.0 - 2**-24, 1.0]),
    st.floats(0.0, 1.0, width=32),
)
image_batches = st.one_of(
    pixels.map(lambda value: np.full(SHAPE, value, np.float32)),  # constant images
    hnp.arrays(np.float32, SHAPE, elements=pixels),
)
perturbation_batches = hnp.arrays(
    np.float32,
    SHAPE,
    elements=st.one_of(st.floats(-2.0, 2.0, width=32), st.sampled_from([0.0, SMALLEST, -1e30, 1e30])),
)
epsilons = st.sampled_from(EPSILONS)
properties = settings(max_examples=100, deadline=None)


@properties
@given(images=image_batches, perturbations=perturbation_batches, epsilon=epsilons)
def test_the_nearest_admissible_image_and_perturbation(images, perturbations, epsilon):
    adversarial = apply_perturbation(images, perturbations, epsilon).numpy()

    assert adversarial.dtype == np.float32
    assert adversarial.min() >= 0.0
    assert adversarial.max() <= 1.0
    change = adversarial.astype(np.float64) - images
    assert np.abs(change).max() <= epsilon + 1e-7
    # In float64: each pixel of the sum, moved into the intersection of the two intervals.
    low, high = np.maximum(images - np.float64(epsilon), 0.0), np.minimum(images + np.float64(epsilon), 1.0)
    nearest = np.clip(images + perturbations.astype(np.float64), low, high)
    np.testing.assert_allclose(adversarial, nearest, rtol=0, atol=1.2e-7)
    unchanged = apply_perturbation(images, np.zeros_like(images), epsilon)
    np.testing.assert_allclose(unchanged, images, rtol=0, atol=1.2e-38)  # processors may flush subnormals to zero

    within = bounded(tf.constant(perturbations), epsilon).numpy()
    assert within.dtype == np.float32
    assert np.abs(within).max() <= np.float32(epsilon)
    expected = np.float32(epsilon) * np.clip(perturbations, -1, 1)
    np.testing.assert_allclose(within, expected, rtol=1e-6, atol=1.2e-38)


@pytest.mark.parametrize("leak", [0.0, 0.25, 1.0])
@pytest.mark.parametrize("epsilon", EPSILONS)
def test_beyond_the_bounds_a_leak_of_the_gradient_draws_back_and_none_draws_further_out(epsilon, leak):
    images = tf.constant([0.0, 0.0, 1.0, 1.0, 0.5, 0.5], shape=(6, 1, 1, 1))
    directions = tf.constant([-3.0, 3.0, 1.0, -3.0, 1.0, 0.1], shape=(6, 1, 1, 1))
    brighter, darker = [], []
    for sign, gradients in ((-1.0, brighter), (1.0, darker)):
        with tf.GradientTape() as tape:
            tape.watch(directions)
            perturbations = bounded(directions, epsilon, leak)
            adversarial_images = apply_perturbation(images, perturbations, epsilon, leak)
            total = sign * tf.reduce_sum(adversarial_images)
        np.testing.assert_array_equal(
            adversarial_images, apply_perturbation(images, bounded(directions, epsilon), epsilon)
        )
        gradients.extend(tape.gradient(total, directions).numpy().ravel() / np.float32(epsilon))
    # Descent on the negative sum makes pictures brighter: all but where the budget or white ends. The first pixel lies
    # beyond two bounds, that of the budget and black.
    np.testing.assert_allclose(brighter, [-(leak**2), 0, 0, -leak, 0, -1], rtol=1e-6)
    # Darker: all but where the budget or black ends. The fifth is at the edge of the budget, the largest lets it beyond white.
    np.testing.assert_allclose(darker, [0, leak, leak, 0, leak if epsilon > 0.5 else 1, 1], rtol=1e-6)


def test_norms_are_those_of_each_image_and_have_a_gradient_at_zero():
    perturbations = np.random.default_rng(0).uniform(-1, 1, (5, 4, 6, 3)).astype(np.float32)
    flat = perturbations.reshape(5, -1).astype(np.float64)
    np.testing.assert_allclose(l2_norms(perturbations), np.linalg.norm(flat, axis=1), rtol=1e-6)
    np.testing.assert_allclose(linf_norms(perturbations), np.abs(flat).max(axis=1), rtol=1e-6)

    nothing = tf.zeros((3, 8, 8, 1))
    with tf.GradientTape() as tape:
        tape.watch(nothing)
        norms = l2_norms(nothing)
    np.testing.assert_allclose(norms, 0.0, atol=2e-6)
    np.testing.assert_array_equal(linf_norms(nothing), 0.0)
    np.testing.assert_array_equal(tape.gradient(norms, nothing), 0.0)  # sqrt alone gives NaN here


def assert_quantized(images, adversarial_images, epsilon):
    """Compares with the best of all 256 levels, pixel by pixel, in float64."""
    clean, adversarial = (x.numpy() for x in quantize(images, adversarial_images, epsilon))
    assert clean.dtype == adversarial.dtype == np.uint8
    levels = np.arange(256)

    def to_level(values):  # distance of every pixel to every level, in levels
        return np.abs(np.asarray(values, np.float64).ravel()[:, np.newaxis] * 255 - levels)

    def chosen(distances, picture):
        return distances[np.arange(picture.size), picture.ravel()]

    # Ties (x.5) may go either way, and float32 may take a near tie for one.
    distances = to_level(images)
    np.testing.assert_allclose(chosen(distances, clean), distances.min(axis=1), atol=4e-5)

    allowed = np.abs(levels - clean.ravel().astype(int)[:, np.newaxis]) / 255 <= epsilon + 1e-9
    distances = np.where(allowed, to_level(adversarial_images), np.inf)
    np.testing.assert_allclose(chosen(distances, adversarial), distances.min(axis=1), atol=4e-5)


@properties
@given(images=image_batches, perturbations=perturbation_batches, epsilon=epsilons)
def test_quantize_picks_the_nearest_level_within_epsilon_of_the_clean_picture(images, perturbations, epsilon):
    assert_quantized(images, apply_perturbation(images, perturbations, epsilon), epsilon)


@pytest.mark.parametrize(
    ("epsilon", "level", "expected"),
    [(each, 100, 108) for each in (8 / 255, np.float32(8 / 255), 0.031372549, 0.0313725, 0.0313726)]
    + [(2.4 / 255, 100.4, 102)],  # of a budget between two levels: 102.8, whose nearest is 103
)
def test_quantize_uses_all_of_the_budget_and_no_more(epsilon, level, expected):
    images = np.full((1, 8, 8, 1), level / 255, np.float32)
    clean, adversarial = quantize(images, apply_perturbation(images, np.ones_like(images), epsilon), epsilon)
    np.testing.assert_array_equal(clean, 100)
    np.testing.assert_array_equal(adversarial, expected)
