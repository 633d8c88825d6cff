"""The paper's figure: one image per class, what each generator adds to it, and the result."""

from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from aigan_tf.errors import shown_value
from aigan_tf.evaluation import figures
from aigan_tf.evaluation.attacks import ADVGAN, GENERATOR, STAGE1
from aigan_tf.evaluation.finished_run import FinishedRun
from aigan_tf.evaluation.measure import Attack

MAX_COLUMNS = 10


def example_grid(run: FinishedRun, attacks: Mapping[str, Attack]) -> bytes | None:
    """Draws what the generators among the attacks make of one image per class; None if there is no generator.

    Returns:
        A PNG file.
    """
    generators = [name for name in (STAGE1, GENERATOR, ADVGAN) if name in attacks]
    if not generators:
        return None
    config, names = run.config, run.dataset.class_names
    targets_of_all = attacks[ADVGAN].target_classes if ADVGAN in attacks else range(len(names))
    images, labels, targets = _chosen(run.examples, targets_of_all, config.targeted)
    rows = {"clean": images}
    for name in generators:
        adversarial = np.asarray(attacks[name].run(tf.constant(images), tf.constant(targets)))
        rows[f"{name}\nimage"] = adversarial
        rows[f"{name}\nmagnified"] = figures.magnified(images, adversarial, config.epsilon)
    captions = [
        f"{names[label]}\ntarget: {'' if config.targeted else 'not '}{names[target]}"
        for label, target in zip(labels, targets, strict=True)
    ]
    heading = f"{run.dataset.name}, epsilon {shown_value(config.epsilon)}"
    return figures.picture_grid(rows, captions, heading)


def _chosen(examples, known, targeted):
    """Returns images that the classifier gets right, of different classes, with labels and targets."""
    right = examples.correct
    if targeted and len(known) == 1:
        right = right & (examples.labels != known[0])
    first = [np.flatnonzero(right & (examples.labels == label))[:1] for label in range(len(examples.class_names))]
    shown = np.concatenate(first)[:MAX_COLUMNS]
    images, labels = examples.images[shown], examples.labels[shown]
    if not targeted:
        return images, labels, labels
    others = [[target for target in known if target != label] for label in labels]
    targets = [choices[i % len(choices)] for i, choices in enumerate(others)]
    return images, labels, np.array(targets, np.int32)
