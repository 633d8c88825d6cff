"""The method in a few lines of Python: for a notebook, and for a classifier that is in memory already."""

import contextlib
import difflib
import os
import pathlib
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence

import keras
import numpy as np
import tensorflow as tf

from aigan_tf.classifiers import accuracy
from aigan_tf.classifiers.accuracy import check_accuracy
from aigan_tf.classifiers.loading import as_classifier
from aigan_tf.config import Config
from aigan_tf.data import arrays
from aigan_tf.data.batches import refuse_too_long_shifts
from aigan_tf.data.datasets import MIN_SIDE, ImageDataset
from aigan_tf.data.splits import Split, hold_out
from aigan_tf.engine import saved_model
from aigan_tf.engine.saved_model import first_line
from aigan_tf.errors import DivergedError, InputError, graph_refusal
from aigan_tf.evaluation.evaluation_set import EvaluationSet
from aigan_tf.evaluation.measure import measure_attacks
from aigan_tf.files import user_path
from aigan_tf.serving.export import ServedGenerator, export_generator, latest_version
from aigan_tf.training.generator import train_generator
from aigan_tf.workdir import Workdir

# Those of train.py's settings that are the method's own; data and classifier are given as they are.
SETTINGS = (
    "attack", "bound", "variable_epsilon", "gan_weight", "hinge_weight", "hinge_threshold", "attack_steps", "attack_step_size",
    "stage1_epochs", "stage2_epochs", "switch", "switch_success", "steps_per_epoch", "batch_size", "optimizer",
    "learning_rate", "discriminator_learning_rate", "mixed_precision", "flip", "max_shift", "generator_width", "generator_blocks",
    "class_maps", "discriminator_width", "seed",
)  # fmt: skip
MAX_ACCURACY_IMAGES = 2000  # at most so many of the images given say how good the classifier is


@contextlib.contextmanager
def settings_not_flags():
    """Names settings in the errors for a user as Python does; the command line has a flag `--name` for each."""
    try:
        yield
    except (InputError, DivergedError) as error:
        message = re.sub(rf"--({'|'.join(SETTINGS)}|epsilon|input_range)\b", r"\1", str(error))
        raise type(error)(message.replace(", in another --workdir", "")) from None


class TrainedGenerator:
    """A trained generator, ready to attack; `fit_generator` and `load_generator` make one.

    Args:
        signatures: those of its SavedModel, by name.
        class_names: name of each class; None where they are not known.
        keep: whatever the signatures' variables live in.
        preset: settings that `export` writes beside a `ServedGenerator`, which `keep` is then; None where it was loaded.
    """

    def __init__(self, signatures: Mapping, class_names: Sequence[str] | None, keep, preset: dict | None = None):
        self.signatures = signatures
        self.class_names = class_names
        self.keep = keep
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
            target_classes: numbers or names, one an image or one for all; of an untargeted generator the labels.
            epsilon: L-infinity budget as a fraction of the pixel range, one an image or one for all, of a generator
                trained with `variable_epsilon`; None for the greatest, which any other always uses.
            batch_size: images at once.

        Returns:
            float32, shape of `images`, in `[0, 1]` and within the budget.

        Raises:
            InputError: images or classes do not fit the generator, or it takes no epsilon; the message names why.
        """
        if batch_size < 1:
            raise InputError(f"batch_size={batch_size}: expected at least 1: correct it")
        images = arrays.as_float_images(images)
        classes = self._numbers(target_classes)
        if classes.ndim == 0:
            classes = np.repeat(classes, len(images))
        if classes.shape != (len(images),):
            raise InputError(
                f"target_classes have the shape {classes.shape}; expected one class, or one for each of {len(images)} images"
            )
        if epsilon is None:
            signature, extra = self.signatures["serving_default"], {}
        elif "with_epsilon" in self.signatures:
            signature, extra = self.signatures["with_epsilon"], {"epsilon": arrays.per_image_epsilons(epsilon, len(images))}
        else:
            raise InputError(
                f"epsilon={epsilon}: this generator has one budget; expected none: train one with variable_epsilon=True"
            )
        inputs = {"images": images, "target_class" if self.targeted else "label": classes, **extra}
        try:
            batches = [
                signature(**{name: tf.constant(value[start : start + batch_size]) for name, value in inputs.items()})
                for start in range(0, max(len(images), 1), batch_size)
            ]
        except tf.errors.InvalidArgumentError as error:
            refusal = graph_refusal(error.message)
            raise InputError(f"the generator refuses this: {refusal}; expected what it takes: correct it") from error
        return np.concatenate([batch["adversarial_images"] for batch in batches])

    def _numbers(self, classes):
        """Numbers of classes that are given as numbers or names, int32."""
        names = list(self.class_names or ())

        def number(given):
            given = given.decode() if isinstance(given, bytes) else given
            if isinstance(given, str):
                if given in names:
                    return names.index(given)
                given = int(given) if given.isdecimal() else given
            if not isinstance(given, int | np.integer) or abs(given) >= 2**31:
                known = f"one of {', '.join(names)}, or a number" if names else "a number, the names are not known"
                raise InputError(f"target_classes has {given!r}; expected {known}: correct it")
            return int(given)

        if isinstance(classes, str | bytes):
            return np.array(number(classes), np.int32)
        if isinstance(classes, list | tuple):
            return np.array([number(value) for value in classes], np.int32)
        given = np.asarray(classes)
        if given.ndim == 0:
            return np.array(number(given.item()), np.int32)
        if given.ndim > 1:
            return given  # its shape is refused by the caller
        return np.array([number(value) for value in given], np.int32)

    def export(self, folder: str | os.PathLike) -> pathlib.Path:
        """Writes it as a SavedModel for TensorFlow Serving, `folder/1` or the next number, and returns that path.

        Raises:
            InputError: it was loaded, so it lies in a file already.
        """
        if self.preset is None:
            raise InputError(
                "a loaded generator is a SavedModel already; expected one from fit_generator: copy its folder"
            )
        return export_generator(user_path(folder), self.keep, self.preset)


@settings_not_flags()
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
        classifier: a Keras model of images to logits or probabilities (it is not changed), or any
            callable of images to logits that TensorFlow can differentiate.
        images_or_dataset: images `(n, height, width, channels)`, float in `[0, 1]` or uint8 in `[0, 255]`; or
            a tf.data.Dataset of such images, or of images and labels, in batches or one by one.
        labels: int `(n,)`; None for those of the data set or, without any, the classifier's answers.
        epsilon: L-infinity budget as a fraction of the pixel range.
        input_range: what the classifier takes for black and for full intensity.
        class_names: name of each class, to attack by name later.
        **settings: any of `SETTINGS`, which are those of `train.py --help` that do not choose data or classifier:
            stage1_epochs, stage2_epochs, steps_per_epoch, attack, seed, ... No data set's preset is applied.

    Returns:
        The generator. A tenth of the images, at most 2,000, were held out for what is shown while it trains.

    Raises:
        InputError: the classifier, the images or a setting cannot be used.
        DivergedError: a loss is no finite number any more; a lower `learning_rate` helps.
    """
    unknown = sorted(settings.keys() - set(SETTINGS))
    if unknown:
        near = difflib.get_close_matches(unknown[0], SETTINGS, 1)
        raise InputError(
            f"there is no setting {unknown[0]}; expected some of {', '.join(SETTINGS)}"
            + (f": did you mean {near[0]}?" if near else ": leave it out")
        )
    config = Config(epsilon=epsilon, **settings)
    pixel_range = _checked_range(input_range)
    _refuse_no_callable(classifier)
    images, labels = arrays.as_uint8_images_and_labels(images_or_dataset, labels)
    if images.ndim != 4 or min(images.shape[1:3]) < MIN_SIDE or images.shape[3] not in (1, 3):
        raise InputError(
            f"images have the shape {images.shape}; expected (n, height, width, channels), sides from {MIN_SIDE} and 1 or 3 "
            "channels: reshape them"
        )
    refuse_too_long_shifts(config, images.shape[1:])
    attacked, names = _with_names(classifier, class_names, images[:16].astype(np.float32) / 255, pixel_range)
    num_classes = len(names)
    if labels is None:
        labels = accuracy.predictions(attacked, images.astype(np.float32) / 255)
    else:
        labels = arrays.checked_labels(labels, len(images), num_classes)
        some = slice(None, None, -(-len(images) // MAX_ACCURACY_IMAGES))  # from end to end: they may be sorted by class
        check_accuracy(attacked, Split(images, labels).take(some), num_classes, "images")
    train, validation = hold_out(Split(images, labels))
    if config.batch_size > len(train):
        raise InputError(f"batch_size={config.batch_size}: expected at most the {len(train)} training images: lower it")
    dataset = ImageDataset("images", names, train, validation, test=validation)
    with tempfile.TemporaryDirectory() as folder:
        trained = train_generator(config, dataset, attacked, Workdir(folder))
    served = ServedGenerator(
        trained.generator, dataset.image_shape, names, config.epsilon, config.targeted, config.variable_epsilon
    )
    preset = {name: getattr(config, name) for name in ("epsilon", *SETTINGS)} | {"image_shape": dataset.image_shape}
    return TrainedGenerator(served.signatures(), names, served, preset)


def load_generator(path: str | os.PathLike) -> TrainedGenerator:
    """Returns the generator of a work folder (its newest export) or of a SavedModel folder.

    Raises:
        InputError: there is none.
    """
    path = user_path(path)
    version = path if (path / "saved_model.pb").exists() else latest_version(path / "generator") or latest_version(path)
    if version is None:
        raise InputError(
            f"{path} holds no generator; expected a work folder of train.py or a SavedModel: correct the path"
        )
    Workdir(path).verify(version)
    try:
        loaded = saved_model.load(version)
        signatures = {"serving_default": loaded.signatures["serving_default"], **loaded.signatures}
        signatures["serving_default"].structured_outputs["adversarial_images"]  # a classifier's export has none
    except Exception as error:  # of a damaged folder TensorFlow raises whatever its parts do
        raise InputError(
            f"{version} cannot be loaded ({first_line(error)}); expected a generator that aigan_tf exported: restore it"
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
    """Returns adversarial images of a generator, or of the one in a folder; see `TrainedGenerator.__call__`."""
    return _generator(generator)(images, target_classes, epsilon)


@settings_not_flags()
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
    """Measures how often attacks succeed: on every image the classifier gets right, towards each other class.

    Args:
        attacks: a generator, the folder of one, or name to any callable from images and classes to adversarial
            images (a generator, an attack of your own). A generator trained with `variable_epsilon` is asked for `epsilon`.
        classifier, input_range: as in `fit_generator`; no gradient is needed.
        images: `(n, height, width, channels)`, float in `[0, 1]` or uint8 in `[0, 255]`.
        labels: int `(n,)`.
        epsilon: L-infinity budget as a fraction of the pixel range; an attack that leaves it is an error.
        class_names: name of each class; None numbers those that the classifier has.
        targeted: whether the class that attacks are given is the target or the label. A single generator knows.
        seed: of what an attack may draw.
        progress: whether progress is shown.

    Returns:
        Name (`"aigan"` for a single generator) to its result, as in report.json: `success_rate`, `success_interval`,
        `worst_target`, `mean_l2`, ...; `aigan_tf.evaluation.results.AttackResult` documents each key.

    Raises:
        InputError: the classifier, the images or an attack cannot be used.
    """
    if not isinstance(attacks, Mapping):
        generator = _generator(attacks)
        attacks, targeted = {"aigan": generator}, generator.targeted
    attacks = {name: _measurable(name, given, epsilon, targeted) for name, given in attacks.items()}
    pixel_range = _checked_range(input_range)
    _refuse_no_callable(classifier)
    images = arrays.as_float_images(images)
    if not len(images):
        raise InputError("no images given; expected at least one: give more")
    measured, names = _with_names(classifier, class_names, images[:16], pixel_range, needs_gradient=False)
    labels = arrays.checked_labels(labels, len(images), len(names))
    examples = EvaluationSet(measured, images, labels, names)
    results = measure_attacks(attacks, examples, epsilon, targeted, seed, progress=progress)
    return {name: result.to_dict() for name, result in results.items()}


def _generator(given):
    """Returns a generator, or the one in a folder."""
    if isinstance(given, TrainedGenerator):
        return given
    if not isinstance(given, str | os.PathLike):
        raise InputError(
            f"the generator is a {type(given).__name__}; expected one from fit_generator or load_generator, or the path "
            "of a folder: train one"
        )
    return load_generator(given)


def _measurable(name, given, epsilon, targeted):
    """Returns what is measured: of a generator with several budgets its images within `epsilon`."""
    if not isinstance(given, TrainedGenerator):
        return given
    if given.targeted != targeted:
        raise InputError(
            f"attacks[{name!r}] is {'a targeted' if given.targeted else 'an untargeted'} generator and targeted={targeted}; "
            f"expected attacks of one kind: give targeted={given.targeted}, or measure it by itself"
        )
    if "with_epsilon" in given.signatures:
        return lambda images, classes: given(images, classes, epsilon)
    return given


def _refuse_no_callable(classifier):
    if not callable(classifier):
        raise InputError(
            f"the classifier is a {type(classifier).__name__}; expected a Keras model or a function of images to logits: load a "
            "file with keras.models.load_model"
        )


def _checked_range(input_range):
    """Returns `(low, high)`."""
    try:
        low, high = map(float, input_range)
    except (TypeError, ValueError):
        low = high = 0.0
    if not low < high:
        raise InputError(f"input_range={input_range!r}: expected (low, high), such as (0, 255): correct it")
    return low, high


def _with_names(classifier, class_names, examples, pixel_range, needs_gradient=True):
    """Returns a classifier as images in `[0, 1]` to logits, and the name of each class: those given, or their numbers."""
    names = _checked_names(class_names)
    count = None if names is None else len(names)
    logits_of = as_classifier(classifier, examples, count, pixel_range, needs_gradient)
    return logits_of, names or tuple(map(str, range(int(logits_of(tf.constant(examples)).shape[-1]))))


def _checked_names(class_names):
    """Returns the names of the classes as a tuple, or None."""
    if class_names is None:
        return None
    names = () if isinstance(class_names, str) or not hasattr(class_names, "__iter__") else tuple(class_names)
    texts = all(isinstance(name, str) and name.isprintable() for name in names)  # a line break would make two of one
    if not names or not texts or len(set(names)) < len(names):
        raise InputError(
            f"class_names={class_names!r}: expected a list of printable texts, a different one for each class: correct it"
        )
    return names
