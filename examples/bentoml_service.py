"""Serves a generator by BentoML: pip install -r examples/requirements.txt, then

GENERATOR=runs/cifar10 bentoml serve examples/bentoml_service.py:AdversarialImages

curl localhost:3000/attack -H 'Content-Type: application/json' -d '{"images": [[[[0.5, ...]]]], "target_classes": ["cat"]}'
"""

import os

import bentoml
import numpy as np

import aigan_tf
from aigan_tf.errors import InputError


@bentoml.service
class AdversarialImages:
    """Attacks batches of images; refuses a bad one with status 400 and the message of aigan_tf."""

    def __init__(self):
        self.generator = aigan_tf.load_generator(os.environ["GENERATOR"])

    @bentoml.api
    def attack(self, images: np.ndarray, target_classes: list[str]) -> np.ndarray:
        """Images `(batch, height, width, channels)` in `[0, 1]` and classes by name or number to adversarial images."""
        try:
            return self.generator(images, target_classes)
        except InputError as error:
            raise bentoml.exceptions.InvalidArgument(str(error)) from error
