"""Examples for a page: one image per class, each generator's perturbation, and the classifier's answers."""

import dataclasses
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from aigan_tf.config import attack_kind
from aigan_tf.evaluation import figures
from aigan_tf.evaluation.attacks import ADVGAN, GENERATOR_ATTACKS, REFINED
from aigan_tf.evaluation.finished_run import FinishedRun
from aigan_tf.evaluation.measure import Attack
from aigan_tf.method.threat_model import quantize

MAX_EXAMPLES = 10
MAX_PIXELS = 160  # of a side; larger pictures would make a page of many megabytes


@dataclasses.dataclass(frozen=True)
class Answer:
    """A picture, and what the classifier answers to it.

    Args:
        picture: a PNG file.
        answer: a class name.
        confidence: the softmax of its logit.
    """

    picture: bytes
    answer: str
    confidence: float


@dataclasses.dataclass(frozen=True)
class Attacked:
    """What one generator makes of an image: the perturbation as a PNG file, and the adversarial image."""

    magnified: bytes
    adversarial: Answer
    succeeds: bool


@dataclasses.dataclass(frozen=True)
class Example:
    """An image with the names of its label and target (the label if untargeted), and what each generator makes of it."""

    label: str
    target: str
    clean: Answer
    attacked: dict[str, Attacked]


def examples_of(run: FinishedRun, attacks: Mapping[str, Attack]) -> list[Example]:
    """Attacks one image per class with the generators among the attacks; no examples if there is no generator.

    As in the measurements, the images are rounded to 8 bits.
    """
    refined = [name for name in attacks if attack_kind(name)[0] == REFINED][:1]  # mostly the images of aigan
    generators = [name for name in attacks if name in GENERATOR_ATTACKS] or refined
    if not generators:
        return []
    config, names = run.config, run.dataset.class_names
    targets_of_all = attacks[ADVGAN].target_classes if ADVGAN in attacks else run.examples.target_classes
    images, labels, targets = _chosen(run.examples, targets_of_all, config.targeted)
    clean = _answers(run, quantize(images, images, config.epsilon)[0])
    attacked = {}
    for name in generators:
        adversarial = tf.convert_to_tensor(attacks[name].run(tf.constant(images), tf.constant(targets)))
        clean_8bit, pictures = quantize(images, adversarial, config.epsilon)
        answers = _answers(run, pictures)
        magnified = figures.magnified(np.float32(clean_8bit) / 255, np.float32(pictures) / 255, config.epsilon)
        hits = ((answer.answer == names[k]) == config.targeted for answer, k in zip(answers, targets, strict=True))
        attacked[name] = [Attacked(*made) for made in zip(map(_png, magnified), answers, hits, strict=True)]
    return [
        Example(names[labels[i]], names[targets[i]], clean[i], {name: made[i] for name, made in attacked.items()})
        for i in range(len(images))
    ]


def _answers(run, pictures):
    """Returns an `Answer` for each of uint8 pictures."""
    images = np.float32(pictures) / 255
    shares = tf.nn.softmax(run.classifier(tf.constant(images))).numpy()
    names = run.dataset.class_names
    return [
        Answer(_png(image), names[share.argmax()], float(share.max()))
        for image, share in zip(images, shares, strict=True)
    ]


def _png(image):
    """Returns a float image as a PNG file, smaller if it is large."""
    side = max(image.shape[:2])
    if side > MAX_PIXELS:
        size = [max(1, round(length * MAX_PIXELS / side)) for length in image.shape[:2]]
        image = tf.image.resize(image, size, method="area").numpy()
    return tf.io.encode_png(np.uint8(np.round(255 * np.clip(image, 0, 1)))).numpy()


def _chosen(examples, known, targeted):
    """Returns images that the classifier gets right, of different classes, with labels and targets."""
    right = examples.correct
    if targeted and len(known) == 1:
        right = right & (examples.labels != known[0])
    first = [np.flatnonzero(right & (examples.labels == label))[:1] for label in range(len(examples.class_names))]
    shown = np.concatenate(first)[:MAX_EXAMPLES]
    images, labels = examples.images[shown], examples.labels[shown]
    if not targeted:
        return images, labels, labels
    others = [[target for target in known if target != label] for label in labels]
    targets = [choices[i % len(choices)] for i, choices in enumerate(others)]
    return images, labels, np.array(targets, np.int32)
