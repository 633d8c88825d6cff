"""Images per second of an exported generator beside foolbox's attacks on the same classifier, with each one's success.

    python benchmarks/generation_speed.py --workdir=pretrained/cifar10 --output=docs/results/performance/generation.json

Run it while nothing else does. The generator is loaded as a server loads it and timed at batches of 1, 32 and 256;
foolbox's FGSM, PGD with 10 and 40 steps, and Carlini and Wagner's attack (50 steps, 3 searches) at the fastest of
several batch sizes. All attack the same test images towards the same targets, and success is counted on 8-bit pictures.
"""

import functools
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

import timing  # isort: skip (before TensorFlow: the package sets oneDNN)
import foolbox
import numpy as np
import tensorflow as tf
from absl import app, flags
from convolutions import convolutions_of
from peak_memory import tensors_mib

from aigan_tf import workdir
from aigan_tf.build import build_generator
from aigan_tf.classifiers import training
from aigan_tf.classifiers.accuracy import predictions
from aigan_tf.data import datasets
from aigan_tf.evaluation.attacks import ExportedGenerator
from aigan_tf.method.threat_model import apply_perturbation, quantize
from aigan_tf.method.targets import spread_targets
from aigan_tf.workdir import Workdir
from tools.performance import attacks_table

_WORKDIR = flags.DEFINE_string("workdir", "pretrained/cifar10", "work folder with generator and classifier")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "folder of TFDS data sets (default: TFDS's own)")
_OUTPUT = flags.DEFINE_string("output", "", "where to write the JSON; empty: only print")
_IMAGES = flags.DEFINE_integer("images", 256, "test images attacked, those the classifier gets right", lower_bound=1)

GENERATOR_BATCHES = (1, 32, 256)
FOOLBOX_BATCHES = (32, 128, 256)
GOALS = {"PGD-10": 150, "PGD-40": 600, "C&W": 1500}  # times as long an image as the generator at batch 256


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


def in_batches(attack, images, targets, size):
    """Returns all adversarial images as one array."""
    starts = range(0, len(images), size)
    return np.concatenate([np.asarray(attack(images[i : i + size], targets[i : i + size])) for i in starts])


def main(_):
    folder = Workdir(_WORKDIR.value)
    config = workdir.config_of(folder)
    dataset = datasets.load_dataset(config, _DATA_DIR.value)
    classifier = training.existing_classifier(config, dataset, folder)
    first = dataset.test.take(slice(0, 2 * _IMAGES.value))
    right = np.flatnonzero(predictions(classifier, first.as_float()) == first.labels)[: _IMAGES.value]
    chosen = first.take(right)
    images, labels = tf.constant(chosen.as_float()), tf.constant(chosen.labels)
    targets = spread_targets(labels, dataset.num_classes)

    def success(adversarial, bounded=True):
        adversarial = tf.constant(adversarial)
        if not bounded:  # Carlini and Wagner's attack knows no epsilon: its success is that after a move into it
            adversarial = apply_perturbation(images, adversarial - images, config.epsilon)
        pictures = quantize(images, adversarial, config.epsilon)[1].numpy().astype(np.float32) / 255
        return float(np.mean(predictions(classifier, pictures) == targets.numpy()))

    generator = ExportedGenerator(folder, config, dataset.image_shape)
    rows = {}
    for size in GENERATOR_BATCHES:
        size = min(size, len(images))

        def run(size=size):
            return np.asarray(generator(images[:size], targets[:size]))

        rows[f"generator, batch {size}"] = {
            "milliseconds_per_image": 1000 * timing.median_seconds(run, 20, warm_up=5) / size,
            "success_rate": success(in_batches(generator, images, targets, size)),
            "batch_size": size,
            "peak_mib": tensors_mib(run),
        }
    for name, (attack, repetitions) in baselines(classifier, config.epsilon).items():
        best = None
        for size in FOOLBOX_BATCHES:
            size = min(size, len(images))

            def run(size=size, attack=attack):
                return np.asarray(attack(images[:size], targets[:size]))

            seconds = timing.median_seconds(run, repetitions, warm_up=1) / size
            if best is None or seconds < best[0]:
                best = (seconds, size)
        adversarial = in_batches(attack, images, targets, best[1])
        rows[f"foolbox {name}"] = {
            "milliseconds_per_image": 1000 * best[0],
            "success_rate": success(adversarial, bounded=name != "C&W"),
            "batch_size": best[1],
            "peak_mib": tensors_mib(lambda attack=attack, size=best[1]: attack(images[:size], targets[:size])),
        }
        print(name, rows[f"foolbox {name}"], flush=True)
    fastest = rows[f"generator, batch {min(GENERATOR_BATCHES[-1], len(images))}"]["milliseconds_per_image"]
    ratios = {name: rows[f"foolbox {name}"]["milliseconds_per_image"] / fastest for name in ("FGSM", *GOALS)}
    print(attacks_table(rows))
    for name, goal in GOALS.items():
        verdict = "met" if ratios[name] >= goal else "missed"
        print(
            f"{name}: {ratios[name]:.0f} times as long as the generator at its largest batch; goal {goal} ({verdict})"
        )
    network = build_generator(config, dataset)
    passes = {
        "generator": lambda: network(images[:1], targets[:1]),
        "classifier": lambda: classifier(images[:1]),
    }
    timing.save(
        {
            "mflop_an_image": {
                name: sum(convolution.flops for convolution in convolutions_of(run)) / 1e6
                for name, run in passes.items()
            },
            "classifier": config.classifier,
            "images": len(images),
            "epsilon": config.epsilon,
            "attacks": rows,
            "times_as_long_as_the_generator": ratios,
            "goals": GOALS,
        },
        _OUTPUT.value,
    )


if __name__ == "__main__":
    app.run(main)
