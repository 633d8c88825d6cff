"""A data set by name: the embedded digits, TensorFlow Datasets, or a folder, as 8-bit images."""

import dataclasses
import functools
import math

import numpy as np

from aigan_tf.config import Config
from aigan_tf.data.from_folder import layout, load_folder, split_folders
from aigan_tf.data.from_tfds import find_builder, load_tfds
from aigan_tf.data.splits import MAX_IN_MEMORY, MAX_VALIDATION, Split, empty_images, hold_out, images_at_once, resize
from aigan_tf.errors import InputError, say
from aigan_tf.files import read_bytes, user_path
from aigan_tf.workdir import Workdir, digests_of

MIN_SIDE = 8  # pixels; two halvings leave the networks a 2 x 2 map


@dataclasses.dataclass(frozen=True)
class ImageDataset:
    """A classification data set: three splits and the names of its classes.

    Unless a folder brings its own `validation`, it is held out of the training data by a fixed permutation, the same for
    every seed. Choices are made on it and never on `test`. Without `has_labels` all labels are -1, and `class_names` empty
    unless the run gives them, until `accuracy.labelled_by` puts a classifier's answers there.
    """

    name: str
    class_names: tuple[str, ...]
    train: Split
    validation: Split
    test: Split
    has_labels: bool = True

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """`(height, width, channels)` of every image."""
        return self.train.images.shape[1:]

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    def without_class(self, number: int) -> "ImageDataset":
        """Returns the data set with training and validation images of the other classes alone."""

        def others(split):
            return split.take(np.flatnonzero(split.labels != number))

        return dataclasses.replace(self, train=others(self.train), validation=others(self.validation))

    def require_labels(self, value: object, setting: str) -> None:
        """Refuses a setting that needs labels if the pictures come without.

        Raises:
            InputError: they do.
        """
        if not self.has_labels:
            raise InputError(
                value,
                "pictures with labels",
                "put them into class folders, or attack a classifier of your own: give `classifier`",
                setting=setting,
                problem=f"needs labels, which the pictures of {self.name} lack",
            )


def is_folder(name: str) -> bool:
    """Whether `name` refers to a folder rather than to the digits or a TFDS data set of the same name.

    A folder that contains `train/` does; one that is called `mnist` and does not contain it does not.
    """
    path = user_path(name)
    if name == "digits" or not path.is_dir():
        return False
    if "/" in name or "train" in split_folders(path):
        return True
    import tensorflow_datasets as tfds  # here: its import takes seconds, which the embedded data set does not need

    return name not in tfds.list_builders(with_community_datasets=False)


def load(name: str, data_dir: str | None = None, image_size: tuple[int, int] | None = None) -> ImageDataset:
    """Loads a data set, each split into memory or, above `splits.MAX_IN_MEMORY`, into a temporary file.

    Args:
        name: `"digits"` (embedded, needs no download), the name of a TFDS image classification data set, or the path of a
            folder of images; see `from_folder.load_folder`.
        data_dir: the folder of TFDS data sets; None for TFDS's default. A data set that is already there is read
            without the network.
        image_size: `(height, width)` to resize to; necessary only if images differ in size.

    Raises:
        InputError: the name is unknown, the data cannot be read or downloaded, or is not image classification.
    """
    _require_data_dir(data_dir)
    say(f"Loading {name}.")
    validation = None
    if name == "digits":
        train, test, class_names = _load_digits(image_size)
    elif is_folder(name):
        folder = load_folder(user_path(name), image_size)
        train, test, class_names = folder.splits["train"], folder.splits["test"], folder.class_names
        # Its images are sorted by class; the first thousand of a comparison must be of all classes.
        test = test.take(np.random.default_rng(0).permutation(len(test)))
        validation = folder.splits.get("validation")
    else:
        train, test, class_names = load_tfds(name, data_dir, image_size)
    _check_shape(name, train.images.shape[1:])
    has_labels = bool(class_names)
    if has_labels and len(class_names) < 2:
        raise InputError(
            name, "at least 2", "choose another data set", setting="dataset", problem=f"has {len(class_names)} class"
        )
    if validation is None:
        train, validation = hold_out(train)
    elif len(validation) > MAX_VALIDATION:
        _, validation = hold_out(validation, 1.0)
    return ImageDataset(name, tuple(class_names), train, validation, test, has_labels)


def refuse_missing_data(config: Config, data_dir: str | None) -> None:
    """Refuses a data set or a file of class names that is missing or unusable, without TensorFlow and without reading images.

    Raises:
        InputError: one of them is.
    """
    _require_data_dir(data_dir)
    if config.dataset != "digits":
        if is_folder(config.dataset):
            layout(user_path(config.dataset))
        else:
            find_builder(config.dataset, data_dir, config.image_size)
    if config.class_names is not None:
        _read_class_names(config.class_names)


def _require_data_dir(data_dir):
    if data_dir is not None and not user_path(data_dir).is_dir():
        raise InputError(
            data_dir,
            "the folder of TFDS data sets",
            "correct the path, or create it",
            setting="data_dir",
            problem="does not exist",
        )


def _check_shape(name, shape):
    height, width, channels = shape
    if channels not in (1, 3):
        raise InputError(
            name,
            "1 or 3",
            "convert its images to grey or RGB",
            setting="dataset",
            problem=f"has images of {channels} channels",
        )
    if min(height, width) < MIN_SIDE:
        raise InputError(
            name,
            f"at least {MIN_SIDE} pixels on each side",
            "give a larger `image_size`",
            setting="dataset",
            problem=f"has images of {height} x {width}",
        )


def _load_digits(image_size):
    """Returns UCI's handwritten digits, 1,797 of 8 x 8, as scikit-learn bundles them; the last 300 are the test split."""
    from sklearn.datasets import load_digits  # here: only this data set needs it, and its import takes a second

    bunch = load_digits()
    images, pixel_max = bunch.images.astype(np.uint8)[..., np.newaxis], 16
    if image_size is not None:
        small = np.round(images * (255 / 16)).astype(np.uint8)
        images, pixel_max = empty_images(len(small), (*image_size, 1)), 255
        step = images_at_once(images.shape[1:])
        for start in range(0, len(small), step):
            images[start : start + step] = resize(small[start : start + step], image_size)
    split = Split(images, bunch.target.astype(np.int32), pixel_max)
    return split.take(slice(None, -300)), split.take(slice(-300, None)), [str(digit) for digit in range(10)]


def load_dataset(config: Config, data_dir: str | None) -> ImageDataset:
    """Loads the data set of a run, with the run's class names if it has its own.

    Measuring holds the test split in memory as float32; only the first images of a split above `MAX_IN_MEMORY` are kept.

    Raises:
        InputError: the data cannot be loaded, or the names do not fit it.
    """
    dataset = load(config.dataset, data_dir, config.image_size)
    max_count = MAX_IN_MEMORY // (4 * math.prod(dataset.image_shape))
    if max_count < len(dataset.test):
        say(
            f"Only the first {max_count} of {len(dataset.test)} test images are measured: they take "
            f"{MAX_IN_MEMORY / 2**30:.0f} GiB of memory."
        )
        dataset = dataclasses.replace(dataset, test=dataset.test.take(slice(0, max_count)))
    if config.class_names is None:
        return dataset
    return _with_classes(dataset, _read_class_names(config.class_names), config.class_names)


def _with_classes(dataset, names, file):
    """Returns a data set with the classes that a file names.

    If they include those of the data set, labels follow the file's order, in which a class may have no images. Otherwise
    the file gives the data set's classes other names, in their own order.
    """
    old = dataset.class_names
    if old and {*old} <= {*names}:
        numbers = np.array([names.index(name) for name in old], np.int32)
        splits = {
            name: dataclasses.replace(split, labels=numbers[split.labels])
            for name in ("train", "validation", "test")
            for split in [getattr(dataset, name)]
        }
        return dataclasses.replace(dataset, class_names=names, **splits)
    if old and len(names) != len(old):
        raise _unfit_names(file, f"has {len(names)} names", f"{len(old)}, one per class in label order")
    for number, name in enumerate(old):
        if name in names and names.index(name) != number:
            missing = next(each for each in old if each not in names)
            raise _unfit_names(
                file, f"orders the class {name!r} anew and leaves out {missing!r}", "all classes, or new names"
            )
    return dataclasses.replace(dataset, class_names=names)


def _unfit_names(file, problem, expected):
    return InputError(file, expected, "correct the file", setting="class_names", problem=problem)


def _read_class_names(file):
    """Returns the names in a text file with one name per line."""
    refuse = functools.partial(_unfit_names, file)

    try:
        text = read_bytes(user_path(file)).decode("utf-8-sig")  # some editors begin a file with a byte order mark
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8"
        raise refuse(f"cannot be read ({reason})", "a text file with one name per line") from error
    names = tuple(line.strip() for line in text.splitlines() if line.strip())
    if len(names) < 2:
        raise refuse(f"has {len(names)} names", "one per class, at least 2")
    for name in names:
        if not name.isprintable():
            raise refuse(f"has the name {name!r}", "printable names")
    if len(set(names)) < len(names):
        raise refuse("names a class twice", "a different name for each")
    return names


def own_folder(config: Config) -> list[str]:
    """Returns the setting that names the user's own folder of images, for `digests_of`; none if the data set is none."""
    return ["dataset"] if is_folder(config.dataset) else []


def existing_dataset(config: Config, data_dir: str | None, folder: Workdir) -> ImageDataset:
    """Loads the data set of a finished run, as `load_dataset`.

    Raises:
        InputError: also if images or class names have changed since.
    """
    folder.compare(dataclasses.asdict(config), digests_of(config, ["class_names", *own_folder(config)]))
    return load_dataset(config, folder.data_dir(data_dir))
