"""foolbox's attacks as the comparison uses them."""

import numpy as np
import pytest
import tensorflow as tf

from aigan_tf.evaluation.foolbox_attacks import foolbox_attack

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


@pytest.mark.parametrize(
    ("name", "least"), [("fgsm", 0.1), ("pgd", 0.2), pytest.param("cw", 0.95, marks=pytest.mark.long)]
)
def test_attacks_succeed_within_the_pixel_range_and_their_budget(name, least, some, digit_classifier):
    images, labels, targets = some
    found = np.asarray(foolbox_attack(name, digit_classifier, EPSILON, targeted=True)(images, targets))
    assert found.min() >= 0
    assert found.max() <= 1
    assert success(digit_classifier, found, targets) > least
    if name == "cw":  # it has no budget, and takes half a minute
        return
    assert np.abs(found - images).max() <= EPSILON + 1e-6
    left = foolbox_attack(name, digit_classifier, EPSILON, targeted=False)(images, labels)
    assert success(digit_classifier, left, labels) < 0.6
