"""The attacker against closed forms and against another library."""

import functools

import foolbox
import numpy as np
import pytest
import tensorflow as tf

from aigan_tf.method.pgd import pgd_attack

EPSILON = 0.2


@pytest.fixture(scope="module")
def images():
    """Uniform pixels, some of them at 0 and at 1 where an attack must be cut off."""
    pixels = np.random.default_rng(0).uniform(-0.2, 1.2, (6, 8, 8, 1))
    return tf.constant(np.clip(pixels, 0, 1), tf.float32)


@pytest.fixture(scope="module")
def weights():
    """Of a linear classifier for two targets, one pixel of which it ignores."""
    weights = np.random.default_rng(1).normal(0, 0.3, (64, 2)).astype(np.float32)
    weights[5] = 0.0
    return weights


@pytest.fixture(scope="module")
def linear(weights):
    return lambda images: tf.reshape(images, (-1, 64)) @ weights


@pytest.mark.parametrize("targeted", [True, False])
@pytest.mark.parametrize(("step_size", "num_steps"), [(EPSILON, 1), (0.07, 4), (0.3, 2)])  # the first: FGSM
def test_attack_on_a_linear_classifier_is_the_best_step(images, weights, linear, targeted, step_size, num_steps):
    """Every pixel goes as far as it may towards, or away from, a class."""
    targets = np.array([0, 1, 1, 0, 1, 0], np.int32)
    settings = dict(epsilon=EPSILON, step_size=step_size, num_steps=num_steps, random_start=False)
    adversarial_images = pgd_attack(linear, images, targets, targeted=targeted, **settings)
    sign = np.sign(weights[:, targets] - weights[:, 1 - targets]).T.reshape(images.shape)
    expected = np.clip(images + (1 if targeted else -1) * np.float32(EPSILON) * sign, 0, 1)
    np.testing.assert_allclose(adversarial_images, expected, rtol=0, atol=1e-6)


def test_random_start_is_a_uniform_draw_from_the_budget_by_the_seed(linear):
    grey = np.full((50, 8, 8, 1), 0.5, np.float32)
    settings = dict(epsilon=EPSILON, step_size=0.1, num_steps=0)
    noise, same, *others = (
        pgd_attack(linear, grey, np.zeros(50, np.int32), seed=seed, **settings).numpy() - grey
        for seed in ((1, 2), (1, 2), (1, 3), (2, 2))
    )
    np.testing.assert_array_equal(same, noise)
    assert all(np.mean(np.abs(other - noise) > 1e-3) > 0.5 for other in others)
    assert np.abs(noise).max() <= EPSILON + 1e-6
    assert noise.min() < -0.99 * EPSILON
    assert noise.max() > 0.99 * EPSILON
    # Mean 0 and variance epsilon ** 2 / 3, each within five standard errors of 3,200 pixels.
    assert abs(noise.mean()) < 5 * EPSILON / np.sqrt(3 * noise.size)
    assert noise.var() == pytest.approx(EPSILON**2 / 3, rel=0.08)
    assert len(np.unique(noise[:, 0, 0, 0])) == 50  # each image has its own


def test_start_is_where_the_steps_begin_and_not_the_middle_of_the_budget(images, weights, linear):
    targets = np.array([0, 1, 1, 0, 1, 0], np.int32)
    noise = np.random.default_rng(2).uniform(-EPSILON, EPSILON, images.shape).astype(np.float32)
    start = np.clip(images + noise, 0, 1)
    found = pgd_attack(linear, images, targets, epsilon=EPSILON, step_size=0.05, num_steps=1, start=start)
    sign = np.sign(weights[:, targets] - weights[:, 1 - targets]).T.reshape(images.shape)
    expected = np.clip(
        start + np.float32(0.05) * sign, np.maximum(images - EPSILON, 0), np.minimum(images + EPSILON, 1)
    )
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("step_size", "num_steps"), [(0.3, 1), (0.04, 10)])
@pytest.mark.parametrize("targeted", [True, False])
def test_agrees_with_foolbox(digits, digit_classifier, targeted, step_size, num_steps):
    """In a graph, as training runs it."""
    images = tf.constant(digits.test.take(slice(0, 40)).as_float())
    labels = digits.test.labels[:40]
    targets = (labels + 1 + np.arange(40, dtype=np.int32) % 9) % 10 if targeted else labels
    epsilon = 0.2 if num_steps > 1 else 0.3
    settings = dict(epsilon=epsilon, step_size=step_size, num_steps=num_steps, random_start=False)
    ours = tf.function(functools.partial(pgd_attack, digit_classifier, targeted=targeted, **settings))(images, targets)

    attack = foolbox.attacks.LinfPGD(abs_stepsize=step_size, steps=num_steps, random_start=False)
    criterion = foolbox.criteria.TargetedMisclassification if targeted else foolbox.criteria.Misclassification
    model = foolbox.TensorFlowModel(digit_classifier, bounds=(0, 1))
    theirs, _, their_success = attack(model, images, criterion(tf.constant(targets, tf.int64)), epsilons=epsilon)

    success = (np.argmax(digit_classifier(ours), axis=-1) == targets) == targeted
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    np.testing.assert_array_equal(success, their_success)
    assert 0.1 < success.mean() < 1 or not targeted  # neither hopeless nor trivial, so that agreement says something


@pytest.mark.parametrize("random_start", [True, False])
def test_each_image_has_its_own_budget_and_step_in_any_batch(images, make_classifier, random_start):
    classifier = functools.partial(make_classifier(), training=False)
    images, targets, epsilons = images[:4], np.arange(4, dtype=np.int32), tf.constant([0.02, 8 / 255, 0.1, 0.3])
    settings = dict(num_steps=3, random_start=random_start)
    together = pgd_attack(classifier, images, targets, epsilon=epsilons, step_size=epsilons / 2, **settings).numpy()
    moved = np.abs(together - images).max(axis=(1, 2, 3))
    assert (moved <= epsilons.numpy() + 1e-6).all()
    assert (moved > 0.8 * epsilons.numpy()).all()
    assert together.min() >= 0
    assert together.max() <= 1
    for k, epsilon in enumerate([] if random_start else epsilons.numpy()):
        one = images[k : k + 1], targets[k : k + 1]
        alone = pgd_attack(classifier, *one, epsilon=epsilon, step_size=epsilon / 2, **settings)
        np.testing.assert_allclose(together[k : k + 1], alone, atol=1e-6)
