"""Adversarial training of a classifier: the defences that attacks are measured under."""

import functools
from collections.abc import Callable, Sequence

import keras
import tensorflow as tf

from aigan_tf.method.aigan import AIGAN
from aigan_tf.method.pgd import pgd_attack
from aigan_tf.method.threat_model import apply_perturbation

PGD_STEPS = 7  # of epsilon / 4, as Madry et al. train on CIFAR-10


class AdversarialTraining(keras.Model):
    """Trains a classifier on images that are attacked afresh at every step. Fit it as any Keras model.

    fgsm: half of each batch is moved by one step of epsilon up the loss of the classifier's own answer, so that the
    label does not leak into the image (Kurakin et al., arXiv 1611.01236).
    ensemble: as fgsm, but each step follows one of several classifiers, the trained one or one of the
    static ones, so that hiding its own gradients does not help it (Tramer et al., arXiv 1705.07204).
    pgd: every image is moved by several steps up the loss of its label (Madry et al., arXiv 1706.06083).

    Args:
        classifier: the Keras model that is trained, images in `[0, 1]` to logits.
        defense: one of the three.
        epsilon: L-infinity budget of the attacks, a fraction of the pixel range.
        static: other classifiers, images to logits, in inference mode; for "ensemble".
        seed: with the step counter it decides every random choice.
    """

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
        """Images to the classifier's logits."""
        return self.classifier(images, training=training)

    def train_step(self, data):
        """One update on attacked images."""
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
            seeds: int64 `(2, 2)`.

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
            answers = tf.argmax(source(images[:half]), -1, tf.int32)
            return pgd_attack(
                source, images[:half], answers, epsilon=self.epsilon, step_size=self.epsilon, num_steps=1,
                random_start=False, targeted=False,
            )  # fmt: skip

        branches = [functools.partial(from_source, source) for source in self.sources()]
        return tf.concat([tf.switch_case(chosen, branches), images[half:]], axis=0)


class GeneratorTraining(AdversarialTraining):
    """Trains a classifier on what a generator makes of its images, while the generator learns to fool it.

    Each step first updates generator and discriminator against the classifier as it is, then the classifier on every
    image of the batch, attacked: the generator's perturbation, and from there one step of epsilon up the loss of the
    label, back into the budget. Without that step a classifier learns to withstand the generator alone, and PGD finds
    it as weak as before. An image costs three passes of the classifier and back where PGD with seven steps costs
    eight. (A generator in adversarial training: Lee et al., arXiv 1705.03387. A learned start of a gradient step: Jia
    et al., arXiv 2110.05007; their generator sees the gradient, this one sees image and class, as AI-GAN's does.)

    Args:
        classifier, seed: as in `AdversarialTraining`.
        aigan: the opponent, compiled, attacking this classifier in inference mode. It is trained from stage 2: the
            PGD attacker of stage 1, which would cost what is to be saved, takes no part.
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
        """One update of the generator and its discriminator, then one of the classifier."""
        opponent = self.aigan.train_step(data)
        logs = super().train_step(data)
        return logs | {
            "generator_success_rate": opponent[self.aigan.success_rate.name],
            "discriminator_loss": opponent["discriminator_loss"],
        }

    def attacked(self, images: tf.Tensor, labels: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
        """Returns the images to train on, each attacked by the generator and a step; as `AdversarialTraining.attacked`."""
        start = self.opponent(images, self.aigan.choose_targets(labels, seeds[0]))
        moved = pgd_attack(
            self.sources()[0], start, labels, epsilon=self.epsilon, step_size=self.epsilon, num_steps=1,
            random_start=False, targeted=False,
        )  # fmt: skip
        return apply_perturbation(images, moved - images, self.epsilon)

    def reset_metrics(self):
        """Also of the opponent, whose success is shown by epoch."""
        super().reset_metrics()
        self.aigan.reset_metrics()
