"""Measures what a finished run left in its work folder, from its files alone."""

import dataclasses
import os
from collections.abc import Callable

import tensorflow as tf

from aigan_tf import preparation, report
from aigan_tf.config import Config
from aigan_tf.data import ImageDataset
from aigan_tf.errors import InputError, user_path
from aigan_tf.evaluation import evaluate_generator
from aigan_tf.export import latest_version
from aigan_tf.workdir import Workdir, write_json

CURVE_EXAMPLES = 1000  # test images of a success-against-epsilon curve: eight more evaluations
CURVE_POINTS = 8


def evaluate_workdir(
    workdir: str | os.PathLike, data_dir: str | None = None, num_examples: int = 0, output: str | None = None
) -> dict:
    """Evaluates a work folder's exported generator on the test split, as TF Serving would run it.

    Args:
        workdir: the work folder of a finished run.
        data_dir: where TFDS data sets lie; None for TFDS's default.
        num_examples: how many test images, from the first; 0 for all.
        output: where to write the JSON report; None for report.json in the work folder, unless only
            some images are measured: the report of all is not given up for it.

    Returns:
        What was measured, as in the report.

    Raises:
        InputError: the folder, its files or the output cannot be used.
    """
    folder = Workdir(workdir)
    config = _config_of(folder)
    if num_examples < 0:
        raise InputError(f"--num_examples={num_examples}: expected 0 (all) or more; give e.g. 1000")
    if latest_version(folder.exports) is None:
        raise InputError(
            f"--workdir={folder.path} has no exported generator; expected {folder.exports}/1: finish the run with train.py"
        )
    dataset = preparation.load_dataset(config, data_dir)
    classifier = preparation.existing_classifier(config, dataset, folder)
    preparation.check_accuracy(classifier, dataset.test.take(slice(0, num_examples or None)), dataset.num_classes)
    result = measure_export(folder, config, dataset, classifier, num_examples)
    if num_examples and not output:
        print("Only some images were measured: report.json stays as it is; --output writes a report.", flush=True)
        return result
    path = user_path(output) if output else folder.report
    try:
        write_json(path, result)
    except OSError as error:
        raise InputError(
            f"{path} cannot be written ({error.strerror}); expected a writable file: give --output"
        ) from error
    print(f"Report written to {path}.", flush=True)
    return result


def measure_export(
    folder: Workdir, config: Config, dataset: ImageDataset, classifier: Callable, num_examples: int = 0
) -> dict:
    """Measures and prints what the newest exported generator does to the test split's first images (0: to all).

    Raises:
        InputError: the export cannot be loaded.
    """
    version = latest_version(folder.exports)
    try:
        loaded = tf.saved_model.load(str(version))  # named: its variables live as long as it does
        serve = loaded.signatures["serving_default"]
    except (OSError, ValueError, KeyError) as error:
        raise InputError(
            f"{version} cannot be loaded; expected the SavedModel train.py exported: delete it and run train.py again"
        ) from error
    class_input = "target_class" if config.targeted else "label"

    def measured(attack, test, epsilon):
        return evaluate_generator(
            attack, classifier, test.as_float(), test.labels, dataset.class_names,
            epsilon, config.targeted, split="test", seed=config.seed,
        )  # fmt: skip

    def attack(images, classes):
        return serve(**{"images": images, class_input: classes})["adversarial_images"]

    test = dataset.test.take(slice(0, num_examples or None))
    result = {**measured(attack, test, config.epsilon), "device": preparation.device_name()}
    print(report.success_table(result), flush=True)
    if config.variable_epsilon:
        few = test.take(slice(0, CURVE_EXAMPLES))
        points = []
        for share in range(1, CURVE_POINTS + 1):
            epsilon = config.epsilon * share / CURVE_POINTS

            def attack_within(images, classes, epsilon=epsilon):
                inputs = {"images": images, class_input: classes, "epsilon": tf.fill(tf.shape(classes), epsilon)}
                return loaded.signatures["with_epsilon"](**inputs)["adversarial_images"]

            point = measured(attack_within, few, epsilon)
            points.append({name: point[name] for name in ("epsilon", "num_attacks", "success_rate", "mean_l2")})
        result["success_by_epsilon"] = points
        print(report.epsilon_table(points), flush=True)
    return result


def _config_of(folder: Workdir) -> Config:
    saved = folder.read_config()
    missing = [name for name in ("dataset", "classifier", "attack", "epsilon") if name not in saved]
    if missing:
        raise InputError(
            f"{folder.config} has no {missing[0]}; expected the settings train.py writes: restore the file or train again"
        )
    names = [field.name for field in dataclasses.fields(Config)]
    try:  # a setting younger than the folder was at its default
        return Config(**{name: saved[name] for name in names if name in saved})
    except TypeError as error:
        raise InputError(
            f"{folder.config} holds a value of the wrong type ({error}); expected what train.py wrote"
        ) from error
