"""evaluate.py: measures what a finished run left in its work folder, from its files alone, beside other attacks."""

import contextlib
import dataclasses
import math
import os
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from aigan_tf import provenance
from aigan_tf.classifiers import accuracy, training
from aigan_tf.classifiers.loading import has_usable_gradient
from aigan_tf.config import Config
from aigan_tf.data import datasets
from aigan_tf.data.datasets import ImageDataset
from aigan_tf.errors import InputError
from aigan_tf.evaluation import caveats, figures, foolbox_attacks, html_page, tables
from aigan_tf.evaluation.attacks import (
    ADVGAN,
    ATTACKS,
    GENERATOR,
    GENERATOR_ATTACKS,
    STAGE1,
    ExportedGenerator,
    build_attacks,
)
from aigan_tf.evaluation.curves import CURVE_EXAMPLES, success_curve, success_curves
from aigan_tf.evaluation.image_folder import ImageFolder
from aigan_tf.evaluation.measure import Attack, EvaluationSet, evaluate_attack, evaluate_attacks
from aigan_tf.evaluation.transfer import transfer_classifiers
from aigan_tf.files import report_folder, user_path, write_report
from aigan_tf.provenance import commit, package_versions
from aigan_tf.workdir import Workdir

COMPARED_BATCH = 100  # images a batch, of every attack: milliseconds an image depend on it
COMPARED_EXAMPLES = 1000  # test images of a comparison: the other attacks take a hundred times as long


def evaluate_workdir(
    workdir: str | os.PathLike,
    data_dir: str | None = None,
    attacks: Sequence[str] = (GENERATOR,),
    num_examples: int | None = None,
    output: str | None = None,
    transfer_to: Sequence[str] = (),
    save_images: str | None = None,
    robust_against: Sequence[str] = (),
    custom_objects: Sequence[str] = (),
) -> dict:
    """Evaluates a work folder's exported generator on the test split, as TF Serving would run it.

    Args:
        workdir: the work folder of a finished run.
        data_dir: where TFDS data sets lie; None for TFDS's default.
        attacks: what to measure on the same images, some of `ATTACKS`.
        num_examples: how many test images, from the first; 0 for all; None for all, or for
            `COMPARED_EXAMPLES` beside foolbox's attacks.
        output: folder for report.json, report.csv and report.html; None for evaluation/ in the work folder.
        transfer_to: other classifiers the generator's pictures are shown to: work folders, files, or names of
            those that can be trained here.
        save_images: folder for the adversarial pictures and their manifest; it must be new or empty.
        robust_against: foolbox's attacks, by name, under which the classifier's accuracy is measured too, untargeted.
        custom_objects: Python files that the classifiers may have run, as in `training.refuse_unnamed_python`.

    Returns:
        What was measured, as in report.json.

    Raises:
        InputError: the folder, its files or the output cannot be used.
    """
    folder = Workdir(workdir)
    config = workdir.config_of(folder)
    training.refuse_unnamed_python(config, folder, custom_objects)
    unknown = [name for name in attacks if name not in ATTACKS]
    if unknown or not attacks:
        raise InputError(
            f"--attacks={','.join(attacks)}: {unknown[0] if unknown else 'none'!r} is no attack; expected some of "
            f"{', '.join(ATTACKS)}, by comma: correct it"
        )
    if num_examples is None:
        num_examples = 0 if set(attacks) <= GENERATOR_ATTACKS.keys() else COMPARED_EXAMPLES
    if num_examples < 0:
        raise InputError(f"--num_examples={num_examples}: expected 0 (all) or more; give e.g. 1000")
    if transfer_to and GENERATOR not in attacks:
        raise InputError(f"--transfer_to without {GENERATOR} in --attacks: expected both, it is what is shown: add it")
    output = report_folder(user_path(output) if output else folder.evaluation, "report")
    dataset = datasets.existing_dataset(config, data_dir, folder)
    pictures = contextlib.nullcontext()
    if save_images:
        pictures = ImageFolder(user_path(save_images), dataset.class_names, config.targeted, dataset.test.files)
    # One graph for all attacks, each of which would make its own.
    classifier = tf.function(training.existing_classifier(config, dataset, folder), reduce_retracing=True)
    dataset = dataclasses.replace(dataset, test=dataset.test.take(slice(0, num_examples or None)))
    accuracy.check_accuracy(classifier, dataset.test, dataset.num_classes)
    chosen = build_attacks(attacks, folder, config, dataset, classifier)
    if robust_against and not has_usable_gradient(classifier, dataset.test.take(slice(0, 16)).as_float()):
        raise InputError(
            f"--workdir={folder.path}: its classifier has no usable gradient; expected one to measure how it holds against "
            f"{' and '.join(robust_against)}: leave it out"
        )
    others = transfer_classifiers(transfer_to, config, dataset, folder, custom_objects)
    for name, other in others.items():  # said, and refused where it gets nothing right, before hours are spent
        accuracy.check_accuracy(other, dataset.test, dataset.num_classes, f"test images ({name})")
    examples = examples_of(dataset, classifier)
    with pictures:
        keep = pictures.keep if save_images else None
        result = compare(config, examples, dataset.name, chosen, folder, keep, bool(robust_against))
        for name, other in others.items():
            print(f"Showing {GENERATOR}'s pictures to {name}.", flush=True)
            result["transfer"][name] = evaluate_attack(
                chosen[GENERATOR].run,
                examples_of(dataset, other),
                config.epsilon,
                config.targeted,
                config.seed,
                progress=name,
            )
    result["robust_accuracy"] = {name: robust_accuracy(name, config, examples) for name in robust_against}
    _print(result)
    rows = [{"name": name, **_flat(row)} for name, row in (result["attacks"] | result["transfer"]).items()]
    drawn = _drawn(config, examples, dataset.name, chosen) if GENERATOR_ATTACKS.keys() & chosen.keys() else None
    write_report(output, "report", result, rows, html_page.comparison_page(result, drawn))
    return result


def examples_of(dataset: ImageDataset, classifier: Callable) -> EvaluationSet:
    """Returns the test split as what `classifier` is attacked on."""
    return EvaluationSet(classifier, dataset.test.as_float(), dataset.test.labels, dataset.class_names)


def compare(
    config: Config,
    examples: EvaluationSet,
    dataset_name: str,
    attacks: dict[str, Attack],
    folder: Workdir,
    keep: Callable | None = None,
    untargeted_too: bool = False,
) -> dict:
    """Measures attacks on the same images.

    All take the same targets, but for an attack that knows only some, or is too slow for all.

    Args:
        config: the settings of the run.
        examples: classifier and images.
        dataset_name: for the record.
        attacks: by name.
        folder: the run's work folder.
        keep: as in `evaluate`.
        untargeted_too: whether the classifier is going to be attacked untargeted as well, by its gradient.

    Returns:
        The settings, and under `attacks` a dict for each attack as `evaluate` returns it.
    """
    training, queries = folder.training_cost(bool(config.black_box))  # first: it may be refused
    rows = evaluate_attacks(
        attacks, examples, config.epsilon, config.targeted, config.seed, COMPARED_BATCH, keep, progress=True
    )
    warnings = caveats.comparison_warnings(rows)
    # Of a black box that no attack here follows, it would say nothing.
    if not (config.black_box and foolbox_attacks.SETTINGS.keys().isdisjoint(rows)):
        warnings += caveats.gradient_masking_warnings(examples, config.targeted)
    if untargeted_too and config.targeted:
        warnings += caveats.gradient_masking_warnings(examples, False)
    result = {
        "dataset": dataset_name,
        "classifier": config.classifier,
        "defense": config.defense,
        "black_box": config.black_box,
        "queries": queries,
        "workdir": str(folder.path),
        "device": provenance.device_name(),
        "processor": provenance.processor_name(),
        "batch_size": COMPARED_BATCH,
        "versions": package_versions("foolbox"),
        "commit": commit(),
        "settings": {name: attack.description for name, attack in attacks.items()},
        "warnings": warnings,
        "generator_training_seconds": training,
        "generator_training_device": folder.training_device(),
        "attacks": rows,
        "success_by_epsilon": success_curves(config, examples, attacks),
        "transfer": {},
    }
    if "pgd" in rows and GENERATOR in rows:
        times = (rows[name]["milliseconds_per_image"] for name in ("pgd", GENERATOR))
        result["images_until_training_is_paid_for"] = images_until_paid_for(training, *times)
    if ADVGAN in rows and GENERATOR in rows:
        result["mean_success_on_advgan_targets"] = caveats.mean_success(rows, (GENERATOR, ADVGAN))
    return result


def images_until_paid_for(training_seconds: float, milliseconds: float, generator_milliseconds: float) -> int | None:
    """Returns after how many images training and then generating has taken less time than another attack; None for never.

    Args:
        training_seconds: of the generator.
        milliseconds, generator_milliseconds: an image, of the other attack and of the generator.
    """
    saved = (milliseconds - generator_milliseconds) / 1000
    return math.ceil(training_seconds / saved) if saved > 0 else None


def robust_accuracy(name: str, config: Config, examples: EvaluationSet) -> float:
    """Returns the share of images that the classifier gets right also under foolbox's untargeted attack."""
    attack = foolbox_attacks.baseline(name, examples.classifier, config.epsilon, targeted=False, seed=config.seed)
    measured = evaluate_attack(
        attack,
        examples,
        config.epsilon,
        targeted=False,
        seed=config.seed,
        batch_size=100,
        progress=f"{name}, untargeted",
    )
    return measured["clean_accuracy"] * (1 - measured["success_rate"])


def measure_export(folder: Workdir, config: Config, dataset: ImageDataset, classifier: Callable) -> dict:
    """Measures and prints what the newest exported generator does to the test split.

    Raises:
        InputError: the export cannot be loaded.
    """
    generator = ExportedGenerator(folder, config, dataset.image_shape)
    examples = examples_of(dataset, classifier)
    measured = evaluate_attack(generator, examples, config.epsilon, config.targeted, config.seed)
    result = {**measured, "device": provenance.device_name()}
    print(tables.success_table(result), flush=True)
    if config.variable_epsilon:
        result["success_by_epsilon"] = success_curve(
            GENERATOR, generator.within, config, examples.first_correct(CURVE_EXAMPLES)
        )
        print(tables.epsilon_table(result["success_by_epsilon"]), flush=True)
    return result


def _print(result):
    print(tables.aligned(tables.comparison_rows(result["attacks"])), flush=True)
    if result["transfer"]:
        print("The same generator's pictures, shown to classifiers it was not trained on:")
        print(tables.aligned(tables.comparison_rows(result["transfer"])), flush=True)
    warnings = [f"WARNING: {warning}" for warning in result["warnings"]]
    for line in (*warnings, tables.black_box_note(result), tables.paid_for(result), tables.beside_advgan(result)):
        if line:
            print(line, flush=True)


def _flat(row):
    low, high = row["success_interval"]
    flat = {name: value for name, value in row.items() if not isinstance(value, dict | list)}
    return flat | {"success_interval_low": low, "success_interval_high": high}


def _drawn(config, examples, dataset_name, attacks):
    """The paper's grid: an image of each class, what each generator adds to it, and what comes of it."""
    names, num_classes = examples.class_names, len(examples.class_names)
    # All generators are asked for what the one that knows fewest classes can do.
    known = attacks[ADVGAN].target_classes if ADVGAN in attacks else range(num_classes)
    right = examples.correct
    if config.targeted and len(known) == 1:
        right = right & (examples.labels != known[0])
    shown = np.concatenate([np.flatnonzero(right & (examples.labels == k))[:1] for k in range(num_classes)])[:10]
    images, labels = examples.images[shown], examples.labels[shown]
    classes = labels
    if config.targeted:
        others = [[k for k in known if k != label] for label in labels]
        classes = np.array([aims[i % len(aims)] for i, aims in enumerate(others)], np.int32)
    rows = {"clean": images}
    for name in (STAGE1, GENERATOR, ADVGAN):
        if name in attacks:
            made = np.asarray(attacks[name].run(tf.constant(images), tf.constant(classes)))
            rows[f"{name}\npicture"] = made
            rows[f"{name}\nmagnified"] = figures.magnified(images, made, config.epsilon)
    captions = [
        f"{names[label]}\naim: {'' if config.targeted else 'not '}{names[k]}"
        for label, k in zip(labels, classes, strict=True)
    ]
    return figures.picture_grid(
        rows, captions, f"{dataset_name}, epsilon {255 * config.epsilon:.3g} of 255 grey levels"
    )
