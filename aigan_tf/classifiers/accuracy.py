"""What the classifier answers, and how often it is right."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from aigan_tf.data.splits import Split
from aigan_tf.errors import InputError, say

NEAR_CHANCE = 2.0  # a classifier below this many times chance is hardly worth attacking


def check_accuracy(
    classifier: Callable, split: Split, num_classes: int, kind: str = "test images", input_range: str = "--input_range"
) -> float:
    """Says how good the classifier is on a split, with a warning where it hardly beats chance.

    Args:
        classifier: images in `[0, 1]` to logits.
        split: the images and their labels.
        num_classes: that the labels are of.
        kind: what the images are called.
        input_range: what the setting of the pixels' range is called.

    Raises:
        InputError: it gets no image right, so there is nothing to attack.
    """
    measured = accuracy(classifier, split.as_float(), split.labels)
    say(f"Classifier accuracy on {len(split)} {kind}: {measured:.2%}.")
    if measured == 0:
        raise InputError(
            f"the classifier gets none of {len(split)} {kind} right; expected at least one to attack: check "
            f"{input_range}, the order of the classes, and that it was trained on this data set"
        )
    chance = 1 / num_classes
    if measured < min(NEAR_CHANCE * chance, (1 + chance) / 2):
        say(
            f"WARNING: that is near chance ({chance:.0%}); success rates against it mean little. Check {input_range}, "
            "the order of the classes, and that the classifier was trained on this data set."
        )
    return measured


def accuracy(classifier: Callable, images: np.ndarray, labels: np.ndarray, batch_size: int = 500) -> float:
    """Share of images that the classifier answers with their label, all of them counted."""
    return float(np.mean(predictions(classifier, images, batch_size) == labels))


def predictions(classifier: Callable, images: np.ndarray, batch_size: int = 500) -> np.ndarray:
    """Returns the class the classifier answers for each image, int32 `(n,)`."""

    def predict(batch):
        return tf.argmax(classifier(batch), -1, tf.int32)

    if len(images) > 3 * batch_size:  # fewer are answered before a graph is traced
        predict = tf.function(predict, input_signature=[tf.TensorSpec((None, *images.shape[1:]), tf.float32)])
    return np.concatenate([predict(images[i : i + batch_size]) for i in range(0, len(images), batch_size)])
