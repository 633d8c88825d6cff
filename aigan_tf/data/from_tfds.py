"""A data set from TensorFlow Datasets (TFDS)."""

import contextlib
import difflib
import io
import json
import logging
import os
import pathlib
import re
import threading

import numpy as np

from aigan_tf.data.splits import Split, empty_images, hold_out_test, images_at_once, resize
from aigan_tf.errors import InputError, say
from aigan_tf.files import read_bytes, user_path
from aigan_tf.terminal import progress

_log = logging.getLogger(__name__)

DOWNLOAD_RETRIES = 3  # with a second of waiting in all, besides the time a dead network takes to answer
_NAME = re.compile(r"(?P<dataset>\w+)(/(?P<config>[\w+.-]+))?(:(?P<version>[\d*]+(\.[\d*]+){2}))?", re.ASCII)


def load_tfds(name: str, data_dir: str | None, image_size: tuple[int, int] | None) -> tuple[Split, Split, list[str]]:
    """Returns the training split, the test split and the class names of a data set, downloading it if necessary.

    A data set without labelled test images loses `splits.TEST_FRACTION` of its training images to a test split.

    Args:
        name: `NAME[/CONFIG][:VERSION]`.
        data_dir: the folder of TFDS data sets; None for TFDS's default.
        image_size: `(height, width)` to resize to; None leaves images as they are.

    Raises:
        InputError: the name is unknown, the data cannot be read or downloaded, or is not 8-bit image classification.
    """
    found = find_builder(name, data_dir, image_size)
    if not found[0].is_prepared():
        _download(found[0], name, _root(data_dir))
        found = find_builder(name, data_dir, image_size)  # with what only the files say
    builder, keys, image_feature, label_feature = found
    shape = image_feature.shape if image_size is None else (*image_size, image_feature.shape[-1] or 3)
    splits = builder.info.splits
    if not splits:
        raise _unreadable(name, builder.data_dir, "it has no splits")
    train_name = "train" if "train" in splits else next(iter(splits))
    train = _read_split(builder, name, train_name, keys, shape, image_size)
    if (train.labels < 0).any():
        raise _unsuitable(name, f"has images without a label in its split {train_name}", "a label for each")
    for test_name in ("test", "validation"):
        if test_name in splits and test_name != train_name:
            test = _read_split(builder, name, test_name, keys, shape, image_size)
            if (test.labels >= 0).all():
                return train, test, label_feature.names
            # TFDS sets -1 for the secret labels of a contest.
            _log.warning("%s: split %s has no labels and is not used", name, test_name)
    train, test = hold_out_test(train)
    _log.warning("%s has no test split: %d training images were held out as one", name, len(test))
    return train, test, label_feature.names


def find_builder(name: str, data_dir: str | None, image_size: tuple[int, int] | None):
    """Finds a data set of 8-bit image classification, without downloading it, reading images or importing TensorFlow.

    Args:
        name, data_dir, image_size: as in `load_tfds`.

    Returns:
        TFDS's builder, the keys of image and label, the image feature and the label feature.

    Raises:
        InputError: the name is unknown, its metadata cannot be read, or it is not 8-bit image classification.
    """
    if not _NAME.fullmatch(name):
        raise _unknown(name)
    import tensorflow_datasets as tfds  # here: its import takes seconds, which the embedded data set does not need

    logging.getLogger("absl").addFilter(_is_actionable)
    tfds.disable_progress_bar()
    builder = _open_builder(tfds, name, data_dir)
    keys = builder.info.supervised_keys or ("image", "label")
    image_feature, label_feature = _features(tfds, builder, name, keys)
    if None in image_feature.shape and image_size is None:
        raise InputError(
            name,
            "one size",
            "give `image_size`, e.g. 32,32",
            setting="dataset",
            problem="has images of different sizes",
        )
    return builder, keys, image_feature, label_feature


def _is_actionable(record):
    """A log filter: TFDS warns about every folder that another of its versions left behind."""
    return "has no dataset_info.json" not in record.getMessage()


def _features(tfds, builder, name, keys):
    """Returns the image feature and the label feature of a data set of image classification."""
    is_dict = isinstance(builder.info.features, tfds.features.FeaturesDict)
    features = dict(builder.info.features.items()) if is_dict else {}
    image, label = features.get(keys[0]), features.get(keys[1])
    if not isinstance(image, tfds.features.Image) or not isinstance(label, tfds.features.ClassLabel):
        raise _unsuitable(name, "is not image classification", "one image and one class label per example")
    if image.np_dtype != np.uint8:
        raise _unsuitable(name, f"has {np.dtype(image.np_dtype).name} images", "8-bit images")
    return image, label


def _unsuitable(name, problem, expected):
    return InputError(name, expected, "choose another data set", setting="dataset", problem=problem)


def _unreadable(name, folder, reason):
    return InputError(
        name,
        "whole files",
        "delete that folder and prepare it again",
        setting="dataset",
        problem=f"cannot be read from {folder} ({reason})",
    )


def _read_split(builder, name, split_name, keys, shape, image_size):
    """Returns a split with images of `shape`, in the order of its files."""
    import tensorflow as tf  # here: data sets are looked up before TensorFlow is there

    count = builder.info.splits[split_name].num_examples
    images, labels = empty_images(count, shape), np.empty(count, np.int32)
    try:
        dataset = builder.as_dataset(split=split_name, shuffle_files=False)
        dataset = dataset.map(
            lambda example: (resize(example[keys[0]], image_size), tf.cast(example[keys[1]], tf.int32)),
            num_parallel_calls=tf.data.AUTOTUNE,
        )
        position = 0
        with progress(None, f"{name}, {split_name}", " images", count) as bar:
            for some_images, some_labels in dataset.batch(images_at_once(shape)).as_numpy_iterator():
                rows = slice(position, position + len(some_labels))
                images[rows], labels[rows] = some_images, some_labels
                position += len(some_labels)
                bar.update(len(some_labels))
        if not position or position != count:
            raise ValueError(f"{position} examples instead of {count}")
    except Exception as error:  # TFDS and TensorFlow raise half a dozen kinds for damaged files
        raise _unreadable(name, builder.data_dir, f"{type(error).__name__} in split {split_name}") from error
    return Split(images, labels)


def _open_builder(tfds, name, data_dir):
    """Returns the builder of a data set.

    It is TFDS's own for a name that TFDS knows; it defines the features in its code. A given version and an unknown name
    are read from a prepared folder, whose metadata define them.
    """
    root = _root(data_dir)
    dataset, config, version = _NAME.fullmatch(name).group("dataset", "config", "version")
    try:
        own = tfds.builder_cls(dataset)
    except Exception:  # TFDS raises several kinds for a name that it does not know
        own = None
    if own is None or version or (config and config not in own.builder_configs):
        folder = _prepared_folder(root / dataset / (config or ""), version)
        if folder is not None:
            return _builder_from_folder(tfds, name, folder)
    if own is None:
        raise _unknown(name, tfds.list_builders(with_community_datasets=False))
    try:
        return own(config=config, version=version, data_dir=root)
    except Exception as error:  # an unknown config or version, or damaged metadata
        damaged = _unreadable(name, root / own.name, type(error).__name__)
        raise (_unknown(name, [own.name]) if config or version else damaged) from error


def _unknown(name, known=()):
    """Returns the refusal of a name; `known` are TFDS's."""
    dataset = re.split("[/:]", name)[0]
    close = difflib.get_close_matches(dataset.lower(), ["digits", *known], n=3)
    if "/" in name and dataset not in known:
        problem, fix = "is not a folder", "correct the path"
    else:
        problem = "is unknown"
        fix = f"try {' or '.join(close)}" if close else "choose one of https://www.tensorflow.org/datasets/catalog"
    expected = "digits, a TFDS name such as mnist, cifar10 or cifar100, or a folder of images"
    return InputError(name, expected, fix, setting="dataset", problem=problem)


def _prepared_folder(folder, version):
    """Returns the newest version below `folder` that TFDS can read without the data set's code; None if there is none."""
    prepared = [
        path.parent
        for path in folder.glob(f"{version or '*.*.*'}/features.json")
        if re.fullmatch(r"\d+\.\d+\.\d+", path.parent.name, re.ASCII)
    ]
    return max(prepared, key=lambda path: [int(part) for part in path.name.split(".")], default=None)


def _builder_from_folder(tfds, name, folder):
    """Returns the builder of a prepared folder.

    TFDS imports each Python class that the metadata of a folder name. They are read here first, so that no other code
    than TFDS's is run.

    Raises:
        InputError: the metadata name a class outside TFDS, or cannot be read.
    """
    for file in (folder / "features.json", folder / "dataset_info.json"):  # either can define the features
        try:
            classes = list(_python_classes(json.loads(read_bytes(file).decode())))
        except (OSError, ValueError, RecursionError) as error:
            raise _unreadable(name, folder, f"{type(error).__name__} in {file.name}") from error
        for python_class in classes:
            if not python_class.startswith("tensorflow_datasets."):
                raise InputError(
                    f"{file} names {python_class}, whose Python would be run",
                    "classes of tensorflow_datasets",
                    "prepare the data set again, or convert it to a folder of PNG files",
                )
    try:
        return tfds.builder_from_directory(folder)
    except Exception as error:  # TFDS raises several kinds for damaged metadata
        raise _unreadable(name, folder, type(error).__name__) from error


def _python_classes(value):
    """Yields the names of Python classes in metadata of TFDS, also those in JSON that a string holds."""
    if isinstance(value, list):
        for each in value:
            yield from _python_classes(each)
    elif isinstance(value, dict):
        for key, each in value.items():
            of_class = key in ("pythonClassName", "python_class_name") or (key == "type" and "content" in value)
            if of_class and isinstance(each, str):
                yield each
            yield from _python_classes(each)
    elif isinstance(value, str) and value.lstrip().startswith(("{", "[")):
        with contextlib.suppress(ValueError):
            yield from _python_classes(json.loads(value))


def _root(data_dir):
    return user_path(data_dir or os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets"))


def _download(builder, name, root):
    """Downloads and prepares a data set; removes what it added to `root` if that fails."""
    size = builder.info.download_size
    say(f"Downloading {name}{f' ({size})' if size else ''} into {root}.")
    # Only where this data set is written: others may be prepared in the same root at the same time.
    places = (root / builder.info.full_name.split("/")[0], root / "downloads")
    before = _contents(places)
    try:
        # TFDS prints lines of its own.
        with _few_retries(), _growth_shown(places, f"Downloading {name}"), contextlib.redirect_stdout(io.StringIO()):
            builder.download_and_prepare()
    except BaseException as error:  # network, disk, checksum, manual download; or Ctrl-C
        _remove_unfinished(root, _contents(places) - before)
        if not isinstance(error, Exception):
            raise
        reason = str(error).strip().splitlines()[0][:160] if str(error).strip() else type(error).__name__
        raise InputError(
            name,
            "a network connection or a prepared data set",
            "connect, or give the folder of a prepared one as `data_dir`",
            setting="dataset",
            problem=f"is not in {builder.data_dir} and cannot be downloaded ({reason})",
        ) from error


@contextlib.contextmanager
def _growth_shown(places, doing):
    """Shows on a terminal how many bytes are added below some folders while the block lasts, as a bar."""

    def size():
        total = 0
        for path in _contents(places):
            with contextlib.suppress(OSError):  # it was temporary
                total += path.stat().st_size
        return total

    with progress(None, doing, "B", unit_scale=True) as bar:
        if bar.disable:
            yield
            return
        before, ended = size(), threading.Event()

        def watch():
            while not ended.wait(1):
                bar.update(size() - before - bar.n)

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            ended.set()
            watcher.join()


@contextlib.contextmanager
def _few_retries():
    """Lets a download fail within seconds if the network is dead.

    TFDS's ten retries take minutes, each with a warning of urllib3. DownloadConfig has no setting for them, so the constant
    is set. Both stay changed after a failure, when threads of other files still retry.
    """
    from tensorflow_datasets.core.download import downloader

    log = logging.getLogger("urllib3.connectionpool")
    before = downloader.MAX_RETRIES, log.level
    downloader.MAX_RETRIES = DOWNLOAD_RETRIES
    log.setLevel(logging.ERROR)
    yield
    downloader.MAX_RETRIES = before[0]
    log.setLevel(before[1])


def _contents(places):
    return {path for place in places if place.exists() for path in (place, *place.rglob("*"))}


def _remove_unfinished(root: pathlib.Path, added):
    """Removes the paths below `root` that a failed preparation added, except files that were downloaded completely."""
    for path in sorted(added, reverse=True):  # the content of a folder before the folder
        partial = any(".tmp." in part or part.startswith("incomplete") for part in path.relative_to(root).parts)
        if path.is_dir():
            with contextlib.suppress(OSError):  # not empty: it holds a complete download
                path.rmdir()
        elif partial or root / "downloads" not in path.parents:
            path.unlink(missing_ok=True)  # another process may share downloads/
