"""The method in a few lines of Python: for a notebook, and for a classifier that is in memory already."""

import os
import pathlib
import tempfile
from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf

from aigan_tf.adoption import attackable_model
from aigan_tf.config import Config
from aigan_tf.data import ImageDataset, Split, hold_out
from aigan_tf.errors import InputError, user_path
from aigan_tf.evaluation import predictions
from aigan_tf.export import ServedGenerator, export_generator, latest_version
from aigan_tf.training import train_generator
from aigan_tf.workdir import Workdir


class TrainedGenerator:
    """A trained generator, ready to attack; `fit_generator` and `load_generator` make one.

    Args:
        signatures: those of its SavedModel, by name.
        class_names: name of each class; None where they are not known.
        served: what `export` writes; None where it was loaded.
    """

    def __init__(self, signatures, class_names: Sequence[str] | None, served: ServedGenerator | None = None):
        self.signatures = signatures
        self.class_names = class_names
        self.served = served
        inputs = signatures["serving_default"].structured_input_signature[1]
        self.class_input = "target_class" if "target_class" in inputs else "label"

    def __call__(
        self,
        images: np.ndarray | tf.Tensor,
        target_classes: int | str | Sequence[int | str] | np.ndarray,
        epsilon: float | None = None,
        batch_size: int = 500,
    ) -> np.ndarray:
        """Returns adversarial images.

        Args:
            images: `(n, height, width, channels)`, float in `[0, 1]` or uint8 in `[0, 255]`.
            target_classes: numbers or names, one an image or one for all; of an untargeted generator the labels.
            epsilon: L-infinity budget as a fraction of the pixel range, of a generator trained with
                `variable_epsilon`; None for the greatest, which any other always uses.
            batch_size: images at once.

        Returns:
            float32, shape of `images`, in `[0, 1]` and within the budget.

        Raises:
            InputError: a class is not known, or the generator takes no epsilon.
            tf.errors.InvalidArgumentError: images or classes do not fit the generator; the message names why.
        """
        images = np.asarray(images)
        images = images.astype(np.float32) / (255.0 if images.dtype == np.uint8 else 1.0)
        classes = self._numbers(target_classes, len(images))
        if epsilon is None:
            signature, extra = self.signatures["serving_default"], {}
        elif "with_epsilon" in self.signatures:
            signature, extra = self.signatures["with_epsilon"], {"epsilon": np.full(len(images), epsilon, np.float32)}
        else:
            raise InputError(
                f"epsilon={epsilon}: this generator has one budget; expected none: train one with variable_epsilon=True"
            )
        inputs = {"images": images, self.class_input: classes, **extra}
        batches = [
            signature(**{name: tf.constant(value[start : start + batch_size]) for name, value in inputs.items()})
            for start in range(0, max(len(images), 1), batch_size)
        ]
        return np.concatenate([batch["adversarial_images"] for batch in batches])

    def _numbers(self, classes, count):
        names = list(self.class_names or ())
        given = np.asarray(classes)
        if given.dtype.kind in "US":
            unknown = sorted(set(map(str, given.ravel())) - set(names))
            if unknown:
                known = ", ".join(names) or "numbers, its names are not known"
                raise InputError(f"target_classes has {unknown[0]!r}; expected one of {known}: correct it")
            given = np.array([names.index(str(name)) for name in given.ravel()]).reshape(given.shape)
        return np.broadcast_to(given, (count,) if given.ndim == 0 else given.shape).astype(np.int32)

    def export(self, folder: str | os.PathLike) -> pathlib.Path:
        """Writes it as a SavedModel for TensorFlow Serving, `folder/1` or the next number, and returns that path.

        Raises:
            InputError: it was loaded, so it lies in a file already.
        """
        if self.served is None:
            raise InputError(
                "a loaded generator is a SavedModel already; expected one from fit_generator: copy its folder"
            )
        preset = {"epsilon": self.served.epsilon, "attack": "targeted" if self.served.targeted else "untargeted"}
        return export_generator(user_path(folder), self.served, preset)


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
        **settings: any other of `Config`, as `train.py --help` lists them: stage1_epochs, stage2_epochs,
            steps_per_epoch, attack, seed, ...

    Returns:
        The generator. A tenth of the images, at most 2,000, were held out for what is shown while it trains.

    Raises:
        InputError: the classifier, the images or a setting cannot be used.
    """
    config = Config(epsilon=epsilon, **settings)
    images, labels = _arrays(images_or_dataset, labels)
    if images.ndim != 4 or len(images) < 2:
        raise InputError(f"images have the shape {images.shape}; expected (n, height, width, channels): reshape them")
    examples = images[:16].astype(np.float32) / 255
    low, high = input_range
    outputs = np.asarray(classifier(tf.constant(examples * (high - low) + low)))
    num_classes = len(class_names) if class_names is not None else outputs.shape[-1]
    attacked = attackable_model(classifier, examples, num_classes, input_range)
    if labels is None:
        labels = predictions(attacked, images.astype(np.float32) / 255)
    if len(labels) != len(images) or labels.min() < 0 or labels.max() >= num_classes:
        raise InputError(
            f"{len(labels)} labels from {labels.min()} to {labels.max()}; expected one for each of {len(images)} images, from "
            f"0 to {num_classes - 1}: correct them"
        )
    train, validation = hold_out(Split(images, labels.astype(np.int32)))
    if config.batch_size > len(train):
        raise InputError(f"batch_size={config.batch_size}: expected at most the {len(train)} training images: lower it")
    names = tuple(class_names) if class_names is not None else tuple(map(str, range(num_classes)))
    dataset = ImageDataset("images", names, train, validation, test=validation)
    with tempfile.TemporaryDirectory() as folder:
        trained = train_generator(config, dataset, attacked, Workdir(folder))
    served = ServedGenerator(
        trained.generator, dataset.image_shape, names, config.epsilon, config.targeted, config.variable_epsilon
    )
    return TrainedGenerator(served.signatures(), names, served)


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
    try:
        loaded = tf.saved_model.load(str(version))
        signatures = {"serving_default": loaded.signatures["serving_default"], **loaded.signatures}
    except (OSError, ValueError, KeyError) as error:
        raise InputError(
            f"{version} cannot be loaded; expected a generator that aigan_tf exported: restore it"
        ) from error
    names = version / "assets" / "class_names.txt"
    class_names = names.read_text(encoding="utf-8").splitlines() if names.exists() else None
    generator = TrainedGenerator(signatures, class_names)
    generator.loaded = loaded  # its variables live as long as it does
    return generator


def attack(
    generator: TrainedGenerator | str | os.PathLike,
    images: np.ndarray | tf.Tensor,
    target_classes: int | str | Sequence[int | str] | np.ndarray,
    epsilon: float | None = None,
) -> np.ndarray:
    """Returns adversarial images of a generator, or of the one in a folder; see `TrainedGenerator.__call__`."""
    if not isinstance(generator, TrainedGenerator):
        generator = load_generator(generator)
    return generator(images, target_classes, epsilon)


def _arrays(images_or_dataset, labels):
    """Returns uint8 images and their labels, or None where there are none."""
    if isinstance(images_or_dataset, tf.data.Dataset):
        spec = images_or_dataset.element_spec
        labelled = isinstance(spec, tuple)
        if (spec[0] if labelled else spec).shape.rank == 3:
            images_or_dataset = images_or_dataset.batch(500)
        parts = [element if labelled else (element,) for element in images_or_dataset.as_numpy_iterator()]
        columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
        images = columns[0]
        labels = columns[1] if labelled and labels is None else labels
    else:
        images = np.asarray(images_or_dataset)
    if images.dtype != np.uint8:
        if not (images.size and images.min() >= 0 and images.max() <= 1):  # not <: a NaN fails it too
            raise InputError(
                f"{images.dtype} images from {images.min(initial=0)} to {images.max(initial=0)}; expected [0, 1], or uint8 in "
                "[0, 255]: rescale them"
            )
        images = np.round(images * 255).astype(np.uint8)
    return images, None if labels is None else np.asarray(labels)
