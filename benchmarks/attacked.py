"""What the benchmarks of attacks work on: a finished run, and the first test images that its classifier gets right."""

import dataclasses
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from aigan_tf.classifiers.accuracy import predictions
from aigan_tf.classifiers.training import existing_classifier
from aigan_tf.config import Config
from aigan_tf.data.datasets import ImageDataset, load_dataset
from aigan_tf.method.targets import spread_targets
from aigan_tf.workdir import Workdir, config_of


@dataclasses.dataclass(frozen=True)
class Attacked:
    """A run and what is attacked of it.

    Args:
        folder, config, dataset, classifier: of the run.
        images: float32 `(n, height, width, channels)` in `[0, 1]`, all classified correctly.
        targets: int32 `(n,)`, none the label.
    """

    folder: Workdir
    config: Config
    dataset: ImageDataset
    classifier: Callable
    images: tf.Tensor
    targets: tf.Tensor


def read(workdir: str, data_dir: str | None, count: int) -> Attacked:
    """Returns a run with `count` images, or fewer if there are not as many among four times as many."""
    folder = Workdir(workdir)
    config = config_of(folder)
    dataset = load_dataset(config, data_dir)
    classifier = existing_classifier(config, dataset, folder)
    first = dataset.test.take(slice(0, 4 * count))
    chosen = first.take(np.flatnonzero(predictions(classifier, first.as_float()) == first.labels)[:count])
    targets = spread_targets(tf.constant(chosen.labels), range(dataset.num_classes))
    return Attacked(folder, config, dataset, classifier, tf.constant(chosen.as_float()), targets)
