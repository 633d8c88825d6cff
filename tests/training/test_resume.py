"""An interrupted run ends as an uninterrupted one, and files that changed meanwhile are seen."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys

import keras
import pytest
import tensorflow as tf
from kill_and_resume import events
from tiny_runs import Stop, differ, different_end, metrics_rows, stop, tiny, train

from aigan_tf.engine import callbacks
from aigan_tf.errors import InputError, Terminated
from aigan_tf.training import generator, run
from aigan_tf.workdir import Workdir

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture
def left_at(finished, tmp_path):
    """Returns what a kill at a moment of the finished run would have left: a copy of its folder."""
    return lambda moment: shutil.copytree(finished[0].parent / moment, tmp_path / "run")


def truncate(path):
    path.write_bytes(path.read_bytes()[:1000])


@pytest.mark.parametrize(
    "moment",
    [
        "aigan1_unsaved",  # stage 1 has written all its files, but no checkpoint knows
        "aigan1_saved",  # stage 2 has just begun
        "aigan3_saved",  # all epochs are done, the weights are not written
    ],
)
def test_killed_run_ends_bit_for_bit_as_an_uninterrupted_one(moment, finished, left_at):
    folder = left_at(moment)
    train(tiny(), folder)
    assert not different_end(folder, finished[0])


def test_killed_training_of_the_classifier_ends_bit_for_bit_too(finished, left_at, monkeypatch):
    folder = left_at("classifier0_saved")
    monkeypatch.setattr(run, "train_generator", stop)
    with pytest.raises(Stop):
        run.train_and_export(tiny(), folder)
    resumed, whole = (
        keras.models.load_model(path / "classifier.keras", compile=False) for path in (folder, finished[0])
    )
    assert not differ(resumed.get_weights(), whole.get_weights())


@pytest.mark.long
def test_interrupted_run_leaves_whole_files_and_ends_bit_for_bit(finished, left_at, monkeypatch):
    folder = left_at("aigan0_unsaved")  # the classifier is done, nothing of the generator is saved

    def interrupt(self, batch, logs=None):
        if self.model.generator_optimizer.iterations == 5:  # within the second epoch, the last of stage 1
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(callbacks.MetricsHistory, "on_train_batch_end", interrupt)
        with pytest.raises(KeyboardInterrupt):
            run.train_and_export(tiny(), folder)
    assert metrics_rows(folder, "seconds") == metrics_rows(finished[0], "seconds")[:1]
    for name in ("generator_stage1.weights.h5", "generator.weights.h5", "generator", "report.json", "samples"):
        assert not (folder / name).exists()
    assert [path.name for path in folder.rglob(".*")] in ([], [".lock"])
    train(tiny(), folder)
    assert not different_end(folder, finished[0])


def raise_signal_at(monkeypatch, step):
    """Sends this process SIGTERM within that step of the generator's training; steps are counted from 1."""
    original = callbacks.MetricsHistory.on_train_batch_begin

    def on_train_batch_begin(self, batch, logs=None):
        original(self, batch, logs)
        optimizer = getattr(self.model, "generator_optimizer", None)
        if optimizer is not None and int(optimizer.iterations) + 1 == step:
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(callbacks.MetricsHistory, "on_train_batch_begin", on_train_batch_begin)


@pytest.mark.parametrize(
    ("step", "stage"),
    [(5, 1), pytest.param(6, 1, marks=pytest.mark.long), pytest.param(8, 2, marks=pytest.mark.long)],
    ids=["within an epoch", "at its end", "within one of stage 2"],
)
def test_run_stopped_by_a_signal_continues_bit_for_bit(step, stage, finished, left_at, monkeypatch, capsys):
    folder = left_at("aigan0_unsaved")
    with monkeypatch.context() as patch:
        raise_signal_at(patch, step)
        with pytest.raises(Terminated):
            run.train_and_export(tiny(), folder)
    assert (f"Saved after step {step}." in capsys.readouterr().out) == (step % 3 != 0)
    assert (folder / "checkpoints" / "aigan" / f"ckpt-{step}.index").exists()
    assert len(metrics_rows(folder)) == step // 3
    train(tiny(), folder)
    assert f"after step {step} of 12, in stage {stage if step % 3 else 2}" in capsys.readouterr().out
    # Training metrics of the interrupted epoch are means over the rest of its steps.
    epoch = step // 3
    means = {f"metrics.csv {epoch}", f"logs/train step {epoch + 1}"} if step % 3 else set()
    assert different_end(folder, finished[0]) == means


@pytest.mark.long
def test_terminated_command_saves_and_continues_to_the_same_end(tmp_path):
    """SIGTERM to train.py within an epoch: status 143, one line, and the same command then ends as if uninterrupted."""
    command = [
        sys.executable, "train.py", "--classifier_epochs=1", "--stage1_epochs=1", "--stage2_epochs=3",
        "--steps_per_epoch=40", "--batch_size=32", "--generator_width=4", "--generator_blocks=1", "--attack_steps=1",
    ]  # fmt: skip

    def execute(folder, until=None):
        """Runs the command to its end, or terminates it at the line that begins with `until`; returns status, errors."""
        process = subprocess.Popen(
            [*command, f"--workdir={folder}"], cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        out = ""
        while until and until not in out:
            line = process.stdout.readline()
            assert line, process.stderr.read()
            out += line
        if until:
            process.send_signal(signal.SIGTERM)
        _, err = process.communicate()
        return process.returncode, err

    status, err = execute(tmp_path / "run", until="Epoch 1/4, stage")
    assert status == 143, err
    assert err.strip().splitlines()[-1].startswith("terminated; the same command continues")
    assert "Traceback" not in err
    assert [path.name for path in (tmp_path / "run").rglob(".*")] in ([], [".lock"])
    for folder in ("run", "whole"):
        status, err = execute(tmp_path / folder)
        assert status == 0, err
    different = different_end(tmp_path / "run", tmp_path / "whole")
    assert all(name.startswith(("metrics.csv", "logs/train")) for name in different)
    assert len(different) <= 2


def test_damaged_newest_checkpoint_falls_back_to_the_one_before(finished, left_at, capsys):
    folder = left_at("aigan3_saved")
    truncate(folder / "checkpoints" / "aigan" / "ckpt-12.data-00000-of-00001")
    train(tiny(), folder)
    printed = capsys.readouterr().out
    assert printed.lower().count("warning") == 1
    assert "ckpt-12" in printed
    assert "after step 9 of 12" in printed
    assert not different_end(folder, finished[0])


def test_without_a_whole_checkpoint_nothing_is_trained_again(left_at):
    folder = left_at("aigan3_saved")
    for path in (folder / "checkpoints" / "aigan").glob("*.data*"):
        truncate(path)
    with pytest.raises(InputError, match="none of the 2 checkpoints"):
        run.train_and_export(tiny(), folder)


@pytest.mark.parametrize(
    "damage",
    [lambda lines: lines[:3], lambda lines: [*lines[:4], "4,2,soon" + lines[4][lines[4].index(",", 4) :]]],
    ids=["rows missing", "not a number"],
)
def test_history_that_does_not_reach_the_checkpoint_is_refused(damage, left_at):
    folder = left_at("aigan3_saved")
    path = folder / "metrics.csv"
    path.write_text("".join(f"{line}\n" for line in damage(path.read_text().splitlines())))
    before = path.read_bytes()
    with pytest.raises(InputError, match=r"metrics\.csv lacks epoch"):
        run.train_and_export(tiny(), folder)
    assert path.read_bytes() == before


def test_samples_are_written_before_the_weights_that_end_training(left_at, monkeypatch):
    folder = left_at("aigan3_saved")
    monkeypatch.setattr(generator, "save_generator", stop)
    with pytest.raises(Stop):
        run.train_and_export(tiny(), folder)
    assert not (folder / "generator.weights.h5").exists()
    assert (folder / "samples" / "stage2.png").exists()
    assert "samples step 12" in events(folder / "logs")


def test_file_is_sealed_before_it_gets_its_name(make_aigan, tmp_path, monkeypatch):
    folder, sealed = Workdir(tmp_path), []
    aigan = make_aigan()
    aigan.generator(tf.zeros((1, 8, 8, 1)), tf.zeros((1,), tf.int32))
    original = os.replace

    def replace(temporary, path):
        if path == folder.weights:
            sealed.extend(json.loads(folder.digests.read_text()))
        original(temporary, path)

    monkeypatch.setattr(os, "replace", replace)
    generator.save_generator(aigan, folder.weights)
    assert sealed == ["generator.weights.h5"]
    folder.verify(folder.weights)
