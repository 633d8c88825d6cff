"""The switch from stage 1 to stage 2."""

from collections.abc import Callable

import keras


class StageSwitch(keras.callbacks.Callback):
    """Ends stage 1 after `stage1_epochs`, or earlier if validation success reaches `success`.

    Differs from the paper, which does not say when to switch. The attacker shows the generator the way. Once the
    generator reaches many targets by itself, the attacker's gradient steps, most of the time of a stage-1 step, add
    little: a step of stage 2 teaches as much for a fraction of the time.

    Args:
        stage1_epochs: the most epochs stage 1 may take.
        epochs: epochs of both stages together.
        steps_per_epoch: training steps of an epoch.
        success: validation success rate in `(0, 1]` that ends stage 1; None for never.
        on_stage1_end: called when stage 1 is over, before the switch.
        say: prints when and why it is over.
    """

    def __init__(
        self,
        stage1_epochs: int,
        epochs: int,
        steps_per_epoch: int,
        success: float | None,
        on_stage1_end: Callable[[], None],
        say: Callable[[str], None] = print,
    ):
        super().__init__()
        self.stage1_epochs = stage1_epochs
        self.epochs = epochs
        self.stage1_steps = stage1_epochs * steps_per_epoch
        self.success = success
        self.on_stage1_end = on_stage1_end
        self.say = say

    def on_train_begin(self, logs=None):
        if self.model.steps_done >= self.stage1_steps:  # none, or all of a run that is given a stage 2 afterwards
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
                reason = f"validation success is {measured:.1%}" if reached else "its epochs are over"
                self.say(f"Stage 1 ends after epoch {epoch + 1}: {reason}; the attacker is removed.")
