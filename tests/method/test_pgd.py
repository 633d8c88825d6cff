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


def best_step(images, weights, targets, towards):
    """The strongest attack on a linear classifier: every pixel goes as far as it may towards, or away from, a class."""
    sign = np.sign(weights[:, targets] - weights[:, 1 - targets]).T.reshape(images.shape)
    return np.clip(images + (1 if towards else -1) * np.float32(EPSILON) * sign, 0, 1)


@pytest.mark.parametrize("targeted", [True, False])
@pytest.mark.parametrize(("step_size", "num_steps"), [(EPSILON, 1), (0.07, 4), (0.3, 2)])  # the first: FGSM
def test_attack_on_a_linear_classifier_is_the_best_step(images, weights, linear, targeted, step_size, num_steps):
    targets = np.array([0, 1, 1, 0, 1, 0], np.int32)
    settings = dict(epsilon=EPSILON, step_size=step_size, num_steps=num_steps, random_start=False)
    adversarial_images = pgd_attack(linear, images, targets, targeted=targeted, **settings)
    expected = best_step(images, weights, targets, towards=targeted)
    np.testing.assert_allclose(adversarial_images, expected, rtol=0, atol=1e-6)


def test_random_start_fills_the_budget(images, linear):
    grey = np.full((50, 8, 8, 1), 0.5, np.float32)
    start = pgd_attack(linear, grey, np.zeros(50, np.int32), epsilon=EPSILON, step_size=0.1, num_steps=0).numpy()
    noise = start - grey
    assert np.abs(noise).max() <= EPSILON + 1e-6
    assert noise.min() < -0.99 * EPSILON
    assert noise.max() > 0.99 * EPSILON
    # A uniform draw: mean 0 and variance epsilon ** 2 / 3, each within five standard errors of 3,200 pixels.
    assert abs(noise.mean()) < 5 * EPSILON / np.sqrt(3 * noise.size)
    assert noise.var() == pytest.approx(EPSILON**2 / 3, rel=0.08)
    assert len(np.unique(noise[:, 0, 0, 0])) == 50  # each image has its own


def test_random_start_is_decided_by_the_seed(images, linear):
    settings = dict(epsilon=EPSILON, step_size=0.02, num_steps=2)
    attack = functools.partial(pgd_attack, linear, images, np.zeros(6, np.int32), **settings)
    first = attack(seed=(1, 2)).numpy()

    np.testing.assert_array_equal(attack(seed=(1, 2)), first)
    for other in ((1, 3), (2, 2)):
        assert np.mean(np.abs(attack(seed=other) - first) > 1e-3) > 0.5


@pytest.mark.parametrize("epsilon", [8 / 255, 0.3])
def test_attack_stays_in_the_budget_and_on_the_display(images, make_classifier, epsilon):
    classifier = functools.partial(make_classifier(), training=False)
    targets = np.arange(6, dtype=np.int32)
    adversarial_images = pgd_attack(
        classifier, images, targets, epsilon=epsilon, step_size=epsilon, num_steps=3
    ).numpy()
    assert 0.9 * epsilon < np.abs(adversarial_images - images).max() <= epsilon + 1e-6
    assert adversarial_images.min() >= 0
    assert adversarial_images.max() <= 1


def test_no_gradient_flows_through(images, linear):
    settings = dict(epsilon=EPSILON, step_size=0.05, num_steps=2, random_start=False)
    with tf.GradientTape() as tape:
        tape.watch(images)
        total = tf.reduce_sum(pgd_attack(linear, images, np.zeros(6, np.int32), **settings))
    assert tape.gradient(total, images) is None


def test_attack_is_the_same_inside_a_graph(batch, digit_classifier):
    images, labels = batch
    targets = (labels + 1) % 10

    def attack(images, targets, seed):
        return pgd_attack(digit_classifier, images, targets, epsilon=0.3, step_size=0.1, num_steps=3, seed=seed)

    specs = tf.TensorSpec((None, 8, 8, 1)), tf.TensorSpec((None,), tf.int32), tf.TensorSpec((2,), tf.int32)
    in_graph = tf.function(attack, input_signature=specs)(images, targets, tf.constant([5, 6]))

    np.testing.assert_allclose(in_graph, attack(images, targets, (5, 6)), atol=1e-6)


@pytest.mark.parametrize(("step_size", "num_steps"), [(0.3, 1), (0.04, 10)])
@pytest.mark.parametrize("targeted", [True, False])
def test_agrees_with_foolbox(digits, digit_classifier, targeted, step_size, num_steps):
    images = tf.constant(digits.test.take(slice(0, 40)).as_float())
    labels = digits.test.labels[:40]
    targets = (labels + 1 + np.arange(40, dtype=np.int32) % 9) % 10 if targeted else labels
    epsilon = 0.2 if num_steps > 1 else 0.3
    classifier = functools.partial(digit_classifier, training=False)
    settings = dict(epsilon=epsilon, step_size=step_size, num_steps=num_steps, random_start=False)
    ours = pgd_attack(classifier, images, targets, targeted=targeted, **settings)

    attack = foolbox.attacks.LinfPGD(abs_stepsize=step_size, steps=num_steps, random_start=False)
    criterion = foolbox.criteria.TargetedMisclassification if targeted else foolbox.criteria.Misclassification
    model = foolbox.TensorFlowModel(digit_classifier, bounds=(0, 1))
    theirs, _, their_success = attack(model, images, criterion(tf.constant(targets, tf.int64)), epsilons=epsilon)

    answers = np.argmax(digit_classifier(ours), axis=-1)
    success = (answers == targets) == targeted
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    np.testing.assert_array_equal(success, their_success)
    assert 0.1 < success.mean() < 1 or not targeted  # neither hopeless nor trivial, so that agreement says something


def test_each_image_has_its_own_budget_and_step_in_any_batch(images, make_classifier):
    classifier = functools.partial(make_classifier(), training=False)
    images, targets, epsilons = images[:4], np.arange(4, dtype=np.int32), tf.constant([0.02, 0.05, 0.1, 0.3])
    settings = dict(num_steps=3, random_start=False)
    together = pgd_attack(classifier, images, targets, epsilon=epsilons, step_size=epsilons / 2, **settings)
    for k, epsilon in enumerate(epsilons.numpy()):
        one = images[k : k + 1], targets[k : k + 1]
        alone = pgd_attack(classifier, *one, epsilon=epsilon, step_size=epsilon / 2, **settings)
        np.testing.assert_allclose(together[k : k + 1], alone, atol=1e-6)
    started = pgd_attack(classifier, images, targets, epsilon=epsilons, step_size=epsilons, num_steps=0)
    moved = np.abs(started - images).max(axis=(1, 2, 3))
    assert (moved <= epsilons.numpy() + 1e-6).all()
    assert (moved > 0.8 * epsilons.numpy()).all()
