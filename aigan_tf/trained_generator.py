"""A trained generator in memory: calling it on arrays, pictures and tensors, loading and exporting it."""

import contextlib
import functools
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import NoReturn

import numpy as np
import tensorflow as tf
from PIL.Image import Image

from aigan_tf.data import arrays, next_steps, pictures
from aigan_tf.data.classes import class_number
from aigan_tf.engine import saved_model
from aigan_tf.engine.memory import images_per_call
from aigan_tf.engine.saved_model import first_line
from aigan_tf.errors import InputError, graph_refusal, shown_value
from aigan_tf.exported import read_export_info, require_version
from aigan_tf.files import read_bytes, user_path
from aigan_tf.serving.export import export_generator
from aigan_tf.workdir import Workdir


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
            refuse_shape(images.shape, self.image_shape)
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


def refuse_shape(shape: tuple[int, ...], wanted: tuple[int, ...] | None, bounds: str = "") -> NoReturn:
    """Refuses images of a shape; `wanted` is that of one image, None for any."""
    form = ", ".join(map(str, wanted or ("height", "width", "channels")))
    raise InputError(
        f"the images have the shape {tuple(shape)}", f"(n, {form}){bounds}", next_steps.for_shape(tuple(shape), wanted)
    )
