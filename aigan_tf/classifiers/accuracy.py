"""A classifier's predictions, as labels too, and its accuracy."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from aigan_tf.data.batches import evaluation_batches
from aigan_tf.data.datasets import ImageDataset
from aigan_tf.data.splits import Split
from aigan_tf.engine.memory import images_per_call
from aigan_tf.errors import InputError, say, warn
from aigan_tf.terminal import progress

LABELLED_BATCH = 100  # pictures per batch
ONE_ANSWER = 0.9  # share of the pictures with one answer, above which something is likely to be wrong
WELL_ORDERED = 0.5  # accuracy from which the order of the classes is taken to be right
IMAGES_PER_CLASS = 5  # with fewer, some order fits any answers
MOST_SHOWN = 20  # classes
NO_CLASS = -1  # no label: NaN is never right
NEAR_CHANCE = 2.0  # times chance: below this accuracy a classifier is hardly worth attacking


def check_accuracy(
    classifier: Callable,
    split: Split,
    num_classes: int,
    kind: str = "test images",
    class_names: Sequence[str] | None = None,
) -> float:
    """Prints a classifier's accuracy on a split and returns it; warns if it is near chance, or the classes' order seems wrong.

    Args:
        classifier: images in `[0, 1]` to logits.
        split: images and labels.
        num_classes: number of classes of the labels.
        kind: what the images are called.
        class_names: name of each class; None for their numbers.

    Raises:
        InputError: it gets no image right, so that there is nothing to attack.
    """
    say(f"Measuring the classifier on {len(split):,} {kind}.")
    answers = predictions(classifier, split.as_float())
    measured = float(np.mean(answers == split.labels))
    order = better_order(answers, split.labels, class_names or tuple(map(str, range(num_classes))))
    advice = f"{order}: {'list them so in class_names' if class_names else 'renumber the labels'}"
    say(f"Classifier accuracy on {len(split)} {kind}: {measured:.2%}.")
    if lost := np.count_nonzero(answers == NO_CLASS):
        warn(f"WARNING: the classifier answers NaN on {lost} of them, which counts as wrong.")
    if measured == 0:
        raise InputError(
            f"the classifier gets none of {len(split)} {kind} right",
            "at least one right answer, which can be attacked",
            advice
            if order
            else "check `input_range`, the order of the classes, and that it was trained on this data set",
        )
    chance = 1 / num_classes
    if measured < min(NEAR_CHANCE * chance, (1 + chance) / 2):
        warn(
            f"WARNING: that is near chance ({chance:.0%}); success rates against it mean little. Check input_range, "
            "the order of the classes, and that the classifier was trained on this data set."
        )
    if order:
        say(f"WARNING: class order? {advice}.")
    return measured


def better_order(answers: np.ndarray, labels: np.ndarray, class_names: Sequence[str]) -> str:
    """Returns an order of the classes that would explain a low accuracy, in words; empty if there is none.

    Args:
        answers, labels: int `(n,)`.
        class_names: name of each class.
    """
    from scipy.optimize import linear_sum_assignment  # here: its import takes time

    count = len(class_names)
    measured = np.mean(answers == labels)
    if measured >= WELL_ORDERED or len(labels) < IMAGES_PER_CLASS * count:
        return ""
    confusion = np.zeros((count, count), np.int64)
    answered = answers != NO_CLASS
    np.add.at(confusion, (answers[answered], labels[answered]), 1)
    _, named = linear_sum_assignment(confusion + np.eye(count) / 2, maximize=True)  # classes without answers stay
    ordered = confusion[np.arange(count), named].sum() / len(labels)
    if ordered < max(WELL_ORDERED, 2 * measured):
        return ""
    moved = np.flatnonzero(named != np.arange(count))
    if len(moved) == 2:
        change = "{} and {} exchanged".format(*(class_names[number] for number in moved))
    else:
        shown = [class_names[number] for number in named[:MOST_SHOWN]]
        change = f"the classes in the order {', '.join(shown)}{', ...' if count > MOST_SHOWN else ''}"
    return f"with {change} it would be {ordered:.0%}"


def labelled_by(
    classifier: Callable, dataset: ImageDataset, splits: Sequence[str] = ("train", "validation", "test")
) -> ImageDataset:
    """Returns a data set with labels: if it has none, the classifier's answers, and numbers if the classes have no names.

    Args:
        classifier: images in `[0, 1]` to logits.
        dataset: its `has_labels` stays as it is.
        splits: the splits to label; none if only the classes matter.

    Raises:
        InputError: it answers NaN.
    """
    if dataset.has_labels:
        return dataset
    count = int(classifier(tf.constant(dataset.test.take(slice(0, 1)).as_float())).shape[-1])
    class_names = dataset.class_names or tuple(map(str, range(count)))
    predict = tf.function(lambda images: class_of(classifier(images)), reduce_retracing=True)

    def answered(split):
        batches = evaluation_batches(split, LABELLED_BATCH)
        batches = progress(batches, "Classifier", " batches", -(-len(split) // LABELLED_BATCH))
        answers = np.concatenate([predict(images) for images, _ in batches])
        return dataclasses.replace(split, labels=as_labels(answers, dataset.name))

    if splits:
        say(f"{dataset.name} has no labels: the classifier answers in their place.")
    labelled = {name: answered(getattr(dataset, name)) for name in splits}
    if labelled:
        _report_answers(dataset.name, np.concatenate([split.labels for split in labelled.values()]), class_names)
    return dataclasses.replace(dataset, class_names=class_names, **labelled)


def as_labels(answers: np.ndarray, name: str) -> np.ndarray:
    """Returns the answers to the images of a data set, if all can stand in for labels.

    Raises:
        InputError: some are NaN.
    """
    if lost := np.count_nonzero(answers == NO_CLASS):
        raise InputError(
            f"the classifier answers NaN on {lost} of {len(answers)} images of {name}",
            "an answer that can stand in for a label",
            "remove these images",
        )
    return answers


def _report_answers(name, answers, class_names):
    """Prints what answers stand in for labels, with a warning if nearly all are the same."""
    found = np.bincount(answers, minlength=len(class_names))
    share = found.max() / len(answers)
    say(
        f"The answers stand in for labels, and the classifier's accuracy is not measured. They name "
        f"{np.count_nonzero(found)} of {len(found)} classes, most often {class_names[found.argmax()]} ({share:.0%})."
    )
    if share > ONE_ANSWER:
        say("WARNING: nearly all images get one answer; success rates on them mean little. Check input_range.")


def accuracy(classifier: Callable, images: np.ndarray, labels: np.ndarray, batch_size: int = 500) -> float:
    """Returns the share of images whose predicted class is their label."""
    return float(np.mean(predictions(classifier, images, batch_size) == labels))


def class_of(logits: tf.Tensor) -> tf.Tensor:
    """Returns the class of each row of logits `(batch, num_classes)`, int32 `(batch,)`; `NO_CLASS` if it holds NaN."""
    return tf.where(tf.reduce_any(tf.math.is_nan(logits), axis=-1), NO_CLASS, tf.argmax(logits, -1, tf.int32))


def predictions(classifier: Callable, images: np.ndarray, batch_size: int = 500) -> np.ndarray:
    """Returns the predicted class of each image, int32 `(n,)`; `NO_CLASS` for an answer that is NaN.

    Of large images fewer than `batch_size` at a time.
    """
    batch_size = images_per_call(images.shape[1:], batch_size)

    def predict(batch):
        return class_of(classifier(batch))

    if len(images) > 3 * batch_size:  # fewer are answered before a graph is traced
        predict = tf.function(predict, input_signature=[tf.TensorSpec((None, *images.shape[1:]), tf.float32)])
    starts = progress(range(0, len(images), batch_size), "Classifier", " batches")
    return np.concatenate([predict(images[i : i + batch_size]) for i in starts])
