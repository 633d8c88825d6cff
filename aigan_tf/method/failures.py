"""Whether training is worth going on with."""

import math

import keras
import numpy as np
import tensorflow as tf

from aigan_tf.method.aigan import AIGAN
from aigan_tf.method.threat_model import l2_norms


class QuietFailures(keras.callbacks.Callback):
    """Warns, once of each, of three ways in which a GAN fails without an error.

    A discriminator that has collapsed to a sure answer: the GAN term then only pushes perturbations to nothing. One that is
    stuck at one answer: the GAN term then has no gradient. A generator that ignores its target: the same perturbation whatever
    class it is given.

    Args:
        aigan: the model that learns, as a callback's or inside another's.
        images: float32 `(n, height, width, channels)` in `[0, 1]`, on which both networks are watched.
    """

    SURE = 1e-3  # of a discriminator whose loss is below it, every answer is right and nearly certain
    PATIENCE = 200  # steps; at first every generator ignores its target
    ALIKE = 0.02  # perturbations towards two classes that differ by less than this share of their length are the same
    CHANCE = 2 * math.log(2)  # the loss of a discriminator that always answers "as likely as not"
    ONE_ANSWER = 0.01  # logits that spread by less, and a loss that is as near to chance, are no judgement

    def __init__(self, aigan: AIGAN, images: np.ndarray):
        super().__init__()
        self.aigan = aigan
        self.images = tf.constant(images)
        self.warned = set()

    def on_epoch_end(self, epoch, logs=None):
        loss = logs["discriminator_loss"]
        learned = self.aigan.steps_done >= self.PATIENCE
        # A loss at chance alone may be a generator whose images nobody could tell from real ones.
        if learned and abs(loss - self.CHANCE) < self.ONE_ANSWER and self.spread() < self.ONE_ANSWER:
            self._warn(
                f"the discriminator is stuck: after epoch {epoch + 1} it answers the same whatever image it is shown. Should that "
                "last, change --discriminator_learning_rate or --seed"
            )
        if loss < self.SURE:
            self._warn(
                f"the discriminator has collapsed: its loss is {loss:.1g}, it tells every adversarial image from a real one. "
                "Should success stay low, lower --discriminator_learning_rate or --gan_weight"
            )
        several = self.aigan.targeted and self.aigan.generator.settings["num_classes"] > 1
        if several and learned and self.difference() < self.ALIKE:
            self._warn(
                f"the generator ignores its target: after epoch {epoch + 1} its perturbations towards two classes are alike. "
                "Should success stay low, lower --gan_weight and --hinge_weight"
            )

    def difference(self) -> float:
        """Mean L2 distance of the perturbations towards two classes, as a share of their mean L2 norm."""
        budgets = self.aigan.max_epsilons(self.images)
        first, second = (
            self.aigan.perturb(self.images, tf.fill(budgets.shape, target), budgets)[0] for target in (0, 1)
        )
        length = tf.reduce_mean(l2_norms(first) + l2_norms(second)) / 2
        return float(tf.reduce_mean(l2_norms(first - second)) / tf.maximum(length, 1e-12))

    def spread(self) -> float:
        """Standard deviation of the discriminator's logits, of clean and of adversarial images together."""
        adversarial_images = self.aigan(self.images, tf.zeros(len(self.images), tf.int32))
        images = tf.concat([self.images, adversarial_images], axis=0)
        return float(tf.math.reduce_std(self.aigan.discriminator(images, training=False)))

    def _warn(self, warning):
        name = warning.split(":")[0]
        if name not in self.warned:
            self.warned.add(name)
            print(f"Warning: {warning}.", flush=True)
