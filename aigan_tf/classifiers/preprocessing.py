"""From images in `[0, 1]` to the pixels that a classifier was trained on."""

import dataclasses

import numpy as np
import tensorflow as tf

from aigan_tf.config import Config
from aigan_tf.errors import InputError


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """The arithmetic between an image and a classifier: `(pixels - mean) / std`. Fields as in `Config`.

    Args:
        input_range: `(low, high)`, the pixel values of black and of full intensity.
        input_mean, input_std: one number per channel in the classifier's order, or one for all; None for 0 and 1.
        input_channels: rgb, or bgr for the reverse order.
    """

    input_range: tuple[float, float] = (0.0, 1.0)
    input_mean: tuple[float, ...] | None = None
    input_std: tuple[float, ...] | None = None
    input_channels: str = "rgb"

    @classmethod
    def of(cls, config: Config) -> "Preprocessing":
        """Returns that of a run's own classifier."""
        return cls(**{field.name: getattr(config, field.name) for field in dataclasses.fields(cls)})

    def check(self, channels: int) -> None:
        """Checks it against images with so many channels.

        Raises:
            InputError: a mean or a standard deviation has another number of values.
        """
        for name in ("input_mean", "input_std"):
            values = getattr(self, name)
            if values is not None and len(values) not in (1, channels):
                raise InputError(
                    values,
                    f"one number, or one for each of {channels} channels",
                    f"give e.g. {','.join(channels * ['0.5'])}",
                    setting=name,
                )

    def __call__(self, images: tf.Tensor) -> tf.Tensor:
        """Returns what the classifier takes, of the shape of `images`, float32 `(batch, height, width, channels)`."""
        low, high = self.input_range
        pixels = images * (high - low) + low
        if self.input_channels == "bgr":
            pixels = pixels[..., ::-1]
        if self.input_mean is not None:
            pixels -= np.array(self.input_mean, np.float32)
        if self.input_std is not None:
            pixels /= np.array(self.input_std, np.float32)
        return pixels


UNCHANGED = Preprocessing()
