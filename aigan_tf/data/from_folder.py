"""A data set from a folder of class folders, `train/CLASS/*.png` and `test/CLASS/*.png`."""

import dataclasses
import logging
import pathlib

import numpy as np
import tensorflow as tf

from aigan_tf.data.splits import Split, empty_images, images_at_once, resize
from aigan_tf.errors import InputError
from aigan_tf.files import read_bytes

_log = logging.getLogger(__name__)

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif")


def load_folder(root: pathlib.Path, image_size: tuple[int, int] | None) -> tuple[Split, Split, list[str]]:
    """Returns the training split, the test split and the class names in alphabetical order.

    Images are in the order of their classes and file names. If some are in colour, all become so.

    Args:
        root: the folder.
        image_size: `(height, width)` to resize to; None leaves images as they are.

    Raises:
        InputError: a split or a class lacks images, an image cannot be read, or images differ in size.
    """
    class_names = _class_folders(root, "train")
    _refuse_other_classes(root, class_names)
    splits, num_grey, skipped = [], 0, []
    for split_name in ("train", "test"):
        paths, labels, others = _image_files(root / split_name, class_names)
        images, grey = _read_images(paths, image_size)
        files = np.array([path.relative_to(root).as_posix() for path in paths])
        splits.append(Split(images, np.array(labels, np.int32), files=files))
        num_grey += grey
        skipped += others
    if skipped:
        _log.warning(
            "%s: skipped %d files or folders that are not images, such as %r; images end in %s",
            root, len(skipped), str(skipped[0].relative_to(root)), ", ".join(IMAGE_SUFFIXES),
        )  # fmt: skip
    count = sum(map(len, splits))
    if 0 < num_grey < count:
        _log.warning("%s: %d of %d images are grey; all are loaded as colour images", root, num_grey, count)
        splits = [dataclasses.replace(split, images=_in_colour(split.images)) for split in splits]
    train, test = splits
    if train.images.shape[1:] != test.images.shape[1:]:
        sizes = [" x ".join(map(str, split.images.shape[1:])) for split in splits]
        raise _sizes_differ(f"{root} has training images of {sizes[0]} and test images of {sizes[1]}")
    return train, test, class_names


def _class_folders(root, split_name):
    folder = root / split_name
    if not folder.is_dir():
        raise InputError(
            root, "folders train/CLASS and test/CLASS", "create it", setting="dataset", problem=f"has no {split_name}/"
        )
    names = sorted(entry.name for entry in folder.iterdir() if entry.is_dir())
    for name in names:
        if not name.isprintable():  # class_names.txt of an export has one name per line
            raise InputError(f"{folder} has the class folder {name!r}", "a printable name", "rename it")
    return names


def _refuse_other_classes(root, class_names):
    """Refuses a test split with other classes than the training split's."""
    unpaired = sorted({*class_names} ^ {*_class_folders(root, "test")})
    if unpaired:
        raise InputError(
            f"{root} has the class folder {unpaired[0]!r} in only one of train/ and test/",
            "the same classes in both",
            "add or remove it",
        )


def _image_files(folder, class_names):
    """Returns the paths of a split's images, their labels, and the other entries of its class folders."""
    paths, labels, others = [], [], []
    for label, name in enumerate(class_names):
        for path in sorted((folder / name).iterdir()):
            if path.suffix.lower() in IMAGE_SUFFIXES:
                paths.append(path)
                labels.append(label)
            elif not path.name.startswith("."):  # hidden files of a desktop are normal
                others.append(path)
    if len(set(labels)) < len(class_names) or not paths:
        empty = next((name for label, name in enumerate(class_names) if label not in labels), "")
        raise InputError(f"{folder / empty} has no images", "CLASS/*.png", "add images, or remove the class")
    return paths, labels, others


def _read_images(paths, image_size):
    """Returns uint8 `(n, height, width, channels)`, in colour if one of the files is, and how many are grey."""
    images, num_grey = None, 0
    for i, path in enumerate(paths):
        image = _read_image(path, image_size)
        if images is None:
            images = empty_images(len(paths), image.shape)
        if image.shape[:2] != images.shape[1:3]:
            size, others = ("{} x {}".format(*shape) for shape in (image.shape, images.shape[1:]))
            raise _sizes_differ(f"{path} is {size}, the images before it are {others}")
        if image.shape[-1] > images.shape[-1]:
            images = _in_colour(images)
        images[i] = image  # a grey image is copied to each channel
        num_grey += image.shape[-1] == 1
    return images, num_grey


def _sizes_differ(received):
    return InputError(received, "images of one size", "give `image_size`, e.g. 32,32")


def _in_colour(images):
    """Returns images with three equal channels if they are grey; unchanged if they are in colour."""
    if images.shape[-1] == 3:
        return images
    coloured = empty_images(len(images), (*images.shape[1:3], 3))
    step = images_at_once(coloured.shape[1:])
    for start in range(0, len(images), step):
        coloured[start : start + step] = images[start : start + step]
    return coloured


def _read_image(path, image_size):
    """Decodes one file to uint8 `(height, width, 1 or 3)`, without its alpha channel."""
    try:
        data = read_bytes(path)
        image = tf.io.decode_image(data, expand_animations=False)
        if image.shape[-1] not in (1, 3):
            image = tf.io.decode_image(data, channels=1 if image.shape[-1] == 2 else 3, expand_animations=False)
    except (OSError, tf.errors.OpError) as error:
        raise InputError(
            f"{path} cannot be read", "a PNG, JPEG, BMP or GIF image", "replace or remove the file"
        ) from error
    return resize(image, image_size).numpy()
