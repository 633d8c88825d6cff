"""Tiny runs on digits, and what tests read from their folders."""

import csv
import json
import pathlib
import shutil

import numpy as np
import pytest
from kill_and_resume import differences, state

from aigan_tf.config import Config, make_config
from aigan_tf.engine.checkpoints import Checkpoint
from aigan_tf.training import run

TINY = dict(
    dataset="digits", classifier_epochs=2, steps_per_epoch=3, stage1_epochs=2, stage2_epochs=2, switch_success=1.0,
    batch_size=32, attack_steps=2, generator_width=4, generator_blocks=1,
)  # fmt: skip


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
    """Trains, or continues, and exports; nothing is measured, which would take as long."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "measure_export", lambda *arguments: ({"milliseconds_per_image": 0.0}, ""))
        run.train_and_export(config, folder, **arguments)


def different_end(one: pathlib.Path, other: pathlib.Path) -> set[str]:
    """Returns what is not equal in every bit at the end of two runs, apart from what was measured."""
    return set(differences(state(one), state(other))) - {"report.json"}


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
    return {name: value for name, value in report.items() if name not in ("milliseconds_per_image", "id")}


def differ(left: list[np.ndarray], right: list[np.ndarray]) -> bool:
    """Whether two networks' weights are not equal in every bit."""
    return any((a != b).any() for a, b in zip(left, right, strict=True))
