"""The switch from stage 1 to stage 2."""

from collections.abc import Callable

import keras


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
