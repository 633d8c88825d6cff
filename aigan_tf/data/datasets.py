"""A data set by name: the embedded digits, TensorFlow Datasets, or a folder, as 8-bit images."""

import contextlib
import dataclasses
import difflib
import logging
import pathlib

import numpy as np
import tensorflow as tf

from aigan_tf.data.splits import Split, empty_images, images_at_once
from aigan_tf.errors import InputError, refuse_pipe, user_path

MIN_SIDE = 8  # pixels: two halvings still leave the networks a 2 x 2 map
VALIDATION_FRACTION = 0.1
MAX_VALIDATION = 2000  # enough for +-1 point at 95 % success; the rest is better spent on training
TEST_FRACTION = 0.2  # only for a data set that comes without a test split
DOWNLOAD_RETRIES = 3  # with a second of waiting in all, besides what a dead network takes to answer
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif")

_log = logging.getLogger(__name__)


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
        train, test, class_names = _load_folder(user_path(name), image_size)
        # Read class by class; the first thousand images of a comparison must be of all classes.
        test = test.take(np.random.default_rng(0).permutation(len(test)))
    else:
        train, test, class_names = _load_tfds(name, data_dir, image_size)
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


def hold_out(split: Split, fraction: float = VALIDATION_FRACTION, most: int = MAX_VALIDATION) -> tuple[Split, Split]:
    """Cuts a share of a split off, `most` images and at least one, always the same ones; returns the rest and those."""
    order = np.random.default_rng(0).permutation(len(split))
    count = max(min(int(len(split) * fraction), most), 1)
    return split.take(np.sort(order[count:])), split.take(np.sort(order[:count]))


def _load_digits(image_size):
    """UCI handwritten digits, 8 x 8, 1,797 images, as scikit-learn bundles them; the last 300 are the test split."""
    from sklearn.datasets import load_digits  # here: only this data set needs it, and it takes a second to import

    bunch = load_digits()
    images, pixel_max = bunch.images.astype(np.uint8)[..., np.newaxis], 16
    if image_size is not None:
        small = np.round(images * (255 / 16)).astype(np.uint8)
        images, pixel_max = empty_images(len(small), (*image_size, 1)), 255
        for i, image in enumerate(small):  # one by one: they may be made very large
            images[i] = _resize(image, image_size)
    split = Split(images, bunch.target.astype(np.int32), pixel_max)
    return split.take(slice(None, -300)), split.take(slice(-300, None)), [str(digit) for digit in range(10)]


def _resize(image, image_size):
    """Resizes uint8 `(..., height, width, channels)` with antialiasing; a no-op where `image_size` is None."""
    if image_size is None:
        return image
    resized = tf.image.resize(image, image_size, method="bilinear", antialias=True)
    return tf.cast(tf.clip_by_value(tf.round(resized), 0, 255), tf.uint8)


# --- a folder of class folders


def _load_folder(root, image_size):
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
        refuse_pipe(path)
        data = path.read_bytes()
        image = tf.io.decode_image(data, expand_animations=False)
        if image.shape[-1] not in (1, 3):  # an alpha channel says nothing a classifier sees
            image = tf.io.decode_image(data, channels=1 if image.shape[-1] == 2 else 3, expand_animations=False)
    except (OSError, tf.errors.OpError) as error:
        raise InputError(
            f"image {str(path)!r} cannot be read; expected a PNG, JPEG, BMP or GIF file: replace or remove it"
        ) from error
    return _resize(image, image_size).numpy()


# --- TensorFlow Datasets


def _load_tfds(name, data_dir, image_size):
    import tensorflow_datasets as tfds  # here: it takes seconds to import and the embedded default does without

    # TFDS warns about every folder that another of its versions left behind; nothing a user can act on.
    logging.getLogger("absl").addFilter(lambda record: "has no dataset_info.json" not in record.getMessage())
    tfds.disable_progress_bar()
    with _no_foreign_features(tfds) as foreign:
        try:
            builder = _tfds_builder(tfds, name, data_dir)
        except InputError as error:
            if not foreign:
                raise
            raise InputError(
                f"data set {name!r} has a features.json that names {foreign[0]}, Python that would be run; expected classes of "
                "tensorflow_datasets: convert it to a folder of PNG files, or get it from where it was made"
            ) from error
    is_dict = isinstance(builder.info.features, tfds.features.FeaturesDict)
    features = dict(builder.info.features.items()) if is_dict else {}
    keys = builder.info.supervised_keys or ("image", "label")
    image_feature, label_feature = features.get(keys[0]), features.get(keys[1])
    if not isinstance(image_feature, tfds.features.Image) or not isinstance(label_feature, tfds.features.ClassLabel):
        raise InputError(
            f"data set {name!r} is not image classification; expected one image and one class label an example: "
            "choose another --dataset"
        )
    if image_feature.np_dtype != np.uint8:
        raise InputError(
            f"data set {name!r} has images of {np.dtype(image_feature.np_dtype).name}; expected 8-bit ones: convert it to a "
            "folder of PNG files"
        )
    if None in image_feature.shape and image_size is None:
        raise InputError(f"data set {name!r} has images of different sizes; expected one: give --image_size=32,32")

    splits = builder.info.splits
    if not splits:
        raise InputError(
            f"data set {name!r} in {builder.data_dir} has no splits; expected whole files: delete that folder and prepare it again"
        )
    train_name = "train" if "train" in splits else next(iter(splits))

    def read(split_name):
        count = splits[split_name].num_examples
        shape = image_feature.shape if image_size is None else (*image_size, image_feature.shape[-1] or 3)
        images, labels = empty_images(count, shape), np.empty(count, np.int32)
        try:
            dataset = builder.as_dataset(split=split_name, shuffle_files=False)
            dataset = dataset.map(
                lambda example: (_resize(example[keys[0]], image_size), tf.cast(example[keys[1]], tf.int32)),
                num_parallel_calls=tf.data.AUTOTUNE,
            )
            position = 0
            for some_images, some_labels in dataset.batch(images_at_once(shape)).as_numpy_iterator():
                rows = slice(position, position + len(some_labels))
                images[rows], labels[rows] = some_images, some_labels
                position += len(some_labels)
            if not position or position != count:
                raise ValueError(f"{position} examples instead of {count}")
        except Exception as error:  # of damaged files, and where there is no example, half a dozen kinds
            raise InputError(
                f"data set {name!r} in {builder.data_dir} cannot be read ({type(error).__name__} in its split {split_name}); "
                "expected whole files: delete that folder and prepare it again, or copy it again"
            ) from error
        return Split(images, labels)

    train = read(train_name)
    if (train.labels < 0).any():
        raise InputError(
            f"data set {name!r} has images without a label in its split {train_name}; expected one each: choose another --dataset"
        )
    for test_name in ("test", "validation"):
        if test_name in splits and test_name != train_name:
            test = read(test_name)
            if (test.labels >= 0).all():
                return train, test, label_feature.names
            # As of a contest, whose answers are not given away: TFDS then says -1.
            _log.warning("%s has no labels in its split %s, which is left out", name, test_name)
    train, test = hold_out(train, TEST_FRACTION, len(train))
    _log.warning("%s has no test split: %d training images were held out as one", name, len(test))
    return train, test, label_feature.names


@contextlib.contextmanager
def _no_foreign_features(tfds):
    """Keeps TFDS from importing the modules that a features.json names; yields the classes that were not looked for."""
    foreign = []
    connector = tfds.features.FeatureConnector
    original = connector.cls_from_name

    def cls_from_name(name):
        if not name.startswith("tensorflow_datasets."):
            foreign.append(name)
            raise ValueError(f"{name} is not of TFDS")
        return original(name)

    connector.cls_from_name = cls_from_name
    try:
        yield foreign
    finally:
        connector.cls_from_name = original


def _tfds_builder(tfds, name, data_dir):
    """Returns the prepared builder of a TFDS name, downloading only what is not laid out yet."""
    try:
        builder = tfds.builder(name, data_dir=data_dir and str(user_path(data_dir)))
    except Exception as error:  # TFDS raises a dozen kinds here: unknown name, bad version, failed import
        known = ["digits", *tfds.list_builders(with_community_datasets=False)]
        first = name.split("/")[0].split(":")[0]
        close = difflib.get_close_matches(first, known, n=3)
        if "/" in name and first not in known:
            hint = "there is no such folder"
        else:
            hint = f"did you mean {' or '.join(close)}?" if close else "see https://www.tensorflow.org/datasets/catalog"
        raise InputError(
            f"unknown data set {name!r}; expected digits, a TFDS name such as mnist, cifar10 or cifar100, or an "
            f"existing folder with train/CLASS/*.png: {hint}"
        ) from error
    if builder.is_prepared():
        return builder
    folder = pathlib.Path(builder.data_dir)
    root = folder.parents[builder.info.full_name.count("/")]
    print(f"Downloading {name} into {root}.", flush=True)
    # Only where this data set is written: others may be prepared in the same root at the same time.
    places = (root / builder.info.full_name.split("/")[0], root / "downloads")
    before = _contents(places)
    try:
        with _few_retries():
            builder.download_and_prepare()
    except BaseException as error:  # network, disk, checksum, manual download: whatever TFDS meets; or Ctrl-C
        _remove_unfinished(root, _contents(places) - before)
        if not isinstance(error, Exception):
            raise
        reason = str(error).strip().splitlines()[0][:160] if str(error).strip() else type(error).__name__
        raise InputError(
            f"data set {name!r} is not in {builder.data_dir} and cannot be downloaded ({reason}); expected a network or "
            "a prepared data set: connect, or copy the data set there and give its parent as --data_dir"
        ) from error
    return builder


@contextlib.contextmanager
def _few_retries():
    """Lets TFDS give up on a dead network after seconds: its ten retries take minutes, each with a warning of urllib3's."""
    from tensorflow_datasets.core.download import downloader

    log = logging.getLogger("urllib3.connectionpool")
    retries, level = downloader.MAX_RETRIES, log.level
    downloader.MAX_RETRIES = DOWNLOAD_RETRIES
    log.setLevel(logging.ERROR)
    try:
        yield
        log.setLevel(level)  # not after a failure: threads of other files go on asking for a while, and would be heard
    finally:
        downloader.MAX_RETRIES = retries


def _contents(places):
    return {path for place in places if place.exists() for path in (place, *place.rglob("*"))}


def _remove_unfinished(root, added):
    """Removes the paths below `root` that a failed preparation added, but for files that were downloaded whole."""
    for path in sorted(added, reverse=True):  # what is in a folder before the folder
        partial = any(".tmp." in part or part.startswith("incomplete") for part in path.relative_to(root).parts)
        if path.is_dir():
            with contextlib.suppress(OSError):  # not empty: it holds a whole download
                path.rmdir()
        elif partial or root / "downloads" not in path.parents:
            path.unlink(missing_ok=True)  # another process may share downloads/
