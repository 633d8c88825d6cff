"""Image files as Pillow reads them: one list of formats, upright, in 8 bits, for folders, Python and the commands."""

import contextlib
import io
import math
import os
import pathlib
import warnings

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from aigan_tf.errors import InputError
from aigan_tf.files import MAX_PICTURE, read_bytes, user_path

MAX_PIXELS = 2**26  # of a picture; converted and resized, each takes up to 25 bytes

# Pillow's other readers are left out: its reader of EPS starts Ghostscript, whatever the file's name ends in.
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
SUFFIXES = (
    ".png", ".jpg", ".jpeg", ".jfif", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm",
)  # fmt: skip


def read(path: pathlib.Path) -> Image.Image:
    """Returns the picture in an image file, upright.

    Raises:
        Exception: OSError if the file cannot be read or is too large, ValueError if its picture is, which its header says;
            for damaged files Pillow raises half a dozen kinds.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit is below Pillow's
        picture = Image.open(io.BytesIO(read_bytes(path, MAX_PICTURE)), formats=FORMATS)
    if math.prod(picture.size) > MAX_PIXELS:
        raise ValueError(f"more than {MAX_PIXELS / 1e6:.0f} million pixels")
    return upright(picture)


def upright(picture: Image.Image) -> Image.Image:
    """Turns a picture as its camera says, in place, and returns it."""
    with contextlib.suppress(SyntaxError):  # the orientation is damaged, not the picture
        ImageOps.exif_transpose(picture, in_place=True)
    return picture


def is_grey(picture: Image.Image) -> bool:
    """Whether a picture has no colour; it may have an alpha channel."""
    return picture.mode in ("1", "L", "LA", "La") or picture.mode.startswith("I;16")


def in_8_bits(picture: Image.Image, channels: int | None = None) -> Image.Image:
    """Returns the first frame of a picture in 8 bits per channel, without its alpha channel.

    Args:
        picture: of 8 or 16 bits per channel.
        channels: 1 for grey, 3 for colour; None for what the picture is.

    Raises:
        ValueError: it has 32 bits per pixel, of an unknown range.
    """
    grey = is_grey(picture)
    if picture.mode.startswith("I;16"):
        picture = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))  # Pillow itself would clip to 255
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")  # Pillow warns of a palette with transparency that loses it at once
    if picture.mode in ("I", "F"):
        raise ValueError("32 bits per pixel, of an unknown range")
    return picture.convert("L" if (grey if channels is None else channels == 1) else "RGB")


def fitted(given: Image.Image | str | os.PathLike, image_shape: tuple[int, int, int] | None) -> tuple[np.ndarray, str]:
    """Returns a picture as a model takes it, and what was changed.

    Its shorter side is resized to fit and its centre cropped; colour becomes grey, or grey colour.

    Args:
        given: a PIL image or the path of an image file, of any size, of 8 or 16 bits per channel.
        image_shape: `(height, width, channels)` of the model, 1 or 3 channels; None leaves the picture as it is.

    Returns:
        uint8 `(height, width, channels)`, and a phrase; empty if size and colours were right.

    Raises:
        InputError: it cannot be read.
    """
    try:
        picture = upright(given.copy()) if isinstance(given, Image.Image) else read(user_path(given))
        return _as_taken(picture, image_shape or (picture.height, picture.width, 1 if is_grey(picture) else 3))
    except InputError:
        raise
    except Exception as error:  # for damaged files Pillow raises half a dozen kinds
        raise InputError(
            f"{given} cannot be read ({reason(error)})",
            "a PNG, JPEG, WebP, BMP, GIF, TIFF or PPM picture of 8 or 16 bits per channel",
            "correct the path" if isinstance(error, OSError) and error.strerror else "convert it to PNG",
        ) from error


def _as_taken(picture, image_shape):
    height, width, channels = image_shape
    changes = []
    if picture.size != (width, height):
        cropped = picture.width * height != picture.height * width
        how = "resized and its centre cropped" if cropped else "resized"
        changes.append(f"{picture.width} x {picture.height} pixels, {how} to {width} x {height}")
    if channels == 1 and not is_grey(picture):
        changes.append("made grey")
    if picture.has_transparency_data:
        changes.append("transparency left out")
    plain = in_8_bits(picture, channels)
    if plain.size != (width, height):
        plain = ImageOps.fit(plain, (width, height))
    return np.asarray(plain).reshape(image_shape), ", ".join(changes)


def reason(error: Exception) -> str:
    """Returns why a picture cannot be read, in a few words."""
    if isinstance(error, UnidentifiedImageError):
        return "not a picture"  # Pillow's own message names an object in memory
    return getattr(error, "strerror", None) or (str(error) or type(error).__name__).splitlines()[0]


def size_of_change(clean: np.ndarray, changed: np.ndarray) -> tuple[int, float]:
    """Returns the largest change of a value, in grey levels of 255, and the L2 norm of the change, pixels in `[0, 1]`.

    Args:
        clean, changed: uint8, of the same shape.
    """
    change = changed.astype(int) - clean
    return int(np.abs(change).max()), float(np.linalg.norm(change / 255))


def as_png(pixels: np.ndarray) -> bytes:
    """Returns a PNG file of uint8 `(height, width, 1 or 3)`."""
    file = io.BytesIO()
    Image.fromarray(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels).save(file, "PNG")
    return file.getvalue()
