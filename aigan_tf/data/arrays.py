"""Images, labels and budgets that a caller holds in memory, checked and turned into the arrays that the package works on."""

import contextlib

import numpy as np
import tensorflow as tf

from aigan_tf.errors import InputError


def _pixels(images):
    """Returns images as an array of numbers."""
    try:
        images = np.asarray(images)
    except ValueError:  # of images of several sizes
        images = np.asarray(None)
    if images.ndim == 0 or images.dtype.kind not in "fiu":
        raise InputError(
            "images are no array of numbers; expected (n, height, width, channels), all of one size: stack or resize them"
        )
    return images


def as_float_images(images):
    """Returns images as float32; uint8 becomes `[0, 1]`."""
    images = _pixels(images)
    return images.astype(np.float32) / (255.0 if images.dtype == np.uint8 else 1.0)


def as_uint8_images_and_labels(images_or_dataset, labels):
    """Returns uint8 images and their labels, or None where there are none."""
    if isinstance(images_or_dataset, tf.data.Dataset):
        images, found = _read(images_or_dataset)
        labels = found if labels is None else labels
    else:
        images = _pixels(images_or_dataset)
    if len(images) < 2:
        raise InputError(f"{len(images)} images given; expected at least two, and better thousands: give more")
    if images.dtype != np.uint8:
        if not (images.min() >= 0 and images.max() <= 1):  # not <: a NaN fails it too
            raise InputError(
                f"{images.dtype} images from {images.min()} to {images.max()}; expected [0, 1], or uint8 in [0, 255]: rescale "
                "them"
            )
        images = np.round(images * 255).astype(np.uint8)
    return images, labels


def _read(dataset):
    """Returns the images of a tf.data.Dataset, and its labels or None, as arrays."""
    if dataset.cardinality() == tf.data.INFINITE_CARDINALITY:
        raise InputError("the data set never ends; expected one pass over the images: leave repeat() out")
    spec = dataset.element_spec
    if isinstance(spec, dict) and {"image", "label"} <= spec.keys():  # as TFDS gives them
        dataset = dataset.map(lambda element: (element["image"], element["label"]))
        spec = dataset.element_spec
    columns = spec if isinstance(spec, tuple) else (spec,)
    if len(columns) > 2 or not all(isinstance(column, tf.TensorSpec) for column in columns):
        raise InputError(f"the data set holds {spec}; expected images, or pairs of images and labels: map it to those")
    if not (columns[0].dtype.is_floating or columns[0].dtype.is_integer):
        raise InputError(
            f"the data set holds {columns[0].dtype.name} in place of images; expected numbers: map it to decoded images"
        )
    if columns[0].shape.rank is None:
        raise InputError(
            "the data set's images are of an unknown shape; expected (height, width, channels), or a batch of such: call "
            "tf.ensure_shape on them in map()"
        )
    if columns[0].shape.rank == 3:
        dataset = dataset.batch(500)
    try:
        parts = [element if isinstance(spec, tuple) else (element,) for element in dataset.as_numpy_iterator()]
        images_and_labels = [np.concatenate(column) for column in zip(*parts, strict=True)]
    except (tf.errors.InvalidArgumentError, ValueError) as error:
        said = getattr(error, "message", str(error)).splitlines()[0]
        raise InputError(
            f"the data set cannot be read ({said}); expected images all of one size, and a label each: resize them "
            "in map()"
        ) from error
    if not images_and_labels:
        raise InputError("the data set is empty; expected images: look at how it was made")
    return images_and_labels[0], images_and_labels[1] if len(images_and_labels) > 1 else None


def checked_labels(labels, count, num_classes):
    """Returns labels as int32 `(count,)`."""
    labels = np.asarray(labels)
    if labels.shape == (count, 1):  # as keras.datasets gives them
        labels = labels[:, 0]
    if labels.shape != (count,) or labels.dtype.kind not in "iu":
        raise InputError(
            f"labels are {labels.dtype} of shape {labels.shape}; expected whole numbers of shape ({count},), one an image: "
            "convert them"
        )
    if labels.min() < 0 or labels.max() >= num_classes:
        raise InputError(
            f"labels go from {labels.min()} to {labels.max()}; expected 0 to {num_classes - 1}, as the classifier answers: "
            "correct them"
        )
    return labels.astype(np.int32)


def budgets(epsilon, count):
    """Returns one epsilon for each image, float32 `(count,)`, of one for each or for all."""
    given = None
    with contextlib.suppress(TypeError, ValueError):
        given = np.asarray(epsilon, np.float32)
    if given is None or given.shape not in ((), (count,)):
        raise InputError(f"epsilon={epsilon!r}: expected a number, or one for each of {count} images: correct it")
    return np.broadcast_to(given, (count,))
