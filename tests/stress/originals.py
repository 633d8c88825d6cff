"""The undamaged folders that `fuzz_inputs.py` damages copies of, and what comes of them."""

import contextlib
import dataclasses
import io
import pathlib
import shutil
from unittest import mock

import keras
import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from aigan_tf.classifiers import architectures
from aigan_tf.config import Config, make_config
from aigan_tf.engine.callbacks import MetricsHistory
from aigan_tf.evaluation.compare import evaluate_workdir
from aigan_tf.training.advgan import train_advgan
from aigan_tf.training.run import train_and_export

TINY = make_config(
    dataset="digits", classifier_epochs=2, steps_per_epoch=3, stage1_epochs=2, stage2_epochs=2, switch_success=1.0,
    batch_size=32, attack_steps=2, generator_width=4, generator_blocks=1,
)  # fmt: skip
BLACK_BOX = dataclasses.replace(TINY, stage1_epochs=1, stage2_epochs=1, black_box="small", queries_per_epoch=40)


class Originals:
    """Makes the folders below an empty one, and measures them: run/ (finished), interrupted/ (a black-box run), config/,
    commands/ (in which commands are run), images/, tfds/ and own/ (classifiers)."""

    def __init__(self, folder: pathlib.Path):
        self.folder = folder
        # The surrogate and the transfer classifier cannot be given fewer epochs than the forty of their recipe.
        small = architectures.ARCHITECTURES["small"]
        recipe = dataclasses.replace(small.recipe, epochs=1)
        architectures.ARCHITECTURES["small"] = dataclasses.replace(small, recipe=recipe)
        with contextlib.redirect_stdout(io.StringIO()):
            self.trained = trained(TINY, folder / "run")
            train_advgan(folder / "run", ["3"], epochs=1)
            self.evaluated = evaluated(folder / "run")
            with interrupted_in_last_epoch():
                train_and_export(BLACK_BOX, folder / "interrupted")
            shutil.copytree(folder / "interrupted", folder / "continued")
            self.continued = trained(BLACK_BOX, folder / "continued")
            write_tfds(folder / "tfds")
        for name in ("config", "commands/folder", "own"):
            (folder / name).mkdir(parents=True)
        shutil.copy(folder / "run" / "config.json", folder / "config")
        shutil.copytree(folder / "run", folder / "commands" / "run")
        (folder / "commands" / "folder" / "file.txt").write_text("text\n")
        (folder / "commands" / "loop").symlink_to("loop")
        write_images(folder / "images")
        model = keras.models.load_model(folder / "run" / "classifier.keras", compile=False)
        model.save(folder / "own" / "classifier.keras")
        model.export(folder / "own" / "saved", verbose=False)


def trained(config: Config, folder: pathlib.Path) -> dict:
    """Trains a run, or continues it, and returns its report without what depends on the clock."""
    report = train_and_export(config, folder)
    del report["milliseconds_per_image"]
    return report


def evaluated(folder: pathlib.Path) -> dict:
    """Evaluates a run and returns the attacks' results without what depends on the clock."""
    attacks = ["aigan", "aigan_stage1", "advgan"]
    report = evaluate_workdir(folder, num_examples=20, attacks=attacks, transfer_to=["small"])
    for row in (*report["attacks"].values(), *report["transfer"].values()):
        del row["milliseconds_per_image"]
    return {name: report[name] for name in ("attacks", "transfer", "warnings")}


@contextlib.contextmanager
def interrupted_in_last_epoch():
    """Interrupts the generator's training when its last epoch begins."""
    begin = MetricsHistory.on_epoch_begin

    def on_epoch_begin(self, epoch, logs=None):
        if hasattr(self.model, "generator") and epoch + 1 == self.params["epochs"]:
            raise KeyboardInterrupt
        begin(self, epoch, logs)

    with contextlib.suppress(KeyboardInterrupt), mock.patch.object(MetricsHistory, "on_epoch_begin", on_epoch_begin):
        yield


def write_images(folder: pathlib.Path) -> None:
    """Writes PNG files of three classes, two in each class of each split."""
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        for name in "abc":
            (folder / split / name).mkdir(parents=True)
            for number in range(2):
                image = Image.fromarray(rng.integers(0, 256, (8, 9), np.uint8))
                image.save(folder / split / name / f"{number}.png")


def write_tfds(folder: pathlib.Path) -> None:
    """Writes a TFDS data set "fuzzed" of small images."""
    tfds.disable_progress_bar()
    rng = np.random.default_rng(0)
    features = {"image": tfds.features.Image(shape=(8, 9, 1)), "label": tfds.features.ClassLabel(num_classes=3)}

    def examples(count):
        return [(k, {"image": rng.integers(0, 256, (8, 9, 1), np.uint8), "label": k % 3}) for k in range(count)]

    splits = {"train": examples(12), "test": examples(9)}  # of other sizes: neither can replace the other
    tfds.dataset_builders.store_as_tfds_dataset(
        "fuzzed", "1.0.0", tfds.features.FeaturesDict(features), splits, data_dir=folder, disable_shuffling=True
    )
