"""A trained generator as an attack of foolbox."""

import os

import eagerpy as ep
from foolbox.attacks.base import FixedEpsilonAttack, raise_if_kwargs
from foolbox.criteria import Criterion, Misclassification, TargetedMisclassification
from foolbox.distances import linf
from foolbox.models import Model

from aigan_tf.adapters.scaling import attack_between
from aigan_tf.errors import InputError
from aigan_tf.trained_generator import TrainedGenerator, load_generator


class GeneratorAttack(FixedEpsilonAttack):
    """A foolbox attack: one pass of a generator.

        attack = GeneratorAttack("runs/cifar10")
        _, adversarial, success = attack(model, images, TargetedMisclassification(targets), epsilons=8 / 255)

    A generator trained with `variable_epsilon` attacks within each epsilon up to its largest. Any other has one budget:
    foolbox clips its perturbations to a smaller epsilon.

    Args:
        generator: from `load_generator` or `fit_generator`, or the path of a run's folder.

    Raises:
        InputError: there is no such generator.
    """

    distance = linf

    def __init__(self, generator: TrainedGenerator | str | os.PathLike):
        self.generator = generator if callable(generator) else load_generator(generator)

    def run(self, model: Model, inputs, criterion: Criterion, *, epsilon: float, **kwargs):
        """Returns adversarial images, as foolbox asks for them: of the type and shape of `inputs`, and in the model's bounds.

        Raises:
            InputError: images, classes or the criterion do not fit the generator.
        """
        raise_if_kwargs(kwargs)
        images, restore_type = ep.astensor_(inputs)
        taken = TargetedMisclassification if self.generator.targeted else Misclassification
        if not isinstance(criterion, taken):
            given = type(criterion).__name__
            raise InputError(f"the criterion is {given}", f"foolbox's {taken.__name__}", "give such a criterion")
        classes = (criterion.target_classes if self.generator.targeted else criterion.labels).numpy()
        low, high = model.bounds
        budget = None
        if "with_epsilon" in self.generator.signatures:
            budget = min(epsilon, self.generator.epsilon * (high - low))
        adversarial = attack_between(self.generator, images.numpy(), classes, budget, low, high)
        return restore_type(ep.from_numpy(images, adversarial))
