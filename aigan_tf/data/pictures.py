"""Image files as Pillow reads them: one list of formats, and upright, for folders and for the Python API."""

import contextlib
import io

from PIL import Image, ImageOps

# Pillow's other readers are left out: its reader of EPS starts Ghostscript, whatever the file's name ends in.
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM")


def decoded(data: bytes) -> Image.Image:
    """Returns the picture in an image file, upright.

    Raises:
        Exception: for damaged files Pillow raises half a dozen kinds.
    """
    return upright(Image.open(io.BytesIO(data), formats=FORMATS))


def upright(picture: Image.Image) -> Image.Image:
    """Turns a picture as its camera says, in place, and returns it."""
    with contextlib.suppress(SyntaxError):  # the orientation is damaged, not the picture
        ImageOps.exif_transpose(picture, in_place=True)
    return picture


def is_grey(picture: Image.Image) -> bool:
    """Whether a picture of 8 bits per channel has no colour; it may have an alpha channel."""
    return picture.mode in ("1", "L", "LA", "La")
