"""Trains the classifier under attack, standard or adversarial, and loads it again."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Sequence

import keras

from aigan_tf.build import build_aigan
from aigan_tf.classifiers import architectures
from aigan_tf.classifiers.adversarial_training import AdversarialTraining, GeneratorTraining
from aigan_tf.classifiers.loading import TrainableLogits, load_classifier, load_for_training, refuse_unfit
from aigan_tf.classifiers.model_files import load_written
from aigan_tf.classifiers.preprocessing import Preprocessing
from aigan_tf.config import Config, is_built_in
from aigan_tf.data.batches import evaluation_batches, training_batches
from aigan_tf.data.datasets import ImageDataset
from aigan_tf.engine.callbacks import MetricsHistory, Progress, StopNotFinite
from aigan_tf.engine.checkpoints import Checkpoint, state_of
from aigan_tf.engine.distribution import Devices
from aigan_tf.engine.memory import images_per_call
from aigan_tf.engine.normalization import with_fused_batch_norm
from aigan_tf.engine.time_left import TimeLeft
from aigan_tf.errors import say, warn
from aigan_tf.files import atomic_file
from aigan_tf.method.failures import QuietFailures
from aigan_tf.workdir import Workdir, digests_of

HARDENING = architectures.Recipe(epochs=10, learning_rate=0.02)  # starts from trained weights
PROGRESS = {"loss": "loss {:.3f}", "accuracy": "accuracy {:.1%}", "generator_success_rate": "generator {:.1%}"}
STATIC = ("c", "a", "resnet20", "small", "b")  # for an ensemble defence: the first two others that fit the images


def trained_classifier(
    config: Config, dataset: ImageDataset, folder: Workdir, callbacks: Sequence[keras.callbacks.Callback] = ()
) -> Callable:
    """Returns the classifier in classifier.keras of a run's folder as images to logits, after training it if need be.

    Labels may be probabilities, float32 `(n, num_classes)`, which it then learns. `callbacks` watch the training.
    """
    if folder.classifier.exists():
        return existing_classifier(config, dataset, folder)
    name = config.classifier.lower()
    mean, std = dataset.train.channel_statistics()
    keras.utils.set_random_seed(config.seed)
    model = architectures.build(name, dataset.image_shape, dataset.num_classes, mean, std)
    trainee = with_fused_batch_norm(model)
    recipe = architectures.ARCHITECTURES[name].recipe
    _train(trainee, recipe, f"Training classifier {config.classifier}", config, dataset, folder, callbacks)
    model.set_weights(trainee.get_weights())  # Keras's own layers load without this package
    _save(model, folder)
    return architectures.frozen(model)


def hardened_classifier(
    config: Config, dataset: ImageDataset, folder: Workdir, callbacks: Sequence[keras.callbacks.Callback] = ()
) -> Callable:
    """Returns the user's own classifier after adversarial training, as images to logits.

    The user's file is not changed. classifier.keras of the run's folder is the same model with other weights: it takes
    the same pixel range and has the same last layer. `callbacks` watch the training.

    Raises:
        InputError: it cannot be trained.
    """
    if not folder.classifier.exists():
        keras.utils.set_random_seed(config.seed)
        trainee = own_trainable_classifier(config, dataset)
        recipe = dataclasses.replace(HARDENING, max_shift=config.max_shift)
        _train(trainee, recipe, f"Hardening {config.classifier}", config, dataset, folder, callbacks)
        _save(trainee.model, folder)
    return existing_classifier(config, dataset, folder)


def _train(trainee, recipe, doing, config, dataset, folder, callbacks):
    """Trains a classifier by its recipe and the run's defence, from the last checkpoint on."""
    epochs = config.classifier_epochs or recipe.epochs
    batch_size = min(128, len(dataset.train))
    steps = len(dataset.train) // batch_size
    learner, opponent, warnings = _learner(trainee, config, dataset, folder, epochs * steps)
    architectures.compile_for_training(learner, recipe, epochs * steps, soft=dataset.train.labels.ndim == 2)
    learner.optimizer.build(trainee.trainable_variables)
    time_left = TimeLeft(epochs, steps, batch_size=batch_size, validation_images=len(dataset.validation))
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
                training_batches, dataset.train, batch_size, config.seed, max_shift=recipe.max_shift, flip=config.flip
            ),
            steps_per_epoch=steps,
            steps_done=steps_done,
            epochs=epochs,
            validation_data=evaluation_batches(dataset.validation, images_per_call(dataset.image_shape)),
            callbacks=[
                Progress(PROGRESS, time_left),
                StopNotFinite(
                    checkpoint.checkpoint_hint,
                    lambda *_: ("its training diverged", "train again with another `seed`, in another `workdir`"),
                ),
                *warnings,
                *callbacks,
                history,
                checkpoint,
            ],
        )


def _learner(trainee, config, dataset, folder, total_steps):
    """Returns the model that trains the classifier, its opponent's state for the checkpoint, and callbacks that warn."""
    if config.defense == "aigan":
        within = dataclasses.replace(config, epsilon_start=1.0, classifier_features=False)  # its layers change
        aigan = build_aigan(within, dataset, functools.partial(trainee, training=False), total_steps)
        warnings = [QuietFailures(aigan, dataset.validation.take(slice(0, 16)).as_float(), warn)]
        return GeneratorTraining(trainee, aigan, config.seed), state_of(aigan), warnings
    if config.defense:
        static = static_classifiers(config, dataset, folder)
        return AdversarialTraining(trainee, config.defense, config.epsilon, static, config.seed), {}, []
    return trainee, {}, []


def _save(model, folder):
    with atomic_file(folder.classifier) as temporary:
        model.save(temporary)
        folder.seal(folder.classifier, temporary)


def static_classifiers(config: Config, dataset: ImageDataset, folder: Workdir) -> list[Callable]:
    """Returns the other classifiers of an ensemble defence, trained without one in ensemble/NAME of the run's folder."""
    return [
        trained_classifier(
            dataclasses.replace(config, classifier=name, classifier_epochs=None, defense=None),
            dataset,
            Workdir(folder.path / "ensemble" / name),
        )
        for name in static_names(config, dataset)
    ]


def static_names(config: Config, dataset: ImageDataset) -> list[str]:
    """Returns the architectures of an ensemble defence's other classifiers; none without such a defence."""
    if config.defense != "ensemble":
        return []
    own = config.classifier.lower()
    side = min(dataset.image_shape[:2])
    return [name for name in STATIC if name != own and architectures.ARCHITECTURES[name].min_side <= side][:2]


def own_classifier(
    config: Config,
    dataset: ImageDataset,
    needs_gradient: bool = True,
    path: pathlib.Path | None = None,
    setting: str = "classifier",
) -> Callable:
    """Returns the user's own classifier as images to logits.

    Args:
        config, dataset: the run.
        needs_gradient: whether attacks follow its gradient; a black box has none to follow unless it is to be hardened.
        path: the hardened classifier made of it, in its place.
        setting: the setting that gave it.

    Raises:
        InputError: it cannot be loaded, or does not fit the data set.
    """
    return load_classifier(
        str(path or config.classifier),
        _examples(dataset),
        dataset.num_classes or None,
        Preprocessing.of(config),
        config.classifier_output,
        config.custom_objects,
        needs_gradient=needs_gradient and not (config.black_box and not config.defense),
        setting=setting,
    )


def own_trainable_classifier(config: Config, dataset: ImageDataset) -> TrainableLogits:
    """Returns the user's own classifier, to be trained further.

    Raises:
        InputError: it cannot be trained.
    """
    return load_for_training(config.classifier, _examples(dataset), Preprocessing.of(config), config.custom_objects)


def existing_classifier(
    config: Config, dataset: ImageDataset, folder: Workdir, needs_gradient: bool = True
) -> Callable:
    """Returns the classifier that a finished run attacked, as images to logits.

    Args:
        config, dataset, folder: the run.
        needs_gradient: as in `own_classifier`.

    Raises:
        InputError: it is missing, has changed since, cannot be loaded, or does not fit the data set.
    """
    folder.verify(folder.classifier)
    if not is_built_in(config.classifier):
        used = ("custom_objects",) if config.defense else ("classifier", "custom_objects")
        digests = digests_of(config, used)
        if digests and folder.config.exists():  # there is none while `--check` tries a few steps
            folder.compare(dataclasses.asdict(config), digests)
        return own_classifier(config, dataset, needs_gradient, folder.classifier if config.defense else None)
    say(f"Loading the classifier {folder.classifier}.")
    fix = "restore it, or delete it and run train.py again"
    model = load_written(folder.classifier, "the classifier train.py saved", fix)
    classifier = architectures.frozen(model)  # itself, since a surrogate is trained further
    refuse_unfit(classifier, str(folder.classifier), _examples(dataset), dataset.num_classes)
    return classifier


def _examples(dataset):
    """Returns a few images to check a classifier on."""
    return dataset.validation.take(slice(0, 16)).as_float()
