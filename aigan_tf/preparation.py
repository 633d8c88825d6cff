"""What a run starts from: its data set and the classifier under attack."""

import dataclasses
import functools
import os
from collections.abc import Callable

import keras
import tensorflow as tf

from aigan_tf import classifiers
from aigan_tf.adoption import adopt
from aigan_tf.batches import evaluation_batches, training_batches
from aigan_tf.callbacks import EpochCheckpoint, MetricsHistory, Progress
from aigan_tf.config import Config
from aigan_tf.data import ImageDataset, load
from aigan_tf.defences import AdversarialTraining
from aigan_tf.errors import InputError, user_path
from aigan_tf.evaluation import accuracy
from aigan_tf.networks import Generator
from aigan_tf.normalization import with_fused_batch_norm
from aigan_tf.workdir import Workdir, atomic_file

say = functools.partial(print, flush=True)  # at once, also into a log file
STATIC = ("c", "a", "resnet20", "small", "b")  # of an ensemble defence: the first two others that fit the images
NEAR_CHANCE = 2.0  # a classifier below this many times chance is hardly worth attacking


def config_of(folder: Workdir) -> Config:
    """Returns the settings of a run from its work folder.

    Raises:
        InputError: they are not there, or not what train.py wrote.
    """
    saved = folder.read_config()
    missing = [name for name in ("dataset", "classifier", "attack", "epsilon") if name not in saved]
    if missing:
        raise InputError(
            f"{folder.config} has no {missing[0]}; expected the settings train.py writes: restore the file or train again"
        )
    names = [field.name for field in dataclasses.fields(Config)]
    try:  # a setting younger than the folder was at its default
        return Config(**{name: saved[name] for name in names if name in saved})
    except TypeError as error:
        raise InputError(
            f"{folder.config} holds a value of the wrong type ({error}); expected what train.py wrote"
        ) from error


def load_dataset(config: Config, data_dir: str | None) -> ImageDataset:
    """Loads the run's data set, with the class names of --class_names where given.

    Raises:
        InputError: the data cannot be had, or the names do not fit.
    """
    dataset = load(config.dataset, data_dir, config.size)
    if not config.class_names:
        return dataset
    try:
        text = user_path(config.class_names).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"--class_names={config.class_names} cannot be read; expected a text file with one name a line: correct the path"
        ) from error
    names = tuple(line.strip() for line in text.splitlines() if line.strip())
    if len(names) != dataset.num_classes:
        raise InputError(
            f"--class_names={config.class_names} has {len(names)} names; expected {dataset.num_classes}, one for each class "
            "in label order: correct the file"
        )
    if len(set(names)) < len(names):
        raise InputError(
            f"--class_names={config.class_names} names a class twice; expected a different name for each: correct the file"
        )
    return dataclasses.replace(dataset, class_names=names)


def is_built_in(classifier: str) -> bool:
    """Whether the name means a classifier that is trained here, not a file."""
    return classifier.lower() in classifiers.ARCHITECTURES


def refuse_idle_settings(config: Config) -> None:
    """Refuses settings that the chosen classifier would ignore, so that none is believed to act.

    Raises:
        InputError: there is one.
    """
    built_in = is_built_in(config.classifier)
    idle = {"input_range": "0,1", "custom_objects": ""} if built_in else {"classifier_epochs": 0, "defense": ""}
    for name, default in idle.items():
        if getattr(config, name) != default:
            raise InputError(
                f"--{name}={getattr(config, name)} has no effect on --classifier={config.classifier}; expected it only with "
                f"{'a classifier of your own' if built_in else 'a classifier trained here'}: leave it out"
            )


def adopt_classifier(config: Config, dataset: ImageDataset) -> Callable:
    """Returns the user's own classifier as images to logits."""
    examples = dataset.validation.take(slice(0, 16)).as_float()
    return adopt(config.classifier, examples, dataset.num_classes, config.pixel_range, config.custom_objects)


def existing_classifier(config: Config, dataset: ImageDataset, folder: Workdir) -> Callable:
    """Returns the classifier a finished run attacked, as images to logits.

    Raises:
        InputError: it is not there any more, or cannot be loaded.
    """
    if not is_built_in(config.classifier):
        return adopt_classifier(config, dataset)
    try:
        return classifiers.frozen(keras.models.load_model(folder.classifier, compile=False))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{folder.classifier} cannot be loaded; expected the classifier train.py saved: restore it, or delete it and run "
            "train.py again"
        ) from error


def trained_classifier(config: Config, dataset: ImageDataset, folder: Workdir) -> Callable:
    """Returns the work folder's classifier.keras as images to logits, training it first if it is not there."""
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
    classifiers.compile_for_training(learner, recipe, recipe.epochs * steps)
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
            dataclasses.replace(config, classifier=name, defense=""), dataset, Workdir(folder.path / "ensemble" / name)
        )
        for name in names
    ]


def build_generator(config: Config, dataset: ImageDataset, num_classes: int | None = None) -> Generator:
    """Returns a generator with fresh weights, for all classes of the data set unless another number is given."""
    return Generator(
        num_classes or dataset.num_classes,
        dataset.image_shape[-1],
        config.generator_width,
        halvings=2 if min(dataset.image_shape[:2]) >= 16 else 1,  # below 4 x 4 a map says little
        num_blocks=config.generator_blocks,
        budget_input=config.variable_epsilon,
    )


def check_accuracy(classifier: Callable, dataset: ImageDataset) -> float:
    """Says how good the classifier is on the test split, with a warning where it hardly beats chance.

    Raises:
        InputError: it gets no image right, so there is nothing to attack.
    """
    test = dataset.test
    measured = accuracy(classifier, test.as_float(), test.labels)
    say(f"Classifier accuracy on {len(test)} test images: {measured:.2%}.")
    if measured == 0:
        raise InputError(
            f"the classifier gets none of {len(test)} test images right; expected at least one to attack: check "
            "--input_range, the order of the classes, and that it was trained on this data set"
        )
    chance = 1 / dataset.num_classes
    if measured < min(NEAR_CHANCE * chance, (1 + chance) / 2):
        say(
            f"WARNING: that is near chance ({chance:.0%}); success rates against it mean little. Check --input_range, the "
            "order of the classes, and that the classifier was trained on this data set."
        )
    return measured


def device_name() -> str:
    """What the numbers are measured on."""
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        return ", ".join(tf.config.experimental.get_device_details(gpu).get("device_name", gpu.name) for gpu in gpus)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()  # Linux: those allowed
    return f"CPU, {cores} cores"
