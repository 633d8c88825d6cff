"""What a request must be, checked inside the served graph: a bad one fails as InvalidArgument that names the cause.

A check is a triple: whether it holds, what to say if not, and what was received. The first and the last are functions
without arguments, called only where the checks before hold.
"""

from collections.abc import Callable, Sequence

import tensorflow as tf

Check = tuple[Callable[[], tf.Tensor], str, Callable[[], tf.Tensor]]


def refusals(checks: Sequence[Check]) -> list[tf.Operation]:
    """Returns assertions that fail a bad request, at the first check that does not hold."""
    assertions = []
    for condition, message, received in checks:
        with tf.control_dependencies(assertions):  # a later check may rely on an earlier one
            assertions = [tf.debugging.Assert(condition(), [message, received()], summarize=8)]
    return assertions


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
    """One value an image."""
    return [
        (
            lambda: tf.equal(tf.size(tf.shape(values)), 1),
            f"{name} must have the shape (batch,); received",
            lambda: tf.shape(values),
        )
    ]


def empty_checks(values: tf.Tensor) -> list[Check]:
    """At least one image: some kernels fail on an empty batch (oneDNN's fused convolutions), so all refuse it alike."""
    return [
        (lambda: tf.size(values) > 0, "the batch must hold at least one image; received", lambda: tf.size(values)),
    ]


def class_checks(name: str, inputs: tf.Tensor, class_input: str, classes: tf.Tensor) -> list[Check]:
    """As many classes as inputs, which are called `name`."""
    return [
        *([] if name == "images" else rank_checks(name, inputs)),
        *rank_checks(class_input, classes),
        (
            lambda: tf.equal(tf.shape(inputs)[0], tf.size(classes)),
            f"{name} and {class_input} must have the same batch size; received",
            lambda: tf.stack([tf.shape(inputs)[:1], tf.shape(classes)[:1]]),
        ),
        *empty_checks(classes),
    ]


def range_checks(class_input: str, classes: tf.Tensor, num_classes: int) -> list[Check]:
    """Classes that there are."""
    return [
        (
            lambda: tf.reduce_all((classes >= 0) & (classes < num_classes)),
            f"{class_input} must lie in [0, {num_classes - 1}]; received from and to",
            lambda: tf.stack([tf.reduce_min(classes), tf.reduce_max(classes)]),
        )
    ]


def epsilon_checks(epsilons: tf.Tensor, greatest: float, class_input: str, classes: tf.Tensor) -> list[Check]:
    """A budget for each image, above 0 and at most the greatest."""
    return [
        (
            lambda: tf.equal(tf.size(tf.shape(epsilons)), 1) & tf.equal(tf.size(epsilons), tf.size(classes)),
            f"epsilon must have the shape (batch,), one for each {class_input}; received",
            lambda: tf.shape(epsilons),
        ),
        (
            # Not its negation: a NaN fails it too.
            lambda: tf.reduce_all((epsilons > 0.0) & (epsilons <= greatest)),
            f"epsilon must lie above 0 and at most at {greatest:.9g}, as trained; received from and to",
            lambda: tf.stack([tf.reduce_min(epsilons), tf.reduce_max(epsilons)]),
        ),
    ]


_PNG, _JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"


def _begin(files, magic):
    return tf.equal(tf.strings.substr(files, 0, len(magic)), magic)


def file_checks(image_bytes: tf.Tensor) -> list[Check]:
    """PNG or JPEG files: the decoder would take GIF and BMP too, and names neither this input nor what it expects."""
    png = _begin(image_bytes, _PNG) & (tf.strings.length(image_bytes) >= 24)  # up to its width and height
    return [
        (
            lambda: tf.reduce_all(png | _begin(image_bytes, _JPEG)),
            "image_bytes must each be a PNG or JPEG file; received other bytes or a header cut off, of sizes",
            lambda: tf.strings.length(image_bytes),
        )
    ]


def size_checks(file: tf.Tensor, height: int, width: int) -> list[Check]:
    """A picture's size by its file's header, undecoded: a file of 0.4 MB may hold a picture of 400."""

    def png():
        width_and_height = tf.io.decode_raw(tf.strings.substr(file, 16, 8), tf.int32, little_endian=False)
        return tf.reverse(width_and_height, [0])

    size = tf.cond(_begin(file, _PNG), png, lambda: tf.io.extract_jpeg_shape(file)[:2])
    return [
        (
            lambda: tf.reduce_all(tf.equal(size, (height, width))),
            f"image_bytes must hold pictures of {height} x {width}; received height and width",
            lambda: size,
        )
    ]


def name_checks(class_name: tf.Tensor, known: tf.Tensor, class_names: Sequence[str]) -> list[Check]:
    """Names of classes that there are; `known` bool `(batch, classes)` says which each one is."""
    return [
        *rank_checks("class_name", class_name),
        *empty_checks(class_name),
        (
            lambda: tf.reduce_all(tf.reduce_any(known, axis=-1)),
            f"class_name must be one of {', '.join(class_names)} or a number from 0 to {len(class_names) - 1}; received",
            lambda: class_name,
        ),
    ]
