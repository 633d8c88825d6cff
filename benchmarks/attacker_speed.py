"""Times our PGD attacker beside that of three libraries: the same classifier, images, targets, steps and budget.

    python benchmarks/attacker_speed.py --workdir=pretrained/cifar10 --output=docs/results/performance/attacker.json

Needs `benchmarks/requirements.txt`. Run it while nothing else does. Each library gets the classifier as a compiled
function with batch normalisation folded away, as our attacker does, so that only what surrounds the classifier's passes
differs. Beside the time stands each one's success: a faster attack that succeeds less often is another attack.
"""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

import timing  # isort: skip (before TensorFlow: the package sets oneDNN)
import numpy as np
import tensorflow as tf
from absl import app, flags
from peak_memory import tensors_mib

from aigan_tf import workdir
from aigan_tf.classifiers import training
from aigan_tf.classifiers.accuracy import predictions
from aigan_tf.data import datasets
from aigan_tf.engine.precision import MixedPrecision
from aigan_tf.method.pgd import pgd_attack
from aigan_tf.method.targets import spread_targets
from aigan_tf.workdir import Workdir
from tools.performance import attackers_table

_WORKDIR = flags.DEFINE_string("workdir", "pretrained/cifar10", "work folder whose classifier is attacked")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "folder of TFDS data sets (default: TFDS's own)")
_OUTPUT = flags.DEFINE_string("output", "", "where to write the JSON; empty: only print")
_STEPS = flags.DEFINE_integer("attack_steps", 10, "gradient steps of each attack", lower_bound=1)
_BATCH = flags.DEFINE_integer("batch_size", 128, "images attacked at once", lower_bound=1)
_REPETITIONS = flags.DEFINE_integer("repetitions", 7, "timed runs of each", lower_bound=1)

MIXED = "aigan_tf, mixed precision"  # as --mixed_precision trains
GOAL = 1.5  # times as fast as the fastest library


def ours(classifier, epsilon):
    """The attacker of stage 1."""

    @tf.function
    def attack(images, targets):
        return pgd_attack(classifier, images, targets, epsilon=epsilon, step_size=epsilon / 4, num_steps=_STEPS.value)

    return attack


def with_foolbox(classifier, epsilon):
    """foolbox's LinfPGD."""
    import foolbox

    model = foolbox.TensorFlowModel(tf.function(classifier), bounds=(0, 1))
    attack = foolbox.attacks.LinfPGD(abs_stepsize=epsilon / 4, steps=_STEPS.value)
    criterion = foolbox.criteria.TargetedMisclassification
    return lambda images, targets: attack(model, images, criterion(tf.cast(targets, tf.int64)), epsilons=epsilon)[1]


def with_cleverhans(classifier, epsilon):
    """cleverhans's projected gradient descent, compiled as a whole as its authors advise for speed."""
    from cleverhans.tf2.attacks.projected_gradient_descent import projected_gradient_descent

    model = tf.function(classifier)

    def attack(images, targets):
        return projected_gradient_descent(
            model, images, epsilon, epsilon / 4, _STEPS.value, np.inf, clip_min=0.0, clip_max=1.0,
            y=tf.cast(targets, tf.int64), targeted=True, sanity_checks=False,
        )  # fmt: skip

    return attack


def with_art(classifier, epsilon):
    """adversarial-robustness-toolbox's projected gradient descent for TensorFlow 2."""
    from art.attacks.evasion import ProjectedGradientDescent
    from art.estimators.classification import TensorFlowV2Classifier

    def attack(images, targets):
        return pgd.generate(images.numpy(), tf.one_hot(targets, num_classes).numpy())

    compiled = tf.function(classifier)
    shape = tuple(_shape)
    num_classes = int(compiled(tf.zeros((1, *shape))).shape[-1])

    def model(images, training=False):
        return compiled(images)

    estimator = TensorFlowV2Classifier(
        model=model, nb_classes=num_classes, input_shape=shape, clip_values=(0.0, 1.0),
        loss_object=tf.keras.losses.CategoricalCrossentropy(from_logits=True),
    )  # fmt: skip
    pgd = ProjectedGradientDescent(
        estimator, norm=np.inf, eps=epsilon, eps_step=epsilon / 4, max_iter=_STEPS.value, targeted=True,
        num_random_init=1, batch_size=_BATCH.value, verbose=False,
    )  # fmt: skip
    return attack


_shape = []  # of an image, for the library that wants to know it beforehand
ATTACKERS = {
    "aigan_tf": ours,
    MIXED: ours,
    "foolbox": with_foolbox,
    "cleverhans": with_cleverhans,
    "adversarial-robustness-toolbox": with_art,
}


def main(_):
    folder = Workdir(_WORKDIR.value)
    config = workdir.config_of(folder)
    dataset = datasets.load_dataset(config, _DATA_DIR.value)
    classifier = training.existing_classifier(config, dataset, folder)
    _shape[:] = dataset.image_shape
    first = dataset.test.take(slice(0, 4 * _BATCH.value))
    right = np.flatnonzero(predictions(classifier, first.as_float()) == first.labels)[: _BATCH.value]
    chosen = first.take(right)
    images, labels = tf.constant(chosen.as_float()), tf.constant(chosen.labels)
    targets = spread_targets(labels, dataset.num_classes)
    rows = {}
    for name, make in ATTACKERS.items():
        attack = make(classifier, config.epsilon)
        with MixedPrecision(name == MIXED):
            adversarial = np.asarray(attack(images, targets))

            def run(attack=attack):
                return np.asarray(attack(images, targets))

            seconds, peak = timing.median_seconds(run, _REPETITIONS.value), tensors_mib(run)
        change = float(np.abs(adversarial - images.numpy()).max())
        if change > config.epsilon + 1e-5 or adversarial.min() < 0 or adversarial.max() > 1:
            sys.exit(f"error: {name} leaves epsilon or [0, 1] ({change:.4f}); expected the same budget for all")
        answers = predictions(classifier, adversarial)
        rows[name] = {
            "seconds": seconds,
            "milliseconds_per_image": 1000 * seconds / len(images),
            "success_rate": float(np.mean(answers == targets.numpy())),
            "peak_mib": peak,
        }
        print(name, rows[name], flush=True)
    own = ("aigan_tf", MIXED)
    fastest = min(rows[name]["seconds"] for name in rows if name not in own)
    ratios = {name: fastest / rows[name]["seconds"] for name in own}
    result = {
        "classifier": config.classifier,
        "images": len(images),
        "epsilon": config.epsilon,
        "attack_steps": _STEPS.value,
        "attackers": rows,
        "times_as_fast_as_the_fastest_library": ratios,
        "goal": GOAL,
    }
    print(attackers_table(rows))
    for name, ratio in ratios.items():
        print(f"{name}: {ratio:.2f} times as fast as the fastest library; goal {GOAL}")
    timing.save(result, _OUTPUT.value)


if __name__ == "__main__":
    app.run(main)
