"""foolbox's attacks as the comparison uses them."""

import numpy as np
import pytest
import tensorflow as tf

from aigan_tf.evaluation.foolbox_attacks import foolbox_attack
from aigan_tf.method.pgd import pgd_attack

EPSILON = 0.2


@pytest.fixture(scope="module")
def some(digits, digit_classifier):
    """Forty digits that the classifier gets right, with their labels and a target each."""
    split = digits.test
    right = np.argmax(digit_classifier(split.as_float()), axis=-1) == split.labels
    images, labels = split.as_float()[right][:40], split.labels[right][:40]
    return tf.constant(images), labels, (labels + 1 + np.arange(40, dtype=np.int32) % 9) % 10


def success(classifier, images, targets):
    return np.mean(np.argmax(classifier(images), axis=-1) == targets)


def test_fgsm_equals_one_step_of_our_attacker(some, digit_classifier):
    images, _, targets = some
    theirs = foolbox_attack("fgsm", digit_classifier, EPSILON, targeted=True)(images, targets)
    settings = dict(epsilon=EPSILON, step_size=EPSILON, num_steps=1, random_start=False)
    np.testing.assert_allclose(theirs, pgd_attack(digit_classifier, images, targets, **settings), atol=1e-6)


@pytest.mark.parametrize(
    ("name", "least"), [("fgsm", 0.1), ("pgd", 0.2), pytest.param("cw", 0.95, marks=pytest.mark.long)]
)
def test_attacks_succeed_within_the_pixel_range_and_their_budget(name, least, some, digit_classifier):
    images, labels, targets = some
    found = np.asarray(foolbox_attack(name, digit_classifier, EPSILON, targeted=True)(images, targets))
    assert found.min() >= 0
    assert found.max() <= 1
    assert success(digit_classifier, found, targets) > least
    if name != "cw":
        assert np.abs(found - images).max() <= EPSILON + 1e-6
    left = foolbox_attack(name, digit_classifier, EPSILON, targeted=False)(images, labels)
    assert success(digit_classifier, left, labels) < (0.05 if name == "cw" else 0.6)


def test_image_stays_if_carlini_and_wagner_find_nothing(some):
    images, _, targets = some
    constant = tf.one_hot([0], 10)

    def always_zero(x):
        return constant + 0.0 * tf.reduce_sum(x, axis=[1, 2, 3])[:, tf.newaxis]

    targets = np.where(targets == 0, 1, targets)
    np.testing.assert_array_equal(foolbox_attack("cw", always_zero, EPSILON, targeted=True)(images, targets), images)
