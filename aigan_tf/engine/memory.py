"""How many images one call of a network takes."""

import math
from collections.abc import Sequence

MAX_PIXELS = 500 * 64 * 64 * 3  # values of the images of a call; a network's maps take 20 to 100 times as many


def images_per_call(image_shape: Sequence[int], at_most: int = 500) -> int:
    """Returns how many images to measure at once: `at_most`, or fewer if they are large, so that memory stays bounded.

    Args:
        image_shape: `(height, width, channels)`. Images of up to 64 x 64 x 3 are not fewer than 500.
        at_most: the number for small images.
    """
    return max(min(at_most, MAX_PIXELS // math.prod(image_shape)), 1)
