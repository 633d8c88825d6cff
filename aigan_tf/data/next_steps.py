"""Fixes for arrays that do not fit, as Python that can be copied: the last part of an error."""

import numpy as np


def for_range(lowest: float, highest: float) -> str:
    """Returns the step for images whose pixels are not in `[0, 1]`."""
    if lowest >= 0 and highest <= 255:
        return "divide them by 255: images / 255"
    if lowest >= -1 and highest <= 1:
        return "shift them: (images + 1) / 2"
    return "rescale them to [0, 1]" if lowest <= highest else "leave out the images that hold NaN"


def for_shape(shape: tuple[int, ...], wanted: tuple[int, int, int] | None = None) -> str:
    """Returns the step for images of another shape than `(n, height, width, channels)`.

    Args:
        shape: of the images.
        wanted: `(height, width, channels)`, if it is known.
    """
    if len(shape) == 2:
        return "give images[None, ..., None]"
    if len(shape) == 3:
        is_one = shape == wanted or (wanted is None and shape[-1] in (1, 3))
        return "give images[None], a batch of one" if is_one else "give images[..., None]"
    if len(shape) != 4:
        return "reshape them"
    height, width, channels = wanted or (*shape[1:3], 3)
    if shape[1] in (1, 3, 4) and shape[3] not in (1, 3, 4):
        return "move the channels to the end: np.moveaxis(images, 1, -1)"
    if shape[3] != channels and channels == 1:
        return f"make them grey: images[..., :{min(shape[3], 3)}].mean(-1, keepdims=True)"
    if shape[3] == 4:
        return "leave the alpha channel out: images[..., :3]"
    if shape[3] != channels:
        return "repeat the grey channel: np.repeat(images[..., :1], 3, -1)"
    size = (height, width) if wanted else (32, 32)
    return f"resize them: tf.image.resize(images, {size})"


def for_labels(labels: np.ndarray, count: int) -> str:
    """Returns the step for labels that are not whole numbers of shape `(count,)`."""
    if labels.ndim == 2 and len(labels) == count:
        return "give the number of each class: labels.argmax(-1)"
    if labels.dtype.kind in "USO" and labels.ndim:
        return "number them: np.unique(labels, return_inverse=True)[1]"
    if labels.shape == (count,):
        return "convert them: labels.astype(int)"
    return f"give {count} labels, one per image"
