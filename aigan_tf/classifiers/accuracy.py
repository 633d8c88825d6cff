"""A classifier's predictions and its accuracy."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from aigan_tf.data.splits import Split
from aigan_tf.engine.memory import images_per_call
from aigan_tf.errors import InputError, say

NEAR_CHANCE = 2.0  # times chance: below this accuracy a classifier is hardly worth attacking


def check_accuracy(classifier: Callable, split: Split, num_classes: int, kind: str = "test images") -> float:
    """Prints a classifier's accuracy on a split, with a warning if it is near chance, and returns it.

    Args:
        classifier: images in `[0, 1]` to logits.
        split: images and labels.
        num_classes: number of classes of the labels.
        kind: what the images are called.

    Raises:
        InputError: it gets no image right, so that there is nothing to attack.
    """
    measured = accuracy(classifier, split.as_float(), split.labels)
    say(f"Classifier accuracy on {len(split)} {kind}: {measured:.2%}.")
    if measured == 0:
        raise InputError(
            f"the classifier gets none of {len(split)} {kind} right",
            "at least one right answer, which can be attacked",
            "check `input_range`, the order of the classes, and that it was trained on this data set",
        )
    chance = 1 / num_classes
    if measured < min(NEAR_CHANCE * chance, (1 + chance) / 2):
        print(
            f"WARNING: that is near chance ({chance:.0%}); success rates against it mean little. Check input_range, "
            "the order of the classes, and that the classifier was trained on this data set.",
            flush=True,
        )
    return measured


def accuracy(classifier: Callable, images: np.ndarray, labels: np.ndarray, batch_size: int = 500) -> float:
    """Returns the share of images whose predicted class is their label."""
    return float(np.mean(predictions(classifier, images, batch_size) == labels))


def predictions(classifier: Callable, images: np.ndarray, batch_size: int = 500) -> np.ndarray:
    """Returns the predicted class of each image, int32 `(n,)`; of large images fewer than `batch_size` at a time."""
    batch_size = images_per_call(images.shape[1:], batch_size)

    def predict(batch):
        return tf.argmax(classifier(batch), -1, tf.int32)

    if len(images) > 3 * batch_size:  # fewer are answered before a graph is traced
        predict = tf.function(predict, input_signature=[tf.TensorSpec((None, *images.shape[1:]), tf.float32)])
    return np.concatenate([predict(images[i : i + batch_size]) for i in range(0, len(images), batch_size)])
