"""Adversarial training of a classifier: the defences under which attacks are measured."""

import functools
from collections.abc import Callable, Sequence

import keras
import tensorflow as tf

from aigan_tf.engine.keras_state import own_keras_state
from aigan_tf.method.aigan import AIGAN
from aigan_tf.method.pgd import pgd_attack
from aigan_tf.method.threat_model import apply_perturbation

PGD_STEPS = 7  # of length epsilon / 4, as Madry et al. train on CIFAR-10


class AdversarialTraining(keras.Model):
    """Trains a classifier on adversarial images, made afresh at every step. Fit it as any Keras model.

    fgsm: one step of epsilon on half of each batch, up the loss of the predicted class, so that the label does not leak
    into the image (Kurakin et al., arXiv 1611.01236).
    ensemble: as fgsm, but each step follows the gradient of the trained classifier or of a static one, drawn at random,
    so that masking its own gradients does not help it (Tramer et al., arXiv 1705.07204).
    pgd: several steps on every image, up the loss of its label (Madry et al., arXiv 1706.06083).

    Args:
        classifier: the Keras model to train, images in `[0, 1]` to logits.
        defense: fgsm, ensemble or pgd.
        epsilon: L-infinity budget of the attacks, a fraction of the pixel range.
        static: for "ensemble", other classifiers, images to logits, in inference mode.
        seed: with the step counter it decides every random choice.
    """

    @own_keras_state()
    def __init__(
        self,
        classifier: keras.Model,
        defense: str,
        epsilon: float,
        static: Sequence[Callable[[tf.Tensor], tf.Tensor]] = (),
        seed: int = 0,
    ):
        super().__init__()
        self.classifier = classifier
        self.defense = defense
        self.epsilon = epsilon
        # A tuple in a partial is not tracked: the static classifiers are not trained.
        self.sources = functools.partial(
            tuple, [functools.partial(classifier, training=False)] + list(static) * (defense == "ensemble")
        )
        self.seed = seed
        self.built = True

    def call(self, images, training=None):
        """Returns the classifier's logits."""
        return self.classifier(images, training=training)

    def train_step(self, data):
        """Updates the classifier on adversarial images."""
        images, labels = data
        seeds = tf.random.split(tf.stack([tf.constant(self.seed, tf.int64), self.optimizer.iterations.value]))
        images = self.attacked(images, labels, seeds)
        with tf.GradientTape() as tape:
            logits = self(images, training=True)
            loss = self.compute_loss(images, labels, logits)
        variables = self.classifier.trainable_variables
        self.optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        for metric in self.metrics:
            metric.update_state(*((loss,) if metric.name == "loss" else (labels, logits)))
        return {metric.name: metric.result() for metric in self.metrics}

    def attacked(self, images: tf.Tensor, labels: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
        """Returns the images to train on.

        Args:
            images: float32 `(batch, height, width, channels)` in `[0, 1]`.
            labels: int32 `(batch,)`.
            seeds: int64 `(2, 2)`, two stateless seeds.

        Returns:
            float32, the shape of `images`, in `[0, 1]` and within epsilon of them.
        """
        if self.defense == "pgd":
            return pgd_attack(
                self.sources()[0], images, labels, epsilon=self.epsilon, step_size=self.epsilon / 4,
                num_steps=PGD_STEPS, targeted=False, seed=seeds[0],
            )  # fmt: skip
        half = tf.shape(images)[0] // 2
        chosen = tf.random.stateless_uniform((), seeds[1], 0, len(self.sources()), tf.int32)

        def from_source(source):
            predicted = tf.argmax(source(images[:half]), -1, tf.int32)
            return pgd_attack(
                source, images[:half], predicted, epsilon=self.epsilon, step_size=self.epsilon, num_steps=1,
                random_start=False, targeted=False,
            )  # fmt: skip

        branches = [functools.partial(from_source, source) for source in self.sources()]
        return tf.concat([tf.switch_case(chosen, branches), images[half:]], axis=0)


class GeneratorTraining(AdversarialTraining):
    """Trains a classifier on a generator's adversarial images, while the generator learns to fool it.

    Each step updates generator and discriminator against the classifier, then the classifier on every image of the
    batch after an attack: the generator's perturbation, one step of epsilon up the loss of the label, and a projection
    back into the budget. Without the gradient step the classifier withstands the generator alone, and PGD succeeds as
    before. An image costs three forward and backward passes of the classifier; PGD with seven steps costs eight.
    (A generator in adversarial training: Lee et al., arXiv 1705.03387. A learned start of a gradient step: Jia et al.,
    arXiv 2110.05007; their generator sees the gradient, this one sees image and class, as AI-GAN's does.)

    Args:
        classifier, seed: as in `AdversarialTraining`.
        aigan: the opponent, compiled, attacking this classifier in inference mode. It is trained in stage 2 alone:
            the PGD attacker of stage 1 would cost the time that the generator saves.
    """

    def __init__(self, classifier: keras.Model, aigan: AIGAN, seed: int = 0):
        super().__init__(classifier, "aigan", aigan.epsilon, seed=seed)
        aigan.stage = 2
        self.opponent = functools.partial(aigan)  # a partial is not tracked: its networks are not the classifier's

    @property
    def aigan(self) -> AIGAN:
        """The opponent."""
        return self.opponent.func

    def train_step(self, data):
        """Updates generator and discriminator, then the classifier."""
        opponent = self.aigan.train_step(data)
        logs = super().train_step(data)
        return logs | {
            "generator_success_rate": opponent[self.aigan.success_rate.name],
            "discriminator_loss": opponent["discriminator_loss"],
        }

    def attacked(self, images: tf.Tensor, labels: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
        """Returns the images to train on: the generator's, after a gradient step. As `AdversarialTraining.attacked`."""
        start = self.opponent(images, self.aigan.choose_targets(labels, seeds[0]))
        moved = pgd_attack(
            self.sources()[0], start, labels, epsilon=self.epsilon, step_size=self.epsilon, num_steps=1,
            random_start=False, targeted=False,
        )  # fmt: skip
        return apply_perturbation(images, moved - images, self.epsilon)

    def reset_metrics(self):
        """Resets the opponent's metrics too: its success rate is shown per epoch."""
        super().reset_metrics()
        self.aigan.reset_metrics()
