"""Attacks random images with exported generators and counts images that leave the threat model.

    python tests/stress/bounds.py --pictures=1000000 --output=docs/results/bounds.json

An adversarial image violates it if a value is outside [0, 1], further than epsilon from the clean image, in float32 or
after quantisation to 8 bits, or not finite. The shipped generators attack `SHIPPED` of the images, in equal parts, an
untrained generator with outputs far beyond its budget attacks the rest. In addition, the bound alone is tested on extreme
perturbations that no network would emit. Exits with 1 after a violation.
"""

import argparse
import collections
import json
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
# Besides 0 and 1, the midpoints between two grey levels, where rounding turns.
EDGES = np.array([0.0, SMALLEST, 1e-38, 1e-8, 1 - 2**-23, 1 - 2**-24, 1.0, *((np.arange(255) + 0.5) / 255)], np.float32)
DIRECTIONS = np.array([0.0, SMALLEST, 1e-38, 1e-8, 1.0, 9.0, 1e30, LARGEST, np.inf], np.float32)
DIGITS = datasets.load("digits").test.as_float()


def image_kinds(rng: np.random.Generator, count: int, shape: tuple[int, int, int]) -> dict[str, np.ndarray]:
    """Returns `count` images of each kind, float32 `(count, *shape)` in [0, 1]."""
    squares = (np.indices(shape[:2]).sum(axis=0) % 2).astype(np.float32)[..., np.newaxis]
    one_value = (count, 1, 1, 1)
    drawn = DIGITS[rng.integers(len(DIGITS), size=count)]
    rows, columns = (np.arange(side) * 8 // side for side in shape[:2])  # the nearest of 8 x 8 pixels
    kinds = {
        "uniform": rng.random((count, *shape), np.float32),
        "constant": rng.random(one_value, np.float32),
        "black": np.zeros(one_value),
        "white": np.ones(one_value),
        "checkerboard": np.abs(squares - rng.integers(2, size=one_value)),
        "subnormal": SMALLEST * rng.integers(2**23, size=(count, *shape)).astype(np.float32),
        "edges": rng.choice(EDGES, (count, *shape)),
        "digits": drawn[:, rows][:, :, columns],
    }
    return {name: np.broadcast_to(images, (count, *shape)).astype(np.float32) for name, images in kinds.items()}


class ServedAttack:
    """Adversarial images of the serving signature of a model for random targets."""

    def __init__(self, model, signature: Callable, epsilon: float):
        self.model, self.signature, self.epsilon = model, signature, epsilon  # the model holds the variables
        self.image_shape = tuple(signature.structured_outputs["adversarial_images"].shape[1:])

    def __call__(self, rng: np.random.Generator, images: np.ndarray) -> tuple[tf.Tensor, float]:
        """Returns adversarial images, and the epsilon that holds for them."""
        targets = tf.constant(rng.integers(10, size=len(images), dtype=np.int32))
        return self.signature(images=tf.constant(images), target_class=targets)["adversarial_images"], self.epsilon


def shipped(folder: pathlib.Path) -> ServedAttack:
    loaded = saved_model.load(latest_version(folder / "generator"))
    return ServedAttack(loaded, loaded.signatures["serving_default"], config_of(Workdir(folder)).epsilon)


def untrained() -> ServedAttack:
    """A generator of 8 x 8 images with fresh weights, the last layer's scaled by 1,000."""
    keras.utils.set_random_seed(0)
    generator = Generator(10, 1, width=4, num_blocks=1)
    generator.head.kernel.assign(1000 * generator.head.kernel)
    served = ServedGenerator(generator, (8, 8, 1), [str(k) for k in range(10)], 0.3, targeted=True)
    return ServedAttack(served, served.signatures()["serving_default"], 0.3)


@tf.function(reduce_retracing=True)
def moved(images, directions, epsilon, scaled):
    """Images moved by `directions`, in units of epsilon if `scaled`, else of the pixel range."""
    return apply_perturbation(images, bounded(directions, epsilon) if scaled else directions, epsilon)


def bare_bound(rng: np.random.Generator, images: np.ndarray) -> tuple[tf.Tensor, float]:
    """Returns the images nearest to extreme perturbations, and the epsilon of the batch."""
    epsilon = float(rng.choice([*EPSILONS, rng.random()]))
    directions = rng.choice(DIRECTIONS, images.shape) * rng.choice(np.array([-1, 1], np.float32), images.shape)
    scaled = bool(rng.integers(2))
    return moved(tf.constant(images), tf.constant(directions), tf.constant(epsilon), scaled), epsilon


quantized = tf.function(quantize, reduce_retracing=True)


def excesses(images: np.ndarray, adversarial_images: tf.Tensor, epsilon: float) -> dict[str, np.ndarray]:
    """Returns by how much each image exceeds each limit, float64 `(batch,)`; NaN if a value is not a number."""
    clean, rounded = (x.numpy().astype(float) for x in quantized(images, adversarial_images, tf.constant(epsilon)))
    adversarial, axes = adversarial_images.numpy().astype(float), (1, 2, 3)
    return {
        "range": np.maximum(-adversarial, adversarial - 1).max(axis=axes),
        "epsilon": np.abs(adversarial - images).max(axis=axes) - epsilon,
        "epsilon_8bit": np.abs(rounded - clean).max(axis=axes) / 255 - epsilon,
    }


def measure(attack: Callable, shape: tuple[int, int, int], pictures: int, rng: np.random.Generator) -> dict:
    """Attacks `pictures` images, as many of each kind, and counts violations."""
    began, counted, violations, greatest = time.perf_counter(), 0, collections.defaultdict(collections.Counter), {}
    while counted < pictures:
        kinds = image_kinds(rng, -(-min(BATCH, pictures - counted) // 8), shape)
        images = np.concatenate(list(kinds.values()))
        names = np.repeat(list(kinds), len(images) // len(kinds))
        for limit, excess in excesses(images, *attack(rng, images)).items():
            allowed = 0.0 if limit == "range" else TOLERANCE
            violations[limit].update(names[~(excess <= allowed)].tolist())  # not >: NaN counts too
            greatest[limit] = float(np.max([excess.max(), greatest.get(limit, -1.0)]))  # NaN stays NaN
        counted += len(images)
    seconds = round(time.perf_counter() - began, 1)
    return {
        "pictures": counted, "image_shape": shape, "violations_by_kind": violations, "greatest_excess": greatest,
        "seconds": seconds,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=pathlib.Path)
    arguments = parser.parse_args()
    few = round(SHIPPED * arguments.pictures)
    folders = sorted(path.parent for path in PRETRAINED.glob("*/generator"))
    parts = [(folder.name, shipped(folder), few // len(folders)) for folder in folders]
    parts += [("untrained", untrained(), arguments.pictures - few), ("bare bound", bare_bound, few)]
    rng, measured = np.random.default_rng(arguments.seed), {}
    for name, attack, pictures in parts:
        measured[name] = measure(attack, getattr(attack, "image_shape", (8, 8, 3)), pictures, rng)
        print(f"{name}: {json.dumps(measured[name])}", flush=True)
    violations = sum(kinds.total() for row in measured.values() for kinds in row["violations_by_kind"].values())
    result = {
        "pictures": sum(row["pictures"] for name, row in measured.items() if name != "bare bound"),
        "tolerance": TOLERANCE, "violations": violations, "measured": measured, "seed": arguments.seed,
        "device": device_name(), "versions": package_versions(),
    }  # fmt: skip
    if arguments.output:
        write_json(arguments.output, result)
    if violations:
        sys.exit(f"{violations} violations, see above")


if __name__ == "__main__":
    main()
