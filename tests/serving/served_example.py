"""A generator and a classifier of 9 x 13 images: what the tests of serving export and ask."""

import keras
import numpy as np
import tensorflow as tf

from aigan_tf.method.networks import Generator

SHAPE = (9, 13, 3)
NAMES = ("cat", "dog", "a ship", "tree", "bird")
EPSILON = 8 / 255
PRESET = {"dataset": "pets", "epsilon": EPSILON}


def make_generator(num_classes=5, **arguments):
    """A generator whose weights are neither fresh statistics nor a head near zero."""
    keras.utils.set_random_seed(1)
    generator = Generator(num_classes, SHAPE[-1], width=4, num_blocks=1, **arguments)
    shake(generator, variances=(0.5, 2.0))
    return generator


def shake(generator, variances):
    """Moves all weights by noise; running variances are drawn between two values."""
    rng = np.random.default_rng(0)
    for variable in generator.variables:
        if "variance" in variable.path:
            variable.assign(rng.uniform(*variances, variable.shape))
        elif variable.dtype == "float32":
            variable.assign(variable + rng.normal(0.0, 0.1, variable.shape))


def classifier(images):
    """Logits of the mean colour; the last two are fixed."""
    return tf.concat([tf.reduce_mean(images, axis=[1, 2]), tf.ones((tf.shape(images)[0], 2)) * 0.4], axis=-1)


def pictures(count=3):
    """uint8 images."""
    return np.random.default_rng(0).integers(0, 256, (count, *SHAPE), np.uint8)


def floats(count=3):
    """The same images in [0, 1]."""
    return pictures(count).astype(np.float32) / 255


def files(count=3):
    """The same images as PNG files."""
    return [tf.io.encode_png(picture).numpy() for picture in pictures(count)]


def png(shape):
    return tf.io.encode_png(np.zeros(shape, np.uint8)).numpy()


def pixel(value):
    images = floats()
    images[1, 2, 3, 0] = value
    return images


# A header that promises 4.8 GB, over data that no decoder takes: refused before it is decoded.
HUGE = files(1)[0][:16] + (40_000).to_bytes(4, "big") + (30_000).to_bytes(4, "big") + files(1)[0][24:]
SIGNATURE_OF = {"epsilon": "with_epsilon", "image_bytes": "encoded", "class_name": "class_number"}
INPUTS = {
    "serving_default": ("images", "target_class"),
    "with_epsilon": ("images", "target_class", "epsilon"),
    "encoded": ("image_bytes", "target_class"),
    "class_number": ("class_name",),
}
BAD_REQUESTS = [
    ("images", floats()[0], ["images", "(batch, 9, 13, 3)", "[9 13 3]"]),
    ("images", floats()[..., :1], ["images", "[3 9 13 1]"]),
    ("images", floats(4).reshape(1, 18, 26, 3), ["images", "[1 18 26 3]"]),
    ("images", floats().reshape(3, 13, 9, 3), ["images", "[3 13 9 3]"]),
    ("images", pixel(1.0001), ["images", "[0, 1]", "1.0001"]),
    ("images", pixel(-0.25), ["images", "[0, 1]", "-0.25"]),
    ("images", pixel(np.nan), ["images", "NaN"]),
    ("target_class", np.int32([[0], [1], [2]]), ["target_class", "(batch,)", "[3 1]"]),
    ("target_class", np.int32([0, 5, 1]), ["target_class", "[0, 4]", "[5]"]),
    ("target_class", np.int32([0, -1, 1]), ["target_class", "[0, 4]", "[-1]"]),
    ("epsilon", np.full((3, 1), EPSILON, np.float32), ["epsilon", "(batch,)", "[3 1]"]),
    ("epsilon", [EPSILON, 0.0315, EPSILON], ["epsilon must lie above 0", "0.0315"]),
    ("epsilon", [EPSILON, 0.0, EPSILON], ["epsilon", "above 0", "[0 0.03"]),
    ("epsilon", [EPSILON, np.nan, EPSILON], ["epsilon must lie"]),
    ("image_bytes", [files(1)[0][:20], *files(2)], ["PNG or JPEG file", "[20 "]),
    ("image_bytes", [png((13, 9, 3)), *files(2)], ["9 x 13", "[13 9]"]),
    ("image_bytes", [tf.io.encode_jpeg(np.zeros((8, 13, 3), np.uint8)).numpy(), *files(2)], ["9 x 13", "[8 13]"]),
    ("image_bytes", [HUGE, *files(2)], ["9 x 13", "[30000 40000]"]),
    ("image_bytes", files(2), ["same batch size"]),
    ("image_bytes", [files()], ["image_bytes", "(batch,)", "[1 3]"]),
    ("image_bytes", [files(1)[0] + bytes(70_000), *files(2)], ["bytes", "66472"]),
    ("class_name", ["cat", "wolf"], ["cat, dog, a ship, tree, bird", "0 to 4"]),
    ("class_name", ["4294967297"], ["class_name must be"]),  # 1 in 32 bits
    ("class_name", [["cat"]], ["class_name", "(batch,)", "[1 1]"]),
    ("class_name", [], ["at least one image"]),
]  # an input, its value, and words of the refusal


def bad_request(name, value):
    """A signature and its inputs, all good but one."""
    signature = SIGNATURE_OF.get(name, "serving_default")
    good = {
        "images": floats(), "image_bytes": files(), "target_class": np.arange(3, dtype=np.int32),
        "epsilon": np.full(3, EPSILON, np.float32),
    }  # fmt: skip
    return signature, {key: good.get(key) for key in INPUTS[signature]} | {name: value}
