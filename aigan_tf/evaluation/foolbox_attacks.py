"""foolbox's attacks as callables from images and targets to adversarial images.

The generator is compared with them, so they are not our own code.
"""

import functools
import os
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from aigan_tf.config import attack_kind
from aigan_tf.engine.traced_graph import GraphClassifier

PGD_STEPS = 40  # of pgd; pgd-N has N
# In the space that cw searches, black and white lie 7.25 from the middle, so 400 steps of 0.02 reach them from anywhere.
# Longer steps overshoot: on CIFAR-10, steps of 0.1 found images five times as far away as steps of 0.01.
CW_SETTINGS = dict(binary_search_steps=5, steps=400, stepsize=0.02, initial_const=1.0)

DESCRIPTIONS = {
    "fgsm": "foolbox LinfPGD, one step of epsilon from the image itself",
    "pgd-N": "foolbox LinfPGD, {steps} steps of epsilon / 4, random start",
    "pgd": f"foolbox LinfPGD, {PGD_STEPS} steps of epsilon / 4, random start",
    "cw": f"foolbox L2CarliniWagnerAttack, {', '.join(f'{name}={value}' for name, value in CW_SETTINGS.items())}",
}


def foolbox_attack(
    name: str, classifier: Callable[[tf.Tensor], tf.Tensor], epsilon: float, targeted: bool, seed: int = 0
) -> Callable[[np.ndarray, np.ndarray], tf.Tensor]:
    """Returns one of foolbox's attacks on a classifier.

    Args:
        name: a key of `DESCRIPTIONS`, with a number for N. All but cw (Carlini and Wagner, L2) stay within `epsilon`.
        classifier: images in `[0, 1]` to logits, in inference mode; a `GraphClassifier` is used as it is, so that
            several attacks can share its traces.
        epsilon: L-infinity budget as a fraction of the pixel range.
        targeted: whether to reach the given classes, or to leave them.
        seed: decides pgd's random start.

    Returns:
        A callable from images float32 `(batch, height, width, channels)` and targets int32 `(batch,)` (labels if
        untargeted) to adversarial images; the clean image if an attack gives up.
    """
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")  # foolbox imports GitPython, which fails where git is missing
    import foolbox  # here: it takes seconds to import, and training does without

    kind, steps = attack_kind(name)
    pgd = functools.partial(foolbox.attacks.LinfPGD, abs_stepsize=epsilon / 4)
    attacks = {
        # Not foolbox's own FGSM, which refuses targets; one step of PGD is the same.
        "fgsm": functools.partial(foolbox.attacks.LinfPGD, abs_stepsize=epsilon, steps=1, random_start=False),
        "pgd-N": functools.partial(pgd, steps=steps),
        "pgd": functools.partial(pgd, steps=PGD_STEPS),
        "cw": functools.partial(foolbox.attacks.L2CarliniWagnerAttack, **CW_SETTINGS),
    }
    attack = attacks[kind]()
    model = foolbox.TensorFlowModel(GraphClassifier.of(classifier), bounds=(0, 1))  # it differentiates outside graphs
    criterion = foolbox.criteria.TargetedMisclassification if targeted else foolbox.criteria.Misclassification
    budget = None if name == "cw" else epsilon
    tf.random.set_seed(seed)  # foolbox draws from TensorFlow's global generator

    def run(images, targets):
        images = tf.convert_to_tensor(images)
        # int64: foolbox's array library compares targets with the result of argmax, and fails on mixed types.
        _, adversarial_images, _ = attack(model, images, criterion(tf.cast(targets, tf.int64)), epsilons=budget)
        if name != "cw":
            return adversarial_images
        # If Carlini and Wagner's attack finds nothing, foolbox returns zeros: a black image.
        found = tf.reduce_any(adversarial_images != 0.0, axis=[1, 2, 3], keepdims=True)
        return tf.where(found, adversarial_images, images)

    return run
