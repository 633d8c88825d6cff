"""A data set by name: the embedded digits, TensorFlow Datasets, or a folder, as 8-bit images."""

import dataclasses
import math

import numpy as np

from aigan_tf.config import Config
from aigan_tf.data.from_folder import load_folder
from aigan_tf.data.from_tfds import load_tfds
from aigan_tf.data.splits import IN_MEMORY, Split, empty_images, hold_out, resize
from aigan_tf.errors import InputError, say
from aigan_tf.files import require_regular_file, user_path
from aigan_tf.workdir import Workdir, digests_of

MIN_SIDE = 8  # pixels: two halvings still leave the networks a 2 x 2 map


@dataclasses.dataclass(frozen=True)
class ImageDataset:
    """A classification data set: three splits and the names of its classes.

    `validation` is held out of the training data by a fixed permutation, the same for every
    seed; choices are made on it and never on `test`.
    """

    name: str
    class_names: tuple[str, ...]
    train: Split
    validation: Split
    test: Split

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """`(height, width, channels)` of every image."""
        return self.train.images.shape[1:]

    @property
    def is_folder(self) -> bool:
        """Whether the images are files of a folder."""
        return self.train.files is not None

    @property
    def num_classes(self) -> int:
        return len(self.class_names)


def is_folder(name: str) -> bool:
    """Whether a data set's name means the user's own folder, and not the data set of TFDS (or digits) that is called so.

    A folder with `train/` in it is meant; a `mnist/` that happens to lie here, with something else in it, is not.
    """
    path = user_path(name)
    if name == "digits" or not path.is_dir():
        return False
    if (path / "train").is_dir():
        return True
    import tensorflow_datasets as tfds

    return name not in tfds.list_builders(with_community_datasets=False)


def load(name: str, data_dir: str | None = None, image_size: tuple[int, int] | None = None) -> ImageDataset:
    """Loads a data set: into memory, or where a split takes more than `splits.IN_MEMORY`, into a temporary file.

    Args:
        name: `"digits"` (embedded, needs no download), a TFDS image classification data set, or
            the path of a folder that holds `train/CLASS/*.png` and `test/CLASS/*.png`.
        data_dir: where TFDS data sets lie; `None` for TFDS's default. A data set that is already
            there is read without the network.
        image_size: `(height, width)` to resize to; needed only where images differ in size.

    Raises:
        InputError: the name is unknown, the data cannot be had, or is not image classification.
    """
    if data_dir is not None and not user_path(data_dir).is_dir():
        raise InputError(f"--data_dir={data_dir} does not exist; expected the folder of TFDS data sets: create it")
    if name == "digits":
        train, test, class_names = _load_digits(image_size)
    elif is_folder(name):
        train, test, class_names = load_folder(user_path(name), image_size)
        # Read class by class; the first thousand images of a comparison must be of all classes.
        test = test.take(np.random.default_rng(0).permutation(len(test)))
    else:
        train, test, class_names = load_tfds(name, data_dir, image_size)
    height, width, channels = train.images.shape[1:]
    if min(height, width) < MIN_SIDE or channels not in (1, 3):
        raise InputError(
            f"data set {name!r} has images of {height} x {width} x {channels}; expected a height and width "
            f"of at least {MIN_SIDE} and 1 or 3 channels: convert it, or give --image_size"
        )
    if len(class_names) < 2:
        raise InputError(f"data set {name!r} has {len(class_names)} class; expected at least 2: nothing to attack")
    train, validation = hold_out(train)
    return ImageDataset(name, tuple(class_names), train, validation, test)


def _load_digits(image_size):
    """UCI handwritten digits, 8 x 8, 1,797 images, as scikit-learn bundles them; the last 300 are the test split."""
    from sklearn.datasets import load_digits  # here: only this data set needs it, and it takes a second to import

    bunch = load_digits()
    images, pixel_max = bunch.images.astype(np.uint8)[..., np.newaxis], 16
    if image_size is not None:
        small = np.round(images * (255 / 16)).astype(np.uint8)
        images, pixel_max = empty_images(len(small), (*image_size, 1)), 255
        for i, image in enumerate(small):  # one by one: they may be made very large
            images[i] = resize(image, image_size)
    split = Split(images, bunch.target.astype(np.int32), pixel_max)
    return split.take(slice(None, -300)), split.take(slice(-300, None)), [str(digit) for digit in range(10)]


# --- a folder of class folders


# --- TensorFlow Datasets


def load_dataset(config: Config, data_dir: str | None) -> ImageDataset:
    """Loads the run's data set, with the class names of --class_names where given.

    What is measured is held in memory as floats: of a test split that would take more than `IN_MEMORY`, the first images.

    Raises:
        InputError: the data cannot be had, or the names do not fit.
    """
    dataset = load(config.dataset, data_dir, config.image_size)
    most = IN_MEMORY // (4 * math.prod(dataset.image_shape))
    if most < len(dataset.test):
        say(
            f"Of the {len(dataset.test)} test images the first {most} are measured, {IN_MEMORY / 2**30:.0f} GiB as numbers."
        )
        dataset = dataclasses.replace(dataset, test=dataset.test.take(slice(0, most)))
    if not config.class_names:
        return dataset
    file = user_path(config.class_names)
    try:
        require_regular_file(file)
        text = file.read_text(encoding="utf-8-sig")  # some editors begin a file with a byte order mark
    except (OSError, ValueError) as error:
        raise InputError(
            f"--class_names={config.class_names} cannot be read; expected a text file with one name a line: correct the path"
        ) from error
    names = tuple(line.strip() for line in text.splitlines() if line.strip())
    if len(names) != dataset.num_classes:
        raise InputError(
            f"--class_names={config.class_names} has {len(names)} names; expected {dataset.num_classes}, one for each class "
            "in label order: correct the file"
        )
    for odd in (name for name in names if not name.isprintable()):
        raise InputError(
            f"--class_names={config.class_names} has the name {odd!r}; expected one that can be printed: correct the file"
        )
    if len(set(names)) < len(names):
        raise InputError(
            f"--class_names={config.class_names} names a class twice; expected a different name for each: correct the file"
        )
    return dataclasses.replace(dataset, class_names=names)


def existing_dataset(config: Config, data_dir: str | None, folder: Workdir) -> ImageDataset:
    """As `load_dataset`, of a finished run.

    Raises:
        InputError: also where pictures or class names have changed since.
    """
    dataset = load_dataset(config, data_dir)
    folder.compare(
        dataclasses.asdict(config), digests_of(config, ["class_names", *(["dataset"] if dataset.is_folder else [])])
    )
    return dataset
