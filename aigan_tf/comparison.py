"""Measures what a finished run left in its work folder, from its files alone."""

import dataclasses
import os

import tensorflow as tf

from aigan_tf import preparation, report
from aigan_tf.config import Config
from aigan_tf.errors import InputError, user_path
from aigan_tf.evaluation import evaluate_generator
from aigan_tf.export import latest_version
from aigan_tf.workdir import Workdir, write_json


def evaluate_workdir(
    workdir: str | os.PathLike, data_dir: str | None = None, num_examples: int = 0, output: str | None = None
) -> dict:
    """Evaluates a work folder's exported generator on the test split, as TF Serving would run it.

    Args:
        workdir: the work folder of a finished run.
        data_dir: where TFDS data sets lie; None for TFDS's default.
        num_examples: how many test images, from the first; 0 for all.
        output: where to write the JSON report; None for report.json in the work folder.

    Returns:
        What was measured, as in the report.

    Raises:
        InputError: the folder, its files or the output cannot be used.
    """
    folder = Workdir(workdir)
    config = _config_of(folder)
    if num_examples < 0:
        raise InputError(f"--num_examples={num_examples}: expected 0 (all) or more; give e.g. 1000")
    version = latest_version(folder.exports)
    if version is None:
        raise InputError(
            f"--workdir={folder.path} has no exported generator; expected {folder.exports}/1: finish the run with train.py"
        )
    dataset = preparation.load_dataset(config, data_dir)
    classifier = preparation.existing_classifier(config, dataset, folder)
    try:
        loaded = tf.saved_model.load(str(version))  # named: its variables live as long as it does
        serve = loaded.signatures["serving_default"]
    except (OSError, ValueError, KeyError) as error:
        raise InputError(
            f"{version} cannot be loaded; expected the SavedModel train.py exported: delete it and run train.py again"
        ) from error
    class_input = "target_class" if config.targeted else "label"

    def attack(images, classes):
        return serve(**{"images": images, class_input: classes})["adversarial_images"]

    test = dataset.test.take(slice(0, num_examples or None))
    result = evaluate_generator(
        attack, classifier, test.as_float(), test.labels, dataset.class_names,
        config.epsilon, config.targeted, split="test", seed=config.seed,
    )  # fmt: skip
    print(report.success_table(result), flush=True)
    path = user_path(output) if output else folder.report
    try:
        write_json(path, {**result, "device": preparation.device_name()})
    except OSError as error:
        raise InputError(
            f"{path} cannot be written ({error.strerror}); expected a writable file: give --output"
        ) from error
    print(f"Report written to {path}.", flush=True)
    return result


def _config_of(folder: Workdir) -> Config:
    saved = folder.read_config()
    names = [field.name for field in dataclasses.fields(Config)]
    missing = [name for name in names if name not in saved]
    if missing:
        raise InputError(
            f"{folder.config} has no {missing[0]}; expected the settings this version of aigan_tf writes: train again, or "
            "evaluate with the version under its key versions"
        )
    try:
        return Config(**{name: saved[name] for name in names})
    except TypeError as error:
        raise InputError(
            f"{folder.config} holds a value of the wrong type ({error}); expected what train.py wrote"
        ) from error
