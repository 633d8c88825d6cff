"""The threat model: what a perturbation may be, how large it is, and its 8-bit image."""

from collections.abc import Callable

import tensorflow as tf


def per_image(epsilon: float | tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    """Returns a budget in a shape that multiplies images: a scalar as it is, `(batch,)` as `(batch, 1, 1, 1)`."""
    epsilon = tf.cast(epsilon, dtype)
    return epsilon[:, tf.newaxis, tf.newaxis, tf.newaxis] if epsilon.shape.rank == 1 else epsilon


def project(values: tf.Tensor, low: float | tf.Tensor, high: float | tf.Tensor, leak: float | tf.Tensor) -> tf.Tensor:
    """Moves values into `[low, high]`, with a gradient for those at the edge and beyond.

    Descent that would push such a value further out gets none of its gradient, as it changes nothing. Descent that draws it
    back from beyond changes nothing either until the value is inside again, so that a clamp has no gradient there and the
    value may be stuck; here a part of it passes. That part has a price: gradients from batch to batch are mostly noise, of
    which only the half that points inwards gets through, and perturbations end up smaller than they should.

    Args:
        values: float, any shape.
        low, high: numbers, or tensors of the same dtype that broadcast to `values`; they get no gradient.
        leak: the part, a float or float scalar: 1 is the gradient of projected descent, 0 that of a clamp.

    Returns:
        The shape of `values`.
    """

    @tf.custom_gradient
    def projected(values):
        def gradient(upstream):
            # Descent goes against the gradient.
            outwards = ((values >= high) & (upstream < 0)) | ((values <= low) & (upstream > 0))
            passed = tf.where((values > high) | (values < low), tf.cast(leak, upstream.dtype) * upstream, upstream)
            return tf.where(outwards, tf.zeros_like(upstream), passed)

        return tf.clip_by_value(values, low, high), gradient

    return projected(values)


def _limited(values, low, high, leak):
    """Moves values into `[low, high]`; without a leak by a clamp alone, for inference.

    A SavedModel would register a gradient function of its own again each time it is loaded.
    """
    return tf.clip_by_value(values, low, high) if leak is None else project(values, low, high, leak)


def bounded(directions: tf.Tensor, epsilon: float | tf.Tensor, leak: float | tf.Tensor | None = None) -> tf.Tensor:
    """Brings a network's output into the budget: `epsilon * clip(directions, -1, 1)`.

    Args:
        directions: float `(batch, height, width, channels)`, any value, in units of the budget.
        epsilon: L-infinity budget as a fraction of the pixel range, a float or float `(batch,)`; `8 / 255` is eight
            grey levels.
        leak: as in `project`, for a network that learns through it; None if none does. The values are the same.

    Returns:
        Perturbations of the same shape and dtype, within `epsilon` everywhere.
    """
    return per_image(epsilon, directions.dtype) * _limited(directions, -1.0, 1.0, leak)


def apply_perturbation(
    images: tf.Tensor,
    perturbations: tf.Tensor,
    epsilon: float | tf.Tensor,
    leak: float | tf.Tensor | None = None,
) -> tf.Tensor:
    """Returns the admissible images closest to `images + perturbations`.

    No pixel moves further than `epsilon` and none leaves `[0, 1]`. Float images are limited here
    alone; 8-bit ones by `quantize`.

    Args:
        images: float32 `(batch, height, width, channels)` in `[0, 1]`.
        perturbations: float32, same shape, in units of the full pixel range.
        epsilon: L-infinity budget in that unit, a float or float `(batch,)`.
        leak: as in `bounded`. With one, a black pixel that the generator darkens, which changes nothing, still learns that
            lighter would be better.

    Returns:
        float32, shape of `images`, in `[0, 1]` and within `epsilon` of `images` up to rounding (1e-7).
    """
    limit = per_image(epsilon, perturbations.dtype)
    return _limited(images + _limited(perturbations, -limit, limit, leak), 0.0, 1.0, leak)


def perturb(
    generator: Callable[..., tf.Tensor],
    images: tf.Tensor,
    targets: tf.Tensor,
    epsilons: tf.Tensor,
    max_epsilon: float,
    leak: float | tf.Tensor | None = None,
) -> tuple[tf.Tensor, tf.Tensor]:
    """G(x, t) and x + G(x, t), within the threat model: the one forward pass of training, validation and serving.

    Args:
        generator: images, targets and budgets (shares of the largest) to directions, in units of the budget.
        images: float32 `(batch, height, width, channels)` in `[0, 1]`.
        targets: int32 `(batch,)`, target classes; of an untargeted attack the labels.
        epsilons: float32 `(batch,)`, the L-infinity budget of each image, a fraction of the pixel range.
        max_epsilon: the largest budget of the generator.
        leak: if the generator learns from this pass, the gradient beyond the bounds (`project`); else None.

    Returns:
        `(perturbations, adversarial_images)`, the shape of `images`: before clipping to `[0, 1]`, and after.
    """
    directions = generator(images, targets, epsilons / max_epsilon, training=leak is not None)
    perturbations = bounded(directions, epsilons, leak)
    return perturbations, apply_perturbation(images, perturbations, epsilons, leak)


def l2_norms(perturbations: tf.Tensor) -> tf.Tensor:
    """Returns the L2 norm of each image's perturbation, float `(batch,)`, with a finite gradient at zero."""
    squares = tf.reduce_sum(tf.square(perturbations), axis=[1, 2, 3])
    return tf.sqrt(squares + 1e-12)


def linf_norms(perturbations: tf.Tensor) -> tf.Tensor:
    """Returns the largest absolute change of each image, float `(batch,)`."""
    return tf.reduce_max(tf.abs(perturbations), axis=[1, 2, 3])


def quantize(images: tf.Tensor, adversarial_images: tf.Tensor, epsilon: float) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns both batches as 8-bit images that still obey the threat model.

    The adversarial image is the 8-bit image nearest to `adversarial_images` among those within
    `epsilon` of the 8-bit clean image, so that rounding never carries a pixel out of the budget.

    Args:
        images: float32 `(batch, height, width, channels)` in `[0, 1]`, the clean images.
        adversarial_images: float32, same shape, in `[0, 1]`.
        epsilon: float, L-infinity budget as a fraction of the pixel range.

    Returns:
        `(clean, adversarial)`, uint8, shape of `images`.
    """
    levels = tf.floor(epsilon * 255.0 + 1e-4)  # 8 / 255 must give 8 however it was rounded
    clean = tf.round(images * 255.0)
    adversarial = tf.clip_by_value(tf.round(adversarial_images * 255.0), clean - levels, clean + levels)
    return tf.cast(clean, tf.uint8), tf.cast(tf.clip_by_value(adversarial, 0.0, 255.0), tf.uint8)
