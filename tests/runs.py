"""Tiny runs on digits, and what tests read from their folders."""

import csv
import json
import pathlib
import shutil

import h5py
import kill_and_resume
import numpy as np
import pytest
import tensorflow as tf

from aigan_tf.config import Config, make_config
from aigan_tf.engine.checkpoints import Checkpoint
from aigan_tf.training import run

TINY = dict(
    dataset="digits",
    classifier_epochs=2,
    steps_per_epoch=3,
    stage1_epochs=2,
    stage2_epochs=2,
    switch_success=1.0,
    batch_size=32,
    attack_steps=2,
    generator_width=4,
    generator_blocks=1,
)


class Stop(Exception):
    """Ends a run as soon as a test needs no more of it."""


def stop(*args, **kwargs):
    """Stands in for a function that a test does not want to be reached."""
    raise Stop


def tiny(**settings) -> Config:
    """Returns the settings of a tiny run, four epochs of three steps, with changes."""
    return make_config(**{**TINY, **settings})


def against(finished, **settings) -> Config:
    """Returns the settings of a tiny run against the classifier of the finished run, as the user's own file."""
    return tiny(**{"classifier": str(finished[0] / "classifier.keras"), "classifier_epochs": None, **settings})


def finish(folder: pathlib.Path) -> dict:
    """Runs a tiny run to its end in a folder, keeping a copy of the folder at each epoch's end.

    The copies lie beside the folder, before and after the checkpoint is written: `aigan0_unsaved`, `aigan0_saved`, ...
    """
    original = Checkpoint.on_epoch_end

    def on_epoch_end(self, epoch, logs=None):
        name = folder.parent / f"{self.folder.name}{epoch}"
        shutil.copytree(folder, f"{name}_unsaved")
        original(self, epoch, logs)
        shutil.copytree(folder, f"{name}_saved")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Checkpoint, "on_epoch_end", on_epoch_end)
        return run.train_and_export(tiny(), folder)


def train(config: Config, folder: pathlib.Path, **arguments) -> None:
    """Trains, or continues, and exports; stops before the evaluation, which takes as long."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "measure_export", stop)
        with pytest.raises(Stop):
            run.train_and_export(config, folder, **arguments)


def change_config(folder: pathlib.Path, **settings) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))


def metrics_rows(folder: pathlib.Path, *without: str, name: str = "metrics.csv") -> list[dict]:
    with open(folder / name, newline="") as file:
        return [{k: v for k, v in row.items() if k not in without} for row in csv.DictReader(file)]


def contents(folder: pathlib.Path) -> dict[pathlib.Path, bytes]:
    """Returns all files of a folder but its digests, which a second export extends."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != "digests.json"}


def untimed(report: dict) -> dict:
    return {name: value for name, value in report.items() if name != "milliseconds_per_image"}


def saved_weights(path: pathlib.Path) -> list[np.ndarray]:
    """Returns every array of a .weights.h5 file."""
    arrays = []
    with h5py.File(path) as file:
        file.visititems(lambda _, entry: arrays.append(entry[()]) if isinstance(entry, h5py.Dataset) else None)
    return arrays


def checkpointed(folder: pathlib.Path) -> dict[str, np.ndarray]:
    """Returns everything in the newest checkpoint of the generator's training, by name."""
    path = max((folder / "checkpoints" / "aigan").glob("*.index"), key=lambda path: int(path.stem.split("-")[1]))
    reader = tf.train.load_checkpoint(str(path.with_suffix("")))
    names = reader.get_variable_to_shape_map().keys() - {"_CHECKPOINTABLE_OBJECT_GRAPH"}
    return {name: reader.get_tensor(name) for name in names}


def differ(left: list[np.ndarray], right: list[np.ndarray]) -> bool:
    return any((a != b).any() for a, b in zip(left, right, strict=True))


def assert_same_arrays(left, right):
    for a, b in zip(left, right, strict=True):
        np.testing.assert_array_equal(a, b)


def assert_same_weights(one: pathlib.Path, other: pathlib.Path):
    """Weights, both optimizers and counters of two runs are equal in every bit."""
    for name in ("generator_stage1.weights.h5", "generator.weights.h5"):
        assert_same_arrays(saved_weights(one / name), saved_weights(other / name))
    actual, expected = checkpointed(one), checkpointed(other)
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(actual[name], value, err_msg=name)


def assert_same_end(one: pathlib.Path, other: pathlib.Path):
    """Weights, both optimizers, counters, histories and samples of two runs are equal in every bit."""
    assert_same_weights(one, other)
    assert metrics_rows(one, "seconds") == metrics_rows(other, "seconds")
    assert kill_and_resume.events(one / "logs") == kill_and_resume.events(other / "logs")
    for name in ("stage1.png", "stage2.png"):
        assert (one / "samples" / name).read_bytes() == (other / "samples" / name).read_bytes()
