"""Training AdvGAN, the method AI-GAN is compared with, beside the AI-GAN of a run."""

import os
from collections.abc import Sequence

from aigan_tf.build import build_advgan, steps_per_epoch, target_numbers
from aigan_tf.checks import check_advgan_run
from aigan_tf.classifiers.accuracy import labelled_by
from aigan_tf.classifiers.features import features_for
from aigan_tf.classifiers.training import existing_classifier
from aigan_tf.data.batches import refuse_large_batches
from aigan_tf.data.classes import class_numbers
from aigan_tf.data.datasets import load_dataset
from aigan_tf.engine.time_left import TimeLeft
from aigan_tf.errors import say
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
        target_classes: names or numbers of classes; empty for all that are targets of the run.
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
    given = class_numbers(target_classes, dataset.class_names, None)
    targets = given or target_numbers(config, dataset) or range(dataset.num_classes)
    for target in targets:
        refuse_large_batches(config, dataset.train, target)
    with open_run(config, workdir, data_dir, strategy) as (config, folder, dataset, classifier, devices):
        features = features_for(config, dataset, folder)
        for number, target in enumerate(targets):
            own = Workdir(folder.advgan / str(target))
            own.open({"target_class": target, "epochs": epochs}, {})
            say(f"AdvGAN for target class {dataset.class_names[target]}, {epochs} epochs, in {own.path}.")
            images = dataset.without_class(target)
            with devices.strategy.scope():
                model = build_advgan(config, images, classifier, target, epochs, features)
            time_left = TimeLeft(
                epochs, steps_per_epoch(config, images), batch_size=config.batch_size,
                validation_images=len(images.validation), trainings=len(targets) - number,
            )  # fmt: skip
            if fit(model, config, images, own, time_left, devices):
                save_generator(model, own.weights)
