"""The convolutions of a network, and what they compute."""

import dataclasses
from collections.abc import Callable
from unittest import mock

import keras
import numpy as np

from aigan_tf.method.networks import UpsampledConvolution


@dataclasses.dataclass(frozen=True)
class Convolution:
    """One convolution of a network: the shapes of its input and kernel, and what a step computes of it."""

    inputs: tuple[int, ...]
    kernel: tuple[int, ...]
    strides: int
    padding: str
    first: bool  # its input is the image

    @property
    def outputs(self) -> tuple[int, ...]:
        shape = (int(np.ceil(side / self.strides)) for side in self.inputs[1:3])
        if self.padding == "VALID":
            shape = ((side - k) // self.strides + 1 for side, k in zip(self.inputs[1:3], self.kernel, strict=False))
        return (self.inputs[0], *shape, self.kernel[-1])

    @property
    def flops(self) -> int:
        """Of one pass, forward or towards one of its two inputs; a multiplication and an addition are two."""
        return 2 * int(np.prod(self.outputs)) * int(np.prod(self.kernel[:3]))


def convolutions_of(run: Callable[[], object]) -> list[Convolution]:
    """Returns each convolution of Keras that runs in `run()`, in order; the first is taken for the one of the image.

    An upsampled one is two: that of the skip connection, and the one of stride 2 that is transposed, whose input is the
    large map and which computes as much forward as its transposed.
    """
    found = []
    original, upsampled = keras.layers.Conv2D.call, UpsampledConvolution.call

    def call(layer, inputs):
        found.append(
            Convolution(
                tuple(inputs.shape), tuple(layer.kernel.shape), layer.strides[0], layer.padding.upper(), not found
            )
        )
        return original(layer, inputs)

    def upsampled_call(layer, features, skip):
        filters, (small, kept) = layer.filters, (features.shape[-1], skip.shape[-1])
        large = (*skip.shape[:3], filters)
        found.append(Convolution(large, (4, 4, filters, small), 2, "SAME", False))
        found.append(Convolution(tuple(skip.shape), (3, 3, kept, filters), 1, "SAME", False))
        return upsampled(layer, features, skip)

    with (
        mock.patch.object(keras.layers.Conv2D, "call", call),
        mock.patch.object(UpsampledConvolution, "call", upsampled_call),
    ):
        run()
    return found
