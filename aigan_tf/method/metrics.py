"""Metrics of training and validation: success and size of perturbations."""

import keras
import tensorflow as tf

from aigan_tf.engine.replicas import replica
from aigan_tf.method.threat_model import l2_norms, linf_norms


def successes(logits: tf.Tensor, targets: tf.Tensor, targeted: bool) -> tf.Tensor:
    """Returns which attacks succeed, bool `(batch,)`.

    Args:
        logits: float `(batch, num_classes)` of the adversarial images.
        targets: int `(batch,)`, target classes, or labels if not `targeted`.
        targeted: whether success is to be classified as the target, or as anything but the label.
    """
    hit = tf.equal(tf.argmax(logits, axis=-1, output_type=tf.int32), tf.cast(targets, tf.int32))
    return hit if targeted else tf.logical_not(hit)


class SuccessRate(keras.metrics.Mean):
    """Share of images on which the attack succeeds.

    Args:
        targeted: the attack's goal, see `successes`.
    """

    def __init__(self, targeted: bool):
        super().__init__(name=f"{'' if targeted else 'un'}targeted_success_rate")
        self.targeted = targeted

    def update_state(self, logits, targets, sample_weight=None):
        """Adds a batch.

        Args:
            logits: float `(batch, num_classes)` of the adversarial images.
            targets: int `(batch,)`, target classes, or labels if untargeted.
            sample_weight: bool or float `(batch,)`; zero leaves an image out, such as one that the
                classifier misclassifies without any attack.
        """
        super().update_state(tf.cast(successes(logits, targets, self.targeted), tf.float32), sample_weight)


class PerturbationL2(keras.metrics.Mean):
    """Mean over images of the L2 norm of adversarial minus clean image, pixels in `[0, 1]`."""

    def update_state(self, images, adversarial_images, sample_weight=None):
        """Adds a batch; both float `(batch, height, width, channels)`."""
        super().update_state(l2_norms(adversarial_images - images), sample_weight)


class PerturbationLinf(keras.metrics.Metric):
    """The largest absolute change of any pixel of any image, pixels in `[0, 1]`."""

    def __init__(self, name: str = "perturbation_linf"):
        super().__init__(name=name)
        # All replicas hold the same value, since TensorFlow has no maximum over replicas.
        self.largest = self.add_variable(shape=(), initializer="zeros", aggregation="mean", name="largest")

    def update_state(self, images, adversarial_images, sample_weight=None):
        """Adds a batch; both float `(batch, height, width, channels)`; weights are ignored."""
        norms = linf_norms(adversarial_images - images)
        if replica()[0] > 1:
            norms = tf.distribute.get_replica_context().all_gather(norms, axis=0)
        self.largest.assign(tf.maximum(self.largest, tf.cast(tf.reduce_max(norms), self.largest.dtype)))

    def result(self):
        return tf.convert_to_tensor(self.largest)
