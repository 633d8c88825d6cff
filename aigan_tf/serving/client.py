"""A client of a served generator: sends a picture, and checks the answer."""

import io
import os

import numpy as np
from PIL import Image

from aigan_tf.data import pictures
from aigan_tf.errors import InputError, say
from aigan_tf.files import user_path, write_bytes
from aigan_tf.serving.connections import NoAnswerError, Server


def attack_file(
    server: Server, image: str | os.PathLike, out: str | os.PathLike, target: str, class_input: str = "target_class"
) -> None:
    """Writes the adversarial image of an image file, and prints what was changed.

    Args:
        server, target, class_input: as for `attack_image`.
        image: an image file of the size the generator was trained for.
        out: the PNG file to write.

    Raises:
        InputError: as for `attack_image`, or a file cannot be read or written.
    """
    path = user_path(out)
    if path.suffix.lower() != ".png":
        fix = f"give e.g. {path.stem or 'adversarial'}.png"
        raise InputError(out, "a name that ends in .png, as the answer is a PNG file", fix, setting="out")
    picture, _ = pictures.fitted(image, None)
    adversarial = attack_image(server, picture, target, class_input)
    write_bytes(path, adversarial)
    say(f"{out}: {describe_change(picture, adversarial)}.")


def attack_image(server: Server, image: np.ndarray, target: str, class_input: str = "target_class") -> bytes:
    """Returns the adversarial image, a PNG file, that a served generator makes of a picture.

    Args:
        server: where the generator is served.
        image: uint8 `(height, width, channels)`, of the size the generator was trained for.
        target: name or number of the class to reach (or to leave, if the generator is untargeted).
        class_input: "target_class", or "label" if the generator is untargeted.

    Raises:
        InputError: the server does not answer, serves another model or refuses the request, or its answer is not a picture
            of the same size.
    """
    file = pictures.as_png(image)
    sent = Image.open(io.BytesIO(file))
    try:
        # Asked even for a number: only the model knows which of its classes are named by digits.
        number = _only_output(server, int, "class_number", {"class_name": [target]})
        answer = _only_output(server, bytes, "encoded", {"image_bytes": [file], class_input: [number]})
    except NoAnswerError:
        raise
    except InputError as error:
        raise _other_model(server, class_input) or error from error
    try:
        Image.open(io.BytesIO(answer), formats=("PNG",)).verify()  # checksums and the end, which load() does not need
        made = Image.open(io.BytesIO(answer))
        if made.size == sent.size:  # else it may be huge
            made.load()
    except Exception as error:  # for damaged files Pillow raises half a dozen kinds
        raise server.unusable("no picture") from error
    if made.size != sent.size or made.mode not in ("L", "RGB"):
        raise server.unusable(f"a picture of {made.width} x {made.height}, {made.mode}")
    return answer


def describe_change(image: np.ndarray, adversarial: bytes) -> str:
    """Returns the size, the largest change and its L2 norm as a phrase.

    Args:
        image: what `attack_image` was given.
        adversarial: what it returned.
    """
    made, sent = Image.open(io.BytesIO(adversarial)), Image.open(io.BytesIO(pictures.as_png(image)))
    largest, norm = pictures.size_of_change(np.asarray(sent.convert(made.mode)), np.asarray(made))
    about = "about " if made.mode == "L" and sent.mode == "RGB" else ""  # the server makes its own grey of colours
    return f"{made.width} x {made.height} pixels, largest change {about}{largest}/255, L2 {about}{norm:.2f}"


def _only_output(server, kind, signature, inputs):
    """Returns the only value of a signature's only output, of the type `kind`."""
    values = server.predict(signature, inputs)
    if len(values) != 1 or type(values[0]) is not kind:  # True is an int too
        raise server.unusable("another value")
    return values[0]


def _other_model(server, class_input):
    """Returns the error of a model that is not the generator asked for; None if it is, or does not say."""
    try:
        version, signatures = server.signatures()
    except InputError:
        return None
    kinds = {"target_class": ("a targeted", "target"), "label": ("an untargeted", "label")}
    for taken, (kind, setting) in kinds.items():
        if signatures.get("encoded") == {"image_bytes", taken} and signatures.get("class_number") == {"class_name"}:
            if taken == class_input:
                return None
            return server.error(
                f"serves {kind} generator", f"{kinds[class_input][0]} one", f"give the class as `{setting}`"
            )
    listed = ", ".join(f"{name}({', '.join(sorted(inputs))})" for name, inputs in sorted(signatures.items()))
    return server.error(
        f"serves another model or an older export, version {version[:20]} with {listed[:200]}",
        f"encoded({class_input}, image_bytes) and class_number(class_name)",
        "name a generator as `model`, or export this one again with python -m aigan_tf export",
    )
