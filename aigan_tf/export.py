"""The generator as a SavedModel that TensorFlow Serving picks up as it is."""

import functools
import pathlib

import tensorflow as tf

from aigan_tf.perturbation import apply_perturbation, smooth_bound
from aigan_tf.workdir import atomic_folder


class ServedGenerator(tf.Module):
    """Checks a request inside the graph, then perturbs its images.

    Args:
        generator: images and classes to directions.
        image_shape: `(height, width, channels)` it was trained for.
        num_classes: classes that may be asked for.
        epsilon: L-infinity budget as a fraction of the pixel range.
        targeted: whether the class is a target (`target_class`) or the true one (`label`).
        variable_epsilon: whether the generator takes budgets up to `epsilon`.
    """

    def __init__(
        self,
        generator,
        image_shape,
        num_classes: int,
        epsilon: float,
        targeted: bool,
        variable_epsilon: bool = False,
    ):
        super().__init__()
        # The variables are tracked, so that they are saved; the model is not: Keras would add signatures of its own.
        self.generator_variables = [variable.value for variable in generator.variables]
        self.directions = functools.partial(generator, training=False)
        self.image_shape = tuple(image_shape)
        self.num_classes = num_classes
        self.epsilon = epsilon
        self.class_input = "target_class" if targeted else "label"
        self.variable_epsilon = variable_epsilon

    def attack(self, images: tf.Tensor, classes: tf.Tensor, epsilons: tf.Tensor | None = None) -> tf.Tensor:
        """Returns adversarial images float32, unchecked; `epsilons` float32 `(batch,)`, None for the greatest."""
        if epsilons is None:
            epsilons = tf.fill(tf.shape(classes), self.epsilon)
        budgets = {"budgets": epsilons / self.epsilon} if self.variable_epsilon else {}
        perturbations = smooth_bound(self.directions(images, classes, **budgets), epsilons)
        return apply_perturbation(images, perturbations, epsilons)

    def signatures(self) -> dict[str, tf.types.experimental.PolymorphicFunction]:
        """Returns the signatures by name.

        serving_default: images float32 and a class int32 an image, to adversarial images and
        perturbation. Of a generator that takes budgets also with_epsilon: the same, with an epsilon
        float32 for each image, up to the greatest, which serving_default uses.

        The shapes of its inputs are open, so that a wrong one reaches the graph's own check, which
        names what was expected, instead of an error of the runtime.
        """
        specs = {
            "images": tf.TensorSpec(None, tf.float32, name="images"),
            self.class_input: tf.TensorSpec(None, tf.int32, name=self.class_input),
        }

        def serve(**inputs):
            images, classes = inputs["images"], inputs[self.class_input]
            with tf.control_dependencies(self.refusals(images, classes, inputs.get("epsilon"))):
                # Only tells the graph the shapes that were checked. Not ensure_shape: it would fail first, unnamed.
                images = tf.reshape(images, (-1, *self.image_shape))
                classes = tf.reshape(classes, (-1,))
                epsilons = tf.reshape(inputs["epsilon"], (-1,)) if "epsilon" in inputs else None
            adversarial_images = self.attack(images, classes, epsilons)
            return {
                "adversarial_images": tf.identity(adversarial_images, name="adversarial_images"),
                # What was really added, after clipping to [0, 1].
                "perturbation": tf.identity(adversarial_images - images, name="perturbation"),
            }

        signatures = {"serving_default": tf.function(serve).get_concrete_function(**specs)}
        if self.variable_epsilon:
            specs["epsilon"] = tf.TensorSpec(None, tf.float32, name="epsilon")
            signatures["with_epsilon"] = tf.function(serve).get_concrete_function(**specs)
        return signatures

    def refusals(self, images, classes, epsilons=None):
        """Assertions that fail a bad request as InvalidArgument, each naming its cause; in this order."""
        height, width, channels = self.image_shape
        name = self.class_input
        checks = (
            (
                # Compared as text of any length, since shapes of different rank cannot be compared elementwise.
                lambda: tf.equal(
                    tf.strings.reduce_join(tf.as_string(tf.shape(images)[1:]), separator=","),
                    ",".join(map(str, self.image_shape)),
                ),
                f"images must have the shape (batch, {height}, {width}, {channels}); received",
                lambda: tf.shape(images),
            ),
            (
                lambda: tf.equal(tf.size(tf.shape(classes)), 1),
                f"{name} must have the shape (batch,); received",
                lambda: tf.shape(classes),
            ),
            (
                lambda: tf.equal(tf.shape(images)[0], tf.size(classes)),
                f"images and {name} must have the same batch size; received",
                lambda: tf.stack([tf.shape(images)[:1], tf.shape(classes)[:1]]),
            ),
            # Some kernels fail on an empty batch (oneDNN's fused convolutions), so every server refuses it alike.
            (
                lambda: tf.size(classes) > 0,
                "the batch must hold at least one image; received",
                lambda: tf.size(classes),
            ),
            (
                lambda: ~tf.reduce_any(tf.math.is_nan(images)),
                "images must not hold NaN; received NaN among",
                lambda: tf.size(images),
            ),
            (
                lambda: tf.reduce_all((images >= 0.0) & (images <= 1.0)),
                "images must lie in [0, 1]; received values from and to",
                lambda: tf.stack([tf.reduce_min(images), tf.reduce_max(images)]),
            ),
            (
                lambda: tf.reduce_all((classes >= 0) & (classes < self.num_classes)),
                f"{name} must lie in [0, {self.num_classes - 1}]; received from and to",
                lambda: tf.stack([tf.reduce_min(classes), tf.reduce_max(classes)]),
            ),
        )
        epsilon_checks = (
            (
                lambda: tf.equal(tf.size(tf.shape(epsilons)), 1) & tf.equal(tf.size(epsilons), tf.size(classes)),
                f"epsilon must have the shape (batch,), one for each {name}; received",
                lambda: tf.shape(epsilons),
            ),
            (
                # Not its negation: a NaN fails it too.
                lambda: tf.reduce_all((epsilons > 0.0) & (epsilons <= self.epsilon)),
                f"epsilon must lie above 0 and at most at {self.epsilon:.6g}, as trained; received from and to",
                lambda: tf.stack([tf.reduce_min(epsilons), tf.reduce_max(epsilons)]),
            ),
        )
        assertions = []
        for condition, message, received in checks + (() if epsilons is None else epsilon_checks):
            with tf.control_dependencies(assertions):  # a later check may rely on an earlier one
                assertions = [tf.debugging.Assert(condition(), [message, received()], summarize=8)]
        return assertions


def export_generator(folder: pathlib.Path, served: ServedGenerator) -> pathlib.Path:
    """Writes the next version, `folder/N`, whole or not at all, and returns its path."""
    newest = latest_version(folder)
    path = folder / str(int(newest.name) + 1 if newest else 1)
    with atomic_folder(path) as temporary:
        tf.saved_model.save(served, str(temporary), signatures=served.signatures())
    return path


def latest_version(folder: pathlib.Path) -> pathlib.Path | None:
    """The newest exported version, `folder/N` with the largest N, or None."""
    versions = [path for path in folder.glob("*") if path.name.isdigit()]
    return max(versions, key=lambda path: int(path.name), default=None)
