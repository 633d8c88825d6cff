"""Images per second of an exported generator beside foolbox's attacks on the same classifier, with each one's success.

    python benchmarks/generation_speed.py --workdir=pretrained/cifar10 --output=docs/results/performance/generation.json

Run it while nothing else does. The generator is loaded as a server loads it and timed at batches of 1, 32 and 256;
foolbox's FGSM, PGD with 10 and 40 steps, and Carlini and Wagner's attack (50 steps, 3 searches) at the fastest of
several batch sizes. All attack the same test images towards the same targets, and success is counted on 8-bit images.
"""

import functools
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

import timing  # isort: skip (before TensorFlow: the package sets oneDNN)
import attacked
import foolbox
import numpy as np
import tensorflow as tf
from absl import app, flags
from convolutions import convolutions_of
from peak_memory import tensors_mib

from aigan_tf.build import build_generator
from aigan_tf.classifiers.accuracy import predictions
from aigan_tf.evaluation.attacks import ExportedGenerator
from aigan_tf.method.threat_model import apply_perturbation, quantize
from tools.performance import attacks_table

_WORKDIR = flags.DEFINE_string("workdir", "pretrained/cifar10", "work folder with generator and classifier")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "folder of TFDS data sets (default: TFDS's own)")
_OUTPUT = flags.DEFINE_string("output", "", "file for the JSON; empty: only print")
_IMAGES = flags.DEFINE_integer("images", 256, "test images attacked, those the classifier gets right", lower_bound=1)

GENERATOR_BATCHES = (1, 32, 256)
FOOLBOX_BATCHES = (32, 128, 256)
GOALS = {"PGD-10": 150, "PGD-40": 600, "C&W": 1500}  # times as long per image as the generator at batch 256


def baselines(classifier, epsilon):
    """Returns foolbox's attacks, by name: a callable from images and targets, and how often it is timed."""
    model = foolbox.TensorFlowModel(tf.function(classifier, reduce_retracing=True), bounds=(0, 1))
    pgd = functools.partial(foolbox.attacks.LinfPGD, abs_stepsize=epsilon / 4)
    attacks = {
        "FGSM": (pgd(abs_stepsize=epsilon, steps=1, random_start=False), epsilon, 5),
        "PGD-10": (pgd(steps=10), epsilon, 5),
        "PGD-40": (pgd(steps=40), epsilon, 3),
        "C&W": (foolbox.attacks.L2CarliniWagnerAttack(binary_search_steps=3, steps=50), None, 1),
    }

    def run(attack, budget, images, targets):
        criterion = foolbox.criteria.TargetedMisclassification(tf.cast(targets, tf.int64))
        return attack(model, images, criterion, epsilons=budget)[1]

    return {
        name: (functools.partial(run, attack, budget), repetitions)
        for name, (attack, budget, repetitions) in attacks.items()
    }


def in_batches(attack, run, size):
    """Returns all adversarial images as one array."""
    return np.concatenate([np.asarray(attack(*first(run, size, start))) for start in range(0, len(run.images), size)])


def first(run, size, start=0):
    """Returns a batch of images and targets."""
    return run.images[start : start + size], run.targets[start : start + size]


def success(run, adversarial, bounded=True) -> float:
    """Returns the share of 8-bit images that reach their target."""
    adversarial = tf.constant(adversarial)
    if not bounded:  # Carlini and Wagner's attack knows no epsilon: it is measured after a move into it
        adversarial = apply_perturbation(run.images, adversarial - run.images, run.config.epsilon)
    rounded = quantize(run.images, adversarial, run.config.epsilon)[1].numpy().astype(np.float32) / 255
    return float(np.mean(predictions(run.classifier, rounded) == run.targets.numpy()))


def measured(attack, run, sizes, repetitions, warm_up, bounded=True) -> dict:
    """Returns an attack's time at the fastest of several batch sizes, with its success and peak memory there."""

    def attack_batch(size):
        return np.asarray(attack(*first(run, size)))

    seconds = {}
    for size in {min(size, len(run.images)) for size in sizes}:
        seconds[size] = timing.median_seconds(lambda size=size: attack_batch(size), repetitions, warm_up) / size
    best = min(seconds, key=seconds.get)
    return {
        "milliseconds_per_image": 1000 * seconds[best],
        "success_rate": success(run, in_batches(attack, run, best), bounded),
        "batch_size": best,
        "peak_mib": tensors_mib(lambda: attack_batch(best)),
    }


def mflop_per_image(run) -> dict[str, float]:
    """Returns millions of operations of the convolutions of both networks."""
    generator = build_generator(run.config, run.dataset)
    image, target = first(run, 1)
    passes = {"generator": lambda: generator(image, target), "classifier": lambda: run.classifier(image)}
    return {name: sum(conv.flops for conv in convolutions_of(once)) / 1e6 for name, once in passes.items()}


def main(_):
    run = attacked.read(_WORKDIR.value, _DATA_DIR.value, _IMAGES.value)
    generator = ExportedGenerator(run.folder, run.config, run.dataset.image_shape)
    rows = {
        f"generator, batch {min(size, len(run.images))}": measured(generator, run, [size], repetitions=20, warm_up=5)
        for size in GENERATOR_BATCHES
    }
    fastest = list(rows.values())[-1]["milliseconds_per_image"]
    for name, (attack, repetitions) in baselines(run.classifier, run.config.epsilon).items():
        row = measured(attack, run, FOOLBOX_BATCHES, repetitions, warm_up=1, bounded=name != "C&W")
        rows[f"foolbox {name}"] = row
        print(name, row, flush=True)
    ratios = {name: rows[f"foolbox {name}"]["milliseconds_per_image"] / fastest for name in ("FGSM", *GOALS)}
    print(attacks_table(rows))
    for name, goal in GOALS.items():
        verdict = "met" if ratios[name] >= goal else "missed"
        print(
            f"{name}: {ratios[name]:.0f} times as long as the generator at its largest batch; goal {goal} ({verdict})"
        )
    result = {
        "mflop_an_image": mflop_per_image(run),
        "classifier": run.config.classifier,
        "images": len(run.images),
        "epsilon": run.config.epsilon,
        "attacks": rows,
        "times_as_long_as_the_generator": ratios,
        "goals": GOALS,
    }
    timing.save(result, _OUTPUT.value)


if __name__ == "__main__":
    app.run(main)
