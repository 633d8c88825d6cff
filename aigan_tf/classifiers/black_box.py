"""The black-box case: a local copy learned from the classifier's answers is attacked in its place.

Dynamic distillation as in the AdvGAN paper (Xiao et al., arXiv 1801.02610, section 4.2): the copy learns
the answers on clean images first, then, in turn with the generator, those on the generator's own images too.
"""

import dataclasses
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from aigan_tf.classifiers.training import trained_classifier
from aigan_tf.config import Config
from aigan_tf.data.batches import evaluation_batches
from aigan_tf.data.datasets import ImageDataset
from aigan_tf.data.splits import Split
from aigan_tf.engine.saved_model import first_line
from aigan_tf.errors import InputError
from aigan_tf.files import atomic_file
from aigan_tf.method.aigan import AIGAN
from aigan_tf.workdir import Workdir


class BlackBox:
    """A classifier of which only its answers are used, and every one is counted.

    Args:
        classifier: images in `[0, 1]` to logits, in inference mode.
    """

    def __init__(self, classifier: Callable[[tf.Tensor], tf.Tensor]):
        self._answer = tf.function(lambda images: tf.nn.softmax(classifier(images)), reduce_retracing=True)
        self.queries = keras.Variable(0, dtype="int64", trainable=False, name="queries")

    def __call__(self, images: np.ndarray | tf.Tensor, batch_size: int = 500) -> np.ndarray:
        """Asks for each image once.

        Args:
            images: float32 `(n, height, width, channels)` in `[0, 1]`.
            batch_size: images at once.

        Returns:
            Probabilities float32 `(n, num_classes)`; no gradient leads back.
        """
        self.queries.assign(int(self.queries) + len(images))
        starts = range(0, len(images), batch_size)
        return np.concatenate([self._answer(images[start : start + batch_size]).numpy() for start in starts])

    def answers_on(self, split: Split) -> np.ndarray:
        """Asks for each image of a split, which need not fit into memory; as `__call__`."""
        return np.concatenate([self(images) for images, _ in evaluation_batches(split, 500)])


class DynamicDistillation(keras.callbacks.Callback):
    """After each epoch, asks the black box about some of the generator's images and trains the copy on them.

    The copy also sees as many clean images, whose answers are known, so that it does not forget them.

    Args:
        copy: the Keras model that stands for the black box, images to logits; AIGAN's classifier.
        optimizer: the copy's.
        black_box: what it is a copy of.
        split: training images; their labels are the black box's answers on them, float32 `(n, num_classes)`.
        labels: int32 `(n,)`, the true labels.
        images_per_epoch: how many of the generator's images are asked about after each epoch.
        batch_size: of the copy's training.
        seed: with the epoch it decides which images are asked about.
    """

    def __init__(
        self,
        copy: keras.Model,
        optimizer: keras.optimizers.Optimizer,
        black_box: BlackBox,
        split: Split,
        labels: np.ndarray,
        images_per_epoch: int,
        batch_size: int = 128,
        seed: int = 0,
    ):
        super().__init__()
        self.copy = copy
        self.optimizer = optimizer
        self.black_box = black_box
        self.split = split
        self.labels = labels
        self.images_per_epoch = min(images_per_epoch, len(split))
        self.batch_size = batch_size
        self.seed = seed
        optimizer.build(copy.trainable_variables)
        self._step = tf.function(self._learn, reduce_retracing=True)

    def on_epoch_end(self, epoch, logs=None):
        rng = np.random.default_rng([self.seed, epoch])
        chosen = rng.choice(len(self.split), self.images_per_epoch, replace=False)
        clean, labels = self.split.take(chosen), self.labels[chosen]
        attacked = attacked_images(self.model, clean.as_float(), labels, seed=(self.seed, epoch))
        answers = self.black_box(attacked)
        images = np.concatenate([clean.as_float(), attacked])
        answers = np.concatenate([clean.labels, answers]).astype(np.float32)
        order = rng.permutation(len(images))
        losses = [
            float(
                self._step(
                    images[order[start : start + self.batch_size]], answers[order[start : start + self.batch_size]]
                )
            )
            for start in range(0, len(order), self.batch_size)
        ]
        if logs is not None:
            logs["queries"] = int(self.black_box.queries)
            logs["copy_loss"] = float(np.mean(losses))

    def _learn(self, images, answers):
        """One step of the copy towards the answers, its batch statistics fixed: half of the images are unusual."""
        with tf.GradientTape() as tape:
            logits = self.copy(images, training=False)
            loss = tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(answers, logits))
        variables = self.copy.trainable_variables
        self.optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        return loss


def attacked_images(aigan: AIGAN, images: np.ndarray, labels: np.ndarray, seed, batch_size: int = 500) -> np.ndarray:
    """Returns the generator's image of each image, towards a target drawn as in training.

    Args:
        aigan: the model in training.
        images: float32 `(n, height, width, channels)` in `[0, 1]`.
        labels: int32 `(n,)`.
        seed: two integers.
        batch_size: images at once.
    """
    classes = aigan.choose_targets(tf.constant(labels), tf.constant(seed, tf.int64))
    attack = tf.function(aigan.call, reduce_retracing=True)
    starts = range(0, len(images), batch_size)
    return np.concatenate([attack(images[s : s + batch_size], classes[s : s + batch_size]).numpy() for s in starts])


def train_surrogate(
    config: Config, dataset: ImageDataset, folder: Workdir, black_box: BlackBox
) -> tuple[keras.Model, ImageDataset]:
    """Returns a copy of the classifier that learned its answers on clean images, in surrogate/ of the work folder.

    Every training and validation image is asked about once, also where training was interrupted.

    Returns:
        The copy, and the data set with the answers, float32 `(n, num_classes)`, for labels.
    """
    own = Workdir(folder.path / "surrogate")
    path = own.path / "answers.npz"
    splits = {"train": dataset.train, "validation": dataset.validation}
    if not path.exists():
        answers = {name: black_box.answers_on(split) for name, split in splits.items()}
        with atomic_file(path) as temporary:
            np.savez(temporary, **answers)
            own.seal(path, temporary)
    else:
        black_box.queries.assign(sum(len(split) for split in splits.values()))
    own.verify(path)
    try:
        with np.load(path) as answers:
            soft = {name: dataclasses.replace(split, labels=answers[name]) for name, split in splits.items()}
        for split in soft.values():
            _refuse_other_answers(split, dataset.num_classes)
    except Exception as error:  # of a damaged file NumPy raises half a dozen kinds
        raise InputError(
            f"{path} cannot be used ({first_line(error)}); expected the answers on this data set's images, as train.py wrote them: "
            f"restore it, or delete {own.path} to ask anew"
        ) from error
    answered = dataclasses.replace(dataset, **soft)
    # Another seed: the black box's own would give the copy its first weights.
    copy_config = dataclasses.replace(
        config, classifier=config.black_box, classifier_epochs=None, defense=None, seed=config.seed + 2
    )
    return trained_classifier(copy_config, answered, own).func, answered


def _refuse_other_answers(split, num_classes):
    answers, expected = split.labels, (len(split.images), num_classes)
    if answers.shape != expected or answers.dtype != np.float32:
        raise ValueError(f"{answers.dtype} of {answers.shape} instead of float32 of {expected}")
    if not (answers.min() >= 0 and np.allclose(answers.sum(axis=1), 1, atol=1e-3)):
        raise ValueError("answers that are no probabilities")
