"""Adversarial images as PNG files with a manifest, to test other models on."""

import contextlib
import csv
import pathlib
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from aigan_tf.errors import InputError
from aigan_tf.files import atomic_folder, inert, is_empty

COLUMNS = (
    "file", "attack", "index", "source", "label", "label_name", "target", "target_name", "predicted", "l2", "linf", "ssim",
)  # fmt: skip


class ImageFolder:
    """A folder of adversarial images, which appears as a whole if the block ends without an error.

    manifest.csv has a row per image: its file, attack, index in the test split, source (the clean image's file if the
    data set is a folder, else empty), label, target (empty if untargeted), the classifier's answer, and the norms of the
    perturbation (pixels in `[0, 1]`).

    Args:
        path: the folder; new or empty.
        class_names: name of each class.
        targeted: whether the attacks are targeted.
        sources: file of each clean image, by its index; None if the data set is not a folder.

    Raises:
        InputError: `path` is a file or is not empty.
    """

    def __init__(
        self, path: pathlib.Path, class_names: Sequence[str], targeted: bool, sources: Sequence[str] | None = None
    ):
        if path.exists() and not (path.is_dir() and is_empty(path)):
            raise InputError(
                path,
                "a new or an empty folder",
                "choose a new folder",
                setting="save_images",
                problem="is not empty" if path.is_dir() else "is a file",
            )
        self.path = path
        self.class_names = class_names
        self.targeted = targeted
        self.sources = sources

    def __enter__(self):
        with contextlib.ExitStack() as opened:
            self._folder = opened.enter_context(atomic_folder(self.path))
            # Closed before the folder is renamed: a write that is refused only then prevents the folder too.
            # A source may have a name that is not text; its bytes are kept.
            file = opened.enter_context(
                open(self._folder / "manifest.csv", "w", newline="", encoding="utf-8", errors="surrogateescape")
            )
            self._manifest = csv.writer(file, lineterminator="\n")
            self._manifest.writerow(COLUMNS)
            self._opened = opened.pop_all()
        return self

    def __exit__(self, *error):
        return self._opened.__exit__(*error)

    def keep(self, attack: str, batch: dict[str, np.ndarray]) -> None:
        """Writes the images of a batch, as `measure_attacks` hands it over."""
        folder = attack.replace(", ", "_").replace(" ", "_")
        (self._folder / folder).mkdir(exist_ok=True)
        for i, picture in enumerate(batch["pictures"]):
            index, label, target = (int(batch[name][i]) for name in ("index", "label", "target"))
            name = f"{folder}/{index:05d}" + (f"_to_{target}.png" if self.targeted else ".png")
            (self._folder / name).write_bytes(tf.io.encode_png(picture).numpy())
            targets = (target, self.class_names[target]) if self.targeted else ("", "")
            source = "" if self.sources is None else self.sources[index]
            norms = (f"{batch[norm][i]:.6g}" for norm in ("l2", "linf", "ssim"))
            row = (
                name, attack, index, source, label, self.class_names[label], *targets, int(batch["answer"][i]), *norms,
            )  # fmt: skip
            self._manifest.writerow(map(inert, row))
