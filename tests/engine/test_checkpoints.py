"""Checkpoints: what they hold, which are kept, and what signals do to a run."""

import math
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest
import tensorflow as tf

from aigan_tf.classifiers import architectures
from aigan_tf.engine import checkpoints
from aigan_tf.engine.checkpoints import Checkpoint
from aigan_tf.errors import DivergedError, Terminated
from aigan_tf.method.networks import Discriminator, Generator


class Counter(keras.Model):
    """Counts its steps in a weight; `disturb` is called with the count, from within the step."""

    def __init__(self, disturb=lambda step: None):
        super().__init__()
        self.count = self.add_weight(shape=(), dtype="int32", initializer="zeros", trainable=False)
        self.disturb = disturb
        self.built = True

    def train_step(self, data):
        self.count.assign_add(1)
        tf.py_function(lambda step: [self.disturb(int(step))][:0], [self.count], [])
        return {"loss": tf.zeros(())}


@pytest.fixture(autouse=True)
def interactive():
    """Ctrl-C as in a terminal: a command that a script starts in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def fit(model, checkpoint, epochs=1):
    model.compile(jit_compile=False)
    batches = tf.data.Dataset.from_tensors(tf.zeros((1, 1))).repeat()
    with checkpoint:
        model.fit(batches, steps_per_epoch=5, epochs=epochs, verbose=0, callbacks=[checkpoint])


@pytest.mark.parametrize(
    ("sent", "error"), [(signal.SIGTERM, Terminated), (signal.SIGINT, KeyboardInterrupt)], ids=["SIGTERM", "SIGINT"]
)
def test_signal_waits_for_the_step_and_saves_it(sent, error, tmp_path):
    before = signal.getsignal(sent)
    model = Counter(lambda step: step == 3 and os.kill(os.getpid(), sent))
    with pytest.raises(error):
        fit(model, Checkpoint(tmp_path, model=model))
    assert int(model.count) == 3
    assert signal.getsignal(sent) is before
    again = Counter()
    assert Checkpoint(tmp_path, model=again).restore() == 3
    assert int(again.count) == 3


def test_signal_in_the_last_step_lets_the_epoch_end(tmp_path):
    """What other callbacks do at an epoch's end belongs to the state that is saved."""
    model = Counter(lambda step: step == 5 and os.kill(os.getpid(), signal.SIGTERM))
    checkpoint, ended = Checkpoint(tmp_path, model=model), []
    original = checkpoint.on_epoch_end
    checkpoint.on_epoch_end = lambda epoch, logs=None: (ended.append(epoch), original(epoch, logs))
    with pytest.raises(Terminated):
        fit(model, checkpoint, epochs=2)
    assert ended == [0]
    assert Checkpoint(tmp_path, model=Counter()).restore() == 5


def test_second_signal_does_not_wait(tmp_path):
    checkpoint = Checkpoint(tmp_path)
    checkpoint.__enter__()
    signal.raise_signal(signal.SIGINT)  # noted
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    checkpoint.__exit__(KeyboardInterrupt)
    assert not list(tmp_path.iterdir())


def test_ctrl_c_is_answered_while_the_step_runs(tmp_path, monkeypatch):
    """Python's own handler runs when TensorFlow returns, up to seconds later."""
    answered, within_step = threading.Event(), []
    monkeypatch.setattr(checkpoints, "say", lambda text: "again" in text and answered.set())

    def disturb(step):
        if step == 2:
            os.kill(os.getpid(), signal.SIGINT)
            within_step.append(answered.wait(10))

    with pytest.raises(KeyboardInterrupt):
        fit(Counter(disturb), Checkpoint(tmp_path))
    assert within_step == [True]
    assert signal.set_wakeup_fd(-1) == -1


def test_signal_after_the_last_step_is_not_swallowed(tmp_path):
    with pytest.raises(Terminated), Checkpoint(tmp_path):
        signal.raise_signal(signal.SIGTERM)


def test_training_in_a_thread_leaves_signals_alone(tmp_path):
    def handler():
        with Checkpoint(tmp_path):
            return signal.getsignal(signal.SIGTERM)

    with ThreadPoolExecutor() as pool:
        assert pool.submit(handler).result() is signal.getsignal(signal.SIGTERM)


def test_checkpoint_holds_every_variable_of_every_network(tmp_path):
    """Batch statistics and dropout seeds too, which no optimizer knows."""

    def networks():
        return {
            "generator": Generator(10, 1, width=4, num_blocks=1),
            "discriminator": Discriminator(1),
            "dropout": architectures.build("small", (8, 8, 1), 10),
        }

    saved = networks()
    for model in saved.values():
        for variable in model.variables:
            variable.assign(np.random.default_rng(0).integers(1, 100, variable.shape).astype(variable.dtype))
    checkpoint = Checkpoint(tmp_path, **saved)
    checkpoint.steps_done = 7
    checkpoint.on_epoch_end(6)
    restored = networks()
    assert Checkpoint(tmp_path, **restored).restore() == 7
    for name, model in restored.items():
        for before, after in zip(saved[name].variables, model.variables, strict=True):
            np.testing.assert_array_equal(np.asarray(after), np.asarray(before), err_msg=f"{name} {after.path}")


def test_weights_that_are_not_finite_are_never_saved(tmp_path):
    weight = keras.Variable(1.0)
    checkpoint = Checkpoint(tmp_path, generator=weight)
    checkpoint.on_epoch_end(0)
    weight.assign(math.inf)
    checkpoint.steps_done = 4
    with pytest.raises(DivergedError, match="generator is NaN or infinite after step 4") as error:
        checkpoint.on_epoch_end(1)
    assert str(tmp_path / "ckpt-0") in str(error.value)
    assert [path.stem for path in tmp_path.glob("*.index")] == ["ckpt-0"]


def test_last_two_checkpoints_are_kept_and_damaged_ones_removed(tmp_path):
    def stems():
        return {path.name.split(".")[0] for path in tmp_path.iterdir()}

    weight = keras.Variable(0.0)
    checkpoint = Checkpoint(tmp_path, weight=weight)
    for step in (3, 6, 9):
        weight.assign(step)
        checkpoint.steps_done = step
        checkpoint.on_epoch_end(0)
    assert stems() == {"ckpt-6", "ckpt-9"}
    (tmp_path / "ckpt-9.index").write_bytes(b"damaged")
    again = Checkpoint(tmp_path, weight=weight)
    assert again.restore() == 6
    assert float(weight) == 6
    assert stems() == {"ckpt-6", "ckpt-9"}  # nothing is removed before there is a better one
    (tmp_path / "ckpt-3.data-00000-of-00001").write_bytes(b"killed before this was removed")
    again.steps_done = 7
    again.on_epoch_end(0)
    assert stems() == {"ckpt-6", "ckpt-7"}
