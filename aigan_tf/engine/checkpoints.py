"""Full training state, saved after every epoch and on SIGTERM or Ctrl-C."""

import contextlib
import contextvars
import os
import pathlib
import signal
import threading

import keras
import tensorflow as tf

from aigan_tf.engine.file_errors import file_errors, plain_path
from aigan_tf.errors import DivergedError, InputError, Terminated, say


def state_of(aigan) -> dict[str, object]:
    """Returns what a checkpoint must hold of an AIGAN so that training continues bit for bit."""
    return dict(
        generator=aigan.generator,
        discriminator=aigan.discriminator,
        generator_optimizer=aigan.generator_optimizer,
        discriminator_optimizer=aigan.discriminator_optimizer,
        stage=aigan.stage_variable,
        **({"failure_rates": aigan.failure_rates} if aigan.hard_targets else {}),  # runs begun without it have none
    )


class Checkpoint(keras.callbacks.Callback):
    """Saves everything a run needs to continue after each epoch, and keeps the last two checkpoints.

    Within its block (`with checkpoint: model.fit(..., callbacks=[checkpoint])`) SIGTERM (preemption) and Ctrl-C finish
    and save the current step; a second signal stops without saving. Ctrl-C is answered at once. Training continues
    with the next step, bit for bit; the epoch's averages of training then cover the rest of its steps only.

    Args:
        folder: where the checkpoints lie.
        **objects: what is saved: models, optimizers, Keras variables.
    """

    def __init__(self, folder, **objects):
        super().__init__()
        self.folder = pathlib.Path(folder)
        # Variables, not objects: TensorFlow does not see layers that a Keras model keeps in a list.
        self.variables = {
            name: [variable.value for variable in getattr(saved, "variables", [saved])]
            for name, saved in objects.items()
        }
        self.steps = tf.Variable(0, dtype=tf.int64, trainable=False)
        self.checkpoint = tf.train.Checkpoint(steps=self.steps, **self.variables)
        self.steps_done = 0
        self.newest = None  # path, without an ending, of the last checkpoint saved or restored
        self.requested_signal = None

    def restore(self) -> int:
        """Restores the newest undamaged checkpoint and returns the number of steps done; 0 if there is no checkpoint.

        A damaged one is skipped with a warning; the steps since the one before are repeated.

        Raises:
            InputError: all checkpoints are damaged.
        """
        found = self._found()
        for path in found:
            try:
                with plain_path(self.folder) as folder:
                    self.checkpoint.read(str(folder / path.name)).assert_existing_objects_matched()
            except Exception as error:  # for a damaged file TensorFlow raises half a dozen kinds
                say(f"Warning: the checkpoint {path} cannot be restored ({type(error).__name__}).")
                continue
            self.newest = path
            self.steps_done = int(self.steps)
            return self.steps_done
        if found:
            raise InputError(
                f"none of the {len(found)} checkpoints in {self.folder} can be restored",
                "the files train.py saved",
                "restore them, or delete that folder to train again",
            )
        return 0

    def checkpoint_hint(self) -> str:
        """Returns which checkpoint there is to go back to, in words; all saved ones are finite."""
        return f"the last good checkpoint is {self.newest}" if self.newest else "no checkpoint was saved before"

    def _found(self):
        """Paths of the checkpoints in the folder, newest first."""
        paths = [path.with_suffix("") for path in self.folder.glob("ckpt-*.index")]
        numbered = [path for path in paths if path.name.removeprefix("ckpt-").isdecimal()]
        return sorted(numbered, key=lambda path: -int(path.name.removeprefix("ckpt-")))

    def _keep(self, names):
        """Removes all checkpoints but these, file by file: a kill may have left one file without the others."""
        for file in self.folder.glob("ckpt-*.*"):
            name = file.name.partition(".")[0]
            if name.removeprefix("ckpt-").isdecimal() and name not in names:
                file.unlink()

    def __enter__(self):
        if self.newest:  # a kill may have come before old ones were removed
            found = self._found()
            self._keep({path.name for path in found[: found.index(self.newest) + 2]})
        self.before = {}
        if threading.current_thread() is threading.main_thread():  # no other may handle signals
            handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
            # An ignored signal stays ignored, like Ctrl-C in a command that a script started in the background.
            self.before = {number: old for number, old in handlers.items() if old != signal.SIG_IGN}
            for number in self.before:
                signal.signal(number, self._note)
        self.answered = contextlib.ExitStack()
        if signal.SIGINT in self.before:
            self.answered.enter_context(_answered_at_once())
        return self

    def __exit__(self, *error):
        for number, handler in self.before.items():
            signal.signal(number, handler)
        self.answered.close()
        if self.requested_signal and error[0] is None:  # the signal came after the last step
            self._stop()

    def _note(self, number, frame):
        if self.requested_signal == number:
            self._stop()
        self.requested_signal = number

    def _stop(self):
        raise Terminated if self.requested_signal == signal.SIGTERM else KeyboardInterrupt

    def on_train_batch_end(self, batch, logs=None):
        self.steps_done += 1
        # The last step of an epoch is saved with the epoch's end.
        if self.requested_signal and batch + 1 < self.params["steps"]:
            self._save()
            say(f"\nSaved after step {self.steps_done}.")
            self._stop()

    def on_epoch_end(self, epoch, logs=None):
        self._save()
        if self.requested_signal:
            self._stop()

    def _save(self):
        """Writes a checkpoint, and removes all others but the one before."""
        for name, variables in self.variables.items():
            if not all(bool(tf.reduce_all(tf.math.is_finite(each))) for each in variables if each.dtype.is_floating):
                raise DivergedError(
                    f"{name} is NaN or infinite after step {self.steps_done}",
                    "finite weights",
                    f"train again with a lower rate or another `seed`; {self.checkpoint_hint()}",
                )
        self.steps.assign(self.steps_done)
        saved = self.folder / f"ckpt-{self.steps_done}"
        with file_errors():
            self.checkpoint.write(str(saved))
        self._keep({path.name for path in (saved, self.newest) if path})
        self.newest = saved


@contextlib.contextmanager
def _answered_at_once():
    """Answers the first Ctrl-C in its block from a thread: a handler of Python's runs only when TensorFlow's step is over."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)

    def answer():
        with open(reader, "rb", buffering=0) as signals:
            while (number := signals.read(1)) and number[0] != signal.SIGINT:
                pass
            if number:
                say("\nstopping after this step; again to end now")
                signals.read()

    thread = threading.Thread(target=contextvars.copy_context().run, args=(answer,), daemon=True)
    thread.start()
    before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.close(writer)
        thread.join()
