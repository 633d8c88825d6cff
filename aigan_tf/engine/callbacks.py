"""Callbacks around epochs: progress, histories, and the end of a training that diverged."""

import math
import pathlib
import sys
import time
from collections.abc import Callable

import keras
import tensorflow as tf

from aigan_tf import files
from aigan_tf.errors import DivergedError, InputError


class Progress(keras.callbacks.Callback):
    """A progress bar with a few metrics; metrics.csv and TensorBoard have all of them.

    On a terminal a bar, otherwise (a log file) one line per epoch. From the second epoch of a stage on, it says how long
    the rest takes at the pace of the last one.

    Args:
        metrics: names of the metrics shown, those of validation with the prefix val_.
        epochs: epochs of the whole run.
        show_stage: whether to show the model's `stage`.
    """

    def __init__(self, metrics: list[str], epochs: int, show_stage: bool = False):
        super().__init__()
        self.shown = metrics
        self.epochs = epochs
        self.show_stage = show_stage
        self.interactive = sys.stdout.isatty()
        self.began = self.began_in = None  # time and stage of the epoch before

    def on_epoch_begin(self, epoch, logs=None):
        now, stage = time.perf_counter(), getattr(self.model, "stage", None)
        title = f"Epoch {epoch + 1}/{self.epochs}" + (f", stage {stage}" if self.show_stage else "")
        if self.began is not None and stage == self.began_in:
            seconds = (self.epochs - epoch) * (now - self.began)
            title += f", about {seconds / 60:.0f} min left" if seconds >= 90 else f", about {seconds:.0f} s left"
        self.began, self.began_in = now, stage
        print(title, end="\n" if self.interactive else ": ", flush=True)
        verbose = 1 if self.interactive else 2
        self.bar = keras.utils.Progbar(self.params["steps"], verbose=verbose, stateful_metrics=self.shown)

    def on_train_batch_end(self, batch, logs=None):
        if self.interactive:
            self.bar.update(batch + 1, [(name, logs[name]) for name in self.shown if name in logs], finalize=False)

    def on_epoch_end(self, epoch, logs=None):
        self.bar.update(
            self.params["steps"], [(name, logs[name]) for name in self.shown if name in logs], finalize=True
        )


def fresh_event_writer(folder: pathlib.Path, suffix: str = ".v2") -> tf.summary.SummaryWriter:
    """Returns a writer of TensorBoard events, after deleting those that an earlier one with this suffix left in a folder.

    TensorFlow can only append: epochs that a continued run repeats would appear twice.
    """
    for earlier in folder.glob(f"events.out.tfevents.*{suffix}"):
        earlier.unlink()
    return tf.summary.create_file_writer(str(folder), filename_suffix=suffix)


class MetricsHistory(keras.callbacks.Callback):
    """Writes metrics as CSV and for TensorBoard: one row per epoch, without gaps or duplicates in a continued run.

    A row has the stage if the model has one. Call `restore` before `fit`. Keras's own TensorBoard callback can only
    append, and lets TensorFlow keep 6 kB per step.

    Args:
        path: the CSV file.
        logs: folder of TensorBoard events, in train/ and validation/; None for none.
    """

    def __init__(self, path: pathlib.Path, logs: pathlib.Path | None = None):
        super().__init__()
        self.path = path
        self.logs = logs
        self.rows = []
        self.events = {}
        # Of the current epoch; a checkpoint holds it, so that an interruption does not lose time.
        self.epoch_seconds = keras.Variable(0.0, trainable=False, dtype="float32", name="epoch_seconds")

    def restore(self, epochs: int) -> None:
        """Keeps the rows of the first `epochs` epochs and drops later ones, which are repeated.

        Raises:
            InputError: the CSV file does not hold those epochs.
        """
        self.rows = files.read_csv(self.path)[:epochs] if epochs else []
        for number in range(1, epochs + 1):
            row = self.rows[number - 1] if number <= len(self.rows) else {}
            if row.get("epoch") != str(number) or not all(map(_is_number, row.values())):
                raise InputError(
                    f"{self.path} lacks epoch {number} or its numbers",
                    f"all epochs up to {epochs}, that of the checkpoint",
                    f"restore the file, or delete {self.path.with_name('checkpoints')} to train again",
                )
        if self.logs:
            self.events = {part: fresh_event_writer(self.logs / part) for part in ("train", "validation")}
            for row in self.rows:
                self._log(row)

    def on_train_begin(self, logs=None):
        self.began = time.perf_counter() - float(self.epoch_seconds)

    def on_epoch_begin(self, epoch, logs=None):
        # Read here: the switch at the epoch's end must not relabel it.
        self.stage = {"stage": str(self.model.stage)} if hasattr(self.model, "stage") else {}

    def on_train_batch_end(self, batch, logs=None):
        self.epoch_seconds.assign(time.perf_counter() - self.began)

    def on_epoch_end(self, epoch, logs=None):
        values = {name: f"{value}" if isinstance(value, int) else f"{float(value):.6g}" for name, value in logs.items()}
        # From one epoch's end to the next, so that it includes what other callbacks write.
        ended = time.perf_counter()
        seconds, self.began = f"{ended - self.began:.2f}", ended
        self.epoch_seconds.assign(0.0)
        rate = {"learning_rate": f"{float(self.model.optimizer.learning_rate):.6g}"}
        self.rows.append({"epoch": str(epoch + 1), **self.stage, "seconds": seconds, **rate, **values})
        files.write_csv(self.path, self.rows)
        if self.logs:
            self._log(self.rows[-1])

    def close(self) -> None:
        """Closes TensorBoard's files."""
        for events in self.events.values():
            events.close()

    def _log(self, row):
        for name, value in row.items():
            if name == "epoch" or not value:
                continue
            with self.events["validation" if name.startswith("val_") else "train"].as_default():
                tf.summary.scalar(f"epoch_{name.removeprefix('val_')}", float(value), step=int(row["epoch"]))
        for events in self.events.values():
            events.flush()  # before the checkpoint, from which a run continues


def _is_number(cell):
    """Whether `MetricsHistory` may have written this cell; empty if some rows lack the column."""
    try:
        return not cell or math.isfinite(float(cell))
    except ValueError:
        return False


class StopNotFinite(keras.callbacks.Callback):
    """Ends training at the first loss that is NaN or infinite. Put it before callbacks that write at an epoch's end.

    Args:
        checkpoint_hint: returns what there is to go back to, for the message.
        fix: what to do about it, for the message.

    Raises:
        DivergedError: from `fit`, naming the step, the losses and the checkpoint.
    """

    def __init__(self, checkpoint_hint: Callable[[], str], fix: str):
        super().__init__()
        self.checkpoint_hint = checkpoint_hint
        self.fix = fix

    def on_train_batch_end(self, batch, logs=None):
        self._check(logs)

    def on_epoch_end(self, epoch, logs=None):
        self._check(logs)  # of validation too: the last step may have broken the weights

    def _check(self, logs):
        bad = {name: float(value) for name, value in logs.items() if not math.isfinite(value)}
        if not bad:
            return
        if len(bad) > 1:
            bad.pop("generator_loss", None)  # the sum of others
        step = int(tf.convert_to_tensor(self.model.optimizer.iterations.value))  # replicas make it no plain number
        losses = ", ".join(f"{name} is {value}" for name, value in bad.items())
        raise DivergedError(f"{losses} at step {step}", "finite losses", f"{self.fix}; {self.checkpoint_hint()}")
