"""A classifier that was trained elsewhere, made attackable: a .keras file or a SavedModel."""

import contextlib
import importlib.util
import logging
import pathlib
import zipfile
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from aigan_tf.classifiers.architectures import ARCHITECTURES, frozen
from aigan_tf.engine import saved_model
from aigan_tf.engine.saved_model import first_line
from aigan_tf.errors import InputError
from aigan_tf.files import require_regular_file, user_path

LEAST_PROBABILITY = 1e-30  # whose logarithm is still finite in float32


def load_classifier(
    path: str,
    example_images: np.ndarray,
    num_classes: int,
    pixel_range: tuple[float, float] = (0.0, 1.0),
    custom_objects: str = "",
    needs_gradient: bool = True,
    flag: str = "--classifier",
) -> Callable[[tf.Tensor], tf.Tensor]:
    """Makes a classifier that was trained elsewhere attackable.

    A final softmax is removed, since probabilities saturate and starve every attack of gradients;
    where it cannot be removed, the logarithm of the probabilities is used, with a notice.

    Args:
        path: a .keras file or a SavedModel folder.
        example_images: float32 `(n, height, width, channels)` in `[0, 1]`, to check its output on.
        num_classes: classes of the data set.
        pixel_range: what it takes for black and for full intensity.
        custom_objects: path of a Python file that registers its custom layers with
            `keras.saving.register_keras_serializable`; it is executed.
        needs_gradient: whether attacks are to follow its gradient; a black box is only asked.
        flag: which one the user named it with, for messages.

    Returns:
        A callable from float32 images in `[0, 1]` to logits `(batch, num_classes)`.

    Raises:
        InputError: the model cannot be loaded, or its input or output does not fit the data set.
    """
    if custom_objects:
        run_python(custom_objects)
    source = user_path(path)
    if source.is_dir():
        outputs_of = _load_saved_model(source, flag)
    else:
        outputs_of = frozen(_without_softmax(_load_keras(source, example_images.shape[1:], flag)))
    return checked_classifier(outputs_of, f"{flag}={path}", example_images, num_classes, pixel_range, needs_gradient)


def load_for_training(
    path: str,
    example_images: np.ndarray,
    pixel_range: tuple[float, float] = (0.0, 1.0),
    custom_objects: str = "",
) -> tuple[keras.Model, keras.Model]:
    """Loads a classifier that was trained elsewhere to train it further.

    Args:
        path, example_images, pixel_range, custom_objects: as in `load_classifier`, which has accepted it.

    Returns:
        The model as it lies in the file, and one of images in `[0, 1]` to logits around its layers. Once that is
        trained, `copy_weights_back` brings all it learned into the first.

    Raises:
        InputError: it is no .keras file, or has nothing to train.
    """
    source = user_path(path)
    if source.is_dir():
        raise InputError(
            f"--classifier={path} is a SavedModel, whose weights cannot be trained further; expected a .keras file with "
            "--defense: save it with model.save"
        )
    if custom_objects:
        run_python(custom_objects)
    model = _load_keras(source, example_images.shape[1:], "--classifier")
    if not model.trainable_variables:
        raise InputError(
            f"--classifier={path} has no trainable weights; expected some with --defense: set trainable before saving it"
        )
    low, high = pixel_range
    images = keras.Input(example_images.shape[1:])
    outputs = _without_softmax(model)(layers.Rescaling(high - low, low)(images))
    logits = keras.Model(images, outputs)
    if _are_probabilities(np.asarray(logits(example_images))):
        logits = keras.Model(images, keras.ops.log(keras.ops.maximum(outputs, LEAST_PROBABILITY)))
    return model, logits


def copy_weights_back(model: keras.Model, logits: keras.Model) -> None:
    """Gives the model that `trainable` loaded what its companion learned; they share all layers but a split last one."""
    inner = next(layer for layer in logits.layers if isinstance(layer, keras.Model))
    if inner is not model:
        last, linear = (part.outputs[0]._keras_history.operation for part in (model, inner))
        if last.weights:  # not a Softmax, which the other one lacks
            last.set_weights(linear.get_weights())


def as_classifier(
    model: keras.Model | Callable[[tf.Tensor], tf.Tensor],
    example_images: np.ndarray,
    num_classes: int | None,
    pixel_range: tuple[float, float] = (0.0, 1.0),
    needs_gradient: bool = True,
) -> Callable[[tf.Tensor], tf.Tensor]:
    """As `load_classifier`, of a model in memory, which stays as it is; or of any callable from images to logits.

    `num_classes` None takes as many as it has outputs.
    """
    outputs_of = model
    if isinstance(model, keras.Model):
        with contextlib.suppress(Exception):  # what it does not take is said below, where it is called
            model.built or model.build((None, *example_images.shape[1:]))
        outputs_of = frozen(_without_softmax(model))
    return checked_classifier(outputs_of, "the classifier", example_images, num_classes, pixel_range, needs_gradient)


def checked_classifier(
    outputs_of: Callable[[tf.Tensor], tf.Tensor],
    name: str,
    example_images: np.ndarray,
    num_classes: int | None,
    pixel_range: tuple[float, float],
    needs_gradient: bool,
) -> Callable[[tf.Tensor], tf.Tensor]:
    """Checks what a classifier makes of some images and returns it as images in `[0, 1]` to logits.

    Args:
        outputs_of: from images in `pixel_range`.
        name: what messages call it.
        example_images, num_classes, pixel_range, needs_gradient: as in `load_classifier`.

    Returns:
        A callable from float32 images in `[0, 1]` to logits `(batch, num_classes)`.

    Raises:
        InputError: its outputs do not fit.
    """
    low, high = pixel_range

    def classifier(images):
        # float32: a model of mixed precision may give float16, in which small probabilities are zero.
        return tf.cast(outputs_of(images * (high - low) + low), tf.float32)

    try:
        outputs = np.asarray(classifier(tf.constant(example_images)))
    except Exception as error:  # whatever the model's own layers raise on images they were not made for
        raise InputError(
            f"{name} fails on images of {example_images.shape[1:]} ({first_line(error)}); expected a model "
            "that takes such images: resize them (train.py: --image_size), or choose the data set it was trained on"
        ) from error
    if num_classes is None and outputs.ndim == 2 and outputs.shape[1] > 1:
        num_classes = outputs.shape[1]
    if outputs.shape != (len(example_images), num_classes):
        raise InputError(
            f"{name} gives outputs of shape {outputs.shape[1:]} an image; expected ({num_classes},), one logit "
            "for each class of the data set: choose the data set it was trained on"
        )
    if not np.isfinite(outputs).all():
        raise InputError(
            f"{name} gives NaN or infinite outputs; expected finite logits: check the model and --input_range"
        )
    if needs_gradient and not has_usable_gradient(classifier, example_images):
        raise InputError(
            f"{name} has no usable gradient with respect to its images; expected one that is finite and not "
            "zero everywhere, which any attack by training follows: export it with float32 images in, without casts to "
            "integers, or attack it as a black box: train.py with --black_box=resnet20"
        )
    if _are_probabilities(outputs):
        logging.getLogger(__name__).warning(
            "%s gives probabilities and its softmax cannot be removed: their logarithms are used as logits.", name
        )
        return lambda images: tf.math.log(tf.maximum(classifier(images), LEAST_PROBABILITY))
    return classifier


def has_usable_gradient(classifier: Callable[[tf.Tensor], tf.Tensor], images: np.ndarray) -> bool:
    """Whether the strongest logit's gradient by the images is there, finite, and not zero everywhere.

    Args:
        classifier: images in `[0, 1]` to logits.
        images: float32 `(n, height, width, channels)` in `[0, 1]`.
    """
    images = tf.constant(images)
    with tf.GradientTape() as tape:
        tape.watch(images)
        strongest = tf.reduce_max(classifier(images), axis=-1)
    gradient = tape.gradient(strongest, images)
    return gradient is not None and bool(np.isfinite(gradient).all() and np.any(gradient))


def _are_probabilities(outputs):
    return outputs.min() >= 0 and np.allclose(outputs.sum(axis=-1), 1, atol=1e-3)


def python_file(file: str) -> pathlib.Path:
    """Returns the path of a file of --custom_objects.

    Raises:
        InputError: it is not there.
    """
    source = user_path(file)
    if not source.is_file():
        raise InputError(f"--custom_objects={file} does not exist; expected a Python file: correct the path")
    return source


def run_python(file: str) -> None:
    """Runs a Python file that registers custom layers.

    Raises:
        InputError: it is none, or fails.
    """
    spec = importlib.util.spec_from_file_location("aigan_tf_custom_objects", python_file(file))
    if spec is None:
        raise InputError(f"--custom_objects={file} is not a Python file; expected a name that ends in .py: rename it")
    try:
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
    except (Exception, SystemExit) as error:
        reason = "it ends the program" if isinstance(error, SystemExit) else first_line(error)
        raise InputError(
            f"--custom_objects={file} fails ({reason}); expected Python that registers the classifier's custom "
            "layers: correct it"
        ) from error


def load_keras(path: pathlib.Path) -> keras.Model:
    """Returns the model in a .keras file, a zip archive whose checksums Keras does not look at.

    Raises:
        Exception: whatever Keras raises, or `zipfile.BadZipFile` where the file is damaged.
    """
    require_regular_file(path)
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged:
            raise zipfile.BadZipFile(f"{damaged} in it is damaged")
    return keras.models.load_model(path, compile=False, safe_mode=True)


def _load_keras(source, image_shape, flag):
    if not source.is_file():
        raise InputError(
            f"{flag}={source} does not exist; expected one of {', '.join(ARCHITECTURES)}, a .keras file or a "
            "SavedModel folder: correct it"
        )
    try:
        model = load_keras(source)
    except Exception as error:
        raise InputError(
            f"{flag}={source} cannot be loaded ({first_line(error)}); expected a Keras 3 .keras file: save it with "
            "model.save, and name the file that registers its custom layers with --custom_objects"
        ) from error
    shape = getattr(model, "input_shape", None)
    expected = (None, *image_shape)
    if isinstance(shape, tuple) and (
        len(shape) != 4 or any(a not in (None, b) for a, b in zip(shape[1:], expected[1:], strict=True))
    ):
        raise InputError(
            f"{flag}={source} takes images of {shape[1:]}; the data set has {tuple(image_shape)}; expected the same: "
            + ("resize with --image_size or " if shape[-1:] == tuple(image_shape[-1:]) else "")
            + "choose another --dataset"
        )
    return model


def _without_softmax(model):
    """Returns the model up to the logits, where its layers can be taken apart; else the model itself."""
    if (
        not isinstance(model, keras.Sequential | keras.src.models.Functional)
        or not model.built
        or len(model.inputs) + len(model.outputs) != 2
    ):
        return model
    last = model.outputs[0]._keras_history.operation
    kind = type(last)
    if kind is layers.Softmax:
        return keras.Model(model.inputs[0], last.input)
    # Of these alone is it known what `activation` means, and that it can be None.
    if kind not in (layers.Activation, layers.Dense, layers.Conv2D) or last.activation is not keras.activations.softmax:
        return model
    if kind is layers.Activation:
        return keras.Model(model.inputs[0], last.input)
    linear = last.__class__.from_config({**last.get_config(), "activation": None, "name": f"{last.name}_logits"})
    logits = linear(last.input)
    linear.set_weights(last.get_weights())
    return keras.Model(model.inputs[0], logits)


def _load_saved_model(source, flag):
    if (source / "classifier.keras").is_file() and not (source / "saved_model.pb").exists():
        raise InputError(
            f"{flag}={source} is a work folder; expected a file or a SavedModel: give {source / 'classifier.keras'}"
        )
    try:
        loaded = saved_model.load(source)
        signature = loaded.signatures["serving_default"]
    except Exception as error:
        raise InputError(
            f"{flag}={source} cannot be loaded ({first_line(error)}); expected a SavedModel with the signature "
            "serving_default: export it with model.export"
        ) from error
    _, inputs = signature.structured_input_signature
    if len(inputs) != 1 or len(signature.structured_outputs) != 1:
        raise InputError(
            f"{flag}={source} has {len(inputs)} inputs and {len(signature.structured_outputs)} outputs; expected one of "
            "each, images and logits: export such a signature"
        )
    ((name, spec),) = inputs.items()

    def outputs_of(images):
        return next(iter(signature(**{name: tf.cast(images, spec.dtype)}).values()))

    outputs_of.model = loaded  # its variables live as long as the function is used
    return outputs_of
