"""What a run goes on from: its whole state, saved after each epoch and when it is asked to stop."""

import pathlib
import signal
import threading

import keras
import tensorflow as tf

from aigan_tf.engine.file_errors import file_errors
from aigan_tf.errors import DivergedError, InputError, Terminated


def state_of(aigan) -> dict[str, object]:
    """Returns what a checkpoint must hold of an AIGAN so that its training goes on bit for bit."""
    return dict(
        generator=aigan.generator,
        discriminator=aigan.discriminator,
        generator_optimizer=aigan.generator_optimizer,
        discriminator_optimizer=aigan.discriminator_optimizer,
        stage=aigan.stage_variable,
    )


class Checkpoint(keras.callbacks.Callback):
    """Saves everything a run needs to go on after each epoch, and keeps the last two.

    Within its block (`with checkpoint: model.fit(..., callbacks=[checkpoint])`) SIGTERM, which is what a machine sends
    that is about to be taken away, and Ctrl-C wait for the step to end, which is then saved as well; the same signal
    once more does not wait. Training goes on with the next step, bit for bit; only the averages that the epoch reports
    of training are then over the rest of its steps.

    Args:
        folder: where the checkpoints lie.
        **objects: what is saved: models, optimizers, Keras variables.
    """

    def __init__(self, folder, **objects):
        super().__init__()
        self.folder = pathlib.Path(folder)
        # Variables, not the objects: TensorFlow does not see the layers a Keras model keeps in a list.
        self.variables = {
            name: [variable.value for variable in getattr(saved, "variables", [saved])]
            for name, saved in objects.items()
        }
        self.steps = tf.Variable(0, dtype=tf.int64, trainable=False)
        self.checkpoint = tf.train.Checkpoint(steps=self.steps, **self.variables)
        self.steps_done = 0
        self.newest = None  # the path, without an ending, of the last one that was saved or restored
        self.asked = None

    def restore(self) -> int:
        """Restores the newest checkpoint that is whole, if there is one, and returns how many steps are done.

        A damaged one is passed over with a warning: the one before differs by the steps since.

        Raises:
            InputError: there are some, and all are damaged.
        """
        found = self._found()
        for path in found:
            try:
                self.checkpoint.read(str(path)).assert_existing_objects_matched()
            except Exception as error:  # of a damaged file TensorFlow raises half a dozen kinds
                print(f"Warning: the checkpoint {path} cannot be restored ({type(error).__name__}).", flush=True)
                continue
            self.newest = path
            self.steps_done = int(self.steps)
            return self.steps_done
        if found:
            raise InputError(
                f"none of the {len(found)} checkpoints in {self.folder} can be restored; expected what train.py saved: restore "
                "the files, or delete that folder to train anew"
            )
        return 0

    def checkpoint_hint(self) -> str:
        """Says which checkpoint there is to go back to; all that are saved are finite."""
        return f"the last good checkpoint is {self.newest}" if self.newest else "no checkpoint was saved before"

    def _found(self):
        """What lies in the folder, newest first."""
        paths = [path.with_suffix("") for path in self.folder.glob("ckpt-*.index")]
        numbered = [path for path in paths if path.name.removeprefix("ckpt-").isdecimal()]
        return sorted(numbered, key=lambda path: -int(path.name.removeprefix("ckpt-")))

    def _keep(self, names):
        """Removes all checkpoints but these; by file, since a kill may have left one of them without the others."""
        for file in self.folder.glob("ckpt-*.*"):
            name = file.name.partition(".")[0]
            if name.removeprefix("ckpt-").isdecimal() and name not in names:
                file.unlink()

    def __enter__(self):
        if self.newest:  # a kill may have come before the removal of those that are too old
            found = self._found()
            self._keep({path.name for path in found[: found.index(self.newest) + 2]})
        self.before = {}
        if threading.current_thread() is threading.main_thread():  # no other may handle signals
            handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
            # One that is ignored stays so, as Ctrl-C is in a command that a script started in the background.
            self.before = {number: old for number, old in handlers.items() if old != signal.SIG_IGN}
            for number in self.before:
                signal.signal(number, self._note)
        return self

    def __exit__(self, *error):
        for number, handler in self.before.items():
            signal.signal(number, handler)
        if self.asked and error[0] is None:  # it came after the last step
            self._stop()

    def _note(self, number, frame):
        if self.asked == number:
            self._stop()
        self.asked = number

    def _stop(self):
        raise Terminated if self.asked == signal.SIGTERM else KeyboardInterrupt

    def on_train_batch_end(self, batch, logs=None):
        self.steps_done += 1
        # What ends with the epoch belongs to its last step.
        if self.asked and batch + 1 < self.params["steps"]:
            self._save()
            print(f"\nSaved after step {self.steps_done}.", flush=True)
            self._stop()

    def on_epoch_end(self, epoch, logs=None):
        self._save()
        if self.asked:
            self._stop()

    def _save(self):
        """Writes a checkpoint; then the one before is kept beside it, and others, damaged ones among them, are not."""
        for name, variables in self.variables.items():
            if not all(bool(tf.reduce_all(tf.math.is_finite(each))) for each in variables if each.dtype.is_floating):
                raise DivergedError(
                    f"after step {self.steps_done} {name} is not finite any more; expected finite weights, {self.checkpoint_hint()}: "
                    "train anew in another --workdir, with a lower rate or another --seed"
                )
        self.steps.assign(self.steps_done)
        saved = self.folder / f"ckpt-{self.steps_done}"
        with file_errors():
            self.checkpoint.write(str(saved))
        self._keep({path.name for path in (saved, self.newest) if path})
        self.newest = saved
