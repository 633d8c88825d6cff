"""Attacks random images with exported generators and counts images that leave the threat model.

    python tests/stress/bounds.py --pictures=1000000 --output=docs/results/bounds.json

An adversarial image violates it if a value is outside [0, 1], further than epsilon from the clean image, in float32 or
after quantisation to 8 bits, or not finite. The images are shared equally by the shipped generators, an untrained one
whose outputs are far beyond its budget, and perturbations that no network would emit. Exits with 1 after a violation.
"""

import argparse
import collections
import json
import pathlib
import sys
from collections.abc import Callable

sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))

import aigan_tf  # noqa: F401 isort: skip (before TensorFlow, which reads its settings on import)
import keras
import numpy as np
import tensorflow as tf

from aigan_tf.data import datasets
from aigan_tf.engine import saved_model
from aigan_tf.files import latest_version, write_json
from aigan_tf.method.networks import Generator
from aigan_tf.method.threat_model import apply_perturbation, bounded, quantize
from aigan_tf.provenance import package_versions
from aigan_tf.serving.export import ServedGenerator
from aigan_tf.workdir import Workdir, config_of

PRETRAINED = pathlib.Path(__file__).parents[2] / "pretrained"
BATCH = 500
TOLERANCE = 1e-6  # float32's error in adding and subtracting pixels
SMALLEST = np.finfo(np.float32).smallest_subnormal
# Besides 0 and 1, the midpoints between two grey levels, where rounding turns.
EDGES = np.array([0.0, SMALLEST, 1e-38, 1e-8, 1 - 2**-24, 1.0, *((np.arange(255) + 0.5) / 255)], np.float32)
DIRECTIONS = np.array([0.0, SMALLEST, 1e-38, 1.0, 9.0, 1e30, np.finfo(np.float32).max, np.inf], np.float32)
DIGITS = datasets.load("digits").test.as_float()


def draw_images(rng: np.random.Generator, count: int, shape: tuple[int, int, int]) -> np.ndarray:
    """Returns `count` images, float32 in [0, 1]: noise, constants, black, white, subnormal, edges and digits."""
    constants = rng.choice([0.0, 1.0, rng.random()], (count, 1, 1, 1))
    rows, columns = (np.arange(side) * 8 // side for side in shape[:2])  # the nearest of 8 x 8 pixels
    digits = DIGITS[rng.integers(len(DIGITS), size=count)][:, rows][:, :, columns]
    kinds = [
        rng.random((count, *shape)), constants, SMALLEST * rng.integers(2**23, size=(count, *shape)),
        rng.choice(EDGES, (count, *shape)), digits,
    ]  # fmt: skip
    kinds = np.stack([np.broadcast_to(images, (count, *shape)) for images in kinds])
    return kinds[rng.integers(len(kinds), size=count), np.arange(count)].astype(np.float32)


def served_attack(model, signature: Callable, epsilon: float) -> tuple[Callable, tuple]:
    """Returns a function that makes adversarial images for random targets, and their shape."""

    def attack(rng, images):
        targets = tf.constant(rng.integers(10, size=len(images), dtype=np.int32))
        return signature(images=tf.constant(images), target_class=targets)["adversarial_images"], epsilon

    attack.model = model  # holds the variables
    return attack, tuple(signature.structured_outputs["adversarial_images"].shape[1:])


def shipped(folder: pathlib.Path) -> tuple[Callable, tuple]:
    loaded = saved_model.load(latest_version(folder / "generator"))
    return served_attack(loaded, loaded.signatures["serving_default"], config_of(Workdir(folder)).epsilon)


def untrained() -> tuple[Callable, tuple]:
    """A generator of 8 x 8 images with fresh weights, the last layer's scaled by 1,000."""
    keras.utils.set_random_seed(0)
    generator = Generator(10, 1, width=4, num_blocks=1)
    generator.head.kernel.assign(1000 * generator.head.kernel)
    served = ServedGenerator(generator, (8, 8, 1), [str(k) for k in range(10)], 0.3, targeted=True)
    return served_attack(served, served.signatures()["serving_default"], 0.3)


def bare_bound(rng: np.random.Generator, images: np.ndarray) -> tuple[tf.Tensor, float]:
    """Returns the images nearest to extreme perturbations, and the epsilon of the batch."""
    epsilon = float(rng.choice([8 / 255, 0.3, 1.0, 1 / 255, 1e-8, rng.random()]))
    directions = rng.choice(DIRECTIONS, images.shape) * rng.choice(np.array([-1, 1], np.float32), images.shape)
    return apply_perturbation(images, bounded(tf.constant(directions), epsilon), epsilon), epsilon


def excesses(images: np.ndarray, adversarial_images: tf.Tensor, epsilon: float) -> dict[str, np.ndarray]:
    """Returns by how much each image exceeds each limit, float64 `(batch,)`; NaN if a value is not a number."""
    clean, rounded = (x.numpy().astype(float) for x in quantize(images, adversarial_images, tf.constant(epsilon)))
    adversarial, axes = adversarial_images.numpy().astype(float), (1, 2, 3)
    return {
        "range": np.maximum(-adversarial, adversarial - 1).max(axis=axes),
        "epsilon": np.abs(adversarial - images).max(axis=axes) - epsilon,
        "epsilon_8bit": np.abs(rounded - clean).max(axis=axes) / 255 - epsilon,
    }


def measure(attack: Callable, shape: tuple[int, int, int], pictures: int, rng: np.random.Generator) -> dict:
    """Attacks `pictures` images; returns the violations of each limit and the greatest excess."""
    violations, greatest = collections.Counter(), collections.defaultdict(list)
    for begin in range(0, pictures, BATCH):
        images = draw_images(rng, min(BATCH, pictures - begin), shape)
        for limit, excess in excesses(images, *attack(rng, images)).items():
            violations[limit] += int(np.sum(~(excess <= (0.0 if limit == "range" else TOLERANCE))))  # not >: NaN counts
            greatest[limit].append(float(excess.max()))
    return {"pictures": pictures, "violations": violations} | {name: max(found) for name, found in greatest.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=1_000_000)
    parser.add_argument("--output", type=pathlib.Path)
    arguments = parser.parse_args()
    attacks = {path.parent.name: shipped(path.parent) for path in sorted(PRETRAINED.glob("*/generator"))}
    attacks |= {"untrained": untrained(), "bare bound": (bare_bound, (8, 8, 3))}
    pictures, rng = arguments.pictures // len(attacks), np.random.default_rng(0)
    measured = {name: measure(*attack, pictures, rng) for name, attack in attacks.items()}
    violations = sum(row["violations"].total() for row in measured.values())
    result = {"tolerance": TOLERANCE, "violations": violations, "measured": measured, "versions": package_versions()}
    print(json.dumps(result, indent=2))
    if arguments.output:
        write_json(arguments.output, result)
    if violations:
        sys.exit(f"{violations} violations, see above")


if __name__ == "__main__":
    main()
