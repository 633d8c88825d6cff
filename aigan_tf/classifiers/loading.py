"""Loads a user's classifier as a differentiable function from images to logits."""

import contextlib
import functools
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
from aigan_tf.engine.keras_graph import is_layer_graph, producer_of
from aigan_tf.engine.keras_state import own_keras_state
from aigan_tf.engine.saved_model import first_line
from aigan_tf.errors import InputError
from aigan_tf.files import require_regular_file, user_path

LEAST_PROBABILITY = 1e-30  # its logarithm is still finite in float32


def load_classifier(
    path: str,
    example_images: np.ndarray,
    num_classes: int,
    pixel_range: tuple[float, float] = (0.0, 1.0),
    custom_objects: str | None = None,
    needs_gradient: bool = True,
    setting: str = "classifier",
) -> Callable[[tf.Tensor], tf.Tensor]:
    """Loads a classifier from a file, to be attacked.

    A final softmax is removed, since saturated probabilities leave attacks without gradients. If it cannot be removed,
    the logarithms of the probabilities are used, with a warning.

    Args:
        path: a .keras file or a SavedModel folder.
        example_images: float32 `(n, height, width, channels)` in `[0, 1]`, to check its output on.
        num_classes: number of classes of the data set.
        pixel_range: the values it takes for black and for full intensity.
        custom_objects: a Python file that registers its custom layers with
            `keras.saving.register_keras_serializable`; it is executed.
        needs_gradient: whether attacks follow its gradient, rather than query it as a black box.
        setting: the setting that gave `path`.

    Returns:
        A callable from float32 images in `[0, 1]` to logits `(batch, num_classes)`.

    Raises:
        InputError: the model cannot be loaded, or its input or output does not fit the data set.
    """
    if custom_objects:
        run_python(custom_objects)
    if user_path(path).is_dir():
        outputs_of = _load_saved_model(path, setting)
    else:
        outputs_of = frozen(_without_softmax(_load_fitting_model(path, example_images.shape[1:], setting)))
    return checked_classifier(outputs_of, path, setting, example_images, num_classes, pixel_range, needs_gradient)


def load_for_training(
    path: str,
    example_images: np.ndarray,
    pixel_range: tuple[float, float] = (0.0, 1.0),
    custom_objects: str | None = None,
) -> tuple[keras.Model, keras.Model]:
    """Loads a classifier from a file, to be trained further.

    Args:
        path, example_images, pixel_range, custom_objects: as in `load_classifier`, which has accepted it.

    Returns:
        The model of the file, and a model from images in `[0, 1]` to logits around its layers. Once the second is
        trained, `copy_weights_back` brings its weights into the first.

    Raises:
        InputError: it is not a .keras file, or has nothing to train.
    """
    refusal = functools.partial(_refusal, path, "classifier")
    if user_path(path).is_dir():
        raise refusal(
            "is a SavedModel, whose weights cannot be trained further",
            "a .keras file with `defense`",
            "save it with model.save",
        )
    if custom_objects:
        run_python(custom_objects)
    model = _load_fitting_model(path, example_images.shape[1:], "classifier")
    if not model.trainable_variables:
        raise refusal("has no trainable weights", "some with `defense`", "make it trainable before saving it")
    low, high = pixel_range
    with own_keras_state():  # float32: float16 resolves pixels of [0, 255] to an eighth of a grey level
        images = keras.Input(example_images.shape[1:])
        pixels = layers.Rescaling(high - low, low)(images)
    outputs = _without_softmax(model)(pixels)
    logits = keras.Model(images, outputs)
    if _are_probabilities(np.asarray(logits(example_images))):
        logits = keras.Model(images, keras.ops.log(keras.ops.maximum(outputs, LEAST_PROBABILITY)))
    return model, logits


def copy_weights_back(model: keras.Model, logits: keras.Model) -> None:
    """Copies trained weights into the model of the file; `load_for_training` returned both.

    They share all layers except a last one whose softmax was split off.
    """
    inner = next(layer for layer in logits.layers if isinstance(layer, keras.Model))
    if inner is not model:
        last, linear = (producer_of(part.outputs[0]) for part in (model, inner))
        if last.weights:  # not a Softmax layer, which the other model lacks
            last.set_weights(linear.get_weights())


def as_classifier(
    model: keras.Model | Callable[[tf.Tensor], tf.Tensor],
    example_images: np.ndarray,
    num_classes: int | None,
    pixel_range: tuple[float, float] = (0.0, 1.0),
    needs_gradient: bool = True,
) -> Callable[[tf.Tensor], tf.Tensor]:
    """Does the same as `load_classifier` for a model in memory, which is not changed, or any callable.

    `num_classes` None accepts any number of outputs.
    """
    outputs_of = model
    if isinstance(model, keras.Model):
        with contextlib.suppress(Exception):  # the call below fails too, and its error is reported
            model.built or model.build((None, *example_images.shape[1:]))
        outputs_of = frozen(_without_softmax(model))
    received = type(model).__name__
    return checked_classifier(
        outputs_of, received, "classifier", example_images, num_classes, pixel_range, needs_gradient
    )


def checked_classifier(
    outputs_of: Callable[[tf.Tensor], tf.Tensor],
    received: str,
    setting: str | None,
    example_images: np.ndarray,
    num_classes: int | None,
    pixel_range: tuple[float, float],
    needs_gradient: bool,
) -> Callable[[tf.Tensor], tf.Tensor]:
    """Checks a classifier's outputs on some images and returns it as images in `[0, 1]` to logits.

    Args:
        outputs_of: from images in `pixel_range`.
        received: what it is called in errors: the value of `setting`, or its path if it comes from no setting.
        setting: the setting that gave it, or None.
        example_images, num_classes, pixel_range, needs_gradient: as in `load_classifier`.

    Returns:
        A callable from float32 images in `[0, 1]` to logits `(batch, num_classes)`.

    Raises:
        InputError: it fails on such images, its outputs do not fit, or it has no gradient.
    """
    low, high = pixel_range
    refusal = functools.partial(_refusal, received, setting)

    def classifier(images):
        # float32: a model of mixed precision may return float16, in which small probabilities are zero.
        return tf.cast(outputs_of(images * (high - low) + low), tf.float32)

    try:
        outputs = np.asarray(classifier(tf.constant(example_images)))
    except Exception as error:  # whatever the model's own layers raise
        raise refusal(
            f"fails on images of {example_images.shape[1:]} ({first_line(error)})",
            "a model that takes such images",
            "choose the data set it was trained on, or resize the images with `image_size` in training",
        ) from error
    _check_outputs(outputs, len(example_images), num_classes, refusal)
    if needs_gradient and not has_usable_gradient(classifier, example_images):
        raise refusal(
            "has no usable gradient",
            "a finite gradient with respect to float32 images that is not zero everywhere, which attacks follow",
            "attack it as a black box: give `black_box` in training, e.g. resnet20",
        )
    if _are_probabilities(outputs):
        logging.getLogger(__name__).warning(
            "%s returns probabilities and its softmax cannot be removed: their logarithms are used as logits.",
            f"{setting}={received}" if setting else received,
        )
        return lambda images: tf.math.log(tf.maximum(classifier(images), LEAST_PROBABILITY))
    return classifier


def _refusal(received, setting, problem, expected, fix):
    if setting is None:
        return InputError(f"{received} {problem}", expected, fix)
    return InputError(received, expected, fix, setting=setting, problem=problem)


def _check_outputs(outputs, num_images, num_classes, refusal):
    if num_classes is None and outputs.ndim == 2 and outputs.shape[1] > 1:
        num_classes = outputs.shape[1]
    if outputs.shape != (num_images, num_classes):
        raise refusal(
            f"returns outputs of shape {outputs.shape[1:]} per image",
            f"({num_classes},), one logit per class of the data set",
            "choose the data set it was trained on",
        )
    if not np.isfinite(outputs).all():
        raise refusal("returns NaN or infinite outputs", "finite logits", "check the model and `input_range`")


def has_usable_gradient(classifier: Callable[[tf.Tensor], tf.Tensor], images: np.ndarray) -> bool:
    """Whether the gradient of the strongest logit with respect to the images exists, is finite, and is not zero everywhere.

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
    """Returns the path of a file of `custom_objects`.

    Raises:
        InputError: it does not exist, or is not a Python file.
    """
    source = user_path(file)
    if not source.is_file() or source.suffix != ".py":
        raise InputError(
            file,
            "an existing file whose name ends in .py",
            "correct the path",
            setting="custom_objects",
            problem="is not a Python file",
        )
    return source


def run_python(file: str) -> None:
    """Runs a Python file that registers custom layers.

    Raises:
        InputError: it is not a Python file, or it fails.
    """
    spec = importlib.util.spec_from_file_location("aigan_tf_custom_objects", python_file(file))
    try:
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
    except (Exception, SystemExit) as error:
        reason = "it exits" if isinstance(error, SystemExit) else first_line(error)
        raise InputError(
            file,
            "Python that registers the classifier's custom layers",
            "correct it",
            setting="custom_objects",
            problem=f"fails ({reason})",
        ) from error


def load_keras(path: pathlib.Path) -> keras.Model:
    """Returns the model of a .keras file, after checking the checksums of this zip archive, which Keras ignores.

    Raises:
        Exception: anything that Keras raises; OSError or `zipfile.BadZipFile` if the file is not one, or is damaged.
    """
    require_regular_file(path)
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged:
            raise zipfile.BadZipFile(f"{damaged} in it is damaged")
    return keras.models.load_model(path, compile=False, safe_mode=True)


def _load_fitting_model(path, image_shape, setting):
    """Returns the model of a user's .keras file, which takes images of this shape."""
    refusal = functools.partial(_refusal, path, setting)
    source = user_path(path)
    if not source.is_file():
        raise refusal(
            "does not exist",
            f"one of {', '.join(ARCHITECTURES)}, a .keras file or a SavedModel folder",
            "correct it",
        )
    try:
        model = load_keras(source)
    except Exception as error:  # whatever Keras, HDF5 or the model's own layers raise
        raise refusal(
            f"cannot be loaded ({first_line(error)})",
            "a Keras 3 .keras file",
            "save it with model.save; name the file that registers its custom layers with `custom_objects`",
        ) from error
    shape = getattr(model, "input_shape", None)
    if isinstance(shape, tuple) and (
        len(shape) != 4 or any(a not in (None, b) for a, b in zip(shape[1:], image_shape, strict=True))
    ):
        resizable = shape[-1:] == tuple(image_shape[-1:])
        raise refusal(
            f"takes images of {shape[1:]}",
            f"a model for images of {tuple(image_shape)}, as in the data set",
            "resize them with `image_size`" if resizable else "choose another `dataset`",
        )
    return model


def _without_softmax(model):
    """Returns the model up to its logits if its layers can be taken apart, else the model itself."""
    if not is_layer_graph(model) or not model.built or len(model.inputs) + len(model.outputs) != 2:
        return model
    last = producer_of(model.outputs[0])
    kind = type(last)
    if kind is layers.Softmax:
        return keras.Model(model.inputs[0], last.input)
    # Only for these is it known what `activation` means, and that it may be None.
    if kind not in (layers.Activation, layers.Dense, layers.Conv2D) or last.activation is not keras.activations.softmax:
        return model
    if kind is layers.Activation:
        return keras.Model(model.inputs[0], last.input)
    linear = last.__class__.from_config({**last.get_config(), "activation": None, "name": f"{last.name}_logits"})
    logits = linear(last.input)
    linear.set_weights(last.get_weights())
    return keras.Model(model.inputs[0], logits)


def _load_saved_model(path, setting):
    refusal = functools.partial(_refusal, path, setting)
    source = user_path(path)
    if (source / "classifier.keras").is_file() and not (source / "saved_model.pb").exists():
        raise refusal("is a run's folder", "a file or a SavedModel folder", f"give {source / 'classifier.keras'}")
    try:
        loaded = saved_model.load(source)
        signature = loaded.signatures["serving_default"]
    except Exception as error:  # whatever TensorFlow raises for a damaged folder
        raise refusal(
            f"cannot be loaded ({first_line(error)})",
            "a SavedModel with the signature serving_default",
            "export it with model.export",
        ) from error
    _, inputs = signature.structured_input_signature
    outputs = signature.structured_outputs
    if len(inputs) != 1 or len(outputs) != 1:
        raise refusal(
            f"has {len(inputs)} inputs and {len(outputs)} outputs",
            "one of each, images and logits",
            "export such a signature",
        )
    ((name, spec),) = inputs.items()

    def outputs_of(images):
        return next(iter(signature(**{name: tf.cast(images, spec.dtype)}).values()))

    outputs_of.model = loaded  # keeps its variables alive as long as the function
    return outputs_of
