"""The method in a few lines of Python: for a notebook, and for a classifier that is in memory already."""

import difflib
import os
import pathlib
import tempfile
from collections.abc import Callable, Mapping, Sequence

import keras
import numpy as np
import tensorflow as tf

from aigan_tf import saved_model
from aigan_tf.adoption import attackable_model, first_line
from aigan_tf.config import Config
from aigan_tf.data import MIN_SIDE, ImageDataset, hold_out
from aigan_tf.errors import InputError, user_path
from aigan_tf.evaluation import predictions
from aigan_tf.export import ServedGenerator, export_generator, latest_version
from aigan_tf.splits import Split
from aigan_tf.training import train_generator
from aigan_tf.workdir import Workdir

# Those of train.py's settings that are the method's own; data and classifier are given as they are.
SETTINGS = (
    "attack", "bound", "variable_epsilon", "gan_weight", "hinge_weight", "hinge_threshold", "attack_steps", "attack_step_size",
    "stage1_epochs", "stage2_epochs", "switch", "switch_success", "steps_per_epoch", "batch_size", "optimizer",
    "learning_rate", "discriminator_learning_rate", "mixed_precision", "flip", "max_shift", "generator_width", "generator_blocks", "seed",
)  # fmt: skip


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
        given = classes if isinstance(classes, list | tuple) else np.asarray(classes)
        if np.ndim(given) == 0:
            return np.array(number(np.asarray(given).item()), np.int32)
        if isinstance(given, np.ndarray) and given.ndim > 1:
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
    images, labels = _arrays(images_or_dataset, labels)
    if images.ndim != 4 or min(images.shape[1:3]) < MIN_SIDE or images.shape[3] not in (1, 3):
        raise InputError(
            f"images have the shape {images.shape}; expected (n, height, width, channels), sides from {MIN_SIDE} and 1 or 3 "
            "channels: reshape them"
        )
    low, high = input_range
    if not low < high:
        raise InputError(f"input_range={input_range}: expected (low, high), such as (0, 255): correct it")
    examples = images[:16].astype(np.float32) / 255
    attacked = attackable_model(classifier, examples, None if class_names is None else len(class_names), input_range)
    num_classes = int(attacked(tf.constant(examples)).shape[-1])
    if labels is None:
        labels = predictions(attacked, images.astype(np.float32) / 255)
    labels = _checked_labels(labels, len(images), num_classes)
    train, validation = hold_out(Split(images, labels))
    if config.batch_size > len(train):
        raise InputError(f"batch_size={config.batch_size}: expected at most the {len(train)} training images: lower it")
    names = tuple(class_names) if class_names is not None else tuple(map(str, range(num_classes)))
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
    epsilon: float | None = None,
) -> np.ndarray:
    """Returns adversarial images of a generator, or of the one in a folder; see `TrainedGenerator.__call__`."""
    if not isinstance(generator, TrainedGenerator):
        generator = load_generator(generator)
    return generator(images, target_classes, epsilon)


def _arrays(images_or_dataset, labels):
    """Returns uint8 images and their labels, or None where there are none."""
    if isinstance(images_or_dataset, tf.data.Dataset):
        images, found = _read(images_or_dataset)
        labels = found if labels is None else labels
    else:
        images = np.asarray(images_or_dataset)
    if len(images) < 2:
        raise InputError(f"{len(images)} images given; expected at least two, and better thousands: give more")
    if images.dtype != np.uint8:
        if not (images.min() >= 0 and images.max() <= 1):  # not <: a NaN fails it too
            raise InputError(
                f"{images.dtype} images from {images.min()} to {images.max()}; expected [0, 1], or uint8 in [0, 255]: rescale "
                "them"
            )
        images = np.round(images * 255).astype(np.uint8)
    return images, labels


def _read(dataset):
    """Returns the images of a tf.data.Dataset, and its labels or None, as arrays."""
    if dataset.cardinality() == tf.data.INFINITE_CARDINALITY:
        raise InputError("the data set never ends; expected one pass over the images: leave repeat() out")
    spec = dataset.element_spec
    if isinstance(spec, dict) and {"image", "label"} <= spec.keys():  # as TFDS gives them
        dataset = dataset.map(lambda element: (element["image"], element["label"]))
        spec = dataset.element_spec
    columns = spec if isinstance(spec, tuple) else (spec,)
    if len(columns) > 2 or not all(isinstance(column, tf.TensorSpec) for column in columns):
        raise InputError(f"the data set holds {spec}; expected images, or pairs of images and labels: map it to those")
    if columns[0].shape.rank == 3:
        dataset = dataset.batch(500)
    parts = [element if isinstance(spec, tuple) else (element,) for element in dataset.as_numpy_iterator()]
    if not parts:
        raise InputError("the data set is empty; expected images: look at how it was made")
    images, *labels = (np.concatenate(column) for column in zip(*parts, strict=True))
    return images, labels[0] if labels else None


def _checked_labels(labels, count, num_classes):
    """Returns labels as int32 `(count,)`."""
    labels = np.asarray(labels)
    if labels.shape == (count, 1):  # as keras.datasets gives them
        labels = labels[:, 0]
    if labels.shape != (count,) or labels.dtype.kind not in "iu":
        raise InputError(
            f"labels are {labels.dtype} of shape {labels.shape}; expected whole numbers of shape ({count},), one an image: "
            "convert them"
        )
    if labels.min() < 0 or labels.max() >= num_classes:
        raise InputError(
            f"labels go from {labels.min()} to {labels.max()}; expected 0 to {num_classes - 1}, as the classifier answers: "
            "correct them"
        )
    return labels.astype(np.int32)
