"""Sends random images and targets through exported generators, and extreme directions through the bare bound.

    python tests/bounds.py --pictures=1000000 --output=docs/results/bounds.json

Counts pictures that leave [0, 1] or move further than epsilon, in float32 and after rounding to 8 bits, or that are not
finite. `SHIPPED` of the pictures go through the shipped generators, in equal parts, the rest through a small one that
is not trained and goes far beyond every budget. Beside them as many as through the shipped ones meet the bound itself,
with directions that no network would give. Exits with 1 on a violation.
"""

import argparse
import collections
import pathlib
import sys
import time
from collections.abc import Callable

sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))

import aigan_tf  # noqa: F401 isort: skip (before TensorFlow, which reads its settings on import)
import keras
import numpy as np
import tensorflow as tf

from aigan_tf.data import datasets
from aigan_tf.engine import saved_model
from aigan_tf.files import write_json
from aigan_tf.method.networks import Generator
from aigan_tf.method.threat_model import apply_perturbation, bounded, quantize
from aigan_tf.provenance import device_name, package_versions
from aigan_tf.serving.export import ServedGenerator, latest_version
from aigan_tf.workdir import Workdir, config_of

PRETRAINED = pathlib.Path(__file__).parents[2] / "pretrained"
SHIPPED = 0.15
BATCH = 500
TOLERANCE = 1e-6  # float32's error in adding and subtracting pixels
SMALLEST = np.finfo(np.float32).smallest_subnormal
LARGEST = np.finfo(np.float32).max
EPSILONS = (8 / 255, 0.3, 1.0, 1 / 255, 0.001, 1e-8)
# Beside 0, 1 and the middles between two grey levels, where rounding turns.
EDGES = np.array([0.0, SMALLEST, 1e-38, 1e-8, 1 - 2**-23, 1 - 2**-24, 1.0, *((np.arange(255) + 0.5) / 255)], np.float32)
DIGITS = datasets.load("digits").test.as_float()
DIRECTIONS = np.array([0.0, SMALLEST, 1e-38, 1e-8, 1.0, 9.0, 1e30, LARGEST, np.inf], np.float32)


def image_kinds(rng: np.random.Generator, count: int, shape: tuple[int, int, int]) -> dict[str, np.ndarray]:
    """Returns `count` images of each kind, float32 `(count, *shape)` in [0, 1]."""
    height, width = shape[:2]
    squares = (np.indices((height, width)).sum(axis=0) % 2).astype(np.float32)[..., np.newaxis]
    one_value = (count, 1, 1, 1)
    drawn = DIGITS[rng.integers(len(DIGITS), size=count)]
    rows, columns = (np.arange(side) * 8 // side for side in (height, width))  # the nearest of 8 x 8 pixels
    kinds = {
        "uniform": rng.random((count, *shape), np.float32),
        "constant": rng.random(one_value, np.float32),
        "black": np.zeros(one_value, np.float32),
        "white": np.ones(one_value, np.float32),
        "checkerboard": np.abs(squares - rng.integers(2, size=one_value).astype(np.float32)),
        "subnormal": SMALLEST * rng.integers(2**23, size=(count, *shape)).astype(np.float32),
        "edges": rng.choice(EDGES, (count, *shape)),
        "digits": drawn[:, rows][:, :, columns],
    }
    return {name: np.broadcast_to(images, (count, *shape)).astype(np.float32) for name, images in kinds.items()}


def shipped(folder: pathlib.Path) -> tuple[tuple[int, int, int], Callable]:
    """Returns the image shape and the attack `(rng, images)` to adversarial images and epsilon of a shipped generator."""
    config = config_of(Workdir(folder))
    loaded = saved_model.load(latest_version(folder / "generator"))
    serve = loaded.signatures["serving_default"]
    return tuple(serve.structured_outputs["adversarial_images"].shape[1:]), served(loaded, serve, config.epsilon)


def untrained() -> tuple[tuple[int, int, int], Callable]:
    """As `shipped`, of a generator of 8 x 8 images with fresh weights, whose last ones are 1,000 times as large."""
    keras.utils.set_random_seed(0)
    generator = Generator(10, 1, width=4, num_blocks=1)
    generator.head.kernel.assign(1000 * generator.head.kernel)
    model = ServedGenerator(generator, (8, 8, 1), [str(k) for k in range(10)], 0.3, targeted=True)
    return (8, 8, 1), served(model, model.signatures()["serving_default"], 0.3)


def served(model, serve: Callable, epsilon: float) -> Callable:
    """Returns the attack of a signature, on random targets; `model` is what its variables live in."""

    def attack(rng, images):
        targets = tf.constant(rng.integers(10, size=len(images), dtype=np.int32))
        return serve(images=tf.constant(images), target_class=targets)["adversarial_images"], epsilon

    attack.model = model
    return attack


@tf.function(reduce_retracing=True)
def moved(images, directions, epsilon, in_budgets):
    perturbations = bounded(directions, epsilon) if in_budgets else directions
    return apply_perturbation(images, perturbations, epsilon)


def bare_bound(rng: np.random.Generator, images: np.ndarray) -> tuple[tf.Tensor, float]:
    """Returns adversarial images of extreme directions, in units of the budget or of the pixel range, and the epsilon of the batch."""
    signs = rng.choice(np.array([-1, 1], np.float32), images.shape)
    epsilon = float(rng.choice([*EPSILONS, rng.random()]))
    directions = rng.choice(DIRECTIONS, images.shape) * signs
    return moved(tf.constant(images), tf.constant(directions), tf.constant(epsilon), bool(rng.integers(2))), epsilon


quantized = tf.function(quantize, reduce_retracing=True)


def excesses(images: np.ndarray, adversarial_images: tf.Tensor, epsilon: float) -> dict[str, np.ndarray]:
    """Returns by how much each image leaves a limit, float64 `(batch,)`; not above `TOLERANCE` is none, NaN is all."""
    clean, pictures = (
        x.numpy().astype(np.float64) for x in quantized(images, adversarial_images, tf.constant(epsilon))
    )
    made, axes = adversarial_images.numpy().astype(np.float64), (1, 2, 3)
    return {
        "range": np.maximum(-made, made - 1).max(axis=axes),
        "epsilon": np.abs(made - images).max(axis=axes) - epsilon,
        "epsilon_8bit": np.abs(pictures - clean).max(axis=axes) / 255 - epsilon,
    }


def measure(attack: Callable, shape: tuple[int, int, int], pictures: int, rng: np.random.Generator) -> dict:
    """Attacks so many images, as many of each kind, and counts."""
    began, counted, violations, greatest = time.perf_counter(), 0, {}, {}
    while counted < pictures:
        kinds = image_kinds(rng, -(-min(BATCH, pictures - counted) // 8), shape)
        images = np.concatenate(list(kinds.values()))
        names = np.repeat(list(kinds), len(images) // len(kinds))
        adversarial_images, epsilon = attack(rng, images)
        for limit, excess in excesses(images, adversarial_images, epsilon).items():
            allowed = 0.0 if limit == "range" else TOLERANCE
            violating = names[~(excess <= allowed)].tolist()  # not >: NaN counts too
            violations.setdefault(limit, collections.Counter()).update(violating)
            # The largest of all is NaN where one is.
            greatest[limit] = float(np.max([excess.max(), greatest.get(limit, -1.0)]))
        counted += len(images)
    return {
        "pictures": counted,
        "image_shape": shape,
        "violations_by_kind": violations,
        "greatest_excess": greatest,
        "seconds": round(time.perf_counter() - began, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=pathlib.Path)
    arguments = parser.parse_args()
    rng = np.random.default_rng(arguments.seed)
    few = round(SHIPPED * arguments.pictures)
    folders = sorted(path.parent for path in PRETRAINED.glob("*/generator"))
    measured = {}
    for folder in folders:
        shape, attack = shipped(folder)
        measured[folder.name] = measure(attack, shape, few // len(folders), rng)
        print(folder.name, measured[folder.name], flush=True)
    shape, attack = untrained()
    measured["untrained"] = measure(attack, shape, arguments.pictures - few, rng)
    print("untrained", measured["untrained"], flush=True)
    measured["bare bound"] = measure(bare_bound, (8, 8, 3), few, rng)
    print("bare bound", measured["bare bound"], flush=True)
    result = {
        "pictures": sum(row["pictures"] for name, row in measured.items() if name != "bare bound"),
        "tolerance": TOLERANCE,
        "violations": sum(kinds.total() for row in measured.values() for kinds in row["violations_by_kind"].values()),
        "measured": measured,
        "seed": arguments.seed,
        "device": device_name(),
        "versions": package_versions(),
    }
    if arguments.output:
        write_json(arguments.output, result)
    if result["violations"]:
        sys.exit(f"{result['violations']} violations: {measured}")


if __name__ == "__main__":
    main()
