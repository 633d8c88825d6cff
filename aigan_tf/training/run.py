"""A whole run: the classifier, stage 1, stage 2, the evaluation, the export."""

import contextlib
import dataclasses
import functools
import io
import os
import pathlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import keras
import numpy as np
import tensorflow as tf

from aigan_tf import preparation
from aigan_tf.build import build_advgan, build_aigan, steps_per_epoch
from aigan_tf.classifiers import architectures, training
from aigan_tf.classifiers.black_box import BlackBox, DynamicDistillation
from aigan_tf.config import Config, before_they_existed
from aigan_tf.data.batches import evaluation_batches, training_batches
from aigan_tf.data.datasets import ImageDataset
from aigan_tf.engine.callbacks import MetricsHistory, Progress, StageSwitch, events_anew
from aigan_tf.engine.checkpoints import Checkpoint, state_of
from aigan_tf.engine.distribution import Devices
from aigan_tf.engine.precision import MixedPrecision
from aigan_tf.errors import InputError
from aigan_tf.evaluation import figures
from aigan_tf.evaluation.attacks import ExportedGenerator
from aigan_tf.evaluation.compare import measure_export
from aigan_tf.files import atomic_file, write_bytes, write_json
from aigan_tf.method.aigan import AIGAN, spread_target_classes
from aigan_tf.method.failures import QuietFailures, StopNotFinite
from aigan_tf.preparation import say
from aigan_tf.serving.export import ServedGenerator, export_generator, latest_version
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
            generator = preparation.trained_generator(config, dataset, folder)
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
    config = preparation.config_of(folder)
    if export_classifier:
        preparation.refuse_unnamed_python(config, folder, custom_objects)
    dataset = preparation.existing_dataset(config, data_dir, folder)
    generator = preparation.trained_generator(config, dataset, folder)
    classifier = preparation.existing_classifier(config, dataset, folder) if export_classifier else None
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
            dataset = preparation.load_dataset(config, data_dir)
            yield folder, dataset, preparation.existing_classifier(config, dataset, folder), devices
        return
    settings, defaults = dataclasses.asdict(config), before_they_existed()
    folder.check(settings, defaults)
    preparation.refuse_idle_settings(config)
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
    dataset = preparation.load_dataset(config, data_dir)
    if config.batch_size > len(dataset.train):
        raise InputError(
            f"--batch_size={config.batch_size}: {config.dataset} has {len(dataset.train)} training images; expected no more "
            "than that: lower it"
        )
    preparation.refuse_too_long_shifts(config, dataset.image_shape)
    # What does not fit must be refused before the folder is made.
    if config.black_box:
        architectures.fitting_architecture(config.black_box, dataset.image_shape)
    adopted = None
    if preparation.is_built_in(config.classifier):
        architectures.fitting_architecture(config.classifier, dataset.image_shape)
    else:
        adopted = preparation.adopt_classifier(config, dataset)
        if config.defense:
            preparation.trainable_classifier(config, dataset)
        preparation.check_accuracy(adopted, dataset.test, dataset.num_classes)
    # Where the user's own files are part of the run, it is another run once they change.
    digests = preparation.digests_of(config, ("dataset", "class_names", "classifier", "custom_objects"), dataset)
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
            preparation.check_accuracy(classifier, dataset.test, dataset.num_classes)
        elif config.defense:
            classifier = training.hardened_classifier(config, dataset, folder)
            preparation.check_accuracy(classifier, dataset.test, dataset.num_classes)
        if devices.distributed:
            say(f"The generator is trained on {devices.replicas} devices ({strategy}).")
        with devices.together():
            yield folder, dataset, classifier, devices


def train_generator(
    config: Config, dataset: ImageDataset, classifier: Callable, folder: Workdir, devices: Devices | None = None
) -> AIGAN:
    """Runs both stages, or what is left of them, and returns the trained model; `devices` None is one device."""
    devices = devices or Devices()
    attacked, distillation, saved = classifier, [], {}
    if config.black_box:
        black_box = BlackBox(classifier)
        copy, answered = training.local_copy(config, dataset, folder, black_box)
        attacked = functools.partial(copy, training=False)  # not frozen: its weights follow the answers
        optimizer = keras.optimizers.Adam(1e-4)  # the copy is trained already: it only follows the generator
        distillation = [
            DynamicDistillation(
                copy,
                optimizer,
                black_box,
                answered.train,
                dataset.train.labels,
                config.queries_per_epoch,
                seed=config.seed,
            )
        ]
        saved = {"copy": copy, "copy_optimizer": optimizer, "queries": black_box.queries}
        say(f"The generator is trained against the copy; its success in training is that against {config.black_box}.")
    with devices.strategy.scope():
        aigan = build_aigan(config, dataset, attacked, config.epochs * steps_per_epoch(config, dataset))

    def end_stage1():
        if devices.is_chief:
            save_generator(aigan, folder.stage1_weights)
            write_samples(aigan, dataset, folder)

    automatic = config.switch == "auto" and config.stage2_epochs > 0
    success = config.switch_success if automatic else None
    switch = StageSwitch(config.stage1_epochs, config.epochs, success, end_stage1)
    trained = fit(aigan, config, dataset, folder, config.epochs, devices, [switch], saved, distillation)
    if trained and devices.is_chief:
        write_samples(aigan, dataset, folder)
        save_generator(aigan, folder.weights)
    return aigan


def fit(
    aigan: AIGAN,
    config: Config,
    dataset: ImageDataset,
    folder: Workdir,
    epochs: int,
    devices: Devices,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    saved: Mapping[str, object] | None = None,
    distillation: Sequence[keras.callbacks.Callback] = (),
) -> bool:
    """Trains a model up to `epochs`, going on after the last step that `folder` holds.

    `distillation` has losses of its own: it comes before what looks at them, `callbacks` and what else writes after.

    Returns:
        True where it trained: the caller then writes `folder.weights`, last of all. False where they are there; they are
        loaded. Only the chief writes.
    """
    if folder.weights.exists():  # written last: training is over, whatever has become of its checkpoints
        preparation.load_weights(aigan.generator, folder.weights, "expected what train.py wrote: restore it")
        return False
    history = MetricsHistory(folder.metrics, folder.logs)
    checkpoint = Checkpoint(
        folder.checkpoints / "aigan", **state_of(aigan), epoch_seconds=history.epoch_seconds, **(saved or {})
    )
    steps = steps_per_epoch(config, dataset)
    steps_done = checkpoint.restore()
    if devices.is_chief:
        history.restore(steps_done // steps)
    if steps_done:
        say(f"Continuing the generator after step {steps_done} of {epochs * steps}, in stage {aigan.stage}.")
    success = aigan.success_rate.name
    say(f"Training the generator: {config.attack}, epsilon {config.epsilon:.4g}, {steps} steps an epoch.")
    began = time.perf_counter()
    batches_from = functools.partial(
        training_batches, dataset.train, config.batch_size, config.seed, max_shift=config.max_shift, flip=config.flip
    )
    with (
        MixedPrecision(config.mixed_precision, (aigan.generator, aigan.discriminator)) as precision,
        checkpoint if devices.is_chief else contextlib.nullcontext(),
        contextlib.closing(history),
    ):
        devices.fit(
            aigan,
            batches_from,
            steps_per_epoch=steps,
            steps_done=steps_done,
            epochs=epochs,
            validation_data=evaluation_batches(dataset.validation, 500),
            callbacks=[
                precision,
                Progress(
                    ["generator_loss", success, "perturbation_l2", f"val_{success}", "val_perturbation_l2"],
                    epochs,
                    show_stage=len(callbacks) > 0,
                ),
                *distillation,
                StopNotFinite(checkpoint.what_is_kept, "lower --learning_rate, in another --workdir"),
                QuietFailures(aigan, dataset.validation.take(slice(0, 16)).as_float()),
                *callbacks,
                *([history, checkpoint] if devices.is_chief else []),
            ],
        )
    say(f"Trained for {time.perf_counter() - began:.0f} s.")
    return True


def save_generator(aigan: AIGAN, path: pathlib.Path) -> None:
    """Writes the generator's weights into a work folder, whole or not at all."""
    weights = _WeightsInMemory()
    aigan.generator.save_weights(weights)
    with atomic_file(path) as temporary:
        temporary.write_bytes(weights.getvalue())
        Workdir(path.parent).seal(path, temporary)


class _WeightsInMemory(io.BytesIO):
    """Where Keras writes weights in place of a file: HDF5 crashes the process when a disk is full."""

    def __str__(self):
        return "generator.weights.h5"  # Keras insists on the ending


def train_advgan(
    config: Config,
    workdir: str | os.PathLike,
    data_dir: str | None = None,
    target_classes: str = "all",
    epochs: int | None = None,
    strategy: str = "none",
) -> None:
    """Trains AdvGAN, one generator for each target class, beside the AI-GAN of a work folder.

    Each lies in advgan/CLASS (its number) of the folder and attacks the folder's classifier. Interrupted
    training is continued, finished training is left as it is.

    Args:
        config: as in `train_and_export`; the same settings as the folder's.
        workdir, data_dir: as in `train_and_export`.
        target_classes: "all", or numbers or names of classes, by comma.
        epochs: how many each generator is trained; None for as many as both of AI-GAN's stages.
        strategy: what each is trained on; see `Devices`.

    Raises:
        InputError: something the user gave cannot be used.
    """
    if not config.targeted:
        raise InputError(
            "--method=advgan with --attack=untargeted: expected targeted, AdvGAN has a target class: change one"
        )
    if config.black_box:
        raise InputError(
            "--method=advgan with --black_box: expected one of them, AdvGAN follows gradients here: leave one out"
        )
    if epochs is not None and epochs < 1:
        raise InputError(f"--advgan_epochs={epochs}: expected 1 or more; give e.g. {config.epochs}")
    epochs = epochs or config.epochs
    if strategy == "multiworker":
        raise InputError(
            "--method=advgan with --strategy=multiworker: expected none or mirrored, a generator of one class is soon trained: "
            "choose one of them"
        )
    # Before the folder is made, so that a mistyped class leaves nothing behind.
    dataset = preparation.load_dataset(config, data_dir)
    targets = classes_named(target_classes, dataset.class_names)
    for target in targets:
        left = int((dataset.train.labels != target).sum())
        if left < config.batch_size:
            raise InputError(
                f"--batch_size={config.batch_size}: AdvGAN for {dataset.class_names[target]} trains on the {left} training "
                "images of other classes; expected no more than that: lower it"
            )
    with open_run(config, workdir, data_dir, strategy) as (folder, dataset, classifier, devices):
        for target in targets:
            own = Workdir(folder.advgan / str(target))
            settings = {"target_class": target, "advgan_epochs": epochs}
            own.open(settings, settings, {})
            say(f"AdvGAN for target class {dataset.class_names[target]}, {epochs} epochs, in {own.path}.")

            def others(split, target=target):
                return split.take(np.flatnonzero(split.labels != target))

            images = dataclasses.replace(dataset, train=others(dataset.train), validation=others(dataset.validation))
            with devices.strategy.scope():
                advgan = build_advgan(config, images, classifier, target, epochs)
            if fit(advgan, config, images, own, epochs, devices):
                save_generator(advgan, own.weights)


def classes_named(text: str, class_names: Sequence[str]) -> list[int]:
    """Returns the classes that `text` names: "all", or their numbers or names by comma.

    Raises:
        InputError: there is no such class.
    """
    if text == "all":
        return list(range(len(class_names)))
    numbers = []
    for name in (part.strip() for part in text.split(",")):
        if name in class_names:
            numbers.append(class_names.index(name))
        elif name.isdecimal() and int(name) < len(class_names):
            numbers.append(int(name))
        else:
            raise InputError(
                f"--target_class={text}: there is no class {name!r}; expected all, or names or numbers from 0 to "
                f"{len(class_names) - 1}, by comma: correct it"
            )
    return list(dict.fromkeys(numbers))


def write_samples(aigan: AIGAN, dataset: ImageDataset, folder: Workdir) -> None:
    """Draws one validation image of each of up to ten classes, as PNG and for TensorBoard."""
    split = dataset.validation
    shown = [int(np.argmax(split.labels == k)) for k in range(dataset.num_classes) if (split.labels == k).any()][:10]
    images, labels = split.take(np.array(shown)).as_float(), split.labels[shown]
    classes = spread_target_classes(tf.constant(labels), dataset.num_classes) if aigan.targeted else tf.constant(labels)
    adversarial_images = aigan(images, classes).numpy()
    answers = np.argmax(aigan.classifier(adversarial_images), axis=-1)
    names = dataset.class_names
    aims = [f"aim: {names[k]}" if aigan.targeted else f"aim: not {names[k]}" for k in classes.numpy()]
    titles = [
        f"{names[label]}\n{aim}\nanswer: {names[answer]}"
        for label, aim, answer in zip(labels, aims, answers, strict=True)
    ]
    heading = f"{dataset.name}, end of stage {aigan.stage}: epsilon {aigan.epsilon:.3g}"
    rows = {
        "clean": images,
        "perturbation,\nmagnified": figures.magnified(images, adversarial_images, aigan.epsilon),
        "adversarial": adversarial_images,
    }
    png = figures.picture_grid(rows, titles, heading)
    write_bytes(folder.samples / f"stage{aigan.stage}.png", png)
    events = events_anew(folder.logs / "samples", f".stage{aigan.stage}")
    with events.as_default():
        tf.summary.image(f"stage{aigan.stage}", tf.io.decode_png(png)[tf.newaxis], step=aigan.steps_done)
    events.close()
