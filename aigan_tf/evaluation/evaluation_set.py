"""A classifier and the images it is attacked on, checked once for all attacks."""

import functools
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from aigan_tf.classifiers.accuracy import predictions
from aigan_tf.data import next_steps
from aigan_tf.data.arrays import checked_labels
from aigan_tf.errors import InputError
from aigan_tf.method.threat_model import l2_norms, linf_norms, quantize


class EvaluationSet:
    """A classifier and the images it is attacked on. What all attacks on them share is computed once.

    Args:
        classifier: images in `[0, 1]` to logits, in inference mode.
        images: float32 `(n, height, width, channels)` in `[0, 1]`.
        labels: int32 `(n,)`.
        class_names: name of each class.
        split: name of the split, for the record.
        labelled: whether the labels came with the images, rather than from the classifier's answers.
        target_classes: numbers of the only classes that images are driven to; None for all.
        max_attacks: how many attacks are measured at most, drawn if there are more; None for all.

    Raises:
        InputError: images or labels have another shape, type or range.
    """

    def __init__(
        self,
        classifier: Callable[[tf.Tensor], tf.Tensor],
        images: np.ndarray,
        labels: np.ndarray,
        class_names: Sequence[str],
        split: str = "test",
        labelled: bool = True,
        target_classes: Sequence[int] | None = None,
        max_attacks: int | None = None,
    ):
        images = np.asarray(images)
        _check_images(images)
        self.classifier = classifier
        self.images = images.astype(np.float32, copy=False)
        self.labels = checked_labels(labels, len(images), len(class_names))
        self.class_names = tuple(class_names)
        self.split = split
        self.labelled = labelled
        self.target_classes = tuple(range(len(class_names)) if target_classes is None else target_classes)
        self.max_attacks = max_attacks
        # Traced once for all attacks and budgets; an attribute of the object, so that it is freed with it.
        self.measure = tf.function(self._measure, reduce_retracing=True)

    @functools.cached_property
    def answers(self) -> np.ndarray:
        """What the classifier answers to the images, int32 `(n,)`; `NO_CLASS` for NaN."""
        return predictions(self.classifier, self.images)

    @functools.cached_property
    def correct(self) -> np.ndarray:
        """Which images the classifier gets right, bool `(n,)`.

        Raises:
            InputError: none of them, or the classifier's output does not fit the classes.
        """
        shape = tuple(self.classifier(tf.constant(self.images[:1])).shape)
        if shape != (1, len(self.class_names)):
            raise InputError(
                f"the classifier gives {shape} for one image",
                f"logits (1, {len(self.class_names)}), one per class",
                "give as many `class_names` as it has logits",
            )
        correct = self.answers == self.labels
        if not correct.any():
            raise InputError(
                f"the classifier gets none of {len(correct)} images right",
                "at least one to attack",
                "check `input_range` and the order of the classes, or take more images",
            )
        return correct

    def first_correct(self, count: int) -> "EvaluationSet":
        """Returns the set of the first `count` images that the classifier gets right, or of all of them."""
        kept = np.flatnonzero(self.correct)[:count]
        return EvaluationSet(
            self.classifier, self.images[kept], self.labels[kept], self.class_names, self.split, self.labelled,
            self.target_classes, self.max_attacks,
        )  # fmt: skip

    def _measure(self, clean, adversarial, budget):
        """The answers, norms and 8-bit images of a batch."""
        window = min(11, *self.images.shape[1:3])  # of the structural similarity; 11 pixels as published
        clean_8bit, pictures = quantize(clean, adversarial, budget)
        clean_8bit, adversarial_8bit = (tf.cast(x, tf.float32) / 255.0 for x in (clean_8bit, pictures))
        logits_float, logits = self.classifier(adversarial), self.classifier(adversarial_8bit)
        return {
            "answer_float": tf.argmax(logits_float, -1, tf.int32),
            "answer": tf.argmax(logits, -1, tf.int32),
            "answered": ~tf.reduce_any(tf.math.is_nan(logits_float) | tf.math.is_nan(logits), axis=-1),
            "l2": l2_norms(adversarial_8bit - clean_8bit),
            "linf": linf_norms(adversarial_8bit - clean_8bit),
            "linf_float": linf_norms(adversarial - clean),
            "ssim": tf.image.ssim(clean_8bit, adversarial_8bit, 1.0, filter_size=window),
            "outside": tf.reduce_max(tf.maximum(-adversarial, adversarial - 1.0), axis=[1, 2, 3]),
            "pictures": pictures,
        }


def _check_images(images):
    if images.ndim != 4 or not len(images):
        raise InputError(
            f"images are {images.dtype} of shape {images.shape}",
            "at least one, (n, height, width, channels)",
            next_steps.for_shape(images.shape),
        )
    lowest, highest = images.min(), images.max()
    if not (lowest >= 0 and highest <= 1):  # not <: NaN fails too
        found = f"have pixels from {lowest} to {highest}" if lowest <= highest else "hold NaN"
        raise InputError(f"images {found}", "pixels in [0, 1]", next_steps.for_range(lowest, highest))
