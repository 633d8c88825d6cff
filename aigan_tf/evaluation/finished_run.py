"""A run that is evaluated: its folder, settings, images and classifier."""

import dataclasses
import functools
from collections.abc import Callable

from aigan_tf.classifiers.loading import usable_gradients
from aigan_tf.config import Config
from aigan_tf.data.datasets import ImageDataset
from aigan_tf.evaluation.evaluation_set import EvaluationSet
from aigan_tf.workdir import Workdir


@dataclasses.dataclass(frozen=True)
class FinishedRun:
    """What every part of an evaluation needs of a run.

    Args:
        folder: the run's files.
        config: its settings.
        dataset: its data set; the test split is what attacks are measured on.
        classifier: the classifier under attack, images in `[0, 1]` to logits.
    """

    folder: Workdir
    config: Config
    dataset: ImageDataset
    classifier: Callable

    @functools.cached_property
    def examples(self) -> EvaluationSet:
        """The test split, with the run's classifier."""
        return self.examples_of(self.classifier)

    def examples_of(self, classifier: Callable) -> EvaluationSet:
        """Returns the test split, with a classifier that may be another one."""
        test = self.dataset.test
        return EvaluationSet(
            classifier, test.as_float(), test.labels, self.dataset.class_names, labelled=self.dataset.has_labels
        )

    @functools.cached_property
    def has_gradient(self) -> bool:
        """Whether the classifier has a gradient that attacks can follow."""
        return bool(usable_gradients(self.classifier, self.dataset.test.take(slice(0, 16)).as_float()).any())
