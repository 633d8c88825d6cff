"""Estimates the time of a run from a few steps of each of its parts, for `--check` and `--minutes`."""

import bisect
import contextlib
import copy
import dataclasses
import functools
import math
import pathlib
import tempfile
import time
from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf

from aigan_tf.build import only_target, trained_generator, trained_on
from aigan_tf.checks import check_new_run
from aigan_tf.classifiers.accuracy import check_accuracy, predictions
from aigan_tf.classifiers.architectures import ARCHITECTURES
from aigan_tf.classifiers.features import features_for
from aigan_tf.classifiers.training import (
    HARDENING,
    existing_classifier,
    hardened_classifier,
    static_names,
    trained_classifier,
)
from aigan_tf.config import Config, is_built_in
from aigan_tf.engine.callbacks import Stopwatch
from aigan_tf.engine.distribution import Devices
from aigan_tf.engine.memory import images_per_call
from aigan_tf.engine.time_left import TimeLeft, duration
from aigan_tf.errors import InputError, is_quiet, quiet, say
from aigan_tf.evaluation.attacks import GENERATOR, build_attacks
from aigan_tf.evaluation.export_report import measure_export
from aigan_tf.evaluation.finished_run import FinishedRun
from aigan_tf.evaluation.measure import measure_attack
from aigan_tf.evaluation.tables import aligned
from aigan_tf.training.generator import evaluation_attacks, time_left_of, train_generator
from aigan_tf.training.run import describe, export, load_inputs
from aigan_tf.workdir import Workdir

STEPS = 8  # per epoch of each training that is tried
CLASSIFIER_BATCH = 128
SURROGATE = "the surrogate"
MAX_EPOCHS = 10**6  # that a number of minutes chooses
RESERVE = 0.1  # of the given minutes: a machine's pace varies


@dataclasses.dataclass
class Estimate:
    """The measured pace of a run.

    Args:
        preparation: seconds to load the data set and the user's own classifier and to check both.
        classifiers: what is trained before the generator, each with its `TimeLeft`.
        generator: the generator's training and its evaluation.
    """

    preparation: float
    classifiers: dict[str, TimeLeft]
    generator: TimeLeft

    def seconds(self) -> float:
        """Returns the seconds of the whole run."""
        return self._rest() + sum(sum(each.parts().values()) for each in self._trainings())

    def _rest(self):
        return self.preparation + sum(each.start for each in self._trainings())

    def _trainings(self):
        return [*self.classifiers.values(), self.generator]

    def table(self) -> str:
        """Returns the parts of the run, one per line."""
        rows = [
            (f"training {name}", sum(each.parts().values()), f"{_epochs(each.epochs)} of {each.steps} steps")
            for name, each in self.classifiers.items()
        ]
        generator, parts = self.generator, self.generator.parts()
        stage1, stage2 = generator.stage1_epochs, generator.epochs - generator.stage1_epochs
        step = {stage: f"of {generator.steps} steps of {_short(s)}" for stage, s in generator.step_seconds.items()}
        details = {
            "stage 1": f"at most {_epochs(stage1)} {step[1]}",
            "stage 2": f"{_epochs(stage2)} {step[2]}",
            "validation": f"validation and a checkpoint, {_short(generator.epoch_end_seconds)} each",
            "test": f"export, and {generator.attacks:,} attacks on the test split",
        }
        rows += [(name, seconds, details[name]) for name, seconds in parts.items()]
        rows.append(("the rest", self._rest(), "loading, checks, tracing"))
        return aligned([(f"  {name}", f"{duration(seconds):>6}", detail) for name, seconds, detail in rows])


def _epochs(count):
    return f"{count} epoch" + "s" * (count != 1)


def _short(seconds):
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def check_run(config: Config, workdir: str, data_dir: str | None = None, strategy: str = "none") -> Estimate:
    """Does all that precedes training and a few steps of each training, prints what it found, and leaves nothing behind.

    Args:
        config, workdir, data_dir, strategy: as in `train_and_export`.

    Raises:
        InputError: as `train_and_export`.
    """
    folder = check_new_run(config, workdir, data_dir, extend=True)
    if folder.config.exists():
        say(f"{folder.path} holds this run already; the estimate is that of the whole run.")
    estimate = measure_pace(config, folder, data_dir, strategy)
    bound = ", if stage 1 does not end early" if config.stage1_epochs and config.stage2_epochs else ""
    say(f"The run will take about {duration(estimate.seconds())} on this machine{bound}:")
    say(estimate.table())
    say("Nothing was written.")
    return estimate


def config_within(
    minutes: float, config: Config, workdir: str, data_dir: str | None, strategy: str, began: float
) -> Config:
    """Returns the settings with as many epochs of both stages as fit, in the proportion they have, into some minutes.

    Args:
        minutes: for the whole command: the classifier's training, the generator's and the evaluation.
        config, workdir, data_dir, strategy: as in `train_and_export`.
        began: `time.monotonic()` when the command began.

    Raises:
        InputError: not even one epoch fits, or as `train_and_export`.
    """
    folder = check_new_run(config, workdir, data_dir)
    estimate = measure_pace(config, folder, data_dir, strategy, report=False)
    available = minutes * 60 * (1 - RESERVE) - (time.monotonic() - began)
    stage1, stage2 = epochs_within(available, estimate, config.stage1_epochs / config.epochs)
    if stage1 + stage2 == 0:
        seconds = time.monotonic() - began + _with_epochs(estimate, 0, 1).seconds()
        least = math.ceil(seconds / (60 * (1 - RESERVE)))
        raise InputError(
            minutes,
            f"at least {least}, which one epoch and all that precedes and follows it take",
            f"give {least} or more, or choose a smaller classifier or generator",
            setting="minutes",
        )
    seconds = _with_epochs(estimate, stage1, stage2).seconds() + time.monotonic() - began
    say(
        f"{_epochs(stage1)} of stage 1 and {stage2} of stage 2: the command will take about {duration(seconds)} in all."
    )
    return dataclasses.replace(config, stage1_epochs=stage1, stage2_epochs=stage2)


def _with_epochs(estimate, stage1, stage2):
    changed = copy.copy(estimate)
    changed.generator = copy.copy(estimate.generator)
    changed.generator.stage1_epochs, changed.generator.epochs = stage1, stage1 + stage2
    return changed


def epochs_within(seconds: float, estimate: Estimate, share: float) -> tuple[int, int]:
    """Returns the most epochs of stage 1 and stage 2 with which a run takes at most so many seconds; (0, 0) if none fit.

    Args:
        seconds: for the whole run.
        estimate: its pace.
        share: of stage 1 in the epochs, in `[0, 1]`. If both stages have some, stage 2 has one at least.
    """

    def stages(epochs):
        stage1 = round(share * epochs)
        if 0 < share < 1 and epochs:
            stage1 = min(max(stage1, 1), epochs - 1)
        return stage1, epochs - stage1

    return stages(
        bisect.bisect_right(
            range(1, MAX_EPOCHS), seconds, key=lambda epochs: _with_epochs(estimate, *stages(epochs)).seconds()
        )
    )


def measure_pace(config: Config, folder: Workdir, data_dir: str | None, strategy: str, report: bool = True) -> Estimate:
    """Loads, checks and tries everything a run needs, in a temporary folder.

    Args:
        config, data_dir, strategy: as in `train_and_export`.
        folder: of the run; nothing is written there.
        report: whether to print what is found of data set and classifier.

    Raises:
        InputError: as `train_and_export`.
    """
    if strategy == "multiworker":
        raise InputError(strategy, "one process", "try it with none or mirrored", setting="strategy")
    began = time.perf_counter()
    devices = Devices(strategy)
    with quiet(is_quiet() or not report):
        config, dataset, classifier = load_inputs(config, folder.data_dir(data_dir), devices, strategy)
        say(describe(dataset))
        if folder.classifier.exists():
            classifier = existing_classifier(config, dataset, folder)
            check_accuracy(classifier, dataset.test, dataset.num_classes, class_names=dataset.class_names)
    trained_here = not folder.classifier.exists() and (classifier is None or bool(config.defense))
    preparation = time.perf_counter() - began
    with tempfile.TemporaryDirectory() as temporary:
        temporary, classifiers = pathlib.Path(temporary), {}
        if trained_here:
            classifier = _try_classifiers(config, dataset, temporary, classifiers)
        attacked = _try_surrogate(config, dataset, temporary, classifiers) if config.black_box else classifier
        features = features_for(config, dataset, Workdir(temporary / "classifier") if trained_here else folder)
        generator = _try_generator(config, dataset, attacked, Workdir(temporary / "run"), devices, features)
    if config.black_box:  # after each epoch it learns the answers on as many clean and adversarial images
        steps = 2 * config.queries_per_epoch / CLASSIFIER_BATCH
        generator.saving.value += steps * classifiers[SURROGATE].step_seconds[2]
    return Estimate(preparation, classifiers, generator)


def _try_classifiers(config, dataset, temporary, classifiers):
    """Tries the training of the classifier, and of those that defend it; returns it."""
    for name in static_names(config, dataset):
        static = dataclasses.replace(config, classifier=name, classifier_epochs=None, defense=None)
        _try_training(static, dataset, temporary / name, classifiers, name)
    if config.defense == "ensemble":
        config = dataclasses.replace(config, defense="fgsm")  # as slow, without the others
    name = config.classifier if is_built_in(config.classifier) else "classifier"
    return _try_training(config, dataset, temporary / "classifier", classifiers, name)


def _try_surrogate(config, dataset, temporary, classifiers):
    config = dataclasses.replace(
        config, classifier=config.black_box, classifier_epochs=None, defense=None, black_box=None
    )
    return _try_training(config, dataset, temporary / SURROGATE, classifiers, SURROGATE)


def _try_training(config, dataset, folder, classifiers, name) -> Callable:
    """Trains a classifier for a few steps, adds the whole training's `TimeLeft` to `classifiers`, and returns it."""
    own = not is_built_in(config.classifier)
    recipe = HARDENING if own else ARCHITECTURES[config.classifier.lower()].recipe
    batch_size = min(CLASSIFIER_BATCH, len(dataset.train))
    time_left = TimeLeft(config.classifier_epochs or recipe.epochs, len(dataset.train) // batch_size)
    shortened = dataclasses.replace(dataset, train=dataset.train.take(slice(0, STEPS * batch_size)))
    train = hardened_classifier if own else trained_classifier
    classifiers[name] = time_left
    steps = min(STEPS, time_left.steps)
    with _trying(name, time_left, steps, {2: 2}):
        short = dataclasses.replace(config, classifier_epochs=2)
        return train(short, shortened, Workdir(folder), [Stopwatch(time_left)])


@contextlib.contextmanager
def _trying(name: str, time_left: TimeLeft, steps: int, epochs: dict[int, int]) -> Iterator[None]:
    """Sets the seconds that a training in the block takes to start: those beyond its epochs of each stage, by its pace."""
    say(f"Trying a few steps of training {name}.")
    began = time.perf_counter()
    with quiet():
        yield
    each = {stage: steps * seconds + time_left.epoch_end_seconds for stage, seconds in time_left.step_seconds.items()}
    paced = sum(count * each[stage] for stage, count in epochs.items())
    time_left.start = max(time.perf_counter() - began - paced, 0.0)


def _try_generator(config, dataset, classifier, folder, devices, features):
    """Returns the `TimeLeft` of both stages and the evaluation, measured on short epochs."""
    time_left = time_left_of(config, trained_on(config, dataset), evaluation_attacks(config, dataset))
    steps = min(STEPS, time_left.steps)
    # Two of stage 2: an epoch's end is measured between epochs, and that of stage 1 draws samples.
    stages = {1: min(config.stage1_epochs, 1), 2: min(config.stage2_epochs, 2)}
    short = dataclasses.replace(
        config, steps_per_epoch=steps, stage1_epochs=stages[1], stage2_epochs=stages[2], switch_success=1.0,
        black_box=None, queries_per_epoch=Config.queries_per_epoch,
    )  # fmt: skip
    with _trying("the generator", time_left, steps, stages):
        train_generator(short, dataset, classifier, folder, devices, [Stopwatch(time_left)], features=features)
    time_left.afterwards, time_left.attack_seconds = _try_evaluation(
        short, dataset, classifier, folder, time_left.attacks, features
    )
    return time_left


def _try_evaluation(config, dataset, classifier, folder, attacks, features):
    """Exports and measures on a few images; returns the seconds that take no longer with more, and those of an attack."""
    say("Trying the export and its measurement.")
    began = time.perf_counter()
    count = 2 * images_per_call(dataset.image_shape) * len(dataset.test) // attacks  # two batches of attacks
    test = dataset.test.take(slice(0, max(count, 1)))
    # The classifier may know nothing yet: its answers stand in for the labels.
    answers = np.maximum(predictions(classifier, test.as_float()), 0)
    # If all are the only target, there is nothing to attack, unless it answers the next class.
    if (answers == only_target(config, dataset)).all():
        answers, classifier = (answers + 1) % dataset.num_classes, functools.partial(_next_class, classifier)
    test = dataclasses.replace(test, labels=answers)
    dataset = dataclasses.replace(dataset, test=test)
    with quiet():
        export(trained_generator(config, dataset, folder, features), config, dataset, folder, None)
        measure_export(folder, config, dataset, classifier)
    once = time.perf_counter() - began
    run = FinishedRun(folder, config, dataset, classifier)
    with quiet():
        attack = build_attacks([GENERATOR], run)[GENERATOR]
    seconds = []
    for _ in range(2):  # the first traces
        began = time.perf_counter()
        measured = measure_attack(attack, run.examples, config.epsilon, config.targeted, config.seed)
        seconds.append(time.perf_counter() - began)
    return once - seconds[1], seconds[1] / measured.num_attacks


def _next_class(classifier, images):
    """Returns a classifier's logits, moved by one class."""
    return tf.roll(classifier(images), 1, axis=-1)
