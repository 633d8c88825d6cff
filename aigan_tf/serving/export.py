"""The generator as a SavedModel that TensorFlow Serving picks up as it is."""

import functools
import json
import pathlib
from collections.abc import Callable, Mapping, Sequence

import tensorflow as tf

from aigan_tf.engine import saved_model
from aigan_tf.errors import InputError
from aigan_tf.files import atomic_folder, latest_version
from aigan_tf.method.networks import Generator
from aigan_tf.method.threat_model import perturb, quantize
from aigan_tf.serving import request_checks, warmup


class ServedGenerator(tf.Module):
    """Checks a request inside the graph, then perturbs its images.

    Args:
        generator: the trained network, of which a copy is served.
        image_shape: `(height, width, channels)` it was trained for.
        class_names: name of each class, in label order.
        epsilon: L-infinity budget as a fraction of the pixel range.
        targeted: whether the class in a request is the target (`target_class`) or the true class (`label`).
        variable_epsilon: whether the generator takes budgets up to `epsilon`.
        classifier: the model under attack, images to logits, for the signature classify; None leaves it out.
        dtype: in which the generator computes, "float32" or "bfloat16". All inputs and outputs, and the arithmetic of the
            budget, are float32 in any case.
    """

    def __init__(
        self,
        generator: Generator,
        image_shape: tuple[int, int, int],
        class_names: Sequence[str],
        epsilon: float,
        targeted: bool,
        variable_epsilon: bool = False,
        classifier: Callable[[tf.Tensor], tf.Tensor] | None = None,
        dtype: str = "float32",
    ):
        super().__init__()
        generator = generator.for_inference(dtype)
        # The variables are tracked, and so saved. The model is not, since Keras would add signatures of its own.
        self.generator_variables = generator.inference_variables
        self.generator = functools.partial(generator)
        self.image_shape = tuple(image_shape)
        self.class_names = tuple(class_names)
        self.classes = tuple(generator.settings["classes"] or range(len(class_names)))
        self.epsilon = epsilon
        self.targeted = targeted
        self.class_input = "target_class" if targeted else "label"
        self.variable_epsilon = variable_epsilon
        self.logits = None
        if classifier is not None:
            spec = tf.TensorSpec((None, *self.image_shape), tf.float32)
            self.logits = tf.function(classifier).get_concrete_function(spec)
            # In the order of the graph: TensorFlow's own order differs between processes, and the file with it.
            order = [id(capture) for capture in self.logits.captured_inputs]
            self.classifier_variables = sorted(
                self.logits.graph.variables, key=lambda variable: order.index(id(variable.handle))
            )

    @property
    def network(self) -> Generator:
        """The copy that is served."""
        return self.generator.func

    def input_specs(self) -> list[tf.TensorSpec]:
        """Returns what the network takes: images, a class per image, and a budget per image if it takes them."""
        images = tf.TensorSpec((None, *self.image_shape), tf.float32, name="images")
        targets = tf.TensorSpec((None,), tf.int32, name=self.class_input)
        epsilons = tf.TensorSpec((None,), tf.float32, name="epsilon")
        return [images, targets, epsilons] if self.variable_epsilon else [images, targets]

    def restore(self, version: pathlib.Path) -> None:
        """Sets the generator's weights to those of an exported version.

        Args:
            version: the SavedModel of a generator with the same settings.

        Raises:
            InputError: it cannot be read, or is of another generator.
        """
        try:
            saved_model.restore(version, generator_variables=self.generator_variables)
        except Exception as error:  # TensorFlow raises many kinds for a damaged export
            raise InputError(
                f"the weights of {version} cannot be loaded ({saved_model.first_line(error)})",
                "the generator as it was exported",
                "restore the folder from a copy",
            ) from error

    def attack(self, images: tf.Tensor, targets: tf.Tensor, epsilons: tf.Tensor | None = None) -> tf.Tensor:
        """Returns adversarial images; its arguments are not checked.

        Args:
            images: float32 `(batch, height, width, channels)` in `[0, 1]`.
            targets: int32 `(batch,)`, target classes; of an untargeted generator the labels.
            epsilons: float32 `(batch,)`, the budget of each image; None for the largest.

        Returns:
            float32, shape of `images`, in `[0, 1]` and within the budget.
        """
        if epsilons is None:
            epsilons = tf.fill(tf.shape(targets), self.epsilon)
        _, adversarial_images = perturb(self.generator, images, targets, epsilons, self.epsilon)
        return adversarial_images

    def signatures(self) -> dict[str, tf.types.experimental.ConcreteFunction]:
        """Returns the signatures by name; the first dimension of all inputs and outputs is the batch.

        - serving_default: images float32 and a class int32 per image, to adversarial_images and perturbation.
        - encoded: image_bytes, each a PNG or JPEG file, and classes, to adversarial_image_bytes, PNG files.
        - class_number: class_name, a class's name or its number as text, to the number that the others take.
        - with_epsilon, if the generator takes budgets: serving_default with an epsilon float32 per image, up to the largest,
          which the other signatures use.
        - classify, if there is a classifier: serving_default, and also the classifier's logits of the adversarial images and
          whether each attack succeeds.

        Each declares the shapes of its inputs, which tools read, and checks them in the graph, since servers do not.
        """
        images, targets, *epsilons = self.input_specs()
        signatures = {
            "serving_default": self._signature(self._serve, images, targets),
            "encoded": self._signature(
                self._serve_encoded, tf.TensorSpec((None,), tf.string, name="image_bytes"), targets
            ),
            "class_number": self._signature(self._number, tf.TensorSpec((None,), tf.string, name="class_name")),
        }
        if self.variable_epsilon:
            signatures["with_epsilon"] = self._signature(self._serve, images, targets, *epsilons)
        if self.logits is not None:
            signatures["classify"] = self._signature(self._classify, images, targets)
        return signatures

    def _signature(self, outputs_of, *specs):
        names = [spec.name for spec in specs]

        def signature(**inputs):
            outputs = outputs_of(*(inputs[name] for name in names))
            return {name: tf.identity(value, name=name) for name, value in outputs.items()}

        return tf.function(signature, autograph=False).get_concrete_function(**dict(zip(names, specs, strict=True)))

    def _serve(self, images, targets, epsilons=None):
        fed_images, fed_targets = map(request_checks.as_fed, (images, targets))
        checks = request_checks.image_checks(fed_images, self.image_shape)
        checks += request_checks.class_checks("images", fed_images, self.class_input, fed_targets)
        checks += request_checks.pixel_checks(fed_images)
        checks += request_checks.range_checks(self.class_input, fed_targets, self.classes)
        if epsilons is not None:
            fed_epsilons = request_checks.as_fed(epsilons)
            checks += request_checks.epsilon_checks(fed_epsilons, self.epsilon, self.class_input, fed_targets)
        with tf.control_dependencies(request_checks.refusals(checks)):
            images, targets = tf.identity(images), tf.identity(targets)
            epsilons = None if epsilons is None else tf.identity(epsilons)
        adversarial_images = self.attack(images, targets, epsilons)
        # The perturbation is what was added in the end, after clipping to [0, 1].
        return {"adversarial_images": adversarial_images, "perturbation": adversarial_images - images}

    def _serve_encoded(self, image_bytes, targets):
        fed_bytes, fed_targets = map(request_checks.as_fed, (image_bytes, targets))
        checks = request_checks.class_checks("image_bytes", fed_bytes, self.class_input, fed_targets)
        checks += request_checks.file_checks(fed_bytes, self.image_shape)
        checks += request_checks.range_checks(self.class_input, fed_targets, self.classes)
        with tf.control_dependencies(request_checks.refusals(checks)):
            image_bytes, targets = tf.identity(image_bytes), tf.identity(targets)
        pictures = tf.map_fn(self._decode, image_bytes, fn_output_signature=tf.TensorSpec(self.image_shape, tf.uint8))
        images = tf.cast(pictures, tf.float32) / 255.0
        _, adversarial = quantize(images, self.attack(images, targets), self.epsilon)
        return {"adversarial_image_bytes": tf.map_fn(tf.io.encode_png, adversarial, fn_output_signature=tf.string)}

    def _decode(self, file):
        height, width, channels = self.image_shape
        with tf.control_dependencies(request_checks.refusals(request_checks.size_checks(file, height, width))):
            return tf.reshape(tf.io.decode_image(file, channels, expand_animations=False), self.image_shape)

    def _number(self, class_name):
        class_name = request_checks.as_fed(class_name)
        given = tf.reshape(class_name, (-1, 1))
        named = tf.equal(given, tf.constant([self.class_names]))
        numbered = tf.equal(given, tf.constant([[str(number) for number in range(len(self.class_names))]]))
        # Names come first: the classes of an image folder may be called 0, 1, 10, 2, in this order.
        known = tf.where(tf.reduce_any(named, axis=-1, keepdims=True), named, numbered)
        checks = request_checks.name_checks(class_name, known, self.class_names)
        with tf.control_dependencies(request_checks.refusals(checks)):
            return {self.class_input: tf.argmax(known, axis=-1, output_type=tf.int32)}

    def _classify(self, images, targets):
        outputs = self._serve(images, targets)
        logits = self.logits(outputs["adversarial_images"])
        reached = tf.equal(tf.argmax(logits, axis=-1, output_type=tf.int32), targets)
        return outputs | {"logits": logits, "success": reached if self.targeted else ~reached}


def export_generator(
    folder: pathlib.Path,
    served: ServedGenerator,
    preset: Mapping,
    seal: Callable[[pathlib.Path, pathlib.Path], None] = lambda path, temporary: None,
) -> pathlib.Path:
    """Writes the next version, `folder/N`, whole or not at all, and returns its path.

    Args:
        folder: the folder of the versions.
        served: what is saved.
        preset: settings for assets/preset.json, beside the class names and, if not all are served, the classes.
        seal: called with the path and the finished folder, which is given this name afterwards; see `Workdir.seal`.

    Raises:
        InputError: the folder cannot be written.
    """
    newest = latest_version(folder)
    path = folder / str(int(newest.name) + 1 if newest else 1)
    signatures = served.signatures()
    with atomic_folder(path) as temporary:
        saved_model.save(served, temporary, signatures)
        assets = temporary / "assets"
        assets.mkdir(exist_ok=True)
        (assets / "class_names.txt").write_text("\n".join(served.class_names) + "\n", encoding="utf-8")
        settings = {**preset, "classes": served.classes} if len(served.classes) < len(served.class_names) else preset
        (assets / "preset.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
        warmup.write_requests(temporary, example_requests(served, signatures))
        seal(path, temporary)
    return path


def example_requests(served: ServedGenerator, signatures: Mapping) -> dict[str, dict[str, tf.Tensor]]:
    """Returns inputs by name for each signature: one grey image, and the first class."""
    image = tf.fill((1, *served.image_shape), 0.5)
    examples = {
        "images": image,
        "image_bytes": tf.io.encode_png(tf.cast(255.0 * image[0], tf.uint8))[tf.newaxis],
        served.class_input: tf.constant(served.classes[:1]),
        "class_name": tf.constant([served.class_names[served.classes[0]]]),
        "epsilon": tf.constant([served.epsilon]),
    }
    return {
        name: {key: examples[key] for key in signature.structured_input_signature[1]}
        for name, signature in signatures.items()
    }
