"""Builds the attacks of a comparison: the run's own generators and foolbox's baselines."""

import functools
from collections.abc import Callable, Sequence

import tensorflow as tf

from aigan_tf import build
from aigan_tf.classifiers.features import features_for
from aigan_tf.config import Config, attack_kind
from aigan_tf.engine import saved_model
from aigan_tf.engine.saved_model import first_line
from aigan_tf.errors import InputError, say
from aigan_tf.evaluation import foolbox_attacks
from aigan_tf.evaluation.finished_run import FinishedRun
from aigan_tf.evaluation.measure import Attack
from aigan_tf.evaluation.refinement import RefinedGenerator
from aigan_tf.exported import read_export_info
from aigan_tf.files import latest_version, numbered, read_csv
from aigan_tf.serving.export import ServedGenerator
from aigan_tf.workdir import Workdir

GENERATOR = "aigan"
REFINED = "aigan+N"
STAGE1 = "aigan_stage1"
ADVGAN = "advgan"
GENERATOR_ATTACKS = {
    GENERATOR: "the exported generator",
    STAGE1: "the generator as it was at the end of stage 1",
    ADVGAN: "AdvGAN, one generator per target class",
}


def follows_gradient(name: str) -> bool:
    """Whether an attack follows the classifier's gradient, which makes it slower than a generator alone."""
    return attack_kind(name)[0] not in GENERATOR_ATTACKS


def build_attacks(names: Sequence[str], run: FinishedRun) -> dict[str, Attack]:
    """Returns the named attacks, some of `config.ATTACKS`, on a run's classifier.

    Raises:
        InputError: the run's folder does not hold what an attack needs, or the classifier has no gradient to follow.
    """
    exported = functools.cache(lambda: ExportedGenerator(run.folder, run.config, run.dataset.image_shape))

    def attack(name):
        kind, steps = attack_kind(name)
        if kind == GENERATOR:
            return Attack(exported(), GENERATOR_ATTACKS[GENERATOR])
        if kind == REFINED:
            return _refined(name, steps, exported, run)
        return {STAGE1: _stage1, ADVGAN: _advgan}[kind](run) if kind in GENERATOR_ATTACKS else _foolbox(name, run)

    return {name: attack(name) for name in names}


class ExportedGenerator:
    """The newest exported generator of a run, loaded as a server loads it, and tried.

    Raises:
        InputError: it does not exist, is damaged, or does not fit the run's settings.
    """

    def __init__(self, folder: Workdir, config: Config, image_shape: tuple[int, int, int]):
        version = latest_version(folder.exports)
        if version is None:
            raise InputError(
                folder.path,
                f"{folder.exports}/1",
                "finish the run with train.py",
                setting="workdir",
                problem="has no exported generator",
            )
        say(f"Loading the generator {version}.")
        folder.verify(version)
        self.config = config
        self.class_input = "target_class" if config.targeted else "label"
        images = tf.zeros((1, *image_shape))
        try:
            targets = tf.constant(read_export_info(version, "workdir").classes[:1])
            self.loaded = saved_model.load(version)  # kept: its variables live as long as it does
            self.serve = self.loaded.signatures["serving_default"]
            self(images, targets)
            if config.variable_epsilon:
                self.within(config.epsilon)(images, targets)
        except Exception as error:  # TensorFlow raises all kinds for a damaged export
            raise InputError(
                f"{version} cannot be used ({first_line(error)})",
                f"the {config.attack} generator of {folder.config}, as train.py exported it",
                "delete it and run train.py again",
            ) from error

    def __call__(self, images: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
        """Returns adversarial images; `targets` are the labels if the generator is untargeted."""
        return self.serve(**{"images": images, self.class_input: targets})["adversarial_images"]

    def within(self, epsilon: float) -> Callable:
        """Returns the attack at a smaller budget: the perturbation scaled down, unless the generator takes budgets."""

        def scaled(images, targets):
            return images + epsilon / self.config.epsilon * (self(images, targets) - images)

        def attack(images, targets):
            inputs = {"images": images, self.class_input: targets, "epsilon": tf.fill(tf.shape(targets), epsilon)}
            return self.loaded.signatures["with_epsilon"](**inputs)["adversarial_images"]

        return attack if self.config.variable_epsilon else scaled


def _refined(name, steps, exported, run):
    _require_gradient(name, run)
    config = run.config
    if config.black_box:
        raise InputError(
            name,
            "a run that uses the classifier's gradient",
            "leave it out",
            setting="attacks",
            problem="follows the gradient of a classifier that the run takes for a black box",
        )
    text = f"the exported generator, then PGD-{steps} from its images that fail, in steps of epsilon / 4"
    shape = run.dataset.image_shape
    refined = RefinedGenerator(exported(), run.classifier, shape, steps, config.epsilon, config.targeted)
    # Traced here, so that no batch's time holds it.
    refined(tf.zeros((1, *shape)), tf.constant(run.examples.target_classes[:1]))
    return Attack(refined, text)


def _stage1(run):
    """The attack of the generator whose weights were kept at the end of stage 1."""
    weights = run.folder.stage1_weights
    if not weights.exists():
        raise InputError(
            STAGE1,
            "a run with a stage 1, in the folder it was trained in",
            "leave it out",
            setting="attacks",
            problem=f"needs {weights}, which is missing",
        )
    network = build.build_generator(run.config, run.dataset, features_for(run.config, run.dataset, run.folder))
    attack = _network_attack(network, weights, run, run.config.variable_epsilon)
    return Attack(attack, GENERATOR_ATTACKS[STAGE1])


def _advgan(run):
    """The attack of all AdvGAN generators of the run; each image is attacked by the one of its target."""
    found = {
        int(path.name): weights for path in numbered(run.folder.advgan) if (weights := Workdir(path).weights).exists()
    }
    if not found:
        raise InputError(
            ADVGAN,
            "a generator per target class",
            f"train them: python -m aigan_tf advgan {run.folder.path}",
            setting="attacks",
            problem=f"needs generators in {run.folder.advgan}, which has none",
        )
    if max(found) >= run.dataset.num_classes:
        raise InputError(
            f"{found[max(found)].parent} belongs to no class of {run.dataset.name}",
            f"a folder per class, 0 to {run.dataset.num_classes - 1}",
            "remove it",
        )
    features = features_for(run.config, run.dataset, run.folder)
    networks = {target: build.build_advgan_generator(run.config, run.dataset, features) for target in found}
    generators = {target: _network_attack(networks[target], found[target], run, False) for target in found}
    efforts = (f"{run.dataset.class_names[target]} ({_training_effort(run.folder, target)})" for target in found)
    description = f"{GENERATOR_ATTACKS[ADVGAN]}: {', '.join(efforts)}"
    return Attack(_routed_by_target(generators), description, target_classes=list(found))


def _require_gradient(name, run):
    if not run.has_gradient:
        raise InputError(
            name,
            f"attacks that need no gradient ({', '.join(GENERATOR_ATTACKS)})",
            "leave it out",
            setting="attacks",
            problem="follows the classifier's gradient, and this classifier has no usable one",
        )


def _foolbox(name, run):
    _require_gradient(name, run)
    config, (kind, steps) = run.config, attack_kind(name)
    return Attack(
        foolbox_attacks.foolbox_attack(name, run.classifier, config.epsilon, config.targeted, config.seed),
        foolbox_attacks.DESCRIPTIONS[kind].format(steps=steps),
        targets_per_image=1 if name == "cw" else 0,  # it is a hundred times slower than the others
        bounded=name != "cw",
    )


def _network_attack(network, weights, run, variable_epsilon):
    build.load_weights(network, weights, "the weights train.py wrote", "restore the file")
    dataset, config = run.dataset, run.config
    served = ServedGenerator(
        network, dataset.image_shape, dataset.class_names, config.epsilon, config.targeted, variable_epsilon
    )
    # One graph for batches of any size: each AdvGAN generator gets as many images as happen to have its target.
    specs = [tf.TensorSpec((None, *dataset.image_shape), tf.float32), tf.TensorSpec((None,), tf.int32)]
    attack = tf.function(served.attack, input_signature=specs)
    attack(
        tf.zeros((1, *dataset.image_shape)), tf.zeros((1,), tf.int32)
    )  # traced here, so that no batch's time holds it
    return attack


def _training_effort(folder, target):
    """How long an AdvGAN generator was trained, in words."""
    run = Workdir(folder.advgan / str(target))
    return f"{len(read_csv(run.metrics))} epochs, {run.training_cost(False)[0]:.0f} s"


def _routed_by_target(generators):
    """An attack that hands each image to the generator of its target; the order of the images is kept."""

    def attack(images, targets):
        adversarial_images = tf.zeros_like(images)
        for target, generator in generators.items():
            rows = tf.where(tf.equal(targets, target))
            if len(rows):
                chosen = tf.gather_nd(images, rows)
                attacked = generator(chosen, tf.zeros(tf.shape(chosen)[:1], tf.int32))
                adversarial_images = tf.tensor_scatter_nd_update(adversarial_images, rows, attacked)
        return adversarial_images

    return attack
