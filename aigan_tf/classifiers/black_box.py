"""The black-box case: a surrogate model, trained on the classifier's answers, is attacked in its place.

Dynamic distillation as in the AdvGAN paper (Xiao et al., arXiv 1801.02610, section 4.2): the surrogate first learns the
answers on clean images, then, alternating with the generator, those on the generator's images too.
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
from aigan_tf.engine.memory import images_per_call
from aigan_tf.engine.saved_model import first_line
from aigan_tf.errors import InputError, say
from aigan_tf.files import atomic_file
from aigan_tf.method.aigan import AIGAN
from aigan_tf.terminal import progress
from aigan_tf.workdir import Workdir


class BlackBox:
    """A black-box classifier: probabilities only, queries counted.

    Args:
        classifier: images in `[0, 1]` to logits, in inference mode.
    """

    def __init__(self, classifier: Callable[[tf.Tensor], tf.Tensor]):
        self._answer = tf.function(lambda images: tf.nn.softmax(classifier(images)), reduce_retracing=True)
        self.queries = keras.Variable(0, dtype="int64", trainable=False, name="queries")

    def __call__(self, images: np.ndarray | tf.Tensor, batch_size: int = 500) -> np.ndarray:
        """Queries the classifier once per image.

        Args:
            images: float32 `(n, height, width, channels)` in `[0, 1]`.
            batch_size: images per call of the classifier, fewer if they are large.

        Returns:
            Probabilities float32 `(n, num_classes)`, without a gradient.

        Raises:
            InputError: it answers NaN.
        """
        self.queries.assign(int(self.queries) + len(images))
        batch_size = images_per_call(images.shape[1:], batch_size)
        starts = range(0, len(images), batch_size)
        answers = np.concatenate([self._answer(images[start : start + batch_size]).numpy() for start in starts])
        if lost := np.count_nonzero(np.isnan(answers).any(axis=-1)):
            raise InputError(
                f"the classifier answers NaN to {lost} of {len(images)} images",
                "probabilities, which a surrogate can learn",
                "repair it, or remove these images",
            )
        return answers

    def answers_on(self, split: Split) -> np.ndarray:
        """Queries the classifier once per image of a split, which need not fit into memory; returns as `__call__`."""
        size = images_per_call(split.images.shape[1:])
        batches = progress(evaluation_batches(split, size), "Classifier", " batches", -(-len(split) // size))
        return np.concatenate([self(images) for images, _ in batches])


class DynamicDistillation(keras.callbacks.Callback):
    """After each epoch, queries the black box on some of the generator's images and trains the surrogate on the answers.

    The surrogate also sees as many clean images, whose answers are known, so that it does not forget them.

    Args:
        surrogate: Keras model, images to logits, attacked in place of the black box: the classifier of the AIGAN.
        optimizer: trains the surrogate.
        black_box: the classifier that is queried.
        split: training images; their labels are the black box's answers on them, float32 `(n, num_classes)`.
        labels: int32 `(n,)`, the true labels.
        images_per_epoch: queries after each epoch.
        batch_size: images per training step of the surrogate.
        seed: with the epoch it decides which images are attacked.
    """

    def __init__(
        self,
        surrogate: keras.Model,
        optimizer: keras.optimizers.Optimizer,
        black_box: BlackBox,
        split: Split,
        labels: np.ndarray,
        images_per_epoch: int,
        batch_size: int = 128,
        seed: int = 0,
    ):
        super().__init__()
        self.surrogate = surrogate
        self.optimizer = optimizer
        self.black_box = black_box
        self.split = split
        self.labels = labels
        self.images_per_epoch = min(images_per_epoch, len(split))
        self.batch_size = batch_size
        self.seed = seed
        optimizer.build(surrogate.trainable_variables)
        self._train_step = tf.function(self._train_on, reduce_retracing=True)

    def on_epoch_end(self, epoch, logs=None):
        rng = np.random.default_rng([self.seed, epoch])
        chosen = rng.choice(len(self.split), self.images_per_epoch, replace=False)
        clean, labels = self.split.take(chosen), self.labels[chosen]
        attacked = attacked_images(self.model, clean.as_float(), labels, seed=(self.seed, epoch))
        answers = self.black_box(attacked)
        images = np.concatenate([clean.as_float(), attacked])
        answers = np.concatenate([clean.labels, answers]).astype(np.float32)
        order = rng.permutation(len(images))
        batches = [order[start : start + self.batch_size] for start in range(0, len(order), self.batch_size)]
        losses = [float(self._train_step(images[batch], answers[batch])) for batch in batches]
        if logs is not None:
            logs["queries"] = int(self.black_box.queries)
            logs["surrogate_loss"] = float(np.mean(losses))

    def _train_on(self, images, answers):
        """Trains the surrogate on a batch, with fixed batch statistics: half of the images are adversarial."""
        with tf.GradientTape() as tape:
            logits = self.surrogate(images, training=False)
            loss = tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(answers, logits))
        variables = self.surrogate.trainable_variables
        self.optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        return loss


def attacked_images(aigan: AIGAN, images: np.ndarray, labels: np.ndarray, seed, batch_size: int = 500) -> np.ndarray:
    """Returns the generator's adversarial images, towards targets drawn as in training.

    Args:
        aigan: the model in training.
        images: float32 `(n, height, width, channels)` in `[0, 1]`.
        labels: int32 `(n,)`.
        seed: two integers.
        batch_size: images per call of the generator, fewer if they are large.

    Returns:
        float32, the shape of `images`, in `[0, 1]`.
    """
    targets = aigan.choose_targets(tf.constant(labels), tf.constant(seed, tf.int64))
    attack = tf.function(aigan.call, reduce_retracing=True)
    batch_size = images_per_call(images.shape[1:], batch_size)
    starts = range(0, len(images), batch_size)
    return np.concatenate([attack(images[s : s + batch_size], targets[s : s + batch_size]).numpy() for s in starts])


def train_surrogate(
    config: Config, dataset: ImageDataset, folder: Workdir, black_box: BlackBox
) -> tuple[keras.Model, ImageDataset]:
    """Trains a surrogate of the classifier on its answers on clean images, in surrogate/ of the run's folder.

    Every training and validation image is queried once, even if training was interrupted.

    Returns:
        The surrogate, and the data set with the answers, float32 `(n, num_classes)`, as labels.

    Raises:
        InputError: the saved answers cannot be used.
    """
    own = Workdir(folder.surrogate)
    path = own.path / "answers.npz"
    splits = {"train": dataset.train, "validation": dataset.validation}
    if not path.exists():
        say(f"Asking the classifier about {sum(map(len, splits.values())):,} images.")
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
            _check_answers(split, dataset.num_classes)
    except Exception as error:  # for a damaged file NumPy raises half a dozen kinds
        raise InputError(
            f"{path} cannot be used ({first_line(error)})",
            "the answers on this data set's images, as train.py wrote them",
            f"restore it, or delete {own.path} to query the classifier again",
        ) from error
    answered = dataclasses.replace(dataset, **soft)
    # Another seed: with the run's own, the surrogate would start from the black box's first weights.
    surrogate_config = dataclasses.replace(
        config, classifier=config.black_box, classifier_epochs=None, defense=None, seed=config.seed + 2
    )
    return trained_classifier(surrogate_config, answered, own).func, answered


def _check_answers(split, num_classes):
    answers, expected = split.labels, (len(split.images), num_classes)
    if answers.shape != expected or answers.dtype != np.float32:
        raise ValueError(f"{answers.dtype} of {answers.shape} instead of float32 of {expected}")
    if not (answers.min() >= 0 and np.allclose(answers.sum(axis=1), 1, atol=1e-3)):
        raise ValueError("answers that are not probabilities")
