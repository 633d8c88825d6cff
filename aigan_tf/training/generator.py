"""Training the generator: both stages, checkpoints, pictures."""

import contextlib
import functools
import io
import pathlib
import time
from collections.abc import Callable, Mapping, Sequence

import keras
import numpy as np
import tensorflow as tf

from aigan_tf import build
from aigan_tf.build import build_aigan, steps_per_epoch
from aigan_tf.classifiers.black_box import BlackBox, DynamicDistillation
from aigan_tf.config import Config
from aigan_tf.data.batches import evaluation_batches, training_batches
from aigan_tf.data.datasets import ImageDataset
from aigan_tf.engine.callbacks import MetricsHistory, Progress, StopNotFinite, events_anew
from aigan_tf.engine.checkpoints import Checkpoint, state_of
from aigan_tf.engine.distribution import Devices
from aigan_tf.engine.precision import MixedPrecision
from aigan_tf.errors import say
from aigan_tf.evaluation import figures
from aigan_tf.files import atomic_file, write_bytes
from aigan_tf.method.aigan import AIGAN
from aigan_tf.method.failures import QuietFailures
from aigan_tf.method.stages import StageSwitch
from aigan_tf.method.targets import spread_target_classes
from aigan_tf.workdir import Workdir


def train_generator(
    config: Config, dataset: ImageDataset, classifier: Callable, folder: Workdir, devices: Devices | None = None
) -> AIGAN:
    """Runs both stages, or what is left of them, and returns the trained model; `devices` None is one device."""
    devices = devices or Devices()
    attacked, distillation, saved = classifier, [], {}
    if config.black_box:
        black_box = BlackBox(classifier)
        copy, answered = black_box.local_copy(config, dataset, folder, black_box)
        attacked = functools.partial(copy, training=False)  # not frozen: its weights follow the answers
        optimizer = keras.optimizers.Adam(1e-4)  # the copy is trained already: it only follows the generator
        distillation = [
            DynamicDistillation(
                copy,
                optimizer,
                black_box,
                answered.train,
                dataset.train.labels,
                config.queries_per_epoch,
                seed=config.seed,
            )
        ]
        saved = {"copy": copy, "copy_optimizer": optimizer, "queries": black_box.queries}
        say(f"The generator is trained against the copy; its success in training is that against {config.black_box}.")
    with devices.strategy.scope():
        aigan = build_aigan(config, dataset, attacked, config.epochs * steps_per_epoch(config, dataset))

    def end_stage1():
        if devices.is_chief:
            save_generator(aigan, folder.stage1_weights)
            write_samples(aigan, dataset, folder)

    automatic = config.switch == "auto" and config.stage2_epochs > 0
    success = config.switch_success if automatic else None
    switch = StageSwitch(config.stage1_epochs, config.epochs, success, end_stage1)
    trained = fit(aigan, config, dataset, folder, config.epochs, devices, [switch], saved, distillation)
    if trained and devices.is_chief:
        write_samples(aigan, dataset, folder)
        save_generator(aigan, folder.weights)
    return aigan


def fit(
    aigan: AIGAN,
    config: Config,
    dataset: ImageDataset,
    folder: Workdir,
    epochs: int,
    devices: Devices,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    saved: Mapping[str, object] | None = None,
    distillation: Sequence[keras.callbacks.Callback] = (),
) -> bool:
    """Trains a model up to `epochs`, going on after the last step that `folder` holds.

    `distillation` has losses of its own: it comes before what looks at them, `callbacks` and what else writes after.

    Returns:
        True where it trained: the caller then writes `folder.weights`, last of all. False where they are there; they are
        loaded. Only the chief writes.
    """
    if folder.weights.exists():  # written last: training is over, whatever has become of its checkpoints
        build.load_weights(aigan.generator, folder.weights, "expected what train.py wrote: restore it")
        return False
    history = MetricsHistory(folder.metrics, folder.logs)
    checkpoint = Checkpoint(
        folder.checkpoints / "aigan", **state_of(aigan), epoch_seconds=history.epoch_seconds, **(saved or {})
    )
    steps = steps_per_epoch(config, dataset)
    steps_done = checkpoint.restore()
    if devices.is_chief:
        history.restore(steps_done // steps)
    if steps_done:
        say(f"Continuing the generator after step {steps_done} of {epochs * steps}, in stage {aigan.stage}.")
    success = aigan.success_rate.name
    say(f"Training the generator: {config.attack}, epsilon {config.epsilon:.4g}, {steps} steps an epoch.")
    began = time.perf_counter()
    batches_from = functools.partial(
        training_batches, dataset.train, config.batch_size, config.seed, max_shift=config.max_shift, flip=config.flip
    )
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
            validation_data=evaluation_batches(dataset.validation, 500),
            callbacks=[
                precision,
                Progress(
                    ["generator_loss", success, "perturbation_l2", f"val_{success}", "val_perturbation_l2"],
                    epochs,
                    show_stage=len(callbacks) > 0,
                ),
                *distillation,
                StopNotFinite(checkpoint.what_is_kept, "lower --learning_rate, in another --workdir"),
                QuietFailures(aigan, dataset.validation.take(slice(0, 16)).as_float()),
                *callbacks,
                *([history, checkpoint] if devices.is_chief else []),
            ],
        )
    say(f"Trained for {time.perf_counter() - began:.0f} s.")
    return True


def save_generator(aigan: AIGAN, path: pathlib.Path) -> None:
    """Writes the generator's weights into a work folder, whole or not at all."""
    weights = _WeightsInMemory()
    aigan.generator.save_weights(weights)
    with atomic_file(path) as temporary:
        temporary.write_bytes(weights.getvalue())
        Workdir(path.parent).seal(path, temporary)


class _WeightsInMemory(io.BytesIO):
    """Where Keras writes weights in place of a file: HDF5 crashes the process when a disk is full."""

    def __str__(self):
        return "generator.weights.h5"  # Keras insists on the ending


def write_samples(aigan: AIGAN, dataset: ImageDataset, folder: Workdir) -> None:
    """Draws one validation image of each of up to ten classes, as PNG and for TensorBoard."""
    split = dataset.validation
    shown = [int(np.argmax(split.labels == k)) for k in range(dataset.num_classes) if (split.labels == k).any()][:10]
    images, labels = split.take(np.array(shown)).as_float(), split.labels[shown]
    classes = spread_target_classes(tf.constant(labels), dataset.num_classes) if aigan.targeted else tf.constant(labels)
    adversarial_images = aigan(images, classes).numpy()
    answers = np.argmax(aigan.classifier(adversarial_images), axis=-1)
    names = dataset.class_names
    aims = [f"aim: {names[k]}" if aigan.targeted else f"aim: not {names[k]}" for k in classes.numpy()]
    titles = [
        f"{names[label]}\n{aim}\nanswer: {names[answer]}"
        for label, aim, answer in zip(labels, aims, answers, strict=True)
    ]
    heading = f"{dataset.name}, end of stage {aigan.stage}: epsilon {aigan.epsilon:.3g}"
    rows = {
        "clean": images,
        "perturbation,\nmagnified": figures.magnified(images, adversarial_images, aigan.epsilon),
        "adversarial": adversarial_images,
    }
    png = figures.picture_grid(rows, titles, heading)
    write_bytes(folder.samples / f"stage{aigan.stage}.png", png)
    events = events_anew(folder.logs / "samples", f".stage{aigan.stage}")
    with events.as_default():
        tf.summary.image(f"stage{aigan.stage}", tf.io.decode_png(png)[tf.newaxis], step=aigan.steps_done)
    events.close()
