"""The attacker A(x, t): projected gradient descent on the classifier, inside the graph."""

from collections.abc import Callable

import tensorflow as tf

from aigan_tf.method.losses import adversarial_loss
from aigan_tf.method.threat_model import apply_perturbation, per_image


def pgd_attack(
    classifier: Callable[[tf.Tensor], tf.Tensor],
    images: tf.Tensor,
    targets: tf.Tensor,
    *,
    epsilon: float | tf.Tensor,
    step_size: float | tf.Tensor,
    num_steps: int,
    random_start: bool = True,
    start: tf.Tensor | None = None,
    targeted: bool = True,
    seed: tf.Tensor | tuple[int, int] = (0, 0),
) -> tf.Tensor:
    """L-infinity PGD (Madry et al., arXiv 1706.06083); FGSM is one step of `epsilon` from the image itself.

    Args:
        classifier: images to logits, in inference mode.
        images: float32 `(batch, height, width, channels)` in `[0, 1]`.
        targets: int32 `(batch,)`, the classes to approach if `targeted`, else the labels to leave.
        epsilon, step_size: L-infinity budget and length of one step, fractions of the pixel range; floats or float32
            `(batch,)`.
        num_steps: number of gradient steps.
        random_start: start from a uniform draw inside the budget instead of the image.
        start: start from these images instead, float32, shape of `images`, within `epsilon` of them.
        targeted: descend the cross-entropy of `targets`, or ascend it.
        seed: two integers that decide the random start.

    Returns:
        float32, shape of `images`, in `[0, 1]` and within `epsilon` of `images`. No gradient flows through it.
    """
    images = tf.convert_to_tensor(images)
    if start is not None:
        start = tf.convert_to_tensor(start)
    elif random_start:
        noise = tf.random.stateless_uniform(tf.shape(images), seed, -1.0, 1.0)
        start = apply_perturbation(images, per_image(epsilon, noise.dtype) * noise, epsilon)
    else:
        start = images
    direction = per_image(step_size, images.dtype) * (-1.0 if targeted else 1.0)

    def step(index, adversarial_images):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(adversarial_images)
            loss = adversarial_loss(classifier(adversarial_images), targets, targeted=True)
        gradients = tape.gradient(loss, adversarial_images)  # its scale does not matter: only the sign is used
        moved = adversarial_images + direction * tf.sign(gradients)
        return index + 1, apply_perturbation(images, moved - images, epsilon)

    _, adversarial_images = tf.while_loop(
        lambda index, _: index < num_steps,
        step,
        (tf.constant(0), start),
        shape_invariants=(tf.TensorShape([]), images.shape),
    )
    return tf.stop_gradient(adversarial_images)
