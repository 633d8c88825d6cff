"""Training the generator: both stages, checkpoints, and a surrogate in place of a black box."""

import contextlib
import functools
import io
import itertools
import pathlib
import time
from collections.abc import Callable, Mapping, Sequence

import keras
import numpy as np

from aigan_tf.build import begin_from, build_aigan, load_weights, steps_per_epoch, target_numbers, trained_on
from aigan_tf.classifiers.black_box import BlackBox, DynamicDistillation, train_surrogate
from aigan_tf.classifiers.features import save_features
from aigan_tf.classifiers.loading import not_finite
from aigan_tf.config import Config
from aigan_tf.data.batches import evaluation_batches, training_batches
from aigan_tf.data.datasets import ImageDataset
from aigan_tf.engine.callbacks import MetricsHistory, Progress, StopNotFinite
from aigan_tf.engine.checkpoints import Checkpoint, state_of
from aigan_tf.engine.distribution import Devices
from aigan_tf.engine.keras_state import own_keras_state
from aigan_tf.engine.memory import images_per_call
from aigan_tf.engine.precision import MixedPrecision
from aigan_tf.engine.time_left import TimeLeft
from aigan_tf.engine.traced_graph import GraphClassifier
from aigan_tf.errors import say, shown_value, warn
from aigan_tf.evaluation.measure import max_attacks, targets_per_image
from aigan_tf.files import atomic_file
from aigan_tf.method.aigan import AIGAN
from aigan_tf.method.failures import QuietFailures
from aigan_tf.method.stages import StageSwitch
from aigan_tf.training.samples import write_samples
from aigan_tf.workdir import Workdir


def train_generator(
    config: Config,
    dataset: ImageDataset,
    classifier: Callable,
    folder: Workdir,
    devices: Devices | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    attacks: int = 0,
    features: keras.Model | None = None,
) -> AIGAN:
    """Runs both stages, or what is left of them, and returns the trained model.

    Args:
        config, dataset: of the run.
        classifier: images in `[0, 1]` to logits, under attack; with `black_box` it is only queried.
        folder: the run's.
        devices: None for one device.
        callbacks: called after those of the package. `stop_training` ends training, in whichever stage.
        attacks: how many attacks will be measured afterwards, for the estimate of the time left.
        features: what the generator sees of the classifier, as `features_for` returns it.

    Raises:
        InputError: the folder's files cannot be used.
        DivergedError: a loss became NaN or infinite.
    """
    devices = devices or Devices()
    attacked, distillation, saved = classifier, [], {}
    if config.black_box:
        attacked, distillation, saved = _surrogate(config, dataset, classifier, folder)
    dataset = trained_on(config, dataset)
    if features and devices.is_chief and not folder.features.exists():
        save_features(features, folder)
    with devices.strategy.scope():
        steps = steps_per_epoch(config, dataset)
        restarts = [epochs * steps for epochs in folder.restarts()]
        aigan = build_aigan(config, dataset, attacked, config.epochs * steps, restarts=restarts, features=features)
        if config.init_from and not folder.generator_begun:
            begin_from(aigan.generator, config.init_from)

    def end_stage1():
        if devices.is_chief:
            save_generator(aigan, folder.stage1_weights)
            write_samples(aigan, classifier, dataset, folder)

    # Without a stage 2 there is nothing to switch to, however early stage 1 succeeds.
    success = config.switch_success if config.stage2_epochs > 0 else None
    switch = StageSwitch(config.stage1_epochs, config.epochs, steps, success, end_stage1, say)
    time_left = time_left_of(config, dataset, attacks)
    trained = fit(aigan, config, dataset, folder, time_left, devices, [switch, *callbacks], saved, distillation)
    if trained and devices.is_chief:
        write_samples(aigan, classifier, dataset, folder)
        save_generator(aigan, folder.weights)
    return aigan


def _surrogate(config, dataset, classifier, folder):
    """Returns a surrogate of the black box, the callback that keeps it up to date, and what its checkpoint needs."""
    black_box = BlackBox(classifier)
    surrogate, answered = train_surrogate(config, dataset, folder, black_box)
    with own_keras_state():
        optimizer = keras.optimizers.Adam(1e-4)  # the surrogate is trained already: it only follows the generator
    distillation = DynamicDistillation(
        surrogate,
        optimizer,
        black_box,
        answered.train,
        dataset.train.labels,
        config.queries_per_epoch,
        seed=config.seed,
    )
    say(
        f"The generator is trained against the surrogate; success in training is measured against it ({config.black_box})."
    )
    saved = {"surrogate": surrogate, "surrogate_optimizer": optimizer, "queries": black_box.queries}
    # Called as it is, not frozen: its weights follow the answers.
    return functools.partial(surrogate, training=False), [distillation], saved


def fit(
    aigan: AIGAN,
    config: Config,
    dataset: ImageDataset,
    folder: Workdir,
    time_left: TimeLeft,
    devices: Devices,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    saved: Mapping[str, object] | None = None,
    distillation: Sequence[keras.callbacks.Callback] = (),
) -> bool:
    """Trains a model for all epochs; continues from the last checkpoint in `folder`.

    Args:
        aigan: compiled, made in the strategy's scope.
        config, dataset, devices: of the run.
        folder: holds checkpoints and histories; only the chief writes.
        time_left: has the epochs of the whole run, finished ones included.
        callbacks: called before the history and the checkpoint are written.
        saved: what a checkpoint holds besides the model's own state.
        distillation: callbacks that add losses to the logs, called before losses are checked.

    Returns:
        True if training ran: the caller must save `folder.weights`, last of all. False if finished weights were loaded.
    """
    if folder.weights.exists():  # written last: training is over, even if its checkpoints are gone
        load_weights(aigan.generator, folder.weights, "the weights train.py wrote", "restore the file")
        return False
    steps, epochs = time_left.steps, time_left.epochs
    history, checkpoint, steps_done = _restored(aigan, folder, devices, steps, epochs, saved or {})
    batches_from = functools.partial(
        training_batches, dataset.train, config.batch_size, config.seed, max_shift=config.max_shift, flip=config.flip
    )
    attacks = epochs * steps * config.batch_size
    targets = len(aigan.target_classes)
    each = f", on average {attacks // targets:,} for each target class" if aigan.targeted and targets > 1 else ""
    say(f"Training the generator: {config.attack}, epsilon {shown_value(config.epsilon)}, {attacks:,} attacks{each}.")
    began = time.perf_counter()
    with (
        MixedPrecision(config.mixed_precision, (aigan.generator, aigan.discriminator)) as precision,
        checkpoint if devices.is_chief else contextlib.nullcontext(),
        contextlib.closing(history),
    ):
        devices.fit(
            aigan,
            batches_from,
            steps_per_epoch=steps,
            steps_done=steps_done,
            epochs=epochs,
            validation_data=evaluation_batches(dataset.validation, images_per_call(dataset.image_shape)),
            callbacks=[
                precision,
                _progress(aigan, time_left, None if devices.distributed else batches_from),
                *distillation,
                StopNotFinite(
                    checkpoint.checkpoint_hint,
                    functools.partial(_why_not_finite, aigan, config.black_box, dataset, batches_from),
                ),
                QuietFailures(aigan, dataset.validation.take(slice(0, 16)).as_float(), warn),
                *callbacks,
                *([history, checkpoint] if devices.is_chief else []),
            ],
        )  # fmt: skip
    stopped = f", until a callback stopped it after step {aigan.steps_done}" if aigan.stop_training else ""
    say(f"Trained for {time.perf_counter() - began:.0f} s{stopped}.")
    return True


def _why_not_finite(aigan, black_box, dataset, batches_from, step, losses):
    """Returns whether the classifier or the training broke the losses of a step, and what to do about it."""
    if any(name.startswith("val_") for name in losses):
        images = dataset.validation.as_float()
    else:  # a gradient that is not finite shows in the losses of the next step
        images = np.concatenate([images for images, _ in itertools.islice(batches_from(max(step - 2, 0)), 2)])
    signs = np.random.default_rng(step).choice(np.float32([-1, 1]), images.shape)
    tried = np.concatenate([images, np.clip(images + aigan.epsilon * signs, 0, 1)])
    classifier, size = GraphClassifier.of(aigan.classifier), images_per_call(dataset.image_shape)
    broken = np.concatenate(
        [not_finite(classifier, tried[start : start + size]) for start in range(0, len(tried), size)]
    )
    if not broken.any():
        return (
            "the classifier is finite on the last images: training diverged",
            "train again with a lower `learning_rate`",
        )
    count = np.count_nonzero(broken.reshape(2, -1).any(axis=0))
    where = f"on {count} of the last {len(images)} images"
    if black_box:
        return f"the surrogate model is NaN or infinite {where}", "train again with another `black_box` or `seed`"
    return (
        f"the classifier's logits or gradients are NaN or infinite {where}",
        "repair the classifier, in layers that divide or take roots or logarithms, or remove these images",
    )


def _restored(aigan, folder, devices, steps_per_epoch, epochs, saved):
    """Returns the history and the checkpoint of a run, both continued, and the number of steps done."""
    history = MetricsHistory(folder.metrics, folder.logs)
    checkpoint = Checkpoint(
        folder.checkpoints / "aigan", **state_of(aigan), epoch_seconds=history.epoch_seconds, **saved
    )
    steps_done = checkpoint.restore()
    if devices.is_chief:
        history.restore(steps_done // steps_per_epoch)
    if steps_done:
        total = epochs * steps_per_epoch
        say(f"Continuing the generator after step {steps_done} of {total}, in stage {aigan.stage}.")
    return history, checkpoint, steps_done


def time_left_of(config: Config, dataset: ImageDataset, attacks: int = 0) -> TimeLeft:
    """Returns the estimate for both stages of a run, and for an evaluation of so many attacks."""
    return TimeLeft(
        config.epochs, steps_per_epoch(config, dataset), config.stage1_epochs, config.batch_size, len(dataset.validation),
        attacks,
    )  # fmt: skip


def evaluation_attacks(config: Config, dataset: ImageDataset) -> int:
    """Returns how many attacks the evaluation of a run measures if the classifier gets every test image right."""
    known = len(target_numbers(config, dataset) or dataset.class_names)
    targets = min(targets_per_image(known), dataset.num_classes - 1) if config.targeted else 1
    return min(targets * len(dataset.test), max_attacks(dataset.image_shape))


def _progress(aigan, time_left, batches_from):
    """Returns the callback; without batches it cannot try stage 2."""
    metrics = {aigan.success_rate.name: "success {:.1%}", "perturbation_l2": "L2 {:.2f}"}
    attempt = functools.partial(_try_stage2, aigan, batches_from, time_left) if batches_from else None
    return Progress(metrics, time_left, attempt)


def _try_stage2(aigan, batches_from, time_left):
    """Measures a few steps of stage 2, and puts back all that they change: what a checkpoint holds, and the metrics."""
    changed = [*state_of(aigan).values(), *aigan.metrics]
    variables = [variable for each in changed for variable in getattr(each, "variables", [each])]
    before = [variable.value.numpy() for variable in variables]
    batches = iter(batches_from(0))
    try:
        aigan.stage = 2
        for step in range(4):
            began = time.perf_counter()
            float(aigan.train_function(batches)["generator_loss"])  # waits for the step
            if step:
                time_left.step[2].add(time.perf_counter() - began)
    finally:
        for variable, value in zip(variables, before, strict=True):
            variable.assign(value)


def save_generator(aigan: AIGAN, path: pathlib.Path) -> None:
    """Writes the generator's weights into a run's folder, whole or not at all, with their digest."""
    weights = _WeightsInMemory()
    aigan.generator.save_weights(weights)
    with atomic_file(path) as temporary:
        temporary.write_bytes(weights.getvalue())
        Workdir(path.parent).seal(path, temporary)


class _WeightsInMemory(io.BytesIO):
    """Takes weights in memory: HDF5 crashes the process if it writes to a disk that is full."""

    def __str__(self):
        return "generator.weights.h5"  # Keras requires the ending
