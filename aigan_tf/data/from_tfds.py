"""A data set from TensorFlow Datasets."""

import contextlib
import difflib
import logging
import pathlib

import numpy as np
import tensorflow as tf

from aigan_tf.data.splits import Split, empty_images, hold_out, images_at_once, resize
from aigan_tf.errors import InputError
from aigan_tf.files import user_path

_log = logging.getLogger(__name__)

TEST_FRACTION = 0.2  # only for a data set that comes without a test split


DOWNLOAD_RETRIES = 3  # with a second of waiting in all, besides what a dead network takes to answer


def load_tfds(name, data_dir, image_size):
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
                lambda example: (resize(example[keys[0]], image_size), tf.cast(example[keys[1]], tf.int32)),
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
