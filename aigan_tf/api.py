"""The Python API: train, load, run and measure a generator in a few lines, on a classifier and images in memory."""

import dataclasses
import difflib
import os
import pathlib
import tempfile
from collections.abc import Callable, Mapping, Sequence

import keras
import numpy as np
import tensorflow as tf

from aigan_tf.classifiers.accuracy import check_accuracy, predictions
from aigan_tf.classifiers.loading import as_classifier
from aigan_tf.classifiers.preprocessing import Preprocessing
from aigan_tf.config import Config
from aigan_tf.data import arrays
from aigan_tf.data.batches import refuse_too_long_shifts
from aigan_tf.data.datasets import MIN_SIDE, ImageDataset
from aigan_tf.data.splits import Split, hold_out
from aigan_tf.engine import saved_model
from aigan_tf.engine.saved_model import first_line
from aigan_tf.errors import InputError, graph_refusal
from aigan_tf.evaluation.evaluation_set import EvaluationSet
from aigan_tf.evaluation.measure import measure_attacks
from aigan_tf.files import user_path
from aigan_tf.serving.export import ServedGenerator, export_generator, latest_version
from aigan_tf.training.generator import train_generator
from aigan_tf.workdir import Workdir

# The settings that do not choose data or classifier, without epsilon, which is an argument of its own.
SETTINGS = tuple(
    field.name
    for field in dataclasses.fields(Config)
    if field.metadata["setting"].group not in ("data", "classifier") or field.name in ("flip", "max_shift")
    if field.name != "epsilon"
)
MAX_ACCURACY_IMAGES = 2000  # images used for the accuracy check


class TrainedGenerator:
    """A trained generator, ready to attack; `fit_generator` and `load_generator` make one.

    Args:
        signatures: those of its SavedModel, by name.
        class_names: name of each class; None if they are not known.
        module: what holds the signatures' variables: a `ServedGenerator`, or what was loaded.
        preset: settings that `export` writes beside it; None if it was loaded.
    """

    def __init__(self, signatures: Mapping, class_names: Sequence[str] | None, module, preset: dict | None = None):
        self.signatures = signatures
        self.class_names = class_names
        self.module = module
        self.preset = preset
        inputs = signatures["serving_default"].structured_input_signature[1]
        self.targeted = "target_class" in inputs

    def __call__(
        self,
        images: np.ndarray | tf.Tensor,
        target_classes: int | str | Sequence[int | str] | np.ndarray,
        epsilon: float | Sequence[float] | np.ndarray | None = None,
        batch_size: int = 500,
    ) -> np.ndarray:
        """Returns adversarial images.

        Args:
            images: `(n, height, width, channels)`, float in `[0, 1]` or uint8 in `[0, 255]`.
            target_classes: numbers or names, one per image or one for all; of an untargeted generator the labels.
            epsilon: L-infinity budget as a fraction of the pixel range, one per image or one for all. Only a generator
                trained with `variable_epsilon` takes it; None is the largest, which any other always uses.
            batch_size: images per call of the network.

        Returns:
            float32, shape of `images`, in `[0, 1]` and within the budget.

        Raises:
            InputError: images or classes do not fit the generator, or it takes no epsilon.
        """
        if batch_size < 1:
            raise InputError(batch_size, "at least 1", "raise it", setting="batch_size")
        images = arrays.as_float_images(images)
        targets = _class_numbers(target_classes, list(self.class_names or ()))
        if targets.ndim == 0:
            targets = np.repeat(targets, len(images))
        if targets.shape != (len(images),):
            raise InputError(
                f"array of shape {targets.shape}",
                f"one class, or one for each of {len(images)} images",
                "give as many",
                setting="target_classes",
            )
        inputs = {"images": images, "target_class" if self.targeted else "label": targets}
        signature = "serving_default"
        if epsilon is not None:
            if "with_epsilon" not in self.signatures:
                raise InputError(
                    epsilon,
                    "none, since this generator has one budget",
                    "leave it out, or train a generator with `variable_epsilon`",
                    setting="epsilon",
                )
            signature = "with_epsilon"
            inputs["epsilon"] = arrays.per_image_epsilons(epsilon, len(images))
        return _in_batches(self.signatures[signature], inputs, batch_size)

    def export(self, folder: str | os.PathLike) -> pathlib.Path:
        """Writes a SavedModel for TensorFlow Serving, `folder/1` or the next number, and returns its path.

        Raises:
            InputError: the generator was loaded from a SavedModel, or the folder cannot be written.
        """
        if self.preset is None:
            raise InputError(
                "a loaded generator is a SavedModel already", "one from fit_generator", "copy the folder it is in"
            )
        return export_generator(user_path(folder), self.module, self.preset)


def fit_generator(
    classifier: keras.Model | Callable[[tf.Tensor], tf.Tensor],
    images_or_dataset: np.ndarray | tf.data.Dataset,
    labels: np.ndarray | None = None,
    *,
    epsilon: float = Config.epsilon,
    input_range: tuple[float, float] = (0.0, 1.0),
    class_names: Sequence[str] | None = None,
    **settings,
) -> TrainedGenerator:
    """Trains a generator against a classifier that is in memory.

    Args:
        classifier: a Keras model from images to logits or probabilities (it is not changed), or any callable from images
            to logits that TensorFlow can differentiate.
        images_or_dataset: images `(n, height, width, channels)`, float in `[0, 1]` or uint8 in `[0, 255]`; or a
            tf.data.Dataset of such images, or of images and labels, in batches or one by one.
        labels: int `(n,)`; None for those of the data set or, if it has none, the classifier's predictions.
        epsilon: L-infinity budget as a fraction of the pixel range.
        input_range: the pixel values that the classifier takes for black and for full intensity.
        class_names: name of each class, so that attacks can name their targets.
        **settings: any of `SETTINGS`, the settings of train.py that do not choose data or classifier:
            stage1_epochs, stage2_epochs, steps_per_epoch, attack, seed, ... No data set's preset is applied.

    Returns:
        The generator. A tenth of the images, at most 2,000, are held out to validate it while it trains.

    Raises:
        InputError: the classifier, the images or a setting cannot be used.
        DivergedError: a loss became NaN or infinite; a lower `learning_rate` helps.
    """
    config = _config(epsilon, settings)
    preprocessing = Preprocessing(_pixel_range(input_range))
    _require_callable(classifier)
    images, labels = arrays.as_uint8_images_and_labels(images_or_dataset, labels)
    _require_trainable_shape(images.shape)
    refuse_too_long_shifts(config, images.shape[1:])
    attacked, names = _named_classifier(classifier, class_names, images[:16].astype(np.float32) / 255, preprocessing)
    train, validation = hold_out(_labelled(attacked, images, labels, len(names)))
    if config.batch_size > len(train):
        raise InputError(
            config.batch_size, f"at most the {len(train)} training images", "lower it", setting="batch_size"
        )
    dataset = ImageDataset("images", names, train, validation, test=validation)
    with tempfile.TemporaryDirectory() as folder:
        trained = train_generator(config, dataset, attacked, Workdir(folder))
    served = ServedGenerator(
        trained.generator, dataset.image_shape, names, config.epsilon, config.targeted, config.variable_epsilon
    )
    preset = {name: getattr(config, name) for name in ("epsilon", *SETTINGS)} | {"image_shape": dataset.image_shape}
    return TrainedGenerator(served.signatures(), names, served, preset)


def load_generator(path: str | os.PathLike) -> TrainedGenerator:
    """Returns the generator in a run's folder (its newest export) or in a SavedModel folder.

    Raises:
        InputError: there is none, or it cannot be loaded.
    """
    path = user_path(path)
    version = path if (path / "saved_model.pb").exists() else latest_version(path / "generator") or latest_version(path)
    if version is None:
        raise InputError(
            path,
            "the folder of a run, or of a SavedModel",
            "correct the path",
            setting="path",
            problem="holds no generator",
        )
    Workdir(path).verify(version)
    try:
        loaded = saved_model.load(version)
        signatures = {"serving_default": loaded.signatures["serving_default"], **loaded.signatures}
        signatures["serving_default"].structured_outputs["adversarial_images"]  # a classifier's export has none
    except Exception as error:  # TensorFlow raises many kinds for a damaged folder
        raise InputError(
            version,
            "a generator that aigan_tf exported",
            "restore it, or correct the path",
            setting="path",
            problem=f"cannot be loaded ({first_line(error)})",
        ) from error
    names = version / "assets" / "class_names.txt"
    class_names = names.read_text(encoding="utf-8").splitlines() if names.exists() else None
    return TrainedGenerator(signatures, class_names, loaded)


def attack(
    generator: TrainedGenerator | str | os.PathLike,
    images: np.ndarray | tf.Tensor,
    target_classes: int | str | Sequence[int | str] | np.ndarray,
    epsilon: float | Sequence[float] | np.ndarray | None = None,
) -> np.ndarray:
    """Returns the adversarial images of a generator, or of the one in a folder; see `TrainedGenerator.__call__`."""
    return _generator(generator)(images, target_classes, epsilon)


def evaluate(
    attacks: TrainedGenerator | str | os.PathLike | Mapping[str, Callable],
    classifier: keras.Model | Callable[[tf.Tensor], tf.Tensor],
    images: np.ndarray,
    labels: np.ndarray,
    epsilon: float,
    *,
    input_range: tuple[float, float] = (0.0, 1.0),
    class_names: Sequence[str] | None = None,
    targeted: bool = True,
    seed: int = 0,
    progress: bool = False,
) -> dict[str, dict]:
    """Measures attacks on every image that the classifier gets right, with each other class as the target.

    Args:
        attacks: a generator, the folder of one, or name to any callable from images and classes to adversarial images (a
            generator, an attack of your own). A generator trained with `variable_epsilon` is measured at `epsilon`.
        classifier, input_range: as in `fit_generator`; no gradient is needed.
        images: `(n, height, width, channels)`, float in `[0, 1]` or uint8 in `[0, 255]`.
        labels: int `(n,)`.
        epsilon: L-infinity budget as a fraction of the pixel range; an attack that exceeds it is an error.
        class_names: name of each class; None numbers the classifier's classes.
        targeted: whether attacks are given the target or the label. Ignored for a single generator, which knows it.
        seed: seed for attacks that draw random numbers.
        progress: whether to show progress.

    Returns:
        Name (`"aigan"` for a single generator) to a dictionary: `success_rate`, `success_interval`, `worst_target`,
        `mean_l2`, ...; `aigan_tf.evaluation.results.AttackResult` documents them.

    Raises:
        InputError: the classifier, the images or an attack cannot be used.
    """
    if not isinstance(attacks, Mapping):
        generator = _generator(attacks)
        attacks, targeted = {"aigan": generator}, generator.targeted
    attacks = {name: _at_budget(name, given, epsilon, targeted) for name, given in attacks.items()}
    preprocessing = Preprocessing(_pixel_range(input_range))
    _require_callable(classifier)
    images = arrays.as_float_images(images)
    if not len(images):
        raise InputError("there are no images", "at least one image", "give more")
    measured, names = _named_classifier(classifier, class_names, images[:16], preprocessing, needs_gradient=False)
    labels = arrays.checked_labels(labels, len(images), len(names))
    examples = EvaluationSet(measured, images, labels, names)
    results = measure_attacks(attacks, examples, epsilon, targeted, seed, progress=progress)
    return {name: result.to_dict() for name, result in results.items()}


def _in_batches(signature, inputs, batch_size):
    """Returns the adversarial images that a signature makes of inputs, arrays by name."""
    try:
        batches = [
            signature(**{name: tf.constant(value[start : start + batch_size]) for name, value in inputs.items()})
            for start in range(0, max(len(inputs["images"]), 1), batch_size)
        ]
    except tf.errors.InvalidArgumentError as error:
        raise InputError(
            f"the generator refuses these inputs: {graph_refusal(error.message)}",
            "images and classes like those it was trained for",
            "correct them",
        ) from error
    return np.concatenate([batch["adversarial_images"] for batch in batches])


def _class_numbers(classes, names):
    """Returns the numbers of classes that are given as numbers or names, int32 in the shape they are given in."""
    if isinstance(classes, str | bytes):
        return np.array(_class_number(classes, names), np.int32)
    if isinstance(classes, list | tuple):
        return np.array([_class_number(each, names) for each in classes], np.int32)
    given = np.asarray(classes)
    if given.ndim == 0:
        return np.array(_class_number(given.item(), names), np.int32)
    if given.ndim > 1:
        return given  # the caller refuses its shape
    return np.array([_class_number(each, names) for each in given], np.int32)


def _class_number(given, names):
    given = given.decode() if isinstance(given, bytes) else given
    if isinstance(given, str):
        if given in names:
            return names.index(given)
        given = int(given) if given.isdecimal() else given
    if not isinstance(given, int | np.integer) or abs(given) >= 2**31:
        expected = f"one of {', '.join(names)}, or a number" if names else "a number, since the names are not known"
        raise InputError(given, expected, "correct it", setting="target_classes")
    return int(given)


def _config(epsilon, settings):
    """Returns the settings of a training."""
    unknown = sorted(settings.keys() - set(SETTINGS))
    if unknown:
        near = difflib.get_close_matches(unknown[0], SETTINGS, 1)
        raise InputError(
            settings[unknown[0]],
            f"one of {', '.join(SETTINGS)}",
            f"use `{near[0]}`" if near else "leave it out",
            setting=unknown[0],
            problem="is not a setting",
        )
    return Config(epsilon=epsilon, **settings)


def _require_trainable_shape(shape):
    if len(shape) != 4 or min(shape[1:3]) < MIN_SIDE or shape[3] not in (1, 3):
        raise InputError(
            f"the images have the shape {shape}",
            f"(n, height, width, channels), with sides of at least {MIN_SIDE} and 1 or 3 channels",
            "reshape them",
        )


def _labelled(classifier, images, labels, num_classes):
    """Returns images and their labels, after a check of the accuracy; without labels, the classifier's predictions."""
    if labels is None:
        return Split(images, predictions(classifier, images.astype(np.float32) / 255))
    split = Split(images, arrays.checked_labels(labels, len(images), num_classes))
    step = -(-len(images) // MAX_ACCURACY_IMAGES)  # spread over all images, which may be sorted by class
    check_accuracy(classifier, split.take(slice(None, None, step)), num_classes, "images")
    return split


def _generator(given):
    """Returns a generator, or the one in a folder."""
    if isinstance(given, TrainedGenerator):
        return given
    if not isinstance(given, str | os.PathLike):
        raise InputError(
            f"the generator is a {type(given).__name__}",
            "one from fit_generator or load_generator, or the path of a folder",
            "train or load one",
        )
    return load_generator(given)


def _at_budget(name, given, epsilon, targeted):
    """Returns an attack; a generator that takes budgets attacks within `epsilon`."""
    if not isinstance(given, TrainedGenerator):
        return given
    if given.targeted != targeted:
        raise InputError(
            targeted,
            "attacks of one kind",
            f"set it to {given.targeted}, or measure the generator by itself",
            setting="targeted",
            problem=f"does not fit attacks[{name!r}], {'a targeted' if given.targeted else 'an untargeted'} generator",
        )
    if "with_epsilon" in given.signatures:
        return lambda images, targets: given(images, targets, epsilon)
    return given


def _require_callable(classifier):
    if not callable(classifier):
        raise InputError(
            f"the classifier is a {type(classifier).__name__}",
            "a Keras model, or a function from images to logits",
            "load a file with keras.models.load_model",
        )


def _pixel_range(input_range):
    """Returns `(low, high)`."""
    try:
        low, high = map(float, input_range)
    except (TypeError, ValueError):
        low = high = 0.0
    if not low < high:
        raise InputError(input_range, "(low, high) with low below high", "give e.g. (0, 255)", setting="input_range")
    return low, high


def _named_classifier(classifier, class_names, examples, preprocessing, needs_gradient=True):
    """Returns a classifier from images in `[0, 1]` to logits, and the names of its classes; without any, their numbers."""
    names = _checked_names(class_names)
    count = None if names is None else len(names)
    logits_of = as_classifier(classifier, examples, count, preprocessing, needs_gradient=needs_gradient)
    return logits_of, names or tuple(map(str, range(int(logits_of(tf.constant(examples)).shape[-1]))))


def _checked_names(class_names):
    """Returns the names of the classes as a tuple, or None."""
    if class_names is None:
        return None
    names = () if isinstance(class_names, str) or not hasattr(class_names, "__iter__") else tuple(class_names)
    # Printable: an export writes a name per line.
    texts = all(isinstance(name, str) and name.isprintable() for name in names)
    if not names or not texts or len(set(names)) < len(names):
        raise InputError(
            repr(class_names),
            "a list of printable names, a different one for each class",
            "correct it",
            setting="class_names",
        )
    return names
