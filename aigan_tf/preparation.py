"""What a run starts from: its data set and the classifier under attack."""

import contextlib
import dataclasses
import functools
import math
import os
import pathlib
import platform
from collections.abc import Callable, Collection

import keras
import tensorflow as tf

from aigan_tf.build import build_generator
from aigan_tf.classifiers import architectures
from aigan_tf.classifiers.loading import adopt, attackable, first_line, load_keras, python_file, trainable
from aigan_tf.config import Config, before_they_existed
from aigan_tf.data.datasets import ImageDataset, load
from aigan_tf.data.splits import IN_MEMORY, Split
from aigan_tf.errors import InputError, refuse_pipe, user_path
from aigan_tf.evaluation.measure import accuracy
from aigan_tf.method.networks import Generator
from aigan_tf.workdir import Workdir, digest_of

say = functools.partial(print, flush=True)  # at once, also into a log file
NEAR_CHANCE = 2.0  # a classifier below this many times chance is hardly worth attacking


def config_of(folder: Workdir) -> Config:
    """Returns the settings of a run from its work folder.

    Raises:
        InputError: they are not there, or not what train.py wrote.
    """
    saved = folder.read_config()
    missing = [name for name in ("dataset", "classifier", "attack", "epsilon") if name not in saved]
    if missing:
        raise InputError(
            f"{folder.config} has no {missing[0]}; expected the settings train.py writes: restore the file or train again"
        )
    try:
        config = Config(**{name: saved.get(name, value) for name, value in before_they_existed().items()})
        refuse_idle_settings(config)
    except InputError as error:
        raise InputError(f"{folder.config}: {error}") from error
    return config


def refuse_unnamed_python(config: Config, folder: Workdir, custom_objects: Collection[str]) -> None:
    """Refuses a work folder whose classifier would have Python run that the user has not named: somebody else may have made it.

    Args:
        config, folder: the work folder and its settings.
        custom_objects: the Python files that the user names.

    Raises:
        InputError: it would, or a file that the user names is none.
    """
    allowed = [python_file(file).resolve() for file in custom_objects]
    if config.custom_objects and user_path(config.custom_objects).resolve() not in allowed:
        raise InputError(
            f"{folder.config} has custom_objects={config.custom_objects}, a Python file that would be run; expected you to name "
            f"it too: give --custom_objects={config.custom_objects} if you would run it yourself"
        )


def load_dataset(config: Config, data_dir: str | None) -> ImageDataset:
    """Loads the run's data set, with the class names of --class_names where given.

    What is measured is held in memory as floats: of a test split that would take more than `IN_MEMORY`, the first images.

    Raises:
        InputError: the data cannot be had, or the names do not fit.
    """
    dataset = load(config.dataset, data_dir, config.size)
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
        refuse_pipe(file)
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


def digests_of(config: Config, names: Collection[str], dataset: ImageDataset | None = None) -> dict[str, str]:
    """Returns the digests of the user's own files that settings name, by setting; what is not there has none.

    Args:
        config: the settings.
        names: of them: "dataset", "class_names", "classifier", "custom_objects".
        dataset: with "dataset", what was loaded; only a folder of pictures has a digest.

    Raises:
        InputError: a file cannot be read.
    """
    own = {name: getattr(config, name) for name in names}
    if "dataset" in own and dataset.train.files is None:
        del own["dataset"]
    if "classifier" in own and is_built_in(config.classifier):
        del own["classifier"]
    paths = {name: user_path(value) for name, value in own.items() if value}
    return {name: digest_of(path) for name, path in paths.items() if path.is_file() or path.is_dir()}


def existing_dataset(config: Config, data_dir: str | None, folder: Workdir) -> ImageDataset:
    """As `load_dataset`, of a finished run.

    Raises:
        InputError: also where pictures or class names have changed since.
    """
    dataset = load_dataset(config, data_dir)
    folder.compare(dataclasses.asdict(config), digests_of(config, ("dataset", "class_names"), dataset))
    return dataset


def is_built_in(classifier: str) -> bool:
    """Whether the name means a classifier that is trained here, not a file."""
    return classifier.lower() in architectures.ARCHITECTURES


def refuse_idle_settings(config: Config) -> None:
    """Refuses settings that would be ignored, so that none is believed to act, and a copy that cannot be built.

    Raises:
        InputError: there is one.
    """
    built_in = is_built_in(config.classifier)
    idle = (
        {"input_range": "0,1", "custom_objects": ""} if built_in else {} if config.defense else {"classifier_epochs": 0}
    )
    for name, default in idle.items():
        if getattr(config, name) != default:
            raise InputError(
                f"--{name}={getattr(config, name)} has no effect on --classifier={config.classifier}; expected it only with "
                f"{'a classifier of your own' if built_in else 'a classifier trained here, or with --defense'}: leave it out"
            )
    if config.black_box and not is_built_in(config.black_box):
        raise InputError(
            f"--black_box={config.black_box}: expected an architecture for the copy, one of "
            f"{', '.join(architectures.ARCHITECTURES)}: choose one"
        )
    if config.queries_per_epoch != Config.queries_per_epoch and not config.black_box:
        raise InputError(
            f"--queries_per_epoch={config.queries_per_epoch} has no effect; expected it only with --black_box: leave it out"
        )


def refuse_too_long_shifts(config: Config, image_shape: tuple[int, ...]) -> None:
    """Refuses a `max_shift` that moves images of `(height, width, channels)` out of sight.

    Raises:
        InputError: it does.
    """
    if config.max_shift >= min(image_shape[:2]):
        raise InputError(
            f"--max_shift={config.max_shift}: images are {' x '.join(map(str, image_shape))}; expected less than their smaller "
            "side, or nothing is left of them: lower it"
        )


def adopt_classifier(
    config: Config,
    dataset: ImageDataset,
    needs_gradient: bool = True,
    path: pathlib.Path | None = None,
    flag: str = "--classifier",
) -> Callable:
    """Returns the user's own classifier, or what was made of it at `path`, as images to logits.

    As a black box it needs no gradient, unless it is to be hardened. Messages name it with `flag`.
    """
    examples = dataset.validation.take(slice(0, 16)).as_float()
    return adopt(
        str(path or config.classifier),
        examples,
        dataset.num_classes,
        config.pixel_range,
        config.custom_objects,
        needs_gradient=needs_gradient and not (config.black_box and not config.defense),
        flag=flag,
    )


def trainable_classifier(config: Config, dataset: ImageDataset) -> tuple[keras.Model, keras.Model]:
    """Returns the user's own classifier to train it further: as it is, and as images in `[0, 1]` to logits.

    Raises:
        InputError: it cannot be trained.
    """
    examples = dataset.validation.take(slice(0, 16)).as_float()
    return trainable(config.classifier, examples, config.pixel_range, config.custom_objects)


def existing_classifier(config: Config, dataset: ImageDataset, folder: Workdir) -> Callable:
    """Returns the classifier a finished run attacked, as images to logits.

    Raises:
        InputError: it is not there any more, has changed since, cannot be loaded, or does not fit the data set.
    """
    folder.verify(folder.classifier)
    if not is_built_in(config.classifier):
        used = ("custom_objects",) if config.defense else ("classifier", "custom_objects")
        if digests := digests_of(config, used):
            folder.compare(dataclasses.asdict(config), digests)
        return adopt_classifier(config, dataset, path=folder.classifier if config.defense else None)
    try:
        classifier = architectures.frozen(load_keras(folder.classifier))
    except Exception as error:  # of a damaged file Keras raises whatever its parts do
        raise InputError(
            f"{folder.classifier} cannot be loaded ({first_line(error)}); expected the classifier train.py saved: restore it, or delete it and run "
            "train.py again"
        ) from error
    examples = dataset.validation.take(slice(0, 16)).as_float()
    attackable(classifier, str(folder.classifier), examples, dataset.num_classes, (0.0, 1.0), needs_gradient=False)
    return classifier


def trained_generator(config: Config, dataset: ImageDataset, folder: Workdir) -> Generator:
    """Returns the generator of a finished run.

    Raises:
        InputError: its weights are not there, or cannot be loaded.
    """
    generator = build_generator(config, dataset)
    load_weights(generator, folder.weights, "expected the weights of a finished run: finish it with train.py")
    return generator


def load_weights(network: keras.Model, path: pathlib.Path, expected: str) -> None:
    """Fills a network from a weights file of a work folder.

    Raises:
        InputError: it is not there, is damaged, or cannot be loaded; `expected` ends the message.
    """
    if not path.is_file():
        raise InputError(f"{path} is not there; {expected}")
    Workdir(path.parent).verify(path)
    try:
        network.load_weights(path)
    except Exception as error:  # of a damaged file HDF5 raises half a dozen kinds
        raise InputError(f"{path} cannot be loaded ({first_line(error)}); {expected}") from error


def check_accuracy(
    classifier: Callable, split: Split, num_classes: int, kind: str = "test images", input_range: str = "--input_range"
) -> float:
    """Says how good the classifier is on a split, with a warning where it hardly beats chance.

    Args:
        classifier: images in `[0, 1]` to logits.
        split: the images and their labels.
        num_classes: that the labels are of.
        kind: what the images are called.
        input_range: what the setting of the pixels' range is called.

    Raises:
        InputError: it gets no image right, so there is nothing to attack.
    """
    measured = accuracy(classifier, split.as_float(), split.labels)
    say(f"Classifier accuracy on {len(split)} {kind}: {measured:.2%}.")
    if measured == 0:
        raise InputError(
            f"the classifier gets none of {len(split)} {kind} right; expected at least one to attack: check "
            f"{input_range}, the order of the classes, and that it was trained on this data set"
        )
    chance = 1 / num_classes
    if measured < min(NEAR_CHANCE * chance, (1 + chance) / 2):
        say(
            f"WARNING: that is near chance ({chance:.0%}); success rates against it mean little. Check {input_range}, "
            "the order of the classes, and that the classifier was trained on this data set."
        )
    return measured


def processor_name() -> str:
    """The processor's own name, as Linux knows it; elsewhere its kind."""
    with contextlib.suppress(OSError):
        for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor()


def device_name() -> str:
    """What the numbers are measured on."""
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        return ", ".join(tf.config.experimental.get_device_details(gpu).get("device_name", gpu.name) for gpu in gpus)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()  # Linux: those allowed
    return f"CPU, {cores} core{'s' if cores > 1 else ''}"
