"""What a run goes on from: its whole state, saved after each epoch and when it is asked to stop."""

import pathlib
import signal
import threading

import keras
import tensorflow as tf

from aigan_tf.errors import InputError, Terminated


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
    """Saves everything a run needs to go on after each epoch; the last two are kept.

    Within its block (`with checkpoint: model.fit(..., callbacks=[checkpoint])`) SIGTERM, which is what a machine sends
    that is about to be taken away, and Ctrl-C wait for the step to end, which is then saved as well; the same signal
    once more does not wait. Training goes on with the next step, bit for bit. Only the averages that the epoch reports
    of training are then over the rest of its steps.

    Args:
        folder: where the checkpoints lie.
        **objects: what is saved: models, optimizers, Keras variables.
    """

    def __init__(self, folder, **objects):
        super().__init__()
        self.folder = pathlib.Path(folder)
        self.steps = tf.Variable(0, dtype=tf.int64, trainable=False)
        # Variables, not the objects: TensorFlow does not see the layers a Keras model keeps in a list.
        variables = {
            name: [variable.value for variable in getattr(saved, "variables", [saved])]
            for name, saved in objects.items()
        }
        self.manager = tf.train.CheckpointManager(
            tf.train.Checkpoint(steps=self.steps, **variables), str(folder), max_to_keep=2
        )
        self.steps_done = 0
        self.asked = None

    @property
    def newest(self) -> pathlib.Path | None:
        """The path, without an ending, of the newest checkpoint."""
        return next(iter(self._found()), None)

    def _found(self):
        """What lies in the folder, newest first. TensorFlow's own list is a file too, and may be damaged."""
        paths = [path.with_suffix("") for path in self.folder.glob("ckpt-*.index")]
        numbered = [path for path in paths if path.name.removeprefix("ckpt-").isdecimal()]
        return sorted(numbered, key=lambda path: -int(path.name.removeprefix("ckpt-")))

    def restore(self) -> int:
        """Restores the newest checkpoint that is whole, if there is one, and returns how many steps are done.

        A damaged one is passed over with a warning: the one before differs by the steps since.

        Raises:
            InputError: there are some, and all are damaged.
        """
        found = self._found()
        for path in found:
            try:
                self.manager.checkpoint.restore(str(path)).assert_existing_objects_matched()
            except Exception as error:  # of a damaged file TensorFlow raises half a dozen kinds
                print(f"Warning: the checkpoint {path} cannot be restored ({type(error).__name__}).", flush=True)
                continue
            self.steps_done = int(self.steps)
            return self.steps_done
        if found:
            raise InputError(
                f"none of the {len(found)} checkpoints in {self.folder} can be restored; expected what train.py saved: restore "
                "the files, or delete that folder to train anew"
            )
        return 0

    def __enter__(self):
        self.before = {}
        if threading.current_thread() is threading.main_thread():  # no other may handle signals
            self.before = {number: signal.signal(number, self._note) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *error):
        for number, handler in self.before.items():
            signal.signal(number, handler)

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
        self.steps.assign(self.steps_done)
        self.manager.save(checkpoint_number=self.steps_done)
