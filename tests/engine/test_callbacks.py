"""The lines of training and the bar below them; training ends at the first loss that is not finite, and says why."""

import io
import math
import sys
import types

import keras
import pytest
import tensorflow as tf

from aigan_tf.engine import callbacks
from aigan_tf.engine.callbacks import Progress, StopNotFinite
from aigan_tf.engine.checkpoints import Checkpoint
from aigan_tf.engine.time_left import TimeLeft
from aigan_tf.errors import DivergedError, quiet


class Broken(keras.Model):
    """Two of its losses are NaN from the third step on."""

    def __init__(self):
        super().__init__()
        self.built = True
        self.compile(optimizer=keras.optimizers.SGD(), jit_compile=False)

    def train_step(self, data):
        bad = tf.where(self.optimizer.iterations.value >= 2, tf.constant(math.nan), 1.0)
        self.optimizer.iterations.assign_add(1)
        return {"gan_loss": bad, "hinge_loss": tf.constant(0.5), "generator_loss": bad}


def test_loss_that_is_not_finite_ends_training_and_is_named(tmp_path):
    checkpoint = Checkpoint(tmp_path, weight=keras.Variable(1.0))
    checkpoint.steps_done = 2
    checkpoint.on_epoch_end(0)
    batches = tf.data.Dataset.from_tensors(tf.zeros((1, 1))).repeat()
    stop = StopNotFinite(checkpoint.checkpoint_hint, lambda step, names: ("too fast", "lower `learning_rate`"))
    with pytest.raises(DivergedError) as error:
        Broken().fit(batches, steps_per_epoch=9, verbose=0, callbacks=[stop])
    message = str(error.value)
    assert "step 3" in message
    assert "gan_loss is nan" in message
    assert "hinge_loss" not in message
    assert "generator_loss" not in message  # it is the sum of others
    assert "ckpt-2" in message
    assert "lower `learning_rate`" in error.value.fix


def test_infinite_validation_loss_is_caught_before_the_epoch_is_saved():
    stop = StopNotFinite(lambda: "no checkpoint", lambda step, names: (f"see {[*names]}", "lower `learning_rate`"))
    stop.set_model(Broken())
    stop.on_epoch_end(0, {"generator_loss": 1.0, "val_generator_loss": 2.0})
    with pytest.raises(DivergedError, match="val_generator_loss is inf"):
        stop.on_epoch_end(1, {"generator_loss": 1.0, "val_generator_loss": math.inf})


METRICS = {"targeted_success_rate": "success {:.1%}", "perturbation_l2": "L2 {:.2f}"}


class Terminal(io.StringIO):
    """Keeps what a terminal would show: a carriage return begins the line again."""

    def isatty(self):
        return True

    def shown(self):
        return [line.rpartition("\r")[2].rstrip() for line in self.getvalue().split("\n")]


def train_for_two_epochs(monkeypatch, stage1_epochs=1, seconds=1.0):
    """Calls the hooks of a training of two epochs of twenty steps, by a clock that advances by `seconds` per step."""
    clock = types.SimpleNamespace(now=0.0)
    monkeypatch.setattr(callbacks.time, "perf_counter", lambda: clock.now)
    time_left = TimeLeft(2, 20, stage1_epochs, validation_images=1)

    def try_stage2():
        time_left.step[2].add(seconds / 2)

    progress = Progress(METRICS, time_left, try_stage2)
    progress.set_params({"steps": 20})
    progress.set_model(types.SimpleNamespace(stage=1))
    logs = {"targeted_success_rate": 0.5, "perturbation_l2": 1.0}
    progress.on_train_begin()
    for epoch in range(2):
        progress.model.stage = 1 if epoch < stage1_epochs else 2
        progress.on_epoch_begin(epoch)
        for step in range(20):
            clock.now += seconds / progress.model.stage
            progress.on_train_batch_end(step, logs)
        clock.now += seconds * 4
        progress.on_epoch_end(epoch, logs | {"val_targeted_success_rate": 0.941, "val_perturbation_l2": 1.12})


def test_each_epoch_is_one_line_with_validation_success_and_the_time_left(monkeypatch, capsys):
    train_for_two_epochs(monkeypatch, seconds=60.0)
    announced, first, last = capsys.readouterr().out.splitlines()
    # After 14 steps of stage 1: six of them, twenty of half the length, and two epochs' ends.
    assert "About 1" in announced
    assert "stage 1 6 min, stage 2 10 min," in announced
    assert first.startswith("epoch 1 of 2, stage 1, success 94.1 %, L2 1.12, about 1")
    assert first.endswith(" min left")
    assert last == "epoch 2 of 2, stage 2, success 94.1 %, L2 1.12"
    assert max(map(len, (announced, first, last))) <= 80


def test_bar_of_the_running_epoch_leaves_no_trace(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("COLUMNS", "80")
    train_for_two_epochs(monkeypatch)
    assert "epoch 1 of 2, stage 1 " in terminal.getvalue()
    assert "20/20" in terminal.getvalue() or "0/20" in terminal.getvalue()
    announced, *epochs, end = terminal.shown()
    assert announced.startswith("About ")
    assert [line[:12] for line in epochs] == ["epoch 1 of 2", "epoch 2 of 2"]
    assert not end
    assert max(len(part) for part in terminal.getvalue().replace("\n", "\r").split("\r")) <= 80


def test_progress_that_is_not_wanted_is_not_printed_but_measured(monkeypatch, capsys):
    with quiet():
        train_for_two_epochs(monkeypatch)
    assert capsys.readouterr().out == ""
