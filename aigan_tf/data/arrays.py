"""Checks of images, labels and epsilons given in memory, and their conversion to the package's own arrays."""

import contextlib
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from aigan_tf.data import next_steps
from aigan_tf.errors import InputError

MAX_UNCOUNTED = 2 * 2**30  # bytes read of a data set that does not know its length, which may have no end


def as_float_images(images) -> np.ndarray:
    """Returns images as float32; uint8 in `[0, 255]` becomes `[0, 1]`, other values stay.

    Raises:
        InputError: they are not an array of numbers.
    """
    images = _numeric(images)
    return images.astype(np.float32) / (255.0 if images.dtype == np.uint8 else 1.0)


def as_uint8_images_and_labels(images_or_dataset, labels) -> tuple[np.ndarray, np.ndarray | None]:
    """Returns uint8 images in `[0, 255]` and their labels; None if there are no labels.

    Args:
        images_or_dataset: images `(n, ...)`, uint8 in `[0, 255]` or numbers in `[0, 1]`; or a finite tf.data.Dataset of
            such images or of `(image, label)`, in batches or one by one.
        labels: `(n,)`, not checked; None for those of the data set.

    Raises:
        InputError: they are fewer than two, not images in these ranges, or the data set cannot be read.
    """
    if isinstance(images_or_dataset, tf.data.Dataset):
        images, found = _read(images_or_dataset)
        labels = found if labels is None else labels
    else:
        images = _numeric(images_or_dataset)
    if len(images) < 2:
        raise InputError(f"{len(images)} images given", "at least two, and better thousands", "give more")
    if images.dtype != np.uint8:
        if not (images.min() >= 0 and images.max() <= 1):  # unlike "< 0 or > 1", this fails NaN too
            raise InputError(
                f"{images.dtype} images from {images.min()} to {images.max()}",
                "[0, 1], or uint8 in [0, 255]",
                next_steps.for_range(images.min(), images.max()),
            )
        images = np.round(images * 255).astype(np.uint8)
    return images, labels


def checked_labels(labels, count: int, num_classes: int) -> np.ndarray:
    """Returns labels as int32 `(count,)`.

    Raises:
        InputError: they are not whole numbers from 0 to `num_classes` - 1, one per image.
    """
    labels = _as_array(labels, "labels")
    if labels.shape == (count, 1):  # as keras.datasets gives them
        labels = labels[:, 0]
    if labels.shape != (count,) or labels.dtype.kind not in "iu":
        raise InputError(
            f"labels are {labels.dtype} of shape {labels.shape}",
            f"whole numbers of shape ({count},), one per image",
            next_steps.for_labels(labels, count),
        )
    if labels.min() < 0 or labels.max() >= num_classes:
        raise InputError(
            f"labels from {labels.min()} to {labels.max()}",
            f"0 to {num_classes - 1}, the classifier's classes",
            "subtract 1: labels - 1"
            if (labels.min(), labels.max()) == (1, num_classes)
            else "leave out the other classes",
        )
    return labels.astype(np.int32)


def per_image_epsilons(epsilon, count: int) -> np.ndarray:
    """Returns one epsilon per image, float32 `(count,)`, from one number for all or one per image.

    Raises:
        InputError: it is neither.
    """
    epsilons = None
    with contextlib.suppress(TypeError, ValueError):
        epsilons = _as_array(epsilon, "epsilons").astype(np.float32)
    if epsilons is None or epsilons.shape not in ((), (count,)):
        raise InputError(
            epsilon, f"a number, or one for each of {count} images", "give e.g. 8 / 255", setting="epsilon"
        )
    return np.broadcast_to(epsilons, (count,))


def _as_array(values, name):
    """Returns arrays, sequences and numbers as an array; refuses other things that have items.

    NumPy would take anything else that has items for a sequence, and wait without end for the last of those that Keras's
    PyDataset, an iterator of ImageDataGenerator or a data set that repeats has.
    """
    known = isinstance(values, Sequence) or hasattr(values, "__array__") or hasattr(values, "__array_interface__")
    if not known and (hasattr(values, "__getitem__") or hasattr(values, "__iter__")):
        raise InputError(
            f"the {name} are a {type(values).__name__}",
            "an array, or a list of arrays",
            "read its batches and join them with np.concatenate",
        )
    return np.asarray(values)


def _numeric(images):
    """Returns images as an array of numbers."""
    expected = "(n, height, width, channels), all of one size"
    try:
        images = _as_array(images, "images")
    except InputError:
        raise
    except ValueError as error:
        raise InputError("images differ in size", expected, "resize them to one size") from error
    if images.dtype.kind in "US":
        raise InputError("images are text", expected, "read the files first: np.asarray(PIL.Image.open(path))")
    if images.ndim == 0 or images.dtype.kind not in "fiu":
        raise InputError(f"images are {images.dtype}", expected, "give an array of numbers, e.g. np.stack(images)")
    return images


def _read(dataset):
    """Returns the images of a tf.data.Dataset, and its labels or None, as arrays."""
    if dataset.cardinality() == tf.data.INFINITE_CARDINALITY:
        raise InputError("the data set never ends", "one pass over the images", "leave repeat() out")
    spec = dataset.element_spec
    if isinstance(spec, dict) and {"image", "label"} <= spec.keys():  # as TFDS gives them
        dataset = dataset.map(lambda element: (element["image"], element["label"]))
        spec = dataset.element_spec
    columns = spec if isinstance(spec, tuple) else (spec,)
    _check_columns(columns)
    if columns[0].shape.rank == 3:
        dataset = dataset.batch(500)
    try:
        batches = [element if isinstance(spec, tuple) else (element,) for element in _read_until_too_long(dataset)]
        images_and_labels = [np.concatenate(column) for column in zip(*batches, strict=True)]
    except InputError:
        raise
    except (tf.errors.InvalidArgumentError, ValueError) as error:
        reason = getattr(error, "message", str(error)).splitlines()[0]
        raise InputError(
            f"the data set cannot be read ({reason})",
            "images all of one size, and a label for each",
            "resize them in map()",
        ) from error
    if not images_and_labels:
        raise InputError("the data set is empty", "images", "check its filter(), skip() and take()")
    return images_and_labels[0], images_and_labels[1] if len(images_and_labels) > 1 else None


def _read_until_too_long(dataset):
    """Yields the elements of a data set; refuses one of unknown length that may be endless."""
    uncounted, size = dataset.cardinality() == tf.data.UNKNOWN_CARDINALITY, 0
    for element in dataset.as_numpy_iterator():
        yield element
        size += sum(array.nbytes for array in tf.nest.flatten(element)) if uncounted else 0
        if size > MAX_UNCOUNTED:
            raise InputError(
                f"the data set does not say how long it is, and {size / 2**30:.1f} GiB of it are read",
                "one pass over the images",
                "end it with take(n), or apply tf.data.experimental.assert_cardinality(n)",
            )


def _check_columns(columns):
    """Refuses a data set of other things than images, or images and labels."""
    if len(columns) > 2 or not all(isinstance(column, tf.TensorSpec) for column in columns):
        raise InputError(
            f"the data set holds {columns}", "images, or pairs of images and labels", "map() it to such pairs"
        )
    images = columns[0]
    if not (images.dtype.is_floating or images.dtype.is_integer):
        raise InputError(f"the data set holds {images.dtype.name}", "numbers", "map it to decoded images")
    if images.shape.rank is None:
        raise InputError(
            "the data set's images have an unknown shape",
            "(height, width, channels), or a batch of such",
            "call tf.ensure_shape on them in map()",
        )
