"""train.py: the classifier, both stages, the export and its evaluation."""

import contextlib
import dataclasses
import json
import os
import pathlib
import shlex
from collections.abc import Callable, Iterator, Sequence

from aigan_tf.build import build_generator, only_target, target_numbers, trained_generator
from aigan_tf.checks import check_finished_run, check_new_run
from aigan_tf.classifiers.accuracy import check_accuracy, labelled_by
from aigan_tf.classifiers.architectures import fitting_architecture
from aigan_tf.classifiers.features import features_for
from aigan_tf.classifiers.paths import refuse_unnamed_python
from aigan_tf.classifiers.training import (
    existing_classifier,
    hardened_classifier,
    own_classifier,
    own_trainable_classifier,
    trained_classifier,
)
from aigan_tf.config import FITTED, FORMAT, Config, is_built_in
from aigan_tf.data.batches import refuse_large_batches, refuse_too_long_shifts
from aigan_tf.data.datasets import ImageDataset, existing_dataset, load_dataset, own_folder
from aigan_tf.engine.distribution import Devices
from aigan_tf.engine.precision import has_bfloat16
from aigan_tf.errors import InputError, say
from aigan_tf.evaluation.attacks import GENERATOR, ExportedGenerator
from aigan_tf.evaluation.export_report import measure_export
from aigan_tf.evaluation.report_files import write_measurement
from aigan_tf.exported import check_format
from aigan_tf.files import latest_version, read_bytes
from aigan_tf.method.networks import Generator
from aigan_tf.serving.export import ServedGenerator, export_generator
from aigan_tf.serving.keras_file import write_keras
from aigan_tf.serving.onnx_file import write_onnx
from aigan_tf.terminal import keep_log
from aigan_tf.training.generator import evaluation_attacks, train_generator
from aigan_tf.workdir import Workdir, digests_of


def train_and_export(
    config: Config,
    workdir: str | os.PathLike,
    data_dir: str | None = None,
    export_classifier: bool = False,
    strategy: str = "none",
    extend: bool = False,
) -> dict | None:
    """Trains a generator against a classifier and writes everything into a folder.

    An interrupted run in the same folder continues from its last checkpoint. A run that is given more epochs continues
    with a warm restart of the learning rate; its exported generator stays in use until they are over.

    Args:
        config: the settings.
        workdir: the folder of the run; created if it does not exist.
        data_dir: folder of TFDS data sets; None for TFDS's default.
        export_classifier: whether the SavedModel holds the classifier too, for its signature classify.
        strategy: what the generator is trained on; see `Devices`.
        extend: whether `config` may ask for more epochs of stage 2 than the run in the folder was begun with.

    Returns:
        What the evaluation on the test split measured, as in report.json; None in a process that is not the chief.

    Raises:
        InputError: something the user gave cannot be used.
        DivergedError: a loss became NaN or infinite.
    """
    with open_run(config, workdir, data_dir, strategy, extend) as (config, folder, dataset, classifier, devices):
        exported = _finished_export(folder, config)
        if export_classifier and exported:
            _require_exported_classifier(folder, config, dataset)
        if exported is None or not folder.is_trained:
            attacks = evaluation_attacks(config, dataset)
            features = features_for(config, dataset, folder)
            trained = train_generator(config, dataset, classifier, folder, devices, attacks=attacks, features=features)
            generator = trained.generator
            if devices.distributed:  # a copy outside the strategy, whose variables cannot be exported
                generator = None
                if devices.is_chief:
                    generator = trained_generator(config, dataset, folder, features)
        if not devices.is_chief:
            return None
        exported = exported or export(generator, config, dataset, folder, classifier if export_classifier else None)
        # What is measured is what is served: the exported files, loaded again.
        measured, page = measure_export(folder, config, dataset, classifier)
        result = {"format": FORMAT, **measured}
        if config.black_box:
            result["queries"] = folder.training_cost(black_box=True)[1]
            say(f"The classifier answered {result['queries']:,} queries; its gradients were not used.")
        write_measurement(folder.report, result, page)
        say(f"Generator exported to {exported}; images are in {folder.samples}.")
        say(f"Report: {folder.report.with_suffix('.html')}")
        say(_next_commands(folder, config, dataset))
        return result


def _next_commands(folder, config, dataset):
    """Returns what a user does next with a finished run."""
    path = str(folder.path)
    served = target_numbers(config, dataset) or [-1]
    target = [f"--target={dataset.class_names[served[-1]]}"] if config.targeted else []
    more = [f"--custom_objects={config.custom_objects}"] if config.custom_objects else []
    attacks = GENERATOR if config.black_box else f"{GENERATOR},fgsm,pgd"  # others need the classifier's gradient
    attack = shlex.join(["photo.png", f"--generator={path}", *target, *more])
    compare = shlex.join([f"--workdir={path}", f"--attacks={attacks}", *more])
    return (
        "Next:\n"
        f"  python -m aigan_tf attack {attack}\n"
        f"  python -m aigan_tf evaluate {compare}\n"
        f"  serve {folder.exports} with TensorFlow Serving: docs/serving.md"
    )


def _finished_export(folder, config):
    """Returns the newest export, or None if there is none or it precedes an extension of the run."""
    newest = latest_version(folder.exports)
    if newest and folder.restarts():
        with contextlib.suppress(OSError, ValueError, LookupError, TypeError):
            preset = json.loads(read_bytes(newest / "assets" / "preset.json"))
            return newest if preset["stage2_epochs"] == config.stage2_epochs else None
        return None
    return newest


def _require_exported_classifier(folder, config, dataset):
    """Refuses a finished export that lacks the classifier; the run's first command did not ask for it."""
    if "classify" not in ExportedGenerator(folder, config, dataset.image_shape).loaded.signatures:
        raise InputError(
            f"{folder.exports} holds an export without the classifier",
            "one with it, as `export_classifier` asks",
            f"add a version: python -m aigan_tf export {folder.path} with `export_classifier`",
        )


def export_run(
    workdir: str | os.PathLike,
    data_dir: str | None = None,
    export_classifier: bool = False,
    custom_objects: Sequence[str] = (),
    bfloat16: bool = False,
    file_format: str = "savedmodel",
) -> pathlib.Path:
    """Exports the generator of a finished run: as the next version, or as a file that replaces an earlier one.

    Args:
        workdir, data_dir, export_classifier: as in `train_and_export`.
        custom_objects: the Python files that the run may execute, with `export_classifier`.
        bfloat16: whether the exported generator computes in bfloat16, for a processor with instructions for it.
        file_format: "savedmodel", "onnx" or "keras"; the others take neither the classifier nor bfloat16.

    Returns:
        The new version's folder, or the file.

    Raises:
        InputError: the folder does not hold a finished run, its files cannot be used, or the format cannot be written.
    """
    check_format(file_format, export_classifier, bfloat16)
    folder, config = check_finished_run(workdir, data_dir, custom_objects, with_classifier=export_classifier)
    dataset, classifier = existing_dataset(config, data_dir, folder), None
    if export_classifier or not dataset.has_labels:
        refuse_unnamed_python(config, folder, custom_objects)
        classifier = existing_classifier(config, dataset, folder)
        dataset = labelled_by(classifier, dataset, splits=())
    if bfloat16 and not has_bfloat16():
        say("This CPU has no bfloat16 instructions: the export is for one that has, and here several times slower.")
    weights_of, features = None, features_for(config, dataset, folder)
    if folder.is_trained and not folder.weights.exists():  # shipped: its export alone has them
        generator = build_generator(config, dataset, features)
        weights_of = latest_version(folder.exports)
        folder.verify(weights_of)
    else:
        generator = trained_generator(config, dataset, folder, features)
    classifier = classifier if export_classifier else None
    with folder.locked():
        exported = export(generator, config, dataset, folder, classifier, bfloat16, weights_of, file_format)
    say(f"Generator exported to {exported}.")
    return exported


def export(
    generator: Generator,
    config: Config,
    dataset: ImageDataset,
    folder: Workdir,
    classifier: Callable | None,
    bfloat16: bool = False,
    weights_of: pathlib.Path | None = None,
    file_format: str = "savedmodel",
) -> pathlib.Path:
    """Writes the next version of the run's SavedModel, or a file of another format, and returns its path.

    Args:
        generator: trained, or of any weights if `weights_of` is given.
        config, dataset, folder: of the run.
        classifier: None to leave it out.
        bfloat16: whether the exported generator computes in bfloat16.
        weights_of: an earlier version, for its weights.
        file_format: as in `export_run`.
    """
    served = ServedGenerator(
        generator,
        dataset.image_shape,
        dataset.class_names,
        config.epsilon,
        config.targeted,
        config.variable_epsilon,
        classifier,
        "bfloat16" if bfloat16 else "float32",
    )
    if weights_of:
        served.restore(weights_of)
    say("Exporting the generator.")
    # Paths of this machine are reduced to file names.
    names = {name: pathlib.Path(getattr(config, name)).name for name in ("dataset", "classifier")}
    preset = dataclasses.asdict(config) | names | {"image_shape": dataset.image_shape, "bfloat16": bfloat16}
    for path in ("class_names", "custom_objects", "init_from"):
        del preset[path]
    if file_format == "onnx":
        return write_onnx(folder.path, served, preset)
    if file_format == "keras":
        return write_keras(folder.path, served)
    return export_generator(folder.exports, served, preset, folder.seal)


@contextlib.contextmanager
def open_run(
    config: Config, workdir: str | os.PathLike, data_dir: str | None, strategy: str = "none", extend: bool = False
) -> Iterator[tuple[Config, Workdir, ImageDataset, Callable, Devices]]:
    """Claims the folder for a run; yields its settings, fitted to the images, the folder, the data set, the classifier
    (trained if necessary) and the devices.

    No other run can use the folder while the block lasts. Of several processes the chief prepares the folder; the others
    see the same one and read it once the chief is ready. All leave the block together.

    Raises:
        InputError: something the user gave cannot be used.
    """
    devices = Devices(strategy)  # first: TensorFlow forms a cluster only before it computes anything
    if not devices.is_chief:
        folder = Workdir(workdir)
        say(f"Waiting for the first process, which prepares {folder.path}.")
        with devices.synchronized():
            dataset = load_dataset(config, folder.data_dir(data_dir))
            config = config.fitted(dataset.image_shape, len(dataset.train))
            classifier = existing_classifier(config, dataset, folder)
            yield config, folder, labelled_by(classifier, dataset), classifier, devices
        return
    folder = check_new_run(config, workdir, data_dir, extend)
    # The user's own files are part of the run: if they change, it is another run. Before they are read: a change after
    # that is seen by the next command.
    begins = [] if folder.generator_begun else ["init_from"]
    digests = digests_of(config, ["class_names", "classifier", "custom_objects", *begins, *own_folder(config)])
    config, dataset, own = load_inputs(config, folder.data_dir(data_dir), devices, strategy)
    with folder.locked():
        restarts = folder.restarts()
        continued = folder.open(dataclasses.asdict(config), digests, data_dir, extend)
        keep_log(folder.other_lines)
        say(f"Continuing the run in {folder.path}." if continued else f"Working in {folder.path}.")
        if folder.restarts() != restarts:
            say(f"It now has {config.epochs} epochs; what it has exported stays in use until they are over.")
        say(describe(dataset))
        classifier = own
        if own is None or config.defense:
            train = trained_classifier if own is None else hardened_classifier
            classifier = train(config, dataset, folder)
            check_accuracy(classifier, dataset.test, dataset.num_classes, class_names=dataset.class_names)
        if devices.distributed:
            say(f"The generator is trained on {devices.replicas} devices ({strategy}).")
        with devices.synchronized():
            yield config, folder, dataset, classifier, devices


def load_inputs(
    config: Config, data_dir: str | None, devices: Devices, strategy: str
) -> tuple[Config, ImageDataset, Callable | None]:
    """Returns the settings, fitted to the images, the data set, and the user's own classifier if there is one, after checking
    that all settings fit them.

    Raises:
        InputError: something does not fit.
    """
    dataset = load_dataset(config, data_dir)
    config = _fitted(config, dataset)
    _refuse_unfit_devices(config, devices, strategy)
    own = _fitting_classifier(config, dataset)
    dataset = dataset if own is None else labelled_by(own, dataset)
    refuse_large_batches(config, dataset.train, only_target(config, dataset))
    return config, dataset, own


def _fitted(config, dataset):
    """Returns the settings fitted to the images, and prints what these decide."""
    fitted = config.fitted(dataset.image_shape, len(dataset.train))
    values = {name: getattr(fitted, name) for name in FITTED if getattr(config, name) is None}
    if values:
        say(f"For images of this size: {', '.join(f'{name}={value:.3g}' for name, value in values.items())}")
    return fitted


def describe(dataset: ImageDataset) -> str:
    """Returns a data set's numbers of images and classes as a sentence."""
    return (
        f"{dataset.name}: {len(dataset.train)} training, {len(dataset.validation)} validation and "
        f"{len(dataset.test)} test images of {' x '.join(map(str, dataset.image_shape))}, {dataset.num_classes} classes."
    )


def _refuse_unfit_devices(config, devices, strategy):
    if devices.distributed and config.black_box:
        raise InputError(
            strategy,
            "no `black_box` beside it, since a surrogate is trained on one device",
            "leave one of them out",
            setting="strategy",
        )
    if config.batch_size % devices.replicas:
        raise InputError(
            config.batch_size,
            f"a multiple of the {devices.replicas} devices, so that each trains on as many images",
            f"give e.g. {max(config.batch_size // devices.replicas, 1) * devices.replicas}",
            setting="batch_size",
        )


def _fitting_classifier(config, dataset):
    """Refuses what does not fit the data set, before the folder is made; returns the user's own classifier, or None."""
    refuse_large_batches(config, dataset.train)
    refuse_too_long_shifts(config, dataset.image_shape)
    if config.black_box:
        fitting_architecture(config.black_box, dataset.image_shape, "black_box")
    if is_built_in(config.classifier):
        dataset.require_labels(config.classifier, "classifier")
        fitting_architecture(config.classifier, dataset.image_shape)
        return None
    if config.defense:
        dataset.require_labels(config.defense, "defense")
    classifier = own_classifier(config, dataset)
    if config.defense:
        own_trainable_classifier(config, dataset)
    else:
        features_for(config, dataset)  # refuses what cannot be seen
    if dataset.has_labels:
        check_accuracy(classifier, dataset.test, dataset.num_classes, class_names=dataset.class_names)
    return classifier
