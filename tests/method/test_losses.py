"""The terms of the objective against closed forms in float64."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from aigan_tf.method.losses import adversarial_loss, discriminator_loss, gan_loss, hinge_loss

logit_batches = hnp.arrays(np.float32, (4, 3), elements=st.floats(-40, 40, width=32))
class_batches = hnp.arrays(np.int32, 4, elements=st.integers(0, 2))
properties = settings(max_examples=100, deadline=None)


def cross_entropy(logits, targets):
    """E -log p_t, in float64."""
    logits = logits.astype(np.float64)
    return np.mean(np.logaddexp.reduce(logits, axis=1) - logits[np.arange(len(targets)), targets])


def other_classes_loss(logits, targets):
    """E -log(1 - p_y), in float64, where 1 - p_y is the sum of the other probabilities."""
    logits = logits.astype(np.float64)
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities = shifted / shifted.sum(axis=1, keepdims=True)
    probabilities[np.arange(len(targets)), targets] = 0.0
    return np.mean(-np.log(probabilities.sum(axis=1)))


def value_and_gradient(function, x):
    x = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        value = function(x)
    return value.numpy(), tape.gradient(value, x).numpy()


@properties
@given(logits=logit_batches, targets=class_batches)
def test_adversarial_loss_is_that_of_the_target_or_of_all_but_the_label(logits, targets):
    loss = adversarial_loss(logits, targets, targeted=True)
    np.testing.assert_allclose(loss, cross_entropy(logits, targets), rtol=1e-5, atol=1e-5)
    loss = adversarial_loss(tf.constant(logits), targets, targeted=False).numpy()
    np.testing.assert_allclose(loss, other_classes_loss(logits, targets), rtol=1e-5, atol=1e-5)
    assert loss >= -1e-5


@pytest.mark.parametrize("targeted", [True, False])
@pytest.mark.parametrize("size", [1e2, 1e4, 1e30])
@pytest.mark.parametrize("winner", [0, 1])
def test_adversarial_loss_is_finite_at_extreme_logits_and_points_the_right_way(targeted, size, winner):
    logits = np.full((2, 3), -size, np.float32)
    logits[:, winner] = size
    targets = np.zeros(2, np.int32)
    loss, gradient = value_and_gradient(lambda x: adversarial_loss(x, targets, targeted), logits)

    satisfied = (winner == 0) == targeted
    assert np.isfinite(loss)
    assert np.isfinite(gradient).all()
    if satisfied:
        assert loss == pytest.approx(0.0, abs=1e-6)
        np.testing.assert_allclose(gradient, 0.0, atol=1e-6)
    else:
        assert loss == pytest.approx(2 * size, rel=1e-5, abs=0.7)  # two tied others share: log 2
        # However sure the classifier is, the named class is pulled at with full force: 1 / batch.
        np.testing.assert_allclose(gradient[:, 0], -0.5 if targeted else 0.5, rtol=1e-5)


CERTAIN = np.array([-1e30, -1e4, 1e4, 1e30], np.float32)  # what a discriminator that is sure may answer


def sigmoid(logits):
    return 1 / (1 + np.exp(-logits.astype(np.float64)))


def test_gan_loss_is_the_non_saturating_form():
    logits = np.linspace(-30, 30, 13).astype(np.float32)
    loss, gradient = value_and_gradient(gan_loss, logits)
    np.testing.assert_allclose(loss, np.mean(-np.log(sigmoid(logits))), rtol=1e-6)
    np.testing.assert_allclose(gradient, (sigmoid(logits) - 1) / 13, rtol=1e-4, atol=1e-12)

    loss, gradient = value_and_gradient(gan_loss, CERTAIN)
    assert loss == pytest.approx((1e30 + 1e4) / 4)
    np.testing.assert_allclose(gradient, [-1 / 4, -1 / 4, 0, 0], atol=1e-6)


def test_discriminator_loss_wants_real_high_and_fake_low():
    real = np.array([-3.0, 0.0, 4.0], np.float32)
    fake = np.array([-1.0, 2.0, 7.0], np.float32)
    loss, real_gradient = value_and_gradient(lambda x: discriminator_loss(x, fake), real)
    _, fake_gradient = value_and_gradient(lambda x: discriminator_loss(real, x), fake)
    expected = -np.mean(np.log(sigmoid(real))) - np.mean(np.log(1 - sigmoid(fake)))
    np.testing.assert_allclose(loss, expected, rtol=1e-6)
    np.testing.assert_allclose(real_gradient, (sigmoid(real) - 1) / 3, rtol=1e-5)
    np.testing.assert_allclose(fake_gradient, sigmoid(fake) / 3, rtol=1e-5)

    _, real_gradient = value_and_gradient(lambda x: discriminator_loss(x, fake), CERTAIN)
    _, fake_gradient = value_and_gradient(lambda x: discriminator_loss(real, x), CERTAIN)
    np.testing.assert_allclose(real_gradient, [-1 / 4, -1 / 4, 0, 0], atol=1e-6)
    np.testing.assert_allclose(fake_gradient, [0, 0, 1 / 4, 1 / 4], atol=1e-6)


def test_hinge_counts_only_what_exceeds_the_threshold():
    perturbations = np.zeros((3, 2, 2, 1), np.float32)
    perturbations[0, 0, 0, 0] = 0.5  # norms 0.5, 2 and 3
    perturbations[1] = 1.0
    perturbations[2] = 1.5
    loss, gradient = value_and_gradient(lambda x: hinge_loss(x, 1.0), perturbations)

    assert loss == pytest.approx((0.0 + 1.0 + 2.0) / 3, rel=1e-6)
    np.testing.assert_array_equal(gradient[0], 0.0)
    np.testing.assert_allclose(gradient[1:], 0.5 / 3, rtol=1e-5)  # perturbation / norm / batch
