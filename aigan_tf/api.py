"""The Python API: train, load, run and measure a generator in a few lines, on a classifier and images in memory."""

import difflib
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import TypedDict, Unpack

import keras
import numpy as np
import tensorflow as tf
from PIL.Image import Image

from aigan_tf.api_inputs import (
    labelled,
    named_classifier,
    preprocessing_of,
    require_callable,
    require_callbacks,
    require_trainable_shape,
)
from aigan_tf.build import map_sizes, only_target
from aigan_tf.classifiers.features import features_of
from aigan_tf.config import Config, attack_kind, refuse_idle_settings
from aigan_tf.data import arrays
from aigan_tf.data.batches import refuse_large_batches, refuse_too_long_shifts
from aigan_tf.data.datasets import ImageDataset
from aigan_tf.data.splits import hold_out
from aigan_tf.errors import InputError, quiet, say, warn
from aigan_tf.evaluation.caveats import nan_warnings
from aigan_tf.evaluation.evaluation_set import EvaluationSet
from aigan_tf.evaluation.measure import measure_attacks
from aigan_tf.evaluation.refinement import RefinedGenerator
from aigan_tf.serving.export import ServedGenerator
from aigan_tf.trained_generator import TrainedGenerator, load_generator, refuse_shape
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
    preprocessing = preprocessing_of(input_range, input_mean, input_std, input_channels)
    require_callable(classifier)
    require_callbacks(callbacks)
    images, labels = arrays.as_uint8_images_and_labels(images_or_dataset, labels)
    require_trainable_shape(images.shape, classifier)
    refuse_too_long_shifts(config, images.shape[1:])
    attacked, names = named_classifier(
        classifier, class_names, images[:16].astype(np.float32) / 255, preprocessing, classifier_output
    )
    with quiet(not verbose), tempfile.TemporaryDirectory() as folder:
        dataset, config = _fitted(labelled(attacked, images, labels, len(names)), names, config)
        features = _features(classifier, config, dataset, preprocessing)
        trained = train_generator(config, dataset, attacked, Workdir(folder), callbacks=callbacks, features=features)
    served = ServedGenerator(
        trained.generator, dataset.image_shape, names, config.epsilon, config.targeted, config.variable_epsilon
    )
    kept = ("epsilon", *(name for name in SETTINGS if name != "init_from"))  # that is a path of this machine
    preset = {name: getattr(config, name) for name in kept} | {"image_shape": dataset.image_shape}
    if trained.stop_training:
        preset["stopped_after_steps"] = trained.steps_done
    return TrainedGenerator(
        served.signatures(), names, served, preset, dataset.image_shape, config.epsilon, classes=served.classes
    )


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
    config = Config(epsilon=epsilon, **settings)
    refuse_idle_settings(config)
    return config


def _features(classifier, config, dataset, preprocessing):
    """Returns what the generator will see of a classifier in memory; None if it sees nothing of it."""
    if not config.classifier_features:
        return None
    return features_of(classifier, dataset.image_shape, map_sizes(config, dataset.image_shape), preprocessing)


def _fitted(split, names, config):
    """Returns a data set of the images, part of them held out, and the settings that fit it; prints what training does."""
    train, validation = hold_out(split)
    config = config.fitted(train.images.shape[1:], len(train))
    dataset = ImageDataset("images", names, train, validation, test=validation)
    refuse_large_batches(config, train, only_target(config, dataset))
    say(
        f"{len(train)} training and {len(validation)} validation images, {len(names)} classes; {config.epochs} epochs, of "
        f"which stage 1 takes at most {config.stage1_epochs}."
    )
    return dataset, config


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
    preprocessing = preprocessing_of(input_range, input_mean, input_std, input_channels)
    require_callable(classifier)
    images = arrays.as_float_images(images)
    if images.ndim != 4:
        refuse_shape(images.shape, None)
    if not len(images):
        raise InputError("there are no images", "at least one image", "check how they were selected")
    measured, names = named_classifier(
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
