"""The accuracy check before an attack: a classifier whose classes are in another order is noticed."""

import numpy as np
import pytest
import tensorflow as tf

from aigan_tf.classifiers.accuracy import better_order, check_accuracy
from aigan_tf.data.splits import Split
from aigan_tf.errors import InputError

NAMES = ("bird", "cat", "cow", "dog")


def answers_of(labels, order, right=0.9):
    """The answers of a classifier that is right on a share of the images and numbers the class `order[k]` as k."""
    wrong = np.arange(len(labels)) >= right * len(labels)
    return np.argsort(order)[np.where(wrong, (labels + 1) % len(order), labels)]


@pytest.mark.parametrize(
    ("order", "words"),
    [([0, 3, 2, 1], ["cat and dog", "90%"]), ([1, 2, 3, 0], ["cat, cow, dog, bird", "90%"]), ([0, 1, 2, 3], None)],
)
def test_another_order_of_the_classes_is_found(order, words):
    labels = np.tile(np.arange(4), 100)
    found = better_order(answers_of(labels, order), labels, NAMES)
    assert all(word in found for word in words) if words else not found


def test_exchanged_classes_are_named_though_no_answer_is_right(capsys):
    split = Split(np.zeros((40, 8, 8, 1), np.uint8), np.tile(np.arange(2, dtype=np.int32), 20))
    split.images[split.labels == 1] = 255

    def exchanged(images):
        return np.stack([images[:, 0, 0, 0], 1 - images[:, 0, 0, 0]], axis=-1)

    with pytest.raises(InputError) as error:
        check_accuracy(exchanged, split, 2, class_names=("cat", "dog"))
    assert "cat and dog" in error.value.fix
    assert check_accuracy(lambda images: 1 - exchanged(images), split, 2, class_names=("cat", "dog")) == 1
    assert "WARNING" not in capsys.readouterr().out


def test_nan_is_never_right(capsys):
    images = np.array([[[[0]]], [[[1]]], [[[2]]], [[[3]]]], np.uint8)
    split = Split(images, np.array([0, 0, 1, 1], np.int32), pixel_max=3)

    def classifier(images):
        values = images[:, 0, 0, 0]
        logits = tf.stack([1.0 - values, values], axis=-1)
        return tf.where(values[:, None] == 0.0, np.nan, logits)  # the argmax of NaN is class 0

    assert check_accuracy(classifier, split, 2) == 0.75
    assert "NaN on 1" in capsys.readouterr().out
