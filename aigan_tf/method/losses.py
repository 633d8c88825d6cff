"""The terms of the paper's objective: means over the batch, computed from logits."""

import tensorflow as tf

from aigan_tf.method.threat_model import l2_norms


def adversarial_loss(logits: tf.Tensor, targets: tf.Tensor, targeted: bool) -> tf.Tensor:
    """L_adv (section 3.2): the loss that makes the classifier wrong.

    Targeted: `E l_C(x + G(x, t), t)`, the classifier's own cross-entropy towards the target.
    Untargeted: `E -log(1 - p_y)`, the negative log-probability of any class but the label.

    Args:
        logits: float `(batch, num_classes)`, the classifier's on adversarial images.
        targets: int `(batch,)`, target classes if `targeted`, else true labels.
        targeted: selects the form.

    Returns:
        float scalar, at least 0.
    """
    if targeted:
        return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(targets, logits))
    is_label = tf.one_hot(targets, logits.shape[-1], on_value=True, off_value=False, dtype=tf.bool)
    others = tf.where(is_label, logits.dtype.min, logits)
    return tf.reduce_mean(tf.reduce_logsumexp(logits, axis=-1) - tf.reduce_logsumexp(others, axis=-1))


def gan_loss(fake_logits: tf.Tensor) -> tf.Tensor:
    """The generator's part of L_GAN: `E -log D(x + G(x, t))`.

    Differs from the paper: the non-saturating form, since `E log(1 - D)` has no gradient if the
    discriminator is certain.

    Args:
        fake_logits: float `(batch,)`, the discriminator's on adversarial images.
    """
    return tf.reduce_mean(tf.nn.softplus(-fake_logits))


def discriminator_loss(real_logits: tf.Tensor, fake_logits: tf.Tensor) -> tf.Tensor:
    """The negative of L_GAN (equations for both stages): `-E log D(real) - E log(1 - D(fake))`.

    Args:
        real_logits: float `(batch,)`, on the attacker's images in stage 1 and on clean ones in stage 2.
        fake_logits: float `(batch,)`, on the generator's adversarial images.
    """
    return tf.reduce_mean(tf.nn.softplus(-real_logits)) + tf.reduce_mean(tf.nn.softplus(fake_logits))


def hinge_loss(perturbations: tf.Tensor, threshold: float | tf.Tensor) -> tf.Tensor:
    """L_hinge: `E max(0, ||G(x, t)||_2 - c)`, a penalty on perturbations longer than `c`.

    Args:
        perturbations: float `(batch, height, width, channels)`, G's output before clipping to `[0, 1]`.
        threshold: `c`, an L2 norm of one image's perturbation (not the L-infinity budget); a float or float
            `(batch,)`.
    """
    return tf.reduce_mean(tf.nn.relu(l2_norms(perturbations) - threshold))
