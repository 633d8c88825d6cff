"""Estimates the time left of a training and its evaluation from measured steps. Pure arithmetic."""

import dataclasses

SETTLED = 12  # steps of a stage after which their mean is worth showing
SAVING = 0.5  # seconds of an epoch's end after validation (checkpoint, TensorBoard), until they are measured
VALIDATION_SHARE = 0.45  # time of a validation image, in that of an image in a training step, until it is measured
ATTACK_SHARE = 1.2  # time of an attack in the evaluation, in that of a validation image, unless it is measured
AFTERWARDS = 8.0  # seconds of the export and of tracing its evaluation, unless they are measured


class RecentMean:
    """A mean in which about the last `memory` values count: a shared machine's pace changes.

    Args:
        memory: the number.
        first_is_slow: whether the first value is replaced by the second, since it includes tracing or samples.
    """

    def __init__(self, memory: int, first_is_slow: bool = False):
        self.memory = memory
        self.first_is_slow = first_is_slow
        self.count = 0
        self.value = 0.0

    def add(self, value: float) -> None:
        """Adds a value."""
        self.count += 1
        weight = max(self.count - self.first_is_slow, 1)
        self.value += (value - self.value) / min(weight, self.memory)


@dataclasses.dataclass(eq=False)
class TimeLeft:
    """Estimates the seconds left. Steps without stages are those of stage 2.

    What is not measured yet is derived from what is: a validation image from a training step, an attack of the evaluation
    from a validation image, a step of stage 2 from one of stage 1, which is slower.

    Args:
        epochs: of the whole training.
        steps: per epoch.
        stage1_epochs: the most epochs of stage 1.
        batch_size: images per step.
        validation_images: measured at each epoch's end.
        attacks: attacks of the evaluation after training; 0 if there is none.
        trainings: how many trainings of this length there are, this one included.
    """

    epochs: int
    steps: int
    stage1_epochs: int = 0
    batch_size: int = 1
    validation_images: int = 0
    attacks: int = 0
    trainings: int = 1

    def __post_init__(self):
        self.step = {1: RecentMean(200), 2: RecentMean(200)}
        self.validation = RecentMean(5, first_is_slow=True)
        self.saving = RecentMean(5, first_is_slow=True)
        self.attack_seconds = None  # measured, if it was
        self.afterwards = AFTERWARDS
        self.start = 0.0  # seconds until the first steps are traced, if they were measured; not part of what is left

    @property
    def is_bound(self) -> bool:
        """Whether the estimate is rather an upper bound, as long as no step of stage 2 was measured."""
        return self.stage1_epochs < self.epochs and not self.step[2].count

    @property
    def step_seconds(self) -> dict[int, float]:
        """Seconds of a step of each stage, by its number."""
        one, two = self.step[1], self.step[2]
        return {1: (one if one.count else two).value, 2: (two if two.count else one).value}

    @property
    def epoch_end_seconds(self) -> float:
        """Seconds of an epoch's end: validation and what is saved."""
        return self._validation_seconds + (self.saving.value if self.saving.count else SAVING)

    @property
    def _validation_seconds(self):
        derived = VALIDATION_SHARE * self.validation_images * self.step_seconds[2] / self.batch_size
        measured = self.validation.value
        return (derived, min(derived, measured), measured)[min(self.validation.count, 2)]  # the first one is traced

    @property
    def evaluation_seconds(self) -> float:
        """Seconds of the export and its evaluation."""
        if not self.attacks:
            return 0.0
        each = self.attack_seconds or ATTACK_SHARE * self._validation_seconds / max(self.validation_images, 1)
        return self.afterwards + self.attacks * each

    def parts(self, epoch: int = 0, step: int = 0, stage: int = 1) -> dict[str, float]:
        """Returns the seconds left by part, after `epoch` whole epochs and `step` steps of the next, which is of `stage`."""
        stage1 = max(min(self.stage1_epochs, self.epochs) - epoch, 0) if stage == 1 else 0
        stage2 = self.epochs - epoch - stage1
        done = (step, 0) if stage1 else (0, step)
        seconds = self.step_seconds
        parts = {
            "stage 1": (stage1 * self.steps - done[0]) * seconds[1],
            "stage 2": (stage2 * self.steps - done[1]) * seconds[2],
            "validation": (stage1 + stage2) * self.epoch_end_seconds,
            "test": self.evaluation_seconds,
            "other trainings": (self.trainings - 1) * self.epochs * (self.steps * seconds[2] + self.epoch_end_seconds),
        }
        return {name: value for name, value in parts.items() if value > 0}

    def seconds(self, epoch: int = 0, step: int = 0, stage: int = 1) -> float | None:
        """Returns the seconds left, as `parts`; None if no step was measured."""
        return sum(self.parts(epoch, step, stage).values()) if any(mean.count for mean in self.step.values()) else None


def duration(seconds: float) -> str:
    """Returns a time as a user would say it: 40 s, 52 min, 3.4 h."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
