"""Large images are measured a few at a time."""

import numpy as np
import pytest
import tensorflow as tf

from aigan_tf.classifiers.accuracy import predictions
from aigan_tf.engine.memory import images_per_call
from aigan_tf.evaluation.evaluation_set import EvaluationSet
from aigan_tf.evaluation.measure import measure_attack


@pytest.mark.parametrize(
    ("shape", "most"), [((8, 8, 1), 500), ((64, 64, 3), 500), ((224, 224, 3), 40), ((9999, 9999, 3), 1)]
)
def test_fewer_images_per_call_if_they_are_large(shape, most):
    assert images_per_call(shape) == most
    assert images_per_call(shape, 30) == min(most, 30)


def test_no_call_of_a_classifier_gets_all_large_images_at_once():
    sizes = set()

    def classifier(images):
        sizes.add(images.shape[0])
        return tf.one_hot(tf.zeros(tf.shape(images)[0], tf.int32), 3)

    images = np.zeros((45, 224, 224, 3), np.float32)
    assert len(predictions(classifier, images)) == 45
    assert sizes == {40, 5}
    examples = EvaluationSet(classifier, images, np.zeros(45, np.int32), ("a", "b", "c"))

    def attack(images, targets):
        sizes.add(len(images))
        return images

    sizes.clear()
    assert measure_attack(attack, examples, 0.1).num_attacks == 90
    assert max(size for size in sizes if size) <= 40
