"""Training AdvGAN, the method AI-GAN is compared with, beside the AI-GAN of a run."""

import dataclasses
import os
from collections.abc import Sequence

import numpy as np

from aigan_tf.build import build_advgan, steps_per_epoch
from aigan_tf.checks import check_advgan_run
from aigan_tf.classifiers.accuracy import labelled_by
from aigan_tf.classifiers.features import load_features
from aigan_tf.classifiers.training import existing_classifier
from aigan_tf.data.classes import class_numbers
from aigan_tf.data.datasets import load_dataset
from aigan_tf.engine.time_left import TimeLeft
from aigan_tf.errors import InputError, say
from aigan_tf.training.generator import fit, save_generator
from aigan_tf.training.run import open_run
from aigan_tf.workdir import Workdir


def train_advgan(
    workdir: str | os.PathLike,
    target_classes: Sequence[str] = (),
    epochs: int | None = None,
    data_dir: str | None = None,
    strategy: str = "none",
    custom_objects: Sequence[str] = (),
) -> None:
    """Trains one generator for each target class, in advgan/CLASS (its number) of a run's folder.

    They attack the run's classifier with the run's settings. Interrupted training continues, finished training is left
    as it is.

    Args:
        workdir: folder of a run that has at least begun.
        target_classes: names or numbers of classes; empty for all.
        epochs: epochs of each generator; None for as many as both of AI-GAN's stages.
        data_dir: folder of TFDS data sets; None for TFDS's default.
        strategy: what each is trained on, none or mirrored; see `Devices`.
        custom_objects: the Python files that the run may execute.

    Raises:
        InputError: something the user gave cannot be used.
        DivergedError: a loss became NaN or infinite.
    """
    run, config = check_advgan_run(workdir, epochs, data_dir, custom_objects)
    epochs = epochs or config.epochs
    # Before anything is made, so that a mistyped class leaves nothing behind.
    dataset = load_dataset(config, run.data_dir(data_dir))
    if not dataset.has_labels:  # then the classifier names the classes
        dataset = labelled_by(existing_classifier(config, dataset, run), dataset)
    targets = class_numbers(target_classes, dataset.class_names, None) or range(dataset.num_classes)
    for target in targets:
        _refuse_large_batches(config, dataset, target)
    with open_run(config, workdir, data_dir, strategy) as (config, folder, dataset, classifier, devices):
        for number, target in enumerate(targets):
            own = Workdir(folder.advgan / str(target))
            own.open({"target_class": target, "epochs": epochs}, {})
            say(f"AdvGAN for target class {dataset.class_names[target]}, {epochs} epochs, in {own.path}.")
            images = _without_class(dataset, target)
            with devices.strategy.scope():
                model = build_advgan(config, images, classifier, target, epochs, load_features(config, folder))
            time_left = TimeLeft(
                epochs, steps_per_epoch(config, images), batch_size=config.batch_size,
                validation_images=len(images.validation), trainings=len(targets) - number,
            )  # fmt: skip
            if fit(model, config, images, own, time_left, devices):
                save_generator(model, own.weights)


def _without_class(dataset, target):
    """Returns the data set with training and validation images of the other classes alone."""

    def others(split):
        return split.take(np.flatnonzero(split.labels != target))

    return dataclasses.replace(dataset, train=others(dataset.train), validation=others(dataset.validation))


def _refuse_large_batches(config, dataset, target):
    left = int((dataset.train.labels != target).sum())
    if left < config.batch_size:
        raise InputError(
            config.batch_size,
            f"at most the {left} training images of other classes than {dataset.class_names[target]}",
            "choose another class, or another run",
            setting="batch_size",
        )
