"""A trained generator as an attack of the Adversarial Robustness Toolbox (ART)."""

import os

import numpy as np

from aigan_tf.adapters.scaling import attack_between
from aigan_tf.errors import InputError
from aigan_tf.trained_generator import TrainedGenerator, load_generator

try:
    from art.attacks import EvasionAttack
except ModuleNotFoundError:  # so that this module can be imported without it
    EvasionAttack = object


class GeneratorEvasion(EvasionAttack):
    """An ART evasion attack: one pass of a generator.

        attack = GeneratorEvasion(art_classifier, "runs/cifar10")
        adversarial = attack.generate(images, y=targets)

    Args:
        estimator: the ART classifier under attack; its `clip_values` are the range of the images.
        generator: from `load_generator` or `fit_generator`, or the path of a run's folder.
        eps: L-infinity budget in the unit of `clip_values`, for a generator trained with `variable_epsilon`; None for the
            largest.

    Raises:
        InputError: ART is not installed, or there is no such generator.
    """

    attack_params = ("eps", "targeted")
    _estimator_requirements = ()  # any: the generator alone is asked

    def __init__(self, estimator, generator: TrainedGenerator | str | os.PathLike, eps: float | None = None):
        if EvasionAttack is object:
            fix = "run pip install adversarial-robustness-toolbox"
            raise InputError("the package art is not installed", "the Adversarial Robustness Toolbox", fix)
        super().__init__(estimator=estimator)
        self.generator = generator if callable(generator) else load_generator(generator)
        self.targeted = self.generator.targeted
        self.eps = eps

    def generate(self, x: np.ndarray, y: np.ndarray | None = None, **kwargs) -> np.ndarray:
        """Returns adversarial images, float32, in the shape and the range of `x`.

        Args:
            x: images in `clip_values`.
            y: targets, as numbers or one-hot; of an untargeted generator the labels, None for the classifier's answers.

        Raises:
            InputError: images or classes do not fit the generator, or targets are missing.
        """
        if y is None and self.targeted:
            raise InputError("y is None", "the target classes", "give y, one class per image")
        y = np.asarray(self.estimator.predict(x) if y is None else y)
        classes = y.reshape(-1) if y.ndim < 2 or y.shape[1] == 1 else y.argmax(axis=1)
        low, high = (0.0, 1.0) if self.estimator.clip_values is None else self.estimator.clip_values
        return attack_between(self.generator, x, classes, self.eps, low, high)
