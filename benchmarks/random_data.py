"""Random images, and a model in training on them: pixels and weights do not change the time of a step."""

import keras
import numpy as np

from aigan_tf.build import build_aigan, map_sizes
from aigan_tf.classifiers import architectures
from aigan_tf.classifiers.features import features_of
from aigan_tf.config import Config
from aigan_tf.data.datasets import ImageDataset
from aigan_tf.data.splits import Split
from aigan_tf.method.aigan import AIGAN


def random_split(count: int, image_shape: tuple[int, int, int] = (32, 32, 3), num_classes: int = 10) -> Split:
    """Returns random images with random labels."""
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (count, *image_shape), dtype=np.uint8)
    return Split(images, generator.integers(0, num_classes, count, dtype=np.int32))


def random_aigan(
    config: Config, model: keras.Model, image_shape: tuple[int, int, int], num_classes: int
) -> tuple[AIGAN, Split]:
    """Returns a compiled model that attacks a classifier, and one batch for it."""
    batch = random_split(config.batch_size, image_shape, num_classes)
    dataset = ImageDataset("random", tuple(map(str, range(num_classes))), batch, batch, batch)
    features = features_of(model, image_shape, map_sizes(config, image_shape)) if config.classifier_features else None
    return build_aigan(config, dataset, architectures.frozen(model), 10_000, features=features), batch
