"""evaluate.py: measures a finished run's generator from its files alone, beside other attacks on the same images."""

import contextlib
import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence

from aigan_tf.checks import check_evaluation, check_finished_run
from aigan_tf.classifiers import accuracy, training
from aigan_tf.data import datasets
from aigan_tf.engine.traced_graph import GraphClassifier
from aigan_tf.errors import InputError, say
from aigan_tf.evaluation import caveats, foolbox_attacks, tables
from aigan_tf.evaluation.attacks import ADVGAN, GENERATOR, build_attacks, follows_gradient
from aigan_tf.evaluation.comparison_page import comparison_page
from aigan_tf.evaluation.curves import success_curves
from aigan_tf.evaluation.examples import examples_of
from aigan_tf.evaluation.finished_run import FinishedRun, run_record
from aigan_tf.evaluation.image_folder import ImageFolder
from aigan_tf.evaluation.measure import Attack, max_attacks, measure_attack, measure_attacks
from aigan_tf.evaluation.report_files import check_place, report_parts, write_report
from aigan_tf.evaluation.transfer import transfer_classifiers
from aigan_tf.files import different_names, user_path
from aigan_tf.provenance import without_folders
from aigan_tf.workdir import Workdir

COMPARED_BATCH = 100  # images per batch, fewer if large, for every attack: the time per image depends on it
COMPARED_EXAMPLES = 1000  # test images of a comparison: attacks that follow gradients are up to a hundred times slower


def evaluate_workdir(
    workdir: str | os.PathLike,
    data_dir: str | None = None,
    attacks: Sequence[str] = (GENERATOR,),
    num_examples: int | None = None,
    output: str | None = None,
    transfer_to: Sequence[str] = (),
    save_images: str | None = None,
    custom_objects: Sequence[str] = (),
) -> dict:
    """Measures attacks on the test split of a finished run, and writes a report into a new folder.

    Args:
        workdir, data_dir, attacks, num_examples, transfer_to, save_images, custom_objects: as in `measure_workdir`.
        output: the new folder, for report.html, report.json and report.csv; None for one in evaluation/ of the run's
            folder, named by the time, which the text file evaluation/latest then names.

    Returns:
        What was measured, as in report.json.

    Raises:
        InputError: as in `measure_workdir`, or `output` exists or cannot be written.
    """
    evaluation = Workdir(workdir).evaluation
    check_place(evaluation, output, save_images)
    result, parts = measure_workdir(
        workdir, data_dir, attacks, num_examples, transfer_to, save_images, custom_objects=custom_objects
    )
    write_report(evaluation, output, parts, tables.comparison_text(result))
    return result


def measure_workdir(
    workdir: str | os.PathLike,
    data_dir: str | None = None,
    attacks: Sequence[str] = (GENERATOR,),
    num_examples: int | None = None,
    transfer_to: Sequence[str] = (),
    save_images: str | None = None,
    robust_against: Sequence[str] = (),
    custom_objects: Sequence[str] = (),
) -> tuple[dict, dict[str, bytes]]:
    """Measures attacks on the test split of a finished run; the exported generator runs as TF Serving would run it.

    Args:
        workdir: the folder of a finished run.
        data_dir: folder of TFDS data sets; None for TFDS's default.
        attacks: what to measure on the same images, some of `config.ATTACKS`, with a number for N.
        num_examples: how many test images, from the first; 0 for all; None for all, or for `COMPARED_EXAMPLES` if
            attacks that follow the classifier's gradient are measured too.
        transfer_to: other classifiers that the generator's images are shown to: folders of runs, model files, or
            architectures, which are trained.
        save_images: folder for the adversarial images and their manifest; new or empty.
        robust_against: foolbox's attacks under which the classifier's accuracy is measured too, untargeted.
        custom_objects: Python files that the classifiers may execute, as in `paths.refuse_unnamed_python`.

    Returns:
        What was measured, as in report.json, and the report's files.

    Raises:
        InputError: the folder or its files cannot be used.
    """
    check_evaluation(attacks, num_examples, transfer_to)
    folder, config = check_finished_run(workdir, data_dir, custom_objects)
    dataset = datasets.existing_dataset(config, data_dir, folder)
    if robust_against:
        dataset.require_labels(folder.path, "workdir")
    run = _loaded(folder, config, dataset, attacks, num_examples)
    images = contextlib.nullcontext()
    if save_images:
        images = ImageFolder(user_path(save_images), run.dataset.class_names, config.targeted, run.dataset.test.files)
    with images:  # first: a place may be refused
        chosen = build_attacks(attacks, run)
        _check_gradient(run, robust_against)
        others = transfer_classifiers(transfer_to, run, custom_objects)
        for name, classifier in others.items():  # refused before hours are spent if it gets no image right
            kind = name if run.dataset.has_labels else f"{name}; labels: the other's answers"
            test, names = run.dataset.test, run.dataset.class_names
            accuracy.check_accuracy(classifier, test, len(names), f"test images ({kind})", names)
        others = dict(zip(different_names(map(without_folders, others)), others.values(), strict=True))  # for reports
        result = compare(run, chosen, images.keep if save_images else None, bool(robust_against))
        result["transfer"] = {name: _transfer(run, chosen[GENERATOR], name, others[name]) for name in others}
    result["robust_accuracy"] = {name: _robust_accuracy(run, name) for name in robust_against}
    page = comparison_page(result, examples_of(run, chosen))
    return result, report_parts("report", result, _csv_rows(result), page)


def _loaded(folder, config, dataset, attacks, num_examples):
    """Returns the run with the first images of its test split, after checking its classifier on them."""
    limit = max_attacks(dataset.image_shape) if num_examples is None else None
    if num_examples is None:
        num_examples = COMPARED_EXAMPLES if any(map(follows_gradient, attacks)) else 0
    # One graph for all attacks, each of which would trace its own.
    classifier = GraphClassifier.of(training.existing_classifier(config, dataset, folder))
    dataset = dataclasses.replace(dataset, test=dataset.test.take(slice(0, num_examples or None)))
    dataset = accuracy.labelled_by(classifier, dataset, splits=("test",))
    if dataset.has_labels:
        accuracy.check_accuracy(classifier, dataset.test, dataset.num_classes, class_names=dataset.class_names)
    return FinishedRun(folder, config, dataset, classifier, limit)


def _check_gradient(run, robust_against):
    if robust_against and not run.has_gradient:
        raise InputError(
            run.folder.path,
            f"one to measure its accuracy under {' and '.join(robust_against)}",
            "leave it out",
            setting="workdir",
            problem="has a classifier without a usable gradient",
        )


def compare(
    run: FinishedRun,
    attacks: Mapping[str, Attack],
    keep: Callable | None = None,
    untargeted_too: bool = False,
) -> dict:
    """Measures attacks on the same images of a run.

    All have the same targets, except attacks that know only some, or are too slow for all.

    Args:
        run: the run.
        attacks: by name.
        keep: as in `measure_attacks`.
        untargeted_too: whether the classifier's gradient will be attacked untargeted as well.

    Returns:
        report.json: where the numbers come from, and under `attacks` a dict per attack, `AttackResult.to_dict()`.
    """
    config = run.config
    record = run_record(run, attacks, COMPARED_BATCH)  # first: a file may be refused
    results = measure_attacks(
        attacks, run.examples, config.epsilon, config.targeted, config.seed, COMPARED_BATCH, keep=keep, progress=True
    )
    rows = {name: result.to_dict() for name, result in results.items()}
    result = record | {
        "warnings": _warnings(run, rows, any(map(follows_gradient, attacks)), untargeted_too),
        "attacks": rows,
        "success_by_epsilon": success_curves(run, attacks),
    }
    if ADVGAN in rows and GENERATOR in rows:
        result["mean_success_on_advgan_targets"] = caveats.mean_success(rows, (GENERATOR, ADVGAN))
    return result


def _warnings(run, rows, follow_gradient, untargeted_too):
    config = run.config
    found = caveats.nan_warnings(run.examples) + caveats.comparison_warnings(rows)
    # The gradient of a black box matters only if an attack here follows it.
    if not config.black_box or follow_gradient:
        found += caveats.gradient_masking_warnings(run.examples, config.targeted)
    if untargeted_too and config.targeted:
        found += caveats.gradient_masking_warnings(run.examples, targeted=False)
    return found


def _transfer(run, attack, name, classifier):
    """Measures the generator's images on a classifier it was not trained on."""
    say(f"Showing {GENERATOR}'s images to {name}.")
    config = run.config
    examples = run.examples_of(classifier)
    return measure_attack(attack, examples, config.epsilon, config.targeted, config.seed, progress=name).to_dict()


def _robust_accuracy(run, name):
    """The share of images that the classifier still gets right under one of foolbox's attacks, untargeted."""
    config = run.config
    attack = foolbox_attacks.foolbox_attack(name, run.classifier, config.epsilon, targeted=False, seed=config.seed)
    result = measure_attack(
        attack, run.examples, config.epsilon, False, config.seed, COMPARED_BATCH, progress=f"{name}, untargeted"
    )
    return result.clean_accuracy * (1 - result.success_rate)


def _csv_rows(result):
    """Returns a flat row per attack and per transfer."""
    rows = []
    for name, row in (result["attacks"] | result["transfer"]).items():
        low, high = row["success_interval"]
        flat = {key: value for key, value in row.items() if not isinstance(value, dict | list)}
        rows.append({"name": name, **flat, "success_interval_low": low, "success_interval_high": high})
    return rows
