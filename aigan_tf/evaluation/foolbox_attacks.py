"""foolbox's attacks as callables from images and classes to adversarial images.

They are what the generator is compared with, so they are not our own code.
"""

import functools
from collections.abc import Callable

import numpy as np
import tensorflow as tf

PGD_STEPS = 40
# Black and white pixels lie 7.25 away from the middle in the space where cw walks, so 400 steps of 0.02 get there
# from anywhere. Longer steps overshoot: on CIFAR-10 those of 0.1 found pictures five times as far away as 0.01's.
CW_SETTINGS = dict(binary_search_steps=5, steps=400, stepsize=0.02, initial_const=1.0)

SETTINGS = {
    "fgsm": "foolbox LinfPGD, one step of epsilon from the image itself",
    "pgd": f"foolbox LinfPGD, {PGD_STEPS} steps of epsilon / 4, random start",
    "cw": f"foolbox L2CarliniWagnerAttack, {', '.join(f'{name}={value}' for name, value in CW_SETTINGS.items())}",
}


def baseline(
    name: str, classifier: Callable[[tf.Tensor], tf.Tensor], epsilon: float, targeted: bool, seed: int = 0
) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Returns one of foolbox's attacks on a classifier.

    Args:
        name: a key of `SETTINGS`. fgsm and pgd keep within `epsilon`; cw (Carlini and Wagner, L2) knows no
            such budget.
        classifier: images in `[0, 1]` to logits, in inference mode; a tf.function is used as it is, so that
            several attacks can share its traces.
        epsilon: L-infinity budget as a fraction of the pixel range.
        targeted: reach the given classes, or leave them.
        seed: decides pgd's random start.

    Returns:
        A callable from images float32 `(batch, height, width, channels)` and classes int32 `(batch,)` to
        adversarial images; where an attack gives up, the clean image.
    """
    import foolbox  # here: it takes seconds to import, and training does without

    attacks = {
        # Not foolbox's own FGSM, which refuses targets; one step of PGD is the same.
        "fgsm": functools.partial(foolbox.attacks.LinfPGD, abs_stepsize=epsilon, steps=1, random_start=False),
        "pgd": functools.partial(foolbox.attacks.LinfPGD, abs_stepsize=epsilon / 4, steps=PGD_STEPS),
        "cw": functools.partial(foolbox.attacks.L2CarliniWagnerAttack, **CW_SETTINGS),
    }
    attack = attacks[name]()
    if not isinstance(classifier, tf.types.experimental.PolymorphicFunction):
        classifier = tf.function(classifier, reduce_retracing=True)
    model = foolbox.TensorFlowModel(classifier, bounds=(0, 1))
    criterion = foolbox.criteria.TargetedMisclassification if targeted else foolbox.criteria.Misclassification
    budget = None if name == "cw" else epsilon
    tf.random.set_seed(seed)  # foolbox draws from TensorFlow's global generator

    def run(images, classes):
        images = tf.convert_to_tensor(images)
        # int64: its array library compares them with what argmax gives, and fails on mixed types.
        _, adversarial_images, _ = attack(model, images, criterion(tf.cast(classes, tf.int64)), epsilons=budget)
        if name != "cw":
            return adversarial_images
        # Where Carlini and Wagner's attack finds nothing, foolbox returns zeros: a black picture.
        found = tf.reduce_any(adversarial_images != 0.0, axis=[1, 2, 3], keepdims=True)
        return tf.where(found, adversarial_images, images)

    return run
