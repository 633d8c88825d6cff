"""What happens around the epochs: progress, the stage switch, the precision, the histories."""

import os
import sys
import time
from collections.abc import Callable

import keras
import tensorflow as tf

from aigan_tf import workdir


class Progress(keras.callbacks.Callback):
    """A progress bar with the few numbers one watches; all of them are in metrics.csv and TensorBoard.

    On a terminal a bar, otherwise (a log file) one line an epoch.

    Args:
        metrics: names of what is shown, of training and, with the prefix val_, of validation.
        epochs: how many the run has.
        show_stage: whether the model has a `stage` to be named.
    """

    def __init__(self, metrics: list[str], epochs: int, show_stage: bool = False):
        super().__init__()
        self.shown = metrics
        self.epochs = epochs
        self.show_stage = show_stage
        self.interactive = sys.stdout.isatty()

    def on_epoch_begin(self, epoch, logs=None):
        stage = f", stage {self.model.stage}" if self.show_stage else ""
        print(f"Epoch {epoch + 1}/{self.epochs}{stage}", end="\n" if self.interactive else ": ", flush=True)
        verbose = 1 if self.interactive else 2
        self.bar = keras.utils.Progbar(self.params["steps"], verbose=verbose, stateful_metrics=self.shown)

    def on_train_batch_end(self, batch, logs=None):
        if self.interactive:
            self.bar.update(batch + 1, [(name, logs[name]) for name in self.shown if name in logs], finalize=False)

    def on_epoch_end(self, epoch, logs=None):
        self.bar.update(
            self.params["steps"], [(name, logs[name]) for name in self.shown if name in logs], finalize=True
        )


class StageSwitch(keras.callbacks.Callback):
    """Ends stage 1 after `stage1_epochs`, or sooner if validation success reaches `success`.

    The attacker is there to show the generator the way. Once the generator reaches a good share
    of the targets by itself, the attacker's gradient steps, most of a stage-1 step's time, buy
    little, and a step of stage 2 teaches as much for a fraction of the price.

    Args:
        stage1_epochs: the most epochs stage 1 may take.
        epochs: those of both stages.
        success: validation success rate in `(0, 1]` that ends stage 1 at once; None for never.
        on_stage1_end: called when stage 1 is over, before the switch.
    """

    def __init__(self, stage1_epochs: int, epochs: int, success: float | None, on_stage1_end: Callable[[], None]):
        super().__init__()
        self.stage1_epochs = stage1_epochs
        self.epochs = epochs
        self.success = success
        self.on_stage1_end = on_stage1_end

    def on_train_begin(self, logs=None):
        if self.stage1_epochs == 0:
            self.model.stage = 2

    def on_epoch_end(self, epoch, logs=None):
        if self.model.stage == 2:
            return
        measured = logs[f"val_{self.model.success_rate.name}"]
        reached = self.success is not None and measured >= self.success
        if epoch + 1 >= self.stage1_epochs or reached:
            self.on_stage1_end()
            if epoch + 1 < self.epochs:
                self.model.stage = 2
            reason = (
                f"validation success {measured:.1%} reached {self.success:.0%}" if reached else "its epochs are over"
            )
            print(f"Stage 1 ends after epoch {epoch + 1}: {reason}; the attacker is removed.", flush=True)


class MixedPrecision(keras.callbacks.Callback):
    """Within its block, training steps compute convolutions and matrix products in bfloat16.

    As a callback of the `fit` in the block it keeps validation in float32. TensorFlow's graph optimiser
    inserts the casts, so that every network of the step takes part as it is, the classifier under
    attack too; weights, losses and the optimizers' state stay in float32. bfloat16 has float32's range
    of exponents: no loss scaling is needed. On a CPU without bfloat16 instructions nothing changes.

    Args:
        enabled: False for a block, and a callback, that do nothing.
    """

    # From these on everything is float32 up to the next convolution: the perturbation's arithmetic and norms (from the bound
    # on, a Tanh or the Minimum of a projection; bfloat16 knows bright pixels in steps of an eighth of 8/255), the
    # attacker's steps (Sign), the GAN losses, and the sums that the metrics keep. Each beside TensorFlow's own list that it
    # is on: with another one's name TensorFlow gives up on bfloat16 altogether.
    FLOAT32_FROM = (("INFERLIST", "Tanh,Softplus"), ("CLEARLIST", "Minimum,Sign"))

    def __init__(self, enabled: bool):
        super().__init__()
        self.enabled = enabled

    def __enter__(self):
        self._set(True)
        return self

    def __exit__(self, *error):
        self._set(False)  # after an interruption too: what a notebook runs next is float32

    def on_test_begin(self, logs=None):
        self._set(False)

    def on_test_end(self, logs=None):
        self._set(True)

    def _set(self, on: bool):
        if not self.enabled:
            return
        # TensorFlow has no other way to move an operation from one of its lists to another.
        changes = {f"{name}_REMOVE": operations for name, operations in self.FLOAT32_FROM}
        changes["DENYLIST_ADD"] = ",".join(operations for _, operations in self.FLOAT32_FROM)
        for change, operations in changes.items():
            os.environ[f"TF_AUTO_MIXED_PRECISION_GRAPH_REWRITE_{change}"] = operations
        # The option is TensorFlow's own and holds for the process; a compiled step is looked up by it at each call.
        tf.config.optimizer.set_experimental_options({"auto_mixed_precision_onednn_bfloat16": on})


class EpochTensorBoard(keras.callbacks.TensorBoard):
    """Keras's TensorBoard callback, once an epoch.

    Keras's own hands every batch's metrics to TensorFlow even where nothing of them is to be written, and TensorFlow then
    keeps 6 kB a step.
    """

    def on_train_batch_end(self, batch, logs=None):
        """Nothing."""


class MetricsHistory(keras.callbacks.Callback):
    """Keeps a CSV file of the metrics: one row an epoch, without gaps or doubles when a run is continued.

    A row names the stage where the model has one.

    Args:
        path: the CSV file. Rows of epochs that were not finished are dropped.
    """

    def __init__(self, path):
        super().__init__()
        self.path = path
        self.rows = workdir.read_csv(path)
        # Of the epoch that is under way; saved with a checkpoint, so that an interruption does not lose them.
        self.epoch_seconds = keras.Variable(0.0, trainable=False, dtype="float32", name="epoch_seconds")

    def on_train_begin(self, logs=None):
        self.began = time.perf_counter() - float(self.epoch_seconds)

    def on_epoch_begin(self, epoch, logs=None):
        self.rows = self.rows[:epoch]
        # Read here: the switch at the epoch's end must not relabel it.
        self.stage = {"stage": str(self.model.stage)} if hasattr(self.model, "stage") else {}

    def on_train_batch_end(self, batch, logs=None):
        self.epoch_seconds.assign(time.perf_counter() - self.began)

    def on_epoch_end(self, epoch, logs=None):
        values = {name: f"{value}" if isinstance(value, int) else f"{float(value):.6g}" for name, value in logs.items()}
        # From one epoch's end to the next: checkpoints and logs, which other callbacks write, take their time too.
        ended = time.perf_counter()
        seconds, self.began = f"{ended - self.began:.2f}", ended
        self.epoch_seconds.assign(0.0)
        self.rows.append({"epoch": str(epoch + 1), **self.stage, "seconds": seconds, **values})
        workdir.write_csv(self.path, self.rows)
