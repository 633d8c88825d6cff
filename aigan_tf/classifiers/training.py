"""Training what is attacked: the classifier, plain or defended, and a local copy of one that only answers."""

import dataclasses
import functools
from collections.abc import Callable

import keras
import numpy as np

from aigan_tf.build import build_aigan
from aigan_tf.classifiers import architectures
from aigan_tf.classifiers.adversarial_training import AdversarialTraining, GeneratorTraining
from aigan_tf.classifiers.black_box import BlackBox
from aigan_tf.classifiers.loading import first_line, take_weights
from aigan_tf.config import Config
from aigan_tf.data.batches import evaluation_batches, training_batches
from aigan_tf.data.datasets import ImageDataset
from aigan_tf.engine.callbacks import MetricsHistory, Progress
from aigan_tf.engine.checkpoints import Checkpoint, state_of
from aigan_tf.engine.distribution import Devices
from aigan_tf.engine.normalization import with_fused_batch_norm
from aigan_tf.errors import InputError
from aigan_tf.files import atomic_file
from aigan_tf.method.failures import QuietFailures, StopNotFinite
from aigan_tf.preparation import existing_classifier, say, trainable_classifier
from aigan_tf.workdir import Workdir

HARDENING = architectures.Recipe(epochs=10, learning_rate=0.02)  # from weights that are good already
STATIC = ("c", "a", "resnet20", "small", "b")  # of an ensemble defence: the first two others that fit the images


def trained_classifier(config: Config, dataset: ImageDataset, folder: Workdir) -> Callable:
    """Returns the work folder's classifier.keras as images to logits, training it first if it is not there.

    Where the labels are probabilities (float32 `(n, num_classes)`), those are learned.
    """
    if folder.classifier.exists():
        return existing_classifier(config, dataset, folder)
    name = config.classifier.lower()
    mean, std = dataset.train.channel_statistics()
    keras.utils.set_random_seed(config.seed)
    model = architectures.build(name, dataset.image_shape, dataset.num_classes, mean, std)
    trainee = with_fused_batch_norm(model)
    recipe = architectures.ARCHITECTURES[name].recipe
    _train(trainee, recipe, f"Training classifier {config.classifier}", config, dataset, folder)
    model.set_weights(trainee.get_weights())  # Keras's own layers again: loads without this package
    _save(model, folder)
    return architectures.frozen(model)


def hardened_classifier(config: Config, dataset: ImageDataset, folder: Workdir) -> Callable:
    """Returns the user's own classifier after adversarial training, as images to logits.

    What was given stays as it is. classifier.keras of the work folder is the same model with other weights: it takes the
    same range of pixels and has the same last layer.

    Raises:
        InputError: it cannot be trained.
    """
    if not folder.classifier.exists():
        keras.utils.set_random_seed(config.seed)
        model, logits = trainable_classifier(config, dataset)
        recipe = dataclasses.replace(HARDENING, max_shift=config.max_shift)
        _train(logits, recipe, f"Hardening {config.classifier}", config, dataset, folder)
        take_weights(model, logits)
        _save(model, folder)
    return existing_classifier(config, dataset, folder)


def _train(trainee, recipe, doing, config, dataset, folder):
    """Trains a classifier by its recipe and the run's defence, going on after the last step that was saved."""
    epochs = config.classifier_epochs or recipe.epochs
    batch_size = min(128, len(dataset.train))
    steps = len(dataset.train) // batch_size
    learner, opponent, watch = trainee, {}, []
    if config.defense == "aigan":
        aigan = build_aigan(config, dataset, functools.partial(trainee, training=False), epochs * steps)
        learner = GeneratorTraining(trainee, aigan, config.seed)
        opponent = state_of(aigan)
        watch = [QuietFailures(aigan, dataset.validation.take(slice(0, 16)).as_float())]
    elif config.defense:
        static = static_classifiers(config, dataset, folder)
        learner = AdversarialTraining(trainee, config.defense, config.epsilon, static, config.seed)
    architectures.compile_for_training(learner, recipe, epochs * steps, soft=dataset.train.labels.ndim == 2)
    learner.optimizer.build(trainee.trainable_variables)
    history = MetricsHistory(folder.classifier_metrics)
    checkpoint = Checkpoint(
        folder.checkpoints / "classifier",
        model=trainee,
        optimizer=learner.optimizer,
        epoch_seconds=history.epoch_seconds,
        **opponent,
    )
    steps_done = checkpoint.restore()
    history.restore(steps_done // steps)
    if steps_done < epochs * steps:
        defended = f" under attack ({config.defense})" if config.defense else ""
        say(f"{doing}{defended}, epochs {steps_done // steps + 1} to {epochs}.")
    with checkpoint:
        Devices().fit(
            learner,
            functools.partial(
                training_batches,
                dataset.train,
                batch_size,
                config.seed,
                max_shift=recipe.max_shift,
                flip=config.flip,
            ),
            steps_per_epoch=steps,
            steps_done=steps_done,
            epochs=epochs,
            validation_data=evaluation_batches(dataset.validation, 500),
            callbacks=[
                Progress(["loss", "accuracy", "generator_success_rate", "val_accuracy"], epochs),
                StopNotFinite(checkpoint.what_is_kept, "train anew with another --seed, in another --workdir"),
                *watch,
                history,
                checkpoint,
            ],
        )


def _save(model, folder):
    with atomic_file(folder.classifier) as temporary:
        model.save(temporary)
        folder.seal(folder.classifier, temporary)


def static_classifiers(config: Config, dataset: ImageDataset, folder: Workdir) -> list[Callable]:
    """Returns the other classifiers of an ensemble defence, trained as usual in ensemble/NAME of the work folder."""
    if config.defense != "ensemble":
        return []
    own = config.classifier.lower()
    side = min(dataset.image_shape[:2])
    names = [name for name in STATIC if name != own and architectures.ARCHITECTURES[name].min_side <= side][:2]
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
        answers = {name: black_box.answers_on(split) for name, split in splits.items()}
        with atomic_file(path) as temporary:
            np.savez(temporary, **answers)
            own.seal(path, temporary)
    else:
        black_box.queries.assign(sum(len(split) for split in splits.values()))
    own.verify(path)
    try:
        with np.load(path) as answers:
            soft = {name: dataclasses.replace(split, labels=answers[name]) for name, split in splits.items()}
        for split in soft.values():
            _refuse_other_answers(split, dataset.num_classes)
    except Exception as error:  # of a damaged file NumPy raises half a dozen kinds
        raise InputError(
            f"{path} cannot be used ({first_line(error)}); expected the answers on this data set's images, as train.py wrote them: "
            f"restore it, or delete {own.path} to ask anew"
        ) from error
    answered = dataclasses.replace(dataset, **soft)
    # Another seed: the black box's own would give the copy its first weights.
    copy_config = dataclasses.replace(
        config, classifier=config.black_box, classifier_epochs=0, defense="", seed=config.seed + 2
    )
    return trained_classifier(copy_config, answered, own).func, answered


def _refuse_other_answers(split, num_classes):
    answers, expected = split.labels, (len(split.images), num_classes)
    if answers.shape != expected or answers.dtype != np.float32:
        raise ValueError(f"{answers.dtype} of {answers.shape} instead of float32 of {expected}")
    if not (answers.min() >= 0 and np.allclose(answers.sum(axis=1), 1, atol=1e-3)):
        raise ValueError("answers that are no probabilities")
