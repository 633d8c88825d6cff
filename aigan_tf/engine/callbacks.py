"""Callbacks around epochs: progress, histories, and the end of a training that diverged."""

import math
import pathlib
import shutil
import sys
import time
from collections.abc import Callable, Collection

import keras
import tensorflow as tf
from tqdm import tqdm

from aigan_tf import files
from aigan_tf.engine.time_left import SETTLED, TimeLeft, duration
from aigan_tf.errors import DivergedError, InputError, is_quiet, say


class Stopwatch(keras.callbacks.Callback):
    """Measures the parts of a `fit` for a `TimeLeft`."""

    WARM_UP = 2  # first steps of a fit, which trace and compile

    def __init__(self, time_left: TimeLeft):
        super().__init__()
        self.time_left = time_left
        self.epoch_ended = None

    def on_train_begin(self, logs=None):
        self.warm_up = self.WARM_UP

    def on_epoch_begin(self, epoch, logs=None):
        self.last = time.perf_counter()
        if self.epoch_ended is not None:
            self.time_left.saving.add(self.last - self.epoch_ended)
        self.epoch = epoch
        self.stage = getattr(self.model, "stage", 2)
        self.steps_done = self.time_left.steps - self.params["steps"]  # more than 0 in a continued epoch

    def on_train_batch_end(self, batch, logs=None):
        now = time.perf_counter()
        if self.warm_up:
            self.warm_up -= 1
        else:
            self.time_left.step[self.stage].add(now - self.last)
        self.last = now
        self.steps_done += 1

    def on_epoch_end(self, epoch, logs=None):
        self.epoch_ended = time.perf_counter()
        self.time_left.validation.add(self.epoch_ended - self.last)
        # From here on the next epoch is ahead, in a stage that callbacks may change yet.
        self.epoch, self.steps_done = epoch + 1, 0

    def seconds_left(self) -> float | None:
        """Returns the seconds left from here on; None if no step was measured."""
        return self.time_left.seconds(self.epoch, self.steps_done, self.stage)


class Progress(Stopwatch):
    """Prints one line per epoch, with a few metrics and the time left; on a terminal a bar of the running epoch below it.

    metrics.csv and TensorBoard have all metrics. If progress is not wanted, it prints nothing.

    Args:
        metrics: the metrics shown, each with its form, such as `"success {:.1%}"`; the lines show those of validation.
        time_left: of this training.
        try_stage2: called once in stage 1, after a dozen steps; measures steps of stage 2 and leaves the model as it was.
    """

    def __init__(self, metrics: dict[str, str], time_left: TimeLeft, try_stage2: Callable[[], None] | None = None):
        super().__init__(time_left)
        self.metrics = metrics
        self.try_stage2 = try_stage2
        self.bar = None
        self.announced = is_quiet() or not time_left.stage1_epochs

    def on_epoch_begin(self, epoch, logs=None):
        super().on_epoch_begin(epoch, logs)
        if sys.stdout.isatty() and not is_quiet():
            columns = min(79, shutil.get_terminal_size().columns - 1)
            self.bar = tqdm(
                total=self.time_left.steps, initial=self.steps_done, desc=self._title(epoch), file=sys.stdout, leave=False,
                ncols=columns, mininterval=0.5, bar_format="{desc} {bar} {n_fmt}/{total_fmt}{postfix}",
            )  # fmt: skip

    def on_train_batch_end(self, batch, logs=None):
        super().on_train_batch_end(batch, logs)
        if self.bar is not None and self.bar.update():
            self.bar.set_postfix_str(", ".join([*self._values(logs)[:1], *self._left()]), refresh=False)
        settled = max(min(SETTLED, self.time_left.steps - self.WARM_UP), 1)
        if not self.announced and self.time_left.step[self.stage].count >= settled:
            self.announced = True
            self._announce()

    def on_epoch_end(self, epoch, logs=None):
        super().on_epoch_end(epoch, logs)
        if self.bar is not None:
            self.bar.close()
        say(", ".join([self._title(epoch), *self._values(logs, "val_"), *self._left()]))

    def _title(self, epoch):
        stage = f", stage {self.stage}" if self.time_left.stage1_epochs else ""
        return f"epoch {epoch + 1} of {self.time_left.epochs}{stage}"

    def _values(self, logs, prefix=""):
        shown = {form: logs.get(prefix + name, logs.get(name)) for name, form in self.metrics.items()}
        return [form.format(float(value)).replace("%", " %") for form, value in shown.items() if value is not None]

    def _left(self):
        seconds = self.seconds_left()
        if not seconds or seconds < 1:
            return []
        return [f"{'at most' if self.time_left.is_bound else 'about'} {duration(seconds)} left"]

    def _announce(self):
        """Prints what the whole rest takes, and its parts."""
        if self.try_stage2 and self.stage == 1 and self.time_left.is_bound:
            self.try_stage2()
            self.last = time.perf_counter()
        parts = self.time_left.parts(self.epoch, self.steps_done, self.stage)
        shown = ", ".join(f"{name} {duration(seconds)}" for name, seconds in parts.items())
        if self.bar is not None:
            self.bar.clear()
        (left,) = self._left() or ["less than a second left"]
        say(f"{left[0].upper()}{left[1:]}: {shown}.")


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
        explain: given the step and the names of the losses, returns the cause as a phrase, and what to do about it.

    Raises:
        DivergedError: from `fit`, naming the step, the losses and the checkpoint.
    """

    def __init__(self, checkpoint_hint: Callable[[], str], explain: Callable[[int, Collection[str]], tuple[str, str]]):
        super().__init__()
        self.checkpoint_hint = checkpoint_hint
        self.explain = explain

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
        cause, fix = self.explain(step, bad)
        raise DivergedError(f"{losses} at step {step}: {cause}", "finite losses", f"{fix}; {self.checkpoint_hint()}")
