"""Adversarial pictures as PNG files with a manifest, for whoever wants to test a model of their own."""

import contextlib
import csv
import pathlib
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from aigan_tf.errors import InputError
from aigan_tf.files import atomic_folder

COLUMNS = (
    "file", "attack", "index", "source", "label", "label_name", "target", "target_name", "predicted", "l2", "linf", "ssim",
)  # fmt: skip


class ImageFolder:
    """A folder of pictures that appears whole, when the block ends without an error.

    manifest.csv has a line a picture: its file, attack, index in the test split, source (the clean image's file in an
    image folder, else empty), label, target (empty if untargeted), the classifier's answer, and the norms of what was
    added (fractions of the pixel range).

    Args:
        path: the folder; new or empty.
        class_names: name of each class.
        targeted: whether the class asked for is a target.
        sources: file of each clean image, by its index; None where there are none.

    Raises:
        InputError: the folder holds something already.
    """

    def __init__(
        self, path: pathlib.Path, class_names: Sequence[str], targeted: bool, sources: Sequence[str] | None = None
    ):
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise InputError(
                f"--save_images={path} is there already; expected a new or an empty folder: choose another"
            )
        self.path = path
        self.class_names = class_names
        self.targeted = targeted
        self.sources = sources

    def __enter__(self):
        with contextlib.ExitStack() as begun:
            self._folder = begun.enter_context(atomic_folder(self.path))
            # Closed before the folder is: what the system refuses only then spoils the whole folder too.
            # A picture's source may have a name that is no text; its bytes are kept.
            file = begun.enter_context(
                open(self._folder / "manifest.csv", "w", newline="", encoding="utf-8", errors="surrogateescape")
            )
            self._manifest = csv.writer(file, lineterminator="\n")
            self._manifest.writerow(COLUMNS)
            self._begun = begun.pop_all()
        return self

    def __exit__(self, *error):
        return self._begun.__exit__(*error)

    def keep(self, attack: str, batch: dict[str, np.ndarray]) -> None:
        """Writes a batch as `evaluate` hands it over."""
        folder = attack.replace(", ", "_").replace(" ", "_")
        (self._folder / folder).mkdir(exist_ok=True)
        for i, picture in enumerate(batch["pictures"]):
            index, label, aim = (int(batch[name][i]) for name in ("index", "label", "class"))
            name = f"{folder}/{index:05d}" + (f"_to_{aim}.png" if self.targeted else ".png")
            (self._folder / name).write_bytes(tf.io.encode_png(picture).numpy())
            target = (aim, self.class_names[aim]) if self.targeted else ("", "")
            source = "" if self.sources is None else self.sources[index]
            norms = (f"{batch[norm][i]:.6g}" for norm in ("l2", "linf", "ssim"))
            self._manifest.writerow(
                (name, attack, index, source, label, self.class_names[label], *target, int(batch["answer"][i]), *norms)
            )
