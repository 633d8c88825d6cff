"""Images and labels of one split: in memory, or in a memory-mapped file if they are too large for it."""

import dataclasses
import math
import os
import shutil
import tempfile

import numpy as np

from aigan_tf.errors import InputError

MAX_IN_MEMORY = (
    2 * 2**30
)  # bytes of one split's pixels; a larger split lies in a file, which the system caches as it can
MAX_PART = 2**26  # bytes of pixels that are processed at once
VALIDATION_FRACTION = 0.1
TEST_FRACTION = 0.2  # of the images, if a data set has no test split
MAX_VALIDATION = 2000  # enough for +-1 point at 95 % success; the rest is better spent on training


def images_at_once(shape: tuple[int, int, int]) -> int:
    """Returns how many images of `(height, width, channels)` to process at once: 1,000, or fewer if they exceed `MAX_PART`."""
    return max(min(1000, MAX_PART // math.prod(shape)), 1)


def empty_images(count: int, shape: tuple[int, int, int]) -> np.ndarray:
    """Returns uint8 `(count, *shape)` to be filled: in memory, or in a temporary file above `MAX_IN_MEMORY`.

    The file has no name and disappears with the process; the environment variable TMPDIR names its folder.

    Raises:
        InputError: there is not enough room on the disk.
    """
    size = count * math.prod(shape)
    if size <= MAX_IN_MEMORY:
        return np.empty((count, *shape), np.uint8)
    folder = tempfile.gettempdir()
    try:
        if size > shutil.disk_usage(folder).free:  # for systems that cannot reserve space
            raise OSError
        with tempfile.TemporaryFile() as file:  # the mapping holds it open
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)  # a full disk would kill the process as it writes
            return np.memmap(file, np.uint8, "w+", shape=(count, *shape))
    except OSError as error:
        raise InputError(
            f"{count} images of {' x '.join(map(str, shape))} need {size / 2**30:.1f} GiB, more than is free in {folder}",
            "room for them",
            "set TMPDIR to a folder on a larger disk, or give a smaller `image_size`",
        ) from error


class MappedImages:
    """Rows of a memory-mapped file of images, in any order; NumPy reads them when it makes an array of them.

    Args:
        pixels: uint8 `(n, height, width, channels)`.
        rows: int `(m,)`, indices into `pixels`.
    """

    def __init__(self, pixels: np.memmap, rows: np.ndarray):
        self.pixels = pixels
        self.rows = rows

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.rows), *self.pixels.shape[1:])

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, indices) -> "MappedImages":
        return MappedImages(self.pixels, self.rows[indices])

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        return self.pixels[self.rows].astype(dtype or np.uint8, copy=False)


@dataclasses.dataclass(frozen=True)
class Split:
    """Images and labels of one split.

    Args:
        images: uint8 `(n, height, width, channels)` in `[0, pixel_max]`; a memory-mapped array becomes `MappedImages`.
        labels: int32 `(n,)`.
        pixel_max: the value of full intensity, 255 for 8-bit images.
        files: str `(n,)`, the path of each image in its folder; None if images are not files.
    """

    images: np.ndarray | MappedImages
    labels: np.ndarray
    pixel_max: int = 255
    files: np.ndarray | None = None

    def __post_init__(self):
        if isinstance(self.images, np.memmap):
            object.__setattr__(self, "images", MappedImages(self.images, np.arange(len(self.images))))

    def __len__(self):
        return len(self.labels)

    @property
    def on_disk(self) -> bool:
        """Whether the images lie in a file."""
        return isinstance(self.images, MappedImages)

    def take(self, indices) -> "Split":
        """Returns the images and labels at `indices` (a slice or an integer array)."""
        files = None if self.files is None else self.files[indices]
        return Split(self.images[indices], self.labels[indices], self.pixel_max, files)

    def channel_statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Returns the mean and the standard deviation (never zero) of each channel, pixels in `[0, 1]`."""
        channels = self.images.shape[-1]
        counts = np.zeros((channels, 256), np.int64)
        step = images_at_once(self.images.shape[1:])
        for start in range(0, len(self), step):  # a whole split may not fit into memory as 64-bit numbers
            part = np.asarray(self.images[start : start + step])
            for channel in range(channels):
                counts[channel] += np.bincount(part[..., channel].ravel(), minlength=256)
        values = np.arange(256) / self.pixel_max
        shares = counts / counts.sum(axis=1, keepdims=True)
        means = shares @ values
        stds = np.sqrt(np.maximum(shares @ values**2 - means**2, 0.0)) + 1e-6
        return tuple(means.tolist()), tuple(stds.tolist())

    def as_float(self) -> np.ndarray:
        """Returns all images as float32 in `[0, 1]`, in memory."""
        return np.asarray(self.images).astype(np.float32) / self.pixel_max


def hold_out(
    split: Split, fraction: float = VALIDATION_FRACTION, max_count: int = MAX_VALIDATION
) -> tuple[Split, Split]:
    """Returns a split without a share of its images, and that share: the same images for every seed, at least one."""
    order = np.random.default_rng(0).permutation(len(split))
    count = max(min(int(len(split) * fraction), max_count), 1)
    return split.take(np.sort(order[count:])), split.take(np.sort(order[:count]))


def hold_out_test(split: Split) -> tuple[Split, Split]:
    """Returns the training and the test split of a data set that has only one, as `hold_out`."""
    return hold_out(split, TEST_FRACTION, len(split))


def resize(images, image_size: tuple[int, int] | None):
    """Returns uint8 `(..., height, width, channels)` resized with antialiasing; unchanged if `image_size` is None."""
    if image_size is None:
        return images
    import tensorflow as tf  # here: data sets are looked up before TensorFlow is there

    resized = tf.image.resize(images, image_size, method="bilinear", antialias=True)
    return tf.cast(tf.clip_by_value(tf.round(resized), 0, 255), tf.uint8)
