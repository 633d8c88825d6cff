"""The table of the runs of a folder."""

import os
import pathlib
import subprocess
import sys

import pytest

from aigan_tf import files, runs
from aigan_tf.config import FORMAT
from aigan_tf.errors import InputError
from aigan_tf.workdir import Workdir

ROOT = pathlib.Path(runs.__file__).parents[1]


@pytest.fixture
def make_run(tmp_path):
    """Writes what a run leaves: a row of metrics.csv per finished epoch, and files by their names."""

    def make(name, epochs=0, *others, **settings):
        run = Workdir(tmp_path / name)
        files.write_json(run.config, {"format": FORMAT, "stage1_epochs": 1, "stage2_epochs": 3, **settings})
        if epochs:
            files.write_csv(run.metrics, [{"epoch": number} for number in range(epochs)])
        for other in others:
            files.write_bytes(run.path / other, b"{}")
        return run

    return make


def rows(folder, width=80):
    """The table by the first word of each line."""
    header, *lines = runs.table_of_runs(folder, width).splitlines()
    assert header.split()[-1] == "state"
    return {line.split()[0]: line for line in lines}


def test_state_of_each_run_is_told(make_run, tmp_path):
    files.write_json(make_run("done", 4, "generator.weights.h5").report, {"success_rate": 0.98765})
    make_run("stopped", 2, "classifier.keras", epsilon=8 / 255, dataset="some/pictures", classifier="my/model.keras")
    make_run("begun", classifier="small")
    make_run("other", format=99)
    make_run("broken", epsilon="x")
    (make_run("pipe").config).unlink()
    os.mkfifo(tmp_path / "pipe" / "config.json")
    make_run("cells", 1).metrics.write_text("epoch,stage\n1\n")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "again").symlink_to("done")
    files.write_bytes(tmp_path / "defenses" / "defenses.json", b"{}")  # not a run
    table = rows(tmp_path)
    assert table.keys() == {"done", "stopped", "begun", "other", "broken", "pipe", "cells", "again"}
    for name, words in {
        "done": ["digits", "98.77%", "finished"], "stopped": ["pictures", "model", "8/255", "2 of 4"],
        "begun": ["classifier"], "other": ["format", "99"], "broken": ["config.json"], "pipe": ["config.json"],
        "cells": ["metrics.csv"], "again": ["finished"],
    }.items():  # fmt: skip
        assert all(word in table[name] for word in words), table[name]
    with make_run("stopped", 3).locked():
        assert "training" in rows(tmp_path / "stopped")["stopped"]


def test_newest_run_is_last_and_long_names_fit(make_run, tmp_path):
    for name, time in (("b" * 70, 3), ("a", 2), ("c", 1)):
        os.utime(make_run(name, dataset="d" * 60).config, (time, time))
    lines = runs.table_of_runs(tmp_path, 80).splitlines()
    assert [line[0] for line in lines[1:]] == ["c", "a", "b"]
    assert max(map(len, lines)) == 80


def test_folder_without_runs_is_refused(tmp_path):
    for path in (tmp_path, tmp_path / "none", pathlib.Path(__file__)):
        with pytest.raises(InputError, match=path.name):
            runs.table_of_runs(path, 80)


def test_shipped_runs_are_listed_without_tensorflow():
    code = "import sys; from aigan_tf import cli; cli.runs(['pretrained']); print('tensorflow' in sys.modules)"
    command = [sys.executable, "-c", code]
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    *_, cifar10, mnist, imported = shown.splitlines()
    assert cifar10.endswith("finished")
    assert mnist.endswith("finished")
    assert imported == "False"
