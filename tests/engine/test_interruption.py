"""Signals to the real command, and training that has gone wrong."""

import math
import os
import pathlib
import signal
import subprocess
import sys
import threading

import keras
import kill_and_resume
import numpy as np
import pytest
import tensorflow as tf
from commands import run_in_process

from aigan_tf import cli
from aigan_tf.build import build_advgan
from aigan_tf.classifiers import training as classifier_training
from aigan_tf.classifiers.black_box import DynamicDistillation
from aigan_tf.config import make_config
from aigan_tf.engine.callbacks import MetricsHistory, StopNotFinite
from aigan_tf.engine.checkpoints import Checkpoint
from aigan_tf.errors import DivergedError, Terminated
from aigan_tf.method.failures import QuietFailures
from aigan_tf.training import generator
from aigan_tf.workdir import Workdir

ROOT = pathlib.Path(__file__).parents[2]


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
def heeded():
    """Ctrl-C as a terminal has it: what a script starts in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def fit(model, checkpoint, steps=5, epochs=1, initial_epoch=0):
    model.compile(jit_compile=False)
    batches = tf.data.Dataset.from_tensors(tf.zeros((1, 1))).repeat()
    with checkpoint:
        model.fit(
            batches,
            steps_per_epoch=steps,
            epochs=epochs,
            initial_epoch=initial_epoch,
            verbose=0,
            callbacks=[checkpoint],
        )


@pytest.mark.parametrize(
    ("sent", "error"), [(signal.SIGTERM, Terminated), (signal.SIGINT, KeyboardInterrupt)], ids=["SIGTERM", "SIGINT"]
)
def test_a_signal_waits_for_the_step_and_saves_it(sent, error, tmp_path):
    before = signal.getsignal(sent)

    def disturb(step):
        if step == 3:
            os.kill(os.getpid(), sent)

    model = Counter(disturb)
    with pytest.raises(error):
        fit(model, Checkpoint(tmp_path, model=model))
    assert int(model.count) == 3
    assert signal.getsignal(sent) is before
    again = Counter()
    checkpoint = Checkpoint(tmp_path, model=again)
    assert checkpoint.restore() == 3
    assert int(again.count) == 3


def test_a_signal_in_the_last_step_leaves_the_epoch_its_end(tmp_path):
    """What other callbacks do at an epoch's end belongs to the state that is saved."""
    model = Counter(lambda step: step == 5 and os.kill(os.getpid(), signal.SIGTERM))
    checkpoint, ended = Checkpoint(tmp_path, model=model), []
    original = checkpoint.on_epoch_end
    checkpoint.on_epoch_end = lambda epoch, logs=None: (ended.append(epoch), original(epoch, logs))
    with pytest.raises(Terminated):
        fit(model, checkpoint, epochs=2)
    assert ended == [0]
    assert Checkpoint(tmp_path, model=Counter()).restore() == 5


def test_the_same_signal_twice_does_not_wait(tmp_path):
    checkpoint = Checkpoint(tmp_path)
    checkpoint.__enter__()
    signal.raise_signal(signal.SIGINT)  # noted
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    checkpoint.__exit__(KeyboardInterrupt)
    assert not list(tmp_path.iterdir())


def test_training_in_a_thread_leaves_signals_alone(tmp_path):
    handlers = []

    def train():
        with Checkpoint(tmp_path):
            handlers.append(signal.getsignal(signal.SIGTERM))

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=train)
    thread.start()
    thread.join()
    assert handlers == [before]


@pytest.mark.long
def test_a_terminated_command_saves_and_goes_on_to_the_same_end(tmp_path):
    """SIGTERM to train.py within an epoch: status 143, one line, and the same command ends as if nothing had been."""
    command = [
        sys.executable, "train.py", "--classifier_epochs=1", "--stage1_epochs=1", "--stage2_epochs=3",
        "--steps_per_epoch=40", "--batch_size=32", "--generator_width=4", "--generator_blocks=1", "--attack_steps=1",
    ]  # fmt: skip

    def run(folder, until=None):
        """Runs the command on a folder, to its end or to the line that begins so; its status, output and errors."""
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
        return process.wait(), out + process.stdout.read(), process.stderr.read()

    status, _, err = run(tmp_path / "run", until="Epoch 1/4, stage")
    assert status == 143, err
    assert err.strip().splitlines()[-1] == "terminated; the same command goes on from what was saved last"
    assert "Traceback" not in err
    assert not [path for path in (tmp_path / "run").rglob(".*") if path.name != ".lock"]
    for folder in ("run", "whole"):
        status, _, err = run(tmp_path / folder)
        assert status == 0, err
    states = [kill_and_resume.state(tmp_path / folder) for folder in ("run", "whole")]
    different = kill_and_resume.differences(*states)
    # The averages of training, of the epoch that was left, are over the rest of its steps.
    assert [name for name in different if not name.startswith(("metrics.csv", "logs/train"))] == []
    assert len(different) <= 2


class Broken(keras.Model):
    """Its losses are no numbers from the third step on."""

    def __init__(self):
        super().__init__()
        self.built = True

    def train_step(self, data):
        bad = tf.where(self.optimizer.iterations.value >= 2, tf.constant(math.nan), 1.0)
        self.optimizer.iterations.assign_add(1)
        return {"gan_loss": bad, "hinge_loss": tf.constant(0.5), "generator_loss": bad}


@pytest.mark.parametrize("saved", [None, pathlib.Path("checkpoints/ckpt-2")])
def test_a_loss_that_is_no_number_ends_training_and_is_named(saved, tmp_path):
    checkpoint = Checkpoint(tmp_path)
    checkpoint.newest = saved
    model = Broken()
    model.compile(optimizer=keras.optimizers.SGD(), jit_compile=False)
    batches = tf.data.Dataset.from_tensors(tf.zeros((1, 1))).repeat()
    with pytest.raises(DivergedError) as caught:
        model.fit(
            batches, steps_per_epoch=9, verbose=0, callbacks=[StopNotFinite(checkpoint.checkpoint_hint, "lower it")]
        )
    message = str(caught.value)
    assert message.startswith("step 3: gan_loss is nan; expected")
    assert "hinge_loss" not in message
    assert ("ckpt-2" if saved else "no checkpoint") in message
    assert message.endswith(": lower it")
    assert "\n" not in message


def test_an_infinite_loss_of_validation_is_caught_before_the_epoch_is_saved(tmp_path):
    model = Broken()
    model.compile(optimizer=keras.optimizers.SGD(), jit_compile=False)
    stop = StopNotFinite(Checkpoint(tmp_path).checkpoint_hint, "lower it")
    stop.set_model(model)
    stop.on_epoch_end(0, {"generator_loss": 1.0, "val_generator_loss": 2.0})
    with pytest.raises(DivergedError, match="val_generator_loss is inf"):
        stop.on_epoch_end(1, {"generator_loss": 1.0, "val_generator_loss": math.inf})


def test_a_diverging_run_ends_in_one_line_and_keeps_its_last_good_checkpoint(
    digit_classifier, tmp_path, capsys, monkeypatch
):
    """Through the command; the generator breaks in its second epoch."""
    digit_classifier.save(tmp_path / "digits.keras")
    original = MetricsHistory.on_epoch_begin

    def on_epoch_begin(self, epoch, logs=None):
        original(self, epoch, logs)
        if epoch == 1:
            bias = self.model.generator.head.bias
            bias.assign(bias + math.nan)

    monkeypatch.setattr(MetricsHistory, "on_epoch_begin", on_epoch_begin)
    status = run_in_process(
        cli.train, f"--classifier={tmp_path / 'digits.keras'}", f"--workdir={tmp_path / 'run'}", "--stage1_epochs=1",
        "--steps_per_epoch=6", "--batch_size=32", "--generator_width=4", "--generator_blocks=1",
    )  # fmt: skip
    assert status == 1
    good = tmp_path / "run" / "checkpoints" / "aigan" / "ckpt-6"
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("error: step 7: adversarial_loss is nan, ")
    assert f"expected finite losses, the last good checkpoint is {good}: lower --learning_rate" in line
    assert not (tmp_path / "run" / "generator.weights.h5").exists()
    assert [path.stem for path in good.parent.glob("*.index")] == ["ckpt-6"]
    reader = tf.train.load_checkpoint(str(good))
    for name in reader.get_variable_to_shape_map().keys() - {"_CHECKPOINTABLE_OBJECT_GRAPH"}:
        assert np.isfinite(reader.get_tensor(name)).all(), name


@pytest.mark.parametrize("term", ["gan", "hinge"])
def test_a_weight_beyond_float32_is_named_with_its_remedy(term, make_aigan, batch):
    aigan = make_aigan(hinge_threshold=0.0, **{f"{term}_weight": 1e38})
    batches = tf.data.Dataset.from_tensors((batch[0], tf.constant(batch[1]))).repeat()
    stop = StopNotFinite(lambda: "no checkpoint was saved before", "lower --learning_rate")
    with pytest.raises(DivergedError) as caught:
        aigan.fit(batches, steps_per_epoch=9, verbose=0, shuffle=False, callbacks=[stop])
    message = str(caught.value)
    assert "generator_loss is" in message
    assert f"{term}_weight is 1e+38, more than float32 can carry; expected finite losses" in message
    assert f": lower --{term}_weight" in message
    assert "learning_rate" not in message


def test_a_copy_that_diverges_ends_the_run_before_anything_is_written_of_it(
    digit_classifier, digits, tmp_path, monkeypatch
):
    def no_number(self, epoch, logs=None):
        logs["copy_loss"] = math.nan

    monkeypatch.setattr(DynamicDistillation, "on_epoch_end", no_number)
    monkeypatch.setattr(classifier_training, "surrogate", lambda *run: (digit_classifier, digits))
    config = make_config(black_box="small", stage1_epochs=1, steps_per_epoch=2, generator_width=4, generator_blocks=1)
    with pytest.raises(DivergedError, match="copy_loss is nan"):
        generator.train_generator(config, digits, digit_classifier, Workdir(tmp_path))
    assert not [path for path in tmp_path.rglob("*") if path.suffix in (".csv", ".h5", ".png", ".index")]


@pytest.mark.parametrize("earlier", [False, True])
def test_weights_that_are_not_finite_are_never_saved(earlier, tmp_path):
    weight = keras.Variable(1.0)
    checkpoint = Checkpoint(tmp_path, generator=weight)
    if earlier:
        checkpoint.on_epoch_end(0)
    weight.assign(math.inf)
    checkpoint.steps_done = 4
    with pytest.raises(DivergedError, match="after step 4 generator is not finite") as caught:
        checkpoint.on_epoch_end(1)
    assert (str(tmp_path / "ckpt-0") in str(caught.value)) == earlier
    assert sorted(path.stem for path in tmp_path.glob("*.index")) == ["ckpt-0"] * earlier


def test_the_last_two_checkpoints_are_kept_and_damaged_ones_go(tmp_path):
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
    assert stems() == {"ckpt-6", "ckpt-9"}  # nothing is lost before there is something better
    (tmp_path / "ckpt-3.data-00000-of-00001").write_bytes(b"killed before this was removed")
    again.steps_done = 7
    again.on_epoch_end(0)
    assert stems() == {"ckpt-6", "ckpt-7"}
    for end in (".index", ".data-00000-of-00001"):  # killed after the last step's was written, before this was removed
        (tmp_path / f"ckpt-5{end}").write_bytes((tmp_path / f"ckpt-6{end}").read_bytes())
    last = Checkpoint(tmp_path, weight=weight)
    last.restore()
    with last:  # nothing is left to do
        assert stems() == {"ckpt-6", "ckpt-7"}


def test_a_signal_after_the_last_step_is_not_swallowed(tmp_path):
    with pytest.raises(Terminated), Checkpoint(tmp_path):
        signal.raise_signal(signal.SIGTERM)


def test_a_signal_that_is_ignored_stays_so(tmp_path):
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Checkpoint(tmp_path):
            assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_collapsed_discriminator_is_warned_of_once(make_aigan, batch, capsys):
    watch = QuietFailures(make_aigan(), batch[0])
    watch.on_epoch_end(0, {"discriminator_loss": 0.3})
    assert "collapsed" not in capsys.readouterr().out
    for epoch in (1, 2):
        watch.on_epoch_end(epoch, {"discriminator_loss": 1e-5})
    assert capsys.readouterr().out.count("Warning: the discriminator has collapsed") == 1


def test_a_generator_that_ignores_its_target_is_warned_of(make_aigan, batch, capsys):
    aigan = make_aigan()
    watch = QuietFailures(aigan, batch[0])
    watch.on_epoch_end(0, {"discriminator_loss": 1.0})
    assert "ignores" not in capsys.readouterr().out
    assert watch.difference() > 5 * watch.ALIKE
    aigan.generator.embedding.set_weights([np.zeros_like(aigan.generator.embedding.get_weights()[0])])
    assert watch.difference() < 1e-4  # rounding
    watch.on_epoch_end(0, {"discriminator_loss": 1.0})
    assert "ignores" not in capsys.readouterr().out  # it may still learn
    aigan.generator_optimizer.iterations.assign(watch.PATIENCE)
    watch.on_epoch_end(1, {"discriminator_loss": 1.0})
    assert "Warning: the generator ignores its target: after epoch 2" in capsys.readouterr().out


def test_a_discriminator_stuck_at_one_answer_is_warned_of(make_aigan, batch, capsys):
    aigan = make_aigan()
    aigan.generator_optimizer.iterations.assign(QuietFailures.PATIENCE)
    watch = QuietFailures(aigan, batch[0])
    at_chance = {"discriminator_loss": 2 * math.log(2)}
    watch.on_epoch_end(0, at_chance)
    assert "stuck" not in capsys.readouterr().out  # nobody may be able to tell such images apart
    aigan.discriminator.head.kernel.assign(np.zeros_like(aigan.discriminator.head.kernel))
    watch.on_epoch_end(1, {"discriminator_loss": 1.2})
    assert "stuck" not in capsys.readouterr().out
    for epoch in (2, 3):
        watch.on_epoch_end(epoch, at_chance)
    assert capsys.readouterr().out.count("Warning: the discriminator is stuck: after epoch 3 it answers the same") == 1


def test_a_generator_of_one_target_cannot_ignore_it(digits, digit_classifier, batch, capsys):
    advgan = build_advgan(make_config(generator_width=4, generator_blocks=1), digits, digit_classifier, 3, 2)
    advgan.generator_optimizer.iterations.assign(QuietFailures.PATIENCE)
    watch = QuietFailures(advgan, batch[0])
    watch.on_epoch_end(0, {"discriminator_loss": 1.0})
    assert not capsys.readouterr().out
    watch.on_epoch_end(1, {"discriminator_loss": 1e-5})
    assert "collapsed" in capsys.readouterr().out


def test_divergence_on_several_devices_is_one_line_too(make_aigan):
    with tf.distribute.MirroredStrategy(["CPU:0"]).scope():
        aigan = make_aigan()
    stop = StopNotFinite(lambda: "no checkpoint was saved before", "lower --learning_rate")
    stop.set_model(aigan)
    with pytest.raises(DivergedError, match="step 0: gan_loss is nan; expected finite losses"):
        stop.on_train_batch_end(0, {"gan_loss": float("nan")})
