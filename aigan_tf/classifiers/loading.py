"""Takes a user's classifier from a file or from memory, as a differentiable function from images to logits."""

import contextlib
import logging
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from aigan_tf.classifiers import calling, limits
from aigan_tf.classifiers.architectures import frozen
from aigan_tf.classifiers.model_files import load_keras, run_python
from aigan_tf.classifiers.outputs import (
    Outputs,
    kind_of_outputs,
    logits_by_arithmetic,
    logits_of,
    shows_logits,
)
from aigan_tf.classifiers.paths import model_path
from aigan_tf.classifiers.preprocessing import UNCHANGED, Preprocessing
from aigan_tf.engine import saved_model
from aigan_tf.engine.keras_state import own_keras_state
from aigan_tf.engine.saved_model import first_line
from aigan_tf.engine.traced_graph import GraphClassifier, ends_in_a_call, largest_tensor, with_calls_expanded
from aigan_tf.errors import InputError, say

TOLERANCE = (
    1e-2  # of an image's largest output: the same image in another batch differs by rounding, in float16 by this
)


class Refusals:
    """Words the refusals of one classifier.

    Args:
        received: what it is called: the value of `setting`, or its path if it comes from no setting.
        setting: the setting that gave it, or None.
    """

    def __init__(self, received: str, setting: str | None):
        self.received = received
        self.setting = setting

    def __call__(self, problem: str, expected: str, fix: str) -> InputError:
        """Returns the error."""
        if self.setting is None:
            return InputError(f"{self.received} {problem}", expected, fix)
        return InputError(self.received, expected, fix, setting=self.setting, problem=problem)

    @property
    def name(self) -> str:
        """What the classifier is called in warnings."""
        return f"{self.setting}={self.received}" if self.setting else self.received

    @contextlib.contextmanager
    def of_misfits(self):
        """Turns a `calling.Misfit` within the block into an `InputError`."""
        try:
            yield
        except calling.Misfit as misfit:
            raise self(*misfit.args) from misfit

    @contextlib.contextmanager
    def of_failures(self, image_shape):
        """Turns whatever a model's own layers raise within the block, on images of this shape, into an `InputError`."""
        try:
            yield
        except Exception as error:
            raise self(
                f"fails on images of {image_shape} ({first_line(error)})",
                "a model that takes such images",
                "choose the data set it was trained on, or resize the images with `image_size` in training",
            ) from error


def load_classifier(
    path: str,
    example_images: np.ndarray,
    num_classes: int | None,
    preprocessing: Preprocessing = UNCHANGED,
    output: str | None = None,
    custom_objects: str | None = None,
    needs_gradient: bool = True,
    setting: str = "classifier",
) -> Callable[[tf.Tensor], tf.Tensor]:
    """Loads a classifier from a file, to be attacked.

    Args:
        path: a Keras model file (.keras, or HDF5 of any Keras) or a SavedModel folder.
        example_images: float32 `(n, height, width, channels)` in `[0, 1]`, to check its output on.
        num_classes: number of classes of the data set; None accepts any.
        preprocessing: from images to what it takes.
        output: the name of the output to attack, if it has several.
        custom_objects: a Python file that registers its custom layers with
            `keras.saving.register_keras_serializable`; it is executed.
        needs_gradient: whether attacks follow its gradient, rather than query it as a black box.
        setting: the setting that gave `path`.

    Returns:
        A callable from float32 images in `[0, 1]` to logits `(batch, num_classes)`.

    Raises:
        InputError: the model cannot be loaded, or its input or output does not fit the data set.
    """
    refusal, source = Refusals(path, setting), model_path(path, setting)
    if custom_objects:
        run_python(custom_objects)
    say(f"Loading the classifier {path}.")
    if not source.is_dir():
        model = _load_model_file(source, refusal)
        return _checked(
            model, refusal, example_images, num_classes, preprocessing, output, needs_gradient, is_foreign=True
        )
    loaded = _load_saved_model(source, refusal)
    with refusal.of_misfits():
        run, inputs = calling.signature_of(loaded)
    run.model = loaded  # keeps its variables alive as long as the function
    return _checked(run, refusal, example_images, num_classes, preprocessing, output, needs_gradient, inputs)


def as_classifier(
    model: keras.Model | Callable[[tf.Tensor], tf.Tensor],
    example_images: np.ndarray,
    num_classes: int | None,
    preprocessing: Preprocessing = UNCHANGED,
    output: str | None = None,
    needs_gradient: bool = True,
) -> Callable[[tf.Tensor], tf.Tensor]:
    """Does the same as `load_classifier` for a model in memory, which is not changed, or any callable."""
    if isinstance(model, keras.Model):
        with contextlib.suppress(Exception):  # the call below fails too, and its error is reported
            model.built or model.build((None, *example_images.shape[1:]))
    refusal = Refusals(type(model).__name__, "classifier")
    return _checked(model, refusal, example_images, num_classes, preprocessing, output, needs_gradient)


def refuse_unfit(
    classifier: Callable[[tf.Tensor], tf.Tensor], received: str, example_images: np.ndarray, num_classes: int
) -> None:
    """Refuses a classifier that was trained here, called `received`, if it does not give finite logits of the classes.

    Raises:
        InputError: it does not, or fails on such images.
    """
    refusal = Refusals(received, None)
    with refusal.of_failures(tuple(example_images.shape[1:])):
        outputs = tf.convert_to_tensor(classifier(tf.constant(example_images)))
    _check_outputs(outputs, len(example_images), num_classes, refusal)


class TrainableLogits(keras.Model):
    """A user's model as it is trained further: images in `[0, 1]` to logits. The model itself learns.

    Args:
        model: the user's.
        preprocessing: from images to what it takes.
        kind: what it puts out.
    """

    @own_keras_state()  # float32: float16 resolves pixels of [0, 255] to an eighth of a grey level
    def __init__(self, model: keras.Model, preprocessing: Preprocessing, kind: Outputs):
        super().__init__()
        self.model = model
        self.preprocessing = preprocessing
        self.kind = kind

    def call(self, images, training=None):
        """Returns logits `(batch, num_classes)`."""
        return logits_of(self.model(self.preprocessing(images), training=training), self.kind)


def load_for_training(
    path: str,
    example_images: np.ndarray,
    preprocessing: Preprocessing = UNCHANGED,
    custom_objects: str | None = None,
) -> TrainableLogits:
    """Loads a classifier from a file, to be trained further.

    Args:
        path, example_images, preprocessing, custom_objects: as in `load_classifier`, which has accepted it.

    Returns:
        The model of the file, with its preprocessing and logits around it.

    Raises:
        InputError: it is not a Keras model file, or has nothing to train.
    """
    refusal, source = Refusals(path, "classifier"), model_path(path)
    if source.is_dir():
        raise refusal(
            "is a SavedModel, whose weights cannot be trained further",
            "a .keras file with `defense`",
            "save it with model.save",
        )
    if custom_objects:
        run_python(custom_objects)
    model = _load_model_file(source, refusal)
    if not model.trainable_variables:
        raise refusal("has no trainable weights", "some with `defense`", "make it trainable before saving it")
    kind = kind_of_outputs(np.asarray(model(preprocessing(tf.constant(example_images)), training=False)))
    trainable = TrainableLogits(model, preprocessing, kind)
    trainable.build((None, *example_images.shape[1:]))
    return trainable


_STEPS = {  # by what an error names
    "Lambda": "use a registered layer instead, or give the folder that model.export writes",
    "weights without a model": "save the model itself, with model.save",
    "neither a .keras file": "save the model with model.save",
    "asks for": "choose another classifier",
}


def _load_model_file(source, refusal):
    try:
        return load_keras(source)
    except Exception as error:  # whatever Keras, HDF5 or the model's own layers raise
        reason = first_line(error)
        fix = f'name the file that registers its own ones with `custom_objects`, or see {calling.PAGE}, "Layers of your own"'
        raise refusal(
            f"cannot be loaded ({reason})",
            "a model file of Keras 3, or .h5 of Keras 2, of Keras's own layers and activations",
            next((step for word, step in _STEPS.items() if word in reason), fix),
        ) from error


def _load_saved_model(source, refusal):
    try:
        return saved_model.load(source)
    except Exception as error:  # whatever TensorFlow raises for a damaged folder
        raise refusal(
            f"cannot be loaded ({first_line(error)})",
            "a SavedModel with the signature serving_default",
            "export it with model.export",
        ) from error


def _refuse_large_tensors(called, inputs, image_shape, refusal):
    """Refuses a model, before it computes anything, whose layers make far more of an image than there is.

    Args:
        called: from pixels to what it puts out.
        inputs: what it takes, by name.
    """
    batch_size = next((spec.shape[0] for spec in inputs.values() if spec.shape.rank), None)
    one_image, most = tf.TensorSpec((1, *image_shape), tf.float32), limits.max_values(image_shape, batch_size)
    with refusal.of_failures(image_shape):
        size = largest_tensor(tf.function(called).get_concrete_function(one_image))
    if size > most:
        raise refusal(f"makes a tensor of {size:,} values", f"at most {most:,}", "choose a smaller classifier")


def _checked(
    model, refusal, example_images, num_classes, preprocessing, output, needs_gradient, inputs=None, is_foreign=False
):
    """Returns a model as images in `[0, 1]` to logits, after checking all that is asked of it on some images.

    Of the size of its tensors it is checked only if it is the foreign one of a file.
    """
    image_shape, examples = tuple(example_images.shape[1:]), tf.constant(example_images)
    preprocessing.check(image_shape[-1])
    inputs = calling.inputs_of(model) if inputs is None else inputs
    run = frozen(model) if isinstance(model, keras.Model) else calling.in_inference_mode(model)
    with refusal.of_misfits():
        called = calling.called_with_images(run, inputs, image_shape)
    if is_foreign:
        _refuse_large_tensors(lambda images: called(preprocessing(images)), inputs, image_shape, refusal)
    with refusal.of_failures(image_shape):
        first = called(preprocessing(examples))
    with refusal.of_misfits():
        chosen = calling.chosen_output(first, output, getattr(model, "output_names", None))
    outputs = _check_outputs(tf.convert_to_tensor(chosen(first)), len(examples), num_classes, refusal)

    def outputs_of(images):
        found = chosen(called(preprocessing(images)))
        return tf.ensure_shape(tf.reshape(found, (-1, outputs.shape[-1])), (None, outputs.shape[-1]))

    with refusal.of_failures(image_shape):
        traced = tf.function(outputs_of).get_concrete_function(tf.TensorSpec((None, *image_shape), tf.float32))
    _check_steadiness(traced, examples, outputs, refusal)
    classifier = _with_logits(outputs_of, traced, outputs, examples, refusal)
    if needs_gradient:
        _check_gradient(classifier, example_images, refusal)
    return classifier


def _check_outputs(outputs, num_images, num_classes, refusal):
    """Returns outputs float32 `(n, num_classes)`, or `(n, 1)` of a binary classifier, if they are such."""
    if not outputs.dtype.is_floating:
        raise refusal(f"returns {outputs.dtype.name}", "logits or probabilities", "leave out its argmax")
    outputs = np.asarray(tf.cast(outputs, tf.float32))
    shape = outputs.shape[1:]
    columns = num_classes or (outputs.shape[1] if outputs.ndim == 2 else 2)
    if len(outputs) != num_images or (shape != (columns,) and not (columns <= 2 and shape in ((), (1,)))):
        raise refusal(
            f"returns outputs of shape {shape} per image",
            f"({columns},), one logit per class of the data set",
            "choose the data set it was trained on",
        )
    if not np.isfinite(outputs).all():
        lost = np.sum(~np.isfinite(outputs.reshape(num_images, -1)).all(axis=-1))
        raise refusal(
            f"returns NaN or infinite outputs on {lost} of {num_images} images",
            "finite logits",
            "check the model and `input_range`",
        )
    return outputs.reshape(num_images, -1)


def _check_steadiness(outputs_of, images, outputs, refusal):
    """Refuses a classifier whose answer to an image is not always the same."""

    def changed(others):
        difference = np.abs(np.asarray(tf.cast(others, tf.float32)) - outputs)
        scale = np.maximum(np.abs(outputs).max(axis=-1, keepdims=True), 1e-3)
        return int(np.sum((difference > TOLERANCE * scale).any(axis=-1)))

    for problem, fix, others in (
        ("gives two answers to the same images", "call it in inference mode, with training=False", outputs_of(images)),
        (
            "answers by what else is in the batch",
            "call it in inference mode, with fixed statistics",
            tf.concat([outputs_of(images[i : i + 1]) for i in range(len(images))], axis=0),
        ),
    ):
        if count := changed(others):
            raise refusal(f"{problem}, on {count} of {len(images)}", "one answer to an image", fix)


def _with_logits(outputs_of, traced, outputs, examples, refusal):
    """Returns a classifier of logits, and says how they are made of probabilities.

    Args:
        outputs_of: from images to the model's outputs.
        traced: the same as a concrete function.
        outputs: those of `examples`.
    """
    kind, spec = kind_of_outputs(outputs), traced.structured_input_signature[0][0]
    classifier = GraphClassifier(lambda images: logits_of(outputs_of(images), kind))
    if kind is Outputs.LOGITS:
        return classifier
    shown = shows_logits(traced.outputs[0], kind)
    if not shown and ends_in_a_call(traced.outputs[0]):
        with contextlib.suppress(Exception):  # then the calls stay, and the logarithms below
            expanded = with_calls_expanded(traced)
            behind = tf.function(lambda images: logits_of(expanded(images), kind), input_signature=[spec])
            if shown := shows_logits(tf.function(expanded).get_concrete_function(spec).outputs[0], kind):
                classifier = GraphClassifier(behind)
    if shown and not _explains(classifier(examples), outputs, kind):
        shown, classifier = False, GraphClassifier(lambda images: logits_by_arithmetic(outputs_of(images), kind))
    if not shown or (kind is Outputs.SIGMOID and outputs.shape[-1] > 1):
        how = "their logits are attacked" if shown else "their logarithms are used as logits"
        logging.getLogger(__name__).warning("%s returns %s: %s.", refusal.name, kind.value, how)
    return classifier


def _explains(logits, outputs, kind):
    """Whether outputs are those of logits: something behind the last operation may have changed them."""
    again = tf.nn.softmax(logits) if kind is Outputs.SOFTMAX else tf.nn.sigmoid(logits[:, -outputs.shape[-1] :])
    return np.allclose(again, outputs, atol=5e-3)


def _check_gradient(classifier, images, refusal):
    """Refuses a classifier without a gradient, and warns of one that has none on some images."""
    usable = usable_gradients(classifier, images)
    if not usable.any():
        raise refusal(
            "has no usable gradient",
            "a finite gradient with respect to float32 images that is not zero everywhere, which attacks follow",
            "attack it as a black box: give `black_box` in training, e.g. resnet20",
        )
    if not usable.all():
        logging.getLogger(__name__).warning(
            "%s has no gradient on %d of %d images, so that attacks cannot move them; its probabilities may be saturated.",
            refusal.name,
            np.sum(~usable),
            len(usable),
        )


def usable_gradients(classifier: Callable[[tf.Tensor], tf.Tensor], images: np.ndarray) -> np.ndarray:
    """Returns which images have a gradient that attacks can follow, bool `(n,)`: finite, and not zero everywhere.

    It is that of the strongest logit above the mean of all.

    Args:
        classifier: images in `[0, 1]` to logits.
        images: float32 `(n, height, width, channels)` in `[0, 1]`.
    """
    _, gradients = _answers_and_gradients(classifier, images)
    return np.isfinite(gradients).all(axis=-1) & gradients.any(axis=-1)


def not_finite(classifier: Callable[[tf.Tensor], tf.Tensor], images: np.ndarray) -> np.ndarray:
    """Returns on which images a classifier's logits or gradient are NaN or infinite, bool `(n,)`; arguments as above."""
    return ~np.isfinite(np.concatenate(_answers_and_gradients(classifier, images), axis=-1)).all(axis=-1)


def _answers_and_gradients(classifier, images):
    """Returns logits `(n, num_classes)` and the gradient of the strongest above the mean of all, `(n, values)`."""
    images, classifier = tf.constant(images), GraphClassifier.of(classifier)
    with tf.GradientTape() as tape:
        tape.watch(images)
        logits = classifier(images)
        margin = tf.reduce_max(logits, axis=-1) - tf.reduce_mean(logits, axis=-1)
    return np.asarray(logits), np.asarray(tape.gradient(margin, images)).reshape(len(images), -1)
