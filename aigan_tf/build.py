"""The networks and models of a run, built from its settings."""

import contextlib
import functools
import math
import os
import pathlib
import random
import warnings
from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf

from aigan_tf.config import Config
from aigan_tf.data.classes import class_numbers
from aigan_tf.data.datasets import ImageDataset
from aigan_tf.engine import saved_model
from aigan_tf.engine.keras_state import own_keras_state
from aigan_tf.engine.optimizers import ConvolutionMuon, WarmRestarts
from aigan_tf.engine.precision import with_loss_scaling
from aigan_tf.errors import InputError, say
from aigan_tf.method.advgan import AdvGAN
from aigan_tf.method.aigan import AIGAN
from aigan_tf.method.networks import Discriminator, Generator
from aigan_tf.method.pgd import pgd_attack
from aigan_tf.workdir import Workdir

# With more of them a long run learns attacks that need the larger budget (docs/notebook.md).
LARGER_BUDGET_STEPS = 1000


def target_numbers(config: Config, dataset: ImageDataset) -> tuple[int, ...] | None:
    """Returns the numbers of the only classes that are targets; None if all are.

    Raises:
        InputError: the settings name a class that the data set does not have, or one twice.
    """
    if config.target_classes is None:
        return None
    return class_numbers(config.target_classes, dataset.class_names, "target_classes")


def only_target(config: Config, dataset: ImageDataset) -> int | None:
    """Returns the target class of a run that has a single one; None for several, or an untargeted attack."""
    targets = target_numbers(config, dataset)
    return targets[0] if targets and len(targets) == 1 else None


def trained_on(config: Config, dataset: ImageDataset) -> ImageDataset:
    """Returns the data set without the images of a run's only target: nothing leads an image to its own class."""
    target = only_target(config, dataset)
    return dataset if target is None else dataset.without_class(target)


def map_sizes(config: Config, image_shape: tuple[int, int, int]) -> list[tuple[int, int]]:
    """Returns height and width of the generator's maps, from its full size to the smallest."""
    full = [math.ceil(side / config.generator_patch) for side in image_shape[:2]]
    halvings = 2 if min(full) >= 16 else 1  # below 4 x 4 a map says little
    return [tuple(math.ceil(side / 2**i) for side in full) for i in range(halvings + 1)]


def build_generator(config: Config, dataset: ImageDataset, features: keras.Model | None = None) -> Generator:
    """Returns a generator with fresh weights for all targets of a run.

    `features`: what it sees of the classifier with `classifier_features`; see `classifiers.features`.
    """
    classes = target_numbers(config, dataset)
    count = len(classes) if classes else dataset.num_classes
    return _generator(config, dataset, features, count, classes=classes, budget_input=config.variable_epsilon)


def build_advgan_generator(config: Config, dataset: ImageDataset, features: keras.Model | None = None) -> Generator:
    """Returns AdvGAN's generator for a target class, with fresh weights; `features` as in `build_generator`."""
    return _generator(config, dataset, features, 1)


def _generator(config, dataset, features, count, **settings):
    sizes = map_sizes(config, dataset.image_shape)
    return Generator(
        count,
        dataset.image_shape[-1],
        config.generator_width,
        patch=config.generator_patch,
        halvings=len(sizes) - 1,
        num_blocks=config.generator_blocks,
        class_maps=config.class_maps,
        gain_maps=config.gain_maps,
        # The maps of many classes are smaller: at full size those of a thousand would take 160 MB with 32 channels.
        map_size=min(32, max(sizes[0]), math.isqrt(250_000 // count) or 1),
        features=features if config.classifier_features else None,
        **settings,
    )


@contextlib.contextmanager
def seeded_initializers(seed: int):
    """Seeds weight initialisation inside the block and restores the caller's random state afterwards."""
    state = random.getstate()
    random.seed(seed)  # Keras draws the seeds of initializers from it
    try:
        yield
    finally:
        random.setstate(state)


def build_aigan(
    config: Config,
    dataset: ImageDataset,
    classifier: Callable,
    total_steps: int,
    model: type[AIGAN] = AIGAN,
    restarts: Sequence[int] = (),
    features: keras.Model | None = None,
) -> AIGAN:
    """Returns the model of a run, compiled, with fresh weights.

    Args:
        config, dataset, classifier: of the run.
        total_steps: at which the learning rate reaches zero.
        model: the class of the model.
        restarts: steps at which it reached zero before the run was given more epochs, and rises again.
        features: as in `build_generator`.
    """
    with seeded_initializers(config.seed):
        generator = build_generator(config, dataset, features)
        discriminator = Discriminator(dataset.image_shape[-1], config.discriminator_width)
        aigan = model(generator, discriminator, classifier, dataset.num_classes, config.attack, config.seed)

    def attacker(classifier, images, targets, epsilon, seed):
        step_size = epsilon * (config.step_size / config.epsilon)  # the same share of every budget
        return pgd_attack(
            classifier, images, targets, epsilon=epsilon, step_size=step_size, num_steps=config.attack_steps,
            targeted=config.targeted, seed=seed,
        )  # fmt: skip

    aigan.compile(
        attacker=attacker,
        variable_epsilon=config.variable_epsilon,
        hard_targets=config.hard_targets,
        target_classes=target_numbers(config, dataset),
        **objective(config, dataset, total_steps, restarts),
    )
    return aigan


def epsilon_factor(start: float, steps: float, step: tf.Tensor) -> tf.Tensor:
    """Returns by what the budget is multiplied at a step, float32 scalar: from `start` down to 1 within `steps`, evenly.

    What fails within epsilon often succeeds within more, and only what nearly succeeds teaches much; so a larger budget
    gives the first steps more to learn from (docs/notebook.md).
    """
    done = tf.minimum(tf.cast(step, tf.float32) / steps, 1.0)
    return 1.0 + (start - 1.0) * (1.0 - done)


def build_advgan(
    config: Config,
    dataset: ImageDataset,
    classifier: Callable,
    target_class: int,
    epochs: int,
    features: keras.Model | None = None,
) -> AdvGAN:
    """Returns the model of AdvGAN for one target class, compiled, with fresh weights."""
    with seeded_initializers(config.seed):
        generator = build_advgan_generator(config, dataset, features)
        discriminator = Discriminator(dataset.image_shape[-1], config.discriminator_width)
    advgan = AdvGAN(generator, discriminator, classifier, dataset.num_classes, target_class, config.seed)
    advgan.compile(**objective(config, dataset, epochs * steps_per_epoch(config, dataset)))
    return advgan


@own_keras_state()
def objective(config: Config, dataset: ImageDataset, total_steps: int, restarts: Sequence[int] = ()) -> dict:
    """Returns what both methods are compiled with: the optimizers, the budget and the weights of the terms."""
    ends = (*restarts, total_steps)
    schedule = WarmRestarts(config.learning_rate, ends)
    larger = functools.partial(epsilon_factor, config.epsilon_start, min(ends[0] / 2, LARGER_BUDGET_STEPS))
    # beta_1 = 0.5, as is usual for GANs: the other network moves, so old gradients mislead.
    generator_optimizer = ConvolutionMuon(schedule, adam_beta_1=0.5)
    discriminator_optimizer = keras.optimizers.Adam(config.discriminator_learning_rate, beta_1=0.5)
    if config.mixed_precision:
        generator_optimizer, discriminator_optimizer = map(
            with_loss_scaling, (generator_optimizer, discriminator_optimizer)
        )
    return dict(
        generator_optimizer=generator_optimizer,
        discriminator_optimizer=discriminator_optimizer,
        epsilon=config.epsilon,
        epsilon_factor=larger,
        # Falls as the rate does: it frees what is stuck while steps are long, but is not exact (docs/notebook.md).
        leak=WarmRestarts(1.0, ends),
        gan_weight=config.gan_weight,
        hinge_weight=config.hinge_weight,
        hinge_threshold=config.hinge_limit(dataset.image_shape),
    )


def steps_per_epoch(config: Config, dataset: ImageDataset) -> int:
    """Returns training steps per epoch; 0 in the settings is one pass over the training images."""
    return config.steps_per_epoch or len(dataset.train) // config.batch_size


def trained_generator(
    config: Config, dataset: ImageDataset, folder: Workdir, features: keras.Model | None = None
) -> Generator:
    """Returns the generator of a finished run; `features` as in `build_generator`.

    Raises:
        InputError: its weights are missing or cannot be loaded.
    """
    generator = build_generator(config, dataset, features)
    load_weights(generator, folder.weights, "the weights of a finished run", "finish it with train.py")
    return generator


def begin_from(generator: Generator, folder: str | os.PathLike) -> None:
    """Gives a generator the weights of a finished run's, where their shapes agree, and prints how many they are.

    A folder without its weights, such as those of pretrained/, has them in its export: then all shapes must agree. What the
    generator sees of the classifier stays.

    Raises:
        InputError: the run has no weights, they cannot be loaded, or none fits.
    """
    before = [variable.numpy() for variable in generator.trainable_variables]
    seen = generator.features.get_weights() if generator.features else []
    source, fix = Workdir(folder), "give another, or leave it out"
    if source.generator not in (None, source.weights):
        _unfold(generator, source)
    else:
        expected = "a work folder whose generator was trained in it"
        with warnings.catch_warnings(action="ignore"):  # one for each layer of another shape
            load_weights(generator, source.weights, expected, fix, skip_mismatch=True)
    if seen:
        generator.features.set_weights(seen)
    pairs = zip(before, generator.trainable_variables, strict=True)
    taken = sum(old.size for old, new in pairs if not np.array_equal(old, new))
    if not taken:
        raise InputError(
            folder, "one with layers of the same shapes", fix, setting="init_from", problem="holds no weights that fit"
        )
    share = taken / sum(old.size for old in before)
    say(f"Beginning with the weights of {folder}: {share:.1%} of the generator's.")


def _unfold(generator, source):
    """Sets a generator's weights to those of a folder's export."""
    source.verify(source.generator)
    served = generator.for_inference()
    try:
        saved_model.restore(source.generator, generator_variables=served.inference_variables)
    except Exception as error:  # TensorFlow raises many kinds for other shapes
        raise InputError(
            source.path,
            "an export of a generator with the same classes and network settings",
            f"give the settings in {source.config}, or another folder",
            setting="init_from",
            problem="does not fit",
        ) from error
    generator.unfold(served)


def load_weights(
    network: keras.Model, path: pathlib.Path, expected: str, fix: str, skip_mismatch: bool = False
) -> None:
    """Loads the weights of a network from a file of a run's folder.

    Args:
        network: built.
        path: the file.
        expected, fix: end the message of an error.
        skip_mismatch: whether layers of another shape keep their weights.

    Raises:
        InputError: the file is missing, is not what its digest says, or cannot be loaded.
    """
    if not path.is_file():
        raise InputError(f"{path} does not exist", expected, fix)
    Workdir(path.parent).verify(path)
    try:
        network.load_weights(path, skip_mismatch=skip_mismatch)
    except Exception as error:  # for a damaged file HDF5 raises half a dozen kinds
        raise InputError(f"{path} cannot be loaded ({saved_model.first_line(error)})", expected, fix) from error
