"""A data set from a folder of class folders."""

import dataclasses
import logging

import numpy as np
import tensorflow as tf

from aigan_tf.data.splits import Split, empty_images, images_at_once, resize
from aigan_tf.errors import InputError
from aigan_tf.files import require_regular_file

_log = logging.getLogger(__name__)

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif")


def load_folder(root, image_size):
    class_names = None
    splits = []
    left_out = []
    grey = 0
    for split_name in ("train", "test"):
        folder = root / split_name
        if not folder.is_dir():
            raise InputError(
                f"data folder {str(root)!r} has no {split_name}/; expected {split_name}/CLASS/*.png: create that folder"
            )
        found = sorted(entry.name for entry in folder.iterdir() if entry.is_dir())
        for odd in (class_name for class_name in found if not class_name.isprintable()):
            raise InputError(
                f"data folder {str(folder)!r} has the class folder {odd!r}; expected a name that can be printed: rename it"
            )
        class_names = class_names or found
        if found != class_names:
            odd = sorted(set(found) ^ set(class_names))
            raise InputError(
                f"data folder {str(root)!r} has the class folder {odd[0]!r} in only one of train/ and test/; "
                "expected the same classes in both: add or remove it"
            )
        paths, labels = [], []
        for label, class_name in enumerate(class_names):
            for path in sorted((folder / class_name).iterdir()):
                if path.suffix.lower() in IMAGE_SUFFIXES:
                    paths.append(path)
                    labels.append(label)
                elif not path.name.startswith("."):  # what a desktop leaves behind is no news
                    left_out.append(path)
        if len(set(labels)) < len(class_names) or not paths:
            raise InputError(
                f"data folder {str(folder)!r} has a class folder without images; expected CLASS/*.png in each of "
                f"{len(class_names)} class folders: add images or remove the empty class"
            )
        images, how_many = _read_images(paths, image_size)
        grey += how_many
        files = np.array([path.relative_to(root).as_posix() for path in paths])
        splits.append(Split(images, np.array(labels, np.int32), files=files))
    if left_out:
        _log.warning(
            "data folder %r: left out of its class folders: %d, such as %r; pictures are files that end in %s",
            str(root), len(left_out), str(left_out[0].relative_to(root)), ", ".join(IMAGE_SUFFIXES),
        )  # fmt: skip
    count = sum(map(len, splits))
    if 0 < grey < count:
        _log.warning(
            "data folder %r: %d of %d pictures are grey, the others in colour; all are taken as colour",
            str(root), grey, count,
        )  # fmt: skip
        splits = [dataclasses.replace(split, images=_in_colour(split.images)) for split in splits]
    train, test = splits
    if train.images.shape[1:] != test.images.shape[1:]:
        raise InputError(
            f"data folder {str(root)!r} has train images of {train.images.shape[1:]} and test images of "
            f"{test.images.shape[1:]}; expected one size: give --image_size=HEIGHT,WIDTH"
        )
    return train, test, class_names


def _read_images(paths, image_size):
    """Returns uint8 `(n, height, width, channels)`, in colour if one of the files is, and how many are grey."""
    images, grey = None, 0
    for i, path in enumerate(paths):
        image = _read_image(path, image_size)
        if images is None:
            images = empty_images(len(paths), image.shape)
        if image.shape[:2] != images.shape[1:3]:
            raise InputError(
                f"image {str(path)!r} is {image.shape[0]} x {image.shape[1]}; expected {images.shape[1]} x "
                f"{images.shape[2]} as the others: give --image_size=HEIGHT,WIDTH"
            )
        if image.shape[-1] > images.shape[-1]:
            images = _in_colour(images)
        images[i] = image  # of a grey one, each channel gets the value
        grey += image.shape[-1] == 1
    return images, grey


def _in_colour(images):
    """Returns grey images with their value in each of three channels, others as they are."""
    if images.shape[-1] == 3:
        return images
    coloured = empty_images(len(images), (*images.shape[1:3], 3))
    step = images_at_once(coloured.shape[1:])
    for start in range(0, len(images), step):
        coloured[start : start + step] = images[start : start + step]
    return coloured


def _read_image(path, image_size):
    """Decodes one file to uint8 `(height, width, 1 or 3)`, as many channels as the file has."""
    try:
        require_regular_file(path)
        data = path.read_bytes()
        image = tf.io.decode_image(data, expand_animations=False)
        if image.shape[-1] not in (1, 3):  # an alpha channel says nothing a classifier sees
            image = tf.io.decode_image(data, channels=1 if image.shape[-1] == 2 else 3, expand_animations=False)
    except (OSError, tf.errors.OpError) as error:
        raise InputError(
            f"image {str(path)!r} cannot be read; expected a PNG, JPEG, BMP or GIF file: replace or remove it"
        ) from error
    return resize(image, image_size).numpy()
