"""Callbacks that detect failed training."""

import math
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from aigan_tf.method.aigan import AIGAN
from aigan_tf.method.threat_model import l2_norms


class QuietFailures(keras.callbacks.Callback):
    """Warns, once each, of ways in which training fails without an error.

    Attacks that succeed no more often than by chance. Perturbations that fade while few attacks succeed: the GAN term and
    the hinge are satisfied by none at all. A discriminator that has collapsed to certainty: the GAN term then only shrinks
    perturbations. A discriminator that is stuck at one answer: the GAN term then has no gradient. A generator that ignores
    its target: it adds the same perturbation for every class.

    Args:
        aigan: the model in training, itself or inside another one.
        images: float32 `(n, height, width, channels)` in `[0, 1]`, on which both networks are checked.
        show: prints a warning.
    """

    COLLAPSED_LOSS = 1e-3  # below this loss every answer of the discriminator is right and nearly certain
    PATIENCE = 200  # steps; at first every generator ignores its target
    SAME_PERTURBATION = 0.02  # smallest distance of perturbations towards two classes, as a share of their length
    CHANCE_LOSS = 2 * math.log(2)  # loss of a discriminator that always answers 0.5
    HOPELESS = 500  # steps after which success beyond chance is due
    BEYOND_CHANCE = 0.3  # enough for any number of classes; of many, twice what chance gives is
    FADED = 0.6  # of the largest mean L2 norm of an epoch
    STUCK_SPREAD = 0.01  # below this spread of logits, this close to the chance loss, the discriminator is stuck

    def __init__(self, aigan: AIGAN, images: np.ndarray, show: Callable[[str], None] = print):
        super().__init__()
        self.aigan = aigan
        self.images = tf.constant(images)
        self.show = show
        self.warned = set()
        self.largest_l2 = 0.0

    def on_epoch_end(self, epoch, logs=None):
        loss = logs["discriminator_loss"]
        learned = self.aigan.steps_done >= self.PATIENCE
        # A loss at chance alone may mean that nobody could tell the generator's images from real ones.
        at_chance = abs(loss - self.CHANCE_LOSS) < self.STUCK_SPREAD
        success, l2 = (logs.get(f"val_{name}") for name in (self.aigan.success_rate.name, "perturbation_l2"))
        if success is not None:  # a classifier that is hardened makes its opponent fail, which is no failure
            self._check_success(epoch, success, l2)
        if learned and at_chance and self.logit_spread() < self.STUCK_SPREAD:
            self._warn(
                f"the discriminator is stuck: after epoch {epoch + 1} it gives every image the same answer. If that lasts, "
                "change discriminator_learning_rate or seed"
            )
        if loss < self.COLLAPSED_LOSS:
            self._warn(
                f"the discriminator has collapsed: its loss is {loss:.1g}, it recognises every adversarial image. If success "
                "stays low, lower discriminator_learning_rate or gan_weight"
            )
        several = self.aigan.targeted and self.aigan.generator.settings["num_classes"] > 1
        if several and learned and self.target_distance() < self.SAME_PERTURBATION:
            self._warn(
                f"the generator ignores its target: after epoch {epoch + 1} its perturbations towards two classes are alike. "
                "If success stays low, lower gan_weight and hinge_weight"
            )

    def _check_success(self, epoch, success, l2):
        if self.aigan.steps_done >= self.HOPELESS and success < min(2 / self.aigan.num_classes, self.BEYOND_CHANCE):
            self._warn(
                f"attacks do not succeed: after epoch {epoch + 1} {success:.1%} do, no more than by chance. Large images need "
                "many steps. If it stays so, raise epsilon, or give target_classes, so that each is trained more"
            )
        self.largest_l2 = max(self.largest_l2, l2)
        if l2 < self.FADED * self.largest_l2 and success < 0.5:
            self._warn(
                f"the perturbation fades: its mean L2 fell from {self.largest_l2:.2f} to {l2:.2f}, while {success:.1%} of the "
                "attacks succeed. Lower gan_weight and hinge_weight"
            )

    def target_distance(self) -> float:
        """Returns the mean L2 distance of the perturbations towards two classes, as a share of their mean L2 norm."""
        epsilons = self.aigan.max_epsilons(self.images)
        first, second = (
            self.aigan.perturb(self.images, tf.fill(epsilons.shape, target), epsilons)[0]
            for target in self.aigan.target_classes[:2]
        )
        length = tf.reduce_mean(l2_norms(first) + l2_norms(second)) / 2
        return float(tf.reduce_mean(l2_norms(first - second)) / tf.maximum(length, 1e-12))

    def logit_spread(self) -> float:
        """Returns the standard deviation of the discriminator's logits on clean and adversarial images."""
        adversarial_images = self.aigan(self.images, tf.fill(len(self.images), self.aigan.target_classes[0]))
        images = tf.concat([self.images, adversarial_images], axis=0)
        return float(tf.math.reduce_std(self.aigan.discriminator(images, training=False)))

    def _warn(self, warning):
        name = warning.split(":")[0]
        if name not in self.warned:
            self.warned.add(name)
            self.show(f"Warning: {warning}.")
