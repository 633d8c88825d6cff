"""The Python API: train, load, run and measure a generator in a few lines, on a classifier and images in memory."""

import contextlib
import difflib
import functools
import os
import pathlib
import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import TypedDict, Unpack

import keras
import numpy as np
import tensorflow as tf
from PIL.Image import Image

from aigan_tf.build import map_sizes
from aigan_tf.classifiers.accuracy import check_accuracy, predictions
from aigan_tf.classifiers.calling import inputs_of
from aigan_tf.classifiers.features import features_of
from aigan_tf.classifiers.loading import as_classifier
from aigan_tf.classifiers.preprocessing import Preprocessing
from aigan_tf.config import Config, attack_kind
from aigan_tf.data import arrays, next_steps, pictures
from aigan_tf.data.batches import refuse_too_long_shifts
from aigan_tf.data.classes import class_number
from aigan_tf.data.datasets import MIN_SIDE, ImageDataset
from aigan_tf.data.splits import Split, hold_out
from aigan_tf.engine import saved_model
from aigan_tf.engine.memory import images_per_call
from aigan_tf.engine.saved_model import first_line
from aigan_tf.errors import InputError, graph_refusal, quiet, say, shown_value, warn
from aigan_tf.evaluation.caveats import nan_warnings
from aigan_tf.evaluation.evaluation_set import EvaluationSet
from aigan_tf.evaluation.measure import measure_attacks
from aigan_tf.evaluation.refinement import RefinedGenerator
from aigan_tf.exported import read_export_info, require_version
from aigan_tf.files import read_bytes, user_path
from aigan_tf.serving.export import ServedGenerator, export_generator
from aigan_tf.training.generator import train_generator
from aigan_tf.workdir import Workdir


class Settings(TypedDict, total=False):
    """The settings of train.py that do not choose data or classifier; `Config` describes them and has their defaults.

    Written out, since type checkers and editors read no other form. Without epsilon, an argument of its own.
    """

    flip: bool
    max_shift: int
    attack: str
    variable_epsilon: bool
    target_classes: Sequence[int | str] | None
    gan_weight: float
    hinge_weight: float | None
    hinge_threshold: float | None
    hard_targets: bool
    stage1_epochs: int
    stage2_epochs: int
    switch_success: float
    attack_steps: int
    attack_step_size: float | None
    generator_width: int | None
    generator_patch: int | None
    generator_blocks: int
    class_maps: int
    gain_maps: bool
    classifier_features: bool
    discriminator_width: int
    init_from: str | None
    steps_per_epoch: int
    batch_size: int | None
    epsilon_start: float
    learning_rate: float | None
    discriminator_learning_rate: float
    mixed_precision: bool
    seed: int


SETTINGS = tuple(Settings.__annotations__)
MAX_ACCURACY_IMAGES = 2000  # images used for the accuracy check


class TrainedGenerator:
    """A trained generator, ready to attack; `fit_generator` and `load_generator` make one.

    Args:
        signatures: those of its SavedModel, by name.
        class_names: name of each class; None if they are not known.
        module: what holds the signatures' variables: a `ServedGenerator`, or what was loaded.
        preset: settings that `export` writes beside it; None if it was loaded.
        image_shape: `(height, width, channels)` of its images; None if it is not known.
        epsilon: its largest budget, a fraction of the pixel range; None if it is not known.
        source: where it is from, for people.
        classes: the numbers of the classes that it serves; None for all.
    """

    def __init__(
        self,
        signatures: Mapping,
        class_names: Sequence[str] | None,
        module,
        preset: dict | None = None,
        image_shape: tuple[int, int, int] | None = None,
        epsilon: float | None = None,
        source: str = "fit_generator",
        classes: Sequence[int] | None = None,
    ):
        self.signatures = signatures
        self.class_names = class_names
        self.module = module
        self.preset = preset
        self.image_shape = image_shape
        self.epsilon = epsilon
        self.source = source
        self.classes = classes
        inputs = signatures["serving_default"].structured_input_signature[1]
        self.targeted = "target_class" in inputs
        self.class_input = "target_class" if self.targeted else "label"

    def __repr__(self) -> str:
        names = self.class_names or ()
        known = [
            "targeted" if self.targeted else "untargeted",
            f"{' x '.join(map(str, self.image_shape))} images" if self.image_shape else "",
            f"{len(names)} classes ({', '.join(names[:3])}{', ...' if names[3:] else ''})" if names else "",
            f"epsilon {shown_value(self.epsilon)}" if self.epsilon else "",
            "any smaller one too" if "with_epsilon" in self.signatures else "",
            f"from {self.source}",
        ]
        return f"<TrainedGenerator: {', '.join(filter(None, known))}>"

    def __call__(
        self,
        images: np.ndarray | tf.Tensor | Image | str | os.PathLike,
        target_classes: int | str | Sequence[int | str] | np.ndarray | tf.Tensor,
        epsilon: float | Sequence[float] | np.ndarray | tf.Tensor | None = None,
        batch_size: int = 500,
    ) -> np.ndarray | tf.Tensor:
        """Returns adversarial images.

        Args:
            images: `(n, height, width, channels)`, float in `[0, 1]` or uint8 in `[0, 255]`. Or one image: such an array
                without its first axis, a PIL image, or the path of an image file. An array must have the generator's
                size; the shorter side of a picture is resized to it and its centre cropped, colours become grey if need be.
            target_classes: numbers or names, one per image or one for all; of an untargeted generator the labels.
            epsilon: L-infinity budget as a fraction of the pixel range, one per image or one for all. Only a generator
                trained with `variable_epsilon` takes it; None is the largest, which any other always uses.
            batch_size: images per call of the network, fewer if they are large.

        Returns:
            float32, shape of `images` (of a picture: the generator's), in `[0, 1]` and within the budget, not rounded to
            8 bits. An array; a symbolic tensor if images, classes or epsilon are one, as in a `tf.function` or the `map` of
            a tf.data.Dataset. There the graph checks values: wrong ones raise `tf.errors.InvalidArgumentError` when it runs,
            and all images are one call of the network.

        Raises:
            InputError: images or classes do not fit the generator, or it takes no epsilon.
        """
        if batch_size < 1:
            raise InputError(batch_size, "at least 1", "raise it", setting="batch_size")
        signature = "serving_default" if epsilon is None else "with_epsilon"
        if signature not in self.signatures:
            raise InputError(
                epsilon,
                "none, since this generator has one budget",
                "leave it out, or train a generator with `variable_epsilon`",
                setting="epsilon",
            )
        if any(map(_is_symbolic, (images, target_classes, epsilon))):
            return self._in_graph(signature, images, target_classes, epsilon)
        images = _pixels(images, self.image_shape)
        if self.image_shape and images.shape[-3:] != self.image_shape:
            _refuse_shape(images.shape, self.image_shape)
        if images.ndim == 3:
            return self(images[np.newaxis], target_classes, epsilon, batch_size)[0]
        targets = _class_numbers(target_classes, list(self.class_names or ()))
        if targets.ndim == 0:
            targets = np.repeat(targets, len(images))
        if targets.shape != (len(images),):
            raise InputError(
                f"array of shape {targets.shape}",
                f"one class, or one for each of {len(images)} images",
                "give targets.argmax(-1)" if targets.ndim == 2 else f"give one, or {len(images)}",
                setting="target_classes",
            )
        inputs = {"images": images, self.class_input: targets}
        if epsilon is not None:
            inputs["epsilon"] = arrays.per_image_epsilons(epsilon, len(images))
        batch_size = images_per_call(images.shape[1:] or (1,), batch_size)
        return _in_batches(self.signatures[signature], inputs, batch_size)

    def _in_graph(self, signature, images, target_classes, epsilon):
        """Returns adversarial images as a symbolic tensor."""
        given = tf.convert_to_tensor(images if tf.is_tensor(images) else _pixels(images, self.image_shape))
        images, shape = tf.cast(given, tf.float32) / (255.0 if given.dtype == tf.uint8 else 1.0), given.shape
        if shape.rank == 3:
            images = images[tf.newaxis]
        if not tf.is_tensor(target_classes):
            target_classes = _class_numbers(target_classes, list(self.class_names or ()))
        targets = tf.convert_to_tensor(target_classes)
        if targets.dtype == tf.string:
            known = self.signatures["class_number"](class_name=tf.reshape(targets, (-1,)))[self.class_input]
            targets = tf.reshape(known, tf.shape(targets))
        inputs = {"images": images, self.class_input: tf.cast(targets, tf.int32)}
        if epsilon is not None:
            inputs["epsilon"] = tf.cast(epsilon, tf.float32)
        for name in inputs.keys() - {"images"}:
            if inputs[name].shape.rank == 0:
                inputs[name] = tf.repeat(inputs[name], tf.shape(images)[0])
        adversarial_images = self.signatures[signature](**inputs)["adversarial_images"]
        if shape.rank == 3:
            adversarial_images = adversarial_images[0]
        return tf.ensure_shape(adversarial_images, shape)

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
    input_mean: float | Sequence[float] | None = None,
    input_std: float | Sequence[float] | None = None,
    input_channels: str = "rgb",
    classifier_output: str | None = None,
    class_names: Sequence[str] | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    verbose: bool | int = True,
    **settings: Unpack[Settings],
) -> TrainedGenerator:
    """Trains a generator against a classifier that is in memory.

        stop = keras.callbacks.EarlyStopping("val_targeted_success_rate", mode="max", patience=5, start_from_epoch=2)
        generator = fit_generator(classifier, images, labels, stage2_epochs=60, callbacks=[stop])

    Args:
        classifier: a Keras model from images to logits or probabilities (it is not changed), or any callable from images
            to logits that TensorFlow can differentiate.
        images_or_dataset: images `(n, height, width, channels)`, float in `[0, 1]` or uint8 in `[0, 255]`; or a
            tf.data.Dataset of such images, or of images and labels, in batches or one by one.
        labels: int `(n,)`; None for those of the data set or, if it has none, the classifier's predictions.
        epsilon: L-infinity budget as a fraction of the pixel range.
        input_range: the pixel values that the classifier takes for black and for full intensity.
        input_mean, input_std: what it expects to be subtracted and to be divided by, in these values: a number, or one per
            channel in its order; None for 0 and 1.
        input_channels: "rgb", or "bgr" if it takes blue first.
        classifier_output: the name of the output to attack, if it has several.
        class_names: name of each class, so that attacks can name their targets.
        callbacks: Keras callbacks, for both stages as one training; their model is the `AIGAN`, whose `stage` is 1 or 2.
            Logs have generator_loss, adversarial_loss, gan_loss, hinge_loss, targeted_success_rate (or
            untargeted_success_rate), perturbation_l2, perturbation_linf and hinge_active, with val_ of the validation
            images too, and discriminator_loss. `model.stop_training = True` ends training in either stage, and the
            generator is returned as it is then. The learning rate is a schedule, which callbacks cannot set;
            ModelCheckpoint needs `save_weights_only=True`.
        verbose: whether to show what is done, and progress; warnings are shown in any case.
        **settings: those of train.py that do not choose data or classifier, see `Settings`. No data set's preset is applied.

    Returns:
        The generator. A tenth of the images, at most 2,000, are held out to validate it while it trains.

    Raises:
        InputError: the classifier, the images or a setting cannot be used.
        DivergedError: a loss became NaN or infinite; a lower `learning_rate` helps.
    """
    config = _config(epsilon, settings)
    preprocessing = _preprocessing(input_range, input_mean, input_std, input_channels)
    _require_callable(classifier)
    _require_callbacks(callbacks)
    images, labels = arrays.as_uint8_images_and_labels(images_or_dataset, labels)
    _require_trainable_shape(images.shape, classifier)
    refuse_too_long_shifts(config, images.shape[1:])
    attacked, names = _named_classifier(
        classifier, class_names, images[:16].astype(np.float32) / 255, preprocessing, classifier_output
    )
    with quiet(not verbose), tempfile.TemporaryDirectory() as folder:
        dataset, config = _fitted(_labelled(attacked, images, labels, len(names)), names, config)
        features = _features(classifier, config, dataset, preprocessing)
        trained = train_generator(config, dataset, attacked, Workdir(folder), callbacks=callbacks, features=features)
    served = ServedGenerator(
        trained.generator, dataset.image_shape, names, config.epsilon, config.targeted, config.variable_epsilon
    )
    preset = {name: getattr(config, name) for name in ("epsilon", *SETTINGS)} | {"image_shape": dataset.image_shape}
    if trained.stop_training:
        preset["stopped_after_steps"] = trained.steps_done
    return TrainedGenerator(
        served.signatures(), names, served, preset, dataset.image_shape, config.epsilon, classes=served.classes
    )


def _features(classifier, config, dataset, preprocessing):
    """Returns what the generator will see of a classifier in memory; None if it sees nothing of it."""
    if not config.classifier_features:
        return None
    return features_of(classifier, dataset.image_shape, map_sizes(config, dataset.image_shape), preprocessing)


def _fitted(split, names, config):
    """Returns a data set of the images, part of them held out, and the settings that fit it; prints what training does."""
    train, validation = hold_out(split)
    config = config.fitted(train.images.shape[1:], len(train))
    if config.batch_size > len(train):
        raise InputError(
            config.batch_size, f"at most the {len(train)} training images", "lower it", setting="batch_size"
        )
    say(
        f"{len(train)} training and {len(validation)} validation images, {len(names)} classes; {config.epochs} epochs, of "
        f"which stage 1 takes at most {config.stage1_epochs}."
    )
    return ImageDataset("images", names, train, validation, test=validation), config


def load_generator(path: str | os.PathLike) -> TrainedGenerator:
    """Returns the generator in a run's folder (its newest export) or in a SavedModel folder.

    Raises:
        InputError: there is none, or it cannot be loaded.
    """
    path = user_path(path)
    version = require_version(path, "path")
    Workdir(path).verify(version)
    try:
        loaded = saved_model.load(version)
        signatures = {"serving_default": loaded.signatures["serving_default"], **loaded.signatures}
        signatures["serving_default"].structured_outputs["adversarial_images"]  # a classifier's export has none
        names = version / "assets" / "class_names.txt"
        class_names = read_bytes(names).decode().splitlines() if names.exists() else None
    except Exception as error:  # TensorFlow raises many kinds for a damaged folder
        raise InputError(
            version,
            "a generator that aigan_tf exported",
            "restore it, or correct the path",
            setting="path",
            problem=f"cannot be loaded ({first_line(error)})",
        ) from error
    shape = epsilon = classes = None
    with contextlib.suppress(InputError):  # its settings are not there
        info = read_export_info(version, "path")
        shape, epsilon, classes = info.image_shape, info.epsilon, info.classes
    return TrainedGenerator(signatures, class_names, loaded, None, shape, epsilon, str(version), classes)


def attack(
    generator: TrainedGenerator | str | os.PathLike,
    images: np.ndarray | tf.Tensor | Image | str | os.PathLike,
    target_classes: int | str | Sequence[int | str] | np.ndarray | tf.Tensor,
    epsilon: float | Sequence[float] | np.ndarray | tf.Tensor | None = None,
) -> np.ndarray | tf.Tensor:
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
    input_mean: float | Sequence[float] | None = None,
    input_std: float | Sequence[float] | None = None,
    input_channels: str = "rgb",
    classifier_output: str | None = None,
    class_names: Sequence[str] | None = None,
    targeted: bool = True,
    seed: int = 0,
    refine_steps: int = 0,
    progress: bool = False,
) -> dict[str, dict]:
    """Measures attacks on every image that the classifier gets right, with each other class as the target.

    Args:
        attacks: a generator, the folder of one, or name to any callable from images and classes to adversarial images (a
            generator, an attack of your own). A generator trained with `variable_epsilon` is measured at `epsilon`, and
            those of a few target classes on the ones that all of them serve.
        classifier, input_range, input_mean, input_std, input_channels, classifier_output: as in `fit_generator`; a
            gradient is only needed for `refine_steps`.
        images: `(n, height, width, channels)`, float in `[0, 1]` or uint8 in `[0, 255]`.
        labels: int `(n,)`.
        epsilon: L-infinity budget as a fraction of the pixel range; an attack that exceeds it is an error.
        class_names: name of each class; None numbers the classifier's classes.
        targeted: whether attacks are given the target or the label. Ignored for a single generator, which knows it.
        seed: seed for attacks that draw random numbers.
        refine_steps: steps of PGD from the images of a single generator that fail, measured as a second attack,
            `"aigan+2"` for two; 0 for none.
        progress: whether to show progress.

    Returns:
        Name (`"aigan"` for a single generator) to a dictionary: `success_rate`, `success_interval`, `worst_target`,
        `mean_l2`, ...; `aigan_tf.evaluation.results.AttackResult` documents them.

    Raises:
        InputError: the classifier, the images or an attack cannot be used.
    """
    if not isinstance(attacks, Mapping):
        generator = _single_generator(attacks)
        attacks, targeted = {"aigan": generator}, generator.targeted
    elif refine_steps:
        raise InputError(
            refine_steps, "a single generator, whose images are refined", "measure it by itself", setting="refine_steps"
        )
    refined = _refinement_name(refine_steps)
    served = _common_targets(attacks)
    attacks = {name: _at_budget(name, given, epsilon, targeted) for name, given in attacks.items()}
    preprocessing = _preprocessing(input_range, input_mean, input_std, input_channels)
    _require_callable(classifier)
    images = arrays.as_float_images(images)
    if images.ndim != 4:
        _refuse_shape(images.shape, None)
    if not len(images):
        raise InputError("there are no images", "at least one image", "check how they were selected")
    measured, names = _named_classifier(
        classifier, class_names, images[:16], preprocessing, classifier_output, needs_gradient=bool(refined)
    )
    if refined:
        attacks[refined] = RefinedGenerator(
            attacks["aigan"], measured, images.shape[1:], refine_steps, epsilon, targeted
        )
    labels = arrays.checked_labels(labels, len(images), len(names))
    examples = EvaluationSet(measured, images, labels, names, target_classes=served)
    for warning in nan_warnings(examples):
        warn(f"WARNING: {warning}")
    results = measure_attacks(attacks, examples, epsilon, targeted, seed, progress=progress)
    return {name: result.to_dict() for name, result in results.items()}


def _common_targets(attacks):
    """Returns the classes that all of the attacks serve, on which they are measured; None for all."""
    served = {name: set(each.classes) for name, each in attacks.items() if getattr(each, "classes", None)}
    if not served:
        return None
    common = sorted(set.intersection(*served.values()))
    if not common:
        shown = "; ".join(f"{name} serves {', '.join(map(str, sorted(classes)))}" for name, classes in served.items())
        raise InputError(shown, "a target class that all of them serve", "measure them one by one", setting="attacks")
    return common


def _refinement_name(steps):
    """Returns the attack's name, None for no steps."""
    if steps and not attack_kind(f"aigan+{steps}"):
        raise InputError(steps, "a whole number from 0 to 999", "give e.g. 2", setting="refine_steps")
    return f"aigan+{steps}" if steps else None


def _is_symbolic(value) -> bool:
    """Whether a value is a tensor of a graph under construction, which has no numbers yet."""
    return tf.is_tensor(value) and not hasattr(value, "numpy")


def _pixels(images, image_shape):
    """Returns float32 images, or one without a batch axis, from arrays, a PIL image or the path of an image file."""
    if isinstance(images, Image | str | os.PathLike):
        images, _ = pictures.fitted(images, image_shape)
    pixels = arrays.as_float_images(images)
    if pixels.size and 1 < pixels.max() <= 255 and pixels.min() >= 0:
        raise InputError(
            f"images from {pixels.min():g} to {pixels.max():g}",
            "[0, 1], or uint8 in [0, 255]",
            next_steps.for_range(0, 255),
        )
    return pixels


def _in_batches(signature, inputs, batch_size):
    """Returns the adversarial images that a signature makes of inputs, arrays by name."""
    try:
        batches = [
            signature(**{name: tf.constant(value[start : start + batch_size]) for name, value in inputs.items()})
            for start in range(0, max(len(inputs["images"]), 1), batch_size)
        ]
    except tf.errors.InvalidArgumentError as error:
        reason = graph_refusal(error.message)
        raise InputError(
            f"the generator refuses these inputs: {reason}",
            "images and classes like those it was trained for",
            next((step for word, step in _STEPS.items() if word in reason), "give such images"),
        ) from error
    return np.concatenate([batch["adversarial_images"] for batch in batches])


_STEPS = {  # by what `request_checks` names
    "target_class": "give a number in this range",
    "label": "give a number in this range",
    "epsilon": "give a number in this range",
    "NaN": "leave out the images that hold NaN",
    "at least one": "give at least one image",
}


def _class_numbers(classes, names):
    """Returns the numbers of classes that are given as numbers or names, int32 in the shape they are given in."""
    if not isinstance(classes, str | bytes | list | tuple):
        classes = np.asarray(classes)
        if classes.ndim > 1:
            return classes  # the caller refuses its shape
        classes = classes.tolist()
    find = functools.partial(class_number, names=names, setting="target_classes")
    return np.array(list(map(find, classes)) if isinstance(classes, list | tuple) else find(classes), np.int32)


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
    if settings.get("target_classes") is not None:
        settings["target_classes"] = tuple(map(str, np.atleast_1d(settings["target_classes"])))
    return Config(epsilon=epsilon, **settings)


def _require_trainable_shape(shape, classifier):
    if len(shape) != 4 or min(shape[1:3]) < MIN_SIDE or shape[3] not in (1, 3):
        taken = [spec.shape.as_list()[1:] for spec in inputs_of(classifier).values() if spec.shape.rank == 4]
        wanted = tuple(taken[0]) if taken and None not in taken[0] and taken[0][2] in (1, 3) else None
        _refuse_shape(shape, wanted, f", with sides of at least {MIN_SIDE} and 1 or 3 channels")


def _refuse_shape(shape, wanted, bounds=""):
    form = ", ".join(map(str, wanted or ("height", "width", "channels")))
    raise InputError(
        f"the images have the shape {tuple(shape)}", f"(n, {form}){bounds}", next_steps.for_shape(tuple(shape), wanted)
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
            "give what fit_generator returned",
        )
    return load_generator(given)


def _single_generator(attacks):
    """Returns the generator that is given in place of attacks by name."""
    if callable(attacks) and not isinstance(attacks, TrainedGenerator):
        fix = "give the generator first, then the classifier"
        raise InputError(
            type(attacks).__name__,
            "a generator, the folder of one, or a dict of attacks",
            fix if isinstance(attacks, keras.Model) else 'name your own attack: {"mine": attack}',
            setting="attacks",
        )
    return _generator(attacks)


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
    if not callable(classifier) or isinstance(classifier, TrainedGenerator):
        is_path = isinstance(classifier, str | os.PathLike)
        raise InputError(
            f"the classifier is a {type(classifier).__name__}",
            "a Keras model, or a function from images to logits",
            f"give keras.models.load_model({str(classifier)!r})" if is_path else "give the model that is attacked",
        )


def _require_callbacks(callbacks):
    if not isinstance(callbacks, list | tuple) or not all(
        isinstance(callback, keras.callbacks.Callback) for callback in callbacks
    ):
        raise InputError(
            f"callbacks are {callbacks!r}", "a list of keras.callbacks.Callback", "give e.g. callbacks=[callback]"
        )


def _preprocessing(input_range, input_mean, input_std, input_channels):
    """Returns what the classifier takes in place of images in [0, 1]; `Config` checks it."""

    def numbers(given):
        return None if given is None else np.atleast_1d(given).tolist()

    return Preprocessing.of(
        Config(
            input_range=numbers(input_range),
            input_mean=numbers(input_mean),
            input_std=numbers(input_std),
            input_channels=input_channels,
        )
    )


def _named_classifier(classifier, class_names, examples, preprocessing, output, needs_gradient=True):
    """Returns a classifier from images in `[0, 1]` to logits, and the names of its classes; without any, their numbers."""
    names = _checked_names(class_names)
    count = None if names is None else len(names)
    logits_of = as_classifier(classifier, examples, count, preprocessing, output, needs_gradient)
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
            "give e.g. ['cat', 'dog']",
            setting="class_names",
        )
    return names
