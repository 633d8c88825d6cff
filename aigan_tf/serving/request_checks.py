"""Checks of a request inside the served graph: a bad one fails with InvalidArgumentError, whose message names the cause.

A check is a triple: whether it holds, the message if not, and what was received. The first and the last are functions
without arguments; their operations run only if the checks before hold.

The checks take tensors `as_fed`. A signature declares shapes, and TensorFlow believes them: its runtime feeds tensors of any
shape, and its graph optimiser replaces a comparison of declared dimensions by the result it expects.
"""

from collections.abc import Callable, Sequence

import tensorflow as tf

Check = tuple[Callable[[], tf.Tensor], str, Callable[[], tf.Tensor]]


def refusals(checks: Sequence[Check]) -> list[tf.Operation]:
    """Returns assertions; a bad request fails at the first check that does not hold."""
    assertions = []
    for condition, message, received in checks:
        with tf.control_dependencies(assertions):  # a later check may rely on an earlier one
            assertions = [tf.debugging.Assert(condition(), [message, received()], summarize=8)]
    return assertions


def as_fed(value: tf.Tensor) -> tf.Tensor:
    """Returns a tensor without the shape that its signature declares, which no optimiser can infer again."""
    return tf.compat.v1.placeholder_with_default(value, None)


def image_checks(images: tf.Tensor, image_shape: tuple[int, int, int]) -> list[Check]:
    """The shape of a batch of images."""
    height, width, channels = image_shape
    return [
        (
            # Compared as text of any length, since shapes of different rank cannot be compared elementwise.
            lambda: tf.equal(
                tf.strings.reduce_join(tf.as_string(tf.shape(images)[1:]), separator=","),
                ",".join(map(str, image_shape)),
            ),
            f"images must have the shape (batch, {height}, {width}, {channels}); received",
            lambda: tf.shape(images),
        )
    ]


def pixel_checks(images: tf.Tensor) -> list[Check]:
    """Pixels in `[0, 1]`, none NaN."""
    return [
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
    ]


def rank_checks(name: str, values: tf.Tensor) -> list[Check]:
    """One value per image."""
    return [
        (
            lambda: tf.equal(tf.size(tf.shape(values)), 1),
            f"{name} must have the shape (batch,); received",
            lambda: tf.shape(values),
        )
    ]


def empty_checks(values: tf.Tensor) -> list[Check]:
    """At least one image: some kernels, such as oneDNN's fused convolutions, fail on an empty batch."""
    return [
        (lambda: tf.size(values) > 0, "the batch must hold at least one image; received", lambda: tf.size(values)),
    ]


def class_checks(name: str, inputs: tf.Tensor, class_input: str, targets: tf.Tensor) -> list[Check]:
    """As many classes, called `class_input`, as inputs, called `name`."""
    return [
        *([] if name == "images" else rank_checks(name, inputs)),
        *rank_checks(class_input, targets),
        (
            lambda: tf.equal(tf.shape(inputs)[0], tf.size(targets)),
            f"{name} and {class_input} must have the same batch size; received",
            lambda: tf.stack([tf.shape(inputs)[:1], tf.shape(targets)[:1]]),
        ),
        *empty_checks(targets),
    ]


def range_checks(class_input: str, targets: tf.Tensor, classes: Sequence[int]) -> list[Check]:
    """Classes that the generator serves: all up to the largest, or some."""
    if len(classes) == max(classes) + 1:
        known, allowed = (targets >= 0) & (targets < len(classes)), f"lie in [0, {max(classes)}]"
    else:
        known = tf.reduce_any(targets[..., tf.newaxis] == tf.constant(sorted(classes)), axis=-1)
        allowed = f"be one of {', '.join(map(str, sorted(classes)))}"
    return [
        (
            lambda: tf.reduce_all(known),
            f"{class_input} must {allowed}; received",
            lambda: tf.boolean_mask(tf.reshape(targets, [-1]), tf.reshape(~known, [-1])),
        )
    ]


def epsilon_checks(epsilons: tf.Tensor, largest: float, class_input: str, targets: tf.Tensor) -> list[Check]:
    """One budget per image, above 0 and at most the largest."""
    return [
        (
            lambda: tf.equal(tf.size(tf.shape(epsilons)), 1) & tf.equal(tf.size(epsilons), tf.size(targets)),
            f"epsilon must have the shape (batch,), one for each {class_input}; received",
            lambda: tf.shape(epsilons),
        ),
        (
            # Written so that NaN fails too.
            lambda: tf.reduce_all((epsilons > 0.0) & (epsilons <= largest)),
            f"epsilon must lie above 0 and at most at {largest:.9g}, as trained; received from and to",
            lambda: tf.stack([tf.reduce_min(epsilons), tf.reduce_max(epsilons)]),
        ),
    ]


_PNG, _JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"


def _starts_with(files, magic):
    return tf.equal(tf.strings.substr(files, 0, len(magic)), magic)


def file_checks(image_bytes: tf.Tensor, image_shape: tuple[int, int, int]) -> list[Check]:
    """PNG or JPEG files: the decoder takes GIF and BMP too, and its errors do not name this input.

    Their length is bounded, since data that is inflated a thousandfold can follow the picture: 2 MB take seconds. 8 bytes are
    a pixel of the largest PNG, and 64 KiB hold what cameras and colour profiles add.
    """
    height, width, _ = image_shape
    most = 2**16 + 8 * height * width
    png = _starts_with(image_bytes, _PNG) & (tf.strings.length(image_bytes) >= 24)  # the header, with width and height
    return [
        (
            lambda: tf.reduce_all(png | _starts_with(image_bytes, _JPEG)),
            "image_bytes must each be a PNG or JPEG file; received other bytes or a header cut off, of sizes",
            lambda: tf.strings.length(image_bytes),
        ),
        (
            lambda: tf.reduce_all(tf.strings.length(image_bytes) <= most),
            f"image_bytes must each have at most {most} bytes; received sizes up to",
            lambda: tf.reduce_max(tf.strings.length(image_bytes)),
        ),
    ]


def size_checks(file: tf.Tensor, height: int, width: int) -> list[Check]:
    """The size in a file's header, before it is decoded: a file of 0.4 MB may hold an image of 400 MB."""

    def png():
        width_and_height = tf.io.decode_raw(tf.strings.substr(file, 16, 8), tf.int32, little_endian=False)
        return tf.reverse(width_and_height, [0])

    size = tf.cond(_starts_with(file, _PNG), png, lambda: tf.io.extract_jpeg_shape(file)[:2])
    return [
        (
            lambda: tf.reduce_all(tf.equal(size, (height, width))),
            f"image_bytes must hold pictures of {height} x {width}; received height and width",
            lambda: size,
        )
    ]


def name_checks(class_name: tf.Tensor, known: tf.Tensor, class_names: Sequence[str]) -> list[Check]:
    """Known class names; `known`, bool `(batch, num_classes)`, marks the class of each name."""
    return [
        *rank_checks("class_name", class_name),
        *empty_checks(class_name),
        (
            lambda: tf.reduce_all(tf.reduce_any(known, axis=-1)),
            # Not the name: a message, which servers log, repeats no text of a request.
            f"class_name must be one of {', '.join(class_names)} or a number from 0 to {len(class_names) - 1}; others received:",
            lambda: tf.reduce_sum(tf.cast(~tf.reduce_any(known, axis=-1), tf.int32)),
        ),
    ]
