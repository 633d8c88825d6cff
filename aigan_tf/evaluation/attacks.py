"""The attacks a comparison measures: what a work folder holds, and foolbox's."""

import dataclasses
from collections.abc import Callable, Sequence

import tensorflow as tf

from aigan_tf import build
from aigan_tf.build import build_generator
from aigan_tf.classifiers.loading import has_usable_gradient
from aigan_tf.config import Config
from aigan_tf.data.datasets import ImageDataset
from aigan_tf.engine import saved_model
from aigan_tf.engine.saved_model import first_line
from aigan_tf.errors import InputError
from aigan_tf.evaluation import foolbox_attacks
from aigan_tf.evaluation.measure import Attack
from aigan_tf.files import numbered, read_csv
from aigan_tf.serving.export import ServedGenerator, latest_version
from aigan_tf.workdir import Workdir

GENERATOR = "aigan"
STAGE1 = "aigan_stage1"
ADVGAN = "advgan"
GENERATOR_ATTACKS = {
    GENERATOR: "the exported generator",
    STAGE1: "the generator as it was at the end of stage 1",
    ADVGAN: "AdvGAN, one generator for each target class",
}
ATTACKS = (*GENERATOR_ATTACKS, *foolbox_attacks.SETTINGS)


def build_attacks(
    names: Sequence[str], folder: Workdir, config: Config, dataset: ImageDataset, classifier: Callable
) -> dict[str, Attack]:
    """Returns the named attacks on a run's classifier.

    Args:
        names: some of `ATTACKS`.
        folder, config, dataset: the run.
        classifier: images to logits.

    Raises:
        InputError: the work folder does not hold what an attack needs.
    """
    attacks = {}
    follows_gradient = not foolbox_attacks.SETTINGS.keys().isdisjoint(names)
    gradient = follows_gradient and has_usable_gradient(classifier, dataset.test.take(slice(0, 16)).as_float())
    for name in names:
        if name == GENERATOR:
            attacks[name] = Attack(ExportedGenerator(folder, config, dataset.image_shape), GENERATOR_ATTACKS[name])
        elif name == STAGE1:
            attacks[name] = Attack(_stage1(folder, config, dataset), GENERATOR_ATTACKS[name])
        elif name == ADVGAN:
            generators = _advgan_generators(folder, config, dataset)
            targets = list(generators)
            effort = (f"{dataset.class_names[k]} ({_effort(folder, k)})" for k in targets)
            description = f"{GENERATOR_ATTACKS[name]}: {', '.join(effort)}"
            attacks[name] = Attack(_by_class(generators), description, target_classes=targets)
        elif not gradient:
            raise InputError(
                f"--attacks has {name}, which follows the classifier's gradient, and this one has no usable one; expected only "
                f"attacks that need none ({', '.join(GENERATOR_ATTACKS)}): leave it out"
            )
        else:
            attacks[name] = Attack(
                foolbox_attacks.baseline(name, classifier, config.epsilon, config.targeted, config.seed),
                foolbox_attacks.SETTINGS[name],
                targets_per_image=1 if name == "cw" else 0,  # a hundred times as slow as the others
                bounded=name != "cw",
            )
    return attacks


class ExportedGenerator:
    """The newest exported generator of a work folder, loaded as a server loads it, and tried.

    Raises:
        InputError: it is not there, is damaged, or is not what the run's settings say.
    """

    def __init__(self, folder: Workdir, config: Config, image_shape: tuple[int, int, int]):
        version = latest_version(folder.exports)
        if version is None:
            raise InputError(
                f"--workdir={folder.path} has no exported generator; expected {folder.exports}/1: finish the run with train.py"
            )
        folder.verify(version)
        self.class_input = "target_class" if config.targeted else "label"
        images, classes = tf.zeros((1, *image_shape)), tf.zeros((1,), tf.int32)
        try:
            self.loaded = saved_model.load(version)  # kept: its variables live as long as it does
            self.serve = self.loaded.signatures["serving_default"]
            self(images, classes)
            if config.variable_epsilon:
                self.within(config.epsilon)(images, classes)
        except Exception as error:  # of a damaged export TensorFlow raises whatever its parts do
            raise InputError(
                f"{version} cannot be used ({first_line(error)}); expected the {config.attack} generator of {folder.config}, as "
                "train.py exported it: delete it and run train.py again"
            ) from error

    def __call__(self, images, classes):
        return self.serve(**{"images": images, self.class_input: classes})["adversarial_images"]

    def within(self, epsilon: float) -> Callable:
        """Returns the attack at a smaller budget, of a generator that takes budgets."""

        def attack(images, classes):
            inputs = {"images": images, self.class_input: classes, "epsilon": tf.fill(tf.shape(classes), epsilon)}
            return self.loaded.signatures["with_epsilon"](**inputs)["adversarial_images"]

        return attack


def _stage1(folder, config, dataset):
    """The attack of the generator whose weights were kept at the end of stage 1."""
    if not folder.stage1_weights.exists():
        raise InputError(
            f"--attacks has {STAGE1}, but there is no {folder.stage1_weights}; expected a run with a stage 1: leave it out"
        )
    network = build_generator(config, dataset)
    return _attack(network, folder.stage1_weights, config, dataset, config.variable_epsilon)


def _advgan_generators(folder, config, dataset):
    """The attack of each AdvGAN generator, by target class."""
    found = {int(path.name): weights for path in numbered(folder.advgan) if (weights := Workdir(path).weights).exists()}
    if not found:
        raise InputError(
            f"--attacks has {ADVGAN}, but {folder.advgan} holds no generator; expected one for each target class: train "
            "them with train.py --method=advgan"
        )
    if max(found) >= dataset.num_classes:
        raise InputError(
            f"{found[max(found)].parent} is of no class; expected one of the {dataset.num_classes} of {dataset.name}, from 0 on: "
            "remove it"
        )
    one_budget = dataclasses.replace(config, variable_epsilon=False)
    return {
        target: _attack(build_generator(one_budget, dataset, 1), weights, config, dataset, False)
        for target, weights in found.items()
    }


def _attack(network, weights, config, dataset, variable_epsilon):
    build.load_weights(network, weights, "expected what train.py wrote: restore it")
    served = ServedGenerator(
        network, dataset.image_shape, dataset.class_names, config.epsilon, config.targeted, variable_epsilon
    )
    # One graph for batches of any size: of AdvGAN's generators each gets as many images as happen to have its target.
    specs = [tf.TensorSpec((None, *dataset.image_shape), tf.float32), tf.TensorSpec((None,), tf.int32)]
    attack = tf.function(served.attack, input_signature=specs)
    attack(
        tf.zeros((1, *dataset.image_shape)), tf.zeros((1,), tf.int32)
    )  # traced here: a batch's time must not hold it
    return attack


def _effort(folder, target):
    """How long an AdvGAN generator was trained, in words."""
    metrics = Workdir(folder.advgan / str(target)).metrics
    seconds = Workdir(metrics.parent).training_cost(False)[0]
    return f"{len(read_csv(metrics))} epochs, {seconds:.0f} s"


def _by_class(generators):
    """Asks each image's own generator; the images come back in their order."""

    def attack(images, classes):
        answers = tf.zeros_like(images)
        for target, generator in generators.items():
            rows = tf.where(tf.equal(classes, target))
            if len(rows):
                chosen = tf.gather_nd(images, rows)
                made = generator(chosen, tf.zeros(tf.shape(chosen)[:1], tf.int32))
                answers = tf.tensor_scatter_nd_update(answers, rows, made)
        return answers

    return attack
