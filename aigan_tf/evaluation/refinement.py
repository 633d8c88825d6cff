"""Refines a generator's images: PGD from where it left them, only if they fail."""

from collections.abc import Callable

import tensorflow as tf

from aigan_tf.method.pgd import pgd_attack
from aigan_tf.method.threat_model import quantize


class RefinedGenerator:
    """A generator, and PGD steps of epsilon / 4 from its images that fail.

    An image fails if the classifier's answer to its 8-bit form does, which is what the evaluation counts.

    Args:
        generator: images and targets (labels if untargeted) to adversarial images within `epsilon`.
        classifier: images in `[0, 1]` to logits, with a gradient.
        image_shape: `(height, width, channels)`.
        num_steps: number of gradient steps.
        epsilon: L-infinity budget as a fraction of the pixel range.
        targeted: whether to reach the targets, or to leave the labels.
    """

    def __init__(
        self,
        generator: Callable,
        classifier: Callable,
        image_shape: tuple[int, int, int],
        num_steps: int,
        epsilon: float,
        targeted: bool,
    ):
        self.generator = generator
        self.classifier = classifier
        self.num_steps = num_steps
        self.epsilon = epsilon
        self.targeted = targeted
        # One graph for batches of any size and all budgets.
        images, targets = tf.TensorSpec((None, *image_shape)), tf.TensorSpec((None,), tf.int32)
        specs = [images, targets, images, tf.TensorSpec(())]
        self._refine = tf.function(self._refined, input_signature=specs)

    def __call__(self, images: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
        """Returns adversarial images, float32, shape of `images`, within `epsilon` of them."""
        return self._refine(images, targets, self.generator(images, targets), tf.constant(self.epsilon))

    def within(self, epsilon: float) -> Callable:
        """Returns the attack at a smaller budget; the generator must have `within` too."""
        generator = self.generator.within(epsilon)
        return lambda images, targets: self._refine(images, targets, generator(images, targets), tf.constant(epsilon))

    def _refined(self, images, targets, start, epsilon):
        _, pictures = quantize(images, start, epsilon)
        answers = tf.argmax(self.classifier(tf.cast(pictures, tf.float32) / 255.0), -1, targets.dtype)
        failed = tf.where(tf.equal(answers, targets) != self.targeted)

        def improved():
            some_images, some_targets, some_start = (tf.gather_nd(each, failed) for each in (images, targets, start))
            found = pgd_attack(
                self.classifier, some_images, some_targets, epsilon=epsilon, step_size=epsilon / 4,
                num_steps=self.num_steps, start=some_start, targeted=self.targeted,
            )  # fmt: skip
            return tf.tensor_scatter_nd_update(start, failed, found)

        return tf.cond(tf.size(failed) > 0, improved, lambda: start)
