"""A run that is evaluated: its folder, settings, images and classifier."""

import dataclasses
import datetime
import functools
import secrets
from collections.abc import Callable, Mapping

import aigan_tf
from aigan_tf import provenance
from aigan_tf.build import target_numbers
from aigan_tf.classifiers.loading import usable_gradients
from aigan_tf.config import FORMAT, Config
from aigan_tf.data.datasets import ImageDataset
from aigan_tf.engine.memory import images_per_call
from aigan_tf.evaluation.evaluation_set import EvaluationSet
from aigan_tf.evaluation.measure import Attack
from aigan_tf.workdir import Workdir


@dataclasses.dataclass(frozen=True)
class FinishedRun:
    """What every part of an evaluation needs of a run.

    Args:
        folder: the run's files.
        config: its settings.
        dataset: its data set; the test split is what attacks are measured on.
        classifier: the classifier under attack, images in `[0, 1]` to logits.
        max_attacks: how many attacks are measured at most, drawn if there are more; None for all.
    """

    folder: Workdir
    config: Config
    dataset: ImageDataset
    classifier: Callable
    max_attacks: int | None = None

    @functools.cached_property
    def examples(self) -> EvaluationSet:
        """The test split, with the run's classifier."""
        return self.examples_of(self.classifier)

    def examples_of(self, classifier: Callable) -> EvaluationSet:
        """Returns the test split, with a classifier that may be another one."""
        test = self.dataset.test
        return EvaluationSet(
            classifier, test.as_float(), test.labels, self.dataset.class_names, labelled=self.dataset.has_labels,
            target_classes=target_numbers(self.config, self.dataset), max_attacks=self.max_attacks,
        )  # fmt: skip

    @functools.cached_property
    def has_gradient(self) -> bool:
        """Whether the classifier has a gradient that attacks can follow."""
        return bool(usable_gradients(self.classifier, self.dataset.test.take(slice(0, 16)).as_float()).any())


def run_record(run: FinishedRun, attacks: Mapping[str, Attack], batch_size: int) -> dict:
    """Returns the part of report.json that says where its numbers come from: the run, the attacks' settings, when and how."""
    config, folder = run.config, run.folder
    seconds, queries = folder.training_cost(bool(config.black_box))
    return {
        "format": FORMAT,
        "id": secrets.token_hex(6),  # the same in all files of a report
        "dataset": provenance.without_folders(run.dataset.name),
        "classifier": provenance.without_folders(config.classifier),
        **({} if run.dataset.has_labels else {"labels": "classifier"}),
        "defense": config.defense,
        "black_box": config.black_box,
        "queries": queries,
        "workdir": folder.path.absolute().name,
        "date": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "command": provenance.command(),
        "device": provenance.device_name(),
        "processor": provenance.processor_name(),
        "batch_size": images_per_call(run.dataset.image_shape, batch_size),
        "versions": {"aigan_tf": aigan_tf.__version__, **provenance.package_versions("foolbox")},
        "commit": provenance.commit(),
        "settings": {name: attack.description for name, attack in attacks.items()},
        "generator_training_seconds": seconds,
        "generator_training_device": folder.training_device(),
        "transfer": {},
    }
