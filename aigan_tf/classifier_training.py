"""Training what is attacked: the classifier, plain or defended, and a local copy of one that only answers."""

import dataclasses
import functools
from collections.abc import Callable

import keras
import numpy as np

from aigan_tf import classifiers
from aigan_tf.batches import evaluation_batches, training_batches
from aigan_tf.callbacks import EpochCheckpoint, MetricsHistory, Progress
from aigan_tf.config import Config
from aigan_tf.data import ImageDataset
from aigan_tf.defences import AdversarialTraining
from aigan_tf.distillation import BlackBox
from aigan_tf.normalization import with_fused_batch_norm
from aigan_tf.preparation import existing_classifier
from aigan_tf.workdir import Workdir, atomic_file

say = functools.partial(print, flush=True)  # at once, also into a log file
STATIC = ("c", "a", "resnet20", "small", "b")  # of an ensemble defence: the first two others that fit the images


def trained_classifier(config: Config, dataset: ImageDataset, folder: Workdir) -> Callable:
    """Returns the work folder's classifier.keras as images to logits, training it first if it is not there.

    Where the labels are probabilities (float32 `(n, num_classes)`), those are learned.
    """
    if folder.classifier.exists():
        return existing_classifier(config, dataset, folder)
    name = config.classifier.lower()
    recipe = classifiers.ARCHITECTURES[name].recipe
    if config.classifier_epochs:
        recipe = dataclasses.replace(recipe, epochs=config.classifier_epochs)
    mean, std = dataset.train.channel_statistics()
    keras.utils.set_random_seed(config.seed)
    model = classifiers.build(name, dataset.image_shape, dataset.num_classes, mean, std)
    batch_size = min(128, len(dataset.train))
    steps = len(dataset.train) // batch_size
    trainee = learner = with_fused_batch_norm(model)
    if config.defense:
        learner = AdversarialTraining(
            trainee, config.defense, config.epsilon, static_classifiers(config, dataset, folder), config.seed
        )
    classifiers.compile_for_training(learner, recipe, recipe.epochs * steps, soft=dataset.train.labels.ndim == 2)
    learner.optimizer.build(trainee.trainable_variables)
    checkpoint = EpochCheckpoint(folder.checkpoints / "classifier", model=trainee, optimizer=learner.optimizer)
    first_epoch = checkpoint.restore()
    if first_epoch < recipe.epochs:
        defended = f" under attack ({config.defense})" if config.defense else ""
        say(f"Training classifier {name}{defended}, epochs {first_epoch + 1} to {recipe.epochs}.")
    learner.fit(
        training_batches(
            dataset.train,
            batch_size,
            seed=config.seed,
            first_step=first_epoch * steps,
            max_shift=recipe.max_shift,
            flip=config.flip,
        ),
        steps_per_epoch=steps,
        initial_epoch=first_epoch,
        epochs=recipe.epochs,
        shuffle=False,  # the batches are shuffled already
        verbose=0,  # Progress reports
        validation_data=evaluation_batches(dataset.validation, 500),
        callbacks=[
            Progress(["loss", "accuracy", "val_accuracy"]),
            MetricsHistory(folder.classifier_metrics, first_epoch),
            checkpoint,
        ],
    )
    model.set_weights(trainee.get_weights())  # Keras's own layers again: loads without this package
    with atomic_file(folder.classifier) as temporary:
        model.save(temporary)
    return classifiers.frozen(model)


def static_classifiers(config: Config, dataset: ImageDataset, folder: Workdir) -> list[Callable]:
    """Returns the other classifiers of an ensemble defence, trained as usual in ensemble/NAME of the work folder."""
    if config.defense != "ensemble":
        return []
    own = config.classifier.lower()
    side = min(dataset.image_shape[:2])
    names = [name for name in STATIC if name != own and classifiers.ARCHITECTURES[name].min_side <= side][:2]
    return [
        trained_classifier(
            dataclasses.replace(config, classifier=name, classifier_epochs=0, defense=""),
            dataset,
            Workdir(folder.path / "ensemble" / name),
        )
        for name in names
    ]


def local_copy(
    config: Config, dataset: ImageDataset, folder: Workdir, black_box: BlackBox
) -> tuple[keras.Model, ImageDataset]:
    """Returns a copy of the classifier that learned its answers on clean images, in local_copy/ of the work folder.

    Every training and validation image is asked about once, also where training was interrupted.

    Returns:
        The copy, and the data set with the answers, float32 `(n, num_classes)`, for labels.
    """
    own = Workdir(folder.path / "local_copy")
    path = own.path / "answers.npz"
    splits = {"train": dataset.train, "validation": dataset.validation}
    if not path.exists():
        answers = {name: black_box(split.as_float()) for name, split in splits.items()}
        with atomic_file(path) as temporary:
            np.savez(temporary, **answers)
    else:
        black_box.queries.assign(sum(len(split) for split in splits.values()))
    with np.load(path) as answers:
        soft = {name: dataclasses.replace(split, labels=answers[name]) for name, split in splits.items()}
    answered = dataclasses.replace(dataset, **soft)
    # Another seed: the black box's own would give the copy its first weights.
    copy_config = dataclasses.replace(
        config, classifier=config.black_box, classifier_epochs=0, defense="", seed=config.seed + 2
    )
    return trained_classifier(copy_config, answered, own).func, answered
