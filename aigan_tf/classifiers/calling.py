"""How a classifier that others made is called: its inputs and outputs are read, and what can be bridged is."""

import functools
import inspect
from collections.abc import Callable, Mapping

import tensorflow as tf

PAGE = "docs/classifiers.md"


class Misfit(Exception):
    """A classifier cannot be called with images alone. Arguments: problem, expected, fix, as of `InputError`."""


def with_wrapper(problem: str, expected: str, heading: str) -> Misfit:
    """Returns a misfit that a few lines of the user's cure; they stand below a heading of `PAGE`."""
    return Misfit(problem, expected, f'wrap it as in {PAGE}, "{heading}"')


def in_inference_mode(model: Callable) -> Callable:
    """Returns a model as it answers when it does not learn: without dropout, with fixed statistics."""
    call = getattr(model, "call", model)  # of tf_keras's models, `call` has the arguments
    try:
        takes_mode = "training" in inspect.signature(call).parameters
    except (TypeError, ValueError):  # a built-in function shows none
        takes_mode = False
    return functools.partial(model, training=False) if takes_mode else model


def inputs_of(model: object) -> dict[str, tf.TensorSpec]:
    """Returns name to shape and dtype of what a Keras model takes, also one of tf_keras; empty if it does not say."""
    inputs = getattr(model, "inputs", None) or ()
    inputs = inputs.values() if isinstance(inputs, Mapping) else inputs
    try:
        return {each.name: tf.TensorSpec(each.shape, each.dtype) for each in inputs}
    except (AttributeError, TypeError, ValueError):  # an attribute of the same name that means something else
        return {}


def called_with_images(
    run: Callable, inputs: Mapping[str, tf.TensorSpec], image_shape: tuple[int, int, int]
) -> Callable[[tf.Tensor], object]:
    """Returns a function from pixels float32 `(batch, height, width, channels)` to what a model puts out.

    A model with the channels first, or with a fixed batch size, is called as it asks.

    Args:
        run: the model, a function of one tensor.
        inputs: what it says it takes; empty for unknown.
        image_shape: `(height, width, channels)` of the data set.

    Raises:
        Misfit: it takes something else.
    """
    if not inputs:
        return run
    if len(inputs) > 1:
        taken = ", ".join(f"{name} {spec.dtype.name} {spec.shape}" for name, spec in inputs.items())
        raise with_wrapper(f"takes {len(inputs)} inputs ({taken})", "images alone", "Several inputs")
    (spec,) = inputs.values()
    if spec.dtype == tf.string:
        raise with_wrapper("takes encoded files, as text", "pixels", "Encoded pictures")
    if spec.shape.rank is None:
        return lambda pixels: run(_as(spec.dtype, pixels))
    channels_first = _check_shape(spec.shape.as_list(), image_shape)

    def function(pixels):
        pixels = _as(spec.dtype, pixels)
        return run(tf.transpose(pixels, (0, 3, 1, 2)) if channels_first else pixels)

    return function if spec.shape[0] is None else _in_batches_of(spec.shape[0], function)


def _as(dtype, pixels):
    return tf.cast(tf.round(pixels) if dtype.is_integer else pixels, dtype)


def _check_shape(taken, image_shape):
    """Whether a model takes images of this shape with the channels first; refuses one that takes others."""

    def fits(shape):
        return len(taken) == 4 and all(each in (None, side) for each, side in zip(taken[1:], shape, strict=True))

    height, width, channels = image_shape
    if fits(image_shape):
        return False
    if fits((channels, height, width)):
        return True
    problem = f"takes images of {tuple(taken[1:])}"
    expected = f"a model for images of {image_shape}, as in the data set"
    if len(taken) != 4:
        raise with_wrapper(problem, expected, "Another shape")
    if tuple(taken[1:]) == (width, channels, height):
        raise Misfit(problem, expected, "move the channels of the images to the end: np.moveaxis(images, 1, -1)")
    if channels not in (taken[-1], taken[1]):
        kind = "grey" if 1 in (taken[-1], taken[1]) else "RGB"
        raise Misfit(problem, expected, f"make the images {kind}, or choose another `dataset`")
    raise Misfit(problem, expected, "resize them with `image_size`")


def _in_batches_of(size, function):
    """Returns a function that hands on batches of one size; the last is filled up with black images."""

    def batched(pixels):
        count = tf.shape(pixels)[0]
        filled = tf.pad(pixels, [[0, -count % size], [0, 0], [0, 0], [0, 0]])
        batches = tf.reshape(filled, (-1, size, *pixels.shape[1:]))
        outputs = tf.map_fn(function, batches, fn_output_signature=tf.nest.map_structure(_spec, function(batches[0])))
        return tf.nest.map_structure(lambda each: tf.reshape(each, (-1, *each.shape[2:]))[:count], outputs)

    return batched


def _spec(tensor):
    return tf.TensorSpec(tensor.shape, tensor.dtype)


def chosen_output(outputs: object, name: str | None, names: list[str] | None = None) -> Callable[[object], tf.Tensor]:
    """Returns a function from what a model puts out to the tensor that is attacked.

    Args:
        outputs: what it put out once: a tensor, or a mapping or a sequence of tensors.
        name: the output that the user chose, or None.
        names: what a Keras model calls the parts of a sequence.

    Raises:
        Misfit: there are several outputs and none is chosen, or there is none of this name.
    """
    if isinstance(outputs, Mapping):
        keys = {str(key): key for key in outputs}
    elif isinstance(outputs, list | tuple):
        given = names if names and len(names) == len(outputs) else map(str, range(len(outputs)))
        keys = {each: index for index, each in enumerate(given)}
    else:
        keys = {}
    if name is not None and name not in keys:
        found = f"has the outputs {', '.join(keys)}" if keys else "has one output"
        raise Misfit(
            found, f"one called {name}, as `classifier_output` says", "correct `classifier_output`, or leave it out"
        )
    if not keys:
        return lambda outputs: outputs
    if name is None and len(keys) != 1:
        raise Misfit(
            f"has the outputs {', '.join(keys)}",
            "one output of logits or probabilities",
            "name it with `classifier_output`",
        )
    key = keys[name] if name is not None else next(iter(keys.values()))
    return lambda outputs: outputs[key]


def signature_of(loaded: object) -> tuple[Callable, dict[str, tf.TensorSpec]]:
    """Returns the function of one tensor by which a loaded SavedModel is called, and its inputs.

    Raises:
        Misfit: it has no signature, or several without serving_default.
    """
    signatures = dict(loaded.signatures)
    if not signatures and callable(loaded):
        return loaded, {}
    if "serving_default" not in signatures and len(signatures) != 1:
        found = f"has the signatures {', '.join(signatures)}" if signatures else "has no signature"
        raise Misfit(found, "the signature serving_default", "export it with such a signature, e.g. by model.export")
    signature = signatures.get("serving_default") or next(iter(signatures.values()))
    inputs = signature.structured_input_signature[1]

    def run(pixels):
        return signature(**{next(iter(inputs)): pixels})

    return run, dict(inputs)
