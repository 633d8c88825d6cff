"""Images and labels of one split: in memory or, where that would take too much of it, in a file mapped into it."""

import dataclasses
import shutil
import tempfile

import numpy as np

from aigan_tf.errors import InputError

IN_MEMORY = 2 * 2**30  # bytes of one split's pixels; what is larger lies in a file, which the system caches as it can
PART = 1000  # images at once where a whole split need not be in memory


def empty_images(count: int, shape: tuple[int, int, int]) -> np.ndarray:
    """Returns uint8 `(count, *shape)` to be filled: in memory, or above `IN_MEMORY` in a temporary file of its own.

    The file has no name and goes with the array; it lies where the environment variable TMPDIR says.

    Raises:
        InputError: there is no room for it.
    """
    size = count * int(np.prod(shape, dtype=object))
    if size <= IN_MEMORY:
        return np.empty((count, *shape), np.uint8)
    folder = tempfile.gettempdir()
    free = shutil.disk_usage(folder).free
    if size > free:
        raise InputError(
            f"the data set's {count} images of {' x '.join(map(str, shape))} need {size / 2**30:.1f} GiB on disk, {folder} has "
            f"{free / 2**30:.1f}; expected room for them: set TMPDIR to a larger folder, or give a smaller --image_size"
        )
    with tempfile.TemporaryFile() as file:  # the mapping holds it open
        return np.memmap(file, np.uint8, "w+", shape=(count, *shape))


@dataclasses.dataclass(frozen=True)
class Split:
    """Images and labels of one split.

    Args:
        images: uint8 `(n, height, width, channels)` in `[0, pixel_max]`, an array or `numpy.memmap`.
        labels: int32 `(n,)`.
        pixel_max: the value that stands for full intensity, 255 for 8-bit images.
        files: str `(n,)`, where in its folder each image lies; None where images are no files.
    """

    images: np.ndarray
    labels: np.ndarray
    pixel_max: int = 255
    files: np.ndarray | None = None

    def __len__(self):
        return len(self.labels)

    @property
    def on_disk(self) -> bool:
        """Whether the images lie in a file."""
        return isinstance(self.images, np.memmap)

    def take(self, indices) -> "Split":
        """Returns the images and labels at `indices` (a slice or an integer array)."""
        labels = self.labels[indices]
        files = None if self.files is None else self.files[indices]
        if isinstance(indices, slice) or not self.on_disk:
            return Split(self.images[indices], labels, self.pixel_max, files)
        images = empty_images(len(labels), self.images.shape[1:])
        for start in range(0, len(labels), PART):
            images[start : start + PART] = self.images[indices[start : start + PART]]
        return Split(images, labels, self.pixel_max, files)

    def channel_statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Returns each channel's mean and standard deviation (never zero) over all pixels scaled to `[0, 1]`."""
        channels = self.images.shape[-1]
        counts = np.zeros((channels, 256), np.int64)
        for start in range(0, len(self), PART):  # as 64-bit numbers a whole split may not fit into memory
            for channel in range(channels):
                counts[channel] += np.bincount(self.images[start : start + PART, ..., channel].ravel(), minlength=256)
        values = np.arange(256) / self.pixel_max
        shares = counts / counts.sum(axis=1, keepdims=True)
        means = shares @ values
        stds = np.sqrt(np.maximum(shares @ values**2 - means**2, 0.0)) + 1e-6
        return tuple(means.tolist()), tuple(stds.tolist())

    def as_float(self) -> np.ndarray:
        """Returns all images as float32 in `[0, 1]`, in memory."""
        return np.asarray(self.images.astype(np.float32) / self.pixel_max)
