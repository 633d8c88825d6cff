"""AdvGAN (Xiao et al., arXiv 1801.02610), the method that AI-GAN is compared with."""

import keras
import tensorflow as tf

from aigan_tf.method.aigan import AIGAN


class AdvGAN(AIGAN):
    """AI-GAN without target input, attacker and stages: one generator for one target class.

    The objective is that of the AdvGAN paper's equations, L_adv + alpha * L_GAN + beta * L_hinge, which is AI-GAN's in
    stage 2; L_adv is the cross-entropy of the target. Differs from the paper, whose experiments use Carlini and Wagner's
    margin for L_adv and least squares for L_GAN: here both methods share everything else, so that the comparison is of
    the methods alone. Train it on images of other classes than the target.

    Args:
        generator: images and one class, 0, to directions: a `Generator` of a single class.
        discriminator, classifier, num_classes, seed: as for `AIGAN`.
        target_class: the class every image is driven to.
    """

    def __init__(
        self,
        generator: keras.Model,
        discriminator: keras.Model,
        classifier,
        num_classes: int,
        target_class: int,
        seed: int = 0,
        **kwargs,
    ):
        super().__init__(generator, discriminator, classifier, num_classes, "targeted", seed, **kwargs)
        self.target_class = target_class
        self.stage = 2

    def compile(self, *arguments, **kwargs):
        """As `AIGAN.compile`, without an attacker."""
        super().compile(
            *arguments,
            attacker=lambda classifier, images, targets, **budget: images,
            target_classes=[self.target_class],
            **kwargs,
        )

    def choose_targets(self, labels: tf.Tensor, seed: tf.Tensor | None = None) -> tf.Tensor:
        """Returns the target class for every image, int32 `(batch,)`."""
        return tf.fill(tf.shape(labels), self.target_class)

    def perturb(self, images, targets, epsilons, training: bool = False) -> tuple[tf.Tensor, tf.Tensor]:
        """G(x) and x + G(x), as in `AIGAN.perturb`; the generator knows one class, 0."""
        return super().perturb(images, tf.zeros_like(targets), epsilons, training)
