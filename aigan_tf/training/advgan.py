"""Training the AdvGAN baseline beside a run's AI-GAN."""

import dataclasses
import os
from collections.abc import Sequence

import numpy as np

from aigan_tf.build import build_advgan
from aigan_tf.config import Config
from aigan_tf.data import datasets
from aigan_tf.errors import InputError, say
from aigan_tf.training.generator import fit, save_generator
from aigan_tf.training.run import open_run
from aigan_tf.workdir import Workdir


def train_advgan(
    config: Config,
    workdir: str | os.PathLike,
    data_dir: str | None = None,
    target_classes: str = "all",
    epochs: int | None = None,
    strategy: str = "none",
) -> None:
    """Trains AdvGAN, one generator for each target class, beside the AI-GAN of a work folder.

    Each lies in advgan/CLASS (its number) of the folder and attacks the folder's classifier. Interrupted
    training is continued, finished training is left as it is.

    Args:
        config: as in `train_and_export`; the same settings as the folder's.
        workdir, data_dir: as in `train_and_export`.
        target_classes: "all", or numbers or names of classes, by comma.
        epochs: how many each generator is trained; None for as many as both of AI-GAN's stages.
        strategy: what each is trained on; see `Devices`.

    Raises:
        InputError: something the user gave cannot be used.
    """
    if not config.targeted:
        raise InputError(
            "--method=advgan with --attack=untargeted: expected targeted, AdvGAN has a target class: change one"
        )
    if config.black_box:
        raise InputError(
            "--method=advgan with --black_box: expected one of them, AdvGAN follows gradients here: leave one out"
        )
    if epochs is not None and epochs < 1:
        raise InputError(f"--advgan_epochs={epochs}: expected 1 or more; give e.g. {config.epochs}")
    epochs = epochs or config.epochs
    if strategy == "multiworker":
        raise InputError(
            "--method=advgan with --strategy=multiworker: expected none or mirrored, a generator of one class is soon trained: "
            "choose one of them"
        )
    # Before the folder is made, so that a mistyped class leaves nothing behind.
    dataset = datasets.load_dataset(config, data_dir)
    targets = classes_named(target_classes, dataset.class_names)
    for target in targets:
        left = int((dataset.train.labels != target).sum())
        if left < config.batch_size:
            raise InputError(
                f"--batch_size={config.batch_size}: AdvGAN for {dataset.class_names[target]} trains on the {left} training "
                "images of other classes; expected no more than that: lower it"
            )
    with open_run(config, workdir, data_dir, strategy) as (folder, dataset, classifier, devices):
        for target in targets:
            own = Workdir(folder.advgan / str(target))
            settings = {"target_class": target, "advgan_epochs": epochs}
            own.open(settings, settings, {})
            say(f"AdvGAN for target class {dataset.class_names[target]}, {epochs} epochs, in {own.path}.")

            def others(split, target=target):
                return split.take(np.flatnonzero(split.labels != target))

            images = dataclasses.replace(dataset, train=others(dataset.train), validation=others(dataset.validation))
            with devices.strategy.scope():
                advgan = build_advgan(config, images, classifier, target, epochs)
            if fit(advgan, config, images, own, epochs, devices):
                save_generator(advgan, own.weights)


def classes_named(text: str, class_names: Sequence[str]) -> list[int]:
    """Returns the classes that `text` names: "all", or their numbers or names by comma.

    Raises:
        InputError: there is no such class.
    """
    if text == "all":
        return list(range(len(class_names)))
    numbers = []
    for name in (part.strip() for part in text.split(",")):
        if name in class_names:
            numbers.append(class_names.index(name))
        elif name.isdecimal() and int(name) < len(class_names):
            numbers.append(int(name))
        else:
            raise InputError(
                f"--target_class={text}: there is no class {name!r}; expected all, or names or numbers from 0 to "
                f"{len(class_names) - 1}, by comma: correct it"
            )
    return list(dict.fromkeys(numbers))
