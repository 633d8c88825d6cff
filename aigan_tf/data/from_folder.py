"""A data set from a folder of pictures: splits with class folders, class folders alone, or pictures without labels."""

import dataclasses
import logging
import pathlib

import numpy as np

from aigan_tf.data import pictures
from aigan_tf.data.splits import Split, empty_images, hold_out_test, images_at_once, resize
from aigan_tf.errors import InputError
from aigan_tf.files import visible_files, visible_folders
from aigan_tf.terminal import progress

_log = logging.getLogger(__name__)

SPLIT_NAMES = {
    "train": ("train", "training"), "validation": ("validation", "val", "valid"), "test": ("test", "testing"),
}  # fmt: skip
_LAYOUTS = "train/CLASS/*.png with test/CLASS/*.png, CLASS/*.png, or *.png without labels"


@dataclasses.dataclass(frozen=True)
class Folder:
    """What a folder of pictures holds.

    Args:
        splits: `train`, `test` and perhaps `validation`, by name; labels are -1 if there are none.
        class_names: in alphabetical order; empty if the pictures have no labels.
    """

    splits: dict[str, Split]
    class_names: list[str]


def split_folders(root: pathlib.Path) -> dict[str, pathlib.Path]:
    """Returns the folders below `root` that are called like a split, by split.

    Raises:
        InputError: two are the same split.
    """
    found = {}
    for folder in visible_folders(root):
        for split, names in SPLIT_NAMES.items():
            if folder.name.lower() in names:
                if split in found:
                    pair = f"{found[split].name}/ and {folder.name}/"
                    raise InputError(
                        root, "one of them", "rename or merge them", setting="dataset", problem=f"has {pair}"
                    )
                found[split] = folder
    return found


def load_folder(root: pathlib.Path, image_size: tuple[int, int] | None) -> Folder:
    """Loads the pictures of a folder.

    A folder of class folders or of pictures may stand for the whole data set or lie in `train/` and `test/`. Without
    `test/`, `validation/` takes its place; without either, a fixed part of the pictures is held out. Images are in the
    order of their classes and file names. If some are in colour, all become so.

    Args:
        root: the folder.
        image_size: `(height, width)` to resize to; None leaves images as they are.

    Raises:
        InputError: a split or a class lacks images, an image cannot be read, or images differ in size.
    """
    folders, class_names = layout(root)
    splits, num_grey, skipped = {}, 0, []
    for name, folder in folders.items():
        paths, labels, others = _labelled_files(folder, class_names)
        images, grey = _read_images(paths, image_size)
        files = np.array([path.relative_to(root).as_posix() for path in paths])
        splits[name] = Split(images, np.array(labels, np.int32), files=files)
        num_grey += grey
        skipped += others
    if skipped:
        _log.warning(
            "%s: skipped %d files that are not images of a class, such as %r; images end in %s",
            root, len(skipped), str(skipped[0].relative_to(root)), ", ".join(pictures.SUFFIXES),
        )  # fmt: skip
    count = sum(map(len, splits.values()))
    if 0 < num_grey < count:
        _log.warning("%s: %d of %d images are grey; all are loaded as colour images", root, num_grey, count)
        splits = {name: dataclasses.replace(split, images=_in_colour(split.images)) for name, split in splits.items()}
    sizes = {name: " x ".join(map(str, split.images.shape[1:])) for name, split in splits.items()}
    if len(set(sizes.values())) > 1:
        different = " and ".join(f"{name} images of {size}" for name, size in sizes.items())
        raise _sizes_differ(f"{root} has {different}")
    if "test" not in splits:
        splits["train"], splits["test"] = hold_out_test(splits["train"])
        _log.warning("%s: %d of %d images were held out as the test split", root, len(splits["test"]), count)
    return Folder(splits, class_names)


def layout(root: pathlib.Path) -> tuple[dict[str, pathlib.Path], list[str]]:
    """Returns the folder of each split below `root`, and the names of the classes; no picture is read.

    Raises:
        InputError: a split is missing, its classes differ from another's, or one has no pictures.
    """
    folders = _folders_by_split(root)
    class_names = _class_names(root, folders)
    for folder in folders.values():
        for place in [folder / name for name in class_names] or [folder]:
            if not any(map(_is_picture, visible_files(place))):
                raise InputError(f"{place} has no images", _LAYOUTS, "add images, or remove the folder")
    return folders, class_names


def _is_picture(path):
    return path.suffix.lower() in pictures.SUFFIXES


def _folders_by_split(root):
    """Returns the folder of each split; `train` alone may be the whole data set."""
    found = split_folders(root)
    if found and "train" not in found:
        names = " and ".join(f"{folder.name}/" for folder in found.values())
        raise InputError(root, _LAYOUTS, "add train/", setting="dataset", problem=f"has {names}, but no train/")
    if not found:
        while len(inner := visible_folders(root)) == 1 and not _pictures(root, deep=False)[0]:
            root = inner[0]  # an archive often has one folder around the others
            if split_folders(root):
                return _folders_by_split(root)
        return {"train": root}
    if "test" not in found and "validation" in found:
        found["test"] = found.pop("validation")
    return found


def _class_names(root, folders):
    """Returns the names of the class folders, which must be the same in all splits."""
    by_split = {name: {folder.name for folder in visible_folders(path)} for name, path in folders.items()}
    class_names = sorted(by_split["train"])
    for name, found in by_split.items():
        if unpaired := sorted(found ^ {*class_names}):
            raise InputError(
                f"{root} has the class folder {unpaired[0]!r} in only one of {folders['train'].name}/ and {folders[name].name}/",
                "the same classes in both",
                "add or remove it",
            )
    for name in class_names:
        if not name.isprintable():  # class_names.txt of an export has one name per line
            raise InputError(f"{root} has the class folder {name!r}", "a printable name", "rename it")
    return class_names


def _pictures(folder, deep=True):
    """Returns the paths of the images in a folder, below it too if `deep`, and those of other files."""
    images, others = [], []
    for path in visible_files(folder, deep):
        (images if _is_picture(path) else others).append(path)
    return images, others


def _labelled_files(folder, class_names):
    """Returns the paths of a split's images, their labels (-1 without classes), and other files."""
    paths, labels = [], []
    others, _ = _pictures(folder, deep=False) if class_names else ([], [])  # beside the class folders
    for label, name in enumerate(class_names) if class_names else [(-1, "")]:
        images, rest = _pictures(folder / name)
        paths += images
        labels += [label] * len(images)
        others += rest
    return paths, labels, others


def _read_images(paths, image_size):
    """Returns uint8 `(n, height, width, channels)`, in colour if one of the files is, and how many are grey."""
    images, num_grey = None, 0
    for i, path in enumerate(progress(paths, "Reading", " pictures")):
        image = _read_image(path, image_size)
        if images is None:
            images = empty_images(len(paths), image.shape)
        if image.shape[:2] != images.shape[1:3]:
            size, others = ("{} x {}".format(*shape) for shape in (image.shape, images.shape[1:]))
            raise _sizes_differ(f"{path} is {size}, the images before it are {others}")
        if image.shape[-1] > images.shape[-1]:
            images = _in_colour(images)
        images[i] = image  # a grey image is copied to each channel
        num_grey += image.shape[-1] == 1
    return images, num_grey


def _sizes_differ(received):
    return InputError(received, "images of one size", "give `image_size`, e.g. 32,32")


def _in_colour(images):
    """Returns images with three equal channels if they are grey; unchanged if they are in colour."""
    if images.shape[-1] == 3:
        return images
    coloured = empty_images(len(images), (*images.shape[1:3], 3))
    step = images_at_once(coloured.shape[1:])
    for start in range(0, len(images), step):
        coloured[start : start + step] = images[start : start + step]
    return coloured


def _read_image(path, image_size):
    """Decodes one file to uint8 `(height, width, 1 or 3)`, upright, without its alpha channel."""
    try:
        pixels = np.asarray(pictures.in_8_bits(pictures.read(path)))
    except Exception as error:  # for damaged files Pillow raises half a dozen kinds
        raise InputError(
            f"{path} cannot be read ({pictures.reason(error)})",
            "a whole PNG, JPEG, WebP, BMP, GIF, TIFF or PPM image of 8 or 16 bits per channel",
            "replace or remove the file",
        ) from error
    image = pixels if pixels.ndim == 3 else pixels[..., np.newaxis]
    return image if image_size is None else resize(image, image_size).numpy()
