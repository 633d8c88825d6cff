"""Checks of what the Python API is given: a classifier, images, labels, callbacks and names of classes in memory."""

import os
from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf

from aigan_tf.classifiers.accuracy import as_labels, check_accuracy, predictions
from aigan_tf.classifiers.calling import inputs_of
from aigan_tf.classifiers.loading import as_classifier
from aigan_tf.classifiers.preprocessing import Preprocessing
from aigan_tf.config import Config
from aigan_tf.data import arrays
from aigan_tf.data.datasets import MIN_SIDE
from aigan_tf.data.splits import Split
from aigan_tf.errors import InputError
from aigan_tf.trained_generator import TrainedGenerator, refuse_shape

MAX_ACCURACY_IMAGES = 2000  # used for the accuracy check


def require_trainable_shape(shape: tuple[int, ...], classifier: Callable) -> None:
    """Refuses images that no generator can be trained on, and names the shape that the classifier takes."""
    if len(shape) != 4 or min(shape[1:3]) < MIN_SIDE or shape[3] not in (1, 3):
        taken = [spec.shape.as_list()[1:] for spec in inputs_of(classifier).values() if spec.shape.rank == 4]
        wanted = tuple(taken[0]) if taken and None not in taken[0] and taken[0][2] in (1, 3) else None
        refuse_shape(shape, wanted, f", with sides of at least {MIN_SIDE} and 1 or 3 channels")


def labelled(classifier: Callable, images: np.ndarray, labels: np.ndarray | None, num_classes: int) -> Split:
    """Returns uint8 images and their labels, after a check of the accuracy; without labels, the classifier's predictions."""
    if labels is None:
        return Split(images, as_labels(predictions(classifier, images.astype(np.float32) / 255), "the data set"))
    split = Split(images, arrays.checked_labels(labels, len(images), num_classes))
    step = -(-len(images) // MAX_ACCURACY_IMAGES)  # spread over all images, which may be sorted by class
    check_accuracy(classifier, split.take(slice(None, None, step)), num_classes, "images")
    return split


def require_callable(classifier: object) -> None:
    """Refuses what is not a classifier, such as the path of one."""
    if not callable(classifier) or isinstance(classifier, TrainedGenerator):
        is_path = isinstance(classifier, str | os.PathLike)
        raise InputError(
            f"the classifier is a {type(classifier).__name__}",
            "a Keras model, or a function from images to logits",
            f"give keras.models.load_model({str(classifier)!r})" if is_path else "give the model that is attacked",
        )


def require_callbacks(callbacks: object) -> None:
    """Refuses what is not a list of Keras callbacks."""
    if not isinstance(callbacks, list | tuple) or not all(
        isinstance(callback, keras.callbacks.Callback) for callback in callbacks
    ):
        raise InputError(
            f"callbacks are {callbacks!r}", "a list of keras.callbacks.Callback", "give e.g. callbacks=[callback]"
        )


def preprocessing_of(
    input_range: Sequence[float],
    input_mean: float | Sequence[float] | None,
    input_std: float | Sequence[float] | None,
    input_channels: str,
) -> Preprocessing:
    """Returns what the classifier takes in place of images in [0, 1]; `Config` checks it."""

    def numbers(given):
        return None if given is None else np.atleast_1d(given).tolist()

    return Preprocessing.of(
        Config(
            input_range=numbers(input_range),
            input_mean=numbers(input_mean),
            input_std=numbers(input_std),
            input_channels=input_channels,
        )
    )


def named_classifier(
    classifier: Callable,
    class_names: Sequence[str] | None,
    examples: np.ndarray,
    preprocessing: Preprocessing,
    output: str | None,
    needs_gradient: bool = True,
) -> tuple[Callable[[tf.Tensor], tf.Tensor], tuple[str, ...]]:
    """Returns a classifier from images in `[0, 1]` to logits, and the names of its classes; without any, their numbers.

    `examples` are float32 images in `[0, 1]` on which it is tried; the rest is as in `fit_generator`.
    """
    names = _checked_names(class_names)
    count = None if names is None else len(names)
    logits_of = as_classifier(classifier, examples, count, preprocessing, output, needs_gradient)
    return logits_of, names or tuple(map(str, range(int(logits_of(tf.constant(examples)).shape[-1]))))


def _checked_names(class_names):
    """Returns the names of the classes as a tuple, or None."""
    if class_names is None:
        return None
    names = () if isinstance(class_names, str) or not hasattr(class_names, "__iter__") else tuple(class_names)
    # Printable: an export writes a name per line.
    texts = all(isinstance(name, str) and name.isprintable() for name in names)
    if not names or not texts or len(set(names)) < len(names):
        raise InputError(
            repr(class_names),
            "a list of printable names, a different one for each class",
            "give e.g. ['cat', 'dog']",
            setting="class_names",
        )
    return names
