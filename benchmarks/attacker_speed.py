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
import attacked
import numpy as np
import tensorflow as tf
from absl import app, flags
from peak_memory import tensors_mib

from aigan_tf.classifiers.accuracy import predictions
from aigan_tf.engine.precision import MixedPrecision
from aigan_tf.method.pgd import pgd_attack
from tools.performance import attackers_table

_WORKDIR = flags.DEFINE_string("workdir", "pretrained/cifar10", "work folder whose classifier is attacked")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "folder of TFDS data sets (default: TFDS's own)")
_OUTPUT = flags.DEFINE_string("output", "", "file for the JSON; empty: only print")
_STEPS = flags.DEFINE_integer("attack_steps", 10, "gradient steps of each attack", lower_bound=1)
_BATCH = flags.DEFINE_integer("batch_size", 128, "images attacked at once", lower_bound=1)
_REPETITIONS = flags.DEFINE_integer("repetitions", 7, "timed runs of each", lower_bound=1)

MIXED = "aigan_tf, mixed precision"  # as --mixed_precision trains
GOAL = 1.5  # times as fast as the fastest library


def ours(run):
    """The attacker of stage 1."""
    epsilon = run.config.epsilon

    @tf.function
    def attack(images, targets):
        return pgd_attack(
            run.classifier, images, targets, epsilon=epsilon, step_size=epsilon / 4, num_steps=_STEPS.value
        )

    return attack


def with_foolbox(run):
    """foolbox's LinfPGD."""
    import foolbox

    epsilon = run.config.epsilon
    model = foolbox.TensorFlowModel(tf.function(run.classifier), bounds=(0, 1))
    attack = foolbox.attacks.LinfPGD(abs_stepsize=epsilon / 4, steps=_STEPS.value)
    criterion = foolbox.criteria.TargetedMisclassification
    return lambda images, targets: attack(model, images, criterion(tf.cast(targets, tf.int64)), epsilons=epsilon)[1]


def with_cleverhans(run):
    """cleverhans's projected gradient descent, compiled as a whole as its authors advise for speed."""
    from cleverhans.tf2.attacks.projected_gradient_descent import projected_gradient_descent

    model, epsilon = tf.function(run.classifier), run.config.epsilon

    def attack(images, targets):
        return projected_gradient_descent(
            model, images, epsilon, epsilon / 4, _STEPS.value, np.inf, clip_min=0.0, clip_max=1.0,
            y=tf.cast(targets, tf.int64), targeted=True, sanity_checks=False,
        )  # fmt: skip

    return attack


def with_art(run):
    """adversarial-robustness-toolbox's projected gradient descent for TensorFlow 2."""
    from art.attacks.evasion import ProjectedGradientDescent
    from art.estimators.classification import TensorFlowV2Classifier

    compiled, num_classes, epsilon = tf.function(run.classifier), run.dataset.num_classes, run.config.epsilon

    def model(images, training=False):
        return compiled(images)

    estimator = TensorFlowV2Classifier(
        model=model, nb_classes=num_classes, input_shape=run.dataset.image_shape, clip_values=(0.0, 1.0),
        loss_object=tf.keras.losses.CategoricalCrossentropy(from_logits=True),
    )  # fmt: skip
    pgd = ProjectedGradientDescent(
        estimator, norm=np.inf, eps=epsilon, eps_step=epsilon / 4, max_iter=_STEPS.value, targeted=True,
        num_random_init=1, batch_size=_BATCH.value, verbose=False,
    )  # fmt: skip
    return lambda images, targets: pgd.generate(images.numpy(), tf.one_hot(targets, num_classes).numpy())


ATTACKERS = {
    "aigan_tf": ours,
    MIXED: ours,
    "foolbox": with_foolbox,
    "cleverhans": with_cleverhans,
    "adversarial-robustness-toolbox": with_art,
}


def measured(name, attack, run) -> dict:
    """Returns the time, success and peak memory of an attacker."""

    def once():
        return np.asarray(attack(run.images, run.targets))

    with MixedPrecision(name == MIXED):
        adversarial = once()
        seconds, peak = timing.median_seconds(once, _REPETITIONS.value), tensors_mib(once)
    change = float(np.abs(adversarial - run.images.numpy()).max())
    if change > run.config.epsilon + 1e-5 or adversarial.min() < 0 or adversarial.max() > 1:
        sys.exit(f"error: {name} leaves epsilon or [0, 1] ({change:.4f}): expected the same budget for all")
    return {
        "seconds": seconds,
        "milliseconds_per_image": 1000 * seconds / len(run.images),
        "success_rate": float(np.mean(predictions(run.classifier, adversarial) == run.targets.numpy())),
        "peak_mib": peak,
    }


def main(_):
    run = attacked.read(_WORKDIR.value, _DATA_DIR.value, _BATCH.value)
    rows = {}
    for name, make in ATTACKERS.items():
        rows[name] = measured(name, make(run), run)
        print(name, rows[name], flush=True)
    own = ("aigan_tf", MIXED)
    fastest = min(rows[name]["seconds"] for name in rows if name not in own)
    ratios = {name: fastest / rows[name]["seconds"] for name in own}
    print(attackers_table(rows))
    for name, ratio in ratios.items():
        print(f"{name}: {ratio:.2f} times as fast as the fastest library; goal {GOAL}")
    result = {
        "classifier": run.config.classifier,
        "images": len(run.images),
        "epsilon": run.config.epsilon,
        "attack_steps": _STEPS.value,
        "attackers": rows,
        "times_as_fast_as_the_fastest_library": ratios,
        "goal": GOAL,
    }
    timing.save(result, _OUTPUT.value)


if __name__ == "__main__":
    app.run(main)
