"""A whole run: the classifier, stage 1, stage 2, the evaluation, the export."""

import contextlib
import dataclasses
import os
import pathlib
from collections.abc import Callable, Iterator, Sequence

import keras

from aigan_tf import build
from aigan_tf.classifiers import accuracy, architectures, training
from aigan_tf.config import Config, before_they_existed
from aigan_tf.data import batches, datasets
from aigan_tf.data.datasets import ImageDataset
from aigan_tf.engine.distribution import Devices
from aigan_tf.errors import InputError, say
from aigan_tf.evaluation.attacks import ExportedGenerator
from aigan_tf.evaluation.compare import measure_export
from aigan_tf.files import write_json
from aigan_tf.serving.export import ServedGenerator, export_generator, latest_version
from aigan_tf.training.generator import train_generator
from aigan_tf.workdir import Workdir


def train_and_export(
    config: Config,
    workdir: str | os.PathLike,
    data_dir: str | None = None,
    export_classifier: bool = False,
    strategy: str = "none",
) -> dict | None:
    """Trains a generator against a classifier and writes everything into a work folder.

    A run that was interrupted in the same folder is continued after what it saved last.

    Args:
        config: what to do.
        workdir: the work folder; created if need be.
        data_dir: where TFDS data sets lie; None for TFDS's default.
        export_classifier: whether the SavedModel holds the classifier too, for its signature classify.
        strategy: what the generator is trained on; see `Devices`.

    Returns:
        What the evaluation on the test split measured, as in report.json; None in a process that is not the chief.

    Raises:
        InputError: something the user gave cannot be used.
    """
    with open_run(config, workdir, data_dir, strategy) as (folder, dataset, classifier, devices):
        if export_classifier and latest_version(folder.exports):  # of this command, stopped later, or of another
            served = ExportedGenerator(folder, config, dataset.image_shape).loaded.signatures
            if "classify" not in served:
                raise InputError(
                    f"--export_classifier: {workdir} holds an export without the classifier; expected a new run, or --export_again "
                    "to add a version"
                )
        generator = train_generator(config, dataset, classifier, folder, devices).generator
        if not devices.is_chief:
            return None
        if devices.distributed:  # out of the strategy's variables
            generator = build.trained_generator(config, dataset, folder)
        exported = latest_version(folder.exports) or export(
            generator, config, dataset, folder, classifier if export_classifier else None
        )
        # What is measured is what is served: the exported files, loaded again.
        result = measure_export(folder, config, dataset, classifier)
        if config.black_box:
            result["queries"] = folder.training_cost(black_box=True)[1]
            say(f"The classifier was asked about {result['queries']:,} images; its gradients were not used.")
        write_json(folder.report, result)
        say(f"Generator exported to {exported}; pictures are in {folder.samples}.")
        return result


def export_again(
    workdir: str | os.PathLike,
    data_dir: str | None = None,
    export_classifier: bool = False,
    custom_objects: Sequence[str] = (),
) -> pathlib.Path:
    """Exports a finished work folder's generator as the next version; the earlier ones stay.

    Args:
        workdir, data_dir, export_classifier: as in `train_and_export`.
        custom_objects: the Python files that the folder may have run, with export_classifier.

    Returns:
        The new version's folder.

    Raises:
        InputError: the folder does not hold a finished run, or its files cannot be used.
    """
    folder = Workdir(workdir)
    config = workdir.config_of(folder)
    if export_classifier:
        training.refuse_unnamed_python(config, folder, custom_objects)
    dataset = datasets.existing_dataset(config, data_dir, folder)
    generator = build.trained_generator(config, dataset, folder)
    classifier = training.existing_classifier(config, dataset, folder) if export_classifier else None
    with folder.locked():
        exported = export(generator, config, dataset, folder, classifier)
    say(f"Generator exported to {exported}.")
    return exported


def export(
    generator: keras.Model, config: Config, dataset: ImageDataset, folder: Workdir, classifier: Callable | None
) -> pathlib.Path:
    """Writes the next version of the work folder's SavedModel and returns its path; the classifier, if given, is in it."""
    served = ServedGenerator(
        generator,
        dataset.image_shape,
        dataset.class_names,
        config.epsilon,
        config.targeted,
        config.variable_epsilon,
        classifier,
    )
    # Files of this machine are known by their names alone.
    names = {name: pathlib.Path(getattr(config, name)).name for name in ("dataset", "classifier")}
    preset = dataclasses.asdict(config) | names | {"image_shape": dataset.image_shape}
    for path in ("class_names", "custom_objects"):
        del preset[path]
    return export_generator(folder.exports, served, preset, folder.seal)


@contextlib.contextmanager
def open_run(
    config: Config, workdir: str | os.PathLike, data_dir: str | None, strategy: str = "none"
) -> Iterator[tuple[Workdir, ImageDataset, Callable, Devices]]:
    """Yields the work folder, claimed for these settings, the data set, the classifier, trained if need be, and the devices.

    No other run may use the folder while the block lasts. Of several processes the chief does all this, and the others,
    which must see the same folder, only read it once the chief is ready; all leave the block together.

    Raises:
        InputError: something the user gave cannot be used.
    """
    devices = Devices(strategy)  # first: TensorFlow forms a cluster only before it computes anything
    folder = Workdir(workdir)
    if not devices.is_chief:
        say(f"Waiting for the first process, which prepares {folder.path}.")
        with devices.together():
            dataset = datasets.load_dataset(config, data_dir)
            yield folder, dataset, training.existing_classifier(config, dataset, folder), devices
        return
    settings, defaults = dataclasses.asdict(config), before_they_existed()
    folder.check(settings, defaults)
    config.refuse_idle_settings(config)
    if devices.distributed and config.black_box:
        raise InputError(
            f"--strategy={strategy} with --black_box: expected one of them, the local copy is trained on one device: leave "
            "one out"
        )
    if config.batch_size % devices.replicas:
        raise InputError(
            f"--batch_size={config.batch_size} on {devices.replicas} devices: expected a multiple of their number, so that each "
            "trains on as many images: change it"
        )
    dataset = datasets.load_dataset(config, data_dir)
    if config.batch_size > len(dataset.train):
        raise InputError(
            f"--batch_size={config.batch_size}: {config.dataset} has {len(dataset.train)} training images; expected no more "
            "than that: lower it"
        )
    batches.refuse_too_long_shifts(config, dataset.image_shape)
    # What does not fit must be refused before the folder is made.
    if config.black_box:
        architectures.fitting_architecture(config.black_box, dataset.image_shape)
    adopted = None
    if config.is_built_in(config.classifier):
        architectures.fitting_architecture(config.classifier, dataset.image_shape)
    else:
        adopted = training.adopt_classifier(config, dataset)
        if config.defense:
            training.trainable_classifier(config, dataset)
        accuracy.check_accuracy(adopted, dataset.test, dataset.num_classes)
    # Where the user's own files are part of the run, it is another run once they change.
    digests = workdir.digests_of(config, ("dataset", "class_names", "classifier", "custom_objects"), dataset)
    with folder.locked():
        if folder.open(settings, defaults, digests):
            say(f"Continuing in {folder.path}: it holds a run with the same settings.")
        else:
            say(f"Working in {folder.path}.")
        say(
            f"{dataset.name}: {len(dataset.train)} training, {len(dataset.validation)} validation and {len(dataset.test)} test "
            f"images of {' x '.join(map(str, dataset.image_shape))}, {dataset.num_classes} classes."
        )
        classifier = adopted
        if classifier is None:
            classifier = training.trained_classifier(config, dataset, folder)
            accuracy.check_accuracy(classifier, dataset.test, dataset.num_classes)
        elif config.defense:
            classifier = training.hardened_classifier(config, dataset, folder)
            accuracy.check_accuracy(classifier, dataset.test, dataset.num_classes)
        if devices.distributed:
            say(f"The generator is trained on {devices.replicas} devices ({strategy}).")
        with devices.together():
            yield folder, dataset, classifier, devices
