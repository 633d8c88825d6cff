"""Images as other libraries give them: pixels between any two bounds, channels first or last."""

from collections.abc import Callable

import numpy as np


def attack_between(
    generator: Callable, images: np.ndarray, classes: np.ndarray, epsilon: float | None, low: float, high: float
) -> np.ndarray:
    """Returns a generator's adversarial images, float32, in the caller's range and order of axes.

    Args:
        generator: a `TrainedGenerator`.
        images: float in `[low, high]`, `(batch, height, width, channels)`, or `(batch, channels, height, width)` as in PyTorch.
        classes: int `(batch,)`, targets; of an untargeted generator the labels.
        epsilon: L-infinity budget in the unit of the images; None for the generator's largest.
        low, high: black and full intensity.

    Raises:
        InputError: images or classes do not fit the generator.
    """
    shape = generator.image_shape
    channels_first = images.shape[1:] != shape and (*images.shape[2:], *images.shape[1:2]) == shape
    # Rounding may leave [0, 1] by a bit.
    unit = np.clip((np.asarray(images, np.float32) - low) / (high - low), 0.0, 1.0)
    unit = np.moveaxis(unit, 1, -1) if channels_first else unit
    adversarial = generator(unit, classes, None if epsilon is None else epsilon / (high - low))
    adversarial = np.moveaxis(adversarial, -1, 1) if channels_first else adversarial
    return (adversarial * (high - low) + low).astype(np.float32)
